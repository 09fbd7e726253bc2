"""Boot: which zone memory belongs to, what is handed to the buddy, and the marks.

`Kernel.__init__()` calls boot(). Two kinds of machine come out:

* a real layout (16 MiB and more): a PC with Linux's zones on the ranges `e820` plans, ZONE_MOVABLE
  cut off where the command line asks for it;
* a small world (below 16 MiB): one zone from pfn 0, nothing reserved, for lessons. What it scales
  down it says (`Kernel.scaled`).

Linux: mm/mm_init.c, mm/memblock.c, mm/shuffle.c; the marks are set by `wmark_setup`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from kmemkit.mm.buddy import free_one_page
from kmemkit.mm.cmdline import parse_percent
from kmemkit.mm.e820 import MemoryPlan, Ranges, clip, plan_memory, without
from kmemkit.mm.mmzone import (
    FREE,
    HOLE,
    MAX_PAGE_ORDER,
    MIGRATE_MOVABLE,
    MIGRATE_TYPES,
    NO_PAGEBLOCK,
    PAGEBLOCK_ORDER,
    RESERVED,
    ZONE_MOVABLE,
    MemMap,
    Zone,
)
from kmemkit.mm.numa import Hardware, Topology
from kmemkit.mm.pcp import setup_pcp_cacheinfo, zone_set_pageset_high_and_batch
from kmemkit.mm.vm import Vm
from kmemkit.mm.wmark_setup import set_up_marks
from kmemkit.strings import text

__all__ = ("Layout", "boot", "memblock_free_range")

#: Below this a machine is a small world (16 MiB: all of it would be ZONE_DMA).
SMALL_WORLD_PAGES = 4096
#: A small world needs room for a few blocks.
LEAST_PAGES = 64
#: ZONE_MOVABLE begins at a multiple of 4 MiB (MAX_ORDER_NR_PAGES).
MOVABLE_ALIGN = 1 << MAX_PAGE_ORDER


@dataclass(slots=True)
class Layout:
    """What boot() built: the columns, the zones in node and index order, and what was scaled."""

    mem_map: MemMap
    zones: list[Zone]
    topology: Topology
    late: Ranges = field(default_factory=list)  #: what Linux frees once the marks are set
    scaled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Geometry:
    max_order: int
    pageblock_order: int


def boot(
    hardware: Hardware,
    vm: Vm,
    options: Mapping[str, str] | None = None,
    *,
    max_order: int | None = None,
    pageblock_order: int | None = None,
    pcp: bool | None = None,
) -> Layout:
    """Build a machine and hand its memory to the buddy, ascending.

    `options` are the command line's, by name. `max_order` and `pageblock_order` default to the real
    geometry (10 and 9), or to a scaled one in a small world of less than 1024 pages. `pcp` switches
    the per-CPU lists; off by default in a small world.

    Raises:
        ValueError: fewer than 64 pages; several nodes in a small world; an impossible geometry; a
            command line that leaves no machine.
    """
    options = options or {}
    small = hardware.pages < SMALL_WORLD_PAGES
    if hardware.pages < LEAST_PAGES:
        raise ValueError(
            f"ram: {hardware.pages} pages = {hardware.pages * 4} kB is too little; "
            f"give at least {LEAST_PAGES} pages (256K)"
        )
    geometry = _geometry(hardware.pages, max_order, pageblock_order)
    if small:
        layout = _small_world(hardware, vm, options, geometry)
    else:
        layout = _real_layout(hardware, vm, options, geometry)
    zones, topology = layout.zones, layout.topology
    if not small if pcp is None else pcp:
        for zone in zones:
            zone_set_pageset_high_and_batch(zone, topology.local_cpus(zone.nid))
            setup_pcp_cacheinfo(zone)
    if small:
        vm.min_free_kbytes = 0
    else:
        _mobility_grouping(vm, zones)
        _set_up_marks(vm, layout)
    if options.get("page_alloc.shuffle", "0") in "1Yy":
        shuffle_free_memory(zones)
    layout.scaled = _what_is_scaled(layout, small, pcp)
    return layout


def _geometry(pages: int, max_order: int | None, pageblock_order: int | None) -> _Geometry:
    """Return highest order and pageblock order, scaled for a world of less than 1024 pages."""
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
    return _Geometry(max_order, pageblock_order)


# -- layouts --------------------------------------------------------------------------------------

#: What a small world has no room for.
NEED_A_REAL_LAYOUT = (
    "crashkernel", "highmem", "kernelcore", "kfence.sample_interval", "mem", "movable_node",
    "movablecore", "numa",
)  # fmt: skip


def _small_world(
    hardware: Hardware, vm: Vm, options: Mapping[str, str], geometry: _Geometry
) -> Layout:
    """Build one zone from pfn 0 with all pages free."""
    if len(hardware.ram) > 1:
        raise ValueError(
            f"nodes={len(hardware.ram)}: a small world has one node; "
            "give 16M of ram per node or more"
        )
    if hardware.arch != "x86_64":
        raise ValueError(f"arch={hardware.arch!r}: a small world has one zone; give 16M of ram")
    for name in NEED_A_REAL_LAYOUT:
        if name in options:
            raise ValueError(f"cmdline: {name}: a small world has one zone; give 16M of ram")
    mem_map = MemMap(hardware.pages, geometry.pageblock_order)
    zone = Zone(
        0, 2, "Normal", 0, hardware.pages, mem_map, vm,
        max_order=geometry.max_order, pageblock_order=geometry.pageblock_order,
        cpus=sum(hardware.cpus),
    )  # fmt: skip
    zone.present = hardware.pages
    memblock_free_range(zone, 0, hardware.pages)
    return Layout(mem_map, [zone], hardware.topology())


def _real_layout(
    hardware: Hardware, vm: Vm, options: Mapping[str, str], geometry: _Geometry
) -> Layout:
    """Build a PC: its RAM ranges, nodes, zones."""
    plan = plan_memory(hardware, options)
    mem_map = _mem_map(plan, geometry)
    movable = find_zone_movable_pfns_for_nodes(plan, hardware, options)
    layout = Layout(mem_map, [], plan.topology, plan.late)
    for nid, ranges in enumerate(plan.nodes):
        if not ranges:
            continue
        zones = []
        for idx, name, low, high in _zones_of_node(plan, ranges, movable.get(nid)):
            zone = Zone(
                nid, idx, name, low, high, mem_map, vm,
                max_order=geometry.max_order, pageblock_order=geometry.pageblock_order,
                cpus=len(plan.topology.cpu_node),
            )  # fmt: skip
            zone.present = sum(b - a for a, b in clip(ranges, low, high))
            zone.lowmem_reserve = (0,) * len(vm.lowmem_reserve_ratio)
            zones.append(zone)
        _free_node(zones, ranges, plan.keep)
        layout.zones += zones
    return layout


def _mem_map(plan: MemoryPlan, geometry: _Geometry) -> MemMap:
    """Return the page columns, with holes where there is no memory."""
    ranges = sorted(one for node in plan.nodes for one in node)
    mem_map = MemMap(ranges[-1][1], geometry.pageblock_order)
    for low, high in without([(0, ranges[-1][1])], ranges):
        mem_map.page[low:high] = bytes([HOLE]) * (high - low)
        first = -(-low >> geometry.pageblock_order)
        last = high >> geometry.pageblock_order
        mem_map.pageblock[first:last] = bytes([NO_PAGEBLOCK]) * (last - first)
    return mem_map


def _zones_of_node(
    plan: MemoryPlan, ranges: Ranges, movable: int | None
) -> list[tuple[int, str, int, int]]:
    """Return (index, name, first pfn, end pfn) of a node's zones with memory.

    A zone spans from the node's own limits, holes included (zone_spanned_pages_in_node()).
    """
    start, end = ranges[0][0], ranges[-1][1]
    zones = []
    for idx, (name, low, high) in enumerate(plan.zone_limits):
        zone_end = min(high, end) if movable is None else min(high, end, movable)
        zones.append((idx, name, max(low, start), zone_end))
    if movable is not None:
        zones.append((ZONE_MOVABLE, "Movable", movable, end))
    return [zone for zone in zones if zone[2] < zone[3] and clip(ranges, zone[2], zone[3])]


def _free_node(zones: list[Zone], ranges: Ranges, keep: Ranges) -> None:
    """Hand one node's memory to its zones, less what boot keeps."""
    for zone in zones:
        inside = clip(ranges, zone.start_pfn, zone.end_pfn)
        given = without(inside, keep)
        for start, end in without(inside, given):
            zone.page[start:end] = bytes([RESERVED]) * (end - start)
        for start, end in given:
            memblock_free_range(zone, start, end)


def _set_up_marks(vm: Vm, layout: Layout) -> None:
    """Set the marks for what Linux has freed by then: not its start-up memory, nor the initrd.

    They stay as they are when those come too (free_initmem(), free_initrd_mem()), until a setting
    is written.
    """
    managed = [zone.managed for zone in layout.zones]
    for zone in layout.zones:
        late = sum(b - a for a, b in clip(layout.late, zone.start_pfn, zone.end_pfn))
        zone.managed = max(zone.managed - late, 0)
    set_up_marks(vm, layout.zones, layout.topology)
    for zone, pages in zip(layout.zones, managed, strict=True):
        zone.managed = pages


# -- ZONE_MOVABLE ---------------------------------------------------------------------------------


def find_zone_movable_pfns_for_nodes(
    plan: MemoryPlan, hardware: Hardware, options: Mapping[str, str]
) -> dict[int, int]:
    """Return node -> pfn where its ZONE_MOVABLE begins (same name in Linux).

    movable_node makes all memory that can be pulled out movable, and overrules sizes.
    """
    away = hardware.hotplug if "movable_node" in options else frozenset()
    found = {nid: plan.nodes[nid][0][0] for nid in away if nid < len(plan.nodes)}
    total = sum(high - low for node in plan.nodes for low, high in node)
    required = _required_kernelcore(options, total)
    if not found and 0 < required < total:
        lowest = [low for _, low, high in plan.zone_limits if low < high][-1]
        found = _spread_kernelcore(plan.nodes, required, lowest)
    aligned = {nid: -(-pfn // MOVABLE_ALIGN) * MOVABLE_ALIGN for nid, pfn in found.items()}
    return {
        nid: pfn for nid, pfn in aligned.items() if plan.nodes[nid] and pfn < plan.nodes[nid][-1][1]
    }


def _required_kernelcore(options: Mapping[str, str], total: int) -> int:
    """Return how many pages must stay usable for kernel memory, 0 if nobody said."""
    required = parse_percent(options["kernelcore"], total) if "kernelcore" in options else 0
    if "movablecore" in options:
        movable = parse_percent(options["movablecore"], total)
        movable = min(-(-movable // MOVABLE_ALIGN) * MOVABLE_ALIGN, total)
        required = max(required, total - movable)
    return required


def _spread_kernelcore(nodes: list[Ranges], required: int, lowest: int) -> dict[int, int]:
    """Return where each node's share of `required` kernel pages ends.

    Shares are even; what a node is too small for goes to the others, in another round. Memory below
    `lowest`, where the zone that gives to ZONE_MOVABLE begins, is kernel memory anyway.
    """
    movable: dict[int, int] = {}
    usable = sum(1 for ranges in nodes if ranges)
    for rounds in range(usable, 0, -1):
        if rounds < usable and required <= rounds:
            break
        share = required // rounds
        for nid, ranges in enumerate(nodes):
            share = min(share, required // rounds) if required < share else share
            movable[nid], taken = _take_share(ranges, share, movable.get(nid, 0), lowest)
            required -= min(taken, required)
    return movable


def _take_share(ranges: Ranges, share: int, begin: int, lowest: int) -> tuple[int, int]:
    """Take `share` pages of a node from `begin` on; return (where that ends, pages taken)."""
    taken = 0
    for low, high in clip(ranges, begin, ranges[-1][1] if ranges else 0):
        # kernel memory anyway, even where it is more than the share
        anyway = max(min(high, lowest) - low, 0)
        begin = low + anyway
        share -= min(anyway, share)
        more = min(high - begin, share)
        begin, share, taken = begin + more, share - more, taken + anyway + more
        if not share and begin >= lowest:
            break
    return begin, taken


# -- memblock -------------------------------------------------------------------------------------


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


def shuffle_free_memory(zones: list[Zone], seed: int = 0) -> None:
    """Put the free blocks of the highest order in a random order (page_alloc.shuffle=1).

    Linux: mm/shuffle.c __shuffle_zone(): every block changes places with another one.
    """
    random = Random(seed)
    for zone in zones:
        area = zone.free_tail[zone.max_order * MIGRATE_TYPES + MIGRATE_MOVABLE]
        blocks = list(area)
        for place in range(len(blocks)):
            other = random.randrange(len(blocks))
            blocks[place], blocks[other] = blocks[other], blocks[place]
        area.clear()
        area.update(dict.fromkeys(blocks))


def _mobility_grouping(vm: Vm, zones: list[Zone]) -> None:
    """Switch migratetypes off where memory is too small for them (build_all_zonelists()).

    Linux decides before it knows what it keeps for itself: all present pages count.
    """
    total = sum(zone.present for zone in zones)
    vm.page_group_by_mobility_disabled = total < (1 << PAGEBLOCK_ORDER) * MIGRATE_TYPES


def _what_is_scaled(layout: Layout, small: bool, pcp: bool | None) -> tuple[str, ...]:
    """Return a sentence for everything that is not as in a real machine."""
    zone = layout.zones[0]
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
