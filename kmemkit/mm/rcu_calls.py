"""Freeing later, when no reader can look at an object any more: kfree_rcu() and its kin.

Pointers are collected; a worker frees them all, at the latest 5 s after the first, or when somebody
waits for it. `kswapd.tick()` calls it when its time has come. Linux: kernel/rcu/tree.c.
Simplified: there are no readers; one list for all CPUs, so a worker has one batch at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kmemkit.mm import kswapd, vmalloc
from kmemkit.mm.arguments import pointer
from kmemkit.mm.errors import KernelBug, Livelock, Oops
from kmemkit.mm.kswapd import NEVER
from kmemkit.mm.physaddr import address_text
from kmemkit.mm.sched import Task
from kmemkit.mm.vmalloc_calls import VmallocCalls
from kmemkit.snapshot import Snapshot

__all__ = ("RcuCalls",)

#: How long pointers are collected, and how long it takes until every reader is gone, in ns.
KFREE_DRAIN_NS = 5_000_000_000
GRACE_PERIOD_NS = 10_000_000


class RcuCalls(VmallocCalls):
    """The part of a machine that frees later."""

    # -- state ------------------------------------------------------------------------------------

    def _prepare(self, release: str, nodes: int, cpus: int) -> None:
        super()._prepare(release, nodes, cpus)
        #: what kfree_rcu() was called on, oldest first
        self.krc: list[int] = []

    def _settings(self) -> dict[str, object]:
        settings = super()._settings()
        if self.krc:
            settings |= {"krc": tuple(self.krc), "krc_due": self.krc_due}
        return settings

    def _load(self, snapshot: Snapshot) -> None:
        settings: Mapping[str, Any] = snapshot.settings
        self.krc = list(settings.get("krc", ()))
        self.krc_due = settings.get("krc_due", NEVER)
        super()._load(snapshot)

    # -- calls ------------------------------------------------------------------------------------

    def kfree_rcu(self, address: int | None) -> None:
        """Free kmalloc() or kmem_cache_alloc() memory when all readers are gone; NULL is fine.

        Nothing happens to it at once. In C the second argument names the struct rcu_head in the
        object, which is of use only when there is no memory for the list of pointers.
        """
        self.kvfree_rcu(address)

    def kvfree_rcu(self, address: int | None) -> None:
        """Free kvmalloc() memory of any kind when all readers are gone (same name in Linux)."""
        at = pointer(address)

        def run() -> None:
            if at:
                if not self.krc:
                    self.krc_due = self.now + KFREE_DRAIN_NS
                    self.due = min(self.due, self.krc_due)
                self.krc.append(at)

        self._call(f"kvfree_rcu({address_text(address)})", run)

    def kvfree_rcu_barrier(self) -> None:
        """Wait until everything that kvfree_rcu() took so far is freed (same name in Linux).

        Raises:
            Livelock: the worker died of what it was to free; nobody will end the wait.
        """
        self._call("kvfree_rcu_barrier()", self._kvfree_rcu_barrier)

    def rcu_barrier(self) -> None:
        """Wait for the functions given to call_rcu(), of which nothing is simulated.

        What kfree_rcu() took is not among them: that is what kvfree_rcu_barrier() waits for.
        """

        def run() -> None:
            self.now += GRACE_PERIOD_NS
            if self.now >= self.due:
                kswapd.tick(self)

        self._call("rcu_barrier()", run)

    def kmem_cache_destroy(self, cache: int | None) -> None:
        """Drop a cache; objects still in use are reported, and the cache leaks. NULL is fine.

        What kfree_rcu() took is waited for first: it may be this cache's.
        """
        if cache is not None and self.krc:
            self.kvfree_rcu_barrier()
        super().kmem_cache_destroy(cache)

    # -- the worker -------------------------------------------------------------------------------

    def kfree_rcu_work(self) -> None:
        """Let the worker free its batch; what it dies of, it dies of alone."""
        try:
            self._free_batch()
        except (KernelBug, Oops):
            self.taint("D")

    def _kvfree_rcu_barrier(self) -> None:
        self.now += GRACE_PERIOD_NS
        try:
            self._free_batch()
        except (KernelBug, Oops) as end:
            self.taint("D")
            raise Livelock(
                f"{end}\nthe worker that was to free the batch died, and the caller waits for ever"
            ) from end

    def _free_batch(self) -> None:
        """Free a batch: vmalloc memory one by one, objects last to first (kvfree_rcu_bulk())."""
        batch, self.krc, self.krc_due = self.krc, [], NEVER
        before = self.current, self.caller
        self.current, self.caller = Task(29, "kworker/u4:1", kernel_thread=True), "kvfree_rcu_bulk"
        try:
            for at in reversed([at for at in batch if not self.is_vmalloc_addr(at)]):
                self._kfree(at)
            for at in batch:
                if self.is_vmalloc_addr(at):
                    vmalloc.vfree(self, at)
        finally:
            self.current, self.caller = before
