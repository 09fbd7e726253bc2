"""Lesson 07: the rungs of one request, shuffled; put them in the order in which it comes to them.

The request is made anew for every check, and its own road says what is right.
"""

from __future__ import annotations

from random import Random
from string import ascii_uppercase

from kmemkit.lessons import ladder_worlds
from kmemkit.lessons._check import (
    Misfit,
    Outcome,
    Problem,
    Verdict,
    fill_in,
    is_blank,
    is_unknown,
)
from kmemkit.lessons.ladder_check import letters_in_order, miss
from kmemkit.snapshot import order_text
from kmemkit.strings import text
from kmemkit.why import RUNGS

__all__ = ("check", "problem")

#: (moment, mask, order) of requests that come to eight rungs or nine.
_ROADS = (
    ("full", "GFP_KERNEL", 1),
    ("full", "GFP_KERNEL", 2),
    ("full", "GFP_KERNEL", 3),
    ("full", "GFP_KERNEL|__GFP_NOFAIL", 4),
    ("full", "GFP_KERNEL|__GFP_RETRY_MAYFAIL", 4),
    ("full", "GFP_NOFS", 2),
    ("scattered", "GFP_KERNEL", 2),
    ("scattered", "GFP_KERNEL", 4),
    ("scattered", "GFP_KERNEL|__GFP_NOFAIL", 4),
)
#: Rung that was named too early -> the idea behind it.
_TOO_EARLY = {
    "oom": "kills_early",
    "reclaim": "reclaim_first",
    "compact": "reclaim_first",
    "reserves": "rights_first",
    "nofail": "nofail_first",
}


class _Shuffled:
    """One request's rungs, in their order and under their letters."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        self.moment, self.mask, self.order = random.choice(_ROADS)
        self.rungs = [name for name in self._run().names if name not in ("entry", "null")]
        mixed = self.rungs.copy()
        while mixed == self.rungs:
            random.shuffle(mixed)
        self.letters = dict(zip(ascii_uppercase, mixed, strict=False))

    def _run(self) -> ladder_worlds.Run:
        return ladder_worlds.at(self.moment, self.mask, self.order)

    @property
    def code(self) -> str:
        """A call that shows the road."""
        return f'ladder_worlds.at("{self.moment}", "{self.mask}", {self.order})'

    @property
    def told(self) -> str:
        """The right order in words."""
        return text("lesson.ladder.order_told", rungs=" → ".join(map(_say, self.rungs)))


def _say(name: str) -> str:
    return text(f"road.rung.{name}")


def problem(seed: int) -> Problem:
    """Return a request and its rungs in disorder."""
    asked = _Shuffled(seed)
    state = text(f"lesson.ladder.moment.{asked.moment}")
    call = f"alloc_pages({asked.mask}, {asked.order})"
    lines = [text("lesson.ladder.order_ask", state=state, call=call, size=order_text(asked.order))]
    lines += [f"  {letter}. {_say(name)}" for letter, name in asked.letters.items()]
    return Problem(tuple(lines))


def check(answer: object, seed: int) -> Verdict:
    """Judge the letters in order, as "C A B ..." or ["C", "A", "B", ...].

    Only the first wrong one is judged. An answer of another form is not answered yet, and told so.
    """
    asked = _Shuffled(seed)
    if is_blank(answer):
        return fill_in()
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, asked.told)
    try:
        letters = letters_in_order(answer, len(asked.letters))
    except Misfit as misfit:
        return Verdict(Outcome.OPEN, str(misfit))
    said = [asked.letters[letter] for letter in letters]
    for place, (one, other) in enumerate(zip(said, asked.rungs, strict=True), 1):
        if one != other:
            sentence = text(
                "lesson.ladder.order_wrong",
                place=place, said=_say(one), truth=_say(other), code=asked.code,
            )  # fmt: skip
            return miss(sentence, _idea(one, other))
    return Verdict(Outcome.RIGHT, asked.told)


def _idea(said: str, truth: str) -> str:
    """Return the idea that puts rung `said` where `truth` comes."""
    if truth == "compact_first":
        return "compact_after"
    if truth == "kswapd":
        return "kswapd_late"
    return _TOO_EARLY.get(said, "dear_first") if RUNGS.index(said) > RUNGS.index(truth) else ""
