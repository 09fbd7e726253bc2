"""Watermarks, reserves and list limits from the sizes of zones."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.mmzone import MemMap, Zone
from kmemkit.mm.numa import Topology
from kmemkit.mm.vm import Vm
from kmemkit.mm.wmark_setup import (
    calculate_min_free_kbytes,
    calculate_normal_threshold,
    init_per_zone_wmark_min,
    refresh_zone_stat_thresholds,
    set_recommended_min_free_kbytes,
    set_up_marks,
    setup_per_zone_lowmem_reserve,
    setup_per_zone_wmarks,
    update_pcp_limits,
)

NAMES = {"DMA": 0, "DMA32": 1, "Normal": 2, "Movable": 3}
ONE = Topology(1, (0,))


def zones_of(vm=None, **managed):
    """Return zones of one node with so many managed pages each."""
    vm, mem_map, zones = vm or Vm(), MemMap(1, 9), []
    for name, pages in managed.items():
        zone = Zone(0, NAMES[name], name, 0, 1, mem_map, vm)
        zone.managed = zone.present = pages
        zones.append(zone)
    return zones


def kb(zone):
    return [4 * pages for pages in zone.watermark[:3]]


# -- the fact sheet's worked examples -------------------------------------------------------------

EXAMPLES = [
    (
        {"DMA": 3840, "DMA32": 115_000}, 2757, [[88, 108, 128], [2664, 3328, 3992]],
        23560, [[760, 948, 1136], [22796, 28492, 34188]],
    ),
    (
        {"DMA": 3840, "DMA32": 491_520}, 5630, [[40, 52, 64], [5584, 7548, 9512]],
        45056, [[348, 432, 516], [44704, 55880, 67056]],
    ),
    (
        {"DMA": 3840, "DMA32": 745_000, "Normal": 3_300_000}, 16097,
        [[12, 24, 36], [2960, 5940, 8920], [13116, 26316, 39516]],
        67584, [[64, 80, 96], [12432, 15540, 18648], [55084, 68852, 82620]],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("managed", "kbytes", "marks", "raised", "raised_marks"), EXAMPLES)
def test_worked_examples(managed, kbytes, marks, raised, raised_marks):
    vm = Vm()
    zones = zones_of(vm, **managed)
    init_per_zone_wmark_min(vm, zones, ONE)
    assert vm.min_free_kbytes == kbytes
    assert [kb(zone) for zone in zones] == marks
    set_recommended_min_free_kbytes(vm, zones, ONE)
    assert vm.min_free_kbytes == raised
    assert [kb(zone) for zone in zones] == raised_marks


@pytest.mark.parametrize(
    ("mib", "kbytes"),
    [
        (1, 128), (16, 512), (64, 1024), (256, 2048), (1024, 4096), (2048, 5792), (4096, 8192),
        (8192, 11585), (16384, 16384), (4 << 20, 262_144), (8 << 20, 262_144),
    ],
)  # fmt: skip
def test_min_free_kbytes_grows_with_the_root_of_memory(mib, kbytes):
    vm = Vm()
    init_per_zone_wmark_min(vm, zones_of(vm, Normal=mib << 8), ONE)
    assert vm.min_free_kbytes == kbytes


def test_what_a_user_set_is_not_lowered():
    vm, said = Vm(), []
    vm.min_free_kbytes = vm.user_min_free_kbytes = 8192
    calculate_min_free_kbytes(vm, zones_of(vm, Normal=65536), said.append)
    assert vm.min_free_kbytes == 8192
    assert said == [
        "min_free_kbytes is not updated to 2048 because user defined value 8192 is preferred"
    ]
    vm.user_min_free_kbytes = 100
    calculate_min_free_kbytes(vm, zones_of(vm, Normal=65536), said.append)
    assert (vm.min_free_kbytes, len(said)) == (2048, 1)


def test_movable_zone_has_a_mark_of_its_own_and_the_usual_gap():
    vm = Vm()
    vm.min_free_kbytes = 45056
    zones = zones_of(vm, DMA=3840, DMA32=120_000, Movable=2_000_000)
    setup_per_zone_wmarks(vm, zones, ONE)
    assert zones[2].watermark[0] == 128
    share = 45056 // 4 * 2_000_000 // 123_840
    assert zones[2].watermark[1] == 128 + share // 4
    zones[2].managed = 20_000
    setup_per_zone_wmarks(vm, zones, ONE)
    assert zones[2].watermark[0] == 32
    zones[2].managed = 100_000
    setup_per_zone_wmarks(vm, zones, ONE)
    assert zones[2].watermark[0] == 97


def test_before_6_6_movable_memory_counted_like_the_zone_it_was_cut_from():
    vm = Vm()
    vm.min_free_kbytes, vm.movable_is_high = 4000, False
    zones = zones_of(vm, DMA32=10_000, Movable=30_000)
    setup_per_zone_wmarks(vm, zones, ONE)
    assert [zone.watermark[0] for zone in zones] == [250, 750]


def test_new_marks_end_a_boost():
    vm = Vm()
    zones = zones_of(vm, DMA32=120_000)
    zones[0].watermark_boost = 512
    setup_per_zone_wmarks(vm, zones, ONE)
    assert zones[0].watermark_boost == 0


def test_huge_pages_raise_the_reserve_only_where_they_are_on():
    def kbytes(thp, pages=140_000):
        vm = Vm()
        vm.thp = thp
        zones = zones_of(vm, DMA32=pages)
        set_up_marks(vm, zones, ONE)
        return vm.min_free_kbytes, vm.thp

    assert kbytes(thp=True) == (22528, True)
    # without, what is above the high marks counts, where it was all memory before: 2993
    assert kbytes(thp=False) == (2981, False)
    # a page less than 512 MiB, and they are off; then nobody looks a second time
    assert kbytes(thp=True, pages=131_072) == (22528, True)
    assert kbytes(thp=True, pages=131_071) == (2896, False)


def test_marks_without_huge_pages_are_as_recorded():
    # on the recorded 1 GiB machine it is 3953
    assert Kernel("1G", cmdline="transparent_hugepage=never").vm.min_free_kbytes == 3956
    assert Kernel("1G", cmdline="transparent_hugepage=madvise").vm.min_free_kbytes == 45056


def test_lowmem_reserve_worked_example():
    vm = Vm()
    zones = zones_of(vm, DMA=3840, DMA32=745_000, Normal=3_300_000)
    setup_per_zone_lowmem_reserve(vm, zones)
    assert [zone.lowmem_reserve for zone in zones] == [
        (0, 2910, 15800, 15800, 15800), (0, 0, 12890, 12890, 12890), (0, 0, 0, 0, 0),
    ]  # fmt: skip
    vm.lowmem_reserve_ratio = (0, 1, 32, 0, 0)
    setup_per_zone_lowmem_reserve(vm, zones)
    assert zones[0].lowmem_reserve == (0, 0, 0, 0, 0)
    assert zones[1].lowmem_reserve == (0, 0, 3_300_000, 3_300_000, 3_300_000)


def test_lowmem_reserve_is_within_a_node():
    kernel = Kernel("4G", nodes=2, cpus=2)
    kernel.sysctl("vm.lowmem_reserve_ratio")
    zones = kernel.snapshot().zones
    assert [(zone.nid, zone.name) for zone in zones] == [
        (0, "DMA"), (0, "DMA32"), (1, "DMA32"), (1, "Normal"),
    ]  # fmt: skip
    dma, _, _, normal = zones
    assert dma.lowmem_reserve == (0, *[zones[1].managed // 256] * 4)
    assert zones[1].lowmem_reserve == (0, 0, 0, 0, 0)
    assert zones[2].lowmem_reserve == (0, 0, *[normal.managed // 256] * 3)
    assert normal.lowmem_reserve == (0, 0, 0, 0, 0)


def test_list_limits_follow_the_low_mark_and_the_cpus_of_the_node():
    vm = Vm()
    zones = zones_of(vm, DMA32=400_000)
    update_pcp_limits(zones, ONE)
    assert zones[0].pcp.high_max == 0  # lists that are not in use stay so
    zones[0].pcp.high_max = 1
    vm.min_free_kbytes = 40_000
    setup_per_zone_wmarks(vm, zones, Topology(2, (0, 0, 1, 1, 1)))
    assert (zones[0].pcp.high_min, zones[0].pcp.high_max) == (12_500 // 2, 50_000 // 2)
    assert zones[0].pcp.batch == 63


def test_drift_mark_is_set_where_cpus_can_hide_the_gap_between_marks():
    zones = zones_of(DMA=3840, DMA32=400_000)
    for zone in zones:
        zone.watermark = [100, 120, 140, 160]
    refresh_zone_stat_thresholds(zones, 1)
    assert [zone.percpu_drift_mark for zone in zones] == [0, 0]
    refresh_zone_stat_thresholds(zones, 8)
    assert [zone.stat_threshold for zone in zones] == [8, 40]
    assert [zone.percpu_drift_mark for zone in zones] == [140 + 64, 140 + 320]


def test_drift_marks_at_boot_are_from_before_khugepaged_raised_the_marks():
    zones = Kernel("4G", cpus=64).zones
    plain = Kernel("4G", cpus=64, cmdline="transparent_hugepage=never").zones
    assert [zone.percpu_drift_mark for zone in zones] == [z.percpu_drift_mark for z in plain]
    assert all(zone.percpu_drift_mark for zone in zones)
    assert all(a.watermark[2] > b.watermark[2] for a, b in zip(zones, plain, strict=True))
    assert [zone.percpu_drift_mark for zone in Kernel("4G").zones] == [0, 0, 0]


@pytest.mark.parametrize(
    ("managed", "cpus", "threshold"),
    [(3840, 1, 2), (50_608, 1, 4), (50_608, 2, 8), (1_274_360, 4, 42), (1 << 30, 512, 125)],
)
def test_threshold(managed, cpus, threshold):
    (zone,) = zones_of(Normal=managed)
    assert calculate_normal_threshold(zone, cpus) == threshold
