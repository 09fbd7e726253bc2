"""The kernel command line and sizes with suffixes, as far as the memory manager reads them.

`Kernel(ram="64M", cmdline="init_on_alloc=0")` uses both. A parameter is obeyed, or it changes
nothing that is simulated, or it is refused with a sentence; one that Linux does not know is listed
in the kernel log, as Linux does.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kmemkit.mm.slab import (
    SLAB_CONSISTENCY_CHECKS,
    SLAB_POISON,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TRACE,
)

__all__ = (
    "NOT_MODELLED",
    "SUPPORTED",
    "parse_cmdline",
    "parse_percent",
    "parse_size",
    "parse_slab_debug",
)

#: Parameters the simulator obeys: the values it accepts, or the kind of value.
SUPPORTED: dict[str, tuple[str, ...] | str] = {
    "crashkernel": "size",
    "debug_pagealloc": ("0", "1", "off", "on"),
    "highmem": "size",
    "hugepages": "count",
    "init_on_alloc": ("0", "1"),
    "init_on_free": ("0", "1"),
    "kernelcore": "size or percentage",
    "kfence.num_objects": "count",
    "kfence.sample_interval": "count",
    "mem": "size",
    "movable_node": "nothing",
    "movablecore": "size or percentage",
    "numa": "off or fake=N",
    "page_alloc.shuffle": ("0", "1", "Y", "N", "y", "n"),
    "slab_debug": "slab_debug letters",
    "slab_max_order": "count",
    "slab_min_objects": "count",
    "slab_min_order": "count",
    "slab_nomerge": "nothing",
    "transparent_hugepage": ("always", "madvise", "never"),
    "vmalloc": "size",
}
#: Parameters that change what the simulator computes, but are not simulated.
NOT_MODELLED = (
    "default_hugepagesz", "hugepagesz", "hugetlb_cma", "maxcpus", "memmap", "memtest", "nosmp",
    "nr_cpus", "page_poison", "possible_cpus",
)  # fmt: skip
#: Only 32-bit kernels read these; others pass them on.
_I386_ONLY = ("highmem", "vmalloc")
#: Parameters Linux knows that change nothing here. Debian's kernel is built without CMA, so cma= is
#: not among them. Names with a dot are modules' parameters, and never listed as unknown.
_HARMLESS = frozenset(
    (
        "acpi", "apic", "audit", "cgroup_disable", "clocksource", "console", "debug",
        "earlycon", "earlyprintk", "hugetlb_free_vmemmap", "idle", "ignore_loglevel",
        "init", "initcall_debug", "initrd", "intel_iommu", "iommu", "lockdown",
        "log_buf_len", "loglevel", "lpj", "lsm", "mce", "mitigations", "nmi_watchdog",
        "no_hash_pointers", "no_timer_check", "noapic", "nohz", "nolapic", "nopti",
        "norandmaps", "notsc", "nox2apic", "numa_balancing", "numa_zonelist_order", "oops",
        "panic", "panic_on_warn", "pci", "preempt", "pti", "quiet", "rcupdate", "rdinit",
        "reboot", "resume", "ro", "root", "rootdelay", "rootflags", "rootfstype",
        "rootwait", "rw", "security", "selinux", "slab_merge",
        "slub_merge", "splash", "swapaccount", "swiotlb", "thp_anon", "tsc", "watchdog",
    )
)  # fmt: skip

#: slab_debug= letter -> flags of the caches it is for.
SLAB_DEBUG_LETTERS = {
    "F": SLAB_CONSISTENCY_CHECKS,
    "Z": SLAB_RED_ZONE,
    "P": SLAB_POISON,
    "U": SLAB_STORE_USER,
    "T": SLAB_TRACE,
    "A": 0,
    "O": 0,
    "-": 0,
}

_SUFFIX = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MOST = 1 << 46  # 64 TiB, what x86-64 with four page-table levels can hold
_MOST_FAKE_NODES = 64


def parse_size(size: str | int) -> int:
    """Return a size in bytes from an int or a text such as "64M", "4 GiB", "0x1000".

    Raises:
        TypeError, ValueError: not a size; the message shows what is.
    """
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        raise TypeError(
            f"{size!r} is not a size; give bytes as an int, or text such as '64M' or '4G'"
        )
    number = size
    if isinstance(size, str):
        match = re.fullmatch(
            r"\s*(0x[0-9a-f]{1,16}|\d{1,20})\s*([KMGT]?)(i?B)?\s*", size, re.IGNORECASE | re.ASCII
        )
        if match is None:
            raise ValueError(
                f"{size!r} is not a size; give bytes as an int, or text such as '64M' or '4G'"
            )
        number = (
            int(match[1], 0 if match[1][:2].lower() == "0x" else 10) * _SUFFIX[match[2].upper()]
        )
    assert isinstance(number, int)
    if not 0 < number <= _MOST:
        raise ValueError(f"{size!r}: a size must be above 0 and at most 64 TiB")
    return number


def parse_percent(value: str, whole: int) -> int:
    """Return pages from "512M" or "25%", the latter of `whole` pages (cmdline_parse_core())."""
    percent = re.fullmatch(r"(\d{1,3})%", value, re.ASCII)
    return whole * 100 * int(percent[1]) // 10000 if percent else parse_size(value) >> 12


def parse_slab_debug(value: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Return (debug flags, names of caches or none for all) for each part of slab_debug=.

    Letters F, Z, P, U, T, A; "-" is none; no letters are FZPU. Parts are separated by ";", names
    by ",", and may end with "*". O is left to the caller, and A (failslab) changes no layout.

    Raises:
        ValueError: a letter that means nothing.
    """
    parts = []
    for part in value.split(";"):
        letters, _, names = part.partition(",")
        bits = 0
        for letter in letters.upper() or "FZPU":
            if letter not in SLAB_DEBUG_LETTERS:
                raise ValueError(f"slab_debug={value!r}: no debugging is called {letter!r}")
            bits |= SLAB_DEBUG_LETTERS[letter]
        if not letters.strip("oO"):
            bits = sum(SLAB_DEBUG_LETTERS[letter] for letter in "FZPU")
        parts.append((bits, tuple(filter(None, names.split(",")))))
    return tuple(parts)


def parse_cmdline(cmdline: str, arch: str = "x86_64") -> tuple[dict[str, str], list[str]]:
    """Return (parameters the simulator obeys, parameters Linux does not know) of a command line.

    sysctl.vm.NAME=VALUE is among the first.

    Raises:
        TypeError: not text. ValueError: a parameter that matters but is not simulated, or a value
            that is not possible.
    """
    if not isinstance(cmdline, str):
        raise TypeError(f"cmdline={cmdline!r}: give the kernel command line as text")
    known: dict[str, str] = {}
    unknown: list[str] = []
    for word in cmdline.split():
        name, _, value = word.partition("=")
        if name.startswith("slub_"):  # the old spelling, still taken
            name = "slab_" + name.removeprefix("slub_")
        if name in NOT_MODELLED:
            raise ValueError(
                f"cmdline: {word!r} changes the memory layout in a way that is not simulated; "
                f"leave it out (simulated: {', '.join(sorted(SUPPORTED))})"
            )
        if name in SUPPORTED and (arch == "i386" or name not in _I386_ONLY):
            _check(word, name, value)
            known[name] = value
        elif name.startswith("sysctl.vm."):
            known[name] = value
        elif name not in _HARMLESS and "." not in name:
            unknown.append(word)
    return known, unknown


def _check(word: str, name: str, value: str) -> None:
    """Raise ValueError unless the parameter can have this value."""
    kind = SUPPORTED[name]
    if isinstance(kind, tuple):
        if value not in kind:
            raise ValueError(f"cmdline: {word!r}: {name} takes one of {', '.join(kind)}")
        return
    fine: dict[str, Callable[[], bool]] = {
        "size": lambda: parse_size(value) > 0,
        "size or percentage": lambda: value != "mirror" and parse_percent(value, 100) <= _MOST,
        "count": lambda: re.fullmatch(r"\d{1,9}", value, re.ASCII) is not None,
        "nothing": lambda: not value,
        "slab_debug letters": lambda: parse_slab_debug(value) is not None,
        "off or fake=N": lambda: value == "off" or _fake_nodes(value) > 0,
    }
    try:
        good = fine[kind]()
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"cmdline: {word!r}: {name} takes {kind}")


def _fake_nodes(value: str) -> int:
    """Return the N of numa=fake=N, or 0 if that is not what it says."""
    match = re.fullmatch(r"fake=(\d{1,3})", value, re.ASCII)
    return int(match[1]) if match and int(match[1]) <= _MOST_FAKE_NODES else 0
