"""The slab allocator's C API, as methods of Kernel: kmem_cache_*(), kmalloc() and its family.

Methods carry the C names and argument order. Memory is named by its address; NULL is None, and
kmalloc(0) is ZERO_SIZE_PTR, the address 16. A cache is named by the address of its struct.
"""

from __future__ import annotations

from collections.abc import Callable

from kmemkit import gfp as flags
from kmemkit.mm import slub
from kmemkit.mm.debug import might_alloc, might_sleep
from kmemkit.mm.fault import fault
from kmemkit.mm.fault_inject import should_failslab
from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT
from kmemkit.mm.mmzone import HOLE
from kmemkit.mm.page_check import free_pages
from kmemkit.mm.physaddr import struct_page_address, virt_to_pfn
from kmemkit.mm.slab import (
    SLAB_KMALLOC,
    SLAB_NOLEAKTRACE,
    SLAB_POISON,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TYPESAFE_BY_RCU,
    CachePointer,
    KmemCache,
    Slab,
)
from kmemkit.mm.slab_common import (
    KMALLOC_MAX_CACHE_SIZE,
    create_cache,
    kmalloc_cache_name,
    kmalloc_size,
    kmalloc_type,
    kmem_cache_destroy,
    kmem_cache_init,
)
from kmemkit.mm.slab_machine import SlabMachine
from kmemkit.mm.slub_debug import skip_orig_size_check
from kmemkit.mm.slub_layout import get_order
from kmemkit.mm.slub_pages import GFP_SLAB_BUG_MASK

__all__ = ("ZERO_SIZE_PTR", "SlabCalls")

ZERO_SIZE_PTR = 16
SIZE_MAX = (1 << 64) - 1
#: Where mutex_lock() says that it may sleep, in Linux 6.12.
MIGHT_SLEEP_MUTEX = "kernel/locking/mutex.c:586"
#: What is read of a struct page first: whose tail it is.
COMPOUND_HEAD = 8
# Inside a class Python would mangle names that begin with two underscores.
COMP, ZERO, NOWARN = flags.__GFP_COMP, flags.__GFP_ZERO, flags.__GFP_NOWARN


class SlabCalls(SlabMachine):
    """The part of a machine that gives out and takes back objects."""

    # -- caches -----------------------------------------------------------------------------------

    def kmem_cache_create(
        self, name: str | None, size: int, align: int = 0, flags: int = 0,
        ctor: Callable[[int], None] | None = None,
    ) -> CachePointer | None:  # fmt: skip
        """Make a cache of objects of `size` bytes, or join one that serves; None if it cannot be.

        Args:
            name: for /proc/slabinfo.
            size: of an object in bytes.
            align: of the objects in bytes; rounded up to a multiple of 8.
            flags: SLAB_* or'ed together.
            ctor: called with the address of every object of a new slab.

        Raises:
            Oops: no name, or size 0. Panic: it could not be made, and flags has SLAB_PANIC.
        """
        return self.kmem_cache_create_usercopy(name, size, align, flags, 0, 0, ctor)

    def kmem_cache_create_usercopy(
        self, name: str | None, size: int, align: int, flags: int, useroffset: int, usersize: int,
        ctor: Callable[[int], None] | None = None,
    ) -> CachePointer | None:  # fmt: skip
        """Make a cache of whose objects a part may be copied to user space (same name in Linux)."""
        self._caches_ready()

        def run() -> CachePointer | None:
            might_sleep(self, MIGHT_SLEEP_MUTEX)
            user = (useroffset, usersize)
            s = create_cache(self, name, size, align, flags, ctor, user)
            return None if s is None else s.pointer

        return self._call(f"kmem_cache_create({name}, {size})", run, str)

    def kmem_cache_destroy(self, cache: int | None) -> None:
        """Drop a cache; objects still in use are reported, and the cache leaks. NULL is fine."""
        if cache is not None:
            s = self._cache(cache)
            if self.kasan is not None:
                self.kasan.remove_cache(self, s)
            run = lambda: kmem_cache_destroy(self, s)  # noqa: E731
            self._call(f"kmem_cache_destroy({s.name})", run, _nothing)

    def kmem_cache_shrink(self, cache: int) -> int:
        """Give empty slabs back, and sort the others by how full they are (same name in Linux).

        Returns 1 if slabs are left, 0 if none.
        """
        s = self._cache(cache)
        run = lambda: slub.kmem_cache_shrink(self, s)  # noqa: E731
        return self._call(f"kmem_cache_shrink({s.name})", run, str)

    def kmem_cache_size(self, cache: int) -> int:
        """Return the size of a cache's objects in bytes (same name in Linux)."""
        return self._cache(cache).object_size

    def kmem_cache(self, name: str) -> CachePointer:
        """Return the cache of a name, or the one it was merged into.

        Raises:
            ValueError: there is none.
        """
        self._caches_ready()
        for s in self.slab_caches:
            if s.name == name or name in s.aliases:
                return s.pointer
        raise ValueError(f"there is no cache {name!r}; make one with kmem_cache_create()")

    def _cache(self, cache: int | None) -> KmemCache:
        """Return what a cache pointer leads to."""
        if cache is not None and (not isinstance(cache, int) or isinstance(cache, bool)):
            raise TypeError(f"{cache!r} is not a cache; give what kmem_cache_create() returned")
        s = self.kmem_caches.get(cache or 0)
        if s is None:
            raise fault(self, cache or 0)
        return s

    def _caches_ready(self) -> None:
        if not self.slab_caches:
            kmem_cache_init(self)
            self.refresh_hot()

    # -- objects ----------------------------------------------------------------------------------

    def kmem_cache_alloc(self, cache: int, gfp: int | str) -> int | None:
        """Allocate an object; return its address, or None (same name in Linux)."""
        # Nearly every request is served from the CPU's list while nobody looks. That way is written
        # out here and below, because a call costs more than the work. What is not in the tables,
        # whatever it is, goes the careful way.
        try:
            c = self.hot_caches[cache].cpu
            if gfp in self.hot_sizes:
                at = c.freelist
                c.freelist = self.freeptr.pop(at)  # not there: none, or not sound
                return at
        except (KeyError, TypeError):
            pass
        return self.kmem_cache_alloc_node(cache, gfp, -1)

    def kmem_cache_zalloc(self, cache: int, gfp: int | str) -> int | None:
        """Allocate an object of zeroes; return its address, or None (same name in Linux)."""
        return self.kmem_cache_alloc(cache, flags.as_mask(gfp, self.release) | ZERO)

    def kmem_cache_alloc_node(self, cache: int, gfp: int | str, node: int = -1) -> int | None:
        """Allocate an object, from a node if it has memory (same name in Linux)."""
        s, mask = self._cache(cache), self._mask(gfp)
        run = lambda: self._slab_alloc(s, mask, node, s.object_size)  # noqa: E731
        return self._call(f"kmem_cache_alloc({s.name}, {flags.decode(mask)})", run, _address)

    def kmem_cache_alloc_bulk(self, cache: int, gfp: int | str, count: int) -> list[int]:
        """Allocate `count` objects, or none of them (same name in Linux)."""
        s, mask = self._cache(cache), flags.as_mask(gfp, self.release)

        def run() -> list[int]:
            got: list[int] = []
            for _ in range(count):
                at = self._slab_alloc(s, mask, -1, s.object_size)
                if at is None:
                    for one in got:
                        self._slab_free(s, self._slab_of(one), one)
                    return []
                got.append(at)
            return got

        call = f"kmem_cache_alloc_bulk({s.name}, {flags.decode(mask)}, {count})"
        return self._call(call, run, lambda got: f"{len(got)} objects")

    def kmem_cache_free(self, cache: int, obj: int | None) -> None:
        """Free an object of a cache; unlike kfree(), not NULL (same name in Linux).

        A wrong cache is reported, and the object goes to its own.
        """
        at = obj or 0
        try:
            c = self.hot_caches[cache].cpu
            head = c.freelist
            if at - c.base in c.starts and at != head:
                self.freeptr[at] = head
                c.freelist = at
                return
        except (KeyError, TypeError):
            pass
        s = self._cache(cache)
        run = lambda: self._kmem_cache_free(s, at)  # noqa: E731
        self._call(f"kmem_cache_free({s.name}, {_address(obj)})", run, _nothing)

    def _kmem_cache_free(self, s: KmemCache, at: int) -> None:
        """Find the cache of an object, and free it there (cache_from_obj())."""
        slab = self._slab_at(at)
        if slab is None:
            self.warn_once(
                "mm/slub.c:4756", "kmem_cache_free", "virt_to_cache: Object is not a Slab page!"
            )
            return
        if slab.cache is not s:
            self.warn(
                "mm/slub.c:4770", "kmem_cache_free",
                f"cache_from_obj: Wrong slab cache. {s.name} but object is from {slab.cache.name}",
            )  # fmt: skip
        self._slab_free(slab.cache, slab, at)

    # -- kmalloc ----------------------------------------------------------------------------------

    def kmalloc(self, size: int, gfp: int | str) -> int | None:
        """Allocate `size` bytes in one physical piece; return the address, or None.

        Up to 8192 bytes come from the size classes' caches, more from the page allocator, to 4 MiB.
        kmalloc(0) is ZERO_SIZE_PTR.
        """
        try:
            if type(size) is int and size > 0:
                c = self.hot_sizes[gfp][size].cpu
                at = c.freelist
                c.freelist = self.freeptr.pop(at)
                return at
        except (IndexError, KeyError, TypeError):
            pass
        return self.kmalloc_node(size, gfp, -1)

    def kzalloc(self, size: int, gfp: int | str) -> int | None:
        """Allocate `size` bytes of zeroes: the first choice (same name in Linux)."""
        return self.kmalloc(size, flags.as_mask(gfp, self.release) | ZERO)

    def kmalloc_node(self, size: int, gfp: int | str, node: int = -1) -> int | None:
        """Allocate `size` bytes, from a node if it has memory (same name in Linux)."""
        self._caches_ready()
        mask, size = self._mask(gfp), _size(size)
        run = lambda: self._kmalloc(size, mask, node)  # noqa: E731
        return self._call(f"kmalloc({size}, {flags.decode(mask)})", run, _address)

    def _mask(self, gfp: int | str) -> int:
        """Return a mask as an int, and remember that it is a good one."""
        self._caches_ready()
        mask = flags.as_mask(gfp, self.release)
        if self.slab_hot and gfp not in self.hot_sizes:
            kind = kmalloc_type(mask)
            if kind not in self.kmalloc_sizes:
                sizes = [
                    self.kmalloc_slab(max(n, 1), mask) for n in range(KMALLOC_MAX_CACHE_SIZE + 1)
                ]
                self.kmalloc_sizes[kind] = sizes if all(s.clears for s in sizes) else []
            self.hot_sizes[gfp] = self.kmalloc_sizes[kind]
        return mask

    def _kmalloc(self, size: int, mask: int, node: int) -> int | None:
        if size > KMALLOC_MAX_CACHE_SIZE:
            return self._kmalloc_large(size, mask, node)
        if not size:
            return ZERO_SIZE_PTR
        return self._slab_alloc(self.kmalloc_slab(size, mask), mask, node, size)

    def kmalloc_slab(self, size: int, mask: int) -> KmemCache:
        """Return the cache that serves a size and a mask (same name in Linux)."""
        key = (kmalloc_type(mask), kmalloc_size(size))
        if key not in self.kmalloc_caches:
            wanted = kmalloc_cache_name(*key)
            self.kmalloc_caches[key] = next(s for s in self.slab_caches if s.name == wanted)
        return self.kmalloc_caches[key]

    def _kmalloc_large(self, size: int, mask: int, node: int) -> int | None:
        """Allocate pages for what is too big for a slab (___kmalloc_large_node())."""
        if mask & GFP_SLAB_BUG_MASK:
            mask = self.kmalloc_fix_flags(mask)
        order = get_order(size)
        context = self._context(mask | COMP, None if node == -1 else node)
        self.owner_number("kmalloc")
        pfn = self._alloc(context, order, "kmalloc")
        if pfn is None:
            return None
        self.node_page_state[self.page_zone(pfn).nid, "nr_slab_unreclaimable"] += 1 << order
        at = PAGE_OFFSET + (pfn << PAGE_SHIFT)
        if self.kasan is not None:
            self.kasan.large[pfn] = size
        if self.leaks is not None:
            self.leaks.alloc(self, at, size, "kmemleak_alloc", "__kmalloc_large_noprof")
        return at

    def kfree(self, address: int | None) -> None:
        """Free what kmalloc() or kmem_cache_alloc() gave; NULL and ZERO_SIZE_PTR are fine."""
        at = address or 0
        if self.slab_hot:
            try:
                c = self.slabs[at - PAGE_OFFSET >> PAGE_SHIFT].cache.cpu
                head = c.freelist
                if at - c.base in c.starts and at != head:
                    self.freeptr[at] = head
                    c.freelist = at
                    return
            except (KeyError, TypeError):
                pass
        self._call(f"kfree({_address(address)})", lambda: self._kfree(at), _nothing)

    def _kfree(self, at: int) -> None:
        if at <= ZERO_SIZE_PTR:
            return
        slab = self._slab_at(at)
        if slab is None:
            self._free_large_kmalloc(at)
        else:
            self._slab_free(slab.cache, slab, at)

    def _free_large_kmalloc(self, at: int) -> None:
        """Free the block an address lies in; nobody asks whether kmalloc() gave it (same name)."""
        head, order = self._folio(self.struct_page(at))
        if not order and self.warn_once("mm/slub.c:4799", "free_large_kmalloc"):
            self.printk(f"object pointer: {at:#018x}")
        if self.kasan is not None:
            self.kasan.free_large(self, at, head)
        self.node_page_state[self.page_zone(head).nid, "nr_slab_unreclaimable"] -= 1 << order
        if self.leaks is not None:
            self.leaks.free(at)
        free_pages(self, self.page_zone(head), head, order)

    def kfree_sensitive(self, address: int | None) -> None:
        """Wipe memory, and free it (same name in Linux)."""

        def run() -> None:
            at = address or 0
            size = self._ksize(at)
            if size:
                skip = self._slab_at(at)
                if skip is not None:
                    skip_orig_size_check(self, skip.cache, at)
                self.memory.write(at, bytes(size))
            self._kfree(at)

        self._call(f"kfree_sensitive({_address(address)})", run, _nothing)

    def ksize(self, address: int | None) -> int:
        """Return how many bytes an allocation really has (same name in Linux).

        Not for using them: debugging is switched off for the part that was not asked for.
        """
        at = address or 0
        size = self._ksize(at)
        slab = self._slab_at(at) if at > ZERO_SIZE_PTR else None
        if slab is not None:
            skip_orig_size_check(self, slab.cache, at)
        return size

    def _ksize(self, at: int) -> int:
        if at <= ZERO_SIZE_PTR:
            return 0
        slab = self._slab_at(at)
        if slab is None:
            head, order = self._folio(self.struct_page(at))
            size = 4096 << order
            if size <= KMALLOC_MAX_CACHE_SIZE or at != PAGE_OFFSET + (head << PAGE_SHIFT):
                self.warn("mm/slab_common.c:1046", "__ksize")
                return 0
            return size
        if self.kfence is not None and self.kfence.owns(at):
            return self.kfence.live.get(at, 0)
        s = slab.cache
        if s.flags & (SLAB_RED_ZONE | SLAB_POISON) or self.kasan is not None:
            return s.object_size
        if s.flags & (SLAB_TYPESAFE_BY_RCU | SLAB_STORE_USER):
            return s.inuse
        return s.size

    # -- inside -----------------------------------------------------------------------------------

    def _slab_alloc(self, s: KmemCache, mask: int, node: int, size: int) -> int | None:
        """Allocate an object, and clear it if that is asked for (slab_post_alloc_hook())."""
        if self.context.frames:
            might_alloc(self, mask)
        if self.watched and should_failslab(self, s, mask):
            return None
        if self.kfence is not None and (guarded := self.kfence.alloc(self, s, size)) is not None:
            return guarded
        at = slub.slab_alloc_node(self, s, mask, node, size)
        if self.leaks is not None and at is not None and not s.flags & SLAB_NOLEAKTRACE:
            caller = "__kmalloc_noprof" if s.flags & SLAB_KMALLOC else "kmem_cache_alloc_noprof"
            self.leaks.alloc(self, at, s.object_size, "kmemleak_alloc", caller)
        if self.kasan is not None and at is not None:
            self.kasan.alloc(at, size)
        if at is not None and self._want_init_on_alloc(s, mask):
            self.memory.clear(at, s.object_size if not s.flags & SLAB_STORE_USER else size)
        return at

    def _want_init_on_alloc(self, s: KmemCache, mask: int) -> bool:
        """Whether a new object is set to zero (slab_want_init_on_alloc())."""
        if self.init_on_alloc:
            if s.ctor:
                return False
            if s.flags & (SLAB_TYPESAFE_BY_RCU | SLAB_POISON):
                return bool(mask & ZERO)
            return True
        return bool(mask & ZERO)

    def _slab_free(self, s: KmemCache, slab: Slab, at: int) -> None:
        if self.leaks is not None:
            self.leaks.free(at)
        if self.kfence is not None and self.kfence.owns(at):
            self.kfence.free(self, at)
        elif self.kasan is None or not self.kasan.slab_free(self, s, slab, at):
            slub.slab_free(self, s, slab, at)

    def _slab_at(self, at: int) -> Slab | None:
        """Return the slab an address lies in, None if it is another page (virt_to_slab()).

        Raises:
            Oops: it has no struct page.
        """
        slab = self.slabs.get(at - PAGE_OFFSET >> PAGE_SHIFT)
        if slab is None:
            self.struct_page(at)
        return slab

    def _slab_of(self, at: int) -> Slab:
        return self.slabs[at - PAGE_OFFSET >> PAGE_SHIFT]

    def struct_page(self, at: int) -> int:
        """Return the pfn whose struct page virt_to_page() finds for an address.

        Raises:
            Oops: reading that struct faults, for there is none: the address is none of the direct
                map's.
        """
        pfn = virt_to_pfn(at)
        if pfn < self.mem_map.pages and self.mem_map.page[pfn] != HOLE:
            return pfn
        raise fault(self, struct_page_address(pfn) + COMPOUND_HEAD)

    # -- bytes ------------------------------------------------------------------------------------

    def read(self, address: int, size: int = 8) -> bytes:
        """Return bytes of memory, as a load would.

        Raises:
            Oops: no memory there.
        """
        self.check_access(address, size)
        return self.memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Store bytes, as a driver's code would; nothing checks whose they are.

        Raises:
            Oops: no memory there.
        """

        def run() -> None:
            self.check_access(address, len(data), write=True)
            self.memory.write(address, data)

        self._call(f"write({address:#x}, {len(data)} bytes)", run, _nothing)

    def check_access(
        self, address: int, size: int, *, write: bool = False, function: str = ""
    ) -> None:
        """Let KASAN, if it is built in, look at bytes that are about to be touched."""
        if self.kfence is not None and self.kfence.owns(address + max(size - 1, 0)):
            self.kfence.check(self, address, size, write=write)
        if self.kasan is not None and size:
            self.kasan.check(self, address, size, write=write, function=function)


def _size(size: int) -> int:
    """Return a size as the C parameter receives it: a size_t has 64 bits, and no sign."""
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"size={size!r}: give a number of bytes")
    return size & SIZE_MAX


def _address(address: int | None) -> str:
    return "NULL" if address is None else f"{address:#x}"


def _nothing(_: None) -> str:
    return ""
