"""Objects taken and given back: the per-CPU fast path against what it is measured by.

Run with `make bench` or `python -m benchmarks bench_objects`. Every figure is a ratio of the
medians of many short rounds, interleaved. Recording and debugging are off.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median

from benchmarks.bench_buddy import Mix, bare_zone, timed
from kmemkit.mm.kernel import Kernel

PAIRS = 4_000
GFP = 0xCC0
#: Plays PAIRS pairs.
Pairs = Callable[[], None]


def list_loop() -> Pairs:
    """Return the least a list can do: pop and append in a bare loop."""
    objects = list(range(500))
    pop, append = objects.pop, objects.append

    def play() -> None:
        for _ in range(PAIRS):
            append(pop())

    return play


class Pool:
    """The least a pool with two methods can do."""

    def __init__(self) -> None:
        self.objects = list(range(500))

    def alloc(self) -> int:
        """Take an object."""
        return self.objects.pop()

    def free(self, at: int) -> None:
        """Give an object back."""
        self.objects.append(at)


def pool() -> Pairs:
    """Return pairs on the least of all pools."""
    one = Pool()
    alloc, free = one.alloc, one.free

    def play() -> None:
        for _ in range(PAIRS):
            free(alloc())

    return play


def cache_pairs() -> Pairs:
    """Return pairs of kmem_cache_alloc() and kmem_cache_free()."""
    kernel = Kernel("256M")
    cache = kernel.kmem_cache_create("bench", 256)
    assert cache is not None
    alloc, free = kernel.kmem_cache_alloc, kernel.kmem_cache_free

    def play() -> None:
        for _ in range(PAIRS):
            free(cache, alloc(cache, GFP))

    return play


def kmalloc_pairs() -> Pairs:
    """Return pairs of kmalloc() and kfree() of random sizes from 1 to 8192 bytes."""
    kernel = Kernel("256M")
    rng = random.Random(1)
    sizes = [rng.randint(1, 8192) for _ in range(PAIRS)]
    alloc, free = kernel.kmalloc, kernel.kfree

    def play() -> None:
        for size in sizes:
            free(alloc(size, GFP))

    return play


def measure(rounds: int) -> dict[str, float]:
    """Return the median ns of a pair of each kind, and of one operation of the bare buddy."""
    kinds = {
        "list": list_loop(), "pool": pool(), "cache": cache_pairs(), "kmalloc": kmalloc_pairs()
    }  # fmt: skip
    mix, buddy = Mix(1 << 18, False), bare_zone(1 << 18)
    buddy(mix.warm_up)
    costs: dict[str, list[float]] = {name: [] for name in (*kinds, "buddy")}
    for turn in range(rounds):
        for name, play in kinds.items():
            cost = timed(lambda _, play=play: play(), [(0, 0)] * PAIRS)  # type: ignore[misc]
            if turn:  # the first round makes the slabs
                costs[name].append(cost)
        costs["buddy"].append(timed(buddy, mix.ops(PAIRS)))
    return {name: median(seconds) * 1e9 for name, seconds in costs.items()}


def main() -> None:
    """Print every figure."""
    ns = measure(60)
    print("objects: medians of interleaved rounds")
    print(f"  kmem_cache_alloc + free            {ns['cache']:7.0f} ns a pair")
    print(f"  pairs for each bare buddy operation {ns['buddy'] / ns['cache']:6.2f}  (1.5 and more)")
    print(f"  against a bare list pop/append loop {ns['cache'] / ns['list']:6.2f}  (3 at most)")
    print(f"  against a pool with two methods     {ns['cache'] / ns['pool']:6.2f}")
    print(f"  kmalloc + kfree, that many of those {ns['cache'] / ns['kmalloc']:6.2f}  (from 0.4)")


if __name__ == "__main__":
    main()
