"""Pages for a size that is no power of two, and frees by any address, as methods of Kernel.

alloc_pages_exact() takes a block, splits it, and gives back what is too much. `slab_machine` builds
on this; what free_pages() does with an address that is none of the page allocator's is here too.
Linux: mm/page_alloc.c.
"""

from __future__ import annotations

from kmemkit import gfp as flags
from kmemkit.mm import page_check
from kmemkit.mm.arguments import pointer
from kmemkit.mm.cmdline import parse_size
from kmemkit.mm.memory import PAGE_SHIFT
from kmemkit.mm.mmzone import LEAKED
from kmemkit.mm.page_calls import PageCalls
from kmemkit.mm.physaddr import address_text, check_virt_addr, struct_page

__all__ = ("ExactCalls",)

# Inside a class Python would mangle names that begin with two underscores.
COMP, HIGHMEM = flags.__GFP_COMP, flags.__GFP_HIGHMEM


class ExactCalls(PageCalls):
    """The part of a machine that gives out pages by size in bytes, and takes them back."""

    def alloc_pages_exact(self, size: int | str, gfp: int | str, *, owner: str = "") -> int | None:
        """Allocate just enough pages for `size` bytes; return the address, or None.

        The block is split into single pages and those beyond the size are freed, so free it with
        free_pages_exact(). __GFP_COMP and __GFP_HIGHMEM make no sense here: warned of and dropped.
        """
        nbytes = parse_size(size) if size != 0 else 0
        context = self._context(gfp, None)
        wrong = context.gfp & (COMP | HIGHMEM)
        if wrong:
            self.warn_on_once("alloc_pages_exact_noprof")
            context = self._context(context.gfp & ~wrong, None)
        pages = -(-nbytes >> PAGE_SHIFT)
        order = (pages - 1).bit_length() if pages else 64 - PAGE_SHIFT  # get_order(0)
        self._know_owner(owner)

        def run() -> int | None:
            pfn = self._alloc(context, order, owner)
            if pfn is None:
                return None
            zone = self.page_zone(pfn)
            page_check.split_page(zone, pfn, order)
            for page in range(pfn + pages, pfn + (1 << order)):
                zone.page[page] = LEAKED  # nobody holds a reference to it, free_pages_ok() checks
                page_check.free_pages_ok(self, zone, page, 0)
            return self.page_address(pfn)

        return self._call(
            f"alloc_pages_exact({nbytes}, {flags.decode(context.gfp)})", run, address_text
        )

    def free_pages_exact(self, address: int | None, size: int | str) -> None:
        """Free what alloc_pages_exact() gave, page by page (same name in Linux).

        Raises:
            Oops: no memory there; only the page at NULL is passed over.
        """
        first, nbytes = pointer(address), parse_size(size)
        end = pointer(first + (-(-nbytes >> PAGE_SHIFT) << PAGE_SHIFT))

        def run() -> None:
            for at in range(first, end, 1 << PAGE_SHIFT):
                self._free_address(at)

        self._call(f"free_pages_exact({address_text(address)}, {nbytes})", run)

    def _free_address(self, address: int, order: int = 0) -> None:
        """Free by an address, whatever it is, as free_pages() of C does; 0 is NULL.

        Raises:
            Oops: no memory there. KernelBug: the same, in the debug kernel.
        """
        if address:
            check_virt_addr(self, address)
            self._free(struct_page(self, address), order)

    def struct_page(self, address: int | None) -> int:
        """Return the pfn whose struct page arithmetic finds for an address, sensible or not.

        Raises:
            Oops: there is no such struct.
        """
        return struct_page(self, pointer(address))
