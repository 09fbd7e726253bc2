"""Lesson 07's graded exercises: the order of the rungs, whose road, eight cases."""

import re

import pytest

from kmemkit.lessons import ladder_cases, ladder_order, ladder_roads, ladder_worlds
from kmemkit.lessons._check import Outcome
from kmemkit.strings import keys, text
from kmemkit.why import RUNGS

SEEDS = pytest.mark.parametrize("seed", range(12))
WORDS = {"page": "page", "null": "NULL", "kill": "OOM", "forever": "for ever"}


def outcomes(sheet):
    return [verdict.outcome for _, verdict in sheet.rows]


def idea_name(idea):
    return text(f"lesson.ladder.idea_name.{idea}") if idea else ""


def ideas():
    return {key.rpartition(".")[2] for key in keys() if key.startswith("lesson.ladder.idea_name.")}


# -- the order of the rungs --------------------------------------------------------------------------


def answer_of(asked, rungs):
    """Return the letters of these rungs."""
    letter = {name: letter for letter, name in asked.letters.items()}
    return " ".join(letter[name] for name in rungs)


@SEEDS
def test_the_ladders_own_order_is_right(seed):
    asked = ladder_order._Shuffled(seed)
    assert asked.rungs == sorted(asked.rungs, key=RUNGS.index)
    assert len(asked.rungs) >= 8
    right = answer_of(asked, asked.rungs)
    for form in (right, right.lower(), right.replace(" ", ""), right.split()):
        assert ladder_order.check(form, seed).outcome is Outcome.RIGHT
    unordered = " ".join(asked.letters)
    assert ladder_order.check(unordered, seed).outcome is Outcome.WRONG


@SEEDS
def test_a_rung_too_early_names_the_idea(seed):
    asked = ladder_order._Shuffled(seed)
    for place in range(1, len(asked.rungs)):
        rungs = asked.rungs.copy()
        rungs.insert(0, rungs.pop(place))
        verdict = ladder_order.check(answer_of(asked, rungs), seed)
        assert verdict.outcome is Outcome.WRONG
        assert verdict.idea == idea_name(ladder_order._idea(rungs[0], "low")) != ""
        assert text("road.rung.low") in verdict.sentence


def test_ideas_of_the_order():
    assert ladder_order._idea("compact", "compact_first") == "compact_after"
    assert ladder_order._idea("min", "kswapd") == "kswapd_late"
    assert ladder_order._idea("oom", "reclaim") == "kills_early"
    assert ladder_order._idea("retry", "compact") == "dear_first"
    assert set(ladder_order._TOO_EARLY.values()) <= ideas()


def test_what_a_road_of_the_pool_shows_can_be_run():
    for moment, mask, order in ladder_order._ROADS:
        assert len(ladder_worlds.at(moment, mask, order).names) >= 8
    assert any("ladder_worlds.at(" in ladder_order._Shuffled(seed).code for seed in range(3))


def test_other_answers_to_the_order():
    assert ladder_order.check(None, 1).outcome is Outcome.OPEN
    assert ladder_order.check(" ", 1).outcome is Outcome.OPEN
    assert ladder_order.check("?", 1).outcome is Outcome.UNKNOWN
    for answer in ("A B", "A A B C D E F G H", "X Y Z", 7, [None, None]):
        verdict = ladder_order.check(answer, 1)
        assert verdict.outcome is Outcome.OPEN
        assert "is no order of the rungs" in verdict.sentence


# -- whose road --------------------------------------------------------------------------------------


@SEEDS
def test_each_road_belongs_to_one_mask(seed):
    asked = ladder_roads._Roads(seed)
    ways = [ladder_roads._way(asked.run(mask)) for mask in asked.roads]
    assert len(set(ways)) == len(ways) == 5
    letters = {mask: letter for letter, mask in asked.letters.items()}
    right = [letters[mask] for mask in asked.roads]
    assert ladder_roads.check(right, seed).right
    assert ladder_roads.check([f"{letter.lower()})" for letter in right], seed).right
    assert ladder_roads.check(" ".join(right), seed).right
    turned = ladder_roads.check(right[1:] + right[:1], seed)
    assert outcomes(turned) == [Outcome.WRONG] * 5
    assert all(verdict.idea and verdict.experiment for _, verdict in turned.rows)


@pytest.mark.parametrize(
    ("mask", "said", "order", "idea"),
    [
        ("GFP_NOWAIT", "GFP_KERNEL & ~__GFP_RECLAIM", 0, "kswapd_always"),
        ("GFP_NOWAIT", "GFP_KERNEL|__GFP_NORETRY", 0, "sleeps_anyway"),
        ("GFP_NOIO", "GFP_NOFS", 2, "compacts_anyway"),
        ("GFP_KERNEL|__GFP_NORETRY", "GFP_KERNEL", 0, "kills_always"),
        ("GFP_KERNEL|__GFP_RETRY_MAYFAIL", "GFP_KERNEL", 0, "kills_always"),
        ("GFP_NOFS", "GFP_KERNEL", 0, "ends_always"),
        ("GFP_KERNEL|__GFP_NOFAIL", "GFP_KERNEL", 4, "nofail_first"),
    ],
)
def test_a_wrong_mask_names_the_idea(mask, said, order, idea):
    here, there = (ladder_worlds.at("full", name, order) for name in (mask, said))
    assert ladder_roads._idea(here, there) == idea
    assert idea in ideas()


def test_other_answers_to_the_roads():
    assert outcomes(ladder_roads.check(None, 1)) == [Outcome.OPEN] * 5
    assert outcomes(ladder_roads.check("?", 1)) == [Outcome.UNKNOWN] * 5
    assert outcomes(ladder_roads.check(["Z"], 1)) == [Outcome.OPEN] * 5
    assert "'Z' is none of the masks" in str(ladder_roads.check(["Z"], 1))
    assert "this exercise has 5 parts" in str(ladder_roads.check(["A"] * 6, 1))


# -- eight cases -------------------------------------------------------------------------------------


@SEEDS
def test_the_simulators_ends_are_right(seed):
    cases = ladder_cases._cases(seed)
    ends = [case.run().end for case in cases]
    assert set(ends) == set(ladder_worlds.ENDS)
    assert max(map(ends.count, ends)) <= 3
    assert len(set(cases)) == 8
    assert ladder_cases.check([WORDS[end] for end in ends], seed).right
    for said, word in WORDS.items():
        sheet = ladder_cases.check([word] * 8, seed)
        wrong = [end != said for end in ends]
        assert [outcome is Outcome.WRONG for outcome in outcomes(sheet)] == wrong


@SEEDS
def test_the_problem_gives_the_numbers_that_decide(seed):
    shown = str(ladder_cases.problem(seed))
    for name in {case.moment for case in ladder_cases._cases(seed)}:
        for zone in ladder_worlds.moment(name).snapshot().zones:
            assert f"{zone.name}: {zone.free:,} free; MIN {zone.min}" in shown
    assert len(re.findall(r"^\d\. ", shown, re.M)) == 8
    assert not any(f"→ {word}" in shown for word in WORDS.values())


@pytest.mark.parametrize(
    ("moment", "mask", "order", "said", "idea"),
    [
        ("files", "GFP_ATOMIC", 0, "page", "atomic_everywhere"),
        ("files", "GFP_NOWAIT", 0, "page", "quick_means_ready"),
        ("files", "GFP_NOWAIT|__GFP_NOFAIL", 0, "page", "nofail_is_a_wish"),
        ("files", "GFP_KERNEL|__GFP_NORETRY", 4, "page", "one_round_will_do"),
        ("files", "GFP_KERNEL", 0, "NULL", "gives_up"),
        ("files", "GFP_KERNEL", 0, "OOM", "kills_early"),
        ("low", "GFP_NOWAIT", 0, "NULL", "low_is_the_end"),
        ("full", "GFP_KERNEL", 0, "NULL", "null_when_out"),
        ("full", "GFP_KERNEL", 0, "for ever", "kills_never"),
        ("full", "GFP_KERNEL", 4, "page", "never_fails"),
        ("full", "GFP_KERNEL", 4, "OOM", "kills_always"),
        ("full", "GFP_KERNEL", 4, "for ever", "never_gives_up"),
        ("full", "GFP_KERNEL|__GFP_NOFAIL", 4, "page", "nofail_wins"),
        ("full", "GFP_NOFS", 0, "NULL", "ends_always"),
        ("full", "GFP_NOFS", 0, "OOM", "ends_always"),
        ("victim", "GFP_KERNEL", 0, "page", "never_fails"),
        ("scattered", "GFP_KERNEL", 4, "page", "free_is_enough"),
    ],
)
def test_a_wrong_end_names_the_idea(moment, mask, order, said, idea):
    verdict = ladder_cases._check_one(ladder_cases._Case(moment, mask, order), said)
    assert verdict.outcome is Outcome.WRONG
    assert verdict.idea == idea_name(idea)
    assert verdict.experiment


def test_every_case_of_the_pool_has_a_reason():
    for case in ladder_cases._pool():
        run = case.run()
        assert run.because
        for said in set(ladder_worlds.ENDS) - {run.end}:
            assert ladder_cases._idea(case, said, run.end) in {"", *ideas()}


def test_other_answers_to_the_cases():
    assert outcomes(ladder_cases.check(None, 1)) == [Outcome.OPEN] * 8
    assert outcomes(ladder_cases.check(["?"] * 8, 1)) == [Outcome.UNKNOWN] * 8
    assert "'maybe' is no end of a request" in str(ladder_cases.check(["maybe"], 1))
    assert "this exercise has 8 parts" in str(ladder_cases.check(["page"] * 9, 1))
    assert "give a list of 8 answers" in str(ladder_cases.check("page", 1))


def test_every_experiment_that_is_code_runs():
    """What an idea tells the learner to try is there: the machines and requests it names."""
    tried = 0
    for idea in ideas():
        for code in re.findall(r"ladder_worlds\.at\([^)]*\)", text(f"lesson.ladder.idea.{idea}")):
            run = eval(code, {"ladder_worlds": ladder_worlds})
            assert run.end in ladder_worlds.ENDS
            tried += 1
    assert tried >= len(ideas())
