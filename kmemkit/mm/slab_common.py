"""Making and unmaking caches, and the caches behind kmalloc().

`slab_calls` calls these. Linux: mm/slab_common.c, and kmem_cache_create() and kin of mm/slub.c.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm import slub
from kmemkit.mm.debian_caches import BUCKET_SIZES, system_caches
from kmemkit.mm.errors import Panic
from kmemkit.mm.fault import fault
from kmemkit.mm.kmemleak import calling_line
from kmemkit.mm.slab import (
    SLAB_ACCOUNT,
    SLAB_CACHE_DMA,
    SLAB_CACHE_DMA32,
    SLAB_HWCACHE_ALIGN,
    SLAB_KMALLOC,
    SLAB_NO_MERGE,
    SLAB_NO_USER_FLAGS,
    SLAB_NOLEAKTRACE,
    SLAB_PANIC,
    SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TRACE,
    SLAB_TYPESAFE_BY_RCU,
    CachePointer,
    KmemCache,
    KmemCacheCpu,
    KmemCacheNode,
)
from kmemkit.mm.slub_layout import (
    calculate_alignment,
    debug_metadata_grows,
    open_layout,
    round_up,
)
from kmemkit.mm.slub_pages import discard_slab
from kmemkit.mm.slub_report import list_slab_objects
from kmemkit.size_classes import (
    KMALLOC_MAX_CACHE_SIZE,
    KMALLOC_MAX_SIZE,
    KMALLOC_SIZES,
    kmalloc_cache_name,
    kmalloc_size,
)

if TYPE_CHECKING:
    from kmemkit.mm.slab_machine import SlabMachine

__all__ = (
    "KMALLOC_MAX_CACHE_SIZE",
    "KMALLOC_MAX_SIZE",
    "KMALLOC_SIZES",
    "create_cache",
    "kmalloc_cache_name",
    "kmalloc_size",
    "kmalloc_type",
    "kmem_cache_destroy",
    "kmem_cache_init",
    "random_kmalloc_copy",
    "slab_unmergeable",
)

EINVAL = 22
#: What 64-bit numbers are hashed with: 2^64 divided by the golden ratio.
GOLDEN_RATIO_64 = 0x61C8864680B583EB
#: Prefix of a kmalloc type's caches -> what their flags have beyond SLAB_KMALLOC.
KMALLOC_TYPES = {
    "kmalloc": SLAB_NO_MERGE,  # so that no cgroup's objects come into them
    "kmalloc-rcl": SLAB_RECLAIM_ACCOUNT,
    "dma-kmalloc": SLAB_CACHE_DMA,
    "kmalloc-cg": SLAB_ACCOUNT,
}
#: sizeof(struct kmem_cache) without its array of nodes, and sizeof(struct kmem_cache_node).
CACHE_SIZE, CACHE_NODE_SIZE = 216, 64
#: Flags that keep a cache apart from others.
SLAB_NEVER_MERGE = (
    SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER | SLAB_TRACE | SLAB_TYPESAFE_BY_RCU
    | SLAB_NOLEAKTRACE | SLAB_NO_MERGE
)  # fmt: skip
#: Flags in which merged caches must agree.
SLAB_MERGE_SAME = SLAB_RECLAIM_ACCOUNT | SLAB_CACHE_DMA | SLAB_CACHE_DMA32 | SLAB_ACCOUNT
#: Debug flags that take room, and those that do nothing but that.
DEBUG_METADATA_FLAGS = SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER
#: Where the structs of caches lie: in no memory that is simulated.
FIRST_POINTER = 0xFFFFFFFFC0400000
POINTER_STEP = 0x100


# -- kmalloc's caches -----------------------------------------------------------------------------


def kmalloc_type(gfp: int, copy: int = 0) -> str:
    """Return the prefix of the caches that serve a mask (same name in Linux).

    `copy` is what random_kmalloc_copy() says.
    """
    if not gfp & (flags.__GFP_RECLAIMABLE | flags.__GFP_DMA | flags.__GFP_ACCOUNT):
        return f"kmalloc-rnd-{copy:02}" if copy else "kmalloc"
    if gfp & flags.__GFP_DMA:
        return "dma-kmalloc"
    return "kmalloc-rcl" if gfp & flags.__GFP_RECLAIMABLE else "kmalloc-cg"


def random_kmalloc_copy(kernel: SlabMachine) -> int:
    """Return which copy of kmalloc's caches serves the line of code that calls, 0 to 15.

    With CONFIG_RANDOM_KMALLOC_CACHES (6.6) a bug in one place cannot choose whose objects lie
    beside its own: every call site has its copy, another one after each boot. Copy 0 is kmalloc-N.
    """
    if kernel.random_kmalloc_seed is None:
        return 0
    caller = zlib.crc32(calling_line().encode())
    return (caller ^ kernel.random_kmalloc_seed) * GOLDEN_RATIO_64 % (1 << 64) >> 60


def kmem_cache_init(kernel: SlabMachine) -> None:
    """Make the caches of caches, kmalloc's, and those a booted Debian has, in Linux's order.

    Linux: kmem_cache_init(), create_kmalloc_caches(), and every caller of kmem_cache_create().
    """
    own = (("kmem_cache", CACHE_SIZE + 8 * kernel.nr_nodes), ("kmem_cache_node", CACHE_NODE_SIZE))
    for name, size in own:
        s = KmemCache(name, size, calculate_alignment(SLAB_HWCACHE_ALIGN, 8, size), 0)
        s.refcount = -1  # nothing is merged into these
        __kmem_cache_create(kernel, s, SLAB_HWCACHE_ALIGN)
    copies = range(1, 1 if kernel.random_kmalloc_seed is None else 16)
    random = {f"kmalloc-rnd-{copy:02}": SLAB_NO_MERGE for copy in copies}
    for prefix, bits in ({"kmalloc": KMALLOC_TYPES["kmalloc"]} | random | KMALLOC_TYPES).items():
        for size in BUCKET_SIZES:
            name = kmalloc_cache_name(prefix, size)
            align = calculate_alignment(0, size & -size, size)
            s = KmemCache(name, size, align, 0, usersize=size)
            __kmem_cache_create(kernel, s, SLAB_KMALLOC | bits)
    for one in system_caches():
        create_cache(
            kernel, one.name, one.size, one.align, one.flags, one.ctor or None,
            (one.useroffset, one.usersize), boot=True,
        )  # fmt: skip


# -- create ---------------------------------------------------------------------------------------


def _debug_flags(kernel: SlabMachine, s: KmemCache, bits: int) -> int:
    """Return a cache's flags with what slab_debug= adds to them (kmem_cache_flags())."""
    if bits & SLAB_NO_USER_FLAGS:
        return bits
    for debug, names in kernel.slab_debug:
        if not names or any(fnmatchcase(s.name, name) for name in names):
            return bits | debug
    return bits


def __kmem_cache_create(kernel: SlabMachine, s: KmemCache, bits: int) -> bool:
    """Lay out a new cache and put it on the list; return False if no slab can hold its objects."""
    s.flags = _debug_flags(kernel, s, bits)
    try:
        if not open_layout(s, kernel.slab_params):
            return False
    except ZeroDivisionError:  # objects of no size; debugging gives them one
        raise kernel.divide_error() from None
    if kernel.slab_debug_low and debug_metadata_grows(s):
        s.flags = s.flags & ~DEBUG_METADATA_FLAGS
        open_layout(s, kernel.slab_params)
    s.random = kernel.get_random_u64()
    s.cpus = [KmemCacheCpu() for _ in range(kernel.nr_cpus)]
    s.nodes = [KmemCacheNode() for _ in range(kernel.nr_nodes)]
    address = max(kernel.kmem_caches, default=FIRST_POINTER) + POINTER_STEP
    s.pointer = CachePointer(address, s.name)
    kernel.adopt_cache(s)
    return True


def create_cache(
    kernel: SlabMachine, name: str | None, size: int, align: int, bits: int,
    ctor: Callable[[int], None] | str | None, user: tuple[int, int], *, boot: bool = False,
) -> KmemCache | None:  # fmt: skip
    """Make a cache, or join an old one that fits; None and a message if that cannot be.

    Linux: __kmem_cache_create_args(). Arguments are hardly looked at in a kernel without
    CONFIG_DEBUG_VM: no name is a NULL pointer dereference, size 0 a division by zero. `boot` says
    that a cache belongs to the booted system, whenever it is made.
    """
    in_interrupt = kernel.context.in_interrupt and not boot
    if kernel.debug_kernel and (name is None or in_interrupt or size > KMALLOC_MAX_SIZE):
        kernel.printk(f"kmem_cache_create({name or '(null)'}) integrity check failed")
        _create_failed(kernel, name, bits)
        return None
    offset, length = user
    if (offset and not length) or length > size or offset > size - length:
        kernel.warn("mm/slab_common.c", "__kmem_cache_create_args")
        user = (0, 0)
    if not user[1]:
        found = _find_mergeable(kernel, name, size, align, bits, ctor)
        if found is not None:
            if name is None:
                raise fault(kernel, 0)
            found.refcount += 1
            found.frozen = None
            found.object_size = max(found.object_size, size)
            found.inuse = max(found.inuse, round_up(size, 8))
            found.aliases.append(name)
            return found
    if name is None:
        raise fault(kernel, 0)
    s = KmemCache(
        name, size, calculate_alignment(bits, align, size), bits,
        useroffset=user[0], usersize=user[1], ctor=ctor,
    )  # fmt: skip
    if __kmem_cache_create(kernel, s, bits):
        return s
    _create_failed(kernel, name, bits)
    return None


def _create_failed(kernel: SlabMachine, name: str | None, bits: int) -> None:
    if bits & SLAB_PANIC:
        line = (
            "Kernel panic - not syncing: __kmem_cache_create_args: Failed to create slab "
            f"'{name or '(null)'}'. Error -{EINVAL}"
        )
        kernel.printk(line)
        raise Panic(line)
    kernel.printk(f"__kmem_cache_create_args({name or '(null)'}) failed with error -{EINVAL}")
    kernel.dump_stack(("__kmem_cache_create_args",))


def slab_unmergeable(s: KmemCache) -> bool:
    """Whether a cache never has others merged into it (same name in Linux)."""
    return bool(s.flags & SLAB_NEVER_MERGE or s.ctor or s.usersize or s.refcount < 0 or s.dying)


def _find_mergeable(
    kernel: SlabMachine, name: str | None, size: int, align: int, bits: int,
    ctor: Callable[[int], None] | str | None,
) -> KmemCache | None:  # fmt: skip
    """Return the oldest cache whose objects will do (find_mergeable())."""
    if kernel.slab_nomerge or ctor:
        return None
    asked = KmemCache(name or "", size, 0, bits)
    bits = _debug_flags(kernel, asked, bits)
    if bits & SLAB_NEVER_MERGE:
        return None
    size = round_up(size, 8)
    align = calculate_alignment(bits, align, size)
    size = round_up(size, align)
    for s in kernel.slab_caches:
        if (
            not slab_unmergeable(s)
            and size <= s.size < size + 8
            and bits & SLAB_MERGE_SAME == s.flags & SLAB_MERGE_SAME
            and s.size % align == 0
        ):
            return s
    return None


# -- destroy --------------------------------------------------------------------------------------


def kmem_cache_destroy(kernel: SlabMachine, s: KmemCache) -> None:
    """Drop a cache; the last user's call frees it, unless objects are left (same name in Linux)."""
    s.refcount -= 1
    s.frozen = None
    if s.refcount:
        return
    slub.flush_all(kernel, s)
    busy = False
    for n in s.nodes:
        empty = []
        for slab in list(n.partial):
            if not slab.inuse:
                n.remove_partial(slab)
                empty.append(slab)
            else:
                list_slab_objects(kernel, s, slab)
        for slab in reversed(empty):
            discard_slab(kernel, slab)
        busy |= bool(n.slabs)
    if busy:
        kernel.warn(
            "mm/slab_common.c:548", "kmem_cache_destroy",
            f"kmem_cache_destroy {s.name}: Slab cache still has objects when called from "
            f"{kernel.caller}",
        )  # fmt: skip
    s.dying = True
    kernel.slab_caches.remove(s)
    kernel.hot_caches.pop(s.pointer, None)
    if not busy:
        del kernel.kmem_caches[s.pointer]
