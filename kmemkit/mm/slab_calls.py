"""kmalloc(), kfree() and ksize(), and the bytes behind an address, as methods of Kernel.

Memory is named by its address; NULL is None, and kmalloc(0) is ZERO_SIZE_PTR, the address 16. The
rest of the family is in `kmalloc_calls`, the caches' own API in `kmem_cache_calls`.
"""

from __future__ import annotations

from kmemkit import gfp as flags
from kmemkit.mm.arguments import as_bytes, length, pointer, size_t
from kmemkit.mm.kmem_cache_calls import KmemCacheCalls
from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT
from kmemkit.mm.page_check import free_pages
from kmemkit.mm.physaddr import address_text
from kmemkit.mm.slab import (
    SLAB_POISON,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TYPESAFE_BY_RCU,
)
from kmemkit.mm.slab_common import (
    KMALLOC_MAX_CACHE_SIZE,
)
from kmemkit.mm.slub_debug import skip_orig_size_check
from kmemkit.mm.slub_layout import get_order
from kmemkit.mm.slub_pages import GFP_SLAB_BUG_MASK

__all__ = ("ZERO_SIZE_PTR", "SlabCalls")

ZERO_SIZE_PTR = 16
# Inside a class Python would mangle names that begin with two underscores.
COMP, ZERO = flags.__GFP_COMP, flags.__GFP_ZERO


class SlabCalls(KmemCacheCalls):
    """The part of a machine that gives out and takes back memory of any size."""

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
                c.freelist = c.links.pop(at)
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
        mask, size, node = self._mask(gfp), size_t(size), self._node(node)
        run = lambda: self._kmalloc(size, mask, node)  # noqa: E731
        return self._call(f"kmalloc({size}, {flags.decode(mask)})", run, address_text)

    def _kmalloc(self, size: int, mask: int, node: int) -> int | None:
        if size > KMALLOC_MAX_CACHE_SIZE:
            return self._kmalloc_large(size, mask, node)
        if not size:
            return ZERO_SIZE_PTR
        return self._slab_alloc(self.kmalloc_slab(size, mask), mask, node, size)

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
        if self.slab_hot:
            try:
                at = address or 0
                c = self.slabs[at - PAGE_OFFSET >> PAGE_SHIFT].cache.cpu
                head = c.freelist
                if at - c.base in c.starts and at != head:
                    c.links[at] = head
                    c.freelist = at
                    return
            except (KeyError, TypeError):
                pass
        where = pointer(address)
        self._call(f"kfree({address_text(address)})", lambda: self._kfree(where))

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
        at = pointer(address)

        def run() -> None:
            size = self._ksize(at) if self._may_touch(at, "kfree_sensitive") else 0
            if size:
                skip = self._slab_at(at)
                if skip is not None:
                    skip_orig_size_check(self, skip.cache, at)
                self.memory.write(at, bytes(size))
            self._kfree(at)

        self._call(f"kfree_sensitive({address_text(address)})", run)

    def ksize(self, address: int | None) -> int:
        """Return how many bytes an allocation really has (same name in Linux).

        Not for using them: debugging is switched off for the part that was not asked for.
        """
        at = pointer(address)
        if not self._may_touch(at):
            return 0
        size = self._ksize(at)
        slab = self._slab_at(at) if at > ZERO_SIZE_PTR else None
        if slab is not None:
            skip_orig_size_check(self, slab.cache, at)
        return size

    def _may_touch(self, at: int, function: str = "") -> bool:
        """Ask KASAN, if it is built in, whether a byte is somebody's (kasan_check_byte())."""
        if self.kasan is None or at <= ZERO_SIZE_PTR or not (title := self.kasan.bad(self, at)):
            return True
        self.kasan.report(self, title, at, "Read of size 1", function)
        return False

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

    # -- bytes ------------------------------------------------------------------------------------

    def read(self, address: int | None, size: int = 8) -> bytes:
        """Return bytes of memory, as a load would.

        Raises:
            Oops: no memory there; NULL is such an address.
        """
        at, size = pointer(address), length(size)
        self.check_access(at, size)
        return self.memory.read(at, size)

    def write(self, address: int | None, data: bytes) -> None:
        """Store bytes, as a driver's code would; nothing checks whose they are.

        Raises:
            Oops: no memory there; NULL is such an address.
        """
        at, data = pointer(address), as_bytes("data", data)

        def run() -> None:
            self.check_access(at, len(data), write=True)
            self.memory.write(at, data)

        self._call(f"write({address_text(address)}, {len(data)} bytes)", run)

    def check_access(
        self, address: int, size: int, *, write: bool = False, function: str = ""
    ) -> None:
        """Let KASAN, if it is built in, look at bytes that are about to be touched."""
        if self.kfence is not None and self.kfence.owns(address + max(size - 1, 0)):
            self.kfence.check(self, address, size, write=write)
        if self.kasan is not None and size:
            self.kasan.check(self, address, size, write=write, function=function)
