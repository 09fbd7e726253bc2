"""Whatever one asks for and frees, in whatever order, these things stay true.

The runs are the same every time. KMEMKIT_EXPLORE=1 makes them random, and twenty times as many.
"""

import os
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
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
from kmemkit.mm.errors import KernelBug, Livelock, Oops, Panic
from kmemkit.mm.mmzone import MIGRATE_HIGHATOMIC, MIGRATE_PCPTYPES, NO_PAGEBLOCK
from kmemkit.mm.pcp import pindex_to_order
from kmemkit.mm.swap import LRU_MASK
from kmemkit.snapshot import LRU_LISTS, Kind

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
#: Masks that give up at last: there is nobody in these machines to kill.
GFPS = (
    "GFP_KERNEL|__GFP_NORETRY", "GFP_ATOMIC", "GFP_NOWAIT", "GFP_HIGHUSER_MOVABLE|__GFP_NORETRY",
    "__GFP_RECLAIMABLE|GFP_NOFS|__GFP_NORETRY", "GFP_NOWAIT|__GFP_COMP",
    "GFP_KERNEL|__GFP_MEMALLOC|__GFP_NORETRY", "GFP_DMA",
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
        clone.alloc_pages(GFPS[0])
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


# -- programs: files, tasks, reclaim, compaction, the OOM killer ---------------------------------------


def marked(kernel):
    """Give a small world marks, so that kswapd and reclaim have something to keep."""
    for zone in kernel.zones:
        part = zone.managed // 32
        zone.watermark[:] = [part, part + part // 4, part + part // 2, 2 * part]
    return kernel


PROGRAM_WORLDS = {
    "1M": lambda: marked(Kernel("1M")),
    "4M with lists": lambda: tuned(marked(Kernel("4M", pcp=True, cpus=2))),
    "64M": lambda: Kernel("64M"),
    "128M in two nodes": lambda: Kernel("128M", nodes=2, cpus=2),
}
ANY_MASK = (
    *GFPS, "GFP_KERNEL", "GFP_NOFS", "GFP_NOIO", "GFP_KERNEL|__GFP_RETRY_MAYFAIL", "GFP_HIGHUSER",
    "GFP_KERNEL|__GFP_HIGH", "GFP_HIGHUSER_MOVABLE", "GFP_KERNEL|__GFP_NOFAIL",
)  # fmt: skip
SIZES = st.sampled_from((1, 7, 60, 200, 900))

#: one thing a program may do, as (what, how much, which)
ACTIONS = st.one_of(
    st.tuples(st.just("alloc"), ORDERS, st.sampled_from(ANY_MASK)),
    st.tuples(st.just("many"), st.integers(5, 400), st.sampled_from(ANY_MASK[:4])),
    st.tuples(st.sampled_from(("read", "write", "slab")), SIZES, st.just("")),
    st.tuples(st.just("fork"), SIZES, st.sampled_from((-1000, 0, 500))),
    st.tuples(st.sampled_from(("exit", "free", "evict", "pin")), st.integers(0, 50), st.just("")),
    st.tuples(st.just("sleep"), st.sampled_from((0, 1, 30, 400)), st.just("")),
    st.tuples(st.sampled_from(("compact", "drain")), st.just(0), st.just("")),
    st.tuples(st.just("swapon"), SIZES, st.just("")),
)


class Program:
    """One machine, and what a program holds of it."""

    def __init__(self, kernel, held=(), pinned=()):
        self.kernel, self.held, self.pinned = kernel, list(held), list(pinned)

    def twin(self):
        """Return the same moment once more."""
        return Program(self.kernel.clone(), self.held, self.pinned)

    def act(self, what, amount, which):
        """Do one thing; return what came of it. A panic ends nothing here but the call."""
        try:
            return getattr(self, f"do_{what}")(amount, which)
        except (Panic, Livelock) as error:
            return str(error)

    def do_alloc(self, order, gfp):
        pfn = self.kernel.alloc_pages(gfp, order)
        if pfn is not None:
            self.held.append((pfn, order))
        return pfn

    def do_many(self, count, gfp):
        return [self.do_alloc(0, gfp) for _ in range(count)]

    def do_read(self, pages, _):
        return self.kernel.read_file(pages << 12)

    def do_write(self, pages, _):
        return self.kernel.read_file(pages << 12, dirty=True)

    def do_slab(self, pages, _):
        return self.kernel.grow_slab(pages << 12)

    def do_fork(self, pages, adj):
        return self.kernel.fork(f"task{pages}", anon=pages << 12, oom_score_adj=adj).pid

    def do_exit(self, number, _):
        others = self.kernel.tasks[1:]
        if others:
            self.kernel.exit(others[number % len(others)])

    def do_free(self, number, _):
        if self.held:
            self.kernel.free_pages(*self.held.pop(number % len(self.held)))

    def listed(self):
        return [pfn for node in self.kernel.nodes for lru in range(1, 6) for pfn in node.pages(lru)]

    def do_evict(self, number, _):
        for pfn in self.listed()[number::50]:
            if pfn not in self.pinned:
                self.kernel.free_pages(pfn)

    def do_pin(self, number, _):
        """Hold an extra reference of a page on a list, or drop the one held."""
        if self.pinned:
            self.kernel.put_page(self.pinned.pop())
        elif pages := self.listed():
            self.pinned.append(pages[number % len(pages)])
            self.kernel.get_page(self.pinned[-1])

    def do_sleep(self, ms, _):
        self.kernel.sleep(ms)

    def do_compact(self, _, __):
        self.kernel.compact_memory()

    def do_drain(self, _, __):
        self.kernel.drain_all_pages()

    def do_swapon(self, pages, _):
        self.kernel.swapon(pages << 12)

    def check(self, pages_at_boot):
        """Check that every page is where exactly one of those who know of it say."""
        kernel, snapshot = self.kernel, self.kernel.snapshot()
        check_snapshot(snapshot)
        owners = [page for pfn, order in self.held for page in range(pfn, pfn + (1 << order))]
        for node in kernel.nodes:
            owners += node.slab.older
            owners += node.slab.newer
        listed = self.listed()
        owners += listed
        for task in kernel.tasks:
            owners += task.pgtables + task.kernel_pages
            assert len(task.pgtables) * 4096 == task.pgtables_bytes
            assert task.rss >= 0 <= task.swapents
        # a page that its task has left, while somebody has a reference of his own
        owners += [pfn for pfn in self.pinned if pfn not in set(listed)]
        assert len(owners) == len(set(owners))
        free = sum(zone.free + zone.pcp_pages for zone in snapshot.zones)
        assert free + len(owners) == pages_at_boot
        self.check_lists(snapshot, set(listed))
        swapped = sum(task.swapents for task in kernel.tasks)
        assert 0 <= kernel.nr_swap_pages <= kernel.total_swap_pages - swapped
        assert kernel.dmesg().count("BUG") == 0
        assert kernel.due >= kernel.now or any(n.kswapd_running for n in kernel.nodes) or any(
            n.kcompactd_order for n in kernel.nodes
        )  # fmt: skip

    def check_lists(self, snapshot, listed):
        """Check that the lru column, the lists, the tasks and the snapshot say the same."""
        kernel = self.kernel
        column = kernel.mem_map.lru
        assert {pfn for pfn, byte in enumerate(column) if byte} == listed
        for node, frozen in zip(kernel.nodes, snapshot.nodes, strict=True):
            for lru in range(1, 6):
                pages = list(node.pages(lru))
                assert all(column[pfn] & LRU_MASK == lru for pfn in pages)
                assert all(kernel.page_zone(pfn).nid == node.nid for pfn in pages)
                assert frozen.lru(LRU_LISTS[lru - 1]) == tuple(pages)
        for task in kernel.tasks:
            assert task.anon.keys() <= listed | set(self.pinned)
            for pfn in list(task.anon)[::37]:
                assert snapshot.page(pfn).owner == f"{task.comm} [{task.pid}]"
        heads = {pfn for pfn in listed if snapshot.pages[pfn] >= Kind.UNMOVABLE << 4}
        assert heads == listed
        assert all(snapshot.pages[pfn] & 15 == 0 for pfn in listed)


@runs(40)
@given(
    world=st.sampled_from(sorted(PROGRAM_WORLDS)), recording=st.booleans(),
    before=st.lists(ACTIONS, min_size=3, max_size=14), after=st.lists(ACTIONS, min_size=1, max_size=5),
)  # fmt: skip
def test_programs_lose_nothing_and_a_twin_has_the_same_future(world, recording, before, after):
    program = Program(PROGRAM_WORLDS[world]())
    if recording:
        program.kernel.record(limit=3)
    pages_at_boot = sum(zone.free for zone in program.kernel.snapshot().zones)
    for action in before:
        program.act(*action)
        program.check(pages_at_boot)
    twin = program.twin()
    assert twin.kernel.snapshot() == program.kernel.snapshot()
    moment = program.kernel.snapshot()
    futures = [[one.act(*action) for action in after] for one in (program, twin)]
    assert futures[0] == futures[1]
    twin.check(pages_at_boot)
    ours, theirs = program.kernel.snapshot(), twin.kernel.snapshot()
    assert plain(ours) == plain(theirs)
    program.kernel.restore(moment)
    assert program.kernel.snapshot() == moment


def plain(snapshot):
    """Return a snapshot by what it says, not by how its lists are stored."""
    zones = [(vars(zone) | {"_lists": zone.free_lists()}) for zone in snapshot.zones]
    nodes = [
        vars(node) | {"_lru": [node.lru(name, zone.idx) for name in LRU_LISTS for zone in snapshot.zones]}
        for node in snapshot.nodes
    ]  # fmt: skip
    return vars(snapshot) | {"zones": zones, "nodes": nodes}


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
@example(  # a tail page, freed with so big an order that the next block is compound
    steps=[("alloc", "GFP_KERNEL", 4), ("alloc", "GFP_KERNEL | __GFP_COMP", 1), ("free", 14, 2)],
    ram=64,
    pcp=False,
    cmdline="",
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
