"""What is no address, no size or no count is turned away with a word of advice."""

import pytest

from kmemkit.mm.errors import Oops
from kmemkit.mm.kernel import Kernel

GFP = "GFP_KERNEL"
ADDRESS = "is not an address; give what an allocation returned, or None"
BYTES = "give a number of bytes"


@pytest.fixture(scope="module")
def kernel():
    return Kernel("16M")


@pytest.mark.parametrize("wrong", ["x", 1.5, [], True])
@pytest.mark.parametrize("call", [
    "kfree", "kvfree", "vfree", "kfree_sensitive", "kfree_const", "kfree_rcu", "ksize", "read",
    "vunmap", "struct_page",
])  # fmt: skip
def test_what_is_no_address(kernel, call, wrong):
    with pytest.raises(TypeError, match=ADDRESS):
        getattr(kernel, call)(wrong)


@pytest.mark.parametrize(("call", "arguments", "says"), [
    ("kmem_cache_create", (5, 64), "name=5: give the cache's name as text"),
    ("kmem_cache_create", ("a", "x"), "size='x': give the size of an object in bytes"),
    ("kmem_cache_create", ("a", 64, "x"), "align='x': give an alignment in bytes"),
    ("kmem_cache_create", ("a", 64, 0, "SLAB_PANIC"), "flags='SLAB_PANIC': give SLAB_"),
    ("kmem_cache_create", ("a", 64, 0, 0, 5), "ctor=5: give a function"),
    ("kmem_cache", (5,), "name=5: give the cache's name as text"),
    ("kmalloc", ("x", GFP), BYTES), ("krealloc", (None, 1.5, GFP), BYTES),
    ("kmalloc_node", (8, GFP, "x"), "node='x': give the number of a node"),
    ("kmemdup", (1.5, 8, GFP), "1.5 is nothing to copy from"),
    ("kstrdup", ([], GFP), r"\[\] is nothing to copy from"),
    ("write", (16, "abc"), "data='abc': give bytes, such as b'abc'"),
    ("read", (16, "x"), BYTES), ("memset", (16, "x", 8), "value='x': give the value of a byte"),
    ("copy_from_user", (16, "x"), BYTES), ("memcpy", ("x", b"", 0), ADDRESS),
    ("vmap", (5,), "pages=5: give a list"), ("vmap", ([], "x"), "vm_flags='x': give VM_MAP_PUT"),
    ("free_pages_exact", ("x", 4096), ADDRESS), ("kmemleak_not_leak", ("x",), ADDRESS),
])  # fmt: skip
def test_what_c_would_not_compile(kernel, call, arguments, says):
    with pytest.raises(TypeError, match=says):
        getattr(kernel, call)(*arguments)


def test_numbers_out_of_range(kernel):
    cache = kernel.kmem_cache("kmalloc-64")
    with pytest.raises(ValueError, match="node=7: this machine has nodes 0 to 0"):
        kernel.kmem_cache_alloc_node(cache, GFP, 7)
    with pytest.raises(ValueError, match="count=-1: give 0 or more objects"):
        kernel.kmem_cache_alloc_bulk(cache, GFP, -1)
    with pytest.raises(TypeError, match="objects=5: give a list"):
        kernel.kmem_cache_free_bulk(cache, 5)
    with pytest.raises(ValueError, match="size=-1: give 0 or more bytes; in C it would be 0xfff"):
        kernel.memset(16, 0, -1)
    with pytest.raises(TypeError, match="kmemleak='off': give True or False"):
        kernel.kmemleak = "off"


def test_negative_numbers_wrap_as_unsigned_ones_do(kernel):
    assert kernel.kmalloc(-1, GFP) is None
    assert kernel.kmem_cache_create("huge", -5) is None
    assert "__kmem_cache_create_args(huge) failed with error -22" in kernel.dmesg()
    with pytest.raises(Oops, match="ffffea0001ffffc8"):
        kernel.kfree(-12)  # ERR_PTR(-ENOMEM): nobody asked IS_ERR()


def test_null_is_an_address_that_nothing_is_at(kernel):
    for touch in (lambda: kernel.write(None, b"x"), lambda: kernel.read(None),
                  lambda: kernel.memset(None, 0, 8)):  # fmt: skip
        with pytest.raises(Oops, match="NULL pointer dereference, address: 0000000000000000"):
            touch()


def test_pages_of_an_address_that_is_none():
    kernel = Kernel("16M")
    kernel.free_pages_exact(None, 4096)  # only free_page(0), which does nothing
    with pytest.raises(Oops, match="page fault"):
        kernel.free_pages_exact(None, 8192)
