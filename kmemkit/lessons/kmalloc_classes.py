"""Lesson 09: how large is the block, and how much of it did nobody ask for?

The check asks a simulated kernel for each size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

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
from kmemkit.lessons.kmalloc_check import miss
from kmemkit.lessons.kmalloc_worlds import given
from kmemkit.strings import text

__all__ = ("check", "problem")

_PAGE = 4096
#: From where to where the sizes are drawn: each stretch has a trap of its own.
_STRETCHES = ((65, 95), (129, 191), (200, 255), (257, 500), (4097, 8000), (8193, 12000))
_NUMBER = re.compile(r"\d+(?:[,_]\d{3})*")


def _sizes(seed: int) -> list[int]:
    random = Random(f"kmalloc classes {seed}")
    sizes = [random.randint(low, high) for low, high in _STRETCHES]
    random.shuffle(sizes)
    return sizes


def problem(seed: int) -> Problem:
    """Return the six requests of a seed."""
    ask = text("lesson.kmalloc.classes.ask")
    lines = (f"{n}. kmalloc({size}, GFP_KERNEL)" for n, size in enumerate(_sizes(seed), 1))
    return Problem((ask, *lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of six answers, each the block's size and what is left over: "96 12".

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _sizes(seed), _check_one)


def _check_one(size: int, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    room = given(size)
    told = text("lesson.kmalloc.classes.told", size=size, room=f"{room:,}", left=f"{room - size:,}")
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    parts = answer if isinstance(answer, tuple | list) else [answer]
    found = _NUMBER.findall(" ".join(map(str, parts)))
    if len(found) != 2:
        return Verdict(Outcome.OPEN, text("lesson.kmalloc.classes.two", given=repr(answer)))
    said, left = (int(re.sub(r"[,_]", "", number)) for number in found)
    if (said, left) == (room, room - size):
        return Verdict(Outcome.RIGHT, told)
    if said == room:
        sentence = text("lesson.kmalloc.classes.wrong_left", room=f"{room:,}", left=f"{left:,}")
        return miss(sentence, "all_is_mine" if not left else "")
    sentence = text("lesson.kmalloc.classes.wrong_room", said=f"{said:,}", size=size)
    return miss(sentence, next(_ideas(size, room, said), ""))


def _ideas(size: int, room: int, said: int) -> Iterator[str]:
    """Yield the ideas that would have given the wrong size `said`, the most telling first."""
    if said == size:
        yield "gives_exactly"
    if said == 1 << (size - 1).bit_length():
        yield "powers_only"
    if room <= 2 * _PAGE and said >= _PAGE and not said % _PAGE:
        yield "whole_pages"
    if room > 2 * _PAGE and said == -(-size // _PAGE) * _PAGE:
        yield "just_enough_pages"
    if said < size:
        yield "smaller_is_near"
