"""PageMap: every page of a zone or of the whole machine as a cell, each buddy block a rectangle.

The widget sends its columns of bytes once, and afterwards only the ranges that changed; drawing is
in static/page_columns.js, page_paint.js and page_map.js. Lessons make one from a Snapshot, from
recorded steps, or let it follow a Kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import traitlets

from kmemkit.snapshot import Snapshot, Step, ZoneSnapshot
from kmemkit.strings import text
from kmemkit.views._base import Follows, esm, refuse_unknown
from kmemkit.views._history import Scrubbed
from kmemkit.views._page_cells import TEXT_CELLS, Window, owner_marks, whole_span, window
from kmemkit.views._page_columns import Columns
from kmemkit.views._page_text import (
    blocks_text,
    cell_line,
    map_text,
    page_line,
    subtitle,
    title,
    zone_name,
)

__all__ = ("PageMap",)

#: Most pages one map takes: 32 GiB of memory make 16 MiB of columns for the browser.
_LARGEST = 1 << 23
_WIDTHS = tuple(1 << n for n in range(3, 11))


def _column(name: str) -> Any:
    """Return the to_json of a column: a page that is opened later gets the column as it is now."""

    def current(value: bytes, view: PageMap) -> bytes:
        columns = view._columns
        return value if columns is None else getattr(columns, name)

    return current


class PageMap(Scrubbed):
    """A map of pages that can be read by letter, pointed at, zoomed, and stepped through.

    Free blocks are hollow and carry their order, allocated pages are solid and carry the letter of
    their migratetype and the mark of their owner. Memory that has more pages than cells is shown
    in cells of several pages each, and says so.
    """

    _esm = esm(
        "common.js",
        "colors.js",
        "page_columns.js",
        "page_inks.js",
        "page_dots.js",
        "page_paint.js",
        "page_legend.js",
        "history_bar.js",
        "page_map.js",
    )
    _sections: ClassVar[tuple[str, ...]] = ("page_map",)
    _step_key: ClassVar[str] = "page_map.step"

    selected = traitlets.Int(None, allow_none=True, help="pfn of the selected page").tag(sync=True)
    start = traitlets.Int(0, help="pfn that the first cell starts at").tag(sync=True)
    span = traitlets.Int(1, help="pages that the window shows, a power of two").tag(sync=True)

    _width = traitlets.Int(None, allow_none=True).tag(sync=True)
    _extent = traitlets.List(traitlets.Int()).tag(sync=True)
    _zones = traitlets.List(traitlets.Dict()).tag(sync=True)
    _blocks = traitlets.Bytes().tag(sync=True)
    _owner_names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _marks = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _headings = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _pages = traitlets.Bytes().tag(sync=True, to_json=_column("pages"))
    _owners = traitlets.Bytes().tag(sync=True, to_json=_column("owners"))
    _patch = traitlets.Bytes().tag(sync=True)

    def __init__(
        self,
        source: Snapshot | Follows | None = None,
        *,
        zone: str | tuple[int, str] | None = None,
        width: int | None = None,
        start: int | None = None,
        span: int | None = None,
        selected: int | None = None,
        history: Sequence[Step] = (),
        step: int | None = None,
        **unknown: Any,
    ) -> None:
        """Make a map of `source`, or of recorded steps.

        Args:
            source: a Snapshot, or a Kernel to follow; may be left out where `history` is given.
            zone: name of the zone to show, or (node, name); None shows the whole machine.
            width: cells in a row, a power of two from 8 to 1024; None picks 16, 32 or 64. A width
                above 64 shows up to width * width cells.
            start: first pfn of the window, rounded down to a whole row; None is the lowest.
            span: pages of the window, rounded up to a power of two; None shows everything.
            selected: pfn of the selected page.
            history: steps to go through, as `Kernel.history` has them.
            step: index of the step to show first; None is the last.
            **unknown: refused.

        Raises:
            TypeError: an unknown keyword, or a source of another type.
            ValueError: a zone, width, step or pfn that is not there.
        """
        refuse_unknown(PageMap.__init__, unknown)
        if width is not None and width not in _WIDTHS:
            there = ", ".join(map(str, _WIDTHS))
            raise ValueError(f"width={width!r}: a row has one of {there} cells")
        if (source is None) == (not history):
            raise TypeError("PageMap shows a Snapshot, a Kernel, or history=[Step, ...]: give one")
        self._zone = zone
        self._columns: Columns | None = None
        self._patches = 0
        super().__init__(history, _width=width)
        self._open(history[-1].snapshot if source is None else source)
        first, end = self._limits()
        self.span = whole_span(first, end, width) if span is None else span
        self.start = first if start is None else start
        self.selected = selected
        if step is not None:
            self.step = step
        self.on_msg(self._asked)

    # -- the text twin ----------------------------------------------------------------------------

    def text(self) -> str:
        """Return the window that the map shows as text, with legend, owners and free lists.

        Cells too small for letters are put together until a row has at most 64.
        """
        snapshot, win = self.snapshot, self._window()
        first, end = self._limits()
        if win.width * win.rows > TEXT_CELLS:
            win = window(first, end, win.start, win.span, None)
        lines = [map_text(snapshot, self._chosen(snapshot), (first, end), win)]
        if self.selected is not None:
            lines += ["", text("page_map.selected", line=page_line(snapshot, self.selected))]
        if told := self._told():
            lines += ["", told]
        if snapshot.scaled:
            lines += ["", text("view.scaled"), *(f"  {sentence}" for sentence in snapshot.scaled)]
        return "\n".join(lines)

    def line(self, pfn: int) -> str:
        """Return the line under the map for the cell that `pfn` is in.

        Raises:
            IndexError: the map does not show `pfn`.
        """
        first, end = self._limits()
        if not first <= pfn < end:
            raise IndexError(f"pfn {pfn:#x} is not on this map: {first:#x} to {end - 1:#x}")
        cell = self._window().cell
        low = max(pfn // cell * cell, first)
        return cell_line(self.snapshot, low, min(pfn // cell * cell + cell, end))

    def _describe(self) -> str:
        zones = self._chosen(self.snapshot)
        first, end = self._limits()
        names = ", ".join(zone_name(self.snapshot, zone) for zone in zones)
        return f"{names}, {end - first:,} pages, {sum(zone.free for zone in zones):,} free"

    # -- what is shown ----------------------------------------------------------------------------

    def _chosen(self, snapshot: Snapshot) -> list[ZoneSnapshot]:
        """Return the zones on the map; ValueError says which there are when the name fits none."""
        zones = [zone for zone in snapshot.zones if zone.spanned]
        if self._zone is None:
            return zones
        name = (self._zone,) if isinstance(self._zone, str) else tuple(self._zone)
        found = [zone for zone in zones if (zone.nid, zone.name)[-len(name) :] == name]
        if len(found) == 1:
            return found
        problem = "names several zones" if found else "is no zone here"
        there = ", ".join(f"({zone.nid}, {zone.name!r})" for zone in zones)
        raise ValueError(f"zone={self._zone!r} {problem}; there are (node, name): {there}")

    def _limits(self) -> tuple[int, int]:
        """Return the first pfn on the map and the first one after it."""
        snapshot = self.snapshot
        if self._zone is None:
            return snapshot.first_pfn, snapshot.end_pfn
        (zone,) = self._chosen(snapshot)
        return max(zone.start_pfn, snapshot.first_pfn), min(zone.end_pfn, snapshot.end_pfn)

    def _window(self) -> Window:
        first, end = self._limits()
        return window(first, end, self.start, self.span, self._width)

    @traitlets.validate("selected")
    def _check_selected(self, proposal: dict[str, Any]) -> int | None:
        pfn: int | None = proposal["value"]
        first, end = self._limits()
        if pfn is not None and not first <= pfn < end:
            raise ValueError(f"selected={pfn:#x} is not on this map: {first:#x} to {end - 1:#x}")
        return pfn

    @traitlets.observe("selected")
    def _scroll_to_selected(self, change: dict[str, Any]) -> None:
        win, pfn = self._window(), change["new"]
        if pfn is not None and not win.start <= pfn < win.start + win.span:
            self.start = max(0, pfn - win.span // 2)

    # -- to the browser ---------------------------------------------------------------------------

    def _fill(self) -> None:
        snapshot = self.snapshot
        zones = self._chosen(snapshot)
        first, end = self._limits()
        if end - first > _LARGEST:
            raise ValueError(
                f"PageMap draws up to {_LARGEST:,} pages and here are {end - first:,}: "
                "give zone= to show one zone"
            )
        low, high = first - snapshot.first_pfn, end - snapshot.first_pfn
        after = Columns(first, snapshot.pages[low:high], snapshot.owners[low:high])
        before, self._columns = self._columns, after
        with self.hold_sync():
            self._send_frame(snapshot, zones, first, end)
            if before is None or (before.first, len(before.pages)) != (first, end - first):
                self._pages, self._owners = after.pages, after.owners
            elif patch := before.patch(after, self._patches):
                self._patches += 1
                self._patch = patch

    def _send_frame(
        self, snapshot: Snapshot, zones: Sequence[ZoneSnapshot], first: int, end: int
    ) -> None:
        """Set the traits that are small, or rarely change."""
        if self.selected is not None and not first <= self.selected < end:
            self.selected = None
        self._extent = [first, end]
        self._zones = _zone_dicts(snapshot, zones)
        self._blocks = b"".join(zone.pageblocks for zone in zones)
        self._owner_names = list(snapshot.owner_names)
        self._marks = owner_marks(snapshot.owner_names)
        self._headings = [
            title(snapshot, zones),
            subtitle(snapshot, zones, first, end),
            blocks_text(zones),
        ]
        self._send_step()

    def _asked(self, _: object, content: dict[str, Any], __: object) -> None:
        """Answer the page that asks for the text twin."""
        if content.get("want") == "text":
            self.send({"text": self.text()})


def _zone_dicts(snapshot: Snapshot, zones: Sequence[ZoneSnapshot]) -> list[dict[str, Any]]:
    """Return what the browser needs to know of each zone; `blocks` is its place in `_blocks`."""
    found: list[dict[str, Any]] = []
    place = 0
    for zone in zones:
        found.append(
            {
                "name": zone_name(snapshot, zone),
                "start": zone.start_pfn,
                "end": zone.end_pfn,
                "maxOrder": zone.max_order,
                "blockOrder": zone.pageblock_order,
                "blocks": place,
            }
        )
        place += len(zone.pageblocks)
    return found
