"""OOM reports, against those that a real Linux 6.12 wrote."""

import re

import pytest

from kmemkit import Kernel
from kmemkit import gfp as flags
from kmemkit.mm.errors import Panic
from kmemkit.mm.oom_report import (
    CONSTRAINT_CPUSET,
    CONSTRAINT_MEMORY_POLICY,
    SYSRQ_ORDER,
    OomControl,
    dump_header,
    oom_unkillable_task,
    report_kill,
    report_no_victim,
    report_reaped,
)
from kmemkit.mm.sched import Task
from kmemkit.mm.swap import ACTIVE_ANON
from tests.mm.recorded_reports import (
    CONSTRAINT,
    KILLED,
    NO_VICTIM,
    anatomy,
    comparable,
    parse,
    reports,
    twin,
)

OOMS = [report for report in reports() if report.oom]
SECOND = 1_000_000_000
TABLE = (
    "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes "
    "swapents oom_score_adj name"
)


def printed(kernel, report, *args, **options):
    """Return what a report function prints."""
    before = len(kernel.dmesg().splitlines())
    report(kernel, *args, **options)
    return kernel.dmesg().splitlines()[before:]


@pytest.fixture
def kernel():
    """A machine with a shell, a daemon that stays, and somebody who takes too much."""
    kernel = Kernel("64M")
    kernel.tasks += [
        Task(131, "sh", oom_score_adj=-1000, rss_shmem=400, pgtables_bytes=40960, vm_only=165),
        Task(9, "kworker/0:1", kernel_thread=True),
        Task(140, "gone", exited=True),
        Task(136, "hog", uid=1000, rss_file=3, rss_shmem=130, swapents=7, pgtables_bytes=299008,
             oom_score_adj=-500, anon=dict.fromkeys(range(100))),
    ]  # fmt: skip
    return kernel


def hog(kernel):
    return kernel.tasks[-1]


def control(**options):
    return OomControl(flags.GFP_KERNEL, 0, **options)


# -- recorded reports -----------------------------------------------------------------------------


def test_enough_is_recorded():
    assert len(OOMS) > 25
    assert {report.order for report in OOMS} >= {-1, 0, 1, 2, 3}
    endings = [report.lines[-1].partition(" (")[0].partition(":")[0] for report in OOMS]
    assert {"Out of memory", "Out of memory and no killable processes..."} <= set(endings)
    assert any("Unreclaimable slab info:" in report.lines for report in OOMS)


@pytest.mark.parametrize("report", OOMS, ids=str)
def test_a_twin_writes_the_same_report(report):
    """Every line is there, in order, with the same fields, numbers and spaces."""
    kernel = twin(report)
    oc = OomControl(report.gfp, report.order)
    if killed := report.find(KILLED):
        oc.chosen = next(task for task in kernel.tasks if task.pid == int(killed[2]))
        if limit := report.find(CONSTRAINT):
            oc.constraint = limit[1]
        lines = printed(kernel, report_kill, oc, oc.chosen, killed[1])
    elif report.lines[-1] == NO_VICTIM:
        lines = printed(kernel, report_no_victim, oc)
    else:  # panic_on_oom
        lines = printed(kernel, dump_header, oc)
    assert comparable(report, lines) == comparable(report, report.lines)


# -- the task table -------------------------------------------------------------------------------


def test_table_has_those_with_memory_who_may_be_killed(kernel):
    lines = printed(kernel, dump_header, control())
    rows = lines[lines.index(TABLE) + 1 :]
    assert lines[lines.index(TABLE) - 1] == "Tasks state (memory values in pages):"
    assert rows == [
        "[    131]     0   131      565      400        0        0       400    40960        0"
        "         -1000 sh",
        "[    136]  1000   136      240      233      100        3       130   299008        7"
        "          -500 hog",
    ]
    assert [oom_unkillable_task(task) for task in kernel.tasks[:3]] == [True, False, True]


def test_table_can_be_switched_off(kernel):
    kernel.vm.oom_dump_tasks = 0
    assert TABLE not in printed(kernel, dump_header, control())


def test_table_leaves_out_tasks_of_other_nodes(kernel):
    kernel.tasks[1].mems_allowed, hog(kernel).mems_allowed = (0,), (1, 2)
    kernel.current = hog(kernel)
    rows = [line for line in printed(kernel, dump_header, control()) if line.startswith("[ ")]
    assert [row.split()[-1] for row in rows] == ["name", "hog"]
    # A memory policy says which nodes count, and no task here has one of its own
    rows = printed(kernel, dump_header, control(nodemask=(0,)))
    assert [row.split()[-1] for row in rows if row.startswith("[ ")] == ["name", "sh", "hog"]


# -- the lines after it ---------------------------------------------------------------------------


def test_kill(kernel):
    lines = printed(kernel, report_kill, control(), hog(kernel), "Out of memory")
    assert lines[0] == (
        "init invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"
    )
    assert lines[-2:] == [
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
        "task_memcg=/,task=hog,pid=136,uid=1000",
        "Out of memory: Killed process 136 (hog) total-vm:960kB, anon-rss:400kB, file-rss:12kB, "
        "shmem-rss:520kB, UID:1000 pgtables:292kB oom_score_adj:-500",
    ]


def test_who_was_limited_to_what():
    kernel = Kernel("4G", nodes=2)
    victim = Task(20, "job", cpuset="/a/b", mems_allowed=(1,))
    kernel.tasks.append(victim)
    kernel.current = victim
    oc = control(constraint=CONSTRAINT_CPUSET)
    lines = printed(kernel, report_kill, oc, victim, "Out of memory")
    assert lines[-2].startswith(
        "oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=(null),cpuset=b,mems_allowed=1,"
        "global_oom,task_memcg=/a/b,task=job"
    )
    assert list(parse(lines).nodes) == [1]
    oc = control(constraint=CONSTRAINT_MEMORY_POLICY, nodemask=(0,))
    lines = printed(kernel, report_kill, oc, victim, "Out of memory")
    assert "CONSTRAINT_MEMORY_POLICY,nodemask=0,cpuset=b,mems_allowed=1," in lines[-2]
    assert list(parse(lines).nodes) == [0]


def test_reaped(kernel):
    hog(kernel).anon.clear()
    assert printed(kernel, report_reaped, hog(kernel)) == [
        "oom_reaper: reaped process 136 (hog), now anon-rss:0kB, file-rss:12kB, shmem-rss:520kB"
    ]


def test_nobody_to_kill(kernel):
    lines = printed(kernel, report_no_victim, control())
    assert lines[-1] == "Out of memory and no killable processes..."
    assert not any(line.startswith("oom-kill:") for line in lines)


def road(lines):
    """Return the functions of the call trace."""
    return [line[1:] for line in lines[lines.index(" <TASK>") + 1 : lines.index(" </TASK>")]]


def test_the_road_to_the_report(kernel):
    asked = ["__alloc_pages_slowpath", "__alloc_pages_noprof", "alloc_pages_mpol_noprof"]
    killed = ["dump_stack_lvl", "dump_header", "oom_kill_process", "out_of_memory"]
    assert road(printed(kernel, report_kill, control(), hog(kernel), "Out of memory")) == [
        *killed, *asked,
    ]  # fmt: skip
    without = [name for name in killed if name != "oom_kill_process"]
    assert road(printed(kernel, report_no_victim, control())) == [*without, *asked]
    sysrq = OomControl(flags.GFP_KERNEL, SYSRQ_ORDER)
    lines = printed(kernel, report_kill, sysrq, hog(kernel), "Out of memory")
    assert road(lines) == [*killed, "moom_callback"]
    assert ", order=-1, " in lines[0]


# -- slabs ----------------------------------------------------------------------------------------


def test_slabs_are_listed_when_they_hold_more_than_the_lru_lists(kernel):
    for _ in range(50):
        kernel.nodes[0].folio_add_lru(kernel.alloc_pages("GFP_HIGHUSER_MOVABLE"), ACTIVE_ANON)
    kernel.unreclaimable_slabs = {"kmalloc-8k": (96, 96), "fsnotify_mark_connector": (3, 12345)}
    kernel.node_page_state[0, "nr_slab_unreclaimable"] = 50
    assert "Unreclaimable slab info:" not in printed(kernel, dump_header, control())
    kernel.node_page_state[0, "nr_slab_unreclaimable"] = 51
    lines = printed(kernel.clone(), dump_header, control())
    at = lines.index("Unreclaimable slab info:")
    assert lines[at - 1] == "0 pages hwpoisoned"
    assert lines[at + 1 : at + 5] == [
        "Name                      Used          Total",
        "kmalloc-8k                96KB         96KB",
        "fsnotify_mark_connector          3KB      12345KB",
        "Tasks state (memory values in pages):",
    ]


def test_the_caches_that_took_the_memory_are_listed():
    kernel = Kernel("16M")
    with pytest.raises(Panic):
        while kernel.kmalloc(4096, "GFP_KERNEL"):
            pass
    log = kernel.dmesg().splitlines()
    begin = log.index("Unreclaimable slab info:")
    rows = [
        line.split() for line in log[begin + 2 : log.index("Tasks state (memory values in pages):")]
    ]
    kbytes = kernel.node_page_state[0, "nr_slab_unreclaimable"] * 4
    assert rows == [["kmalloc-4k", f"{kbytes}KB", f"{kbytes}KB"]]


# -- rate limit -----------------------------------------------------------------------------------


def test_after_ten_reports_only_the_victims_are_named(kernel):
    victim = hog(kernel)
    for _ in range(10):
        assert len(printed(kernel, report_kill, control(), victim, "Out of memory")) > 30
    for _ in range(3):
        lines = printed(kernel, report_kill, control(), victim, "Out of memory")
        assert [line[:36] for line in lines] == ["Out of memory: Killed process 136 (h"]
    kernel.now += 6 * SECOND
    lines = printed(kernel, report_kill, control(), victim, "Out of memory")
    assert lines[0] == "oom_kill_process: 3 callbacks suppressed"
    assert re.match(r"init invoked oom-killer: ", lines[1])


def test_a_report_before_a_panic_is_always_whole(kernel):
    for _ in range(12):
        printed(kernel, report_kill, control(), hog(kernel), "Out of memory")
    assert len(printed(kernel, report_no_victim, control())) > 30


# -- from the request to the report ---------------------------------------------------------------


def test_a_request_that_needs_a_kill_writes_what_a_recorded_one_wrote():
    recorded = next(report for report in OOMS if report.name == "o0-kernel-1")
    kernel = Kernel("64M")
    kernel.run_as(kernel.fork(recorded.comm, oom_score_adj=-1000))
    task = kernel.fork("hog", anon="2M", oom_score_adj=500)
    while not kernel.vm_events["oom_kill"]:
        assert kernel.alloc_pages("GFP_KERNEL") is not None
    lines = kernel.dmesg().splitlines()
    last = next(n for n, line in enumerate(lines) if KILLED.fullmatch(line))
    assert anatomy(lines[: last + 1]) == anatomy(recorded.lines)
    assert KILLED.fullmatch(lines[last]).group(2, 3, 5) == (str(task.pid), "hog", "2048")
