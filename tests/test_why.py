"""An explained request: its reasons by rungs, and two roads laid side by side."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemkit.strings import keys
from kmemkit.why import RUNGS, Pair, Reason, Rung, Why, diff

OUTCOMES = ("on", "page", "no", "skip", "woken", "progress", "kill", "again", "stop")
LOW = {"zone": "Normal", "free": 431, "less": 0, "left": 431, "name": "low", "mark": 528,
       "reserve": 0, "sum": 528}  # fmt: skip
LINES = [Reason("watermark_low", tuple({**LOW, "free": free}.items())) for free in (431, 7)]


def road(*rungs, call="alloc_pages(GFP_KERNEL, 0)", result="NULL"):
    """Return a Why that stood on these rungs: (name, outcome), (name, outcome, round) or a Rung."""
    reasons, marks = [], []
    for rung in rungs:
        if not isinstance(rung, Rung):
            name, outcome, turn = (*rung, 0)[:3]
            rung = Rung(name, turn, outcome, ())
        marks.append((len(reasons), rung.name, rung.round, rung.outcome))
        reasons += rung.reasons
    return Why(call, result, tuple(reasons), tuple(marks))


def place(rung):
    """Return (round, rung) as a pair has it: NULL comes after all rounds."""
    return (0 if rung.name == "null" else rung.round, rung.name)


@st.composite
def roads(draw, starts=2):
    """Draw a road as the slow path makes them: down the rungs, then round by round, maybe anew."""
    rungs = []
    for _ in range(draw(st.integers(1, starts))):
        rounds = draw(st.integers(1, 3))
        for turn in range(rounds):
            tried = draw(st.sets(st.sampled_from(RUNGS[:-1]), max_size=4))
            if turn == rounds - 1 and draw(st.booleans()):
                tried.add("null")
            for name in sorted(tried, key=RUNGS.index):
                lines = draw(st.lists(st.sampled_from(LINES), max_size=2))
                rungs.append(Rung(name, turn, draw(st.sampled_from(OUTCOMES)), tuple(lines)))
    return road(*rungs)


@given(roads())
def test_rungs_share_out_the_reasons_in_order(why):
    assert tuple(reason for rung in why.rungs for reason in rung.reasons) == why.reasons
    assert [(rung.name, rung.round, rung.outcome) for rung in why.rungs] == [
        mark[1:] for mark in why.marks
    ]
    for rung in why.rungs:
        assert (rung.decision in rung.reasons) if rung.reasons else rung.decided == ""
        assert str(rung).startswith(rung.word)
        assert rung.decided in str(rung)


@given(roads(), roads())
def test_alignment_loses_no_rung_and_keeps_both_orders(a, b):
    pairs = diff(a, b).pairs
    assert [pair.a for pair in pairs if pair.a] == list(a.rungs)
    assert [pair.b for pair in pairs if pair.b] == list(b.rungs)
    for pair in pairs:
        assert pair.a or pair.b
        for rung in (pair.a, pair.b):
            assert rung is None or place(rung) == (pair.round, pair.name)


@given(roads(starts=1), roads(starts=1))
def test_a_rung_both_stood_on_is_one_pair(a, b):
    pairs = [(pair.round, pair.name) for pair in diff(a, b).pairs]
    assert set(pairs) == set(map(place, (*a.rungs, *b.rungs)))
    assert len(pairs) == len(set(pairs))


def outcome_of(pair, rung):
    """Return the outcome of one road there; the request itself goes on where nothing is said."""
    return rung.outcome if rung else "on" if pair.name == "entry" else None


@given(roads(), roads())
def test_nothing_but_numbers_differs_before_the_parting(a, b):
    there, back = diff(a, b), diff(b, a)
    assert there.parting == back.parting
    assert [pair.same for pair in there.pairs] == [pair.same for pair in back.pairs]
    differ = [outcome_of(pair, pair.a) != outcome_of(pair, pair.b) for pair in there.pairs]
    if True not in differ:
        assert there.parting is None
    else:
        assert there.parting in (differ.index(True), differ.index(True) - 1)
        assert not any(differ[: there.parting])
        if not differ[there.parting]:
            rungs = there.pairs[there.parting][2:]
            assert len({rung.decision and rung.decision.key for rung in rungs}) == 2


@given(roads())
def test_a_road_does_not_part_from_itself_whatever_its_numbers(why):
    assert diff(why, why).parting is None
    assert all(pair.same for pair in diff(why, why).pairs)
    other = replace(why, reasons=tuple(Reason("list_busy", r.values) for r in why.reasons))
    assert diff(why, other).parting is None
    assert str(diff(why, why)).endswith("The roads are the same.")


def note(key, **values):
    return Reason(key, tuple(values.items()))


DMA32, DMA = note("watermark_low", **LOW | {"zone": "DMA32"}), note("watermark_low", **LOW)
PASSED = note("watermark_ok", **LOW | {"zone": "DMA32"})
NONE = note("zone_has_none", zone="DMA32", order=0)
TAKEN = [note("list_taken", type=0, order=0, pfn=8), note("split", pfn=8, upper=9, half=0)]
FREED = note("reclaimed", pages=32)
STOP = note("no_direct_reclaim")


@pytest.mark.parametrize(
    ("name", "outcome", "reasons", "decided"),
    [
        ("low", "page", [DMA32, PASSED, *TAKEN], PASSED),
        ("low", "page", [PASSED, NONE, note("watermark_ok", **LOW), *TAKEN], "Normal"),
        ("low", "page", TAKEN, TAKEN[-1]),
        ("low", "no", [note("watermark_ok", **LOW | {"zone": "DMA32"}), NONE, DMA], NONE),
        ("min", "no", [DMA32, DMA], DMA32),
        ("reserves", "stop", [DMA32, DMA, STOP], STOP),
        ("reclaim", "progress", [FREED, DMA32, DMA], FREED),
        ("reclaim", "page", [FREED, DMA32, PASSED, *TAKEN], PASSED),
        ("reclaim", "no", [DMA, note("nothing_reclaimed")], note("nothing_reclaimed")),
        ("compact", "no", [note("compacted", result="COMPLETE"), DMA32, DMA], DMA32),
        ("retry", "again", [DMA32, DMA], DMA),
        ("retry", "again", [DMA32, DMA, note("compact_again")], note("compact_again")),
        ("oom", "kill", [DMA32, DMA, note("oom_kill")], note("oom_kill")),
    ],
)
def test_the_reason_that_decides(name, outcome, reasons, decided):
    decision = Rung(name, 0, outcome, tuple(reasons)).decision
    assert decision.zone == decided if isinstance(decided, str) else decision == decided


def test_how_a_block_was_taken_has_no_say_and_nothing_is_said_twice():
    rung = Rung("low", 0, "page", (DMA32, DMA32, PASSED, *TAKEN))
    assert rung.weighed == (DMA32, PASSED)


def test_where_one_road_ends_the_rule_before_sent_it_apart():
    rungs = [("low", "no"), Rung("oom", 1, "no", (note("oom_panic"),)), ("null", "no", 1)]
    a = road(*rungs[:2], result="BUG")
    b = road(
        rungs[0], Rung("oom", 1, "no", (note("oom_not_for_mask", gfp="GFP_KERNEL"),)), rungs[2]
    )
    assert diff(a, b).parting == diff(b, a).parting == 1
    assert diff(a, road(*rungs)).parting == 2


def test_two_roads_as_text():
    low = Rung("low", 0, "no", (Reason("watermark_low", tuple(LOW.items())),))
    a = road(low, ("kswapd", "woken"), ("null", "stop"), call="alloc_pages(GFP_ATOMIC, 0)")
    b = road(low, ("kswapd", "woken"), ("reclaim", "progress", 1), ("reclaim", "page", 2),
             result="pfn 0x2f31")  # fmt: skip
    assert (
        str(diff(a, b))
        == """\
a: alloc_pages(GFP_ATOMIC, 0) -> NULL
b: alloc_pages(GFP_KERNEL, 0) -> pfn 0x2f31
  free lists at the low mark
    a, b: no page: zone Normal: 431 free - 0 = 431 <= 528 = 528 (low mark) + 0 (reserve): not enough
  wake kswapd
    a, b: woken
> direct reclaim (1)
    a: did not come here
    b: progress
  direct reclaim (2)
    a: did not come here
    b: page
  NULL
    a: no more
    b: did not come here
The roads part at the rung marked >."""
    )


def test_a_road_that_starts_again_keeps_both_looks_apart():
    again = road(("low", "no"), ("min", "no"), ("kswapd", "woken"), ("min", "page"))
    once = road(("low", "no"), ("min", "no"))
    assert diff(again, once).pairs == (
        Pair("low", 0, again.rungs[0], once.rungs[0]),
        Pair("min", 0, again.rungs[1], once.rungs[1]),
        Pair("kswapd", 0, again.rungs[2], None),
        Pair("min", 0, again.rungs[3], None),
    )


def test_every_rung_and_outcome_has_its_words():
    assert {key for key in keys() if key.startswith("road.rung.")} == {
        f"road.rung.{name}" for name in RUNGS
    }
    assert {key for key in keys() if key.startswith("road.outcome.")} == {
        f"road.outcome.{outcome}" for outcome in OUTCOMES
    }


def test_only_explained_requests_are_compared():
    with pytest.raises(TypeError, match="42 is no explained request; give what Kernel.why"):
        diff(road(), 42)
