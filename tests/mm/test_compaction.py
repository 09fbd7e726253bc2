"""Compaction: whether it makes sense, what the two scanners move where, and what stays as it was."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemkit import Kernel
from kmemkit import gfp as flags
from kmemkit.mm import compaction
from kmemkit.mm.compaction import (
    COMPACT_COMPLETE,
    COMPACT_CONTINUE,
    COMPACT_DEFERRED,
    COMPACT_PRIO_ASYNC,
    COMPACT_PRIO_SYNC_FULL,
    COMPACT_PRIO_SYNC_LIGHT,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    CompactControl,
    compact_zone,
    compaction_defer_reset,
    compaction_deferred,
    compaction_suitable,
    compaction_zonelist_suitable,
    defer_compaction,
    fragmentation_index,
    try_to_compact_pages,
)
from kmemkit.mm.fallback import move_freepages_block
from kmemkit.mm.freelist import prepare_alloc_pages
from kmemkit.mm.mmzone import LOW, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE, MIN
from kmemkit.mm.swap import ACTIVE_ANON, INACTIVE_FILE, LRU_DIRTY
from tests.mm.moments import at, boot, take_down_to
from tests.mm.test_properties import check_snapshot

BLOCK = 512


def context(kernel, gfp="GFP_KERNEL"):
    return prepare_alloc_pages(kernel, flags.as_mask(gfp), 0)


def small(ram="8M", keep=3):
    """Return a one-zone world of files, of which every page but each `keep`-th is free again."""
    kernel = Kernel(ram)
    kernel.read_file(ram)
    for number, pfn in enumerate(list(kernel.nodes[0].pages(INACTIVE_FILE))):
        if number % keep:
            kernel.free_pages(pfn)
    return kernel, kernel.zones[0]


def run(kernel, zone, order=-1, kind=MIGRATE_MOVABLE, priority=COMPACT_PRIO_SYNC_FULL, direct=True):
    cc = CompactControl(zone, order, kind, priority, MIN, 2, direct)
    return compact_zone(kernel, cc)


# -- whether -----------------------------------------------------------------------------------------


def test_results_and_priorities_have_the_kernel_s_numbers():
    assert compaction.COMPACT_RESULTS.index("success") == COMPACT_SUCCESS == 8
    assert (COMPACT_SKIPPED, COMPACT_DEFERRED, COMPACT_COMPLETE) == (1, 2, 5)
    assert (COMPACT_PRIO_SYNC_FULL, COMPACT_PRIO_SYNC_LIGHT, COMPACT_PRIO_ASYNC) == (0, 1, 2)
    assert compaction.COMPACT_MAX_DEFER_SHIFT == 6


@pytest.mark.parametrize(("order", "mark"), [(1, MIN), (2, MIN), (3, MIN), (4, LOW), (9, LOW)])
def test_it_needs_free_pages_of_twice_the_block_above_a_mark(order, mark):
    kernel = at("scattered")
    zone = kernel.zones[1]
    kernel.vm.extfrag_threshold = -1  # only the number of free pages counts
    zone.lowmem_reserve = (0, 0, 7, 7, 7)
    edge = zone.watermark[mark] + 7 + (2 << order)
    answers = []
    for zone.vm_stat in (edge, edge + 1):
        answers.append(compaction_suitable(zone, order, 2))
    assert answers == [COMPACT_SKIPPED, COMPACT_CONTINUE]
    zone.watermark_boost = 1
    assert compaction_suitable(zone, order, 2) == COMPACT_SKIPPED


def test_pages_in_the_highatomic_reserve_are_no_room():
    kernel = at("scattered")
    zone = kernel.zones[1]
    zone.vm_stat = zone.watermark[MIN] + 8 + 5
    assert compaction_suitable(zone, 2, 2) == COMPACT_CONTINUE
    zone.nr_free_highatomic = 5
    assert compaction_suitable(zone, 2, 2) == COMPACT_SKIPPED


def test_fragmentation_index():
    kernel = Kernel("256K", max_order=4, pageblock_order=4)
    zone = kernel.zones[0]
    assert fragmentation_index(zone, 4) == -1000
    pfns = [kernel.alloc_pages("GFP_NOWAIT") for _ in range(64)]
    assert fragmentation_index(zone, 2) == 0  # nothing is free: that is no fragmentation
    for pfn in pfns[:20:2]:
        kernel.free_pages(pfn)
    assert fragmentation_index(zone, 2) == 1000 - (1000 + 10 * 1000 // 4) // 10 == 650
    assert fragmentation_index(zone, 4) == 1000 - (1000 + 10 * 1000 // 16) // 10 == 838
    kernel.free_pages(pfns[1])
    assert fragmentation_index(zone, 1) == -1000


@pytest.mark.parametrize(
    ("order", "threshold", "suitable"),
    [(4, 938, False), (4, 937, True), (4, 500, True), (3, 1000, True)],
)
def test_costly_orders_want_memory_scattered_rather_than_short(order, threshold, suitable):
    kernel = at("scattered")
    zone = kernel.zones[1]
    kernel.vm.extfrag_threshold = threshold
    assert fragmentation_index(zone, 4) == 938
    assert (compaction_suitable(zone, order, 2) == COMPACT_CONTINUE) is suitable


@pytest.mark.parametrize(("order", "divisor"), [(1, 1), (2, 2), (4, 4)])
def test_reclaim_makes_room_if_a_share_of_what_it_could_free_is_enough(order, divisor):
    kernel = at("files")
    _, zone = kernel.zones
    kernel.zones[0].managed = 0
    alone = prepare_alloc_pages(kernel, flags.as_mask("GFP_KERNEL"), 0)
    files = kernel.nodes[0].nr(INACTIVE_FILE)
    mark = LOW if order > 3 else MIN
    zone.watermark[mark] = files // divisor + zone.free_pages - (2 << order) - 1
    kernel.zones[0].watermark[mark] = 1 << 20
    assert compaction_zonelist_suitable(kernel, alone, order)
    zone.watermark[mark] += 1
    assert not compaction_zonelist_suitable(kernel, alone, order)


# -- deferral ----------------------------------------------------------------------------------------


def test_after_each_failure_twice_as_many_attempts_are_left_out():
    zone = Kernel("1M").zones[0]
    assert not compaction_deferred(zone, 5)
    zone.compact.order_failed = 11
    skipped = []
    for _ in range(8):
        defer_compaction(zone, 4)
        count = 0
        while compaction_deferred(zone, 4):
            count += 1
        skipped.append(count)
    assert skipped == [1, 3, 7, 15, 31, 63, 63, 63]
    assert zone.compact.order_failed == 4


def test_lower_orders_than_the_failed_one_are_not_deferred():
    zone = Kernel("1M").zones[0]
    zone.compact.order_failed = 11
    defer_compaction(zone, 4)
    defer_compaction(zone, 6)
    assert zone.compact.order_failed == 4
    assert not compaction_deferred(zone, 3)
    assert compaction_deferred(zone, 4)


def test_success_resets():
    zone = Kernel("1M").zones[0]
    for _ in range(3):
        defer_compaction(zone, 2)
    compaction_defer_reset(zone, 4, False)
    assert (zone.compact.shift, zone.compact.order_failed) == (3, 5)
    compaction_defer_reset(zone, 4, True)
    assert (zone.compact.considered, zone.compact.shift) == (0, 0)
    compaction_defer_reset(zone, 2, True)
    assert zone.compact.order_failed == 5
    compaction_defer_reset(zone, 5, False)
    assert zone.compact.order_failed == 6


def test_a_failed_run_in_full_defers_a_gentle_one_does_not():
    for priority, shift in ((COMPACT_PRIO_ASYNC, 0), (COMPACT_PRIO_SYNC_LIGHT, 1)):
        kernel = at("scattered")
        result = try_to_compact_pages(kernel, context(kernel), 4, MIN, priority)
        assert result == COMPACT_COMPLETE
        assert [zone.compact.shift for zone in kernel.zones] == [shift, shift]


def test_deferred_zones_are_left_out_except_at_full_priority():
    kernel = at("scattered")
    for zone in kernel.zones:
        defer_compaction(zone, 1)
    request = context(kernel)
    assert (
        try_to_compact_pages(kernel, request, 4, MIN, COMPACT_PRIO_SYNC_LIGHT) == COMPACT_DEFERRED
    )
    assert not kernel.vm_events["compact_migrate_scanned"]
    assert try_to_compact_pages(kernel, request, 4, MIN, COMPACT_PRIO_SYNC_FULL) == COMPACT_COMPLETE


def test_the_best_result_of_all_zones_counts():
    kernel = at("scattered")
    defer_compaction(kernel.zones[1], 1)
    kernel.zones[0].vm_stat = 0  # no room there
    assert try_to_compact_pages(kernel, context(kernel), 2, MIN, 1) == COMPACT_DEFERRED
    assert try_to_compact_pages(kernel, context(kernel, "GFP_NOIO"), 2, MIN, 1) == COMPACT_SKIPPED


def test_a_block_that_is_there_already_is_a_success_without_work():
    kernel = at("roomy")
    request = context(kernel)
    kernel.zones[1].compact.order_failed = 3
    assert try_to_compact_pages(kernel, request, 4, MIN, COMPACT_PRIO_SYNC_LIGHT) == COMPACT_SUCCESS
    assert not kernel.vm_events["compact_migrate_scanned"]
    assert kernel.zones[1].compact.order_failed == 5


# -- the scanners --------------------------------------------------------------------------------------


def test_pages_move_from_the_low_end_to_the_high_end():
    kernel, zone = small()
    kernel.record()
    assert run(kernel, zone) == COMPACT_COMPLETE
    moves = [dict(e.fields) for e in kernel.events if e.name == "migrate_folio"]
    pairs = [(int(move["src"], 16), int(move["dst"], 16)) for move in moves]
    assert pairs
    assert all(src < dst for src, dst in pairs)
    assert [src for src, _ in pairs] == sorted(src for src, _ in pairs)
    blocks = [dst // BLOCK for _, dst in pairs]
    assert blocks == sorted(blocks, reverse=True)  # from the end downward, block by block
    left = list(kernel.nodes[0].pages(INACTIVE_FILE))
    assert min(left) // BLOCK > 0
    assert zone.free_head[10 * 5 + 1] or zone.free_tail[10 * 5 + 1] or zone.max_order < 10


def test_it_ends_where_the_scanners_meet():
    kernel, zone = small()
    kernel.record()
    run(kernel, zone)
    begin, end = (
        dict(e.fields)
        for e in kernel.events
        if e.name in ("mm_compaction_begin", "mm_compaction_end")
    )
    assert (begin["zone_start"], begin["zone_end"]) == ("0x0", "0x800")
    assert (begin["migrate_pfn"], begin["free_pfn"], begin["sync"]) == ("0x0", "0x600", 1)
    assert int(end["free_pfn"], 16) <= int(end["migrate_pfn"], 16)
    assert end["status"] == "complete"


def test_it_ends_as_soon_as_there_is_a_block():
    kernel, zone = small("12M")
    assert kernel.clone().alloc_pages("GFP_NOWAIT", 6) is None
    assert run(kernel, zone, order=6) == COMPACT_SUCCESS
    assert kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", 6) is not None
    moved = kernel.vm_events["pgmigrate_success"]
    assert 0 < moved <= BLOCK  # one pageblock is emptied to the end, and no more


def test_a_block_of_another_type_that_can_be_claimed_will_do():
    kernel, zone = small("12M")
    assert run(kernel, zone, order=9, kind=MIGRATE_UNMOVABLE) == COMPACT_SUCCESS
    assert kernel.alloc_pages("GFP_KERNEL", 9) is not None


def test_targets_are_the_smallest_blocks_first_and_each_from_its_start():
    kernel = Kernel("4M")
    for _ in range(2 * BLOCK):
        kernel.alloc_pages("GFP_HIGHUSER_MOVABLE")
    for pfn in (BLOCK + 5, BLOCK, *range(BLOCK + 8, BLOCK + 12)):
        kernel.free_pages(pfn)
    for pfn in range(5):
        kernel.nodes[0].folio_add_lru(pfn, INACTIVE_FILE)
    kernel.record()
    run(kernel, kernel.zones[0])
    moves = [dict(e.fields)["dst"] for e in kernel.events if e.name == "migrate_folio"]
    assert [int(dst, 16) - BLOCK for dst in moves] == [0, 5, 8, 9, 10]


def kinds_of_block(kernel, zone, kind):
    """Return the pageblocks of a type."""
    first = zone.start_pfn >> zone.pageblock_order
    return [
        n for n in range(first, zone.end_pfn >> zone.pageblock_order) if zone.pageblock[n] == kind
    ]


@pytest.mark.parametrize(
    ("kind", "priority", "direct", "moves"),
    [
        (MIGRATE_MOVABLE, COMPACT_PRIO_ASYNC, True, True),
        (MIGRATE_UNMOVABLE, COMPACT_PRIO_ASYNC, True, False),  # only blocks of its own type
        (MIGRATE_RECLAIMABLE, COMPACT_PRIO_ASYNC, True, False),
        (MIGRATE_UNMOVABLE, COMPACT_PRIO_SYNC_LIGHT, True, True),
        (MIGRATE_UNMOVABLE, COMPACT_PRIO_ASYNC, False, True),  # a thread is not so choosy
    ],
)
def test_who_empties_which_pageblocks(kind, priority, direct, moves):
    kernel, zone = small()
    run(kernel, zone, -1, kind, priority, direct)
    assert bool(kernel.vm_events["pgmigrate_success"]) is moves


def test_only_movable_pageblocks_are_filled():
    kernel, zone = small()
    top = (zone.end_pfn - 1) >> zone.pageblock_order
    move_freepages_block(zone, top << 9, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE)
    before = [pfn for pfn in kernel.nodes[0].pages(INACTIVE_FILE) if pfn >> 9 == top]
    run(kernel, zone)
    after = [pfn for pfn in kernel.nodes[0].pages(INACTIVE_FILE) if pfn >> 9 == top]
    assert sorted(after) == sorted(before)


def test_a_pageblock_that_is_free_as_a_whole_is_left_alone():
    kernel, zone = small()
    top = (zone.end_pfn - 1) >> zone.pageblock_order << zone.pageblock_order
    for pfn in [pfn for pfn in kernel.nodes[0].pages(INACTIVE_FILE) if pfn >= top]:
        kernel.free_pages(pfn)
    run(kernel, zone)
    assert not [pfn for pfn in kernel.nodes[0].pages(INACTIVE_FILE) if pfn >= top]


def test_pages_that_cannot_move_stay():
    kernel, zone = small()
    pfns = list(kernel.nodes[0].pages(INACTIVE_FILE))
    held = pfns[:5]
    for pfn in held:
        kernel.get_page(pfn)
    driver = kernel.alloc_pages("GFP_HIGHUSER_MOVABLE")  # a driver's, whatever its mask says
    run(kernel, zone)
    assert set(held) <= set(kernel.nodes[0].pages(INACTIVE_FILE))
    assert kernel.snapshot().page(driver).kind.allocated
    assert kernel.vm_events["pgmigrate_success"] > 0
    assert kernel.dmesg() == ""


def test_a_pageblock_that_begins_before_its_zone_is_compacted_too():
    """ZONE_DMA begins at page 1."""
    kernel = boot("128M", anon="")
    dma = kernel.zones[0]
    assert dma.start_pfn == 1
    take_down_to(kernel, kernel.zones[1], 0)
    kernel.read_file("14M")
    pages = sorted(kernel.nodes[0].pages(INACTIVE_FILE))
    assert pages[0] < BLOCK
    for pfn in [pfn for pfn in pages if pfn % 4]:
        kernel.free_pages(pfn)
    kernel.record()
    run(kernel, dma)
    assert min(kernel.nodes[0].pages(INACTIVE_FILE)) >= BLOCK
    begin = next(dict(e.fields) for e in kernel.events if e.name == "mm_compaction_begin")
    assert begin["migrate_pfn"] == "0x1"


def test_events_of_the_scanners():
    kernel, zone = small()
    kernel.record()
    run(kernel, zone)
    kinds = {event.name for event in kernel.events}
    assert kinds >= {"mm_compaction_isolate_migratepages", "mm_compaction_isolate_freepages"}
    for event in kernel.events:
        if event.name.startswith("mm_compaction_isolate"):
            fields = dict(event.fields)
            assert fields["nr_taken"] <= fields["nr_scanned"] <= BLOCK
    scanned = sum(
        dict(e.fields)["nr_scanned"] for e in kernel.events
        if e.name == "mm_compaction_isolate_migratepages"
    )  # fmt: skip
    assert kernel.vm_events["compact_migrate_scanned"] == scanned


def test_compact_memory_compacts_every_zone():
    kernel = boot("64M")
    kernel.record()
    kernel.compact_memory()
    zones = [dict(e.fields)["zone_start"] for e in kernel.events if e.name == "mm_compaction_begin"]
    assert zones == [f"{zone.start_pfn:#x}" for zone in kernel.zones]
    assert not kernel.nodes[0].kswapd_running
    assert Kernel("1M").compact_memory() is None  # no page of it can move


# -- nothing is lost -----------------------------------------------------------------------------------


def inventory(kernel):
    """Count what there is: pages of every kind and owner, pages of each task, list and dirtiness."""
    snapshot = kernel.snapshot()
    pages = {}
    for pfn, byte in enumerate(snapshot.pages):
        if byte >> 4:
            key = (byte >> 4 if byte >> 4 >= 8 else 0, snapshot.owner_names[snapshot.owners[pfn]]
                   if byte >> 4 >= 8 else "")  # fmt: skip
            pages[key] = pages.get(key, 0) + (1 << (byte & 15))
    lists = {
        (lru, bool(kernel.mem_map.lru[pfn] & LRU_DIRTY)): 0
        for node in kernel.nodes for lru in (ACTIVE_ANON, INACTIVE_FILE) for pfn in node.pages(lru)
    }  # fmt: skip
    for node in kernel.nodes:
        for lru in (ACTIVE_ANON, INACTIVE_FILE):
            for pfn in node.pages(lru):
                lists[lru, bool(kernel.mem_map.lru[pfn] & LRU_DIRTY)] += 1
    tasks = [(task.comm, len(task.anon)) for task in kernel.tasks]
    free = sum(zone.free_pages + sum(pcp.count for pcp in zone.pcps) for zone in kernel.zones)
    return {key: count for key, count in pages.items() if key[0]}, lists, tasks, free


def check_identity(kernel):
    """Check that every page on a list knows its list, its owner, and its task."""
    for node in kernel.nodes:
        for lru in range(1, 6):
            for pfn in node.pages(lru):
                assert kernel.mem_map.lru[pfn] & 15 == lru
                assert kernel.page_zone(pfn).nid == node.nid
    snapshot = kernel.snapshot()
    for task in kernel.tasks:
        for pfn in task.anon:
            assert snapshot.page(pfn).owner == f"{task.comm} [{task.pid}]"
            assert kernel.mem_map.lru[pfn] & 15 in (1, 2)


@settings(max_examples=60)
@given(
    ram=st.sampled_from(("2M", "4M", "8M")),
    steps=st.lists(
        st.tuples(st.sampled_from(("file", "dirty", "fork", "kernel", "punch")), st.integers(1, 300)),
        min_size=2, max_size=8,
    ),
    punch=st.integers(2, 5), order=st.sampled_from((-1, 2, 5, 9)),
    kind=st.integers(0, 2), priority=st.integers(0, 2), pcp=st.booleans(),
)  # fmt: skip
def test_whatever_is_moved_nothing_is_lost(ram, steps, punch, order, kind, priority, pcp):
    kernel = Kernel(ram, pcp=pcp)
    for what, count in steps:
        size = count << 12
        if what in ("file", "dirty"):
            kernel.read_file(size, dirty=what == "dirty")
        elif what == "fork" and count < kernel.zones[0].free_pages // 2:
            kernel.fork("task", anon=size, oom_score_adj=-1000)
        elif what == "kernel":
            for _ in range(count):
                kernel.alloc_pages("GFP_NOWAIT", owner="driver")
        else:
            for pfn in list(kernel.nodes[0].pages(INACTIVE_FILE))[::punch]:
                kernel.free_pages(pfn)
    before = inventory(kernel)
    run(kernel, kernel.zones[0], order, kind, priority)
    assert inventory(kernel) == before
    check_snapshot(kernel.snapshot())
    check_identity(kernel)
    kernel.compact_memory()
    assert inventory(kernel) == before
    twin = kernel.clone()
    assert twin.snapshot() == kernel.snapshot()
