"""The pointer in a free object that leads to the next one.

It lies in the object's memory, mixed with the cache's random number and with its own address
(CONFIG_SLAB_FREELIST_HARDENED): a stored value that was overwritten leads to no sane address.
`memory` keeps sound ones decoded. Linux: mm/slub.c get_freepointer(), set_freepointer().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemkit.mm.fault import bug_on
from kmemkit.mm.slab import KmemCache

if TYPE_CHECKING:
    from kmemkit.mm.slab_machine import SlabMachine

__all__ = ("freelist_objects", "get_freepointer", "set_freepointer")


def get_freepointer(kernel: SlabMachine, s: KmemCache, at: int) -> int:
    """Return the object after a free one; garbage if its pointer was overwritten."""
    return kernel.memory.get_freepointer(s, at)


def set_freepointer(kernel: SlabMachine, s: KmemCache, at: int, pointer: int) -> None:
    """Make a free object point to the next one.

    Raises:
        KernelBug: to itself: it was freed twice in a row (CONFIG_SLAB_FREELIST_HARDENED).
    """
    if at == pointer:
        raise bug_on(kernel, "mm/slub.c:550", "this object was freed just now, and is freed again")
    kernel.memory.set_freepointer(s, at, pointer)


def freelist_objects(kernel: SlabMachine, s: KmemCache, head: int, limit: int) -> list[int]:
    """Return the objects on a list, first to last, for pictures: stops where the list is broken."""
    found: list[int] = []
    at = head
    while at and len(found) < limit:
        found.append(at)
        at = kernel.memory.peek_freepointer(s, at)
    return found
