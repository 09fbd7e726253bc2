"""Lesson 02: calls with a mask, and which of them the kernel objects to.

What is illegal, and what the kernel does about it, is asked of `kmemkit.gfp.legality()` each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from kmemkit.gfp import Finding, encode, legality
from kmemkit.lessons._check import Problem, Sheet, kindly
from kmemkit.lessons._letters import Line, judge_letters, lettered
from kmemkit.lessons.gfp_check import miss
from kmemkit.strings import text

__all__ = ("check", "problem")


@dataclass(frozen=True, slots=True)
class _Call:
    """One call; `idea` is the one that gets it wrong. `code` has {} where the mask stands."""

    call: str
    code: str
    mask: str
    idea: str
    order: int = 0
    atomic: bool = False

    def __str__(self) -> str:
        key = "in_atomic" if self.atomic else "in_process"
        return text(f"lesson.gfp.illegal.{key}", code=self.code.format(self.mask))

    def findings(self) -> tuple[Finding, ...]:
        """Return what the kernel has against the call."""
        return legality(encode(self.mask), self.order, call=self.call, atomic=self.atomic)


def _pages(mask: str, idea: str, order: int = 0, atomic: bool = False) -> _Call:
    return _Call("alloc_pages", f"alloc_pages({{}}, {order})", mask, idea, order, atomic)


_CALLS = (
    _Call("kmalloc", "kmalloc(64, {})", "GFP_KERNEL|__GFP_HIGHMEM", "any_flag_anywhere"),
    _Call("kmalloc", "kmalloc(64, {})", "GFP_KERNEL|GFP_DMA32", "any_flag_anywhere"),
    _Call("mempool_alloc", "mempool_alloc(pool, {})", "GFP_NOIO|__GFP_ZERO", "any_flag_anywhere"),
    _Call(
        "dma_alloc_coherent",
        "dma_alloc_coherent(dev, 8192, &bus, {})",
        "GFP_KERNEL|__GFP_COMP",
        "any_flag_anywhere",
        1,
    ),
    _pages("GFP_KERNEL|GFP_DMA|GFP_DMA32", "zones_add_up"),
    _pages("GFP_HIGHUSER|GFP_DMA32", "zones_add_up"),
    _pages("GFP_HIGHUSER_MOVABLE|__GFP_RECLAIMABLE", "mobility_adds_up"),
    _pages("GFP_NOWAIT|__GFP_NOFAIL", "nofail_is_a_wish", atomic=True),
    _pages("GFP_KERNEL|__GFP_NOFAIL", "nofail_is_a_wish", 3),
    _pages("GFP_KERNEL", "any_order", 11),
    _pages("GFP_NOIO", "noio_awake", atomic=True),
    _pages("GFP_NOFS", "noio_awake", atomic=True),
    _pages("GFP_KERNEL|__GFP_HIGH", "kernel_high", atomic=True),
)
_FINE = (
    _pages("GFP_KERNEL|__GFP_HIGH", "atomic_only"),
    _pages("GFP_ATOMIC|__GFP_ZERO", "atomic_only", 1, atomic=True),
    _pages("GFP_KERNEL & ~__GFP_DIRECT_RECLAIM", "kernel_in_name", atomic=True),
    _Call("kmalloc", "kmalloc(64, {})", "GFP_NOWAIT", "atomic_only", atomic=True),
    _Call("kmalloc", "kmalloc(64, {})", "GFP_KERNEL|GFP_DMA", "zone_bits_never"),
    _pages("GFP_KERNEL|__GFP_MOVABLE", "zone_bits_never"),
    _pages("GFP_KERNEL|__GFP_NOFAIL", "nofail_is_banned", 1),
    _pages("GFP_HIGHUSER_MOVABLE|__GFP_ZERO", "any_order_is_wrong", 9),
)


def _calls(seed: int) -> list[_Call]:
    """Return eight calls: four or five that are illegal, of different ideas where possible."""
    random = Random(seed)
    count = random.choice((4, 5))
    pool = random.sample(_CALLS, len(_CALLS))
    # First one of each idea, then the rest.
    firsts = list({call.idea: call for call in pool}.values())
    picked = random.sample(firsts, count)
    calls = picked + random.sample(_FINE, 8 - count)
    random.shuffle(calls)
    return calls


def problem(seed: int) -> Problem:
    """Return the eight calls of a seed."""
    return Problem(lettered(_calls(seed)))


@kindly
def check(answer: object, seed: int) -> Sheet:
    """Judge the letters of the calls that the kernel objects to, as "B D" or ["B", "D"].

    An answer of another form is not answered yet, and told so.
    """
    lines = [_line(call) for call in _calls(seed)]
    return judge_letters(answer, lines, "lesson.gfp.illegal.letters")


def _line(call: _Call) -> Line:
    found = call.findings()
    told = " ".join(map(str, found)) if found else text("lesson.gfp.illegal.fine", call=call)
    return Line(bool(found), told, miss(told, call.idea))
