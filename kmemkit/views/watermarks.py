"""Watermarks: free pages of a zone, step by step, against what one request must leave free.

Notebooks make one over a kernel that records, or over `kernel.history`. bqplot draws the lines; a
panel around them has the controls, a slider that reads point by point, and the same as a table.
bqplot is imported when the first chart is made: where it is missing, the table stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import traitlets

from kmemkit.gfp import decode, encode, gfp_zone
from kmemkit.snapshot import Snapshot, Step, ZoneSnapshot
from kmemkit.strings import text
from kmemkit.views._base import Composite, Follows, Panel, esm, history_of, refuse_unknown
from kmemkit.views._watermark_chart import MARGIN, Chart, span
from kmemkit.views._watermark_points import Point, points, turning

__all__ = ("Watermarks",)

#: Requests the view offers: one for each depth of the reserves, one for each reserve.
CHOICES = (
    "GFP_KERNEL",
    "GFP_KERNEL|__GFP_HIGH",
    "GFP_ATOMIC",
    "GFP_HIGHUSER_MOVABLE",
    "GFP_KERNEL|GFP_DMA32",
    "GFP_KERNEL|GFP_DMA",
)
#: A table longer than this helps nobody.
_ROWS = 40
_MARKS = ("own", "min", "low", "high", "reserve", "boost")


class _WatermarksPanel(Panel):
    """All of Watermarks but the lines: what it shows is `state`, what it is told is `msg`."""

    _esm = esm("common.js", "watermarks.js")
    _sections: ClassVar[tuple[str, ...]] = ("watermarks",)

    state = traitlets.Dict().tag(sync=True)


class Watermarks(Composite):
    """Free pages of one zone over a history, against the marks of one request.

    Args:
        source: a Kernel to follow (with `record()` on), a list of Steps, or a Snapshot.
        gfp: the request's mask; it decides the reserve, and how far below min it may go.
        order: the request's order.
        zone: position of the zone in `snapshot.zones`; by default the first that the request tries.

    Raises:
        TypeError: `source` is none of these, or a keyword is unknown.
        ValueError: no such zone or mask; the message lists those there are.
    """

    gfp = traitlets.Unicode()
    order = traitlets.Int(0, min=0, max=10)
    zone = traitlets.Int(None, allow_none=True)
    #: index of the step that is read; None stands for the last one
    at = traitlets.Int(None, allow_none=True)
    #: whether the chart ends a little above the high mark; by default where free pages come near it
    near = traitlets.Bool(False)
    #: whether the x axis is simulated time, not steps
    by_time = traitlets.Bool(False)

    def __init__(
        self,
        source: Sequence[Step] | Snapshot | Follows,
        *,
        gfp: int | str = "GFP_KERNEL",
        order: int = 0,
        zone: int | None = None,
        near: bool | None = None,
        by_time: bool = False,
        **unknown: Any,
    ) -> None:
        refuse_unknown(Watermarks.__init__, unknown)
        self._steps: list[Step] = []
        if not isinstance(source, Snapshot | Follows):
            if not (isinstance(source, Sequence) and source) or not all(
                isinstance(step, Step) for step in source
            ):
                raise TypeError(text("watermarks.bad_source", given=type(source).__name__))
            self._steps = list(source)
        self._panel = _WatermarksPanel()
        self._chart = Chart() if find_spec("bqplot") else None
        children = [self._panel, *([self._chart.figure] if self._chart else [])]
        names = decode(gfp) if isinstance(gfp, int) else gfp
        super().__init__(children=children, gfp=names, order=order, by_time=by_time)
        self.add_class("kmemkit")
        self.add_class("km-watermarks")
        self._panel.on_msg(self._on_msg)
        self._open(self._steps[-1].snapshot if self._steps else source)  # type: ignore[arg-type]
        self.at = None
        self.zone = zone
        self.near = self._comes_near() if near is None else near
        self.observe(self._changed, ("gfp", "order", "zone", "at", "near", "by_time"))
        self._outbox.request()

    # -- what is shown ----------------------------------------------------------------------------

    @property
    def steps(self) -> Sequence[Step]:
        """The history shown: the followed kernel's, the one given, or the present alone."""
        found = history_of(self._kernel) if self._kernel is not None else self._steps
        return found or [Step("", "", True, (), None, self.snapshot)]

    @property
    def shown_zone(self) -> ZoneSnapshot:
        """The zone shown, as it is in the last step."""
        zones = self.steps[-1].snapshot.zones
        if self.zone is not None:
            return zones[self.zone]
        arch = str(self.snapshot.settings.get("arch", "x86_64"))
        highest = gfp_zone(encode(self.gfp), arch)
        usable = [zone for zone in zones if zone.managed and zone.idx <= highest]
        first = min((zone.nid for zone in usable), default=0)
        return max((z for z in usable if z.nid == first), key=lambda z: z.idx, default=zones[-1])

    def points(self) -> list[Point]:
        """Return free pages, marks and events of every step."""
        return points(self.steps, self.shown_zone, encode(self.gfp), self.order)

    def show(self, snapshot: Snapshot) -> None:
        """Read the step that `snapshot` belongs to; one of no step is shown alone."""
        steps = list(self.steps) if self._snapshot or self._kernel else self._steps
        place = next((n for n, step in enumerate(steps) if step.snapshot is snapshot), None)
        if place is None:
            self._steps = [Step("", "", True, (), None, snapshot)]
        self.at = place
        super().show(snapshot)

    def unfollow(self) -> None:
        """Stay at the history shown now."""
        if self._kernel is not None:
            self._steps = list(self.steps)
        super().unfollow()

    def _comes_near(self) -> bool:
        """Return whether free pages ever come so near the marks that the rest may be cut off."""
        found = self.points()
        high = max(point.marks.line("high") for point in found)
        free = [point.free for point in found]
        return bool(high) and min(free) < 2 * high and max(free) > 4 * high

    # -- text -------------------------------------------------------------------------------------

    def text(self) -> str:
        """Return the zone, the request, the turning points as a table, and the point read."""
        found = self.points()
        rows = self._table(found)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{text('watermarks.title')}: {self._head()}"]
        for row in rows:
            cells = [cell.rjust(width) for cell, width in zip(row[:-2], widths, strict=False)]
            cells += [row[-2].ljust(widths[-2]), row[-1]]
            lines.append("  ".join(cells).rstrip())
        kept = turning(found)
        if len(kept) > _ROWS:
            lines.append(text("watermarks.more", count=len(kept) - _ROWS))
        lines.append(text("watermarks.turning", shown=len(rows) - 1, all=len(found)))
        return "\n".join([*lines, self._reading(found)])

    def _head(self) -> str:
        call = f"alloc_pages({decode(encode(self.gfp)) or '0'}, {self.order})"
        return text("watermarks.head", zone=self._zone_name(self.shown_zone), call=call)

    def _zone_name(self, zone: ZoneSnapshot) -> str:
        many = len({z.nid for z in self.snapshot.zones}) > 1
        key = "watermarks.node_zone" if many else "watermarks.zone"
        return text(key, nid=zone.nid, name=zone.name)

    def _timed(self, found: Sequence[Point]) -> bool:
        return found[0].now != found[-1].now

    def _table(self, found: Sequence[Point]) -> list[list[str]]:
        """Return the turning points as rows of text under a row of heads."""
        timed = self._timed(found)
        marks = [n for n in _MARKS if n not in ("own", "boost") or _has(found, n)]
        names = ["step", *(["ms"] if timed else []), "free", *marks, "kswapd", "stalls"]
        rows = [[text(f"watermarks.column.{name}") for name in (*names, "band", "call")]]
        for point in turning(found)[:_ROWS]:
            row = [str(point.step), *([f"{point.now:,.1f}"] if timed else []), f"{point.free:,}"]
            row += [f"{getattr(point.marks, name):,}" for name in marks]
            row.append(text("watermarks.yes" if point.kswapd else "watermarks.no"))
            row.append(str(point.stalls or text("watermarks.no")))
            row += [text(f"watermarks.band.{point.band}"), point.call]
            rows.append(row)
        return rows

    def _reading(self, found: Sequence[Point]) -> str:
        """Return the point that is read as a line."""
        if len(found) == 1 and not found[0].call:
            return text("watermarks.where_now")
        return found[self._place(found)].says(len(found) - 1, self._timed(found))

    def _place(self, found: Sequence[Point]) -> int:
        last = len(found) - 1
        return last if self.at is None else min(self.at, last)

    def _describe(self) -> str:
        found = self.points()
        band = text(f"watermarks.band.{found[-1].band}")
        free = text("watermarks.free", free=f"{found[-1].free:,}", band=band)
        return f"{self._zone_name(self.shown_zone)}, {free}"

    # -- keeping panel and chart up to date -------------------------------------------------------

    @traitlets.validate("zone")
    def _known_zone(self, proposal: Any) -> int | None:
        zones, value = self.snapshot.zones, proposal["value"]
        if value is not None and not 0 <= value < len(zones):
            there = ", ".join(f"{n} = {self._zone_name(zone)}" for n, zone in enumerate(zones))
            raise ValueError(text("watermarks.no_zone", zone=value, there=there))
        return value  # type: ignore[no-any-return]

    @traitlets.validate("gfp")
    def _known_mask(self, proposal: Any) -> str:
        encode(proposal["value"])  # says what is wrong with it
        return str(proposal["value"])

    @traitlets.validate("at")
    def _not_negative(self, proposal: Any) -> int | None:
        return None if proposal["value"] is None else max(proposal["value"], 0)

    def _changed(self, _change: object) -> None:
        self._outbox.request()

    def _on_msg(self, _panel: object, content: dict[str, Any], _buffers: object) -> None:
        """Take the reader's clicks, keys and pointing."""
        do, value = content["do"], content.get("to")
        if do in ("near", "by_time"):
            self.set_trait(do, not getattr(self, do))
        elif do == "gfp":
            with self.hold_trait_notifications():
                self.gfp, self.zone = str(value), None
        elif do in ("zone", "at"):
            self.set_trait(do, None if value is None else int(value))

    def _fill(self) -> None:
        found = self.points()
        timed = self._timed(found)
        xs = [point.now if self.by_time else float(point.step) for point in found]
        zones = self.snapshot.zones
        place = self._place(found)
        self._panel.state = {
            "head": self._head(),
            "zones": [self._zone_name(zone) for zone in zones],
            "zone": next(n for n, z in enumerate(zones) if _same(z, self.shown_zone)),
            "gfps": list(dict.fromkeys((*CHOICES, self.gfp))),
            "gfp": self.gfp,
            "near": self.near,
            "by_time": self.by_time,
            "timed": timed,
            "chart": self._chart is not None,
            "xs": xs,
            "span": span(xs),
            "margin": MARGIN,
            "at": place,
            "where": text("watermarks.where", step=place, last=len(found) - 1),
            "line": self._reading(found),
            "table": self._table(found),
            "turning": text(
                "watermarks.turning", shown=min(len(turning(found)), _ROWS), all=len(found)
            ),
            "reserve": any(point.marks.reserve for point in found),
            "boost": any(point.marks.boost for point in found),
            "kswapd": any(point.kswapd for point in found),
            "stalls": any(point.stalls for point in found),
            "failed": any(point.failed for point in found),
        }
        if self._chart:
            self._chart.draw(found, xs, self.near, self.by_time)


def _has(found: Sequence[Point], name: str) -> bool:
    """Return whether a column says anything: rights to the reserves, or a boost."""
    return any(p.marks.reduced if name == "own" else p.marks.boost for p in found)


def _same(one: ZoneSnapshot, other: ZoneSnapshot) -> bool:
    return (one.nid, one.idx) == (other.nid, other.idx)
