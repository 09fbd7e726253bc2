"""The OOM killer: which task ends so that the others can go on (Linux: mm/oom_kill.c).

`slowpath` calls out_of_memory() when reclaim has nothing left. What is printed is in `oom_report`.
Simplified: the reaper runs at once, in the jiffy that the caller sleeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm import kswapd
from kmemkit.mm.context import cpuset_node_allowed, others_may_run
from kmemkit.mm.errors import Panic
from kmemkit.mm.oom_report import (
    CONSTRAINT_CPUSET,
    CONSTRAINT_MEMORY_POLICY,
    CONSTRAINT_NONE,
    OomControl,
    dump_header,
    oom_cpuset_eligible,
    oom_unkillable_task,
    report_kill,
    report_no_victim,
)
from kmemkit.mm.page_check import free_pages
from kmemkit.mm.pcp import drain_pages_zone
from kmemkit.mm.sched import Task

if TYPE_CHECKING:
    from kmemkit.mm.freelist import AllocContext
    from kmemkit.mm.machine import Machine

__all__ = ("OOM_SCORE_ADJ_MIN", "exit_mm", "oom_badness", "out_of_memory", "select_bad_process")

OOM_SCORE_ADJ_MIN = -1000
JIFFY_NS = kswapd.TICK_NS


def out_of_memory(kernel: Machine, context: AllocContext, order: int) -> bool:
    """Free memory by ending a task; return whether another round makes sense (same name).

    Without __GFP_FS nobody is killed: filesystems may hold what would help, and the caller cannot
    get at it. The caller goes round instead.

    Raises:
        Panic: panic_on_oom is set, or there is nobody left to kill.
    """
    kernel.oom_killed = False
    current = kernel.current
    if current.exited or current.oom_victim:  # its own memory will do
        current.oom_victim = True
        _note(kernel, "oom_waits", comm=current.comm, pid=current.pid)
        return True
    if not context.gfp & flags.__GFP_FS:
        _note(kernel, "oom_without_fs", gfp=flags.decode(context.gfp))
        return True
    oc = OomControl(gfp=context.gfp, order=order)
    _constrained_alloc(kernel, context, oc)
    limited = oc.constraint != CONSTRAINT_NONE
    if kernel.vm.panic_on_oom > limited:  # 1 panics only where the whole machine is short
        dump_header(kernel, oc)
        kind = "compulsory" if kernel.vm.panic_on_oom == 2 else "system-wide"
        raise _panic(kernel, f"Out of memory: {kind} panic_on_oom is enabled")
    if kernel.vm.oom_kill_allocating_task and oom_badness(kernel, current, oc) is not None:
        oc.chosen = current
        return _oom_kill_process(kernel, oc, "Out of memory (oom_kill_allocating_task)")
    for task in kernel.tasks:
        reaped = not task.anon and others_may_run(kernel)  # the reaper needs a CPU
        if task.oom_victim and not task.exited and not reaped:
            _note(kernel, "oom_waits", comm=task.comm, pid=task.pid)
            return True
    oc.chosen = select_bad_process(kernel, oc)
    if oc.chosen is None:
        report_no_victim(kernel, oc)
        raise _panic(kernel, "System is deadlocked on memory")
    return _oom_kill_process(kernel, oc, "Out of memory")


def _panic(kernel: Machine, reason: str) -> Panic:
    line = f"Kernel panic - not syncing: {reason}"
    kernel.printk(line)
    _note(kernel, "oom_panic")
    return Panic(line)


def _constrained_alloc(kernel: Machine, context: AllocContext, oc: OomControl) -> None:
    """Find out what limits the request, and what it may hope for (constrained_alloc())."""
    swap = kernel.total_swap_pages
    oc.totalpages = sum(zone.managed for zone in kernel.zones) + swap
    nodes = {zone.nid for zone in kernel.zones if zone.present}
    if len(nodes) == 1 or context.gfp & flags.__GFP_THISNODE:
        return
    tried = {zone.nid for zone in context.zonelist}
    if context.nodemask is not None and not nodes <= set(context.nodemask):
        nodes, oc.constraint = set(context.nodemask), CONSTRAINT_MEMORY_POLICY
        oc.nodemask = context.nodemask
    elif not all(cpuset_node_allowed(kernel, nid, context.gfp) for nid in tried):
        nodes, oc.constraint = set(kernel.current.mems_allowed or ()), CONSTRAINT_CPUSET
    else:
        return
    oc.totalpages = sum(zone.present for zone in kernel.zones if zone.nid in nodes) + swap


def oom_badness(kernel: Machine, task: Task, oc: OomControl) -> int | None:
    """Return how much ending a task would give, in pages; None if it must not be ended.

    Linux: same name. Memory in RAM and swap and page tables, plus oom_score_adj thousandths of all
    there is.
    """
    if oom_unkillable_task(task) or task.oom_score_adj == OOM_SCORE_ADJ_MIN:
        return None
    if task.exited or (task.oom_victim and not task.anon):  # the reaper has been there
        return None
    points = task.rss + task.swapents + task.pgtables_bytes // 4096
    return points + task.oom_score_adj * (oc.totalpages // 1000)


def select_bad_process(kernel: Machine, oc: OomControl) -> Task | None:
    """Return the task with the most points; of equals the last one (same name in Linux)."""
    chosen, most = None, 0
    for task in kernel.tasks:
        points = oom_badness(kernel, task, oc)
        if points is None or not oom_cpuset_eligible(kernel, oc, task):
            continue
        if chosen is None or points >= most:
            chosen, most = task, points
    if chosen is not None:
        _note(kernel, "oom_chosen", comm=chosen.comm, pid=chosen.pid, points=most)
    return chosen


def _oom_kill_process(kernel: Machine, oc: OomControl, message: str) -> bool:
    """End the chosen task; its memory is back after a jiffy (oom_kill_process())."""
    victim = oc.chosen
    assert victim is not None
    victim.oom_victim = True
    report_kill(kernel, oc, victim, message)
    kernel.vm_events["oom_kill"] += 1
    kernel.oom_killed = True
    if kernel.trace is not None:
        kernel.trace.event("mark_victim", pid=victim.pid, comm=victim.comm)
    if others_may_run(kernel):
        kernel.now += JIFFY_NS  # the caller sleeps, and the reaper runs
        kswapd.schedule(kernel)
        with kernel.quietly():
            exit_mm(kernel, victim)
            for zone in kernel.zones:  # in that time what exit put on per-CPU lists flows on
                drain_pages_zone(zone)
        victim.exited = victim is not kernel.current
    return True


def exit_mm(kernel: Machine, task: Task) -> None:
    """Free a task's anonymous pages, its swap and its page tables (same name in Linux).

    In the order of their frames: at which addresses the pages were mapped is not simulated.
    """
    for pfn in sorted(task.anon):
        kernel.nodes[kernel.page_zone(pfn).nid].folio_del_lru(pfn)
    for pfn in (*sorted(task.anon), *task.pgtables, *task.kernel_pages):
        free_pages(kernel, kernel.page_zone(pfn), pfn, 0)
    task.anon.clear()
    task.pgtables.clear()
    task.kernel_pages.clear()
    task.pgtables_bytes = 0
    kernel.nr_swap_pages += task.swapents
    task.swapents = 0


def _note(kernel: Machine, key: str, **values: object) -> None:
    if kernel.trace is not None:
        kernel.trace.note(key, **values)
