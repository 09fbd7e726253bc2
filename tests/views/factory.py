"""Snapshots put together by hand: what a view shows is tested without the simulator."""

import random

from kmemkit.snapshot import Kind, PcpSnapshot, Snapshot, Step, ZoneSnapshot
from kmemkit.units import MIGRATE_LETTERS


def world(pages=256, used=(), types=None, *, first=0, block_order=5, max_order=6, **fields):
    """Return a one-zone Snapshot: `used` blocks are (pfn, order, kind, owner), the rest is free.

    `types` is one letter a pageblock (U, M, E, ...), all Movable by default.
    """
    size = 1 << block_order
    types = types or "M" * (-((first - first % size - first - pages) // size))
    column, owners, names = bytearray(pages), bytearray(pages), [""]
    taken = bytearray(pages)
    for pfn, order, kind, owner in used:
        at = pfn - first
        column[at] = kind << 4 | order
        taken[at : at + (1 << order)] = b"\1" * (1 << order)
        if owner not in names:
            names.append(owner)
        owners[at] = names.index(owner)
    lists = {}
    pfn = first
    while pfn < first + pages:
        order = 0
        if not taken[pfn - first]:
            while order < max_order and pfn % (2 << order) == 0:
                stretch = taken[pfn - first : pfn - first + (2 << order)]
                if len(stretch) < 2 << order or any(stretch):
                    break
                order += 1
            column[pfn - first] = Kind.FREE << 4 | order
            kind = MIGRATE_LETTERS.index(types[(pfn >> block_order) - (first >> block_order)])
            lists.setdefault((order, kind), ({}, {}))[1][pfn] = None
        pfn += 1 << order
    free = sum(len(tail) << order for (order, _), (_, tail) in lists.items())
    zone = ZoneSnapshot(
        nid=0, idx=2, name="Normal", start_pfn=first, spanned=pages, present=pages, managed=pages,
        free_est=free, min=0, low=0, high=0, promo=0, boost=0, nr_reserved_highatomic=0,
        nr_free_highatomic=0, flags=0, stat_threshold=1, percpu_drift_mark=0,
        lowmem_reserve=(0, 0, 0), max_order=max_order, pageblock_order=block_order,
        pageblocks=bytes(MIGRATE_LETTERS.index(letter) for letter in types), movable={},
        pcps=(PcpSnapshot(),), _lists=lists,
    )  # fmt: skip
    return Snapshot(
        release="6.12", zones=(zone,), pages=bytes(column), owners=bytes(owners),
        first_pfn=first, owner_names=tuple(names), **fields,
    )  # fmt: skip


def mixed(**fields):
    """Return a world of 256 pages with something of every kind in it."""
    used = [(pfn, 0, Kind.RESERVED, "") for pfn in range(8)]
    used += [
        (0x08, 3, Kind.UNMOVABLE, "driver"),
        (0x10, 0, Kind.UNMOVABLE, "slab"),
        (0x12, 1, Kind.PCP, ""),
        (0x18, 2, Kind.RECLAIMABLE, "dentry"),
        (0x40, 0, Kind.MOVABLE, "user"),
        (0x43, 0, Kind.MOVABLE, "user"),
        (0x60, 5, Kind.MOVABLE, "driver"),
        (0x80, 2, Kind.LEAKED, ""),
        (0xC8, 2, Kind.SLAB, "kmalloc-64"),
        (0xFF, 0, Kind.HOLE, ""),
    ]
    return world(used=used, types="UUMMMMEM", **fields)


def big(pages, seed=1, share=0.6):
    """Return a fragmented world of `pages` pages with Linux's own geometry, about `share` used."""
    dice = random.Random(seed)
    kinds = (Kind.UNMOVABLE, Kind.MOVABLE, Kind.MOVABLE, Kind.RECLAIMABLE)
    used = []
    types = []
    for block in range(0, pages, 512):
        types.append(dice.choice("UMMME"))
        density = dice.choice((0, share, share, 1))
        pfn = block
        while pfn < block + 512:
            order = min(
                dice.choice((0, 0, 0, 1, 2, 3)), (pfn & -pfn).bit_length() - 1 if pfn else 9
            )
            if dice.random() < density:
                used.append((pfn, order, dice.choice(kinds), dice.choice(("file", "anon", "slab"))))
            pfn += 1 << order
    return world(pages, used, "".join(types), block_order=9, max_order=10)


def replay(*snapshots):
    """Return a history that goes through `snapshots`."""
    return [
        Step(
            "start" if n == 0 else f"alloc_pages(GFP_KERNEL, {n})", f"pfn {n:#x}", True, (), None, s
        )
        for n, s in enumerate(snapshots)
    ]
