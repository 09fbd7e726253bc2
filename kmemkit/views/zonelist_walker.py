"""ZonelistWalker: nodes and zones as a stack, and one request that walks down its zonelist.

Notebooks make one over a kernel, `ZonelistWalker(kernel, gfp="GFP_KERNEL", order=3)`. The request
is made on a clone, so nothing happens to the kernel that is followed; what is told, one decision a
step, is that run's own explanation. With `predict=True` the learner first says which zone serves.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import traitlets

from kmemkit.gfp import decode, encode
from kmemkit.snapshot import Snapshot, Why, order_text
from kmemkit.strings import text
from kmemkit.views._base import Follows, View, esm, refuse_unknown
from kmemkit.views._zonelist_rows import row
from kmemkit.views.prediction import Verdict
from kmemkit.views.zonelist_plan import Plan, Request, request_of
from kmemkit.views.zonelist_quiz import UNKNOWN, answers, judge

__all__ = ("ZonelistWalker",)

#: Requests the view offers: one for each highest zone, and one for each depth of the reserves.
CHOICES = (
    "GFP_KERNEL",
    "GFP_ATOMIC",
    "GFP_NOWAIT",
    "GFP_HIGHUSER_MOVABLE",
    "GFP_DMA32|GFP_KERNEL",
    "GFP_DMA|GFP_KERNEL",
    "GFP_KERNEL|__GFP_THISNODE",
)
SIZES = ("spanned", "present", "managed")
_MAX_ORDER = 10


class ZonelistWalker(View):
    """A request's way along its zonelist, with the inequality of every zone it tries.

    Args:
        source: a Kernel to follow (clones of it make the request), or a Snapshot with `why`.
        gfp: the request's mask.
        order: the request's order.
        nid: node it starts from; by default that of the CPU that runs.
        why: show this explanation instead of making the request; its call says mask and order. Give
            it with the Snapshot before the request.
        predict: ask which zone serves before anything is told.

    Raises:
        TypeError: `source` is neither, or a keyword is unknown.
        ValueError: no such mask, order or node, or `why` is about no request for pages.
    """

    _esm = esm("common.js", "zonelist_walker.js")
    _sections: ClassVar[tuple[str, ...]] = ("zonelist",)

    state = traitlets.Dict().tag(sync=True)
    #: number of decisions told
    step = traitlets.Int(0)
    #: the request; setting one of these makes it anew
    gfp = traitlets.Unicode()
    order = traitlets.Int(0, min=0, max=_MAX_ORDER)
    nid = traitlets.Int(0)

    def __init__(
        self,
        source: Snapshot | Follows,
        *,
        gfp: int | str = "GFP_KERNEL",
        order: int = 0,
        nid: int | None = None,
        why: Why | None = None,
        predict: bool = False,
        **unknown: Any,
    ) -> None:
        refuse_unknown(ZonelistWalker.__init__, unknown)
        can_run = isinstance(source, Follows) and hasattr(source, "from_snapshot")
        if not (can_run or (isinstance(source, Snapshot) and why is not None)):
            raise TypeError(text("zonelist.bad_source", given=type(source).__name__))
        #: makes machines of snapshots: the kernel that was given, if one was
        maker: Any = source if can_run else None
        self._maker = maker
        self._why, self._predict = why, predict
        self._plan: Plan | None = None
        self._said = ""
        self.counts = {"right": 0, "wrong": 0, "unknown": 0}
        if nid is None:
            nid = maker.numa_node_id() if can_run else 0
        if why is not None:
            gfp, order = request_of(why)
        names = decode(gfp) if isinstance(gfp, int) else gfp
        super().__init__(gfp=names, order=order)
        self._open(source)
        self.nid = nid
        self._request_set(None)
        self.observe(self._request_set, ("gfp", "order", "nid"))
        self.observe(self._step_set, "step")
        self.on_msg(self._on_msg)

    # -- the walk ---------------------------------------------------------------------------------

    @property
    def _arch(self) -> str:
        return str(self.snapshot.settings.get("arch", "x86_64"))

    @property
    def request(self) -> Request:
        """The request that walks."""
        return Request(encode(self.gfp), self.order, self.nid, self._arch)

    @property
    def plan(self) -> Plan:
        """The whole walk, told or not."""
        if self._plan is None:
            snapshot, why = self.snapshot, self._why
            if why is None:
                machine = self._maker.from_snapshot(snapshot)
                machine.record(1)
                # A BUG, a panic or an endless loop ends the call; the way there is told.
                with suppress(RuntimeError):
                    machine.alloc_pages(self.request.gfp, self.order, nid=self.nid)
                why = machine.why()
            self._plan = Plan.of(snapshot, self._zonelist(), self.request, why)
        return self._plan

    def _zonelist(self) -> list[tuple[int, int]]:
        """Return (node, zone index) of every place of the list: the kernel's own, if there is one.

        Without one, other nodes follow in the order of their numbers: so they do on two nodes.
        """
        if self._maker is not None:
            return [(zone.nid, zone.idx) for zone in self._maker.zonelist(self.nid, False)]
        zones = [zone for zone in self.snapshot.zones if zone.present]
        zones.sort(key=lambda zone: (zone.nid != self.nid, zone.nid, -zone.idx))
        return [(zone.nid, zone.idx) for zone in zones]

    @property
    def asking(self) -> bool:
        """Whether a prediction is waited for, so that nothing may be told."""
        return self._predict and not self._said

    @property
    def verdict(self) -> Verdict | None:
        """What came of the prediction; None until the walk is told to its end."""
        if not self._said or self.step < len(self.plan.moves):
            return None
        return judge(self.plan, self._said)

    def answer(self, answer: str) -> None:
        """Record a prediction: the place of the list as a number, "nobody" or "unknown".

        Raises:
            ValueError: it is none of these, or nothing is asked; the message lists the answers.
        """
        known = answers(self.plan)
        if answer not in known or not self.asking:
            raise ValueError(text("zonelist.bad_answer", answer=answer, answers=", ".join(known)))
        self._said = answer
        right = judge(self.plan, answer).right
        self.counts[{True: "right", False: "wrong", None: "unknown"}[right]] += 1
        self._outbox.request()

    def move(self, do: str, to: int = 0) -> None:
        """Make one move: forward, back, start, end, seek (to a number of decisions), ask (anew).

        Raises:
            ValueError: there is no such move; the message lists those there are.
        """
        moves: dict[str, Callable[[], int]] = {
            "forward": lambda: self.step + 1,
            "back": lambda: self.step - 1,
            "start": lambda: 0,
            "end": lambda: len(self.plan.moves),
            "seek": lambda: to,
            "ask": lambda: 0,
        }
        if do not in moves:
            raise ValueError(text("zonelist.bad_move", move=do, moves=", ".join(moves)))
        if do == "ask":
            self._said = ""
        self.step = moves[do]()
        self._outbox.request()

    # -- text -------------------------------------------------------------------------------------

    def text(self) -> str:
        """Return the request, the list as a table, and every decision told so far."""
        plan = self.plan
        lines = [self._head(), *self._table()]
        if self.asking:
            return "\n".join([*lines, self._question()])
        part = -1
        for number, move in enumerate(plan.moves[: self.step], 1):
            if move.part != part and plan.titles:
                part = move.part
                lines.append(f"{plan.titles[part]}:")
            lines.append(f"  {number}. {move.says}")
        if self.step < len(plan.moves):
            lines.append(text("zonelist.more", told=self.step, all=len(plan.moves)))
        return "\n".join([*lines, *self._judged()])

    def _head(self) -> str:
        head = text("zonelist.head", call=self.request.call, nid=self.nid)
        return f"{head}: {text('zonelist.highest', zone=self.request.highest_name)}"

    def _question(self) -> str:
        return text("zonelist.ask", call=self.request.call, nid=self.nid)

    def _judged(self) -> list[str]:
        """Return what came of the prediction, as lines."""
        if not self._said:
            return []
        verdict = self.verdict
        said = text("zonelist.said", said=answers(self.plan)[self._said])
        return [str(verdict) if verdict else said, text("zonelist.score", **self.counts)]

    def _table(self) -> list[str]:
        """Return the list as a table, every column as wide as it must be."""
        plan = self.plan
        states, looks = plan.states(self.step), plan.checks(self.step)
        own = ["own"] if any(entry.marks.reduced for entry in plan.entries) else []
        columns = [*SIZES, "free", *own, "min", "low", "high", "reserve"]
        rows = [["", *(text(f"zonelist.column.{name}") for name in columns)]]
        for place, entry in enumerate(plan.entries):
            free = looks[place].free if place in looks else entry.zone.free_est
            of = {"free": free} | {name: getattr(entry.zone, name) for name in SIZES}
            cells = (of.get(n, getattr(entry.marks, n, 0)) for n in columns)
            rows.append([f"{place + 1}. {entry.name}", *(f"{cell:,}" for cell in cells)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
            for line in rows
        ]
        said = [text("zonelist.column.state")]
        for place, state in enumerate(states):
            shown = row(plan, place, state, looks.get(place), False)
            said.append(f"{shown['badge']} {shown['brief']}")
        return [f"{line}  {what}".rstrip() for line, what in zip(lines, said, strict=True)]

    def _describe(self) -> str:
        where = text("zonelist.where", told=self.step, all=len(self.plan.moves))
        return f"{self.request.call}, {where}"

    # -- keeping everybody up to date -------------------------------------------------------------

    def show(self, snapshot: Snapshot) -> None:
        """Show the request as `snapshot` would take it."""
        self._plan = None
        super().show(snapshot)
        self._settle()

    def _kernel_changed(self) -> None:
        self._plan = None
        super()._kernel_changed()
        self._settle()

    def _settle(self) -> None:
        """Go to where a new walk opens: to its end, or to its start where there is a question."""
        self._said = ""
        self.step = 0 if self._predict else len(self.plan.moves)
        self._outbox.request()

    @traitlets.validate("step")
    def _in_walk(self, proposal: Any) -> int:
        last = 0 if self.asking else len(self.plan.moves)
        return min(max(int(proposal["value"]), 0), last)

    @traitlets.validate("gfp")
    def _known_mask(self, proposal: Any) -> str:
        encode(proposal["value"])  # says what is wrong with it
        return str(proposal["value"])

    @traitlets.validate("nid")
    def _known_node(self, proposal: Any) -> int:
        nids = sorted({zone.nid for zone in self.snapshot.zones if zone.present})
        if proposal["value"] not in nids:
            there = ", ".join(map(str, nids))
            raise ValueError(text("zonelist.bad_nid", nid=proposal["value"], there=there))
        return int(proposal["value"])

    def _request_set(self, _change: object) -> None:
        self._plan = None
        self._settle()

    def _step_set(self, _change: object) -> None:
        self._outbox.request()

    def _on_msg(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        """Take the reader's clicks and keys."""
        do, value = content["do"], content.get("to", 0)
        if do == "answer":
            self.answer(str(value))
        elif do in ("gfp", "order", "nid"):
            self.set_trait(do, value if do == "gfp" else int(value))
        else:
            self.move(do, int(value))

    def _fill(self) -> None:
        plan = self.plan
        told = plan.moves[: self.step]
        part = told[-1].part if told else -1
        states, looks = plan.states(self.step), plan.checks(self.step)
        here = told[-1].entry if told else None
        verdict = self.verdict
        masks = list(dict.fromkeys((*CHOICES, self.gfp)))
        self.state = {
            "head": self._head(),
            "fixed": self._why is not None,
            "gfps": [[mask, mask] for mask in masks],
            "orders": [[str(order), order_text(order)] for order in range(_MAX_ORDER + 1)],
            "nids": [[str(nid), str(nid)] for nid in sorted({z.nid for z in self.snapshot.zones})],
            "gfp": self.gfp,
            "order": str(self.order),
            "nid": str(self.nid),
            "rows": [
                row(plan, place, states[place], looks.get(place), place == here)
                for place in range(len(plan.entries))
            ],
            "asking": self.asking,
            "question": self._question(),
            "answers": list(map(list, answers(plan).items())),
            "said": "" if not self._said else text("zonelist.said", said=answers(plan)[self._said]),
            "unknown": UNKNOWN,
            "verdict": {
                "right": verdict.right,
                "sentence": verdict.sentence,
                "idea": verdict.idea_name,
                "why": verdict.idea_text,
            }
            if verdict
            else None,
            "score": text("zonelist.score", **self.counts) if self._predict else "",
            "part": plan.titles[part] if told and plan.titles else "",
            "first": next((n for n, m in enumerate(told) if m.part == part), 0),
            "lines": [move.says for move in told if move.part == part],
            "step": self.step,
            "last": len(plan.moves),
            "where": text("zonelist.where", told=self.step, all=len(plan.moves)),
            "text": self.text(),
        }
