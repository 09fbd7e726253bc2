"""Single misuses: what recorded kernels made of each (tests/golden/misuse_single.json.gz).

Every third of the plain kernel's is played here, every tenth of the others';
KMEMKIT_EXPLORE=1 plays them all.
"""

import gzip
import json
import os
from pathlib import Path

import pytest

from kmemkit.mm.misuse_single import MISUSES, play_misuse, play_misuse_cell

GOLDEN = Path(__file__).parent.parent / "golden" / "misuse_single.json.gz"
ROWS = json.loads(gzip.decompress(GOLDEN.read_bytes()))
LEFT = "KFENCE put the object at the start of its page, so what is past it is no guard page"
#: (kernel, cell) -> why the recorded machine went another way.
LUCK = {
    ("kfence", "m.copy_to_user_past_end_constant"): LEFT,
    ("kfence", "m.oob_read_past_64"): LEFT,
    ("kfence", "m.uaf_vmalloc"): "the stale translation happened to be gone",
}
NAMES = {row["misuse"] for row in ROWS}
if not os.environ.get("KMEMKIT_EXPLORE"):
    ROWS = [row for n, row in enumerate(ROWS) if n % (3 if row["kernel"] == "plain" else 10) == 0]
GROUPS = sorted({(row["kernel"], row["misuse"].partition("_")[0]) for row in ROWS})


@pytest.mark.parametrize(("kernel", "first"), GROUPS, ids=map("-".join, GROUPS))
def test_misuse_ends_as_it_did(kernel, first):
    cells = [row for row in ROWS
             if (row["kernel"], row["misuse"].partition("_")[0]) == (kernel, first)]  # fmt: skip
    played = {row["cell"]: play_misuse_cell(row) for row in cells}
    wrong = {cell: [result.needs, *(str(one) for one in result.mismatches)]
             for cell, result in played.items() if not result.ok}  # fmt: skip
    expected = {cell for name, cell in LUCK if name == kernel and cell in played}
    assert wrong.keys() == expected, wrong


@pytest.mark.parametrize("misuse", sorted(MISUSES.keys() - NAMES))
def test_misuses_that_nobody_recorded_can_be_played(misuse):
    outcome = play_misuse("plain", misuse)
    assert outcome.survived in {"yes", "task killed", "later oops", "hung"}


def test_unknown_misuse_is_a_need():
    row = {**ROWS[0], "misuse": "something_else"}
    assert play_misuse_cell(row).needs == "something_else"
    with pytest.raises(ValueError, match="no misuse 'something_else'"):
        play_misuse("plain", "something_else")
