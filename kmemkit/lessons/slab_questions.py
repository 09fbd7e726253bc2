"""Lesson 08's multiple choice: the question before it, and three of its exit ticket.

Shaped as `questions.Choice`; right options are found by a run.
"""

from __future__ import annotations

from kmemkit.gfp import GFP_KERNEL
from kmemkit.lessons.questions import Choice
from kmemkit.lessons.slab_worlds import frames
from kmemkit.mm.errors import Oops
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.slab import SLAB_NO_MERGE

__all__ = ("ALL", "all_freed", "live_destroy", "one_byte", "wrong_cache")


def _all_freed() -> str:
    """Free 56 objects of fourteen slabs, and count the slabs."""
    world = frames(14)
    for slab in world.slabs:
        for at in slab:
            world.kernel.kmem_cache_free(world.cache, at)
    left = int(world.kernel.slab_sysfs("frame")["slabs"].split()[0])
    return {0: "none", 14: "all"}.get(left, "some")


def _live_destroy() -> str:
    """Destroy a cache with an object in use, and read the object afterwards."""
    kernel = Kernel(ram="16M")
    cache = kernel.kmem_cache_create("session", 200, 0, SLAB_NO_MERGE)
    at = kernel.kmem_cache_alloc(cache or 0, GFP_KERNEL) or 0
    kernel.write(at, b"alive")
    kernel.kmem_cache_destroy(cache)
    if "still has objects" not in kernel.dmesg():
        return "waits"
    return "leaks" if kernel.read(at, 5) == b"alive" else "frees"


def _wrong_cache() -> str:
    """Free an object with another cache's pointer, and ask both caches for it."""
    kernel = Kernel(ram="16M")
    one = kernel.kmem_cache_create("session", 200, 0, SLAB_NO_MERGE) or 0
    other = kernel.kmem_cache_create("packet", 200, 0, SLAB_NO_MERGE) or 0
    at = kernel.kmem_cache_alloc(one, GFP_KERNEL)
    try:
        kernel.kmem_cache_free(other, at)
    except Oops:
        return "oops"
    if kernel.kmem_cache_alloc(other, GFP_KERNEL) == at:
        return "other"
    return "own" if kernel.kmem_cache_alloc(one, GFP_KERNEL) == at else "stays"


def _one_byte() -> str:
    """Write one byte past the end of an object, free it, and read the log; Debian's defaults."""
    kernel = Kernel(ram="16M")
    cache = kernel.kmem_cache_create("session", 200, 0, SLAB_NO_MERGE) or 0
    at = kernel.kmem_cache_alloc(cache, GFP_KERNEL) or 0
    try:
        kernel.write(at + 200, b"\0")
    except Oops:
        return "oops"
    if kernel.dmesg():
        return "at_once"
    kernel.kmem_cache_free(cache, at)
    return "at_free" if kernel.dmesg() else "nothing"


#: Before: all objects of a cache are freed. What does it keep?
all_freed = Choice(
    "slab_all_freed",
    {"some": "", "none": "empty_is_freed", "all": "only_destroy", "short": "reclaim_takes_slabs"},
    _all_freed,
    section="slab",
)
#: Exit ticket: kmem_cache_destroy() with an object in use.
live_destroy = Choice(
    "slab_live_destroy",
    {"leaks": "", "frees": "destroy_frees", "waits": "destroy_waits", "refuses": "destroy_refuses"},
    _live_destroy,
    section="slab",
)
#: Exit ticket: kmem_cache_free() with another cache.
wrong_cache = Choice(
    "slab_wrong_cache",
    {"own": "", "other": "pointer_decides", "stays": "warning_refuses", "oops": "wrong_oopses"},
    _wrong_cache,
    section="slab",
)
#: Exit ticket: one byte past the end, on a plain kernel.
one_byte = Choice(
    "slab_one_byte",
    {"nothing": "", "at_free": "free_looks", "at_once": "kernel_watches", "oops": "hardware_stops"},
    _one_byte,
    section="slab",
)

ALL = (all_freed, live_destroy, wrong_cache, one_byte)
