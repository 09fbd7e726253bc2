"""Lesson 04's multiple choice: one option is right by the simulator, each other one names an idea."""

import pytest

from kmemkit import strings
from kmemkit.lessons import zone_questions
from kmemkit.lessons._check import Outcome

CHOICES = pytest.mark.parametrize("choice", zone_questions.ALL, ids=lambda choice: choice.name)


@CHOICES
def test_the_option_without_an_idea_is_the_simulators(choice):
    assert [option for option, idea in choice.options.items() if not idea] == [choice._truth()]


@CHOICES
def test_every_wrong_option_names_its_misconception(choice):
    for letter, option in choice.letters(3).items():
        verdict = choice.check(letter, 3)
        if choice.options[option]:
            assert verdict.outcome is Outcome.WRONG
            assert verdict.idea == strings.text(f"lesson.zones.idea_name.{choice.options[option]}")
            assert verdict.experiment
        else:
            assert verdict.outcome is Outcome.RIGHT


@CHOICES
def test_other_answers(choice):
    assert choice.check(None, 1).outcome is Outcome.OPEN
    assert choice.check("?", 1).outcome is Outcome.UNKNOWN
    assert choice.check("e", 1).outcome is Outcome.OPEN


def test_the_numbers_of_the_first_question_are_its_machines():
    dma, dma32, _ = zone_questions.short_of_pages().snapshot().zones
    for zone in (dma, dma32):
        kb = [4 * pages for pages in (zone.free_est, zone.min, zone.low, zone.high)]
        said = "{} free:{}kB min:{}kB low:{}kB high:{}kB".format(zone.name, *kb)
        assert said in strings.text("lesson.questions.zone_free.ask")
    assert f"{4 * (dma.free + dma32.free):,} kB are free" in strings.text(
        "lesson.questions.zone_free.ask"
    )
    assert f"{dma.free} <= {dma.min} + {dma.lowmem_reserve[2]}" in strings.text(
        "lesson.questions.zone_free.told"
    )


def test_m2_is_named():
    choice = zone_questions.all_mine
    letter = next(letter for letter, option in choice.letters(7).items() if option == "dma32")
    assert "M2, “free: N kB is all mine.”" in str(choice.check(letter, 7))
