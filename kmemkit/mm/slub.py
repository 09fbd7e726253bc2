"""SLUB: how objects leave their slabs and come back.

A CPU takes objects off its own list (`kmem_cache_cpu`); when that is empty, from slabs it has kept
for itself, then from the node's partial slabs, then from a new slab. An object goes back to the
CPU's list if it is of the CPU's slab, otherwise to its slab's own list. `slab_calls` calls
slab_alloc_node() and slab_free() here; caches with debug flags go the ways of `slub_debug`.

Linux: mm/slub.c, same names. There is one CPU at a time: no atomic operations, nothing retried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm import slub_debug
from kmemkit.mm.freepointer import get_freepointer, set_freepointer
from kmemkit.mm.ratelimit import ratelimit
from kmemkit.mm.slab import KmemCache, KmemCacheCpu, KmemCacheNode, Slab
from kmemkit.mm.slub_layout import debug_metadata_grows
from kmemkit.mm.slub_pages import discard_slab, new_slab
from kmemkit.mm.slub_report import slab_fix

if TYPE_CHECKING:
    from kmemkit.mm.slab_machine import SlabMachine

__all__ = ("flush_all", "kmem_cache_shrink", "slab_alloc_node", "slab_free")

#: How many slabs sorted by free objects a shrink keeps at the front.
SHRINK_PROMOTE_MAX = 32
#: Another node's slabs are left alone by this share of requests, in 1024ths: spares of 1000.
REMOTE_NODE_DEFRAG_RATIO = 1000

NUMA_NO_NODE = -1


# -- lists ----------------------------------------------------------------------------------------


def put_cpu_partial(
    kernel: SlabMachine, s: KmemCache, c: KmemCacheCpu, slab: Slab, *, drain: bool
) -> None:
    """Keep a slab for this CPU; a full stock goes to the node first."""
    stock: list[Slab] = []
    if drain and len(c.partial) >= max(s.cpu_partial_slabs, 1):
        stock, c.partial = c.partial, []
    c.partial.insert(0, slab)
    __put_partials(kernel, s, stock)


def __put_partials(kernel: SlabMachine, s: KmemCache, slabs: Sequence[Slab]) -> None:
    """Give slabs to their nodes; an empty one goes back to the buddy if there are enough."""
    discard: list[Slab] = []
    for slab in slabs:
        n = s.nodes[slab.nid]
        if not slab.inuse and n.nr_partial >= s.min_partial:
            discard.append(slab)
        else:
            n.add_partial(slab, tail=True)
    for slab in reversed(discard):
        discard_slab(kernel, slab)


def deactivate_slab(kernel: SlabMachine, s: KmemCache, c: KmemCacheCpu) -> None:
    """Take the CPU's slab away from it: its list is spliced before what others freed meanwhile."""
    slab, freelist = c.slab, c.freelist
    if slab is None:
        return
    c.slab, c.freelist, c.base, c.links = None, 0, -1, {}
    count, last, at = 0, 0, freelist
    while at:
        count, last, at = count + 1, at, get_freepointer(kernel, s, at)
        if count > slab.objects:
            break  # a circle; Linux would go round it for ever
    tail = bool(slab.freelist)
    if last:
        set_freepointer(kernel, s, last, slab.freelist)
        slab.freelist = freelist
        slab.inuse -= count
    slab.frozen = False
    n = s.nodes[slab.nid]
    if not slab.inuse and n.nr_partial >= s.min_partial:
        discard_slab(kernel, slab)
    elif slab.freelist:
        n.add_partial(slab, tail=tail)


def flush_all(kernel: SlabMachine, s: KmemCache) -> None:
    """Take slabs from every CPU."""
    for c in s.cpus:
        deactivate_slab(kernel, s, c)
        stock, c.partial = c.partial, []
        __put_partials(kernel, s, stock)


def kmem_cache_shrink(kernel: SlabMachine, s: KmemCache) -> int:
    """Free empty slabs, and sort the others: the fullest come first (__kmem_cache_do_shrink()).

    Returns 1 if slabs are left, 0 if none.
    """
    flush_all(kernel, s)
    for n in s.nodes:
        promote: list[list[Slab]] = [[] for _ in range(SHRINK_PROMOTE_MAX)]
        rest: list[Slab] = []
        discard: list[Slab] = []
        for slab in n.partial:
            free = slab.objects - slab.inuse
            if free == slab.objects:
                discard.insert(0, slab)
            elif free <= SHRINK_PROMOTE_MAX:
                promote[free - 1].insert(0, slab)
            else:
                rest.append(slab)
        n.partial = [slab for bucket in promote for slab in bucket] + rest
        for slab in discard:
            slab.on_node = slab.workingset = False
            discard_slab(kernel, slab)
    return int(any(n.slabs for n in s.nodes))


# -- allocate -------------------------------------------------------------------------------------


def slab_alloc_node(
    kernel: SlabMachine, s: KmemCache, gfp: int, node: int = NUMA_NO_NODE, orig_size: int = 0
) -> int | None:
    """Allocate an object, the careful way; return its address, or None."""
    c = s.cpu
    slab = c.slab
    mine = node == NUMA_NO_NODE or (slab is not None and slab.nid == node)
    if c.freelist and mine:
        at = c.freelist
        c.freelist = get_freepointer(kernel, s, at)
        return at
    return ___slab_alloc(kernel, s, gfp, node, orig_size or s.object_size)


def ___slab_alloc(
    kernel: SlabMachine, s: KmemCache, gfp: int, node: int, orig_size: int
) -> int | None:
    """Allocate an object when the CPU's own list cannot serve it."""
    c = s.cpu
    if c.slab is not None:
        if node not in (NUMA_NO_NODE, c.slab.nid):
            deactivate_slab(kernel, s, c)
        elif c.freelist or _get_freelist(c):
            return _load_freelist(kernel, s, c)
        else:
            c.slab, c.base, c.links = None, -1, {}  # full, on no list
    while c.partial:
        slab = c.partial.pop(0)
        if node in (NUMA_NO_NODE, slab.nid):
            return _activate(kernel, s, c, slab)
        __put_partials(kernel, s, [slab])
    return _new_objects(kernel, s, gfp, node, orig_size)


def _get_freelist(c: KmemCacheCpu) -> bool:
    """Take over what others freed to the CPU's slab (get_freelist())."""
    slab = c.slab
    assert slab is not None
    c.freelist, slab.freelist = slab.freelist, 0
    slab.inuse, slab.frozen = slab.objects, bool(c.freelist)
    return slab.frozen


def _load_freelist(kernel: SlabMachine, s: KmemCache, c: KmemCacheCpu) -> int:
    """Take the first object of the CPU's list."""
    at = c.freelist
    c.freelist = get_freepointer(kernel, s, at)
    return at


def _activate(kernel: SlabMachine, s: KmemCache, c: KmemCacheCpu, slab: Slab) -> int:
    """Make a slab the CPU's: for the node, all its objects are in use now (freeze_slab())."""
    c.slab, c.base = slab, slab.address if slab.order == s.oo[0] else -1
    c.starts, c.links = s.starts if s.clears else frozenset(), slab.links
    c.freelist, slab.freelist = slab.freelist, 0
    slab.inuse, slab.frozen = slab.objects, True
    return _load_freelist(kernel, s, c)


def _new_objects(
    kernel: SlabMachine, s: KmemCache, gfp: int, node: int, orig_size: int
) -> int | None:
    """Take a slab from a node, or make one.

    A node that was asked for is tried alone first, without reclaim; then the whole machine.
    """
    masks = [gfp]
    if node != NUMA_NO_NODE and not gfp & flags.__GFP_THISNODE:
        masks.insert(0, flags.GFP_NOWAIT | flags.__GFP_NOWARN | flags.__GFP_THISNODE)
    for mask in masks:
        alone = node if mask & flags.__GFP_THISNODE else NUMA_NO_NODE
        at = slab_from_node(kernel, s, mask, node, alone, orig_size)
        if at is not None:
            return at
        slab = new_slab(kernel, s, mask, node)
        if slab is not None:
            if s.debug:
                return alloc_single_from_new_slab(kernel, s, slab, orig_size)
            return _activate(kernel, s, s.cpu, slab)
    slab_out_of_memory(kernel, s, gfp, node)
    return None


def slab_from_node(
    kernel: SlabMachine, s: KmemCache, gfp: int, node: int, alone: int, orig_size: int
) -> int | None:
    """Look through partial slabs: the wanted node's, then the others' (get_partial())."""
    wanted = kernel.numa_node_id() if node == NUMA_NO_NODE else node
    at = _get_partial_node(kernel, s, s.nodes[wanted], orig_size)
    if at is not None or alone != NUMA_NO_NODE:
        return at
    if kernel.nr_nodes == 1 or kernel.get_random_u32_below(1024) > REMOTE_NODE_DEFRAG_RATIO:
        return None
    seen = {wanted}
    for zone in kernel.zonelist(wanted, False):
        if zone.nid not in seen:
            seen.add(zone.nid)
            n = s.nodes[zone.nid]
            if n.nr_partial > s.min_partial:
                at = _get_partial_node(kernel, s, n, orig_size)
                if at is not None:
                    return at
    return None


def _get_partial_node(
    kernel: SlabMachine, s: KmemCache, n: KmemCacheNode, orig_size: int
) -> int | None:
    """Take the first partial slab for this CPU, and some more to keep (get_partial_node())."""
    if s.debug:
        return alloc_single_from_partial(kernel, s, n, orig_size)
    if not n.partial:
        return None
    first = n.partial[0]
    n.remove_partial(first)
    kept = 0
    while n.partial and s.cpu_partial_slabs:
        slab = n.partial[0]
        n.remove_partial(slab)
        put_cpu_partial(kernel, s, s.cpu, slab, drain=False)
        kept += 1
        if kept > s.cpu_partial_slabs // 2:
            break
    return _activate(kernel, s, s.cpu, first)


def alloc_single_from_new_slab(
    kernel: SlabMachine, s: KmemCache, slab: Slab, orig_size: int
) -> int | None:
    """Take one object from a slab that is new, and put the slab on a list of its node."""
    at = slab.freelist
    slab.freelist = get_freepointer(kernel, s, at)
    slab.inuse = 1
    if not slub_debug.alloc_debug_processing(kernel, s, slab, at, orig_size):
        return None
    n = s.nodes[slab.nid]
    if slab.inuse == slab.objects:
        n.full.insert(0, slab)
    else:
        n.add_partial(slab, tail=False)
    return at


def alloc_single_from_partial(
    kernel: SlabMachine, s: KmemCache, n: KmemCacheNode, orig_size: int
) -> int | None:
    """Take one object from the first partial slab that is sound."""
    while n.partial:
        slab = n.partial[0]
        at = slab.freelist
        slab.freelist = get_freepointer(kernel, s, at)
        slab.inuse += 1
        if not slub_debug.alloc_debug_processing(kernel, s, slab, at, orig_size):
            n.remove_partial(slab)
            continue
        if slab.inuse == slab.objects:
            n.remove_partial(slab)
            n.full.insert(0, slab)
        return at
    return None


def slab_out_of_memory(kernel: SlabMachine, s: KmemCache, gfp: int, node: int) -> None:
    """Report that there is no memory for a slab (same name in Linux)."""
    if gfp & flags.__GFP_NOWARN or not ratelimit(kernel, "slab_out_of_memory", 5, 10):
        return
    kernel.printk(
        f"SLUB: Unable to allocate memory on CPU {kernel.cpu} (of node {kernel.numa_node_id()}) "
        f"on node {node}, gfp={gfp:#x}({flags.decode(gfp)})"
    )
    kernel.printk(
        f"  cache: {s.name}, object size: {s.object_size}, buffer size: {s.size}, "
        f"default order: {s.oo[0]}, min order: {s.min[0]}"
    )
    if debug_metadata_grows(s):
        kernel.printk(f"  {s.name} debugging increased min order, use slab_debug=O to disable.")
    for nid, n in enumerate(s.nodes):
        objects = sum(slab.objects for slab in n.slabs.values())
        free = sum(slab.objects - slab.inuse for slab in n.partial)
        kernel.printk(f"  node {nid}: slabs: {len(n.slabs)}, objs: {objects}, free: {free}")


# -- free -----------------------------------------------------------------------------------------


def slab_free(kernel: SlabMachine, s: KmemCache, slab: Slab, at: int) -> None:
    """Take an object back (do_slab_free()).

    Raises:
        KernelBug: it is the one that was freed last.
    """
    c = s.cpu
    if slab is c.slab:
        set_freepointer(kernel, s, at, c.freelist)
        c.freelist = at
    elif s.debug:
        free_to_partial_list(kernel, s, slab, at)
    else:
        __slab_free(kernel, s, slab, at)


def __slab_free(kernel: SlabMachine, s: KmemCache, slab: Slab, at: int) -> None:
    """Put an object on its slab's own list, and the slab where it belongs now."""
    prior = slab.freelist
    set_freepointer(kernel, s, at, prior)
    slab.freelist = at
    slab.inuse -= 1
    if slab.frozen:
        return
    if not prior:  # it was full, on no list
        put_cpu_partial(kernel, s, s.cpu, slab, drain=True)
        return
    n = s.nodes[slab.nid]
    if not slab.inuse and slab.on_node and n.nr_partial >= s.min_partial:
        n.remove_partial(slab)
        discard_slab(kernel, slab)


def free_to_partial_list(kernel: SlabMachine, s: KmemCache, slab: Slab, at: int) -> None:
    """Put an object on its slab's list, if the checks have nothing against it."""
    if not slub_debug.free_debug_processing(kernel, s, slab, at):
        slab_fix(kernel, s, f"Object at {at:#018x} not freed")
        return
    n = s.nodes[slab.nid]
    prior = slab.freelist
    slab.inuse -= 1
    set_freepointer(kernel, s, at, prior)
    slab.freelist = at
    unneeded = not slab.inuse and n.nr_partial >= s.min_partial
    if not prior:
        if slab in n.full:
            n.full.remove(slab)
        if not unneeded:
            n.add_partial(slab, tail=True)
    elif unneeded and slab.on_node:
        n.remove_partial(slab)
    if unneeded:
        discard_slab(kernel, slab)
