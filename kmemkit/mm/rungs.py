"""The rungs of the slow path: what each of them does for a request, and how it says so.

`slowpath` puts them in order. A rung tries one thing (wake kswapd, reclaim, compact, ask whether
another round makes sense, ask the OOM killer) and tells the trace which rule decided
(`kmemkit.why`). Linux: mm/page_alloc.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm import kswapd, oom_kill, vmscan
from kmemkit.mm.compaction import (
    COMPACT_PRIO_SYNC_FULL,
    COMPACT_PRIO_SYNC_LIGHT,
    COMPACT_RESULTS,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    compaction_defer_reset,
    compaction_zonelist_suitable,
    try_to_compact_pages,
)
from kmemkit.mm.fallback import unreserve_highatomic_pageblock
from kmemkit.mm.freelist import AllocContext, get_page_from_freelist
from kmemkit.mm.internal import (
    ALLOC_CPUSET,
    ALLOC_NO_WATERMARKS,
    ALLOC_WMARK_HIGH,
    MAX_RECLAIM_RETRIES,
)
from kmemkit.mm.mmzone import MIN, PAGE_ALLOC_COSTLY_ORDER, Zone
from kmemkit.mm.pcp import drain_pages_zone
from kmemkit.mm.sched import PF_MEMALLOC
from kmemkit.mm.watermark import __zone_watermark_ok, reduced_mark

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = (
    "Road",
    "__alloc_pages_cpuset_fallback",
    "__alloc_pages_direct_compact",
    "__alloc_pages_direct_reclaim",
    "__alloc_pages_may_oom",
    "should_compact_retry",
    "should_reclaim_retry",
    "throttle_direct_reclaim",
    "wake_all_kswapds",
)

MAX_COMPACT_RETRIES = 16
# Inside a class Python would mangle names that begin with two underscores.
DIRECT_RECLAIM, IO = flags.__GFP_DIRECT_RECLAIM, flags.__GFP_IO


@dataclass(slots=True)
class Road:
    """One request on its way through the slow path."""

    kernel: Machine
    context: AllocContext
    order: int
    alloc_flags: int
    turn: int = 0  #: of the retry loop
    compact_result: int = COMPACT_SKIPPED
    compact_priority: int = COMPACT_PRIO_SYNC_LIGHT
    compaction_retries: int = 0
    no_progress_loops: int = 0
    #: what the machine looked like when the OOM killer last had nothing to do
    stale: tuple[object, ...] = ()
    #: compaction has had its chance, and left the machine like that
    compacted: bool = False

    @property
    def gfp(self) -> int:
        """The request's mask, after its task's scopes."""
        return self.context.gfp

    @property
    def can_direct_reclaim(self) -> bool:
        """Whether the request may wait for reclaim."""
        return bool(self.gfp & DIRECT_RECLAIM)

    @property
    def can_compact(self) -> bool:
        """Whether the request may compact (gfp_compaction_allowed())."""
        return bool(self.gfp & IO)

    @property
    def costly(self) -> bool:
        """Whether the order is above PAGE_ALLOC_COSTLY_ORDER."""
        return self.order > PAGE_ALLOC_COSTLY_ORDER

    def rung(self, name: str) -> None:
        """Step on a rung."""
        if self.kernel.trace is not None:
            self.kernel.trace.rung(name, self.turn)

    def said(self, outcome: str, key: str = "", **values: object) -> None:
        """Say how the rung ended, and why."""
        if self.kernel.trace is not None:
            if key:
                self.kernel.trace.note(key, **values)
            self.kernel.trace.outcome(outcome)

    def take(self, alloc_flags: int) -> int | None:
        """Try the free lists with these flags."""
        pfn = get_page_from_freelist(self.kernel, self.context, self.order, alloc_flags)
        self.said("no" if pfn is None else "page")
        return pfn


def wake_all_kswapds(road: Road) -> None:
    """Wake kswapd on every node of the zonelist (same name in Linux)."""
    kernel, context = road.kernel, road.context
    road.rung("kswapd")
    seen: set[int] = set()
    for zone in context.zonelist:
        if zone.nid not in seen and zone.managed:
            seen.add(zone.nid)
            kswapd.wakeup_kswapd(kernel, zone, road.gfp, road.order, context.highest_zoneidx)
            node = kernel.nodes[zone.nid]
            awake = node.kswapd_running
            hopeless = node.kswapd_failures >= MAX_RECLAIM_RETRIES
            key = "kswapd_woken" if awake else "kswapd_hopeless" if hopeless else "kswapd_idle"
            road.said("woken" if awake else "no", key, nid=zone.nid, order=road.order)


def __alloc_pages_direct_reclaim(road: Road) -> tuple[int | None, int]:
    """Free pages, then try the free lists again; return (page, pages freed) (same name in Linux).

    If that is not enough, what waits on per-CPU lists and in the highatomic reserve is given back
    for one more try.
    """
    kernel = road.kernel
    if throttle_direct_reclaim(road):
        kernel.vm_events["pgscan_direct_throttle"] += 1
    before = kernel.vm_events["pgsteal_direct"]
    kernel.current.flags |= PF_MEMALLOC  # reclaim may allocate, but must not reclaim
    try:
        kswapd.schedule(kernel)
        with kernel.quietly():
            progress = vmscan.try_to_free_pages(kernel, road.context, road.order)
    finally:
        kernel.current.flags &= ~PF_MEMALLOC
    freed = kernel.vm_events["pgsteal_direct"] - before
    if progress and not freed and road.costly:
        road.said("no", "reclaim_leaves_it", order=road.order)
    else:
        road.said("no", "reclaimed" if progress else "nothing_reclaimed", pages=progress)
    if not progress:
        return None, 0
    road.said("progress")
    pfn = get_page_from_freelist(kernel, road.context, road.order, road.alloc_flags)
    if pfn is None:
        unreserve_highatomic_pageblock(road.context.zonelist, road.context.migratetype, False)
        _drain_all_pages(kernel)
        pfn = get_page_from_freelist(kernel, road.context, road.order, road.alloc_flags)
    if pfn is not None:
        road.said("page")
    return pfn, progress


def _drain_all_pages(kernel: Machine) -> None:
    with kernel.quietly():
        for zone in kernel.zones:
            drain_pages_zone(zone)


def throttle_direct_reclaim(road: Road) -> bool:
    """Let a request wait for kswapd while less than half of the min marks is free; was it so?

    Linux: same name, allow_direct_reclaim(). What is left then is for kswapd, and for others who
    need memory to free memory.
    """
    kernel, context = road.kernel, road.context
    if kernel.current.kernel_thread or kernel.current.oom_victim:
        return False  # they help others to memory, or have to die
    node = kernel.nodes[context.zonelist[0].nid]
    zones = [
        zone
        for zone in node.zones
        if zone.name not in ("HighMem", "Movable")
        and zone.managed
        and vmscan.zone_reclaimable_pages(kernel, zone)
    ]
    reserve = sum(zone.watermark[MIN] + zone.watermark_boost for zone in zones)
    hopeless = node.kswapd_failures >= MAX_RECLAIM_RETRIES
    free = sum(zone.free_pages for zone in zones)
    if not reserve or hopeless or free > reserve // 2:
        return False
    kswapd.wakeup_kswapd(kernel, context.zonelist[0], road.gfp, 0, context.highest_zoneidx)
    kswapd.schedule(kernel)
    return True


def __alloc_pages_direct_compact(road: Road, priority: int) -> int | None:
    """Compact, then try the free lists again (same name in Linux)."""
    kernel, context = road.kernel, road.context
    result = try_to_compact_pages(kernel, context, road.order, road.alloc_flags, priority)
    road.compact_result = result
    if result == COMPACT_SKIPPED:
        road.said("no", *(() if road.can_compact else ("compact_needs_io",)))
        return None
    kernel.vm_events["compact_stall"] += 1
    road.said("no", "compacted", result=COMPACT_RESULTS[result])
    pfn = get_page_from_freelist(kernel, context, road.order, road.alloc_flags)
    if pfn is None:
        kernel.vm_events["compact_fail"] += 1
        return None
    kernel.vm_events["compact_success"] += 1
    compaction_defer_reset(kernel.page_zone(pfn), road.order, True)
    road.said("page")
    return pfn


# -- once more? -----------------------------------------------------------------------------------


def should_reclaim_retry(road: Road, progress: int) -> bool:
    """Return whether reclaiming once more could help (same name in Linux).

    Not after 16 rounds in vain (costly orders count every round as that), nor if even all that
    could be reclaimed would not lift a zone above its min mark.
    """
    kernel, context = road.kernel, road.context
    if progress and not road.costly:
        road.no_progress_loops = 0
    else:
        road.no_progress_loops += 1
    loops = road.no_progress_loops
    if loops > MAX_RECLAIM_RETRIES:
        road.said("no", "loops_over", loops=loops, most=MAX_RECLAIM_RETRIES)
    else:
        for zone in context.zonelist:
            if _could_do(road, zone, loops):
                kernel.now += 1_000  # cond_resched()
                return True
    freed = unreserve_highatomic_pageblock(context.zonelist, context.migratetype, True)
    if freed:
        road.said("again", "unreserved")
    return freed


def _could_do(road: Road, zone: Zone, loops: int) -> bool:
    """Return whether a zone would pass if all its reclaimable pages were free."""
    kernel, context = road.kernel, road.context
    reclaimable = vmscan.zone_reclaimable_pages(kernel, zone)
    available = reclaimable + zone.free_pages
    mark = zone.watermark[MIN] + zone.watermark_boost
    ok = __zone_watermark_ok(
        zone, road.order, mark, context.highest_zoneidx, road.alloc_flags, available
    )
    if kernel.trace is not None:
        kernel.trace.event(
            "reclaim_retry_zone", node=zone.nid, zone=zone.name, order=road.order,
            reclaimable=reclaimable, available=available, min_wmark=mark,
            no_progress_loops=loops, wmark_check=int(ok),
        )  # fmt: skip
        reserve = zone.lowmem_reserve[context.highest_zoneidx]
        mark = reduced_mark(mark, road.alloc_flags)
        road.said(
            "no", "could_do" if ok else "could_not_do", zone=zone.name, reclaimable=reclaimable,
            free=zone.free_pages, available=available, mark=mark, reserve=reserve,
            sum=mark + reserve, loops=loops, most=MAX_RECLAIM_RETRIES,
        )  # fmt: skip
    return ok


def should_compact_retry(road: Road) -> bool:
    """Return whether compacting once more, perhaps harder, could help (same name in Linux)."""
    order = road.order
    if not order or road.kernel.current.oom_victim:
        return False
    if road.compact_result == COMPACT_SKIPPED:
        ok = compaction_zonelist_suitable(road.kernel, road.context, order)
    elif road.compact_result == COMPACT_SUCCESS:
        most = MAX_COMPACT_RETRIES // 4 if road.costly else MAX_COMPACT_RETRIES
        road.compaction_retries += 1
        ok = road.compaction_retries <= most or _raise_priority(road)
    else:
        ok = _raise_priority(road)
    if road.kernel.trace is not None:
        road.kernel.trace.event(
            "compact_retry", order=order, priority=road.compact_priority,
            result=COMPACT_RESULTS[road.compact_result], retries=road.compaction_retries,
            max_retries=MAX_COMPACT_RETRIES, ret=int(ok),
        )  # fmt: skip
        road.said("no", "compact_again" if ok else "compact_over",
                  result=COMPACT_RESULTS[road.compact_result])  # fmt: skip
    return ok


def _raise_priority(road: Road) -> bool:
    """Compact harder from now on, if that is possible."""
    hardest = COMPACT_PRIO_SYNC_LIGHT if road.costly else COMPACT_PRIO_SYNC_FULL
    if road.compact_priority <= hardest:
        return False
    road.compact_priority -= 1
    road.compaction_retries = 0
    return True


# -- the last resort ------------------------------------------------------------------------------


def __alloc_pages_may_oom(road: Road) -> tuple[int | None, bool]:
    """Look once more, then let the OOM killer choose; return (page, progress) (same name)."""
    kernel, context, gfp = road.kernel, road.context, road.gfp
    pfn = get_page_from_freelist(kernel, context, road.order, ALLOC_WMARK_HIGH | ALLOC_CPUSET)
    if pfn is not None:
        road.said("page")
        return pfn, True
    if road.costly:
        road.said("no", "oom_not_for_costly", order=road.order)
        return None, False
    if gfp & (flags.__GFP_RETRY_MAYFAIL | flags.__GFP_THISNODE):
        road.said("no", "oom_not_for_mask", gfp=flags.decode(gfp))
        return None, False
    if context.highest_zoneidx < kernel.normal_zone:
        road.said("no", "oom_not_for_lowmem", zone=kernel.zone_names[context.highest_zoneidx])
        return None, False
    progress = oom_kill.out_of_memory(kernel, context, road.order)
    road.said("kill" if kernel.oom_killed else "again")
    if gfp & flags.__GFP_NOFAIL:
        progress = True
        outcome = "kill" if kernel.oom_killed else "again"
        pfn = __alloc_pages_cpuset_fallback(road, ALLOC_NO_WATERMARKS)
        road.said(outcome if pfn is None else "page")
    return pfn, progress


def __alloc_pages_cpuset_fallback(road: Road, alloc_flags: int) -> int | None:
    """Try the free lists within the task's cpuset, then beyond it (same name in Linux)."""
    pfn = road.take(alloc_flags | ALLOC_CPUSET)
    return road.take(alloc_flags) if pfn is None and road.kernel.current.mems_allowed else pfn
