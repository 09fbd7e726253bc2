"""Lesson 09: `p = krealloc(p, ...)`, to be made safe.

The check plays the learner's function twice: with memory, and with an allocation that fails. Then
it looks at the buffer, and at what kmemleak still knows.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from kmemkit.gfp import GFP_KERNEL
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
from kmemkit.lessons.kmalloc_check import miss
from kmemkit.lessons.kmalloc_worlds import live, machine, room
from kmemkit.strings import text

__all__ = ("ENOMEM", "Buffer", "check", "problem")

ENOMEM = 12
_PARTS = ("grows", "error", "kept", "leak")

Grow = Callable[..., object]


class Buffer:
    """A buffer of a driver: where its bytes are, and how many there are.

    Attributes:
        data: address of the bytes, None if there are none.
        size: how many bytes there are.
    """

    def __init__(self, data: int | None, size: int) -> None:
        self.data = data
        self.size = size


class _Trial:
    """One run of the learner's function, and what it left behind."""

    def __init__(self, grow: Grow, seed: int, *, fails: bool) -> None:
        small, large = _sizes(seed)
        self.kernel = kernel = machine()
        kernel.kmemleak = True
        self.fails, self.small, self.large = fails, small, large
        self.old = kernel.kmalloc(small, GFP_KERNEL)
        self.words = bytes(65 + n % 26 for n in range(small))
        kernel.write(self.old or 0, self.words)
        self.buffer = Buffer(self.old, small)
        self.answer: object = None
        self.raised = ""
        if fails:
            kernel.fail_nth(1)
        try:
            self.answer = grow(kernel, self.buffer, large)
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            self.raised = f"{type(error).__name__}: {first}"
        kernel.fail_nth(0)

    @property
    def data(self) -> int | None:
        """The address in the buffer; None if there is none, or something else."""
        data: object = self.buffer.data
        return data if isinstance(data, int) else None

    @property
    def lost(self) -> list[str]:
        """Blocks that are in use and not the buffer's: their sizes."""
        known = live(self.kernel).items()
        return [f"{one.size}" for address, one in known if address != self.data]

    @property
    def alive(self) -> bool:
        """Whether the buffer's bytes are a block in use."""
        return self.data in live(self.kernel)

    @property
    def same(self) -> bool:
        """Whether the old bytes are still the buffer's."""
        data = self.data
        return data is not None and self.kernel.read(data, self.small) == self.words


def _sizes(seed: int) -> tuple[int, int]:
    """Return how large the buffer is, and how large it is to be: in another size class."""
    random = Random(f"kmalloc grow {seed}")
    return random.randint(40, 64), random.randint(300, 900)


def problem(seed: int) -> Problem:
    """Return what the function has to do, with the sizes of the seed."""
    small, large = _sizes(seed)
    lines = [text("lesson.kmalloc.grow.ask", small=small, large=large)]
    lines += [f"  {n}. {text(f'lesson.kmalloc.grow.{part}')}" for n, part in enumerate(_PARTS, 1)]
    return Problem(tuple(lines))


@kindly
def check(answer: object, seed: int) -> Sheet:
    """Judge a function grow(kernel, buffer, size) by playing it."""
    if is_blank(answer):
        return Sheet((("", fill_in()),))
    if is_unknown(answer):
        return Sheet((("", Verdict(Outcome.UNKNOWN, text("lesson.kmalloc.grow.hint"))),))
    if not callable(answer):
        raise Misfit(text("lesson.kmalloc.no_function", given=repr(answer), name="grow"))
    roomy, tight = (_Trial(answer, seed, fails=fails) for fails in (False, True))
    verdicts = (_grows(roomy), _error(tight), _kept(tight), _leak(roomy, tight))
    return Sheet(tuple((f"{n}.", verdict) for n, verdict in enumerate(verdicts, 1)))


def _say(key: str, **values: object) -> str:
    return text(f"lesson.kmalloc.grow.{key}", **values)


def _grows(trial: _Trial) -> Verdict:
    if trial.raised:
        return miss(_say("raised", error=trial.raised))
    if trial.answer != 0:
        return miss(_say("not_zero", answer=repr(trial.answer)))
    if trial.data is None or room(trial.kernel, trial.data) < trial.large:
        return miss(_say("no_room", size=trial.large))
    if not trial.same:
        return miss(_say("not_copied"), "grow_copies")
    if trial.buffer.size != trial.large:
        return miss(_say("size_is", size=trial.buffer.size, want=trial.large))
    return Verdict(Outcome.RIGHT, _say("grew", small=trial.small, large=trial.large))


def _error(trial: _Trial) -> Verdict:
    if trial.raised:
        return miss(_say("raised", error=trial.raised), "never_fails")
    if trial.answer != -ENOMEM:
        return miss(_say("no_error", answer=repr(trial.answer)), "never_fails")
    return Verdict(Outcome.RIGHT, _say("error_fine", answer=-ENOMEM))


def _kept(trial: _Trial) -> Verdict:
    if trial.data is None:
        return miss(_say("data_gone"), "assign_at_once")
    if not trial.alive:
        return miss(_say("data_freed"), "failure_frees")
    if not trial.same:
        return miss(_say("not_copied"), "grow_copies")
    if trial.buffer.size != trial.small:
        return miss(_say("size_is", size=trial.buffer.size, want=trial.small), "size_first")
    return Verdict(Outcome.RIGHT, _say("kept_fine", size=trial.small))


def _leak(roomy: _Trial, tight: _Trial) -> Verdict:
    for trial in (tight, roomy):
        if trial.lost:
            key = "leaked_failing" if trial.fails else "leaked"
            idea = "failure_frees" if trial.fails else "old_goes_away"
            return miss(_say(key, sizes=", ".join(trial.lost)), idea)
    return Verdict(Outcome.RIGHT, _say("leak_fine"))
