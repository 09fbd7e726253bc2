"""Lesson 00: bytes, pages, orders, kB, page frame numbers and addresses into one another.

`convert()` is the lesson's calculator. The exercise asks eight conversions, one of each kind; each
kind knows which wrong number comes from which wrong idea.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from kmemkit.lessons._check import Problem, Sheet, Verdict, judge, judge_each, kindly
from kmemkit.snapshot import order_text, size_text
from kmemkit.strings import text

__all__ = ("PAGE_SIZE", "check", "convert", "get_order", "problem")

PAGE_SIZE = 4096
_UNITS = {
    "": 1,
    "byte": 1,
    "bytes": 1,
    "b": 1,
    "kb": 1 << 10,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "page": PAGE_SIZE,
    "pages": PAGE_SIZE,
}
_QUANTITY = re.compile(r"(order|pfn)?\s*(0x[0-9a-f]{1,12}|[0-9]{1,15})\s*([a-z]*)")
#: No machine has a block that large, so nobody means it.
_LARGEST_ORDER = 20


def get_order(pages: int) -> int:
    """Return the smallest order whose block holds `pages` pages (named after the kernel's own)."""
    return (pages - 1).bit_length()


def convert(quantity: str | int) -> str:
    """Say one quantity in the other units.

    Understood are "20000 bytes", "36 kB", "9 pages", "order 3" and "pfn 0x118"; a plain number is
    a number of bytes.

    Raises:
        ValueError: it is no such quantity; the message lists what is understood.
    """
    found = _QUANTITY.fullmatch(str(quantity).replace(",", "").strip().lower())
    what, digits, unit = found.groups() if found else ("", "0", "")
    n = int(digits, 16 if digits.startswith("0x") else 10)
    if what == "pfn" and not unit:
        return text(
            "lesson.conversions.pfn", pfn=f"{n:#x}", decimal=f"{n:,}", address=f"{n * PAGE_SIZE:#x}"
        )
    if what == "order" and not unit and n <= _LARGEST_ORDER:
        return text("lesson.conversions.order", order=order_text(n), hex=f"{1 << n:#x}")
    if what or unit not in _UNITS or not n:
        raise ValueError(text("lesson.conversions.not_a_quantity", given=repr(quantity)))
    size = n * _UNITS[unit]
    pages = -(-size // PAGE_SIZE)
    order = get_order(pages)
    as_pages = text(
        "lesson.conversions.pages",
        pages=_count(pages),
        hex=f"{pages:#x}",
        size=size_text(pages),
        order=order_text(order),
        spare=_count((1 << order) - pages),
    )
    if unit in ("page", "pages"):
        return as_pages
    as_bytes = text(
        "lesson.conversions.bytes",
        bytes=f"{size:,}",
        hex=f"{size:#x}",
        quotient=f"{size / PAGE_SIZE:.2f}",
    )
    return f"{as_bytes}\n{as_pages}"


def _count(pages: int) -> str:
    """Return a number of pages with its noun."""
    return text("lesson.one_page") if pages == 1 else text("lesson.many_pages", pages=f"{pages:,}")


@dataclass(frozen=True, slots=True)
class _Task:
    """One conversion: its kind, the number to convert, and an order where the kind needs one."""

    kind: str
    n: int
    order: int = 0

    def ask(self) -> str:
        return text(f"lesson.conversions.ask.{self.kind}", **self._fields())

    def check(self, answer: object) -> Verdict:
        truth, ideas = _KINDS[self.kind](self)
        told = text(f"lesson.conversions.told.{self.kind}", **self._fields(), **_forms(truth))
        key = f"lesson.conversions.refute.{self.kind}"
        return judge(
            answer,
            truth,
            told=told,
            refute=lambda said: text(key, **self._fields(), **_forms(said)),
            ideas=dict(reversed(ideas)),  # of two ideas with one number, the first is meant
        )

    def _fields(self) -> dict[str, object]:
        return {"n": f"{self.n:,}", "hex_n": f"{self.n:#x}", "size": order_text(self.order)}


def _forms(value: int) -> dict[str, object]:
    """Return a number in every form that a sentence may want."""
    known = 0 <= value <= _LARGEST_ORDER
    block = order_text(value) if known else text("lesson.conversions.no_order", order=value)
    return {
        "value": f"{value:,}",
        "hex_value": f"{value:#x}",
        "bytes": f"{value * PAGE_SIZE:,}",
        "kb": f"{value * 4:,}",
        "block": block,
    }


_Ideas = list[tuple[int, str]]


def _pages(task: _Task) -> tuple[int, _Ideas]:
    whole = task.n // PAGE_SIZE
    return -(-task.n // PAGE_SIZE), [(whole, "rounds_down"), (-(-task.n // 4000), "kilo")]


def _order(task: _Task) -> tuple[int, _Ideas]:
    order = get_order(task.n)
    return order, [(task.n, "page_count"), (order - 1, "rounds_down"), (1 << order, "page_count")]


def _block_pages(task: _Task) -> tuple[int, _Ideas]:
    ideas = [(task.n, "page_count"), (2 * task.n, "times_two"), (4 << task.n, "kb_as_pages")]
    return 1 << task.n, ideas


def _block_kb(task: _Task) -> tuple[int, _Ideas]:
    ideas = [(1 << task.n, "kb_as_pages"), (4 * task.n, "page_count"), (8 * task.n, "times_two")]
    return 4 << task.n, ideas


def _spare(task: _Task) -> tuple[int, _Ideas]:
    block = 1 << get_order(task.n)
    return block - task.n, [(0, "page_count"), (task.n - block // 2, "rounds_down")]


def _decimal(task: _Task) -> tuple[int, _Ideas]:
    return task.n, [(int(f"{task.n:x}"), "hex_as_decimal")]


def _address(task: _Task) -> tuple[int, _Ideas]:
    ideas = [(task.n, "pfn_is_address"), (task.n * 4, "kb_as_pages"), (task.n * 1000, "kilo")]
    return task.n * PAGE_SIZE, [*ideas, (task.n << 4, "pfn_is_address")]


def _next(task: _Task) -> tuple[int, _Ideas]:
    size = 1 << task.order
    ideas = [(task.n + task.order, "page_count"), (task.n + size - 1, "last_page")]
    return task.n + size, [*ideas, (task.n + 2 * task.order, "times_two")]


_KINDS: dict[str, Callable[[_Task], tuple[int, _Ideas]]] = {
    "pages": _pages,
    "order": _order,
    "block_pages": _block_pages,
    "block_kb": _block_kb,
    "spare": _spare,
    "decimal": _decimal,
    "address": _address,
    "next": _next,
}


def _tasks(seed: int) -> list[_Task]:
    """Return the eight conversions of a seed, always in the same order of kinds."""
    random = Random(seed)
    asked, wide = random.sample(range(3, 8), 2)
    block = random.randint(2, 4)
    # A pfn of digits below 8 can be mistaken for a decimal number.
    digits = [random.randint(1, 7) for _ in range(3)]
    return [
        _Task("pages", 1000 * random.randint(9, 60) + random.choice((0, 96, 500))),
        _Task("order", random.choice((5, 6, 7, 9, 11, 13, 17, 21))),
        _Task("block_pages", asked),
        _Task("block_kb", wide),
        _Task("spare", random.choice((9, 10, 11, 17, 18, 19, 33, 35))),
        _Task("decimal", digits[0] << 8 | digits[1] << 4 | digits[2]),
        _Task("address", random.randint(0x11, 0xFE)),
        _Task("next", random.randint(1, 15) << 4, block),
    ]


def problem(seed: int) -> Problem:
    """Return the eight conversions of a seed."""
    return Problem(tuple(f"{n}. {task.ask()}" for n, task in enumerate(_tasks(seed), 1)))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of eight answers.

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _tasks(seed), lambda task, answer: task.check(answer))
