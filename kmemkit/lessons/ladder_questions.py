"""Lesson 07's multiple choice: the question before it, and two of its exit ticket.

Shaped as `questions.Choice`; right options are found by a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kmemkit.lessons import ladder_worlds
from kmemkit.lessons._check import Outcome, Verdict
from kmemkit.lessons.ladder_check import miss
from kmemkit.lessons.questions import Choice

__all__ = ("ALL", "LadderChoice", "full_machine", "nofs", "order_zero")


class LadderChoice(Choice):
    """A question whose wrong options belong to ideas of lesson 07.

    Args:
        name: of the question in the string table, under `lesson.questions`.
        ideas: option -> key under `lesson.ladder.idea`; "" for the one that is right.
        truth: runs the simulator and returns the option that is right.
    """

    def __init__(self, name: str, ideas: Mapping[str, str], truth: Callable[[], str]) -> None:
        super().__init__(name, dict.fromkeys(ideas, ""), truth)
        self.ideas = dict(ideas)

    def check(self, answer: object, seed: int) -> Verdict:
        """Judge a letter, or "I do not know"."""
        verdict = super().check(answer, seed)
        if verdict.outcome is not Outcome.WRONG:
            return verdict
        letter = str(answer).strip().strip("().").lower()
        return miss(verdict.sentence, self.ideas[self.letters(seed)[letter]])


def _order_zero() -> str:
    """Ask where GFP_ATOMIC fails: is nothing free there?"""
    run = ladder_worlds.at("files", "GFP_ATOMIC")
    free = sum(zone.free for zone in ladder_worlds.moment("files").snapshot().zones)
    if run.end != "null":
        return "other_zone"
    return "hundreds" if free >= 100 else "none"


#: Before: nothing is left to take back, and GFP_KERNEL asks for a page. (misconception M8)
full_machine = LadderChoice(
    "ladder_full",
    {"kill": "", "null": "null_when_out", "forever": "kills_never", "page": "reserve_for_all"},
    lambda: ladder_worlds.at("full", "GFP_KERNEL").end,
)
#: Exit ticket: what a failure of order 0 says. (misconception M8)
order_zero = LadderChoice(
    "ladder_order_zero",
    {
        "hundreds": "",
        "none": "zero_left",
        "scattered": "one_page_scattered",
        "other_zone": "atomic_everywhere",
    },
    _order_zero,
)
#: Exit ticket: GFP_NOFS where nothing is left.
nofs = LadderChoice(
    "ladder_nofs",
    {"forever": "", "null": "ends_always", "kill": "nofs_kills", "page": "reserve_for_all"},
    lambda: ladder_worlds.at("full", "GFP_NOFS").end,
)

ALL = (full_machine, order_zero, nofs)
