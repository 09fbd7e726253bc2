"""Lesson 11: a kmemleak list to be read. Which line lost the block, and what would have freed it?

The check runs the driver again, with a scan after each line, and plays the freeing function.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

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
from kmemkit.lessons.pairing_check import Freeing, miss, read_freeing
from kmemkit.lessons.pairing_choose import check_freeing
from kmemkit.lessons.pairing_drivers import CallLine, Driver
from kmemkit.lessons.pairing_runs import FILE, Leak, run
from kmemkit.strings import text

__all__ = ("check", "problem")

_ANSWER = re.compile(r"(?:line )?(\d+)[\s:,;]+(\D.*)", re.IGNORECASE)
_SINGLE = ("kfree", "vfree", "kvfree")


def problem(seed: int) -> Problem:
    """Return the driver of a seed with its lines numbered, the calls, and kmemleak's report."""
    driver = Driver.of(seed)
    lines = [text("lesson.pairing.leaks.ask"), "", text("lesson.pairing.leaks.file", file=FILE)]
    lines += [f"{n:>4}  {line}".rstrip() for n, line in enumerate(driver.lines, 1)]
    lines += ["", text("lesson.pairing.leaks.calls"), *map(_call, driver.calls)]
    lines += ["", text("lesson.pairing.leaks.report"), *run(driver).report.splitlines()]
    return Problem(tuple(lines))


def _call(call: CallLine) -> str:
    if not call.happens:
        return f"  {call.code};"
    return f"  {call.code};  /* {text(f'lesson.pairing.happens.{call.happens}')} */"


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of answers, one for each object of the report: line and function, "12 kfree".

    An answer of another form is not answered yet, and told so.
    """
    driver = Driver.of(seed)
    leaks = run(driver).leaks
    return judge_each(answers, leaks, lambda leak, answer: _check_one(driver, leak, answer))


def _check_one(driver: Driver, leak: Leak, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    sources = _sources(driver, leak)
    code = driver.lines[leak.lost - 1].strip()
    told = text("lesson.pairing.leaks.told", line=leak.lost, code=code)
    if is_unknown(answer):
        rights = (one for one in _SINGLE if _frees(Freeing(one), sources))
        names = text("lesson.pairing.leaks.frees", names=", ".join(rights))
        return Verdict(Outcome.UNKNOWN, f"{told} {names}")
    parts = answer if isinstance(answer, tuple | list) else [answer]
    found = _ANSWER.fullmatch(" ".join(map(str, parts)).strip())
    if found is None:
        return Verdict(Outcome.OPEN, text("lesson.pairing.leaks.two", given=repr(answer)))
    try:
        function = read_freeing(found[2])
    except Misfit as misfit:
        return Verdict(Outcome.OPEN, str(misfit))
    if (line := int(found[1])) != leak.lost:
        return miss(
            text("lesson.pairing.leaks.wrong", line=line), next(_ideas(driver, leak, line), "")
        )
    freed = check_freeing(function, sources)
    if freed.outcome is not Outcome.RIGHT:
        return freed
    right = text("lesson.pairing.leaks.right", name=function.name)
    return Verdict(Outcome.RIGHT, f"{told} {right}")


def _sources(driver: Driver, leak: Leak) -> tuple[str, ...]:
    part = driver.part_of(leak.lost)
    assert part is not None, f"line {leak.lost} is of a part that leaks"
    return part.sources


def _frees(function: Freeing, sources: tuple[str, ...]) -> bool:
    return check_freeing(function, sources).outcome is Outcome.RIGHT


def _ideas(driver: Driver, leak: Leak, line: int) -> Iterator[str]:
    """Yield the ideas that would have named the wrong line, the most telling first."""
    if line == leak.allocated:
        yield "allocated_is_lost"
    if line <= len(driver.lines) and driver.lines[line - 1].strip().startswith("return"):
        yield "return_loses"
