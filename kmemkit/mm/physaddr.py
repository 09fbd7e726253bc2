"""From an address to its struct page: the arithmetic behind virt_to_page(), which checks nothing.

`slab_calls` and `page_calls` ask here what a function that was handed a wild address looks at.
Linux: arch/x86/include/asm/page_64.h, arch/x86/mm/physaddr.c (nokaslr).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemkit.mm.arguments import pointer
from kmemkit.mm.fault import bug_on, fault
from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT
from kmemkit.mm.mmzone import HOLE

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = (
    "address_text",
    "check_virt_addr",
    "struct_page",
    "struct_page_address",
    "virt_addr_valid",
    "virt_to_pfn",
)

ADDRESSES = 1 << 64
#: Where the kernel image is mapped, and how much may be there.
START_KERNEL_MAP = 0xFFFFFFFF80000000
KERNEL_IMAGE_SIZE = 512 << 20
#: The array of struct page, and the size of one.
VMEMMAP_START = 0xFFFFEA0000000000
STRUCT_PAGE_SIZE = 64
#: What is read of a struct page first: whose tail it is.
COMPOUND_HEAD = 8


def address_text(address: int | None) -> str:
    """Return an address as calls print it."""
    return "NULL" if address is None else f"{pointer(address):#x}"


def virt_to_pfn(address: int) -> int:
    """Return the page frame number that arithmetic gives for any address, sensible or not."""
    base = START_KERNEL_MAP if address >= START_KERNEL_MAP else PAGE_OFFSET
    return (address - base) % ADDRESSES >> PAGE_SHIFT


def struct_page_address(pfn: int) -> int:
    """Return where the struct page of a page frame number would be."""
    return (VMEMMAP_START + pfn * STRUCT_PAGE_SIZE) % ADDRESSES


def struct_page(kernel: Machine, address: int) -> int:
    """Return the pfn whose struct page virt_to_page() finds for an address.

    Raises:
        Oops: reading that struct faults, for there is none: the address is none of the direct
            map's.
    """
    pfn = virt_to_pfn(address)
    if pfn < kernel.mem_map.pages and kernel.mem_map.page[pfn] != HOLE:
        return pfn
    raise fault(kernel, struct_page_address(pfn) + COMPOUND_HEAD)


def virt_addr_valid(kernel: Machine, address: int) -> bool:
    """Whether an address is of the direct map or the image, and there is memory (same name)."""
    if address >= START_KERNEL_MAP and address - START_KERNEL_MAP >= KERNEL_IMAGE_SIZE:
        return False
    pfn = virt_to_pfn(address)
    return (
        address >= PAGE_OFFSET and pfn < kernel.mem_map.pages and kernel.mem_map.page[pfn] != HOLE
    )


def check_virt_addr(kernel: Machine, address: int) -> None:
    """Stop at an address that free_pages() must not be given, in a kernel with CONFIG_DEBUG_VM.

    Raises:
        KernelBug: it has no struct page.
    """
    if kernel.debug_kernel and not virt_addr_valid(kernel, address):
        raise bug_on(
            kernel, "mm/page_alloc.c:4955", f"{address:#x} is no address of the page allocator's"
        )
