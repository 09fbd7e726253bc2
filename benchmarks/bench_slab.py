"""Slabs: the caches of a booted machine, made and compared with a recorded one's.

Run with `make bench` or `python -m benchmarks bench_slab`. Times are the best of several rounds.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from kmemkit.mm.kernel import Kernel
from kmemkit.mm.recording import load_recording
from kmemkit.mm.slab_boots import play_caches, read_table

CACHES = Path(__file__).parent.parent / "tests" / "golden" / "caches.json.gz"


def recorded_boot(name: str, rounds: int) -> tuple[float, int]:
    """Return (best ms to make and verify all caches of a recorded boot, values compared)."""
    boot = load_recording(CACHES)[name]
    times, compared = [], 0
    for _ in range(rounds):
        start = perf_counter()
        rows = read_table(boot["slab_sysfs"])
        result = play_caches(
            name, rows, boot.get("slabinfo", ""), nodes=boot["nodes"], cpus=boot["cpus"],
            cmdline=boot["cmdline"],
        )  # fmt: skip
        times.append(perf_counter() - start)
        assert result.matched == result.compared
        compared = result.compared
    return min(times) * 1e3, compared


def first_kmalloc(rounds: int) -> float:
    """Return the best ms of a machine's first kmalloc(), which makes its caches."""
    times = []
    for _ in range(rounds):
        kernel = Kernel("256M")
        start = perf_counter()
        kernel.kmalloc(64, "GFP_KERNEL")
        times.append(perf_counter() - start)
    return min(times) * 1e3


def main() -> None:
    """Print every figure."""
    print("slabs: best of several rounds")
    for name in ("m256-c1", "slab-nomerge-1g-c4", "slub-debug-FZPU"):
        ms, compared = recorded_boot(name, 5)
        print(f"  caches of {name:<19} {compared:,} values  {ms:8.1f} ms  (below 1000)")
    print(f"  first kmalloc, makes all caches         {first_kmalloc(5):8.1f} ms  (below 30)")


if __name__ == "__main__":
    main()
