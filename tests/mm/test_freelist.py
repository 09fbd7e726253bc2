"""Which zone serves an attempt, from which marks and reserves."""

import pytest

from kmemkit import Kernel
from kmemkit import gfp as flags
from kmemkit.mm import internal
from kmemkit.mm.alloc_flags import gfp_to_alloc_flags
from kmemkit.mm.fallback import reserve_highatomic_pageblock
from kmemkit.mm.freelist import get_page_from_freelist, prepare_alloc_pages, rmqueue
from kmemkit.mm.internal import (
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NO_WATERMARKS,
    ALLOC_NOFRAGMENT,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_WMARK_LOW,
)
from kmemkit.mm.mmzone import (
    MIGRATE_HIGHATOMIC,
    ZONE_BELOW_HIGH,
    ZONE_BOOSTED_WATERMARK,
)
from kmemkit.snapshot import Kind

U, M, R = range(3)
NORECLAIM = "GFP_NOWAIT"  # never sleeps, has no right to reserves


def context(kernel, gfp, nid=0):
    return prepare_alloc_pages(kernel, flags.as_mask(gfp, "6.12"), nid)


def zone_names(kernel, gfp, nid=0):
    return [f"{zone.nid}/{zone.name}" for zone in context(kernel, gfp, nid).zonelist]


def test_values_of_the_alloc_flags():
    assert {name: getattr(internal, name) for name in internal.__all__} == {
        "ALLOC_WMARK_MIN": 0, "ALLOC_WMARK_LOW": 1, "ALLOC_WMARK_HIGH": 2, "ALLOC_WMARK_MASK": 3,
        "ALLOC_NO_WATERMARKS": 4, "ALLOC_OOM": 8, "ALLOC_NON_BLOCK": 0x10, "ALLOC_MIN_RESERVE": 0x20,
        "ALLOC_CPUSET": 0x40, "ALLOC_NOFRAGMENT": 0x100, "ALLOC_HIGHATOMIC": 0x200,
        "ALLOC_KSWAPD": 0x800, "ALLOC_RESERVES": 0x238, "MAX_RECLAIM_RETRIES": 16,
    }  # fmt: skip


# -- what a mask means ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gfp", "zones"),
    [
        ("GFP_KERNEL", ["0/Normal", "0/DMA32", "0/DMA"]),
        ("GFP_HIGHUSER_MOVABLE", ["0/Normal", "0/DMA32", "0/DMA"]),
        ("GFP_DMA32", ["0/DMA32", "0/DMA"]),
        ("GFP_KERNEL|GFP_DMA", ["0/DMA"]),
    ],
)
def test_zones_of_a_mask(gfp, zones):
    assert zone_names(Kernel("8G"), gfp) == zones


def test_zones_across_nodes():
    kernel = Kernel("4G", nodes=2, cpus=2)
    assert zone_names(kernel, "GFP_KERNEL", 0) == ["0/DMA32", "0/DMA", "1/Normal", "1/DMA32"]
    assert zone_names(kernel, "GFP_KERNEL", 1) == ["1/Normal", "1/DMA32", "0/DMA32", "0/DMA"]
    assert zone_names(kernel, "GFP_KERNEL|__GFP_THISNODE", 1) == ["1/Normal", "1/DMA32"]
    assert zone_names(kernel, "GFP_DMA32", 1) == ["1/DMA32", "0/DMA32", "0/DMA"]
    assert zone_names(kernel, "GFP_DMA|__GFP_THISNODE", 1) == []


def test_highest_zone_and_type_of_a_mask():
    kernel = Kernel("64M")
    found = [
        (context(kernel, gfp).highest_zoneidx, context(kernel, gfp).migratetype)
        for gfp in ("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE", "GFP_DMA32|__GFP_RECLAIMABLE", "GFP_DMA")
    ]
    assert found == [(2, U), (3, M), (1, R), (0, U)]


def test_without_mobility_grouping_everything_is_unmovable():
    kernel = Kernel("64M")
    kernel.vm.page_group_by_mobility_disabled = True
    assert context(kernel, "GFP_HIGHUSER_MOVABLE").migratetype == U


def test_flags_of_the_first_attempt():
    kernel = Kernel("64M")
    assert context(kernel, "GFP_KERNEL").alloc_flags == ALLOC_WMARK_LOW | ALLOC_KSWAPD
    assert context(kernel, "GFP_ATOMIC").alloc_flags == ALLOC_WMARK_LOW | ALLOC_KSWAPD
    assert context(kernel, "__GFP_MOVABLE").alloc_flags == ALLOC_WMARK_LOW
    assert not context(kernel, "GFP_KERNEL").compound
    assert context(kernel, "GFP_KERNEL|__GFP_COMP").compound


@pytest.mark.parametrize(
    ("machine", "gfp", "nid", "expected"),
    [
        ({"ram": "8G"}, "GFP_KERNEL", 0, True),
        ({"ram": "8G"}, "GFP_DMA32", 0, False),
        ({"ram": "1G"}, "GFP_KERNEL", 0, False),
        ({"ram": "4G", "nodes": 2, "cpus": 2}, "GFP_KERNEL", 0, False),  # DMA32 is preferred
        ({"ram": "4G", "nodes": 2, "cpus": 2}, "GFP_KERNEL", 1, True),
        ({"ram": "16G", "nodes": 2, "cpus": 2}, "GFP_KERNEL", 1, False),  # no DMA32 there
        ({"ram": "16G", "nodes": 2, "cpus": 2}, "GFP_KERNEL", 0, True),
        ({"ram": "4M"}, "GFP_KERNEL", 0, False),
    ],
)
def test_lower_zones_come_before_mixing_types_only_where_normal_is_preferred(
    machine, gfp, nid, expected
):
    found = context(Kernel(**machine), gfp, nid).alloc_flags & ALLOC_NOFRAGMENT
    assert bool(found) is expected


ATOMIC = ALLOC_MIN_RESERVE | ALLOC_KSWAPD | ALLOC_NON_BLOCK


# -- marks ----------------------------------------------------------------------------------------


def bounded(marks, free=200):
    """Return a kernel of one zone with `free` pages left above nothing, and these marks."""
    kernel = Kernel("4M")
    zone = kernel.zones[0]
    kernel.alloc_pages("GFP_ATOMIC", 9)
    kernel.alloc_pages("GFP_ATOMIC", 8)
    while zone.free_pages > free:
        kernel.alloc_pages("GFP_ATOMIC", 0)
    zone.watermark[:3] = marks
    return kernel, zone


def taken(kernel, gfp, order=0):
    """Return how often a request is served before it gets NULL; nobody is killed for it."""
    count = 0
    while kernel.alloc_pages(f"{gfp}|__GFP_NORETRY", order) is not None:
        count += 1
    return count


@pytest.mark.parametrize(
    ("gfp", "left"),
    [
        ("GFP_KERNEL", 100), (NORECLAIM, 100), ("GFP_KERNEL|__GFP_HIGH", 50), ("GFP_ATOMIC", 38),
        ("GFP_KERNEL|__GFP_MEMALLOC", 0), ("GFP_ATOMIC|__GFP_NOMEMALLOC", 50),
        ("GFP_KERNEL|__GFP_MEMALLOC|__GFP_NOMEMALLOC", 100),
    ],
)  # fmt: skip
def test_single_pages_stop_at_the_mark_of_their_rights(gfp, left):
    kernel, zone = bounded([100, 120, 140])
    assert taken(kernel, gfp) == 200 - left
    assert zone.free_pages == left


def test_first_attempt_is_at_the_low_mark_then_the_min_mark_decides():
    kernel, _ = bounded([100, 150, 190])
    kernel.record()
    slow = []
    for _ in range(100):
        kernel.alloc_pages("GFP_KERNEL")
        slow.append([rung.name for rung in kernel.why().rungs] == ["low", "kswapd", "min"])
    assert slow == [False] * 50 + [True] * 50
    assert kernel.alloc_pages("GFP_KERNEL|__GFP_NORETRY") is None


@pytest.mark.parametrize(("gfp", "woken"), [("GFP_KERNEL", True), ("__GFP_MOVABLE", False)])
def test_only_who_may_wakes_kswapd(gfp, woken):
    kernel, _ = bounded([300, 300, 300])
    kernel.record()
    assert kernel.alloc_pages(f"{gfp}|__GFP_NORETRY") is None
    events = {event.name for event in kernel.events}
    assert ("mm_vmscan_wakeup_kswapd" in events) is woken


def test_high_mark_flags_the_zone_and_a_boost_counts():
    kernel, zone = bounded([10, 20, 150])
    zone.watermark_boost = 20
    seen = []
    for _ in range(40):
        kernel.alloc_pages("GFP_KERNEL")
        seen.append(bool(zone.flags & ZONE_BELOW_HIGH))
    assert seen == [False] * 30 + [True] * 10


def test_boost_counts_at_the_low_and_the_min_mark():
    kernel, zone = bounded([10, 20, 30])
    zone.watermark_boost = 100
    assert taken(kernel, "GFP_KERNEL") == 200 - 110
    assert taken(kernel, "GFP_ATOMIC") == 110 - 4  # 10 - 5 - 1, boost ignored


def test_lower_zone_is_asked_when_the_first_one_says_no():
    kernel = Kernel("64M", pcp=False)
    dma, dma32 = kernel.zones
    dma32.watermark[:3] = [dma32.free_pages] * 3
    pfn = kernel.alloc_pages("GFP_KERNEL")
    assert kernel.page_zone(pfn) is dma
    # the lower zone keeps its reserve from those who could use the higher one
    dma.lowmem_reserve = (0, 0, dma.free_pages, 0, 0)
    assert kernel.alloc_pages("GFP_NOWAIT") is None
    assert kernel.page_zone(kernel.alloc_pages("GFP_DMA")) is dma


def test_zone_with_enough_pages_but_no_block_is_passed_over():
    kernel = Kernel("64M", pcp=False)
    dma, dma32 = kernel.zones
    blocks = len(dma32.freeze().free_list(10, M))
    zones = [kernel.page_zone(kernel.alloc_pages("GFP_ATOMIC", 10)) for _ in range(blocks + 1)]
    assert zones == [dma32] * blocks + [dma]
    dma32.vm_stat += 5000  # whatever the counter says
    assert kernel.page_zone(kernel.alloc_pages("GFP_ATOMIC", 10)) is dma


# -- without mixing types -------------------------------------------------------------------------


def only_movable_pieces(kernel, zone):
    """Leave a zone free movable blocks of order 8, and no whole pageblock."""
    held, marks = [], zone.watermark[:]
    zone.watermark[:3] = [0, 0, 0]
    nid = zone.nid
    while True:
        pfn = kernel.alloc_pages("GFP_HIGHUSER_MOVABLE|__GFP_THISNODE", 8, nid=nid)
        if pfn is None or kernel.page_zone(pfn) is not zone:
            break
        held.append(pfn)
    for pfn in held[::2]:
        kernel.free_pages(pfn, 8)
    zone.watermark[:] = marks
    assert max(order for order, _ in zone.freeze().free_lists()) == 8


def test_nofragment_goes_to_the_lower_zone_first():
    kernel = Kernel("4608M", pcp=False)
    _, dma32, normal = kernel.zones
    only_movable_pieces(kernel, normal)
    pfn = kernel.alloc_pages("GFP_KERNEL")
    assert kernel.page_zone(pfn) is dma32
    assert kernel.page_zone(kernel.alloc_pages("GFP_HIGHUSER_MOVABLE")) is normal


def test_nofragment_gives_way_when_all_zones_refuse():
    kernel = Kernel("4608M", pcp=False)
    dma, dma32, normal = kernel.zones
    only_movable_pieces(kernel, normal)
    for zone in (dma, dma32):
        zone.watermark[:3] = [zone.managed] * 3
    kernel.record()
    assert kernel.page_zone(kernel.alloc_pages("GFP_KERNEL")) is normal
    assert normal.watermark_boost > 0
    assert [rung.name for rung in kernel.why().rungs] == ["low"]


def test_nofragment_gives_way_before_another_node_is_asked():
    kernel = Kernel("12G", nodes=2, cpus=2, pcp=False)
    normal = next(zone for zone in kernel.zones if (zone.nid, zone.name) == (0, "Normal"))
    only_movable_pieces(kernel, normal)
    for zone in kernel.zones:
        if zone.nid == 0 and zone is not normal:
            zone.watermark[:3] = [zone.managed] * 3
    assert kernel.page_zone(kernel.alloc_pages("GFP_KERNEL", nid=0)) is normal


# -- rmqueue --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 1, 2, 3, 9])
def test_orders_with_a_list_come_from_it(order):
    kernel = Kernel("256M")
    pfn = kernel.alloc_pages("GFP_KERNEL", order)
    pcp = kernel.page_zone(pfn).pcp
    assert pcp.count > 0
    kernel.free_pages(pfn, order)
    assert pcp.lists[12 if order == 9 else 3 * order][0] == pfn


@pytest.mark.parametrize("order", [4, 8, 10])
def test_other_orders_come_from_the_buddy_lists(order):
    kernel = Kernel("64M")
    kernel.alloc_pages("GFP_KERNEL", order)
    assert kernel.snapshot().zones[1].pcp_pages == 0


def test_kswapd_is_woken_once_after_a_boost():
    kernel = Kernel("64M")
    zone = kernel.zones[1]
    kernel.record()
    zone.watermark_boost = 100
    zone.flags |= ZONE_BOOSTED_WATERMARK
    assert rmqueue(kernel, zone, 0, U, 0) is not None
    assert zone.flags & ZONE_BOOSTED_WATERMARK  # this one may not wake it
    assert rmqueue(kernel, zone, 0, U, ALLOC_KSWAPD) is not None
    assert not zone.flags & ZONE_BOOSTED_WATERMARK
    assert [event.name for event in kernel.events].count("mm_vmscan_wakeup_kswapd") == 1


def with_reserve(order=4, rest=0):
    """Return a kernel whose only free block of `order` is in a highatomic pageblock."""
    kernel = Kernel("4M")
    zone = kernel.zones[0]
    pfns = [kernel.alloc_pages("GFP_ATOMIC", order) for _ in range(1024 >> order)]
    for block in (0, 1):
        zone.pageblock[block] = U
    zone.pageblock[1] = MIGRATE_HIGHATOMIC
    kernel.free_pages(pfns[-1], order)
    return kernel, zone, pfns[-1]


def test_atomic_request_of_high_order_uses_the_highatomic_reserve_first():
    kernel, zone, pfn = with_reserve()
    kernel.free_pages(0, 4)
    assert rmqueue(kernel, zone, 4, U, ATOMIC | ALLOC_HIGHATOMIC) == pfn
    assert rmqueue(kernel, zone, 4, U, ATOMIC | ALLOC_HIGHATOMIC) == 0


@pytest.mark.parametrize("alloc_flags", [ALLOC_OOM, ALLOC_NON_BLOCK])
def test_others_use_the_highatomic_reserve_last(alloc_flags):
    kernel, zone, pfn = with_reserve()
    kernel.free_pages(0, 4)
    assert rmqueue(kernel, zone, 4, U, alloc_flags) == 0
    assert rmqueue(kernel, zone, 4, U, alloc_flags) == pfn


@pytest.mark.parametrize("alloc_flags", [0, ALLOC_MIN_RESERVE, ALLOC_NO_WATERMARKS])
def test_request_without_the_right_leaves_the_highatomic_reserve_alone(alloc_flags):
    kernel, zone, _ = with_reserve()
    assert rmqueue(kernel, zone, 4, U, alloc_flags) is None
    assert zone.nr_free_highatomic == 16


def test_atomic_success_reserves_a_pageblock():
    kernel = Kernel("256M")
    zone = kernel.zones[1]
    zone.managed = 51_200
    gfp = context(kernel, "GFP_ATOMIC")
    alloc_flags = gfp_to_alloc_flags(kernel, gfp.gfp, 4)
    pfn = get_page_from_freelist(kernel, gfp, 4, alloc_flags)
    assert zone.pageblock[pfn >> 9] == MIGRATE_HIGHATOMIC
    assert zone.nr_reserved_highatomic == 512
    assert zone.nr_free_highatomic == 512 - 16


def test_plain_success_reserves_nothing():
    kernel = Kernel("256M")
    zone = kernel.zones[1]
    zone.managed = 51_200
    gfp = context(kernel, "GFP_ATOMIC")
    assert get_page_from_freelist(kernel, gfp, 4, ATOMIC) is not None
    assert zone.nr_reserved_highatomic == 0


# -- corners --------------------------------------------------------------------------------------


def test_free_count_is_halved_once_however_many_pages_are_bad():
    kernel = Kernel("64M")
    first = kernel.alloc_pages("GFP_KERNEL")
    kernel.get_page(first + 1)
    pcp = kernel.page_zone(first).pcp
    pcp.free_count = 16
    assert kernel.alloc_pages("GFP_KERNEL") == first + 2
    assert pcp.free_count == 8


def test_a_request_that_gets_nothing_still_wakes_kswapd_for_a_boost():
    kernel = Kernel("64M", pcp=False)
    zone = kernel.zones[0]
    zone.flags |= ZONE_BOOSTED_WATERMARK
    zone.watermark = [0, 0, 0, 0]
    while rmqueue(kernel, zone, 10, 1, 0) is not None:
        pass
    assert rmqueue(kernel, zone, 10, 1, ALLOC_KSWAPD) is None
    assert not zone.flags & ZONE_BOOSTED_WATERMARK


def test_both_mobility_hints_at_once_find_no_list():
    kernel = Kernel("64M")
    kernel.alloc_pages("GFP_KERNEL", 1)
    assert kernel.alloc_pages("__GFP_MOVABLE|__GFP_RECLAIMABLE") is None
    zone = kernel.zones[1]
    zone.managed = 51_200
    reserved = kernel.alloc_pages("GFP_KERNEL")
    reserve_highatomic_pageblock(zone, reserved)
    pfn = kernel.alloc_pages("__GFP_MOVABLE|__GFP_RECLAIMABLE")
    assert kernel.snapshot().page(pfn).kind is Kind.UNMOVABLE
