"""Which zone serves an attempt, and where in it the block comes from.

`page_alloc` makes the first attempt here, `slowpath` all others: walk the zonelist, check
watermarks (`watermark`), take from the per-CPU lists (`pcp`) or the buddy lists (`buddy`,
`fallback`). In Linux all of it is in mm/page_alloc.c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm import kswapd
from kmemkit.mm.buddy import __rmqueue_smallest
from kmemkit.mm.context import cpuset_node_allowed, current_gfp_context
from kmemkit.mm.fallback import __rmqueue, reserve_highatomic_pageblock
from kmemkit.mm.internal import (
    ALLOC_CPUSET,
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_NO_WATERMARKS,
    ALLOC_NOFRAGMENT,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MASK,
)
from kmemkit.mm.mmzone import (
    ALLOCATED,
    HIGH,
    MIGRATE_HIGHATOMIC,
    MIGRATE_PCPTYPES,
    MIGRATE_UNMOVABLE,
    ZONE_BELOW_HIGH,
    ZONE_BOOSTED_WATERMARK,
    ZONE_TORN_LISTS,
    Zone,
    pcp_allowed_order,
)
from kmemkit.mm.page_check import check_new_pages
from kmemkit.mm.page_links import check_links
from kmemkit.mm.pcp import __rmqueue_pcplist, rmqueue_pcplist
from kmemkit.mm.watermark import explain_watermark, zone_watermark_fast

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = (
    "AllocContext",
    "get_page_from_freelist",
    "prepare_alloc_pages",
    "prepare_zonelist",
    "rmqueue",
    "rmqueue_buddy",
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
    nid: int  #: node to start from
    nodemask: tuple[int, ...] | None = None  #: nodes it is limited to; None stands for all
    #: the preferred zone, if the request may be served from its per-CPU lists at once
    zone: Zone | None = None
    asked: int = 0  #: the mask before the task's scopes
    page_byte: int = 0  #: what the page column says of its pages, without the order


def prepare_alloc_pages(
    kernel: Machine, gfp: int, nid: int, nodemask: tuple[int, ...] | None = None
) -> AllocContext:
    """Work out zones, type and first-attempt flags of a mask (same name in Linux).

    What the task's memalloc scopes forbid is taken off the mask first. The first attempt uses the
    low mark, whatever rights to reserves the mask carries.
    """
    asked = gfp
    gfp = current_gfp_context(kernel.current.flags, gfp)
    highest = flags.gfp_zone(gfp, kernel.arch)
    migratetype = MIGRATE_UNMOVABLE
    if not kernel.vm.page_group_by_mobility_disabled:
        migratetype = flags.gfp_migratetype(gfp)
    alloc_flags = ALLOC_WMARK_LOW
    if gfp & flags.__GFP_KSWAPD_RECLAIM:
        alloc_flags |= ALLOC_KSWAPD
    context = prepare_zonelist(
        kernel,
        AllocContext(
            gfp,
            (),
            highest,
            migratetype,
            alloc_flags,
            bool(gfp & flags.__GFP_COMP),
            nid,
            nodemask,
            asked=asked,
        ),
        _first_nodes(kernel, nodemask),
    )
    if context.zonelist and _alloc_flags_nofragment(kernel, context.zonelist[0]):
        context = replace(context, alloc_flags=alloc_flags | ALLOC_NOFRAGMENT)
    if context.zonelist and migratetype < MIGRATE_PCPTYPES and not context.compound:
        byte = ALLOCATED + (migratetype << 4)
        context = replace(context, zone=context.zonelist[0], page_byte=byte)
    return context


def _first_nodes(kernel: Machine, nodemask: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the nodes for the first attempt: those of the nodemask that the task's cpuset has.

    Later attempts look at ALLOC_CPUSET instead. An interrupt is of no cpuset.
    """
    allowed = kernel.current.mems_allowed
    if allowed is None or not kernel.context.in_task:
        return nodemask
    return tuple(nid for nid in allowed if nodemask is None or nid in nodemask)


def prepare_zonelist(
    kernel: Machine, context: AllocContext, nodes: tuple[int, ...] | None
) -> AllocContext:
    """Return the context with the zones that its highest zone and these nodes leave."""
    zones = kernel.zonelist(context.nid, bool(context.gfp & flags.__GFP_THISNODE))
    zonelist = tuple(
        zone
        for zone in zones
        if zone.idx <= context.highest_zoneidx and (nodes is None or zone.nid in nodes)
    )
    return replace(context, zonelist=zonelist)


def _alloc_flags_nofragment(kernel: Machine, preferred: Zone) -> bool:
    """Return whether to try lower zones before mixing types in the preferred one.

    Linux: alloc_flags_nofragment(). Only where the preferred zone is Normal and a DMA32 zone of the
    same node can take the overflow (or there is only one node).
    """
    if preferred.name != "Normal" or kernel.arch != "x86_64":
        return False
    if kernel.nr_nodes == 1:
        return any(zone.name == "DMA32" for zone in kernel.zones) or not kernel.scaled
    return any(zone.name == "DMA32" and zone.nid == preferred.nid for zone in kernel.zones)


def get_page_from_freelist(
    kernel: Machine, context: AllocContext, order: int, alloc_flags: int
) -> int | None:
    """Walk the zonelist and take a block from the first zone whose mark allows it.

    Linux: mm/page_alloc.c, same name. With ALLOC_NOFRAGMENT a second walk without it follows, and
    another node's zone is never preferred to mixing types on the local node.
    """
    index = 0
    zonelist = context.zonelist
    fenced = alloc_flags & ALLOC_CPUSET and kernel.current.mems_allowed is not None
    while True:
        if index == len(zonelist):
            if not alloc_flags & ALLOC_NOFRAGMENT:
                return None
            alloc_flags &= ~ALLOC_NOFRAGMENT
            index = 0
            continue
        zone = zonelist[index]
        index += 1
        if fenced and not cpuset_node_allowed(kernel, zone.nid, context.gfp):
            continue
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
    kernel: Machine, zone: Zone, order: int, migratetype: int, alloc_flags: int
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
        pfn = rmqueue_buddy(zone, order, migratetype, alloc_flags)
        while pfn is not None and suspicious and not check_new_pages(kernel, zone, pfn, order):
            pfn = rmqueue_buddy(zone, order, migratetype, alloc_flags)
    if zone.flags & ZONE_TORN_LISTS:
        check_links(kernel, zone)
    if pfn is not None:
        zone.page[pfn] = ALLOCATED + (migratetype << 4 if typed else 0) | order
    if alloc_flags & ALLOC_KSWAPD and zone.flags & ZONE_BOOSTED_WATERMARK:
        zone.flags &= ~ZONE_BOOSTED_WATERMARK
        kswapd.wakeup_kswapd(kernel, zone, 0, 0, zone.idx)
    return pfn


def rmqueue_buddy(zone: Zone, order: int, migratetype: int, alloc_flags: int) -> int | None:
    """Take a block from the buddy lists; reserves first or last, as the flags allow.

    Linux: mm/page_alloc.c, same name.
    """
    pfn = None
    if alloc_flags & ALLOC_HIGHATOMIC:
        pfn = __rmqueue_smallest(zone, order, MIGRATE_HIGHATOMIC)
    if pfn is None:
        pfn, _ = __rmqueue(zone, order, migratetype, alloc_flags)
        if pfn is None and alloc_flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
            pfn = __rmqueue_smallest(zone, order, MIGRATE_HIGHATOMIC)
    return pfn
