"""`kmemkit verify`: play recordings of a real kernel against the simulator, and count what matches.

Only `cli` calls this. A recording is recognised by what is in it, never by its name; one that asks
for something the simulator does not model yet says "needs: ..." and counts as not matched. A new
kind of recording is a line in KINDS.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kmemkit.mm.boot_record import BootRecord, boot_folder, boot_summary, is_summary
from kmemkit.mm.boots import BootResult, play_boot
from kmemkit.mm.ladder import is_ladder, play_ladder
from kmemkit.mm.misuse import CellResult, play_context_cell
from kmemkit.mm.misuse_pair import play_pair_cell
from kmemkit.mm.misuse_procedure import play_procedure_cell
from kmemkit.mm.misuse_single import play_misuse_cell
from kmemkit.mm.recording import load_recording
from kmemkit.mm.replay import Mismatch, play_trace
from kmemkit.mm.slab_boots import is_cache_table, play_boot_caches, play_cache_table
from kmemkit.mm.slab_replay import is_slab_recording, play_slab
from kmemkit.strings import text

__all__ = ("Row", "main_verify", "recordings", "verify_path")

#: Mismatches shown per recording; the rest is counted.
SHOWN = 3
_SUFFIXES = (".json", ".json.gz")
#: The file that makes a folder a recorded boot.
_BOOT_FILE = "zoneinfo"


@dataclass(frozen=True, slots=True)
class Row:
    """One recording's outcome; matched and compared count results and snapshots apart.

    `name` tells a row from others of the same path; without one the path's last part does.
    """

    path: str
    kind: str
    results_matched: int = 0
    results_compared: int = 0
    snapshots_matched: int = 0
    snapshots_compared: int = 0
    needs: str = ""
    error: str = ""
    mismatches: tuple[str, ...] = ()
    name: str = ""
    #: differences that docs/fidelity.md explains; they are not counted as matched
    in_ledger: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that was recorded was played, and matched."""
        return (
            not (self.needs or self.error)
            and self.results_matched + len(self.in_ledger) == self.results_compared
            and self.snapshots_matched == self.snapshots_compared
            and self.results_compared + self.snapshots_compared > 0
        )

    def __str__(self) -> str:
        name = self.name or Path(self.path).name.removesuffix(".gz").removesuffix(".json")
        mark = "ok  " if self.ok else "FAIL"
        line = (
            f"{mark} {name:<40} {self.kind:<7} "
            f"results {self.results_matched}/{self.results_compared}"
            f"  snapshots {self.snapshots_matched}/{self.snapshots_compared}"
        )
        if self.in_ledger:
            line += "  " + text("verify.in_ledger", what="; ".join(self.in_ledger))
        if self.needs:
            line += "  " + text("verify.needs", what=self.needs)
        if self.error:
            line += "  " + self.error
        return "\n".join([line, *(f"       {one}" for one in self.mismatches[:SHOWN])])


def recordings(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield every recording in `paths`, files and folders of recorded boots, in name order.

    Raises:
        ValueError: a path that does not exist, or a folder without a recording.
    """
    for path in paths:
        if path.is_dir():
            found = sorted(_inside(path))
            if not found:
                raise ValueError(text("verify.empty", path=path))
            yield from found
        elif path.exists():
            yield path
        else:
            raise ValueError(text("verify.missing", path=path))


def _inside(folder: Path) -> Iterator[Path]:
    """Yield the recordings in a folder; the steps of a boot belong to the boot."""
    boots = {path.parent for path in folder.rglob(_BOOT_FILE) if path.is_file()}
    yield from (boot for boot in boots if boot.parent not in boots)
    for path in folder.rglob("*"):
        if path.name.endswith(_SUFFIXES) and path.is_file():
            yield path


def verify_path(path: Path) -> list[Row]:
    """Play one recording; what is wrong with the file itself stands in a row's `error`."""
    try:
        if path.is_dir():
            return _boot_rows(path, boot_folder(path))
        recording = _load(path)
        for kind in KINDS:
            if kind.is_one(recording):
                return kind.play(path, recording)
        return _play_trace(path, recording)
    except (ValueError, OSError) as error:
        return [Row(str(path), "boot" if path.is_dir() else "?", error=str(error))]


def _load(path: Path) -> Mapping[str, Any]:
    """Return a file's contents; a list of records counts as one recording of another kind."""
    try:
        return load_recording(path)
    except ValueError as error:
        if "JSON object" in str(error):
            raise ValueError(text("verify.foreign", path=path)) from None
        raise


# -- kinds of recordings --------------------------------------------------------------------------


class _Kind(NamedTuple):
    """A kind of recording: how to recognise it, and how to play it."""

    is_one: Callable[[Mapping[str, Any]], bool]
    play: Callable[[Path, Mapping[str, Any]], list[Row]]


def _has(*keys: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return a test for keys that only one kind of recording has."""
    return lambda recording: recording.keys() >= set(keys)


def _is_trace(recording: Mapping[str, Any]) -> bool:
    return bool({"start", "snaps"} & recording.keys()) and recording.keys() >= {"ops", "results"}


def _play_trace(path: Path, recording: Mapping[str, Any]) -> list[Row]:
    result = play_trace(recording)
    return [
        Row(
            str(path), "trace", *result.results, *result.snapshots, needs=result.needs,
            mismatches=_texts(result.mismatches),
        )
    ]  # fmt: skip


def _play_ladder(path: Path, recording: Mapping[str, Any]) -> list[Row]:
    result = play_ladder(recording)
    return [
        Row(
            str(path), "ladder", *result.results, mismatches=_texts(result.mismatches),
            in_ledger=_texts(result.in_ledger),
        )
    ]  # fmt: skip


def _play_summary(path: Path, recording: Mapping[str, Any]) -> list[Row]:
    rows = []
    for boot in boot_summary(recording, path.parent):
        if isinstance(boot, ValueError):
            rows.append(Row(str(path), "boot", error=str(boot)))
        else:
            rows += _boot_rows(path, boot)
    return rows


def _boot_rows(path: Path, boot: BootRecord) -> list[Row]:
    """Return a row for the boot, one for each change of settings, and one for its caches."""
    name = boot.states[0].name
    try:
        rows = [_boot_row(path, "boot", one) for one in play_boot(boot)]
    except ValueError as error:
        rows = [Row(str(path), "boot", error=f"{name}: {error}", name=name)]
    if boot.slab_sysfs:
        try:
            rows.append(_boot_row(path, "caches", play_boot_caches(boot)))
        except ValueError as error:
            rows.append(Row(str(path), "caches", error=f"{name}: {error}", name=name))
    return rows


def _boot_row(path: Path, kind: str, one: BootResult) -> Row:
    return Row(
        str(path), kind, one.matched, one.compared, mismatches=_texts(one.mismatches), name=one.name
    )


def _play_slab(path: Path, recording: Mapping[str, Any]) -> list[Row]:
    result = play_slab(recording)
    return [
        Row(
            str(path), "slab", *result.results, *result.snapshots, needs=result.needs,
            mismatches=_texts(result.mismatches),
        )
    ]  # fmt: skip


def _play_cache_table(path: Path, recording: Mapping[str, Any]) -> list[Row]:
    return [
        Row(str(path), "caches", error=str(result), name=name)
        if isinstance(result, ValueError)
        else _boot_row(path, "caches", result)
        for name, result in play_cache_table(recording, path.parent)
    ]


def _is_matrix(recording: Mapping[str, Any]) -> bool:
    """Whether it is the list of misused kernels' cells (_load() gives it a name)."""
    return recording.keys() == {"cells"}


def _play_matrix(path: Path, recording: Mapping[str, Any]) -> list[Row]:
    """Return a row for each kernel and kind of misuse."""
    rows: dict[tuple[str, str], list[tuple[str, CellResult]]] = {}
    for cell in recording["cells"]:
        play = CELLS.get(cell["kind"])
        result = CellResult(1, needs=str(cell["cell"])) if play is None else play(cell)
        rows.setdefault((cell["kernel"], cell["kind"]), []).append((cell["cell"], result))
    return [
        Row(
            str(path), kind, sum(one.matched for _, one in cells),
            sum(one.compared for _, one in cells),
            needs=", ".join(name for name in sorted({one.needs for _, one in cells}) if name),
            mismatches=tuple(f"{name}: {one}" for name, cell in cells for one in cell.mismatches),
            name=f"{path.parent.name} {kernel}",
        )
        for (kernel, kind), cells in rows.items()
    ]  # fmt: skip


#: How each kind of cell is played.
CELLS: dict[str, Callable[[Mapping[str, Any]], CellResult]] = {
    "context": play_context_cell,
    "misuse": play_misuse_cell,
    "pair": play_pair_cell,
    "procedure": play_procedure_cell,
}


def _texts(mismatches: Sequence[Mismatch]) -> tuple[str, ...]:
    return tuple(map(str, mismatches))


def _needs(what: str) -> Callable[[Path, Mapping[str, Any]], list[Row]]:
    """Return a player for recordings of what is not simulated."""

    def play(path: Path, recording: Mapping[str, Any]) -> list[Row]:
        results = recording.get("results")
        count = len(results) if isinstance(results, list) else 1
        return [Row(str(path), what, results_compared=count, needs=what)]

    return play


#: The first one that fits counts; what fits none is played as a trace, which says what it lacks.
KINDS = (
    _Kind(_is_trace, _play_trace),
    _Kind(is_summary, _play_summary),
    _Kind(is_slab_recording, _play_slab),
    _Kind(_has("vsnaps", "ops"), _needs("vmalloc")),
    _Kind(is_ladder, _play_ladder),
    _Kind(_is_matrix, _play_matrix),
    _Kind(is_cache_table, _play_cache_table),
    _Kind(_has("mode", "setup"), _needs("other allocators")),
)


# -- the command ----------------------------------------------------------------------------------


def main_verify(paths: Sequence[Path], as_json: bool = False) -> int:
    """Verify every recording in `paths`, print a row each and a sum; return the exit status.

    Returns 0 if all matched, 1 if anything did not.

    Raises:
        ValueError: there is nothing to verify.
    """
    rows = []
    for path in recordings(paths):
        for row in verify_path(path):
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
