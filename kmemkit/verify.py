"""`kmemkit verify`: play recordings of a real kernel against the simulator, and count what matches.

Only `cli` calls this. A recording is recognised by what is in it, never by its name; one that asks
for something the simulator does not model yet says "needs: ..." and counts as not matched.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kmemkit.mm.recording import load_recording
from kmemkit.mm.replay import play_trace
from kmemkit.strings import text

__all__ = ("Row", "main_verify", "recordings", "verify_file")

#: Mismatches shown per recording; the rest is counted.
SHOWN = 3
_SUFFIXES = (".json", ".json.gz")
#: Other recordings, by keys that only they have -> what playing them needs.
_OTHER_KINDS = (
    ({"constants", "ops", "results"}, "slab"),
    ({"vsnaps", "ops"}, "vmalloc"),
    ({"outcome", "allocs_got"}, "reclaim"),
    ({"columns", "boots"}, "slab"),
    ({"mode", "setup"}, "other allocators"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One recording's outcome; matched and compared count results and snapshots apart."""

    path: str
    kind: str
    results_matched: int = 0
    results_compared: int = 0
    snapshots_matched: int = 0
    snapshots_compared: int = 0
    needs: str = ""
    error: str = ""
    mismatches: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that was recorded was played, and matched."""
        return (
            not (self.needs or self.error)
            and self.results_matched == self.results_compared
            and self.snapshots_matched == self.snapshots_compared
            and self.results_compared + self.snapshots_compared > 0
        )

    def __str__(self) -> str:
        name = Path(self.path).name.removesuffix(".gz").removesuffix(".json")
        mark = "ok  " if self.ok else "FAIL"
        line = (
            f"{mark} {name:<40} {self.kind:<7} "
            f"results {self.results_matched}/{self.results_compared}"
            f"  snapshots {self.snapshots_matched}/{self.snapshots_compared}"
        )
        if self.needs:
            line += "  " + text("verify.needs", what=self.needs)
        if self.error:
            line += "  " + self.error
        return "\n".join([line, *(f"       {one}" for one in self.mismatches[:SHOWN])])


def recordings(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield every recording file in `paths`; folders are searched, in name order.

    Raises:
        ValueError: a path that does not exist, or a folder without a recording.
    """
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.name.endswith(_SUFFIXES) and p.is_file())
            if not found:
                raise ValueError(text("verify.empty", path=path))
            yield from found
        elif path.exists():
            yield path
        else:
            raise ValueError(text("verify.missing", path=path))


def verify_file(path: Path) -> Row:
    """Play one recording; what is wrong with the file itself stands in the row's `error`."""
    try:
        recording = _load(path)
        needs = _other_kind(recording)
        if needs:
            count = len(recording["results"]) if isinstance(recording.get("results"), list) else 1
            return Row(str(path), needs, results_compared=count, needs=needs)
        result = play_trace(recording)
    except (ValueError, OSError) as error:
        return Row(str(path), "?", error=str(error))
    return Row(
        str(path),
        "trace",
        *result.results,
        *result.snapshots,
        needs=result.needs,
        mismatches=tuple(str(one) for one in result.mismatches),
    )


def _load(path: Path) -> Mapping[str, Any]:
    """Return a file's contents; a list of records counts as one recording of another kind."""
    try:
        return load_recording(path)
    except ValueError as error:
        if "JSON object" in str(error):
            raise ValueError(text("verify.foreign", path=path)) from None
        raise


def _other_kind(recording: Mapping[str, Any]) -> str:
    """Return what a recording of another kind than a page allocator trace needs, or ""."""
    keys = set(recording)
    if {"start", "ops", "results"} <= keys or {"snaps", "ops", "results"} <= keys:
        return ""
    for marks, needs in _OTHER_KINDS:
        if marks <= keys:
            return needs
    return ""


def main_verify(paths: Sequence[Path], as_json: bool = False) -> int:
    """Verify every recording in `paths`, print a row each and a sum; return the exit status.

    Returns 0 if all matched, 1 if anything did not.

    Raises:
        ValueError: there is nothing to verify.
    """
    rows = []
    for path in recordings(paths):
        row = verify_file(path)
        rows.append(row)
        if not as_json:
            print(row, flush=True)
    good = sum(row.ok for row in rows)
    if as_json:
        json.dump(
            {"recordings": [asdict(row) for row in rows], "matched": good}, sys.stdout, indent=1
        )
        print()
    else:
        results = (
            sum(row.results_matched for row in rows),
            sum(row.results_compared for row in rows),
        )
        snaps = (
            sum(row.snapshots_matched for row in rows),
            sum(row.snapshots_compared for row in rows),
        )
        print(
            text(
                "verify.sum",
                good=good,
                all=len(rows),
                results=f"{results[0]}/{results[1]}",
                snapshots=f"{snaps[0]}/{snaps[1]}",
            )
        )
    return 0 if good == len(rows) else 1
