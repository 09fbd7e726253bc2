"""What a GFP mask asks of Linux 6.12: the highest zone, the migratetype, the effort.

Pure functions of the mask, for panels and the command line; the simulated kernel decides by its own
code in mm/. Rules: include/linux/gfp.h and mm/page_alloc.c of 6.12. Everybody reaches this through
`kmemkit.gfp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import SupportsIndex

from kmemkit.gfp_names import as_mask
from kmemkit.gfp_tables import profile

__all__ = (
    "BAD_ZONES",
    "MIGRATETYPE_NAMES",
    "ZONE_NAMES",
    "Effects",
    "Effort",
    "effects",
    "gfp_migratetype",
    "gfp_zone",
)

_FLAG = profile("6.12").values
_SLEEP, _KSWAPD = _FLAG["__GFP_DIRECT_RECLAIM"], _FLAG["__GFP_KSWAPD_RECLAIM"]
_HIGH, _IO, _FS = _FLAG["__GFP_HIGH"], _FLAG["__GFP_IO"], _FLAG["__GFP_FS"]
_RETRY_MAYFAIL, _NORETRY = _FLAG["__GFP_RETRY_MAYFAIL"], _FLAG["__GFP_NORETRY"]
_NOFAIL, _NOWARN = _FLAG["__GFP_NOFAIL"], _FLAG["__GFP_NOWARN"]
_MEMALLOC, _NOMEMALLOC = _FLAG["__GFP_MEMALLOC"], _FLAG["__GFP_NOMEMALLOC"]
_ZERO, _ACCOUNT, _THISNODE = (_FLAG[f"__GFP_{name}"] for name in ("ZERO", "ACCOUNT", "THISNODE"))

_COSTLY_ORDER = 3

#: Names of the zones as the kernel prints them, by zone index.
ZONE_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "x86_64": ("DMA", "DMA32", "Normal", "Movable", "Device"),
        "i386": ("DMA", "Normal", "HighMem", "Movable"),
    }
)
#: enum migratetype of a kernel without CMA, as far as a mask can name one.
MIGRATETYPE_NAMES = (
    "MIGRATE_UNMOVABLE",
    "MIGRATE_MOVABLE",
    "MIGRATE_RECLAIMABLE",
    "MIGRATE_HIGHATOMIC",
)

#: Zone index by the mask's low four bits. Contradictions hold 0, as the kernel's own table does.
_ZONES = {
    "x86_64": (2, 0, 2, 0, 1, 0, 0, 0, 2, 0, 3, 0, 1, 0, 0, 0),
    "i386": (1, 0, 2, 0, 1, 0, 0, 0, 1, 0, 3, 0, 1, 0, 0, 0),
}
#: Low four bits of a mask that contradict each other (GFP_ZONE_BAD).
BAD_ZONES = frozenset({0x3, 0x5, 0x6, 0x7, 0xB, 0xD, 0xE, 0xF})


def gfp_zone(mask: SupportsIndex | str, arch: str = "x86_64") -> int:
    """Return the index of the highest zone that may serve the mask; see ZONE_NAMES.

    A contradictory pair of zone flags gives 0, ZONE_DMA, as in a kernel without CONFIG_DEBUG_VM.

    Args:
        mask: a GFP mask.
        arch: "x86_64", or "i386" for a 32-bit kernel with CONFIG_HIGHMEM.

    Raises:
        ValueError: `arch` is not one of these.
    """
    if arch not in _ZONES:
        raise ValueError(f"zones are known for {' and '.join(_ZONES)}, not for {arch!r}")
    return _ZONES[arch][as_mask(mask) & 0xF]


def gfp_migratetype(mask: SupportsIndex | str) -> int:
    """Return the migratetype that the mask asks for, with mobility grouping on.

    0 is UNMOVABLE, 1 MOVABLE, 2 RECLAIMABLE. Both mobility flags together are illegal and give 3,
    HIGHATOMIC, as in a kernel without CONFIG_DEBUG_VM.
    """
    return (as_mask(mask) & 0x18) >> 3


class Effort(StrEnum):
    """How hard the page allocator tries before it gives up (__alloc_pages_slowpath())."""

    NONE = "none"  #: two looks at the free lists after the first, no reclaim of its own
    ONE_ROUND = "one round"  #: one direct reclaim and one or two compactions
    WHILE_USEFUL = "while useful"  #: as long as reclaim helps, or reclaimable memory is left
    REPEAT = "repeat"  #: again and again, over the OOM killer too
    FOREVER = "forever"  #: never returns NULL


@dataclass(frozen=True, slots=True)
class Effects:
    """What a request with some mask and order may do in Linux 6.12, in process context."""

    may_sleep: bool  #: enters direct reclaim, so it is wrong in atomic context
    wakes_kswapd: bool
    may_io: bool  #: its reclaim may start I/O
    may_fs: bool  #: its reclaim may call into file systems
    may_compact: bool  #: direct compaction, if its order is above 0
    may_oom: bool  #: may have the OOM killer kill
    effort: Effort
    #: percent of the MIN watermark that must stay free behind it, in the slow path
    min_percent: float
    #: may take pages of HIGHATOMIC pageblocks before others are exhausted
    uses_highatomic: bool
    zeroed: bool
    accounted: bool  #: charged to the task's memory cgroup
    node_only: bool
    reports_failure: bool

    @property
    def may_use_reserves(self) -> bool:
        """Whether it may go below the MIN watermark."""
        return self.min_percent < 100


def effects(mask: SupportsIndex | str, order: int = 0, arch: str = "x86_64") -> Effects:
    """Return what a request may do by the rules of 6.12, in process context and no scope.

    Args:
        mask: a GFP mask.
        order: log2 of the number of pages; above 3 the allocator gives up sooner.
        arch: as for `gfp_zone`; without a Normal zone allowed, nothing is killed.
    """
    m = as_mask(mask)
    sleeps = bool(m & _SLEEP)
    effort = _effort(m, order, arch)
    oom = effort in (Effort.REPEAT, Effort.FOREVER) and order <= _COSTLY_ORDER and bool(m & _FS)
    return Effects(
        may_sleep=sleeps,
        wakes_kswapd=bool(m & _KSWAPD),
        may_io=sleeps and bool(m & _IO),
        may_fs=sleeps and bool(m & _FS),
        may_compact=sleeps and bool(m & _IO),
        may_oom=oom and not m & _NORETRY and not _no_kill(m, arch),
        effort=effort,
        min_percent=_min_percent(m),
        uses_highatomic=order > 0 and m & (_HIGH | _SLEEP | _NOMEMALLOC) == _HIGH,
        zeroed=bool(m & _ZERO),
        accounted=bool(m & _ACCOUNT),
        node_only=bool(m & _THISNODE),
        reports_failure=not m & _NOWARN,
    )


def _no_kill(m: int, arch: str) -> bool:
    """Whether __alloc_pages_may_oom() passes the OOM killer by, whatever the order."""
    below_normal = gfp_zone(m, arch) < ZONE_NAMES[arch].index("Normal")
    return below_normal or bool(m & (_RETRY_MAYFAIL | _THISNODE))


def _effort(m: int, order: int, arch: str) -> Effort:
    if not m & _SLEEP:
        return Effort.NONE
    if m & _NOFAIL:
        return Effort.FOREVER
    if m & _NORETRY:
        return Effort.ONE_ROUND
    if order > _COSTLY_ORDER:
        persistent = _RETRY_MAYFAIL | _IO
        return Effort.WHILE_USEFUL if m & persistent == persistent else Effort.ONE_ROUND
    return Effort.WHILE_USEFUL if _no_kill(m, arch) else Effort.REPEAT


def _min_percent(m: int) -> float:
    if m & (_MEMALLOC | _NOMEMALLOC) == _MEMALLOC:
        return 0.0
    if not m & _HIGH:
        return 100.0
    return 50.0 if m & (_SLEEP | _NOMEMALLOC) else 37.5
