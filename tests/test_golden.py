"""What a running Linux 6.12 did, against what the simulated one does.

tests/golden holds recordings: page allocator traces, zone layouts, /proc texts. Every trace must
match in full: every page frame, every free list in order, every counter.
"""

import copy
import json
import re
from pathlib import Path

import pytest

from kmemkit import Kernel
from kmemkit.mm.recording import load_recording
from kmemkit.mm.replay import play_trace
from kmemkit.snapshot import MIGRATE_NAMES, Snapshot, ZoneSnapshot

GOLDEN = Path(__file__).parent / "golden"
TRACES = sorted((GOLDEN / "traces").glob("*.json.gz"))
#: Traces that go beyond what is simulated: what they need, and how many results come before that.
NEEDS = {"bulk04_low": ("operation 'unfrag'", 3, 4)}

PROC = load_recording(GOLDEN / "proc.json.gz")
BOOTS = json.loads((GOLDEN / "boots.json").read_text(encoding="utf-8"))


def name_of(path):
    return path.name.removesuffix(".json.gz")


def test_all_traces_are_here():
    assert len(TRACES) == 57
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*.*")) < 1_500_000


@pytest.mark.parametrize("path", TRACES, ids=name_of)
def test_trace(path):
    trace = load_recording(path)
    result = play_trace(trace)
    snaps = sum(op[0] == "snap" for op in trace["ops"])
    assert [str(mismatch) for mismatch in result.mismatches] == []
    needs, *matched = NEEDS.get(name_of(path), ("", len(trace["ops"]) - snaps, snaps))
    assert result.needs == needs
    assert [result.results[0], result.snapshots[0]] == matched
    # A trace without a "start" begins at its first snapshot
    before = 0 if "start" in trace else trace["ops"].index(["snap"])
    assert result.results[1] + result.snapshots[1] == len(trace["ops"]) - before
    assert result.ok == (not needs)


@pytest.mark.parametrize("path", TRACES, ids=name_of)
def test_start_is_the_recorded_one(path):
    trace = load_recording(path)
    start = trace.get("start") or trace["snaps"][0]
    snapshot = Kernel.from_recording(trace).snapshot()
    assert [f"{zone.nid}/{zone.name}" for zone in snapshot.zones] == list(start)
    for zone, recorded in zip(snapshot.zones, start.values(), strict=True):
        lists = {f"{o},{t}": list(pfns) for (o, t), pfns in zone.free_lists().items()}
        assert lists == recorded["free_lists"]
        assert [zone.nr_free(order) for order in range(11)] == recorded["nr_free"]
        free = sum(count << order for order, count in enumerate(recorded["nr_free"]))
        assert (zone.free, zone.promo) == (free, recorded["promo"])


# -- a tampered recording -------------------------------------------------------------------------


def first_alloc(trace):
    return next(n for n, op in enumerate(trace["ops"]) if op[0] == "alloc" and trace["results"][n])


def change_pfn(trace, zone):
    trace["results"][first_alloc(trace)][0] += 1
    return "result"


def change_zone(trace, zone):
    trace["results"][first_alloc(trace)][2] = "Normal"
    return "result"


def change_type(trace, zone):
    trace["results"][first_alloc(trace)][3] ^= 1
    return "result"


def change_freed(trace, zone):
    free = next(n for n, op in enumerate(trace["ops"]) if op[0] == "free")
    trace["results"][free] += 1
    return "result"


def change_list_order(trace, zone):
    pfns = next(pfns for pfns in zone["free_lists"].values() if len(pfns) > 1)
    pfns[0], pfns[1] = pfns[1], pfns[0]
    return "free_lists"


def change_pcp_list(trace, zone):
    pfns = next(pfns for pfns in zone["pcps"]["0"]["lists"].values() if len(pfns) > 1)
    pfns.reverse()
    return "pcps"


def change_pageblock(trace, zone):
    zone["blocks"] = zone["blocks"].replace("M", "R", 1)
    return "blocks"


def change_count(name):
    def change(trace, zone):
        zone[name] += 1
        return name

    return change


def change_pcp_count(name):
    def change(trace, zone):
        zone["pcps"]["0"][name] += 1
        return "pcps"

    return change


COUNTS = ("free", "free_est", "boost", "min", "low", "high", "hiat", "hiatfree", "flags", "pcp")
PCP_COUNTS = (
    "count", "high", "high_min", "high_max", "batch", "alloc_factor", "free_count", "flags",
)  # fmt: skip


@pytest.mark.parametrize(
    "tamper",
    [
        change_pfn, change_zone, change_type, change_freed, change_list_order, change_pcp_list,
        change_pageblock, *map(change_count, COUNTS), *map(change_pcp_count, PCP_COUNTS),
    ],
)  # fmt: skip
def test_tampered_recording_is_noticed(tamper):
    trace = copy.deepcopy(load_recording(GOLDEN / "traces" / "pcp01_order0_d256.json.gz"))
    where = tamper(trace, trace["end"]["0/DMA32"])
    result = play_trace(trace)
    assert not result.ok
    assert len(result.mismatches) == 1
    assert result.mismatches[0].where.split()[-1] == where
    assert (result.results[1], result.snapshots[1]) == (40, 4)
    assert result.results[0] + result.snapshots[0] == 43


# -- /proc texts ----------------------------------------------------------------------------------


def a_zone(nid, name, lists, pageblocks):
    return ZoneSnapshot(
        nid=nid, idx=0, name=name, start_pfn=0, spanned=1, present=1, managed=1, free_est=0, min=0,
        low=0, high=0, promo=0, boost=0, nr_reserved_highatomic=0, nr_free_highatomic=0, flags=0,
        stat_threshold=0, percpu_drift_mark=0, lowmem_reserve=(0,) * 5, max_order=10,
        pageblock_order=9, pageblocks=pageblocks, movable={}, pcps=(), _lists=lists,
    )  # fmt: skip


def snapshot_of(pagetypeinfo):
    """Return a machine with as many free blocks and pageblocks as a text says."""
    lists, blocks = {}, {}
    for line in pagetypeinfo.splitlines():
        if row := re.match(r"Node +(\d+), zone +(\w+), type +(\w+) (.*)", line):
            zone = lists.setdefault((int(row[1]), row[2]), {})
            for order, count in enumerate(row[4].split()):
                zone[order, MIGRATE_NAMES.index(row[3])] = (dict.fromkeys(range(int(count))), {})
        elif row := re.match(r"Node (\d+), zone +(\w+) (.*)", line):
            counts = map(int, row[3].split())
            blocks[int(row[1]), row[2]] = b"".join(
                bytes([kind]) * count for kind, count in enumerate(counts)
            )
    zones = tuple(a_zone(*key, lists[key], blocks[key]) for key in lists)
    return Snapshot(release="6.12", zones=zones, pages=b"", owners=b"")


def by_type(pagetypeinfo):
    """Return the lines about each type of each zone."""
    return re.findall(r"(?m)^Node +(\d+), zone +(\w+), type +(\w+) (.*)$", pagetypeinfo)


@pytest.mark.parametrize("name", PROC)
def test_pagetypeinfo_byte_for_byte(name):
    recorded = PROC[name]["pagetypeinfo"]
    assert by_type(recorded)
    assert snapshot_of(recorded).pagetypeinfo() == recorded


@pytest.mark.parametrize("name", PROC)
def test_buddyinfo_byte_for_byte(name):
    """The two files were read one after the other, so the counts come from buddyinfo itself."""
    recorded = PROC[name]["buddyinfo"]
    lists = {}
    for nid, zone, counts in re.findall(r"(?m)^Node (\d+), zone +(\w+) (.*)$", recorded):
        lists[int(nid), zone] = {
            (order, 1): ({}, dict.fromkeys(range(int(count))))
            for order, count in enumerate(counts.split())
        }
    zones = tuple(a_zone(*key, lists[key], b"") for key in lists)
    snapshot = Snapshot(release="6.12", zones=zones, pages=b"", owners=b"")
    assert snapshot.buddyinfo() == recorded


# -- boots ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOOTS)
def test_boot_lays_out_the_recorded_zones(name):
    boot = BOOTS[name]
    kernel = Kernel(boot["ram"], nodes=boot["nodes"], cpus=boot["cpus"])
    zones = [
        {
            "node": zone.nid,
            "zone": zone.name,
            "start_pfn": zone.start_pfn,
            "spanned": zone.spanned,
            "present": zone.present,
        }
        for zone in kernel.snapshot().zones
    ]
    assert zones == boot["zones"]
