"""What the exercises of lesson 07 share: a miss with its idea, and lettered lines put in a row."""

from __future__ import annotations

import re
from functools import partial
from string import ascii_uppercase

from kmemkit.lessons._check import Misfit, wrong
from kmemkit.strings import text

__all__ = ("letters_in_order", "miss")

_LETTERS = re.compile(r"[A-Z]")


#: The verdict on a wrong answer; its idea is a key under `lesson.ladder.idea`.
miss = partial(wrong, section="ladder")


def letters_in_order(answer: object, count: int) -> list[str]:
    """Return the first `count` letters in the order in which an answer such as "C A B" has them.

    Raises:
        Misfit: a letter is missing, there twice or not one of them.
    """
    parts = answer if isinstance(answer, list | tuple) else [answer]
    letters = _LETTERS.findall(" ".join(map(str, parts)).upper())
    if sorted(letters) != list(ascii_uppercase[:count]):
        last = ascii_uppercase[count - 1]
        raise Misfit(text("lesson.ladder.letters", given=repr(answer), count=count, last=last))
    return letters
