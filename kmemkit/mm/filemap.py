"""What user space brings into memory: page cache, anonymous pages, swap, and tasks that own them.

`Kernel` inherits `UserMemory`. These pages are what reclaim can take back; they come from the page
allocator like any others, and stand on the LRU lists. Linux: mm/filemap.c, mm/memory.c,
mm/swapfile.c. Simplified: single pages only, and no file has a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmemkit import gfp as flags
from kmemkit.mm import debug, kswapd, oom_kill, page_alloc
from kmemkit.mm.cmdline import parse_size
from kmemkit.mm.context import others_may_run
from kmemkit.mm.freelist import prepare_alloc_pages
from kmemkit.mm.machine import Machine
from kmemkit.mm.pcp import free_unref_page
from kmemkit.mm.sched import Task, task_owner
from kmemkit.mm.swap import ACTIVE_ANON, INACTIVE_FILE, LRU_DIRTY, LRU_MASK
from kmemkit.units import size_text

__all__ = ("GFP_READAHEAD", "PAGE_CACHE", "UserMemory")

#: Owner of all file pages.
PAGE_CACHE = "page cache"
PAGE_SHIFT = 12
MS = 1_000_000
#: Reading ahead may fail, so it does not try hard; a page fault waits (include/linux/pagemap.h).
GFP_READAHEAD = flags.GFP_HIGHUSER_MOVABLE | flags.__GFP_NORETRY | flags.__GFP_NOWARN
GFP_FAULT = flags.GFP_HIGHUSER_MOVABLE | flags.__GFP_ZERO
GFP_PGTABLE = flags.GFP_KERNEL_ACCOUNT | flags.__GFP_ZERO
GFP_TASK = flags.GFP_KERNEL_ACCOUNT | flags.__GFP_ZERO
#: Kernel stack, task_struct, mm_struct, files and the like: about 64 kB a task.
TASK_PAGES = 16
#: Levels of page tables above the one that points to pages.
LEVELS = 4
SLAB_PAGE = flags.GFP_KERNEL | flags.__GFP_RECLAIMABLE


class UserMemory(Machine):
    """The part of a machine that programs fill: files, anonymous memory, swap, time."""

    def read_file(self, size: int | str, *, dirty: bool = False) -> int:
        """Read (or, with `dirty`, write) a file into the page cache; return the pages that fit.

        Every page is allocated like any other and goes to the young end of the inactive file list.
        As when a real file is read, old pages make room for new ones once memory is short.

        Raises:
            TypeError, ValueError: no size, or one that would only go round and round.
        """
        if not isinstance(dirty, bool):
            raise TypeError(f"dirty={dirty!r}: give True for a file that is written, else False")
        pages = self._pages_of(size)
        mask = flags.GFP_HIGHUSER_MOVABLE if dirty else GFP_READAHEAD

        def run() -> int:
            return self.fill_lru(pages, mask, PAGE_CACHE, INACTIVE_FILE | LRU_DIRTY * dirty)

        call = f"{'write' if dirty else 'read'}_file({pages} pages)"
        return self._call(call, run, lambda got: f"{got} pages")

    def fork(self, comm: str, *, anon: int | str = 0, oom_score_adj: int = 0, uid: int = 0) -> Task:
        """Start a task that touches so much anonymous memory; return it.

        Raises:
            TypeError, ValueError: no name, no size, or an oom_score_adj outside -1000 to 1000.
        """
        if not isinstance(comm, str) or not comm:
            raise TypeError(f"comm={comm!r}: give the task's name as text")
        if not comm.isprintable():
            raise ValueError(f"comm={comm!r}: a task's name is one line of printable text")
        if type(uid) is not int or uid < 0:
            raise ValueError(f"uid={uid!r}: give a user's number, 0 or more")
        if type(oom_score_adj) is not int or not -1000 <= oom_score_adj <= 1000:
            raise ValueError(f"oom_score_adj={oom_score_adj!r}: give a whole number, -1000 to 1000")
        pages = self._pages_of(anon) if anon else 0
        task = Task(
            max(task.pid for task in self.tasks) + 1, comm[:15],
            oom_score_adj=oom_score_adj, uid=uid,
        )  # fmt: skip

        def run() -> Task:
            number = self.owner_number(task_owner(task))
            self.tasks.append(task)
            own = prepare_alloc_pages(self, GFP_TASK, self.numa_node_id())
            with self._unrecorded():
                for _ in range(TASK_PAGES):
                    pfn = page_alloc.alloc_pages(self, own, 0)
                    if pfn is not None:
                        self.mem_map.owner[pfn] = number
                        task.kernel_pages.append(pfn)
            self.fill_lru(pages, GFP_FAULT, task_owner(task), ACTIVE_ANON, task)
            return task

        return self._call(f"fork({task.comm}, {pages} pages)", run, lambda t: f"pid {t.pid}")

    def _pages_of(self, size: int | str) -> int:
        """Return a size in whole pages, rounded up.

        Raises:
            TypeError, ValueError: no size, or above 1 GiB and 16 times the memory.
        """
        pages = -(-parse_size(size) >> PAGE_SHIFT)
        most = max(16 * sum(zone.present for zone in self.zones), 1 << 18)
        if pages > most:
            raise ValueError(
                f"{size!r} is {pages:,} pages: more than {size_text(most)} shows nothing new "
                "in a machine of this size"
            )
        return pages

    def fill_lru(
        self, pages: int, mask: int, owner: str, lru: int, task: Task | None = None
    ) -> int:
        """Allocate single pages and put them on a list; stop where there are no more.

        A task that the OOM killer chose meanwhile needs no more either.
        """
        number = self.owner_number(owner)
        context = prepare_alloc_pages(self, mask, self.numa_node_id())
        mem_map = self.mem_map
        got = 0
        with self._unrecorded():
            while got < pages:
                if self.now >= self.due:
                    kswapd.tick(self)
                self.now += self.CALL_NS
                pfn = page_alloc.alloc_pages(self, context, 0)
                if pfn is None:
                    break
                if task is not None and task.exited:
                    free_unref_page(self.page_zone(pfn), pfn, 0)
                    break
                mem_map.owner[pfn] = number
                node = self.nodes[self.page_zone(pfn).nid]
                node.folio_add_lru(pfn, lru & LRU_MASK, bool(lru & LRU_DIRTY))
                if task is not None:
                    task.anon[pfn] = None
                    if len(task.anon) - 1 >> 9 >= len(task.pgtables) - LEVELS:
                        self._add_pgtable(task)
                got += 1
        return got

    @contextmanager
    def _unrecorded(self) -> Iterator[None]:
        """Let nothing be recorded: thousands of pages have thousands of reasons."""
        trace, self.trace = self.trace, None
        self._connect()
        try:
            yield
        finally:
            self.trace = trace
            self._connect()

    def _add_pgtable(self, task: Task) -> None:
        """Give a task another page of page table: one for every 512 pages, and four above them."""
        context = prepare_alloc_pages(self, GFP_PGTABLE, self.numa_node_id())
        pfn = page_alloc.alloc_pages(self, context, 0)
        if pfn is not None:
            self.mem_map.owner[pfn] = self.owner_number(task_owner(task))
            task.pgtables.append(pfn)
            task.pgtables_bytes += 4096

    def grow_slab(self, size: int | str) -> int:
        """Fill reclaimable slabs, such as the dentry cache's; return the pages that fit."""
        pages = self._pages_of(size)

        def run() -> int:
            context = prepare_alloc_pages(self, SLAB_PAGE, self.numa_node_id())
            with self._unrecorded():
                for got in range(pages):
                    pfn = page_alloc.alloc_pages(self, context, 0)
                    if pfn is None:
                        return got
                    self.mem_map.owner[pfn] = 0
                    self.nodes[self.page_zone(pfn).nid].slab.add(pfn)
            return pages

        return self._call(f"grow_slab({pages} pages)", run, lambda got: f"{got} pages")

    def exit(self, task: Task) -> None:
        """End a task: its anonymous pages and its swap are free again (do_exit())."""
        if not isinstance(task, Task) or not any(task is one for one in self.tasks):
            raise ValueError(f"{task!r} is no task of this machine; give what fork() returned")
        if task is self.current:
            raise ValueError(f"{task.comm} makes the calls; run as another task to end it")

        def run() -> None:
            with self.quietly():
                oom_kill.exit_mm(self, task)
            self.tasks = [one for one in self.tasks if one is not task]
            self.forget_owner(task_owner(task))

        self._call(f"exit({task.comm})", run, lambda _: "")

    def swapon(self, size: int | str) -> None:
        """Add swap space (swapon(2)): anonymous pages can be reclaimed from here on."""
        pages = -(-parse_size(size) >> PAGE_SHIFT)

        def run() -> None:
            self.total_swap_pages += pages
            self.nr_swap_pages += pages

        self._call(f"swapon({pages} pages)", run, lambda _: "")

    def sleep(self, ms: float) -> None:
        """Let simulated time pass without a request: threads that are awake run (msleep()).

        Every kernel notices where that is forbidden, for the scheduler looks: "scheduling while
        atomic". With interrupts off nobody notices; they are on afterwards.
        """
        if isinstance(ms, bool) or not isinstance(ms, int | float):
            raise TypeError(f"ms={ms!r}: give milliseconds as a number")
        if not 0 <= ms <= 1e9:
            raise ValueError(f"ms={ms!r}: give milliseconds, 0 to 1e9")

        def run() -> None:
            debug.schedule_debug(self)
            end = self.now + int(ms * MS)
            kswapd.schedule(self)
            while self.due <= end and others_may_run(self):
                self.now = max(self.now, self.due)
                kswapd.tick(self)
            self.now = max(self.now, end)

        self._call(f"msleep({ms:g})", run, lambda _: "")
