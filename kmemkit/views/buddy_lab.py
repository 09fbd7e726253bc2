"""BuddyLab: page map, free areas and stepper around one kernel; a question before each request.

Lessons write `BuddyLab(kernel, seed=7)`. The learner chooses a request and predicts what comes
back before the kernel acts; then the views show it and the verdict names the idea behind a wrong
answer. `lab_model.BuddyLabModel` keeps the books, `prediction` judges; this file lays out widgets
and passes clicks on. The kernel is the caller's: nothing here makes one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import ipywidgets
import traitlets

from kmemkit.snapshot import MIGRATE_NAMES, order_text
from kmemkit.strings import text
from kmemkit.views._base import Composite, Follows, Panel, esm, refuse_unknown
from kmemkit.views.free_areas import FreeAreas
from kmemkit.views.lab_model import CHOICES, OWNERS, BuddyLabModel, migratetype_of
from kmemkit.views.page_map import PageMap
from kmemkit.views.prediction import Answer, parse_answer
from kmemkit.views.stepper import Stepper

__all__ = ("BuddyLab",)


class _BuddyLabPanel(Panel):
    """The lab's controls, its question and its verdict."""

    _esm = esm("common.js", "buddy_lab.js")
    _sections: ClassVar[tuple[str, ...]] = ("buddy_lab",)

    state = traitlets.Dict().tag(sync=True)


class BuddyLab(Composite):
    """A kernel to play with: predict, act, see why, step back.

    Args:
        kernel: what to play with: alloc_pages, free_pages, snapshot, restore, record, history and
            listeners are used. The lab starts its recording.
        seed: fill the world with a seeded mix of blocks first; None leaves it as it is.

    Raises:
        TypeError: `kernel` is not one, or a keyword is unknown.
    """

    #: pfn of the selected page; the map, the free areas and the Free button share it
    selected = traitlets.Int(None, allow_none=True)

    def __init__(self, kernel: Any, *, seed: int | None = None, **unknown: Any) -> None:
        refuse_unknown(BuddyLab.__init__, unknown)
        if not isinstance(kernel, Follows):
            raise TypeError(text("buddy_lab.bad_kernel", given=type(kernel).__name__))
        self.model = BuddyLabModel(kernel, seed)
        self.map = PageMap(kernel.snapshot())
        self.areas = FreeAreas(kernel.snapshot())
        self.stepper = Stepper(kernel, views=(self.map, self.areas))
        self._panel = _BuddyLabPanel()
        columns = [
            ipywidgets.Box(pair) for pair in ((self.map, self.stepper), (self.areas, self._panel))
        ]
        for column in columns:
            column.add_class("km-column")
        super().__init__(children=columns)
        self.add_class("kmemkit")
        self.add_class("km-lab")
        for view in (self.map, self.areas):
            traitlets.link((self, "selected"), (view, "selected"))
        self.stepper.observe(self._changed, "state")
        self.observe(self._changed, "selected")
        self._panel.on_msg(self._on_msg)
        self.follow(kernel)

    def text(self) -> str:
        """Return the lab's books and then the text of each of its views."""
        parts = ["\n".join(self.model.lines())]
        parts += [view.text() for view in (self.map, self.areas, self.stepper)]
        return "\n\n".join(parts)

    def _describe(self) -> str:
        return f"{self.stepper.walk.where()}; {self.model.score()}"

    # -- what the panel tells ---------------------------------------------------------------------

    def act(self, do: str, **values: Any) -> None:
        """Do what a control of the panel does.

        `allocate` (gfp, order, owner) and `free` ask, or act in free play; `commit` (answer, as
        typed), `unknown` and `fails` answer; `cancel`, `undo`, `reset`, `reseed` (seed) and
        `free_play` (on) are what they say.

        Raises:
            ValueError: there is no such control; the message lists those there are.
        """
        model = self.model
        controls: dict[str, Callable[[], None]] = {
            "allocate": lambda: model.ask_alloc(
                values["gfp"], int(values["order"]), values["owner"]
            ),
            "free": lambda: model.ask_free(self.selected),
            "commit": lambda: self._commit(str(values["answer"])),
            "unknown": lambda: model.commit(Answer.UNKNOWN),
            "fails": lambda: model.commit(Answer.FAILS),
            "cancel": model.cancel,
            "undo": model.undo,
            "reset": model.reset,
            "reseed": lambda: self._reseed(str(values["seed"])),
            "free_play": lambda: model.set_free_play(bool(values["on"])),
        }
        if do not in controls:
            raise ValueError(
                text("buddy_lab.bad_control", control=do, controls=", ".join(controls))
            )
        if do in ("allocate", "free") and not self.stepper.walk.at_end:
            model.message = text("buddy_lab.in_the_past")
        else:
            controls[do]()
            if do not in ("cancel", "free_play"):
                self.stepper.move("end")
            if do == "allocate" and model.question:
                # The next click on the map is an answer, also one on the page selected before.
                self.selected = None
            if model.touched is not None:
                self.selected, model.touched = model.touched, None
        self._outbox.request()

    def _commit(self, answer: str) -> None:
        """Answer the open question with what the learner typed."""
        model = self.model
        if model.question is None:
            model.message = text("buddy_lab.nothing_asked")
            return
        try:
            said = parse_answer(model.question, answer)
        except ValueError as error:
            model.message = str(error)
        else:
            model.commit(said)

    def _reseed(self, typed: str) -> None:
        """Make the world of the seed that was typed; of the next one if that is shown already."""
        if not typed.isdecimal():
            self.model.message = text("buddy_lab.bad_seed", seed=typed)
            return
        self.model.reseed(int(typed) + (int(typed) == self.model.seed))

    def _on_msg(self, _panel: object, content: dict[str, Any], _buffers: object) -> None:
        values = dict(content)
        self.act(values.pop("do"), **values)

    # -- keeping the panel up to date -------------------------------------------------------------

    def _changed(self, _change: object) -> None:
        self._outbox.request()

    def _fill(self) -> None:
        model, verdict = self.model, self.model.verdict
        size = model.freeable(self.selected)
        top = max(zone.max_order for zone in self.snapshot.zones)
        label = text("buddy_lab.free")
        if size is not None:
            head, order = size
            label = text("buddy_lab.free_size", pfn=f"{head:#x}", size=order_text(order))
        self._panel.state = {
            "orders": [order_text(order) for order in range(top + 1)],
            "choices": [
                [gfp, text("buddy_lab.choice", gfp=gfp, type=MIGRATE_NAMES[migratetype_of(gfp)])]
                for gfp in CHOICES
            ],
            "owners": list(OWNERS),
            "question": str(model.question or ""),
            "frees": bool(model.question and model.question.frees),
            "picked": "" if self.selected is None else f"{self.selected:#x}",
            "verdict": {
                "right": verdict.right,
                "sentence": verdict.sentence,
                "idea": verdict.idea_name,
                "why": verdict.idea_text,
            }
            if verdict
            else None,
            "message": model.message,
            "score": model.score(),
            "seed": "" if model.seed is None else str(model.seed),
            "free_play": model.free_play,
            "unlocked": model.unlocked,
            "free": label,
            "can_free": size is not None,
            "can_undo": model.can_undo,
            "past": not self.stepper.walk.at_end,
        }
