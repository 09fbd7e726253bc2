"""/proc/vmallocinfo: every taken range of vmalloc's address space, as text, and back.

Linux: mm/vmalloc.c vmalloc_info_show(). The kernel keeps the ranges in one list for each possible
CPU, by address, and prints list after list; so with more CPUs the text is not in order of address.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from kmemkit.mm.memory import PAGE_SIZE
from kmemkit.mm.vmap_area import VM_ALLOC, VM_MAP, VmapArea, is_vmalloc_addr

if TYPE_CHECKING:
    from kmemkit.mm.vmalloc_calls import VmallocCalls

__all__ = ("occupy", "vmallocinfo")

#: So many bytes of addresses in a row are one list's; most lists there are.
VMAP_ZONE_SIZE = 16 * PAGE_SIZE
NODES_MAX = 128
UNPURGED = "unpurged vm_area"
_LINE = re.compile(r"0x([0-9a-f]{8,16})-0x([0-9a-f]{8,16}) +(\d+) (\S.*)")


def vmallocinfo(kernel: VmallocCalls) -> str:
    """Return the text of /proc/vmallocinfo."""
    space = kernel.vmalloc_space
    nodes = min(kernel.nr_cpus, NODES_MAX)
    taken = sorted(
        space.areas.values(),
        key=lambda area: (area.start // VMAP_ZONE_SIZE % nodes, area.start),
    )
    lines = [_line(area, area.info or _info(kernel, area)) for area in taken]
    lazy = sorted(space.lazy, key=lambda area: (area.node, area.start))
    lines += [_line(area, UNPURGED) for area in lazy]
    return "".join(f"{line}\n" for line in lines)


def _line(area: VmapArea, info: str) -> str:
    return f"0x{area.start:016x}-0x{area.end:016x} {area.end - area.start:7} {info}"


def _info(kernel: VmallocCalls, area: VmapArea) -> str:
    """Return what is said of a range: who took it, its pages, what it is, whose nodes they are."""
    words = [area.caller]
    if area.pages:
        words.append(f"pages={len(area.pages)}")
    if area.flags & VM_ALLOC:
        words.append("vmalloc")
    if area.flags & VM_MAP:
        words.append("vmap")
    if is_vmalloc_addr(area.array):
        words.append("vpages")
    counts = Counter(kernel.page_zone(pfn).nid for pfn in area.pages)
    words += [f"N{nid}={counts[nid]}" for nid in sorted(counts)]
    return " ".join(words)


def occupy(kernel: VmallocCalls, text: str) -> None:
    """Take the ranges that a /proc/vmallocinfo lists, as the system it was read from had.

    They keep their lines. Their pages are none of this machine's; the unpurged ones stay unusable
    until the next purge.

    Raises:
        ValueError: a line is none of that file, or its range is taken already.
    """
    space, node, last = kernel.vmalloc_space, 0, 0
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{line!r} is not a line of /proc/vmallocinfo")
        area = space.occupy(int(match[1], 16), int(match[2], 16), match[4])
        if match[4] == UNPURGED:
            node += area.start < last  # each list is in order of address
            area.node, last = node, area.start
            space.unlink(area)
