"""Verdicts: what counts as an answer, and how a judgement reads."""

import pytest

from kmemkit.lessons._check import (
    Misfit,
    Outcome,
    Sheet,
    Verdict,
    fill_in,
    judge,
    kindly,
    number,
    spread,
    wrong,
)


@pytest.mark.parametrize(
    "answer, meant",
    [
        (26, 26),
        ("26", 26),
        ("0x1a", 26),
        (" 0X1A ", 26),
        ("1,024", 1024),
        ("1_024", 1024),
        ("order 3", 3),
        ("pfn 0x118", 0x118),
        ("16 pages", 16),
        ("64 kB.", 64),
        ("x", None),
        ("1a", None),
        ("", None),
        ("1 2", None),
        (True, None),
        (2.0, None),
        ([3], None),
    ],
)
def test_a_number_is_read_however_it_is_written(answer, meant):
    assert number(answer) == meant


def judged(answer):
    return judge(
        answer,
        4,
        told="9 pages take order 4.",
        refute=lambda said: f"{said} is not it.",
        ideas={9: "page_count"},
    )


@pytest.mark.parametrize("answer", [4, "4", "0x4", " order 4 "])
def test_a_right_answer_is_told_why(answer):
    assert str(judged(answer)) == "right: 9 pages take order 4."


def test_a_wrong_answer_names_its_idea_and_an_experiment():
    verdict = judged(9)
    assert verdict.outcome is Outcome.WRONG
    first, second, *rest = str(verdict).splitlines()
    assert first == "wrong: 9 is not it."
    assert second == "  The idea behind it: “The order is a page count.”"
    assert " ".join(rest).split()[:3] == ["Order", "n", "is"]
    assert "Try Kernel(" in " ".join(rest)


def test_a_wrong_answer_nobody_expected_gets_the_numbers_only():
    assert str(judged(7)) == "wrong: 7 is not it."


@pytest.mark.parametrize("answer", ["I do not know", "i don't know.", "?", "IDK"])
def test_not_knowing_is_allowed_and_counted(answer):
    verdict = judged(answer)
    assert verdict.outcome is Outcome.UNKNOWN
    assert str(verdict) == "not known, and counted as that: 9 pages take order 4."


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_an_empty_place_is_not_answered_yet(answer):
    assert judged(answer) == fill_in()
    assert str(fill_in()).startswith("not answered yet: ")


def test_nonsense_is_not_counted_as_wrong():
    verdict = judged("four")
    assert verdict.outcome is Outcome.OPEN
    assert str(verdict) == (
        "not answered yet: 'four' is no number. Write 0x1a or 26, or \"I do not know\"."
    )


def test_repr_is_the_text():
    assert repr(judged(9)) == str(judged(9))


def test_lines_fit_and_hang():
    verdict = Verdict(Outcome.WRONG, "word " * 60, "an idea", "try " * 60)
    lines = verdict.lines("3.")
    assert max(map(len, lines)) <= 96
    assert lines[0].startswith("3. wrong: ")
    assert all(line.startswith("   ") for line in lines[1:])


def test_a_sheet_counts_and_says_an_experiment_once():
    sheet = Sheet(
        (
            ("1.", judged(4)),
            ("2.", wrong("no.", "page_count")),
            ("3.", wrong("no again.", "page_count")),
            ("4.", judged(None)),
            ("5.", judged("?")),
        )
    )
    text = str(sheet)
    assert text.endswith("\n1 of 5 right, 2 wrong, 1 not known, 1 not answered yet")
    assert text.count("Order n is") == 1
    assert text.count("“The order is a page count.”") == 2
    assert "\n4. not answered yet\n" in text
    assert not sheet.right


def test_an_untouched_sheet_is_one_sentence():
    sheet = Sheet((("1.", fill_in()), ("2.", fill_in())))
    assert str(sheet) == str(fill_in())


def test_a_sheet_is_right_when_all_of_it_is():
    assert Sheet((("1.", judged(4)), ("2.", judged("4")))).right


@pytest.mark.parametrize(
    "given, parts", [(None, [None] * 3), ([1], [1, None, None]), ((1, 2, 3), [1, 2, 3])]
)
def test_answers_are_spread_over_the_parts(given, parts):
    assert spread(given, 3) == parts


def test_too_many_answers_and_no_list_are_refused():
    with pytest.raises(Misfit, match="has 3 parts, and the list has 4"):
        spread([1, 2, 3, 4], 3)
    with pytest.raises(Misfit, match="give a list of 3 answers"):
        spread("1 2 3", 3)
    with pytest.raises(Misfit, match="give a list of 3 answers"):
        spread(7, 3)


def test_a_check_answers_a_misfit_with_a_sentence():
    @kindly
    def check(answers, seed):
        return Sheet(tuple((str(part), fill_in()) for part in spread(answers, seed)))

    assert "give a list of 3 answers" in " ".join(str(check(7, 3)).split())
    assert check(7, 3).count(Outcome.OPEN) == 1
    assert check([1], 3).count(Outcome.OPEN) == 3
