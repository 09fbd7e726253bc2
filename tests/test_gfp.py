"""GFP masks both ways, against what kernels printed and the values in their headers."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemkit import gfp
from kmemkit.gfp import (
    RELEASES,
    GfpWarning,
    UnknownReleaseError,
    as_mask,
    decode,
    describe,
    encode,
    flag_names,
    profile,
)

CONFIGS = [
    {"kasan_hw_tags": hw, "lockdep": lockdep, "slab_obj_ext": ext}
    for hw in (False, True)
    for lockdep in (False, True)
    for ext in (False, True)
]
PROFILES = [profile(release, **config) for release in RELEASES for config in CONFIGS]


def _seen():
    with (Path(__file__).parent / "data" / "gfp_seen.tsv").open(encoding="utf-8") as lines:
        rows = (line for line in lines if not line.startswith("#"))
        return [tuple(row) for row in csv.reader(rows, delimiter="\t", quoting=csv.QUOTE_NONE)]


SEEN = _seen()
KNOWN_SEEN = [row for row in SEEN if row[2] in RELEASES]
UNKNOWN_SEEN = sorted({row[2] for row in SEEN} - set(RELEASES))


# --- masks that kernels printed


@pytest.mark.parametrize(("mask", "names", "release"), KNOWN_SEEN)
def test_masks_seen_in_logs(mask, names, release):
    names = "" if names == "()" else names
    assert decode(mask, release) == names
    assert encode(names, release) == int(mask, 16)


@pytest.mark.parametrize("release", UNKNOWN_SEEN)
def test_logs_of_unknown_releases_are_refused(release):
    with pytest.raises(UnknownReleaseError):
        decode(0xCC0, release)


def test_no_seen_row_is_lost():
    assert len(SEEN) == 125
    assert len(KNOWN_SEEN) == 47
    # A release that prints names, but did not in a quote, would need a row of its own here.
    assert not [row for row in KNOWN_SEEN if row[1] in ("", "-")]


PRINTED = [
    # mask, 6.12, 6.1 (None: the same)
    (0x0, "", None),
    (0x820, "GFP_ATOMIC", "GFP_NOWAIT|__GFP_HIGH"),
    (0xA20, "GFP_ATOMIC|0x200", "GFP_ATOMIC"),
    (0x800, "__GFP_KSWAPD_RECLAIM", "GFP_NOWAIT"),
    (0x2800, "GFP_NOWAIT", "GFP_NOWAIT|__GFP_NOWARN"),
    (0x2820, "GFP_ATOMIC|__GFP_NOWARN", "GFP_NOWAIT|__GFP_HIGH|__GFP_NOWARN"),
    (0x8C0, "__GFP_IO|__GFP_FS|__GFP_KSWAPD_RECLAIM", "GFP_NOWAIT|__GFP_IO|__GFP_FS"),
    (0xC0, "__GFP_IO|__GFP_FS", None),
    (0x4C0, "__GFP_IO|__GFP_FS|__GFP_DIRECT_RECLAIM", None),
    (0xCC0, "GFP_KERNEL", None),
    (0xDC0, "GFP_KERNEL|__GFP_ZERO", None),
    (0x40CC0, "GFP_KERNEL|__GFP_COMP", None),
    (0xD2CC0, "GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP|__GFP_NOMEMALLOC", None),
    (0x100CCA, "GFP_HIGHUSER_MOVABLE", None),
    (0x140CCA, "GFP_HIGHUSER_MOVABLE|__GFP_COMP", None),
    (0x140DCA, "GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO", None),
    (0x1C24CA, "GFP_TRANSHUGE", None),
    (0x1C2CCA, "GFP_TRANSHUGE|__GFP_KSWAPD_RECLAIM", "GFP_TRANSHUGE|GFP_NOWAIT"),
    (0x400DC0, "GFP_KERNEL_ACCOUNT|__GFP_ZERO", None),
    (0xCC1, "GFP_KERNEL|GFP_DMA", None),
    (
        0x52820,
        "GFP_ATOMIC|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP",
        "GFP_NOWAIT|__GFP_HIGH|__GFP_NOWARN|__GFP_NORETRY|__GFP_COMP",
    ),
    (0xCE0, "GFP_KERNEL|__GFP_HIGH", None),
    (0x1000000, "0x1000000", None),
]


@pytest.mark.parametrize(("mask", "new", "old"), PRINTED)
def test_printed_by_6_12_and_6_1(mask, new, old):
    assert decode(mask) == decode(mask, "6.12.117+deb12-amd64") == new
    assert decode(mask, "6.1") == (new if old is None else old)


@pytest.mark.parametrize(
    ("mask", "release", "names"),
    [
        (0x1100CCA, "5.15", "GFP_HIGHUSER_MOVABLE"),
        (0x100CCA, "5.15", "GFP_HIGHUSER|__GFP_MOVABLE"),
        (0x11C24CA, "5.15", "GFP_TRANSHUGE"),
        (0x1100CCA, "5.10", "GFP_HIGHUSER_MOVABLE|0x1000000"),
        (0x800CC0, "5.10", "GFP_KERNEL|0x800000"),
        (0x800CC0, "5.15", "GFP_KERNEL|__GFP_ZEROTAGS"),
        (0x200, "5.10", "__GFP_ATOMIC"),
        (0x800, "6.6", "GFP_NOWAIT"),
        (0x820, "6.6", "GFP_ATOMIC"),
        (0x800, "6.7", "__GFP_KSWAPD_RECLAIM"),
        (0x2800, "6.7", "GFP_NOWAIT"),
        (0x140DC0, "6.14", "GFP_USER|__GFP_COMP|__GFP_ZERO"),
        (0x140DC0, "6.15", "GFP_USER|__GFP_ZERO|__GFP_COMP"),
        (0x1000CC0, "6.14", "GFP_KERNEL|0x1000000"),
        (0x1000CC0, "6.18", "GFP_KERNEL|__GFP_NO_OBJ_EXT"),
        (0x1C2CCA, "7.2", "GFP_TRANSHUGE|__GFP_KSWAPD_RECLAIM"),
        (0x5, "7.2", "GFP_DMA|GFP_DMA32"),
    ],
)
def test_printed_by_other_releases(mask, release, names):
    assert decode(mask, release) == names


# --- names and bits


def test_constants_are_those_of_6_12():
    constants = {name: getattr(gfp, name) for name in gfp.__all__ if "GFP_" in name}
    assert constants.pop("__GFP_BITS_SHIFT") == 25
    assert constants == profile("6.12").values
    assert all(type(value) is int for value in constants.values())


def test_a_star_import_brings_the_underscored_names():
    space = {}
    exec("from kmemkit.gfp import *", space)
    assert {*gfp.__all__} <= {*space}
    assert space["__GFP_ZERO"] == 0x100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GFP_ATOMIC", 0x820),
        ("GFP_KERNEL", 0xCC0),
        ("GFP_KERNEL_ACCOUNT", 0x400CC0),
        ("GFP_NOWAIT", 0x2800),
        ("GFP_NOIO", 0xC00),
        ("GFP_NOFS", 0xC40),
        ("GFP_USER", 0x100CC0),
        ("GFP_DMA", 0x1),
        ("GFP_DMA32", 0x4),
        ("GFP_HIGHUSER", 0x100CC2),
        ("GFP_HIGHUSER_MOVABLE", 0x100CCA),
        ("GFP_TRANSHUGE_LIGHT", 0x1C20CA),
        ("GFP_TRANSHUGE", 0x1C24CA),
        ("GFP_ZONEMASK", 0xF),
        ("GFP_BOOT_MASK", 0x1FFFFFF & ~0xCC0),
        ("GFP_RECLAIM_MASK", 0xBECE0),
        ("GFP_CONSTRAINT_MASK", 0x300000),
        ("GFP_SLAB_BUG_MASK", 0xFE000006),
        ("__GFP_RECLAIM", 0xC00),
        ("__GFP_BITS_MASK", 0x1FFFFFF),
        ("__GFP_NO_OBJ_EXT", 0x1000000),
    ],
)
def test_values_of_6_12(name, value):
    assert encode(name) == value


# 6.12's flags one by one; bit 9 is nobody's.
BITS = (
    *("DMA", "HIGHMEM", "DMA32", "MOVABLE", "RECLAIMABLE", "HIGH", "IO", "FS", "ZERO", "-"),
    *("DIRECT_RECLAIM", "KSWAPD_RECLAIM", "WRITE", "NOWARN", "RETRY_MAYFAIL", "NOFAIL", "NORETRY"),
    *("MEMALLOC", "COMP", "NOMEMALLOC", "HARDWALL", "THISNODE", "ACCOUNT"),
    *("ZEROTAGS", "NO_OBJ_EXT"),
)


@pytest.mark.parametrize(("place", "flag"), [*enumerate(BITS)])
def test_single_bits(place, flag):
    for release in RELEASES:
        bit = 1 << place
        name = f"__GFP_{flag}"
        if place < 23 and flag != "-":
            assert flag_names(bit, release) == (name,)
            assert encode(name, release) == bit
    assert flag_names(1 << place) == ((hex(1 << place),) if flag == "-" else (f"__GFP_{flag}",))


@pytest.mark.parametrize(
    ("release", "config", "name", "bit"),
    [
        ("5.10", {"lockdep": True}, "__GFP_NOLOCKDEP", 0x800000),
        ("5.15", {"lockdep": True}, "__GFP_NOLOCKDEP", 0x2000000),
        ("6.1", {"lockdep": True}, "__GFP_NOLOCKDEP", 0x8000000),
        ("6.8", {"lockdep": True}, "__GFP_NOLOCKDEP", 0x4000000),
        ("6.9", {"lockdep": True}, "__GFP_NOLOCKDEP", 0x1000000),
        ("6.12", {"lockdep": True}, "__GFP_NOLOCKDEP", 0x1000000),
        ("6.12", {"lockdep": True}, "__GFP_NO_OBJ_EXT", 0x2000000),
        ("6.12", {"kasan_hw_tags": True}, "__GFP_SKIP_ZERO", 0x1000000),
        ("6.12", {"kasan_hw_tags": True}, "__GFP_SKIP_KASAN", 0x2000000),
        ("6.12", {"kasan_hw_tags": True, "lockdep": True}, "__GFP_NO_OBJ_EXT", 0x8000000),
        ("6.12", {"kasan_hw_tags": True}, "GFP_HIGHUSER_MOVABLE", 0x2100CCA),
        ("6.1", {"kasan_hw_tags": True}, "__GFP_SKIP_KASAN_UNPOISON", 0x2000000),
        ("6.1", {"kasan_hw_tags": True}, "GFP_HIGHUSER_MOVABLE", 0x6100CCA),
        ("6.1", {"lockdep": True}, "__GFP_BITS_MASK", 0xFFFFFFF),
        ("6.1", {}, "__GFP_BITS_MASK", 0x7FFFFFF),
        ("5.10", {}, "__GFP_BITS_MASK", 0x7FFFFF),
        ("7.2", {"slab_obj_ext": False}, "__GFP_NO_OBJ_EXT", 0x1000000),
    ],
)
def test_bits_that_depend_on_the_build(release, config, name, bit):
    assert encode(name, profile(release, **config)) == bit


def test_a_flag_prints_by_name_only_where_the_table_has_it():
    assert decode(0x1000CC0, profile("6.12", lockdep=True)) == "GFP_KERNEL|0x1000000"
    assert decode(0x1000CC0, profile("6.18", lockdep=True)) == "GFP_KERNEL|__GFP_NOLOCKDEP"
    assert decode(0x1000CC0, profile("7.2", slab_obj_ext=False)) == "GFP_KERNEL|0x1000000"


@pytest.mark.parametrize(
    ("release", "series"),
    [
        ("6.12.117+deb12-amd64", "6.12"),
        ("5.15.0-91-generic", "5.15"),
        ("6.1.20-1-rpi-ARCH", "6.1"),
        ("6.10", "6.10"),
        ("v6.9-rc3", "6.9"),
        ("Linux version 5.10.2", "5.10"),
    ],
)
def test_release_strings(release, series):
    assert profile(release).release == series


@pytest.mark.parametrize("release", ["6.19", "7.1", "6.120", "5.9", "4.19.0-27-amd64", "six", ""])
def test_unknown_release_says_what_is_known(release):
    with pytest.raises(UnknownReleaseError, match=r"known: 5\.10, 5\.15, 6\.1, |such as '6\.12'"):
        profile(release)


def test_a_number_is_no_release():
    with pytest.raises(TypeError, match=r"6\.10 is 6\.1"):
        decode(0xCC0, 6.1)


# --- reading


@pytest.mark.parametrize(
    ("written", "mask"),
    [
        ("", 0),
        (" GFP_KERNEL |__GFP_ZERO ", 0xDC0),
        ("GFP_ATOMIC|0x200", 0xA20),
        ("GFP_KERNEL & ~__GFP_RECLAIM", 0xC0),
        ("GFP_KERNEL | __GFP_HIGH & ~__GFP_DIRECT_RECLAIM", 0xCE0),
        ("(GFP_KERNEL | __GFP_HIGH) & ~__GFP_DIRECT_RECLAIM", 0x8E0),
        ("GFP_KERNEL ^ __GFP_FS", 0xC40),
        ("GFP_KERNEL ^ __GFP_FS & __GFP_IO", 0xCC0),
        ("__GFP_FS | __GFP_IO ^ __GFP_FS", 0xC0),
        ("~~GFP_KERNEL", 0xCC0),
        ("0xcc0u|0X1|2", 0xCC3),
        ("~0", 0xFFFFFFFF),
    ],
)
def test_expressions(written, mask):
    assert encode(written) == mask
    assert as_mask(written) == mask


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("GFP_KERNEL __GFP_ZERO", r"column 12: write \| between"),
        ("GFP_KERNEL|", "column 12: a flag name or a number is missing"),
        ("|GFP_KERNEL", "column 1: a flag name or a number is missing"),
        ("(GFP_KERNEL", "column 1: this parenthesis is not closed"),
        ("GFP_KERNEL)", r"column 11: write \| between"),
        ("__import__('os')", r"column 12: only flag names"),
        ("GFP_KERNEL+1", "column 11: only flag names"),
        ("0xcc0_", "only flag names"),
        ("0x1cc0cc0cc0", "at most 0xffffffff"),
        ("9" * 9999, "at most 0xffffffff"),
        ("(" * 9999, "more than 32 parentheses"),
        ("GFP_ZERO", "not a GFP flag of Linux 6.12; did you mean __GFP_ZERO"),
        ("gfp_kernel", "did you mean GFP_KERNEL"),
        ("__GFP_ATOMIC", r"it is one in 5\.10 to 6\.1 \(0x200\)"),
        ("__GFP_SKIP_KASAN_POISON", r"it is one in 5\.15 \(0x1000000\), 6\.1$"),
        ("banana", "flags look like GFP_KERNEL"),
    ],
)
def test_broken_expressions(written, reason):
    with pytest.raises(ValueError, match=reason):
        encode(written)


def test_a_flag_without_a_bit_says_so():
    with pytest.warns(GfpWarning, match="__GFP_NOLOCKDEP has no bit.*CONFIG_LOCKDEP"):
        assert encode("GFP_KERNEL|__GFP_NOLOCKDEP|__GFP_NOLOCKDEP") == 0xCC0
    assert encode("__GFP_NOLOCKDEP", profile(lockdep=True)) == 0x1000000
    assert "__GFP_SKIP_KASAN has no bit" in describe("GFP_KERNEL|__GFP_SKIP_KASAN")


def test_spellings_of_a_mask():
    for mask in (0xCC0, np.uint32(0xCC0), np.int64(0xCC0), "0xcc0", "3264", "GFP_KERNEL"):
        assert decode(mask) == "GFP_KERNEL"
        assert type(as_mask(mask)) is int
    with pytest.raises(ValueError, match="GFP_KERNEL & ~__GFP_FS"):
        decode(~gfp.GFP_KERNEL)
    with pytest.raises(ValueError, match="0x100000000 is too large"):
        decode(1 << 32)
    for wrong in (3264.0, None, b"0xcc0", [0xCC0]):
        with pytest.raises(TypeError, match="integer or text"):
            decode(wrong)
    with pytest.raises(TypeError, match="names are text"):
        encode(0xCC0)


@given(st.sampled_from(PROFILES), st.data())
def test_known_flags_survive_the_round_trip(chosen, data):
    flags = data.draw(st.sets(st.sampled_from([bit for _, bit in chosen.flags])))
    mask = sum(flags)
    assert encode(decode(mask, chosen), chosen) == mask
    assert encode("|".join(flag_names(mask, chosen)), chosen) == mask
    assert len(flag_names(mask, chosen)) == len(flags)


@given(st.sampled_from(PROFILES), st.integers(0, 0xFFFFFFFF))
def test_any_mask_survives_the_round_trip(chosen, mask):
    names = decode(mask, chosen)
    assert encode(names, chosen) == mask
    # Only the last part may be a number, and it holds no bit that a name before it holds.
    assert all("GFP_" in part for part in names.split("|")[:-1])


# --- the text of `kmemkit gfp`


def test_describe():
    lines = describe("GFP_ATOMIC").splitlines()
    assert lines[0] == "0x820 = GFP_ATOMIC in Linux 6.12"
    assert lines[1] == "  flags        __GFP_HIGH, __GFP_KSWAPD_RECLAIM"
    assert lines[2] == "  zone         Normal, then DMA32, DMA"
    assert lines[3] == "  migratetype  0 MIGRATE_UNMOVABLE"
    assert lines[4].startswith("  may sleep    no: ")
    assert lines[7] == "  reserves     some: 37.5 % of the MIN watermark must stay free"
    assert lines[-1] == "  illegal      nothing"


def test_describe_names_every_function_that_minds():
    said = describe("GFP_KERNEL|__GFP_HIGHMEM|__GFP_ZERO", order=4)
    assert "  illegal      alloc_pages(): nothing\n               __get_free_pages(): " in said
    assert "kmalloc()" in said and "dma_alloc_coherent()" in said and "mempool_alloc()" in said
    assert "  pages        zeroed" in said


def test_describe_other_releases():
    said = describe(0xA20, "6.1.0-56-amd64")
    assert said.startswith("0xa20 = GFP_ATOMIC in Linux 6.1\n")
    assert said.endswith("told by the rules of 6.12.")
    assert "0x200 is no flag of Linux 6.12; it is __GFP_ATOMIC in 5.10 to 6.1." in describe(0xA20)
    assert "0x40000000 is no flag of Linux 6.12." in describe(1 << 30)
    assert describe(0).startswith("0x0 = (no names) in Linux 6.12\n  flags        none\n")
    assert "HighMem, then Normal, DMA" in describe("GFP_HIGHUSER", arch="i386")
    assert "  zone         DMA only" in describe("GFP_DMA")


@given(st.sampled_from(PROFILES), st.integers(0, 0xFFFFFFFF), st.integers(0, 11))
def test_describe_reads_any_mask(chosen, mask, order):
    assert describe(mask, chosen, order=order).startswith(f"{mask:#x} = ")
