"""Which pages reclaim takes, in which order, and which it must leave alone."""

import pytest

from kmemkit import Kernel
from kmemkit import gfp as flags
from kmemkit.mm.freelist import prepare_alloc_pages
from kmemkit.mm.mmzone import HIGH, MIN
from kmemkit.mm.swap import (
    ACTIVE_ANON,
    ACTIVE_FILE,
    INACTIVE_ANON,
    INACTIVE_FILE,
    LRU_DIRTY,
    LRU_MASK,
)
from kmemkit.mm.vmscan import (
    MIN_LRU_BATCH,
    SWAP_CLUSTER_MAX,
    ScanControl,
    inactive_is_low,
    shrink_node,
    try_to_free_pages,
    zone_reclaimable_pages,
)
from tests.mm.moments import boot, take_down_to

#: Masks by what their reclaim may do: drop clean pages only, swap as well, anything.
NOIO, NOFS, ALL = "GFP_NOIO", "GFP_NOFS", "GFP_KERNEL"


def reclaim(kernel, gfp, order=0):
    """Reclaim for a request; return the number of pages."""
    context = prepare_alloc_pages(kernel, flags.as_mask(gfp), 0)
    return try_to_free_pages(kernel, context, order)


def listed(kernel, lru):
    return list(kernel.nodes[0].pages(lru))


def filled(*, clean=0, dirty=0, anon=0, slab=0, swap=0, ram="64M"):
    """Return a machine with so many pages of each kind, and no others on a list."""
    kernel = boot(ram, anon="")
    for pages, call in ((dirty, lambda size: kernel.read_file(size, dirty=True)),
                        (clean, kernel.read_file), (slab, kernel.grow_slab)):  # fmt: skip
        if pages:
            assert call(pages << 12) == pages
    if anon:
        kernel.fork("program", anon=anon << 12)
    if swap:
        kernel.swapon(swap << 12)
    return kernel


# -- what, and in which order ------------------------------------------------------------------------


def test_the_oldest_pages_go_first():
    kernel = filled(clean=500)
    pages = listed(kernel, INACTIVE_FILE)
    assert reclaim(kernel, ALL) == MIN_LRU_BATCH
    assert listed(kernel, INACTIVE_FILE) == pages[MIN_LRU_BATCH:]
    snapshot = kernel.snapshot()
    assert not any(snapshot.page(pfn).kind.allocated for pfn in pages[:MIN_LRU_BATCH])
    assert not any(kernel.mem_map.lru[pfn] for pfn in pages[:MIN_LRU_BATCH])


def test_a_direct_reclaimer_is_content_with_32_pages():
    kernel = filled(clean=40)
    assert reclaim(kernel, ALL) == 40  # one batch takes what there is
    assert kernel.vm_events["pgscan_direct"] == kernel.vm_events["pgsteal_direct"] == 40
    assert reclaim(kernel, ALL) == 0
    assert kernel.vm_events["allocstall_normal"] == 2
    assert SWAP_CLUSTER_MAX == 32


@pytest.mark.parametrize(
    ("kinds", "order"),
    [
        ({"clean": 100, "slab": 100, "anon": 100, "swap": 1000}, ["clean", "slab", "anon"]),
        ({"dirty": 100, "slab": 100, "anon": 100, "swap": 1000}, ["dirty", "slab", "anon"]),
        ({"slab": 100, "anon": 100, "swap": 1000}, ["slab", "anon"]),
        ({"anon": 100, "swap": 1000}, ["anon"]),
    ],
)
def test_files_go_before_slabs_and_slabs_before_anonymous_pages(kinds, order):
    kernel = filled(**kinds)
    node = kernel.nodes[0]

    def left():
        return {
            "clean": node.nr(INACTIVE_FILE, ACTIVE_FILE), "slab": len(node.slab),
            "dirty": node.nr(INACTIVE_FILE, ACTIVE_FILE), "anon": node.nr(INACTIVE_ANON, ACTIVE_ANON),
        }  # fmt: skip

    gone = []
    while reclaim(kernel, ALL):
        now = left()
        gone += [kind for kind in order if not now[kind] and kind not in gone]
    assert gone == order
    assert kernel.vm_events["pswpout"] == 100


@pytest.mark.parametrize(
    ("gfp", "kinds", "freed"),
    [
        (NOIO, {"clean": 50}, 50),
        (NOIO, {"dirty": 50}, 0),
        (NOIO, {"anon": 50, "swap": 100}, 0),
        (NOFS, {"dirty": 50}, 0),
        (NOFS, {"anon": 50, "swap": 100}, 50),  # swapping needs no file system
        (ALL, {"dirty": 50}, 50),
        (ALL, {"anon": 50, "swap": 100}, 50),
        (ALL, {"anon": 50}, 0),  # no swap
        # dentries and inodes belong to file systems, which look at the mask themselves
        (NOFS, {"slab": 50}, 0),
        (NOIO, {"slab": 50}, 0),
        (ALL, {"slab": 50}, 50),
    ],
)
def test_what_a_mask_lets_reclaim_do(gfp, kinds, freed):
    kernel = filled(**kinds)
    total = 0
    while (progress := reclaim(kernel, gfp)) > 0:
        total += progress
    assert total == freed


def test_dirty_pages_in_front_do_not_hide_clean_ones():
    """The last pass looks at the whole list, however many of its oldest pages have to stay."""
    kernel = filled(dirty=3000, clean=200)
    assert reclaim(kernel, NOFS) >= SWAP_CLUSTER_MAX
    assert (
        sum(bool(kernel.mem_map.lru[pfn] & LRU_DIRTY) for pfn in listed(kernel, INACTIVE_FILE))
        == 3000
    )


def test_pages_that_must_stay_go_to_the_young_end():
    kernel = filled(dirty=64, clean=64)
    pages = listed(kernel, INACTIVE_FILE)
    assert reclaim(kernel, NOFS) == 64
    assert listed(kernel, INACTIVE_FILE) == pages[:64]
    assert all(kernel.mem_map.lru[pfn] == INACTIVE_FILE | LRU_DIRTY for pfn in pages[:64])


def test_a_page_somebody_uses_stays():
    kernel = filled(clean=200)
    held = listed(kernel, INACTIVE_FILE)[:10]
    for pfn in held:
        kernel.get_page(pfn)
    while reclaim(kernel, ALL):
        pass
    assert sorted(listed(kernel, INACTIVE_FILE)) == sorted(held)
    assert kernel.dmesg() == ""
    for pfn in held:
        kernel.put_page(pfn)
    assert reclaim(kernel, ALL) == 10


def test_writing_takes_longer_than_dropping():
    times = []
    for kind in ("clean", "dirty"):
        kernel = filled(**{kind: 64})
        before = kernel.now
        reclaim(kernel, ALL)
        times.append(kernel.now - before)
    assert times[1] > 10 * times[0]


# -- swap --------------------------------------------------------------------------------------------


def test_swapped_pages_stay_with_their_task_until_it_exits():
    kernel = filled(anon=300, swap=200)
    task = kernel.tasks[-1]
    while reclaim(kernel, ALL):
        pass
    assert (len(task.anon), task.swapents, task.rss, task.total_vm) == (100, 200, 100, 300)
    assert (kernel.nr_swap_pages, kernel.total_swap_pages) == (0, 200)
    assert kernel.nodes[0].nr(INACTIVE_ANON, ACTIVE_ANON) == 100  # no room in swap for these
    kernel.exit(task)
    assert kernel.nr_swap_pages == 200


def test_where_pages_went_is_noted_in_pages_of_the_kernel():
    kernel = filled(anon=2000, swap=4000)
    task = kernel.tasks[-1]
    before = len(task.kernel_pages)
    while reclaim(kernel, ALL):
        pass
    new = task.kernel_pages[before:]
    assert len(new) == 2000 // 448
    snapshot = kernel.snapshot()
    assert {snapshot.page(pfn).owner for pfn in new} == {"program [2]"}


# -- zones -------------------------------------------------------------------------------------------


def test_pages_of_zones_the_request_cannot_use_stay():
    kernel = filled(clean=6000, ram="128M")
    take_down_to(kernel, kernel.zones[1], 0)
    kernel.read_file("8M")
    dma, dma32 = (set(range(zone.start_pfn, zone.end_pfn)) for zone in kernel.zones)
    before = set(listed(kernel, INACTIVE_FILE))
    assert before & dma
    assert before & dma32
    assert reclaim(kernel, "GFP_KERNEL|GFP_DMA") > 0
    gone = before - set(listed(kernel, INACTIVE_FILE))
    assert gone <= dma
    assert kernel.vm_events["allocstall_dma"] == 1
    assert reclaim(kernel, "GFP_KERNEL") > 0
    assert before - set(listed(kernel, INACTIVE_FILE)) - gone <= dma32  # highest zone first


def test_a_lower_zone_is_looked_at_where_the_higher_one_gives_nothing():
    kernel = filled(dirty=3000, ram="128M")
    take_down_to(kernel, kernel.zones[1], 0)
    kernel.read_file("2M")
    assert {kernel.page_zone(pfn).name for pfn in listed(kernel, INACTIVE_FILE)} == {"DMA", "DMA32"}
    assert reclaim(kernel, NOFS) > 0


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ({"clean": 100, "dirty": 20, "anon": 30}, 120),
        ({"clean": 100, "anon": 30, "swap": 10}, 130),
        ({"anon": 30}, None),  # nothing: free pages stand for it
        ({"slab": 100}, None),
    ],
)
def test_reclaimable_pages_of_a_zone(kinds, expected):
    kernel = filled(ram="128M", **kinds)
    zone = kernel.zones[1]
    assert zone_reclaimable_pages(kernel, zone) == (expected or zone.free_pages)
    assert zone_reclaimable_pages(kernel, kernel.zones[0]) == kernel.zones[0].free_pages


def test_every_node_of_the_request_is_scanned_in_each_pass():
    kernel = Kernel("256M", nodes=2, cpus=2, pcp=False)
    for cpu in (0, 1):
        kernel.cpu = cpu
        kernel.read_file("20M")
    kernel.cpu = 0
    counts = [node.nr(INACTIVE_FILE) for node in kernel.nodes]
    assert all(counts)
    reclaim(kernel, ALL)
    assert all(
        node.nr(INACTIVE_FILE) < count for node, count in zip(kernel.nodes, counts, strict=True)
    )


# -- how much is looked at -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inactive", "active", "low"),
    [
        (100, 100, False), (99, 100, True), (0, 1, True), (0, 0, False),
        (1 << 17, (1 << 17) - 1, False),
        (1 << 16, 3 << 16, False), ((1 << 16) - 1, (3 << 16) + 1, True),  # 1 GiB: 3
        (10 << 16, 30 << 16, False), (4 << 16, 36 << 16, False), ((4 << 16) - 1, 40 << 16, True),
    ],
)  # fmt: skip
def test_inactive_list_is_low(inactive, active, low):
    """Below 1 GiB of pages the lists are equal; 1 GiB 3 : 1, 10 GiB 10 : 1."""
    node = filled().nodes[0]
    sizes = {INACTIVE_FILE: inactive, ACTIVE_FILE: active}

    class Sized:
        def nr(self, lru):
            return sizes[lru]

    assert inactive_is_low(Sized(), INACTIVE_FILE, ACTIVE_FILE) is low
    assert not inactive_is_low(node, INACTIVE_FILE, ACTIVE_FILE)


def test_active_pages_move_down_before_they_go():
    kernel = filled(anon=1000, swap=2000)
    node = kernel.nodes[0]
    assert (node.nr(INACTIVE_ANON), node.nr(ACTIVE_ANON)) == (0, 1000)
    oldest = listed(kernel, ACTIVE_ANON)[:64]
    reclaim(kernel, ALL)
    assert not set(oldest) & set(kernel.tasks[-1].anon)
    for lru in (INACTIVE_ANON, ACTIVE_ANON):
        assert all(kernel.mem_map.lru[pfn] & LRU_MASK == lru for pfn in listed(kernel, lru))


@pytest.mark.parametrize(("priority", "scanned"), [(12, 64), (6, 128), (3, 1024), (0, 8000)])
def test_a_pass_looks_at_a_share_of_the_list(priority, scanned):
    kernel = filled(clean=8000, ram="128M")
    sc = ScanControl(0, 2, 1 << 30, True, True, priority=priority)
    shrink_node(kernel, kernel.nodes[0], sc)
    assert sc.nr_scanned == -(-scanned // 64) * 64 == -(-max(8000 >> priority, 1) // 64) * 64


def test_in_vain_each_pass_looks_at_twice_as_much_until_all_was_looked_at():
    """13 passes: 1/4096 to 1/128 of 8192 pages are a batch each, then 128, 256 ... 8192."""
    kernel = filled(dirty=8192, ram="128M")
    assert reclaim(kernel, NOFS) == 0
    assert kernel.vm_events["pgscan_direct"] == 6 * 64 + (2 * 8192 - 128)


def test_shrinkers_give_twice_the_share():
    kernel = filled(slab=4096)
    sc = ScanControl(0, 2, 1 << 30, True, True, priority=5)
    shrink_node(kernel, kernel.nodes[0], sc)
    assert sc.nr_reclaimed == 2 * (4096 >> 5)
    assert kernel.vm_events["slabs_scanned"] == 256


def test_reclaim_counts_as_hope_for_kswapd():
    kernel = filled(clean=100)
    kernel.nodes[0].kswapd_failures = 16
    reclaim(kernel, ALL)
    assert kernel.nodes[0].kswapd_failures == 0
    kernel = filled(dirty=100)
    kernel.nodes[0].kswapd_failures = 16
    reclaim(kernel, NOFS)
    assert kernel.nodes[0].kswapd_failures == 16


# -- costly requests -----------------------------------------------------------------------------------


def costly_world(free_above_high):
    """Return a machine of one zone with scattered free pages, so many above the high mark."""
    kernel = boot("128M", anon="")
    for zone in kernel.zones:
        take_down_to(kernel, zone, 0)
    kernel = boot("128M", anon="")
    kernel.read_file("60M")
    dma, zone = kernel.zones
    take_down_to(kernel, dma, 0)
    take_down_to(kernel, zone, 0)
    for pfn in listed(kernel, INACTIVE_FILE)[::2][: zone.watermark[HIGH] + free_above_high]:
        kernel.free_pages(pfn)
    return kernel


@pytest.mark.parametrize(("spare", "ready"), [(2 << 4, False), ((2 << 4) + 1, True)])
def test_a_costly_request_stops_reclaiming_where_compaction_can_take_over(spare, ready):
    """Free pages above the high mark for twice the block: 2 * 2^4."""
    kernel = costly_world(spare)
    progress = reclaim(kernel, ALL, 4)
    # ZONE_DMA of the same node is not ready, so the node is scanned once in any case
    assert progress == MIN_LRU_BATCH
    kernel = costly_world(spare)
    kernel.zones[0].managed = 0
    context = prepare_alloc_pages(kernel, flags.as_mask(ALL), 0)
    from dataclasses import replace

    alone = replace(context, zonelist=context.zonelist[:1])
    assert try_to_free_pages(kernel, alone, 4) == (1 if ready else MIN_LRU_BATCH)


def test_without_io_nobody_waits_for_compaction():
    kernel = costly_world(1000)
    assert reclaim(kernel, NOIO, 4) == MIN_LRU_BATCH


def test_a_mark_that_passes_already_needs_no_reclaim():
    kernel = filled(clean=100)
    assert kernel.zones[-1].free_pages > kernel.zones[-1].watermark[MIN]
    before = listed(kernel, INACTIVE_FILE)
    assert reclaim(kernel, ALL, 4) == 1
    assert listed(kernel, INACTIVE_FILE) == before


# -- events --------------------------------------------------------------------------------------------


def test_events_of_direct_reclaim():
    kernel = filled(clean=100)
    kernel.record()
    context = prepare_alloc_pages(kernel, flags.as_mask(ALL), 0)
    try_to_free_pages(kernel, context, 2)
    assert [str(event) for event in kernel.events if event.name.startswith("mm_vmscan")] == [
        "mm_vmscan_direct_reclaim_begin: order=2 gfp_flags=GFP_KERNEL",
        "mm_vmscan_direct_reclaim_end: nr_reclaimed=64",
    ]
