"""The slow path: what a request does when no zone is above its low mark, rung by rung.

`page_alloc.alloc_pages()` comes here when its first attempt failed. The order of the rungs is
Linux 6.12's (mm/page_alloc.c __alloc_pages_slowpath()): kswapd, the min mark, compaction for big
blocks, special rights, direct reclaim, direct compaction, retries, the OOM killer. Every rung says
which rule decided (`kmemkit.why`). From 6.13 on the order changed; that is another profile.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm import kswapd
from kmemkit.mm.alloc_flags import gfp_pfmemalloc_flags, gfp_to_alloc_flags
from kmemkit.mm.compaction import (
    COMPACT_DEFERRED,
    COMPACT_PRIO_ASYNC,
    COMPACT_RESULTS,
    COMPACT_SKIPPED,
)
from kmemkit.mm.errors import Livelock
from kmemkit.mm.freelist import AllocContext, prepare_zonelist
from kmemkit.mm.internal import (
    ALLOC_CPUSET,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_OOM,
)
from kmemkit.mm.mmzone import MIGRATE_MOVABLE
from kmemkit.mm.rungs import (
    Road,
    __alloc_pages_cpuset_fallback,
    __alloc_pages_direct_compact,
    __alloc_pages_direct_reclaim,
    __alloc_pages_may_oom,
    should_compact_retry,
    should_reclaim_retry,
    wake_all_kswapds,
)
from kmemkit.mm.sched import PF_MEMALLOC
from kmemkit.mm.show_mem import warn_alloc

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = ("__alloc_pages_slowpath",)


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


def _warn_nofail(road: Road) -> None:
    """Warn, once each, of __GFP_NOFAIL where it cannot hold or should not be asked for."""
    if road.order > 1:
        road.kernel.warn_on_once("__alloc_pages_slowpath", "order")
    if not road.can_direct_reclaim:
        road.kernel.warn_on_once("__alloc_pages_slowpath", "no direct reclaim")
    if road.kernel.current.flags & PF_MEMALLOC:
        road.kernel.warn_on_once("__alloc_pages_slowpath", "PF_MEMALLOC")
