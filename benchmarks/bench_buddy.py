"""The bare buddy allocator against its peer, against itself at other sizes, and the kernel around
it.

Run with `make bench` or `python benchmarks/bench_buddy.py`. Everything is a ratio of two things
timed in the same run, best of several rounds, interleaved, because the machine is shared. The mix:
orders 0 to 3 at 70/15/10/5 %, allocations and frees at random around 60 % of the zone in use.
Requests are made up beforehand, and are the same for every allocator.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from time import perf_counter

from cocotbext.axi.buddy_allocator import BuddyAllocator

from kmemkit.gfp import GFP_HIGHUSER_MOVABLE
from kmemkit.mm.buddy import __free_one_page, __rmqueue_smallest
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.mm_init import memblock_free_range
from kmemkit.mm.mmzone import MIGRATE_MOVABLE, MemMap, Vm, Zone

FULL = 0.6
ORDERS, WEIGHTS = (0, 1, 2, 3), (70, 15, 10, 5)
#: (order, slot) allocates into a slot, (-1, slot) frees it.
Op = tuple[int, int]
#: Plays operations on blocks held in slots.
Player = Callable[[list[Op]], None]


def bare_zone(pages: int) -> Player:
    """Return a player on a bare zone: buddy lists only, recording off."""
    zone = Zone(0, 2, "Normal", 0, pages, MemMap(pages, 9), Vm())
    memblock_free_range(zone, 0, pages)
    held = [(0, 0)] * pages
    alloc, free = __rmqueue_smallest, __free_one_page

    def play(ops: list[Op]) -> None:
        for order, slot in ops:
            if order >= 0:
                held[slot] = alloc(zone, order, MIGRATE_MOVABLE), order  # type: ignore[assignment]
            else:
                pfn, order = held[slot]
                free(zone, pfn, order, MIGRATE_MOVABLE)

    return play


def cocotbext(pages: int) -> Player:
    """Return a player on cocotbext-axi's buddy allocator, which knows its blocks' sizes."""
    peer = BuddyAllocator(pages)
    held = [(0, 0)] * pages
    alloc, free = peer.alloc, peer.free

    def play(ops: list[Op]) -> None:
        for order, slot in ops:
            if order >= 0:
                held[slot] = alloc(1 << order), order
            else:
                pfn, order = held[slot]
                free(pfn)

    return play


def whole_kernel(pages: int) -> Player:
    """Return a player on Kernel: zonelist, watermarks and per-CPU lists."""
    kernel = Kernel(ram=pages << 12)
    gfp = GFP_HIGHUSER_MOVABLE
    held = [(0, 0)] * pages
    alloc, free = kernel.alloc_pages, kernel.free_pages

    def play(ops: list[Op]) -> None:
        for order, slot in ops:
            if order >= 0:
                held[slot] = alloc(gfp, order), order  # type: ignore[assignment]
            else:
                pfn, order = held[slot]
                free(pfn, order)

    return play


class Mix:
    """Random requests that fill a zone to 60 % and keep it there; the same for every player."""

    def __init__(self, pages: int, fragmented: bool, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.target = int(pages * FULL)
        self.live: list[Op] = []  # (order, slot)
        self.empty = list(range(pages - 1, -1, -1))
        self.used = 0
        self.warm_up = self._grow(int(pages * 0.9) if fragmented else self.target)
        if fragmented:
            self.warm_up += self._scatter()

    def _alloc(self) -> Op:
        op = self.rng.choices(ORDERS, WEIGHTS)[0], self.empty.pop()
        self.live.append(op)
        self.used += 1 << op[0]
        return op

    def _free(self, index: int) -> Op:
        order, slot = self.live[index]
        self.live[index] = self.live[-1]
        self.live.pop()
        self.empty.append(slot)
        self.used -= 1 << order
        return -1, slot

    def _grow(self, pages: int) -> list[Op]:
        ops = []
        while self.used < pages - 8:
            ops.append(self._alloc())
        return ops

    def _scatter(self) -> list[Op]:
        """Free at random down to 60 %: many small holes."""
        ops = []
        while self.used > self.target:
            ops.append(self._free(self.rng.randrange(len(self.live))))
        return ops

    def ops(self, count: int) -> list[Op]:
        """Return the next `count` operations of the mix."""
        return [
            self._alloc()
            if self.used < self.target
            else self._free(self.rng.randrange(len(self.live)))
            for _ in range(count)
        ]


def timed(play: Player, ops: list[Op]) -> float:
    """Return seconds per operation."""
    gc.collect()
    gc.disable()
    start = perf_counter()
    play(ops)
    seconds = perf_counter() - start
    gc.enable()
    return seconds / len(ops)


def compare(
    pages: int,
    makers: tuple[Callable[[int], Player], Callable[[int], Player]],
    fragmented: bool,
    counts: tuple[int, int],
    rounds: int,
) -> tuple[float, float]:
    """Return the best ns per operation of two players; rounds are interleaved."""
    pairs = [(Mix(pages, fragmented), make(pages)) for make in makers]
    for mix, play in pairs:
        play(mix.warm_up)
    best = [1e9, 1e9]
    for _ in range(rounds):
        for index, (mix, play) in enumerate(pairs):
            best[index] = min(best[index], timed(play, mix.ops(counts[index])))
    return best[0] * 1e9, best[1] * 1e9


def growth(rounds: int) -> dict[int, float]:
    """Return log2(pages) -> best ns per operation of the bare zone."""
    loads = {}
    for exp in (12, 14, 16, 18, 20):
        loads[exp] = Mix(1 << exp, True), bare_zone(1 << exp)
        loads[exp][1](loads[exp][0].warm_up)
    costs = dict.fromkeys(loads, 1e9)
    for _ in range(rounds):
        for exp, (mix, play) in loads.items():
            costs[exp] = min(costs[exp], timed(play, mix.ops(20_000)) * 1e9)
    return costs


def _row(what: str, ours: float, peer: float, reach: str) -> None:
    """Print one comparison: ns per operation, and how many times ours goes into the peer's."""
    print(f"  {what:<30} ours {ours:6.0f}  peer {peer:8.0f}  ratio {peer / ours:7.2f}  ({reach})")


def main() -> None:
    """Print every figure."""
    pages = 1 << 18
    print("buddy: best of several interleaved rounds, ns per operation")
    ours, peer = compare(pages, (bare_zone, cocotbext), False, (20_000, 20_000), 9)
    _row("fresh zone of 2^18 pages", ours, peer, "reach 1.8")
    ours, peer = compare(pages, (bare_zone, cocotbext), True, (20_000, 200), 3)
    _row("fragmented zone of 2^18 pages", ours, peer, "reach 60")
    kernel, bare = compare(pages, (whole_kernel, bare_zone), False, (20_000, 20_000), 9)
    _row("whole kernel, peer: bare zone", kernel, bare, "the next figure to reach")
    costs = growth(9)
    line = ", ".join(f"2^{exp}: {cost:.0f}" for exp, cost in costs.items())
    print(f"  growth with pages: {line}  ratio {costs[20] / costs[12]:.2f}  (at most 3)")


if __name__ == "__main__":
    main()
