"""SizeClasses: what kmalloc() gives for a requested size, and how much of it is not used.

A bqplot saw-tooth, and a panel around it with a slider, a field, the line of one size and the
table of all classes. Notebooks make one alone, or over a Kernel or Snapshot, whose own caches then
stand in the table. Where bqplot is missing the table stands alone.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

import traitlets

from kmemkit.size_classes import KMALLOC_MAX_SIZE, KMALLOC_SIZES, kmalloc_cache_name, served
from kmemkit.slab_snapshot import CacheSnapshot
from kmemkit.snapshot import Snapshot, order_text
from kmemkit.strings import text
from kmemkit.views._base import Composite, Follows, Panel, esm, refuse_unknown
from kmemkit.views._size_chart import MARGIN, RANGES, Chart, sizes

__all__ = ("SizeClasses",)


class _SizePanel(Panel):
    """All of SizeClasses but the chart: what it shows is `state`, what it is told is `msg`."""

    _esm = esm("common.js", "size_classes.js")
    _sections: ClassVar[tuple[str, ...]] = ("size_classes",)

    state = traitlets.Dict().tag(sync=True)


class SizeClasses(Composite):
    """Requested size, size class, and what is left over.

    Args:
        source: a Kernel to follow or a Snapshot: its kmalloc caches stand in the table.
        size: the requested size in bytes.
        range: how far the chart goes: "small" (256 bytes), "caches" (8192) or "all" (4 MiB).

    Raises:
        TypeError: `source` is neither, or a keyword is unknown.
        ValueError: a size below 0, or a range that is not there.
    """

    size = traitlets.Int()
    range = traitlets.Unicode()

    def __init__(
        self,
        source: Snapshot | Follows | None = None,
        *,
        size: int = 100,
        range: str = "caches",
        **unknown: Any,
    ) -> None:
        refuse_unknown(SizeClasses.__init__, unknown)
        self._panel = _SizePanel()
        self._chart = Chart() if find_spec("bqplot") else None
        children = [self._panel, *([self._chart.figure] if self._chart else [])]
        super().__init__(children=children, size=size, range=range)
        self.add_class("kmemkit")
        self.add_class("km-sizes")
        self._panel.on_msg(self._on_msg)
        self.observe(self._changed, ("size", "range"))
        if source is None:
            self._outbox.request()
        else:
            self._open(source)

    # -- text -------------------------------------------------------------------------------------

    def text(self) -> str:
        """Return the line of the requested size, and the table of all sizes given."""
        rows = self._table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [text("size_classes.title"), self.line(), ""]
        here = self._row()
        for n, row in enumerate(rows):
            cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append(f"{'>' if n and n - 1 == here else ' '} {'  '.join(cells)}".rstrip())
        return "\n".join([*lines, "", text("size_classes.odd")])

    def line(self) -> str:
        """Return what kmalloc() gives for the requested size."""
        size = self.size
        if size == 0:
            return text("size_classes.zero")
        if size > KMALLOC_MAX_SIZE:
            return text("size_classes.too_big", size=f"{size:,}")
        found = served(size)
        fields: dict[str, object] = {
            "size": f"{size:,}", "given": f"{found.given:,}", "waste": f"{found.waste:,}",
            "percent": f"{found.percent:.1f}",
        }  # fmt: skip
        if found.cache:
            return text("size_classes.cache", cache=found.cache, **fields)
        return text("size_classes.pages", order=order_text(found.order), **fields)

    def _describe(self) -> str:
        return self.line()

    # -- the table --------------------------------------------------------------------------------

    def _caches(self) -> dict[str, CacheSnapshot]:
        """Return the caches of the source, by name; none without a source."""
        if self._snapshot is None and self._kernel is None:
            return {}
        return {cache.name: cache for cache in self.snapshot.caches}

    def _table(self) -> list[list[str]]:
        """Return the rows of text under a row of heads, one for each size that is given."""
        caches = self._caches()
        names = ["from", "to", "what", "worst", *(["slot", "slab"] if caches else [])]
        rows = [[text(f"size_classes.column.{name}") for name in names]]
        for low, high in zip((0, *sizes()), sizes(), strict=False):
            found = served(low + 1)
            what = found.cache or order_text(found.order)
            row = [f"{low + 1:,}", f"{high:,}", what]
            row.append(text("size_classes.worst", bytes=f"{found.waste:,}",
                            percent=f"{found.percent:.0f}"))  # fmt: skip
            if caches:
                cache = caches.get(kmalloc_cache_name("kmalloc", high))
                row += ["-", "-"] if cache is None or not found.cache else _of_slab(cache)
            rows.append(row)
        return rows

    def _row(self) -> int:
        """Return the row of the table that serves the requested size, -1 if none does."""
        if not 1 <= self.size <= KMALLOC_MAX_SIZE:
            return -1
        return sizes().index(served(self.size).given)

    # -- keeping panel and chart up to date -------------------------------------------------------

    @traitlets.validate("size")
    def _known_size(self, proposal: Any) -> int:
        if proposal["value"] < 0:
            raise ValueError(f"size={proposal['value']}: a size is 0 bytes or more")
        return int(proposal["value"])

    @traitlets.validate("range")
    def _known_range(self, proposal: Any) -> str:
        if proposal["value"] not in RANGES:
            there = ", ".join(map(repr, RANGES))
            raise ValueError(f"range={proposal['value']!r}: there are {there}")
        return str(proposal["value"])

    def _changed(self, _change: object) -> None:
        self._outbox.request()

    def _on_msg(self, _panel: object, content: dict[str, Any], _buffers: object) -> None:
        """Take the reader's number, sliding and pointing."""
        if content["do"] == "size":
            self.size = max(0, int(content["to"]))
        elif content["do"] == "range":
            self.range = str(content["to"])

    def _fill(self) -> None:
        self._panel.state = {
            "size": self.size,
            "range": self.range,
            "ranges": {name: text(f"size_classes.range.{name}") for name in RANGES},
            "last": RANGES[self.range],
            "line": self.line(),
            "table": self._table(),
            "row": self._row(),
            "sizes": list(sizes()),
            "classes": len(KMALLOC_SIZES),
            "most": KMALLOC_MAX_SIZE,
            "margin": MARGIN,
            "chart": self._chart is not None,
        }
        if self._chart:
            self._chart.draw(self.size, self.range)


def _of_slab(cache: CacheSnapshot) -> list[str]:
    """Return how far apart a cache's objects are, and how many a slab has."""
    order, objects = cache.oo
    return [
        f"{cache.size:,}",
        text("size_classes.slab", objects=objects, order=order_text(order)),
    ]
