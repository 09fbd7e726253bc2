"""vmalloc: memory of single pages, mapped one behind the other where addresses are free.

`vmalloc_calls` calls everything here; vmap_area.py keeps the address space. Linux: mm/vmalloc.c and
mm/util.c, same names. Simplified: page tables take no memory, so mapping never fails; a worker runs
as soon as a CPU is left to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm import debug, page_alloc, page_check
from kmemkit.mm.context import others_may_run
from kmemkit.mm.errors import Livelock, Panic
from kmemkit.mm.fault import bug_on
from kmemkit.mm.freelist import AllocContext
from kmemkit.mm.memory import PAGE_SHIFT, PAGE_SIZE
from kmemkit.mm.mmzone import ZONE_HAS_BYTES
from kmemkit.mm.ratelimit import ratelimit
from kmemkit.mm.show_mem import warn_alloc
from kmemkit.mm.vmap_area import (
    VM_ALLOC,
    VM_ALLOW_HUGE_VMAP,
    VM_MAP,
    VM_MAP_PUT_PAGES,
    VmapArea,
    is_vmalloc_addr,
)

if TYPE_CHECKING:
    from kmemkit.mm.vmalloc_calls import VmallocCalls

__all__ = (
    "INT_MAX",
    "drain_vmap_work",
    "kmalloc_gfp_adjust",
    "kvfree",
    "kvmalloc_node",
    "vfree",
    "vmalloc_node_range",
    "vmap",
    "vunmap",
)

INT_MAX = (1 << 31) - 1
PMD_SHIFT = 21
PMD_SIZE = 1 << PMD_SHIFT
#: Most pages that are asked for in one go.
BULK = 100
#: sizeof(struct vm_struct), and of one pointer in the array of pages.
VM_STRUCT_SIZE = 72
POINTER_SIZE = 8
#: Address space in pages that may wait for the purge, for each bit of the number of CPUs.
LAZY_MAX_PAGES = 32 << 20 >> PAGE_SHIFT
#: Where the functions may sleep, warn or give up in Linux 6.12.117.
MIGHT_SLEEP_ALLOC = "mm/vmalloc.c:2030"
MIGHT_SLEEP_VFREE = "mm/vmalloc.c:3419"
MIGHT_SLEEP_VUNMAP = "mm/vmalloc.c:3467"
BUG_IN_INTERRUPT = "mm/vmalloc.c:3177"
BUG_VUNMAP = "mm/vmalloc.c:3466"
WARN_BAD_ADDRESS = "mm/vmalloc.c:3291"
WARN_NO_AREA = "mm/vmalloc.c:3426"
WARN_VUNMAP = "mm/vmalloc.c:3473"
WARN_SIZE_0 = "mm/vmalloc.c:3838"
WARN_INT_MAX = "mm/util.c:670"


# -- allocate -------------------------------------------------------------------------------------


def vmalloc_node_range(
    kernel: VmallocCalls, size: int, gfp: int, vm_flags: int, owner: str
) -> int | None:
    """Allocate and map pages for `size` bytes; return the address, or None.

    Huge pages are tried first where the caller allows them; whatever that attempt lacked, the next
    is made with single pages.
    """
    if not size:
        kernel.warn_once(WARN_SIZE_0, "__vmalloc_node_range_noprof")
        return None
    if size >> PAGE_SHIFT > _totalram_pages(kernel):
        _vmalloc_error(kernel, gfp, f"size {size}, exceeds total pages")
        return None
    if vm_flags & VM_ALLOW_HUGE_VMAP and size // kernel.nr_nodes >= PMD_SIZE:
        address = _vmalloc_area(kernel, size, gfp, vm_flags, owner, PMD_SHIFT)
        if address is not None:
            return address
    return _vmalloc_area(kernel, size, gfp, vm_flags, owner, PAGE_SHIFT)


def _vmalloc_area(
    kernel: VmallocCalls, size: int, gfp: int, vm_flags: int, owner: str, shift: int
) -> int | None:
    """Take an area, an array for its pages, and the pages (__vmalloc_area_node())."""
    rounded = _round_up(size, 1 << shift)
    area = _get_vm_area_node(kernel, rounded, gfp, VM_ALLOC, owner, 1 << shift)
    if area is None:
        nofail = bool(gfp & flags.__GFP_NOFAIL)
        retrying = ". Retrying." if nofail else ""
        _vmalloc_error(kernel, gfp, f"size {size}, vm_struct allocation failed{retrying}")
        if nofail and shift == PAGE_SHIFT:
            raise Livelock(
                f"vmalloc of {size} bytes with __GFP_NOFAIL: no range of addresses is left that "
                "is large enough, and it asks again for ever; free vmalloc memory first"
            )
        return None
    area.requested = size
    count = rounded >> PAGE_SHIFT
    array = _alloc_array(kernel, count * POINTER_SIZE, gfp, owner)
    if not gfp & (flags.__GFP_DMA | flags.__GFP_DMA32):
        gfp |= flags.__GFP_HIGHMEM
    if array is None:
        needed = count * POINTER_SIZE
        _vmalloc_error(kernel, gfp, f"size {rounded}, failed to allocated page array size {needed}")
        _forget(kernel, area)
        return None
    area.array = array
    with kernel.quietly():
        area.pages = _alloc_pages(kernel, count, gfp, owner, shift - PAGE_SHIFT)
    if len(area.pages) < count:
        if shift == PAGE_SHIFT and not kernel.current.oom_victim:
            got = len(area.pages) << PAGE_SHIFT
            _vmalloc_error(kernel, gfp, f"size {got}, failed to allocate pages")
        vfree(kernel, area.start)
        return None
    _map(kernel, area.start, area.pages)
    if kernel.leaks is not None:
        road = ("kmemleak_vmalloc", "__vmalloc_node_range_noprof")
        kernel.leaks.alloc(kernel, area.start, rounded, *road)
    return area.start


def _get_vm_area_node(
    kernel: VmallocCalls, size: int, gfp: int, vm_flags: int, owner: str, align: int = PAGE_SIZE
) -> VmapArea | None:
    """Take a descriptor and a range of addresses with a guard page behind it.

    Raises:
        Panic: in an interrupt, whatever the mask says.
    """
    if kernel.context.in_interrupt:
        raise _panic(kernel, BUG_IN_INTERRUPT, "no vmalloc memory can be had in an interrupt")
    drain_vmap_work(kernel)
    descriptor = _kzalloc(kernel, VM_STRUCT_SIZE, gfp)
    if descriptor is None:
        return None
    debug.might_sleep(kernel, MIGHT_SLEEP_ALLOC)
    space, size = kernel.vmalloc_space, size + PAGE_SIZE
    area = space.alloc(size, align)
    if area is None and space.lazy:
        _purge(kernel)
        area = space.alloc(size, align)
    if area is None:
        if not gfp & flags.__GFP_NOWARN and ratelimit(kernel, "alloc_vmap_area", 5, 10):
            kernel.printk(
                f"vmalloc_node_range for size {size} failed: "
                f"Address range restricted to {space.start:#x} - {space.end - 1:#x}"
            )
        kernel._kfree(descriptor)
        return None
    area.flags, area.descriptor, area.node = vm_flags, descriptor, kernel.cpu
    area.requested, area.caller = size - PAGE_SIZE, owner or kernel.caller
    return area


def _alloc_array(kernel: VmallocCalls, size: int, gfp: int, owner: str) -> int | None:
    """Allocate the array of page pointers: beyond a page it is vmalloc memory itself."""
    if size > PAGE_SIZE:
        gfp = gfp & flags.GFP_RECLAIM_MASK | flags.__GFP_ZERO
        return vmalloc_node_range(kernel, size, gfp, 0, owner)
    return _kzalloc(kernel, size, gfp)


def _kzalloc(kernel: VmallocCalls, size: int, gfp: int) -> int | None:
    """Allocate what vmalloc() needs for itself; only how hard to try is the caller's choice."""
    kernel._caches_ready()
    return kernel._kmalloc(size, gfp & flags.GFP_RECLAIM_MASK | flags.__GFP_ZERO, -1)


def _alloc_pages(kernel: VmallocCalls, count: int, gfp: int, owner: str, order: int) -> list[int]:
    """Allocate pages for an area, maybe fewer; the page allocator reports nothing itself.

    Single pages come in bulk first, then one by one. A huge page is made single pages, each freed
    on its own. Linux: vm_area_alloc_pages().
    """
    nofail = bool(gfp & flags.__GFP_NOFAIL)
    gfp |= flags.__GFP_NOWARN
    number = kernel.owner_number(owner)
    pages: list[int] = []
    if order:
        gfp &= ~flags.__GFP_NOFAIL
    else:
        once = kernel._context(gfp & ~flags.__GFP_NOFAIL, None)
        while len(pages) < count:
            wanted = min(BULK, count - len(pages))
            pages += (got := _alloc_bulk(kernel, once, wanted, owner))
            if len(got) < wanted:
                break
    context = kernel._context(gfp, None)
    while len(pages) < count:
        if kernel.current.oom_victim and not nofail:
            break
        pfn = kernel._alloc(context, order, owner)
        if pfn is None:
            break
        if order:
            page_check.split_page(kernel.page_zone(pfn), pfn, order)
        pages += range(pfn, pfn + (1 << order))
    for pfn in pages:
        kernel.mem_map.owner[pfn] = number
    return pages


def _alloc_bulk(kernel: VmallocCalls, context: AllocContext, wanted: int, owner: str) -> list[int]:
    """Take pages in one go; where that gives none, one the ordinary way."""
    bulk = kernel._guarded(lambda: page_alloc.alloc_pages_bulk(kernel, context, wanted))
    if not bulk and (one := kernel._alloc(context, 0, owner)) is not None:
        return [one]
    if (kernel.init_on_alloc or context.gfp & flags.__GFP_ZERO) and any(
        zone.flags & ZONE_HAS_BYTES for zone in kernel.zones
    ):
        for pfn in bulk:
            kernel.memory.clear(kernel.page_address(pfn), PAGE_SIZE)
    return bulk


def vmap(kernel: VmallocCalls, pages: Sequence[int], vm_flags: int, owner: str) -> int | None:
    """Map pages the caller has, in the given order; return the address, or None.

    Without VM_MAP_PUT_PAGES they stay the caller's, mapped or not.
    """
    if not 0 < len(pages) <= _totalram_pages(kernel):
        return None
    size = len(pages) << PAGE_SHIFT
    area = _get_vm_area_node(kernel, size, flags.GFP_KERNEL, VM_MAP | vm_flags, owner)
    if area is None:
        return None
    _map(kernel, area.start, pages)
    if vm_flags & VM_MAP_PUT_PAGES:
        area.pages = list(pages)
    return area.start


# -- free -----------------------------------------------------------------------------------------


def vfree(kernel: VmallocCalls, address: int) -> None:
    """Unmap and free what an address is in; in an interrupt, leave it to a worker."""
    if kernel.context.in_interrupt:
        if address:
            kernel.vmalloc_space.deferred.append(address)
        return
    debug.might_sleep(kernel, MIGHT_SLEEP_VFREE)
    if address:
        _vfree(kernel, address)
        drain_vmap_work(kernel)


def _vfree(kernel: VmallocCalls, address: int) -> None:
    area = _remove_vm_area(kernel, address)
    if area is None:
        line = f"Trying to vfree() nonexistent vm area ({address:016x})"
        kernel.warn(WARN_NO_AREA, "vfree", line)
        return
    if kernel.leaks is not None:
        kernel.leaks.free(area.start)
    for pfn in area.pages:
        kernel._free(pfn, 0)
    kvfree(kernel, area.array)
    kernel._kfree(area.descriptor)


def vunmap(kernel: VmallocCalls, address: int) -> None:
    """Unmap what vmap() mapped; the pages are not touched.

    Raises:
        Panic: in an interrupt.
    """
    if kernel.context.in_interrupt:
        raise _panic(kernel, BUG_VUNMAP, "vunmap() cannot be called in an interrupt")
    debug.might_sleep(kernel, MIGHT_SLEEP_VUNMAP)
    if not address:
        return
    area = _remove_vm_area(kernel, address)
    if area is None:
        line = f"Trying to vunmap() nonexistent vm area ({address:016x})"
        kernel.warn(WARN_VUNMAP, "vunmap", line)
        return
    kernel._kfree(area.descriptor)
    drain_vmap_work(kernel)


def _remove_vm_area(kernel: VmallocCalls, address: int) -> VmapArea | None:
    """Unmap the area an address is in, wherever in it; return the area, or None."""
    if address % PAGE_SIZE:
        line = f"Trying to vfree() bad address ({address:016x})"
        kernel.warn(WARN_BAD_ADDRESS, "remove_vm_area", line)
        return None
    area = kernel.vmalloc_space.find(address)
    if area is not None:
        _forget(kernel, area, descriptor=False)
    return area


def _forget(kernel: VmallocCalls, area: VmapArea, *, descriptor: bool = True) -> None:
    """Take an area's pages out of the page tables; its addresses wait for the purge.

    The translations that the CPU remembers stay until then (free_vmap_area_noflush()).
    """
    for number in range(area.start >> PAGE_SHIFT, area.end >> PAGE_SHIFT):
        kernel.memory.mapped.pop(number, None)
        if kernel.debug_pagealloc:  # then nothing is left to remember
            kernel.memory.tlb.pop(number, None)
    kernel.vmalloc_space.unlink(area)
    if descriptor:
        kernel._kfree(area.descriptor)


def drain_vmap_work(kernel: VmallocCalls) -> None:
    """Let the workers run, if a CPU is left to them.

    They free what interrupts gave to vfree(), and purge when enough address space waits for it.
    """
    space = kernel.vmalloc_space
    if not (space.deferred or space.lazy) or not others_may_run(kernel):
        return
    while space.deferred:
        _vfree(kernel, space.deferred.pop(0))
    if space.lazy_pages > kernel.nr_cpus.bit_length() * LAZY_MAX_PAGES:
        _purge(kernel)


def _purge(kernel: VmallocCalls) -> None:
    """Let every CPU forget the freed areas' translations, and make their addresses free."""
    tlb = kernel.memory.tlb
    for area in kernel.vmalloc_space.purge():
        for number in range(area.start >> PAGE_SHIFT, area.end >> PAGE_SHIFT) if tlb else ():
            tlb.pop(number, None)


# -- kvmalloc -------------------------------------------------------------------------------------


def kvmalloc_node(kernel: VmallocCalls, size: int, gfp: int, owner: str) -> int | None:
    """Allocate by kmalloc(); what is larger than a page and not to be had so, by vmalloc()."""
    kernel._caches_ready()
    pointer = kernel._kmalloc(size, kmalloc_gfp_adjust(gfp, size), -1)
    if pointer is not None or size <= PAGE_SIZE or not gfp & flags.__GFP_DIRECT_RECLAIM:
        return pointer
    if size > INT_MAX:
        if not gfp & flags.__GFP_NOWARN:
            kernel.warn_once(WARN_INT_MAX, "__kvmalloc_node_noprof")
        return None
    return vmalloc_node_range(kernel, size, gfp, VM_ALLOW_HUGE_VMAP, owner)


def kmalloc_gfp_adjust(gfp: int, size: int) -> int:
    """Return the mask for the kmalloc() attempt: it must not try hard, there is another way.

    7.2 drops __GFP_DIRECT_RECLAIM here; 6.12 adds __GFP_NORETRY.
    """
    if size <= PAGE_SIZE:
        return gfp
    gfp |= flags.__GFP_NOWARN
    if not gfp & flags.__GFP_RETRY_MAYFAIL:
        gfp |= flags.__GFP_NORETRY
    return gfp & ~flags.__GFP_NOFAIL


def kvfree(kernel: VmallocCalls, address: int) -> None:
    """Free by vfree() or kfree(), as the address says."""
    if is_vmalloc_addr(address):
        vfree(kernel, address)
    else:
        kernel._kfree(address)


# -- inside ---------------------------------------------------------------------------------------


def _map(kernel: VmallocCalls, start: int, pages: Sequence[int]) -> None:
    numbers = range(start >> PAGE_SHIFT, (start >> PAGE_SHIFT) + len(pages))
    kernel.memory.mapped.update(zip(numbers, pages, strict=True))


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _totalram_pages(kernel: VmallocCalls) -> int:
    return sum(zone.managed for zone in kernel.zones)


def _vmalloc_error(kernel: VmallocCalls, gfp: int, why: str) -> None:
    warn_alloc(kernel, gfp, None, f"vmalloc error: {why}")


def _panic(kernel: VmallocCalls, where: str, why: str) -> Panic:
    """Print what BUG() prints in an interrupt, where there is no task to kill; return the end."""
    message = str(bug_on(kernel, where, why))
    kernel.printk("Kernel panic - not syncing: Fatal exception in interrupt")
    return Panic(message)
