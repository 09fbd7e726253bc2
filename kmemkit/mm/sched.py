"""Tasks: who asks for memory, who holds it, and whom the OOM killer may end.

`Kernel` has a list of them and a `current` one; `context` looks at its flags, `oom_kill` at its
memory. Linux: include/linux/sched.h. Simplified: a task holds anonymous pages one by one, and only
numbers of everything else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kmemkit.snapshot import TaskSnapshot

__all__ = (
    "PF_MEMALLOC",
    "PF_MEMALLOC_NOFS",
    "PF_MEMALLOC_NOIO",
    "PF_MEMALLOC_PIN",
    "Task",
    "task_owner",
)

PF_MEMALLOC = 0x800
PF_MEMALLOC_NOFS = 0x40000
PF_MEMALLOC_NOIO = 0x80000
PF_MEMALLOC_PIN = 0x10000000


@dataclass(slots=True, repr=False, eq=False)
class Task:
    """A task (struct task_struct and its mm). Sizes are pages unless named otherwise."""

    pid: int
    comm: str
    flags: int = 0
    oom_score_adj: int = 0
    uid: int = 0
    rss_file: int = 0
    rss_shmem: int = 0
    swapents: int = 0
    pgtables_bytes: int = 0
    #: pages mapped beyond those in memory
    vm_only: int = 0
    kernel_thread: bool = False
    realtime: bool = False
    oom_victim: bool = False
    exited: bool = False
    cpuset: str = "/"
    mems_allowed: tuple[int, ...] | None = None
    #: pfns of its anonymous pages, in the order they were touched
    anon: dict[int, None] = field(default_factory=dict)
    #: pfns of its page tables; `pgtables_bytes` counts them
    pgtables: list[int] = field(default_factory=list)
    #: pfns of its kernel stack and structures, and of what the kernel notes about its swapped pages
    kernel_pages: list[int] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<Task {self.pid} {self.comm}: {self.rss:,} pages in memory>"

    @property
    def rss(self) -> int:
        """Pages in memory."""
        return len(self.anon) + self.rss_file + self.rss_shmem

    @property
    def total_vm(self) -> int:
        """Pages of address space."""
        return self.rss + self.swapents + self.vm_only

    def freeze(self) -> TaskSnapshot:
        """Return the task as a frozen value; its pages stand in the page columns."""
        return TaskSnapshot(
            self.pid, self.comm, self.flags, self.oom_score_adj, self.uid, self.total_vm,
            len(self.anon), self.rss_file, self.rss_shmem, self.swapents, self.pgtables_bytes,
            self.kernel_thread, self.realtime, self.oom_victim, self.exited, self.cpuset,
            self.mems_allowed, tuple(self.pgtables), tuple(self.kernel_pages),
        )  # fmt: skip

    @classmethod
    def thaw(cls, frozen: TaskSnapshot) -> Task:
        """Return a live task made from a frozen one; its pages are put back by the caller."""
        task = cls(frozen.pid, frozen.comm)
        for name in (
            "flags", "oom_score_adj", "uid", "rss_file", "rss_shmem", "swapents", "pgtables_bytes",
            "kernel_thread", "realtime", "oom_victim", "exited", "cpuset", "mems_allowed",
        ):  # fmt: skip
            setattr(task, name, getattr(frozen, name))
        rss = frozen.rss_anon + frozen.rss_file + frozen.rss_shmem + frozen.swapents
        task.pgtables = list(frozen.pgtables)
        task.kernel_pages = list(frozen.kernel_pages)
        task.vm_only = frozen.total_vm - rss
        return task


def task_owner(task: Task) -> str:
    """Return the name under which a task's pages stand in the owner column."""
    return f"{task.comm} [{task.pid}]"
