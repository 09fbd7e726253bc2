"""Playing pairs: memory from one function, freed with another, on one of the recorded kernels.

`kmemkit verify` plays recorded pairs here, and the pairing table every one. What happens follows
from what the freeing function finds at the address; there is no table of answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kmemkit.mm.memory import PAGE_SHIFT, PAGE_SIZE
from kmemkit.mm.misuse import CellResult
from kmemkit.mm.misuse_guest import GFP, STACK_START, Guest, Outcome, normalised
from kmemkit.mm.replay import Mismatch
from kmemkit.mm.slab import SLAB_NO_MERGE
from kmemkit.mm.slab_calls import ZERO_SIZE_PTR
from kmemkit.mm.slub_layout import get_order

__all__ = ("ALLOCATORS", "FREERS", "compare", "own_cache", "play_pair", "play_pair_cell")

ENOMEM = 12
#: A variable on the caller's own stack, and what an allocation may return as an error.
STACK = STACK_START + 0x3C14
ERR_PTR = (1 << 64) - ENOMEM


@dataclass(frozen=True)
class Block:
    """Memory to be freed: where, how much, of which kind; the pages that are its own."""

    address: int
    size: int
    kind: str
    order: int
    pages: tuple[int, ...] = ()
    take: Callable[[], int | None] | None = None  #: takes another one like it


def own_cache(guest: Guest) -> int:
    """Return the private cache of the test."""
    cache = guest.caches.get("mu_own")
    if cache is None:
        cache = guest.kernel.kmem_cache_create("mu_own", 200, 0, SLAB_NO_MERGE)
        other = guest.kernel.kmem_cache_create("mu_other", 200, 0, SLAB_NO_MERGE)
        assert cache is not None and other is not None
        guest.caches.update(mu_own=cache, mu_other=other)
    return cache


def _object(size: int, function: str) -> Callable[[Guest], Block]:
    """Return a maker of memory from a function of the kmalloc family."""

    def make(guest: Guest) -> Block:
        def take() -> int | None:
            at: int | None = getattr(guest.kernel, function)(size, GFP)
            return at

        if size == 64:
            guest.let_time_pass()
        if size == PAGE_SIZE:
            take()  # somebody has one already: the next is not the first page of its slab
        at = take() or 0
        if guest.kernel.is_vmalloc_addr(at):
            return _mapped(guest, at, size)
        if size <= 2 * PAGE_SIZE:
            return Block(at, size, "slab", get_order(size), take=take)
        first, order = at - guest.kernel.page_address(0) >> PAGE_SHIFT, get_order(size)
        return Block(at, size, "large-kmalloc", order, tuple(range(first, first + (1 << order))))

    return make


def _cache(guest: Guest) -> Block:
    cache = own_cache(guest)

    def take() -> int | None:
        return guest.kernel.kmem_cache_alloc(cache, GFP)

    return Block(take() or 0, 200, "slab", 0, take=take)


def _mapped(guest: Guest, at: int, size: int) -> Block:
    pages = [guest.kernel.vmalloc_to_page(at + offset) for offset in range(0, size, PAGE_SIZE)]
    own = tuple(pfn for pfn in pages if pfn is not None)
    return Block(at, size, "vmalloc", get_order(size), own)


def _pages(order: int) -> Callable[[Guest], Block]:
    def make(guest: Guest) -> Block:
        pfn = guest.kernel.alloc_pages(GFP, order) or 0
        own = tuple(range(pfn, pfn + (1 << order)))
        return Block(guest.kernel.page_address(pfn), PAGE_SIZE << order, "pages", order, own)

    return make


def _exact(guest: Guest) -> Block:
    size = 5 * PAGE_SIZE
    at = guest.kernel.alloc_pages_exact(size, GFP) or 0
    pfn = guest.kernel.virt_to_page(at)
    return Block(at, size, "exact", get_order(size), tuple(range(pfn, pfn + 5)))


def _nothing(address: int) -> Callable[[Guest], Block]:
    return lambda guest: Block(address, 64, "none", 0)


ALLOCATORS: dict[str, Callable[[Guest], Block]] = {
    "kmalloc64": _object(64, "kmalloc"),
    "kmalloc4k": _object(4096, "kmalloc"),
    "kmalloc3p": _object(3 * PAGE_SIZE, "kmalloc"),
    "kmalloc1m": _object(1 << 20, "kmalloc"),
    "kzalloc64": _object(64, "kzalloc"),
    "cache": _cache,
    "vmalloc3p": lambda guest: _mapped(guest, guest.kernel.vmalloc(3 * PAGE_SIZE) or 0, 3 << 12),
    "kvmalloc64": _object(64, "kvmalloc"),
    "kvmalloc8m": _object(8 << 20, "kvmalloc"),
    "pages0": _pages(0),
    "pages3": _pages(3),
    "exact5": _exact,
    "NULL": _nothing(0),
    "ZERO_SIZE_PTR": _nothing(ZERO_SIZE_PTR),
    "stack": _nothing(STACK),
    "ERR_PTR": _nothing(ERR_PTR),
}


# -- freeing --------------------------------------------------------------------------------------


def _by_address(function: str) -> Callable[[Guest, Block], None]:
    return lambda guest, block: getattr(guest.kernel, function)(block.address or None)


def _free_pages(difference: int) -> Callable[[Guest, Block], None]:
    return lambda g, block: g.kernel._free_address(block.address, block.order + difference)


def _free_pages_exact(guest: Guest, block: Block) -> None:
    guest.kernel.free_pages_exact(block.address or None, block.size)


def _kmem_cache_free(which: str) -> Callable[[Guest, Block], None]:
    def free(guest: Guest, block: Block) -> None:
        own_cache(guest)
        cache = guest.caches[which]
        slab = guest.kernel.slabs.get(guest.pfn(block.address)) if block.kind == "slab" else None
        if slab is not None and which == "mu_own":
            cache = slab.cache.pointer
        guest.kernel.kmem_cache_free(cache, block.address or None)

    return free


FREERS: dict[str, Callable[[Guest, Block], None]] = {
    "kfree": _by_address("kfree"),
    "kvfree": _by_address("kvfree"),
    "vfree": _by_address("vfree"),
    "kfree_sensitive": _by_address("kfree_sensitive"),
    "kmem_cache_free_own": _kmem_cache_free("mu_own"),
    "kmem_cache_free_other": _kmem_cache_free("mu_other"),
    "free_pages_same": _free_pages(0),
    "free_pages_smaller": _free_pages(-1),
    "free_pages_larger": _free_pages(1),
    "free_pages_exact": _free_pages_exact,
}


# -- playing --------------------------------------------------------------------------------------


def play_pair(kernel: str, allocator: str, freer: str, *, steps: bool = False) -> Outcome:
    """Allocate with one function, free with another, and see what becomes of it.

    Args:
        kernel: one of KERNELS: plain, noinit, slabdbg, kfence, kasan.
        allocator: one of ALLOCATORS.
        freer: one of FREERS.
        steps: keep the machine as it was after the allocation, after the free, and afterwards.

    Raises:
        ValueError: one of them names nothing, or the block has no smaller order.
    """
    for what, name, names in (("allocator", allocator, ALLOCATORS), ("freer", freer, FREERS)):
        if name not in tuple(names):
            known = ", ".join(names)
            raise ValueError(f"recording: not a pair: no {what} {name!r}; there are {known}")
    guest = Guest(kernel, steps=steps)
    outcome = guest.outcome
    own_cache(guest)
    counted = guest.slab_pages()
    block = ALLOCATORS[allocator](guest)
    outcome.address, outcome.size, outcome.pages = block.address, block.size, block.pages
    if freer == "free_pages_smaller" and not block.order:
        raise ValueError(f"recording: {allocator} has no smaller order")
    guest.keep_step(allocator)
    guest.kernel.drain_all_pages()
    free = guest.free_pages()
    guest.misuse(lambda: FREERS[freer](guest, block))
    if block.kind in ("large-kmalloc", "pages", "exact"):
        outcome.drift = guest.slab_pages() - counted
        outcome.foreign = max(guest.free_pages() - free - len(block.pages), 0)
    kfence = guest.kernel.kfence
    outcome.guarded = kfence is not None and block.address in kfence.freed.values()
    guest.keep_step(freer)
    _look_afterwards(guest, block)
    guest.keep_step("afterwards")
    return outcome


def _look_afterwards(guest: Guest, block: Block) -> None:
    """See whether the memory came back, and let others take what is free now."""
    if block.kind == "none":
        guest.outcome.memory_returned = "n/a"
        guest.afterwards(None)
    elif block.take is not None:
        take = block.take
        guest.afterwards(lambda: guest.take_objects(block.address, block.size, take))
    else:
        if guest.outcome.survived == "task killed":  # another process has to look, and takes pages
            guest.process(lambda: _note_returned(guest, block))
        else:
            _note_returned(guest, block)
        guest.afterwards(guest.take_pages)


def _note_returned(guest: Guest, block: Block) -> None:
    guest.outcome.memory_returned = _pages_returned(guest, block)


def _pages_returned(guest: Guest, block: Block) -> str:
    free, all_pages = guest.free_in_buddy(block.pages), len(block.pages)
    if block.kind == "vmalloc" and guest.kernel.vmalloc_space.find(block.address) is not None:
        return "no; vm area still there"
    if free in (0, all_pages):
        return "yes" if free else "no"
    return f"partly: {free} of {all_pages} pages"


def play_pair_cell(record: Mapping[str, Any]) -> CellResult:
    """Play a recorded pair, and compare who survived, the first line, the memory and the damage.

    Raises:
        ValueError: not a record of a pair.
    """
    try:
        outcome = play_pair(record["kernel"], record["allocator"], record["freer"])
        return compare(record, outcome)
    except (KeyError, TypeError) as error:
        raise ValueError(f"recording: not a pair of functions: {error!r}") from None


def compare(record: Mapping[str, Any], outcome: Outcome) -> CellResult:
    """Compare a cell's outcome with what was recorded, addresses and numbers aside."""
    notes = sorted({note.split(":")[1] for note in outcome.notes})
    said = [part for part in str(record.get("note") or "").split("; ") if part.startswith("LATER")]
    pairs = {
        "survived": (record["survived"], outcome.survived),
        "first line": (
            normalised(record["report_first_line"]), normalised(outcome.report_first_line)
        ),
        "memory": (record.get("memory_returned"), outcome.memory_returned),
        "later": (sorted({part.split(":")[1] for part in said}), notes),
    }  # fmt: skip
    wrong = tuple(Mismatch(what, *two) for what, two in pairs.items() if two[0] != two[1])
    return CellResult(len(pairs), wrong)
