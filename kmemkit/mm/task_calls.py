"""The calls that say whose request it is: memalloc scopes, and which task runs.

They are part of Kernel's API. A scope is a bit in the current task's flags, and `page_alloc` looks
at them with every request. A save returns the bits that it set anew, a restore clears those, so
scopes nest; `with` around a save restores at the end. Linux: include/linux/sched/mm.h.
"""

from __future__ import annotations

from collections.abc import Callable

from kmemkit.gfp import as_mask
from kmemkit.mm.context import current_gfp_context
from kmemkit.mm.machine import Machine
from kmemkit.mm.sched import (
    PF_MEMALLOC,
    PF_MEMALLOC_NOFS,
    PF_MEMALLOC_NOIO,
    PF_MEMALLOC_PIN,
    Task,
)

__all__ = ("RunAs", "ScopeFlags", "TaskCalls")

_MEMALLOC = PF_MEMALLOC | PF_MEMALLOC_NOFS | PF_MEMALLOC_NOIO | PF_MEMALLOC_PIN


class ScopeFlags(int):
    """The bits that a memalloc_*_save() set anew; `with` restores them."""

    _restore: Callable[[int], None]

    def __enter__(self) -> ScopeFlags:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._restore(self)

    def __repr__(self) -> str:
        return f"{int(self):#x}"


class RunAs:
    """The task that ran before run_as(); `with` lets it run again."""

    __slots__ = ("_kernel", "pid")

    def __init__(self, kernel: TaskCalls, pid: int) -> None:
        self._kernel, self.pid = kernel, pid

    def __enter__(self) -> RunAs:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        before = self._kernel.task(self.pid)
        if kind is not None:
            self._kernel._switch_to(before)
        elif not before.exited:
            self._kernel.run_as(before)

    def __repr__(self) -> str:
        return f"<pid {self.pid} ran before>"


class TaskCalls(Machine):
    """Memalloc scopes, and the tasks they belong to."""

    # -- memalloc scopes --------------------------------------------------------------------------

    def memalloc_nofs_save(self) -> ScopeFlags:
        """Begin a scope in which no request enters a filesystem: masks lose __GFP_FS.

        Returns the bit if it was not set yet, else 0. Close with memalloc_nofs_restore().
        """
        return self._save("nofs", PF_MEMALLOC_NOFS, self.memalloc_nofs_restore)

    def memalloc_nofs_restore(self, flags: int) -> None:
        """End a scope: clear what the call that began it had set (same name in Linux).

        Raises:
            TypeError, ValueError: `flags` is not what a memalloc_*_save() returned.
        """
        self._restore("nofs", flags)

    def memalloc_noio_save(self) -> ScopeFlags:
        """Begin a scope in which no request starts I/O: masks lose __GFP_IO and __GFP_FS.

        Returns the bit if it was not set yet, else 0. Close with memalloc_noio_restore().
        """
        return self._save("noio", PF_MEMALLOC_NOIO, self.memalloc_noio_restore)

    def memalloc_noio_restore(self, flags: int) -> None:
        """End a scope: clear what the call that began it had set (same name in Linux).

        Raises:
            TypeError, ValueError: `flags` is not what a memalloc_*_save() returned.
        """
        self._restore("noio", flags)

    def memalloc_noreclaim_save(self) -> ScopeFlags:
        """Begin a scope of PF_MEMALLOC: no reclaim, but all reserves (unless __GFP_NOMEMALLOC).

        For those who free memory by allocating some. Not for interrupts: the bit goes to the task
        that was interrupted, and gives a hard interrupt nothing. Returns the bit if it was not set
        yet, else 0. Close with memalloc_noreclaim_restore().
        """
        return self._save("noreclaim", PF_MEMALLOC, self.memalloc_noreclaim_restore)

    def memalloc_noreclaim_restore(self, flags: int) -> None:
        """End a scope: clear what the call that began it had set (same name in Linux).

        Raises:
            TypeError, ValueError: `flags` is not what a memalloc_*_save() returned.
        """
        self._restore("noreclaim", flags)

    def memalloc_pin_save(self) -> ScopeFlags:
        """Begin a scope whose pages may stay pinned for long: masks lose __GFP_MOVABLE.

        Returns the bit if it was not set yet, else 0. Close with memalloc_pin_restore().
        """
        return self._save("pin", PF_MEMALLOC_PIN, self.memalloc_pin_restore)

    def memalloc_pin_restore(self, flags: int) -> None:
        """End a scope: clear what the call that began it had set (same name in Linux).

        Raises:
            TypeError, ValueError: `flags` is not what a memalloc_*_save() returned.
        """
        self._restore("pin", flags)

    def current_gfp_context(self, gfp: int | str) -> int:
        """Return what the current task's scopes leave of a mask (same name in Linux)."""
        return current_gfp_context(self.current.flags, as_mask(gfp, self.release))

    # -- tasks ------------------------------------------------------------------------------------

    def task(self, task: Task | int) -> Task:
        """Return this machine's task of a pid; a clone's tasks are not its original's.

        Raises:
            TypeError: neither a task nor a pid. ValueError: there is no such task.
        """
        pid = task.pid if isinstance(task, Task) else task
        if not isinstance(pid, int) or isinstance(pid, bool):
            raise TypeError(f"task={task!r}: give a task of Kernel.tasks, or its pid")
        for known in self.tasks:
            if known.pid == pid:
                return known
        raise ValueError(f"there is no task {pid}; there are {[t.pid for t in self.tasks]}")

    def run_as(self, task: Task | int) -> RunAs:
        """Let another task make the calls; `with` goes back to the one before.

        Args:
            task: one of Kernel.tasks, or its pid.

        Raises:
            TypeError, ValueError: there is no such task, or it has exited. RuntimeError: the
                current one is inside of a section, so the scheduler cannot switch.
        """
        new, before = self.task(task), self.current
        if new.exited:
            raise ValueError(f"task {new.pid} ({new.comm}) has exited; give one that has not")
        if self.context.frames:
            raise RuntimeError(
                f"{new.comm} cannot run now: {before.comm} is inside of "
                f"{', '.join(self.context.frames)}; leave that first"
            )

        self._call(f"run_as({new.comm} [{new.pid}])", lambda: self._switch_to(new))
        return RunAs(self, before.pid)

    def mark_oom_victim(self, task: Task | int | None = None) -> None:
        """Mark a task as the OOM killer's victim: to exit, it may use half of the min mark's pages.

        Args:
            task: one of Kernel.tasks, or its pid; by default the current one.

        Raises:
            TypeError, ValueError: there is no such task.
        """
        victim = self.current if task is None else self.task(task)

        def run() -> None:
            victim.oom_victim = True
            if self.trace is not None:
                self.trace.event("mark_victim", pid=victim.pid, comm=victim.comm)

        self._call(f"mark_oom_victim({victim.comm} [{victim.pid}])", run)

    def set_task_flags(self, flags: int, task: Task | int | None = None) -> None:
        """Set PF_MEMALLOC* bits of a task, as kswapd does with its own.

        Args:
            flags: the bits; others of task_struct.flags have no effect here.
            task: one of Kernel.tasks, or its pid; by default the current one.

        Raises:
            TypeError, ValueError: other bits, or there is no such task.
        """
        self._change_flags(task, "|= ", _check_bits(flags))

    def clear_task_flags(self, flags: int, task: Task | int | None = None) -> None:
        """Clear PF_MEMALLOC* bits of a task; arguments and errors as for set_task_flags()."""
        self._change_flags(task, "&= ~", _check_bits(flags))

    # -- inside -----------------------------------------------------------------------------------

    def _switch_to(self, task: Task) -> None:
        self.current = task
        self._contexts.clear()

    def _save(self, scope: str, bit: int, restore: Callable[[int], None]) -> ScopeFlags:
        task = self.current

        def run() -> ScopeFlags:
            saved = ScopeFlags(bit & ~task.flags)
            saved._restore = restore
            task.flags |= bit
            self._contexts.clear()
            self._explain_scope(scope, bool(saved))
            return saved

        return self._call(f"memalloc_{scope}_save()", run, repr)

    def _explain_scope(self, scope: str, new: bool) -> None:
        if self.trace is None:
            return
        if scope == "nofs":
            self.trace.note("scope_nofs", comm=self.comm)
        elif scope == "noio":
            self.trace.note("scope_noio", comm=self.comm)
        elif scope == "pin":
            self.trace.note("scope_pin", comm=self.comm)
        else:
            self.trace.note("scope_noreclaim", comm=self.comm)
            if self.context.in_hardirq:
                self.trace.note("scope_in_hardirq", comm=self.comm)
        if not new:
            self.trace.note("scope_nested")

    def _restore(self, scope: str, flags: int) -> None:
        _check_bits(flags)
        task = self.current

        def run() -> None:
            task.flags &= ~flags
            self._contexts.clear()
            if self.trace is not None:
                self.trace.note("scope_restored", bits=int(flags), left=task.flags & _MEMALLOC)

        self._call(f"memalloc_{scope}_restore({flags:#x})", run)

    def _change_flags(self, task: Task | int | None, how: str, bits: int) -> None:
        owner = self.current if task is None else self.task(task)

        def run() -> None:
            owner.flags = owner.flags | bits if how == "|= " else owner.flags & ~bits
            self._contexts.clear()

        self._call(f"{owner.comm} [{owner.pid}]: flags {how}{bits:#x}", run)


def _check_bits(flags: int) -> int:
    if not isinstance(flags, int) or isinstance(flags, bool):
        raise TypeError(f"flags={flags!r}: give what a memalloc_*_save() returned")
    if flags & ~_MEMALLOC:
        raise ValueError(
            f"flags={flags:#x}: only the bits of memalloc scopes ({_MEMALLOC:#x}) can change; "
            "give what a memalloc_*_save() returned"
        )
    return flags
