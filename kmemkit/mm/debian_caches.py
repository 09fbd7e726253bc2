"""The caches a booted Debian has: what its drivers, file systems and protocols made, in order.

`slab_common.kmem_cache_init()` makes them after kmalloc's own, so that a new cache finds the same
ones to join as on a real machine. They are those of linux-image-6.12-amd64, up to its shell.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from kmemkit.mm.slab import (
    SLAB_ACCOUNT,
    SLAB_HWCACHE_ALIGN,
    SLAB_NO_MERGE,
    SLAB_PANIC,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_TYPESAFE_BY_RCU,
)

__all__ = ("BUCKET_SIZES", "SystemCache", "system_caches")

#: The size classes in the order their caches are made: the two odd ones first.
BUCKET_SIZES = (96, 192, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

FLAGS = {
    "A": SLAB_ACCOUNT,
    "H": SLAB_HWCACHE_ALIGN,
    "N": SLAB_NO_MERGE,
    "P": SLAB_PANIC,
    "R": SLAB_RECLAIM_ACCOUNT,
    "T": SLAB_TYPESAFE_BY_RCU,
}

#: Name, bytes of an object, alignment asked for, flags, bytes that may be copied to user space,
#: constructor. A name with a star stands for a cache of every size class (kmem_buckets_create()):
#: all but the first so many bytes may be copied, at most so many.
CACHES = """
kmalloc_buckets 112 0 N 0
vmap_area 72 0 P 0
mm_struct 1360 0 AHP 416
task_group 640 64 - 0
radix_tree_node 576 0 PR 0 radix_tree_node_ctor+0x0/0x50
maple_node 256 256 P 0
pool_workqueue 512 256 P 0
ftrace_event_field 56 0 P 0
trace_event_file 96 0 P 0
perf_event 1312 0 P 0
numa_policy 272 0 P 0
shared_policy_node 48 0 P 0
Acpi-Namespace 48 0 - 0
Acpi-State 80 0 - 0
Acpi-Parse 56 0 - 0
Acpi-ParseExt 80 0 - 0
Acpi-Operand 72 0 - 0
pid 128 0 AHP 0
anon_vma 96 0 APT 0 anon_vma_ctor+0x0/0x50
anon_vma_chain 64 0 AP 0
cred 184 0 AHP 0
task_struct 6208 64 AP 512
sighand_cache 2080 0 AHPT 0 sighand_ctor+0x0/0x30
signal_cache 1104 0 AHP 0
files_cache 704 0 AHP 0
fs_cache 56 0 AHP 0
vm_area_struct 176 0 AP 0
vma_lock 40 0 AP 0
nsproxy 72 0 AP 0
uts_namespace 432 0 AP 390
key_jar 232 0 HP 0
lsm_file_cache 48 0 P 0
lsm_inode_cache 88 0 P 0
ima_iint_cache 96 0 P 0 ima_iint_init_once+0x0/0x40
net_namespace 4736 64 AP 0
names_cache 4096 0 HP 4096
dentry 192 0 APR 40
inode_cache 624 0 APR 0 init_once+0x0/0x10
filp 184 0 AHPT 0
mnt_cache 336 0 AHP 0
kernfs_node_cache 136 0 P 0
kernfs_iattrs_cache 80 0 P 0
shmem_inode_cache 752 0 AP 0 shmem_init_inode+0x0/0x20
bdev_cache 1600 0 AHPR 0 init_once+0x0/0x20
sigqueue 80 0 AP 0
seq_file 120 0 AP 0
proc_inode_cache 696 0 APR 0 init_once+0x0/0x20
pde_opener 40 0 AP 0
proc_dir_entry 192 0 P 16
taskstats 432 0 P 0
task_delay_info 144 0 AP 0
buffer_head 104 0 PR 0
fsnotify_mark_connector 24 0 P 0
file_lock_ctx 56 0 P 0
file_lock_cache 192 0 P 0
file_lease_cache 160 0 P 0
tracefs_inode_cache 656 0 AR 0 init_once+0x0/0x50
skbuff_head_cache 232 0 HP 48
skbuff_fclone_cache 472 0 HP 0
skbuff_small_head 704 0 HP 384
skbuff_ext_cache 160 0 HP 0
sock_inode_cache 768 0 AHR 0 init_once+0x0/0x20
audit_buffer 24 0 P 0
dmaengine-unmap-2 48 0 H 0
dmaengine-unmap-16 160 0 H 0
dmaengine-unmap-128 1056 0 H 0
dmaengine-unmap-256 2080 0 H 0
iommu_iova 40 0 H 0
iommu_iova_magazine 1024 0 H 0
uid_cache 136 0 HP 0
user_namespace 616 0 AP 0
memdup_user-* - - N 0+8192
ksm_rmap_item 64 0 - 0
ksm_stable_node 64 0 - 0
ksm_mm_slot 48 0 - 0
khugepaged_mm_slot 40 0 - 0
damon_region 56 0 - 0
msg_msg-* - - AN 48+4048
bio_integrity_payload 160 0 HP 0
biovec-16 256 0 HP 0
biovec-64 1024 0 HP 0
biovec-128 2048 0 HP 0
biovec-max 4096 0 HP 0
bio-192 192 0 HT 0
blkdev_ioc 88 0 P 0
request_queue 968 0 P 0
sgpool-8 256 0 H 0
sgpool-16 512 0 H 0
sgpool-32 1024 0 H 0
sgpool-64 2048 0 H 0
sgpool-128 4096 0 H 0
dax_cache 768 0 AHR 0 init_once+0x0/0x50
inotify_inode_mark 80 0 AP 0
eventpoll_epi 120 0 AHP 0
eventpoll_pwq 64 0 AP 0
ep_head 24 0 AP 0
backing_aio 112 0 H 0
bio-248 248 0 HT 0
dquot 208 0 HPR 0
hugetlbfs_inode_cache 632 0 A 0 init_once+0x0/0x10
TCP 2368 0 AHT 0
request_sock_TCP 304 0 AT 0
tw_sock_TCP 248 0 AT 0
UDP 1152 0 AH 0
RAW 1008 0 AH 4
PING 1000 0 AH 0
rtable 176 0 HP 0
ip_fib_alias 56 0 AP 0
ip_fib_trie 48 0 AP 0
xfrm_state 792 0 HP 0
xfrm_dst 296 0 HP 0
inet_peer 160 0 HP 0
tcp_bind_bucket 72 0 AHP 0
tcp_bind2_bucket 72 0 AHP 0
request_sock_subflow_v4 376 0 AT 0
MPTCP 2016 0 AHT 0
UDP-Lite 1152 0 AH 0
mfc_cache 160 0 AHP 0
ip4-frags 200 0 - 0
UNIX 1024 0 AH 0
UNIX-STREAM 1024 0 AH 0
posix_timers_cache 256 0 AP 0
pid_namespace 144 0 AP 0
audit_tree_mark 80 0 P 0
fasync_cache 48 0 AP 0
dio 640 64 P 0
dnotify_struct 32 0 AP 0
dnotify_mark 80 0 AP 0
fanotify_mark 80 0 A 0
fanotify_fid_event 72 0 P 0
fanotify_path_event 64 0 P 0
fanotify_perm_event 96 0 P 0
userfaultfd_ctx_cache 176 0 HP 0 init_once_userfaultfd_ctx+0x0/0x80
aio_kiocb 176 0 HP 0
kioctx 576 0 HP 0
fuse_inode 864 0 AHR 0 fuse_inode_init_once+0x0/0x10
fuse_request 152 0 - 0
mqueue_inode_cache 944 0 AH 0 init_once+0x0/0x20
bio-256 256 0 HT 0
io_kiocb 248 0 AHPT 56
btree_node 128 0 H 0
gpu_buddy_block 80 0 - 0
TCPv6 2560 0 AHT 0
request_sock_TCPv6 304 0 AT 0
tw_sock_TCPv6 248 0 AT 0
UDPv6 1344 0 AH 0
UDPLITEv6 1344 0 AH 0
RAWv6 1192 0 AH 32
PINGv6 1192 0 AH 0
mfc6_cache 184 0 AH 0
ip6_dst_cache 224 0 AH 0
fib6_node 72 0 AH 0
ip6-frags 184 0 - 0
request_sock_subflow_v6 376 0 AT 0
MPTCPv6 2160 0 AHT 0
fscrypt_inode_info 120 0 R 0
fsverity_info 264 0 PR 64
"""


class SystemCache(NamedTuple):
    """The arguments of one kmem_cache_create_usercopy() at boot; the constructor by its name."""

    name: str
    size: int
    align: int
    flags: int
    useroffset: int
    usersize: int
    ctor: str


@cache
def system_caches() -> tuple[SystemCache, ...]:
    """Return the caches made after kmalloc's, oldest first."""
    return tuple(_parse())


def _parse() -> Iterator[SystemCache]:
    for line in CACHES.split("\n")[1:-1]:
        name, size, align, letters, shown, *ctor = line.split(" ")
        bits = 0 if letters == "-" else sum(FLAGS[letter] for letter in letters)
        if not name.endswith("*"):
            yield SystemCache(name, int(size), int(align), bits, 0, int(shown), "".join(ctor))
            continue
        offset, most = map(int, shown.split("+"))  # kmem_buckets_create()
        for one in BUCKET_SIZES:
            label = f"{one >> 10}k" if one >= 1024 else str(one)
            user = (offset, min(one - offset, most)) if offset < one else (0, 0)
            yield SystemCache(name[:-1] + label, one, 0, bits, *user, "")
