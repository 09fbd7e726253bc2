"""The bookkeeping behind BuddyLab, without a widget: ask, commit, reveal, undo, count.

BuddyLab owns one and turns clicks into its methods; tests drive it directly. The kernel is the
one the caller gives: anything with alloc_pages, free_pages, snapshot, restore and record.
"""

from __future__ import annotations

from random import Random
from typing import Any

from kmemkit.gfp import encode, gfp_migratetype
from kmemkit.snapshot import Snapshot, order_text
from kmemkit.strings import text
from kmemkit.views.prediction import Answer, Prediction, Question, Verdict, judge

__all__ = ("CHOICES", "OWNERS", "BuddyLabModel", "migratetype_of", "workload")

#: Requests the lab offers: one for each migratetype, and one that may not sleep.
CHOICES = ("GFP_KERNEL", "GFP_KERNEL|__GFP_RECLAIMABLE", "GFP_HIGHUSER_MOVABLE", "GFP_ATOMIC")
#: Owners the seeded workload allocates for, by position of their request in CHOICES.
OWNERS = ("driver", "inode cache", "process", "network")
_UNDO_LIMIT = 200


def migratetype_of(gfp: str) -> int:
    """Return the migratetype whose free lists a request looks at first."""
    return int(gfp_migratetype(encode(gfp)))


def workload(kernel: Any, seed: int) -> None:
    """Fill about two thirds of a small world with a seeded mix, then free every third block of it.

    Orders 0 to 3 come at 70/15/10/5 in a hundred. A large machine gets at most 400 requests.
    """
    random = Random(seed)
    pages = sum(zone.managed for zone in kernel.snapshot().zones)
    held: list[tuple[int, int]] = []
    used = 0
    for _ in range(400):
        order = random.choices((0, 1, 2, 3), (70, 15, 10, 5))[0]
        which = random.choices(range(3), (40, 20, 40))[0]
        if used + (1 << order) > pages * 2 // 3:
            break
        pfn = kernel.alloc_pages(CHOICES[which], order, owner=OWNERS[which])
        if pfn is None:
            break
        held.append((pfn, order))
        used += 1 << order
    for pfn, order in random.sample(held, len(held) // 3):
        kernel.free_pages(pfn, order)


class BuddyLabModel:
    """One learner at one kernel. Every public method leaves `message` empty or a sentence to show.

    Attributes:
        question: the request that waits for a prediction, or None.
        verdict: what came of the last prediction, or None.
        counts: right, wrong and "I do not know" so far.
        free_play: whether requests act at once; possible after the first prediction.
    """

    def __init__(self, kernel: Any, seed: int | None = None) -> None:
        self.kernel = kernel
        self.question: Question | None = None
        self.verdict: Verdict | None = None
        self.counts = {"right": 0, "wrong": 0, "unknown": 0}
        self.free_play = False
        self.message = ""
        self.seed = seed
        self._given: Snapshot = kernel.snapshot()
        self._request: tuple[str, int, str] = ("", 0, "")
        self._undo: list[Snapshot] = []
        #: pfn the last request gave or took, for the views to select; whoever uses it clears it
        self.touched: int | None = None
        if seed is not None:
            workload(kernel, seed)
        self._begin()

    def _begin(self) -> None:
        """Take the present state as the one `reset` comes back to, and start its history."""
        self._start: Snapshot = self.kernel.snapshot()
        self._clear()
        self._undo.clear()
        self.kernel.record()

    def _clear(self) -> None:
        self.question, self.verdict, self.message = None, None, ""

    @property
    def unlocked(self) -> bool:
        """Whether free play may be switched on: at least one prediction was made."""
        return sum(self.counts.values()) > 0

    @property
    def can_undo(self) -> bool:
        """Whether there is a call to take back."""
        return bool(self._undo)

    def score(self) -> str:
        """Return the count of predictions as one line."""
        return text("buddy_lab.score", **self.counts)

    def ask_alloc(self, gfp: str, order: int, owner: str = "") -> None:
        """Ask for a prediction of `alloc_pages(gfp, order)`; in free play, make the call."""
        self._clear()
        zones = self.kernel.snapshot().zones
        top = max(zone.max_order for zone in zones)
        if not 0 <= order <= top:
            self.message = text("buddy_lab.bad_order", order=order, top=order_text(top))
            return
        self._request = (gfp, order, owner)
        self.question = Question(f"alloc_pages({gfp}, {order})", order, migratetype_of(gfp))
        if self.free_play:
            self._act(None)

    def ask_free(self, pfn: int | None) -> None:
        """Ask for a prediction of freeing the block that holds `pfn`; in free play, free it."""
        self._clear()
        if pfn is None:
            self.message = text("buddy_lab.select_first")
            return
        info = self.kernel.snapshot().page(pfn)
        if not info.kind.allocated:
            self.message = text("buddy_lab.not_allocated", pfn=f"{pfn:#x}")
            return
        call = f"free_pages({info.head:#x}, {info.order})"
        self.question = Question(call, info.order, pfn=info.head)
        if self.free_play:
            self._act(None)

    def cancel(self) -> None:
        """Drop the pending question without making the call."""
        self._clear()

    def commit(self, said: Prediction) -> None:
        """Record a prediction, then let the kernel act and compare."""
        if self.question is None:
            self.message = text("buddy_lab.nothing_asked")
            return
        if self.question.frees and said is Answer.FAILS:
            self.message = text("buddy_lab.not_an_order", answer=said.value)
            return
        self._act(said)
        assert self.verdict is not None
        name = {True: "right", False: "wrong", None: "unknown"}[self.verdict.right]
        self.counts[name] += 1

    def _act(self, said: Prediction | None) -> None:
        """Make the pending call; with a prediction, keep the verdict on it."""
        question, self.question, self.message = self.question, None, ""
        assert question is not None
        # Going back to a step's own snapshot takes the later steps out of the history as well.
        before = self.kernel.history[-1].snapshot
        self._undo = [*self._undo[1 - _UNDO_LIMIT :], before]
        got: int | None = None
        if question.pfn is not None:
            self.kernel.free_pages(question.pfn, question.order)
            self.touched = question.pfn
        else:
            got = self._alloc()
            self.touched = got
        if said is not None:
            self.verdict = judge(question, said, before, self.kernel.snapshot(), got)

    def _alloc(self) -> int | None:
        """Make the pending request. What ends a machine is told, and taken back: it got no page."""
        gfp, order, owner = self._request
        try:
            got: int | None = self.kernel.alloc_pages(gfp, order, owner=owner)
        except RuntimeError as end:
            self.kernel.restore(self._undo.pop())
            self.message = text("buddy_lab.ended", error=str(end).splitlines()[0])
            return None
        return got

    def undo(self) -> None:
        """Take back the last call. Predictions stay counted."""
        if self._undo:
            self._clear()
            self.kernel.restore(self._undo.pop())
        else:
            self.message = text("buddy_lab.nothing_to_undo")

    def reset(self) -> None:
        """Go back to the state the lab started from, or the one the last seed made."""
        self.kernel.restore(self._start)
        self._begin()

    def reseed(self, seed: int) -> None:
        """Put the given kernel back to how it was handed over, and run the workload of `seed`."""
        self.seed = seed
        self.kernel.restore(self._given)
        workload(self.kernel, seed)
        self._begin()

    def set_free_play(self, on: bool) -> None:
        """Switch free play; before the first prediction it stays off, and `message` says why."""
        self._clear()
        if on and not self.unlocked:
            self.message = text("buddy_lab.locked")
        self.free_play = on and self.unlocked

    def lines(self) -> list[str]:
        """Return question, verdict, message and score as lines of text."""
        seed = (
            text("buddy_lab.no_seed")
            if self.seed is None
            else text("buddy_lab.seeded", seed=self.seed)
        )
        lines = [seed, self.score()]
        if self.question:
            lines.append(str(self.question))
        if self.verdict:
            lines += str(self.verdict).split("\n")
        return [*lines, self.message] if self.message else lines

    def freeable(self, pfn: int | None) -> tuple[int, int] | None:
        """Return (head, order) of the allocated block that holds `pfn`, None if there is none."""
        if pfn is None:
            return None
        info = self.kernel.snapshot().page(pfn)
        return (info.head, info.order) if info.kind.allocated else None
