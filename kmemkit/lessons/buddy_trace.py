"""Lesson 05: predict ten calls, one after the other.

The world is `worlds.movable(seed)`, every call is for movable pages, so split, merge and list order
decide alone. The check runs the ten calls again and asks BuddyLab's judge about each prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random

from kmemkit.gfp import GFP_HIGHUSER_MOVABLE, gfp_migratetype
from kmemkit.lessons import worlds
from kmemkit.lessons._check import (
    Outcome,
    Problem,
    Sheet,
    Verdict,
    fill_in,
    is_blank,
    is_unknown,
    kindly,
    number,
    spread,
)
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.mmzone import MAX_PAGE_ORDER
from kmemkit.snapshot import Snapshot, order_text
from kmemkit.strings import text
from kmemkit.views.prediction import Answer, Question, judge

__all__ = ("CALLS", "check", "problem", "world")

CALLS = 10
_GFP = "GFP_HIGHUSER_MOVABLE"
_FAILS = {"null", "none", "it fails", "fails"}
#: Sets of calls to try in one world before the next world is tried.
_DRAWS = 50


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the trace. A free names its block by pfn, or by the call that returned it."""

    order: int
    frees: bool = False
    pfn: int | None = None
    source: int | None = None

    def code(self) -> str:
        """Return the call as C would have it."""
        if not self.frees:
            return f"alloc_pages({_GFP}, {self.order})"
        block = f"{self.pfn:#x}" if self.source is None else f"p{self.source}"
        return f"free_pages({block}, {self.order})"


@dataclass(frozen=True, slots=True)
class _Played:
    """One call after it was made: the machine before and after, and what was given or freed."""

    call: _Call
    before: Snapshot
    after: Snapshot
    pfn: int | None

    def question(self) -> Question:
        """Return the call as BuddyLab's judge takes it."""
        migratetype = int(gfp_migratetype(GFP_HIGHUSER_MOVABLE))
        pfn = self.pfn if self.call.frees else None
        return Question(self.call.code(), self.call.order, migratetype, pfn)


def world(seed: int) -> Kernel:
    """Boot the machine of a seed, as it is before the first call."""
    return worlds.movable(_plan(seed)[0])


def _play(kernel: Kernel, calls: tuple[_Call, ...]) -> Iterator[_Played]:
    """Make the calls, and yield each with the machine around it."""
    results: list[int | None] = []
    for call in calls:
        before = kernel.snapshot()
        if call.frees:
            pfn = call.pfn if call.source is None else results[call.source - 1]
            kernel.free_pages(pfn, call.order)
        else:
            pfn = kernel.alloc_pages(GFP_HIGHUSER_MOVABLE, call.order)
        results.append(pfn)
        yield _Played(call, before, kernel.snapshot(), pfn)


@cache
def _plan(seed: int) -> tuple[int, tuple[_Call, ...]]:
    """Return the world's seed and ten calls that show every rule of the lesson."""
    random = Random(seed)
    while True:
        start = random.randrange(1 << 30)
        kernel = worlds.movable(start)
        for _ in range(_DRAWS):
            played = _draw(random, kernel.clone())
            if _shows_every_rule(played):
                return start, tuple(step.call for step in played)


def _draw(random: Random, kernel: Kernel) -> list[_Played]:
    """Draw and make ten calls that may be made in this world: five requests and five frees."""
    now = kernel.snapshot()
    infos = map(now.page, range(now.end_pfn))
    held: list[tuple[int, int, int | None]] = [
        (info.pfn, info.order, None)
        for info in infos
        if info.pfn == info.head and info.kind.allocated
    ]
    frees = [True] * 5 + [False] * 5
    random.shuffle(frees)
    played = []
    for place, free in enumerate(frees, 1):
        if free:
            pfn, order, source = held.pop(random.randrange(len(held)))
            call = _Call(order, True, pfn if source is None else None, source)
            kernel.free_pages(pfn, order)
            given: int | None = pfn
        else:
            order = random.choices((0, 1, 2), (50, 30, 20))[0]
            call = _Call(order)
            given = kernel.alloc_pages(GFP_HIGHUSER_MOVABLE, order)
            if given is not None:
                held.append((given, order, place))
        before, now = now, kernel.snapshot()
        played.append(_Played(call, before, now, given))
    return played


def _shows_every_rule(played: list[_Played]) -> bool:
    """Return whether a trace splits, merges twice in a row, must not merge once, and reuses."""
    splits = merges = apart = reuses = 0
    freed: int | None = None
    for step in played:
        if step.pfn is None:
            return False
        pfn, order = step.pfn, step.call.order
        if not step.call.frees:
            splits += step.before.page(pfn).order > order
            reuses += pfn == freed
            continue
        freed = pfn
        now = step.after.page(pfn)
        merges += now.order >= order + 2
        apart += now.order == order and _free_neighbour(step.before, pfn, order)
    return bool(splits and merges and apart and reuses)


def _free_neighbour(snapshot: Snapshot, pfn: int, order: int) -> bool:
    """Return whether the neighbour that is not the buddy is a free block of the same order."""
    size = 1 << order
    other = pfn - size if pfn ^ size > pfn else pfn + size
    return any(other in zone.free_list(order, 1) for zone in snapshot.zones)


def problem(seed: int) -> Problem:
    """Return the ten calls of a seed, and the free lists before the first."""
    _, calls = _plan(seed)
    lines = [text("lesson.buddy_trace.lists")]
    lines += [f"  {line}" for line in worlds.free_lists(world(seed).snapshot()).split("\n")]
    lines += ["", text("lesson.buddy_trace.calls")]
    for place, call in enumerate(calls, 1):
        left = f"p{place} = " if not call.frees else ""
        asked = text(f"lesson.buddy_trace.ask_{'order' if call.frees else 'pfn'}")
        lines.append(f"{place:>4}. {left + call.code():<44} {asked}")
    return Problem(tuple(lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of ten predictions: a pfn for each request, an order for each free.

    Only the first wrong one is explained; those behind it most often follow from it.

    An answer of another form is not answered yet, and told so.
    """
    given = spread(answers, CALLS)
    rows: list[tuple[str, Verdict]] = []
    first_wrong = 0
    played = _play(world(seed), _plan(seed)[1])
    for place, (step, answer) in enumerate(zip(played, given, strict=True), 1):
        verdict = _check_one(step, answer, seed)
        if verdict.outcome is Outcome.WRONG:
            if first_wrong:
                later = text("lesson.buddy_trace.later", first=first_wrong)
                verdict = Verdict(Outcome.WRONG, later)
            first_wrong = first_wrong or place
        rows.append((f"{place:>2}.", verdict))
    return Sheet(tuple(rows))


def _check_one(step: _Played, answer: object, seed: int) -> Verdict:
    """Judge one prediction with the machine before and after the call."""
    if is_blank(answer):
        return fill_in()
    said: int | Answer | None = number(answer)
    if is_unknown(answer):
        said = Answer.UNKNOWN
    elif isinstance(answer, str) and answer.strip().lower() in _FAILS:
        said = Answer.FAILS
    if said is None:
        return Verdict(Outcome.OPEN, text("lesson.not_a_number", answer=repr(answer)))
    verdict = judge(step.question(), said, step.before, step.after, step.pfn)
    told = _say(step, step.after.page(step.pfn or 0).order if step.call.frees else step.pfn)
    if verdict.right:
        return Verdict(Outcome.RIGHT, told)
    if verdict.right is None:
        return Verdict(Outcome.UNKNOWN, told)
    given = _say(step, said if isinstance(said, int) else None)
    sentence = text("lesson.buddy_trace.said", said=given, told=told)
    experiment = f"{verdict.idea_text} {text('lesson.buddy_trace.play', seed=seed)}".strip()
    return Verdict(Outcome.WRONG, sentence, verdict.idea_name, experiment)


def _say(step: _Played, value: int | None) -> str:
    """Return a prediction or a result in words: a pfn, NULL, or an order with its size."""
    if value is None:
        return "NULL"
    if not step.call.frees:
        return f"pfn {value:#x}"
    return order_text(value) if 0 <= value <= MAX_PAGE_ORDER else str(value)
