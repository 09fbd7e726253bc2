"""What a pair did to memory, as rows of cells: after the allocation, after the free, a while later.

Memory of the page allocator is shown with the pages around it, in the page map's letters; an object
with the other objects of its slab. Pure functions of an outcome's steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from kmemkit.slab_snapshot import CacheSnapshot, SlabSnapshot
from kmemkit.snapshot import Kind, Snapshot, Step, size_text
from kmemkit.strings import text
from kmemkit.views._page_cells import cell_letter
from kmemkit.views._page_text import KIND_KEYS
from kmemkit.views._slab_model import DAMAGED, RANK, CacheModel

__all__ = ("Frame", "Picture", "picture", "place")

#: Cells that a block takes, if it has so many pages; as many stand on each side of it.
BLOCK_CELLS = 8
#: Most pages of vmalloc memory, and objects of a slab, that are drawn.
MAPPED, OBJECTS = 16, 24
#: The lowest address that vmalloc() gives out.
VMALLOC_START = 0xFFFFC90000000000
PAGE_SHIFT = 12


class Frame(NamedTuple):
    """The cells at one moment, a character each; `own` are those of the memory; what is said."""

    cells: str
    own: tuple[int, int]
    note: str

    @property
    def marked(self) -> str:
        """The cells as text, with brackets around the memory's own."""
        start, end = self.own if self.cells else (0, 0)
        own = f"[{self.cells[start:end]}]" if end > start else ""
        return f"{self.cells[:start]}{own}{self.cells[end:]}"


class Picture(NamedTuple):
    """One frame a step. `kind` is pages or objects, `key` says how to read a cell."""

    kind: str
    key: str
    frames: tuple[Frame, ...]


def picture(outcome: Any) -> Picture | None:
    """Return the picture of an outcome's steps; None for a pointer that owns no memory."""
    steps: Sequence[Step] = outcome.steps
    if not steps or not outcome.returned:
        return None
    if outcome.address >= VMALLOC_START:
        return _mapped(steps, outcome.pages)
    if outcome.pages:
        return _pages(steps, outcome.pages)
    first = steps[0].snapshot
    found = _slab(first, outcome.address)
    if found is None:
        return None
    cache, slab = found
    if slab.objects == 1:
        return _pages(steps, (slab.pfn,))
    return _objects(steps, cache, slab, outcome.address)


def place(outcome: Any) -> int | None:
    """Return the first page of an outcome's memory, None for a pointer that owns none."""
    if not outcome.returned:
        return None
    if outcome.pages:
        return int(outcome.pages[0])
    found = _slab(outcome.steps[0].snapshot, outcome.address)
    return found[1].pfn + _page(found[1], outcome.address) if found else None


# -- pages ----------------------------------------------------------------------------------------


def _pages(steps: Sequence[Step], own: Sequence[int]) -> Picture:
    """Return a block among as many pages before and behind it; two powers of two give the cells."""
    size = max(1 << (len(own) - 1).bit_length(), BLOCK_CELLS)
    head, cell = own[0] & -size, size // BLOCK_CELLS
    snapshot = steps[0].snapshot
    start, end = max(head - size, snapshot.first_pfn), min(head + 2 * size, snapshot.end_pfn)
    mine = (own[0] - start) // cell, -(-(own[-1] + 1 - start) // cell)
    frames = tuple(
        Frame(
            "".join(
                cell_letter(step.snapshot, pfn, min(pfn + cell, end))
                for pfn in range(start, end, cell)
            ),
            mine,
            _counts(step.snapshot, own),
        )
        for step in steps
    )
    return Picture("pages", _key(cell), frames)


def _mapped(steps: Sequence[Step], own: Sequence[int]) -> Picture:
    """Return the pages of vmalloc memory in the order of their addresses, wherever they are."""
    shown = own[:MAPPED]
    frames = tuple(
        Frame(
            "".join(cell_letter(step.snapshot, pfn, pfn + 1) for pfn in shown),
            (0, len(shown)),
            _counts(step.snapshot, own),
        )
        for step in steps
    )
    key = text("pairing_table.mapped", count=f"{len(own):,}", shown=len(shown))
    return Picture("pages", f"{key} {_key(1)}", frames)


def _key(cell: int) -> str:
    if cell == 1:
        return text("page_map.cell_page")
    return text("page_map.cell_pages", pages=cell, size=size_text(cell))


def _counts(snapshot: Snapshot, own: Sequence[int]) -> str:
    """Return how many pages of the memory there are of each kind."""
    kinds = Counter(snapshot.page(pfn).kind for pfn in own)
    parts = [
        text("page_map.part", name=text(f"page_map.{key}"), pages=f"{kinds[kind]:,}")
        for kind, key in KIND_KEYS.items()
        if kinds[kind]
    ]
    return text("pairing_table.own_pages", parts=", ".join(parts))


# -- objects --------------------------------------------------------------------------------------


def _slab(snapshot: Snapshot, address: int) -> tuple[CacheSnapshot, SlabSnapshot] | None:
    """Return the slab that an address is in, with its cache."""
    for cache in snapshot.caches:
        for slab in cache.slabs:
            if 0 <= address - slab.address < 1 << PAGE_SHIFT + slab.order:
                return cache, slab
    return None


def _page(slab: SlabSnapshot, address: int) -> int:
    """Return the number of the slab's page that an address is in."""
    return address - slab.address >> PAGE_SHIFT


def _objects(
    steps: Sequence[Step], cache: CacheSnapshot, slab: SlabSnapshot, address: int
) -> Picture:
    """Return an object among its neighbours in the slab."""
    index = (address - slab.address - cache.red_left_pad) // cache.size
    count = min(slab.objects, OBJECTS)
    start = min(max(index - count // 2, 0), slab.objects - count)
    pfn = slab.pfn + _page(slab, address)
    frames = tuple(
        _object_frame(step.snapshot, cache, slab, pfn, range(start, start + count))
        for step in steps
    )
    marked = tuple(frame._replace(own=(index - start, index - start + 1)) for frame in frames)
    key = text(
        "pairing_table.objects", first=start, last=start + count - 1, objects=slab.objects,
        cache=cache.name,
    )  # fmt: skip
    return Picture("objects", key, marked)


def _object_frame(
    snapshot: Snapshot, cache: CacheSnapshot, slab: SlabSnapshot, pfn: int, shown: range
) -> Frame:
    """Return some objects of a slab, and what has become of the page under the memory."""
    there = next((one for one in snapshot.caches if one.pointer == cache.pointer), None)
    now = next((one for one in there.slabs if one.pfn == slab.pfn), None) if there else None
    info = snapshot.page(pfn)
    key = KIND_KEYS.get(info.kind, "hole")
    page = text("pairing_table.page_is", pfn=f"{pfn:#x}", kind=text(f"page_map.{key}"))
    if there is None or now is None:
        return Frame("", (0, 0), text("pairing_table.slab_gone", page=page))
    state = CacheModel(snapshot, replace(there, slabs=(now,))).states[0]
    cells = "".join(
        "!" if word & DAMAGED else "." if word & RANK else "#"
        for word in state.words[shown.start : shown.stop]
    )
    in_use = text("pairing_table.in_use", inuse=state.inuse, objects=now.objects)
    still = info.kind == Kind.SLAB
    note = in_use if still else text("pairing_table.not_slab", page=page, use=in_use)
    return Frame(cells, (0, 0), note)
