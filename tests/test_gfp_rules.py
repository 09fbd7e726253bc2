"""What a GFP mask asks for, and what is illegal in it, against the rules of Linux 6.12."""

import pytest

from kmemkit import gfp
from kmemkit.gfp import (
    CALLS,
    Effort,
    Outcome,
    effects,
    encode,
    gfp_migratetype,
    gfp_zone,
    legality,
    profile,
)

# --- zone and migratetype

BAD = (0x3, 0x5, 0x6, 0x7, 0xB, 0xD, 0xE, 0xF)
X86_64 = {0: "Normal", 1: "DMA", 2: "Normal", 4: "DMA32", 8: "Normal", 9: "DMA", 10: "Movable"}
I386 = {0: "Normal", 1: "DMA", 2: "HighMem", 4: "Normal", 8: "Normal", 9: "DMA", 10: "Movable"}


@pytest.mark.parametrize(
    ("arch", "zones"),
    [("x86_64", X86_64 | {12: "DMA32"}), ("i386", I386 | {12: "Normal"})],
)
def test_zones(arch, zones):
    assert set(zones) | set(BAD) == set(range(16))
    for nibble, name in zones.items():
        assert gfp.ZONE_NAMES[arch][gfp_zone(0xFFFFFF0 | nibble, arch)] == name
        assert not any(f.rule == "gfp.rule.zone" for f in legality(nibble))
    for nibble in BAD:
        assert gfp_zone(nibble, arch) == 0
        assert [f.outcome for f in legality(nibble)] == [Outcome.SILENT]
        assert [f.outcome for f in legality(nibble, debug=True)] == [Outcome.BUG]


def test_zone_names():
    assert gfp.ZONE_NAMES["x86_64"] == ("DMA", "DMA32", "Normal", "Movable", "Device")
    assert gfp.ZONE_NAMES["i386"] == ("DMA", "Normal", "HighMem", "Movable")
    with pytest.raises(ValueError, match="x86_64 and i386, not for 'arm64'"):
        gfp_zone(0, "arm64")


def test_migratetypes():
    masks = ("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE", "GFP_KERNEL|__GFP_RECLAIMABLE", 0x18)
    assert [gfp_migratetype(mask) for mask in masks] == [0, 1, 2, 3]


# --- effects

# mask, order -> effort, may sleep, OOM killer, percent of MIN, HIGHATOMIC
EFFECTS = [
    ("GFP_KERNEL", 0, Effort.REPEAT, True, True, 100, False),
    ("GFP_KERNEL", 3, Effort.REPEAT, True, True, 100, False),
    ("GFP_KERNEL", 4, Effort.ONE_ROUND, True, False, 100, False),
    ("GFP_KERNEL|__GFP_HIGH", 1, Effort.REPEAT, True, True, 50, False),
    ("GFP_KERNEL|__GFP_NORETRY", 0, Effort.ONE_ROUND, True, False, 100, False),
    ("GFP_KERNEL|__GFP_RETRY_MAYFAIL", 0, Effort.WHILE_USEFUL, True, False, 100, False),
    ("GFP_KERNEL|__GFP_RETRY_MAYFAIL", 9, Effort.WHILE_USEFUL, True, False, 100, False),
    ("GFP_NOIO|__GFP_RETRY_MAYFAIL", 9, Effort.ONE_ROUND, True, False, 100, False),
    ("GFP_KERNEL|__GFP_NOFAIL", 0, Effort.FOREVER, True, True, 100, False),
    ("GFP_KERNEL|__GFP_NOFAIL|__GFP_NORETRY", 0, Effort.FOREVER, True, False, 100, False),
    ("GFP_KERNEL|__GFP_NOFAIL", 4, Effort.FOREVER, True, False, 100, False),
    ("GFP_NOFS", 0, Effort.REPEAT, True, False, 100, False),
    ("GFP_NOIO", 0, Effort.REPEAT, True, False, 100, False),
    ("GFP_KERNEL|GFP_DMA", 0, Effort.WHILE_USEFUL, True, False, 100, False),
    ("GFP_KERNEL|__GFP_THISNODE", 0, Effort.WHILE_USEFUL, True, False, 100, False),
    ("GFP_NOWAIT", 1, Effort.NONE, False, False, 100, False),
    ("GFP_KERNEL & ~__GFP_RECLAIM", 1, Effort.NONE, False, False, 100, False),
    ("GFP_ATOMIC", 0, Effort.NONE, False, False, 37.5, False),
    ("GFP_ATOMIC", 1, Effort.NONE, False, False, 37.5, True),
    ("GFP_ATOMIC|__GFP_NOMEMALLOC", 1, Effort.NONE, False, False, 50, False),
    ("GFP_KERNEL|__GFP_MEMALLOC", 0, Effort.REPEAT, True, True, 0, False),
    ("GFP_KERNEL|__GFP_MEMALLOC|__GFP_NOMEMALLOC", 0, Effort.REPEAT, True, True, 100, False),
]


@pytest.mark.parametrize(("mask", "order", "effort", "sleep", "oom", "percent", "high"), EFFECTS)
def test_effects(mask, order, effort, sleep, oom, percent, high):
    can = effects(mask, order)
    assert (can.effort, can.may_sleep, can.may_oom) == (effort, sleep, oom)
    assert (can.min_percent, can.uses_highatomic) == (percent, high)
    assert can.may_use_reserves == (percent < 100)


def test_effects_of_single_bits():
    def only(mask, name):
        return getattr(effects(mask), name), getattr(effects(0xCC0 & ~encode(mask)), name)

    for mask, name in (
        ("__GFP_ZERO", "zeroed"),
        ("__GFP_ACCOUNT", "accounted"),
        ("__GFP_THISNODE", "node_only"),
        ("__GFP_RECLAIM", "wakes_kswapd"),
    ):
        assert only(mask, name) == (True, False)
    assert effects("GFP_NOWAIT").reports_failure is False
    assert effects("GFP_ATOMIC").reports_failure is True
    nofs, noio = effects("GFP_NOFS"), effects("GFP_NOIO")
    assert (nofs.may_io, nofs.may_fs, nofs.may_compact) == (True, False, True)
    assert (noio.may_io, noio.may_fs, noio.may_compact) == (False, False, False)
    assert effects("GFP_KERNEL|GFP_DMA32").may_oom is False
    assert effects("GFP_KERNEL|GFP_DMA32", arch="i386").may_oom is True


# --- legality

# mask, order, keywords -> (rule, outcome, where)
RULES = [
    ("GFP_KERNEL", 11, {}, "order", Outcome.NULL, "__alloc_pages_noprof()"),
    ("GFP_KERNEL|__GFP_NOFAIL", 2, {}, "nofail_order", Outcome.WARN_ONCE, "slowpath()"),
    ("GFP_NOWAIT|__GFP_NOFAIL", 0, {}, "nofail_nosleep", Outcome.MAY_FAIL, "slowpath()"),
    (0x8CC0, 0, {"memalloc": True}, "nofail_memalloc", Outcome.WARN_ONCE, "slowpath()"),
    (0xA0CC0, 0, {}, "memalloc", Outcome.SILENT, "__gfp_pfmemalloc_flags()"),
    (0xCD8, 0, {}, "mobility", Outcome.SILENT, "gfp_migratetype()"),
    (0xCD8, 0, {"debug": True}, "mobility", Outcome.WARN, "gfp_migratetype()"),
    (0xCC1, 0, {"managed_dma": False}, "no_dma", Outcome.SILENT, "warn_alloc()"),
    ("GFP_NOIO", 0, {"atomic": True}, "atomic", Outcome.SILENT, "might_alloc()"),
    (0xCC0, 0, {"atomic": True, "debug": True}, "atomic", Outcome.BUG, "might_alloc()"),
    (0xCC2, 1, {"call": "kmalloc"}, "slab", Outcome.WARN, "new_slab()"),
    (0xCC4, 2, {"call": "kmalloc"}, "slab", Outcome.WARN, "___kmalloc_large_node()"),
    (0xDC0, 0, {"call": "kmem_cache_alloc", "ctor": True}, "ctor", Outcome.WARN_ONCE, "new_slab()"),
    (0x40CC0, 1, {"call": "alloc_pages_exact"}, "exact", Outcome.WARN_ONCE, "exact_noprof()"),
    (0xCC2, 0, {"call": "__get_free_pages"}, "address", Outcome.CLEARED, "get_free_pages_noprof()"),
    (0x40CC1, 1, {"call": "dma_alloc_coherent"}, "dma_comp", Outcome.NULL, "dma_alloc_attrs()"),
    (0xCC5, 1, {"call": "dma_alloc_coherent"}, "dma_zone", Outcome.CLEARED, "dma_alloc_attrs()"),
    (0xDC0, 0, {"call": "mempool_alloc"}, "pool", Outcome.SILENT, "mempool_alloc_noprof()"),
    (0xDC0, 0, {"call": "mempool_alloc", "debug": True}, "pool", Outcome.WARN_ONCE, "_noprof()"),
]


@pytest.mark.parametrize(("mask", "order", "options", "rule", "outcome", "where"), RULES)
def test_rules(mask, order, options, rule, outcome, where):
    (finding,) = legality(mask, order, **options)
    assert finding.rule == f"gfp.rule.{rule}"
    assert finding.outcome is outcome
    assert finding.where.endswith(where)
    assert finding.rule_text in str(finding) and finding.result_text in str(finding)


def test_a_request_may_break_several_rules():
    found = legality("GFP_NOWAIT|__GFP_NOFAIL|GFP_DMA|GFP_DMA32", 2, atomic=True)
    rules = ["gfp.rule.zone", "gfp.rule.nofail_order", "gfp.rule.nofail_nosleep"]
    assert [finding.rule for finding in found] == rules


def test_order_too_large_is_quiet_with_nowarn():
    (loud,), (quiet,) = legality("GFP_KERNEL", 11), legality("GFP_KERNEL|__GFP_NOWARN", 11)
    assert "WARN, once per boot" in loud.result_text
    assert "without a WARN" in quiet.result_text


def test_the_called_function_decides_what_reaches_the_page_allocator():
    assert legality("GFP_HIGHUSER|GFP_DMA32")[0].rule == "gfp.rule.zone"
    (finding,) = legality("GFP_HIGHUSER|GFP_DMA32", call="__get_free_pages")
    assert finding.outcome is Outcome.CLEARED
    assert legality("GFP_KERNEL|__GFP_MOVABLE|__GFP_RECLAIMABLE", call="kmem_cache_alloc") == ()
    (finding,) = legality("GFP_HIGHUSER|GFP_DMA32", call="alloc_pages_exact")
    assert finding.rule == "gfp.rule.exact"
    (finding,) = legality("GFP_HIGHUSER|GFP_DMA", call="dma_alloc_coherent", managed_dma=False)
    assert finding.rule == "gfp.rule.dma_zone"


def test_a_request_that_is_refused_at_once_breaks_nothing_else():
    (finding,) = legality("GFP_KERNEL|__GFP_NOFAIL", 11, atomic=True)
    assert finding.rule == "gfp.rule.order"
    (finding,) = legality("GFP_KERNEL|__GFP_COMP", call="dma_alloc_coherent", atomic=True)
    assert finding.rule == "gfp.rule.dma_comp"


def test_kmalloc_prints_the_line_of_the_kernel():
    (finding,) = legality("GFP_KERNEL|__GFP_HIGHMEM", call="kmalloc")
    line = (
        "Unexpected gfp: 0x2 (__GFP_HIGHMEM). Fixing up to gfp: 0xcc0 (GFP_KERNEL). Fix your code!"
    )
    assert line in finding.result_text
    (unknown,) = legality(0x8000CC0, call="kmalloc")
    assert "0x8000000 (0x8000000)" in unknown.result_text
    assert legality(0x8000CC0, call="kmalloc", release=profile("6.1", lockdep=True)) == ()


@pytest.mark.parametrize("call", CALLS)
def test_everyday_masks_are_legal_everywhere(call):
    for mask in ("GFP_KERNEL", "GFP_ATOMIC", "GFP_NOWAIT", "GFP_NOFS", "GFP_KERNEL_ACCOUNT"):
        assert legality(mask, 1, call=call) == ()


def test_legality_refuses_nonsense():
    with pytest.raises(ValueError, match="'vmalloc'; known: alloc_pages, "):
        legality("GFP_KERNEL", call="vmalloc")
    with pytest.raises(ValueError, match="order -1 is negative"):
        legality("GFP_KERNEL", -1)
