"""The calls of a PairingTable: rows that allocate, columns that free, and kernels, by name.

The names are those that `play_pair` knows, a test compares them. Here stands how C writes each.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ("ALLOCATORS", "FREERS", "KERNELS", "Allocator", "Freer", "call_lines", "is_case")


class Allocator(NamedTuple):
    """A row: its heading and its statement, what they give in bytes and as log2 of pages.

    `slab` is set where the memory is an object of a slab, `owns` where the pointer owns any.
    """

    label: str
    code: str
    size: int = 64
    order: int = 0
    slab: bool = False
    owns: bool = True


class Freer(NamedTuple):
    """A column: the function, and which variant of its call (a key of the strings, or "")."""

    function: str
    variant: str = ""


ALLOCATORS = {
    "kmalloc64": Allocator("kmalloc(64)", "p = kmalloc(64, GFP_KERNEL);", slab=True),
    "kmalloc4k": Allocator("kmalloc(4096)", "p = kmalloc(4096, GFP_KERNEL);", 4096, slab=True),
    "kmalloc3p": Allocator("kmalloc(12288)", "p = kmalloc(12288, GFP_KERNEL);", 12288, 2),
    "kmalloc1m": Allocator("kmalloc(1 << 20)", "p = kmalloc(1 << 20, GFP_KERNEL);", 1 << 20, 8),
    "kzalloc64": Allocator("kzalloc(64)", "p = kzalloc(64, GFP_KERNEL);", slab=True),
    "cache": Allocator(
        "kmem_cache_alloc", "p = kmem_cache_alloc(cache, GFP_KERNEL);", 200, slab=True
    ),
    "vmalloc3p": Allocator("vmalloc(12288)", "p = vmalloc(12288);", 12288, 2),
    "kvmalloc64": Allocator("kvmalloc(64)", "p = kvmalloc(64, GFP_KERNEL);", slab=True),
    "kvmalloc8m": Allocator("kvmalloc(8 << 20)", "p = kvmalloc(8 << 20, GFP_KERNEL);", 8 << 20, 11),
    "pages0": Allocator("__get_free_page", "p = (void *)__get_free_page(GFP_KERNEL);", 4096),
    "pages3": Allocator(
        "__get_free_pages(3)", "p = (void *)__get_free_pages(GFP_KERNEL, 3);", 32768, 3
    ),
    "exact5": Allocator(
        "alloc_pages_exact(20480)", "p = alloc_pages_exact(20480, GFP_KERNEL);", 20480, 3
    ),
    "NULL": Allocator("NULL", "p = NULL;", owns=False),
    "ZERO_SIZE_PTR": Allocator("ZERO_SIZE_PTR", "p = kmalloc(0, GFP_KERNEL);", owns=False),
    "stack": Allocator("char buf[64]", "char buf[64]; p = buf;", owns=False),
    "ERR_PTR": Allocator("ERR_PTR(-ENOMEM)", "p = ERR_PTR(-ENOMEM);", owns=False),
}  # fmt: skip

FREERS = {
    "kfree": Freer("kfree"),
    "kvfree": Freer("kvfree"),
    "vfree": Freer("vfree"),
    "kfree_sensitive": Freer("kfree_sensitive"),
    "kmem_cache_free_own": Freer("kmem_cache_free", "own"),
    "kmem_cache_free_other": Freer("kmem_cache_free", "other"),
    "free_pages_same": Freer("free_pages", "same"),
    "free_pages_smaller": Freer("free_pages", "smaller"),
    "free_pages_larger": Freer("free_pages", "larger"),
    "free_pages_exact": Freer("free_pages_exact"),
}

#: In the order of their buttons; what each is called is in the strings.
KERNELS = ("plain", "noinit", "slabdbg", "kfence", "kasan")

_ORDERS = {"same": 0, "smaller": -1, "larger": 1}


def is_case(allocator: str, freer: str) -> bool:
    """Return whether there is such a pair: order 0 has no smaller one."""
    return freer != "free_pages_smaller" or ALLOCATORS[allocator].order > 0


def call_lines(allocator: str, freer: str) -> tuple[str, str]:
    """Return the two statements of a pair as C."""
    return ALLOCATORS[allocator].code, _free_call(allocator, freer)


def _free_call(allocator: str, freer: str) -> str:
    """Return how C frees a row's memory with a column's function, numbers put in."""
    row, column = ALLOCATORS[allocator], FREERS[freer]
    if column.function == "free_pages":
        return f"free_pages((unsigned long)p, {row.order + _ORDERS[column.variant]});"
    if column.function == "free_pages_exact":
        mib, rest = divmod(row.size, 1 << 20)
        return f"free_pages_exact(p, {row.size if rest else f'{mib} << 20'});"
    if column.variant == "other":
        return "kmem_cache_free(other_cache, p);"
    if column.variant == "own":  # the cache of kmalloc() memory has no name in a driver
        cache = "virt_to_cache(p)" if row.slab and allocator != "cache" else "cache"
        return f"kmem_cache_free({cache}, p);"
    return f"{column.function}(p);"
