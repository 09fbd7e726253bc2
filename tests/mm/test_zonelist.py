"""In which order a request looks at zones and nodes."""

import json
from pathlib import Path

import pytest

from kmemkit.mm.mmzone import MemMap, Zone
from kmemkit.mm.numa import Topology
from kmemkit.mm.vm import Vm
from kmemkit.mm.zonelist import build_zonelists, fallback_order

BOOTS = json.loads(
    (Path(__file__).parent.parent / "golden" / "boots.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", BOOTS)
def test_recorded_order(name):
    boot = BOOTS[name]
    cpus = boot["cpus"]
    nodes = len(boot["fallback"])
    topology = Topology(nodes, (0,) * cpus if "cpus-on-node0" in name else tuple(range(cpus)))
    recorded = {int(node): tuple(map(int, order)) for node, order in boot["fallback"].items()}
    # a node without memory has an order too, of the nodes that have some
    assert fallback_order(topology, range(boot["nodes"])) == recorded


def test_recorded_order_of_emulated_nodes():
    """numa=fake=4: all equally near, so nobody takes turns; lower nodes come last."""
    assert fallback_order(Topology(4, (0,), emulated=True), range(4)) == {
        0: (0, 1, 2, 3), 1: (1, 2, 3, 0), 2: (2, 3, 0, 1), 3: (3, 0, 1, 2),
    }  # fmt: skip


def test_nodes_take_turns_as_first_choice():
    assert fallback_order(Topology.even(4, 4), range(4)) == {
        0: (0, 1, 2, 3), 1: (1, 2, 3, 0), 2: (2, 3, 0, 1), 3: (3, 0, 1, 2),
    }  # fmt: skip


def test_node_without_cpus_is_preferred():
    assert fallback_order(Topology(3, (0, 1)), range(3)) == {
        0: (0, 2, 1), 1: (1, 2, 0), 2: (2, 0, 1),
    }  # fmt: skip


def test_node_that_is_a_first_choice_already_comes_later():
    """To node 2, nodes 1 and 3 are equally far, but node 0 overflows into 1."""
    orders = fallback_order(Topology(4, (0, 2, 3)), range(4))
    assert orders[0][1] == 1
    assert orders[2] == (2, 3, 1, 0)


def a_machine(*zones):
    mem_map = MemMap(64, 9)
    made = []
    for nid, idx, name, present in zones:
        zone = Zone(nid, idx, name, 0, 1, mem_map, Vm())
        zone.present = present
        made.append(zone)
    return made


def test_all_zones_of_a_node_come_before_the_next_node():
    zones = a_machine((0, 0, "DMA", 9), (0, 1, "DMA32", 9), (1, 1, "DMA32", 9), (1, 2, "Normal", 9))
    dma, dma32, far_dma32, normal = zones
    lists = build_zonelists(zones, Topology(2, (0, 1)))
    assert lists[0, False] == (dma32, dma, normal, far_dma32)
    assert lists[1, False] == (normal, far_dma32, dma32, dma)
    assert lists[0, True] == (dma32, dma)
    assert lists[1, True] == (normal, far_dma32)


def test_empty_zone_is_not_listed():
    zones = a_machine((0, 0, "DMA", 9), (0, 1, "DMA32", 9), (0, 2, "Normal", 0))
    assert build_zonelists(zones, Topology(1, (0,)))[0, False] == (zones[1], zones[0])


def test_node_without_memory_falls_back_to_others():
    zones = a_machine((0, 0, "DMA", 9), (0, 1, "DMA32", 9), (2, 1, "DMA32", 9))
    lists = build_zonelists(zones, Topology(3, (0, 1, 2)))
    assert lists[1, True] == ()
    # node 0 is below the asking one, which counts as slightly farther
    assert lists[1, False] == (zones[2], zones[1], zones[0])
