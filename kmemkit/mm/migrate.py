"""Migration: one page's contents go to another page, and the first one becomes free.

`compaction` moves pages so, each to a free page of the same zone (Linux: mm/migrate.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemkit.mm.buddy import free_one_page
from kmemkit.mm.swap import LRU_MASK

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine
    from kmemkit.mm.mmzone import Zone

__all__ = ("migrate_folio",)

#: What moving a page costs, in ns.
MIGRATE_NS = 3_000


def migrate_folio(kernel: Machine, zone: Zone, src: int, dst: int) -> None:
    """Move one page: its contents, its place on its LRU list, its owner (same name in Linux)."""
    mem_map, node = zone.mem_map, kernel.nodes[zone.nid]
    byte = mem_map.lru[src]
    task = kernel.task_of(src)
    mem_map.page[dst] = mem_map.page[src]
    mem_map.owner[dst] = mem_map.owner[src]
    pages = node.lists[byte & LRU_MASK][zone.idx]
    pages.remove(src)
    pages.add(dst)
    mem_map.lru[dst], mem_map.lru[src] = byte, 0
    if task is not None:
        del task.anon[src]
        task.anon[dst] = None
    free_one_page(zone, src, 0)
    kernel.now += MIGRATE_NS
    kernel.vm_events["pgmigrate_success"] += 1
    if kernel.trace is not None:
        kernel.trace.event("migrate_folio", src=f"{src:#x}", dst=f"{dst:#x}")
