"""The text twin of a ladder: every rung that is told, with all that had a say there, and the end.

`reclaim_ladder` prints it. Rounds of the retry loop that go as those before and after them do are
told as one line.
"""

from __future__ import annotations

from itertools import groupby

from kmemkit.strings import text
from kmemkit.views._ladder_model import Cell, Ladder, Stop, say
from kmemkit.why import Rung

__all__ = ("ladder_lines",)

_Group = list[tuple[int, Stop]]


def ladder_lines(ladder: Ladder, told: int) -> list[str]:
    """Return the walk as far as `told` stops are told; the end comes with the last."""
    roads = list(zip(("a: ", "b: ") if len(ladder.roads) > 1 else ("",), ladder.roads, strict=True))
    lines = [text("ladder.title"), *(f"{letter}{say(road)}" for letter, road in roads)]
    lines += _stop_lines(ladder, list(enumerate(ladder.stops[:told])))
    if told < len(ladder.stops):
        return [*lines, text("ladder.more", told=told, all=len(ladder.stops))]
    for letter, road in roads:
        out = [f"{text(f'road.rung.{name}')} ({why})" for name, why in road.out.items()]
        if out:
            lines.append(f"{letter}{text('ladder.out', rungs='; '.join(out))}")
    lines += [f"{letter}{text('ladder.ends', end=road.ending)}" for letter, road in roads]
    return [*lines, *filter(None, [ladder.parts])]


def _stop_lines(ladder: Ladder, stops: _Group) -> list[str]:
    """Return the lines of these stops, with their indices; the parting one is marked."""
    rounds = [list(group) for _, group in groupby(stops, key=lambda stop: stop[1].round)]
    ways = [_way(group, ladder.parting) for group in rounds]
    lines: list[str] = []
    alike: list[int] = []
    for place, group in enumerate(rounds):
        if place > 0 and ways[place - 1 : place + 2] == [ways[place]] * 3:
            alike.append(group[0][1].round)
            continue
        if alike:
            lines.append(f"     {text('ladder.alike', first=alike[0], last=alike[-1])}")
            alike.clear()
        for index, stop in group:
            mark = ">" if index == ladder.parting else " "
            lines.append(f"{mark} {' ' * (stop.number < 10)}{stop.title}")
            lines += [f"     {line}" for line in _told(stop)]
    return lines


def _way(group: _Group, parting: int | None) -> list[object]:
    """Return what makes one round of the loop like another: its rungs and their outcomes."""
    return [
        (stop.name, index == parting, [rung and rung.outcome for rung in stop.rungs])
        for index, stop in group
    ]


def _told(stop: Stop) -> list[str]:
    """Return what a stop says: for each road the line that decided, and all that had a say."""
    if len(stop.rungs) == 1:
        return _rung_lines("", stop.rungs[0])
    if stop.rungs[0] == stop.rungs[1]:
        return _rung_lines("a, b: ", stop.rungs[0])
    return _rung_lines("a: ", stop.rungs[0]) + _rung_lines("b: ", stop.rungs[1])


def _rung_lines(letter: str, rung: Rung | None) -> list[str]:
    if rung is None:
        return [f"{letter}{text('road.absent')}"]
    rest = rung.weighed if len(rung.weighed) > 1 else ()
    return [f"{letter}{Cell.of(rung)}", *(f"{' ' * len(letter)}  {reason}" for reason in rest)]
