"""Whatever one asks of slabs, in whatever order: these things stay true.

Two machines get the same calls; one of them records, and so takes the careful ways. As in
test_properties.py, KMEMKIT_EXPLORE=1 makes the runs random, and twenty times as many.
"""

from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kmemkit import Kernel
from kmemkit.mm.freepointer import freelist_objects
from kmemkit.mm.slab import SLAB_HWCACHE_ALIGN, SLAB_NO_MERGE, SLAB_RECLAIM_ACCOUNT
from kmemkit.snapshot import Kind
from tests.mm.test_properties import check_snapshot, runs

GFPS = ("GFP_KERNEL", "GFP_ATOMIC", "GFP_NOWAIT|__GFP_ZERO", "GFP_KERNEL_ACCOUNT", "GFP_DMA")
CMDLINES = ("", "init_on_alloc=0", "slab_debug=FZPU", "slab_debug=FZ", "slab_max_order=0")
SIZES = st.one_of(st.integers(0, 300), st.integers(1, 8192), st.integers(8193, 40000))


def free_objects(kernel, s, slab):
    """Every free object of a slab: on a CPU's list, or on its own."""
    found = freelist_objects(kernel, s, slab.freelist, slab.objects + 1)
    for c in s.cpus:
        if c.slab is slab:
            found += freelist_objects(kernel, s, c.freelist, slab.objects + 1)
    return found


def check_cache(kernel, s, held):
    """Check one cache: lists, counters, and that every object is free once or held."""
    node_lists = [slab for n in s.nodes for slab in (*n.partial, *n.full)]
    stocks = [slab for c in s.cpus for slab in c.partial]
    active = [c.slab for c in s.cpus if c.slab is not None]
    listed = node_lists + stocks + active
    assert len({slab.pfn for slab in listed}) == len(listed), "a slab is on two lists"
    for slab in s.slabs():
        base = slab.address + s.red_left_pad
        objects = {base + number * s.size for number in range(slab.objects)}
        free = free_objects(kernel, s, slab)
        assert len(set(free)) == len(free) and objects >= set(free)
        assert objects - set(free) == objects & held.keys()
        if slab.frozen:
            assert slab in active
        else:
            assert slab.inuse == len(objects & held.keys())
            full = slab.inuse == slab.objects
            assert (slab in listed) == (not full or s.debug)
        assert slab.on_node == any(slab in n.partial for n in s.nodes)
        assert kernel.mem_map.page[slab.pfn] == Kind.SLAB << 4 | slab.order
        assert all(
            kernel.slabs[pfn] is slab for pfn in range(slab.pfn, slab.pfn + (1 << slab.order))
        )
    for n in s.nodes:
        assert sum(not slab.inuse for slab in n.partial) <= max(s.min_partial, 1)


class Objects(RuleBasedStateMachine):
    """Objects taken and given back, as a correct program does."""

    def __init__(self):
        super().__init__()
        self.kernel = self.twin = None
        self.held = {}  # address -> (size, cache or None)

    @initialize(
        cmdline=st.sampled_from(CMDLINES), cpus=st.integers(1, 2), seed=st.integers(0, 9),
        random=st.booleans(),
    )  # fmt: skip
    def boot(self, cmdline, cpus, seed, random):
        self.kernel, self.twin = (
            Kernel("64M", cmdline=cmdline, cpus=cpus, seed=seed, freelist_random=random)
            for _ in range(2)
        )
        self.twin.record(limit=2)
        self.caches = []

    def both(self, call):
        """Make a call on both machines; return what the answers agree on."""
        mine, other = call(self.kernel), call(self.twin)
        assert mine == other
        return mine

    def hold(self, at, size, cache=None):
        if at is not None and at != 16:
            for other, (length, _) in self.held.items():
                assert at + size <= other or other + length <= at, "two owners of one byte"
            self.held[at] = (size, cache)

    @rule(
        size=st.integers(8, 3000), align=st.sampled_from((0, 0, 32, 64)),
        flags=st.sampled_from((0, SLAB_NO_MERGE, SLAB_HWCACHE_ALIGN, SLAB_RECLAIM_ACCOUNT)),
    )  # fmt: skip
    @precondition(lambda self: self.kernel and len(self.caches) < 4)
    def create(self, size, align, flags):
        name = f"cache{len(self.caches)}"
        cache = self.both(lambda kernel: kernel.kmem_cache_create(name, size, align, flags))
        self.caches.append((cache, size))

    @rule(data=st.data(), gfp=st.sampled_from(GFPS[:3]), count=st.integers(1, 40))
    @precondition(lambda self: self.kernel and self.caches)
    def kmem_cache_alloc(self, data, gfp, count):
        cache, size = data.draw(st.sampled_from(self.caches))
        for _ in range(count):
            self.hold(self.both(lambda k: k.kmem_cache_alloc(cache, gfp)), size, cache)

    @rule(size=SIZES, gfp=st.sampled_from(GFPS), count=st.integers(1, 8))
    @precondition(lambda self: self.kernel)
    def kmalloc(self, size, gfp, count):
        for _ in range(count):
            at = self.both(lambda k: k.kmalloc(size, gfp))
            self.hold(at, size)
            assert at is None or size == 0 or self.kernel.ksize(at) >= size
            self.twin.ksize(at)

    @rule(data=st.data(), count=st.integers(1, 40), by_cache=st.booleans())
    @precondition(lambda self: self.held)
    def free(self, data, count, by_cache):
        for _ in range(min(count, len(self.held))):
            at = data.draw(st.sampled_from(sorted(self.held)))
            cache = self.held.pop(at)[1]
            if by_cache and cache is not None:
                self.both(partial(Kernel.kmem_cache_free, cache=cache, obj=at))
            else:
                self.both(partial(Kernel.kfree, address=at))

    @rule(cpu=st.integers(0, 1))
    @precondition(lambda self: self.kernel and self.kernel.nr_cpus == 2)
    def move(self, cpu):
        self.kernel.cpu = self.twin.cpu = cpu

    @rule(data=st.data())
    @precondition(lambda self: self.caches)
    def shrink(self, data):
        cache, _ = data.draw(st.sampled_from(self.caches))
        self.both(lambda k: k.kmem_cache_shrink(cache))

    @rule()
    @precondition(lambda self: self.kernel)
    def clone(self):
        self.kernel = self.kernel.clone()

    @invariant()
    def everything_is_in_order(self):
        if self.kernel:
            for s in self.kernel.slab_caches:
                if any(n.slabs for n in s.nodes):
                    check_cache(self.kernel, s, self.held)
            assert "BUG" not in self.kernel.dmesg()

    def teardown(self):
        if self.kernel:
            assert self.kernel.snapshot().caches == self.twin.snapshot().caches
            check_snapshot(self.kernel.snapshot())


def test_objects():
    run_state_machine_as_test(Objects, settings=runs(20, steps=25))
