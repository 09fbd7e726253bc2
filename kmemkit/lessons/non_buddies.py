"""Lesson 05: pairs of free blocks, and which of them are not buddies.

The check asks the simulator: it fills a small world with blocks of that order, frees the two, and
looks whether they became one.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from kmemkit.gfp import GFP_KERNEL
from kmemkit.lessons._check import Problem, Sheet, kindly, wrong
from kmemkit.lessons._letters import Line, judge_letters, lettered
from kmemkit.mm.kernel import Kernel
from kmemkit.snapshot import order_text
from kmemkit.strings import text

__all__ = ("check", "merges", "problem")

_PAGES = 256


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two blocks of one order; `idea` is the one that gets this pair wrong."""

    first: int
    second: int
    order: int
    idea: str

    def fields(self) -> dict[str, object]:
        """Return the pair's numbers as its sentences want them."""
        return {
            "first": f"{self.first:#x}",
            "second": f"{self.second:#x}",
            "size": order_text(self.order),
            "bit": f"{1 << self.order:#x}",
            "buddy": f"{self.first ^ (1 << self.order):#x}",
        }


def merges(first: int, second: int, order: int) -> bool:
    """Return whether two blocks become one when both are freed and all else is in use."""
    kernel = Kernel(ram=_PAGES * 4096)
    for _ in range(_PAGES >> order):
        kernel.alloc_pages(GFP_KERNEL, order)
    kernel.free_pages(first, order)
    kernel.free_pages(second, order)
    return kernel.snapshot().page(first).order > order


def _pairs(seed: int) -> list[_Pair]:
    """Return eight pairs: some buddies, some neighbours across a border, some one bit too far."""
    random = Random(seed)
    kinds = ["buddies", "buddies", "reversed", "neighbours", "neighbours", "neighbours", "far"]
    kinds.append(random.choice(("reversed", "far")))
    random.shuffle(kinds)
    return [_pair(kind, random) for kind in kinds]


def _pair(kind: str, random: Random) -> _Pair:
    order = random.randint(0, 3)
    size = 1 << order
    index = random.randrange(2, (_PAGES >> order) - 4)
    if kind == "neighbours":
        low = (index | 1) * size
        return _Pair(low, low + size, order, "adjacent")
    low = (index & ~1) * size
    if kind == "far":
        return _Pair(low, low ^ (2 * size), order, "any_bit")
    if kind == "reversed":
        return _Pair(low + size, low, order, "upper_only")
    return _Pair(low, low + size, order, "never_merge")


def problem(seed: int) -> Problem:
    """Return the eight pairs of a seed."""
    pairs = _pairs(seed)
    return Problem(lettered(text("lesson.non_buddies.ask", **pair.fields()) for pair in pairs))


@kindly
def check(answer: object, seed: int) -> Sheet:
    """Judge the letters of the pairs that are not buddies, as "B D" or ["B", "D"].

    An answer of another form is not answered yet, and told so.
    """
    lines = [_line(pair) for pair in _pairs(seed)]
    return judge_letters(answer, lines, "lesson.non_buddies.letters")


def _line(pair: _Pair) -> Line:
    merge = merges(pair.first, pair.second, pair.order)
    told = text(f"lesson.non_buddies.{'merge' if merge else 'apart'}", **pair.fields())
    return Line(not merge, told, wrong(told, pair.idea))
