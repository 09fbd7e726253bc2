"""How objects leave slabs and come back: kernel-facts 7.6 to 7.10, seen through the caches' state."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.errors import KernelBug, Oops
from kmemkit.mm.slab import SLAB_CONSISTENCY_CHECKS, SLAB_NO_MERGE

GFP = "GFP_KERNEL"


@pytest.fixture
def kernel():
    return Kernel("64M", freelist_random=False)


def make(kernel, size=256, **options):
    pointer = kernel.kmem_cache_create("test", size, flags=SLAB_NO_MERGE, **options)
    return pointer, kernel.kmem_caches[pointer]


def pfn(address):
    return address - 0xFFFF888000000000 >> 12


def take(kernel, cache, count):
    return [kernel.kmem_cache_alloc(cache, GFP) for _ in range(count)]


def give(kernel, cache, objects):
    for at in objects:
        kernel.kmem_cache_free(cache, at)


def slabs_of(kernel, cache, count):
    """Fill `count` slabs; return their objects, slab by slab."""
    objects = kernel.kmem_caches[cache].oo[1]
    return [take(kernel, cache, objects) for _ in range(count)]


def test_a_new_slab_hands_out_its_objects_from_low_to_high(kernel):
    cache, s = make(kernel)
    got = take(kernel, cache, 16)
    assert got == [got[0] + n * 256 for n in range(16)]
    assert s.cpu.slab.pfn == kernel.virt_to_page(got[0])
    assert kernel.node_page_state[0, "nr_slab_unreclaimable"] == 1


def test_the_object_freed_last_comes_back_first(kernel):
    cache, _ = make(kernel)
    first, second, third = take(kernel, cache, 3)
    give(kernel, cache, [first, third, second])
    assert take(kernel, cache, 3) == [second, third, first]


def test_in_a_random_order_every_object_comes_once_and_every_slab_has_that_order():
    kernel = Kernel("64M", seed=5)
    cache, s = make(kernel)
    first, second = slabs_of(kernel, cache, 2)
    index = lambda objects: [(at % 4096) // 256 for at in objects]  # noqa: E731
    assert sorted(index(first)) == list(range(16)) != index(first)
    start = index(first).index(index(second)[0])
    assert index(first)[start:] + index(first)[:start] == index(second)  # entered elsewhere
    assert s.random_seq is not None


def test_seeds_decide_and_nothing_else_does():
    def run(seed):
        kernel = Kernel("64M", seed=seed)
        return take(kernel, make(kernel)[0], 20)

    assert run(1) == run(1) != run(2)


def test_an_object_of_a_full_slab_makes_it_one_of_the_cpu_s_partial_slabs(kernel):
    cache, s = make(kernel)
    full = slabs_of(kernel, cache, 3)
    kernel.kmem_cache_free(cache, full[0][3])
    kernel.kmem_cache_free(cache, full[1][5])
    assert [slab.address for slab in s.cpu.partial] == [full[1][0], full[0][0]]  # newest first
    take(kernel, cache, 1)  # the CPU's slab is full: the head of its stock is next
    assert s.cpu.slab.address == full[1][0]
    assert s.cpu.slab.inuse == s.cpu.slab.objects  # frozen: all of it is the CPU's


def test_a_full_stock_goes_to_the_node_and_empty_slabs_back_to_the_buddy(kernel):
    cache, s = make(kernel)
    full = slabs_of(kernel, cache, 8 + s.min_partial + 4)
    for objects in full[:-1]:
        give(kernel, cache, objects)
    node = s.nodes[0]
    assert len(s.cpu.partial) <= s.cpu_partial_slabs == 7
    assert node.nr_partial == s.min_partial  # that many empty slabs a node keeps
    assert all(not slab.inuse for slab in node.partial)
    assert len(node.slabs) < len(full)
    assert kernel.node_page_state[0, "nr_slab_unreclaimable"] == len(node.slabs)


def test_an_empty_slab_goes_back_if_its_node_has_enough_of_others(kernel):
    cache, s = make(kernel)
    full = slabs_of(kernel, cache, 9 + s.min_partial)
    for objects in full[:-1]:
        kernel.kmem_cache_free(cache, objects[0])
    node = s.nodes[0]
    assert node.nr_partial >= s.min_partial
    victim = next(objects for objects in full if kernel.slabs[pfn(objects[0])] in node.partial)
    slabs = len(node.slabs)
    give(kernel, cache, victim[1:])
    assert len(node.slabs) == slabs - 1
    assert pfn(victim[0]) not in kernel.slabs


@pytest.mark.parametrize("freed_by_others", [False, True])
def test_a_slab_taken_from_a_cpu_goes_behind_if_others_freed_to_it(freed_by_others):
    kernel = Kernel(["32M", "32M"], nodes=2, cpus=2, freelist_random=False)
    cache, s = make(kernel)
    old = slabs_of(kernel, cache, 9)
    mine = take(kernel, cache, 4)
    for objects in old:
        kernel.kmem_cache_free(cache, objects[0])  # some of these slabs go to the node
    before = s.nodes[0].nr_partial
    assert before
    if freed_by_others:
        kernel.cpu = 1
        kernel.kmem_cache_free(cache, mine[0])
        kernel.cpu = 0
    assert kernel.kmem_cache_alloc_node(cache, GFP, 1) is not None
    place = before if freed_by_others else 0  # the CPU's stock comes behind them all
    assert s.nodes[0].partial[place].address == mine[0] & -4096


def test_a_node_gives_more_than_the_slab_that_is_needed(kernel):
    cache, s = make(kernel)
    full = slabs_of(kernel, cache, 9)
    for objects in full[:8]:
        kernel.kmem_cache_free(cache, objects[0])
    stock = len(s.cpu.partial)
    assert s.nodes[0].nr_partial == 8 - stock
    take(kernel, cache, stock + 1)  # eats the stock up, and takes the node's first
    on_node = s.nodes[0].nr_partial
    assert s.cpu.slab is not None and len(s.cpu.partial) + 1 + on_node == 8 - stock


@pytest.mark.parametrize("first", [1, 2])
def test_shrink_keeps_the_fullest_slabs_in_front(kernel, first):
    cache, s = make(kernel)
    full = slabs_of(kernel, cache, 4)
    give(kernel, cache, full[0])  # empty
    for number in (first, 3 - first):
        give(kernel, cache, full[number][: {1: 9, 2: 2}[number]])
    kernel.kmem_cache_shrink(cache)
    assert [slab.address for slab in s.nodes[0].partial] == [full[2][0], full[1][0]]
    assert s.cpu.slab is None and not s.cpu.partial
    assert len(s.nodes[0].slabs) == 3


def test_the_high_order_is_a_wish_and_costs_no_reclaim():
    kernel = Kernel("16M")
    cache, s = make(kernel, 1024)
    assert s.oo == (1, 8) and s.min == (0, 4)
    held = []
    while (pfn := kernel.alloc_pages("GFP_ATOMIC | __GFP_MEMALLOC", 0)) is not None:
        held.append(pfn)
    for pfn in held:
        if not pfn % 2:  # no two of them make a block of order 1
            kernel.free_pages(pfn, 0)
    kernel.record()
    assert kernel.kmem_cache_alloc(cache, GFP) is not None
    assert s.cpu.slab.order == 0 and s.cpu.slab.objects == 4
    asked = [dict(event.fields) for event in kernel.events if event.name == "mm_page_alloc"]
    assert [one["order"] for one in asked] == [1, 0]
    assert set(asked[0]["gfp_flags"].split("|")) == {
        "__GFP_IO", "__GFP_FS", "__GFP_NOWARN", "__GFP_NORETRY", "__GFP_COMP", "__GFP_NOMEMALLOC",
    }  # fmt: skip
    assert "GFP_KERNEL" in asked[1]["gfp_flags"]


def test_without_memory_the_cache_says_so():
    kernel = Kernel("16M")
    cache, _ = make(kernel)
    while kernel.alloc_pages("GFP_ATOMIC | __GFP_NOWARN | __GFP_MEMALLOC", 0) is not None:
        pass
    assert kernel.kmem_cache_alloc(cache, "GFP_ATOMIC") is None
    log = kernel.dmesg().splitlines()
    at = log.index(
        "SLUB: Unable to allocate memory on CPU 0 (of node 0) on node -1, gfp=0x820(GFP_ATOMIC)"
    )
    assert log[at + 1 : at + 3] == [
        "  cache: test, object size: 256, buffer size: 256, default order: 0, min order: 0",
        "  node 0: slabs: 0, objs: 0, free: 0",
    ]


def test_two_cpus_have_slabs_of_their_own():
    kernel = Kernel("64M", cpus=2, freelist_random=False)
    cache, s = make(kernel)
    first = take(kernel, cache, 2)
    kernel.cpu = 1
    second = take(kernel, cache, 2)
    assert first[0] & -4096 != second[0] & -4096
    kernel.kmem_cache_free(cache, first[1])  # to the other CPU's slab: on the slab's own list
    slab = s.cpus[0].slab
    assert slab.freelist == first[1] and slab.inuse == slab.objects - 1
    kernel.cpu = 0
    assert take(kernel, cache, 14)[-1] != first[1]
    assert take(kernel, cache, 1) == [first[1]]  # once its own list is empty


def test_a_node_that_was_asked_for_is_tried_first():
    kernel = Kernel(["32M", "32M"], nodes=2)
    cache, _ = make(kernel)
    for nid in (1, 0, 1):
        at = kernel.kmem_cache_alloc_node(cache, GFP, nid)
        assert kernel.page_zone(kernel.virt_to_page(at)).nid == nid


def test_a_node_that_was_asked_for_gets_a_new_slab_though_others_have_room():
    kernel = Kernel(["32M", "32M"], nodes=2, freelist_random=False)
    cache, s = make(kernel)
    for objects in slabs_of(kernel, cache, 30):
        kernel.kmem_cache_free(cache, objects[0])
    assert s.nodes[0].nr_partial > s.min_partial
    for _ in range(20):
        at = kernel.kmem_cache_alloc_node(cache, GFP, 1)
        assert kernel.page_zone(kernel.virt_to_page(at)).nid == 1
    assert len(s.nodes[1].slabs) == 2


def test_freed_twice_in_a_row_is_noticed_and_not_in_a_row_is_not(kernel):
    cache, _ = make(kernel)
    first, second = take(kernel, cache, 2)
    kernel.kmem_cache_free(cache, first)
    with pytest.raises(KernelBug, match=r"kernel BUG at mm/slub.c:550!"):
        kernel.kmem_cache_free(cache, first)
    kernel.kmem_cache_free(cache, second)
    kernel.kmem_cache_free(cache, first)  # nobody notices
    assert take(kernel, cache, 3) == [first, second, first]
    # Its bytes were set to zero for its first owner, and are no free pointer any more
    with pytest.raises(Oops, match="general protection fault, probably for non-canonical"):
        take(kernel, cache, 1)


def test_a_debug_cache_works_slab_by_slab(kernel):
    flags = SLAB_CONSISTENCY_CHECKS | SLAB_NO_MERGE
    pointer = kernel.kmem_cache_create("checked", 256, flags=flags)
    s = kernel.kmem_caches[pointer]
    one = kernel.kmem_cache_alloc(pointer, GFP)
    assert s.cpu.slab is None and s.nodes[0].partial[0].inuse == 1
    rest = take(kernel, pointer, s.oo[1] - 1)
    assert not s.nodes[0].partial and len(s.nodes[0].full) == 1
    give(kernel, pointer, [one, *rest])
    assert s.nodes[0].nr_partial == 1 and not s.nodes[0].full


@pytest.mark.parametrize("nid", [-1, 0])
def test_recording_and_clones_change_no_answer(nid):
    plain = Kernel("64M", seed=9)
    cache, _ = make(plain)
    take(plain, cache, 7)
    recorded = plain.clone()
    recorded.record()

    def run(kernel):
        got = [kernel.kmem_cache_alloc_node(cache, GFP, nid) for _ in range(40)]
        got += take(kernel, cache, 40)
        give(kernel, cache, got[::3])
        return got, take(kernel, cache, 5), [kernel.kmalloc(100 + n, GFP) for n in range(30)]

    assert run(plain) == run(recorded)
    assert plain.snapshot() == recorded.snapshot()


def test_a_destroyed_cache_gives_its_empty_slabs_back_the_last_one_first(kernel):
    cache = kernel.kmem_cache_create("test", 4096, flags=SLAB_NO_MERGE | SLAB_CONSISTENCY_CHECKS)
    for objects in slabs_of(kernel, cache, 4):
        give(kernel, cache, objects)
    partial = [slab.pfn for slab in kernel.kmem_caches[cache].nodes[0].partial]
    kernel.record()
    kernel.kmem_cache_destroy(cache)
    freed = [e for e in kernel.history[-1].events if e.name == "mm_page_free"]
    assert [int(dict(e.fields)["pfn"], 16) for e in freed] == partial[::-1]
    assert len(partial) == 4


def test_a_constructor_and_zeroes_do_not_go_together():
    kernel = Kernel("64M")
    cache = kernel.kmem_cache_create("made", 64, ctor=lambda at: None)
    kernel.kmem_cache_alloc(cache, "GFP_KERNEL|__GFP_ZERO")
    assert "WARNING: CPU: 0 PID: 1 at mm/slub.c new_slab" in kernel.dmesg().splitlines()


def test_a_debug_kernel_makes_no_cache_in_an_interrupt():
    kernel = Kernel("64M", debug_kernel=True)
    with kernel.softirq():
        assert kernel.kmem_cache_create("mine", 64) is None
    assert "kmem_cache_create(mine) integrity check failed" in kernel.dmesg().splitlines()
    assert kernel.kmem_cache_create("mine", 64) is not None


@pytest.mark.parametrize(("offset", "size"), [(60, 8), (0, 65), (8, 0)])
def test_a_part_for_user_space_that_is_not_in_the_object_is_none(kernel, offset, size):
    cache = kernel.kmem_cache_create_usercopy("mine", 64, 0, SLAB_NO_MERGE, offset, size)
    s = kernel.kmem_caches[cache]
    assert (s.useroffset, s.usersize) == (0, 0)
    assert kernel.dmesg().count("WARNING: CPU: 0 PID: 1 at mm/slab_common.c") == 1


# -- many at once ---------------------------------------------------------------------------------


def test_bulk_free_makes_the_first_object_the_first_to_come_back(kernel):
    cache, s = make(kernel)
    got = take(kernel, cache, 16)
    kernel.kmem_cache_free_bulk(cache, got[3:7])
    assert take(kernel, cache, 4) == got[3:7]
    assert s.cpu.slab.inuse == 16


def test_bulk_free_goes_slab_by_slab_and_passes_over_two_objects_of_others(kernel):
    cache, _ = make(kernel)
    first, second = slabs_of(kernel, cache, 2)
    freed = []
    kernel._slab_free = lambda s, slab, at: freed.append(at)
    a, b = first[:4], second[:4]
    kernel.kmem_cache_free_bulk(cache, [a[0], b[0], b[1], a[1]])
    assert freed == [a[1], a[0], b[0], b[1]]  # the two passed over have changed places
    freed.clear()
    kernel.kmem_cache_free_bulk(cache, [a[0], b[0], b[1], b[2], a[1]])
    assert freed[0] == a[1]
    assert freed[1] != a[0]  # behind three of the other slab
    assert sorted(freed) == sorted([*a[:2], *b[:3]])


def test_bulk_free_checks_each_object():
    kernel = Kernel("64M", cmdline="slab_debug=F")
    cache, _ = make(kernel)
    got = take(kernel, cache, 3)
    kernel.kmem_cache_free_bulk(cache, [*got, got[2]])
    assert "Object already free" in kernel.dmesg()


def test_bulk_free_tells_a_wrong_cache_and_stops_at_what_is_no_object(kernel):
    cache, _ = make(kernel)
    other = kernel.kmem_cache_create("other", 256, flags=SLAB_NO_MERGE)
    got = take(kernel, cache, 2)
    kernel.kmem_cache_free_bulk(other, got)
    assert "Wrong slab cache. other but object is from test" in kernel.dmesg()
    assert take(kernel, cache, 2) == got
    page = kernel.page_address(kernel.alloc_pages(GFP))
    with pytest.raises(Oops):
        kernel.kmem_cache_free_bulk(cache, [got[0], page])
    assert "Object is not a Slab page!" in kernel.dmesg()
    with pytest.raises(Oops):
        kernel.kmem_cache_free_bulk(cache, [0])


def test_the_same_object_twice_in_a_row_is_a_bug_in_bulk_too(kernel):
    cache, _ = make(kernel)
    at = take(kernel, cache, 1)[0]
    with pytest.raises(KernelBug):
        kernel.kmem_cache_free_bulk(cache, [at, at])


def test_a_clone_has_the_partial_slabs_of_its_cpus_and_goes_on_alike():
    kernel = Kernel("64M", cpus=2, seed=4)
    cache, s = make(kernel)
    got = [at for slab in slabs_of(kernel, cache, 6) for at in slab]
    give(kernel, cache, got[3 : 5 * s.oo[1] : 7])
    clone = kernel.clone()
    twin = clone.kmem_caches[cache]
    assert [slab.pfn for slab in twin.cpu.partial] == [slab.pfn for slab in s.cpu.partial] != []
    assert take(clone, cache, 40) == take(kernel, cache, 40)
    assert clone.snapshot() == kernel.snapshot()


@pytest.mark.parametrize("cmdline", ["", "init_on_alloc=0", "slab_debug=F"])
def test_objects_of_no_size_are_a_division_by_zero(cmdline):
    kernel = Kernel("64M", cmdline=cmdline)
    with pytest.raises(Oops, match="divide error: 0000"):
        kernel.kmem_cache_create("nothing", 0)


@pytest.mark.parametrize("options", [{"cmdline": "slab_debug=FZPU"}, {"debug_kernel": True}])
def test_debugging_gives_even_nothing_a_size(options):
    kernel = Kernel("64M", **options)
    cache = kernel.kmem_cache_create("nothing", 0)
    got = take(kernel, cache, 3)
    give(kernel, cache, got)
    assert len(set(got)) == 3
    assert not kernel.dmesg()


def test_a_debug_kernel_refuses_a_cache_without_a_warning():
    kernel = Kernel("64M", debug_kernel=True)
    assert kernel.kmem_cache_create(None, 64) is None
    assert kernel.kmem_cache_create("big", (4 << 20) + 1) is None
    assert kernel.dmesg().splitlines()[:2] == [
        "kmem_cache_create((null)) integrity check failed",
        "__kmem_cache_create_args((null)) failed with error -22",
    ]
    assert "WARNING" not in kernel.dmesg()
    assert not kernel.taints


def test_zalloc_clears_what_the_last_owner_wrote():
    kernel = Kernel("64M", cmdline="init_on_alloc=0")
    cache = kernel.kmem_cache_create("test", 256, flags=SLAB_NO_MERGE)
    for alloc, found in ((kernel.kmem_cache_alloc, b"old"), (kernel.kmem_cache_zalloc, bytes(3))):
        at = kernel.kmem_cache_alloc(cache, GFP)
        kernel.write(at, b"old")
        kernel.kmem_cache_free(cache, at)
        assert alloc(cache, GFP) == at
        assert kernel.read(at, 3) == found


@pytest.mark.parametrize(
    ("gfp", "name"),
    [
        ("GFP_KERNEL", "kmalloc-64"),
        ("GFP_KERNEL_ACCOUNT", "kmalloc-cg-64"),
        ("GFP_KERNEL_ACCOUNT | __GFP_RECLAIMABLE", "kmalloc-rcl-64"),
        ("GFP_KERNEL_ACCOUNT | __GFP_RECLAIMABLE | __GFP_DMA", "dma-kmalloc-64"),
    ],
)
def test_the_first_of_dma_reclaimable_and_accounted_decides(kernel, gfp, name):
    assert kernel.slabs[pfn(kernel.kmalloc(64, gfp))].cache.name == name


def test_what_a_constructor_wrote_is_not_zeroed(kernel):
    cache = kernel.kmem_cache_create(
        "made", 64, ctor=lambda at: kernel.memory.write(at, b"constructed")
    )
    at = kernel.kmem_cache_alloc(cache, GFP)
    assert kernel.read(at, 11) == b"constructed"
    kernel.write(at, b"left behind")
    kernel.kmem_cache_free(cache, at)
    assert kernel.kmem_cache_alloc(cache, GFP) == at
    assert kernel.read(at, 11) == b"left behind"


def test_a_large_block_counts_as_slab_until_it_is_freed(kernel):
    before = kernel.node_page_state[0, "nr_slab_unreclaimable"]
    at = kernel.kmalloc(16384, GFP)
    assert kernel.node_page_state[0, "nr_slab_unreclaimable"] == before + 4
    kernel.kfree(at)
    assert kernel.node_page_state[0, "nr_slab_unreclaimable"] == before
