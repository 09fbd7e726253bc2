"""Whatever one asks for and frees, in whatever order, these things stay true.

The runs are the same every time. KMEMKIT_EXPLORE=1 makes them random, and twenty times as many.
"""

import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
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
from kmemkit.mm.errors import KernelBug, Oops
from kmemkit.mm.mmzone import MIGRATE_HIGHATOMIC, MIGRATE_PCPTYPES, NO_PAGEBLOCK
from kmemkit.mm.pcp import pindex_to_order
from kmemkit.snapshot import Kind

EXPLORE = bool(os.environ.get("KMEMKIT_EXPLORE"))


def runs(examples, steps=50):
    return settings(
        max_examples=examples * (20 if EXPLORE else 1), stateful_step_count=steps, deadline=None,
        derandomize=not EXPLORE, database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip


# -- machines -------------------------------------------------------------------------------------


def tuned(kernel, managed=None):
    """Give a small world what only big machines have: busy per-CPU lists, marks, a lagging count."""
    for zone in kernel.zones:
        zone.watermark[:] = [8, 12, 16, 20]
        zone.stat_threshold = 5
        zone.managed = managed or zone.managed
        for pcp in zone.pcps:
            pcp.batch, pcp.high_min, pcp.high_max = 7, 28, 120
    return kernel


SMALL = {
    "256K": lambda: Kernel("256K"),
    "100 pages": lambda: Kernel(100 * 4096),
    "1M": lambda: Kernel("1M", cpus=2),
    "1M in small blocks": lambda: Kernel("1M", max_order=4, pageblock_order=2),
    "1M in whole pageblocks": lambda: Kernel("1M", max_order=5, pageblock_order=5),
    "1M with lists": lambda: tuned(Kernel("1M", pcp=True, cpus=2)),
    "2M reserving highatomic": lambda: tuned(
        Kernel("2M", pcp=True, max_order=6, pageblock_order=4), managed=4000
    ),
}
REAL = {
    "8M with lists": lambda: tuned(Kernel("8M", pcp=True, cpus=2)),
    "64M": lambda: Kernel("64M"),
    "64M in two nodes": lambda: tuned(Kernel("64M", nodes=2, cpus=2)),
}
GFPS = (
    "GFP_KERNEL", "GFP_ATOMIC", "GFP_NOWAIT", "GFP_HIGHUSER_MOVABLE", "__GFP_RECLAIMABLE|GFP_NOFS",
    "GFP_KERNEL|__GFP_COMP", "GFP_KERNEL|__GFP_MEMALLOC", "GFP_DMA",
)  # fmt: skip
OWNERS = ("", "driver", "page cache")
ORDERS = st.sampled_from((0, 0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 9, 10))


# -- what stays true ------------------------------------------------------------------------------


#: a block's head and what is behind it, or a run of pages that nobody ever had
BLOCK = re.compile(rb"\x30+|\x40+|[^\0]\0*")


def blocks_of(snapshot):
    """Return [(head, kind, order)] of the whole page column; every page belongs to one block."""
    found, end = [], 0
    for match in BLOCK.finditer(snapshot.pages):
        pfn, length = match.start(), match.end() - match.start()
        assert pfn == end, f"page {end:#x} belongs to no block"
        end = match.end()
        kind, order = Kind(match[0][0] >> 4), match[0][0] & 15
        if kind not in (Kind.RESERVED, Kind.HOLE):
            assert pfn % (1 << order) == 0, f"block at {pfn:#x} is not aligned to order {order}"
            assert length == 1 << order, f"block at {pfn:#x} is cut"
            found.append((pfn, kind, order))
    assert end == len(snapshot.pages)
    return found


def check_snapshot(snapshot):
    """Check all that can be seen from outside."""
    heads = {kind: set() for kind in Kind}
    for pfn, kind, order in blocks_of(snapshot):
        heads[kind].add((pfn, order))
    free, cached = set(), set()
    for zone in snapshot.zones:
        check_lists(zone)
        check_counts(zone)
        for (order, _), pfns in zone.free_lists().items():
            free.update((pfn, order) for pfn in pfns)
        for pcp in zone.pcps:
            for index, pfns in pcp.lists.items():
                cached.update((pfn, pindex_to_order(index)) for pfn in pfns)
    assert heads[Kind.FREE] == free
    assert heads[Kind.PCP] == cached
    check_buddies(snapshot, free)


def check_lists(zone):
    """Check that every free block is on one list, that of its pageblocks' type, once."""
    seen = set()
    for (order, kind), pfns in zone.free_lists().items():
        assert len(set(pfns)) == len(pfns) == zone.nr_free(order, kind)
        assert not seen & set(pfns)
        seen.update(pfns)
        head, tail = zone._lists[order, kind]
        assert not head.keys() & tail.keys()
        for pfn in pfns:
            assert zone.start_pfn <= pfn <= zone.end_pfn - (1 << order)
            step = 1 << min(order, zone.pageblock_order)
            types = {zone.pageblock_type(page) for page in range(pfn, pfn + (1 << order), step)}
            assert types == {kind}


def check_counts(zone):
    on_lists = sum(len(pfns) << order for (order, _), pfns in zone.free_lists().items())
    assert zone.free == on_lists
    reserve = sum(
        len(pfns) << order
        for (order, kind), pfns in zone.free_lists().items()
        if kind == MIGRATE_HIGHATOMIC
    )
    assert zone.nr_free_highatomic == reserve
    for pcp in zone.pcps:
        pages = sum(len(pfns) << pindex_to_order(index) for index, pfns in pcp.lists.items())
        assert pcp.count == pages
        assert pcp.high_max == 0 or pcp.high <= pcp.high_max
        assert 0 <= pcp.alloc_factor <= 5
        assert abs(pcp.stat_diff) <= zone.stat_threshold
    blocks = zone.pageblocks.count(MIGRATE_HIGHATOMIC)
    assert zone.nr_reserved_highatomic == blocks << zone.pageblock_order
    assert set(zone.pageblocks) <= {0, 1, 2, 3, NO_PAGEBLOCK}


def check_buddies(snapshot, free):
    """Check that no two free buddies are left unmerged where their types may merge."""
    for pfn, order in free:
        zone = snapshot.zone_of(pfn)
        buddy = pfn ^ (1 << order)
        if order < zone.max_order and (buddy, order) in free and snapshot.zone_of(buddy) is zone:
            kinds = {zone.pageblock_type(pfn), zone.pageblock_type(buddy)}
            assert len(kinds) == 2, f"{pfn:#x} and its buddy {buddy:#x} are free, order {order}"
            assert max(kinds) >= MIGRATE_PCPTYPES


class Requests(RuleBasedStateMachine):
    """Requests and frees, as a correct program makes them."""

    worlds = SMALL

    def __init__(self):
        super().__init__()
        self.kernel = None
        self.held, self.owners = {}, {}

    @initialize(data=st.data(), recording=st.booleans())
    def boot(self, data, recording):
        self.name = data.draw(st.sampled_from(sorted(self.worlds)))
        self.kernel = self.worlds[self.name]()
        if recording:
            self.kernel.record(limit=6)
        snapshot = self.kernel.snapshot()
        self.at_boot = {zone.start_pfn: free_blocks(zone) for zone in snapshot.zones}
        self.pages_at_boot = sum(zone.free for zone in snapshot.zones)

    def hold(self, pfn, order, owner=""):
        self.owners[pfn] = owner
        for page in range(pfn, pfn + (1 << order)):
            assert page not in self.held, f"page {page:#x} was handed out twice"
            self.held[page] = (pfn, order)

    def take_back(self, data):
        pfn, order = data.draw(st.sampled_from(sorted(set(self.held.values()))))
        for page in range(pfn, pfn + (1 << order)):
            del self.held[page]
        return pfn, order

    @rule(gfp=st.sampled_from(GFPS), order=ORDERS, owner=st.sampled_from(OWNERS))
    def alloc_pages(self, gfp, order, owner):
        pfn = self.kernel.alloc_pages(gfp, order, owner=owner)
        if pfn is not None:
            self.hold(pfn, order, owner)

    @rule(gfp=st.sampled_from(GFPS[:4]), order=st.integers(0, 2), count=st.integers(5, 40))
    def alloc_many(self, gfp, order, count):
        for _ in range(count):
            pfn = self.kernel.alloc_pages(gfp, order)
            if pfn is not None:
                self.hold(pfn, order)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def free_pages(self, data):
        self.kernel.free_pages(*self.take_back(data))

    @precondition(lambda self: len(set(self.held.values())) > 10)
    @rule(data=st.data(), share=st.integers(2, 4))
    def free_many(self, data, share):
        for pfn, order in sorted(set(self.held.values()))[::share]:
            for page in range(pfn, pfn + (1 << order)):
                del self.held[page]
            self.kernel.free_pages(pfn, order)

    @rule(pages=st.integers(1, 20), gfp=st.sampled_from(GFPS[:4]))
    def alloc_exact(self, pages, gfp):
        address = self.kernel.alloc_pages_exact(4096 * pages, gfp)
        if address is not None:
            pfn = self.kernel.virt_to_page(address)
            for page in range(pfn, pfn + pages):
                self.hold(page, 0)

    @rule(count=st.integers(0, 30), gfp=st.sampled_from(GFPS[:4]))
    def alloc_bulk(self, count, gfp):
        pages = self.kernel.alloc_pages_bulk(gfp, count, owner="bulk")
        assert len(pages) <= count
        for pfn in pages:
            self.hold(pfn, 0, "bulk")

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def split_page(self, data):
        pfn, order = self.take_back(data)
        if pfn in self.kernel.mem_map.compound:
            self.kernel.free_pages(pfn, order)
            return
        self.kernel.split_page(pfn, order)
        for page in range(pfn, pfn + (1 << order)):
            self.held[page] = (page, 0)
            self.owners[page] = self.owners[pfn]

    @rule()
    def drain(self):
        self.kernel.drain_all_pages()
        assert all(zone.pcp_pages == 0 for zone in self.kernel.snapshot().zones)

    @rule(data=st.data())
    def run_elsewhere(self, data):
        self.kernel.cpu = data.draw(st.integers(0, self.kernel.nr_cpus - 1))

    @rule()
    def freeze_and_thaw(self):
        snapshot = self.kernel.snapshot()
        twin = Kernel.from_snapshot(snapshot)
        assert twin.snapshot() == snapshot
        if self.kernel.trace is None:
            self.kernel = twin
        else:
            self.kernel.restore(snapshot)
            assert self.kernel.snapshot() == snapshot

    @rule(order=ORDERS, gfp=st.sampled_from(GFPS))
    def clone_and_diverge(self, order, gfp):
        before = self.kernel.snapshot()
        clone = self.kernel.clone()
        pfn = clone.alloc_pages(gfp, order, owner="clone")
        clone.alloc_pages("GFP_KERNEL")
        assert self.kernel.snapshot() == before
        assert clone.snapshot() != before
        # and the original would have given the same
        assert Kernel.from_snapshot(before).alloc_pages(gfp, order) == pfn

    @precondition(lambda self: len(self.kernel.history) > 1)
    @rule()
    def back_and_forth(self):
        steps = self.kernel.history
        here = steps[-1].snapshot
        assert self.kernel.snapshot() == here or self.kernel.cpu != here.settings["cpu"]
        for step in (steps[0], steps[len(steps) // 2], steps[-1]):
            twin = Kernel.from_snapshot(step.snapshot)
            assert twin.snapshot() == step.snapshot
        there = Kernel.from_snapshot(here)
        there.restore(steps[0].snapshot)
        there.restore(here)
        assert there.snapshot() == here

    @invariant()
    def nothing_is_lost(self):
        if self.kernel is None:
            return
        snapshot = self.kernel.snapshot()
        check_snapshot(snapshot)
        free = sum(zone.free + zone.pcp_pages for zone in snapshot.zones)
        assert free + len(self.held) == self.pages_at_boot
        assert self.kernel.dmesg().count("BUG") == 0
        assert snapshot.refcounts == {}
        for pfn, order in set(self.held.values()):
            assert snapshot.pages[pfn] & 15 == order
            assert snapshot.pages[pfn] >= Kind.UNMOVABLE << 4
            assert snapshot.owner_names[snapshot.owners[pfn]] == self.owners[pfn]

    def teardown(self):
        """All that is given back is as it was at boot: in the biggest blocks there are."""
        if self.kernel is None:
            return
        for pfn, order in sorted(set(self.held.values())):
            self.kernel.free_pages(pfn, order)
        self.kernel.drain_all_pages()
        snapshot = self.kernel.snapshot()
        check_snapshot(snapshot)
        for zone in snapshot.zones:
            if not zone.nr_reserved_highatomic:
                assert free_blocks(zone) == self.at_boot[zone.start_pfn]


def free_blocks(zone):
    return {(pfn, order) for (order, _), pfns in zone.free_lists().items() for pfn in pfns}


class RealRequests(Requests):
    """The same on a real layout, where looking at every page takes longer."""

    worlds = REAL


@pytest.mark.parametrize(("machine", "examples"), [(Requests, 100), (RealRequests, 25)])
def test_requests_and_frees(machine, examples):
    run_state_machine_as_test(machine, settings=runs(examples))


# -- wrong programs -------------------------------------------------------------------------------

WRONG = st.lists(
    st.one_of(
        st.tuples(st.just("alloc"), st.sampled_from(GFPS[:6]), st.integers(0, 4)),
        st.tuples(st.just("free"), st.integers(0, 120), st.integers(0, 7)),
        st.tuples(st.sampled_from(("get", "put")), st.integers(0, 120), st.just(0)),
        st.tuples(st.just("drain"), st.just(0), st.just(0)),
    ),
    min_size=5,
    max_size=40,
)


@runs(250)
@given(
    steps=WRONG,
    ram=st.sampled_from((64, 100, 128)),
    pcp=st.booleans(),
    cmdline=st.sampled_from(("", "init_on_alloc=0")),
)
def test_wrong_frees_end_in_a_report_or_a_bug_never_in_a_crash(steps, ram, pcp, cmdline):
    kernel = Kernel(ram * 4096, pcp=pcp, cmdline=cmdline)
    for name, first, second in steps:
        try:
            if name == "alloc":
                kernel.alloc_pages(first, second)
            elif name == "free":
                kernel.free_pages(first, second)
            elif name == "drain":
                kernel.drain_all_pages()
            else:
                getattr(kernel, f"{name}_page")(first)
        except (KernelBug, Oops) as error:
            assert str(error).partition("\n")[0] in kernel.dmesg()
    snapshot = kernel.snapshot()
    assert Kernel.from_snapshot(snapshot).snapshot() == snapshot
    for pfn in range(ram):
        assert snapshot.page(pfn).pfn == pfn
