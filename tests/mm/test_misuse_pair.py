"""Pairs of allocator and freeing function: what recorded kernels made of each, cell by cell.

Every recorded cell is in tests/golden/misuse_pair.json.gz. Every third of the plain kernel's is
played here, and every tenth of the others'; KMEMKIT_EXPLORE=1 plays them all. A few were decided by
what happened to lie behind a block or by which task an interrupt hit; they are named here with the
reason.
"""

import gzip
import json
import os
from pathlib import Path

import pytest

from kmemkit.mm.misuse_pair import ALLOCATORS, FREERS, play_pair, play_pair_cell

GOLDEN = Path(__file__).parent.parent / "golden" / "misuse_pair.json.gz"
ROWS = json.loads(gzip.decompress(GOLDEN.read_bytes()))
IN_INTERRUPT = "a softirq used the page that two caches shared, which is a panic"
#: (kernel, cell) -> why the recorded machine went another way.
LUCK = {
    ("noinit", "pair.kmalloc64.free_pages_larger"): IN_INTERRUPT,
    ("noinit", "pair.kvmalloc64.free_pages_larger"): IN_INTERRUPT,
    ("noinit", "pair.kzalloc64.free_pages_larger"): IN_INTERRUPT,
    ("slabdbg", "pair.kmalloc3p.free_pages_larger"): "a partial slab lay behind the block",
    ("kfence", "pair.cache.kfree_sensitive"): "the object was guarded by chance",
    ("kfence", "pair.kmalloc64.vfree"): "the object lay at the start of its page",
}
if not os.environ.get("KMEMKIT_EXPLORE"):
    ROWS = [row for n, row in enumerate(ROWS) if n % (3 if row["kernel"] == "plain" else 10) == 0]
GROUPS = sorted({(row["kernel"], row["allocator"]) for row in ROWS})


@pytest.mark.parametrize(("kernel", "allocator"), GROUPS, ids=map("-".join, GROUPS))
def test_freeing_functions_do_what_they_did(kernel, allocator):
    cells = [row for row in ROWS if (row["kernel"], row["allocator"]) == (kernel, allocator)]
    played = {row["cell"]: play_pair_cell(row) for row in cells}
    wrong = {cell: [str(one) for one in result.mismatches]
             for cell, result in played.items() if not result.ok}  # fmt: skip
    expected = {cell for name, cell in LUCK if name == kernel and cell in played}
    assert wrong.keys() == expected, wrong


@pytest.mark.parametrize("kernel", ["plain", "kasan"])
@pytest.mark.parametrize("allocator", sorted(ALLOCATORS.keys() - {row[1] for row in GROUPS}))
def test_pairs_that_nobody_recorded_end_in_words_that_were(kernel, allocator):
    for freer in FREERS.keys() - ({"free_pages_smaller"} if allocator == "kmalloc4k" else set()):
        outcome = play_pair(kernel, allocator, freer)
        assert outcome.survived in {"yes", "task killed", "later oops", "hung"}
        assert outcome.memory_returned


def test_a_stack_is_memory_to_kasan_and_no_page_to_ksize():
    outcome = play_pair("kasan", "stack", "kfree_sensitive")
    assert outcome.survived == "task killed"
    assert outcome.report_first_line.startswith("BUG: unable to handle page fault")


@pytest.mark.parametrize(("kernel", "survived"), [("plain", "yes"), ("kasan", "task killed")])
def test_a_page_inside_of_a_slab_has_no_reference_to_drop(kernel, survived):
    outcome = play_pair(kernel, "kmalloc4k", "free_pages_same")
    assert (outcome.survived, outcome.memory_returned) == (survived, "no")
    assert (outcome.report_first_line is None) == (kernel == "plain")


def test_right_pairs_are_silent_and_give_everything_back():
    for allocator, freer in (("kmalloc4k", "kfree"), ("exact5", "free_pages_exact"),
                             ("kvmalloc8m", "kvfree")):  # fmt: skip
        outcome = play_pair("plain", allocator, freer)
        assert (outcome.survived, outcome.report_first_line) == ("yes", None)
        assert outcome.memory_returned == "yes"
        assert not outcome.notes


@pytest.mark.parametrize("record", [{}, {"kernel": "plain", "allocator": "pages0"}, 5])
def test_what_is_no_pair_is_refused(record):
    with pytest.raises(ValueError, match="recording: "):
        play_pair_cell(record)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no kernel 'vax'"):
        play_pair("vax", "pages0", "kfree")
    with pytest.raises(ValueError, match="not a pair: no allocator 'malloc'; there are kmalloc64"):
        play_pair("plain", "malloc", "kfree")
    with pytest.raises(ValueError, match="not a pair: no freer 'free'; there are kfree, kvfree"):
        play_pair("plain", "pages0", "free")
    with pytest.raises(ValueError, match="pages0 has no smaller order"):
        play_pair("plain", "pages0", "free_pages_smaller")
