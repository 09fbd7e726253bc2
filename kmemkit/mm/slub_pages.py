"""The pages of slabs: where a new slab comes from, and where an empty one goes.

`slub` calls new_slab() when no slab has a free object, and discard_slab() when a node has enough
empty ones. Linux: mm/slub.c, same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm import slub_debug
from kmemkit.mm.freepointer import set_freepointer
from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT
from kmemkit.mm.random import splitmix64
from kmemkit.mm.slab import SLAB_RECLAIM_ACCOUNT, KmemCache, Slab

if TYPE_CHECKING:
    from kmemkit.mm.slab_machine import SlabMachine

__all__ = ("GFP_SLAB_BUG_MASK", "discard_slab", "new_slab")

#: What a caller's mask may say about the pages of a new slab.
GFP_RECLAIM_MASK = (
    flags.__GFP_RECLAIM | flags.__GFP_HIGH | flags.__GFP_IO | flags.__GFP_FS | flags.__GFP_NOWARN
    | flags.__GFP_RETRY_MAYFAIL | flags.__GFP_NOFAIL | flags.__GFP_NORETRY | flags.__GFP_MEMALLOC
    | flags.__GFP_NOMEMALLOC
)  # fmt: skip
GFP_CONSTRAINT_MASK = flags.__GFP_HARDWALL | flags.__GFP_THISNODE
#: Zones that no slab is from.
GFP_SLAB_BUG_MASK = flags.__GFP_DMA32 | flags.__GFP_HIGHMEM


def _init_cache_random_seq(s: KmemCache) -> list[int]:
    """Draw the order in which a cache's new slabs hand out their objects (Fisher-Yates).

    Linux draws it with the cache. Most caches never get a slab here, so it is drawn with the first,
    from numbers of the cache's own: it does not matter when.
    """
    order = list(range(s.oo[1]))
    state = s.random
    for last in range(len(order) - 1, 0, -1):
        state, number = splitmix64(state)
        other = number * (last + 1) >> 64
        order[last], order[other] = order[other], order[last]
    return order


def _next_freelist_entries(kernel: SlabMachine, s: KmemCache, objects: int) -> Sequence[int]:
    """Return the objects of a new slab in the order they will be handed out."""
    if not kernel.freelist_random or objects < 2:
        return range(objects)
    if s.random_seq is None:
        s.random_seq = _init_cache_random_seq(s)
    start = kernel.freelist_start(s)
    ring = s.random_seq[start:] + s.random_seq[:start]
    return [index for index in ring if index < objects]  # a smaller slab has fewer


def allocate_slab(kernel: SlabMachine, s: KmemCache, gfp: int, node: int) -> Slab | None:
    """Take pages for a slab: the order the cache wants, else the least that holds an object.

    The first try must not cost anything: without reclaim, if there is a smaller order to go to.
    """
    mask = gfp | s.allocflags
    (order, objects), (least, fewest) = s.oo, s.min
    first = (mask | flags.__GFP_NOWARN | flags.__GFP_NORETRY) & ~flags.__GFP_NOFAIL
    if first & flags.__GFP_DIRECT_RECLAIM and order > least:
        first = (first | flags.__GFP_NOMEMALLOC) & ~flags.__GFP_RECLAIM
    pfn = kernel.slab_pages(s, first, order, node)
    if pfn is None:
        order, objects = least, fewest
        pfn = kernel.slab_pages(s, mask, order, node)
        if pfn is None:
            return None
    nid = kernel.page_zone(pfn).nid
    if not s.starts:
        s.starts = frozenset(range(s.red_left_pad, s.oo[1] * s.size, s.size))
    slab = Slab(s, pfn, order, objects, nid, PAGE_OFFSET + (pfn << PAGE_SHIFT))
    account_slab(kernel, slab, 1)
    slub_debug.setup_slab_debug(kernel, s, slab)
    base = slab.address + s.red_left_pad
    entries = [base + index * s.size for index in _next_freelist_entries(kernel, s, objects)]
    for at in entries:
        slub_debug.setup_object(kernel, s, at)
    slab.freelist = entries[0]
    for at, pointer in zip(entries, [*entries[1:], 0], strict=True):
        set_freepointer(kernel, s, at, pointer)
    return slab


def new_slab(kernel: SlabMachine, s: KmemCache, gfp: int, node: int) -> Slab | None:
    """Make a slab; a mask with a zone no slab is from is put right, with a word of advice."""
    wrong = gfp & GFP_SLAB_BUG_MASK
    if wrong:
        gfp = kernel.kmalloc_fix_flags(gfp)
    if s.ctor and gfp & flags.__GFP_ZERO:
        kernel.warn_once("mm/slub.c", "new_slab")
    return allocate_slab(kernel, s, gfp & (GFP_RECLAIM_MASK | GFP_CONSTRAINT_MASK), node)


def account_slab(kernel: SlabMachine, slab: Slab, sign: int) -> None:
    """Count a slab's pages, and note whose they are."""
    s, pages = slab.cache, range(slab.pfn, slab.pfn + (1 << slab.order))
    reclaimable = s.flags & SLAB_RECLAIM_ACCOUNT
    item = "nr_slab_reclaimable" if reclaimable else "nr_slab_unreclaimable"
    kernel.node_page_state[slab.nid, item] += sign << slab.order
    if sign > 0:
        kernel.memory.change_owner(pages)
        kernel.slabs.update(dict.fromkeys(pages, slab))
        s.nodes[slab.nid].slabs[slab.pfn] = slab
    else:
        for pfn in pages:
            kernel.slabs.pop(pfn, None)
        s.nodes[slab.nid].slabs.pop(slab.pfn, None)


def discard_slab(kernel: SlabMachine, slab: Slab) -> None:
    """Give a slab's pages back (free_slab()).

    With SLAB_TYPESAFE_BY_RCU Linux waits until no reader can look at the objects any more; here
    that time is over at once.
    """
    s = slab.cache
    slub_debug.check_slab_before_freeing(kernel, s, slab)
    if kernel.kasan is not None:
        kernel.kasan.forget(slab)
    account_slab(kernel, slab, -1)
    kernel.slab_pages_free(s, slab.pfn, slab.order)
