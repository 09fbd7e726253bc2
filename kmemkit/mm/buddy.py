"""The buddy allocator of one zone: split, merge, and which list a block comes from or goes to.

Called by `pcp` (drain), `fallback` (allocation) and `page_alloc` (frees that the per-CPU lists do
not take). In Linux all of it is in page_alloc.c. Simplified: no locking (the caller is alone), no
capture by a direct compactor.

A block is named by the pfn of its first page. Functions return None where Linux returns NULL.
"""

from __future__ import annotations

from kmemkit.mm.mmzone import (
    ALLOCATED,
    FREE,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_PCPTYPES,
    MIGRATE_TYPES,
    Zone,
    pcp_allowed_order,
)
from kmemkit.mm.trace import Trace

__all__ = (
    "__free_one_page",
    "__rmqueue_smallest",
    "account_freepages",
    "del_page_from_free_list",
    "expand",
    "free_one_page",
    "set_pageblock_types",
    "unlink_block",
)


def account_freepages(zone: Zone, pages: int, migratetype: int) -> None:
    """Count pages (fewer, if negative) into NR_FREE_PAGES (same name in Linux).

    The CPU keeps the change to itself until it exceeds the zone's threshold, which is why the
    watermark check can read a slightly stale number (mm/vmstat.c __mod_zone_page_state()).
    """
    if migratetype == MIGRATE_ISOLATE:
        return
    diff = zone.pcp.stat_diff + pages
    if -zone.stat_threshold <= diff <= zone.stat_threshold:
        zone.pcp.stat_diff = diff
    else:
        zone.vm_stat += diff
        zone.pcp.stat_diff = 0
    if migratetype == MIGRATE_HIGHATOMIC:
        zone.nr_free_highatomic += pages


# -- free ---------------------------------------------------------------------------------------


def free_one_page(zone: Zone, pfn: int, order: int, *, to_tail: bool = False) -> None:
    """Give a block back, pageblock by pageblock, each part with its own type.

    Linux: mm/page_alloc.c free_one_page(), split_large_buddy(). The parts merge again right away
    where their types allow it.
    """
    step = min(order, zone.pageblock_order)
    for part in range(pfn, pfn + (1 << order), 1 << step):
        migratetype = zone.pageblock[part >> zone.pageblock_order]
        __free_one_page(zone, part, step, migratetype, to_tail)


def __free_one_page(
    zone: Zone, pfn: int, order: int, migratetype: int, to_tail: bool = False
) -> None:
    """Put a block on its free list, merged with its buddies as far as they are free.

    Linux: mm/page_alloc.c __free_one_page(). The merged block goes to the head of its list, so that
    it is handed out again soon; but to the tail if the block it would merge with next is likely to
    come back whole (buddy_merge_likely()): its own buddy is busy, but their parent's buddy is free.
    """
    page, trace = zone.page, zone.trace
    size = 1 << order
    if migratetype < MIGRATE_HIGHATOMIC:  # account_freepages() by hand: this line is hot
        pcp = zone.pcp
        pcp.stat_diff = diff = pcp.stat_diff + size
        if diff > zone.stat_threshold:
            zone.vm_stat += diff
            pcp.stat_diff = 0
    else:
        account_freepages(zone, size, migratetype)

    free = FREE | order  # what the buddy's byte must be
    area = order * MIGRATE_TYPES + migratetype
    top = zone.max_order
    while order < top:
        buddy = pfn ^ size
        if page[buddy] != free or not zone.start_pfn <= buddy < zone.end_pfn:
            if trace is not None:
                trace.note("buddy_busy", pfn=pfn, order=order, buddy=buddy)
            break
        if order >= zone.pageblock_order and not _join_pageblocks(zone, buddy, order, migratetype):
            break
        blocks = zone.free_head[area]
        if buddy in blocks:
            del blocks[buddy]
        else:
            del zone.free_tail[area][buddy]
        page[pfn | size] = 0  # the upper half is a head no more; the lower one is written below
        if trace is not None:
            trace.note("merge", pfn=pfn, buddy=buddy, order=order, merged=pfn & buddy)
        pfn &= buddy
        order += 1
        size <<= 1
        free += 1
        area += MIGRATE_TYPES

    page[pfn] = free
    if order < top - 1 and page[(pfn & ~size) ^ size << 1] == free + 1:
        uncle = (pfn & ~size) ^ size << 1
        to_tail = to_tail or zone.start_pfn <= uncle < zone.end_pfn
    if to_tail:
        zone.free_tail[area][pfn] = None
    else:
        zone.free_head[area][pfn] = None
    if trace is not None:
        trace.note("to_tail" if to_tail else "to_head", pfn=pfn, order=order, type=migratetype)


def _join_pageblocks(zone: Zone, buddy: int, order: int, migratetype: int) -> bool:
    """Let a free buddy of pageblock order or more take the type of the block it merges with.

    Returns False where either type never merges with another (highatomic, isolated).
    """
    other = zone.pageblock[buddy >> zone.pageblock_order]
    if other == migratetype:
        return True
    if other >= MIGRATE_PCPTYPES or migratetype >= MIGRATE_PCPTYPES:
        if zone.trace is not None:
            zone.trace.note("buddy_other_type", buddy=buddy, order=order, type=other)
        return False
    unlink_block(zone, buddy, order * MIGRATE_TYPES + other)
    zone.free_head[order * MIGRATE_TYPES + migratetype][buddy] = None
    set_pageblock_types(zone, buddy, order, migratetype)
    return True


# -- allocate from one type -----------------------------------------------------------------------


def __rmqueue_smallest(zone: Zone, order: int, migratetype: int) -> int | None:
    """Take the head of the first non-empty list of `migratetype` that is big enough.

    Linux: mm/page_alloc.c __rmqueue_smallest(), page_del_and_expand(). What is too much is split
    off: see expand().
    """
    free_head, trace = zone.free_head, zone.trace
    area = order * MIGRATE_TYPES + migratetype
    blocks = free_head[area]
    current = order
    while not blocks:
        if zone.free_tail[area]:
            blocks = _turn(zone, area)
            break
        if trace is not None:
            trace.note("list_empty", order=current, type=migratetype)
        if current == zone.max_order:
            return None
        current += 1
        area += MIGRATE_TYPES
        blocks = free_head[area]
    pfn, _ = blocks.popitem()
    if trace is not None:
        _trace_taken(trace, pfn, order, current, migratetype)
    if current > order:
        expand(zone, pfn, order, current, migratetype)
    if migratetype < MIGRATE_HIGHATOMIC:  # account_freepages() by hand, as in __free_one_page()
        pcp = zone.pcp
        pcp.stat_diff = diff = pcp.stat_diff - (1 << order)
        if diff + zone.stat_threshold < 0:
            zone.vm_stat += diff
            pcp.stat_diff = 0
    else:
        account_freepages(zone, -(1 << order), migratetype)
    zone.page[pfn] = ALLOCATED | order
    return pfn


def _turn(zone: Zone, area: int) -> dict[int, None]:
    """Turn a list's tail part round, under its empty head part, to be popped at the head."""
    tail = zone.free_tail[area]
    zone.free_head[area] = blocks = dict.fromkeys(reversed(tail))
    tail.clear()
    return blocks


def _trace_taken(trace: Trace, pfn: int, order: int, current: int, migratetype: int) -> None:
    """Record that a block left its list (mm_page_alloc_zone_locked)."""
    trace.note("list_taken", order=current, type=migratetype, pfn=pfn)
    refill = pcp_allowed_order(order) and migratetype < MIGRATE_PCPTYPES
    trace.event(
        "mm_page_alloc_zone_locked",
        pfn=f"{pfn:#x}", order=order, migratetype=migratetype, percpu_refill=int(refill),
    )  # fmt: skip


def expand(zone: Zone, pfn: int, low: int, high: int, migratetype: int) -> None:
    """Halve a block from order `high` down to `low`; every upper half goes to the head of its list.

    Linux: mm/page_alloc.c expand(). The caller keeps the lowest piece, so successive requests come
    out in ascending address order.
    """
    page, free_head, trace = zone.page, zone.free_head, zone.trace
    area = high * MIGRATE_TYPES + migratetype
    size = 1 << high
    while high > low:
        high -= 1
        area -= MIGRATE_TYPES
        size >>= 1
        upper = pfn + size
        free_head[area][upper] = None
        page[upper] = FREE | high
        if trace is not None:
            trace.note("split", pfn=pfn, order=high + 1, half=high, upper=upper)


def del_page_from_free_list(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    """Take one known block off its list, wherever it stands in it, and out of the count."""
    unlink_block(zone, pfn, order * MIGRATE_TYPES + migratetype)
    account_freepages(zone, -(1 << order), migratetype)


def unlink_block(zone: Zone, pfn: int, area: int) -> None:
    """Take one known block off its list."""
    if pfn in zone.free_head[area]:
        del zone.free_head[area][pfn]
    else:
        del zone.free_tail[area][pfn]


def set_pageblock_types(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    """Type every pageblock that a block of pageblock order or more covers."""
    first = pfn >> zone.pageblock_order
    for block in range(first, first + (1 << order - zone.pageblock_order)):
        zone.pageblock[block] = migratetype
