"""Where a machine's memory is: RAM ranges, nodes, and what boot keeps of it for itself.

`mm_init.boot()` asks for a `MemoryPlan`; nothing else reads this file. The model is a PC as QEMU
and most firmware lay it out, and a kernel of fixed size (docs/fidelity.md). Linux:
arch/x86/kernel/e820.c, arch/x86/mm/init.c and init_32.c, mm/memblock.c, mm/numa_emulation.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from kmemkit.mm.cmdline import parse_size
from kmemkit.mm.numa import Hardware, Topology

__all__ = ("MemoryPlan", "Ranges", "clip", "plan_memory", "without")

#: [start, end) pairs of pfns, ascending.
Ranges = list[tuple[int, int]]

DMA_END = 4096  # 16 MiB
DMA32_END = 1 << 20  # 4 GiB
#: RAM above 3.5 GiB leaves the last GiB below 4 GiB to PCI devices.
PCI_HOLE_START = 786432  # 3 GiB
PCI_HOLE_NEEDED = 917504  # 3.5 GiB
#: The firmware keeps the last 128 KiB below the PCI hole for its tables.
FIRMWARE_PAGES = 32
#: The kernel is loaded at 16 MiB. Pages it keeps; after them, start-up code and data, which it
#: gives back once it runs; and the initrd at the end of low memory, given back too.
KERNEL_IMAGE_START = 4096
KERNEL_IMAGE_PAGES = {"x86_64": 9780, "i386": 3800}
INITMEM_PAGES = {"x86_64": 1716, "i386": 232}
INITRD_PAGES = {"x86_64": 252, "i386": 261}
#: With RAM above 4 GiB, 64 MiB below it are kept for devices that reach no further (swiotlb).
SWIOTLB_PAGES = 16384
#: sizeof(struct page)
STRUCT_PAGE_SIZE = {"x86_64": 64, "i386": 40}
PAGE_SIZE = 4096
#: i386: the end of what the kernel can map for good, with the usual 128 MiB for vmalloc(); a
#: vmalloc= needs 8 MiB more than it says. Lowmem smaller than 64 MiB is refused.
LOWMEM_END = 225278
VMALLOC_RESERVE, VMALLOC_OFFSET = 32768, 2048
LEAST_LOWMEM = 16384
#: A crash kernel starts at a multiple of 16 MiB, below 4 GiB.
CRASH_ALIGN = 4096
KFENCE_OBJECTS, KFENCE_METADATA_SIZE = 255, 1168
#: Emulated nodes are cut at multiples of 32 MiB.
FAKE_NODE_MIN_PAGES = 8192


@dataclass(slots=True)
class MemoryPlan:
    """What there is to lay out zones on.

    Attributes:
        zone_limits: (zone name, first pfn, end pfn) in index order, before ZONE_MOVABLE.
        nodes: RAM ranges of each node; a node without memory has none.
        keep: ranges that the buddy does not get, each node's mem_map among them.
        late: ranges that Linux gives to the buddy only when the marks are set already.
    """

    zone_limits: tuple[tuple[str, int, int], ...]
    nodes: list[Ranges]
    topology: Topology
    keep: Ranges = field(default_factory=list)
    late: Ranges = field(default_factory=list)


def plan_memory(hardware: Hardware, options: Mapping[str, str]) -> MemoryPlan:
    """Return the ranges of a machine of 16 MiB and more, as the command line leaves them.

    Raises:
        ValueError: the command line leaves no machine; says why.
    """
    nodes, topology = _node_ranges(hardware, options)
    limits = _zone_limits(hardware, options, nodes)
    end = limits[-1][2]
    nodes = [clip(ranges, 0, end) for ranges in nodes]
    plan = MemoryPlan(limits, nodes, topology)
    _reserve(plan, hardware, options)
    return plan


def _node_ranges(hardware: Hardware, options: Mapping[str, str]) -> tuple[list[Ranges], Topology]:
    """Return each node's RAM after mem= and numa=, and the nodes."""
    limit = parse_size(options["mem"]) // PAGE_SIZE if "mem" in options else 1 << 52
    ranges = clip(_ram_ranges(hardware.pages), 0, limit)
    if "mem" in options and (not ranges or ranges[-1][1] <= DMA_END):
        raise ValueError(f"cmdline: mem={options['mem']}: leaves too little; give 32M at least")
    topology = hardware.topology()
    numa = options.get("numa", "")
    if numa == "off" or numa.startswith("fake="):
        topology = Topology(1, (0,) * len(topology.cpu_node))
        if numa == "off":
            return [ranges], topology
        if len(hardware.ram) > 1:
            raise ValueError(f"cmdline: numa={numa}: cuts one node into many; give nodes=1")
        nodes = _fake_nodes(ranges, int(numa.removeprefix("fake=")))
        return nodes, Topology(len(nodes), topology.cpu_node, emulated=True)
    starts = accumulate(hardware.ram, initial=0)
    limits = [_physical(start, hardware.pages) for start in starts]
    return [clip(ranges, low, high) for low, high in pairwise(limits)], topology


def _ram_ranges(pages: int) -> Ranges:
    """Return a PC's RAM: low memory, and what the PCI hole displaced."""
    low_end = pages if pages < PCI_HOLE_NEEDED else PCI_HOLE_START
    ranges = [(1, 159), (256, low_end - FIRMWARE_PAGES)]
    if pages > low_end:
        ranges.append((DMA32_END, DMA32_END + pages - low_end))
    return ranges


def _physical(offset: int, pages: int) -> int:
    """Return the pfn of the page that comes `offset` pages after the first, hole skipped."""
    low_end = pages if pages < PCI_HOLE_NEEDED else PCI_HOLE_START
    return offset if offset <= low_end else DMA32_END + offset - low_end


def _fake_nodes(ranges: Ranges, count: int) -> list[Ranges]:
    """Cut one node's RAM into nodes of nearly equal size (split_nodes_interleave()).

    Nodes are a multiple of 32 MiB; what is left over makes the first ones bigger by as much.
    """
    start, limit = ranges[0][0], ranges[-1][1]
    share = _pages(ranges) // count
    size = share // FAKE_NODE_MIN_PAGES * FAKE_NODE_MIN_PAGES
    if not size:
        raise ValueError(f"cmdline: numa=fake={count}: a node needs 32 MiB at least")
    bigger = share % FAKE_NODE_MIN_PAGES * count // FAKE_NODE_MIN_PAGES
    nodes: list[Ranges] = []
    while start < limit:
        end = start + size + (FAKE_NODE_MIN_PAGES if len(nodes) < bigger else 0)
        while _pages(clip(ranges, start, end)) < size and end < limit:
            end += FAKE_NODE_MIN_PAGES
        low_left = _pages(clip(ranges, end, DMA32_END))
        if end < DMA32_END < limit and low_left < FAKE_NODE_MIN_PAGES:
            end = DMA32_END
        if _pages(clip(ranges, end, limit)) < size:
            end = limit
        nodes.append(clip(ranges, start, min(end, limit)))
        start = end
    return nodes


def _zone_limits(
    hardware: Hardware, options: Mapping[str, str], nodes: list[Ranges]
) -> tuple[tuple[str, int, int], ...]:
    """Return where the zones may be (zone_sizes_init()); the first page of memory is never used."""
    end = max(ranges[-1][1] for ranges in nodes if ranges)
    if hardware.arch == "i386":
        low, end = _highmem(options, end)
        return ("DMA", 1, DMA_END), ("Normal", DMA_END, low), ("HighMem", low, end)
    dma32 = min(DMA32_END, end)
    return ("DMA", 1, DMA_END), ("DMA32", DMA_END, dma32), ("Normal", dma32, end)


def _highmem(options: Mapping[str, str], end: int) -> tuple[int, int]:
    """Return (end of lowmem, end of memory) of a 32-bit kernel (find_low_pfn_range())."""
    low = LOWMEM_END
    if "vmalloc" in options:
        low -= parse_size(options["vmalloc"]) // PAGE_SIZE + VMALLOC_OFFSET - VMALLOC_RESERVE
    low = min(low, end)
    wanted = parse_size(options["highmem"]) // PAGE_SIZE if "highmem" in options else None
    if end > low:
        return low, end if wanted is None else min(end, low + wanted)
    if wanted is None or low - wanted < LEAST_LOWMEM:
        return low, end
    return low - wanted, end


def _reserve(plan: MemoryPlan, hardware: Hardware, options: Mapping[str, str]) -> None:
    """Note what firmware, kernel and boot-time allocations keep, from the top of memory down."""
    image = KERNEL_IMAGE_START + KERNEL_IMAGE_PAGES[hardware.arch]
    initmem = image + INITMEM_PAGES[hardware.arch]
    away = hardware.hotplug if "movable_node" in options else frozenset()
    staying = [ranges for nid, ranges in enumerate(plan.nodes) if nid not in away]
    low_end = max(high for ranges in staying for _, high in ranges if high <= DMA32_END)
    if hardware.arch == "i386":
        low_end = min(low_end, plan.zone_limits[1][2])
    plan.late = [(image, initmem), (low_end - INITRD_PAGES[hardware.arch], low_end)]
    memmap = _memmap(plan, hardware.arch, away, low_end)
    top, end = memmap[0]
    kfence = _kfence_pages(options)
    plan.keep = [(0, 256), (KERNEL_IMAGE_START, image), *memmap, (top - kfence, top)]
    low_end = top - kfence if end == low_end else low_end
    if plan.zone_limits[-1][2] > DMA32_END:
        plan.keep.append((low_end - SWIOTLB_PAGES, low_end))
        low_end -= SWIOTLB_PAGES
    if "crashkernel" in options:
        pages = parse_size(options["crashkernel"]) // PAGE_SIZE
        start = (low_end - pages) // CRASH_ALIGN * CRASH_ALIGN
        if start < initmem:
            raise ValueError(
                f"cmdline: crashkernel={options['crashkernel']}: there is no room for it"
            )
        plan.keep.append((start, start + pages))


def _memmap(plan: MemoryPlan, arch: str, away: frozenset[int], low_end: int) -> Ranges:
    """Return where each node's mem_map is: at its end, as memblock allocates from the top down.

    A 32-bit kernel has one for all memory, holes included, in lowmem. With movable_node, memory
    that can be pulled out must not hold its own mem_map.
    """
    size = STRUCT_PAGE_SIZE[arch]
    if arch == "i386":
        return [(low_end - plan.zone_limits[-1][2] * size // PAGE_SIZE, low_end)]
    extra = sum(_pages(plan.nodes[nid]) for nid in away if nid < len(plan.nodes))
    memmap = []
    for nid, ranges in enumerate(plan.nodes):
        if ranges and nid not in away:
            start, end = ranges[-1]
            pages = (_pages(ranges) + (0 if nid else extra)) * size // PAGE_SIZE
            memmap.append((max(end - pages, start), end))
    return memmap


def _kfence_pages(options: Mapping[str, str]) -> int:
    """Return the pages of KFENCE's pool and of its notes about each object; off by default."""
    if not int(options.get("kfence.sample_interval", "0")):
        return 0
    objects = int(options.get("kfence.num_objects", KFENCE_OBJECTS))
    return 2 * (objects + 1) + -(-objects * KFENCE_METADATA_SIZE // PAGE_SIZE)


def _pages(ranges: Ranges) -> int:
    return sum(high - low for low, high in ranges)


def clip(ranges: Ranges, low: int, high: int) -> Ranges:
    """Return the parts of `ranges` inside [low, high)."""
    clipped = [(max(a, low), min(b, high)) for a, b in ranges]
    return [(a, b) for a, b in clipped if a < b]


def without(ranges: Ranges, keep: Ranges) -> Ranges:
    """Return `ranges` minus the ranges in `keep`."""
    for low, high in keep:
        cut = []
        for start, end in ranges:
            cut += [(start, min(end, low)), (max(start, high), end)]
        ranges = [(a, b) for a, b in cut if a < b]
    return ranges
