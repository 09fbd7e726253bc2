"""Multiple choice: the question before a lesson, and its exit ticket.

Each question finds its right option by running the simulator, and every other option belongs to a
wrong idea. Options are shuffled by the seed, so a letter means nothing outside its notebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from kmemkit.gfp import GFP_HIGHUSER_MOVABLE, GFP_NOWAIT, decode
from kmemkit.lessons import worlds
from kmemkit.lessons._check import (
    Outcome,
    Problem,
    Verdict,
    fill_in,
    is_blank,
    is_unknown,
    wrong,
)
from kmemkit.lessons.conversions import get_order
from kmemkit.lessons.order_for_pages import pages_taken
from kmemkit.mm.kernel import Kernel
from kmemkit.strings import text

__all__ = (
    "ALL",
    "Choice",
    "half_free",
    "last_freed",
    "old_log",
    "one_piece",
    "order_three",
    "pair",
)


class Choice:
    """One question with four options.

    Args:
        name: of the question in the string table, under `lesson.questions`.
        options: option -> the wrong idea behind it; "" for the one that is right.
        truth: runs the simulator and returns the option that is right.
        section: the lesson that has these ideas in a table of its own, such as "gfp".
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, str],
        truth: Callable[[], str],
        section: str = "",
    ) -> None:
        self.name = name
        self.options = dict(options)
        self._truth = truth
        self._section = section

    def letters(self, seed: int) -> dict[str, str]:
        """Return letter -> option, in the order of this seed."""
        options = list(self.options)
        Random(f"{self.name} {seed}").shuffle(options)
        return dict(zip("abcd", options, strict=True))

    def problem(self, seed: int) -> Problem:
        """Return the question and its options."""
        lines = [text(f"lesson.questions.{self.name}.ask")]
        letters = self.letters(seed).items()
        lines += [f"  {letter}) {self._say(option)}" for letter, option in letters]
        return Problem(tuple(lines))

    def check(self, answer: object, seed: int) -> Verdict:
        """Judge a letter, or "I do not know"."""
        if is_blank(answer):
            return fill_in()
        told = text(f"lesson.questions.{self.name}.told")
        if is_unknown(answer):
            return Verdict(Outcome.UNKNOWN, told)
        letters = self.letters(seed)
        letter = str(answer).strip().strip("().").lower()
        if letter not in letters:
            return Verdict(Outcome.OPEN, text("lesson.questions.letter", answer=repr(answer)))
        said = letters[letter]
        if said == self._truth():
            return Verdict(Outcome.RIGHT, told)
        sentence = text("lesson.questions.said", letter=letter, option=self._say(said))
        return wrong(sentence, self.options[said], self._section)

    def _say(self, option: str) -> str:
        return text(f"lesson.questions.{self.name}.{option}")

    def __repr__(self) -> str:
        return f"Choice({self.name})"


def _pages(order: int) -> str:
    return f"pages_{pages_taken(order)}"


def _mask() -> str:
    names = decode(0xA20, "5.10")
    return f"pages_{pages_taken(2)}" if names == "GFP_ATOMIC" else f"pages_{pages_taken(2)}_bit"


def _half_free() -> str:
    got = worlds.every_second_page().alloc_pages(GFP_NOWAIT, 1)  # looks at the free lists, no more
    return "null" if got is None else "block"


def _pair() -> str:
    """Free 0x1 and then 0x2 while 0x0 and 0x3 are in use."""
    kernel = Kernel(ram="256K")
    for _ in range(4):
        kernel.alloc_pages(GFP_HIGHUSER_MOVABLE, 0)
    kernel.free_pages(1, 0)
    kernel.free_pages(2, 0)
    info = kernel.snapshot().page(2)
    return f"order_{info.order}_at_{info.head}"


def _last_freed() -> str:
    """Free 0x10 and then 0x4, with their buddies in use, and ask for one page."""
    kernel = Kernel(ram="256K")
    for _ in range(0x20):
        kernel.alloc_pages(GFP_HIGHUSER_MOVABLE, 0)
    kernel.free_pages(0x4, 0)
    kernel.free_pages(0x10, 0)
    return f"pfn_{kernel.alloc_pages(GFP_HIGHUSER_MOVABLE, 0):x}"


#: Lesson 00, before: how much is order 3?
order_three = Choice(
    "order_three",
    {"pages_8": "", "pages_3": "page_count", "pages_6": "times_two", "pages_32": "kb_as_pages"},
    lambda: _pages(3),
)
#: Lesson 00, exit ticket: a line of an old log.
old_log = Choice(
    "old_log",
    {
        "pages_4": "",
        "pages_2": "page_count",
        "pages_4_bit": "one_meaning",
        "pages_16": "kb_as_pages",
    },
    _mask,
)
#: Lesson 05, before: half of the memory is free, is order 1 possible? (misconception M1)
half_free = Choice(
    "half_free",
    {"null": "", "block": "free_is_enough", "scattered": "scattered", "moved": "always_moves"},
    _half_free,
)
#: Lesson 05, exit ticket: neighbours across a border.
pair = Choice(
    "pair",
    {
        "order_0_at_2": "",
        "order_1_at_1": "adjacent",
        "order_1_at_2": "busy_merges",
        "order_2_at_0": "partly_free",
    },
    _pair,
)
#: Lesson 05, exit ticket: which of two free pages is next.
last_freed = Choice(
    "last_freed",
    {"pfn_10": "", "pfn_4": "lowest", "pfn_20": "largest", "pfn_3f": "from_the_end"},
    _last_freed,
)
#: Lesson 05, exit ticket, from lesson 00: 36 kB in one piece.
one_piece = Choice(
    "one_piece",
    {"pages_16": "", "pages_9": "page_count", "pages_8": "rounds_down", "pages_36": "kb_as_pages"},
    lambda: _pages(get_order(9)),
)

ALL = (order_three, old_log, half_free, pair, last_freed, one_piece)
