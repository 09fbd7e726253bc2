"""SlabMachine: what slabs add to a machine's state, and what they ask of it.

Caches, the bytes of memory, free pointers, who allocated what; pages for slabs; random numbers;
warnings with their taint. `SlabCalls` adds the C API. The caches of a booted system are made when
the first call needs them (slab_common.kmem_cache_init()).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kmemkit import gfp as flags
from kmemkit.mm.dump_stack import dump_stack
from kmemkit.mm.errors import Oops
from kmemkit.mm.exact_calls import ExactCalls
from kmemkit.mm.freelist import AllocContext
from kmemkit.mm.kasan import Kasan
from kmemkit.mm.kfence import Kfence
from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT, Memory
from kmemkit.mm.mmzone import ALLOCATED, SLAB, ZONE_HAS_BYTES
from kmemkit.mm.random import splitmix64
from kmemkit.mm.slab import SLAB_TYPESAFE_BY_RCU, KmemCache, Slab
from kmemkit.mm.slab_freeze import freeze_cache, thaw_cache
from kmemkit.mm.slub_debug import Track
from kmemkit.mm.slub_layout import SlabParams
from kmemkit.mm.slub_pages import GFP_SLAB_BUG_MASK
from kmemkit.snapshot import Snapshot

__all__ = ("SlabMachine",)

ZERO = flags.__GFP_ZERO
#: Letters of /proc/sys/kernel/tainted, in the order they are printed.
TAINTS = "PFSRMBUDAWCIOELKXTN"


def _swab64(value: int) -> int:
    return int.from_bytes(value.to_bytes(8, "little"), "big")


class SlabMachine(ExactCalls):
    """A machine with slabs: their state, and the services `slub` needs."""

    def _prepare(self, release: str, nodes: int, cpus: int) -> None:
        super()._prepare(release, nodes, cpus)
        #: every cache, oldest first, and by the address of its struct
        self.slab_caches: list[KmemCache] = []
        self.kmem_caches: dict[int, KmemCache] = {}
        #: pfn -> the slab it belongs to
        self.slabs: dict[int, Slab] = {}
        #: (type, size class) -> its cache
        self.kmalloc_caches: dict[tuple[str, int], KmemCache] = {}
        self.memory = Memory(self, self._freelist_ptr)
        self.slab_params = SlabParams()
        #: slab_debug=: (flags, names of caches or none for all)
        self.slab_debug: tuple[tuple[int, tuple[str, ...]], ...] = ()
        self.slab_debug_low = False  #: slab_debug=O: not where it makes slabs bigger
        self.slab_nomerge = False
        self.freelist_random = True
        #: of the choice among copies of kmalloc's caches; None: there is one only
        self.random_kmalloc_seed: int | None = None
        self.init_on_alloc, self.init_on_free = True, False
        #: object -> who allocated and freed it, and what size was asked for
        self.tracks: dict[int, Mapping[str, Track]] = {}
        self.orig_sizes: dict[int, int] = {}
        #: whose call it is, as reports name it
        self.caller = "learner"
        self.taints: set[str] = set()
        self.random_state = 0
        #: what guards an object now and then (kfence.sample_interval=)
        self.kfence: Kfence | None = None
        self.debug_pagealloc = False  #: free pages are not mapped
        #: what looks at every access, in the debug kernel
        self.kasan: Kasan | None = None
        #: whether the short ways of `slab_calls` may be taken: nobody wrote bytes, nobody looks
        self.slab_hot = False
        #: caches of which they may be taken, by pointer; masks known to be good, with the cache
        #: that serves a kmalloc() of each size. Empty where slab_hot is False.
        self.hot_caches: dict[int, KmemCache] = {}
        self.hot_sizes: dict[int | str, list[KmemCache]] = {}
        #: kmalloc type -> the cache for every size
        self.kmalloc_sizes: dict[str, list[KmemCache]] = {}

    # -- freeze and thaw --------------------------------------------------------------------------

    #: What is frozen as it stands.
    _PLAIN = (
        "slab_params", "slab_debug", "slab_debug_low", "slab_nomerge", "freelist_random",
        "init_on_alloc", "init_on_free", "random_state", "random_kmalloc_seed", "caller",
        "debug_pagealloc",
    )  # fmt: skip

    def _slab_state(self) -> dict[str, Any]:
        slab = {name: getattr(self, name) for name in self._PLAIN} | {
            "taints": frozenset(self.taints),
            "tracks": dict(self.tracks),
            "orig_sizes": dict(self.orig_sizes),
            "memory": self.memory.freeze(),
            "kfence": None if self.kfence is None else self.kfence.freeze(),
            "kasan": None if self.kasan is None else self.kasan.freeze(),
        }
        return {"slab": slab, "caches": tuple(map(freeze_cache, self.kmem_caches.values()))}

    def _load(self, snapshot: Snapshot) -> None:
        super()._load(snapshot)
        self.slab_caches, self.kmem_caches, self.slabs, self.kmalloc_caches = [], {}, {}, {}
        self.kmalloc_sizes = {}
        frozen: Mapping[str, Any] = snapshot.slab
        for name in self._PLAIN:
            if name in frozen:
                setattr(self, name, frozen[name])
        self.taints = set(frozen.get("taints", ()))
        kasan = frozen.get("kasan")
        self.kasan = None if kasan is None else Kasan.thaw(kasan)
        kfence = frozen.get("kfence")
        self.kfence = None if kfence is None else Kfence.thaw(kfence)
        self.tracks = dict(frozen.get("tracks", {}))
        self.orig_sizes = dict(frozen.get("orig_sizes", {}))
        self.memory = Memory(self, self._freelist_ptr)
        if "memory" in frozen:
            self.memory.thaw(frozen["memory"])
        for cache in snapshot.caches:
            self.adopt_cache(thaw_cache(cache))
        if self.kfence is not None:
            self.kfence.attach(self)
        if self.memory.pages:
            self.bytes_written()
        self.refresh_hot()

    def adopt_cache(self, s: KmemCache) -> None:
        """Take a cache, and its slabs, into the machine's tables."""
        if not s.dying:
            self.slab_caches.append(s)
        self.kmem_caches[s.pointer] = s
        s.clears = self.init_on_alloc and not (s.debug or s.ctor or s.flags & SLAB_TYPESAFE_BY_RCU)
        if s.clears and self.slab_hot and not s.dying:
            self.hot_caches[s.pointer] = s
        s.cpu = s.cpus[self._cpu]
        for c in s.cpus:
            if c.slab is not None:
                c.starts, c.links = s.starts if s.clears else frozenset(), c.slab.links
        for slab in s.slabs():
            self.slabs.update(dict.fromkeys(range(slab.pfn, slab.pfn + (1 << slab.order)), slab))

    def _cpu_changed(self) -> None:
        for s in self.kmem_caches.values():
            s.cpu = s.cpus[self._cpu]

    def _attention_changed(self) -> None:
        super()._attention_changed()
        self.refresh_hot()

    def refresh_hot(self) -> None:
        """Work out anew whether the short ways may be taken."""
        looks = self.trace is not None or self.listeners or self.watched
        checks = self.kfence is not None or self.debug_kernel
        self.slab_hot = self.init_on_alloc and not (looks or checks or self.memory.pages)
        self.hot_caches, self.hot_sizes = {}, {}
        if self.slab_hot:
            self.hot_caches = {s.pointer: s for s in self.slab_caches if s.clears}

    # -- services ---------------------------------------------------------------------------------

    def get_random_u32_below(self, ceiling: int) -> int:
        """Return a random number below a ceiling; the same ones from the same seed (splitmix64)."""
        return self.get_random_u64() * ceiling >> 64

    def get_random_u64(self) -> int:
        """Return 64 random bits."""
        self.random_state, number = splitmix64(self.random_state)
        return number

    def freelist_start(self, s: KmemCache) -> int:
        """Return where in the cache's random order a new slab begins."""
        assert s.random_seq is not None
        return self.get_random_u32_below(len(s.random_seq))

    def _freelist_ptr(self, at: int, pointer: int) -> int:
        """Return how a free pointer is stored at an address, or what a stored one means."""
        slab = self.slabs.get(at - PAGE_OFFSET >> PAGE_SHIFT)
        random = slab.cache.random if slab is not None else 0
        return pointer ^ random ^ _swab64(at)

    def bytes_written(self) -> None:
        """Note that a page holds bytes: from here on allocations take the way that clears them."""
        for zone in self.zones:
            zone.flags |= ZONE_HAS_BYTES
        self.slab_hot, self.hot_caches, self.hot_sizes = False, {}, {}

    def slab_pages(self, s: KmemCache, gfp: int, order: int, node: int) -> int | None:
        """Allocate pages for a slab (alloc_slab_page()); return the first one's pfn, or None."""
        context = self._context(gfp, None if node == -1 else node)
        self.faults.in_slab = True
        try:
            pfn = self._alloc(context, order, self._slab_owner(s))
        finally:
            self.faults.in_slab = False
        if pfn is not None:
            self.mem_map.page[pfn] = SLAB | order
        return pfn

    def _slab_owner(self, s: KmemCache) -> str:
        """Return the name that maps show on a slab's pages."""
        try:
            self.owner_number(s.name)
        except ValueError:  # names have run out
            return ""
        return s.name

    def slab_pages_free(self, s: KmemCache, pfn: int, order: int) -> None:
        """Give a slab's pages back."""
        self.mem_map.page[pfn] = ALLOCATED | order
        self._free(pfn, order)
        if not any(n.slabs for n in s.nodes):
            self.forget_owner(s.name)

    def kmalloc_fix_flags(self, gfp: int) -> int:
        """Drop zones that no slab is from, and say so (kmalloc_fix_flags())."""
        fixed = gfp & ~GFP_SLAB_BUG_MASK
        self.printk(
            f"Unexpected gfp: {gfp & GFP_SLAB_BUG_MASK:#x} "
            f"({flags.decode(gfp & GFP_SLAB_BUG_MASK)}). "
            f"Fixing up to gfp: {fixed:#x} ({flags.decode(fixed)}). Fix your code!"
        )
        dump_stack(self, ("new_slab",))
        return fixed

    def _alloc(self, context: AllocContext, order: int, owner: str) -> int | None:
        pfn = super()._alloc(context, order, owner)
        clear = self.init_on_alloc or context.gfp & ZERO
        if pfn is not None and clear and self.zones[0].flags & ZONE_HAS_BYTES:
            # post_alloc_hook()
            self.memory.clear(PAGE_OFFSET + (pfn << PAGE_SHIFT), 4096 << order)
        return pfn

    def _free(self, pfn: int, order: int) -> None:
        if self.mem_map.page[pfn] >= SLAB:
            self.bytes_written()  # somebody else may own the pages of a slab soon
        super()._free(pfn, order)

    def divide_error(self) -> Oops:
        """Print what dividing by zero gives, and return it."""
        line = "Oops: divide error: 0000 [#1] PREEMPT SMP NOPTI"
        self.printk(line)
        return Oops(line)

    def dump_stack(self, functions: tuple[str, ...]) -> None:
        """Print who calls, through which functions (same name in Linux)."""
        dump_stack(self, functions)

    # -- warnings ---------------------------------------------------------------------------------

    def taint(self, letter: str) -> None:
        """Mark the kernel as tainted: B by bad memory, W by a warning, D by an oops."""
        self.taints.add(letter)

    def print_tainted(self) -> str:
        """Return what reports say of the kernel's trustworthiness (same name in Linux)."""
        if not self.taints:
            return "Not tainted"
        letters = "".join(one if one in self.taints else " " for one in TAINTS)
        return "Tainted: " + ("G" if "P" not in self.taints else "P") + letters[1:]

    def warn(self, where: str, function: str, line: str = "") -> None:
        """Print a warning (WARN()), with a line of its own before it or without."""
        self.printk("------------[ cut here ]------------")
        if line:
            self.printk(line)
        self.printk(f"WARNING: CPU: {self.cpu} PID: {self.current.pid} at {where} {function}")
        dump_stack(self, (function,))
        self.printk("---[ end trace 0000000000000000 ]---")
        self.taint("W")

    def warn_once(self, where: str, function: str, line: str = "") -> bool:
        """Print a warning the first time after boot (WARN_ONCE()); return whether it was that."""
        if where in self._warned:
            return False
        self._warned.add(where)
        self.warn(where, function, line)
        return True
