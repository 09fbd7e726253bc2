"""Debug caches: what is written into objects, what is found, and the report word for word.

The reports are those of a recorded Debian 6.12 with slab_debug=FZPU (oracle/misuse), with the
addresses, the taint letters and the tracks of the simulated machine.
"""

import re

import pytest

from kmemkit import Kernel

FZPU = "slab_debug=FZPU"
GFP = "GFP_KERNEL"


@pytest.fixture
def kernel():
    return Kernel("64M", cmdline=FZPU, freelist_random=False)


def log_after(kernel, before):
    return kernel.dmesg().splitlines()[before:]


def lines(kernel):
    return len(kernel.dmesg().splitlines())


def test_bytes_of_an_allocated_and_of_a_free_object(kernel):
    at = kernel.kmalloc(60, GFP)
    assert kernel.read(at - 64, 64) == b"\xcc" * 64
    assert kernel.read(at, 60) == b"\x6b" * 59 + b"\xa5"  # not zero: poisoned caches are not wiped
    assert kernel.read(at + 60, 12) == b"\xcc" * 12  # from the size that was asked for
    kernel.kfree(at)
    assert kernel.read(at - 64, 64) == b"\xbb" * 64
    assert kernel.read(at, 64) == b"\x6b" * 63 + b"\xa5"
    assert kernel.read(at + 152, 40) == b"\x5a" * 40
    zeroed = kernel.kzalloc(60, GFP)
    assert zeroed == at and kernel.read(at, 60) == bytes(60)
    assert kernel.read(at + 60, 4) == b"\xcc" * 4


def test_a_write_behind_the_size_asked_for_is_reported_when_the_object_is_freed(kernel):
    at = kernel.kmalloc(60, GFP)
    kernel.write(at + 62, b"X")
    before = lines(kernel)
    kernel.kfree(at)
    log = log_after(kernel, before)
    page = at & -4096
    assert log[:6] == [
        f"[kmalloc Redzone overwritten] {at + 62:#x}-{at + 62:#x} @offset={at + 62 - page}. "
        "First byte 0x58 instead of 0xcc",
        "=" * 77,
        "BUG kmalloc-64 (Not tainted): Object corrupt",
        "-" * 77,
        "",
        "Allocated in learner age=0 cpu=0 pid=1",
    ]
    assert log[6].startswith(f"Slab {0xFFFFEA0000000000 + (page - 0xFFFF888000000000) // 64:#x} ")
    assert log[7] == f"Object {at:#x} @offset={at - page} fp={at + 256:#x}"
    dump = [line for line in log if re.match(r"(Redzone|Object|Padding)  ", line)]
    assert dump == [
        *(f"Redzone  {at - 64 + n:x}: {'cc ' * 15}cc  ................" for n in (0, 16, 32, 48)),
        *(f"Object   {at + n:x}: {'6b ' * 15}6b  kkkkkkkkkkkkkkkk" for n in (0, 16, 32)),
        f"Object   {at + 48:x}: {'6b ' * 11}a5 cc cc 58 cc  kkkkkkkkkkk...X.",
        f"Redzone  {at + 64:x}: cc cc cc cc cc cc cc cc                          ........",
        *(f"Padding  {at + 152 + n:x}: {'5a ' * 15}5a  ZZZZZZZZZZZZZZZZ" for n in (0, 16)),
        f"Padding  {at + 184:x}: 5a 5a 5a 5a 5a 5a 5a 5a                          ZZZZZZZZ",
    ]
    assert log[-2:] == [
        f"FIX kmalloc-64: Restoring kmalloc Redzone {at + 62:#x}-{at + 62:#x}=0xcc",
        f"FIX kmalloc-64: Object at {at:#x} not freed",
    ]
    assert kernel.kmalloc(60, GFP) != at


def test_a_write_after_free_is_reported_at_the_next_allocation(kernel):
    at = kernel.kmalloc(64, GFP)
    kernel.kfree(at)
    kernel.write(at, b"D" * 8)
    before = lines(kernel)
    assert kernel.kmalloc(64, GFP) != at
    log = log_after(kernel, before)
    assert log[0].startswith(f"[Poison overwritten] {at:#x}-{at + 7:#x} @offset=")
    assert log[0].endswith("First byte 0x44 instead of 0x6b")
    assert log[5] == "Allocated in learner age=0 cpu=0 pid=1"
    assert log[6] == "Freed in learner age=0 cpu=0 pid=1"
    assert log[-2:] == [
        f"FIX kmalloc-64: Restoring Poison {at:#x}-{at + 7:#x}=0x6b",
        "FIX kmalloc-64: Marking all objects used",
    ]


def test_freed_twice(kernel):
    first, second = kernel.kmalloc(64, GFP), kernel.kmalloc(64, GFP)
    kernel.kfree(first)
    before = lines(kernel)
    kernel.kfree(first)
    log = log_after(kernel, before)
    assert log[1] == "BUG kmalloc-64 (Not tainted): Object already free"
    assert log[-1] == f"FIX kmalloc-64: Object at {first:#x} not freed"
    kernel.kfree(second)
    before = lines(kernel)
    kernel.kfree(second)
    log = log_after(kernel, before)
    assert log[1].startswith("BUG kmalloc-64 (Tainted: G    B   W         ): Slab has 0 allocated")


def test_an_address_between_objects(kernel):
    at = kernel.kmalloc(64, GFP)
    before = lines(kernel)
    kernel.kfree(at + 8)
    log = log_after(kernel, before)
    assert log[1] == f"BUG kmalloc-64 (Not tainted): Invalid object pointer {at + 8:#x}"
    assert log[-1] == f"FIX kmalloc-64: Object at {at + 8:#x} not freed"


def test_ksize_gives_the_slack_away(kernel):
    at = kernel.kmalloc(60, GFP)
    assert kernel.ksize(at) == 64
    kernel.write(at + 62, b"X")
    before = lines(kernel)
    kernel.kfree(at)
    assert lines(kernel) == before


def test_objects_left_when_a_cache_is_destroyed(kernel):
    cache = kernel.kmem_cache_create("mu_live", 200)
    at = kernel.kmem_cache_alloc(cache, GFP)
    before = lines(kernel)
    kernel.kmem_cache_destroy(cache)
    log = log_after(kernel, before)
    assert log[1] == "BUG mu_live (Not tainted): Objects remaining on __kmem_cache_shutdown()"
    assert log[4] == f"Object {at:#x} @offset={at % 4096}"
    assert (
        "kmem_cache_destroy mu_live: Slab cache still has objects when called from learner" in log
    )
    kernel.kmem_cache_free(cache, at)  # it still works


@pytest.mark.parametrize("letters", ["F", "Z", "P", "U", "FZ", "FZPU,kmalloc-64", "FZPU,kmalloc-*"])
def test_a_debugged_cache_serves_and_says_nothing_of_right_use(letters):
    kernel = Kernel("64M", cmdline=f"slab_debug={letters}")
    held = [kernel.kmalloc(n, GFP) for n in range(1, 300)]
    for at, size in zip(held, range(1, 300), strict=True):
        kernel.memset(at, 0x41, size)
    for at in held:
        kernel.kfree(at)
    assert len(set(held)) == len(held)
    assert "BUG" not in kernel.dmesg()


def test_only_the_named_caches_are_debugged():
    kernel = Kernel("64M", cmdline="slab_debug=Z,kmalloc-64")
    kernel.kmalloc(1, GFP)
    debugged = {s.name for s in kernel.slab_caches if s.debug}
    assert debugged == {"kmalloc-64"}


def test_bytes_behind_the_last_object_are_looked_at_when_the_slab_goes_back(kernel):
    cache = kernel.kmem_cache_create("mine", 1000)
    s = kernel.kmem_caches[cache]
    at = kernel.kmem_cache_alloc(cache, GFP)
    slab = kernel.slabs[(at - 0xFFFF888000000000) >> 12]
    pad = slab.address + s.oo[1] * s.size
    assert pad < slab.address + (4096 << slab.order)
    kernel.write(pad + 3, b"abc")
    kernel.kmem_cache_free(cache, at)
    before = lines(kernel)
    kernel.kmem_cache_destroy(cache)
    log = log_after(kernel, before)
    wrong = f"{pad + 3:#x}-{pad + 5:#x}"
    assert f"BUG mine (Not tainted): Padding overwritten. {wrong} @offset=3" in log
    assert f"FIX mine: Restoring slab padding {wrong}=0x5a" in log
    assert any(line.startswith(f"Padding  {pad:016x}: 5a 5a 5a 61 62 63 5a") for line in log)


def test_a_slab_without_objects_in_use_refuses_a_free_whatever_is_checked():
    kernel = Kernel("64M", cmdline="slab_debug=Z", freelist_random=False)
    cache = kernel.kmem_cache_create("mine", 256)
    at = kernel.kmem_cache_alloc(cache, GFP)
    kernel.kmem_cache_free(cache, at)
    kernel.kmem_cache_free(cache, at)
    assert "BUG mine (Not tainted): Slab has 0 allocated objects but 1 are to be freed" in (
        kernel.dmesg()
    )
    assert kernel.slabs[(at - 0xFFFF888000000000) >> 12].inuse == 0


def test_a_wrong_cache_is_told_who_has_the_object(kernel):
    mine, other = kernel.kmem_cache_create("mine", 256), kernel.kmem_cache_create("other", 256)
    at = kernel.kmem_cache_alloc(mine, GFP)
    before = lines(kernel)
    kernel.kmem_cache_free(other, at)
    log = log_after(kernel, before)
    assert "cache_from_obj: Wrong slab cache. other but object is from mine" in log
    assert log[-1] == "Allocated in learner age=0 cpu=0 pid=1"


def test_only_what_was_asked_for_is_wiped_where_a_red_zone_could_be():
    kernel = Kernel("64M", cmdline="slab_debug=Z", freelist_random=False)
    at = kernel.kmalloc(64, GFP)
    kernel.write(at, b"\xff" * 64)
    kernel.kfree(at)
    assert kernel.kzalloc(60, GFP) == at
    assert kernel.read(at, 64) == bytes(60) + b"\xff" * 4


def test_damage_that_was_reported_is_put_right():
    kernel = Kernel("64M", cmdline="slab_debug=FZP")
    at = kernel.kmalloc(64, GFP)
    kernel.memory.write(at + 64, b"XY")
    kernel.kfree(at)
    said = kernel.dmesg().count("Right Redzone overwritten")
    assert said == 1
    assert kernel.memory.read(at + 64, 4) == b"\xcc" * 4
    kernel.kfree(at)  # it was left in use, and is sound again
    assert kernel.dmesg().count("Right Redzone overwritten") == said


def test_the_last_byte_of_the_poison_is_another_one():
    kernel = Kernel("64M", cmdline="slab_debug=FZP")
    at = kernel.kmalloc(64, GFP)
    kernel.kfree(at)
    assert kernel.memory.read(at + 62, 2) == b"\x6b\xa5"
    kernel.memory.write(at + 63, b"\x6b")
    while kernel.kmalloc(64, GFP) != at and "End Poison" not in kernel.dmesg():
        pass
    assert "[End Poison overwritten]" in kernel.dmesg()
