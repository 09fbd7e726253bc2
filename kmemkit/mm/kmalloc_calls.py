"""kmalloc()'s helpers, as methods of Kernel: arrays, resizing, copies of memory and of strings.

Methods carry the C names and argument order. NULL is None. A source to copy from is an address, or
bytes or text: then it is a literal in the caller's module.

Linux: mm/slab_common.c, mm/util.c, include/linux/slab.h.
"""

from __future__ import annotations

from kmemkit import gfp as flags
from kmemkit.mm.arguments import SIZE_MAX, pointer, size_t
from kmemkit.mm.memory import PAGE_SIZE
from kmemkit.mm.physaddr import address_text
from kmemkit.mm.slab_calls import ZERO_SIZE_PTR, SlabCalls
from kmemkit.mm.slab_common import KMALLOC_MAX_CACHE_SIZE, KMALLOC_MAX_SIZE, kmalloc_size
from kmemkit.mm.slub_debug import skip_orig_size_check
from kmemkit.mm.slub_layout import get_order
from kmemkit.overflow import check_mul_overflow, size_mul, struct_size

__all__ = ("RODATA_END", "RODATA_START", "KmallocCalls")

#: The kernel image's constants, where string literals of code that is built in are (x86-64).
RODATA_START = 0xFFFFFFFF82200000
RODATA_END = 0xFFFFFFFF82A00000
# Inside a class Python would mangle names that begin with two underscores.
ZERO = flags.__GFP_ZERO


class KmallocCalls(SlabCalls):
    """The part of a machine that makes kmalloc() convenient, and safe from overflow."""

    # -- arrays -----------------------------------------------------------------------------------

    def kmalloc_array(self, n: int, size: int, gfp: int | str) -> int | None:
        """Allocate `n` elements of `size` bytes; None without a word if the product overflows."""
        return self.kmalloc_array_node(n, size, gfp, -1)

    def kcalloc(self, n: int, size: int, gfp: int | str) -> int | None:
        """Allocate `n` elements of `size` bytes, all zeroes (same name in Linux)."""
        return self.kmalloc_array_node(n, size, self._mask(gfp) | ZERO, -1)

    def kmalloc_array_node(self, n: int, size: int, gfp: int | str, node: int) -> int | None:
        """Allocate an array as kmalloc_array() does, from a node if it has memory."""
        mask, nid = self._mask(gfp), self._node(node)
        total, overflow = check_mul_overflow(n, size)

        def run() -> int | None:
            return None if overflow else self._kmalloc(total, mask, nid)

        call = f"kmalloc_array({n}, {size}, {flags.decode(mask)})"
        return self._call(call, run, address_text)

    def kcalloc_node(self, n: int, size: int, gfp: int | str, node: int) -> int | None:
        """Allocate an array of zeroes, from a node if it has memory (same name in Linux)."""
        return self.kmalloc_array_node(n, size, self._mask(gfp) | ZERO, node)

    def kzalloc_node(self, size: int, gfp: int | str, node: int) -> int | None:
        """Allocate `size` bytes of zeroes, from a node if it has memory (same name in Linux)."""
        return self.kmalloc_node(size, self._mask(gfp) | ZERO, node)

    # -- by type ----------------------------------------------------------------------------------

    # C takes the type or `*p`, and computes its size itself; here its size is given. They came with
    # 7.0, and with later stable releases: 6.12.117 has them.

    def kmalloc_obj(self, size: int, gfp: int | str) -> int | None:
        """Allocate an object of a type of `size` bytes (same name in Linux)."""
        return self.kmalloc(size, gfp)

    def kzalloc_obj(self, size: int, gfp: int | str) -> int | None:
        """Allocate an object of zeroes of a type of `size` bytes (same name in Linux)."""
        return self.kzalloc(size, gfp)

    def kmalloc_objs(self, size: int, count: int, gfp: int | str) -> int | None:
        """Allocate `count` objects of a type of `size` bytes.

        A product that overflows is SIZE_MAX: None as from kmalloc_array(), but with the page
        allocator's warning.
        """
        return self.kmalloc(size_mul(size, count), gfp)

    def kzalloc_objs(self, size: int, count: int, gfp: int | str) -> int | None:
        """Allocate `count` objects of zeroes of a type of `size` bytes (same name in Linux)."""
        return self.kzalloc(size_mul(size, count), gfp)

    def kmalloc_flex(self, head: int, item: int, count: int, gfp: int | str) -> int | None:
        """Allocate a struct of `head` bytes that ends with `count` elements of `item` bytes."""
        return self.kmalloc(struct_size(head, item, count), gfp)

    def kzalloc_flex(self, head: int, item: int, count: int, gfp: int | str) -> int | None:
        """Allocate a struct with elements at its end as kmalloc_flex() does, all zeroes."""
        return self.kzalloc(struct_size(head, item, count), gfp)

    # -- sizes ------------------------------------------------------------------------------------

    def kmalloc_size_roundup(self, size: int) -> int:
        """Return how many bytes kmalloc() would give for `size`, all of them to be used.

        Unlike the slack that ksize() shows, which nobody asked for. Above 4 MiB, which no
        allocation can be, it is `size` itself.
        """
        size = size_t(size)
        if not size or size > KMALLOC_MAX_SIZE:
            return size
        if size <= KMALLOC_MAX_CACHE_SIZE:
            return kmalloc_size(size)
        return PAGE_SIZE << get_order(size)

    def krealloc(self, address: int | None, size: int, gfp: int | str) -> int | None:
        """Make an allocation `size` bytes large; return where it is now, or None.

        It stays where it is while its slot has room (ksize()): shrinking never moves. Otherwise a
        new block gets the old one's bytes, and the old one is freed. If there is no memory the
        answer is None and the old block is still the caller's: `p = krealloc(p, ...)` loses it.
        krealloc(NULL, n) allocates; krealloc(p, 0) frees and returns ZERO_SIZE_PTR.
        """
        at, size, mask = pointer(address), size_t(size), self._mask(gfp)
        call = f"krealloc({address_text(address)}, {size}, {flags.decode(mask)})"
        return self._call(call, lambda: self._krealloc(at, size, mask), address_text)

    def krealloc_array(
        self, address: int | None, n: int, size: int, gfp: int | str
    ) -> int | None:  # fmt: skip
        """Resize an array to `n` elements of `size` bytes; None if the product overflows.

        Then the old array is still there (same name in Linux).
        """
        at, mask = pointer(address), self._mask(gfp)
        total, overflow = check_mul_overflow(n, size)

        def run() -> int | None:
            return None if overflow else self._krealloc(at, total, mask)

        call = f"krealloc_array({address_text(address)}, {n}, {size}, {flags.decode(mask)})"
        return self._call(call, run, address_text)

    def _krealloc(self, at: int, size: int, mask: int) -> int | None:
        if not size:
            self._kfree(at)
            return ZERO_SIZE_PTR
        if not self._may_touch(at):
            return None
        room = self._ksize(at)
        if at > ZERO_SIZE_PTR and (slab := self._slab_at(at)) is not None:
            skip_orig_size_check(self, slab.cache, at)
        if room >= size:
            if self.kasan is not None and at > ZERO_SIZE_PTR:
                self.kasan.resize(at, size)
            if room > size and (self.init_on_alloc or mask & ZERO):
                self.memory.clear(at + size, room - size)
            return at
        moved = self._kmalloc(size, mask, -1)
        if moved is not None:
            if room:
                self.memory.write(moved, self.memory.read(at, room))
            self._kfree(at)
        return moved

    # -- copies -----------------------------------------------------------------------------------

    def kmemdup(self, src: int | bytes | None, size: int, gfp: int | str) -> int | None:
        """Allocate a copy of `size` bytes (same name in Linux).

        Raises:
            Oops: there are not so many bytes to copy at that address.
        """
        size = size_t(size)
        return self._duplicate(f"kmemdup({_source(src)}, {size}", src, size, b"", gfp)

    def kmemdup_array(
        self, src: int | bytes | None, count: int, element_size: int, gfp: int | str
    ) -> int | None:
        """Allocate a copy of an array; a product that overflows is more than can be had."""
        total, overflow = check_mul_overflow(count, element_size)
        return self.kmemdup(src, SIZE_MAX if overflow else total, gfp)

    def kmemdup_nul(self, src: int | bytes | str | None, size: int, gfp: int | str) -> int | None:
        """Allocate a copy of `size` characters, with a zero byte behind them (same name in Linux).

        The copy of NULL is NULL.
        """
        size = size_t(size)
        if src is None:
            return None
        return self._duplicate(f"kmemdup_nul({_source(src)}, {size}", src, size, b"\0", gfp)

    def kstrdup(self, string: int | bytes | str | None, gfp: int | str) -> int | None:
        """Allocate a copy of a string, its end included; the copy of NULL is NULL."""
        if string is None:
            return None
        length = self._strnlen(string, SIZE_MAX)
        return self._duplicate(f"kstrdup({_source(string)}", string, length, b"\0", gfp)

    def kstrndup(
        self, string: int | bytes | str | None, most: int, gfp: int | str
    ) -> int | None:  # fmt: skip
        """Allocate a copy of a string's first `most` characters (same name in Linux)."""
        if string is None:
            return None
        length = self._strnlen(string, size_t(most))
        return self._duplicate(f"kstrndup({_source(string)}, {most}", string, length, b"\0", gfp)

    def kstrdup_const(self, string: int | bytes | str | None, gfp: int | str) -> int | None:
        """Return a string of the kernel's constants itself, and a copy of any other one.

        A literal of a module is any other one. Free with kfree_const() (same name in Linux).
        """
        if isinstance(string, int) and is_kernel_rodata(string):
            return string
        return self.kstrdup(string, gfp)

    def kfree_const(self, address: int | None) -> None:
        """Free what kstrdup_const() gave: nothing if it is one of the kernel's constants."""
        if not is_kernel_rodata(pointer(address)):
            self.kfree(address)

    def _duplicate(
        self, call: str, src: int | bytes | str | None, length: int, end: bytes, gfp: int | str
    ) -> int | None:
        """Allocate `length` bytes and what ends them; then copy."""
        mask = self._mask(gfp)

        def run() -> int | None:
            at = self._kmalloc(length + len(end) & SIZE_MAX, mask, -1)
            if at is not None:
                self.memory.write(at, self._bytes_of(src, length) + end)
            return at

        return self._call(f"{call}, {flags.decode(mask)})", run, address_text)

    def _bytes_of(self, src: int | bytes | str | None, length: int) -> bytes:
        """Return the bytes at an address, or of a literal with zeroes behind it."""
        if src is None or isinstance(src, int):
            return self.memory.read(src or 0, length)
        return _literal(src)[:length].ljust(length, b"\0")

    def _strnlen(self, string: int | bytes | str, most: int) -> int:
        """Return how many characters there are before the zero byte, `most` at most."""
        if not isinstance(string, int):
            return min(most, (_literal(string) + b"\0").index(0))
        length = 0
        while length < most:
            at = string + length
            chunk = self.memory.read(at, min(most - length, PAGE_SIZE - at % PAGE_SIZE))
            end = chunk.find(0)
            if end >= 0:
                return length + end
            length += len(chunk)
        return length


def is_kernel_rodata(address: int) -> bool:
    """Whether an address is one of the kernel image's constants (same name in Linux)."""
    return RODATA_START <= address < RODATA_END


def _literal(text: bytes | str) -> bytes:
    if isinstance(text, str):
        return text.encode()
    if not isinstance(text, (bytes, bytearray)):
        raise TypeError(f"{text!r} is nothing to copy from; give an address, bytes or text")
    return bytes(text)


def _source(src: int | bytes | str | None) -> str:
    """Return an argument that is copied from, as a call shows it."""
    if src is not None and not isinstance(src, int):
        return '"' + _literal(src).decode("utf-8", "replace") + '"'
    return address_text(src)
