"""Claim, steal, boost and the highatomic reserve of one zone."""

import pytest

from kmemkit.mm.buddy import free_one_page
from kmemkit.mm.fallback import (
    FALLBACKS,
    RMQUEUE_NORMAL,
    RMQUEUE_STEAL,
    __rmqueue,
    boost_watermark,
    find_suitable_fallback,
    move_freepages_block,
    reserve_highatomic_pageblock,
    should_try_claim_block,
    try_to_claim_block,
    unreserve_highatomic_pageblock,
)
from kmemkit.mm.internal import ALLOC_KSWAPD, ALLOC_NOFRAGMENT
from kmemkit.mm.mmzone import (
    ALLOCATED,
    HIGH,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    ZONE_BOOSTED_WATERMARK,
    MemMap,
    Zone,
)
from kmemkit.mm.vm import Vm

U, M, R = range(3)
BLOCK = 512


def a_zone(pages=8 * BLOCK, start=0):
    """Return a zone of movable pageblocks whose pages are all in use."""
    zone = Zone(0, 1, "DMA32", start, start + pages, MemMap(start + pages, 9), Vm())
    zone.page[start : start + pages] = bytes([ALLOCATED]) * pages
    zone.present = zone.managed = pages
    return zone


def lists(zone):
    return zone.freeze().free_lists()


def free(zone, *blocks):
    for pfn, order in blocks:
        free_one_page(zone, pfn, order)


def test_order_of_types():
    assert FALLBACKS == {U: (R, M), M: (R, U), R: (U, M)}


@pytest.mark.parametrize(
    ("kind", "first", "second"), [(U, R, M), (M, R, U), (R, U, M)], ids=["U", "M", "R"]
)
def test_first_type_with_a_block_of_that_order(kind, first, second):
    zone = a_zone()
    zone.pageblock[0], zone.pageblock[1] = first, second
    assert find_suitable_fallback(zone, 3, kind) is None
    free(zone, (BLOCK, 3))
    assert find_suitable_fallback(zone, 3, kind) == second
    free(zone, (0, 3))
    assert find_suitable_fallback(zone, 3, kind) == first
    assert find_suitable_fallback(zone, 4, kind) is None


@pytest.mark.parametrize("special", [MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE])
def test_reserved_types_are_no_fallback(special):
    zone = a_zone()
    zone.pageblock[0] = special
    free(zone, (0, 9))
    for kind in (U, M, R):
        assert find_suitable_fallback(zone, 9, kind) is None
        assert __rmqueue(zone, 0, kind, 0) == (None, RMQUEUE_NORMAL)
    assert find_suitable_fallback(zone, 9, MIGRATE_HIGHATOMIC) is None


def test_small_blocks_are_worth_a_claim_only_for_pages_that_stay():
    zone = a_zone()
    assert [order for order in range(11) if should_try_claim_block(zone, order, M)] == [
        4, 5, 6, 7, 8, 9, 10,
    ]  # fmt: skip
    for kind in (U, R):
        assert all(should_try_claim_block(zone, order, kind) for order in range(11))
    zone.vm.page_group_by_mobility_disabled = True
    assert should_try_claim_block(zone, 0, M)


# -- claim ----------------------------------------------------------------------------------------


def test_block_of_two_pageblocks_is_claimed_with_both():
    zone = a_zone()
    free(zone, (1024, 10), (0, 9))
    assert __rmqueue(zone, 0, U, 0) == (1024, RMQUEUE_NORMAL)
    assert list(zone.pageblock) == [M, M, U, U, M, M, M, M]
    expected = {(order, U): (1024 + (1 << order),) for order in range(10)}
    assert lists(zone) == expected | {(9, M): (0,), (9, U): (1536,)}
    assert zone.page[1024] == ALLOCATED
    assert zone.free_pages == 1024 + 512 - 1
    assert zone.watermark_boost == 0


def test_largest_block_is_claimed_first_and_the_head_of_its_list():
    zone = a_zone()
    free(zone, (0, 6), (BLOCK, 8), (2 * BLOCK, 8), (3 * BLOCK, 5))
    assert __rmqueue(zone, 0, U, 0) == (2 * BLOCK, RMQUEUE_NORMAL)
    assert list(zone.pageblock[:4]) == [M, M, U, M]


def half_free(zone, pages):
    """Free `pages` of pageblock 1 in pieces that can't make it whole."""
    pfn = BLOCK
    for order in reversed(range(9)):
        if pages >> order & 1:
            free(zone, (pfn, order))
            pfn += 1 << order


@pytest.mark.parametrize(("pages", "claimed"), [(256, True), (255, False), (257, True)])
@pytest.mark.parametrize(("kind", "other"), [(U, R), (R, U), (M, U), (M, R)])
def test_half_of_the_pageblock_must_be_free(pages, claimed, kind, other):
    zone = a_zone()
    zone.pageblock[1] = other
    half_free(zone, pages)
    largest = max(order for order, _ in lists(zone))
    found = try_to_claim_block(zone, BLOCK, largest, 0, kind, other, 0)
    assert (found is not None) is claimed
    assert zone.pageblock[1] == (kind if claimed else other)
    assert zone.free_pages == pages - claimed


@pytest.mark.parametrize(
    ("kind", "other", "pages", "movable", "claimed"),
    [
        # movable pages in the block are alike to a movable request
        (M, U, 156, 100, True), (M, U, 156, 99, False), (M, R, 256, 0, True),
        # to another request, those in a movable block are that are neither free nor movable
        (U, M, 100, 256, True), (U, M, 100, 257, False), (R, M, 200, 256, True),
        (R, M, 255, 257, False), (U, M, 1, 0, True),
        # unmovable and reclaimable pages can't be told apart, so none count
        (U, R, 200, 0, False), (R, U, 200, 300, False),
    ],
)  # fmt: skip
def test_alike_pages_count_as_if_they_were_free(kind, other, pages, movable, claimed):
    zone = a_zone()
    zone.pageblock[1] = other
    zone.movable[1] = movable
    half_free(zone, pages)
    order = max(order for order, _ in lists(zone))
    found = try_to_claim_block(zone, BLOCK, order, 0, kind, other, 0)
    assert (found is not None) is claimed


def test_claimed_pageblocks_blocks_all_move_to_the_tails_of_their_new_lists():
    zone = a_zone()
    zone.pageblock[0] = U
    free(zone, (1, 0), (BLOCK, 8), (BLOCK + 256, 0), (BLOCK + 300, 0), (BLOCK + 320, 4))
    free(zone, (64, 4))
    assert move_freepages_block(zone, BLOCK + 300, M, U) == 256 + 1 + 1 + 16
    assert lists(zone) == {
        (0, U): (1, BLOCK + 256, BLOCK + 300), (4, U): (64, BLOCK + 320), (8, U): (BLOCK,),
    }  # fmt: skip
    assert list(zone.pageblock[:3]) == [U, U, M]
    assert zone.free_pages == 1 + 16 + 256 + 1 + 1 + 16


def test_after_a_claim_the_smallest_block_is_taken():
    zone = a_zone()
    free(zone, (BLOCK, 8), (BLOCK + 300, 1))
    assert __rmqueue(zone, 1, U, 0) == (BLOCK + 300, RMQUEUE_NORMAL)
    assert lists(zone) == {(8, U): (BLOCK,)}


@pytest.mark.parametrize("start", [256, 300])
def test_pageblock_that_reaches_beyond_the_zone_is_not_claimed(start):
    zone = Zone(0, 1, "DMA32", start, 1024 + 300, MemMap(2048, 9), Vm())
    zone.page[start : 1024 + 300] = bytes([ALLOCATED]) * (1024 + 300 - start)
    zone.managed = zone.present = 1024
    free(zone, (320, 6), (1024, 8))
    assert try_to_claim_block(zone, 1024, 8, 0, U, M, 0) is None
    assert try_to_claim_block(zone, 320, 6, 0, U, M, 0) is None
    assert move_freepages_block(zone, 320, M, U) is None
    assert lists(zone) == {(6, M): (320,), (8, M): (1024,)}
    # so one block of it is stolen
    assert __rmqueue(zone, 0, U, 0) == (320, RMQUEUE_STEAL)
    assert list(zone.pageblock) == [M, M, M, M]


@pytest.mark.parametrize("pageblock", [2, 3])
def test_first_and_last_pageblock_of_a_zone_are_claimed_like_any_other(pageblock):
    zone = a_zone(pages=2 * BLOCK, start=2 * BLOCK)
    pfn = pageblock * BLOCK
    free(zone, (pfn, 8))
    assert try_to_claim_block(zone, pfn, 8, 0, U, M, 0) == pfn
    assert zone.pageblock[pageblock] == U


def test_claim_goes_on_to_smaller_blocks_where_a_pageblock_is_refused():
    zone = a_zone()
    zone.movable.update({1: 400})
    free(zone, (BLOCK, 6), (2 * BLOCK, 5))
    assert __rmqueue(zone, 0, U, 0) == (2 * BLOCK, RMQUEUE_NORMAL)
    assert list(zone.pageblock[:4]) == [M, M, U, M]


def test_movable_request_stops_claiming_below_order_4():
    zone = a_zone()
    zone.pageblock[1] = U
    zone.movable[1] = 500  # would be enough
    free(zone, (BLOCK, 3))
    assert __rmqueue(zone, 0, M, 0) == (BLOCK, RMQUEUE_STEAL)
    assert zone.pageblock[1] == U
    free(zone, (BLOCK + 16, 4))
    assert __rmqueue(zone, 2, M, 0) == (BLOCK + 4, RMQUEUE_NORMAL)
    assert zone.pageblock[1] == M


def test_own_lists_come_first():
    zone = a_zone()
    zone.pageblock[0] = U
    free(zone, (0, 0), (1024, 10))
    assert __rmqueue(zone, 0, U, 0) == (0, RMQUEUE_NORMAL)
    assert lists(zone) == {(10, M): (1024,)}


# -- without mixing types -------------------------------------------------------------------------


def test_nofragment_claims_whole_pageblocks_only_and_never_steals():
    zone = a_zone()
    free(zone, (BLOCK, 8))
    assert __rmqueue(zone, 0, U, ALLOC_NOFRAGMENT) == (None, RMQUEUE_NORMAL)
    free(zone, (2 * BLOCK, 9))
    assert __rmqueue(zone, 0, U, ALLOC_NOFRAGMENT) == (2 * BLOCK, RMQUEUE_NORMAL)
    assert list(zone.pageblock[:4]) == [M, M, U, M]


def test_nofragment_request_of_the_highest_order_needs_that_order():
    zone = a_zone()
    free(zone, (0, 9))
    assert __rmqueue(zone, 10, U, ALLOC_NOFRAGMENT) == (None, RMQUEUE_NORMAL)


# -- steal ----------------------------------------------------------------------------------------


def full_of_movable(zone):
    zone.movable.update(dict.fromkeys(range(8), 512))


def test_steal_takes_the_smallest_block_and_leaves_the_rest_to_its_type():
    zone = a_zone()
    full_of_movable(zone)
    free(zone, (BLOCK, 5), (2 * BLOCK, 3), (3 * BLOCK, 4))
    assert __rmqueue(zone, 1, U, 0) == (2 * BLOCK, RMQUEUE_STEAL)
    assert lists(zone) == {
        (1, M): (2 * BLOCK + 2,), (2, M): (2 * BLOCK + 4,), (4, M): (3 * BLOCK,), (5, M): (BLOCK,),
    }  # fmt: skip
    assert set(zone.pageblock) == {M}


def test_steal_prefers_a_small_block_of_the_second_type_to_a_big_one_of_the_first():
    zone = a_zone()
    full_of_movable(zone)
    zone.pageblock[1] = R
    free(zone, (BLOCK, 6), (2 * BLOCK, 3))
    assert __rmqueue(zone, 0, U, 0) == (2 * BLOCK, RMQUEUE_STEAL)


def test_request_too_big_for_any_block_gets_none():
    zone = a_zone()
    free(zone, (BLOCK, 5))
    assert __rmqueue(zone, 6, U, 0) == (None, RMQUEUE_NORMAL)
    assert zone.watermark_boost == 0


def test_batch_that_had_to_steal_goes_on_stealing():
    zone = a_zone()
    full_of_movable(zone)
    free(zone, (BLOCK, 3))
    pfn, mode = __rmqueue(zone, 0, U, 0)
    assert (pfn, mode) == (BLOCK, RMQUEUE_STEAL)
    # by now there is a page of its own type, and a claim would work too: neither is looked at
    zone.pageblock[0] = U
    free(zone, (0, 0), (2 * BLOCK, 9))
    assert __rmqueue(zone, 0, U, 0, mode) == (BLOCK + 1, RMQUEUE_STEAL)
    assert __rmqueue(zone, 0, U, 0) == (0, RMQUEUE_NORMAL)


@pytest.mark.parametrize("order", [9, 10])
def test_batch_that_steals_takes_from_whole_pageblocks_too(order):
    zone = a_zone()
    free(zone, (1024, order))
    assert __rmqueue(zone, 0, U, 0, RMQUEUE_STEAL) == (1024, RMQUEUE_STEAL)
    assert set(zone.pageblock) == {M}


# -- boost ----------------------------------------------------------------------------------------


def boostable(high=400, factor=15000):
    zone = a_zone()
    zone.watermark[HIGH] = high
    zone.vm.watermark_boost_factor = factor
    return zone


@pytest.mark.parametrize(
    ("high", "factor", "boosts"),
    [
        (400, 15000, [512, 600, 600]),
        (1000, 15000, [512, 1024, 1500, 1500]),
        (10, 15000, [512, 512]),  # never less than a pageblock
        (1000, 10000, [512, 1000, 1000]),
        (682, 15000, [512, 1023]),
    ],
)
def test_boost_grows_by_a_pageblock_up_to_its_limit(high, factor, boosts):
    zone = boostable(high, factor)
    seen = []
    for _ in boosts:
        assert boost_watermark(zone)
        seen.append(zone.watermark_boost)
    assert seen == boosts


def test_no_boost_without_factor_high_mark_or_room():
    assert not boost_watermark(boostable(factor=0))
    assert not boost_watermark(boostable(high=0))
    small = boostable()
    small.managed = 4 * 512 - 1
    assert not boost_watermark(small)
    assert small.watermark_boost == 0
    small.managed = 4 * 512
    assert boost_watermark(small)


@pytest.mark.parametrize(("flags", "flag"), [(ALLOC_KSWAPD, ZONE_BOOSTED_WATERMARK), (0, 0)])
def test_boosts_even_if_the_pageblock_is_refused(flags, flag):
    zone = boostable()
    zone.movable[1] = 500
    free(zone, (BLOCK, 4))
    assert try_to_claim_block(zone, BLOCK, 4, 0, U, M, flags) is None
    assert (zone.watermark_boost, zone.flags) == (512, flag)


def test_claim_of_a_whole_pageblock_does_not_boost():
    zone = boostable()
    free(zone, (BLOCK, 9))
    assert try_to_claim_block(zone, BLOCK, 9, 0, U, M, ALLOC_KSWAPD) == BLOCK
    assert (zone.watermark_boost, zone.flags) == (0, 0)


# -- highatomic -----------------------------------------------------------------------------------


def reservable(managed=51200, pages=8 * BLOCK):
    zone = a_zone(pages)
    zone.managed = managed
    return zone


@pytest.mark.parametrize(
    ("managed", "limit"), [(51199, 0), (51200, 512), (51299, 512), (51300, 1024), (102500, 1536)]
)
def test_reserve_is_one_percent_rounded_up_to_pageblocks(managed, limit):
    zone = reservable(managed)
    for pfn in range(0, 8 * BLOCK, BLOCK):
        reserve_highatomic_pageblock(zone, pfn)
    assert zone.nr_reserved_highatomic == limit
    assert zone.pageblock.count(MIGRATE_HIGHATOMIC) == limit // BLOCK


def test_reserve_moves_the_free_pages_of_the_pageblock():
    zone = reservable()
    free(zone, (BLOCK + 4, 2), (BLOCK + 64, 6), (2 * BLOCK, 2))
    reserve_highatomic_pageblock(zone, BLOCK)
    assert lists(zone) == {
        (2, M): (2 * BLOCK,), (2, MIGRATE_HIGHATOMIC): (BLOCK + 4,), (6, MIGRATE_HIGHATOMIC): (BLOCK + 64,),
    }  # fmt: skip
    assert (zone.nr_free_highatomic, zone.free_pages) == (68, 72)


def test_reserve_takes_a_pageblock_once():
    zone = reservable(200_000)
    reserve_highatomic_pageblock(zone, BLOCK)
    reserve_highatomic_pageblock(zone, BLOCK + 8)
    assert zone.nr_reserved_highatomic == 512
    zone.pageblock[3] = MIGRATE_ISOLATE
    reserve_highatomic_pageblock(zone, 3 * BLOCK)
    assert zone.nr_reserved_highatomic == 512


@pytest.mark.parametrize(("order", "blocks"), [(9, 1), (10, 2)])
def test_reserve_for_a_block_of_whole_pageblocks(order, blocks):
    zone = reservable(200_000)
    zone.page[1024] = ALLOCATED | order
    reserve_highatomic_pageblock(zone, 1024)
    assert zone.nr_reserved_highatomic == 512 * blocks
    assert zone.pageblock.count(MIGRATE_HIGHATOMIC) == blocks
    assert zone.pageblock[2] == MIGRATE_HIGHATOMIC


def test_reserve_of_a_pageblock_that_reaches_beyond_the_zone_fails():
    zone = reservable(200_000, 8 * BLOCK - 100)
    reserve_highatomic_pageblock(zone, 7 * BLOCK)
    assert zone.nr_reserved_highatomic == 0


def test_unreserve_keeps_the_last_pageblock_unless_forced():
    zone = reservable(200_000)
    for pfn in (0, 3 * BLOCK):
        free(zone, (pfn + 8, 3))
        reserve_highatomic_pageblock(zone, pfn)
    free(zone, (3 * BLOCK + 4, 1))
    assert unreserve_highatomic_pageblock([zone], U, force=False)
    # the smallest block decides which
    assert lists(zone) == {(1, U): (1540,), (3, U): (1544,), (3, MIGRATE_HIGHATOMIC): (8,)}
    assert (zone.nr_reserved_highatomic, zone.nr_free_highatomic) == (512, 8)
    assert not unreserve_highatomic_pageblock([zone], U, force=False)
    assert unreserve_highatomic_pageblock([zone], R, force=True)
    assert (zone.nr_reserved_highatomic, zone.nr_free_highatomic) == (0, 0)
    assert list(zone.pageblock[:4]) == [R, M, M, U]
    assert not unreserve_highatomic_pageblock([zone], R, force=True)


@pytest.mark.parametrize("order", [9, 10])
def test_unreserve_of_whole_pageblocks(order):
    zone = reservable(200_000)
    pages = 1 << order
    for pageblock in range(2, 2 + pages // BLOCK):
        zone.pageblock[pageblock] = MIGRATE_HIGHATOMIC
    free(zone, (1024, order))
    zone.nr_reserved_highatomic = 1536
    assert unreserve_highatomic_pageblock([zone], R, force=False)
    assert lists(zone) == {(order, R): (1024,)}
    assert zone.free_pages == pages
    assert (zone.nr_reserved_highatomic, zone.nr_free_highatomic) == (1536 - pages, 0)
    assert MIGRATE_HIGHATOMIC not in zone.pageblock


def test_unreserve_with_nothing_free_gives_nothing_back():
    zone = reservable(200_000)
    reserve_highatomic_pageblock(zone, 0)
    assert not unreserve_highatomic_pageblock([zone], U, force=True)
    assert zone.nr_reserved_highatomic == 512


def test_no_boost_where_the_factor_gives_no_page():
    zone = boostable(high=50)
    zone.vm.watermark_boost_factor = 199  # 50 * 199 / 10000 is less than one page
    assert not boost_watermark(zone)
    assert zone.watermark_boost == 0
    zone.vm.watermark_boost_factor = 200
    assert boost_watermark(zone)
    assert zone.watermark_boost == 512
