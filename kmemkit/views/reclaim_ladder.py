"""ReclaimLadder: a request walks down the rungs of the slow path, alone or beside a second one.

Lessons write `ReclaimLadder(kernel, "GFP_ATOMIC")`, with `against="GFP_KERNEL"` for two roads from
one moment, or `table=True` for the table of masks. The learner predicts the end, then walks rung
by rung. Roads are walked on copies of the machine: the kernel that is given never changes.
`_ladder_model` reads the roads, `_ladder_quiz` judges; this file keeps the place and passes it on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import traitlets

from kmemkit.gfp import as_mask
from kmemkit.snapshot import Snapshot, order_text
from kmemkit.strings import text
from kmemkit.views._base import Follows, View, esm, refuse_unknown
from kmemkit.views._ladder_model import (
    Ladder,
    Other,
    Request,
    Road,
    checked_order,
    read_other,
    say,
    walk,
)
from kmemkit.views._ladder_page import ladder_state, table_state, verdict_state
from kmemkit.views._ladder_quiz import UNKNOWN, answers, judge
from kmemkit.views._ladder_table import MASKS, table_lines
from kmemkit.views._ladder_text import ladder_lines
from kmemkit.views.prediction import Verdict
from kmemkit.why import RoadDiff, Why

__all__ = ("ReclaimLadder",)


class ReclaimLadder(View):
    """The rungs of a request for pages, each with the inequality that decided.

    Args:
        source: a Kernel, whose present moment is the start of every road; or what is known
            already: a Why, two of them, or a RoadDiff.
        gfp: mask of the request, as an int or as names.
        order: log2 of the number of pages.
        against: a second request from the same moment: a mask, a pair (mask, order), or a function
            that changes one thing in the copy it is called with, such as a sysctl. If it returns a
            context manager (`lambda k: k.softirq()`), the request is made inside.
        table: show the table of masks against rungs, for the order that is chosen.
        predict: ask where a request ends before its road is shown.

    Raises:
        TypeError: `source` or `against` is none of these, or a keyword is unknown.
        ValueError: a mask or order that there is not, or an explanation without a road.
    """

    _esm = esm("common.js", "ladder_table.js", "reclaim_ladder.js")
    _sections: ClassVar[tuple[str, ...]] = ("ladder", "road")

    #: index of the stop that is looked at, and how many stops are told; the page sets both
    at = traitlets.Int(0).tag(sync=True)
    told = traitlets.Int(0).tag(sync=True)
    state = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        source: Follows | Why | RoadDiff | Sequence[Why],
        gfp: int | str = "GFP_KERNEL",
        order: int = 0,
        *,
        against: int | str | tuple[int | str, int] | Callable[[Any], Any] | None = None,
        table: bool = False,
        predict: bool = True,
        **unknown: Any,
    ) -> None:
        refuse_unknown(ReclaimLadder.__init__, unknown)
        self._machine = type(source) if isinstance(source, Follows) else None
        self._fixed = None if self._machine else _known_roads(source)
        as_mask(gfp)
        self.request = Request(gfp, checked_order(order))
        given = read_other(against)
        self._others = [*([given] if given else []), *(Other(gfp=mask) for mask in MASKS)]
        self._other: int | None = 0 if given else None
        self._masks = list(dict.fromkeys([*MASKS, gfp]))
        self._table, self._predict = table and self._fixed is None, predict
        self.counts = {"right": 0, "wrong": 0, "unknown": 0}
        self.message = ""
        self._waiting: asyncio.Handle | None = None
        self._forget()
        super().__init__()
        self.observe(self._walked, ["at", "told"])
        self.on_msg(self._on_msg)
        if isinstance(source, Follows):
            self.follow(source)
        self._outbox.flush()

    # -- the moment, and the roads from it --------------------------------------------------------

    def show(self, snapshot: Snapshot) -> None:
        """Walk the roads from `snapshot`, until the next one or a change of a followed kernel.

        Raises:
            ValueError: the ladder was made of roads that are known already.
        """
        if self._fixed:
            raise ValueError(text("ladder.needs_kernel"))
        self._snapshot = snapshot
        self._soon()

    def _kernel_changed(self) -> None:
        self._snapshot = None
        self._soon()

    def _soon(self) -> None:
        """Walk anew once the cell that moves the machine is over, or when somebody looks.

        A road costs more than a picture, and a cell may make thousands of calls.
        """
        self._forget()
        if self._waiting is None:
            try:
                self._waiting = asyncio.get_running_loop().call_soon(self._outbox.flush)
            except RuntimeError:
                return  # nobody can see the page before text() is asked for

    def _forget(self) -> None:
        """A new moment: no road is walked and nothing is predicted yet."""
        self._roads: dict[tuple[Request, int | None], Road] = {}
        self._verdicts: dict[tuple[Request, int | None], Verdict] = {}
        self._said: dict[tuple[Request, int | None], str] = {}
        self._done: set[tuple[Request, int | None]] = set()
        self._placed = False

    @property
    def _key(self) -> tuple[Request, int | None]:
        """What the question is about: the request, and the other one it is compared with."""
        return self.request, self._other

    def _road(self, request: Request, other: int | None = None) -> Road:
        """Return the road of a request from this moment; walk it if nobody has yet."""
        key = (request, other)
        if key not in self._roads:
            chosen = Other() if other is None else self._others[other]
            label = text("ladder.changed") if chosen.change else ""
            made = chosen.request(request)
            self._roads[key] = walk(self._machine, self.snapshot, made, chosen.change, label)
        return self._roads[key]

    @property
    def ladder(self) -> Ladder:
        """The road, or the two roads, from this moment; also before they are shown."""
        if self._fixed:
            return self._fixed
        first = self._road(self.request)
        if self._other is None:
            return Ladder((first,))
        return Ladder((first, self._road(*self._key)))

    @property
    def asking(self) -> bool:
        """Whether the end waits for a prediction."""
        return self._predict and self._key not in self._verdicts

    @property
    def question(self) -> str:
        """What is asked before the walk."""
        first, *second = self.ladder.roads
        if not second:
            return text("ladder.ask", request=say(first))
        return text("ladder.ask_other", end=first.ending, request=say(second[0]))

    @property
    def verdict(self) -> Verdict | None:
        """What came of the prediction; None until the road is told to its end."""
        self._place()
        whole = not self.asking and self.told == len(self.ladder.stops)
        return self._verdicts.get(self._key) if whole else None

    # -- what the page tells ----------------------------------------------------------------------

    def act(self, do: str, **values: Any) -> None:
        """Do what a control of the page does.

        `gfp`, `order` and `against` (all `to`: a position in the list of masks, an order, a
        position in the list of comparisons or -1) choose the request; `commit` (answer) predicts
        its end; `open` (mask, rung) goes from the table to a road; `reveal` shows the whole table.

        Raises:
            ValueError: there is no such control; the message lists those there are.
        """
        (gfp, order), other = self.request, int(values.get("to", -1))
        controls: dict[str, Callable[[], None]] = {
            "gfp": lambda: self._go(Request(self._masks[int(values["to"])], order), self._other),
            "order": lambda: self._go(Request(gfp, checked_order(int(values["to"]))), self._other),
            "against": lambda: self._go(self.request, other if other >= 0 else None),
            "commit": lambda: self._commit(str(values["answer"])),
            "open": lambda: self._open_cell(str(values["mask"]), str(values["rung"])),
            "reveal": self._reveal,
        }
        if do not in controls:
            raise ValueError(text("ladder.bad_control", control=do, controls=", ".join(controls)))
        self.message = text("ladder.needs_kernel") if self._fixed and do != "commit" else ""
        if not self.message:
            controls[do]()
        self._outbox.request()

    def _go(self, request: Request, other: int | None) -> None:
        """Take another request, or another one to compare it with."""
        self.request, self._other, self._placed = request, other, False

    def _commit(self, answer: str) -> None:
        """Record a prediction, and start the walk."""
        if not self.asking:
            self.message = text("ladder.nothing_asked")
        elif answer not in answers():
            self.message = text("ladder.choose_first")
        else:
            verdict = judge(self.ladder.roads[-1], answer)
            self._verdicts[self._key], self._said[self._key] = verdict, answer
            self.counts[{True: "right", False: "wrong", None: "unknown"}[verdict.right]] += 1
            self._placed = False

    def _open_cell(self, mask: str, rung: str) -> None:
        """Show the road of a row of the table, at a rung."""
        self._go(Request(mask, self.request.order), None)
        self._place()
        if not self.asking and self._key in self._done:
            self.at = self.ladder.find(rung)

    def _reveal(self) -> None:
        """Show every row of the table; what was not predicted counts as not known."""
        for mask in MASKS:
            key = (Request(mask, self.request.order), None)
            if self._predict and key not in self._verdicts:
                self._verdicts[key] = judge(self._road(key[0]), UNKNOWN)
                self.counts["unknown"] += 1
            self._done.add(key)
        self._placed = False

    def _on_msg(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        values = dict(content)
        self.act(values.pop("do"), **values)

    # -- the place on the walk --------------------------------------------------------------------

    def _place(self) -> None:
        """Start the walk of a road that is new here: at its first rung after a prediction."""
        if self._placed:
            return
        self._placed = True
        last = len(self.ladder.stops)
        if self.asking:
            self.at, self.told = 0, 0
        elif self._predict and self._key not in self._done:
            self.at, self.told = 0, 1
        else:
            self.at, self.told = last - 1, last
        self._note_end()

    def _walked(self, _change: object) -> None:
        """Keep the place on the ladder, whatever was set."""
        if not self._placed:
            return
        last = 0 if self.asking else len(self.ladder.stops)
        at = max(0, min(self.at, last - 1))
        told = max(min(self.told, last), at + 1 if last else 0)
        self.set_trait("at", at)
        self.set_trait("told", told)
        if self._note_end() and self._table:
            self._outbox.request()

    def _note_end(self) -> bool:
        """Remember a road that is told to its end; the table has its row from then on."""
        whole = not self.asking and self.told == len(self.ladder.stops)
        new = whole and self._key not in self._done
        if new:
            self._done.add(self._key)
        return new

    # -- showing ----------------------------------------------------------------------------------

    def text(self) -> str:
        """Return the table if there is one, the question, or the road as far as it is told."""
        self._place()
        lines = table_lines(self._rows(), self.request.order) if self._table else []
        if self._table:
            lines.append("")
        if self.asking:
            lines += [self.question, *(f"  {label}" for label in answers().values())]
        else:
            lines += ladder_lines(self.ladder, self.told)
        lines += str(self.verdict or "").split("\n")
        if self._predict:
            lines.append(text("ladder.score", **self.counts))
        return "\n".join([*filter(None, lines), *filter(None, [self.message])])

    def _describe(self) -> str:
        self._place()
        where = text("ladder.where", told=self.told, all=len(self.ladder.stops))
        requests = "; ".join(road.title for road in self.ladder.roads)
        return f"{requests}; {text('ladder.asked') if self.asking else where}"

    def _rows(self) -> dict[str, Road | None]:
        """Return the table's rows; None where the end is yet to be predicted."""
        keys = {mask: (Request(mask, self.request.order), None) for mask in MASKS}
        return {
            mask: None if self._predict and key not in self._done else self._road(key[0])
            for mask, key in keys.items()
        }

    def close(self) -> None:
        """Stop following, and take the widget off the page."""
        # ipywidgets closes every widget at exit, also one whose __init__ raised half way.
        waiting = getattr(self, "_waiting", None)
        if waiting is not None:
            waiting.cancel()
        super().close()

    def _publish(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._scaled = [] if self._fixed else list(self.snapshot.scaled)
        self._fill()

    def _fill(self) -> None:
        # In one message: the page must not look for a place on a road it does not know yet.
        with self.hold_sync():
            self._place()
            shown = not self.asking
            verdict = self._verdicts.get(self._key) if shown else None
            self.state = ladder_state(self.ladder, shown) | {
                "question": "" if shown else self.question,
                "answers": list(answers().items()),
                "said": self._said.get(self._key, ""),
                "verdict": verdict_state(verdict),
                "score": text("ladder.score", **self.counts) if self._predict else "",
                "message": self.message,
                "controls": self._controls(),
                "table": table_state(self._rows(), self.request.order) if self._table else None,
            }

    def _controls(self) -> dict[str, Any] | None:
        """Return what can be chosen, and what is; None for roads that are known already."""
        if self._fixed:
            return None
        orders = range(max(zone.max_order for zone in self.snapshot.zones) + 1)
        return {
            "masks": [Request(mask, 0).names for mask in self._masks],
            "mask": self._masks.index(self.request.gfp),
            "orders": [order_text(order) for order in orders],
            "order": self.request.order,
            "others": [other.label for other in self._others],
            "other": -1 if self._other is None else self._other,
        }


def _known_roads(source: object) -> Ladder:
    """Return the ladder of what is explained already."""
    if isinstance(source, RoadDiff):
        source = (source.a, source.b)
    roads = (source,) if isinstance(source, Why) else source
    known = isinstance(roads, Sequence) and all(isinstance(road, Why) for road in roads)
    if not isinstance(roads, Sequence) or not known or not 1 <= len(roads) <= 2:
        raise TypeError(text("ladder.bad_source", given=type(source).__name__))
    return Ladder(tuple(map(Road.read, roads)))
