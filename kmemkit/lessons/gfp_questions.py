"""Lesson 02's multiple choice: the question before it, and two of its exit ticket.

Shaped as `questions.Choice`; right options are found by a run or by the rules of a mask.
"""

from __future__ import annotations

from functools import cache

from kmemkit.gfp import GFP_ATOMIC, effects, encode
from kmemkit.lessons import gfp_worlds
from kmemkit.lessons.questions import Choice
from kmemkit.mm.kernel import Kernel

__all__ = ("ALL", "atomic_is", "files_first", "movable_alone")

#: Requests that each side of the first question makes at most.
_LIMIT = 1000


@cache
def _full() -> Kernel:
    return gfp_worlds.full_of_files()


def _files_first() -> str:
    """Let both masks ask until NULL, each on its own copy of a machine full of page cache."""
    atomic = gfp_worlds.take(_full().clone(), "GFP_ATOMIC", _LIMIT)
    kernel = gfp_worlds.take(_full().clone(), "GFP_KERNEL", _LIMIT)
    if not atomic and not kernel:
        return "none"
    if atomic == kernel:
        return "same"
    return "atomic" if atomic > kernel else "kernel"


def _atomic_is() -> str:
    if encode("GFP_KERNEL|__GFP_HIGH") == GFP_ATOMIC:
        return "kernel_and_high"
    can = effects(GFP_ATOMIC)
    return "part_of_reserve" if not can.may_sleep and 0 < can.min_percent < 100 else "everything"


def _movable_alone() -> str:
    kernel = gfp_worlds.five_gib()
    pfn = kernel.alloc_pages("GFP_KERNEL|__GFP_MOVABLE", 0)
    zone = None if pfn is None else kernel.snapshot().zone_of(pfn)
    return zone.name.lower() if zone else "none"


#: Before: a machine full of page cache; who gets more pages? (misconception M3)
files_first = Choice(
    "gfp_files",
    {"kernel": "", "atomic": "atomic_everywhere", "same": "free_is_free", "none": "cache_is_used"},
    _files_first,
    section="gfp",
)
#: Exit ticket: what GFP_ATOMIC is. (teaching statement i)
atomic_is = Choice(
    "gfp_atomic",
    {
        "part_of_reserve": "",
        "kernel_and_high": "kernel_high",
        "everything": "atomic_takes_all",
        "faster": "atomic_everywhere",
    },
    _atomic_is,
    section="gfp",
)
#: Exit ticket: __GFP_MOVABLE without __GFP_HIGHMEM.
movable_alone = Choice(
    "gfp_movable",
    {
        "normal": "",
        "movable": "movable_alone",
        "highmem": "highmem_on_64",
        "dma": "lowest_first",
    },
    _movable_alone,
    section="gfp",
)

ALL = (files_first, atomic_is, movable_alone)
