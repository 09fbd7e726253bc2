"""The slow path: what a request does when no zone is above its low mark, rung by rung.

`page_alloc.alloc_pages()` comes here when its first attempt failed. The order of the rungs is
Linux 6.12's (mm/page_alloc.c __alloc_pages_slowpath()): kswapd, the min mark, compaction for big
blocks, special rights, direct reclaim, direct compaction, retries, the OOM killer. Every rung says
which rule decided (`kmemkit.why`). From 6.13 on the order changed; that is another profile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm import kswapd, oom_kill, vmscan
from kmemkit.mm.compaction import (
    COMPACT_DEFERRED,
    COMPACT_PRIO_ASYNC,
    COMPACT_PRIO_SYNC_FULL,
    COMPACT_PRIO_SYNC_LIGHT,
    COMPACT_RESULTS,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    compaction_defer_reset,
    compaction_zonelist_suitable,
    try_to_compact_pages,
)
from kmemkit.mm.errors import Livelock
from kmemkit.mm.fallback import unreserve_highatomic_pageblock
from kmemkit.mm.freelist import AllocContext, get_page_from_freelist, prepare_zonelist
from kmemkit.mm.internal import (
    ALLOC_CPUSET,
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NO_WATERMARKS,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_WMARK_HIGH,
    ALLOC_WMARK_MIN,
    MAX_RECLAIM_RETRIES,
)
from kmemkit.mm.mmzone import MIGRATE_MOVABLE, MIN, PAGE_ALLOC_COSTLY_ORDER, Zone
from kmemkit.mm.pcp import drain_pages_zone
from kmemkit.mm.sched import PF_MEMALLOC
from kmemkit.mm.show_mem import warn_alloc
from kmemkit.mm.watermark import __zone_watermark_ok

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = ("__alloc_pages_slowpath", "gfp_pfmemalloc_flags", "gfp_to_alloc_flags")

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


def __alloc_pages_slowpath(kernel: Machine, context: AllocContext, order: int) -> int | None:
    """Find a block for a request that the low mark turned away (same name in Linux)."""
    if kernel.current.mems_allowed is not None:  # from here on ALLOC_CPUSET decides
        context = prepare_zonelist(kernel, context, context.nodemask)
    road = Road(kernel, context, order, gfp_to_alloc_flags(kernel, context.gfp, order))
    if context.gfp & flags.__GFP_NOFAIL:
        _warn_nofail(road)
    answer = _way_down(road)
    while answer is AGAIN:
        road.turn += 1
        answer = _round(road)
    return answer


class _Again(Enum):
    """Says that another round is due, where None says that there is no page."""

    AGAIN = 0


AGAIN = _Again.AGAIN


def _way_down(road: Road) -> int | _Again | None:
    """Try what comes before the retry loop (steps 1 to 4 of __alloc_pages_slowpath())."""
    context = road.context
    if not context.zonelist:
        return _nopage(road)
    if road.alloc_flags & ALLOC_KSWAPD:
        wake_all_kswapds(road)
    road.rung("min")
    pfn = road.take(road.alloc_flags)
    if pfn is not None:
        return pfn
    if _compacts_first(road):
        road.rung("compact_first")
        pfn = __alloc_pages_direct_compact(road, COMPACT_PRIO_ASYNC)
        if pfn is not None:
            return pfn
        if road.costly and context.gfp & flags.__GFP_NORETRY:
            if road.compact_result in (COMPACT_SKIPPED, COMPACT_DEFERRED):
                road.said("stop", "compact_noretry", result=COMPACT_RESULTS[road.compact_result])
                return _nopage(road)
            if context.gfp & flags.__GFP_THISNODE:
                road.said("stop", "noretry")  # huge pages of one node are not worth more
                return _nopage(road)
            road.compact_priority = COMPACT_PRIO_ASYNC
    return AGAIN


def _compacts_first(road: Road) -> bool:
    """Return whether compaction comes before reclaim: for blocks that only it can make."""
    order = road.order
    return (
        road.can_direct_reclaim
        and road.can_compact
        and (road.costly or (order > 0 and road.context.migratetype != MIGRATE_MOVABLE))
        and not gfp_pfmemalloc_flags(road.kernel, road.gfp)
    )


def _round(road: Road) -> int | _Again | None:
    """Make one round of the retry loop (steps 5 to 21 of __alloc_pages_slowpath())."""
    kernel, context, gfp = road.kernel, road.context, road.gfp
    if road.alloc_flags & ALLOC_KSWAPD:
        wake_all_kswapds(road)  # again: it may have gone back to sleep
    reserve = gfp_pfmemalloc_flags(kernel, gfp)
    if reserve:
        road.alloc_flags = reserve | road.alloc_flags & ALLOC_KSWAPD
    if not road.alloc_flags & ALLOC_CPUSET or reserve:
        road.context = prepare_zonelist(kernel, replace(context, nodemask=None), None)
    road.rung("reserves")
    pfn = road.take(road.alloc_flags)
    if pfn is not None:
        return pfn
    if not road.can_direct_reclaim:
        road.said("stop", "no_direct_reclaim")
        return _nopage(road)
    if kernel.current.flags & PF_MEMALLOC:
        road.said("stop", "pf_memalloc")
        return _nopage(road)
    road.rung("reclaim")
    pfn, progress = __alloc_pages_direct_reclaim(road)
    if pfn is not None:
        return pfn
    if road.order:
        road.rung("compact")
        pfn = __alloc_pages_direct_compact(road, road.compact_priority)
        if pfn is not None:
            return pfn
    road.rung("retry")
    verdict = _may_go_round(road, progress)
    if verdict is not None:
        return AGAIN if verdict else _nopage(road)
    road.rung("oom")
    return _out_of_memory(road)


def _may_go_round(road: Road, progress: int) -> bool | None:
    """Return True for another round, False for none, None to ask the OOM killer first."""
    gfp = road.gfp
    if gfp & flags.__GFP_NORETRY:
        road.said("stop", "noretry")
        return False
    if road.costly and not (road.can_compact and gfp & flags.__GFP_RETRY_MAYFAIL):
        road.said("stop", "costly_gives_up", order=road.order)
        return False
    if should_reclaim_retry(road, progress):
        road.said("again")
        return True
    if progress and road.can_compact and should_compact_retry(road):
        road.said("again")
        return True
    road.said("no")
    return None


def _out_of_memory(road: Road) -> int | _Again | None:
    """Ask the OOM killer, and decide what its answer means (steps 19 to 21)."""
    kernel = road.kernel
    pfn, progress = __alloc_pages_may_oom(road)
    if pfn is not None:
        return pfn
    if kernel.current.oom_victim and (
        road.alloc_flags & ALLOC_OOM or road.gfp & flags.__GFP_NOMEMALLOC
    ):
        road.said("stop", "victim_gives_up", comm=kernel.comm)
        return _nopage(road)
    if progress:
        road.no_progress_loops = 0
        _check_livelock(road)
        return AGAIN
    return _nopage(road)


def _nopage(road: Road) -> int | _Again | None:
    """End the road: __GFP_NOFAIL goes round again, everybody else gets NULL."""
    if road.gfp & flags.__GFP_NOFAIL and road.can_direct_reclaim:
        road.rung("nofail")
        pfn = __alloc_pages_cpuset_fallback(road, ALLOC_MIN_RESERVE)
        if pfn is not None:
            return pfn
        kswapd.schedule(road.kernel)
        _check_livelock(road)
        return AGAIN
    road.rung("null")
    road.said("no", "null", order=road.order)
    nodemask = road.context.nodemask
    warn_alloc(road.kernel, road.gfp, nodemask, f"page allocation failure: order:{road.order}")
    return None


def __alloc_pages_cpuset_fallback(road: Road, alloc_flags: int) -> int | None:
    """Try the free lists within the task's cpuset, then beyond it (same name in Linux)."""
    pfn = road.take(alloc_flags | ALLOC_CPUSET)
    return road.take(alloc_flags) if pfn is None and road.kernel.current.mems_allowed else pfn


def _check_livelock(road: Road) -> None:
    """Raise Livelock if the machine is as it was when this request last came here.

    Nothing but this request runs: if a whole turn of the loop changed nothing, none ever will. A
    turn in which compaction was deferred proves nothing, unless it had its chance before.
    """
    kernel = road.kernel
    state: tuple[object, ...] = (
        tuple((z.free_pages, sum(pcp.count for pcp in z.pcps)) for z in kernel.zones),
        tuple((n.kswapd_failures, n.kswapd_running, len(n.slab)) for n in kernel.nodes),
        tuple(node.nr(1, 2, 3, 4) for node in kernel.nodes),
        kernel.nr_swap_pages,
        sum(task.exited for task in kernel.tasks),
    )
    same = state == road.stale
    road.compacted = road.compact_result != COMPACT_DEFERRED or (same and road.compacted)
    if (same and road.compacted) or not road.context.zonelist:
        road.said("again", "livelock", rounds=road.turn)
        names = flags.decode(road.gfp)
        raise Livelock(
            f"alloc_pages({names}, {road.order}) never returns: round {road.turn} of its retry "
            "loop changed nothing, and nobody else frees memory"
        )
    road.stale = state


# -- flags ----------------------------------------------------------------------------------------


def gfp_to_alloc_flags(kernel: Machine, gfp: int, order: int) -> int:
    """Return the slow path's ALLOC_* flags for a mask (same name in Linux)."""
    alloc_flags = ALLOC_WMARK_MIN | ALLOC_CPUSET
    if gfp & flags.__GFP_HIGH:
        alloc_flags |= ALLOC_MIN_RESERVE
    if gfp & flags.__GFP_KSWAPD_RECLAIM:
        alloc_flags |= ALLOC_KSWAPD
    if not gfp & flags.__GFP_DIRECT_RECLAIM:
        if not gfp & flags.__GFP_NOMEMALLOC:
            alloc_flags |= ALLOC_NON_BLOCK
            if order and alloc_flags & ALLOC_MIN_RESERVE:
                alloc_flags |= ALLOC_HIGHATOMIC
        if alloc_flags & ALLOC_MIN_RESERVE:
            alloc_flags &= ~ALLOC_CPUSET
    elif kernel.current.realtime and kernel.context.in_task:
        alloc_flags |= ALLOC_MIN_RESERVE
    return alloc_flags


def gfp_pfmemalloc_flags(kernel: Machine, gfp: int) -> int:
    """Return the rights of those who free memory, or die: first match."""
    current, context = kernel.current, kernel.context
    if gfp & flags.__GFP_NOMEMALLOC:
        return 0
    if gfp & flags.__GFP_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    if context.in_serving_softirq and current.flags & PF_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    if context.in_task:
        if current.flags & PF_MEMALLOC:
            return ALLOC_NO_WATERMARKS
        if current.oom_victim:
            return ALLOC_OOM
    return 0


def _warn_nofail(road: Road) -> None:
    """Warn, once each, of __GFP_NOFAIL where it cannot hold or should not be asked for."""
    kernel = road.kernel
    if road.order > 1 or not road.can_direct_reclaim or kernel.current.flags & PF_MEMALLOC:
        kernel.warn_on_once("__alloc_pages_slowpath")


# -- rungs ----------------------------------------------------------------------------------------


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
    kernel.current.flags |= PF_MEMALLOC  # reclaim may allocate, but must not reclaim
    try:
        kswapd.schedule(kernel)
        with kernel.quietly():
            progress = vmscan.try_to_free_pages(kernel, road.context, road.order)
    finally:
        kernel.current.flags &= ~PF_MEMALLOC
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
