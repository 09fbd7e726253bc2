"""Verdicts on a learner's answers: what every exercise of this folder hands back.

A verdict says right, wrong, not known or not answered yet, with the numbers; a wrong one names the
idea that leads to that very answer and an experiment that shows otherwise. Verdicts print the same
text everywhere, so notebooks can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import wraps
from textwrap import wrap
from typing import TypeVar

from kmemkit.strings import text

__all__ = (
    "Misfit",
    "Outcome",
    "Problem",
    "Sheet",
    "Verdict",
    "fill_in",
    "is_blank",
    "is_unknown",
    "judge",
    "judge_each",
    "kindly",
    "number",
    "spread",
    "wrong",
)

#: JupyterLab breaks longer lines in the middle of a word.
WIDTH = 96
_UNKNOWN = {"?", "i do not know", "i don't know", "do not know", "don't know", "unknown", "idk"}
#: A number with the words and signs that people write around it.
_NUMBER = re.compile(r"(?:pfn|order)?\s*[:=]?\s*(0x[0-9a-f]+|[0-9]+)\s*(?:pages?|kb|bytes)?\.?")
#: What stands before the text of a line: "  a) ", "3. ".
_LABEL = re.compile(r" *(?:\w+[.)] +)?")

T = TypeVar("T")


class Outcome(Enum):
    """What became of one answer. The value is its key in the string table."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"  #: "I do not know": allowed, and counted
    OPEN = "open"  #: not answered yet, or not readable


def _fold(line: str, first: str = "", rest: str = "") -> list[str]:
    return wrap(line, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """What an exercise asks, ready to print."""

    lines: tuple[str, ...]

    def __str__(self) -> str:
        lines: list[str] = []
        for line in self.lines:
            head = _LABEL.match(line)
            first = head.group() if head else ""
            long = len(line) > WIDTH
            lines += _fold(line[len(first) :], first, " " * len(first)) if long else [line]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one answer; `idea` is the wrong idea behind it, `experiment` shows it."""

    outcome: Outcome
    sentence: str
    idea: str = ""
    experiment: str = ""

    def lines(self, label: str = "") -> list[str]:
        """Return the verdict as lines that fit a notebook, behind a label such as "3."."""
        head = text(f"lesson.outcome.{self.outcome.value}")
        first = f"{label} " if label else ""
        rest = " " * len(first)
        lines = _fold(f"{head}: {self.sentence}" if self.sentence else head, first, rest)
        if self.idea:
            lines += _fold(text("lesson.idea_line", idea=self.idea), rest + "  ", rest + "  ")
        if self.experiment:
            lines += _fold(self.experiment, rest + "  ", rest + "  ")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class Sheet:
    """The verdicts on an exercise of several parts, each with its label."""

    rows: tuple[tuple[str, Verdict], ...]

    def count(self, outcome: Outcome) -> int:
        """Return how many parts came out like this."""
        return sum(verdict.outcome is outcome for _, verdict in self.rows)

    @property
    def right(self) -> bool:
        """Whether every part is right."""
        return self.count(Outcome.RIGHT) == len(self.rows)

    def score(self) -> str:
        """Return the counts as one line."""
        counts = {outcome.value: self.count(outcome) for outcome in Outcome}
        return text("lesson.score", all=len(self.rows), **counts)

    def __str__(self) -> str:
        blank = fill_in()
        if all(verdict == blank for _, verdict in self.rows):
            return str(blank)
        lines: list[str] = []
        told: set[str] = set()
        for label, verdict in self.rows:
            # An experiment that stands further up need not be read twice.
            brief = verdict
            if verdict == blank:
                brief = replace(verdict, sentence="")
            elif verdict.experiment in told:
                brief = replace(verdict, experiment="")
            told.add(verdict.experiment)
            lines += brief.lines(label)
        return "\n".join([*lines, self.score()])

    def __repr__(self) -> str:
        return str(self)


def is_blank(answer: object) -> bool:
    """Return whether this is the place for an answer, still empty."""
    return answer is None or (isinstance(answer, str) and not answer.strip())


def is_unknown(answer: object) -> bool:
    """Return whether this says "I do not know"."""
    return isinstance(answer, str) and answer.strip().rstrip(".").lower() in _UNKNOWN


def number(answer: object) -> int | None:
    """Return the number that is meant, None if there is none.

    Hex is written with 0x, anything else is decimal; spaces, commas and a unit do not matter.
    """
    if isinstance(answer, bool):
        return None
    if isinstance(answer, int):
        return answer
    if not isinstance(answer, str):
        return None
    found = _NUMBER.fullmatch(re.sub(r"(?<=\d)[,_](?=\d)", "", answer.strip().lower()))
    if found is None:
        return None
    digits = found.group(1)
    return int(digits, 16 if digits.startswith("0x") else 10)


class Misfit(ValueError):
    """An answer that does not have the form that was asked for; the message says which."""


def kindly(check: Callable[[object, int], Sheet]) -> Callable[[object, int], Sheet]:
    """Let a check answer a misfit with its sentence, as not answered yet, not with a traceback."""

    @wraps(check)
    def checked(answers: object, seed: int) -> Sheet:
        try:
            return check(answers, seed)
        except Misfit as misfit:
            return Sheet((("", Verdict(Outcome.OPEN, str(misfit))),))

    return checked


def spread(answers: object, count: int) -> list[object]:
    """Return one answer for each part; None stands for all, and missing ones are None.

    Raises:
        Misfit: `answers` is not a list, or has more than `count` parts.
    """
    if answers is None:
        return [None] * count
    if isinstance(answers, str | bytes) or not isinstance(answers, Sequence):
        raise Misfit(text("lesson.not_a_list", count=count, given=repr(answers)))
    if len(answers) > count:
        raise Misfit(text("lesson.too_many", count=count, given=len(answers)))
    return [*answers, *[None] * (count - len(answers))]


def fill_in() -> Verdict:
    """Return the verdict on an answer that is not there yet."""
    return Verdict(Outcome.OPEN, text("lesson.fill_in"))


def wrong(sentence: str, idea: str = "", section: str = "") -> Verdict:
    """Return the verdict on a wrong answer.

    Args:
        sentence: what is wrong with it.
        idea: the wrong idea behind it, a key under `lesson.idea`; "" if none is known.
        section: the lesson that has the idea in a table of its own, such as "gfp".
    """
    if not idea:
        return Verdict(Outcome.WRONG, sentence)
    if section:
        name, told = f"lesson.{section}.idea_name.{idea}", f"lesson.{section}.idea.{idea}"
    else:
        name, told = f"lesson.idea_name.{idea}", f"lesson.idea.{idea}"
    return Verdict(Outcome.WRONG, sentence, text(name), text(told))


def judge_each(answers: object, parts: Sequence[T], check: Callable[[T, object], Verdict]) -> Sheet:
    """Return the verdict of `check` on each part and its answer, numbered from 1.

    Raises:
        Misfit: `answers` is not a list, or has more answers than there are parts.
    """
    pairs = enumerate(zip(parts, spread(answers, len(parts)), strict=True), 1)
    return Sheet(tuple((f"{n}.", check(part, answer)) for n, (part, answer) in pairs))


def judge(
    answer: object,
    truth: int,
    *,
    told: str,
    refute: Callable[[int], str],
    ideas: Mapping[int, str],
) -> Verdict:
    """Compare an answer that is a number with the truth.

    Args:
        answer: as the learner gave it.
        truth: the right number.
        told: what to say to a right answer, and to "I do not know".
        refute: says what the wrong number would mean.
        ideas: wrong number -> key of the idea that leads to it.
    """
    if is_blank(answer):
        return fill_in()
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    said = number(answer)
    if said is None:
        return Verdict(Outcome.OPEN, text("lesson.not_a_number", answer=repr(answer)))
    if said == truth:
        return Verdict(Outcome.RIGHT, told)
    return wrong(refute(said), ideas.get(said, ""))
