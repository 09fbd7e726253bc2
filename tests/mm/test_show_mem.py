"""Mem-Info and the page allocation failure report, against those that a real Linux 6.12 wrote."""

import re

import pytest

from kmemkit import Kernel
from kmemkit import gfp as flags
from kmemkit.mm.sched import PF_MEMALLOC, Task
from kmemkit.mm.show_mem import node_list, node_page_state, show_mem, warn_alloc
from kmemkit.mm.swap import ACTIVE_ANON, INACTIVE_FILE
from tests.mm.recorded_reports import anatomy, comparable, parse, reports, twin

FAILURES = [report for report in reports() if not report.oom]
SECOND = 1_000_000_000
FAILED = "page allocation failure: order:0"
MOVABLE = flags.GFP_HIGHUSER_MOVABLE


def mem_info(kernel, **options):
    """Return the lines of Mem-Info."""
    before = len(kernel.dmesg().splitlines())
    show_mem(kernel, **options)
    return kernel.dmesg().splitlines()[before:]


def warning(kernel, gfp, message=FAILED, nodemask=None):
    """Return what warn_alloc() prints."""
    before = len(kernel.dmesg().splitlines())
    warn_alloc(kernel, flags.as_mask(gfp, "6.12"), nodemask, message)
    return kernel.dmesg().splitlines()[before:]


def on_lists(kernel, lru, pages, dirty=0, nid=0):
    """Allocate pages and put them on an LRU list."""
    for number in range(pages):
        pfn = kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", nid=nid)
        kernel.nodes[kernel.page_zone(pfn).nid].folio_add_lru(pfn, lru, number < dirty)


# -- recorded reports -----------------------------------------------------------------------------


def test_enough_is_recorded():
    assert len(FAILURES) > 50
    orders = {report.message.split(":")[-1] for report in FAILURES}
    assert orders >= {"0", "2", "3", "4", "5", "6", "9", "10"}
    assert any(report.message.startswith("vmalloc error") for report in FAILURES)


@pytest.mark.parametrize("report", FAILURES, ids=str)
def test_a_twin_writes_the_same_report(report):
    """Every line is there, in order, with the same fields, numbers and spaces."""
    lines = comparable(report, warning(twin(report), report.gfp, report.message))
    recorded = comparable(report, report.lines)
    if report.message.startswith("vmalloc"):  # came another way
        lines, recorded = (part[part.index("Mem-Info:") :] for part in (lines, recorded))
    assert lines == recorded


@pytest.mark.parametrize("report", FAILURES, ids=str)
def test_lists_and_counters_of_a_twin_hardly_differ(report):
    """Most of a twin's numbers come from its lists, not from node_page_state."""
    kernel = twin(report)
    for name in ("active_anon", "inactive_anon", "active_file", "inactive_file"):
        lag = sum(kernel.node_page_state[node.nid, f"nr_{name}"] for node in kernel.nodes)
        assert abs(lag) <= 128


# -- numbers of a simulated machine ---------------------------------------------------------------


def busy(**options):
    """Return a machine with pages on all kinds of lists, some of them dirty."""
    kernel = Kernel(**options)
    on_lists(kernel, ACTIVE_ANON, 300)
    on_lists(kernel, INACTIVE_FILE, 700, dirty=40)
    kernel.alloc_pages("GFP_KERNEL", 5)
    kernel.nodes[0].kswapd_failures = 16
    return kernel


@pytest.mark.parametrize(
    "options", [{"ram": "256M"}, {"ram": "4G", "nodes": 2, "cpus": 3}, {"ram": "8M", "pcp": True}]
)
def test_sums(options):
    kernel = busy(**options)
    found = parse(mem_info(kernel))
    pages = found.totals
    assert list(found.zones) == [(zone.nid, zone.name) for zone in kernel.zones]
    assert pages["pages RAM"] == sum(zone.present for zone in kernel.zones)
    managed = sum(zone["managed"] for zone in found.zones.values())
    assert pages["pages RAM"] - pages["pages reserved"] == managed
    for name in ("active_anon", "inactive_anon", "active_file", "inactive_file", "unevictable"):
        assert found.summary[name] == sum(node[name] for node in found.nodes.values())
        assert found.summary[name] == sum(zone[name] for zone in found.zones.values())
    assert (found.summary["active_anon"], found.summary["inactive_file"]) == (300, 700)
    assert found.summary["dirty"] == sum(zone["writepending"] for zone in found.zones.values())
    assert found.summary["dirty"] == 40
    assert pages["total pagecache pages"] == 700
    assert found.summary["free"] == sum(zone["free"] for zone in found.zones.values())
    assert found.summary["free_pcp"] == sum(zone["free_pcp"] for zone in found.zones.values()) > 0
    assert [found.hopeless[node.nid] for node in kernel.nodes] == [True, False][: len(kernel.nodes)]


@pytest.mark.parametrize("ram", ["2M", "256M", "5G"])
def test_free_blocks_are_those_on_the_lists(ram):
    kernel = busy(ram=ram) if ram != "2M" else Kernel(ram)
    kernel.alloc_pages("GFP_KERNEL|__GFP_RECLAIMABLE", 1)
    found = parse(mem_info(kernel))
    for frozen in kernel.snapshot().zones:
        area = found.areas[frozen.nid, frozen.name]
        assert [blocks for blocks, _ in area] == [
            frozen.nr_free(order) for order in range(frozen.max_order + 1)
        ]
        for order, (_, letters) in enumerate(area):
            kinds = [kind for kind in range(5) if frozen.nr_free(order, kind)]
            assert letters == "".join("UMEHI"[kind] for kind in kinds)
        assert sum(blocks << order for order, (blocks, _) in enumerate(area)) == frozen.free


def test_marks_include_the_boost():
    kernel = Kernel("256M")
    zone = kernel.zones[1]
    zone.watermark_boost = 512
    shown = parse(mem_info(kernel)).zones[0, "DMA32"]
    assert [shown[name] - 512 for name in ("min", "low", "high")] == zone.watermark[:3]
    assert shown["boost"] == 512
    reserves = [line for line in mem_info(kernel) if line.startswith("lowmem_reserve[]: ")]
    assert reserves == [
        "lowmem_reserve[]: " + " ".join(map(str, zone.lowmem_reserve)) for zone in kernel.zones
    ]


def test_only_this_cpus_lists_are_local():
    kernel = Kernel("256M", cpus=2)
    kernel.cpu = 1
    kernel.alloc_pages("GFP_KERNEL")
    count = kernel.zones[1].pcps[1].count
    assert count > 0
    for cpu, local in ((0, 0), (1, count)):
        kernel.cpu = cpu
        shown = parse(mem_info(kernel)).zones[0, "DMA32"]
        assert (shown["free_pcp"], shown["local_pcp"]) == (count, local)


def test_a_counter_below_nothing_prints_nothing():
    kernel = Kernel("64M")
    kernel.zones[0].vm_stat = -3
    found = parse(mem_info(kernel))
    assert found.zones[0, "DMA"]["free"] == 0
    assert found.summary["free"] == kernel.zones[1].vm_stat


def test_tasks_have_a_stack_and_page_tables():
    kernel = Kernel("4G", nodes=2, cpus=2)
    kernel.tasks += [
        Task(7, "a", pgtables_bytes=40960), Task(8, "b", pgtables_bytes=8192, mems_allowed=(1,))
    ]  # fmt: skip
    found = parse(mem_info(kernel))
    assert [node["kernel_stack"] for node in found.nodes.values()] == [32, 16]
    assert [node["pagetables"] for node in found.nodes.values()] == [10, 2]
    assert found.summary["pagetables"] == 12


def test_what_is_not_simulated_can_be_said():
    kernel = Kernel("4G", nodes=2)
    kernel.node_page_state[1, "nr_shmem"] = 1412
    kernel.node_page_state[0, "nr_slab_unreclaimable"] = 1600
    kernel = kernel.clone()
    assert node_page_state(kernel, 1)["nr_shmem"] == 1412
    found = parse(mem_info(kernel))
    assert (found.summary["shmem"], found.nodes[1]["shmem"], found.nodes[0]["shmem"]) == (
        1412, 1412, 0,
    )  # fmt: skip
    assert found.summary["slab_unreclaimable"] == 1600


def test_huge_pages():
    lines = mem_info(Kernel("4G", nodes=2, cmdline="hugepages=5"))
    assert [line for line in lines if "hugepages" in line] == [
        f"Node {nid} hugepages_total={huge} hugepages_free={huge} hugepages_surp=0 "
        "hugepages_size=2048kB"
        for nid, huge in ((0, 3), (1, 2))
    ]


def test_swap():
    kernel = Kernel("64M")
    kernel.total_swap_pages, kernel.nr_swap_pages = 32767, 15900
    kernel = kernel.clone()
    assert mem_info(kernel)[-6:-4] == ["Free swap  = 63600kB", "Total swap = 131068kB"]


# -- which nodes and zones ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gfp", "zones"),
    [
        ("GFP_KERNEL", ["DMA", "DMA32", "Normal"]),
        ("GFP_HIGHUSER_MOVABLE", ["DMA", "DMA32", "Normal"]),
        ("GFP_KERNEL|GFP_DMA32", ["DMA", "DMA32"]),
        ("GFP_KERNEL|GFP_DMA", ["DMA"]),
    ],
)
def test_zones_up_to_the_highest_the_mask_allows(gfp, zones):
    kernel = Kernel("5G")
    lines = warning(kernel, gfp)
    found = parse(lines)
    assert [name for _, name in found.zones] == [name for _, name in found.areas] == zones
    assert found.totals["pages RAM"] == sum(zone.present for zone in kernel.zones)


def test_pages_of_per_cpu_lists_are_counted_in_the_zones_shown():
    kernel = Kernel("5G")
    kernel.alloc_pages("GFP_KERNEL")
    normal = kernel.zones[-1].pcp.count
    assert normal > 0
    assert parse(warning(kernel, "GFP_KERNEL")).summary["free_pcp"] == normal
    assert parse(mem_info(kernel, max_zone_idx=1)).summary["free_pcp"] == 0


def test_a_node_without_pages_in_those_zones_has_no_line():
    kernel = Kernel("16G", nodes=2)  # node 1 has Normal only
    lines = warning(kernel, "GFP_KERNEL|GFP_DMA32")
    assert list(parse(lines).nodes) == [0]
    assert [line[:26] for line in lines if "hugepages" in line] == [
        "Node 0 hugepages_total=0 h", "Node 1 hugepages_total=0 h",
    ]  # fmt: skip


#: gfp, flags of the task, frames -> nodes shown; the task's cpuset allows node 1 of 0 and 1
FILTER = [
    ("GFP_KERNEL", 0, (), [1]),
    ("GFP_KERNEL", PF_MEMALLOC, (), [0, 1]),
    ("GFP_KERNEL|__GFP_NOMEMALLOC", PF_MEMALLOC, (), [1]),
    ("GFP_ATOMIC", 0, (), [0, 1]),
    ("GFP_KERNEL", 0, ("softirq",), [0, 1]),
    ("GFP_KERNEL", 0, ("hardirq",), [0, 1]),
    ("GFP_KERNEL", 0, ("spinlock",), [1]),
]


@pytest.mark.parametrize(("gfp", "task_flags", "frames", "nodes"), FILTER)
def test_nodes_that_the_task_could_not_use_are_left_out(gfp, task_flags, frames, nodes):
    kernel = Kernel("4G", nodes=2)
    kernel.current.mems_allowed, kernel.current.flags = (1,), task_flags
    kernel.current.cpuset = "/jobs/a"
    kernel.context.frames += frames
    lines = warning(kernel, gfp)
    assert lines[0].endswith(", nodemask=(null),cpuset=a,mems_allowed=1")
    assert list(parse(lines).nodes) == nodes
    assert [nid for nid, _ in parse(lines).zones] == sorted([0, 0, 1, 1] if 0 in nodes else [1, 1])


@pytest.mark.parametrize("state", ["oom_victim", "exited"])
def test_a_dying_task_sees_all_nodes(state):
    kernel = Kernel("4G", nodes=2)
    kernel.current.mems_allowed = (1,)
    setattr(kernel.current, state, True)
    assert list(parse(warning(kernel, "GFP_KERNEL")).nodes) == [0, 1]


def test_a_nodemask_limits_the_nodes_too():
    kernel = Kernel("4G", nodes=2)
    lines = warning(kernel, "GFP_KERNEL", nodemask=(0,))
    assert ", nodemask=0,cpuset=/,mems_allowed=0-1" in lines[0]
    assert list(parse(lines).nodes) == [0]


@pytest.mark.parametrize(
    ("nodes", "text"),
    [((), ""), ((3,), "3"), ((1, 0), "0-1"), ((0, 2, 3, 4, 7), "0,2-4,7"), (None, "(null)")],
)
def test_lists_of_nodes(nodes, text):
    assert node_list(nodes) == text


def test_i386_has_no_nodes_but_high_memory():
    kernel = twin(FAILURES[0])
    kernel.arch = "i386"
    zone = kernel.zones[-1]
    zone.name = "HighMem"
    lines = warning(kernel, "GFP_HIGHUSER")
    shown = [line.partition(" ")[0] for line in lines if " lowmem" not in line]
    assert {"DMA", "HighMem", "HighMem:"} <= set(shown)
    assert [line for line in lines if re.match(r"Node 0 (DMA|HighMem)", line)] == []
    assert f"{zone.present} pages HighMem/MovableOnly" in lines
    assert " alloc_pages_mpol_noprof" not in lines
    assert "0 pages HighMem/MovableOnly" in warning(twin(FAILURES[0]), "GFP_HIGHUSER")


# -- when nothing is printed ----------------------------------------------------------------------


def test_nowarn_prints_nothing_and_leaves_the_limit_alone():
    kernel = Kernel("64M")
    assert warning(kernel, "GFP_KERNEL|__GFP_NOWARN") == []
    assert warning(kernel, "GFP_KERNEL") != []


def test_one_report_in_ten_seconds():
    kernel = Kernel("64M")
    assert warning(kernel, "GFP_KERNEL")[0].startswith(
        "init: page allocation failure: order:0, mode:0xcc0(GFP_KERNEL), nodemask=(null),cpuset=/"
    )
    assert warning(kernel, "GFP_ATOMIC") == warning(kernel, "GFP_KERNEL", "vmalloc error") == []
    kernel.now += 11 * SECOND
    assert warning(kernel, "GFP_ATOMIC")[:2] == [
        "warn_alloc: 2 callbacks suppressed",
        "init: page allocation failure: order:0, mode:0x820(GFP_ATOMIC), "
        "nodemask=(null),cpuset=/,mems_allowed=0",
    ]


def test_dma_where_there_is_none_prints_nothing_but_counts():
    kernel = Kernel("4M")  # a small world: one zone, Normal
    assert warning(kernel, "GFP_KERNEL|GFP_DMA") == []
    assert warning(kernel, "GFP_KERNEL") == []
    kernel.now += 11 * SECOND
    assert len(warning(kernel, "GFP_KERNEL")) > 20


def test_stack_of_an_interrupt():
    kernel = Kernel("64M")
    kernel.context.frames.append("hardirq")
    lines = warning(kernel, "GFP_ATOMIC")
    assert lines[1:5] == [
        "CPU: 0 UID: 0 PID: 1 Comm: init Not tainted 6.12 #1",
        "Hardware name: kmemkit simulated PC", "Call Trace:", " <IRQ>",
    ]  # fmt: skip
    assert lines[lines.index(" </IRQ>") + 1] == "Mem-Info:"


# -- from the request to the report ---------------------------------------------------------------


def test_a_request_that_fails_writes_what_a_recorded_one_wrote():
    recorded = next(report for report in FAILURES if report.name == "o0-atomic-1")
    kernel = Kernel("64M")
    kernel.comm = recorded.comm
    while kernel.alloc_pages("GFP_ATOMIC") is not None:
        pass
    lines = kernel.dmesg().splitlines()
    assert anatomy(lines) == anatomy(recorded.lines)
    free = parse(lines).zones[0, "DMA32"]["free"]
    assert free < parse(lines).zones[0, "DMA32"]["min"]
    assert kernel.alloc_pages("GFP_ATOMIC") is None
    assert kernel.dmesg().splitlines() == lines
