"""A recorded compaction as steps: where the scanners stand, and the pages after each move.

Compaction walks through these. Each is worked out from the events of the run: a page that moved
leaves its place free and stands at the other. A sequence of `Step`s, so PageMap can show it as a
history; a snapshot is made when somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

from kmemkit.snapshot import Event, Kind, Snapshot, Step, Why, size_text
from kmemkit.strings import text

__all__ = ("Moves", "Scan", "largest_free")


@dataclass(frozen=True, slots=True)
class Scan:
    """One step. Pfns; a range is [first, end), -1 stands for "nowhere".

    `kind` is "start", "begin", "migrate" (pages to move are collected in a range), "free" (room for
    them is), "move" (a page goes from `src` to `dst`), "end" (of a zone) or "after".
    """

    kind: str
    migrate: int = -1  #: the migrate scanner looks at what starts here
    free: int = -1  #: the free scanner looks at what ends here
    first: int = -1
    end: int = -1
    taken: int = 0
    src: int = -1
    dst: int = -1
    status: str = ""
    moved: int = 0  #: pages moved up to here


def largest_free(snapshot: Snapshot, first: int, end: int) -> int:
    """Return the order of the largest free block in [first, end), -1 if nothing is free."""
    column = snapshot.pages[first - snapshot.first_pfn : end - snapshot.first_pfn]
    return max((byte & 15 for byte in set(column) if byte >> 4 == Kind.FREE), default=-1)


def _number(value: object) -> int:
    """Return a field of an event as a number; pfns are hex text."""
    return int(value, 16) if isinstance(value, str) else int(str(value))


def _scans(events: Sequence[Event]) -> Iterator[Scan]:
    """Yield a step for each event of compaction, each knowing what the ones before said."""
    now = Scan("start")
    yield now
    for event in events:
        fields = dict(event.fields)
        if event.name == "mm_compaction_begin":
            now = Scan("begin", _number(fields["migrate_pfn"]), _number(fields["zone_end"]),
                       moved=now.moved)  # fmt: skip
        elif event.name == "mm_compaction_isolate_migratepages":
            now = replace(
                now, kind="migrate", migrate=_number(fields["start_pfn"]), **_range(fields)
            )
        elif event.name == "mm_compaction_isolate_freepages":
            now = replace(now, kind="free", free=_number(fields["end_pfn"]), **_range(fields))
        elif event.name == "migrate_folio":
            now = replace(now, kind="move", src=_number(fields["src"]), dst=_number(fields["dst"]),
                          moved=now.moved + 1)  # fmt: skip
        elif event.name == "mm_compaction_end":
            now = replace(now, kind="end", migrate=_number(fields["migrate_pfn"]),
                          status=str(fields["status"]))  # fmt: skip
        else:
            continue
        yield now
    yield replace(now, kind="after")


def _range(fields: dict[str, object]) -> dict[str, Any]:
    return {
        "first": _number(fields["start_pfn"]),
        "end": _number(fields["end_pfn"]),
        "taken": _number(fields["nr_taken"]),
    }


class _Column:
    """The pages of a machine while single pages move; free neighbours merge as buddies do."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._before = snapshot
        self._pages = bytearray(snapshot.pages)
        self._owners = bytearray(snapshot.owners)

    def move(self, src: int, dst: int) -> None:
        """Let the page at `src` stand at `dst`, and leave its place free."""
        base = self._before.first_pfn
        byte, owner = self._pages[src - base], self._owners[src - base]
        self._take(dst)
        self._pages[dst - base], self._owners[dst - base] = byte, owner
        self._release(src)

    def _take(self, pfn: int) -> None:
        """Cut one page out of the free block that it is in."""
        base = self._before.first_pfn
        for order in range(16):
            head = pfn >> order << order
            if head >= base and self._pages[head - base] == Kind.FREE << 4 | order:
                break
        else:
            return  # collected already, so off the free lists
        while order:
            order -= 1
            half = head + (1 << order)
            upper = pfn >= half
            self._pages[(head if upper else half) - base] = Kind.FREE << 4 | order
            head = half if upper else head

    def _release(self, pfn: int) -> None:
        base, zone = self._before.first_pfn, self._before.zone_of(pfn)
        order = 0
        self._pages[pfn - base] = 0
        while zone and order < zone.max_order:
            buddy = pfn ^ (1 << order)
            inside = zone.start_pfn <= buddy < zone.end_pfn
            if not inside or self._pages[buddy - base] != Kind.FREE << 4 | order:
                break
            self._pages[buddy - base] = 0
            pfn &= ~(1 << order)
            order += 1
        self._pages[pfn - base] = Kind.FREE << 4 | order

    def snapshot(self) -> Snapshot:
        """Return the machine with these pages; nothing is known of the order of its free lists."""
        zones = tuple(replace(zone, _lists={}) for zone in self._before.zones)
        pages, owners = bytes(self._pages), bytes(self._owners)
        return replace(self._before, zones=zones, pages=pages, owners=owners, lru=b"")


class Moves(Sequence[Step]):
    """The steps of one compaction.

    Args:
        before: the machine before the call that compacted.
        events: the events of the call.
        after: the machine after it, if known; the last step shows it.
        call, result, why: of the call.
    """

    def __init__(
        self,
        before: Snapshot,
        events: Sequence[Event],
        after: Snapshot | None = None,
        *,
        call: str = "",
        result: str = "",
        why: Why | None = None,
    ) -> None:
        self.before, self.after = before, after
        self.call, self.result, self.why = call, result, why
        self.scans = tuple(_scans(events))
        self._column, self._built = _Column(before), 0

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | Sequence[Step]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return Step(self.say(at), "", True, (), None, self._snapshot(at))

    def __len__(self) -> int:
        return len(self.scans)

    @property
    def moved(self) -> int:
        """How many pages moved in all."""
        return self.scans[-1].moved

    def say(self, at: int) -> str:
        """Return what happened in one step, as a sentence."""
        scan, what = self.scans[at], self.call or text("compaction.the_call")
        fields: dict[str, object] = {}
        if scan.kind in ("start", "after"):
            ended = scan.kind == "after" and self.result
            fields = {"what": f"{what} → {self.result}" if ended else what}
        elif scan.kind == "begin":
            fields = {"migrate": f"{scan.migrate:#x}", "free": f"{scan.free - 1:#x}"}
        elif scan.kind in ("migrate", "free"):
            pages = scan.end - scan.first
            fields = {"first": f"{scan.first:#x}", "last": f"{scan.end - 1:#x}", "pages": pages,
                      "size": size_text(pages), "taken": scan.taken}  # fmt: skip
        elif scan.kind == "move":
            fields = {"src": f"{scan.src:#x}", "dst": f"{scan.dst:#x}"}
        else:
            fields = {"status": scan.status, "moved": scan.moved}
        return text(f"compaction.step.{scan.kind}", **fields)

    def _snapshot(self, at: int) -> Snapshot:
        if at == 0:
            return self.before
        if self.scans[at].kind == "after" and self.after is not None:
            return self.after
        if at < self._built:
            self._column, self._built = _Column(self.before), 0
        for scan in self.scans[self._built + 1 : at + 1]:
            if scan.kind == "move":
                self._column.move(scan.src, scan.dst)
        self._built = at
        return self._column.snapshot()
