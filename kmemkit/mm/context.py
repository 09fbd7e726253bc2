"""What surrounds a caller: interrupts, locks, RCU sections, and the memalloc scopes of its task.

`page_alloc` asks here whether a request may sleep and which mask is left of it, `vmscan` and
`kswapd` who may run meanwhile; `context_calls` enters and leaves. Linux: include/linux/preempt.h,
include/linux/sched/mm.h. Simplified: one CPU makes the calls, and its sections are one stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kmemkit import gfp as flags
from kmemkit.mm.errors import Livelock
from kmemkit.mm.sched import PF_MEMALLOC_NOFS, PF_MEMALLOC_NOIO, PF_MEMALLOC_PIN

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = (
    "FRAMES",
    "Context",
    "cpuset_node_allowed",
    "current_gfp_context",
    "others_may_run",
    "reclaim_enables_interrupts",
)

#: What one of each frame adds to preempt_count.
FRAMES = {
    "hardirq": 0x10000, "softirq": 0x100, "spinlock": 1, "preempt_off": 1, "irqs_off": 0, "rcu": 0,
    "mutex": 0, "reclaim": 0,
}  # fmt: skip
_INTERRUPTS = ("hardirq", "softirq")
#: Frames that switch interrupts off; each keeps what they were before.
_SWITCH_OFF = ("hardirq", "irqs_off")


class Context:
    """The sections the caller is inside of, outermost first.

    Args:
        frames: keys of FRAMES.
        details: for each frame, what leaving it needs: a spinlock's name, whether interrupts were
            off before, the PF_MEMALLOC that a softirq masked out.
        irqs_disabled: whether interrupts are off; what the frames make of it, if left out.
    """

    __slots__ = ("count_lost", "details", "frames", "irqs_disabled", "splat_tick")

    def __init__(
        self,
        frames: Sequence[str] = (),
        details: Sequence[str | int] | None = None,
        irqs_disabled: bool | None = None,
    ) -> None:
        self.frames = list(frames)
        if details is None:
            off = [frame in _SWITCH_OFF for frame in frames]
            details = ["" if frame == "spinlock" else int(frame in _SWITCH_OFF and any(off[:at]))
                       for at, frame in enumerate(frames)]  # fmt: skip
        self.details = list(details)
        if irqs_disabled is None:
            irqs_disabled = any(frame in _SWITCH_OFF for frame in frames)
        #: whether interrupts are off on this CPU (irqs_disabled())
        self.irqs_disabled = irqs_disabled
        #: timer tick of the last "sleeping function" report; there is one a second at most
        self.splat_tick: int | None = None
        #: schedule() found the count to be wrong, and set it to 0 inside of a section
        self.count_lost = False

    # -- what Linux asks --------------------------------------------------------------------------

    @property
    def in_hardirq(self) -> bool:
        """Whether an interrupt handler runs (same name in Linux)."""
        return "hardirq" in self.frames

    @property
    def in_serving_softirq(self) -> bool:
        """Whether a softirq is served, be it interrupted itself or not (same name in Linux)."""
        return "softirq" in self.frames

    @property
    def in_interrupt(self) -> bool:
        """Whether any interrupt is being served (same name in Linux)."""
        return self.in_hardirq or "softirq" in self.frames

    @property
    def in_task(self) -> bool:
        """Whether the task itself runs (same name in Linux)."""
        return not self.in_interrupt

    @property
    def preempt_count(self) -> int:
        """Spinlocks held + 0x100 in a softirq + 0x10000 in a hard interrupt (same name in Linux).

        While it is not 0 the scheduler takes the CPU from nobody.
        """
        return 0 if self.count_lost else sum(map(FRAMES.__getitem__, self.frames))

    @property
    def rcu_depth(self) -> int:
        """How many RCU readers the caller is inside of (rcu_preempt_depth())."""
        return self.frames.count("rcu")

    @property
    def may_sleep(self) -> bool:
        """Whether nothing around the caller forbids it to sleep (__might_resched() asks this)."""
        return not self.frames or not (self.preempt_count or self.irqs_disabled or self.rcu_depth)

    @property
    def locks(self) -> tuple[str, ...]:
        """What lockdep says is held, oldest first."""
        names = {"spinlock": "lock", "rcu": "rcu_read_lock"}
        held = zip(self.frames, self.details, strict=True)
        return tuple(str(name or names[frame]) for frame, name in held if frame in names)

    @property
    def sleeping_locks(self) -> tuple[str, ...]:
        """The mutexes held, and fs_reclaim inside of a shrinker, oldest first."""
        held = zip(self.frames, self.details, strict=True)
        return tuple(str(name) for frame, name in held if frame in ("mutex", "reclaim"))

    # -- in and out -------------------------------------------------------------------------------

    def enter(self, frame: str, detail: str | int = 0) -> None:
        """Go into a section; `detail` is a spinlock's name, or what a softirq masked out.

        Raises:
            RuntimeError: an interrupt cannot come here. Livelock: the lock is held already.
        """
        self.check_arrival(frame)
        if frame == "spinlock" and detail and detail in self.details:
            raise Livelock(
                f"spin_lock(&{detail}): this CPU holds {detail} already, so it waits for itself "
                "for ever; unlock it first"
            )
        if frame in _SWITCH_OFF:
            detail, self.irqs_disabled = int(self.irqs_disabled), True
        self.frames.append(frame)
        self.details.append(detail)

    def check_arrival(self, frame: str) -> None:
        """Raise RuntimeError if `frame` is an interrupt and this is no place for it."""
        inside = ", ".join(self.frames)
        if frame in _INTERRUPTS and self.irqs_disabled:
            raise RuntimeError(
                f"no {frame} can come now: interrupts are off (inside of {inside}). "
                "Enter it before, or switch them on first"
            )
        if frame == "softirq" and self.in_interrupt:
            raise RuntimeError(
                f"no softirq can come now: it waits until the interrupt is over (inside of "
                f"{inside}). Enter it before"
            )

    def leave(self, frame: str, name: str = "") -> str | int:
        """Leave the innermost section of a kind, and return its detail.

        Locks may be released in any order; but a handler has to end what it began before it
        returns, and can end nothing of what it interrupted.

        Raises:
            RuntimeError: there is no such section to leave; says what there is.
        """
        at = self.innermost(frame, name)
        detail = self.details[at]
        del self.frames[at], self.details[at]
        if frame in _SWITCH_OFF:
            self.irqs_disabled = bool(detail)
        return detail

    def innermost(self, frame: str, name: str = "") -> int:
        """Return the index of the frame that leave() leaves; raises what leave() raises."""
        for at in reversed(range(len(self.frames))):
            here = self.frames[at]
            if here == frame and name in ("", self.details[at]):
                return at
            if frame in _INTERRUPTS or here in _INTERRUPTS:
                break
        what = f"{frame} {name}".strip()
        if frame in _INTERRUPTS and frame in self.frames:
            raise RuntimeError(
                f"the {frame} cannot end: it is still inside of {self.frames[-1]}; leave that first"
            )
        inside = ", ".join(self.frames) or "nothing"
        raise RuntimeError(f"there is no {what} to leave: the caller is inside of {inside}")

    # -- frozen -----------------------------------------------------------------------------------

    def freeze(self) -> dict[str, Any]:
        """Return all but the frames, for Snapshot.settings."""
        return {
            "details": tuple(self.details),
            "irqs_disabled": self.irqs_disabled,
            "splat_tick": self.splat_tick,
            "count_lost": self.count_lost,
        }

    @classmethod
    def thaw(cls, frames: Sequence[str], frozen: Mapping[str, Any]) -> Context:
        """Return a context made from a frozen one, or from the frames alone."""
        context = cls(frames, frozen.get("details"), frozen.get("irqs_disabled"))
        context.splat_tick = frozen.get("splat_tick")
        context.count_lost = frozen.get("count_lost", False)
        return context


def current_gfp_context(task_flags: int, gfp: int) -> int:
    """Return what the task's memalloc scopes leave of a mask (same name in Linux)."""
    if task_flags & PF_MEMALLOC_NOIO:
        gfp &= ~(flags.__GFP_IO | flags.__GFP_FS)
    elif task_flags & PF_MEMALLOC_NOFS:
        gfp &= ~flags.__GFP_FS
    if task_flags & PF_MEMALLOC_PIN:
        gfp &= ~flags.__GFP_MOVABLE
    return gfp


def cpuset_node_allowed(kernel: Machine, nid: int, gfp: int) -> bool:
    """Return whether the current task's cpuset lets a request use a node (same name in Linux).

    An interrupt is nobody's, and a victim of the OOM killer has to come to an end. The kernel's own
    pages (no __GFP_HARDWALL) may come from the next cpuset above, and that is the root's: all.
    """
    task = kernel.current
    if task.mems_allowed is None or nid in task.mems_allowed or not kernel.context.in_task:
        return True
    return task.oom_victim or not gfp & flags.__GFP_HARDWALL


# -- what reclaim and the OOM killer have to know -------------------------------------------------


def others_may_run(kernel: Machine) -> bool:
    """Return whether anybody else gets a CPU while the caller goes on.

    kswapd, the OOM reaper and a victim that is to exit all need one. With a single CPU they have
    none while a lock or an interrupt keeps the scheduler away, and none without a timer tick.
    """
    context = kernel.context
    if not context.frames or kernel.nr_cpus > 1:
        return True
    return not (context.preempt_count or context.irqs_disabled)


def reclaim_enables_interrupts(kernel: Machine) -> None:
    """Switch interrupts on, as every scan of an LRU list does when it unlocks the list.

    Direct reclaim takes lru_lock with spin_lock_irq(), because its caller may sleep and so cannot
    have interrupts off. If it has, they are on from here: an interrupts-off section is open to
    interrupts, and a hard interrupt will not survive its return (irq_exit()).
    """
    context = kernel.context
    if context.irqs_disabled:
        context.irqs_disabled = False
        if kernel.trace is not None:
            kernel.trace.note("reclaim_irqs_on", frames=", ".join(context.frames))
