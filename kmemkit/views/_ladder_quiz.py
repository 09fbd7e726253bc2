"""The prediction before a walk: where the request ends, the verdict, and the idea behind a miss.

ReclaimLadder asks when it is made with `predict=True`, as it is by default. What is right is where
the road ended; the ideas only say which well-known mistake would have named the learner's end.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemkit import gfp as flags
from kmemkit.snapshot import order_text
from kmemkit.strings import text
from kmemkit.views._ladder_model import Road
from kmemkit.views.prediction import Verdict
from kmemkit.why import RUNGS

__all__ = ("UNKNOWN", "answers", "judge")

UNKNOWN = "unknown"
#: The rungs that can give a page, in the order in which they are tried.
_GIVERS = ("low", "min", "compact_first", "reserves", "reclaim", "compact", "oom", "nofail")
_SLEEP, _HIGH = flags.__GFP_DIRECT_RECLAIM, flags.__GFP_HIGH

_Ideas = Iterator[tuple[str, dict[str, object]]]


def answers() -> dict[str, str]:
    """Return answer -> how it reads: a page on each rung that can give one, and the other ends."""
    pages = {name: text("ladder.answer.page", rung=_rung(name)) for name in _GIVERS}
    others = ("kill", "null", "forever", "bug", UNKNOWN)
    return pages | {name: text(f"ladder.answer.{name}") for name in others}


def judge(road: Road, said: str) -> Verdict:
    """Compare an answer, a key of `answers()`, with where the road ended."""
    told = answers()[road.end]
    if said == UNKNOWN:
        return Verdict(None, text("ladder.unknown", told=told))
    if said == road.end:
        return Verdict(True, text("ladder.right", told=told))
    sentence = text("ladder.wrong", said=answers()[said], told=told)
    shown: dict[str, object] = {
        "call": road.why.call,
        "at": _rung(road.end) if road.end in RUNGS else told,
        "size": order_text(road.request.order if road.request else 0),
    }
    ideas = _page_ideas(road, said) if said in _GIVERS else _other_ideas(road, said)
    for idea, values in ideas:
        name = text(f"ladder.idea_name.{idea}")
        why = text(f"ladder.idea.{idea}", **(shown | values))
        return Verdict(False, sentence, idea, name, why)
    return Verdict(False, sentence)


def _rung(name: str) -> str:
    return text(f"road.rung.{name}")


def _page_ideas(road: Road, said: str) -> _Ideas:
    """Yield the ideas that expect a page on rung `said`, the most telling first."""
    mask = road.request.mask if road.request else 0
    rung = road.last(said)
    shown: dict[str, object] = {"said": _rung(said)}
    if road.end == "null" and mask & _HIGH and not mask & _SLEEP and said in ("low", "min"):
        yield "atomic", shown | {"line": road.cell(said).line}
    if said in road.out or (rung and rung.outcome == "skip"):
        yield "climbs_all", shown | {"why": road.out.get(said) or (rung.decided if rung else "")}
    if rung and said in ("low", "min"):
        yield "all_mine", shown | {"line": rung.decided}
    if rung:
        yield "surely", shown | {"line": rung.decided}
    if road.end in _GIVERS and RUNGS.index(said) > RUNGS.index(road.end):
        yield "climbs_on", shown | {"line": road.cell(road.end).line}


def _other_ideas(road: Road, said: str) -> _Ideas:
    """Yield the ideas that expect no page from a rung, or a kill before it."""
    mask = road.request.mask if road.request else 0
    if road.end == "forever":
        yield "ends_always", {}
    elif said == "null" and road.end == "kill":
        yield "returns_null", {}
    elif said == "null" and road.end in ("low", "min", "reserves"):
        yield "low_is_empty", {"line": road.cell(road.end).line}
    elif said == "null" and mask & _SLEEP:
        yield "gives_up", {"line": road.cell(road.end).line}
    elif said == "kill" and road.end in _GIVERS:
        yield "kills_early", {"line": road.cell(road.end).line}
    elif said == "kill" and road.end == "null":
        yield "kills_always", {"why": road.cell("oom").line or road.cell("null").line}
    elif said == "forever" and road.end == "null":
        yield "never_fails", {"line": road.cell("retry").line or road.cell("null").line}
    elif said in ("forever", "bug"):
        yield "climbs_on", {"said": answers()[said], "line": road.cell(road.end).line}
