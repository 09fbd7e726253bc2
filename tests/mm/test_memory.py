"""Bytes of memory, and the free pointers that lie in them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemkit import Kernel
from kmemkit.mm.errors import Oops
from kmemkit.mm.memory import PAGE_OFFSET, VMALLOC_START

GFP = "GFP_KERNEL"


@pytest.fixture
def kernel():
    return Kernel("64M", freelist_random=False)


def test_what_was_written_is_read_across_pages(kernel):
    at = kernel.kmalloc(20000, GFP)
    data = bytes(range(256)) * 40
    kernel.write(at + 1000, data)
    assert kernel.read(at + 1000, len(data)) == data
    assert kernel.read(at, 1000) == bytes(1000)


@pytest.mark.parametrize(
    ("address", "line"),
    [
        (0, "BUG: kernel NULL pointer dereference, address: 0000000000000000"),
        (16, "BUG: kernel NULL pointer dereference, address: 0000000000000010"),
        (0x5000, "BUG: unable to handle page fault for address: 0000000000005000"),
        (PAGE_OFFSET + (1 << 40), "BUG: unable to handle page fault for address: ffff898000000000"),
        (VMALLOC_START, "BUG: unable to handle page fault for address: ffffc90000000000"),
        ((1 << 64) - 12, "BUG: unable to handle page fault for address: fffffffffffffff4"),
    ],
)
def test_addresses_with_nothing_behind_them(kernel, address, line):
    with pytest.raises(Oops, match=line):
        kernel.read(address, 8)
    assert line in kernel.dmesg()


def test_an_address_the_cpu_does_not_take(kernel):
    with pytest.raises(Oops, match=r"general protection fault, probably for non-canonical address"):
        kernel.write(0xAAAAAAAAAAAAAAAA, b"x")


def test_a_free_object_holds_its_pointer_mixed_with_the_cache_s_number(kernel):
    cache = kernel.kmem_cache_create("test", 256, flags=0x1000)
    s = kernel.kmem_caches[cache]
    first, second = (kernel.kmem_cache_alloc(cache, GFP) for _ in range(2))
    kernel.kmem_cache_free(cache, second)
    kernel.kmem_cache_free(cache, first)
    place = first + s.offset
    stored = int.from_bytes(kernel.read(place, 8), "little")
    swapped = int.from_bytes(place.to_bytes(8, "little"), "big")
    assert stored == second ^ s.random ^ swapped
    assert kernel.kmem_cache_alloc(cache, GFP) == first  # reading changed nothing
    assert kernel.kmem_cache_alloc(cache, GFP) == second


def test_a_damaged_pointer_leads_nowhere(kernel):
    cache = kernel.kmem_cache_create("test", 256, flags=0x1000)
    s = kernel.kmem_caches[cache]
    at = kernel.kmem_cache_alloc(cache, GFP)
    kernel.kmem_cache_free(cache, at)
    kernel.write(at + s.offset, b"\x58" * 8)
    assert kernel.kmem_cache_alloc(cache, GFP) == at  # the damage is what comes behind it
    with pytest.raises(Oops):
        kernel.kmem_cache_alloc(cache, GFP)


@pytest.mark.parametrize("option", ["init_on_alloc=1", "init_on_alloc=0"])
def test_what_the_next_owner_finds(option):
    kernel = Kernel("64M", cmdline=option)
    at = kernel.kmalloc(64, GFP)
    kernel.memset(at, 0x41, 64)
    kernel.kfree(at)
    assert kernel.kmalloc(64, GFP) == at
    found = kernel.read(at, 64)
    if option.endswith("1"):
        assert found == bytes(64)
    else:
        assert found[:32] == b"A" * 32 and found[40:] == b"A" * 24 and found[32:40] != b"A" * 8
    kernel.memset(at, 0x41, 64)
    kernel.kfree(at)
    assert kernel.kzalloc(64, GFP) == at
    assert kernel.read(at, 64) == bytes(64)


def test_new_pages_are_cleared_too(kernel):
    page = kernel.get_free_pages(GFP)
    kernel.write(page, b"secret")
    kernel.free_pages(page)
    assert kernel.get_free_pages(GFP) == page
    assert kernel.read(page, 6) == bytes(6)


def test_a_clone_has_bytes_of_its_own(kernel):
    at = kernel.kmalloc(64, GFP)
    kernel.write(at, b"before")
    clone = kernel.clone()
    kernel.write(at, b"after!")
    assert clone.read(at, 6) == b"before"


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 16383), st.binary(min_size=1, max_size=200)), max_size=12
    ),
    st.integers(0, 16000),
)  # fmt: skip
def test_memory_is_what_a_bytearray_is(writes, start):
    kernel = Kernel("16M")
    base = kernel.kmalloc(20000, GFP)
    plain = bytearray(20000)
    for offset, data in writes:
        kernel.memory.write(base + offset, data)
        plain[offset : offset + len(data)] = data
    assert kernel.memory.read(base + start, 300) == plain[start : start + 300]
    kernel.memory.clear(base + start, 300)
    plain[start : start + 300] = bytes(300)
    assert kernel.memory.read(base, 20000) == plain
