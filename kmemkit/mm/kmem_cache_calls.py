"""The slab caches' C API, as methods of Kernel: kmem_cache_create() and its kin.

Methods carry the C names and argument order. An object is named by its address, NULL is None; a
cache by the address of its struct. `slab_calls` builds kmalloc() on what is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kmemkit import gfp as flags
from kmemkit.mm import slub
from kmemkit.mm.arguments import numbers, pointer, unsigned_int, whole
from kmemkit.mm.debug import might_alloc, might_sleep
from kmemkit.mm.fault import fault
from kmemkit.mm.fault_inject import should_failslab
from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT
from kmemkit.mm.physaddr import address_text
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
    random_kmalloc_copy,
)
from kmemkit.mm.slab_machine import SlabMachine
from kmemkit.mm.slub_report import print_tracking

__all__ = ("KmemCacheCalls",)

#: Where mutex_lock() says that it may sleep, in Linux 6.12.
MIGHT_SLEEP_MUTEX = "kernel/locking/mutex.c:586"
#: Objects of other slabs at which kmem_cache_free_bulk() stops looking for more of one slab's.
FREE_BULK_LOOKAHEAD = 3
# Inside a class Python would mangle names that begin with two underscores.
ZERO = flags.__GFP_ZERO


class KmemCacheCalls(SlabMachine):
    """The part of a machine that makes caches, and gives out and takes back their objects."""

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
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name={name!r}: give the cache's name as text")
        if ctor is not None and not callable(ctor):
            raise TypeError(
                f"ctor={ctor!r}: give a function that takes an object's address, or None"
            )
        size = unsigned_int("size", size, "the size of an object in bytes")
        align = unsigned_int("align", align, "an alignment in bytes, 0 for the usual one")
        flags = unsigned_int("flags", flags, "SLAB_* flags or'ed together, or 0")
        useroffset = unsigned_int("useroffset", useroffset, "a number of bytes")
        usersize = unsigned_int("usersize", usersize, "a number of bytes")
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
            self._call(f"kmem_cache_destroy({s.name})", run)

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
        if not isinstance(name, str):
            raise TypeError(f"name={name!r}: give the cache's name as text")
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
                c.freelist = c.links.pop(at)  # not there: none, or not sound
                return at
        except (KeyError, TypeError):
            pass
        return self.kmem_cache_alloc_node(cache, gfp, -1)

    def kmem_cache_zalloc(self, cache: int, gfp: int | str) -> int | None:
        """Allocate an object of zeroes; return its address, or None (same name in Linux)."""
        return self.kmem_cache_alloc(cache, flags.as_mask(gfp, self.release) | ZERO)

    def kmem_cache_alloc_node(self, cache: int, gfp: int | str, node: int = -1) -> int | None:
        """Allocate an object, from a node if it has memory (same name in Linux)."""
        s, mask, nid = self._cache(cache), self._mask(gfp), self._node(node)
        run = lambda: self._slab_alloc(s, mask, nid, s.object_size)  # noqa: E731
        return self._call(f"kmem_cache_alloc({s.name}, {flags.decode(mask)})", run, address_text)

    def kmem_cache_alloc_bulk(self, cache: int, gfp: int | str, count: int) -> list[int]:
        """Allocate `count` objects, or none of them (same name in Linux)."""
        s, mask = self._cache(cache), flags.as_mask(gfp, self.release)
        if whole("count", count, "a number of objects") < 0:
            raise ValueError(f"count={count}: give 0 or more objects")

        def run() -> list[int]:
            got: list[int] = []
            if not self._slab_pre_alloc_hook(s, mask):
                return got
            for _ in range(count):
                at = self._slab_take(s, mask, -1, s.object_size)
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
        try:
            at = obj or 0
            c = self.hot_caches[cache].cpu
            head = c.freelist
            if at - c.base in c.starts and at != head:
                c.links[at] = head
                c.freelist = at
                return
        except (KeyError, TypeError):
            pass
        s, where = self._cache(cache), pointer(obj)
        run = lambda: self._kmem_cache_free(s, where)  # noqa: E731
        self._call(f"kmem_cache_free({s.name}, {address_text(obj)})", run)

    def _kmem_cache_free(self, s: KmemCache, at: int) -> None:
        """Find the cache of an object, and free it there (cache_from_obj())."""
        slab = self._slab_at(at)
        if slab is None:
            self.warn_once(
                "mm/slub.c:4756", "kmem_cache_free", "virt_to_cache: Object is not a Slab page!"
            )
            return
        self._slab_free(self._cache_from_obj(s, slab, at), slab, at)

    def _cache_from_obj(self, s: KmemCache, slab: Slab, at: int) -> KmemCache:
        """Return the cache an object is from; say so if that is not `s` (cache_from_obj())."""
        if slab.cache is not s:
            self.warn(
                "mm/slub.c:4770", "kmem_cache_free",
                f"cache_from_obj: Wrong slab cache. {s.name} but object is from {slab.cache.name}",
            )  # fmt: skip
            print_tracking(self, at)
        return slab.cache

    def kmem_cache_free_bulk(self, cache: int, objects: Iterable[int]) -> None:
        """Free objects of a cache, the last one first (same name in Linux).

        Raises:
            Oops: one of them is no slab's object; NULL is none.
        """
        s = self._cache(cache)
        wanted = [pointer(one) for one in numbers("objects", objects, "the addresses of objects")]

        def run() -> None:
            left = list(wanted)
            while left:
                slab = self._slab_at(left[-1])
                if slab is None:
                    self._kmem_cache_free(s, left[-1])  # which warns, and knows no cache
                    raise fault(self, 0)
                batch = self._detached(slab, left)
                own = self._cache_from_obj(s, slab, batch[0])
                for at in batch:
                    self._slab_free(own, slab, at)

        self._call(f"kmem_cache_free_bulk({s.name}, {len(wanted)} objects)", run)

    def _detached(self, slab: Slab, left: list[int]) -> list[int]:
        """Take a slab's objects from the end of `left`, in the order they are freed.

        Two objects of other slabs are passed over, and close the gaps; the third one ends the
        search (build_detached_freelist()).
        """
        batch, same, lookahead = [left[-1]], len(left) - 1, FREE_BULK_LOOKAHEAD
        for index in reversed(range(same)):
            if self._slab_at(left[index]) is slab:
                batch.append(left[index])
                same -= 1
                left[index], left[same] = left[same], left[index]
            else:
                lookahead -= 1
                if not lookahead:
                    break
        del left[same:]
        return batch

    # -- inside -----------------------------------------------------------------------------------

    def _node(self, node: int) -> int:
        """Return a node that memory is wanted from; -1 (NUMA_NO_NODE) leaves it to the machine."""
        whole("node", node, "the number of a node, or -1")
        if not -1 <= node < self.nr_nodes:
            raise ValueError(f"node={node}: this machine has nodes 0 to {self.nr_nodes - 1}")
        return node

    def _mask(self, gfp: int | str) -> int:
        """Return a mask as an int, and remember that it is a good one."""
        self._caches_ready()
        mask = flags.as_mask(gfp, self.release)
        if self.slab_hot and gfp not in self.hot_sizes:
            kind = kmalloc_type(mask)
            if kind not in self.kmalloc_sizes and self.random_kmalloc_seed is not None:
                self.kmalloc_sizes[kind] = []  # who calls matters
            if kind not in self.kmalloc_sizes:
                sizes = [
                    self.kmalloc_slab(max(n, 1), mask) for n in range(KMALLOC_MAX_CACHE_SIZE + 1)
                ]
                self.kmalloc_sizes[kind] = sizes if all(s.clears for s in sizes) else []
            self.hot_sizes[gfp] = self.kmalloc_sizes[kind]
        return mask

    def kmalloc_slab(self, size: int, mask: int) -> KmemCache:
        """Return the cache that serves a size and a mask (same name in Linux)."""
        key = (kmalloc_type(mask, random_kmalloc_copy(self)), kmalloc_size(size))
        if key not in self.kmalloc_caches:
            wanted = kmalloc_cache_name(*key)
            self.kmalloc_caches[key] = next(s for s in self.slab_caches if s.name == wanted)
        return self.kmalloc_caches[key]

    def _slab_alloc(self, s: KmemCache, mask: int, node: int, size: int) -> int | None:
        if not self._slab_pre_alloc_hook(s, mask):
            return None
        return self._slab_take(s, mask, node, size)

    def _slab_pre_alloc_hook(self, s: KmemCache, mask: int) -> bool:
        """Whether a request may go on: it is looked at once, for however many objects it is."""
        if self.context.frames:
            might_alloc(self, mask)
        return not (self.watched and should_failslab(self, s, mask))

    def _slab_take(self, s: KmemCache, mask: int, node: int, size: int) -> int | None:
        """Take an object, and clear it if that is asked for (slab_post_alloc_hook())."""
        if self.kfence is not None and (guarded := self.kfence.alloc(self, s, size)) is not None:
            return guarded
        at = slub.slab_alloc_node(self, s, mask, node, size)
        if self.leaks is not None and at is not None and not s.flags & SLAB_NOLEAKTRACE:
            caller = "__kmalloc_noprof" if s.flags & SLAB_KMALLOC else "kmem_cache_alloc_noprof"
            self.leaks.alloc(self, at, s.object_size, "kmemleak_alloc", caller)
        if self.kasan is not None and at is not None:
            self.kasan.alloc(self, at, size)
        if at is not None and self._want_init_on_alloc(s, mask):
            whole = not (s.flags & SLAB_KMALLOC and s.flags & (SLAB_STORE_USER | SLAB_RED_ZONE))
            self.memory.clear(at, s.object_size if whole else size)
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
