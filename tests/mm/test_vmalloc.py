"""vmalloc, vmap and kvmalloc, as a running Linux 6.12 had them.

Addresses, sizes and texts without a comment were recorded: from a guest with 256 MB and one CPU,
and from cells of misuse on a plain kernel and on one with debug options.
"""

import re

import pytest

from kmemkit import Kernel, Livelock, Oops, Panic
from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SIZE, VMALLOC_END, VMALLOC_START
from kmemkit.mm.vmallocinfo import occupy, vmallocinfo
from kmemkit.mm.vmap_area import VM_MAP_PUT_PAGES, VmallocSpace

MIB = 1 << 20

#: What was taken when the recorded calls began, where they looked for room: (from, to).
TAKEN = (
    (0x0, 0x4D000), (0x50000, 0x5D000), (0x60000, 0x65000), (0x68000, 0x6D000), (0x70000, 0x75000),
    (0x78000, 0x7D000), (0x80000, 0x85000), (0x88000, 0x8D000), (0x90000, 0x95000),
    (0x98000, 0x9D000), (0xA0000, 0xA5000), (0xA8000, 0xAD000), (0xB0000, 0x5D5000),
    (0x5E0000, 0x6A5000), (0x6B6000, 0xB52000),
)  # fmt: skip
#: (call, size) -> offset of the address that vmalloc() returned; a number is the block freed.
SEQUENCE = (
    ((1, 1), 0x4D000), ((2, 4096), 0x5D000), ((3, 4097), 0x65000), ((4, 8192), 0x6D000),
    ((5, 10000), 0x5D5000), ((6, 65536), 0x6A5000), ((7, 1048576), 0xB52000),
    ((8, 2097152), 0xC53000), ((9, 2101248), 0xE54000), ((10, 4194304), 0x1056000),
    ((11, 4096), 0x85000), ((12, 4096), 0x8D000), ((13, 4096), 0x95000), 2, 4, 11,
    ((14, 4096), 0x9D000), ((15, 4096), 0xA5000), ((16, 8192), 0xAD000),
    1, 3, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16,
    ((100, 0), None), ((101, 70368744177664), None), ((102, 1073741824), None),
)  # fmt: skip


@pytest.fixture
def kernel():
    return Kernel("256M")


@pytest.fixture
def debug_kernel():
    return Kernel("256M", debug_kernel=True)


def offset(address):
    return None if address is None else address - VMALLOC_START


def new_lines(kernel, call):
    """Return what a call printed, without the stack dump."""
    before = kernel.log_lines
    call()
    lines = kernel.dmesg().splitlines()
    return lines[len(lines) - (kernel.log_lines - before) :]


def headlines(kernel, call):
    wanted = re.compile(
        r"BUG|WARNING|Trying|kernel BUG|Kernel panic|vmalloc_node_range|.*vmalloc error"
    )
    return [line for line in new_lines(kernel, call) if wanted.match(line)]


def free_pages(kernel):
    kernel.drain_all_pages()
    return sum(zone.free_pages for zone in kernel.zones)


# -- addresses ------------------------------------------------------------------------------------


def test_the_lowest_hole_that_fits_is_taken_and_freed_ones_are_not_used_again(kernel):
    for low, high in TAKEN:
        kernel.vmalloc_space.occupy(VMALLOC_START + low, VMALLOC_START + high)
    blocks = {}
    for step in SEQUENCE:
        if isinstance(step, int):
            kernel.vfree(blocks[step])
            continue
        (name, size), expected = step
        blocks[name] = kernel.vmalloc(size)
        assert offset(blocks[name]) == expected, name


def test_what_kmalloc_does_not_have_comes_from_huge_pages_until_a_purge_frees_their_addresses(
    kernel,
):
    kernel.vmalloc_space.occupy(VMALLOC_START, VMALLOC_START + 0xB52000)
    sizes = (4194305, 8 * MIB, 16 * MIB, 32 * MIB)
    for _ in range(2):
        offsets = []
        for size in sizes:
            block = kernel.kvmalloc(size, "GFP_KERNEL")
            offsets.append(offset(block))
            first = kernel.vmalloc_to_page(block)
            assert [kernel.vmalloc_to_page(block + page) for page in (0, 4096)] == [
                first,
                first + 1,
            ]
            assert first % 512 == 0
            kernel.kvfree(block)
        assert offsets == [0xC00000, 0x1400000, 0x1E00000, 0x3000000]
        assert not kernel.vmalloc_space.lazy  # the last free took it beyond 32 MB


@pytest.mark.parametrize(("cpus", "limit"), [(1, 32), (2, 64), (4, 96), (8, 128)])
def test_more_cpus_let_more_address_space_wait_for_the_purge(cpus, limit):
    kernel = Kernel("256M", cpus=cpus)
    (page,) = kernel.alloc_pages_bulk("GFP_KERNEL", 1)
    pages = [page] * 255  # of an area of 1 MB, with its guard page
    for _ in range(limit):
        kernel.vunmap(kernel.vmap(pages))
    assert kernel.vmalloc_space.lazy_pages == limit * 256
    kernel.vunmap(kernel.vmap([page]))
    assert kernel.vmalloc_space.lazy_pages == 0
    assert kernel.vmalloc_space.holes == [(VMALLOC_START, VMALLOC_END + 1)]


def test_holes_join_again_when_their_neighbours_are_purged():
    space = VmallocSpace(0x10000, 0x20000)
    areas = [space.alloc(0x2000) for _ in range(4)]
    assert [area.start for area in areas] == [0x10000, 0x12000, 0x14000, 0x16000]
    for area in (areas[0], areas[2]):
        space.unlink(area)
    assert space.holes == [(0x18000, 0x20000)]
    space.purge()
    assert space.holes == [(0x10000, 0x12000), (0x14000, 0x16000), (0x18000, 0x20000)]
    assert space.alloc(0x3000).start == 0x18000
    space.unlink(areas[1])
    space.purge()
    assert space.holes == [(0x10000, 0x16000), (0x1B000, 0x20000)]
    assert space.alloc(0x2000, align=0x4000).start == 0x10000
    assert space.find(0x17FFF) is areas[3] and space.find(0x12000) is None


@pytest.mark.parametrize(
    ("low", "high", "why"),
    [
        (0x11000, 0x12000, "taken already"),
        (0xF000, 0x11000, "taken already"),
        (0x1F000, 0x21000, "taken already"),
        (0x14000, 0x14000, "one page"),
        (0x14001, 0x15000, "one page"),
    ],
)
def test_a_taken_range_is_refused(low, high, why):
    space = VmallocSpace(0x10000, 0x20000)
    space.occupy(0x10000, 0x13000)
    with pytest.raises(ValueError, match=why):
        space.occupy(low, high)


def test_without_room_freed_addresses_are_purged_at_once_and_then_it_fails(kernel):
    kernel.vmalloc_space = VmallocSpace(VMALLOC_START, VMALLOC_START + 4 * PAGE_SIZE)
    first = kernel.vmalloc(3 * PAGE_SIZE)
    kernel.vfree(first)
    assert kernel.vmalloc(2 * PAGE_SIZE) == first
    lines = headlines(kernel, lambda: kernel.vmalloc(PAGE_SIZE))
    assert lines[0] == (
        "vmalloc_node_range for size 8192 failed: Address range restricted to "
        "0xffffc90000000000 - 0xffffc90000003fff"
    )
    assert lines[1].startswith("init: vmalloc error: size 4096, vm_struct allocation failed, mode:")
    with pytest.raises(Livelock, match="no range of addresses"):
        kernel.vmalloc_gfp(PAGE_SIZE, "GFP_KERNEL | __GFP_NOFAIL")


# -- pages ----------------------------------------------------------------------------------------


def test_pages_are_single_mapped_in_order_and_returned_by_vfree(kernel):
    kernel.vfree(kernel.vmalloc(3 * PAGE_SIZE))  # now there are slabs for vmalloc() itself
    before = free_pages(kernel)
    block = kernel.vmalloc(3 * PAGE_SIZE, owner="driver")
    pages = [kernel.vmalloc_to_page(block + at) for at in (0, 4096, 8191, 8192, 12287)]
    assert len(set(pages)) == 3 and pages[1] == pages[2] and pages[3] == pages[4]
    assert kernel.vmalloc_to_page(block + 12288) is None  # the guard page
    assert kernel.vmalloc_space.nr_vmalloc_pages == 3
    assert free_pages(kernel) == before - 3
    kernel.vfree(block)
    assert free_pages(kernel) == before
    assert kernel.vmalloc_to_page(block) is None
    assert kernel.vmalloc_space.nr_vmalloc_pages == 0


def test_bytes_go_to_the_pages_and_the_guard_page_stops_them(kernel):
    block = kernel.vmalloc(3 * PAGE_SIZE)
    kernel.write(block + PAGE_SIZE - 4, b"12345678")
    second = kernel.vmalloc_to_page(block + PAGE_SIZE)
    assert kernel.read(kernel.page_address(second), 4) == b"5678"
    line = f"BUG: unable to handle page fault for address: {block + 12288:016x}"
    with pytest.raises(Oops, match=line):
        kernel.write(block + 12288, b"x")


def test_a_page_used_before_is_cleared_if_asked_for(kernel):
    kernel.init_on_alloc = False
    block = kernel.vmalloc(200 * PAGE_SIZE)
    for at in range(200):
        kernel.write(block + at * PAGE_SIZE, b"secret")
    kernel.vfree(block)
    old = kernel.vmalloc(200 * PAGE_SIZE)
    assert any(kernel.read(old + at * PAGE_SIZE, 6) == b"secret" for at in range(200))
    kernel.vfree(old)
    new = kernel.vzalloc(200 * PAGE_SIZE)
    assert not any(any(kernel.read(new + at * PAGE_SIZE, 6)) for at in range(200))


def test_a_read_after_vfree_works_as_long_as_the_cpu_remembers_the_page(kernel):
    block, other = kernel.vmalloc(PAGE_SIZE), kernel.vmalloc(PAGE_SIZE)
    kernel.write(block, b"\x01")
    for freed in (block, other):
        kernel.vfree(freed)
    assert kernel.read(block, 1) == b"\x01"
    with pytest.raises(Oops, match=f"{other:016x}"):  # nobody touched it before
        kernel.read(other, 1)
    (page,) = kernel.alloc_pages_bulk("GFP_KERNEL", 1)
    kernel.vunmap(kernel.vmap([page] * 8192))  # makes the lazily freed ones too many
    with pytest.raises(Oops):
        kernel.read(block, 1)


def test_virt_to_page_of_vmalloc_memory_finds_no_struct_page(kernel):
    kernel.vmalloc_space.occupy(VMALLOC_START, VMALLOC_START + 0x5CD000)
    block = kernel.vmalloc(3 * PAGE_SIZE)
    for call in (kernel.virt_to_page, kernel.kfree, kernel.kfree_sensitive, kernel.ksize):
        with pytest.raises(Oops, match="ffffeb0200017348"):
            call(block)
    assert kernel.vmalloc_space.find(block) is not None


def test_vmalloc_to_page_knows_the_direct_map_too(kernel):
    (page,) = kernel.alloc_pages_bulk("GFP_KERNEL", 1)
    assert kernel.vmalloc_to_page(kernel.page_address(page) + 5) == page
    assert kernel.vmalloc_to_page(16) is None


def test_an_owner_stands_on_the_pages_and_in_vmallocinfo(kernel):
    block = kernel.vmalloc(PAGE_SIZE, owner="probe")
    owner = kernel.mem_map.owner[kernel.vmalloc_to_page(block)]
    assert kernel.owner_names[owner] == "probe"
    assert " probe pages=1 vmalloc N0=1\n" in vmallocinfo(kernel)


# -- sizes and failures ---------------------------------------------------------------------------


def test_vmalloc_0_warns_once(kernel):
    lines = headlines(kernel, lambda: kernel.vmalloc(0))
    assert lines == ["WARNING: CPU: 0 PID: 1 at mm/vmalloc.c:3838 __vmalloc_node_range_noprof"]
    assert headlines(kernel, lambda: kernel.vmalloc(0)) == []


@pytest.mark.parametrize("size", [68719476736, -1])
def test_more_than_the_machine_has_is_reported(kernel, size):
    lines = headlines(kernel, lambda: kernel.vmalloc(size))
    assert lines == [
        f"init: vmalloc error: size {size % (1 << 64)}, exceeds total pages, "
        "mode:0xcc0(GFP_KERNEL), nodemask=(null),cpuset=/,mems_allowed=0"
    ]


def test_too_few_pages_are_given_back_and_reported_by_vmalloc_alone(kernel):
    hold = []
    while (block := kernel.alloc_pages("GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN", 4)) is not None:
        hold.append(block)
    before = free_pages(kernel)
    lines = headlines(kernel, lambda: kernel.vmalloc_gfp(64 * MIB, "GFP_KERNEL | __GFP_NORETRY"))
    assert len(lines) == 1
    match = re.match(
        r"init: vmalloc error: size (\d+), failed to allocate pages, "
        r"mode:0x10cc2\(GFP_KERNEL\|__GFP_HIGHMEM\|__GFP_NORETRY\), ",
        lines[0],
    )  # text from other machines' logs; the size is what was had
    assert 0 < int(match[1]) < 64 * MIB and int(match[1]) % PAGE_SIZE == 0
    assert before - free_pages(kernel) <= 2  # slabs for vmalloc() itself
    assert not kernel.vmalloc_space.areas


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        (1, "size 12288, vm_struct allocation failed, mode:0xcc0(GFP_KERNEL), "),
        (2, "size 12288, failed to allocated page array size 24, mode:0xcc2("),
    ],
)  # texts from other machines' logs
def test_without_memory_for_its_own_use_nothing_is_kept(kernel, monkeypatch, failing, error):
    kernel.vfree(kernel.vmalloc(3 * PAGE_SIZE))
    before, calls, kmalloc = free_pages(kernel), [], kernel._kmalloc

    def fail_nth(size, mask, node):
        calls.append(size)
        return None if len(calls) == failing else kmalloc(size, mask, node)

    monkeypatch.setattr(kernel, "_kmalloc", fail_nth)
    (line,) = headlines(kernel, lambda: kernel.vmalloc(3 * PAGE_SIZE))
    assert line.startswith(f"init: vmalloc error: {error}")
    assert free_pages(kernel) == before and not kernel.vmalloc_space.areas


def test_a_victim_of_the_oom_killer_gets_no_more_than_one_attempt(kernel):
    hold = []
    while (page := kernel.alloc_pages("GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN")) is not None:
        hold.append(page)
    kernel.free_pages(hold.pop())
    kernel.current.oom_victim = True
    assert headlines(kernel, lambda: kernel.vmalloc_gfp(8 * MIB, "GFP_NOWAIT")) == []
    assert not kernel.vmalloc_space.areas


def test_a_mask_for_low_memory_is_obeyed(kernel):
    block = kernel.vmalloc_gfp(PAGE_SIZE, "GFP_KERNEL | __GFP_DMA")
    assert kernel.page_zone(kernel.vmalloc_to_page(block)).name == "DMA"
    assert getattr(kernel, "__vmalloc") == kernel.vmalloc_gfp


@pytest.mark.parametrize("value", [1.5, None, True])
def test_a_size_is_a_number_of_bytes(kernel, value):
    with pytest.raises(TypeError, match="is not a size"):
        kernel.vmalloc(value)


# -- wrong frees ----------------------------------------------------------------------------------

BAD, NO_AREA = "Trying to vfree() bad address", "Trying to vfree() nonexistent vm area"
WARN_BAD = "WARNING: CPU: 0 PID: 1 at mm/vmalloc.c:3291 remove_vm_area"
WARN_NO_AREA = "WARNING: CPU: 0 PID: 1 at mm/vmalloc.c:3426 vfree"


def test_vfree_of_null_is_silent(kernel):
    for call in (kernel.vfree, kernel.kvfree, kernel.vunmap):
        assert new_lines(kernel, lambda call=call: call(None)) == []


@pytest.mark.parametrize("address", [16, 0xFFFFFFFFFFFFFFF4, 0xFFFFC900005C3A98])
def test_an_address_that_is_no_page_is_reported_twice(kernel, address):
    assert headlines(kernel, lambda: kernel.vfree(address)) == [
        f"{BAD} ({address:016x})", WARN_BAD, f"{NO_AREA} ({address:016x})", WARN_NO_AREA,
    ]  # fmt: skip


def test_vfree_of_pages_of_the_direct_map_is_reported_and_leaks_them(kernel):
    block = kernel.get_free_pages("GFP_KERNEL", 3)
    before = free_pages(kernel)
    assert headlines(kernel, lambda: kernel.vfree(block)) == [
        f"{NO_AREA} ({block:016x})", WARN_NO_AREA,
    ]  # fmt: skip
    assert free_pages(kernel) == before


def test_a_second_vfree_finds_no_area(kernel):
    block = kernel.vmalloc(3 * PAGE_SIZE)
    kernel.vfree(block)
    for call in (kernel.vfree, kernel.kvfree):
        assert headlines(kernel, lambda call=call: call(block))[0] == f"{NO_AREA} ({block:016x})"


def test_a_wrong_offset_frees_nothing_but_a_whole_page_off_frees_all(kernel):
    block = kernel.vmalloc(3 * PAGE_SIZE)
    assert headlines(kernel, lambda: kernel.vfree(block + 8))[0] == f"{BAD} ({block + 8:016x})"
    assert kernel.vmalloc_space.find(block) is not None
    assert new_lines(kernel, lambda: kernel.vfree(block + PAGE_SIZE)) == []
    assert kernel.vmalloc_space.find(block) is None


# -- vmap -----------------------------------------------------------------------------------------


def test_vmap_maps_any_pages_and_leaves_them_to_their_owner(kernel):
    pages = kernel.alloc_pages_bulk("GFP_KERNEL", 2)
    kernel.vunmap(kernel.vmap(pages))
    before = free_pages(kernel)
    for free in (kernel.vunmap, kernel.vfree):
        mapped = kernel.vmap(reversed(pages))
        kernel.write(mapped, b"second")
        assert kernel.read(kernel.page_address(pages[1]), 6) == b"second"
        assert new_lines(kernel, lambda free=free, mapped=mapped: free(mapped)) == []
        assert free_pages(kernel) == before
    for page in pages:
        kernel.free_pages(page)
    assert free_pages(kernel) == before + 2


def test_vmap_with_put_pages_gives_the_references_to_vfree(kernel):
    pages = kernel.alloc_pages_bulk("GFP_KERNEL", 2)
    kernel.vunmap(kernel.vmap(pages))
    before = free_pages(kernel)
    mapped = kernel.vmap(pages, VM_MAP_PUT_PAGES)
    assert " learner pages=2 vmap N0=2\n" in vmallocinfo(kernel)
    kernel.vfree(mapped)
    assert free_pages(kernel) == before + 2


def test_vunmap_of_vmalloc_memory_is_silent_and_leaks_its_pages(kernel):
    block = kernel.vmalloc(2 * PAGE_SIZE)
    before = free_pages(kernel)
    assert new_lines(kernel, lambda: kernel.vunmap(block)) == []
    assert free_pages(kernel) == before
    assert headlines(kernel, lambda: kernel.vunmap(block))[0] == (
        f"Trying to vunmap() nonexistent vm area ({block:016x})"
    )


def test_vmap_of_no_pages_and_unknown_flags(kernel):
    assert kernel.vmap([]) is None
    (page,) = kernel.alloc_pages_bulk("GFP_KERNEL", 1)
    kernel.vmalloc_space = VmallocSpace(VMALLOC_START, VMALLOC_START + PAGE_SIZE)
    assert kernel.vmap([page]) is None  # there is no room for the guard page
    with pytest.raises(ValueError, match="VM_MAP_PUT_PAGES"):
        kernel.vmap([1], 0x2)
    with pytest.raises(Oops):
        kernel.vmap([1 << 30])


# -- kvmalloc -------------------------------------------------------------------------------------


def test_kvmalloc_is_kmalloc_memory_up_to_4_mb(kernel):
    assert kernel.kvmalloc(0, "GFP_KERNEL") == 16
    for size, real in ((1, 8), (4097, 8192), (20000, 32768), (4 * MIB, 4 * MIB)):
        block = kernel.kvmalloc(size, "GFP_KERNEL")
        assert not kernel.is_vmalloc_addr(block) and kernel.ksize(block) == real
        kernel.kvfree(block)
    assert kernel.is_vmalloc_addr(kernel.kvmalloc(4 * MIB + 1, "GFP_KERNEL"))


@pytest.mark.parametrize("gfp", ["GFP_ATOMIC", "GFP_NOWAIT"])
def test_without_direct_reclaim_there_is_no_second_attempt(kernel, gfp):
    assert kernel.kvmalloc(4 * MIB, gfp) is not None
    assert new_lines(kernel, lambda: kernel.kvmalloc(4 * MIB + 1, gfp)) == []
    assert kernel.kvmalloc(4 * MIB + 1, gfp) is None


def test_more_than_an_int_holds_is_refused_with_a_warning(kernel):
    where = "WARNING: CPU: 0 PID: 1 at mm/util.c:670 __kvmalloc_node_noprof"
    assert new_lines(kernel, lambda: kernel.kvmalloc(1 << 31, "GFP_KERNEL | __GFP_NOWARN")) == []
    assert headlines(kernel, lambda: kernel.kvmalloc(1 << 31, "GFP_KERNEL")) == [where]
    assert headlines(kernel, lambda: kernel.kvmalloc(1 << 40, "GFP_KERNEL")) == []


def test_kvmalloc_array_refuses_a_product_that_wraps(kernel):
    wraps = (1 << 63) + 1
    assert new_lines(kernel, lambda: kernel.kvmalloc_array(2, wraps, "GFP_KERNEL")) == []
    assert kernel.kvmalloc_array(2, wraps, "GFP_KERNEL") is None
    assert kernel.kvmalloc(2 * wraps, "GFP_KERNEL") is not None  # two bytes, as in C
    assert kernel.ksize(kernel.kvcalloc(10, 100, "GFP_KERNEL")) == 1024


def test_kvfree_asks_the_address_only(kernel):
    before = headlines(kernel, lambda: kernel.kvfree(VMALLOC_START + 0x5C3A98))
    assert before[0] == f"{BAD} (ffffc900005c3a98)"
    with pytest.raises(Oops, match="unable to handle page fault"):
        kernel.kvfree(0xFFFFFFFFFFFFFFF4)


def test_kvfree_sensitive_leaves_no_secret(kernel):
    block = kernel.vmalloc(2 * PAGE_SIZE)
    pages = [kernel.vmalloc_to_page(block + at) for at in (0, PAGE_SIZE)]
    kernel.write(block + PAGE_SIZE - 3, b"secret")
    kernel.kvfree_sensitive(block, 2 * PAGE_SIZE)
    assert not any(any(kernel.read(kernel.page_address(page), PAGE_SIZE)) for page in pages)
    kernel.kvfree_sensitive(None, 5)


def test_kvrealloc_moves_to_vmalloc_memory_and_stays_there(kernel):
    block = kernel.kvmalloc(PAGE_SIZE, "GFP_KERNEL")
    kernel.write(block, b"contents")
    large = kernel.kvrealloc(block, 5 * MIB, "GFP_KERNEL")
    assert kernel.is_vmalloc_addr(large) and kernel.read(large, 8) == b"contents"
    kernel.write(large + 100, b"end")
    small = kernel.kvrealloc(large, 100, "GFP_KERNEL")
    assert small == large
    assert kernel.kvrealloc(small, 4096, "GFP_KERNEL") == large
    assert kernel.read(large + 100, 3) == bytes(3)  # cleared when it shrank
    larger = kernel.kvrealloc(small, 7 * MIB, "GFP_KERNEL")
    assert larger != large and kernel.read(larger, 8) == b"contents"
    assert kernel.kvrealloc(larger, 0, "GFP_KERNEL") is None
    assert not kernel.vmalloc_space.areas


def test_vrealloc_of_nothing_and_of_no_area(kernel):
    assert kernel.is_vmalloc_addr(kernel.vrealloc(None, 100, "GFP_KERNEL"))
    lines = headlines(kernel, lambda: kernel.vrealloc(VMALLOC_END - 4095, 100, "GFP_KERNEL"))
    assert lines[0].startswith("Trying to vrealloc() nonexistent vm area (ffffe8fffffff000)")


# -- contexts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gfp", ["GFP_KERNEL", "GFP_ATOMIC"])
@pytest.mark.parametrize("context", ["softirq", "hardirq"])
def test_vmalloc_in_an_interrupt_stops_the_machine(kernel, context, gfp):
    with getattr(kernel, context)(), pytest.raises(Panic, match="mm/vmalloc.c:3177"):
        kernel.vmalloc_gfp(3 * PAGE_SIZE, gfp)
    assert kernel.dmesg().splitlines()[-3:] == [
        "kernel BUG at mm/vmalloc.c:3177!",
        "Oops: invalid opcode: 0000 [#1] PREEMPT SMP NOPTI",
        "Kernel panic - not syncing: Fatal exception in interrupt",
    ]


def test_vunmap_in_an_interrupt_stops_the_machine(kernel):
    with kernel.softirq(), pytest.raises(Panic, match=r"kernel BUG at mm/vmalloc.c"):
        kernel.vunmap(None)


def test_kvmalloc_in_an_interrupt_stops_the_machine_the_day_it_needs_vmalloc(kernel):
    with kernel.softirq():
        assert kernel.kvmalloc(8192, "GFP_KERNEL") is not None
        with pytest.raises(Panic):
            kernel.kvmalloc(8 * MIB, "GFP_KERNEL")


@pytest.mark.parametrize("context", ["softirq", "hardirq"])
def test_vfree_in_an_interrupt_waits_for_a_worker(kernel, context):
    block = kernel.vmalloc(3 * PAGE_SIZE)
    with getattr(kernel, context)():
        assert new_lines(kernel, lambda: kernel.vfree(block)) == []
        kernel.vfree(None)
        assert kernel.vmalloc_space.find(block) is not None
        copy = kernel.clone()
    assert kernel.vmalloc_space.find(block) is None
    assert copy.vmalloc_space.deferred == [block]
    getattr(copy, {"softirq": "softirq_exit", "hardirq": "irq_exit"}[context])()
    assert copy.vmalloc_space.find(block) is None


SLEEPS = "BUG: sleeping function called from invalid context at "


@pytest.mark.parametrize("context", ["spin_lock", "local_irq_save", "rcu_read_lock"])
def test_where_nothing_may_sleep_vmalloc_works_and_only_a_debug_kernel_complains(
    kernel, debug_kernel, context
):
    for one in (kernel, debug_kernel):
        block = one.vmalloc(3 * PAGE_SIZE)
        with getattr(one, context)():
            lines = headlines(one, lambda one=one, block=block: one.vfree(block))
        where = [SLEEPS + "mm/vmalloc.c:3419"] if one.debug_kernel else []
        assert lines == where
        assert one.vmalloc_space.find(block) is None


@pytest.mark.parametrize(
    ("gfp", "where"),
    [("GFP_KERNEL", "include/linux/sched/mm.h:321"), ("GFP_ATOMIC", "mm/vmalloc.c:2030")],
)
def test_a_mask_does_not_make_vmalloc_atomic(debug_kernel, gfp, where):
    with debug_kernel.spin_lock():
        lines = headlines(debug_kernel, lambda: debug_kernel.vmalloc_gfp(3 * PAGE_SIZE, gfp))
    assert lines == [SLEEPS + where]


# -- vmallocinfo ----------------------------------------------------------------------------------

ONE_CPU = """\
0xffffc90000000000-0xffffc90000005000   20480 irq_init_percpu_irqstack+0xf4/0x130 vmap
0xffffc90000005000-0xffffc90000007000    8192 acpi_os_map_iomem+0x1a9/0x1e0 phys=0x000000000ffe1000 ioremap
0xffffc90000010000-0xffffc90000015000   20480 kernel_clone+0xc2/0x430 pages=4 vmalloc N0=4
0xffffc900001b5000-0xffffc900005b6000 4198400 pcpu_create_chunk+0x191/0x1a0 pages=1024 vmalloc vpages N0=1024
0xffffe8ffffc00000-0xffffe8ffffe00000 2097152 pcpu_get_vm_areas+0x0/0x1040 vmalloc
0xffffffffc0000000-0xffffffffc0201000 2101248 bpf_prog_pack_alloc+0x2b0/0x3d0 pages=512 vmalloc N0=512
0xffffc90000650000-0xffffc90000655000   20480 unpurged vm_area
"""
FOUR_CPUS = """\
0xffffc9000000b000-0xffffc9000000d000    8192 hpet_enable+0x9e/0x500 phys=0x00000000fed00000 ioremap
0xffffc90000040000-0xffffc90000045000   20480 kernel_clone+0xc2/0x430 pages=4 vmalloc N0=4
0xffffe8ffffc00000-0xffffe8ffffe00000 2097152 pcpu_get_vm_areas+0x0/0x1040 vmalloc
0xffffffffc0000000-0xffffffffc0201000 2101248 bpf_prog_pack_alloc+0x2b0/0x3d0 pages=512 vmalloc N0=512
0xffffc90000010000-0xffffc90000015000   20480 kernel_clone+0xc2/0x430 pages=4 vmalloc N0=4
0xffffc90000050000-0xffffc90000055000   20480 kernel_clone+0xc2/0x430 pages=4 vmalloc N0=4
0xffffc90000020000-0xffffc90000025000   20480 kernel_clone+0xc2/0x430 pages=4 vmalloc N0=4
0xffffc90000035000-0xffffc90000037000    8192 acpi_os_map_iomem+0x1a6/0x1e0 phys=0x00000000fed00000 ioremap
0xffffc900003a8000-0xffffc900003ad000   20480 unpurged vm_area
0xffffc900003f0000-0xffffc900003f5000   20480 unpurged vm_area
0xffffc90000234000-0xffffc90000239000   20480 unpurged vm_area
0xffffc90000440000-0xffffc90000445000   20480 unpurged vm_area
0xffffc900003a0000-0xffffc900003a5000   20480 unpurged vm_area
"""


@pytest.mark.parametrize(("cpus", "text"), [(1, ONE_CPU), (4, FOUR_CPUS)])
def test_a_recorded_system_s_ranges_are_taken_and_listed_in_its_order(cpus, text):
    kernel = Kernel("256M", cpus=cpus)
    occupy(kernel, "".join(sorted(text.splitlines(keepends=True)[:-5])))
    occupy(kernel, "".join(text.splitlines(keepends=True)[-5:]))
    assert vmallocinfo(kernel) == text
    assert vmallocinfo(kernel.clone()) == text


def test_ranges_are_listed_with_their_pages_and_freed_ones_as_unpurged(kernel):
    occupy(kernel, ONE_CPU)
    block = kernel.vmalloc(
        2101248, owner="n_tty_open+0x18/0xa0"
    )  # its page array is vmalloc memory
    array = kernel.vmalloc_space.find(block).array
    freed = kernel.vmalloc(3 * PAGE_SIZE)
    kernel.vfree(freed)
    text = vmallocinfo(kernel)
    assert (
        f"0x{block:016x}-0x{block + 2105344:016x} 2105344 n_tty_open+0x18/0xa0 pages=513 vmalloc "
        "vpages N0=513\n"
    ) in text
    assert (
        f"0x{array:016x}-0x{array + 0x3000:016x}   12288 n_tty_open+0x18/0xa0 pages=2 vmalloc N0=2\n"
    ) in text
    assert f"\n0x{freed:016x}-0x{freed + 0x4000:016x}   16384 unpurged vm_area\n" in text


def test_pages_of_two_nodes_are_counted_apart():
    kernel = Kernel(["64M", "64M"], nodes=2, cpus=2)
    pages = [kernel.alloc_pages("GFP_KERNEL", nid=nid) for nid in (1, 0, 1)]
    kernel.vmap(pages, VM_MAP_PUT_PAGES)
    assert vmallocinfo(kernel).endswith(" pages=3 vmap N0=1 N1=2\n")


def test_what_is_no_line_of_vmallocinfo_is_refused(kernel):
    with pytest.raises(ValueError, match="not a line of /proc/vmallocinfo"):
        occupy(kernel, "no line")


# -- snapshots ------------------------------------------------------------------------------------


def test_a_clone_goes_its_own_way(kernel):
    kept, freed = kernel.vmalloc(3 * PAGE_SIZE), kernel.vmalloc(PAGE_SIZE)
    kernel.write(kept, b"kept")
    kernel.vfree(freed)
    copy = kernel.clone()
    assert copy.vmalloc_space.freeze() == kernel.vmalloc_space.freeze()
    assert copy.read(kept, 4) == b"kept"
    assert copy.vmalloc(PAGE_SIZE) == kernel.vmalloc(PAGE_SIZE)
    copy.vfree(kept)
    assert copy.vmalloc_space.find(kept) is None
    assert kernel.vmalloc_space.find(kept) is not None


def test_a_recorded_call_is_one_step(kernel):
    kernel.record()
    before = kernel.snapshot()
    block = kernel.vmalloc(300 * PAGE_SIZE)
    kernel.kvfree(block)
    kernel.kvfree(kernel.kvmalloc(5 * MIB, "GFP_KERNEL"))
    assert [step.call.partition("(")[0] for step in kernel.history[1:]] == [
        "vmalloc", "kvfree", "kvmalloc", "kvfree",
    ]  # fmt: skip
    assert kernel.history[1].result == f"{block:#x}"
    kernel.restore(before)
    assert not kernel.vmalloc_space.areas


def test_the_range_of_addresses():
    kernel = Kernel("64M")
    assert [kernel.is_vmalloc_addr(at) for at in (VMALLOC_START - 1, VMALLOC_START)] == [
        False,
        True,
    ]
    assert not kernel.is_vmalloc_addr(PAGE_OFFSET) and not kernel.is_vmalloc_addr(None)
    with pytest.raises(TypeError, match="not an address"):
        kernel.vfree("p")
