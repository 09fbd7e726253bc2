"""Which piece of memory kmalloc() gives for a size: size classes up to 8192 bytes, then pages.

Pure arithmetic, the same for the simulator (mm/slab_common.py) and for what explains it.
Linux: mm/slab_common.c kmalloc_info, kmalloc_size_index; include/linux/slab.h.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = (
    "KMALLOC_MAX_CACHE_SIZE",
    "KMALLOC_MAX_SIZE",
    "KMALLOC_SIZES",
    "ServedSize",
    "kmalloc_cache_name",
    "kmalloc_size",
    "served",
)

PAGE_SIZE = 4096
#: Size classes in bytes.
KMALLOC_SIZES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
KMALLOC_MAX_CACHE_SIZE = 8192
KMALLOC_MAX_SIZE = 4 << 20


def kmalloc_size(size: int) -> int:
    """Return the size class that serves `size` bytes, 1 to 8192 (kmalloc_slab())."""
    if size <= 192:
        return next(one for one in KMALLOC_SIZES if one >= size)
    return 1 << (size - 1).bit_length()


def kmalloc_cache_name(prefix: str, size: int) -> str:
    """Return a kmalloc cache's name, as /proc/slabinfo has it."""
    return f"{prefix}-{size >> 10}k" if size >= 1024 else f"{prefix}-{size}"


class ServedSize(NamedTuple):
    """What a request gets: `given` bytes from a cache, or where `cache` is "" a block of pages."""

    size: int
    given: int
    cache: str = ""
    order: int = 0

    @property
    def waste(self) -> int:
        """Bytes that were not asked for."""
        return self.given - self.size

    @property
    def percent(self) -> float:
        """How much of what is given was not asked for, in percent."""
        return 100 * self.waste / self.given


def served(size: int) -> ServedSize:
    """Return what kmalloc() gives for a size, 1 to 4 MiB.

    Raises:
        ValueError: kmalloc() gives nothing for the size; the message says what it accepts.
    """
    if not 1 <= size <= KMALLOC_MAX_SIZE:
        raise ValueError(f"size={size}: kmalloc() gives memory for 1 to {KMALLOC_MAX_SIZE} bytes")
    if size <= KMALLOC_MAX_CACHE_SIZE:
        given = kmalloc_size(size)
        return ServedSize(size, given, kmalloc_cache_name("kmalloc", given))
    order = ((size - 1) // PAGE_SIZE).bit_length()
    return ServedSize(size, PAGE_SIZE << order, "", order)
