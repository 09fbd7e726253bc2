"""Lesson 03's multiple choice: the question before it, and two of its exit ticket.

Shaped as `questions.Choice`; right options are found by a run.
"""

from __future__ import annotations

from kmemkit.gfp import GFP_KERNEL, GFP_NOFS
from kmemkit.lessons.context_worlds import complaint, small
from kmemkit.lessons.questions import Choice

__all__ = ("ALL", "handler", "obsolete", "swapped")


def _swapped() -> str:
    """Ask with GFP_NOFS under a spinlock, on both kernels."""
    plain = complaint(("spinlock",), "GFP_NOFS", debug=False)
    debug = complaint(("spinlock",), "GFP_NOFS")
    if plain:
        return "both"
    return "debug" if debug else "fixed"


def _obsolete() -> str:
    """Compare the flag with the scope: do both work, and to the same end?"""
    kernel = small()
    with kernel.memalloc_nofs_save():
        scoped = kernel.current_gfp_context(GFP_KERNEL)
    alone = kernel.current_gfp_context(GFP_NOFS)
    if kernel.alloc_pages(GFP_NOFS, 0) is None:
        return "removed"
    return "preferred" if scoped == alone == GFP_NOFS else "nothing"


def _handler() -> str:
    """Look for a mask that no kernel objects to in a hard interrupt."""
    masks = {"noio": "GFP_NOIO", "scope": "GFP_KERNEL", "nowait": "GFP_NOWAIT"}
    frames = {"scope": ("hardirq", "nofs")}
    works = [
        option
        for option, mask in masks.items()
        if not complaint(frames.get(option, ("hardirq",)), mask)
    ]
    return works[0] if len(works) == 1 else "never"


#: Before: GFP_ATOMIC is swapped for GFP_NOFS under a spinlock. (misconception M4)
swapped = Choice(
    "context_swapped",
    {
        "debug": "",
        "fixed": "nofs_stays_awake",
        "both": "atomic_crashes",
        "moved": "spinlock_waits",
    },
    _swapped,
    section="context",
)
#: Exit ticket: are GFP_NOFS and GFP_NOIO obsolete? (teaching statement viii)
obsolete = Choice(
    "context_obsolete",
    {
        "preferred": "",
        "removed": "flags_are_gone",
        "nothing": "scope_is_other",
        "atomic": "scope_is_atomic",
    },
    _obsolete,
    section="context",
)
#: Exit ticket: memory in an interrupt handler.
handler = Choice(
    "context_handler",
    {
        "nowait": "",
        "noio": "nofs_stays_awake",
        "scope": "scope_is_atomic",
        "never": "no_allocation_in_atomic",
    },
    _handler,
    section="context",
)

ALL = (swapped, obsolete, handler)
