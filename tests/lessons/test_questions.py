"""Multiple choice: one option is right by the simulator, each other one names an idea."""

import pytest

from kmemkit.lessons import (
    context_questions,
    fragmentation_questions,
    gfp_questions,
    kmalloc_questions,
    ladder_questions,
    pairing_questions,
    questions,
    slab_questions,
    zone_questions,
)
from kmemkit.lessons._check import Outcome
from kmemkit.strings import keys, text

#: where a lesson's ideas stand in the string table -> its questions
LESSONS = {
    "lesson": questions.ALL,
    "lesson.context": context_questions.ALL,
    "lesson.fragmentation": fragmentation_questions.ALL,
    "lesson.gfp": gfp_questions.ALL,
    "lesson.kmalloc": kmalloc_questions.ALL,
    "lesson.ladder": ladder_questions.ALL,
    "lesson.pairing": pairing_questions.ALL,
    "lesson.slab": slab_questions.ALL,
    "lesson.zones": zone_questions.ALL,
}
ALL = [(table, choice) for table, choices in LESSONS.items() for choice in choices]
CHOICES = pytest.mark.parametrize("choice", [one for _, one in ALL], ids=lambda one: one.name)


@CHOICES
def test_the_option_without_an_idea_is_the_simulators(choice):
    assert [option for option, idea in choice.options.items() if not idea] == [choice._truth()]


@pytest.mark.parametrize(("table", "choice"), ALL, ids=[one.name for _, one in ALL])
def test_every_wrong_option_names_its_misconception(table, choice):
    for letter, option in choice.letters(3).items():
        verdict = choice.check(letter, 3)
        if idea := choice.options[option]:
            assert verdict.outcome is Outcome.WRONG
            assert verdict.idea == text(f"{table}.idea_name.{idea}")
            assert verdict.experiment
        else:
            assert verdict.outcome is Outcome.RIGHT


@pytest.mark.parametrize("table", LESSONS)
def test_ideas_and_their_names_go_together(table):
    names, texts = (
        {key.rpartition(".")[2] for key in keys() if key.startswith(f"{table}.{section}.")}
        for section in ("idea_name", "idea")
    )
    assert names
    assert names == texts


@CHOICES
def test_options_are_shuffled_by_the_seed_and_all_there(choice):
    orders = {tuple(choice.letters(seed).values()) for seed in range(20)}
    assert len(orders) > 5
    assert {frozenset(order) for order in orders} == {frozenset(choice.options)}
    assert choice.letters(7) == choice.letters(7)
    assert [line.strip()[0] for line in choice.problem(7).lines[-4:]] == list("abcd")


def test_a_letter_is_read_however_it_is_written():
    choice = questions.order_three
    right = next(letter for letter, o in choice.letters(1).items() if not choice.options[o])
    for answer in (right, right.upper(), f" {right}) ", f"({right})"):
        assert choice.check(answer, 1).outcome is Outcome.RIGHT


@CHOICES
def test_other_answers(choice):
    assert choice.check(None, 1).outcome is Outcome.OPEN
    assert choice.check("?", 1).outcome is Outcome.UNKNOWN
    verdict = choice.check("e", 1)
    assert verdict.outcome is Outcome.OPEN
    assert "'e' is none of the letters a, b, c, d" in str(verdict)


def test_m1_is_named():
    choice = questions.half_free
    letter = next(letter for letter, option in choice.letters(7).items() if option == "block")
    assert "M1, “Free memory exists" in str(choice.check(letter, 7))
