"""Lesson 03: requests in their context, and which of them a debug kernel complains of.

What is illegal is found by making each request on a simulated debug kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from kmemkit.lessons._check import Problem, Sheet, kindly
from kmemkit.lessons._letters import Line, judge_letters, lettered
from kmemkit.lessons.context_check import miss
from kmemkit.lessons.context_worlds import complaint
from kmemkit.strings import text
from kmemkit.views._context_runs import frame_text

__all__ = ("check", "problem")


@dataclass(frozen=True, slots=True)
class _Call:
    """A request and what surrounds it; `idea` is the one that gets it wrong."""

    frames: tuple[str, ...]
    mask: str
    idea: str

    def __str__(self) -> str:
        where = " → ".join(frame_text(frame) for frame in self.frames)
        return text(
            "lesson.context.call",
            mask=self.mask,
            where=where or text("lesson.context.process"),
        )

    def said(self) -> str:
        """Return what the debug kernel says of it, "" if nothing."""
        return complaint(self.frames, self.mask)


_ILLEGAL = (
    _Call(("spinlock",), "GFP_KERNEL", "memory_is_free"),
    _Call(("spinlock",), "GFP_NOFS", "nofs_stays_awake"),
    _Call(("rcu",), "GFP_NOIO", "nofs_stays_awake"),
    _Call(("rcu",), "GFP_KERNEL", "memory_is_free"),
    _Call(("irqs_off", "nofs"), "GFP_KERNEL", "scope_is_atomic"),
    _Call(("noio", "spinlock"), "GFP_KERNEL", "scope_is_atomic"),
    _Call(("softirq",), "GFP_KERNEL", "interrupt_is_short"),
    _Call(("hardirq",), "GFP_USER", "interrupt_is_short"),
    _Call(("spinlock",), "GFP_ATOMIC|__GFP_DIRECT_RECLAIM", "name_decides"),
    _Call(("softirq",), "GFP_KERNEL|__GFP_HIGH", "name_decides"),
)
_LEGAL = (
    _Call((), "GFP_KERNEL", "sleep_is_bad"),
    _Call(("nofs",), "GFP_KERNEL", "scope_is_atomic"),
    _Call(("nofs", "noio"), "GFP_NOFS", "scope_is_atomic"),
    _Call(("spinlock",), "GFP_NOWAIT", "no_allocation_in_atomic"),
    _Call(("hardirq",), "GFP_ATOMIC", "no_allocation_in_atomic"),
    _Call(("softirq", "spinlock"), "GFP_NOWAIT", "no_allocation_in_atomic"),
    _Call(("irqs_off",), "GFP_KERNEL & ~__GFP_RECLAIM", "kernel_means_sleep"),
    _Call(("rcu",), "GFP_KERNEL & ~__GFP_DIRECT_RECLAIM", "kernel_means_sleep"),
)


def _calls(seed: int) -> list[_Call]:
    random = Random(f"context calls {seed}")
    calls = random.sample(_ILLEGAL, 4) + random.sample(_LEGAL, 4)
    random.shuffle(calls)
    return calls


def problem(seed: int) -> Problem:
    """Return the eight requests of a seed."""
    return Problem(lettered(_calls(seed)))


@kindly
def check(answer: object, seed: int) -> Sheet:
    """Judge the letters of the requests that a debug kernel complains of, as "B D".

    An answer of another form is not answered yet, and told so.
    """
    return judge_letters(answer, [_line(call) for call in _calls(seed)], "lesson.context.letters")


def _line(call: _Call) -> Line:
    said = call.said()
    told = text("lesson.context.told", line=said) if said else text("lesson.context.told_none")
    return Line(bool(said), told, miss(told, call.idea))
