"""PairingTable: allocators against freeing functions in each kernel, every cell found by a run.

Lessons write `PairingTable(play_pair)`. The table fills while a page shows it, the chosen cell
first; `text()` runs what is missing. A chosen cell shows its calls, what happened, the kernel's
report and the damage; with `predict=True` it asks first. `_pairing_calls` has the calls,
`_pairing_cells` runs them, `_pairing_picture`, `_pairing_text` and `_pairing_page` show them,
`_pairing_quiz` judges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import traitlets

from kmemkit.strings import text
from kmemkit.views._base import Panel, Shown, esm, refuse_unknown
from kmemkit.views._pairing_calls import ALLOCATORS, FREERS, KERNELS, call_lines, is_case
from kmemkit.views._pairing_cells import Cell, Key, Play, played
from kmemkit.views._pairing_page import cell_state, frame_state, quiz_lines, quiz_state
from kmemkit.views._pairing_picture import place
from kmemkit.views._pairing_quiz import PairingQuiz
from kmemkit.views._pairing_text import (
    HIDDEN,
    NO_CASE,
    PENDING,
    cell_lines,
    legend,
    spoken,
    table_lines,
)
from kmemkit.views.page_map import PageMap

__all__ = ("PairingTable",)

#: Seconds between two cells that are run while a page looks on: the time of other messages.
_PAUSE = 0.02
#: Pages that map() shows.
_SPAN = 512
#: Most cells that are run before a table is on the page; a larger one comes up at once and fills.
_AT_ONCE = 40


class PairingTable(Shown, Panel):
    """Which function may free which memory, and what a kernel makes of every other pair.

    Args:
        play: what runs a pair, `kmemkit.play_pair`.
        kernel: the kernel shown first: plain, noinit, slabdbg, kfence or kasan.
        rows: allocators to show, by the names of `play`; None for all.
        columns: freeing functions to show, by the names of `play`; None for all.
        kernels: kernels to choose from; None for all.
        selected: (row, column) of the cell chosen first; None for the first cell.
        predict: ask what happens before a cell is shown.

    Raises:
        TypeError: `play` cannot be called, or a keyword is unknown.
        ValueError: a name that there is not, or a selected cell that is no pair.
    """

    _esm = esm("common.js", "pairing_table.js")
    _sections: ClassVar[tuple[str, ...]] = ("pairing_table",)

    _frame = traitlets.Dict().tag(sync=True)
    grid = traitlets.Dict().tag(sync=True)
    panel = traitlets.Dict().tag(sync=True)
    question = traitlets.Dict(default_value=None, allow_none=True).tag(sync=True)

    def __init__(
        self,
        play: Play,
        *,
        kernel: str = "plain",
        rows: Iterable[str] | None = None,
        columns: Iterable[str] | None = None,
        kernels: Iterable[str] | None = None,
        selected: tuple[str, str] | None = None,
        predict: bool = False,
        **unknown: Any,
    ) -> None:
        refuse_unknown(PairingTable.__init__, unknown)
        if not callable(play):
            raise TypeError(text("pairing_table.bad_play", given=type(play).__name__))
        self.play = play
        self.rows = _known("rows", rows, ALLOCATORS)
        self.columns = _known("columns", columns, FREERS)
        self.kernels = _known("kernels", kernels, KERNELS)
        (self.kernel,) = _known("kernel", (kernel,), self.kernels)
        self.quiz = PairingQuiz() if predict else None
        self._message = ""
        self._watchers = 0
        self._timer: asyncio.TimerHandle | None = None
        #: what has been run so far
        self._cells: dict[Key, Cell] = {}
        self.selected = selected or next(self._pairs(), (self.rows[0], self.columns[0]))
        self._check(*self.selected)
        super().__init__()
        self._frame = frame_state(self.rows, self.columns)
        self.on_msg(self._on_msg)
        self._outbox.flush()

    # -- what is shown ----------------------------------------------------------------------------

    @property
    def key(self) -> Key:
        """The chosen cell: kernel, allocator, freeing function."""
        return (self.kernel, *self.selected)

    @property
    def cell(self) -> Cell:
        """What came of the chosen cell; it is run if it was not yet."""
        return self.run(*self.key)

    @property
    def asking(self) -> bool:
        """Whether the view waits for a prediction, and hides the chosen cell."""
        return self._hides(self.key)

    def run(self, kernel: str, allocator: str, freer: str) -> Cell:
        """Return what comes of a pair, which is run once in a process."""
        key = (kernel, allocator, freer)
        if key not in self._cells:
            self._cells[key] = played(self.play, *key)
        return self._cells[key]

    def map(self) -> PageMap:
        """Return a page map of the chosen cell's machine, with a step for each call and later.

        Raises:
            ValueError: the pointer owns no memory.
        """
        outcome = self.play(*self.key, steps=True)
        calls = [*call_lines(*self.selected), text("pairing_table.while_later")]
        pfn = place(outcome)
        if pfn is None:
            raise ValueError(text("pairing_table.no_map", code=calls[0]))
        pairs = zip(calls, outcome.steps, strict=True)
        steps = [replace(step, call=call) for call, step in pairs]
        return PageMap(history=steps, start=max(pfn - _SPAN // 2, 0), span=_SPAN, selected=pfn)

    def code(self, kernel: str, allocator: str, freer: str) -> str:
        """Return what stands in a cell now; nothing is run for it."""
        key = (kernel, allocator, freer)
        if not is_case(allocator, freer):
            return NO_CASE
        if self._hides(key):
            return HIDDEN
        return self._cells[key].code if key in self._cells else PENDING

    def _hides(self, key: Key) -> bool:
        return self.quiz is not None and self.quiz.hides(key)

    def _pairs(self) -> Iterator[tuple[str, str]]:
        """Yield the pairs of the table, row by row."""
        for row in self.rows:
            for column in self.columns:
                if is_case(row, column):
                    yield row, column

    def _missing(self) -> Iterator[Key]:
        """Yield what may be shown and was not run: first what is chosen, in every kernel."""
        for key in (*self._chosen(), *((self.kernel, *pair) for pair in self._pairs())):
            if key not in self._cells and not self._hides(key):
                yield key

    def _chosen(self) -> list[Key]:
        """Return the chosen pair in every kernel, the shown one first."""
        kernels = [self.kernel, *(one for one in self.kernels if one != self.kernel)]
        return [(kernel, *self.selected) for kernel in kernels]

    def text(self) -> str:
        """Return the table and the chosen cell with report and picture; runs what is missing."""
        for key in list(self._missing()):
            self.run(*key)
        self._outbox.request()
        codes = {
            (row, column): self.code(self.kernel, row, column)
            for row in self.rows
            for column in self.columns
        }
        lines = [self._title(), "", *table_lines(self.rows, self.columns, codes), ""]
        lines += [f"{sign:<3}{meaning}" for sign, _, meaning in legend()]
        return "\n".join([*lines, "", *self._panel_lines()])

    def _title(self) -> str:
        return text("pairing_table.kernel_is", kernel=_kernel_name(self.kernel))

    def _panel_lines(self) -> list[str]:
        """Return the chosen cell, or the question about it."""
        first, second = call_lines(*self.selected)
        lines = [f"    {first}", f"    {second}", ""]
        if self.quiz and self.asking:
            lines += quiz_lines(self.selected[0])
        else:
            lines += self._cell_lines()
        if self.quiz:
            verdict = self.quiz.verdicts.get(self.key)
            lines += ["", *(str(verdict).split("\n") if verdict else []), self.quiz.score()]
        return [*lines, *filter(None, [self._message])]

    def _cell_lines(self) -> list[str]:
        lines = cell_lines(self.cell, call_lines(*self.selected))
        if len(self.kernels) > 1:
            codes = [(_kernel_name(one), self._code_of(one)) for one in self.kernels]
            lines += ["", text("pairing_table.elsewhere")]
            lines += [f"  {name}: {code}" for name, code in codes]
        return lines

    def _code_of(self, kernel: str) -> str:
        """Return the code of the chosen pair in a kernel."""
        return self.code(kernel, *self.selected)

    def _describe(self) -> str:
        row, column = self.selected
        size = f"{len(self.rows)} x {len(self.columns)}"
        return f"{size}, kernel {self.kernel}, selected {row} {column}: {self.code(*self.key)}"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Give the text twin too, of a table that is too large for that only the chosen cell."""
        bundle: Any = super(Shown, self)._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "text/plain": self._printed()}, metadata

    def _printed(self) -> str:
        """Return what is printed where the view cannot be shown, without a long wait."""
        count = sum(1 for _ in self._pairs())
        hidden = self.quiz is not None and not self.quiz.free_play
        if hidden or count <= _AT_ONCE:
            return self.text()
        for key in self._chosen():
            self.run(*key)
        later = text("pairing_table.many", count=count)
        return "\n".join([self._title(), later, "", *self._panel_lines()])

    # -- what the page tells ----------------------------------------------------------------------

    def act(self, do: str, **values: Any) -> None:
        """Do what a control of the view does.

        `select` (row, column) and `kernel` (value) choose what is shown; `commit` (verdict,
        memory), `unknown` and `free_play` (on) belong to predictions; `here` and `gone` tell that
        a page shows the view, or no longer.

        Raises:
            ValueError: there is no such control or value; says what there is.
        """
        controls = {
            "select": lambda: self._select(str(values["row"]), str(values["column"])),
            "kernel": lambda: self._choose(str(values["value"])),
            "commit": lambda: self._commit(values["verdict"], values.get("memory")),
            "unknown": lambda: self._commit(None, None),
            "free_play": lambda: self._set_free_play(bool(values["on"])),
            "here": lambda: self._watch(1),
            "gone": lambda: self._watch(-1),
        }
        if do not in controls:
            names = ", ".join(controls)
            raise ValueError(text("pairing_table.bad_control", control=do, controls=names))
        self._message = ""
        controls[do]()
        self._outbox.request()
        self._go_on()

    def _select(self, row: str, column: str) -> None:
        self._check(row, column)
        self.selected = (row, column)

    def _check(self, row: str, column: str) -> None:
        _known("row", (row,), self.rows)
        _known("column", (column,), self.columns)
        if not is_case(row, column):
            raise ValueError(text("pairing_table.bad_pair", row=row, column=column))

    def _choose(self, kernel: str) -> None:
        (self.kernel,) = _known("kernel", (kernel,), self.kernels)

    def _commit(self, verdict: str | None, memory: str | None) -> None:
        if self.quiz and self.asking:
            self.quiz.judge(self.key, self.cell, verdict, memory)

    def _set_free_play(self, on: bool) -> None:
        if self.quiz:
            self.quiz.free_play = on and self.quiz.unlocked
            if on and not self.quiz.unlocked:
                self._message = text("pairing_table.locked")

    def _on_msg(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        values = dict(content)
        self.act(values.pop("do"), **values)

    # -- filling while somebody looks --------------------------------------------------------------

    def _watch(self, by: int) -> None:
        self._watchers = max(self._watchers + by, 0)

    def _go_on(self) -> None:
        """Let the next missing cell be run soon, if a page is there to show it."""
        if self._timer is None and self._watchers and any(self._missing()):
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return
            self._timer = loop.call_later(_PAUSE, self._run_next)

    def _run_next(self) -> None:
        self._timer = None
        for key in self._missing():
            self.run(*key)
            break
        self._outbox.request()
        self._go_on()

    def close(self) -> None:
        """Stop running cells, and take the widget off the page."""
        # ipywidgets closes every widget at exit, also one whose __init__ raised half way.
        timer: asyncio.TimerHandle | None = getattr(self, "_timer", None)
        if timer is not None:
            timer.cancel()
        self._watchers, self._timer = 0, None
        super().close()

    # -- keeping the page up to date ---------------------------------------------------------------

    def _fill(self) -> None:
        asking = self.asking
        cell = None if asking else self.cell
        done = sum((self.kernel, *pair) in self._cells for pair in self._pairs())
        count = sum(1 for _ in self._pairs())
        codes = [[self.code(self.kernel, row, one) for one in self.columns] for row in self.rows]
        seen = sorted({code for row in codes for code in row})
        open_only = self.quiz is not None and not self.quiz.free_play
        key = "progress_open" if open_only else "progress_all" if done == count else "progress"
        with self.hold_sync():
            self.grid = {
                "codes": codes,
                "spoken": {code: spoken(code) for code in seen},
                "kernels": [[one, _kernel_name(one), self._code_of(one)] for one in self.kernels],
                "kernel": self.kernel,
                "row": self.selected[0],
                "column": self.selected[1],
                "done": done,
                "count": count,
                "progress": text(f"pairing_table.{key}", done=done, count=count),
                "message": self._message,
            }
            self.panel = cell_state(self.selected, cell)
            if self.quiz:
                self.question = quiz_state(self.selected[0], self.quiz, self.key)


def _kernel_name(kernel: str) -> str:
    return text(f"pairing_table.kernel.{kernel}")


def _known(what: str, names: Iterable[str] | None, there: Iterable[str]) -> tuple[str, ...]:
    """Return the names, all there are if None; ValueError tells one that is not there."""
    known = tuple(there)
    chosen = known if names is None else tuple(names)
    wrong = [name for name in chosen if name not in known]
    if wrong or not chosen:
        given = ", ".join(map(repr, wrong)) or "()"
        raise ValueError(
            text("pairing_table.bad_name", what=what, name=given, names=", ".join(known))
        )
    return chosen
