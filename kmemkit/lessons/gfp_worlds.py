"""Machines that lesson 02 plays on, and tables of what a mask gets from them.

Every line comes from a request made on a simulated machine. The notebook prints them, and the
lesson's questions find their right options with them.
"""

from __future__ import annotations

from collections.abc import Sequence

from kmemkit.gfp import as_mask
from kmemkit.mm.kernel import Kernel
from kmemkit.snapshot import MIGRATE_NAMES
from kmemkit.strings import text

__all__ = ("five_gib", "full_of_files", "marks", "road", "take", "where", "with_highmem")

#: Huge pages would raise all marks; lesson 04 says how far.
_CALM = "transparent_hugepage=never"


def five_gib() -> Kernel:
    """Boot a PC with 5 GiB, which has all four zones: 512 MiB of it are kept for movable pages."""
    return _calm(Kernel(ram="5G", cmdline=f"movablecore=512M {_CALM}"))


def with_highmem() -> Kernel:
    """Boot a 32-bit PC with 1200 MiB: the kernel has addresses for about 840 MiB of it."""
    return _calm(Kernel(ram="1200M", arch="i386", cmdline=_CALM))


def full_of_files() -> Kernel:
    """Boot 256 MiB and read files until nearly all of it is page cache, which can be taken back.

    Without per-CPU lists, which take pages by the batch, the marks hold to the page.
    """
    kernel = _calm(Kernel(ram="256M", cmdline=_CALM, pcp=False))
    kernel.read_file("240M")
    return kernel


def _calm(kernel: Kernel) -> Kernel:
    """Keep the marks where they are: mixing types in a pageblock would raise them for a while."""
    kernel.sysctl("vm.watermark_boost_factor", 0)
    return kernel


def where(kernel: Kernel, *masks: str) -> str:
    """Ask for one page with each mask, and return where each came from and of which type it is."""
    rows = []
    for mask in masks:
        pfn = kernel.alloc_pages(mask, 0, owner=mask)
        if pfn is None:
            rows.append((mask, text("lesson.gfp.null"), "", ""))
            continue
        snapshot = kernel.snapshot()
        zone = snapshot.zone_of(pfn)
        kind = MIGRATE_NAMES[snapshot.page(pfn).kind - 8]
        rows.append((mask, f"{pfn:#x}", zone.name if zone else "", kind))
    head = tuple(text(f"lesson.gfp.head.{name}") for name in ("mask", "pfn", "zone", "type"))
    return _table([head, *rows])


def take(kernel: Kernel, mask: str, limit: int) -> int:
    """Ask for single pages until NULL or `limit` pages, and return how many were given."""
    value = as_mask(mask)
    for taken in range(limit):
        if kernel.alloc_pages(value, 0) is None:
            return taken
    return limit


def marks(kernel: Kernel) -> str:
    """Return the inequalities of the last request, each once: zone, free pages, mark, reserve."""
    why = kernel.why()
    looks = [str(r) for r in why.reasons if r.key in ("watermark_ok", "watermark_low")]
    return "\n".join([f"{why.call} -> {why.result}", *(f"  {n}" for n in dict.fromkeys(looks))])


def road(kernel: Kernel) -> str:
    """Return the rungs that the last request climbed, and how each ended."""
    why = kernel.why()
    rungs = (
        f"  {text(f'road.rung.{rung.name}')}: {text(f'road.outcome.{rung.outcome}')}"
        for rung in why.rungs
    )
    return "\n".join([f"{why.call} -> {why.result}", *rungs])


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
