"""SlabMap in words: the heading, every slab with its objects and free lists, an object's bytes.

SlabMap's text twin; pure functions of a CacheModel.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemkit.slab_memory import FreeList, is_object
from kmemkit.snapshot import order_text
from kmemkit.strings import text
from kmemkit.views._slab_bytes import byte_rows, row_text
from kmemkit.views._slab_model import DAMAGED, OWN, RANK, CacheModel, Group, SlabState

__all__ = ("bytes_text", "cache_text", "headings")

#: Most objects whose place on the free list is written; of more, whether they are in use.
NUMBERED = 2048
#: Most slabs of a group, and objects of a free list, that are written out.
SLABS, LISTED = 64, 32
#: Cells in a line of text.
WIDTH = 64


def headings(model: CacheModel) -> list[str]:
    """Return what the map is headed with: the cache, its objects, how many are in use."""
    cache, counts = model.cache, model.counts
    title = text("slab_map.title", name=cache.name)
    order, objects = cache.oo
    size = text(
        "slab_map.size", object_size=f"{cache.object_size:,}", size=f"{cache.size:,}",
        order=order_text(order), objects=objects,
    )  # fmt: skip
    use = text(
        "slab_map.use", inuse=f"{counts['inuse']:,}", objects=f"{counts['objects']:,}",
        slabs=f"{len(model.states):,}", release=model.snapshot.release,
    )  # fmt: skip
    aliases = [text("slab_map.aliases", names=", ".join(cache.aliases))] if cache.aliases else []
    return [title, size, use, *aliases]


def cache_text(model: CacheModel) -> str:
    """Return a whole cache as text."""
    numbered = model.counts["objects"] <= NUMBERED
    words = (word for state in model.states for word in state.words)
    wide = max((len(_cell(word, True)) for word in words), default=0) + 1 if numbered else 1
    lines = [*headings(model), text(f"slab_map.key{'' if numbered else '_small'}")]
    for group in model.groups:
        lines += ["", group.title, *_group_lines(model, group, wide)]
    if not model.groups:
        lines += ["", text("slab_map.empty")]
    return "\n".join(lines)


def _group_lines(model: CacheModel, group: Group, wide: int) -> Iterator[str]:
    broken = model.broken()
    for n in group.slabs[:SLABS]:
        state = model.states[n]
        use = text("slab_map.slab_use", inuse=state.inuse, objects=state.slab.objects)
        yield f"  {state.slab.pfn:#x}  {use}"
        yield from (f"    {line}" for line in _cells(state, wide))
        for place, found in enumerate(state.lists):
            cpu = len(state.lists) > 1 and place == 0
            if found.objects or found.leads:
                name = text("slab_map.list_cpu" if cpu else "slab_map.list_slab")
                yield f"    {name}: {_list(model, state, found)}"
        if n in broken:
            yield f"    {text('slab_map.broken', what=broken[n])}"
    if len(group.slabs) > SLABS:
        rest = [model.states[n] for n in group.slabs[SLABS:]]
        yield "  " + text(
            "slab_map.more_slabs", count=f"{len(rest):,}",
            inuse=f"{sum(one.inuse for one in rest):,}",
            objects=f"{sum(one.slab.objects for one in rest):,}",
        )  # fmt: skip


def _cells(state: SlabState, wide: int) -> Iterator[str]:
    """Yield the objects of a slab, in lines of cells of `wide` characters."""
    cells = [_cell(word, wide > 1) for word in state.words]
    across = WIDTH // wide
    for start in range(0, len(cells), across):
        yield "".join(cell.ljust(wide) for cell in cells[start : start + across]).rstrip()


def _cell(word: int, numbered: bool) -> str:
    """Return one object: its place if it is free, ' where two lists are; # in use; ! damage."""
    if not numbered:
        return "!" if word & DAMAGED else "." if word & RANK else "#"
    shown = f"{word & RANK}{chr(39) if word & OWN else ''}" if word & RANK else "#"
    return shown + ("!" if word & DAMAGED else "")


def _list(model: CacheModel, state: SlabState, found: FreeList) -> str:
    """Return a free list in order, and how it ends."""
    slab, cache = state.slab, model.cache
    first = slab.address + cache.red_left_pad
    names = [
        str((at - first) // cache.size) if is_object(cache, slab, at) else model.name(slab, at)
        for at in found.objects[:LISTED]
    ]
    more = len(found.objects) - LISTED
    if more > 0:
        names.append(text("slab_map.more", count=f"{more:,}"))
    return " → ".join([*names, model.ending(slab, found)])


def bytes_text(model: CacheModel, n: int, index: int) -> str:
    """Return an object's line and its bytes as text."""
    rows = [row_text(row) for row in byte_rows(model, n, index)]
    return "\n".join([text("slab_map.selected", line=model.line(n, index)), *rows])
