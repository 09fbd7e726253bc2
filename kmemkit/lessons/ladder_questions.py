"""Lesson 07's multiple choice: the question before it, and two of its exit ticket.

Shaped as `questions.Choice`; right options are found by a run.
"""

from __future__ import annotations

from kmemkit.lessons import ladder_worlds
from kmemkit.lessons.questions import Choice

__all__ = ("ALL", "full_machine", "nofs", "order_zero")


def _order_zero() -> str:
    """Ask where GFP_ATOMIC fails: is nothing free there?"""
    run = ladder_worlds.at("files", "GFP_ATOMIC")
    free = sum(zone.free for zone in ladder_worlds.moment("files").snapshot().zones)
    if run.end != "null":
        return "other_zone"
    return "hundreds" if free >= 100 else "none"


#: Before: nothing is left to take back, and GFP_KERNEL asks for a page. (misconception M8)
full_machine = Choice(
    "ladder_full",
    {"kill": "", "null": "null_when_out", "forever": "kills_never", "page": "reserve_for_all"},
    lambda: ladder_worlds.at("full", "GFP_KERNEL").end,
    section="ladder",
)
#: Exit ticket: what a failure of order 0 says. (misconception M8)
order_zero = Choice(
    "ladder_order_zero",
    {
        "hundreds": "",
        "none": "zero_left",
        "scattered": "one_page_scattered",
        "other_zone": "atomic_everywhere",
    },
    _order_zero,
    section="ladder",
)
#: Exit ticket: GFP_NOFS where nothing is left.
nofs = Choice(
    "ladder_nofs",
    {"forever": "", "null": "ends_always", "kill": "nofs_kills", "page": "reserve_for_all"},
    lambda: ladder_worlds.at("full", "GFP_NOFS").end,
    section="ladder",
)

ALL = (full_machine, order_zero, nofs)
