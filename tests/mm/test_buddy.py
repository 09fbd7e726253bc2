"""Split, merge and list order of one zone."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.buddy import (
    __free_one_page,
    __rmqueue_smallest,
    account_freepages,
    del_page_from_free_list,
    free_one_page,
    set_pageblock_types,
)
from kmemkit.mm.mmzone import (
    ALLOCATED,
    FREE,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MemMap,
    Zone,
)
from kmemkit.mm.vm import Vm

U, M, R = range(3)
UNMOVABLE, MOVABLE, RECLAIMABLE = "0", "__GFP_MOVABLE", "__GFP_RECLAIMABLE"


def a_zone(pages=2048, start=0, mem_map=None, max_order=10, pageblock_order=9):
    """Return a zone whose pages are all in use."""
    mem_map = mem_map or MemMap(start + pages, pageblock_order)
    zone = Zone(
        0, 2, "Normal", start, start + pages, mem_map, Vm(),
        max_order=max_order, pageblock_order=pageblock_order,
    )  # fmt: skip
    zone.present = zone.managed = pages
    zone.page[start : start + pages] = bytes([ALLOCATED]) * pages
    return zone


def lists(zone):
    return zone.freeze().free_lists()


def counts(zone):
    frozen = zone.freeze() if isinstance(zone, Zone) else zone
    return [frozen.nr_free(order) for order in range(11)]


# Appendix A.1: (request, pfns, free blocks by order afterwards, lists looked at)
TABLE = [
    (("alloc", 5, 0, UNMOVABLE), [0, 1, 2, 3, 4], "1 1 0 1 1 1 1 1 1 1 1", {(0, U): (5,)}),
    (
        ("alloc", 3, 0, MOVABLE), [1024, 1025, 1026], "2 1 1 2 2 2 2 2 2 2 0",
        {(0, M): (1027,), (2, M): (1028,)},
    ),
    (("alloc", 1, 0, RECLAIMABLE), [512], "3 2 2 3 3 3 3 3 3 1 0", {(0, R): (513,), (9, M): (1536,)}),
    (("alloc", 1, 2, UNMOVABLE), [8], "3 2 3 2 3 3 3 3 3 1 0", {(2, U): (12,), (3, U): ()}),
    (("free", 1, 0), [], "4 2 3 2 3 3 3 3 3 1 0", {(0, U): (1, 5)}),
    (("free", 0, 0), [], "3 3 3 2 3 3 3 3 3 1 0", {(0, U): (5,), (1, U): (0, 6)}),
    (("free", 3, 0), [], "4 3 3 2 3 3 3 3 3 1 0", {(0, U): (5, 3)}),
    (("free", 2, 0), [], "3 2 4 2 3 3 3 3 3 1 0", {(0, U): (5,), (1, U): (6,), (2, U): (0, 12)}),
    (("free", 4, 0), [], "2 1 3 3 3 3 3 3 3 1 0", {(0, U): (), (2, U): (12,), (3, U): (0,)}),
]  # fmt: skip


def test_table_of_the_fact_sheet():
    kernel = Kernel("8M")
    assert kernel.snapshot().zones[0].free_lists() == {(10, M): (0, 1024)}
    for step, pfns, blocks, expected in TABLE:
        if step[0] == "alloc":
            _, times, order, gfp = step
            assert [kernel.alloc_pages(gfp, order) for _ in range(times)] == pfns
        else:
            kernel.free_pages(*step[1:])
        zone = kernel.snapshot().zones[0]
        assert counts(zone) == [int(count) for count in blocks.split()]
        assert {key: zone.free_list(*key) for key in expected} == expected
    assert list(kernel.snapshot().zones[0].pageblocks) == [U, R, M, M]


def test_everything_freed_is_one_block_of_the_highest_order_again():
    zone = a_zone(1024)
    for pfn in (*range(0, 1024, 2), *range(1, 1024, 2)):
        free_one_page(zone, pfn, 0)
    assert lists(zone) == {(10, M): (0,)}
    assert zone.free_pages == 1024


def test_freed_block_goes_to_the_head():
    zone = a_zone()
    for pfn in (64, 8, 0, 128):
        free_one_page(zone, pfn, 0)
    assert lists(zone)[0, M] == (128, 0, 8, 64)


def test_freed_block_goes_to_the_tail_if_asked():
    zone = a_zone()
    for pfn in (64, 8, 0):
        free_one_page(zone, pfn, 0, to_tail=True)
    assert lists(zone)[0, M] == (64, 8, 0)


@pytest.mark.parametrize(
    ("pfn", "uncle", "order"),
    [(0, 2, 0), (1, 2, 0), (2, 0, 0), (3, 0, 0), (8, 16, 3), (24, 0, 3), (256, 512, 8)],
)
def test_freed_block_goes_to_the_tail_if_its_next_merge_is_likely(pfn, uncle, order):
    zone = a_zone()
    free_one_page(zone, 1024, order)
    free_one_page(zone, uncle, order + 1)
    free_one_page(zone, pfn, order)
    assert lists(zone)[order, M] == (1024, pfn)


def test_parents_buddy_must_be_whole():
    zone = a_zone()
    free_one_page(zone, 1024, 0)
    free_one_page(zone, 2, 0)  # half of the parent's buddy
    free_one_page(zone, 0, 0)
    assert lists(zone)[0, M] == (0, 2, 1024)


def test_no_merge_is_likely_below_the_highest_order():
    """A block of order 9 has a parent of the highest order, which never merges."""
    zone = a_zone(4096)
    free_one_page(zone, 1024, 10)
    free_one_page(zone, 3584, 9)
    free_one_page(zone, 0, 9)
    assert lists(zone) == {(9, M): (0, 3584), (10, M): (1024,)}


def test_merging_stops_at_the_highest_order():
    zone = a_zone(64, max_order=4, pageblock_order=3)
    for pfn in range(0, 64, 8):
        free_one_page(zone, pfn, 3)
    assert lists(zone) == {(4, M): (48, 32, 16, 0)}


def test_only_a_whole_block_of_the_same_order_merges():
    zone = a_zone()
    free_one_page(zone, 4, 1)
    free_one_page(zone, 0, 2)
    assert lists(zone) == {(1, M): (4,), (2, M): (0,)}


def test_neighbour_that_is_no_buddy_never_merges():
    zone = a_zone()
    free_one_page(zone, 1, 0)
    free_one_page(zone, 2, 0)
    assert lists(zone) == {(0, M): (2, 1)}


def test_zones_never_merge_with_each_other():
    mem_map = MemMap(64, 9)
    low, high = a_zone(12, 0, mem_map), a_zone(52, 12, mem_map)
    free_one_page(high, 12, 2)
    free_one_page(low, 8, 2)
    assert (lists(low), lists(high)) == ({(2, M): (8,)}, {(2, M): (12,)})
    assert (low.free_pages, high.free_pages) == (4, 4)


def test_block_beyond_the_zone_makes_no_merge_likely():
    mem_map = MemMap(64, 9)
    low, high = a_zone(12, 0, mem_map), a_zone(52, 12, mem_map)
    free_one_page(high, 12, 2)
    free_one_page(low, 0, 1)
    free_one_page(low, 8, 1)  # its parent's buddy is 12, of the other zone
    assert lists(low) == {(1, M): (8, 0)}


def test_ragged_end_of_memory():
    kernel = Kernel(100 * 4096)
    pfns = [kernel.alloc_pages("GFP_KERNEL") for _ in range(100)]
    assert sorted(pfns) == list(range(100))
    assert kernel.alloc_pages("GFP_NOWAIT") is None
    for pfn in pfns:
        kernel.free_pages(pfn)
    zone = kernel.snapshot().zones[0]
    assert zone.max_order == 4
    assert [pfns for _, pfns in sorted(zone.free_lists().items())] == [
        (96,), (80, 64, 48, 32, 16, 0),
    ]  # fmt: skip


def test_take_keeps_the_lowest_piece_and_lists_the_upper_halves():
    zone = a_zone()
    free_one_page(zone, 1024, 6)
    assert __rmqueue_smallest(zone, 1, M) == 1024
    assert lists(zone) == {(order, M): (1024 + (1 << order),) for order in range(1, 6)}
    assert zone.page[1024] == ALLOCATED | 1
    assert [zone.page[1024 + (1 << order)] for order in range(1, 6)] == [
        FREE | order for order in range(1, 6)
    ]


def test_take_uses_the_smallest_block_and_the_head_of_its_list():
    zone = a_zone()
    for pfn, order in ((512, 4), (0, 3), (64, 3), (128, 2)):
        free_one_page(zone, pfn, order)
    assert __rmqueue_smallest(zone, 3, M) == 64
    assert __rmqueue_smallest(zone, 3, M) == 0
    assert __rmqueue_smallest(zone, 3, M) == 512
    assert __rmqueue_smallest(zone, 3, M) == 520
    assert __rmqueue_smallest(zone, 3, M) is None
    assert lists(zone) == {(2, M): (128,)}


def test_take_comes_to_the_tail_part_of_a_list_last():
    zone = a_zone()
    for pfn in (0, 8, 16):
        free_one_page(zone, pfn, 0, to_tail=True)
    free_one_page(zone, 24, 0)
    assert [__rmqueue_smallest(zone, 0, M) for _ in range(5)] == [24, 0, 8, 16, None]


def test_take_looks_at_one_type_only():
    zone = a_zone()
    free_one_page(zone, 0, 0)
    assert __rmqueue_smallest(zone, 0, U) is None
    assert __rmqueue_smallest(zone, 0, M) == 0


# -- pageblock types ------------------------------------------------------------------------------


def test_block_goes_to_the_list_of_its_pageblock_now():
    zone = a_zone()
    zone.pageblock[1] = R
    free_one_page(zone, 512, 3)
    free_one_page(zone, 0, 3)
    assert lists(zone) == {(3, M): (0,), (3, R): (512,)}


def test_whole_pageblocks_of_two_types_merge_and_take_the_type_of_the_freed_one():
    zone = a_zone()
    zone.pageblock[0] = U
    free_one_page(zone, 0, 9)
    free_one_page(zone, 512, 9)
    assert lists(zone) == {(10, M): (0,)}
    assert list(zone.pageblock) == [M, M, M, M]
    assert zone.free_pages == 1024


@pytest.mark.parametrize("special", [MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE])
@pytest.mark.parametrize("first", [0, 512])
def test_highatomic_and_isolated_pageblocks_merge_with_no_other_type(special, first):
    zone = a_zone()
    zone.pageblock[0] = special
    for pfn in (first, first ^ 512):
        free_one_page(zone, pfn, 9)
    assert lists(zone) == {(9, special): (0,), (9, M): (512,)}
    assert list(zone.pageblock) == [special, M, M, M]


def test_two_highatomic_pageblocks_merge():
    zone = a_zone()
    zone.pageblock[0] = zone.pageblock[1] = MIGRATE_HIGHATOMIC
    free_one_page(zone, 0, 9)
    free_one_page(zone, 512, 9)
    assert lists(zone) == {(10, MIGRATE_HIGHATOMIC): (0,)}
    assert zone.nr_free_highatomic == 1024


def test_block_above_a_pageblock_is_freed_pageblock_by_pageblock():
    zone = a_zone()
    zone.pageblock[0] = MIGRATE_HIGHATOMIC
    free_one_page(zone, 0, 10)
    assert lists(zone) == {(9, MIGRATE_HIGHATOMIC): (0,), (9, M): (512,)}
    zone.pageblock[2] = U
    free_one_page(zone, 1024, 10)
    assert lists(zone)[10, M] == (1024,)  # the second half's type wins
    assert list(zone.pageblock) == [MIGRATE_HIGHATOMIC, M, M, M]


def test_set_pageblock_types_covers_the_block():
    zone = a_zone(4096)
    set_pageblock_types(zone, 1024, 10, R)
    set_pageblock_types(zone, 3584, 9, U)
    assert list(zone.pageblock) == [M, M, R, R, M, M, M, U]


def test_del_takes_a_block_out_of_the_middle():
    zone = a_zone()
    for pfn in (0, 8, 16):
        free_one_page(zone, pfn, 0)
    free_one_page(zone, 24, 0, to_tail=True)
    del_page_from_free_list(zone, 8, 0, M)
    del_page_from_free_list(zone, 24, 0, M)
    assert lists(zone) == {(0, M): (16, 0)}
    assert zone.free_pages == 2


def test_block_that_is_on_no_list_is_a_key_error():
    zone = a_zone()
    with pytest.raises(KeyError):
        del_page_from_free_list(zone, 8, 0, M)


# -- the counter ----------------------------------------------------------------------------------


def test_counter_lags_until_the_threshold_is_passed():
    zone = a_zone()
    zone.stat_threshold = 4
    seen = []
    for pages in (3, 1, 1, -4, -1, 8, -5):
        account_freepages(zone, pages, M)
        seen.append((zone.vm_stat, zone.pcp.stat_diff))
    assert seen == [(0, 3), (0, 4), (5, 0), (5, -4), (0, 0), (8, 0), (3, 0)]


@pytest.mark.parametrize("threshold", [0, 1, 4])
def test_free_and_take_count_as_account_does(threshold):
    zone, twin = a_zone(), a_zone()
    zone.stat_threshold = twin.stat_threshold = threshold
    for pfn, order in ((0, 2), (8, 0), (16, 1), (24, 0), (32, 3), (64, 2)):
        free_one_page(zone, pfn, order)
        account_freepages(twin, 1 << order, M)
        assert (zone.vm_stat, zone.pcp.stat_diff) == (twin.vm_stat, twin.pcp.stat_diff)
    for order in (2, 0, 0, 0, 1, 2, 2, 0):
        assert __rmqueue_smallest(zone, order, M) is not None
        account_freepages(twin, -(1 << order), M)
        assert (zone.vm_stat, zone.pcp.stat_diff) == (twin.vm_stat, twin.pcp.stat_diff)


def test_highatomic_pages_are_counted_twice_and_isolated_ones_not_at_all():
    zone = a_zone()
    zone.pageblock[0], zone.pageblock[1] = MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE
    __free_one_page(zone, 0, 3, MIGRATE_HIGHATOMIC)
    __free_one_page(zone, 512, 3, MIGRATE_ISOLATE)
    assert (zone.free_pages, zone.nr_free_highatomic) == (8, 8)
    assert __rmqueue_smallest(zone, 1, MIGRATE_HIGHATOMIC) == 0
    assert (zone.free_pages, zone.nr_free_highatomic) == (6, 6)
    assert __rmqueue_smallest(zone, 1, MIGRATE_ISOLATE) == 512
    assert (zone.free_pages, zone.nr_free_highatomic) == (6, 6)
