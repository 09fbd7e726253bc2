"""Predictions about a request in its context: questions, verdicts, the idea behind a wrong answer.

ContextStack asks before it shows what the two kernels did. What is right is what they did; the
ideas only say which well-known mistake would have given the learner's answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import NamedTuple

from kmemkit.gfp import encode, flag_names, profile
from kmemkit.strings import text
from kmemkit.views._context_runs import FRAMES, Run, Stage, may_sleep
from kmemkit.views.prediction import Verdict

__all__ = ("CASES", "UNKNOWN", "ContextQuiz", "Runs", "option_text", "options", "questions")

UNKNOWN = "unknown"
#: Situations to ask about: the frames, outermost first, and a mask. A popular sentence gets at
#: least one answer to each of them wrong.
CASES = (
    (("spinlock",), "GFP_KERNEL"),
    (("spinlock",), "GFP_NOFS"),
    (("spinlock",), "GFP_ATOMIC"),
    (("spinlock",), "GFP_ATOMIC|__GFP_DIRECT_RECLAIM"),
    (("rcu",), "GFP_NOIO"),
    (("softirq",), "GFP_KERNEL"),
    (("hardirq",), "GFP_NOWAIT"),
    (("hardirq",), "GFP_NOIO"),
    (("irqs_off", "nofs"), "GFP_KERNEL"),
    (("nofs",), "GFP_KERNEL"),
    (("nofs", "noio"), "GFP_KERNEL"),
    (("noio", "nofs"), "GFP_NOFS"),
    (("pin",), "GFP_HIGHUSER_MOVABLE"),
    (("noreclaim",), "GFP_KERNEL"),
)
_SILENT, _SLEEPING, _LOCKDEP, _CRASH, _OTHER = "silent", "sleeping", "lockdep", "crash", "other"
_SLEEP_NAME = "__GFP_DIRECT_RECLAIM"
_FLAG = profile("6.12").values
_IO, _FS = _FLAG["__GFP_IO"], _FLAG["__GFP_FS"]


class Runs(NamedTuple):
    """The same request on the two kernels."""

    plain: Run
    debug: Run


def _said(run: Run) -> str:
    """Return which answer a run is."""
    if run.ended:
        return _CRASH
    if not run.complaint:
        return _SILENT
    if run.complaint.startswith("BUG: sleeping function"):
        return _SLEEPING
    return _LOCKDEP if "inconsistent lock state" in run.complaint else _OTHER


def _taken(stage: Stage, runs: Runs) -> str:
    """Return the flags that the scopes took from the mask, as an answer."""
    return "|".join(flag_names(stage.gfp & ~runs.debug.left)) or "none"


class ContextQuiz:
    """Deals situations in the order of a seed, judges answers, and counts them.

    Attributes:
        verdicts: what came of the last answers, by question; empty while they are open.
        counts: right, wrong and "I do not know" so far.
        free_play: whether everything is shown without a question; possible after the first answer.
    """

    def __init__(self, seed: int) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self.counts = {"right": 0, "wrong": 0, "unknown": 0}
        self.free_play = False
        self._random = Random(seed)
        self._left: list[tuple[tuple[str, ...], str]] = []

    @property
    def unlocked(self) -> bool:
        """Whether free play may be switched on."""
        return sum(self.counts.values()) > 0

    @property
    def open(self) -> bool:
        """Whether answers are waited for, so that nothing may be shown."""
        return not self.verdicts and not self.free_play

    def deal(self) -> Stage:
        """Return the next situation to ask about."""
        if not self._left:
            self._left = self._random.sample(CASES, len(CASES))
        self.verdicts = {}
        frames, names = self._left.pop(0)
        return Stage(frames, encode(names))

    def judge(self, stage: Stage, runs: Runs, answers: Mapping[str, str]) -> None:
        """Record one answer to each question; one that is missing is "I do not know"."""
        for question in questions(stage):
            said = answers.get(question) or UNKNOWN
            verdict = _verdict(stage, runs, question, said)
            name = {True: "right", False: "wrong", None: "unknown"}[verdict.right]
            self.counts[name] += 1
            self.verdicts[question] = verdict

    def score(self) -> str:
        """Return the count of predictions as one line."""
        return text("context_stack.score", **self.counts)


def questions(stage: Stage) -> tuple[str, ...]:
    """Return what is asked of a situation; of the mask only where there are scopes."""
    scoped = any(FRAMES[key].group == "scope" for key in stage.frames)
    return ("debug", "plain", "taken") if scoped else ("debug", "plain")


def options(question: str) -> tuple[str, ...]:
    """Return what may be answered to one question, without "I do not know"."""
    if question == "taken":
        return ("none", "__GFP_FS", "__GFP_IO", "__GFP_IO|__GFP_FS", "__GFP_MOVABLE", _SLEEP_NAME)
    return (_SILENT, _SLEEPING, _LOCKDEP, _CRASH)


def option_text(question: str, option: str) -> str:
    """Return an answer as the learner reads it."""
    if question == "taken" and option.startswith("__"):
        return option.replace("|", " | ")
    return text(f"context_stack.option.{option}")


def _truth(stage: Stage, runs: Runs, question: str) -> str:
    if question == "taken":
        return _taken(stage, runs)
    return _said(runs.debug if question == "debug" else runs.plain)


def _verdict(stage: Stage, runs: Runs, question: str, said: str) -> Verdict:
    right = _truth(stage, runs, question)
    told = option_text(question, right)
    if said == UNKNOWN:
        return Verdict(None, text("context_stack.not_known", told=told))
    if said == right:
        return Verdict(True, text("context_stack.right", told=told))
    sentence = text("context_stack.wrong", said=option_text(question, said), told=told)
    for idea in _ideas(stage, runs, question, said):
        name = text(f"context_stack.idea_name.{idea}")
        return Verdict(False, sentence, idea, name, text(f"context_stack.idea.{idea}"))
    return Verdict(False, sentence)


def _ideas(stage: Stage, runs: Runs, question: str, said: str) -> Iterator[str]:
    """Yield the ideas that would have given the wrong answer `said`, the most telling first."""
    right = _truth(stage, runs, question)
    if question == "taken":
        yield from _mask_ideas(right, said)
    elif question == "plain" and right == _SILENT:
        yield "atomic_crashes" if said == _CRASH else "plain_checks"
    elif question == "debug" and said == _SILENT:
        if any(FRAMES[key].group == "scope" for key in stage.frames):
            yield "scope_stays_awake"
        if not stage.gfp & _IO or not stage.gfp & _FS:
            yield "nofs_stays_awake"
        yield "name_decides" if stage.gfp != _FLAG["GFP_KERNEL"] else "memory_is_free"
    elif question == "debug" and right == _SILENT:
        yield "no_allocation_in_atomic" if not may_sleep(stage.gfp) else "scope_forbids"
    elif question == "debug" and said == _CRASH:
        yield "debug_kills"
    elif question == "debug":
        yield "lockdep_first" if right == _LOCKDEP else "lockdep_always"


def _mask_ideas(right: str, said: str) -> Iterator[str]:
    if said == _SLEEP_NAME:
        yield "scope_takes_sleep"
    elif right == "__GFP_IO|__GFP_FS":
        yield "innermost_wins" if said == "__GFP_FS" else "scope_by_name"
    elif right in ("none", "__GFP_IO"):
        yield "scope_adds"
    elif said == "none":
        yield "flag_is_fixed"
