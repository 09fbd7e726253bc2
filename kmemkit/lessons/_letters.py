"""Exercises that show lettered lines and ask which of them something is true of.

`lettered` writes the lines, `judge_letters` reads an answer such as "B D" and judges every line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from string import ascii_uppercase
from typing import NamedTuple

from kmemkit.lessons._check import Misfit, Outcome, Sheet, Verdict, fill_in, is_blank, is_unknown
from kmemkit.strings import text

__all__ = ("Line", "judge_letters", "lettered")

_LETTERS = re.compile(r"[A-Z]")


class Line(NamedTuple):
    """What is so of one line: whether its letter belongs to the answer, why, and what a miss is."""

    named: bool
    told: str
    missed: Verdict


def lettered(lines: Iterable[object]) -> tuple[str, ...]:
    """Return the lines of an exercise, each behind its letter."""
    return tuple(f"{x}. {line}" for x, line in zip(ascii_uppercase, lines, strict=False))


def judge_letters(answer: object, lines: Sequence[Line], misfit: str) -> Sheet:
    """Judge the letters that an answer names, as "B D" or ["B", "D"]; "none" names none.

    Args:
        answer: as the learner gave it.
        lines: what is so of each line, in the order of their letters.
        misfit: key of the sentence that says which form was asked for.

    Raises:
        Misfit: the answer names no line, or one that is not there.
    """
    parts = answer if isinstance(answer, list | tuple | set) else [answer]
    joined = "" if answer is None else " ".join(map(str, parts))
    if is_blank(joined):
        return Sheet((("", fill_in()),))
    rows = list(zip(ascii_uppercase, lines, strict=False))
    if is_unknown(joined):
        return Sheet(tuple((f"{x}.", Verdict(Outcome.UNKNOWN, one.told)) for x, one in rows))
    none = joined.strip().lower() == "none"
    named = set(_LETTERS.findall(re.sub(r"\band\b", "", joined.lower()).upper()))
    last = ascii_uppercase[len(lines) - 1]
    if not none and (not named or max(named) > last):
        raise Misfit(text(misfit, given=repr(answer), last=last))
    return Sheet(tuple((f"{x}.", _verdict(one, not none and x in named)) for x, one in rows))


def _verdict(line: Line, named: bool) -> Verdict:
    return Verdict(Outcome.RIGHT, line.told) if named == line.named else line.missed
