"""Lesson 11: which function frees it, in every case that may happen?

The check plays the chosen function against every allocation that the pointer may come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

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
from kmemkit.lessons.pairing_check import Freeing, call, miss, played, read_freeing, told
from kmemkit.mm.memory import PAGE_SIZE
from kmemkit.strings import text
from kmemkit.views._pairing_calls import ALLOCATORS, call_lines

__all__ = ("check", "check_freeing", "problem")


#: What is played for any order that is too small, or too large.
_KINDS = {"free_pages_smaller": "too_small", "free_pages_larger": "too_large"}


@dataclass(frozen=True, slots=True)
class _Situation:
    """A pointer to be freed: the C before it, and every allocator it may come from."""

    code: str
    sources: tuple[str, ...]


_ALWAYS = (
    _Situation(
        f"{ALLOCATORS['cache'].code}  /* it may have failed, and nobody looks */",
        ("cache", "NULL"),
    ),
    _Situation(
        "p = kvmalloc(n, GFP_KERNEL);  /* n: 64 to 8 << 20 */", ("kvmalloc64", "kvmalloc8m")
    ),
    _Situation(ALLOCATORS["pages3"].code, ("pages3",)),
    _Situation(f"p = big ? {call('vmalloc3p')} : {call('cache')};", ("vmalloc3p", "cache")),
)
_SOME = tuple(
    _Situation(ALLOCATORS[one].code, (one,))
    for one in ("kzalloc64", "kmalloc1m", "vmalloc3p", "exact5")
)


def _situations(seed: int) -> list[_Situation]:
    random = Random(f"pairing choose {seed}")
    found = [*_ALWAYS, *random.sample(_SOME, 2)]
    random.shuffle(found)
    return found


def problem(seed: int) -> Problem:
    """Return the six pointers of a seed."""
    lines = (f"{n}. {one.code}" for n, one in enumerate(_situations(seed), 1))
    return Problem((text("lesson.pairing.choose.ask"), *lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of six freeing functions, as "kfree(p)" or "free_pages(p, 3)".

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _situations(seed), _check_one)


def _check_one(situation: _Situation, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, text("lesson.pairing.choose.hint"))
    try:
        function = read_freeing(answer)
    except ValueError as misfit:
        return Verdict(Outcome.OPEN, str(misfit))
    return check_freeing(function, situation.sources)


def check_freeing(function: Freeing, sources: tuple[str, ...]) -> Verdict:
    """Judge a freeing function: it must be right for each allocator that may have been called."""
    for source in sources:
        if verdict := _wrong_size(function, source):
            return verdict
        freer = function.freer(source)
        outcome = played("plain", source, freer)
        if outcome.verdict != "ok":
            sentence = text(
                f"lesson.pairing.choose.{_KINDS.get(freer, 'wrong')}",
                allocation=call(source),
                freeing=call_lines(source, freer)[1].rstrip(";"),
                told=told(outcome),
            )
            return miss(sentence, next(_ideas(function, source, sources)))
    key = "right" if len(sources) == 1 else "right_each"
    names = text("lesson.pairing.choose.and").join(call(source) for source in sources)
    return Verdict(
        Outcome.RIGHT, text(f"lesson.pairing.choose.{key}", name=function.name, sources=names)
    )


def _wrong_size(function: Freeing, source: str) -> Verdict | None:
    """Return the verdict on free_pages_exact() with another number of pages, None if they agree."""
    if source != "exact5" or function.name != "free_pages_exact":
        return None
    said, pages = (-(-size // PAGE_SIZE) for size in (function.size, ALLOCATORS[source].size))
    if said == pages:
        return None
    sentence = text(
        "lesson.pairing.choose.wrong_size", allocation=call(source), pages=pages, said=said
    )
    return miss(sentence, "rounded_up")


def _ideas(function: Freeing, source: str, sources: tuple[str, ...]) -> Iterator[str]:
    """Yield the ideas that lead to a wrong function, the most telling first."""
    if source == "NULL":
        yield "null_is_fine"
    if source == "kvmalloc8m":
        yield "worked_so_far"
    if source.startswith("pages") and function.name == "free_pages":
        yield "size_is_known"
    if source != "cache" and function.name == "kmem_cache_free":
        yield "cache_takes_all"
    if source == "exact5":
        yield "rounded_up"
    yield "any_function"
