"""Slab caches as frozen values: part of a Snapshot, for views and clones.

Linux: struct kmem_cache and its kin in mm/slab.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ("CacheSnapshot", "CpuSlabs", "NodeSlabs", "SlabSnapshot")


class SlabSnapshot(NamedTuple):
    """One slab: a block of pages cut into objects. There are thousands: tuples are made fastest.

    `freelist` is the address of the first object on the slab's own list, 0 if there is none. The
    objects of a CPU's slab (`frozen`) are on the CPU's list, and all count as in use.
    """

    pfn: int
    order: int
    objects: int
    nid: int
    address: int
    freelist: int
    inuse: int
    frozen: bool
    on_node: bool
    workingset: bool
    #: free object -> the next one, where that pointer is stored in this slab as it should be
    links: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class CpuSlabs:
    """What a CPU holds of a cache: first free object, its slab's pfn, pfns of slabs kept."""

    freelist: int
    slab: int | None
    partial: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeSlabs:
    """What a node holds of a cache: pfns of partial slabs in order, of full ones (debug only)."""

    partial: tuple[int, ...]
    full: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CacheSnapshot:
    """One cache, with the fields of struct kmem_cache; sizes in bytes, `oo` is (order, objects)."""

    name: str
    object_size: int
    align: int
    flags: int
    useroffset: int
    usersize: int
    ctor: Callable[[int], None] | str | None
    size: int
    inuse: int
    offset: int
    red_left_pad: int
    oo: tuple[int, int]
    min: tuple[int, int]
    allocflags: int
    min_partial: int
    cpu_partial: int
    cpu_partial_slabs: int
    random: int
    refcount: int
    pointer: int
    starts: frozenset[int]
    dying: bool
    random_seq: tuple[int, ...] | None
    aliases: tuple[str, ...]
    slabs: tuple[SlabSnapshot, ...]
    cpus: tuple[CpuSlabs, ...]
    nodes: tuple[NodeSlabs, ...]
