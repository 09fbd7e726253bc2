"""Lesson 09: three functions whose sizes may overflow, to be patched.

The check plays each of them with ordinary counts, and with counts that somebody chose to make the
size wrap. What comes back must have room for all that was asked for, or be NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from kmemkit.gfp import GFP_KERNEL
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
from kmemkit.lessons.kmalloc_check import miss
from kmemkit.lessons.kmalloc_worlds import dirty, given, live, machine, room
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.slab_calls import ZERO_SIZE_PTR
from kmemkit.strings import text

__all__ = ("NAMES", "check", "problem")

NAMES = ("new_table", "new_message", "grow_table")
_WORD = 1 << 64
_OLD = b"kept"


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the functions with the numbers of a seed. `head` is 0 where there is only an array."""

    name: str
    head: int
    item: int
    ordinary: tuple[int, ...]
    hostile: tuple[int, ...]

    def need(self, n: int) -> int:
        """Return how many bytes `n` elements take."""
        return self.head + n * self.item

    def idea(self, n: int, room: int) -> str:
        """Return the idea that ends with a block of `room` bytes for a hostile count."""
        wraps = given(self.need(n) % _WORD) == room
        return "check_comes_after" if wraps or not self.head else "half_is_enough"


@dataclass(frozen=True, slots=True)
class _Played:
    """What came of one call: the kernel after it, the old array if there was one, the answer."""

    kernel: Kernel
    old: int | None
    at: int | None

    @property
    def lost(self) -> int:
        """How many blocks neither what came back leads to, nor the array that is still there."""
        held = self.old if self.at is None else self.at
        return self.kernel.kmemleak_scan([held]).count("unreferenced object")


def _parts(seed: int) -> list[_Part]:
    random = Random(f"kmalloc patch {seed}")
    parts = []
    for name in NAMES:
        item, head = random.choice((12, 20, 24, 40, 48)), 0
        wraps = [-(-_WORD // item) + random.randint(1, 4)]
        if name == "new_message":
            item, head = random.choice((8, 16)), random.choice((40, 56))
            # The product wraps; then only the sum does.
            wraps = [_WORD // item + random.randint(5, 9), _WORD // item - 1]
        ordinary = (random.randint(2, 9), random.randint(50, 150))
        parts.append(_Part(name, head, item, ordinary, tuple(wraps)))
    return parts


def problem(seed: int) -> Problem:
    """Return what the three functions have to do, with the sizes of the seed."""
    lines = [text("lesson.kmalloc.patch.ask")]
    for n, part in enumerate(_parts(seed), 1):
        what = text(f"lesson.kmalloc.patch.{part.name}", head=part.head, item=part.item)
        lines.append(f"  {n}. {what}")
    return Problem(tuple(lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of the three functions by playing them; any repair that works is right."""
    return judge_each(answers, _parts(seed), _check_one)


def _check_one(part: _Part, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, text(f"lesson.kmalloc.patch.hint_{part.name}"))
    if not callable(answer):
        sentence = text("lesson.kmalloc.no_function", given=repr(answer), name=part.name)
        return Verdict(Outcome.OPEN, sentence)
    try:
        for n in part.ordinary:
            if verdict := _ordinary(part, n, _play(part, answer, n)):
                return verdict
        for n in part.hostile:
            if verdict := _hostile(part, n, _play(part, answer, n)):
                return verdict
    except Misfit as misfit:
        return miss(str(misfit))
    return Verdict(Outcome.RIGHT, _say("fine"))


def _say(key: str, **values: object) -> str:
    return text(f"lesson.kmalloc.patch.{key}", **values)


def _play(part: _Part, function: Callable[..., object], n: int) -> _Played:
    """Call a function on a machine whose free blocks hold old data.

    Raises:
        Misfit: it raised an error, or returned the address of no block.
    """
    kernel = machine(init_on_alloc=False)
    dirty(kernel, 64, 128, 256, 512, 1024, 2048)
    kernel.kmemleak = True
    old = None
    arguments: Sequence[int] = (part.head, n, part.item) if part.head else (n, part.item)
    if part.name == "grow_table":
        old = kernel.kmalloc(part.item, GFP_KERNEL)
        kernel.write(old or 0, _OLD)
        arguments = (old or 0, n, part.item)
    try:
        at = function(kernel, *arguments)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        said = f"{type(error).__name__}: {first}"
        raise Misfit(_say("raised", n=f"{n:,}", error=said)) from error
    blocks = (*live(kernel), ZERO_SIZE_PTR)
    if at is not None and (not isinstance(at, int) or at not in blocks):
        raise Misfit(_say("no_address", n=f"{n:,}", given=repr(at)))
    return _Played(kernel, old, at)


def _ordinary(part: _Part, n: int, played: _Played) -> Verdict | None:
    """Return what is wrong after a count that a caller may well have, None if nothing."""
    kernel, at, need = played.kernel, played.at, part.need(n)
    if at is None:
        return miss(_say("refused", n=n, need=f"{need:,}"), "own_limit")
    if (got := room(kernel, at)) < need:
        return miss(_say("short", n=n, need=f"{need:,}", room=f"{got:,}"))
    if part.name == "new_message" and any(kernel.read(at, need)):
        return miss(_say("not_zero", n=n), "fresh_is_zero")
    if part.name == "grow_table" and kernel.read(at, len(_OLD)) != _OLD:
        return miss(_say("not_copied", n=n), "grow_copies")
    if played.lost:
        return miss(_say("leaked", n=n, count=played.lost), "old_goes_away")
    return None


def _hostile(part: _Part, n: int, played: _Played) -> Verdict | None:
    """Return what is wrong after a count that makes the size wrap, None if nothing."""
    kernel, at = played.kernel, played.at
    if at is not None:
        got = room(kernel, at)
        sentence = _say("short", n=f"{n:,}", need=f"{part.need(n):,}", room=f"{got:,}")
        return miss(sentence, part.idea(n, got))
    if played.old is not None and played.old not in live(kernel):
        return miss(_say("old_freed", n=f"{n:,}"), "failure_frees")
    return None
