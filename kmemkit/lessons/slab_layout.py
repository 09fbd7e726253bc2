"""Lesson 08: how a cache is laid out, and which caches become one.

Four calls of kmem_cache_create() with their traps, and three pairs of them. The check makes every
cache on a simulated machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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
    spread,
)
from kmemkit.lessons.slab_check import miss
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.slab import (
    SLAB_ACCOUNT,
    SLAB_HWCACHE_ALIGN,
    SLAB_NO_MERGE,
    SLAB_PANIC,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_TYPESAFE_BY_RCU,
)
from kmemkit.mm.slub_layout import get_order
from kmemkit.strings import text

__all__ = ("check", "problem")

_CPUS, _WORD, _LINE, _PAGE = 4, 8, 64, 4096
_FLAGS = {
    "SLAB_ACCOUNT": SLAB_ACCOUNT,
    "SLAB_HWCACHE_ALIGN": SLAB_HWCACHE_ALIGN,
    "SLAB_NO_MERGE": SLAB_NO_MERGE,
    "SLAB_PANIC": SLAB_PANIC,
    "SLAB_RECLAIM_ACCOUNT": SLAB_RECLAIM_ACCOUNT,
    "SLAB_TYPESAFE_BY_RCU": SLAB_TYPESAFE_BY_RCU,
}
#: Flags in which merged caches agree.
_APART = ("SLAB_ACCOUNT", "SLAB_RECLAIM_ACCOUNT")
_NUMBER = re.compile(r"\d+(?:[,_]\d{3})*")
_YES, _NO = ("yes", "y", "true", "same", "shared"), ("no", "n", "false", "own", "apart")


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of kmem_cache_create()."""

    size: int
    align: int = 0
    flag: str = "0"
    ctor: bool = False

    def __str__(self) -> str:
        ctor = "init" if self.ctor else "NULL"
        return f"kmem_cache_create(name, {self.size}, {self.align}, {self.flag}, {ctor})"

    def make(self, kernel: Kernel, name: str, flags: int = 0) -> int:
        """Make the cache."""
        ctor: Callable[[int], None] | None = (lambda _: None) if self.ctor else None
        flags |= _FLAGS.get(self.flag, 0)
        return kernel.kmem_cache_create(name, self.size, self.align, flags, ctor) or 0

    def layout(self) -> tuple[int, int, int]:
        """Return from where to where it is between objects, the order, objects in a slab."""
        kernel = _machine()
        self.make(kernel, "asked", SLAB_NO_MERGE)
        files = kernel.slab_sysfs("asked")
        size, order, objects = (int(files[x]) for x in ("slab_size", "order", "objs_per_slab"))
        return size, order, objects


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two calls, and the idea of who takes them for one cache, or for two."""

    first: _Call
    second: _Call
    idea: str

    def __str__(self) -> str:
        return text("lesson.slab.layout.pair", first=self.first, second=self.second)

    @property
    def shared(self) -> bool:
        """Whether both calls give the same cache."""
        kernel = _machine()
        return self.first.make(kernel, "first") == self.second.make(kernel, "second")


def _machine() -> Kernel:
    return Kernel(ram="16M", cpus=_CPUS)


def _odd(random: Random, low: int, high: int) -> int:
    """Return a size that is no multiple of 8."""
    return next(n for n in iter(lambda: random.randint(low, high), 0) if n % _WORD)


def _roomy(random: Random) -> _Call:
    """Return a call whose slabs need more than a page, and waste a sixteenth at most."""
    low, high = random.choice(((560, 900), (1030, 1900)))
    while True:
        call = _Call(_odd(random, low, high))
        size, order, objects = call.layout()
        if (_PAGE << order) - objects * size <= (_PAGE << order) // 16:
            return call


def _calls(random: Random) -> list[_Call]:
    """Return one call for each trap, in any order."""
    calls = [
        _Call(_odd(random, 33, 60)),
        _Call(random.choice((*range(20, 32), *range(66, 120))), 0, "SLAB_HWCACHE_ALIGN"),
        random.choice((
            _Call(random.randrange(40, 121, 8), 0, "SLAB_TYPESAFE_BY_RCU"),
            _Call(random.randrange(40, 121, 8), 0, "0", ctor=True),
        )),
        _roomy(random),
    ]  # fmt: skip
    random.shuffle(calls)
    return calls


def _pairs(random: Random) -> list[_Pair]:
    """Return two pairs that differ in what matters, and one whose difference does not."""
    base, kind = random.randrange(136, 240, 8), random.choice(_APART)
    plain = _Call(base)
    apart = [
        _Pair(plain, _Call(base, 0, kind), "flags_do_not_matter"),
        _Pair(plain, _Call(base, 0, "SLAB_TYPESAFE_BY_RCU"), "rcu_can_share"),
        _Pair(plain, _Call(base, 0, "0", ctor=True), "ctor_can_share"),
        _Pair(_Call(base + 8), plain, "larger_will_do"),
    ]
    one = [
        _Pair(plain, _Call(base - random.randrange(1, 8)), "sizes_must_match"),
        _Pair(plain, _Call(base, 0, "SLAB_PANIC"), "flags_must_match"),
        _Pair(_Call(192), _Call(192, 0, "SLAB_HWCACHE_ALIGN"), "flags_must_match"),
    ]
    pairs = [*random.sample(apart, 2), random.choice(one)]
    random.shuffle(pairs)
    return pairs


def _parts(seed: int) -> tuple[list[_Call], list[_Pair]]:
    random = Random(f"slab layout {seed}")
    return _calls(random), _pairs(random)


def problem(seed: int) -> Problem:
    """Return the calls and the pairs of a seed."""
    calls, pairs = _parts(seed)
    lines = [text("lesson.slab.layout.ask", cpus=_CPUS), text("lesson.slab.layout.rules")]
    lines += [f"{n}. {call}" for n, call in enumerate(calls, 1)]
    lines.append(text("lesson.slab.layout.ask_pairs"))
    lines += [f"{n}. {pair}" for n, pair in enumerate(pairs, len(calls) + 1)]
    return Problem(tuple(lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of seven answers: four layouts, as "208 0 19", and three times yes or no.

    An answer of another form is not answered yet, and told so.
    """
    calls, pairs = _parts(seed)
    given = spread(answers, len(calls) + len(pairs))
    sheet = judge_each(given[: len(calls)], calls, _check_call)
    rest = judge_each(given[len(calls) :], pairs, _check_pair).rows
    return Sheet((
        *sheet.rows, *((f"{n}.", one) for n, (_, one) in enumerate(rest, len(calls) + 1))
    ))  # fmt: skip


def _check_call(call: _Call, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    size, order, objects = call.layout()
    told = text("lesson.slab.layout.told", size=size, order=order, objects=objects)
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    parts = answer if isinstance(answer, tuple | list) else [answer]
    found = _NUMBER.findall(" ".join(map(str, parts)))
    if len(found) != 3:
        return Verdict(Outcome.OPEN, text("lesson.slab.layout.three", given=repr(answer)))
    said = tuple(int(re.sub(r"[,_]", "", one)) for one in found)
    if said == (size, order, objects):
        return Verdict(Outcome.RIGHT, told)
    if said[0] != size:
        sentence = text("lesson.slab.layout.wrong_size", said=said[0], call=call)
        return miss(sentence, next(_size_ideas(call, size, said[0]), ""))
    if said[1] != order:
        sentence = text("lesson.slab.layout.wrong_order", said=said[1], size=size)
        return miss(sentence, "one_page_each" if said[1] == get_order(size) else "")
    sentence = text("lesson.slab.layout.wrong_objects", said=said[2], size=size, order=order)
    return miss(sentence, next(_count_ideas(call, size, order, said[2]), ""))


def _size_ideas(call: _Call, size: int, said: int) -> Iterator[str]:
    """Yield the ideas that would have given the wrong size, the most telling first."""
    rounded = -(-call.size // _WORD) * _WORD
    aligned = "HWCACHE" in call.flag
    outside = call.ctor or "RCU" in call.flag
    if outside and said == rounded:
        yield "pointer_is_inside"
    if aligned and said in (call.size, rounded):
        yield "align_is_a_wish"
    if aligned and said == -(-call.size // _LINE) * _LINE:
        yield "always_a_line"
    if said == call.size:
        yield "size_as_asked"
    if not outside and said == size + _WORD:
        yield "pointer_is_outside"
    if said == 1 << (call.size - 1).bit_length():
        yield "sizes_are_classes"


def _count_ideas(call: _Call, size: int, order: int, said: int) -> Iterator[str]:
    """Yield the ideas that would have given the wrong number of objects."""
    space = _PAGE << order
    if said == space // call.size:
        yield "size_as_asked"
    if said == space // size - 1:
        yield "slab_has_a_head"
    if said == _PAGE // size:
        yield "one_page_each"


def _check_pair(pair: _Pair, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    told = text(f"lesson.slab.layout.{'shared' if pair.shared else 'apart'}")
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    typed = str(answer).strip().strip(".").lower()
    if typed not in (*_YES, *_NO):
        return Verdict(Outcome.OPEN, text("lesson.slab.layout.yes_or_no", given=repr(answer)))
    if (typed in _YES) == pair.shared:
        return Verdict(Outcome.RIGHT, told)
    return miss(told, pair.idea)
