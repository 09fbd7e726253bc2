"""The LRU lists of a node: their order, and that a frozen one goes on like the live one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemkit import Kernel
from kmemkit.mm.history import MOST_BYTES
from kmemkit.mm.swap import (
    ACTIVE_ANON,
    ACTIVE_FILE,
    INACTIVE_ANON,
    INACTIVE_FILE,
    LRU_DIRTY,
    LRU_MASK,
    UNEVICTABLE,
    LruList,
    Pglist,
)
from kmemkit.snapshot import LRU_LISTS

NUMBERS = (INACTIVE_ANON, ACTIVE_ANON, INACTIVE_FILE, ACTIVE_FILE, UNEVICTABLE)


def test_numbers_are_those_of_the_names():
    assert [LRU_LISTS[number - 1] for number in NUMBERS] == [
        "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable",
    ]  # fmt: skip
    assert all(number & LRU_MASK == number and not number & LRU_DIRTY for number in NUMBERS)


@given(st.lists(st.tuples(st.sampled_from(("add", "pop", "remove")), st.integers(0, 30))))
def test_a_list_is_a_queue_from_which_any_page_can_be_taken(steps):
    lru, model = LruList(), []
    for what, pfn in steps:
        if what == "add" and pfn not in model:
            lru.add(pfn)
            model.append(pfn)
        elif what == "pop" and model:
            assert lru.pop_oldest() == model.pop(0)
        elif what == "remove" and pfn in model:
            lru.remove(pfn)
            model.remove(pfn)
        assert len(lru) == len(model)
        assert [*reversed(lru.older), *lru.newer] == model


def test_an_empty_list_has_no_oldest_page():
    with pytest.raises(KeyError):
        LruList().pop_oldest()
    with pytest.raises(KeyError):
        LruList().remove(5)


def node_with_pages():
    kernel = Kernel("128M")
    node = kernel.nodes[0]
    for pfn in (300, 5000, 301, 5001, 302):
        node.folio_add_lru(pfn, INACTIVE_FILE, dirty=pfn % 2 == 1)
    node.folio_add_lru(6000, ACTIVE_ANON)
    return kernel, node


def test_pages_stand_on_the_list_of_their_zone():
    kernel, node = node_with_pages()
    assert list(node.pages(INACTIVE_FILE)) == [300, 301, 302, 5000, 5001]
    assert node.nr(INACTIVE_FILE) == 5
    assert node.nr(INACTIVE_FILE, ACTIVE_ANON) == 6
    assert node.nr(INACTIVE_FILE, highest=0) == 3
    assert node.nr(ACTIVE_ANON, highest=0) == 0
    assert kernel.mem_map.lru[301] == INACTIVE_FILE | LRU_DIRTY
    assert kernel.mem_map.lru[300] == INACTIVE_FILE
    node.folio_del_lru(301)
    assert list(node.pages(INACTIVE_FILE)) == [300, 302, 5000, 5001]
    assert kernel.mem_map.lru[301] == 0


def test_a_page_of_another_node_is_refused():
    kernel = Kernel("512M", nodes=2, cpus=2)
    with pytest.raises(ValueError, match="pfn 0x10 is not on node 1"):
        kernel.nodes[1].folio_add_lru(0x10, INACTIVE_FILE)


@given(
    pages=st.lists(st.integers(0, 200), unique=True, max_size=60),
    popped=st.integers(0, 30),
    running=st.booleans(),
)
def test_a_thawed_node_goes_on_like_the_live_one(pages, popped, running):
    kernel = Kernel("1M")
    node = kernel.nodes[0]
    for pfn in pages:
        node.folio_add_lru(pfn, INACTIVE_FILE)
        node.slab.add(pfn)
    lists = (node.lists[INACTIVE_FILE][2], node.slab)
    for lru in lists:
        for _ in range(min(popped, len(pages))):
            lru.pop_oldest()
    for name in Pglist.__slots__:
        if name.startswith(("kswapd", "kcompactd")):
            setattr(node, name, running if name.endswith(("running", "paused")) else popped)
    twin = Pglist.thaw(node.freeze(), node.zones)
    for mine, other in zip(lists, (twin.lists[INACTIVE_FILE][2], twin.slab), strict=True):
        assert len(mine) == len(other)
        assert [mine.pop_oldest() for _ in range(len(mine))] == [
            other.pop_oldest() for _ in range(len(other))
        ]
    for name in Pglist.__slots__:
        if name.startswith(("kswapd", "kcompactd")):
            assert getattr(twin, name) == getattr(node, name)


def test_a_frozen_node_is_no_longer_the_live_one():
    kernel, node = node_with_pages()
    frozen = node.freeze()
    twin = Pglist.thaw(frozen, node.zones)
    twin.lists[INACTIVE_FILE][0].pop_oldest()
    node.lists[INACTIVE_FILE][0].add(303)
    assert frozen.lru("inactive_file", 0) == (300, 301, 302)
    assert kernel.nodes[0] is node


def test_a_history_of_full_lists_is_cut_by_its_size():
    kernel = Kernel("256M")
    kernel.read_file("200M")
    kernel.record()
    for _ in range(120):
        kernel.alloc_pages("GFP_KERNEL")
    lists = 51_200 * 30  # a dict entry is bigger than that
    assert len(kernel.history) < min(120, MOST_BYTES // lists)
