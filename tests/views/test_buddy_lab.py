"""BuddyLab without a browser: predictions, verdicts, the idea behind each miss, undo, free play."""

import pytest

from kmemkit import Kernel
from kmemkit.snapshot import Kind
from kmemkit.strings import keys
from kmemkit.views import BuddyLab
from kmemkit.views.lab_model import CHOICES, BuddyLabModel, workload
from kmemkit.views.prediction import Answer, Question, parse_answer

pytestmark = pytest.mark.usefixtures("sends_at_once")

MOVABLE = "GFP_HIGHUSER_MOVABLE"


def small(*orders, gfp="GFP_KERNEL", ram="1M"):
    """Return a kernel of 256 pages and the pfns of a few blocks allocated on it."""
    kernel = Kernel(ram=ram)
    return kernel, [kernel.alloc_pages(gfp, order, owner="driver") for order in orders]


def miss(kernel, ask, said):
    """Return the verdict on one prediction, about an allocation (gfp, order) or a free of a pfn."""
    model = BuddyLabModel(kernel)
    if isinstance(ask, tuple):
        model.ask_alloc(*ask)
    else:
        model.ask_free(ask)
    assert model.question, model.message
    model.commit(said)
    return model.verdict


# -- the wrong ideas, each in a world where only it gives the answer ---------------------------------


def free_is_enough():
    kernel, pfns = small(*[0] * 256)
    for pfn in pfns[::2]:
        kernel.free_pages(pfn, 0)
    return kernel, ("GFP_NOWAIT", 1), 0x0


def kept_back():
    kernel = Kernel(ram="64M")
    while kernel.alloc_pages("GFP_NOWAIT", 0) is not None:
        pass
    return kernel, ("GFP_NOWAIT", 0), 0x100


def gives_up():
    return small()[0], ("GFP_KERNEL", 1), Answer.FAILS


def pcp_first():
    kernel = Kernel(ram="64M")
    pfn = kernel.alloc_pages("GFP_KERNEL", 1)
    kernel.free_pages(pfn, 1)
    zone = kernel.snapshot().zone_of(pfn)
    lists = zone.free_lists()
    return kernel, ("GFP_KERNEL", 1), next(lists[o, 0][0] for o in range(1, 11) if (o, 0) in lists)


def page_count():
    return small(0)[0], ("GFP_KERNEL", 1), 0x1


def largest():
    return small(0)[0], ("GFP_KERNEL", 1), 0x20


def part():
    return small()[0], ("GFP_KERNEL", 0), 0x3F


def tail():
    kernel, _ = small(*[0] * 16)
    for pfn in (1, 4, 7):
        kernel.free_pages(pfn, 0)
    zone = kernel.snapshot().zones[0]
    return kernel, ("GFP_KERNEL", 0), zone.free_list(0, 0)[-1]


def lowest():
    kernel, _ = small(*[0] * 16)
    for pfn in (4, 1, 7):
        kernel.free_pages(pfn, 0)
    assert kernel.snapshot().zones[0].free_list(0, 0) == (7, 1, 4)
    return kernel, ("GFP_KERNEL", 0), 0x1


def highest():
    return small(0)[0], ("GFP_KERNEL", 1), 0xFE


def other_type():
    return small(0)[0], ("GFP_KERNEL", 1), 0x40


def smallest_fallback():
    return small(0, gfp=MOVABLE)[0], ("GFP_KERNEL", 0), 0x1


def outside():
    return small()[0], ("GFP_KERNEL", 0), 0x1000


def in_use():
    return small(0)[0], ("GFP_KERNEL", 0), 0x0


def not_free():
    return Kernel(ram="64M"), ("GFP_KERNEL", 0), 0x0


def unaligned():
    return small(0)[0], ("GFP_KERNEL", 1), 0x5


def too_small():
    kernel, pfns = small(0, 0, 0, 0)
    kernel.free_pages(pfns[0], 0)
    return kernel, ("GFP_KERNEL", 2), 0x0


def pcp_keeps():
    kernel = Kernel(ram="64M")
    return kernel, kernel.alloc_pages("GFP_KERNEL", 0), 1


def adjacent():
    kernel, pfns = small(0, 0, 0, 0)
    kernel.free_pages(pfns[2], 0)
    return kernel, pfns[1], 1


def page_count_free():
    return small(2, 2)[0], 0x0, 4


def shrinks():
    return small(2)[0], 0x0, 1


def stays():
    return small(0)[0], 0x0, 0


def once():
    return small(0)[0], 0x0, 1


def no_buddy():
    return small(6)[0], 0x0, 7


def partly_free():
    kernel, pfns = small(1, 0, 0)
    kernel.free_pages(pfns[1], 0)
    return kernel, pfns[0], 2


def buddy_waits():
    kernel = Kernel(ram="64M")
    first = kernel.alloc_pages("GFP_KERNEL", 4)
    # One half of the buddy is handed out, and waits on the per-CPU list again once it is freed.
    kernel.free_pages(kernel.alloc_pages("GFP_KERNEL", 3, owner="driver"), 3)
    return kernel, first, 5


def buddy_busy():
    return small(0, 0)[0], 0x0, 1


IDEAS = (
    *(free_is_enough, gives_up, pcp_first, page_count, largest, part, tail, lowest, highest),
    *(kept_back, other_type, smallest_fallback, outside, in_use, not_free, unaligned, too_small),
    *(
        pcp_keeps,
        adjacent,
        page_count_free,
        shrinks,
        stays,
        once,
        no_buddy,
        partly_free,
        buddy_waits,
        buddy_busy,
    ),
)


@pytest.mark.parametrize("world", IDEAS, ids=lambda world: world.__name__)
def test_idea_behind_a_miss_is_named(world):
    verdict = miss(*world())
    assert (verdict.right, verdict.idea) == (False, world.__name__)
    assert verdict.idea_name.startswith("“")
    assert verdict.idea_text


def test_every_idea_of_the_string_table_is_tested():
    for section in ("buddy_lab.idea.", "buddy_lab.idea_name."):
        named = {key.removeprefix(section) for key in keys() if key.startswith(section)}
        assert named == {world.__name__ for world in IDEAS}


def test_parity_is_explained_with_the_numbers_of_the_case():
    verdict = miss(*adjacent())
    assert verdict.sentence == "You said order 1. It is order 0 = 1 page = 4 kB."
    assert verdict.idea_name == "“Adjacent equal free blocks always merge.”"
    assert (
        "The buddy of 0x1 (order 0 = 1 page = 4 kB) is found by flipping one bit: 0x0, below it"
        in (verdict.idea_text)
    )


def test_fragmentation_is_explained_with_the_numbers_of_the_case():
    verdict = miss(*free_is_enough())
    assert verdict.sentence == "You said pfn 0x0. The kernel gives NULL."
    assert verdict.idea_text.startswith(
        "128 pages are free, but the largest block is order 0 = 1 page"
    )


def test_every_miss_gets_a_sentence_and_no_truth_an_idea():
    """Whatever is said about one request, the verdict agrees with what the kernel did."""
    kernel = Kernel(ram="1M")
    workload(kernel, seed=3)
    start = kernel.snapshot()
    for gfp in CHOICES:
        for order in range(4):
            truth = kernel.clone().alloc_pages(gfp, order)
            for said in (*range(0, 256, 5), truth):
                verdict = miss(kernel, (gfp, order), said)
                assert verdict.right == (said == truth)
                assert bool(verdict.idea) <= (not verdict.right)
                assert f"{truth:#x}" in verdict.sentence
                kernel.restore(start)


# -- the books -------------------------------------------------------------------------------------


def test_prediction_comes_before_the_call():
    model = BuddyLabModel(Kernel(ram="1M"))
    model.ask_alloc("GFP_KERNEL", 2, "driver")
    assert str(model.question) == (
        "Before you step: alloc_pages(GFP_KERNEL, 2) asks for order 2 = 4 pages = 16 kB."
        " Which page frame comes back?"
    )
    assert len(model.kernel.history) == 1
    model.commit(0x0)
    assert model.verdict.right
    assert model.verdict.sentence == "Right: pfn 0x0."
    assert model.kernel.history[-1].call == "alloc_pages(GFP_KERNEL, 2)"
    assert model.kernel.snapshot().page(0).owner == "driver"


def test_predictions_are_counted_also_those_not_known():
    model = BuddyLabModel(Kernel(ram="1M"))
    for said in (0x0, 0x99, Answer.UNKNOWN, Answer.FAILS):
        model.ask_alloc("GFP_KERNEL", 0)
        model.commit(said)
    model.ask_free(0x0)
    model.commit(0)
    assert model.score() == "predictions: 2 right, 2 wrong, 1 not known"


def test_predicting_null_is_right_where_it_fails():
    model = BuddyLabModel(free_is_enough()[0])
    model.ask_alloc("GFP_NOWAIT", 1)
    model.commit(Answer.FAILS)
    assert model.verdict.right
    assert model.verdict.sentence == "Right: NULL."


def test_free_takes_the_whole_block_of_any_page_of_it():
    model = BuddyLabModel(small(3)[0])
    model.ask_free(0x5)
    assert model.question == Question("free_pages(0x0, 3)", 3, pfn=0)
    model.commit(6)
    assert model.verdict.right
    assert model.kernel.snapshot().page(0x5).kind is Kind.FREE


def test_free_play_opens_after_the_first_prediction():
    model = BuddyLabModel(Kernel(ram="1M"))
    model.set_free_play(True)
    assert not model.free_play
    assert model.message == (
        'Free play opens after the first prediction; "I do not know" counts as one.'
    )
    model.ask_alloc("GFP_KERNEL", 0)
    model.commit(Answer.UNKNOWN)
    model.set_free_play(True)
    model.ask_alloc("GFP_KERNEL", 0)
    model.ask_free(0x0)
    assert model.question is None
    assert [step.call for step in model.kernel.history[2:]] == [
        "alloc_pages(GFP_KERNEL, 0)",
        "free_pages(0x0, 0)",
    ]
    assert sum(model.counts.values()) == 1


def test_undo_takes_the_call_out_of_the_machine_and_of_its_history():
    model = BuddyLabModel(Kernel(ram="1M"), seed=7)
    start = model.kernel.snapshot()
    for _ in range(3):
        model.ask_alloc("GFP_KERNEL", 1)
        model.commit(Answer.UNKNOWN)
    for left in (2, 1, 0):
        assert model.can_undo
        model.undo()
        assert len(model.kernel.history) == left + 1
    assert model.kernel.snapshot().pages == start.pages
    assert model.kernel.snapshot().buddyinfo() == start.buddyinfo()
    model.undo()
    assert model.message == "There is no call to take back."
    assert model.counts["unknown"] == 3


def test_reset_and_seed_give_the_same_world_every_time():
    model = BuddyLabModel(Kernel(ram="1M"), seed=7)
    seven = model.kernel.snapshot()
    model.ask_alloc("GFP_KERNEL", 3)
    model.commit(0x0)
    model.reset()
    assert model.kernel.snapshot().pages == seven.pages
    assert (len(model.kernel.history), model.can_undo, model.verdict) == (1, False, None)
    model.reseed(8)
    assert model.kernel.snapshot().pages != seven.pages
    model.reseed(7)
    assert model.kernel.snapshot().pages == seven.pages
    other = Kernel(ram="1M")
    workload(other, 7)
    assert other.snapshot().pages == seven.pages


def test_workload_leaves_free_blocks_of_several_orders_and_all_types():
    kernel = Kernel(ram="1M")
    workload(kernel, 7)
    zone = kernel.snapshot().zones[0]
    assert zone.managed // 3 < zone.free < zone.managed * 2 // 3
    assert {kind for _, kind in zone.free_lists()} == {0, 1, 2}
    assert len({order for order, _ in zone.free_lists()}) >= 4


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda m: m.ask_alloc("GFP_KERNEL", 7),
            "There is no order 7 here: orders go from 0 to order 6",
        ),
        (lambda m: m.ask_free(None), "Nothing is selected"),
        (lambda m: m.ask_free(0x10), "pfn 0x10 is not allocated"),
        (lambda m: m.commit(0x0), "No question is open"),
        (lambda m: (m.ask_free(0), m.commit(Answer.FAILS)), "'fails' is not an order"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(ask, message):
    model = BuddyLabModel(small(0)[0])
    before = model.kernel.snapshot().pages
    ask(model)
    assert model.message.startswith(message)
    assert model.kernel.snapshot().pages == before
    assert not model.unlocked


def test_answers_are_read_as_hex_and_orders_as_decimal():
    alloc, free = Question("", 0), Question("", 0, pfn=0)
    assert parse_answer(alloc, " 0x1F ") == parse_answer(alloc, "1f") == 0x1F
    assert parse_answer(free, "10") == 10
    for question, answer in [
        (alloc, ""),
        (alloc, "0xg"),
        (alloc, "-1"),
        (free, "0x2"),
        (free, "-1"),
    ]:
        with pytest.raises(ValueError, match="is not a(n order| page frame number)"):
            parse_answer(question, answer)


# -- the widget ------------------------------------------------------------------------------------


@pytest.fixture
def lab():
    return BuddyLab(Kernel(ram="1M"), seed=7)


def allocate(lab, order, answer, gfp="GFP_KERNEL"):
    lab.act("allocate", gfp=gfp, order=str(order), owner="driver")
    lab.act("commit", answer=answer)


def test_views_show_one_machine_and_one_selection(lab):
    allocate(lab, 1, "0x0")
    pfn = lab.selected
    assert lab.model.kernel.history[-1].result == f"pfn {pfn:#x}"
    assert lab.map.selected == lab.areas.selected == pfn
    assert lab.map.snapshot is lab.areas.snapshot is lab.model.kernel.history[-1].snapshot
    lab.map.selected = 0x60
    assert lab.areas.selected == lab.selected == 0x60


def test_panel_is_told_question_verdict_and_score(lab):
    lab.act("allocate", gfp="GFP_KERNEL", order="1", owner="driver")
    state = lab._panel.state
    assert state["question"] == str(lab.model.question)
    assert (state["frees"], state["verdict"]) == (False, None)
    lab.map.selected = 0x20
    assert lab._panel.state["picked"] == "0x20"
    lab.act("commit", answer="what?")
    assert lab._panel.state["message"].startswith("'what?' is not a page frame number")
    assert lab.model.question
    lab.act("commit", answer="0x20")
    state = lab._panel.state
    assert state["question"] == ""
    assert state["verdict"]["sentence"] == lab.model.verdict.sentence
    assert state["score"] == "predictions: 0 right, 1 wrong, 0 not known"


def test_free_takes_the_selected_block(lab):
    allocate(lab, 2, "0x0")
    pfn = lab.selected
    assert lab._panel.state["free"] == f"Free {pfn:#x}, order 2 = 4 pages = 16 kB"
    lab.act("free")
    assert lab._panel.state["frees"]
    lab.act("unknown")
    assert lab.model.kernel.history[-1].call == f"free_pages({pfn:#x}, 2)"
    assert not lab._panel.state["can_free"]


def test_no_request_from_the_past(lab):
    allocate(lab, 0, "0x0")
    lab.stepper.move("start")
    lab.act("allocate", gfp="GFP_KERNEL", order="0", owner="driver")
    assert lab._panel.state["message"] == "The map shows the past. Go to the last step to act."
    assert lab._panel.state["past"]
    assert len(lab.model.kernel.history) == 2
    lab.act("undo")
    assert lab.stepper.walk.at_end
    assert not lab._panel.state["past"]


def test_world_button_takes_the_typed_seed_or_the_next(lab):
    lab.act("reseed", seed="7")
    assert lab.model.seed == 8
    lab.act("reseed", seed="7")
    assert lab.model.seed == 7
    lab.act("reseed", seed="x")
    assert lab._panel.state["message"].startswith("'x' is not a seed")


def test_text_twin_has_books_and_views(lab):
    allocate(lab, 1, "0xe0")
    text = lab.text()
    assert text.startswith("seed 7\npredictions: 0 right, 1 wrong, 0 not known\nYou said pfn 0xe0.")
    for part in (lab.map, lab.areas, lab.stepper):
        assert part.text() in text
    assert lab._repr_mimebundle_()[0]["text/plain"] == text
    assert repr(lab) == "BuddyLab(step 1 of 1; predictions: 0 right, 1 wrong, 0 not known)"


def test_bad_input_is_refused_with_what_is_accepted(lab):
    with pytest.raises(TypeError, match="BuddyLab does not know 'sed'; it accepts: kernel, seed"):
        BuddyLab(Kernel(ram="1M"), sed=7)
    with pytest.raises(TypeError, match="plays with a Kernel, not with a value of type Snapshot"):
        BuddyLab(lab.model.kernel.snapshot())
    with pytest.raises(ValueError, match="there is no control 'panic'; there are: allocate, free"):
        lab.act("panic")


def test_closing_takes_every_part_away_and_leaves_the_kernel_alone(lab):
    kernel, parts = lab.model.kernel, [lab, lab.map, lab.areas, lab.stepper, lab.areas._panel]
    assert all(part.comm for part in parts)
    lab.close()
    assert not any(part.comm for part in parts)
    assert kernel.listeners == ()
    kernel.alloc_pages("GFP_KERNEL", 0)


def test_what_ends_the_machine_is_told_and_taken_back():
    kernel = Kernel(ram="256K")
    kernel.record()
    while kernel.alloc_pages("GFP_NOWAIT", 0) is not None:
        pass
    full = kernel.snapshot()
    lab = BuddyLabModel(kernel)
    lab.ask_alloc("GFP_KERNEL", 0)
    lab.commit(Answer.FAILS)
    assert lab.verdict.right
    assert "System is deadlocked on memory" in lab.message
    assert "lesson 07" in lab.message
    assert kernel.snapshot().pages == full.pages
