"""Recorded boots of a real kernel: reading them from files, and what they tell of the machine.

`boots` compares them with the simulator. A boot is a folder of /proc files, or an entry of a
SUMMARY.json; docs/recordings.md describes both. Nothing here believes a file: whatever is missing,
cut short or out of range is a ValueError that says where.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kmemkit.gfp import ZONE_NAMES

__all__ = ("BootRecord", "State", "ZoneRecord", "boot_folder", "boot_summary", "is_summary")

MARKS = ("min", "low", "high", "promo")
MOST_BYTES = 16 << 20
_TEXTS = ("cmdline", "qemu_args", "dmesg", "iomem", "slab_sysfs", "slabinfo")
MOST_PAGES = 1 << 40
MOST_ZONES, MOST_CPUS, MOST_STEPS = 512, 8192, 1000


class PcpRecord(NamedTuple):
    """One CPU's lists of a zone, as /proc/zoneinfo shows them."""

    high: int
    batch: int
    stat_threshold: int


@dataclass(frozen=True, slots=True)
class ZoneRecord:
    """One zone of /proc/zoneinfo. Marks are as printed: with the boost."""

    nid: int
    idx: int
    name: str
    start_pfn: int
    spanned: int
    present: int
    managed: int
    boost: int
    marks: tuple[int, ...]  #: min, low, high and, where the release prints it, promo
    protection: tuple[int, ...]
    pcps: tuple[PcpRecord, ...]

    def __str__(self) -> str:
        return f"{self.nid}/{self.name}"


@dataclass(frozen=True, slots=True)
class State:
    """A machine's zones and settings at one moment; `written` is what was set just before."""

    name: str
    zones: tuple[ZoneRecord, ...]
    sysctls: Mapping[str, str]
    written: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class BootRecord:
    """A boot and the changes of settings after it. Texts that were not recorded are empty."""

    states: tuple[State, ...]
    arch: str
    release: tuple[int, int]
    cmdline: str
    qemu_args: str
    dmesg: str
    iomem: str
    slab_sysfs: str = ""  #: /sys/kernel/slab as a table: a row a directory, a column an attribute
    slabinfo: str = ""

    @property
    def cpus(self) -> int:
        """How many CPUs the machine has."""
        return max(len(zone.pcps) for zone in self.states[0].zones)


# -- a folder -------------------------------------------------------------------------------------


def boot_folder(folder: Path) -> BootRecord:
    """Return the boot whose /proc files are in a folder, with its stepN folders.

    Raises:
        ValueError: a file that is needed is missing or is not what it should be. OSError: not
            readable.
    """
    steps = sorted(
        (path for path in folder.glob("step*") if re.fullmatch(r"step\d{1,4}", path.name)),
        key=lambda path: int(path.name[4:]),
    )
    raw = _folder_state(folder)
    raw["steps"] = [{**_folder_state(step), "set": _text(step / "set")} for step in steps]
    for name in ("cmdline", "qemu_args", "uname", "dmesg", "iomem", "slab_sysfs.tsv", "slabinfo"):
        key = name.removesuffix(".tsv")
        raw[key] = _text(folder / name) if (folder / name).is_file() else ""
    try:
        return _boot(folder.name, raw)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None


def _folder_state(folder: Path) -> dict[str, Any]:
    try:
        zones = _zoneinfo(_text(folder / "zoneinfo"))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    pairs = (line.partition("=") for line in _text(folder / "sys_vm").splitlines())
    return {
        "zones": zones,
        "sys_vm": {name.strip(): value.strip() for name, _, value in pairs},
    }


def _text(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path}: missing; a recorded boot has zoneinfo and sys_vm")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: more than {MOST_BYTES >> 20} MiB")
    return path.read_text(encoding="utf-8", errors="replace")


def _zoneinfo(text: str) -> list[dict[str, Any]]:
    """Return the zones of a /proc/zoneinfo text, by the names that SUMMARY.json uses."""
    zones: list[dict[str, Any]] = []
    for line in text.splitlines():
        head = re.match(r"Node +(\d{1,5}), zone +(\w{1,16})$", line)
        if head:
            zones.append({"node": int(head[1]), "zone": head[2], "start_pfn": 0, "pcp": []})
            continue
        value = re.match(r" +(?:pages )?([a-z_ ]+?):? +\(?(-?\d{1,18}(?:, \d{1,18})*)\)?$", line)
        if value is None or not zones:
            continue
        zone, name, numbers = zones[-1], value[1], [int(n) for n in value[2].split(", ")]
        if name == "cpu":
            zone["pcp"].append({})
        elif name in ("high", "batch", "vm stats threshold") and ":" in line:
            if zone["pcp"]:
                zone["pcp"][-1][name.replace("vm stats", "stat").replace(" ", "_")] = numbers[0]
        elif name == "protection":
            zone["protection"] = numbers
        elif name in (*MARKS, "boost", "spanned", "present", "managed", "start_pfn"):
            zone[name] = numbers[0]
    if not zones:
        raise ValueError("zoneinfo: no zone in it")
    return zones


# -- a summary ------------------------------------------------------------------------------------


def is_summary(recording: Mapping[str, Any]) -> bool:
    """Return whether a parsed JSON file is a summary of boots."""
    boots = [boot for boot in recording.values() if isinstance(boot, Mapping)]
    return len(boots) == len(recording) > 0 and all(
        "zones" in boot or "failed" in boot for boot in boots
    )


def boot_summary(recording: Mapping[str, Any], folder: Path) -> Iterator[BootRecord | ValueError]:
    """Yield each boot of a SUMMARY.json, or what is wrong with it; those that failed are left out.

    What a summary has no room for comes from the boot's folder beside it, if there is one.
    """
    for name, raw in recording.items():
        if not raw.get("zones"):
            continue
        try:
            yield _boot(name, {**raw, **_texts_beside(raw, folder / name, folder)})
        except (ValueError, TypeError) as error:
            yield ValueError(f"{name}: {error}")


def _texts_beside(raw: Mapping[str, Any], place: Path, folder: Path) -> dict[str, str]:
    """Return log and memory map: the entry's own, or its folder's, or the log's lines it quotes."""
    lines = [*(raw.get("dmesg_zones") or ()), raw.get("dmesg_memory") or ""]
    texts = {"dmesg": "\n".join(map(str, lines)), "iomem": ""}
    for key in texts:
        if isinstance(raw.get(key), str):
            texts[key] = raw[key]
        elif place.parent == folder and (place / key).is_file():
            texts[key] = _text(place / key)
    return texts


def _boot(name: str, raw: Mapping[str, Any]) -> BootRecord:
    try:
        names = {zone["zone"] for zone in raw["zones"]}
        arch = "x86_64" if "DMA32" in names or "HighMem" not in names else "i386"
        steps = list(raw.get("steps") or ())
        if len(steps) > MOST_STEPS:
            raise ValueError(f"{len(steps)} steps")
        states = [_state(name, raw, arch)]
        states += [_state(f"{name}/step{n}", step, arch) for n, step in enumerate(steps, 1)]
        release = re.search(r"\b(\d{1,3})\.(\d{1,3})\.", str(raw.get("uname") or ""))
        boot = BootRecord(
            tuple(states), arch, (int(release[1]), int(release[2])) if release else (6, 12),
            *(str(raw.get(key) or "") for key in _TEXTS),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not a boot as docs/recordings.md says: {error!r}") from None
    shape = [(zone.nid, zone.idx, len(zone.protection)) for zone in states[0].zones]
    for state in states:
        if [(zone.nid, zone.idx, len(zone.protection)) for zone in state.zones] != shape:
            raise ValueError(f"{state.name}: has other zones than the boot")
    return boot


def _state(name: str, raw: Mapping[str, Any], arch: str) -> State:
    zones = tuple(_zone(zone, arch) for zone in raw["zones"])
    nodes = {zone.nid for zone in zones}
    whole = sorted((nid, idx) for nid in nodes for idx in range(len(zones[0].protection)))
    if len(zones) > MOST_ZONES or sorted((zone.nid, zone.idx) for zone in zones) != whole:
        raise ValueError(f"{name}: not every node has every zone once; is zoneinfo complete?")
    if not any(zone.managed for zone in zones) or not any(zone.pcps for zone in zones):
        raise ValueError(f"{name}: no zone has memory and lists; is zoneinfo complete?")
    written = []
    for one in filter(None, str(raw.get("set") or "").strip().split(",")):
        key, _, value = one.partition(":")
        if not key or not value:
            raise ValueError(f"{name}: set={one!r}: give NAME:VALUE, as in min_free_kbytes:4096")
        written.append((key.strip(), value.strip().replace("+", " ")))
    settings = {str(key): str(value) for key, value in (raw["sys_vm"] or {}).items()}
    if not settings.get("min_free_kbytes", "").isdigit():
        raise ValueError(f"{name}: sys_vm has no min_free_kbytes; is it complete?")
    return State(name, zones, settings, tuple(written))


def _zone(raw: Mapping[str, Any], arch: str) -> ZoneRecord:
    name = raw["zone"]
    if name not in ZONE_NAMES[arch]:
        raise ValueError(f"there is no zone {name!r} on {arch}")
    where = f"zone {raw['node']}/{name}"
    known = MARKS if raw.get("promo") is not None else MARKS[:3]
    protection = raw["protection"]
    idx = ZONE_NAMES[arch].index(name)
    if not isinstance(protection, list) or not idx < len(protection) <= len(ZONE_NAMES[arch]):
        raise ValueError(f"{where}: protection={protection!r} is not a number a zone")
    pcps = raw["pcp"]
    if len(pcps) > MOST_CPUS:
        raise ValueError(f"{where}: {len(pcps)} CPUs")
    # an empty zone has no start
    sized = {"start_pfn": 0, "boost": 0} | {k: v for k, v in raw.items() if v is not None}
    return ZoneRecord(
        nid=_count(where, raw, "node", 1024),
        idx=idx,
        name=name,
        start_pfn=_count(where, sized, "start_pfn"),
        spanned=_count(where, raw, "spanned"),
        present=_count(where, raw, "present"),
        managed=_count(where, raw, "managed"),
        boost=_count(where, sized, "boost"),
        marks=tuple(_count(where, raw, mark) for mark in known),
        protection=tuple(
            _count(where, {"protection": number}, "protection") for number in protection
        ),
        pcps=tuple(
            PcpRecord(*(_count(where, pcp, key) for key in PcpRecord._fields)) for pcp in pcps
        ),
    )


def _count(where: str, raw: Mapping[Any, Any], key: Any, most: int = MOST_PAGES) -> int:
    number = raw.get(key)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < most:
        raise ValueError(f"{where}: {key}={number!r} is no count of pages; is the file complete?")
    return number
