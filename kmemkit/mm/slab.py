"""What SLUB is made of: caches, their slabs, what each CPU and node holds of them.

Data only. `slub` allocates and frees, `slub_layout` computes sizes and orders, `slab_common` makes
caches. Objects are addresses in the direct map; a free object's pointer to the next one is in its
memory (`memory`), so that a wild write breaks a free list here as it does in Linux.

Linux: mm/slab.h, include/linux/slab.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from kmemkit.slab_snapshot import CacheSnapshot, SlabSnapshot

__all__ = (
    "DEBUG_FLAGS",
    "SLAB_ACCOUNT",
    "SLAB_CACHE_DMA",
    "SLAB_CACHE_DMA32",
    "SLAB_CONSISTENCY_CHECKS",
    "SLAB_HWCACHE_ALIGN",
    "SLAB_KMALLOC",
    "SLAB_NOLEAKTRACE",
    "SLAB_NO_MERGE",
    "SLAB_NO_USER_FLAGS",
    "SLAB_PANIC",
    "SLAB_POISON",
    "SLAB_RECLAIM_ACCOUNT",
    "SLAB_RED_ZONE",
    "SLAB_STORE_USER",
    "SLAB_TRACE",
    "SLAB_TYPESAFE_BY_RCU",
    "CachePointer",
    "KmemCache",
    "KmemCacheCpu",
    "KmemCacheNode",
    "Slab",
)

SLAB_CONSISTENCY_CHECKS = 0x1
SLAB_RED_ZONE = 0x2
SLAB_POISON = 0x4
SLAB_KMALLOC = 0x8
SLAB_HWCACHE_ALIGN = 0x10
SLAB_CACHE_DMA = 0x20
SLAB_CACHE_DMA32 = 0x40
SLAB_STORE_USER = 0x80
SLAB_PANIC = 0x100
SLAB_TYPESAFE_BY_RCU = 0x200
SLAB_TRACE = 0x400
SLAB_NOLEAKTRACE = 0x800
SLAB_NO_MERGE = 0x1000
SLAB_ACCOUNT = 0x2000
SLAB_NO_USER_FLAGS = 0x4000
SLAB_RECLAIM_ACCOUNT = 0x10000
#: Free objects hold the poison (there is no constructor, and no RCU reader may look at them).
__OBJECT_POISON = 0x20000
#: Free list and counters of a slab can be changed in one atomic step.
__CMPXCHG_DOUBLE = 0x40000

#: A cache with one of these works slab by slab under a lock, and has no per-CPU lists.
DEBUG_FLAGS = (
    SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER | SLAB_TRACE
)  # fmt: skip


#: Fields of a Slab that its snapshot has too, in that order.
SLAB_FIELDS = (
    "pfn", "order", "objects", "nid", "address", "freelist", "inuse", "frozen", "on_node",
    "workingset",
)  # fmt: skip
# There may be thousands of slabs: no Python function is called for each field.
_slab_fields = attrgetter(*SLAB_FIELDS)


@dataclass(slots=True, eq=False)
class Slab:
    """A block of pages cut into objects of one cache.

    `inuse` counts what is not on the slab's own `freelist` (the address of its first free object,
    0 at the end of a list). While a CPU has it (`frozen`), its objects are all in use for the node.
    """

    cache: KmemCache
    pfn: int
    order: int
    objects: int
    nid: int
    address: int  #: of the first byte, in the direct map
    freelist: int = 0
    inuse: int = 0
    frozen: bool = False
    on_node: bool = False  #: on its node's partial list
    workingset: bool = False  #: PG_workingset: was on the node's partial list, never a CPU's
    #: free object -> the next one, of the pointers stored in this slab as `memory` says
    links: dict[int, int] = field(default_factory=dict)
    snapshot: SlabSnapshot | None = None  #: what it is in snapshots, until something changes

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        object.__setattr__(self, "snapshot", None)

    def freeze(self) -> SlabSnapshot:
        """Return it as a value: the same one while nothing changes."""
        frozen = SlabSnapshot._make((*_slab_fields(self), dict(self.links)))
        object.__setattr__(self, "snapshot", frozen)
        return frozen


class CachePointer(int):
    """A struct kmem_cache pointer: what kmem_cache_create() returns, and the others take."""

    name: str

    def __new__(cls, address: int, name: str) -> CachePointer:
        """Return the address of a cache's struct, which prints with the cache's name."""
        self = super().__new__(cls, address)
        self.name = name
        return self

    def __getnewargs__(self) -> tuple[int, str]:  # type: ignore[override]
        """Return what a copy is made of."""
        return int(self), self.name

    def __repr__(self) -> str:
        return f"<kmem_cache {self.name}>"


NO_CACHE = CachePointer(0, "")


@dataclass(slots=True, eq=False)
class KmemCacheCpu:
    """What a CPU holds of a cache (struct kmem_cache_cpu)."""

    freelist: int = 0
    slab: Slab | None = None
    #: address of `slab`, or -1; where objects begin in it, in bytes, if the short ways may be taken
    base: int = -1
    starts: frozenset[int] = frozenset()
    links: dict[int, int] = field(default_factory=dict)  #: those of `slab`
    #: slabs with free objects kept for later, head first
    partial: list[Slab] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class KmemCacheNode:
    """What a node holds of a cache (struct kmem_cache_node)."""

    #: slabs with free objects that no CPU has, in order: head first
    partial: list[Slab] = field(default_factory=list)
    #: full slabs, newest first; kept in debug caches only
    full: list[Slab] = field(default_factory=list)
    #: every slab of the cache on this node, by the pfn of its first page
    slabs: dict[int, Slab] = field(default_factory=dict)

    @property
    def nr_partial(self) -> int:
        """Slabs on the partial list."""
        return len(self.partial)

    def add_partial(self, slab: Slab, *, tail: bool) -> None:
        """Put a slab on the partial list (same name in Linux)."""
        if tail:
            self.partial.append(slab)
        else:
            self.partial.insert(0, slab)
        slab.on_node = slab.workingset = True

    def remove_partial(self, slab: Slab) -> None:
        """Take a slab off the partial list (same name in Linux)."""
        self.partial.remove(slab)
        slab.on_node = slab.workingset = False


@dataclass(slots=True, eq=False)
class KmemCache:
    """A cache of objects of one size (struct kmem_cache)."""

    name: str
    object_size: int  #: what an object's user asked for, in bytes
    align: int
    flags: int
    useroffset: int = 0  #: first byte that may be copied to user space
    usersize: int = 0
    #: called for every object of a new slab; of a cache made at boot, its name
    ctor: Callable[[int], None] | str | None = None
    size: int = 0  #: from one object to the next, in bytes
    inuse: int = 0  #: where metadata begins
    offset: int = 0  #: of the free pointer in a free object
    red_left_pad: int = 0
    oo: tuple[int, int] = (0, 0)  #: (order, objects) of a slab
    min: tuple[int, int] = (0, 0)  #: the same when memory is short
    allocflags: int = 0
    min_partial: int = 0
    cpu_partial: int = 0
    cpu_partial_slabs: int = 0
    random: int = 0  #: what stored free pointers are mixed with
    random_seq: list[int] | None = None  #: order of the objects in a new slab
    refcount: int = 1
    aliases: list[str] = field(default_factory=list)  #: names of caches merged into this one
    pointer: CachePointer = NO_CACHE  #: address of the struct
    cpus: list[KmemCacheCpu] = field(default_factory=list)
    nodes: list[KmemCacheNode] = field(default_factory=list)
    #: the running CPU's
    cpu: KmemCacheCpu = field(default_factory=KmemCacheCpu)
    #: where objects begin in a slab, in bytes; empty until there is one
    starts: frozenset[int] = frozenset()
    clears: bool = False  #: every object is set to zero when it is allocated, and nothing checks it
    dying: bool = False  #: destroyed while objects were in use
    frozen: CacheSnapshot | None = None  #: what it is in snapshots, until it has a slab

    @property
    def debug(self) -> bool:
        """Whether allocations go the checked way (kmem_cache_debug())."""
        return bool(self.flags & DEBUG_FLAGS)

    def slabs(self) -> Iterator[Slab]:
        """Every slab, lowest node first, oldest first."""
        for node in self.nodes:
            yield from node.slabs.values()

    def __repr__(self) -> str:
        return f"<kmem_cache {self.name}: {self.object_size} bytes, {self.oo[1]} objects a slab>"
