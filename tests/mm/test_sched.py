"""Tasks, and that a frozen one goes on like the live one."""

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from kmemkit import Kernel
from kmemkit.mm import sched
from kmemkit.mm.sched import Task, task_owner


def test_flags_have_the_kernel_s_values():
    values = {name: getattr(sched, name) for name in sched.__all__ if name.startswith("PF_")}
    assert values == {
        "PF_MEMALLOC": 0x800, "PF_MEMALLOC_NOFS": 0x40000, "PF_MEMALLOC_NOIO": 0x80000,
        "PF_MEMALLOC_PIN": 0x10000000,
    }  # fmt: skip


def test_sizes():
    task = Task(5, "task", rss_file=10, rss_shmem=3, swapents=7, vm_only=100)
    task.anon = dict.fromkeys(range(20))
    assert (task.rss, task.total_vm) == (33, 140)
    assert task_owner(task) == "task [5]"


TASKS = st.builds(
    Task, st.integers(2, 99), st.sampled_from(("a", "b c")),
    flags=st.sampled_from((0, 0x800, 0x40000)), oom_score_adj=st.integers(-1000, 1000),
    uid=st.integers(0, 9), rss_file=st.integers(0, 99), rss_shmem=st.integers(0, 99),
    swapents=st.integers(0, 99), pgtables_bytes=st.integers(0, 9).map(lambda pages: pages * 4096),
    vm_only=st.integers(0, 999), kernel_thread=st.booleans(), realtime=st.booleans(),
    oom_victim=st.booleans(), exited=st.booleans(), cpuset=st.sampled_from(("/", "/a/b")),
    mems_allowed=st.sampled_from((None, (0,), (0, 1))),
    pgtables=st.lists(st.integers(0, 99), max_size=4),
    kernel_pages=st.lists(st.integers(0, 99), max_size=4),
)  # fmt: skip


@given(TASKS)
def test_a_thawed_task_is_the_frozen_one(task):
    twin = Task.thaw(task.freeze())
    for field in fields(Task):
        assert getattr(twin, field.name) == getattr(task, field.name), field.name
    assert twin.freeze() == task.freeze()


def test_a_clone_has_tasks_of_its_own():
    kernel = Kernel("64M")
    task = kernel.fork("task", anon="64K")
    task.realtime, task.mems_allowed = True, (0,)
    clone = kernel.clone()
    twin = clone.task(task.pid)
    assert (twin.freeze(), twin.anon) == (task.freeze(), task.anon)
    clone.exit(twin)
    assert task.rss == 16
    assert len(kernel.tasks) == 2
    assert len(clone.tasks) == 1
