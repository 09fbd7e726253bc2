"""Pages: the page allocator's C API, as methods of Kernel.

Methods carry the C names and argument order. A page is named by its pfn (an int), memory by its
address in the kernel's direct map; where a page is wanted either will do, because the direct map
starts at 0xffff888000000000, far above any pfn. What Linux answers with NULL is None; what kills
the calling task in Linux raises `KernelBug` or `Oops`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kmemkit import gfp as flags
from kmemkit.mm import compaction, kswapd, page_alloc, page_check
from kmemkit.mm.errors import KernelBug, Oops
from kmemkit.mm.fault import bug_on, fault
from kmemkit.mm.freelist import AllocContext, prepare_alloc_pages
from kmemkit.mm.machine import Machine
from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT
from kmemkit.mm.mmzone import ALLOCATED, HIGH, HOLE, MIGRATE_PCPTYPES, PCP, SLAB
from kmemkit.mm.pcp import PCP_BATCH_SCALE_MAX, PCPF_PREV_FREE_HIGH_ORDER, drain_pages_zone
from kmemkit.mm.physaddr import (
    COMPOUND_HEAD,
    check_virt_addr,
    struct_page_address,
    virt_to_pfn,
)
from kmemkit.mm.watermark import has_block

__all__ = ("PAGE_OFFSET", "PAGE_SHIFT", "PageCalls")

# Inside a class Python would mangle names that begin with two underscores.
HIGHMEM, NOWARN, ZERO = flags.__GFP_HIGHMEM, flags.__GFP_NOWARN, flags.__GFP_ZERO
#: At most one of these makes sense (GFP_ZONE_BAD).
ONE_ZONE = flags.__GFP_DMA | flags.__GFP_HIGHMEM | flags.__GFP_DMA32

T = TypeVar("T")


class PageCalls(Machine):
    """The part of a machine that gives out and takes back pages."""

    # -- allocate ---------------------------------------------------------------------------------

    def alloc_pages(
        self, gfp: int | str, order: int = 0, *, nid: int | None = None, owner: str = ""
    ) -> int | None:
        """Allocate 2^order contiguous pages; return the pfn of the first, or None.

        Args:
            gfp: mask, as an int or as names ("GFP_KERNEL | __GFP_ZERO").
            order: power of two of the number of pages; above the highest order the kernel warns
                once and returns NULL.
            nid: node to start from (alloc_pages_node()); None and -1 (NUMA_NO_NODE) stand for the
                running CPU's.
            owner: a name to remember the block by, shown by views.

        Raises:
            TypeError, ValueError: no mask, no order, no such node.
        """
        # Nearly every request ends at a CPU's own list while nobody looks. That way is written out
        # here, because a call costs more than the work; the answer is get_page_from_freelist()'s.
        quick = self.trace is None and nid is None and not (owner or self.listeners)
        if quick and self.now + self.CALL_NS < self.due:
            try:
                context = self._contexts[gfp]
            except (KeyError, TypeError):  # unknown, or no mask at all: _context() finds out
                if self.context.frames:  # might_alloc() has a word to say
                    return self._alloc_pages(gfp, order, nid, owner)
                context = self._context(gfp, nid)
            zone = context.zone
            if zone is not None and not zone.flags and type(order) is int and 0 <= order <= 3:
                pcp, size = zone.pcp, 1 << order
                pages = pcp.lists[MIGRATE_PCPTYPES * order + context.migratetype]
                mark = zone.watermark[HIGH] + zone.watermark_boost + zone.nr_free_highatomic
                if (
                    pages
                    and zone.vm_stat - mark - size >= zone.lowmem_reserve[context.highest_zoneidx]
                    and (not order or has_block(zone, order, 0))
                    and not zone.mem_map.refcount
                ):
                    pcp.free_count >>= 1
                    pcp.count -= size
                    pfn = pages.popleft()
                    zone.page[pfn] = context.page_byte | order
                    self._owner[pfn] = 0
                    self.now += self.CALL_NS
                    return pfn
        return self._alloc_pages(gfp, order, nid, owner)

    def _alloc_pages(self, gfp: int | str, order: int, nid: int | None, owner: str) -> int | None:
        """Allocate pages the careful way."""
        context = self._context(gfp, nid)
        order = self._order(order)
        self._know_owner(owner)
        if self.trace is None and not self.listeners and order <= self._max_order:
            return self._alloc(context, order, owner)
        names = flags.decode(context.gfp) or "0"
        return self._call(
            f"alloc_pages({names}, {order})",
            lambda: self._alloc(context, order, owner),
            _pfn_text,
        )

    def get_free_pages(self, gfp: int | str, order: int = 0, *, owner: str = "") -> int | None:
        """Allocate 2^order pages; return their address in the direct map, or None.

        Also there as __get_free_pages, its name in Linux. __GFP_HIGHMEM is dropped without a word:
        high memory has no address.
        """
        mask = self._gfp(gfp) & ~HIGHMEM
        pfn = self.alloc_pages(mask, order, owner=owner)
        return None if pfn is None else self.page_address(pfn)

    def get_zeroed_page(self, gfp: int | str, *, owner: str = "") -> int | None:
        """Allocate a page of zeroes; return its address, or None (same name in Linux)."""
        mask = self._gfp(gfp) | ZERO
        return self.get_free_pages(mask, 0, owner=owner)

    def alloc_pages_bulk(self, gfp: int | str, nr_pages: int, *, owner: str = "") -> list[int]:
        """Allocate up to `nr_pages` single pages in one go; return their pfns, possibly fewer.

        If the zone's free pages do not cover all of them above the low mark, one page is tried the
        ordinary way (alloc_pages_bulk_noprof()).
        """
        context = self._context(gfp, None)
        if not _is_whole(nr_pages) or nr_pages < 0:
            raise ValueError(f"nr_pages={nr_pages!r}: give a whole number of pages, 0 or more")
        self._know_owner(owner)

        def run() -> list[int]:
            bulk = self._guarded(lambda: page_alloc.alloc_pages_bulk(self, context, nr_pages))
            for pfn in bulk:
                self.mem_map.owner[pfn] = self.owner_names.index(owner)
            if not bulk and nr_pages:
                one = self._alloc(context, 0, owner)
                bulk = [] if one is None else [one]
            return bulk

        call = f"alloc_pages_bulk({flags.decode(context.gfp)}, {nr_pages})"
        return self._call(call, run, lambda pages: f"{len(pages)} pages")

    # -- free -------------------------------------------------------------------------------------

    def free_pages(self, page: int | None, order: int = 0) -> None:
        """Drop a reference; if it was the last, free 2^order pages from `page` on.

        Args:
            page: pfn or direct-map address of the first page; None is fine and does nothing.
            order: of the block. Nothing checks it: a smaller one leaks the rest, a larger one frees
                the neighbours' pages, unless the page checks notice.

        Raises:
            TypeError, ValueError: not a page, not an order.
            Oops: no memory there. KernelBug: free lists found broken.
        """
        zone = self._zone_hint
        if (
            self.trace is None and type(page) is int and zone.start_pfn <= page < zone.end_pfn
            and type(order) is int and 0 <= order <= 3 and not (zone.flags or self.listeners)
        ):  # fmt: skip
            # The way of nearly every free, by hand as in alloc_pages(); the same as _free()
            byte, migratetype = zone.page[page], zone.pageblock[page >> zone.pageblock_order]
            pcp, mem_map = zone.pcp, self.mem_map
            count, high, seen = pcp.count + (1 << order), pcp.high, pcp.free_count
            if (
                ALLOCATED <= byte < SLAB and byte & 15 == order and migratetype < MIGRATE_PCPTYPES
                and count < high and pcp.high_min <= high <= pcp.high_max
                and not (mem_map.refcount or mem_map.lru or (order and mem_map.compound))
                and not (order and seen >= pcp.batch and pcp.flags & PCPF_PREV_FREE_HIGH_ORDER)
            ):  # fmt: skip
                if order:
                    pcp.flags |= PCPF_PREV_FREE_HIGH_ORDER
                else:
                    pcp.flags &= ~PCPF_PREV_FREE_HIGH_ORDER
                zone.page[page] = PCP | order
                pcp.lists[MIGRATE_PCPTYPES * order + migratetype].appendleft(page)
                pcp.count = count
                pcp.alloc_factor >>= 1
                if seen < pcp.batch << PCP_BATCH_SCALE_MAX:
                    pcp.free_count = seen + (1 << order)
                return
        self._free_pages(page, order)

    def _free_pages(self, page: int | None, order: int) -> None:
        """Free pages the careful way."""
        order = self._order(order)
        if page is None:
            return
        if isinstance(page, int) and page >= PAGE_OFFSET:
            check_virt_addr(self, page)
        pfn = self._pfn(page)
        if self.trace is None and not self.listeners:
            self._zone_hint = self.page_zone(pfn)
            self._free(pfn, order)
            return
        self._call(f"free_pages({pfn:#x}, {order})", lambda: self._free(pfn, order))

    def get_page(self, page: int) -> None:
        """Take an extra reference of a page (same name in Linux)."""
        pfn = self._pfn(page)
        run = lambda: page_check.get_page(self.mem_map, pfn)  # noqa: E731
        self._call(f"get_page({pfn:#x})", run)

    def put_page(self, page: int | None) -> None:
        """Drop a reference of a page; the last one frees it (same name in Linux).

        Raises:
            Oops: NULL, unlike with free_pages(): or no memory there.
        """
        if page is None:
            raise fault(self, COMPOUND_HEAD, checked=True)
        pfn = self._folio(self._pfn(page))[0]
        order = self.mem_map.page[pfn] & 15 if pfn in self.mem_map.compound else 0
        self._call(f"put_page({pfn:#x})", lambda: self._free(pfn, order))

    def split_page(self, page: int, order: int) -> None:
        """Make single pages of one block, each freed on its own (same name in Linux)."""
        pfn, order = self._pfn(page), self._order(order)
        zone, byte = self.page_zone(pfn), self.mem_map.page[pfn]
        if byte < ALLOCATED or byte & 15 != order:
            raise ValueError(f"pfn {pfn:#x} does not begin an allocated block of order {order}")
        run = lambda: page_check.split_page(zone, pfn, order)  # noqa: E731
        self._call(f"split_page({pfn:#x}, {order})", run)

    def drain_all_pages(self) -> None:
        """Give all pages on all per-CPU lists back to the buddy lists (same name in Linux)."""

        def run() -> None:
            for zone in self.zones:
                drain_pages_zone(zone)

        self._call("drain_all_pages()", lambda: self._guarded(run))

    def compact_memory(self) -> None:
        """Compact every zone as far as it goes (writing 1 to /proc/sys/vm/compact_memory)."""

        def run() -> None:
            for zone in self.zones:
                cc = compaction.CompactControl(
                    zone, -1, 0, compaction.COMPACT_PRIO_SYNC_FULL, 0, zone.idx, direct=False
                )
                drain_pages_zone(zone)
                compaction.compact_zone(self, cc)

        self._call("compact_memory()", lambda: self._guarded(run))

    # -- addresses --------------------------------------------------------------------------------

    def page_address(self, pfn: int) -> int:
        """Return the direct-map address of a page (same name in Linux)."""
        return PAGE_OFFSET + (pfn << PAGE_SHIFT)

    def virt_to_page(self, address: int) -> int:
        """Return the pfn behind a direct-map address (same name in Linux)."""
        return self._pfn(address)

    def _pfn(self, page: int) -> int:
        """Return the pfn of a page given by pfn or address."""
        try:
            pfn = page if page < PAGE_OFFSET else virt_to_pfn(page)
            byte = self.mem_map.page[pfn] if pfn >= 0 else HOLE
        except TypeError:
            raise TypeError(
                f"{page!r} is not a page; give the pfn or the address an allocation returned"
            ) from None
        except IndexError:
            byte = HOLE
        if byte == HOLE:
            oops = fault(self, struct_page_address(pfn) + COMPOUND_HEAD)
            raise Oops(
                f"{oops}\npfn {pfn:#x} has no memory: this machine ends at {self._last_pfn():#x}"
            )
        return pfn

    def _folio(self, pfn: int) -> tuple[int, int]:
        """Return (first page, order) of the compound block around a page; itself if none."""
        for order in range(1, 11):
            head = pfn >> order << order
            if head in self.mem_map.compound and self.mem_map.page[head] & 15 == order:
                return head, order
        return pfn, 0

    def _last_pfn(self) -> int:
        return self.mem_map.pages - 1

    # -- inside -----------------------------------------------------------------------------------

    def _context(self, gfp: int | str, nid: int | None) -> AllocContext:
        """Return what a mask and a node mean, worked out once."""
        # A mask alone stands for a request from the running CPU with nothing around it.
        key = gfp if nid is None and not self.context.frames else (gfp, -1 if nid is None else nid)
        try:
            known = self._contexts.get(key)
        except TypeError:
            raise _no_mask(gfp) from None
        if known is None:
            mask = self._gfp(gfp)
            if self.debug_kernel and (mask & ONE_ZONE).bit_count() > 1:
                raise bug_on(self, "include/linux/gfp.h:143", "the mask names zones that exclude")
            node = self.numa_node_id() if nid in (None, -1) else nid
            known = prepare_alloc_pages(self, mask, node)
            self._contexts[key] = known
        return known

    def _gfp(self, gfp: int | str) -> int:
        """Return a mask as a number."""
        if isinstance(gfp, (list, dict, set)):
            raise _no_mask(gfp)
        return flags.as_mask(gfp, self.release)

    def _order(self, order: int) -> int:
        if not _is_whole(order):
            raise TypeError(f"order={order!r}: give a whole number; order n is 2^n pages")
        if order < 0:
            raise ValueError(f"order={order}: an order is 0 or more; order n is 2^n pages")
        if order >= 64:
            raise ValueError(f"order={order}: order n is 2^n pages, and no machine has 2^64")
        return order

    def _alloc(self, context: AllocContext, order: int, owner: str) -> int | None:
        if order > self._max_order:
            if not context.gfp & NOWARN:
                self.warn_on_once("__alloc_pages_noprof")
            if self.trace is not None:
                self.trace.note("order_too_high", order=order, most=self._max_order)
            return None
        self.now += self.CALL_NS
        if self.now >= self.due:
            kswapd.tick(self)
        pfn = self._guarded(lambda: page_alloc.alloc_pages(self, context, order))
        if pfn is not None:
            self.mem_map.owner[pfn] = self.owner_names.index(owner)
        self._trace_alloc(context, pfn or 0, order)
        return pfn

    def _know_owner(self, owner: str) -> None:
        """Put a name on the list of owners, before a page is taken for it."""
        if not isinstance(owner, str):
            raise TypeError(f"owner={owner!r}: give a name as text")
        self.owner_number(owner)

    def _trace_alloc(self, context: AllocContext, pfn: int, order: int) -> None:
        if self.trace is not None:
            self.trace.event(
                "mm_page_alloc",
                pfn=f"{pfn:#x}",
                order=order,
                migratetype=context.migratetype,
                gfp_flags=flags.decode(context.gfp) or "none",
            )

    def _free(self, pfn: int, order: int) -> None:
        zone = self.page_zone(pfn)
        lru = self.mem_map.lru
        if lru and lru[pfn] and self.mem_map.page_count(pfn) == 1:
            self._leave_lru(pfn)
        if pfn + (1 << order) > self.mem_map.pages:
            self._pfn(self.mem_map.pages)  # the first page that is not there
        try:
            page_check.free_pages(self, zone, pfn, order)
        except KeyError:
            raise self._list_corruption() from None

    def _leave_lru(self, pfn: int) -> None:
        """Take a page that somebody frees off its list, and from its task."""
        task = self.task_of(pfn)
        if task is not None:
            del task.anon[pfn]
        self.nodes[self.page_zone(pfn).nid].folio_del_lru(pfn)

    def _guarded(self, run: Callable[[], T]) -> T:
        """Run what takes blocks off lists; a missing block is what list_del() would find."""
        try:
            return run()
        except KeyError:
            raise self._list_corruption() from None

    def _list_corruption(self) -> KernelBug:
        line = "kernel BUG at lib/list_debug.c:65!"
        self.printk("list_del corruption.")
        self.printk(line)
        return KernelBug(f"{line}\na free block is not on its list: something was freed twice")


# Defined in the class body, Python would mangle the two underscores into another name.
setattr(PageCalls, "__get_free_pages", PageCalls.get_free_pages)
setattr(PageCalls, "__free_pages", PageCalls.free_pages)


def _no_mask(gfp: object) -> TypeError:
    return TypeError(f"gfp={gfp!r}: give a mask as an int or as names, such as 'GFP_KERNEL'")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _pfn_text(pfn: int | None) -> str:
    return "NULL" if pfn is None else f"pfn {pfn:#x}"
