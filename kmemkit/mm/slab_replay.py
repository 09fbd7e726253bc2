"""Playing a recording of a real kernel's slabs against the simulated ones, call by call.

`kmemkit verify` uses this. What a kernel draws at random is taken from the recording: the order of
a cache's objects, where in it a new slab begins, and on which CPU the recorder ran. All else is
compared: every field of a new cache, which slab and which object every call gave, and each state of
the lists. Page frames are compared by relation: a recorded slab is always the same simulated one.

Caches that were there before the recorder came are used by others as well, so which of their free
objects a call gets is not known; their layout is compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kmemkit.mm import slab as slab_flags
from kmemkit.mm.errors import KernelBug, Oops, Panic
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.replay import Mismatch, TraceResult
from kmemkit.mm.slab import KmemCache, Slab
from kmemkit.mm.slab_calls import ZERO_SIZE_PTR
from kmemkit.mm.vmalloc_replay import VmallocPlayer

__all__ = ("is_slab_recording", "play_slab")

#: Letters of an operation that makes a cache -> flags.
LETTERS = {
    "N": slab_flags.SLAB_NO_MERGE,
    "H": slab_flags.SLAB_HWCACHE_ALIGN,
    "A": slab_flags.SLAB_ACCOUNT,
    "R": slab_flags.SLAB_RECLAIM_ACCOUNT,
    "T": slab_flags.SLAB_TYPESAFE_BY_RCU,
    "D": slab_flags.SLAB_CACHE_DMA,
    "F": slab_flags.SLAB_CONSISTENCY_CHECKS,
    "Z": slab_flags.SLAB_RED_ZONE,
    "P": slab_flags.SLAB_POISON,
    "U": slab_flags.SLAB_STORE_USER,
    "0": 0,
}
MOST_OPS = 1_000_000

#: What the recorder noted of an operation; and what is compared: (recorded, simulated) by name.
Result = Mapping[str, Any]
Found = dict[str, tuple[object, object]]
#: What a malformed operation or result can raise.
_MALFORMED = (KeyError, TypeError, IndexError, ValueError, AttributeError)


def is_slab_recording(recording: Mapping[str, Any]) -> bool:
    """Return whether a parsed JSON file is a recording of slabs: its operations are texts."""
    ops = recording.get("ops")
    return recording.keys() >= {"constants", "ops", "results"} and isinstance(ops, list)


class _Recorded(Kernel):
    """A kernel whose new slabs begin where the recorded ones did."""

    wanted: int | None = None

    def freelist_start(self, s: KmemCache) -> int:
        """Return where the recorded slab began, if it is one of a cache the recorder made."""
        if self.wanted is None or s.random_seq is None:
            return super().freelist_start(s)
        return s.random_seq.index(self.wanted)


@dataclass(slots=True)
class _Player:
    """A kernel in the middle of a recording."""

    kernel: _Recorded
    #: the recorder's number of a cache -> the cache
    caches: dict[int, KmemCache] = field(default_factory=dict)
    #: caches nobody else uses
    own: set[int] = field(default_factory=set)
    objects: dict[int, int] = field(default_factory=dict)
    #: recorded pfn of a slab's first page -> the slab
    slabs: dict[int, Slab] = field(default_factory=dict)
    memory: dict[int, int | None] = field(default_factory=dict)
    areas: VmallocPlayer = field(init=False)

    def __post_init__(self) -> None:
        self.areas = VmallocPlayer(self.kernel)

    def play(self, words: list[str], recorded: Result) -> list[Mismatch]:
        """Play one operation; return where its outcome differs."""
        name, *args = words
        action = getattr(self, f"_op_{name}", None)
        if action is None:
            raise ValueError(f"operation {name!r} is none of a recording of slabs")
        found = action(*args, recorded=recorded)
        return [
            Mismatch(key, expected, simulated)
            for key, (expected, simulated) in found.items()
            if expected != simulated
        ]

    # -- caches -----------------------------------------------------------------------------------

    def _op_cc(
        self,
        key: str,
        name: str,
        size: str,
        align: str,
        letters: str,
        *,
        recorded: Result,
    ) -> Found:
        bits = sum(LETTERS[letter] for letter in letters)
        pointer = self.kernel.kmem_cache_create(name, int(size), int(align), bits)
        info = recorded.get("info")
        if pointer is None or info is None:
            return {"cache": (info and info["name"], pointer and pointer.name)}
        s = self.caches[int(key)] = self.kernel.kmem_caches[pointer]
        if s.name == name:
            self.own.add(s.pointer)
        found: Found = {name: (info[name], _info(s).get(name)) for name in info}
        sequence = recorded.get("random_seq")
        if sequence is not None:
            if sorted(sequence) != list(range(info["oo_objects"])):
                raise ValueError("random_seq is not an order of all objects")
            known = s.random_seq if s.refcount > 1 and s.random_seq else sequence
            found["random_seq"] = (sequence, known)
            if len(sequence) == s.oo[1]:
                s.random_seq = list(sequence)
        else:
            found["random_seq"] = (None, None if s.oo[1] < 2 else "an order")
        return found

    def _op_cd(self, key: str, *, recorded: Result) -> Found:
        s = self.caches.pop(int(key))
        users = s.refcount
        self.kernel.kmem_cache_destroy(s.pointer)
        if users == 1:
            self.own.discard(s.pointer)
        return {"left": (False, users == 1 and s.pointer in self.kernel.kmem_caches)}

    def _op_cx(self, key: str, *, recorded: Result) -> Found:
        s = self.caches[int(key)]
        left = self.kernel.kmem_cache_shrink(s.pointer)
        return {"slabs left": (recorded["args"][1], left if self._own(s) else recorded["args"][1])}

    def _op_cs(self, key: str, *, recorded: Result) -> Found:
        s = self.caches[int(key)]
        found: Found = {"cache": (recorded["cache"], s.name)}
        if self._own(s):
            states = self._states(s)
            keys = [one for one in recorded if re.match(r"(cpu|node)\d", one)]
            found |= {one: (recorded[one], states.pop(one, None)) for one in keys}
            found |= {one: (None, state) for one, state in states.items()}
        return found

    def _own(self, s: KmemCache) -> bool:
        return s.pointer in self.own

    def _states(self, s: KmemCache) -> dict[str, object]:
        """Return what CPUs and nodes hold of a cache, in the recording's own terms."""
        pfns = {id(slab): pfn for pfn, slab in self.slabs.items()}

        def shown(slab: Slab, **more: int) -> dict[str, object]:
            pfn = pfns.get(id(slab), "another")
            return {"pfn": pfn, "inuse": slab.inuse, "objects": slab.objects, **more}

        states: dict[str, object] = {}
        for number, c in enumerate(s.cpus):
            stock = len(c.partial)
            states[f"cpu{number}"] = {
                "slab": None if c.slab is None else shown(c.slab),
                "freelist": None if c.slab is None else bool(c.freelist),
                "partial": [shown(one, slabs=stock - n) for n, one in enumerate(c.partial)],
            }
        for nid, node in enumerate(s.nodes):
            states[f"node{nid}"] = {
                "nr_partial": node.nr_partial,
                "partial": [shown(slab) for slab in node.partial],
            }
        return states

    # -- objects ----------------------------------------------------------------------------------

    def _op_ca(self, key: str, cache: str, gfp: str, *, recorded: Result) -> Found:
        s = self.caches[int(cache)]
        mine = self._own(s)
        self.kernel.wanted = recorded.get("idx") if mine else None
        at = self.kernel.kmem_cache_alloc(s.pointer, int(gfp, 0))
        self.kernel.wanted = None
        if at is None or "pfn" not in recorded:
            return {"object": ("pfn" in recorded, at is not None)}
        self.objects[int(key)] = at
        slab = self.kernel.slabs[self.kernel.virt_to_page(at)]
        offset = at - slab.address
        if not mine:
            return {}
        return {
            "slab": (recorded["pfn"], self._recorded_pfn(recorded["pfn"], slab)),
            "off": (recorded["off"], offset),
            "idx": (recorded["idx"], (offset - s.red_left_pad) // s.size),
        }

    def _recorded_pfn(self, pfn: int, slab: Slab) -> int | str:
        """Return the recorded pfn of a slab; a new slab takes the one that is given."""
        known = self.slabs.get(pfn)
        if known is not None and self.kernel.slabs.get(known.pfn) is not known:
            del self.slabs[pfn]  # it was freed, and its pages are another slab now
            known = None
        if known is slab:
            return pfn
        other = next((old for old, one in self.slabs.items() if one is slab), None)
        if known is None and other is None:
            self.slabs[pfn] = slab
            return pfn
        return other if other is not None else "a new slab"

    def _op_cf(self, key: str, *, recorded: Result) -> Found:
        at = self.objects.pop(int(key))
        slab = self.kernel.slabs[self.kernel.virt_to_page(at)]
        self.kernel.kmem_cache_free(slab.cache.pointer, at)
        return {}

    # -- kmalloc and its family -------------------------------------------------------------------

    def _op_k(self, key: str, size: str, gfp: str, *, recorded: Result) -> Found:
        at = self.kernel.kmalloc(int(size), int(gfp, 0))
        self.memory[int(key)] = at
        return self._compare(at, recorded)

    def _op_kf(self, key: str, *, recorded: Result) -> Found:
        self.kernel.kfree(self.memory.pop(int(key)))
        return {}

    def _op_kr(self, key: str, size: str, gfp: str, *, recorded: Result) -> Found:
        old = self.memory.get(int(key))
        at = self.kernel.krealloc(old, int(size), int(gfp, 0))
        if at is not None:
            self.memory[int(key)] = at
        how = "new" if old is None else "same" if at == old else "moved"
        return {"how": (recorded["args"][1], how)} | self._compare(at, recorded)

    def _op_ka(self, n: str, size: str, gfp: str, *, recorded: Result) -> Found:
        return self._array(self.kernel.kmalloc_array(int(n), int(size), int(gfp, 0)), recorded)

    def _op_kc(self, n: str, size: str, gfp: str, *, recorded: Result) -> Found:
        return self._array(self.kernel.kcalloc(int(n), int(size), int(gfp, 0)), recorded)

    def _array(self, at: int | None, recorded: Result) -> Found:
        found = self._compare(at, recorded)
        self.kernel.kfree(at)
        return found

    def _op_kb(self, size: str, *, recorded: Result) -> Found:
        return {"bytes": (recorded["args"][1], self.kernel.kmalloc_size_roundup(int(size)))}

    def _op_kv(self, size: str, gfp: str, *, recorded: Result) -> Found:
        at = self.kernel.kvmalloc(int(size), int(gfp, 0))
        found = self.areas.compare_kind(at, recorded) or self._compare(at, recorded)
        self.kernel.kvfree(at)
        return found

    def _op_v(self, key: str, size: str, *, recorded: Result) -> Found:
        return self.areas.vmalloc(int(key), int(size), recorded)

    def _op_vf(self, key: str, *, recorded: Result) -> Found:
        return self.areas.vfree(int(key))

    def _compare(self, at: int | None, recorded: Result) -> Found:
        """Compare all that is recorded of memory that kmalloc() gave."""
        if at is None or recorded.get("args", [""])[-1] == "null":
            return {"null": (recorded.get("args", [""])[-1] == "null", at is None)}
        if at == ZERO_SIZE_PTR or "zero_size_ptr" in recorded:
            return {"zero_size_ptr": (recorded.get("zero_size_ptr"), at)}
        found: dict[str, object] = {"ksize": self.kernel.ksize(at), "pgoff": at & 0xFFF}
        pfn = self.kernel.virt_to_page(at)
        slab = self.kernel.slabs.get(pfn)
        if slab is None:
            found["order"] = self.kernel.mem_map.page[pfn] & 15
            found["compound"] = int(pfn in self.kernel.mem_map.compound)
            return {key: (recorded.get(key), value) for key, value in found.items()}
        s = slab.cache
        del found["pgoff"]
        found |= {
            "cache": s.name, "obj": s.object_size, "order": slab.order, "objs": slab.objects,
            "size": s.size,
        }  # fmt: skip
        if not s.debug:
            found["inuse"] = slab.inuse
        offset = recorded.get("off")
        return {key: (recorded.get(key), value) for key, value in found.items()} | {
            "begins an object": (
                True,
                offset is not None and not (offset - s.red_left_pad) % s.size,
            )
        }


def _info(s: KmemCache) -> dict[str, object]:
    """Return a cache as recordings describe one."""
    names = (
        "name", "size", "object_size", "offset", "inuse", "align", "red_left_pad", "min_partial",
        "cpu_partial", "cpu_partial_slabs", "flags", "allocflags", "refcount",
    )  # fmt: skip
    found = {name: getattr(s, name) for name in names}
    (found["oo_order"], found["oo_objects"]), (least, fewest) = s.oo, s.min
    return found | {"min_order": least, "min_objects": fewest}


# -- the whole recording --------------------------------------------------------------------------


def play_slab(recording: Mapping[str, Any]) -> TraceResult:
    """Play every operation of a recording of slabs, and compare what came of it.

    Raises:
        ValueError: the recording is malformed; the message says where.
    """
    ops = _operations(recording)
    player = _Player(_machine(recording))
    states = _next_states(ops)
    matched, total = [0, 0], [0, 0]
    for words, _ in ops:
        total[words[0] == "cs"] += 1
    mismatches: list[Mismatch] = []
    for number, (words, recorded) in enumerate(ops):
        where = f"op {number} {' '.join(words)}"
        try:
            cpu = _cpu(words, recorded, states[number])
            if cpu is not None:
                player.kernel.cpu = cpu
            # without a result, the operation had nothing to work on
            found = player.play(words, recorded) if recorded is not None else []
        except (KernelBug, Oops, Panic) as error:
            mismatches.append(Mismatch(where, recorded, str(error).splitlines()[0]))
            break
        except _MALFORMED as error:
            if mismatches:
                break  # what it needs is missing since something went another way
            raise ValueError(f"recording: {where[:80]}: {error!r}") from None
        matched[words[0] == "cs"] += not found
        mismatches += [Mismatch(f"{where}: {m.where}", m.recorded, m.simulated) for m in found]
    return TraceResult((matched[0], total[0]), (matched[1], total[1]), tuple(mismatches))


def _operations(recording: Mapping[str, Any]) -> list[tuple[list[str], Result | None]]:
    """Return operations, in words, with their results."""
    ops, results = recording["ops"], recording["results"]
    if not isinstance(results, list) or len(ops) != len(results) or len(ops) > MOST_OPS:
        raise ValueError("recording: ops and results are not two lists of one length")
    pairs: list[tuple[list[str], Result | None]] = []
    for number, (op, result) in enumerate(zip(ops, results, strict=True)):
        if not isinstance(op, str) or not op.split():
            raise ValueError(f"recording: op {number} {str(op)[:80]} is not a line of text")
        if result is not None and not isinstance(result, Mapping):
            raise ValueError(f"recording: result {number} is not an object")
        pairs.append((op.split(), result))
    return pairs


def _machine(recording: Mapping[str, Any]) -> _Recorded:
    """Boot the recorded guest: "512M, 4 CPUs", "2G+2G, 2 CPUs"."""
    guest = re.match(r"(\d{1,6}[MG](?:\+\d{1,6}[MG])*), (\d{1,3}) CPU", str(recording.get("guest")))
    if guest is None:
        raise ValueError(f"recording: guest={recording.get('guest')!r} says no memory and CPUs")
    return _Recorded(
        guest[1].split("+"), cpus=int(guest[2]), cmdline=str(recording.get("cmdline") or "")
    )


def _cpu(words: list[str], recorded: Result | None, state: Result | None) -> int | None:
    """Return the CPU an operation ran on, if the next state of its cache tells."""
    if words[0] not in ("ca", "cf", "cx") or recorded is None or state is None:
        return None
    held = {int(key[3:]): state[key] for key in state if re.fullmatch(r"cpu\d{1,4}", key)}
    for cpu, lists in held.items():
        if words[0] == "ca" and lists["slab"] and lists["slab"]["pfn"] == recorded.get("pfn"):
            return cpu
    busy = [cpu for cpu, lists in held.items() if lists["slab"] or lists["partial"]]
    return busy[0] if len(busy) == 1 else None


def _next_states(ops: list[tuple[list[str], Result | None]]) -> list[Result | None]:
    """Return for each operation the state recorded next, unless a cache came or went before."""
    state: Result | None = None
    states: list[Result | None] = []
    for words, recorded in reversed(ops):
        if words[0] in ("cc", "cd"):
            state = None
        elif words[0] == "cs" and recorded is not None:
            state = recorded
        states.append(state)
    return states[::-1]
