"""What the exercises of lesson 11 share: how a pair went, in words, and a freeing function read.

Pairs are played by mm/misuse_pair.py; nothing here knows how one ends.
"""

from __future__ import annotations

import math
import re
from functools import cache, partial
from typing import NamedTuple

from kmemkit.lessons._check import Misfit, number, wrong
from kmemkit.mm.memory import PAGE_SIZE
from kmemkit.mm.misuse_guest import Outcome
from kmemkit.mm.misuse_pair import play_pair
from kmemkit.strings import text
from kmemkit.views._pairing_calls import ALLOCATORS

__all__ = (
    "Freeing",
    "call",
    "headline",
    "miss",
    "played",
    "read_freeing",
    "told",
)

#: The verdict on a wrong answer; its idea is a key under `lesson.pairing.idea`.
miss = partial(wrong, section="pairing")

_BY_ADDRESS = ("kfree", "kvfree", "vfree", "kfree_sensitive")
_CALL = re.compile(r"(\w+)\s*(?:\((.*)\))?\s*;?")

#: A pair is played once: it always goes the same way.
played = cache(play_pair)


def call(allocator: str) -> str:
    """Return the call in C that gives the memory."""
    return ALLOCATORS[allocator].code.removeprefix("p = ").rstrip(";")


def told(outcome: Outcome) -> str:
    """Return how a pair went: the verdict, what the kernel said, the memory, the damage."""
    line = headline(outcome)
    said = text("lesson.pairing.said", line=line) if line else text("lesson.pairing.nothing_said")
    parts = [f"{outcome.verdict}: {said}", _memory(outcome.memory_returned or "n/a")]
    if outcome.later:
        parts.append(text("lesson.pairing.later", line=outcome.later[0]))
    if outcome.drift:
        parts.append(text("lesson.pairing.drift", pages=f"{outcome.drift:+}"))
    return "; ".join(filter(None, parts))


def headline(outcome: Outcome) -> str:
    """Return the first line of a report that says what is wrong, "" if nothing was said."""
    first = outcome.report_first_line or ""
    if not first.startswith("page:"):
        return first
    # DEBUG_VM prints the page, and then why.
    return next((line for line in outcome.report if line.startswith("page dumped")), first)


def _memory(returned: str) -> str:
    word = returned.split(";")[0].split(":")[0].split(" (")[0]
    key = {"yes": "all", "no": "none", "partly": "part", "not yet": "waits"}.get(word)
    if key == "part":
        return text("lesson.pairing.memory.part", part=returned.partition(": ")[2])
    return text(f"lesson.pairing.memory.{key}") if key else ""


class Freeing(NamedTuple):
    """A freeing function as an answer names it; `order` and `size` (bytes): -1 if not given."""

    name: str
    order: int = -1
    size: int = -1

    def freer(self, allocator: str) -> str:
        """Return which of misuse_pair.FREERS this is for a block of an allocator."""
        if self.name == "kmem_cache_free":  # there is one cache in these exercises
            return f"kmem_cache_free_{'own' if allocator == 'cache' else 'other'}"
        if self.name != "free_pages":
            return self.name
        order = ALLOCATORS[allocator].order
        kind = "smaller" if self.order < order else "larger" if self.order > order else "same"
        return f"free_pages_{kind}"


def read_freeing(answer: object) -> Freeing:
    """Read "kfree", "kfree(p);", "kmem_cache_free(cache, p)", "free_pages(p, 3)" and their kind.

    Raises:
        Misfit: it is none of the functions, or one without the order, size or cache it needs.
    """
    found = _CALL.fullmatch(str(answer).strip())
    name, arguments = (found[1], found[2] or "") if found else ("", "")
    last = arguments.rpartition(",")[2].strip()
    if name == "free_page":
        return Freeing("free_pages", 0)
    if name in ("free_pages", "__free_pages"):
        if not last.isdigit():
            raise Misfit(text("lesson.pairing.no_order", given=repr(answer)))
        return Freeing("free_pages", int(last))
    if name == "free_pages_exact":
        if (size := _bytes(last)) is None:
            raise Misfit(text("lesson.pairing.no_size", given=repr(answer)))
        return Freeing(name, size=size)
    if name == "kmem_cache_free" and arguments and "," not in arguments:
        raise Misfit(text("lesson.pairing.no_cache", given=repr(answer)))
    known = (*_BY_ADDRESS, "kmem_cache_free", "free_pages_exact")
    if name not in known:
        names = ", ".join((*known, "free_pages"))
        raise Misfit(text("lesson.pairing.no_function", given=repr(answer), names=names))
    return Freeing(name)


def _bytes(size: str) -> int | None:
    """Return what "20480", "0x5000" or "5 * PAGE_SIZE" comes to, None if it is no size."""
    factors = [PAGE_SIZE if one.strip() == "PAGE_SIZE" else number(one) for one in size.split("*")]
    return None if None in factors else math.prod(one for one in factors if one is not None)
