"""Recordings of a real kernel's page allocator: reading them, and their start state as a snapshot.

`Kernel.from_recording()` uses this, and `replay` to play them. The format is described in
docs/recordings.md: a JSON object with the zones at the start (free lists, counters, per-CPU lists),
`ops`, `results`, and the snapshots taken in between.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

from kmemkit.mm.mmzone import (
    ALLOCATED,
    FREE,
    HOLE,
    MAX_PAGE_ORDER,
    MIGRATE_TYPES,
    NO_PAGEBLOCK,
    PAGEBLOCK_ORDER,
    PCP,
    PCP_LISTS,
)
from kmemkit.mm.pcp import pindex_to_order
from kmemkit.snapshot import PcpSnapshot, Snapshot, ZoneSnapshot

__all__ = ("BLOCK_LETTERS", "check_trace", "load_recording", "recorded_start", "start_snapshot")

#: One letter a pageblock in recordings.
BLOCK_LETTERS = "UMRHI"
_ZONE_KEYS = (
    "nid",
    "idx",
    "name",
    "start",
    "spanned",
    "present",
    "managed",
    "free_est",
    "free_lists",
    "blocks",
)
_TRACE_KEYS = ("ops", "results", "snaps")
MOST_BYTES = 256 << 20  # the biggest recording so far has 2 MB
MOST_PFN = 1 << 26  # 256 GiB: a recording of more is a mistake, or hostile


def load_recording(path: str | PathLike[str]) -> dict[str, Any]:
    """Return a recording file's contents (.json or .json.gz).

    Raises:
        ValueError: not JSON, cut short, or not an object. OSError: not readable.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
        recording = json.loads(data.decode("utf-8"))
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile, RecursionError) as error:
        raise ValueError(f"{path}: not a recording: {error} (is the file complete?)") from None
    if isinstance(recording, list) and recording and all(map(_is_cell, recording)):
        return {"cells": recording}
    if not isinstance(recording, dict):
        raise ValueError(f"{path}: not a recording: a JSON object is expected")
    return recording


def _is_cell(row: object) -> bool:
    """Whether a row is a cell of recorded misuse."""
    return isinstance(row, dict) and row.keys() >= {"cell", "kernel", "kind"}


def start_snapshot(recording: str | PathLike[str] | Mapping[str, Any]) -> Snapshot:
    """Return the machine a trace starts from.

    What is allocated already is unknown to the recording; those pages are shown as single pages of
    their pageblock's type, owned by "before the recording".

    Raises:
        TypeError: neither a path nor a mapping. ValueError: not a trace; the message names what is
            missing or wrong.
    """
    if isinstance(recording, str | PathLike):
        recording = load_recording(recording)
    if not isinstance(recording, Mapping):
        raise TypeError(f"{recording!r} is not a recording; give a file's path or its contents")
    check_trace(recording)
    try:
        return _snapshot(recording)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        if str(error).startswith("recording:"):
            raise
        raise ValueError(f"recording: start is not as docs/recordings.md says: {error!r}") from None


def check_trace(recording: Mapping[str, Any]) -> None:
    """Raise ValueError unless `recording` has the parts of a page allocator trace."""
    missing = [key for key in _TRACE_KEYS if not isinstance(recording.get(key), list)]
    if missing:
        raise ValueError(f"recording: not a page allocator trace: no {', '.join(missing)}")
    if len(recording["ops"]) != len(recording["results"]):
        raise ValueError(
            f"recording: {len(recording['ops'])} ops but {len(recording['results'])} results; "
            "is the file complete?"
        )
    start = recorded_start(recording)
    for name, zone in start.items():
        lacking = [key for key in _ZONE_KEYS if not isinstance(zone, Mapping) or key not in zone]
        if lacking:
            raise ValueError(f"recording: zone {name}: no {', '.join(lacking)}")
        start_pfn, spanned = zone["start"], zone["spanned"]
        whole = isinstance(start_pfn, int) and isinstance(spanned, int)
        if not whole or not 0 <= start_pfn <= start_pfn + spanned <= MOST_PFN:
            raise ValueError(f"recording: zone {name}: its span is not a possible one")


def recorded_start(recording: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the zones a trace starts from: its `start`, or else its first snapshot."""
    start = recording.get("start") or next(iter(recording.get("snaps", ())), None)
    if not isinstance(start, Mapping) or not start:
        raise ValueError("recording: no zones to start from")
    return start


def _boost_factor(recording: Mapping[str, Any]) -> int:
    """Return vm.watermark_boost_factor of the recorded machine."""
    for step in recording.get("setup", ()):
        name, _, value = str(step).partition(" ")
        if name == "boost" and value.isdigit():
            return int(value)
    return int(recording.get("watermark_boost_factor", 15000))


def _snapshot(recording: Mapping[str, Any]) -> Snapshot:
    zones = [_zone(recorded) for recorded in recorded_start(recording).values()]
    end = max(zone.end_pfn for zone in zones)
    pages = bytearray([HOLE]) * end
    for zone in zones:
        _fill_column(pages, zone)
    owners = bytearray(end)
    for zone in zones:
        owners[zone.start_pfn : zone.end_pfn] = b"\1" * zone.spanned
    cpus = max(len(zone.pcps) for zone in zones)
    vm = {
        "watermark_boost_factor": _boost_factor(recording),
        "check_pages": "init_on_alloc=0" not in recording.get("cmdline", ""),
    }
    nodes = max(zone.nid for zone in zones) + 1
    return Snapshot(
        release="6.12",
        zones=tuple(zones),
        pages=bytes(pages),
        owners=bytes(owners),
        owner_names=("", "before the recording"),
        settings={"vm": vm, "nodes": nodes, "cpus": cpus},
    )


def _zone(z: Mapping[str, Any]) -> ZoneSnapshot:
    lists: dict[tuple[int, int], tuple[dict[int, None], dict[int, None]]] = {}
    for key, pfns in z["free_lists"].items():
        order, migratetype = map(int, key.split(","))
        if not (0 <= order <= MAX_PAGE_ORDER and 0 <= migratetype < MIGRATE_TYPES):
            raise ValueError(f"recording: there is no free list {key!r}")
        lists[order, migratetype] = ({}, dict.fromkeys(pfns))
        if len(lists[order, migratetype][1]) < len(pfns):
            raise ValueError(f"recording: free list {key!r} has a page twice")
    letters = z["blocks"]
    touched = (z["start"] + z["spanned"] - 1 >> PAGEBLOCK_ORDER) - (z["start"] >> PAGEBLOCK_ORDER)
    if len(letters) != touched + 1:
        raise ValueError(
            f"recording: zone {z['name']} has {touched + 1} pageblocks, not {len(letters)}"
        )
    blocks = bytes(BLOCK_LETTERS.index(c) if c in BLOCK_LETTERS else NO_PAGEBLOCK for c in letters)
    pcps = [
        _pcp(pcp) for _, pcp in sorted(z.get("pcps", {}).items(), key=lambda item: int(item[0]))
    ]
    pcps = pcps or [PcpSnapshot()]
    # one CPU made the recording, so all that is not folded yet is its own
    pcps[0] = replace(pcps[0], stat_diff=z["free"] - z["free_est"])
    return ZoneSnapshot(
        nid=z["nid"], idx=z["idx"], name=z["name"], start_pfn=z["start"], spanned=z["spanned"],
        present=z["present"], managed=z["managed"], free_est=z["free_est"], min=z["min"],
        low=z["low"], high=z["high"], promo=z["promo"], boost=z["boost"],
        nr_reserved_highatomic=z["hiat"], nr_free_highatomic=z["hiatfree"], flags=z["flags"],
        stat_threshold=z["thr"], percpu_drift_mark=z["drift"], lowmem_reserve=tuple(z["reserve"]),
        max_order=10, pageblock_order=PAGEBLOCK_ORDER, pageblocks=blocks, movable={int(block): pages
        for block, pages in z["movable"].items()}, pcps=tuple(pcps),
        _lists=lists,
    )  # fmt: skip


def _pcp(p: Mapping[str, Any]) -> PcpSnapshot:
    if not all(0 <= int(index) < PCP_LISTS for index in p["lists"]):
        raise ValueError(f"recording: per-CPU lists are numbered 0 to {PCP_LISTS - 1}")
    return PcpSnapshot(
        p["count"], p["high"], p["high_min"], p["high_max"], p["batch"], p["alloc_factor"],
        p["free_count"], p["flags"],
        {int(index): tuple(pfns) for index, pfns in p["lists"].items()},
    )  # fmt: skip


def _fill_column(pages: bytearray, zone: ZoneSnapshot) -> None:
    """Write a zone's pages: in use by somebody, then the free and per-CPU blocks over it."""
    first = zone.start_pfn >> zone.pageblock_order
    for number, migratetype in enumerate(zone.pageblocks):
        low = max((first + number) << zone.pageblock_order, zone.start_pfn)
        high = min((first + number + 1) << zone.pageblock_order, zone.end_pfn)
        if migratetype != NO_PAGEBLOCK:
            pages[low:high] = bytes([ALLOCATED + (min(migratetype, 2) << 4)]) * (high - low)
    for (order, _), pfns in zone.free_lists().items():
        for pfn in pfns:
            _write_block(pages, zone, pfn, FREE | order)
    for pcp in zone.pcps:
        for index, pfns in pcp.lists.items():
            for pfn in pfns:
                _write_block(pages, zone, pfn, PCP | pindex_to_order(index))


def _write_block(pages: bytearray, zone: ZoneSnapshot, pfn: int, byte: int) -> None:
    size = 1 << (byte & 15)
    if not zone.start_pfn <= pfn <= zone.end_pfn - size or pfn % size:
        raise ValueError(f"recording: {pfn:#x} can't be the first page of a block of {size} pages")
    if min(pages[pfn : pfn + size]) < ALLOCATED:
        raise ValueError(f"recording: {pfn:#x} is on two lists, or where there is no memory")
    pages[pfn : pfn + size] = bytes([byte]) + bytes(size - 1)
