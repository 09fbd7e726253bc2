"""Free lists that a wrong free tore: who takes a block off them next finds it out.

Free blocks are linked through their struct pages. Freeing pages that were free already puts a block
on two lists at once; freeing a compound block with too large an order wipes the links of the free
block behind it. Nothing is noticed before somebody takes that block (CONFIG_LIST_HARDENED).
`page_check` marks, `freelist` looks. Linux: lib/list_debug.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemkit.mm.errors import KernelBug, Livelock
from kmemkit.mm.fault import bug_on
from kmemkit.mm.mmzone import FREE, PCP, ZONE_LOCK_HELD, ZONE_TORN_LISTS, Zone
from kmemkit.mm.physaddr import struct_page_address

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = ("check_links", "tear_links")

#: Offset of the list links in a struct page.
LRU = 8


def tear_links(zone: Zone, first: int, end: int, *, wiped: bool) -> None:
    """Note free blocks that begin in a range which somebody frees once more."""
    for pfn in range(first, end):
        byte = zone.page[pfn]
        if byte & 0xF0 in (FREE, PCP):
            zone.mem_map.torn[pfn] = (byte, wiped)
            zone.flags |= ZONE_TORN_LISTS


def check_links(kernel: Machine, zone: Zone) -> None:
    """Complain if a torn block has left its list since.

    Raises:
        KernelBug: it has (list_del corruption); with wiped links while the zone's lock was held.
        Livelock: the lock is still held by who died with it.
    """
    if zone.flags & ZONE_LOCK_HELD:
        raise Livelock("zone->lock was held by a task that died: whoever wants it spins for ever")
    for pfn, (byte, wiped) in list(zone.mem_map.torn.items()):
        if zone.page[pfn] != byte:
            del zone.mem_map.torn[pfn]
            raise _list_del_corruption(kernel, zone, pfn, wiped)


def _list_del_corruption(kernel: Machine, zone: Zone, pfn: int, wiped: bool) -> KernelBug:
    at = struct_page_address(pfn) + LRU
    if wiped:
        zone.flags |= ZONE_LOCK_HELD
        kernel.printk(f"list_del corruption, {at:016x}->next is NULL")
        return bug_on(kernel, "lib/list_debug.c:52", "a free block was freed as part of another")
    before = struct_page_address(pfn - 1) + LRU
    kernel.printk(
        f"list_del corruption. next->prev should be {before:016x}, but was {at:016x}. "
        f"(next={struct_page_address(pfn + 1) + LRU:016x})"
    )
    return bug_on(kernel, "lib/list_debug.c:65", "a block is on two free lists at once")
