"""A view that goes through recorded steps: the `step` trait, and the machine after that step.

PageMap and SlabMap are such views; static/history_bar.js is what a reader moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import traitlets

from kmemkit.snapshot import Step
from kmemkit.strings import text
from kmemkit.views._base import View, history_of

__all__ = ("Scrubbed",)


class Scrubbed(View):
    """A view of one machine, now or after any step of a history.

    Args:
        history: the steps; those of the followed kernel where it is empty.
        **traits: as for every view.
    """

    step = traitlets.Int(-1, help="index of the shown step, -1 for none").tag(sync=True)

    _steps = traitlets.Int(0).tag(sync=True)
    _step_text = traitlets.Unicode().tag(sync=True)

    #: the sentence that tells a step, with the fields step, last and what
    _step_key: ClassVar[str]

    def __init__(self, history: Sequence[Step], **traits: Any) -> None:
        self._given = history
        self._at: int | None = None  # None: the newest step
        super().__init__(**traits)

    def _history(self) -> Sequence[Step]:
        return self._given or history_of(self._kernel)

    def _position(self) -> int:
        """Return the index of the shown step, -1 without a history."""
        return len(self._history()) - 1 if self._at is None else self._at

    def _told(self) -> str:
        """Return the shown step as a line of text, "" without a history."""
        steps, at = self._history(), self._position()
        if at < 0:
            return ""
        step = steps[at]
        last = len(steps) - 1
        what = f"{step.call} → {step.result}" if step.result else step.call
        return text(self._step_key, step=at, last=last, what=what)

    @traitlets.validate("step")
    def _check_step(self, proposal: dict[str, Any]) -> int:
        step, count = proposal["value"], len(self._history())
        if not (0 <= step < count or step == -1 == count - 1):
            there = f"0 to {count - 1}" if count else "none, as nothing was recorded"
            raise ValueError(f"step={step}: the steps here are {there}")
        return int(step)

    @traitlets.observe("step")
    def _step_moved(self, change: dict[str, Any]) -> None:
        steps = self._history()
        if change["new"] == self._position():
            return
        self._at = change["new"]
        if self._at == len(steps) - 1 and self._kernel is not None:
            self._kernel_changed()
        else:
            self.show(steps[self._at].snapshot)

    def _kernel_changed(self) -> None:
        self._at = None
        super()._kernel_changed()

    def _send_step(self) -> None:
        """Set the traits that tell the position; part of _fill()."""
        self._steps = len(self._history())
        self.step = self._position()
        self._step_text = self._told()
