"""Lesson 11: a driver's probe() whose error path is to be made leak-free for every failing N.

The check plays the learner's function on simulated kernels, with each of its allocations failing
in turn, and with none. Any error path that leaves nothing behind and frees nothing wrongly is
right, whatever its labels are called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from kmemkit.lessons._check import (
    Misfit,
    Outcome,
    Problem,
    Sheet,
    Verdict,
    fill_in,
    is_blank,
    is_unknown,
    kindly,
    wrong,
)
from kmemkit.mm.kernel import Kernel
from kmemkit.strings import text
from kmemkit.views import LeakGym
from kmemkit.views._leak_driver import Driver
from kmemkit.views._leak_program import BadCode, Program
from kmemkit.views._leak_run import Run, play_all, play_starved
from kmemkit.views._leak_text import failing_text, finding_lines, verdict_text

__all__ = ("check", "gym", "problem")

#: kind of a finding -> the idea behind it, a key under `lesson.leak.idea`
_IDEAS = {
    "null": "null_is_fine",
    "cache_null": "null_is_fine",
    "after_free": "any_order",
    "twice": "better_twice",
    "wrong_function": "any_function",
    "wrong_order": "size_is_known",
}

_miss = partial(wrong, section="leak")


def _machine() -> Kernel:
    return Kernel(ram="16M")


def problem(seed: int) -> Problem:
    """Return what is asked, and the function of the seed with its mistakes."""
    code = Driver.of(seed).broken(seed).code
    rules = [text(f"lesson.leak.unwind.{rule}") for rule in ("ask", "rules")]
    return Problem((*rules, "", *code))


def gym(seed: int, *, predict: bool = False) -> LeakGym:
    """Return the function of the seed to be played with; check() takes it as an answer."""
    return LeakGym(_machine(), seed, predict=predict)


@kindly
def check(answer: object, seed: int) -> Sheet:
    """Judge a probe(): its C code as text or as lines, or the LeakGym it was repaired in.

    Every failing allocation is a part; where kvzalloc() survives it, its failing as a whole is one
    more. Code of another form is not answered yet, and told so.
    """
    if is_blank(answer):
        return Sheet((("", fill_in()),))
    if is_unknown(answer):
        return Sheet((("", Verdict(Outcome.UNKNOWN, text("lesson.leak.unwind.hint"))),))
    driver = Driver.of(seed)
    try:
        program = driver.parse(_lines(answer))
    except BadCode as error:
        raise Misfit(str(error)) from None
    rows: list[tuple[str, Verdict]] = []
    for run in play_all(_machine(), driver, program):
        rows.append((f"{run.n}.", _verdict(driver, program, run)))
        if starved := play_starved(_machine(), driver, program, run):
            rows.append((f"{run.n}b.", _verdict(driver, program, starved, "both_fail")))
    return Sheet(tuple(rows))


def _lines(answer: object) -> tuple[str, ...]:
    if isinstance(answer, LeakGym):
        return answer.plan.code
    if isinstance(answer, str):
        return tuple(answer.strip("\n").splitlines())
    if isinstance(answer, Sequence) and all(isinstance(line, str) for line in answer):
        return tuple(answer)
    raise Misfit(text("lesson.leak.unwind.no_code", given=type(answer).__name__))


def _verdict(driver: Driver, program: Program, run: Run, how: str = "fails") -> Verdict:
    missed = _missed_result(run)
    told = [text(f"lesson.leak.unwind.{missed}")] if missed else []
    said = " ".join([verdict_text(run), *finding_lines(program, run), *told])
    key = how if run.injected else "none_fails"
    sentence = text(f"lesson.leak.unwind.{key}", what=failing_text(driver, run), said=said)
    if run.clean and not missed:
        return Verdict(Outcome.RIGHT, sentence)
    return _miss(sentence, next(_ideas(program, run), ""))


def _missed_result(run: Run) -> str:
    """Return what is wrong with what probe() returned: it must fail if an acquisition did."""
    failed = any(one.state == "failed" for one in run.shots[-1].things)
    if failed and run.returned == "0":
        return "unchecked"
    return "gave_up" if run.returned == "-ENOMEM" and not failed else ""


def _ideas(program: Program, run: Run) -> Iterator[str]:
    """Yield the ideas that lead to what went wrong, the earliest first."""
    for finding in run.findings:
        if finding.kind in _IDEAS:
            yield _IDEAS[finding.kind]
    if _missed_result(run) == "unchecked":
        yield "never_fails"
    elif run.returned == "0" or _missed_result(run):
        yield "labels_stop"
    for leak in run.leaks:
        places = program.releases(leak.path)
        if not places:
            yield "free_is_deep"
        elif run.jumped < 0:
            yield "kernel_cleans"
        elif max(places) < run.jumped:
            yield "any_label"
