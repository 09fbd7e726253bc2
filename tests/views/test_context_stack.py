"""ContextStack without a browser: frames, what both kernels do, what helps, and the predictions."""

import pytest

from kmemkit import Kernel
from kmemkit.gfp import encode
from kmemkit.strings import keys
from kmemkit.views import ContextStack
from kmemkit.views import _context_quiz as quizzes
from kmemkit.views._context_runs import FIXES, FRAMES, Stage, play

pytestmark = pytest.mark.usefixtures("sends_at_once")

SLEEPING = "BUG: sleeping function called from invalid context at include/linux/sched/mm.h:321"
LOCKDEP = "WARNING: inconsistent lock state"
SPINLOCK = """\
The stack, innermost first
  spin_lock(&lock)
      Whoever wants the lock spins until it is released. If its holder slept, they would spin for as long.
  process context: init [1] in a system call
      Here the kernel works for a task, and may put it to sleep.
alloc_pages(GFP_KERNEL, 0), order 0 = 1 page = 4 kB
  asked 0xcc0 = GFP_KERNEL
  left  0xcc0 = GFP_KERNEL; the scopes take nothing away
  the kernel sees: context spinlock; task flags none

plain Debian kernel: alloc_pages(GFP_KERNEL, 0) → pfn 0x0
  | (nothing in the kernel log)

debug kernel: alloc_pages(GFP_KERNEL, 0) → pfn 0x0
  | BUG: sleeping function called from invalid context at include/linux/sched/mm.h:321
  | in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 1, name: init
  | preempt_count: 1, expected: 0"""


@pytest.fixture
def kernel():
    return Kernel(ram="256K")


def run(kernel, frames, gfp, *, debug):
    return play(kernel, Stage(tuple(frames), encode(gfp)), debug=debug)


# -- runs: the verdicts that were recorded from a real 6.12, plain and with debug options ----------------

RECORDED = [
    ((), "GFP_KERNEL", ""),
    (("spinlock",), "GFP_KERNEL", SLEEPING),
    (("irqs_off",), "GFP_KERNEL", SLEEPING),
    (("rcu",), "GFP_KERNEL", SLEEPING),
    (("softirq",), "GFP_KERNEL", LOCKDEP),
    (("hardirq",), "GFP_KERNEL", LOCKDEP),
    (("spinlock",), "GFP_ATOMIC|__GFP_DIRECT_RECLAIM", SLEEPING),
    (("spinlock",), "GFP_ATOMIC", ""),
    (("hardirq",), "GFP_ATOMIC", ""),
    (("softirq",), "GFP_NOWAIT", ""),
    (("spinlock", "nofs"), "GFP_KERNEL", SLEEPING),
    (("nofs",), "GFP_KERNEL", ""),
]


@pytest.mark.parametrize(("frames", "gfp", "line"), RECORDED)
def test_the_debug_kernel_says_what_a_real_one_said(kernel, frames, gfp, line):
    debug = run(kernel, frames, gfp, debug=True)
    assert debug.complaint == line
    assert debug.got


@pytest.mark.parametrize(("frames", "gfp", "line"), RECORDED)
def test_the_plain_kernel_says_nothing_and_gives_a_page(kernel, frames, gfp, line):
    plain = run(kernel, frames, gfp, debug=False)
    assert plain.lines == ()
    assert plain.got
    assert not plain.ended


@pytest.mark.parametrize(
    ("frames", "gfp", "left"),
    [
        (("nofs",), "GFP_KERNEL", "GFP_NOFS"),
        (("noio",), "GFP_KERNEL", "GFP_NOIO"),
        (("noio", "nofs"), "GFP_KERNEL", "GFP_NOIO"),
        (("nofs", "noio"), "GFP_KERNEL", "GFP_NOIO"),
        (("nofs",), "GFP_ATOMIC", "GFP_ATOMIC"),
        (("pin",), "GFP_HIGHUSER_MOVABLE", "GFP_HIGHUSER"),
        (("noreclaim",), "GFP_KERNEL", "GFP_KERNEL"),
        (("victim",), "GFP_KERNEL", "GFP_KERNEL"),
    ],
)
def test_scopes_leave_what_linux_leaves(kernel, frames, gfp, left):
    assert run(kernel, frames, gfp, debug=True).left == encode(left)


def test_the_kernel_sees_what_was_pushed(kernel):
    seen = run(kernel, ("nofs", "spinlock", "hardirq"), "GFP_NOWAIT", debug=True)
    assert seen.context == ("spinlock", "hardirq")
    assert seen.sees() == (
        "the kernel sees: context spinlock, hardirq; task flags PF_MEMALLOC_NOFS"
    )
    assert "TIF_MEMDIE" in run(kernel, ("victim",), "GFP_KERNEL", debug=False).sees()
    assert run(kernel, ("reclaimer",), "GFP_KERNEL", debug=False).task_flags & 0x800


def test_reclaim_in_a_hard_interrupt_ends_the_plain_kernel():
    """With free pages nothing happens; short of memory it reclaims, and the machine stops."""
    kernel = Kernel(ram="16M")
    kernel.read_file("64M")
    while kernel.alloc_pages("GFP_NOWAIT|__GFP_NOWARN", 0) is not None:
        pass
    view = ContextStack(kernel, ["hardirq"])
    assert view.runs.plain.complaint == "kernel BUG at kernel/irq_work.c:245!"
    assert view.runs.plain.ended
    assert "the plain kernel ends here" in view.text()


def test_the_kernel_itself_stays_as_it_is(kernel):
    before = kernel.snapshot()
    view = ContextStack(kernel, ["spinlock"])
    assert view.fixes
    after = kernel.snapshot()
    assert (after.pages, after.context, after.settings) == (
        before.pages, before.context, before.settings,
    )  # fmt: skip


# -- what would help ------------------------------------------------------------------------------


def working(view):
    return {fix.key for fix in view.fixes if fix.works}


def test_under_a_lock_swapping_for_nofs_does_not_help(kernel):
    view = ContextStack(kernel, ["spinlock"])
    assert [fix.key for fix in view.fixes] == list(FIXES)
    assert working(view) == {"atomic", "nowait", "before", "reserve"}
    assert f"✗ Swap the flag for GFP_NOFS: alloc_pages(GFP_NOFS, 0) · {SLEEPING}" in view.text()


def test_an_interrupt_handler_cannot_allocate_before_it_began(kernel):
    assert working(ContextStack(kernel, ["hardirq"])) == {"atomic", "nowait", "reserve"}
    both = ContextStack(kernel, ["spinlock", "hardirq", "spinlock"])
    before = next(fix for fix in both.fixes if fix.key == "before")
    assert before.stage.frames == ("spinlock", "hardirq")
    assert not before.works


def test_allocating_before_the_lock_keeps_the_scopes(kernel):
    view = ContextStack(kernel, ["nofs", "rcu", "spinlock"])
    before = next(fix for fix in view.fixes if fix.key == "before")
    assert before.stage.frames == ("nofs",)
    assert before.works


def test_a_swap_keeps_what_else_the_mask_asks_for(kernel):
    view = ContextStack(kernel, ["spinlock"], "GFP_KERNEL|__GFP_ZERO")
    calls = {fix.key: fix.stage.call for fix in view.fixes}
    assert calls["nowait"] == "alloc_pages(GFP_NOWAIT|__GFP_ZERO, 0)"


def test_where_nothing_is_wrong_nothing_is_offered(kernel):
    assert ContextStack(kernel).fixes == ()
    assert ContextStack(kernel, ["hardirq"], "GFP_ATOMIC").fixes == ()


# -- the view -------------------------------------------------------------------------------------


def test_text_says_everything(kernel):
    view = ContextStack(kernel, ["spinlock"])
    assert view.text().startswith(SPINLOCK)
    assert "Illegal: it may sleep, and here nobody may." in view.text()
    assert repr(view) == "ContextStack(alloc_pages(GFP_KERNEL, 0) in: spinlock)"


def test_push_pop_and_request_change_what_is_shown(kernel):
    view = ContextStack(kernel)
    assert "Legal: it may sleep, and here the caller may sleep." in view.text()
    view.push("irqs_off")
    assert view.runs.debug.complaint == SLEEPING
    view.act("gfp", value="GFP_NOWAIT")
    assert "Legal: without __GFP_DIRECT_RECLAIM it never sleeps" in view.text()
    view.act("order", value="3")
    assert "alloc_pages(GFP_NOWAIT, 3), order 3 = 8 pages = 32 kB" in view.text()
    view.pop()
    view.pop()
    assert "Only the task is left, and that stays." in view.text()
    assert view.stage.frames == ()


def test_a_frame_that_cannot_come_here_is_refused_in_words(kernel):
    view = ContextStack(kernel, ["irqs_off"])
    view.push("hardirq")
    assert view.stage.frames == ("irqs_off",)
    assert "hard interrupt cannot be entered here: no hardirq can come now" in view.text()


def test_frames_of_the_kernel_given_are_shown_and_stay(kernel):
    kernel.rcu_read_lock()
    view = ContextStack(kernel)
    assert "as the kernel was given" in view.text()
    assert view.runs.debug.complaint == SLEEPING
    view.pop()
    assert view.runs.debug.complaint == SLEEPING
    kernel.rcu_read_unlock()
    assert view.runs.debug.complaint == ""


def test_it_follows_the_kernel(kernel):
    view = ContextStack(kernel)
    assert view.runs.plain.result == "pfn 0x0"
    kernel.alloc_pages("GFP_KERNEL", 0)
    assert view.runs.plain.result == "pfn 0x1"


def test_it_shows_the_machine_of_a_snapshot_and_stays_there(kernel):
    fresh = kernel.snapshot()
    view = ContextStack(kernel)
    kernel.alloc_pages("GFP_KERNEL", 0)
    view.unfollow()
    kernel.alloc_pages("GFP_KERNEL", 0)
    view.push("spinlock")
    assert view.runs.plain.result == "pfn 0x1"
    view.show(fresh)
    assert view.runs.plain.result == "pfn 0x0"


def test_the_page_gets_what_the_text_says(kernel):
    view = ContextStack(kernel, ["spinlock"])
    shown = view.state["shown"]
    assert shown["legal"] is False
    assert view.state["stack"][0]["label"] == "spin_lock(&lock)"
    for said in (shown["verdict"], shown["sees"], shown["taken"]):
        assert said in view.text()
    assert SLEEPING in shown["kernels"][1]["lines"]
    assert shown["road"]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda k: ContextStack(3), TypeError, "not of a value of type int"),
        (lambda k: ContextStack(k, ["mutex"]), ValueError, "there is no frame 'mutex'"),
        (lambda k: ContextStack(k, order=11), ValueError, "from 0 to 10"),
        (lambda k: ContextStack(k, depth=3), TypeError, "depth"),
        (lambda k: ContextStack(k).act("peek"), ValueError, "there are: push, pop"),
    ],
)
def test_what_is_not_there_is_refused(kernel, make, error, words):
    with pytest.raises(error, match=words):
        make(kernel)


def test_every_frame_can_be_entered_alone(kernel):
    for key in FRAMES:
        view = ContextStack(kernel, [key])
        assert view.runs.plain.got, key


# -- the predictions ------------------------------------------------------------------------------


def asked(kernel, frames, gfp, **answers):
    """Return the verdicts on answers to the questions about one situation."""
    view = ContextStack(kernel, frames, gfp, predict=True)
    assert view.asking
    assert view.state["shown"] is None
    assert "BUG" not in view.text().replace(SLEEPING[:52], "")
    view.act("commit", answers=answers)
    return view.quiz.verdicts


def test_nothing_is_shown_before_the_answers(kernel):
    view = ContextStack(kernel, predict=True, seed=3)
    assert "plain Debian kernel:" not in view.text()
    view.act("commit", answers={})
    assert "plain Debian kernel:" in view.text()
    assert view.quiz.counts["unknown"] == len(view.quiz.verdicts)
    view.act("next")
    assert "plain Debian kernel:" not in view.text()
    view.act("free_play", on=True)
    assert "plain Debian kernel:" in view.text()


def test_free_play_opens_after_the_first_answers(kernel):
    view = ContextStack(kernel, predict=True)
    view.act("free_play", on=True)
    assert view.asking
    assert "Free play opens after the first prediction" in view.text()


def test_a_change_asks_anew(kernel):
    view = ContextStack(kernel, ["spinlock"], predict=True)
    view.act("unknown")
    assert not view.asking
    view.push("rcu")
    assert view.asking


def test_situations_are_dealt_by_the_seed(kernel):
    def dealt(seed):
        view = ContextStack(kernel, predict=True, seed=seed)
        stages = [view.stage]
        for _ in quizzes.CASES[1:]:
            view.act("next")
            stages.append(view.stage)
        return stages

    assert dealt(1) == dealt(1) != dealt(2)
    assert len(set(dealt(1))) == len(quizzes.CASES)


def test_the_right_answers_are_right(kernel):
    verdicts = asked(
        kernel, ["nofs", "spinlock"], "GFP_KERNEL",
        debug="sleeping", plain="silent", taken="__GFP_FS",
    )  # fmt: skip
    assert [verdict.right for verdict in verdicts.values()] == [True, True, True]


@pytest.mark.parametrize("case", quizzes.CASES)
def test_each_situation_has_its_answer_among_the_options(kernel, case):
    frames, gfp = case
    view = ContextStack(kernel, frames, gfp, predict=True)
    view.act("unknown")
    for question in view.quiz.verdicts:
        assert quizzes._truth(view.stage, view.runs, question) in quizzes.options(question)


IDEAS = {
    "atomic_crashes": (["spinlock"], "GFP_KERNEL", "plain", "crash"),
    "plain_checks": (["spinlock"], "GFP_KERNEL", "plain", "sleeping"),
    "scope_stays_awake": (["spinlock", "nofs"], "GFP_KERNEL", "debug", "silent"),
    "nofs_stays_awake": (["spinlock"], "GFP_NOIO", "debug", "silent"),
    "name_decides": (["spinlock"], "GFP_ATOMIC|__GFP_DIRECT_RECLAIM|__GFP_IO|__GFP_FS", "debug",
                     "silent"),
    "memory_is_free": (["rcu"], "GFP_KERNEL", "debug", "silent"),
    "no_allocation_in_atomic": (["hardirq"], "GFP_ATOMIC", "debug", "sleeping"),
    "scope_forbids": (["noio"], "GFP_KERNEL", "debug", "sleeping"),
    "debug_kills": (["spinlock"], "GFP_KERNEL", "debug", "crash"),
    "lockdep_first": (["softirq"], "GFP_KERNEL", "debug", "sleeping"),
    "lockdep_always": (["spinlock"], "GFP_KERNEL", "debug", "lockdep"),
    "scope_takes_sleep": (["nofs"], "GFP_KERNEL", "taken", "__GFP_DIRECT_RECLAIM"),
    "innermost_wins": (["noio", "nofs"], "GFP_KERNEL", "taken", "__GFP_FS"),
    "scope_by_name": (["noio"], "GFP_KERNEL", "taken", "__GFP_MOVABLE"),
    "scope_adds": (["nofs"], "GFP_ATOMIC", "taken", "__GFP_FS"),
    "flag_is_fixed": (["nofs"], "GFP_KERNEL", "taken", "none"),
}  # fmt: skip


@pytest.mark.parametrize("idea", IDEAS)
def test_each_wrong_idea_is_recognised(kernel, idea):
    frames, gfp, question, said = IDEAS[idea]
    verdict = asked(kernel, frames, gfp, **{question: said})[question]
    assert verdict.right is False
    assert verdict.idea == idea
    assert "“" in verdict.idea_name


def test_every_idea_of_the_table_is_tried():
    named = {key.rpartition(".")[2] for key in keys() if key.startswith("context_stack.idea.")}
    assert named == set(IDEAS)
