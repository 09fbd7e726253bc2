"""Lesson 05: which order for a number of pages.

The check asks the simulator: it requests blocks from a fresh world and counts the pages it gets.
"""

from __future__ import annotations

from functools import cache
from random import Random

from kmemkit.gfp import GFP_KERNEL
from kmemkit.lessons._check import Problem, Sheet, Verdict, judge, judge_each, kindly
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.mmzone import MAX_PAGE_ORDER
from kmemkit.snapshot import order_text
from kmemkit.strings import text

__all__ = ("check", "pages_taken", "problem")


@cache
def pages_taken(order: int) -> int | None:
    """Return how many pages a request of this order takes from a world of 1024, None for NULL."""
    kernel = Kernel(ram="4M")
    before = kernel.snapshot().zones[0].free
    if kernel.alloc_pages(GFP_KERNEL, order) is None:
        return None
    return before - kernel.snapshot().zones[0].free


def _numbers(seed: int) -> list[int]:
    """Return four numbers of pages: a power of two, one more, one less, and one in between."""
    random = Random(seed)
    exact, more, less = random.sample((8, 16, 32, 64), 3)
    numbers = [exact, more + 1, less - 1, random.choice((11, 22, 45))]
    random.shuffle(numbers)
    return numbers


def problem(seed: int) -> Problem:
    """Return the four numbers of pages of a seed."""
    numbers = enumerate(_numbers(seed), 1)
    return Problem(tuple(f"{n}. {text('lesson.order_for_pages.ask', pages=p)}" for n, p in numbers))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of four orders.

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _numbers(seed), _check_one)


def _check_one(pages: int, answer: object) -> Verdict:
    """Judge one order by what the simulator gives for it."""
    truth = next(order for order in range(MAX_PAGE_ORDER + 1) if (pages_taken(order) or 0) >= pages)
    spare = (1 << truth) - pages

    def refute(said: int) -> str:
        got = pages_taken(said) if 0 <= said <= MAX_PAGE_ORDER else None
        if got is None:
            return text("lesson.order_for_pages.null", said=said)
        key = "lesson.order_for_pages.short" if got < pages else "lesson.order_for_pages.long"
        return text(key, size=order_text(said), pages=pages, half=got // 2)

    told = text("lesson.order_for_pages.told", pages=pages, size=order_text(truth), spare=spare)
    # Of two ideas that lead to one number, the later line counts.
    ideas = {truth + 1: "too_careful", truth - 1: "rounds_down", 1 << truth: "page_count"}
    return judge(answer, truth, told=told, refute=refute, ideas=ideas | {pages: "page_count"})
