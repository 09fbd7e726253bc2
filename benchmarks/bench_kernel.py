"""Boot, snapshots and import time, each against a plain baseline of the same run.

Run with `make bench` or `python -m benchmarks bench_kernel`. Times are the best of several rounds.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter

from kmemkit.mm.kernel import Kernel


def best(run: Callable[[], object], rounds: int) -> float:
    """Return the best milliseconds of several runs."""
    times = []
    for _ in range(rounds):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times) * 1e3


def boot_memory(ram: str) -> float:
    """Return the peak MB of a process that boots a machine, kmemkit's import included."""
    # ru_maxrss would count what this process, from which the other one is forked, had at its peak.
    code = (
        f"from kmemkit.mm.kernel import Kernel; k = Kernel(ram={ram!r}); "
        "print(*(one for one in open('/proc/self/status') if one.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[1]) / 1024


def busy_kernel() -> Kernel:
    """Return a machine of 2^20 pages with scattered allocations and holes."""
    kernel = Kernel(ram="4G")
    rng = random.Random(1)
    live = [
        (kernel.alloc_pages("GFP_KERNEL", order), order)
        for order in rng.choices((0, 1, 2, 3), (70, 15, 10, 5), k=100_000)
    ]
    for pfn, order in rng.sample(live, 50_000):
        kernel.free_pages(pfn, order)
    return kernel


def changed_snapshot(kernel: Kernel) -> float:
    """Return the best milliseconds of a snapshot right after a few changes."""
    times = []
    for _ in range(30):
        pfns = [kernel.alloc_pages("GFP_KERNEL", 0) for _ in range(4)]
        for pfn in pfns[::2]:
            kernel.free_pages(pfn, 0)
        start = perf_counter()
        kernel.snapshot()
        times.append(perf_counter() - start)
    return min(times) * 1e3


def import_cost() -> tuple[float, float]:
    """Return (bare interpreter, with `import kmemkit`) in ms, best of interleaved rounds."""
    bests = [1e9, 1e9]
    for _ in range(15):
        for index, code in enumerate(("pass", "import kmemkit")):
            start = perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            bests[index] = min(bests[index], (perf_counter() - start) * 1e3)
    return bests[0], bests[1]


def main() -> None:
    """Print every figure."""
    print("kernel: best of several rounds")
    small = best(lambda: Kernel(ram="4G"), 9)
    print(f"  boot of 4 GiB                  {small:8.2f} ms  (below 20)")
    big = best(lambda: Kernel(ram="256G"), 3)
    print(f"  boot of 256 GiB                {big:8.2f} ms  (below 1000)")
    print(f"  memory after boot of 256 GiB   {boot_memory('256G'):8.0f} MB  (below 400)")
    fresh = Kernel(ram="4G")
    print(f"  snapshot, 2^20 pages, fresh    {changed_snapshot(fresh):8.3f} ms  (below 1)")
    busy = busy_kernel()
    print(f"  snapshot, 2^20 pages, busy     {changed_snapshot(busy):8.3f} ms  (below 1)")
    print(f"  clone, 2^20 pages, busy        {best(busy.clone, 9):8.3f} ms")
    bare, ours = import_cost()
    print(
        f"  import kmemkit over bare       {ours - bare:8.1f} ms over {bare:.1f} ms  (at most 60)"
    )


if __name__ == "__main__":
    main()
