"""What must hold whatever is asked of a machine: wrong calls, hostile recordings, other masks."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kmemkit import Kernel
from kmemkit.mm.errors import KernelBug, Livelock, Panic
from kmemkit.mm.ladder import climb, start_machine
from kmemkit.mm.mmzone import ALLOCATED, MIGRATE_TYPES
from kmemkit.mm.pcp import pindex_to_order
from kmemkit.mm.sched import PF_MEMALLOC
from kmemkit.mm.swap import LRU_MASK
from kmemkit.verify import verify_path

RUN = {
    "gfp": 0xCC0, "order": 0, "max_allocs": 60_000, "outcome": "oom_kill", "guest_ram": "96M",
    "cpus": 1, "hog_mb": 8, "option": "nocache", "first_events": [],
    "dmesg_page_allocation_failure": 0,
}  # fmt: skip


def faults(kernel: Kernel) -> list[str]:
    """Return what does not add up: lists, columns and counters of a machine."""
    found, column, pages = [], kernel.mem_map.lru, kernel.mem_map.page
    on_lists = 0
    for node in kernel.nodes:
        for lru in range(1, 6):
            for pfn in node.pages(lru):
                on_lists += 1
                if column[pfn] & LRU_MASK != lru or pages[pfn] < ALLOCATED:
                    found.append(f"{pfn:#x} on LRU list {lru}")
    if on_lists != sum(map(bool, column)):
        found.append("LRU column")
    for zone in kernel.zones:
        free = sum(
            len(zone.free_head[area]) + len(zone.free_tail[area]) << area // MIGRATE_TYPES
            for area in range((zone.max_order + 1) * MIGRATE_TYPES)
        )
        if free != zone.free_pages:
            found.append(f"{zone.name}: {free} free pages, counted {zone.free_pages}")
        for pcp in zone.pcps:
            held = sum(len(pfns) << pindex_to_order(i) for i, pfns in enumerate(pcp.lists))
            if held != pcp.count:
                found.append(f"{zone.name}: {held} pages on per-CPU lists, counted {pcp.count}")
        if zone.trace is not kernel.trace:
            found.append(f"{zone.name}: records elsewhere")
    return found


# -- masks and orders beyond the recorded ones ----------------------------------------------------


@pytest.fixture(scope="module")
def start() -> Kernel:
    """A machine whose memory is file pages, with a task to kill."""
    kernel = Kernel("64M")
    kernel.read_file("64M")
    kernel.fork("hog", anon="6M", oom_score_adj=500)
    kernel.current = kernel.fork("sh", oom_score_adj=-1000)
    return kernel


@pytest.mark.parametrize(
    ("gfp", "orders", "outcome"),
    [
        ("GFP_KERNEL", (0, 1, 2, 3), "oom_kill"),
        ("GFP_KERNEL", (4, 5, 6, 9), "failed"),
        ("GFP_USER", (0, 2), "oom_kill"),
        ("GFP_HIGHUSER_MOVABLE", (0, 3), "oom_kill"),
        ("GFP_HIGHUSER_MOVABLE", (4, 9), "failed"),
        ("GFP_KERNEL|__GFP_HIGH", (0, 3), "oom_kill"),
        ("GFP_KERNEL|__GFP_MEMALLOC", (0, 1), "oom_kill"),
        ("GFP_KERNEL|__GFP_NOMEMALLOC", (0,), "oom_kill"),
        ("GFP_KERNEL|__GFP_NOFAIL", (0, 1, 3), "oom_kill"),
        ("GFP_KERNEL|__GFP_NOFAIL", (4,), "stuck"),
        ("GFP_KERNEL|__GFP_NOFAIL|__GFP_NORETRY", (0,), "stuck"),
        ("GFP_NOFS|__GFP_NOFAIL", (0,), "stuck"),
        ("GFP_NOFS", (0, 1, 2, 3), "stuck"),
        ("GFP_NOIO", (0, 1, 2, 3), "stuck"),
        ("GFP_NOIO", (4, 9), "failed"),
        ("GFP_KERNEL|__GFP_NORETRY", (0, 1, 2, 4, 6), "failed"),
        ("GFP_KERNEL|__GFP_RETRY_MAYFAIL", (0, 1, 3, 4, 9), "failed"),
        ("GFP_KERNEL|__GFP_THISNODE", (0, 3, 9), "failed"),
        ("GFP_KERNEL|GFP_DMA32", (0, 1, 3), "failed"),
        ("GFP_KERNEL|GFP_DMA", (0, 3, 5), "failed"),
        ("GFP_ATOMIC", (0, 1, 2, 3, 4, 5), "failed"),
        ("GFP_ATOMIC|__GFP_NOFAIL", (0,), "failed"),
        ("GFP_NOWAIT", (0, 1, 4), "failed"),
        ("GFP_DMA32", (0,), "failed"),
    ],
)
def test_the_end_of_a_climb_follows_from_mask_and_order(
    start: Kernel, gfp: str, orders: tuple[int, ...], outcome: str
) -> None:
    for order in orders:
        kernel = start.clone()
        run = climb(kernel, gfp, order)
        assert (order, run.outcome) == (order, outcome)
        assert not faults(kernel)
        assert not kernel.current.flags & PF_MEMALLOC
        waits = not gfp.startswith(("GFP_ATOMIC", "GFP_NOWAIT", "GFP_DMA32"))
        assert waits or "direct reclaim" not in run.first
        assert ("OOM" in run.first) == (outcome == "oom_kill")
        seen = [run.first[name] for name in ("direct reclaim", "OOM") if name in run.first]
        assert seen == sorted(seen)


# -- any order of calls ---------------------------------------------------------------------------


def _call(kernel: Kernel, dice: random.Random, held: list[tuple[int, int]]) -> None:
    """Make one call of those that lessons make."""
    masks = ("GFP_KERNEL", "GFP_ATOMIC", "GFP_NOFS", "GFP_HIGHUSER_MOVABLE", "GFP_KERNEL|GFP_DMA")
    more = ("", "", "|__GFP_NORETRY", "|__GFP_RETRY_MAYFAIL", "|__GFP_MEMALLOC", "|__GFP_NOFAIL")
    mask, order = dice.choice(masks) + dice.choice(more), dice.choice((0, 0, 0, 1, 2, 3, 5, 9))

    def take() -> None:
        for _ in range(dice.choice((1, 200, 2000))):
            pfn = kernel.alloc_pages(mask, order)
            if pfn is None:
                break
            held.append((pfn, order))

    def give() -> None:
        dice.shuffle(held)
        for _ in range(min(len(held), 500)):
            kernel.free_pages(*held.pop())

    def end() -> None:
        others = [task for task in kernel.tasks if task is not kernel.current and task.pid > 1]
        if others:
            kernel.exit(dice.choice(others))

    def again() -> None:
        kernel.restore(kernel.snapshot())

    calls: list[Callable[[], object]] = [
        take, take, take, give, end, again,
        lambda: kernel.read_file(dice.choice(("1M", "20M", "60M")), dirty=dice.random() < 0.3),
        lambda: kernel.fork("t", anon=dice.choice(("1M", "8M", "30M")), oom_score_adj=100),
        lambda: kernel.swapon("4M"), lambda: kernel.sleep(100), lambda: kernel.grow_slab("2M"),
        kernel.compact_memory, kernel.drain_all_pages,
        lambda: kernel.sysctl("vm.min_free_kbytes", dice.choice((100, 1000, 4000))),
    ]  # fmt: skip
    dice.choice(calls)()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "machine",
    [{"ram": "32M"}, {"ram": "64M", "nodes": 2, "cpus": 2},
     {"ram": "64M", "cmdline": "movablecore=24M"}, {"ram": "1M"}],
    ids=["32M", "2 nodes", "movablecore", "small world"],
)  # fmt: skip
def test_lists_columns_and_counters_agree_after_any_calls(machine: dict, seed: int) -> None:
    dice, kernel = random.Random(seed), Kernel(**machine)
    held: list[tuple[int, int]] = []
    for _ in range(25):
        try:
            _call(kernel, dice, held)
        except Livelock:
            pass
        except Panic:
            break
        assert not faults(kernel)
        assert not any(task.flags & PF_MEMALLOC for task in kernel.tasks)
    assert not faults(kernel)
    assert kernel.clone().snapshot().pages == kernel.snapshot().pages


def test_a_clone_goes_the_same_way_through_reclaim_swap_and_compaction() -> None:
    kernel = Kernel("64M")
    kernel.swapon("16M")
    kernel.fork("hog", anon="20M")
    kernel.read_file("60M")
    kernel.grow_slab("2M")
    twin = kernel.clone()
    mask = "GFP_KERNEL | __GFP_RETRY_MAYFAIL"
    for order in (0, 3, 0, 2, 5, 1) * 400:
        assert kernel.alloc_pages(mask, order) == twin.alloc_pages(mask, order)
    assert kernel.vm_events == twin.vm_events and not faults(twin)
    assert kernel.vm_events["pgsteal_direct"] and kernel.vm_events["pswpout"]


def test_pages_of_others_can_be_freed_by_their_number() -> None:
    kernel = Kernel("64M")
    kernel.read_file("4M")
    task = kernel.fork("owner", anon="4M")
    kernel.free_pages(next(kernel.nodes[0].pages(3)))
    kernel.free_pages(next(iter(task.anon)))
    assert not faults(kernel) and len(task.anon) == 1023
    kernel.exit(task)
    kernel.read_file("60M")
    assert not faults(kernel)


# -- an error in the middle of a call -------------------------------------------------------------


@pytest.mark.parametrize("recorded", [False, True])
def test_an_error_inside_of_reclaim_leaves_no_trace_of_it(
    monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    kernel = Kernel("32M")
    kernel.read_file("40M")
    if recorded:
        kernel.record()

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("kmemkit.mm.vmscan.shrink_node", broken)
        patch.setattr("kmemkit.mm.kswapd.balance_pgdat", lambda *_: None)
        for _ in range(9000):
            kernel.alloc_pages("GFP_KERNEL")
    assert not kernel.current.flags & PF_MEMALLOC
    assert not faults(kernel)
    assert kernel.alloc_pages("GFP_KERNEL") is not None


@pytest.mark.parametrize(
    "scope",
    ["memalloc_nofs_save", "memalloc_noio_save", "memalloc_noreclaim_save", "memalloc_pin_save"],
)
def test_scopes_stand_in_snapshots_and_their_masks_are_not_remembered(scope: str) -> None:
    kernel = Kernel("64M")
    kernel.alloc_pages("GFP_KERNEL")
    before = kernel.snapshot()
    with getattr(kernel, scope)() as bits:
        inside, twin = kernel.snapshot(), kernel.clone()
    assert (kernel.current.flags, twin.current.flags) == (0, bits)
    kernel.restore(inside)
    assert kernel.current.flags == bits
    kernel.restore(before)
    kernel.record()
    kernel.alloc_pages("GFP_KERNEL")
    assert dict(kernel.events[-1].fields)["gfp_flags"] == "GFP_KERNEL"


# -- recordings that are cut, wrong or hostile ----------------------------------------------------


def _error(tmp_path: Path, text: str) -> str:
    path = tmp_path / "run.json"
    path.write_text(text)
    (row,) = verify_path(path)
    assert not row.ok
    return row.error


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_run_cut_short_is_an_error_in_its_row(tmp_path: Path, part: float) -> None:
    text = json.dumps(RUN)
    assert "is the file complete?" in _error(tmp_path, text[: int(len(text) * part)])


@pytest.mark.parametrize("key", ["guest_ram", "cpus", "gfp", "order", "max_allocs"])
@pytest.mark.parametrize("value", [None, "banana", [], {}, float("nan")])
def test_a_run_with_a_wrong_value_is_an_error_in_its_row(
    tmp_path: Path, key: str, value: object
) -> None:
    assert _error(tmp_path, json.dumps({**RUN, key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [("guest_ram", "65T"), ("cpus", 10**9), ("hog_mb", 10**18), ("hog_mb", -1), ("gfp", 1 << 40),
     ("gfp", -1), ("order", -1), ("order", 64)],
)  # fmt: skip
def test_a_run_of_impossible_size_is_an_error_in_its_row(
    tmp_path: Path, key: str, value: object
) -> None:
    assert _error(tmp_path, json.dumps({**RUN, key: value}))


def test_a_machine_made_from_no_recording_says_so() -> None:
    for recording in ({}, {"guest_ram": "64M"}, {**RUN, "zones_at_start": [None]}):
        with pytest.raises(ValueError, match="recording: "):
            start_machine(recording)


# -- wrong calls ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("read_file", (None,), "is not a size"), ("read_file", (-1,), "above 0"),
        ("read_file", ("x",), "is not a size"), ("swapon", (0,), "above 0"),
        ("swapon", ([],), "is not a size"), ("fork", (None,), "name as text"),
        ("sleep", (-1,), "milliseconds"), ("sleep", (float("nan"),), "milliseconds"),
        ("exit", (None,), "no task of this machine"), ("run_as", (99,), "there is no task 99"),
        ("run_as", ("init",), "or its pid"), ("spin_unlock", (), "no spinlock to leave"),
        ("spin_lock", (5,), "name as text"), ("local_irq_restore", (5,), "local_irq_save"),
        ("rcu_read_unlock", (), "no rcu to leave"), ("softirq_exit", (), "no softirq to leave"),
        ("irq_exit", (), "no hardirq to leave"), ("memalloc_nofs_restore", (None,), "_save"),
        ("memalloc_noio_restore", (1,), "_save"), ("sysctl", ("vm.foo", 1), "there are vm."),
        ("sysctl", ("vm.min_free_kbytes", -1), "must be from 0"), ("sysctl", (5,), "name"),
    ],
)  # fmt: skip
def test_a_wrong_call_says_what_to_give_and_changes_nothing(
    name: str, arguments: tuple[object, ...], says: str
) -> None:
    kernel = Kernel("64M")
    before = kernel.snapshot()
    with pytest.raises((TypeError, ValueError, RuntimeError), match=says) as error:
        getattr(kernel, name)(*arguments)
    assert not isinstance(error.value, KernelBug | Livelock | Panic)
    assert kernel.snapshot() == before
