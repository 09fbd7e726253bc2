"""The buddy allocator of one zone: split, merge, and which list a block comes from or goes to.

Called by `pcp` (drain), `fallback` (allocation) and `page_alloc` (frees that the per-CPU lists do not
take). In Linux all of it is in page_alloc.c. Simplified: no locking (the caller is alone), no capture
by a direct compactor.

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
)

__all__ = (
    "__free_one_page",
    "__rmqueue_smallest",
    "account_freepages",
    "buddy_merge_likely",
    "del_page_from_free_list",
    "expand",
    "free_one_page",
    "set_pageblock_types",
)

def account_freepages(zone: Zone, pages: int, migratetype: int) -> None:
    """Add `pages` (may be negative) to NR_FREE_PAGES (mm/page_alloc.c account_freepages()).

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
    come back whole.
    """
    page = zone.page
    trace = zone.trace
    # account_freepages() by hand: this is the hottest line of the simulator
    pcp = zone.pcp
    diff = pcp.stat_diff + (1 << order)
    if diff <= zone.stat_threshold and migratetype < MIGRATE_HIGHATOMIC:
        pcp.stat_diff = diff
    elif migratetype < MIGRATE_HIGHATOMIC:
        zone.vm_stat += diff
        pcp.stat_diff = 0
    else:
        account_freepages(zone, 1 << order, migratetype)

    page[pfn] = 0
    while order < zone.max_order:
        buddy = pfn ^ (1 << order)
        if buddy >= zone.end_pfn or page[buddy] != FREE | order or buddy < zone.start_pfn:
            if trace is not None:
                trace.note("buddy_busy", pfn=pfn, order=order, buddy=buddy)
            break
        buddy_type = migratetype
        if order >= zone.pageblock_order:
            buddy_type = zone.pageblock[buddy >> zone.pageblock_order]
            if buddy_type != migratetype and not _mergeable(migratetype, buddy_type):
                if trace is not None:
                    trace.note("buddy_other_type", buddy=buddy, order=order, type=buddy_type)
                break
        area = order * MIGRATE_TYPES + buddy_type
        blocks = zone.free_head[area]
        if buddy in blocks:
            del blocks[buddy]
        else:
            del zone.free_tail[area][buddy]
        if buddy_type != migratetype:
            set_pageblock_types(zone, buddy, order, migratetype)
        page[buddy] = 0
        if trace is not None:
            trace.note("merge", pfn=pfn, buddy=buddy, order=order, merged=pfn & buddy)
        pfn &= buddy
        order += 1

    page[pfn] = FREE | order
    if to_tail or buddy_merge_likely(zone, pfn, order):
        zone.free_tail[order * MIGRATE_TYPES + migratetype][pfn] = None
        if trace is not None:
            trace.note("to_tail", pfn=pfn, order=order, type=migratetype)
    else:
        zone.free_head[order * MIGRATE_TYPES + migratetype][pfn] = None
        if trace is not None:
            trace.note("to_head", pfn=pfn, order=order, type=migratetype)


def buddy_merge_likely(zone: Zone, pfn: int, order: int) -> bool:
    """Return whether the buddy of the block's parent is free (mm/page_alloc.c, same name).

    Then only the block's own buddy is missing for a bigger merge, so the block had better stay:
    it goes to the list's tail.
    """
    if order >= zone.max_order - 1:
        return False
    parent = pfn & ~(1 << order)
    uncle = parent ^ (2 << order)
    return (
        zone.start_pfn <= uncle < zone.end_pfn and zone.page[uncle] == FREE | order + 1
    )


def _mergeable(one: int, other: int) -> bool:
    """Return whether pageblocks of these two types may form one block."""
    return one < MIGRATE_PCPTYPES and other < MIGRATE_PCPTYPES


# -- allocate from one type -----------------------------------------------------------------------


def __rmqueue_smallest(zone: Zone, order: int, migratetype: int) -> int | None:
    """Take the head of the first non-empty list of `migratetype` that is big enough.

    Linux: mm/page_alloc.c __rmqueue_smallest(), page_del_and_expand(). What is too much is split
    off: see expand().
    """
    area = order * MIGRATE_TYPES + migratetype
    free_head = zone.free_head
    trace = zone.trace
    for current in range(order, zone.max_order + 1):
        blocks = free_head[area]
        if not blocks and zone.free_tail[area]:
            blocks = _turn(zone, area)
        if blocks:
            pfn, _ = blocks.popitem()
            if trace is not None:
                trace.note("list_taken", order=current, type=migratetype, pfn=pfn)
            taken = 1 << order
            if current > order:
                expand(zone, pfn, order, current, migratetype)
            # account_freepages() by hand, as in __free_one_page()
            pcp = zone.pcp
            diff = pcp.stat_diff - taken
            if diff >= -zone.stat_threshold and migratetype < MIGRATE_HIGHATOMIC:
                pcp.stat_diff = diff
            elif migratetype < MIGRATE_HIGHATOMIC:
                zone.vm_stat += diff
                pcp.stat_diff = 0
            else:
                account_freepages(zone, -taken, migratetype)
            zone.page[pfn] = ALLOCATED | order
            return pfn
        if trace is not None:
            trace.note("list_empty", order=current, type=migratetype)
        area += MIGRATE_TYPES
    return None


def expand(zone: Zone, pfn: int, low: int, high: int, migratetype: int) -> None:
    """Halve a block from order `high` down to `low`; every upper half goes to the head of its list.

    Linux: mm/page_alloc.c expand(). The caller keeps the lowest piece, so successive requests come
    out in ascending address order.
    """
    area = high * MIGRATE_TYPES + migratetype
    while high > low:
        high -= 1
        area -= MIGRATE_TYPES
        upper = pfn + (1 << high)
        zone.free_head[area][upper] = None
        zone.page[upper] = FREE | high
        if zone.trace is not None:
            zone.trace.note("split", pfn=pfn, order=high + 1, half=high, upper=upper)


def _turn(zone: Zone, area: int) -> dict[int, None]:
    """Move a list's tail part under its empty head part, so that it can be popped at the head."""
    tail = zone.free_tail[area]
    zone.free_head[area] = blocks = dict.fromkeys(reversed(tail))
    tail.clear()
    return blocks


def _del_page_from_free_list(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    """Take one known block off its list, wherever in it it stands, and out of the count."""
    area = order * MIGRATE_TYPES + migratetype
    if pfn in zone.free_head[area]:
        del zone.free_head[area][pfn]
    else:
        del zone.free_tail[area][pfn]
    account_freepages(zone, -(1 << order), migratetype)


def del_page_from_free_list(zone: Zone, pfn: int, order: int, migratetype: int) -> None:
    """Take one known block off its list, wherever it stands in it, and out of the count."""
    _unlink(zone, pfn, order * MIGRATE_TYPES + migratetype)
    account_freepages(zone, -(1 << order), migratetype)


def _unlink(zone: Zone, pfn: int, area: int) -> None:
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
