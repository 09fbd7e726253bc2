"""KASAN: a kernel that knows of every byte whether it may be touched (CONFIG_KASAN_GENERIC).

The debug kernel has it. `slab_calls` tells it who gets and who frees objects, and asks it before a
load or store of a driver's. Linux keeps a shadow byte for each eight bytes (mm/kasan); here the
state of the object, the page or the vmalloc area is looked up when somebody asks. Freed objects
stay in quarantine, so that nobody gets them soon; that is what makes a use after free visible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kmemkit.mm import slub
from kmemkit.mm.kasan_report import GRANULE, KasanTrack, describe, nearest_object
from kmemkit.mm.kmemleak import calling_line
from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE, VMALLOC_START
from kmemkit.mm.slab import SLAB_TYPESAFE_BY_RCU, KmemCache, Slab

if TYPE_CHECKING:
    from kmemkit.mm.slab_machine import SlabMachine

__all__ = ("Kasan",)

#: Quarantine holds this part of memory at most, 1/32.
QUARANTINE_SHIFT = 5


class Kasan:
    """What KASAN knows of objects and large blocks.

    Attributes:
        live: object -> how many bytes of it were asked for.
        freed: objects that were freed, oldest first -> their cache, or None once they left
            quarantine.
        large: first page of a large kmalloc block -> bytes asked for.
        held: bytes in quarantine.
        allocated_by, freed_by: object -> who did so last.
    """

    __slots__ = ("allocated_by", "freed", "freed_by", "held", "large", "live")

    def __init__(self) -> None:
        self.live: dict[int, int] = {}
        self.freed: dict[int, int | None] = {}
        self.large: dict[int, int] = {}
        self.held = 0
        self.allocated_by: dict[int, KasanTrack] = {}
        self.freed_by: dict[int, KasanTrack] = {}

    def freeze(self) -> Mapping[str, Any]:
        """Return everything as a value that does not change any more."""
        return {
            "live": dict(self.live), "freed": dict(self.freed), "large": dict(self.large),
            "held": self.held,
            "tracks": (dict(self.allocated_by), dict(self.freed_by)),
        }  # fmt: skip

    @classmethod
    def thaw(cls, frozen: Mapping[str, Any]) -> Kasan:
        """Return what freeze() stands for."""
        kasan = cls()
        kasan.live, kasan.freed = dict(frozen["live"]), dict(frozen["freed"])
        kasan.large, kasan.held = dict(frozen["large"]), frozen["held"]
        kasan.allocated_by, kasan.freed_by = map(dict, frozen["tracks"])
        return kasan

    # -- objects ----------------------------------------------------------------------------------

    def alloc(self, kernel: SlabMachine, at: int, size: int) -> None:
        """Note that somebody has an object now, and may use `size` bytes (kasan_kmalloc())."""
        self.live[at] = size
        self.allocated_by[at] = _track(kernel)
        self.freed.pop(at, None)

    def resize(self, at: int, size: int) -> None:
        """Note that an allocation was made larger or smaller where it is (kasan_krealloc())."""
        if at in self.live:
            self.live[at] = size
        else:
            self.large[at - PAGE_OFFSET >> PAGE_SHIFT] = size

    def slab_free(self, kernel: SlabMachine, s: KmemCache, slab: Slab, at: int) -> bool:
        """Take an object into quarantine; return False if it is to be freed at once.

        A pointer to no object, or to a free one, is reported and forgotten (kasan_slab_free()).
        """
        if at not in self.live:
            begin = at == nearest_object(s, slab, at)
            self.report(kernel, "double-free" if begin else "invalid-free", at, "Free")
            return True
        del self.live[at]
        self.freed_by[at] = _track(kernel)
        if s.flags & SLAB_TYPESAFE_BY_RCU:
            return False
        self.freed[at] = s.pointer
        self.held += s.size
        limit = sum(zone.managed for zone in kernel.zones) << PAGE_SHIFT >> QUARANTINE_SHIFT
        while self.held > limit:
            self._release(kernel, next(one for one, cache in self.freed.items() if cache))
        return True

    def remove_cache(self, kernel: SlabMachine, s: KmemCache) -> None:
        """Free what quarantine holds of a cache (kasan_quarantine_remove_cache())."""
        for at in [one for one, cache in self.freed.items() if cache == s.pointer]:
            self._release(kernel, at)

    def _release(self, kernel: SlabMachine, at: int) -> None:
        slab = kernel.slabs[at - PAGE_OFFSET >> PAGE_SHIFT]
        self.held -= slab.cache.size
        self.freed[at] = None
        slub.slab_free(kernel, slab.cache, slab, at)

    def forget(self, slab: Slab) -> None:
        """Know nothing any more of the objects of a slab whose pages go back."""
        s = slab.cache
        first = slab.address + s.red_left_pad
        for at in range(first, first + slab.objects * s.size, s.size):
            self.freed.pop(at, None)
            self.allocated_by.pop(at, None)
            self.freed_by.pop(at, None)

    def free_large(self, kernel: SlabMachine, at: int, head: int) -> None:
        """Look at the pointer to a large block that is freed; it is freed all the same."""
        self.large.pop(head, None)
        if at != kernel.page_address(head):
            self.report(kernel, "invalid-free", at, "Free", "kfree")
        elif kernel.mem_map.is_free(head):
            self.report(kernel, "double-free", at, "Free", "kfree")

    # -- accesses ---------------------------------------------------------------------------------

    def check(
        self, kernel: SlabMachine, at: int, size: int, *, write: bool, function: str = ""
    ) -> None:
        """Report a load or store of bytes that are nobody's (kasan_check_range())."""
        steps = {at, *range((at | GRANULE - 1) + 1, at + size, GRANULE), at + size - 1}
        for byte in sorted(steps):
            title = self.bad(kernel, byte)
            if title:
                what = f"{'Write' if write else 'Read'} of size {size}"
                self.report(kernel, title, at, what, function, bad=byte)
                return

    def bad(self, kernel: SlabMachine, at: int) -> str:
        """Return what is wrong with touching a byte, "" if nothing."""
        if at >= VMALLOC_START:
            return _bad_vmalloc(kernel, at)
        pfn = at - PAGE_OFFSET >> PAGE_SHIFT
        if not 0 <= pfn < kernel.mem_map.pages:
            return ""
        slab = kernel.slabs.get(pfn)
        if slab is not None:
            begin = nearest_object(slab.cache, slab, at)
            if begin in self.freed and at - begin < slab.cache.object_size:
                return "slab-use-after-free"
            known = begin in self.live or begin in self.freed
            if known and 0 <= at - begin < self.live.get(begin, 0):
                return ""
            return "slab-out-of-bounds"
        if kernel.mem_map.is_free(pfn):
            return "use-after-free"
        head = kernel._folio(pfn)[0]
        if head in self.large and at - kernel.page_address(head) >= self.large[head]:
            return "slab-out-of-bounds"
        return ""

    def report(
        self, kernel: SlabMachine, title: str, at: int, what: str, function: str = "",
        *, bad: int | None = None,
    ) -> None:  # fmt: skip
        """Print what was found; every time, as with kasan_multi_shot (kasan_report())."""
        kernel.printk("=" * 66)
        kernel.printk(f"BUG: KASAN: {title} in {function or kernel.caller}")
        kernel.printk(f"{what} {'of' if what == 'Free' else 'at'} addr {at:016x} by task "
                      f"{kernel.comm}/{kernel.current.pid}")  # fmt: skip
        kernel.dump_stack((function or kernel.caller,))
        for line in describe(kernel, title, at, at if bad is None else bad):
            kernel.printk(line)
        kernel.printk("=" * 66)
        kernel.taint("B")


def _track(kernel: SlabMachine) -> KasanTrack:
    """Return who calls, and when."""
    return KasanTrack(calling_line(), kernel.current.pid, kernel.cpu, kernel.now)


def _bad_vmalloc(kernel: SlabMachine, at: int) -> str:
    space = getattr(kernel, "vmalloc_space", None)
    if space is None or not space.start <= at < space.end:
        return ""
    area = space.find(at & -PAGE_SIZE)
    if area is not None and at - area.start < (area.requested or area.size):
        return ""
    return "vmalloc-out-of-bounds"
