"""What KASAN prints of an address: the object or area it lies in, its page, the bytes around it.

`Kasan.report()` calls describe(). A shadow byte stands for eight bytes of memory: 00 all may be
touched, 01 to 07 so many of them, anything from 80 on says why none may. Linux keeps them in an
array; here each is worked out when it is printed. Linux: mm/kasan/report.c, report_generic.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE, VMALLOC_START
from kmemkit.mm.mmzone import HOLE
from kmemkit.mm.page_check import dump_page
from kmemkit.mm.slab import KmemCache, Slab

if TYPE_CHECKING:
    from kmemkit.mm.slab_machine import SlabMachine

__all__ = ("GRANULE", "KasanTrack", "describe", "nearest_object")

#: KASAN marks eight bytes at a time; a line of a report has sixteen marks.
GRANULE, WIDTH = 8, 16
LINE = GRANULE * WIDTH
#: Shadow bytes: free page; behind a large kmalloc; behind an object; of a free object, and its
#: first one while quarantine keeps who freed it; of vmalloc's address space.
FREE_PAGE, PAGE_REDZONE, SLAB_REDZONE = 0xFF, 0xFE, 0xFC
SLAB_FREE, SLAB_FREETRACK, VMALLOC_INVALID = 0xFB, 0xFA, 0xF8


class KasanTrack(NamedTuple):
    """Who allocated or freed an object: where in the learner's code, which task, when (ns)."""

    place: str
    pid: int
    cpu: int
    when: int


def nearest_object(s: KmemCache, slab: Slab, at: int) -> int:
    """Return where the object begins whose slot an address lies in (nearest_obj())."""
    first = slab.address + s.red_left_pad
    return first + min((at - first) // s.size, slab.objects - 1) * s.size


# -- shadow bytes ---------------------------------------------------------------------------------


def _part(size: int, offset: int, beyond: int) -> int:
    """Return the mark of eight bytes at an offset in something of `size` bytes."""
    if offset + GRANULE <= size:
        return 0
    return size - offset if offset < size else beyond


def shadow(kernel: SlabMachine, at: int) -> int:
    """Return the mark of the eight bytes at an address."""
    kasan = kernel.kasan
    assert kasan is not None
    if at >= VMALLOC_START:
        area = _area(kernel, at)
        size = 0 if area is None else area.requested or area.size
        return VMALLOC_INVALID if area is None else _part(size, at - area.start, VMALLOC_INVALID)
    pfn = at - PAGE_OFFSET >> PAGE_SHIFT
    slab = kernel.slabs.get(pfn)
    if slab is not None:
        begin = nearest_object(slab.cache, slab, at)
        if begin in kasan.freed and at - begin < slab.cache.object_size:
            kept = kasan.freed[begin] is not None and at == begin
            return SLAB_FREETRACK if kept else SLAB_FREE
        return _part(kasan.live.get(begin, 0), at - begin, SLAB_REDZONE)
    if kernel.mem_map.is_free(pfn):
        return FREE_PAGE
    head = kernel._folio(pfn)[0]
    if head in kasan.large:
        return _part(kasan.large[head], at - kernel.page_address(head), PAGE_REDZONE)
    return 0


def _has_shadow(kernel: SlabMachine, at: int) -> bool:
    pfn = at - PAGE_OFFSET >> PAGE_SHIFT
    mem_map = kernel.mem_map
    return at >= VMALLOC_START or (0 <= pfn < mem_map.pages and mem_map.page[pfn] != HOLE)


def _memory_state(kernel: SlabMachine, bad: int) -> Iterator[str]:
    """Yield the marks around the first bad address (print_memory_metadata())."""
    yield "Memory state around the buggy address:"
    middle = bad & -LINE
    for row in range(middle - 2 * LINE, middle + 3 * LINE, LINE):
        if _has_shadow(kernel, row):
            marks = (f"{shadow(kernel, at):02x}" for at in range(row, row + LINE, GRANULE))
            yield f"{'>' if row == middle else ' '}{row:016x}: {' '.join(marks)}"
        if row == middle:
            yield " " * (19 + 3 * ((bad - middle) // GRANULE)) + "^"


# -- what an address belongs to -------------------------------------------------------------------


def describe(kernel: SlabMachine, title: str, at: int, bad: int) -> Iterator[str]:
    """Yield the lines behind the call trace: `at` was touched, `bad` is the first bad byte."""
    yield ""
    slab = None if at >= VMALLOC_START else kernel.slabs.get(at - PAGE_OFFSET >> PAGE_SHIFT)
    pfn: int | None = at - PAGE_OFFSET >> PAGE_SHIFT
    if slab is not None:
        yield from _describe_object(kernel, title, slab, at)
        yield ""
    elif at >= VMALLOC_START:
        area = _area(kernel, at)
        pfn = kernel.memory.mapped.get(at >> PAGE_SHIFT)
        if area is not None:
            yield (
                f"The buggy address belongs to a {area.size // PAGE_SIZE}-page vmalloc region "
                f"starting at {area.start:#x} allocated at {kernel.caller}"
            )
    if pfn is not None and _has_shadow(kernel, kernel.page_address(pfn)):
        yield "The buggy address belongs to the physical page:"
        yield from dump_page(kernel.page_zone(pfn), pfn, "kasan: bad access detected")
        yield ""
    if _has_shadow(kernel, bad):
        yield from _memory_state(kernel, bad)


def _describe_object(kernel: SlabMachine, title: str, slab: Slab, at: int) -> Iterator[str]:
    kasan, s = kernel.kasan, slab.cache
    assert kasan is not None
    begin = nearest_object(s, slab, at)
    for what, tracks in (("Allocated", kasan.allocated_by), ("Freed", kasan.freed_by)):
        track = tracks.get(begin)
        if track is not None and (what == "Allocated" or begin in kasan.freed):
            seconds, rest = divmod(track.when // 1000, 1_000_000)
            yield f"{what} by task {track.pid} on cpu {track.cpu} at {seconds}.{rest:06}s:"
            yield f" {kernel.caller} at {track.place}"
            yield ""
    yield f"The buggy address belongs to the object at {begin:016x}"
    yield f" which belongs to the cache {s.name} of size {s.object_size}"
    size = kasan.live.get(begin) or s.object_size
    if at >= begin + size:
        where = f"{at - begin - size} bytes to the right of"
    else:
        where = f"{at - begin} bytes inside of"
    yield f"The buggy address is located {where}"
    state = {"slab-out-of-bounds": "allocated ", "slab-use-after-free": "freed "}.get(title, "")
    yield f" {state}{size}-byte region [{begin:016x}, {begin + size:016x})"


def _area(kernel: SlabMachine, at: int) -> Any:
    """Return the vmalloc area an address lies in, None if there is none."""
    space = getattr(kernel, "vmalloc_space", None)
    if space is None or not space.start <= at < space.end:
        return None
    return space.find(at & -PAGE_SIZE)
