"""Lesson 09's multiple choice: the question before it, and three of its exit ticket.

Shaped as `questions.Choice`; right options are found by a run.
"""

from __future__ import annotations

from kmemkit.gfp import GFP_KERNEL
from kmemkit.lessons.kmalloc_worlds import live, machine
from kmemkit.lessons.questions import Choice
from kmemkit.overflow import mul_wrap

__all__ = ("ALL", "fresh", "lost_pointer", "of_a_cache", "too_many")


def _too_many() -> str:
    """Ask for 268435457 * 16 bytes, as 32 bits hold them."""
    kernel = machine()
    at = kernel.kmalloc(mul_wrap(268435457, 16, bits=32), GFP_KERNEL)
    if at is None:
        return "warned" if kernel.dmesg() else "null"
    return "short" if kernel.ksize(at) < 268435457 * 16 else "all"


def _lost_pointer() -> str:
    """Let `p = krealloc(p, 500)` fail, and look at what became of the old block."""
    kernel = machine()
    kernel.kmemleak = True
    old = kernel.kmalloc(64, GFP_KERNEL)
    kernel.fail_nth(1)
    new = kernel.krealloc(old, 500, GFP_KERNEL)
    if new is not None:
        return "kept" if new == old else "moved"
    return "leaked" if old in live(kernel) else "freed"


def _fresh() -> str:
    """Free a block with old data in it, ask again, and look: with init_on_alloc and without."""
    zero = []
    for init_on_alloc in (True, False):
        kernel = machine(init_on_alloc=init_on_alloc)
        for _ in range(2):
            at = kernel.kmalloc(64, GFP_KERNEL) or 0
            zero.append(not any(kernel.read(at, 64)))
            kernel.write(at, b"old data")
            kernel.kfree(at)
    return {(True, False): "depends", (True, True): "always"}.get((zero[1], zero[3]), "never")


def _of_a_cache() -> str:
    """Free an object of a cache with kfree(), and ask the cache for one again."""
    kernel = machine()
    cache = kernel.kmem_cache_create("lesson", 40)
    assert cache is not None, "there is memory for a cache"
    at = kernel.kmem_cache_alloc(cache, GFP_KERNEL)
    kernel.kfree(at)
    if kernel.dmesg():
        return "warned"
    return "fine" if kernel.kmem_cache_alloc(cache, GFP_KERNEL) == at else "leaked"


#: Before: a product that does not fit 32 bits.
too_many = Choice(
    "kmalloc_too_many",
    {"short": "", "null": "allocator_knows", "warned": "allocator_knows", "all": "products_exact"},
    _too_many,
    section="kmalloc",
)
#: Exit ticket: krealloc() fails, and its answer goes into the only pointer.
lost_pointer = Choice(
    "kmalloc_lost_pointer",
    {"leaked": "", "freed": "failure_frees", "kept": "assign_is_safe", "moved": "never_fails"},
    _lost_pointer,
    section="kmalloc",
)
#: Exit ticket: what is in memory that kmalloc() gives.
fresh = Choice(
    "kmalloc_fresh",
    {"depends": "", "always": "fresh_is_zero", "never": "never_zero", "first": "boot_zeroes"},
    _fresh,
    section="kmalloc",
)
#: Exit ticket: kfree() of an object that kmem_cache_alloc() gave.
of_a_cache = Choice(
    "kmalloc_of_a_cache",
    {"fine": "", "warned": "kfree_complains", "leaked": "kfree_is_kmalloc", "oops": "kfree_oopses"},
    _of_a_cache,
    section="kmalloc",
)

ALL = (too_many, lost_pointer, fresh, of_a_cache)
