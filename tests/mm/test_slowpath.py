"""The road of a request, rung by rung: what each mask does at each pressure, and why it ends there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemkit import Kernel
from kmemkit import gfp as flags
from kmemkit.mm import internal, vmscan
from kmemkit.mm.alloc_flags import gfp_pfmemalloc_flags, gfp_to_alloc_flags
from kmemkit.mm.compaction import (
    COMPACT_RESULTS,
    COMPACT_SKIPPED,
    COMPACT_SUCCESS,
    defer_compaction,
)
from kmemkit.mm.errors import Livelock, Panic
from kmemkit.mm.fallback import move_freepages_block
from kmemkit.mm.freelist import prepare_alloc_pages
from kmemkit.mm.mmzone import HIGH, LOW, MIGRATE_HIGHATOMIC, MIN
from kmemkit.mm.page_alloc import alloc_pages
from kmemkit.mm.rungs import (
    Road,
    __alloc_pages_may_oom,
    should_compact_retry,
    should_reclaim_retry,
    throttle_direct_reclaim,
)
from kmemkit.mm.sched import PF_MEMALLOC
from kmemkit.mm.swap import INACTIVE_FILE, LRU_DIRTY
from kmemkit.mm.watermark import zone_watermark_fast
from tests.mm.moments import MOMENTS, at, boot, ends, road, squeeze, take_down_to

# -- the table: mask, order and pressure decide the road --------------------------------------------

NO_KSWAPD = "GFP_KERNEL & ~__GFP_RECLAIM"
NO_DIRECT = "GFP_KERNEL & ~__GFP_DIRECT_RECLAIM"
#: One turn of the retry loop that ends in asking whether to go on: for single pages, and for more.
ONE = "kswapd reserves reclaim retry"
MORE = "kswapd reserves reclaim compact retry"
DOWN = "low kswapd min"


def turns(number, one=ONE):
    """Return so many turns of the retry loop as text."""
    return " | ".join([one] * number)


#: moment -> [(mask, order, rungs, end)]. 16 rounds without progress are allowed: the 17th is the
#: last. Half of the marks is free, all of it counts as reclaimable where nothing is: so ZONE_DMA
#: says in every round that one more could help.
TABLE = {
    "roomy": [
        ("GFP_KERNEL", 0, "low", "page"),
        ("GFP_ATOMIC", 9, "low", "page"),
        (NO_KSWAPD, 10, "low", "page"),
    ],
    "low": [
        *(
            (gfp, 0, DOWN, "page")
            for gfp in ("GFP_KERNEL", "GFP_KERNEL|__GFP_NORETRY", "GFP_NOFS", "GFP_NOIO",
                        "GFP_KERNEL|__GFP_NOFAIL", "GFP_NOWAIT", "GFP_ATOMIC", NO_DIRECT)
        ),
        (NO_KSWAPD, 0, "low min", "page"),
    ],
    "files": [
        *(
            (gfp, 0, f"{DOWN} | kswapd reserves reclaim", "page")
            for gfp in ("GFP_KERNEL", "GFP_KERNEL|__GFP_NORETRY", "GFP_KERNEL|__GFP_RETRY_MAYFAIL",
                        "GFP_KERNEL|__GFP_NOFAIL", "GFP_NOFS", "GFP_NOIO", "GFP_HIGHUSER_MOVABLE")
        ),
        # what does not move is compacted for first, costly or not; GFP_NOIO never is
        ("GFP_KERNEL", 2, f"{DOWN} compact_first | kswapd reserves reclaim", "page"),
        ("GFP_NOFS", 2, f"{DOWN} compact_first | kswapd reserves reclaim", "page"),
        ("GFP_NOIO", 2, f"{DOWN} | kswapd reserves reclaim", "page"),
        ("GFP_HIGHUSER_MOVABLE", 2, f"{DOWN} | kswapd reserves reclaim", "page"),
        ("GFP_HIGHUSER_MOVABLE", 4, f"{DOWN} compact_first | kswapd reserves reclaim", "page"),
        ("GFP_KERNEL", 4, f"{DOWN} compact_first | kswapd reserves reclaim", "page"),
        # costly, one round only, and compaction had no room: not even reclaim is tried
        ("GFP_KERNEL|__GFP_NORETRY", 4, f"{DOWN} compact_first null", "NULL"),
        *(
            (gfp, order, f"{DOWN} | kswapd reserves null", "NULL")
            for gfp in ("GFP_NOWAIT", "GFP_ATOMIC", NO_DIRECT, "GFP_NOWAIT|__GFP_NORETRY")
            for order in (0, 3, 4)
        ),
        (NO_KSWAPD, 0, "low min | reserves null", "NULL"),
        (NO_KSWAPD, 4, "low min | reserves null", "NULL"),
    ],
    "full": [
        ("GFP_KERNEL", 0, f"{DOWN} | {turns(17)} oom | kswapd reserves", "page"),
        ("GFP_KERNEL", 3, f"{DOWN} compact_first | {turns(17, MORE)} oom | kswapd reserves", "page"),
        ("GFP_HIGHUSER", 0, f"{DOWN} | {turns(17)} oom | kswapd reserves", "page"),
        ("GFP_HIGHUSER_MOVABLE", 3, f"{DOWN} | {turns(17, MORE)} oom | kswapd reserves", "page"),
        ("GFP_KERNEL|__GFP_HIGH", 0, f"{DOWN} | {turns(17)} oom | kswapd reserves", "page"),
        ("GFP_KERNEL|__GFP_NORETRY", 0, f"{DOWN} | {ONE} null", "NULL"),
        ("GFP_KERNEL|__GFP_NORETRY", 3, f"{DOWN} compact_first | {MORE} null", "NULL"),
        ("GFP_KERNEL|__GFP_NORETRY", 4, f"{DOWN} compact_first null", "NULL"),
        ("GFP_KERNEL|__GFP_RETRY_MAYFAIL", 0, f"{DOWN} | {turns(17)} oom null", "NULL"),
        (
            "GFP_KERNEL|__GFP_RETRY_MAYFAIL", 4,
            f"{DOWN} compact_first | {turns(17, MORE)} oom null", "NULL",
        ),
        ("GFP_KERNEL|__GFP_THISNODE", 0, f"{DOWN} | {turns(17)} oom null", "NULL"),
        # __GFP_NOFAIL gets past all marks once somebody was killed for it
        ("GFP_KERNEL|__GFP_NOFAIL", 0, f"{DOWN} | {turns(17)} oom", "page"),
        ("GFP_NOFS", 0, f"{DOWN} | {turns(17)} oom | {turns(17)} oom", "Livelock"),
        ("GFP_NOIO", 0, f"{DOWN} | {turns(17)} oom | {turns(17)} oom", "Livelock"),
        ("GFP_NOIO", 3, f"{DOWN} | {turns(17, MORE)} oom | {turns(17, MORE)} oom", "Livelock"),
        # costly: one round, nobody is killed; without __GFP_IO __GFP_RETRY_MAYFAIL changes nothing
        ("GFP_KERNEL", 4, f"{DOWN} compact_first | {MORE} null", "NULL"),
        ("GFP_KERNEL", 9, f"{DOWN} compact_first | {MORE} null", "NULL"),
        ("GFP_NOFS", 4, f"{DOWN} compact_first | {MORE} null", "NULL"),
        ("GFP_NOIO", 4, f"{DOWN} | {MORE} null", "NULL"),
        ("GFP_NOIO|__GFP_RETRY_MAYFAIL", 4, f"{DOWN} | {MORE} null", "NULL"),
        (
            "GFP_KERNEL|__GFP_NOFAIL", 4,
            # kswapd runs twice in each of these rounds, and gives up after 16 runs in vain
            f"{DOWN} compact_first | {turns(9, MORE + ' nofail')}", "Livelock",
        ),
        *(
            (gfp, order, f"{DOWN} | kswapd reserves null", "NULL")
            for gfp in ("GFP_NOWAIT", "GFP_ATOMIC", NO_DIRECT, "GFP_ATOMIC|__GFP_NOFAIL")
            for order in (0, 3)
        ),
    ],
    "drained": [
        ("GFP_KERNEL", 0, f"{DOWN} | {ONE} oom | kswapd reserves", "page"),
        ("GFP_KERNEL|__GFP_RETRY_MAYFAIL", 0, f"{DOWN} | {ONE} oom null", "NULL"),
        # nobody is killed for the low zones
        ("GFP_KERNEL|GFP_DMA", 0, f"{DOWN} | {ONE} oom null", "NULL"),
        ("GFP_KERNEL|GFP_DMA32", 0, f"{DOWN} | {ONE} oom null", "NULL"),
    ],
    "scattered": [
        ("GFP_KERNEL", 0, "low", "page"),
        # reclaim can do nothing, so no mark will ever be passed for a block that is not there
        ("GFP_KERNEL", 2, f"{DOWN} compact_first | {MORE} oom | kswapd reserves", "page"),
        ("GFP_KERNEL|__GFP_RETRY_MAYFAIL", 2, f"{DOWN} compact_first | {MORE} oom null", "NULL"),
        ("GFP_KERNEL", 4, f"{DOWN} compact_first | {MORE} null", "NULL"),
        ("GFP_KERNEL|__GFP_NORETRY", 4, f"{DOWN} compact_first | {MORE} null", "NULL"),
        ("GFP_NOWAIT", 1, f"{DOWN} | kswapd reserves null", "NULL"),
    ],
    "holes": [
        ("GFP_HIGHUSER_MOVABLE", 4, f"{DOWN} compact_first", "page"),
        # compaction comes before reclaim only in pageblocks of the request's own type
        ("GFP_KERNEL", 4, f"{DOWN} compact_first | kswapd reserves reclaim", "page"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("moment", "gfp", "order", "rungs", "end"),
    [
        pytest.param(moment, *row, id=f"{moment}-{row[0].replace(' ', '')}-{row[1]}")
        for moment, rows in TABLE.items()
        for row in rows
    ],
)
def test_road(moment, gfp, order, rungs, end):
    assert ends(at(moment), gfp, order) == (rungs, end)


def test_the_road_is_the_same_whether_somebody_records_or_not():
    for moment, gfp, order in (("full", "GFP_KERNEL", 0), ("holes", "GFP_HIGHUSER_MOVABLE", 4)):
        recording = at(moment)
        silent = Kernel.from_snapshot(recording.snapshot())
        assert recording.alloc_pages(gfp, order) == silent.alloc_pages(gfp, order)
        assert recording.dmesg() == silent.dmesg()
        ours, theirs = recording.snapshot(), silent.snapshot()
        assert (ours.pages, ours.lru, ours.now) == (theirs.pages, theirs.lru, theirs.now)
        assert ours.vmstat == theirs.vmstat


# -- the rules of the road, once more: any mask, any order, any task, any pressure -----------------


def obeys(kernel, gfp, order, task_flags, victim):
    """Check the last road against the rules of __alloc_pages_slowpath(), as this test has them."""
    rungs = [(rung.name, rung.round, rung.outcome) for rung in kernel.why().rungs]
    direct, io = gfp & flags.__GFP_DIRECT_RECLAIM, gfp & flags.__GFP_IO
    fs, kswapd = gfp & flags.__GFP_FS, gfp & flags.__GFP_KSWAPD_RECLAIM
    norefs = gfp & flags.__GFP_NOMEMALLOC
    memalloc = task_flags & PF_MEMALLOC
    rights = not norefs and (gfp & flags.__GFP_MEMALLOC or memalloc or victim)
    costly, nofail = order > 3, gfp & flags.__GFP_NOFAIL and direct
    movable = flags.gfp_migratetype(gfp) == 1
    names = [name for name, _, _ in rungs]
    assert names[0] == "low"
    got = [index for index, rung in enumerate(rungs) if rung[2] == "page"]
    assert got in ([], [len(rungs) - 1])  # a page ends the road
    if len(names) == 1:
        assert got
        return
    expected = ["kswapd", "min"] if kswapd else ["min"]
    assert names[1 : 1 + len(expected)] == expected
    first = direct and io and (costly or (order and not movable)) and not rights
    after = names[1 + len(expected) :]
    if after:
        assert (after[0] == "compact_first") == bool(first)
    rounds = [[name for name, turn, _ in rungs if turn == n] for n in range(1, rungs[-1][1] + 1)]
    for number, names in enumerate(rounds, 1):
        last = number == len(rounds)
        whole = ["kswapd"] * bool(kswapd) + ["reserves"]
        if direct and not memalloc:
            whole += ["reclaim"] + ["compact"] * bool(order) + ["retry"]
            gives_up = gfp & flags.__GFP_NORETRY or (
                costly and not (io and gfp & flags.__GFP_RETRY_MAYFAIL)
            )
            if not gives_up and "oom" in names:
                whole += ["oom"]
            if gives_up:
                assert "oom" not in names
        if "nofail" in names:
            assert nofail
            whole += ["nofail"]
        if last and not got and "null" in names:
            whole += ["null"]
        assert names == whole[: len(names)]
        if not last:
            assert len(names) == len(whole)
    kinds = dict(kernel.vm_events)
    assert not (kinds.get("oom_kill") and (costly or not fs or not direct))
    assert bool(kinds.get("pgscan_direct")) <= bool(direct)
    assert bool(kinds.get("compact_stall")) <= bool(order and direct and io)
    if not direct:
        assert len(rounds) <= 1  # it can't wait: the second look is the last one


MASKS = st.builds(
    lambda *bits: sum(set(bits)),
    st.sampled_from((0xC00, 0xC00, 0xC00, 0x400, 0x800, 0)),  # __GFP_RECLAIM and its halves
    st.sampled_from((0xC0, 0xC0, 0x40, 0)),  # __GFP_IO, __GFP_FS
    st.sampled_from((0, 0, 0x20)),  # __GFP_HIGH
    st.sampled_from((0, 0, 0x10000, 0x4000, 0x8000)),  # how hard to try
    st.sampled_from((0, 0, 0, 0x20000, 0x80000)),  # __GFP_MEMALLOC, __GFP_NOMEMALLOC
    st.sampled_from((0, 0x8, 0x10)),  # movable, reclaimable
    st.sampled_from((0, 0, 0x200000)),  # __GFP_THISNODE
)


@settings(max_examples=150)
@given(
    gfp=MASKS, order=st.sampled_from((0, 0, 1, 2, 3, 4, 5, 9)),
    moment=st.sampled_from(sorted(MOMENTS)),
    task_flags=st.sampled_from((0, 0, 0, PF_MEMALLOC)), victim=st.sampled_from((False, False, True)),
)  # fmt: skip
def test_every_road_obeys_the_rules(gfp, order, moment, task_flags, victim):
    kernel = at(moment)
    kernel.run_as(kernel.fork("sh", oom_score_adj=-1000)) if moment == "roomy" else None
    kernel.current.flags |= task_flags
    kernel.current.oom_victim = victim
    try:
        kernel.alloc_pages(gfp, order)
    except Livelock:
        assert gfp & flags.__GFP_NOFAIL or not gfp & flags.__GFP_FS
    obeys(kernel, gfp, order, task_flags, victim)
    assert kernel.current.flags == task_flags  # reclaim's own PF_MEMALLOC is gone again


# -- ALLOC_* flags -----------------------------------------------------------------------------------


def slow_flags(gfp, order, realtime, frames):
    """Restate gfp_to_alloc_flags() by what a request may do."""
    waits, mem = gfp & 0x400, not gfp & 0x80000
    in_task = not {"hardirq", "softirq"} & set(frames)
    high = bool(gfp & 0x20)
    rights = 0x40  # obey the cpuset
    if waits:
        high = high or (realtime and in_task)
    else:
        rights |= 0x10 if mem else 0
        rights |= 0x200 if mem and order and high else 0
        rights &= ~0x40 if high else ~0
    return rights | (0x20 if high else 0) | (gfp & 0x800)


def rescue_flags(gfp, task_flags, victim, frames):
    """Restate __gfp_pfmemalloc_flags()."""
    interrupts = {"hardirq", "softirq"} & set(frames)
    memalloc = bool(task_flags & 0x800)
    if gfp & 0x80000:
        return 0
    if gfp & 0x20000 or (memalloc and (not interrupts or "softirq" in frames)):
        return 4
    return 8 if victim and not interrupts else 0


BOOTED = Kernel("1M")


@settings(max_examples=250)
@given(
    gfp=MASKS, order=st.integers(0, 10), realtime=st.booleans(), victim=st.booleans(),
    task_flags=st.sampled_from((0, PF_MEMALLOC, 0x40000)),
    frames=st.sampled_from(
        ((), ("spinlock",), ("irqs_off",), ("rcu",), ("softirq",), ("hardirq",),
         ("softirq", "hardirq"), ("preempt_off", "hardirq"))
    ),
)  # fmt: skip
def test_flags_against_a_restatement(gfp, order, realtime, victim, task_flags, frames):
    kernel = BOOTED
    task = kernel.current
    task.realtime, task.oom_victim, task.flags = realtime, victim, task_flags
    kernel.context.frames = list(frames)
    assert gfp_to_alloc_flags(kernel, gfp, order) == slow_flags(gfp, order, realtime, frames)
    assert gfp_pfmemalloc_flags(kernel, gfp) == rescue_flags(gfp, task_flags, victim, frames)


@pytest.mark.parametrize(
    ("gfp", "order", "expected"),
    [
        ("GFP_KERNEL", 0, 0x840),
        ("GFP_KERNEL|__GFP_HIGH", 3, 0x860),
        ("GFP_ATOMIC", 0, 0x830),
        ("GFP_ATOMIC", 1, 0xA30),
        ("GFP_ATOMIC", 10, 0xA30),
        ("GFP_ATOMIC|__GFP_NOMEMALLOC", 1, 0x820),
        ("GFP_NOWAIT", 3, 0x850),
        ("__GFP_HIGH", 0, 0x30),
        ("__GFP_MOVABLE", 0, 0x50),
        ("__GFP_DIRECT_RECLAIM", 2, 0x40),
    ],
)
def test_flags_of_well_known_masks(gfp, order, expected):
    assert gfp_to_alloc_flags(Kernel("256K"), flags.as_mask(gfp), order) == expected


#: mark, mask, lowest number of free pages that passes (appendix A.2 of the facts)
LOWEST = (
    (1000, "GFP_KERNEL", 1001), (1000, "GFP_KERNEL|__GFP_HIGH", 501), (1000, "GFP_ATOMIC", 376),
    (1000, "GFP_NOWAIT", 1001), (1001, "GFP_KERNEL|__GFP_HIGH", 502), (1001, "GFP_ATOMIC", 377),
)  # fmt: skip


@pytest.mark.parametrize(("mark", "gfp", "lowest"), LOWEST)
def test_lowest_number_of_free_pages_that_passes(mark, gfp, lowest):
    kernel = Kernel("8M")
    zone = kernel.zones[0]
    alloc_flags = gfp_to_alloc_flags(kernel, flags.as_mask(gfp), 0)
    passes = []
    for zone.vm_stat in (lowest - 1, lowest):
        passes.append(zone_watermark_fast(zone, 0, mark, 2, alloc_flags))
    assert passes == [False, True]


def test_lowest_number_for_a_victim_and_for_a_block():
    zone = Kernel("8M").zones[0]
    passes = []
    for zone.vm_stat in (500, 501):
        passes.append(zone_watermark_fast(zone, 0, 1000, 2, internal.ALLOC_OOM))
    for zone.vm_stat in (1007, 1008):
        passes.append(zone_watermark_fast(zone, 3, 1000, 2, 0))
    assert passes == [False, True, False, True]


# -- situations (appendix A.4 of the facts) ----------------------------------------------------------


def test_between_low_and_min_a_request_wakes_kswapd_and_is_served():
    kernel = at("low")
    assert ends(kernel, "GFP_KERNEL") == ("low kswapd min", "page")
    assert kernel.nodes[0].kswapd_running
    assert not kernel.vm_events["allocstall_normal"]


def test_below_min_a_request_that_may_wait_reclaims_32_pages():
    kernel = at("files")
    before = kernel.nodes[0].nr(INACTIVE_FILE)
    assert kernel.alloc_pages("GFP_KERNEL|__GFP_NORETRY") is not None
    events = dict(kernel.vm_events)
    assert events["allocstall_normal"] == 1
    assert 32 <= events["pgsteal_direct"] <= 64  # lists are scanned 64 pages at a time
    assert before - kernel.nodes[0].nr(INACTIVE_FILE) >= events["pgsteal_direct"]


def first_line(kernel):
    return kernel.dmesg().partition("\n")[0]


@pytest.mark.parametrize(
    ("moment", "gfp", "order", "line"),
    [
        ("files", "GFP_ATOMIC", 0, "order:0, mode:0x820(GFP_ATOMIC)"),
        ("files", "GFP_NOWAIT", 0, ""),
        ("scattered", "GFP_KERNEL", 4, "order:4, mode:0xcc0(GFP_KERNEL)"),
        ("drained", "GFP_KERNEL|GFP_DMA", 0, "order:0, mode:0xcc1(GFP_KERNEL|GFP_DMA)"),
    ],
)
def test_what_a_failure_prints(moment, gfp, order, line):
    kernel = at(moment)
    assert kernel.alloc_pages(gfp, order) is None
    if line:
        line = f"init: page allocation failure: {line}, nodemask=(null),cpuset=/,mems_allowed=0"
    assert first_line(kernel) == line
    assert not kernel.vm_events["oom_kill"]


def test_a_block_of_order_2_is_not_costly_so_somebody_is_killed():
    kernel = at("scattered")
    assert kernel.alloc_pages("GFP_KERNEL|__GFP_COMP", 2) is not None
    assert first_line(kernel) == (
        "init invoked oom-killer: gfp_mask=0x40cc0(GFP_KERNEL|__GFP_COMP), order=2, oom_score_adj=0"
    )
    assert kernel.tasks[-1].exited


def test_nobody_is_killed_for_low_zones_and_without_zone_dma_nothing_is_said():
    kernel = at("drained")
    kernel.zones[0].managed = 0
    assert ends(kernel, "GFP_KERNEL|GFP_DMA")[1] == "NULL"
    assert kernel.dmesg() == ""


@pytest.mark.parametrize(("moment", "found"), [("roomy", True), ("low", False)])
def test_the_last_look_before_a_kill_asks_the_high_mark(moment, found):
    """It is there for what a kill on another CPU gave back, not for the last pages above min."""
    kernel = at(moment)
    pfn, progress = __alloc_pages_may_oom(a_road(kernel, "GFP_KERNEL", 0))
    assert (pfn is not None) is found
    assert progress
    assert kernel.vm_events["oom_kill"] == (not found)


def test_with_nobody_to_kill_the_machine_panics():
    kernel = boot(anon="")
    squeeze(kernel, part=0.3)
    with pytest.raises(Panic, match="System is deadlocked on memory"):
        kernel.alloc_pages("GFP_KERNEL")
    assert kernel.dmesg().endswith("Kernel panic - not syncing: System is deadlocked on memory")


# -- who has special rights --------------------------------------------------------------------------


def test_pf_memalloc_takes_the_last_page_and_then_gets_null_at_once():
    kernel = at("files")
    kernel.set_task_flags(PF_MEMALLOC)
    free = sum(zone.free_pages for zone in kernel.zones)
    for _ in range(free):
        assert ends(kernel, "GFP_KERNEL") == (f"{DOWN} | kswapd reserves", "page")
    assert ends(kernel, "GFP_KERNEL") == (f"{DOWN} | kswapd reserves null", "NULL")
    assert kernel.why().rungs[-2].decided.startswith("the task has PF_MEMALLOC")
    assert not kernel.vm_events["allocstall_normal"]


def test_pf_memalloc_has_no_rights_with_nomemalloc():
    kernel = at("files")
    kernel.set_task_flags(PF_MEMALLOC)
    assert ends(kernel, "GFP_KERNEL|__GFP_NOMEMALLOC") == (f"{DOWN} | kswapd reserves null", "NULL")


def test_a_victim_may_use_half_of_the_min_mark_then_gives_up():
    kernel = boot(anon="1M")
    squeeze(kernel, part=0.9)
    kernel.record()
    kernel.mark_oom_victim()
    dma, dma32 = kernel.zones
    while kernel.alloc_pages("GFP_KERNEL") is not None:
        pass
    assert road(kernel).endswith("oom null")
    assert kernel.why().rungs[-2].outcome == "stop"
    assert kernel.why().rungs[-2].decided.startswith("init is the OOM killer's victim")
    assert dma32.free_pages == dma32.watermark[MIN] - dma32.watermark[MIN] // 2
    assert dma.free_pages == dma.watermark[MIN] - dma.watermark[MIN] // 2 + dma.lowmem_reserve[2]
    assert not kernel.vm_events["oom_kill"]  # the victim is dying already


def test_a_victim_with_nomemalloc_gives_up_at_the_min_mark():
    kernel = at("full")
    kernel.mark_oom_victim()
    assert ends(kernel, "GFP_KERNEL|__GFP_NOMEMALLOC") == (f"{DOWN} | {turns(17)} oom null", "NULL")


def test_realtime_tasks_may_use_half_of_the_min_mark():
    kernel = boot()
    squeeze(kernel)
    kernel.record()
    assert ends(kernel, "GFP_KERNEL|__GFP_NORETRY")[1] == "NULL"
    kernel.current.realtime = True
    assert ends(kernel, "GFP_KERNEL|__GFP_NORETRY") == (DOWN, "page")
    assert ends(kernel, "GFP_NOWAIT")[1] == "NULL"  # only for those who wait


def test_memalloc_scopes_take_their_bits_from_the_mask():
    kernel = at("full")
    with kernel.memalloc_nofs_save():
        assert ends(kernel, "GFP_KERNEL")[1] == "Livelock"
    with kernel.memalloc_noio_save():
        kernel.alloc_pages("GFP_KERNEL|__GFP_RETRY_MAYFAIL", 4)
    assert "mode:0x4c00(GFP_NOIO|__GFP_RETRY_MAYFAIL)" in first_line(kernel)
    assert "compact_first" not in road(kernel)
    with kernel.memalloc_noreclaim_save():
        assert ends(kernel, "GFP_KERNEL") == (f"{DOWN} | kswapd reserves", "page")


# -- __GFP_NOFAIL ------------------------------------------------------------------------------------


def test_nofail_that_cannot_wait_may_fail_and_is_warned_of():
    kernel = at("files")
    assert kernel.alloc_pages("GFP_ATOMIC|__GFP_NOFAIL") is None
    assert "WARNING" in first_line(kernel)
    assert "__alloc_pages_slowpath" in first_line(kernel)


@pytest.mark.parametrize(("order", "warned"), [(0, False), (1, False), (2, True)])
def test_nofail_of_more_than_two_pages_is_warned_of_once(order, warned):
    kernel = at("files")
    for _ in range(3):
        assert kernel.alloc_pages("GFP_KERNEL|__GFP_NOFAIL", order) is not None
        squeeze(kernel, part=0.3)
    assert kernel.dmesg().count("WARNING") == warned


def test_each_wrong_use_of_nofail_is_warned_of_once_with_the_task_that_made_it():
    kernel = at("files")
    kernel.run_as(2)
    for _ in range(2):
        kernel.alloc_pages("GFP_ATOMIC|__GFP_NOFAIL|__GFP_NOWARN", 2)
    kernel.alloc_pages("GFP_KERNEL|__GFP_NOFAIL", 3)
    squeeze(kernel, part=0.3)
    kernel.set_task_flags(PF_MEMALLOC)
    kernel.alloc_pages("GFP_ATOMIC|__GFP_NOFAIL|__GFP_NOWARN")
    line = "WARNING: CPU: 0 PID: 2 at mm/page_alloc.c __alloc_pages_slowpath"
    assert kernel.dmesg().splitlines() == [line] * 3


def test_nofail_gets_at_half_of_the_mark_at_last():
    kernel = boot()
    squeeze(kernel, part=0.8)
    kernel.record()
    rungs, end = ends(kernel, "GFP_KERNEL|__GFP_NOFAIL|__GFP_NORETRY")
    assert (rungs, end) == (f"{DOWN} | {ONE} nofail", "page")


def test_nofail_above_all_costly_orders_goes_round_until_there_is_a_block():
    kernel = boot("256M", anon="1M")
    kernel.read_file("230M")
    kernel.record()
    for _ in range(30):
        assert kernel.alloc_pages("GFP_KERNEL|__GFP_NOFAIL", 10) is not None
    assert any(rung.name == "reclaim" for rung in kernel.why().rungs)


def test_nofail_without_any_zone_never_returns():
    kernel = Kernel("4G", nodes=2, cpus=2)
    kernel.record()
    gfp = "GFP_KERNEL|GFP_DMA|__GFP_THISNODE"
    assert kernel.alloc_pages(gfp, nid=1) is None
    with pytest.raises(Livelock):
        kernel.alloc_pages(f"{gfp}|__GFP_NOFAIL", nid=1)


# -- going round -------------------------------------------------------------------------------------


def a_road(kernel, gfp, order):
    gfp = flags.as_mask(gfp)
    context = prepare_alloc_pages(kernel, gfp, 0)
    return Road(kernel, context, order, gfp_to_alloc_flags(kernel, gfp, order))


@pytest.mark.parametrize(
    ("gfp", "order", "progress", "rounds"),
    [
        ("GFP_KERNEL", 0, 0, 16),  # the seventeenth in vain is the last
        ("GFP_KERNEL|__GFP_RETRY_MAYFAIL", 4, 32, 16),  # costly: every round counts as in vain
        ("GFP_KERNEL", 3, 32, None),  # others start anew with every page
    ],
)
def test_how_often_reclaim_is_tried_again(gfp, order, progress, rounds):
    way = a_road(at("files"), gfp, order)
    answers = [should_reclaim_retry(way, progress) for _ in range(40)]
    assert answers == [rounds is None or number < rounds for number in range(40)]


def test_reclaim_is_not_tried_again_where_all_of_it_would_not_do():
    kernel = at("files")
    way = a_road(kernel, "GFP_KERNEL", 0)
    for zone in kernel.zones:
        zone.watermark[MIN] = 20_000
    assert not should_reclaim_retry(way, 32)
    assert way.no_progress_loops == 0


def test_where_nothing_is_reclaimable_free_pages_count_in_its_place():
    kernel = at("full")
    way = a_road(kernel, "GFP_KERNEL", 0)
    dma, dma32 = kernel.zones
    dma.watermark[MIN] = 1000
    assert not should_reclaim_retry(way, 0)
    dma32.watermark[MIN] = 2 * dma32.free_pages - 1
    assert should_reclaim_retry(way, 0)


def test_before_giving_up_the_highatomic_reserve_is_given_back():
    kernel = at("scattered")
    zone = kernel.zones[1]
    block = (zone.end_pfn >> 9) - 10
    kind = zone.pageblock[block]
    assert move_freepages_block(zone, block << 9, kind, MIGRATE_HIGHATOMIC) == 256
    zone.nr_reserved_highatomic = 512
    assert ends(kernel, "GFP_KERNEL|__GFP_RETRY_MAYFAIL", 2) == (
        f"{DOWN} compact_first | {MORE} | {MORE} oom null", "NULL",
    )  # fmt: skip
    assert zone.nr_reserved_highatomic == 0
    assert zone.pageblock[block] == 0  # the request's type


def test_what_reclaim_freed_not_being_enough_one_highatomic_pageblock_is_given_back():
    """Single pages come back, none of them beside another: the block comes from the reserve."""
    kernel = at("scattered")
    zone = kernel.zones[1]
    kernel.read_file("1M")
    for block in (zone.end_pfn >> 9) - 10, (zone.end_pfn >> 9) - 12:
        first = block << 9
        for pfn in (first, first + 2):  # their neighbours are free: four pages in all
            kernel.free_pages(pfn)
        move_freepages_block(zone, first, zone.pageblock[block], MIGRATE_HIGHATOMIC)
        zone.nr_reserved_highatomic += 512
    assert ends(kernel, "GFP_KERNEL", 2) == (
        f"{DOWN} compact_first | kswapd reserves reclaim", "page",
    )  # fmt: skip
    assert zone.nr_reserved_highatomic == 512  # the last one stays, as long as there is hope


def test_what_reclaim_itself_allocates_comes_from_the_reserves(monkeypatch):
    """PF_MEMALLOC: no watermark holds, and reclaim is not begun once more from within."""
    kernel = at("files", recording=False)
    kernel.nodes[0].kswapd_failures = 16  # it must not free anything first
    zone = kernel.zones[1]
    real, nested = vmscan.shrink_node, []

    def shrink(kernel, node, sc):
        if not nested:
            assert zone.free_pages < zone.watermark[MIN] // 2
            nested.append(None)
            nested[0] = kernel.alloc_pages("GFP_KERNEL")
            assert not kernel.vm_events["pgscan_direct"]
        real(kernel, node, sc)

    monkeypatch.setattr(vmscan, "shrink_node", shrink)
    assert kernel.alloc_pages("GFP_KERNEL") is not None
    assert kernel.vm_events["pgscan_direct"]
    assert nested[0] is not None
    assert not kernel.current.flags & PF_MEMALLOC


@pytest.mark.parametrize(
    ("result", "order", "answers", "priorities"),
    [
        # success that did not help: 16 more, then harder; costly orders have 4, and are at their limit
        ("success", 2, 16 + 1 + 16, {1, 0}),
        ("success", 4, 4, {1}),
        ("complete", 2, 1, {0}),
        ("deferred", 3, 1, {0}),
        ("complete", 5, 0, {1}),
    ],
)
def test_how_often_compaction_is_tried_again(result, order, answers, priorities):
    way = a_road(at("files"), "GFP_KERNEL|__GFP_RETRY_MAYFAIL", order)
    way.compact_result = COMPACT_RESULTS.index(result)
    seen, count = set(), 0
    while should_compact_retry(way):
        count += 1
        seen.add(way.compact_priority)
    assert count == answers
    assert seen | {way.compact_priority} == priorities


@pytest.mark.parametrize(("moment", "again"), [("files", True), ("full", False)])
def test_compaction_without_room_is_tried_again_if_reclaim_can_make_room(moment, again):
    way = a_road(at(moment), "GFP_KERNEL", 2)
    assert way.compact_result == COMPACT_SKIPPED
    assert should_compact_retry(way) is again
    way.kernel.current.oom_victim = True
    assert not should_compact_retry(way)


def test_single_pages_need_no_compaction():
    way = a_road(at("files"), "GFP_KERNEL", 0)
    way.compact_result = COMPACT_SUCCESS
    assert not should_compact_retry(way)


def test_costly_requests_of_one_round_start_compacting_gently():
    kernel = at("scattered")
    kernel.alloc_pages("GFP_KERNEL|__GFP_NORETRY", 4)
    syncs = [dict(e.fields)["sync"] for e in kernel.events if e.name == "mm_compaction_begin"]
    assert set(syncs) == {0}
    kernel.alloc_pages("GFP_KERNEL", 4)
    syncs = [dict(e.fields)["sync"] for e in kernel.events if e.name == "mm_compaction_begin"]
    assert set(syncs) == {0, 1}


def test_this_node_and_one_round_go_without_reclaim():
    kernel = at("scattered")
    gfp = "GFP_KERNEL|__GFP_NORETRY|__GFP_THISNODE"
    assert ends(kernel, gfp, 4) == (f"{DOWN} compact_first null", "NULL")
    assert kernel.why().rungs[-2].outcome == "stop"
    assert ends(kernel, gfp, 3) == (f"{DOWN} compact_first | {MORE} null", "NULL")


def test_one_round_of_a_costly_request_is_not_even_begun_where_compaction_is_deferred():
    kernel = at("scattered")
    gfp = "GFP_KERNEL|__GFP_NORETRY"
    assert ends(kernel, gfp, 4) == (f"{DOWN} compact_first | {MORE} null", "NULL")
    for zone in kernel.zones:
        defer_compaction(zone, 4)
    assert ends(kernel, gfp, 4) == (f"{DOWN} compact_first null", "NULL")


def test_a_deferred_compaction_is_no_proof_that_a_request_loops_for_ever():
    """After many failures compaction is left out for a while; then it is tried, and helps."""
    kernel = at("holes")
    dirty = kernel.mem_map.lru
    for pfn in kernel.nodes[0].pages(INACTIVE_FILE):
        dirty[pfn] |= LRU_DIRTY  # without __GFP_FS it can move, but not be written
    kernel.nodes[0].kswapd_failures = 16
    for zone in kernel.zones:
        zone.compact.shift, zone.compact.considered, zone.compact.order_failed = 3, 0, 1
    rungs, end = ends(kernel, "GFP_NOFS", 2)
    assert (rungs, end) == (
        f"{DOWN} compact_first | {turns(6, MORE + ' oom')} | kswapd reserves reclaim compact",
        "page",
    )


def test_a_request_that_loops_for_ever_says_so():
    kernel = at("full")
    with pytest.raises(Livelock) as error:
        kernel.alloc_pages("GFP_NOFS", 0)
    assert str(error.value).startswith("alloc_pages(GFP_NOFS, 0) never returns: round 34 ")
    assert kernel.why().result == "loops for ever"
    assert kernel.why().rungs[-1].decided == str(kernel.why().reasons[-1])
    assert kernel.why().reasons[-1].key == "livelock"


# -- throttling --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "waits"), [(0.4, True), (0.6, False)])
def test_below_half_of_the_marks_a_request_waits_for_kswapd(share, waits):
    kernel = boot()
    kernel.read_file("64M")
    for zone in kernel.zones:
        take_down_to(kernel, zone, int(zone.watermark[MIN] * share))
    way = a_road(kernel, "GFP_KERNEL", 0)
    assert throttle_direct_reclaim(way) is waits
    assert bool(kernel.vm_events["pgsteal_kswapd"]) is waits


def test_kernel_threads_victims_and_hopeless_nodes_are_not_throttled():
    kernel = boot()
    kernel.read_file("64M")
    for zone in kernel.zones:
        take_down_to(kernel, zone, 10)
    for name, value in (("kernel_thread", True), ("oom_victim", True)):
        setattr(kernel.current, name, value)
        assert not throttle_direct_reclaim(a_road(kernel, "GFP_KERNEL", 0))
        setattr(kernel.current, name, False)
    kernel.nodes[0].kswapd_failures = 16
    assert not throttle_direct_reclaim(a_road(kernel, "GFP_KERNEL", 0))


def test_no_throttling_without_reclaimable_pages_or_marks():
    kernel = at("full")
    for zone in kernel.zones:
        zone.watermark[:3] = [0, 0, 0]
    assert not throttle_direct_reclaim(a_road(kernel, "GFP_KERNEL", 0))


# -- nodes and cpusets -------------------------------------------------------------------------------


def two_nodes(marked=0):
    """Return a machine of two nodes where one is below all marks, and the caller may use it only."""
    kernel = Kernel("512M", nodes=2, cpus=2, pcp=False)
    kernel.vm.watermark_boost_factor = 0
    kernel.current.mems_allowed = (marked,)
    for zone in kernel.node_zones(marked):
        take_down_to(kernel, zone, zone.lowmem_reserve[2])
    kernel.record()
    return kernel


def node_of(kernel, pfn):
    return None if pfn is None else kernel.page_zone(pfn).nid


@pytest.mark.parametrize(
    ("gfp", "rungs"),
    [
        # the kernel's own pages may leave the cpuset once its nodes are short
        ("GFP_KERNEL", "low kswapd min"),
        ("GFP_ATOMIC", "low kswapd min"),
        ("GFP_NOWAIT", "low kswapd min"),
    ],
)
def test_a_request_that_may_leaves_the_cpuset_in_the_slow_path(gfp, rungs):
    kernel = two_nodes()
    assert node_of(kernel, kernel.alloc_pages(gfp)) == 1
    assert road(kernel) == rungs


def test_user_pages_stay_inside_of_the_cpuset():
    kernel = two_nodes()
    assert kernel.alloc_pages("GFP_USER|__GFP_NORETRY") is None
    assert "nodemask=(null),cpuset=/,mems_allowed=0" in first_line(kernel)
    woken = {dict(e.fields)["nid"] for e in kernel.events if e.name == "mm_vmscan_wakeup_kswapd"}
    assert woken == {0}


def test_step_8_sets_those_free_who_have_rights():
    kernel = two_nodes()
    kernel.set_task_flags(PF_MEMALLOC)
    dma = next(zone for zone in kernel.zones if zone.name == "DMA")
    take_down_to(kernel, dma, 0)
    for zone in kernel.node_zones(0):
        take_down_to(kernel, zone, 0)
    assert node_of(kernel, kernel.alloc_pages("GFP_USER")) == 1
    assert road(kernel) == f"{DOWN} | kswapd reserves"


def test_an_interrupt_belongs_to_no_cpuset():
    kernel = two_nodes()
    with kernel.hardirq():
        assert node_of(kernel, kernel.alloc_pages("GFP_NOWAIT|__GFP_HARDWALL")) == 1
        assert road(kernel) == "entry low"
    assert node_of(kernel, kernel.alloc_pages("GFP_NOWAIT|__GFP_HARDWALL")) is None


def test_nofail_user_pages_leave_the_cpuset_at_last():
    kernel = two_nodes()
    pfn = kernel.alloc_pages("GFP_USER|__GFP_NOFAIL|__GFP_NORETRY")
    assert node_of(kernel, pfn) == 1
    assert road(kernel) == f"{DOWN} | {ONE} nofail"


def test_reclaim_stays_inside_of_the_cpuset():
    kernel = Kernel("512M", nodes=2, cpus=2, pcp=False)
    kernel.vm.watermark_boost_factor = 0
    kernel.cpu = 1
    kernel.read_file("200M")
    kernel.cpu = 0
    kernel.read_file("200M")
    kernel.current.mems_allowed = (0,)
    for zone in kernel.node_zones(0):
        take_down_to(kernel, zone, zone.watermark[MIN] // 2)
    there = kernel.nodes[1].nr(INACTIVE_FILE)
    assert node_of(kernel, kernel.alloc_pages("GFP_USER|__GFP_NORETRY")) == 0
    assert kernel.vm_events["pgsteal_direct"] > 0
    assert kernel.nodes[1].nr(INACTIVE_FILE) == there


def test_a_nodemask_limits_a_request_and_is_named_in_its_report():
    kernel = two_nodes()
    kernel.current.mems_allowed = None
    context = prepare_alloc_pages(kernel, flags.as_mask("GFP_KERNEL|__GFP_NORETRY"), 0, (0,))
    assert {zone.nid for zone in context.zonelist} == {0}
    assert alloc_pages(kernel, context, 0) is None
    assert "nodemask=0,cpuset=/,mems_allowed=0-1" in first_line(kernel)
    # one that can't wait and has rights is not held back by it, from step 8 on
    atomic = prepare_alloc_pages(kernel, flags.as_mask("GFP_ATOMIC"), 0, (0,))
    assert node_of(kernel, alloc_pages(kernel, atomic, 0)) == 1


def test_every_node_of_the_zonelist_has_its_kswapd_woken_twice_a_round():
    kernel = Kernel("256M", nodes=4, pcp=False)
    for zone in kernel.zones:
        zone.watermark[LOW] = zone.watermark[HIGH] = zone.watermark[MIN] = zone.managed
    kernel.record()
    assert kernel.alloc_pages("GFP_NOWAIT") is None
    said = [r for r in kernel.why().reasons if r.key.startswith("kswapd_")]
    assert [dict(r.values)["nid"] for r in said] == [0, 1, 2, 3] * 2
    woken = [dict(e.fields)["nid"] for e in kernel.events if e.name == "mm_vmscan_wakeup_kswapd"]
    assert woken == [0, 1, 2, 3]
