"""The address space of vmalloc: which ranges of addresses are taken, and which are free.

`vmalloc` takes ranges here and gives them back. The lowest free range that fits is taken. A range
that was given back stays unusable until the lazily freed ones are purged together, because some CPU
may still remember what was mapped there. Linux: mm/vmalloc.c. Simplified: no pools of ranges by
size and CPU; the descriptor of a range takes no memory.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from kmemkit.mm.memory import PAGE_SHIFT, PAGE_SIZE, VMALLOC_END, VMALLOC_START

__all__ = (
    "VM_ALLOC",
    "VM_ALLOW_HUGE_VMAP",
    "VM_MAP",
    "VM_MAP_PUT_PAGES",
    "VmallocSpace",
    "VmapArea",
    "is_vmalloc_addr",
)

VM_ALLOC = 0x2
VM_MAP = 0x4
#: vfree() of a vmap() drops the references to its pages, and frees the array that listed them.
VM_MAP_PUT_PAGES = 0x200
VM_ALLOW_HUGE_VMAP = 0x400


def is_vmalloc_addr(address: int) -> bool:
    """Return whether an address lies where vmalloc() and vmap() map (same name in Linux)."""
    return VMALLOC_START <= address < VMALLOC_END


@dataclass(slots=True, eq=False)
class VmapArea:
    """A taken range of addresses (struct vmap_area and struct vm_struct).

    Attributes:
        start, end: its bytes, the guard page at the end included.
        flags: VM_ALLOC, VM_MAP and so on.
        requested: how many bytes were asked for.
        caller: who took it, as /proc/vmallocinfo shows it.
        pages: pfns that it holds references to.
        array: address of the array of pointers to them, 0 if there is none.
        descriptor: address of the struct vm_struct, 0 if it is none of the simulated memory.
        node: the vmap node it is freed to: the CPU that took it.
        info: of a range that was recorded: the rest of its line in /proc/vmallocinfo.
    """

    start: int
    end: int
    flags: int = 0
    requested: int = 0
    caller: str = ""
    pages: list[int] = field(default_factory=list)
    array: int = 0
    descriptor: int = 0
    node: int = 0
    info: str = ""

    @property
    def size(self) -> int:
        """Usable bytes: whole pages, without the guard page (get_vm_area_size())."""
        return self.end - self.start - PAGE_SIZE

    def freeze(self) -> tuple[Any, ...]:
        """Return the fields as plain values."""
        values = (getattr(self, one.name) for one in fields(self))
        return tuple(tuple(value) if isinstance(value, list) else value for value in values)

    @classmethod
    def thaw(cls, frozen: tuple[Any, ...]) -> Self:
        """Return the range that freeze() made the values of."""
        area = cls(*frozen)
        area.pages = list(area.pages)
        return area


class VmallocSpace:
    """The taken, lazily freed and free ranges.

    Args:
        start, end: first address, and the one behind the last.
    """

    __slots__ = ("_starts", "areas", "deferred", "end", "holes", "lazy", "lazy_pages", "start")

    def __init__(self, start: int = VMALLOC_START, end: int = VMALLOC_END + 1) -> None:
        self.start, self.end = start, end
        #: first address -> the range that begins there
        self.areas: dict[int, VmapArea] = {}
        self._starts: list[int] = []
        #: free ranges as (first address, the one behind the last), lowest first
        self.holes = [(start, end)]
        #: freed ranges that wait for the purge, in the order they were freed
        self.lazy: list[VmapArea] = []
        #: pages of address space that wait for it, guard pages included
        self.lazy_pages = 0
        #: addresses that interrupts gave to vfree(), until a worker frees them
        self.deferred: list[int] = []

    def __repr__(self) -> str:
        return f"<VmallocSpace: {len(self.areas)} areas, {len(self.lazy)} to purge>"

    @property
    def nr_vmalloc_pages(self) -> int:
        """Pages that vmalloc() holds: VmallocUsed of /proc/meminfo without kernel stacks' own."""
        held = (area for area in self.areas.values() if area.flags & VM_ALLOC)
        return sum(len(area.pages) for area in held)

    def find(self, address: int) -> VmapArea | None:
        """Return the range that an address is in, guard page included (find_vmap_area())."""
        at = bisect_right(self._starts, address) - 1
        area = self.areas[self._starts[at]] if at >= 0 else None
        return area if area is not None and address < area.end else None

    def alloc(self, size: int, align: int = PAGE_SIZE) -> VmapArea | None:
        """Take the lowest free range of `size` bytes, or return None (alloc_vmap_area())."""
        for low, high in self.holes:
            start = -(-low // align) * align
            if start + size <= high:
                return self.occupy(start, start + size)
        return None

    def occupy(self, start: int, end: int, info: str = "") -> VmapArea:
        """Take exactly these addresses, as something did that is not simulated.

        Raises:
            ValueError: they are no whole pages, or one of them is taken already.
        """
        if start % PAGE_SIZE or end % PAGE_SIZE or start >= end:
            raise ValueError(f"{start:#x}-{end:#x}: an area is one page of 4096 bytes or more")
        area = VmapArea(start, end, info=info)
        at = bisect_right(self.holes, (start, end)) - 1
        if at + 1 < len(self.holes) and self.holes[at + 1][0] == start:
            at += 1
        low, high = self.holes[at] if at >= 0 else (0, 0)
        if low <= start and end <= high:
            rest = ((low, start), (end, high))
            self.holes[at : at + 1] = [hole for hole in rest if hole[0] < hole[1]]
        elif end > self.start and start < self.end:
            raise ValueError(f"{start:#x}-{end:#x}: part of it is taken already")
        self.areas[start] = area
        insort(self._starts, start)
        return area

    def unlink(self, area: VmapArea) -> None:
        """Give a range back; it stays unusable until it is purged (free_vmap_area_noflush())."""
        del self.areas[area.start]
        del self._starts[bisect_left(self._starts, area.start)]
        self.lazy.append(area)
        self.lazy_pages += area.end - area.start >> PAGE_SHIFT

    def purge(self) -> list[VmapArea]:
        """Make the lazily freed ranges free, and return them (__purge_vmap_area_lazy())."""
        purged, self.lazy, self.lazy_pages = self.lazy, [], 0
        for area in purged:
            if self.start <= area.start < self.end:
                self._add_hole(area.start, area.end)
        return purged

    def _add_hole(self, start: int, end: int) -> None:
        """Make a range free, in one piece with its neighbours (merge_or_add_vmap_area())."""
        at = bisect_right(self.holes, (start, end))
        if at < len(self.holes) and self.holes[at][0] == end:
            end = self.holes.pop(at)[1]
        if at and self.holes[at - 1][1] == start:
            at -= 1
            start = self.holes.pop(at)[0]
        self.holes.insert(at, (start, end))

    # -- frozen -----------------------------------------------------------------------------------

    def freeze(self) -> dict[str, Any]:
        """Return everything as plain values, for Snapshot.settings."""
        return {
            "range": (self.start, self.end),
            "areas": tuple(area.freeze() for area in self.areas.values()),
            "lazy": tuple(area.freeze() for area in self.lazy),
            "holes": tuple(self.holes),
            "deferred": tuple(self.deferred),
        }

    @classmethod
    def thaw(cls, frozen: Mapping[str, Any]) -> Self:
        """Return the space that freeze() made the values of; an empty one of no values."""
        if not frozen:
            return cls()
        space = cls(*frozen["range"])
        areas = [VmapArea.thaw(area) for area in frozen["areas"]]
        space.areas = {area.start: area for area in areas}
        space._starts = sorted(space.areas)
        space.lazy = [VmapArea.thaw(area) for area in frozen["lazy"]]
        space.lazy_pages = sum(area.end - area.start for area in space.lazy) >> PAGE_SHIFT
        space.holes = list(frozen["holes"])
        space.deferred = list(frozen["deferred"])
        return space
