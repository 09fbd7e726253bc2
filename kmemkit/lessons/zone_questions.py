"""Lesson 04's multiple choice: the question before it, and two of its exit ticket.

Shaped as `questions.Choice`; every right option is found by a run.
"""

from __future__ import annotations

from kmemkit.lessons import zone_worlds
from kmemkit.lessons.questions import Choice
from kmemkit.mm.kernel import Kernel

__all__ = ("ALL", "all_mine", "atomic_depth", "short_of_pages", "user_zones")


def short_of_pages() -> Kernel:
    """Boot the machine of the first question: 1,800 kB are free in the zones of a driver."""
    return zone_worlds.three_zones(DMA=150, DMA32=300, Movable=60)


def _all_mine() -> str:
    kernel = short_of_pages()
    pfn = kernel.alloc_pages("GFP_NOWAIT", 0)
    zone = None if pfn is None else kernel.snapshot().zone_of(pfn)
    return zone.name.lower() if zone else "null"


def _user_zones() -> str:
    """Let both masks ask on a machine with four zones."""
    kernel = Kernel(ram="5G", cmdline="movablecore=512M")
    got = [kernel.alloc_pages(mask, 0) for mask in ("GFP_USER", "GFP_HIGHUSER")]
    zones = [zone for pfn in got if pfn is not None and (zone := kernel.snapshot().zone_of(pfn))]
    return "none" if zones[0].name == zones[1].name else zones[1].name.lower()


def _atomic_depth() -> str:
    """Try the options from the least up: how many free pages does DMA32 need?"""
    for pages in (1, 131, 174, 347):
        if zone_worlds.three_zones(DMA=40, DMA32=pages, Movable=60).alloc_pages("GFP_ATOMIC", 0):
            return f"pages_{pages}"
    return "never"


#: Before: memory is free, and a request gets NULL. (misconception M2)
all_mine = Choice(
    "zone_free",
    {"null": "", "dma32": "all_mine", "dma": "no_reserve", "later": "waits"},
    _all_mine,
    section="zones",
)
#: Exit ticket: what GFP_HIGHUSER may use and GFP_USER may not. (teaching statement ix)
user_zones = Choice(
    "zone_user",
    {"none": "", "movable": "longer_is_wider", "highmem": "highmem_on_64", "normal": "user_is_low"},
    _user_zones,
    section="zones",
)
#: Exit ticket: how far down GFP_ATOMIC goes.
atomic_depth = Choice(
    "zone_atomic",
    {
        "pages_131": "",
        "pages_174": "half_for_all",
        "pages_347": "one_mark",
        "pages_1": "atomic_takes_all",
    },
    _atomic_depth,
    section="zones",
)

ALL = (all_mine, user_zones, atomic_depth)
