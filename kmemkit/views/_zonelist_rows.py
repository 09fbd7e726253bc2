"""The rows of ZonelistWalker: each zone's sizes as a bar, its free pages and marks as a gauge.

Positions and shares are percent, worked out here so that the page only draws them.
"""

from __future__ import annotations

from itertools import groupby
from math import sqrt
from typing import Any, NamedTuple

from kmemkit.snapshot import ZoneSnapshot
from kmemkit.strings import text
from kmemkit.views.zonelist_plan import Check, Entry, Plan

__all__ = ("Gauge", "Tick", "brief", "detail", "gauge", "row", "sizes")

#: The least width of a zone's bar, in percent of the widest.
_LEAST = 12.0
#: Room on a gauge for the gap below each tick, and for what is above the last one.
_FIRST_GAP, _GAP, _TAIL = 1.25, 1.0, 1.7


class Tick(NamedTuple):
    """A mark on a gauge: what must stay below the free pages. `at` is percent of the gauge."""

    names: tuple[str, ...]  #: keys under `zonelist.mark`
    pages: int
    at: float

    @property
    def label(self) -> str:
        """The names of the marks at this place."""
        return ", ".join(text(f"zonelist.mark.{name}") for name in self.names)


class Gauge(NamedTuple):
    """What is left of the free pages, against reserve and marks; they start behind the reserve."""

    left: int
    at: float
    torn: bool  #: whether the bar is longer than there is room for
    ticks: tuple[Tick, ...]


def gauge(entry: Entry, check: Check | None) -> Gauge:
    """Return one zone's gauge: at its last look, or with the pages free before the walk.

    The scale is stretched between the ticks, so that marks far apart and close together can all be
    told apart; their order, and on which side of each the free pages end, is true.
    """
    marks = entry.marks
    left = check.free - check.less if check else entry.zone.free_est - marks.less
    sums = [("reserve", marks.reserve)] if marks.reserve else []
    if marks.reduced:
        sums.append(("own", 0 if marks.unlimited else marks.reserve + marks.own))
    sums += [(name, marks.reserve + getattr(marks, name)) for name in ("min", "low", "high")]
    sums.sort(key=lambda pair: pair[1])
    ticks: list[Tick] = []
    at = 0.0
    for pages, group in groupby(sums, key=lambda pair: pair[1]):
        if pages:
            at += _GAP if ticks else _FIRST_GAP
        ticks.append(Tick(tuple(name for name, _ in group), pages, at))
    whole = at + _TAIL
    ticks = [tick._replace(at=100 * tick.at / whole) for tick in ticks]
    top = max(2 * ticks[-1].pages, 1)
    return Gauge(left, _position(left, ticks, top), left > top, tuple(ticks))


def _position(left: int, ticks: list[Tick], top: int) -> float:
    """Return where a number of pages is on a gauge, in percent."""
    low, start = 0, 0.0
    for high, end in [*((tick.pages, tick.at) for tick in ticks), (top, 100.0)]:
        if left <= high:
            share = max(left - low, 0) / (high - low) if high > low else 0.0
            return start + share * (end - start)
        low, start = high, end
    return 100.0


def sizes(zone: ZoneSnapshot) -> dict[str, int]:
    """Return what the pages that a zone spans are, by the key under `zonelist.bar_part`."""
    return {
        "free": zone.free,
        "used": zone.managed - zone.free - zone.pcp_pages,
        "pcp": zone.pcp_pages,
        "reserved": zone.present - zone.managed,
        "hole": zone.spanned - zone.present,
    }


def brief(check: Check | None) -> str:
    """Return an inequality in short, "" without one."""
    if check is None:
        return ""
    left, total = check.free - check.less, check.level + check.reserve
    sign = ">" if left > total else "≤"
    return text("zonelist.inequality", left=f"{left:,}", sign=sign, sum=f"{total:,}")


def detail(plan: Plan, entry: Entry) -> str:
    """Return all numbers of one zone as a line."""
    zone, marks = entry.zone, entry.marks
    numbers = ("spanned", "present", "managed", "min", "low", "high")
    return text(
        "zonelist.detail",
        zone=entry.name,
        first=f"{zone.start_pfn:#x}",
        last=f"{zone.end_pfn - 1:#x}",
        free=f"{zone.free_est:,}",
        reserve=f"{marks.reserve:,}",
        highest=plan.request.highest_name,
        boost=text("zonelist.boost", boost=f"{marks.boost:,}") if marks.boost else "",
        **{
            name: f"{getattr(marks if name in ('min', 'low', 'high') else zone, name):,}"
            for name in numbers
        },
    )


def _looked_at(entry: Entry, check: Check | None) -> str:
    """Return the tick that the last look was at, "" without one."""
    if check is None:
        return ""
    lowered = check.mark == "min" and check.level < entry.marks.min
    return "own" if lowered and entry.marks.reduced else check.mark


def row(plan: Plan, place: int, state: str, check: Check | None, current: bool) -> dict[str, Any]:
    """Return everything the page shows of one entry."""
    entry = plan.entries[place]
    zone, parts, scale = entry.zone, sizes(entry.zone), gauge(entry, check)
    widest = max(other.zone.spanned for other in plan.entries)
    lines = ", ".join(
        text("zonelist.gauge_line", name=tick.label, pages=f"{tick.pages:,}")
        for tick in scale.ticks
    )
    counts = {name: f"{pages:,}" for name, pages in parts.items()}
    badge = text(f"zonelist.state.{state}")
    if state == "skipped":
        badge = text(f"zonelist.skip_short.{entry.skip}", highest=plan.request.highest_name)
    return {
        "name": zone.name,
        "nid": zone.nid,
        "detail": detail(plan, entry),
        "state": state,
        "badge": badge,
        "brief": "" if state == "waiting" else brief(check),
        "current": current,
        "width": max(_LEAST, 100 * sqrt(zone.spanned / widest)),
        "parts": [[name, 100 * n / zone.spanned] for name, n in parts.items() if n],
        "bar": text("zonelist.bar", zone=entry.name, spanned=f"{zone.spanned:,}", **counts),
        "free": text("zonelist.free_short", free=f"{scale.left:,}"),
        "gauge": text("zonelist.gauge", zone=entry.name, free=f"{scale.left:,}", lines=lines),
        "at": scale.at,
        "torn": scale.torn,
        "mark": _looked_at(entry, check) if state != "waiting" else "",
        "reserve_at": next((t.at for t in scale.ticks if "reserve" in t.names), 0.0),
        "ticks": [[list(t.names), t.label, f"{t.pages:,}", t.at] for t in scale.ticks],
    }
