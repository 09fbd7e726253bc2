"""Reclaim: one explained request, and a run of requests until somebody is killed.

Run with `make bench` or `python -m benchmarks bench_reclaim`. Times are the best of several rounds.
"""

from __future__ import annotations

from time import perf_counter

from kmemkit.mm.kernel import Kernel
from kmemkit.mm.ladder import Climb, climb


def filled() -> Kernel:
    """Return a machine of 256 MiB whose memory is nearly all page cache."""
    kernel = Kernel(ram="256M")
    kernel.fork("hog", anon="24M", oom_score_adj=500)
    kernel.read_file("220M")
    return kernel


def short() -> Kernel:
    """Return the machine at the moment when a request that cannot wait has just failed."""
    kernel = filled()
    while kernel.alloc_pages("GFP_NOWAIT") is not None:
        pass
    return kernel


def explained_request(rounds: int) -> tuple[float, int]:
    """Return (best ms of a recorded GFP_KERNEL request through direct reclaim, its reasons)."""
    moment = short().snapshot()
    times, reasons = [], 0
    for _ in range(rounds):
        kernel = Kernel.from_snapshot(moment)
        kernel.record()
        start = perf_counter()
        kernel.alloc_pages("GFP_KERNEL")
        times.append(perf_counter() - start)
        assert any(rung.name == "reclaim" for rung in kernel.why().rungs)
        reasons = len(kernel.why().reasons)
    return min(times) * 1e3, reasons


def run_to_oom(rounds: int) -> tuple[float, Climb]:
    """Return (best seconds, the run) of GFP_KERNEL requests until the OOM killer comes."""
    times = []
    for _ in range(rounds):
        kernel = filled()
        start = perf_counter()
        run = climb(kernel, "GFP_KERNEL")
        times.append(perf_counter() - start)
    return min(times), run


def main() -> None:
    """Print every figure."""
    print("reclaim: best of several rounds")
    ms, reasons = explained_request(15)
    print(f"  explained request, {reasons} reasons  {ms:8.2f} ms  (below 5)")
    seconds, run = run_to_oom(5)
    print(f"  {run.got:,} requests, {run.outcome}   {seconds:8.2f} s   (below 2)")


if __name__ == "__main__":
    main()
