"""What a recorded boot's log and QEMU command line tell: nodes, CPUs, memory freed late.

`boots` asks. Every answer may be missing: a log can be cut short, a machine need not be QEMU's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from kmemkit.mm.boot_record import BootRecord, ZoneRecord
from kmemkit.mm.cmdline import parse_size
from kmemkit.mm.numa import MOST_CPUS, MOST_NODES, Hardware, Topology

__all__ = ("Dmesg", "recorded_hardware", "recorded_topology")

#: A recording of more is not booted again: it would only take time.
MOST_PAGES = 1 << 24  # 64 GiB
KERNEL_ADDRESS = 16 << 20


class Dmesg:
    """The lines of a boot's log that say how memory was handed out."""

    def __init__(self, boot: BootRecord) -> None:
        self._lines = [
            re.sub(r"^(<\d+>)?\[ *\d+\.\d+\]( \[[^]]*\])? ", "", line)
            for line in boot.dmesg.splitlines()
        ]
        self._iomem = boot.iomem

    def _numbers(self, pattern: str) -> tuple[int, ...] | None:
        """Return the groups of the first line that matches, as numbers."""
        found = (re.match(pattern, line, re.ASCII) for line in self._lines)
        match = next(filter(None, found), None)
        return None if match is None else tuple(int(group or "0", 0) for group in match.groups())

    def memory_line(self) -> int | None:
        """Return the pages that the "Memory:" line says the buddy had."""
        numbers = self._numbers(
            r"Memory: \d{1,15}K/(\d{1,15})K available \(.*?(\d{1,15})K reserved, "
            r"(\d{1,15})K cma-reserved"
        )
        return None if numbers is None else (numbers[0] - numbers[1] - numbers[2]) // 4

    def init_pages(self) -> int:
        """Return the pages of start-up code and data that the kernel gives back."""
        numbers = self._numbers(r"Memory: .*?(\d{1,15})K init,")
        return numbers[0] // 4 if numbers else 0

    def freed(self) -> list[tuple[str, int]]:
        """Return (what, pages) of everything that was given back, but for SMP alternatives.

        Those are given back before the marks are set; all else after.
        """
        found = (re.match(r"Freeing (.+?) memory: (\d{1,12})K", line) for line in self._lines)
        return [(m[1], int(m[2]) // 4) for m in found if m and m[1] != "SMP alternatives"]

    def earlier_managed(self, zones: Sequence[ZoneRecord]) -> list[int] | None:
        """Return how many managed pages each zone had when the marks were set.

        None if the log does not tell: then it is not there, or was cut short.
        """
        freed = self.freed()
        if not any("initmem" in what for what, _ in freed):
            return None
        managed = [zone.managed for zone in zones]
        for what, pages in freed:
            start = (self._initrd() if what == "initrd" else self._kernel()) >> 12
            end, left = start + pages, pages
            for number, zone in enumerate(zones):
                inside = min(end, zone.start_pfn + zone.spanned) - max(start, zone.start_pfn)
                taken = min(max(inside, 0), left)
                managed[number] -= taken
                left -= taken
        return managed if min(managed) >= 0 else None

    def _kernel(self) -> int:
        """Return the kernel's address, which KASLR may have moved."""
        found = re.search(r"^ *([0-9a-f]{1,16})-[0-9a-f]+ : Kernel code", self._iomem, re.M)
        return int(found[1], 16) if found and int(found[1], 16) else KERNEL_ADDRESS

    def _initrd(self) -> int:
        """Return the initrd's address; a 32-bit kernel may have moved it."""
        moved = self._numbers(r"Move RAMDISK from .* to \[mem (0x[0-9a-f]{1,16})-")
        loaded = self._numbers(r"RAMDISK: \[mem (0x[0-9a-f]{1,16})-")
        place = moved or loaded
        return place[0] if place else self._kernel()

    def pages_when_marks_were_set(self) -> int | None:
        """Return what the "Memory:" line had, and what was given back between it and the marks.

        None where part of memory was still to be initialised when it was printed.
        """
        total = self.memory_line()
        if total is None:
            return None
        at = next(n for n, line in enumerate(self._lines) if line.startswith("Memory: "))
        for line in self._lines[at:]:
            early = re.match(r"Freeing SMP alternatives memory: (\d{1,12})K", line)
            total += int(early[1]) // 4 if early else 0
            if re.match(r"node \d+ deferred pages initialised", line):
                return None
        return total

    def fallback_orders(self) -> dict[int, list[int]]:
        """Return node -> nodes in the order they are fallen back to."""
        found = (
            re.match(r"Fallback order for Node (\d{1,5}): ([\d ]+)", line) for line in self._lines
        )
        return {int(m[1]): list(map(int, m[2].split())) for m in found if m}

    def cpu_nodes(self) -> dict[int, int]:
        """Return CPU -> node for those that were started; the first one starts them."""
        nodes = {}
        for line in self._lines:
            found = re.match(r"\.\.\.\. node +#(\d{1,4}), CPUs:((?: +#\d{1,5})+)", line)
            if found:
                nodes.update({int(cpu): int(found[1]) for cpu in found[2].replace("#", "").split()})
        return nodes


def recorded_topology(boot: BootRecord) -> Topology:
    """Return which CPUs are on which node: from the log, or from QEMU's arguments."""
    nodes = 1 + max(zone.nid for zone in boot.states[0].zones)
    if re.search(r"\bnuma=fake=", boot.cmdline):
        return Topology(nodes, (0,) * boot.cpus, emulated=True)
    started = Dmesg(boot).cpu_nodes()
    hardware = recorded_hardware(boot)
    if not started and hardware is not None and "numa=off" not in boot.cmdline.split():
        cpu_node = hardware.topology().cpu_node
        started = dict(enumerate(cpu_node))
    return Topology(nodes, tuple(started.get(cpu, 0) for cpu in range(boot.cpus)))


def recorded_hardware(boot: BootRecord) -> Hardware | None:
    """Return the machine that QEMU's arguments describe, if they are all understood."""
    try:
        words = shlex.split(boot.qemu_args)
        if not words or len(words) % 2:
            return None
        return _hardware(boot.arch, list(zip(words[::2], words[1::2], strict=True)))
    except (ValueError, KeyError):
        return None


def _hardware(arch: str, options: list[tuple[str, str]]) -> Hardware | None:
    """Return the machine of -m, -smp, -object memory-backend-ram and -numa node."""
    ram, cpus = "128M", "1"
    backends: dict[str, str] = {}
    nodes: dict[int, dict[str, str]] = {}
    for option, value in options:
        kind, *rest = value.split(",")
        fields = dict(item.split("=", 1) for item in rest)
        if (option, rest) == ("-m", []):
            ram = value if value[-1:].isalpha() else f"{value}M"
        elif (option, rest) == ("-smp", []):
            cpus = value
        elif (option, kind) == ("-object", "memory-backend-ram") and fields.keys() == {
            "id",
            "size",
        }:
            backends[fields["id"]] = fields["size"]
        elif (option, kind) == ("-numa", "node") and fields.keys() <= {"nodeid", "memdev", "cpus"}:
            nodes[int(fields["nodeid"])] = fields
        else:
            return None
    if parse_size(ram) >> 12 > MOST_PAGES or not 1 <= int(cpus) <= MOST_CPUS:
        return None
    if not nodes:
        return Hardware.make(ram, cpus=int(cpus), arch=arch)
    if sorted(nodes) != list(range(len(nodes))) or len(nodes) > MOST_NODES:
        return None
    in_order = [nodes[nid] for nid in range(len(nodes))]
    sizes = [backends[node["memdev"]] if "memdev" in node else 0 for node in in_order]
    counts, following = [], 0
    for node in in_order:
        first, _, last = node.get("cpus", "").partition("-")
        count = int(last or first) - int(first) + 1 if first else 0
        if count and int(first) != following:
            return None
        counts.append(count)
        following += count
    return Hardware.make(sizes, cpus=counts, arch=arch) if following == int(cpus) else None
