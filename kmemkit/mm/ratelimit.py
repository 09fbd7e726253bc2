"""Rate limits of reports: so many in so long, then only a count of those left out.

`show_mem.warn_alloc()` and `oom_report.report_kill()` ask here before they print. Linux:
lib/ratelimit.c. Time is `kernel.now`, counted in ticks of the timer as Linux counts it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = ("HZ", "NS_PER_TICK", "RatelimitState", "ratelimit")

#: Timer ticks in a second (CONFIG_HZ on Debian).
HZ = 250
NS_PER_TICK = 1_000_000_000 // HZ


@dataclass(slots=True)
class RatelimitState:
    """What one limiter remembers (struct ratelimit_state)."""

    begin: int  #: tick at which the current interval began
    printed: int = 0
    missed: int = 0

    def freeze(self) -> tuple[int, int, int]:
        """Return what makes the same state again, as arguments."""
        return self.begin, self.printed, self.missed


def ratelimit(kernel: Machine, func: str, interval: int, burst: int) -> bool:
    """Return whether `func` may print now: `burst` times in `interval` seconds (___ratelimit()).

    The first call after an interval's end begins the next one, and tells how many were left out in
    the one before.
    """
    tick = kernel.now // NS_PER_TICK
    state = kernel.ratelimits.setdefault(func, RatelimitState(tick))
    if tick > state.begin + interval * HZ:
        if state.missed:
            kernel.printk(f"{func}: {state.missed} callbacks suppressed")
        state.begin, state.printed, state.missed = tick, 0, 0
    if state.printed < burst:
        state.printed += 1
        return True
    state.missed += 1
    return False
