"""Reclaim: taking pages back that nobody needs right now (Linux: mm/vmscan.c).

`slowpath` calls try_to_free_pages() for a request that may wait, `kswapd` calls shrink_node() in
the background. Oldest pages go first, in batches of 64 as Debian's engine (MGLRU) isolates them:
clean file pages are dropped, dirty ones written, anonymous ones swapped out. Simplified: no second
chance by access bits, no memory cgroups; see docs/fidelity.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm.compaction import COMPACT_SKIPPED, compaction_suitable
from kmemkit.mm.context import cpuset_node_allowed, reclaim_enables_interrupts
from kmemkit.mm.fallback import __rmqueue
from kmemkit.mm.internal import ALLOC_NO_WATERMARKS
from kmemkit.mm.mmzone import HIGH, MIGRATE_UNMOVABLE, MIN, PAGE_ALLOC_COSTLY_ORDER, Zone
from kmemkit.mm.pcp import free_unref_page
from kmemkit.mm.sched import Task, task_owner
from kmemkit.mm.swap import (
    ACTIVE_ANON,
    ACTIVE_FILE,
    INACTIVE_ANON,
    INACTIVE_FILE,
    LRU_DIRTY,
    Pglist,
)
from kmemkit.mm.watermark import zone_watermark_ok

if TYPE_CHECKING:
    from kmemkit.mm.freelist import AllocContext
    from kmemkit.mm.machine import Machine

__all__ = (
    "DEF_PRIORITY",
    "MIN_LRU_BATCH",
    "SWAP_CLUSTER_MAX",
    "ScanControl",
    "shrink_node",
    "try_to_free_pages",
    "zone_reclaimable_pages",
)

#: What a direct reclaimer is content with, in pages.
SWAP_CLUSTER_MAX = 32
#: What the lists are scanned in, in pages: one bit each of a machine word.
MIN_LRU_BATCH = 64
#: A pass looks at size >> priority of each list; 12 is 1/4096, 0 is all.
DEF_PRIORITY = 12
#: Simulated costs, in ns: of a page dropped, of one written to disk or swap.
DROP_NS = 2_500
WRITE_NS = 50_000
#: Swapped pages whose places are kept in one page of tree nodes: 7 nodes of 64 entries.
PAGES_PER_SWAP_NODE_PAGE = 448


@dataclass(slots=True)
class ScanControl:
    """One reclaimer's aims and score (struct scan_control)."""

    order: int
    reclaim_idx: int  #: pages of zones above this index do not help the request
    nr_to_reclaim: int
    may_writepage: bool  #: dirty file pages: the mask has __GFP_FS
    may_swap: bool  #: anonymous pages: the mask has __GFP_IO
    may_enter_fs: bool = True  #: slabs of file systems: the mask has __GFP_FS
    kswapd: bool = False
    priority: int = DEF_PRIORITY
    nr_scanned: int = 0
    nr_reclaimed: int = 0


# -- one node -------------------------------------------------------------------------------------


def shrink_node(kernel: Machine, node: Pglist, sc: ScanControl) -> None:
    """Scan a part of each list that `sc.priority` says, oldest pages first (same name in Linux).

    File pages go before anonymous ones: dropping a clean page costs nothing. Anonymous pages are
    looked at when no file page was left to free, and only if there is room in swap.
    """
    goal = sc.nr_reclaimed
    _shrink_lists(kernel, node, sc, INACTIVE_FILE, ACTIVE_FILE)
    if not sc.nr_reclaimed > goal and sc.may_enter_fs:
        _shrink_slab(kernel, node, sc)
    if not sc.nr_reclaimed > goal and sc.may_swap and kernel.nr_swap_pages:
        _shrink_lists(kernel, node, sc, INACTIVE_ANON, ACTIVE_ANON)
    if sc.nr_reclaimed > goal:
        node.kswapd_failures = 0


def _shrink_lists(
    kernel: Machine, node: Pglist, sc: ScanControl, inactive: int, active: int
) -> None:
    """Scan one kind of pages, in batches, until the share of this priority is done."""
    if inactive_is_low(node, inactive, active):
        _shrink_active_list(node, sc, inactive, active)
    to_scan = node.nr(inactive, highest=sc.reclaim_idx) >> sc.priority or 1
    while to_scan > 0:
        scanned = _shrink_inactive_list(kernel, node, sc, inactive)
        to_scan -= scanned
        if not scanned or _should_abort_scan(node, sc):
            return


def _should_abort_scan(node: Pglist, sc: ScanControl) -> bool:
    """Return whether this reclaimer has enough (same name in Linux)."""
    if sc.nr_reclaimed >= max(sc.nr_to_reclaim, 2 << sc.order if sc.order else 0):
        return True
    return (
        sc.kswapd
        and not sc.order
        and all(
            zone_watermark_ok(zone, 0, _high(zone) + MIN_LRU_BATCH, sc.reclaim_idx, 0)
            for zone in node.zones
            if zone.idx <= sc.reclaim_idx and zone.managed
        )
    )


def _high(zone: Zone) -> int:
    return zone.watermark[HIGH] + zone.watermark_boost


def inactive_is_low(node: Pglist, inactive: int, active: int) -> bool:
    """Return whether active pages should move down (same name in Linux).

    Below 1 GiB of pages the two lists are kept at 1 : 1, above at the root of ten times the GiB.
    """
    low, high = node.nr(inactive), node.nr(active)
    gib = (low + high) >> 18
    ratio = max(int((10 * gib) ** 0.5), 1) if gib else 1
    return low * ratio < high


def _shrink_active_list(node: Pglist, sc: ScanControl, inactive: int, active: int) -> None:
    """Move the oldest active pages to the inactive list (same name in Linux)."""
    for idx, pages in node.lists[active].items():
        if idx > sc.reclaim_idx:
            continue
        for _ in range(min(len(pages), max(len(pages) >> sc.priority, MIN_LRU_BATCH))):
            pfn = pages.pop_oldest()
            zone = node.zone_of(pfn)
            dirty = zone.mem_map.lru[pfn] & LRU_DIRTY
            node.lists[inactive][idx].add(pfn)
            zone.mem_map.lru[pfn] = inactive | dirty


def _shrink_inactive_list(kernel: Machine, node: Pglist, sc: ScanControl, lru: int) -> int:
    """Take one batch of the oldest pages of the highest zone that has any, and free what can be.

    Returns how many pages were looked at. Pages that cannot be freed now go to the young end; where
    none of a batch can, lower zones are looked at as well.
    """
    seen = 0
    for idx in sorted(node.lists[lru], reverse=True):
        pages = node.lists[lru][idx]
        if idx > sc.reclaim_idx or not pages:
            continue
        scanned = min(len(pages), MIN_LRU_BATCH)
        who = "kswapd" if sc.kswapd else "direct"
        kernel.vm_events[f"pgscan_{who}"] += scanned
        sc.nr_scanned += scanned
        zone = node.zone_of(next(iter(pages.newer or pages.older)))
        freed = sum([_reclaim_page(kernel, zone, pages.pop_oldest(), lru, sc)
                     for _ in range(scanned)])  # fmt: skip
        kernel.vm_events[f"pgsteal_{who}"] += freed
        sc.nr_reclaimed += freed
        kernel.now += scanned * DROP_NS
        seen += scanned
        if freed:
            break
    return seen


def _reclaim_page(kernel: Machine, zone: Zone, pfn: int, lru: int, sc: ScanControl) -> bool:
    """Free one page that was taken off its list, or put it back as the youngest."""
    mem_map = zone.mem_map
    dirty = lru == INACTIVE_FILE and mem_map.lru[pfn] & LRU_DIRTY
    if (
        pfn in mem_map.refcount  # somebody uses it
        or (dirty and not sc.may_writepage)
        or (lru == INACTIVE_ANON and not kernel.nr_swap_pages)
    ):
        kernel.nodes[zone.nid].lists[lru][zone.idx].add(pfn)
        return False
    if dirty:
        kernel.now += WRITE_NS
        kernel.vm_events["nr_vmscan_write"] += 1
    elif lru == INACTIVE_ANON:
        kernel.now += WRITE_NS
        kernel.nr_swap_pages -= 1
        kernel.vm_events["pswpout"] += 1
        task = kernel.task_of(pfn)
        if task is not None:  # a page of tmpfs belongs to no task
            del task.anon[pfn]
            task.swapents += 1
            if not task.swapents % PAGES_PER_SWAP_NODE_PAGE:
                _add_swap_node(kernel, zone, task)
    mem_map.lru[pfn] = 0
    free_unref_page(zone, pfn, 0)
    return True


def _add_swap_node(kernel: Machine, zone: Zone, task: Task) -> None:
    """Take the page in which the kernel notes where a task's swapped pages went.

    Reclaim is allowed to use the reserves for it (PF_MEMALLOC).
    """
    pfn, _ = __rmqueue(zone, 0, MIGRATE_UNMOVABLE, ALLOC_NO_WATERMARKS)
    if pfn is not None:
        zone.mem_map.owner[pfn] = kernel.owner_number(task_owner(task))
        task.kernel_pages.append(pfn)


def _shrink_slab(kernel: Machine, node: Pglist, sc: ScanControl) -> None:
    """Ask the shrinkers for their share: twice the size >> priority (do_shrink_slab())."""
    share = min(len(node.slab), max((len(node.slab) >> sc.priority) * 2, 1))
    for _ in range(share):
        pfn = node.slab.pop_oldest()
        zone = node.zone_of(pfn)
        if zone.idx > sc.reclaim_idx:
            node.slab.add(pfn)
            continue
        kernel.vm_events["slabs_scanned"] += 1
        free_unref_page(zone, pfn, 0)
        sc.nr_reclaimed += 1


def zone_reclaimable_pages(kernel: Machine, zone: Zone) -> int:
    """Return how many of a zone's pages reclaim could free (same name in Linux).

    Where there is none, its free pages count: 6.12's stable series has this, so that a zone which
    is all slab is not given up too early.
    """
    lists = kernel.nodes[zone.nid].lists
    nr = len(lists[INACTIVE_FILE][zone.idx]) + len(lists[ACTIVE_FILE][zone.idx])
    if kernel.nr_swap_pages:
        nr += len(lists[INACTIVE_ANON][zone.idx]) + len(lists[ACTIVE_ANON][zone.idx])
    return nr or zone.free_pages


# -- direct reclaim -------------------------------------------------------------------------------


def try_to_free_pages(kernel: Machine, context: AllocContext, order: int) -> int:
    """Free pages on behalf of a request that waits for them; return how many (same name in Linux).

    Content with 32 pages. Each pass looks at twice as much as the one before, from 1/4096 of the
    lists to all of them.
    """
    gfp = context.gfp
    sc = ScanControl(
        order, context.highest_zoneidx, SWAP_CLUSTER_MAX,
        may_writepage=bool(gfp & flags.__GFP_FS), may_swap=bool(gfp & flags.__GFP_IO),
        may_enter_fs=bool(gfp & flags.__GFP_FS),
    )  # fmt: skip
    name = kernel.zone_names[context.highest_zoneidx]
    kernel.vm_events[f"allocstall_{name.lower()}"] += 1
    reclaim_enables_interrupts(kernel)
    if kernel.trace is not None:
        kernel.trace.event(
            "mm_vmscan_direct_reclaim_begin", order=order, gfp_flags=flags.decode(gfp)
        )
    progress = _do_try_to_free_pages(kernel, context, sc)
    if kernel.trace is not None:
        kernel.trace.event("mm_vmscan_direct_reclaim_end", nr_reclaimed=sc.nr_reclaimed)
    return progress


def _do_try_to_free_pages(kernel: Machine, context: AllocContext, sc: ScanControl) -> int:
    """Go through the priorities, every node once in each (do_try_to_free_pages())."""
    strict = flags.GFP_KERNEL | flags.__GFP_HARDWALL  # reclaim stays inside of the cpuset
    zones = [z for z in context.zonelist if cpuset_node_allowed(kernel, z.nid, strict)]
    for priority in range(DEF_PRIORITY, -1, -1):
        sc.priority = priority
        ready = [zone for zone in zones if _compaction_ready(zone, context.gfp, sc)]
        for nid in dict.fromkeys(zone.nid for zone in zones if zone not in ready):
            shrink_node(kernel, kernel.nodes[nid], sc)
        if sc.nr_reclaimed >= sc.nr_to_reclaim:
            break
        if ready:
            return sc.nr_reclaimed or 1
    return sc.nr_reclaimed


def _compaction_ready(zone: Zone, gfp: int, sc: ScanControl) -> bool:
    """Return whether a costly request should compact a zone now instead of freeing more there."""
    if sc.order <= PAGE_ALLOC_COSTLY_ORDER or not gfp & flags.__GFP_IO:
        return False
    mark = zone.watermark[MIN] + zone.watermark_boost
    if zone_watermark_ok(zone, sc.order, mark, sc.reclaim_idx, 0):
        return True
    if compaction_suitable(zone, sc.order, sc.reclaim_idx) == COMPACT_SKIPPED:
        return False
    mark = _high(zone) + (2 << sc.order)
    return zone_watermark_ok(zone, 0, mark, sc.reclaim_idx, 0)
