"""Compaction: pages that can move are moved together, so that big free blocks come back.

A migrate scanner walks up from a zone's start and collects movable pages; a free scanner walks down
from its end and collects free pages for them; where they meet, the zone is done (Linux:
mm/compaction.c). `slowpath` compacts for a request, wakeup_kcompactd() in the background.
Simplified: the pages that can move are those on LRU lists; no skip hints and no fast searches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm.buddy import del_page_from_free_list, free_one_page
from kmemkit.mm.fallback import find_suitable_fallback, should_try_claim_block
from kmemkit.mm.internal import ALLOC_WMARK_MASK
from kmemkit.mm.migrate import migrate_folio
from kmemkit.mm.mmzone import (
    ALLOCATED,
    FREE,
    LOW,
    MIGRATE_MOVABLE,
    MIGRATE_TYPES,
    MIN,
    NO_PAGEBLOCK,
    PAGE_ALLOC_COSTLY_ORDER,
    Zone,
)
from kmemkit.mm.pcp import drain_pages_zone
from kmemkit.mm.swap import LRU_MASK, UNEVICTABLE, Pglist
from kmemkit.mm.watermark import __zone_watermark_ok, zone_watermark_ok

if TYPE_CHECKING:
    from kmemkit.mm.freelist import AllocContext
    from kmemkit.mm.machine import Machine

__all__ = (
    "COMPACT_COMPLETE",
    "COMPACT_DEFERRED",
    "COMPACT_NOT_SUITABLE_ZONE",
    "COMPACT_PRIO_ASYNC",
    "COMPACT_PRIO_SYNC_FULL",
    "COMPACT_PRIO_SYNC_LIGHT",
    "COMPACT_RESULTS",
    "COMPACT_SKIPPED",
    "COMPACT_SUCCESS",
    "CompactControl",
    "compact_zone",
    "compaction_defer_reset",
    "compaction_suitable",
    "compaction_zonelist_suitable",
    "fragmentation_index",
    "kcompactd",
    "try_to_compact_pages",
    "wakeup_kcompactd",
)

(
    COMPACT_NOT_SUITABLE_ZONE, COMPACT_SKIPPED, COMPACT_DEFERRED, COMPACT_NO_SUITABLE_PAGE,
    COMPACT_CONTINUE, COMPACT_COMPLETE, COMPACT_PARTIAL_SKIPPED, COMPACT_CONTENDED, COMPACT_SUCCESS,
) = range(9)  # fmt: skip
#: As the tracepoints print them.
COMPACT_RESULTS = (
    "not_suitable_zone", "skipped", "deferred", "no_suitable_page", "continue", "complete",
    "partial_skipped", "contended", "success",
)  # fmt: skip
COMPACT_PRIO_SYNC_FULL, COMPACT_PRIO_SYNC_LIGHT, COMPACT_PRIO_ASYNC = range(3)
COMPACT_MAX_DEFER_SHIFT = 6


@dataclass(slots=True)
class CompactControl:
    """One run over one zone (struct compact_control). order -1 compacts all there is."""

    zone: Zone
    order: int
    migratetype: int
    priority: int
    alloc_flags: int
    highest_zoneidx: int
    direct: bool = True
    migrate_pfn: int = 0
    free_pfn: int = 0
    #: free pages collected as targets, the next one last
    freepages: list[int] = field(default_factory=list)
    migrated: int = 0


# -- whether --------------------------------------------------------------------------------------


def fragmentation_index(zone: Zone, order: int) -> int:
    """Return why an order would fail: towards 0 for lack of memory, towards 1000 for lack of size.

    -1000 says that it would not fail. Linux: mm/vmstat.c __fragmentation_index().
    """
    blocks = pages = 0
    for current in range(zone.max_order + 1):
        first = current * MIGRATE_TYPES
        count = sum(
            len(zone.free_head[area]) + len(zone.free_tail[area])
            for area in range(first, first + MIGRATE_TYPES)
        )
        if count and current >= order:
            return -1000
        blocks += count
        pages += count << current
    return 1000 - (1000 + pages * 1000 // (1 << order)) // blocks if blocks else 0


def compaction_suitable(zone: Zone, order: int, highest_zoneidx: int) -> int:
    """Return COMPACT_CONTINUE if compacting makes sense, else COMPACT_SKIPPED.

    It needs free pages to move others into, twice the size of the block; and for a costly order the
    zone must lack size more than memory (same name in Linux).
    """
    costly = order > PAGE_ALLOC_COSTLY_ORDER
    mark = zone.watermark[LOW if costly else MIN] + zone.watermark_boost + (2 << order)
    ok = zone_watermark_ok(zone, 0, mark, highest_zoneidx, 0)
    if zone.trace is not None:
        zone.trace.note(
            "compact_suitable" if ok else "compact_skipped",
            zone=zone.name, free=zone.vm_stat, mark=mark - (2 << order), gap=2 << order,
            sum=mark + zone.lowmem_reserve[highest_zoneidx], order=order,
            reserve=zone.lowmem_reserve[highest_zoneidx], name="low" if costly else "min",
        )  # fmt: skip
    if ok and costly:
        index = fragmentation_index(zone, order)
        if 0 <= index <= zone.vm.extfrag_threshold:
            if zone.trace is not None:
                zone.trace.note("compact_index", zone=zone.name, index=index,
                                threshold=zone.vm.extfrag_threshold)  # fmt: skip
            ok = False
    return COMPACT_CONTINUE if ok else COMPACT_SKIPPED


def compaction_deferred(zone: Zone, order: int) -> bool:
    """Return whether this attempt is to be left out, after earlier failures (same name)."""
    state = zone.compact
    if order < state.order_failed:
        return False
    limit = 1 << state.shift
    state.considered = min(state.considered + 1, limit)
    return state.considered < limit


def defer_compaction(zone: Zone, order: int) -> None:
    """Note a failure: twice as many attempts are left out from now on (same name in Linux)."""
    state = zone.compact
    state.considered = 0
    state.shift = min(state.shift + 1, COMPACT_MAX_DEFER_SHIFT)
    state.order_failed = min(state.order_failed, order)


def compaction_defer_reset(zone: Zone, order: int, success: bool) -> None:
    """Note that an order came out well (same name in Linux)."""
    state = zone.compact
    if success:
        state.considered = state.shift = 0
    if order >= state.order_failed:
        state.order_failed = order + 1


def compaction_zonelist_suitable(kernel: Machine, context: AllocContext, order: int) -> bool:
    """Return whether reclaim could free enough for compaction to make sense (same name)."""
    from kmemkit.mm.vmscan import zone_reclaimable_pages

    for zone in context.zonelist:
        available = zone_reclaimable_pages(kernel, zone) // order + zone.free_pages
        costly = order > PAGE_ALLOC_COSTLY_ORDER
        mark = zone.watermark[LOW if costly else MIN] + zone.watermark_boost + (2 << order)
        if __zone_watermark_ok(zone, 0, mark, context.highest_zoneidx, 0, available):
            return True
    return False


# -- for a request --------------------------------------------------------------------------------


def try_to_compact_pages(
    kernel: Machine, context: AllocContext, order: int, alloc_flags: int, priority: int
) -> int:
    """Compact the request's zones until one has the block; return the best result (same name)."""
    if not context.gfp & flags.__GFP_IO:
        return COMPACT_SKIPPED
    result = COMPACT_SKIPPED
    for zone in context.zonelist:
        if priority > COMPACT_PRIO_SYNC_FULL and compaction_deferred(zone, order):
            if zone.trace is not None:
                left = (1 << zone.compact.shift) - zone.compact.considered - 1
                zone.trace.note("compact_deferred", zone=zone.name, order=order, left=left)
            result = max(result, COMPACT_DEFERRED)
            continue
        cc = CompactControl(
            zone, order, context.migratetype, priority, alloc_flags, context.highest_zoneidx
        )
        status = compact_zone(kernel, cc)
        result = max(result, status)
        if status == COMPACT_SUCCESS or priority != COMPACT_PRIO_ASYNC:
            _note_result(zone, order, status)
        if status == COMPACT_SUCCESS:
            break
    return result


def wakeup_kcompactd(kernel: Machine, node: Pglist, order: int, highest_zoneidx: int) -> None:
    """Wake the node's kcompactd to make a block of `order`, if a zone has room for that.

    Linux: same name, kcompactd_node_suitable(). When it gets a CPU is the scheduler's business.
    """
    zones = [zone for zone in node.zones if zone.idx <= highest_zoneidx and zone.managed]
    if order and any(_lacks_block(zone, order, highest_zoneidx) for zone in zones):
        node.kcompactd_order = max(node.kcompactd_order, order)
        node.kcompactd_highest_zoneidx = max(node.kcompactd_highest_zoneidx, highest_zoneidx)


def _lacks_block(zone: Zone, order: int, highest_zoneidx: int) -> bool:
    """Return whether a zone has no block of `order` to give, but room to make one."""
    mark = zone.watermark[MIN] + zone.watermark_boost
    if zone_watermark_ok(zone, order, mark, highest_zoneidx, 0):
        return False
    return compaction_suitable(zone, order, highest_zoneidx) == COMPACT_CONTINUE


def kcompactd(kernel: Machine, node: Pglist) -> None:
    """Make the block that a node's kcompactd was woken for (kcompactd_do_work())."""
    order, highest = node.kcompactd_order, node.kcompactd_highest_zoneidx
    node.kcompactd_order = node.kcompactd_highest_zoneidx = 0
    kernel.vm_events["compact_daemon_wake"] += 1
    for zone in node.zones:
        if zone.idx > highest or not zone.managed or compaction_deferred(zone, order):
            continue
        cc = CompactControl(
            zone, order, MIGRATE_MOVABLE, COMPACT_PRIO_SYNC_LIGHT, MIN, highest, False
        )
        with kernel.quietly():
            if _lacks_block(zone, order, highest):
                _note_result(zone, order, compact_zone(kernel, cc))


def _note_result(zone: Zone, order: int, status: int) -> None:
    """Let a zone be compacted again soon, or leave it alone for a while."""
    if status == COMPACT_SUCCESS:
        compaction_defer_reset(zone, order, False)
    elif status in (COMPACT_COMPLETE, COMPACT_PARTIAL_SKIPPED):
        defer_compaction(zone, order)


# -- one zone -------------------------------------------------------------------------------------


def compact_zone(kernel: Machine, cc: CompactControl) -> int:
    """Run both scanners over a zone until a block exists or they meet (same name in Linux)."""
    zone, trace = cc.zone, kernel.trace
    if cc.order >= 0:
        mark = zone.watermark[cc.alloc_flags & ALLOC_WMARK_MASK] + zone.watermark_boost
        if zone_watermark_ok(zone, cc.order, mark, cc.highest_zoneidx, cc.alloc_flags):
            return COMPACT_SUCCESS
        if compaction_suitable(zone, cc.order, cc.highest_zoneidx) == COMPACT_SKIPPED:
            return COMPACT_SKIPPED
    size = 1 << zone.pageblock_order
    cc.migrate_pfn = zone.start_pfn
    cc.free_pfn = (zone.end_pfn - 1) // size * size
    if trace is not None:
        trace.event(
            "mm_compaction_begin", zone_start=f"{zone.start_pfn:#x}",
            migrate_pfn=f"{cc.migrate_pfn:#x}", free_pfn=f"{cc.free_pfn:#x}",
            zone_end=f"{zone.end_pfn:#x}", sync=int(cc.priority != COMPACT_PRIO_ASYNC),
        )  # fmt: skip
    result = COMPACT_CONTINUE
    while result == COMPACT_CONTINUE:
        result = _compact_pageblock(kernel, cc)
    with kernel.quietly():
        for pfn in cc.freepages:
            free_one_page(zone, pfn, 0)
    cc.freepages.clear()
    if trace is not None:
        trace.event(
            "mm_compaction_end", zone_start=f"{zone.start_pfn:#x}",
            migrate_pfn=f"{cc.migrate_pfn:#x}", free_pfn=f"{cc.free_pfn:#x}",
            zone_end=f"{zone.end_pfn:#x}", sync=int(cc.priority != COMPACT_PRIO_ASYNC),
            status=COMPACT_RESULTS[result],
        )  # fmt: skip
    return result


def _compact_pageblock(kernel: Machine, cc: CompactControl) -> int:
    """Empty one pageblock as far as the free scanner finds room; return how things stand."""
    zone = cc.zone
    first, end = zone.block_range(cc.migrate_pfn)
    if end > cc.free_pfn:
        return COMPACT_COMPLETE
    pages = isolate_migratepages(kernel, cc, max(first, zone.start_pfn), end)
    with kernel.quietly():
        for pfn in pages:
            if not cc.freepages:
                isolate_freepages(kernel, cc)
            if not cc.freepages:
                return COMPACT_COMPLETE
            migrate_folio(kernel, zone, pfn, cc.freepages.pop())
            cc.migrated += 1
        if pages:
            drain_pages_zone(zone)
    cc.migrate_pfn = end
    return _compact_finished(cc)


def isolate_migratepages(kernel: Machine, cc: CompactControl, first: int, end: int) -> list[int]:
    """Return the movable pages of a pageblock, if pages should leave it (same name in Linux).

    A request that must not wait only empties pageblocks of its own type.
    """
    zone = cc.zone
    migratetype = zone.pageblock[first >> zone.pageblock_order]
    if migratetype == NO_PAGEBLOCK:
        return []
    if cc.direct and cc.priority == COMPACT_PRIO_ASYNC and migratetype != cc.migratetype:
        return []
    lru, pinned = zone.mem_map.lru, zone.mem_map.refcount
    pages = [
        pfn for pfn in range(first, end if lru else first)
        if 0 < lru[pfn] & LRU_MASK < UNEVICTABLE and pfn not in pinned
    ]  # fmt: skip
    kernel.vm_events["compact_migrate_scanned"] += end - first
    kernel.vm_events["compact_isolated"] += len(pages)
    if kernel.trace is not None:
        kernel.trace.event(
            "mm_compaction_isolate_migratepages", start_pfn=f"{first:#x}", end_pfn=f"{end:#x}",
            nr_scanned=end - first, nr_taken=len(pages),
        )  # fmt: skip
    return pages


def isolate_freepages(kernel: Machine, cc: CompactControl) -> None:
    """Take the free pages of the next pageblock from above that has any (same name in Linux).

    Only movable pageblocks are filled, and none that is free as a whole.
    """
    zone = cc.zone
    size = 1 << zone.pageblock_order
    while cc.free_pfn > cc.migrate_pfn:
        first, end = cc.free_pfn, min(cc.free_pfn + size, zone.end_pfn)
        cc.free_pfn -= size
        if zone.pageblock[first >> zone.pageblock_order] != MIGRATE_MOVABLE:
            continue
        pages = _take_free(zone, first, end)
        kernel.vm_events["compact_free_scanned"] += end - first
        if pages:
            if kernel.trace is not None:
                kernel.trace.event(
                    "mm_compaction_isolate_freepages", start_pfn=f"{first:#x}",
                    end_pfn=f"{end:#x}", nr_scanned=end - first, nr_taken=len(pages),
                )  # fmt: skip
            cc.freepages = pages
            return


def _take_free(zone: Zone, first: int, end: int) -> list[int]:
    """Take a pageblock's free blocks off their lists, as single pages; leave a whole one alone.

    The pages are for popping from the end: the smallest blocks are used up first, each from its
    lowest address on (compaction_alloc()).
    """
    page, pfn = zone.page, first
    blocks: list[tuple[int, int]] = []
    while pfn < end:
        byte = page[pfn]
        if byte & 0xF0 != FREE:
            pfn += 1
            continue
        order = byte & 15
        if order >= zone.pageblock_order:
            return []
        del_page_from_free_list(zone, pfn, order, MIGRATE_MOVABLE)
        page[pfn : pfn + (1 << order)] = bytes([ALLOCATED | MIGRATE_MOVABLE << 4]) * (1 << order)
        blocks.append((order, pfn))
        pfn += 1 << order
    pages = [one for order, head in sorted(blocks) for one in range(head, head + (1 << order))]
    return pages[::-1]


def _compact_finished(cc: CompactControl) -> int:
    """Return whether the wanted block exists now, or the scanners met (compact_finished())."""
    zone = cc.zone
    if cc.migrate_pfn >= cc.free_pfn:
        return COMPACT_COMPLETE
    if cc.order < 0:
        return COMPACT_CONTINUE
    for order in range(cc.order, zone.max_order + 1):
        if not zone.is_free_list_empty(order, cc.migratetype):
            return COMPACT_SUCCESS
        claims = should_try_claim_block(zone, order, cc.migratetype)
        if claims and find_suitable_fallback(zone, order, cc.migratetype) is not None:
            return COMPACT_SUCCESS
    return COMPACT_CONTINUE
