"""The chart of Watermarks: free pages over the marks of a request, kswapd and stalls below.

Only Watermarks uses this. bqplot, and with it pandas, is imported when a `Chart` is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kmemkit.strings import text
from kmemkit.views._free_chart import ticks
from kmemkit.views._watermark_points import Point

__all__ = ("MARGIN", "Chart", "lanes", "series", "span", "spread", "top_of")

#: The theme's colours: bqplot hands them on to the page, where the stylesheet has them.
_INK, _QUIET, _ACCENT, _ALARM = (
    f"var(--km-{name})" for name in ("ink", "quiet", "ring", "wm-alarm")
)
MARGIN = {"top": 10, "bottom": 34, "left": 52, "right": 96}
HEIGHT = 270
#: Lanes below zero, as parts of the axis above it.
_KSWAPD_LANE, _STALL_LANE, _BOTTOM, _NO_LANES = -0.06, -0.14, -0.19, -0.02
#: Pixels that a line of label text takes.
_LINE = 13
#: The part of the x axis after the last step.
_AFTER = 0.02
#: Near the marks means up to this many times the high mark.
_NEAR = 2.2
#: The areas, and what each stands on; the reserve stands on zero.
_BASES = {"reserve": "", "boost": "reserve"}
_DASHES = {"high": "solid", "low": "dashed", "min": "dash_dotted", "own": "dotted"}


def top_of(found: Sequence[Point], near: bool) -> float:
    """Return where the axis ends, in pages."""
    marks = max((point.marks.line("high") for point in found), default=0)
    free = max((point.free for point in found), default=0)
    return max(_NEAR * marks if near and marks else max(1.08 * free, 1.2 * marks), 1.0)


def spread(heights: dict[str, float], gap: float) -> dict[str, float]:
    """Return heights moved up as little as it takes to be `gap` apart, in the same order."""
    moved: dict[str, float] = {}
    last = None
    for name, height in sorted(heights.items(), key=lambda pair: pair[1]):
        last = height if last is None else max(height, last + gap)
        moved[name] = last
    return moved


def lanes(found: Sequence[Point], xs: Sequence[float]) -> dict[str, list[float]]:
    """Return where on the x axis kswapd ran, requests stalled, and requests failed."""
    pairs = list(zip(found, xs, strict=True))
    return {
        "kswapd": [x for point, x in pairs if point.kswapd],
        "stall": [x for point, x in pairs if point.stalls],
        "failed": [x for point, x in pairs if point.failed],
    }


def span(xs: Sequence[float]) -> tuple[float, float]:
    """Return where the x axis starts and ends: a little after the last step, so that it shows."""
    return float(xs[0]), float(xs[-1] + max((xs[-1] - xs[0]) * _AFTER, 1e-3))


class Chart:
    """The bqplot figure. Making one imports bqplot, and with it pandas (half a second)."""

    def __init__(self) -> None:
        import bqplot
        import ipywidgets

        plt = bqplot
        # Without padding, so that the page can find the step under the pointer.
        self._x = plt.LinearScale(min=0.0, max=1.0, allow_padding=False)
        self._y = plt.LinearScale(min=0.0, max=1.0, allow_padding=False)
        scales = {"x": self._x, "y": self._y}
        self._axis_x = plt.Axis(scale=self._x, grid_lines="none", num_ticks=6, label_offset="26px")
        self._axis_y = plt.Axis(scale=self._y, side="left", grid_lines="solid", tick_format=",d")
        empty: dict[str, Any] = {"scales": scales, "x": [], "y": []}
        step = {"interpolation": "step-after", **empty}

        def area(opacity: float) -> Any:
            return plt.Lines(
                fill="between", fill_colors=[_QUIET], fill_opacities=[opacity], colors=[_QUIET],
                stroke_width=0.5, **step,
            )  # fmt: skip

        self._lines = {"boost": area(0.14), "reserve": area(0.3)}
        for name, dash in _DASHES.items():
            color = _ACCENT if name == "own" else _QUIET
            width = 2.0 if name == "own" else 1.2
            self._lines[name] = plt.Lines(
                colors=[color], stroke_width=width, line_style=dash, **step
            )
        self._lines["free"] = plt.Lines(colors=[_INK], stroke_width=2.2, **step)
        dot: dict[str, Any] = {"stroke_width": 0, **empty}
        self._dots = {
            "kswapd": plt.Scatter(marker="square", default_size=26, colors=[_ACCENT], **dot),
            "stall": plt.Scatter(marker="triangle-up", default_size=52, colors=[_ALARM], **dot),
            "failed": plt.Scatter(marker="cross", default_size=52, colors=[_ALARM], **dot),
        }
        self._labels = plt.Label(
            default_size=11, align="start", x_offset=7, y_offset=0, font_weight="normal",
            colors=[_INK], apply_clip=False, text=[], **empty,
        )  # fmt: skip
        self.figure = plt.Figure(
            marks=[*self._lines.values(), *self._dots.values(), self._labels],
            axes=[self._axis_x, self._axis_y],
            fig_margin=MARGIN, padding_x=0, padding_y=0,
            min_aspect_ratio=0.01, max_aspect_ratio=100,
            background_style={"fill-opacity": "0"},
            display_toolbar=False,
            layout=ipywidgets.Layout(width="auto", height=f"{HEIGHT}px", min_width="0"),
        )  # fmt: skip

    def draw(self, found: Sequence[Point], xs: Sequence[float], near: bool, by_time: bool) -> None:
        """Show these points at these places of the x axis."""
        top, places = top_of(found, near), lanes(found, xs)
        self._x.min, self._x.max = span(xs)
        # What holds after the last step is drawn to the edge.
        found, xs = [*found, found[-1]], [*xs, self._x.max]
        bottom = _BOTTOM if any(places.values()) else _NO_LANES
        self._y.min, self._y.max = bottom * top, top
        self._axis_y.tick_values = ticks(int(top), log=False)
        self._axis_x.tick_format = ",.0f" if self._x.max - self._x.min >= 6 else ",.1f"
        self._axis_x.label = text("watermarks.axis_time" if by_time else "watermarks.axis_steps")
        heights = series(found)
        for name, mark in self._lines.items():
            if name in _BASES and name in heights:
                base = heights.get(_BASES[name], [0.0] * len(xs))
                self._put(mark, xs, [base, heights[name]])
            else:
                self._put(mark, xs if name in heights else [], heights.get(name, []))
        for name, mark in self._dots.items():
            lane = _KSWAPD_LANE if name == "kswapd" else _STALL_LANE
            self._put(mark, places[name], [lane * top] * len(places[name]))
        self._label(heights, places, top, bottom)

    def _label(
        self,
        heights: dict[str, list[float]],
        places: dict[str, list[float]],
        top: float,
        bottom: float,
    ) -> None:
        """Write every line's name where it ends, none over another."""
        plot = HEIGHT - MARGIN["top"] - MARGIN["bottom"]
        gap = _LINE / plot * (1 - bottom) * top
        ends = {name: min(line[-1], top) for name, line in heights.items()}
        at = spread(ends, gap)
        over = max([*at.values(), top]) - top
        at = {name: height - over for name, height in at.items()}
        said = {name: f"{_name(name)} {heights[name][-1]:,.0f}" for name in ends}
        if places["kswapd"]:
            at["kswapd"], said["kswapd"] = _KSWAPD_LANE * top, text("watermarks.label_kswapd")
        if places["stall"] or places["failed"]:
            at["stall"], said["stall"] = _STALL_LANE * top, text("watermarks.label_stall")
        with self._labels.hold_sync():
            self._labels.x = [self._x.max] * len(at)
            self._labels.y = list(at.values())
            self._labels.text = [said[name] for name in at]

    def _put(self, mark: Any, xs: Sequence[float], ys: Any) -> None:
        """Give a mark its points."""
        with mark.hold_sync():
            mark.x, mark.y, mark.visible = list(xs), ys, bool(len(xs))


def _name(name: str) -> str:
    return text(f"watermarks.mark.{name}")


def series(found: Sequence[Point]) -> dict[str, list[float]]:
    """Return the height of each line at each point, in pages; lines that say nothing are left out.

    A mark's line is where its check fails: mark, boost and reserve together.
    """
    lines: dict[str, list[float]] = {"free": [float(point.free) for point in found]}
    names = ["high", "low", "min"]
    if any(point.marks.reduced for point in found):
        names.append("own")
    if any(point.marks.high for point in found):
        lines |= {name: [float(p.marks.line(name)) for p in found] for name in names}
    if any(point.marks.reserve for point in found):
        lines["reserve"] = [float(point.marks.reserve) for point in found]
    if any(point.marks.boost for point in found):
        lines["boost"] = [float(p.marks.reserve + p.marks.boost) for p in found]
    return lines
