"""Requests for pages: the allocator's front door.

`Kernel`'s methods call alloc_pages() and its kin here. The first attempt looks at the free lists
above the low mark (`freelist`); a request turned away there goes on in `slowpath`.
"""

from __future__ import annotations

from kmemkit import gfp as flags
from kmemkit.mm.debug import might_alloc
from kmemkit.mm.fault_inject import should_fail_alloc_page
from kmemkit.mm.freelist import AllocContext, get_page_from_freelist
from kmemkit.mm.internal import ALLOC_WMARK_LOW
from kmemkit.mm.machine import Machine
from kmemkit.mm.mmzone import ALLOCATED, MIGRATE_PCPTYPES
from kmemkit.mm.page_check import check_new_pages
from kmemkit.mm.pcp import __rmqueue_pcplist
from kmemkit.mm.slowpath import __alloc_pages_slowpath
from kmemkit.mm.watermark import zone_watermark_fast

__all__ = ("alloc_pages", "alloc_pages_bulk")


def alloc_pages(kernel: Machine, context: AllocContext, order: int) -> int | None:
    """Allocate a block: at the low mark first, then the slow path (__alloc_pages_noprof())."""
    trace = kernel.trace
    if trace is not None and (kernel.context.frames or context.gfp != context.asked):
        _explain_entry(kernel, context)
    if kernel.context.frames:
        might_alloc(kernel, context.gfp)
    if kernel.watched and should_fail_alloc_page(kernel, context.gfp, order):
        return None
    if trace is not None:
        trace.rung("low")
    pfn = get_page_from_freelist(kernel, context, order, context.alloc_flags)
    if pfn is None:
        pfn = __alloc_pages_slowpath(kernel, context, order)
    elif trace is not None:
        trace.outcome("page")
    if context.compound and order and pfn is not None:
        kernel.mem_map.compound.add(pfn)
    return pfn


def _explain_entry(kernel: Machine, context: AllocContext) -> None:
    """Say what the task's scopes left of the mask, and what is around the request."""
    trace = kernel.trace
    assert trace is not None
    trace.rung("entry")
    trace.outcome("on")
    if context.gfp != context.asked:
        asked, left = flags.decode(context.asked), flags.decode(context.gfp)
        trace.note("scope_reduced", comm=kernel.comm, asked=asked, left=left)


def alloc_pages_bulk(kernel: Machine, context: AllocContext, count: int) -> list[int]:
    """Take up to `count` single pages at once from one zone's per-CPU list; maybe none.

    Linux: mm/page_alloc.c alloc_pages_bulk_noprof(). Looks at the preferred node's zones only, and
    asks the low mark for all pages at once. A single page is not taken in bulk, nor are pages
    charged to a memory cgroup (__GFP_ACCOUNT).
    """
    if kernel.context.frames:
        might_alloc(kernel, context.gfp)
    if kernel.watched and should_fail_alloc_page(kernel, context.gfp, 0):
        return []
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
