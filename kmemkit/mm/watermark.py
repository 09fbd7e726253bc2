"""Watermark checks: may this request take pages from this zone (mm/page_alloc.c).

Called by `page_alloc` before it takes pages and by `pcp` after it gave some back. All numbers are
pages. The marks themselves are set in `mm_init`.
"""

from __future__ import annotations

from kmemkit.mm.internal import (
    ALLOC_HIGHATOMIC,
    ALLOC_MIN_RESERVE,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_RESERVES,
    ALLOC_WMARK_MASK,
)
from kmemkit.mm.mmzone import (
    MIGRATE_HIGHATOMIC,
    MIGRATE_TYPES,
    MIN,
    Zone,
)

__all__ = (
    "__zone_watermark_ok",
    "explain_watermark",
    "has_block",
    "reduced_mark",
    "zone_watermark_fast",
    "zone_watermark_ok",
)


def zone_watermark_ok(
    zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int
) -> bool:
    """Check a mark against the zone's counter (same name in Linux)."""
    return __zone_watermark_ok(zone, order, mark, highest_zoneidx, alloc_flags, zone.vm_stat)


def __zone_watermark_ok(
    zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, free: int
) -> bool:
    """Return whether `free` pages leave more than the mark after this request (same name in Linux).

    The mark shrinks for those with a right to reserves; lowmem_reserve keeps low zones for requests
    that can use nothing else; and a block big enough must exist, on a list the request may use.
    """
    less = (1 << order) - 1
    if not alloc_flags & ALLOC_RESERVES:
        less += zone.nr_free_highatomic
    least = reduced_mark(mark, alloc_flags)
    reserve = zone.lowmem_reserve[highest_zoneidx]
    if free - less <= least + reserve:
        return False
    return not order or has_block(zone, order, alloc_flags)


def reduced_mark(mark: int, alloc_flags: int) -> int:
    """Return what is left of a mark for a request with rights to the reserves.

    Half for ALLOC_MIN_RESERVE (__GFP_HIGH), three quarters of that if it cannot block either, and
    half of whatever remains for an OOM victim.
    """
    if alloc_flags & ALLOC_MIN_RESERVE:
        mark -= mark // 2
        if alloc_flags & ALLOC_NON_BLOCK:
            mark -= mark // 4
    if alloc_flags & ALLOC_OOM:
        mark -= mark // 2
    return mark


def has_block(zone: Zone, order: int, alloc_flags: int) -> bool:
    """Return whether a free block of `order` or more is on a list the request may use."""
    head, tail = zone.free_head, zone.free_tail
    atomic = bool(alloc_flags & (ALLOC_HIGHATOMIC | ALLOC_OOM))
    for area in range(order * MIGRATE_TYPES, len(head), MIGRATE_TYPES):
        if (
            head[area] or head[area + 1] or head[area + 2]
            or tail[area] or tail[area + 1] or tail[area + 2]
        ):  # fmt: skip
            return True
        highatomic = area + MIGRATE_HIGHATOMIC
        if atomic and (head[highatomic] or tail[highatomic]):
            return True
    return False


def zone_watermark_fast(
    zone: Zone, order: int, mark: int, highest_zoneidx: int, alloc_flags: int
) -> bool:
    """Check a mark, with the short cut for single pages (same name in Linux).

    A single page with the right to reserves ignores a boost at the min mark: boosting is there to
    keep types apart, and must not fail an atomic request.
    """
    free = zone.vm_stat
    if not order:
        less = 0
        if not alloc_flags & ALLOC_RESERVES:
            less = min(free, zone.nr_free_highatomic)
        if free - less > mark + zone.lowmem_reserve[highest_zoneidx]:
            return True
    if __zone_watermark_ok(zone, order, mark, highest_zoneidx, alloc_flags, free):
        return True
    if (
        not order
        and alloc_flags & ALLOC_MIN_RESERVE
        and zone.watermark_boost
        and alloc_flags & ALLOC_WMARK_MASK == MIN
    ):
        mark = zone.watermark[MIN]
        return __zone_watermark_ok(zone, order, mark, highest_zoneidx, alloc_flags, free)
    return False


def explain_watermark(
    zone: Zone, order: int, which: int, highest_zoneidx: int, alloc_flags: int, ok: bool
) -> None:
    """Note how the zone's mark `which` (MIN, LOW, HIGH) was checked, with the numbers put in.

    `ok` is what zone_watermark_fast() answered.
    """
    assert zone.trace is not None
    free = zone.vm_stat
    less = (1 << order) - 1
    if not alloc_flags & ALLOC_RESERVES:
        less += zone.nr_free_highatomic
    reserve = zone.lowmem_reserve[highest_zoneidx]
    mark = reduced_mark(zone.watermark[which] + zone.watermark_boost, alloc_flags)
    above = free - less > mark + reserve
    if ok and not above:  # the short cut of zone_watermark_fast(): the boost does not count
        mark, above = reduced_mark(zone.watermark[which], alloc_flags), True
    zone.trace.note(
        "watermark_ok" if ok else "no_block" if above else "watermark_low",
        nid=zone.nid,
        zone=zone.name,
        order=order,
        free=free,
        less=less,
        left=free - less,
        name=("min", "low", "high")[which],
        mark=mark,
        reserve=reserve,
        sum=mark + reserve,
    )
