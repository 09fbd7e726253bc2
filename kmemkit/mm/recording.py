"""Recorded page allocator traces: the start state as a snapshot, and playing one against a Kernel.

`Kernel.from_recording()` and `kmemkit verify` use this. The format is described in
docs/recordings.md: a JSON object with `start` (free lists, counters and per-CPU lists of each zone),
`ops`, `results` and the snapshots taken in between.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from kmemkit.mm.kernel import Kernel
from kmemkit.mm.mmzone import ALLOCATED, FREE, HOLE, NO_PAGEBLOCK, PAGEBLOCK_ORDER, PCP
from kmemkit.mm.pcp import pindex_to_order
from kmemkit.snapshot import PcpSnapshot, Snapshot, ZoneSnapshot

__all__ = ("Mismatch", "TraceResult", "load_recording", "play_trace", "start_snapshot")

#: One letter a pageblock in recordings.
BLOCK_LETTERS = "UMRHI"
_ZONE_KEYS = ("nid", "idx", "name", "start", "spanned", "present", "managed", "free_est", "free_lists", "blocks")
_TRACE_KEYS = ("start", "ops", "results", "snaps", "end")
MOST_PFN = 1 << 26  # 256 GiB: a recording of more is a mistake, or hostile


def load_recording(path: str | PathLike[str]) -> dict[str, Any]:
    """Return a recording file's contents (.json or .json.gz).

    Raises:
        ValueError: not JSON, cut short, or not an object. OSError: not readable.
    """
    data = Path(path).read_bytes()
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
        recording = json.loads(text)
    except (ValueError, EOFError, OSError, RecursionError) as error:
        raise ValueError(f"{path}: not a recording: {error} (is the file complete?)") from None
    if not isinstance(recording, dict):
        raise ValueError(f"{path}: not a recording: a JSON object is expected")
    return recording


def start_snapshot(recording: str | PathLike[str] | Mapping[str, Any]) -> Snapshot:
    """Return the machine a trace starts from.

    What is allocated already is unknown to the recording; those pages are shown as single pages of
    their pageblock's type, owned by "before the recording".

    Raises:
        ValueError: not a trace; the message names what is missing or wrong.
    """
    if not isinstance(recording, Mapping):
        recording = load_recording(recording)
    check_trace(recording)
    try:
        return _snapshot(recording)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"recording: start is not as docs/recordings.md says: {error!r}") from None


def check_trace(recording: Mapping[str, Any]) -> None:
    """Raise ValueError unless `recording` has the parts of a page allocator trace."""
    missing = [key for key in _TRACE_KEYS if key not in recording]
    if missing:
        raise ValueError(f"recording: not a page allocator trace: no {', '.join(missing)}")
    if not isinstance(recording["start"], Mapping) or not recording["start"]:
        raise ValueError("recording: start holds no zone")
    for name, zone in recording["start"].items():
        lacking = [key for key in _ZONE_KEYS if key not in zone]
        if lacking:
            raise ValueError(f"recording: zone {name}: no {', '.join(lacking)}")
        if not 0 <= zone["start"] <= zone["start"] + zone["spanned"] <= MOST_PFN:
            raise ValueError(f"recording: zone {name}: its span is not a possible one")


def _snapshot(recording: Mapping[str, Any]) -> Snapshot:
    zones = [_zone(recorded) for recorded in recording["start"].values()]
    end = max(zone.end_pfn for zone in zones)
    pages = bytearray([HOLE]) * end
    for zone in zones:
        _fill_column(pages, zone)
    owners = bytearray(end)
    for zone in zones:
        owners[zone.start_pfn : zone.end_pfn] = b"\1" * zone.spanned
    cpus = max(len(zone.pcps) for zone in zones)
    vm = {
        "watermark_boost_factor": recording.get("watermark_boost_factor", 15000),
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
    lists = {}
    for key, pfns in z["free_lists"].items():
        order, migratetype = map(int, key.split(","))
        lists[order, migratetype] = ({}, dict.fromkeys(pfns))
    letters = z["blocks"]
    blocks = bytes(BLOCK_LETTERS.index(c) if c in BLOCK_LETTERS else NO_PAGEBLOCK for c in letters)
    pcps = [_pcp(pcp) for _, pcp in sorted(z.get("pcps", {}).items(), key=lambda item: int(item[0]))]
    if pcps:
        # one CPU made the recording, so all that is not folded yet is its own
        pcps[0] = PcpSnapshot(**{**_fields(pcps[0]), "stat_diff": z["free"] - z["free_est"]})
    return ZoneSnapshot(
        nid=z["nid"], idx=z["idx"], name=z["name"], start_pfn=z["start"], spanned=z["spanned"],
        present=z["present"], managed=z["managed"], free_est=z["free_est"], min=z["min"], low=z["low"],
        high=z["high"], promo=z["promo"], boost=z["boost"], nr_reserved_highatomic=z["hiat"],
        nr_free_highatomic=z["hiatfree"], flags=z["flags"], stat_threshold=z["thr"],
        percpu_drift_mark=z["drift"], lowmem_reserve=tuple(z["reserve"]), max_order=10,
        pageblock_order=PAGEBLOCK_ORDER, pageblocks=blocks,
        movable={int(block): pages for block, pages in z["movable"].items()},
        pcps=tuple(pcps) or (PcpSnapshot(),), _lists=lists,
    )  # fmt: skip


def _fields(pcp: PcpSnapshot) -> dict[str, Any]:
    return {name: getattr(pcp, name) for name in PcpSnapshot.__slots__}


def _pcp(p: Mapping[str, Any]) -> PcpSnapshot:
    return PcpSnapshot(
        p["count"], p["high"], p["high_min"], p["high_max"], p["batch"], p["alloc_factor"],
        p["free_count"], p["flags"], {int(index): tuple(pfns) for index, pfns in p["lists"].items()},
    )  # fmt: skip


def _fill_column(pages: bytearray, zone: ZoneSnapshot) -> None:
    """Write one zone's pages: in use by somebody, then every free block and per-CPU block over it."""
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
    pages[pfn : pfn + size] = bytes([byte]) + bytes(size - 1)


# -- play -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One place where the simulated kernel and the recording disagree."""

    where: str
    recorded: object
    simulated: object

    def __str__(self) -> str:
        return f"{self.where}: recorded {self.recorded}, simulated {self.simulated}"


@dataclass(frozen=True, slots=True)
class TraceResult:
    """How a trace went: results and snapshots matched and compared, and what did not match."""

    results: tuple[int, int]
    snapshots: tuple[int, int]
    mismatches: tuple[Mismatch, ...]

    @property
    def ok(self) -> bool:
        """Whether everything matched, and something was compared."""
        return not self.mismatches and self.results[1] + self.snapshots[1] > 0


def play_trace(recording: Mapping[str, Any]) -> TraceResult:
    """Play every operation of a trace, and compare every result and snapshot with the recording.

    Raises:
        ValueError: the trace is malformed; the message says where.
    """
    kernel = Kernel.from_snapshot(start_snapshot(recording))
    snaps = [recording["start"], *recording["snaps"], recording["end"]]
    matched, compared = [0, 0], [0, 0]
    mismatches: list[Mismatch] = []
    held: dict[int, tuple[int, int]] = {}
    if len(recording["ops"]) != len(recording["results"]):
        raise ValueError("recording: ops and results are of different length (is the file complete?)")
    for number, (op, recorded) in enumerate(zip(recording["ops"], recording["results"], strict=True)):
        try:
            what, found = _play(kernel, op, recorded, held, snaps)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"recording: op {number} {op!r}: {error}") from None
        compared[what] += 1
        matched[what] += not found
        mismatches += [Mismatch(f"op {number} {op}: {m.where}", m.recorded, m.simulated) for m in found]
    return TraceResult((matched[0], compared[0]), (matched[1], compared[1]), tuple(mismatches))


def _play(
    kernel: Kernel, op: list[Any], recorded: Any, held: dict[int, tuple[int, int]], snaps: list[Any]
) -> tuple[int, list[Mismatch]]:
    """Play one operation; return (0 result or 1 snapshot, mismatches)."""
    if op[0] == "snap":
        return 1, list(_compare_zones(snaps[recorded[1]], kernel.snapshot()))
    if op[0] in ("alloc", "alloc_node"):
        nid = op[4] if op[0] == "alloc_node" else None
        pfn = kernel.alloc_pages(op[2], op[3], nid=nid)
        found: object = None
        if pfn is not None:
            held[op[1]] = pfn, op[3]
            zone = kernel._zone(pfn)
            found = [pfn, zone.nid, zone.name, zone.pageblock[pfn >> zone.pageblock_order]]
    elif op[0] == "free":
        pfn, order = held.pop(op[1], (None, 0))
        kernel.free_pages(pfn, order)
        found = pfn
    else:
        raise ValueError(f"operation {op[0]!r} is not one of alloc, alloc_node, free, snap")
    return 0, [] if found == recorded else [Mismatch("result", recorded, found)]


def _compare_zones(recorded: Mapping[str, Any], snapshot: Snapshot) -> Iterator[Mismatch]:
    """Yield every field of every recorded zone in which the simulated machine differs."""
    zones = {f"{zone.nid}/{zone.name}": zone for zone in snapshot.zones}
    for name, expected in recorded.items():
        if name not in zones:
            yield Mismatch(name, "a zone", "none")
            continue
        found = _as_recorded(zones[name])
        for key, value in found.items():
            if key in expected and expected[key] != value:
                yield Mismatch(f"{name} {key}", expected[key], value)


def _as_recorded(zone: ZoneSnapshot) -> dict[str, Any]:
    """Return a zone in the recording's own terms."""
    letters = "".join(BLOCK_LETTERS[b] if b != NO_PAGEBLOCK else "." for b in zone.pageblocks)
    pcps = {
        str(cpu): {
            "count": pcp.count, "high": pcp.high, "high_min": pcp.high_min, "high_max": pcp.high_max,
            "batch": pcp.batch, "alloc_factor": pcp.alloc_factor, "free_count": pcp.free_count,
            "flags": pcp.flags, "lists": {str(index): list(pfns) for index, pfns in pcp.lists.items()},
        }
        for cpu, pcp in enumerate(zone.pcps)
    }  # fmt: skip
    return {
        "free_lists": {f"{o},{t}": list(pfns) for (o, t), pfns in zone.free_lists().items()},
        "nr_free": [zone.nr_free(order) for order in range(zone.max_order + 1)],
        "free": zone.free, "free_est": zone.free_est, "boost": zone.boost, "min": zone.min,
        "low": zone.low, "high": zone.high, "hiat": zone.nr_reserved_highatomic,
        "hiatfree": zone.nr_free_highatomic, "flags": zone.flags, "pcp": zone.pcp_pages,
        "blocks": letters, "pcps": pcps,
    }  # fmt: skip
