"""Boot: where memory is, which zone it belongs to, what is handed to the buddy, and the marks.

`Kernel.__init__()` calls boot(). Two kinds of machine come out:

* a real layout (16 MiB and more): a PC with Linux's x86-64 zones, the PCI hole below 4 GiB, the
  first MiB, the kernel image and the mem_map reserved;
* a small world (below 16 MiB): one zone from pfn 0, nothing reserved, for lessons. What it scales
  down it says (`Kernel.scaled`).

Linux: mm/mm_init.c, mm/memblock.c, arch/x86/mm/init.c, and the watermark set-up of mm/page_alloc.c.
Simplified: firmware tables and boot allocations are a fixed model (docs/fidelity.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import isqrt

from kmemkit.mm.buddy import free_one_page
from kmemkit.mm.mmzone import (
    FREE,
    HIGH,
    HOLE,
    LOW,
    MAX_PAGE_ORDER,
    MIGRATE_MOVABLE,
    MIGRATE_TYPES,
    MIN,
    NO_PAGEBLOCK,
    PAGEBLOCK_ORDER,
    PROMO,
    RESERVED,
    MemMap,
    Vm,
    Zone,
)
from kmemkit.mm.pcp import setup_pcp_cacheinfo, zone_set_pageset_high_and_batch
from kmemkit.strings import text

__all__ = (
    "Layout",
    "boot",
    "init_per_zone_wmark_min",
    "memblock_free_range",
    "refresh_zone_stat_thresholds",
    "set_recommended_min_free_kbytes",
    "setup_per_zone_lowmem_reserve",
    "setup_per_zone_wmarks",
)

#: Below this a machine is a small world (16 MiB: all of it would be ZONE_DMA).
SMALL_WORLD_PAGES = 4096
#: A small world needs room for a few blocks.
LEAST_PAGES = 64
DMA_END = 4096  # 16 MiB
DMA32_END = 1 << 20  # 4 GiB
#: QEMU's and most PCs' layout: RAM above 3.5 GiB leaves the last GiB below 4 GiB to PCI devices.
PCI_HOLE_START = 786432  # 3 GiB
PCI_HOLE_NEEDED = 917504  # 3.5 GiB
#: The firmware keeps the last 128 KiB below the PCI hole for its tables.
FIRMWARE_PAGES = 32
KERNEL_IMAGE_START = 4096  # 16 MiB
KERNEL_IMAGE_PAGES = 9780
#: With RAM above 4 GiB, 64 MiB below it are kept for devices that reach no further (swiotlb).
SWIOTLB_PAGES = 16384
#: sizeof(struct page) is 64 bytes: one page of mem_map describes 64 pages.
PAGES_PER_MEMMAP_PAGE = 64
LOWMEM_RESERVE_RATIO = {"DMA": 256, "DMA32": 256, "Normal": 32, "HighMem": 0, "Movable": 0}


@dataclass(slots=True)
class Layout:
    """What boot() built: the columns, the zones in node and index order, and what was scaled."""

    mem_map: MemMap
    zones: list[Zone]
    scaled: tuple[str, ...]


def boot(
    pages: int,
    nodes: int,
    cpus: int,
    vm: Vm,
    *,
    max_order: int | None = None,
    pageblock_order: int | None = None,
    pcp: bool | None = None,
) -> Layout:
    """Build a machine of `pages` pages and hand its memory to the buddy, ascending.

    `max_order` and `pageblock_order` default to the real geometry (10 and 9), or to a scaled one in
    a small world of less than 1024 pages. `pcp` switches the per-CPU lists; off by default in a
    small world.

    Raises:
        ValueError: fewer than 64 pages; several nodes in a small world; an impossible geometry.
    """
    small = pages < SMALL_WORLD_PAGES
    if pages < LEAST_PAGES:
        raise ValueError(
            f"ram: {pages} pages = {pages * 4} kB is too little; "
            f"give at least {LEAST_PAGES} pages (256K)"
        )
    if small and nodes > 1:
        raise ValueError(
            f"nodes={nodes}: a small world has one node; give 16M of ram per node or more"
        )
    order, block = _geometry(pages, max_order, pageblock_order)
    build = _small_world if small else _real_layout
    machine = build(pages, nodes, cpus, vm, order, block)
    _mobility_grouping(vm, machine.zones, small)
    if small:
        vm.min_free_kbytes = 0
        setup_per_zone_wmarks(vm, machine.zones)
    else:
        init_per_zone_wmark_min(vm, machine.zones)
        _hugepage_init(vm, machine.zones)
        set_recommended_min_free_kbytes(vm, machine.zones)
        refresh_zone_stat_thresholds(machine.zones, cpus)
    if not small if pcp is None else pcp:
        for zone in machine.zones:
            zone_set_pageset_high_and_batch(zone, cpus_of_node(zone.nid, cpus, nodes) or cpus)
            setup_pcp_cacheinfo(zone)
    machine.scaled = _what_is_scaled(machine, small, pcp)
    return machine


def cpus_of_node(nid: int, cpus: int, nodes: int) -> int:
    """Return how many CPUs sit on a node: they are dealt out evenly, in order."""
    return sum(1 for cpu in range(cpus) if cpu * nodes // max(cpus, nodes) == nid)


def _geometry(pages: int, max_order: int | None, pageblock_order: int | None) -> tuple[int, int]:
    """Return (highest order, pageblock order), scaled for a world of less than 1024 pages."""
    for name, value in (("max_order", max_order), ("pageblock_order", pageblock_order)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise TypeError(f"{name}={value!r}: give a whole number; order n is 2^n pages")
    if max_order is None:
        max_order = MAX_PAGE_ORDER if pages >= 1 << MAX_PAGE_ORDER else pages.bit_length() - 3
        if pageblock_order is not None:
            max_order = max(max_order, pageblock_order)
    if pageblock_order is None:
        pageblock_order = PAGEBLOCK_ORDER if max_order == MAX_PAGE_ORDER else max_order - 1
    if not 1 <= pageblock_order <= max_order <= MAX_PAGE_ORDER:
        raise ValueError(
            f"pageblock_order={pageblock_order}, max_order={max_order}: "
            f"must satisfy 1 <= pageblock_order <= max_order <= {MAX_PAGE_ORDER}"
        )
    return max_order, pageblock_order


def _small_world(
    pages: int, nodes: int, cpus: int, vm: Vm, max_order: int, pageblock_order: int
) -> Layout:
    """Build one zone from pfn 0 with all pages free."""
    mem_map = MemMap(pages, pageblock_order)
    zone = Zone(
        0, 2, "Normal", 0, pages, mem_map, vm,
        max_order=max_order, pageblock_order=pageblock_order, cpus=cpus,
    )  # fmt: skip
    zone.present = pages
    memblock_free_range(zone, 0, pages)
    return Layout(mem_map, [zone], ())


def _real_layout(
    pages: int, nodes: int, cpus: int, vm: Vm, max_order: int, pageblock_order: int
) -> Layout:
    """Build a PC: its RAM ranges, nodes of equal size, x86-64 zones."""
    ranges = _ram_ranges(pages)
    mem_map = MemMap(ranges[-1][1], pageblock_order)
    for low, high in _without([(0, ranges[-1][1])], ranges):
        mem_map.page[low:high] = bytes([HOLE]) * (high - low)
        first, last = -(-low >> pageblock_order), high >> pageblock_order
        mem_map.pageblock[first:last] = bytes([NO_PAGEBLOCK]) * (last - first)
    zones = []
    keep = [(0, 256), (KERNEL_IMAGE_START, KERNEL_IMAGE_START + KERNEL_IMAGE_PAGES)]
    if ranges[-1][1] > DMA32_END:
        low_end = ranges[-2][1]
        keep.append((low_end - SWIOTLB_PAGES, low_end))
    for nid, node_ranges in enumerate(_split_nodes(ranges, pages, nodes)):
        for idx, name, low, high in (
            (0, "DMA", 1, DMA_END),
            (1, "DMA32", DMA_END, DMA32_END),
            (2, "Normal", DMA32_END, 1 << 52),
        ):
            inside = _clip(node_ranges, low, high)
            if not inside:
                continue
            # A zone spans from the node's own limits, holes included
            end = min(high, node_ranges[-1][1])
            zone = Zone(
                nid, idx, name, max(low, node_ranges[0][0]), end, mem_map, vm,
                max_order=max_order, pageblock_order=pageblock_order, cpus=cpus,
            )  # fmt: skip
            zone.present = sum(b - a for a, b in inside)
            zones.append(zone)
        _free_node(zones, nid, node_ranges, keep)
    return Layout(mem_map, zones, ())


def _ram_ranges(pages: int) -> list[tuple[int, int]]:
    """Return a PC's RAM as [start, end) pfns: low memory, and what the PCI hole displaced."""
    low_end = pages if pages < PCI_HOLE_NEEDED else PCI_HOLE_START
    ranges = [(1, 159), (256, low_end - FIRMWARE_PAGES)]
    if pages > low_end:
        ranges.append((DMA32_END, DMA32_END + pages - low_end))
    return ranges


def _split_nodes(
    ranges: list[tuple[int, int]], pages: int, nodes: int
) -> list[list[tuple[int, int]]]:
    """Deal RAM out to nodes in equal shares, ascending, as QEMU and most firmware do."""
    low_end = pages if pages < PCI_HOLE_NEEDED else PCI_HOLE_START

    def pfn(offset: int) -> int:
        return offset if offset <= low_end else DMA32_END + offset - low_end

    limits = [pfn(pages * node // nodes) for node in range(nodes + 1)]
    return [_clip(ranges, low, high) for low, high in pairwise(limits)]


def _clip(ranges: list[tuple[int, int]], low: int, high: int) -> list[tuple[int, int]]:
    """Return the parts of `ranges` inside [low, high)."""
    clipped = [(max(a, low), min(b, high)) for a, b in ranges]
    return [(a, b) for a, b in clipped if a < b]


def _free_node(
    zones: list[Zone], nid: int, ranges: list[tuple[int, int]], keep: list[tuple[int, int]]
) -> None:
    """Hand one node's memory to its zones, less the ranges boot keeps, and the node's mem_map."""
    memmap = sum(b - a for a, b in ranges) // PAGES_PER_MEMMAP_PAGE
    # memblock allocates from the top down: the mem_map lies at the end of the node's memory
    top = ranges[-1][1]
    keep = [*keep, (max(top - memmap, ranges[-1][0]), top)]
    for zone in zones:
        if zone.nid == nid:
            inside = _clip(ranges, zone.start_pfn, zone.end_pfn)
            given = _without(inside, keep)
            for start, end in _without(inside, given):
                zone.page[start:end] = bytes([RESERVED]) * (end - start)
            for start, end in given:
                memblock_free_range(zone, start, end)


def _without(ranges: list[tuple[int, int]], keep: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return `ranges` minus the ranges in `keep`."""
    for low, high in keep:
        cut = []
        for start, end in ranges:
            cut += [(start, min(end, low)), (max(start, high), end)]
        ranges = [(a, b) for a, b in cut if a < b]
    return ranges


def memblock_free_range(zone: Zone, start: int, end: int) -> None:
    """Free [start, end) to a zone in the biggest aligned blocks, ascending, to the list tails.

    Linux: mm/memblock.c __free_pages_memory(). Whole blocks of the highest order can't merge
    further, so a run of them is put on its list at once.
    """
    zone.managed += end - start
    top = zone.max_order
    run_start = -(-start >> top) << top
    run_end = end >> top << top
    if run_start >= run_end:
        _free_ragged(zone, start, end)
        return
    _free_ragged(zone, start, run_start)
    blocks = range(run_start, run_end, 1 << top)
    zone.page[run_start : run_end : 1 << top] = bytes([FREE | top]) * len(blocks)
    zone.free_tail[top * MIGRATE_TYPES + MIGRATE_MOVABLE].update(dict.fromkeys(blocks))
    zone.vm_stat += run_end - run_start
    _free_ragged(zone, run_end, end)


def _free_ragged(zone: Zone, start: int, end: int) -> None:
    """Free a range without whole blocks of the highest order, piece by piece."""
    while start < end:
        order = min(zone.max_order, (start & -start).bit_length() - 1) if start else zone.max_order
        while start + (1 << order) > end:
            order -= 1
        free_one_page(zone, start, order, to_tail=True)
        start += 1 << order


# -- marks ----------------------------------------------------------------------------------------


def _lowmem_free(zones: list[Zone]) -> int:
    """Return the pages above the high mark in all zones a GFP_USER request may use."""
    return sum(
        max(0, zone.managed - zone.watermark[HIGH] - zone.watermark_boost)
        for zone in zones
        if zone.idx <= 2
    )


def init_per_zone_wmark_min(vm: Vm, zones: list[Zone]) -> None:
    """Choose min_free_kbytes from the size of memory; set all marks (same name in Linux)."""
    kbytes = 4 * _lowmem_free(zones)
    vm.min_free_kbytes = min(max(isqrt(kbytes * 16), 128), 262144)
    setup_per_zone_wmarks(vm, zones)
    setup_per_zone_lowmem_reserve(zones)


def _hugepage_init(vm: Vm, zones: list[Zone]) -> None:
    """Switch transparent huge pages off below 512 MiB (mm/huge_memory.c hugepage_init())."""
    if sum(zone.managed for zone in zones) < 512 << 8:
        vm.thp = False


def set_recommended_min_free_kbytes(vm: Vm, zones: list[Zone]) -> None:
    """Raise min_free_kbytes so that huge pages find whole pageblocks (mm/khugepaged.c)."""
    if not vm.thp:
        return
    populated = sum(1 for zone in zones if zone.present and zone.idx <= 2)
    block = 1 << PAGEBLOCK_ORDER
    pages = block * populated * 2 + block * populated * 9
    kbytes = min(pages, _lowmem_free(zones) // 20) * 4
    if kbytes > vm.min_free_kbytes:
        vm.min_free_kbytes = kbytes
        setup_per_zone_wmarks(vm, zones)


def setup_per_zone_wmarks(vm: Vm, zones: list[Zone]) -> None:
    """Share min_free_kbytes out to the zones by size, and set low, high and promo above it.

    Linux: mm/page_alloc.c __setup_per_zone_wmarks().
    """
    pages_min = vm.min_free_kbytes // 4
    lowmem = sum(zone.managed for zone in zones if zone.name not in ("HighMem", "Movable"))
    for zone in zones:
        share = pages_min * zone.managed // lowmem if lowmem else 0
        least = share
        if zone.name in ("HighMem", "Movable"):
            least = min(max(zone.managed // 1024, 32), 128)
        gap = max(share // 4, zone.managed * vm.watermark_scale_factor // 10000)
        if not vm.min_free_kbytes:
            gap = 0
        zone.watermark_boost = 0
        zone.watermark[MIN] = least
        zone.watermark[LOW] = least + gap
        zone.watermark[HIGH] = least + 2 * gap
        zone.watermark[PROMO] = least + 3 * gap


def setup_per_zone_lowmem_reserve(zones: list[Zone]) -> None:
    """Set what a zone keeps from requests that may use a higher one (same name in Linux)."""
    for zone in zones:
        ratio = LOWMEM_RESERVE_RATIO[zone.name]
        reserve = [0] * 5
        above = 0
        for idx in range(zone.idx + 1, 5):
            above += sum(z.managed for z in zones if z.nid == zone.nid and z.idx == idx)
            reserve[idx] = above // ratio if ratio and zone.managed else 0
        zone.lowmem_reserve = tuple(reserve)


def calculate_normal_threshold(zone: Zone, cpus: int) -> int:
    """Return how many pages of change a CPU may keep to itself (mm/vmstat.c, same name)."""
    size_class = (zone.managed >> 15).bit_length()
    return min(125, 2 * cpus.bit_length() * (1 + size_class))


def refresh_zone_stat_thresholds(zones: list[Zone], cpus: int) -> None:
    """Set how far the CPUs' counts may drift, and where kswapd must add them up (mm/vmstat.c).

    It must where they could hide that a zone which looks to be above low is below min.
    """
    for zone in zones:
        zone.stat_threshold = calculate_normal_threshold(zone, cpus)
        drift = cpus * zone.stat_threshold
        if drift > zone.watermark[LOW] - zone.watermark[MIN]:
            zone.percpu_drift_mark = zone.watermark[HIGH] + zone.watermark_boost + drift


def _mobility_grouping(vm: Vm, zones: list[Zone], small: bool) -> None:
    """Switch migratetypes off where memory is too small for them (build_all_zonelists())."""
    if not small:
        total = sum(zone.managed for zone in zones)
        vm.page_group_by_mobility_disabled = total < (1 << PAGEBLOCK_ORDER) * MIGRATE_TYPES


def _what_is_scaled(machine: Layout, small: bool, pcp: bool | None) -> tuple[str, ...]:
    """Return a sentence for everything that is not as in a real machine."""
    zone = machine.zones[0]
    said = []
    if zone.max_order != MAX_PAGE_ORDER:
        said.append(text("scaled.max_order", order=zone.max_order, pages=1 << zone.max_order))
    if zone.pageblock_order != PAGEBLOCK_ORDER:
        said.append(
            text("scaled.pageblock", order=zone.pageblock_order, pages=1 << zone.pageblock_order)
        )
    if small:
        said.append(text("scaled.one_zone", name=zone.name))
        said.append(text("scaled.watermarks"))
    if (small and not pcp) or pcp is False:
        said.append(text("scaled.pcp"))
    return tuple(said)
