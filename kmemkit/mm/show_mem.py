"""Mem-Info: what memory looks like at the moment a report is written, and warn_alloc() that asks.

The slow path calls warn_alloc() when a request fails, `oom_report` calls show_mem(). Linux:
mm/show_mem.c, and warn_alloc() of mm/page_alloc.c. The field layout is that of 6.12. What has no
pages in the simulation is 0 unless `Machine.node_page_state` says otherwise (docs/fidelity.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm.dump_stack import alloc_pages_road, dump_stack
from kmemkit.mm.mmzone import HIGH, LOW, MIGRATE_TYPES, MIN, Zone
from kmemkit.mm.ratelimit import ratelimit
from kmemkit.mm.sched import PF_MEMALLOC, Task
from kmemkit.mm.swap import (
    ACTIVE_ANON,
    ACTIVE_FILE,
    INACTIVE_ANON,
    INACTIVE_FILE,
    LRU_DIRTY,
    UNEVICTABLE,
    Pglist,
)
from kmemkit.snapshot import LRU_LISTS
from kmemkit.units import MIGRATE_LETTERS, PAGE_KB

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = (
    "cpuset_mems_allowed",
    "mems_allowed",
    "node_list",
    "node_page_state",
    "show_mem",
    "warn_alloc",
)

#: Kernel stack of a task (THREAD_SIZE, x86-64).
THREAD_SIZE_KB = 16
#: Runs of kswapd without a page reclaimed, after which a node counts as hopeless.
MAX_RECLAIM_RETRIES = 16
HUGEPAGE_KB = 2048
#: Owner of the huge pages that a boot takes.
HUGETLB_OWNER = "hugetlb"


# -- failed requests ------------------------------------------------------------------------------


def warn_alloc(kernel: Machine, gfp: int, nodemask: Collection[int] | None, message: str) -> None:
    """Report a failed request: first line, stack, Mem-Info (mm/page_alloc.c, same name).

    `gfp` is the mask as the caller's scopes left it, `nodemask` the nodes the request was limited
    to or None, `message` what failed ("page allocation failure: order:3").

    Prints nothing with __GFP_NOWARN, within ten seconds of the last report, or if ZONE_DMA was
    asked for and the machine has none. In this order: a report that ZONE_DMA suppresses still
    counts as that of its ten seconds.
    """
    if (
        gfp & flags.__GFP_NOWARN
        or not ratelimit(kernel, "warn_alloc", 10, 1)
        or (gfp & flags.__GFP_DMA and not _has_managed_dma(kernel))
    ):
        return
    kernel.printk(
        f"{kernel.comm}: {message}, mode:{gfp:#x}({flags.decode(gfp)}), "
        f"nodemask={node_list(nodemask)}{cpuset_mems_allowed(kernel)}"
    )
    dump_stack(kernel, ("warn_alloc", *alloc_pages_road(kernel)))
    nodes: Collection[int] | None = None
    if not _sees_all_nodes(kernel, gfp):
        nodes = mems_allowed(kernel, kernel.current) if nodemask is None else nodemask
    show_mem(kernel, nodes, flags.gfp_zone(gfp, kernel.arch))


def _has_managed_dma(kernel: Machine) -> bool:
    """Return whether ZONE_DMA has pages (has_managed_dma())."""
    return any(zone.name == "DMA" and zone.managed for zone in kernel.zones)


def _sees_all_nodes(kernel: Machine, gfp: int) -> bool:
    """Return whether a request's failure concerns all nodes, not only those it was limited to.

    Reserves, interrupts and requests that cannot wait do not keep to the limits (mm/page_alloc.c
    warn_alloc_show_mem()).
    """
    if not kernel.context.in_task or not gfp & flags.__GFP_DIRECT_RECLAIM:
        return True
    task = kernel.current
    reserves = task.oom_victim or task.exited or task.flags & PF_MEMALLOC
    return bool(reserves) and not gfp & flags.__GFP_NOMEMALLOC


# -- nodes ----------------------------------------------------------------------------------------


def mems_allowed(kernel: Machine, task: Task) -> Collection[int]:
    """Return the nodes a task's cpuset allows; the root's are all that have memory."""
    allowed = task.mems_allowed
    return _nodes_with_memory(kernel) if allowed is None else allowed


def _nodes_with_memory(kernel: Machine) -> set[int]:
    return {zone.nid for zone in kernel.zones if zone.present}


def node_list(nodes: Iterable[int] | None) -> str:
    """Return node numbers as the kernel prints a bitmap, such as "0-2,5" (lib/vsprintf.c, %*pbl).

    >>> node_list({0, 1, 2, 5}), node_list(None)
    ('0-2,5', '(null)')
    """
    if nodes is None:
        return "(null)"
    runs: list[list[int]] = []
    for node in sorted(nodes):
        if runs and runs[-1][-1] == node - 1:
            runs[-1][1:] = [node]
        else:
            runs.append([node])
    return ",".join("-".join(map(str, run)) for run in runs)


def cpuset_mems_allowed(kernel: Machine) -> str:
    """Return the current task's cpuset and its nodes (cpuset_print_current_mems_allowed()).

    The debug kernel has no cpusets.
    """
    if kernel.debug_kernel:
        return ""
    name = kernel.current.cpuset.rpartition("/")[2] or "/"
    return f",cpuset={name},mems_allowed={node_list(mems_allowed(kernel, kernel.current))}"


# -- counters -------------------------------------------------------------------------------------


def node_page_state(kernel: Machine, nid: int) -> Counter[str]:
    """Return a node's counters by their names in /proc/vmstat: pages, kernel stacks in kB."""
    node = kernel.nodes[nid]
    state = Counter({f"nr_{name}": node.nr(lru) for lru, name in enumerate(LRU_LISTS, 1)})
    state["nr_file_pages"] = node.nr(INACTIVE_FILE, ACTIVE_FILE)
    state["nr_dirty"] = sum(map(_nr_dirty, node.zones))
    state["nr_slab_reclaimable"] = len(node.slab)
    first = min(_nodes_with_memory(kernel))
    for task in kernel.tasks:
        if not task.exited and nid == min(task.mems_allowed or (first,)):
            state["nr_kernel_stack"] += THREAD_SIZE_KB
            state["nr_page_table_pages"] += task.pgtables_bytes >> 12
    for (where, name), pages in kernel.node_page_state.items():
        if where == nid:
            state[name] += pages
    return state


def _nr_dirty(zone: Zone) -> int:
    """Return how many file pages of a zone have yet to be written."""
    column = zone.mem_map.lru
    return sum(
        column.count(lru | LRU_DIRTY, zone.start_pfn, zone.end_pfn)
        for lru in (INACTIVE_FILE, ACTIVE_FILE)
    )


# -- Mem-Info -------------------------------------------------------------------------------------


def show_mem(kernel: Machine, nodes: Collection[int] | None = None, max_zone_idx: int = 4) -> None:
    """Print Mem-Info: lines of some nodes (all if None), and of zones up to an index.

    Linux: mm/show_mem.c __show_mem(). The totals are always the whole machine's, except for the
    pages on per-CPU lists.
    """
    seen = [
        zone
        for zone in kernel.zones
        if zone.present and zone.idx <= max_zone_idx and (nodes is None or zone.nid in nodes)
    ]
    managed = dict.fromkeys(zone.nid for zone in seen if zone.managed)
    states = [node_page_state(kernel, node.nid) for node in kernel.nodes]
    total: Counter[str] = Counter()
    for state in states:
        total.update(state)
    kernel.printk("Mem-Info:")
    for line in (
        *_summary(kernel, total, seen),
        *(_node_line(kernel, nid, states[nid]) for nid in managed),
        *(line for zone in seen for line in _zone_lines(kernel, zone)),
        *(_free_area_line(kernel, zone) for zone in seen),
        *_tail(kernel, nodes, total),
    ):
        kernel.printk(line)


def _summary(kernel: Machine, total: Counter[str], seen: list[Zone]) -> Iterator[str]:
    """Yield the machine's counters, in pages."""
    free = sum(max(zone.vm_stat, 0) for zone in kernel.zones)
    pcp = sum(cpu.count for zone in seen for cpu in zone.pcps)
    fields = (
        "active_anon inactive_anon isolated_anon", "active_file inactive_file isolated_file",
        "unevictable dirty writeback", "slab_reclaimable slab_unreclaimable",
        "mapped shmem pagetables:page_table_pages", "sec_pagetables:sec_page_table_pages bounce",
        "kernel_misc_reclaimable",
    )  # fmt: skip
    for number, line in enumerate(fields):
        words = (word.partition(":") for word in line.split())
        shown = " ".join(f"{name}:{total[f'nr_{stat or name}']}" for name, _, stat in words)
        yield " " * (number > 0) + shown
    yield f" free:{free} free_pcp:{pcp} free_cma:{total['nr_free_cma']}"


#: A node's fields of Mem-Info and the counters they print, in order.
NODE_FIELDS = {
    "active_anon": "nr_active_anon", "inactive_anon": "nr_inactive_anon",
    "active_file": "nr_active_file", "inactive_file": "nr_inactive_file",
    "unevictable": "nr_unevictable", "isolated(anon)": "nr_isolated_anon",
    "isolated(file)": "nr_isolated_file", "mapped": "nr_mapped", "dirty": "nr_dirty",
    "writeback": "nr_writeback", "shmem": "nr_shmem", "shmem_thp": "nr_shmem_hugepages",
    "shmem_pmdmapped": "nr_shmem_pmdmapped", "anon_thp": "nr_anon_transparent_hugepages",
    "writeback_tmp": "nr_writeback_temp", "kernel_stack": "nr_kernel_stack",
    "pagetables": "nr_page_table_pages", "sec_pagetables": "nr_sec_page_table_pages",
}  # fmt: skip


#: A zone's LRU fields of Mem-Info, in order.
ZONE_LRU = {
    "active_anon": ACTIVE_ANON, "inactive_anon": INACTIVE_ANON, "active_file": ACTIVE_FILE,
    "inactive_file": INACTIVE_FILE, "unevictable": UNEVICTABLE,
}  # fmt: skip


def _node_line(kernel: Machine, nid: int, state: Counter[str]) -> str:
    """Return a node's line, in kB."""
    fields = " ".join(
        f"{field}:{state[name] * (1 if name == 'nr_kernel_stack' else PAGE_KB)}kB"
        for field, name in NODE_FIELDS.items()
    )
    hopeless = "yes" if kernel.nodes[nid].kswapd_failures >= MAX_RECLAIM_RETRIES else "no"
    return f"Node {nid} {fields} all_unreclaimable? {hopeless}"


def _show_node(kernel: Machine, zone: Zone) -> str:
    """Return how a zone's lines begin: Debian's i386 kernel knows no nodes (show_node())."""
    return zone.name if kernel.arch == "i386" else f"Node {zone.nid} {zone.name}"


def _zone_lines(kernel: Machine, zone: Zone) -> Iterator[str]:
    """Yield a zone's two lines: its state in kB, and what it keeps back, in pages."""
    boost, lists = zone.watermark_boost, kernel.nodes[zone.nid].lists
    fields = {
        "free": max(zone.vm_stat, 0),
        "boost": boost,
        "min": zone.watermark[MIN] + boost,
        "low": zone.watermark[LOW] + boost,
        "high": zone.watermark[HIGH] + boost,
        "reserved_highatomic": zone.nr_reserved_highatomic,
        **{name: len(lists[lru][zone.idx]) for name, lru in ZONE_LRU.items()},
        "writepending": _nr_dirty(zone),
        "present": zone.present,
        "managed": zone.managed,
        "mlocked": 0,
        "bounce": 0,
        "free_pcp": sum(pcp.count for pcp in zone.pcps),
        "local_pcp": zone.pcp.count,
        "free_cma": 0,
    }
    shown = " ".join(
        f"{name}:{pages * PAGE_KB}{'KB' if name == 'reserved_highatomic' else 'kB'}"
        for name, pages in fields.items()
    )
    yield f"{_show_node(kernel, zone)} {shown}"
    yield "lowmem_reserve[]: " + " ".join(map(str, zone.lowmem_reserve))


def _free_area_line(kernel: Machine, zone: Zone) -> str:
    """Return a zone's free blocks by order, with the letters of the types they are on lists of."""
    words, total = [], 0
    for order in range(zone.max_order + 1):
        first = order * MIGRATE_TYPES
        counts = [
            len(zone.free_head[first + kind]) + len(zone.free_tail[first + kind])
            for kind in range(MIGRATE_TYPES)
        ]
        blocks = sum(counts)
        total += blocks << order
        words.append(f"{blocks}*{PAGE_KB << order}kB")
        if blocks:
            pairs = zip(MIGRATE_LETTERS, counts, strict=True)
            words.append(f"({''.join(letter for letter, count in pairs if count)})")
    return f"{_show_node(kernel, zone)}: {' '.join(words)} = {total * PAGE_KB}kB"


def _tail(kernel: Machine, nodes: Collection[int] | None, total: Counter[str]) -> Iterator[str]:
    """Yield what follows the zones: huge pages, page cache, swap, and memory as a whole."""
    for node in kernel.nodes:
        if nodes is None or node.nid in nodes:
            huge = _nr_huge_pages(kernel, node)  # nobody uses them
            yield (
                f"Node {node.nid} hugepages_total={huge} hugepages_free={huge} hugepages_surp=0 "
                f"hugepages_size={HUGEPAGE_KB}kB"
            )
    yield f"{total['nr_file_pages']} total pagecache pages"
    yield f"{total['nr_swapcached']} pages in swap cache"
    yield f"Free swap  = {kernel.nr_swap_pages * PAGE_KB}kB"
    yield f"Total swap = {kernel.total_swap_pages * PAGE_KB}kB"
    present = sum(zone.present for zone in kernel.zones)
    yield f"{present} pages RAM"
    yield f"{sum(zone.present for zone in _high_zones(kernel))} pages HighMem/MovableOnly"
    yield f"{present - sum(zone.managed for zone in kernel.zones)} pages reserved"
    yield "0 pages hwpoisoned"


def _nr_huge_pages(kernel: Machine, node: Pglist) -> int:
    """Return how many huge pages the boot took from a node (hugepages= on the command line)."""
    if HUGETLB_OWNER not in kernel.owner_names:
        return 0
    number, owner = kernel.owner_names.index(HUGETLB_OWNER), kernel.mem_map.owner
    return sum(owner.count(number, zone.start_pfn, zone.end_pfn) for zone in node.zones)


def _high_zones(kernel: Machine) -> list[Zone]:
    """Return the zones beyond the direct map; a 64-bit kernel has none (is_highmem())."""
    if kernel.arch != "i386" or not any(zone.name == "HighMem" for zone in kernel.zones):
        return []
    return [zone for zone in kernel.zones if zone.name in ("HighMem", "Movable")]
