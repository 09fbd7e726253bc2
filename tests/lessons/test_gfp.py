"""Lesson 02: its worlds, its exercises and its questions."""

import itertools
import re

import pytest

from kmemkit.gfp import Effort, decode, describe, encode, legality
from kmemkit.lessons import gfp_compose, gfp_decode, gfp_illegal, gfp_questions, gfp_worlds
from kmemkit.lessons._check import Outcome
from kmemkit.strings import keys, text
from kmemkit.views import GfpPanel

SEEDS = pytest.mark.parametrize("seed", range(25))


@pytest.fixture(scope="module")
def full():
    return gfp_worlds.full_of_files()


def outcomes(sheet):
    return [verdict.outcome for _, verdict in sheet.rows]


# -- worlds ------------------------------------------------------------------------------------------


def test_each_mask_gets_its_zone():
    table = gfp_worlds.where(
        gfp_worlds.five_gib(),
        *("GFP_KERNEL", "GFP_USER", "GFP_HIGHUSER", "GFP_HIGHUSER_MOVABLE"),
        *("GFP_KERNEL|GFP_DMA32", "GFP_KERNEL|GFP_DMA", "GFP_KERNEL|__GFP_MOVABLE"),
    )
    places = [line.split()[2:] for line in table.splitlines()]
    assert places == [
        ["zone", "type"],
        *[["Normal", "Unmovable"]] * 3,
        ["Movable", "Movable"],
        ["DMA32", "Unmovable"],
        ["DMA", "Unmovable"],
        ["Normal", "Movable"],
    ]


def test_user_masks_part_on_32_bits():
    kernel = gfp_worlds.with_highmem()
    table = gfp_worlds.where(kernel, "GFP_USER", "GFP_HIGHUSER", "GFP_HIGHUSER_MOVABLE")
    places = [line.split()[2:] for line in table.splitlines()[1:]]
    assert places == [["Normal", "Unmovable"], ["HighMem", "Unmovable"], ["HighMem", "Movable"]]


def test_a_zone_flag_is_a_ceiling():
    kernel = gfp_worlds.five_gib()
    taken = gfp_worlds.take(kernel, "GFP_DMA|__GFP_NOWARN", 5000)
    zone = kernel.snapshot().zones[0]
    assert 3000 < taken <= zone.managed
    table = gfp_worlds.where(kernel, "GFP_DMA|__GFP_NOWARN", "GFP_KERNEL").splitlines()
    assert table[1].split() == ["GFP_DMA|__GFP_NOWARN", "NULL"]
    assert table[2].split()[2] == "Normal"


def test_how_deep_each_mask_goes(full):
    left = {}
    for mask in ("GFP_KERNEL & ~__GFP_RECLAIM", "GFP_NOWAIT", "GFP_ATOMIC"):
        kernel = full.clone()
        assert gfp_worlds.take(kernel, mask, 1000) < 1000
        zone = kernel.snapshot().zones[-1]
        left[mask] = zone.free / zone.min
    assert left["GFP_NOWAIT"] == pytest.approx(1.0, abs=0.02)
    assert left["GFP_KERNEL & ~__GFP_RECLAIM"] == left["GFP_NOWAIT"]
    assert left["GFP_ATOMIC"] == pytest.approx(0.375, abs=0.02)
    assert gfp_worlds.take(full.clone(), "GFP_KERNEL", 1000) == 1000


def test_only_the_nowait_failure_is_silent(full):
    for mask, said in (("GFP_NOWAIT", False), ("GFP_ATOMIC", True)):
        kernel = full.clone()
        gfp_worlds.take(kernel, mask, 1000)
        assert ("page allocation failure: order:0" in kernel.dmesg()) is said


def test_the_kernel_goes_on_where_atomic_stops(full):
    kernel = full.clone()
    gfp_worlds.take(kernel, "GFP_ATOMIC", 1000)
    kernel.record()
    kernel.alloc_pages("GFP_ATOMIC")
    assert gfp_worlds.marks(kernel).splitlines()[0] == "alloc_pages(GFP_ATOMIC, 0) -> NULL"
    assert "(min mark)" in gfp_worlds.marks(kernel)
    kernel.alloc_pages("GFP_KERNEL")
    end = f"  {text('road.rung.reclaim')}: {text('road.outcome.page')}"
    assert gfp_worlds.road(kernel).splitlines()[-1] == end


# -- decode ------------------------------------------------------------------------------------------


@SEEDS
def test_the_kernels_own_names_are_right(seed):
    lines = gfp_decode._lines(seed)
    truth = [decode(line.mask, line.release) for line in lines]
    assert gfp_decode.check(truth, seed).right
    turned = [" | ".join(reversed(names.split("|"))) for names in truth]
    assert gfp_decode.check(turned, seed).right
    assert len({str(line) for line in lines}) == len(lines)


def test_every_line_of_the_pool_is_a_mask_of_its_kernel():
    for release, mask in itertools.chain(*gfp_decode._LINES):
        names = decode(mask, release)
        assert encode(names, release) == mask
        assert "0x" not in names


@pytest.mark.parametrize(
    ("release", "mask", "answer", "idea"),
    [
        ("6.1", 0x820, "GFP_ATOMIC", "one_meaning"),
        ("6.12", 0x820, "GFP_NOWAIT|__GFP_HIGH", "one_meaning"),
        ("6.12", 0x800, "GFP_NOWAIT", "one_meaning"),
        ("6.12", 0xDC0, "GFP_KERNEL", "first_name"),
        ("6.12", 0x820, "GFP_KERNEL|__GFP_HIGH", "kernel_high"),
        ("6.12", 0xCE0, "GFP_ATOMIC|__GFP_IO|__GFP_FS", "kernel_high"),
        ("6.12", 0xCC0, "GFP_NOWAIT", ""),
    ],
)
def test_a_wrong_reading_is_recognised(release, mask, answer, idea):
    verdict = gfp_decode._check_one(gfp_decode._Line(release, mask), answer)
    assert verdict.outcome is Outcome.WRONG
    assert verdict.idea == (text(f"lesson.gfp.idea_name.{idea}") if idea else "")
    assert f"{mask:#x}" in verdict.sentence


def test_a_name_of_another_kernel_is_told_where_it_belongs():
    verdict = gfp_decode._check_one(gfp_decode._Line("6.12", 0xA20), "GFP_ATOMIC|__GFP_ATOMIC")
    assert verdict.outcome is Outcome.WRONG
    assert "it is one in 5.10 to 6.1" in verdict.sentence


@pytest.mark.parametrize("answer", ["0xa20", "2592", 0xA20, "GFP_KERNEL GFP_DMA", "GFP_KERNAL"])
def test_what_names_no_flags_is_open(answer):
    verdict = gfp_decode._check_one(gfp_decode._Line("5.10", 0xA20), answer)
    assert verdict.outcome is Outcome.OPEN


def test_a_number_is_fine_where_there_is_no_name():
    line = gfp_decode._Line("6.12", 0xA20)
    assert gfp_decode._check_one(line, "GFP_ATOMIC|0x200").outcome is Outcome.RIGHT


# -- compose -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("situation", gfp_compose._SITUATIONS, ids=lambda s: s.name)
def test_every_situation_has_a_mask_that_fits(situation):
    assert gfp_compose._check_one(situation, situation.example).outcome is Outcome.RIGHT
    assert situation.example in gfp_compose._check_one(situation, "?").sentence
    mask = encode(situation.example)
    assert not legality(mask, situation.order, atomic=situation.atomic)


@pytest.mark.parametrize("situation", gfp_compose._SITUATIONS, ids=lambda s: s.name)
def test_no_other_situations_mask_fits_by_chance(situation):
    """Each situation turns away at least half of the others' masks, with a sentence."""
    others = {s.example for s in gfp_compose._SITUATIONS if s is not situation}
    verdicts = [gfp_compose._check_one(situation, mask) for mask in others - {situation.example}]
    wrong = [verdict for verdict in verdicts if verdict.outcome is Outcome.WRONG]
    assert len(wrong) * 2 > len(verdicts)
    assert all(verdict.sentence.startswith("you said 0x") for verdict in wrong)


@pytest.mark.parametrize(
    ("name", "answer", "idea"),
    [
        ("event", "GFP_KERNEL", "kernel_anywhere"),
        ("event", "GFP_NOIO", "noio_awake"),
        ("event", "GFP_KERNEL|__GFP_HIGH", "kernel_high"),
        ("event", "GFP_NOWAIT", "waiting_is_reserve"),
        ("refill", "GFP_ATOMIC", "reserve_for_all"),
        ("probe", "GFP_ATOMIC", "atomic_everywhere"),
        ("untrusted", "GFP_KERNEL", "kernel_is_free"),
        ("fault", "GFP_USER|__GFP_MOVABLE", "movable_alone"),
        ("fault", "GFP_HIGHUSER", "user_needs_address"),
        ("frame", "GFP_HIGHUSER_MOVABLE", "user_is_movable"),
        ("shared", "GFP_HIGHUSER", "user_needs_address"),
        ("device", "GFP_KERNEL|GFP_DMA", "dma_for_any"),
        ("optional", "GFP_KERNEL|__GFP_NOWARN", "kernel_gives_up"),
        ("optional", "GFP_KERNEL|__GFP_RETRY_MAYFAIL|__GFP_NOWARN", "retries_alike"),
        ("spare_others", "GFP_KERNEL", "kernel_gives_up"),
        ("spare_others", "GFP_KERNEL|__GFP_NORETRY", "retries_alike"),
        ("zeroed", "GFP_KERNEL", ""),
    ],
)
def test_a_mask_that_does_not_fit_names_the_idea(name, answer, idea):
    situation = next(s for s in gfp_compose._SITUATIONS if s.name == name)
    verdict = gfp_compose._check_one(situation, answer)
    assert verdict.outcome is Outcome.WRONG
    assert verdict.idea == (text(f"lesson.gfp.idea_name.{idea}") if idea else "")


def test_an_illegal_mask_does_not_fit():
    situation = next(s for s in gfp_compose._SITUATIONS if s.name == "optional")
    answer = "GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN|__GFP_MEMALLOC|__GFP_NOMEMALLOC"
    verdict = gfp_compose._check_one(situation, answer)
    assert verdict.outcome is Outcome.WRONG
    assert "The kernel objects" in verdict.sentence


def test_every_need_and_effort_has_its_words():
    needs = {f"lesson.gfp.need.{need}" for need in gfp_compose._NEEDS}
    assert needs == {key for key in keys() if key.startswith("lesson.gfp.need.")}
    assert all(f"lesson.gfp.effort.{effort.name.lower()}" in keys() for effort in Effort)


@SEEDS
def test_five_situations_with_one_that_must_not_sleep(seed):
    drawn = gfp_compose._situations(seed)
    assert len({situation.name for situation in drawn}) == 5
    assert any(situation.atomic for situation in drawn)
    assert gfp_compose.check([situation.example for situation in drawn], seed).right
    assert outcomes(gfp_compose.check(["0xcc0"] * 5, seed)) == [Outcome.OPEN] * 5


# -- illegal -----------------------------------------------------------------------------------------


def test_the_pool_is_sorted_by_what_the_kernel_says():
    assert all(call.findings() for call in gfp_illegal._CALLS)
    assert not any(call.findings() for call in gfp_illegal._FINE)


@SEEDS
def test_the_letters_of_the_illegal_calls(seed):
    calls = gfp_illegal._calls(seed)
    letters = [x for x, call in zip("ABCDEFGH", calls, strict=True) if call.findings()]
    assert 4 <= len(letters) <= 5
    assert gfp_illegal.check(letters, seed).right
    assert gfp_illegal.check(" and ".join(letters).lower(), seed).right
    others = [x for x in "ABCDEFGH" if x not in letters]
    sheet = gfp_illegal.check(others, seed)
    assert set(outcomes(sheet)) == {Outcome.WRONG}
    assert all(verdict.idea and verdict.experiment for _, verdict in sheet.rows)


def test_other_answers_to_the_illegal_calls():
    assert outcomes(gfp_illegal.check("?", 1)) == [Outcome.UNKNOWN] * 8
    assert outcomes(gfp_illegal.check(None, 1)) == [Outcome.OPEN]
    assert "'Z' names no calls" in str(gfp_illegal.check("Z", 1))


# -- questions ---------------------------------------------------------------------------------------


def test_ideas_and_their_names_go_together_and_are_used():
    names, texts = (
        {key.removeprefix(f"lesson.gfp.{section}.") for key in keys() if f".gfp.{section}." in key}
        for section in ("idea_name", "idea")
    )
    assert names == texts
    used = {call.idea for call in (*gfp_illegal._CALLS, *gfp_illegal._FINE)}
    used |= {idea for choice in gfp_questions.ALL for idea in choice.options.values() if idea}
    assert used <= names


def code_in(sentence):
    """Yield the Python expressions that an idea tells the learner to try."""
    for start in re.finditer(r"\b(?:print|GfpPanel|gfp_worlds\.\w+|legality)\(|\[decode", sentence):
        depth = 0
        for end in range(start.start(), len(sentence)):
            depth += (sentence[end] in "([") - (sentence[end] in ")]")
            if sentence[end] in ")]" and not depth:
                yield sentence[start.start() : end + 1]
                break


def test_every_experiment_can_be_run(full, monkeypatch, capsys):
    monkeypatch.setattr(gfp_worlds, "full_of_files", full.clone)
    kernel = full.clone()
    kernel.record()
    kernel.alloc_pages("GFP_ATOMIC")
    space = {"gfp_worlds": gfp_worlds, "GfpPanel": GfpPanel, "legality": legality}
    space |= {"describe": describe, "decode": decode, "kernel": kernel, "mask": "GFP_HIGHUSER"}
    run = 0
    for key in sorted(keys()):
        if key.startswith("lesson.gfp.idea."):
            for code in code_in(text(key)):
                eval(code, space)
                run += 1
    assert run > 25
