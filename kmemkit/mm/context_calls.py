"""The calls that enter and leave sections and interrupts; they are part of Kernel's API.

Each takes effect at once. Close it by the call that C closes it with, or use what it returned with
`with`, which makes that call at the end. An error that ends a `with` block takes the caller out of
all that the block entered. Linux: include/linux/spinlock.h, irqflags.h, rcupdate.h,
kernel/softirq.c. Simplified: a hard interrupt is one of irq_work, a softirq borrows `current`.
"""

from __future__ import annotations

from collections.abc import Callable

from kmemkit.mm import debug, lockdep
from kmemkit.mm.context import FRAMES
from kmemkit.mm.machine import Machine
from kmemkit.mm.sched import PF_MEMALLOC

__all__ = ("ContextCalls", "Section")


class Section:
    """What a call entered; `with` leaves it. `irqs_disabled` says what interrupts were before."""

    __slots__ = ("_depth", "_kernel", "_leave", "irqs_disabled")

    def __init__(self, kernel: ContextCalls, leave: Callable[[], None]) -> None:
        self._kernel, self._leave = kernel, leave
        self._depth = len(kernel.context.frames)
        self.irqs_disabled = kernel.context.irqs_disabled

    def __enter__(self) -> Section:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._leave()
        else:
            self._kernel._unwind(self._depth)

    def __repr__(self) -> str:
        return f"<irqs_disabled {int(self.irqs_disabled)}>"


class ContextCalls(Machine):
    """Sections that must not sleep, and interrupts."""

    # -- sections ---------------------------------------------------------------------------------

    def spin_lock(self, name: str = "") -> Section:
        """Take a spinlock: nobody else gets this CPU, so the caller must not sleep.

        Interrupts stay on. Close with spin_unlock(). Without a name it is a lock of its own.

        Raises:
            TypeError: the name is no text. Livelock: this CPU holds that lock already.
        """
        call = f"spin_lock({_lock(name)})"
        return self._enter("spinlock", call, lambda: self.spin_unlock(name), name)

    def spin_unlock(self, name: str = "") -> None:
        """Release a spinlock; without a name, the innermost (same name in Linux).

        Raises:
            TypeError: the name is no text. RuntimeError: it is not held here.
        """
        self._leave("spinlock", f"spin_unlock({_lock(name)})", name)

    def local_irq_save(self) -> Section:
        """Switch interrupts off on this CPU, timer and all; close with local_irq_restore().

        The caller must not sleep, though schedule() itself would not notice.
        """
        return self._enter("irqs_off", "local_irq_save(flags)", self.local_irq_restore)

    def local_irq_restore(self, flags: Section | None = None) -> None:
        """Put interrupts back to what they were (same name in Linux).

        Args:
            flags: what local_irq_save() returned; left out, that of the innermost one.

        Raises:
            TypeError: `flags` is nothing of the kind. RuntimeError: there is nothing to restore.
        """
        if flags is not None and not isinstance(flags, Section):
            raise TypeError(f"flags={flags!r}: give what local_irq_save() returned")
        self._leave("irqs_off", "local_irq_restore(flags)")
        if flags is not None:
            self.context.irqs_disabled = flags.irqs_disabled

    def preempt_disable(self) -> Section:
        """Keep the scheduler from taking the CPU away; close with preempt_enable()."""
        return self._enter("preempt_off", "preempt_disable()", self.preempt_enable)

    def preempt_enable(self) -> None:
        """End what preempt_disable() began.

        Raises:
            RuntimeError: it did not begin here.
        """
        self._leave("preempt_off", "preempt_enable()")

    def rcu_read_lock(self) -> Section:
        """Begin an RCU reader, which may be preempted but must not sleep.

        Close with rcu_read_unlock().
        """
        return self._enter("rcu", "rcu_read_lock()", self.rcu_read_unlock)

    def rcu_read_unlock(self) -> None:
        """End the innermost RCU reader (same name in Linux).

        Raises:
            RuntimeError: there is none here.
        """
        self._leave("rcu", "rcu_read_unlock()")

    def mutex_lock(self, name: str) -> Section:
        """Take a mutex: the caller may sleep with it in hand. Close with mutex_unlock().

        lockdep, in the debug kernel, remembers which locks were held.
        """
        lockdep.lock_acquire(self, name)
        return self._enter("mutex", f"mutex_lock({_lock(name)})", self.mutex_unlock, name)

    def mutex_unlock(self) -> None:
        """Release the innermost mutex (same name in Linux).

        Raises:
            RuntimeError: none is held here.
        """
        self._leave("mutex", "mutex_unlock()")

    def fs_reclaim_acquire(self) -> Section:
        """Go where shrinkers run: into reclaim. Close with fs_reclaim_release()."""
        lockdep.lock_acquire(self, lockdep.FS_RECLAIM)
        return self._enter(
            "reclaim", "fs_reclaim_acquire()", self.fs_reclaim_release, lockdep.FS_RECLAIM
        )

    def fs_reclaim_release(self) -> None:
        """Leave what fs_reclaim_acquire() entered (same name in Linux)."""
        self._leave("reclaim", "fs_reclaim_release()")

    # -- interrupts -------------------------------------------------------------------------------

    def hardirq(self) -> Section:
        """Let a hard interrupt arrive: its handler makes the calls until irq_exit().

        Raises:
            RuntimeError: interrupts are off.
        """
        return self._enter("hardirq", "hardirq()", self.irq_exit)

    def irq_exit(self) -> None:
        """Return from the hard interrupt (same name in Linux).

        Raises:
            RuntimeError: there is none, or its handler still holds something.
            Panic: reclaim switched interrupts on inside of it.
        """
        self.context.innermost("hardirq")

        def run() -> None:
            enabled = not self.context.irqs_disabled
            self._left("hardirq")
            if enabled:
                debug.interrupts_enabled_in_irq_work(self)

        self._call("irq_exit()", run)

    def softirq(self) -> Section:
        """Let a softirq run on top of the current task: it makes the calls until softirq_exit().

        The task's PF_MEMALLOC is masked out meanwhile: its rights are not the softirq's.

        Raises:
            RuntimeError: interrupts are off, or one is being served.
        """
        memalloc = self.current.flags & PF_MEMALLOC
        return self._enter("softirq", "softirq()", self.softirq_exit, memalloc)

    def softirq_exit(self) -> None:
        """Return from the softirq to the task.

        Raises:
            RuntimeError: there is none, or it still holds something.
        """
        self._leave("softirq", "softirq_exit()")

    def might_sleep(self, where: str = "kmemkit") -> None:
        """Say that what follows may sleep, as functions that may do first (same name in Linux).

        With CONFIG_DEBUG_ATOMIC_SLEEP the kernel prints a report where it must not.

        Args:
            where: source file and line, for the report.
        """
        self._call("might_sleep()", lambda: debug.might_sleep(self, where))

    # -- inside -----------------------------------------------------------------------------------

    def _enter(
        self, frame: str, call: str, leave: Callable[[], None], detail: str | int = 0
    ) -> Section:
        self.context.check_arrival(frame)
        section = Section(self, leave)

        def run() -> None:
            self.context.enter(frame, detail)
            if frame == "softirq":
                self.current.flags &= ~PF_MEMALLOC
            self._moved()

        self._call(call, run)
        return section

    def _leave(self, frame: str, call: str, name: str = "") -> None:
        self.context.innermost(frame, name)
        self._call(call, lambda: self._left(frame, name))

    def _left(self, frame: str, name: str = "") -> None:
        detail = self.context.leave(frame, name)
        if frame == "softirq":
            assert isinstance(detail, int)
            self.current.flags = self.current.flags & ~PF_MEMALLOC | detail
        self._moved()
        if self.context.count_lost and FRAMES[frame] and frame != "hardirq":
            self.context.count_lost = False
            debug.preempt_count_underflow(self, frame)

    def _unwind(self, depth: int) -> None:
        """Leave all sections beyond the first `depth`, as they are left by an error."""
        self.context.count_lost = False
        while len(self.context.frames) > depth:
            self._left(self.context.frames[-1])

    def _moved(self) -> None:
        """Forget what masks meant in the context before, and say what holds now."""
        self._contexts.clear()
        debug.note_context(self)


def _lock(name: str) -> str:
    """Return a lock as C names it."""
    if not isinstance(name, str):
        raise TypeError(f"name={name!r}: give the lock's name as text")
    return f"&{name or 'lock'}"
