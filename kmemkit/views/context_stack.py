"""ContextStack: what surrounds a caller, as a stack, and what one request does inside of it.

Lessons write `ContextStack(kernel)`. Frames are pushed and popped, a request is chosen; the request
is then made on clones of the kernel, plain and with debug options, and the view shows what they
did. With `predict=True` it asks first. `_context_runs` makes the runs, `_context_quiz` judges the
predictions; this file keeps the state and passes it on. The kernel itself stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, SupportsIndex

import traitlets

from kmemkit.gfp import as_mask, decode, encode, flag_names
from kmemkit.snapshot import Snapshot, order_text
from kmemkit.strings import text
from kmemkit.views import _context_quiz as quizzes
from kmemkit.views._base import Follows, View, esm, refuse_unknown
from kmemkit.views._context_page import group_state, quiz_state
from kmemkit.views._context_quiz import ContextQuiz, Runs
from kmemkit.views._context_runs import FRAMES, Fix, Run, Stage, fixes, frame_text, may_sleep, play

__all__ = ("ContextStack",)

_TOP_ORDER = 10
_GROUPS = ("section", "interrupt", "scope", "task")
_REQUESTS = (
    *("GFP_KERNEL", "GFP_NOWAIT", "GFP_ATOMIC", "GFP_NOIO", "GFP_NOFS", "GFP_HIGHUSER_MOVABLE"),
    *("GFP_KERNEL|__GFP_NOFAIL", "GFP_ATOMIC|__GFP_DIRECT_RECLAIM"),
)


class ContextStack(View):
    """The frames around a caller, and what a request does there on a plain and a debug kernel.

    Args:
        kernel: made requests on through `clone()`; never changed.
        frames: keys of the frames to start with, outermost first: spinlock, irqs_off, rcu, softirq,
            hardirq, nofs, noio, noreclaim, pin, reclaimer (PF_MEMALLOC), victim (OOM victim).
        gfp: mask of the request, an int or names.
        order: log2 of the number of pages that are asked for, 0 to 10.
        predict: ask before showing; the first situation is then dealt by `seed`, unless `frames`
            are given.
        seed: of the situations that are dealt.

    Raises:
        TypeError: `kernel` is none, or a keyword is unknown.
        ValueError: a frame, mask or order that there is not.
    """

    _esm = esm("common.js", "context_stack.js")
    _sections: ClassVar[tuple[str, ...]] = ("context_stack",)

    state = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        kernel: Any,
        frames: Sequence[str] = (),
        gfp: SupportsIndex | str = "GFP_KERNEL",
        *,
        order: int = 0,
        predict: bool = False,
        seed: int = 0,
        **unknown: Any,
    ) -> None:
        refuse_unknown(ContextStack.__init__, unknown)
        if not (isinstance(kernel, Follows) and hasattr(kernel, "from_snapshot")):
            raise TypeError(text("context_stack.bad_kernel", given=type(kernel).__name__))
        for frame in frames:
            _known_frame(frame)
        self.quiz = ContextQuiz(seed) if predict else None
        if self.quiz and not frames:
            self.stage = self.quiz.deal()
        else:
            self.stage = Stage(tuple(frames), as_mask(gfp), _known_order(order))
        self._maker: Any = type(kernel)
        self._message = ""
        self._runs: Runs | None = None
        self._fixes: tuple[Fix, ...] | None = None
        super().__init__()
        self.on_msg(self._on_msg)
        self.follow(kernel)

    # -- what is shown ----------------------------------------------------------------------------

    @property
    def runs(self) -> Runs:
        """What the plain and the debug kernel do with the request in this stack."""
        if self._runs is None:
            kernel = self._machine()
            self._runs = Runs(*(play(kernel, self.stage, debug=debug) for debug in (False, True)))
        return self._runs

    @property
    def fixes(self) -> tuple[Fix, ...]:
        """What would help, each tried out; nothing where the debug kernel does not complain."""
        if self._fixes is None:
            wrong = may_sleep(self.stage.gfp) and bool(self.runs.debug.complaint)
            self._fixes = fixes(self._machine(), self.stage) if wrong else ()
        return self._fixes

    def _machine(self) -> Any:
        """Return what requests are made on clones of: the kernel, or one in the shown state."""
        return self._kernel or self._maker.from_snapshot(self.snapshot)

    @property
    def asking(self) -> bool:
        """Whether the view waits for a prediction, and hides what the kernels do."""
        return self.quiz is not None and self.quiz.open

    def verdict(self) -> str:
        """Return whether the request may be made here, as a sentence."""
        plain, debug = self.runs
        if plain.ended and plain.complaint:
            return text("context_stack.illegal_ends")
        if debug.complaint:
            sleeps = may_sleep(self.stage.gfp)
            return text("context_stack.illegal" if sleeps else "context_stack.illegal_other")
        sleeps = may_sleep(debug.left)
        return text("context_stack.legal_sleep" if sleeps else "context_stack.legal_no_sleep")

    def text(self) -> str:
        """Return the stack, the request, what the two kernels do with it, and what would help."""
        lines = [text("context_stack.stack")]
        for label, about in self._stack():
            lines += [f"  {label}", f"      {about}"]
        lines += [self.stage.call + ", " + order_text(self.stage.order)]
        if not self.asking:
            lines += [*self._mask_lines(), *self._kernel_lines(), "", self.verdict()]
            if self.fixes:
                lines += ["", text("context_stack.fixes") + ":"]
                lines += [f"  {self._fix_line(fix)}" for fix in self.fixes]
        return "\n".join([*lines, *self._quiz_lines(), *filter(None, [self._message])])

    def _stack(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the meaning of each frame, innermost first."""
        for key in reversed(self.stage.frames):
            yield frame_text(key), text(f"context_stack.about.{key}")
        for key in reversed(self.snapshot.context):
            yield frame_text(key), text("context_stack.given")
        yield self._task(), text("context_stack.task_about")

    def _task(self) -> str:
        snapshot = self.snapshot
        pid = snapshot.settings.get("current")
        task = next(task for task in snapshot.tasks if task.pid == pid)
        return text("context_stack.task", comm=task.comm, pid=task.pid)

    def _mask_lines(self) -> list[str]:
        asked, left = self.stage.gfp, self.runs.debug.left
        label = {key: text(f"context_stack.{key}") for key in ("asked", "left")}
        return [
            f"  {label['asked']:<6}{asked:#x} = {decode(asked) or '0'}",
            f"  {label['left']:<6}{left:#x} = {decode(left) or '0'}; {self._taken()}",
            f"  {self.runs.debug.sees()}",
        ]

    def _taken(self) -> str:
        taken = flag_names(self.stage.gfp & ~self.runs.debug.left)
        if not taken:
            return text("context_stack.left_same")
        return text("context_stack.left_less", flags=", ".join(taken))

    def _kernel_lines(self) -> Iterator[str]:
        for name, run in self._kernels():
            yield ""
            yield f"{name}: {self._result(run)}"
            yield from (f"  | {line}" for line in run.lines or [text("context_stack.silent")])

    def _kernels(self) -> list[tuple[str, Run]]:
        plain, debug = self.runs
        return [
            (text("context_stack.kernel_plain"), plain),
            (text("context_stack.kernel_debug"), debug),
        ]

    def _result(self, run: Run) -> str:
        return text("context_stack.result", call=self.stage.call, result=run.result)

    def _fix_line(self, fix: Fix) -> str:
        return text(
            "context_stack.fix_line",
            sign="✓" if fix.works else "✗",
            name=text(f"context_stack.fix.{fix.key}"),
            call=fix.stage.call,
            said=self._fix_said(fix),
        )

    def _fix_said(self, fix: Fix) -> str:
        silent = text("context_stack.fix_silent", result=fix.plain.result)
        return fix.debug.complaint or silent

    def _quiz_lines(self) -> list[str]:
        quiz = self.quiz
        if quiz is None:
            return []
        lines = ["", text("context_stack.ask.title")]
        for question in quizzes.questions(self.stage):
            lines.append(f"  {text(f'context_stack.ask.{question}')}")
            if verdict := quiz.verdicts.get(question):
                lines += [f"    {line}" for line in str(verdict).split("\n")]
        if self.asking:
            lines.append(f"  {text('context_stack.hidden')}")
        return [*lines, f"  {quiz.score()}"]

    def _describe(self) -> str:
        frames = ", ".join(self.stage.frames) or text("context_stack.nothing")
        return f"{self.stage.call} in: {frames}"

    # -- what the page tells ----------------------------------------------------------------------

    def act(self, do: str, **values: Any) -> None:
        """Do what a control of the view does.

        `push` (frame), `pop`, `gfp` (value) and `order` (value) change the situation; `commit`
        (answers), `unknown`, `next` and `free_play` (on) belong to predictions.

        Raises:
            ValueError: there is no such control, frame, mask or order; says what there is.
        """
        controls: dict[str, Callable[[], None]] = {
            "push": lambda: self._push(_known_frame(values["frame"])),
            "pop": self._pop,
            "gfp": lambda: self._set(gfp=as_mask(values["value"])),
            "order": lambda: self._set(order=_known_order(int(values["value"]))),
            "commit": lambda: self._commit(dict(values["answers"])),
            "unknown": lambda: self._commit({}),
            "next": self._next,
            "free_play": lambda: self._set_free_play(bool(values["on"])),
        }
        if do not in controls:
            names = ", ".join(controls)
            raise ValueError(text("context_stack.bad_control", control=do, controls=names))
        self._message = ""
        controls[do]()
        self._outbox.request()

    def push(self, frame: str) -> None:
        """Enter one more frame, by its key."""
        self.act("push", frame=frame)

    def pop(self) -> None:
        """Leave the innermost frame."""
        self.act("pop")

    def _push(self, frame: str) -> None:
        stage = Stage((*self.stage.frames, frame), self.stage.gfp, self.stage.order)
        try:
            play(self._machine(), stage, debug=False)
        except (RuntimeError, ValueError) as error:
            reason = str(error)
            self._message = text("context_stack.refused", frame=frame_text(frame), reason=reason)
        else:
            self._set(frames=stage.frames)

    def _pop(self) -> None:
        if self.stage.frames:
            self._set(frames=self.stage.frames[:-1])
        else:
            self._message = text("context_stack.nothing_to_pop")

    def _set(self, **changed: Any) -> None:
        """Change the situation; what was said of the one before is forgotten."""
        self._show_stage(replace(self.stage, **changed))
        if self.quiz:
            self.quiz.verdicts = {}

    def _show_stage(self, stage: Stage) -> None:
        self.stage, self._runs, self._fixes = stage, None, None

    def show(self, snapshot: Snapshot) -> None:
        """Show what the request does in the machine of `snapshot`."""
        self._show_stage(self.stage)
        super().show(snapshot)

    def _kernel_changed(self) -> None:
        self._show_stage(self.stage)
        super()._kernel_changed()

    def _commit(self, answers: dict[str, str]) -> None:
        if self.asking and self.quiz:
            self.quiz.judge(self.stage, self.runs, answers)

    def _next(self) -> None:
        if self.quiz:
            self._show_stage(self.quiz.deal())

    def _set_free_play(self, on: bool) -> None:
        if self.quiz:
            self.quiz.free_play = on and self.quiz.unlocked
            if on and not self.quiz.unlocked:
                self._message = text("context_stack.locked")

    def _on_msg(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        values = dict(content)
        self.act(values.pop("do"), **values)

    # -- keeping the page up to date --------------------------------------------------------------

    def _fill(self) -> None:
        stage = self.stage
        known = [encode(names) for names in _REQUESTS]
        masks = [*_REQUESTS] if stage.gfp in known else [decode(stage.gfp) or "0", *_REQUESTS]
        self.state = {
            "stack": self._stack_state(),
            "groups": [group_state(group) for group in _GROUPS],
            "can_pop": bool(stage.frames),
            "gfps": masks,
            "gfp": _REQUESTS[known.index(stage.gfp)] if stage.gfp in known else masks[0],
            "orders": [order_text(order) for order in range(_TOP_ORDER + 1)],
            "order": stage.order,
            "message": self._message,
            "asking": self.asking,
            "shown": None if self.asking else self._shown_state(),
            "quiz": self.quiz and quiz_state(self.quiz, self.stage),
        }

    def _stack_state(self) -> list[dict[str, Any]]:
        given = self.snapshot.context
        keys = [*reversed(self.stage.frames), *reversed(given), ""]
        rows = []
        for key, (label, about) in zip(keys, self._stack(), strict=True):
            frame = FRAMES.get(key)
            kind = frame.group if frame else "base"
            sign = text(f"context_stack.kind.{kind}") if frame else ""
            rows.append({"label": label, "about": about, "kind": kind, "sign": sign})
        return rows

    def _shown_state(self) -> dict[str, Any]:
        plain, debug = self.runs
        left = set(flag_names(debug.left))
        return {
            "legal": not (debug.complaint or plain.ended),
            "verdict": self.verdict(),
            "asked": f"{self.stage.gfp:#x}",
            "left": f"{debug.left:#x} = {decode(debug.left) or '0'}",
            "flags": [[name, name in left] for name in flag_names(self.stage.gfp)],
            "taken": self._taken(),
            "sees": debug.sees(),
            "kernels": [
                {"name": name, "result": self._result(run), "lines": list(run.lines)}
                for name, run in self._kernels()
            ],
            "road": plain.why.lines() if plain.why else [],
            "fixes": [
                {
                    "works": fix.works,
                    "name": text(f"context_stack.fix.{fix.key}"),
                    "call": fix.stage.call,
                    "said": self._fix_said(fix),
                }
                for fix in self.fixes
            ],
        }


def _known_frame(frame: str) -> str:
    if frame not in FRAMES:
        raise ValueError(text("context_stack.bad_frame", frame=frame, frames=", ".join(FRAMES)))
    return frame


def _known_order(order: int) -> int:
    if not 0 <= order <= _TOP_ORDER:
        raise ValueError(text("context_stack.bad_order", order=order, top=_TOP_ORDER))
    return order
