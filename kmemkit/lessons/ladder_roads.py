"""Lesson 07: five roads and five masks; which mask took which road?

So one learns which flag removes which rung. A mask is right if its own run from that moment goes
to the same rungs and ends alike.
"""

from __future__ import annotations

import re
from random import Random
from string import ascii_uppercase

from kmemkit.lessons import ladder_worlds
from kmemkit.lessons._check import (
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
from kmemkit.lessons.ladder_check import miss
from kmemkit.snapshot import order_text
from kmemkit.strings import text

__all__ = ("check", "problem")

_COUNT = 5
_MASKS = (
    "GFP_KERNEL & ~__GFP_RECLAIM",
    "GFP_NOWAIT",
    "GFP_KERNEL & ~__GFP_KSWAPD_RECLAIM",
    "GFP_KERNEL",
    "GFP_KERNEL|__GFP_NORETRY",
    "GFP_KERNEL|__GFP_RETRY_MAYFAIL",
    "GFP_KERNEL|__GFP_NOFAIL",
    "GFP_NOFS",
    "GFP_NOIO",
)
#: Rung -> the idea of who expects it where it is not, or misses it where it is.
_IDEAS = {
    "kswapd": "kswapd_always",
    "reclaim": "sleeps_anyway",
    "compact_first": "compacts_anyway",
    "compact": "compacts_anyway",
    "oom": "kills_always",
    "nofail": "nofail_first",
}


class _Roads:
    """The roads of a seed in their order, and the masks under their letters."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        self.order = random.choice((0, 2, 4))
        masks: dict[tuple[object, ...], str] = {}
        for mask in random.sample(_MASKS, len(_MASKS)):
            masks.setdefault(_way(self.run(mask)), mask)
        self.roads = list(masks.values())[:_COUNT]
        self.letters = dict(zip(ascii_uppercase, random.sample(self.roads, _COUNT), strict=False))

    def run(self, mask: str) -> ladder_worlds.Run:
        """Make the request of a mask."""
        return ladder_worlds.at("full", mask, self.order)


def _way(run: ladder_worlds.Run) -> tuple[object, ...]:
    """Return what tells one road from another: its rungs and its end."""
    return (*_rungs(run), run.end)


def _rungs(run: ladder_worlds.Run) -> list[str]:
    return [name for name in run.names if name not in ("entry", "null")]


def _say(run: ladder_worlds.Run) -> str:
    rungs = ", ".join(text(f"ladder.short.{name}") for name in _rungs(run))
    return f"{rungs} → {text(f'lesson.ladder.ends.{run.end}')}"


def problem(seed: int) -> Problem:
    """Return five roads from one moment, and five masks."""
    asked = _Roads(seed)
    state = text("lesson.ladder.moment.full")
    lines = [text("lesson.ladder.roads_ask", state=state, size=order_text(asked.order))]
    lines += [f"{n}. {_say(asked.run(mask))}" for n, mask in enumerate(asked.roads, 1)]
    lines += [f"  {letter}) {mask}" for letter, mask in asked.letters.items()]
    return Problem(tuple(lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of five letters, one mask for each road.

    An answer of another form is not answered yet, and told so.
    """
    asked = _Roads(seed)
    if isinstance(answers, str) and not is_unknown(answers):
        answers = re.findall(r"\w", answers) or None
    given = [answers] * _COUNT if is_unknown(answers) else answers
    return judge_each(given, asked.roads, lambda mask, answer: _check_one(asked, mask, answer))


def _check_one(asked: _Roads, mask: str, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, mask)
    letter = str(answer).strip().strip("().").upper()
    if letter not in asked.letters:
        told = text("lesson.ladder.roads_letter", given=repr(answer), last=max(asked.letters))
        return Verdict(Outcome.OPEN, told)
    said = asked.letters[letter]
    here, there = asked.run(mask), asked.run(said)
    if _way(here) == _way(there):
        return Verdict(Outcome.RIGHT, said)
    sentence = text("lesson.ladder.roads_wrong", said=said, road=_say(there))
    return miss(sentence, _idea(here, there))


def _idea(here: ladder_worlds.Run, there: ladder_worlds.Run) -> str:
    """Return the idea that takes one road for the other: by the first rung that they differ in."""
    apart = {*_rungs(here)} ^ {*_rungs(there)}
    for rung, idea in _IDEAS.items():
        if rung in apart:
            return idea
    return "ends_always" if here.end == "forever" else "kills_always"
