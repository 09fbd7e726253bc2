"""FreeAreas without a browser: its numbers are the kernel's own, in bars, table and text."""

import subprocess
import sys

import pytest

from kmemkit import Kernel
from kmemkit.snapshot import MIGRATE_NAMES
from kmemkit.views import FreeAreas, _free_chart, free_areas
from kmemkit.views._free_chart import OrderCounts, Segment, segments, ticks
from kmemkit.views.free_areas import free_counts
from kmemkit.views.lab_model import workload

pytestmark = pytest.mark.usefixtures("sends_at_once")

SMALL = """\
Free areas: zone Normal (linear axis)
order     size    Unmovable      Movable  Reclaimable   HighAtomic      Isolate          all
    0     4 kB            1            0            0            0            0            1
    1     8 kB            1            0            0            0            0            1
    2    16 kB            1            0            0            0            0            1
    3    32 kB            1            1            0            0            0            2
    4    64 kB            1            1            0            0            0            2
    5   128 kB            1            1            0            0            0            2
    6   256 kB            0            2            0            0            0            2
free on these lists: 247 pages = 988 kB
pfn 0x4 is in a free block of order 2 = 4 pages = 16 kB, head 0x4: number 1 of 1 on the Unmovable list"""


@pytest.fixture
def small():
    kernel = Kernel(ram="1M")
    kernel.alloc_pages("GFP_KERNEL", 0)
    kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", 3)
    return kernel


def test_text_twin(small):
    view = FreeAreas(small)
    view.selected = 0x4
    assert view.text() == SMALL


@pytest.mark.parametrize("ram", ["256K", "4M", "64M", "512M"])
def test_counts_are_those_of_buddyinfo_and_pagetypeinfo(ram):
    kernel = Kernel(ram=ram)
    workload(kernel, seed=1)
    snapshot = kernel.snapshot()
    buddyinfo = [line.split()[4:] for line in snapshot.buddyinfo().splitlines()]
    typed = [line for line in snapshot.pagetypeinfo().splitlines() if ", type " in line]
    for zone, blocks in zip([z for z in snapshot.zones if z.present], buddyinfo, strict=True):
        rows = free_counts(zone)
        assert [str(row.total) for row in rows] == blocks
        for kind in range(len(MIGRATE_NAMES)):
            assert [str(row.counts[kind]) for row in rows] == typed.pop(0).split()[6:]


def test_order_line_says_order_size_and_types():
    row = OrderCounts(3, (5, 2, 0, 0, 0))
    assert str(row) == "order 3 = 8 pages = 32 kB: 5 Unmovable, 2 Movable blocks"
    assert str(OrderCounts(0, (0,) * 5)) == "order 0 = 1 page = 4 kB: no free blocks"


def test_segments_stack_up_to_the_total():
    counts = [OrderCounts(0, (5, 0, 2, 0, 0)), OrderCounts(1, (0, 1, 0, 0, 0))]
    assert segments(counts) == [Segment(0, 0, 0, 5), Segment(0, 2, 5, 7), Segment(1, 1, 0, 1)]
    low = _free_chart._LOG_FLOOR
    assert segments(counts, log=True) == [
        Segment(0, 0, low, 5),
        Segment(0, 2, 5, 7),
        Segment(1, 1, low, 1),
    ]


def test_ticks_are_round_and_reach_the_top():
    assert ticks(3, log=False) == [0, 1, 2, 3]
    assert ticks(18, log=False) == [0, 5, 10, 15]
    assert ticks(40, log=True) == [1, 2, 5, 10, 20]
    assert ticks(5000, log=True) == [1, 10, 100, 1000]


@pytest.mark.parametrize("log", [False, True])
def test_bars_have_the_heights_of_the_counts(small, log):
    view = FreeAreas(small, log=log)
    chart, base = view._chart, _free_chart._LOG_FLOOR if log else 0
    # What bqplot draws: every part it stacks is given with the base of the axis.
    for order, row in enumerate(view.counts()):
        drawn = sum(part[order] - base for part in chart._bars.y)
        assert drawn == pytest.approx(row.total - base if row.total else 0)
    assert list(chart._totals.text) == [str(row.total) for row in view.counts() if row.total]
    assert set(chart._letters.text) <= {"U", "M"}


def test_selected_block_is_outlined_in_its_segment(small):
    view = FreeAreas(small)
    outline = view._chart._outline
    assert not outline.visible
    view.selected = 0x48  # order 3, Movable: above the one Unmovable block of that order
    assert outline.visible
    assert (list(outline.x), outline.base, list(outline.y)) == ([3], 1.0, [2.0])
    assert view._panel.state["order"] == 3
    view.selected = 0x0
    assert not outline.visible
    assert view.text().endswith("pfn 0x0 is not on a free list")


def test_axis_button_switches_the_axis(small):
    view = FreeAreas(small)
    view._on_msg(None, {"do": "log"}, [])
    assert view.log
    assert "(log axis)" in view.text()
    assert view._panel.state["log"]
    view._on_msg(None, {"do": "log"}, [])
    assert "(linear axis)" in view.text()


def test_follows_the_kernel_and_shows_a_snapshot(small):
    live, frozen = FreeAreas(small), FreeAreas(small.snapshot())
    before = frozen.text()
    small.alloc_pages("GFP_KERNEL", 0)
    assert frozen.text() == before
    assert live.counts()[0].total == 0
    assert live._panel.state["orders"][0]["all"] == 0


def test_shows_the_last_zone_the_chosen_one_or_that_of_the_selection():
    kernel = Kernel(ram="64M")
    view = FreeAreas(kernel)
    assert view.shown_zone.name == "DMA32"
    view.selected = 0x200
    assert view.shown_zone.name == "DMA"
    view._on_msg(None, {"do": "zone", "zone": "1"}, [])
    assert (view.selected, view.shown_zone.name) == (None, "DMA32")
    assert FreeAreas(kernel, zone=0).shown_zone.name == "DMA"


def test_bad_input_is_refused_with_what_is_accepted(small):
    with pytest.raises(
        TypeError, match="FreeAreas does not know 'axis'; it accepts: source, log, zone"
    ):
        FreeAreas(small, axis="log")
    with pytest.raises(TypeError, match="shows a Snapshot or follows a Kernel"):
        FreeAreas(42)
    with pytest.raises(ValueError, match="there is no zone 9; there are: 0 = zone Normal"):
        FreeAreas(small, zone=9)


def test_repr_and_static_output_are_stable_text(small):
    view = FreeAreas(small)
    assert repr(view) == "FreeAreas(Normal, 247 pages free)"
    data, _ = view._repr_mimebundle_()
    assert data["text/plain"] == view.text()


def test_bqplot_loads_only_when_a_chart_is_made():
    code = "import sys, kmemkit.views.free_areas; print({'bqplot', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_without_bqplot_the_table_stands_alone(small, monkeypatch):
    monkeypatch.setattr(free_areas, "find_spec", lambda name: None)
    view = FreeAreas(small)
    assert view.children == (view._panel,)
    assert not view._panel.state["chart"]
    view.selected = 0x4
    assert view.text() == SMALL
