"""Moving bytes, and the checks before it: misuse cells of FORTIFY_SOURCE and HARDENED_USERCOPY."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.errors import KernelBug, Oops
from kmemkit.mm.slab import SLAB_NO_MERGE

GFP = "GFP_KERNEL"
CONFIGURATIONS = {
    "plain": {},
    "noinit": {"cmdline": "init_on_alloc=0"},
    "slabdbg": {"cmdline": "slab_debug=FZPU"},
}


@pytest.fixture(params=CONFIGURATIONS)
def kernel(request):
    return Kernel("64M", **CONFIGURATIONS[request.param])


def lines(kernel):
    return [line for line in kernel.dmesg().splitlines() if "cut here" not in line]


def test_bytes_are_set_and_copied(kernel):
    a, b = kernel.kmalloc(64, GFP), kernel.kmalloc(64, GFP)
    kernel.memset(a, ord("a"), 10, known_size=64)
    kernel.memcpy(b, a, 10, known_size=10)
    kernel.strcpy(b + 10, "bc", known_size=3)
    assert kernel.read(b, 13) == b"aaaaaaaaaabc\0"
    kernel.strcpy(a, b)
    assert kernel.read(a, 13) == b"aaaaaaaaaabc\0"
    kernel.memcpy(a, b"xyz\0", 4)
    assert kernel.read(a, 5) == b"xyz\0a"


@pytest.mark.parametrize(
    ("call", "report"),
    [
        (
            lambda k, p: k.memset(p, 0, 128, known_size=64),
            "memset: detected buffer overflow: 128 byte write of buffer size 64",
        ),
        (
            lambda k, p: k.memcpy(p, p, 128, known_size=64),
            "memcpy: detected buffer overflow: 128 byte write of buffer size 64",
        ),
        (
            lambda k, p: k.strcpy(p, "sixteen letters!", known_size=8),
            "strcpy: detected buffer overflow: 17 byte write of buffer size 8",
        ),
    ],
)
def test_what_the_compiler_knows_is_checked_before_a_byte_is_written(kernel, call, report):
    p = kernel.kmalloc(64, GFP)
    kernel.memset(p, 7, 64)
    with pytest.raises(KernelBug, match="kernel BUG at lib/string_helpers.c:1040!"):
        call(kernel, p)
    assert kernel.read(p, 64) == bytes([7]) * 64
    assert lines(kernel)[0] == report
    assert "lib/string_helpers.c:1032 __fortify_report" in lines(kernel)[1]


def test_what_it_does_not_know_is_not(kernel):
    a = kernel.kmalloc(64, GFP)
    kernel.memset(a, 1, 65)
    assert kernel.dmesg() == ""
    with pytest.raises(Oops):
        kernel.memset(16, 1, 1)


@pytest.mark.parametrize(
    ("direction", "wanted"),
    [("to", "exposure attempt detected from"), ("from", "overwrite attempt detected to")],
)
def test_a_copy_past_the_object_is_stopped(kernel, direction, wanted):
    p = kernel.kmalloc(64, GFP)
    copy = kernel.copy_to_user if direction == "to" else kernel.copy_from_user
    copy(p, 64)
    copy(p + 8, 56)
    with pytest.raises(KernelBug, match="kernel BUG at mm/usercopy.c:102!"):
        copy(p, 128)
    assert lines(kernel)[:2] == [
        f"usercopy: Kernel memory {wanted} SLUB object 'kmalloc-64' (offset 0, size 128)!",
        "kernel BUG at mm/usercopy.c:102!",
    ]


def test_a_constant_size_is_not_checked(kernel):
    p = kernel.kmalloc(64, GFP)
    assert len(kernel.copy_to_user(p, 128, constant=True)) == 128
    kernel.copy_from_user(p, 128, data=b"program", constant=True)
    assert kernel.read(p, 9) == b"program\0\0"
    assert kernel.dmesg() == ""


def test_the_debug_kernel_is_built_without_the_check():
    kernel = Kernel("64M", debug_kernel=True)
    cache = kernel.kmem_cache_create("private", 200, flags=SLAB_NO_MERGE)
    assert len(kernel.copy_to_user(kernel.kmem_cache_alloc(cache, GFP), 200)) == 200


def test_objects_of_a_cache_are_private_unless_it_says_which_part_is_not(kernel):
    private = kernel.kmem_cache_create("private", 200, flags=SLAB_NO_MERGE)
    shown = kernel.kmem_cache_create_usercopy("shown", 200, 0, SLAB_NO_MERGE, 100, 50)
    at = kernel.kmem_cache_alloc(private, GFP)
    with pytest.raises(KernelBug):
        kernel.copy_to_user(at, 1)
    at = kernel.kmem_cache_alloc(shown, GFP)
    assert len(kernel.copy_to_user(at + 100, 50)) == 50
    for offset, size in ((99, 2), (100, 51), (150, 1)):
        with pytest.raises(KernelBug):
            kernel.copy_to_user(at + offset, size)
        report = f"'shown' (offset {offset}, size {size})!"
        assert any(line.endswith(report) for line in lines(kernel))


def test_large_blocks_and_vmalloc_memory_have_an_end(kernel):
    big = kernel.kmalloc(16384, GFP)
    kernel.copy_to_user(big + 4096, 12288)
    with pytest.raises(KernelBug):
        kernel.copy_to_user(big + 4096, 12289)
    assert "page alloc (offset 4096, size 12289)!" in kernel.dmesg()
    v = kernel.vmalloc(8192)
    kernel.copy_from_user(v + 4096, 4096)
    with pytest.raises(KernelBug):
        kernel.copy_from_user(v + 4096, 3 * 4096)
    assert "detected to vmalloc (offset 4096, size 12288)!" in kernel.dmesg()
    kernel.vfree(v)
    with pytest.raises(KernelBug):
        kernel.copy_from_user(v, 1)
    assert "vmalloc 'no area' (offset 0, size 1)!" in kernel.dmesg()


def test_addresses_that_no_program_may_see(kernel):
    with pytest.raises(KernelBug):
        kernel.copy_to_user(16, 8)
    assert "from null address (offset 16, size 8)!" in kernel.dmesg()
    with pytest.raises(KernelBug):
        kernel.copy_to_user(0xFFFFFFFF81000100, 8)
    assert "from kernel text (offset 256, size 8)!" in kernel.dmesg()
    assert kernel.copy_to_user(0, 0) == b""


def test_a_page_shows_what_its_last_owner_left():
    kernel = Kernel("64M", cmdline="init_on_alloc=0")
    p = kernel.kmalloc(128, GFP)
    kernel.memcpy(p, b"password" * 16, 128)
    kernel.kfree(p)
    q = kernel.kmalloc(128, GFP)
    kernel.copy_from_user(q, 4, data=b"hi!\0")
    assert b"password" in kernel.copy_to_user(q, 128)
