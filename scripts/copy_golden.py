"""Copy what the tests need from a folder of recordings into tests/golden.

`python scripts/copy_golden.py RECORDINGS`. The folder has traces/, special/bulk/, boots/, slab/,
ladder/ and misuse/, each as docs/recordings.md describes, and kernel logs in logs/ and ladder/. Run
it when recordings are added; its output is committed, and is the same byte for byte however often
it runs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
#: Machines whose zones `Kernel` lays out from `ram`, `nodes` and `cpus` alone.
PLAIN_BOOT = re.compile(r"m\d+-c\d+|numa-(1g\+1g|2g\+2g|memoryless|off).*")
#: Boots whose files are copied as they are, to be read as a folder.
FOLDERS = ("i386-61pae-m1024", "numa-2g+2g-c2")
#: Boots whose /proc/slabinfo is copied: one of each list of caches.
SLABINFO_BOOTS = ("m256-c1", "slab-debug-F", "slab-nomerge-1g-c4", "slub-debug-FZPU")
#: Lines of a boot's log that say how memory was handed out.
LOG_LINES = (
    r"Memory: |Freeing .* memory|RAMDISK|Fallback order|CPUs: +#|deferred pages|Unknown kernel"
)
#: Kinds of misuse that concern pages only.
PAGE_MISUSE = frozenset(
    {
        "dbl_free_pages0", "dbl_free_pages3", "free_exact_wrong_size", "free_larger_neighbour_live",
        "free_page_each_of_order3", "free_page_without_alloc", "free_pages_mid_order3",
        "free_pages_plus8", "free_pages_with_extra_ref", "free_smaller_each_half_order1",
        "split_then_free_each_of_order3",
    }
)  # fmt: skip
#: Of a run of allocations: what it began with and what came of it.
LADDER_KEYS = (
    "gfp", "order", "option", "guest_ram", "cpus", "hog_mb", "max_allocs",
    "cond_resched_between_allocs", "outcome", "allocs_got", "dmesg_page_allocation_failure",
    "event_deltas", "zones_at_start",
)  # fmt: skip
LADDER_VMSTAT = (
    "nr_active_anon", "nr_active_file", "nr_inactive_anon", "nr_inactive_file", "nr_shmem",
    "nr_slab_reclaimable",
)  # fmt: skip
#: The two kernels that differ in what `Kernel` can be told: pages checked at free, or not.
PAGE_KERNELS = ("plain", "noinit")


def write_json(path: Path, value: object) -> None:
    """Write compact JSON, compressed if the name ends in .gz; the same bytes for the same value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        data = json.dumps(value, separators=(",", ":")).encode()
        path.write_bytes(gzip.compress(data, 9, mtime=0))
    else:
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def copy_traces(recordings: Path) -> None:
    """Copy every page allocator trace, compressed."""
    shutil.rmtree(GOLDEN / "traces", ignore_errors=True)
    for folder in ("traces", "special/bulk"):
        for path in sorted((recordings / folder).glob("*.json")):
            trace = json.loads(path.read_text(encoding="utf-8"))
            write_json(GOLDEN / "traces" / f"{path.stem}.json.gz", trace)


def copy_boots(recordings: Path) -> None:
    """Copy the zones of each boot, all that its marks depend on, and the /proc texts."""
    summary = json.loads((recordings / "boots" / "SUMMARY.json").read_text(encoding="utf-8"))
    boots, recorded, texts = {}, {}, {}
    for name, boot in sorted(summary.items()):
        folder = recordings / "boots" / name
        if not boot.get("zones"):
            continue
        if PLAIN_BOOT.fullmatch(name):
            boots[name] = machine(boot)
        recorded[name] = boot_record(boot, folder)
        for place in (folder, *sorted(folder.glob("step*"))):
            texts[place.relative_to(folder.parent).as_posix()] = {
                file: (place / file).read_text(encoding="utf-8")
                for file in ("buddyinfo", "pagetypeinfo")
            }
    folders: dict[str, str] = {}
    for name in FOLDERS:
        folders |= files(recordings / "boots" / name)
    write_json(GOLDEN / "boots.json", boots)
    write_json(GOLDEN / "recorded_boots.json.gz", recorded)
    write_json(GOLDEN / "boot_folders.json.gz", folders)
    write_json(GOLDEN / "proc.json.gz", texts)


def machine(boot: dict[str, Any]) -> dict[str, Any]:
    """Return what a machine was given, and the zones and fallback orders that Linux made of it."""
    ram = re.search(r"-m (\d+[MG]?)", boot["qemu_args"])
    cpus = re.search(r"-smp (\d+)", boot["qemu_args"])
    assert ram is not None and cpus is not None
    zones = [zone for zone in boot["zones"] if zone["present"]]
    keys = ("node", "zone", "start_pfn", "spanned", "present")
    orders = (
        re.fullmatch(r"Fallback order for Node (\d+): ([\d ]+)", line)
        for line in boot["dmesg_zones"]
    )
    return {
        "ram": ram[1] if ram[1][-1] in "MG" else f"{ram[1]}M",
        "cpus": int(cpus[1]),
        "nodes": len({zone["node"] for zone in zones}),
        "zones": [{key: zone[key] for key in keys} for zone in zones],
        "stat_threshold": [zone["pcp"][0]["stat_threshold"] for zone in zones],
        "managed": [zone["managed"] for zone in zones],
        "min_free_kbytes": int(boot["sys_vm"]["min_free_kbytes"]),
        "fallback": {order[1]: order[2].split() for order in orders if order},
    }


def boot_record(boot: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a boot as docs/recordings.md has it, without what does not concern the marks."""
    return {
        **state(boot),
        **{key: boot[key] for key in ("uname", "cmdline", "qemu_args")},
        "dmesg": matching(folder / "dmesg", LOG_LINES),
        "iomem": matching(folder / "iomem", "Kernel code"),
        "steps": [{"set": step["set"], **state(step)} for step in boot.get("steps", ())],
    }


def state(boot: dict[str, Any]) -> dict[str, Any]:
    """Return settings and zones at one moment."""
    keys = (
        "node", "zone", "start_pfn", "spanned", "present", "managed", "boost", "min", "low", "high",
        "promo", "protection", "pcp",
    )  # fmt: skip
    zones = [{key: zone[key] for key in keys if key in zone} for zone in boot["zones"]]
    return {"zones": zones, "sys_vm": boot["sys_vm"]}


def matching(path: Path, pattern: str) -> str:
    """Return the lines of a text in which a pattern occurs."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if re.search(pattern, line))


def files(folder: Path) -> dict[str, str]:
    """Return the files of one boot that its marks depend on, by path."""
    names = ("zoneinfo", "sys_vm", "cmdline", "qemu_args", "uname", "iomem", "set")
    paths = [path for path in sorted(folder.rglob("*")) if path.name in names]
    texts = {path.relative_to(folder.parent).as_posix(): path.read_text("utf-8") for path in paths}
    texts[f"{folder.name}/dmesg"] = matching(folder / "dmesg", LOG_LINES) + "\n"
    return texts


def copy_ladder(recordings: Path) -> None:
    """Copy what each run of allocations began with, and what came of it."""
    runs = {}
    for path in sorted((recordings / "ladder").glob("*.json")):
        recorded = json.loads(path.read_text(encoding="utf-8"))
        run = {key: recorded[key] for key in LADDER_KEYS if key in recorded}
        if "first_events" in recorded:
            firsts = recorded["first_events"]
            run["first_events"] = [{"event": one["event"], "n": one["n"]} for one in firsts]
        if "vmstat_before" in recorded:
            before = recorded["vmstat_before"]
            run["vmstat_before"] = {key: before[key] for key in LADDER_VMSTAT if key in before}
        runs[path.stem] = run
    write_json(GOLDEN / "ladder.json.gz", runs)


def copy_misuse(recordings: Path) -> None:
    """Copy the verdicts on wrong frees of pages."""
    matrix = json.loads((recordings / "misuse" / "matrix.json").read_text(encoding="utf-8"))
    keys = ("kernel", "cell", "survived", "report_first_line", "memory_returned")
    rows = [
        {key: row[key] for key in keys}
        for row in matrix
        if row["kernel"] in PAGE_KERNELS
        and (
            row.get("misuse") in PAGE_MISUSE
            or re.fullmatch(r"pair\.pages[03]\.free_pages_(same|smaller|larger|exact)", row["cell"])
        )
    ]
    write_json(GOLDEN / "misuse_pages.json", rows)


def copy_slab(recordings: Path) -> None:
    """Copy every recording of slabs, compressed, and the caches of every boot."""
    shutil.rmtree(GOLDEN / "slab", ignore_errors=True)
    for path in sorted((recordings / "slab").glob("*.json")):
        recording = json.loads(path.read_text(encoding="utf-8"))
        write_json(GOLDEN / "slab" / f"{path.stem}.json.gz", recording)
    summary = json.loads((recordings / "boots" / "SUMMARY.json").read_text(encoding="utf-8"))
    caches = {}
    for path in sorted((recordings / "boots").glob("*/slab_sysfs.tsv")):
        boot, name = summary[path.parent.name], path.parent.name
        cpus = re.search(r"-smp (\d+)", boot["qemu_args"])
        assert cpus is not None
        caches[name] = {
            "nodes": 1 + max(zone["node"] for zone in boot["zones"]),
            "cpus": int(cpus[1]),
            "cmdline": boot["cmdline"].strip(),
            "slab_sysfs": path.read_text(encoding="utf-8"),
        }
        if name in SLABINFO_BOOTS:
            caches[name]["slabinfo"] = (path.parent / "slabinfo").read_text(encoding="utf-8")
    write_json(GOLDEN / "caches.json.gz", caches)


def copy_logs(recordings: Path) -> None:
    """Copy the kernel logs that hold a report about memory, by name, whole."""
    paths = [*(recordings / "logs").glob("*.txt"), *(recordings / "ladder").glob("*.dmesg")]
    logs = {path.stem: path.read_text(encoding="utf-8") for path in sorted(paths)}
    reports = {name: text for name, text in logs.items() if "Mem-Info:" in text}
    write_json(GOLDEN / "logs" / "reports.json.gz", reports)


def main() -> None:
    """Copy everything."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", type=Path, help="folder of recordings")
    recordings = parser.parse_args().recordings
    copy_traces(recordings)
    copy_boots(recordings)
    copy_ladder(recordings)
    copy_misuse(recordings)
    copy_slab(recordings)
    copy_logs(recordings)


if __name__ == "__main__":
    main()
