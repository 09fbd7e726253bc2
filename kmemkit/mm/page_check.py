"""Reference counts and page state: what the kernel notices when somebody frees the wrong thing.

`Kernel.free_pages()` frees through free_pages() here, `page_alloc` asks check_new_pages(). Nothing
on the free path knows the order a block was allocated with: a wrong order frees too little or too
much, silently. What is noticed is noticed at the next free or allocation of a page whose count is
off, and only if the kernel looks at all (it does with init_on_alloc=1, Debian's default).

Only differences from the normal count are stored (mem_map.refcount), so a correct program pays
nothing. Reports have the kernel's wording, without addresses and back traces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kmemkit.mm.buddy import free_one_page
from kmemkit.mm.errors import KernelBug
from kmemkit.mm.fault import bug_on
from kmemkit.mm.mmzone import (
    ALLOCATED,
    FREE,
    LEAKED,
    MAX_PAGE_ORDER,
    RESERVED,
    SLAB,
    MemMap,
    Zone,
)
from kmemkit.mm.page_links import tear_links
from kmemkit.mm.pcp import free_unref_page
from kmemkit.mm.ratelimit import ratelimit
from kmemkit.mm.trace import Trace

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = ("check_new_pages", "dump_page", "free_pages", "free_pages_ok", "get_page", "split_page")

PG_RESERVED = 1 << 13
#: What a page that is not in use by its owner alone says it is, by its kind here.
PAGE_TYPES = {FREE: "f0(buddy)", SLAB: "f5(slab)"}
#: A page no CPU has touched yet: the last-CPU field of its flags is all ones.
LASTCPUPID = 0x1FFFFF << 30


def free_pages(kernel: Machine, zone: Zone, pfn: int, order: int) -> None:
    """Drop one reference of a page; if it was the last, free 2^order pages from there on.

    Linux: mm/page_alloc.c __free_pages(). If others still hold the first page of a block that is
    not compound, all pages but the first are freed now, because the others know of one page only.
    """
    mem_map = zone.mem_map
    byte = zone.page[pfn]
    if ALLOCATED <= byte < SLAB and byte & 15 == order and not mem_map.refcount:
        mem_map.compound.discard(pfn)
        if zone.trace is not None:
            _trace_free(zone.trace, pfn, order)
        free_unref_page(zone, pfn, order)
        return
    put_page_testzero(kernel, zone, pfn)
    last = mem_map.page_count(pfn) == 1
    if last or pfn in mem_map.compound:
        _drop_reference(zone, pfn)
        if last:
            if byte < SLAB:
                _leave_rest(zone, pfn, order)
            if free_pages_prepare(kernel, zone, pfn, order, byte & 15):
                mem_map.refcount.pop(pfn, None)
                free_unref_page(zone, pfn, order)
        return
    _drop_reference(zone, pfn)
    if byte >= ALLOCATED and order and byte & 15 >= order:
        _leave_rest(zone, pfn, order)
        zone.page[pfn] = byte & 0xF0
    for part in reversed(range(order)):
        if free_pages_prepare(kernel, zone, pfn + (1 << part), part):
            free_unref_page(zone, pfn + (1 << part), part)


def put_page_testzero(kernel: Machine, zone: Zone, pfn: int) -> None:
    """Stop where a page without a reference loses one (VM_BUG_ON_PAGE(), CONFIG_DEBUG_VM).

    Raises:
        KernelBug: it has none.
    """
    if kernel.debug_kernel and not zone.mem_map.page_count(pfn):
        raise vm_bug_on_page(
            kernel, zone, pfn, "page_ref_count(page) == 0", "include/linux/mm.h:1140",
            "nobody holds this page: it was freed before",
        )  # fmt: skip


def vm_bug_on_page(
    kernel: Machine, zone: Zone, pfn: int, condition: str, where: str, why: str
) -> KernelBug:
    """Print what VM_BUG_ON_PAGE() prints, and return it."""
    _dump_page(kernel, zone, pfn, f"VM_BUG_ON_PAGE({condition})")
    return bug_on(kernel, where, why)


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
    if count == 0 and ALLOCATED <= byte < SLAB:
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


def free_pages_prepare(
    kernel: Machine, zone: Zone, pfn: int, order: int, allocated: int = -1
) -> bool:
    """Look at every page about to be freed; return whether the block may go on a free list.

    Linux: mm/page_alloc.c free_pages_prepare(). One bad page and the whole block is dropped: it
    leaks, which is kinder than handing it out twice. `allocated` is the order the block has, -1
    for what its first page says; only of a compound one does the kernel know it, and asks only
    with CONFIG_DEBUG_VM.

    Raises:
        KernelBug: it asked, and the order is wrong.
    """
    if zone.trace is not None:
        _trace_free(zone.trace, pfn, order)
    compound, own = pfn in zone.mem_map.compound, 1 << order
    if compound:
        allocated = zone.page[pfn] & 15 if allocated < 0 else allocated
        if kernel.debug_kernel and order != allocated:
            raise vm_bug_on_page(
                kernel, zone, pfn, "compound && compound_order(page) != order",
                "mm/page_alloc.c:1132", f"the block is of order {allocated}, freed as {order}",
            )  # fmt: skip
        zone.mem_map.compound.discard(pfn)
        own = min(own, 1 << allocated)
    if own < 1 << order:
        # free_tail_page_prepare() takes the pages behind for its own, and wipes what links them
        tear_links(zone, pfn + own, pfn + (1 << order), wiped=kernel.vm.check_pages)
    if not kernel.vm.check_pages:
        tear_links(zone, pfn + 1, pfn + (1 << order), wiped=False)
        return True
    good = True
    for page in range(pfn + 1, pfn + (1 << order)):
        if page >= pfn + own:
            _bad_page(kernel, zone, page, "corrupted mapping in tail page")
            good = False
        good &= _check_page(kernel, zone, page)
    good &= _check_page(kernel, zone, pfn)
    if not good and zone.page[pfn] < SLAB:
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
    reserved = RESERVED <= byte < LEAKED
    reason = ""
    if byte & 0xF0 in (FREE, SLAB):
        reason = "nonzero mapcount"
    elif not byte and _compound_head(zone.mem_map, pfn) != pfn:
        reason = "non-NULL mapping"
    if count:
        reason = "nonzero _refcount"
    if reserved:
        reason = "PAGE_FLAGS_CHECK_AT_FREE flag(s) set"
    if not reason:
        return True
    _bad_page(kernel, zone, pfn, reason)
    return False


def _compound_head(mem_map: MemMap, pfn: int) -> int:
    """Return the first page of the compound block a page is in, or itself (compound_head())."""
    for order in range(1, MAX_PAGE_ORDER + 1) if mem_map.compound else ():
        head = pfn >> order << order
        if head != pfn and head in mem_map.compound and mem_map.page[head] & 15 >= order:
            return head
    return pfn


def _bad_page(kernel: Machine, zone: Zone, pfn: int, reason: str) -> None:
    """Report a page (bad_page()); Linux lets 60 a minute through."""
    if ratelimit(kernel, "bad_page", 60, 60):
        kernel.printk(f"BUG: Bad page state in process {kernel.comm}  pfn:{pfn:05x}")
        _dump_page(kernel, zone, pfn, reason)


def _dump_page(kernel: Machine, zone: Zone, pfn: int, reason: str) -> None:
    for line in dump_page(zone, pfn, reason):
        kernel.printk(line)


def dump_page(zone: Zone, pfn: int, reason: str) -> Iterator[str]:
    """Yield the lines of a page's state (same name in Linux); a tail has its block's count."""
    byte = zone.page[pfn]
    count = zone.mem_map.page_count(_compound_head(zone.mem_map, pfn))
    reserved = RESERVED <= byte < LEAKED
    bits = LASTCPUPID | zone.idx << 51 | zone.nid << 54 | PG_RESERVED * reserved
    names = "reserved|" * reserved + f"node={zone.nid}|zone={zone.idx}|lastcpupid=0x1fffff"
    yield f"page: refcount:{count} mapcount:0 mapping:0000000000000000 index:0x0 pfn:{pfn:#x}"
    yield f"flags: {bits:#x}({names})"
    if byte & 0xF0 in PAGE_TYPES:
        yield f"page_type: {PAGE_TYPES[byte & 0xF0]}"
    yield f"page dumped because: {reason}"
