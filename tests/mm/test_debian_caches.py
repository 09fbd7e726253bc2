"""The caches a booted system has, and what new ones are merged into."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.debian_caches import FLAGS, system_caches
from kmemkit.mm.slab import SLAB_NO_MERGE, SLAB_PANIC


def test_every_cache_has_one_row():
    names = [one.name for one in system_caches()]
    assert len(names) == len(set(names)) == 235 - 2 - 4 * 13
    assert all(one.size > 0 and one.usersize <= one.size for one in system_caches())
    assert all(one.flags & ~sum(FLAGS.values()) == 0 for one in system_caches())


@pytest.mark.parametrize("name", ["memdup_user", "msg_msg"])
def test_buckets_have_every_size(name):
    own = [one for one in system_caches() if one.name.startswith(f"{name}-")]
    assert [one.size for one in own][:4] == [96, 192, 8, 16]
    assert [one.name for one in own][-2:] == [f"{name}-4k", f"{name}-8k"]
    assert all(one.flags & SLAB_NO_MERGE for one in own)


def test_message_buckets_keep_their_header_from_users():
    sizes = {one.size: one.usersize for one in system_caches() if one.name.startswith("msg_msg")}
    assert (sizes[32], sizes[64], sizes[4096], sizes[8192]) == (0, 16, 4048, 4048)


@pytest.mark.parametrize("ram", ["1M", "256M"])
def test_a_new_cache_joins_the_oldest_that_serves(ram):
    kernel = Kernel(ram)
    cache = kernel.kmem_cache_create("mine", 60)
    assert cache.name == "dmaengine-unmap-2"
    s = kernel.kmem_caches[cache]
    assert (s.aliases[-1], s.object_size, s.inuse, s.offset) == ("mine", 64, 64, 24)
    assert not s.flags & SLAB_PANIC
    assert kernel.kmem_cache_create("other", 1000).name == "other"


def test_kmalloc_is_never_joined():
    kernel = Kernel("64M")
    for size in (8, 512, 8192):
        assert not kernel.kmem_cache_create(f"mine-{size}", size).name.startswith("kmalloc")


def test_the_order_of_objects_does_not_depend_on_what_was_used_before():
    def first_objects(*before):
        kernel = Kernel("64M", seed=7)
        for size in before:
            kernel.kmalloc(size, "GFP_KERNEL")
        kernel.kmalloc(192, "GFP_KERNEL")
        return kernel.kmalloc_slab(192, 0xCC0).random_seq

    assert first_objects() == first_objects(8, 64, 1024)
    assert sorted(first_objects()) == list(range(21))


def test_caches_without_slabs_stay_as_they_are_in_snapshots():
    kernel = Kernel("64M")
    kernel.kmalloc(64, "GFP_KERNEL")
    before = {one.name: one for one in kernel.snapshot().caches}
    kernel.kmalloc(128, "GFP_KERNEL")
    kernel.kmem_cache_create("mine", 40)
    after = {one.name: one for one in kernel.snapshot().caches}
    changed = [name for name in after if after[name] is not before[name]]
    assert changed == ["kmalloc-64", "kmalloc-128", "khugepaged_mm_slot"]
    assert after["khugepaged_mm_slot"].aliases == ("mine",)
    assert kernel.clone().snapshot() == kernel.snapshot()
