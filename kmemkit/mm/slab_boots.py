"""Holding the caches of a recorded boot against those the simulator makes.

`kmemkit verify` calls this for folders of recorded boots and for tables of their caches. A machine
with as many CPUs and nodes, and the same slab parameters, makes its caches; all that does not
depend on what the boot allocated is compared: which caches there are, in what order they came,
which were merged, and every attribute. A cache without objects is compared byte for byte.

32-bit kernels were recorded with another release, and other caches: of those, what follows from an
object's size, alignment and flags is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kmemkit.mm.boot_record import BootRecord, boot_folder
from kmemkit.mm.boots import BootResult, Comparison
from kmemkit.mm.hardware_record import recorded_topology
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.slab import SLAB_TYPESAFE_BY_RCU, KmemCache
from kmemkit.mm.slub_layout import SlabParams, open_layout

__all__ = (
    "is_cache_table",
    "play_boot_caches",
    "play_cache_table",
    "play_caches",
    "play_layouts",
    "read_table",
)

#: Attributes that tell what is allocated, not what the cache is.
STATE = ("cpu_slabs", "objects", "partial", "slabs")
#: Attributes that follow from an object's size, alignment, flags and constructor.
LAYOUT = ("slab_size", "objs_per_slab", "order", "min_partial", "cpu_partial")
MOST_CPUS, MOST_NODES = 512, 64

Rows = Mapping[str, Mapping[str, str]]


# -- a boot ---------------------------------------------------------------------------------------


def play_boot_caches(boot: BootRecord) -> BootResult:
    """Compare all caches of a boot whose /sys/kernel/slab was recorded.

    Raises:
        ValueError: what was recorded is not complete, or the machine is none that is simulated.
    """
    rows = read_table(boot.slab_sysfs)
    name = boot.states[0].name
    if boot.arch == "i386":
        return play_layouts(name, rows, SlabParams(nr_cpus=boot.cpus, word=4))
    nodes = recorded_topology(boot).nodes
    return play_caches(name, rows, boot.slabinfo, nodes=nodes, cpus=boot.cpus, cmdline=boot.cmdline)


def play_caches(
    name: str, rows: Rows, slabinfo: str, *, nodes: int, cpus: int, cmdline: str
) -> BootResult:
    """Compare caches with those that a machine with these CPUs, nodes and parameters makes.

    Args:
        name: of the boot.
        rows: directory of /sys/kernel/slab -> attribute -> text. Where `alias_names` is among the
            attributes, links are compared.
        slabinfo: /proc/slabinfo, or nothing.
        nodes: how many nodes the machine has.
        cpus: how many CPUs the machine has.
        cmdline: kernel command line; only what begins with slab_ or slub_ is read.

    Raises:
        ValueError: such a machine cannot be simulated.
    """
    if cpus > MOST_CPUS or nodes > MOST_NODES:
        raise ValueError(f"{name}: {cpus} CPUs and {nodes} nodes are more than slabs are made for")
    words = (word for word in cmdline.split() if word.startswith(("slab_", "slub_")))
    kernel = Kernel(["16M"] * nodes, cpus=cpus, cmdline=" ".join(words))
    found = Comparison()
    directories = kernel.slab_sysfs_names()
    found.check("directories", sorted(rows), sorted(directories))
    for directory, row in rows.items():
        if directory in directories:
            _compare_row(kernel, directory, row, directories[directory], found)
    if slabinfo:
        _compare_slabinfo(slabinfo, kernel.slabinfo(), found)
    return found.result(name)


def _compare_row(
    kernel: Kernel, directory: str, row: Mapping[str, str], names: tuple[str, ...], to: Comparison
) -> None:
    """Compare one directory of /sys/kernel/slab."""
    files = kernel.slab_sysfs(directory)
    for attribute, recorded in row.items():
        where = f"{directory}/{attribute}"
        if attribute == "alias_names":
            to.check(where, sorted(recorded.split()), sorted(names))
        elif attribute not in STATE or recorded == "0":
            to.check(where, recorded, files.get(attribute, "no such file").strip())


def _compare_slabinfo(recorded: str, simulated: str, to: Comparison) -> None:
    """Compare what /proc/slabinfo says: whole lines of caches that have no objects."""
    old, new = recorded.splitlines(), simulated.splitlines()
    to.check(
        "slabinfo: names in order", *([line.split(" ")[0] for line in one] for one in (old, new))
    )
    for one, other in zip(old, new, strict=False):
        if one.split()[1:3] == ["0", "0"] or one.startswith(("slabinfo", "#")):
            to.check("slabinfo", one, other)
        else:
            to.check(f"slabinfo {one.split()[0]}", one.split()[3:6], other.split()[3:6])


def play_layouts(name: str, rows: Rows, params: SlabParams) -> BootResult:
    """Compare what follows from size, alignment, flags and constructor of each cache's objects."""
    found = Comparison()
    for cache, row in rows.items():
        flags = SLAB_TYPESAFE_BY_RCU if row["destroy_by_rcu"] == "1" else 0
        s = KmemCache(
            cache, _number(row, "object_size"), _number(row, "align"), flags,
            ctor=row.get("ctor", "").strip() or None,
        )  # fmt: skip
        open_layout(s, params)
        simulated = {
            "slab_size": s.size, "objs_per_slab": s.oo[1], "order": s.oo[0],
            "min_partial": s.min_partial, "cpu_partial": s.cpu_partial,
        }  # fmt: skip
        for attribute in LAYOUT:
            found.check(f"{cache}/{attribute}", _number(row, attribute), simulated[attribute])
    return found.result(name)


def _number(row: Mapping[str, str], attribute: str) -> int:
    text = row.get(attribute, "")
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10):
        raise ValueError(f"slab_sysfs: {attribute}={text[:40]!r} is no number")
    return int(text)


def read_table(text: str) -> dict[str, dict[str, str]]:
    """Return the rows of a slab_sysfs.tsv."""
    head, *lines = text.splitlines() or [""]
    columns = head.split("\t")
    if columns[0] != "cache" or "object_size" not in columns or not lines:
        raise ValueError("slab_sysfs.tsv: no table of caches; is it complete?")
    rows = {}
    for line in lines:
        values = [value.strip() for value in line.split("\t")]
        if len(values) != len(columns):
            raise ValueError(f"slab_sysfs.tsv: {line[:60]!r} has not a value a column")
        rows[values[0]] = dict(zip(columns[1:], values[1:], strict=True))
    return rows


# -- a table of boots -----------------------------------------------------------------------------


def is_cache_table(recording: Mapping[str, Any]) -> bool:
    """Return whether a parsed JSON file is a SLAB.json: rows of caches by boot."""
    return isinstance(recording.get("columns"), list) and isinstance(
        recording.get("boots"), Mapping
    )


def play_cache_table(
    recording: Mapping[str, Any], folder: Path
) -> Iterator[tuple[str, BootResult | ValueError]]:
    """Yield each boot of a SLAB.json with how its caches compare, or what is wrong with it.

    What machine a boot had stands in the folder of its name, beside the file.
    """
    columns = [str(column).split(" ")[0] for column in recording["columns"]]
    for name, caches in recording["boots"].items():
        place = folder / name
        try:
            if place.parent != folder or not place.is_dir():
                raise ValueError(f"{name}: no folder {place} that says what machine it was")
            yield name, _play_table_boot(boot_folder(place), _json_rows(name, caches, columns))
        except (ValueError, OSError) as error:
            yield name, ValueError(str(error))


def _play_table_boot(boot: BootRecord, rows: Rows) -> BootResult:
    name = boot.states[0].name
    if boot.arch == "i386":  # a table has no constructors: they are in the folder
        known = read_table(boot.slab_sysfs)
        rows = {cache: {**known.get(cache, {}), **row} for cache, row in rows.items()}
        return play_layouts(name, rows, SlabParams(nr_cpus=boot.cpus, word=4))
    nodes = recorded_topology(boot).nodes
    return play_caches(name, rows, "", nodes=nodes, cpus=boot.cpus, cmdline=boot.cmdline)


def _json_rows(name: str, caches: object, columns: list[str]) -> dict[str, dict[str, str]]:
    if not isinstance(caches, Mapping):
        raise ValueError(f"{name}: not caches by name")
    rows = {}
    for cache, values in caches.items():
        if not isinstance(values, list) or not len(columns) - 1 <= len(values) <= len(columns):
            raise ValueError(f"{name}: {cache}: not a value a column")
        # names that were merged are there only where merging is on
        rows[cache] = dict(zip(columns, map(str, values), strict=False))
    return rows
