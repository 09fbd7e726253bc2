"""LeakGym's predictions: what is left after a failure, asked before it is shown.

`LeakQuiz` keeps what was answered and how it came out. Right is only what the run did; an idea
says which well-known mistake would have given a wrong answer: each is a small wrong machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kmemkit.strings import text
from kmemkit.views._leak_driver import Driver
from kmemkit.views._leak_program import Program
from kmemkit.views._leak_run import Run

__all__ = ("TROUBLE", "LeakQuiz", "Verdict", "leak_text")

#: the answer that something is freed wrongly, beside the pointers of what leaks
TROUBLE = "trouble"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a prediction. `right` is None for "I do not know"."""

    right: bool | None
    sentence: str
    idea: str = ""
    idea_name: str = ""
    idea_text: str = ""

    def __str__(self) -> str:
        named = f"{self.idea_name} {self.idea_text}" if self.idea else ""
        return f"{self.sentence}\n{named}".strip()


class LeakQuiz:
    """The predictions about the runs of one function.

    Attributes:
        verdicts: N -> what came of its prediction; empty again when the function changes.
        counts: how many were right, wrong, unknown.
        free_play: whether everything is shown without a question.
    """

    def __init__(self) -> None:
        self.verdicts: dict[int, Verdict] = {}
        self.counts = {"right": 0, "wrong": 0, "unknown": 0}
        self.free_play = False

    @property
    def unlocked(self) -> bool:
        """Whether free play may be switched on."""
        return sum(self.counts.values()) > 0

    def hides(self, n: int) -> bool:
        """Whether a run may not be shown yet."""
        return not self.free_play and n not in self.verdicts

    def judge(
        self, driver: Driver, program: Program, run: Run, said: Iterable[str] | None
    ) -> Verdict:
        """Record a prediction: the pointers of what leaks, and `TROUBLE`; None is not known."""
        verdict = _verdict(driver, program, run, said)
        name = {True: "right", False: "wrong", None: "unknown"}[verdict.right]
        self.counts[name] += 1
        self.verdicts[run.n] = verdict
        return verdict

    def score(self) -> str:
        """Return the count of predictions as one line."""
        return text("leak_gym.score", **self.counts)


def leak_text(run: Run) -> str:
    """Return what a run leaks, by name and size."""
    return ", ".join(
        text("leak_gym.leaked_thing", path=one.path, bytes=f"{one.size:,}") for one in run.leaks
    )


def _truth(run: Run) -> frozenset[str]:
    trouble = {TROUBLE} if run.findings or run.ended else set()
    return frozenset({one.path for one in run.leaks} | trouble)


def _told(leaks: str, many: bool, trouble: str) -> str:
    parts = []
    if leaks:
        verb = text("leak_gym.leak_many" if many else "leak_gym.leak_one")
        parts.append(text("leak_gym.told_leaks", names=leaks, verb=verb))
    return ", ".join([*parts, *filter(None, [trouble])])


def _verdict(driver: Driver, program: Program, run: Run, said: Iterable[str] | None) -> Verdict:
    truth = _truth(run)
    wrong = text("leak_gym.told_trouble")
    trouble = text("leak_gym.told_dies") if run.ended else wrong if run.findings else ""
    told = _told(leak_text(run), len(run.leaks) > 1, trouble) or text("leak_gym.told_clean")
    if said is None:
        return Verdict(None, text("leak_gym.not_known", told=told))
    answer = frozenset(said)
    if answer == truth:
        return Verdict(True, text("leak_gym.right", told=told))
    names = [one.path for one in driver.resources if one.path in answer]
    spoken = _told(", ".join(names), len(names) > 1, wrong if TROUBLE in answer else "")
    sentence = text("leak_gym.wrong", said=spoken or text("leak_gym.said_nothing"), told=told)
    for idea in _ideas(driver, program, run, answer):
        name = text(f"leak_gym.idea_name.{idea}")
        return Verdict(False, sentence, idea, name, text(f"leak_gym.idea.{idea}"))
    return Verdict(False, sentence)


def _ideas(driver: Driver, program: Program, run: Run, answer: frozenset[str]) -> Iterator[str]:
    """Yield the ideas that would have given a wrong answer, the most telling first."""
    truth, said = _truth(run) - {TROUBLE}, answer - {TROUBLE}
    acquired = frozenset(run.acquired)
    failed = {one.path for one in run.shots[-1].things if one.state == "failed"}
    if said & failed:
        yield "failed_leaks"
    if said == truth and TROUBLE not in answer:
        yield "silent_is_fine"
    if not said and truth:
        yield "kernel_cleans"
    if said and said == acquired - _first_freed(program, run):
        yield "one_label"
    if said and said == acquired:
        yield "nothing_runs"
    if said < truth and not any(driver.resource(path).parent == "" for path in truth - said):
        yield "free_is_deep"


def _first_freed(program: Program, run: Run) -> frozenset[str]:
    """Return what stands between the label of the jump and the next one."""
    if run.jumped < 0:
        return frozenset()
    later = [at for at in program.labels.values() if at > run.jumped]
    block = program.statements[run.jumped : min(later, default=len(program.statements))]
    return frozenset(s.path for s in block if s.op == "release")
