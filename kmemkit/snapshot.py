"""Frozen values of a simulated kernel: what every view, lesson and report reads.

`Kernel.snapshot()` makes a `Snapshot`; `Kernel.from_snapshot()` turns one back into a running
kernel, so a snapshot is complete: nothing the allocator decides by is left out. Making one copies
whole byte columns and free lists at memcpy speed, and derives everything else on demand.

Pages are one byte each, in a column indexed by pfn. A byte is `kind << 4 | order`: only the head
of a block carries its kind and order, the pages behind it are `Kind.TAIL`. Blocks are naturally
aligned, so a reader finds the head of any page in at most eleven looks (`Snapshot.page`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from kmemkit.slab_snapshot import CacheSnapshot
from kmemkit.units import MIGRATE_NAMES, PAGE_KB, order_text, size_text
from kmemkit.why import Event, Reason, Rung, Why

__all__ = (
    "LRU_LISTS",
    "MIGRATE_NAMES",
    "PAGE_KB",
    "Event",
    "Kind",
    "NodeSnapshot",
    "PageInfo",
    "PcpSnapshot",
    "Reason",
    "Rung",
    "Snapshot",
    "Step",
    "TaskSnapshot",
    "Why",
    "ZoneSnapshot",
    "order_text",
    "size_text",
)


class Kind(IntEnum):
    """What the high nibble of a page's byte says."""

    TAIL = 0  #: belongs to the block whose head is at a lower pfn
    FREE = 1  #: head of a block on a buddy free list
    PCP = 2  #: head of a block on a per-CPU list
    RESERVED = 3  #: present, never given to the buddy (firmware, kernel image, mem_map)
    HOLE = 4  #: no memory at this pfn
    LEAKED = 5  #: allocated, but nobody can free it any more
    UNMOVABLE = 8  #: head of an allocated block, by the migratetype its gfp mask asked for
    MOVABLE = 9
    RECLAIMABLE = 10
    SLAB = 12  #: head of a block that is cut into objects

    @property
    def allocated(self) -> bool:
        """Whether this is the head of an allocated block."""
        return self >= Kind.UNMOVABLE


#: The lists that pages wait on for reclaim (enum lru_list), by number in a page's lru byte less 1.
LRU_LISTS = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")


@dataclass(frozen=True, slots=True)
class PcpSnapshot:
    """One CPU's page lists of one zone (struct per_cpu_pages). Pages, not blocks, are counted."""

    count: int = 0
    high: int = 0
    high_min: int = 0
    high_max: int = 0
    batch: int = 1
    alloc_factor: int = 0
    free_count: int = 0
    flags: int = 0
    #: list index (3 * order + migratetype; 12 and 13 are order 9) -> head pfns, head first
    lists: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    #: this CPU's not yet folded part of NR_FREE_PAGES
    stat_diff: int = 0


@dataclass(frozen=True)
class ZoneSnapshot:
    """One zone: its numbers, its free lists in list order, its pageblock types.

    All sizes are pages. `free` is exact, `free_est` is the counter the watermark check reads, which
    lags by what each CPU has not folded yet. Marks are without boost.
    """

    nid: int
    idx: int
    name: str
    start_pfn: int
    spanned: int
    present: int
    managed: int
    free_est: int
    min: int
    low: int
    high: int
    promo: int
    boost: int
    nr_reserved_highatomic: int
    nr_free_highatomic: int
    flags: int
    stat_threshold: int
    percpu_drift_mark: int
    lowmem_reserve: tuple[int, ...]
    max_order: int
    pageblock_order: int
    #: migratetype of each pageblock the zone touches, first one at start_pfn >> pageblock_order;
    #: 0xff where the block holds no page of the zone
    pageblocks: bytes
    #: pageblock number in the zone -> allocated pages in it that compaction could move
    movable: Mapping[int, int]
    pcps: tuple[PcpSnapshot, ...]
    #: (order, migratetype) -> (head part, tail part); see mm/mmzone.py. Read it by free_list().
    _lists: Mapping[tuple[int, int], tuple[Mapping[int, None], Mapping[int, None]]] = field(
        repr=False
    )
    #: compaction's deferral: attempts left out so far, shift, lowest order that failed
    compact: tuple[int, int, int] = (0, 0, 0)

    @property
    def end_pfn(self) -> int:
        """First pfn after the zone."""
        return self.start_pfn + self.spanned

    @property
    def free(self) -> int:
        """Exact number of free pages on the buddy lists (NR_FREE_PAGES with all CPUs' diffs)."""
        return self.free_est + sum(pcp.stat_diff for pcp in self.pcps)

    @property
    def pcp_pages(self) -> int:
        """Pages that wait on per-CPU lists."""
        return sum(pcp.count for pcp in self.pcps)

    def free_list(self, order: int, migratetype: int) -> tuple[int, ...]:
        """Return the pfns on one free list, list head first."""
        head, tail = self._lists.get((order, migratetype), ({}, {}))
        return (*reversed(tuple(head)), *tail)

    def free_lists(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """Return every non-empty free list, by (order, migratetype)."""
        return {key: self.free_list(*key) for key, (a, b) in sorted(self._lists.items()) if a or b}

    def nr_free(self, order: int, migratetype: int | None = None) -> int:
        """Return how many free blocks of `order` there are, of one migratetype or of all."""
        kinds = range(len(MIGRATE_NAMES)) if migratetype is None else (migratetype,)
        pairs = (self._lists.get((order, kind), ({}, {})) for kind in kinds)
        return sum(len(head) + len(tail) for head, tail in pairs)

    def pageblock_type(self, pfn: int) -> int:
        """Return the migratetype of the pageblock that holds `pfn`."""
        return self.pageblocks[
            (pfn >> self.pageblock_order) - (self.start_pfn >> self.pageblock_order)
        ]


@dataclass(frozen=True)
class NodeSnapshot:
    """One node: what reclaim could free, and what its kswapd is doing."""

    nid: int
    #: (list name, zone index) -> (older half, newer half) of its pfns; read it by lru()
    _lru: Mapping[tuple[str, int], tuple[Mapping[int, None], Mapping[int, None]]] = field(
        repr=False
    )
    #: pages of clean slabs that shrinkers could free, oldest first
    slab_reclaimable: tuple[int, ...] = ()
    kswapd_running: bool = False
    kswapd_order: int = 0
    kswapd_highest_zoneidx: int = 0
    #: simulated time at which a woken kswapd gets a CPU, in ns
    kswapd_due: int = 0
    kswapd_failures: int = 0
    #: simulated time at which it goes from its nap after a run to sleep, in ns
    kswapd_nap: int = 0
    kswapd_paused: bool = False  #: its time slice ended in the middle of a run
    #: kcompactd was woken for a block of this order, up to this zone; 0 if it was not
    kcompactd_order: int = 0
    kcompactd_highest_zoneidx: int = 0
    kcompactd_due: int = 0  #: simulated time at which it gets a CPU, in ns

    def lru(self, name: str, zone_idx: int | None = None) -> tuple[int, ...]:
        """Return the pfns of one list of LRU_LISTS, zone by zone, oldest first."""
        pfns: list[int] = []
        for (key, idx), (older, newer) in self._lru.items():
            if key == name and zone_idx in (None, idx):
                pfns += [*reversed(tuple(older)), *newer]
        return tuple(pfns)

    def nr(self, name: str, zone_idx: int | None = None) -> int:
        """Return how many pages one list of LRU_LISTS has, in one zone or in all."""
        return sum(
            len(older) + len(newer)
            for (key, idx), (older, newer) in self._lru.items()
            if key == name and zone_idx in (None, idx)
        )


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """A task. Sizes are pages unless named otherwise."""

    pid: int
    comm: str
    flags: int = 0  #: PF_* bits
    oom_score_adj: int = 0
    uid: int = 0
    total_vm: int = 0
    rss_anon: int = 0
    rss_file: int = 0
    rss_shmem: int = 0
    swapents: int = 0
    pgtables_bytes: int = 0
    kernel_thread: bool = False
    realtime: bool = False
    oom_victim: bool = False
    exited: bool = False
    #: name of its cpuset, and the nodes that allows; all nodes if None
    cpuset: str = "/"
    mems_allowed: tuple[int, ...] | None = None
    pgtables: tuple[int, ...] = ()  #: pfns of its page tables
    kernel_pages: tuple[int, ...] = ()  #: pfns of its kernel stack and its swap cache's nodes


class PageInfo(NamedTuple):
    """What is known of one page. `order` and `head` are those of the block it belongs to."""

    pfn: int
    zone: ZoneSnapshot | None
    kind: Kind
    head: int
    order: int
    migratetype: int | None  #: of its pageblock
    owner: str
    buddy: int | None  #: the block's buddy, None at the highest order or outside the zone


@dataclass(frozen=True)
class Snapshot:
    """A whole simulated machine at one moment."""

    release: str
    zones: tuple[ZoneSnapshot, ...]
    #: one byte a page, `kind << 4 | order`, index = pfn - first_pfn
    pages: bytes = field(repr=False)
    #: index into owner_names, at the head of each allocated block
    owners: bytes = field(repr=False)
    first_pfn: int = 0
    owner_names: tuple[str, ...] = ("",)
    #: pfn -> difference of its reference count from the normal one (1 at allocated heads, else 0)
    refcounts: Mapping[int, int] = field(default_factory=dict)
    #: sentences that say what is scaled down in a small world; empty for a real layout
    scaled: tuple[str, ...] = ()
    #: settings that decide how the kernel behaves (nr_cpus, watermark_boost_factor, ...)
    settings: Mapping[str, object] = field(default_factory=dict)
    nodes: tuple[NodeSnapshot, ...] = ()
    #: one byte a page like `pages`: number of its list in LRU_LISTS + 1, or 0; | 0x10 if dirty.
    #: Empty where no page is on a list.
    lru: bytes = field(default=b"", repr=False)
    tasks: tuple[TaskSnapshot, ...] = ()
    #: what interrupts, locks and scopes surround the caller, outermost first (mm/context.py)
    context: tuple[str, ...] = ()
    #: /proc/vmstat event counters that have moved, by name
    vmstat: Mapping[str, int] = field(default_factory=dict)
    #: simulated time since boot, in ns
    now: int = 0
    #: slab caches, oldest first; none until a call needed one
    caches: tuple[CacheSnapshot, ...] = field(default=(), repr=False)
    #: what else slabs add to a machine: bytes of memory, free pointers, settings (slab_machine.py)
    slab: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def end_pfn(self) -> int:
        """First pfn after the page column."""
        return self.first_pfn + len(self.pages)

    def zone_of(self, pfn: int) -> ZoneSnapshot | None:
        """Return the zone that spans `pfn`, or None."""
        for zone in self.zones:
            if zone.start_pfn <= pfn < zone.end_pfn:
                return zone
        return None

    def _head(self, pfn: int) -> tuple[int, int]:
        """Return (head pfn, byte) of the block that covers `pfn`; its own byte if none does."""
        base = self.first_pfn
        for order in range(11):
            head = pfn >> order << order
            if head < base:
                break
            byte = self.pages[head - base]
            if byte >> 4 and (order == 0 or byte & 15 >= order):
                return head, byte
        return pfn, self.pages[pfn - base]

    def page(self, pfn: int) -> PageInfo:
        """Return all that is known of one page.

        Raises:
            IndexError: `pfn` is outside the machine; the message gives the range.
        """
        if not self.first_pfn <= pfn < self.end_pfn:
            raise IndexError(f"pfn {pfn:#x} is outside {self.first_pfn:#x}..{self.end_pfn - 1:#x}")
        head, byte = self._head(pfn)
        kind, order = Kind(byte >> 4), byte & 15
        zone = self.zone_of(pfn)
        if zone is None:
            return PageInfo(pfn, None, kind, head, order, None, "", None)
        owner = self.owner_names[self.owners[head - self.first_pfn]] if kind.allocated else ""
        buddy = head ^ (1 << order)
        alone = order >= zone.max_order or not zone.start_pfn <= buddy < zone.end_pfn
        alone = alone or kind in (Kind.RESERVED, Kind.HOLE)
        return PageInfo(
            pfn, zone, kind, head, order, zone.pageblock_type(pfn), owner, None if alone else buddy
        )

    def buddyinfo(self) -> str:
        """Return the text of /proc/buddyinfo (mm/vmstat.c frag_show_print())."""
        return "".join(
            f"Node {zone.nid}, zone {zone.name:>8} "
            + "".join(f"{zone.nr_free(order):6d} " for order in range(zone.max_order + 1))
            + "\n"
            for zone in self.zones
            if zone.present
        )

    def pagetypeinfo(self) -> str:
        """Return the text of /proc/pagetypeinfo (mm/vmstat.c pagetypeinfo_show())."""
        nodes: dict[int, list[ZoneSnapshot]] = {}
        for zone in self.zones:
            if zone.present:
                nodes.setdefault(zone.nid, []).append(zone)
        return "".join(_node_pagetypeinfo(zones) for zones in nodes.values())


def _node_pagetypeinfo(zones: list[ZoneSnapshot]) -> str:
    """Return one node's part of pagetypeinfo; the kernel repeats the whole text for every node."""
    order = zones[0].pageblock_order
    orders = range(zones[0].max_order + 1)
    lines = [f"Page block order: {order}", f"Pages per block:  {1 << order}", ""]
    title = "Free pages count per migrate type at order"
    lines.append(f"{title:<43} " + "".join(f"{o:6d} " for o in orders))
    for zone in zones:
        for kind, name in enumerate(MIGRATE_NAMES):
            row = "".join(_capped(zone.nr_free(o, kind)) for o in orders)
            lines.append(f"Node {zone.nid:4d}, zone {zone.name:>8}, type {name:>12} {row}")
    lines += ["", f"{'Number of blocks type':<23}" + "".join(f"{n:>12} " for n in MIGRATE_NAMES)]
    for zone in zones:
        counts = (zone.pageblocks.count(kind) for kind in range(len(MIGRATE_NAMES)))
        row = "".join(f"{count:12d} " for count in counts)
        lines.append(f"Node {zone.nid}, zone {zone.name:>8} {row}")
    return "\n".join(lines) + "\n"


def _capped(count: int) -> str:
    """Return one count of pagetypeinfo; the kernel stops counting a list at 100000 blocks."""
    return f"{count:6d} " if count < 100_000 else f"{'>100000':>6} "


@dataclass(frozen=True)
class Step:
    """One call of a recorded run: what was asked, what came of it, and the machine afterwards."""

    call: str
    result: str
    ok: bool
    events: tuple[Event, ...]
    why: Why | None
    snapshot: Snapshot = field(repr=False)
