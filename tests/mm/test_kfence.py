"""KFENCE: objects with guard pages around them, what is noticed, and the pool that is used again."""

from __future__ import annotations

import pytest

from kmemkit import Kernel
from kmemkit.mm.errors import KernelBug

GFP = "GFP_KERNEL"
PAGE = 4096


@pytest.fixture
def kernel():
    return Kernel("64M", cmdline="kfence.sample_interval=1")


def guarded(kernel, size=64, allocate=None):
    """Allocate until an object is guarded."""
    allocate = allocate or (lambda: kernel.kmalloc(size, GFP))
    for _ in range(1000):
        kernel.now += 1_000_000
        at = allocate()
        if kernel.kfence.owns(at):
            return at
    raise AssertionError("no object was guarded")


def headlines(kernel):
    return [line for line in kernel.dmesg().splitlines() if line.startswith("BUG")]


def behind(at, size=64):
    """Return the first address of the guard page behind an object."""
    return (at + size - 1) // PAGE * PAGE + PAGE


def test_an_access_behind_the_page_is_reported_where_it_happens(kernel):
    at = guarded(kernel)
    kernel.write(behind(at), b"x")
    kernel.caller = "driver"
    kernel.read(behind(at) - PAGE * 2, 1)
    assert headlines(kernel) == [
        "BUG: KFENCE: out-of-bounds write in learner",
        "BUG: KFENCE: out-of-bounds read in driver",
    ]


def test_a_page_that_was_reported_is_open_until_its_object_is_freed(kernel):
    at = guarded(kernel)
    for _ in range(3):
        kernel.read(behind(at), 1)
    assert len(headlines(kernel)) == 1
    kernel.kfree(at)
    kernel.read(at, 1)
    kernel.read(at, 1)
    assert headlines(kernel)[1:] == ["BUG: KFENCE: use-after-free read in learner"]


def test_a_guard_page_with_no_object_beside_it_is_an_invalid_access(kernel):
    at = guarded(kernel)
    kernel.kfree(at)
    kernel.write(behind(at), b"x")
    assert headlines(kernel) == ["BUG: KFENCE: invalid write in learner"]


def test_the_bytes_beside_an_object_are_looked_at_when_it_is_freed(kernel):
    at = guarded(kernel, 60)
    beside = at + 60 if at % PAGE + 60 < PAGE else at - 1
    kernel.write(beside, b"x")
    assert headlines(kernel) == []
    kernel.kfree(at)
    assert headlines(kernel) == ["BUG: KFENCE: memory corruption in learner"]


def test_freed_twice(kernel):
    at = guarded(kernel)
    kernel.kfree(at)
    kernel.kfree(at)
    assert headlines(kernel) == ["BUG: KFENCE: invalid free in learner"]


def test_pages_of_freed_objects_are_used_again_the_oldest_first():
    kernel = Kernel("64M", cmdline="kfence.sample_interval=1 kfence.num_objects=3")
    first, second, third = (guarded(kernel) for _ in range(3))
    kernel.kfree(second)
    kernel.kfree(first)
    fourth, fifth = guarded(kernel), guarded(kernel)
    assert fourth // PAGE == second // PAGE and fifth // PAGE == first // PAGE
    kernel.read(fourth, 64)
    assert headlines(kernel) == []
    with pytest.raises(AssertionError):
        guarded(kernel)
    kernel.kfree(third)
    assert guarded(kernel) // PAGE == third // PAGE


def test_a_clone_guards_as_the_machine_does(kernel):
    at = guarded(kernel)
    kernel.read(behind(at), 1)
    twin = kernel.clone()
    for machine in (kernel, twin):
        machine.read(behind(at), 1)
        machine.kfree(at)
        machine.read(at, 1)
    assert headlines(twin) == headlines(kernel)
    assert len(headlines(kernel)) == 2


def test_a_program_may_see_a_guarded_object_wherever_it_lies_in_its_page(kernel):
    seen = set()
    while len(seen) < 2:
        at = guarded(kernel, 96)
        seen.add(at % PAGE)
        assert len(kernel.copy_to_user(at, 96)) == 96
        with pytest.raises(KernelBug, match="offset 1, size 96"):
            kernel.copy_to_user(at + 1, 96)
