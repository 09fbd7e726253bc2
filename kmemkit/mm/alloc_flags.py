"""Which rights a request has in the slow path: its ALLOC_* flags, from mask, task and context.

`slowpath` asks at the start and again in every round. Linux: mm/page_alloc.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm.internal import (
    ALLOC_CPUSET,
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NO_WATERMARKS,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_WMARK_MIN,
)
from kmemkit.mm.sched import PF_MEMALLOC

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = ("gfp_pfmemalloc_flags", "gfp_to_alloc_flags")


def gfp_to_alloc_flags(kernel: Machine, gfp: int, order: int) -> int:
    """Return the slow path's ALLOC_* flags for a mask (same name in Linux)."""
    alloc_flags = ALLOC_WMARK_MIN | ALLOC_CPUSET
    if gfp & flags.__GFP_HIGH:
        alloc_flags |= ALLOC_MIN_RESERVE
    if gfp & flags.__GFP_KSWAPD_RECLAIM:
        alloc_flags |= ALLOC_KSWAPD
    if not gfp & flags.__GFP_DIRECT_RECLAIM:
        if not gfp & flags.__GFP_NOMEMALLOC:
            alloc_flags |= ALLOC_NON_BLOCK
            if order and alloc_flags & ALLOC_MIN_RESERVE:
                alloc_flags |= ALLOC_HIGHATOMIC
        if alloc_flags & ALLOC_MIN_RESERVE:
            alloc_flags &= ~ALLOC_CPUSET
    elif kernel.current.realtime and kernel.context.in_task:
        alloc_flags |= ALLOC_MIN_RESERVE
    return alloc_flags


def gfp_pfmemalloc_flags(kernel: Machine, gfp: int) -> int:
    """Return the rights of those who free memory, or die: first match."""
    current, context = kernel.current, kernel.context
    if gfp & flags.__GFP_NOMEMALLOC:
        return 0
    if gfp & flags.__GFP_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    if context.in_serving_softirq and current.flags & PF_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    if context.in_task:
        if current.flags & PF_MEMALLOC:
            return ALLOC_NO_WATERMARKS
        if current.oom_victim:
            return ALLOC_OOM
    return 0
