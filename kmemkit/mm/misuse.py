"""Playing recorded misuse of the allocators: one cell is one wrong call on one kernel.

`kmemkit verify` may use this. A cell names the kernel, the function that was called and the context
it was called in; what Linux said first, and who survived it, is compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from kmemkit import gfp as flags
from kmemkit.mm.context_calls import Section
from kmemkit.mm.errors import KernelBug, Livelock, Oops, Panic
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.misuse_kernels import KERNELS, RAM
from kmemkit.mm.replay import Mismatch
from kmemkit.mm.sched import Task

__all__ = ("CellResult", "play_context_cell", "report_details")

#: Makes ready on a kernel what a cell needs, and returns the call that is made in its context.
Call = Callable[[Kernel], Callable[[], object]]

#: Masks whose name in a cell is none of Linux's.
MASKS = {
    "ATOMIC_or_DIRECT_RECLAIM": "GFP_ATOMIC | __GFP_DIRECT_RECLAIM",
    "NOFAIL": "GFP_KERNEL | __GFP_NOFAIL",
}
#: How the first line of a report begins.
_HEADLINE = re.compile(
    r"BUG: |WARNING: |kernel BUG at |Kernel panic|\S+ invoked oom-killer: |Voluntary context switch"
)
#: Lines of a report that are determined by context and task.
_DETAIL = re.compile(
    r"in_atomic\(\): |preempt_count: |RCU nest depth: |inconsistent \{|\S+/\d+ \[HC|"
    r"INFO: lockdep is turned off"
)


@dataclass(frozen=True, slots=True)
class CellResult:
    """How a cell went. `needs` names what would have to be simulated to play it."""

    compared: int
    mismatches: tuple[Mismatch, ...] = ()
    needs: str = ""

    @property
    def matched(self) -> int:
        """How many of the things compared were the same."""
        return 0 if self.needs else self.compared - len(self.mismatches)

    @property
    def ok(self) -> bool:
        """Whether everything was played, and matched."""
        return self.matched == self.compared > 0


def play_context_cell(record: Mapping[str, Any]) -> CellResult:
    """Make one recorded call in its context; compare who survived and the first line.

    Args:
        record: `kernel`, `function`, `context`, `survived`, `report_first_line`; and, if the cell's
            text is at hand, `details`: its lines that say what the context was.

    Raises:
        ValueError: one of them is missing, or names nothing that was recorded.
    """
    try:
        options, surroundings = KERNELS[record["kernel"]], CONTEXTS[record["context"]]
        call = _call_of(record["function"])
        expected = {"survived": record["survived"], "first line": record["report_first_line"]}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"recording: not a cell of a context: {error!r}") from None
    if "details" in record:
        expected["details"] = list(record["details"])
    if call is None:
        return CellResult(len(expected), needs=record["function"].partition("_GFP")[0])
    kernel = Kernel(RAM, **options)
    before = len(kernel.dmesg().splitlines())
    _become(kernel, *_caller(record))
    survived = _survived(kernel, call, surroundings)
    lines = kernel.dmesg().splitlines()[before:]
    first = next((line for line in lines if _HEADLINE.match(line)), None)
    found: dict[str, object] = {"survived": survived, "first line": first}
    if "details" in expected:
        found["details"] = report_details(lines)
    return CellResult(
        len(expected),
        tuple(
            Mismatch(what, value, found[what])
            for what, value in expected.items()
            if found[what] != value
        ),
    )


def report_details(lines: Iterable[str]) -> list[str]:
    """Return the lines that say what the context was, of the first report of each kind.

    "Sleeping function" comes again every second; how often is a matter of the machine's speed.
    """
    details: list[str] = []
    for line in filter(_DETAIL.match, lines):
        if line.startswith("in_atomic") and any(one.startswith("in_atomic") for one in details):
            break
        details.append(line)
    return details


def _caller(record: Mapping[str, Any]) -> tuple[int, str]:
    """Return pid and name of who made the call: softirqs run on top of whoever is there."""
    text = "\n".join(record.get("details", ()))
    if (match := re.search(r"pid: (\d+), name: (\S+)", text)) is not None:
        return int(match[1]), match[2]
    first = str(record["report_first_line"])
    if (match := re.match(r"BUG: scheduling while atomic: (\S+)/(\d+)/0x", first)) is not None:
        return int(match[2]), match[1]
    return (14, "ksoftirqd/0") if first.startswith("ksoftirqd/0 ") else (138, "init")


def _become(kernel: Kernel, pid: int, comm: str) -> None:
    """Make the machine's tasks those of a guest: one that can be killed, and one that calls."""
    victim = Task(138 if comm != "init" else pid, "init", rss_shmem=212, pgtables_bytes=36 << 10)
    kernel.tasks.append(victim)
    if comm != "init":
        kernel.tasks.append(Task(pid, comm, kernel_thread=True))
    kernel.run_as(pid)


def _survived(kernel: Kernel, call: Call, sections: Callable[[Kernel], Sequence[Section]]) -> str:
    """Make the call in its context; return who came out of it, in a recording's words."""
    run = call(kernel)
    try:
        with ExitStack() as stack:
            for section in sections(kernel):
                stack.enter_context(section)
            run()
    except Panic:
        return "panic"
    except Livelock:
        return "hung"
    except (KernelBug, Oops):
        return "task killed"
    return "task killed" if kernel.current.oom_victim else "yes"


#: How a cell comes into its context.
CONTEXTS: dict[str, Callable[[Kernel], Sequence[Section]]] = {
    "process": lambda kernel: (),
    "irqoff": lambda kernel: (kernel.local_irq_save(),),
    "spin": lambda kernel: (kernel.spin_lock("slock"),),
    "rcu": lambda kernel: (kernel.rcu_read_lock(),),
    "softirq": lambda kernel: (kernel.softirq(),),
    # the interrupt was raised by irq_work_queue(), with preemption off
    "hardirq": lambda kernel: (kernel.preempt_disable(), kernel.hardirq()),
}


# -- what was called ------------------------------------------------------------------------------


def _call_of(function: str) -> Call | None:
    """Return what a cell's function does; None if nothing of the kind is simulated."""
    for name, action in PREFIXES:
        if function.startswith(name):
            mask = flags.as_mask(
                MASKS.get(function.removeprefix(name), function.removeprefix(name))
            )
            return lambda kernel: partial(action, mask, kernel)
    return CALLS.get(function)


#: Size of the block in cells of vmalloc(), and of one that is none of kmalloc()'s.
THREE_PAGES, EIGHT_MIB = 3 << 12, 8 << 20
CALLS: dict[str, Call] = {
    "might_sleep": lambda kernel: partial(kernel.might_sleep, "misuse.c:261"),
    "msleep": lambda kernel: partial(kernel.sleep, 1),
    "vmalloc": lambda kernel: partial(kernel.vmalloc, THREE_PAGES),
    "vmalloc_GFP_ATOMIC": lambda kernel: partial(kernel.vmalloc_gfp, THREE_PAGES, "GFP_ATOMIC"),
    "kvmalloc8m": lambda kernel: partial(kernel.kvmalloc, EIGHT_MIB, "GFP_KERNEL"),
    "vfree": lambda kernel: partial(kernel.vfree, kernel.vmalloc(THREE_PAGES)),
    "kvfree_vmalloced": lambda kernel: partial(kernel.kvfree, kernel.vmalloc(THREE_PAGES)),
    "kfree": lambda kernel: partial(kernel.kfree, kernel.kmalloc(64, "GFP_KERNEL")),
    "kmem_cache_create": lambda kernel: partial(kernel.kmem_cache_create, "mu_context", 40),
    "kvfree_kmalloced": lambda kernel: partial(kernel.kvfree, kernel.kmalloc(64, "GFP_KERNEL")),
}


def _kmalloc(size: int) -> Callable[[int, Kernel], None]:
    return lambda mask, kernel: kernel.kfree(kernel.kmalloc(size, mask))


def _one(mask: int, kernel: Kernel) -> None:
    kernel.get_free_pages(mask)


def _exhaust(mask: int, kernel: Kernel) -> None:
    """Take pages until there is none, without the OOM killer, and give them back."""
    mask |= flags.__GFP_NORETRY | flags.__GFP_NOWARN
    for page in list(iter(partial(kernel.alloc_pages, mask), None)):
        kernel.free_pages(page)


def _until_killed(mask: int, kernel: Kernel) -> None:
    """Take pages until the OOM killer comes for the caller, and give them back."""
    pages: list[int] = []
    while not kernel.current.oom_victim:
        page = kernel.alloc_pages(mask | flags.__GFP_NOWARN)
        if page is None:
            break
        pages.append(page)
    for page in pages:
        kernel.free_pages(page)


#: How a function's name begins -> what is done with the mask that the rest of it names.
PREFIXES: tuple[tuple[str, Callable[[int, Kernel], None]], ...] = (
    ("get_free_page_", _one),
    ("exhaust_", _exhaust),
    ("oom_", _until_killed),
    ("kmalloc_large_", _kmalloc(16384)),
    ("kmalloc_", _kmalloc(64)),
)
