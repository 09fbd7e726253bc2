"""What the slow path of Linux 6.12 makes of a mask: its ALLOC_* flags, and the rungs it leaves out.

Pure functions of the mask, in process context and without a scope, for panels and lessons; the
simulated kernel decides by its own code in mm/. Rules: mm/page_alloc.c gfp_to_alloc_flags(),
__gfp_pfmemalloc_flags(), __alloc_pages_slowpath(). Everybody reaches this through `kmemkit.gfp`.
"""

from __future__ import annotations

from typing import SupportsIndex

from kmemkit.gfp_names import as_mask
from kmemkit.gfp_rules import ZONE_NAMES, gfp_migratetype, gfp_zone
from kmemkit.gfp_tables import profile

__all__ = ("SLOW_PATH", "alloc_flags", "left_out")

_FLAG = profile("6.12").values
_SLEEP, _KSWAPD = _FLAG["__GFP_DIRECT_RECLAIM"], _FLAG["__GFP_KSWAPD_RECLAIM"]
_HIGH, _IO, _FS = _FLAG["__GFP_HIGH"], _FLAG["__GFP_IO"], _FLAG["__GFP_FS"]
_RETRY_MAYFAIL, _NORETRY = _FLAG["__GFP_RETRY_MAYFAIL"], _FLAG["__GFP_NORETRY"]
_NOFAIL, _THISNODE = _FLAG["__GFP_NOFAIL"], _FLAG["__GFP_THISNODE"]
_MEMALLOC, _NOMEMALLOC = _FLAG["__GFP_MEMALLOC"], _FLAG["__GFP_NOMEMALLOC"]

_MAX_ORDER = 10
_COSTLY_ORDER = 3
_MOVABLE = 1

#: The rungs between a request and NULL, in the order they are tried; the names of kmemkit.why.
SLOW_PATH = (
    *("low", "kswapd", "min", "compact_first", "reserves", "reclaim", "compact", "retry"),
    *("oom", "nofail", "null"),
)


def alloc_flags(mask: SupportsIndex | str, order: int = 0) -> tuple[str, ...]:
    """Return the names of the ALLOC_* flags of the slow path's look at the free lists.

    The first look has ALLOC_WMARK_LOW whatever the mask says. ALLOC_CMA is left out: Debian's
    kernel is built without CMA.
    """
    m = as_mask(mask)
    if _unlimited(m):
        # These rights replace all others (from the second look of the slow path on).
        return ("ALLOC_NO_WATERMARKS", *(("ALLOC_KSWAPD",) if m & _KSWAPD else ()))
    non_block = not m & (_SLEEP | _NOMEMALLOC)
    flags = (
        ("ALLOC_WMARK_MIN", True),
        ("ALLOC_NON_BLOCK", non_block),
        ("ALLOC_MIN_RESERVE", m & _HIGH),
        ("ALLOC_CPUSET", m & _SLEEP or not m & _HIGH),
        ("ALLOC_HIGHATOMIC", non_block and m & _HIGH and order > 0),
        ("ALLOC_KSWAPD", m & _KSWAPD),
    )
    return tuple(name for name, has in flags if has)


def left_out(mask: SupportsIndex | str, order: int = 0, arch: str = "x86_64") -> dict[str, str]:
    """Return the rungs of SLOW_PATH that a request leaves out, each with the reason.

    A reason is the last part of a key under `gfp_panel.left_out`. Every other rung is climbed if
    the ones before it gave no page.

    Args:
        mask: a GFP mask.
        order: log2 of the number of pages.
        arch: as for `gfp_zone`; requests that may not use Normal kill nobody.
    """
    m = as_mask(mask)
    if order > _MAX_ORDER:
        return dict.fromkeys(SLOW_PATH[:-1], "too_high")
    reasons = {
        "kswapd": "" if m & _KSWAPD else "no_kswapd",
        "compact_first": _no_first_compaction(m, order),
        "reclaim": "" if m & _SLEEP else "no_sleep",
        "compact": _no_compaction(m, order),
        "retry": _no_retry(m, order),
        "oom": _no_oom(m, order, arch),
        "nofail": _no_endless_loop(m),
        "null": "" if _no_endless_loop(m) else "never",
    }
    return {rung: reason for rung, reason in reasons.items() if reason}


def _unlimited(m: int) -> bool:
    """Whether the mask itself lifts the watermarks (gfp_pfmemalloc_allowed())."""
    return m & (_MEMALLOC | _NOMEMALLOC) == _MEMALLOC


def _no_compaction(m: int, order: int) -> str:
    if not m & _SLEEP:
        return "no_sleep"
    if not m & _IO:
        return "no_io"
    return "" if order else "one_page"


def _no_first_compaction(m: int, order: int) -> str:
    if reason := _no_compaction(m, order):
        return reason
    if _unlimited(m):
        return "has_rights"
    return "movable" if order <= _COSTLY_ORDER and gfp_migratetype(m) == _MOVABLE else ""


def _no_retry(m: int, order: int) -> str:
    if not m & _SLEEP:
        return "no_sleep"
    if m & _NORETRY:
        return "noretry"
    if order > _COSTLY_ORDER:
        if not m & _RETRY_MAYFAIL:
            return "costly"
        if not m & _IO:
            return "no_io"
    return ""


def _no_oom(m: int, order: int, arch: str) -> str:
    if order > _COSTLY_ORDER and m & _SLEEP and not m & _NORETRY:
        return "costly_kill"
    if reason := _no_retry(m, order):
        return reason
    if m & _RETRY_MAYFAIL:
        return "mayfail"
    if m & _THISNODE:
        return "this_node"
    if gfp_zone(m, arch) < ZONE_NAMES[arch].index("Normal"):
        return "low_zone"
    return "" if m & _FS else "no_fs"


def _no_endless_loop(m: int) -> str:
    if not m & _NOFAIL:
        return "no_nofail"
    return "" if m & _SLEEP else "no_sleep"
