"""The data everything works on, frozen and thawed."""

import pytest

from kmemkit.mm.buddy import free_one_page
from kmemkit.mm.mmzone import (
    ALLOCATED,
    FREE,
    HOLE,
    LEAKED,
    PCP,
    RESERVED,
    MemMap,
    PerCpuPages,
    Zone,
)
from kmemkit.mm.vm import Vm
from kmemkit.snapshot import Kind


def a_zone(start=0, pages=2048):
    zone = Zone(0, 1, "DMA32", start, start + pages, MemMap(start + pages, 9), Vm(), cpus=2)
    zone.page[start : start + pages] = bytes([ALLOCATED]) * pages
    zone.present = zone.managed = pages
    return zone


def test_bytes_of_the_page_column():
    assert [FREE, PCP, RESERVED, HOLE, LEAKED, ALLOCATED] == [0x10, 0x20, 0x30, 0x40, 0x50, 0x80]
    assert [kind for kind in Kind if kind.allocated] == [
        Kind.UNMOVABLE, Kind.MOVABLE, Kind.RECLAIMABLE, Kind.SLAB,
    ]  # fmt: skip


@pytest.mark.parametrize("pages", [1, 64, 1000, 1024, 1025, 65504])
def test_column_goes_on_as_a_hole_to_the_end_of_the_last_block(pages):
    mem_map = MemMap(pages, 9)
    assert mem_map.pages == pages == len(mem_map.owner)
    assert len(mem_map.page) % 1024 == 0
    assert set(mem_map.page[pages:]) <= {HOLE}
    assert len(mem_map.page) - pages < 1024
    assert len(mem_map.pageblock) == -(-pages // 512)


def test_reference_counts():
    mem_map = MemMap(8, 9)
    mem_map.page[:6] = bytes([ALLOCATED | 1, 0, FREE, PCP, RESERVED, LEAKED])
    assert [mem_map.page_count(pfn) for pfn in range(6)] == [1, 0, 0, 0, 1, 0]
    mem_map.refcount[0] = mem_map.refcount[1] = 2
    mem_map.refcount[5] = -1
    assert [mem_map.page_count(pfn) for pfn in range(6)] == [3, 2, 0, 0, 1, -1]


def test_settings_freeze_and_thaw():
    vm = Vm()
    vm.watermark_boost_factor, vm.thp = 0, False
    frozen = vm.freeze()
    assert set(frozen) == set(Vm.__slots__)
    assert Vm.thaw(frozen).freeze() == frozen
    assert Vm.thaw({"watermark_scale_factor": 9}).freeze() == Vm().freeze() | {
        "watermark_scale_factor": 9
    }


def test_per_cpu_lists_freeze_and_thaw():
    pcp = PerCpuPages()
    for number, name in enumerate(name for name in PerCpuPages.__slots__ if name != "lists"):
        setattr(pcp, name, number + 3)
    pcp.lists[0].extend([5, 3, 9])
    pcp.lists[13].append(512)
    frozen = pcp.freeze()
    assert frozen.lists == {0: (5, 3, 9), 13: (512,)}
    assert PerCpuPages.thaw(frozen).freeze() == frozen
    pcp.lists[0].clear()
    assert frozen.lists[0] == (5, 3, 9)


@pytest.mark.parametrize("start", [0, 4096, 1000])
def test_zone_freezes_and_thaws(start):
    zone = a_zone(start)
    for number, name in enumerate(
        ("present", "managed", "nr_reserved_highatomic", "nr_free_highatomic", "flags",
         "stat_threshold", "percpu_drift_mark", "watermark_boost", "vm_stat")
    ):  # fmt: skip
        setattr(zone, name, number + 100)
    zone.watermark = [1, 2, 3, 4]
    zone.lowmem_reserve = (0, 1, 2, 3, 4)
    block = start + 600 >> 9
    zone.movable[block] = 7
    zone.pageblock[block] = 2
    zone.pcps[1].count = 5
    first = -(-start >> 3) << 3
    free_one_page(zone, first, 3)
    free_one_page(zone, first + 64, 3, to_tail=True)
    frozen = zone.freeze()
    assert (frozen.start_pfn, frozen.end_pfn, frozen.spanned) == (start, start + 2048, 2048)
    assert frozen.movable == {block - (start >> 9): 7}
    assert frozen.pageblock_type(start + 600) == 2
    twin = Zone.thaw(frozen, zone.mem_map, zone.vm)
    assert twin.freeze() == frozen
    assert twin.pcp is twin.pcps[0]
    assert twin.first_block(3 * 5 + frozen.pageblock_type(first)) == first


def test_first_block_of_a_list():
    zone = a_zone()
    area = 3 * 5 + 1
    assert zone.first_block(area) is None
    assert zone.is_free_list_empty(3, 1)
    for pfn in (64, 128):
        free_one_page(zone, pfn, 3, to_tail=True)
    assert zone.first_block(area) == 64
    assert not zone.is_free_list_empty(3, 1)
    free_one_page(zone, 0, 3)
    free_one_page(zone, 256, 3)
    assert zone.first_block(area) == 256
    assert zone.free_pages == 32


def test_range_of_a_pageblock():
    zone = a_zone()
    assert [zone.block_range(pfn) for pfn in (0, 511, 512, 2047)] == [
        (0, 512), (0, 512), (512, 1024), (1536, 2048),
    ]  # fmt: skip
