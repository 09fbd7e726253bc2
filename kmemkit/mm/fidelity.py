"""The fidelity ledger: all that the simulator does otherwise than Linux 6.12, on purpose.

docs/fidelity.md is printed from this table (`python -m scripts.fidelity`); a test compares the two,
and looks up every `where`. A difference that is not listed here is a bug.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ("LEDGER", "Difference", "as_markdown")


class Difference(NamedTuple):
    """One deliberate difference."""

    topic: str
    linux: str
    model: str
    why: str
    lessons: str
    where: str  #: dotted name of the code that stands for it


LEDGER = (
    Difference(
        "reclaim and OOM",
        "A request that finds no page above the min mark reclaims, compacts, retries and may call "
        "the OOM killer; __GFP_NOFAIL loops for ever.",
        "It fails after its attempts at the free lists (low mark, min mark, reserves). kswapd is "
        "noted as woken, but does not run.",
        "The reclaim ladder is a lesson, and a simulation, of its own.",
        "05",
        "kmemkit.mm.page_alloc.alloc_pages",
    ),
    Difference(
        "failure report",
        "warn_alloc() prints a first line, a stack dump and Mem-Info, at most once in ten seconds.",
        "Kernel.dmesg() has the first line, every time.",
        "The rest describes reclaim, which is not simulated; there is no clock to limit by.",
        "none",
        "kmemkit.mm.page_alloc.warn_alloc",
    ),
    Difference(
        "time",
        "Once a second a worker lowers each per-CPU list's `high` by an eighth, and drains idle "
        "lists of remote nodes.",
        "Nothing happens between calls.",
        "Without a clock every run is the same run.",
        "05",
        "kmemkit.mm.pcp.nr_pcp_high",
    ),
    Difference(
        "several CPUs",
        "CPUs run at once; one that finds a per-CPU list locked goes to the buddy lists.",
        "One CPU makes calls at a time (Kernel.cpu), and never finds a lock taken.",
        "Races would make runs differ.",
        "05",
        "kmemkit.mm.machine.Machine.cpu",
    ),
    Difference(
        "boot reservations",
        "Firmware, kernel image, initrd and early allocations take what this boot happens to need.",
        "A PC with a fixed model: the first MiB, 9780 pages of kernel image at 16 MiB, the mem_map "
        "at the top of each node, 128 KiB of firmware tables below the PCI hole and, with memory "
        "above 4 GiB, 64 MiB of bounce buffers (swiotlb) below it.",
        "Zones and their present pages come out as recorded; managed is close, not equal.",
        "none",
        "kmemkit.mm.mm_init.boot",
    ),
    Difference(
        "pages in use after boot",
        "By the time user space runs, the kernel has taken pages and mixed the free lists.",
        "Right after boot nothing is allocated. Kernel.from_recording() starts from real lists.",
        "What a boot allocates differs from boot to boot.",
        "05",
        "kmemkit.mm.mm_init.memblock_free_range",
    ),
    Difference(
        "movable pages",
        "A pageblock's movable pages are those on an LRU list or with a driver that can move them.",
        "Only a recording says how many there are; pages allocated in the simulation count as "
        "pages of a driver, which are not movable, whatever their mask.",
        "LRU lists belong to reclaim.",
        "05",
        "kmemkit.mm.fallback.try_to_claim_block",
    ),
    Difference(
        "memory contents",
        "__GFP_ZERO and init_on_alloc=1 fill pages with zeroes.",
        "Pages have no contents; init_on_alloc=1 switches the page checks on, as in Linux.",
        "Nothing that is taught here depends on a byte of a page.",
        "none",
        "kmemkit.mm.page_check.free_pages",
    ),
    Difference(
        "bad page reports",
        "A report has the page's raw words, the modules and a back trace; at most 60 in a minute.",
        "The report's lines that depend on the page: state, counts, flags, reason. All of them.",
        "The rest are addresses of one machine.",
        "none",
        "kmemkit.mm.page_check.check_new_pages",
    ),
    Difference(
        "a block put on a free list twice",
        "Without page checks (init_on_alloc=0) the list's links break, and a later list operation "
        "stops with a BUG.",
        "The block stands on its list once; it can be handed out twice, but the BUG comes only "
        "where a block is missing from its list.",
        "Noticing it would cost every free.",
        "none",
        "kmemkit.mm.buddy.__free_one_page",
    ),
    Difference(
        "after a BUG",
        "The calling task dies, with whatever locks it held.",
        "The call raises KernelBug or Oops; the machine stays as the call left it.",
        "A notebook has one task.",
        "none",
        "kmemkit.mm.errors.KernelBug",
    ),
    Difference(
        "cpusets, memory policies, memory cgroups, ZONE_MOVABLE, HighMem, CMA",
        "They restrict where a request may look.",
        "Not simulated; command line parameters that ask for them are refused. __GFP_ACCOUNT "
        "charges nothing, but keeps alloc_pages_bulk() to a page a call, as where cgroups are.",
        "They come with the lessons that need them.",
        "none",
        "kmemkit.mm.cmdline.NOT_MODELLED",
    ),
    Difference(
        "small worlds",
        "A machine of less than 80 MiB does not boot; below 10 MiB of free memory migratetypes are "
        "switched off.",
        "16 MiB boot. Below that, 64 pages and more make a world of one zone with migratetypes on, "
        "no marks, no per-CPU lists and, below 1024 pages, smaller blocks; Kernel.scaled says so.",
        "A learner sees every page of it at once.",
        "00, 05",
        "kmemkit.mm.mm_init.SMALL_WORLD_PAGES",
    ),
)


def as_markdown() -> str:
    """Return the ledger as the text of docs/fidelity.md."""
    lines = [
        "# Fidelity ledger",
        "",
        "What the simulated kernel does otherwise than Linux 6.12 (Debian's x86-64 config),",
        "on purpose. A difference that is not in this list is a bug: please report it. This page",
        "is printed from `kmemkit/mm/fidelity.py`.",
        "",
    ]
    for one in LEDGER:
        lines += [
            f"## {one.topic[0].upper()}{one.topic[1:]}",
            "",
            f"- Linux: {one.linux}",
            f"- Here: {one.model}",
            f"- Why: {one.why}",
            f"- Lessons affected: {one.lessons}",
            f"- Code: `{one.where}`",
            "",
        ]
    return "\n".join(lines)
