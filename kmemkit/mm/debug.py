"""What a kernel with debug options says of a caller that may sleep where it must not.

`page_alloc` calls might_alloc() at the entry of every request that has a context around it. Plain
kernels are built without CONFIG_DEBUG_ATOMIC_SLEEP and CONFIG_PROVE_LOCKING and say nothing
(Kernel.debug_kernel). Linux: kernel/sched/core.c, kernel/locking/lockdep.c, mm/page_alloc.c
fs_reclaim_acquire(). Simplified: of all locks, lockdep knows only how fs_reclaim is used in
interrupts; reports leave out addresses, and what was called before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm.context import current_gfp_context
from kmemkit.mm.dump_stack import dump_stack
from kmemkit.mm.errors import KernelBug, Panic
from kmemkit.mm.lockdep import FS_RECLAIM, LOCKDEP_OFF, lock_acquire
from kmemkit.mm.ratelimit import HZ, NS_PER_TICK
from kmemkit.mm.sched import PF_MEMALLOC

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = (
    "interrupts_enabled_in_irq_work",
    "might_alloc",
    "might_sleep",
    "note_context",
    "preempt_count_underflow",
    "schedule_debug",
)

#: Where might_alloc() stands in Linux 6.12.
MIGHT_ALLOC = "include/linux/sched/mm.h:321"
#: What RCU says, once, of a reader that sleeps.
VOLUNTARY_SWITCH = "Voluntary context switch within RCU read-side critical section!"


def might_alloc(kernel: Machine, gfp: int) -> None:
    """Complain of a request that may sleep where that is forbidden (same name in Linux).

    What decides is the mask alone (__GFP_DIRECT_RECLAIM), not whether memory is short. A kernel
    without debug options does not look, and nothing goes wrong until it has to reclaim.
    """
    if not gfp & flags.__GFP_DIRECT_RECLAIM:
        return
    if kernel.debug_kernel:
        _fs_reclaim_acquire(kernel, gfp)
    if kernel.context.may_sleep:
        return
    if kernel.trace is not None:
        names = flags.decode(gfp)
        if kernel.debug_kernel:
            kernel.trace.note("sleep_reported", gfp=names, **_state(kernel))
        else:
            kernel.trace.note("sleep_unnoticed", gfp=names, **_state(kernel))
    might_sleep(kernel, MIGHT_ALLOC)


def might_sleep(kernel: Machine, where: str) -> None:
    """Report a caller that must not sleep, once a second at most (__might_resched())."""
    context, task = kernel.context, kernel.current
    if not kernel.debug_kernel or context.may_sleep:
        return
    tick = kernel.now // NS_PER_TICK
    if context.splat_tick is not None and tick < context.splat_tick + HZ:
        return
    context.splat_tick = tick
    count = context.preempt_count
    kernel.printk(f"BUG: sleeping function called from invalid context at {where}")
    kernel.printk(
        f"in_atomic(): {int(count != 0)}, irqs_disabled(): {int(context.irqs_disabled)}, "
        f"non_block: 0, pid: {task.pid}, name: {task.comm}"
    )
    kernel.printk(f"preempt_count: {count:x}, expected: 0")
    kernel.printk(f"RCU nest depth: {context.rcu_depth}, expected: 0")
    _debug_show_held_locks(kernel)
    dump_stack(kernel, ("__might_resched", "__might_sleep"))


def _debug_show_held_locks(kernel: Machine) -> None:
    """Print what the task holds (same name in Linux)."""
    task, locks = kernel.current, kernel.context.locks
    if LOCKDEP_OFF in kernel._warned:
        kernel.printk("INFO: lockdep is turned off.")
    elif not locks:
        kernel.printk(f"no locks held by {task.comm}/{task.pid}.")
    else:
        many = "s" if len(locks) > 1 else ""
        kernel.printk(f"{len(locks)} lock{many} held by {task.comm}/{task.pid}:")
        for number, name in enumerate(locks):
            kernel.printk(f" #{number}: ({name})")


def _fs_reclaim_acquire(kernel: Machine, gfp: int) -> None:
    """Let lockdep see that the request may enter a filesystem by reclaim (same name in Linux).

    Every kernel has made such requests with interrupts on. So one inside an interrupt could come
    while reclaim itself was interrupted, and wait for what that holds. Lockdep says so once, and
    switches itself off.
    """
    context, task = kernel.context, kernel.current
    gfp = current_gfp_context(task.flags, gfp)
    if not gfp & flags.__GFP_FS or task.flags & PF_MEMALLOC or LOCKDEP_OFF in kernel._warned:
        return
    if not context.in_interrupt:
        if context.sleeping_locks:
            lock_acquire(kernel, FS_RECLAIM)
        return
    kernel._warned.add(LOCKDEP_OFF)
    hard, soft = int(context.in_hardirq), int(context.in_serving_softirq)
    kind, usage = ("HARDIRQ", "?.+.") if hard else ("SOFTIRQ", "+.?.")
    ident = f"{task.comm}/{task.pid}"
    for line in (
        "",
        "================================",
        "WARNING: inconsistent lock state",
        f"{kernel.release} #1 Not tainted",
        "--------------------------------",
        f"inconsistent {{{kind}-ON-W}} -> {{IN-{kind}-W}} usage.",
        f"{ident} [HC{hard}[{hard}]:SC{soft}[{soft}]:HE{1 - hard}:SE{1 - soft}] takes:",
        f"(fs_reclaim){{{usage}}}-{{0:0}}, at: __alloc_pages_noprof",
        "",
        "other info that might help us debug this:",
        " Possible unsafe locking scenario:",
        "",
        "       CPU0",
        "       ----",
        "  lock(fs_reclaim);",
        "  <Interrupt>",
        "    lock(fs_reclaim);",
        "",
        " *** DEADLOCK ***",
        "",
    ):
        kernel.printk(line)
    if kernel.trace is not None:
        kernel.trace.note("lockdep_reported", kind=kind.lower())


def schedule_debug(kernel: Machine) -> None:
    """Complain of a caller that gives the CPU away where it must not (same name in Linux).

    Every kernel does: it is the scheduler itself that looks. It counts from 0 then, and has
    interrupts on when it comes back; whoever leaves the section finds the count wrong.
    """
    context, task = kernel.context, kernel.current
    if context.preempt_count:
        count = context.preempt_count + 1  # the scheduler's own
        kernel.printk(f"BUG: scheduling while atomic: {task.comm}/{task.pid}/{count:#010x}")
        dump_stack(kernel, ("__schedule_bug", "schedule"))
        context.count_lost = True
    if context.rcu_depth and VOLUNTARY_SWITCH not in kernel._warned:
        kernel._warned.add(VOLUNTARY_SWITCH)
        kernel.printk(VOLUNTARY_SWITCH)
        dump_stack(kernel, ("rcu_note_context_switch", "schedule"))
    context.irqs_disabled = False


def preempt_count_underflow(kernel: Machine, frame: str) -> None:
    """Let a section end that schedule_debug() took out of the count.

    A softirq puts the count right; a lock makes it negative, and the task does not outlive that.

    Raises:
        KernelBug: it was a lock, or preemption was off.
    """
    if frame == "softirq":
        kernel.printk(
            "softirq: huh, entered softirq 6 TASKLET with preempt_count 00000100, "
            "exited with 00000000?"
        )
        return
    task = kernel.current
    line = f"BUG: scheduling while atomic: {task.comm}/{task.pid}/0x00000000"
    kernel.printk(line)
    dump_stack(kernel, ("__schedule_bug", "schedule"))
    raise KernelBug(f"{line}\nit slept in a section that forbids it, whose end made the count -1")


def interrupts_enabled_in_irq_work(kernel: Machine) -> None:
    """Stop whoever came back from a handler with interrupts on (irq_work_run_list()).

    Raises:
        Panic: that was in an interrupt. KernelBug: the count of interrupts had been lost, so the
            interrupted task is taken for the guilty one.
    """
    line = "kernel BUG at kernel/irq_work.c:245!"
    built = "KASAN" if kernel.debug_kernel else "NOPTI"
    kernel.printk(line)
    kernel.printk(f"Oops: invalid opcode: 0000 [#1] PREEMPT SMP {built}")
    dump_stack(kernel, ("irq_work_run_list",))
    if kernel.context.count_lost:
        kernel.context.count_lost = False
        raise KernelBug(f"{line}\nthe handler slept, and the scheduler switched interrupts on")
    kernel.printk("Kernel panic - not syncing: Fatal exception in interrupt")
    raise Panic(
        f"{line}\nthe interrupt came back with interrupts on: a request in it reclaimed memory, "
        "which switches them on"
    )


# -- why() ----------------------------------------------------------------------------------------


def note_context(kernel: Machine) -> None:
    """Add a line that says whether the caller may sleep now, with the numbers that decide."""
    if kernel.trace is not None:
        if kernel.context.may_sleep:
            kernel.trace.note("may_sleep", **_state(kernel))
        else:
            kernel.trace.note("must_not_sleep", **_state(kernel))


def _state(kernel: Machine) -> dict[str, object]:
    context = kernel.context
    return {
        "frames": ", ".join(context.frames) or "none",
        "count": context.preempt_count,
        "irqs": int(context.irqs_disabled),
        "rcu": context.rcu_depth,
    }
