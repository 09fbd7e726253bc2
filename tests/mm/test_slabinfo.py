"""/proc/slabinfo and /sys/kernel/slab as the simulated kernel prints them."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.slab import SLAB_NO_MERGE, SLAB_RECLAIM_ACCOUNT

HEAD = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> \
: tunables <limit> <batchcount> <sharedfactor> \
: slabdata <active_slabs> <num_slabs> <sharedavail>
"""


def a_kernel(**options):
    kernel = Kernel("64M", **options)
    return kernel, kernel.kmem_cache_create("own", 256, 0, SLAB_NO_MERGE)


def line(kernel, name="own"):
    return next(one for one in kernel.slabinfo().splitlines() if one.split()[0] == name)


def test_slabinfo_begins_with_the_newest_cache():
    kernel, _ = a_kernel()
    text = kernel.slabinfo()
    assert text.startswith(HEAD + "own                    0      0    256   16    1 : tunables")
    assert text.endswith("    0    0    0 : slabdata      0      0      0\n")
    assert len(text.splitlines()) == 2 + 178 + 1
    assert text.splitlines()[-1].startswith("kmem_cache ")


def test_a_long_name_moves_the_numbers():
    kernel = Kernel("64M")
    kernel.kmem_cache_create("a_name_of_more_than_17", 264, 0, SLAB_NO_MERGE)
    assert line(kernel, "a_name_of_more_than_17").startswith("a_name_of_more_than_17      0      0")


def test_what_a_cpu_holds_counts_as_active():
    kernel, own = a_kernel()
    objects = [kernel.kmem_cache_alloc(own, "GFP_KERNEL") for _ in range(17)]
    assert line(kernel).split()[1:3] == ["32", "32"]
    kernel.kmem_cache_free(own, objects[0])  # its slab is kept by the CPU
    assert line(kernel).split()[1:3] == ["32", "32"]
    kernel.kmem_cache_shrink(own)
    assert line(kernel).split()[1:3] == ["16", "32"]
    assert line(kernel).split()[-3:] == ["2", "2", "0"]


def test_attributes_of_a_cache_without_objects():
    kernel, _ = a_kernel()
    assert kernel.slab_sysfs("own") == {
        "slab_size": "256\n", "object_size": "256\n", "objs_per_slab": "16\n", "order": "0\n",
        "min_partial": "5\n", "cpu_partial": "52\n", "aliases": "0\n", "align": "8\n",
        "usersize": "0\n", "remote_node_defrag_ratio": "100\n", "skip_kfence": "0\n",
        "hwcache_align": "0\n", "reclaim_account": "0\n", "destroy_by_rcu": "0\n",
        "cache_dma": "0\n", "sanity_checks": "0\n", "trace": "0\n", "red_zone": "0\n",
        "poison": "0\n", "store_user": "0\n", "objects_partial": "0\n", "partial": "0\n",
        "slabs": "0\n", "total_objects": "0\n", "objects": "0\n", "cpu_slabs": "0\n",
        "slabs_cpu_partial": "0(0)\n", "ctor": "", "shrink": "", "validate": "",
    }  # fmt: skip


def state(kernel):
    names = (
        "objects", "total_objects", "objects_partial", "slabs", "partial", "cpu_slabs",
        "slabs_cpu_partial",
    )  # fmt: skip
    files = kernel.slab_sysfs("own")
    return [files[name].removesuffix("\n") for name in names]


def test_attributes_of_lists():
    kernel, own = a_kernel()
    objects = [kernel.kmem_cache_alloc(own, "GFP_KERNEL") for _ in range(40)]
    assert state(kernel) == ["48 N0=48", "48 N0=48", "0", "3 N0=3", "0", "1 N0=1", "0(0)"]
    for at in (objects[0], objects[1], objects[16]):
        kernel.kmem_cache_free(own, at)
    assert state(kernel) == [
        "48 N0=48", "48 N0=48", "0", "3 N0=3", "0", "3 N0=3", "16(2) C0=16(2)",
    ]  # fmt: skip
    kernel.kmem_cache_shrink(own)
    assert state(kernel) == [
        "37 N0=37", "48 N0=48", "37 N0=37", "3 N0=3", "3 N0=3", "0", "0(0)",
    ]  # fmt: skip


def test_attributes_say_on_which_node_and_cpu():
    kernel = Kernel("128M", nodes=2, cpus=4)
    own = kernel.kmem_cache_create("own", 1024, 0, SLAB_NO_MERGE)
    kernel.kmem_cache_alloc(own, "GFP_KERNEL")
    kernel.cpu = 3
    objects = [kernel.kmem_cache_alloc(own, "GFP_KERNEL") for _ in range(33)]
    assert state(kernel)[:4] == ["64 N0=16 N1=48", "64 N0=16 N1=48", "0", "4 N0=1 N1=3"]
    kernel.kmem_cache_free(own, objects[0])
    assert state(kernel)[-2:] == ["3 N0=1 N1=2", "8(1) C3=8(1)"]


def test_constructors_have_a_name():
    kernel = Kernel("64M")

    def init_once(at):
        """Do nothing."""

    kernel.kmem_cache_create("own", 64, 0, 0, init_once)
    assert kernel.slab_sysfs("own")["ctor"] == "init_once+0x0/0x10 [module]\n"
    assert kernel.slab_sysfs("inode_cache")["ctor"] == "init_once+0x0/0x10\n"


def test_a_cache_others_may_join_has_a_directory_of_its_flags_and_size():
    kernel = Kernel("64M")
    kernel.kmem_cache_create("mine", 104, 0, SLAB_RECLAIM_ACCOUNT)
    for name in ("mine", "buffer_head", ":a-0000104"):
        assert kernel.slab_sysfs(name)["aliases"] == "1\n"
    assert kernel.slab_sysfs_names()[":a-0000104"] == ("buffer_head", "mine")
    assert kernel.slab_sysfs_names()["task_struct"] == ()


def test_directories_without_merging():
    names = Kernel("64M", cmdline="slab_nomerge").slab_sysfs_names()
    assert len(names) == 235
    assert not any(names.values())


def test_consistency_checks_are_in_the_name():
    names = Kernel("64M", cmdline="slab_debug=F").slab_sysfs_names()
    assert names[":FA-0000064"] == ("anon_vma_chain", "fs_cache", "eventpoll_pwq")
    assert names[":aF-0000104"] == ("buffer_head",)


def test_no_such_cache():
    with pytest.raises(ValueError, match="there is no cache 'nothing'"):
        Kernel("64M").slab_sysfs("nothing")
