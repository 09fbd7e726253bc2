"""Sizes and the kernel command line."""

from pathlib import Path

import pytest

from kmemkit.mm.cmdline import (
    NOT_MODELLED,
    SUPPORTED,
    parse_cmdline,
    parse_percent,
    parse_size,
)
from kmemkit.mm.recording import load_recording

BOOTS = load_recording(Path(__file__).parent.parent / "golden" / "recorded_boots.json.gz")

SIZES = {
    "64M": 64 << 20, "64m": 64 << 20, "4G": 4 << 30, "1T": 1 << 40, "4 GiB": 4 << 30, "4 GB": 4 << 30,
    "512K": 512 << 10, "512KB": 512 << 10, "4096": 4096, " 4096 ": 4096, "0x1000": 4096, "0X10K": 16 << 10,
    "64T": 1 << 46, 1: 1, 1 << 46: 1 << 46, "12345B": 12345,
}  # fmt: skip


@pytest.mark.parametrize(("size", "nbytes"), SIZES.items())
def test_size(size, nbytes):
    assert parse_size(size) == nbytes


@pytest.mark.parametrize(
    "size", ["", "M", "1.5G", "-1", "64 X", "1e6", "0x", "4GG", "ten", "64M 64M", "9" * 21]
)
def test_no_size(size):
    with pytest.raises(
        ValueError, match=r"is not a size; give bytes as an int, or text such as '64M'"
    ):
        parse_size(size)


@pytest.mark.parametrize("size", [None, 1.5, True, b"64M", [1]])
def test_no_size_by_type(size):
    with pytest.raises(TypeError, match="is not a size; give bytes as an int"):
        parse_size(size)


@pytest.mark.parametrize("size", [0, -1, "0", (1 << 46) + 1, "65T", "0x400000000001"])
def test_size_out_of_range(size):
    with pytest.raises(ValueError, match="above 0 and at most 64 TiB"):
        parse_size(size)


def test_cmdline_sorts_words_into_known_and_unknown():
    line = "  quiet init_on_alloc=0  transparent_hugepage=never foo=1 quiet "
    assert parse_cmdline(line) == (
        {"init_on_alloc": "0", "transparent_hugepage": "never"}, ["foo=1"],
    )  # fmt: skip
    assert parse_cmdline("") == ({}, [])


def test_last_one_counts():
    assert parse_cmdline("init_on_alloc=0 init_on_alloc=1") == ({"init_on_alloc": "1"}, [])


@pytest.mark.parametrize("name", NOT_MODELLED)
def test_parameter_that_matters_but_is_not_simulated(name):
    with pytest.raises(ValueError, match="leave it out") as error:
        parse_cmdline(f"quiet {name}=16M")
    assert f"'{name}=16M'" in str(error.value)
    assert all(supported in str(error.value) for supported in SUPPORTED)


@pytest.mark.parametrize("word", ["init_on_alloc=2", "init_on_alloc", "transparent_hugepage=maybe"])
def test_value_that_is_not_possible(word):
    name = word.partition("=")[0]
    with pytest.raises(ValueError, match=f"'{word}': {name} takes one of {SUPPORTED[name][0]}, "):
        parse_cmdline(word)


@pytest.mark.parametrize("size", ["\uff14M", "64\u212a"])
def test_digits_and_suffixes_are_ascii(size):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(size)


@pytest.mark.parametrize(
    ("value", "pages"), [("512M", 131072), ("25%", 25000), ("0%", 0), ("100%", 100_000), ("4K", 1)]
)
def test_size_or_percentage(value, pages):
    assert parse_percent(value, 100_000) == pages


@pytest.mark.parametrize(
    "word",
    [
        "kernelcore=mirror", "kernelcore=1000%", "movablecore=", "movable_node=1", "numa=fake=0",
        "numa=fake=2G", "numa=on", "hugepages=lots", "hugepages=-1", "crashkernel=1G-:64M",
        "mem=0", "kfence.sample_interval=x", "page_alloc.shuffle=2", "numa=fake=65",
    ],
)  # fmt: skip
def test_value_of_another_kind(word):
    name = word.partition("=")[0]
    with pytest.raises(ValueError, match=f"{name} takes "):
        parse_cmdline(word)


def test_parameters_of_32_bit_kernels():
    assert parse_cmdline("highmem=512m vmalloc=64M") == ({}, ["highmem=512m", "vmalloc=64M"])
    assert parse_cmdline("highmem=512m", "i386") == ({"highmem": "512m"}, [])


@pytest.mark.parametrize("name", BOOTS)
def test_recorded_command_lines(name):
    """What Linux says it does not know is what is not known here; nothing is refused."""
    boot = BOOTS[name]
    known, unknown = parse_cmdline(boot["cmdline"], "i386" if "i386" in name else "x86_64")
    assert f'"{" ".join(unknown)}", will be passed to user space.' in boot["dmesg"]
    assert set(known) <= SUPPORTED.keys()
