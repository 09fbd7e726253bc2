"""Boot: what is free, and the marks."""

import json
from pathlib import Path

import pytest

from kmemkit import Kernel
from kmemkit.mm import mm_init
from kmemkit.mm.mm_init import (
    boot,
    calculate_normal_threshold,
    cpus_of_node,
    init_per_zone_wmark_min,
    memblock_free_range,
    set_recommended_min_free_kbytes,
    setup_per_zone_lowmem_reserve,
    setup_per_zone_wmarks,
)
from kmemkit.mm.mmzone import NO_PAGEBLOCK, MemMap, Vm, Zone
from kmemkit.mm.pcp import zone_set_pageset_high_and_batch
from kmemkit.snapshot import Kind

GOLDEN = Path(__file__).parent.parent / "golden"
BOOTS = json.loads((GOLDEN / "boots.json").read_text(encoding="utf-8"))
SYSCTLS = json.loads((GOLDEN / "sysctls.json").read_text(encoding="utf-8"))

M = 1
NAMES = {"DMA": 0, "DMA32": 1, "Normal": 2, "Movable": 3}


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


# -- what is free at boot -------------------------------------------------------------------------


def blocks_of(runs, top):
    """Return the biggest aligned blocks of some runs of pages, by order."""
    blocks = {}
    for start, end in runs:
        while start < end:
            order = next(
                o for o in range(top, -1, -1) if not start % (1 << o) and start + (1 << o) <= end
            )
            blocks.setdefault((order, M), []).append(start)
            start += 1 << order
    return {key: tuple(pfns) for key, pfns in blocks.items()}


def free_runs(snapshot, zone):
    """Return the runs of pages that belong to free blocks, from the page column alone."""
    runs, pfn = [], zone.start_pfn
    while pfn < zone.end_pfn:
        byte = snapshot.pages[pfn]
        if byte >> 4 == Kind.FREE:
            end = pfn + (1 << (byte & 15))
            if runs and runs[-1][1] == pfn:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((pfn, end))
            pfn = end
        else:
            pfn += 1
    return runs


MACHINES = [
    {"ram": "256K"}, {"ram": "1M"}, {"ram": 300 * 4096}, {"ram": "4M"},
    {"ram": "8M"}, {"ram": "16M"}, {"ram": "17M"}, {"ram": "80M"}, {"ram": "256M"},
    {"ram": "300001K"}, {"ram": "4G"}, {"ram": "4G", "nodes": 2}, {"ram": "5G", "nodes": 3},
]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_free_lists_at_boot(machine):
    snapshot = Kernel(**machine).snapshot()
    for zone in snapshot.zones:
        runs = free_runs(snapshot, zone)
        # ascending, in the biggest blocks there are, and all of them movable
        assert zone.free_lists() == blocks_of(runs, zone.max_order)
        assert sum(end - start for start, end in runs) == zone.managed == zone.free
        assert set(zone.pageblocks) - {NO_PAGEBLOCK} == {M}
        assert (zone.pcp_pages, zone.boost, zone.flags, zone.nr_reserved_highatomic) == (0, 0, 0, 0)


def test_too_little_ram():
    with pytest.raises(ValueError, match="63 pages = 252 kB is too little; give at least 64 pages"):
        Kernel(63 * 4096)


@pytest.mark.parametrize("pages", [64, 256, 1000, 1024, 4095])
def test_small_world_is_all_free(pages):
    snapshot = Kernel(pages * 4096).snapshot()
    (zone,) = snapshot.zones
    assert (zone.name, zone.start_pfn, zone.spanned) == ("Normal", 0, pages)
    assert zone.present == zone.managed == zone.free == zone.free_est == pages
    assert (zone.min, zone.low, zone.high, zone.stat_threshold) == (0, 0, 0, 0)
    assert len(snapshot.pages) == len(snapshot.owners) == pages


def test_real_layout_keeps_the_first_megabyte_the_image_and_the_mem_map():
    snapshot = Kernel("256M").snapshot()
    kinds = {Kind.HOLE: [], Kind.RESERVED: []}
    for pfn, byte in enumerate(snapshot.pages):
        if byte >> 4 in kinds:
            kinds[Kind(byte >> 4)].append(pfn)
    assert kinds[Kind.HOLE] == [0, *range(159, 256)]
    assert snapshot.end_pfn == 65504  # the firmware keeps the last 128 kB
    reserved = kinds[Kind.RESERVED]
    assert reserved[:158] == list(range(1, 159))
    assert reserved[158:-1021] == list(range(4096, 4096 + 9780))
    # 65406 pages are described by 64 bytes each, at the end of memory
    assert reserved[-1021:] == list(range(65504 - 1021, 65504))
    assert snapshot.zones[0].managed == 3840


def test_first_unmovable_request_claims_the_lowest_block_of_the_highest_order():
    kernel = Kernel("256M", pcp=False)
    lowest = kernel.snapshot().zones[1].free_list(10, M)[0]
    assert kernel.alloc_pages("GFP_KERNEL") == lowest == 14336
    zone = kernel.snapshot().zones[1]
    assert [zone.pageblock_type(lowest + pfn) for pfn in (-1, 0, 1023, 1024)] == [M, 0, 0, M]


def test_free_range_is_cut_at_its_ragged_edges():
    zone = Zone(0, 1, "DMA32", 0, 8192, MemMap(8192, 9), Vm())
    memblock_free_range(zone, 1000, 5001)
    assert zone.freeze().free_lists() == {
        (0, M): (5000,), (3, M): (1000, 4992), (4, M): (1008,), (7, M): (4864,), (8, M): (4608,),
        (9, M): (4096,), (10, M): (1024, 2048, 3072),
    }  # fmt: skip
    memblock_free_range(zone, 6000, 6500)
    assert zone.managed == zone.free_pages == 4001 + 500
    assert zone.freeze().free_list(10, M) == (1024, 2048, 3072)


# -- geometry -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ram", "options", "geometry"),
    [
        ("256K", {}, (4, 3)), ("1M", {}, (6, 5)), ("3M", {}, (7, 6)), ("4M", {}, (10, 9)),
        ("64M", {}, (10, 9)), ("1M", {"max_order": 8}, (8, 7)), ("1M", {"pageblock_order": 3}, (6, 3)),
        ("1M", {"pageblock_order": 8}, (8, 8)), ("1M", {"max_order": 4, "pageblock_order": 4}, (4, 4)),
        ("4M", {"max_order": 10, "pageblock_order": 10}, (10, 10)), ("256K", {"max_order": 10}, (10, 9)),
    ],
)  # fmt: skip
def test_geometry(ram, options, geometry):
    zone = Kernel(ram, **options).snapshot().zones[0]
    assert (zone.max_order, zone.pageblock_order) == geometry
    orders = {order for order, _ in zone.free_lists()}
    assert max(orders) <= geometry[0]


@pytest.mark.parametrize(
    ("max_order", "pageblock_order"), [(11, None), (0, None), (5, 6), (10, 11), (5, 0), (5, -1)]
)
def test_geometry_that_can_not_be(max_order, pageblock_order):
    with pytest.raises(ValueError, match="1 <= pageblock_order <= max_order <= 10"):
        Kernel("1M", max_order=max_order, pageblock_order=pageblock_order)


def test_world_says_what_it_scales():
    assert Kernel("256M").scaled == ()
    small = Kernel("1M").scaled
    assert any("order 6 = 64 pages" in said for said in small)
    assert any("order 5 = 32 pages" in said for said in small)
    assert any("one zone" in said for said in small)
    assert any("watermarks are 0" in said for said in small)
    assert any("per-CPU" in said for said in small)
    assert len(small) == 5
    assert len(Kernel("4M").scaled) == 3
    assert len(Kernel("4M", pcp=True).scaled) == 2
    assert len(Kernel("256M", pcp=False).scaled) == 1


def test_switch_of_the_per_cpu_lists():
    def tops(kernel):
        return {pcp.high_max > 0 for zone in kernel.snapshot().zones for pcp in zone.pcps}

    assert tops(Kernel("64M")) == tops(Kernel("1M", pcp=True)) == {True}
    assert tops(Kernel("64M", pcp=False)) == tops(Kernel("1M")) == {False}


@pytest.mark.parametrize(
    ("cpus", "nodes", "per_node"),
    [
        (1, 1, [1]),
        (8, 1, [8]),
        (2, 2, [1, 1]),
        (5, 2, [3, 2]),
        (1, 2, [1, 0]),
        (2, 4, [1, 1, 0, 0]),
    ],
)
def test_cpus_are_dealt_out_evenly(cpus, nodes, per_node):
    assert [cpus_of_node(nid, cpus, nodes) for nid in range(nodes)] == per_node


def test_lists_are_sized_by_the_cpus_of_the_node():
    one, two = Kernel("4G", nodes=2, cpus=2), Kernel("4G", nodes=2, cpus=4)
    for zone, half in zip(one.snapshot().zones, two.snapshot().zones, strict=True):
        assert len(zone.pcps) == 2
        assert len(half.pcps) == 4
        assert half.pcps[0].high_max == max(zone.managed // 8 // 2, 4 * zone.pcps[0].batch)


def test_node_without_cpus_counts_all_of_them():
    kernel = Kernel("4G", nodes=4, cpus=2)
    last = kernel.snapshot().zones[-1]
    assert last.nid == 3
    assert last.pcps[0].high_max == last.managed // 8 // 2


def test_small_world_has_one_node():
    with pytest.raises(ValueError, match="nodes=2: a small world has one node"):
        Kernel("1M", nodes=2)


def test_mobility_grouping_needs_room():
    def disabled(pages):
        vm = Vm()
        boot(pages, 1, 1, vm)
        return vm.page_group_by_mobility_disabled

    # 2560 managed pages, five pageblocks: image and mem_map leave less of 16 MiB and a bit
    assert not disabled(1024)  # a small world always has them
    assert not disabled(65536)
    assert not disabled(20480)
    vm = Vm()
    mm_init._mobility_grouping(vm, zones_of(vm, DMA=2559), small=False)
    assert vm.page_group_by_mobility_disabled
    mm_init._mobility_grouping(vm, zones_of(vm, DMA=2560), small=False)
    assert not vm.page_group_by_mobility_disabled


# -- recorded marks -------------------------------------------------------------------------------


def recorded_zones(row):
    vm = Vm()
    settings = row["settings"]
    vm.min_free_kbytes = int(settings["min_free_kbytes"])
    vm.watermark_scale_factor = int(settings["watermark_scale_factor"])
    vm.percpu_pagelist_high_fraction = int(settings["percpu_pagelist_high_fraction"])
    zones, mem_map = [], MemMap(1, 9)
    for recorded in row["zones"]:
        name = recorded["zone"]
        zone = Zone(
            recorded["node"], NAMES[name], name, 0, 1, mem_map, vm, cpus=len(recorded["pcp"])
        )
        zone.managed = recorded["managed"]
        zones.append(zone)
    return vm, zones


def name_of(row):
    return f"{row['boot']}-{row['settings']['min_free_kbytes']}"


@pytest.mark.parametrize("row", SYSCTLS, ids=name_of)
def test_recorded_marks(row, monkeypatch):
    vm, zones = recorded_zones(row)
    ratios = map(int, row["settings"]["lowmem_reserve_ratio"].split())
    monkeypatch.setattr(mm_init, "LOWMEM_RESERVE_RATIO", dict(zip(NAMES, ratios, strict=False)))
    setup_per_zone_wmarks(vm, zones)
    setup_per_zone_lowmem_reserve(zones)
    for zone, recorded in zip(zones, row["zones"], strict=True):
        assert zone.watermark == [recorded[mark] for mark in ("min", "low", "high", "promo")]
        assert list(zone.lowmem_reserve) == recorded["protection"]
        cpus = len(recorded["pcp"])
        zone_set_pageset_high_and_batch(zone, cpus)
        assert [pcp.batch for pcp in zone.pcps] == [pcp["batch"] for pcp in recorded["pcp"]]
        threshold = calculate_normal_threshold(zone, cpus)
        assert {threshold} == {pcp["stat_threshold"] for pcp in recorded["pcp"]}


def test_recorded_fixed_high():
    """With a fixed fraction a list's high is its size; a CPU that used none yet still shows 0."""
    row = next(row for row in SYSCTLS if row["settings"]["percpu_pagelist_high_fraction"] == "100")
    _, zones = recorded_zones(row)
    zone_set_pageset_high_and_batch(zones[1], 1)
    assert (
        zones[1].pcp.high_min == zones[1].pcp.high_max == row["zones"][1]["pcp"][0]["high"] == 506
    )


@pytest.mark.parametrize("name", BOOTS)
def test_recorded_thresholds_and_min_free_kbytes(name):
    recorded = BOOTS[name]
    kernel = Kernel(recorded["ram"], nodes=recorded["nodes"], cpus=recorded["cpus"])
    zones = kernel.snapshot().zones
    assert [zone.stat_threshold for zone in zones] == recorded["stat_threshold"]
    # how much of itself a kernel keeps is only modelled, so below 512 MiB this is near, not equal
    share = 1.13 if name.startswith("m080") else 1.05
    exact = name not in ("m080-c1", "m128-c1", "m256-c1", "m256-c2", "m512-c1", "m512-c4")
    least = recorded["min_free_kbytes"]
    assert kernel.vm.min_free_kbytes == least or not exact
    assert least <= kernel.vm.min_free_kbytes <= least * share
    for zone, managed in zip(zones, recorded["managed"], strict=True):
        assert abs(zone.managed - managed) < 0.07 * managed
    assert [zone.managed for zone in zones if zone.name == "DMA"] == [3840]


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
    init_per_zone_wmark_min(vm, zones)
    assert vm.min_free_kbytes == kbytes
    assert [kb(zone) for zone in zones] == marks
    for zone in zones:
        zone.watermark_boost = 0
    set_recommended_min_free_kbytes(vm, zones)
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
    init_per_zone_wmark_min(vm, zones_of(vm, Normal=mib << 8))
    assert vm.min_free_kbytes == kbytes


def test_movable_zone_has_a_mark_of_its_own_and_the_usual_gap():
    vm = Vm()
    vm.min_free_kbytes = 45056
    zones = zones_of(vm, DMA=3840, DMA32=120_000, Movable=2_000_000)
    setup_per_zone_wmarks(vm, zones)
    assert zones[2].watermark[0] == 128
    share = 45056 // 4 * 2_000_000 // 123_840
    assert zones[2].watermark[1] == 128 + share // 4
    zones[2].managed = 20_000
    setup_per_zone_wmarks(vm, zones)
    assert zones[2].watermark[0] == 32
    zones[2].managed = 100_000
    setup_per_zone_wmarks(vm, zones)
    assert zones[2].watermark[0] == 97


def test_new_marks_end_a_boost():
    vm = Vm()
    zones = zones_of(vm, DMA32=120_000)
    zones[0].watermark_boost = 512
    setup_per_zone_wmarks(vm, zones)
    assert zones[0].watermark_boost == 0


def test_huge_pages_raise_the_reserve_only_where_they_are_on():
    def kbytes(thp):
        vm = Vm()
        vm.thp = thp
        zones = zones_of(vm, DMA32=115_000)
        init_per_zone_wmark_min(vm, zones)
        set_recommended_min_free_kbytes(vm, zones)
        return vm.min_free_kbytes

    assert (kbytes(thp=True), kbytes(thp=False)) == (22528, 2712)
    # Linux counted before it gave back its initial pages: 3953
    assert Kernel("1G", cmdline="transparent_hugepage=never").vm.min_free_kbytes == 3983
    assert Kernel("1G", cmdline="transparent_hugepage=madvise").vm.min_free_kbytes == 45056


def test_lowmem_reserve_worked_example():
    zones = zones_of(DMA=3840, DMA32=745_000, Normal=3_300_000)
    setup_per_zone_lowmem_reserve(zones)
    assert [zone.lowmem_reserve for zone in zones] == [
        (0, 2910, 15800, 15800, 15800), (0, 0, 12890, 12890, 12890), (0, 0, 0, 0, 0),
    ]  # fmt: skip


def test_lowmem_reserve_is_within_a_node():
    zones = Kernel("4G", nodes=2, cpus=2).snapshot().zones
    assert [(zone.nid, zone.name) for zone in zones] == [
        (0, "DMA"), (0, "DMA32"), (1, "DMA32"), (1, "Normal"),
    ]  # fmt: skip
    dma, _, _, normal = zones
    assert dma.lowmem_reserve == (0, *[zones[1].managed // 256] * 4)
    assert zones[1].lowmem_reserve == (0, 0, 0, 0, 0)
    assert zones[2].lowmem_reserve == (0, 0, *[normal.managed // 256] * 3)
    assert normal.lowmem_reserve == (0, 0, 0, 0, 0)


def test_huge_pages_are_off_below_512_mib_of_managed_memory():
    # present is more than 512 MiB, but what boot keeps leaves less: hugepage_init() counts that
    kernel = Kernel("540M")
    assert sum(zone.present for zone in kernel.zones) > 512 << 8
    assert kernel.vm.min_free_kbytes < 3000
    assert Kernel("600M").vm.min_free_kbytes > 20_000


@pytest.mark.parametrize("name", ["m4096-c1", "m4096-c2", "m6144-c1", "m8192-c1", "numa-2g+2g-c2"])
def test_recorded_managed_below_the_pci_hole(name):
    recorded = BOOTS[name]
    kernel = Kernel(recorded["ram"], nodes=recorded["nodes"], cpus=recorded["cpus"])
    for zone, managed in zip(kernel.zones, recorded["managed"], strict=True):
        assert abs(zone.managed - managed) < 0.01 * managed


def test_lists_may_hold_a_batch_of_blocks():
    assert {pcp.flags for zone in Kernel("1G", cpus=2).zones for pcp in zone.pcps} == {2}


def test_drift_mark_is_set_where_cpus_can_hide_the_gap_between_marks():
    few, many = Kernel("4G"), Kernel("4G", cpus=64)
    assert [zone.percpu_drift_mark for zone in few.zones] == [0, 0, 0]
    marks = [(zone.watermark, zone.stat_threshold, zone.percpu_drift_mark) for zone in many.zones]
    dma, dma32, normal = marks
    assert dma[2] == dma[0][2] + 64 * dma[1]
    assert dma32[2] == dma32[0][2] + 64 * dma32[1]
    assert normal[2] == normal[0][2] + 64 * normal[1]


def test_pci_hole_has_no_pageblocks():
    # 4 GiB as recorded: DMA32 goes on to 4 GiB, but has memory, and pageblocks, up to 3 GiB only
    dma, dma32, normal = Kernel("4G").snapshot().zones
    assert [zone.pageblocks.count(M) for zone in (dma, dma32, normal)] == [8, 1528, 512]
    assert dma32.pageblock_type(786_431) == M
    assert dma32.pageblock_type(786_432) == NO_PAGEBLOCK
