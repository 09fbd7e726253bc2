"""What a snapshot's memory says of its slabs: free lists as they are stored, bytes of an object.

`SlabMemory` reads a Snapshot as the kernel would read its memory, and changes nothing: views and
lessons use it. Free lists may be broken and bytes damaged; both are told, never taken for granted.

Linux: mm/slub.c get_freepointer(), check_object() and the layout before calculate_sizes().
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from kmemkit.slab_snapshot import CacheSnapshot, SlabSnapshot
from kmemkit.snapshot import Snapshot

__all__ = ("FreeList", "Region", "SlabMemory", "is_object", "objects")

PAGE_SHIFT, PAGE_SIZE, WORD = 12, 4096, 8
TRACK_SIZE = 32
# Bits of struct kmem_cache.flags, and the patterns, as in mm/slab.py and mm/slub_debug.py.
RED_ZONE, POISON, KMALLOC, STORE_USER, OBJECT_POISON = 0x2, 0x4, 0x8, 0x80, 0x20000
RED_INACTIVE, RED_ACTIVE = 0xBB, 0xCC
POISON_INUSE, POISON_FREE, POISON_END = 0x5A, 0x6B, 0xA5
#: What a region is, where it starts and ends, what it should hold.
Stretch = tuple[str, int, int, bytes | None]


class FreeList(NamedTuple):
    """A free list, first to last, as far as it can be followed.

    `leads` is where the last pointer leads: 0 at a proper end, an address of `objects` in a circle,
    anything else where a pointer was overwritten. Addresses need not be where objects begin: that
    of kfree(p + 8) is on the list as it was given.
    """

    objects: tuple[int, ...]
    leads: int


class Region(NamedTuple):
    """A stretch of an object's slot: `start` counts from the object, in bytes.

    `kind` is "left", "object", "poison", "right", "pointer", "tracks", "asked" or "padding".
    `expected` is what the checks of slab_debug= would compare with, None where anything may stand.
    `leads` is where a free pointer leads, `astray` whether that is neither an object nor 0.
    """

    kind: str
    start: int
    data: bytes
    expected: bytes | None = None
    leads: int | None = None
    astray: bool = False

    @property
    def damaged(self) -> tuple[int, ...]:
        """The places in `data` that are not as expected: all eight of a pointer that is astray."""
        if self.astray:
            return tuple(range(len(self.data)))
        if self.expected is None or self.data == self.expected:
            return ()
        pairs = zip(self.data, self.expected, strict=True)
        return tuple(n for n, (found, wanted) in enumerate(pairs) if found != wanted)


class SlabMemory:
    """The memory of a snapshot, where it belongs to slabs."""

    def __init__(self, snapshot: Snapshot) -> None:
        frozen: Any = snapshot.slab
        memory: Mapping[str, Any] = frozen.get("memory", {})
        #: pfn -> its bytes; a page that nobody wrote to is not there and holds zeroes
        self.pages: Mapping[int, bytes] = memory.get("pages", {})
        #: object -> {"Allocated": Track, "Freed": Track}, in caches that remember who it was
        self.tracks: Mapping[int, Mapping[str, Any]] = frozen.get("tracks", {})
        #: object -> bytes that kmalloc() was asked for, in caches that remember it
        self.asked: Mapping[int, int] = frozen.get("orig_sizes", {})

    # -- free lists -------------------------------------------------------------------------------

    def free_list(self, cache: CacheSnapshot, slab: SlabSnapshot, head: int) -> FreeList:
        """Follow a free list of a slab from its first object; 0 is an empty one."""
        low, high = slab.address, slab.address + (PAGE_SIZE << slab.order)
        known = slab.links
        found: dict[int, None] = {}
        at = head
        while low <= at < high and at not in found:
            found[at] = None
            following = known.get(at)
            at = self.pointer(cache, slab, at) if following is None else following
        return FreeList(tuple(found), at)

    def pointer(self, cache: CacheSnapshot, slab: SlabSnapshot, at: int) -> int:
        """Return where the free pointer of an object leads; garbage if it was overwritten."""
        known = slab.links.get(at)
        if known is not None:
            return known
        place = at + cache.offset
        stored = int.from_bytes(self.read(cache, slab, place, WORD), "little")
        return _encode(cache, place, stored)

    # -- bytes ------------------------------------------------------------------------------------

    def read(self, cache: CacheSnapshot, slab: SlabSnapshot, address: int, size: int) -> bytes:
        """Return bytes of a slab as they are stored: free pointers mixed with their secret."""
        base = slab.address - (slab.pfn << PAGE_SHIFT)
        out = bytearray()
        while len(out) < size:
            pfn, offset = divmod(address + len(out) - base, PAGE_SIZE)
            length = min(size - len(out), PAGE_SIZE - offset)
            page = self.pages.get(pfn)
            out += bytes(length) if page is None else page[offset : offset + length]
        for at in range(address & -WORD, address + size, WORD):
            pointer = slab.links.get(at - cache.offset)
            if pointer is not None:
                stored = _encode(cache, at, pointer).to_bytes(WORD, "little")
                for n, byte in enumerate(stored, at - address):
                    if 0 <= n < size:
                        out[n] = byte
        return bytes(out)

    def regions(
        self, cache: CacheSnapshot, slab: SlabSnapshot, at: int, free: bool
    ) -> list[Region]:
        """Return what an object's slot is made of, lowest address first.

        Args:
            cache: the object's cache.
            slab: the object's slab.
            at: address of the object.
            free: whether it is on a free list: then other patterns are expected.
        """
        found: list[Region] = []
        for kind, start, end, expected in _layout(cache, free, self._size(cache, at)):
            data = self.read(cache, slab, at + start, end - start)
            if kind == "pointer":
                leads = self.pointer(cache, slab, at)
                astray = bool(leads) and not is_object(cache, slab, leads)
                found.append(Region(kind, start, data, None, leads, astray))
            else:
                found.append(Region(kind, start, data, expected))
        return found

    def damaged(
        self, cache: CacheSnapshot, slab: SlabSnapshot, free: Collection[int]
    ) -> frozenset[int]:
        """Return the objects of a slab whose bytes are not all as the checks expect them.

        `free` has those that are on a free list.
        """
        if not cache.flags & (RED_ZONE | POISON):
            return frozenset()
        data = self.read(cache, slab, slab.address, PAGE_SIZE << slab.order)
        layouts = {-1: _layout(cache, True, cache.object_size)}
        found: set[int] = set()
        for at in objects(cache, slab):
            size = self._size(cache, at)
            key = -1 if at in free else size
            if key not in layouts:
                layouts[key] = _layout(cache, False, size)
            place = at - slab.address
            for _, start, end, expected in layouts[key]:
                if expected is not None and data[place + start : place + end] != expected:
                    found.add(at)
        return frozenset(found)

    def _size(self, cache: CacheSnapshot, at: int) -> int:
        """Return how many bytes of an object in use are its user's, as far as the cache knows."""
        if cache.flags & RED_ZONE and cache.flags & STORE_USER and cache.flags & KMALLOC:
            return min(self.asked.get(at, cache.object_size), cache.object_size)
        return cache.object_size


def _layout(cache: CacheSnapshot, free: bool, size: int) -> list[Stretch]:
    """Return the stretches of a slot; of `size` bytes an object in use may use every one."""
    bits, found, word = cache.flags, list[Stretch](), WORD

    def add(kind: str, start: int, end: int, byte: int | None = None) -> None:
        if start < end:
            expected = None if byte is None else bytes([byte]) * (end - start)
            found.append((kind, start, end, expected))

    red = (RED_INACTIVE if free else RED_ACTIVE) if bits & RED_ZONE else None
    fill = POISON_INUSE if bits & POISON else None
    size = cache.object_size if free else size
    inside = cache.offset < cache.inuse
    add("left", -cache.red_left_pad, 0, red)
    if free and bits & OBJECT_POISON:
        poison = bytes([POISON_FREE]) * (size - 1) + bytes([POISON_END])
        found.append(("poison", 0, size, poison))
    elif free and inside:
        add("object", 0, cache.offset)
        add("pointer", cache.offset, cache.offset + word)
        add("object", cache.offset + word, size)
    else:
        add("object", 0, size)
    end = cache.inuse
    add("padding" if red is None else "right", size, end, fill if red is None else red)
    if not inside:
        add("pointer", end, end + word)
        end += word
    if bits & STORE_USER:
        add("tracks", end, end + 2 * TRACK_SIZE)
        end += 2 * TRACK_SIZE
        if bits & KMALLOC:
            add("asked", end, end + word)
            end += word
    add("padding", end, cache.size - cache.red_left_pad, fill)
    return found


def objects(cache: CacheSnapshot, slab: SlabSnapshot) -> range:
    """Return the addresses of a slab's objects."""
    first = slab.address + cache.red_left_pad
    return range(first, first + slab.objects * cache.size, cache.size)


def is_object(cache: CacheSnapshot, slab: SlabSnapshot, at: int) -> bool:
    """Return whether an object of the slab begins at an address."""
    return at in objects(cache, slab)


def _encode(cache: CacheSnapshot, at: int, pointer: int) -> int:
    """Return how a free pointer is stored at an address, or what a stored one means."""
    swapped = int.from_bytes(at.to_bytes(WORD, "little"), "big")
    return pointer ^ cache.random ^ swapped
