"""Memory: the bytes of a machine, as far as anybody has touched them.

A page that nobody wrote to holds zeroes and takes no room. A free object's pointer to the next one
is kept decoded (`Slab.links`) until somebody reads or writes those bytes: then it is stored as the
kernel stores it, mixed with the cache's random number (CONFIG_SLAB_FREELIST_HARDENED). So a store
through a wild pointer really damages a free list, and `slub` finds what is left there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from kmemkit.mm.fault import fault
from kmemkit.mm.mmzone import HOLE

if TYPE_CHECKING:
    from kmemkit.mm.slab import KmemCache, Slab
    from kmemkit.mm.slab_machine import SlabMachine

__all__ = ("PAGE_OFFSET", "PAGE_SHIFT", "PAGE_SIZE", "VMALLOC_END", "VMALLOC_START", "Memory")

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
#: Start of the direct map of all memory; where vmalloc() maps pages (x86-64, nokaslr).
PAGE_OFFSET = 0xFFFF888000000000
VMALLOC_START = 0xFFFFC90000000000
VMALLOC_END = 0xFFFFE8FFFFFFFFFF
WORD = 8


class Memory:
    """The bytes behind every address of a kernel.

    Attributes:
        pages: pfn -> its bytes, of pages that somebody wrote to.
        mapped: page number of an address in the vmalloc area -> the pfn mapped there.
        tlb: translations of that area the CPU still remembers; flushed lazily.
    """

    __slots__ = ("encode", "kernel", "mapped", "pages", "tlb")

    def __init__(self, kernel: SlabMachine, encode: Callable[[int, int], int]) -> None:
        self.kernel = kernel
        #: (address, pointer) -> how the pointer is stored there, or back
        self.encode = encode
        self.pages: dict[int, bytearray] = {}
        self.mapped: dict[int, int] = {}
        self.tlb: dict[int, int] = {}

    def freeze(self) -> Mapping[str, object]:
        """Return everything as a value that does not change any more."""
        return {
            "pages": {pfn: bytes(page) for pfn, page in self.pages.items()},
            "mapped": dict(self.mapped),
            "tlb": dict(self.tlb),
        }

    def thaw(self, frozen: Mapping[str, Mapping[int, bytes] | Mapping[int, int]]) -> None:
        """Take over what freeze() returned."""
        self.pages = {pfn: bytearray(page) for pfn, page in frozen["pages"].items()}
        self.mapped = {int(at): int(pfn) for at, pfn in frozen["mapped"].items()}
        self.tlb = {int(at): int(pfn) for at, pfn in frozen["tlb"].items()}

    # -- addresses --------------------------------------------------------------------------------

    def pfn_of(self, address: int, *, write: bool = False) -> int:
        """Return the page behind an address.

        Raises:
            Oops: there is none.
        """
        if PAGE_OFFSET <= address < VMALLOC_START:
            pfn = address - PAGE_OFFSET >> PAGE_SHIFT
            page = self.kernel.mem_map.page
            if (
                pfn < len(page) and page[pfn] != HOLE
                and not (self.kernel.debug_pagealloc and self.kernel.mem_map.is_free(pfn))
            ):  # fmt: skip
                return pfn
        elif VMALLOC_START <= address <= VMALLOC_END:
            number = address >> PAGE_SHIFT
            if number in self.tlb:
                return self.tlb[number]
            if number in self.mapped:
                self.tlb[number] = self.mapped[number]
                return self.mapped[number]
        raise fault(self.kernel, address, write=write, checked=True)

    # -- bytes ------------------------------------------------------------------------------------

    def read(self, address: int, size: int) -> bytes:
        """Return `size` bytes; a page that is not there gives an Oops."""
        out = bytearray()
        while len(out) < size:
            at = address + len(out)
            pfn, offset = self.pfn_of(at), at % PAGE_SIZE
            length = min(size - len(out), PAGE_SIZE - offset)
            self._store_pointers(pfn, offset, length)
            page = self.pages.get(pfn)
            out += bytes(length) if page is None else page[offset : offset + length]
        return bytes(out)

    def write(self, address: int, data: bytes) -> None:
        """Store bytes; a page that is not there gives an Oops when the store comes to it."""
        done = 0
        while done < len(data):
            at = address + done
            pfn, offset = self.pfn_of(at, write=True), at % PAGE_SIZE
            length = min(len(data) - done, PAGE_SIZE - offset)
            self._store_pointers(pfn, offset, length)
            self._page(pfn)[offset : offset + length] = data[done : done + length]
            done += length

    def clear(self, address: int, size: int) -> None:
        """Set bytes of the direct map to zero; what nobody ever wrote to stays untouched."""
        end = address + size
        while address < end:
            pfn, offset = address - PAGE_OFFSET >> PAGE_SHIFT, address % PAGE_SIZE
            length = min(end - address, PAGE_SIZE - offset)
            for slab, obj, at in self._pointers(pfn, address, length):
                if at < address or at + WORD > end:
                    self._store(slab, obj, at)  # only part of it goes
                else:
                    del slab.links[obj]
            if pfn in self.pages:
                self.pages[pfn][offset : offset + length] = bytes(length)
            address += length

    def _page(self, pfn: int) -> bytearray:
        page = self.pages.get(pfn)
        if page is None:
            page = self.pages[pfn] = bytearray(PAGE_SIZE)
            self.kernel.bytes_written()
        return page

    # -- free pointers ----------------------------------------------------------------------------

    # Slab.links has those that lie in a slab of their object's cache and whose bytes are what
    # set_freepointer() put there.

    def get_freepointer(self, s: KmemCache, obj: int) -> int:
        """Return the object that the pointer stored in a free one leads to."""
        at = (obj + s.offset) % (1 << 64)
        slab = self.kernel.slabs.get(at - PAGE_OFFSET >> PAGE_SHIFT)
        if slab is not None and slab.cache is s and obj in slab.links:
            return slab.links[obj]
        return self.encode(at, int.from_bytes(self.read(at, WORD), "little"))

    def set_freepointer(self, s: KmemCache, obj: int, pointer: int) -> None:
        """Store a pointer to the next free object."""
        at = obj + s.offset
        slab = self.kernel.slabs.get(at - PAGE_OFFSET >> PAGE_SHIFT)
        if at % WORD or slab is None or slab.cache is not s:  # of what is no object, by mistake
            self.write(at, self.encode(at, pointer).to_bytes(WORD, "little"))
        else:
            slab.links[obj] = pointer
            slab.snapshot = None

    def peek_freepointer(self, s: KmemCache, obj: int) -> int:
        """Return where a stored free pointer leads, 0 if nowhere; changes and reports nothing."""
        at = obj + s.offset
        pfn, offset = at - PAGE_OFFSET >> PAGE_SHIFT, at % PAGE_SIZE
        slab, page = self.kernel.slabs.get(pfn), self.pages.get(pfn)
        if slab is not None and slab.cache is s and obj in slab.links:
            return slab.links[obj]
        if page is None or at < PAGE_OFFSET or offset > PAGE_SIZE - WORD:
            return 0
        return self.encode(at, int.from_bytes(page[offset : offset + WORD], "little"))

    def _pointers(self, pfn: int, address: int, size: int) -> list[tuple[Slab, int, int]]:
        """Return what free pointers touch a stretch of a page: slab, object, place of each."""
        slab = self.kernel.slabs.get(pfn)
        if slab is None or not slab.links:
            return []
        offset = slab.cache.offset
        objects = range((address & -WORD) - offset, address + size - offset, WORD)
        if len(slab.links) < len(objects):
            found = sorted(obj for obj in slab.links if obj in objects)
        else:
            found = [obj for obj in objects if obj in slab.links]
        if found:
            slab.snapshot = None
        return [(slab, obj, obj + offset) for obj in found]

    def _store_pointers(self, pfn: int, offset: int, length: int) -> None:
        """Turn the free pointers of a stretch of a page into the bytes they are."""
        address = PAGE_OFFSET + (pfn << PAGE_SHIFT) + offset
        for slab, obj, at in self._pointers(pfn, address, length):
            self._store(slab, obj, at)

    def _store(self, slab: Slab, obj: int, at: int) -> None:
        pointer = slab.links.pop(obj)
        page, offset = self._page(at - PAGE_OFFSET >> PAGE_SHIFT), at % PAGE_SIZE
        page[offset : offset + WORD] = self.encode(at, pointer).to_bytes(WORD, "little")

    def change_owner(self, pfns: Iterable[int]) -> None:
        """Leave what slabs stored in pages, as bytes, to the slab that gets the pages.

        Only pages that were freed although a slab had them are a slab's already.
        """
        for pfn in pfns:
            self._store_pointers(pfn, 0, PAGE_SIZE)
