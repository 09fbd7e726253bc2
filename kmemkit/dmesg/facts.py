"""What the lines of a report add to its first: bytes, addresses, who had the object, what was done.

`reports()` calls facts() with the lines it kept. Every function here looks at those lines only, and
returns sentences.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from kmemkit.dmesg.addresses import meaning
from kmemkit.strings import text

__all__ = ("facts",)

#: Reports whose first line has the address that was touched.
OOPSES = ("null", "page_fault", "protection_fault")
#: What a byte means in a report of SLUB's.
BYTES = {
    0x00: "zero", 0x6B: "free", 0xA5: "end", 0x5A: "padding", 0xBB: "inactive", 0xCC: "active",
}  # fmt: skip
#: What KASAN's shadow byte says of eight bytes of memory (mm/kasan/kasan.h).
SHADOW = {
    0x00: "whole", 0xFA: "slab_freed", 0xFB: "slab_freed", 0xFC: "slab_redzone",
    0xFE: "page_redzone", 0xFF: "page_freed", 0xF8: "vmalloc", 0xF9: "global",
    0xF1: "stack", 0xF2: "stack", 0xF3: "stack", 0xF4: "stack",
}  # fmt: skip
#: "page dumped because: <this>" -> key under [explain.page].
REASONS = (
    ("VM_BUG_ON_PAGE(page_ref_count(page) == 0", "no_reference"),
    ("VM_BUG_ON_PAGE(compound && compound_order", "wrong_order"),
    ("nonzero _refcount", "refcount"),
    ("nonzero mapcount", "mapcount"),
    ("non-NULL mapping", "mapping"),
    ("corrupted mapping in tail page", "tail"),
    ("PAGE_FLAGS_CHECK_AT", "flags"),
    ("page still charged to cgroup", "cgroup"),
)
#: "FIX <cache>: <this>" -> key under [explain.fix].
FIXES = (
    ("Restoring", "restored"),
    ("Marking all objects used", "all_used"),
    ("Object at", "not_freed"),
    ("Freelist cleared", "cleared"),
    ("Object count adjusted", "adjusted"),
)

_WRONG = re.compile(r"First byte (0x[0-9a-f]{1,2}) instead of (0x[0-9a-f]{1,2})")
_DUMP = re.compile(r"(Redzone|Bytes b4|Object|Padding) +[0-9a-f]{8,16}: ((?:[0-9a-f]{2} ){0,16})")
_TRACK = re.compile(r"(Allocated|Freed) (?:in|by) (\S{1,80})")
_ACCESS = re.compile(r"#PF: supervisor (read|write|instruction fetch) ?(?:access)?")
_KASAN = re.compile(r"(Read|Write) of size (\d+) at addr")
_PLACE = re.compile(
    r"The buggy address is located (\d+) bytes (inside of|to the right of|to the left of)"
)
_REGION = re.compile(r" *(allocated |freed )?(\d+)-byte region")
_PAGE = re.compile(r"page: ?refcount:(-?\d+)")
_TYPE = re.compile(r"page_type: \S*\((\w+)\)")
_OOPS = re.compile(r"(?:Oops: )+.*\[#(\d+)\]")
_RIP = re.compile(r"RIP: 0010:(\w+)")
_CACHE = re.compile(r" *cache: (\S+), object size: (\d+), buffer size: (\d+)")
_INJECTED = re.compile(r"name (\w+), interval")
_COMM = re.compile(r' *comm "([^"]{0,32})", pid (\d+)')
_TAINTED = re.compile(r"Tainted: [A-Z ]*B")


def facts(kind: str, parts: dict[str, str], lines: Sequence[str]) -> tuple[str, ...]:
    """Return the sentences that the lines of a report allow beyond its kind's own."""
    found = [
        *_address_facts(kind, parts), *_byte_facts(lines), *_page_facts(kind, lines),
        *_kasan_facts(lines), *_owner_facts(kind, lines), *_state_facts(kind, parts, lines),
    ]  # fmt: skip
    return tuple(dict.fromkeys(found))


def _first(pattern: re.Pattern[str], lines: Sequence[str]) -> re.Match[str] | None:
    return next((found for line in lines if (found := pattern.match(line))), None)


def _address_facts(kind: str, parts: dict[str, str]) -> Iterator[str]:
    if "address" in parts and kind in OOPSES:
        key, values = meaning(int(parts["address"], 16))
        yield text(f"explain.address.{key}", **values)


# -- bytes ----------------------------------------------------------------------------------------


def _byte_facts(lines: Sequence[str]) -> Iterator[str]:
    """Name the bytes that a SLUB report shows."""
    for line in lines[:4]:
        found = _WRONG.search(line)
        if found:
            got, want = int(found[1], 16), int(found[2], 16)
            yield text("explain.fact.wrong", got=_byte(got), want=_byte(want))
            break
    rows = [found for line in lines if (found := _DUMP.match(line + " "))]
    shown = []
    for name, group in groupby(rows, key=lambda row: row[1]):
        data = bytes.fromhex("".join(row[2] for row in group))
        if data and name != "Bytes b4":
            shown.append(f"{name} {_summary(data)}")
    if shown:
        yield text("explain.fact.dump", shown="; ".join(shown))


def _summary(data: bytes) -> str:
    """Return which bytes there are and how often, the most frequent first."""
    parts: list[str] = []
    rest = 0
    for value, count in Counter(data).most_common():
        if value in BYTES or (len(parts) < 2 and not rest):
            parts.append(f"{count} x {_byte(value)}")
        else:
            rest += count
    if rest:
        parts.append(text("explain.fact.others", count=rest))
    return ", ".join(parts)


def _byte(value: int) -> str:
    """Return a byte with what it stands for."""
    if value in BYTES:
        return f"{value:#04x} ({text(f'explain.byte.{BYTES[value]}')})"
    return f"{value:#04x} ('{chr(value)}')" if 0x20 < value < 0x7F else f"{value:#04x}"


# -- pages ----------------------------------------------------------------------------------------


def _page_facts(kind: str, lines: Sequence[str]) -> Iterator[str]:
    """Say what a dumped page's state means; KASAN dumps sound pages, too."""
    if kind not in ("bad_page", "dump_page"):
        return
    for line in lines:
        reason = line.partition("page dumped because: ")[2]
        if reason:
            yield from (
                text(f"explain.page.{key}") for begin, key in REASONS if reason.startswith(begin)
            )
            break
    page = _first(_TYPE, lines)
    if page and page[1] in ("slab", "buddy"):
        yield text(f"explain.page.{page[1]}")
    count = _first(_PAGE, lines)
    if count and int(count[1]) < 0:
        yield text("explain.page.negative", count=count[1])


# -- KASAN ----------------------------------------------------------------------------------------


def _kasan_facts(lines: Sequence[str]) -> Iterator[str]:
    """Say what was touched, where it lies, and what the shadow byte of it means."""
    access = _first(_KASAN, lines)
    if access:
        yield text(f"explain.fact.{access[1].lower()}_of", size=access[2])
    for number, line in enumerate(lines[:-1]):
        place, region = _PLACE.match(line), _REGION.match(lines[number + 1])
        if place and region:
            state = (region[1] or "").strip() or "allocated"
            side = {"inside of": "inside", "to the right of": "behind"}.get(place[2], "before")
            yield text(
                f"explain.fact.{side}", distance=place[1], size=region[2],
                state=text(f"explain.fact.{state}"),
            )  # fmt: skip
            break
    yield from _shadow_facts(lines)


def _shadow_facts(lines: Sequence[str]) -> Iterator[str]:
    for row, mark in pairwise(lines):
        if row.startswith(">") and mark.strip() == "^":
            at = mark.index("^")
            word = row[max(at - 1, 0) : at + 2].strip(" []")[-2:]
            if re.fullmatch(r"[0-9a-f]{2}", word):
                value = int(word, 16)
                key = "part" if 0 < value < 8 else SHADOW.get(value)
                if key:
                    yield text("explain.fact.shadow", value=f"{value:#04x}",
                               meaning=text(f"explain.shadow.{key}", count=value))  # fmt: skip
            return


# -- who, and what now ----------------------------------------------------------------------------


def _owner_facts(kind: str, lines: Sequence[str]) -> Iterator[str]:
    """Say who allocated and freed the object, as far as the report knows."""
    tracks = {found[1]: found[2] for line in lines if (found := _TRACK.match(line))}
    if "task" in tracks.values():
        yield text("explain.fact.stacks")
    elif len(tracks) == 2:
        yield text("explain.fact.had", allocated=tracks["Allocated"], freed=tracks["Freed"])
    elif tracks:
        what, who = next(iter(tracks.items()))
        yield text(f"explain.fact.{what.lower()}_in", who=who)
    injected = _first(_INJECTED, lines)
    if kind == "fault_injected" and injected:
        yield text("explain.fact.injected", name=injected[1])
    comm = _first(_COMM, lines)
    if kind == "kmemleak_object" and comm:
        yield text("explain.fact.leaked_by", comm=comm[1], pid=comm[2])
    cache = _first(_CACHE, lines)
    if kind == "slab_failed" and cache:
        yield text("explain.fact.cache", cache=cache[1], size=cache[2], slot=cache[3])


def _state_facts(kind: str, parts: dict[str, str], lines: Sequence[str]) -> Iterator[str]:
    """Say what the kernel did then, and whether it was in order before."""
    access = _first(_ACCESS, lines)
    if access and access[1] != "instruction fetch":
        yield text(f"explain.fact.{access[1]}")
    rip = _first(_RIP, lines)
    if rip and kind == "protection_fault" and rip[1].startswith(("__kmalloc", "kmem_cache_alloc")):
        yield text("explain.fact.in_allocator", function=rip[1])
    for line in lines:
        what = line.partition(": ")[2] if line.startswith("FIX ") else ""
        for begin, key in FIXES:
            if what.startswith(begin):
                yield text(f"explain.fix.{key}")
    if _TAINTED.match(parts.get("taint", "")):
        yield text("explain.fact.tainted")
    oops = _first(_OOPS, lines)
    if oops and int(oops[1][:9]) > 1:
        yield text("explain.fact.oops", number=oops[1][:9])
    if kind != "panic" and any(line.startswith("Kernel panic") for line in lines[1:]):
        yield text("explain.fact.panic")
