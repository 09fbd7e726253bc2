"""Boot: which zones there are, what is free, and what is scaled."""

import json
from pathlib import Path

import pytest

from kmemkit import Kernel
from kmemkit.mm import mm_init
from kmemkit.mm.mm_init import boot, memblock_free_range
from kmemkit.mm.mmzone import NO_PAGEBLOCK, MemMap, Zone
from kmemkit.mm.numa import Hardware
from kmemkit.mm.vm import Vm
from kmemkit.snapshot import Kind

GOLDEN = Path(__file__).parent.parent / "golden"
BOOTS = json.loads((GOLDEN / "boots.json").read_text(encoding="utf-8"))

M = 1


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


def test_lists_are_sized_by_the_cpus_of_the_node():
    one, two = Kernel("4G", nodes=2, cpus=2), Kernel("4G", nodes=2, cpus=4)
    for zone, half in zip(one.snapshot().zones, two.snapshot().zones, strict=True):
        assert len(zone.pcps) == 2
        assert len(half.pcps) == 4
        # either way from what was managed when boot set the limits
        assert zone.pcps[0].high_max // 2 == half.pcps[0].high_max
        assert 0.98 < half.pcps[0].high_max / (zone.managed // 16) <= 1


def test_node_without_cpus_counts_all_of_them():
    kernel = Kernel("4G", nodes=4, cpus=2)
    last = kernel.snapshot().zones[-1]
    assert last.nid == 3
    assert last.pcps[0].high_max == last.managed // 8 // 2  # all of it is freed early


def test_small_world_has_one_node():
    with pytest.raises(ValueError, match="nodes=2: a small world has one node"):
        Kernel("1M", nodes=2)


def test_mobility_grouping_needs_room():
    def disabled(pages):
        vm = Vm()
        boot(Hardware.make(pages << 12), vm)
        return vm.page_group_by_mobility_disabled

    assert not disabled(1024)  # a small world always has them
    assert not disabled(65536)
    assert not disabled(20480)
    # five pageblocks of present pages
    zone = Kernel("16M").zones[0]
    vm = Vm()
    zone.present = 2559
    mm_init._mobility_grouping(vm, [zone])
    assert vm.page_group_by_mobility_disabled
    zone.present = 2560
    mm_init._mobility_grouping(vm, [zone])
    assert not vm.page_group_by_mobility_disabled


@pytest.mark.parametrize("name", BOOTS)
def test_recorded_thresholds_and_min_free_kbytes(name):
    recorded = BOOTS[name]
    kernel = Kernel(recorded["ram"], nodes=recorded["nodes"], cpus=recorded["cpus"])
    zones = kernel.snapshot().zones
    assert [zone.stat_threshold for zone in zones] == recorded["stat_threshold"]
    # how much of itself a kernel keeps is only modelled, so below 512 MiB this is near, not equal
    exact = name not in ("m080-c1", "m128-c1", "m256-c2", "m512-c1", "m512-c4")
    assert abs(kernel.vm.min_free_kbytes - recorded["min_free_kbytes"]) <= (0 if exact else 5)
    for zone, managed in zip(zones, recorded["managed"], strict=True):
        assert abs(zone.managed - managed) < 0.07 * managed
    assert [zone.managed for zone in zones if zone.name == "DMA"] == [3840]


@pytest.mark.parametrize("name", ["m4096-c1", "m4096-c2", "m6144-c1", "m8192-c1", "numa-2g+2g-c2"])
def test_recorded_managed_below_the_pci_hole(name):
    recorded = BOOTS[name]
    kernel = Kernel(recorded["ram"], nodes=recorded["nodes"], cpus=recorded["cpus"])
    for zone, managed in zip(kernel.zones, recorded["managed"], strict=True):
        assert abs(zone.managed - managed) < 0.01 * managed


def test_lists_may_hold_a_batch_of_blocks():
    assert {pcp.flags for zone in Kernel("1G", cpus=2).zones for pcp in zone.pcps} == {2}


def test_pci_hole_has_no_pageblocks():
    # 4 GiB as recorded: DMA32 goes on to 4 GiB, but has memory, and pageblocks, up to 3 GiB only
    dma, dma32, normal = Kernel("4G").snapshot().zones
    assert [zone.pageblocks.count(M) for zone in (dma, dma32, normal)] == [8, 1528, 512]
    assert dma32.pageblock_type(786_431) == M
    assert dma32.pageblock_type(786_432) == NO_PAGEBLOCK


# -- ZONE_MOVABLE, HighMem, nodes: as recorded ----------------------------------------------------


def layout(kernel):
    return [(z.nid, z.name, z.start_pfn, z.end_pfn - z.start_pfn, z.present) for z in kernel.zones]


FIRST_NODE = [(0, "DMA", 1, 4095, 3998), (0, "DMA32", 4096, 520192, 520192)]


@pytest.mark.parametrize(
    ("machine", "zones"),
    [
        (
            {"ram": "1G", "cmdline": "kernelcore=256M"},
            [(0, "DMA32", 4096, 62464, 62464), (0, "Movable", 66560, 195552, 195552)],
        ),
        (
            {"ram": "1G", "cmdline": "movablecore=512M"},
            [(0, "DMA32", 4096, 126976, 126976), (0, "Movable", 131072, 131040, 131040)],
        ),
        (  # the whole of Normal becomes Movable
            {"ram": "4G", "cmdline": "movablecore=1G"},
            [(0, "DMA32", 4096, 1044480, 782304), (0, "Movable", 1 << 20, 262144, 262144)],
        ),
        (  # all below 4 GiB is kernel memory anyway, so node 0 has none
            {"ram": "4G", "nodes": 2, "cpus": 2, "cmdline": "kernelcore=1G"},
            [
                (0, "DMA32", 4096, 520192, 520192), (1, "DMA32", 524288, 524288, 262112),
                (1, "Movable", 1 << 20, 262144, 262144),
            ],
        ),
        (
            {"ram": "1G", "cmdline": "numa=fake=4"},
            [
                (0, "DMA32", 4096, 61441, 61441), (1, "DMA32", 65537, 65536, 65536),
                (2, "DMA32", 131073, 65536, 65536), (3, "DMA32", 196609, 65503, 65503),
            ],
        ),
        (
            {"ram": "2G", "arch": "i386", "cmdline": "highmem=512m"},
            [(0, "Normal", 4096, 221182, 221182), (0, "HighMem", 225278, 131072, 131072)],
        ),
        (
            {"ram": "4G", "arch": "i386"},
            [(0, "Normal", 4096, 221182, 221182), (0, "HighMem", 225278, 1085442, 823266)],
        ),
    ],
    ids=str,
)  # fmt: skip
def test_recorded_layouts(machine, zones):
    assert layout(Kernel(**machine)) == [FIRST_NODE[0], *zones]


@pytest.mark.parametrize(
    ("cmdline", "same"),
    [
        ("kernelcore=50%", "kernelcore=1048316K"),  # of 524158 present pages
        ("movablecore=50%", "movablecore=1G"),  # both rounded up to 4 MiB
        ("kernelcore=1G movablecore=512M", "movablecore=512M"),  # the bigger kernel part wins
        ("kernelcore=1G movablecore=1536M", "kernelcore=1G"),
        ("kernelcore=2G", ""),  # more than there is
        ("movablecore=3G kernelcore=512M", "kernelcore=512M"),
        ("movable_node", ""),  # no memory can be pulled out
    ],
)
def test_sizes_of_the_movable_zone(cmdline, same):
    assert layout(Kernel("2G", cmdline=cmdline)) == layout(Kernel("2G", cmdline=same))


def test_movable_zone_begins_at_a_multiple_of_4_mib():
    for size in ("100M", "101M", "333M"):
        (movable,) = (z for z in Kernel("1G", cmdline=f"kernelcore={size}").zones if z.idx == 3)
        assert movable.start_pfn % 1024 == 0


def test_kernelcore_is_spread_over_nodes_and_what_one_lacks_goes_to_the_others():
    kernel = Kernel(["256M", "1G", "1G"], cmdline="kernelcore=1536M")
    # 512M each; node 0 is too small, so the others get 128M more, rounded up
    assert [(z.nid, z.name) for z in kernel.zones if z.name == "Movable"] == [
        (1, "Movable"), (2, "Movable"),
    ]  # fmt: skip
    kernel_pages = sum(z.present for z in kernel.zones if z.name != "Movable")
    assert 0 <= kernel_pages - (3 << 17) < 2 * 1024


def test_movable_node_minds_memory_that_can_be_pulled_out():
    kernel = Kernel("4G", nodes=2, cpus=2, cmdline="movable_node", hotplug=[1])
    assert layout(kernel) == [*FIRST_NODE, (1, "Movable", 524288, 786432, 524256)]
    # its mem_map is on node 0
    assert kernel.zones[2].managed == kernel.zones[2].present
    plain = Kernel("4G", nodes=2, cpus=2)
    assert plain.zones[1].managed - kernel.zones[1].managed == 524256 // 64 + 16384
    plain = Kernel("4G", nodes=2, cpus=2, hotplug=[1])
    assert layout(plain) == layout(Kernel("4G", nodes=2, cpus=2))


def test_highmem_is_for_those_who_ask_for_it():
    kernel = Kernel("1G", arch="i386")
    names = [zone.name for zone in kernel.zonelist(0, False)]
    assert names == ["HighMem", "Normal", "DMA"]
    highmem = kernel.zones[2]
    assert highmem.managed == highmem.present == 36834
    page, own = kernel.alloc_pages("GFP_HIGHUSER"), kernel.alloc_pages("GFP_KERNEL")
    assert kernel.page_zone(page).name == "HighMem"
    assert kernel.page_zone(own).name == "Normal"
    twin = kernel.clone()
    assert (twin.arch, twin.alloc_pages("GFP_HIGHUSER")) == ("i386", page + 1)


@pytest.mark.parametrize(
    ("machine", "start"),
    [
        ({"ram": "512M", "cmdline": "highmem=128M"}, 131040 - 32768),
        ({"ram": "256M", "cmdline": "highmem=224M"}, None),  # lowmem would be below 64M: ignored
        ({"ram": "1G", "cmdline": "vmalloc=256M"}, 225278 - 32768 - 2048),
        ({"ram": "512M"}, None),
    ],
)
def test_where_highmem_begins(machine, start):
    zones = Kernel(arch="i386", **machine).zones
    assert [z.start_pfn for z in zones if z.name == "HighMem"] == ([start] if start else [])


def test_nodes_of_unequal_size():
    kernel = Kernel(["1G", 0, "512M"], cpus=[1, 1, 2])
    assert {zone.nid for zone in kernel.zones} == {0, 2}
    assert kernel.topology.cpu_node == (0, 1, 2, 2)
    assert [zone.present for zone in kernel.zones][-1] == (512 << 8) - 32
    kernel.cpu = 1
    assert (kernel.numa_node_id(), kernel.zonelist(1, True)) == (1, ())
    assert kernel.page_zone(kernel.alloc_pages("GFP_KERNEL")).nid in (0, 2)
    with pytest.raises(ValueError, match="node 3"):
        kernel.alloc_pages("GFP_KERNEL", nid=3)


def test_numa_off_makes_one_node():
    kernel = Kernel("4G", nodes=2, cpus=2, cmdline="numa=off")
    assert layout(kernel) == layout(Kernel("4G", cpus=2))
    assert kernel.nr_nodes == 1


def test_fake_nodes_are_big_enough_for_what_is_left_of_memory():
    for ram, count, nodes in (("1G", 2, 2), ("2G", 8, 8), ("2G", 3, 2), ("5G", 3, 2)):
        kernel = Kernel(ram, cmdline=f"numa=fake={count}")
        assert sum(z.present for z in kernel.zones) == sum(z.present for z in Kernel(ram).zones)
        # with 3, the first node makes up for its holes, and too little is left for a third one
        assert kernel.nr_nodes == nodes
    with pytest.raises(ValueError, match="32 MiB at least"):
        Kernel("64M", cmdline="numa=fake=8")
    with pytest.raises(ValueError, match="give nodes=1"):
        Kernel("4G", nodes=2, cmdline="numa=fake=4")


# -- what else the command line takes or changes --------------------------------------------------


def test_mem_cuts_memory_off():
    assert layout(Kernel("4G", cmdline="mem=512M")) == [
        FIRST_NODE[0], (0, "DMA32", 4096, 126976, 126976),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="leaves too little"):
        Kernel("1G", cmdline="mem=16M")


def test_crash_kernel_and_kfence_take_what_they_need():
    plain = Kernel("512M").zones[1].managed
    assert plain - Kernel("512M", cmdline="crashkernel=64M").zones[1].managed == 16384
    assert plain - Kernel("512M", cmdline="kfence.sample_interval=100").zones[1].managed == 585
    assert Kernel("512M", cmdline="kfence.sample_interval=0").zones[1].managed == plain
    both = Kernel("512M", cmdline="crashkernel=64M kfence.sample_interval=1 kfence.num_objects=9")
    assert plain - both.zones[1].managed == 16384 + 20 + 3
    with pytest.raises(ValueError, match="no room"):
        Kernel("128M", cmdline="crashkernel=128M")


def test_huge_pages_are_taken_from_all_nodes_in_turn():
    kernel = Kernel("4G", nodes=2, cpus=2, cmdline="hugepages=8")
    free = [sum(z.managed - z.free_pages for z in kernel.zones if z.nid == nid) for nid in (0, 1)]
    assert free[0] == free[1] == 4 * 512
    assert kernel.dmesg() == ""


def test_shuffled_blocks_are_the_same_blocks():
    plain, mixed = Kernel("1G"), Kernel("1G", cmdline="page_alloc.shuffle=1")
    for zone, other in zip(plain.snapshot().zones, mixed.snapshot().zones, strict=True):
        assert sorted(zone.free_list(10, M)) == sorted(other.free_list(10, M))
    assert zone.free_list(10, M) != other.free_list(10, M)
    assert mixed.snapshot() == Kernel("1G", cmdline="page_alloc.shuffle=1").snapshot()


def test_settings_on_the_command_line_are_written_last():
    kernel = Kernel("256M", cmdline="sysctl.vm.min_free_kbytes=8192")
    assert kernel.sysctl("vm.min_free_kbytes") == kernel.vm.user_min_free_kbytes == 8192
    with pytest.raises(ValueError, match="EINVAL"):
        Kernel("256M", cmdline="sysctl.vm.swappiness=300")


@pytest.mark.parametrize("cmdline", ["kernelcore=1M", "numa=off", "mem=1M", "movable_node"])
def test_small_world_has_no_room_for_zones(cmdline):
    with pytest.raises(ValueError, match="small world has one zone"):
        Kernel("1M", cmdline=cmdline)
    with pytest.raises(ValueError, match="small world has one zone"):
        Kernel("1M", arch="i386")


@pytest.mark.parametrize("name", ["m256-c1", "numa-memoryless-node1", "m4096-c1"])
def test_reserves_are_from_before_the_start_up_memory_came(name):
    """Reading the ratios works them out anew, as on the recorded machine: 190, then 197."""
    recorded = BOOTS[name]
    kernel = Kernel(recorded["ram"], cpus=recorded["cpus"])
    dma = kernel.zones[0]
    above = sum(zone.managed for zone in kernel.zones[1:])
    assert dma.lowmem_reserve[-1] == (above - 1716 - 252) // 256
    assert kernel.sysctl("vm.lowmem_reserve_ratio") == (256, 256, 32, 0, 0)
    assert dma.lowmem_reserve[-1] == above // 256
