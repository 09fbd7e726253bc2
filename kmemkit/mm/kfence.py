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
        caches: address of an object's page -> its cache, in the order pages came to be used.
        live: object -> bytes asked for.
        freed: address of the page of an object that was freed -> the object, oldest first.
        opened: pages whose access was reported; until their object is freed nothing stops another.
    """

    __slots__ = ("caches", "count", "due", "freed", "interval", "live", "opened", "start")

    def __init__(self, start: int, count: int, interval: int) -> None:
        self.start, self.count, self.interval = start, count, interval
        self.due = interval
        self.caches: dict[int, int] = {}
        self.live: dict[int, int] = {}
        self.freed: dict[int, int] = {}
        self.opened: set[int] = set()

    def freeze(self) -> Mapping[str, Any]:
        """Return everything as a value that does not change any more."""
        kept = {name: getattr(self, name) for name in self.__slots__}
        tables = {name: dict(getattr(self, name)) for name in ("live", "freed", "caches")}
        return kept | tables | {"opened": frozenset(self.opened)}

    @classmethod
    def thaw(cls, frozen: Mapping[str, Any]) -> Kfence:
        """Return what freeze() stands for."""
        kfence = cls(frozen["start"], frozen["count"], frozen["interval"])
        for name in ("live", "freed", "caches"):
            setattr(kfence, name, dict(frozen[name]))
        kfence.due, kfence.opened = frozen["due"], set(frozen["opened"])
        return kfence

    def owns(self, at: int) -> bool:
        """Whether an address is in the pool (is_kfence_address())."""
        return self.start - PAGE_SIZE <= at < self.start + (2 * self.count << PAGE_SHIFT)

    # -- objects ----------------------------------------------------------------------------------

    def alloc(self, kernel: SlabMachine, s: KmemCache, size: int) -> int | None:
        """Give out a guarded object if it is time for one; None: take an ordinary one."""
        wrong = SLAB_CACHE_DMA | SLAB_CACHE_DMA32 | SLAB_TYPESAFE_BY_RCU
        if (
            kernel.now < self.due or size > PAGE_SIZE or s.ctor or s.flags & wrong
            or (len(self.caches) == self.count and not self.freed)
        ):  # fmt: skip
            return None
        self.due = kernel.now + self.interval
        if len(self.caches) < self.count:
            page = self.start + (2 * len(self.caches) << PAGE_SHIFT)
        else:
            page = next(iter(self.freed))
            del self.freed[page]
            self.opened.discard(page)
        at = page
        if kernel.get_random_u32_below(2):  # at the end of the page, as far as its alignment allows
            at = page + (PAGE_SIZE - size) // s.align * s.align
        kernel.mem_map.page[page - PAGE_OFFSET >> PAGE_SHIFT] = SLAB
        self.caches[page] = s.pointer
        self._make_slab(kernel, s, page)
        kernel.memory.write(page, bytes(canary(byte) for byte in range(PAGE_SIZE)))
        kernel.memory.write(at, bytes(size))
        self.live[at] = size
        return at

    def _make_slab(self, kernel: SlabMachine, s: KmemCache, page: int) -> None:
        """Let an object's page look like a slab of its cache."""
        pfn = page - PAGE_OFFSET >> PAGE_SHIFT
        kernel.slabs[pfn] = Slab(s, pfn, 0, 1, kernel.page_zone(pfn).nid, page, inuse=1)

    def attach(self, kernel: SlabMachine) -> None:
        """Make the slabs of a machine that was loaded."""
        for page, pointer in self.caches.items():
            if pointer in kernel.kmem_caches:
                self._make_slab(kernel, kernel.kmem_caches[pointer], page)

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
        self.opened -= {page - PAGE_SIZE, page, page + PAGE_SIZE}

    def object_start(self, at: int) -> int:
        """Return where the object of a page begins (kfence_object_start())."""
        page = at & -PAGE_SIZE
        held = (obj for obj in self.live if obj & -PAGE_SIZE == page)
        return next(held, self.freed.get(page, page))

    # -- accesses ---------------------------------------------------------------------------------

    def check(self, kernel: SlabMachine, at: int, size: int, *, write: bool) -> None:
        """Report an access to a guard page, or to the page of an object that was freed."""
        what = "write" if write else "read"
        for page in range(at & -PAGE_SIZE, at + size, PAGE_SIZE):
            if page in self.opened:
                continue
            guard = (page - self.start >> PAGE_SHIFT) & 1
            if not guard and page not in self.freed:
                continue
            title = "use-after-free"
            if guard:
                held = {obj & -PAGE_SIZE for obj in self.live}
                beside = not held.isdisjoint((page - PAGE_SIZE, page + PAGE_SIZE))
                title = "out-of-bounds" if beside else "invalid"
            self.opened.add(page)
            self.report(kernel, f"{title} {what}", max(at, page))
            return

    def report(self, kernel: SlabMachine, title: str, at: int) -> None:
        """Print what was found (kfence_report_error())."""
        kernel.printk("=" * 66)
        kernel.printk(f"BUG: KFENCE: {title} in {kernel.caller}")
        kernel.printk(f"{title.capitalize()} at {at:#018x}")
        kernel.dump_stack((kernel.caller,))
        kernel.printk("=" * 66)
        kernel.taint("B")
