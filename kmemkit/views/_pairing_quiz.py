"""PairingTable's predictions: what the kernel does with a pair, and how much memory comes back.

What is right is only what the run did; an idea names the well-known mistake that would have given
a wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemkit.strings import text
from kmemkit.views._pairing_cells import Cell, Key
from kmemkit.views.prediction import Verdict

__all__ = ("MEMORY", "VERDICTS", "PairingQuiz")

#: What can be answered; "dead" is a machine that hangs or panics.
VERDICTS = ("ok", "silent", "report", "oops", "dead")
MEMORY = ("all", "part", "none")
#: (what happens, what was said) -> the idea, where the pointer owns memory
_IDEAS = {
    ("silent", "report"): "kernel_notices",
    ("silent", "oops"): "kernel_notices",
    ("silent", "dead"): "kernel_notices",
    ("report", "oops"): "wrong_is_fatal",
    ("report", "dead"): "wrong_is_fatal",
    ("oops", "report"): "only_a_warning",
    ("oops", "silent"): "only_a_warning",
    ("report", "silent"): "never_told",
    ("dead", "report"): "only_a_warning",
}


class PairingQuiz:
    """The predictions about cells.

    Attributes:
        verdicts: cell -> what came of its prediction.
        counts: how many were right, wrong, unknown.
        free_play: whether every cell is shown without a question.
    """

    def __init__(self) -> None:
        self.verdicts: dict[Key, Verdict] = {}
        self.counts = {"right": 0, "wrong": 0, "unknown": 0}
        self.free_play = False

    @property
    def unlocked(self) -> bool:
        """Whether free play may be switched on."""
        return bool(self.verdicts)

    def hides(self, key: Key) -> bool:
        """Whether a cell may not be shown yet."""
        return not self.free_play and key not in self.verdicts

    def judge(self, key: Key, cell: Cell, verdict: str | None, memory: str | None) -> Verdict:
        """Record a prediction; None for the verdict is "I do not know".

        Raises:
            ValueError: there is no such answer.
        """
        for said, known in ((verdict, VERDICTS), (memory, MEMORY)):
            if said not in (None, *known):
                there = ", ".join(known)
                raise ValueError(text("pairing_table.bad_answer", answer=said, answers=there))
        found = _judged(key, cell, verdict, memory)
        self.counts[{True: "right", False: "wrong", None: "unknown"}[found.right]] += 1
        self.verdicts[key] = found
        return found

    def score(self) -> str:
        """Return the count of predictions as one line."""
        return text("pairing_table.score", **self.counts)


def _kind(cell: Cell) -> str:
    return "dead" if cell.verdict in ("hung", "panic") else cell.verdict


def _told(verdict: str, memory: str | None) -> str:
    """Return an answer in words."""
    parts = [text(f"pairing_table.answer.{verdict}")]
    if memory is not None:
        parts.append(text(f"pairing_table.answer_memory.{memory}"))
    return ", ".join(parts)


def _judged(key: Key, cell: Cell, verdict: str | None, memory: str | None) -> Verdict:
    asked = cell.returned in MEMORY
    truth = _kind(cell), cell.returned if asked else None
    told = _told(*truth)
    if verdict is None:
        return Verdict(None, text("pairing_table.not_known", told=told))
    said = verdict, memory if asked else None
    if said == truth:
        return Verdict(True, text("pairing_table.right", told=told))
    sentence = text("pairing_table.wrong", said=_told(*said), told=told)
    for idea in _ideas(key, cell, *said):
        name = text(f"pairing_table.idea_name.{idea}")
        return Verdict(False, sentence, idea, name, text(f"pairing_table.idea.{idea}"))
    return Verdict(False, sentence)


def _ideas(key: Key, cell: Cell, verdict: str, memory: str | None) -> Iterator[str]:
    """Yield the ideas that would have given a wrong answer, the most telling first."""
    truth = _kind(cell)
    _, allocator, freer = key
    if verdict != truth:
        if allocator == "NULL":
            yield "null_is_fine" if truth == "oops" else "null_crashes"
        elif truth == "ok":
            yield "one_partner"
        elif verdict == "ok":
            yield "any_free"
        elif (truth, verdict) in _IDEAS:
            yield _IDEAS[truth, verdict]
    elif memory == "all" and freer.startswith("free_pages"):
        yield "order_is_known"
    elif memory == "all":
        yield "taken_back"
    elif memory == "none" and truth == "report":
        yield "report_refuses"
