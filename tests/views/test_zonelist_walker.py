"""ZonelistWalker without a browser: its walk is the kernel's own, its gauges tell the truth."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemkit import Kernel
from kmemkit.snapshot import Reason, TaskSnapshot, Why
from kmemkit.strings import text
from kmemkit.views import Stepper, ZonelistWalker
from kmemkit.views._zone_marks import BANDS, Marks, marks_of
from kmemkit.views._zonelist_rows import gauge, row, sizes
from kmemkit.views.zonelist_plan import STATES, Entry
from kmemkit.views.zonelist_quiz import NOBODY, UNKNOWN
from tests.views.factory import world

pytestmark = pytest.mark.usefixtures("sends_at_once")

LOOKS = ("watermark_ok", "watermark_low", "no_block")
QUIET = "GFP_HIGHUSER_MOVABLE & ~__GFP_RECLAIM | __GFP_NOWARN"


def look(zone, free, name, mark, reserve, ok=False):
    """One look at a mark, as the simulator notes it."""
    values = {"zone": zone, "order": 0, "free": free, "less": 0, "left": free, "name": name,
              "mark": mark, "reserve": reserve, "sum": mark + reserve}  # fmt: skip
    return Reason("watermark_ok" if ok else "watermark_low", tuple(values.items()))


def two_zones(**fields):
    """A machine of two zones, DMA below Normal, with marks and a reserve."""
    snapshot = world(256, **fields)
    normal = replace(
        snapshot.zones[0], start_pfn=64, spanned=192, present=190, managed=180,
        free_est=20, min=16, low=20, high=24, lowmem_reserve=(0, 0, 0, 0, 0),
    )  # fmt: skip
    dma = replace(
        normal, idx=0, name="DMA", start_pfn=0, spanned=64, present=64, managed=60,
        free_est=30, min=4, low=5, high=6, lowmem_reserve=(0, 10, 18, 18, 18),
    )  # fmt: skip
    return replace(snapshot, zones=(dma, normal))


WHY = Why(
    "alloc_pages(GFP_KERNEL, 0)",
    "pfn 0x8",
    (
        look("Normal", 20, "high", 24, 0),
        look("Normal", 20, "low", 20, 0),
        look("DMA", 30, "high", 6, 18, ok=True),
        Reason("list_taken", (("order", 0), ("type", 0), ("pfn", 8))),
    ),
    ((0, "low", 0, "page"),),
)
TWIN = """\
alloc_pages(GFP_KERNEL, 0) from node 0: zones up to Normal
           spanned  present  managed  free  min  low  high  reserve  state
1. Normal      192      190      180    20   16   20    24        0  not enough 20 ≤ 20
2. DMA          64       64       60    30    4    5     6       18  serves 30 > 24
free lists at the low mark:
  1. zone Normal: 20 free - 0 = 20 <= 24 = 24 (high mark) + 0 (reserve): not enough
  2. zone Normal: 20 free - 0 = 20 <= 20 = 20 (low mark) + 0 (reserve): not enough
  3. zone DMA: 30 free - 0 = 30 > 24 = 6 (high mark) + 18 (reserve): the zone may serve the request
  4. DMA serves the request: pfn 0x8"""


@pytest.fixture(scope="module")
def pressed():
    """Two nodes; node 1 is filled to its min mark by requests that do not reclaim."""
    kernel = Kernel(ram="256M", nodes=2)
    while kernel.alloc_pages(f"{QUIET} | __GFP_THISNODE", 0, nid=1) is not None:
        pass
    return kernel


def test_text_twin_of_a_given_explanation():
    view = ZonelistWalker(two_zones(), why=WHY)
    assert view.text() == TWIN
    assert view.gfp, view.order == ("GFP_KERNEL", 0)
    assert repr(view) == "ZonelistWalker(alloc_pages(GFP_KERNEL, 0), decision 4 of 4)"
    data, _ = view._repr_mimebundle_()
    assert data["text/plain"] == TWIN


@pytest.mark.parametrize("order", [0, 3])
@pytest.mark.parametrize("nid", [0, 1])
@pytest.mark.parametrize(
    "gfp",
    [
        "GFP_KERNEL",
        "GFP_ATOMIC",
        "GFP_NOWAIT|__GFP_THISNODE",
        "GFP_HIGHUSER_MOVABLE",
        "GFP_DMA|GFP_KERNEL",
        "GFP_KERNEL|__GFP_MEMALLOC|__GFP_THISNODE",
    ],
)
def test_the_walk_is_the_kernels_own(pressed, gfp, nid, order):
    view = ZonelistWalker(pressed, gfp=gfp, order=order, nid=nid)
    machine = pressed.clone()
    machine.record()
    pfn = machine.alloc_pages(gfp, order, nid=nid)
    plan = view.plan
    if pfn is None:
        assert plan.served is None
        assert plan.states(len(plan.moves)).count("served") == 0
    else:
        zone = plan.entries[plan.served].zone
        assert zone.start_pfn <= pfn < zone.end_pfn
        assert plan.states(len(plan.moves))[plan.served] == "served"
        assert plan.moves[-1].says.endswith(f"pfn {pfn:#x}")
    looks = [str(reason) for reason in machine.why().reasons if reason.key in LOOKS]
    assert [m.says.removeprefix(f"node {plan.entries[m.entry].zone.nid}, ") for m in plan.moves
            if m.check] == looks  # fmt: skip
    # Every look is told of the zone whose free pages it counted.
    first = plan.titles[0]
    for move in plan.moves:
        if move.check and plan.titles[move.part] == first:
            assert move.check.free == plan.entries[move.entry].zone.free_est


def test_entries_are_the_kernels_zonelist(pressed):
    view = ZonelistWalker(pressed, nid=1)
    listed = [(entry.zone.nid, entry.zone.name) for entry in view.plan.entries]
    assert listed == [(zone.nid, zone.name) for zone in pressed.zonelist(1, False)]
    assert listed[0] == (1, "DMA32")
    machine = pressed.clone()
    machine.record()
    machine.alloc_pages("GFP_KERNEL", nid=1)
    given = ZonelistWalker(pressed.snapshot(), why=machine.why(), nid=1)
    assert given.text() == view.text()
    assert [(e.zone.nid, e.zone.name) for e in given.plan.entries] == listed


def test_what_the_request_passes_by(pressed):
    view = ZonelistWalker(pressed, gfp="GFP_DMA|GFP_KERNEL|__GFP_THISNODE", nid=0)
    assert [entry.skip for entry in view.plan.entries] == ["above", "", "node"]
    assert view.plan.states(1) == ["skipped", "waiting", "waiting"]
    assert view.plan.moves[0].says == (
        "node 0 DMA32 is passed by: its zone is higher than any this mask may use"
    )
    task = TaskSnapshot(7, "sh", mems_allowed=(1,))
    fenced = two_zones(tasks=(task,), settings={"current": 7})
    view = ZonelistWalker(fenced, why=WHY)
    assert [entry.skip for entry in view.plan.entries] == ["cpuset", "cpuset"]
    assert view.plan.served == 1  # its own walk decides, should it get there all the same


def test_the_followed_kernel_is_left_alone(pressed):
    before = pressed.snapshot()
    ZonelistWalker(pressed, gfp="GFP_ATOMIC", nid=1).text()
    assert pressed.snapshot() == before


def test_reserves_lift_the_marks():
    kernel = Kernel(ram="64M")
    while kernel.alloc_pages(QUIET, 0) is not None:
        pass
    view = ZonelistWalker(kernel, gfp="GFP_NOWAIT|__GFP_MEMALLOC")
    assert view.plan.entries[0].marks.unlimited
    assert text("zonelist.no_watermarks") in view.text()
    assert view.plan.served == 0


def test_nothing_is_told_before_a_prediction(pressed):
    view = ZonelistWalker(pressed, gfp="GFP_NOWAIT", nid=1, predict=True)
    assert view.asking
    assert view.state["lines"] == []
    assert {row["state"] for row in view.state["rows"]} == {"waiting"}
    assert not any(row["brief"] for row in view.state["rows"])
    view.move("end")
    assert view.step == 0
    assert "which zone serves alloc_pages(GFP_NOWAIT, 0) from node 1?" in view.text()
    view._on_msg(None, {"do": "answer", "to": "1"}, [])
    assert not view.asking
    assert view.verdict is None
    assert "You said: node 0 DMA32." in view.text()
    while view.step < len(view.plan.moves):
        assert view.verdict is None
        view.move("forward")
    assert view.verdict.right
    assert view.counts == {"right": 1, "wrong": 0, "unknown": 0}
    view.move("ask")
    assert view.asking
    assert view.step == 0


@pytest.mark.parametrize(
    ("gfp", "nid", "said", "idea"),
    [
        ("GFP_NOWAIT", 1, "0", "all_mine"),
        ("GFP_NOWAIT", 1, "2", "lowest"),
        ("GFP_NOWAIT", 1, NOBODY, "gives_up"),
        ("GFP_NOWAIT", 0, "2", "node_last"),
        ("GFP_NOWAIT|GFP_DMA", 0, "0", "above"),
        ("GFP_NOWAIT|__GFP_THISNODE", 1, "1", "other_node"),
        ("GFP_NOWAIT|__GFP_THISNODE", 1, "0", "free_is_enough"),
        ("GFP_ATOMIC|__GFP_THISNODE", 1, NOBODY, "min_is_the_end"),
    ],
)
def test_a_wrong_prediction_names_its_idea(pressed, gfp, nid, said, idea):
    view = ZonelistWalker(pressed, gfp=gfp, nid=nid, predict=True)
    view.answer(said)
    view.move("end")
    verdict = view.verdict
    assert verdict.right is False
    assert verdict.idea == idea, verdict
    assert verdict.idea_name in view.text()
    assert "{" not in str(verdict)


def test_the_reserve_is_named_where_it_decides():
    low = replace(two_zones().zones[0], free_est=20)
    snapshot = replace(two_zones(), zones=(low, two_zones().zones[1]))
    refused = (*WHY.reasons[:2], look("DMA", 20, "low", 5, 18))
    why = Why(WHY.call, "NULL", refused, ((0, "low", 0, "no"),))
    view = ZonelistWalker(snapshot, why=why, predict=True)
    view.answer("1")
    view.move("end")
    assert view.verdict.idea == "no_reserve"
    assert "but it keeps 18 pages" in view.verdict.idea_text


def test_right_and_unknown_answers(pressed):
    view = ZonelistWalker(pressed, gfp="GFP_NOWAIT", nid=1, predict=True)
    view.answer(UNKNOWN)
    view.move("end")
    assert view.verdict.right is None
    assert view.counts["unknown"] == 1
    with pytest.raises(ValueError, match="'7' is none of the answers; there are: 0, 1, 2, nobody"):
        view.answer("7")


@given(
    *[st.integers(0, 3000)] * 4, st.sampled_from(["GFP_KERNEL", "GFP_ATOMIC"]), st.integers(0, 9000)
)
def test_gauges_keep_the_order_of_pages_and_marks(least, gap, reserve, boost, gfp, free):
    zone = replace(
        two_zones().zones[0], free_est=free, min=least, low=least + gap, high=least + 2 * gap,
        boost=boost, lowmem_reserve=(0, reserve, reserve, reserve, reserve),
    )  # fmt: skip
    marks = marks_of(zone, 0xCC0 if gfp == "GFP_KERNEL" else 0x820, 0)
    shown = gauge(Entry(zone, marks, "", "DMA"), None)
    assert 0 <= shown.at <= 100
    for tick in shown.ticks:
        assert (shown.at > tick.at) == (free > tick.pages), (shown.at, tick)
    assert [tick.at for tick in shown.ticks] == sorted({tick.at for tick in shown.ticks})
    assert ("own" in [name for tick in shown.ticks for name in tick.names]) == marks.reduced


def test_marks_are_those_of_the_fact_sheet():
    zone = replace(two_zones().zones[0], min=1001, low=1250, high=1500, lowmem_reserve=(0,) * 5)
    shares = {"GFP_KERNEL": 1001, "GFP_KERNEL|__GFP_HIGH": 501, "GFP_ATOMIC": 376}
    for gfp, own in shares.items():
        marks = marks_of(zone, int(Kernel._context(Kernel(ram="1M"), gfp, None).gfp), 0)
        assert marks.own == own
        assert marks.band(own + 1) != "none"
        assert marks.band(own) == "none"
    assert set(BANDS) == {"high", "low", "min", "own", "none"}
    assert Marks(10, 12, 14, 10, 0, 5, 7, 7, False).line("low") == 24


def test_a_single_page_from_the_reserves_ignores_the_boost():
    zone = replace(two_zones().zones[0], boost=512)
    assert marks_of(zone, 0x820, 0).own == 4 - 2
    assert marks_of(zone, 0x820, 1).own == 516 - 258 - 64
    assert marks_of(zone, 0xCC0, 0).own == 516


def test_bars_add_up_to_what_the_zones_span(pressed):
    view = ZonelistWalker(pressed)
    for place, entry in enumerate(view.plan.entries):
        assert sum(sizes(entry.zone).values()) == entry.zone.spanned
        shown = row(view.plan, place, "waiting", None, False)
        assert sum(share for _, share in shown["parts"]) == pytest.approx(100)
    assert max(row["width"] for row in view.state["rows"]) == 100


def test_every_state_has_its_word():
    assert {text(f"zonelist.state.{state}") for state in STATES}


def test_moves_and_messages(pressed):
    view = ZonelistWalker(pressed, gfp="GFP_NOWAIT", nid=1)
    last = len(view.plan.moves)
    assert view.step == last
    view._on_msg(None, {"do": "back"}, [])
    assert (view.step, view.state["step"]) == (last - 1, last - 1)
    view._on_msg(None, {"do": "seek", "to": 1}, [])
    assert view.state["lines"] == [view.plan.moves[0].says]
    view._on_msg(None, {"do": "start"}, [])
    assert view.state["rows"][0]["state"] == "waiting"
    view._on_msg(None, {"do": "gfp", "to": "GFP_DMA|GFP_KERNEL"}, [])
    assert view.request.highest_name == "DMA"
    view._on_msg(None, {"do": "nid", "to": "0"}, [])
    view._on_msg(None, {"do": "order", "to": "2"}, [])
    assert view.request.call == "alloc_pages(GFP_KERNEL|GFP_DMA, 2)"
    assert view.step == len(view.plan.moves)
    with pytest.raises(ValueError, match="there is no move 'jump'; there are: forward, back"):
        view.move("jump")


def test_follows_the_kernel_and_stays_when_told():
    kernel = Kernel(ram="1M")
    view = ZonelistWalker(kernel)
    assert "256 free" in view.text()
    kernel.alloc_pages("GFP_KERNEL", 0)
    assert "255 free" in view.text()
    view.unfollow()
    kernel.alloc_pages("GFP_KERNEL", 0)
    assert "255 free" in view.text()
    assert kernel.listeners == ()


def test_a_stepper_drives_it_through_the_past():
    kernel = Kernel(ram="1M")
    kernel.record()
    for _ in range(3):
        kernel.alloc_pages("GFP_KERNEL", 0)
    view = ZonelistWalker(kernel)
    stepper = Stepper(kernel.history, views=[view], whole=True)
    assert "256 free" in view.text()
    stepper.move("end")
    assert "253 free" in view.text()


def test_a_request_that_stops_the_machine_is_told_to_its_end():
    class Broken:
        """A kernel whose request does not come back."""

        def add_listener(self, listener):
            pass

        def remove_listener(self, listener):
            pass

        def snapshot(self):
            return two_zones()

        def from_snapshot(self, snapshot):
            return self

        def numa_node_id(self):
            return 0

        def zonelist(self, nid, this_node):
            return two_zones().zones[::-1]

        def record(self, limit):
            pass

        def alloc_pages(self, gfp, order, nid):
            raise RuntimeError("Kernel panic - not syncing: System is deadlocked on memory")

        def why(self):
            return Why(WHY.call, "BUG", WHY.reasons[:2], ((0, "low", 0, "no"),))

    view = ZonelistWalker(Broken())
    assert view.text().endswith("no zone serves the request: BUG")


def test_bad_input_is_refused_with_what_is_accepted(pressed):
    with pytest.raises(
        TypeError, match="ZonelistWalker does not know 'node'; it accepts: source, gfp"
    ):
        ZonelistWalker(pressed, node=1)
    with pytest.raises(TypeError, match="follows a Kernel, or shows a Snapshot with why="):
        ZonelistWalker(pressed.snapshot())
    with pytest.raises(TypeError, match="this is a value of type int"):
        ZonelistWalker(42)
    with pytest.raises(ValueError, match="there is no node 5 here; there are: 0, 1"):
        ZonelistWalker(pressed, nid=5)
    with pytest.raises(ValueError, match="GFP_KERNAL"):
        ZonelistWalker(pressed, gfp="GFP_KERNAL")
    with pytest.raises(ValueError, match="looks at zone Normal, and this machine's zonelist has"):
        ZonelistWalker(pressed.snapshot(), why=WHY)
    with pytest.raises(ValueError, match="free_pages.* is no request for pages"):
        ZonelistWalker(pressed.snapshot(), why=Why("free_pages(0x1, 0)", "", ()))
