"""Small machines that the lessons play on, each the same for the same arguments.

Exercises and their checks boot one anew whenever they need it; notebooks use them to start from.
"""

from __future__ import annotations

from random import Random

from kmemkit.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from kmemkit.mm.kernel import Kernel
from kmemkit.snapshot import MIGRATE_NAMES, Snapshot
from kmemkit.strings import text
from kmemkit.views.lab_model import workload

__all__ = ("every_second_page", "free_lists", "mixed", "movable")

_OWNERS = ("browser", "editor", "compiler")


def mixed(seed: int, ram: str = "256K") -> Kernel:
    """Boot a small world and fill it with a seeded mix of all three migratetypes."""
    kernel = Kernel(ram=ram)
    workload(kernel, seed)
    return kernel


def movable(seed: int) -> Kernel:
    """Boot 64 pages and fill about 50 of them with movable blocks of orders 0 to 2, with gaps."""
    random, kernel = Random(seed), Kernel(ram="256K")
    held, used = [], 0
    while used < 50:
        order = random.choices((0, 1, 2), (60, 25, 15))[0]
        pfn = kernel.alloc_pages(GFP_HIGHUSER_MOVABLE, order, owner=random.choice(_OWNERS))
        held.append((pfn, order))
        used += 1 << order
    for pfn, order in random.sample(held, len(held) // 3):
        kernel.free_pages(pfn, order)
    return kernel


def every_second_page() -> Kernel:
    """Boot 1024 pages, give all of them out one by one, and free every second one."""
    kernel = Kernel(ram="4M")
    pages = [kernel.alloc_pages(GFP_KERNEL, 0, owner="driver") for _ in range(1024)]
    for pfn in pages[::2]:
        kernel.free_pages(pfn, 0)
    return kernel


def free_lists(snapshot: Snapshot) -> str:
    """Return every free list that is not empty, list head first, one line each."""
    return "\n".join(
        text(
            "lesson.free_list",
            order=order,
            type=MIGRATE_NAMES[kind],
            pfns=", ".join(f"{pfn:#x}" for pfn in pfns),
        )
        for zone in snapshot.zones
        for (order, kind), pfns in zone.free_lists().items()
    )
