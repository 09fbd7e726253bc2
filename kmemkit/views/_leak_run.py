"""Runs a driver's probe() on a clone of a kernel, with the Nth allocation failing.

Each statement becomes a `Shot`: what it did, and who holds what after it. Nothing of that is
assumed: pointers are read from the simulated memory, an object is there if the kernel's kmemleak
or its page says so, and what a wrong free does is the kernel's. For `leak_gym` and lesson 11.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kmemkit.snapshot import Kind
from kmemkit.strings import text
from kmemkit.views._leak_driver import Driver, Resource
from kmemkit.views._leak_program import Program, Statement

__all__ = ("Finding", "Run", "Shot", "Thing", "play", "play_all", "play_starved")

_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Thing:
    """A resource at one moment.

    Attributes:
        path: the pointer it was acquired into.
        state: none (not asked for yet), failed (NULL), held, leaked (nobody holds it), freed.
        size: bytes that are still taken.
        slot: what the pointer is: null, points, dangling, or gone with what it stood in.
    """

    path: str
    state: str
    size: int
    slot: str


@dataclass(frozen=True, slots=True)
class Shot:
    """One statement that ran, and everything after it; `sign` says how it went."""

    line: int
    told: str
    sign: str
    things: tuple[Thing, ...]
    log: tuple[str, ...]
    holder: str  #: who holds the structure: dev, drvdata, or "" for nobody


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong but for leaks: its kind, the statement, the pointer."""

    kind: str
    index: int
    path: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run of probe().

    Attributes:
        n: the allocation that failed, counted from 1; past the last one, where none failed.
        failed: the pointer whose acquisition it was part of, "" if none failed.
        shots: every statement that ran.
        jumped: index of the statement that the first jump went to, -1 without one.
        returned: what probe() returned, "" if it never did.
        ended: first line of the oops or BUG that killed the task, or "".
        findings: what was wrong besides leaks.
        reports: what kmemleak finds afterwards, one line an object.
        injected: whether an allocation failed.
    """

    n: int
    failed: str
    shots: tuple[Shot, ...]
    jumped: int
    returned: str
    ended: str
    findings: tuple[Finding, ...]
    reports: tuple[str, ...]
    injected: bool

    @property
    def leaks(self) -> tuple[Thing, ...]:
        """What stays taken, and nobody holds."""
        return tuple(one for one in self.shots[-1].things if one.state == "leaked")

    @property
    def acquired(self) -> tuple[str, ...]:
        """The pointers of everything that was acquired."""
        things = self.shots[-1].things
        return tuple(one.path for one in things if one.state not in ("none", "failed"))

    @property
    def leaked_bytes(self) -> int:
        """The size of all leaks."""
        return sum(one.size for one in self.leaks)

    @property
    def clean(self) -> bool:
        """Whether nothing leaks and nothing else is wrong."""
        lost = self.returned == "0" and any(one.state == "freed" for one in self.shots[-1].things)
        return not (self.leaks or self.findings or self.ended or lost)

    @property
    def log(self) -> list[str]:
        """What the kernel said, but for the failure that was asked for."""
        return [line for shot in self.shots for line in shot.log]


def play_all(kernel: Any, driver: Driver, program: Program) -> list[Run]:
    """Run probe() with the first, the second ... allocation failing, and last with none."""
    runs: list[Run] = []
    while not runs or runs[-1].injected:
        runs.append(play(kernel, driver, program, len(runs) + 1))
    return runs


def play(kernel: Any, driver: Driver, program: Program, n: int) -> Run:
    """Run probe() once, with the nth allocation failing."""
    return _Machine(kernel, driver, program, n).run()


def play_starved(kernel: Any, driver: Driver, program: Program, run: Run) -> Run | None:
    """Run probe() with that acquisition failing in all it tries; None if `run` had it fail.

    kvzalloc() survives one failed allocation: vmalloc() steps in, and nobody takes the error path.
    """
    if run.failed not in run.acquired:
        return None
    return _Machine(kernel, driver, program, run.n, run.failed).run()


class _Machine:
    """A clone of the kernel, and the function that runs on it; `starved` gets no memory at all."""

    def __init__(
        self, kernel: Any, driver: Driver, program: Program, n: int, starved: str = ""
    ) -> None:
        self.driver, self.program, self.n = driver, program, n
        self.starved = starved
        self.kernel = kernel.clone()
        self.cache = self.kernel.kmem_cache_create(f"{driver.name}_cmd", driver.object_size)
        self.kernel.kmemleak = True
        self.variable = 0  # the local variable dev
        self.in_scope, self.kept = True, False
        self.addresses: dict[str, int] = {}
        self.tried: set[str] = set()
        self.failed, self.jumped, self.returned, self.ended = "", -1, "", ""
        self.shots: list[Shot] = []
        self.findings: list[Finding] = []
        self.seen = len(self._dmesg())
        self.at = 0

    def run(self) -> Run:
        """Run from the first statement until probe() returns or the task is killed."""
        self.kernel.fail_nth(0 if self.starved else self.n)
        while self.at < len(self.program.statements) and self.in_scope:
            self._step(self.program.statements[self.at])
        injected = self.kernel.fail_nth() == 0
        self.kernel.fail_nth(0)
        holds = [self.addresses["dev"]] if self.shots[-1].holder == "drvdata" else []
        report = self.kernel.kmemleak_scan(holds)
        reports = tuple(line for line in report.splitlines() if line.startswith("unref"))
        return Run(
            self.n, self.failed, tuple(self.shots), self.jumped, self.returned, self.ended,
            tuple(self.findings), reports, injected,
        )  # fmt: skip

    def _step(self, s: Statement) -> None:
        index, self.at = self.at, self.at + 1
        found = len(self.findings)
        try:
            told, sign = getattr(self, f"_{s.op}")(s, index)
        except RuntimeError as error:
            self.ended = str(error).splitlines()[0]
            told, sign = text("leak_gym.told.oops", line=self.ended), "oops"
            self.in_scope = False
        log = self._new_log()
        if log and s.op == "release" and len(self.findings) == found:
            self.findings.append(Finding("report", index, s.path))
        if sign == "ok" and len(self.findings) > found:
            sign = "bad"
        holder = "dev" if self.in_scope else "drvdata" if self.kept and self.returned == "0" else ""
        things = tuple(self._things(holder))
        self.shots.append(Shot(s.line, told, sign, things, log, holder))

    # -- statements: each returns what to tell, and how it went -----------------------------------

    def _acquire(self, s: Statement, index: int) -> tuple[str, str]:
        one = self.driver.resource(s.path)
        armed = self.kernel.fail_nth()
        self._fail_all(s.path == self.starved)
        address = self._allocate(one)
        self._fail_all(False)
        if s.path == self.starved or (armed and not self.kernel.fail_nth()):
            self.failed = s.path
        self._new_log()  # the injected failure's own lines
        self.tried.add(s.path)
        self._store(s.path, address or 0, index)
        if address is None:
            return text("leak_gym.told.null", path=s.path, allocator=one.allocator), "null"
        self.addresses[s.path] = address
        fallback = "acquired_anyway" if self.failed == s.path else "acquired"
        size, at = f"{one.size:,}", f"{address:#x}"
        return text(f"leak_gym.told.{fallback}", path=s.path, size=size, address=at), "ok"

    def _fail_all(self, on: bool) -> None:
        """Let every allocation fail, of objects and of pages, or none but the nth."""
        if self.starved:
            faults = {"probability": 100 if on else 0, "times": -1, "ignore_gfp_wait": False}
            self.kernel.failslab(**faults)
            self.kernel.fail_page_alloc(**faults, min_order=0)

    def _allocate(self, one: Resource) -> int | None:
        kernel, gfp = self.kernel, "GFP_KERNEL"
        calls = {
            "kzalloc": lambda: kernel.kzalloc(one.size, gfp),
            "kcalloc": lambda: kernel.kcalloc(one.size // 16, 16, gfp),
            "kmem_cache_alloc": lambda: kernel.kmem_cache_alloc(self.cache, gfp),
            "vmalloc": lambda: kernel.vmalloc(one.size),
            "kvzalloc": lambda: kernel.kvzalloc(one.size, gfp),
            "__get_free_pages": lambda: kernel.get_free_pages(gfp, one.order, owner=one.path),
        }
        address: int | None = calls[one.allocator]()
        return address

    def _clear(self, s: Statement, index: int) -> tuple[str, str]:
        self._store(s.path, 0, index)
        return text("leak_gym.told.cleared", path=s.path), "ok"

    def _test(self, s: Statement, index: int) -> tuple[str, str]:
        null = not self._load(s.path, index)
        if null != s.negated:
            self.at = s.to
        return text(
            "leak_gym.told.is_null" if null else "leak_gym.told.not_null", path=s.path
        ), "ok"

    def _goto(self, s: Statement, index: int) -> tuple[str, str]:
        self.at = s.to
        if self.jumped < 0:
            self.jumped = s.to
        return text("leak_gym.told.jump", label=s.path), "ok"

    def _keep(self, s: Statement, index: int) -> tuple[str, str]:
        self.kept = True
        return text("leak_gym.told.kept"), "ok"

    def _return(self, s: Statement, index: int) -> tuple[str, str]:
        self.in_scope = False
        self.returned = "0" if s.path == "0" else "-ENOMEM"
        key = "returned_fine" if self.returned == "0" else "returned"
        return text(f"leak_gym.told.{key}", value=self.returned), "return"

    def _release(self, s: Statement, index: int) -> tuple[str, str]:
        pointer = self._load(s.path, index)
        one = self.driver.resource(s.path)
        call = self.program.lines[s.line].strip().rstrip(";")
        if not pointer:
            if s.call == "kmem_cache_free":
                self.findings.append(Finding("cache_null", index, s.path))
            self._free(s, None)
            return text("leak_gym.told.free_null", path=s.path, call=s.call), "ok"
        before = self._taken(one)
        kind = ""
        if not before:
            kind = "twice"
        elif s.call not in one.frees:
            kind = "wrong_function"
        elif s.call == "free_pages" and s.order != one.order:
            kind = "wrong_order"
        if kind:
            self.findings.append(Finding(kind, index, s.path))
        self._free(s, pointer)
        fields = {"path": s.path, "size": f"{before - self._taken(one):,}", "call": call}
        key = kind or ("freed" if before > self._taken(one) else "not_freed")
        return text(f"leak_gym.told.{key}", **fields), "bad" if kind else "ok"

    def _free(self, s: Statement, pointer: int | None) -> None:
        kernel = self.kernel
        if s.call == "kmem_cache_free":
            kernel.kmem_cache_free(self.cache, pointer)
        elif s.call == "free_pages":
            kernel.free_pages(pointer, s.order)
        else:
            getattr(kernel, s.call)(pointer)

    # -- pointers ---------------------------------------------------------------------------------

    def _place(self, path: str, index: int) -> int:
        """Return where a pointer stands in memory, going through the pointers before it."""
        one = self.driver.resource(path)
        base = self._load(one.parent, index)
        if not base:
            self.findings.append(Finding("null", index, path))
        elif not self._taken(self.driver.resource(one.parent)):
            self.findings.append(Finding("after_free", index, path))
        return base + one.offset

    def _load(self, path: str, index: int) -> int:
        if "->" not in path:
            return self.variable
        return int.from_bytes(self.kernel.read(self._place(path, index), 8), "little")

    def _store(self, path: str, value: int, index: int) -> None:
        if "->" not in path:
            self.variable = value
        else:
            self.kernel.write(self._place(path, index), value.to_bytes(8, "little"))

    # -- what is there ----------------------------------------------------------------------------

    def _taken(self, one: Resource) -> int:
        """Return how many bytes of a resource are still taken."""
        address = self.addresses.get(one.path)
        if address is None:
            return 0
        if not one.order:
            return one.size if address in self._objects() else 0
        snapshot, first = self.kernel.snapshot(), self.kernel.virt_to_page(address)
        kinds = [snapshot.page(pfn).kind for pfn in range(first, first + (1 << one.order))]
        return _PAGE * len([kind for kind in kinds if kind.allocated or kind is Kind.LEAKED])

    def _objects(self) -> set[int]:
        return {one.address for one in self.kernel.kmemleak_objects}

    def _things(self, holder: str) -> Iterator[Thing]:
        held: set[str] = set()
        taken: dict[str, int] = {}
        for one in self.driver.resources:
            bytes_ = taken[one.path] = self._taken(one)
            slot = self._slot(one, holder, taken)
            if bytes_ == one.size and slot == "points" and (not one.parent or one.parent in held):
                held.add(one.path)
            yield Thing(one.path, self._state(one, bytes_, one.path in held), bytes_, slot)

    def _state(self, one: Resource, taken: int, held: bool) -> str:
        if taken:
            return "held" if held else "leaked"
        if one.path in self.addresses:
            return "freed"
        return "failed" if one.path in self.tried else "none"

    def _slot(self, one: Resource, holder: str, taken: dict[str, int]) -> str:
        """Return what has become of the pointer to a resource."""
        if not one.parent:
            value = self.variable if holder else None
        elif taken.get(one.parent):
            at = self.addresses[one.parent] + one.offset
            value = int.from_bytes(self.kernel.memory.read(at, 8), "little")
        else:
            value = None
        if value is None:
            return "gone"
        if not value:
            return "null"
        return "points" if taken[one.path] else "dangling"

    # -- the kernel's log -------------------------------------------------------------------------

    def _dmesg(self) -> tuple[str, ...]:
        lines: tuple[str, ...] = self.kernel.snapshot().settings["dmesg"]
        return lines

    def _new_log(self) -> tuple[str, ...]:
        lines = self._dmesg()
        new, self.seen = lines[self.seen :], len(lines)
        return tuple(new)
