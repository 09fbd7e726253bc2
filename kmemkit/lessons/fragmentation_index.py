"""Lesson 06: fragmentation indices, worked out from lines of /proc/buddyinfo.

Each line is a machine with holes of its own kind; a verdict asks the simulator's
fragmentation_index() about that machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

from kmemkit.lessons import fragmentation_worlds
from kmemkit.lessons._check import (
    Outcome,
    Problem,
    Sheet,
    Verdict,
    fill_in,
    is_blank,
    is_unknown,
    judge_each,
    kindly,
)
from kmemkit.lessons.fragmentation_check import miss
from kmemkit.mm.compaction import fragmentation_index
from kmemkit.snapshot import order_text
from kmemkit.strings import text

__all__ = ("check", "problem")

_PAGES = 256
#: Rounding: by one either way is right too.
_TOLERANCE = 1
_INDEX = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class _Part:
    """One question: the free blocks of a machine by order, the order that is asked for."""

    counts: tuple[int, ...]
    order: int
    truth: int

    @property
    def blocks(self) -> int:
        return sum(self.counts)

    @property
    def pages(self) -> int:
        return sum(count << order for order, count in enumerate(self.counts))

    @property
    def share(self) -> int:
        """The free pages in thousandths of the block that is wanted."""
        return self.pages * 1000 >> self.order

    @property
    def told(self) -> str:
        return fragmentation_worlds.index_sum(self.counts, self.order, self.truth)


def _scattered(random: Random) -> list[int]:
    """Return many holes of a page or two: lack of size."""
    return random.sample(range(_PAGES), random.randrange(40, 120))


def _lumps(random: Random) -> list[int]:
    """Return few holes just below the order that will be asked for: lack of memory."""
    size = random.choice((4, 8))
    starts = random.sample(range(0, _PAGES, 2 * size), random.randrange(5, 9))
    return [start + page for start in starts for page in range(size)]


def _mixed(random: Random) -> list[int]:
    """Return a few holes of many sizes."""
    starts = random.sample(range(0, _PAGES, 16), random.randrange(6, 12))
    return [start + page for start in starts for page in range(random.choice((1, 2, 4, 8)))]


@cache
def _parts(seed: int) -> tuple[_Part, ...]:
    """Return four questions: two fail for lack of size, one for memory, and one does not fail."""
    random = Random(seed)
    parts = [
        _draw(random, _scattered, lambda index: index > 700),
        _draw(random, _mixed, lambda index: index > 500),
        _draw(random, _lumps, lambda index: 0 <= index <= 500),
        _draw(random, _mixed, lambda index: index == -1000),
    ]
    random.shuffle(parts)
    return tuple(parts)


def _draw(
    random: Random, holes: Callable[[Random], list[int]], wanted: Callable[[int], bool]
) -> _Part:
    """Return a machine and an order of which the index is as wanted."""
    while True:
        kernel = fragmentation_worlds.file_machine("1M", holes(random))
        zone, counts = kernel.zones[0], tuple(fragmentation_worlds.free_counts(kernel))
        orders = range(2, zone.max_order)
        fits = [order for order in orders if wanted(fragmentation_index(zone, order))]
        if fits:
            order = random.choice(fits)
            return _Part(counts, order, fragmentation_index(zone, order))


def problem(seed: int) -> Problem:
    """Return four machines, each with the order that somebody asks for."""
    lines = []
    for place, part in enumerate(_parts(seed), 1):
        counts = " ".join(f"{count:>4}" for count in part.counts)
        size = order_text(part.order)
        lines += [f"{place}. {text('lesson.fragmentation.index.ask', size=size)}"]
        lines += [f"   {text('lesson.fragmentation.index.row', counts=counts)}"]
    return Problem(tuple(lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of four indices, as -1000 to 1000 or, as the kernel's file has them, 0.874.

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _parts(seed), _check_one)


def _check_one(part: _Part, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, part.told)
    said = _index(answer)
    if said is None:
        return Verdict(Outcome.OPEN, text("lesson.fragmentation.index.form", given=repr(answer)))
    if abs(said - part.truth) <= _TOLERANCE:
        return Verdict(Outcome.RIGHT, part.told)
    sentence = text("lesson.fragmentation.index.wrong", said=said, told=part.told)
    return miss(sentence, _idea(part, said))


def _index(answer: object) -> int | None:
    """Return the index that is meant, in thousandths; None if there is none."""
    typed = str(answer).strip().replace("−", "-")
    if isinstance(answer, bool) or not _INDEX.fullmatch(typed):
        return None
    return round(float(typed) * 1000) if "." in typed else int(typed)


def _idea(part: _Part, said: int) -> str:
    """Return the idea that leads to this very number."""
    if part.truth == -1000:
        return "fits_anyway"
    if said == -1000:
        return "never_fits"
    near = {
        "forgot_one": 1000 - part.share // part.blocks,
        "pages_for_blocks": 1000 - (1000 + part.share) // part.pages,
        "order_for_pages": 1000 - (1000 + part.pages * 1000 // part.order) // part.blocks,
        "upside_down": 1000 - part.truth,
        "share_of_free": part.pages * 1000 // _PAGES,
    }
    return next((idea for idea, value in near.items() if abs(said - value) <= _TOLERANCE), "")
