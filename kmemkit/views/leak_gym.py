"""LeakGym: a driver's probe() with its error path, and what is left when the Nth allocation fails.

Lessons write `LeakGym(kernel, seed=3)`. The learner chooses where each failure jumps to, in which
order the releases stand and which function frees, and sees each run step by step: who holds what,
what is freed, what leaks. With `predict=True` it asks first. `_leak_driver` has the drivers,
`_leak_run` runs them on clones of the kernel, `_leak_quiz` judges; this file keeps the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import traitlets

from kmemkit.strings import text
from kmemkit.views._base import Follows, View, esm, refuse_unknown
from kmemkit.views._leak_driver import Choice, Driver, Plan
from kmemkit.views._leak_page import code_state, shot_state, table_state
from kmemkit.views._leak_quiz import TROUBLE, LeakQuiz, Verdict
from kmemkit.views._leak_run import Run, play_all
from kmemkit.views._leak_text import (
    failing_text,
    finding_lines,
    row_text,
    step_text,
    thing_text,
    verdict_text,
)

__all__ = ("LeakGym",)


class LeakGym(View):
    """The error path of a driver's probe(), to be repaired and tried for every failing allocation.

    Args:
        kernel: probe() runs on clones of it; it is never changed.
        seed: of the driver, and of the two mistakes in its error path.
        n: which allocation fails in the run that is shown, from 1; one more than there are is the
            run in which none fails.
        broken: False for an error path without mistakes.
        predict: ask what leaks before a run is shown.

    Raises:
        TypeError: `kernel` is none, or a keyword is unknown.
        ValueError: there is no such n.
    """

    _esm = esm("common.js", "leak_picture.js", "leak_gym.js")
    _sections: ClassVar[tuple[str, ...]] = ("leak_gym",)

    state = traitlets.Dict().tag(sync=True)
    step = traitlets.Int(0, help="index of the shown step of the run").tag(sync=True)

    def __init__(
        self,
        kernel: Any,
        seed: int = 0,
        *,
        n: int = 1,
        broken: bool = True,
        predict: bool = False,
        **unknown: Any,
    ) -> None:
        refuse_unknown(LeakGym.__init__, unknown)
        if not (isinstance(kernel, Follows) and hasattr(kernel, "from_snapshot")):
            raise TypeError(text("leak_gym.bad_kernel", given=type(kernel).__name__))
        self.driver = Driver.of(seed)
        self._first = self.driver.broken(seed) if broken else self.driver.right
        self.plan: Plan = self._first
        self.quiz = LeakQuiz() if predict else None
        self.n = 1
        self._maker: Any = type(kernel)
        self._runs: list[Run] | None = None
        self._message = ""
        super().__init__()
        self.on_msg(self._on_msg)
        self.follow(kernel)
        self._choose(n)
        self._outbox.flush()

    # -- what is shown ----------------------------------------------------------------------------

    @property
    def code(self) -> str:
        """The function as it stands now, as C: an answer to the exercise of lesson 11."""
        return "\n".join(self.plan.code)

    @property
    def runs(self) -> list[Run]:
        """One run for each allocation that can fail, and the one in which none does."""
        if self._runs is None:
            kernel = self._kernel or self._maker.from_snapshot(self.snapshot)
            self._runs = play_all(kernel, self.driver, self.driver.parse(self.plan.code))
        return self._runs

    @property
    def run(self) -> Run:
        """The run that is shown, or asked about."""
        return self.runs[self.n - 1]

    @property
    def asking(self) -> bool:
        """Whether the view waits for a prediction, and hides the run."""
        return self._hides(self.n)

    @property
    def leak_free(self) -> bool:
        """Whether no run leaks, and none frees what it must not."""
        return all(run.clean for run in self.runs)

    def _hides(self, n: int) -> bool:
        return self.quiz is not None and self.quiz.hides(n)

    def text(self) -> str:
        """Return the function, the table of all N, and the chosen run step by step."""
        width = len(str(len(self.plan.lines)))
        lines = [f"{n:>{width}}  {line}".rstrip() for n, line in enumerate(self.plan.code, 1)]
        lines += ["", text("leak_gym.table")]
        lines += [f"  {row_text(self.driver, run, self._hides(run.n))}" for run in self.runs]
        lines += [f"  {line}" for line in (self._clean_text(), *self._table_notes())] + [""]
        lines += self._question_lines() if self.asking else self._run_lines()
        return "\n".join([*lines, *self._quiz_lines(), *filter(None, [self._message])])

    def _clean_text(self) -> str:
        seen = [run for run in self.runs if not self._hides(run.n)]
        key = "score_rows" if len(seen) == len(self.runs) else "open_rows"
        clean = sum(run.clean for run in seen)
        return text(f"leak_gym.{key}", clean=clean, seen=len(seen), count=len(self.runs))

    def _table_notes(self) -> list[str]:
        """Return why one acquisition can stand in several rows, if one does."""
        failed = [run.failed for run in self.runs if run.injected]
        return [text("leak_gym.two_rows")] if len(set(failed)) < len(failed) else []

    def _question_lines(self) -> list[str]:
        return [
            self._question(),
            *(f"  [ ] {label}" for _, label in self._options()),
            f"  {text('leak_gym.hint_none')} {text('leak_gym.hidden')}",
        ]

    def _run_lines(self) -> list[str]:
        run = self.run
        lines = [text("leak_gym.row_name", n=run.n, what=self._what())]
        for number, shot in enumerate(run.shots):
            mark = ">" if number == self.step else " "
            lines.append(f"{mark} {shot.line + 1:>3}  {shot.told}")
            lines += [f"       | {line}" for line in shot.log]
        lines += ["", step_text(run, self.step)]
        lines += [f"  {thing_text(thing)}" for thing in run.shots[self.step].things]
        return [*lines, "", *self._verdict_lines()]

    def _verdict_lines(self) -> list[str]:
        run = self.run
        found = [verdict_text(run), *finding_lines(self.driver.parse(self.plan.code), run)]
        lines = [*found, text("leak_gym.kmemleak")]
        lines += [f"  {line}" for line in run.reports or [text("leak_gym.kmemleak_none")]]
        if self._pages_leak():
            lines.append(f"  {text('leak_gym.kmemleak_pages')}")
        return lines

    def _pages_leak(self) -> bool:
        return any(self.driver.resource(one.path).order for one in self.run.leaks)

    def _quiz_lines(self) -> list[str]:
        if self.quiz is None:
            return []
        verdict = self.quiz.verdicts.get(self.n)
        said = str(verdict).split("\n") if verdict else []
        return ["", *said, self.quiz.score()]

    def _what(self) -> str:
        return failing_text(self.driver, self.run)

    def _question(self) -> str:
        if not self.run.injected:
            return text("leak_gym.ask_none")
        return text("leak_gym.ask", n=self.n, what=self._what())

    def _options(self) -> list[list[str]]:
        """Return what can be ticked: (value, label)."""
        paths = [[one.path, one.path] for one in self.driver.resources]
        return [*paths, [TROUBLE, text("leak_gym.trouble")]]

    def _describe(self) -> str:
        return f"{self.driver.name}_probe, N = {self.n}: {self._what()}"

    # -- what the page tells ----------------------------------------------------------------------

    def act(self, do: str, **values: Any) -> None:
        """Do what a control of the view does.

        `jump` and `extra` (step, value), `free` (step, value) and `move` (step, by) change the
        function, `reset` brings its mistakes back; `n` (value) and `step` (value) choose what is
        shown; `commit` (answers), `unknown`, `next` and `free_play` (on) belong to predictions.

        Raises:
            ValueError: there is no such control or value; says what there is.
        """
        controls: dict[str, Callable[[], None]] = {
            "jump": lambda: self._change("jump", int(values["step"]), values["value"]),
            "extra": lambda: self._change("extra", int(values["step"]), values["value"]),
            "free": lambda: self._change("free", int(values["step"]), values["value"]),
            "move": lambda: self._set(self.plan.move(int(values["step"]), int(values["by"]))),
            "reset": lambda: self._set(self._first),
            "n": lambda: self._choose(int(values["value"])),
            "step": lambda: self._go(int(values["value"])),
            "commit": lambda: self._commit(list(values["answers"])),
            "unknown": lambda: self._commit(None),
            "next": self._next,
            "free_play": lambda: self._set_free_play(bool(values["on"])),
        }
        if do not in controls:
            names = ", ".join(controls)
            raise ValueError(text("leak_gym.bad_control", control=do, controls=names))
        self._message = ""
        controls[do]()
        self._outbox.request()

    def _change(self, do: str, step: int, value: str) -> None:
        choices: list[Choice] = [line.choice for line in self.plan.lines if line.choice]
        choice = next((one for one in choices if (one.do, one.step) == (do, step)), None)
        options = choice.options if choice else ()
        if value not in options:
            raise ValueError(
                text("leak_gym.bad_choice", value=value, options=", ".join(options) or "-")
            )
        self._set(getattr(self.plan, do)(step, value))

    def _set(self, plan: Plan) -> None:
        """Change the function; what was said of the one before is forgotten."""
        self.plan, self._runs = plan, None
        if self.quiz:
            self.quiz.verdicts = {}
        self._choose(min(self.n, len(self.runs)))

    def _choose(self, n: int) -> None:
        if not 1 <= n <= len(self.runs):
            raise ValueError(text("leak_gym.bad_n", n=n, last=len(self.runs)))
        self.n = n
        self.step = len(self.run.shots) - 1

    def _go(self, step: int) -> None:
        self.step = step

    @traitlets.validate("step")
    def _check_step(self, proposal: dict[str, Any]) -> int:
        last = len(self.run.shots) - 1
        if not 0 <= proposal["value"] <= last:
            raise ValueError(text("leak_gym.bad_step", step=proposal["value"], last=last))
        return int(proposal["value"])

    def _commit(self, answers: Iterable[str] | None) -> None:
        if self.asking and self.quiz:
            program = self.driver.parse(self.plan.code)
            self.quiz.judge(self.driver, program, self.run, answers)

    def _next(self) -> None:
        """Go to the next run that was not seen, or to the next at all."""
        later = [*self.runs[self.n :], *self.runs[: self.n]]
        hidden = [run.n for run in later if self._hides(run.n)]
        self._choose(hidden[0] if hidden else later[0].n)

    def _set_free_play(self, on: bool) -> None:
        if self.quiz:
            self.quiz.free_play = on and self.quiz.unlocked
            if on and not self.quiz.unlocked:
                self._message = text("leak_gym.locked")

    def _on_msg(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        values = dict(content)
        self.act(values.pop("do"), **values)

    def _kernel_changed(self) -> None:
        self._runs = None
        super()._kernel_changed()
        if self._snapshot is None and self.quiz:
            self.quiz.verdicts = {}

    # -- keeping the page up to date --------------------------------------------------------------

    def _fill(self) -> None:
        run = self.run
        rows = [table_state(self.driver, one, self._hides(one.n)) for one in self.runs]
        self.state = {
            "lines": code_state(self.plan),
            "rows": rows,
            "notes": [self._clean_text(), *self._table_notes()],
            "n": self.n,
            "changed": self.plan != self._first,
            "message": self._message,
            "asking": self.asking,
            "shots": [] if self.asking else shot_state(self.driver, run),
            "result": None if self.asking else self._result_state(),
            "quiz": self.quiz and self._quiz_state(self.quiz),
        }

    def _result_state(self) -> dict[str, Any]:
        found, *rest = [
            verdict_text(self.run), *finding_lines(self.driver.parse(self.plan.code), self.run)
        ]  # fmt: skip
        pages = [text("leak_gym.kmemleak_pages")] if self._pages_leak() else []
        return {
            "clean": self.run.clean,
            "verdict": found,
            "findings": rest,
            "reports": list(self.run.reports),
            "pages": pages,
        }

    def _quiz_state(self, quiz: LeakQuiz) -> dict[str, Any]:
        verdict: Verdict | None = quiz.verdicts.get(self.n)
        return {
            "ask": self._question(),
            "options": self._options(),
            "verdict": verdict
            and {
                "right": verdict.right,
                "sentence": verdict.sentence,
                "idea": verdict.idea_name,
                "why": verdict.idea_text,
            },
            "score": quiz.score(),
            "free_play": quiz.free_play,
            "unlocked": quiz.unlocked,
        }
