"""What the OOM killer writes: why it was called, who could be killed, who was.

`oom_kill` decides and calls these functions; here is the printing half of Linux's mm/oom_kill.c.
Header to constraint line are limited to ten reports in five seconds, the line that names the victim
is always there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm.dump_stack import alloc_pages_road, dump_stack
from kmemkit.mm.ratelimit import ratelimit
from kmemkit.mm.sched import Task
from kmemkit.mm.show_mem import (
    cpuset_mems_allowed,
    mems_allowed,
    node_list,
    node_page_state,
    show_mem,
)
from kmemkit.units import PAGE_KB

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = (
    "CONSTRAINT_CPUSET",
    "CONSTRAINT_MEMORY_POLICY",
    "CONSTRAINT_NONE",
    "SYSRQ_ORDER",
    "OomControl",
    "dump_header",
    "dump_tasks",
    "oom_cpuset_eligible",
    "oom_unkillable_task",
    "report_kill",
    "report_no_victim",
    "report_reaped",
)

CONSTRAINT_NONE = "CONSTRAINT_NONE"
CONSTRAINT_CPUSET = "CONSTRAINT_CPUSET"
CONSTRAINT_MEMORY_POLICY = "CONSTRAINT_MEMORY_POLICY"

#: The order of a kill that an operator asked for with sysrq-f.
SYSRQ_ORDER = -1
INIT_PID = 1


@dataclass(slots=True)
class OomControl:
    """One call of the OOM killer (struct oom_control, include/linux/oom.h)."""

    gfp: int
    order: int
    constraint: str = CONSTRAINT_NONE
    nodemask: Collection[int] | None = None  #: nodes a memory policy limits the request to
    totalpages: int = 0  #: memory that the victims' scores are measured by, in pages
    chosen: Task | None = None


# -- who may be killed ----------------------------------------------------------------------------


def oom_unkillable_task(task: Task) -> bool:
    """Return whether a task is never a victim: init, kernel threads (same name in Linux)."""
    return task.pid == INIT_PID or task.kernel_thread


def oom_cpuset_eligible(kernel: Machine, oc: OomControl, task: Task) -> bool:
    """Return whether killing a task can free memory the request may use (same name in Linux).

    With a memory policy every task counts: the simulated ones have none of their own.
    """
    if oc.nodemask is not None:
        return True
    return bool(set(mems_allowed(kernel, task)) & set(mems_allowed(kernel, kernel.current)))


# -- report ---------------------------------------------------------------------------------------


def report_kill(kernel: Machine, oc: OomControl, victim: Task, message: str) -> None:
    """Report a kill: the header with all that led to it, and the line that names the victim.

    Linux: oom_kill_process() and __oom_kill_process(). `message` is "Out of memory", or with a word
    on why, such as "Out of memory (oom_kill_allocating_task)".
    """
    if ratelimit(kernel, "oom_kill_process", 5, 10):
        dump_header(kernel, oc, "oom_kill_process")
        cpuset = victim.cpuset
        kernel.printk(
            f"oom-kill:constraint={oc.constraint},nodemask={node_list(oc.nodemask)}"
            f"{cpuset_mems_allowed(kernel)},global_oom,task_memcg=/{cpuset.lstrip('/')},"
            f"task={victim.comm},pid={victim.pid},uid={victim.uid}"
        )
    kernel.printk(
        f"{message}: Killed process {victim.pid} ({victim.comm}) "
        f"total-vm:{victim.total_vm * PAGE_KB}kB, {_rss(victim)}, UID:{victim.uid} "
        f"pgtables:{victim.pgtables_bytes >> 10}kB oom_score_adj:{victim.oom_score_adj}"
    )


def report_no_victim(kernel: Machine, oc: OomControl) -> None:
    """Report that nobody can be killed; unless an operator asked, panic() comes next."""
    dump_header(kernel, oc)
    kernel.printk("Out of memory and no killable processes...")


def report_reaped(kernel: Machine, victim: Task) -> None:
    """Report what the reaper left of a victim (oom_reap_task_mm())."""
    kernel.printk(f"oom_reaper: reaped process {victim.pid} ({victim.comm}), now {_rss(victim)}")


def _rss(task: Task) -> str:
    return (
        f"anon-rss:{len(task.anon) * PAGE_KB}kB, file-rss:{task.rss_file * PAGE_KB}kB, "
        f"shmem-rss:{task.rss_shmem * PAGE_KB}kB"
    )


def dump_header(kernel: Machine, oc: OomControl, *callers: str) -> None:
    """Print who asked for what, the stack, Mem-Info and the task table (same name in Linux).

    `callers` are the functions between out_of_memory() and this one. Without a victim there is no
    more, and no rate limit; report_kill() goes on to the victim.
    """
    task = kernel.current
    kernel.printk(
        f"{task.comm} invoked oom-killer: gfp_mask={oc.gfp:#x}({flags.decode(oc.gfp)}), "
        f"order={oc.order}, oom_score_adj={task.oom_score_adj}"
    )
    road = ("moom_callback",) if oc.order == SYSRQ_ORDER else alloc_pages_road(kernel)
    dump_stack(kernel, ("dump_header", *callers, "out_of_memory", *road))
    nodes = mems_allowed(kernel, task) if oc.nodemask is None else oc.nodemask
    show_mem(kernel, nodes, flags.gfp_zone(oc.gfp, kernel.arch))
    if _should_dump_unreclaim_slab(kernel):
        _dump_unreclaimable_slab(kernel)
    if kernel.vm.oom_dump_tasks:
        dump_tasks(kernel, oc)


def _should_dump_unreclaim_slab(kernel: Machine) -> bool:
    """Return whether slabs that cannot be reclaimed take more than all pages on LRU lists."""
    lru = ("active_anon", "inactive_anon", "active_file", "inactive_file", "isolated_anon",
           "isolated_file", "unevictable")  # fmt: skip
    slab = on_lists = 0
    for node in kernel.nodes:
        state = node_page_state(kernel, node.nid)
        slab += state["nr_slab_unreclaimable"]
        on_lists += sum(state[f"nr_{name}"] for name in lru)
    return slab > on_lists


def _dump_unreclaimable_slab(kernel: Machine) -> None:
    """Print what every cache that cannot be reclaimed takes (mm/slab_common.c)."""
    kernel.printk("Unreclaimable slab info:")
    kernel.printk("Name                      Used          Total")
    for name, (used, total) in kernel.unreclaimable_slab_info().items():
        kernel.printk(f"{name:<17} {used:10}KB {total:10}KB")


def dump_tasks(kernel: Machine, oc: OomControl) -> None:
    """Print the table of tasks that have memory and may be killed (same name in Linux)."""
    kernel.printk("Tasks state (memory values in pages):")
    kernel.printk(
        "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes "
        "swapents oom_score_adj name"
    )
    for task in kernel.tasks:
        if oom_unkillable_task(task) or task.exited or not oom_cpuset_eligible(kernel, oc, task):
            continue
        kernel.printk(
            f"[{task.pid:7}] {task.uid:5} {task.pid:5} {task.total_vm:8} {task.rss:8} "
            f"{len(task.anon):8} {task.rss_file:8} {task.rss_shmem:9} {task.pgtables_bytes:8} "
            f"{task.swapents:8}         {task.oom_score_adj:5} {task.comm}"
        )
