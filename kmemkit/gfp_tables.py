"""GFP bits and names, per kernel release and build options.

What a bit is called, and which bit a name has, depends on the release and on three build options;
both are data here (`_SERIES`), turned into one `Profile` per release and configuration. Releases
whose bits are not known are refused, never guessed. Everybody reaches this through `kmemkit.gfp`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

__all__ = ("RELEASES", "Profile", "UnknownReleaseError", "profile")

_U32 = 0xFFFF_FFFF

#: Bits 0 to 22, the same in every release known here; bit 9 is told by `_Series.atomic`.
_GENERIC = (
    *("DMA", "HIGHMEM", "DMA32", "MOVABLE", "RECLAIMABLE", "HIGH", "IO", "FS", "ZERO", "ATOMIC"),
    *("DIRECT_RECLAIM", "KSWAPD_RECLAIM", "WRITE", "NOWARN", "RETRY_MAYFAIL", "NOFAIL", "NORETRY"),
    *("MEMALLOC", "COMP", "NOMEMALLOC", "HARDWALL", "THISNODE", "ACCOUNT"),
)
#: The head of the kernel's table of printed names (include/trace/events/mmflags.h).
_COMPOSITES = (
    *("GFP_TRANSHUGE", "GFP_TRANSHUGE_LIGHT", "GFP_HIGHUSER_MOVABLE", "GFP_HIGHUSER", "GFP_USER"),
    *("GFP_KERNEL_ACCOUNT", "GFP_KERNEL", "GFP_NOFS", "GFP_ATOMIC", "GFP_NOIO", "GFP_NOWAIT"),
)
#: The rest of that table up to 6.14. A name that the release or the build lacks is left out.
_GROUPED = (
    *("GFP_DMA", "__GFP_HIGHMEM", "GFP_DMA32", "__GFP_HIGH", "__GFP_ATOMIC", "__GFP_IO"),
    *("__GFP_FS", "__GFP_NOWARN", "__GFP_RETRY_MAYFAIL", "__GFP_NOFAIL", "__GFP_NORETRY"),
    *("__GFP_COMP", "__GFP_ZERO", "__GFP_NOMEMALLOC", "__GFP_MEMALLOC", "__GFP_HARDWALL"),
    *("__GFP_THISNODE", "__GFP_RECLAIMABLE", "__GFP_MOVABLE", "__GFP_ACCOUNT", "__GFP_WRITE"),
    *("__GFP_RECLAIM", "__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM", "__GFP_ZEROTAGS"),
    *("__GFP_SKIP_ZERO", "__GFP_SKIP_KASAN_POISON", "__GFP_SKIP_KASAN_UNPOISON"),
    "__GFP_SKIP_KASAN",
)


class UnknownReleaseError(ValueError):
    """The GFP bits of the asked kernel release are not known to kmemkit."""


class _Series(NamedTuple):
    """What sets the masks of some releases apart from the others."""

    releases: tuple[str, ...]
    #: (flag, build option it needs or "") from bit 23 up
    high: tuple[tuple[str, str], ...]
    #: part of GFP_HIGHUSER_MOVABLE beside GFP_HIGHUSER and MOVABLE
    skip_kasan: tuple[str, ...] = ("SKIP_KASAN",)
    #: bit 9 is __GFP_ATOMIC, and belongs to GFP_ATOMIC
    atomic: bool = False
    #: GFP_NOWAIT includes __GFP_NOWARN
    quiet_nowait: bool = True
    #: flags whose option is off take no bit, and later ones move down
    packed: bool = True
    #: single bits are printed in ascending order, and all of them have names
    ascending: bool = False


_ZEROTAGS = ("ZEROTAGS", "")
_SKIP_ZERO = ("SKIP_ZERO", "kasan_hw_tags")
_SKIP_KASAN = ("SKIP_KASAN", "kasan_hw_tags")
_NOLOCKDEP = ("NOLOCKDEP", "lockdep")
_NO_OBJ_EXT = ("NO_OBJ_EXT", "slab_obj_ext")
_FIXED = (_ZEROTAGS, _SKIP_ZERO, _SKIP_KASAN, _NOLOCKDEP)

#: Sources: include/linux/gfp.h, gfp_types.h and include/trace/events/mmflags.h of these releases.
#: Commits: 16f5dfbc851b (6.7) made GFP_NOWAIT quiet, 772dd0342727 (6.9) packs the high bits,
#: ca29a0bf1221 (6.15) prints single bits in ascending order.
_SERIES = (
    _Series(("5.10",), (_NOLOCKDEP,), (), atomic=True, quiet_nowait=False, packed=False),
    _Series(
        ("5.15",),
        (_ZEROTAGS, ("SKIP_KASAN_POISON", ""), _NOLOCKDEP),
        ("SKIP_KASAN_POISON",),
        atomic=True,
        quiet_nowait=False,
        packed=False,
    ),
    _Series(
        ("6.1",),
        (
            _ZEROTAGS,
            _SKIP_ZERO,
            ("SKIP_KASAN_UNPOISON", "kasan_hw_tags"),
            ("SKIP_KASAN_POISON", "kasan_hw_tags"),
            _NOLOCKDEP,
        ),
        ("SKIP_KASAN_UNPOISON", "SKIP_KASAN_POISON"),
        atomic=True,
        quiet_nowait=False,
        packed=False,
    ),
    _Series(("6.6",), _FIXED, quiet_nowait=False, packed=False),
    _Series(("6.7", "6.8"), _FIXED, packed=False),
    _Series(("6.9",), _FIXED),
    _Series(("6.10", "6.11", "6.12", "6.13", "6.14"), (*_FIXED, _NO_OBJ_EXT)),
    _Series(("6.15", "6.16", "6.17", "6.18"), (*_FIXED, _NO_OBJ_EXT), ascending=True),
    _Series(("7.2",), (*_FIXED, ("NO_OBJ_EXT", "")), ascending=True),
)

#: Release series whose GFP bits are known, oldest first.
RELEASES: tuple[str, ...] = tuple(name for series in _SERIES for name in series.releases)


@dataclass(frozen=True)
class Profile:
    """The GFP names and bits of one kernel release in one configuration; made by `profile()`."""

    release: str
    kasan_hw_tags: bool
    lockdep: bool
    slab_obj_ext: bool
    #: every name that the release's C code may use -> its bits; 0 if the build has no bit for it
    values: Mapping[str, int] = field(repr=False)
    #: (name, bits) in the order in which the kernel prints names
    table: tuple[tuple[str, int], ...] = field(repr=False)
    #: (name, bit) of every single bit, ascending
    flags: tuple[tuple[str, int], ...] = field(repr=False)
    #: name without a bit in this configuration -> the build option it needs
    unset: Mapping[str, str] = field(repr=False)


def profile(
    release: str = "6.12",
    *,
    kasan_hw_tags: bool = False,
    lockdep: bool = False,
    slab_obj_ext: bool = True,
) -> Profile:
    """Return the GFP bits of a release, by default as Debian configures it for amd64.

    Args:
        release: a series or what `uname -r` prints: "6.12", "5.15.0-91-generic".
        kasan_hw_tags: CONFIG_KASAN_HW_TAGS, possible on arm64 only.
        lockdep: CONFIG_LOCKDEP, on in debug kernels.
        slab_obj_ext: CONFIG_SLAB_OBJ_EXT, on with memory cgroups from 6.10 on.

    Raises:
        UnknownReleaseError: the bits of this release are not known; the message lists the known.
    """
    return _profile(_series_name(release), kasan_hw_tags, lockdep, slab_obj_ext)


def _series_name(release: str) -> str:
    """Return the known series that a release string belongs to."""
    if not isinstance(release, str):
        raise TypeError(
            f"a kernel release is text such as '6.10', not {release!r}: as a number, 6.10 is 6.1"
        )
    match = re.match(r"\s*(?:Linux version |Linux |v)?(\d+)\.(\d+)(?!\d)", release, re.ASCII)
    if match is None:
        raise UnknownReleaseError(
            f"{release!r} is not a kernel release such as '6.12' or '6.12.117+deb12-amd64'"
        )
    name = f"{int(match[1])}.{int(match[2])}"
    if name not in RELEASES:
        raise UnknownReleaseError(
            f"the GFP bits of Linux {name} are not known, and kmemkit does not guess them; "
            f"known: {', '.join(RELEASES)}"
        )
    return name


@cache
def _profile(release: str, kasan_hw_tags: bool, lockdep: bool, slab_obj_ext: bool) -> Profile:
    series = next(row for row in _SERIES if release in row.releases)
    config = {"kasan_hw_tags": kasan_hw_tags, "lockdep": lockdep, "slab_obj_ext": slab_obj_ext}
    values = {
        f"__GFP_{name}": 1 << bit
        for bit, name in enumerate(_GENERIC)
        if name != "ATOMIC" or series.atomic
    }
    bit = len(_GENERIC)
    for name, option in series.high:
        present = not option or config[option]
        values[f"__GFP_{name}"] = 1 << bit if present else 0
        bit += present or not series.packed
    # In the fixed layouts __GFP_NOLOCKDEP is the last flag, and only LOCKDEP makes room for it.
    shift = bit - (not series.packed and not lockdep)
    flags = tuple((name, value) for name, value in values.items() if value)
    values |= _combinations(values, series, (1 << shift) - 1)
    if release == "6.12":
        values |= _internal(values)
    hidden = () if slab_obj_ext else ("__GFP_NO_OBJ_EXT",)
    if series.ascending:
        order = ("GFP_DMA", "GFP_DMA32", "__GFP_RECLAIM", *(name for name, _ in flags))
    else:
        order = _GROUPED
    return Profile(
        release,
        **config,
        values=values,
        table=tuple(
            (name, values[name])
            for name in (*_COMPOSITES, *order)
            if values.get(name) and name not in hidden
        ),
        flags=flags,
        unset={
            f"__GFP_{name}": f"CONFIG_{option.upper()}"
            for name, option in series.high
            if option and not config[option]
        },
    )


def _combinations(bits: Mapping[str, int], series: _Series, bits_mask: int) -> dict[str, int]:
    """Return the names of a release that stand for several bits (or, GFP_DMA, for a bare one)."""

    def join(*names: str) -> int:
        return sum(bits[f"__GFP_{name}"] for name in names)

    reclaim = join("DIRECT_RECLAIM", "KSWAPD_RECLAIM")
    kernel = reclaim | join("IO", "FS")
    user = kernel | join("HARDWALL")
    movable = user | join("HIGHMEM", "MOVABLE", *series.skip_kasan)
    light = (movable | join("COMP", "NOMEMALLOC", "NOWARN")) & ~reclaim
    return {
        "__GFP_RECLAIM": reclaim,
        "__GFP_BITS_MASK": bits_mask,
        "GFP_ZONEMASK": join("DMA", "HIGHMEM", "DMA32", "MOVABLE"),
        "GFP_ATOMIC": join("HIGH", "KSWAPD_RECLAIM", *(("ATOMIC",) if series.atomic else ())),
        "GFP_KERNEL": kernel,
        "GFP_KERNEL_ACCOUNT": kernel | join("ACCOUNT"),
        "GFP_NOWAIT": join("KSWAPD_RECLAIM", *(("NOWARN",) if series.quiet_nowait else ())),
        "GFP_NOIO": reclaim,
        "GFP_NOFS": reclaim | join("IO"),
        "GFP_USER": user,
        "GFP_DMA": join("DMA"),
        "GFP_DMA32": join("DMA32"),
        "GFP_HIGHUSER": user | join("HIGHMEM"),
        "GFP_HIGHUSER_MOVABLE": movable,
        "GFP_TRANSHUGE_LIGHT": light,
        "GFP_TRANSHUGE": light | join("DIRECT_RECLAIM"),
    }


def _internal(bits: Mapping[str, int]) -> dict[str, int]:
    """Return the allocator's own masks (mm/internal.h), which are known for 6.12 only."""
    names = ("HIGH", "NOWARN", "RETRY_MAYFAIL", "NOFAIL", "NORETRY", "MEMALLOC", "NOMEMALLOC")
    passed = sum(bits[f"__GFP_{name}"] for name in (*names, "NOLOCKDEP"))
    return {
        "GFP_BOOT_MASK": bits["__GFP_BITS_MASK"] & ~bits["GFP_KERNEL"],
        "GFP_RECLAIM_MASK": bits["GFP_KERNEL"] | passed,
        "GFP_CONSTRAINT_MASK": bits["__GFP_HARDWALL"] | bits["__GFP_THISNODE"],
        "GFP_SLAB_BUG_MASK": bits["__GFP_DMA32"]
        | bits["__GFP_HIGHMEM"]
        | (_U32 & ~bits["__GFP_BITS_MASK"]),
    }
