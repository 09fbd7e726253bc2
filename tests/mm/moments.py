"""Machines at a chosen moment, from roomy to full, for the tests of the slow path.

Without per-CPU lists, boosts and a lagging count of free pages the marks hold to the page.
"""

from functools import cache

from kmemkit import Kernel
from kmemkit.mm.errors import Livelock, Panic
from kmemkit.mm.freelist import rmqueue
from kmemkit.mm.mmzone import LOW, MIGRATE_UNMOVABLE, MIN
from kmemkit.mm.swap import INACTIVE_FILE


def boot(ram="128M", anon="4M", **options):
    """Return a machine with one program, whose memory only the OOM killer can take."""
    kernel = Kernel(ram, pcp=False, **options)
    kernel.vm.watermark_boost_factor = 0
    for zone in kernel.zones:
        zone.stat_threshold = 0
    if anon:
        kernel.fork("browser", anon=anon, oom_score_adj=500)
    return kernel


def take_down_to(kernel, zone, free, order=0):
    """Take the kernel's blocks from a zone, past all marks, until `free` pages are left in it."""
    taken = []
    while zone.free_pages > free:
        pfn = rmqueue(kernel, zone, order, MIGRATE_UNMOVABLE, 0)
        if pfn is None:
            break
        taken.append(pfn)
    return taken


def squeeze(kernel, mark=MIN, part=1.0):
    """Take from every zone what is above a part of a mark, for requests up to ZONE_NORMAL."""
    for zone in kernel.zones:
        take_down_to(kernel, zone, int(zone.watermark[mark] * part) + zone.lowmem_reserve[2])


def roomy():
    """Nearly all of memory is free."""
    return boot()


def low():
    """Free pages half-way between the min and the low mark, and files."""
    kernel = boot()
    kernel.read_file("64M")
    for zone in kernel.zones:
        marks = zone.watermark[MIN] + zone.watermark[LOW]
        take_down_to(kernel, zone, marks // 2 + zone.lowmem_reserve[2])
    return kernel


def files():
    """Too little is free even for GFP_ATOMIC, and half of memory is clean page cache."""
    kernel = boot()
    kernel.read_file("64M")
    squeeze(kernel, part=0.3)
    return kernel


def full():
    """Too little is free even for GFP_ATOMIC, and nothing can be taken back."""
    kernel = boot()
    squeeze(kernel, part=0.3)
    return kernel


def drained():
    """As full, and ZONE_DMA too has nothing left for those who ask for it."""
    kernel = boot()
    for zone in kernel.zones:
        take_down_to(kernel, zone, zone.watermark[MIN] // 3)
    return kernel


def scattered():
    """Half of memory is free, every second page of it: the others belong to the kernel."""
    kernel = boot(anon="1M")
    for zone in kernel.zones:
        for pfn in take_down_to(kernel, zone, 0):
            if pfn % 2:
                kernel.free_pages(pfn)
    return kernel


def holes():
    """Half of memory is free, every second page of it: between them lie files, which can move."""
    kernel = boot(anon="1M")
    kernel.read_file("100M")
    for zone in kernel.zones:
        take_down_to(kernel, zone, 0)
    for pfn in [pfn for pfn in kernel.nodes[0].pages(INACTIVE_FILE) if pfn % 2]:
        kernel.free_pages(pfn)
    return kernel


MOMENTS = {one.__name__: one for one in (roomy, low, files, full, drained, scattered, holes)}


@cache
def _snapshot(name):
    return MOMENTS[name]().snapshot()


def at(name, *, recording=True):
    """Return a machine of its own at a moment, with all event counters at 0."""
    kernel = Kernel.from_snapshot(_snapshot(name))
    kernel.vm_events.clear()
    if recording:
        kernel.record(limit=2)
    return kernel


def ends(kernel, gfp, order=0, **options):
    """Make a request; return (rungs with rounds, as text, and how it ended)."""
    try:
        pfn = kernel.alloc_pages(gfp, order, **options)
        end = "NULL" if pfn is None else "page"
    except (Livelock, Panic) as error:
        end = type(error).__name__
    return road(kernel), end


def road(kernel):
    """Return the rungs of the last request, round by round: "low kswapd min | kswapd reserves"."""
    parts, turn = [], 0
    for rung in kernel.why().rungs:
        if rung.round > turn and rung.name != "null":
            parts.append("|")
            turn = rung.round
        parts.append(rung.name)
    return " ".join(parts)
