"""Playing a recorded run of allocations: the same machine, the same request until it is refused.

`kmemkit verify` uses this, and lessons make runs of their own with climb(). A recording says what
was free and what was used for what, not which page was where; the machine is filled the way the
recorded one was (kernel pages, a task, a big file), then brought to the recorded numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kmemkit.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from kmemkit.mm.cmdline import parse_size
from kmemkit.mm.errors import KernelBug, Livelock, Oops, Panic
from kmemkit.mm.freelist import prepare_alloc_pages, rmqueue, rmqueue_buddy
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.mmzone import MIGRATE_MOVABLE, MIGRATE_UNMOVABLE, PCP, Zone
from kmemkit.mm.pcp import drain_pages_zone, free_unref_page, order_to_pindex
from kmemkit.mm.replay import Mismatch
from kmemkit.mm.swap import ACTIVE_ANON, INACTIVE_FILE

__all__ = ("EVENTS", "Climb", "LadderResult", "climb", "is_ladder", "play_ladder", "start_machine")

#: What may happen on the way, and the counters of /proc/vmstat that tell of it.
EVENTS = {
    "kswapd": ("pageoutrun",),
    "direct reclaim": (
        "allocstall_dma", "allocstall_dma32", "allocstall_normal", "allocstall_movable",
        "allocstall_highmem",
    ),
    "compaction": ("compact_stall",),
    "OOM": ("oom_kill",),
}  # fmt: skip
#: Ends that differ in one thing only: whether a kill left enough free memory.
KILLS = {"oom_kill", "kernel panic"}
OUTCOMES = ("failed", "oom_kill", "stuck", "max")
_KEYS = {"gfp", "order", "outcome", "guest_ram"}
#: What the recorded machines read before the run, in MiB.
READ_MB = 200
#: What they used for themselves, in pages, where a recording does not say: the median of those that
#: do. SWAP_KB is the size of their swap disk.
KERNEL_PAGES, SHMEM, SLAB_RECLAIMABLE = 5200, 1410, 286
SWAP_KB = 131068
#: A run on a machine of more than 16 GiB is a mistake, or hostile.
MOST_RAM = 16 << 30
FAILURE = "page allocation failure: "


@dataclass(slots=True)
class Climb:
    """How a run went: its end, and at which allocation each thing first happened."""

    outcome: str = "max"  #: failed, oom_kill, stuck, max, or the panic's line
    got: int = 0
    first: dict[str, int] = field(default_factory=dict)
    deltas: dict[str, int] = field(default_factory=dict)
    report: bool = False  #: a page allocation failure was reported


@dataclass(slots=True)
class LadderResult:
    """A recorded run, played: (matched, compared), and where they differ."""

    results: tuple[int, int]
    mismatches: tuple[Mismatch, ...]
    #: differences that the fidelity ledger explains
    in_ledger: tuple[Mismatch, ...]
    climb: Climb


def is_ladder(recording: Mapping[str, Any]) -> bool:
    """Return whether a recording is a run of allocations."""
    return set(recording) >= _KEYS


def climb(kernel: Kernel, gfp: int | str, order: int = 0, most: int = 60_000) -> Climb:
    """Make the same request until it is refused, a task is killed for it, or it never returns.

    Raises:
        TypeError, ValueError: no mask, no order.
    """
    run = Climb()
    events = kernel.vm_events
    before = dict(events)
    printed = kernel.log_lines
    try:
        while run.got < most:
            pfn = kernel.alloc_pages(gfp, order)
            _note_firsts(kernel, run, before)
            if events["oom_kill"] > before.get("oom_kill", 0):
                run.outcome = "oom_kill"
                run.got += pfn is not None
                break
            if pfn is None:
                run.outcome = "failed"
                break
            run.got += 1
    except Livelock:
        run.outcome = "stuck"
    except Panic as panic:
        run.outcome = str(panic).replace("Kernel panic - not syncing", "kernel panic")
    _note_firsts(kernel, run, before)
    run.deltas = {name: events[name] - before.get(name, 0) for name in sorted(events)}
    fresh = kernel.dmesg().splitlines()[-(kernel.log_lines - printed) or None :]
    run.report = kernel.log_lines > printed and any(FAILURE in line for line in fresh)
    return run


def _note_firsts(kernel: Kernel, run: Climb, before: Mapping[str, int]) -> None:
    """Note what has happened for the first time."""
    events = kernel.vm_events
    for name, counters in EVENTS.items():
        if name not in run.first and any(events[c] > before.get(c, 0) for c in counters):
            run.first[name] = run.got
    if "kswapd" not in run.first and any(node.kswapd_running for node in kernel.nodes):
        run.first["kswapd"] = run.got


# -- the recorded machine -------------------------------------------------------------------------


def start_machine(recording: Mapping[str, Any]) -> Kernel:
    """Return a machine in the state that a recorded run began in.

    Raises:
        ValueError: the recording lacks what is needed; the message names it.
    """
    try:
        return _start(recording)
    except (KeyError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"recording: not a run of allocations: {error!r}") from None
    except (KernelBug, Livelock, Oops, Panic) as end:
        raise ValueError(f"recording: its machine does not live to the run: {end}") from None


def _start(recording: Mapping[str, Any]) -> Kernel:
    ram = str(recording["guest_ram"])
    if parse_size(ram) > MOST_RAM:
        raise ValueError(f"recording: guest_ram={ram}: more than {MOST_RAM >> 30} GiB")
    kernel = Kernel(ram, cpus=int(recording["cpus"]))
    recorded = {(z["node"], z["zone"]): z for z in recording.get("zones_at_start", ())}
    for zone in kernel.zones:
        if recorded and (zone.nid, zone.name) not in recorded:
            raise ValueError(f"recording: zones_at_start has no {zone.nid}/{zone.name}")
        if recorded:
            _set_marks(zone, recorded[zone.nid, zone.name])
    vmstat = recording.get("vmstat_before", {})
    if recording["option"] == "swap":
        kernel.swapon(SWAP_KB << 10)
    _fill_kernel_pages(kernel, recorded, vmstat)
    kernel.fill_lru(vmstat.get("nr_shmem", SHMEM), GFP_HIGHUSER_MOVABLE, "tmpfs", ACTIVE_ANON)
    if recording["option"] != "nocache":
        kernel.read_file(READ_MB << 20)
    if recording["hog_mb"]:
        kernel.fork("hog", anon=int(recording["hog_mb"]) << 20, oom_score_adj=500)
    kernel.current = kernel.fork("sh", oom_score_adj=-1000)
    kernel.sleep(200)
    for zone in kernel.zones:
        if recorded:
            _meet(kernel, zone, recorded[zone.nid, zone.name])
    return kernel


def _set_marks(zone: Zone, recorded: Mapping[str, Any]) -> None:
    """Give a zone the recorded size, marks and reserve."""
    managed = recorded["managed"]
    if not 0 <= managed <= zone.end_pfn - zone.start_pfn:
        raise ValueError(f"recording: zone {zone.name}: managed={managed} is not a possible one")
    zone.managed = managed
    zone.watermark = [recorded[name] for name in ("min", "low", "high", "promo")]
    zone.lowmem_reserve = tuple(recorded["reserve"])
    zone.stat_threshold, zone.percpu_drift_mark = recorded["thr"], recorded["drift"]


def _fill_kernel_pages(
    kernel: Kernel, recorded: Mapping[Any, Mapping[str, Any]], vmstat: Mapping[str, int]
) -> None:
    """Take what the kernel itself held: all that was neither free nor on an LRU list."""
    used = KERNEL_PAGES
    if vmstat and recorded:
        lists = ("active_anon", "inactive_anon", "active_file", "inactive_file")
        lru = sum(vmstat.get(f"nr_{name}", 0) for name in lists)
        free = sum(zone["free"] + zone["pcp"] for zone in recorded.values())
        used = sum(zone["managed"] for zone in recorded.values()) - free - lru
    slab = min(vmstat.get("nr_slab_reclaimable", SLAB_RECLAIMABLE), used)
    kernel.grow_slab(slab << 12)
    for _ in range(used - slab):
        kernel.alloc_pages(GFP_KERNEL)


def _meet(kernel: Kernel, zone: Zone, recorded: Mapping[str, Any]) -> None:
    """Bring a zone's free pages and per-CPU pages to the recorded numbers.

    File pages are read into what is too much, the oldest ones are dropped where it is too little;
    what waits on per-CPU lists is dealt out to readers and the kernel in turn.
    """
    node = kernel.nodes[zone.nid]
    files = node.lists[INACTIVE_FILE][zone.idx]
    drain_pages_zone(zone)
    target, waiting = recorded["free"], recorded["pcp"]
    while files and zone.free_pages < target + waiting:
        pfn = files.pop_oldest()
        zone.mem_map.lru[pfn] = 0
        free_unref_page(zone, pfn, 0)
        drain_pages_zone(zone)
    context = prepare_alloc_pages(kernel, GFP_HIGHUSER_MOVABLE, zone.nid)
    owner = kernel.owner_names.index("page cache") if "page cache" in kernel.owner_names else 0
    while zone.free_pages + sum(pcp.count for pcp in zone.pcps) > target + waiting:
        taken = rmqueue(kernel, zone, 0, context.migratetype, 0)
        if taken is None:
            break
        zone.mem_map.owner[taken] = owner
        if owner:
            node.folio_add_lru(taken, INACTIVE_FILE)
    drain_pages_zone(zone)
    for number in range(waiting):
        kind = (MIGRATE_UNMOVABLE, MIGRATE_MOVABLE)[number % 2]
        taken = rmqueue_buddy(zone, 0, MIGRATE_MOVABLE, 0)
        if taken is None:
            break
        zone.page[taken] = PCP
        zone.pcp.lists[order_to_pindex(kind, 0)].append(taken)
        zone.pcp.count += 1
    zone.vm_stat, zone.pcp.stat_diff = zone.free_pages, 0
    zone.watermark_boost = recorded["boost"]
    zone.flags = recorded["flags"]


# -- the comparison -------------------------------------------------------------------------------


def play_ladder(recording: Mapping[str, Any]) -> LadderResult:
    """Play a recorded run, and compare its end and the order of what first happened.

    Compared are the outcome, whether a failure was reported, which of kswapd, direct reclaim,
    compaction and the OOM killer came into it, and in which order. Two differences are in the
    ledger: whether compaction was tried, and whether a kill freed enough where all was in swap.
    Counts depend on who got the CPU when (docs/fidelity.md).

    Raises:
        ValueError: the recording is malformed; the message says where.
    """
    kernel = start_machine(recording)
    try:
        gfp, order, most = (int(recording[key]) for key in ("gfp", "order", "max_allocs"))
        if "first_events" not in recording:  # the machine panicked: nothing else was recorded
            recording = {**recording, "first_events": (), "dmesg_page_allocation_failure": 0}
        run = climb(kernel, gfp, order, most)
        expected, firsts = _recorded(recording)
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"recording: not a run of allocations: {error!r}") from None
    found = {"outcome": run.outcome, "failure report": run.report and run.outcome == "failed"}
    found |= {name: name in run.first for name in EVENTS if name in expected}
    pairs = [(key, expected[key], found[key]) for key in expected]
    pairs += list(_order(firsts, run.first))
    wrong = [Mismatch(what, one, other) for what, one, other in pairs if one != other]
    excused = [one for one in wrong if _in_ledger(one, recording)]
    wrong = [one for one in wrong if one not in excused]
    matched = len(pairs) - len(wrong) - len(excused)
    return LadderResult((matched, len(pairs)), tuple(wrong), tuple(excused), run)


def _in_ledger(one: Mismatch, recording: Mapping[str, Any]) -> bool:
    """Return whether the fidelity ledger explains a difference.

    Whether there is room to compact depends on the free lists of that moment, and whether a task
    whose memory is all in swap leaves enough behind depends on a few pages; neither is recorded.
    """
    if one.where == "compaction":
        return True
    ends = {str(one.recorded).split(":")[0], str(one.simulated).split(":")[0]}
    return one.where == "outcome" and recording["option"] == "swap" and ends == KILLS


def _recorded(recording: Mapping[str, Any]) -> tuple[dict[str, object], dict[str, int]]:
    """Return what is recorded, in climb()'s terms: (values, event -> first allocation)."""
    firsts: dict[str, int] = {}
    for event in recording["first_events"]:
        for name, counters in EVENTS.items():
            if event["event"] in counters:
                firsts.setdefault(name, int(event["n"]))
    expected: dict[str, object] = {
        "outcome": recording["outcome"],
        "failure report": recording["outcome"] == "failed"
        and recording["dmesg_page_allocation_failure"] > 0,
    }
    if recording["first_events"] or recording["outcome"] in OUTCOMES:
        expected |= {name: name in firsts for name in EVENTS}
    return expected, firsts


def _order(
    recorded: Mapping[str, int], simulated: Mapping[str, int]
) -> Iterator[tuple[str, object, object]]:
    """Yield (what, recorded, simulated) for every two events that both runs had, one after other.

    kswapd's recorded event is its first run, which comes some time after it was woken, so only what
    was recorded after it must come after it.
    """
    names: Sequence[str] = [name for name in EVENTS if name in recorded and name in simulated]
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            if recorded[one] < recorded[other]:
                yield f"{one} before {other}", True, simulated[one] <= simulated[other]
            elif recorded[one] > recorded[other] and one != "kswapd":
                yield f"{other} before {one}", True, simulated[other] <= simulated[one]
