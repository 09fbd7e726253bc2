"""The bars of FreeAreas: counts, the segments they are stacked from, and the bqplot figure.

Only FreeAreas uses this. The counts and segments are plain values; bqplot, and with it pandas, is
imported when a `Chart` is made.
"""

from __future__ import annotations

from math import log as ln
from typing import Any, NamedTuple

from kmemkit.snapshot import MIGRATE_NAMES, order_text
from kmemkit.strings import text
from kmemkit.views.palette import MIGRATE_COLORS

__all__ = ("LETTERS", "Chart", "OrderCounts", "Segment", "segments", "ticks")

#: The letter of each migratetype, in the order of snapshot.MIGRATE_NAMES.
LETTERS = "UMRHI"
#: Where bars start on the log axis: below one block, so that a single block has a height.
_LOG_FLOOR = 0.5
#: The part of the axis a segment needs to hold its letter.
_LETTER_ROOM = 0.11
#: The theme's text colour: bqplot hands it on to the page, where the stylesheet has it.
_INK = "var(--km-ink)"
_MARGIN = {"top": 16, "bottom": 2, "left": 34, "right": 2}


class OrderCounts(NamedTuple):
    """Free blocks of one order. `counts` are blocks, by migratetype as in MIGRATE_NAMES."""

    order: int
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """All free blocks of this order: the number that /proc/buddyinfo prints."""
        return sum(self.counts)

    def __str__(self) -> str:
        pairs = zip(self.counts, MIGRATE_NAMES, strict=True)
        held = ", ".join(f"{count:,} {name}" for count, name in pairs if count)
        key = "free_areas.order" if held else "free_areas.order_empty"
        return text(key, order=order_text(self.order), held=held)


class Segment(NamedTuple):
    """One migratetype's part of a bar; `low` and `high` are blocks on the axis."""

    order: int
    migratetype: int
    low: float
    high: float


def segments(counts: list[OrderCounts], log: bool = False) -> list[Segment]:
    """Return the parts that the bars are made of, lowest first; empty parts are left out."""
    parts = []
    for row in counts:
        low = _LOG_FLOOR if log else 0.0
        for kind, count in enumerate(row.counts):
            if count:
                high = float(sum(row.counts[: kind + 1]))
                parts.append(Segment(row.order, kind, low, high))
                low = high
    return parts


class Chart:
    """The bqplot figure. Making one imports bqplot, and with it pandas (half a second)."""

    def __init__(self) -> None:
        import bqplot
        import ipywidgets

        self._plt = bqplot
        self._orders = bqplot.OrdinalScale()
        self.figure = bqplot.Figure(
            fig_margin=_MARGIN,
            padding_x=0,
            padding_y=0,
            min_aspect_ratio=0.01,
            max_aspect_ratio=100,
            background_style={"fill-opacity": "0"},
            # Pan and zoom have no place here, and bqplot's buttons no names.
            display_toolbar=False,
            layout=ipywidgets.Layout(width="auto", height="190px", min_width="0"),
        )
        self._log: bool | None = None

    def draw(self, counts: list[OrderCounts], log: bool, outlined: tuple[int, int] | None) -> None:
        """Show these counts, with the segment of (order, migratetype) outlined."""
        if log != self._log:
            self._build(log)
        parts = segments(counts, log)
        top = max([row.total for row in counts] + [1])
        self._scale.max = float(top * 1.7 if log else top * 1.12)
        self._axis.tick_values = ticks(top, log)
        base = _LOG_FLOOR if log else 0.0
        height = {(p.order, p.migratetype): p.high - p.low for p in parts}
        orders = [row.order for row in counts]
        self._orders.domain = orders
        with self._bars.hold_sync():
            self._bars.x = orders
            # bqplot takes the base off every part it stacks, so each is given with it.
            self._bars.y = [
                [base + height.get((order, kind), 0.0) for order in orders]
                for kind in range(len(MIGRATE_NAMES))
            ]
        self._put(
            self._totals, [(r.order, float(r.total), f"{r.total:,}") for r in counts if r.total]
        )
        self._put(
            self._letters,
            [
                (p.order, _middle(p, log), LETTERS[p.migratetype])
                for p in parts
                if _share(p, self._scale.max, log) >= _LETTER_ROOM
            ],
        )
        self._outline_part([p for p in parts if (p.order, p.migratetype) == outlined])

    def _build(self, log: bool) -> None:
        """Make scale, axis and marks anew: bqplot's marks keep the scale they were made with."""
        plt, self._log = self._plt, log
        self._scale = (
            plt.LogScale(min=_LOG_FLOOR, max=2.0) if log else plt.LinearScale(min=0.0, max=1.0)
        )
        scales = {"x": self._orders, "y": self._scale}
        self._axis = plt.Axis(scale=self._scale, side="left", grid_lines="solid", tick_format=",d")
        base = _LOG_FLOOR if log else 0.0
        self._bars = plt.Bars(
            scales=scales, base=base, colors=list(MIGRATE_COLORS), padding=0.22, x=[], y=[]
        )
        self._outline = plt.Bars(
            scales=scales,
            base=base,
            padding=0.22,
            fill=False,
            stroke=_INK,
            stroke_width=3,
            x=[],
            y=[],
        )
        label = {
            "scales": scales,
            "align": "middle",
            "font_weight": "bold",
            "x": [],
            "y": [],
            "text": [],
        }
        self._totals = plt.Label(default_size=11, colors=[_INK], y_offset=-8, **label)
        self._letters = plt.Label(default_size=10, colors=["white"], y_offset=4, **label)
        self.figure.marks = [self._bars, self._outline, self._totals, self._letters]
        self.figure.axes = [self._axis]

    def _put(self, mark: Any, labels: list[tuple[int, float, str]]) -> None:
        """Give a label mark its points."""
        with mark.hold_sync():
            mark.x, mark.y, mark.text = ([label[i] for label in labels] for i in range(3))

    def _outline_part(self, parts: list[Segment]) -> None:
        """Outline one segment, or none."""
        with self._outline.hold_sync():
            for part in parts:
                self._outline.base, self._outline.x, self._outline.y = (
                    part.low,
                    [part.order],
                    [part.high],
                )
            self._outline.visible = bool(parts)


def _middle(part: Segment, log: bool) -> float:
    """Return where the middle of a segment is on the axis."""
    return float((part.low * part.high) ** 0.5) if log else (part.low + part.high) / 2


def _share(part: Segment, top: float, log: bool) -> float:
    """Return which part of the axis a segment takes."""
    if not log:
        return (part.high - part.low) / top
    return ln(part.high / part.low) / ln(top / _LOG_FLOOR)


def ticks(top: int, log: bool) -> list[float]:
    """Return three to six round values of the axis up to `top`."""
    if log:
        firsts = (1, 2, 5) if top < 100 else (1,)
        return [float(f * 10**e) for e in range(len(str(top))) for f in firsts if f * 10**e <= top]
    step = next(s * 10**e for e in range(12) for s in (1, 2, 5) if top <= 5 * s * 10**e)
    return [float(value) for value in range(0, top + 1, step)]
