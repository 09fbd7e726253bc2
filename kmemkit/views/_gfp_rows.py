"""What a GFP mask says, as rows of a table: one section for each question a mask answers.

GfpPanel shows these rows beside the bits of the same section, and its text twin prints them. All
of it is worked out from the mask by `kmemkit.gfp`; nothing here knows a widget.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kmemkit.gfp import (
    SLOW_PATH,
    ZONE_NAMES,
    Effort,
    alloc_flags,
    decode,
    effects,
    gfp_migratetype,
    gfp_zone,
    left_out,
    objections,
    profile,
)
from kmemkit.gfp_names import read_mask
from kmemkit.snapshot import MIGRATE_NAMES
from kmemkit.strings import text
from kmemkit.views.palette import TYPE_LETTERS

__all__ = ("SECTIONS", "Bit", "Cell", "Request", "bits_of", "read", "row_keys", "summary")

#: The sections of the panel: the three questions, then what is done with the pages; each with the
#: flags that belong to it. A flag that is in none belongs to the last.
SECTIONS = {
    "sleep": ("DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS"),
    "where": ("DMA", "DMA32", "HIGHMEM", "MOVABLE", "RECLAIMABLE", "THISNODE", "HARDWALL"),
    "hard": ("HIGH", "ATOMIC", "MEMALLOC", "NOMEMALLOC", "NORETRY", "RETRY_MAYFAIL", "NOFAIL"),
    "pages": ("ZERO", "COMP", "ACCOUNT", "NOWARN", "WRITE"),
}
_ROWS = {
    "sleep": ("sleeps", "reclaim", "kswapd"),
    "where": ("zones", "mobility", "nodes"),
    "hard": ("must_stay", "flags", "rungs", "effort"),
    "pages": ("pages", "failure", "illegal", "elsewhere"),
}
_BITS = 32


@dataclass(frozen=True, slots=True)
class Request:
    """One mask as the panel looks at it: by the names of a release, for an order and a machine."""

    mask: int
    order: int = 0
    release: str = "6.12"
    arch: str = "x86_64"
    atomic: bool = False  #: whether the caller must not sleep

    @property
    def hex(self) -> str:
        """The mask as the kernel prints it."""
        return f"{self.mask:#x}"

    @property
    def names(self) -> str:
        """The names the release prints for the mask (%pGg)."""
        return decode(self.mask, self.release) or text("gfp.no_names")

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones that may serve it on one node, in the order in which they are asked."""
        return ZONE_NAMES[self.arch][gfp_zone(self.mask, self.arch) :: -1]

    def cell(self, row: str) -> Cell:
        """Return what one row says of this request."""
        return _CELLS[row](self)


@dataclass(frozen=True, slots=True)
class Cell:
    """What a row says of one request. `kind` tells the page how to draw the lines."""

    lines: tuple[str, ...]
    kind: str = "text"
    number: float = 0.0  #: percent of the MIN mark for "share", the migratetype for "type"

    def said(self) -> tuple[str, ...]:
        """Return the cell as lines of text; short ones on one line."""
        if self.kind in ("signs", "illegal", "elsewhere"):
            return self.lines
        return ((" → " if self.kind == "chain" else "; ").join(self.lines),)


def _sleeps(r: Request) -> Cell:
    return Cell((text(f"gfp_panel.sleeps.{'yes' if effects(r.mask).may_sleep else 'no'}"),))


def _reclaim(r: Request) -> Cell:
    can = effects(r.mask, r.order, r.arch)
    if not can.may_sleep:
        return Cell((text("gfp.reclaim_none"),))
    may = (
        ("io", can.may_io),
        ("fs", can.may_fs),
        ("compact", can.may_compact),
        ("oom", can.may_oom),
    )
    lines = (text(f"gfp_panel.{'may' if holds else 'may_not'}.{key}") for key, holds in may)
    return Cell(tuple(lines), "signs")


def _kswapd(r: Request) -> Cell:
    return Cell((text(f"gfp.kswapd_{'yes' if effects(r.mask).wakes_kswapd else 'no'}"),))


def _mobility(r: Request) -> Cell:
    kind = gfp_migratetype(r.mask)
    line = f"{TYPE_LETTERS[kind]} {MIGRATE_NAMES[kind]}"
    return Cell((line, text(f"gfp_panel.mobility.{MIGRATE_NAMES[kind].lower()}")), "type", kind)


def _nodes(r: Request) -> Cell:
    only = effects(r.mask).node_only
    lines = [text("gfp.result_node_only") if only else text("gfp_panel.any_node")]
    if r.mask & _FLAG["__GFP_HARDWALL"]:
        lines.append(text("gfp_panel.hardwall"))
    elif "ALLOC_CPUSET" not in alloc_flags(r.mask, r.order):
        lines.append(text("gfp_panel.no_cpuset"))
    return Cell(tuple(lines))


def _must_stay(r: Request) -> Cell:
    percent = effects(r.mask).min_percent
    return Cell((text("gfp_panel.must_stay", percent=f"{percent:g}"),), "share", percent)


def _flags(r: Request) -> Cell:
    return Cell((" | ".join(alloc_flags(r.mask, r.order)),), "code")


def _rungs(r: Request) -> Cell:
    missing = left_out(r.mask, r.order, r.arch)
    lines = []
    limited = "ALLOC_NO_WATERMARKS" not in alloc_flags(r.mask, r.order)
    for rung in SLOW_PATH:
        name = text(f"road.rung.{rung}")
        if rung == "reserves" and limited:
            # Without special rights this is one more look with those of the look before.
            name = text("gfp_panel.once_more")
        if rung in missing:
            why = text(f"gfp_panel.left_out.{missing[rung]}")
            lines.append(text("gfp_panel.rung_out", name=name, why=why))
        else:
            lines.append(text("gfp_panel.rung_in", name=name))
    return Cell(tuple(lines), "signs")


_EFFORTS = {
    Effort.NONE: "gfp.effort.none",
    Effort.ONE_ROUND: "gfp.effort.one_round",
    Effort.WHILE_USEFUL: "gfp.effort.while_useful",
    Effort.REPEAT: "gfp.effort.repeat",
    Effort.FOREVER: "gfp.effort.forever",
}


def _effort(r: Request) -> Cell:
    if "low" in left_out(r.mask, r.order):
        return Cell((text("gfp_panel.too_high"),))
    return Cell((text(_EFFORTS[effects(r.mask, r.order, r.arch).effort]),))


def _pages(r: Request) -> Cell:
    can = effects(r.mask)
    said = (
        ("gfp.result_zeroed", can.zeroed),
        ("gfp.result_accounted", can.accounted),
        ("gfp_panel.compound", bool(r.mask & _FLAG["__GFP_COMP"]) and r.order > 0),
    )
    return Cell(tuple(text(key) for key, holds in said if holds) or (text("gfp_panel.plain"),))


def _failure(r: Request) -> Cell:
    return Cell((text(f"gfp.report_{'yes' if effects(r.mask).reports_failure else 'no'}"),))


def _illegal(r: Request) -> Cell:
    found = objections(r.mask, r.release, order=r.order, atomic=r.atomic)
    lines = tuple(str(finding) for calls, finding in found if calls == _HERE)
    return Cell(lines, "illegal") if lines else Cell((text("gfp.legal"),))


def _elsewhere(r: Request) -> Cell:
    found = objections(r.mask, r.release, order=r.order, atomic=r.atomic)
    lines = (
        text("gfp.illegal_call", calls=calls, finding=finding)
        for calls, finding in found
        if calls != _HERE
    )
    return Cell(tuple(lines) or (text("gfp.legal"),), "elsewhere")


_HERE = "alloc_pages()"
_FLAG = profile("6.12").values
_CELLS = {
    "sleeps": _sleeps,
    "reclaim": _reclaim,
    "kswapd": _kswapd,
    "zones": lambda r: Cell(r.zones, "chain"),
    "mobility": _mobility,
    "nodes": _nodes,
    "must_stay": _must_stay,
    "flags": _flags,
    "rungs": _rungs,
    "effort": _effort,
    "pages": _pages,
    "failure": _failure,
    "illegal": _illegal,
    "elsewhere": _elsewhere,
}


def row_keys(section: str) -> tuple[str, ...]:
    """Return the rows of one section, from top to bottom."""
    return _ROWS[section]


def summary(r: Request) -> str:
    """Return the three answers of a request in one line."""
    can = effects(r.mask, r.order, r.arch)
    return text(
        "gfp_panel.summary",
        sleeps=text(f"gfp_panel.sleeps_short.{'yes' if can.may_sleep else 'no'}"),
        zone=r.zones[0],
        percent=f"{can.min_percent:g}",
    )


@dataclass(frozen=True, slots=True)
class Bit:
    """One bit as a release names it. `name` is "" where the release has no flag for it."""

    place: int
    name: str
    section: str

    @property
    def hex(self) -> str:
        """The bit's value."""
        return f"{1 << self.place:#x}"

    def says(self, release: str) -> str:
        """Return what the bit is called and what it asks for."""
        if not self.name:
            return text("gfp_panel.no_bit", bit=self.place, hex=self.hex, release=release)
        what = text(f"gfp_panel.bit.{self.name.removeprefix('__GFP_').lower()}")
        return text("gfp_panel.bit_line", name=self.name, bit=self.place, hex=self.hex, what=what)


def bits_of(release: str, masks: tuple[int, ...]) -> tuple[Bit, ...]:
    """Return all bits to show, ascending: those the release has flags for, and those that are set.

    They fill whole hex digits, so some have no flag.
    """
    names = {bit: name for name, bit in profile(release).flags}
    top = max([*names, *masks, 1]).bit_length()
    return tuple(_bits(names, min(-(-top // 4) * 4, _BITS)))


def _bits(names: dict[int, str], count: int) -> Iterator[Bit]:
    for place in range(count):
        name = names.get(1 << place, "")
        flag = name.removeprefix("__GFP_")
        homes = (section for section, flags in SECTIONS.items() if flag in flags)
        yield Bit(place, name, next(homes, "pages"))


def read(typed: str, release: str) -> tuple[int, tuple[str, ...]]:
    """Return the mask that was typed as names, hex or both, and what there is to say of it.

    Raises:
        ValueError: it cannot be read; the message says where and why.
    """
    if not typed.strip():
        raise ValueError(text("gfp_panel.empty"))
    return read_mask(typed, release)
