"""Which rules of Linux 6.12 a request breaks, and what the kernel really does about each.

A mask is legal or not by the function that gets it, so the rules come in two parts: those of the
called function, and those of the page allocator for what the function leaves of the mask. Rules:
mm/page_alloc.c, mm/slub.c, kernel/dma/mapping.c. Everybody reaches this through `kmemkit.gfp`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import SupportsIndex

from kmemkit.gfp_names import as_mask, decode
from kmemkit.gfp_rules import BAD_ZONES, gfp_migratetype
from kmemkit.gfp_tables import Profile, profile
from kmemkit.strings import text

__all__ = ("CALLS", "Finding", "Outcome", "legality")

_FLAG = profile("6.12").values
_DMA, _HIGHMEM, _DMA32 = (_FLAG[f"__GFP_{name}"] for name in ("DMA", "HIGHMEM", "DMA32"))
_SLEEP, _NOFAIL, _NOWARN = (
    _FLAG[f"__GFP_{name}"] for name in ("DIRECT_RECLAIM", "NOFAIL", "NOWARN")
)
_MEMALLOC, _NOMEMALLOC = _FLAG["__GFP_MEMALLOC"], _FLAG["__GFP_NOMEMALLOC"]
_ZERO, _COMP = _FLAG["__GFP_ZERO"], _FLAG["__GFP_COMP"]
_SLAB_PASSES = _FLAG["GFP_RECLAIM_MASK"] | _FLAG["GFP_CONSTRAINT_MASK"]

_MAX_ORDER = 10


class Outcome(StrEnum):
    """What the kernel does about an illegal or contradictory mask."""

    NULL = "NULL"  #: the request fails
    MAY_FAIL = "may fail"  #: the request may return NULL in spite of __GFP_NOFAIL
    WARN_ONCE = "WARN once"  #: one stack dump per boot, then it goes on
    WARN = "warn"  #: a message and a stack dump each time, bits removed, then it goes on
    BUG = "BUG"
    CLEARED = "cleared"  #: the bits are removed in silence
    SILENT = "silent"  #: nothing is said, and the result is not what was meant


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that a mask breaks, and what the real kernel does then."""

    rule: str  #: string key of the sentence that says what is wrong
    outcome: Outcome
    result: str  #: string key of the sentence that says what happens
    where: str  #: file and function that decide it
    values: tuple[tuple[str, object], ...] = ()

    @property
    def rule_text(self) -> str:
        """What is wrong with the mask, in the current language."""
        return text(self.rule, **dict(self.values))

    @property
    def result_text(self) -> str:
        """What the kernel does, in the current language."""
        return text(self.result, **dict(self.values))

    def __str__(self) -> str:
        return text("gfp.finding", rule=self.rule_text, result=self.result_text, where=self.where)


#: Functions that `legality` knows the rules of.
CALLS = (
    "alloc_pages",
    "__get_free_pages",
    "alloc_pages_exact",
    "kmalloc",
    "kmem_cache_alloc",
    "dma_alloc_coherent",
    "mempool_alloc",
)


@dataclass(frozen=True, slots=True)
class _Request:
    mask: int
    order: int
    call: str
    names: Profile
    atomic: bool
    memalloc: bool
    ctor: bool
    managed_dma: bool
    debug: bool

    def __post_init__(self) -> None:
        if self.call not in CALLS:
            raise ValueError(f"no rules are known for {self.call!r}; known: {', '.join(CALLS)}")
        if self.order < 0:
            raise ValueError(f"order {self.order} is negative: it is log2 of a number of pages")

    @property
    def slab_bug(self) -> int:
        """The bits that no slab cache takes: GFP_SLAB_BUG_MASK of the release."""
        return self.mask & (_DMA32 | _HIGHMEM | ~self.names.values["__GFP_BITS_MASK"])

    def show(self, mask: int) -> str:
        """Return the names that the release prints for a mask."""
        return decode(mask, self.names)

    @property
    def from_slab(self) -> bool:
        """Whether slab pages serve it; kmalloc above 8192 bytes goes to the page allocator."""
        return self.call == "kmem_cache_alloc" or (self.call == "kmalloc" and self.order <= 1)

    def reaching_buddy(self) -> int:
        """Return what the called function leaves of the mask for the page allocator."""
        if self.from_slab:
            return self.mask & _SLAB_PASSES
        removed = {
            "kmalloc": self.slab_bug,
            "__get_free_pages": _HIGHMEM,
            "alloc_pages_exact": _HIGHMEM | _COMP,
            "dma_alloc_coherent": _DMA | _DMA32 | _HIGHMEM,
        }
        return self.mask & ~removed.get(self.call, 0)


def legality(
    mask: SupportsIndex | str,
    order: int = 0,
    *,
    call: str = "alloc_pages",
    release: str | Profile = "6.12",
    atomic: bool = False,
    memalloc: bool = False,
    ctor: bool = False,
    managed_dma: bool = True,
    debug: bool = False,
) -> tuple[Finding, ...]:
    """Return every rule of 6.12 that a request breaks, with what the kernel does then.

    Args:
        mask: a GFP mask.
        order: log2 of the number of pages.
        call: which function gets the mask, one of CALLS.
        release: whose names and bits are meant; the rules stay those of 6.12.
        atomic: the caller holds a spinlock or is in an interrupt.
        memalloc: the task has PF_MEMALLOC.
        ctor: the slab cache has a constructor.
        managed_dma: the machine has pages in ZONE_DMA.
        debug: CONFIG_DEBUG_VM and CONFIG_DEBUG_ATOMIC_SLEEP, both off in Debian.

    Raises:
        ValueError: `call` is not one of CALLS, `order` is negative, or `mask` is not a mask.
    """
    names = release if isinstance(release, Profile) else profile(release)
    value = as_mask(mask, names)
    request = _Request(value, order, call, names, atomic, memalloc, ctor, managed_dma, debug)
    found = list(_CALL_RULES[call](request))
    # Before a NULL of the called function itself the page allocator is never asked.
    if not any(finding.outcome is Outcome.NULL for finding in found):
        found += _buddy_rules(request)
    return tuple(found)


def _plain_rules(r: _Request) -> Iterator[Finding]:
    yield from ()


def _free_pages_rules(r: _Request) -> Iterator[Finding]:
    if r.mask & _HIGHMEM:
        where = "mm/page_alloc.c get_free_pages_noprof()"
        yield Finding("gfp.rule.address", Outcome.CLEARED, "gfp.result.address", where)


def _exact_rules(r: _Request) -> Iterator[Finding]:
    if extra := r.mask & (_COMP | _HIGHMEM):
        where, values = "mm/page_alloc.c alloc_pages_exact_noprof()", (("flags", r.show(extra)),)
        yield Finding("gfp.rule.exact", Outcome.WARN_ONCE, "gfp.result.exact", where, values)


def _slab_rules(r: _Request) -> Iterator[Finding]:
    if extra := r.slab_bug:
        kept = r.mask & ~extra
        values = (
            ("flags", r.show(extra)),
            ("extra", f"{extra:#x}"),
            ("kept", f"{kept:#x}"),
            ("kept_flags", r.show(kept)),
        )
        where = "mm/slub.c new_slab()" if r.from_slab else "mm/slub.c ___kmalloc_large_node()"
        result = "gfp.result.slab" if r.from_slab else "gfp.result.slab_large"
        yield Finding("gfp.rule.slab", Outcome.WARN, result, where, values)
    if r.ctor and r.mask & _ZERO:
        where = "mm/slub.c new_slab()"
        yield Finding("gfp.rule.ctor", Outcome.WARN_ONCE, "gfp.result.ctor", where)


def _dma_rules(r: _Request) -> Iterator[Finding]:
    where = "kernel/dma/mapping.c dma_alloc_attrs()"
    if r.mask & _COMP:
        yield Finding("gfp.rule.dma_comp", Outcome.NULL, "gfp.result.dma_comp", where)
    elif zones := r.mask & (_DMA | _DMA32 | _HIGHMEM):
        values = (("flags", r.show(zones)),)
        yield Finding("gfp.rule.dma_zone", Outcome.CLEARED, "gfp.result.dma_zone", where, values)


def _mempool_rules(r: _Request) -> Iterator[Finding]:
    if r.mask & _ZERO:
        where = "mm/mempool.c mempool_alloc_noprof()"
        if r.debug:
            yield Finding("gfp.rule.pool", Outcome.WARN_ONCE, "gfp.result.pool_warn", where)
        else:
            yield Finding("gfp.rule.pool", Outcome.SILENT, "gfp.result.pool", where)


_CALL_RULES: dict[str, Callable[[_Request], Iterator[Finding]]] = {
    "alloc_pages": _plain_rules,
    "__get_free_pages": _free_pages_rules,
    "alloc_pages_exact": _exact_rules,
    "kmalloc": _slab_rules,
    "kmem_cache_alloc": _slab_rules,
    "dma_alloc_coherent": _dma_rules,
    "mempool_alloc": _mempool_rules,
}


def _buddy_rules(r: _Request) -> Iterator[Finding]:
    if r.order > _MAX_ORDER:
        # __alloc_pages() looks at nothing else then.
        where = "mm/page_alloc.c __alloc_pages_noprof()"
        result = "gfp.result.order_quiet" if r.mask & _NOWARN else "gfp.result.order"
        values = (("order", r.order), ("largest", _MAX_ORDER))
        yield Finding("gfp.rule.order", Outcome.NULL, result, where, values)
        return
    if r.atomic and r.mask & _SLEEP:
        where = "include/linux/sched/mm.h might_alloc()"
        if r.debug:
            yield Finding("gfp.rule.atomic", Outcome.BUG, "gfp.result.atomic_bug", where)
        else:
            yield Finding("gfp.rule.atomic", Outcome.SILENT, "gfp.result.atomic", where)
    yield from _zone_rules(r)
    yield from _retry_rules(r)


def _zone_rules(r: _Request) -> Iterator[Finding]:
    m = r.reaching_buddy()
    if m & 0xF in BAD_ZONES:
        where, values = "include/linux/gfp.h gfp_zone()", (("flags", r.show(m & 0xF)),)
        if r.debug:
            yield Finding("gfp.rule.zone", Outcome.BUG, "gfp.result.zone_bug", where, values)
        else:
            yield Finding("gfp.rule.zone", Outcome.SILENT, "gfp.result.zone", where, values)
    if gfp_migratetype(m) == 3:
        where = "include/linux/gfp.h gfp_migratetype()"
        if r.debug:
            yield Finding("gfp.rule.mobility", Outcome.WARN, "gfp.result.mobility_warn", where)
        else:
            yield Finding("gfp.rule.mobility", Outcome.SILENT, "gfp.result.mobility", where)
    if m & _DMA and not r.managed_dma:
        where = "mm/page_alloc.c warn_alloc()"
        yield Finding("gfp.rule.no_dma", Outcome.SILENT, "gfp.result.no_dma", where)


def _retry_rules(r: _Request) -> Iterator[Finding]:
    m = r.reaching_buddy()
    where = "mm/page_alloc.c __alloc_pages_slowpath()"
    if m & _NOFAIL and r.order > 1:
        values = (("order", r.order),)
        result = "gfp.result.nofail_order"
        yield Finding("gfp.rule.nofail_order", Outcome.WARN_ONCE, result, where, values)
    if m & _NOFAIL and not m & _SLEEP:
        result = "gfp.result.nofail_nosleep"
        yield Finding("gfp.rule.nofail_nosleep", Outcome.MAY_FAIL, result, where)
    if m & _NOFAIL and r.memalloc:
        result = "gfp.result.nofail_memalloc"
        yield Finding("gfp.rule.nofail_memalloc", Outcome.WARN_ONCE, result, where)
    if m & _MEMALLOC and m & _NOMEMALLOC:
        where = "mm/page_alloc.c __gfp_pfmemalloc_flags()"
        yield Finding("gfp.rule.memalloc", Outcome.SILENT, "gfp.result.memalloc", where)
