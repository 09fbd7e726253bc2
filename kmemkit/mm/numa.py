"""Hardware and topology: how much memory and how many CPUs each node has, and which are near.

`Kernel` makes a `Hardware` of its arguments and hands it to `mm_init.boot()`, which lays out zones
and answers with a `Topology`: what is left of the nodes after numa=off or numa=fake=N on the
command line. `zonelist`, `wmark_setup` and `Machine` ask that. Linux: mm/numa.c,
mm/numa_memblks.c, mm/numa_emulation.c. Simplified: all other nodes are equally far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kmemkit.mm.cmdline import parse_size

__all__ = ("LOCAL_DISTANCE", "REMOTE_DISTANCE", "Hardware", "Topology")

LOCAL_DISTANCE, REMOTE_DISTANCE = 10, 20
MOST_NODES, MOST_CPUS = 64, 512
MOST_I386_PAGES = 1 << 24  # 64 GiB, with PAE
ARCHS = ("x86_64", "i386")


@dataclass(frozen=True, slots=True)
class Topology:
    """The nodes of a running machine and their CPUs.

    Attributes:
        nodes: how many there are, with or without memory.
        cpu_node: node of each CPU (cpu_to_node()).
        emulated: the nodes are cut out of one (numa=fake): equally near, all CPUs near to each.
    """

    nodes: int
    cpu_node: tuple[int, ...]
    emulated: bool = False

    @classmethod
    def even(cls, nodes: int, cpus: int) -> Topology:
        """Return a topology with the CPUs dealt out to the nodes evenly, in order."""
        return cls(nodes, tuple(cpu * nodes // max(cpus, nodes) for cpu in range(cpus)))

    def cpus_at(self, nid: int) -> int:
        """Return how many CPUs are on a node (cpumask_of_node())."""
        return len(self.cpu_node) if self.emulated else self.cpu_node.count(nid)

    def local_cpus(self, nid: int) -> int:
        """Return among how many CPUs a node's zones are shared out: its own, or else all."""
        return self.cpus_at(nid) or len(self.cpu_node)

    def distance(self, a: int, b: int) -> int:
        """Return how far two nodes are from each other, 10 being none (node_distance())."""
        return LOCAL_DISTANCE if a == b or self.emulated else REMOTE_DISTANCE


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine as the firmware describes it, before the command line has its say."""

    arch: str
    ram: tuple[int, ...]  #: pages of each node
    cpus: tuple[int, ...]  #: CPUs of each node
    hotplug: frozenset[int] = frozenset()  #: nodes whose memory can be pulled out

    @classmethod
    def make(
        cls,
        ram: str | int | Sequence[str | int],
        nodes: int = 1,
        cpus: int | Sequence[int] = 1,
        arch: str = "x86_64",
        hotplug: Sequence[int] = (),
    ) -> Hardware:
        """Return the hardware that `Kernel`'s arguments of the same names describe.

        Raises:
            TypeError, ValueError: a number or a size that makes no machine; says which and why.
        """
        if arch not in ARCHS:
            raise ValueError(f"arch={arch!r}: give one of {', '.join(ARCHS)}")
        _check_whole("nodes", nodes, MOST_NODES)
        sizes = _ram_by_node(ram) if isinstance(ram, list | tuple) else None
        counts = _cpus_by_node(cpus) if isinstance(cpus, list | tuple) else None
        if nodes == 1:
            nodes = len(sizes or counts or (1,))
        for name, given in (("ram", sizes), ("cpus", counts)):
            if given is not None and len(given) != nodes:
                raise ValueError(f"{name} gives {len(given)} nodes, but there are {nodes}")
        if sizes is None:
            pages = parse_size(ram) >> 12  # type: ignore[arg-type]
            sizes = tuple(pages * (n + 1) // nodes - pages * n // nodes for n in range(nodes))
        if counts is None:
            _check_whole("cpus", cpus, MOST_CPUS)
            topology = Topology.even(nodes, cpus)  # type: ignore[arg-type]
            counts = tuple(map(topology.cpus_at, range(nodes)))
        if arch == "i386" and (nodes > 1 or sizes[0] > MOST_I386_PAGES):
            raise ValueError("arch='i386': one node, and 64G of ram at most")
        return cls(arch, sizes, counts, _hotplug(hotplug, nodes))

    @property
    def pages(self) -> int:
        """All memory, in pages."""
        return sum(self.ram)

    def topology(self) -> Topology:
        """Return the nodes as they are."""
        cpu_node = [nid for nid, count in enumerate(self.cpus) for _ in range(count)]
        return Topology(len(self.ram), tuple(cpu_node))


def _check_whole(name: str, value: object, most: int, least: int = 1) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not least <= value <= most:  # type: ignore[operator]
        raise ValueError(f"{name}={value!r}: give a whole number from {least} to {most}")


def _ram_by_node(ram: Sequence[str | int]) -> tuple[int, ...]:
    """Return pages by node; 0 makes a node without memory."""
    sizes = tuple(0 if size in (0, "0") else parse_size(size) >> 12 for size in ram)
    if not any(sizes[:1]):
        raise ValueError(f"ram={ram!r}: node 0 must have memory, the kernel is loaded there")
    return sizes


def _cpus_by_node(cpus: Sequence[int]) -> tuple[int, ...]:
    """Return CPUs by node; 0 makes a node without CPUs."""
    for count in cpus:
        _check_whole("cpus", count, MOST_CPUS, least=0)
    _check_whole("cpus", sum(cpus), MOST_CPUS)
    return tuple(cpus)


def _hotplug(hotplug: Sequence[int], nodes: int) -> frozenset[int]:
    """Return the nodes whose memory can be pulled out."""
    for nid in hotplug:
        if nid not in range(1, nodes):
            raise ValueError(
                f"hotplug={hotplug!r}: give nodes from 1 to {nodes - 1}; "
                "the kernel is in node 0, whose memory has to stay"
            )
    return frozenset(hotplug)
