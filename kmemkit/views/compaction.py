"""Compaction: the two scanners on the page map, and every page they move, one step each.

Lessons write `Compaction(kernel, order=3)`: the request is made on a clone of the kernel, and the
view walks through what it recorded. With `predict=True` each move is predicted before it is shown.
`_compaction_steps` turns the events into steps, `_compaction_quiz` judges; the map is PageMap's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import traitlets

from kmemkit.snapshot import Event, Snapshot, ZoneSnapshot, order_text
from kmemkit.strings import text
from kmemkit.views._base import Follows, esm, refuse_unknown
from kmemkit.views._compaction_quiz import judge, parse_pfn
from kmemkit.views._compaction_steps import Moves, Scan, largest_free
from kmemkit.views.page_map import PageMap
from kmemkit.views.prediction import Verdict

__all__ = ("Compaction",)


class Compaction(PageMap):
    """A walk through one compaction: where the scanners stand, which page moves where.

    Args:
        source: a Kernel, or the Snapshot before the call whose `events` are given.
        gfp: mask of the request that compacts.
        order: its order; None compacts all there is (vm.compact_memory = 1).
        events: recorded events, where `source` is a Snapshot.
        clone: whether the call is made on a clone; if not, the kernel itself is changed.
        predict: ask for each move before showing it.
        zone, width: of the map, as PageMap has them; the first zone that is compacted by default.

    Raises:
        TypeError: an unknown keyword, or a source of another type.
        ValueError: a zone or width that there is not.
    """

    _esm = esm(
        "common.js",
        "colors.js",
        "page_columns.js",
        "page_inks.js",
        "page_dots.js",
        "page_paint.js",
        "page_legend.js",
        "history_bar.js",
        "page_map.js",
    ).partition("export default")[0] + esm("compaction.js")
    _sections = ("page_map", "compaction", "stepper")

    scan = traitlets.Dict(help="where the scanners are").tag(sync=True)
    state = traitlets.Dict(help="the question, the verdict, and the numbers").tag(sync=True)

    def __init__(
        self,
        source: Snapshot | Follows,
        gfp: int | str = "GFP_KERNEL",
        order: int | None = None,
        *,
        events: Sequence[Event] = (),
        clone: bool = True,
        predict: bool = False,
        zone: str | tuple[int, str] | None = None,
        width: int | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(Compaction.__init__, unknown)
        if isinstance(source, Snapshot):
            self.moves = Moves(source, events)
        elif isinstance(source, Follows):
            self.moves = _run(source, gfp, order, clone)
        else:
            raise TypeError(text("compaction.bad_source", given=type(source).__name__))
        self.order = order
        self.predict = predict
        self.free_play = False
        self.verdict: Verdict | None = None
        self.counts = {"right": 0, "wrong": 0, "unknown": 0}
        #: index of the furthest step that may be shown
        self.reach = 0 if predict else len(self.moves) - 1
        self._message = ""
        home = self._home() if zone is None else zone
        super().__init__(history=self.moves, zone=home, width=width, step=0)

    def _home(self) -> tuple[int, str] | None:
        """Return the zone in which a page moves first; the whole machine if none does."""
        for scan in self.moves.scans:
            zone = self.moves.before.zone_of(scan.src) if scan.src >= 0 else None
            if zone is not None:
                return zone.nid, zone.name
        return None

    # -- what is shown ----------------------------------------------------------------------------

    @property
    def now(self) -> Scan:
        """The step that is shown."""
        return self.moves.scans[max(self.step, 0)]

    @property
    def asking(self) -> bool:
        """Whether the next step is a move that waits for a prediction."""
        following = self.step + 1
        return (
            self.predict
            and not self.free_play
            and self.step == self.reach
            and following < len(self.moves)
            and self.moves.scans[following].kind == "move"
        )

    def text(self) -> str:
        """Return the step, the scanners, the map, and the moves up to here."""
        lines = [text("compaction.title"), self._told(), self._scanners(), self._numbers(), ""]
        lines.append(self._map_text())
        moved = [scan for scan in self.moves.scans[: self.step + 1] if scan.kind == "move"]
        if moved:
            told = ", ".join(f"{scan.src:#x} → {scan.dst:#x}" for scan in moved[-16:])
            count = f"{len(moved):,}"
            lines += ["", text("compaction.moved", count=count, moves=told)]
        if self.asking:
            lines += ["", text("compaction.ask")]
        if self.verdict:
            lines += ["", str(self.verdict)]
        if self.predict:
            lines += [self._score()]
        return "\n".join([*lines, *filter(None, [self._message])])

    def _map_text(self) -> str:
        """Return the picture alone: the free lists have no known order between two moves."""
        return super().text().partition("\n\n" + text("page_map.text_owners"))[0]

    def _told(self) -> str:
        at = self._position()
        last = len(self.moves) - 1
        return text("page_map.step", step=at, last=last, what=self.moves.say(at))

    def _scanners(self) -> str:
        now = self.now
        if now.migrate < 0:
            return text("compaction.not_begun" if self.moves.moved else "compaction.none")
        return text("compaction.scanners", migrate=f"{now.migrate:#x}", free=f"{now.free - 1:#x}")

    def _numbers(self) -> str:
        """Return the largest free block now and at the start, and what was wanted."""
        first, end = self._limits()
        sizes = [
            text("compaction.no_block") if largest < 0 else order_text(largest)
            for largest in (
                largest_free(self.snapshot, first, end),
                largest_free(self.moves.before, first, end),
            )
        ]
        wanted = text("compaction.everything") if self.order is None else order_text(self.order)
        return text("compaction.numbers", now=sizes[0], before=sizes[1], wanted=wanted)

    def _score(self) -> str:
        return text("compaction.score", **self.counts)

    def _describe(self) -> str:
        return f"{self.moves.moved:,} pages moved; {self._told()}"

    # -- what the page tells ----------------------------------------------------------------------

    def act(self, do: str, **values: Any) -> None:
        """Do what a control of the view does.

        `forward`, `back` and `seek` (to) move through the steps, up to the next move that waits for
        a prediction; `commit` (src, dst, as typed), `unknown` and `free_play` (on) belong to it.

        Raises:
            ValueError: there is no such control; the message lists those there are.
        """
        controls: dict[str, Callable[[], None]] = {
            "forward": lambda: self._go(self.step + 1),
            "back": lambda: self._go(self.step - 1),
            "seek": lambda: self._go(int(values["to"])),
            "commit": lambda: self._commit(str(values["src"]), str(values["dst"])),
            "unknown": lambda: self._reveal(None),
            "free_play": lambda: self._set_free_play(bool(values["on"])),
        }
        if do not in controls:
            names = ", ".join(controls)
            raise ValueError(text("compaction.bad_control", control=do, controls=names))
        self._message = ""
        controls[do]()
        self._outbox.request()

    def _go(self, to: int) -> None:
        """Go to a step, or as near as the open question lets one go."""
        last = len(self.moves) - 1
        to = min(max(to, 0), last)
        while self.reach < to and not (self.step == self.reach and self.asking):
            self.reach += 1
            self.step = self.reach
        if self.step != min(to, self.reach):
            self.step = min(to, self.reach)
        elif self.asking and to > self.step:
            self._message = text("compaction.predict_first")

    def _commit(self, src: str, dst: str) -> None:
        try:
            said = parse_pfn(src), parse_pfn(dst)
        except ValueError as error:
            self._message = str(error)
        else:
            self._reveal(said)

    def _reveal(self, said: tuple[int, int] | None) -> None:
        """Judge a prediction, and show the move."""
        if not self.asking:
            self._message = text("compaction.nothing_asked")
            return
        scan = self.moves.scans[self.step + 1]
        self.verdict = judge(scan, said, self.moves.before, self.snapshot)
        name = {True: "right", False: "wrong", None: "unknown"}[self.verdict.right]
        self.counts[name] += 1
        self.reach += 1
        self.step = self.reach

    def _set_free_play(self, on: bool) -> None:
        unlocked = sum(self.counts.values()) > 0
        self.free_play = on and unlocked
        if self.free_play:
            self.reach = len(self.moves) - 1
        elif on:
            self._message = text("compaction.locked")

    def _asked(self, widget: object, content: dict[str, Any], buffers: object) -> None:
        """Answer the page, be it about the text twin or a control."""
        if "do" in content:
            values = dict(content)
            self.act(values.pop("do"), **values)
        else:
            super()._asked(widget, content, buffers)

    # -- to the browser ---------------------------------------------------------------------------

    def _send_frame(
        self, snapshot: Snapshot, zones: Sequence[ZoneSnapshot], first: int, end: int
    ) -> None:
        super()._send_frame(snapshot, zones, first, end)
        now = self.now
        self.scan = {
            "kind": now.kind,
            "migrate": now.migrate,
            "free": now.free,
            "first": now.first if now.kind in ("migrate", "free") else -1,
            "end": now.end,
            "src": now.src if now.kind == "move" else -1,
            "dst": now.dst,
        }
        verdict = self.verdict
        self.state = {
            "reach": self.reach,
            "scanners": self._scanners(),
            "numbers": self._numbers(),
            "predict": self.predict,
            "asking": self.asking,
            "verdict": verdict
            and {
                "right": verdict.right,
                "sentence": verdict.sentence,
                "idea": verdict.idea_name,
                "why": verdict.idea_text,
            },
            "score": self._score(),
            "message": self._message,
            "free_play": self.free_play,
            "unlocked": sum(self.counts.values()) > 0,
        }


def _run(source: Any, gfp: int | str, order: int | None, clone: bool) -> Moves:
    """Make the call that compacts, and return what it recorded."""
    kernel = source.clone() if clone else source
    if not kernel.history:
        kernel.record()
    before = kernel.snapshot()
    try:
        if order is None:
            kernel.compact_memory()
        else:
            kernel.alloc_pages(gfp, order)
    except RuntimeError:
        pass  # a request that never returns has its steps all the same
    step = kernel.history[-1]
    return Moves(before, step.events, step.snapshot, call=step.call, result=step.result,
                 why=step.why)  # fmt: skip
