"""The bytes of one object as SlabMap shows them: rows of 16, region by region, damage marked.

Pure functions of a CacheModel; SlabMap sends the rows, and writes the same ones in its text twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from kmemkit.slab_memory import Region
from kmemkit.slab_snapshot import SlabSnapshot
from kmemkit.strings import text
from kmemkit.views._slab_model import RANK, CacheModel

__all__ = ("REGION_LETTERS", "Row", "byte_rows", "row_text")

WIDTH = 16
#: The letter of each region.
REGION_LETTERS = {
    "left": "L", "object": "O", "poison": "K", "right": "R", "pointer": "F", "tracks": "T",
    "asked": "S", "padding": "P",
}  # fmt: skip


class Row(NamedTuple):
    """One row: `at` counts from the object in bytes, `bad` are places in `data` that are damaged.

    `first` is set on the first row of a region, `more` is the number of rows alike left out,
    `alarm` whether `note` tells of damage.
    """

    kind: str
    at: int
    data: bytes
    bad: tuple[int, ...] = ()
    note: str = ""
    first: bool = False
    more: int = 0
    alarm: bool = False

    @property
    def offset(self) -> str:
        """Where the row begins, counted from the object."""
        return f"{'-' if self.at < 0 else '+'}{abs(self.at):#06x}"

    @property
    def letters(self) -> str:
        """The characters that the bytes are, a dot for what none can see."""
        return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in self.data)


def byte_rows(model: CacheModel, n: int, index: int) -> list[Row]:
    """Return the rows of an object of the slab at place `n` of the model."""
    state = model.states[n]
    free = bool(state.words[index] & RANK)
    at = model.address(n, index)
    regions = model.memory.regions(model.cache, state.slab, at, free)
    return [row for one in regions for row in _region_rows(model, state.slab, at, one)]


def _region_rows(model: CacheModel, slab: SlabSnapshot, at: int, region: Region) -> Iterator[Row]:
    """Yield the rows of one region; who had an object stands there in words."""
    if region.kind == "tracks":
        for n, note in enumerate(_tracks(model, at)):
            yield Row(region.kind, region.start + 32 * n, b"", (), note, n == 0)
        return
    note, damaged = _note(model, slab, at, region), set(region.damaged)
    alike, last = 0, Row("", 0, b"")
    for start in range(0, len(region.data), WIDTH):
        data = region.data[start : start + WIDTH]
        bad = tuple(n - start for n in range(start, start + len(data)) if n in damaged)
        if data == last.data and len(data) == WIDTH and not bad and not last.bad:
            alike += 1
            continue
        yield from _alike(last, alike)
        alike = 0
        alarm = bool(note and damaged)
        last = Row(region.kind, region.start + start, data, bad, note, start == 0, 0, alarm)
        note = ""
        yield last
    yield from _alike(last, alike)


def _alike(last: Row, count: int) -> Iterator[Row]:
    """Yield what follows a row, `count` rows like it: one is written out, more are counted."""
    if count:
        more = count if count > 1 else 0
        yield last._replace(at=last.at + WIDTH, note="", first=False, more=more, alarm=False)


def _note(model: CacheModel, slab: SlabSnapshot, at: int, region: Region) -> str:
    """Return what is to be said of a region."""
    if region.kind == "pointer":
        if region.astray:
            return text("slab_map.bytes.pointer_astray", what=f"{region.leads:#x}")
        if not region.leads:
            return text("slab_map.bytes.pointer_last")
        return text("slab_map.bytes.pointer", what=model.name(slab, region.leads))
    if region.kind == "asked":
        return text("slab_map.bytes.asked", size=model.memory.asked.get(at, 0))
    if not region.damaged or region.expected is None:
        return ""
    first = region.damaged[0]
    return text(
        "slab_map.bytes.damaged",
        count=len(region.damaged), size=len(region.data), at=f"{region.start + first:+#x}",
        found=f"{region.data[first]:#04x}", wanted=f"{region.expected[first]:#04x}",
    )  # fmt: skip


def _tracks(model: CacheModel, at: int) -> Iterator[str]:
    """Yield who allocated an object, and who freed it."""
    known = model.memory.tracks.get(at, {})
    for what, key in (("Allocated", "allocated"), ("Freed", "freed")):
        track = known.get(what)
        if track is None:
            yield text(f"slab_map.bytes.never_{key}")
        else:
            who = text(f"slab_map.who_{key}", where=track.where, cpu=track.cpu, pid=track.pid)
            yield text("slab_map.bytes.track", who=who, us=f"{track.when / 1000:,.1f}")


def row_text(row: Row) -> str:
    """Return a row as a line of text; ! stands before each damaged byte."""
    label = text(f"slab_map.region.{row.kind}") if row.first else ""
    head = f"{REGION_LETTERS[row.kind]} {label:<16} {row.offset}"
    if row.more:
        return f"{head}  {text('slab_map.bytes.more', count=row.more)}"
    if not row.data:
        return f"{head}  {row.note}"
    pairs = (f"{'!' if n in row.bad else ' '}{byte:02x}" for n, byte in enumerate(row.data))
    note = f"  {row.note}" if row.note else ""
    return f"{head} {''.join(pairs):<48}  {row.letters:<16}{note}".rstrip()


def row_state(row: Row) -> dict[str, Any]:
    """Return a row as the page gets it."""
    return {
        "kind": row.kind,
        "letter": REGION_LETTERS[row.kind],
        "label": text(f"slab_map.region.{row.kind}") if row.first else "",
        "at": row.offset,
        "hex": [] if row.more else [f"{byte:02x}" for byte in row.data],
        "bad": list(row.bad),
        "letters": "" if row.more else row.letters,
        "note": text("slab_map.bytes.more", count=row.more) if row.more else row.note,
        "alarm": row.alarm,
    }
