"""Machines that lesson 03 plays on, and tables of what a request does in a context.

Every line comes from a request made on a simulated machine. The notebook prints them, and the
lesson's questions and exercises find what is right with them.
"""

from __future__ import annotations

from collections.abc import Sequence

from kmemkit.gfp import encode
from kmemkit.mm.errors import Livelock, Panic
from kmemkit.mm.kernel import Kernel
from kmemkit.strings import text
from kmemkit.views._context_runs import FRAMES, Stage, frame_text, play

__all__ = ("complaint", "dirty", "full", "kills", "pressure", "short", "small", "verdicts")

_CALM = "transparent_hugepage=never"
#: What direct reclaim did, by counters of /proc/vmstat.
_COUNTERS = ("pgscan_direct", "pgsteal_direct")


def small() -> Kernel:
    """Boot a small world with all of its memory free."""
    return Kernel(ram="256K")


def short() -> Kernel:
    """Boot 16 MiB, read files until all of it is page cache, and use up what is left.

    The page cache can be dropped by those who may wait. Nobody else gets a page.
    """
    kernel = Kernel(ram="16M", cmdline=_CALM, pcp=False)
    kernel.sysctl("vm.watermark_boost_factor", 0)  # mixing types would raise the marks for a while
    kernel.read_file("32M")
    while kernel.alloc_pages("GFP_ATOMIC|__GFP_NOWARN", 0) is not None:
        pass
    return kernel


def dirty() -> Kernel:
    """Boot 16 MiB, and write files until all of it is page cache that has to be written out."""
    kernel = Kernel(ram="16M", cmdline=_CALM)
    kernel.read_file("32M", dirty=True)
    return kernel


def full(*, swap: bool = False) -> Kernel:
    """Boot 16 MiB, and let one task take nearly all of it; with `swap` it could be swapped out."""
    kernel = Kernel(ram="16M", cmdline=_CALM)
    if swap:
        kernel.swapon("64M")
    kernel.fork("browser", anon="12M")
    return kernel


def complaint(frames: Sequence[str], mask: str, *, debug: bool = True) -> str:
    """Return the first line with which a kernel complains of a request, "" if it does not.

    Args:
        frames: what surrounds the caller, outermost first, by the keys of ContextStack.
        mask: of the request, for one page.
        debug: whether the kernel was built with its debug options.
    """
    return play(small(), Stage(tuple(frames), encode(mask)), debug=debug).complaint


def verdicts(*masks: str, debug: bool = True) -> str:
    """Make a request with each mask in each context, and return what was said, as a table."""
    contexts: list[tuple[str, tuple[str, ...]]] = [(text("lesson.context.process"), ())]
    contexts += [
        (frame_text(key), (key,))
        for key, frame in FRAMES.items()
        if frame.group in ("section", "interrupt")
    ]
    rows = [("", *masks)]
    for name, frames in contexts:
        cells = (complaint(frames, mask, debug=debug) for mask in masks)
        rows.append((name, *(_short(cell) for cell in cells)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _short(line: str) -> str:
    """Return the beginning of a complaint, as much as tells them apart."""
    if not line:
        return text("lesson.context.silent")
    return line.split(" called")[0]


def pressure(kernel: Kernel, mask: str, pages: int = 1000) -> str:
    """Ask for single pages, and return what the request's own reclaim did meanwhile."""
    kernel = kernel.clone()
    before = kernel.vm_events.copy()
    end = text("lesson.context.all_pages", pages=f"{pages:,}")
    for taken in range(pages):
        try:
            if kernel.alloc_pages(mask, 0) is not None:
                continue
            end = text("lesson.context.null_after", pages=f"{taken:,}")
        except (Livelock, Panic) as error:
            kind = "loops_after" if isinstance(error, Livelock) else "panic_after"
            end = text(f"lesson.context.{kind}", pages=f"{taken:,}")
        break
    moved = (f"{name} {kernel.vm_events[name] - before[name]:,}" for name in _COUNTERS)
    return f"{mask:<11} {', '.join(moved)}; {end}"


def kills(kernel: Kernel, mask: str) -> str:
    """Ask for pages until a task is killed, or the request fails or never returns; say which."""
    kernel = kernel.clone()
    while "Killed process" not in kernel.dmesg():
        try:
            if kernel.alloc_pages(mask, 0) is None:
                return f"{mask:<11} NULL"
        except Livelock as error:
            return f"{mask:<11} {str(error).partition(':')[0]}"
    line = next(line for line in kernel.dmesg().splitlines() if "Killed process" in line)
    return f"{mask:<11} {line.split(' total-vm')[0]}"
