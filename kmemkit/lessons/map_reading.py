"""Lesson 00: read a page map by its letters and numbers.

The learner looks at the map of `world(seed)` and answers before pointing at a page, where
the line under the map would tell.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from kmemkit.lessons import worlds
from kmemkit.lessons._check import Problem, Sheet, judge, kindly, spread
from kmemkit.mm.kernel import Kernel
from kmemkit.snapshot import Kind, order_text
from kmemkit.strings import text

__all__ = ("check", "problem", "world")


class _Asked(NamedTuple):
    """The pages that are asked about: one inside an allocated block, one inside a free block."""

    held: int
    free: int


def world(seed: int) -> Kernel:
    """Boot the machine of a seed: all three migratetypes, and blocks worth asking about."""
    return _choose(seed)[0]


def _choose(seed: int) -> tuple[Kernel, _Asked]:
    """Return a machine, and two of its pages that are not the heads of their blocks."""
    random = Random(seed)
    while True:
        kernel = worlds.mixed(random.randrange(1 << 30))
        snapshot = kernel.snapshot()
        infos = map(snapshot.page, range(snapshot.first_pfn, snapshot.end_pfn))
        behind = [info for info in infos if info.pfn != info.head and info.order > 1]
        held = [info.pfn for info in behind if info.kind.allocated]
        free = [info.pfn for info in behind if info.kind is Kind.FREE]
        if held and free:
            return kernel, _Asked(random.choice(held), random.choice(free))


def problem(seed: int) -> Problem:
    """Return three questions about the map of `world(seed)`."""
    _, asked = _choose(seed)
    return Problem(
        (
            f"1. {text('lesson.map_reading.ask.held', pfn=f'{asked.held:#x}')}",
            f"2. {text('lesson.map_reading.ask.head', pfn=f'{asked.free:#x}')}",
            f"3. {text('lesson.map_reading.ask.largest')}",
        )
    )


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of three answers.

    An answer of another form is not answered yet, and told so.
    """
    first, second, third = spread(answers, 3)
    kernel, asked = _choose(seed)
    snapshot = kernel.snapshot()
    held, free = snapshot.page(asked.held), snapshot.page(asked.free)
    largest = max(order for zone in snapshot.zones for order, _ in zone.free_lists())
    page, hole = f"{asked.held:#x}", f"{asked.free:#x}"
    block = {"head": f"{held.head:#x}", "size": order_text(held.order)}
    rows = (
        judge(
            first,
            1 << held.order,
            told=text("lesson.map_reading.told.held", pfn=page, **block),
            refute=lambda said: text("lesson.map_reading.refute.held", said=said, pfn=page),
            ideas={1: "tail_alone", held.order: "page_count", 4 << held.order: "kb_as_pages"},
        ),
        judge(
            second,
            free.head,
            told=text(
                "lesson.map_reading.told.head",
                pfn=hole,
                head=f"{free.head:#x}",
                size=order_text(free.order),
            ),
            refute=lambda said: text("lesson.map_reading.refute.head", said=f"{said:#x}", pfn=hole),
            ideas={asked.free: "tail_alone"},
        ),
        judge(
            third,
            largest,
            told=text("lesson.map_reading.told.largest", size=order_text(largest)),
            refute=lambda said: text("lesson.map_reading.refute.largest", said=said),
            ideas={1 << largest: "page_count"},
        ),
    )
    return Sheet(tuple((f"{n}.", verdict) for n, verdict in enumerate(rows, 1)))
