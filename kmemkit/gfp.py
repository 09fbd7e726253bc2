"""GFP masks: the flags of Linux 6.12 as integers, names both ways for many releases, meaning.

Everything in kmemkit that takes a mask uses this file, and `from kmemkit.gfp import *` gives a
notebook all of it. The constants are those of Debian's 6.12 for amd64; tables of other releases are
in `gfp_tables`, reading and printing in `gfp_names`, the rules in `gfp_rules` and `gfp_legality`.
"""

from __future__ import annotations

from typing import SupportsIndex

from kmemkit.gfp_legality import CALLS, Finding, Outcome, legality
from kmemkit.gfp_names import (
    GfpWarning,
    as_mask,
    bit_elsewhere,
    decode,
    encode,
    flag_names,
    read_mask,
)
from kmemkit.gfp_path import SLOW_PATH, alloc_flags, left_out
from kmemkit.gfp_rules import (
    MIGRATETYPE_NAMES,
    ZONE_NAMES,
    Effects,
    Effort,
    effects,
    gfp_migratetype,
    gfp_zone,
)
from kmemkit.gfp_tables import RELEASES, Profile, UnknownReleaseError, profile
from kmemkit.strings import text

__all__ = (
    "CALLS",
    "GFP_ATOMIC",
    "GFP_BOOT_MASK",
    "GFP_CONSTRAINT_MASK",
    "GFP_DMA",
    "GFP_DMA32",
    "GFP_HIGHUSER",
    "GFP_HIGHUSER_MOVABLE",
    "GFP_KERNEL",
    "GFP_KERNEL_ACCOUNT",
    "GFP_NOFS",
    "GFP_NOIO",
    "GFP_NOWAIT",
    "GFP_RECLAIM_MASK",
    "GFP_SLAB_BUG_MASK",
    "GFP_TRANSHUGE",
    "GFP_TRANSHUGE_LIGHT",
    "GFP_USER",
    "GFP_ZONEMASK",
    "MIGRATETYPE_NAMES",
    "RELEASES",
    "SLOW_PATH",
    "ZONE_NAMES",
    "__GFP_ACCOUNT",
    "__GFP_BITS_MASK",
    "__GFP_BITS_SHIFT",
    "__GFP_COMP",
    "__GFP_DIRECT_RECLAIM",
    "__GFP_DMA",
    "__GFP_DMA32",
    "__GFP_FS",
    "__GFP_HARDWALL",
    "__GFP_HIGH",
    "__GFP_HIGHMEM",
    "__GFP_IO",
    "__GFP_KSWAPD_RECLAIM",
    "__GFP_MEMALLOC",
    "__GFP_MOVABLE",
    "__GFP_NOFAIL",
    "__GFP_NOLOCKDEP",
    "__GFP_NOMEMALLOC",
    "__GFP_NORETRY",
    "__GFP_NOWARN",
    "__GFP_NO_OBJ_EXT",
    "__GFP_RECLAIM",
    "__GFP_RECLAIMABLE",
    "__GFP_RETRY_MAYFAIL",
    "__GFP_SKIP_KASAN",
    "__GFP_SKIP_ZERO",
    "__GFP_THISNODE",
    "__GFP_WRITE",
    "__GFP_ZERO",
    "__GFP_ZEROTAGS",
    "Effects",
    "Effort",
    "Finding",
    "GfpWarning",
    "Outcome",
    "Profile",
    "UnknownReleaseError",
    "alloc_flags",
    "as_mask",
    "decode",
    "describe",
    "effects",
    "encode",
    "flag_names",
    "gfp_migratetype",
    "gfp_zone",
    "left_out",
    "legality",
    "objections",
    "profile",
    "release_notes",
)

# Zone modifiers and mobility.
__GFP_DMA = 0x1
__GFP_HIGHMEM = 0x2
__GFP_DMA32 = 0x4
__GFP_MOVABLE = 0x8
__GFP_RECLAIMABLE = 0x10
# Watermarks and reserves.
__GFP_HIGH = 0x20
__GFP_MEMALLOC = 0x20000
__GFP_NOMEMALLOC = 0x80000
# Reclaim, and how hard to try.
__GFP_IO = 0x40
__GFP_FS = 0x80
__GFP_DIRECT_RECLAIM = 0x400
__GFP_KSWAPD_RECLAIM = 0x800
__GFP_RETRY_MAYFAIL = 0x4000
__GFP_NOFAIL = 0x8000
__GFP_NORETRY = 0x10000
# What is done with the pages, and what is said.
__GFP_ZERO = 0x100
__GFP_WRITE = 0x1000
__GFP_NOWARN = 0x2000
__GFP_COMP = 0x40000
__GFP_HARDWALL = 0x100000
__GFP_THISNODE = 0x200000
__GFP_ACCOUNT = 0x400000
__GFP_ZEROTAGS = 0x800000
__GFP_NO_OBJ_EXT = 0x1000000
# Debian's amd64 kernel is built without KASAN_HW_TAGS and LOCKDEP: these have no bit in it.
__GFP_SKIP_ZERO = 0x0
__GFP_SKIP_KASAN = 0x0
__GFP_NOLOCKDEP = 0x0

__GFP_RECLAIM = __GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM
__GFP_BITS_SHIFT = 25
__GFP_BITS_MASK = (1 << __GFP_BITS_SHIFT) - 1

GFP_ATOMIC = __GFP_HIGH | __GFP_KSWAPD_RECLAIM
GFP_KERNEL = __GFP_RECLAIM | __GFP_IO | __GFP_FS
GFP_KERNEL_ACCOUNT = GFP_KERNEL | __GFP_ACCOUNT
GFP_NOWAIT = __GFP_KSWAPD_RECLAIM | __GFP_NOWARN
GFP_NOIO = __GFP_RECLAIM
GFP_NOFS = __GFP_RECLAIM | __GFP_IO
GFP_USER = GFP_KERNEL | __GFP_HARDWALL
GFP_DMA = __GFP_DMA
GFP_DMA32 = __GFP_DMA32
GFP_HIGHUSER = GFP_USER | __GFP_HIGHMEM
GFP_HIGHUSER_MOVABLE = GFP_HIGHUSER | __GFP_MOVABLE | __GFP_SKIP_KASAN
GFP_TRANSHUGE_LIGHT = (
    GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOMEMALLOC | __GFP_NOWARN
) & ~__GFP_RECLAIM
GFP_TRANSHUGE = GFP_TRANSHUGE_LIGHT | __GFP_DIRECT_RECLAIM

# The allocator's own masks.
GFP_ZONEMASK = __GFP_DMA | __GFP_HIGHMEM | __GFP_DMA32 | __GFP_MOVABLE
GFP_BOOT_MASK = __GFP_BITS_MASK & ~(__GFP_RECLAIM | __GFP_IO | __GFP_FS)
GFP_RECLAIM_MASK = (
    __GFP_RECLAIM | __GFP_HIGH | __GFP_IO | __GFP_FS | __GFP_NOWARN | __GFP_RETRY_MAYFAIL
) | (__GFP_NOFAIL | __GFP_NORETRY | __GFP_MEMALLOC | __GFP_NOMEMALLOC | __GFP_NOLOCKDEP)
GFP_CONSTRAINT_MASK = __GFP_HARDWALL | __GFP_THISNODE
GFP_SLAB_BUG_MASK = __GFP_DMA32 | __GFP_HIGHMEM | (0xFFFF_FFFF & ~__GFP_BITS_MASK)


def describe(
    mask: SupportsIndex | str,
    release: str | Profile = "6.12",
    *,
    order: int = 0,
    arch: str = "x86_64",
) -> str:
    """Return what a mask says, line by line: names, zone, sleeping, reserves, what is illegal.

    Args:
        mask: a mask or an expression of names.
        release: release (or `profile()`) whose names and bits are meant. What the request may do
            is told by the rules of 6.12; the text says so for every other release.
        order: log2 of the number of pages that are asked for.
        arch: whose zones, "x86_64" or "i386".

    Raises:
        ValueError: the mask cannot be read, or the arch is unknown.
        UnknownReleaseError: the bits of this release are not known.
    """
    chosen = release if isinstance(release, Profile) else profile(release)
    value, notes = read_mask(mask, chosen)
    names = decode(value, chosen) or text("gfp.no_names")
    rows = _rows(value, chosen, order, arch)
    width = max(len(label) for label, _ in rows) + 2
    lines = [text("gfp.title", mask=f"{value:#x}", names=names, release=chosen.release)]
    # A label stands in front of its first line only.
    shown = ""
    for label, line in rows:
        lines.append(f"  {'' if label == shown else label:<{width}}{line}")
        shown = label
    lines += [*notes, *release_notes(value, chosen)]
    return "\n".join(lines)


def _rows(value: int, chosen: Profile, order: int, arch: str) -> list[tuple[str, str]]:
    """Return (label, line) for each thing there is to say of a mask."""
    can = effects(value, order, arch)
    zone = gfp_zone(value, arch)
    highest, *lower = ZONE_NAMES[arch][zone::-1]
    kind = gfp_migratetype(value)
    flags = ", ".join(flag_names(value, chosen)) or text("gfp.no_flags")
    zones = (
        text("gfp.zone_first", highest=highest, lower=", ".join(lower))
        if lower
        else text("gfp.zone_only", highest=highest)
    )
    return [
        (text("gfp.label.flags"), flags),
        (text("gfp.label.zone"), zones),
        (
            text("gfp.label.migratetype"),
            text("gfp.migratetype", number=kind, name=MIGRATETYPE_NAMES[kind]),
        ),
        (text("gfp.label.sleep"), text("gfp.sleep_yes" if can.may_sleep else "gfp.sleep_no")),
        (text("gfp.label.reclaim"), _reclaim(can)),
        (
            text("gfp.label.kswapd"),
            text("gfp.kswapd_yes" if can.wakes_kswapd else "gfp.kswapd_no"),
        ),
        (text("gfp.label.reserves"), _reserves(can)),
        (text("gfp.label.effort"), text(_EFFORT_KEYS[can.effort])),
        (
            text("gfp.label.failure"),
            text("gfp.report_yes" if can.reports_failure else "gfp.report_no"),
        ),
        *((text("gfp.label.pages"), line) for line in _page_lines(can)),
        *((text("gfp.label.illegal"), line) for line in _illegal(value, chosen, order)),
    ]


_EFFORT_KEYS = {
    Effort.NONE: "gfp.effort.none",
    Effort.ONE_ROUND: "gfp.effort.one_round",
    Effort.WHILE_USEFUL: "gfp.effort.while_useful",
    Effort.REPEAT: "gfp.effort.repeat",
    Effort.FOREVER: "gfp.effort.forever",
}


def _reclaim(can: Effects) -> str:
    if not can.may_sleep:
        return text("gfp.reclaim_none")
    words = {
        name: text("gfp.yes" if allowed else "gfp.no")
        for name, allowed in (
            ("io", can.may_io),
            ("fs", can.may_fs),
            ("compact", can.may_compact),
            ("oom", can.may_oom),
        )
    }
    return text("gfp.reclaim", **words)


def _reserves(can: Effects) -> str:
    if not can.may_use_reserves:
        return text("gfp.reserves_none")
    if not can.min_percent:
        return text("gfp.reserves_all")
    return text("gfp.reserves_some", percent=can.min_percent)


def _page_lines(can: Effects) -> list[str]:
    """Return what is special about the pages that are handed out."""
    keys = (
        ("gfp.result_zeroed", can.zeroed),
        ("gfp.result_accounted", can.accounted),
        ("gfp.result_node_only", can.node_only),
    )
    return [text(key) for key, holds in keys if holds]


def objections(
    mask: int, release: str | Profile = "6.12", *, order: int = 0, atomic: bool = False
) -> list[tuple[str, Finding]]:
    """Return (calls, finding) for each rule that a mask breaks, alloc_pages() first.

    The other functions follow, several joined by commas, with what each has against the mask
    besides. Arguments as for `legality`.
    """
    general = legality(mask, order, release=release, atomic=atomic)
    added: dict[Finding, list[str]] = {}
    for call in CALLS[1:]:
        for finding in legality(mask, order, call=call, release=release, atomic=atomic):
            if finding not in general:
                added.setdefault(finding, []).append(f"{call}()")
    found = [("alloc_pages()", finding) for finding in general]
    return found + [(", ".join(calls), finding) for finding, calls in added.items()]


def _illegal(value: int, chosen: Profile, order: int) -> list[str]:
    found = objections(value, chosen, order=order)
    if not found:
        return [text("gfp.legal")]
    lines: list[tuple[str, object]] = [*found]
    if found[0][0] != "alloc_pages()":
        lines.insert(0, ("alloc_pages()", text("gfp.legal")))
    return [text("gfp.illegal_call", calls=calls, finding=finding) for calls, finding in lines]


def release_notes(mask: int, release: str | Profile = "6.12") -> list[str]:
    """Return what a reader must know where the release is not 6.12, or a bit not a flag of it."""
    chosen = release if isinstance(release, Profile) else profile(release)
    notes = []
    nameless = mask & ~sum(bit for _, bit in chosen.flags)
    for bit in (1 << place for place in range(32) if nameless >> place & 1):
        elsewhere = bit_elsewhere(bit)
        key = "gfp.nameless_elsewhere" if elsewhere else "gfp.nameless"
        notes.append(text(key, bit=f"{bit:#x}", release=chosen.release, elsewhere=elsewhere))
    if chosen.release != "6.12":
        notes.append(text("gfp.other_rules", release=chosen.release))
    return notes
