"""May this request take pages? Numbers from the fact sheet, and the edges of each rule."""

import pytest

from kmemkit.mm.buddy import free_one_page
from kmemkit.mm.internal import (
    ALLOC_HIGHATOMIC,
    ALLOC_MIN_RESERVE,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    ALLOC_WMARK_LOW,
    ALLOC_WMARK_MIN,
)
from kmemkit.mm.mmzone import (
    ALLOCATED,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIN,
    MemMap,
    Zone,
)
from kmemkit.mm.vm import Vm
from kmemkit.mm.watermark import __zone_watermark_ok, zone_watermark_fast, zone_watermark_ok

PLAIN = ALLOC_WMARK_MIN
HIGH = ALLOC_MIN_RESERVE
ATOMIC = ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK
NOWAIT = ALLOC_NON_BLOCK


def a_zone(free=0, least=1000, pages=2048):
    """Return a zone with a counter of `free` pages and nothing on its lists."""
    zone = Zone(0, 1, "DMA32", 0, pages, MemMap(pages, 9), Vm())
    zone.page[0:pages] = bytes([ALLOCATED]) * pages
    zone.present = zone.managed = pages
    zone.vm_stat = free
    zone.watermark = [least, least + 250, least + 500, least + 750]
    return zone


# Appendix A.2: mark, who asks, the lowest number of free pages that passes
LOWEST = [
    (1000, PLAIN, 1001), (1000, HIGH, 501), (1000, ATOMIC, 376), (1000, ALLOC_OOM, 501),
    (1000, NOWAIT, 1001), (1001, HIGH, 502), (1001, ATOMIC, 377), (1000, HIGH | ALLOC_OOM, 251),
    (1000, ATOMIC | ALLOC_OOM, 189), (1, HIGH, 2), (0, PLAIN, 1),
]  # fmt: skip


@pytest.mark.parametrize(("mark", "flags", "lowest"), LOWEST)
def test_lowest_number_that_passes(mark, flags, lowest):
    zone = a_zone()
    assert __zone_watermark_ok(zone, 0, mark, 0, flags, lowest)
    assert not __zone_watermark_ok(zone, 0, mark, 0, flags, lowest - 1)
    zone.vm_stat = lowest
    assert zone_watermark_ok(zone, 0, mark, 0, flags)
    assert zone_watermark_fast(zone, 0, mark, 0, flags)
    zone.vm_stat = lowest - 1
    assert not zone_watermark_ok(zone, 0, mark, 0, flags)
    assert not zone_watermark_fast(zone, 0, mark, 0, flags)


def test_big_request_must_leave_the_mark_after_it_is_served():
    zone = a_zone()
    free_one_page(zone, 0, 3)
    assert not __zone_watermark_ok(zone, 3, 1000, 0, PLAIN, 1007)
    assert __zone_watermark_ok(zone, 3, 1000, 0, PLAIN, 1008)


def test_big_request_needs_a_block_that_is_big_enough():
    zone = a_zone(free=1500)
    assert not zone_watermark_fast(zone, 3, 1000, 0, PLAIN)
    free_one_page(zone, 0, 2)
    assert zone_watermark_fast(zone, 2, 1000, 0, PLAIN)
    assert not zone_watermark_fast(zone, 3, 1000, 0, PLAIN)
    free_one_page(zone, 512, 7)
    assert zone_watermark_fast(zone, 3, 1000, 0, PLAIN)
    assert zone_watermark_fast(zone, 7, 1000, 0, PLAIN)
    assert not zone_watermark_fast(zone, 8, 1000, 0, PLAIN)


def test_block_of_the_highest_order_counts():
    zone = a_zone(free=3000)
    free_one_page(zone, 0, 10)
    assert zone_watermark_ok(zone, 10, 1000, 0, PLAIN)


@pytest.mark.parametrize("pageblock", [0, 1, 2])
def test_block_may_be_on_the_list_of_any_ordinary_type(pageblock):
    zone = a_zone(free=1500)
    zone.pageblock[0] = pageblock
    free_one_page(zone, 0, 3)
    assert zone_watermark_ok(zone, 3, 1000, 0, PLAIN)


@pytest.mark.parametrize(
    ("flags", "ok"),
    [(PLAIN, False), (HIGH, False), (NOWAIT, False), (ALLOC_HIGHATOMIC, True), (ALLOC_OOM, True)],
)
def test_highatomic_block_is_for_those_who_may_use_it(flags, ok):
    zone = a_zone(free=1500)
    zone.pageblock[0] = MIGRATE_HIGHATOMIC
    free_one_page(zone, 0, 3)
    assert zone_watermark_ok(zone, 3, 1000, 0, flags) is ok


def test_isolated_block_is_for_nobody():
    zone = a_zone(free=1500)
    zone.pageblock[0] = MIGRATE_ISOLATE
    free_one_page(zone, 0, 3)
    assert not zone_watermark_ok(zone, 3, 1000, 0, ALLOC_OOM | ALLOC_HIGHATOMIC)


@pytest.mark.parametrize(
    ("flags", "counts"),
    [(PLAIN, False), (HIGH, True), (NOWAIT, True), (ALLOC_OOM, True), (ALLOC_HIGHATOMIC, True)],
)
def test_free_highatomic_pages_count_for_those_with_a_right_to_reserves(flags, counts):
    zone = a_zone(free=1010)
    zone.nr_free_highatomic = 10
    assert __zone_watermark_ok(zone, 0, 1000, 0, flags, 1010) is counts
    assert zone_watermark_fast(zone, 0, 1000, 0, flags) is counts
    zone.vm_stat = 1011
    assert zone_watermark_fast(zone, 0, 1000, 0, flags)


def test_lowmem_reserve_is_that_of_the_requests_highest_zone():
    zone = a_zone(free=1500)
    zone.lowmem_reserve = (0, 0, 499, 500, 500)
    assert [zone_watermark_ok(zone, 0, 1000, idx, PLAIN) for idx in range(5)] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert [zone_watermark_fast(zone, 0, 1000, idx, PLAIN) for idx in range(5)] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_check_reads_the_counter_that_lags():
    zone = a_zone(free=1001)
    zone.pcp.stat_diff = -100
    assert zone_watermark_ok(zone, 0, 1000, 0, PLAIN)
    zone.vm_stat, zone.pcp.stat_diff = 1000, 100
    assert not zone_watermark_fast(zone, 0, 1000, 0, PLAIN)


def boosted(free):
    zone = a_zone(free)
    zone.watermark_boost = 512
    return zone


@pytest.mark.parametrize(
    ("order", "flags", "ok"),
    [
        (0, HIGH, True),
        (0, PLAIN, False),
        (1, HIGH, False),
        (0, HIGH | ALLOC_WMARK_LOW, False),
    ],
)
def test_only_a_single_page_from_the_reserves_ignores_a_boost(order, flags, ok):
    zone = boosted(600)  # above half of 1000, not of 1512
    free_one_page(zone, 0, 3)
    assert zone_watermark_fast(zone, order, zone.watermark[MIN] + 512, 0, flags) is ok


def test_single_page_from_the_reserves_still_has_a_mark():
    assert not zone_watermark_fast(boosted(500), 0, 1512, 0, HIGH)
    assert zone_watermark_fast(boosted(501), 0, 1512, 0, HIGH)
    # without a boost there is nothing to ignore
    assert not zone_watermark_fast(a_zone(600), 0, 1512, 0, HIGH)
