"""Per-CPU page lists: the cache of free blocks in front of a zone's buddy lists.

`page_alloc.rmqueue()` allocates from them, `page_check.free_pages()` frees to them. They refill
from `fallback.__rmqueue()` and drain to `buddy.__free_one_page()`, both in batches; how big a batch
is, and how much a list may hold, tunes itself (Linux 6.7 and later). Simplified: the CPU that runs
holds its lists alone, so nobody ever finds them locked; the once-a-second decay of `high` needs the
clock and is not run.

Orders 0 to 3 and 9 (a huge page) have lists: 3 types for each of the small orders, and two for
order 9.
"""

from __future__ import annotations

from kmemkit.mm.buddy import __free_one_page, free_one_page
from kmemkit.mm.fallback import RMQUEUE_NORMAL, __rmqueue
from kmemkit.mm.mmzone import (
    ALLOCATED,
    HIGH,
    HPAGE_PMD_ORDER,
    LOW,
    MIGRATE_ISOLATE,
    MIGRATE_MOVABLE,
    MIGRATE_PCPTYPES,
    PAGE_ALLOC_COSTLY_ORDER,
    PCP,
    ZONE_BELOW_HIGH,
    ZONE_MOVABLE,
    ZONE_RECLAIM_ACTIVE,
    PerCpuPages,
    Zone,
    pcp_allowed_order,
)
from kmemkit.mm.watermark import zone_watermark_ok

__all__ = (
    "PCPF_FREE_HIGH_BATCH",
    "PCPF_PREV_FREE_HIGH_ORDER",
    "PCP_BATCH_SCALE_MAX",
    "__rmqueue_pcplist",
    "drain_pages_zone",
    "free_unref_page",
    "order_to_pindex",
    "rmqueue_pcplist",
    "setup_pcp_cacheinfo",
    "zone_batchsize",
    "zone_set_pageset_high_and_batch",
)

#: A refill or a drain may grow to batch << 5 (CONFIG_PCP_BATCH_SCALE_MAX).
PCP_BATCH_SCALE_MAX = 5

#: the free before this one was of order 1 to 3
PCPF_PREV_FREE_HIGH_ORDER = 1 << 0
#: this CPU's share of the cache is big: keep a batch of high-order blocks before draining
PCPF_FREE_HIGH_BATCH = 1 << 1


def order_to_pindex(migratetype: int, order: int) -> int:
    """Return the number of the list for a type and an order (same name in Linux)."""
    if order > PAGE_ALLOC_COSTLY_ORDER:
        return 3 * (PAGE_ALLOC_COSTLY_ORDER + 1) + (migratetype == MIGRATE_MOVABLE)
    return MIGRATE_PCPTYPES * order + migratetype


def pindex_to_order(pindex: int) -> int:
    """Return the order of the blocks on list number `pindex` (same name in Linux)."""
    order = pindex // MIGRATE_PCPTYPES
    return order if order <= PAGE_ALLOC_COSTLY_ORDER else HPAGE_PMD_ORDER


# -- allocate -------------------------------------------------------------------------------------


def rmqueue_pcplist(zone: Zone, order: int, migratetype: int, alloc_flags: int) -> int | None:
    """Take the block at the head of this CPU's list, refilling the list if it is empty.

    Linux: mm/page_alloc.c rmqueue_pcplist(). Returns None if the buddy lists gave nothing either.
    """
    zone.pcp.free_count >>= 1
    return __rmqueue_pcplist(zone, order, migratetype, alloc_flags)


def __rmqueue_pcplist(zone: Zone, order: int, migratetype: int, alloc_flags: int) -> int | None:
    """Take the head of the list, refilled if need be; bulk allocation comes in here."""
    pcp = zone.pcp
    pages = pcp.lists[order_to_pindex(migratetype, order)]
    if not pages:
        rmqueue_bulk(zone, order, nr_pcp_alloc(pcp, zone, order), migratetype, alloc_flags)
        if not pages:
            return None
    elif zone.trace is not None:
        zone.trace.note("pcp_hit", pfn=pages[0], order=order, type=migratetype, count=pcp.count)
    pfn = pages.popleft()
    pcp.count -= 1 << order
    zone.page[pfn] = ALLOCATED | order
    return pfn


def rmqueue_bulk(zone: Zone, order: int, count: int, migratetype: int, alloc_flags: int) -> None:
    """Move up to `count` blocks from the buddy lists to the tail of this CPU's list.

    Linux: mm/page_alloc.c rmqueue_bulk(). Splitting gives ascending addresses, so the list hands
    out ascending addresses too.
    """
    pcp = zone.pcp
    pages = pcp.lists[order_to_pindex(migratetype, order)]
    mode = RMQUEUE_NORMAL
    got = 0
    if zone.trace is not None and pcp.high_max:
        zone.trace.note("pcp_refill", order=order, type=migratetype, blocks=count, batch=pcp.batch)
    while got < count:
        pfn, mode = __rmqueue(zone, order, migratetype, alloc_flags, mode)
        if pfn is None:
            break
        pages.append(pfn)
        zone.page[pfn] = PCP | order
        got += 1
    pcp.count += got << order


def nr_pcp_alloc(pcp: PerCpuPages, zone: Zone, order: int) -> int:
    """Return how many blocks a refill takes (mm/page_alloc.c, nr_pcp_alloc).

    It doubles with every refill of single pages that no free interrupts, so a CPU which allocates
    in bulk visits the zone rarely.
    """
    pcp.high = high = min(max(pcp.high, pcp.high_min), pcp.high_max)
    batch = pcp.batch
    if high < batch:
        return 1
    blocks = batch if order else batch << pcp.alloc_factor
    if pcp.high_min != pcp.high_max and not zone.flags & ZONE_BELOW_HIGH:
        pcp.high = high = min(high + blocks, pcp.high_max)
    if not order:
        limit = max(high - pcp.count - batch, batch)
        if blocks <= limit and pcp.alloc_factor < PCP_BATCH_SCALE_MAX:
            pcp.alloc_factor += 1
        blocks = min(blocks, limit)
    return max(blocks >> order, 2) if blocks > 1 else blocks


# -- free -----------------------------------------------------------------------------------------


def free_unref_page(zone: Zone, pfn: int, order: int) -> None:
    """Free a block to the head of this CPU's list; drain some of the lists if they hold too much.

    Linux: mm/page_alloc.c free_unref_page(). Blocks of other orders, and isolated ones, go straight
    to the buddy lists. The type that counts is the pageblock's, now.
    """
    if not pcp_allowed_order(order):
        free_one_page(zone, pfn, order)
        return
    migratetype = zone.pageblock[pfn >> zone.pageblock_order]
    if migratetype >= MIGRATE_PCPTYPES:
        if migratetype == MIGRATE_ISOLATE:
            free_one_page(zone, pfn, order)
            return
        # highatomic pages wait among the movable ones; draining sorts them out by pageblock
        migratetype = MIGRATE_MOVABLE
    pindex = order_to_pindex(migratetype, order)
    pcp = zone.pcp
    pcp.alloc_factor >>= 1
    pcp.lists[pindex].appendleft(pfn)
    pcp.count += 1 << order
    zone.page[pfn] = PCP | order
    if zone.trace is not None and pcp.high_max:
        zone.trace.note("pcp_free", pfn=pfn, order=order, type=migratetype, count=pcp.count)
    _free_unref_page_commit(zone, pcp, order, pindex)


def _free_unref_page_commit(zone: Zone, pcp: PerCpuPages, order: int, pindex: int) -> None:
    """Note what was freed, and drain if the lists hold `high` pages or more."""
    batch = pcp.batch
    free_high = False
    if 0 < order <= PAGE_ALLOC_COSTLY_ORDER:
        free_high = (
            pcp.free_count >= batch
            and bool(pcp.flags & PCPF_PREV_FREE_HIGH_ORDER)
            and (not pcp.flags & PCPF_FREE_HIGH_BATCH or pcp.count >= batch)
        )
        pcp.flags |= PCPF_PREV_FREE_HIGH_ORDER
    else:
        pcp.flags &= ~PCPF_PREV_FREE_HIGH_ORDER
    if pcp.free_count < batch << PCP_BATCH_SCALE_MAX:
        pcp.free_count += 1 << order
    high = nr_pcp_high(pcp, zone, free_high)
    if pcp.count < high:
        return
    free_pcppages_bulk(zone, nr_pcp_free(pcp, high, free_high), pcp, pindex)
    if zone.flags & ZONE_BELOW_HIGH:
        mark = zone.watermark[HIGH] + zone.watermark_boost
        if zone_watermark_ok(zone, 0, mark, ZONE_MOVABLE, 0):
            zone.flags &= ~ZONE_BELOW_HIGH


def nr_pcp_high(pcp: PerCpuPages, zone: Zone, free_high: bool) -> int:
    """Return how many pages this CPU may hold right now (mm/page_alloc.c, nr_pcp_high)."""
    batch, low, top = pcp.batch, pcp.high_min, pcp.high_max
    pcp.high = high = min(max(pcp.high, low), top)
    if not high:
        return 0
    if free_high:
        pcp.high = max(high - (batch << PCP_BATCH_SCALE_MAX), low)
        return 0
    if zone.flags & ZONE_RECLAIM_ACTIVE:
        pcp.high = max(high - max(pcp.free_count, batch), low)
        return min(batch << 2, pcp.high)
    if low == top:
        return high
    if zone.flags & ZONE_BELOW_HIGH:
        pcp.high = max(high - max(pcp.free_count, batch), low)
        return max(pcp.count, low)
    if pcp.count >= high:
        wanted = pcp.free_count + batch
        if pcp.high < wanted:
            pcp.high = min(max(wanted, low), top)
    return high


def nr_pcp_free(pcp: PerCpuPages, high: int, free_high: bool) -> int:
    """Return how many pages a drain gives back (mm/page_alloc.c, nr_pcp_free)."""
    if free_high:
        return min(pcp.count, pcp.batch << PCP_BATCH_SCALE_MAX)
    if high < pcp.batch:
        return 1
    # upper bound last: it may be below the lower one
    return min(max(pcp.free_count, pcp.batch), high - pcp.batch)


def free_pcppages_bulk(zone: Zone, count: int, pcp: PerCpuPages, pindex: int) -> None:
    """Give back `count` pages, whole lists at a time from their tails (the coldest pages first).

    Linux: mm/page_alloc.c free_pcppages_bulk(). Starts with the list of the page just freed and
    goes round; a list is emptied before the next one is touched.
    """
    count = min(pcp.count, count)
    trace = zone.trace
    if trace is not None and count > 0 and pcp.high_max:
        trace.note("pcp_drain", pages=count, count=pcp.count)
    while count > 0:
        while not pcp.lists[pindex]:
            pindex = (pindex + 1) % len(pcp.lists)
        pages, order = pcp.lists[pindex], pindex_to_order(pindex)
        while pages and count > 0:
            pfn = pages.pop()
            migratetype = zone.pageblock[pfn >> zone.pageblock_order]
            count -= 1 << order
            pcp.count -= 1 << order
            if trace is not None:
                trace.event(
                    "mm_page_pcpu_drain", pfn=f"{pfn:#x}", order=order, migratetype=migratetype
                )
            __free_one_page(zone, pfn, order, migratetype)


def drain_pages_zone(zone: Zone) -> None:
    """Give every page on every CPU's lists of the zone back (mm/page_alloc.c, drain_all_pages)."""
    for pcp in zone.pcps:
        free_pcppages_bulk(zone, pcp.count, pcp, 0)


# -- size -----------------------------------------------------------------------------------------


def zone_batchsize(managed: int) -> int:
    """Return the batch for a zone of `managed` pages (mm/page_alloc.c, zone_batchsize).

    A quarter of a thousandth of the zone, at most 64 pages; then one less than a power of two,
    because powers of two made CPUs work on the same cache colours.
    """
    batch = max(min(managed >> 10, 256) // 4, 1)
    batch += batch // 2
    return max((1 << batch.bit_length() - 1) - 1, 1)


def zone_set_pageset_high_and_batch(zone: Zone, cpus: int) -> None:
    """Size every CPU's lists of a zone; `cpus` are those local to its node (same name in Linux)."""
    batch = zone_batchsize(zone.managed)
    fraction = zone.vm.percpu_pagelist_high_fraction
    cpus = max(cpus, 1)
    if fraction:
        low = top = max(zone.managed // fraction // cpus, batch * 4)
    else:
        low = max((zone.watermark[LOW] + zone.watermark_boost) // cpus, batch * 4)
        top = max(zone.managed // 8 // cpus, batch * 4)
    for pcp in zone.pcps:
        pcp.high_min, pcp.high_max, pcp.batch = low, top, batch


def setup_pcp_cacheinfo(zone: Zone) -> None:
    """Let the lists keep a batch of freed blocks of orders 1 to 3 (same name in Linux).

    Linux does where a CPU's share of the cache holds more than three batches: 756 kB at most.
    """
    for pcp in zone.pcps:
        pcp.flags |= PCPF_FREE_HIGH_BATCH
