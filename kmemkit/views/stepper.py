"""Stepper: walks a recorded history call by call, and through each call decision by decision.

Notebooks make one over `kernel.history`, or over the kernel itself; BuddyLab has one below its
map. `Walk` is the position and its moves, without a widget. Views handed to `drive()` show the
machine as it is at that position: before a call while its decisions are read, after it then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import traitlets

from kmemkit.snapshot import Snapshot, Step
from kmemkit.strings import text
from kmemkit.views._base import Follows, Shown, View, esm, history_of, refuse_unknown

__all__ = ("Stepper", "Walk")


class Walk:
    """A position in a list of steps, and within a step the number of decisions told so far.

    With `whole` every move is a whole step; else forward tells one decision at a time, and the
    result comes with the last one.
    """

    def __init__(self, steps: Sequence[Step], at: int = 0, whole: bool = False) -> None:
        self.steps = list(steps)
        self.whole = whole
        self.note = ""
        self.index = 0
        self.told = 0
        self.seek(at)

    @property
    def step(self) -> Step | None:
        """The step at the position, None in an empty history."""
        return self.steps[self.index] if self.steps else None

    @property
    def last(self) -> int:
        """The index of the last step, 0 in an empty history."""
        return max(len(self.steps) - 1, 0)

    @property
    def reasons(self) -> list[str]:
        """Every decision of the step, told or not."""
        step = self.step
        return step.why.lines() if step and step.why else []

    @property
    def complete(self) -> bool:
        """Whether every decision of the step is told, and so its result shown."""
        return self.told >= len(self.reasons)

    @property
    def at_start(self) -> bool:
        """Whether nothing comes before the position."""
        return self.index == 0 and (self.told == 0 or self.whole or not self.reasons)

    @property
    def at_end(self) -> bool:
        """Whether nothing comes after the position."""
        return self.index == self.last and self.complete

    @property
    def snapshot(self) -> Snapshot | None:
        """The machine to show: after the step once it is complete, before it until then."""
        if not self.steps:
            return None
        return self.steps[self.index if self.complete else max(self.index - 1, 0)].snapshot

    @property
    def failing(self) -> list[int]:
        """The indices of all steps that failed."""
        return [index for index, step in enumerate(self.steps) if not step.ok]

    def forward(self) -> None:
        """Tell the next decision, or go into the next step."""
        self.note = ""
        if not self.complete:
            self.told += 1
        elif self.index < self.last:
            self.index += 1
            self.told = len(self.reasons) if self.whole else 0

    def back(self) -> None:
        """Take back the last decision told, or go to the end of the step before."""
        self.note = ""
        if self.told and not self.whole:
            self.told -= 1
        elif self.index:
            self.seek(self.index - 1)

    def seek(self, index: int) -> None:
        """Go to the end of a step; an index outside the history goes to its nearest end."""
        self.note = ""
        self.index = min(max(index, 0), self.last)
        self.told = len(self.reasons)

    def set_whole(self, whole: bool) -> None:
        """Choose whole steps or single decisions; the step at the position is told in full."""
        self.whole = whole
        self.seek(self.index)

    def next_failing(self) -> None:
        """Go to the next step that failed, from the last one on to the first."""
        failing = self.failing
        later = [index for index in failing if index > self.index]
        if not failing:
            self.note = text("stepper.none_failed")
        elif later:
            self.seek(later[0])
        else:
            self.seek(failing[0])
            self.note = text("stepper.wrapped", step=failing[0])

    def renew(self, steps: Sequence[Step]) -> None:
        """Take a history that grew, shrank or was started anew.

        A walk at the end stays at the end; any other stays at its step while that is still there.
        """
        here, at_end, told = self.step, self.at_end, self.told
        self.steps = list(steps)
        found = next((n for n, step in enumerate(self.steps) if step is here), None)
        self.seek(self.last if at_end or found is None else found)
        if not at_end and found is not None:
            self.told = told

    def where(self) -> str:
        """Return the position as text."""
        if not self.steps:
            return text("stepper.empty")
        key = "stepper.where" if self.index else "stepper.where_start"
        return text(key, step=self.index, last=self.last)

    def head(self) -> str:
        """Return the call, and its result once it is told."""
        step = self.step
        if step is None:
            return ""
        return (
            f"{step.call} -> {step.result if self.complete else '?'}" if step.result else step.call
        )


class Stepper(View):
    """Back, forward, run and scrub through a history, with the reasons of every call.

    Args:
        source: a list of Steps such as `kernel.history`, or a Kernel that records, to follow.
        views: views to drive; they show the machine at the position from now on.
        whole: move by whole steps instead of single decisions.
        at: index of the step to open on; by default the first of a list, the last of a Kernel.

    Raises:
        TypeError: `source` is neither, or a keyword is unknown.
    """

    _esm = esm("common.js", "stepper.js")
    _sections: ClassVar[tuple[str, ...]] = ("stepper",)

    state = traitlets.Dict().tag(sync=True)
    #: index of the step at the position; setting it seeks
    step = traitlets.Int(0)

    def __init__(
        self,
        source: Sequence[Step] | Follows,
        *,
        views: Sequence[Shown] = (),
        whole: bool = False,
        at: int | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(Stepper.__init__, unknown)
        steps = history_of(source) if isinstance(source, Follows) else source
        if not isinstance(steps, Sequence) or not all(isinstance(step, Step) for step in steps):
            raise TypeError(text("stepper.bad_source", given=type(source).__name__))
        last = len(steps) - 1 if isinstance(source, Follows) else 0
        self.walk = Walk(steps, last if at is None else at, whole)
        self._views: list[Shown] = []
        super().__init__()
        self.observe(self._step_set, "step")
        self.on_msg(self._on_msg)
        if isinstance(source, Follows):
            self.follow(source)
        self._moved()
        self.drive(*views)

    @property
    def snapshot(self) -> Snapshot:
        """The machine at the position; of a kernel that records nothing, the machine now."""
        return self.walk.snapshot or super().snapshot

    def drive(self, *views: Shown) -> None:
        """Let these views show the machine at the position; they stop following anything else."""
        for view in views:
            view.unfollow()
            view.show(self.snapshot)
        self._views += views

    def move(self, do: str, to: int = 0) -> None:
        """Make one move: forward, back, start, end, failing, whole, or seek (to a step's index).

        Raises:
            ValueError: there is no such move; the message lists those there are.
        """
        walk = self.walk
        moves: dict[str, Callable[[], None]] = {
            "forward": walk.forward,
            "back": walk.back,
            "start": lambda: walk.seek(0),
            "end": lambda: walk.seek(walk.last),
            "failing": walk.next_failing,
            "whole": lambda: walk.set_whole(not walk.whole),
            "seek": lambda: walk.seek(to),
        }
        if do not in moves:
            raise ValueError(text("stepper.bad_move", move=do, moves=", ".join(moves)))
        moves[do]()
        self._moved()

    def text(self) -> str:
        """Return the position, the call, what is told of its reasons, and its result."""
        walk = self.walk
        told = [f"  {n}. {line}" for n, line in enumerate(walk.reasons[: walk.told], 1)]
        lines = [walk.where(), *filter(None, [walk.head()]), *told]
        if not walk.complete:
            lines.append(text("stepper.more", told=walk.told, all=len(walk.reasons)))
        return "\n".join([*lines, *filter(None, [walk.note])])

    def export(self) -> str:
        """Return the whole history as text: every call with its result, reasons and events."""
        lines = []
        for index, step in enumerate(self.walk.steps):
            head = f"{step.call} -> {step.result}" if step.result else step.call
            lines.append(f"{index}. {head}")
            lines += [f"     {line}" for line in (step.why.lines() if step.why else [])]
            lines += [f"     | {event}" for event in step.events]
        return "\n".join(lines) + "\n"

    def _describe(self) -> str:
        return self.walk.where()

    # -- keeping everybody up to date -------------------------------------------------------------

    def _kernel_changed(self) -> None:
        self._snapshot = None
        if self._kernel is not None:
            self.walk.renew(history_of(self._kernel))
        self._moved()

    def _moved(self) -> None:
        """Tell the page and the driven views where the walk is now."""
        self.set_trait("step", self.walk.index)
        for view in self._views:
            view.show(self.snapshot)
        self._outbox.request()

    def _step_set(self, change: Any) -> None:
        if change["new"] != self.walk.index:
            self.move("seek", change["new"])

    def _on_msg(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        """Take the reader's clicks and keys."""
        if content["do"] == "export":
            self.send({"export": self.export()})
        else:
            self.move(content["do"], int(content.get("to", 0)))

    def _fill(self) -> None:
        walk, step = self.walk, self.walk.step
        self.state = {
            "where": walk.where(),
            "index": walk.index,
            "last": walk.last,
            "call": step.call if step else "",
            "result": step.result if step and walk.complete else "",
            "pending": not walk.complete,
            "ok": step.ok if step and walk.complete else True,
            "reasons": walk.reasons[: walk.told],
            "events": [str(event) for event in step.events] if step and walk.complete else [],
            "more": ""
            if walk.complete
            else text("stepper.more", told=walk.told, all=len(walk.reasons)),
            "note": walk.note,
            "whole": walk.whole,
            "at_start": walk.at_start,
            "at_end": walk.at_end,
            "failing": len(walk.failing),
        }
