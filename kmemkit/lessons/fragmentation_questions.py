"""Lesson 06's multiple choice: the question before it, and three of its exit ticket.

Shaped as `questions.Choice`; right options are found by a run.
"""

from __future__ import annotations

from kmemkit.gfp import GFP_KERNEL, GFP_NOWAIT
from kmemkit.lessons import fragmentation_worlds
from kmemkit.lessons.questions import Choice
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.mmzone import HIGH, LOW

__all__ = ("ALL", "half_free", "inequality", "never_compacts", "stays")

#: Exit ticket, from lesson 04: free pages and low mark of a zone.
_FREE, _MARK = 420, 400


def _half_free() -> str:
    """Ask for order 9 where every second page is free, before and after compaction."""
    kernel = fragmentation_worlds.every_second_file_page()
    if kernel.clone().alloc_pages(GFP_NOWAIT, 9) is not None:
        return "block"
    kernel.compact_memory()
    return "null" if kernel.alloc_pages(GFP_NOWAIT, 9) is None else "moved"


def _stays() -> str:
    """Steal a page for a driver, drop everything else, and see what brings the pageblock back."""
    kernel = fragmentation_worlds.file_machine("1M", range(0x80, 0x8A))
    pfn = kernel.alloc_pages(GFP_KERNEL, 0, owner="driver")
    fragmentation_worlds.drop_files(kernel)
    kernel.compact_memory()
    if fragmentation_worlds.free_counts(kernel)[-1] == 4:
        return "compacted"
    kernel.free_pages(pfn, 0)
    return "freed" if fragmentation_worlds.free_counts(kernel)[-1] == 4 else "never"


def _never_compacts() -> str:
    """Return which of four requests is not compacted for."""
    masks = {
        "noio": "GFP_NOIO|__GFP_NORETRY",
        "nofs": "GFP_NOFS|__GFP_NORETRY",
        "noretry": "GFP_KERNEL|__GFP_NORETRY",
        "movable": "GFP_HIGHUSER_MOVABLE|__GFP_NORETRY",
    }
    without = []
    for name, mask in masks.items():
        kernel = fragmentation_worlds.half_empty_program()
        kernel.alloc_pages(mask, 2)
        if not kernel.vm_events["compact_stall"]:
            without.append(name)
    return " ".join(without)


def _inequality() -> str:
    """Ask for order 4 where 420 pages are free above a low mark of 400; read the inequality."""
    kernel = Kernel(ram="4M")
    kernel.zones[0].watermark[LOW], kernel.zones[0].watermark[HIGH] = _MARK, 2 * _MARK
    while kernel.zones[0].free_pages > _FREE:
        kernel.alloc_pages(GFP_KERNEL, 0)
    kernel.record()
    kernel.alloc_pages(GFP_NOWAIT, 4)
    look = next(r for r in kernel.why().reasons if dict(r.values).get("mark") == _MARK)
    passed = look.key == "watermark_ok"
    return f"{'passes' if passed else 'fails'}_{dict(look.values)['left']}"


#: Before: half of the memory is free, and compaction runs. (misconception M1)
half_free = Choice(
    "fragmentation_half",
    {
        "moved": "",
        "null": "nothing_moves",
        "block": "free_is_enough",
        "scattered": "scattered",
    },
    _half_free,
    section="fragmentation",
)
#: Exit ticket: an unmovable page in a movable pageblock.
stays = Choice(
    "fragmentation_stays",
    {
        "freed": "",
        "compacted": "everything_moves",
        "reclaimed": "reclaim_takes_all",
        "retyped": "type_is_enough",
    },
    _stays,
    section="fragmentation",
)
#: Exit ticket: who never compacts.
never_compacts = Choice(
    "fragmentation_noio",
    {
        "noio": "",
        "nofs": "nofs_is_noio",
        "noretry": "noretry_skips",
        "movable": "movable_skips",
    },
    _never_compacts,
    section="fragmentation",
)
#: Exit ticket, from lesson 04: the watermark's inequality for a block.
inequality = Choice(
    "fragmentation_mark",
    {
        "passes_405": "",
        "passes_420": "order_ignored",
        "fails_388": "gap_is_mark",
        "unsaid": "marks_know_blocks",
    },
    _inequality,
    section="fragmentation",
)

ALL = (half_free, stays, never_compacts, inequality)
