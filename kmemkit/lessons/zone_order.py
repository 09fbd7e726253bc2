"""Lesson 04: which zones a request tries, in order.

The check asks a machine for its zonelist, and leaves out what is above the mask's highest zone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

from kmemkit.gfp import encode, gfp_zone
from kmemkit.lessons._check import (
    Misfit,
    Outcome,
    Problem,
    Sheet,
    Verdict,
    fill_in,
    is_blank,
    is_unknown,
    judge_each,
    kindly,
)
from kmemkit.lessons.zone_check import Place, idea_of, miss, place_text, places
from kmemkit.mm.kernel import Kernel
from kmemkit.strings import text

__all__ = ("check", "machine", "problem")

_THISNODE = encode("__GFP_THISNODE")
#: Requests for machine A, and for machine B with the node they start from.
_ONE_NODE = (
    *("GFP_KERNEL", "GFP_HIGHUSER", "GFP_HIGHUSER_MOVABLE"),
    *("GFP_KERNEL|GFP_DMA32", "GFP_KERNEL|__GFP_MOVABLE"),
)
_TWO_NODES = (
    ("GFP_KERNEL", 1),
    ("GFP_KERNEL", 0),
    ("GFP_KERNEL|GFP_DMA32", 1),
    ("GFP_KERNEL|__GFP_THISNODE", 0),
    ("GFP_KERNEL|__GFP_THISNODE", 1),
)
_NAMES = ("DMA", "DMA32", "Normal", "Movable")


@dataclass(frozen=True, slots=True)
class _Request:
    """One request on machine A or B."""

    machine: str
    gfp: str
    nid: int = 0


@cache
def _boot(name: str) -> Kernel:
    if name == "A":
        return Kernel(ram="6G", cmdline="movablecore=1G")
    return Kernel(ram="8G", nodes=2)


def machine(name: str) -> Kernel:
    """Boot machine "A" (one node, four zones) or "B" (two nodes)."""
    return _boot(name).clone()


def _requests(seed: int) -> list[_Request]:
    """Return two requests on each machine."""
    random = Random(seed)
    one = [_Request("A", gfp) for gfp in random.sample(_ONE_NODE, 2)]
    return one + [_Request("B", gfp, nid) for gfp, nid in random.sample(_TWO_NODES, 2)]


def _tried(request: _Request) -> list[Place]:
    """Return what the request tries: its zonelist, without what is above its highest zone."""
    mask = encode(request.gfp)
    zones = _boot(request.machine).zonelist(request.nid, bool(mask & _THISNODE))
    return [(zone.nid, zone.name) for zone in zones if zone.idx <= gfp_zone(mask)]


def _known(request: _Request) -> list[Place]:
    return [(z.nid, z.name) for z in _boot(request.machine).zonelist(request.nid, False)]


def problem(seed: int) -> Problem:
    """Return the two machines and the four requests of a seed."""
    lines = [text(f"lesson.zones.order.machine_{name}") for name in "ab"]
    for number, request in enumerate(_requests(seed), 1):
        key = "lesson.zones.order.ask" if request.machine == "A" else "lesson.zones.order.ask_node"
        asked = text(key, machine=request.machine, gfp=request.gfp, nid=request.nid)
        lines.append(f"{number}. {asked}")
    return Problem(tuple(lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of four answers, each the zones in order, such as "Normal DMA32 DMA".

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _requests(seed), _check_one)


def _check_one(request: _Request, answer: object) -> Verdict:
    """Judge one order of zones."""
    truth, known = _tried(request), _known(request)
    told = text(
        "lesson.zones.order.told", gfp=request.gfp, zones=_say(truth, known), nid=request.nid
    )
    if is_blank(answer):
        return fill_in()
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    try:
        said = places(answer, known)
    except Misfit as misfit:
        return Verdict(Outcome.OPEN, str(misfit))
    if said == truth:
        return Verdict(Outcome.RIGHT, told)
    sentence = text("lesson.zones.order.said", said=_say(said, known), gfp=request.gfp)
    return miss(sentence, idea_of(said, _ideas(request, truth, known)))


def _say(zones: list[Place], known: list[Place]) -> str:
    many = len({nid for nid, _ in known}) > 1
    return ", ".join(place_text(place, many) for place in zones)


def _ideas(request: _Request, truth: list[Place], known: list[Place]) -> dict[str, object]:
    """Return idea -> the order that it leads to."""
    top = max(_NAMES.index(name) for _, name in truth)
    allowed = [place for place in known if _NAMES.index(place[1]) <= top]
    return {
        "other_node": allowed,
        "above": known,
        "lowest_first": truth[::-1],
        "one_zone": truth[:1],
        "zone_before_node": sorted(truth, key=lambda place: -_NAMES.index(place[1])),
        "node_zero": sorted(truth, key=lambda place: place[0]),
        "movable_alone": [(0, "Movable"), *truth],
        "own_zone_only": [place for place in truth if place[0] == request.nid],
    }
