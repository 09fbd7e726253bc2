"""Freeing later: kfree_rcu(), its worker, its barriers (misuse cell m.dbl_kfree_rcu)."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.errors import Livelock
from kmemkit.mm.slab import SLAB_NO_MERGE

GFP = "GFP_KERNEL"


@pytest.fixture
def kernel():
    return Kernel("64M")


def test_memory_is_not_free_before_the_barrier(kernel):
    p = kernel.kmalloc(64, GFP)
    kernel.write(p, b"readers may look")
    kernel.kfree_rcu(p)
    assert kernel.kmalloc(64, GFP) != p
    assert kernel.read(p, 16) == b"readers may look"
    kernel.rcu_barrier()  # waits for something else
    assert kernel.kmalloc(64, GFP) != p
    kernel.kvfree_rcu_barrier()
    assert kernel.kmalloc(64, GFP) == p


def test_the_worker_frees_it_after_five_seconds(kernel):
    p = kernel.kmalloc(64, GFP)
    kernel.kfree_rcu(p)
    kernel.sleep(4990)
    assert kernel.krc == [p]
    kernel.sleep(20)
    assert kernel.krc == []
    assert kernel.kmalloc(64, GFP) == p


def test_any_request_for_pages_finds_out_that_it_is_time(kernel):
    kernel.kfree_rcu(kernel.kmalloc(64, GFP))
    copy = Kernel.from_snapshot(kernel.snapshot())
    for one in (kernel, copy):
        one.now += 5_000_000_000
        one.alloc_pages(GFP)
        assert one.krc == []


def test_objects_come_back_in_the_order_they_were_given(kernel):
    got = [kernel.kmalloc(64, GFP) for _ in range(3)]
    for p in got:
        kernel.kfree_rcu(p)
    kernel.kvfree_rcu_barrier()
    assert [kernel.kmalloc(64, GFP) for _ in range(3)] == got


def test_all_kinds_of_kvmalloc_memory(kernel):
    v, big = kernel.vmalloc(10_000), kernel.kmalloc(20_000, GFP)
    for p in (v, big, None):
        kernel.kvfree_rcu(p)
    kernel.kvfree_rcu_barrier()
    assert kernel.vmalloc_space.find(v) is None
    assert kernel.kmalloc(20_000, GFP) == big


def test_destroying_a_cache_waits_for_what_was_to_be_freed(kernel):
    cache = kernel.kmem_cache_create("rcu", 100, flags=SLAB_NO_MERGE)
    kernel.kfree_rcu(kernel.kmem_cache_alloc(cache, GFP))
    kernel.kmem_cache_destroy(cache)
    assert kernel.dmesg() == ""
    with pytest.raises(ValueError, match="there is no cache"):
        kernel.kmem_cache("rcu")


def test_freed_twice_the_worker_dies_and_the_barrier_never_returns(kernel):
    p = kernel.kmalloc(64, GFP)
    kernel.kfree_rcu(p)
    kernel.kfree(p)
    with pytest.raises(Livelock, match="waits for ever"):
        kernel.kvfree_rcu_barrier()
    assert kernel.dmesg().startswith("kernel BUG at mm/slub.c:550!")
    assert kernel.current.comm == "init"


def test_nobody_waits_and_only_the_worker_dies(kernel):
    p = kernel.kmalloc(64, GFP)
    kernel.kfree_rcu(p)
    kernel.kfree_rcu(p)
    kernel.sleep(6000)
    assert "kernel BUG at mm/slub.c:550!" in kernel.dmesg()
    assert kernel.kmalloc(64, GFP) == p  # it was freed once, and life goes on
    assert "D" in kernel.taints


def test_clones_have_their_own_list(kernel):
    p = kernel.kmalloc(64, GFP)
    kernel.kfree_rcu(p)
    copy = kernel.clone()
    kernel.kvfree_rcu_barrier()
    assert (kernel.krc, copy.krc, copy.due) == ([], [p], copy.krc_due)
    copy.kvfree_rcu_barrier()
    assert copy.kmalloc(64, GFP) == p
