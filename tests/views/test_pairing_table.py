"""PairingTable without a browser: cells against play_pair and recordings, pictures, questions."""

import asyncio
import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from kmemkit import play_pair
from kmemkit.mm.misuse_guest import Outcome
from kmemkit.mm.misuse_pair import ALLOCATORS as MM_ALLOCATORS
from kmemkit.mm.misuse_pair import FREERS as MM_FREERS
from kmemkit.snapshot import Kind
from kmemkit.strings import text
from kmemkit.views import PageMap, PairingTable, pairing_table
from kmemkit.views._pairing_calls import ALLOCATORS, FREERS, KERNELS, call_lines, is_case
from kmemkit.views._pairing_cells import LETTERS, played
from kmemkit.views._pairing_picture import picture
from kmemkit.views._pairing_text import explanation, facts, legend, spoken
from tests.mm.test_misuse_pair import LUCK
from tests.views.elsewhere import elsewhere
from tests.views.factory import replay, world

pytestmark = pytest.mark.usefixtures("sends_at_once")

GOLDEN = Path(__file__).parent.parent / "golden" / "misuse_pair.json.gz"
RECORDED = json.loads(gzip.decompress(GOLDEN.read_bytes()))
if not os.environ.get("KMEMKIT_EXPLORE"):
    RECORDED = [r for n, r in enumerate(RECORDED) if n % (4 if r["kernel"] == "plain" else 13) == 1]
#: Kernels whose recordings tell what became of an object; KFENCE's do not tell guarded from lost.
TOLD = ("plain", "noinit", "slabdbg", "kasan")
#: Silent, memory back, and wrong nevertheless: the kernel counts slab pages that are none, or pages
#: of others went free too. What a recording says of a cell does not tell that.
WRONG_COUNT = {(row, "free_pages_same") for row in ("kmalloc3p", "kmalloc1m")}
FOREIGN = {(row, "free_pages_larger") for row in ("kmalloc3p", "pages0")}

ROWS = ("kmalloc64", "vmalloc3p", "pages3", "NULL")
COLUMNS = ("kfree", "vfree", "kmem_cache_free_own", "free_pages_same", "free_pages_smaller")
SMALL = """\
                                   kmem_cache_free  free_pages
                     kfree  vfree  own cache        order  order-1
kmalloc(64)          ok     W-     ok               W-     ·
vmalloc(12288)       O-     ok     O-               O-     O-
__get_free_pages(3)  W~     W-     W-               ok     S~
NULL                 ok     ok     O                ok     ·
"""
CHOSEN = """\
    p = (void *)__get_free_pages(GFP_KERNEL, 3);
    free_pages((unsigned long)p, 2);

S~  The kernel says nothing, and something is wrong.
  Back: 4 pages = 16 kB, of 8 pages. Leaked: 4 pages = 16 kB.

The kernel's log
  (nothing in the kernel's log)

The damage on the map
  A cell is 1 page. A capital starts an allocated block, a number starts a free block and is its \
order.
  p = (void *)__get_free_pages(GFP_KERNEL, 3);  0U0U2...[Uuuuuuuu]4.......  its pages: Unmovable 8
  free_pages((unsigned long)p, 2);              0U0U2...[2...!!!!]4.......  its pages: leaked 4, \
free 4
"""


def small(**options):
    options = {"rows": ROWS, "columns": COLUMNS, "kernels": ["plain"]} | options
    return PairingTable(play_pair, **options)


def cell(kernel, allocator, freer):
    return played(play_pair, kernel, allocator, freer)


def fake(**fields):
    """Return what runs a pair without a kernel, always with the same outcome."""

    def play(kernel, allocator, freer, *, steps):
        calls.append((kernel, allocator, freer))
        return Outcome(**fields)

    calls = []
    play.calls = calls
    return play


# -- cells ----------------------------------------------------------------------------------------


def test_rows_and_columns_are_those_that_can_be_played():
    assert ALLOCATORS.keys() == MM_ALLOCATORS.keys()
    assert FREERS.keys() == MM_FREERS.keys()
    for row in ALLOCATORS:
        if not is_case(row, "free_pages_smaller"):
            with pytest.raises(ValueError, match="no smaller order"):
                play_pair("plain", row, "free_pages_smaller")


@pytest.mark.parametrize("row", ALLOCATORS)
def test_the_spelled_size_and_order_are_those_that_are_played(row):
    outcome = play_pair("plain", row, "kvfree")
    assert outcome.size == ALLOCATORS[row].size
    assert bool(outcome.returned) is ALLOCATORS[row].owns
    if row in ("kmalloc3p", "kmalloc1m", "pages0", "pages3", "exact5"):
        assert f", {ALLOCATORS[row].order});" in call_lines(row, "free_pages_same")[1]
        assert 1 << ALLOCATORS[row].order >= len(outcome.pages) > 1 << ALLOCATORS[row].order >> 1


def test_calls_are_c_with_their_numbers():
    assert call_lines("kmalloc1m", "free_pages_larger") == (
        "p = kmalloc(1 << 20, GFP_KERNEL);", "free_pages((unsigned long)p, 9);"
    )  # fmt: skip
    assert call_lines("exact5", "free_pages_exact")[1] == "free_pages_exact(p, 20480);"
    assert call_lines("kmalloc1m", "free_pages_exact")[1] == "free_pages_exact(p, 1 << 20);"
    assert call_lines("kmalloc64", "kmem_cache_free_own")[1] == (
        "kmem_cache_free(virt_to_cache(p), p);"
    )
    assert call_lines("pages0", "kmem_cache_free_own")[1] == "kmem_cache_free(cache, p);"
    assert call_lines("cache", "kmem_cache_free_other")[1] == "kmem_cache_free(other_cache, p);"


def letter_of(record):
    """Return the letter that a recording stands for, as far as it tells."""
    fatal = {"hung": "H", "panic": "P", "task killed": "O"}
    if record["survived"] in fatal:
        return fatal[record["survived"]]
    if record["report_first_line"] is not None:
        return "W"
    memory = record["memory_returned"]
    whole = memory in ("yes", "n/a") or "KASAN" in memory
    later = record["survived"] == "later oops" or "LATER" in record["note"]
    pair = record["allocator"], record["freer"]
    counted = pair in WRONG_COUNT or (record["kernel"] == "noinit" and pair in FOREIGN)
    return "ok" if whole and not later and not counted else "S"


def mark_of(record):
    memory = record["memory_returned"]
    if memory == "n/a":
        return ""
    return "+" if "KASAN" in memory else {"yes": "+", "par": "~", "unk": "?"}.get(memory[:3], "-")


@pytest.mark.parametrize(
    "record",
    [r for r in RECORDED if r["kernel"] in TOLD and (r["kernel"], r["cell"]) not in LUCK],
    ids=lambda record: f"{record['kernel']}-{record['cell']}",
)
def test_cells_say_what_recorded_kernels_did(record):
    shown = cell(record["kernel"], record["allocator"], record["freer"])
    letter = letter_of(record)
    assert LETTERS[shown.verdict] == letter
    if letter == "ok":
        assert shown.code == "ok"
    else:
        assert shown.code.replace("!", "") == letter + mark_of(record)
    if record["survived"] == "later oops" or "LATER" in record["note"]:
        assert "!" in shown.code


def test_kfence_keeps_what_was_freed_and_nothing_is_wrong():
    shown = cell("kfence", "kmalloc64", "kfree")
    assert shown.code == "ok"
    assert facts(shown)[1] == text("pairing_table.memory.guarded")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"memory_returned": "yes"}, "ok"),
        ({"memory_returned": "yes", "drift": 4}, "S+"),
        ({"memory_returned": "yes", "foreign": 1}, "S!+"),
        ({"memory_returned": "no", "notes": ["LATER: pages handed out twice"]}, "S!-"),
        ({"memory_returned": "partly: 4 of 8 pages"}, "S~"),
        ({"memory_returned": "no", "report_first_line": "x"}, "W-"),
        ({"memory_returned": "n/a", "survived": "task killed"}, "O"),
        ({"memory_returned": "unknown (guest did not get that far)",
          "survived": "later oops", "later": ["x"]}, "S!?"),
        ({"memory_returned": "no", "survived": "hung", "later": ["list_del x", "hung"]}, "H-"),
        ({"memory_returned": "no", "survived": "panic"}, "P-"),
    ],
)  # fmt: skip
def test_codes(fields, code):
    shown = played(fake(**fields), "plain", "NULL", "kfree")
    assert shown.code == code
    assert spoken(code).startswith(text(f"pairing_table.verdict.{shown.verdict}"))
    assert ("!" in code) == spoken(code).endswith(text("pairing_table.mark.later"))


def test_every_sign_of_every_code_is_in_the_legend():
    signs = "".join(sign for sign, _, _ in legend())
    assert set("okSWOHP+~-?!·") == set(signs)


# -- sentences ------------------------------------------------------------------------------------


def test_facts_tell_what_a_run_did():
    shown = cell("plain", "kmalloc3p", "free_pages_same")
    assert facts(shown) == [
        "The kernel says nothing, and something is wrong.",
        "All of it is back: 4 pages = 16 kB.",
        "/proc/meminfo is wrong from now on: SUnreclaim counts 4 pages = 16 kB too much.",
    ]
    assert facts(cell("noinit", "pages0", "free_pages_larger"))[2] == (
        "Freed with it, though others own it: 1 page = 4 kB."
    )
    dead = cell("noinit", "kmalloc64", "free_pages_same")
    assert dead.later[0].startswith("Oops: general protection fault")
    assert f"Later: {dead.later[0]}" in facts(dead)


def test_notes_of_damage_become_sentences():
    notes = [
        "LATER: two live allocations overlap",
        "LATER: contents overwritten by another owner: 58",
        "LATER: pages handed out twice",
    ]
    shown = played(fake(memory_returned="yes", notes=notes, size=64), "plain", "NULL", "kfree")
    assert facts(shown)[2:] == [
        "Later: two live allocations overlap.",
        "Later: 58 objects are overwritten by another owner.",
        "Later: pages are handed out twice.",
    ]


def test_each_kind_of_report_is_explained_once():
    shown = cell("plain", "kmalloc64", "vfree")
    assert [head.split("(")[0] for head, _ in explanation(shown)] == ["Trying to vfree"]
    flood = cell("plain", "kmalloc1m", "free_pages_larger")
    assert len(flood.report) > 200
    assert len(explanation(flood)) == 1
    assert explanation(cell("plain", "kmalloc64", "kfree")) == []


# -- pictures -------------------------------------------------------------------------------------


def marked(kernel, allocator, freer):
    return [frame.marked for frame in cell(kernel, allocator, freer).picture.frames]


def test_pages_before_and_after():
    before, after, _ = marked("plain", "pages3", "kfree")
    assert before == "0U0U2...[Uuuuuuuu]4......."
    assert after == "0U0U2...[0!!!!!!!]4......."


def test_a_picture_says_what_the_snapshots_have():
    outcome = play_pair("plain", "pages3", "free_pages_smaller", steps=True)
    for frame, step in zip(picture(outcome).frames, outcome.steps, strict=True):
        kinds = [step.snapshot.page(pfn).kind for pfn in outcome.pages]
        own = frame.cells[slice(*frame.own)]
        assert len(own) == len(kinds)
        assert [letter == "!" for letter in own] == [kind == Kind.LEAKED for kind in kinds]
        assert [letter in "2." for letter in own] == [kind == Kind.FREE for kind in kinds]


def test_an_object_among_those_of_its_slab():
    shown = cell("plain", "kmalloc64", "kfree").picture
    before, after, _ = shown.frames
    start, end = before.own
    assert (before.cells[start:end], after.cells[start:end]) == ("#", ".")
    assert before.cells[:start] + before.cells[end:] == after.cells[:start] + after.cells[end:]
    uses = [int(frame.note.split()[0]) for frame in (before, after)]
    assert uses[0] == uses[1] + 1


def test_a_slab_whose_page_went_free_and_one_that_is_gone():
    frames = cell("noinit", "kmalloc64", "free_pages_same").picture.frames
    assert "still cut into objects" in frames[1].note
    assert ": free," in frames[1].note
    gone = cell("plain", "cache", "kfree").picture.frames[2]
    assert gone.cells == gone.marked == ""
    assert gone.note.startswith("the slab is gone; page 0x")


def test_large_blocks_have_cells_of_several_pages():
    shown = cell("plain", "kmalloc1m", "kfree").picture
    assert "A cell is 32 pages = 128 kB." in shown.key
    assert shown.frames[0].marked.count("[UUUUUUUU]") == 1
    assert len(shown.frames[0].cells) == 24


def test_vmalloc_pages_stand_in_the_order_of_their_addresses():
    outcome = play_pair("plain", "vmalloc3p", "vfree", steps=True)
    assert sorted(outcome.pages) != list(outcome.pages)
    assert picture(outcome).frames[0].marked == "[UUU]"
    assert "16 of 2,048" in cell("plain", "kvmalloc8m", "kvfree").picture.key


def test_blocks_at_the_ends_of_memory_are_drawn():
    for pfn in (0, 24):
        steps = replay(world(32, [(pfn, 3, Kind.UNMOVABLE, "")]), world(32))
        own = tuple(range(pfn, pfn + 8))
        outcome = Outcome(memory_returned="yes", address=1 << 40, pages=own, steps=steps)
        start, end = picture(outcome).frames[0].own
        assert picture(outcome).frames[0].cells[start:end] == "Uuuuuuuu"
        assert len(picture(outcome).frames[0].cells) == 16


def test_a_pointer_without_memory_has_no_picture():
    assert cell("plain", "stack", "kfree").picture is None
    with pytest.raises(ValueError, match="char buf"):
        small(rows=["stack"], columns=["kfree"]).map()


def test_the_page_map_of_a_cell_has_its_steps():
    table = small(selected=("pages3", "free_pages_smaller"))
    shown = table.map()
    assert isinstance(shown, PageMap)
    assert "leaked 4" in shown.text()
    shown.step = 0
    assert "leaked 4" not in shown.text()
    assert "p = (void *)__get_free_pages(GFP_KERNEL, 3);" in shown.text()
    small(selected=("kmalloc64", "kfree")).map()


# -- the table ------------------------------------------------------------------------------------


def test_text_is_the_table_and_the_chosen_cell():
    said = small(selected=("pages3", "free_pages_smaller")).text()
    assert SMALL in said
    assert CHOSEN in said
    codes = {
        (row, column): play_pair("plain", row, column) for row in ROWS[:2] for column in COLUMNS[:4]
    }
    table = small()
    table.text()
    for pair, outcome in codes.items():
        assert table.code("plain", *pair)[0] == LETTERS[outcome.verdict][0]
    assert said == small(selected=("pages3", "free_pages_smaller")).text()


def test_nothing_is_run_before_it_is_wanted():
    play = fake(memory_returned="yes")
    table = PairingTable(play)
    assert play.calls == [("plain", "kmalloc64", "kfree")]
    assert table.code("plain", "kmalloc64", "vfree") == "…"
    assert table.grid["done"] == 1
    assert table.question is None
    table.act("select", row="pages3", column="vfree")
    assert play.calls[1:] == [("plain", "pages3", "vfree")]
    table.text()
    assert len(play.calls) == 150 + len(KERNELS) - 1
    assert table.grid["progress"] == "all 150 cells have been run"
    assert len(set(play.calls)) == len(play.calls)


def test_a_large_table_prints_without_running_it_all():
    play = fake(memory_returned="yes")
    table = PairingTable(play)
    said = table._printed()
    assert text("pairing_table.many", count=150) in said
    assert "p = kmalloc(64, GFP_KERNEL);" in said
    assert len(play.calls) == len(KERNELS)
    assert PairingTable(play)._printed() == said
    assert SMALL in small()._printed()


def test_cells_are_run_one_by_one_while_a_page_looks_on(monkeypatch):
    monkeypatch.setattr(pairing_table, "_PAUSE", 0)
    play = fake(memory_returned="yes")

    async def look():
        table = PairingTable(play, rows=["pages0", "pages3"], kernels=["plain", "kasan"])
        await asyncio.sleep(0)
        assert len(play.calls) == 1
        table.act("here")
        for _ in range(4):
            await asyncio.sleep(0)
        table.act("select", row="pages3", column="vfree")
        assert play.calls[-1] == ("plain", "pages3", "vfree")
        table.act("here")
        table.act("gone")
        while table.grid["done"] < 19:
            await asyncio.sleep(0)
        assert ("kasan", "pages3", "vfree") in play.calls
        assert len(set(play.calls)) == len(play.calls)
        table.act("gone")
        table.act("kernel", value="kasan")
        count = len(play.calls)
        for _ in range(4):
            await asyncio.sleep(0)
        assert len(play.calls) == count
        table.act("here")
        assert table._timer is not None
        table.close()
        assert table._timer is None

    elsewhere(asyncio.run, look())


def test_the_same_pair_in_each_kernel():
    table = small(kernels=["plain", "noinit"], selected=("kmalloc64", "free_pages_same"))
    lines = table.text().splitlines()
    assert lines[-2:] == ["  plain Debian: W-", "  init_on_alloc=0: S!?"]
    table.act("kernel", value="noinit")
    assert table.grid["kernel"] == "noinit"
    assert table.panel["code"] == "S!?"
    assert [code for _, _, code in table.grid["kernels"]] == ["W-", "S!?"]


def test_what_the_page_gets_is_what_the_text_says():
    table = small(selected=("kmalloc64", "vfree"))
    said = table.text()
    for line in table.panel["report"]:
        assert f"  {line}".rstrip() in said
    for fact in table.panel["facts"]:
        assert fact in said
    for moment in table.panel["moments"]:
        assert moment["note"] in said
    flat = " ".join(said.split())
    for _, words in table.panel["why"]:
        assert " ".join(words.split()) in flat
    assert table.grid["spoken"].keys() == {code for row in table.grid["codes"] for code in row}


def test_repr_is_stable():
    table = small(selected=("pages3", "vfree"))
    assert repr(table) == "PairingTable(4 x 5, kernel plain, selected pages3 vfree: W-)"


def test_what_is_not_there_is_refused():
    with pytest.raises(TypeError, match="not with a value of type int"):
        PairingTable(5)
    with pytest.raises(TypeError, match="does not know 'row'"):
        PairingTable(play_pair, row="kmalloc64")
    with pytest.raises(ValueError, match="rows: there is no 'malloc' here"):
        small(rows=["malloc"])
    with pytest.raises(ValueError, match="columns: there is no"):
        small(columns=[])
    with pytest.raises(ValueError, match="kernel: there is no 'vax' here; there are: plain"):
        small(kernel="vax")
    with pytest.raises(ValueError, match="there is no order below 0"):
        small(selected=("kmalloc64", "free_pages_smaller"))
    table = small()
    with pytest.raises(ValueError, match="there is no control 'dance'"):
        table.act("dance")
    with pytest.raises(ValueError, match="row: there is no 'exact5' here"):
        table.act("select", row="exact5", column="kfree")


# -- predictions ----------------------------------------------------------------------------------


def test_a_cell_opens_after_a_prediction():
    table = small(predict=True, selected=("pages3", "free_pages_smaller"))
    said = table.text()
    assert table.asking
    assert {code for row in table.grid["codes"] for code in row} == {"?", "·"}
    assert "[ ] a part is back" in said
    assert "leak" not in said
    table.act("commit", verdict="silent", memory="part")
    assert table.code(*table.key) == "S~"
    assert not table.asking
    assert table.question["verdict"]["right"] is True
    assert table.code("plain", "pages3", "vfree") == "?"
    assert "predictions: 1 right, 0 wrong, 0 not known" in table.text()


IDEAS = [
    ("pages3", "free_pages_smaller", "silent", "all", "order_is_known"),
    ("pages3", "free_pages_smaller", "ok", "all", "any_free"),
    ("pages3", "free_pages_smaller", "report", "part", "kernel_notices"),
    ("pages3", "kfree", "report", "all", "taken_back"),
    ("pages3", "kfree", "report", "none", "report_refuses"),
    ("pages3", "kfree", "oops", "none", "wrong_is_fatal"),
    ("pages3", "kfree", "silent", "part", "never_told"),
    ("vmalloc3p", "kfree", "report", "none", "only_a_warning"),
    ("kmalloc64", "kmem_cache_free_own", "report", "none", "one_partner"),
    ("NULL", "kfree", "oops", None, "null_crashes"),
    ("NULL", "kmem_cache_free_own", "ok", None, "null_is_fine"),
]


@pytest.mark.parametrize(("row", "column", "verdict", "memory", "idea"), IDEAS)
def test_a_wrong_answer_is_answered_with_its_idea(row, column, verdict, memory, idea):
    table = small(predict=True, selected=(row, column))
    table.act("commit", verdict=verdict, memory=memory)
    told = table.question["verdict"]
    assert told["right"] is False
    assert told["idea"] == text(f"pairing_table.idea_name.{idea}")
    assert told["why"] in table.text()
    assert table.quiz.counts["wrong"] == 1


def test_every_idea_is_reached():
    asked = {idea for *_, idea in IDEAS}
    assert asked == {key.rsplit(".", 1)[1] for key in small()._texts if ".idea." in key}


def test_not_knowing_counts_and_opens_free_play():
    table = small(predict=True)
    table.act("free_play", on=True)
    assert table.asking
    assert text("pairing_table.locked") in table.text()
    table.act("unknown")
    assert table.quiz.counts == {"right": 0, "wrong": 0, "unknown": 1}
    table.act("free_play", on=True)
    assert SMALL in table.text()
    assert table.grid["done"] == table.grid["count"] == 18


def test_memory_is_asked_only_where_the_pointer_owns_some_and_judged_where_it_can_be_told():
    table = small(predict=True, selected=("NULL", "kfree"))
    assert table.question["memory"] == []
    table.act("commit", verdict="ok")
    assert table.question["verdict"]["right"] is True
    dead = small(
        predict=True, kernels=["noinit"], kernel="noinit", selected=("kmalloc64", "free_pages_same")
    )
    assert dead.question["memory"]
    dead.act("commit", verdict="silent", memory="all")
    assert dead.question["verdict"]["right"] is True


def test_an_answer_that_there_is_not_is_refused():
    table = small(predict=True)
    with pytest.raises(ValueError, match="'maybe' is no answer; there are: ok, silent"):
        table.act("commit", verdict="maybe", memory="all")
    with pytest.raises(ValueError, match="'some' is no answer; there are: all, part"):
        table.act("commit", verdict="ok", memory="some")
    assert table.asking


def test_a_dead_machine_is_one_answer():
    table = PairingTable(
        fake(memory_returned="no", survived="panic"), rows=["pages0"], columns=["vfree"],
        kernels=["plain"], predict=True,
    )  # fmt: skip
    table.act("commit", verdict="dead", memory="none")
    assert table.question["verdict"]["right"] is True
    assert replace(table.cell, verdict="hung").code == "H-"
