"""What an address in an oops says about the pointer that was followed.

`facts` asks here. Ranges are those of x86-64 with four levels of page tables and without KASLR;
values that do not depend on them (NULL, an error number, a pattern of bytes) come first.
"""

from __future__ import annotations

import errno

__all__ = ("meaning",)

ADDRESSES = 1 << 64
PAGE_SIZE = 4096
PAGE_OFFSET = 0xFFFF888000000000
DIRECT_END = 0xFFFFC88000000000
VMALLOC_START, VMALLOC_END = 0xFFFFC90000000000, 0xFFFFE90000000000
VMEMMAP_START, VMEMMAP_END = 0xFFFFEA0000000000, 0xFFFFFE0000000000
STRUCT_PAGE_SIZE = 64
IMAGE_START, MODULES_START = 0xFFFFFFFF80000000, 0xFFFFFFFFA0000000
MAX_ERRNO = 4095
#: KASAN keeps a byte for each eight, from here on.
SHADOW_OFFSET = 0xDFFFFC0000000000
SHADOW_OF_USER = 1 << 44
#: What list_del() leaves in the links of an entry.
LIST_POISON = 0xDEAD000000000100
#: Bytes that somebody fills memory with -> name of the pattern.
PATTERNS = {0x6B: "freed", 0xA5: "freed", 0x5A: "padding", 0xAA: "uninitialised",
            0xBB: "redzone", 0xCC: "redzone"}  # fmt: skip


def meaning(address: int) -> tuple[str, dict[str, object]]:
    """Return the key under [explain.address] that fits an address, and what to put in."""
    if address < PAGE_SIZE:
        return ("zero_size" if address == 16 else "null"), {"offset": f"{address:#x}"}
    if address >= ADDRESSES - MAX_ERRNO:
        return "error", _error(address)
    if SHADOW_OFFSET <= address < SHADOW_OFFSET + SHADOW_OF_USER:
        low = address - SHADOW_OFFSET << 3
        key = "shadow_null" if low < PAGE_SIZE else "shadow"
        return key, {"low": f"{low:#x}", "high": f"{low + 7:#x}"}
    if LIST_POISON <= address < LIST_POISON + PAGE_SIZE:
        return "list_poison", {}
    pattern = _pattern(address)
    if pattern:
        return pattern, {}
    if (1 << 47) <= address < ADDRESSES - (1 << 47):
        never_set = _pattern(_page_address(address)) == "uninitialised"
        return ("page_of_uninitialised" if never_set else "random"), {}
    return _canonical(address)


def _canonical(address: int) -> tuple[str, dict[str, object]]:
    """Tell apart the ranges of the address space."""
    if VMEMMAP_START <= address < VMEMMAP_END:
        return _struct_page(address)
    if VMALLOC_START <= address < VMALLOC_END:
        return "vmalloc", {}
    if PAGE_OFFSET <= address < DIRECT_END:
        return "direct_map", {}
    if address >= IMAGE_START:
        return "image", {}
    return ("user" if address < 1 << 47 else "elsewhere"), {}


def _struct_page(address: int) -> tuple[str, dict[str, object]]:
    """Say what address the struct page that was looked for belongs to."""
    given = _page_address(address)
    number = given - PAGE_OFFSET >> 12
    if given < PAGE_SIZE:
        return "page_of_null", {}
    if number == ADDRESSES - PAGE_SIZE - IMAGE_START >> 12:
        return "page_of_error", {}
    if VMALLOC_START <= given < VMALLOC_END:
        return "page_of_vmalloc", {"page": f"{given:#x}"}
    if VMEMMAP_START <= given < VMEMMAP_END:
        return "page_of_page", {}
    if MODULES_START - IMAGE_START >> 12 <= number < ADDRESSES - IMAGE_START >> 12:
        return "page_of_module", {"page": f"{IMAGE_START + (number << 12):#x}"}
    return "page_of_other", {"page": f"{given:#x}"}


def _page_address(struct_page: int) -> int:
    """Return the page whose struct page would lie at an address: virt_to_page() backwards."""
    number = (struct_page - VMEMMAP_START) % ADDRESSES // STRUCT_PAGE_SIZE
    return (PAGE_OFFSET + (number << 12)) % ADDRESSES


def _pattern(address: int) -> str:
    """Return the name of the byte that fills an address, up to a small offset; "" if none does."""
    top = address >> 16
    byte = top & 0xFF
    return PATTERNS.get(byte, "") if top == byte * 0x010101010101 else ""


def _error(address: int) -> dict[str, object]:
    number = ADDRESSES - address
    return {"number": number, "name": errno.errorcode.get(number, "?")}
