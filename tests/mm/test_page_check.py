"""Wrong frees: what Linux said and gave back (tests/golden/misuse_pages.json), cell by cell.

`plain` is a kernel that looks at pages when they are freed and handed out, `noinit` one that does
not. A cell's report has a pfn, which depends on the machine; here it is that of the right page.
"""

import json
import re
from pathlib import Path

import pytest

from kmemkit import Kernel
from kmemkit.mm.errors import KernelBug, Oops
from kmemkit.snapshot import Kind

GOLDEN = Path(__file__).parent.parent / "golden"
ROWS = json.loads((GOLDEN / "misuse_pages.json").read_text(encoding="utf-8"))
CMDLINE = {"plain": "", "noinit": "init_on_alloc=0"}


class Cell:
    """A kernel, and one block in it whose neighbour behind it is in use."""

    def __init__(self, kernel, order):
        self.kernel = Kernel("256M", cmdline=CMDLINE[kernel])
        self.order, self.pages = order, 1 << order
        # an even block and the one behind it
        first = self.kernel.alloc_pages("GFP_KERNEL", order)
        second = self.kernel.alloc_pages("GFP_KERNEL", order)
        assert (first % (2 << order), second) == (0, first + self.pages)
        self.pfn, self.neighbour = first, second

    def free_each(self, count, step=1):
        for page in range(self.pfn, self.pfn + count, step):
            self.kernel.free_pages(page)

    def returned(self):
        """Return how many of the block's pages are on buddy lists once the CPU's are drained."""
        self.kernel.drain_all_pages()
        return self.in_buddy(self.pfn, self.pages)

    def in_buddy(self, first, count):
        snapshot = self.kernel.snapshot()
        free = set()
        for zone in snapshot.zones:
            for (order, _), pfns in zone.free_lists().items():
                for pfn in pfns:
                    free.update(range(pfn, pfn + (1 << order)))
        return len(free.intersection(range(first, first + count)))


def free_as(freer):
    orders = {"same": 0, "smaller": -1, "larger": 1}

    def run(cell):
        kernel, address = cell.kernel, cell.kernel.page_address(cell.pfn)
        if freer == "exact":
            kernel.free_pages_exact(address, cell.pages * 4096)
        else:
            kernel.free_pages(address, cell.order + orders[freer])
        return {"larger": cell.neighbour}.get(freer, cell.pfn)

    return run


def dbl_free(cell):
    cell.kernel.free_pages(cell.pfn, cell.order)
    cell.kernel.free_pages(cell.pfn, cell.order)
    # the next owners: it is noticed now, if at all
    cell.next = [cell.kernel.alloc_pages("GFP_KERNEL", cell.order) for _ in range(2)]
    assert cell.next[0] != cell.next[1]
    return cell.pfn


def free_exact_wrong_size(cell):
    address = cell.kernel.alloc_pages_exact(5 * 4096, "GFP_KERNEL")
    cell.pfn, cell.pages = cell.kernel.virt_to_page(address), 5
    cell.kernel.free_pages_exact(address, 3 * 4096)


def free_larger_neighbour_live(cell):
    cell.kernel.free_pages(cell.pfn, 1)
    return cell.neighbour


def free_page_each_of_order3(cell):
    cell.free_each(8)


def free_smaller_each_half_order1(cell):
    cell.free_each(2)


def free_page_without_alloc(cell):
    reserved = 0x1000  # of the kernel image
    assert cell.kernel.snapshot().page(reserved).kind is Kind.RESERVED
    cell.kernel.free_pages(reserved)
    return reserved


def free_pages_mid_order3(cell):
    cell.kernel.free_pages(cell.pfn + 1, 0)
    assert cell.returned() == 0
    if cell.kernel.vm.check_pages:
        assert cell.kernel.dmesg() == ""  # it is noticed at the proper free
        cell.kernel.free_pages(cell.pfn, 3)
    return cell.pfn + 1


def free_pages_plus8(cell):
    cell.kernel.free_pages(cell.kernel.page_address(cell.pfn) + 8, 0)


def free_pages_with_extra_ref(cell):
    cell.kernel.get_page(cell.pfn)
    cell.kernel.free_pages(cell.pfn, 3)


def split_then_free_each_of_order3(cell):
    cell.kernel.split_page(cell.pfn, 3)
    cell.free_each(8)


#: cell -> (order of the block, what is done to it; returns the page that a report names)
CELLS = {
    "m.dbl_free_pages0": (0, dbl_free),
    "m.dbl_free_pages3": (3, dbl_free),
    "m.free_exact_wrong_size": (3, free_exact_wrong_size),
    "m.free_larger_neighbour_live": (0, free_larger_neighbour_live),
    "m.free_page_each_of_order3": (3, free_page_each_of_order3),
    "m.free_page_without_alloc": (0, free_page_without_alloc),
    "m.free_pages_mid_order3": (3, free_pages_mid_order3),
    "m.free_pages_plus8": (0, free_pages_plus8),
    "m.free_pages_with_extra_ref": (3, free_pages_with_extra_ref),
    "m.free_smaller_each_half_order1": (1, free_smaller_each_half_order1),
    "m.split_then_free_each_of_order3": (3, split_then_free_each_of_order3),
} | {
    f"pair.pages{order}.free_pages_{freer}": (order, free_as(freer))
    for order in (0, 3)
    for freer in ("same", "smaller", "larger", "exact")
    if (order, freer) != (0, "smaller")
}


def test_every_cell_is_played():
    assert {row["cell"] for row in ROWS} == set(CELLS)
    assert len(ROWS) == 2 * len(CELLS)


def pages_returned(row, pages):
    """Return how many pages came back, from "yes", "no", "7 of 8 pages", "partly: 4 of 8 pages"."""
    verdict = row["memory_returned"]
    if found := re.search(r"(\d+) of (\d+) pages", verdict):
        assert int(found[2]) == pages
        return int(found[1])
    return {"yes": pages, "no": 0}[verdict]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['kernel']}-{row['cell']}")
def test_cell(row):
    order, misuse = CELLS[row["cell"]]
    cell = Cell(row["kernel"], order)
    named = misuse(cell)
    report = row["report_first_line"]
    first_line = cell.kernel.dmesg().partition("\n")[0]
    if report is None:
        assert first_line == ""
    else:
        assert first_line == re.sub(r"[0-9a-f]{5}$", f"{named:05x}", report)
    if row["memory_returned"] is not None and not row["cell"].endswith("without_alloc"):
        assert cell.returned() == pages_returned(row, cell.pages)
    # the one cell where damage strikes later, when a list is walked: that is not simulated
    later = (row["kernel"], row["cell"]) == ("noinit", "pair.pages3.free_pages_larger")
    assert row["survived"] == ("later oops" if later else "yes")


# -- what the record says beyond its first line ---------------------------------------------------


def test_report_of_a_page_in_use():
    cell = Cell("plain", 0)
    free_larger_neighbour_live(cell)
    assert cell.kernel.dmesg().splitlines() == [
        f"BUG: Bad page state in process init  pfn:{cell.neighbour:05x}",
        f"page: refcount:1 mapcount:0 mapping:0000000000000000 index:0x0 pfn:{cell.neighbour:#x}",
        "flags: 0xfffffc0000000(node=0|zone=1|lastcpupid=0x1fffff)",
        "page dumped because: nonzero _refcount",
    ]


def test_report_names_the_node():
    kernel = Kernel("4G", nodes=2, cpus=2)
    pfn = kernel.alloc_pages("GFP_KERNEL|__GFP_DMA32|__GFP_THISNODE", nid=1)
    kernel.alloc_pages("GFP_KERNEL|__GFP_DMA32|__GFP_THISNODE", nid=1)
    kernel.free_pages(pfn, 1)
    assert kernel.dmesg().splitlines()[2] == (
        "flags: 0x4fffffc0000000(node=1|zone=1|lastcpupid=0x1fffff)"
    )


def test_report_of_a_reserved_page():
    cell = Cell("plain", 0)
    free_page_without_alloc(cell)
    assert cell.kernel.dmesg().splitlines()[1:] == [
        "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x1000",
        "flags: 0xfffffc0002000(reserved|node=0|zone=1|lastcpupid=0x1fffff)",
        "page dumped because: PAGE_FLAGS_CHECK_AT_FREE flag(s) set",
    ]


@pytest.mark.parametrize("order", [0, 3])
def test_report_of_a_double_free(order):
    cell = Cell("plain", order)
    cell.kernel.free_pages(cell.pfn, order)
    cell.kernel.free_pages(cell.pfn, order)
    assert cell.kernel.dmesg() == ""  # nothing is noticed yet
    assert cell.kernel.alloc_pages("GFP_KERNEL", order) not in (None, cell.pfn)
    assert "refcount:-1 " in cell.kernel.dmesg()
    assert cell.kernel.dmesg().count("BUG: Bad page state") == 1
    assert cell.kernel.snapshot().page(cell.pfn).kind is Kind.LEAKED


def test_every_bad_page_of_a_block_is_reported():
    cell = Cell("plain", 3)
    for page in range(cell.neighbour, cell.neighbour + 8):
        cell.kernel.free_pages(page)  # the first is freed, the others' counts go below zero
    cell.kernel.free_pages(cell.pfn, 4)
    assert cell.kernel.dmesg().count("BUG: Bad page state") == 7
    assert cell.returned() == 0


def test_block_that_is_free_already_is_reported():
    cell = Cell("plain", 3)
    cell.kernel.free_pages(cell.neighbour, 3)
    cell.kernel.drain_all_pages()
    cell.kernel.free_pages(cell.pfn, 4)
    lines = cell.kernel.dmesg().splitlines()
    assert lines[0].endswith(f"pfn:{cell.neighbour:05x}")
    assert "page_type: f0(buddy)" in lines
    assert lines[-1] == "page dumped because: nonzero mapcount"


def test_neighbour_freed_by_mistake_is_handed_out_while_in_use():
    cell = Cell("noinit", 0)
    free_larger_neighbour_live(cell)
    taken = {cell.kernel.alloc_pages("GFP_KERNEL", 1) for _ in range(4)}
    assert cell.pfn in taken  # with the neighbour behind it


def test_free_neighbour_freed_once_more_is_found_when_it_is_taken():
    cell = Cell("noinit", 3)
    cell.kernel.free_pages(cell.neighbour, 3)
    cell.kernel.free_pages(cell.pfn, 4)
    with pytest.raises(KernelBug, match=r"^kernel BUG at lib/list_debug\.c:65!\n"):
        cell.kernel.alloc_pages("GFP_KERNEL", 3)
    assert cell.kernel.dmesg().startswith("list_del corruption. next->prev should be ")
    assert cell.kernel.alloc_pages("GFP_KERNEL", 4) == cell.pfn


def test_block_that_is_missing_on_its_list_is_a_bug():
    kernel = Kernel("256K", cmdline="init_on_alloc=0")
    assert kernel.alloc_pages("GFP_KERNEL", 1) == 0
    kernel.free_pages(19, 1)  # 20 out of the middle of a free block
    kernel.free_pages(0, 0)
    assert [kernel.alloc_pages("GFP_KERNEL", order) for order in (2, 3, 3)] == [4, 8, 16]
    with pytest.raises(KernelBug, match=r"^kernel BUG at lib/list_debug\.c:65!\n"):
        kernel.free_pages(20, 2)
    assert kernel.dmesg().splitlines() == [
        "list_del corruption.", "kernel BUG at lib/list_debug.c:65!",
    ]  # fmt: skip


def test_who_holds_the_first_page_gets_it_back_alone():
    cell = Cell("plain", 3)
    free_pages_with_extra_ref(cell)
    snapshot = cell.kernel.snapshot()
    assert snapshot.page(cell.pfn)[2:5] == (Kind.UNMOVABLE, cell.pfn, 0)
    assert [snapshot.page(cell.pfn + page).order for page in range(1, 8)] == [0, 1, 1, 2, 2, 2, 2]
    assert cell.returned() == 7
    cell.kernel.put_page(cell.pfn)
    assert cell.returned() == 8
    assert cell.kernel.dmesg() == ""


@pytest.mark.parametrize("kernel", CMDLINE)
def test_compound_block_is_freed_as_a_whole_by_the_last_reference(kernel):
    cell = Cell(kernel, 0)
    cell.order, cell.pages = 3, 8
    cell.pfn = cell.kernel.alloc_pages("GFP_KERNEL|__GFP_COMP", 3)
    cell.kernel.get_page(cell.pfn)
    cell.kernel.free_pages(cell.pfn, 3)
    assert cell.returned() == 0
    cell.kernel.put_page(cell.pfn)
    assert cell.returned() == 8
    assert cell.kernel.mem_map.compound == set()
    assert cell.kernel.mem_map.refcount == {}


def test_reference_taken_and_given_back_leaves_no_trace():
    cell = Cell("plain", 3)
    before = cell.kernel.snapshot()
    cell.kernel.get_page(cell.pfn)
    assert cell.kernel.snapshot().refcounts == {cell.pfn: 1}
    cell.kernel.put_page(cell.pfn)
    assert cell.kernel.snapshot().refcounts == {}
    assert cell.kernel.snapshot().pages == before.pages
    cell.kernel.free_pages(cell.pfn, 3)
    assert cell.returned() == 8


@pytest.mark.parametrize("order", [0, 3])
@pytest.mark.parametrize("gfp", ["GFP_KERNEL", "__GFP_MOVABLE"])
def test_extra_reference_elsewhere_changes_nothing_for_others(gfp, order):
    cell = Cell("plain", 0)
    cell.kernel.get_page(cell.neighbour)
    pfn = cell.kernel.alloc_pages(gfp, order)
    cell.kernel.free_pages(pfn, order)
    assert cell.kernel.snapshot().refcounts == {cell.neighbour: 1}
    assert cell.kernel.alloc_pages(gfp, order) == pfn
    assert cell.kernel.dmesg() == ""


@pytest.mark.parametrize(("order", "given"), [(3, 0), (3, 1), (3, 2), (1, 0)])
def test_too_small_an_order_leaks_the_rest_visibly(order, given):
    cell = Cell("plain", order)
    cell.kernel.free_pages(cell.pfn, given)
    snapshot = cell.kernel.snapshot()
    kinds = [snapshot.page(cell.pfn + page).kind for page in range(1 << order)]
    kept = 1 << given
    assert kinds == [Kind.PCP] * kept + [Kind.LEAKED] * ((1 << order) - kept)
    assert cell.returned() == kept


def test_leaked_page_is_never_handed_out():
    cell = Cell("plain", 3)
    cell.kernel.free_pages(cell.pfn, 2)
    cell.kernel.drain_all_pages()
    leaked = set(range(cell.pfn + 4, cell.pfn + 8))
    taken = {cell.kernel.alloc_pages("GFP_ATOMIC") for _ in range(60_000)} - {None}
    assert not taken & leaked
    assert cell.pfn in taken


def test_exact_block_frees_its_rest_at_once_to_the_tail():
    kernel = Kernel("8M")
    kernel.free_pages(kernel.alloc_pages("GFP_KERNEL", 0))
    single = kernel.alloc_pages("GFP_KERNEL", 0)
    assert single == 0
    address = kernel.alloc_pages_exact(5 * 4096, "GFP_KERNEL")
    assert kernel.virt_to_page(address) == 8
    zone = kernel.snapshot().zones[0]
    # 13 alone, 14 and 15 merged; each behind what was there
    assert zone.free_list(0, 0) == (1, 13)
    assert zone.free_list(1, 0) == (2, 14)
    kernel.free_pages_exact(address, 5 * 4096)
    assert kernel.snapshot().zones[0].free_list(3, 0) == (8,)
    kernel.free_pages(single)
    assert kernel.snapshot().zones[0].free_lists() == {(10, 0): (0,), (10, 1): (1024,)}


# -- beyond memory --------------------------------------------------------------------------------


@pytest.mark.parametrize(("pfn", "order"), [(256, 0), (1 << 40, 0), (255, 1), (192, 7), (0, 63)])
def test_free_beyond_the_end_of_memory_is_an_oops(pfn, order):
    kernel = Kernel("1M")
    pages = [kernel.alloc_pages("GFP_KERNEL") for _ in range(256)]
    before = kernel.snapshot()
    with pytest.raises(Oops, match="BUG: unable to handle page fault for address: [0-9a-f]{16}"):
        kernel.free_pages(pfn, order)
    assert "this machine ends at 0xff" in raised(kernel, pfn, order)
    assert kernel.snapshot().pages == before.pages
    assert len(set(pages)) == 256


def raised(kernel, pfn, order):
    with pytest.raises(Oops) as error:
        kernel.free_pages(pfn, order)
    return str(error.value)


def test_free_into_a_hole_is_an_oops():
    kernel = Kernel("64M")
    with pytest.raises(Oops, match="pfn 0xa0 has no memory"):
        kernel.free_pages(0xA0)


def test_pages_of_a_hole_count_as_reserved():
    kernel = Kernel("64M")
    kernel.free_pages(158, 1)
    assert kernel.dmesg().count("BUG: Bad page state") == 2
    snapshot = kernel.snapshot()
    assert [snapshot.page(pfn).kind for pfn in (158, 159)] == [Kind.LEAKED, Kind.HOLE]
