"""Vm: the settings that all zones share, from the command line and from sysctl.

`Machine.vm` is one; `sysctl` changes it; watermarks, reclaim, compaction and the
OOM killer obey it.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ("Vm",)


class Vm:
    """Settings that all zones share (sysctl vm.*, boot-time switches).

    Attributes:
        min_free_kbytes: what the marks share out, in kB; `user_min_free_kbytes` is what a user
            asked for, -1 if nobody did.
        watermark_boost_factor: in 1/10000 of the high mark; 0 switches boosting off.
        watermark_scale_factor: least distance between marks, in 1/10000 of a zone.
        lowmem_reserve_ratio: by zone index; a zone keeps 1/ratio of the zones above it.
        percpu_pagelist_high_fraction: 0 lets the lists tune themselves.
        swappiness, extfrag_threshold, zone_reclaim_mode: how reclaim and compaction choose.
        panic_on_oom, oom_kill_allocating_task, oom_dump_tasks: what the OOM killer does.
        movable_is_high: ZONE_MOVABLE has a small min mark, as HighMem has. Before 6.6 only where
            its memory is HighMem's.
        page_group_by_mobility_disabled: machine too small for migratetypes to make sense.
        thp: transparent huge pages are on (they raise min_free_kbytes).
        check_pages: look at every page's state at free and at allocation (init_on_alloc=1).
    """

    __slots__ = (
        "check_pages",
        "extfrag_threshold",
        "lowmem_reserve_ratio",
        "min_free_kbytes",
        "movable_is_high",
        "oom_dump_tasks",
        "oom_kill_allocating_task",
        "page_group_by_mobility_disabled",
        "panic_on_oom",
        "percpu_pagelist_high_fraction",
        "swappiness",
        "thp",
        "user_min_free_kbytes",
        "watermark_boost_factor",
        "watermark_scale_factor",
        "zone_reclaim_mode",
    )

    def __init__(self, arch: str = "x86_64") -> None:
        self.watermark_boost_factor = 15000
        self.watermark_scale_factor = 10
        self.min_free_kbytes = 1024
        self.user_min_free_kbytes = -1
        #: x86_64: DMA, DMA32, Normal, Movable, Device; i386: DMA, Normal, HighMem, Movable
        self.lowmem_reserve_ratio: tuple[int, ...] = (
            (256, 32, 0, 0) if arch == "i386" else (256, 256, 32, 0, 0)
        )
        self.percpu_pagelist_high_fraction = 0
        self.swappiness = 60
        self.extfrag_threshold = 500
        self.zone_reclaim_mode = 0
        self.panic_on_oom = 0
        self.oom_kill_allocating_task = 0
        self.oom_dump_tasks = 1
        self.movable_is_high = True
        self.page_group_by_mobility_disabled = False
        self.check_pages = True
        self.thp = True

    def freeze(self) -> dict[str, int | tuple[int, ...]]:
        """Return the settings by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def thaw(cls, frozen: Mapping[str, object]) -> Vm:
        """Return settings made from names and values; those not named keep their default."""
        vm = cls()
        for name in cls.__slots__:
            if name in frozen:
                setattr(vm, name, frozen[name])
        return vm
