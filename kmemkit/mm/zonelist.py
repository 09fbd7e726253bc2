"""Zonelists: in which order a request from a node looks at the machine's zones.

`Machine` builds them from zones and topology; `page_alloc` walks them. Linux: mm/page_alloc.c
build_zonelists(), find_next_best_node().
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kmemkit.mm.mmzone import Zone
from kmemkit.mm.numa import Topology

__all__ = ("build_zonelists", "fallback_order")

#: A power of two above any node count (CONFIG_NODES_SHIFT=10 on Debian); only scales the choice.
MAX_NUMNODES = 1024


def fallback_order(topology: Topology, memory: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Return, for every node, the nodes with memory in the order they are fallen back to.

    A node comes first in its own order, if it is one of those with `memory`. Then the nearer ones;
    a node with CPUs, or one below the asking node, counts as slightly farther. Among equals the
    nodes take turns in being first choice, so that not all nodes overflow into the same one: that
    is what `load` is for.
    """
    load = dict.fromkeys(memory, 0)
    orders = {}
    for local in range(topology.nodes):
        order = [local] if local in memory else []
        previous = local
        while len(order) < len(memory):

            def cost(node: int, local: int = local) -> int:
                distance = topology.distance(local, node)
                distance += (node < local) + bool(topology.cpus_at(node))
                return distance * MAX_NUMNODES + load[node]

            rest = [node for node in memory if node not in order]
            best = min(rest, key=lambda node: (cost(node), node))
            if topology.distance(local, best) != topology.distance(local, previous):
                load[best] += 1
            previous = best
            order.append(best)
        orders[local] = tuple(order)
    return orders


def build_zonelists(
    zones: Sequence[Zone], topology: Topology
) -> dict[tuple[int, bool], tuple[Zone, ...]]:
    """Return (node, this node only?) -> zones in the order a request from that node tries them.

    All zones of a node, highest first, then all zones of the next node: locality before zone type.
    """
    memory = {zone.nid for zone in zones if zone.present}
    lists: dict[tuple[int, bool], tuple[Zone, ...]] = {}
    for local, order in fallback_order(topology, memory).items():
        ranked = [
            zone
            for nid in order
            for zone in sorted(zones, key=lambda zone: -zone.idx)
            if zone.nid == nid and zone.present
        ]
        lists[local, False] = tuple(ranked)
        lists[local, True] = tuple(zone for zone in ranked if zone.nid == local)
    return lists
