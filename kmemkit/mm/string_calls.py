"""Copying and filling memory, as methods of Kernel, with the checks that Linux puts before it.

memset(), memcpy() and strcpy() look at the size of the destination if the compiler knows it
(CONFIG_FORTIFY_SOURCE); copies from and to user space look at what the address lies in
(CONFIG_HARDENED_USERCOPY). Both stop the caller before a byte is touched, on a plain kernel too.

Linux: include/linux/fortify-string.h, lib/string_helpers.c, mm/usercopy.c.
"""

from __future__ import annotations

from kmemkit.mm.arguments import as_bytes, length, pointer, whole
from kmemkit.mm.fault import bug_on
from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from kmemkit.mm.physaddr import address_text
from kmemkit.mm.slab import SLAB_RED_ZONE, Slab
from kmemkit.mm.vmalloc_calls import VmallocCalls
from kmemkit.mm.vmap_area import is_vmalloc_addr

__all__ = ("StringCalls",)

ADDRESSES = 1 << 64
#: The kernel image's code (x86-64, nokaslr).
TEXT_START, TEXT_END = 0xFFFFFFFF81000000, 0xFFFFFFFF82200000
USERCOPY_BUG = "mm/usercopy.c:102"


class StringCalls(VmallocCalls):
    """The part of a machine that moves bytes."""

    # -- fortified --------------------------------------------------------------------------------

    def memset(
        self, address: int | None, value: int, size: int, *, known_size: int | None = None
    ) -> None:  # fmt: skip
        """Set `size` bytes to a value (same name in C).

        Args:
            address: of the first byte.
            value: for each byte; the lowest eight bits count.
            size: in bytes.
            known_size: how large the destination is, if the compiler sees it: the size given to
                kmalloc() in the same function, or of an array.

        Raises:
            KernelBug: the compiler knows that it is too small. Oops: no memory there.
        """
        at, size = pointer(address), length(size)
        byte = whole("value", value, "the value of a byte, 0 to 255") & 0xFF

        def run() -> None:
            self._fortify("memset", size, known_size)
            self.check_access(at, size, write=True)
            self.memory.write(at, bytes([byte]) * size)

        self._call(f"memset({address_text(address)}, {value:#x}, {size})", run)

    def memcpy(
        self, to: int | None, source: int | bytes | None, size: int, *,
        known_size: int | None = None,
    ) -> None:  # fmt: skip
        """Copy `size` bytes from an address, or from a literal (same name in C).

        Raises:
            KernelBug: `known_size`, which the compiler knows of the destination, is smaller.
            Oops: no memory there.
        """
        at, size = pointer(to), length(size)

        def run() -> None:
            self._fortify("memcpy", size, known_size)
            self.check_access(at, size, write=True)
            self.memory.write(at, self._bytes_of(source, size))

        self._call(f"memcpy({address_text(to)}, {size} bytes)", run)

    def strcpy(
        self, to: int | None, string: int | bytes | str | None, *, known_size: int | None = None
    ) -> None:  # fmt: skip
        """Copy a string with its end (same name in C).

        Raises:
            KernelBug: `known_size`, which the compiler knows of the destination, is smaller.
            Oops: no memory there.
        """
        at = pointer(to)

        def run() -> None:
            size = self._strnlen(0 if string is None else string, ADDRESSES)
            self._fortify("strcpy", size + 1, known_size)
            self.check_access(at, size + 1, write=True)
            self.memory.write(at, self._bytes_of(string, size) + b"\0")

        self._call(f"strcpy({address_text(to)})", run)

    def _fortify(self, function: str, size: int, known_size: int | None) -> None:
        """Stop a write that is larger than its destination (fortify_panic())."""
        if known_size is None or size <= whole("known_size", known_size, "a number of bytes"):
            return
        line = (
            f"{function}: detected buffer overflow: {size} byte write of buffer size {known_size}"
        )
        self.warn("lib/string_helpers.c:1032", "__fortify_report", line)
        raise bug_on(self, "lib/string_helpers.c:1040", line)

    # -- user space -------------------------------------------------------------------------------

    def copy_to_user(self, address: int | None, size: int, *, constant: bool = False) -> bytes:
        """Copy `size` bytes to a program; return what the program sees (same name in Linux).

        Args:
            address: in the kernel.
            size: in bytes.
            constant: the size is a constant in the source: then nobody checks it.

        Raises:
            KernelBug: the bytes are not all of one object, or of a cache whose objects may not be
                shown (kmem_cache_create_usercopy()).
        """
        at, size = pointer(address), length(size)

        def run() -> bytes:
            if not constant:
                self._check_object_size(at, size, to_user=True)
            self.check_access(at, size, function="_copy_to_user")
            return self.memory.read(at, size)

        return self._call(f"copy_to_user({address_text(address)}, {size})", run, lambda _: "0")

    def copy_from_user(
        self, address: int | None, size: int, *, data: bytes = b"", constant: bool = False
    ) -> None:  # fmt: skip
        """Copy `size` bytes of a program to an address (same name in Linux).

        Args:
            address: in the kernel.
            size: in bytes.
            data: what the program gives; zeroes follow.
            constant: the size is a constant in the source: then nobody checks it.

        Raises:
            KernelBug: as copy_to_user().
        """
        at, size, given = pointer(address), length(size), as_bytes("data", data)

        def run() -> None:
            if not constant:
                self._check_object_size(at, size, to_user=False)
            self.check_access(at, size, write=True, function="_copy_from_user")
            self.memory.write(at, given[:size].ljust(size, b"\0"))

        self._call(f"copy_from_user({address_text(address)}, {size})", run)

    def _check_object_size(self, at: int, size: int, *, to_user: bool) -> None:
        """Look what an address lies in, before a program may see it (__check_object_size()).

        Debian's kernels are built with this, the debug kernel is not.
        """
        if self.debug_kernel or not size:
            return
        found = self._usercopy_found(at, size)
        if found is not None:
            what, detail, offset = found
            line = (
                "usercopy: Kernel memory "
                + ("exposure attempt detected from" if to_user else "overwrite attempt detected to")
                + f" {what}{detail} (offset {offset}, size {size})!"
            )
            self.printk(line)
            self.printk("------------[ cut here ]------------")
            raise bug_on(self, USERCOPY_BUG, line)

    def _usercopy_found(self, at: int, size: int) -> tuple[str, str, int] | None:
        """Return what is wrong with a copy, or None: what it lies in, its name, where in it."""
        if at <= 16:
            return "null address", "", at
        if at < TEXT_END and at + size > TEXT_START:
            return "kernel text", "", max(at - TEXT_START, 0)
        if is_vmalloc_addr(at):
            return self._vmalloc_found(at, size)
        if at < PAGE_OFFSET or at - PAGE_OFFSET >> PAGE_SHIFT >= self.mem_map.pages:
            return None  # no address of the direct map: nothing to look at
        slab = self._slab_at(at)
        if slab is not None:
            start = slab.address
            if self.kfence is not None and self.kfence.owns(at):
                start = self.kfence.object_start(at)
            return _slab_found(slab, at - start, size)
        head, order = self._folio(at - PAGE_OFFSET >> PAGE_SHIFT)
        offset = at - PAGE_OFFSET - (head << PAGE_SHIFT)
        if order and offset + size > PAGE_SIZE << order:
            return "page alloc", "", offset
        return None

    def _vmalloc_found(self, at: int, size: int) -> tuple[str, str, int] | None:
        """Check a copy in the vmalloc area: it must end in the same range of addresses."""
        area = self.vmalloc_space.find(at)
        if area is None:
            return "vmalloc", " 'no area'", 0
        return ("vmalloc", "", at - area.start) if at + size > area.end else None


def _slab_found(slab: Slab, inside: int, size: int) -> tuple[str, str, int] | None:
    """Check a copy in a slab: it must lie in the part of an object that may be copied."""
    s = slab.cache
    offset = inside % s.size
    if s.flags & SLAB_RED_ZONE:
        if offset < s.red_left_pad:
            return "SLUB object in left red zone", f" '{s.name}'", offset
        offset -= s.red_left_pad
    if s.useroffset <= offset and offset + size <= s.useroffset + s.usersize:
        return None
    return "SLUB object", f" '{s.name}'", offset
