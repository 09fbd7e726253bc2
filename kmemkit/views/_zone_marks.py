"""What one request must leave free in one zone: the marks with boost, reserve and rights put in.

ZonelistWalker's gauges and Watermarks' lines come from here. Pure functions of a ZoneSnapshot and a
mask; the simulated kernel decides by its own code in mm/. Rules: mm/page_alloc.c of 6.12,
__zone_watermark_ok(), zone_watermark_fast(). A task's own rights (PF_MEMALLOC, an OOM victim's) are
left out: they are no part of the mask.
"""

from __future__ import annotations

from typing import NamedTuple

from kmemkit.gfp import alloc_flags, gfp_zone
from kmemkit.snapshot import ZoneSnapshot

__all__ = ("BANDS", "Marks", "marks_of")

#: Where free pages can be, the safest first; keys under `watermarks.band`.
BANDS = ("high", "low", "min", "own", "none")


class Marks(NamedTuple):
    """Marks of a zone for one request, in pages. `min`, `low` and `high` include the boost."""

    min: int
    low: int
    high: int
    #: what is left of the min mark for this request's rights to the reserves; `min` without any
    own: int
    boost: int
    reserve: int  #: lowmem_reserve against the request's highest zone
    less: int  #: pages the check takes off the free ones at low and high
    less_min: int  #: the same at min, where the mask's rights count
    unlimited: bool  #: whether the mask lifts the marks altogether (__GFP_MEMALLOC)

    @property
    def reduced(self) -> bool:
        """Whether the request may go below the min mark."""
        return self.own < self.min

    def line(self, name: str) -> int:
        """Return how many pages may be free at most for the check of a mark to fail."""
        if name == "own" and self.unlimited:
            return 0
        less = self.less if name in ("low", "high") else self.less_min
        return int(getattr(self, name)) + self.reserve + less

    def band(self, free: int) -> str:
        """Return the highest mark, a name of BANDS, whose check so many free pages pass."""
        names = BANDS[:-1] if self.reduced else BANDS[:-2]
        return next((name for name in names if free > self.line(name)), "none")


def marks_of(zone: ZoneSnapshot, gfp: int, order: int, arch: str = "x86_64") -> Marks:
    """Return the marks that a request meets in `zone`, if all pages it wants are in one block."""
    rights = alloc_flags(gfp, order)
    least = zone.min + zone.boost
    own = _reduced(least, rights)
    if order == 0 and "ALLOC_MIN_RESERVE" in rights:
        own = _reduced(zone.min, rights)  # a single page from the reserves ignores the boost
    unlimited = "ALLOC_NO_WATERMARKS" in rights
    less = (1 << order) - 1
    reserved = {"ALLOC_MIN_RESERVE", "ALLOC_NON_BLOCK", "ALLOC_HIGHATOMIC"} & set(rights)
    return Marks(
        min=least,
        low=zone.low + zone.boost,
        high=zone.high + zone.boost,
        own=0 if unlimited else own,
        boost=zone.boost,
        reserve=zone.lowmem_reserve[gfp_zone(gfp, arch)],
        less=less + zone.nr_free_highatomic,
        less_min=less if reserved else less + zone.nr_free_highatomic,
        unlimited=unlimited,
    )


def _reduced(mark: int, rights: tuple[str, ...]) -> int:
    """Return what is left of a mark for these ALLOC_* flags, with the kernel's own rounding."""
    if "ALLOC_MIN_RESERVE" in rights:
        mark -= mark // 2
        if "ALLOC_NON_BLOCK" in rights:
            mark -= mark // 4
    return mark
