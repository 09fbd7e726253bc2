"""Caches as frozen values, and back: what snapshots, clones and views hold of them."""

from __future__ import annotations

from operator import attrgetter

from kmemkit.mm.slab import KmemCache, KmemCacheCpu, KmemCacheNode, Slab
from kmemkit.slab_snapshot import CacheSnapshot, CpuSlabs, NodeSlabs

__all__ = ("freeze_cache", "thaw_cache")

#: Fields that are the same in both.
FIELDS = (
    "name", "object_size", "align", "flags", "useroffset", "usersize", "ctor", "size", "inuse",
    "offset", "red_left_pad", "oo", "min", "allocflags", "min_partial", "cpu_partial",
    "cpu_partial_slabs", "random", "refcount", "pointer", "starts", "dying",
)  # fmt: skip
_pfn = attrgetter("pfn")


def freeze_cache(s: KmemCache) -> CacheSnapshot:
    """Return a cache with its slabs as a value; most have none, and stay the same value."""
    unused = s.random_seq is None and not any(n.slabs for n in s.nodes)
    if unused and s.frozen is not None:
        return s.frozen
    for c in s.cpus:
        if c.slab is not None:
            c.slab.snapshot = None  # the short ways of `slab_calls` change its links
    frozen = CacheSnapshot(
        **{name: getattr(s, name) for name in FIELDS},
        random_seq=None if s.random_seq is None else tuple(s.random_seq),
        aliases=tuple(s.aliases),
        slabs=tuple([slab.snapshot or slab.freeze() for slab in s.slabs()]),
        cpus=tuple(
            CpuSlabs(c.freelist, None if c.slab is None else c.slab.pfn, _pfns(c.partial))
            for c in s.cpus
        ),
        nodes=tuple(NodeSlabs(_pfns(n.partial), _pfns(n.full)) for n in s.nodes),
    )  # fmt: skip
    s.frozen = frozen if unused else None
    return frozen


def _pfns(slabs: list[Slab]) -> tuple[int, ...]:
    return tuple(map(_pfn, slabs))


def thaw_cache(frozen: CacheSnapshot) -> KmemCache:
    """Return the cache a snapshot was taken of."""
    s = KmemCache(**{name: getattr(frozen, name) for name in FIELDS})
    s.random_seq = None if frozen.random_seq is None else list(frozen.random_seq)
    s.aliases = list(frozen.aliases)
    slabs = {
        one.pfn: Slab(s, **{**one._asdict(), "links": dict(one.links)}) for one in frozen.slabs
    }
    s.nodes = [
        KmemCacheNode(
            [slabs[pfn] for pfn in node.partial],
            [slabs[pfn] for pfn in node.full],
            {pfn: slab for pfn, slab in slabs.items() if slab.nid == nid},
        )
        for nid, node in enumerate(frozen.nodes)
    ]
    for cpu in frozen.cpus:
        slab = None if cpu.slab is None else slabs[cpu.slab]
        base = -1 if slab is None or slab.order != s.oo[0] else slab.address
        partial_slabs = [slabs[pfn] for pfn in cpu.partial]
        s.cpus.append(KmemCacheCpu(cpu.freelist, slab, base, partial=partial_slabs))
    s.cpu = s.cpus[0]
    s.frozen = None if frozen.slabs or frozen.random_seq else frozen
    return s
