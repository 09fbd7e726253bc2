"""ReclaimLadder without a browser: roads as they were walked, predictions, the table, the moment."""

import asyncio
import re
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemkit import Kernel
from kmemkit.gfp import left_out
from kmemkit.strings import keys, text
from kmemkit.views import ReclaimLadder, Stepper
from kmemkit.views._ladder_model import SIGNS, Ladder, Request, Road
from kmemkit.views._ladder_quiz import UNKNOWN, answers, judge
from kmemkit.views._ladder_table import COLUMNS, MASKS
from kmemkit.why import RUNGS, Reason, Why, diff
from tests.views.elsewhere import elsewhere

pytestmark = pytest.mark.usefixtures("sends_at_once")

ATOMIC, KERNEL = "GFP_ATOMIC", "GFP_KERNEL"
RETRIES = "GFP_KERNEL|__GFP_RETRY_MAYFAIL"


def note(key, **values):
    return Reason(key, tuple(values.items()))


def look(free, mark, name="low", zone="DMA32"):
    """Return the look at a zone that passes exactly if `free` is above `mark`."""
    key = "watermark_ok" if free > mark else "watermark_low"
    return note(key, zone=zone, free=free, less=0, left=free, name=name, mark=mark, reserve=0,
                sum=mark)  # fmt: skip


def road(*rungs, call="alloc_pages(GFP_KERNEL, 0)", result="NULL"):
    """Return a Why of these rungs: (name, outcome, reason, ...), a number begins a round."""
    reasons, marks, turn = [], [], 0
    for rung in rungs:
        if isinstance(rung, int):
            turn = rung
            continue
        name, outcome, *said = rung
        marks.append((len(reasons), name, turn, outcome))
        reasons += said
    return Why(call, result, tuple(reasons), tuple(marks))


LOW = ("low", "no", look(431, 528), look(90, 528, zone="DMA"))
WOKEN = ("kswapd", "woken", note("kswapd_woken", nid=0))
MIN = ("min", "no", look(220, 423, "min"))
NULL = ("null", "no", note("null", order=0))
FREED = ("reclaim", "page", note("reclaimed", pages=32), look(451, 423, "min"))
STOP = ("reserves", "stop", look(220, 211, "min"), note("no_direct_reclaim"))
FAILED = road(LOW, WOKEN, ("min", "no", look(200, 211, "min")), 1, WOKEN, STOP, NULL,
              call="alloc_pages(GFP_ATOMIC, 0)")  # fmt: skip
SERVED = road(LOW, WOKEN, MIN, 1, WOKEN, ("reserves", "no", look(220, 423, "min")), FREED,
              result="pfn 0x2f31")  # fmt: skip
AGAIN = [("reclaim", "no", note("nothing_reclaimed")), ("retry", "again", look(700, 528, "min"))]
GAVE_UP = ("retry", "no", note("loops_over", loops=17, most=16))
ROUNDS = road(LOW, *(part for turn in range(1, 6) for part in (turn, *AGAIN)), 6, AGAIN[0],
              GAVE_UP, NULL, call=f"alloc_pages({RETRIES}, 0)")  # fmt: skip


# -- the text twin ---------------------------------------------------------------------------------


def test_one_road_as_text():
    assert (
        ReclaimLadder(FAILED, predict=False).text()
        == """\
The reclaim ladder
GFP_ATOMIC 0x820 · order 0 = 1 page = 4 kB
   1 free lists at the low mark
     ✗ no page: zone DMA32: 431 free - 0 = 431 <= 528 = 528 (low mark) + 0 (reserve): not enough
       zone DMA32: 431 free - 0 = 431 <= 528 = 528 (low mark) + 0 (reserve): not enough
       zone DMA: 90 free - 0 = 90 <= 528 = 528 (low mark) + 0 (reserve): not enough
   2 wake kswapd
     ● woken: {woken}
   3 free lists at the min mark
     ✗ no page: zone DMA32: 200 free - 0 = 200 <= 211 = 211 (min mark) + 0 (reserve): not enough
   2 wake kswapd, round 1
     ● woken: {woken}
   5 {reserves}, round 1
     ■ no more: {no_reclaim}
       zone DMA32: 220 free - 0 = 220 > 211 = 211 (min mark) + 0 (reserve): the zone may serve the request
       {no_reclaim}
  11 NULL
     ✗ no page: {null}
left out: compact before reclaim (without __GFP_DIRECT_RECLAIM); direct reclaim (without __GFP_DIRECT_RECLAIM); direct compaction (without __GFP_DIRECT_RECLAIM); try again? (without __GFP_DIRECT_RECLAIM); OOM killer (without __GFP_DIRECT_RECLAIM); __GFP_NOFAIL (not asked for)
ends: ✗ NULL""".format(
            woken=note("kswapd_woken", nid=0),
            reserves=text("road.rung.reserves"),
            no_reclaim=note("no_direct_reclaim"),
            null=note("null", order=0),
        )
    )


def test_two_roads_as_text_mark_where_they_part():
    told = ReclaimLadder(diff(FAILED, SERVED), predict=False).text()
    lines = told.splitlines()
    assert lines[1].startswith("a: GFP_ATOMIC 0x820") and lines[2].startswith("b: GFP_KERNEL 0xcc0")
    # What both say is said once; what differs only in numbers is no parting.
    assert "     a, b: ● woken" in told
    assert "     a: ✗ no page: zone DMA32: 200 free" in told
    assert [line for line in lines if line.startswith(">")] == [
        f">  5 {text('road.rung.reserves')}, round 1"
    ]
    assert lines[-3:] == [
        "a: ends: ✗ NULL",
        "b: ends: ✓ page: pfn 0x2f31",
        f"The roads part at rung 5, {text('road.rung.reserves')}, in round 1.",
    ]
    assert ReclaimLadder([FAILED, SERVED], predict=False).text() == told
    assert ReclaimLadder([SERVED, SERVED], predict=False).text().endswith("roads are the same.")


def test_rounds_that_go_alike_are_one_line():
    told = ReclaimLadder(ROUNDS, predict=False).text()
    titles = [line.strip() for line in told.splitlines()]
    assert [title for title in titles if re.match(r"6 direct reclaim, round|rounds", title)] == [
        "6 direct reclaim, round 1",
        "rounds 2 to 4 go the same way",
        "6 direct reclaim, round 5",
        "6 direct reclaim, round 6",
    ]


def test_flags_that_leave_a_rung_out_are_named_unless_the_road_stood_on_it():
    out = Road.read(FAILED).out
    assert out["reclaim"] == "without __GFP_DIRECT_RECLAIM"
    assert "kswapd" not in out and "reserves" not in out
    assert Road.read(ROUNDS).cell("oom").line == text("gfp_panel.left_out.mayfail")
    assert str(Road.read(FAILED).cell("oom")) == "– left out: without __GFP_DIRECT_RECLAIM"
    assert str(Road.read(SERVED).cell("oom")) == "· not reached"


@pytest.mark.parametrize(
    ("why", "end", "told"),
    [
        (SERVED, "reclaim", "✓ page: pfn 0x2f31"),
        (FAILED, "null", "✗ NULL"),
        (road(LOW, ("oom", "kill"), ("reclaim", "page"), result="pfn 0x1"), "kill",
         "† OOM kill, then pfn 0x1"),
        (road(LOW, ("oom", "kill"), NULL), "null", "✗ NULL"),
        (road(LOW, ("oom", "again"), result=text("road.livelock")), "forever", "∞ loops for ever"),
        (road(LOW, ("oom", "no"), result="BUG"), "bug", "! stopped: BUG"),
    ],
)  # fmt: skip
def test_ends(why, end, told):
    assert Road.read(why).end == end
    assert Road.read(why).ending == told
    assert Road.read(why).end_word[0] == told[0]
    assert end in answers()


def test_every_outcome_has_a_sign_of_its_own_and_a_word():
    outcomes = [key.rsplit(".", 1)[1] for key in keys() if key.startswith("road.outcome.")]
    assert len({SIGNS[outcome] for outcome in outcomes}) == len(outcomes)


# -- the prediction --------------------------------------------------------------------------------

IDEAS = {
    "atomic": (FAILED, "min"),
    "climbs_all": (FAILED, "reclaim"),
    "all_mine": (SERVED, "low"),
    "surely": (ROUNDS, "reclaim"),
    "climbs_on": (SERVED, "oom"),
    "ends_always": (road(LOW, ("oom", "again"), result=text("road.livelock")), "null"),
    "returns_null": (road(LOW, ("oom", "kill"), ("reclaim", "page"), result="pfn 0x1"), "null"),
    "low_is_empty": (road(LOW, ("min", "page", look(300, 211, "min")), result="pfn 0x1"), "null"),
    "gives_up": (SERVED, "null"),
    "kills_early": (SERVED, "kill"),
    "kills_always": (FAILED, "kill"),
    "never_fails": (ROUNDS, "forever"),
}


@pytest.mark.parametrize("idea", IDEAS)
def test_idea_behind_a_miss_is_named(idea):
    why, said = IDEAS[idea]
    verdict = judge(Road.read(why), said)
    assert (verdict.right, verdict.idea) == (False, idea)
    assert verdict.idea_name.startswith("“")
    assert "{" not in verdict.idea_text


def test_every_idea_of_the_string_table_is_tested():
    for section in ("ladder.idea.", "ladder.idea_name."):
        assert {key.removeprefix(section) for key in keys() if key.startswith(section)} == set(
            IDEAS
        )


@pytest.mark.parametrize("why", [FAILED, SERVED, ROUNDS, *(why for why, _ in IDEAS.values())])
def test_only_the_end_is_right(why):
    found = Road.read(why)
    for said in answers():
        verdict = judge(found, said)
        assert verdict.right is (None if said == UNKNOWN else said == found.end)
        assert answers()[found.end] in verdict.sentence
        assert bool(verdict.idea) <= (verdict.right is False)


def test_nothing_is_shown_before_the_prediction():
    view = ReclaimLadder(SERVED)
    assert view.asking
    assert (view.state["stops"], view.state["ends"], view.state["verdict"]) == ([], [], None)
    assert view.state["question"] == (
        "Before you look: GFP_KERNEL 0xcc0 · order 0 = 1 page = 4 kB. Where does it end?"
    )
    for hidden in ("0x2f31", "free -", "✓", "✗"):
        assert hidden not in view.text()
        assert hidden not in str(view.state)
    assert view.text().startswith(view.question)
    view.at = 3
    assert (view.at, view.told) == (0, 0)


def test_walk_follows_the_prediction_and_the_verdict_comes_at_its_end():
    view = ReclaimLadder(SERVED)
    view.act("commit", answer="")
    assert view.asking and view.state["message"] == text("ladder.choose_first")
    view.act("commit", answer="null")
    assert not view.asking
    assert (view.at, view.told, view.verdict) == (0, 1, None)
    assert view.text().splitlines()[-2:] == [
        "1 of 6 rungs told; the end comes with the last.",
        "predictions: 0 right, 1 wrong, 0 not known",
    ]
    view.at = 5
    assert view.told == 6
    assert view.verdict.idea == "gives_up"
    assert "You said: NULL." in view.text()
    view.at = 2
    assert view.told == 6
    view.act("commit", answer="reclaim")
    assert view.state["message"] == text("ladder.nothing_asked")
    assert view.counts == {"right": 0, "wrong": 1, "unknown": 0}


def test_of_two_roads_the_second_is_predicted():
    view = ReclaimLadder([FAILED, SERVED])
    assert view.question.startswith("The first request ends with ✗ NULL. From the same moment:")
    view.act("commit", answer="reclaim")
    assert view.counts["right"] == 1


@given(st.lists(st.tuples(st.sampled_from(["at", "told"]), st.integers(-3, 20))))
def test_the_place_stays_on_the_ladder(moves):
    view = ReclaimLadder(ROUNDS, predict=False)
    last, told = len(view.ladder.stops), view.told
    for trait, value in moves:
        setattr(view, trait, value)
        assert 0 <= view.at < view.told <= last
    assert told == last
    view.close()


def test_page_is_told_what_the_text_says():
    view = ReclaimLadder([FAILED, SERVED], predict=False)
    told = view.text()
    for stop in view.state["stops"]:
        assert stop["title"] in told
        for cell in filter(None, stop["cells"]):
            _, sign, word, line, lines = cell
            assert f"{sign} {word}: {line}" in told
            assert all(line in told for line in lines)
    for _, ending in view.state["ends"]:
        assert ending in told
    assert view.state["parts"] in told
    assert view.state["stops"][view.state["parting"]]["rung"] == "reserves"


def test_null_is_below_the_loop_in_whichever_round_it_came():
    stops = Ladder((Road.read(ROUNDS),)).stops
    assert (stops[-1].name, stops[-1].round) == ("null", 0)
    assert Ladder((Road.read(ROUNDS),)).rounds == 6


# -- a machine -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tight():
    """A machine with the page cache full, and less free than GFP_ATOMIC may take."""
    kernel = Kernel(ram="256M")
    kernel.fork("hog", anon="24M", oom_score_adj=500)
    kernel.read_file("200M")
    while kernel.alloc_pages("GFP_ATOMIC & ~__GFP_KSWAPD_RECLAIM", owner="driver") is not None:
        pass
    return kernel


def exhaust(kernel):
    """Take pages until twenty requests in a row fail: kswapd lowers a boosted mark again."""
    failed = 0
    while failed < 20:
        pfn = kernel.alloc_pages("GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN", owner="driver")
        failed = failed + 1 if pfn is None else 0
    return kernel


@pytest.fixture(scope="module")
def spent():
    """A machine without page cache: everything is taken, and nobody is there to be killed."""
    return exhaust(Kernel(ram="64M"))


def state_of(kernel):
    now = kernel.snapshot()
    return (now.pages, now.vmstat, now.now, now.settings["dmesg"], now.nodes)


def test_an_order_that_is_too_high_is_turned_away_at_the_door(spent):
    view = ReclaimLadder(spent, KERNEL, 11, predict=False)
    assert [stop.name for stop in view.ladder.stops] == ["entry"]
    assert view.text().splitlines()[-1] == "ends: ✗ NULL"
    copy = spent.clone()
    copy.record()
    copy.alloc_pages(KERNEL, 11)
    assert ReclaimLadder(copy.why(), predict=False).text() == view.text()


def test_a_scope_is_told_at_the_door_and_no_parting_by_itself(spent):
    def nofs(copy):
        copy.memalloc_nofs_save()

    view = ReclaimLadder(spent, "GFP_KERNEL|__GFP_NORETRY", against=nofs, predict=False)
    assert [rung and rung.outcome for rung in view.ladder.stops[0].rungs] == [None, "on"]
    assert view.ladder.parting is None
    assert ReclaimLadder(spent, KERNEL, against=nofs, predict=False).ladder.parting > 0


def test_the_kernel_that_is_given_never_changes(tight):
    before = state_of(tight)
    view = ReclaimLadder(tight, ATOMIC, against=KERNEL, table=True)
    for mask in MASKS[:4]:
        view.act("open", mask=mask, rung="low")
        view.act("commit", answer=UNKNOWN)
    view.act("reveal")
    view.text()
    assert state_of(tight) == before
    assert tight.history == ()
    view.close()
    assert tight.listeners == ()


def test_roads_part_where_only_one_may_reclaim(tight):
    view = ReclaimLadder(tight, ATOMIC, against=KERNEL, predict=False)
    first, second = view.ladder.roads
    assert (first.end, second.end) == ("null", "reclaim")
    stop = view.ladder.stops[view.ladder.parting]
    assert (stop.name, stop.round) == ("reserves", 1)
    assert text("why.no_direct_reclaim") in view.text()


def test_ends_of_a_spent_machine(spent):
    ends = {
        gfp: ReclaimLadder(spent, gfp, predict=False).ladder.roads[0].end
        for gfp in (KERNEL, "GFP_NOFS", RETRIES, "GFP_KERNEL|__GFP_NORETRY")
    }
    assert ends == {
        KERNEL: "bug", "GFP_NOFS": "forever", RETRIES: "null", "GFP_KERNEL|__GFP_NORETRY": "null",
    }  # fmt: skip


def test_an_oom_kill_is_an_end():
    kernel = Kernel(ram="64M")
    kernel.fork("hog", anon="4M", oom_score_adj=500)
    view = ReclaimLadder(exhaust(kernel), predict=False)
    assert view.ladder.roads[0].cell("oom").outcome == "kill"
    assert view.text().splitlines()[-1].startswith("ends: † OOM kill, then pfn 0x")


@pytest.mark.parametrize("order", [0, 3, 4])
def test_each_cell_of_the_table_is_what_the_request_does(tight, order):
    view = ReclaimLadder(tight, order=order, table=True, predict=False)
    table = view.state["table"]
    assert [row["mask"] for row in table["rows"]] == list(MASKS)
    for row in table["rows"]:
        clone = tight.clone()
        clone.record()
        pfn = clone.alloc_pages(row["mask"], order)
        rungs = clone.why().rungs
        for name, (outcome, sign, word, _) in zip(COLUMNS, row["cells"], strict=True):
            stood = [rung for rung in rungs if rung.name == name]
            if stood:
                assert outcome == stood[-1].outcome
                assert word == stood[-1].word + (f" ×{len(stood)}" if len(stood) > 1 else "")
            else:
                left = name in left_out(row["mask"], order) and name != "reserves"
                assert outcome == ("skip" if left else "ahead")
            assert sign == SIGNS[outcome]
        assert row["end"][0] == ("null" if pfn is None else rungs[-1].name)


def test_table_as_text_is_aligned_and_says_what_the_page_says(tight):
    view = ReclaimLadder(tight, order=3, table=True, predict=False)
    title, *lines = view.text().split("\nThe reclaim ladder")[0].rstrip().splitlines()
    assert title == "Masks against rungs, order 3 = 8 pages = 32 kB"
    table = view.state["table"]
    heads = ["mask", *(short for _, short, _ in table["columns"]), "end"]
    cells = [
        [row["mask"], *(f"{sign} {word}" for _, sign, word, _ in row["cells"]), row["end"][1]]
        for row in table["rows"]
    ]
    assert [re.split(r" {2,}", line) for line in lines] == [heads, *cells]
    starts = [[found.end() for found in re.finditer(" {2,}", line)] for line in lines]
    assert all(start == starts[0] for start in starts)


def test_rows_of_the_table_are_hidden_until_their_ends_are_predicted(tight):
    view = ReclaimLadder(tight, KERNEL, table=True)
    assert all(row["end"] is None for row in view.state["table"]["rows"])
    view.act("commit", answer="reclaim")
    assert all(row["end"] is None for row in view.state["table"]["rows"])
    view.at = len(view.ladder.stops) - 1
    shown = [row["mask"] for row in view.state["table"]["rows"] if row["end"]]
    assert shown == [KERNEL]
    view.act("open", mask=ATOMIC, rung="min")
    assert view.asking and view.request == Request(ATOMIC, 0)
    view.act("open", mask=KERNEL, rung="min")
    assert not view.asking
    assert view.ladder.stops[view.at].name == "min"
    view.act("reveal")
    assert not view.state["table"]["hidden"]
    assert view.counts == {"right": 1, "wrong": 0, "unknown": len(MASKS) - 1}
    view.act("order", to=4)
    assert view.state["table"]["hidden"]


def test_a_cell_opens_its_road_at_its_rung_or_at_the_last_above(tight):
    view = ReclaimLadder(tight, table=True, predict=False)
    for mask in MASKS:
        for rung in COLUMNS:
            view.act("open", mask=mask, rung=rung)
            stops = view.ladder.stops
            assert view.request.gfp == mask
            stood = [n for n, stop in enumerate(stops) if stop.name == rung]
            if stood:
                assert view.at == stood[-1]
            else:
                assert RUNGS.index(stops[view.at].name) < RUNGS.index(rung)


@pytest.mark.parametrize(
    ("against", "title"),
    [
        (KERNEL, "GFP_KERNEL 0xcc0"),
        (0x820, "GFP_ATOMIC 0x820"),
        ((ATOMIC, 3), "GFP_ATOMIC 0x820"),
        (lambda kernel: None, "GFP_NOWAIT 0x2800, one thing changed"),
    ],
)
def test_what_the_second_road_changes(tight, against, title):
    view = ReclaimLadder(tight, "GFP_NOWAIT", against=against, predict=False)
    assert view.ladder.roads[1].title == title
    assert view.ladder.roads[1].request.order == (3 if isinstance(against, tuple) else 0)
    view.act("against", to=-1)
    assert len(view.ladder.roads) == 1
    view.act("against", to=0)
    assert view.ladder.roads[1].title == title


def test_a_change_in_the_copy_is_made_before_the_request_and_its_scope_held(tight):
    seen = []

    @contextmanager
    def scope(copy):
        seen.append(("in", copy.history))
        yield
        seen.append(("out", [step.call for step in copy.history]))

    def more_free(copy):
        copy.alloc_pages("GFP_KERNEL")  # reclaims, and is no part of the road
        return scope(copy)

    view = ReclaimLadder(tight, KERNEL, against=more_free, predict=False)
    assert [road.end for road in view.ladder.roads] == ["reclaim", "low"]
    assert [name for name, _ in seen] == ["in", "out"]
    assert seen[1][1][-1] == "alloc_pages(GFP_KERNEL, 0)"


def test_a_new_moment_is_a_new_question_and_is_walked_only_when_somebody_looks():
    kernel = Kernel(ram="64M")
    view = ReclaimLadder(kernel)
    view.act("commit", answer="low")
    assert view.verdict.right
    walked = []
    kernel.add_listener(lambda: walked.append(len(view._roads)))
    for _ in range(50):
        kernel.alloc_pages(KERNEL, 3)
    assert set(walked) == {0}
    assert view.text().startswith("Before you look")
    assert view.counts["right"] == 1


def test_a_busy_cell_is_followed_when_it_is_over():
    kernel = Kernel(ram="64M")

    async def cell():
        view = ReclaimLadder(kernel, predict=False)
        fills, fill = [], view._fill
        view._fill = lambda: (fills.append(view.snapshot), fill())
        for _ in range(100):
            kernel.alloc_pages(KERNEL, 3)
        assert fills == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return view, fills

    view, fills = elsewhere(asyncio.run, cell())
    assert len(fills) == 1
    pfn = kernel.clone().alloc_pages(KERNEL)
    assert view.state["ends"] == [["low", f"✓ page: pfn {pfn:#x}"]]


def test_stepper_drives_it_through_the_history():
    kernel = Kernel(ram="64M")
    kernel.record()
    for _ in range(3):
        kernel.alloc_pages(KERNEL, 5)
    view = ReclaimLadder(kernel, KERNEL, 5, predict=False)
    stepper = Stepper(kernel, views=[view], whole=True)
    for move in ("start", "forward", "forward"):
        stepper.move(move)
        after = kernel.history[stepper.step + 1].result
        assert view.text().splitlines()[-1] == f"ends: ✓ page: {after}"


def test_a_small_world_says_what_is_scaled():
    view = ReclaimLadder(Kernel(ram="1M"), predict=False)
    assert view._scaled
    assert view.ladder.roads[0].end == "low"
    assert len(view.state["controls"]["orders"]) == view.snapshot.zones[0].max_order + 1


def test_bad_input_is_refused_with_what_is_accepted(spent):
    with pytest.raises(TypeError, match="ReclaimLadder does not know 'tabel'; it accepts: source"):
        ReclaimLadder(spent, tabel=True)
    for source in (42, [], [FAILED] * 3, [FAILED, 42], spent.snapshot()):
        with pytest.raises(TypeError, match="follows a Kernel, or shows one Why, two of them"):
            ReclaimLadder(source)
    with pytest.raises(TypeError, match="against=True: give a GFP mask, a pair"):
        ReclaimLadder(spent, against=True)
    for order in (-1, 64, True, "3"):
        with pytest.raises(ValueError, match="give a whole number, 0 or more"):
            ReclaimLadder(spent, order=order)
    with pytest.raises(ValueError, match="GFP_NONSENSE"):
        ReclaimLadder(spent, "GFP_NONSENSE")
    with pytest.raises(ValueError, match="free_pages\\(0x1, 0\\) stood on no rung of the ladder"):
        ReclaimLadder(Why("free_pages(0x1, 0)", "", ()))
    view = ReclaimLadder(spent)
    with pytest.raises(ValueError, match="there is no control 'panic'; there are: gfp, order"):
        view.act("panic")
    fixed = ReclaimLadder(FAILED)
    fixed.act("gfp", to=1)
    assert fixed.state["message"] == text("ladder.needs_kernel")
    with pytest.raises(ValueError, match="Give it a Kernel to make requests"):
        fixed.show(spent.snapshot())


def test_repr_and_static_output_are_stable_text():
    view = ReclaimLadder(diff(FAILED, SERVED))
    assert repr(view) == "ReclaimLadder(GFP_ATOMIC 0x820; GFP_KERNEL 0xcc0; not predicted yet)"
    view.act("commit", answer=UNKNOWN)
    assert repr(view) == "ReclaimLadder(GFP_ATOMIC 0x820; GFP_KERNEL 0xcc0; rung 1 of 7)"
    data, _ = view._repr_mimebundle_()
    assert data["text/plain"] == view.text()
