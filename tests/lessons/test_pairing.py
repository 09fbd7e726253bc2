"""Lesson 11: the chosen function, the verdicts, the leaks that are read from a list."""

import inspect
import re

import pytest

from kmemkit import GFP_KERNEL, Oops, strings
from kmemkit.lessons import (
    pairing_check,
    pairing_choose,
    pairing_drivers,
    pairing_leaks,
    pairing_questions,
    pairing_runs,
    pairing_verdicts,
    pairing_worlds,
)
from kmemkit.lessons._check import Outcome
from kmemkit.lessons.pairing_drivers import CallLine, Driver
from kmemkit.strings import keys

SEEDS = pytest.mark.parametrize("seed", range(6))
#: What a developer who knows all pairs would write, by the end of the line.
RIGHT = {
    "nobody looks */": "kfree(p);",
    "to 8 << 20 */": "kvfree(p)",
    "__get_free_pages(GFP_KERNEL, 3);": "free_pages((unsigned long)p, 3)",
    "kmem_cache_alloc(cache, GFP_KERNEL);": "kvfree",
    "kzalloc(64, GFP_KERNEL);": "kfree_sensitive(p)",
    "kmalloc(1 << 20, GFP_KERNEL);": "kfree",
    "vmalloc(12288);": "vfree(p)",
    "alloc_pages_exact(20480, GFP_KERNEL);": "free_pages_exact(p, 20480)",
}


def flat(sheet):
    return " ".join(str(sheet).split())


def wrong_parts(sheet):
    return "".join(label[0] for label, one in sheet.rows if one.outcome is Outcome.WRONG)


def test_every_idea_of_the_table_is_used_and_has_a_name():
    modules = (pairing_choose, pairing_verdicts, pairing_leaks, pairing_questions)
    source = "\n".join(inspect.getsource(module) for module in modules)
    named = {key.rpartition(".")[2] for key in keys() if ".pairing.idea." in key}
    assert {idea for idea in named if f'"{idea}"' in source} == named
    for idea in named:
        assert "“" in strings.text(f"lesson.pairing.idea_name.{idea}")


# -- the worlds -----------------------------------------------------------------------------------


def test_on_the_fragmented_machine_no_block_of_two_pages_is_free():
    kernel = pairing_worlds.fragmented()
    assert kernel.zones[0].free_pages > 1000
    assert {order for order, _ in kernel.snapshot().zones[0].free_lists()} == {0}
    p = kernel.kvmalloc(8192, GFP_KERNEL)
    assert kernel.is_vmalloc_addr(p)
    with pytest.raises(Oops):
        kernel.kfree(p)


def test_wrong_ones_say_the_end_the_memory_and_the_first_line():
    cells = [("pages3", "kfree"), ("pages3", "free_pages_smaller"), ("NULL", "kmem_cache_free_own")]
    lines = pairing_worlds.wrong_ones("plain", cells).splitlines()
    assert lines[0] == "p = (void *)__get_free_pages(GFP_KERNEL, 3); kfree(p);"
    assert lines[1].startswith("    report, 1 of 8: WARNING: CPU: 0 ")
    assert lines[3] == "    silent, 4 of 8: (nothing in the kernel log)"
    assert lines[5].startswith("    oops: BUG: unable to handle page fault")


def test_of_a_dumped_page_the_reason_is_shown():
    outcome = pairing_check.played("kasan", "kmalloc3p", "free_pages_smaller")
    assert outcome.report_first_line.startswith("page: refcount")
    assert pairing_check.headline(outcome).startswith("page dumped because: VM_BUG_ON_PAGE(")


def test_who_sees_asks_every_kernel():
    lines = pairing_worlds.who_sees(["kfree_plus8"], ["plain", "slabdbg"]).splitlines()
    assert lines[0] == "kfree(p + 8);"
    assert lines[1].split("  ")[-1].strip() == "(nothing in the kernel log)"
    assert "Invalid object pointer" in lines[2]


# -- 1: the function ------------------------------------------------------------------------------


@SEEDS
def test_who_knows_the_pairs_is_right_and_kfree_is_not_enough(seed):
    lines = pairing_choose.problem(seed).lines[1:]
    assert len(lines) == 6
    answers = [next(a for end, a in RIGHT.items() if line.endswith(end)) for line in lines]
    assert pairing_choose.check(answers, seed).right
    kfree = pairing_choose.check(["kfree(p)"] * 6, seed)
    assert kfree.count(Outcome.RIGHT) in (1, 2, 3)
    for label in wrong_parts(kfree):
        assert "kzalloc" not in lines[int(label) - 1]


@pytest.mark.parametrize(
    ("sources", "answer", "said"),
    [
        (("kvmalloc64", "kvmalloc8m"), "kfree", "M6, “It has always worked, so it is right.”"),
        (("kvmalloc64", "kvmalloc8m"), "vfree(p)", "M6, “Any free function works.”"),
        (("cache", "NULL"), "kmem_cache_free(cache, p)", "“Freeing NULL is always fine.”"),
        (("pages3",), "free_pages(p, 0)", "the order is too small."),
        (("pages3",), "free_page(p)", "M6, “free_pages() knows how large the block is.”"),
        (("pages3",), "__free_pages(page, 4)", "the order is too large."),
        (("pages3",), "kfree(p)", "only 1 of 8 pages are back"),
        (("kmalloc1m",), "kmem_cache_free(cache, p)", "“kmem_cache_free() takes what fits"),
        (("kmalloc1m",), "free_pages(p, 8)", "slab pages is off by +256"),
        (("exact5",), "free_pages(p, 3)", "“alloc_pages_exact() gives a block of an order.”"),
        (("exact5",), "free_pages_exact(p, 4096)", "frees as many as its size says: 1"),
    ],
)
def test_each_wrong_function_names_its_idea(sources, answer, said):
    function = pairing_check.read_freeing(answer)
    verdict = pairing_choose.check_freeing(function, sources)
    assert verdict.outcome is Outcome.WRONG
    assert said in flat(verdict)


def test_every_situation_has_a_right_function():
    for one in (*pairing_choose._ALWAYS, *pairing_choose._SOME):
        answer = next(a for end, a in RIGHT.items() if one.code.endswith(end))
        function = pairing_check.read_freeing(answer)
        assert pairing_choose.check_freeing(function, one.sources).outcome is Outcome.RIGHT


@pytest.mark.parametrize("size", ["20480", "0x5000", "20000", "5 * PAGE_SIZE", "PAGE_SIZE*5"])
def test_an_exact_size_may_be_written_in_many_ways(size):
    function = pairing_check.read_freeing(f"free_pages_exact(p, {size});")
    assert pairing_choose.check_freeing(function, ("exact5",)).outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("free_pages_exact", "says no size"),
        ("free_pages_exact(p, big)", "says no size"),
        ("kmem_cache_free(p)", "says no cache: kmem_cache_free() has to be told"),
    ],
)
def test_what_a_function_needs_besides_the_address_must_be_said(answer, said):
    assert said in flat(pairing_choose.check([answer], 7))


def test_other_answers_about_functions():
    sheet = pairing_choose.check([None, "?", "free", "free_pages(p)", 3], 7)
    outcomes = [verdict.outcome for _, verdict in sheet.rows]
    assert outcomes == [Outcome.OPEN, Outcome.UNKNOWN, *[Outcome.OPEN] * 4]
    assert "'free' is none of the functions: kfree, kvfree" in flat(sheet)
    assert "says no order" in flat(sheet)


# -- 2: the verdicts ------------------------------------------------------------------------------


@SEEDS
def test_verdicts_are_what_the_pairs_give(seed):
    pairs = pairing_verdicts._pairs(seed)
    truth = [pairing_check.played(*pair).verdict for pair in pairs]
    assert pairing_verdicts.check(truth, seed).right
    assert {"ok", "oops", "report", "silent"} <= set(truth)
    upper = [f" {verdict.upper()}. " for verdict in truth]
    assert pairing_verdicts.check(upper, seed).right


def test_each_pool_has_pairs_of_its_own_kind():
    kinds = [{pairing_check.played(*pair).verdict for pair in p} for p in pairing_verdicts._POOLS]
    assert kinds[:5] == [{"ok"}, {"oops"}, {"oops"}, {"report"}, {"silent"}]
    for kernel, allocator, freer in pairing_verdicts._POOLS[5]:
        here = pairing_check.played(kernel, allocator, freer).verdict
        assert here != pairing_check.played("plain", allocator, freer).verdict


@pytest.mark.parametrize(
    ("pair", "answer", "said"),
    [
        (("plain", "cache", "kfree"), "report", "“Every allocator has one freeing function, and"),
        (("plain", "kvmalloc64", "kfree"), "oops", "M6, “A wrong pair shows at once.”"),
        (("plain", "NULL", "vfree"), "oops", "“NULL must be tested before it is freed.”"),
        (("plain", "NULL", "kmem_cache_free_own"), "ok", "“Freeing NULL is always fine.”"),
        (("plain", "ERR_PTR", "kfree"), "ok", "“An error pointer is as harmless as NULL.”"),
        (("plain", "vmalloc3p", "kfree"), "ok", "M6, “Any free function works.”"),
        (
            ("plain", "vmalloc3p", "kfree"),
            "report",
            "“A wrong free is a line in the log, no more.”",
        ),
        (("plain", "kmalloc64", "vfree"), "silent", "“A plain kernel says nothing.”"),
        (("plain", "kmalloc64", "vfree"), "panic", "“A wrong free crashes.”"),
        (("plain", "pages3", "free_pages_smaller"), "ok", "“What the kernel says nothing about"),
        (("plain", "pages3", "free_pages_smaller"), "report", "“The kernel would say something.”"),
        (("kasan", "kmalloc3p", "free_pages_smaller"), "silent", "“What one kernel says, every"),
    ],
)
def test_each_wrong_verdict_names_its_idea(pair, answer, said):
    verdict = pairing_verdicts._check_one(pairing_verdicts._Pair(*pair), answer)
    assert verdict.outcome is Outcome.WRONG
    assert said in flat(verdict)


def test_every_wrong_verdict_has_an_idea():
    for pair in {pair for pool in pairing_verdicts._POOLS for pair in pool}:
        for said in pairing_verdicts.VERDICTS:
            verdict = pairing_verdicts._check_one(pair, said)
            assert verdict.outcome is Outcome.RIGHT or verdict.idea, (pair, said)


def test_other_answers_about_verdicts():
    sheet = pairing_verdicts.check([None, "I do not know", "boom"], 7)
    outcomes = [verdict.outcome for _, verdict in sheet.rows]
    assert outcomes == [Outcome.OPEN, Outcome.UNKNOWN, *[Outcome.OPEN] * 4]
    assert "'boom' is no verdict: give one of ok, silent, report" in flat(sheet)


# -- 3: the leaks ---------------------------------------------------------------------------------

#: code of the line that loses the block -> what would have freed it
LOSES = {
    "nic->ring = krealloc(nic->ring, n * 16, GFP_KERNEL);": "kfree",
    "return err;": "kfree(line)",
    "nic->fw = vmalloc(size);": "vfree",
    "return -ENETDOWN;": "kmem_cache_free(cmd_cache, cmd)",
    "nic->log = NULL;": "kvfree",
    "kfree(rule);": "kfree",
}


@pytest.mark.parametrize("seed", range(20))
def test_a_scan_after_each_line_finds_the_one_that_lost_it(seed):
    driver = Driver.of(seed)
    run = pairing_runs.run(driver)
    assert len(run.leaks) == run.report.count("unreferenced object") == 2
    codes = [driver.lines[leak.lost - 1].strip() for leak in run.leaks]
    answers = [(leak.lost, LOSES[code]) for leak, code in zip(run.leaks, codes, strict=True)]
    assert pairing_leaks.check(answers, seed).right
    worded = [f"line {line}: {function}" for line, function in answers]
    assert pairing_leaks.check(worded, seed).right
    assert {driver.part_of(leak.lost) for leak in run.leaks} == set(driver.leaking)


@pytest.mark.parametrize("part", pairing_drivers._PARTS, ids=lambda part: part.calls[0][:10])
def test_each_part_is_leak_free_as_it_should_be(part):
    calls = [CallLine("nic_open(nic, 16)")]
    *before, last = (call.format(size=part.sizes[0]) for call in part.calls)
    calls += [*map(CallLine, before), CallLine(last, part.happens)]
    code = f"{pairing_drivers._OPEN}\n\n{part.code}"
    right = Driver(tuple(code.split("\n")), tuple(calls), ())
    assert pairing_runs.run(right) == pairing_runs.Run("", ())
    assert code.count(part.fault[0]) == 1
    broken = code.replace(*part.fault)
    leaks = pairing_runs.run(Driver(tuple(broken.split("\n")), tuple(calls), (part,))).leaks
    assert [broken.split("\n")[leak.lost - 1].strip() in LOSES for leak in leaks] == [True]


def test_what_is_asked_is_what_was_run():
    lines = pairing_leaks.problem(7).lines
    assert sum(line.startswith("unreferenced object") for line in lines) == 2
    assert any(re.fullmatch(r" {4}nic_\w+\(\) in nic\.c:\d+", line) for line in lines)
    assert any("/* its allocation fails */" in line for line in lines)
    assert pairing_leaks.problem(7).lines == lines != pairing_leaks.problem(8).lines


def with_line(code):
    """Return a seed whose driver loses a block in this line, the leak, and its place."""
    for seed in range(40):
        driver = Driver.of(seed)
        for place, leak in enumerate(pairing_runs.run(driver).leaks):
            if driver.lines[leak.lost - 1].strip() == code:
                return seed, leak, place
    raise AssertionError(code)


@pytest.mark.parametrize(
    ("code", "answer", "said"),
    [
        ("kfree(rule);", "{allocated} kfree", "“The line in the report is the line to repair.”"),
        ("kfree(rule);", "{behind} kfree", "“It is the return that loses it.”"),
        ("kfree(rule);", "1 kfree", "line 1 is not the one"),
        ("nic->log = NULL;", "{lost} kfree", "M6, “It has always worked, so it is right.”"),
        ("nic->fw = vmalloc(size);", "{lost} kfree", "vmalloc(12288), then kfree(p): oops"),
        ("return -ENETDOWN;", "{lost} vfree", "kmem_cache_alloc(cache, GFP_KERNEL), then vfree(p)"),
    ],
)
def test_each_wrong_reading_is_told_what_is_wrong(code, answer, said):
    seed, leak, place = with_line(code)
    given = answer.format(lost=leak.lost, allocated=leak.allocated, behind=leak.lost + 2)
    sheet = pairing_leaks.check([None] * place + [given], seed)
    assert wrong_parts(sheet) == f"{place + 1}"
    assert said in flat(sheet)


def test_other_answers_about_leaks():
    sheet = pairing_leaks.check(["kfree", "12 free"], 7)
    assert sheet.count(Outcome.OPEN) == 2
    assert "is not a line and a function" in flat(sheet)
    assert "is none of the functions" in flat(sheet)
    assert pairing_leaks.check([None, None], 7).count(Outcome.OPEN) == 2
    seed, leak, place = with_line("nic->log = NULL;")
    unknown = pairing_leaks.check([None] * place + ["?"], seed)
    assert f"line {leak.lost} lost it: nic->log = NULL; What frees it: kvfree" in flat(unknown)


# -- the questions --------------------------------------------------------------------------------


def test_m6_is_named():
    choice = pairing_questions.order
    letter = next(one for one, option in choice.letters(7).items() if option == "all")
    assert "M6, “free_pages() knows how large the block is.”" in str(choice.check(letter, 7))
