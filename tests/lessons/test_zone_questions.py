"""Lesson 04's multiple choice: one option is right by the simulator, each other one names an idea."""

from kmemkit import strings
from kmemkit.lessons import zone_questions


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
