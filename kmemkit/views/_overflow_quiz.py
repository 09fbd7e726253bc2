"""Predictions about sizes that may wrap: questions, verdicts, the idea behind a wrong answer.

OverflowCalculator asks before it shows. What is right is what the calls did; the ideas only say
which well-known mistake would have given the learner's answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from kmemkit.strings import text
from kmemkit.views._overflow_runs import Answer, Sizes
from kmemkit.views.prediction import Verdict

__all__ = ("CASES", "KINDS", "QUESTIONS", "UNKNOWN", "OverflowQuiz")

UNKNOWN = "unknown"
#: What may come back, by `Block.kind`.
KINDS = ("all", "short", "silent", "loud")
#: The plain call, and the one to use; in the order of `answers()`.
QUESTIONS = ("plain", "safe")
#: Sizes to ask about. Of each sentence that is often heard one of them is a counterexample.
CASES = (
    Sizes(268435457, 16, bits=32),
    Sizes(268435457, 16, bits=64),
    Sizes((1 << 62) + 1, 4, bits=64),
    Sizes(65536, 65536, bits=32),
    Sizes(65536, 64, bits=32),
    Sizes(100, 40, bits=64),
    Sizes(1 << 61, 8, head=24, bits=64),
    Sizes((1 << 32) - 20, 1, head=24, bits=32),
    Sizes(1000, 8, head=24, bits=64),
)
#: (question, what happens, what was said) -> the idea.
_IDEAS = {
    ("plain", "short", "all"): "products_are_exact",
    ("plain", "short", "silent"): "kmalloc_knows",
    ("plain", "short", "loud"): "kmalloc_knows",
    ("plain", "all", "short"): "all_wrap",
    ("plain", "all", "silent"): "page_is_the_limit",
    ("plain", "all", "loud"): "page_is_the_limit",
    ("plain", "loud", "all"): "no_limit",
    ("plain", "loud", "short"): "all_wrap",
    ("plain", "loud", "silent"): "too_much_is_silent",
    ("safe", "silent", "all"): "helper_makes_room",
    ("safe", "silent", "short"): "helper_wraps_too",
    ("safe", "silent", "loud"): "overflow_is_logged",
    ("safe", "loud", "all"): "helper_makes_room",
    ("safe", "loud", "short"): "helper_wraps_too",
    ("safe", "loud", "silent"): "too_much_is_silent",
    ("safe", "all", "short"): "helper_wraps_too",
    ("safe", "all", "silent"): "page_is_the_limit",
    ("safe", "all", "loud"): "page_is_the_limit",
}


class OverflowQuiz:
    """Deals sizes in the order of a seed, judges answers, and counts them.

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
        self._left: list[Sizes] = []

    @property
    def unlocked(self) -> bool:
        """Whether free play may be switched on."""
        return sum(self.counts.values()) > 0

    @property
    def open(self) -> bool:
        """Whether answers are waited for, so that nothing may be shown."""
        return not self.verdicts and not self.free_play

    def deal(self) -> Sizes:
        """Return the next sizes to ask about."""
        if not self._left:
            self._left = self._random.sample(CASES, len(CASES))
        self.verdicts = {}
        return self._left.pop(0)

    def judge(self, answers: tuple[Answer, ...], said: Mapping[str, str]) -> None:
        """Record one answer to each question; one that is missing is "I do not know"."""
        for question, answer in zip(QUESTIONS, answers, strict=False):
            block = answer.block
            assert block is not None, "the first two answers are blocks"
            verdict = _verdict(question, block.kind, said.get(question) or UNKNOWN)
            name = {True: "right", False: "wrong", None: "unknown"}[verdict.right]
            self.counts[name] += 1
            self.verdicts[question] = verdict

    def score(self) -> str:
        """Return the count of predictions as one line."""
        return text("overflow.score", **self.counts)


def _verdict(question: str, right: str, said: str) -> Verdict:
    told = text(f"overflow.option.{right}")
    if said == UNKNOWN:
        return Verdict(None, text("overflow.not_known", told=told))
    if said == right:
        return Verdict(True, text("overflow.right", told=told))
    sentence = text("overflow.wrong", said=text(f"overflow.option.{said}"), told=told)
    idea = _IDEAS.get((question, right, said), "")
    if not idea:
        return Verdict(False, sentence)
    name, why = text(f"overflow.idea_name.{idea}"), text(f"overflow.idea.{idea}")
    return Verdict(False, sentence, idea, name, why)
