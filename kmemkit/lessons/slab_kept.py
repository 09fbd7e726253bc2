"""Lesson 08: why is the slab not freed?

Fourteen full slabs, and a list of frees; the check makes them, and looks where every slab is. Then
it calls kmem_cache_shrink(), and counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from string import ascii_uppercase

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
    number,
    spread,
)
from kmemkit.lessons.slab_check import committed, miss
from kmemkit.lessons.slab_worlds import Frames, frames
from kmemkit.slab_snapshot import CacheSnapshot
from kmemkit.snapshot import Snapshot
from kmemkit.strings import text
from kmemkit.views import SlabMap

__all__ = ("check", "problem", "reveal")

_SLABS, _EACH = 14, 4
_ASKED = 6
#: What an answer may say, and the words that it may say it with.
_WORDS = {
    "freed": ("freed", "gone", "given back", "returned"),
    "object": ("object", "in use"),
    "cpu_list": ("cpu partial", "cpu list", "cpu's partial", "cpu's list"),
    "cpu_slab": ("cpu slab", "cpu's slab"),
    "node": ("min_partial", "min partial", "node"),
}


@dataclass(frozen=True, slots=True)
class _Run:
    """What the frees of a seed leave behind. `reasons` has one of _WORDS for each slab's letter."""

    lines: tuple[str, ...]
    after: Snapshot
    reasons: dict[str, str]
    asked: tuple[str, ...]
    in_use: int
    shrunk: int

    @classmethod
    def of(cls, seed: int) -> _Run:
        """Play one order of frees after the other, until every reason comes up."""
        random = Random(f"slab kept {seed}")
        while True:
            run = cls._play(random)
            if set(run.reasons.values()) == set(_WORDS):
                return run

    @classmethod
    def _play(cls, random: Random) -> _Run:
        world = frames(_SLABS)
        letters = ascii_uppercase[:_SLABS]
        order = random.sample(letters, _SLABS)
        held = set(random.sample(order[:8], 2)) | {random.choice(order[8:])}
        held.discard(letters[-1])  # the CPU's own
        last = {letter: random.randrange(_EACH) for letter in held}
        lines = []
        for letter in order:
            rest = [at for n, at in enumerate(_slab(world, letter)) if n != last.get(letter)]
            _free(world, rest)
            key = "all_but_one" if letter in held else "all"
            lines.append(text(f"lesson.slab.kept.{key}", slab=letter))
        late = random.choice(sorted(held))
        _free(world, [_slab(world, late)[last[late]]])
        lines.append(text("lesson.slab.kept.last", slab=late))
        after = world.kernel.snapshot()
        reasons = {letter: _reason(after, _slab(world, letter)) for letter in letters}
        return cls(
            tuple(lines), after, reasons, _choose(random, reasons), len(held) - 1,
            _shrink(world),
        )  # fmt: skip


def _slab(world: Frames, letter: str) -> tuple[int, ...]:
    """Return the objects of a slab."""
    return world.slabs[ascii_uppercase.index(letter)]


def _free(world: Frames, objects: list[int]) -> None:
    for at in objects:
        world.kernel.kmem_cache_free(world.cache, at)


def _frame(snapshot: Snapshot) -> CacheSnapshot:
    return next(cache for cache in snapshot.caches if cache.name == "frame")


def _shrink(world: Frames) -> int:
    """Return how many slabs are left after kmem_cache_shrink()."""
    world.kernel.kmem_cache_shrink(world.cache)
    return len(_frame(world.kernel.snapshot()).slabs)


def _reason(snapshot: Snapshot, objects: tuple[int, ...]) -> str:
    """Return what keeps the slab of some objects, "freed" if nothing does."""
    cache = _frame(snapshot)
    slab = next((slab for slab in cache.slabs if slab.address == min(objects)), None)
    if slab is None:
        return "freed"
    cpu = cache.cpus[0]
    if slab.pfn == cpu.slab:
        return "cpu_slab"
    if slab.inuse:
        return "object"
    return "cpu_list" if slab.pfn in cpu.partial else "node"


def _choose(random: Random, reasons: dict[str, str]) -> tuple[str, ...]:
    """Return the slabs that are asked about: one for every reason, then others."""
    letters = random.sample(sorted(reasons), len(reasons))
    first = {reasons[letter]: letter for letter in letters}
    chosen = [*first.values(), *(letter for letter in letters if letter not in first.values())]
    return tuple(sorted(chosen[:_ASKED]))


def problem(seed: int) -> Problem:
    """Return the frees of a seed, and what is asked about them."""
    run = _Run.of(seed)
    lines = [text("lesson.slab.kept.machine"), f"  {', '.join(run.lines)}."]
    lines.append(text("lesson.slab.kept.ask"))
    words = (text("lesson.slab.kept.where", slab=letter) for letter in run.asked)
    lines += [f"{n}. {word}" for n, word in enumerate(words, 1)]
    lines.append(f"{_ASKED + 1}. {text('lesson.slab.kept.shrink')}")
    return Problem(tuple(lines))


def reveal(answers: object, seed: int) -> SlabMap | Problem:
    """Return a map of what the frees left; before every answer is there, a word of patience."""
    if not committed(answers, _ASKED + 1):
        return Problem((text("lesson.slab.predict_first"),))
    return SlabMap(_Run.of(seed).after, "frame")


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of seven answers: what keeps six slabs, and how many a shrink leaves.

    An answer of another form is not answered yet, and told so.
    """
    run = _Run.of(seed)
    given = spread(answers, _ASKED + 1)
    sheet = judge_each(given[:_ASKED], run.asked, lambda slab, said: _check_slab(run, slab, said))
    return Sheet((*sheet.rows, (f"{_ASKED + 1}.", _check_shrink(run, given[-1]))))


def _check_slab(run: _Run, slab: str, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    reason = run.reasons[slab]
    told = text(f"lesson.slab.kept.told_{reason}", slab=slab)
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    typed = " ".join(str(answer).lower().replace("-", " ").split())
    said = next((key for key, words in _WORDS.items() if any(w in typed for w in words)), "")
    if not said:
        return Verdict(Outcome.OPEN, text("lesson.slab.kept.form", given=repr(answer)))
    if said == reason:
        return Verdict(Outcome.RIGHT, told)
    sentence = text("lesson.slab.kept.wrong", slab=slab, said=text(f"lesson.slab.kept.said_{said}"))
    return miss(sentence, next(_ideas(said, reason), ""))


def _ideas(said: str, reason: str) -> Iterator[str]:
    """Yield the ideas that would have given the wrong reason, the most telling first."""
    if reason == "object":
        yield "rest_is_free"
    if said == "object":
        yield "empty_has_objects"
    if said == "freed":
        yield "empty_is_freed"
    if reason == "freed":
        yield "lists_are_endless"
    if said == "node":
        yield "node_at_once"
    if reason == "node":
        yield "cpu_keeps_all"
    yield "one_cpu_list"


def _check_shrink(run: _Run, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    every = len(_frame(run.after).slabs)
    told = text("lesson.slab.kept.told_shrink", left=run.shrunk, before=every)
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    said = number(answer)
    if said is None:
        return Verdict(Outcome.OPEN, text("lesson.not_a_number", answer=repr(answer)))
    if said == run.shrunk:
        return Verdict(Outcome.RIGHT, told)
    sentence = text("lesson.slab.kept.wrong_shrink", said=said)
    return miss(sentence, next(_shrink_ideas(run, said, every), ""))


def _shrink_ideas(run: _Run, said: int, every: int) -> Iterator[str]:
    """Yield the ideas that would have given the wrong number of slabs."""
    reasons = list(run.reasons.values())
    if not said:
        yield "shrink_takes_all"
    if said == every:
        yield "shrink_is_nothing"
    if said == run.shrunk + reasons.count("cpu_slab") + reasons.count("cpu_list"):
        yield "shrink_spares_cpu"
    if said in (_frame(run.after).min_partial, run.shrunk + reasons.count("node")):
        yield "shrink_spares_node"
    if said == -(-run.in_use // _EACH):
        yield "shrink_moves"
