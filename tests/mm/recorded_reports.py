"""Reports of a real Linux 6.12, taken apart; and machines in the state that such a report shows.

tests/golden/logs has kernel logs of many scenarios. `reports()` cuts the reports out of them, as
`Kernel.dmesg()` would show them; `twin()` builds a machine whose own report must be the same text.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from kmemkit import Kernel
from kmemkit.mm.recording import load_recording
from kmemkit.mm.sched import Task
from kmemkit.mm.show_mem import NODE_FIELDS, node_page_state
from kmemkit.snapshot import LRU_LISTS, NodeSnapshot, PcpSnapshot, Snapshot, ZoneSnapshot
from kmemkit.units import MIGRATE_LETTERS

LOGS = load_recording(Path(__file__).parents[1] / "golden" / "logs" / "reports.json.gz")
ZONES = {"DMA": 0, "DMA32": 1, "Normal": 2, "Movable": 3}

FAILURE = re.compile(r"(.+?): ((?:page allocation failure: |vmalloc error: ).*), mode:(0x\w+)\(")
OOM = re.compile(
    r"(.+) invoked oom-killer: gfp_mask=(0x\w+)\(.*\), order=(-?\d+), oom_score_adj=(.*)"
)
#: What a stack dump has that depends on who called the allocator, on modules and on registers.
CALLER = re.compile(
    r" \? .*| .*\[\w+\]|Tainted: .*|Workqueue: .*|(RIP|RSP|Code|R[A-D]X|RBP|R\d\d): .*"
)
END_OF_MEM_INFO = re.compile(r"\d+ pages hwpoisoned")
TASK = re.compile(r"\[\s*(\d+)\]" + r"\s+(-?\d+)" * 10 + r" (.*)")
CONSTRAINT = re.compile(
    r"oom-kill:constraint=(\w+),nodemask=.*,cpuset=(.*),mems_allowed=(.*),global_oom,.*"
)
KILLED = re.compile(
    r"(.+): Killed process (\d+) \((.+)\) total-vm:(\d+)kB, anon-rss:(\d+)kB, file-rss:(\d+)kB, "
    r"shmem-rss:(\d+)kB, UID:(\d+) pgtables:(\d+)kB oom_score_adj:(-?\d+)"
)
NO_VICTIM = "Out of memory and no killable processes..."
#: Lines of the lowest level, KERN_INFO; a quiet console leaves them out.
INFO = re.compile(
    r"Unreclaimable slab info:|Name  .*|.* \d+KB +\d+KB|Tasks state.*|\[ +pid.*|\[ *\d+\].*"
    r"|oom-kill:.*"
)
#: Logs of a machine that stopped: all that is left is what its quiet console showed.
QUIET = ("swap-o0-himov",)

#: Fields that no state at rest explains: another CPU freed pages between two lines of the report;
#: pages were on their way to the swap device (the simulator writes at once).
MOVED = {
    "o0-noretry-c2-1": "free", "swap-o0-himov-1": "writepending", "swap-o0-himov-2": "writepending",
}  # fmt: skip


@dataclass
class Report:
    """One report: its lines without time stamps, and what its first lines say."""

    name: str
    lines: list[str]
    oom: bool
    comm: str
    gfp: int
    pid: int
    cpu: int
    order: int | None = None  #: of an OOM report
    message: str = ""  #: of a failed request
    oom_score_adj: int = 0
    cpuset: str = "/"
    mems_allowed: str = "0"

    def __str__(self):
        return self.name

    def find(self, pattern):
        """Return the first match of a pattern with a whole line, or None."""
        return next(filter(None, map(pattern.fullmatch, self.lines)), None)


def reports():
    """Return every report of the recorded logs."""
    return [report for name, text in LOGS.items() for report in _cut(name, text)]


def _cut(name, text):
    """Yield the reports of one log: each begins with its first line and ends where it has to."""
    lines = [re.sub(r"^\[ *\d+\.\d+\] ", "", line) for line in text.splitlines()]
    number = count(1)
    for at, line in enumerate(lines):
        failure, oom = FAILURE.match(line), OOM.fullmatch(line)
        if not failure and not oom:
            continue
        end = at
        while end < len(lines) and not END_OF_MEM_INFO.fullmatch(lines[end]):
            end += 1
        if end == len(lines):
            continue
        end += 1
        while oom and end < len(lines) and _is_tail(lines[end]):
            end += 1
        cut = lines[at:end]
        who = re.match(r"CPU: (\d+) UID: \d+ PID: (\d+) Comm", cut[1])
        made = Report(
            f"{name}-{next(number)}", cut, bool(oom), (failure or oom)[1],
            int((oom and oom[2]) or failure[3], 16), int(who[2]), int(who[1]),
        )  # fmt: skip
        if oom:
            made.order, made.oom_score_adj = int(oom[3]), int(oom[4])
            if where := made.find(CONSTRAINT):
                made.cpuset, made.mems_allowed = where[2], where[3]
        else:
            made.message = failure[2]
            made.cpuset, made.mems_allowed = re.search(
                r",cpuset=(.*),mems_allowed=(.*)", line
            ).groups()
        yield made


def _is_tail(line):
    """Return whether an OOM report goes on with this line, after Mem-Info."""
    return line == NO_VICTIM or any(kind.fullmatch(line) for kind in (INFO, KILLED))


def without_caller(lines):
    """Return a report's lines without what depends on the caller of the allocator.

    Offsets in functions go too, and what the compiler added to their names; so does what comes
    after the allocator's own functions in the call trace.
    """
    kept, skip = [], False
    for line in lines:
        if CALLER.fullmatch(line):
            continue
        if line.startswith(" </"):
            skip = False
        function = re.fullmatch(r" ([\w.]+)\+0x\w+/0x\w+", line)
        if skip and function:
            continue
        if function:
            line = f" {function[1].partition('.')[0]}"
            skip = line in (" alloc_pages_mpol_noprof", " moom_callback")
        kept.append(line)
    return kept


def comparable(report, lines):
    """Return a report's lines as far as they must be the same on a simulated machine.

    The header of the stack dump loses taint flags, build and hardware, a quiet console its lowest
    level, and the reports in MOVED the field that is named there.
    """
    kept = []
    for line in without_caller(lines):
        if report.name.startswith(QUIET) and INFO.fullmatch(line):
            continue
        line = re.sub(r"(?:Not tainted|Tainted: .{19}) 6\.12\S* #1.*", "6.12", line)
        line = re.sub(r"^Hardware name: .*", "Hardware name:", line)
        if report.name in MOVED:
            line = re.sub(rf"\b{MOVED[report.name]}:\d+(kB)?", "", line)
        kept.append(line)
    return kept


def anatomy(lines):
    """Return a report without its numbers: which lines, and which fields in what order and unit.

    The tables have as many rows as the machine has tasks and caches: here each has one.
    """
    shapes = []
    for line in without_caller(lines):
        line = re.sub(r" \([UMEHI]+\)", "", re.sub(r"-?\b(0x)?\d[\da-f]*", "N", line))
        line = re.sub(r"^Hardware name: .*", "Hardware name:", line)
        line = re.sub(r"(Not tainted|Tainted: .{19}) N\.N\S* #N.*", "N", line)
        line = re.sub(r"\? (yes|no)$", "? N", re.sub(r" +", " ", line))
        if shapes[-1:] != [line]:
            shapes.append(line)
    return shapes


# -- a machine in the state of a report -----------------------------------------------------------


@dataclass
class Fields:
    """Numbers of a report's Mem-Info, in pages but for kernel stacks."""

    summary: dict[str, int] = field(default_factory=dict)
    nodes: dict[int, dict[str, int]] = field(default_factory=dict)
    hopeless: dict[int, bool] = field(default_factory=dict)
    zones: dict[tuple[int, str], dict[str, int]] = field(default_factory=dict)
    reserves: list[tuple[int, ...]] = field(default_factory=list)
    areas: dict[tuple[int, str], list[tuple[int, str]]] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)


def parse(lines):
    """Return the numbers of a Mem-Info."""
    found = Fields()
    for line in lines:
        values = {name: int(n) for name, n in re.findall(r"([\w()]+):(\d+)", line)}
        if match := re.match(r"Node (\d+) active_anon", line):
            node = int(match[1])
            found.nodes[node] = {
                name: n if name == "kernel_stack" else n // 4 for name, n in values.items()
            }
            found.hopeless[node] = line.endswith("yes")
        elif match := re.match(r"Node (\d+) (\w+) free:", line):
            found.zones[int(match[1]), match[2]] = {name: n // 4 for name, n in values.items()}
        elif line.startswith("lowmem_reserve[]:"):
            found.reserves.append(tuple(map(int, line.split()[1:])))
        elif match := re.match(r"Node (\d+) (\w+): ", line):
            found.areas[int(match[1]), match[2]] = [
                (int(blocks), letters)
                for blocks, letters in re.findall(r"(\d+)\*\d+kB(?: \((\w+)\))?", line)
            ]
        elif match := re.fullmatch(r"(\d+) (.+)", line):
            found.totals[match[2]] = int(match[1])
        elif match := re.fullmatch(r"(\w+ swap) +=\s+(\d+)kB", line):
            found.totals[match[1]] = int(match[2]) // 4
        elif re.match(r" ?\w+:\d+ ", line) or line.startswith(" kernel_misc"):
            found.summary |= values
    return found


def _free_lists(start, area):
    """Return free lists with as many blocks of each order, on lists of the types, as counted."""
    lists, pfn = {}, start
    for order, (blocks, letters) in enumerate(area):
        for number in range(blocks):
            letter = letters[min(number, len(letters) - 1)]
            head, _ = lists.setdefault((order, MIGRATE_LETTERS.index(letter)), ({}, {}))
            head[pfn] = None
            pfn += 1 << order
    return lists


def _zone(nid, name, start, values, reserve, area, cpus, cpu):
    lists = _free_lists(start, area)
    exact = sum(blocks << order for order, (blocks, _) in enumerate(area))
    here = values.get("local_pcp", 0)
    pcps = [PcpSnapshot() for _ in range(cpus)]
    pcps[cpu] = PcpSnapshot(count=here, stat_diff=exact - values["free"])
    pcps[cpu - 1] = PcpSnapshot(count=values.get("free_pcp", 0) - here + (cpus == 1) * here,
                                stat_diff=pcps[cpu - 1].stat_diff)  # fmt: skip
    boost, present = values.get("boost", 0), values["present"]
    return ZoneSnapshot(
        nid=nid, idx=ZONES[name], name=name, start_pfn=start, spanned=present, present=present,
        managed=values["managed"], free_est=values["free"], min=values.get("min", 0) - boost,
        low=values.get("low", 0) - boost, high=values.get("high", 0) - boost, promo=0, boost=boost,
        nr_reserved_highatomic=values.get("reserved_highatomic", 0), nr_free_highatomic=0, flags=0,
        stat_threshold=0, percpu_drift_mark=0, lowmem_reserve=reserve, max_order=10,
        pageblock_order=9, pageblocks=bytes([1]) * -(-present >> 9), movable={},
        pcps=tuple(pcps), _lists=lists,
    )  # fmt: skip


def _all_zones(report, found):
    """Return the zones of the report, and one that stands for all zones it leaves out."""
    cpus = max(report.cpu + 1, 2)
    zones, start = [], 0
    shown = zip(found.zones.items(), found.reserves, found.areas.values(), strict=True)
    for ((nid, name), values), reserve, area in shown:
        zones.append(_zone(nid, name, start, values, reserve, area, cpus, report.cpu))
        start += -(-values["present"] >> 10) << 10
    present = found.totals["pages RAM"] - sum(zone.present for zone in zones)
    if present:
        managed = found.totals["pages RAM"] - found.totals["pages reserved"]
        rest = {
            "present": present,
            "managed": managed - sum(zone.managed for zone in zones),
            "free": found.summary["free"] - sum(zone.free_est for zone in zones),
        }
        for name in LRU_LISTS:
            shown = sum(values[name] for values in found.zones.values())
            rest[name] = max(found.summary[name] - shown, 0)
        nid = 1 - zones[0].nid if "cpuset" in report.name else zones[0].nid
        name = "DMA32" if nid != zones[0].nid else "Normal"
        found.zones[nid, name] = rest
        zones.append(_zone(nid, name, start, rest, (0,) * 5, [], cpus, report.cpu))
        start += -(-present >> 10) << 10
    return zones, start


def _on_lists(zone, values, lru):
    """Put pages of a zone on LRU lists, from the zone's end; return {(list, zone): pages}."""
    pfn, lists = zone.end_pfn, {}
    for number, name in enumerate(LRU_LISTS, 1):
        pages = range(pfn - values.get(name, 0), pfn)
        lists[name, zone.idx] = ({}, dict.fromkeys(pages))
        dirty = values.get("writepending", 0) if name == "inactive_file" else 0
        for page in pages:
            lru[page] = number | (0x10 if page - pages[0] < dirty else 0)
        pfn -= len(pages)
    return lists


def twin(report):
    """Return a machine in the state of a report, about to write it.

    LRU lists and free lists hold as many pages as the report says. What the simulator does not
    keep page by page is put into `node_page_state`; so is the lag of a counter behind its list.
    """
    found = parse(report.lines)
    zones, pages = _all_zones(report, found)
    lru, nodes = bytearray(pages), []
    for nid in range(max(zone.nid for zone in zones) + 1):
        lists = {}
        for zone in zones:
            if zone.nid == nid:
                lists |= _on_lists(zone, found.zones.get((nid, zone.name), {}), lru)
        failures = 16 if found.hopeless.get(nid) else 0
        nodes.append(NodeSnapshot(nid, lists, kswapd_failures=failures))
    kernel = Kernel.from_snapshot(
        Snapshot(
            "6.12", tuple(zones), bytes(pages), bytes(pages), nodes=tuple(nodes), lru=bytes(lru),
            settings={"nodes": len(nodes), "cpus": len(zones[0].pcps), "cpu": report.cpu},
        )
    )  # fmt: skip
    _tasks(kernel, report)
    _counters(kernel, found)
    _slabs(kernel, report)
    kernel.total_swap_pages = found.totals["Total swap"]
    kernel.nr_swap_pages = found.totals["Free swap"]
    return kernel


def _tasks(kernel, report):
    """Give the machine the tasks of the report's table; the last line's one makes the call."""
    rows = list(filter(None, map(TASK.fullmatch, report.lines)))
    for row in rows:
        pid, uid, _, total_vm, rss, anon, file, shmem, tables, swap, adj = map(
            int, row.groups()[:-1]
        )
        kernel.tasks.append(
            Task(
                pid, row[12], oom_score_adj=adj, uid=uid, rss_file=file, rss_shmem=shmem,
                swapents=swap, pgtables_bytes=tables, vm_only=total_vm - rss - swap,
                anon=dict.fromkeys(range(anon)),
            )
        )  # fmt: skip
    killed = report.find(KILLED)
    if killed and not any(task.pid == int(killed[2]) for task in kernel.tasks):
        _, pid, comm, total_vm, anon, file, shmem, uid, tables, adj = killed.groups()
        rss = [int(kb) // 4 for kb in (anon, file, shmem)]
        kernel.tasks.append(
            Task(
                int(pid), comm, oom_score_adj=int(adj), uid=int(uid), rss_file=rss[1],
                rss_shmem=rss[2], pgtables_bytes=int(tables) << 10,
                vm_only=int(total_vm) // 4 - sum(rss), anon=dict.fromkeys(range(rss[0])),
            )
        )  # fmt: skip
    current = next((task for task in kernel.tasks if task.pid == report.pid), None)
    if current is None:
        current = Task(report.pid, report.comm, kernel_thread=report.comm.startswith("kworker"))
        current.oom_score_adj = report.oom_score_adj
        kernel.tasks.append(current)
    if report.cpuset != "/":
        for task in kernel.tasks[1:]:
            task.cpuset, task.mems_allowed = report.cpuset, (int(report.mems_allowed),)
    kernel.current = current


def _counters(kernel, found):
    """Put into node_page_state what the lists and tasks do not make up."""
    extra: Counter = Counter()
    for nid, values in found.nodes.items():
        state = node_page_state(kernel, nid)
        for field_, name in NODE_FIELDS.items():
            extra[nid, name] = values[field_] - state[name]
    rest = next((n for n in range(len(kernel.nodes)) if n not in found.nodes), min(found.nodes))
    names = {"pagetables": "page_table_pages", "sec_pagetables": "sec_page_table_pages"}
    wanted = {f"nr_{names.get(name, name)}": pages for name, pages in found.summary.items()}
    wanted["nr_file_pages"] = found.totals["total pagecache pages"]
    wanted["nr_swapcached"] = found.totals["pages in swap cache"]
    for name, pages in wanted.items():
        if name not in ("nr_free", "nr_free_pcp"):
            has = sum(node_page_state(kernel, node.nid)[name] for node in kernel.nodes)
            extra[rest, name] += (
                pages - has - sum(n for (_, key), n in extra.items() if key == name)
            )
    kernel.node_page_state = extra


def _slabs(kernel, report):
    rows = (re.fullmatch(r"(\S+) +(\d+)KB +(\d+)KB", line) for line in report.lines)
    kernel.unreclaimable_slabs = {row[1]: (int(row[2]), int(row[3])) for row in rows if row}
