"""The page map without pixels: which cell stands for which pages, and what stands in it.

_page_text.py writes these down; static/page_columns.js draws by the same rules (the browser tests
compare the two cell by cell). Pure functions of a snapshot and a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kmemkit.snapshot import Kind, Snapshot
from kmemkit.views.palette import LETTERS

__all__ = (
    "TEXT_CELLS",
    "USES",
    "Window",
    "cell_letter",
    "owner_marks",
    "rows",
    "tally",
    "whole_span",
    "window",
)

#: Most cells that still have room for a letter each; a map without a given width stays below.
TEXT_CELLS = 2048


#: The kinds that can give a mixed cell its letter; the first of equals wins.
USES = (
    Kind.UNMOVABLE, Kind.MOVABLE, Kind.RECLAIMABLE, Kind.SLAB, Kind.PCP, Kind.RESERVED,
)  # fmt: skip


class Window(NamedTuple):
    """The part of the memory that a map shows: `rows` rows of `width` cells of `cell` pages."""

    start: int
    span: int
    cell: int
    width: int
    rows: int


def _power(n: int) -> int:
    """Return the smallest power of two that is at least `n`."""
    return 1 << max(n - 1, 0).bit_length()


def _shape(span: int, width: int | None) -> tuple[int, int]:
    """Return (pages per cell, cells per row) of a window of `span` pages."""
    cells = min(span, TEXT_CELLS if width is None else max(TEXT_CELLS, width * width))
    if width is None:
        width = 16 if cells <= 64 else 32 if cells <= 256 else 64
    return span // cells, min(width, cells)


def whole_span(first: int, end: int, width: int | None) -> int:
    """Return the span of the window that shows all of [first, end): a power of two of pages."""
    span = _power(end - first)
    cell, columns = _shape(span, width)
    row = cell * columns
    return span if first // row * row + span >= end else span * 2


def window(first: int, end: int, start: int, span: int, width: int | None) -> Window:
    """Return the window nearest to `start` and `span` on the memory [first, end).

    Rows begin at multiples of their own length, so that a buddy block is always a rectangle.
    """
    span = min(_power(span), whole_span(first, end, width))
    cell, columns = _shape(span, width)
    row = cell * columns
    lowest = first // row * row
    highest = max(lowest, -((span - end) // row) * row)
    start = min(max(start // row * row, lowest), highest)
    return Window(start, span, cell, columns, -(-(min(start + span, end) - start) // row))


def tally(snapshot: Snapshot, first: int, end: int) -> dict[Kind, int]:
    """Return how many pages of [first, end) there are of each kind.

    One block covers the whole range, or all blocks lie inside it: ranges are aligned as blocks are.
    Counts heads by value instead of walking blocks, so a million pages take milliseconds.
    """
    found = dict.fromkeys((*LETTERS, Kind.FREE), 0)
    info = snapshot.page(first)
    if info.head + (1 << info.order) >= end and info.kind:
        found[info.kind] = end - first
        return found
    column = snapshot.pages[first - snapshot.first_pfn : end - snapshot.first_pfn]
    for byte in set(column):
        if byte >> 4:
            found[Kind(byte >> 4)] += column.count(byte) << (byte & 15)
    # A page that no block covers is not memory that anyone could get.
    found[Kind.HOLE] += end - first - sum(found.values())
    return found


def cell_letter(snapshot: Snapshot, first: int, end: int) -> str:
    """Return the character for the cell of pages [first, end), which lies inside the memory."""
    info, pages = snapshot.page(first), end - first
    size = 1 << info.order
    if info.head + size >= end:
        if info.kind == Kind.FREE:
            digits, nth = str(info.order), (first - info.head) // pages
            return digits[nth] if nth < len(digits) <= size // pages else "."
        letter = LETTERS.get(info.kind, LETTERS[Kind.HOLE])
        tail = pages == 1 and first != info.head and info.kind != Kind.RESERVED
        return letter.lower() if tail else letter
    found = tally(snapshot, first, end)
    if found[Kind.FREE] == pages:
        return ":"
    if found[Kind.LEAKED]:
        return LETTERS[Kind.LEAKED]
    kind = max(USES, key=lambda kind: found[kind])
    if not found[kind]:
        return LETTERS[Kind.HOLE]
    return LETTERS[kind] if found[kind] == pages else LETTERS[kind].lower()


def rows(snapshot: Snapshot, first: int, end: int, win: Window) -> Iterator[tuple[int, str]]:
    """Yield (first pfn, characters) of each row; a blank stands for a cell outside [first, end)."""
    for row in range(win.rows):
        start = win.start + row * win.width * win.cell
        cells = range(start, start + win.width * win.cell, win.cell)
        yield (
            start,
            "".join(
                cell_letter(snapshot, max(pfn, first), min(pfn + win.cell, end))
                if pfn < end and pfn + win.cell > first
                else " "
                for pfn in cells
            ),
        )


def owner_marks(names: tuple[str, ...]) -> list[str]:
    """Return one character for each owner: the first of its name that no earlier owner has.

    Names that run out of characters share "*"; the nameless owner has no mark.
    """
    marks: list[str] = []
    for name in names:
        free = (letter for letter in name.lower() if letter.isalnum() and letter not in marks)
        marks.append(next(free, "*") if name else "")
    return marks
