"""The vm.* sysctls and the huge page switch: reading them, and writing them while the machine runs.

`Kernel` inherits `Sysctl`; `boots` plays recorded changes through it. A write does at once what
Linux's handler does: new marks, reserves, list limits (`wmark_setup`), lines in the kernel log.
Linux: mm/page_alloc.c page_alloc_sysctl_table and its handlers, mm/khugepaged.c, kernel/sysctl.c.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kmemkit.mm.machine import Machine
from kmemkit.mm.wmark_setup import (
    set_recommended_min_free_kbytes,
    setup_per_zone_lowmem_reserve,
    setup_per_zone_wmarks,
    update_pcp_limits,
)

__all__ = ("THP_SETTINGS", "Sysctl")

INT_MAX = (1 << 31) - 1
INT_MIN = -1 - INT_MAX
#: A list may hold an eighth of its zone at most (MIN_PERCPU_PAGELIST_HIGH_FRACTION).
LEAST_HIGH_FRACTION = 8
THP_SETTINGS = ("always", "madvise", "never")


class _Knob(NamedTuple):
    """What a sysctl accepts, and what follows from a write: the name of a Sysctl method."""

    least: int
    most: int
    then: str = ""


#: File name below /proc/sys/vm, and name of the Vm attribute, -> what it accepts.
KNOBS = {
    "extfrag_threshold": _Knob(0, 1000),
    "lowmem_reserve_ratio": _Knob(INT_MIN, INT_MAX, "_lowmem_reserve_ratio_written"),
    "min_free_kbytes": _Knob(0, INT_MAX, "_min_free_kbytes_written"),
    "oom_dump_tasks": _Knob(INT_MIN, INT_MAX),
    "oom_kill_allocating_task": _Knob(INT_MIN, INT_MAX),
    "panic_on_oom": _Knob(0, 2),
    "percpu_pagelist_high_fraction": _Knob(0, INT_MAX, "_update_pcp_limits"),
    "swappiness": _Knob(0, 200),
    "watermark_boost_factor": _Knob(0, INT_MAX),
    "watermark_scale_factor": _Knob(1, 3000, "_setup_per_zone_wmarks"),
    "zone_reclaim_mode": _Knob(0, INT_MAX),
}

Value = int | tuple[int, ...]


class Sysctl(Machine):
    """The part of a machine that an administrator turns."""

    def sysctl(self, name: str, value: int | str | Sequence[int] | None = None) -> Value:
        """Return a setting; with a value, set it first (sysctl(8)).

        Args:
            name: as sysctl(8) has it: "vm.min_free_kbytes".
            value: a whole number, or the text one would write to /proc/sys; for
                vm.lowmem_reserve_ratio several of them, of which the first ones may be enough.

        Raises:
            TypeError, ValueError: no such setting, or a value that Linux refuses (EINVAL).
        """
        knob = self._knob(name)
        key = name.removeprefix("vm.")
        if value is None and key == "lowmem_reserve_ratio":
            # Linux works the reserves out again even when the file is only read
            return self.sysctl(name, self.vm.lowmem_reserve_ratio)
        if value is None:
            return _value(getattr(self.vm, key))
        new = self._accepted(name, knob, getattr(self.vm, key), value)

        def run() -> Value:
            setattr(self.vm, key, new)
            if knob.then:
                getattr(self, knob.then)()
            return _value(getattr(self.vm, key))

        shown = " ".join(map(str, new)) if isinstance(new, tuple) else str(new)
        show: Callable[[Value], str] = lambda _: ""  # noqa: E731
        return self._call(f"sysctl {name}={shown}", run, show)

    def transparent_hugepage(self, setting: str | None = None) -> bool:
        """Return whether transparent huge pages are on; with a setting, set them first.

        Stands for /sys/kernel/mm/transparent_hugepage/enabled. Either way khugepaged works out
        min_free_kbytes again (set_recommended_min_free_kbytes()).

        Args:
            setting: "always", "madvise" or "never".

        Raises:
            ValueError: another setting.
        """
        if setting is None:
            return self.vm.thp
        if setting not in THP_SETTINGS:
            raise ValueError(
                f"transparent_hugepage={setting!r}: give one of {', '.join(THP_SETTINGS)}"
            )

        def run() -> bool:
            self.vm.thp = setting != "never"
            set_recommended_min_free_kbytes(self.vm, self.zones, self.topology, self.printk)
            return self.vm.thp

        return self._call(f"transparent_hugepage {setting}", run, lambda _: "")

    # -- inside -----------------------------------------------------------------------------------

    def _knob(self, name: str) -> _Knob:
        if not isinstance(name, str):
            raise TypeError(f"{name!r}: give the setting's name, such as 'vm.min_free_kbytes'")
        prefix, _, key = name.partition(".")
        if prefix != "vm" or key not in KNOBS:
            names = ", ".join(f"vm.{known}" for known in KNOBS)
            raise ValueError(f"{name!r}: no setting that is simulated; there are {names}")
        return KNOBS[key]

    def _accepted(
        self, name: str, knob: _Knob, old: Value, value: int | str | Sequence[int]
    ) -> Value:
        """Return a new value in the setting's own form, if Linux would take it."""
        numbers = _numbers(name, value)
        room = len(old) if isinstance(old, tuple) else 1
        if not 1 <= len(numbers) <= room:
            raise ValueError(f"{name}={value!r}: takes {_counted(room)}, not {len(numbers)}")
        for number in numbers:
            if not knob.least <= number <= knob.most:
                raise ValueError(
                    f"{name}={value!r}: must be from {knob.least} to {knob.most}; "
                    "Linux answers EINVAL"
                )
        if name == "vm.percpu_pagelist_high_fraction" and 0 < numbers[0] < LEAST_HIGH_FRACTION:
            raise ValueError(
                f"{name}={value!r}: must be 0 or at least {LEAST_HIGH_FRACTION}; "
                "Linux answers EINVAL"
            )
        if name == "vm.zone_reclaim_mode" and numbers[0]:
            raise ValueError(f"{name}={value!r}: node reclaim is not simulated; leave it at 0")
        return (*numbers, *old[len(numbers) :]) if isinstance(old, tuple) else numbers[0]

    def _min_free_kbytes_written(self) -> None:
        self.vm.user_min_free_kbytes = self.vm.min_free_kbytes
        self._setup_per_zone_wmarks()

    def _lowmem_reserve_ratio_written(self) -> None:
        self.vm.lowmem_reserve_ratio = tuple(
            max(ratio, 0) for ratio in self.vm.lowmem_reserve_ratio
        )
        setup_per_zone_lowmem_reserve(self.vm, self.zones)

    def _setup_per_zone_wmarks(self) -> None:
        setup_per_zone_wmarks(self.vm, self.zones, self.topology)

    def _update_pcp_limits(self) -> None:
        update_pcp_limits(self.zones, self.topology)


def _value(setting: int | bool | tuple[int, ...]) -> Value:
    return setting if isinstance(setting, tuple) else int(setting)


def _numbers(name: str, value: int | str | Sequence[int]) -> tuple[int, ...]:
    """Return what was given as whole numbers."""
    if isinstance(value, str):
        words = value.split()
        if not all(re.fullmatch(r"[+-]?\d{1,20}", word, re.ASCII) for word in words):
            raise ValueError(f"{name}={value!r}: give whole numbers")
        return tuple(map(int, words))
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,)
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"{name}={value!r}: {number!r} is no whole number")
    return numbers


def _counted(room: int) -> str:
    return "one number" if room == 1 else f"1 to {room} numbers"
