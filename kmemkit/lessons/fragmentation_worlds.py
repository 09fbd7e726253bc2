"""Small machines that lesson 06 plays on, and lines about what became of their free memory.

Everything printed comes from a simulated machine. The notebook starts from these machines; the
lesson's exercises and questions boot them anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from kmemkit.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from kmemkit.mm.compaction import fragmentation_index
from kmemkit.mm.kernel import Kernel
from kmemkit.snapshot import order_text
from kmemkit.strings import text
from kmemkit.views._compaction_steps import largest_free

__all__ = (
    "ask",
    "attempts",
    "compacting",
    "drop_files",
    "duel",
    "every_second_file_page",
    "extfrag",
    "file_machine",
    "free_counts",
    "half_empty_program",
    "how_taken",
    "index_sum",
    "index_sums",
    "scattered",
    "summary",
)

#: What says from whose lists a block was taken.
_TAKEN = {"claim_whole", "claim_yes", "claim_no", "claim_straddles", "claim_too_small", "steal"}


# -- machines -------------------------------------------------------------------------------------


def file_machine(ram: str = "1M", holes: Sequence[int] = ()) -> Kernel:
    """Boot a small world, read a file until it is full, and drop the pages `holes` (pfns)."""
    kernel = Kernel(ram=ram)
    kernel.read_file(ram)
    for pfn in holes:
        kernel.free_pages(pfn, 0)
    return kernel


def every_second_file_page() -> Kernel:
    """Boot 1024 pages, fill them with page cache, and drop every second page."""
    return file_machine("4M", range(0, 1024, 2))


def half_empty_program() -> Kernel:
    """Boot 256 pages for one program, without swap; it gives every second page back."""
    kernel = Kernel(ram="1M")
    # 16 pages are the task's own in the kernel, and 5 its page tables.
    browser = kernel.fork("browser", anon=(256 - 16 - 5) * 4096)
    for pfn in list(browser.anon)[::2]:
        kernel.free_pages(pfn, 0)
    return kernel


def duel(seed: int, *, grouping: bool = True) -> Kernel:
    """Boot 256 pages, and fill them with a few file pages and one for a driver, by turns.

    The requests of a seed are always the same. Without `grouping` the kernel knows no migratetypes,
    as Linux does where there would be too few pageblocks.
    """
    random, kernel = Random(seed), Kernel(ram="1M")
    kernel.vm.page_group_by_mobility_disabled = not grouping
    while kernel.zones[0].free_pages > 5:
        kernel.read_file(random.choice((3, 4, 5)) * 4096)
        kernel.alloc_pages(GFP_KERNEL, 0, owner="driver")
    return kernel


def scattered(seed: int) -> Kernel:
    """Boot 128 pages: page cache with holes, a driver's pages, and three that only look movable.

    The pages of "gpu" were asked for as Movable, but they are on no LRU list.
    """
    random = Random(seed)
    holes = [pfn for pfn in range(128) if random.random() < 0.55]
    random.shuffle(holes)
    kernel = file_machine("512K", holes)
    for _ in range(5):
        kernel.alloc_pages(GFP_KERNEL, 0, owner="driver")
    for _ in range(3):
        kernel.alloc_pages(GFP_HIGHUSER_MOVABLE, 0, owner="gpu")
    return kernel


def drop_files(kernel: Kernel) -> None:
    """Take all clean page cache back (writing 1 to /proc/sys/vm/drop_caches)."""
    for node in kernel.snapshot().nodes:
        for pfn in node.lru("inactive_file"):
            kernel.free_pages(pfn, 0)


# -- what became of them --------------------------------------------------------------------------


def summary(**kernels: Kernel) -> str:
    """Return a line for each machine: how much is free, and the largest block of it."""
    lines = []
    for name, kernel in kernels.items():
        snapshot = kernel.snapshot()
        most = largest_free(snapshot, snapshot.first_pfn, snapshot.end_pfn)
        block = text("lesson.fragmentation.no_block") if most < 0 else order_text(most)
        free = sum(zone.free for zone in snapshot.zones)
        lines.append(
            text(
                "lesson.fragmentation.summary", name=name.replace("_", " "), free=free, block=block
            )
        )
    return "\n".join(lines)


def free_counts(kernel: Kernel) -> list[int]:
    """Return how many free blocks of each order the first zone has, as buddyinfo counts them."""
    zone = kernel.snapshot().zones[0]
    return [zone.nr_free(order) for order in range(zone.max_order + 1)]


def extfrag(kernel: Kernel) -> str:
    """Return every order's fragmentation index, as /sys/kernel/debug/extfrag/extfrag_index does."""
    lines = []
    for zone in kernel.zones:
        indices = (fragmentation_index(zone, order) for order in range(zone.max_order + 1))
        row = " ".join(f"{index / 1000:.3f}" for index in indices)
        lines.append(f"Node {zone.nid}, zone {zone.name:>8} {row}")
    return "\n".join(lines)


def index_sum(counts: Sequence[int], order: int, index: int) -> str:
    """Return how an order's fragmentation index follows from the free blocks of each order."""
    blocks = sum(counts)
    pages = sum(count << size for size, count in enumerate(counts))
    key = "sum_fits" if index == -1000 else "sum"
    return text(
        f"lesson.fragmentation.{key}",
        order=order, size=1 << order, pages=pages, blocks=blocks,
        share=pages * 1000 >> order, index=index,
    )  # fmt: skip


def index_sums(kernel: Kernel, *orders: int) -> str:
    """Return how the fragmentation index of some orders is worked out in the first zone."""
    zone, counts = kernel.zones[0], free_counts(kernel)
    return "\n".join(index_sum(counts, order, fragmentation_index(zone, order)) for order in orders)


def ask(kernel: Kernel, mask: str, order: int) -> str:
    """Make a request, and return it with its result."""
    kernel.record()
    kernel.alloc_pages(mask, order)
    return f"{kernel.why().call} -> {kernel.why().result}"


def how_taken(kernel: Kernel) -> str:
    """Return the last request, and by which rule it took a block of another type."""
    why = kernel.why()
    rules = dict.fromkeys(str(reason) for reason in why.reasons if reason.key in _TAKEN)
    return "\n".join([f"{why.call} -> {why.result}", *(f"  {rule}" for rule in rules)])


def compacting(kernel: Kernel, mask: str, *orders: int) -> str:
    """Ask for each order on a copy of the machine; return what compaction had to say to it."""
    lines = []
    for order in orders:
        copy = kernel.clone()
        copy.record()
        copy.alloc_pages(mask, order)
        why = copy.why()
        said = [str(reason) for reason in why.reasons if reason.key.startswith("compact")]
        moved = copy.vm_events["pgmigrate_success"] - kernel.vm_events["pgmigrate_success"]
        lines += [f"{why.call} -> {why.result}", *(f"  {line}" for line in dict.fromkeys(said))]
        lines.append("  " + text("lesson.fragmentation.moved", moved=moved))
    return "\n".join(lines)


def attempts(kernel: Kernel, mask: str, order: int, count: int) -> str:
    """Make the same request again and again; return which attempts compacted, and which did not."""
    done: list[str] = []
    for _ in range(count):
        kernel.record()
        kernel.alloc_pages(mask, order)
        keys = {reason.key for reason in kernel.why().reasons}
        done.append("deferred" if "compact_deferred" in keys else "compacted")
    runs = [n for n, what in enumerate(done, 1) if what == "compacted"]
    return text(
        "lesson.fragmentation.attempts",
        count=count, runs=", ".join(map(str, runs)), deferred=done.count("deferred"),
    )  # fmt: skip
