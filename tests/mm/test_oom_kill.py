"""Who is killed when nothing else is left, and what is asked before."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemkit import Kernel
from kmemkit import gfp as flags
from kmemkit.mm.errors import Livelock, Panic
from kmemkit.mm.freelist import prepare_alloc_pages, prepare_zonelist
from kmemkit.mm.mmzone import MIN
from kmemkit.mm.oom_kill import exit_mm, oom_badness, out_of_memory, select_bad_process
from kmemkit.mm.oom_report import OomControl
from kmemkit.mm.sched import Task
from tests.mm.moments import at, boot, squeeze, take_down_to


def oom(kernel, gfp="GFP_KERNEL", order=0, nodemask=None):
    """Call the OOM killer for a request; return what it answers."""
    context = prepare_alloc_pages(kernel, flags.as_mask(gfp), 0, nodemask)
    context = prepare_zonelist(kernel, context, nodemask)  # as the slow path begins
    return out_of_memory(kernel, context, order)


def killed(kernel):
    return [task.comm for task in kernel.tasks if task.oom_victim]


def lines(kernel, start):
    return [line for line in kernel.dmesg().splitlines() if line.startswith(start)]


# -- points ------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(
    anon=st.integers(0, 5000), file=st.integers(0, 5000), shmem=st.integers(0, 5000),
    swap=st.integers(0, 5000), tables=st.integers(0, 200), adj=st.integers(-999, 1000),
    total=st.integers(0, 10_000_000),
)  # fmt: skip
def test_points(anon, file, shmem, swap, tables, adj, total):
    task = Task(5, "task", oom_score_adj=adj, rss_file=file, rss_shmem=shmem, swapents=swap)
    task.anon, task.pgtables_bytes = dict.fromkeys(range(anon)), tables * 4096
    points = anon + file + shmem + swap + tables + adj * (total // 1000)
    assert oom_badness(Kernel("256K"), task, OomControl(0, 0, totalpages=total)) == points


@pytest.mark.parametrize(
    "change",
    [
        {"pid": 1}, {"kernel_thread": True}, {"oom_score_adj": -1000}, {"exited": True},
    ],
)  # fmt: skip
def test_who_is_never_killed(change):
    task = Task(**({"pid": 7, "comm": "task"} | change))
    assert oom_badness(Kernel("256K"), task, OomControl(0, 0, totalpages=1000)) is None


def with_tasks(*tasks, ram="64M"):
    """Return a machine with tasks, each given by (name, pages of file memory, oom_score_adj)."""
    kernel = boot(ram, anon="")
    for pid, (comm, pages, adj) in enumerate(tasks, 2):
        kernel.tasks.append(Task(pid, comm, rss_file=pages, oom_score_adj=adj))
    kernel.record()
    return kernel


@pytest.mark.parametrize(
    ("tasks", "victim"),
    [
        ((("small", 10, 0), ("big", 20, 0)), "big"),
        ((("big", 20, 0), ("small", 10, 0)), "big"),
        ((("one", 10, 0), ("two", 10, 0), ("three", 10, 0)), "three"),  # of equals the last
        ((("big", 200, 0), ("adjusted", 10, 100)), "adjusted"),
        ((("spared", 900, -1000), ("small", 1, 0)), "small"),
        ((("thanked", 500, -100), ("small", 1, 0)), "small"),  # less than nothing
        ((("lowest", 0, -900), ("low", 0, -800)), "low"),  # negative points lose, but count
        ((("only", 0, -999),), "only"),
    ],
)
def test_the_most_points_lose(tasks, victim):
    kernel = with_tasks(*tasks)
    assert oom(kernel)
    assert killed(kernel) == [victim]
    assert kernel.vm_events["oom_kill"] == 1
    mark = [event for event in kernel.events if event.name == "mark_victim"]
    assert [dict(event.fields)["comm"] for event in mark] == [victim]


def test_the_adjustment_is_in_thousandths_of_ram_and_swap_divided_first():
    kernel = with_tasks(("a", 0, 1), ("b", 0, 0))
    total = sum(zone.managed for zone in kernel.zones)
    kernel.swapon(1_234_000 << 2)
    context = OomControl(0, 0, totalpages=total + kernel.total_swap_pages)
    per_mille = (total + kernel.total_swap_pages) // 1000
    assert oom_badness(kernel, kernel.tasks[1], context) == per_mille
    kernel.tasks[2].rss_file = per_mille
    assert oom(kernel)
    assert killed(kernel) == ["b"]  # as many points, and later in the list
    kernel = with_tasks(("a", 0, 1), ("b", per_mille - 1, 0))
    kernel.swapon(1_234_000 << 2)
    assert oom(kernel)
    assert killed(kernel) == ["a"]


def test_nobody_left_is_a_panic_and_nobody_is_chosen():
    kernel = with_tasks(("spared", 900, -1000))
    assert select_bad_process(kernel, OomControl(0, 0)) is None
    with pytest.raises(Panic, match="Kernel panic - not syncing: System is deadlocked on memory"):
        oom(kernel)
    assert kernel.dmesg().splitlines()[-2:] == [
        "Out of memory and no killable processes...",
        "Kernel panic - not syncing: System is deadlocked on memory",
    ]


# -- what is asked before ------------------------------------------------------------------------------


@pytest.mark.parametrize(("gfp", "kills"), [("GFP_KERNEL", 1), ("GFP_NOFS", 0), ("GFP_NOIO", 0)])
def test_without_file_systems_nobody_is_killed_but_the_request_goes_on(gfp, kills):
    kernel = with_tasks(("task", 10, 0))
    assert oom(kernel, gfp)
    assert len(killed(kernel)) == kills


def test_a_caller_that_dies_itself_kills_nobody():
    for name in ("exited", "oom_victim"):
        kernel = with_tasks(("task", 10, 0))
        setattr(kernel.current, name, True)
        assert oom(kernel)
        assert killed(kernel) == ["init"]
        assert not kernel.vm_events["oom_kill"]


def test_while_a_victim_still_has_memory_nobody_else_is_killed():
    kernel = boot(anon="1M")
    kernel.fork("other", anon="2M")
    kernel.task(2).oom_victim = True
    assert oom(kernel)
    assert killed(kernel) == ["browser"]
    exit_mm(kernel, kernel.task(2))  # the reaper has been there
    assert oom(kernel)
    assert killed(kernel) == ["browser", "other"]


def test_a_second_victim_has_to_wait_however_many_points_it_has():
    kernel = boot(anon="1M")
    kernel.fork("other", anon="2M", oom_score_adj=900)
    kernel.task(2).oom_victim = True
    assert oom(kernel)
    assert killed(kernel) == ["browser"]
    assert not kernel.vm_events["oom_kill"]


@pytest.mark.parametrize(
    ("setting", "limited", "panics"),
    [(0, False, False), (0, True, False), (1, False, True), (1, True, False), (2, False, True),
     (2, True, True)],
)  # fmt: skip
def test_panic_on_oom(setting, limited, panics):
    kernel = Kernel("512M", nodes=2, cpus=2)
    kernel.fork("task", anon="1M")
    kernel.vm.panic_on_oom = setting
    if panics:
        kind = "compulsory" if setting == 2 else "system-wide"
        with pytest.raises(Panic, match=f"Out of memory: {kind} panic_on_oom is enabled"):
            oom(kernel, nodemask=(0,) if limited else None)
        assert killed(kernel) == []
        assert lines(kernel, "init invoked oom-killer")
    else:
        assert oom(kernel, nodemask=(0,) if limited else None)
        assert killed(kernel) == ["task"]


def test_oom_kill_allocating_task():
    kernel = with_tasks(("caller", 1, 0), ("big", 100, 0))
    kernel.vm.oom_kill_allocating_task = 1
    kernel.run_as(2)
    assert oom(kernel)
    assert killed(kernel) == ["caller"]
    assert lines(kernel, "Out of memory (oom_kill_allocating_task): Killed process 2 (caller)")


@pytest.mark.parametrize("change", [{"oom_score_adj": -1000}, {"kernel_thread": True}])
def test_an_allocating_task_that_may_not_be_killed_is_not(change):
    kernel = with_tasks(("caller", 1, 0), ("big", 100, 0))
    kernel.vm.oom_kill_allocating_task = 1
    kernel.run_as(2)
    for name, value in change.items():
        setattr(kernel.current, name, value)
    assert oom(kernel)
    assert killed(kernel) == ["big"]


# -- constraints ---------------------------------------------------------------------------------------


def constraint(kernel):
    line = lines(kernel, "oom-kill:constraint=")[-1]
    return line.partition("=")[2].partition(",")[0], line.partition("nodemask=")[2].partition(",")[
        0
    ]


@pytest.mark.parametrize(
    ("gfp", "mems", "nodemask", "expected"),
    [
        ("GFP_KERNEL", None, None, ("CONSTRAINT_NONE", "(null)")),
        ("GFP_KERNEL", None, (1,), ("CONSTRAINT_MEMORY_POLICY", "1")),
        ("GFP_KERNEL", None, (0, 1), ("CONSTRAINT_NONE", "(null)")),
        ("GFP_USER", (0,), None, ("CONSTRAINT_CPUSET", "(null)")),
        ("GFP_USER", (0, 1), None, ("CONSTRAINT_NONE", "(null)")),
        # a request that may leave its cpuset is not limited by it
        ("GFP_KERNEL", (0,), None, ("CONSTRAINT_NONE", "(null)")),
        ("GFP_KERNEL|__GFP_THISNODE", None, (1,), ("CONSTRAINT_NONE", "(null)")),
    ],
)
def test_constraints(gfp, mems, nodemask, expected):
    kernel = Kernel("512M", nodes=2, cpus=2)
    kernel.fork("task", anon="1M")
    kernel.current.mems_allowed = mems
    assert oom(kernel, gfp, nodemask=nodemask)
    assert constraint(kernel) == expected


def test_a_machine_of_one_node_has_no_constraint():
    kernel = boot()
    kernel.current.mems_allowed = (0,)
    assert oom(kernel, "GFP_USER", nodemask=(0,))
    assert constraint(kernel)[0] == "CONSTRAINT_NONE"


def test_a_limited_request_measures_by_the_pages_present_on_its_nodes():
    """Present, not managed; the whole machine by the managed ones."""
    sizes = [(zone.nid, zone.present, zone.managed) for zone in Kernel("1G", nodes=2, cpus=2).zones]
    present = sum(pages for nid, pages, _ in sizes if nid == 1)
    whole = sum(pages for _, _, pages in sizes)
    assert present - sum(pages for nid, _, pages in sizes if nid == 1) > 1000
    for nodemask, total in (((1,), present), (None, whole)):
        for more, victim in ((0, "adjusted"), (1, "big")):
            kernel = Kernel("1G", nodes=2, cpus=2)
            points = 1000 * (total // 1000) + more
            kernel.tasks += [
                Task(2, "big", rss_file=points), Task(3, "adjusted", oom_score_adj=1000),
            ]  # fmt: skip
            assert oom(kernel, nodemask=nodemask)
            assert killed(kernel) == [victim]


def test_tasks_of_other_cpusets_are_spared():
    kernel = Kernel("512M", nodes=2, cpus=2)
    here, there = kernel.fork("here", anon="1M"), kernel.fork("there", anon="4M")
    here.mems_allowed, there.mems_allowed = (0,), (1,)
    kernel.current.mems_allowed = (0,)
    assert oom(kernel, "GFP_USER")
    assert killed(kernel) == ["here"]


# -- what it gives -------------------------------------------------------------------------------------


def test_all_memory_of_a_victim_comes_back():
    kernel = boot(anon="")
    free = sum(zone.free_pages for zone in kernel.zones)
    kernel.swapon("8M")
    task = kernel.fork("task", anon="4M")
    taken = free - sum(zone.free_pages for zone in kernel.zones)
    assert taken == 1024 + 16 + 6  # anonymous pages, stack and structures, page tables
    before = kernel.now
    assert oom(kernel)
    assert kernel.now - before >= 4_000_000  # a jiffy
    assert sum(zone.free_pages for zone in kernel.zones) == free
    assert (task.exited, task.oom_victim, task.rss, task.pgtables_bytes) == (True, True, 0, 0)
    assert not any(kernel.mem_map.lru)
    assert lines(kernel, "Out of memory: Killed process 2 (task) total-vm:4096kB, anon-rss:4096kB")


def test_a_page_that_somebody_else_uses_outlives_its_task():
    kernel = boot(anon="1M")
    task = kernel.task(2)
    pfn = next(iter(task.anon))
    kernel.get_page(pfn)
    kernel.exit(task)
    assert kernel.snapshot().page(pfn).kind.allocated
    assert kernel.snapshot().refcounts == {}
    kernel.put_page(pfn)
    assert not kernel.snapshot().page(pfn).kind.allocated
    assert kernel.dmesg() == ""


def test_a_request_gets_its_page_after_the_kill():
    kernel = at("full")
    assert kernel.alloc_pages("GFP_KERNEL") is not None
    assert killed(kernel) == ["browser"]
    assert kernel.task(2).exited
    assert [rung.outcome for rung in kernel.why().rungs if rung.name == "oom"] == ["kill"]


def test_where_the_victim_gets_no_cpu_the_request_never_returns():
    kernel = at("full")
    with kernel.softirq(), pytest.raises(Livelock):
        kernel.alloc_pages("GFP_KERNEL")
    assert killed(kernel) == ["browser"]
    assert not kernel.task(2).exited
    assert lines(kernel, "Out of memory: Killed process")


def test_one_task_after_the_other_until_nobody_is_left():
    kernel = boot(anon="")
    for number in range(3):
        kernel.fork(f"task{number}", anon=f"{number + 1}M")
    squeeze(kernel, MIN, 0.3)
    with pytest.raises(Panic):
        for _ in range(100_000):
            kernel.alloc_pages("GFP_KERNEL")
    assert [line.split("(")[1].split(")")[0] for line in lines(kernel, "Out of memory: ")] == [
        "task2", "task1", "task0",
    ]  # fmt: skip


def test_a_task_that_eats_all_memory_is_killed_and_leaves_the_rest_alone():
    kernel = boot(anon="4M")
    for zone in kernel.zones:
        take_down_to(kernel, zone, 4000)
    hog = kernel.fork("hog", anon="900M", oom_score_adj=1000)
    assert hog.exited
    assert not kernel.task(2).exited
    assert len(hog.anon) == len(hog.pgtables) == len(hog.kernel_pages) == 0
    assert kernel.alloc_pages("GFP_KERNEL") is not None
