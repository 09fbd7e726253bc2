"""Machine: the state of a simulated kernel, and its life in time. `Kernel` adds the C API to it.

Zones, page columns, settings and the kernel log; snapshots, clones and restores; the recorded
history with its reasons. One way in: `_call()` runs every API call, records it if recording is on,
and tells whoever listens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, Self, TypeVar

from kmemkit.mm.history import History
from kmemkit.mm.mm_init import cpus_of_node
from kmemkit.mm.mmzone import MemMap, Vm, Zone
from kmemkit.mm.page_alloc import AllocContext
from kmemkit.mm.trace import Trace
from kmemkit.mm.zonelist import build_zonelists
from kmemkit.snapshot import Event, Snapshot, Step, Why

__all__ = ("Machine",)

T = TypeVar("T")


def _check_snapshot(snapshot: object) -> None:
    if not isinstance(snapshot, Snapshot):
        raise TypeError(f"{snapshot!r} is not a snapshot; give what snapshot() returned")


class Machine:
    """Everything a simulated kernel is and remembers, without the calls that allocate."""

    arch = "x86_64"
    #: Name of the current task, as reports print it.
    comm = "init"

    def _prepare(self, release: str, nodes: int, cpus: int) -> None:
        """Set what is the same for every way to make a Kernel."""
        self.release, self.nr_nodes, self.nr_cpus = release, nodes, cpus
        self.cmdline = ""
        self.vm = Vm()
        self.scaled: tuple[str, ...] = ()
        self.owner_names = [""]
        self.trace: Trace | None = None
        #: called, without arguments, after every call that may have changed the machine
        self.listeners: list[Callable[[], None]] = []
        self._history: History | None = None
        self._why: Why | None = None
        self._dmesg: deque[str] = deque(maxlen=2000)
        self._warned: set[str] = set()
        self._cpu = 0
        self._seq = 0

    def _adopt(self, mem_map: MemMap, zones: list[Zone]) -> None:
        """Take over columns and zones, and build what follows from them."""
        self.mem_map, self.zones = mem_map, zones
        cpu_nodes = frozenset(
            nid for nid in range(self.nr_nodes) if cpus_of_node(nid, self.nr_cpus, self.nr_nodes)
        )
        self._zonelists = build_zonelists(zones, cpu_nodes)
        self._contexts: dict[tuple[int | str, int], AllocContext] = {}
        self._max_order = zones[0].max_order
        self.cpu = self._cpu
        self._connect()

    def _connect(self) -> None:
        """Let the zones record to the current trace, or to none."""
        for zone in self.zones:
            zone.trace = self.trace

    def __repr__(self) -> str:
        pages = sum(zone.present for zone in self.zones)
        names = ", ".join(f"{zone.nid}/{zone.name}" for zone in self.zones)
        return f"<{type(self).__name__} {self.release}: {pages:,} pages in {names}>"

    # -- time: snapshots, clones, history ---------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the whole machine as a frozen value."""
        settings = {
            "vm": self.vm.freeze(),
            "nodes": self.nr_nodes,
            "cpus": self.nr_cpus,
            "cpu": self._cpu,
            "comm": self.comm,
            "cmdline": self.cmdline,
            "compound": frozenset(self.mem_map.compound),
            "dmesg": tuple(self._dmesg),
            "warned": frozenset(self._warned),
        }
        return Snapshot(
            release=self.release,
            zones=tuple(zone.freeze() for zone in self.zones),
            pages=bytes(memoryview(self.mem_map.page)[: self.mem_map.pages]),
            owners=bytes(self.mem_map.owner),
            owner_names=tuple(self.owner_names),
            refcounts=dict(self.mem_map.refcount),
            scaled=self.scaled,
            settings=settings,
            seq=self._seq,
        )

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot) -> Self:
        """Return an independent machine in the state of a snapshot; nothing records in it yet."""
        _check_snapshot(snapshot)
        kernel = cls.__new__(cls)
        kernel._prepare(snapshot.release, 1, 1)
        kernel._load(snapshot)
        return kernel

    def _load(self, snapshot: Snapshot) -> None:
        """Put the machine into the state of a snapshot."""
        settings: Mapping[str, Any] = snapshot.settings
        self.release = snapshot.release
        self.nr_nodes, self.nr_cpus = settings.get("nodes", 1), settings.get("cpus", 1)
        self.vm = Vm.thaw(settings.get("vm", {}))
        self.comm, self.cmdline = settings.get("comm", self.comm), settings.get("cmdline", "")
        self.scaled, self._seq = snapshot.scaled, snapshot.seq
        self.owner_names = list(snapshot.owner_names)
        self._dmesg = deque(settings.get("dmesg", ()), maxlen=2000)
        self._warned = set(settings.get("warned", ()))
        self._cpu = settings.get("cpu", 0)
        mem_map = MemMap(len(snapshot.pages), snapshot.zones[0].pageblock_order)
        mem_map.page[: mem_map.pages] = snapshot.pages
        mem_map.owner[:] = snapshot.owners
        mem_map.refcount = dict(snapshot.refcounts)
        mem_map.compound = set(settings.get("compound", ()))
        for zone in snapshot.zones:
            first = zone.start_pfn >> zone.pageblock_order
            mem_map.pageblock[first : first + len(zone.pageblocks)] = zone.pageblocks
        self._adopt(mem_map, [Zone.thaw(zone, mem_map, self.vm) for zone in snapshot.zones])

    @classmethod
    def from_recording(cls, recording: str | PathLike[str] | Mapping[str, Any]) -> Self:
        """Return a machine that starts from the free lists of a recorded trace.

        Args:
            recording: a trace file's path, or its parsed contents (docs/recordings.md).

        Raises:
            ValueError: not a trace; the message says what is missing.
        """
        from kmemkit.mm.recording import start_snapshot

        return cls.from_snapshot(start_snapshot(recording))

    def clone(self) -> Self:
        """Return an independent copy: the same moment, to change one thing in."""
        return self.from_snapshot(self.snapshot())

    def restore(self, snapshot: Snapshot) -> None:
        """Go to the state of a snapshot, of this machine or of another.

        If the snapshot stands in the history, what came after it is forgotten; otherwise the
        history goes on with a step called "restore".
        """
        _check_snapshot(snapshot)
        self._load(snapshot)
        history = self._history
        if history is not None and not history.cut_after(snapshot):
            history.append(Step("restore", "", True, (), None, snapshot))
        self._notify()

    def record(self, limit: int = 512) -> None:
        """Keep events, reasons and a snapshot after each call from here on, `limit` calls at most.

        Raises:
            TypeError: limit is no whole number. ValueError: limit below 1.
        """
        if type(limit) is not int:
            raise TypeError(f"limit={limit!r}: give a whole number of steps")
        if limit < 1:
            raise ValueError(f"limit={limit}: keep at least one step")
        self.trace = Trace()
        self._history = History(limit + 1)
        self._history.append(Step("start", "", True, (), None, self.snapshot()))
        self._connect()

    def stop_recording(self) -> None:
        """Record nothing from here on, and forget what was recorded."""
        self.trace = self._history = self._why = None
        self._connect()

    @property
    def history(self) -> tuple[Step, ...]:
        """The recorded calls, oldest first; empty unless `record()` was called."""
        return () if self._history is None else self._history.steps()

    @property
    def events(self) -> tuple[Event, ...]:
        """The recorded tracepoint events, oldest first; empty unless `record()` was called."""
        return () if self.trace is None else tuple(self.trace.events)

    def why(self) -> Why:
        """Return every decision of the last recorded request, in order.

        Raises:
            RuntimeError: nothing was recorded; the message says how to.
        """
        if self._why is None:
            raise RuntimeError(
                "nothing recorded yet: call record(), then make a request, then why()"
            )
        return self._why

    def _call(self, call: str, run: Callable[[], T], show: Callable[[T], str]) -> T:
        """Run one API call, recorded if recording is on, and tell the listeners."""
        self._seq += 1
        trace = self.trace
        if trace is None:
            try:
                return run()
            finally:
                self._notify()
        trace.begin()
        seq = trace.seq
        text, ok = "BUG", False
        try:
            result = run()
            text = show(result)
            ok = result is not None or text != "NULL"
            return result
        finally:
            self._why = Why(call, text, tuple(trace.reasons))
            if self._history is not None:
                self._history.append(
                    Step(call, text, ok, trace.since(seq), self._why, self.snapshot())
                )
            self._notify()

    def _notify(self) -> None:
        for listener in tuple(self.listeners):
            listener()

    # -- machine ----------------------------------------------------------------------------------

    @property
    def cpu(self) -> int:
        """The CPU that makes the calls; set it to run on another one."""
        return self._cpu

    @cpu.setter
    def cpu(self, cpu: int) -> None:
        if type(cpu) is not int:
            raise TypeError(f"cpu={cpu!r}: give the number of a CPU, 0 to {self.nr_cpus - 1}")
        if not 0 <= cpu < self.nr_cpus:
            raise ValueError(f"cpu={cpu}: this machine has CPUs 0 to {self.nr_cpus - 1}")
        self._cpu = cpu
        self._contexts.clear()  # the node to start from may be another one
        for zone in self.zones:
            zone.pcp = zone.pcps[min(cpu, len(zone.pcps) - 1)]

    def numa_node_id(self) -> int:
        """Return the node of the CPU that runs."""
        return self._cpu * self.nr_nodes // max(self.nr_cpus, self.nr_nodes)

    def zonelist(self, nid: int, this_node: bool) -> tuple[Zone, ...]:
        """Return the zones a request from a node tries, in order.

        Raises:
            ValueError: there is no such node.
        """
        if (nid, this_node) not in self._zonelists:
            nodes = sorted({node for node, _ in self._zonelists})
            raise ValueError(f"node {nid!r}: this machine has memory on nodes {nodes}")
        return self._zonelists[nid, this_node]

    def printk(self, line: str) -> None:
        """Add a line to the kernel log."""
        self._dmesg.append(line)

    def warn_on_once(self, function: str) -> None:
        """Print a warning the first time (WARN_ON_ONCE())."""
        if function not in self._warned:
            self._warned.add(function)
            self.printk(f"WARNING: CPU: {self.cpu} PID: 1 at mm/page_alloc.c {function}")

    def dmesg(self) -> str:
        """Return the kernel log, a line each, without time stamps."""
        return "\n".join(self._dmesg)
