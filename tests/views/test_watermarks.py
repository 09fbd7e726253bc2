"""Watermarks without a browser: the lines are the kernel's marks, the text says the same."""

import subprocess
import sys
from dataclasses import replace

import pytest

from kmemkit import Kernel
from kmemkit.snapshot import Event, Step
from kmemkit.views import Stepper, Watermarks, _watermark_chart, watermarks
from kmemkit.views._watermark_chart import lanes, series, spread, top_of
from kmemkit.views._watermark_points import turning
from tests.views.factory import world

pytestmark = pytest.mark.usefixtures("sends_at_once")

FILL = "GFP_HIGHUSER_MOVABLE & ~__GFP_RECLAIM | __GFP_NOWARN"
TWIN = """\
Watermarks: zone Normal, alloc_pages(GFP_ATOMIC, 0)
step   ms  free  its min  min  low  high  reserve  boost  kswapd  stalls  where                  call
   0  0.0    40        6   16   20    24        0      0       -       -  above high             start
   2  0.0    22        6   16   20    24        0      0    runs       -  above low              alloc_pages(GFP_KERNEL, 0) -> pfn 0x2
   3  0.0    12        6  528  532   536        0    512    runs       2  above its own min      alloc_pages(GFP_KERNEL, 0) -> pfn 0x3
   4  1.5     6        6  528  532   536        0    512    runs       -  refused at every mark  alloc_pages(GFP_ATOMIC, 0) -> NULL
Rows where something changes: 4 of 5 steps.
step 4 of 4 · at 1.5 ms · alloc_pages(GFP_ATOMIC, 0) -> NULL · 6 pages free, refused at every mark · 6 <= 6 = 6 (its min) + 0 (reserve) · boost 512 is in the marks · kswapd runs and freed 9 · failed"""


def moment(free, boost=0, **fields):
    """A machine of one zone, so many pages free, with marks at 16, 20 and 24."""
    snapshot = world(256, **fields)
    zone = replace(
        snapshot.zones[0], free_est=free, min=16, low=20, high=24, boost=boost,
        lowmem_reserve=(0, 0, 0, 7, 7),
    )  # fmt: skip
    return replace(snapshot, zones=(zone,))


def event(name, **fields):
    return Event(1, name, tuple(fields.items()))


def past():
    """A history in which kswapd is woken, requests stall, and one fails."""
    call = "alloc_pages(GFP_KERNEL, 0)"
    wake = event("mm_vmscan_wakeup_kswapd", nid=0, order=0, gfp_flags="GFP_KERNEL")
    runs = event("mm_vmscan_kswapd_wake", nid=0, order=0)
    stall = event("mm_vmscan_direct_reclaim_begin", order=0, gfp_flags="GFP_KERNEL")
    return [
        Step("start", "", True, (), None, moment(40)),
        Step(call, "pfn 0x1", True, (), None, moment(39)),
        Step(call, "pfn 0x2", True, (wake, runs), None, moment(22)),
        Step(call, "pfn 0x3", True, (runs, stall, stall), None, moment(12, 512)),
        Step("alloc_pages(GFP_ATOMIC, 0)", "NULL", False, (), None,
             moment(6, 512, now=1_500_000, vmstat={"pgsteal_kswapd": 9})),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pressed():
    """A machine whose DMA32 zone was filled across its marks, step by step."""
    kernel = Kernel(ram="128M")
    zone = kernel.snapshot().zones[1]
    while kernel.snapshot().zones[1].free_est > zone.high + 60:
        kernel.alloc_pages(FILL, 0)
    kernel.record()
    for _ in range(150):
        kernel.alloc_pages(FILL, 0)
    return kernel


def test_text_twin():
    view = Watermarks(past(), gfp="GFP_ATOMIC")
    assert view.text() == TWIN
    assert repr(view) == "Watermarks(Normal, 6 pages free, refused at every mark)"
    data, _ = view._repr_mimebundle_()
    assert data["text/plain"] == TWIN


def test_free_pages_and_marks_are_those_of_each_step(pressed):
    view = Watermarks(pressed, zone=1)
    for point, step in zip(view.points(), pressed.history, strict=True):
        zone = step.snapshot.zones[1]
        assert point.free == zone.free_est
        assert point.marks[:3] == (zone.min, zone.low, zone.high)
        assert point.marks.reserve == zone.lowmem_reserve[2]


@pytest.mark.parametrize(
    "gfp", ["GFP_NOWAIT", "GFP_ATOMIC", "GFP_NOWAIT|GFP_DMA32", "GFP_NOWAIT|__GFP_MEMALLOC"]
)
def test_a_request_succeeds_down_to_its_own_line_and_no_further(pressed, gfp):
    """The lines against the kernel: clones of each step make the request."""
    mask = f"{gfp}|__GFP_THISNODE|__GFP_NOWARN"
    view = Watermarks(pressed, gfp=mask, zone=1)
    for point, step in list(zip(view.points(), pressed.history, strict=True))[::10]:
        machine = Kernel.from_snapshot(step.snapshot)
        machine.record()
        machine.alloc_pages(mask, 0)
        looks = [dict(r.values) | {"key": r.key} for r in machine.why().reasons
                 if r.key.startswith("watermark_")]  # fmt: skip
        mine = [look for look in looks if look["zone"] == "DMA32"]
        passed = [look["name"] for look in mine if look["key"] == "watermark_ok"]
        for look in mine:
            own = look["name"] == "min" and point.marks.reduced and not point.marks.unlimited
            line = point.marks.line("own" if own else look["name"])
            assert (point.free > line) == (look["key"] == "watermark_ok"), look
        if passed and point.band != "high":
            assert passed == [point.band.replace("own", "min")]


def test_the_mask_decides_reserve_and_own_mark():
    steps = past()
    by_mask = {
        "GFP_KERNEL": (528, 0, 16),
        "GFP_KERNEL|__GFP_HIGH": (8, 0, 8),
        "GFP_ATOMIC": (6, 0, 6),
        "GFP_HIGHUSER_MOVABLE": (528, 7, 16),
    }
    for gfp, (boosted, reserve, plain) in by_mask.items():
        found = Watermarks(steps, gfp=gfp).points()
        assert (found[-1].marks.own, found[-1].marks.reserve) == (boosted, reserve)
        assert found[0].marks.own == plain


def test_kswapd_stalls_and_failures_come_from_events_and_counters():
    found = Watermarks(past()).points()
    assert [p.kswapd for p in found] == [False, False, True, True, True]
    assert [p.woken for p in found] == [False, False, True, False, False]
    assert [p.stalls for p in found] == [0, 0, 0, 2, 0]
    assert [p.freed for p in found] == [0, 0, 0, 0, 9]
    assert [p.failed for p in found] == [False] * 4 + [True]
    counted = [Step("x", "", True, (), None, moment(9, vmstat={"allocstall_normal": n}))
               for n in (0, 2, 3)]  # fmt: skip
    assert [p.stalls for p in Watermarks(counted).points()] == [0, 2, 1]


def test_a_real_run_wakes_kswapd_and_shows_it():
    kernel = Kernel(ram="128M")
    kernel.read_file("60M")
    while kernel.snapshot().zones[1].free_est > 400:
        kernel.alloc_pages(FILL, 0)
    kernel.record()
    while not any(e.name == "mm_vmscan_kswapd_sleep" for e in kernel.events):
        kernel.alloc_pages("GFP_NOWAIT|__GFP_THISNODE", 3)
        kernel.sleep(1)
        assert len(kernel.history) < 500
    view = Watermarks(kernel)
    runs = [point.step for point in view.points() if point.kswapd]
    assert runs
    assert view._panel.state["kswapd"]
    assert view._panel.state["timed"]
    assert max(point.freed for point in view.points()) > 0


def test_lines_start_from_the_marks_with_boost_and_reserve():
    lines = series(Watermarks(past(), gfp="GFP_HIGHUSER_MOVABLE|__GFP_HIGH").points())
    assert lines["free"] == [40, 39, 22, 12, 6]
    assert lines["min"][:1] + lines["min"][-1:] == [16 + 7, 16 + 512 + 7]
    assert lines["own"] == [15] * 5
    assert lines["reserve"] == [7] * 5
    assert lines["boost"] == [7, 7, 7, 519, 519]
    bare = [Step("x", "", True, (), None, world(64))]
    assert series(Watermarks(bare).points()).keys() == {"free"}


def test_lanes_and_turning_points():
    found = Watermarks(past()).points()
    assert lanes(found, [0.0, 1.0, 2.0, 3.0, 4.0]) == {
        "kswapd": [2.0, 3.0, 4.0],
        "stall": [3.0],
        "failed": [4.0],
    }
    assert [point.step for point in turning(found)] == [0, 2, 3, 4]


def test_labels_are_spread_in_the_order_of_their_lines():
    moved = spread({"low": 20.0, "min": 16.0, "free": 100.0, "high": 24.0}, 10.0)
    assert moved == {"min": 16.0, "low": 26.0, "high": 36.0, "free": 100.0}


def test_the_axis_ends_near_the_marks_or_above_the_free_pages():
    found = Watermarks(past()[:2]).points()
    assert top_of(found, near=True) == pytest.approx(2.2 * 24)
    assert top_of(found, near=False) == pytest.approx(1.08 * 40)


def test_the_chart_draws_the_series(pressed):
    view = Watermarks(pressed, zone=1, gfp="GFP_ATOMIC")
    chart, found = view._chart, view.points()
    # After the last step a line goes on to the edge.
    assert list(chart._lines["free"].y) == [p.free for p in [*found, found[-1]]]
    assert list(chart._lines["own"].y) == [p.marks.line("own") for p in [*found, found[-1]]]
    assert not chart._lines["reserve"].visible
    assert any(label.startswith("its min ") for label in chart._labels.text)
    assert list(chart._lines["free"].x[:-1]) == [point.step for point in found]
    assert chart._lines["free"].x[-1] == chart._x.max > found[-1].step
    view.gfp = "GFP_KERNEL"
    assert not chart._lines["own"].visible


def test_time_axis():
    view = Watermarks(past(), by_time=True)
    assert list(view._chart._lines["free"].x[:-1]) == [0, 0, 0, 0, 1.5]
    view._on_msg(None, {"do": "by_time"}, [])
    assert list(view._chart._lines["free"].x[:-1]) == [0, 1, 2, 3, 4]
    assert view._panel.state["span"] == (view._chart._x.min, view._chart._x.max)


def test_near_the_marks_where_free_pages_come_near_them():
    far = [Step("x", "", True, (), None, moment(n)) for n in (900, 800)]
    assert not Watermarks(far).near
    assert Watermarks([*far, *past()[:3]]).near
    view = Watermarks(far, near=True)
    assert view._chart._y.max == pytest.approx(2.2 * 24)
    view._on_msg(None, {"do": "near"}, [])
    assert view._chart._y.max == pytest.approx(1.08 * 900)


def test_reading_a_point():
    view = Watermarks(past())
    assert view.text().splitlines()[-1].startswith("step 4 of 4 · at 1.5 ms")
    view._on_msg(None, {"do": "at", "to": 2}, [])
    assert view._panel.state["line"] == (
        "step 2 of 4 · at 0.0 ms · alloc_pages(GFP_KERNEL, 0) -> pfn 0x2 · 22 pages free, above low"
        " · 22 <= 24 = 24 (high) + 0 (reserve) · 22 > 20 = 20 (low) + 0 (reserve) · woke kswapd"
        " · kswapd runs"
    )
    view.at = 99
    assert view._panel.state["at"] == 4


def test_follows_the_kernel_and_stays_when_told():
    kernel = Kernel(ram="1M")
    kernel.record()
    view = Watermarks(kernel)
    kernel.alloc_pages("GFP_KERNEL", 0)
    assert view._panel.state["xs"] == [0, 1]
    view.unfollow()
    kernel.alloc_pages("GFP_KERNEL", 0)
    assert len(view.points()) == 2
    assert kernel.listeners == ()


def test_a_stepper_moves_the_point_that_is_read(pressed):
    view = Watermarks(pressed.history, zone=1)
    stepper = Stepper(pressed.history, views=[view], whole=True)
    assert view.at == 0
    stepper.move("seek", 7)
    assert view.at == 7
    assert len(view.points()) == len(pressed.history)


def test_without_a_history_the_present_stands_alone():
    view = Watermarks(Kernel(ram="64M"), zone=0)
    assert len(view.points()) == 1
    assert "nothing is recorded" in view.text()
    assert len(Watermarks(Kernel(ram="64M").snapshot()).points()) == 1


def test_the_zone_is_the_first_that_the_request_tries():
    kernel = Kernel(ram="64M")
    view = Watermarks(kernel)
    assert view.shown_zone.name == "DMA32"
    view._on_msg(None, {"do": "gfp", "to": "GFP_DMA|GFP_KERNEL"}, [])
    assert view.shown_zone.name == "DMA"
    view._on_msg(None, {"do": "zone", "to": "1"}, [])
    assert view.shown_zone.name == "DMA32"


def test_a_long_table_is_cut_and_says_so():
    steps = [Step("x", "", True, (), None, moment(40 if n % 2 else 10)) for n in range(60)]
    lines = Watermarks(steps).text().splitlines()
    assert len(lines) == 1 + 1 + 40 + 3
    assert lines[-3] == "and 20 more rows"


def test_bad_input_is_refused_with_what_is_accepted(pressed):
    with pytest.raises(TypeError, match="Watermarks does not know 'mask'; it accepts: source, gfp"):
        Watermarks(pressed, mask=1)
    for source in (42, [], [42], "abc"):
        with pytest.raises(TypeError, match="list of steps such as kernel.history"):
            Watermarks(source)
    with pytest.raises(ValueError, match="there is no zone 9; there are: 0 = DMA, 1 = DMA32"):
        Watermarks(pressed, zone=9)
    with pytest.raises(ValueError, match="GFP_KERNAL"):
        Watermarks(pressed, gfp="GFP_KERNAL")


def test_bqplot_loads_only_when_a_chart_is_made():
    code = "import sys, kmemkit.views.watermarks; print({'bqplot', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_without_bqplot_the_table_stands_alone(monkeypatch):
    monkeypatch.setattr(watermarks, "find_spec", lambda name: None)
    view = Watermarks(past(), gfp="GFP_ATOMIC")
    assert view.children == (view._panel,)
    assert not view._panel.state["chart"]
    assert view.text() == TWIN


def test_the_margins_leave_room_for_labels():
    assert _watermark_chart.MARGIN["right"] > 13 * len("reserve")
