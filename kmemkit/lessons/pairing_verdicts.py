"""Lesson 11: how does a pair of functions end, on this kernel?

The check plays the pair on the very kernel of the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

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
from kmemkit.lessons.pairing_check import miss, played, told
from kmemkit.strings import text
from kmemkit.views._pairing_calls import call_lines

__all__ = ("VERDICTS", "check", "problem")

#: What can be answered; misuse_guest.Outcome.verdict says what they mean.
VERDICTS = ("ok", "silent", "report", "oops", "hung", "panic")


class _Pair(NamedTuple):
    kernel: str
    allocator: str
    freer: str


#: From each row one is drawn: every row has a trap of its own.
_POOLS = (
    (
        _Pair("plain", "cache", "kfree"),
        _Pair("plain", "vmalloc3p", "kvfree"),
        _Pair("kasan", "cache", "kvfree"),
        _Pair("plain", "NULL", "vfree"),
        _Pair("plain", "kvmalloc64", "kfree"),
    ),
    (
        _Pair("plain", "vmalloc3p", "kfree"),
        _Pair("plain", "kvmalloc8m", "kfree"),
        _Pair("kasan", "vmalloc3p", "free_pages_same"),
    ),
    (
        _Pair("plain", "NULL", "kmem_cache_free_own"),
        _Pair("plain", "ERR_PTR", "kfree"),
    ),
    (
        _Pair("plain", "kmalloc64", "vfree"),
        _Pair("plain", "cache", "kmem_cache_free_other"),
        _Pair("plain", "pages0", "kfree"),
        _Pair("plain", "pages3", "kfree"),
        _Pair("plain", "pages3", "kmem_cache_free_own"),
    ),
    (
        _Pair("plain", "pages3", "free_pages_smaller"),
        _Pair("kasan", "pages3", "free_pages_smaller"),
        _Pair("plain", "kmalloc3p", "free_pages_same"),
        _Pair("plain", "pages3", "free_pages_exact"),
    ),
    (
        _Pair("kasan", "kmalloc3p", "free_pages_smaller"),
        _Pair("noinit", "kmalloc64", "free_pages_same"),
        _Pair("kasan", "pages3", "free_pages_exact"),
        _Pair("noinit", "kmalloc1m", "free_pages_larger"),
    ),
)


def _pairs(seed: int) -> list[_Pair]:
    random = Random(f"pairing verdicts {seed}")
    pairs = [random.choice(pool) for pool in _POOLS]
    random.shuffle(pairs)
    return pairs


def problem(seed: int) -> Problem:
    """Return the six pairs of a seed, and what the verdicts mean."""
    lines = [text("lesson.pairing.verdicts.ask")]
    lines += [f"  {one}: {text(f'lesson.pairing.verdict.{one}')}" for one in VERDICTS]
    for n, (kernel, allocator, freer) in enumerate(_pairs(seed), 1):
        code = " ".join(call_lines(allocator, freer))
        lines.append(f"{n}. {text(f'pairing_table.kernel.{kernel}')}: {code}")
    return Problem(tuple(lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of six verdicts, each a word of VERDICTS.

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _pairs(seed), _check_one)


def _check_one(pair: _Pair, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    outcome = played(*pair)
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told(outcome))
    said = str(answer).strip().strip(".").lower()
    if said not in VERDICTS:
        names = ", ".join(VERDICTS)
        sentence = text("lesson.pairing.verdicts.no_verdict", given=repr(answer), names=names)
        return Verdict(Outcome.OPEN, sentence)
    if said == outcome.verdict:
        return Verdict(Outcome.RIGHT, told(outcome))
    sentence = text("lesson.pairing.verdicts.wrong", said=said, told=told(outcome))
    return miss(sentence, next(_ideas(pair, said, outcome.verdict), ""))


def _ideas(pair: _Pair, said: str, verdict: str) -> Iterator[str]:
    """Yield the ideas that would have given the wrong verdict `said`, the most telling first."""
    kernel, allocator, freer = pair
    if kernel != "plain" and said == played("plain", allocator, freer).verdict:
        yield "kernels_agree"
    if allocator == "NULL":
        yield "null_is_fine" if verdict == "oops" else "null_is_bad"
    if allocator == "ERR_PTR":
        yield "error_is_null"
    if verdict == "ok":
        yield "wrong_shows" if allocator == "kvmalloc64" else "each_its_own"
    if said == "ok":
        yield "silence_is_right" if verdict == "silent" else "any_function"
    if verdict == "silent":
        yield "kernel_would_say"
    if said == "silent":
        yield "plain_is_mute"
    if said in ("oops", "hung", "panic"):
        yield "wrong_is_fatal"
    if verdict == "oops":
        yield "report_is_all"
