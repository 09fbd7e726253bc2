"""Roads down the ladder as something to look at: the stops of a walk, what each says, the end.

ReclaimLadder shows a `Ladder`, of one road or of two side by side; `_ladder_table` shows where the
roads of many masks come. `walk()` makes a road by playing the request on a copy of a machine.
Nothing here knows a widget.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from kmemkit.gfp import as_mask, decode, left_out
from kmemkit.snapshot import Snapshot, order_text
from kmemkit.strings import text
from kmemkit.why import RUNGS, RoadDiff, Rung, Why, diff

__all__ = (
    "LOOP",
    "SIGNS",
    "Cell",
    "Ladder",
    "Other",
    "Request",
    "Road",
    "Stop",
    "checked_order",
    "read_other",
    "say",
    "walk",
)

#: The rungs that the retry loop goes round; those above it are tried once, NULL is below it.
LOOP = ("reserves", "reclaim", "compact", "retry", "oom", "nofail")

#: The sign of each outcome, of a rung the flags leave out and of one that was never reached; and
#: of the ends of a road. Each stands with its word: a sign alone says too little.
SIGNS = {
    "on": "→", "page": "✓", "no": "✗", "skip": "–", "woken": "●", "progress": "+", "kill": "†",
    "again": "↻", "stop": "■", "ahead": "·", "null": "✗", "forever": "∞", "bug": "!",
}  # fmt: skip

_CALL = re.compile(r"_*(?:alloc_pages|get_free_pages)\((.+), (\d+)\)")


class Request(NamedTuple):
    """A request for pages: the mask as it was written, and the order."""

    gfp: int | str
    order: int

    @property
    def mask(self) -> int:
        """The mask as a number."""
        return as_mask(self.gfp)

    @property
    def names(self) -> str:
        """The mask as it was written, or the names the kernel prints."""
        return self.gfp if isinstance(self.gfp, str) else decode(self.gfp) or hex(self.gfp)

    @property
    def title(self) -> str:
        """The mask with its bits, as in "GFP_ATOMIC 0x820"."""
        bits = f"{self.mask:#x}"
        return self.names if self.names == bits else f"{self.names} {bits}"


def request_of(why: Why) -> Request | None:
    """Read the request back from the call of an explanation; None if it is no such call."""
    found = _CALL.fullmatch(why.call)
    return Request(found[1], int(found[2])) if found else None


class Other(NamedTuple):
    """What the second road changes: the mask, the order, or something in the copy."""

    gfp: int | str | None = None
    order: int | None = None
    change: Callable[[Any], Any] | None = None

    def request(self, base: Request) -> Request:
        """Return the second request, given the first."""
        gfp = base.gfp if self.gfp is None else self.gfp
        return Request(gfp, base.order if self.order is None else self.order)

    @property
    def label(self) -> str:
        """What is changed, to choose it by."""
        if self.gfp is None:
            return text("ladder.changed")
        names = Request(self.gfp, 0).names
        return names if self.order is None else f"{names}, {order_text(self.order)}"


def read_other(against: Any) -> Other | None:
    """Return what the second road changes, as ReclaimLadder's caller gave it.

    Raises:
        TypeError, ValueError: it is nothing that can be changed.
    """
    if against is None:
        return None
    if callable(against):
        return Other(change=against)
    gfp, order = against if isinstance(against, tuple) and len(against) == 2 else (against, None)
    if isinstance(gfp, bool) or not isinstance(gfp, int | str):
        raise TypeError(text("ladder.bad_against", given=against))
    as_mask(gfp)
    return Other(gfp, None if order is None else checked_order(order))


def checked_order(order: int) -> int:
    """Return `order` if a request may have it.

    Raises:
        ValueError: it may not; the message says what may be given.
    """
    if type(order) is not int or not 0 <= order < 64:
        raise ValueError(text("ladder.bad_order", order=order))
    return order


class Cell(NamedTuple):
    """What one road says at one rung: an outcome (a key of SIGNS), its word, what decided."""

    outcome: str
    word: str
    line: str = ""

    @classmethod
    def of(cls, rung: Rung) -> Cell:
        """Return what a stand on a rung came to."""
        return cls(rung.outcome, rung.word, rung.decided)

    @property
    def sign(self) -> str:
        """The sign of the outcome."""
        return SIGNS[self.outcome]

    def __str__(self) -> str:
        said = f"{self.sign} {self.word}"
        return f"{said}: {self.line}" if self.line else said


@dataclass(frozen=True)
class Road:
    """One explained request. `label` says what is special about it, if not the mask."""

    why: Why
    label: str = ""
    request: Request | None = None

    @classmethod
    def read(cls, why: Why) -> Road:
        """Return the road of an explanation, with the request as its call tells it.

        Raises:
            ValueError: it stood on no rung: it is no request for pages.
        """
        request = request_of(why)
        if not why.marks and request is None:
            raise ValueError(text("ladder.no_road", call=why.call))
        return cls(_with_rungs(why), request=request)

    @property
    def title(self) -> str:
        """The request as the head of a column."""
        asked = self.request.title if self.request else self.why.call
        return f"{asked}, {self.label}" if self.label else asked

    @cached_property
    def end(self) -> str:
        """Where the road ends: the rung that gave a page, or "kill", "null", "forever", "bug"."""
        rungs = self.why.rungs
        got = [rung.name for rung in rungs if rung.outcome == "page"]
        if self.why.result == text("road.livelock"):
            return "forever"
        if self.why.result == "NULL":
            return "null"
        chosen = any(reason.key == "oom_chosen" for reason in self.why.reasons)
        if chosen or any(rung.outcome == "kill" for rung in rungs):
            return "kill"  # also where __GFP_NOFAIL got its page right after
        return got[-1] if got else "bug"

    @property
    def ending(self) -> str:
        """The end as text, with its sign: "✓ page: pfn 0x2f31"."""
        kind = self._kind
        return f"{SIGNS[kind]} {text(f'ladder.end.{kind}', result=self.why.result)}"

    @property
    def end_word(self) -> str:
        """The end in a word, with its sign: "✓ page"."""
        return f"{SIGNS[self._kind]} {text(f'ladder.end_short.{self._kind}')}"

    @property
    def _kind(self) -> str:
        return self.end if self.end in ("null", "kill", "forever", "bug") else "page"

    @cached_property
    def out(self) -> dict[str, str]:
        """Rung -> why its flags leave it out, for the rungs the road never came to."""
        if self.request is None:
            return {}
        reasons = left_out(self.request.mask, self.request.order)
        # Every round looks at the free lists again, with special rights or without.
        stood = {"reserves", *(rung.name for rung in self.why.rungs)}
        return {
            name: text(f"gfp_panel.left_out.{why}")
            for name, why in reasons.items()
            if name not in stood
        }

    def last(self, name: str) -> Rung | None:
        """Return the last stand on a rung, None if the road never came there."""
        return next((rung for rung in reversed(self.why.rungs) if rung.name == name), None)

    def times(self, name: str) -> int:
        """Return how often the road stood on a rung."""
        return sum(rung.name == name for rung in self.why.rungs)

    def cell(self, name: str) -> Cell:
        """Return what the whole road says of a rung: its last stand, or why there was none."""
        rung = self.last(name)
        if rung is not None:
            return Cell.of(rung)
        if name in self.out:
            return Cell("skip", text("road.outcome.skip"), self.out[name])
        return Cell("ahead", text("ladder.ahead"))


def _with_rungs(why: Why) -> Why:
    """Return a road that has a rung: an order that is too high is turned away at the door."""
    return why if why.marks else replace(why, marks=((0, "entry", 0, "no"),))


class Stop(NamedTuple):
    """One rung of one round, with the stand of each road there, or None."""

    name: str
    round: int
    rungs: tuple[Rung | None, ...]

    @property
    def number(self) -> int:
        """The rung's number on the ladder; the request itself is 0."""
        return RUNGS.index(self.name)

    @property
    def title(self) -> str:
        """The rung with its number, and its round if the retry loop went round."""
        title = text("ladder.rung", number=self.number, name=text(f"road.rung.{self.name}"))
        return text("ladder.in_round", rung=title, round=self.round) if self.round else title


@dataclass(frozen=True)
class Ladder:
    """One road or two, as the stops of one walk from the request down to the end."""

    roads: tuple[Road, ...]
    compared: RoadDiff | None = field(init=False)

    def __post_init__(self) -> None:
        compared = diff(*(road.why for road in self.roads)) if len(self.roads) == 2 else None
        object.__setattr__(self, "compared", compared)

    @cached_property
    def stops(self) -> tuple[Stop, ...]:
        """Every rung of every round, in the order of the walk."""
        if self.compared is not None:
            return tuple(Stop(p.name, p.round, (p.a, p.b)) for p in self.compared.pairs)
        rungs = self.roads[0].why.rungs
        # NULL is below the loop, in whichever round the road came to it.
        return tuple(Stop(r.name, 0 if r.name == "null" else r.round, (r,)) for r in rungs)

    @property
    def rounds(self) -> int:
        """How many rounds the retry loop went, in the road that went more."""
        return max((stop.round for stop in self.stops), default=0)

    @property
    def parting(self) -> int | None:
        """Index of the stop where two roads part, None if they do not."""
        return self.compared.parting if self.compared else None

    def find(self, name: str) -> int:
        """Return the index of the last stop on a rung; of the last stop above it if none was."""
        place = RUNGS.index(name)
        there = [n for n, stop in enumerate(self.stops) if stop.name == name]
        above = [n for n, stop in enumerate(self.stops) if RUNGS.index(stop.name) < place]
        return (there or above or [0])[-1]

    @property
    def parts(self) -> str:
        """The sentence on where two roads part, "" for one road."""
        if self.compared is None:
            return ""
        if self.parting is None:
            return text("road.same")
        stop = self.stops[self.parting]
        where = {"number": stop.number, "name": text(f"road.rung.{stop.name}")}
        if not stop.round:
            return text("ladder.parts", **where)
        return text("ladder.parts_round", **where, round=stop.round)


def say(road: Road) -> str:
    """Return a road's request as one line: call, bits, size and what is special about it."""
    if road.request is None:
        return road.title
    return f"{road.title} · {order_text(road.request.order)}"


def walk(
    machine: Any,
    moment: Snapshot,
    request: Request,
    change: Callable[[Any], Any] | None = None,
    label: str = "",
) -> Road:
    """Make a request on a copy of a machine, and return its road.

    Args:
        machine: the class to make the copy of: it has from_snapshot(), as Kernel has.
        moment: the state to start from.
        request: what to ask for.
        change: called with the copy before the request, to change one thing; if it returns a
            context manager (a context, a scope), the request is made inside.
        label: what is special about this road.
    """
    copy = machine.from_snapshot(moment)
    scope: Any = change(copy) if change else None
    copy.record(limit=1)
    # A BUG, a panic or an endless loop is an end like others: why() has it.
    with scope if hasattr(scope, "__exit__") else nullcontext(), suppress(RuntimeError):
        copy.alloc_pages(request.gfp, request.order)
    return Road(_with_rungs(copy.why()), label, request)
