"""FreeAreas: how many free blocks of each order a zone has, stacked by migratetype.

The numbers are those of /proc/buddyinfo and /proc/pagetypeinfo. bqplot draws the bars; a panel
beside them has the axis switch, the legend, one button an order (the keyboard's way in) and the
same numbers as a table. bqplot is imported when the first chart is made: where it is missing, as
in a browser-only kernel, the table stands alone.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

import traitlets

from kmemkit.snapshot import MIGRATE_NAMES, Kind, Snapshot, ZoneSnapshot, order_text, size_text
from kmemkit.strings import text
from kmemkit.views._base import Composite, Follows, Panel, esm, refuse_unknown
from kmemkit.views._free_chart import LETTERS, Chart, OrderCounts

__all__ = ("FreeAreas", "free_counts")


def free_counts(zone: ZoneSnapshot) -> list[OrderCounts]:
    """Return the free blocks of every order of one zone."""
    kinds = range(len(MIGRATE_NAMES))
    orders = range(zone.max_order + 1)
    return [OrderCounts(o, tuple(zone.nr_free(o, kind) for kind in kinds)) for o in orders]


class _FreeAreasPanel(Panel):
    """Everything of FreeAreas but the bars: what it shows is `state`, what it is told is `msg`."""

    _esm = esm("common.js", "free_areas.js")
    _sections: ClassVar[tuple[str, ...]] = ("free_areas",)

    state = traitlets.Dict().tag(sync=True)


class FreeAreas(Composite):
    """Stacked bars of free blocks by order and migratetype, for one zone.

    Args:
        source: a Snapshot, or a Kernel to follow.
        log: count on a logarithmic axis.
        zone: position of the zone in `snapshot.zones`; by default the last one that has pages,
            where requests look first.

    Raises:
        TypeError: `source` is neither, or a keyword is unknown.
        ValueError: there is no such zone; the message lists those there are.
    """

    #: pfn of the selected page, as in PageMap; its free block is outlined in its bar
    selected = traitlets.Int(None, allow_none=True)
    log = traitlets.Bool(False)
    zone = traitlets.Int(None, allow_none=True)

    def __init__(
        self,
        source: Snapshot | Follows,
        *,
        log: bool = False,
        zone: int | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(FreeAreas.__init__, unknown)
        self._panel = _FreeAreasPanel()
        self._chart = Chart() if find_spec("bqplot") else None
        children = [self._panel, *([self._chart.figure] if self._chart else [])]
        super().__init__(children=children, log=log)
        self.add_class("kmemkit")
        self.add_class("km-free-areas")
        self._panel.on_msg(self._on_msg)
        self._open(source)
        self.zone = zone
        self.observe(self._changed, ("selected", "log", "zone"))

    # -- what is shown ----------------------------------------------------------------------------

    @property
    def shown_zone(self) -> ZoneSnapshot:
        """The zone shown: that of the selected page, else `zone`, else the last that has pages."""
        zones = self.snapshot.zones
        if self.selected is not None and (home := self.snapshot.zone_of(self.selected)):
            return home
        if self.zone is not None:
            return zones[self.zone]
        return [zone for zone in zones if zone.managed][-1]

    def counts(self) -> list[OrderCounts]:
        """Return the free blocks of every order of the zone shown."""
        return free_counts(self.shown_zone)

    def selected_text(self) -> str:
        """Return where the selected page is on the free lists, "" if none is selected."""
        found = self._selected_block()
        if self.selected is None:
            return ""
        if found is None:
            return text("free_areas.not_free", pfn=f"{self.selected:#x}")
        order, kind, head = found
        pfns = self.shown_zone.free_list(order, kind)
        return text(
            "free_areas.selected",
            pfn=f"{self.selected:#x}",
            order=order_text(order),
            head=f"{head:#x}",
            type=MIGRATE_NAMES[kind],
            place=pfns.index(head) + 1,
            count=len(pfns),
        )

    def text(self) -> str:
        """Return the counts as a table, the zone's line of /proc/buddyinfo, and the selection."""
        zone, counts = self.shown_zone, self.counts()
        axis = text("free_areas.log") if self.log else text("free_areas.linear")
        lines = [f"{text('free_areas.title')}: {self._zone_name(zone)} ({axis})"]
        names = (*MIGRATE_NAMES, text("free_areas.all"))
        lines.append(f"{'order':>5}  {'size':>7}" + "".join(f"{name:>13}" for name in names))
        for row in counts:
            cells = "".join(f"{n:>13,}" for n in (*row.counts, row.total))
            lines.append(f"{row.order:>5}  {size_text(1 << row.order):>7}{cells}")
        total = sum(row.total << row.order for row in counts)
        lines.append(text("free_areas.sum", pages=f"{total:,}", size=size_text(total)))
        return "\n".join([*lines, *filter(None, [self.selected_text()])])

    def _zone_name(self, zone: ZoneSnapshot) -> str:
        nodes = {z.nid for z in self.snapshot.zones}
        key = "free_areas.zone" if len(nodes) == 1 else "free_areas.node_zone"
        return text(key, nid=zone.nid, name=zone.name)

    def _selected_block(self) -> tuple[int, int, int] | None:
        """Return (order, migratetype, head pfn) of the free block that is selected."""
        snapshot = self.snapshot
        if self.selected is None or not snapshot.first_pfn <= self.selected < snapshot.end_pfn:
            return None
        info = snapshot.page(self.selected)
        if info.kind is not Kind.FREE or info.zone is None:
            return None
        for kind in range(len(MIGRATE_NAMES)):
            if info.head in info.zone.free_list(info.order, kind):
                return info.order, kind, info.head
        return None

    def _describe(self) -> str:
        free = sum(row.total << row.order for row in self.counts())
        return f"{self.shown_zone.name}, {free:,} pages free"

    # -- keeping panel and chart up to date -------------------------------------------------------

    @traitlets.validate("zone")
    def _known_zone(self, proposal: Any) -> int | None:
        zones, value = self.snapshot.zones, proposal["value"]
        if value is not None and not 0 <= value < len(zones):
            there = ", ".join(f"{n} = {self._zone_name(zone)}" for n, zone in enumerate(zones))
            raise ValueError(text("free_areas.no_zone", zone=value, there=there))
        return value  # type: ignore[no-any-return]

    def _changed(self, _change: object) -> None:
        self._outbox.request()

    def _on_msg(self, _panel: object, content: dict[str, Any], _buffers: object) -> None:
        """Take the reader's clicks in the panel."""
        if content["do"] == "log":
            self.log = not self.log
        elif content["do"] == "zone":
            with self.hold_trait_notifications():
                self.selected, self.zone = None, int(content["zone"])

    def _fill(self) -> None:
        zone, counts, found = self.shown_zone, self.counts(), self._selected_block()
        self._panel.state = {
            "zones": [self._zone_name(z) for z in self.snapshot.zones],
            "zone": self.snapshot.zones.index(zone),
            "log": self.log,
            "chart": self._chart is not None,
            "orders": [
                {
                    "size": size_text(1 << row.order),
                    "says": str(row),
                    "counts": row.counts,
                    "all": row.total,
                }
                for row in counts
            ],
            "types": [
                {
                    "name": name,
                    "letter": LETTERS[kind],
                    "blocks": sum(row.counts[kind] for row in counts),
                }
                for kind, name in enumerate(MIGRATE_NAMES)
            ],
            "selected": self.selected_text(),
            "order": found[0] if found else None,
        }
        if self._chart:
            self._chart.draw(counts, self.log, found[:2] if found else None)
