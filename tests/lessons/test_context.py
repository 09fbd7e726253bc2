"""Lesson 03: who is reported, what a repair has to do, which functions deadlock, its questions."""

import inspect

import pytest

from kmemkit import GFP_ATOMIC, GFP_KERNEL, GFP_NOFS, GFP_NOWAIT, strings
from kmemkit.lessons import (
    context_calls,
    context_deadlock,
    context_questions,
    context_repair,
    context_worlds,
)
from kmemkit.lessons._check import Outcome
from kmemkit.lessons.context_deadlock import Path
from kmemkit.strings import keys

SEEDS = range(12)


def ideas_used():
    """Return every idea that the lesson's exercises and questions can name."""
    modules = (context_calls, context_deadlock, context_questions, context_repair)
    source = "\n".join(inspect.getsource(module) for module in modules)
    named = {key.rpartition(".")[2] for key in keys() if ".context.idea." in key}
    return {idea for idea in named if f'"{idea}"' in source}, named


def test_every_idea_of_the_table_is_used_and_has_a_name():
    used, named = ideas_used()
    assert used == named
    for idea in named:
        assert "“" in strings.text(f"lesson.context.idea_name.{idea}")


# -- the questions --------------------------------------------------------------------------------


def test_m4_is_named_where_the_flag_is_swapped():
    choice = context_questions.swapped
    letter = next(one for one, option in choice.letters(7).items() if option == "fixed")
    assert "M4, “GFP_NOFS and GFP_NOIO mean" in str(choice.check(letter, 7))


# -- who is reported ------------------------------------------------------------------------------


@pytest.mark.parametrize("call", context_calls._ILLEGAL, ids=str)
def test_what_is_called_illegal_is_reported(call):
    assert call.said()


@pytest.mark.parametrize("call", context_calls._LEGAL, ids=str)
def test_what_is_called_legal_is_not(call):
    assert call.said() == ""


def reported(seed):
    calls = zip("ABCDEFGH", context_calls._calls(seed), strict=True)
    return "".join(letter for letter, call in calls if call.said())


@pytest.mark.parametrize("seed", SEEDS)
def test_the_letters_of_the_reported_are_right_and_no_others(seed):
    right = reported(seed)
    assert len(right) == 4
    assert context_calls.check(right, seed).right
    assert context_calls.check(list(right.lower()), seed).right
    missed = context_calls.check(right[1:], seed)
    assert missed.count(Outcome.WRONG) == 1
    others = context_calls.check("none", seed)
    assert others.count(Outcome.WRONG) == 4
    assert all(v.idea for _, v in others.rows if v.outcome is Outcome.WRONG)


def test_other_answers_about_the_reported():
    assert "not answered yet" in str(context_calls.check(None, 7))
    assert context_calls.check("I do not know", 7).count(Outcome.UNKNOWN) == 8
    assert "A to H" in str(context_calls.check("Z", 7))


def test_the_table_of_verdicts_is_what_the_kernels_say():
    debug = context_worlds.verdicts("GFP_KERNEL", "GFP_NOWAIT").splitlines()
    assert debug[0].split() == ["GFP_KERNEL", "GFP_NOWAIT"]
    assert [line.endswith("silent") for line in debug[1:]] == [True] * 6
    assert sum("BUG: sleeping function" in line for line in debug) == 3
    assert sum("WARNING: inconsistent lock state" in line for line in debug) == 2
    plain = context_worlds.verdicts("GFP_KERNEL", debug=False)
    assert plain.count("silent") == 6


# -- the repair -----------------------------------------------------------------------------------


def as_it_came(kernel, table, pid):
    kernel.spin_lock("table")
    if not table.has(pid):
        page = kernel.alloc_pages(GFP_NOFS)
        table.insert(pid, page)
    kernel.spin_unlock("table")


def before_the_lock(kernel, table, pid):
    page = kernel.alloc_pages(GFP_KERNEL)
    with kernel.spin_lock("table"):
        if page is not None and not table.has(pid):
            table.insert(pid, page)
            page = None
    kernel.free_pages(page, 0)


def with_a_fallback(kernel, table, pid):
    with kernel.spin_lock("table"):
        if table.has(pid):
            return
        page = kernel.alloc_pages(GFP_NOWAIT)
        if page is None:
            table.lost(pid)
        else:
            table.insert(pid, page)


def from_a_reserve(kernel, table, pid, reserve=None):
    page = kernel.alloc_pages(GFP_KERNEL)
    pool = [page]
    with kernel.spin_lock("table"):
        if not table.has(pid):
            table.insert(pid, pool.pop())
    for left in pool:
        kernel.free_pages(left, 0)


@pytest.mark.parametrize("seed", [1, 7])
@pytest.mark.parametrize("repair", [before_the_lock, with_a_fallback, from_a_reserve])
def test_every_way_to_repair_it_is_right(repair, seed):
    assert context_repair.check(repair, seed).right


def leaks(kernel, table, pid):
    page = kernel.alloc_pages(GFP_KERNEL)
    with kernel.spin_lock("table"):
        if not table.has(pid):
            table.insert(pid, page)


def trusts_atomic(kernel, table, pid):
    with kernel.spin_lock("table"):
        if not table.has(pid):
            table.insert(pid, kernel.alloc_pages(GFP_ATOMIC))


def asks_plainly(kernel, table, pid):
    with kernel.spin_lock("table"):
        if not table.has(pid):
            table.insert(pid, kernel.alloc_pages(GFP_KERNEL))


def opens_a_scope(kernel, table, pid):
    with kernel.memalloc_nofs_save():
        asks_plainly(kernel, table, pid)


def looks_first(kernel, table, pid):
    if not table.has(pid):
        page = kernel.alloc_pages(GFP_KERNEL)
        with kernel.spin_lock("table"):
            table.insert(pid, page)


def keeps_the_lock(kernel, table, pid):
    if "table" not in kernel.context.locks:
        kernel.spin_lock("table")
    table.lost(pid)


def keeps_nothing(kernel, table, pid):
    table.lost(pid)


def forgets(kernel, table, pid):
    with kernel.spin_lock("table"):
        page = None if table.has(pid) else kernel.alloc_pages(GFP_NOWAIT)
        if page is not None:
            table.insert(pid, page)


@pytest.mark.parametrize(
    ("function", "parts", "said"),
    [
        (as_it_came, "12", "M4, “GFP_NOFS and GFP_NOIO mean that it cannot sleep.”"),
        (asks_plainly, "12", "“While memory is free, nothing sleeps.”"),
        (opens_a_scope, "12", "M4, “Inside a memalloc scope nothing sleeps.”"),
        (leaks, "4", "“Every page that I allocate is needed.”"),
        (trusts_atomic, "2", "“An atomic request gets its page.”"),
        (forgets, "2", "neither kept nor counted as lost"),
        (looks_first, "3", "“A quick look needs no lock.”"),
        (keeps_the_lock, "34", "still held at the end: table"),
        (keeps_nothing, "4", "not every pid is in the table"),
    ],
)
def test_each_failed_repair_is_told_what_is_wrong(function, parts, said):
    sheet = context_repair.check(function, 7)
    wrong = [label[0] for label, verdict in sheet.rows if verdict.outcome is Outcome.WRONG]
    assert "".join(wrong) == parts
    assert said in " ".join(str(sheet).split())


def test_other_answers_to_the_repair():
    assert "not answered yet" in str(context_repair.check(None, 7))
    assert "three repairs work" in " ".join(str(context_repair.check("?", 7)).split())
    assert "is no function" in str(context_repair.check(3, 7))
    failed = context_repair.check(lambda kernel, table, pid: 1 / 0, 7)
    assert "ZeroDivisionError: division by zero" in str(failed)


def test_pids_come_twice_and_differ_by_the_seed():
    for seed in SEEDS:
        pids = context_repair._pids(seed)
        assert (len(pids), len(set(pids))) == (8, 6)
    assert context_repair.problem(1).lines != context_repair.problem(2).lines


# -- the circle -----------------------------------------------------------------------------------


def test_the_example_is_the_circle_that_the_debug_kernel_found():
    """oracle: GFP_KERNEL under a lock that a shrinker takes; the nofs scope cures it."""
    write, shrink = context_deadlock.EXAMPLE
    assert context_deadlock.cycle((write, shrink)) == ("inode", "fs_reclaim", "inode")
    cured = context_deadlock.scoped(write)
    assert context_deadlock.cycle((cured, shrink)) == ()
    assert "no circle" in context_deadlock.report((cured, shrink))
    assert "flags = memalloc_nofs_save();" in context_deadlock.listing((cured,))


@pytest.mark.parametrize(
    ("steps", "edges"),
    [
        (("lock a", "alloc GFP_KERNEL"), (("a", "fs_reclaim"),)),
        (("lock a", "alloc GFP_NOFS"), ()),
        (("lock a", "alloc GFP_NOIO"), ()),
        (("lock a", "alloc GFP_NOWAIT"), ()),
        (("save", "lock a", "alloc GFP_KERNEL"), ()),
        (("save", "lock a", "restore", "alloc GFP_KERNEL"), (("a", "fs_reclaim"),)),
        (("reclaim", "lock a", "alloc GFP_KERNEL"), (("fs_reclaim", "a"),)),
        (("lock a", "lock b", "alloc GFP_KERNEL"),
         (("a", "b"), ("a", "fs_reclaim"), ("b", "fs_reclaim"))),
    ],
)  # fmt: skip
def test_a_path_waits_for_what_it_asks_for_while_it_holds(steps, edges):
    assert context_deadlock.edges(Path("f", steps)) == edges


def circle(seed):
    paths = context_deadlock._paths(seed)
    inside = (
        letter
        for letter, path in zip("ABCDEF", paths, strict=True)
        if context_deadlock._circles(path, paths)
    )
    return "".join(inside)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_has_one_circle_of_two_or_three(seed):
    right = circle(seed)
    assert len(right) in (2, 3)
    assert context_deadlock.check(right, seed).right
    paths = dict(zip("ABCDEF", context_deadlock._paths(seed), strict=True))
    for letter in right:
        rest = [path for other, path in paths.items() if other != letter]
        assert context_deadlock.cycle(rest) == ()
    wrong = context_deadlock.check("none", seed)
    assert wrong.count(Outcome.WRONG) == len(right)


def test_seeds_differ_in_the_circle_and_in_the_traps():
    assert {len(circle(seed)) for seed in range(30)} == {2, 3}
    ideas = {path.idea for seed in range(60) for path in context_deadlock._paths(seed)}
    assert {"scope_lasts", "nofs_waits_too", "any_allocation", "flag_is_fixed"} <= ideas


def test_each_wrong_letter_names_its_idea():
    for seed in SEEDS:
        right = circle(seed)
        upside_down = [letter for letter in "ABCDEF" if letter not in right]
        sheet = context_deadlock.check(upside_down, seed)
        assert sheet.count(Outcome.WRONG) == 6
        assert all(verdict.idea and verdict.experiment for _, verdict in sheet.rows)


# -- runs that the notebook shows -----------------------------------------------------------------


def test_without_fs_direct_reclaim_writes_no_file_pages():
    told = {
        m: context_worlds.pressure(context_worlds.dirty(), m) for m in ("GFP_KERNEL", "GFP_NOFS")
    }
    assert "pgsteal_direct 0;" not in told["GFP_KERNEL"]
    assert "pgsteal_direct 0;" in told["GFP_NOFS"]
    assert "pgscan_direct 0," not in told["GFP_NOFS"]


def test_without_io_direct_reclaim_swaps_nothing():
    swap = context_worlds.full(swap=True)
    assert "pgsteal_direct 0;" not in context_worlds.pressure(swap, "GFP_NOFS")
    assert "pgsteal_direct 0;" in context_worlds.pressure(swap, "GFP_NOIO")


def test_without_fs_nobody_is_killed():
    full = context_worlds.full()
    assert "Killed process" in context_worlds.kills(full, "GFP_KERNEL")
    for mask in ("GFP_NOFS", "GFP_NOIO"):
        assert context_worlds.kills(full, mask).endswith("never returns")


def test_where_memory_is_short_only_those_who_may_wait_get_a_page():
    for mask, got in ((GFP_NOWAIT, False), (GFP_ATOMIC, False), (GFP_KERNEL, True)):
        assert (context_worlds.short().alloc_pages(mask, 0) is not None) is got
