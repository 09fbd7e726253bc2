"""Holding the simulator against a recorded boot: same zone sizes in, same marks out.

`kmemkit verify` calls play_boot(). Given a recorded machine's zones it works out min_free_kbytes,
every mark, reserve and list limit as boot does, then writes every recorded sysctl and works them
out again. Where the recording tells what hardware it was, that is booted too, and its zones and
fallback orders compared.

Marks are set before the kernel gives its start-up memory back, so from fewer managed pages than
/proc/zoneinfo shows in the end. How many fewer, and in which zone, the kernel log says; without
one, `_guesses()` finds out whether any possible answer explains all numbers at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kmemkit.mm.boot_record import MARKS, BootRecord, State, ZoneRecord
from kmemkit.mm.cmdline import parse_cmdline
from kmemkit.mm.hardware_record import Dmesg, recorded_hardware, recorded_topology
from kmemkit.mm.kernel import Kernel
from kmemkit.mm.mmzone import MemMap, Zone
from kmemkit.mm.pcp import zone_set_pageset_high_and_batch
from kmemkit.mm.replay import Mismatch
from kmemkit.mm.sysctl import KNOBS, Sysctl
from kmemkit.mm.vm import Vm
from kmemkit.mm.wmark_setup import set_up_marks

__all__ = ("BootResult", "Comparison", "RecordedMachine", "play_boot")

#: Since 6.7 a list's `high` moves between two limits; before, it was the lower of them.
PCP_HIGH_TUNES_ITSELF = (6, 7)
#: Since 6.6 ZONE_MOVABLE has a small min mark wherever its memory is from.
MOVABLE_IS_HIGH = (6, 6)
#: Somewhere after 6.1, the log began to sum memory up after the SMP alternatives were given back:
#: up to so many pages that earlier releases count as late.
MEMORY_LINE_COMES_LATE, EARLY_PAGES = (6, 12), 16
#: Of more late memory than 64 MiB no log can be done without.
MOST_LATE_PAGES = 16384
#: 16 MiB: where the kernel is without KASLR.
KERNEL_START = 4096


@dataclass(slots=True)
class BootResult:
    """How one boot, or one change of settings after it, compares. Counts are of single values."""

    name: str
    matched: int
    compared: int
    mismatches: tuple[Mismatch, ...]


class RecordedMachine(Sysctl):
    """A machine with recorded zones and no pages: enough to set marks and turn sysctls."""

    def __init__(self, boot: BootRecord) -> None:
        state = boot.states[0]
        self._prepare("6.12", 1, 1)
        self.arch, self.vm = boot.arch, Vm(boot.arch)
        zones = len(state.zones[0].protection)
        self.vm.lowmem_reserve_ratio = self.vm.lowmem_reserve_ratio[:zones]
        options = _options(boot.cmdline, ("transparent_hugepage",))
        populated = {zone.name for zone in state.zones if zone.present}
        self.vm.movable_is_high = boot.release >= MOVABLE_IS_HIGH or "HighMem" in populated
        self.vm.thp = options.get("transparent_hugepage") != "never"
        self.fresh = self.vm.freeze()
        self._connect_nodes(recorded_topology(boot))
        none = MemMap(0, 1)
        self._adopt(none, [self._zone(zone, none) for zone in state.zones])
        #: zone -> the limits its lists had since the last recorded state
        self.limits: dict[Zone, list[tuple[int, int]]] = {}

    def _zone(self, recorded: ZoneRecord, mem_map: MemMap) -> Zone:
        zone = Zone(
            recorded.nid, recorded.idx, recorded.name, recorded.start_pfn,
            recorded.start_pfn + recorded.spanned, mem_map, self.vm,
        )  # fmt: skip
        zone.present, zone.managed = recorded.present, recorded.managed
        return zone

    def boot(self, managed: list[int]) -> None:
        """Set the marks as boot does, with so many managed pages in each zone."""
        self.vm = Vm.thaw(self.fresh)
        for zone, pages in zip(self.zones, managed, strict=True):
            zone.managed = pages
            zone.vm, zone.watermark = self.vm, [0, 0, 0, 0]
            zone_set_pageset_high_and_batch(zone, self.topology.local_cpus(zone.nid))
        set_up_marks(self.vm, self.zones, self.topology)
        self.note_limits(anew=True)

    def settle(self, state: State) -> None:
        """Have as many managed pages as a state shows."""
        for zone, recorded in zip(self.zones, state.zones, strict=True):
            zone.managed = recorded.managed

    def note_limits(self, anew: bool = False) -> None:
        """Remember the limits of the lists; with `anew`, forget those of before."""
        for zone in self.zones:
            before = [] if anew else self.limits[zone]
            self.limits[zone] = [*before, (zone.pcp.high_min, zone.pcp.high_max)]


@dataclass(slots=True)
class Comparison:
    """Values compared one by one."""

    matched: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)

    def check(self, where: str, recorded: object, simulated: object) -> None:
        """Compare one value."""
        if recorded == simulated:
            self.matched += 1
        else:
            self.mismatches.append(Mismatch(where, recorded, simulated))

    def result(self, name: str) -> BootResult:
        """Return the counts."""
        compared = self.matched + len(self.mismatches)
        return BootResult(name, self.matched, compared, tuple(self.mismatches))


def play_boot(boot: BootRecord) -> list[BootResult]:
    """Compare a recorded boot, and every change of settings after it, with the simulator.

    Raises:
        ValueError: a setting in the recording is none, or has an impossible value.
    """
    machine = RecordedMachine(boot)
    before = boot.states[0]
    found = _play_marks(machine, boot)
    _compare_layout(boot, found)
    results = [found.result(before.name)]
    for step in boot.states[1:]:
        found = Comparison()
        machine.note_limits(anew=True)
        machine.settle(step)
        machine.sysctl("vm.lowmem_reserve_ratio")  # sys_vm was read, with this effect
        for name, value in step.written:
            machine.sysctl(f"vm.{name}", value)
            machine.note_limits()
        _compare_state(machine, boot, step, before, found)
        results.append(found.result(step.name))
        before = step
    return results


# -- what boot computed ---------------------------------------------------------------------------


def _play_marks(machine: RecordedMachine, boot: BootRecord) -> Comparison:
    """Set the marks as boot did, and compare; the explanation that fits best counts.

    Leaves the machine as that explanation has it.
    """
    state = boot.states[0]
    dmesg = Dmesg(boot)
    exact = dmesg.earlier_managed(state.zones)
    best: tuple[Comparison, list[int], list[tuple[str, str | None]]] | None = None
    for later in _writes(machine, state):
        for managed in [exact] if exact else _guesses(boot, dmesg):
            found = _boot_and_compare(machine, boot, managed, later)
            if best is None or len(found.mismatches) < len(best[0].mismatches):
                best = found, managed, later
            if not found.mismatches:
                break
        if best is not None and not best[0].mismatches:
            break
    assert best is not None
    found = _boot_and_compare(machine, boot, *best[1:])
    total = dmesg.pages_when_marks_were_set()
    if exact and total is not None:
        found.check("pages when the marks were set, by the log", total, sum(exact))
    return found


def _boot_and_compare(
    machine: RecordedMachine,
    boot: BootRecord,
    managed: list[int],
    later: list[tuple[str, str | None]],
) -> Comparison:
    """Boot with so many managed pages; then, with all of them, do what user space did later."""
    found, state = Comparison(), boot.states[0]
    machine.boot(managed)
    machine.settle(state)
    for name, value in later:
        machine.sysctl(f"vm.{name}", value)
        machine.note_limits()
    _compare_state(machine, boot, state, None, found)
    return found


def _writes(machine: RecordedMachine, state: State) -> Iterator[list[tuple[str, str | None]]]:
    """Yield what user space may have written, or read, before the first state was recorded.

    Settings that boot can't have chosen were written for certain. Reading the reserve ratios, which
    works the reserves out anew, may have come before.
    """
    certain: list[tuple[str, str | None]] = []
    for name in ("watermark_scale_factor", "watermark_boost_factor", "lowmem_reserve_ratio",
                 "percpu_pagelist_high_fraction"):  # fmt: skip
        recorded = state.sysctls.get(name)
        if recorded is not None and recorded.split() != _words(getattr(machine.vm, name)):
            certain.append((name, recorded))
    yield certain
    yield [*certain, ("lowmem_reserve_ratio", None)]


def _guesses(boot: BootRecord, dmesg: Dmesg) -> Iterator[list[int]]:
    """Yield every way in which the late memory, whose sum the log has, may lie in the zones.

    The kernel's own start-up code and data are in the kernel's zone; the rest, mostly the initrd,
    is there too or in one piece in another zone.
    """
    zones = boot.states[0].zones
    managed = [zone.managed for zone in zones]
    total = dmesg.memory_line()
    if total is None:
        raise ValueError(
            'its log is missing: dmesg has the "Memory:" line, which says how much memory there '
            "was when the marks were set"
        )
    if total > sum(managed):
        yield managed
        return
    home = next(
        (n for n, z in enumerate(zones) if z.start_pfn <= KERNEL_START < z.start_pfn + z.spanned), 0
    )
    early_most = EARLY_PAGES if boot.release < MEMORY_LINE_COMES_LATE else 0
    late = sum(managed) - total
    most = late - dmesg.init_pages() if late <= MOST_LATE_PAGES else 0
    elsewhere = [(0, home)]
    elsewhere += [
        (pages, n)
        for n, zone in enumerate(zones)
        for pages in range(1, min(most, zone.managed) + 1)
        if n != home
    ]
    for pages, other in elsewhere:
        for early in range(min(early_most, late - pages) + 1):
            guess = list(managed)
            guess[home] -= late - early - pages
            guess[other] -= pages
            if guess[home] >= 0:
                yield guess


def _words(setting: object) -> list[str]:
    """Return a setting as /proc/sys prints it, in words."""
    return [str(one) for one in setting] if isinstance(setting, tuple) else [str(setting)]


# -- comparing ------------------------------------------------------------------------------------


def _compare_state(
    machine: RecordedMachine, boot: BootRecord, state: State, before: State | None, to: Comparison
) -> None:
    """Compare settings, marks, reserves and list limits of every zone."""
    for name in KNOBS:
        if name == "min_free_kbytes" or (before is not None and name in state.sysctls):
            to.check(name, state.sysctls[name].split(), _words(getattr(machine.vm, name)))
    for number, (zone, recorded) in enumerate(zip(machine.zones, state.zones, strict=True)):
        for mark, value, simulated in zip(MARKS, recorded.marks, zone.watermark, strict=False):
            to.check(f"{recorded} {mark}", value, simulated + recorded.boost)
        to.check(f"{recorded} protection", recorded.protection, zone.lowmem_reserve)
        past = before.zones[number].pcps if before is not None else ()
        for cpu, pcp in enumerate(recorded.pcps):
            where = f"{recorded} cpu {cpu}"
            to.check(f"{where} batch", pcp.batch, zone.pcp.batch)
            to.check(f"{where} vm stats threshold", pcp.stat_threshold, zone.stat_threshold)
            was = past[cpu].high if cpu < len(past) else 0
            possible = _possible_high(boot, pcp.high, was, machine.limits[zone])
            to.check(f"{where} high", pcp.high, possible)


def _possible_high(
    boot: BootRecord, high: int, was: int, limits: list[tuple[int, int]]
) -> int | str:
    """Return a list's `high`, which tunes itself, if it is one that the limits allow; else those.

    A CPU that has not used its list since the limits changed still has what it had: 0, if never.
    """
    if boot.release < PCP_HIGH_TUNES_ITSELF:
        return limits[-1][0]
    allowed = [(min(low, top), max(top, was)) for low, top in limits]
    if high in (0, was) or any(least <= high <= most for least, most in allowed):
        return high
    return " or ".join(f"{least} to {most}" for least, most in allowed)


# -- the machine itself ---------------------------------------------------------------------------


def _compare_layout(boot: BootRecord, to: Comparison) -> None:
    """Boot the same hardware with the same command line, and compare its zones and zonelists."""
    hardware = recorded_hardware(boot)
    if hardware is None:
        return
    try:
        kernel = Kernel(
            [pages << 12 for pages in hardware.ram], cpus=hardware.cpus, arch=boot.arch,
            cmdline=boot.cmdline,
        )  # fmt: skip
    except ValueError:
        return  # the command line asks for what is not simulated
    zones = {(zone.nid, zone.name): zone for zone in kernel.zones}
    for recorded in boot.states[0].zones:
        if recorded.present:
            zone = zones.pop((recorded.nid, recorded.name), None)
            spans = None
            if zone is not None:
                spans = zone.start_pfn, zone.end_pfn - zone.start_pfn, zone.present
            expected = recorded.start_pfn, recorded.spanned, recorded.present
            to.check(f"{recorded} start, spanned, present", expected, spans)
    to.check("zones besides", [], [f"{nid}/{name}" for nid, name in zones])
    for nid, order in Dmesg(boot).fallback_orders().items():
        found: list[int] = []
        if nid < kernel.nr_nodes:
            found = list(dict.fromkeys(zone.nid for zone in kernel.zonelist(nid, False)))
        to.check(f"fallback order for node {nid}", order, found)


def _options(cmdline: str, names: tuple[str, ...]) -> Mapping[str, str]:
    """Return some parameters of a command line, whatever the others are."""
    words = [word for word in cmdline.split() if word.partition("=")[0] in names]
    try:
        return parse_cmdline(" ".join(words))[0]
    except ValueError:
        return {}
