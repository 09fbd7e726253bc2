"""The chart of SizeClasses: unused bytes over requested bytes, a tooth for every size class.

Only SizeClasses uses this. bqplot, and with it pandas, is imported when a `Chart` is made.
"""

from __future__ import annotations

from typing import Any

from kmemkit.size_classes import KMALLOC_MAX_CACHE_SIZE, KMALLOC_MAX_SIZE, KMALLOC_SIZES, served
from kmemkit.strings import text
from kmemkit.views.palette import COLORS

__all__ = ("MARGIN", "RANGES", "Chart", "sizes", "teeth", "without_odd")

_INK, _QUIET, _ACCENT = (f"var(--km-{name})" for name in ("ink", "quiet", "ring"))
MARGIN = {"top": 20, "bottom": 40, "left": 48, "right": 20}
HEIGHT = 250
#: Name of a range of the x axis -> its last size in bytes.
RANGES = {"small": 256, "caches": KMALLOC_MAX_CACHE_SIZE, "all": KMALLOC_MAX_SIZE}
#: Points that draw the slope of one tooth.
_POINTS = 12
_ODD = (96, 192)


def sizes() -> tuple[int, ...]:
    """Return every size that is given: the classes, then blocks of pages."""
    orders = (4096 << order for order in range(2, 11))
    return (*KMALLOC_SIZES, *orders)


def _slope(low: int, high: int, last: int) -> list[tuple[float, float]]:
    """Return one tooth, from one byte too many for the class below to a full one: (size, %)."""
    ends = range(_POINTS + 1)
    points = [min(low + 1, high) * (high / min(low + 1, high)) ** (n / _POINTS) for n in ends]
    return [(x, 100 * (high - x) / high) for x in points if x <= last]


def _walk(classes: tuple[int, ...], last: int) -> list[tuple[float, float]]:
    pairs = zip((0, *classes), classes, strict=False)
    return [point for low, high in pairs if low < last for point in _slope(low, high, last)]


def teeth(last: int) -> list[tuple[float, float]]:
    """Return (requested bytes, unused percent) along the saw-tooth, up to a size."""
    return _walk(sizes(), last)


def without_odd(last: int) -> list[tuple[float, float]]:
    """Return the same from 64 to 256 bytes, as if there were powers of two only."""
    return [(x, y) for x, y in _walk((8, 16, 32, 64, 128, 256), min(last, 256)) if x > 64]


def size_name(size: int) -> str:
    """Return a size as short as on an axis: 512, 4k, 2M."""
    for unit, scale in (("M", 1 << 20), ("k", 1 << 10)):
        if size >= scale:
            return f"{size // scale}{unit}"
    return str(size)


class Chart:
    """The bqplot figure. Making one imports bqplot, and with it pandas (half a second)."""

    def __init__(self) -> None:
        import bqplot
        import ipywidgets

        plt = bqplot
        # Without padding, so that the page can find the size under the pointer.
        self._linear = plt.LinearScale(min=0.0, max=256.0, allow_padding=False)
        self._log = plt.LogScale(min=1.0, max=8192.0, allow_padding=False)
        self._y = plt.LinearScale(min=0.0, max=100.0, allow_padding=False)
        self._axis_x = plt.Axis(scale=self._log, grid_lines="none", label_offset="30px")
        self._axis_y = plt.Axis(
            scale=self._y, side="left", grid_lines="solid",
            tick_values=[0, 25, 50, 75, 100], tick_format=",d",
            label=text("size_classes.axis_y"), label_offset="34px",
        )  # fmt: skip
        self._axis_x.label = text("size_classes.axis_x")
        scales = {"x": self._log, "y": self._y}
        empty: dict[str, Any] = {"scales": scales, "x": [], "y": []}
        self._area = plt.Lines(
            fill="bottom", fill_colors=[COLORS["slab"]], fill_opacities=[0.28],
            colors=[COLORS["slab"]], stroke_width=1.8, **empty,
        )  # fmt: skip
        self._odd = plt.Lines(colors=[_QUIET], stroke_width=1.2, line_style="dashed", **empty)
        self._edge = plt.Lines(colors=[_QUIET], stroke_width=1.2, line_style="dotted", **empty)
        self._here = plt.Lines(colors=[_ACCENT], stroke_width=1.6, **empty)
        self._dot = plt.Scatter(
            marker="circle", default_size=60, colors=[_ACCENT], stroke=_INK, stroke_width=1.2,
            **empty,
        )  # fmt: skip
        self._labels = plt.Label(
            default_size=11, align="middle", y_offset=-6, font_weight="bold", colors=[_INK],
            apply_clip=False, text=[], **empty,
        )  # fmt: skip
        self._marks = (self._area, self._odd, self._edge, self._here, self._dot, self._labels)
        self.figure = plt.Figure(
            marks=list(self._marks), axes=[self._axis_x, self._axis_y],
            fig_margin=MARGIN, padding_x=0, padding_y=0,
            min_aspect_ratio=0.01, max_aspect_ratio=100,
            background_style={"fill-opacity": "0"}, display_toolbar=False,
            layout=ipywidgets.Layout(width="auto", height=f"{HEIGHT}px", min_width="0"),
        )  # fmt: skip

    def draw(self, size: int, name: str) -> None:
        """Show one of RANGES, and where a size is in it; 0 and too large sizes are nowhere."""
        last = RANGES[name]
        scale = self._linear if name == "small" else self._log
        scale.max = float(last)
        self._axis_x.scale = scale
        wanted = [one for one in sizes() if one <= last and (name != "small" or one >= 16)]
        # On the long axis the odd classes have no room beside their neighbours.
        self._axis_x.tick_values = [
            float(one) for one in wanted if name != "all" or one not in _ODD
        ]
        self._axis_x.tick_labels = {str(one): size_name(one) for one in wanted}
        for mark in self._marks:
            mark.scales = {"x": scale, "y": self._y}
        self._put(self._area, teeth(last))
        self._put(self._odd, without_odd(last))
        edge = [(float(KMALLOC_MAX_CACHE_SIZE), height) for height in (0.0, 100.0)]
        self._put(self._edge, edge if name == "all" else [])
        there = 1 <= size <= last
        percent = served(size).percent if there else 0.0
        self._put(self._here, [(float(size), 0.0), (float(size), percent)] if there else [])
        self._put(self._dot, [(float(size), percent)] if there else [])
        with self._labels.hold_sync():
            self._put(self._labels, [(float(odd), served(odd + 1).percent + 2) for odd in _ODD])
            self._labels.text = [str(odd) for odd in _ODD]

    def _put(self, mark: Any, points: list[tuple[float, float]]) -> None:
        """Give a mark its points."""
        with mark.hold_sync():
            mark.x = [float(x) for x, _ in points]
            mark.y = [float(y) for _, y in points]
            mark.visible = bool(points)
