"""Nodes and CPUs: what can be said to Kernel, and what follows."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.numa import Hardware, Topology


@pytest.mark.parametrize(
    ("cpus", "nodes", "cpu_node"),
    [
        (1, 1, (0,)),
        (8, 1, (0,) * 8),
        (2, 2, (0, 1)),
        (5, 2, (0, 0, 0, 1, 1)),
        (1, 2, (0,)),
        (2, 4, (0, 1)),
    ],
)
def test_cpus_are_dealt_out_evenly(cpus, nodes, cpu_node):
    topology = Topology.even(nodes, cpus)
    assert topology == Topology(nodes, cpu_node)
    assert sum(map(topology.cpus_at, range(nodes))) == cpus


def test_node_without_cpus_counts_all_of_them():
    topology = Topology(3, (0, 0, 1))
    assert [topology.local_cpus(nid) for nid in range(3)] == [2, 1, 3]


def test_emulated_nodes_are_one_place():
    real, fake = Topology(2, (0, 1)), Topology(2, (0, 0), emulated=True)
    assert [real.distance(0, nid) for nid in (0, 1)] == [10, 20]
    assert [fake.distance(0, nid) for nid in (0, 1)] == [10, 10]
    assert [fake.local_cpus(nid) for nid in (0, 1)] == [2, 2]


def test_what_hardware_is_made_of():
    assert Hardware.make("5M", nodes=3).ram == (426, 427, 427)
    made = Hardware.make(["1G", "0", 0, "512M"], cpus=[0, 3, 0, 1], hotplug=[3])
    assert made.ram == (262144, 0, 0, 131072)
    assert (made.pages, made.topology().cpu_node) == (393216, (1, 1, 1, 3))
    assert made.hotplug == {3}
    assert Hardware.make("1G", nodes=2, cpus=(0, 2)).cpus == (0, 2)
    assert Hardware.make("1G", cpus=(1, 1)).ram == (131072, 131072)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ram": [0, "1G"]}, "node 0 must have memory"),
        ({"ram": []}, "node 0 must have memory"),
        ({"ram": ["1G", "1G"], "nodes": 3}, "ram gives 2 nodes, but there are 3"),
        ({"ram": ["1G", "1G"], "cpus": [1]}, "cpus gives 1 nodes, but there are 2"),
        ({"cpus": [0]}, "cpus=0: give a whole number from 1 to 512"),
        ({"cpus": [1, -1]}, "cpus=-1"), ({"cpus": [300, 300]}, "cpus=600"), ({"cpus": [True]}, "cpus=True"),
        ({"nodes": 65}, "nodes=65: give a whole number from 1 to 64"),
        ({"ram": ["1G", "X"]}, "'X' is not a size"),
        ({"arch": "arm64"}, "arch='arm64': give one of x86_64, i386"),
        ({"arch": "i386", "nodes": 2}, "one node, and 64G of ram at most"),
        ({"arch": "i386", "ram": "65G"}, "one node, and 64G of ram at most"),
        ({"hotplug": [1]}, "give nodes from 1 to 0"), ({"nodes": 2, "hotplug": [0]}, "give nodes from 1 to 1"),
    ],
    ids=str,
)  # fmt: skip
def test_hardware_that_can_not_be(options, said):
    with pytest.raises(ValueError, match=said):
        Kernel(**{"ram": "1G", **options})


def test_topology_outlives_a_snapshot():
    kernel = Kernel(["1G", "512M"], cpus=[1, 2])
    twin = kernel.clone()
    assert twin.topology == kernel.topology == Topology(2, (0, 1, 1))
    assert (twin.nr_nodes, twin.nr_cpus) == (2, 3)
    twin.cpu = 2
    assert twin.numa_node_id() == 1
    assert kernel.snapshot() == kernel.clone().snapshot()
