"""Lesson 07: eight cases of flags, order and pressure; does each end with a page, NULL, or how?

The moments are those of `ladder_worlds`. Each case is run when it is drawn and when it is checked;
which idea leads to a wrong answer is told from its flags, never its end.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

from kmemkit import gfp as flags
from kmemkit.lessons import ladder_worlds
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
from kmemkit.lessons.ladder_check import miss
from kmemkit.strings import text

__all__ = ("check", "problem")

_COUNT = 8
#: What a learner may write for each end.
_WORDS = {
    **dict.fromkeys(("page", "a page", "success", "succeeds", "pfn"), "page"),
    **dict.fromkeys(("null", "fails", "failure"), "null"),
    **dict.fromkeys(("oom", "oom kill", "kill", "oom killer"), "kill"),
    **dict.fromkeys(("for ever", "forever", "loops", "loop", "loops for ever"), "forever"),
}
_QUICK = ("GFP_KERNEL & ~__GFP_RECLAIM", "GFP_NOWAIT", "GFP_ATOMIC", "GFP_NOWAIT|__GFP_NOFAIL")
_PATIENT = (
    "GFP_KERNEL",
    "GFP_KERNEL|__GFP_HIGH",
    "GFP_KERNEL|__GFP_NORETRY",
    "GFP_KERNEL|__GFP_RETRY_MAYFAIL",
    "GFP_KERNEL|__GFP_NOFAIL",
    "GFP_NOFS",
    "GFP_NOIO",
)
# Inside a class Python would mangle names that begin with two underscores.
_SLEEP, _HIGH, _FS, _NOFAIL, _NORETRY = (
    flags.__GFP_DIRECT_RECLAIM, flags.__GFP_HIGH, flags.__GFP_FS,
    flags.__GFP_NOFAIL, flags.__GFP_NORETRY,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Case:
    """One request at one moment."""

    moment: str
    mask: str
    order: int

    def __str__(self) -> str:
        what = text(f"lesson.ladder.short.{self.moment}")
        return f"{what}: alloc_pages({self.mask}, {self.order})"

    def has(self, flag: int) -> bool:
        """Whether the mask has a flag."""
        return bool(flags.as_mask(self.mask) & flag)

    def run(self) -> ladder_worlds.Run:
        """Make the request."""
        return ladder_worlds.at(self.moment, self.mask, self.order)


def _pool() -> list[_Case]:
    """Return all cases that can be told from the flags and the numbers that the problem shows."""
    drawn = [
        ("low", _QUICK + _PATIENT, (0, 3)),
        ("files", _QUICK + _PATIENT, (0, 3)),
        ("files", ("GFP_KERNEL|__GFP_NORETRY", *_QUICK), (4,)),
        ("full", _QUICK + _PATIENT, (0, 3, 4)),
        ("victim", ("GFP_KERNEL", "GFP_KERNEL|__GFP_HIGH"), (0, 3)),
        ("scattered", _QUICK + _PATIENT, (0, 1, 3, 4)),
    ]
    return [
        _Case(name, m, order) for name, masks, orders in drawn for m in masks for order in orders
    ]


def _cases(seed: int) -> list[_Case]:
    """Return eight cases: every end once at least, none more than three times."""
    random = Random(seed)
    pool = _pool()
    while True:
        random.shuffle(pool)
        ends: Counter[str] = Counter()
        masks: Counter[str] = Counter()
        cases = []
        for case in pool:
            if masks[case.mask] < 2 and ends[end := case.run().end] < 3:
                ends[end] += 1
                masks[case.mask] += 1
                cases.append(case)
            if len(cases) == _COUNT:
                break
        if len(ends) == len(ladder_worlds.ENDS):
            return cases


def problem(seed: int) -> Problem:
    """Return the eight cases of a seed, and the numbers of the machines they play on."""
    cases = _cases(seed)
    lines = []
    for name in dict.fromkeys(case.moment for case in cases):
        lines += [ladder_worlds.state(name)]
    lines = [line for block in lines for line in block.split("\n")]
    return Problem((*lines, "", *(f"{n}. {case}" for n, case in enumerate(cases, 1))))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of eight answers, each "page", "NULL", "OOM" or "for ever".

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _cases(seed), _check_one)


def _check_one(case: _Case, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    run = case.run()
    told = text("lesson.ladder.told", end=run.word, because=run.because)
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    said = _WORDS.get(str(answer).strip().rstrip(".").lower())
    if said is None:
        return Verdict(Outcome.OPEN, text("lesson.ladder.not_an_end", answer=repr(answer)))
    if said == run.end:
        return Verdict(Outcome.RIGHT, told)
    ends = text(f"lesson.ladder.ends.{said}")
    return miss(text("lesson.ladder.wrong", said=ends, told=told), _idea(case, said, run.end))


def _idea(case: _Case, said: str, truth: str) -> str:
    """Return the idea that expects the end `said` of a case that ends with `truth`."""
    if truth == "forever":
        return "nofail_wins" if case.has(_NOFAIL) else "ends_always"
    if said == "page":
        return _hope(case)
    if said == "kill":
        return "kills_always" if truth == "null" else "kills_early"
    if said == "forever":
        return "never_gives_up" if truth == "null" else "kills_never" if truth == "kill" else ""
    if truth == "kill":
        return "null_when_out"
    if case.moment == "low":
        return "low_is_the_end"
    return "gives_up" if case.moment == "files" else ""


def _hope(case: _Case) -> str:
    """Return the idea that expects a page where there is none."""
    if case.moment == "scattered" and case.order:
        return "free_is_enough"
    if not case.has(_SLEEP):
        if case.has(_NOFAIL):
            return "nofail_is_a_wish"
        return "atomic_everywhere" if case.has(_HIGH) else "quick_means_ready"
    return "one_round_will_do" if case.has(_NORETRY) else "never_fails"
