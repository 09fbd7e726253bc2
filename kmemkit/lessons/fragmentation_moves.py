"""Lesson 06: make room for the largest block of a world, with as few moves as possible.

Where the kernel's scanners sweep, a learner may choose. A check makes the learner's moves one by
one, lets free neighbours merge as buddies do, and looks for the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

from kmemkit.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from kmemkit.lessons import fragmentation_worlds
from kmemkit.lessons._check import (
    Misfit,
    Outcome,
    Problem,
    Verdict,
    fill_in,
    is_blank,
    is_unknown,
)
from kmemkit.lessons.fragmentation_check import miss, typed_moves
from kmemkit.mm.kernel import Kernel
from kmemkit.snapshot import Event, Kind, Snapshot, order_text
from kmemkit.strings import text
from kmemkit.views import PageMap
from kmemkit.views._compaction_steps import Moves, largest_free

__all__ = ("check", "play", "problem", "world")

_PAGES = 256
#: The highest order of a world of so many pages, and the pages of its block.
_ORDER = 6
_SIZE = 1 << _ORDER


@cache
def _layout(seed: int) -> tuple[tuple[int, ...], int, int]:
    """Return pfns of file pages, the driver's page, and the page that only looks movable.

    Each of four ranges has its own trap: the emptiest has a page that can't move, the next one a
    page that only looks as if it could; one can be emptied with few moves, and one with many.
    """
    random = Random(seed)
    ranges = [range(start, start + _SIZE) for start in range(0, _PAGES, _SIZE)]
    random.shuffle(ranges)
    few = random.randrange(4, 7)
    fixed = random.sample(ranges[0], few - 2)
    fake = random.sample(ranges[1], few - 1)
    files = fixed[1:] + fake[1:] + random.sample(ranges[2], few)
    files += random.sample(ranges[3], random.randrange(30, 45))
    return tuple(sorted(files)), fixed[0], fake[0]


def world(seed: int) -> Kernel:
    """Boot the machine of a seed: page cache, a page of "driver" and one of "gpu"."""
    files, fixed, fake = _layout(seed)
    kernel = fragmentation_worlds.file_machine("1M")
    for pfn, mask, owner in ((fixed, GFP_KERNEL, "driver"), (fake, GFP_HIGHUSER_MOVABLE, "gpu")):
        # The only free page of a full machine is the one that comes back.
        kernel.free_pages(pfn, 0)
        kernel.alloc_pages(mask, 0, owner=owner)
    for pfn in set(range(_PAGES)) - {*files, fixed, fake}:
        kernel.free_pages(pfn, 0)
    return kernel


def problem(seed: int) -> Problem:
    """Return what is to be reached, and what may be done for it."""
    snapshot = world(seed).snapshot()
    now = largest_free(snapshot, 0, _PAGES)
    free = snapshot.zones[0].free
    ask = text(
        "lesson.fragmentation.moves.ask",
        wanted=order_text(_ORDER), free=free, now=order_text(now),
    )  # fmt: skip
    return Problem((ask, text("lesson.fragmentation.moves.rules")))


def check(answer: object, seed: int) -> Verdict:
    """Judge moves in their order, as "0x12 -> 0x7e, 0x13 -> 0x7c".

    An answer of another form is not answered yet, and told so.
    """
    if is_blank(answer):
        return fill_in()
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, _told(seed))
    try:
        said = typed_moves(answer)
    except Misfit as misfit:
        return Verdict(Outcome.OPEN, str(misfit))
    played = _Played.of(seed, said)
    if played.refused:
        return miss(played.refused, played.idea)
    largest = largest_free(played.after, 0, _PAGES)
    if largest < _ORDER:
        sentence = text(
            "lesson.fragmentation.moves.too_small", moves=len(said), largest=order_text(largest)
        )
        return miss(sentence, "any_start" if _longest_run(played.after) >= _SIZE else "")
    least = _least(played.before)
    if len(said) > least:
        sentence = text("lesson.fragmentation.moves.too_many", moves=len(said), least=least)
        return miss(sentence, "any_range")
    return Verdict(Outcome.RIGHT, _told(seed))


def play(answer: object, seed: int) -> PageMap:
    """Return a map that goes through the moves of an answer, up to the first that is refused."""
    played = _Played.of(seed, typed_moves(answer))
    return PageMap(history=_moves(played.before, played.done))


@dataclass(frozen=True, slots=True)
class _Played:
    """Moves that were made, and why the one after them was refused."""

    before: Snapshot
    after: Snapshot
    done: tuple[tuple[int, int], ...]
    refused: str = ""
    idea: str = ""

    @classmethod
    def of(cls, seed: int, moves: list[tuple[int, int]]) -> _Played:
        """Make moves on the world of a seed, until one is refused."""
        before = now = world(seed).snapshot()
        movable = {pfn for pfn, byte in enumerate(before.lru) if byte}
        for count, (src, dst) in enumerate(moves):
            idea = _refusal(now, movable, src, dst)
            if idea:
                move = text("compaction.told", src=f"{src:#x}", dst=f"{dst:#x}")
                sentence = text(f"lesson.fragmentation.moves.{idea}", move=move)
                return cls(before, now, tuple(moves[:count]), sentence, idea)
            movable ^= {src, dst}
            now = _moves(before, moves[: count + 1])[-1].snapshot
        return cls(before, now, tuple(moves))


def _refusal(now: Snapshot, movable: set[int], src: int, dst: int) -> str:
    """Return the idea behind a move that can't be made, "" if it can."""
    if not (src < _PAGES and dst < _PAGES):
        return "outside"
    if src not in movable:
        kind = now.page(src).kind
        if kind == Kind.FREE:
            return "free_moves"
        return "movable_is_enough" if kind == Kind.MOVABLE else "everything_moves"
    return "" if now.page(dst).kind == Kind.FREE else "swaps"


def _moves(before: Snapshot, moves: list[tuple[int, int]] | tuple[tuple[int, int], ...]) -> Moves:
    """Return moves as the steps of a compaction."""
    events = [
        Event(n, "migrate_folio", (("src", f"{src:#x}"), ("dst", f"{dst:#x}")))
        for n, (src, dst) in enumerate(moves)
    ]
    return Moves(before, events)


def _least(before: Snapshot) -> int:
    """Return the fewest moves that will do: the used pages of the range that has fewest.

    All of them must be able to move; there is room enough for them elsewhere.
    """
    counts = []
    for start in range(0, _PAGES, _SIZE):
        used = [pfn for pfn in range(start, start + _SIZE) if before.page(pfn).kind.allocated]
        if all(before.lru[pfn] for pfn in used):
            counts.append(len(used))
    return min(counts)


def _longest_run(snapshot: Snapshot) -> int:
    """Return how many free pages stand in a row, whatever blocks they are in."""
    longest = run = 0
    for pfn in range(_PAGES):
        run = run + 1 if snapshot.page(pfn).kind == Kind.FREE else 0
        longest = max(longest, run)
    return longest


def _told(seed: int) -> str:
    """Return the least number of moves, and how many the kernel's own sweep takes."""
    kernel = world(seed)
    least = _least(kernel.snapshot())
    kernel.compact_memory()
    return text(
        "lesson.fragmentation.moves.told",
        least=least,
        wanted=order_text(_ORDER),
        sweep=kernel.vm_events["pgmigrate_success"],
        reached=order_text(largest_free(kernel.snapshot(), 0, _PAGES)),
    )
