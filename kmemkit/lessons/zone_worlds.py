"""Machines that lesson 04 plays on: three zones, and just so many pages free in each.

Exercises and their checks boot one anew whenever they need it; the notebook starts from them too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from kmemkit.gfp import encode, gfp_zone
from kmemkit.mm.kernel import Kernel
from kmemkit.snapshot import ZoneSnapshot
from kmemkit.strings import text

__all__ = (
    "busy",
    "calm",
    "least_free",
    "marks",
    "pressed",
    "three_zones",
    "tried",
    "usable",
)

#: A mask that reaches one zone as its highest, for pages of the type that all pageblocks have.
_MASKS = {
    "DMA": "__GFP_DMA|__GFP_MOVABLE",
    "DMA32": "__GFP_DMA32|__GFP_MOVABLE",
    "Normal": "__GFP_MOVABLE",
    "Movable": "__GFP_HIGHMEM|__GFP_MOVABLE",
}
#: Takes pages below every mark, and sets nothing in motion.
_ALL_RESERVES = encode("__GFP_MEMALLOC|__GFP_NOWARN")


def calm(kernel: Kernel) -> Kernel:
    """Keep the marks where they are: mixing types in a pageblock would raise them for a while."""
    kernel.sysctl("vm.watermark_boost_factor", 0)
    return kernel


def three_zones(**free: int) -> Kernel:
    """Boot 256 MiB, 64 MiB of it ZONE_MOVABLE; leave so many pages free in each zone named.

    Without per-CPU lists, which take pages by the batch, so that the marks hold to the page.
    """
    return pressed(calm(Kernel(ram="256M", cmdline="movablecore=64M", pcp=False)), free)


def busy() -> Kernel:
    """Boot 128 MiB with 40 MiB of page cache and little free: DMA32 is just above its high mark."""
    kernel = calm(Kernel(ram="128M", pcp=False))
    kernel.read_file("40M")
    return pressed(kernel, {"DMA": 60, "DMA32": 370})


def pressed(kernel: Kernel, free: Mapping[str, int]) -> Kernel:
    """Take pages until each zone named has exactly so many free; the others stay as they are.

    All zones are emptied first, the lowest first, so that no request falls back to another; then
    each gets its pages back, the highest first.
    """
    zones = [zone for zone in kernel.snapshot().zones if zone.managed]
    held = {zone.name: _take(kernel, zone, zone.free, 10) for zone in zones}
    for zone in reversed(zones):
        wanted = free.get(zone.name, zone.free)
        given = 0
        blocks = sorted(held[zone.name], key=lambda block: (-block[1], block[0]))
        while given < wanted:
            pfn, order = blocks.pop(0)
            kernel.free_pages(pfn, order)
            given += 1 << order
        _take(kernel, zone, given - wanted, 10)
        # The zone's counter lags by a few pages (mm/vmstat.c); sixteen at once bring it up to date.
        if wanted >= 32:
            for pfn, order in _take(kernel, zone, 16, 4):
                kernel.free_pages(pfn, order)
    return kernel


def _take(kernel: Kernel, zone: ZoneSnapshot, pages: int, top: int) -> list[tuple[int, int]]:
    """Take so many pages from a zone, in blocks as large as there are; return (pfn, order)."""
    gfp = encode(_MASKS[zone.name]) | _ALL_RESERVES
    taken: list[tuple[int, int]] = []
    order = top
    while pages:
        order = min(order, pages.bit_length() - 1)
        pfn = kernel.alloc_pages(gfp, order, owner="others")
        if pfn is None:
            order -= 1
        else:
            taken.append((pfn, order))
            pages -= 1 << order
    return taken


def least_free(*masks: str) -> str:
    """Return how many pages DMA32 must have free for each mask to get one, if nobody else serves.

    Found by asking: with one page less the machine says NULL.
    """
    width = max(map(len, masks))
    lines = []
    for mask in masks:
        least = bisect_left(range(1, 1000), True, key=lambda pages: _serves(mask, pages)) + 1
        lines.append(f"{mask:<{width}}  {text('lesson.zones.least', pages=f'{least:,}')}")
    return "\n".join(lines)


def _serves(mask: str, pages: int) -> bool:
    kernel = three_zones(DMA=40, DMA32=pages, Movable=60)
    return kernel.alloc_pages(mask, 0) is not None


def tried(kernel: Kernel, *masks: str) -> str:
    """Return the zones that each mask may try, in order, and the one that serves it now."""
    width = max(map(len, masks))
    lines = []
    for mask in masks:
        highest = gfp_zone(mask, kernel.arch)
        zones = kernel.zonelist(kernel.numa_node_id(), False)
        machine = kernel.clone()
        pfn = machine.alloc_pages(mask, 0)
        home = None if pfn is None else machine.snapshot().zone_of(pfn)
        said = text(
            "lesson.zones.tried",
            zones=", ".join(zone.name for zone in zones if zone.idx <= highest),
            served=home.name if home else text("zonelist.nobody_option"),
        )
        lines.append(f"{mask:<{width}}  {said}")
    return "\n".join(lines)


def usable(kernel: Kernel, *masks: str) -> str:
    """Return how many single pages each mask gets until NULL, each on a copy of the machine."""
    free = sum(zone.free for zone in kernel.snapshot().zones)
    lines = [text("lesson.zones.usable_head", pages=f"{free:,}", kb=f"{4 * free:,}")]
    width = max(map(len, masks))
    for mask in masks:
        machine, pages = kernel.clone(), 0
        while machine.alloc_pages(mask, 0) is not None:
            pages += 1
        said = text("lesson.zones.usable", pages=f"{pages:,}", kb=f"{4 * pages:,}")
        lines.append(f"{mask:<{width}}  {said}")
    return "\n".join(lines)


def marks(kernel: Kernel) -> str:
    """Return each zone's pages, marks and reserves as a table, in the order of /proc/zoneinfo."""
    snapshot = kernel.snapshot()
    zones = [zone for zone in snapshot.zones if zone.managed]
    many = len({zone.nid for zone in zones}) > 1
    names = ("zone", "managed", "free", "min", "low", "high", "reserve")
    rows = [[text(f"lesson.zones.head.{name}") for name in names]]
    for zone in zones:
        name = f"{zone.nid}/{zone.name}" if many else zone.name
        numbers = (zone.managed, zone.free_est, zone.min, zone.low, zone.high)
        rows.append([name, *(f"{number:,}" for number in numbers), _reserves(zone)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:-1]), row[-1]])
        for row in rows
    )


def _reserves(zone: ZoneSnapshot) -> str:
    """Return lowmem_reserve as the kernel log prints it."""
    return " ".join(map(str, zone.lowmem_reserve))
