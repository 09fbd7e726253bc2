"""Lesson 06: its machines, its exercises and its questions."""

import re

import pytest

from kmemkit.gfp import GFP_KERNEL, GFP_NOWAIT
from kmemkit.lessons import (
    fragmentation_check,
    fragmentation_index,
    fragmentation_moves,
    fragmentation_questions,
    fragmentation_scan,
    fragmentation_worlds,
    worlds,
)
from kmemkit.lessons._check import Misfit, Outcome
from kmemkit.mm.compaction import fragmentation_index as kernels_index
from kmemkit.snapshot import Kind
from kmemkit.strings import keys, text
from kmemkit.views import PageMap

SEEDS = pytest.mark.parametrize("seed", range(15))


def outcomes(sheet):
    return [verdict.outcome for _, verdict in sheet.rows]


def idea_name(idea):
    return text(f"lesson.fragmentation.idea_name.{idea}")


# -- machines ----------------------------------------------------------------------------------------


def test_half_free_twice_and_only_one_can_be_compacted():
    for kernel, huge in (
        (worlds.every_second_page(), None),
        (fragmentation_worlds.every_second_file_page(), 0),
    ):
        assert kernel.snapshot().zones[0].free == 512
        assert kernel.clone().alloc_pages(GFP_NOWAIT, 1) is None
        kernel.compact_memory()
        assert kernel.alloc_pages(GFP_NOWAIT, 9) == huge


@pytest.mark.parametrize(("free", "rules"), [(20, ["claim"]), (10, ["don't claim", "steal"])])
def test_half_a_pageblock_decides_between_claim_and_steal(free, rules):
    kernel = fragmentation_worlds.file_machine("1M", range(0x40, 0x40 + free))
    kernel.record()
    kernel.alloc_pages(GFP_KERNEL)
    said = fragmentation_worlds.how_taken(kernel).splitlines()[1:]
    assert len(said) == len(rules)
    assert all(rule in line for rule, line in zip(rules, said, strict=True))
    unmovable = [byte for byte in kernel.snapshot().zones[0].pageblocks if byte == 0]
    assert len(unmovable) == (free == 20)


def test_a_stolen_page_stays_until_it_is_freed():
    kernel = fragmentation_worlds.file_machine("1M", range(0x40, 0x4A))
    page = kernel.alloc_pages(GFP_KERNEL)
    fragmentation_worlds.drop_files(kernel)
    for _ in range(3):
        kernel.compact_memory()
        assert fragmentation_worlds.free_counts(kernel)[-1] == 3
    kernel.free_pages(page)
    assert fragmentation_worlds.free_counts(kernel) == [0, 0, 0, 0, 0, 0, 4]


@SEEDS
def test_grouping_wins_the_duel_on_the_same_requests(seed):
    grouped = fragmentation_worlds.duel(seed)
    mixed = fragmentation_worlds.duel(seed, grouping=False)
    for kernel in (grouped, mixed):
        fragmentation_worlds.drop_files(kernel)
    free = [kernel.snapshot().zones[0].free for kernel in (grouped, mixed)]
    assert free[0] == free[1] > 180
    largest = [max(n for n, c in enumerate(fragmentation_worlds.free_counts(k)) if c)
               for k in (grouped, mixed)]  # fmt: skip
    assert largest[0] == 6
    assert largest[1] <= 3
    mixed.compact_memory()
    assert not mixed.vm_events["pgmigrate_success"]


def test_the_index_is_shown_as_the_kernels_file_has_it():
    kernel = fragmentation_worlds.duel(7, grouping=False)
    fragmentation_worlds.drop_files(kernel)
    columns = fragmentation_worlds.extfrag(kernel).split()[4:]
    zone = kernel.zones[0]
    assert [round(float(c) * 1000) for c in columns] == [kernels_index(zone, n) for n in range(7)]
    line = fragmentation_worlds.index_sums(kernel, 6)
    pages, blocks, share, index = (
        int(re.search(pattern, line)[1])
        for pattern in (r"(\d+) free pages", r"(\d+) free blocks", r"\+ (\d+)\) / \d+ =", r"(\d+)$")
    )
    assert share == pages * 1000 // 64
    assert index == 1000 - (1000 + share) // blocks


def test_room_and_sense_are_asked_before_anything_moves():
    program = fragmentation_worlds.half_empty_program()
    done = fragmentation_worlds.compacting(program, "GFP_KERNEL", 2)
    assert "room to compact" in done
    assert "compaction ended: success" in done
    skipped = fragmentation_worlds.compacting(program, "GFP_KERNEL", 6)
    assert "no room to compact" in skipped
    assert skipped.endswith(text("lesson.fragmentation.moved", moved=0))
    holes = [start + page for start in range(0, 0x50, 0x10) for page in range(8)]
    short = fragmentation_worlds.file_machine("1M", holes)
    assert "fragmentation index 300 <= 500" in fragmentation_worlds.compacting(
        short, "GFP_KERNEL", 4
    )


def test_a_failed_compaction_is_put_off_longer_and_longer():
    line = fragmentation_worlds.attempts(
        worlds.every_second_page(), "GFP_HIGHUSER_MOVABLE|__GFP_NORETRY", 2, 40
    )
    assert "compacted at: 1, 3, 7, 15, 31;" in line


def test_a_page_that_is_held_does_not_move():
    kernel = fragmentation_worlds.every_second_file_page()
    kernel.get_page(0x101)
    kernel.compact_memory()
    page = kernel.snapshot().page(0x101)
    assert page.kind == Kind.MOVABLE
    assert kernel.alloc_pages(GFP_NOWAIT, 9) is None


# -- moves as they are typed -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    [
        "0x12 -> 0x7e, 0x13 -> 0x7c",
        "0x12 to 0x7e; 0x13 to 0x7c",
        "pfn 0x12 → pfn 0x7e and pfn 0x13 → pfn 0x7c",
        [(0x12, 0x7E), (0x13, 0x7C)],
        ["0x12 -> 0x7e", "0x13 -> 0x7c"],
    ],
)
def test_moves_are_read_however_they_are_written(typed):
    assert fragmentation_check.typed_moves(typed) == [(0x12, 0x7E), (0x13, 0x7C)]


@pytest.mark.parametrize("typed", ["0x12", "0x12 -> 7e", "the first", "0x12 -> 0x7e, 0x13", "", []])
def test_what_is_no_move_is_refused(typed):
    with pytest.raises(Misfit, match="0x12 -> 0x7e"):
        fragmentation_check.typed_moves(typed)


# -- the index ---------------------------------------------------------------------------------------


@SEEDS
def test_the_kernels_index_is_right(seed):
    parts = fragmentation_index._parts(seed)
    truth = [part.truth for part in parts]
    assert fragmentation_index.check(truth, seed).right
    assert fragmentation_index.check([f"{value / 1000:.3f}" for value in truth], seed).right
    assert sorted(truth)[0] == -1000
    assert 0 <= sorted(truth)[1] <= 500 < sorted(truth)[2] <= sorted(truth)[3] <= 1000
    rows = str(fragmentation_index.problem(seed)).splitlines()[1::2]
    assert [tuple(map(int, row.split()[4:])) for row in rows] == [part.counts for part in parts]


@pytest.mark.parametrize(
    ("said", "idea"),
    [
        (1000 - 40 * 1000 // 16 // 5, "forgot_one"),
        (1000 - 3500 // 40, "pages_for_blocks"),
        (1000 - (1000 + 40 * 1000 // 4) // 5, "order_for_pages"),
        (700, "upside_down"),
        (156, "share_of_free"),
        (-1000, "never_fits"),
        (42, ""),
    ],
)
def test_a_wrong_index_is_recognised(said, idea):
    part = fragmentation_index._Part((0, 0, 0, 5, 0, 0, 0), 4, 300)
    verdict = fragmentation_index._check_one(part, said)
    assert verdict.outcome is Outcome.WRONG
    assert verdict.idea == (idea_name(idea) if idea else "")
    assert "1000 − (1000 + 2500) / 5 = 300" in verdict.sentence


def test_a_formula_is_not_needed_where_the_block_is_there():
    part = fragmentation_index._Part((3, 0, 0, 5, 0, 0, 0), 2, -1000)
    assert fragmentation_index._check_one(part, 500).idea == idea_name("fits_anyway")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (None, Outcome.OPEN),
        ("?", Outcome.UNKNOWN),
        ("half", Outcome.OPEN),
        (True, Outcome.OPEN),
        ("−1000", Outcome.WRONG),
        (301, Outcome.RIGHT),
        (302, Outcome.WRONG),
    ],
)
def test_other_indices(answer, outcome):
    part = fragmentation_index._Part((0, 0, 0, 5, 0, 0, 0), 4, 300)
    assert fragmentation_index._check_one(part, answer).outcome is outcome


# -- the scanners ------------------------------------------------------------------------------------


def asked_moves(seed):
    plan = fragmentation_scan._plan(seed)
    return [(plan.moves.scans[at].src, plan.moves.scans[at].dst) for at in plan.asked]


@SEEDS
def test_the_kernels_moves_are_right(seed):
    moves = [f"{src:#x} -> {dst:#x}" for src, dst in asked_moves(seed)]
    assert fragmentation_scan.check(moves, seed).right
    swapped = [moves[1], moves[0], *moves[2:]]
    assert outcomes(fragmentation_scan.check(swapped, seed))[:2] == [Outcome.WRONG] * 2


@SEEDS
def test_the_moves_asked_for_are_those_of_a_compaction(seed):
    kernel = fragmentation_scan.world(seed)
    kernel.record()
    kernel.compact_memory()
    moves = [
        tuple(int(value, 16) for _, value in event.fields)
        for event in kernel.history[-1].events
        if event.name == "migrate_folio"
    ]
    first, second, source, target = asked_moves(seed)
    assert moves[:2] == [first, second]
    assert source == next(m for m in moves if m[0] >> 4 != first[0] >> 4)
    assert target == next(m for m in moves if m[1] >> 4 != first[1] >> 4)


def test_what_cannot_move_is_named():
    seed = 7
    snapshot = fragmentation_scan.world(seed).snapshot()
    owners = {
        name: next(p for p in range(128) if snapshot.page(p).owner == name)
        for name in ("driver", "gpu")
    }
    for owner, idea in (("driver", "everything_moves"), ("gpu", "movable_is_enough")):
        answers = [f"{owners[owner]:#x} -> 0x7f", None, None, None]
        verdict = fragmentation_scan.check(answers, seed).rows[0][1]
        assert verdict.idea == text(f"compaction.idea_name.{idea}")
        assert verdict.experiment


def test_other_predictions():
    sheet = fragmentation_scan.check([None, "?", "0x12", "0x1 -> 0x2, 0x3 -> 0x4"], 7)
    expected = [Outcome.OPEN, Outcome.UNKNOWN, Outcome.OPEN, Outcome.OPEN]
    assert outcomes(sheet) == expected
    assert str(fragmentation_scan.check(None, 7)).startswith("not answered yet")
    assert "give a list of 4 answers" in str(fragmentation_scan.check("0x1 -> 0x2", 7))


# -- the fewest moves --------------------------------------------------------------------------------


def emptying(seed, start, size=64):
    """Return the moves that take every used page out of a range, to free places elsewhere."""
    snapshot = fragmentation_moves.world(seed).snapshot()
    used = [p for p in range(start, start + size) if snapshot.page(p).kind.allocated]
    free = [p for p in range(256) if snapshot.page(p).kind == Kind.FREE]
    places = [p for p in free if not start <= p < start + size]
    return list(zip(used, places, strict=False))


def by_range(seed):
    """Return the starts of the four ranges: with the driver's page, with gpu's, few, many."""
    snapshot = fragmentation_moves.world(seed).snapshot()
    owner = {snapshot.page(p).owner: p for p in range(256) if snapshot.page(p).kind.allocated}
    fixed, fake = owner["driver"] >> 6 << 6, owner["gpu"] >> 6 << 6
    rest = [start for start in range(0, 256, 64) if start not in (fixed, fake)]
    few, many = sorted(rest, key=lambda start: len(emptying(seed, start)))
    return fixed, fake, few, many


@SEEDS
def test_emptying_the_right_place_is_right(seed):
    _, _, few, many = by_range(seed)
    moves = emptying(seed, few)
    verdict = fragmentation_moves.check(moves, seed)
    assert verdict.outcome is Outcome.RIGHT
    assert f"is {len(moves)}." in verdict.sentence
    assert fragmentation_moves.check(list(reversed(moves)), seed) == verdict
    assert fragmentation_moves.check(moves[:-1], seed).outcome is Outcome.WRONG
    dear = fragmentation_moves.check(emptying(seed, many), seed)
    assert dear.idea == idea_name("any_range")
    assert f"{len(moves)} would do" in dear.sentence


@SEEDS
def test_the_traps_are_cheaper_and_named(seed):
    fixed, fake, few, _ = by_range(seed)
    assert len(emptying(seed, fixed)) < len(emptying(seed, fake)) < len(emptying(seed, few))
    for start, idea in ((fixed, "everything_moves"), (fake, "movable_is_enough")):
        verdict = fragmentation_moves.check(emptying(seed, start), seed)
        assert verdict.outcome is Outcome.WRONG
        assert verdict.idea == idea_name(idea)


def test_enough_pages_in_a_row_are_no_block():
    """64 pages across a border of two ranges: as long as a block, and none."""
    for seed in range(50):
        fixed, fake, few, _ = by_range(seed)
        start = few + 32
        if few == 0xC0 or few + 64 == fixed or few + 64 == fake:
            continue
        verdict = fragmentation_moves.check(emptying(seed, start), seed)
        assert verdict.idea == idea_name("any_start")
        return
    pytest.fail("no seed has such a place")


def test_moves_that_cannot_be_made():
    seed = 7
    snapshot = fragmentation_moves.world(seed).snapshot()
    files = [p for p in range(256) if snapshot.page(p).owner == "page cache"]
    free = next(p for p in range(256) if snapshot.page(p).kind == Kind.FREE)
    for src, dst, idea in (
        (files[0], files[1], "swaps"),
        (free, free + 1, "free_moves"),
        (files[0], 0x100, "outside"),
    ):
        verdict = fragmentation_moves.check(f"{src:#x} -> {dst:#x}", seed)
        assert verdict.idea == idea_name(idea)
        assert f"{src:#x} → {dst:#x}" in verdict.sentence


def test_a_page_may_move_twice():
    seed = 7
    *_, few, _ = by_range(seed)
    moves = emptying(seed, few)
    (src, dst), spare = moves[0], emptying(seed, few)[0][1]
    free = fragmentation_moves.world(seed).snapshot()
    other = next(p for p in range(255, 0, -1) if free.page(p).kind == Kind.FREE and p != spare
                 and not few <= p < few + 64 and p not in dict(moves).values())  # fmt: skip
    twice = [(src, other), (other, dst), *moves[1:]]
    verdict = fragmentation_moves.check(twice, seed)
    assert verdict.idea == idea_name("any_range")
    assert f"after {len(moves) + 1} moves" in verdict.sentence


def test_a_plan_can_be_played():
    *_, few, _ = by_range(7)
    view = fragmentation_moves.play(emptying(7, few), 7)
    assert isinstance(view, PageMap)
    assert f"{few:#04x} M   6" in view.text()


def test_other_plans():
    assert fragmentation_moves.check(None, 7).outcome is Outcome.OPEN
    assert fragmentation_moves.check("?", 7).outcome is Outcome.UNKNOWN
    assert fragmentation_moves.check("all of them", 7).outcome is Outcome.OPEN


# -- questions ---------------------------------------------------------------------------------------


def test_m1_is_named():
    choice = fragmentation_questions.half_free
    letter = next(letter for letter, option in choice.letters(7).items() if option == "block")
    assert "M1, “Free memory exists" in str(choice.check(letter, 7))


def calls_in(sentence):
    """Yield each call of a lesson's function in a sentence, up to its own closing parenthesis."""
    for found in re.finditer(r"\b(?:fragmentation_\w+|worlds)\.\w+\(", sentence):
        depth = 1
        for end in range(found.end(), len(sentence)):
            depth += {"(": 1, ")": -1}.get(sentence[end], 0)
            if not depth:
                yield sentence[found.start() : end + 1]
                break


def test_the_experiments_run():
    """Every call that an experiment names can be made."""
    modules = (worlds, fragmentation_worlds, fragmentation_scan, fragmentation_moves)
    names = {module.__name__.rpartition(".")[2]: module for module in modules}
    names |= {"seed": 7, "answer": emptying(7, by_range(7)[2])}
    ideas = [key for key in keys() if key.startswith("lesson.fragmentation.idea.")]
    calls = {call for key in ideas for call in calls_in(text(key))}
    assert len(calls) >= 10
    for call in calls:
        kernel = fragmentation_worlds.every_second_file_page()
        assert eval(call, names | {"kernel": kernel}) is not False
