"""PageMap without a browser: the text twin, its geometry, what is sent, history, bad input."""

import re
import struct

import pytest

from kmemkit.snapshot import Kind
from kmemkit.views import PageMap
from kmemkit.views._page_cells import cell_letter, owner_marks, tally, whole_span, window
from tests.views.factory import big, mixed, replay, world
from tests.views.test_base import Kernel, no_waiting

pytestmark = pytest.mark.usefixtures("no_waiting")
__all__ = ("no_waiting",)

MIXED = """\
Zone Normal · 256 pages = 1 MiB · pfn 0x0 to 0xff · Linux 6.12 rules
Unmovable 9, Movable 34, Reclaimable 4, slab 4, per-CPU list 2, reserved 8, no memory 1, leaked 4, free 190
Pageblocks of order 5 = 32 pages = 128 kB: Unmovable 2, Movable 5, Reclaimable 1
A cell is 1 page. A capital starts an allocated block, a number starts a free block and is its order.

0x00 U   XXXXXXXXUuuuuuuuU0Pp2...Rrrr2...
0x20 U   5...............................
0x40 M   M00M2...3.......4...............
0x60 M   Mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm
0x80 M   !!!!2...3.......4...............
0xa0 M   5...............................
0xc0 R   3.......Ssss2...4...............
0xe0 M   4...............3.......2...1.0-

Owners, by first block:
  driver (d), pages 40: 0x8 order 3, 0x60 order 5
  slab (s), pages 1: 0x10 order 0
  dentry (e), pages 4: 0x18 order 2
  user (u), pages 2: 0x40 order 0, 0x43 order 0
  kmalloc-64 (k), pages 4: 0xc8 order 2

Free lists, head first:
  Normal order 0 Unmovable: 0x11
  Normal order 0 Movable: 0x41, 0x42, 0xfe
  Normal order 1 Movable: 0xfc
  Normal order 2 Unmovable: 0x14, 0x1c
  Normal order 2 Movable: 0x44, 0x84, 0xf8
  Normal order 2 Reclaimable: 0xcc
  Normal order 3 Movable: 0x48, 0x88, 0xf0
  Normal order 3 Reclaimable: 0xc0
  Normal order 4 Movable: 0x50, 0x90, 0xe0
  Normal order 4 Reclaimable: 0xd0
  Normal order 5 Unmovable: 0x20
  Normal order 5 Movable: 0xa0"""


def rows_of(view):
    """The cells of a text twin as one string."""
    found = re.findall(r"^0x[0-9a-f]+ [UMRHI ]{3} (.*?)(?:  \d+ % free)?$", view.text(), re.M)
    return "".join(found)


# -- the text twin --------------------------------------------------------------------------------


def test_text_twin_of_everything():
    assert PageMap(mixed()).text() == MIXED


def test_text_adds_selection_step_and_what_is_scaled():
    history = replay(world(64), world(64, [(0, 0, Kind.UNMOVABLE, "driver")], scaled=("no pcp",)))
    assert PageMap(history=history, selected=0).text().split("\n\n")[-3:] == [
        "selected: pfn 0x0 · zone Normal · allocated Unmovable, block of order 0 = 1 page = 4 kB"
        " · owner driver · Movable pageblock · buddy 0x1: free, order 0",
        "step 1 of 1: alloc_pages(GFP_KERNEL, 1) → pfn 0x1",
        "scaled: this small world is not laid out like a real machine.\n  no pcp",
    ]


def test_pageblock_types_of_a_row_stand_in_the_order_of_the_pageblocks():
    rows = PageMap(world(64, types="EMMEMMUU", block_order=3, max_order=4)).text().splitlines()
    assert [row[5:8] for row in rows if row.startswith("0x")] == ["RM ", "MR ", "M  ", "U  "]


def test_order_10_is_written_with_two_digits():
    view = PageMap(world(2048, block_order=9, max_order=10))
    assert rows_of(view) == ("10" + "." * 1022) * 2


@pytest.mark.parametrize(
    ("pfn", "says"),
    [
        (0x3, "pfn 0x3 · zone Normal · reserved, never given to the buddy allocator · Unm"),
        (0x9, "block of order 3 = 8 pages = 32 kB · page 2 of the block at 0x8 · owner driver"),
        (0x11, "buddy 0x10: allocated Unmovable, order 0"),
        (0x13, "on a per-CPU list, block of order 1 = 2 pages = 8 kB · page 2 of the block"),
        (0x42, "free block of order 0 = 1 page = 4 kB · Movable pageblock · buddy 0x43: allo"),
        (0x82, "leaked, nobody can free it, block of order 2 = 4 pages = 16 kB · page 3 of"),
        (0xA0, "free block of order 5 = 32 pages = 128 kB · Movable pageblock · buddy 0x80:"),
        (0xC0, "Reclaimable pageblock · buddy 0xc8: slab, order 2"),
        (0xC9, "slab, cut into objects, block of order 2 = 4 pages = 16 kB · page 2 of the block"),
        (0xFE, "buddy 0xff: no memory"),
        (0xFF, "pfn 0xff · zone Normal · no memory here · Movable pageblock"),
    ],
)
def test_line_of_a_page(pfn, says):
    assert says in PageMap(mixed()).line(pfn)


def test_line_says_why_there_is_no_buddy():
    assert PageMap(world(64)).line(0).endswith("no buddy: order 6 is the highest")
    odd = PageMap(world(96))
    assert odd.line(64).endswith("no buddy: it would lie outside the zone")


def test_line_of_a_page_that_is_not_there():
    with pytest.raises(IndexError, match="pfn 0x100 is not on this map: 0x0 to 0xff"):
        PageMap(mixed()).line(0x100)


def test_owner_marks_are_unlike_each_other():
    assert owner_marks(("", "driver", "dentry", "dd", "slab", "Ring 0")) == [
        *("", "d", "e", "*", "s", "r")
    ]


# -- cells of several pages -----------------------------------------------------------------------


def test_aggregation_never_hides_a_mixed_cell():
    kinds = [(0, 0, Kind.UNMOVABLE, ""), (64, 5, Kind.MOVABLE, ""), (96, 5, Kind.MOVABLE, "")]
    kinds += [(128, 5, Kind.MOVABLE, ""), (160, 5, Kind.UNMOVABLE, ""), (192, 0, Kind.LEAKED, "")]
    kinds += [(320, 0, Kind.HOLE, "")]
    snapshot = world(448, kinds, max_order=5)
    cells = [cell_letter(snapshot, pfn, pfn + 64) for pfn in range(0, 448, 64)]
    assert cells == ["u", "M", "u", "!", ":", "-", ":"]


def test_free_block_over_several_cells_is_spelled_in_them():
    snapshot = world(2048, block_order=9, max_order=10)
    assert [cell_letter(snapshot, pfn, pfn + 512) for pfn in (0, 512)] == ["1", "0"]
    assert cell_letter(snapshot, 0, 1024) == "."


def test_tally_counts_every_page_once():
    snapshot = mixed()
    found = tally(snapshot, 0, 256)
    assert sum(found.values()) == 256
    assert found[Kind.FREE] == snapshot.zones[0].free
    assert tally(snapshot, 0x60, 0x70)[Kind.MOVABLE] == 16


def test_big_map_is_aggregated_and_says_so():
    snapshot = big(1 << 16)
    text = PageMap(snapshot).text()
    assert "A cell is 32 pages = 128 kB. A capital fills its cell." in text
    free = [int(n) for n in re.findall(r"  (\d+) % free$", text, re.M)]
    assert len(free) == 32
    assert sum(free) / 32 == pytest.approx(100 * snapshot.zones[0].free / (1 << 16), abs=1)


def test_text_of_dots_is_put_together_to_cells_with_letters():
    view = PageMap(big(1 << 16), width=256)
    assert len(rows_of(view)) == 2048


# -- geometry -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pages", "cell", "width", "rows"),
    [
        (64, 1, 16, 4),
        (256, 1, 32, 8),
        (1024, 1, 64, 16),
        (1 << 18, 128, 64, 32),
        (1 << 20, 512, 64, 32),
    ],
)
def test_window_of_everything(pages, cell, width, rows):
    span = whole_span(0, pages, None)
    assert window(0, pages, 0, span, None) == (0, pages, cell, width, rows)


def test_every_width_keeps_blocks_rectangular():
    for width in (None, 8, 64, 1024):
        for first, end in ((0, 256), (1, 4096), (0x1000, 0x7FFE0), (700, 5000)):
            whole = whole_span(first, end, width)
            for span in (16, 512, whole):
                for start in (0, first, (first + end) // 2, end):
                    win = window(first, end, start, span, width)
                    assert win.start % (win.width * win.cell) == 0
                    assert win.start < end and win.start + win.span > first
                    assert win.rows * win.width * win.cell <= win.span
            win = window(first, end, first, whole, width)
            assert win.start <= first and win.start + win.span >= end


def test_zoomed_text_shows_the_window():
    view = PageMap(big(1 << 16), span=512, start=0x800)
    assert re.findall(r"^0x[0-9a-f]+", view.text(), re.M)[0] == "0x0800"
    assert len(rows_of(view)) == 512


def test_selecting_a_page_outside_the_window_scrolls_there():
    view = PageMap(big(1 << 16), span=512)
    view.selected = 0x8123
    assert view.start <= 0x8123 < view.start + 512


# -- what is sent ---------------------------------------------------------------------------------


def apply(patch, pages, owners):
    """Do what page_columns.js does with a patch."""
    words = struct.unpack_from(f"<{len(patch) // 4}I", patch)
    headers = [words[3 + 2 * n : 5 + 2 * n] for n in range(words[1] + words[2])]
    at = 4 * (3 + 2 * len(headers))
    for n, (start, length) in enumerate(headers):
        (pages if n < words[1] else owners)[start : start + length] = patch[at : at + length]
        at += length
    assert at == len(patch)


def test_only_the_changed_ranges_are_sent():
    before = big(1 << 14)
    pages, owners = bytearray(before.pages), bytearray(before.owners)
    pages[5000], owners[9000] = Kind.LEAKED << 4, 1
    after = big(1 << 14)
    object.__setattr__(after, "pages", bytes(pages))
    object.__setattr__(after, "owners", bytes(owners))
    view = PageMap(before)
    view.show(after)
    assert len(view._patch) == (3 + 2 + 2) * 4 + 1024 + 1024
    assert view._pages == before.pages
    copies = bytearray(before.pages), bytearray(before.owners)
    apply(view._patch, *copies)
    assert copies == (pages, owners)
    assert view.get_state(["_pages"])["_pages"] == pages, "a page opened later gets the state now"


def test_the_same_change_twice_is_sent_twice():
    empty, full = world(64), world(64, [(0, 6, Kind.MOVABLE, "")])
    view = PageMap(empty)
    patches = []
    view.observe(lambda change: patches.append(change["new"]), "_patch")
    for snapshot in (full, empty, full, full):
        view.show(snapshot)
    assert len(patches) == 3
    assert patches[0][4:] == patches[2][4:]


def test_another_size_sends_whole_columns():
    view = PageMap(world(64), selected=3)
    view.show(mixed())
    assert view._extent == [0, 256]
    assert view._pages == mixed().pages
    view.selected = 200
    view.show(world(64))
    assert view.selected is None


def test_the_page_asks_for_the_text_twin():
    view = PageMap(mixed())
    said = []
    view.send = said.append
    view._handle_custom_msg({"want": "text"}, [])
    assert said == [{"text": view.text()}]


# -- history --------------------------------------------------------------------------------------


def test_history_goes_back_and_forth():
    history = replay(world(64), world(64, [(0, 0, Kind.UNMOVABLE, "a")]), world(64))
    view = PageMap(history=history)
    assert (view.step, view._steps) == (2, 3)
    texts = []
    for step in (2, 1, 0, 1, 2):
        view.step = step
        assert view.snapshot is history[step].snapshot
        texts.append(view.text())
    assert texts == texts[::-1]
    assert view._step_text == "step 2 of 2: alloc_pages(GFP_KERNEL, 2) → pfn 0x2"


def test_a_recording_kernel_is_followed_to_its_newest_step():
    kernel = Kernel(world(64))
    kernel.history = replay(world(64))
    view = PageMap(kernel)
    kernel.history += replay(world(64), world(64))
    kernel.change(mixed())
    assert view.step == 2
    view.step = 0
    assert view.snapshot is kernel.history[0].snapshot
    view.step = 2
    assert view.snapshot is kernel.state


def test_step_can_be_chosen_at_the_start():
    assert PageMap(history=replay(world(64), mixed()), step=0).snapshot.end_pfn == 64


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"zone": "DMA"}, r"zone='DMA' is no zone here; there are \(node, name\): \(0, 'Normal'\)"),
        ({"zone": (1, "Normal")}, r"zone=\(1, 'Normal'\) is no zone here"),
        ({"width": 24}, "width=24: a row has one of 8, 16, .*, 1024 cells"),
        ({"selected": 256}, "selected=0x100 is not on this map: 0x0 to 0xff"),
        ({"step": 0}, "step=0: the steps here are none, as nothing was recorded"),
    ],
)
def test_values_that_are_not_there(keywords, says):
    with pytest.raises(ValueError, match=says):
        PageMap(mixed(), **keywords)


def test_step_out_of_range_names_the_range():
    view = PageMap(history=replay(world(64), mixed()))
    with pytest.raises(ValueError, match="step=5: the steps here are 0 to 1"):
        view.step = 5


def test_one_source_is_needed():
    for arguments in ({}, {"source": mixed(), "history": replay(mixed())}):
        with pytest.raises(TypeError, match="a Snapshot, a Kernel, or history=.*: give one"):
            PageMap(**arguments)


def test_a_name_that_fits_two_zones_is_refused():
    one = mixed()
    zone = one.zones[0]
    object.__setattr__(one, "zones", (zone, type(zone)(**{**zone.__dict__, "nid": 1})))
    with pytest.raises(ValueError, match="zone='Normal' names several zones"):
        PageMap(one, zone="Normal")
    assert repr(PageMap(one, zone=(1, "Normal"))) == "PageMap(1:Normal, 256 pages, 190 free)"


def test_too_much_memory_for_one_map_is_refused(monkeypatch):
    monkeypatch.setattr("kmemkit.views.page_map._LARGEST", 255)
    with pytest.raises(ValueError, match="draws up to 255 pages and here are 256: give zone="):
        PageMap(mixed())
