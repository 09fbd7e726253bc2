"""Machines of lesson 07, from roomy to full, and what a request gets from each of them.

The lesson's tables, exercises and questions all make their requests here: every line is a run on
a copy of one of these machines, so they never change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from textwrap import wrap

from kmemkit.gfp import as_mask
from kmemkit.lessons._check import WIDTH
from kmemkit.mm.errors import Livelock
from kmemkit.mm.kernel import Kernel
from kmemkit.snapshot import order_text
from kmemkit.strings import text
from kmemkit.why import Rung, Why

__all__ = (
    "ENDS",
    "MOMENTS",
    "ORDERS",
    "Run",
    "ask",
    "at",
    "compare",
    "fill",
    "full_of_files",
    "moment",
    "row",
    "state",
    "take",
)

#: How a request can end.
ENDS = ("page", "null", "kill", "forever")
#: Orders of both classes: up to 3, and costly.
ORDERS = (0, 1, 2, 3, 4, 9)
_QUIET = "GFP_ATOMIC|__GFP_NOWARN"


# -- machines -------------------------------------------------------------------------------------


def _boot(ram: str = "256M", anon: str = "12M") -> Kernel:
    """Boot a machine with one program, whose memory nobody can take but the OOM killer.

    Without per-CPU lists, which take pages by the batch, and without boosts the marks hold to the
    page.
    """
    kernel = Kernel(ram=ram, pcp=False)
    kernel.sysctl("vm.watermark_boost_factor", 0)
    kernel.fork("browser", anon=anon, oom_score_adj=500)
    return kernel


def full_of_files() -> Kernel:
    """Boot 256 MiB and read files until nearly all of it is page cache, which can be taken back."""
    kernel = _boot()
    kernel.read_file("240M")
    kernel.sleep(100)  # kswapd goes to sleep above the high mark
    return kernel


def take(kernel: Kernel, mask: str) -> list[int]:
    """Ask for single pages until NULL, and return the pages that were given."""
    value, pages = as_mask(mask), []
    while (pfn := kernel.alloc_pages(value)) is not None:
        pages.append(pfn)
    return pages


def _below_low() -> Kernel:
    """Files, and free pages half-way between MIN and LOW."""
    kernel = full_of_files()
    zone = kernel.snapshot().zones[-1]
    for _ in range(zone.free - (zone.min + zone.low) // 2):
        kernel.alloc_pages("GFP_KERNEL & ~__GFP_RECLAIM")
    return kernel


def _burst() -> Kernel:
    """Files, and a burst of interrupts has just taken all that GFP_ATOMIC may take."""
    kernel = full_of_files()
    take(kernel, _QUIET)
    return kernel


def _full() -> Kernel:
    """Kernel pages, one program, no files, no swap: nothing can be taken back."""
    kernel = _boot()
    fill(kernel)
    return kernel


def fill(kernel: Kernel) -> None:
    """Take pages that nobody can take back, until not even GFP_ATOMIC gets one more."""
    take(kernel, "GFP_KERNEL|__GFP_RETRY_MAYFAIL|__GFP_NOWARN")
    take(kernel, _QUIET)


def _victim() -> Kernel:
    """The same, and the caller is a task that the OOM killer has chosen."""
    kernel = moment("full")
    kernel.run_as(kernel.tasks[-1])
    kernel.mark_oom_victim()
    return kernel


def _scattered() -> Kernel:
    """Kernel pages everywhere, and every second page is free again."""
    kernel = _boot("64M", "2M")
    for pfn in take(kernel, "__GFP_MEMALLOC|__GFP_NOWARN"):
        if pfn % 2:
            kernel.free_pages(pfn)
    return kernel


MOMENTS: dict[str, Callable[[], Kernel]] = {
    "roomy": _boot,
    "low": _below_low,
    "files": _burst,
    "full": _full,
    "victim": _victim,
    "scattered": _scattered,
}


@cache
def _made(name: str) -> Kernel:
    return MOMENTS[name]()


def moment(name: str) -> Kernel:
    """Return a machine of one's own, in one of the states of MOMENTS.

    Raises:
        ValueError: there is no such state.
    """
    if name not in MOMENTS:
        raise ValueError(text("lesson.ladder.no_moment", name=name, known=", ".join(MOMENTS)))
    return _made(name).clone()


def state(name: str) -> str:
    """Return what one of MOMENTS has: a line of words, and the numbers of each zone."""
    snapshot = _made(name).snapshot()
    cached = sum(node.nr("inactive_file") + node.nr("active_file") for node in snapshot.nodes)
    free = sum(zone.free for zone in snapshot.zones)
    percent = 100 / sum(zone.managed for zone in snapshot.zones)
    lines = [text(f"lesson.ladder.moment.{name}")]
    lines.append(
        text(
            "lesson.ladder.shares",
            cached=f"{cached:,}", cached_share=f"{cached * percent:.1f}",
            free=f"{free:,}", free_share=f"{free * percent:.1f}",
        )
    )  # fmt: skip
    for zone in snapshot.zones:
        lines.append(
            text(
                "lesson.ladder.zone",
                zone=zone.name, free=f"{zone.free:,}", min=zone.min, low=zone.low,
                reserve=zone.lowmem_reserve[snapshot.zones[-1].idx],
                block=order_text(max(order for order, _ in zone.free_lists())),
            )
        )  # fmt: skip
    return "\n".join(lines)


# -- requests -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """One request that was made: how it ended, and the road that it took."""

    end: str  #: one of ENDS
    why: Why

    @property
    def names(self) -> list[str]:
        """The rungs it stood on, each once, in the order in which it came to them."""
        return list(dict.fromkeys(rung.name for rung in self.why.rungs))

    @property
    def rounds(self) -> int:
        """How often it went round the retry loop."""
        return max(rung.round for rung in self.why.rungs)

    @property
    def last(self) -> Rung:
        """The rung that gave the page, or the last one before NULL."""
        return [rung for rung in self.why.rungs if rung.name != "null"][-1]

    def rung(self, name: str) -> Rung:
        """Return its first stand on a rung.

        Raises:
            ValueError: it never came there.
        """
        if name not in self.names:
            known = ", ".join(self.names)
            raise ValueError(text("lesson.ladder.no_rung", name=name, known=known))
        return next(rung for rung in self.why.rungs if rung.name == name)

    @property
    def because(self) -> str:
        """What decided on that rung, or whom the OOM killer chose."""
        said = [why for why in self.last.weighed if why.key != "livelock"]
        if self.end == "kill":
            said = [why for why in self.why.reasons if why.key == "oom_chosen"]
        if self.end == "forever" and self.last.name == "nofail":
            return text("lesson.ladder.nofail_again")
        return self.last.decided if self.end in ("page", "null") else str(said[-1])

    @property
    def word(self) -> str:
        """The end in a few words, with the rung that it came on."""
        rung = text(f"ladder.short.{self.last.name}")
        return text(f"lesson.ladder.end.{self.end}", rung=rung)

    def __str__(self) -> str:
        """The whole road, one line a rung; rounds that go the same way are told once."""
        rounds = [list(group) for _, group in groupby(self.why.rungs, lambda rung: rung.round)]
        ways = [[(rung.name, rung.outcome) for rung in group] for group in rounds]
        lines = [text("lesson.ladder.run", call=self.why.call, end=self.word)]
        for place, group in enumerate(rounds):
            if place and ways[place - 1 : place + 2] == [ways[place]] * 3:
                continue
            lines += [_line(rung) for rung in group]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def _line(rung: Rung) -> str:
    name = text(f"road.rung.{rung.name}")
    if rung.round and rung.name != "null":
        name = text("lesson.ladder.in_round", rung=name, round=rung.round)
    return f"  {name}: {rung.word}"


def ask(kernel: Kernel, mask: str, order: int = 0) -> Run:
    """Make a request on a copy of a machine, and return how it went."""
    copy = kernel.clone()
    copy.record(limit=1)
    killed, pfn = copy.vm_events["oom_kill"], None
    end = "forever"
    with suppress(Livelock):
        pfn = copy.alloc_pages(mask, order)
        end = "page" if pfn is not None else "null"
    if pfn is not None and copy.vm_events["oom_kill"] > killed:
        end = "kill"
    return Run(end, copy.why())


@cache
def at(name: str, mask: str, order: int = 0) -> Run:
    """Make a request at one of MOMENTS."""
    return ask(_made(name), mask, order)


# -- tables ---------------------------------------------------------------------------------------


def row(mask: str, moments: Sequence[str] = ("low", "files", "full")) -> str:
    """Return what a mask gets at each moment for orders of both classes, and why it gets no more.

    Why is told of every end but a page, once for each rule that decided.
    """
    lines = [f"{mask} = {as_mask(mask):#x}"]
    for name in moments:
        runs = ((order, at(name, mask, order).word) for order in ORDERS)
        cells = [
            f"{_orders([order for order, _ in group])}: {word}"
            for word, group in groupby(runs, lambda pair: pair[1])
        ]
        lines += _fold(f"  {text(f'lesson.ladder.short.{name}'):<13} {'; '.join(cells)}")
    reasons: dict[tuple[str, str | None], str] = {}
    for order in ORDERS:
        for run in (at(name, mask, order) for name in moments):
            rule = run.last.decision
            if run.end != "page":
                reasons.setdefault((run.word, rule and rule.key), f"{run.word}: {run.because}")
    for reason in reasons.values():
        lines += _fold(f"  {reason}")
    return "\n".join(lines)


def _fold(line: str) -> list[str]:
    return wrap(line, WIDTH, subsequent_indent="    ", break_long_words=False)


def _orders(orders: list[int]) -> str:
    """Return neighbours of ORDERS in short: "orders 0-3", "orders 4, 9"."""
    if orders == list(ORDERS):
        return text("lesson.ladder.all_orders")
    if len(orders) == 1:
        return text("lesson.ladder.order", order=orders[0])
    run = orders == list(range(orders[0], orders[-1] + 1)) and len(orders) > 2
    shown = f"{orders[0]}-{orders[-1]}" if run else ", ".join(map(str, orders))
    return text("lesson.ladder.orders", orders=shown)


def compare(rows: Sequence[tuple[str, str, int]]) -> str:
    """Return a table of requests (moment, mask, order): free pages then, the end, what decided."""
    head = tuple(text(f"lesson.ladder.head.{name}") for name in ("moment", "free", "request"))
    cells = [(*head, text("lesson.ladder.head.end"))]
    for name, mask, order in rows:
        free = sum(zone.free for zone in _made(name).snapshot().zones)
        what = text(f"lesson.ladder.short.{name}")
        call = f"alloc_pages({mask}, {order})"
        cells.append((what, f"{free:,}", call, at(name, mask, order).word))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )
