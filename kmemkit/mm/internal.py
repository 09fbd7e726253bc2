"""ALLOC_* flags: what one attempt at the free lists may do (mm/internal.h; values as there).

`page_alloc` works them out from the gfp mask, `pcp` and `buddy` obey them.
"""

from __future__ import annotations

__all__ = (
    "ALLOC_CPUSET",
    "ALLOC_HIGHATOMIC",
    "ALLOC_KSWAPD",
    "ALLOC_MIN_RESERVE",
    "ALLOC_NOFRAGMENT",
    "ALLOC_NON_BLOCK",
    "ALLOC_NO_WATERMARKS",
    "ALLOC_OOM",
    "ALLOC_RESERVES",
    "ALLOC_WMARK_HIGH",
    "ALLOC_WMARK_LOW",
    "ALLOC_WMARK_MASK",
    "ALLOC_WMARK_MIN",
    "MAX_RECLAIM_RETRIES",
)

ALLOC_WMARK_MIN = 0x0
ALLOC_WMARK_LOW = 0x1
ALLOC_WMARK_HIGH = 0x2
ALLOC_WMARK_MASK = 0x3
ALLOC_NO_WATERMARKS = 0x4
ALLOC_OOM = 0x8
ALLOC_NON_BLOCK = 0x10
ALLOC_MIN_RESERVE = 0x20
ALLOC_CPUSET = 0x40
ALLOC_NOFRAGMENT = 0x100
ALLOC_HIGHATOMIC = 0x200
ALLOC_KSWAPD = 0x800
ALLOC_RESERVES = ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC | ALLOC_OOM

#: Rounds without progress after which a request, or kswapd, gives reclaim up.
MAX_RECLAIM_RETRIES = 16
