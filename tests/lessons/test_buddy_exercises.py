"""Lesson 05: orders, non-buddies and the ten calls, against an allocator written down here."""

import pytest

from kmemkit.lessons import buddy_trace, non_buddies, order_for_pages, worlds
from kmemkit.lessons._check import Outcome

TOP = 4  # the highest order of 64 pages


class Lists:
    """The rules of the lesson once more: free lists of one migratetype, head first."""

    def __init__(self, snapshot):
        zone = snapshot.zones[0]
        self.lists = [list(zone.free_list(order, 1)) for order in range(TOP + 1)]

    def alloc(self, order):
        high = next(o for o in range(order, TOP + 1) if self.lists[o])
        pfn = self.lists[high].pop(0)
        while high > order:
            high -= 1
            self.lists[high].insert(0, pfn + (1 << high))
        return pfn

    def free(self, pfn, order):
        while order < TOP and pfn ^ (1 << order) in self.lists[order]:
            self.lists[order].remove(pfn ^ (1 << order))
            pfn &= ~(1 << order)
            order += 1
        # Order 4 is the last, so the look ahead ends one below it.
        above = (pfn & ~(1 << order)) ^ (2 << order)
        likely = order < TOP - 1 and above in self.lists[order + 1]
        self.lists[order].insert(len(self.lists[order]) if likely else 0, pfn)
        return order


def solve(seed):
    """Return the ten right answers, by the rules above."""
    lists = Lists(buddy_trace.world(seed).snapshot())
    answers = []
    for call in buddy_trace._plan(seed)[1]:
        if call.frees:
            pfn = call.pfn if call.source is None else answers[call.source - 1]
            answers.append(lists.free(pfn, call.order))
        else:
            answers.append(lists.alloc(call.order))
    return answers


@pytest.mark.parametrize("seed", range(12))
def test_ten_calls_solved_by_the_rules_of_the_lesson(seed):
    sheet = buddy_trace.check(solve(seed), seed)
    assert sheet.right, sheet
    assert buddy_trace.check([f"{answer:#x}" for answer in solve(seed)], seed).right


@pytest.mark.parametrize("seed", range(12))
def test_every_trace_shows_every_rule(seed):
    start, calls = buddy_trace._plan(seed)
    played = list(buddy_trace._play(worlds.movable(start), calls))
    assert buddy_trace._shows_every_rule(played)
    assert len(calls) == buddy_trace.CALLS
    assert all(
        step.after.zones[0].free_lists().keys() <= {(o, 1) for o in range(5)} for step in played
    )


def test_the_problem_names_no_answer():
    text = str(buddy_trace.problem(7))
    assert text == str(buddy_trace.problem(7)) != str(buddy_trace.problem(8))
    calls = text.partition("The calls")[2].splitlines()[1:]
    assert len(calls) == 10
    assert all(line.endswith("?") for line in calls)
    assert not any("->" in line for line in calls)


def test_only_the_first_wrong_prediction_is_explained():
    answers = solve(7)
    answers[0], answers[1] = answers[0] + 1, 0x3F
    sheet = buddy_trace.check(answers, 7)
    first, second = (verdict for _, verdict in sheet.rows[:2])
    assert (first.outcome, second.outcome) == (Outcome.WRONG, Outcome.WRONG)
    assert first.idea
    assert "BuddyLab(buddy_trace.world(7))" in first.experiment
    assert second.sentence == "put call 1 right first; what follows often hangs on it."
    assert sheet.count(Outcome.RIGHT) == 8


def adjacent_free(seed):
    """Return (place, order) of a free whose neighbour that is not the buddy is free, if any."""
    played = buddy_trace._play(buddy_trace.world(seed), buddy_trace._plan(seed)[1])
    for place, step in enumerate(played):
        order = step.call.order
        stays = step.call.frees and step.after.page(step.pfn).order == order
        if stays and buddy_trace._free_neighbour(step.before, step.pfn, order):
            return place, order
    raise AssertionError("every trace has one")


@pytest.mark.parametrize("seed", range(6))
def test_adjacent_blocks_always_merge_is_named(seed):
    place, order = adjacent_free(seed)
    answers = solve(seed)
    answers[place] = order + 1
    verdict = buddy_trace.check(answers, seed).rows[place][1]
    assert verdict.outcome is Outcome.WRONG
    assert verdict.idea == "“Adjacent equal free blocks always merge.”"


def test_other_predictions():
    sheet = buddy_trace.check([None, "?", "what", "NULL"], 7)
    outcomes = [verdict.outcome for _, verdict in sheet.rows[:4]]
    assert outcomes == [Outcome.OPEN, Outcome.UNKNOWN, Outcome.OPEN, Outcome.WRONG]
    assert "you said NULL" in str(sheet)
    assert buddy_trace.check([99], 7).rows[0][1].outcome is Outcome.WRONG
    assert str(buddy_trace.check(None, 7)).startswith("not answered yet: ")


# -- which order ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_orders(seed):
    numbers = order_for_pages._numbers(seed)
    right = [(pages - 1).bit_length() for pages in numbers]
    assert order_for_pages.check(right, seed).right
    assert any(pages & (pages - 1) == 0 for pages in numbers)
    few = order_for_pages.check([order - 1 for order in right], seed)
    many = order_for_pages.check([order + 1 for order in right], seed)
    count = order_for_pages.check(numbers, seed)
    assert {v.idea for _, v in few.rows} == {"“The rest fits in somehow.”"}
    assert {v.idea for _, v in many.rows} == {"“A full block needs the next order.”"}
    assert {v.idea for _, v in count.rows} == {"“The order is a page count.”"}


def test_the_simulator_is_asked_for_the_pages():
    assert [order_for_pages.pages_taken(order) for order in (0, 4, 10)] == [1, 16, 1024]
    assert order_for_pages.pages_taken(11) is None
    sheet = order_for_pages.check([12, 3, -1], 7)
    assert "you said order 12. A world of 1024 pages has no block of that order" in str(sheet)
    assert "you said order 3 = 8 pages = 32 kB. That is too small for 15 pages." in str(sheet)
    assert sheet.rows[2][1].outcome is Outcome.WRONG


# -- which are not buddies ------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(0, 16, 4))
@pytest.mark.parametrize("second", range(0, 16, 4))
def test_the_simulator_agrees_with_xor(first, second):
    if first != second:
        assert non_buddies.merges(first, second, 2) == (first ^ second == 4)


@pytest.mark.parametrize("seed", range(20))
def test_non_buddies(seed):
    pairs = dict(zip("ABCDEFGH", non_buddies._pairs(seed), strict=True))
    apart = [letter for letter, p in pairs.items() if p.first ^ p.second != 1 << p.order]
    assert 0 < len(apart) < 8
    for answer in (apart, " ".join(apart), ",".join(apart).lower(), " and ".join(apart)):
        assert non_buddies.check(answer, seed).right
    for letter, verdict in non_buddies.check("".join(sorted(set(pairs) - set(apart))), seed).rows:
        assert verdict.outcome is Outcome.WRONG
        pair = pairs[letter[0]]
        if abs(pair.first - pair.second) == 1 << pair.order and letter[0] in apart:
            assert verdict.idea == "“Adjacent free blocks of one size always merge.”"


def test_other_answers_about_pairs():
    assert str(non_buddies.check(None, 7)).startswith("not answered yet: ")
    assert non_buddies.check("I do not know", 7).count(Outcome.UNKNOWN) == 8
    for answer in ("X", [1, 2], 5):
        sheet = non_buddies.check(answer, 7)
        assert sheet.count(Outcome.OPEN) == 1
        said = " ".join(str(sheet).split())
        assert "Give the letters of the pairs that are not buddies, A to H" in said


# -- worlds ---------------------------------------------------------------------------------------


def test_every_second_page():
    snapshot = worlds.every_second_page().snapshot()
    zone = snapshot.zones[0]
    assert zone.free == 512
    assert set(zone.free_lists()) == {(0, 0)}


def test_worlds_are_the_same_for_the_same_seed():
    for make in (worlds.mixed, worlds.movable):
        assert make(3).snapshot().pages == make(3).snapshot().pages != make(4).snapshot().pages


def test_free_lists_are_told_head_first():
    kernel = worlds.every_second_page()
    assert worlds.free_lists(kernel.snapshot()).startswith("order 0 Unmovable: 0x3fe, 0x3fc,")
