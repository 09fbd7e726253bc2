"""Single misuses that write or read where they must not, or ask for what cannot be given.

`misuse_single` plays them: out of bounds, after the free, wrong flags and sizes, caches, leaks.
"""

from __future__ import annotations

from collections.abc import Callable

from kmemkit.mm.memory import PAGE_SIZE
from kmemkit.mm.misuse_guest import GFP, Guest
from kmemkit.mm.misuse_pair import own_cache
from kmemkit.mm.slab import SLAB_NO_MERGE, SLAB_PANIC

__all__ = ("BYTES",)

Misuse = Callable[[Guest], object]
KMALLOC_MAX_SIZE = 4 << 20
X, D = b"X", b"D" * 8


# -- use after free, out of bounds ----------------------------------------------------------------


def uaf(offset: int, write: bool = True, size: int = 64) -> Misuse:
    def run(guest: Guest) -> None:
        at = guest.kmalloc(size)
        guest.kernel.kfree(at)
        if write:
            guest.kernel.write(at + offset, D)
        else:
            guest.kernel.read(at + offset, 8)
        guest.kernel.kmalloc(size, GFP)
        guest.kernel.kmalloc(size, GFP)
        guest.watch(at, size)

    return run


def uaf_large16k(guest: Guest) -> None:
    at = guest.kmalloc(16384)
    guest.kernel.kfree(at)
    guest.kernel.drain_all_pages()
    guest.kernel.read(at, 8)
    guest.kernel.write(at, D)
    guest.watch_pages()


def uaf_page(guest: Guest) -> None:
    at = guest.kernel.page_address(guest.take(0))
    guest.kernel.free_pages(at)
    guest.kernel.write(at, D)
    guest.watch_pages()


def uaf_vmalloc(guest: Guest) -> None:
    at = guest.kernel.vmalloc(3 * PAGE_SIZE) or 0
    guest.kernel.write(at, b"\1")
    guest.kernel.vfree(at)
    guest.kernel.read(at, 1)
    guest.watch_pages()


def oob(size: int, offset: int, *, write: bool = True, ksize: bool = False) -> Misuse:
    def run(guest: Guest) -> None:
        at = guest.kmalloc(size)
        if ksize:
            guest.kernel.ksize(at)
        if write:
            guest.kernel.write(at + offset, X)
        else:
            guest.kernel.read(at + offset, 1)
        guest.kernel.kfree(at)
        if size > 2 * PAGE_SIZE:
            guest.watch_pages()
        else:
            guest.watch(at, size)

    return run


def oob_byte_past_64(guest: Guest) -> None:
    a, b = guest.neighbours()
    guest.kernel.write(a + 64, X)
    guest.kernel.kfree(a)
    guest.kernel.kfree(b)


def oob_64_bytes_past_64(guest: Guest) -> None:
    a, b = guest.neighbours()
    guest.kernel.kfree(b)
    guest.kernel.write(a + 64, X * 64)
    for _ in range(3):
        guest.kernel.kmalloc(64, GFP)
    guest.kernel.kfree(a)


def oob_page(guest: Guest) -> None:
    pfn = guest.take(0)
    if guest.kernel.debug_kernel:  # there the page behind happened to be free
        pfn = guest.page_before_a_free_one(pfn)
    guest.kernel.write(guest.kernel.page_address(pfn + 1), X)
    guest.watch_pages()


def oob_vmalloc(size: int, offset: int) -> Misuse:
    def run(guest: Guest) -> None:
        at = guest.kernel.vmalloc(size) or 0
        guest.kernel.write(at + offset, X)
        guest.kernel.vfree(at)
        guest.watch_pages()

    return run


def past_known_size(function: str) -> Misuse:
    def run(guest: Guest) -> None:
        if function == "strcpy":
            guest.kernel.strcpy(guest.kmalloc(8), "sixteen letters!", known_size=8)
        elif function == "memset":
            guest.kernel.memset(guest.kmalloc(64), 0, 128, known_size=64)
        else:
            guest.kernel.memcpy(guest.kmalloc(64), bytes(128), 128, known_size=64)

    return run


def user_past_end(function: str, constant: bool = False) -> Misuse:
    def run(guest: Guest) -> None:
        at = guest.kmalloc(64)
        getattr(guest.kernel, function)(at, 128, constant=constant)
        guest.watch(at, 64)

    return run


# -- flags and sizes ------------------------------------------------------------------------------


def kmalloc(size: int, gfp: str = GFP) -> Misuse:
    return lambda guest: guest.kernel.kmalloc(size, gfp)


def pages(gfp: str, order: int = 0) -> Misuse:
    def run(guest: Guest) -> None:
        at = guest.kernel.get_free_pages(gfp, order)
        guest.kernel.free_pages(at, order)

    return run


def vmalloc(size: int) -> Misuse:
    return lambda guest: guest.kernel.vmalloc(size)


def gfp_highmem(guest: Guest) -> None:
    for _ in range(200):
        guest.kernel.kmalloc(64, "GFP_KERNEL | __GFP_HIGHMEM")


def kmalloc_0_write(guest: Guest) -> None:
    guest.kernel.write(guest.kernel.kmalloc(0, GFP) or 0, X)


def null_deref_failed_alloc(guest: Guest) -> None:
    at = guest.kernel.kmalloc(64 << 20, "GFP_KERNEL | __GFP_NOWARN") or 0
    guest.kernel.write(at + 8, X)


def krealloc_fail_overwrites(guest: Guest) -> None:
    at = guest.kmalloc(64)
    guest.kernel.krealloc(at, 64 << 20, GFP)
    guest.watch(at, 64)


def krealloc_same_bucket(guest: Guest) -> None:
    at = guest.kmalloc(40)
    guest.kernel.krealloc(at, 60, GFP)
    guest.watch(at, 40)


# -- caches ---------------------------------------------------------------------------------------


def create(name: str | None, size: int, align: int = 0, flags: int = 0) -> Misuse:
    return lambda guest: guest.kernel.kmem_cache_create(name, size, align, flags)


def destroy_live(then: str = "") -> Misuse:
    def run(guest: Guest) -> None:
        kernel = guest.kernel
        cache = kernel.kmem_cache_create("mu_live", 120, 0, SLAB_NO_MERGE)
        assert cache is not None
        at = kernel.kmem_cache_alloc(cache, GFP) or 0
        kernel.kmem_cache_destroy(cache)
        if then == "kfree":
            kernel.kfree(at)
        elif then == "free":
            kernel.kmem_cache_free(cache, at)
        elif then == "create":
            kernel.write(at, X)
            kernel.kmem_cache_create("mu_live", 120, 0, SLAB_NO_MERGE)

    return run


def cache_merged_other_free(guest: Guest) -> None:
    one, two = (guest.kernel.kmem_cache_create(name, 96) for name in ("mu_a", "mu_b"))
    assert one is not None and two is not None
    guest.kernel.kmem_cache_free(two, guest.kernel.kmem_cache_alloc(one, GFP))


# -- leaks and locks ------------------------------------------------------------------------------


def leak_kmalloc(guest: Guest) -> None:
    for _ in range(10):
        guest.kernel.kmalloc(1000, GFP)


def shrinker(nofs: bool) -> Misuse:
    """Return what takes a lock in reclaim, and asks for memory under that lock."""

    def run(guest: Guest) -> None:
        kernel = guest.kernel
        with kernel.fs_reclaim_acquire(), kernel.mutex_lock("slock"):
            pass
        scope = kernel.memalloc_nofs_save() if nofs else None
        with kernel.mutex_lock("slock"):
            kernel.kfree(kernel.kmalloc(64, GFP))
        if scope is not None:
            kernel.memalloc_nofs_restore(scope)

    return run


BYTES: dict[str, Misuse] = {
    "alloc_exact_0": lambda guest: guest.kernel.alloc_pages_exact(0, GFP),
    "alloc_order10_ok": pages(GFP, 10),
    "alloc_order11": pages(GFP, 11),
    "cache_alloc_null_cache": lambda guest: guest.kernel.kmem_cache_alloc(0, GFP),
    "cache_create_4m": create("mu_4m", 4 << 20),
    "cache_create_bad_align": create("mu_align", 64, 3),
    "cache_create_null_name": create(None, 64),
    "cache_create_panic_flag": create("mu_panic", 2 * KMALLOC_MAX_SIZE, 0, SLAB_PANIC),
    "cache_create_size0": create("mu_zero", 0),
    "cache_create_zero": create("mu_zero", 0),
    "cache_create_size4": create("mu_four", 4),
    "cache_create_too_big": create("mu_big", 2 * KMALLOC_MAX_SIZE),
    "cache_create_bad_flags": create("mu_flags", 64, 0, 1 << 31),
    "cache_destroy_live": destroy_live("create"),
    "cache_destroy_live_then_free": destroy_live("free"),
    "cache_destroy_null": lambda guest: guest.kernel.kmem_cache_destroy(None),
    "cache_destroy_then_kfree": destroy_live("kfree"),
    "cache_merged_other_free": cache_merged_other_free,
    "copy_from_user_past_end": user_past_end("copy_from_user"),
    "copy_from_user_past_end_constant": user_past_end("copy_from_user", constant=True),
    "copy_to_user_past_end": user_past_end("copy_to_user"),
    "copy_to_user_past_end_constant": user_past_end("copy_to_user", constant=True),
    "err_ptr_deref": lambda guest: guest.kernel.read((1 << 64) - 12, 4),
    "gfp_dma": kmalloc(64, "GFP_KERNEL | GFP_DMA"),
    "gfp_dma32": kmalloc(64, "GFP_KERNEL | GFP_DMA32"),
    "gfp_dma32_large": kmalloc(16384, "GFP_KERNEL | GFP_DMA32"),
    "gfp_get_free_pages_highmem": pages("GFP_KERNEL | __GFP_HIGHMEM"),
    "gfp_highmem": gfp_highmem,
    "gfp_highmem_large": kmalloc(16384, "GFP_KERNEL | __GFP_HIGHMEM"),
    "gfp_user_movable_dma_all": pages("GFP_KERNEL | __GFP_DMA | __GFP_DMA32"),
    "gfp_zero_flag_page": pages("GFP_KERNEL | __GFP_DMA | __GFP_HIGHMEM"),
    "kmalloc_0_write": kmalloc_0_write,
    "kmalloc_4m_plus1": kmalloc(KMALLOC_MAX_SIZE + 1),
    "kmalloc_array_overflow": lambda g: g.kernel.kmalloc_array((1 << 61) + 1, 8, GFP),
    "kmalloc_minus1": kmalloc((1 << 64) - 1),
    "kmalloc_mul_overflow32": kmalloc(268435457 * 16 % (1 << 32)),
    "kmalloc_negative_count": lambda g: g.kernel.kmalloc_array((1 << 64) - 1, 16, GFP),
    "kmalloc_too_big": kmalloc(64 << 20),
    "krealloc_fail_overwrites": krealloc_fail_overwrites,
    "krealloc_same_bucket": krealloc_same_bucket,
    "leak_cache": lambda guest: guest.kernel.kmem_cache_alloc(own_cache(guest), GFP),
    "leak_kmalloc": leak_kmalloc,
    "leak_pages": lambda guest: guest.kernel.get_free_pages(GFP, 4),
    "leak_vmalloc": vmalloc(3 * PAGE_SIZE),
    "lock_in_reclaim_direct": shrinker(nofs=False),
    "lock_in_reclaim_nofs_scope": shrinker(nofs=True),
    "lock_in_shrinker_real": shrinker(nofs=False),
    "lock_in_shrinker_real_nofs": shrinker(nofs=True),
    "memcpy_past_known_size": past_known_size("memcpy"),
    "memset_past_known_size": past_known_size("memset"),
    "strcpy_past_known_size": past_known_size("strcpy"),
    "null_deref_failed_alloc": null_deref_failed_alloc,
    "oob_64_bytes_past_64": oob_64_bytes_past_64,
    "oob_byte_past_64": oob_byte_past_64,
    "oob_large12k_slack": oob(12288, 12288, ksize=True),
    "oob_page": oob_page,
    "oob_read_past_64": oob(64, 64, write=False),
    "oob_write_past_64": oob(64, 64),
    "oob_slack_60_at_62": oob(60, 62, ksize=True),
    "oob_slack_60_at_62_no_ksize": oob(60, 62),
    "oob_vmalloc_guard": oob_vmalloc(3 * PAGE_SIZE, 3 * PAGE_SIZE),
    "oob_vmalloc_slack": oob_vmalloc(100, 104),
    "uaf_large16k": uaf_large16k,
    "uaf_page": uaf_page,
    "uaf_read_0": uaf(0, write=False),
    "uaf_read": uaf(0, write=False),
    "uaf_vmalloc": uaf_vmalloc,
    "uaf_write": uaf(0),
    "uaf_write_0": uaf(0),
    "uaf_write_32": uaf(32),
    "uaf_write_mid": uaf(32),
    "uaf_write_freeptr": uaf(32),
    "vmalloc_0": vmalloc(0),
    "vmalloc_huge": vmalloc(64 << 30),
    "vmalloc_minus1": vmalloc((1 << 64) - 1),
}
