"""Lesson 09: classes and waste, the patched sizes, the safe krealloc, the slack, its questions."""

import inspect

import pytest

from kmemkit import GFP_KERNEL, strings
from kmemkit.lessons import (
    kmalloc_classes,
    kmalloc_grow,
    kmalloc_patch,
    kmalloc_questions,
    kmalloc_slack,
    kmalloc_worlds,
)
from kmemkit.lessons._check import Outcome
from kmemkit.overflow import size_mul, struct_size
from kmemkit.strings import keys

SEEDS = pytest.mark.parametrize("seed", range(12))


def flat(sheet):
    return " ".join(str(sheet).split())


def wrong_parts(sheet):
    return "".join(label[0] for label, one in sheet.rows if one.outcome is Outcome.WRONG)


def test_every_idea_of_the_table_is_used_and_has_a_name():
    modules = (kmalloc_classes, kmalloc_grow, kmalloc_patch, kmalloc_questions, kmalloc_slack)
    source = "\n".join(inspect.getsource(module) for module in modules)
    named = {key.rpartition(".")[2] for key in keys() if ".kmalloc.idea." in key}
    assert {idea for idea in named if f'"{idea}"' in source} == named
    for idea in named:
        assert "“" in strings.text(f"lesson.kmalloc.idea_name.{idea}")


def test_the_table_of_classes_is_what_kmalloc_gives():
    rows = [line.split() for line in kmalloc_worlds.classes(8, 100, 8193).splitlines()[1:]]
    assert rows == [
        ["8", "8", "0", "(0%)"],
        ["100", "128", "28", "(22%)"],
        ["8,193", "16,384", "8,191", "(50%)"],
    ]


def test_a_write_past_the_end_hits_the_block_behind():
    kernel = kmalloc_worlds.machine()
    lower, upper = kmalloc_worlds.adjacent(kernel, 16)
    assert upper - lower == 16
    kernel.write(lower, bytes(16) + b"damage")
    assert kernel.read(upper, 6) == b"damage"
    assert kmalloc_worlds.first_line(kernel) == "(nothing in the kernel log)"


# -- 1: class and waste ---------------------------------------------------------------------------


@SEEDS
def test_class_and_waste_as_the_kernel_gives_them(seed):
    answers = []
    for size in kmalloc_classes._sizes(seed):
        kernel = kmalloc_worlds.machine()
        room = kernel.ksize(kernel.kmalloc(size, GFP_KERNEL))
        answers.append(f"{room:,} {room - size}")
    assert kmalloc_classes.check(answers, seed).right
    pairs = [tuple(answer.replace(",", "").split()) for answer in answers]
    assert kmalloc_classes.check(pairs, seed).right


@pytest.mark.parametrize(
    ("size", "answer", "said"),
    [
        (100, (100, 0), "M7, “kmalloc() gives exactly what I ask for.”"),
        (142, "256 114", "“The classes are powers of two.”"),
        (94, "4096 4002", "M7, “kmalloc() gives whole pages.”"),
        (8602, "12288 3686", "“Above a page it gives as many pages as are needed.”"),
        (300, "256 0", "“The nearest class serves.”"),
        (300, "512 0", "M7, “The slack is mine, so nothing is left over.”"),
        (300, "512 100", "of them it is not 100 that nobody asked for"),
    ],
)
def test_each_wrong_class_names_its_idea(size, answer, said):
    verdict = kmalloc_classes._check_one(size, answer)
    assert verdict.outcome is Outcome.WRONG
    assert said in flat(verdict)


def test_other_answers_about_classes():
    sheet = kmalloc_classes.check([None, "?", "96", "much"], 7)
    outcomes = [verdict.outcome for _, verdict in sheet.rows]
    assert outcomes == [Outcome.OPEN, Outcome.UNKNOWN, *[Outcome.OPEN] * 4]
    assert "is not two numbers" in flat(sheet)


# -- 2: the patch ---------------------------------------------------------------------------------


def table_as_it_came(kernel, n, item):
    return kernel.kmalloc(n * item, GFP_KERNEL)


def message_as_it_came(kernel, head, n, item):
    return kernel.kmalloc(head + n * item, GFP_KERNEL)


def grow_as_it_came(kernel, table, n, item):
    return kernel.krealloc(table, n * item, GFP_KERNEL)


def table(kernel, n, item):
    return kernel.kmalloc_array(n, item, GFP_KERNEL)


def table_by_size(kernel, n, item):
    return kernel.kmalloc(size_mul(n, item), GFP_KERNEL)


def message(kernel, head, n, item):
    return kernel.kzalloc(struct_size(head, item, n), GFP_KERNEL)


def message_by_hand(kernel, head, n, item):
    if n > ((1 << 64) - 1 - head) // item:
        return None
    return kernel.kzalloc(head + n * item, GFP_KERNEL)


def grow(kernel, table, n, item):
    return kernel.krealloc_array(table, n, item, GFP_KERNEL)


def grow_by_copy(kernel, table, n, item):
    new = kernel.kmalloc_array(n, item, GFP_KERNEL)
    if new is not None:
        kernel.write(new, kernel.read(table, item))
        kernel.kfree(table)
    return new


@SEEDS
def test_as_they_came_all_three_overflow(seed):
    came = [table_as_it_came, message_as_it_came, grow_as_it_came]
    sheet = kmalloc_patch.check(came, seed)
    assert wrong_parts(sheet) == "123"


@SEEDS
def test_every_way_to_patch_them_is_right(seed):
    assert kmalloc_patch.check([table, message, grow], seed).right
    assert kmalloc_patch.check([table_by_size, message_by_hand, grow_by_copy], seed).right


def limited(kernel, n, item):
    return None if n > 10 else kernel.kmalloc(n * item, GFP_KERNEL)


def half(kernel, head, n, item):
    return kernel.kzalloc(head + size_mul(n, item), GFP_KERNEL)


def half_by_hand(kernel, head, n, item):
    if n * item >= 1 << 64:
        return None
    return kernel.kzalloc(head + n * item, GFP_KERNEL)


def not_zeroed(kernel, head, n, item):
    return kernel.kmalloc(struct_size(head, item, n), GFP_KERNEL)


def not_copied(kernel, table, n, item):
    new = kernel.kmalloc_array(n, item, GFP_KERNEL)
    if new is not None:
        kernel.kfree(table)
    return new


def not_freed(kernel, table, n, item):
    new = kernel.kmalloc_array(n, item, GFP_KERNEL)
    if new is not None:
        kernel.write(new, kernel.read(table, item))
    return new


def freed_anyway(kernel, table, n, item):
    new = kernel.krealloc_array(table, n, item, GFP_KERNEL)
    if new is None:
        kernel.kfree(table)
    return new


def small(kernel, n, item):
    return kernel.kmalloc(8, GFP_KERNEL)


@pytest.mark.parametrize(
    ("functions", "part", "said"),
    [
        ([table_as_it_came, message, grow], "1", "“if (!p) is the check.”"),
        ([limited, message, grow], "1", "“A limit of my own is as good.”"),
        ([small, message, grow], "1", "it gave a block of 8 bytes"),
        ([table, message_as_it_came, grow], "2", "“Fresh memory is zero.”"),
        ([table, half, grow], "2", "“The product is checked, so the size is.”"),
        ([table, half_by_hand, grow], "2", "“if (!p) is the check.”"),
        ([table, not_zeroed, grow], "2", "“Fresh memory is zero.”"),
        ([table, message, not_copied], "3", "“A new block has the old bytes in it.”"),
        ([table, message, not_freed], "3", "“The old block goes away by itself.”"),
        ([table, message, freed_anyway], "3", "“If krealloc() fails, the old block is gone.”"),
        ([lambda *_: 1 / 0, message, grow], "1", "ZeroDivisionError: division by zero"),
        ([lambda *_: "p", message, grow], "1", "'p', which is no block in use"),
    ],
)
def test_each_failed_patch_is_told_what_is_wrong(functions, part, said):
    sheet = kmalloc_patch.check(functions, 7)
    assert wrong_parts(sheet) == part
    assert said in flat(sheet)


@pytest.mark.parametrize("answer", [12345, -1, 0, True, 1 << 70, b"", [1]])
def test_what_is_no_block_is_told_so(answer):
    sheet = kmalloc_patch.check([lambda *_: answer] * 3, 7)
    assert wrong_parts(sheet) == "123"
    assert f"returned {answer!r}, which is no block in use and not None" in flat(sheet)


def test_a_block_of_vmalloc_has_its_size_too():
    def by_vmalloc(kernel, n, item):
        return kernel.vmalloc(n * item) if n * item < 1 << 20 else None

    def too_small(kernel, n, item):
        return kernel.vmalloc(1) if n * item < 1 << 20 else kernel.vmalloc(n * item % (1 << 64))

    assert wrong_parts(kmalloc_patch.check([by_vmalloc], 7)) == ""
    assert "a block of 4,096 bytes, and" in flat(kmalloc_patch.check([too_small], 7))


def test_other_answers_to_the_patch():
    assert "not answered yet" in str(kmalloc_patch.check([None] * 3, 7))
    assert "kmalloc_array(n, item, GFP_KERNEL)" in flat(kmalloc_patch.check(["?"], 7))
    assert "write new_table, without parentheses" in flat(kmalloc_patch.check([3], 7))
    assert kmalloc_patch.problem(1).lines != kmalloc_patch.problem(2).lines


# -- 3: krealloc ----------------------------------------------------------------------------------


def as_it_came(kernel, buffer, size):
    buffer.size = size
    buffer.data = kernel.krealloc(buffer.data, size, GFP_KERNEL)
    return 0 if buffer.data else -kmalloc_grow.ENOMEM


def safe(kernel, buffer, size):
    data = kernel.krealloc(buffer.data, size, GFP_KERNEL)
    if data is None:
        return -kmalloc_grow.ENOMEM
    buffer.data, buffer.size = data, size
    return 0


def size_first(kernel, buffer, size):
    buffer.size = size
    data = kernel.krealloc(buffer.data, size, GFP_KERNEL)
    if data is None:
        return -kmalloc_grow.ENOMEM
    buffer.data = data
    return 0


def frees(kernel, buffer, size):
    data = kernel.krealloc(buffer.data, size, GFP_KERNEL)
    if data is None:
        kernel.kfree(buffer.data)
        return -kmalloc_grow.ENOMEM
    buffer.data, buffer.size = data, size
    return 0


def trusts(kernel, buffer, size):
    data = kernel.krealloc(buffer.data, size, GFP_KERNEL)
    kernel.write(data, b"x")
    buffer.data, buffer.size = data, size
    return 0


def new_block(kernel, buffer, size):
    data = kernel.kmalloc(size, GFP_KERNEL)
    if data is None:
        return -kmalloc_grow.ENOMEM
    kernel.write(data, kernel.read(buffer.data, buffer.size))
    buffer.data, buffer.size = data, size
    return 0


def says_yes(kernel, buffer, size):
    return 0


@SEEDS
def test_the_safe_way_is_right_and_the_usual_one_leaks(seed):
    assert kmalloc_grow.check(safe, seed).right
    sheet = kmalloc_grow.check(as_it_came, seed)
    assert wrong_parts(sheet) == "34"
    assert "“p = krealloc(p, ...) is how it is written.”" in flat(sheet)


@pytest.mark.parametrize(
    ("function", "parts", "said"),
    [
        (size_first, "3", "“The order of the lines does not matter.”"),
        (frees, "3", "“If krealloc() fails, the old block is gone.”"),
        (trusts, "12", "M8, “GFP_KERNEL never fails.”"),
        (new_block, "4", "“The old block goes away by itself.”"),
        (says_yes, "12", "buffer.data is no block in use with room"),
    ],
)
def test_each_failed_repair_is_told_what_is_wrong(function, parts, said):
    sheet = kmalloc_grow.check(function, 7)
    assert said in flat(sheet)
    assert set(parts) & set(wrong_parts(sheet))


@pytest.mark.parametrize("data", [12345, -5, "x", [1], bytearray(3), None])
def test_data_that_is_no_block_is_told_so(data):
    def puts(kernel, buffer, size):
        buffer.data = data
        return 0

    sheet = kmalloc_grow.check(puts, 7)
    assert wrong_parts(sheet) == "1234"
    assert "buffer.data is no block in use with room" in flat(sheet)


def test_other_answers_to_the_repair():
    assert "not answered yet" in str(kmalloc_grow.check(None, 7))
    assert "in a variable of its own" in flat(kmalloc_grow.check("?", 7))
    assert "write grow, without parentheses" in flat(kmalloc_grow.check(3, 7))


# -- 4: the slack ---------------------------------------------------------------------------------


@SEEDS
def test_kasan_reports_the_writes_past_what_was_asked_for(seed):
    uses = dict(zip("ABCDEFGH", kmalloc_slack._uses(seed), strict=True))
    right = "".join(letter for letter, use in uses.items() if use.said())
    wrong = {use.play for use in kmalloc_slack._WRONG}
    assert right == "".join(letter for letter, use in uses.items() if use.play in wrong)
    assert kmalloc_slack.check(right, seed).right
    none = kmalloc_slack.check("none", seed)
    assert none.count(Outcome.WRONG) == 4
    upside_down = kmalloc_slack.check([one for one in uses if one not in right], seed)
    assert upside_down.count(Outcome.WRONG) == 8
    assert all(verdict.idea and verdict.experiment for _, verdict in upside_down.rows)


def test_other_answers_about_the_slack():
    assert "not answered yet" in str(kmalloc_slack.check(None, 7))
    assert kmalloc_slack.check("I do not know", 7).count(Outcome.UNKNOWN) == 8
    assert "A to H" in str(kmalloc_slack.check("Z", 7))


# -- the questions --------------------------------------------------------------------------------


def test_the_krealloc_rule_is_named():
    choice = kmalloc_questions.lost_pointer
    letter = next(one for one, option in choice.letters(7).items() if option == "freed")
    assert "“If krealloc() fails, the old block is gone.”" in str(choice.check(letter, 7))
