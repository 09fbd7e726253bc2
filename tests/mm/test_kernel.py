"""The C API as methods: what calls give, and what wrong arguments are told."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.kernel import PAGE_OFFSET
from kmemkit.snapshot import Kind

U, M, R = range(3)


# -- what calls give ------------------------------------------------------------------------------


def test_alloc_pages_gives_a_pfn_or_none():
    kernel = Kernel("256K")
    assert kernel.alloc_pages("GFP_KERNEL", 3) == 0
    assert kernel.alloc_pages(0xCC0, 0) == 8
    assert kernel.alloc_pages("GFP_KERNEL") == 9
    assert kernel.alloc_pages("GFP_KERNEL", 4) == 16
    assert kernel.alloc_pages("GFP_KERNEL", 5) is None


def test_block_remembers_its_type_order_and_owner():
    kernel = Kernel("1M")
    for order, (gfp, kind) in enumerate(
        [("GFP_KERNEL", Kind.UNMOVABLE), ("__GFP_MOVABLE", Kind.MOVABLE),
         ("__GFP_RECLAIMABLE", Kind.RECLAIMABLE)]
    ):  # fmt: skip
        pfn = kernel.alloc_pages(gfp, order, owner=f"owner {order}")
        page = kernel.snapshot().page(pfn + (1 << order) - 1)
        assert (page.head, page.kind, page.order, page.owner) == (
            pfn,
            kind,
            order,
            f"owner {order}",
        )


def test_owner_is_forgotten_by_the_next_request():
    kernel = Kernel("1M")
    for options in ({"owner": "driver"}, {}, {"owner": "driver"}, {}):
        pfn = kernel.alloc_pages("GFP_KERNEL", **options)
        assert kernel.snapshot().page(pfn).owner == options.get("owner", "")
        kernel.free_pages(pfn)


def test_get_free_pages_gives_an_address():
    kernel = Kernel("1M")
    assert kernel.get_free_pages("GFP_KERNEL", 1) == PAGE_OFFSET
    assert getattr(kernel, "__get_free_pages")("GFP_KERNEL") == PAGE_OFFSET + 2 * 4096
    assert kernel.get_free_pages("GFP_KERNEL|__GFP_HIGHMEM") == PAGE_OFFSET + 3 * 4096
    assert kernel.get_free_pages("GFP_KERNEL", 9) is None
    kernel.free_pages(PAGE_OFFSET, 1)
    getattr(kernel, "__free_pages")(2)
    kernel.free_pages(PAGE_OFFSET + 3 * 4096 + 4095)
    assert kernel.snapshot().zones[0].free == 256


def test_get_zeroed_page_asks_for_zeroes():
    kernel = Kernel("1M")
    kernel.record()
    assert kernel.get_zeroed_page("GFP_KERNEL", owner="me") == PAGE_OFFSET
    assert kernel.why().call == "alloc_pages(GFP_KERNEL|__GFP_ZERO, 0)"
    assert kernel.snapshot().page(0).owner == "me"


def test_addresses_and_pages():
    kernel = Kernel("1M")
    assert kernel.page_address(3) == PAGE_OFFSET + 3 * 4096
    assert kernel.virt_to_page(PAGE_OFFSET + 3 * 4096 + 17) == 3


EXACT = [(1, 1), (4096, 1), (4097, 2), (3 * 4096, 3), ("20K", 5), (32768, 8), (9 * 4096, 9)]


@pytest.mark.parametrize(("size", "pages"), EXACT)
def test_exact_keeps_just_enough_pages(size, pages):
    kernel = Kernel("1M")
    address = kernel.alloc_pages_exact(size, "GFP_KERNEL", owner="driver")
    assert address == PAGE_OFFSET
    snapshot = kernel.snapshot()
    assert snapshot.zones[0].free == 256 - pages
    infos = [snapshot.page(pfn) for pfn in range(pages)]
    assert {(info.kind, info.order, info.owner) for info in infos} == {
        (Kind.UNMOVABLE, 0, "driver")
    }
    assert snapshot.page(pages).kind is Kind.FREE
    kernel.free_pages_exact(address, size)
    assert kernel.snapshot().zones[0].free == 256
    assert kernel.dmesg() == ""


def test_exact_warns_of_flags_that_make_no_sense_once():
    kernel = Kernel("1M")
    for _ in range(2):
        assert kernel.alloc_pages_exact(4096, "GFP_KERNEL|__GFP_COMP|__GFP_HIGHMEM") is not None
    assert kernel.dmesg() == "WARNING: CPU: 0 PID: 1 at mm/page_alloc.c alloc_pages_exact_noprof"
    assert kernel.mem_map.compound == set()
    assert kernel.alloc_pages_exact("1M", "GFP_KERNEL") is None


def test_bulk_gives_single_pages():
    kernel = Kernel("256M")
    pages = kernel.alloc_pages_bulk("GFP_KERNEL", 7, owner="net")
    snapshot = kernel.snapshot()
    assert len(set(pages)) == 7
    assert {(snapshot.page(pfn).order, snapshot.page(pfn).owner) for pfn in pages} == {(0, "net")}


def test_order_above_the_highest_warns_once():
    kernel = Kernel("1M")
    assert kernel.alloc_pages("GFP_KERNEL|__GFP_NOWARN", 7) is None
    assert kernel.dmesg() == ""
    for order in (7, 11, 63):
        assert kernel.alloc_pages("GFP_KERNEL", order) is None
    assert kernel.dmesg() == "WARNING: CPU: 0 PID: 1 at mm/page_alloc.c:4832 __alloc_pages_noprof"
    assert kernel.alloc_pages("GFP_KERNEL", 6) is not None


def test_nothing_is_freed_by_none():
    kernel = Kernel("1M")
    before = kernel.snapshot()
    kernel.free_pages(None, 3)
    assert kernel.snapshot() == before


def test_split_page_makes_pages_of_their_own():
    kernel = Kernel("1M")
    pfn = kernel.alloc_pages("GFP_KERNEL", 2, owner="driver")
    kernel.split_page(pfn, 2)
    snapshot = kernel.snapshot()
    assert [(snapshot.page(p).order, snapshot.page(p).owner) for p in range(4)] == [
        (0, "driver")
    ] * 4
    for page in range(4):
        kernel.free_pages(page)
    assert kernel.snapshot().zones[0].free == 256
    assert kernel.dmesg() == ""


def test_unknown_command_line_words_are_passed_on():
    kernel = Kernel("1M", cmdline="nokaslr quiet init_on_alloc=0 foo=1")
    assert kernel.dmesg() == (
        'Unknown kernel command line parameters "nokaslr foo=1", will be passed to user space.'
    )
    assert not kernel.vm.check_pages
    assert Kernel("1M").vm.check_pages
    assert Kernel("1M").vm.thp
    assert not Kernel("1M", cmdline="transparent_hugepage=never").vm.thp


# -- what wrong arguments are told ----------------------------------------------------------------

BAD_MACHINES = [
    ({"ram": "64X"}, ValueError, "is not a size"), ({"ram": None}, TypeError, "is not a size"),
    ({"ram": "252K"}, ValueError, "give at least 64 pages"), ({"ram": 0}, ValueError, "above 0"),
    ({"nodes": 0}, ValueError, "nodes=0: give a whole number from 1 to 64"),
    ({"nodes": 65}, ValueError, "nodes=65"), ({"nodes": "2"}, ValueError, "nodes='2'"),
    ({"nodes": True}, ValueError, "nodes=True"), ({"cpus": True}, ValueError, "cpus=True"),
    ({"cpus": 0}, ValueError, "cpus=0: give a whole number from 1 to 512"),
    ({"cpus": 513}, ValueError, "cpus=513"), ({"cpus": 1.0}, ValueError, "cpus=1.0"),
    ({"release": "5.10"}, ValueError, "release='5.10': only the rules of 6.12"),
    ({"release": "6.120"}, ValueError, "release='6.120'"), ({"release": 6.12}, ValueError, "release=6.12"),
    ({"cmdline": "memmap=64M"}, ValueError, "leave it out"), ({"cmdline": 3}, TypeError, "cmdline=3"),
    ({"max_order": 11}, ValueError, "<= 10"), ({"pageblock_order": 0}, ValueError, "<= 10"),
    ({"max_order": "5"}, TypeError, "max_order"), ({"memory": "1M"}, TypeError, "memory"),
    ({"max_order": True}, TypeError, "max_order"), ({"pageblock_order": 3.0}, TypeError, "pageblock_order"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error", "words"), BAD_MACHINES, ids=str)
def test_machine_that_can_not_be(options, error, words):
    with pytest.raises(error) as raised:
        Kernel(**({"ram": "1M"} | options))
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("order", "error", "words"),
    [
        (-1, ValueError, "order=-1: an order is 0 or more; order n is 2^n pages"),
        (64, ValueError, "order=64"), (10**9, ValueError, "order=1000000000"),
        (1.0, TypeError, "order=1.0: give a whole number"), ("3", TypeError, "order='3'"),
        (None, TypeError, "order=None"), (True, TypeError, "order=True"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "call",
    [
        lambda k, order: k.alloc_pages("GFP_KERNEL", order),
        lambda k, order: k.get_free_pages("GFP_KERNEL", order),
        lambda k, order: k.free_pages(0, order),
        lambda k, order: k.split_page(0, order),
    ],
    ids=["alloc_pages", "get_free_pages", "free_pages", "split_page"],
)
def test_order_that_is_none(call, order, error, words):
    kernel = Kernel("1M")
    kernel.alloc_pages("GFP_KERNEL")
    before = kernel.snapshot()
    with pytest.raises(error) as raised:
        call(kernel, order)
    assert words in str(raised.value)
    assert kernel.snapshot() == before


@pytest.mark.parametrize(
    ("gfp", "error", "words"),
    [
        ("GFP_KRNEL", ValueError, "did you mean GFP_KERNEL"), ("", None, ""),
        ("GFP_KERNEL|", ValueError, "is missing"), (1 << 40, ValueError, "32 bits"),
        (-1, ValueError, "negative"), (None, TypeError, "not None"), (1.5, TypeError, "1.5"),
        ([], TypeError, "gfp=[]"), ({}, TypeError, "gfp={}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "call",
    [
        lambda k, gfp: k.alloc_pages(gfp), lambda k, gfp: k.get_free_pages(gfp),
        lambda k, gfp: k.get_zeroed_page(gfp), lambda k, gfp: k.alloc_pages_exact(1, gfp),
        lambda k, gfp: k.alloc_pages_bulk(gfp, 1),
    ],
    ids=["alloc_pages", "get_free_pages", "get_zeroed_page", "alloc_pages_exact", "alloc_pages_bulk"],
)  # fmt: skip
def test_mask_that_is_none(call, gfp, error, words):
    kernel = Kernel("1M")
    if error is None:
        assert call(kernel, gfp) is not None
        return
    before = kernel.snapshot()
    with pytest.raises(error) as raised:
        call(kernel, gfp)
    assert words in str(raised.value)
    assert kernel.snapshot() == before


@pytest.mark.parametrize("page", ["0", 1.5, [], b"0"])
@pytest.mark.parametrize("name", ["free_pages", "get_page", "put_page"])
def test_page_that_is_none(page, name):
    kernel = Kernel("1M")
    with pytest.raises(TypeError, match="is not a page; give the pfn or the address an allocation"):
        getattr(kernel, name)(page)


@pytest.mark.parametrize("count", [-1, 1.0, "3", None, True])
def test_number_of_pages_that_is_none(count):
    kernel = Kernel("1M")
    with pytest.raises(ValueError, match="nr_pages=.*: give a whole number of pages, 0 or more"):
        kernel.alloc_pages_bulk("GFP_KERNEL", count)


def test_no_bytes_are_an_order_that_no_machine_has():
    kernel = Kernel("1M")
    assert kernel.alloc_pages_exact(0, "GFP_KERNEL") is None  # get_order(0) is 52
    assert kernel.dmesg().endswith("at mm/page_alloc.c:4832 __alloc_pages_noprof")


@pytest.mark.parametrize("size", [-1, "x", "1.5M"])
def test_size_that_is_none(size):
    kernel = Kernel("1M")
    for call in (
        lambda: kernel.alloc_pages_exact(size, "GFP_KERNEL"),
        lambda: kernel.free_pages_exact(PAGE_OFFSET, size),
    ):
        with pytest.raises(ValueError, match="size"):
            call()


@pytest.mark.parametrize("pfn", [0, 4, 8, 9])
def test_split_of_what_is_no_such_block(pfn):
    kernel = Kernel("1M")
    kernel.alloc_pages("GFP_KERNEL", 3)
    before = kernel.snapshot()
    with pytest.raises(
        ValueError, match=f"pfn {pfn:#x} does not begin an allocated block of order 2"
    ):
        kernel.split_page(pfn, 2)
    assert kernel.snapshot() == before


def test_owner_beyond_the_table():
    kernel = Kernel("4M")
    for number in range(255):
        kernel.alloc_pages("GFP_KERNEL", owner=f"owner {number}")
    before = kernel.snapshot()
    for call in (
        lambda: kernel.alloc_pages("GFP_KERNEL", owner="one more"),
        lambda: kernel.alloc_pages_bulk("GFP_KERNEL", 3, owner="one more"),
    ):
        with pytest.raises(
            ValueError, match="owner='one more': there are 255 owners already; reuse"
        ):
            call()
    assert kernel.snapshot().pages == before.pages  # nothing was taken for it
    pfn = kernel.alloc_pages("GFP_KERNEL", owner="owner 254")
    assert kernel.snapshot().page(pfn).owner == "owner 254"


@pytest.mark.parametrize("owner", [None, 3, b"driver"])
def test_owner_that_is_no_name(owner):
    kernel = Kernel("1M")
    before = kernel.snapshot()
    if owner is None:
        with pytest.raises(TypeError, match="owner=None: give a name as text"):
            kernel.alloc_pages_bulk("GFP_KERNEL", 2, owner=owner)
    else:
        with pytest.raises(TypeError, match="give a name as text"):
            kernel.alloc_pages("GFP_KERNEL", owner=owner)
    assert kernel.snapshot().pages == before.pages


def test_numa_no_node_is_the_running_cpus_node():
    kernel = Kernel("4G", nodes=2, cpus=2)
    kernel.cpu = 1
    assert kernel.alloc_pages("GFP_KERNEL", nid=-1) >= 1 << 19
    assert kernel.alloc_pages("GFP_KERNEL", nid=-1) >= 1 << 19
    for nid in (2, -2, "0", None.__class__):
        with pytest.raises(ValueError, match="this machine has memory on nodes"):
            kernel.alloc_pages("GFP_KERNEL", nid=nid)
