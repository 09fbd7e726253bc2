"""A guest in which misuse is tried out: a kernel that has run for a while, and what comes after.

`misuse_pair` and `misuse_single` play their cells here. What the misuse itself said and did to the
caller is told apart from what strikes later: new processes come, memory is taken and looked at, and
taken in another mix (docs/recordings.md, misuse).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from kmemkit.mm.errors import KernelBug, Livelock, Oops, Panic
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.memory import PAGE_SIZE, VMALLOC_START
from kmemkit.mm.misuse_kernels import KERNELS, RAM
from kmemkit.mm.mmzone import MIGRATE_TYPES
from kmemkit.mm.physaddr import virt_to_pfn
from kmemkit.mm.sched import Task
from kmemkit.snapshot import Snapshot, Step

__all__ = ("Guest", "Outcome", "first_line", "normalised")

GFP = "GFP_KERNEL"
#: Blocks of the smallest orders that the machine has given out so far; every other one is free.
BLOCKS = {0: 10, 1: 6, 2: 6}
#: Pages that a process takes for itself, and that the kernel takes for it.
USER_PAGES, KERNEL_PAGES = 40, 8
#: Where the stack of the task that calls is mapped, and its size (CONFIG_VMAP_STACK).
STACK_START, STACK_SIZE = VMALLOC_START + 0x684000, 16 << 10
JUNK = bytes(range(1, 256)) * 16 + bytes(range(1, 17))
#: Objects taken afterwards, and bytes of each that its owner writes.
LATER = 700
STAMP = 8

#: What differs from machine to machine in a line, and what stands for it.
_VARIABLE = (
    (r"\+0x[0-9a-f]+/0x[0-9a-f]+", ""),
    (r"0x[0-9a-f]{9,16}|\b[0-9a-f]{12,16}\b", "ADDR"),
    (r"index:\S+", "index"),
    (r"pfn:(0x)?[0-9a-f]+", "pfn"),
    (r"@offset=\d+", "@offset"),
    (r"CPU: \d+ PID: \d+", "CPU PID"),
    (r"Tainted: [^)]*|Not tainted", "taint"),
    (r" PREEMPT SMP.*", ""),
    (r"( address:?|mapping:) ?(0x)?[0-9a-f]{5,}", r"\1 ADDR"),
)
_RULE = re.compile(r"[=-]+(\[.*\][-]+)?$|\[ cut here|-+\[ cut here \]-+$")


def normalised(line: str | None) -> str | None:
    """Return a report's line without what differs from machine to machine."""
    for pattern, text in _VARIABLE if line is not None else ():
        line = re.sub(pattern, text, str(line))
    return line


def first_line(lines: Iterable[str]) -> str | None:
    """Return the first line that says something, or None."""
    return next((line for line in lines if line and not _RULE.match(line)), None)


@dataclass
class Outcome:
    """How a cell went, in a recording's words.

    Attributes:
        survived: yes, task killed, later oops, hung or panic.
        report_first_line: what the misuse itself made the kernel say first, or None.
        memory_returned: yes, no, or which part; n/a where there was none.
        notes: damage that was found afterwards.
        later: first lines of what struck later.
        report: all lines that the misuse itself printed.
        address, size, pages: where the memory was, how many bytes, and pages that are its own.
        drift: how many pages the kernel's count of slab memory is wrong by afterwards.
        foreign: how many pages of others went free with it.
        guarded: whether KFENCE has taken the object back, and keeps it from being used again.
        steps: the machine before, and after each stage, if that was asked for.
    """

    survived: str = "yes"
    report_first_line: str | None = None
    memory_returned: str | None = None
    notes: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    report: tuple[str, ...] = ()
    address: int = 0
    size: int = 0
    pages: tuple[int, ...] = ()
    drift: int = 0
    foreign: int = 0
    guarded: bool = False
    steps: list[Step] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """What a developer sees: ok, silent, report, oops, hung or panic.

        A misuse is silent where nothing is said although memory is not back, damage is done or the
        kernel counts wrong from here on.
        """
        if self.survived in ("hung", "panic"):
            return self.survived
        if self.survived == "task killed":
            return "oops"
        if self.report_first_line is not None:
            return "report"
        whole = self.returned in ("all", "")
        return "ok" if whole and not self.damaged and not self.drift else "silent"

    @property
    def returned(self) -> str:
        """How much of the memory came back: all, part, none, unknown; empty where there was none.

        What KASAN or KFENCE keeps from being used again at once is back.
        """
        said = self.memory_returned or "n/a"
        if self.guarded or "KASAN" in said:
            return "all"
        word = re.split("[ ;:]", said)[0]
        return {"n/a": "", "yes": "all", "partly": "part", "no": "none"}.get(word, "unknown")

    @property
    def damaged(self) -> bool:
        """Whether something went wrong later, in memory that others own by then."""
        return bool(self.notes or self.later or self.foreign or self.survived == "later oops")


@cache
def _settled(name: str) -> Snapshot:
    """Boot a recorded kernel, and let it run: small blocks have neighbours that are in use."""
    kernel = Kernel(RAM, seed=7, **KERNELS[name])
    kernel.tasks.append(Task(138, "init", rss_shmem=212, pgtables_bytes=36 << 10))
    kernel.run_as(138)
    kernel.vmalloc_space.occupy(STACK_START, STACK_START + STACK_SIZE + PAGE_SIZE)  # a guard page
    kernel.caller = "misc [misuse]"
    kernel.taint("O")
    for _ in range(3 * KERNEL_PAGES):  # work for every kmalloc cache: their slabs are partly used
        for size in (32, 64, 128, 200, 512):
            kernel.kmalloc(size, GFP)
    if kernel.slab_debug:
        _almost_full(kernel)
    kernel.drain_all_pages()
    while any(_free_blocks(kernel, order) for order in BLOCKS):
        kernel.alloc_pages(GFP)  # the odd blocks that boot left over
        kernel.drain_all_pages()
    blocks = {
        order: [kernel.alloc_pages(GFP, order) for _ in range(2 * count)]
        for order, count in sorted(BLOCKS.items(), reverse=True)
    }
    kernel.drain_all_pages()
    for order, taken in blocks.items():
        for pfn in taken:
            if pfn is not None and not pfn >> order & 1 and pfn + (1 << order) in taken:
                kernel.free_pages(pfn, order)
        kernel.drain_all_pages()
    return kernel.snapshot()


def _almost_full(kernel: Kernel) -> None:
    """Leave one free object in the slab that serves 64 bytes next, and one in a slab behind it."""
    cache = kernel.kmalloc_slab(64, 0)
    taken = [kernel.kmalloc(64, GFP) for _ in range(2 * cache.oo[1])]
    while cache.nodes[0].partial[0].inuse != cache.oo[1] - 1:
        kernel.kmalloc(64, GFP)
    first = cache.nodes[0].partial[0]
    kernel.kfree(next(at for at in taken if at and kernel.slabs[virt_to_pfn(at)] is not first))


def _free_blocks(kernel: Kernel, order: int) -> int:
    """Return how many blocks the per-CPU list and the free list of an order have."""
    zone = kernel.zonelist(0, False)[0]
    area = order * MIGRATE_TYPES
    return len(zone.free_head[area]) + len(zone.free_tail[area]) + len(zone.pcp.lists[3 * order])


class Guest:
    """One recorded kernel, on which one thing is done wrong."""

    def __init__(self, name: str, *, steps: bool = False) -> None:
        """Boot it; `steps` keeps snapshots of the machine on the way.

        Raises:
            ValueError: no kernel of that name was recorded.
        """
        if name not in tuple(KERNELS):
            raise ValueError(f"recording: no kernel {name!r}; there are {', '.join(KERNELS)}")
        self.name = name
        self.kernel = Kernel.from_snapshot(_settled(name))
        self.kernel._dmesg.clear()
        self.outcome = Outcome()
        self.dead = False
        self.keeps_steps = steps
        self.caches: dict[str, int] = {}
        self.pair: tuple[int, int] = (0, 0)
        #: what is looked at afterwards
        self.watching: Callable[[], None] | None = None

    # -- stages -----------------------------------------------------------------------------------

    def misuse(self, run: Callable[[], object]) -> None:
        """Do the wrong thing; note what was said, and what became of the caller."""
        self.kernel.drain_all_pages()
        before = self.kernel.log_lines
        self.outcome.survived = self._survived(run) or "yes"
        self.outcome.report = tuple(self._log_since(before))
        self.outcome.report_first_line = first_line(self.outcome.report)
        self._stage(self.kernel.drain_all_pages)

    def keep_step(self, call: str) -> None:
        """Keep what the machine looks like after a call, if that was asked for."""
        if self.keeps_steps:
            ok = not self.dead
            self.outcome.steps.append(Step(call, "", ok, (), None, self.kernel.snapshot()))

    def afterwards(self, later: Callable[[], None] | None) -> None:
        """Let processes come and go, take memory of the same kind, and a mix; note the damage."""
        stages: list[Callable[[], None]] = [self.process, self.process]
        if later is not None:
            stages.append(later)
        for stage in [*stages, self.process, self.storm]:
            self._stage(stage)

    def _survived(self, run: Callable[[], object]) -> str:
        try:
            run()
        except Panic:
            self.dead = True
            return "panic"
        except Livelock:
            self.dead = True
            return "hung"
        except (KernelBug, Oops):
            return "task killed"
        return ""

    def _stage(self, stage: Callable[[], None]) -> None:
        if self.dead:
            return
        before = self.kernel.log_lines
        end = self._survived(stage)
        if end:
            self.outcome.later.append(first_line(self._log_since(before)) or end)
        if end in ("panic", "hung"):
            self.outcome.survived = end
        elif end and self.outcome.survived == "yes":
            self.outcome.survived = "later oops"

    def _log_since(self, before: int) -> list[str]:
        lines = list(self.kernel._dmesg)
        return lines[max(len(lines) - (self.kernel.log_lines - before), 0) :]

    # -- what comes after -------------------------------------------------------------------------

    def process(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Let a process come and go: it fills pages of its own, and the kernel some for it."""
        kernel = self.kernel
        pages = [kernel.alloc_pages("GFP_HIGHUSER_MOVABLE") for _ in range(USER_PAGES)]
        pages += [kernel.alloc_pages(GFP) for _ in range(KERNEL_PAGES)]
        for pfn in pages:
            if pfn is not None:
                kernel.memory.write(kernel.page_address(pfn), JUNK)
        if meanwhile is not None:
            meanwhile()
        for pfn in pages:
            kernel.free_pages(pfn)

    def take_objects(self, old: int, size: int, take: Callable[[], int | None]) -> None:
        """Take 700 objects, look at them, and free them; was the old one among them?"""
        got: list[int] = []
        self.outcome.memory_returned = "unknown (guest did not get that far)"
        kasan = self.kernel.kasan
        waits = kasan is not None and kasan.freed.get(old) is not None
        for number in range(LATER):
            at = take()
            if at is not None:
                got.append(at)
                self.kernel.memory.write(at, number.to_bytes(STAMP, "little"))
        self.outcome.memory_returned = "yes" if old in got else "no"
        if waits and old not in got:
            self.outcome.memory_returned = "not yet (KASAN quarantine)"
        ends = sorted(got)
        if any(after - at < size for at, after in pairwise(ends)):
            self.outcome.notes.append("LATER: two live allocations overlap")
        wrong = sum(
            self.kernel.memory.read(at, STAMP) != number.to_bytes(STAMP, "little")
            for number, at in enumerate(got)
        )
        if wrong:
            self.outcome.notes.append(f"LATER: contents overwritten by another owner: {wrong}")
        for at in got:
            self.kernel.kfree(at)

    def take_pages(self) -> None:
        """Take nearly all memory page by page, and give it back; did a page come twice?"""
        kernel = self.kernel
        count = self.free_pages() * 7 // 8
        got: list[int] = []
        for _ in range(count):
            pfn = kernel.alloc_pages("GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN")
            if pfn is None:
                break
            got.append(pfn)
        if len(set(got)) < len(got):
            self.outcome.notes.append("LATER: pages handed out twice")
        for pfn in got:
            kernel.free_pages(pfn)

    def storm(self) -> None:
        """Take and free 1200 blocks of many sizes, mixed."""
        kernel = self.kernel
        held: list[int | None] = []
        for number in range(1200):
            size = (24, 64, 100, 200, 500, 1000, 3000, 9000)[number % 8]
            held.append(kernel.kzalloc(size, GFP))
            if number % 3:
                kernel.kfree(held.pop(number * 7 % len(held)))
        for at in held:
            kernel.kfree(at)

    # -- for misuses ------------------------------------------------------------------------------

    def kmalloc(self, size: int) -> int:
        """Allocate memory to misuse; with KFENCE, memory that it guards."""
        self.let_time_pass()
        at = self.kernel.kmalloc(size, GFP)
        assert at is not None
        return at

    def let_time_pass(self) -> None:
        """Wait until KFENCE, if it is on, guards the next allocation."""
        if self.kernel.kfence is not None:
            self.kernel.now = max(self.kernel.now, self.kernel.kfence.due)

    def take(self, order: int, gfp: str = GFP) -> int:
        """Allocate a block to misuse; return its pfn."""
        pfn = self.kernel.alloc_pages(gfp, order)
        assert pfn is not None
        return pfn

    def neighbours(self) -> tuple[int, int]:
        """Allocate until two objects of 64 bytes lie side by side; return and keep them."""
        size = self.kernel.kmalloc_slab(64, 0).size
        got: set[int] = set()
        while True:
            at = self.kernel.kmalloc(64, GFP)
            assert at is not None
            got.add(at)
            for a, b in ((at, at + size), (at - size, at)):
                if {a, b} <= got and a & -PAGE_SIZE == b & -PAGE_SIZE:
                    self.pair = a, b
                    return self.pair

    def page_before_a_free_one(self, pfn: int) -> int:
        """Return a page like this one with a free page behind it."""
        after = self.take(1)
        self.kernel.split_page(after, 1)
        self.kernel.free_pages(after + 1)
        self.kernel.drain_all_pages()
        self.kernel.free_pages(pfn)
        return after

    def count(self, pfn: int, order: int = 0, *, pages: int = 0) -> None:
        """Note how many pages of a block are free now; the first count stands."""
        self.count_of(range(pfn, pfn + (pages or 1 << order)), 0)

    def count_of(self, pages: Iterable[int], area: int) -> None:
        """Note how many of some pages are free now, and whether a vmalloc area is still there."""
        if self.outcome.memory_returned is None:
            wanted = list(pages)
            self.kernel.drain_all_pages()
            text = f"{self.free_in_buddy(wanted)} of {len(wanted)} pages"
            if area and self.kernel.vmalloc_space.find(area) is not None:
                text += "; vm area still there"
            self.outcome.memory_returned = text

    def watch(self, at: int, size: int) -> None:
        """Let 700 objects of a size be taken afterwards."""

        def later() -> None:
            self.take_objects(at, size, lambda: self.kernel.kmalloc(size, GFP))

        self.watching = later

    def watch_pages(self) -> None:
        """Let nearly all pages be taken afterwards."""
        self.watching = self.take_pages

    # -- counting ---------------------------------------------------------------------------------

    def pfn(self, address: int) -> int:
        """Return the page behind an address, if there were one."""
        return virt_to_pfn(address)

    def slab_pages(self) -> int:
        """Return how many pages of unreclaimable slab the kernel counts (SUnreclaim)."""
        state = self.kernel.node_page_state
        return sum(pages for (_, item), pages in state.items() if item == "nr_slab_unreclaimable")

    def free_pages(self) -> int:
        """Return how many pages are on the buddy lists."""
        return sum(zone.free_pages for zone in self.kernel.zones)

    def free_in_buddy(self, pages: Iterable[int]) -> int:
        """Return how many of the pages are on the buddy lists."""
        wanted, found = set(pages), set()
        for zone in self.kernel.zones:
            for number, (head, tail) in enumerate(zip(zone.free_head, zone.free_tail, strict=True)):
                size = 1 << number // MIGRATE_TYPES
                for first in (*head, *tail):
                    found |= wanted & set(range(first, first + size))
        return len(found)
