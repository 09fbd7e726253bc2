"""Lesson 09: what ksize()'s slack is not for.

Eight ways to use a block, each run on a simulated kernel with KASAN: it reports whoever writes to
bytes that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from kmemkit.gfp import GFP_KERNEL
from kmemkit.lessons._check import Problem, Sheet, kindly
from kmemkit.lessons._letters import Line, judge_letters, lettered
from kmemkit.lessons.kmalloc_check import miss
from kmemkit.lessons.kmalloc_worlds import machine
from kmemkit.mm.kernel import Kernel
from kmemkit.strings import text

__all__ = ("check", "problem")

_BUG = "BUG: KASAN: "


@dataclass(frozen=True, slots=True)
class _Use:
    """A way to use a block of `size` bytes: its C, and the same as calls; `idea` gets it wrong."""

    code: str
    play: Callable[[Kernel, int], None]
    idea: str
    size: int = 0

    def __str__(self) -> str:
        return self.code.format(n=self.size, half=self.size // 2, more=self.size + 8)

    def said(self) -> str:
        """Return KASAN's first line about it, "" if there is none."""
        kernel = machine(debug=True)
        self.play(kernel, self.size)
        lines = kernel.dmesg().splitlines()
        return next((line for line in lines if line.startswith(_BUG)), "")


def _get(kernel: Kernel, size: int) -> int:
    return kernel.kmalloc(size, GFP_KERNEL) or 0


def _plain(kernel: Kernel, n: int) -> None:
    kernel.memset(_get(kernel, n), 0, n)


def _all_of_it(kernel: Kernel, n: int) -> None:
    at = _get(kernel, n)
    kernel.memset(at, 0, kernel.ksize(at))


def _one_more(kernel: Kernel, n: int) -> None:
    kernel.write(_get(kernel, n) + n, b"\0")


def _header(kernel: Kernel, n: int) -> None:
    kernel.write(_get(kernel, n) + n, bytes(8))


def _rounded(kernel: Kernel, n: int) -> None:
    size = kernel.kmalloc_size_roundup(n)
    kernel.memset(_get(kernel, size), 0, size)


def _regrown(kernel: Kernel, n: int) -> None:
    at = kernel.krealloc(_get(kernel, n), n + 8, GFP_KERNEL) or 0
    kernel.memset(at, 0, n + 8)


def _shrunk(kernel: Kernel, n: int) -> None:
    at = kernel.krealloc(_get(kernel, n), n // 2, GFP_KERNEL) or 0
    kernel.memset(at, 0, n)


def _string(kernel: Kernel, n: int) -> None:
    at = kernel.kstrdup("x" * n, GFP_KERNEL) or 0
    kernel.write(at + n, b"\0")


_WRONG = (
    _Use("p = kmalloc({n}); memset(p, 0, ksize(p));", _all_of_it, "slack_is_mine"),
    _Use("p = kmalloc({n}); p[{n}] = 0;", _one_more, "slack_is_mine"),
    _Use("p = kmalloc({n}); memcpy(p + {n}, &trailer, 8);", _header, "slack_is_mine"),
    _Use(
        "p = kmalloc({n}); p = krealloc(p, {half}); memset(p, 0, {n});",
        _shrunk,
        "shrink_is_nothing",
    ),
)
_RIGHT = (
    _Use("p = kmalloc({n}); memset(p, 0, {n});", _plain, "all_is_watched"),
    _Use(
        "n = kmalloc_size_roundup({n}); p = kmalloc(n); memset(p, 0, n);",
        _rounded,
        "roundup_is_slack",
    ),
    _Use(
        "p = kmalloc({n}); p = krealloc(p, {more}); memset(p, 0, {more});",
        _regrown,
        "grow_must_move",
    ),
    _Use("p = kstrdup(text); p[strlen(text)] = 0;", _string, "no_end"),
)


def _uses(seed: int) -> list[_Use]:
    random = Random(f"kmalloc slack {seed}")
    sizes = random.sample((*range(68, 85), *range(132, 180), *range(260, 500)), 8)
    sizes = [size - size % 4 for size in sizes]
    pairs = zip((*_WRONG, *_RIGHT), sizes, strict=True)
    uses = [_Use(use.code, use.play, use.idea, size) for use, size in pairs]
    random.shuffle(uses)
    return uses


def problem(seed: int) -> Problem:
    """Return the eight uses of a seed."""
    return Problem((text("lesson.kmalloc.slack.ask"), *lettered(_uses(seed))))


@kindly
def check(answer: object, seed: int) -> Sheet:
    """Judge the letters of the uses that KASAN reports, as "B D".

    An answer of another form is not answered yet, and told so.
    """
    return judge_letters(answer, [_line(use) for use in _uses(seed)], "lesson.kmalloc.letters")


def _line(use: _Use) -> Line:
    said = use.said()
    key = "told" if said else "told_none"
    told = (
        text(f"lesson.kmalloc.slack.{key}", line=said)
        if said
        else text(f"lesson.kmalloc.slack.{key}")
    )
    return Line(bool(said), told, miss(told, use.idea))
