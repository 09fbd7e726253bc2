"""What a request does where it is made, found out by making it: frames, runs, and what would help.

ContextStack shows what stands here. Nothing in this file knows which context forbids what: each
answer is a run on a clone of the kernel that is given, plain or with the debug options on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from kmemkit.gfp import as_mask, decode, effects, profile
from kmemkit.snapshot import Why
from kmemkit.strings import text

__all__ = (
    "FIXES",
    "FRAMES",
    "Fix",
    "Frame",
    "Run",
    "Stage",
    "fixes",
    "frame_text",
    "may_sleep",
    "play",
)

#: Bits of task_struct's flags that reports and this view name (include/linux/sched.h).
_PF_NAMES = {
    0x800: "PF_MEMALLOC",
    0x40000: "PF_MEMALLOC_NOFS",
    0x80000: "PF_MEMALLOC_NOIO",
    0x10000000: "PF_MEMALLOC_PIN",
}
_PF_MEMALLOC = 0x800
#: How a line of the kernel log begins that complains of its caller.
_COMPLAINTS = ("BUG: ", "WARNING: ", "kernel BUG at ", "Kernel panic")


@dataclass(frozen=True, slots=True)
class Frame:
    """One thing that can surround a caller. `enter` and `leave` are the C that does it."""

    key: str
    group: str  #: "section", "interrupt", "scope" or "task"
    enter: str
    leave: str
    push: Callable[[Any], AbstractContextManager[object]]

    @property
    def interrupts(self) -> bool:
        """Whether it begins by itself, so that its code cannot do anything before it."""
        return self.group == "interrupt"


@contextmanager
def _reclaimer(kernel: Any) -> Iterator[None]:
    kernel.set_task_flags(_PF_MEMALLOC)
    yield
    kernel.clear_task_flags(_PF_MEMALLOC)


@contextmanager
def _victim(kernel: Any) -> Iterator[None]:
    kernel.mark_oom_victim()
    yield


def _scope(name: str) -> Callable[[Any], AbstractContextManager[object]]:
    return lambda kernel: getattr(kernel, f"memalloc_{name}_save")()


def _frames() -> Iterator[Frame]:
    yield Frame("spinlock", "section", "spin_lock(&lock);", "spin_unlock(&lock);",
                lambda kernel: kernel.spin_lock())  # fmt: skip
    yield Frame("irqs_off", "section", "local_irq_save(flags);", "local_irq_restore(flags);",
                lambda kernel: kernel.local_irq_save())  # fmt: skip
    yield Frame("rcu", "section", "rcu_read_lock();", "rcu_read_unlock();",
                lambda kernel: kernel.rcu_read_lock())  # fmt: skip
    yield Frame("softirq", "interrupt", "softirq", "", lambda kernel: kernel.softirq())
    yield Frame("hardirq", "interrupt", "hardirq", "", lambda kernel: kernel.hardirq())
    for name in ("nofs", "noio", "noreclaim", "pin"):
        yield Frame(name, "scope", f"flags = memalloc_{name}_save();",
                    f"memalloc_{name}_restore(flags);", _scope(name))  # fmt: skip
    yield Frame("reclaimer", "task", "current->flags |= PF_MEMALLOC;", "", _reclaimer)
    yield Frame("victim", "task", "mark_oom_victim(current);", "", _victim)


#: Everything that can be pushed, by key, in the order in which it is offered.
FRAMES = {frame.key: frame for frame in _frames()}


def frame_text(key: str) -> str:
    """Return what a frame is called: its C call where it is one."""
    frame = FRAMES[key]
    name = text(f"context_stack.frame.{key}")
    return name if frame.group in ("interrupt", "task") else frame.enter.split("= ")[-1].rstrip(";")


@dataclass(frozen=True, slots=True)
class Stage:
    """A request and what surrounds it, outermost first."""

    frames: tuple[str, ...]
    gfp: int
    order: int = 0

    @property
    def call(self) -> str:
        """The call, as the kernel's own names have it."""
        return f"alloc_pages({decode(self.gfp) or '0'}, {self.order})"


@dataclass(frozen=True, slots=True)
class Run:
    """What one kernel did with a request: its result, its log, its reasons."""

    result: str
    lines: tuple[str, ...]
    why: Why | None
    left: int  #: what the scopes left of the mask
    context: tuple[str, ...]
    task_flags: int
    oom_victim: bool
    ended: bool  #: an oops, a panic, or a request that never returns

    @property
    def complaint(self) -> str:
        """The first line of the log that complains of the caller, "" if none does."""
        return next((line for line in self.lines if line.startswith(_COMPLAINTS)), "")

    @property
    def got(self) -> bool:
        """Whether a page came back."""
        return not self.ended and self.result != "NULL"

    def sees(self) -> str:
        """Return what the kernel itself knows of the caller's surroundings."""
        names = [name for bit, name in _PF_NAMES.items() if self.task_flags & bit]
        names += ["TIF_MEMDIE"] if self.oom_victim else []
        nothing = text("context_stack.nothing")
        return text(
            "context_stack.sees",
            context=", ".join(self.context) or nothing,
            flags=" | ".join(names) or nothing,
        )


def play(kernel: Any, stage: Stage, *, debug: bool) -> Run:
    """Make a request on a clone of `kernel`, inside the frames of the stage, and leave them again.

    Raises:
        RuntimeError: one of the frames cannot be entered inside the others; says why.
    """
    clone = kernel.clone()
    clone.debug_kernel = debug
    clone.record()
    sections = ExitStack()
    for key in stage.frames:
        sections.enter_context(FRAMES[key].push(clone))
    seen, left, result, ended = clone.snapshot(), clone.current_gfp_context(stage.gfp), "", False
    why = None
    try:
        with sections:
            try:
                clone.alloc_pages(stage.gfp, stage.order)
            finally:
                why = clone.why()  # before the sections are left, which are calls as well
                result = why.result
    except RuntimeError as error:
        ended, result = True, str(error).splitlines()[0]
    log = clone.snapshot().settings["dmesg"]
    task = next(task for task in seen.tasks if task.pid == seen.settings["current"])
    return Run(result, tuple(log[len(seen.settings["dmesg"]) :]), why, left, seen.context,
               task.flags, task.oom_victim, ended)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fix:
    """A change that somebody might make, and what the debug and the plain kernel did then."""

    key: str
    stage: Stage
    debug: Run
    plain: Run

    @property
    def works(self) -> bool:
        """Whether the debug kernel has nothing to say of it any more."""
        return not self.debug.complaint and not self.debug.ended


def _swap(names: str) -> Callable[[Stage], Stage]:
    mask = as_mask(names)
    return lambda stage: Stage(stage.frames, mask | stage.gfp & ~_swapped(), stage.order)


def _swapped() -> int:
    """Return the bits that a swap of one GFP name for another replaces."""
    values = profile("6.12").values
    return int(values["GFP_KERNEL"] | values["GFP_ATOMIC"])


def _before(stage: Stage) -> Stage:
    """Return the request made before the sections that its own code entered."""
    own = next(
        (n for n, key in reversed([*enumerate(stage.frames, 1)]) if FRAMES[key].interrupts), 0
    )
    kept = [
        key
        for n, key in enumerate(stage.frames)
        if n < own or FRAMES[key].group not in ("section", "interrupt")
    ]
    return Stage(tuple(kept), stage.gfp, stage.order)


#: What people change when a request is in the wrong place, by key, each as a change of the stage.
FIXES: dict[str, Callable[[Stage], Stage]] = {
    "nofs": _swap("GFP_NOFS"),
    "noio": _swap("GFP_NOIO"),
    "scope": lambda stage: Stage((*stage.frames, "nofs"), stage.gfp, stage.order),
    "atomic": _swap("GFP_ATOMIC"),
    "nowait": _swap("GFP_NOWAIT"),
    "before": _before,
    "reserve": lambda stage: Stage((), stage.gfp, stage.order),
}


def fixes(kernel: Any, stage: Stage) -> tuple[Fix, ...]:
    """Try every change on clones of `kernel`; the request itself is one that may sleep."""
    tried = []
    for key, change in FIXES.items():
        changed = change(stage)
        runs = (play(kernel, changed, debug=debug) for debug in (True, False))
        tried.append(Fix(key, changed, *runs))
    return tuple(tried)


def may_sleep(mask: int) -> bool:
    """Whether a request with this mask may enter direct reclaim."""
    return effects(mask).may_sleep
