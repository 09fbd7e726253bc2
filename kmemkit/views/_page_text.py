"""The page map in words: the line for one page, the legend, and the whole map as text.

PageMap's text twin; pure functions of a snapshot. static/page_columns.js fills in the same
templates for the line under the map.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kmemkit.snapshot import (
    MIGRATE_NAMES,
    Kind,
    PageInfo,
    Snapshot,
    ZoneSnapshot,
    order_text,
    size_text,
)
from kmemkit.strings import text
from kmemkit.views._page_cells import Window, owner_marks, rows, tally
from kmemkit.views.palette import TYPE_LETTERS

__all__ = (
    "KIND_KEYS",
    "blocks_text",
    "cell_line",
    "cell_note",
    "map_text",
    "page_line",
    "subtitle",
    "title",
    "zone_name",
)

#: Longest run of blocks that is written out before the rest is only counted.
_LISTED = 16

#: What each kind is called: the last part of its keys in the string table, in the legend's order.
KIND_KEYS = {
    Kind.UNMOVABLE: "unmovable",
    Kind.MOVABLE: "movable",
    Kind.RECLAIMABLE: "reclaimable",
    Kind.SLAB: "slab",
    Kind.PCP: "pcp",
    Kind.RESERVED: "reserved",
    Kind.HOLE: "hole",
    Kind.LEAKED: "leaked",
    Kind.FREE: "free",
}
#: Kinds that the legend shows even where there are none.
_ALWAYS = (Kind.UNMOVABLE, Kind.MOVABLE, Kind.RECLAIMABLE, Kind.FREE)


def zone_name(snapshot: Snapshot, zone: ZoneSnapshot) -> str:
    """Return a zone's name, with its node in front where the machine has several."""
    several = any(other.nid != zone.nid for other in snapshot.zones)
    return f"{zone.nid}:{zone.name}" if several else zone.name


def title(snapshot: Snapshot, zones: Sequence[ZoneSnapshot]) -> str:
    """Return what a map of `zones` is headed with."""
    names = ", ".join(zone_name(snapshot, zone) for zone in zones)
    return text("page_map.zone" if len(zones) == 1 else "page_map.machine", names=names)


def subtitle(snapshot: Snapshot, zones: Sequence[ZoneSnapshot], first: int, end: int) -> str:
    """Return the extent of a map: its present pages, their size, its pfns, and the release."""
    pages = sum(zone.present for zone in zones)
    return text(
        "page_map.size",
        pages=f"{pages:,}",
        size=size_text(pages),
        first=f"{first:#x}",
        last=f"{end - 1:#x}",
        release=snapshot.release,
    )


def blocks_text(zones: Sequence[ZoneSnapshot]) -> str:
    """Return how many pageblocks of each migratetype the zones have."""
    counts = [
        sum(zone.pageblocks.count(kind) for zone in zones) for kind in range(len(MIGRATE_NAMES))
    ]
    types = ", ".join(f"{name} {n:,}" for name, n in zip(MIGRATE_NAMES, counts, strict=True) if n)
    return text("page_map.blocks", order=order_text(zones[0].pageblock_order), types=types)


def cell_note(win: Window) -> str:
    """Return what one cell of a map stands for, and how to read its letter."""
    if win.cell == 1:
        return text("page_map.cell_page")
    return text("page_map.cell_pages", pages=f"{win.cell:,}", size=size_text(win.cell))


def _name(kind: Kind) -> str:
    """Return the legend's word for a kind; pages that no block covers count as holes."""
    return text(f"page_map.{KIND_KEYS.get(kind, 'hole')}")


def _state_key(kind: Kind) -> str:
    """Return the end of the keys that tell a block's state; a slab has no migratetype to tell."""
    asked = kind.allocated and kind != Kind.SLAB
    return "allocated" if asked else KIND_KEYS.get(kind, "hole")


def _buddy(snapshot: Snapshot, info: PageInfo) -> str:
    """Return the part of a page's line that tells of its block's buddy, or ""."""
    if info.zone is None or info.kind <= Kind.TAIL or info.kind in (Kind.RESERVED, Kind.HOLE):
        return ""
    if info.buddy is None:
        highest = info.order >= info.zone.max_order
        key = "page_map.line_highest" if highest else "page_map.line_no_buddy"
        return text(key, order=info.order)
    buddy = snapshot.page(info.buddy)
    key = _state_key(buddy.kind)
    state = text(f"page_map.buddy_{key}", type=_name(buddy.kind), order=buddy.order)
    return text("page_map.line_buddy", pfn=f"{info.buddy:#x}", state=state)


def page_line(snapshot: Snapshot, pfn: int) -> str:
    """Return all that is known of one page, as the line under the map says it."""
    info = snapshot.page(pfn)
    key = _state_key(info.kind)
    state = text(f"page_map.line_{key}", type=_name(info.kind), order=order_text(info.order))
    zone = zone_name(snapshot, info.zone) if info.zone else text("page_map.no_zone")
    parts = [text("page_map.line_head", pfn=f"{pfn:#x}", zone=zone, state=state)]
    if info.head != pfn:
        parts.append(text("page_map.line_tail", nth=pfn - info.head + 1, head=f"{info.head:#x}"))
    if info.owner:
        parts.append(text("page_map.line_owner", owner=info.owner))
    if info.migratetype is not None and info.migratetype < len(MIGRATE_NAMES):
        parts.append(text("page_map.line_block", type=MIGRATE_NAMES[info.migratetype]))
    parts.append(_buddy(snapshot, info))
    return " · ".join(part for part in parts if part)


def cell_line(snapshot: Snapshot, first: int, end: int) -> str:
    """Return what the line under the map says of a cell that stands for pages [first, end)."""
    info = snapshot.page(first)
    if info.head + (1 << info.order) >= end:
        return page_line(snapshot, first)
    return text(
        "page_map.line_cell",
        first=f"{first:#x}",
        last=f"{end - 1:#x}",
        pages=f"{end - first:,}",
        size=size_text(end - first),
        parts=_counts(tally(snapshot, first, end)),
    )


def _counts(found: dict[Kind, int], always: Sequence[Kind] = ()) -> str:
    """Return a tally in the legend's order, without the kinds that do not occur."""
    return ", ".join(
        text("page_map.part", name=_name(kind), pages=f"{found[kind]:,}")
        for kind in KIND_KEYS
        if found[kind] or kind in always
    )


def _listed(items: list[str], total: int) -> str:
    """Join the first blocks, which are written out, and count the others."""
    more = total - len(items)
    return ", ".join(items) + (f", {text('page_map.more', count=f'{more:,}')}" if more else "")


def _row_lines(snapshot: Snapshot, first: int, end: int, win: Window) -> Iterator[str]:
    """Yield the picture, one line for each row: its pfn, its pageblock types, its cells."""
    digits = len(f"{end - 1:x}") + 2
    for start, cells in rows(snapshot, first, end, win):
        low, high = max(start, first), min(start + win.width * win.cell, end)
        # A dict keeps the order of the pageblocks, each type where it comes first.
        types = {
            TYPE_LETTERS[zone.pageblock_type(pfn)]: None
            for zone in snapshot.zones
            for pfn in range(
                max(low, zone.start_pfn), min(high, zone.end_pfn), 1 << zone.pageblock_order
            )
            if zone.pageblock_type(pfn) < len(TYPE_LETTERS)
        }
        line = f"{start:#0{digits}x} {''.join(types):<3} {cells}"
        if win.cell > 1:
            percent = round(100 * tally(snapshot, low, high)[Kind.FREE] / (high - low))
            line += f"  {text('page_map.row_free', percent=percent)}"
        yield line.rstrip()


def _owner_lines(snapshot: Snapshot, first: int, end: int) -> Iterator[str]:
    """Yield one line for each owner that has pages in [first, end), with its first blocks."""
    base = snapshot.first_pfn
    blocks: dict[int, list[int]] = {}
    for match in re.finditer(rb"[^\0]", snapshot.owners[first - base : end - base]):
        head = first + match.start()
        # A freed page keeps the name of its last owner.
        if Kind(snapshot.pages[head - base] >> 4).allocated:
            blocks.setdefault(match.group()[0], []).append(head)
    marks = owner_marks(snapshot.owner_names)
    for owner, heads in sorted(blocks.items()):
        orders = [snapshot.pages[head - base] & 15 for head in heads]
        shown = [
            text("page_map.text_block", pfn=f"{head:#x}", order=order)
            for head, order in zip(heads[:_LISTED], orders, strict=False)
        ]
        yield text(
            "page_map.text_owner",
            owner=snapshot.owner_names[owner],
            mark=marks[owner],
            pages=f"{sum(1 << order for order in orders):,}",
            blocks=_listed(shown, len(heads)),
        )


def _free_lines(snapshot: Snapshot, zones: Sequence[ZoneSnapshot]) -> Iterator[str]:
    """Yield every free list that is not empty, in list order."""
    for zone in zones:
        for (order, kind), pfns in zone.free_lists().items():
            yield text(
                "page_map.text_list",
                zone=zone_name(snapshot, zone),
                order=order,
                type=MIGRATE_NAMES[kind],
                pfns=_listed([f"{pfn:#x}" for pfn in pfns[:_LISTED]], len(pfns)),
            )


def map_text(
    snapshot: Snapshot, zones: Sequence[ZoneSnapshot], extent: tuple[int, int], win: Window
) -> str:
    """Return the whole map as text: heading, legend with counts, rows, owners, free lists."""
    first, end = extent
    lines = [
        f"{title(snapshot, zones)} · {subtitle(snapshot, zones, first, end)}",
        _counts(tally(snapshot, first, end), _ALWAYS),
        blocks_text(zones),
        cell_note(win),
        "",
        *_row_lines(snapshot, first, end, win),
    ]
    for heading, items in (
        ("page_map.text_owners", _owner_lines(snapshot, first, end)),
        ("page_map.text_free", _free_lines(snapshot, zones)),
    ):
        if found := list(items):
            lines += ["", text(heading), *(f"  {item}" for item in found)]
    return "\n".join(lines)
