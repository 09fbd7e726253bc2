"""What Watermarks shows of each step: free pages, the request's marks, kswapd and stalls.

Plain values made from a history; the chart, the table and the text are made from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kmemkit.snapshot import Snapshot, Step, ZoneSnapshot
from kmemkit.strings import text
from kmemkit.views._zone_marks import BANDS, Marks, marks_of

__all__ = ("Point", "points", "turning")


class Point(NamedTuple):
    """One step of a history, as one zone and one request see it."""

    step: int
    call: str
    now: float  #: simulated time, ms
    free: int
    marks: Marks
    kswapd: bool  #: whether the node's kswapd ran in this step, or still runs
    woken: bool  #: whether the step's request asked for it
    freed: int  #: pages kswapd freed in this step
    stalls: int  #: direct reclaims entered in this step
    failed: bool

    @property
    def band(self) -> str:
        """The highest mark that this request passes."""
        return self.marks.band(self.free)

    def says(self, last: int, timed: bool) -> str:
        """Return the point as one line."""
        parts = [text("watermarks.where", step=self.step, last=last)]
        if timed:
            parts.append(text("watermarks.time", ms=f"{self.now:,.1f}"))
        parts += [self.call, *self._numbers()]
        if self.marks.boost:
            parts.append(text("watermarks.boosted", boost=f"{self.marks.boost:,}"))
        return " · ".join([*parts, *self.notes()])

    def _numbers(self) -> list[str]:
        """Return the free pages, and the inequalities on both sides of them."""
        band = text(f"watermarks.band.{self.band}")
        names = [name for name in BANDS[:-1] if name != "own" or self.marks.reduced]
        told = [text("watermarks.free", free=f"{self.free:,}", band=band)]
        for name in names:
            ok = self.free > self.marks.line(name)
            nearest = name == self.band or (not ok and name == _below(names, self.band))
            if nearest:
                told.append(self._inequality(name, ok))
        return told

    def _inequality(self, name: str, ok: bool) -> str:
        marks = self.marks
        mark = getattr(marks, name)
        less = marks.less if name in ("low", "high") else marks.less_min
        left = f"{self.free - less:,}"
        return text(
            "watermarks.passes" if ok else "watermarks.misses",
            left=f"{self.free:,} - {less:,} = {left}" if less else left,
            sum=f"{mark + marks.reserve:,}",
            mark=f"{mark:,}",
            name=text(f"watermarks.mark.{name}"),
            reserve=f"{marks.reserve:,}",
        )

    def notes(self) -> list[str]:
        """Return what happened in the step besides, each a few words."""
        found = []
        if self.woken:
            found.append(text("watermarks.woken"))
        if self.kswapd:
            key = "watermarks.kswapd_freed" if self.freed else "watermarks.kswapd"
            found.append(text(key, pages=f"{self.freed:,}"))
        if self.stalls:
            key = "watermarks.stalls" if self.stalls == 1 else "watermarks.many_stalls"
            found.append(text(key, count=self.stalls))
        if self.failed:
            found.append(text("watermarks.failed"))
        return found


def _below(names: list[str], band: str) -> str:
    """Return the mark just above a band: the one that is missed."""
    return names[-1] if band == "none" else names[max(names.index(band) - 1, 0)]


def points(steps: Sequence[Step], zone: ZoneSnapshot, gfp: int, order: int) -> list[Point]:
    """Return a point for each step, for the zone at the place of `zone` and a request."""
    found = []
    before = steps[0].snapshot if steps else None
    for number, step in enumerate(steps):
        after = step.snapshot
        there = next(z for z in after.zones if (z.nid, z.idx) == (zone.nid, zone.idx))
        arch = str(after.settings.get("arch", "x86_64"))
        freed = _delta(before, after, "pgsteal_kswapd")
        found.append(
            Point(
                number,
                f"{step.call} -> {step.result}" if step.result else step.call,
                after.now / 1e6,
                there.free_est,
                marks_of(there, gfp, order, arch),
                kswapd=_kswapd(step, zone.nid) or freed > 0,
                woken=_count(step, "mm_vmscan_wakeup_kswapd", zone.nid) > 0,
                freed=freed,
                stalls=max(
                    _count(step, "mm_vmscan_direct_reclaim_begin"),
                    _delta(before, after, "allocstall_"),
                ),
                failed=not step.ok,
            )
        )
        before = after
    return found


def _count(step: Step, name: str, nid: int | None = None) -> int:
    """Return how many events of a name a step has; those of one node only, if one is given."""
    found = (dict(event.fields) for event in step.events if event.name == name)
    return sum(nid is None or fields.get("nid", nid) == nid for fields in found)


def _kswapd(step: Step, nid: int) -> bool:
    """Return whether a node's kswapd ran in a step, or runs after it."""
    running = any(node.kswapd_running for node in step.snapshot.nodes if node.nid == nid)
    return running or _count(step, "mm_vmscan_kswapd_wake", nid) > 0


def _delta(before: Snapshot | None, after: Snapshot, prefix: str) -> int:
    """Return how much the counters with a prefix grew in a step."""
    was = {} if before is None else before.vmstat
    return sum(
        count - was.get(name, 0) for name, count in after.vmstat.items() if name.startswith(prefix)
    )


def turning(found: Sequence[Point]) -> list[Point]:
    """Return the first and the last point, and those where something changes."""
    kept = []
    for place, point in enumerate(found):
        before = found[place - 1] if place else None
        if (
            before is None
            or place == len(found) - 1
            or before.band != point.band
            or before.kswapd != point.kswapd
            or before.marks != point.marks
            or point.stalls
            or point.failed
        ):
            kept.append(point)
    return kept
