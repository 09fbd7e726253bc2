"""kswapd: who wakes it, when it runs, how far it goes, and when it gives up."""

import pytest

from kmemkit import Kernel
from kmemkit.mm import kswapd
from kmemkit.mm.kswapd import NEVER, TICK_NS, balance_pgdat, pgdat_balanced, wakeup_kswapd
from kmemkit.mm.mmzone import HIGH, LOW, MIN, ZONE_RECLAIM_ACTIVE
from kmemkit.mm.swap import INACTIVE_FILE, LRU_DIRTY
from kmemkit.mm.vmscan import MIN_LRU_BATCH
from tests.mm.moments import at, boot, squeeze, take_down_to

KERNEL, NOWAIT = 0xCC0, 0x2800


def names(kernel):
    return [event.name for event in kernel.events]


def short(part=1.0, mark=LOW, files="64M", **options):
    """Return a machine with files and so much of a mark free."""
    kernel = boot(**options)
    if files:
        kernel.read_file(files)
        kernel.sleep(200)
    squeeze(kernel, mark, part)
    return kernel


# -- waking ------------------------------------------------------------------------------------------


def test_it_is_woken_below_the_low_mark_and_runs_to_the_high_mark():
    kernel = short()
    kernel.record()
    assert not kernel.nodes[0].kswapd_running
    kernel.alloc_pages("GFP_KERNEL")
    node = kernel.nodes[0]
    assert node.kswapd_running
    kernel.sleep(1)
    assert not node.kswapd_running
    assert pgdat_balanced(node, 0, 2)
    assert [name for name in names(kernel) if "kswapd" in name] == [
        "mm_vmscan_wakeup_kswapd", "mm_vmscan_kswapd_wake", "mm_vmscan_kswapd_sleep",
    ]  # fmt: skip
    assert kernel.vm_events["pageoutrun"] >= 1
    assert kernel.vm_events["pgsteal_kswapd"] > 0


def test_a_zone_with_enough_is_left_asleep():
    kernel = boot()
    kernel.record()
    wakeup_kswapd(kernel, kernel.zones[1], KERNEL, 0, 2)
    assert not kernel.nodes[0].kswapd_running
    assert "mm_vmscan_wakeup_kswapd" not in names(kernel)


def test_a_boost_wakes_it_though_all_marks_are_passed():
    kernel = boot()
    kernel.zones[0].watermark_boost = 1
    wakeup_kswapd(kernel, kernel.zones[1], KERNEL, 0, 2)
    assert kernel.nodes[0].kswapd_running


def test_a_boost_above_the_request_s_zones_does_not():
    kernel = boot()
    kernel.zones[1].watermark_boost = 1
    wakeup_kswapd(kernel, kernel.zones[0], KERNEL, 0, 0)
    assert not kernel.nodes[0].kswapd_running


def test_an_unmanaged_zone_wakes_nobody():
    kernel = short()
    kernel.zones[1].managed = 0
    wakeup_kswapd(kernel, kernel.zones[1], KERNEL, 0, 2)
    assert not kernel.nodes[0].kswapd_running


def test_order_and_zone_are_the_highest_asked_for():
    kernel = short()
    node = kernel.nodes[0]
    for order, highest in ((3, 1), (2, 2), (5, 0)):
        wakeup_kswapd(kernel, kernel.zones[1], KERNEL, order, highest)
    assert (node.kswapd_order, node.kswapd_highest_zoneidx) == (5, 2)
    kernel.sleep(100)
    assert (node.kswapd_order, node.kswapd_highest_zoneidx) == (0, 0)


def test_each_node_has_its_own():
    kernel = Kernel("256M", nodes=2, cpus=2, pcp=False)
    for zone in kernel.node_zones(1):
        take_down_to(kernel, zone, zone.watermark[MIN] // 2)
    assert kernel.alloc_pages("GFP_KERNEL|__GFP_THISNODE|__GFP_NORETRY", nid=1) is None
    assert kernel.vm_events["pageoutrun"] > 0
    assert kernel.nodes[1].kswapd_failures > 0
    assert kernel.nodes[0].kswapd_failures == 0


# -- balanced ----------------------------------------------------------------------------------------


def test_one_zone_above_the_high_mark_is_enough():
    kernel = boot()
    dma, dma32 = kernel.zones
    node = kernel.nodes[0]
    take_down_to(kernel, dma32, 0)
    assert pgdat_balanced(node, 0, 2)  # DMA has enough
    take_down_to(kernel, dma, dma.watermark[HIGH] + dma.lowmem_reserve[2])
    assert not pgdat_balanced(node, 0, 2)
    assert pgdat_balanced(node, 0, 0)  # for those who can use DMA only it has


def test_balanced_needs_a_block_of_the_order():
    kernel = at("scattered")
    assert pgdat_balanced(kernel.nodes[0], 0, 2)
    assert not pgdat_balanced(kernel.nodes[0], 1, 2)


def test_a_boost_counts_and_no_zone_at_all_is_balanced():
    kernel = boot()
    node = kernel.nodes[0]
    for zone in kernel.zones:
        zone.watermark_boost = zone.managed
    assert not pgdat_balanced(node, 0, 2)
    for zone in kernel.zones:
        zone.managed = 0
    assert pgdat_balanced(node, 0, 2)


def test_near_the_marks_the_cpus_counts_are_added_up():
    kernel = boot()
    dma, zone = kernel.zones
    take_down_to(kernel, dma, 0)
    take_down_to(kernel, zone, zone.watermark[HIGH] - 5)
    zone.vm_stat, zone.pcps[0].stat_diff = zone.watermark[HIGH] + 5, -10
    assert pgdat_balanced(kernel.nodes[0], 0, 2)
    zone.percpu_drift_mark = zone.watermark[HIGH] + 100
    assert not pgdat_balanced(kernel.nodes[0], 0, 2)


# -- when it gets a CPU --------------------------------------------------------------------------------


def test_a_request_that_does_not_wait_gives_it_a_cpu_at_the_next_tick():
    kernel = short()
    kernel.now = kernel.now // TICK_NS * TICK_NS + TICK_NS // 2
    free = kernel.zones[1].free_pages
    kernel.alloc_pages("GFP_ATOMIC")
    assert kernel.nodes[0].kswapd_running
    assert kernel.due == kernel.nodes[0].kswapd_due == (kernel.now // TICK_NS + 1) * TICK_NS
    calls = 1
    while kernel.nodes[0].kswapd_running:
        kernel.alloc_pages("GFP_ATOMIC")
        calls += 1
    assert calls == TICK_NS // 2 // kernel.CALL_NS
    assert kernel.zones[1].free_pages > free
    assert kernel.due == NEVER


@pytest.mark.parametrize("offset", [0, 1, Kernel.CALL_NS - 1, Kernel.CALL_NS])
def test_it_gets_its_cpu_with_the_same_request_whether_somebody_records_or_not(offset):
    runs = []
    for recording in (True, False):
        kernel = Kernel("128M")
        kernel.read_file("64M")
        kernel.alloc_pages("GFP_KERNEL", 3)
        kernel.zones[1].watermark_boost = 1
        wakeup_kswapd(kernel, kernel.zones[1], KERNEL, 0, 2)
        kernel.zones[1].watermark_boost = 0
        kernel.now = kernel.due - 10 * kernel.CALL_NS + offset
        if recording:
            kernel.record()
        ran = []
        for _ in range(15):
            kernel.alloc_pages("GFP_KERNEL")
            ran.append(kernel.vm_events["pageoutrun"])
        runs.append(ran)
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[0][-1]


def test_it_gets_none_while_a_lock_is_held_on_the_only_cpu():
    for cpus, runs in ((1, False), (2, True)):
        kernel = short(cpus=cpus)
        with kernel.spin_lock():
            kernel.alloc_pages("GFP_ATOMIC")
            kernel.now += 10 * TICK_NS
            kernel.alloc_pages("GFP_ATOMIC")
            assert (not kernel.nodes[0].kswapd_running) is runs


def test_sleeping_lets_it_finish_however_much_there_is_to_do():
    kernel = short(0.9)
    kernel.zones[1].watermark[HIGH] = 3000
    kernel.alloc_pages("GFP_NOWAIT")
    assert kernel.zones[1].watermark[HIGH] - kernel.zones[1].free_pages > 2 * kswapd.SLICE_PAGES
    kernel.sleep(100)
    assert not kernel.nodes[0].kswapd_running
    assert pgdat_balanced(kernel.nodes[0], 0, 2)


def test_sleeping_takes_its_time_and_no_more():
    kernel = boot()
    for ms in (0, 1.5, 100):
        before = kernel.now
        kernel.sleep(ms)
        assert kernel.now == before + int(ms * 1_000_000)


def test_a_run_is_cut_into_slices_and_counts_once():
    kernel = short(0.9)
    kernel.zones[1].watermark[HIGH] = 3000
    node = kernel.nodes[0]
    runs = kernel.vm_events["pageoutrun"]
    wakeup_kswapd(kernel, kernel.zones[1], KERNEL, 0, 2)
    kswapd.schedule(kernel)
    assert node.kswapd_paused
    assert all(zone.flags & ZONE_RECLAIM_ACTIVE for zone in kernel.zones)
    while node.kswapd_running:
        kswapd.schedule(kernel)
    assert not any(zone.flags & ZONE_RECLAIM_ACTIVE for zone in kernel.zones)
    assert kernel.vm_events["pageoutrun"] == runs + 1


# -- the nap -----------------------------------------------------------------------------------------


def test_woken_out_of_its_nap_or_not():
    for ms, hits in ((50, 1), (150, 0)):
        kernel = short()
        kernel.alloc_pages("GFP_KERNEL")
        kernel.sleep(1)
        before = kernel.vm_events["kswapd_low_wmark_hit_quickly"]
        kernel.sleep(ms)
        squeeze(kernel, LOW)
        kernel.alloc_pages("GFP_KERNEL")
        assert kernel.vm_events["kswapd_low_wmark_hit_quickly"] - before == hits


# -- giving up ---------------------------------------------------------------------------------------


def test_after_16_runs_in_vain_the_node_is_hopeless():
    kernel = at("full")
    node = kernel.nodes[0]
    kernel.alloc_pages("GFP_NOWAIT")
    runs = []
    while node.kswapd_running:
        kswapd.schedule(kernel)
        runs.append(node.kswapd_failures)
    assert runs == list(range(1, 17))
    assert kernel.vm_events["kswapd_high_wmark_hit_quickly"] == 15
    assert kernel.alloc_pages("GFP_NOWAIT") is None
    assert not node.kswapd_running
    assert [r.key for r in kernel.why().reasons if r.key.startswith("kswapd_")] == [
        "kswapd_hopeless", "kswapd_hopeless",
    ]  # fmt: skip


def test_a_hopeless_node_has_hope_again_once_somebody_reclaims():
    kernel = at("files")
    kernel.nodes[0].kswapd_failures = 16
    kernel.alloc_pages("GFP_KERNEL|__GFP_NORETRY")
    assert kernel.nodes[0].kswapd_failures == 0
    squeeze(kernel, LOW)
    kernel.alloc_pages("GFP_NOWAIT")
    assert kernel.nodes[0].kswapd_running


def test_a_boosted_run_in_vain_counts_too():
    kernel = boot()
    node = kernel.nodes[0]
    kernel.zones[1].watermark_boost = 100
    balance_pgdat(kernel, node, 0, 2)
    assert node.kswapd_failures == 1
    balance_pgdat(kernel, node, 0, 2)  # no boost is left, and all zones are balanced
    assert node.kswapd_failures == 1


# -- what it does --------------------------------------------------------------------------------------


def test_a_boost_is_worked_off_without_writing_and_then_taken_off():
    kernel = boot(anon="8M")
    kernel.swapon("64M")
    kernel.read_file("16M", dirty=True)
    zone = kernel.zones[1]
    zone.watermark_boost = 512
    node = kernel.nodes[0]
    dirty = node.nr(INACTIVE_FILE)
    balance_pgdat(kernel, node, 0, 2)
    assert zone.watermark_boost == 0
    assert node.nr(INACTIVE_FILE) == dirty
    assert kernel.nr_swap_pages == kernel.total_swap_pages

    kernel.read_file("16M")
    for pfn in node.pages(INACTIVE_FILE):
        kernel.mem_map.lru[pfn] &= ~LRU_DIRTY
    zone.watermark_boost = 512
    before = node.nr(INACTIVE_FILE)
    balance_pgdat(kernel, node, 0, 2)
    assert before - node.nr(INACTIVE_FILE) >= 512
    assert zone.watermark_boost == 0


def test_a_boost_is_worked_off_at_1_1024_of_the_lists_at_most(monkeypatch):
    kernel = boot()
    kernel.read_file("64M")
    kernel.zones[1].watermark_boost = 512
    real, priorities = kswapd.vmscan.shrink_node, []

    def shrink(kernel, node, sc):
        priorities.append(sc.priority)
        real(kernel, node, sc)

    monkeypatch.setattr(kswapd.vmscan, "shrink_node", shrink)
    balance_pgdat(kernel, kernel.nodes[0], 0, 2)
    assert priorities == [12, 11, *[10] * 6]  # 64 pages each


def test_what_is_boosted_during_its_run_stays():
    kernel = short()
    zone = kernel.zones[1]
    zone.watermark_boost = 300
    real = kswapd.vmscan.shrink_node

    def shrink(*args):
        real(*args)
        zone.watermark_boost = 500

    kswapd.vmscan.shrink_node = shrink
    try:
        balance_pgdat(kernel, kernel.nodes[0], 0, 2)
    finally:
        kswapd.vmscan.shrink_node = real
    assert zone.watermark_boost == 200


def test_a_shortage_comes_before_a_boost():
    kernel = boot()
    kernel.read_file("64M", dirty=True)
    squeeze(kernel, MIN, 0.5)
    kernel.zones[1].watermark_boost = 50
    balance_pgdat(kernel, kernel.nodes[0], 0, 2)
    assert kernel.vm_events["nr_vmscan_write"] > 0
    assert kernel.zones[1].watermark_boost == 0


def test_for_a_block_it_frees_twice_its_size_and_leaves_the_rest_to_kcompactd():
    kernel = at("holes")
    node = kernel.nodes[0]
    for pfn in list(node.pages(INACTIVE_FILE))[::2]:
        node.folio_del_lru(pfn)  # a driver has it now: no big block will ever come back
    assert not pgdat_balanced(node, 4, 2)
    assert balance_pgdat(kernel, node, 4, 2) == 0
    assert 2 << 4 <= kernel.vm_events["pgsteal_kswapd"] <= 2 * MIN_LRU_BATCH


def test_kcompactd_is_woken_for_the_block_that_kswapd_was_woken_for():
    kernel = at("holes")
    wakeup_kswapd(kernel, kernel.zones[1], KERNEL, 4, 2)
    kernel.sleep(100)
    assert kernel.vm_events["compact_daemon_wake"] <= 1
    assert pgdat_balanced(kernel.nodes[0], 4, 2)

    kernel = at("holes")
    kernel.zones[1].watermark[HIGH] = kernel.zones[1].free_pages + 50
    kernel.zones[0].watermark[HIGH] = kernel.zones[0].managed
    wakeup_kswapd(kernel, kernel.zones[1], KERNEL, 0, 2)
    kernel.sleep(100)
    assert kernel.vm_events["pageoutrun"] == 1
    assert kernel.vm_events["compact_daemon_wake"] == 0  # single pages need no blocks


def test_kcompactd_goes_on_where_kswapd_is_content_with_single_pages():
    kernel = at("holes")
    node = kernel.nodes[0]
    for pfn in list(node.pages(INACTIVE_FILE))[::2]:
        node.folio_del_lru(pfn)  # a driver has it now: reclaim alone makes no block
    wakeup_kswapd(kernel, kernel.zones[1], KERNEL, 4, 2)
    kswapd.schedule(kernel)
    assert not node.kswapd_running
    assert kernel.vm_events["pageoutrun"] == kernel.vm_events["compact_daemon_wake"] == 1
    assert kernel.vm_events["pgmigrate_success"] > 0


def test_after_a_boost_kcompactd_makes_whole_pageblocks():
    kernel = at("holes")
    for pfn in kernel.nodes[0].pages(INACTIVE_FILE):
        kernel.mem_map.lru[pfn] |= LRU_DIRTY  # a boosted run may drop none of them
    kernel.zones[1].watermark_boost = 100
    wakeup_kswapd(kernel, kernel.zones[1], KERNEL, 0, 2)
    kernel.sleep(100)
    assert kernel.vm_events["compact_daemon_wake"] == 1
    assert kernel.vm_events["pgmigrate_success"] > 0
    assert any(zone.free_head[5 * 9 + 1] or zone.free_tail[5 * 9 + 1] for zone in kernel.zones)


@pytest.mark.parametrize(("gfp", "woken"), [(NOWAIT, True), (KERNEL, False)])
def test_a_hopeless_node_has_kcompactd_for_those_who_cannot_wait(gfp, woken):
    kernel = at("holes")
    kernel.nodes[0].kswapd_failures = 16
    wakeup_kswapd(kernel, kernel.zones[1], gfp, 4, 2)
    assert bool(kernel.nodes[0].kcompactd_order) is woken
    assert kernel.vm_events["pgmigrate_success"] == 0  # it has no CPU yet
    kernel.sleep(10)
    assert bool(kernel.vm_events["pgmigrate_success"]) is woken


def test_kcompactd_cannot_help_the_interrupt_that_woke_it():
    kernel = at("holes")
    kernel.nodes[0].kswapd_failures = 16
    with kernel.hardirq():
        assert kernel.alloc_pages("GFP_ATOMIC", 4) is None
    kernel.sleep(10)
    assert kernel.alloc_pages("GFP_ATOMIC|__GFP_MOVABLE", 4) is not None
