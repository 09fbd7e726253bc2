"""Lesson 06: predict moves of a compaction: which page goes next, and where to.

The machine is `fragmentation_worlds.scattered()`. A check compacts it again and asks the judge of
the Compaction view about each move.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

from kmemkit.lessons import fragmentation_worlds
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
from kmemkit.lessons.fragmentation_check import typed_moves
from kmemkit.mm.kernel import Kernel
from kmemkit.strings import text
from kmemkit.views._compaction_quiz import judge
from kmemkit.views._compaction_steps import Moves

__all__ = ("check", "problem", "world")


@dataclass(frozen=True, slots=True)
class _Plan:
    """A compaction, and the numbers of the steps that are asked about."""

    start: int
    moves: Moves
    asked: tuple[int, ...]


def world(seed: int) -> Kernel:
    """Boot the machine of a seed, as it is before the compaction."""
    return fragmentation_worlds.scattered(_plan(seed).start)


@cache
def _plan(seed: int) -> _Plan:
    """Return a compaction that empties two pageblocks and fills two, and the moves asked about."""
    random = Random(seed)
    while True:
        start = random.randrange(1 << 30)
        kernel = fragmentation_worlds.scattered(start)
        before = kernel.snapshot()
        kernel.record()
        kernel.compact_memory()
        step = kernel.history[-1]
        moves = Moves(before, step.events, step.snapshot, call=step.call)
        asked = _turns(moves, before.zones[0].pageblock_order)
        if asked and len(set(asked)) == len(asked):
            return _Plan(start, moves, asked)


def _turns(moves: Moves, pageblock_order: int) -> tuple[int, ...]:
    """Return the first two moves, the first out of another pageblock, the first into another one.

    () where there are none.
    """
    steps = [n for n, scan in enumerate(moves.scans) if scan.kind == "move"]
    if len(steps) < 2:
        return ()
    first = moves.scans[steps[0]]
    places = []
    for end in ("src", "dst"):
        home = getattr(first, end) >> pageblock_order
        others = [n for n in steps if getattr(moves.scans[n], end) >> pageblock_order != home]
        if not others:
            return ()
        places.append(others[0])
    return (steps[0], steps[1], *places)


def problem(seed: int) -> Problem:
    """Return what is asked of the compaction of a seed."""
    asked = ("first", "second", "next_source", "next_target")
    lines = [text("lesson.fragmentation.scan.intro")]
    lines += [f"{n}. {text(f'lesson.fragmentation.scan.{key}')}" for n, key in enumerate(asked, 1)]
    return Problem(tuple(lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of four moves, each as "0x12 -> 0x7e".

    An answer of another form is not answered yet, and told so.
    """
    plan = _plan(seed)
    return judge_each(answers, plan.asked, lambda at, answer: _check_one(plan, at, answer))


def _check_one(plan: _Plan, at: int, answer: object) -> Verdict:
    """Judge the prediction of one step."""
    if is_blank(answer):
        return fill_in()
    scan = plan.moves.scans[at]
    said = None
    if not is_unknown(answer):
        try:
            [said] = typed_moves(answer)
        except (Misfit, ValueError):
            given = repr(answer)
            return Verdict(Outcome.OPEN, text("lesson.fragmentation.not_moves", given=given))
    verdict = judge(scan, said, plan.moves.before, plan.moves[at - 1].snapshot)
    told = text("compaction.told", src=f"{scan.src:#x}", dst=f"{scan.dst:#x}")
    if verdict.right is None:
        return Verdict(Outcome.UNKNOWN, told)
    if verdict.right:
        return Verdict(Outcome.RIGHT, told)
    return Verdict(Outcome.WRONG, verdict.sentence, verdict.idea_name, verdict.idea_text)
