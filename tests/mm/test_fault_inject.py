"""Allocations that fail on purpose: as recorded with failslab and fail_page_alloc (misuse cells sh.*)."""

from itertools import pairwise

import pytest

from kmemkit import Kernel

GFP = "GFP_KERNEL"
#: What was recorded with probability 100, interval 1, times -1, ignore-gfp-wait N.
ALWAYS = {"probability": 100, "times": -1, "ignore_gfp_wait": False}


@pytest.fixture
def kernel():
    return Kernel("64M")


def reports(kernel):
    """Return the second line of each report: the attributes it was made by."""
    lines = kernel.dmesg().splitlines()
    return [b for a, b in pairwise(lines) if a.startswith("FAULT_INJECTION")]


def test_failslab_as_recorded(kernel):
    kernel.failslab(**ALWAYS)
    assert kernel.kmalloc(64, GFP) is None
    assert kernel.kmalloc(64, "GFP_ATOMIC") is None
    assert kernel.kmalloc(64, "GFP_KERNEL | __GFP_NOFAIL") is not None
    assert len(reports(kernel)) == 2
    assert kernel.kmalloc(64, "GFP_KERNEL | __GFP_NOWARN") is None
    assert reports(kernel) == ["name failslab, interval 1, probability 100, space 0, times -1"] * 2
    assert "should_failslab\n __kmalloc_noprof" in kernel.dmesg()


def test_failslab_leaves_pages_and_large_blocks_alone(kernel):
    kernel.failslab(**ALWAYS)
    assert kernel.kmalloc(64 << 10, GFP) is not None
    assert kernel.get_free_pages(GFP, 0) is not None
    assert kernel.get_free_pages(GFP, 3) is not None
    assert kernel.vmalloc(3 * 4096) is None  # its descriptor is an object
    assert "vm_struct allocation failed" in kernel.dmesg()
    assert kernel.kvmalloc(64 << 10, GFP) is not None


def test_fail_page_alloc_as_recorded(kernel):
    kernel.kfree(kernel.kmalloc(64, GFP))
    kernel.fail_page_alloc(**ALWAYS)
    assert kernel.kmalloc(64 << 10, GFP) is None
    assert kernel.get_free_pages(GFP, 0) is not None  # min-order 1
    assert kernel.get_free_pages(GFP, 3) is None
    assert len(reports(kernel)) == 2
    assert kernel.vmalloc(3 * 4096) is not None
    v = kernel.kvmalloc(64 << 10, GFP)  # kmalloc() fails without a word
    assert kernel.is_vmalloc_addr(v)
    want = "name fail_page_alloc, interval 1, probability 100, space 0, times -1"
    assert reports(kernel) == [want] * 2


def test_single_pages_fail_with_min_order_0(kernel):
    kernel.fail_page_alloc(**ALWAYS, min_order=0)
    assert kernel.get_free_pages(GFP, 0) is None
    assert kernel.alloc_pages_bulk(GFP, 10) == []
    assert kernel.kmalloc(64, GFP) is None  # no page for a slab
    assert kernel.alloc_pages("GFP_HIGHUSER", 0) is not None
    kernel.fail_page_alloc(ignore_gfp_highmem=False)
    assert kernel.alloc_pages("GFP_HIGHUSER", 0) is None
    assert kernel.alloc_pages("GFP_KERNEL | __GFP_NOFAIL", 0) is not None
    kernel.fail_page_alloc(probability=0)
    assert kernel.get_free_pages(GFP, 0) is not None


def test_by_default_only_requests_that_cannot_wait_fail(kernel):
    kernel.failslab(probability=100, times=-1)
    kernel.fail_page_alloc(probability=100, times=-1)
    assert None not in (kernel.kmalloc(64, GFP), kernel.alloc_pages(GFP, 3))
    assert kernel.kmalloc(64, "GFP_ATOMIC") is kernel.alloc_pages("GFP_ATOMIC", 3) is None


def test_times_interval_and_space(kernel):
    def answers(count):
        return [kernel.kmalloc(64, GFP) is not None for _ in range(count)]

    kernel.failslab(**ALWAYS | {"times": 2})
    assert answers(4) == [False, False, True, True]
    assert [line[-7:] for line in reports(kernel)] == ["times 2", "times 1"]
    kernel.failslab(times=-1, interval=3)
    assert answers(7) == [True, True, False, True, True, False, True]
    kernel.failslab(interval=1, space=64 * 3)
    assert answers(4) == [True, True, False, False]
    kernel.failslab(probability=30, space=0)
    assert 15 < answers(100).count(False) < 45


def test_the_filter_names_caches(kernel):
    kernel.failslab(**ALWAYS, cache_filter=("kmalloc-64",))
    assert kernel.kmalloc(64, GFP) is None
    assert kernel.kmalloc(65, GFP) is not None


@pytest.mark.parametrize(("verbose", "lines"), [(0, 0), (1, 2)])
def test_how_much_is_said(kernel, verbose, lines):
    kernel.failslab(**ALWAYS, verbose=verbose)
    kernel.kmalloc(64, GFP)
    assert len(kernel.dmesg().splitlines()) == lines


# -- fail-nth -------------------------------------------------------------------------------------


def test_the_nth_allocation_fails_and_no_other(kernel):
    for n in range(1, 5):
        assert kernel.fail_nth(n) == n
        got = [
            kernel.kmalloc(64, GFP),
            kernel.alloc_pages(GFP, 0),
            kernel.kmalloc(20_000, GFP),
            kernel.kzalloc(100, "GFP_ATOMIC"),
        ]
        assert [number for number, p in enumerate(got, 1) if p is None] == [n]
        assert kernel.fail_nth() == 0


def test_an_error_path_is_tried_until_nothing_is_left_to_fail(kernel):
    def probe():
        a = kernel.kmalloc(64, GFP)
        if a is None:
            return "a"
        b = kernel.vmalloc(10_000)
        if b is None:
            kernel.kfree(a)
            return "b"
        kernel.vfree(b)
        kernel.kfree(a)
        return "ok"

    seen = []
    for n in range(1, 10):
        kernel.fail_nth(n)
        seen.append(probe())
        if kernel.fail_nth():
            break
    assert seen == ["a", "b", "b", "ok"]  # vmalloc() makes two allocations of its own


def test_pages_of_a_new_slab_are_not_counted(kernel):
    kernel.fail_nth(2)
    p = kernel.kmalloc(64, GFP)  # needs a slab
    assert p is not None
    assert kernel.kmalloc(64, GFP) is None


def test_it_is_the_tasks_own(kernel):
    kernel.fail_nth(1)
    with kernel.hardirq():
        assert kernel.kmalloc(64, "GFP_ATOMIC") is not None  # no task's
    assert kernel.fail_nth() == 1
    assert kernel.kmalloc(64, GFP) is None


def test_it_can_be_taken_back(kernel):
    kernel.fail_nth(1)
    assert kernel.fail_nth(0) == 0
    assert kernel.kmalloc(64, GFP) is not None


# -- state ----------------------------------------------------------------------------------------


def test_clones_fail_the_same_way_and_on_their_own(kernel):
    kernel.fail_nth(2)
    kernel.failslab(probability=50, times=-1)
    copy = kernel.clone()
    kernel.kmalloc(64, GFP)
    assert (kernel.fail_nth(), copy.fail_nth()) == (1, 2)
    kernel.fail_nth(0)
    copy.fail_nth(0)
    snapshot = kernel.snapshot()

    def answers(machine):
        return [machine.kmalloc(64, GFP) is None for _ in range(30)]

    first = answers(kernel)
    assert {True, False} == set(first)
    kernel.restore(snapshot)
    assert answers(kernel) == first == answers(Kernel.from_snapshot(snapshot))


def test_short_ways_come_back_when_nothing_is_to_fail(kernel):
    kernel.failslab(probability=1)
    assert not kernel.slab_hot
    assert kernel.watched
    kernel.failslab(probability=0)
    assert (kernel.slab_hot, kernel.watched) == (True, False)
    assert kernel.alloc_pages(GFP) is not None


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"chance": 1}, TypeError, "'chance' is no attribute; there are probability"),
        ({"count": 1}, TypeError, "no attribute"),
        ({"probability": 101}, ValueError, "0 to 100"),
        ({"probability": -1}, ValueError, "too small"),
        ({"interval": 0}, ValueError, "at least 1"),
        ({"times": -2}, ValueError, "may be -1"),
        ({"times": "all"}, TypeError, "give a whole number"),
        ({"ignore_gfp_wait": 1}, TypeError, "True or False"),
        ({"cache_filter": "kmalloc-64"}, TypeError, "tuple"),
    ],
)
def test_wrong_attributes_are_refused(kernel, changes, error, match):
    with pytest.raises(error, match=match):
        kernel.failslab(**changes)


@pytest.mark.parametrize(("n", "error"), [("1", TypeError), (True, TypeError), (-1, ValueError)])
def test_fail_nth_takes_a_number(kernel, n, error):
    with pytest.raises(error, match=r"give (a whole number|1 or more)"):
        kernel.fail_nth(n)


def test_a_bulk_request_is_one_request(kernel):
    cache = kernel.kmem_cache_create("bulk", 64)
    kernel.fail_nth(2)
    assert len(kernel.kmem_cache_alloc_bulk(cache, GFP, 10)) == 10
    assert kernel.fail_nth() == 1
    assert kernel.kmem_cache_alloc_bulk(cache, GFP, 10) == []
