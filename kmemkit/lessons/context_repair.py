"""Lesson 03: a function that allocates under a spinlock, to be repaired.

A table remembers every process that a probe sees, a page each. The check plays the learner's
function on two simulated kernels with debug options, one with free memory and one without, and
looks at what is left. Any repair that does what is asked is right.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

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
)
from kmemkit.lessons.context_check import miss
from kmemkit.lessons.context_worlds import short, small
from kmemkit.mm.errors import Oops
from kmemkit.mm.kernel import Kernel
from kmemkit.strings import text

__all__ = ("Table", "check", "problem")

_PARTS = ("debug", "short", "lock", "leak")
_COMPLAINTS = ("BUG: ", "WARNING: ")

Remember = Callable[[Kernel, "Table", int], object]


class Table:
    """Who was seen, by pid, a page each. It may be touched only while its spinlock is held.

    Attributes:
        lock: the name of the spinlock, for spin_lock() and spin_unlock().
        pages: pid -> pfn of the page kept for it.
        missed: pids that were counted as lost.
        unlocked: how often the table was touched without the lock.
    """

    lock = "table"

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.pages: dict[int, int] = {}
        self.missed: list[int] = []
        self.unlocked = 0

    def has(self, pid: int) -> bool:
        """Return whether a process is in the table."""
        self._touch()
        return pid in self.pages

    def insert(self, pid: int, page: int | None) -> None:
        """Keep a page for a process.

        Raises:
            Oops: the page is NULL.
        """
        self._touch()
        if page is None:
            raise Oops("BUG: kernel NULL pointer dereference, address: 0000000000000000")
        self.pages[pid] = page

    def lost(self, pid: int) -> None:
        """Count a process that could not be remembered; needs no lock."""
        self.missed.append(pid)

    def _touch(self) -> None:
        self.unlocked += self.lock not in self._kernel.context.locks


class _Trial:
    """One run of the learner's function over some pids, and what is wrong afterwards."""

    def __init__(self, kernel: Kernel, remember: Remember, pids: list[int]) -> None:
        kernel.debug_kernel = True
        kernel.record(limit=4096)
        kernel.drain_all_pages()
        before = _in_use(kernel)
        self.kernel, self.table, self.pids = kernel, Table(kernel), pids
        self.raised = ""
        try:
            for pid in pids:
                remember(kernel, self.table, pid)
        except Exception as error:
            name, said = type(error).__name__, str(error).splitlines() or [""]
            self.raised = f"{name}: {said[0]}"
        self.held = ", ".join(kernel.context.locks or kernel.context.frames)
        kernel.drain_all_pages()
        self.taken = _in_use(kernel) - before

    @property
    def complaint(self) -> str:
        """The first line of the log that complains of the function, "" if none does."""
        lines = self.kernel.dmesg().splitlines()
        return next((line for line in lines if line.startswith(_COMPLAINTS)), "")

    @property
    def forgotten(self) -> list[int]:
        """Pids that are neither in the table nor counted as lost."""
        return sorted(set(self.pids) - set(self.table.pages) - set(self.table.missed))

    def blame(self) -> str:
        """Return the idea behind the complaint: by what was asked for, and in which scope."""
        step = next(
            (s for s in self.kernel.history if s.snapshot.context and "alloc" in s.call), None
        )
        if step is None:
            return "memory_is_free"
        pid = step.snapshot.settings["current"]
        task = next(task for task in step.snapshot.tasks if task.pid == pid)
        if task.flags:
            return "scope_is_atomic"
        noted = "GFP_NOFS" in step.call or "GFP_NOIO" in step.call
        return "nofs_stays_awake" if noted else "memory_is_free"


def _in_use(kernel: Kernel) -> int:
    """Return how many pages are held, but for what reclaim could drop: the page cache."""
    snapshot = kernel.snapshot()
    cached = sum(node.nr("inactive_file") + node.nr("active_file") for node in snapshot.nodes)
    return sum(zone.managed - zone.free for zone in snapshot.zones) - cached


def _pids(seed: int) -> list[int]:
    """Return pids as a probe sees them: some come twice."""
    random = Random(f"context repair {seed}")
    pids = random.sample(range(100, 1000), 6)
    return [*pids[:4], pids[random.randrange(4)], *pids[4:], pids[random.randrange(6)]]


def problem(seed: int) -> Problem:
    """Return what the function has to do, with the pids of the seed."""
    pids = ", ".join(map(str, _pids(seed)))
    lines = [text("lesson.context.repair.ask", pids=pids)]
    lines += [f"  {n}. {text(f'lesson.context.repair.{part}')}" for n, part in enumerate(_PARTS, 1)]
    return Problem(tuple(lines))


@kindly
def check(answer: object, seed: int) -> Sheet:
    """Judge a function remember(kernel, table, pid) by playing it."""
    if is_blank(answer):
        return Sheet((("", fill_in()),))
    if is_unknown(answer):
        sentence = text("lesson.context.repair.hint")
        return Sheet((("", Verdict(Outcome.UNKNOWN, sentence)),))
    if not callable(answer):
        raise Misfit(text("lesson.context.repair.no_function", given=repr(answer)))
    roomy = _Trial(small(), answer, _pids(seed))
    tight = _Trial(short(), answer, _pids(seed))
    verdicts = (_debug(roomy), _short(tight), _lock(roomy), _leak(roomy))
    return Sheet(tuple((f"{n}.", verdict) for n, verdict in enumerate(verdicts, 1)))


def _say(key: str, **values: object) -> str:
    return text(f"lesson.context.repair.{key}", **values)


def _debug(trial: _Trial) -> Verdict:
    if trial.raised:
        return miss(_say("raised", error=trial.raised))
    if trial.complaint:
        return miss(_say("debug_said", line=trial.complaint), trial.blame())
    return Verdict(Outcome.RIGHT, _say("debug_silent"))


def _short(trial: _Trial) -> Verdict:
    if trial.raised:
        return miss(_say("raised", error=trial.raised), "atomic_never_fails")
    if trial.forgotten:
        pids = ", ".join(map(str, trial.forgotten))
        return miss(_say("forgotten", pids=pids), "atomic_never_fails")
    if trial.complaint:
        return miss(_say("debug_said", line=trial.complaint), trial.blame())
    kept, missed = len(trial.table.pages), len(set(trial.table.missed))
    return Verdict(Outcome.RIGHT, _say("short_fine", kept=kept, missed=missed))


def _lock(trial: _Trial) -> Verdict:
    if trial.table.unlocked:
        return miss(_say("unlocked", count=trial.table.unlocked), "look_before_lock")
    if trial.held:
        return miss(_say("still_held", held=trial.held))
    return Verdict(Outcome.RIGHT, _say("lock_fine"))


def _leak(trial: _Trial) -> Verdict:
    if set(trial.pids) - set(trial.table.pages):
        return miss(_say("not_kept"))
    lost = trial.taken - len(trial.table.pages)
    if lost:
        return miss(_say("leaked", count=lost), "first_look_holds")
    return Verdict(Outcome.RIGHT, _say("leak_fine", count=len(trial.table.pages)))
