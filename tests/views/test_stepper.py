"""Stepper without a browser: one decision a step, back and forth, failures, what it drives."""

import pytest

from kmemkit import Kernel
from kmemkit.snapshot import Snapshot
from kmemkit.views import FreeAreas, PageMap, Stepper
from kmemkit.views.stepper import Walk

pytestmark = pytest.mark.usefixtures("sends_at_once")

WHOLE = """\
step 1 of 4
alloc_pages(GFP_KERNEL, 0) -> pfn 0x0"""


@pytest.fixture
def kernel():
    """Four calls on a small world; the second and the fourth fail."""
    kernel = Kernel(ram="256K")
    kernel.record()
    pfn = kernel.alloc_pages("GFP_KERNEL", 0)
    top = kernel.snapshot().zones[0].max_order
    for _ in range(2):
        while kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", top) is not None:
            pass
        if pfn is not None:
            kernel.free_pages(pfn, 0)
            pfn = None
            kernel.alloc_pages("GFP_KERNEL", 0)
    return kernel


def places(walk, move):
    """Make one move until it changes nothing; return every place on the way."""
    seen = [(walk.index, walk.told)]
    while True:
        move()
        if (walk.index, walk.told) == seen[-1]:
            return seen
        seen.append((walk.index, walk.told))


def test_forward_tells_one_decision_at_a_time(kernel):
    walk = Walk(kernel.history)
    walk.forward()
    assert (walk.index, walk.told) == (1, 0)
    assert len(walk.reasons) > 2
    assert walk.head().endswith("-> ?")
    assert walk.snapshot is walk.steps[0].snapshot
    for told in range(1, len(walk.reasons) + 1):
        assert not walk.complete
        walk.forward()
        assert (walk.index, walk.told) == (1, told)
    assert walk.complete
    assert walk.head() == "alloc_pages(GFP_KERNEL, 0) -> pfn 0x0"
    assert walk.snapshot is walk.steps[1].snapshot


@pytest.mark.parametrize("whole", [False, True])
def test_back_retraces_forward(kernel, whole):
    walk = Walk(kernel.history, whole=whole)
    there = places(walk, walk.forward)
    assert walk.at_end
    assert there[-1] == (walk.last, len(walk.reasons))
    assert len(there) == (len(walk.steps) if whole else len(there))
    assert places(walk, walk.back) == there[::-1]
    assert walk.at_start


def test_seek_goes_to_the_nearest_step(kernel):
    walk = Walk(kernel.history)
    for to, index in [(2, 2), (-5, 0), (999, walk.last)]:
        walk.seek(to)
        assert walk.index == index
        assert walk.complete


def test_jump_to_the_failing_step_wraps_and_says_so(kernel):
    walk = Walk(kernel.history)
    first, second = walk.failing
    walk.next_failing()
    assert (walk.index, walk.note) == (first, "")
    walk.next_failing()
    assert (walk.index, walk.note) == (second, "")
    walk.next_failing()
    assert walk.index == first
    assert (
        walk.note == f"No later step failed, so this is the first failing one again: step {first}."
    )


def test_jump_without_a_failing_step_stays_and_says_so(kernel):
    walk = Walk(kernel.history[:2], at=1)
    walk.next_failing()
    assert walk.index == 1
    assert walk.note == "No step of this history failed."


def test_one_failing_step_is_jumped_to_from_itself(kernel):
    walk = Walk(kernel.history)
    walk.steps = walk.steps[: walk.failing[0] + 1]
    walk.next_failing()
    walk.next_failing()
    assert walk.index == walk.failing[0]
    assert walk.note


def test_a_history_that_grows_keeps_the_place_and_follows_at_the_end(kernel):
    for at, expected in [(1, 1), (2, 3)]:
        walk = Walk(kernel.history[:3], at=at)
        walk.renew(kernel.history[:4])
        assert walk.index == expected
    walk = Walk(kernel.history, at=1)
    walk.back()
    told = walk.told
    walk.renew(kernel.history[1:])
    assert (walk.index, walk.told) == (0, told)
    walk.renew(kernel.history[3:])
    assert walk.at_end


def test_text_says_only_what_is_told(kernel):
    view = Stepper(kernel.history, whole=True)
    view.move("forward")
    assert view.text().startswith(WHOLE.replace("of 4", f"of {view.walk.last}"))
    reasons = view.walk.reasons
    assert [line.split(". ", 1)[1] for line in view.text().splitlines()[2:]] == reasons
    view.move("whole")
    view.move("back")
    assert reasons[-1] not in view.text()
    assert "pfn 0x0" not in view.text().splitlines()[1]
    told = f"{len(reasons) - 1} of {len(reasons)} decisions told; the result comes with the last."
    assert view.text().endswith(told)


def test_export_has_every_call_reason_and_event(kernel):
    exported = Stepper(kernel).export()
    for step in kernel.history:
        assert step.call in exported
        assert step.result in exported
        assert all(str(event) in exported for event in step.events)
        assert step.why is None or all(line in exported for line in step.why.lines())


def test_drives_map_and_free_areas(kernel):
    views = [PageMap(kernel), FreeAreas(kernel)]
    stepper = Stepper(kernel, views=views)
    for move in ("start", "forward", "forward", "end", "back", "failing"):
        stepper.move(move)
        assert all(view.snapshot is stepper.walk.snapshot for view in views)
    stepper.move("start")
    kernel.alloc_pages("GFP_KERNEL", 0)
    assert all(view.snapshot is kernel.history[0].snapshot for view in views)


def test_opens_on_the_last_step_of_a_kernel_and_the_first_of_a_list(kernel):
    assert Stepper(kernel).step == len(kernel.history) - 1
    assert Stepper(kernel.history).step == 0
    assert Stepper(kernel, at=2).step == 2


def test_step_is_a_trait_that_seeks(kernel):
    view = Stepper(kernel.history)
    view.step = 2
    assert view.walk.index == 2
    assert view.state["where"] == view.walk.where()
    view.move("end")
    assert view.step == view.walk.last
    view.step = 999
    assert view.step == view.walk.last


def test_follows_a_kernel_that_starts_to_record_later():
    kernel = Kernel(ram="256K")
    view = Stepper(kernel)
    assert view.text() == "Nothing is recorded yet: call kernel.record() before the requests."
    assert isinstance(view.snapshot, Snapshot)
    kernel.record()
    kernel.alloc_pages("GFP_KERNEL", 1)
    assert view.text().splitlines()[:2] == ["step 1 of 1", "alloc_pages(GFP_KERNEL, 1) -> pfn 0x0"]


def test_page_is_told_what_the_text_says(kernel):
    view = Stepper(kernel)
    for move in ("start", "forward", "forward", "end", "back", "failing", "failing", "failing"):
        view.move(move)
        state = view.state
        told = [f"  {n}. {reason}" for n, reason in enumerate(state["reasons"], 1)]
        head = state["call"]
        if state["pending"] or state["result"]:
            head += " -> " + ("?" if state["pending"] else state["result"])
        lines = [state["where"], head, *told, state["more"], state["note"]]
        assert view.text() == "\n".join(filter(None, lines))


def test_bad_input_is_refused_with_what_is_accepted(kernel):
    with pytest.raises(TypeError, match="Stepper does not know 'speed'; it accepts: source, views"):
        Stepper(kernel, speed=3)
    with pytest.raises(TypeError, match="walks a list of steps .* not a value of type int"):
        Stepper(42)
    with pytest.raises(ValueError, match="there is no move 'sideways'; there are: forward, back"):
        Stepper(kernel).move("sideways")


def test_repr_and_static_output_are_stable_text(kernel):
    view = Stepper(kernel.history)
    assert repr(view) == f"Stepper(start of {len(kernel.history) - 1})"
    data, _ = view._repr_mimebundle_()
    assert data["text/plain"] == view.text()
