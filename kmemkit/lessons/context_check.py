"""What the exercises of lesson 03 share: a miss with its idea, and a choice of lettered lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from string import ascii_uppercase

from kmemkit.lessons._check import Misfit, is_blank, is_unknown, wrong
from kmemkit.strings import text

__all__ = ("letters_of", "miss")

_LETTERS = re.compile(r"[A-Z]")


#: The verdict on a wrong answer; its idea is a key under `lesson.context.idea`.
miss = partial(wrong, section="context")


def letters_of(answer: object, lines: Sequence[object]) -> set[str] | None:
    """Return which lettered lines an answer such as "B D" names; None where it names none.

    "none" is an answer too; None stands for a blank one and for "I do not know".

    Raises:
        Misfit: it names no line, or one that is not there.
    """
    last = ascii_uppercase[len(lines) - 1]
    parts = answer if isinstance(answer, list | tuple | set) else [answer]
    joined = "" if answer is None else " ".join(map(str, parts))
    if is_blank(joined) or is_unknown(joined):
        return None
    if joined.strip().lower() == "none":
        return set()
    named = set(_LETTERS.findall(re.sub(r"\band\b", "", joined.lower()).upper()))
    if not named or max(named) > last:
        raise Misfit(text("lesson.context.letters", given=repr(answer), last=last))
    return named
