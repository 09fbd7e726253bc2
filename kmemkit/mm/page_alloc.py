"""Which zone serves a request, and what free_pages() does: the allocator's front door.

`Kernel`'s methods call alloc_pages(), free_pages() and their kin here; these walk the zonelist,
check watermarks (`watermark`) and take blocks from the per-CPU lists (`pcp`) or the buddy lists
(`buddy`, `fallback`). Simplified: the slow path stops after its attempts at the free lists; kswapd,
reclaim, compaction and the OOM killer are not run (docs/fidelity.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm.buddy import __rmqueue_smallest
from kmemkit.mm.fallback import __rmqueue, reserve_highatomic_pageblock
from kmemkit.mm.internal import (
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NO_WATERMARKS,
    ALLOC_NOFRAGMENT,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MASK,
    ALLOC_WMARK_MIN,
)
from kmemkit.mm.mmzone import (
    ALLOCATED,
    HIGH,
    MIGRATE_HIGHATOMIC,
    MIGRATE_PCPTYPES,
    MIGRATE_UNMOVABLE,
    ZONE_BELOW_HIGH,
    ZONE_BOOSTED_WATERMARK,
    Zone,
    pcp_allowed_order,
)
from kmemkit.mm.page_check import check_new_pages
from kmemkit.mm.pcp import __rmqueue_pcplist, rmqueue_pcplist
from kmemkit.mm.watermark import explain_watermark, zone_watermark_fast

if TYPE_CHECKING:
    from kmemkit.mm.kernel import Kernel

__all__ = (
    "AllocContext",
    "alloc_pages",
    "alloc_pages_bulk",
    "get_page_from_freelist",
    "gfp_to_alloc_flags",
    "prepare_alloc_pages",
    "rmqueue",
)


@dataclass(frozen=True, slots=True)
class AllocContext:
    """What stays the same through one request (struct alloc_context, mm/internal.h)."""

    gfp: int
    zonelist: tuple[Zone, ...]  #: from the preferred zone on
    highest_zoneidx: int
    migratetype: int
    alloc_flags: int  #: for the first attempt
    compound: bool


def prepare_alloc_pages(kernel: Kernel, gfp: int, nid: int) -> AllocContext:
    """Work out zones, type and first-attempt flags of a mask (same name in Linux).

    The first attempt uses the low mark, whatever rights to reserves the mask carries.
    """
    highest = flags.gfp_zone(gfp, kernel.arch)
    zonelist = tuple(
        zone
        for zone in kernel.zonelist(nid, bool(gfp & flags.__GFP_THISNODE))
        if zone.idx <= highest
    )
    migratetype = MIGRATE_UNMOVABLE
    if not kernel.vm.page_group_by_mobility_disabled:
        migratetype = flags.gfp_migratetype(gfp)
    alloc_flags = ALLOC_WMARK_LOW
    if gfp & flags.__GFP_KSWAPD_RECLAIM:
        alloc_flags |= ALLOC_KSWAPD
    if zonelist and _alloc_flags_nofragment(kernel, zonelist[0]):
        alloc_flags |= ALLOC_NOFRAGMENT
    compound = bool(gfp & flags.__GFP_COMP)
    return AllocContext(gfp, zonelist, highest, migratetype, alloc_flags, compound)


def _alloc_flags_nofragment(kernel: Kernel, preferred: Zone) -> bool:
    """Return whether to try lower zones before mixing types in the preferred one.

    Linux: alloc_flags_nofragment(). Only where the preferred zone is Normal and a DMA32 zone of the
    same node can take the overflow (or there is only one node).
    """
    if preferred.name != "Normal" or kernel.arch != "x86_64":
        return False
    if kernel.nr_nodes == 1:
        return any(zone.name == "DMA32" for zone in kernel.zones) or not kernel.scaled
    return any(zone.name == "DMA32" and zone.nid == preferred.nid for zone in kernel.zones)


def alloc_pages(kernel: Kernel, context: AllocContext, order: int) -> int | None:
    """Allocate a block: at the low mark first, then the slow path (__alloc_pages_noprof())."""
    pfn = get_page_from_freelist(kernel, context, order, context.alloc_flags)
    if pfn is None:
        pfn = __alloc_pages_slowpath(kernel, context, order)
    if context.compound and order and pfn is not None:
        kernel.mem_map.compound.add(pfn)
    return pfn


def __alloc_pages_slowpath(kernel: Kernel, context: AllocContext, order: int) -> int | None:
    """Try again at the min mark, then with the reserves the mask may use (same name in Linux)."""
    gfp = context.gfp
    alloc_flags = gfp_to_alloc_flags(gfp, order)
    if alloc_flags & ALLOC_KSWAPD:
        wake_all_kswapds(kernel, context, order)
    if kernel.trace is not None:
        kernel.trace.note("slowpath", gfp=flags.decode(gfp), order=order)
    pfn = get_page_from_freelist(kernel, context, order, alloc_flags)
    if pfn is not None:
        return pfn
    if alloc_flags & ALLOC_KSWAPD:  # again: it may have gone back to sleep
        wake_all_kswapds(kernel, context, order)
    if gfp & flags.__GFP_MEMALLOC and not gfp & flags.__GFP_NOMEMALLOC:
        alloc_flags = ALLOC_NO_WATERMARKS | alloc_flags & ALLOC_KSWAPD
    pfn = get_page_from_freelist(kernel, context, order, alloc_flags)
    if pfn is None:
        warn_alloc(kernel, context, order)
    return pfn


def wake_all_kswapds(kernel: Kernel, context: AllocContext, order: int) -> None:
    """Record that the request woke kswapd on its zonelist's nodes (same name in Linux)."""
    if kernel.trace is not None:
        names = flags.decode(context.gfp)
        for nid in dict.fromkeys(zone.nid for zone in context.zonelist):
            kernel.trace.event("mm_vmscan_wakeup_kswapd", nid=nid, order=order, gfp_flags=names)


def warn_alloc(kernel: Kernel, context: AllocContext, order: int) -> None:
    """Print the first line of a failed request's report (same name in Linux)."""
    if not context.gfp & flags.__GFP_NOWARN:
        nodes = f"0-{kernel.nr_nodes - 1}" if kernel.nr_nodes > 1 else "0"
        kernel.printk(
            f"{kernel.comm}: page allocation failure: order:{order}, "
            f"mode:{context.gfp:#x}({flags.decode(context.gfp)}), "
            f"nodemask=(null),cpuset=/,mems_allowed={nodes}"
        )


def gfp_to_alloc_flags(gfp: int, order: int) -> int:
    """Return the slow path's ALLOC_* flags for a mask (same name in Linux)."""
    alloc_flags = ALLOC_WMARK_MIN
    if gfp & flags.__GFP_HIGH:
        alloc_flags |= ALLOC_MIN_RESERVE
    if gfp & flags.__GFP_KSWAPD_RECLAIM:
        alloc_flags |= ALLOC_KSWAPD
    if not gfp & (flags.__GFP_DIRECT_RECLAIM | flags.__GFP_NOMEMALLOC):
        alloc_flags |= ALLOC_NON_BLOCK
        if order and alloc_flags & ALLOC_MIN_RESERVE:
            alloc_flags |= ALLOC_HIGHATOMIC
    return alloc_flags


def get_page_from_freelist(
    kernel: Kernel, context: AllocContext, order: int, alloc_flags: int
) -> int | None:
    """Walk the zonelist and take a block from the first zone whose mark allows it.

    Linux: mm/page_alloc.c, same name. With ALLOC_NOFRAGMENT a second walk without it follows, and
    another node's zone is never preferred to mixing types on the local node.
    """
    index = 0
    zonelist = context.zonelist
    while True:
        if index == len(zonelist):
            if not alloc_flags & ALLOC_NOFRAGMENT:
                return None
            alloc_flags &= ~ALLOC_NOFRAGMENT
            index = 0
            continue
        zone = zonelist[index]
        index += 1
        if alloc_flags & ALLOC_NOFRAGMENT and zone.nid != zonelist[0].nid:
            alloc_flags &= ~ALLOC_NOFRAGMENT
            index = 0
            continue
        if not _zone_allows(zone, order, context.highest_zoneidx, alloc_flags):
            continue
        pfn = rmqueue(kernel, zone, order, context.migratetype, alloc_flags)
        if pfn is not None:
            if alloc_flags & ALLOC_HIGHATOMIC:
                reserve_highatomic_pageblock(zone, pfn)
            return pfn
        if zone.trace is not None:
            zone.trace.note("zone_has_none", zone=zone.name, order=order)


def _zone_allows(zone: Zone, order: int, highest_zoneidx: int, alloc_flags: int) -> bool:
    """Return whether the zone's marks let the request in; note when it falls below the high mark.

    The high mark is looked at first: above it nothing else matters, and the first request to find
    the zone below it stops the per-CPU lists from growing (Linux 6.7 and later).
    """
    if not zone.flags & ZONE_BELOW_HIGH:
        if _mark_allows(zone, order, HIGH, highest_zoneidx, alloc_flags):
            return True
        zone.flags |= ZONE_BELOW_HIGH
    which = alloc_flags & ALLOC_WMARK_MASK
    ok = _mark_allows(zone, order, which, highest_zoneidx, alloc_flags)
    return ok or bool(alloc_flags & ALLOC_NO_WATERMARKS)


def _mark_allows(
    zone: Zone, order: int, which: int, highest_zoneidx: int, alloc_flags: int
) -> bool:
    """Check one of the zone's marks, boost included; say how it went if somebody records."""
    mark = zone.watermark[which] + zone.watermark_boost
    ok = zone_watermark_fast(zone, order, mark, highest_zoneidx, alloc_flags)
    if zone.trace is not None:
        explain_watermark(zone, order, which, highest_zoneidx, alloc_flags, ok)
    return ok


def rmqueue(
    kernel: Kernel, zone: Zone, order: int, migratetype: int, alloc_flags: int
) -> int | None:
    """Take a block from a zone: this CPU's lists if the order has one, else the buddy lists.

    Linux: mm/page_alloc.c rmqueue(). Pages whose state is bad are reported and dropped on the way.
    """
    # Both mobility hints at once make a type that has no per-CPU list; Linux would misread another
    typed = migratetype < MIGRATE_PCPTYPES
    suspicious = zone.mem_map.refcount
    pfn = None
    if typed and pcp_allowed_order(order):
        pfn = rmqueue_pcplist(zone, order, migratetype, alloc_flags)
        while pfn is not None and suspicious and not check_new_pages(kernel, zone, pfn, order):
            pfn = __rmqueue_pcplist(zone, order, migratetype, alloc_flags)
    if pfn is None:
        pfn = _rmqueue_buddy(zone, order, migratetype, alloc_flags)
        while pfn is not None and suspicious and not check_new_pages(kernel, zone, pfn, order):
            pfn = _rmqueue_buddy(zone, order, migratetype, alloc_flags)
    if pfn is not None:
        zone.page[pfn] = ALLOCATED + (migratetype << 4 if typed else 0) | order
    if alloc_flags & ALLOC_KSWAPD and zone.flags & ZONE_BOOSTED_WATERMARK:
        zone.flags &= ~ZONE_BOOSTED_WATERMARK
        if zone.trace is not None:
            zone.trace.event("mm_vmscan_wakeup_kswapd", nid=zone.nid, order=0, gfp_flags="none")
    return pfn


def _rmqueue_buddy(zone: Zone, order: int, migratetype: int, alloc_flags: int) -> int | None:
    """Take a block from the buddy lists; reserves first or last, as the flags allow.

    Linux: mm/page_alloc.c rmqueue_buddy().
    """
    pfn = None
    if alloc_flags & ALLOC_HIGHATOMIC:
        pfn = __rmqueue_smallest(zone, order, MIGRATE_HIGHATOMIC)
    if pfn is None:
        pfn, _ = __rmqueue(zone, order, migratetype, alloc_flags)
        if pfn is None and alloc_flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
            pfn = __rmqueue_smallest(zone, order, MIGRATE_HIGHATOMIC)
    return pfn


def alloc_pages_bulk(kernel: Kernel, context: AllocContext, count: int) -> list[int]:
    """Take up to `count` single pages at once from one zone's per-CPU list; maybe none.

    Linux: mm/page_alloc.c alloc_pages_bulk_noprof(). Looks at the preferred node's zones only, and
    asks the low mark for all pages at once. A single page is not taken in bulk, nor are pages
    charged to a memory cgroup (__GFP_ACCOUNT).
    """
    account = context.gfp & flags.__GFP_ACCOUNT
    if count < 2 or account or context.migratetype >= MIGRATE_PCPTYPES:
        return []
    for zone in context.zonelist:
        if zone.nid != context.zonelist[0].nid:
            return []
        mark = zone.watermark[ALLOC_WMARK_LOW] + zone.watermark_boost + count
        if zone_watermark_fast(zone, 0, mark, context.highest_zoneidx, context.alloc_flags):
            break
    else:
        return []
    pages: list[int] = []
    while len(pages) < count:
        pfn = __rmqueue_pcplist(zone, 0, context.migratetype, context.alloc_flags)
        if pfn is None:
            break
        if zone.mem_map.refcount and not check_new_pages(kernel, zone, pfn, 0):
            continue
        zone.page[pfn] = ALLOCATED + (context.migratetype << 4)
        pages.append(pfn)
    return pages
