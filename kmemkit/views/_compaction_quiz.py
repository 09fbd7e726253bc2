"""Predictions about a compaction: which page moves next, and where to.

Compaction asks before it shows a move. What is right is what the kernel recorded; the ideas only
name the well-known mistakes that would have given the learner's answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemkit.snapshot import Kind, Snapshot
from kmemkit.strings import text
from kmemkit.views._compaction_steps import Scan
from kmemkit.views.prediction import Verdict

__all__ = ("judge", "parse_pfn")


def parse_pfn(typed: str) -> int:
    """Return the pfn that was typed in hex; 0x may be left out.

    Raises:
        ValueError: it is none; the message says what is accepted.
    """
    try:
        pfn = int(typed.strip(), 16)
    except ValueError:
        pfn = -1
    if pfn < 0:
        raise ValueError(text("compaction.not_a_pfn", answer=typed.strip()))
    return pfn


def judge(scan: Scan, said: tuple[int, int] | None, given: Snapshot, now: Snapshot) -> Verdict:
    """Compare a prediction, (source, target) or None for "I do not know", with a move.

    Args:
        scan: the move as it was recorded.
        said: what the learner said.
        given: the machine before the compaction, which knows the LRU lists.
        now: the machine just before the move.
    """
    told = text("compaction.told", src=f"{scan.src:#x}", dst=f"{scan.dst:#x}")
    if said is None:
        return Verdict(None, text("compaction.not_known", told=told))
    src, dst = said
    if (src, dst) == (scan.src, scan.dst):
        return Verdict(True, text("compaction.right", told=told))
    answer = text("compaction.told", src=f"{src:#x}", dst=f"{dst:#x}")
    sentence = text("compaction.wrong", said=answer, told=told)
    ideas = _source_ideas(scan, src, given, now) if src != scan.src else _targets(scan, dst, now)
    for idea in ideas:
        name = text(f"compaction.idea_name.{idea}")
        return Verdict(False, sentence, idea, name, text(f"compaction.idea.{idea}"))
    return Verdict(False, sentence)


def _inside(pfn: int, snapshot: Snapshot) -> bool:
    return snapshot.first_pfn <= pfn < snapshot.end_pfn


def _on_lru(given: Snapshot, pfn: int) -> bool:
    """Whether a page waited on an LRU list when the compaction began."""
    return bool(given.lru) and bool(given.lru[pfn - given.first_pfn])


def _source_ideas(scan: Scan, said: int, given: Snapshot, now: Snapshot) -> Iterator[str]:
    """Yield the ideas that would have moved the page `said`, the most telling first."""
    if not _inside(said, now):
        yield "outside"
        return
    kind = now.page(said).kind
    if kind in (Kind.FREE, Kind.PCP):
        yield "free_moves"
    elif kind in (Kind.UNMOVABLE, Kind.RECLAIMABLE, Kind.SLAB, Kind.RESERVED):
        yield "everything_moves"
    elif kind == Kind.MOVABLE and given.page(said).kind == kind and not _on_lru(given, said):
        yield "movable_is_enough"
    elif said < scan.src:
        yield "turns_back"
    else:
        yield "from_the_top" if said >= (scan.src + scan.free) // 2 else "any_order"


def _targets(scan: Scan, said: int, now: Snapshot) -> Iterator[str]:
    """Yield the ideas that would have moved the page to `said`, the most telling first."""
    zone = now.zone_of(said) if _inside(said, now) else None
    if zone is None:
        yield "outside"
        return
    info = now.page(said)
    block = zone.pageblock_order
    if info.kind != Kind.FREE:
        yield "swaps"
    elif said < scan.src:
        yield "fills_holes"
    elif said >> block == scan.dst >> block:
        yield "block_from_below"
    elif info.order >= block:
        yield "whole_blocks_too"
    elif info.migratetype != Kind.MOVABLE - Kind.UNMOVABLE:
        yield "any_pageblock"
    else:
        yield "nearest" if said < scan.dst else "passed_already"
