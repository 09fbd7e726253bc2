"""KASAN: what the debug kernel says of a byte that nobody may touch."""

from __future__ import annotations

import pytest

from kmemkit import Kernel
from kmemkit.mm.errors import KernelBug
from kmemkit.mm.slab import SLAB_TYPESAFE_BY_RCU

GFP = "GFP_KERNEL"


@pytest.fixture
def kernel():
    return Kernel("64M", debug_kernel=True)


def headlines(kernel):
    return [line for line in kernel.dmesg().splitlines() if line.startswith("BUG")]


def test_every_byte_that_was_not_asked_for_is_out_of_bounds(kernel):
    at = kernel.kmalloc(60, GFP)
    kernel.read(at, 60)
    assert headlines(kernel) == []
    kernel.read(at + 60, 1)
    kernel.write(at - 1, b"x")
    assert headlines(kernel) == ["BUG: KASAN: slab-out-of-bounds in learner"] * 2


def test_a_freed_object_stays_in_quarantine(kernel):
    at = kernel.kmalloc(64, GFP)
    kernel.kfree(at)
    assert kernel.kmalloc(64, GFP) != at
    kernel.read(at, 1)
    kernel.kfree(at)
    assert headlines(kernel) == [
        "BUG: KASAN: slab-use-after-free in learner",
        "BUG: KASAN: double-free in learner",
    ]


def test_quarantine_holds_a_part_of_memory_and_gives_the_oldest_back(kernel):
    first = kernel.kmalloc(8192, GFP)
    kernel.kfree(first)
    pages = sum(zone.managed for zone in kernel.zones)
    frees = 1
    while kernel.kasan.freed[first] is not None:
        kernel.kfree(kernel.kmalloc(8192, GFP))
        frees += 1
    slot = kernel.kmem_caches[kernel.kmem_cache("kmalloc-8k")].size
    assert (frees - 1) * slot <= pages * 4096 // 32 < frees * slot
    assert kernel.kasan.held == (frees - 1) * slot


def test_what_readers_may_look_at_is_not_poisoned(kernel):
    cache = kernel.kmem_cache_create("rcu", 64, flags=SLAB_TYPESAFE_BY_RCU)
    at = kernel.kmem_cache_alloc(cache, GFP)
    kernel.kmem_cache_free(cache, at)
    assert kernel.kmem_cache_alloc(cache, GFP) == at


def test_a_large_block_is_looked_at_when_it_is_freed(kernel):
    at = kernel.kmalloc(16384, GFP)
    kernel.kfree(at)
    with pytest.raises(KernelBug, match="include/linux/mm.h"):
        kernel.kfree(at)
    assert headlines(kernel) == ["BUG: KASAN: double-free in kfree"]
    kernel.kfree(kernel.kmalloc(16384, GFP) + 4096)
    assert headlines(kernel)[1:] == ["BUG: KASAN: invalid-free in kfree"]


@pytest.mark.parametrize("call", ["ksize", "krealloc", "kfree_sensitive"])
def test_a_size_is_not_asked_of_a_freed_object(kernel, call):
    at = kernel.kmalloc(64, GFP)
    kernel.kfree(at)
    if call == "krealloc":
        assert kernel.krealloc(at, 32, GFP) is None
    elif call == "ksize":
        assert kernel.ksize(at) == 0
    else:
        kernel.kfree_sensitive(at)
    who = "kfree_sensitive" if call == "kfree_sensitive" else "learner"
    wanted = [f"BUG: KASAN: slab-use-after-free in {who}"]
    if call == "kfree_sensitive":
        wanted.append("BUG: KASAN: double-free in learner")
    assert headlines(kernel) == wanted


def test_a_slab_that_is_made_anew_knows_nothing_of_the_one_before(kernel):
    cache = kernel.kmem_cache_create("old", 64)
    old = [kernel.kmem_cache_alloc(cache, GFP) for _ in range(20)]
    for at in old:
        kernel.kmem_cache_free(cache, at)
    kernel.kmem_cache_destroy(cache)
    assert not kernel.kasan.freed.keys() & set(old)
