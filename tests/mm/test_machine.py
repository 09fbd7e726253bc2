"""A machine's life in time: snapshots, clones, restores, CPUs, listeners."""

import dataclasses

import pytest

from kmemkit import Kernel
from kmemkit.mm.errors import Oops
from kmemkit.snapshot import Kind

KINDS = [
    {"ram": "1M"},
    {"ram": "64M"},
    {"ram": "4G", "nodes": 2, "cpus": 3},
    {"ram": "8M", "pcp": True},
]


def used(**options):
    """Return a kernel with something of everything in it."""
    kernel = Kernel(**options)
    kernel.alloc_pages("GFP_KERNEL", 2, owner="driver")
    kernel.get_page(kernel.alloc_pages("GFP_KERNEL|__GFP_COMP", 3, owner="page cache"))
    wrong = kernel.alloc_pages("__GFP_MOVABLE", 1)
    kernel.free_pages(wrong, 0)
    kernel.free_pages(wrong + 1, 0)
    kernel.alloc_pages("GFP_KERNEL", 11)
    kernel.zones[0].movable[3] = 7
    kernel.zones[-1].nr_reserved_highatomic = 512
    kernel.zones[-1].watermark_boost = 512
    kernel.vm.watermark_boost_factor = 0
    kernel.cpu = kernel.nr_cpus - 1
    kernel.alloc_pages("GFP_KERNEL")
    return kernel


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_snapshot_makes_the_same_machine(options):
    kernel = used(cmdline="init_on_alloc=0 foo", **options)
    snapshot = kernel.snapshot()
    twin = Kernel.from_snapshot(snapshot)
    assert twin.snapshot() == snapshot
    assert (twin.release, twin.scaled, twin.cmdline, twin.cpu) == (
        kernel.release, kernel.scaled, kernel.cmdline, kernel.cpu,
    )  # fmt: skip
    assert twin.dmesg() == kernel.dmesg() != ""
    assert twin.vm.freeze() == kernel.vm.freeze()
    assert repr(twin) == repr(kernel)
    for gfp, order in (("GFP_KERNEL", 0), ("__GFP_MOVABLE", 3), ("GFP_ATOMIC", 5)):
        assert twin.alloc_pages(gfp, order) == kernel.alloc_pages(gfp, order)
    assert twin.snapshot() == kernel.snapshot()


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_clone_goes_its_own_way(options):
    kernel = used(**options)
    before = kernel.snapshot()
    clone = kernel.clone()
    assert type(clone) is Kernel
    pfns = [clone.alloc_pages("GFP_KERNEL", order, owner="clone") for order in (0, 0, 4)]
    clone.free_pages(pfns[0])
    clone.cpu = 0
    clone.vm.watermark_scale_factor = 99
    clone.printk("only here")
    assert kernel.snapshot() == before
    assert "clone" not in kernel.owner_names
    kernel.alloc_pages("__GFP_MOVABLE", 2)
    assert clone.dmesg().endswith("only here")
    assert before == before
    assert kernel.snapshot() != before


def test_clone_records_nothing_and_has_no_listeners():
    kernel = Kernel("1M")
    kernel.record()
    kernel.add_listener(lambda: None)
    clone = kernel.clone()
    assert (clone.history, clone.events, clone.listeners, clone.trace) == ((), (), (), None)
    kernel.alloc_pages("GFP_KERNEL")
    clone.alloc_pages("GFP_KERNEL")
    assert len(kernel.history) == 2


def test_snapshot_is_not_changed_by_what_comes_after():
    kernel = used(ram="8M", pcp=True)
    snapshot = kernel.snapshot()
    zone = snapshot.zones[0]
    kept = (
        snapshot.pages, snapshot.owners, dict(snapshot.refcounts), snapshot.owner_names,
        zone.free_lists(), zone.pcps, zone.pageblocks, dict(zone.movable), snapshot.now,
    )  # fmt: skip
    for order in (0, 1, 2, 3, 4, 9):
        kernel.alloc_pages("GFP_KERNEL", order, owner="later")
    kernel.drain_all_pages()
    assert kept == (
        snapshot.pages, snapshot.owners, dict(snapshot.refcounts), snapshot.owner_names,
        zone.free_lists(), zone.pcps, zone.pageblocks, dict(zone.movable), snapshot.now,
    )  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.now = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        zone.boost = 3


def test_restore_goes_back():
    kernel = used(ram="8M", pcp=True)
    before = kernel.snapshot()
    first = [kernel.alloc_pages("GFP_KERNEL", order) for order in (0, 3, 5)]
    kernel.restore(before)
    assert kernel.snapshot() == before
    assert [kernel.alloc_pages("GFP_KERNEL", order) for order in (0, 3, 5)] == first
    kernel.restore(before)
    assert kernel.snapshot() == before


def test_restore_keeps_recording_and_listeners():
    kernel, heard = Kernel("1M"), []
    kernel.record()
    kernel.add_listener(lambda: heard.append(kernel.snapshot().zones[0].free))
    start = kernel.history[0].snapshot
    kernel.alloc_pages("GFP_KERNEL")
    kernel.restore(start)
    kernel.alloc_pages("GFP_KERNEL")
    assert heard == [255, 256, 255]
    assert len(kernel.history) == 2
    assert len(kernel.events) > 0


def test_restore_of_a_smaller_world():
    kernel = Kernel("1M")
    small = Kernel("256K").snapshot()
    kernel.restore(small)
    assert kernel.snapshot() == small
    assert kernel.alloc_pages("GFP_KERNEL", 5) is None


# -- listeners ------------------------------------------------------------------------------------


def test_listeners_hear_every_call_after_it_is_done():
    kernel, free = Kernel("1M"), []
    kernel.add_listener(lambda: free.append(kernel.snapshot().zones[0].free))
    pfn = kernel.alloc_pages("GFP_KERNEL", 2)
    kernel.free_pages(pfn, 2)
    kernel.get_page(kernel.alloc_pages("GFP_KERNEL"))
    kernel.alloc_pages_bulk("GFP_KERNEL", 4)
    kernel.drain_all_pages()
    kernel.alloc_pages("GFP_KERNEL", 9)
    assert free == [252, 256, 255, 255, 251, 251, 251]


def test_listener_hears_a_call_that_ends_badly():
    kernel, heard = Kernel("1M"), []
    kernel.add_listener(lambda: heard.append(1))
    with pytest.raises(Oops):
        kernel.free_pages(0, 9)  # reaches beyond the machine
    assert heard == [1]
    kernel.record()
    with pytest.raises(Oops):
        kernel.free_pages(0, 9)
    assert (kernel.history[-1].result, kernel.history[-1].ok) == ("BUG", False)


def test_listener_may_leave_while_it_listens():
    kernel, heard = Kernel("1M"), []

    def once():
        heard.append("once")
        kernel.remove_listener(once)

    kernel.add_listener(once)
    kernel.add_listener(lambda: heard.append("always"))
    kernel.alloc_pages("GFP_KERNEL")
    kernel.alloc_pages("GFP_KERNEL")
    assert heard == ["once", "always", "always"]


# -- CPUs and nodes -------------------------------------------------------------------------------


def test_cpus_have_lists_of_their_own():
    kernel = Kernel("256M", cpus=2)
    first = kernel.alloc_pages("GFP_KERNEL")
    kernel.cpu = 1
    second = kernel.alloc_pages("GFP_KERNEL")
    assert second != first + 1  # the first CPU's refill has that one
    kernel.free_pages(first)
    assert kernel.alloc_pages("GFP_KERNEL") == first
    zone = kernel.snapshot().zones[1]
    assert [pcp.count for pcp in zone.pcps] == [14, 14]
    kernel.drain_all_pages()
    zone = kernel.snapshot().zones[1]
    assert [pcp.count for pcp in zone.pcps] == [0, 0]
    assert zone.free == zone.managed - 2


def test_request_starts_from_the_node_of_the_running_cpu():
    kernel = Kernel("4G", nodes=2, cpus=2)
    nodes = []
    for cpu in (0, 1, 0):
        kernel.cpu = cpu
        nodes.append(kernel.page_zone(kernel.alloc_pages("GFP_KERNEL")).nid)
    assert nodes == [0, 1, 0]
    assert kernel.page_zone(kernel.alloc_pages("GFP_KERNEL", nid=1)).nid == 1


@pytest.mark.parametrize(
    ("cpus", "nodes", "expected"),
    [(1, 1, [0]), (4, 2, [0, 0, 1, 1]), (3, 2, [0, 0, 1]), (2, 4, [0, 1]), (1, 2, [0])],
)
def test_node_of_each_cpu(cpus, nodes, expected):
    kernel = Kernel("4G", nodes=nodes, cpus=cpus)
    found = []
    for cpu in range(cpus):
        kernel.cpu = cpu
        found.append(kernel.numa_node_id())
    assert found == expected


@pytest.mark.parametrize("cpu", [-1, 2, 99])
def test_cpu_that_is_not_there(cpu):
    kernel = Kernel("1M", cpus=2)
    with pytest.raises(ValueError, match=f"cpu={cpu}: this machine has CPUs 0 to 1"):
        kernel.cpu = cpu
    assert kernel.cpu == 0


@pytest.mark.parametrize("nid", [-2, 2, 7])
def test_node_that_is_not_there(nid):
    kernel = Kernel("4G", nodes=2, cpus=2)
    with pytest.raises(ValueError, match=rf"node {nid}: this machine has memory on nodes \[0, 1\]"):
        kernel.alloc_pages("GFP_KERNEL", nid=nid)


def test_log_keeps_the_last_lines():
    kernel = Kernel("256K")
    for number in range(2500):
        kernel.printk(f"line {number}")
    assert kernel.dmesg().splitlines() == [f"line {number}" for number in range(500, 2500)]


def test_repr_tells_the_machine():
    assert repr(Kernel("64M")) == "<Kernel 6.12: 16,254 pages in 0/DMA, 0/DMA32>"
    assert repr(Kernel("1M").zones[0]) == "<Zone node 0 Normal 0x0..0xff>"


def test_kinds_of_a_used_machine():
    snapshot = used(ram="1M").snapshot()
    kinds = {Kind(byte >> 4) for byte in snapshot.pages}
    assert kinds == {Kind.TAIL, Kind.FREE, Kind.LEAKED, Kind.UNMOVABLE}


def test_restore_takes_nodes_and_cpus_along():
    kernel = Kernel("64M")
    other = Kernel("4G", nodes=2, cpus=2)
    other.cpu, other.comm = 1, "insmod"
    kernel.restore(other.snapshot())
    assert (kernel.nr_nodes, kernel.nr_cpus, kernel.cpu, kernel.comm) == (2, 2, 1, "insmod")
    assert kernel.alloc_pages("GFP_KERNEL") == other.alloc_pages("GFP_KERNEL") >= 1 << 19
    kernel.restore(Kernel("256K").snapshot())
    assert (kernel.nr_nodes, kernel.nr_cpus, kernel.cpu) == (1, 1, 0)


@pytest.mark.parametrize(
    "call",
    [
        lambda k: k.restore(None),
        lambda k: k.restore(5),
        lambda k: Kernel.from_snapshot("x"),
        lambda k: Kernel.from_recording(5),
        lambda k: k.record("x"),
        lambda k: k.record(1.5),
        lambda k: setattr(k, "cpu", "x"),
        lambda k: setattr(k, "cpu", 0.5),
        lambda k: Kernel("1M", pcp="yes"),
    ],
)
def test_what_is_no_such_thing_is_a_type_error_that_says_so(call):
    kernel = Kernel("256K")
    before = kernel.snapshot()
    with pytest.raises(TypeError, match=r"give|True or False"):
        call(kernel)
    assert kernel.snapshot() == before
    assert kernel.history == ()
