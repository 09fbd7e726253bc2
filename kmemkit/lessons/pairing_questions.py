"""Lesson 11's multiple choice: the question before it, and three of its exit ticket.

Shaped as `questions.Choice`; right options are found by a run.
"""

from __future__ import annotations

from collections.abc import Callable

from kmemkit.gfp import GFP_KERNEL
from kmemkit.lessons.pairing_worlds import fragmented
from kmemkit.lessons.questions import Choice
from kmemkit.mm.errors import Oops
from kmemkit.mm.kernel import Kernel

__all__ = ("ALL", "luck", "null", "order", "plus_eight")


def _order() -> str:
    """Allocate order 5, free order 3, and count the pages that are back."""
    kernel = Kernel(ram="1M")
    before = kernel.zones[0].free_pages
    p = kernel.get_free_pages(GFP_KERNEL, 5)
    try:
        kernel.free_pages(p, 3)
    except Oops:
        return "oops"
    if kernel.dmesg():
        return "warned"
    return "part" if before - kernel.zones[0].free_pages == 24 else "all"


def _plus_eight() -> str:
    """Free p + 8, and ask for an object again."""
    kernel = Kernel(ram="16M")
    p = kernel.kmalloc(64, GFP_KERNEL) or 0
    try:
        kernel.kfree(p + 8)
    except Oops:
        return "oops"
    if kernel.dmesg():
        return "warned"
    return {p + 8: "accepted", p: "rounded"}[kernel.kmalloc(64, GFP_KERNEL) or 0]


def _null() -> str:
    """Give NULL to each function, and return the one that oopses."""
    kernel = Kernel(ram="16M")
    cache = kernel.kmem_cache_create("lesson", 40)
    assert cache is not None, "there is memory for a cache"
    calls: dict[str, Callable[[], None]] = {
        "kfree": lambda: kernel.kfree(None),
        "vfree": lambda: kernel.vfree(None),
        "free_pages": lambda: kernel.free_pages(None, 0),
        "kmem_cache_free": lambda: kernel.kmem_cache_free(cache, None),
    }
    return next(name for name, call in calls.items() if _oopses(call))


def _oopses(call: Callable[[], None]) -> bool:
    try:
        call()
    except Oops:
        return True
    return False


def _luck() -> str:
    """Free kvmalloc() memory with kfree(), on a fresh machine and on a fragmented one."""
    ends = []
    for kernel in (Kernel(ram="16M"), fragmented()):
        p = kernel.kvmalloc(64 << 10, GFP_KERNEL)
        oopses = _oopses(lambda kernel=kernel, p=p: kernel.kfree(p))  # type: ignore[misc]
        ends.append((p is not None and kernel.is_vmalloc_addr(p), oopses))
    return "fell_back" if ends == [(False, False), (True, True)] else "always"


#: Before: a block freed with an order that is too small (misconception M6).
order = Choice(
    "pairing_order",
    {"part": "", "all": "size_is_known", "warned": "kernel_would_say", "oops": "wrong_is_fatal"},
    _order,
    section="pairing",
)
#: Exit ticket: a pointer into an object.
plus_eight = Choice(
    "pairing_plus_eight",
    {
        "accepted": "",
        "rounded": "finds_beginning",
        "warned": "kernel_would_say",
        "oops": "wrong_is_fatal",
    },
    _plus_eight,
    section="pairing",
)
#: Exit ticket: NULL to each freeing function.
null = Choice(
    "pairing_null",
    {
        "kmem_cache_free": "",
        "kfree": "null_is_bad",
        "vfree": "null_is_bad",
        "free_pages": "null_is_bad",
    },
    _null,
    section="pairing",
)
#: Exit ticket: kvmalloc() memory given to kfree().
luck = Choice(
    "pairing_luck",
    {
        "fell_back": "",
        "no_memory": "null_is_bad",
        "debug": "only_debug",
        "always": "wrong_shows",
    },
    _luck,
    section="pairing",
)

ALL = (order, plus_eight, null, luck)
