"""The calls of vmalloc() in a recording of slabs: compared by how areas lie to each other.

`slab_replay` calls this. A recording does not say what holes there were before it, so an area's
address is compared with those of others: what was recorded right behind another area and its guard
page is so here (but for the other's list of pages, which may come in between), and what was freed
is handed out anew when it was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kmemkit.mm.memory import PAGE_SIZE, VMALLOC_START

if TYPE_CHECKING:
    from kmemkit.mm.kernel import Kernel

__all__ = ("VmallocPlayer",)

PMD_SIZE = 2 << 20

Found = dict[str, tuple[object, object]]


class VmallocPlayer:
    """The areas of a recording, recorded and simulated."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        #: the recorder's number -> (recorded offset, simulated address, bytes with the guard page)
        self._live: dict[int, tuple[int, int, int]] = {}
        self._freed: list[tuple[int, int, int]] = []

    def compare_kind(self, at: int | None, recorded: Mapping[str, Any]) -> Found:
        """Compare whether kvmalloc() took an area, and its alignment; nothing if neither did."""
        args = recorded.get("args") or [""]
        area = at is not None and self._kernel.is_vmalloc_addr(at)
        if args[0] != "vmalloc" and not area:
            return {}
        if args[0] != "vmalloc" or not area or at is None:
            return {"vmalloc": (args[0] == "vmalloc", area)}
        return {"on 2 MiB": (not int(args[1], 16) % PMD_SIZE, not at % PMD_SIZE)}

    def vmalloc(self, key: int, size: int, recorded: Mapping[str, Any]) -> Found:
        """Allocate an area; compare its place among the others."""
        at = self._kernel.vmalloc(size)
        args = recorded["args"]
        if at is None or args[1] != "vmalloc":
            return {"null": (args[1] == "null", at is None)}
        offset, room = int(args[2], 16), -(-size // PAGE_SIZE) * PAGE_SIZE + PAGE_SIZE
        found: Found = {}
        for number, (before, where, length) in self._live.items():
            if before + length == offset:
                gap = at - where - length
                found[f"behind {number}"] = (True, gap in (0, _array_size(length)))
        again = [any(_overlap(offset, room, one[0], one[2]) for one in self._freed)]
        again.append(any(_overlap(at, room, one[1], one[2]) for one in self._freed))
        found["freed before"] = (again[0], again[1])
        found["in the address space"] = (True, at >= VMALLOC_START)
        self._live[key] = offset, at, room
        return found

    def vfree(self, key: int) -> Found:
        """Free an area."""
        area = self._live.pop(key)
        self._kernel.vfree(area[1])
        self._freed.append(area)
        return {}


def _array_size(length: int) -> int:
    """Return the bytes of an area's list of pages, which has an area of its own if it is long."""
    nbytes = (length // PAGE_SIZE - 1) * 8
    return 0 if nbytes <= PAGE_SIZE else -(-nbytes // PAGE_SIZE) * PAGE_SIZE + PAGE_SIZE


def _overlap(start: int, size: int, other: int, length: int) -> bool:
    return start < other + length and other < start + size
