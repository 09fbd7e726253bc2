"""Reading recordings: what is made of a good one, what is said of a bad one."""

import copy
import gzip
import json
from pathlib import Path

import pytest

from kmemkit import Kernel
from kmemkit.mm.recording import check_trace, load_recording, recorded_start, start_snapshot
from kmemkit.snapshot import Kind

TRACES = Path(__file__).parent.parent / "golden" / "traces"
TRACE = load_recording(TRACES / "pcp01_order0_d256.json.gz")


def test_start_becomes_a_machine():
    snapshot = start_snapshot(TRACE)
    recorded = TRACE["start"]["0/DMA32"]
    zone = next(zone for zone in snapshot.zones if zone.name == "DMA32")
    assert zone.free_est == recorded["free_est"]
    assert zone.free == recorded["free"]
    assert (zone.managed, zone.stat_threshold, zone.promo) == (
        recorded["managed"], recorded["thr"], recorded["promo"],
    )  # fmt: skip
    assert zone.lowmem_reserve == tuple(recorded["reserve"])
    assert zone.pcps[0].lists[0] == tuple(recorded["pcps"]["0"]["lists"]["0"])
    assert snapshot.settings["vm"]["check_pages"] is False  # it was booted with init_on_alloc=0


def test_page_column_of_a_start():
    snapshot = start_snapshot(TRACE)
    zone = next(zone for zone in snapshot.zones if zone.name == "DMA32")
    for (order, _), pfns in zone.free_lists().items():
        for pfn in pfns:
            page = snapshot.page(pfn + (1 << order) - 1)
            assert (page.kind, page.head, page.order) == (Kind.FREE, pfn, order)
    for pfns in zone.pcps[0].lists.values():
        assert {snapshot.page(pfn).kind for pfn in pfns} == {Kind.PCP}
    kinds = [Kind(byte >> 4) for byte in snapshot.pages[zone.start_pfn : zone.end_pfn]]
    assert set(kinds) == {
        Kind.TAIL, Kind.FREE, Kind.PCP, Kind.UNMOVABLE, Kind.MOVABLE, Kind.RECLAIMABLE,
    }  # fmt: skip
    used = next(
        pfn for pfn in range(zone.start_pfn, zone.end_pfn) if snapshot.page(pfn).kind.allocated
    )
    assert snapshot.page(used).owner == "before the recording"


@pytest.mark.parametrize(
    "name", ["fix01_split", "nb01_exhaust_order0", "bulk01_order", "numa01_local_then_remote"]
)
def test_settings_of_a_start(name):
    trace = load_recording(TRACES / f"{name}.json.gz")
    settings = start_snapshot(trace).settings
    boost = {"fix01_split": 15000, "numa01_local_then_remote": 15000}.get(name, 0)
    assert settings["vm"]["watermark_boost_factor"] == boost
    assert settings["nodes"] == (2 if name.startswith("numa") else 1)
    assert settings["cpus"] == 1


def test_kernel_from_a_path_or_its_contents():
    path = TRACES / "fix01_split.json.gz"
    one, other = Kernel.from_recording(path), Kernel.from_recording(load_recording(path))
    assert one.snapshot() == other.snapshot() == Kernel.from_recording(str(path)).snapshot()
    assert one.alloc_pages(0x2001, 0) == 288


def test_recorded_start_is_the_first_snapshot_where_there_is_no_other():
    assert recorded_start({"start": {"a": 1}, "snaps": [{"b": 2}]}) == {"a": 1}
    assert recorded_start({"snaps": [{"b": 2}, {"c": 3}]}) == {"b": 2}


# -- bad ones -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is the file complete?"), (b"{", "is the file complete?"), (b"[1, 2]", "a JSON object"),
        (b'"text"', "a JSON object"), (b"\xff\xfe", "not a recording"), (b"\x1f\x8b\x08", "not a recording"),
        (gzip.compress(json.dumps(TRACE).encode(), mtime=0)[:1000], "is the file complete?"),
        (json.dumps(TRACE).encode()[:-100], "is the file complete?"), (b"[" * 100_000, "not a recording"),
    ],
)  # fmt: skip
def test_file_that_is_no_recording(tmp_path, data, words):
    path = tmp_path / "broken.json"
    path.write_bytes(data)
    for read in (load_recording, Kernel.from_recording):
        with pytest.raises(ValueError, match="not a recording") as raised:
            read(path)
        assert words in str(raised.value)
        assert str(path) in str(raised.value)


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_recording(tmp_path / "none.json")


def without(*keys):
    return {key: value for key, value in TRACE.items() if key not in keys}


def changed(**fields):
    """Return the trace with fields of its first zone changed; None takes one out."""
    trace = copy.deepcopy(TRACE)
    zone = next(iter(trace["start"].values()))
    for name, value in fields.items():
        if value is None:
            del zone[name]
        else:
            zone[name] = value
    return trace


PCP = TRACE["start"]["0/DMA32"]["pcps"]["0"]
BAD = [
    ({}, "no ops, results, snaps"), (without("ops"), "no ops"), (without("results"), "no results"),
    ({**TRACE, "ops": {}}, "no ops"), ({**TRACE, "ops": TRACE["ops"][:-1]}, "43 ops but 44 results"),
    ({**TRACE, "start": {}, "snaps": []}, "no zones to start from"),
    ({**TRACE, "start": [1]}, "no zones to start from"), ({**TRACE, "start": {"0/DMA": 3}}, "zone 0/DMA: no nid"),
    (changed(managed=None), "no managed"), (changed(free_lists=None), "no free_lists"),
    (changed(blocks=None), "no blocks"), (changed(start=-1), "span is not a possible one"),
    (changed(spanned=1 << 40), "span is not a possible one"), (changed(spanned=-5), "span is not a possible one"),
    (changed(free_lists={"3": [8]}), "start is not as docs/recordings.md says"),
    (changed(free_lists={"0,1": 5}), "start is not as docs/recordings.md says"),
    (changed(free_lists={"3,1": [257]}), "can't be the first page of a block of 8 pages"),
    (changed(free_lists={"0,1": [1 << 30]}), "can't be the first page of a block of 1 pages"),
    (changed(free_lists={"0,1": [0]}), "can't be the first page"),
    (changed(min=None), "start is not as docs/recordings.md says"),
    (changed(pcps={"0": {}}), "start is not as docs/recordings.md says"),
    (changed(movable=[1]), "start is not as docs/recordings.md says"),
    (changed(spanned="5"), "span is not a possible one"), (changed(start=None), "no start"),
    (changed(free_lists={"0,1": ["x"]}), "start is not as docs/recordings.md says"),
    (changed(free_lists={"11,1": [256]}), "there is no free list '11,1'"),
    (changed(free_lists={"0,5": [256]}), "there is no free list '0,5'"),
    (changed(free_lists={"0,-1": [256]}), "there is no free list '0,-1'"),
    (changed(free_lists={"0,1": [300, 300]}), "free list '0,1' has a page twice"),
    (changed(free_lists={"0,1": [300], "0,2": [300]}), "0x12c is on two lists"),
    (changed(free_lists={"0,1": [301], "3,1": [296]}), "0x128 is on two lists"),
    (changed(blocks="M"), "zone DMA has 8 pageblocks, not 1"),
    (changed(pcps={"0": {**PCP, "lists": {"14": [256]}}}), "per-CPU lists are numbered 0 to 13"),
    (changed(pcps={"0": {**PCP, "lists": {"0": [300, 300]}}}), "0x12c is on two lists"),
    (changed(pcps={"zero": {}}), "start is not as docs/recordings.md says"),
]  # fmt: skip


@pytest.mark.parametrize(("recording", "words"), BAD, ids=[words for _, words in BAD])
def test_recording_that_is_no_trace(recording, words):
    with pytest.raises(ValueError, match="^recording: ") as raised:
        Kernel.from_recording(recording)
    assert words in str(raised.value)


def test_check_says_nothing_of_a_good_trace():
    check_trace(TRACE)


def test_a_zone_without_per_cpu_lists_keeps_its_hidden_pages():
    recording = json.loads(json.dumps(TRACE))
    (name, zone), *_ = recording["start"].items()
    zone.pop("pcps")
    zone["free_est"] = zone["free"] - 1
    nid, zone_name = name.split("/")
    (found,) = (
        z for z in start_snapshot(recording).zones if (str(z.nid), z.name) == (nid, zone_name)
    )
    assert found.free == zone["free"]
