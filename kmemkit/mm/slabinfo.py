"""What /proc/slabinfo and /sys/kernel/slab say of the caches, as text.

Part of Kernel. Linux: mm/slab_common.c slab_show(), mm/slub.c get_slabinfo(), slab_sysfs_init() and
the attributes' show functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kmemkit.mm.slab import (
    SLAB_ACCOUNT,
    SLAB_CACHE_DMA,
    SLAB_CACHE_DMA32,
    SLAB_CONSISTENCY_CHECKS,
    SLAB_HWCACHE_ALIGN,
    SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TRACE,
    SLAB_TYPESAFE_BY_RCU,
    KmemCache,
    Slab,
)
from kmemkit.mm.slab_calls import SlabCalls
from kmemkit.mm.slab_common import slab_unmergeable
from kmemkit.mm.slub import REMOTE_NODE_DEFRAG_RATIO

__all__ = ("SlabFiles",)

HEADER = (
    "slabinfo - version: 2.1\n"
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    " : tunables <limit> <batchcount> <sharedfactor>"
    " : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
)
#: Letters in the directory name of a cache that others may join.
ID_LETTERS = (
    ("d", SLAB_CACHE_DMA),
    ("D", SLAB_CACHE_DMA32),
    ("a", SLAB_RECLAIM_ACCOUNT),
    ("F", SLAB_CONSISTENCY_CHECKS),
    ("A", SLAB_ACCOUNT),
)
#: Attributes that are 1 if a flag is set.
FLAG_FILES = {
    "hwcache_align": SLAB_HWCACHE_ALIGN,
    "reclaim_account": SLAB_RECLAIM_ACCOUNT,
    "destroy_by_rcu": SLAB_TYPESAFE_BY_RCU,
    "cache_dma": SLAB_CACHE_DMA,
    "sanity_checks": SLAB_CONSISTENCY_CHECKS,
    "trace": SLAB_TRACE,
    "red_zone": SLAB_RED_ZONE,
    "poison": SLAB_POISON,
    "store_user": SLAB_STORE_USER,
}


class SlabFiles(SlabCalls):
    """The part of a machine that prints its caches."""

    def slabinfo(self) -> str:
        """Return /proc/slabinfo: newest cache first, those merged into others left out."""
        self._caches_ready()
        return HEADER + "".join(map(_slab_show, reversed(self.slab_caches)))

    def unreclaimable_slab_info(self) -> dict[str, tuple[int, int]]:
        """Return what caches that cannot be reclaimed take, newest first, after those it was told.

        In kB, of objects in use and of all (dump_unreclaimable_slab()).
        """
        found = dict(super().unreclaimable_slab_info())
        for s in reversed(self.slab_caches):
            active, objects = _active_objs(s)
            if objects and not s.flags & SLAB_RECLAIM_ACCOUNT:
                found[s.name] = (active * s.size // 1024, objects * s.size // 1024)
        return found

    def slab_sysfs(self, name: str) -> Mapping[str, str]:
        """Return the files of /sys/kernel/slab/NAME: attribute -> its text.

        Args:
            name: a cache's, that of one merged into it, or the directory's, as ":A-0000064".

        Raises:
            ValueError: there is no such cache.
        """
        self._caches_ready()
        for s in self.slab_caches:
            if name in (s.name, *s.aliases) or name == self.slab_sysfs_name(s):
                return _attributes(s)
        raise ValueError(f"there is no cache {name!r}; slab_sysfs_names() has all")

    def slab_sysfs_names(self) -> dict[str, tuple[str, ...]]:
        """Return the directories of /sys/kernel/slab, and the names that are links to each."""
        self._caches_ready()
        found = {}
        for s in self.slab_caches:
            directory = self.slab_sysfs_name(s)
            found[directory] = () if directory == s.name else (s.name, *s.aliases)
        return found

    def slab_sysfs_name(self, s: KmemCache) -> str:
        """Return the name of a cache's directory: made of flags and size, if others may join."""
        if self.slab_nomerge or slab_unmergeable(s):
            return s.name
        letters = "".join(letter for letter, flag in ID_LETTERS if s.flags & flag)
        return f":{letters}{'-' if letters else ''}{s.size:07d}"


def _active_objs(s: KmemCache) -> tuple[int, int]:
    """Return how many objects are in use, and how many there are (get_slabinfo()).

    Only what is free on node lists is not in use.
    """
    objects = sum(slab.objects for slab in s.slabs())
    free = sum(slab.objects - slab.inuse for n in s.nodes for slab in n.partial)
    return objects - free, objects


def _slab_show(s: KmemCache) -> str:
    """Return a cache's line of /proc/slabinfo."""
    slabs = sum(len(n.slabs) for n in s.nodes)
    active, objects = _active_objs(s)
    order, per_slab = s.oo
    return (
        f"{s.name:<17} {active:>6} {objects:>6} {s.size:>6} {per_slab:>4} {1 << order:>4}"
        f" : tunables {0:>4} {0:>4} {0:>4} : slabdata {slabs:>6} {slabs:>6} {0:>6}\n"
    )


def _attributes(s: KmemCache) -> dict[str, str]:
    """Return a cache's files. Reading `shrink` and `validate` gives nothing: one writes to them."""
    partial = [list(n.partial) for n in s.nodes]
    numbers = {
        "slab_size": s.size, "object_size": s.object_size, "objs_per_slab": s.oo[1],
        "order": s.oo[0], "min_partial": s.min_partial, "cpu_partial": s.cpu_partial,
        "aliases": max(s.refcount - 1, 0), "align": s.align, "usersize": s.usersize,
        "remote_node_defrag_ratio": REMOTE_NODE_DEFRAG_RATIO // 10, "skip_kfence": 0,
        **{name: int(bool(s.flags & flag)) for name, flag in FLAG_FILES.items()},
    }  # fmt: skip
    every = [list(n.slabs.values()) for n in s.nodes]
    counts = {
        "objects_partial": _per_node(partial, lambda slab: slab.inuse),
        "partial": _per_node(partial, lambda _: 1),
        "slabs": _per_node(every, lambda _: 1),
        "total_objects": _per_node(every, lambda slab: slab.objects),
        # CPUs' slabs count as wholly used: only node lists are looked through
        "objects": _show([
            sum(slab.objects for slab in all_of) - sum(slab.objects - slab.inuse for slab in some)
            for all_of, some in zip(every, partial, strict=True)
        ]),
        "cpu_slabs": _cpu_slabs(s),
        "slabs_cpu_partial": _slabs_cpu_partial(s),
    }  # fmt: skip
    files = {name: f"{number}\n" for name, number in numbers.items()} | counts
    return files | {"ctor": _ctor(s), "shrink": "", "validate": ""}


def _show(by_node: list[int]) -> str:
    """Return a sum and the nodes' parts of it (show_slab_objects())."""
    parts = [f" N{nid}={number}" for nid, number in enumerate(by_node) if number]
    return f"{sum(by_node)}{''.join(parts)}\n"


def _per_node(slabs: list[list[Slab]], count: Callable[[Slab], int]) -> str:
    return _show([sum(map(count, of_node)) for of_node in slabs])


def _cpu_slabs(s: KmemCache) -> str:
    """Return how many slabs CPUs have; kept ones count for the node of the first."""
    nodes = [0] * len(s.nodes)
    for c in s.cpus:
        if c.slab is not None:
            nodes[c.slab.nid] += 1
        if c.partial:
            nodes[c.partial[0].nid] += len(c.partial)
    return _show(nodes)


def _slabs_cpu_partial(s: KmemCache) -> str:
    """Return "objects(slabs)" that CPUs keep, each slab taken for half full."""
    kept = [len(c.partial) for c in s.cpus]
    text = f"{sum(kept) * s.oo[1] // 2}({sum(kept)})"
    for cpu, slabs in enumerate(kept):
        if slabs:
            text += f" C{cpu}={slabs * s.oo[1] // 2}({slabs})"
    return text + "\n"


def _ctor(s: KmemCache) -> str:
    """Return a constructor as kernel symbols are printed."""
    if not s.ctor:
        return ""
    if isinstance(s.ctor, str):
        return f"{s.ctor}\n"
    return f"{getattr(s.ctor, '__name__', 'ctor')}+0x0/0x10 [module]\n"
