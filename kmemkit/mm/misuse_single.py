"""Playing single misuses: wrong frees, one small function for each, on one of the recorded kernels.

The functions do what a careless driver does. `misuse_bytes` has those that write where they should
not or ask for what cannot be; `kmemkit verify` plays recorded cells through play_misuse_cell().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kmemkit.mm.memory import PAGE_SIZE
from kmemkit.mm.misuse import CellResult
from kmemkit.mm.misuse_bytes import BYTES
from kmemkit.mm.misuse_guest import GFP, Guest, Outcome
from kmemkit.mm.misuse_pair import compare, own_cache
from kmemkit.mm.physaddr import struct_page_address

__all__ = ("MISUSES", "play_misuse", "play_misuse_cell")

Misuse = Callable[[Guest], object]
#: Where init_task, a module's data and a per-CPU variable are on the recorded machines.
INIT_TASK, MODULE_DATA, PERCPU = 0xFFFFFFFF82C10940, 0xFFFFFFFFC02091A0, 0x40F50


def play_misuse(kernel: str, misuse: str) -> Outcome:
    """Do one thing wrong on a recorded kernel, and see what becomes of it.

    Raises:
        ValueError: one of them names nothing.
    """
    if misuse not in tuple(MISUSES):
        raise ValueError(f"recording: no misuse {misuse!r}; there are {', '.join(MISUSES)}")
    guest = Guest(kernel)
    own_cache(guest)
    guest.misuse(lambda: MISUSES[misuse](guest))
    returned = guest.outcome.memory_returned
    guest.afterwards(guest.watching)
    guest.outcome.memory_returned = returned
    return guest.outcome


def play_misuse_cell(record: Mapping[str, Any]) -> CellResult:
    """Play a recorded misuse, and compare who survived, the first line, the memory and the damage.

    Raises:
        ValueError: not a record of a misuse.
    """
    try:
        if record["misuse"] not in MISUSES:
            return CellResult(4, needs=str(record["misuse"]))
        return compare(record, play_misuse(record["kernel"], record["misuse"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"recording: not a misuse: {error!r}") from None


# -- slab objects ---------------------------------------------------------------------------------


def dbl_kfree(guest: Guest) -> None:
    at = guest.kmalloc(64)
    guest.kernel.kfree(at)
    guest.kernel.kfree(at)


def dbl_kfree4k(guest: Guest) -> None:
    at = guest.kmalloc(4096)
    guest.kernel.kfree(at)
    guest.kernel.kfree(at)


def dbl_kfree_between(guest: Guest, others: int) -> None:
    first, *rest = [guest.kmalloc(64) for _ in range(1 + others)]
    for at in (first, *reversed(rest), first):
        guest.kernel.kfree(at)
    for _ in range(others + 2):
        guest.kernel.kmalloc(64, GFP)
    guest.watch(first, 64)


def dbl_kfree_after_reuse(guest: Guest) -> None:
    at = guest.kmalloc(64)
    guest.kernel.kfree(at)
    guest.kernel.kmalloc(64, GFP)
    guest.kernel.kfree(at)
    guest.kernel.kmalloc(64, GFP)


def dbl_kfree_rcu(guest: Guest) -> None:
    at = guest.kmalloc(64)
    guest.kernel.kfree_rcu(at)
    guest.kernel.kfree(at)
    guest.kernel.kvfree_rcu_barrier()


def dbl_kmem_cache_free(guest: Guest) -> None:
    cache = own_cache(guest)
    at = guest.kernel.kmem_cache_alloc(cache, GFP)
    guest.kernel.kmem_cache_free(cache, at)
    guest.kernel.kmem_cache_free(cache, at)


def dbl_errpath(guest: Guest) -> None:
    one, two = guest.kmalloc(64), guest.kmalloc(64)
    for at in (two, one, one, two):  # probe() unwinds, and its caller does so too
        guest.kernel.kfree(at)


def kfree_plus8(guest: Guest) -> None:
    at = guest.kmalloc(64)
    guest.kernel.kfree(at + 8)
    for _ in range(4):
        guest.kernel.kmalloc(64, GFP)
    guest.watch(at, 64)


def kfree_neighbour(guest: Guest) -> None:
    guest.neighbours()
    guest.kernel.kfree(guest.pair[1])
    guest.kernel.kmalloc(64, GFP)


def kfree_devm(guest: Guest) -> None:
    header = guest.kmalloc(140 - 40)  # 40 bytes of struct devres go before the caller's 100
    guest.kernel.kfree(header + 40)
    for _ in range(3):
        guest.kernel.kmalloc(100, GFP)
    guest.kernel.kfree(header)  # the device goes
    guest.kernel.kmalloc(128, GFP)
    guest.kernel.kmalloc(128, GFP)


def put_page_on_kmalloc64(guest: Guest) -> None:
    at = guest.kmalloc(64)
    guest.kernel.put_page(guest.kernel.virt_to_page(at))
    guest.watch(at, 64)


def mempool_wrong_free(guest: Guest) -> None:
    reserve = [guest.kmalloc(64) for _ in range(2)]
    guest.kernel.kfree(guest.kernel.kmalloc(64, GFP))
    for at in reserve:
        guest.kernel.kfree(at)


# -- pages ----------------------------------------------------------------------------------------


def dbl_free_pages(order: int) -> Misuse:
    def run(guest: Guest) -> None:
        pfn = guest.take(order)
        guest.kernel.free_pages(pfn, order)
        guest.kernel.free_pages(pfn, order)
        for _ in range(2):
            guest.kernel.alloc_pages(GFP, order)
        guest.count(pfn, order)
        guest.watch_pages()

    return run


def comp_order3(free: Callable[[Guest, int], object]) -> Misuse:
    def run(guest: Guest) -> None:
        pfn = guest.take(3, "GFP_KERNEL | __GFP_COMP")
        free(guest, pfn)
        guest.count(pfn, 3)
        guest.watch_pages()

    return run


def free_exact_wrong_size(guest: Guest) -> None:
    at = guest.kernel.alloc_pages_exact(5 * PAGE_SIZE, GFP) or 0
    guest.kernel.free_pages_exact(at, 3 * PAGE_SIZE)
    guest.count(guest.pfn(at), pages=5)
    guest.watch_pages()


def free_larger_neighbour_live(guest: Guest) -> None:
    pfn = guest.take(1)
    guest.kernel.split_page(pfn, 1)
    guest.kernel.free_pages(pfn, 1)
    guest.count(pfn, 0)
    guest.watch_pages()


def free_each(order: int, part: int, split: bool = False) -> Misuse:
    """Return what frees a block in parts, split before or not."""

    def run(guest: Guest) -> None:
        pfn = guest.take(order)
        if split:
            guest.kernel.split_page(pfn, order)
        for page in range(pfn, pfn + (1 << order), 1 << part):
            guest.kernel.free_pages(page, part)
        guest.count(pfn, order)
        guest.watch_pages()

    return run


def free_page_without_alloc(guest: Guest) -> None:
    guest.kernel.free_pages(guest.pfn(INIT_TASK))


def free_pages_mid_order3(guest: Guest) -> None:
    pfn = guest.take(3)
    guest.kernel.free_pages(pfn + 1)
    guest.count(pfn, 3)
    guest.kernel.free_pages(pfn, 3)
    guest.watch_pages()


def free_pages_of_large_kmalloc(guest: Guest) -> None:
    for _ in range(5):
        guest.kernel.free_pages(guest.kmalloc(16384), 2)


def free_pages_plus8(guest: Guest) -> None:
    at = guest.kernel.page_address(guest.take(0))
    guest.kernel.free_pages(at + 8)
    guest.count(guest.pfn(at), 0)
    guest.watch_pages()


def free_pages_with_extra_ref(guest: Guest) -> None:
    pfn = guest.take(3)
    guest.kernel.get_page(pfn)
    guest.kernel.free_pages(pfn, 3)
    guest.count(pfn, 3)
    guest.kernel.put_page(pfn)
    guest.watch_pages()


def kfree_mid_large(size: int, offset: int) -> Misuse:
    def run(guest: Guest) -> None:
        at = guest.kmalloc(size)
        guest.kernel.kfree(at + offset)
        guest.count(guest.pfn(at), pages=size // PAGE_SIZE)
        guest.watch_pages()

    return run


def kfree_pages_one_by_one(guest: Guest) -> None:
    for pfn in [guest.take(0) for _ in range(5)]:
        guest.kernel.kfree(guest.kernel.page_address(pfn))


def ksize_of_page(guest: Guest) -> None:
    pfn = guest.take(0)
    guest.kernel.ksize(guest.kernel.page_address(pfn))
    guest.kernel.free_pages(pfn)


# -- other addresses ------------------------------------------------------------------------------


def kfree_of(*addresses: int) -> Misuse:
    def run(guest: Guest) -> None:
        for at in addresses:
            guest.kernel.kfree(at)

    return run


def kfree_struct_page(guest: Guest) -> None:
    guest.kernel.kfree(struct_page_address(guest.take(0)))


def kfree_const(text: str) -> Misuse:
    def run(guest: Guest) -> None:
        guest.kernel.kfree_const(guest.kernel.kstrdup_const(text, GFP))

    return run


def null_to_every_free(guest: Guest) -> None:
    kernel = guest.kernel
    for free in (kernel.kfree, kernel.kvfree, kernel.vfree, kernel.kfree_sensitive,
                 kernel.kfree_const, kernel.free_pages, kernel.kmem_cache_destroy,
                 kernel.vunmap):  # fmt: skip
        free(None)
    kernel.put_page(None)


def dbl_vfree(size: int, function: str) -> Misuse:
    def run(guest: Guest) -> None:
        at = guest.kernel.vmalloc(size)
        for _ in range(2):
            getattr(guest.kernel, function)(at)
        guest.watch_pages()

    return run


def vfree_plus(offset: int) -> Misuse:
    def run(guest: Guest) -> None:
        at = guest.kernel.vmalloc(3 * PAGE_SIZE) or 0
        pages = [guest.kernel.vmalloc_to_page(at + page * PAGE_SIZE) or 0 for page in range(3)]
        guest.kernel.vfree(at + offset)
        guest.count_of(pages, at)
        guest.watch_pages()

    return run


def vfree_of_vmap(guest: Guest, function: str = "vfree") -> None:
    pages = [guest.take(0), guest.take(0)]
    getattr(guest.kernel, function)(guest.kernel.vmap(pages))
    guest.count_of(pages, 0)
    for pfn in pages:
        guest.kernel.free_pages(pfn)
    guest.watch_pages()


def vunmap_of_vmalloc(guest: Guest) -> None:
    at = guest.kernel.vmalloc(3 * PAGE_SIZE) or 0
    pages = [guest.kernel.vmalloc_to_page(at + page * PAGE_SIZE) or 0 for page in range(3)]
    guest.kernel.vunmap(at)
    guest.count_of(pages, at)
    guest.watch_pages()


def virt_to_page_of_vmalloc(guest: Guest) -> None:
    guest.kernel.struct_page(guest.kernel.vmalloc(PAGE_SIZE) or 0)


WRONG_FREES: dict[str, Misuse] = {
    "comp_order3_kfree": comp_order3(lambda g, pfn: g.kernel.kfree(g.kernel.page_address(pfn))),
    "comp_order3_put_page": comp_order3(lambda g, pfn: g.kernel.put_page(pfn)),
    "comp_order3_put_page_tail": comp_order3(lambda g, pfn: g.kernel.put_page(pfn + 3)),
    "dbl_errpath": dbl_errpath,
    "dbl_free_pages0": dbl_free_pages(0),
    "dbl_free_pages3": dbl_free_pages(3),
    "dbl_kfree": dbl_kfree,
    "dbl_kfree64": dbl_kfree,
    "dbl_kfree4k": dbl_kfree4k,
    "dbl_kfree_after_reuse": dbl_kfree_after_reuse,
    "dbl_kfree_between": lambda guest: dbl_kfree_between(guest, 1),
    "dbl_kfree_one_between": lambda guest: dbl_kfree_between(guest, 1),
    "dbl_kfree_rcu": dbl_kfree_rcu,
    "dbl_kfree_two_between": lambda guest: dbl_kfree_between(guest, 2),
    "dbl_kmem_cache_free": dbl_kmem_cache_free,
    "dbl_kvfree8m": dbl_vfree(8 << 20, "kvfree"),
    "dbl_vfree": dbl_vfree(3 * PAGE_SIZE, "vfree"),
    "free_exact_wrong_size": free_exact_wrong_size,
    "free_larger_neighbour_live": free_larger_neighbour_live,
    "free_page_each_of_order3": free_each(3, 0),
    "free_page_without_alloc": free_page_without_alloc,
    "free_pages_mid_order3": free_pages_mid_order3,
    "free_pages_of_large_kmalloc": free_pages_of_large_kmalloc,
    "free_pages_plus8": free_pages_plus8,
    "free_pages_with_extra_ref": free_pages_with_extra_ref,
    "free_smaller_each_half_order1": free_each(1, 0),
    "free_smaller_each_half_order3": free_each(3, 2),
    "kfree_const_ok": lambda guest: guest.kernel.kfree_const(0xFFFFFFFF82200010),
    "kfree_const_string": kfree_of(MODULE_DATA),
    "kfree_devm": kfree_devm,
    "kfree_kernel_text_data": kfree_of(INIT_TASK),
    "kfree_mid_large16k": kfree_mid_large(16384, 8192),
    "kfree_mid_large16k_plus8": kfree_mid_large(16384, 8),
    "kfree_mid_large1m": kfree_mid_large(1 << 20, 1 << 19),
    "kfree_neighbour": kfree_neighbour,
    "kfree_pages_one_by_one": kfree_pages_one_by_one,
    "kfree_percpu": kfree_of(PERCPU),
    "kfree_plus8": kfree_plus8,
    "kfree_small_integer": kfree_of(8, 16, 17),
    "kfree_static_data": kfree_of(MODULE_DATA),
    "kfree_struct_page": kfree_struct_page,
    "kfree_uninitialised_aa": kfree_of(0xAAAAAAAAAAAAAAAA),
    "kmem_cache_free_null": lambda g: g.kernel.kmem_cache_free(own_cache(g), None),
    "ksize_of_page": ksize_of_page,
    "mempool_wrong_free": mempool_wrong_free,
    "null_to_every_free": null_to_every_free,
    "put_page_on_kmalloc64": put_page_on_kmalloc64,
    "split_then_free_each_of_order3": free_each(3, 0, split=True),
    "vfree_middle": vfree_plus(PAGE_SIZE),
    "vfree_mid": vfree_plus(PAGE_SIZE),
    "vfree_of_vmap": vfree_of_vmap,
    "vfree_plus8": vfree_plus(8),
    "virt_to_page_of_vmalloc": virt_to_page_of_vmalloc,
    "vunmap_of_vmalloc": vunmap_of_vmalloc,
}
MISUSES: dict[str, Misuse] = {**WRONG_FREES, **BYTES}
