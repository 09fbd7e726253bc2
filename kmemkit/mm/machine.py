"""Machine: the state of a simulated kernel, and its life in time. `Kernel` adds the C API to it.

Zones, page columns, settings and the kernel log; snapshots, clones and restores. What is recorded
of its calls, and who listens, is in `recorder`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any, Self, TypeVar

from kmemkit import gfp as flags
from kmemkit.mm.context import Context
from kmemkit.mm.errors import Oops
from kmemkit.mm.fault_inject import Faults
from kmemkit.mm.freelist import AllocContext
from kmemkit.mm.kmemleak import Kmemleak
from kmemkit.mm.kswapd import NEVER, next_due
from kmemkit.mm.mmzone import MemMap, Zone
from kmemkit.mm.numa import Topology
from kmemkit.mm.ratelimit import RatelimitState
from kmemkit.mm.recorder import Recorder
from kmemkit.mm.sched import Task, task_owner
from kmemkit.mm.swap import ACTIVE_ANON, INACTIVE_ANON, UNEVICTABLE, Pglist
from kmemkit.mm.vm import Vm
from kmemkit.mm.zonelist import build_zonelists
from kmemkit.snapshot import Snapshot, Step

__all__ = ("Machine",)

T = TypeVar("T")

#: Where a warning stands in the file, as far as it is known.
WARN_LINES = {"__alloc_pages_noprof": ":4832"}
#: A page's owner is a number in one byte.
OWNERS_MAX = 256


def _has_pages(node: Pglist) -> bool:
    return any(pages for lists in node.lists for pages in lists.values())


def _check_snapshot(snapshot: object) -> None:
    if not isinstance(snapshot, Snapshot):
        raise TypeError(f"{snapshot!r} is not a snapshot; give what snapshot() returned")


class Machine(Recorder):
    """Everything a simulated kernel is and remembers, without the calls that allocate."""

    #: Simulated time that a request for pages takes, in ns.
    CALL_NS = 5_000

    def _prepare(self, release: str, nodes: int, cpus: int) -> None:
        """Set what is the same for every way to make a Kernel."""
        self.release, self.arch = release, "x86_64"
        self._connect_nodes(Topology.even(nodes, cpus))
        self.cmdline = ""
        self.vm = Vm()
        self.scaled: tuple[str, ...] = ()
        self.owner_names = [""]
        self._begin_unheard()
        self._dmesg: deque[str] = deque(maxlen=2000)
        #: lines printed so far; the log forgets the oldest ones
        self.log_lines = 0
        self._warned: set[str] = set()
        self._cpu = 0
        self.tasks = [Task(1, "init")]
        #: the task that makes the calls
        self.current = self.tasks[0]
        self.context = Context()
        #: whether it was built with CONFIG_DEBUG_ATOMIC_SLEEP and CONFIG_PROVE_LOCKING
        self.debug_kernel = False
        #: simulated time since boot, in ns
        self.now = 0
        #: when a thread that is awake gets a CPU at the latest
        self.due = NEVER
        #: when what waits for RCU readers is freed, in ns
        self.krc_due = NEVER
        #: the OOM killer ended a task on behalf of the last request that called it
        self.oom_killed = False
        #: the event counters of /proc/vmstat that have moved
        self.vm_events: Counter[str] = Counter()
        #: (node, name in /proc/vmstat) -> pages beyond those that are simulated one by one
        self.node_page_state: Counter[tuple[int, str]] = Counter()
        #: cache -> (used, total) kB of slabs that cannot be reclaimed, newest cache first
        self.unreclaimable_slabs: dict[str, tuple[int, int]] = {}
        self.total_swap_pages = self.nr_swap_pages = 0
        self.ratelimits: dict[str, RatelimitState] = {}
        #: what is made to fail; and live allocations, if they are remembered
        self.faults = Faults()
        self.leaks: Kmemleak | None = None
        #: whether either of them wants to hear of allocations
        self.watched = False

    def _adopt(self, mem_map: MemMap, zones: list[Zone]) -> None:
        """Take over columns and zones, and build what follows from them."""
        self.mem_map, self.zones = mem_map, zones
        self._zonelists = build_zonelists(zones, self.topology)
        self.nodes = [Pglist(nid, self.node_zones(nid)) for nid in range(self.nr_nodes)]
        self._contexts: dict[int | str | tuple[int | str, int], AllocContext] = {}
        #: the zone of the page freed last: the next one is likely in it too
        self._zone_hint = zones[0]
        self._owner = mem_map.owner
        self._max_order = zones[0].max_order
        self.cpu = self._cpu
        self._connect()

    def _connect_nodes(self, topology: Topology) -> None:
        """Take over which nodes there are, and which CPUs are where."""
        self.topology = topology
        self.nr_nodes, self.nr_cpus = topology.nodes, len(topology.cpu_node)

    def _connect(self) -> None:
        """Let the zones record to the current trace, or to none."""
        for zone in self.zones:
            zone.trace = self.trace

    def _attention_changed(self) -> None:
        """Note that somebody begins or ceases to look (SlabMachine)."""

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Let the zones note no reasons for a while: thousands of pages have thousands of them.

        Events that `self.trace` is asked to record directly are recorded all the same.
        """
        for zone in self.zones:
            zone.trace = None
        try:
            yield
        finally:
            self._connect()

    def __repr__(self) -> str:
        pages = sum(zone.present for zone in self.zones)
        names = ", ".join(f"{zone.nid}/{zone.name}" for zone in self.zones)
        return f"<{type(self).__name__} {self.release}: {pages:,} pages in {names}>"

    # -- time: snapshots, clones, history ---------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the whole machine as a frozen value."""
        settings = {
            "vm": self.vm.freeze(),
            "arch": self.arch,
            "nodes": self.nr_nodes,
            "cpus": self.nr_cpus,
            "topology": self.topology,
            "cpu": self._cpu,
            "current": self.current.pid,
            "context": self.context.freeze(),
            "debug_kernel": self.debug_kernel,
            "cmdline": self.cmdline,
            "compound": frozenset(self.mem_map.compound),
            "torn": dict(self.mem_map.torn),
            "dmesg": tuple(self._dmesg),
            "warned": frozenset(self._warned),
            "node_page_state": dict(self.node_page_state),
            "unreclaimable_slabs": dict(self.unreclaimable_slabs),
            "swap_pages": (self.total_swap_pages, self.nr_swap_pages),
            "ratelimits": {func: state.freeze() for func, state in self.ratelimits.items()},
        }
        settings.update(self._settings())
        return Snapshot(
            release=self.release,
            zones=tuple(zone.freeze() for zone in self.zones),
            pages=bytes(memoryview(self.mem_map.page)[: self.mem_map.pages]),
            owners=bytes(self.mem_map.owner),
            owner_names=tuple(self.owner_names),
            refcounts=dict(self.mem_map.refcount),
            scaled=self.scaled,
            settings=settings,
            nodes=tuple(node.freeze() for node in self.nodes),
            lru=bytes(self.mem_map.lru) if any(map(_has_pages, self.nodes)) else b"",
            tasks=tuple(task.freeze() for task in self.tasks),
            context=tuple(self.context.frames),
            vmstat=dict(self.vm_events),
            now=self.now,
            **self._slab_state(),
        )

    def _settings(self) -> dict[str, object]:
        """Return what the parts of Kernel add to a snapshot's settings."""
        return {}

    def _slab_state(self) -> dict[str, Any]:
        """Return the fields of a snapshot that are about slabs (SlabMachine)."""
        return {}

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
        self.arch = settings.get("arch", "x86_64")
        even = Topology.even(settings.get("nodes", 1), settings.get("cpus", 1))
        self._connect_nodes(settings.get("topology", even))
        self.vm = Vm.thaw(settings.get("vm", {}))
        self.cmdline = settings.get("cmdline", "")
        self.scaled = snapshot.scaled
        self.owner_names = list(snapshot.owner_names)
        self._dmesg = deque(settings.get("dmesg", ()), maxlen=2000)
        self._warned = set(settings.get("warned", ()))
        self._cpu = settings.get("cpu", 0)
        mem_map = MemMap(len(snapshot.pages), snapshot.zones[0].pageblock_order)
        mem_map.page[: mem_map.pages] = snapshot.pages
        mem_map.owner[:] = snapshot.owners
        mem_map.refcount = dict(snapshot.refcounts)
        mem_map.compound = set(settings.get("compound", ()))
        mem_map.torn = dict(settings.get("torn", {}))
        for zone in snapshot.zones:
            first = zone.start_pfn >> zone.pageblock_order
            mem_map.pageblock[first : first + len(zone.pageblocks)] = zone.pageblocks
        if snapshot.lru:
            mem_map.lru[:] = snapshot.lru
        self._load_tasks(snapshot)
        self._adopt(mem_map, [Zone.thaw(zone, mem_map, self.vm) for zone in snapshot.zones])
        if snapshot.nodes:
            self.nodes = [Pglist.thaw(node, self.node_zones(node.nid)) for node in snapshot.nodes]
        self._own_anon()
        self.due = next_due(self)

    def _load_tasks(self, snapshot: Snapshot) -> None:
        """Take over tasks, context, counters and time of a snapshot."""
        if snapshot.tasks:
            self.tasks = [Task.thaw(task) for task in snapshot.tasks]
            pid = snapshot.settings.get("current")
            self.current = next((t for t in self.tasks if t.pid == pid), self.tasks[0])
        self.vm_events = Counter(snapshot.vmstat)
        self.now = snapshot.now
        settings: Mapping[str, Any] = snapshot.settings
        self.context = Context.thaw(snapshot.context, settings.get("context", {}))
        self.debug_kernel = settings.get("debug_kernel", False)
        self.node_page_state = Counter(settings.get("node_page_state", {}))
        self.unreclaimable_slabs = dict(settings.get("unreclaimable_slabs", {}))
        self.total_swap_pages, self.nr_swap_pages = settings.get("swap_pages", (0, 0))
        frozen = settings.get("ratelimits", {})
        self.ratelimits = {func: RatelimitState(*state) for func, state in frozen.items()}

    def _own_anon(self) -> None:
        """Give the tasks their anonymous pages back: an owner's name is its task's."""
        tasks = {self.owner_names.index(task_owner(t)): t for t in self.tasks
                 if task_owner(t) in self.owner_names}  # fmt: skip
        owner = self.mem_map.owner
        for node in self.nodes:
            for lru in (INACTIVE_ANON, ACTIVE_ANON, UNEVICTABLE):
                for pfn in node.pages(lru):
                    if owner[pfn] in tasks:
                        tasks[owner[pfn]].anon[pfn] = None

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

    @property
    def comm(self) -> str:
        """Name of the current task, as reports print it."""
        return self.current.comm

    @comm.setter
    def comm(self, comm: str) -> None:
        task = self.current
        before, task.comm = task_owner(task), comm
        if before in self.owner_names:  # its pages are known by its name
            self.owner_names[self.owner_names.index(before)] = task_owner(task)

    def owner_number(self, owner: str) -> int:
        """Return the number under which a name stands in the owner column; it may be a new one.

        Raises:
            ValueError: there are too many names already.
        """
        names = self.owner_names
        if owner in names:
            return names.index(owner)
        if "" in names[1:]:
            names[names.index("", 1)] = owner
        elif len(names) == OWNERS_MAX:
            raise ValueError(
                f"owner={owner!r}: there are {OWNERS_MAX - 1} owners already; reuse a name"
            )
        else:
            names.append(owner)
        return names.index(owner)

    def forget_owner(self, owner: str) -> None:
        """Make room for another name: no page is this owner's any more."""
        if owner in self.owner_names:
            self.owner_names[self.owner_names.index(owner)] = ""

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
        self._cpu_changed()
        for zone in self.zones:
            zone.pcp = zone.pcps[min(cpu, len(zone.pcps) - 1)]

    def _cpu_changed(self) -> None:
        """Let the caches follow to another CPU (SlabMachine)."""

    def kfree_rcu_work(self) -> None:
        """Free what waited for RCU readers (RcuCalls)."""

    def unreclaimable_slab_info(self) -> dict[str, tuple[int, int]]:
        """Return what caches that cannot be reclaimed take, in kB: in use, in all (SlabFiles)."""
        return self.unreclaimable_slabs

    def page_zone(self, pfn: int) -> Zone:
        """Return the zone of a page (same name in Linux)."""
        for zone in self.zones:
            if zone.start_pfn <= pfn < zone.end_pfn:
                return zone
        raise Oops(f"pfn {pfn:#x} is in no zone")

    def task_of(self, pfn: int) -> Task | None:
        """Return the task that has a page mapped, or None: a file page, a kernel page."""
        for task in self.tasks:
            if pfn in task.anon:
                return task
        return None

    def node_zones(self, nid: int) -> list[Zone]:
        """Return a node's zones, lowest first."""
        return sorted((z for z in self.zones if z.nid == nid), key=lambda z: z.idx)

    @property
    def zone_names(self) -> tuple[str, ...]:
        """Names of the zones by index, populated or not."""
        return flags.ZONE_NAMES[self.arch]

    @property
    def normal_zone(self) -> int:
        """Index of ZONE_NORMAL."""
        return self.zone_names.index("Normal")

    def numa_node_id(self) -> int:
        """Return the node of the CPU that runs."""
        return self.topology.cpu_node[self._cpu]

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
        self.log_lines += 1

    def warn_on_once(self, function: str, which: str = "") -> None:
        """Print a warning the first time (WARN_ON_ONCE()); `which` of them, if there are more."""
        if function + which not in self._warned:
            self._warned.add(function + which)
            where = f"CPU: {self.cpu} PID: {self.current.pid} at mm/page_alloc.c"
            where += WARN_LINES.get(function, "")
            self.printk(f"WARNING: {where} {function}")

    def dmesg(self) -> str:
        """Return the kernel log, a line each, without time stamps."""
        return "\n".join(self._dmesg)
