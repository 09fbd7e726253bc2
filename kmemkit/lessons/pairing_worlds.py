"""Machines of lesson 11, and tables of what was played on them.

The notebook prints them. Every cell of a table is a pair or a misuse that was run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kmemkit.gfp import __GFP_MEMALLOC, __GFP_NORETRY, __GFP_NOWARN, GFP_KERNEL
from kmemkit.lessons.pairing_check import headline, played
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.misuse_guest import Outcome
from kmemkit.mm.misuse_single import play_misuse
from kmemkit.strings import text
from kmemkit.views._pairing_calls import call_lines

__all__ = ("fragmented", "said", "who_sees", "wrong_ones")


def fragmented() -> Kernel:
    """Boot 16 MiB, hand out every page, and free every second one: no two free ones in a row."""
    kernel = Kernel(ram="16M")
    every_last_one = GFP_KERNEL | __GFP_MEMALLOC | __GFP_NORETRY | __GFP_NOWARN
    pages = []
    while (pfn := kernel.alloc_pages(every_last_one)) is not None:
        pages.append(pfn)
    for pfn in pages:
        if pfn % 2:
            kernel.free_pages(pfn)
    return kernel


def wrong_ones(kernel: str, cells: Iterable[tuple[str, str]]) -> str:
    """Return pairs as C, each with the first line that the kernel printed about it."""
    lines = []
    for allocator, freer in cells:
        outcome = played(kernel, allocator, freer)
        lines.append(" ".join(call_lines(allocator, freer)))
        lines.append(f"    {_ending(outcome)}: {headline(outcome) or said('')}")
    return "\n".join(lines)


def _ending(outcome: Outcome) -> str:
    """Return the verdict, and what became of the memory if it was not right."""
    returned = (outcome.memory_returned or "n/a").split(";")[0].split(" (")[0]
    if returned.startswith("partly: "):
        return f"{outcome.verdict}, {returned.removeprefix('partly: ').removesuffix(' pages')}"
    key = {"yes": "freed", "no": "lost"}.get(returned)
    return f"{outcome.verdict}, {text(f'lesson.pairing.cell.{key}')}" if key else outcome.verdict


def who_sees(misuses: Sequence[str], kernels: Sequence[str]) -> str:
    """Return what each kernel says first about each misuse."""
    lines = []
    for misuse in misuses:
        lines.append(text(f"lesson.pairing.misuse.{misuse}"))
        for kernel in kernels:
            outcome = play_misuse(kernel, misuse)
            line = headline(outcome) or said("")
            lines.append(f"    {text(f'pairing_table.kernel.{kernel}'):<25} {line}")
    return "\n".join(lines)


def said(log: str) -> str:
    """Return the first line of a kernel's log, or that there is none."""
    return next(iter(log.splitlines()), text("lesson.pairing.log_empty"))
