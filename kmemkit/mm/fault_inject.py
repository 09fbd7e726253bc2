"""Fault injection: allocations that fail although there is memory, to try what a caller does then.

`failslab` makes requests for objects fail, `fail_page_alloc` requests for pages; each has its
attributes, as files in debugfs. fail-nth counts one task's requests instead, and the Nth fails.
`slab_calls` and `page_alloc` ask here first, if `Machine.watched` says so; `debugfs_calls` has the
settings.

Linux: lib/fault-inject.c, mm/failslab.c, mm/fail_page_alloc.c. Debian's kernels are built without
it; here every kernel has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from kmemkit import gfp as flags
from kmemkit.mm.dump_stack import dump_stack
from kmemkit.mm.random import splitmix64
from kmemkit.mm.slab import SLAB_KMALLOC, KmemCache

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = (
    "FailPageAlloc",
    "FailSlab",
    "FaultAttr",
    "Faults",
    "should_fail_alloc_page",
    "should_failslab",
)

A = TypeVar("A", bound="FaultAttr")


@dataclass(frozen=True, slots=True)
class FaultAttr:
    """When requests fail (struct fault_attr); defaults are those after boot.

    Attributes:
        probability: of a failure, in percent.
        interval: only every so many requests are looked at.
        times: how many requests fail at most, -1 for no limit.
        space: how much is given out before the first failure: bytes of objects, or pages.
        verbose: what a failure prints: 0 nothing, 1 a line, 2 a stack dump as well.
        ignore_gfp_wait: requests that may sleep do not fail.
        count: requests looked at so far, for `interval`.
    """

    probability: int = 0
    interval: int = 1
    times: int = 1
    space: int = 0
    verbose: int = 2
    ignore_gfp_wait: bool = True
    count: int = 0


@dataclass(frozen=True, slots=True)
class FailSlab(FaultAttr):
    """Failures of kmalloc() to 8 KiB and kmem_cache_alloc() (struct failslab).

    `cache_filter` names the caches whose requests may fail; none stands for all. In Linux that is
    cache-filter, and /sys/kernel/slab/NAME/failslab of each.
    """

    cache_filter: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FailPageAlloc(FaultAttr):
    """Failures of alloc_pages() and large kmalloc() (struct fail_page_alloc).

    Requests below `min_order` never fail, nor those for high memory while `ignore_gfp_highmem`:
    programs' pages and vmalloc()'s.
    """

    min_order: int = 1
    ignore_gfp_highmem: bool = True


@dataclass(slots=True)
class Faults:
    """What is to fail on a machine."""

    failslab: FailSlab = field(default_factory=FailSlab)
    fail_page_alloc: FailPageAlloc = field(default_factory=FailPageAlloc)
    #: pid -> requests until one fails (/proc/PID/fail-nth)
    fail_nth: dict[int, int] = field(default_factory=dict)
    #: pages for a slab are asked for: fail-nth does not count them
    in_slab: bool = False
    #: of the injector's own random numbers: the slabs' stay the same whether or not it is used
    seed: int = 0

    @property
    def armed(self) -> bool:
        """Whether any request may fail."""
        return bool(self.failslab.probability or self.fail_page_alloc.probability or self.fail_nth)

    def dice(self, ceiling: int) -> int:
        """Return a random number below a ceiling."""
        self.seed, bits = splitmix64(self.seed)
        return bits * ceiling >> 64

    def copy(self) -> Faults:
        """Return an independent copy."""
        return replace(self, fail_nth=dict(self.fail_nth), in_slab=False)


def should_failslab(kernel: Machine, s: KmemCache, gfp: int) -> bool:
    """Whether a request for an object is to fail (same name in Linux).

    Never with __GFP_NOFAIL; with __GFP_NOWARN without a word.
    """
    attr = kernel.faults.failslab
    if gfp & flags.__GFP_NOFAIL or (attr.ignore_gfp_wait and gfp & flags.__GFP_DIRECT_RECLAIM):
        return False
    if attr.cache_filter and s.name not in attr.cache_filter:
        return False
    changed, fails = _should_fail(kernel, attr, s.object_size)
    if fails:
        caller = "__kmalloc_noprof" if s.flags & SLAB_KMALLOC else "kmem_cache_alloc_noprof"
        _fail_dump(kernel, "failslab", attr, gfp, ("should_failslab", caller))
    kernel.faults.failslab = changed
    return fails


def should_fail_alloc_page(kernel: Machine, gfp: int, order: int) -> bool:
    """Whether a request for pages is to fail (same name in Linux).

    Never with __GFP_NOFAIL; with __GFP_NOWARN without a word.
    """
    attr = kernel.faults.fail_page_alloc
    if order < attr.min_order or gfp & flags.__GFP_NOFAIL:
        return False
    if (attr.ignore_gfp_highmem and gfp & flags.__GFP_HIGHMEM) or (
        attr.ignore_gfp_wait and gfp & flags.__GFP_DIRECT_RECLAIM
    ):
        return False
    changed, fails = _should_fail(kernel, attr, 1 << order)
    if fails:
        road = ("should_fail_alloc_page", "__alloc_pages_noprof")
        _fail_dump(kernel, "fail_page_alloc", attr, gfp, road)
    kernel.faults.fail_page_alloc = changed
    return fails


def _should_fail(kernel: Machine, attr: A, size: int) -> tuple[A, bool]:
    """Decide about a request of a size; return (the attributes after it, whether it fails).

    A task with fail-nth has its requests counted, and nothing else counts (should_fail_ex()).
    """
    faults, pid = kernel.faults, kernel.current.pid
    left = 0 if kernel.context.in_interrupt else faults.fail_nth.get(pid, 0)
    if left:
        if faults.in_slab:
            return attr, False
        if left > 1:
            faults.fail_nth[pid] = left - 1
            return attr, False
        del faults.fail_nth[pid]
        return _used(attr), True
    if not (attr.probability and attr.times):
        return attr, False
    if attr.space > size:
        return replace(attr, space=attr.space - size), False
    if attr.interval > 1:
        attr = replace(attr, count=attr.count + 1)
        if attr.count % attr.interval:
            return attr, False
    if attr.probability <= kernel.faults.dice(100):
        return attr, False
    return _used(attr), True


def _used(attr: A) -> A:
    """Return the attributes after a failure."""
    return replace(attr, times=attr.times - 1) if attr.times > 0 else attr


def _fail_dump(
    kernel: Machine, name: str, attr: FaultAttr, gfp: int, road: tuple[str, ...]
) -> None:
    """Say that a request fails on purpose (fail_dump())."""
    if not attr.verbose or gfp & flags.__GFP_NOWARN:
        return
    kernel.printk("FAULT_INJECTION: forcing a failure.")
    kernel.printk(
        f"name {name}, interval {attr.interval}, probability {attr.probability}, "
        f"space {attr.space}, times {attr.times}"
    )
    if attr.verbose > 1:
        dump_stack(kernel, ("dump_stack", "should_fail_ex", *road))
