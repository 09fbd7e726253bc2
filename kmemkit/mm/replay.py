"""Playing a recording of a real kernel against a simulated one, operation by operation.

`kmemkit verify` uses this. Every result is compared (which page frame, which zone, which type its
pageblock has afterwards), and every snapshot: order of the free lists, pageblock types, counters,
the fields of the per-CPU lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kmemkit import gfp as flags
from kmemkit.mm.errors import KernelBug, Oops
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.mmzone import NO_PAGEBLOCK
from kmemkit.mm.recording import BLOCK_LETTERS, check_trace, recorded_start, start_snapshot
from kmemkit.snapshot import Snapshot, ZoneSnapshot

__all__ = ("Mismatch", "TraceResult", "play_trace")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One place where the simulated kernel and the recording disagree."""

    where: str
    recorded: object
    simulated: object

    def __str__(self) -> str:
        return f"{self.where}: recorded {self.recorded}, simulated {self.simulated}"


@dataclass(slots=True)
class TraceResult:
    """How a trace went. Pairs are (matched, compared).

    `needs` names what the simulator would have to model to play on; what was left unplayed counts
    as compared and not matched.
    """

    results: tuple[int, int]
    snapshots: tuple[int, int]
    mismatches: tuple[Mismatch, ...]
    needs: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything matched, and something was compared."""
        return not self.mismatches and not self.needs and self.results[1] + self.snapshots[1] > 0


class _NotModelled(Exception):
    """The recording asks for something the simulator does not do; the message names it."""


@dataclass(slots=True)
class _Player:
    """A kernel in the middle of a trace."""

    kernel: Kernel
    snaps: list[Any]
    held: dict[int, tuple[int, int]] = field(default_factory=dict)
    exact: dict[int, tuple[int, int]] = field(default_factory=dict)

    def play(self, op: list[Any], recorded: Any) -> list[Mismatch]:
        """Play one operation; return where its outcome differs."""
        name, *args = op
        if name == "snap":
            return list(_compare_zones(self.snaps[recorded[1]], self.kernel.snapshot()))
        action = getattr(self, f"_op_{name}", None)
        if action is None:
            raise _NotModelled(f"operation {name!r}")
        found, expected = action(*args, recorded)
        return [] if found == expected else [Mismatch("result", expected, found)]

    def _op_alloc(self, key: int, gfp: int, order: int, recorded: Any) -> tuple[object, object]:
        return self._op_alloc_node(key, gfp, order, None, recorded)

    def _op_alloc_node(
        self, key: int, gfp: int, order: int, nid: int | None, recorded: Any
    ) -> tuple[object, object]:
        pfn = self.kernel.alloc_pages(gfp, order, nid=nid)
        if pfn is None:
            if recorded is not None and gfp & DIRECT_RECLAIM:
                raise _NotModelled("direct reclaim")
            return None, recorded
        self.held[key] = pfn, order
        zone = self.kernel.page_zone(pfn)
        return [pfn, zone.nid, zone.name, zone.pageblock[pfn >> zone.pageblock_order]], recorded

    def _op_free(self, key: int, recorded: Any) -> tuple[object, object]:
        pfn, order = self.held.pop(key, (None, 0))
        self.kernel.free_pages(pfn, order)
        return pfn, recorded

    def _op_b(self, first: int, count: int, gfp: int, recorded: Any) -> tuple[object, object]:
        pages = self.kernel.alloc_pages_bulk(gfp, count)
        return self._hold(first, pages, recorded)

    def _op_bl(self, first: int, count: int, gfp: int, recorded: Any) -> tuple[object, object]:
        # the list variant adds each page at the list's front
        pages = self.kernel.alloc_pages_bulk(gfp, count)[::-1]
        return self._hold(first, pages, recorded)

    def _hold(self, first: int, pages: list[int], recorded: Any) -> tuple[object, object]:
        self.held.update({first + n: (pfn, 0) for n, pfn in enumerate(pages)})
        return pages, _runs(recorded["pfns"]) if recorded["got"] else []

    def _op_ae(self, key: int, size: int, gfp: int, recorded: Any) -> tuple[object, object]:
        address = self.kernel.alloc_pages_exact(size, gfp)
        if address is None:
            return None, recorded.get("pfn")
        self.exact[key] = address, size
        return self.kernel.virt_to_page(address), recorded.get("pfn")

    def _op_aef(self, key: int, recorded: Any) -> tuple[object, object]:
        if key in self.exact:
            self.kernel.free_pages_exact(*self.exact.pop(key))
        return None, None

    def _op_drainpcp(self, recorded: Any) -> tuple[object, object]:
        self.kernel.drain_all_pages()
        return None, None


#: What a malformed operation or result can raise.
_MALFORMED = (KeyError, TypeError, IndexError, ValueError, AttributeError)
#: What a recording holds of one CPU's lists, besides the lists.
PCP_FIELDS = (
    "count", "high", "high_min", "high_max", "batch", "alloc_factor", "free_count", "flags",
)  # fmt: skip
#: Looked up here because a class body would mangle the name.
DIRECT_RECLAIM = flags.__GFP_DIRECT_RECLAIM


def _runs(text: object) -> list[int]:
    """Return the pfns of a recorded list: "5,8+3,20-2" is 5, 8, 9, 10, 20, 19."""
    pfns: list[int] = []
    for part in str(text).split(","):
        match = re.fullmatch(r"(\d{1,12})(?:([+-])(\d{1,6}))?", part)
        if match is None:
            raise ValueError(f"{part!r} is not a page frame, nor a run of them")
        step = -1 if match[2] == "-" else 1
        pfns += [int(match[1]) + step * n for n in range(int(match[3] or 1))]
    return pfns


def play_trace(recording: Mapping[str, Any]) -> TraceResult:
    """Play every operation of a trace, and compare every result and snapshot with the recording.

    A trace without a `start` begins at its first snapshot; what came before made that state.

    Raises:
        ValueError: the trace is malformed; the message says where.
    """
    check_trace(recording)
    ops = list(enumerate(zip(recording["ops"], recording["results"], strict=True)))
    snaps = (
        [recording["start"], *recording["snaps"]] if "start" in recording else recording["snaps"]
    )
    snaps = [*snaps, recording["end"]] if "end" in recording else snaps
    if "start" not in recording:
        first = next((n for n, (op, _) in ops if op[:1] == ["snap"]), 0)
        ops = ops[first:]
    total = [0, 0]
    for _, (op, _) in ops:
        total[op[:1] == ["snap"]] += 1
    needs = _needs(recorded_start(recording))
    if needs:
        return TraceResult((0, total[0]), (0, total[1]), (), needs)
    player = _Player(Kernel.from_snapshot(start_snapshot(recording)), snaps)
    matched = [0, 0]
    mismatches: list[Mismatch] = []
    for number, (op, recorded) in ops:
        try:
            found = player.play(op, recorded)
        except _NotModelled as missing:
            needs = str(missing)
            break
        except (KernelBug, Oops) as error:
            mismatches.append(Mismatch(f"op {number} {op}", recorded, str(error).splitlines()[0]))
            break
        except _MALFORMED as error:
            raise ValueError(f"recording: op {number} {str(op)[:80]}: {error}") from None
        matched[op[0] == "snap"] += not found
        where = f"op {number} {op}"
        mismatches += [Mismatch(f"{where}: {m.where}", m.recorded, m.simulated) for m in found]
    return TraceResult((matched[0], total[0]), (matched[1], total[1]), tuple(mismatches), needs)


def _needs(start: Mapping[str, Any]) -> str:
    """Return what a recorded machine has that the simulator lacks, or an empty string."""
    if any("C" in zone["blocks"] for zone in start.values()):
        return "CMA"
    return ""


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
            **{name: getattr(pcp, name) for name in PCP_FIELDS},
            "lists": {str(index): list(pfns) for index, pfns in pcp.lists.items()},
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
