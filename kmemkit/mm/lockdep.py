"""lockdep: which lock was taken while which other was held (CONFIG_PROVE_LOCKING).

Two locks taken in both orders can deadlock, even if these runs did not. Memory reclaim counts as a
lock, fs_reclaim: a request that may enter a filesystem takes it, and shrinkers run inside of it.
`context_calls` and `debug` call this. Linux: kernel/locking/lockdep.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = ("FS_RECLAIM", "LOCKDEP_OFF", "lock_acquire")

FS_RECLAIM = "fs_reclaim"
#: What `Machine._warned` holds once lockdep has found something: then it is off until reboot.
LOCKDEP_OFF = "lockdep"


def lock_acquire(kernel: Machine, lock: str) -> None:
    """Note that a lock is taken now; report it if a held one was once taken inside of it."""
    if not kernel.debug_kernel or LOCKDEP_OFF in kernel._warned:
        return
    for held in kernel.context.sleeping_locks:
        if held == lock:
            continue
        kernel._warned.add(_order(held, lock))
        if _order(lock, held) in kernel._warned:
            kernel._warned.add(LOCKDEP_OFF)
            _print_circular_bug(kernel, held, lock)
            return


def _order(first: str, second: str) -> str:
    return f"lockdep: {first} -> {second}"


def _print_circular_bug(kernel: Machine, held: str, lock: str) -> None:
    """Print that two locks are taken in both orders (same name in Linux)."""
    ident = f"{kernel.comm}/{kernel.current.pid}"
    for line in (
        "",
        "======================================================",
        "WARNING: possible circular locking dependency detected",
        f"{kernel.release} #1 Not tainted",
        "------------------------------------------------------",
        f"{ident} is trying to acquire lock:",
        f"({lock}){{+.+.}}-{{0:0}}",
        "",
        "but task is already holding lock:",
        f"({held}){{+.+.}}-{{0:0}}",
        "",
        "which lock already depends on the new lock.",
        "",
        " Possible unsafe locking scenario:",
        "",
        "       CPU0                    CPU1",
        "       ----                    ----",
        f"  lock({held});",
        f"                               lock({lock});",
        f"                               lock({held});",
        f"  lock({lock});",
        "",
        " *** DEADLOCK ***",
        "",
    ):
        kernel.printk(line)
