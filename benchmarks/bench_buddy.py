"""The bare buddy allocator against its peer and at other sizes, and the kernel around it.

Run with `make bench` or `python -m benchmarks bench_buddy`. Everything is a ratio of two things
timed in the same run: the median of many short rounds, interleaved, because machines are shared.
The mix: orders 0 to 3 at 70/15/10/5 %, allocations and frees at random around 60 % of the zone in
use. Requests are made up beforehand, and are the same for every allocator.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from statistics import median
from time import perf_counter

from cocotbext.axi.buddy_allocator import BuddyAllocator

from kmemkit.gfp import GFP_HIGHUSER_MOVABLE
from kmemkit.mm.buddy import __free_one_page, __rmqueue_smallest
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.mm_init import memblock_free_range
from kmemkit.mm.mmzone import MIGRATE_MOVABLE, MemMap, Zone
from kmemkit.mm.vm import Vm
from kmemkit.mm.wmark_setup import calculate_normal_threshold

FULL = 0.6
ORDERS, WEIGHTS = (0, 1, 2, 3), (70, 15, 10, 5)
#: (slot, order) allocates a block into a slot, (~slot, order) frees it.
Op = tuple[int, int]
#: Plays operations on blocks held in slots.
Player = Callable[[list[Op]], None]


def bare_zone(pages: int) -> Player:
    """Return a player on a bare zone: buddy lists only, recording off."""
    zone = Zone(0, 2, "Normal", 0, pages, MemMap(pages, 9), Vm())
    memblock_free_range(zone, 0, pages)
    zone.stat_threshold = calculate_normal_threshold(zone, 1)
    held = [0] * pages
    alloc, free = __rmqueue_smallest, __free_one_page

    def play(ops: list[Op]) -> None:
        for slot, order in ops:
            if slot >= 0:
                held[slot] = alloc(zone, order, MIGRATE_MOVABLE)  # type: ignore[call-overload]
            else:
                free(zone, held[~slot], order, MIGRATE_MOVABLE)

    return play


def cocotbext(pages: int) -> Player:
    """Return a player on cocotbext-axi's buddy allocator, which knows its blocks' sizes."""
    peer = BuddyAllocator(pages)
    held = [0] * pages
    alloc, free = peer.alloc, peer.free

    def play(ops: list[Op]) -> None:
        for slot, order in ops:
            if slot >= 0:
                held[slot] = alloc(1 << order)
            else:
                free(held[~slot])

    return play


def whole_kernel(pages: int) -> Player:
    """Return a player on Kernel: zonelist, watermarks and per-CPU lists."""
    kernel = Kernel(ram=pages << 12)
    gfp = GFP_HIGHUSER_MOVABLE
    held = [0] * pages
    alloc, free = kernel.alloc_pages, kernel.free_pages

    def play(ops: list[Op]) -> None:
        for slot, order in ops:
            if slot >= 0:
                held[slot] = alloc(gfp, order)  # type: ignore[call-overload]
            else:
                free(held[~slot], order)

    return play


class Mix:
    """Random requests that fill a zone to 60 % and keep it there; the same for every player."""

    def __init__(self, pages: int, fragmented: bool, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.target = int(pages * FULL)
        self.live: list[Op] = []
        self.empty = list(range(pages - 1, -1, -1))
        self.used = 0
        self.warm_up = self._grow(int(pages * 0.9) if fragmented else self.target)
        if fragmented:
            self.warm_up += self._scatter()

    def _alloc(self) -> Op:
        op = self.empty.pop(), self.rng.choices(ORDERS, WEIGHTS)[0]
        self.live.append(op)
        self.used += 1 << op[1]
        return op

    def _free(self, index: int) -> Op:
        slot, order = self.live[index]
        self.live[index] = self.live[-1]
        self.live.pop()
        self.empty.append(slot)
        self.used -= 1 << order
        return ~slot, order

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
        """Return the next `count` operations of the mix: heads allocates, tails frees."""
        slack = self.target // 30
        ops = []
        for _ in range(count):
            low, high = self.used < self.target - slack, self.used > self.target + slack
            heads = low or (not high and self.rng.random() < 0.5)
            ops.append(self._alloc() if heads else self._free(self.rng.randrange(len(self.live))))
        return ops


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
    """Return the median ns per operation of two players over interleaved rounds of the mix."""
    pairs = [(Mix(pages, fragmented), make(pages)) for make in makers]
    for mix, play in pairs:
        play(mix.warm_up)
    costs: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        for index, (mix, play) in enumerate(pairs):
            costs[index].append(timed(play, mix.ops(counts[index])))
    return median(costs[0]) * 1e9, median(costs[1]) * 1e9


def bursts(rounds: int) -> tuple[float, float]:
    """Return the median ns per operation of Kernel and of a bare zone with bursts of single pages.

    One to eight pages are taken and given back, last one first: what per-CPU lists are there for.
    """
    rng = random.Random(1)
    players = whole_kernel(1 << 18), bare_zone(1 << 18)
    costs: tuple[list[float], list[float]] = [], []
    for turn in range(rounds):
        ops: list[Op] = []
        while len(ops) < 5_000:
            slots = range(rng.randint(1, 8))
            ops += [(slot, 0) for slot in slots]
            ops += [(~slot, 0) for slot in reversed(slots)]
        for index, play in enumerate(players):
            cost = timed(play, ops)
            if turn:  # the first round fills the lists
                costs[index].append(cost)
    return median(costs[0]) * 1e9, median(costs[1]) * 1e9


def growth(rounds: int) -> dict[int, float]:
    """Return log2(pages) -> median ns per operation of the bare zone."""
    loads = {}
    for exp in (12, 14, 16, 18, 20):
        loads[exp] = Mix(1 << exp, True), bare_zone(1 << exp)
        loads[exp][1](loads[exp][0].warm_up)
    costs: dict[int, list[float]] = {exp: [] for exp in loads}
    for _ in range(rounds):
        for exp, (mix, play) in loads.items():
            costs[exp].append(timed(play, mix.ops(5_000)) * 1e9)
    return {exp: median(seconds) for exp, seconds in costs.items()}


def _row(what: str, ours: float, peer: float, reach: str) -> None:
    """Print one comparison: ns per operation, and how many times ours goes into the peer's."""
    print(f"  {what:<30} ours {ours:6.0f}  peer {peer:8.0f}  ratio {peer / ours:7.2f}  ({reach})")


def main() -> None:
    """Print every figure."""
    pages = 1 << 18
    print("buddy: medians of interleaved rounds, ns per operation")
    ours, peer = compare(pages, (bare_zone, cocotbext), False, (5_000, 5_000), 40)
    _row("fresh zone of 2^18 pages", ours, peer, "reach 1.8")
    ours, peer = compare(pages, (bare_zone, cocotbext), True, (5_000, 200), 9)
    _row("fragmented zone of 2^18 pages", ours, peer, "reach 60")
    kernel, bare = compare(pages, (whole_kernel, bare_zone), False, (5_000, 5_000), 40)
    _row("whole kernel, peer: bare zone", kernel, bare, "reach 0.6")
    kernel, bare = bursts(40)
    _row("the same, bursts of one page", kernel, bare, "reach 1")
    costs = growth(25)
    line = ", ".join(f"2^{exp}: {cost:.0f}" for exp, cost in costs.items())
    print(f"  growth with pages: {line}  ratio {costs[20] / costs[12]:.2f}  (at most 3)")


if __name__ == "__main__":
    main()
