"""What ZonelistWalker shows: the entries of a zonelist, and one request's moves along it.

The entries are the request's own zonelist and why each is tried or passed by; the moves come from
an explained run (`Why`), one for every decision. Plain values: nothing here is a widget.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kmemkit.gfp import ZONE_NAMES, decode, encode, gfp_zone
from kmemkit.snapshot import Reason, Rung, Snapshot, Why, ZoneSnapshot
from kmemkit.strings import text
from kmemkit.views._zone_marks import Marks, marks_of

__all__ = ("STATES", "Check", "Entry", "Move", "Plan", "Request", "request_of")

_THISNODE = encode("__GFP_THISNODE")
_CHECKS = {"watermark_ok": True, "watermark_low": False, "no_block": False}
#: What an entry can be at some point of the walk; keys under `zonelist.state`.
STATES = ("waiting", "skipped", "passed", "failed", "no_block", "empty", "served")
_CALL = re.compile(r"alloc_pages\((?P<gfp>[^,()]+), (?P<order>\d+)\)")


class Request(NamedTuple):
    """One request for pages: its mask, its order, the node it starts from."""

    gfp: int
    order: int
    nid: int
    arch: str = "x86_64"

    @property
    def names(self) -> str:
        """The mask as its flags' names."""
        return decode(self.gfp) or "0"

    @property
    def call(self) -> str:
        """The request as a call."""
        return f"alloc_pages({self.names}, {self.order})"

    @property
    def highest(self) -> int:
        """Index of the highest zone that the mask may use."""
        return int(gfp_zone(self.gfp, self.arch))

    @property
    def highest_name(self) -> str:
        """Name of the highest zone that the mask may use."""
        return ZONE_NAMES[self.arch][self.highest]

    @property
    def this_node(self) -> bool:
        """Whether the request keeps to its own node."""
        return bool(self.gfp & _THISNODE)


def request_of(why: Why) -> tuple[int, int]:
    """Return (mask, order) of the request that an explanation is about.

    Raises:
        ValueError: it is not about a request for pages.
    """
    found = _CALL.fullmatch(why.call)
    if not found:
        raise ValueError(text("zonelist.not_a_request", call=why.call))
    return encode(found["gfp"]), int(found["order"])


class Entry(NamedTuple):
    """One place of the zonelist. `skip` is a key under `zonelist.skip`, "" if pages may come here.

    A node's own list has no entries of other nodes; here they stand all the same, passed by.
    """

    zone: ZoneSnapshot
    marks: Marks
    skip: str
    name: str


class Check(NamedTuple):
    """One look at a mark, with the numbers put in. Sizes are pages."""

    mark: str
    free: int
    less: int
    level: int
    reserve: int
    ok: bool


class Move(NamedTuple):
    """One decision of the walk; `entry` is the place it is about, None for the list as a whole.

    `state` is what the entry is from here on, one of STATES, or "" where it stays what it is.
    """

    part: int  #: index of the rung in `Plan.titles`
    entry: int | None
    state: str
    says: str
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A request's way along its zonelist, from the first entry to a page or to NULL."""

    request: Request
    entries: tuple[Entry, ...]
    result: str
    moves: tuple[Move, ...]
    titles: tuple[str, ...]
    #: index of the entry that serves, None if none does
    served: int | None = field(default=None)

    def states(self, told: int) -> list[str]:
        """Return what each entry is after so many moves."""
        states = ["waiting"] * len(self.entries)
        part = 0
        for move in self.moves[:told]:
            if (move.check and move.part != part) or move.state == "waiting":
                # A new look at the list: who was refused may be tried again.
                part = move.part
                states = [state if state == "skipped" else "waiting" for state in states]
            if move.entry is not None and move.state:
                states[move.entry] = move.state
        return states

    def checks(self, told: int) -> dict[int, Check]:
        """Return the last look at each entry after so many moves."""
        return {m.entry: m.check for m in self.moves[:told] if m.check and m.entry is not None}

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        zonelist: Sequence[tuple[int, int]],
        request: Request,
        why: Why,
    ) -> Plan:
        """Return the plan of an explained run.

        Args:
            snapshot: the machine before the request.
            zonelist: (node, zone index) of every entry of the node's fallback list, in order.
            request: what was asked for.
            why: the run's explanation.

        Raises:
            ValueError: the explanation is that of another machine.
        """
        entries = _entries(snapshot, zonelist, request)
        moves: list[Move] = []
        titles: list[str] = []
        passed: set[int] = set()
        served = None
        for rung in _rungs(why):
            told = list(_moves_of(rung, entries, len(titles), passed))
            if told:
                moves += told
                titles.append(_title(rung))
            if told and rung.outcome == "page" and moves[-1].entry is not None:
                served = moves[-1].entry
                said = text("zonelist.serves", zone=entries[served].name, result=why.result)
                moves.append(Move(len(titles) - 1, served, "served", said))
        if served is None:
            said = text("zonelist.nobody", result=why.result)
            moves.append(Move(max(len(titles) - 1, 0), None, "", said))
        return cls(request, entries, why.result, tuple(moves), tuple(titles), served)


# -- entries --------------------------------------------------------------------------------------


def _entries(
    snapshot: Snapshot, zonelist: Sequence[tuple[int, int]], request: Request
) -> tuple[Entry, ...]:
    zones = {(zone.nid, zone.idx): zone for zone in snapshot.zones}
    allowed = _mems_allowed(snapshot)
    many = len({zone.nid for zone in snapshot.zones}) > 1
    return tuple(
        Entry(
            zones[key],
            marks_of(zones[key], request.gfp, request.order, request.arch),
            _skip(zones[key], request, allowed),
            _zone_name(zones[key], many),
        )
        for key in zonelist
    )


def _skip(zone: ZoneSnapshot, request: Request, allowed: tuple[int, ...] | None) -> str:
    if request.this_node and zone.nid != request.nid:
        return "node"
    if zone.idx > request.highest:
        return "above"
    return "cpuset" if allowed is not None and zone.nid not in allowed else ""


def _mems_allowed(snapshot: Snapshot) -> tuple[int, ...] | None:
    """Return the nodes of the current task's cpuset, None for all."""
    pid = snapshot.settings.get("current")
    return next((task.mems_allowed for task in snapshot.tasks if task.pid == pid), None)


def _zone_name(zone: ZoneSnapshot, many: bool) -> str:
    key = "zonelist.node_zone" if many else "zonelist.zone"
    return text(key, nid=zone.nid, name=zone.name)


# -- moves ----------------------------------------------------------------------------------------


def _rungs(why: Why) -> tuple[Rung, ...]:
    """Return the rungs of an explanation; all of it is one where none are marked."""
    if why.marks:
        return why.rungs
    outcome = "no" if why.result == "NULL" else "page"
    return (Rung("low", 0, outcome, why.reasons),)


def _title(rung: Rung) -> str:
    name = text(f"road.rung.{rung.name}")
    return text("zonelist.turn", rung=name, turn=rung.round) if rung.round else name


def _moves_of(rung: Rung, entries: tuple[Entry, ...], part: int, told: set[int]) -> Iterator[Move]:
    """Yield the moves of one rung: its looks at the zones, or else how it ended.

    `told` are the entries already said to be passed by: that is worth one move, not one a rung.
    """
    at, done = -1, False
    for reason in rung.reasons:
        if reason.key == "zone_has_none":
            yield Move(part, at, "empty", str(reason))
        if reason.key not in _CHECKS:
            continue
        place = _place(dict(reason.values), entries, at + done)
        if place < at + done:
            yield Move(part, None, "waiting", text("zonelist.again"))
            at = -1
        yield from _passed_by(entries, range(at + 1, place), part, told)
        at = place
        move = _look(reason, entries[at], at, part)
        yield move
        # A zone below its high mark is looked at once more, at the mark that counts.
        done = move.state == "passed" or (move.check is not None and move.check.mark != "high")
    if at < 0:
        if rung.outcome != "skip" and rung.reasons:
            yield Move(part, None, "", rung.decided)
    elif rung.outcome != "page":
        yield from _passed_by(entries, range(at + 1, len(entries)), part, told)
    elif not _CHECKS[_last_check(rung)]:
        yield Move(part, at, "passed", text("zonelist.no_watermarks"))


def _last_check(rung: Rung) -> str:
    return next(reason.key for reason in reversed(rung.reasons) if reason.key in _CHECKS)


def _look(reason: Reason, entry: Entry, at: int, part: int) -> Move:
    """Return the move for one look at a mark."""
    values = dict(reason.values)
    free, less, level, reserve = (
        int(str(values[name])) for name in ("free", "less", "mark", "reserve")
    )
    check = Check(str(values["name"]), free, less, level, reserve, _CHECKS[reason.key])
    state = {"watermark_ok": "passed", "watermark_low": "failed"}.get(reason.key, "no_block")
    many = entry.name != entry.zone.name
    said = text("zonelist.on_node", nid=entry.zone.nid, line=reason) if many else str(reason)
    return Move(part, at, state, said, check)


def _place(values: dict[str, object], entries: tuple[Entry, ...], at: int) -> int:
    """Return which entry a look was at, from `at` on or else from the start of the list.

    Looks name their zone but not its node. Of zones with one name, the one that has as many pages
    free as the look counted comes first, then the next one down the list.
    """
    same = [n for n, entry in enumerate(entries) if entry.zone.name == values["zone"]]
    if not same:
        raise ValueError(text("zonelist.foreign", zone=values["zone"]))
    down = [n for n in same if n >= at] + [n for n in same if n < at]
    return min(down, key=lambda n: entries[n].zone.free_est != values["free"])


def _passed_by(
    entries: tuple[Entry, ...], places: range, part: int, told: set[int]
) -> Iterator[Move]:
    """Yield a move for each place that the request passes by."""
    for place in places:
        entry = entries[place]
        if entry.skip and place not in told:
            told.add(place)
            yield Move(part, place, "skipped", _skipped(entry))


def _skipped(entry: Entry) -> str:
    return text(f"zonelist.skip.{entry.skip}", zone=entry.name, nid=entry.zone.nid)
