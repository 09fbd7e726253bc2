"""Playing recordings: what counts as compared, what a player lacks. Good ones: tests/test_golden.py."""

import copy
from pathlib import Path

import pytest

from kmemkit.mm.recording import load_recording
from kmemkit.mm.replay import Mismatch, TraceResult, _runs, play_trace

TRACES = Path(__file__).parent.parent / "golden" / "traces"
TRACE = load_recording(TRACES / "fix02_merge_forward.json.gz")


def test_result_counts():
    result = play_trace(TRACE)
    assert (result.results, result.snapshots, result.mismatches, result.needs) == (
        (16, 16),
        (4, 4),
        (),
        "",
    )
    assert result.ok


def test_nothing_compared_is_not_ok():
    assert not TraceResult((0, 0), (0, 0), ()).ok
    assert not TraceResult((1, 1), (0, 0), (), "CMA").ok
    assert not TraceResult((1, 2), (0, 0), (Mismatch("op 1", 1, 2),)).ok
    assert TraceResult((0, 0), (1, 1), ()).ok
    assert play_trace({**TRACE, "ops": [], "results": []}).ok is False


def test_mismatch_says_where_and_what():
    trace = copy.deepcopy(TRACE)
    first = next(n for n, op in enumerate(trace["ops"]) if op[0] == "alloc")
    pfn = trace["results"][first][0]
    trace["results"][first][0] = 77
    (mismatch,) = play_trace(trace).mismatches
    assert str(mismatch) == (
        f"op {first} {trace['ops'][first]}: result: recorded [77, 0, 'DMA', 0], "
        f"simulated [{pfn}, 0, 'DMA', 0]"
    )


def test_every_later_difference_is_told_too():
    trace = copy.deepcopy(TRACE)
    first = next(n for n, op in enumerate(trace["ops"]) if op[0] == "alloc")
    trace["ops"][first][3] = 1  # another order
    result = play_trace(trace)
    assert len(result.mismatches) > 10
    assert result.results[0] < result.results[1] == 16


def test_recorded_failure_and_simulated_success_differ():
    trace = copy.deepcopy(TRACE)
    first = next(n for n, op in enumerate(trace["ops"]) if op[0] == "alloc")
    trace["results"][first] = None
    assert play_trace(trace).mismatches[0].recorded is None


def test_unknown_operation_is_a_need():
    trace = copy.deepcopy(TRACE)
    assert [op[0] for op in trace["ops"][:4]] == ["snap", "alloc", "alloc", "alloc"]
    trace["ops"][3] = ["reclaim", 5]
    result = play_trace(trace)
    assert result.needs == "operation 'reclaim'"
    assert not result.ok
    # what was left unplayed counts as compared
    assert (result.results, result.snapshots) == ((2, 16), (1, 4))


def test_direct_reclaim_is_a_need():
    """Where Linux got a page and the simulator none, though the request may reclaim."""
    trace = copy.deepcopy(TRACE)
    zone = trace["start"]["0/DMA"]
    zone["min"] = zone["low"] = zone["high"] = 4000
    for n, op in enumerate(trace["ops"]):
        if op[0] == "alloc":
            op[2] = 0xCC1
            first = n
            break
    result = play_trace(trace)
    assert result.needs == "direct reclaim"
    assert first == 1


def test_pageblocks_of_cma_are_a_need():
    trace = copy.deepcopy(TRACE)
    zone = trace["start"]["0/DMA"]
    zone["blocks"] = "C" + zone["blocks"][1:]
    result = play_trace(trace)
    assert (result.needs, result.results, result.snapshots) == ("CMA", (0, 16), (0, 4))


@pytest.mark.parametrize(
    ("op", "result"),
    [
        (["alloc"], None), (["alloc", 1, "x", 0], None), (["alloc", 1, 1, -1], None), (["snap"], ["snap", 99]),
        (["snap"], None), ([], None), (["b", 1, 2, 3264], {"got": 2, "pfns": "1..2"}), (["b", 1, 2, 3264], None),
        (["ae", 1, -4, 3264], {}), (["alloc_node", 1, 1, 0, 9], None),
    ],
)  # fmt: skip
def test_malformed_operation_is_named(op, result):
    trace = {**TRACE, "ops": [*TRACE["ops"][:4], op], "results": [*TRACE["results"][:4], result]}
    with pytest.raises(ValueError, match=r"^recording: op 4 "):
        play_trace(trace)


def test_runs_of_pages():
    assert _runs("5,8+3,20-2") == [5, 8, 9, 10, 20, 19]
    assert _runs(7) == [7]
    for bad in ("", "x", "5,", "1+2+3", "-4"):
        with pytest.raises(ValueError, match="is not a page frame, nor a run of them"):
            _runs(bad)
