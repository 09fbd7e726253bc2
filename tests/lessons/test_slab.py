"""Lesson 08: which object is next, the overwritten byte, the slab that stays, layout, questions."""

import inspect

import pytest

from kmemkit import GFP_KERNEL, Kernel, SlabMap, strings
from kmemkit.lessons import (
    slab_damage,
    slab_kept,
    slab_layout,
    slab_next,
    slab_questions,
    slab_worlds,
)
from kmemkit.lessons._check import Outcome
from kmemkit.mm.slab import SLAB_NO_MERGE
from kmemkit.strings import keys

SEEDS = pytest.mark.parametrize("seed", range(8))
MODULES = (slab_damage, slab_kept, slab_layout, slab_next, slab_questions)


def flat(sheet):
    return " ".join(str(sheet).split())


def idea(key):
    return strings.text(f"lesson.slab.idea_name.{key}")


def test_every_idea_of_the_table_is_used_and_has_a_name():
    source = "\n".join(inspect.getsource(module) for module in MODULES)
    named = {key.rpartition(".")[2] for key in keys() if ".slab.idea." in key}
    assert {one for one in named if f'"{one}"' in source} == named
    for one in named:
        assert "“" in idea(one)


@pytest.mark.parametrize("module", [slab_damage, slab_kept, slab_layout, slab_next])
def test_a_seed_gives_one_problem_and_another_seed_another(module):
    show = module.log if module is slab_damage else module.problem
    assert str(show(3)) == str(show(3)) != str(show(4))
    assert "not answered yet" in str(module.check(None, 3))
    assert "give a list" in str(module.check("5", 3))


# -- the machines ---------------------------------------------------------------------------------


def test_fourteen_slabs_are_full_and_the_last_is_the_cpus():
    world = slab_worlds.frames(14)
    assert [len(slab) for slab in world.slabs] == [4] * 14
    told = slab_worlds.slabs(world.kernel, world.cache)
    assert told == "14 slabs: 1 of the CPU, 0 on its partial list, 0 on the node's, 13 on no list"
    world.kernel.kmem_cache_free(world.cache, world.slabs[0][0])
    assert "1 on its partial list" in slab_worlds.slabs(world.kernel, world.cache)


def test_where_pages_are_scattered_a_smaller_slab_has_to_do():
    kernel = slab_worlds.in_pieces()
    cache = kernel.kmem_cache_create("packet", 2048, 0, SLAB_NO_MERGE)
    kernel.record()
    assert kernel.kmem_cache_alloc(cache, GFP_KERNEL) is not None
    first, second = slab_worlds.attempts(kernel).splitlines()
    assert first.startswith("order 2 ")
    assert first.endswith(": no block")
    assert "RECLAIM" not in first
    assert second == "order 0 = 1 page = 4 kB, GFP_KERNEL|__GFP_COMP: a block"


def test_a_report_leaves_out_the_call_traces():
    kernel = Kernel(ram="16M")
    cache = kernel.kmem_cache_create("session", 500, 0, SLAB_NO_MERGE)
    assert slab_worlds.first_line(kernel) == "(nothing in the kernel log)"
    kernel.kmem_cache_alloc(cache, GFP_KERNEL)
    kernel.kmem_cache_destroy(cache)
    lines = slab_worlds.report(kernel).splitlines()
    assert slab_worlds.first_line(kernel) in lines
    assert not [line for line in lines if "Call Trace" in line or "cut here" in line]
    assert [line for line in lines if line.startswith("WARNING")] == [
        "WARNING: CPU: 0 PID: 1 at mm/slub.c:1152 __kmem_cache_shutdown",
        "WARNING: CPU: 0 PID: 1 at mm/slab_common.c:548 kmem_cache_destroy",
    ]
    assert slab_worlds.slabinfo(kernel, "session").splitlines()[1:] == []


def test_layouts_are_those_of_the_files():
    kernel = Kernel(ram="16M")
    kernel.kmem_cache_create("session", 500, 0, SLAB_NO_MERGE)
    rows = [line.split() for line in slab_worlds.layouts(kernel, "session").splitlines()]
    assert rows[1] == ["session", "500", "504", "0", "8"]
    assert slab_worlds.attributes(kernel, "session", "slab_size").split() == ["slab_size", "504"]


# -- which object is next -------------------------------------------------------------------------


def places(seed):
    return [slab_next._name(one.before, one.got) for one in slab_next._Run(seed).asked]


@SEEDS
def test_the_next_objects_are_those_that_the_calls_return(seed):
    answers = places(seed)
    assert slab_next.check(answers, seed).right
    run = slab_next._Run(seed)
    results = [step.result for step in run.kernel.history if "alloc" in step.call]
    got = [f"{one.got:#x}" for one in run.asked]
    assert [got[0], got[-1]] == [results[0], results[-1]]
    # What was freed of another slab in part 3 comes last, when the CPU's own list is used up.
    assert run.asked[-1].got == run.asked[2].freed
    assert run.asked[1].got == run.asked[1].freed


@SEEDS
def test_each_wrong_object_names_its_idea(seed):
    asked = slab_next._Run(seed).asked
    before = asked[0].before
    mine = slab_next._cpu_list(before)
    last = slab_next._name(before, mine[-1])
    assert slab_next._check_one(asked[0], last).idea == idea("first_freed")
    rank = f"{slab_next._place(before, asked[0].got)[0]:#x} 1"
    if rank != slab_next._name(before, asked[0].got):
        assert slab_next._check_one(asked[0], rank).idea == idea("rank_is_number")
    spare = slab_next._packet(before).cpus[0].partial
    assert slab_next._check_one(asked[0], f"{spare[0]:#x} 0").idea == idea("holes_first")
    other = slab_next._name(asked[2].before, asked[2].freed)
    assert slab_next._check_one(asked[2], other).idea == idea("last_freed_anywhere")
    assert slab_next._check_one(asked[4], "new").idea == idea("new_slab_next")
    assert slab_next._check_one(asked[4], f"{spare[0]:#x} 0").idea == idea("oldest_slab")
    used = slab_next._name(asked[4].before, asked[0].got)
    assert slab_next._check_one(asked[4], used).idea == idea("in_use_too")


def test_the_lowest_object_is_an_idea_of_its_own():
    for seed in range(8):
        asked = slab_next._Run(seed).asked[0]
        mine = [slab_next._name(asked.before, at) for at in slab_next._cpu_list(asked.before)]
        lowest = min(mine)
        if lowest not in (mine[0], mine[-1]):
            assert slab_next._check_one(asked, lowest).idea == idea("lowest_object")
            return
    pytest.fail("no seed has its lowest object in the middle of the list")


def test_the_run_is_shown_when_every_prediction_is_made():
    assert "when every answer is there" in str(slab_next.reveal([None] * 5, 7))
    assert "when every answer is there" in str(slab_next.reveal(["?"] * 4, 7))
    shown = slab_next.reveal(["?"] * 5, 7)
    assert isinstance(shown, SlabMap)
    assert "step 0 of" in shown.text()
    assert shown.text().startswith(slab_next.look(7).text().rstrip())


def test_other_answers_about_the_next_object():
    sheet = slab_next.check(["?", "5", (0x403, 5)], 7)
    outcomes = [verdict.outcome for _, verdict in sheet.rows]
    assert outcomes[:2] == [Outcome.UNKNOWN, Outcome.OPEN]
    assert outcomes[3:] == [Outcome.OPEN] * 2
    assert "is no object" in flat(sheet)
    assert slab_next.check([("0x403", 5)], 7).rows[0] == slab_next.check(["0x403 5"], 7).rows[0]
    assert slab_next.check([(None, None)], 7).rows[0][1].outcome is Outcome.OPEN


# -- 1: the overwritten byte ----------------------------------------------------------------------


@SEEDS
def test_the_report_is_the_kernels_without_its_first_line(seed):
    cases = slab_damage._cases(seed)
    log = slab_damage.log(seed)
    assert "overwritten" not in log
    assert "Restoring" not in log
    assert log.count("Object corrupt") == 3
    assert sorted(case.access for case in cases).count("after_free") == 1
    assert slab_damage.check([case.what for case in cases], seed).right


@SEEDS
def test_the_byte_in_the_dump_is_the_one_that_is_asked_for(seed):
    """Find the byte as a learner does: in the lines of the report."""
    patterns = {"left": "cc", "right": "cc", "kmalloc": "cc", "poison": "6b", "padding": "5a"}
    for case in slab_damage._cases(seed):
        start = next(line for line in case.lines if line.startswith("Object 0x"))
        at, inside = int(start.split()[1], 16), int(start.split("@offset=")[1].split()[0])
        assert (inside - case.left) // case.pitch == case.number
        rows = [line.split(": ") for line in case.lines if ": " in line and "BUG" not in line]
        memory = {
            int(head.split()[1], 16) + n: byte
            for head, data in rows
            for n, byte in enumerate(data[:47].split())
        }
        assert memory[at + case.byte] != patterns[case.area]
        assert memory.get(at + case.byte - 1) in (patterns[case.area], "a5", None)


def case_of(area):
    cases = (case for seed in range(20) for case in slab_damage._cases(seed))
    return next(case for case in cases if case.area == area and case.number > 1)


@pytest.mark.parametrize("area", ["left", "right", "kmalloc", "poison", "padding"])
def test_each_part_of_an_answer_is_judged(area):
    case = case_of(area)

    def said(number=case.number, byte=case.byte, where=case.area, access=case.access):
        return slab_damage._check_one(case, f"object {number}, byte {byte}, {where}, {access}")

    words = {"over": "overflow", "under": "underflow", "after_free": "use after free"}
    assert said(access=words[case.access]).outcome is Outcome.RIGHT
    assert said(number=case.number + 1, access="overflow").idea == idea("counts_from_one")
    far = said(byte=case.in_slab, access="overflow")
    assert far.idea == idea("offset_is_byte")
    other = said(where="poison" if area != "poison" else "right", access="overflow")
    assert other.outcome is Outcome.WRONG
    assert other.idea
    ideas = {
        "over": {"underflow": "ends_are_alike", "use-after-free": "freed_is_cc"},
        "under": {"overflow": "left_is_neighbour", "uaf": "freed_is_cc"},
        "after_free": {"overflow": "neighbour_did_it", "underflow": "neighbour_did_it"},
    }
    for word, key in ideas[case.access].items():
        assert said(access=word).idea == idea(key)


def test_more_ideas_about_bytes():
    left, poison = case_of("left"), case_of("poison")
    half = f"object {left.number}, byte {{}}, left red zone, underflow"
    assert slab_damage._check_one(left, half.format(-left.byte)).idea == idea("no_byte_before")
    zone = f"object {poison.number}, byte {poison.byte + poison.left}, poison, use after free"
    assert slab_damage._check_one(poison, zone).idea == idea("counts_from_red_zone")
    digits = next(
        case for seed in range(20) for case in slab_damage._cases(seed)
        if case.byte > 9 and f"{case.byte:x}".isdigit()
    )  # fmt: skip
    typed = f"object {digits.number}, byte {digits.byte:x}, {digits.area}, overflow"
    assert slab_damage._check_one(digits, typed).idea == idea("hex_is_decimal")
    at = poison.in_slab - poison.byte
    touch = f"object {at // poison.size}, byte 0, poison, overflow"
    if at // poison.size not in (poison.number, poison.number + 1):
        assert slab_damage._check_one(poison, touch).idea == idea("objects_touch")


def test_other_answers_about_the_byte():
    case = case_of("kmalloc")
    whole = f"kmalloc-64 object {case.number}; {case.byte:+#x}; kmalloc red zone; overflow"
    assert slab_damage._check_one(case, whole).outcome is Outcome.RIGHT
    parts = (case.number, hex(case.byte), "kmalloc redzone", "past the end")
    assert slab_damage._check_one(case, parts).outcome is Outcome.RIGHT
    zeroes = f"object 0{case.number}, byte {case.byte:+#06x}, kmalloc red zone, overflow"
    assert slab_damage._check_one(case, zeroes).outcome is Outcome.RIGHT
    assert slab_damage._check_one(case, "?").outcome is Outcome.UNKNOWN
    assert "does not say all four" in flat(slab_damage._check_one(case, "object 3, overflow"))


# -- 2: the slab that is not freed ----------------------------------------------------------------


def answers_of(run):
    words = {
        "freed": "freed", "object": "object", "cpu_slab": "CPU slab", "cpu_list": "cpu-list",
        "node": "node",
    }  # fmt: skip
    return [*(words[run.reasons[slab]] for slab in run.asked), run.shrunk]


@SEEDS
def test_every_reason_comes_up_and_is_what_the_machine_says(seed):
    run = slab_kept._Run.of(seed)
    assert {run.reasons[slab] for slab in run.asked} == set(slab_kept._WORDS)
    assert slab_kept.check(answers_of(run), seed).right
    cache = slab_kept._frame(run.after)
    kept = [reason for reason in run.reasons.values() if reason != "freed"]
    assert len(kept) == len(cache.slabs)
    assert run.shrunk == kept.count("object")
    # The node keeps an empty slab only where it had fewer than min_partial before.
    assert kept.count("node") <= cache.min_partial


@pytest.mark.parametrize(
    ("said", "reason", "key"),
    [
        ("freed", "object", "rest_is_free"),
        ("object", "node", "empty_has_objects"),
        ("freed", "node", "empty_is_freed"),
        ("node", "freed", "lists_are_endless"),
        ("node", "cpu list", "node_at_once"),
        ("cpu list", "node", "cpu_keeps_all"),
        ("cpu slab", "cpu list", "one_cpu_list"),
    ],
)
def test_each_wrong_reason_names_its_idea(said, reason, key):
    run = slab_kept._Run.of(7)
    slab = next(s for s, why in run.reasons.items() if why == reason.replace(" ", "_"))
    verdict = slab_kept._check_slab(run, slab, said)
    assert verdict.outcome is Outcome.WRONG
    assert verdict.idea == idea(key)
    assert verdict.experiment


def test_each_wrong_number_of_slabs_names_its_idea():
    run = slab_kept._Run.of(7)
    reasons = list(run.reasons.values())
    spared = reasons.count("cpu_slab") + reasons.count("cpu_list")
    for said, key in (
        (0, "shrink_takes_all"),
        (len(slab_kept._frame(run.after).slabs), "shrink_is_nothing"),
        (run.shrunk + spared, "shrink_spares_cpu"),
        (6, "shrink_spares_node"),
        (1, "shrink_moves"),
    ):
        assert slab_kept._check_shrink(run, said).idea == idea(key)
    assert slab_kept._check_shrink(run, "much").outcome is Outcome.OPEN
    assert slab_kept._check_shrink(run, "?").outcome is Outcome.UNKNOWN


def test_what_was_left_is_shown_at_the_end():
    assert "when every answer is there" in str(slab_kept.reveal([None] * 7, 7))
    shown = slab_kept.reveal(["?"] * 7, 7)
    assert "2 of 36 objects in use" in shown.text()
    assert "none of the answers" in flat(slab_kept.check(["perhaps"], 7))


# -- 3: layout ------------------------------------------------------------------------------------


@SEEDS
def test_layouts_and_pairs_are_the_kernels(seed):
    calls, pairs = slab_layout._parts(seed)
    answers = [" ".join(map(str, call.layout())) for call in calls]
    answers += ["yes" if pair.shared else "No." for pair in pairs]
    assert slab_layout.check(answers, seed).right
    # One pair is merged, and each other difference keeps two caches apart.
    assert [pair.shared for pair in pairs].count(True) == 1
    merged = {"sizes_must_match", "flags_must_match"}
    assert all(pair.shared == (pair.idea in merged) for pair in pairs)


@SEEDS
def test_the_rule_that_the_problem_states_gives_the_order(seed):
    """At least 16 objects where order 3 has room for them, a sixteenth unused at most."""
    for call in slab_layout._parts(seed)[0]:
        size, order, objects = call.layout()
        wanted = min(16, 32768 // size)
        fitting = [
            n for n in range(4)
            if (4096 << n) // size >= wanted and (4096 << n) % size <= (4096 << n) // 16
        ]  # fmt: skip
        assert order == fitting[0]
        assert objects == (4096 << order) // size


CALL = slab_layout._Call


@pytest.mark.parametrize(
    ("call", "said", "key"),
    [
        (CALL(49), "49 0 83", "size_as_asked"),
        (CALL(49), "64 0 64", "pointer_is_outside"),
        (CALL(41), "64 0 64", "sizes_are_classes"),
        (CALL(49), "56 0 83", "size_as_asked"),
        (CALL(49), "56 0 72", "slab_has_a_head"),
        (CALL(81, 0, "SLAB_HWCACHE_ALIGN"), "88 0 46", "align_is_a_wish"),
        (CALL(20, 0, "SLAB_HWCACHE_ALIGN"), "64 0 64", "always_a_line"),
        (CALL(96, 0, "0", True), "96 0 42", "pointer_is_inside"),
        (CALL(96, 0, "SLAB_TYPESAFE_BY_RCU"), "96 0 42", "pointer_is_inside"),
        (CALL(1150), "1152 0 3", "one_page_each"),
        (CALL(1150), "1152 3 3", "one_page_each"),
    ],
)
def test_each_wrong_layout_names_its_idea(call, said, key):
    verdict = slab_layout._check_call(call, said)
    assert verdict.outcome is Outcome.WRONG
    assert verdict.idea == idea(key)


def test_other_answers_about_layout():
    calls, pairs = slab_layout._parts(7)
    assert slab_layout._check_call(calls[0], calls[0].layout()).outcome is Outcome.RIGHT
    assert "is not three numbers" in flat(slab_layout._check_call(calls[0], "96"))
    assert slab_layout._check_call(calls[0], "?").outcome is Outcome.UNKNOWN
    assert "neither yes nor no" in flat(slab_layout._check_pair(pairs[0], "perhaps"))
    assert slab_layout._check_pair(pairs[0], "?").outcome is Outcome.UNKNOWN
    wrong = slab_layout._check_pair(pairs[0], "no" if pairs[0].shared else "yes")
    assert wrong.idea == idea(pairs[0].idea)
