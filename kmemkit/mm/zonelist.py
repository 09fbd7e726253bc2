"""Zonelists: in which order a request from a node looks at the machine's zones.

`Kernel` builds them at boot; `page_alloc` walks them. Linux: mm/page_alloc.c build_zonelists(),
find_next_best_node().
"""

from __future__ import annotations

from collections.abc import Sequence

from kmemkit.mm.mmzone import Zone

__all__ = ("build_zonelists", "fallback_order")

#: A power of two above any node count (CONFIG_NODES_SHIFT=10 on Debian); only scales the choice.
MAX_NUMNODES = 1024
LOCAL_DISTANCE, REMOTE_DISTANCE = 10, 20


def fallback_order(nodes: Sequence[int], cpu_nodes: frozenset[int]) -> dict[int, tuple[int, ...]]:
    """Return, for every node, the nodes in the order they are fallen back to, itself first.

    Nearer nodes come first; a node with CPUs, or one below the asking node, counts as slightly
    farther. Among equals the nodes take turns in being first choice, so that not all nodes overflow
    into the same one: that is what `load` is for.
    """
    load = dict.fromkeys(nodes, 0)
    orders = {}
    for local in nodes:
        order = [local]
        last_distance = LOCAL_DISTANCE
        while len(order) < len(nodes):
            rest = [node for node in nodes if node not in order]

            def cost(node: int, local: int = local) -> int:
                distance = REMOTE_DISTANCE + (node < local) + (node in cpu_nodes)
                return distance * MAX_NUMNODES + load[node]

            best = min(rest, key=lambda node: (cost(node), node))
            if last_distance != REMOTE_DISTANCE:
                load[best] += 1
            last_distance = REMOTE_DISTANCE
            order.append(best)
        orders[local] = tuple(order)
    return orders


def build_zonelists(
    zones: Sequence[Zone], cpu_nodes: frozenset[int]
) -> dict[tuple[int, bool], tuple[Zone, ...]]:
    """Return (node, this node only?) -> zones in the order a request from that node tries them.

    All zones of a node, highest first, then all zones of the next node: locality before zone type.
    """
    nodes = sorted({zone.nid for zone in zones})
    lists: dict[tuple[int, bool], tuple[Zone, ...]] = {}
    for local, order in fallback_order(nodes, cpu_nodes).items():
        ranked = [
            zone
            for nid in order
            for zone in sorted(zones, key=lambda zone: -zone.idx)
            if zone.nid == nid and zone.present
        ]
        lists[local, False] = tuple(ranked)
        lists[local, True] = tuple(zone for zone in ranked if zone.nid == local)
    return lists
