"""Procedures of the recorded debug kernels: injected failures, and a scan for leaks."""

import gzip
import json
from pathlib import Path

import pytest

from kmemkit.mm.misuse_procedure import PROCEDURES, play_procedure_cell

GOLDEN = Path(__file__).parent.parent / "golden" / "misuse_procedure.json.gz"
ROWS = json.loads(gzip.decompress(GOLDEN.read_bytes()))
PLAYED = [row for row in ROWS if row["misuse"] in PROCEDURES]


@pytest.mark.parametrize("row", PLAYED, ids=lambda row: f"{row['kernel']}-{row['misuse']}")
def test_procedure_ends_as_it_did(row):
    result = play_procedure_cell(row)
    assert result.ok, [str(one) for one in result.mismatches]


def test_only_page_owner_is_not_simulated():
    left = [play_procedure_cell(row).needs for row in ROWS if row not in PLAYED]
    assert left == ["pageowner"]


def test_a_call_that_returned_something_else_is_a_difference():
    row = next(row for row in PLAYED if row["misuse"] == "failslab")
    log = [row["log"][0].replace("0000000000000000", "ffff888003a49c80"), *row["log"][1:]]
    (wrong,) = play_procedure_cell({**row, "log": log}).mismatches
    assert wrong.where == "log"


@pytest.mark.parametrize("record", [{}, 5, {"survived": "yes", "report_first_line": None}])
def test_what_is_no_procedure_is_refused(record):
    with pytest.raises(ValueError, match="recording: not a procedure"):
        play_procedure_cell(record)
