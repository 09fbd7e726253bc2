"""Zones, free lists and the page columns: the data everything in mm/ works on.

`mm_init` builds it at boot, `buddy` and `pcp` change it, `Kernel.snapshot()` freezes it. Linux has
a struct page per page and a doubly linked list per free area (include/linux/mmzone.h); here a page
is one byte in a column, and a list is a pair of dicts.

Why a pair: a free list is popped and pushed at its head, pushed at its tail, and merging takes
blocks out of the middle. A dict does all of that in O(1) except one end: it only grows at its back.
So `free_head[area]` is a dict whose *last* key is the list head, `free_tail[area]` one whose last
key is the list tail, back to back: list order is reversed(free_head) followed by free_tail.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kmemkit.snapshot import Kind, PcpSnapshot, ZoneSnapshot

if TYPE_CHECKING:
    from kmemkit.mm.trace import Trace
    from kmemkit.mm.vm import Vm

__all__ = (
    "ALLOCATED",
    "FREE",
    "HIGH",
    "HOLE",
    "HPAGE_PMD_ORDER",
    "LEAKED",
    "LOW",
    "MAX_PAGE_ORDER",
    "MIGRATE_HIGHATOMIC",
    "MIGRATE_ISOLATE",
    "MIGRATE_MOVABLE",
    "MIGRATE_PCPTYPES",
    "MIGRATE_RECLAIMABLE",
    "MIGRATE_TYPES",
    "MIGRATE_UNMOVABLE",
    "MIN",
    "NO_PAGEBLOCK",
    "PAGEBLOCK_ORDER",
    "PAGE_ALLOC_COSTLY_ORDER",
    "PCP",
    "PCP_LISTS",
    "PROMO",
    "RESERVED",
    "SLAB",
    "ZONE_BELOW_HIGH",
    "ZONE_BOOSTED_WATERMARK",
    "ZONE_HAS_BYTES",
    "ZONE_LOCK_HELD",
    "ZONE_MOVABLE",
    "ZONE_RECLAIM_ACTIVE",
    "ZONE_TORN_LISTS",
    "ZONE_WATCHED",
    "CompactDeferral",
    "MemMap",
    "PerCpuPages",
    "Zone",
    "pcp_allowed_order",
)

MAX_PAGE_ORDER = 10
PAGEBLOCK_ORDER = 9

MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE = (
    range(5)
)
MIGRATE_TYPES = 5
#: Types below this have per-CPU lists, and their pageblocks may merge with each other.
MIGRATE_PCPTYPES = 3
NO_PAGEBLOCK = 0xFF

MIN, LOW, HIGH, PROMO = range(4)

#: Orders above this are "costly": the allocator does not try for ever to satisfy them.
PAGE_ALLOC_COSTLY_ORDER = 3
#: A huge page (PMD size) has per-CPU lists of its own.
HPAGE_PMD_ORDER = 9
#: 3 types times orders 0 to 3, then order 9 not movable, order 9 movable.
PCP_LISTS = 14

#: Index of ZONE_MOVABLE, on x86-64 and on i386 alike.
ZONE_MOVABLE = 3

ZONE_BOOSTED_WATERMARK = 1 << 0
ZONE_RECLAIM_ACTIVE = 1 << 1
ZONE_BELOW_HIGH = 1 << 2
#: The simulator's own: somebody wrote to pages, so new ones have to be cleared.
ZONE_HAS_BYTES = 1 << 8
#: Free lists are broken (page_links); and somebody died with the zone's lock in hand.
ZONE_TORN_LISTS = 1 << 9
ZONE_LOCK_HELD = 1 << 10
#: Requests for pages may be made to fail (fault_inject).
ZONE_WATCHED = 1 << 11

# The page column's high nibbles, ready to be or'ed with an order.
FREE = Kind.FREE << 4
PCP = Kind.PCP << 4
RESERVED = Kind.RESERVED << 4
HOLE = Kind.HOLE << 4
LEAKED = Kind.LEAKED << 4
ALLOCATED = Kind.UNMOVABLE << 4
#: From here on a page belongs to the slab allocator.
SLAB = Kind.SLAB << 4


def pcp_allowed_order(order: int) -> bool:
    """Return whether blocks of `order` go through per-CPU lists (mm/page_alloc.c, same name)."""
    return order <= PAGE_ALLOC_COSTLY_ORDER or order == HPAGE_PMD_ORDER


class MemMap:
    """The page columns of the whole machine, indexed by pfn (Linux: mem_map, struct page).

    Attributes:
        page: one byte a page, `kind << 4 | order` at block heads, 0 behind them.
        owner: index into Kernel.owner_names, at the heads of allocated blocks.
        pageblock: migratetype of each pageblock, NO_PAGEBLOCK where there is no memory.
        refcount: pfn -> difference from the normal count (1 at allocated heads, 0 elsewhere);
            empty unless somebody took an extra reference or freed what was not theirs.
        compound: heads of blocks allocated with __GFP_COMP.
        lru: one byte a page: 0, or the number of its LRU list + 1 (snapshot.LRU_LISTS), and
            LRU_DIRTY. Only single pages are on such lists; the column is empty while none is.
    """

    __slots__ = ("compound", "lru", "owner", "page", "pageblock", "pages", "refcount", "torn")

    def __init__(self, pages: int, pageblock_order: int) -> None:
        #: pages the machine has; the column goes on, as a hole, to the end of the last block, so
        #: that looking at a buddy never needs a check
        self.pages = pages
        self.page = bytearray(pages)
        self.page.extend(bytes([HOLE]) * (-pages % (1 << MAX_PAGE_ORDER)))
        self.owner = bytearray(pages)
        blocks = -(-pages >> pageblock_order)
        self.pageblock = bytearray([MIGRATE_MOVABLE]) * blocks
        self.refcount: dict[int, int] = {}
        self.compound: set[int] = set()
        #: heads of free blocks whose list links are broken -> (their byte then, links wiped)
        self.torn: dict[int, tuple[int, bool]] = {}
        self.lru = bytearray()

    def lru_pages(self, first: int, end: int) -> int:
        """Return how many pages of a range are on LRU lists."""
        part = self.lru[first:end]
        return len(part) - part.count(0)

    def is_free(self, pfn: int) -> bool:
        """Return whether a page is on a free list, of the buddy or of a CPU."""
        for order in range(MAX_PAGE_ORDER + 1):
            byte = self.page[pfn >> order << order]
            if byte & 0xF0 in (FREE, PCP) and byte & 15 >= order:
                return True
        return False

    def page_count(self, pfn: int) -> int:
        """Return a page's reference count (include/linux/page_ref.h, same name).

        Boot gives one to reserved pages, and to those that stand for a hole in memory.
        """
        byte = self.page[pfn]
        normal = byte >= ALLOCATED or RESERVED <= byte < LEAKED
        return normal + self.refcount.get(pfn, 0)


class PerCpuPages:
    """One CPU's lists of free pages of one zone (struct per_cpu_pages). Counts are pages."""

    __slots__ = (
        "alloc_factor",
        "batch",
        "count",
        "flags",
        "free_count",
        "high",
        "high_max",
        "high_min",
        "lists",
        "stat_diff",
    )

    def __init__(self) -> None:
        # The boot values: a refill takes one page, a free goes straight through.
        self.count = self.high = self.high_min = self.high_max = 0
        self.batch = 1
        self.alloc_factor = self.free_count = self.flags = 0
        #: this CPU's part of NR_FREE_PAGES that is not folded into the zone's counter yet
        self.stat_diff = 0
        #: left end = list head
        self.lists: list[deque[int]] = [deque() for _ in range(PCP_LISTS)]

    def freeze(self) -> PcpSnapshot:
        """Return the lists and counters as a frozen value."""
        lists = {index: tuple(pages) for index, pages in enumerate(self.lists) if pages}
        return PcpSnapshot(
            self.count, self.high, self.high_min, self.high_max, self.batch,
            self.alloc_factor, self.free_count, self.flags, lists, self.stat_diff,
        )  # fmt: skip

    @classmethod
    def thaw(cls, frozen: PcpSnapshot) -> PerCpuPages:
        """Return live lists made from a frozen value."""
        pcp = cls()
        for name in cls.__slots__:
            if name != "lists":
                setattr(pcp, name, getattr(frozen, name))
        for index, pages in frozen.lists.items():
            pcp.lists[index].extend(pages)
        return pcp


@dataclass(slots=True)
class CompactDeferral:
    """How often a zone's compaction failed, and how long it is left alone for that."""

    considered: int = 0
    shift: int = 0
    order_failed: int = 0


class Zone:
    """A zone: its span, its marks, its free lists (struct zone). Sizes are pages.

    `watermark` holds MIN, LOW, HIGH, PROMO without boost. `vm_stat` is NR_FREE_PAGES as the
    watermark check reads it: every CPU keeps up to `stat_threshold` pages of change to itself
    (`pcp.stat_diff`) before it folds them in (mm/vmstat.c).
    """

    __slots__ = (
        "compact",
        "end_pfn",
        "flags",
        "free_head",
        "free_tail",
        "idx",
        "lowmem_reserve",
        "managed",
        "max_order",
        "mem_map",
        "movable",
        "name",
        "nid",
        "nr_free_highatomic",
        "nr_reserved_highatomic",
        "page",
        "pageblock",
        "pageblock_order",
        "pcp",
        "pcps",
        "percpu_drift_mark",
        "present",
        "start_pfn",
        "stat_threshold",
        "trace",
        "vm",
        "vm_stat",
        "watermark",
        "watermark_boost",
    )

    def __init__(
        self,
        nid: int,
        idx: int,
        name: str,
        start_pfn: int,
        end_pfn: int,
        mem_map: MemMap,
        vm: Vm,
        *,
        max_order: int = MAX_PAGE_ORDER,
        pageblock_order: int = PAGEBLOCK_ORDER,
        cpus: int = 1,
    ) -> None:
        self.nid, self.idx, self.name = nid, idx, name
        self.start_pfn, self.end_pfn = start_pfn, end_pfn
        self.max_order, self.pageblock_order = max_order, pageblock_order
        self.mem_map, self.vm = mem_map, vm
        self.page, self.pageblock = mem_map.page, mem_map.pageblock
        self.present = self.managed = 0
        self.watermark = [0, 0, 0, 0]
        self.watermark_boost = 0
        self.lowmem_reserve: tuple[int, ...] = (0, 0, 0, 0, 0)
        self.nr_reserved_highatomic = self.nr_free_highatomic = 0
        self.flags = 0
        self.compact = CompactDeferral()
        self.vm_stat = 0
        self.stat_threshold = self.percpu_drift_mark = 0
        #: pageblock (by its number in the machine) -> allocated pages in it that could be moved
        self.movable: dict[int, int] = {}
        areas = (max_order + 1) * MIGRATE_TYPES
        self.free_head: list[dict[int, None]] = [{} for _ in range(areas)]
        self.free_tail: list[dict[int, None]] = [{} for _ in range(areas)]
        self.pcps = [PerCpuPages() for _ in range(cpus)]
        #: the lists of the CPU that runs now
        self.pcp = self.pcps[0]
        self.trace: Trace | None = None

    def __repr__(self) -> str:
        return f"<Zone node {self.nid} {self.name} {self.start_pfn:#x}..{self.end_pfn - 1:#x}>"

    @property
    def free_pages(self) -> int:
        """Exact number of pages on the free lists, whatever the CPUs have not folded yet."""
        return self.vm_stat + sum(pcp.stat_diff for pcp in self.pcps)

    def is_free_list_empty(self, order: int, migratetype: int) -> bool:
        """Return whether one free list has no block (free_area_empty())."""
        area = order * MIGRATE_TYPES + migratetype
        return not (self.free_head[area] or self.free_tail[area])

    def first_block(self, area: int) -> int | None:
        """Return the pfn at the head of a free list without taking it, or None."""
        if self.free_head[area]:
            return next(reversed(self.free_head[area]))
        return next(iter(self.free_tail[area]), None)

    def block_range(self, pfn: int) -> tuple[int, int]:
        """Return the [first, end) pfns of the pageblock that holds `pfn`."""
        first = pfn >> self.pageblock_order << self.pageblock_order
        return first, first + (1 << self.pageblock_order)

    def freeze(self) -> ZoneSnapshot:
        """Return the zone as a frozen value, free lists copied; page columns are not its own."""
        first = self.start_pfn >> self.pageblock_order
        last = -(-self.end_pfn >> self.pageblock_order)
        lists = {}
        for area, (head, tail) in enumerate(zip(self.free_head, self.free_tail, strict=True)):
            if head or tail:
                lists[divmod(area, MIGRATE_TYPES)] = (head.copy(), tail.copy())
        return ZoneSnapshot(
            nid=self.nid, idx=self.idx, name=self.name, start_pfn=self.start_pfn,
            spanned=self.end_pfn - self.start_pfn, present=self.present, managed=self.managed,
            free_est=self.vm_stat, min=self.watermark[MIN], low=self.watermark[LOW],
            high=self.watermark[HIGH], promo=self.watermark[PROMO], boost=self.watermark_boost,
            nr_reserved_highatomic=self.nr_reserved_highatomic,
            nr_free_highatomic=self.nr_free_highatomic, flags=self.flags,
            stat_threshold=self.stat_threshold, percpu_drift_mark=self.percpu_drift_mark,
            lowmem_reserve=self.lowmem_reserve, max_order=self.max_order,
            pageblock_order=self.pageblock_order, pageblocks=bytes(self.pageblock[first:last]),
            movable={block - first: pages for block, pages in self.movable.items()},
            pcps=tuple(pcp.freeze() for pcp in self.pcps), _lists=lists,
            compact=(self.compact.considered, self.compact.shift, self.compact.order_failed),
        )  # fmt: skip

    @classmethod
    def thaw(cls, frozen: ZoneSnapshot, mem_map: MemMap, vm: Vm) -> Zone:
        """Return a live zone made from a frozen one, on the given page columns."""
        zone = cls(
            frozen.nid, frozen.idx, frozen.name, frozen.start_pfn, frozen.end_pfn, mem_map, vm,
            max_order=frozen.max_order, pageblock_order=frozen.pageblock_order,
        )  # fmt: skip
        for name in (
            "present", "managed", "nr_reserved_highatomic", "nr_free_highatomic", "flags",
            "stat_threshold", "percpu_drift_mark", "lowmem_reserve",
        ):  # fmt: skip
            setattr(zone, name, getattr(frozen, name))
        zone.vm_stat, zone.watermark_boost = frozen.free_est, frozen.boost
        zone.watermark = [frozen.min, frozen.low, frozen.high, frozen.promo]
        first = frozen.start_pfn >> frozen.pageblock_order
        zone.movable = {first + block: pages for block, pages in frozen.movable.items()}
        for (order, migratetype), (head, tail) in frozen._lists.items():
            area = order * MIGRATE_TYPES + migratetype
            zone.free_head[area].update(head)
            zone.free_tail[area].update(tail)
        zone.compact = CompactDeferral(*frozen.compact)
        zone.pcps = [PerCpuPages.thaw(pcp) for pcp in frozen.pcps]
        zone.pcp = zone.pcps[0]
        return zone
