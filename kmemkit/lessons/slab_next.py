"""Lesson 08, predict and look: which object does the next allocation return?

A small cache and five calls on it; the check makes them. `look` shows the map as it is before
them, `reveal` the whole run, once every prediction is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from kmemkit.gfp import GFP_KERNEL
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
from kmemkit.lessons.slab_check import committed, miss
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.slab import SLAB_NO_MERGE
from kmemkit.slab_memory import SlabMemory, objects
from kmemkit.slab_snapshot import CacheSnapshot
from kmemkit.snapshot import Snapshot
from kmemkit.strings import text
from kmemkit.views import SlabMap

__all__ = ("check", "look", "problem", "reveal")

#: Bytes of an object: eight of them in a slab of a page.
_SIZE, _IN_SLAB = 512, 8
_PARTS = 5
_PLACE = re.compile(r"(0x[0-9a-f]+)\D+(\d+)")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One prediction: what is done before it, the moment it is about, and what came then."""

    told: str
    before: Snapshot
    got: int
    #: what was freed just before, 0 if nothing was
    freed: int


class _Run:
    """The machine of a seed, and the calls on it."""

    def __init__(self, seed: int) -> None:
        random = Random(f"slab next {seed}")
        self.kernel = kernel = Kernel(ram="16M", seed=random.randrange(1 << 20))
        cache = kernel.kmem_cache_create("packet", _SIZE, 0, SLAB_NO_MERGE)
        assert cache is not None, "there is memory for a cache"
        self.cache = cache
        self.held = [self._get() for _ in range(3 * _IN_SLAB + 4)]
        pages = [self.held[n : n + _IN_SLAB] for n in range(0, len(self.held), _IN_SLAB)]
        older, *_, newest = pages
        # One object of a full slab each, then two of another one, then two of the CPU's slab
        for at in (random.choice(pages[1]), *random.sample(older, 2), *random.sample(newest, 2)):
            self._put(at)
        self.start = kernel.snapshot()
        kernel.record()
        self.asked: list[_Asked] = []
        self._ask("first", 0)
        last = self.asked[0].got
        mine = random.choice([at for at in newest if at in self.held and at != last])
        self._put(mine)
        self._ask("own", mine)
        other = random.choice([at for at in pages[2] if at in self.held])
        self._put(other)
        self._ask("other", other)
        rest = self._left()
        for _ in range(rest - 1):
            self.held.append(self._get())
        self._ask("last", 0, count=rest - 1)
        self._ask("empty", 0)

    def _get(self) -> int:
        return self.kernel.kmem_cache_alloc(self.cache, GFP_KERNEL) or 0

    def _put(self, at: int) -> None:
        self.kernel.kmem_cache_free(self.cache, at)
        self.held.remove(at)

    def _left(self) -> int:
        """Return how many objects are on the CPU's list."""
        return len(_cpu_list(self.kernel.snapshot()))

    def _ask(self, key: str, freed: int, **values: object) -> None:
        before = self.kernel.snapshot()
        if freed:
            values["what"] = _name(before, freed)
        got = self._get()
        self.held.append(got)
        told = text(f"lesson.slab.next.{key}", **values)
        self.asked.append(_Asked(told, before, got, freed))


def _packet(snapshot: Snapshot) -> CacheSnapshot:
    return next(cache for cache in snapshot.caches if cache.name == "packet")


def _cpu_list(snapshot: Snapshot) -> tuple[int, ...]:
    """Return the objects on the CPU's free list, first to last."""
    cache = _packet(snapshot)
    cpu = cache.cpus[0]
    slab = next((slab for slab in cache.slabs if slab.pfn == cpu.slab), None)
    return () if slab is None else SlabMemory(snapshot).free_list(cache, slab, cpu.freelist).objects


def _place(snapshot: Snapshot, at: int) -> tuple[int, int]:
    """Return (pfn of the slab, number of the object) of an address."""
    cache = _packet(snapshot)
    for slab in cache.slabs:
        every = objects(cache, slab)
        if at in every:
            return slab.pfn, every.index(at)
    raise ValueError(f"{at:#x} is no object of the cache")


def _name(snapshot: Snapshot, at: int) -> str:
    pfn, number = _place(snapshot, at)
    return f"{pfn:#x} {number}"


def problem(seed: int) -> Problem:
    """Return the five moments that predictions are asked for."""
    lines = [text("lesson.slab.next.ask")]
    lines += [f"{n}. {asked.told}" for n, asked in enumerate(_Run(seed).asked, 1)]
    return Problem(tuple(lines))


def look(seed: int) -> SlabMap:
    """Return the map of the cache before the calls."""
    return SlabMap(_Run(seed).start, "packet")


def reveal(answers: object, seed: int) -> SlabMap | Problem:
    """Return the calls as steps of a map; before all predictions are made, a word of patience."""
    if not committed(answers, _PARTS):
        return Problem((text("lesson.slab.predict_first"),))
    return SlabMap(history=_Run(seed).kernel.history, cache="packet", step=0)


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of five objects, each as the map names it: slab and number, "0x402 5".

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _Run(seed).asked, _check_one)


def _check_one(asked: _Asked, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    told = text("lesson.slab.next.told", what=_name(asked.before, asked.got))
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    if "new" in str(answer).lower():
        return miss(text("lesson.slab.next.wrong_new"), "new_slab_next")
    said = _typed(answer)
    if said is None:
        return Verdict(Outcome.OPEN, text("lesson.slab.next.form", given=repr(answer)))
    if said == _place(asked.before, asked.got):
        return Verdict(Outcome.RIGHT, told)
    what = f"{said[0]:#x} {said[1]}"
    sentence = text("lesson.slab.next.wrong", what=what)
    return miss(sentence, next(_ideas(asked, said), ""))


def _typed(answer: object) -> tuple[int, int] | None:
    if isinstance(answer, tuple | list) and len(answer) == 2:
        slab, index = answer
        answer = f"{slab:#x} {index}" if isinstance(slab, int) else f"{slab} {index}"
    found = _PLACE.search(str(answer).lower())
    return None if found is None else (int(found.group(1), 16), int(found.group(2)))


def _ideas(asked: _Asked, said: tuple[int, int]) -> Iterator[str]:
    """Yield the ideas that would have given the wrong object, the most telling first."""
    before, mine = asked.before, _cpu_list(asked.before)
    right = _place(before, asked.got)
    if asked.got in mine and said == (right[0], mine.index(asked.got) + 1):
        yield "rank_is_number"
    if asked.freed and said == _place(before, asked.freed):
        yield "last_freed_anywhere"
    order = [_place(before, at) for at in mine]
    if len(order) > 1 and said == order[-1]:
        yield "first_freed"
    if order and said == min(order):
        yield "lowest_object"
    cache = _packet(before)
    spare = cache.cpus[0].partial
    if mine and said[0] in spare:
        yield "holes_first"
    if not mine and spare and said[0] in spare[1:]:
        yield "oldest_slab"
    memory = SlabMemory(before)
    lists = [memory.free_list(cache, slab, slab.freelist).objects for slab in cache.slabs]
    free = {_place(before, at) for at in (*mine, *(at for found in lists for at in found))}
    if said in {_place(before, at) for slab in cache.slabs for at in objects(cache, slab)} - free:
        yield "in_use_too"
