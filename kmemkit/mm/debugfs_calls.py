"""Debugging a driver's own mistakes, as methods of Kernel: injected failures, and leaked memory.

What Linux has in debugfs: failslab, fail_page_alloc and kmemleak; and a task's fail-nth. What they
do is in fault_inject.py and kmemleak.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from kmemkit.mm import kmemleak
from kmemkit.mm.arguments import pointer
from kmemkit.mm.fault_inject import FailPageAlloc, FailSlab, FaultAttr, Faults
from kmemkit.mm.kmemleak import Kmemleak, LeakObject
from kmemkit.mm.mmzone import ZONE_WATCHED
from kmemkit.mm.vmalloc_calls import VmallocCalls
from kmemkit.snapshot import Snapshot

__all__ = ("DebugfsCalls",)

A = TypeVar("A", bound=FaultAttr)


class DebugfsCalls(VmallocCalls):
    """The part of a machine that makes allocations fail, and finds those that were forgotten."""

    # -- state ------------------------------------------------------------------------------------

    def _settings(self) -> dict[str, object]:
        settings = super()._settings()
        if self.faults != Faults():
            settings["faults"] = self.faults.copy()
        if self.leaks is not None:
            settings["kmemleak"] = self.leaks.copy()
        return settings

    def _load(self, snapshot: Snapshot) -> None:
        super()._load(snapshot)
        settings: Mapping[str, Any] = snapshot.settings
        self.faults = settings["faults"].copy() if "faults" in settings else Faults()
        leaks = settings.get("kmemleak")
        self.leaks = None if leaks is None else leaks.copy()
        self._watch()

    def _watch(self) -> None:
        """Let allocations take the careful way if anybody looks at them."""
        self.watched = self.faults.armed or self.leaks is not None
        for zone in self.zones:
            zone.flags = zone.flags & ~ZONE_WATCHED | ZONE_WATCHED * self.faults.armed
        self.refresh_hot()

    # -- fault injection --------------------------------------------------------------------------

    def failslab(self, **changes: Any) -> FailSlab:
        """Make requests for objects fail; return how (/sys/kernel/debug/failslab).

        failslab(probability=100, times=-1, ignore_gfp_wait=False) fails every kmalloc() to 8 KiB
        and every kmem_cache_alloc(). FailSlab says what can be set; what is not named stays.

        Raises:
            TypeError, ValueError: no such attribute, or no such value.
        """
        self.faults.failslab = _changed(self.faults.failslab, changes)
        self._watch()
        return self.faults.failslab

    def fail_page_alloc(self, **changes: Any) -> FailPageAlloc:
        """Make requests for pages fail; return how (/sys/kernel/debug/fail_page_alloc).

        FailPageAlloc says what can be set. Single pages are spared until min_order is 0.

        Raises:
            TypeError, ValueError: no such attribute, or no such value.
        """
        self.faults.fail_page_alloc = _changed(self.faults.fail_page_alloc, changes)
        self._watch()
        return self.faults.fail_page_alloc

    def fail_nth(self, n: int | None = None) -> int:
        """Make the current task's n-th allocation from here on fail; return how far off it is.

        0 says that it has failed, or was never set: so an error path is tried for n = 1, 2, 3 ...
        until fail_nth() after it is not 0. That is /proc/self/fail-nth; with it, failslab and
        fail_page_alloc are told to look at requests that may sleep and at single pages too.

        vmalloc() makes two: for its descriptor, and for its array of pages. The pages of a new slab
        are not counted, so that n does not depend on what caches hold (Linux counts them).

        Raises:
            TypeError, ValueError: n is no whole number, 0 or more.
        """
        if n is None:
            return self.faults.fail_nth.get(self.current.pid, 0)
        if type(n) is not int:
            raise TypeError(f"n={n!r}: give a whole number; 1 fails the next allocation")
        if n < 0:
            raise ValueError(f"n={n}: give 1 or more, or 0 to let nothing fail")
        self.faults.fail_nth.pop(self.current.pid, None)
        if n:
            self.faults.fail_nth[self.current.pid] = n
            self.failslab(ignore_gfp_wait=False)
            self.fail_page_alloc(ignore_gfp_wait=False, min_order=0)
        self._watch()
        return n

    # -- kmemleak ---------------------------------------------------------------------------------

    @property
    def kmemleak(self) -> bool:
        """Whether allocations are remembered from here on, each with the line that made it."""
        return self.leaks is not None

    @kmemleak.setter
    def kmemleak(self, on: bool) -> None:
        if not isinstance(on, bool):
            raise TypeError(f"kmemleak={on!r}: give True or False")
        if not on:
            self.leaks = None
        elif self.leaks is None:
            self.leaks = Kmemleak()
        self._watch()

    @property
    def kmemleak_objects(self) -> tuple[LeakObject, ...]:
        """The live allocations that kmemleak knows, oldest first."""
        return () if self.leaks is None else tuple(self.leaks.objects.values())

    def kmemleak_scan(self, *roots: object) -> str:
        """Look for memory that nobody can free any more; return the report, "" if there is none.

        An object is in use if a pointer leads to it: from a variable, or from the bytes of another
        object in use. Reports have the shape of /sys/kernel/debug/kmemleak; the last line of a
        back trace is the line of your own code that allocated.

        Args:
            roots: where to begin: namespaces such as globals(), lists, pointers. By default the
                variables of the calling code; a function that has returned holds nothing.

        Raises:
            RuntimeError: kmemleak was not on; says how to switch it on.
        """
        if self.leaks is None:
            raise RuntimeError("kmemleak is off: set kernel.kmemleak = True before you allocate")
        held = list(kmemleak.numbers_in(*(roots or kmemleak.callers_variables())))
        for area in self.vmalloc_space.areas.values():
            held += [area.descriptor, area.array]
        leaks, memory = self.leaks, self.memory
        run: Callable[[], str] = lambda: kmemleak.scan(self, leaks, memory, held)  # noqa: E731
        return self._call("kmemleak_scan()", run, lambda text: f"{text.count('unref')} objects")

    def kmemleak_not_leak(self, address: int) -> None:
        """Say that an object is held in a way kmemleak cannot see (same name in Linux)."""
        at = pointer(address)
        if self.leaks is not None and at in self.leaks.objects:
            known = self.leaks.objects[at]
            self.leaks.objects[at] = dataclasses.replace(known, ignored=True)


def _changed(attr: A, changes: Mapping[str, Any]) -> A:
    """Return attributes with some of them set to other values."""
    names = [one.name for one in dataclasses.fields(attr) if one.name != "count"]
    for name, value in changes.items():
        if name not in names:
            raise TypeError(f"{name!r} is no attribute; there are {', '.join(names)}")
        wanted = type(getattr(attr, name))
        if type(value) is not wanted or (
            wanted is tuple and not all(isinstance(one, str) for one in value)
        ):
            raise TypeError(f"{name}={value!r}: give {_WANTED[wanted]}")
        if wanted is int and value < (-1 if name == "times" else 1 if name == "interval" else 0):
            raise ValueError(f"{name}={value}: too small; times may be -1, interval at least 1")
    if changes.get("probability", 0) > 100:
        raise ValueError(f"probability={changes['probability']}: give percent, 0 to 100")
    return dataclasses.replace(attr, **changes, count=0)


_WANTED = {int: "a whole number", bool: "True or False", tuple: "a tuple of caches' names"}
