"""The per-CPU lists of one zone: sizes, refill, drain."""

import pytest

from kmemkit.mm.buddy import free_one_page
from kmemkit.mm.mmzone import (
    ALLOCATED,
    FREE,
    HIGH,
    LOW,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    PCP,
    ZONE_BELOW_HIGH,
    ZONE_RECLAIM_ACTIVE,
    MemMap,
    Zone,
    pcp_allowed_order,
)
from kmemkit.mm.pcp import (
    PCPF_FREE_HIGH_BATCH,
    PCPF_PREV_FREE_HIGH_ORDER,
    __rmqueue_pcplist,
    drain_pages_zone,
    free_unref_page,
    order_to_pindex,
    pindex_to_order,
    rmqueue_pcplist,
    zone_batchsize,
    zone_set_pageset_high_and_batch,
)
from kmemkit.mm.vm import Vm

U, M, R = range(3)


def a_zone(pages=16384, batch=7, high_min=28, high_max=2000, *, free=True, cpus=1):
    """Return a zone of movable pages with per-CPU lists that tune themselves."""
    zone = Zone(0, 1, "DMA32", 0, pages, MemMap(pages, 9), Vm(), cpus=cpus)
    zone.present = zone.managed = pages
    zone.page[0:pages] = bytes([ALLOCATED + (M << 4)]) * pages
    for pcp in zone.pcps:
        pcp.batch, pcp.high_min, pcp.high_max = batch, high_min, high_max
    if free:
        for pfn in range(0, pages, 1024):
            free_one_page(zone, pfn, 10, to_tail=True)
    return zone


def held(zone):
    """Return the pages of each list, head first, by (order, type)."""
    return {
        (pindex_to_order(index), index % 3 if index < 12 else index - 12): list(pages)
        for index, pages in enumerate(zone.pcp.lists)
        if pages
    }


def test_orders_with_a_list():
    assert [order for order in range(11) if pcp_allowed_order(order)] == [0, 1, 2, 3, 9]


def test_every_list_has_its_number():
    numbers = [order_to_pindex(kind, order) for order in range(4) for kind in range(3)]
    assert numbers == list(range(12))
    assert [order_to_pindex(kind, 9) for kind in (U, M, R)] == [12, 13, 12]
    assert [pindex_to_order(index) for index in range(14)] == [
        0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 9, 9,
    ]  # fmt: skip


# -- sizes ----------------------------------------------------------------------------------------

MANAGED = [
    (0, 1), (3840, 1), (8192, 1), (12288, 3), (50608, 15), (98304, 31), (115000, 31), (122880, 31),
    (189439, 63), (262144, 63), (10_000_000, 63),
]  # fmt: skip


@pytest.mark.parametrize(("managed", "batch"), MANAGED)
def test_batch(managed, batch):
    assert zone_batchsize(managed) == batch


def test_batch_never_shrinks_as_the_zone_grows():
    batches = [zone_batchsize(managed) for managed in range(0, 400_000, 512)]
    assert batches == sorted(batches)
    assert set(batches) == {1, 3, 7, 15, 31, 63}


@pytest.mark.parametrize(
    ("cpus", "low", "boost", "fraction", "expected"),
    [
        (1, 593, 0, 0, (593, 6325)),
        (2, 593, 0, 0, (296, 3162)),
        (1, 593, 512, 0, (1105, 6325)),
        (1, 10, 0, 0, (60, 6325)),  # at least four batches
        (200, 593, 0, 0, (60, 60)),
        (0, 593, 0, 0, (593, 6325)),  # a node without CPUs counts as one
        (1, 593, 0, 100, (506, 506)),
        (4, 593, 0, 100, (126, 126)),
        (1, 593, 0, 50_000, (60, 60)),
    ],
)
def test_high(cpus, low, boost, fraction, expected):
    zone = a_zone(1024, cpus=2, free=False)
    zone.managed, zone.watermark[LOW], zone.watermark_boost = 50607, low, boost
    zone.vm.percpu_pagelist_high_fraction = fraction
    zone_set_pageset_high_and_batch(zone, cpus)
    assert [(pcp.high_min, pcp.high_max) for pcp in zone.pcps] == [expected] * 2
    assert [pcp.batch for pcp in zone.pcps] == [15, 15]


# -- refill ---------------------------------------------------------------------------------------


def refills(zone, order, count):
    """Return how many blocks each of the next refills brings."""
    index, sizes = order_to_pindex(M, order), []
    while len(sizes) < count:
        empty = not zone.pcp.lists[index]
        assert rmqueue_pcplist(zone, order, M, 0) is not None
        if empty:
            sizes.append(len(zone.pcp.lists[index]) + 1)
    return sizes


def test_refill_doubles_up_to_the_limit():
    zone = a_zone()
    assert refills(zone, 0, 8) == [7, 14, 28, 56, 112, 224, 224, 224]
    assert zone.pcp.alloc_factor == 5


def test_refill_stops_doubling_where_high_stops_growing():
    zone = a_zone(high_min=28, high_max=100)
    assert refills(zone, 0, 6) == [7, 14, 28, 56, 93, 93]
    assert (zone.pcp.high, zone.pcp.alloc_factor) == (100, 4)


def test_refill_leaves_high_alone_below_the_high_mark():
    zone = a_zone()
    zone.flags |= ZONE_BELOW_HIGH
    assert refills(zone, 0, 4) == [7, 14, 21, 21]
    assert zone.pcp.high == 28


def test_refill_leaves_high_alone_where_it_is_fixed():
    zone = a_zone(high_min=100, high_max=100)
    refills(zone, 0, 3)
    assert zone.pcp.high == 100


def test_high_grows_with_every_refill():
    zone = a_zone()
    highs = []
    for _ in range(3):
        refills(zone, 0, 1)
        highs.append(zone.pcp.high)
        while zone.pcp.lists[1]:
            rmqueue_pcplist(zone, 0, M, 0)
    assert highs == [28 + 7, 28 + 7 + 14, 28 + 7 + 14 + 28]


@pytest.mark.parametrize(
    ("order", "batch", "blocks"),
    [(1, 7, 3), (2, 7, 2), (3, 7, 2), (3, 31, 3), (3, 63, 7), (9, 7, 2), (9, 63, 2)],
)
def test_refill_of_bigger_blocks_is_a_batch_of_pages_or_two_blocks(order, batch, blocks):
    zone = a_zone(batch=batch, high_min=4 * batch)
    assert refills(zone, order, 3) == [blocks] * 3
    assert zone.pcp.alloc_factor == 0


@pytest.mark.parametrize("order", [0, 1, 3, 9])
def test_lists_that_hold_less_than_a_batch_refill_one_by_one(order):
    zone = a_zone(batch=7, high_min=0, high_max=6)
    assert refills(zone, order, 3) == [1, 1, 1]


def test_lists_that_hold_just_a_batch_refill_by_the_batch():
    assert refills(a_zone(batch=7, high_min=7, high_max=7), 0, 2) == [7, 7]


def test_lists_that_hold_less_than_a_batch_give_back_one_page_at_a_time():
    zone = a_zone(free=False, batch=7, high_min=6, high_max=6)
    assert frees(zone, 8) == [1, 2, 3, 4, 5, 5, 5, 5]


def test_lists_that_hold_just_a_batch_give_nothing_back():
    """At most `high` less a batch is given back, and that is nothing."""
    zone = a_zone(free=False, batch=7, high_min=7, high_max=7)
    assert frees(zone, 9) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_lists_before_setup_refill_one_by_one():
    zone = a_zone(batch=1, high_min=0, high_max=0)
    assert refills(zone, 0, 3) == [1, 1, 1]
    free_unref_page(zone, 0, 0)
    assert held(zone) == {}


def test_batch_of_one_stays_one():
    zone = a_zone(batch=1, high_min=4, high_max=480)
    assert refills(zone, 1, 2) == [1, 1]
    assert refills(zone, 0, 3) == [1, 2, 4]


def test_refill_hands_out_ascending_pages():
    zone = a_zone()
    assert [rmqueue_pcplist(zone, 0, M, 0) for _ in range(7)] == list(range(7))
    assert rmqueue_pcplist(zone, 0, M, 0) == 7
    assert held(zone)[0, M] == list(range(8, 21))
    assert all(zone.page[pfn] == PCP for pfn in range(8, 21))
    assert zone.page[7] == ALLOCATED
    assert zone.pcp.count == 13


def test_refill_may_stop_short():
    zone = a_zone(free=False)
    free_one_page(zone, 0, 1)
    assert rmqueue_pcplist(zone, 0, M, 0) == 0
    assert held(zone) == {(0, M): [1]}
    assert rmqueue_pcplist(zone, 0, M, 0) == 1
    assert rmqueue_pcplist(zone, 0, M, 0) is None
    assert zone.pcp.count == 0


def test_refill_that_stole_once_steals_on():
    zone = a_zone(free=False)
    zone.movable.update(dict.fromkeys(range(32), 512))
    free_one_page(zone, 0, 2)
    free_one_page(zone, 1024, 8)
    assert rmqueue_pcplist(zone, 0, U, 0) == 0
    assert held(zone)[0, U] == [1, 2, 3, 1024, 1025, 1026]
    assert set(zone.pageblock) == {M}


def test_allocation_halves_the_count_of_frees_but_bulk_does_not():
    zone = a_zone()
    zone.pcp.free_count = 100
    rmqueue_pcplist(zone, 0, M, 0)
    assert zone.pcp.free_count == 50
    __rmqueue_pcplist(zone, 0, M, 0)
    assert zone.pcp.free_count == 50


def test_lists_of_the_running_cpu_are_used():
    zone = a_zone(cpus=2)
    zone.pcp = zone.pcps[1]
    rmqueue_pcplist(zone, 0, M, 0)
    assert [pcp.count for pcp in zone.pcps] == [0, 6]


# -- free -----------------------------------------------------------------------------------------


def test_freed_page_comes_back_first():
    zone = a_zone()
    pfns = [rmqueue_pcplist(zone, 0, M, 0) for _ in range(3)]
    for pfn in pfns:
        free_unref_page(zone, pfn, 0)
    assert zone.page[pfns[0]] == PCP
    assert [rmqueue_pcplist(zone, 0, M, 0) for _ in range(3)] == pfns[::-1]


def test_free_halves_the_growth_of_refills():
    zone = a_zone()
    refills(zone, 0, 3)
    assert zone.pcp.alloc_factor == 3
    free_unref_page(zone, 0, 0)
    assert zone.pcp.alloc_factor == 1


def test_type_is_the_pageblocks_at_the_time_of_the_free():
    zone = a_zone(free=False)
    zone.pageblock[0] = R
    free_unref_page(zone, 0, 1)
    assert held(zone) == {(1, R): [0]}


def test_highatomic_page_waits_among_the_movable_ones_and_drains_home():
    zone = a_zone(free=False)
    zone.pageblock[0] = MIGRATE_HIGHATOMIC
    free_unref_page(zone, 8, 0)
    assert held(zone) == {(0, M): [8]}
    drain_pages_zone(zone)
    assert zone.freeze().free_lists() == {(0, MIGRATE_HIGHATOMIC): (8,)}
    assert zone.nr_free_highatomic == 1


def test_isolated_page_goes_straight_through():
    zone = a_zone(free=False)
    zone.pageblock[0] = MIGRATE_ISOLATE
    free_unref_page(zone, 8, 0)
    assert held(zone) == {}
    assert zone.freeze().free_lists() == {(0, MIGRATE_ISOLATE): (8,)}


@pytest.mark.parametrize("order", [4, 8, 10])
def test_other_orders_go_straight_through(order):
    zone = a_zone(free=False)
    free_unref_page(zone, 0, order)
    assert held(zone) == {}
    assert zone.page[0] == FREE | order


@pytest.mark.parametrize("order", [0, 1, 2, 3, 9])
def test_count_is_in_pages(order):
    zone = a_zone(free=False, batch=63, high_min=1000)
    free_unref_page(zone, 0, order)
    assert zone.pcp.count == 1 << order
    assert zone.page[0] == PCP | order
    assert zone.pcp.free_count == 1 << order


def frees(zone, count, order=0, step=8):
    """Free `count` blocks that are nobody's buddies; return the pages held after each."""
    counts = []
    for number in range(count):
        free_unref_page(zone, number * step, order)
        counts.append(zone.pcp.count)
    return counts


def test_drain_starts_at_high_and_gives_a_growing_batch():
    zone = a_zone(free=False, high_max=28)
    counts = frees(zone, 60)
    assert counts[:27] == list(range(1, 28))
    # at 28 pages min(max(free_count, batch), high - batch) are given back
    assert counts[27] == 28 - 21
    assert counts[28:49] == [*range(8, 28), 7]


def test_high_follows_the_number_of_frees():
    zone = a_zone(free=False)
    frees(zone, 28)
    # 28 freed in a row: high becomes 28 + batch, the drain leaves a batch
    assert (zone.pcp.high, zone.pcp.count) == (28 + 7, 28 - 21)
    assert zone.pcp.free_count == 28


def test_count_of_frees_stops_growing():
    zone = a_zone(free=False, high_min=2000)
    frees(zone, 500)
    assert zone.pcp.free_count == 7 << 5


def test_below_the_high_mark_a_free_drains_at_once():
    zone = a_zone(free=False, high_min=28, high_max=2000)
    zone.watermark[HIGH] = 10_000
    zone.flags |= ZONE_BELOW_HIGH
    zone.pcp.high = 500
    assert frees(zone, 28)[-1] < 28
    # high went down to its least, a batch or what was freed at a time
    assert zone.pcp.high == max(500 - sum(max(n, 7) for n in range(1, 29)), 28)
    assert zone.flags & ZONE_BELOW_HIGH


def test_drain_ends_the_state_below_the_high_mark():
    zone = a_zone(free=False)
    zone.flags |= ZONE_BELOW_HIGH
    zone.watermark[HIGH], zone.watermark_boost = 3, 8
    zone.pcp.high = 28
    frees(zone, 27)
    assert zone.flags & ZONE_BELOW_HIGH
    zone.vm_stat = 0
    free_unref_page(zone, 4096, 0)
    assert zone.free_pages == 21  # more than 3 + 8
    assert not zone.flags & ZONE_BELOW_HIGH


def test_boost_counts_when_the_state_below_the_high_mark_ends():
    zone = a_zone(free=False)
    zone.flags |= ZONE_BELOW_HIGH
    zone.watermark[HIGH], zone.watermark_boost = 3, 18
    frees(zone, 28)
    assert zone.free_pages == 21
    assert zone.flags & ZONE_BELOW_HIGH


def test_while_reclaim_runs_little_is_kept():
    zone = a_zone(free=False, high_min=28, high_max=2000)
    zone.flags |= ZONE_RECLAIM_ACTIVE
    zone.pcp.high = 1000
    counts = frees(zone, 28)
    assert counts[26:] == [27, 28 - 21]  # drains at four batches
    assert zone.pcp.high == max(1000 - sum(max(n, 7) for n in range(1, 29)), 28)


def test_burst_of_bigger_blocks_drains_early():
    zone = a_zone(free=False, high_min=1000, high_max=1000)
    counts = frees(zone, 3, order=2, step=16)
    # twice in a row, and a batch of pages freed: then all of them go
    assert counts == [4, 8, 0]
    assert zone.pcp.flags & PCPF_PREV_FREE_HIGH_ORDER
    assert zone.pcp.high == 1000


def test_burst_lowers_high():
    zone = a_zone(free=False, high_min=28, high_max=2000)
    zone.pcp.high = 1000
    frees(zone, 3, order=2, step=16)
    assert zone.pcp.high == 1000 - (7 << 5)


def test_single_page_between_bigger_blocks_ends_the_burst():
    zone = a_zone(free=False, high_min=1000, high_max=1000)
    frees(zone, 2, order=2, step=16)
    free_unref_page(zone, 4096, 0)
    assert not zone.pcp.flags & PCPF_PREV_FREE_HIGH_ORDER
    free_unref_page(zone, 4096 + 64, 2)
    assert zone.pcp.count == 13
    free_unref_page(zone, 4096 + 128, 2)
    assert zone.pcp.count == 0


def test_huge_page_is_no_part_of_a_burst():
    zone = a_zone(free=False, high_min=4000, high_max=4000)
    frees(zone, 2, order=9, step=1024)
    assert zone.pcp.count == 1024
    assert not zone.pcp.flags & PCPF_PREV_FREE_HIGH_ORDER


@pytest.mark.parametrize(
    ("cache", "counts"), [(PCPF_FREE_HIGH_BATCH, [4, 8, 12, 0]), (0, [0, 0, 0, 0])]
)
def test_cpu_with_a_big_cache_keeps_a_batch_through_a_burst(cache, counts):
    zone = a_zone(free=False, batch=15, high_min=1000, high_max=1000)
    zone.pcp.flags = cache | PCPF_PREV_FREE_HIGH_ORDER
    zone.pcp.free_count = 40
    assert frees(zone, 4, order=2, step=16) == counts


def test_burst_gives_back_a_batch_at_most():
    zone = a_zone(free=False, batch=1, high_min=1000, high_max=1000)
    zone.pcp.free_count = 5
    for number in range(50):
        zone.pcp.lists[0].append(4096 + 8 * number)
    zone.pcp.count = 50
    zone.pcp.flags = PCPF_PREV_FREE_HIGH_ORDER
    free_unref_page(zone, 0, 1)
    assert zone.pcp.count == 52 - 32


# -- drain ----------------------------------------------------------------------------------------


def filled(high=40):
    """Return a zone whose lists hold blocks of several orders and types."""
    zone = a_zone(free=False, batch=4, high_min=high, high_max=high)
    for kind, order, pfns in (
        (U, 0, (0, 8, 16)), (M, 0, (1024, 1032)), (R, 1, (2048,)), (U, 3, (64,)),
    ):  # fmt: skip
        for pfn in pfns:
            zone.pageblock[pfn >> 9] = kind
            free_unref_page(zone, pfn, order)
            zone.pcp.flags = 0  # no burst
    return zone


def test_drain_takes_the_oldest_of_the_freed_list_first_then_goes_round():
    zone = filled(high=18)
    assert zone.pcp.count == 15
    zone.pcp.free_count = 4
    free_unref_page(zone, 1040, 0)
    free_unref_page(zone, 1048, 0)
    assert held(zone) == {
        (0, U): [16, 8, 0], (0, M): [1048, 1040, 1032, 1024], (1, R): [2048], (3, U): [64],
    }  # fmt: skip
    free_unref_page(zone, 1056, 0)
    # 7 pages: the five movable ones, oldest first, then the list that comes next in number
    assert zone.freeze().free_lists() == {
        (0, M): (1056, 1048, 1040, 1032, 1024), (1, R): (2048,),
    }  # fmt: skip
    assert held(zone) == {(0, U): [16, 8, 0], (3, U): [64]}


def test_drain_goes_round_to_the_first_list():
    zone = a_zone(free=False, batch=2, high_min=12, high_max=12)
    for pfn in (0, 8, 16, 24):
        free_unref_page(zone, pfn, 0)
    zone.pcp.free_count = 4
    free_unref_page(zone, 1024, 3)
    # 10 pages: the block just freed, then the two oldest of the next list that has any
    assert held(zone) == {(0, M): [24, 16]}
    assert zone.freeze().free_lists() == {(0, M): (8, 0), (3, M): (1024,)}


def test_drain_counts_a_block_as_its_pages():
    zone = filled()
    drain_pages_zone(zone)
    assert zone.pcp.count == 0
    assert held(zone) == {}
    assert zone.free_pages == 15
    assert zone.freeze().free_lists() == {
        (0, U): (16, 8, 0), (0, M): (1032, 1024), (1, R): (2048,), (3, U): (64,),
    }  # fmt: skip


def test_drain_empties_every_cpu():
    zone = a_zone(cpus=3)
    for cpu in range(3):
        zone.pcp = zone.pcps[cpu]
        rmqueue_pcplist(zone, 0, M, 0)
    zone.pcp = zone.pcps[0]
    drain_pages_zone(zone)
    assert [pcp.count for pcp in zone.pcps] == [0, 0, 0]
    assert zone.free_pages == zone.managed - 3


def test_drained_pages_merge():
    zone = a_zone()
    pfns = [rmqueue_pcplist(zone, 0, M, 0) for _ in range(300)]
    for pfn in pfns:
        free_unref_page(zone, pfn, 0)
    drain_pages_zone(zone)
    assert {order for order, _ in zone.freeze().free_lists()} == {10}
    assert zone.free_pages == zone.managed


def test_the_order_of_each_list():
    assert [pindex_to_order(index) for index in range(14)] == [
        0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 9, 9,
    ]  # fmt: skip
