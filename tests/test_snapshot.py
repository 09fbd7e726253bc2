"""Frozen values: pages, lists, texts. The /proc texts of real machines: test_golden.py."""

import dataclasses

import pytest

from kmemkit import Kernel
from kmemkit.snapshot import (
    MIGRATE_NAMES,
    Event,
    Kind,
    PcpSnapshot,
    Snapshot,
    order_text,
    size_text,
)

U, M, R = range(3)


@pytest.fixture
def kernel():
    """A small world: 0 to 7 a driver's, 8 to 15 free, 16 and 17 cached, 64 to 127 cached."""
    kernel = Kernel("1M")
    assert kernel.alloc_pages("GFP_KERNEL", 3, owner="driver") == 0
    assert kernel.alloc_pages("GFP_KERNEL", 1, owner="cache") == 8
    assert kernel.alloc_pages("__GFP_MOVABLE", 6, owner="cache") == 64
    return kernel


# -- pages ----------------------------------------------------------------------------------------


def test_page_of_an_allocated_block(kernel):
    snapshot = kernel.snapshot()
    for pfn in range(8):
        page = snapshot.page(pfn)
        assert page[2:] == (Kind.UNMOVABLE, 0, 3, U, "driver", 8)
        assert page.pfn == pfn
        assert page.zone is snapshot.zones[0]
    assert snapshot.page(9)[2:] == (Kind.UNMOVABLE, 8, 1, U, "cache", 10)
    assert snapshot.page(127)[2:] == (Kind.MOVABLE, 64, 6, M, "cache", None)


def test_page_of_a_free_block(kernel):
    snapshot = kernel.snapshot()
    assert snapshot.page(10)[2:] == (Kind.FREE, 10, 1, U, "", 8)
    assert snapshot.page(15)[2:] == (Kind.FREE, 12, 2, U, "", 8)
    assert snapshot.page(63)[2:] == (Kind.FREE, 32, 5, U, "", 0)
    assert snapshot.page(200)[2:] == (Kind.FREE, 192, 6, M, "", None)


def test_every_page_is_covered_by_its_block():
    kernel = Kernel("8M")
    for order in (0, 3, 10, 5, 1, 9, 0, 2):
        kernel.alloc_pages("GFP_KERNEL" if order % 2 else "__GFP_MOVABLE", order)
    snapshot = kernel.snapshot()
    pfn = 0
    while pfn < 2048:
        kind, order = Kind(snapshot.pages[pfn] >> 4), snapshot.pages[pfn] & 15
        block = {snapshot.page(page)[2:] for page in range(pfn, pfn + (1 << order))}
        assert {(page[0], page[1], page[2]) for page in block} == {(kind, pfn, order)}
        assert len(block) == 1
        pfn += 1 << order


def test_page_on_a_per_cpu_list_reserved_or_absent():
    kernel = Kernel("256M")
    kernel.free_pages(kernel.alloc_pages("__GFP_MOVABLE", 9), 9)
    snapshot = kernel.snapshot()
    (pfns,) = snapshot.zones[1].pcps[0].lists.values()
    page = snapshot.page(pfns[0] + 511)
    assert page[2:] == (Kind.PCP, pfns[0], 9, M, "", pfns[0] ^ 512)
    assert snapshot.page(1)[2:] == (Kind.RESERVED, 1, 0, M, "", None)
    assert snapshot.page(0) == (0, None, Kind.HOLE, 0, 0, None, "", None)
    assert snapshot.page(160)[2:] == (Kind.HOLE, 160, 0, M, "", None)
    assert snapshot.page(5000)[2:] == (Kind.RESERVED, 5000, 0, M, "", None)


def test_buddy_beyond_the_zone_is_none():
    snapshot = Kernel(100 * 4096).snapshot()
    assert snapshot.page(99)[2:] == (Kind.FREE, 96, 2, M, "", None)


@pytest.mark.parametrize("pfn", [-1, 256, 1 << 40])
def test_page_outside(kernel, pfn):
    with pytest.raises(IndexError, match=r"is outside 0x0\.\.0xff"):
        kernel.snapshot().page(pfn)


def test_column_may_start_later():
    whole = Kernel("1M").snapshot()
    part = dataclasses.replace(
        whole, pages=whole.pages[128:], owners=whole.owners[128:], first_pfn=128
    )
    assert part.end_pfn == 256
    assert part.page(200)[1:] == whole.page(200)[1:]
    assert part.page(130)[2:] == (Kind.FREE, 128, 6, M, "", None)
    with pytest.raises(IndexError, match=r"0x7f is outside 0x80\.\.0xff"):
        part.page(127)
    # a block whose head is before the column is not known of
    cut = dataclasses.replace(
        whole, pages=whole.pages[130:], owners=whole.owners[130:], first_pfn=130
    )
    assert cut.page(131)[2:5] == (Kind.TAIL, 131, 0)


def test_zone_of_a_page():
    snapshot = Kernel("64M").snapshot()
    found = [snapshot.zone_of(pfn) for pfn in (0, 1, 4095, 4096, 16351, 16352)]
    assert [zone and zone.name for zone in found] == [None, "DMA", "DMA", "DMA32", "DMA32", None]


# -- lists and counts -----------------------------------------------------------------------------


def test_free_list_is_head_first():
    kernel = Kernel("1M")
    for _ in range(8):
        kernel.alloc_pages("__GFP_MOVABLE", 2)
    for pfn in (4, 12, 20):
        kernel.free_pages(pfn, 2)
    zone = kernel.snapshot().zones[0]
    assert zone.free_list(2, M) == (20, 12, 4)
    assert zone.free_list(2, U) == ()
    assert zone.nr_free(2) == zone.nr_free(2, M) == 3
    assert zone.nr_free(2, U) == zone.nr_free(0) == 0
    assert zone.free_lists() == {(2, M): (20, 12, 4), (5, M): (32,), (6, M): (64, 128, 192)}
    assert list(zone.free_lists()) == [(2, M), (5, M), (6, M)]


def test_counts():
    kernel = Kernel("256M", cpus=2)
    kernel.alloc_pages("GFP_KERNEL")
    kernel.cpu = 1
    kernel.alloc_pages("GFP_KERNEL", 3)
    zone = kernel.snapshot().zones[1]
    assert zone.pcp_pages == zone.pcps[0].count + zone.pcps[1].count == 14 + 8
    assert zone.free == zone.managed - 9 - 22
    assert zone.free == sum(zone.nr_free(order) << order for order in range(11))
    assert zone.free == zone.free_est + zone.pcps[0].stat_diff + zone.pcps[1].stat_diff


# -- texts ----------------------------------------------------------------------------------------


def test_buddyinfo_of_a_small_world(kernel):
    assert kernel.snapshot().buddyinfo() == (
        "Node 0, zone   Normal      0      1      1      0      1      1      2 \n"
    )


def test_pagetypeinfo_of_a_small_world(kernel):
    rows = [
        ("Unmovable", (0, 1, 1, 0, 1, 1, 0)), ("Movable", (0, 0, 0, 0, 0, 0, 2)),
        *((name, (0,) * 7) for name in MIGRATE_NAMES[2:]),
    ]  # fmt: skip
    lines = kernel.snapshot().pagetypeinfo().splitlines()
    assert lines[:4] == [
        "Page block order: 5",
        "Pages per block:  32",
        "",
        "Free pages count per migrate type at order       0      1      2      3      4      5      6 ",
    ]
    for line, (name, counts) in zip(lines[4:9], rows, strict=True):
        cells = "".join(f"{count:6d} " for count in counts)
        assert line == f"Node    0, zone   Normal, type {name:>12} {cells}"
    assert lines[9:] == [
        "",
        "Number of blocks type     Unmovable      Movable  Reclaimable   HighAtomic      Isolate ",
        "Node 0, zone   Normal            2            6            0            0            0 ",
    ]


def test_pagetypeinfo_says_everything_again_for_each_node():
    text = Kernel("4G", nodes=2, cpus=2).snapshot().pagetypeinfo()
    first, second = text.split("Page block order: 9\n")[1:]
    assert ("Node    0" in first, "Node    1" in first) == (True, False)
    assert ("Node    0" in second, "Node    1" in second) == (False, True)


def test_zone_without_memory_is_in_neither_text(kernel):
    snapshot = kernel.snapshot()
    empty = dataclasses.replace(snapshot.zones[0], present=0, name="Movable", idx=3)
    more = dataclasses.replace(snapshot, zones=(*snapshot.zones, empty))
    assert more.buddyinfo() == snapshot.buddyinfo()
    assert more.pagetypeinfo() == snapshot.pagetypeinfo()
    none = dataclasses.replace(snapshot, zones=(empty,))
    assert (none.buddyinfo(), none.pagetypeinfo()) == ("", "")


@pytest.mark.parametrize(
    ("count", "cell"), [(99_999, " 99999 "), (100_000, ">100000 "), (123_456, ">100000 ")]
)
def test_pagetypeinfo_stops_counting_a_list(kernel, count, cell):
    lists = {(0, U): ({}, dict.fromkeys(range(count)))}
    zone = dataclasses.replace(kernel.snapshot().zones[0], _lists=lists)
    snapshot = Snapshot(release="6.12", zones=(zone,), pages=b"", owners=b"")
    assert f"type    Unmovable {cell}     0 " in snapshot.pagetypeinfo()
    # the other file counts on
    assert f"Normal {count:6d} " in snapshot.buddyinfo()


def test_event_reads_like_a_trace_line():
    event = Event(3, "mm_page_free", (("pfn", "0x10"), ("order", 2)))
    assert str(event) == "mm_page_free: pfn=0x10 order=2"


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (0, "order 0 = 1 page = 4 kB"), (1, "order 1 = 2 pages = 8 kB"), (3, "order 3 = 8 pages = 32 kB"),
        (8, "order 8 = 256 pages = 1 MiB"), (10, "order 10 = 1,024 pages = 4 MiB"),
    ],
)  # fmt: skip
def test_order_carries_its_size(order, text):
    assert order_text(order) == text


@pytest.mark.parametrize(
    ("pages", "text"),
    [
        (0, "0 kB"), (1, "4 kB"), (255, "1,020 kB"), (256, "1 MiB"), (257, "1,028 kB"), (384, "1,536 kB"),
        (1 << 18, "1 GiB"), ((1 << 18) + 256, "1,025 MiB"), (1 << 28, "1,024 GiB"),
    ],
)  # fmt: skip
def test_size_is_in_the_largest_whole_unit(pages, text):
    assert size_text(pages) == text


# -- frozen ---------------------------------------------------------------------------------------


def test_values_are_frozen_and_compare_by_value(kernel):
    snapshot = kernel.snapshot()
    assert snapshot == kernel.snapshot()
    assert snapshot is not kernel.snapshot()
    kernel.get_page(0)
    assert snapshot != kernel.snapshot()
    for value, name in (
        (snapshot, "pages"),
        (snapshot.zones[0], "free_est"),
        (PcpSnapshot(), "count"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, 0)


def test_repr_shows_no_page_columns(kernel):
    text = repr(kernel.snapshot())
    assert "pages=b" not in text
    assert "_lists" not in text
    assert len(text) < 3000
