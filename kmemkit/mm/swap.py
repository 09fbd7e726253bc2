"""The LRU lists of a node: pages that reclaim may take back, oldest first (Linux: mm/swap.c).

`filemap` and tasks put pages on them, `vmscan` takes them off, `compaction` moves them to other
page frames. Linux has one set of lists per node and memory cgroup. As in Debian's default engine
(MGLRU) they are kept apart by zone; instead of its generations there are active and inactive lists,
with the same triggers and targets (docs/fidelity.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemkit.mm.mmzone import Zone
from kmemkit.snapshot import LRU_LISTS, NodeSnapshot

__all__ = (
    "ACTIVE_ANON",
    "ACTIVE_FILE",
    "INACTIVE_ANON",
    "INACTIVE_FILE",
    "LRU_DIRTY",
    "LRU_MASK",
    "UNEVICTABLE",
    "LruList",
    "Pglist",
)

#: A page's byte in MemMap.lru, without LRU_DIRTY.
INACTIVE_ANON, ACTIVE_ANON, INACTIVE_FILE, ACTIVE_FILE, UNEVICTABLE = range(1, 6)
LRU_MASK = 0x0F
LRU_DIRTY = 0x10


class LruList:
    """A queue of pfns, oldest out first, from which any one can be removed; all in O(1).

    Two dicts back to back, like a zone's free lists: a dict only loses its last key quickly, so the
    older half is kept in reverse.
    """

    __slots__ = ("newer", "older")

    def __init__(self) -> None:
        self.older: dict[int, None] = {}
        self.newer: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self.older) + len(self.newer)

    def add(self, pfn: int) -> None:
        """Append a page as the youngest."""
        self.newer[pfn] = None

    def remove(self, pfn: int) -> None:
        """Take a page out of the middle."""
        if pfn in self.newer:
            del self.newer[pfn]
        else:
            del self.older[pfn]

    def pop_oldest(self) -> int:
        """Take out the oldest page.

        Raises:
            KeyError: the list is empty.
        """
        if not self.older:
            self.older = dict.fromkeys(reversed(self.newer))
            self.newer = {}
        return self.older.popitem()[0]

    def replace(self, pfn: int, new: int) -> None:
        """Put a page that moved to another frame at the young end."""
        self.remove(pfn)
        self.add(new)


class Pglist:
    """A node: its LRU lists and its kswapd (struct pglist_data)."""

    __slots__ = (
        "kcompactd_due",
        "kcompactd_highest_zoneidx",
        "kcompactd_order",
        "kswapd_due",
        "kswapd_failures",
        "kswapd_highest_zoneidx",
        "kswapd_nap",
        "kswapd_order",
        "kswapd_paused",
        "kswapd_running",
        "lists",
        "nid",
        "slab",
        "zones",
    )

    def __init__(self, nid: int, zones: list[Zone]) -> None:
        self.nid = nid
        #: its zones, lowest first
        self.zones = zones
        #: a page's lru byte (without LRU_DIRTY) -> zone index -> list; the first is not used
        self.lists = [{zone.idx: LruList() for zone in zones} for _ in range(len(LRU_LISTS) + 1)]
        #: pages of reclaimable slabs
        self.slab = LruList()
        #: kswapd has work; it gets a CPU at `kswapd_due` (simulated ns) at the latest
        self.kswapd_running = False
        #: its time slice ended in the middle of a run
        self.kswapd_paused = False
        self.kswapd_order = self.kswapd_highest_zoneidx = 0
        self.kswapd_due = self.kswapd_failures = 0
        #: end of its nap after a run (simulated ns)
        self.kswapd_nap = 0
        #: kcompactd is to make a block of this order, unless it is 0
        self.kcompactd_order = self.kcompactd_highest_zoneidx = self.kcompactd_due = 0

    def zone_of(self, pfn: int) -> Zone:
        """Return the zone of one of the node's pages."""
        for zone in self.zones:
            if zone.start_pfn <= pfn < zone.end_pfn:
                return zone
        raise ValueError(f"pfn {pfn:#x} is not on node {self.nid}")

    def folio_add_lru(self, pfn: int, lru: int, dirty: bool = False) -> None:
        """Put a single page on a list as its youngest (mm/swap.c, same name)."""
        zone = self.zone_of(pfn)
        self.lists[lru][zone.idx].add(pfn)
        column = zone.mem_map.lru
        if not column:
            column.extend(bytes(zone.mem_map.pages))
        column[pfn] = lru | LRU_DIRTY if dirty else lru

    def folio_del_lru(self, pfn: int) -> None:
        """Take a page off its list (lruvec_del_folio())."""
        zone = self.zone_of(pfn)
        column = zone.mem_map.lru
        self.lists[column[pfn] & LRU_MASK][zone.idx].remove(pfn)
        column[pfn] = 0

    def nr(self, *lists: int, highest: int = 4) -> int:
        """Return how many pages the given lists have together, in zones up to index `highest`."""
        return sum(
            len(pages) for lru in lists for idx, pages in self.lists[lru].items() if idx <= highest
        )

    def pages(self, lru: int) -> Iterator[int]:
        """Yield the pfns of one list, zone by zone, oldest first."""
        for pages in self.lists[lru].values():
            yield from reversed(pages.older)
            yield from pages.newer

    def freeze(self) -> NodeSnapshot:
        """Return the node as a frozen value."""
        lru = {
            (name, idx): (pages.older.copy(), pages.newer.copy())
            for n, name in enumerate(LRU_LISTS, 1)
            for idx, pages in self.lists[n].items()
            if pages
        }
        return NodeSnapshot(
            self.nid, lru, (*reversed(self.slab.older), *self.slab.newer), self.kswapd_running,
            self.kswapd_order, self.kswapd_highest_zoneidx, self.kswapd_due, self.kswapd_failures,
            self.kswapd_nap, self.kswapd_paused, self.kcompactd_order,
            self.kcompactd_highest_zoneidx, self.kcompactd_due,
        )  # fmt: skip

    @classmethod
    def thaw(cls, frozen: NodeSnapshot, zones: list[Zone]) -> Pglist:
        """Return a live node made from a frozen one."""
        node = cls(frozen.nid, zones)
        for (name, idx), (older, newer) in frozen._lru.items():
            pages = node.lists[LRU_LISTS.index(name) + 1][idx]
            pages.older.update(older)
            pages.newer.update(newer)
        node.slab.newer.update(dict.fromkeys(frozen.slab_reclaimable))
        for name in (
            "kswapd_running", "kswapd_order", "kswapd_highest_zoneidx", "kswapd_due",
            "kswapd_failures", "kswapd_nap", "kswapd_paused", "kcompactd_order",
            "kcompactd_highest_zoneidx", "kcompactd_due",
        ):  # fmt: skip
            setattr(node, name, getattr(frozen, name))
        return node
