"""kmalloc()'s helpers: arrays, resizing, copies, freeing later (facts 7.1, 7.10, 11.1).

The recorded sizes and moves stand in tests/golden; here is what they do to bytes and errors.
"""

import pytest

from kmemkit import Kernel
from kmemkit.mm.errors import Oops
from kmemkit.mm.kmalloc_calls import RODATA_START

GFP = "GFP_KERNEL"
SIZE_MAX = (1 << 64) - 1


@pytest.fixture
def kernel():
    return Kernel("64M")


def text_at(kernel, address, size=64):
    return kernel.read(address, size).partition(b"\0")[0]


# -- arrays ---------------------------------------------------------------------------------------


def test_an_array_that_overflows_is_null_without_a_word(kernel):
    for n, size in ((1 << 32, 1 << 32), (SIZE_MAX, 2), (1 << 63, 2), (1 << 61, 8)):
        assert kernel.kmalloc_array(n, size, GFP) is None
        assert kernel.kcalloc(n, size, GFP) is None
        assert kernel.krealloc_array(None, n, size, GFP) is None
    assert kernel.dmesg() == ""
    # the product in C is 0, and kmalloc(0) is no NULL
    assert kernel.kmalloc((1 << 61) * 8, GFP) == 16


def test_an_array_of_nothing_is_not_null(kernel):
    assert kernel.kmalloc_array(0, 100, GFP) == kernel.kcalloc(100, 0, GFP) == 16


def test_an_array_that_does_not_overflow_may_still_be_too_large(kernel):
    assert kernel.kmalloc_array(-1, 1, GFP) is None
    assert "__alloc_pages_noprof" in kernel.dmesg()


def test_an_array_has_room_for_all_its_elements(kernel):
    for n, size in ((3, 100), (4097, 1), (1 << 20, 4)):
        assert kernel.ksize(kernel.kmalloc_array(n, size, GFP)) >= n * size


def test_kcalloc_clears_even_where_the_kernel_does_not():
    kernel = Kernel("64M", cmdline="init_on_alloc=0")
    dirty = kernel.kmalloc(64, GFP)
    kernel.write(dirty, b"x" * 64)
    kernel.kfree(dirty)
    assert kernel.kmalloc_array(8, 8, GFP) == dirty
    assert kernel.read(dirty, 64).count(b"x") > 50
    kernel.kfree(dirty)
    assert kernel.kcalloc(8, 8, GFP) == dirty
    assert kernel.read(dirty, 64) == bytes(64)


def test_objects_by_type_saturate_and_are_warned_of(kernel):
    assert kernel.ksize(kernel.kmalloc_objs(24, 4, GFP)) == 96
    assert kernel.ksize(kernel.kmalloc_flex(16, 8, 10, GFP)) == 96
    assert kernel.read(kernel.kzalloc_obj(200, GFP), 200) == bytes(200)
    assert kernel.kmalloc_objs(1 << 40, 1 << 40, GFP) is None
    assert "WARNING" in kernel.dmesg()
    assert kernel.kzalloc_flex(1, 1 << 40, 1 << 40, GFP) is None
    assert kernel.kzalloc_objs(1 << 40, 1 << 40, GFP) is None
    assert kernel.ksize(kernel.kmalloc_obj(8, GFP)) == 8


def test_helpers_for_nodes():
    kernel = Kernel("128M", nodes=2)
    for at in (
        kernel.kmalloc_array_node(10, 10, GFP, 1),
        kernel.kcalloc_node(10, 10, GFP, 1),
        kernel.kzalloc_node(100, GFP, 1),
    ):
        assert kernel.page_zone(kernel.virt_to_page(at)).nid == 1


# -- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "rounded"),
    [(0, 0), (1, 8), (65, 96), (97, 128), (193, 256), (8192, 8192), (8193, 16384),
     (4 << 20, 4 << 20), ((4 << 20) + 1, (4 << 20) + 1), (-1, SIZE_MAX)],
)  # fmt: skip
def test_the_size_that_may_all_be_used(kernel, size, rounded):
    assert kernel.kmalloc_size_roundup(size) == rounded


def test_the_rounded_size_is_what_kmalloc_gives(kernel):
    for size in range(1, 20_000, 37):
        at = kernel.kmalloc(size, GFP)
        assert kernel.ksize(at) == kernel.kmalloc_size_roundup(size)
        kernel.kfree(at)


def test_krealloc_moves_only_when_the_slot_is_too_small(kernel):
    p = kernel.krealloc(None, 33, GFP)
    kernel.write(p, bytes(range(64)))
    assert kernel.krealloc(p, 64, GFP) == p
    q = kernel.krealloc(p, 65, GFP)
    assert q != p
    assert kernel.read(q, 96) == bytes(range(64)) + bytes(32)
    assert kernel.kmalloc(64, GFP) == p  # it was freed
    assert kernel.krealloc(q, 1, GFP) == q
    assert kernel.ksize(q) == 96


def test_krealloc_wipes_what_is_not_asked_for_any_more_only_if_memory_is_wiped():
    for cmdline, gfp, kept in (
        ("", GFP, False),
        ("init_on_alloc=0", GFP, True),
        ("init_on_alloc=0", "GFP_KERNEL | __GFP_ZERO", False),
    ):
        kernel = Kernel("64M", cmdline=cmdline)
        p = kernel.kmalloc(64, GFP)
        kernel.write(p, b"x" * 64)
        assert kernel.krealloc(p, 10, gfp) == p
        assert kernel.read(p, 64) == b"x" * 10 + (b"x" * 54 if kept else bytes(54))


def test_krealloc_to_nothing_frees(kernel):
    p = kernel.kmalloc(64, GFP)
    assert kernel.krealloc(p, 0, GFP) == 16
    assert kernel.kmalloc(64, GFP) == p
    assert kernel.krealloc(16, 8, GFP) not in (None, 16)


@pytest.mark.parametrize("resize", ["krealloc", "krealloc_array"])
def test_a_krealloc_that_fails_leaves_the_old_block(kernel, resize):
    p = kernel.kmalloc(64, GFP)
    kernel.write(p, b"still here")
    if resize == "krealloc":
        assert kernel.krealloc(p, 64 << 20, GFP) is None
    else:
        assert kernel.krealloc_array(p, 1 << 40, 1 << 40, GFP) is None
    assert text_at(kernel, p) == b"still here"
    assert kernel.kmalloc(64, GFP) != p


def test_krealloc_array_resizes(kernel):
    p = kernel.krealloc_array(None, 4, 8, GFP)
    kernel.write(p, b"ab")
    q = kernel.krealloc_array(p, 40, 8, GFP)
    assert (text_at(kernel, q), kernel.ksize(q)) == (b"ab", 512)


def test_krealloc_of_a_large_block(kernel):
    p = kernel.kmalloc(8193, GFP)
    kernel.write(p + 8190, b"end")
    assert kernel.krealloc(p, 16384, GFP) == p
    q = kernel.krealloc(p, 16385, GFP)
    assert q != p
    assert kernel.read(q + 8190, 3) == b"end"
    assert kernel.krealloc(q, 1, GFP) == q
    assert kernel.read(q + 8190, 3) == bytes(3)


# -- copies ---------------------------------------------------------------------------------------


def test_copies_of_memory(kernel):
    source = kernel.kstrdup("hello, world", GFP)
    assert text_at(kernel, source) == b"hello, world"
    copy = kernel.kmemdup(source, 5, GFP)
    assert kernel.read(copy, 8) == b"hello\0\0\0"
    assert text_at(kernel, kernel.kmemdup_nul(source, 5, GFP)) == b"hello"
    assert text_at(kernel, kernel.kstrndup(source, 7, GFP)) == b"hello, "
    assert text_at(kernel, kernel.kstrndup(source, 70, GFP)) == b"hello, world"
    assert text_at(kernel, kernel.kmemdup_array(source, 3, 4, GFP)) == b"hello, world"
    assert text_at(kernel, kernel.kstrdup(b"ab\0cd", GFP)) == b"ab"
    assert kernel.ksize(kernel.kstrdup("x" * 8, GFP)) == 16  # the end counts


def test_copies_of_null(kernel):
    assert kernel.kstrdup(None, GFP) is None
    assert kernel.kstrndup(None, 5, GFP) is None
    assert kernel.kmemdup_nul(None, 5, GFP) is None
    with pytest.raises(Oops, match="NULL pointer dereference"):
        kernel.kmemdup(None, 5, GFP)


def test_a_string_over_many_pages(kernel):
    at = kernel.kmalloc(3 * 4096, GFP)
    kernel.write(at, b"y" * 9000)
    assert text_at(kernel, kernel.kstrdup(at, GFP), 10_000) == b"y" * 9000
    assert kernel.kmemdup_array(at, 1 << 40, 1 << 40, GFP) is None


def test_constants_of_the_kernel_are_not_copied_and_not_freed(kernel):
    assert kernel.kstrdup_const(RODATA_START, GFP) == RODATA_START
    kernel.kfree_const(RODATA_START)
    # a literal of a module is none of them: recorded as m.kfree_const_string
    with pytest.raises(Oops, match="unable to handle page fault for address: ffffea0000800b88"):
        kernel.kfree_const(0xFFFFFFFFA002EE20)
    copy = kernel.kstrdup_const("literal of a module", GFP)
    kernel.kfree_const(copy)
    assert kernel.kmalloc(20, GFP) == copy
    kernel.kfree_const(None)


def test_calls_are_recorded_by_their_names(kernel):
    kernel.record()
    kernel.kcalloc(1 << 60, 32, GFP)
    p = kernel.kstrdup("ab", GFP)
    kernel.krealloc(p, 10, GFP)
    kernel.kmemdup(p, 4, GFP)
    calls = [step.call for step in kernel.history[1:]]
    assert calls == [
        f"kmalloc_array({1 << 60}, 32, GFP_KERNEL|__GFP_ZERO)",
        'kstrdup("ab", GFP_KERNEL)',
        f"krealloc({p:#x}, 10, GFP_KERNEL)",
        f"kmemdup({p:#x}, 4, GFP_KERNEL)",
    ]
    assert [step.ok for step in kernel.history[1:]] == [False, True, True, True]


@pytest.mark.parametrize("size", ["64", 1.0, None])
def test_a_size_is_a_number_of_bytes(kernel, size):
    for call in (kernel.kmalloc_size_roundup, lambda n: kernel.krealloc(None, n, GFP)):
        with pytest.raises(TypeError, match="give a number of bytes"):
            call(size)
