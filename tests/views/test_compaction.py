"""Compaction without a browser: the moves of a run, the pages after each, and the predictions."""

from dataclasses import replace

import pytest

from kmemkit import Kernel
from kmemkit.snapshot import Event, Kind
from kmemkit.strings import keys
from kmemkit.views import Compaction
from kmemkit.views._compaction_quiz import judge
from kmemkit.views._compaction_steps import Moves, Scan, largest_free
from tests.views.factory import world

pytestmark = pytest.mark.usefixtures("sends_at_once")

MOVABLE = "GFP_HIGHUSER_MOVABLE"
WALK = """\
Compaction: two scanners, and the pages they move
step 4 of 6: pfn 0x2 moves to pfn 0x3e
▶ migrate scanner at pfn 0x0, going up; ◀ free scanner at pfn 0x3f, going down
largest free block: order 3 = 8 pages = 32 kB (at the start: order 3 = 8 pages = 32 kB); \
wanted: as much as can be had (vm.compact_memory)

Zone Normal · 64 pages = 256 kB · pfn 0x0 to 0x3f · Linux 6.12 rules
Unmovable 1, Movable 35, Reclaimable 0, free 28
Pageblocks of order 3 = 8 pages = 32 kB: Movable 8
A cell is 1 page. A capital starts an allocated block, a number starts a free block and is its order.

0x00 M   M01.2...3.......
0x10 M   MMMMMMMMMMMMMMMM
0x20 M   MMMMMMMMMMMMMMMM
0x30 M   U01.2...2...1.MM"""


def event(name, **fields):
    return Event(0, name, tuple(fields.items()))


def hand_made():
    """Return a world of 64 pages, and the events of a run that moves one page of it."""
    used = [(pfn, 0, Kind.MOVABLE, "file") for pfn in (0, 2, *range(0x10, 0x30))]
    used += [(0x30, 0, Kind.UNMOVABLE, "driver"), (0x3F, 0, Kind.MOVABLE, "file")]
    given = world(64, used, block_order=3, max_order=3)
    zone = {"zone_start": "0x0", "zone_end": "0x40", "sync": 1}
    return given, [
        event("mm_vmscan_kswapd_wake", nid=0, order=0),
        event("mm_compaction_begin", migrate_pfn="0x0", free_pfn="0x38", **zone),
        event("mm_compaction_isolate_migratepages", start_pfn="0x0", end_pfn="0x8",
              nr_scanned=8, nr_taken=2),
        event("mm_compaction_isolate_freepages", start_pfn="0x38", end_pfn="0x40",
              nr_scanned=8, nr_taken=7),
        event("migrate_folio", src="0x2", dst="0x3e"),
        event("mm_compaction_end", migrate_pfn="0x8", free_pfn="0x30", status="complete", **zone),
    ]  # fmt: skip


def riddled(pages="256K"):
    """Return a kernel whose movable memory has a hole beside each page."""
    kernel = Kernel(ram=pages)
    held = []
    for _ in range(28):
        held.append(kernel.alloc_pages(MOVABLE, 0))
        kernel.read_file("4K")
    for pfn in held:
        kernel.free_pages(pfn, 0)
    return kernel


# -- the steps ------------------------------------------------------------------------------------


def test_each_event_of_compaction_is_a_step():
    moves = Moves(*hand_made())
    assert [scan.kind for scan in moves.scans] == [
        "start", "begin", "migrate", "free", "move", "end", "after",
    ]  # fmt: skip
    assert moves.moved == 1
    assert moves.say(3) == (
        "the free scanner looks at pfn 0x38 to 0x3f, 8 pages = 32 kB: free pages to move to: 7"
    )
    assert moves.say(5) == "compaction ends: complete; pages moved: 1"
    assert moves.say(6) == "after the call"
    assert [step.call for step in moves[4:6]] == [moves.say(4), moves.say(5)]


def test_a_move_leaves_one_place_free_and_fills_the_other():
    given, events = hand_made()
    moves = Moves(given, events)
    before, after = moves[3].snapshot, moves[4].snapshot
    assert before.page(2).kind == Kind.MOVABLE
    assert before.page(0x3E).kind == Kind.FREE
    assert before.page(0x3E).order == 0
    moved = after.page(0x3E)
    assert (moved.kind, moved.order, moved.owner) == (Kind.MOVABLE, 0, "file")
    # 0x2 merged with 0x3, and no further: 0x0 is in use.
    assert (after.page(3).head, after.page(3).order) == (2, 1)
    assert after.pages.count(Kind.MOVABLE << 4) == before.pages.count(Kind.MOVABLE << 4)


def test_going_back_shows_the_same_pages_as_going_there():
    moves = Moves(*_recorded(riddled()))
    there = [moves[at].snapshot.pages for at in range(len(moves))]
    back = [moves[at].snapshot.pages for at in reversed(range(len(moves)))]
    assert there == back[::-1]
    assert len(set(there)) > 3


def _recorded(kernel):
    kernel.record()
    kernel.compact_memory()
    return kernel.history[0].snapshot, kernel.history[1].events


@pytest.mark.parametrize("ram", ["256K", "1M", "16M"])
def test_the_moves_lead_to_the_state_that_the_kernel_is_in(ram):
    """The last step is worked out from the events alone; the kernel knows better."""
    kernel = riddled(ram)
    kernel.drain_all_pages()
    given, events = _recorded(kernel)
    worked_out = Moves(given, events)[-1].snapshot
    assert worked_out.pages == kernel.snapshot().pages
    heads = [pfn for pfn, byte in enumerate(worked_out.pages) if byte >> 4 >= Kind.UNMOVABLE]
    assert heads
    assert all(worked_out.owners[pfn] == kernel.snapshot().owners[pfn] for pfn in heads)


def test_it_only_reads_what_it_is_given():
    kernel = riddled()
    before = kernel.snapshot()
    view = Compaction(kernel)
    assert view.moves.moved
    assert kernel.snapshot().pages == before.pages
    assert kernel.history == ()


def test_without_a_clone_the_kernel_itself_is_compacted():
    kernel = riddled()
    free = largest_free(kernel.snapshot(), 0x0, 0x20)
    view = Compaction(kernel, clone=False)
    assert kernel.snapshot().pages == view.moves.after.pages
    assert largest_free(kernel.snapshot(), 0x0, 0x20) > free


def test_a_request_compacts_until_its_block_is_there():
    kernel = riddled()
    view = Compaction(kernel, MOVABLE, 4)
    assert view.moves.call == f"alloc_pages({MOVABLE}, 4)"
    assert view.moves.result.startswith("pfn 0x")
    assert 0 < view.moves.moved <= Compaction(kernel).moves.moved
    ends = [at for at, scan in enumerate(view.moves.scans) if scan.kind == "end"]
    assert view.moves.scans[ends[-1]].status == "success"
    assert largest_free(view.moves[ends[-1]].snapshot, 0, 64) == 4


def test_where_nothing_is_compacted_it_says_so():
    kernel = Kernel(ram="256K")
    view = Compaction(kernel, MOVABLE, 1)
    assert [scan.kind for scan in view.moves.scans] == ["start", "after"]
    assert "Nothing moved: no zone was compacted." in view.text()


# -- the view -------------------------------------------------------------------------------------


def test_text_has_the_step_the_scanners_and_the_map():
    given, events = hand_made()
    view = Compaction(given, events=events)
    view.act("seek", to=4)
    assert view.text().startswith(WALK)
    assert view.text().endswith("pages moved up to here: 1. The last of them: 0x2 → 0x3e")
    assert repr(view) == "Compaction(1 pages moved; step 4 of 6: pfn 0x2 moves to pfn 0x3e)"


def test_moves_go_step_by_step_and_no_further_than_the_ends():
    view = Compaction(riddled())
    last = len(view.moves) - 1
    for do, step in [("back", 0), ("forward", 1), ("forward", 2), ("back", 1)]:
        view.act(do)
        assert view.step == step
        assert view.snapshot.pages == view.moves[step].snapshot.pages
    view.act("seek", to=999)
    assert view.step == last
    assert view.scan["kind"] == "after"
    with pytest.raises(ValueError, match="there are: forward, back, seek"):
        view.act("jump")


def test_unknown_sources_and_keywords_are_refused():
    with pytest.raises(TypeError, match="not a value of type int"):
        Compaction(3)
    with pytest.raises(TypeError, match="speed"):
        Compaction(riddled(), speed=3)


# -- the predictions ------------------------------------------------------------------------------


def to_the_first_move(view):
    view.act("seek", to=999)
    assert view.asking
    return view.moves.scans[view.step + 1]


def test_a_move_is_shown_only_after_a_prediction():
    view = Compaction(riddled(), predict=True)
    scan = to_the_first_move(view)
    at = view.step
    assert f"{scan.src:#x} →" not in view.text()
    assert "which page moves next" in view.text()
    view.act("forward")
    assert view.step == at
    assert "Predict the next move first" in view.text()
    view.act("commit", src=f"{scan.src:x}", dst=f"{scan.dst:#x}")
    assert view.step == at + 1
    assert view.verdict.right
    assert str(view.verdict) == f"Right: {scan.src:#x} → {scan.dst:#x}."
    view.act("unknown")
    assert view.counts == {"right": 1, "wrong": 0, "unknown": 1}
    assert "predictions: 1 right, 0 wrong, 1 not known" in view.text()


def test_what_is_no_pfn_is_answered_and_not_counted():
    view = Compaction(riddled(), predict=True)
    to_the_first_move(view)
    view.act("commit", src="one", dst="0x3")
    assert "'one' is not a page frame number" in view.text()
    assert view.counts == {"right": 0, "wrong": 0, "unknown": 0}
    view.act("back")
    view.act("commit", src="0x1", dst="0x3")
    assert "No question is open" in view.text()


def test_free_play_opens_after_the_first_prediction():
    view = Compaction(riddled(), predict=True)
    view.act("free_play", on=True)
    assert "Free play opens after the first prediction" in view.text()
    to_the_first_move(view)
    view.act("unknown")
    view.act("free_play", on=True)
    view.act("seek", to=999)
    assert view.step == len(view.moves) - 1


#: pageblocks of 8 pages: two to empty, one of the other type, two that are full, one free as a
#: whole, one with holes, one the free scanner has passed already
IDEAS = {
    "outside": (0x99, 0x2D),
    "free_moves": (0x4, 0x2D),
    "everything_moves": (0x10, 0x2D),
    "movable_is_enough": (0x5, 0x2D),
    "turns_back": (0x1, 0x2D),
    "from_the_top": (0x2F, 0x2D),
    "any_order": (0x9, 0x2D),
    "swaps": (0x3, 0x2C),
    "fills_holes": (0x3, 0x0),
    "block_from_below": (0x3, 0x29),
    "whole_blocks_too": (0x3, 0x20),
    "any_pageblock": (0x3, 0x13),
    "nearest": (0x3, 0xB),
    "passed_already": (0x3, 0x3A),
}


def ideas_world():
    movable = (0x1, 0x3, 0x5, 0x8, 0x9, 0x2A, 0x2C, 0x2F, 0x38)
    used = [(pfn, 0, Kind.MOVABLE, "file") for pfn in movable]
    used += [(0x10, 0, Kind.UNMOVABLE, "driver"), (0x30, 3, Kind.UNMOVABLE, "driver")]
    given = world(64, used, types="MMUMMMUM", block_order=3, max_order=3)
    lru = bytes(3 if pfn in movable and pfn != 0x5 else 0 for pfn in range(64))
    return replace(given, lru=lru)


@pytest.mark.parametrize("idea", IDEAS)
def test_each_wrong_idea_is_recognised(idea):
    given = ideas_world()
    scan = Scan("move", migrate=0, free=0x30, src=0x3, dst=0x2D)
    verdict = judge(scan, IDEAS[idea], given, given)
    assert verdict.right is False
    assert verdict.idea == idea
    assert verdict.idea_name.startswith("“")


def test_every_idea_of_the_table_is_tried():
    named = {key.rpartition(".")[2] for key in keys() if key.startswith("compaction.idea.")}
    assert named == set(IDEAS)


def test_i_do_not_know_is_told_what_happens():
    scan = Scan("move", migrate=0, free=0x30, src=0x3, dst=0x2D)
    verdict = judge(scan, None, ideas_world(), ideas_world())
    assert verdict.right is None
    assert str(verdict) == "Not known, and counted as that: 0x3 → 0x2d."
