"""Setting the watermarks: min_free_kbytes, every zone's marks, reserves and list limits.

`mm_init.boot()` calls set_up_marks() once; `sysctl` calls the rest when a setting is written while
the machine runs. All of it depends on few numbers: managed pages, CPUs, settings. Linux:
mm/page_alloc.c, mm/khugepaged.c set_recommended_min_free_kbytes(), mm/vmstat.c.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

from kmemkit.mm.mmzone import HIGH, LOW, MIN, PAGEBLOCK_ORDER, PROMO, Zone
from kmemkit.mm.numa import Topology
from kmemkit.mm.pcp import zone_set_pageset_high_and_batch
from kmemkit.mm.vm import Vm

__all__ = (
    "calculate_min_free_kbytes",
    "calculate_normal_threshold",
    "init_per_zone_wmark_min",
    "lowmem_zones",
    "refresh_zone_stat_thresholds",
    "set_recommended_min_free_kbytes",
    "set_up_marks",
    "setup_per_zone_lowmem_reserve",
    "setup_per_zone_wmarks",
    "update_pcp_limits",
)

LEAST_MIN_FREE_KBYTES, MOST_MIN_FREE_KBYTES = 128, 262144
#: Pages of memory below which huge pages are off: 512 MiB.
LEAST_FOR_THP = 512 << 8

Printk = Callable[[str], None]


def _print_nothing(_: str) -> None:
    """Stand in for the kernel log at boot, when nothing can have been set by a user."""


def _is_high(vm: Vm, zone: Zone) -> bool:
    """Return whether kernel memory can't come from a zone: then it needs no big reserve."""
    return zone.name == "HighMem" or (zone.name == "Movable" and vm.movable_is_high)


def lowmem_zones(zones: list[Zone]) -> list[Zone]:
    """Return the zones a GFP_USER request may use: not HighMem, Movable, Device."""
    return [zone for zone in zones if zone.name in ("DMA", "DMA32", "Normal")]


def _nr_free_buffer_pages(zones: list[Zone]) -> int:
    """Return the pages above the high mark in the zones of a GFP_USER request."""
    return sum(
        max(0, zone.managed - zone.watermark[HIGH] - zone.watermark_boost)
        for zone in lowmem_zones(zones)
    )


def set_up_marks(vm: Vm, zones: list[Zone], topology: Topology) -> None:
    """Do what boot does: marks from the size of memory, then khugepaged's raise."""
    init_per_zone_wmark_min(vm, zones, topology)
    # mm/huge_memory.c hugepage_init(); khugepaged has its say even where it has nothing to do
    if sum(zone.managed for zone in zones) < LEAST_FOR_THP:
        vm.thp = False
    else:
        set_recommended_min_free_kbytes(vm, zones, topology)


def init_per_zone_wmark_min(vm: Vm, zones: list[Zone], topology: Topology) -> None:
    """Choose min_free_kbytes, and set all that follows from it (same name in Linux)."""
    calculate_min_free_kbytes(vm, zones)
    setup_per_zone_wmarks(vm, zones, topology)
    refresh_zone_stat_thresholds(zones, len(topology.cpu_node))
    setup_per_zone_lowmem_reserve(vm, zones)


def calculate_min_free_kbytes(vm: Vm, zones: list[Zone], printk: Printk = _print_nothing) -> None:
    """Choose min_free_kbytes by the root of memory, unless a user set more (same name in Linux)."""
    kbytes = isqrt(4 * _nr_free_buffer_pages(zones) * 16)
    if kbytes > vm.user_min_free_kbytes:
        vm.min_free_kbytes = min(max(kbytes, LEAST_MIN_FREE_KBYTES), MOST_MIN_FREE_KBYTES)
    else:
        printk(
            f"min_free_kbytes is not updated to {kbytes} because user defined value "
            f"{vm.user_min_free_kbytes} is preferred"
        )


def set_recommended_min_free_kbytes(
    vm: Vm, zones: list[Zone], topology: Topology, printk: Printk = _print_nothing
) -> None:
    """Raise min_free_kbytes so that huge pages find whole pageblocks (mm/khugepaged.c).

    Per zone: two free pageblocks, and one for every pair of types that mix in it. Without huge
    pages the value goes back to what the size of memory asks for.
    """
    if not vm.thp:
        calculate_min_free_kbytes(vm, zones, printk)
    else:
        populated = sum(1 for zone in lowmem_zones(zones) if zone.present)
        pages = (populated << PAGEBLOCK_ORDER) * (2 + 3 * 3)
        kbytes = min(pages, _nr_free_buffer_pages(zones) // 20) * 4
        if kbytes > vm.min_free_kbytes:
            if vm.user_min_free_kbytes >= 0:
                printk(
                    f"khugepaged: raising min_free_kbytes from {vm.min_free_kbytes} to {kbytes} "
                    "to help transparent hugepage allocations"
                )
            vm.min_free_kbytes = kbytes
    setup_per_zone_wmarks(vm, zones, topology)


def setup_per_zone_wmarks(vm: Vm, zones: list[Zone], topology: Topology) -> None:
    """Share min_free_kbytes out to the zones by size; set low, high and promo above it.

    A boost ends here, and the per-CPU lists get new limits: they follow the low mark. Linux:
    mm/page_alloc.c setup_per_zone_wmarks().
    """
    pages_min = vm.min_free_kbytes // 4
    lowmem = sum(zone.managed for zone in zones if not _is_high(vm, zone))
    for zone in zones:
        share = pages_min * zone.managed // lowmem if lowmem else 0
        least = share
        if _is_high(vm, zone):
            least = min(max(zone.managed // 1024, 32), 128)
        gap = max(share // 4, zone.managed * vm.watermark_scale_factor // 10000)
        zone.watermark_boost = 0
        zone.watermark[MIN] = least
        zone.watermark[LOW] = least + gap
        zone.watermark[HIGH] = least + 2 * gap
        zone.watermark[PROMO] = least + 3 * gap
    update_pcp_limits(zones, topology)


def update_pcp_limits(zones: list[Zone], topology: Topology) -> None:
    """Give the per-CPU lists the limits that follow from marks and settings (zone_pcp_update()).

    Lists that are not in use, as in most small worlds, stay so.
    """
    for zone in zones:
        if zone.pcp.high_max:
            zone_set_pageset_high_and_batch(zone, topology.local_cpus(zone.nid))


def setup_per_zone_lowmem_reserve(vm: Vm, zones: list[Zone]) -> None:
    """Set what a zone keeps from requests that may use a higher one (same name in Linux)."""
    for zone in zones:
        ratio = vm.lowmem_reserve_ratio[zone.idx]
        reserve = [0] * len(vm.lowmem_reserve_ratio)
        above = 0
        for idx in range(zone.idx + 1, len(reserve)):
            above += sum(z.managed for z in zones if z.nid == zone.nid and z.idx == idx)
            reserve[idx] = above // ratio if ratio and zone.managed else 0
        zone.lowmem_reserve = tuple(reserve)


def calculate_normal_threshold(zone: Zone, cpus: int) -> int:
    """Return how many pages of change a CPU may keep to itself (mm/vmstat.c, same name)."""
    size_class = (zone.managed >> 15).bit_length()
    return min(125, 2 * cpus.bit_length() * (1 + size_class))


def refresh_zone_stat_thresholds(zones: list[Zone], cpus: int) -> None:
    """Set how far the CPUs' counts may drift, and where kswapd must add them up (mm/vmstat.c).

    It must where they could hide that a zone which looks to be above low is below min. Boot does
    this before khugepaged raises the marks, and nothing does it again.
    """
    for zone in zones:
        zone.stat_threshold = calculate_normal_threshold(zone, cpus)
        drift = cpus * zone.stat_threshold
        if drift > zone.watermark[LOW] - zone.watermark[MIN]:
            zone.percpu_drift_mark = zone.watermark[HIGH] + zone.watermark_boost + drift
