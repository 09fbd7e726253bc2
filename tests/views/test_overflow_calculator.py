"""OverflowCalculator without a browser: both products, the blocks, the helpers, the predictions."""

import pytest

from kmemkit import Kernel
from kmemkit.strings import keys
from kmemkit.views import OverflowCalculator
from kmemkit.views import _overflow_quiz as quizzes
from kmemkit.views._overflow_runs import CELLS, Sizes, groups, rows
from kmemkit.views.overflow_calculator import PRESETS

pytestmark = pytest.mark.usefixtures("sends_at_once")

WARNING = "WARNING: CPU: 0 PID: 1 at mm/page_alloc.c:4832 __alloc_pages_noprof"
ARRAY32 = f"""\
Overflow calculator
  268,435,457 elements of 16 bytes, size_t of 32 bits: C computes n * size
  bytes needed: 4,294,967,312
  in hex: [1] 0000 0010
  in binary: [1] 0000 0000 0000 0000 0000 0000 0001 0000
  what 32 bits hold: 16
  Lost: the upper part, 0x1, which stands for 4,294,967,296 bytes. Nothing says so.

A cell is 1 byte.
  you think you have  00000000000000001111111111111111 and 4,294,967,280 bytes more
  you have            ################xxxxxxxxxxxxxxxx
  0-9 the element in which the cell begins, last digit of its number; # asked for, yours; x not yours

kmalloc(n * size, GFP_KERNEL)             a block of 16 bytes: not NULL, and room for 1 of 268,435,457 elements
kmalloc_array(n, size, GFP_KERNEL)        NULL, and the log stays empty
kcalloc(n, size, GFP_KERNEL)              NULL, and the log stays empty
kmalloc(array_size(n, size), GFP_KERNEL)  NULL, and the log says: {WARNING}
array_size(n, size)                       SIZE_MAX = 4,294,967,295: a size that no allocator has
size_mul(n, size)                         SIZE_MAX = 4,294,967,295: a size that no allocator has

n * size comes to 16 bytes, not 4,294,967,312."""


@pytest.fixture
def kernel():
    return Kernel(ram="16M")


def answer(view, call):
    """Return what a call answered, by the beginning of the call."""
    return next(one for one in view.answers if one.call.startswith(call))


def test_text_says_everything(kernel):
    view = OverflowCalculator(kernel)
    assert view.text().startswith(ARRAY32)
    assert repr(view) == "OverflowCalculator(268435457 * 16, 32 bits)"


def test_the_blocks_are_those_that_the_kernel_gives(kernel):
    for sizes in (*PRESETS.values(), *quizzes.CASES):
        view = OverflowCalculator(kernel, sizes.n, sizes.size, sizes.head, bits=sizes.bits)
        clone = kernel.clone()
        at = clone.kmalloc(view.sizes.asked, "GFP_KERNEL")
        assert (at is None) == (view.block.kind in ("silent", "loud"))
        assert view.block.room == (0 if at is None else clone.ksize(at))


def test_the_same_numbers_in_64_bits_are_refused_aloud(kernel):
    view = OverflowCalculator(kernel, bits=64)
    assert view.sizes.lost == 0
    assert view.block.kind == "loud"
    assert answer(view, "kmalloc_array").block.line == WARNING
    assert "Too small is not." in view.verdict()


def test_a_product_of_0_is_zero_size_ptr(kernel):
    view = OverflowCalculator(kernel)
    view.act("preset", name="zero")
    assert view.block.zero
    assert view.block.room == 0
    assert "if (!p) lets it pass" in view.verdict()
    assert set(rows(view.sizes, view.block)[2]) == {"x"}


def test_the_helpers_of_a_struct_stay_at_size_max(kernel):
    view = OverflowCalculator(kernel, (1 << 32) - 20, 1, 24, bits=32)
    assert view.sizes.asked == 4
    assert answer(view, "flex_array_size").value == (1 << 32) - 20
    assert answer(view, "struct_size").value == (1 << 32) - 1
    assert answer(view, "kmalloc(struct_size").block.kind == "loud"
    assert "room for 0 of 4,294,967,276 elements" in view.text()


def test_a_harmless_product_is_the_same_every_way(kernel):
    view = OverflowCalculator(kernel, 100, 40, bits=64)
    assert {one.block.kind for one in view.answers if one.block} == {"all"}
    assert {one.value for one in view.answers if not one.block} == {4000}
    assert "Nothing is lost" in view.text()


@pytest.mark.parametrize(
    ("value", "base", "digits", "shown"),
    [
        (0x100000010, "x", 8, ("1", "0000 0010")),
        (16, "x", 8, ("", "0000 0010")),
        (0xABCDE12345678, "x", 8, ("a bcde", "1234 5678")),
        (5 << 32, "b", 32, ("101", " ".join(["0000"] * 8))),
    ],
)
def test_digits_stand_in_fours_and_the_lost_ones_apart(value, base, digits, shown):
    assert groups(value, base, digits) == shown


def test_rows_show_slack_and_the_head(kernel):
    view = OverflowCalculator(kernel, 1 << 61, 8, 24, bits=64)
    unit, thought, given = rows(view.sizes, view.block)
    assert unit == 2
    assert thought == "hhhhhhhhhhhh00001111222233334444"
    assert given == "############++++xxxxxxxxxxxxxxxx"
    assert len(given) == CELLS


def test_rows_end_where_nothing_was_meant(kernel):
    view = OverflowCalculator(kernel, 3, 4, bits=64)
    unit, thought, given = rows(view.sizes, view.block)
    assert (unit, thought, given) == (1, "000011112222" + "." * 20, "############++++" + "." * 16)


def test_numbers_are_typed_in_several_ways(kernel):
    view = OverflowCalculator(kernel, bits=64)
    for typed, n in (("2^62+1", (1 << 62) + 1), ("0x10", 16), ("1,000", 1000), ("2**10-24", 1000)):
        view.act("n", value=typed)
        assert view.sizes.n == n
    view.act("size", value="a lot")
    assert "'a lot' is not a number" in view.text()
    assert view.sizes.size == 16
    view.act("head", value="8")
    assert view.sizes.head == 8
    assert "'a lot'" not in view.text()


def test_a_number_that_no_size_t_holds_is_refused_in_words(kernel):
    view = OverflowCalculator(kernel, 1 << 40, bits=64)
    view.act("bits", value=32)
    assert "n = 1099511627776 is no size_t of 32 bits" in view.text()
    assert view.sizes.bits == 64
    with pytest.raises(ValueError, match="no size_t of 32 bits"):
        OverflowCalculator(kernel, 1 << 40, bits=32)


def test_the_kernel_itself_stays_as_it_is(kernel):
    kernel.kmalloc(8, "GFP_KERNEL")
    before = kernel.snapshot()
    assert OverflowCalculator(kernel).answers
    after = kernel.snapshot()
    assert (after.pages, after.settings) == (before.pages, before.settings)


def test_it_follows_the_kernel_and_shows_a_snapshot(kernel):
    view = OverflowCalculator(kernel, bits=64)
    fresh = kernel.snapshot()
    assert view.block.kind == "loud"
    kernel.kmalloc(1 << 30, "GFP_KERNEL")
    assert view.block.kind == "silent"  # the warning comes once
    view.unfollow()
    view.show(fresh)
    assert view.block.kind == "loud"


def test_the_page_gets_what_the_text_says(kernel):
    view = OverflowCalculator(kernel)
    state, twin = view.state, view.text()
    shown = state["shown"]
    for said in (state["task"], shown["verdict"], shown["lost"], shown["unit"], shown["rest"]):
        assert said in twin
    for one in shown["answers"]:
        assert one["call"] in twin
        assert one["result"] in twin
    assert [one["short"] for one in shown["answers"]] == [True, *[False] * 5]
    assert "".join(sign for sign, _ in shown["given"]) in twin
    assert {mark for _, mark in shown["given"]} == {"asked", "foreign"}


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda k: OverflowCalculator(3), TypeError, "not a value of type int"),
        (lambda k: OverflowCalculator(k, bits=16), ValueError, "bits=16"),
        (lambda k: OverflowCalculator(k, count=3), TypeError, "count"),
        (lambda k: OverflowCalculator(k).act("peek"), ValueError, "there are: n, size"),
        (lambda k: OverflowCalculator(k).act("preset", name="x"), ValueError, "array32"),
    ],
)
def test_what_is_not_there_is_refused(kernel, make, error, words):
    with pytest.raises(error, match=words):
        make(kernel)


# -- the predictions ------------------------------------------------------------------------------


def asked(kernel, sizes, **said):
    """Return the verdicts on answers about some sizes."""
    view = OverflowCalculator(kernel, predict=True)
    view._set(sizes)
    assert view.asking
    assert view.state["shown"] is None
    view.act("commit", answers=said)
    return view.quiz.verdicts


def test_nothing_is_shown_before_the_answers(kernel):
    view = OverflowCalculator(kernel, predict=True, seed=3)
    assert "bytes needed" not in view.text()
    view.act("commit", answers={})
    assert "bytes needed" in view.text()
    assert view.quiz.counts["unknown"] == 2
    view.act("next")
    assert "bytes needed" not in view.text()
    view.act("free_play", on=True)
    assert "bytes needed" in view.text()
    view.act("n", value="7")
    assert not view.asking


def test_free_play_opens_after_the_first_answers(kernel):
    view = OverflowCalculator(kernel, predict=True)
    view.act("free_play", on=True)
    assert view.asking
    assert "Free play opens after the first prediction" in view.text()


def test_other_sizes_ask_anew_and_the_same_ones_do_not(kernel):
    view = OverflowCalculator(kernel, predict=True)
    view.act("unknown")
    view.act("n", value=str(view.sizes.n))
    assert not view.asking
    view.act("n", value="7")
    assert view.asking


def test_sizes_are_dealt_by_the_seed(kernel):
    def dealt(seed):
        view = OverflowCalculator(kernel, predict=True, seed=seed)
        found = [view.sizes]
        for _ in quizzes.CASES[1:]:
            view.act("next")
            found.append(view.sizes)
        return found

    assert dealt(1) == dealt(1) != dealt(2)
    assert set(dealt(1)) == set(quizzes.CASES)


@pytest.mark.parametrize("sizes", quizzes.CASES, ids=str)
def test_the_right_answers_are_right_and_every_other_names_an_idea(kernel, sizes):
    view = OverflowCalculator(kernel, sizes.n, sizes.size, sizes.head, bits=sizes.bits)
    right = {q: one.block.kind for q, one in zip(quizzes.QUESTIONS, view.answers, strict=False)}
    assert all(verdict.right for verdict in asked(kernel, sizes, **right).values())
    for question, kind in right.items():
        for said in set(quizzes.KINDS) - {kind}:
            verdict = asked(kernel, sizes, **{question: said})[question]
            assert verdict.right is False
            assert verdict.idea
            assert "“" in verdict.idea_name


def test_every_idea_of_the_table_is_used():
    named = {key.rpartition(".")[2] for key in keys() if key.startswith("overflow.idea.")}
    assert named == set(quizzes._IDEAS.values())


def test_no_sizes_are_too_small_for_a_size_t():
    with pytest.raises(ValueError, match="size = -1 is no size_t of 64 bits"):
        Sizes(1, -1)
    assert Sizes(5, 0).fit == 5
