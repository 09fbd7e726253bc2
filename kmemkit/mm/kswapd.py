"""kswapd: the thread of each node that frees pages before anybody has to wait (Linux: mm/vmscan.c).

`slowpath` wakes it when no zone is above its low mark; it reclaims until one is above its high
mark. When it gets a CPU is the scheduler's business, and here a rule: when the caller sleeps or
offers its CPU while it reclaims, and at the next timer tick (docs/fidelity.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemkit import gfp as flags
from kmemkit.mm import vmscan
from kmemkit.mm.compaction import kcompactd, wakeup_kcompactd
from kmemkit.mm.context import cpuset_node_allowed, others_may_run
from kmemkit.mm.internal import MAX_RECLAIM_RETRIES
from kmemkit.mm.mmzone import HIGH, ZONE_RECLAIM_ACTIVE, Zone
from kmemkit.mm.swap import Pglist
from kmemkit.mm.watermark import __zone_watermark_ok

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = (
    "NEVER",
    "TICK_NS",
    "balance_pgdat",
    "next_due",
    "pgdat_balanced",
    "schedule",
    "tick",
    "wakeup_kswapd",
)

#: A timer tick (HZ=250), and the nap after a run (HZ/10), in ns.
TICK_NS = 4_000_000
NAP_NS = 100_000_000
#: What kswapd reclaims before somebody else gets the CPU, in pages: about a millisecond's work.
SLICE_PAGES = 512
#: Later than any simulated time.
NEVER = 1 << 62


def wakeup_kswapd(kernel: Machine, zone: Zone, gfp: int, order: int, highest_zoneidx: int) -> None:
    """Wake a zone's kswapd, unless it would find nothing to do (same name in Linux)."""
    node = kernel.nodes[zone.nid]
    if not zone.managed or not cpuset_node_allowed(kernel, zone.nid, gfp):
        return
    node.kswapd_order = max(node.kswapd_order, order)
    node.kswapd_highest_zoneidx = max(node.kswapd_highest_zoneidx, highest_zoneidx)
    if node.kswapd_running:
        return
    boosted = any(z.watermark_boost for z in node.zones if z.idx <= highest_zoneidx)
    hopeless = node.kswapd_failures >= MAX_RECLAIM_RETRIES
    if hopeless or (pgdat_balanced(node, order, highest_zoneidx) and not boosted):
        if not gfp & flags.__GFP_DIRECT_RECLAIM:
            with kernel.quietly():
                wakeup_kcompactd(kernel, node, order, highest_zoneidx)
            node.kcompactd_due = _next_tick(kernel)
            _set_due(kernel)
        return
    if kernel.trace is not None:
        kernel.trace.event(
            "mm_vmscan_wakeup_kswapd", nid=node.nid, order=order, gfp_flags=flags.decode(gfp)
        )
    if kernel.now < node.kswapd_nap:
        kernel.vm_events["kswapd_low_wmark_hit_quickly"] += 1
    node.kswapd_running = True
    node.kswapd_due = _next_tick(kernel)
    _set_due(kernel)


def pgdat_balanced(node: Pglist, order: int, highest_zoneidx: int) -> bool:
    """Return whether some zone the waker may use is above its high mark (same name in Linux)."""
    zones = [zone for zone in node.zones if zone.idx <= highest_zoneidx and zone.managed]
    for zone in zones:
        mark = zone.watermark[HIGH] + zone.watermark_boost
        if zone_watermark_ok_safe(zone, order, mark, highest_zoneidx):
            return True
    return not zones


def zone_watermark_ok_safe(zone: Zone, order: int, mark: int, highest_zoneidx: int) -> bool:
    """Check a mark, adding the CPUs' counts up where they could hide a shortage (same name)."""
    free = zone.vm_stat
    if zone.percpu_drift_mark and free < zone.percpu_drift_mark:
        free = zone.free_pages
    return __zone_watermark_ok(zone, order, mark, highest_zoneidx, 0, free)


# -- when it runs ---------------------------------------------------------------------------------


def tick(kernel: Machine) -> None:
    """Run what the clock has made due: threads that have waited for a tick."""
    if not others_may_run(kernel):
        return
    for node in kernel.nodes:
        if node.kswapd_running and kernel.now >= node.kswapd_due:
            kswapd(kernel, node)
        if node.kcompactd_order and kernel.now >= node.kcompactd_due:
            kcompactd(kernel, node)
    if kernel.now >= kernel.krc_due:
        kernel.kfree_rcu_work()
    _set_due(kernel)


def schedule(kernel: Machine) -> None:
    """Let every thread that is awake run: the caller sleeps, or offers its CPU."""
    if not others_may_run(kernel):
        return
    for node in kernel.nodes:
        if node.kswapd_running:
            kswapd(kernel, node)
        if node.kcompactd_order:
            kcompactd(kernel, node)
    _set_due(kernel)


def _next_tick(kernel: Machine) -> int:
    return kernel.now // TICK_NS * TICK_NS + TICK_NS


def _set_due(kernel: Machine) -> None:
    """Note when the next thread has waited long enough; the hot path looks at this one number."""
    kernel.due = next_due(kernel)


def next_due(kernel: Machine) -> int:
    """Return when a thread that is awake gets a CPU at the latest."""
    due = [node.kswapd_due for node in kernel.nodes if node.kswapd_running]
    due += [node.kcompactd_due for node in kernel.nodes if node.kcompactd_order]
    return min(due, default=NEVER) if kernel.krc_due == NEVER else min([*due, kernel.krc_due])


def kswapd(kernel: Machine, node: Pglist) -> None:
    """Balance a node, then sleep; an unbalanced node is tried again at the next chance.

    Linux: same name, kswapd_try_to_sleep(). After 16 runs in vain the node is hopeless, and left to
    those who need memory.
    """
    order, highest = node.kswapd_order, node.kswapd_highest_zoneidx
    if not node.kswapd_paused:
        kernel.vm_events["pageoutrun"] += 1
        if kernel.trace is not None:
            kernel.trace.event("mm_vmscan_kswapd_wake", nid=node.nid, order=order)
    with kernel.quietly():
        reached = balance_pgdat(kernel, node, order, highest)
    node.kswapd_paused = reached is None
    if reached is None:
        node.kswapd_due = _next_tick(kernel)
        return
    balanced = pgdat_balanced(node, reached, highest)
    if not balanced and node.kswapd_failures < MAX_RECLAIM_RETRIES:
        kernel.vm_events["kswapd_high_wmark_hit_quickly"] += 1
        node.kswapd_order = 0
        node.kswapd_due = _next_tick(kernel)
        return
    node.kswapd_running = False
    node.kswapd_order = node.kswapd_highest_zoneidx = 0
    if balanced:
        with kernel.quietly():
            wakeup_kcompactd(kernel, node, order, highest)
        node.kswapd_nap = kernel.now + NAP_NS
    if kernel.trace is not None:
        kernel.trace.event("mm_vmscan_kswapd_sleep", nid=node.nid)


# -- what it does ---------------------------------------------------------------------------------


def balance_pgdat(kernel: Machine, node: Pglist, order: int, highest_zoneidx: int) -> int | None:
    """Reclaim until a zone up to the index is above its high mark (same name in Linux).

    Returns the order it reclaimed for at last: 0 once compaction can make the block. Returns None
    if its time slice ended before; it goes on when it gets a CPU again. A boost is worked off as
    well, gently: without writing or swapping, and never at more than 1/1024 of the lists at once.
    What was boosted when the run began is taken off at its end, and kcompactd goes on from there.
    """
    zones = [zone for zone in node.zones if zone.idx <= highest_zoneidx and zone.managed]
    boosts = [(zone, zone.watermark_boost) for zone in zones]
    boosting = any(boost for _, boost in boosts)
    total, done = 0, False
    for zone in zones:
        zone.flags |= ZONE_RECLAIM_ACTIVE
    sc = vmscan.ScanControl(order, highest_zoneidx, 0, True, True, kswapd=True)
    while sc.priority >= 1:
        balanced = pgdat_balanced(node, sc.order, highest_zoneidx)
        if not balanced and boosting:
            boosting, sc.priority = False, vmscan.DEF_PRIORITY  # the shortage comes first
        done = balanced and not boosting
        if done:
            break
        if boosting:
            sc.priority = max(sc.priority, vmscan.DEF_PRIORITY - 2)
        sc.may_writepage = sc.may_swap = not boosting
        freed = _kswapd_shrink_node(kernel, node, sc, zones)
        total += freed
        if boosting and not freed:
            break
        if sc.nr_scanned < sc.nr_to_reclaim or not freed:
            sc.priority -= 1
        if boosting:
            boosting = total < sum(boost for _, boost in boosts)
        if total >= SLICE_PAGES and not pgdat_balanced(node, sc.order, highest_zoneidx):
            return None
    if not total and not done and not node.kswapd_paused:
        node.kswapd_failures += 1
    for zone, boost in boosts:
        zone.flags &= ~ZONE_RECLAIM_ACTIVE
        zone.watermark_boost -= min(zone.watermark_boost, boost)
    if any(boost for _, boost in boosts):
        wakeup_kcompactd(kernel, node, node.zones[-1].pageblock_order, highest_zoneidx)
    return sc.order


def _kswapd_shrink_node(
    kernel: Machine, node: Pglist, sc: vmscan.ScanControl, zones: list[Zone]
) -> int:
    """Make one pass; return the pages freed (kswapd_shrink_node()).

    Once twice the wanted block has been freed, compaction can make the block: only single pages
    count from there on.
    """
    sc.nr_to_reclaim = sum(
        max(zone.watermark[HIGH] + zone.watermark_boost, vmscan.SWAP_CLUSTER_MAX) for zone in zones
    )
    sc.nr_scanned = sc.nr_reclaimed = 0
    vmscan.shrink_node(kernel, node, sc)
    if sc.order and sc.nr_reclaimed >= 2 << sc.order:
        sc.order = 0
    return sc.nr_reclaimed
