"""What the slow path makes of a mask: ALLOC_* flags and rungs left out, by the rules of 6.12."""

import itertools

import pytest

from kmemkit import gfp
from kmemkit.gfp import Effort, alloc_flags, effects, encode, left_out, objections
from kmemkit.strings import keys

RETRY = [encode(f"__GFP_{name}") for name in ("NORETRY", "RETRY_MAYFAIL", "NOFAIL", "THISNODE")]
RECLAIM = [encode(f"__GFP_{name}") for name in ("DIRECT_RECLAIM", "KSWAPD_RECLAIM", "IO", "FS")]
RIGHTS = [encode(f"__GFP_{name}") for name in ("HIGH", "MEMALLOC", "NOMEMALLOC")]
ZONES = [0, encode("__GFP_DMA"), encode("__GFP_DMA32"), encode("__GFP_HIGHMEM|__GFP_MOVABLE")]


def masks():
    """Return every mix of the flags that decide how hard a request tries."""
    flags = [*RETRY, *RECLAIM, *RIGHTS]
    for zone in ZONES:
        for chosen in itertools.product((0, 1), repeat=len(flags)):
            yield zone | sum(flag for flag, on in zip(flags, chosen, strict=True) if on)


@pytest.mark.parametrize(
    ("mask", "order", "flags"),
    [
        ("GFP_KERNEL", 0, "WMARK_MIN CPUSET KSWAPD"),
        ("GFP_ATOMIC", 0, "WMARK_MIN NON_BLOCK MIN_RESERVE KSWAPD"),
        ("GFP_ATOMIC", 1, "WMARK_MIN NON_BLOCK MIN_RESERVE HIGHATOMIC KSWAPD"),
        ("GFP_ATOMIC|__GFP_NOMEMALLOC", 1, "WMARK_MIN MIN_RESERVE KSWAPD"),
        ("GFP_NOWAIT", 0, "WMARK_MIN NON_BLOCK CPUSET KSWAPD"),
        ("GFP_KERNEL & ~__GFP_RECLAIM", 3, "WMARK_MIN NON_BLOCK CPUSET"),
        ("GFP_KERNEL|__GFP_HIGH", 3, "WMARK_MIN MIN_RESERVE CPUSET KSWAPD"),
        ("GFP_KERNEL|__GFP_MEMALLOC", 0, "NO_WATERMARKS KSWAPD"),
        ("__GFP_MEMALLOC", 0, "NO_WATERMARKS"),
        ("__GFP_MEMALLOC|__GFP_NOMEMALLOC", 0, "WMARK_MIN CPUSET"),
    ],
)
def test_alloc_flags(mask, order, flags):
    assert alloc_flags(mask, order) == tuple(f"ALLOC_{name}" for name in flags.split())


@pytest.mark.parametrize(
    ("mask", "order", "reasons"),
    [
        ("GFP_KERNEL", 0, {"compact_first": "one_page", "compact": "one_page"}),
        ("GFP_KERNEL", 2, {}),
        ("GFP_HIGHUSER_MOVABLE", 2, {"compact_first": "movable"}),
        ("GFP_HIGHUSER_MOVABLE", 9, {"retry": "costly", "oom": "costly_kill"}),
        ("GFP_KERNEL", 4, {"retry": "costly", "oom": "costly_kill"}),
        ("GFP_KERNEL|__GFP_RETRY_MAYFAIL", 4, {"oom": "costly_kill"}),
        ("GFP_KERNEL|__GFP_RETRY_MAYFAIL", 2, {"oom": "mayfail"}),
        ("GFP_KERNEL|__GFP_NORETRY", 2, {"retry": "noretry", "oom": "noretry"}),
        ("GFP_KERNEL|__GFP_NOFAIL", 1, {"null": "never"}),
        ("GFP_KERNEL|__GFP_MEMALLOC", 1, {"compact_first": "has_rights"}),
        ("GFP_NOFS", 2, {"oom": "no_fs"}),
        ("GFP_NOIO", 2, {"compact_first": "no_io", "compact": "no_io", "oom": "no_fs"}),
        ("GFP_KERNEL|GFP_DMA", 1, {"oom": "low_zone"}),
        (
            "GFP_KERNEL & ~__GFP_KSWAPD_RECLAIM|__GFP_THISNODE",
            1,
            {"kswapd": "no_kswapd", "oom": "this_node"},
        ),
    ],
)
def test_rungs_left_out(mask, order, reasons):
    usual = {} if "NOFAIL" in mask else {"nofail": "no_nofail"}
    assert left_out(mask, order) == usual | reasons


@pytest.mark.parametrize("mask", ["GFP_ATOMIC", "GFP_NOWAIT"])
def test_who_cannot_sleep_leaves_all_the_work_out(mask):
    missing = left_out(mask, 3)
    work = ("compact_first", "reclaim", "compact", "retry", "oom")
    assert [missing[rung] for rung in work] == ["no_sleep"] * 5
    assert "kswapd" not in missing


def test_an_order_too_high_climbs_nothing():
    assert set(left_out("GFP_KERNEL", 11)) == set(gfp.SLOW_PATH) - {"null"}


def test_rungs_agree_with_the_effects_of_every_mask():
    for mask, order in itertools.product(masks(), (0, 1, 3, 4)):
        can, missing = effects(mask, order), left_out(mask, order)
        assert ("oom" not in missing) == can.may_oom, (hex(mask), order)
        assert ("reclaim" not in missing) == can.may_sleep
        assert ("kswapd" not in missing) == can.wakes_kswapd
        assert ("compact" not in missing) == (can.may_compact and order > 0)
        assert ("null" in missing) == (can.effort is Effort.FOREVER)
        if can.effort in (Effort.NONE, Effort.ONE_ROUND):
            assert "retry" in missing
        if can.effort in (Effort.WHILE_USEFUL, Effort.REPEAT):
            assert "retry" not in missing
        assert ("ALLOC_HIGHATOMIC" in alloc_flags(mask, order)) <= can.uses_highatomic
        assert ("ALLOC_NO_WATERMARKS" in alloc_flags(mask)) == (can.min_percent == 0)
        assert ("ALLOC_MIN_RESERVE" in alloc_flags(mask)) == (0 < can.min_percent < 100)


def test_every_rung_and_reason_has_its_words():
    used = set(gfp.SLOW_PATH)
    reasons = set()
    for mask, order in itertools.product(masks(), (0, 2, 4, 11)):
        missing = left_out(mask, order)
        assert set(missing) <= used
        reasons |= set(missing.values())
    prefix = "gfp_panel.left_out."
    assert reasons == {key.removeprefix(prefix) for key in keys() if key.startswith(prefix)}
    assert {f"road.rung.{rung}" for rung in used} <= keys()


def test_objections_name_the_functions():
    found = objections(encode("GFP_KERNEL|__GFP_HIGHMEM|__GFP_ZERO"), order=4)
    calls = [call for call, _ in found]
    assert "alloc_pages()" not in calls
    assert "__get_free_pages()" in calls
    assert objections(encode("GFP_KERNEL")) == []
    [(call, finding)] = objections(encode("GFP_KERNEL"), atomic=True)
    assert call == "alloc_pages()"
    assert "atomic context" in str(finding)
