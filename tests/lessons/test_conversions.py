"""Lesson 00: the calculator, eight conversions, and reading the map."""

import re

import pytest

from kmemkit.lessons import conversions, map_reading
from kmemkit.lessons._check import Outcome

#: The eight conversions of seed 7, done by hand.
BY_HAND = [11, 4, 32, 64, 7, 0x611, 0xF9000, 0x98]


@pytest.mark.parametrize(
    "quantity, says",
    [
        ("20000 bytes", "5 pages = 0x5 pages = 20 kB; as one block: order 3 = 8 pages = 32 kB, 3 "),
        (4096, "1 page = 0x1 pages = 4 kB; as one block: order 0 = 1 page = 4 kB, 0 pages more"),
        ("4,097", "2 pages"),
        ("36 kB", "9 pages = 0x9 pages = 36 kB; as one block: order 4 = 16 pages = 64 kB, 7 "),
        ("1 MiB", "256 pages = 0x100 pages = 1 MiB; as one block: order 8"),
        ("9 pages", "9 pages = 0x9 pages"),
        ("order 10", "order 10 = 1,024 pages = 4 MiB = 0x400 pages"),
        (
            "PFN 0x118",
            "pfn 0x118 = page number 280, counted from 0; its first byte is at physical ",
        ),
        ("pfn 280", "address 0x118000"),
    ],
)
def test_the_calculator(quantity, says):
    assert says in conversions.convert(quantity)


@pytest.mark.parametrize("quantity", ["", "many pages", "3 miles", "0 bytes", "0 pages", "-1"])
def test_what_it_does_not_understand_it_says(quantity):
    with pytest.raises(ValueError, match="is no quantity to convert"):
        conversions.convert(quantity)


@pytest.mark.parametrize("quantity", ["order 99999", "order 3 pages", "9" * 5000])
def test_what_no_machine_has_is_refused(quantity):
    with pytest.raises(ValueError, match="is no quantity to convert"):
        conversions.convert(quantity)


def test_the_problem_of_a_seed():
    lines = str(conversions.problem(7)).splitlines()
    assert lines[0] == "1. How many pages do 43,000 bytes take?"
    assert conversions.problem(7) == conversions.problem(7) != conversions.problem(8)


def test_eight_right_answers():
    sheet = conversions.check(BY_HAND, 7)
    assert sheet.right, sheet
    assert conversions.check([f"0x{answer:x}" for answer in BY_HAND], 7).right


@pytest.mark.parametrize(
    "part, answer, idea",
    [
        (1, 10, "“The rest fits in somehow.”"),
        (2, 13, "“The order is a page count.”"),
        (2, 3, "“The rest fits in somehow.”"),
        (3, 5, "“The order is a page count.”"),
        (3, 10, "“Each order adds two pages.”"),
        (4, 16, "“Pages and kB are the same count.”"),
        (5, 0, "“The order is a page count.”"),
        (6, 611, "“The digits after 0x are a decimal number.”"),
        (7, 0xF9, "“A page frame number is an address.”"),
        (8, 0x93, "“The order is a page count.”"),
        (8, 0x97, "“A block ends where the next one starts.”"),
    ],
)
def test_wrong_answers_are_recognised(part, answer, idea):
    answers = [None] * 8
    answers[part - 1] = answer
    verdict = dict(conversions.check(answers, 7).rows)[f"{part}."]
    assert verdict.outcome is Outcome.WRONG
    assert verdict.idea == idea


def test_the_numbers_of_a_wrong_answer_are_put_in():
    sheet = conversions.check([10], 7)
    assert "you said 10 pages. That is 40,960 bytes, and 43,000 bytes are asked for." in str(sheet)


@pytest.mark.parametrize("seed", range(40))
def test_every_seed_can_be_solved_and_no_idea_is_right(seed):
    for task in conversions._tasks(seed):
        truth, ideas = conversions._KINDS[task.kind](task)
        assert task.check(truth).outcome is Outcome.RIGHT
        assert task.check("?").outcome is Outcome.UNKNOWN
        for value, _ in ideas:
            verdict = task.check(value)
            assert verdict.outcome is (Outcome.RIGHT if value == truth else Outcome.WRONG)
            assert bool(verdict.idea) is (value != truth)
        assert task.check(10**30).outcome is Outcome.WRONG
        assert task.check(-1).outcome is Outcome.WRONG


@pytest.mark.parametrize("seed", range(30))
def test_reading_the_map(seed):
    kernel = map_reading.world(seed)
    snapshot = kernel.snapshot()
    first, second = (
        int(pfn, 16) for pfn in re.findall("pfn (0x[0-9a-f]+)", str(map_reading.problem(seed)))
    )
    held, free = snapshot.page(first), snapshot.page(second)
    largest = max(order for order, _ in snapshot.zones[0].free_lists())
    assert held.head != first and free.head != second
    assert map_reading.check([1 << held.order, free.head, largest], seed).right
    sheet = map_reading.check([1, second, "?"], seed)
    verdicts = [verdict for _, verdict in sheet.rows]
    assert {verdict.idea for verdict in verdicts[:2]} == {
        "“Every page on the map is a block of its own.”"
    }
    assert verdicts[2].outcome is Outcome.UNKNOWN
