"""Requests whose own lists are empty: claim a pageblock of another type, or steal one block of it.

`pcp` and `page_alloc` allocate through __rmqueue(); all below it keeps unlike pages apart for
as long as possible, so that big blocks can come back. Also here: the highatomic reserve, which is a
pageblock taken over for good reason. In Linux all of it is in page_alloc.c. Simplified: no CMA (not
configured on Debian).
"""

from __future__ import annotations

from collections.abc import Iterable

from kmemkit.mm.buddy import (
    __rmqueue_smallest,
    account_freepages,
    del_page_from_free_list,
    expand,
    set_pageblock_types,
)
from kmemkit.mm.internal import ALLOC_KSWAPD, ALLOC_NOFRAGMENT
from kmemkit.mm.mmzone import (
    ALLOCATED,
    FREE,
    HIGH,
    MIGRATE_HIGHATOMIC,
    MIGRATE_MOVABLE,
    MIGRATE_PCPTYPES,
    MIGRATE_RECLAIMABLE,
    MIGRATE_TYPES,
    MIGRATE_UNMOVABLE,
    ZONE_BOOSTED_WATERMARK,
    Zone,
)

__all__ = (
    "FALLBACKS",
    "RMQUEUE_NORMAL",
    "__rmqueue",
    "boost_watermark",
    "find_suitable_fallback",
    "move_freepages_block",
    "reserve_highatomic_pageblock",
    "should_try_claim_block",
    "try_to_claim_block",
    "unreserve_highatomic_pageblock",
)

#: Where a request of each type looks when its own lists are empty, in order.
FALLBACKS = {
    MIGRATE_UNMOVABLE: (MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE),
    MIGRATE_MOVABLE: (MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE),
    MIGRATE_RECLAIMABLE: (MIGRATE_UNMOVABLE, MIGRATE_MOVABLE),
}

RMQUEUE_NORMAL, RMQUEUE_STEAL = range(2)


def count_free_pages(zone: Zone, pfn: int) -> int:
    """Return how many pages of the pageblock around `pfn` are on buddy lists."""
    return sum(1 << order for _, order in _free_blocks(zone, pfn))


def _free_blocks(zone: Zone, pfn: int) -> list[tuple[int, int]]:
    """Return (pfn, order) of every free block that starts in the pageblock around `pfn`."""
    pfn, end = zone.block_range(pfn)
    page = zone.page
    blocks = []
    while pfn < end:
        byte = page[pfn]
        if byte & 0xF0 == FREE:
            blocks.append((pfn, byte & 15))
            pfn += 1 << (byte & 15)
        else:
            pfn += 1
    return blocks


def move_freepages_block(zone: Zone, pfn: int, old: int, new: int) -> int | None:
    """Move every free block of one pageblock to the lists of type `new`, and type the pageblock.

    Linux: mm/page_alloc.c move_freepages_block(). Each block goes to the tail of its new list.
    Returns the number of pages moved, or None (nothing done) where the pageblock reaches beyond
    the zone.
    """
    first, end = zone.block_range(pfn)
    if first < zone.start_pfn or end > zone.end_pfn:
        return None
    moved = 0
    for block, order in _free_blocks(zone, pfn):
        del_page_from_free_list(zone, block, order, old)
        zone.free_tail[order * MIGRATE_TYPES + new][block] = None
        account_freepages(zone, 1 << order, new)
        moved += 1 << order
    zone.pageblock[first >> zone.pageblock_order] = new
    return moved


# -- allocate from another type -------------------------------------------------------------------


def __rmqueue(
    zone: Zone, order: int, migratetype: int, alloc_flags: int, mode: int = RMQUEUE_NORMAL
) -> tuple[int | None, int]:
    """Take a block for `migratetype`: its own lists, then claim a pageblock, then steal one block.

    Linux: mm/page_alloc.c __rmqueue(). Returns (pfn or None, mode): a bulk refill passes the mode
    on, so that a batch which had to steal goes on stealing without searching again. (Before the
    6.12 stable series claim and steal were one function.)
    """
    if mode == RMQUEUE_NORMAL:
        pfn = __rmqueue_smallest(zone, order, migratetype)
        if pfn is None:
            pfn = __rmqueue_claim(zone, order, migratetype, alloc_flags)
        if pfn is not None:
            return pfn, RMQUEUE_NORMAL
    if not alloc_flags & ALLOC_NOFRAGMENT:
        pfn = __rmqueue_steal(zone, order, migratetype)
        if pfn is not None:
            return pfn, RMQUEUE_STEAL
    return None, mode


def should_try_claim_block(zone: Zone, order: int, migratetype: int) -> bool:
    """Return whether a free block is worth taking its whole pageblock over (same name in Linux).

    Big blocks are: they pay for the mixing. Small ones only if the request is of a kind that would
    otherwise scatter pages which never move through movable memory.
    """
    return (
        order >= zone.pageblock_order // 2
        or migratetype in (MIGRATE_UNMOVABLE, MIGRATE_RECLAIMABLE)
        or zone.vm.page_group_by_mobility_disabled
    )


def find_suitable_fallback(zone: Zone, order: int, migratetype: int) -> int | None:
    """Return the first fallback type with a free block of exactly `order`, or None."""
    for fallback in FALLBACKS.get(migratetype, ()):
        if not zone.is_free_list_empty(order, fallback):
            return fallback
    return None


def __rmqueue_claim(zone: Zone, order: int, migratetype: int, alloc_flags: int) -> int | None:
    """Look for the largest block of another type and take its pageblock over for this type.

    Linux: mm/page_alloc.c __rmqueue_claim().
    """
    lowest = order
    if alloc_flags & ALLOC_NOFRAGMENT:
        lowest = max(order, zone.pageblock_order)
    for current in range(zone.max_order, lowest - 1, -1):
        if not should_try_claim_block(zone, current, migratetype):
            if zone.trace is not None:
                zone.trace.note("claim_too_small", order=current, type=migratetype)
            break
        fallback = find_suitable_fallback(zone, current, migratetype)
        if fallback is None:
            if zone.trace is not None:
                zone.trace.note("no_fallback", order=current, type=migratetype)
            continue
        pfn = zone.first_block(current * MIGRATE_TYPES + fallback)
        assert pfn is not None
        taken = try_to_claim_block(zone, pfn, current, order, migratetype, fallback, alloc_flags)
        if taken is not None:
            _extfrag(zone, taken, order, current, migratetype, fallback)
            return taken
    return None


def try_to_claim_block(
    zone: Zone,
    pfn: int,
    current: int,
    order: int,
    migratetype: int,
    fallback: int,
    alloc_flags: int,
) -> int | None:
    """Take over the pageblock(s) of one free block, if enough of them is free or of a like kind.

    Linux: mm/page_alloc.c try_to_claim_block(). Returns the pfn for the request, or None.
    """
    trace = zone.trace
    if current >= zone.pageblock_order:
        if trace is not None:
            trace.note("claim_whole", pfn=pfn, order=current, type=fallback, new=migratetype)
        del_page_from_free_list(zone, pfn, current, fallback)
        set_pageblock_types(zone, pfn, current, migratetype)
        expand(zone, pfn, order, current, migratetype)
        zone.page[pfn] = ALLOCATED | order
        account_freepages(zone, (1 << current) - (1 << order), migratetype)
        return pfn
    if boost_watermark(zone) and alloc_flags & ALLOC_KSWAPD:
        zone.flags |= ZONE_BOOSTED_WATERMARK
    first, end = zone.block_range(pfn)
    if first < zone.start_pfn or end > zone.end_pfn:
        if trace is not None:
            trace.note("claim_straddles", pfn=pfn, first=first, last=end - 1)
        return None
    free = count_free_pages(zone, pfn)
    alike = _alike_pages(zone, first, free, migratetype, fallback)
    half = 1 << zone.pageblock_order - 1
    enough = free + alike >= half or zone.vm.page_group_by_mobility_disabled
    if trace is not None:
        trace.note(
            "claim_yes" if enough else "claim_no",
            pfn=pfn, first=first, type=fallback, new=migratetype, free=free, alike=alike,
            sum=free + alike, half=half,
        )  # fmt: skip
    if not enough:
        return None
    move_freepages_block(zone, pfn, fallback, migratetype)
    return __rmqueue_smallest(zone, order, migratetype)


def _alike_pages(zone: Zone, first: int, free: int, migratetype: int, fallback: int) -> int:
    """Return how many allocated pages of a pageblock go well with the type that wants it."""
    size = 1 << zone.pageblock_order
    movable = zone.movable.get(first >> zone.pageblock_order, 0)
    movable += zone.mem_map.lru_pages(first, first + size)
    if migratetype == MIGRATE_MOVABLE:
        return movable
    # Unmovable and reclaimable pages can't be told apart, so a block of the other of these two
    # types counts as unlike; in a movable block what is neither free nor movable is alike.
    if fallback == MIGRATE_MOVABLE:
        return size - free - movable
    return 0


def __rmqueue_steal(zone: Zone, order: int, migratetype: int) -> int | None:
    """Take the smallest big-enough block of another type; its pageblock keeps its type.

    Linux: mm/page_alloc.c __rmqueue_steal(). The split-off rest stays on the other type's lists.
    """
    for current in range(order, zone.max_order + 1):
        fallback = find_suitable_fallback(zone, current, migratetype)
        if fallback is not None:
            if zone.trace is not None:
                zone.trace.note("steal", order=current, type=fallback, new=migratetype)
            pfn = __rmqueue_smallest(zone, order, fallback)
            assert pfn is not None
            _extfrag(zone, pfn, order, current, migratetype, fallback)
            return pfn
        if zone.trace is not None:
            zone.trace.note("no_fallback", order=current, type=migratetype)
    return None


def _extfrag(
    zone: Zone, pfn: int, order: int, current: int, migratetype: int, fallback: int
) -> None:
    """Record that a request was served from another type (mm_page_alloc_extfrag)."""
    if zone.trace is not None:
        zone.trace.event(
            "mm_page_alloc_extfrag",
            pfn=f"{pfn:#x}",
            alloc_order=order,
            fallback_order=current,
            pageblock_order=zone.pageblock_order,
            alloc_migratetype=migratetype,
            fallback_migratetype=fallback,
            fragmenting=int(current < zone.pageblock_order),
            change_ownership=int(zone.pageblock[pfn >> zone.pageblock_order] == migratetype),
        )


def boost_watermark(zone: Zone) -> bool:
    """Raise the zone's marks for a while, because types are about to mix in a pageblock.

    Linux: mm/page_alloc.c boost_watermark(). kswapd then frees more than usual, so that the next
    request finds a block of its own type. Returns whether the zone is boosted (zones of less than
    four pageblocks never are).
    """
    factor = zone.vm.watermark_boost_factor
    block = 1 << zone.pageblock_order
    limit = zone.watermark[HIGH] * factor // 10000
    if not limit or zone.managed < 4 * block:
        return False
    limit = max(block, limit)
    boost = min(zone.watermark_boost + block, limit)
    if zone.trace is not None and boost != zone.watermark_boost:
        zone.trace.note("boost", was=zone.watermark_boost, now=boost, limit=limit)
    zone.watermark_boost = boost
    return True


# -- highatomic reserve ---------------------------------------------------------------------------


def reserve_highatomic_pageblock(zone: Zone, pfn: int) -> None:
    """Set the pageblock of a block just allocated aside for high-order atomic requests.

    Linux: mm/page_alloc.c reserve_highatomic_pageblock(). At most 1 % of the zone, rounded up to
    pageblocks; a zone whose 1 % is less than one pageblock never reserves.
    """
    block = 1 << zone.pageblock_order
    percent = zone.managed // 100
    if percent < block:
        return
    limit = -(-percent // block) * block
    if zone.nr_reserved_highatomic >= limit:
        return
    migratetype = zone.pageblock[pfn >> zone.pageblock_order]
    if migratetype >= MIGRATE_PCPTYPES:
        return
    order = zone.page[pfn] & 15
    if order < zone.pageblock_order:
        if move_freepages_block(zone, pfn, migratetype, MIGRATE_HIGHATOMIC) is None:
            return
        zone.nr_reserved_highatomic += block
    else:
        set_pageblock_types(zone, pfn, order, MIGRATE_HIGHATOMIC)
        zone.nr_reserved_highatomic += 1 << order
    if zone.trace is not None:
        zone.trace.note(
            "highatomic_reserve", pfn=pfn, reserved=zone.nr_reserved_highatomic, limit=limit
        )


def unreserve_highatomic_pageblock(zones: Iterable[Zone], migratetype: int, force: bool) -> bool:
    """Give one reserved pageblock back to ordinary requests; return whether pages moved.

    Linux: mm/page_alloc.c unreserve_highatomic_pageblock(). Walks the request's zones; without
    `force` a zone keeps its last reserved pageblock.
    """
    for zone in zones:
        block = 1 << zone.pageblock_order
        if not force and zone.nr_reserved_highatomic <= block:
            continue
        for order in range(zone.max_order + 1):
            pfn = zone.first_block(order * MIGRATE_TYPES + MIGRATE_HIGHATOMIC)
            if pfn is None:
                continue
            zone.nr_reserved_highatomic -= min(max(block, 1 << order), zone.nr_reserved_highatomic)
            if order < zone.pageblock_order:
                moved = move_freepages_block(zone, pfn, MIGRATE_HIGHATOMIC, migratetype)
            else:
                del_page_from_free_list(zone, pfn, order, MIGRATE_HIGHATOMIC)
                zone.free_tail[order * MIGRATE_TYPES + migratetype][pfn] = None
                account_freepages(zone, 1 << order, migratetype)
                set_pageblock_types(zone, pfn, order, migratetype)
                moved = 1 << order
            if moved:
                return True
    return False
