"""The stack dump at the top of a report: who ran where, and the functions it came through.

`show_mem.warn_alloc()` and `oom_report.dump_header()` print it. Linux: lib/dump_stack.c,
kernel/printk. Simplified: the functions are those of the allocator's own road, by name only; what
called it, the registers and the taint flags are of no simulated machine (docs/fidelity.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = ("alloc_pages_road", "dump_stack")

HARDWARE = "kmemkit simulated PC"


def alloc_pages_road(kernel: Machine) -> tuple[str, ...]:
    """Return how a request comes to the slow path, innermost function first."""
    road = ("__alloc_pages_slowpath", "__alloc_pages_noprof")
    # Debian's i386 kernel has no nodes, and so no memory policies to ask
    return road if kernel.arch == "i386" else (*road, "alloc_pages_mpol_noprof")


def dump_stack(kernel: Machine, functions: tuple[str, ...]) -> None:
    """Print the header lines and the call trace, innermost function first (same name in Linux)."""
    task = kernel.current
    kernel.printk(
        f"CPU: {kernel.cpu} UID: {task.uid} PID: {task.pid} Comm: {task.comm:.20} "
        f"Not tainted {kernel.release} #1"
    )
    kernel.printk(f"Hardware name: {HARDWARE}")
    kernel.printk("Call Trace:")
    # Interrupt handlers and softirqs run on the interrupt stack, above the task's
    stack = "IRQ" if kernel.context.in_interrupt else "TASK"
    kernel.printk(f" <{stack}>")
    for function in ("dump_stack_lvl", *functions):
        kernel.printk(f" {function}")
    kernel.printk(f" </{stack}>")
