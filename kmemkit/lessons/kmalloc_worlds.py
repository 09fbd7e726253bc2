"""Small machines that lesson 09 plays on, and lines about what kmalloc() and its family gave there.

Everything printed comes from a simulated machine. The notebook starts from these machines; the
lesson's exercises and questions boot them anew.
"""

from __future__ import annotations

from kmemkit.gfp import GFP_KERNEL
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.kmemleak import LeakObject
from kmemkit.strings import text

__all__ = ("adjacent", "classes", "dirty", "first_line", "given", "live", "machine", "room")


def machine(*, init_on_alloc: bool = True, debug: bool = False) -> Kernel:
    """Boot 16 MiB with Debian's defaults; with `debug` a kernel that has KASAN."""
    cmdline = "" if init_on_alloc else "init_on_alloc=0"
    return Kernel(ram="16M", cmdline=cmdline, debug_kernel=debug)


def given(size: int) -> int:
    """Return how many bytes the block has that kmalloc() gives for `size`."""
    kernel = machine()
    at = kernel.kmalloc(size, GFP_KERNEL)
    return 0 if at is None else kernel.ksize(at)


def classes(*sizes: int) -> str:
    """Return what kmalloc() gives for each size, and how much of it nobody asked for."""
    rows = [tuple(text(f"lesson.kmalloc.column.{key}") for key in ("asked", "given", "left"))]
    for size in sizes:
        room = given(size)
        left = text("lesson.kmalloc.left", bytes=f"{room - size:,}", share=f"{1 - size / room:.0%}")
        rows.append((f"{size:,}", f"{room:,}", left))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def adjacent(kernel: Kernel, size: int) -> tuple[int, int]:
    """Allocate until two blocks lie side by side; return their addresses, the lower one first."""
    taken: set[int] = set()
    while True:
        at = kernel.kmalloc(size, GFP_KERNEL)
        if at is None:
            raise MemoryError(text("lesson.kmalloc.no_neighbours", size=size))
        below = at - kernel.ksize(at)
        if below in taken:
            return below, at
        taken.add(at)


def dirty(kernel: Kernel, *sizes: int) -> None:
    """Leave old data behind: take four blocks of each size, fill them, and free them."""
    for size in sizes:
        blocks = [at for _ in range(4) if (at := kernel.kmalloc(size, GFP_KERNEL)) is not None]
        for at in blocks:
            kernel.memset(at, 0xAA, kernel.ksize(at))
        for at in blocks:
            kernel.kfree(at)


def live(kernel: Kernel) -> dict[int, LeakObject]:
    """Return the allocations that nobody freed since kmemleak was switched on, by address."""
    return {one.address: one for one in kernel.kmemleak_objects}


def room(kernel: Kernel, at: int) -> int:
    """Return how many bytes the block at an address has, 0 if no block in use begins there."""
    block = live(kernel).get(at)
    if block is None:
        return 0
    return block.size if kernel.is_vmalloc_addr(at) else kernel.ksize(at)


def first_line(kernel: Kernel) -> str:
    """Return the first line of the log that says what is wrong, or that there is none."""
    lines = kernel.dmesg().splitlines()
    said = (line for line in lines if line.startswith(("BUG", "WARNING")))
    return next(said, text("lesson.kmalloc.log_empty"))
