"""A cache as SlabMap shows it: slabs by list, objects by their place on a free list.

Pure functions of a snapshot, without a widget: SlabMap sends the words of `states`, its text twin
and its line read the same values.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from itertools import zip_longest
from typing import Any, NamedTuple

from kmemkit.slab_memory import FreeList, SlabMemory, is_object, objects
from kmemkit.slab_snapshot import CacheSnapshot, SlabSnapshot
from kmemkit.snapshot import Snapshot
from kmemkit.strings import text

__all__ = ("DAMAGED", "OWN", "RANK", "WHO", "CacheModel", "Group", "SlabState")

#: An object's word: its place on a free list from 1 on, 0 if it is in use; whether that is the
#: slab's own list while a CPU has the slab; whether it is damaged; who had it, from bit 17 on.
RANK, OWN, DAMAGED, WHO = 0x7FFF, 1 << 15, 1 << 16, 17
MOST_WHOS = 1 << 15
#: Flags of caches that check objects or remember who had them: red zones, poison, tracks.
DEBUG = 0x86
#: Slabs of one Chunk.
CHUNK = 64
#: What the states of some slabs depend on: (pfn, first object) of the CPUs' lists, and the rest.
Depends = tuple[Any, ...]


class Group(NamedTuple):
    """Slabs on one list, in its order: `slabs` are places in CacheModel.states.

    `kind` is "cpu", "cpu_partial", "partial", "node_full", "full" or "lost"; `number` that of the
    CPU or node.
    """

    kind: str
    number: int
    slabs: tuple[int, ...]

    @property
    def title(self) -> str:
        """What stands above the group."""
        return text(f"slab_map.group.{self.kind}", number=self.number, count=f"{len(self.slabs):,}")

    def where(self, place: int) -> str:
        """Return where the slab at a place of the group is, in the middle of a sentence."""
        return text(f"slab_map.where.{self.kind}", number=self.number, place=place + 1)


class SlabState(NamedTuple):
    """One slab with its free lists (a CPU's before the slab's own) and a word for each object.

    `broken` says what is wrong with the lists, "" if nothing is.
    """

    slab: SlabSnapshot
    lists: tuple[FreeList, ...]
    words: array[int]
    inuse: int
    broken: str


class Chunk(NamedTuple):
    """Some slabs that stand together in CacheModel.states, and all that their states depend on.

    While that is the same, so are the states: 100,000 objects are compared much faster than read.
    """

    slabs: tuple[SlabSnapshot, ...]
    pfns: frozenset[int]
    depends: Depends
    states: list[SlabState]
    #: for the page: two little-endian words a slab, its pfn and its objects; a word an object
    layout: bytes
    words: bytes
    inuse: int
    full: tuple[bool, ...]
    broken: bool


class CacheModel:
    """Everything about one cache of a snapshot.

    Args:
        snapshot: the machine.
        cache: one of its caches.
        before: the model shown before; what did not change is taken from it.
    """

    def __init__(
        self, snapshot: Snapshot, cache: CacheSnapshot, before: CacheModel | None = None
    ) -> None:
        self.snapshot, self.cache = snapshot, cache
        self.memory = SlabMemory(snapshot)
        #: what is said of who had an object; the first one stands for nobody known
        self.whos: dict[str, int] = {"": 0}
        known: list[Chunk] = []
        if before is not None and before.cache.pointer == cache.pointer:
            self.whos, known = before.whos, before.chunks
        self._owned = {c.slab: c.freelist for c in cache.cpus if c.slab is not None}
        #: whether the cache checks its objects, or remembers who had them
        self._checked = bool(cache.flags & DEBUG)
        starts = range(0, len(cache.slabs), CHUNK)
        pairs = zip_longest(starts, known[: len(starts)])
        self.chunks: list[Chunk] = [
            self._chunk(cache.slabs[at : at + CHUNK], old) for at, old in pairs
        ]
        self.states = [state for chunk in self.chunks for state in chunk.states]
        self.groups = self._groups(before)

    # -- slabs ------------------------------------------------------------------------------------

    def _chunk(self, slabs: tuple[SlabSnapshot, ...], known: Chunk | None) -> Chunk:
        """Return some slabs' states: those known, if nothing has changed that they depend on."""
        same = known is not None and known.slabs == slabs
        pfns = known.pfns if known is not None and same else frozenset(slab.pfn for slab in slabs)
        depends = self._depends(slabs, pfns)
        if known is not None and same and known.depends == depends:
            return known
        old = () if known is None or known.depends[1:] != depends[1:] else known.states
        owned = dict(() if known is None else known.depends[0])
        states = [
            state
            if state is not None and state.slab is slab
            and self._owned.get(slab.pfn) == owned.get(slab.pfn)
            else self._state(slab)
            for slab, state in zip_longest(slabs, old[: len(slabs)])
        ]  # fmt: skip
        words = b"".join(state.words.tobytes() for state in states)
        layout = b"".join(struct.pack("<II", slab.pfn, slab.objects) for slab in slabs)
        inuse = sum(state.inuse for state in states)
        full = tuple(state.inuse == state.slab.objects for state in states)
        broken = any(state.broken for state in states)
        return Chunk(slabs, pfns, depends, states, layout, words, inuse, full, broken)

    def _depends(self, slabs: tuple[SlabSnapshot, ...], pfns: frozenset[int]) -> Depends:
        """Return what the states of some slabs are made of, apart from the slabs themselves.

        That is the CPUs' lists of theirs; and the bytes, and who had the objects, where it counts.
        """
        memory, found = self.memory, list[object]()
        if memory.pages:
            every_page = (
                n for slab in slabs for n in range(slab.pfn, slab.pfn + (1 << slab.order))
            )
            found.append(tuple(map(memory.pages.get, every_page)))
        if self._checked:
            every = [at for slab in slabs for at in objects(self.cache, slab)]
            found.append(tuple(map(memory.asked.get, every)))
            found.append(tuple(map(memory.tracks.get, every)))
        owned = tuple((pfn, head) for pfn, head in self._owned.items() if pfn in pfns)
        return owned, *found

    def _state(self, slab: SlabSnapshot) -> SlabState:
        """Return a slab's state: its lists followed, its objects looked at."""
        cache, memory = self.cache, self.memory
        head = self._owned.get(slab.pfn)
        heads = [slab.freelist] if head is None else [head, slab.freelist]
        lists = tuple(memory.free_list(cache, slab, head) for head in heads)
        words = array("I", bytes(4 * slab.objects))
        first, size = slab.address + cache.red_left_pad, cache.size
        wrong = [self.ending(slab, found) for found in lists if found.leads]
        for found, own in zip(reversed(lists), (OWN * (len(lists) - 1), 0), strict=False):
            for rank, at in enumerate(found.objects, 1):
                index, astray = divmod(at - first, size)
                if 0 <= index < slab.objects:
                    words[index] = rank | own | (DAMAGED if astray else 0)
                if astray:
                    wrong.append(text("slab_map.list_astray", what=self.name(slab, at)))
            if found.leads and found.objects and not is_object(cache, slab, found.leads):
                words[(found.objects[-1] - first) // size] |= DAMAGED
        inuse = words.count(0)
        if self._checked:
            free = {at for found in lists for at in found.objects}
            for at in memory.damaged(cache, slab, free):
                words[(at - first) // size] |= DAMAGED
            for index, at in enumerate(objects(cache, slab)):
                words[index] |= self._who(at, at in free) << WHO
        return SlabState(slab, lists, words, inuse, " · ".join(wrong))

    def _who(self, at: int, free: bool) -> int:
        """Return the number of the sentence that says who had an object last, 0 for nobody."""
        said = self.who(at, free)
        number = self.whos.setdefault(said, len(self.whos))
        return number if number < MOST_WHOS else 0

    def who(self, at: int, free: bool) -> str:
        """Return who freed or allocated an object last, "" if the cache does not remember."""
        track = self.memory.tracks.get(at, {}).get("Freed" if free else "Allocated")
        if track is None:
            return ""
        key = "slab_map.who_freed" if free else "slab_map.who_allocated"
        return text(key, where=track.where, cpu=track.cpu, pid=track.pid)

    def _groups(self, before: CacheModel | None) -> list[Group]:
        """Return the slabs by the list they are on: the CPUs' first, those on no list last."""
        cache = self.cache
        depends = (
            [(cpu.slab, cpu.partial) for cpu in cache.cpus], cache.nodes,
            [(chunk.layout, chunk.full) for chunk in self.chunks],
        )  # fmt: skip
        self._grouped = depends
        if before is not None and before._grouped == depends:
            return before.groups
        places = {state.slab.pfn: n for n, state in enumerate(self.states)}
        found: list[tuple[str, int, tuple[int, ...]]] = []
        for number, cpu in enumerate(self.cache.cpus):
            found.append(("cpu", number, () if cpu.slab is None else (cpu.slab,)))
            found.append(("cpu_partial", number, cpu.partial))
        for number, node in enumerate(self.cache.nodes):
            found.append(("partial", number, node.partial))
            found.append(("node_full", number, node.full))
        listed = {pfn for _, _, pfns in found for pfn in pfns}
        rest = [state for state in self.states if state.slab.pfn not in listed]
        for kind, full in (("full", True), ("lost", False)):
            pfns = tuple(s.slab.pfn for s in rest if (s.inuse == s.slab.objects) is full)
            found.append((kind, 0, pfns))
        groups = [
            Group(kind, number, tuple(places[pfn] for pfn in pfns if pfn in places))
            for kind, number, pfns in found
        ]
        return [group for group in groups if group.slabs]

    # -- objects ----------------------------------------------------------------------------------

    @property
    def counts(self) -> Counter[str]:
        """How many objects there are: "objects", and "inuse" of them."""
        return Counter(
            objects=sum(len(chunk.words) // 4 for chunk in self.chunks),
            inuse=sum(chunk.inuse for chunk in self.chunks),
        )

    def place(self, address: int) -> tuple[int, int] | None:
        """Return (place of the slab in `states`, index of the object) of an address, or None."""
        for n, state in enumerate(self.states):
            index = (address - state.slab.address) // self.cache.size
            if 0 <= index < state.slab.objects:
                return n, index
        return None

    def address(self, n: int, index: int) -> int:
        """Return the address of an object of the slab at place `n`."""
        return objects(self.cache, self.states[n].slab)[index]

    def line(self, n: int, index: int) -> str:
        """Return what is known of an object, as the line under the map says it."""
        state = self.states[n]
        slab, word = state.slab, state.words[index]
        group = next(group for group in self.groups if n in group.slabs)
        where = group.where(group.slabs.index(n))
        parts = [
            text("slab_map.line_object", index=index, last=slab.objects - 1),
            f"{self.address(n, index):#x}",
            text("slab_map.line_slab", pfn=f"{slab.pfn:#x}", where=where),
            self.says(word, len(state.lists) > 1),
        ]  # fmt: skip
        if word & DAMAGED:
            parts.append(text("slab_map.line_damaged"))
        parts.append(next(said for said, who in self.whos.items() if who == word >> WHO))
        return " · ".join(part for part in parts if part)

    def says(self, word: int, owned: bool) -> str:
        """Return an object's state in words; `owned` where a CPU has its slab."""
        if not word & RANK:
            return text("slab_map.state_used")
        cpu = owned and not word & OWN
        key = "slab_map.state_free_cpu" if cpu else "slab_map.state_free"
        return text(key, rank=word & RANK)

    def broken(self) -> dict[int, str]:
        """Return what is wrong with free lists, by place of the slab."""
        found: dict[int, str] = {}
        for at, chunk in enumerate(self.chunks):
            if chunk.broken:
                said = ((n, state.broken) for n, state in enumerate(chunk.states, at * CHUNK))
                found |= {n: what for n, what in said if what}
        return found

    def ending(self, slab: SlabSnapshot, found: FreeList) -> str:
        """Return how a free list ends, in words."""
        if not found.leads:
            return text("slab_map.list_end")
        key = "slab_map.list_circle" if found.leads in found.objects else "slab_map.list_broken"
        return text(key, what=self.name(slab, found.leads))

    def name(self, slab: SlabSnapshot, at: int) -> str:
        """Return what to call an address: an object of a slab, a byte of one, or the address."""
        first = slab.address + self.cache.red_left_pad
        index, byte = divmod(at - first, self.cache.size)
        if not 0 <= index < slab.objects:
            return f"{at:#x}"
        if byte:
            return text("slab_map.name_byte", index=index, byte=byte)
        return text("slab_map.name_object", index=index)
