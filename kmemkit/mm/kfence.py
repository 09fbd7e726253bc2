"""KFENCE: now and then an object gets a page of its own, with pages nobody may touch around it.

With kfence.sample_interval=N one allocation in N ms is such a one, of the small ones that ask for
no special memory. `slab_calls` asks here at every allocation and free, and before a driver's load
or store. Linux: mm/kfence. Simplified: time is that of requests; the pool is the top of memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from kmemkit.mm.mmzone import SLAB
from kmemkit.mm.slab import SLAB_CACHE_DMA, SLAB_CACHE_DMA32, SLAB_TYPESAFE_BY_RCU, KmemCache, Slab

if TYPE_CHECKING:
    from kmemkit.mm.slab_machine import SlabMachine

__all__ = ("Kfence",)

NS_PER_MS = 1_000_000


def canary(at: int) -> int:
    """Return what the unused part of an object's page holds at an address."""
    return 0xAA ^ at & 7


class Kfence:
    """The pool: object pages with a guard page before and behind each.

    Attributes:
        start: address of the first object page.
        count: how many objects there is room for.
        interval: ns from one guarded allocation to the next.
        due: when the next allocation is guarded.
        live: object -> bytes asked for.
        freed: address of the page of an object that was freed -> the object.
    """

    __slots__ = ("count", "due", "freed", "interval", "live", "start", "used")

    def __init__(self, start: int, count: int, interval: int) -> None:
        self.start, self.count, self.interval = start, count, interval
        self.due = interval
        self.used = 0
        self.live: dict[int, int] = {}
        self.freed: dict[int, int] = {}

    def freeze(self) -> Mapping[str, Any]:
        """Return everything as a value that does not change any more."""
        kept = {name: getattr(self, name) for name in self.__slots__}
        return kept | {"live": dict(self.live), "freed": dict(self.freed)}

    @classmethod
    def thaw(cls, frozen: Mapping[str, Any]) -> Kfence:
        """Return what freeze() stands for."""
        kfence = cls(frozen["start"], frozen["count"], frozen["interval"])
        for name in ("due", "used"):
            setattr(kfence, name, frozen[name])
        kfence.live, kfence.freed = dict(frozen["live"]), dict(frozen["freed"])
        return kfence

    def owns(self, at: int) -> bool:
        """Whether an address is in the pool (is_kfence_address())."""
        return self.start - PAGE_SIZE <= at < self.start + (2 * self.count << PAGE_SHIFT)

    # -- objects ----------------------------------------------------------------------------------

    def alloc(self, kernel: SlabMachine, s: KmemCache, size: int) -> int | None:
        """Give out a guarded object if it is time for one; None: take an ordinary one."""
        wrong = SLAB_CACHE_DMA | SLAB_CACHE_DMA32 | SLAB_TYPESAFE_BY_RCU
        if (
            kernel.now < self.due or self.used == self.count or size > PAGE_SIZE or s.ctor
            or s.flags & wrong
        ):  # fmt: skip
            return None
        self.due = kernel.now + self.interval
        page = self.start + (2 * self.used << PAGE_SHIFT)
        self.used += 1
        at = page
        if kernel.get_random_u32_below(2):  # at the end of the page, as far as its alignment allows
            at = page + (PAGE_SIZE - size) // s.align * s.align
        pfn = page - PAGE_OFFSET >> PAGE_SHIFT
        kernel.mem_map.page[pfn] = SLAB
        kernel.slabs[pfn] = Slab(s, pfn, 0, 1, kernel.page_zone(pfn).nid, page, inuse=1)
        kernel.memory.write(page, bytes(canary(byte) for byte in range(PAGE_SIZE)))
        kernel.memory.write(at, bytes(size))
        self.live[at] = size
        return at

    def free(self, kernel: SlabMachine, at: int) -> None:
        """Take a guarded object back; report a wrong pointer, and what was written beside it."""
        size = self.live.get(at)
        if size is None:
            self.report(kernel, "invalid free", at)
            return
        del self.live[at]
        page = at & -PAGE_SIZE
        around = kernel.memory.read(page, PAGE_SIZE)
        for offset, byte in enumerate(around):
            if not at <= page + offset < at + size and byte != canary(offset):
                self.report(kernel, "memory corruption", page + offset)
                break
        self.freed[page] = at

    # -- accesses ---------------------------------------------------------------------------------

    def check(self, kernel: SlabMachine, at: int, size: int, *, write: bool) -> None:
        """Report an access to a guard page, or to the page of an object that was freed."""
        what = "write" if write else "read"
        for page in range(at & -PAGE_SIZE, at + size, PAGE_SIZE):
            if page in self.freed:
                self.report(kernel, f"use-after-free {what}", at)
                return
            if (page - self.start >> PAGE_SHIFT) & 1:
                self.report(kernel, f"out-of-bounds {what}", max(at, page))
                return

    def report(self, kernel: SlabMachine, title: str, at: int) -> None:
        """Print what was found (kfence_report_error())."""
        kernel.printk("=" * 66)
        kernel.printk(f"BUG: KFENCE: {title} in {kernel.caller}")
        kernel.printk(f"{title.capitalize()} at {at:#018x}")
        kernel.dump_stack((kernel.caller,))
        kernel.printk("=" * 66)
        kernel.taint("B")
