"""How SLUB lays out a cache: bytes of an object and its metadata, pages of a slab, list lengths.

Pure arithmetic; `slab_common` calls open_layout() for every new cache.
Linux: mm/slub.c calculate_sizes(), calculate_order(), set_cpu_partial(), kmem_cache_open().
"""

from __future__ import annotations

from dataclasses import dataclass

from kmemkit import gfp as flags
from kmemkit.mm import slab
from kmemkit.mm.slab import (
    DEBUG_FLAGS,
    SLAB_CACHE_DMA,
    SLAB_CACHE_DMA32,
    SLAB_CONSISTENCY_CHECKS,
    SLAB_HWCACHE_ALIGN,
    SLAB_KMALLOC,
    SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TRACE,
    SLAB_TYPESAFE_BY_RCU,
    KmemCache,
)
from kmemkit.size_classes import KMALLOC_MAX_SIZE

__all__ = (
    "SlabParams",
    "calculate_alignment",
    "calculate_order",
    "debug_metadata_grows",
    "get_info_end",
    "get_order",
    "object_end",
    "open_layout",
    "slub_debug_orig_size",
)

PAGE_SIZE = 4096
MAX_PAGE_ORDER = 10
WORD = 8  #: sizeof(void *)
CACHE_LINE = 64
#: One record of who allocated or freed: address, stack, CPU, pid, time.
TRACK_SIZE = 32
#: A slab counts its objects in 15 bits.
MAX_OBJS_PER_PAGE = 32767
MIN_PARTIAL, MAX_PARTIAL = 5, 10


#: (bytes KASAN leaves behind an object, what object and zone may take together)
KASAN_REDZONES = (
    (16, 64), (32, 128), (64, 512), (128, 4096), (256, 1 << 14), (512, 1 << 15), (1024, 1 << 16),
)  # fmt: skip


#: sizeof(struct kasan_alloc_meta), and of kasan_free_meta, with CONFIG_KASAN_EXTRA_INFO.
KASAN_META = 24


@dataclass(frozen=True, slots=True)
class SlabParams:
    """What the command line and the number of CPUs say about slabs.

    `nr_cpus` counts the CPUs present, or those possible if only one is present. `word` is
    sizeof(void *): 4 in a 32-bit kernel, whose caches without debugging are laid out, too.
    """

    min_order: int = 0  #: slab_min_order=
    max_order: int = 3  #: slab_max_order=
    min_objects: int = 0  #: slab_min_objects=, 0: by the number of CPUs
    nr_cpus: int = 1
    word: int = WORD
    kasan: bool = False  #: objects have a zone behind them that nobody may touch


def round_up(value: int, unit: int) -> int:
    """Return the next multiple of a unit."""
    return -(-value // unit) * unit


def get_order(size: int) -> int:
    """Return the order of the smallest block that holds `size` bytes (same name in Linux).

    Size 0 gives 52, as the subtraction in C does.
    """
    return ((size - 1) % (1 << 64) >> 12).bit_length()


def calculate_alignment(flag_bits: int, align: int, size: int) -> int:
    """Return the alignment of a cache's objects in bytes (mm/slab_common.c, same name).

    SLAB_HWCACHE_ALIGN asks for a cache line, or as much of it as a small object fills.
    """
    if flag_bits & SLAB_HWCACHE_ALIGN:
        line = CACHE_LINE
        while size <= line // 2:
            line //= 2
        align = max(align, line)
    return round_up(max(align, WORD), WORD)


def _order_objects(order: int, size: int) -> int:
    return (PAGE_SIZE << order) // size


def calculate_order(size: int, params: SlabParams) -> int:
    """Return the order of a cache's slabs, or -1 if no slab can hold an object.

    The lowest order that holds the objects wanted and wastes at most a sixteenth, else an eighth,
    a quarter, half (calc_slab_order()).
    """
    cpus = params.nr_cpus.bit_length()
    wanted = params.min_objects or 4 * (cpus + 1)
    min_objects = min(wanted, max(_order_objects(params.max_order, size), 1))
    low = max(params.min_order, get_order(min_objects * size))
    if _order_objects(low, size) > MAX_OBJS_PER_PAGE:
        return get_order(size * MAX_OBJS_PER_PAGE) - 1
    for fraction in (16, 8, 4, 2):
        for order in range(low, params.max_order + 1):
            nbytes = PAGE_SIZE << order
            if nbytes % size <= nbytes // fraction:
                return order
    order = get_order(size)
    return order if order <= MAX_PAGE_ORDER else -1


def calculate_sizes(s: KmemCache, word: int = WORD) -> None:
    """Set where an object, its free pointer and its metadata lie, and the slot's size.

    From low to high addresses: left red zone, object, right red zone, free pointer (if it does not
    lie in the object), who allocated and freed, requested size, padding.
    """
    bits = s.flags
    size = round_up(s.object_size, word)
    orig_size = bool(bits & SLAB_STORE_USER and bits & SLAB_KMALLOC)
    if bits & SLAB_POISON and not (bits & SLAB_TYPESAFE_BY_RCU or s.ctor):
        bits |= slab.__OBJECT_POISON
    if bits & SLAB_RED_ZONE and size == s.object_size:
        size += word
    s.inuse = size
    outside = (
        bits & (SLAB_TYPESAFE_BY_RCU | SLAB_POISON)
        or s.ctor
        or (bits & SLAB_RED_ZONE and (s.object_size < word or orig_size))
    )
    if outside:
        s.offset = size
        size += word
    else:
        s.offset = s.object_size // 2 // word * word
    if bits & SLAB_STORE_USER:
        size += 2 * TRACK_SIZE + orig_size * WORD
    if bits & SLAB_RED_ZONE:
        s.red_left_pad = round_up(WORD, s.align)
        size += WORD + s.red_left_pad
    s.flags, s.size = bits, round_up(size, s.align)


def debug_metadata_grows(s: KmemCache) -> bool:
    """Whether debugging makes even the smallest slab of a cache bigger (slab_debug=O)."""
    return get_order(s.size) > get_order(s.object_size)


def slub_debug_orig_size(s: KmemCache) -> bool:
    """Whether a cache remembers what size was asked for, not only that of its objects."""
    return bool(s.flags & SLAB_STORE_USER and s.flags & SLAB_KMALLOC)


def _free_pointer_end(s: KmemCache) -> int:
    return s.inuse + WORD if s.offset >= s.inuse else s.inuse


def get_info_end(s: KmemCache) -> int:
    """Return where an object's padding begins: behind free pointer, tracks and requested size."""
    end = _free_pointer_end(s)
    if s.flags & SLAB_STORE_USER:
        end += 2 * TRACK_SIZE + slub_debug_orig_size(s) * WORD
    return end


def object_end(s: KmemCache) -> int:
    """Return where an object's slot ends, counted from the object (size_from_object())."""
    return s.size - s.red_left_pad if s.flags & SLAB_RED_ZONE else s.size


def _kasan_redzone(size: int) -> int:
    """Return how much room KASAN leaves behind an object of a size (optimal_redzone())."""
    return next((zone for zone, end in KASAN_REDZONES if size <= end - zone), 2048)


def _kasan_size(s: KmemCache) -> int:
    """Return a slot's size with what KASAN keeps behind the object (kasan_cache_create()).

    Who allocated it; who freed it, if that does not fit into the free object; and as much as makes
    the room between two objects big enough to notice a store past the end.
    """
    size, freed_inside = (
        s.size,
        s.object_size >= KASAN_META and not (s.ctor or s.flags & SLAB_TYPESAFE_BY_RCU),
    )
    for meta in (KASAN_META, 0 if freed_inside else KASAN_META):
        size += meta if size + meta <= KMALLOC_MAX_SIZE else 0
    optimal = min(s.object_size + _kasan_redzone(s.object_size), KMALLOC_MAX_SIZE)
    return max(size, optimal)


def open_layout(s: KmemCache, params: SlabParams) -> bool:
    """Fill in a new cache; return False if its objects fit in no slab."""
    calculate_sizes(s, params.word)
    if params.kasan:
        s.size = round_up(_kasan_size(s), s.align)
    order = calculate_order(s.size, params)
    if order < 0:
        return False
    s.allocflags = flags.__GFP_COMP
    if s.flags & SLAB_CACHE_DMA:
        s.allocflags |= flags.__GFP_DMA
    if s.flags & SLAB_CACHE_DMA32:
        s.allocflags |= flags.__GFP_DMA32
    if s.flags & SLAB_RECLAIM_ACCOUNT:
        s.allocflags |= flags.__GFP_RECLAIMABLE
    s.oo = (order, _order_objects(order, s.size))
    least = get_order(s.size)
    s.min = (least, _order_objects(least, s.size))
    if not s.flags & (SLAB_CONSISTENCY_CHECKS | SLAB_STORE_USER | SLAB_TRACE):
        s.flags |= slab.__CMPXCHG_DOUBLE
    s.min_partial = max(MIN_PARTIAL, min(MAX_PARTIAL, (s.size.bit_length() - 1) // 2))
    _set_cpu_partial(s)
    return True


def _set_cpu_partial(s: KmemCache) -> None:
    """Set how many free objects a CPU may keep, and in how many half-empty slabs those are."""
    if s.flags & DEBUG_FLAGS:
        objects = 0
    elif s.size >= PAGE_SIZE:
        objects = 6
    elif s.size >= 1024:
        objects = 24
    elif s.size >= 256:
        objects = 52
    else:
        objects = 120
    s.cpu_partial = objects
    s.cpu_partial_slabs = -(-objects * 2 // s.oo[1])
