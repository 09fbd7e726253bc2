"""Lesson 04: six requests on pressed machines. Which zone serves each, and at which mark?

Every case is a machine of three zones with just so many pages free. The check makes the request
there, and asks ZonelistWalker's judge about a zone that did not serve.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

from kmemkit.gfp import encode
from kmemkit.lessons import zone_worlds
from kmemkit.lessons._check import (
    Misfit,
    Outcome,
    Problem,
    Sheet,
    Verdict,
    fill_in,
    is_blank,
    is_unknown,
    kindly,
    spread,
)
from kmemkit.lessons.zone_check import miss, places
from kmemkit.mm.kernel import Kernel
from kmemkit.snapshot import order_text
from kmemkit.strings import text
from kmemkit.views.zonelist_plan import Plan, Request
from kmemkit.views.zonelist_quiz import NOBODY, judge

__all__ = ("CASES", "check", "machine", "problem")

CASES = 6
_NONE = re.compile(r"(?:none|nobody|no(?: zone| one)?|null|it fails|fails)\b.*")
_MARK = re.compile(r"\b(low|min|high)\b(?:\s*(?:water)?marks?)?|\bat\b|\bthe\b|\bmark\b")


@dataclass(frozen=True, slots=True)
class _Case:
    """A request, and how many pages are free in DMA, DMA32 and Movable before it."""

    gfp: str
    order: int
    dma: int
    dma32: int
    movable: int

    def boot(self) -> Kernel:
        """Return the machine before the request."""
        return zone_worlds.three_zones(DMA=self.dma, DMA32=self.dma32, Movable=self.movable)


# Each drawer makes one kind of case. The ranges lie between marks of zone_worlds.three_zones():
# DMA 39/48/57 with a reserve of 131, or 189 against Movable; DMA32 346/432/518 with 0, or 58;
# Movable 32/70/108.
_Drawer = Callable[[Random], _Case]


def _first_passes(r: Random) -> _Case:
    gfp = r.choice(("GFP_KERNEL", "GFP_ATOMIC", "GFP_NOWAIT"))
    return _Case(gfp, 0, r.randint(60, 160), r.randint(436, 600), r.randint(500, 3000))


def _lower_passes(r: Random) -> _Case:
    gfp = r.choice(("GFP_KERNEL", "GFP_NOWAIT"))
    return _Case(gfp, 0, r.randint(190, 320), r.randint(352, 428), r.randint(500, 3000))


def _reserve_refuses(r: Random) -> _Case:
    return _Case("GFP_NOWAIT", 0, r.randint(70, 165), r.randint(200, 340), r.randint(200, 900))


def _slow_path(r: Random) -> _Case:
    gfp = r.choice(("GFP_KERNEL", "GFP_NOWAIT"))
    return _Case(gfp, 0, r.randint(70, 165), r.randint(352, 428), r.randint(200, 900))


def _atomic(r: Random) -> _Case:
    return _Case("GFP_ATOMIC", 0, r.randint(60, 140), r.randint(140, 330), r.randint(200, 900))


def _movable(r: Random) -> _Case:
    return _Case("GFP_HIGHUSER_MOVABLE", 0, r.randint(60, 190), r.randint(438, 486), 32)


def _dma(r: Random) -> _Case:
    return _Case("GFP_NOWAIT|GFP_DMA", 0, r.randint(60, 165), r.randint(500, 900), 600)


def _large(r: Random) -> _Case:
    # 8 to 15 pages above low: too few once the block's other 15 pages are taken off.
    return _Case("GFP_NOWAIT", 4, r.randint(70, 150), r.randint(440, 446), r.randint(200, 900))


_ALWAYS: tuple[_Drawer, ...] = (_reserve_refuses, _slow_path, _atomic, _lower_passes)
_SOMETIMES: tuple[_Drawer, ...] = (_first_passes, _movable, _dma, _large)


@cache
def _cases(seed: int) -> tuple[_Case, ...]:
    """Return six cases: four kinds that every seed has, and two of the others."""
    random = Random(seed)
    drawers = [*_ALWAYS, *random.sample(_SOMETIMES, CASES - len(_ALWAYS))]
    random.shuffle(drawers)
    return tuple(draw(random) for draw in drawers)


def machine(seed: int, number: int) -> Kernel:
    """Boot the machine of case 1 to 6, as it is before the request."""
    return _cases(seed)[number - 1].boot()


@cache
def _plan(case: _Case) -> Plan:
    """Return how the request goes."""
    kernel = case.boot()
    before = kernel.snapshot()
    zonelist = [(zone.nid, zone.idx) for zone in kernel.zonelist(0, False)]
    kernel.record()
    kernel.alloc_pages(case.gfp, case.order)
    request = Request(encode(case.gfp), case.order, 0)
    return Plan.of(before, zonelist, request, kernel.why())


def _mark(plan: Plan) -> str:
    """Return the attempt that got the page: at the low mark, or in the slow path at min."""
    assert plan.served is not None
    name = plan.checks(len(plan.moves))[plan.served].mark
    return "min" if name == "min" else "low"


def problem(seed: int) -> Problem:
    """Return the marks, which are the same in every case, and the six cases."""
    lines = [text("lesson.zones.serves.marks")]
    lines += [f"  {line}" for line in zone_worlds.marks(zone_worlds.three_zones()).split("\n")]
    for number, case in enumerate(_cases(seed), 1):
        asked = text(
            "lesson.zones.serves.ask",
            gfp=case.gfp,
            size=order_text(case.order),
            dma=f"{case.dma:,}",
            dma32=f"{case.dma32:,}",
            movable=f"{case.movable:,}",
        )
        lines.append(f"{number}. {asked}")
    return Problem(tuple(lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of six answers: a zone and a mark, such as "DMA32 low", or "none".

    An answer of another form is not answered yet, and told so.
    """
    cases = _cases(seed)
    pairs = enumerate(zip(cases, spread(answers, CASES), strict=True), 1)
    return Sheet(tuple((f"{n}.", _check_one(c, answer, seed, n)) for n, (c, answer) in pairs))


def _check_one(case: _Case, answer: object, seed: int, number: int) -> Verdict:
    plan = _plan(case)
    told = _told(plan)
    if is_blank(answer):
        return fill_in()
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    try:
        said, mark = _read(answer, plan)
    except Misfit as misfit:
        return Verdict(Outcome.OPEN, str(misfit))
    served = NOBODY if plan.served is None else str(plan.served)
    if said != served:
        verdict = judge(plan, said)
        walk = text("lesson.zones.serves.walk", seed=seed, number=number, gfp=case.gfp,
                    order=case.order)  # fmt: skip
        experiment = f"{verdict.idea_text} {walk}".strip()
        return Verdict(Outcome.WRONG, verdict.sentence, verdict.idea_name, experiment)
    if said != NOBODY and mark != _mark(plan):
        sentence = text("lesson.zones.serves.other_mark", said=mark, told=told)
        return miss(sentence, "only_low" if mark == "low" else "only_min")
    return Verdict(Outcome.RIGHT, told)


def _told(plan: Plan) -> str:
    """Return what became of the request, with the inequality that decided."""
    if plan.served is None:
        return text("lesson.zones.serves.nobody")
    name = plan.entries[plan.served].name
    look = next(m for m in reversed(plan.moves) if m.check and m.entry == plan.served)
    return text("lesson.zones.serves.told", zone=name, mark=_mark(plan), look=look.says)


def _read(answer: object, plan: Plan) -> tuple[str, str]:
    """Return (answer as the judge takes it, mark) of what a learner wrote.

    Raises:
        Misfit: no zone of this machine, or no mark.
    """
    said = str(answer).strip().lower().rstrip(".")
    if _NONE.fullmatch(said):
        return NOBODY, ""
    known = [(entry.zone.nid, entry.zone.name) for entry in plan.entries]
    found = places(_MARK.sub(" ", said), known)
    marks = [match for match in _MARK.findall(said) if match]
    if len(found) != 1 or found[0] not in known:
        raise Misfit(text("lesson.zones.serves.one_zone", answer=repr(answer)))
    if len(marks) != 1 or marks[0] == "high":
        raise Misfit(text("lesson.zones.serves.which_mark", answer=repr(answer)))
    return str(known.index(found[0])), marks[0]
