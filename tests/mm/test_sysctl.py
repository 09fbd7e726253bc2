"""Turning vm.* settings and huge pages while the machine runs."""

from math import isqrt

import pytest

from kmemkit import Kernel
from kmemkit.mm.sysctl import KNOBS


@pytest.fixture
def kernel():
    return Kernel("256M")


def marks(kernel):
    return [list(zone.watermark) for zone in kernel.zones]


DEFAULTS = {
    "vm.extfrag_threshold": 500, "vm.lowmem_reserve_ratio": (256, 256, 32, 0, 0),
    "vm.min_free_kbytes": 1832, "vm.oom_dump_tasks": 1, "vm.oom_kill_allocating_task": 0,
    "vm.panic_on_oom": 0, "vm.percpu_pagelist_high_fraction": 0, "vm.swappiness": 60,
    "vm.watermark_boost_factor": 15000, "vm.watermark_scale_factor": 10, "vm.zone_reclaim_mode": 0,
}  # fmt: skip


def test_defaults_as_recorded(kernel):
    assert {name: kernel.sysctl(name) for name in DEFAULTS} == DEFAULTS
    assert [f"vm.{name}" for name in KNOBS] == list(DEFAULTS)
    assert Kernel("256M", arch="i386").sysctl("vm.lowmem_reserve_ratio") == (256, 32, 0, 0)


def test_reading_changes_nothing_but_the_reserves(kernel):
    before = kernel.snapshot()
    for name in DEFAULTS:
        if name != "vm.lowmem_reserve_ratio":
            kernel.sysctl(name)
    assert kernel.snapshot() == before
    kernel.sysctl("vm.lowmem_reserve_ratio")
    assert before.zones[0].lowmem_reserve[1] == 189
    assert kernel.zones[0].lowmem_reserve[1] == 197


# DMA32's marks on the recorded 256 MiB machine, which has as many managed pages
WRITES = [
    (("min_free_kbytes", 1024), [237, 296, 355, 414]),
    (("min_free_kbytes", 65536), [15228, 19035, 22842, 26649]),
    (("watermark_scale_factor", 1000), [475, 5535, 10595, 15655]),
    (("watermark_scale_factor", " 10\n"), [475, 593, 711, 829]),
]


def test_marks_after_each_write_as_recorded(kernel):
    assert kernel.zones[1].managed == 50607
    for (name, value), expected in WRITES:
        if name == "watermark_scale_factor":
            kernel.sysctl("vm.min_free_kbytes", 2048)
        assert kernel.sysctl(f"vm.{name}", value) == int(value)
        assert kernel.zones[1].watermark == expected
    assert kernel.vm.user_min_free_kbytes == 2048


def test_write_of_the_marks_ends_boosts_and_moves_list_limits(kernel):
    zone = kernel.zones[1]
    zone.watermark_boost = 512
    kernel.sysctl("vm.watermark_boost_factor", 0)
    assert zone.watermark_boost == 512
    kernel.sysctl("vm.min_free_kbytes", 16384)
    assert zone.watermark_boost == 0
    assert (zone.pcp.high_min, zone.pcp.high_max) == (zone.watermark[1], 50607 // 8) == (4758, 6325)


def test_list_limits_by_fraction(kernel):
    zone = kernel.zones[1]
    kernel.sysctl("vm.percpu_pagelist_high_fraction", 100)
    assert zone.pcp.high_min == zone.pcp.high_max == 506
    kernel.sysctl("vm.percpu_pagelist_high_fraction", 0)
    assert zone.pcp.high_min == zone.watermark[1]


def test_reserve_ratios(kernel):
    dma = kernel.zones[0]
    for value, reserve in (
        ((64, 64, 8, 0, 0), 790), ([1], 50607), ("0 0 0 0 0", 0), (-3, 0), ("128", 395),
    ):  # fmt: skip
        kernel.sysctl("vm.lowmem_reserve_ratio", value)
        assert dma.lowmem_reserve == (0, *[reserve] * 4)
    assert kernel.sysctl("vm.lowmem_reserve_ratio") == (128, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("vm.min_free_kbytes", -1, "must be from 0 to 2147483647; Linux answers EINVAL"),
        ("vm.min_free_kbytes", 1 << 31, "must be from 0"),
        ("vm.watermark_scale_factor", 0, "must be from 1 to 3000"),
        ("vm.watermark_scale_factor", 3001, "must be from 1 to 3000"),
        ("vm.percpu_pagelist_high_fraction", 7, "must be 0 or at least 8; Linux answers EINVAL"),
        ("vm.swappiness", 201, "from 0 to 200"), ("vm.panic_on_oom", 3, "from 0 to 2"),
        ("vm.extfrag_threshold", 1001, "from 0 to 1000"),
        ("vm.zone_reclaim_mode", 1, "node reclaim is not simulated"),
        ("vm.min_free_kbytes", "", "takes one number, not 0"),
        ("vm.min_free_kbytes", "1 2", "takes one number, not 2"),
        ("vm.min_free_kbytes", "8M", "give whole numbers"),
        ("vm.lowmem_reserve_ratio", [1] * 6, "takes 1 to 5 numbers, not 6"),
        ("vm.lowmem_reserve_ratio", [], "takes 1 to 5 numbers, not 0"),
        ("min_free_kbytes", 1, "there are vm.extfrag_threshold, vm.lowmem_reserve_ratio, "),
        ("kernel.panic", 1, "no setting that is simulated"),
    ],
)  # fmt: skip
def test_values_and_names_that_are_refused(kernel, name, value, said):
    before = kernel.snapshot()
    with pytest.raises(ValueError, match=said):
        kernel.sysctl(name, value)
    assert kernel.snapshot() == before


@pytest.mark.parametrize("value", [1.5, True, b"1", [1, "2"], {1}])
def test_values_that_are_no_numbers(kernel, value):
    with pytest.raises(TypeError, match="whole number"):
        kernel.sysctl("vm.lowmem_reserve_ratio", value)
    with pytest.raises(TypeError, match="give the setting's name"):
        kernel.sysctl(3)


# -- huge pages -----------------------------------------------------------------------------------


def test_huge_pages_off_and_on_again():
    kernel = Kernel("1G")
    raised = marks(kernel)
    assert kernel.transparent_hugepage()
    assert not kernel.transparent_hugepage("never")
    # what lies above the high marks counts, and those were the raised ones
    above = sum(zone.managed for zone in kernel.zones) - sum(zone[2] for zone in raised)
    assert kernel.vm.min_free_kbytes == isqrt(above * 4 * 16) == 3845
    assert kernel.transparent_hugepage("madvise")
    assert kernel.vm.min_free_kbytes == 45056
    assert kernel.dmesg() == ""
    # now from all of memory; boot had counted what was free by then
    assert [abs(a - b) <= 10 for old, new in zip(raised, marks(kernel), strict=True)
            for a, b in zip(old, new, strict=True)] == [True] * 8  # fmt: skip
    with pytest.raises(ValueError, match="give one of always, madvise, never"):
        kernel.transparent_hugepage("off")


def test_huge_pages_and_what_a_user_set():
    kernel = Kernel("1G")
    kernel.sysctl("vm.min_free_kbytes", 10_000)
    kernel.transparent_hugepage("always")
    assert kernel.vm.min_free_kbytes == 45056
    kernel.transparent_hugepage("never")
    assert kernel.vm.min_free_kbytes == 45056  # nobody lowers it
    kernel.sysctl("vm.min_free_kbytes", 100_000)
    kernel.transparent_hugepage("always")
    assert kernel.vm.min_free_kbytes == 100_000
    assert kernel.dmesg().splitlines() == [
        "khugepaged: raising min_free_kbytes from 10000 to 45056 to help transparent hugepage "
        "allocations",
        "min_free_kbytes is not updated to 3845 because user defined value 10000 is preferred",
    ]


# -- time -----------------------------------------------------------------------------------------


def test_writes_are_calls_with_history(kernel):
    kernel.record()
    heard = []
    kernel.add_listener(lambda: heard.append(kernel.vm.min_free_kbytes))
    kernel.sysctl("vm.min_free_kbytes", 4096)
    kernel.sysctl("vm.lowmem_reserve_ratio", (1, 1))
    kernel.transparent_hugepage("always")
    assert [step.call for step in kernel.history] == [
        "start", "sysctl vm.min_free_kbytes=4096", "sysctl vm.lowmem_reserve_ratio=1 1 32 0 0",
        "transparent_hugepage always",
    ]  # fmt: skip
    assert len(heard) == 3 and heard[0] == 4096
    kernel.restore(kernel.history[0].snapshot)
    assert kernel.sysctl("vm.min_free_kbytes") == 1832
    assert kernel.zones[1].watermark == [424, 530, 636, 742]


def test_settings_are_cloned_with_the_machine(kernel):
    kernel.sysctl("vm.min_free_kbytes", 4096)
    kernel.sysctl("vm.lowmem_reserve_ratio", 64)
    kernel.sysctl("vm.swappiness", 0)
    twin = kernel.clone()
    assert twin.snapshot() == kernel.snapshot()
    assert (twin.sysctl("vm.swappiness"), twin.vm.user_min_free_kbytes) == (0, 4096)
    twin.sysctl("vm.min_free_kbytes", 8192)
    assert kernel.sysctl("vm.min_free_kbytes") == 4096
    assert marks(twin) != marks(kernel)


def test_marks_decide_requests_at_once():
    kernel = Kernel("256M")
    free = kernel.zones[1].free_pages
    kernel.sysctl("vm.min_free_kbytes", 8 * free)
    assert kernel.page_zone(kernel.alloc_pages("GFP_ATOMIC")).name == "DMA32"
    nowait = "GFP_NOWAIT | __GFP_NOWARN"
    assert kernel.alloc_pages(nowait) is None


def test_small_world_gets_marks_when_told_to():
    kernel = Kernel("1M")
    assert kernel.zones[0].watermark == [0, 0, 0, 0]
    kernel.sysctl("vm.min_free_kbytes", 64)
    assert kernel.zones[0].watermark == [16, 20, 24, 28]
    assert kernel.zones[0].pcp.high_max == 0
