"""Small machines that lesson 08 plays on, and lines about the caches there.

Everything printed comes from a simulated machine. The notebook starts from these machines; the
lesson's exercises and questions boot them anew.
"""

from __future__ import annotations

from typing import NamedTuple

from kmemkit.gfp import GFP_KERNEL
from kmemkit.mm.kernel import PAGE_OFFSET, PAGE_SHIFT, Kernel
from kmemkit.mm.slab import SLAB_NO_MERGE, KmemCache
from kmemkit.snapshot import order_text
from kmemkit.strings import text

__all__ = (
    "Frames",
    "attempts",
    "attributes",
    "first_line",
    "frames",
    "in_pieces",
    "layouts",
    "report",
    "slabinfo",
    "slabs",
)

#: Takes every page there is, whatever the watermarks say.
_ALL = "GFP_NOWAIT|__GFP_MEMALLOC|__GFP_NOWARN"
_FRAME = 8192
#: Files of /sys/kernel/slab/NAME that say how a cache is laid out.
_LAYOUT = ("object_size", "slab_size", "order", "objs_per_slab")


class Frames(NamedTuple):
    """A cache of 8 kB objects: its machine, its pointer, and every slab's objects, oldest first."""

    kernel: Kernel
    cache: int
    slabs: tuple[tuple[int, ...], ...]


def frames(count: int = 14) -> Frames:
    """Boot 16 MiB, and fill `count` slabs of four objects; the last one is the CPU's."""
    kernel = Kernel(ram="16M")
    cache = kernel.kmem_cache_create("frame", _FRAME, 0, SLAB_NO_MERGE)
    assert cache is not None, "there is memory for a cache"
    found: dict[int, list[int]] = {}
    for _ in range(count * 4):
        at = kernel.kmem_cache_alloc(cache, GFP_KERNEL) or 0
        slab = kernel.slabs[at - PAGE_OFFSET >> PAGE_SHIFT]
        found.setdefault(slab.pfn, []).append(at)
    return Frames(kernel, cache, tuple(map(tuple, found.values())))


def in_pieces() -> Kernel:
    """Boot 16 MiB, take every page, and free every second one: no two of them side by side."""
    kernel = Kernel(ram="16M", pcp=False)
    pages = []
    while (pfn := kernel.alloc_pages(_ALL, 0)) is not None:
        pages.append(pfn)
    for pfn in pages[::2]:
        kernel.free_pages(pfn, 0)
    return kernel


# -- lines ----------------------------------------------------------------------------------------


def attributes(kernel: Kernel, name: str, *files: str) -> str:
    """Return some files of /sys/kernel/slab/NAME, a line each."""
    found = kernel.slab_sysfs(name)
    return "\n".join(f"{file:<17} {found[file].strip()}" for file in files)


def slabinfo(kernel: Kernel, *names: str) -> str:
    """Return the head of /proc/slabinfo and the lines of some caches, as far as " : tunables"."""
    _, head, *rows = kernel.slabinfo().splitlines()
    lines = [head, *(row for row in rows if row.split()[0] in names)]
    return "\n".join(line.partition(" : ")[0] for line in lines)


def layouts(kernel: Kernel, *names: str) -> str:
    """Return how caches are laid out: a table of four files of /sys/kernel/slab/NAME."""
    rows: list[tuple[str, ...]] = [("", *_LAYOUT)]
    for name in names:
        found = kernel.slab_sysfs(name)
        rows.append((name, *(found[file].strip() for file in _LAYOUT)))
    return "\n".join(
        f"{name:<14}" + "".join(f"{cell:>15}" for cell in cells).rstrip() for name, *cells in rows
    )


def slabs(kernel: Kernel, cache: int) -> str:
    """Return how many slabs of a cache are on which list."""
    s = _cache(kernel, cache)
    kept = [slab for n in s.nodes for slab in n.partial]
    spare = [slab for c in s.cpus for slab in c.partial]
    own = [c.slab for c in s.cpus if c.slab is not None]
    every = sum(1 for _ in s.slabs())
    return text(
        "lesson.slab.slabs", all=every, own=len(own), spare=len(spare), node=len(kept),
        none=every - len(own) - len(spare) - len(kept),
    )  # fmt: skip


def _cache(kernel: Kernel, cache: int) -> KmemCache:
    return next(s for s in kernel.slab_caches if s.pointer == cache)


def attempts(kernel: Kernel) -> str:
    """Return the block requests of a recorded kernel: order, mask, and whether there was one."""
    lines = []
    for event in kernel.events:
        if event.name == "mm_page_alloc":
            fields = dict(event.fields)
            key = "none" if fields["pfn"] == "0x0" else "got"
            lines.append(
                text(
                    f"lesson.slab.attempt_{key}",
                    order=order_text(int(str(fields["order"]))),
                    mask=fields["gfp_flags"],
                )
            )
    return "\n".join(lines)


def first_line(kernel: Kernel) -> str:
    """Return the first line of the log that says what is wrong, or that there is none."""
    heads = ("BUG", "[", "cache_from_obj", "kernel BUG")
    said = (line for line in kernel.dmesg().splitlines() if line.startswith(heads))
    return next(said, text("lesson.slab.log_empty"))


def report(kernel: Kernel) -> str:
    """Return the log without the call traces, which say little about a simulated machine."""
    lines, trace = [], False
    for line in kernel.dmesg().splitlines():
        trace = trace or line.startswith("CPU: ")
        if not trace and "[ cut here ]" not in line:
            lines.append(line)
        trace = trace and not line.startswith("---[ end trace")
    return "\n".join(lines)
