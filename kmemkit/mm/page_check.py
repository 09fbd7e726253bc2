"""Reference counts and page state: what the kernel notices when somebody frees the wrong thing.

`Kernel.free_pages()` frees through free_pages() here, `page_alloc` asks check_new_pages(). Nothing
on the free path knows the order a block was allocated with: a wrong order frees too little or too
much, silently. What is noticed is noticed at the next free or allocation of a page whose count is
off, and only if the kernel looks at all (it does with init_on_alloc=1, Debian's default).

Only differences from the normal count are stored (mem_map.refcount), so a correct program pays
nothing. Reports have the kernel's wording, without addresses and back traces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemkit.mm.buddy import free_one_page
from kmemkit.mm.mmzone import ALLOCATED, FREE, LEAKED, RESERVED, MemMap, Zone
from kmemkit.mm.pcp import free_unref_page
from kmemkit.mm.trace import Trace

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = ("check_new_pages", "free_pages", "free_pages_ok", "get_page", "split_page")

PG_RESERVED = 1 << 13
#: A page no CPU has touched yet: the last-CPU field of its flags is all ones.
LASTCPUPID = 0x1FFFFF << 30


def free_pages(kernel: Machine, zone: Zone, pfn: int, order: int) -> None:
    """Drop one reference of a page; if it was the last, free 2^order pages from there on.

    Linux: mm/page_alloc.c __free_pages(). If others still hold the first page of a block that is
    not compound, all pages but the first are freed now, because the others know of one page only.
    """
    mem_map = zone.mem_map
    byte = zone.page[pfn]
    if byte >= ALLOCATED and byte & 15 == order and not mem_map.refcount:
        mem_map.compound.discard(pfn)
        if zone.trace is not None:
            _trace_free(zone.trace, pfn, order)
        free_unref_page(zone, pfn, order)
        return
    last = mem_map.page_count(pfn) == 1
    if last or pfn in mem_map.compound:
        _drop_reference(zone, pfn)
        if last:
            _leave_rest(zone, pfn, order)
            mem_map.compound.discard(pfn)
            if free_pages_prepare(kernel, zone, pfn, order):
                free_unref_page(zone, pfn, order)
        return
    _drop_reference(zone, pfn)
    if byte >= ALLOCATED and order and byte & 15 >= order:
        _leave_rest(zone, pfn, order)
        zone.page[pfn] = byte & 0xF0
    for part in reversed(range(order)):
        if free_pages_prepare(kernel, zone, pfn + (1 << part), part):
            free_unref_page(zone, pfn + (1 << part), part)


def free_pages_ok(kernel: Machine, zone: Zone, pfn: int, order: int) -> None:
    """Free a block past the per-CPU lists, to the tail of its buddy list (__free_pages_ok())."""
    if free_pages_prepare(kernel, zone, pfn, order):
        free_one_page(zone, pfn, order, to_tail=True)


def get_page(mem_map: MemMap, pfn: int) -> None:
    """Take an extra reference of a page (same name in Linux)."""
    extra = mem_map.refcount.get(pfn, 0) + 1
    if extra:
        mem_map.refcount[pfn] = extra
    else:
        del mem_map.refcount[pfn]


def split_page(zone: Zone, pfn: int, order: int) -> None:
    """Turn one allocated block into 2^order pages with a reference each (same name in Linux)."""
    byte = zone.page[pfn] & 0xF0
    owner = zone.mem_map.owner[pfn]
    for page in range(pfn, pfn + (1 << order)):
        zone.page[page] = byte
        zone.mem_map.owner[page] = owner


def _drop_reference(zone: Zone, pfn: int) -> None:
    """Take one from a page's count. At zero the page is nobody's: neither allocated nor free."""
    mem_map = zone.mem_map
    count = mem_map.page_count(pfn) - 1
    byte = zone.page[pfn]
    if count == 0 and byte >= ALLOCATED:
        zone.page[pfn] = LEAKED | byte & 15
    normal = mem_map.page_count(pfn) - mem_map.refcount.get(pfn, 0)
    if count == normal:
        mem_map.refcount.pop(pfn, None)
    else:
        mem_map.refcount[pfn] = count - normal


def _leave_rest(zone: Zone, pfn: int, order: int) -> None:
    """Mark what a free with too small an order leaves behind: nobody can free it any more."""
    allocated = zone.page[pfn] & 15
    for part in range(order, allocated):
        zone.page[pfn + (1 << part)] = LEAKED | part
    zone.page[pfn] = zone.page[pfn] & 0xF0 | min(order, allocated)


def _trace_free(trace: Trace, pfn: int, order: int) -> None:
    """Record that nobody holds a block any more (mm_page_free)."""
    trace.event("mm_page_free", pfn=f"{pfn:#x}", order=order)


def free_pages_prepare(kernel: Machine, zone: Zone, pfn: int, order: int) -> bool:
    """Look at every page about to be freed; return whether the block may go on a free list.

    Linux: mm/page_alloc.c free_pages_prepare(). One bad page and the whole block is dropped: it
    leaks, which is kinder than handing it out twice.
    """
    if zone.trace is not None:
        _trace_free(zone.trace, pfn, order)
    if not kernel.vm.check_pages:
        return True
    good = True
    for page in range(pfn, pfn + (1 << order)):
        good &= _check_page(kernel, zone, page)
    if not good:
        zone.page[pfn] = LEAKED | order
    return good


def check_new_pages(kernel: Machine, zone: Zone, pfn: int, order: int) -> bool:
    """Look at every page of a block about to be handed out; a bad block is reported and dropped.

    Linux: mm/page_alloc.c check_new_pages().
    """
    if not kernel.vm.check_pages:
        return True
    kept = zone.page[pfn]
    zone.page[pfn] = 0
    good = True
    for page in range(pfn, pfn + (1 << order)):
        good &= _check_page(kernel, zone, page)
    zone.page[pfn] = kept if good else LEAKED | order
    return good


def _check_page(kernel: Machine, zone: Zone, pfn: int) -> bool:
    """Report a page that is neither in use by nobody nor clean (page_expected_state())."""
    byte = zone.page[pfn]
    count = zone.mem_map.page_count(pfn)
    buddy = byte & 0xF0 == FREE
    reserved = RESERVED <= byte < LEAKED
    reason = ""
    if buddy:
        reason = "nonzero mapcount"
    if count:
        reason = "nonzero _refcount"
    if reserved:
        reason = "PAGE_FLAGS_CHECK_AT_FREE flag(s) set"
    if not reason:
        return True
    bits = LASTCPUPID | zone.idx << 51 | zone.nid << 54 | PG_RESERVED * reserved
    names = "reserved|" * reserved + f"node={zone.nid}|zone={zone.idx}|lastcpupid=0x1fffff"
    kernel.printk(f"BUG: Bad page state in process {kernel.comm}  pfn:{pfn:05x}")
    kernel.printk(
        f"page: refcount:{count} mapcount:0 mapping:0000000000000000 index:0x0 pfn:{pfn:#x}"
    )
    kernel.printk(f"flags: {bits:#x}({names})")
    if buddy:
        kernel.printk("page_type: f0(buddy)")
    kernel.printk(f"page dumped because: {reason}")
    return False
