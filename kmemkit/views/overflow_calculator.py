"""OverflowCalculator: the size that is meant, the size that C computes, and what is given for it.

Lessons write `OverflowCalculator(kernel)`. `_overflow_runs` has the arithmetic and asks clones of
the kernel for the blocks, `_overflow_quiz` judges predictions; this file keeps what is chosen, and
passes it on. The kernel itself stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import traitlets

from kmemkit.snapshot import Snapshot
from kmemkit.strings import text
from kmemkit.views._base import Follows, View, esm, refuse_unknown
from kmemkit.views._overflow_quiz import KINDS, QUESTIONS, UNKNOWN, OverflowQuiz
from kmemkit.views._overflow_runs import Answer, Block, Sizes, answers, groups, marks, rows

__all__ = ("OverflowCalculator",)

PRESETS = {
    "array32": Sizes(268435457, 16, bits=32),
    "array64": Sizes((1 << 62) + 1, 4),
    "fits": Sizes(100, 40),
    "struct": Sizes(1 << 61, 8, head=24),
    "zero": Sizes(65536, 65536, bits=32),
}
_NAMES = ("n", "size", "head")
_POWER = re.compile(r"(\d+)(?:\^|\*\*)(\d{1,3})([+-]\d+)?")


class OverflowCalculator(View):
    """What `n * size` comes to in C, what kmalloc() gives for it, and what the helpers say.

    Args:
        kernel: asked for blocks on clones; never changed.
        n: number of elements.
        size: of an element in bytes.
        head: bytes in front of the elements, for a struct that ends with them; 0 for an array.
        bits: of a size_t, 32 or 64.
        predict: ask before showing; the sizes are then dealt by `seed`.
        seed: of the sizes that are dealt.

    Raises:
        TypeError: `kernel` is none, or a keyword is unknown.
        ValueError: a number that a size_t does not hold.
    """

    _esm = esm("common.js", "overflow_calculator.js")
    _sections: ClassVar[tuple[str, ...]] = ("overflow",)

    state = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        kernel: Any,
        n: int = 268435457,
        size: int = 16,
        head: int = 0,
        *,
        bits: int = 32,
        predict: bool = False,
        seed: int = 0,
        **unknown: Any,
    ) -> None:
        refuse_unknown(OverflowCalculator.__init__, unknown)
        if not (isinstance(kernel, Follows) and hasattr(kernel, "from_snapshot")):
            raise TypeError(text("overflow.bad_kernel", given=type(kernel).__name__))
        self.quiz = OverflowQuiz(seed) if predict else None
        self.sizes = self.quiz.deal() if self.quiz else Sizes(n, size, head, bits)
        self._maker: Any = type(kernel)
        self._message = ""
        self._answers: tuple[Answer, ...] | None = None
        super().__init__()
        self.on_msg(self._on_msg)
        self.follow(kernel)

    # -- what is shown ----------------------------------------------------------------------------

    @property
    def answers(self) -> tuple[Answer, ...]:
        """What each way to ask gives: the plain one, the one to use, and the helpers."""
        if self._answers is None:
            machine = self._kernel or self._maker.from_snapshot(self.snapshot)
            self._answers = answers(machine, self.sizes)
        return self._answers

    @property
    def block(self) -> Block:
        """What kmalloc() gives for the size that C computes."""
        block = self.answers[0].block
        assert block is not None, "kmalloc() gives a block or NULL"
        return block

    @property
    def asking(self) -> bool:
        """Whether the view waits for a prediction, and hides what comes out."""
        return self.quiz is not None and self.quiz.open

    def verdict(self) -> str:
        """Return what the plain way leads to, as a sentence."""
        sizes, block = self.sizes, self.block
        key = {"short": "short", "all": "all"}.get(block.kind, "null")
        if block.zero and sizes.need:
            key = "zero"
        fields = {
            "need": sizes.need, "asked": sizes.asked, "room": block.room, "fit": sizes.fit,
            "n": sizes.n,
        }  # fmt: skip
        said = {name: f"{value:,}" for name, value in fields.items()}
        return text(f"overflow.verdict.{key}", expression=sizes.expression, **said)

    def text(self) -> str:
        """Return the sizes, both products, what is given for them, and the questions."""
        lines = [text("overflow.title"), f"  {self._task()}"]
        if not self.asking:
            lines += [*self._product_lines(), "", *self._row_lines(), ""]
            lines += self._answer_lines()
            lines += ["", self.verdict()]
        return "\n".join([*lines, *self._quiz_lines(), *filter(None, [self._message])])

    def _task(self) -> str:
        sizes = self.sizes
        key = "task_struct" if sizes.head else "task"
        return text(
            f"overflow.{key}",
            n=f"{sizes.n:,}", size=f"{sizes.size:,}", head=f"{sizes.head:,}",
            bits=sizes.bits, expression=sizes.expression,
        )  # fmt: skip

    def _product_lines(self) -> Iterator[str]:
        sizes = self.sizes
        yield f"  {text('overflow.need')}: {sizes.need:,}"
        for base, key in (("x", "hex"), ("b", "binary")):
            lost, kept = groups(sizes.need, base, sizes.bits // 4 if base == "x" else sizes.bits)
            yield f"  {text(f'overflow.{key}')}: {f'[{lost}] ' if lost else ''}{kept}"
        yield f"  {text('overflow.asked', bits=sizes.bits)}: {sizes.asked:,}"
        yield f"  {self._lost()}"

    def _lost(self) -> str:
        sizes = self.sizes
        if not sizes.lost:
            return text("overflow.nothing_lost")
        return text("overflow.lost", part=f"{sizes.lost:#x}", lost=f"{sizes.need - sizes.asked:,}")

    def _row_lines(self) -> Iterator[str]:
        unit, thought, given = rows(self.sizes, self.block)
        yield text("overflow.cell" if unit == 1 else "overflow.cells", unit=f"{unit:,}")
        width = max(len(text(f"overflow.{key}")) for key in ("you_think", "you_have"))
        yield f"  {text('overflow.you_think'):<{width}}  {thought}{self._more(thought)}"
        yield f"  {text('overflow.you_have'):<{width}}  {given}"
        yield "  " + "; ".join(f"{sign} {label}" for sign, label in self._legend(thought + given))

    def _more(self, thought: str) -> str:
        return "" if thought.endswith(".") or not self._rest() else f" {self._rest()}"

    def _rest(self) -> str:
        unit, thought, _ = rows(self.sizes, self.block)
        left = self.sizes.need - unit * len(thought)
        return text("overflow.more", left=f"{left:,}") if left > 0 else ""

    def _legend(self, cells: str) -> Iterator[tuple[str, str]]:
        if any(cell.isdigit() for cell in cells):
            yield "0-9", text("overflow.cell_name.element")
        for sign, name in zip("h#+x.", ("head", "asked", "slack", "foreign", "none"), strict=True):
            if sign in cells:
                yield sign, text(f"overflow.cell_name.{name}")

    def _answer_lines(self) -> Iterator[str]:
        width = max(len(answer.call) for answer in self.answers)
        for answer in self.answers:
            yield f"{answer.call:<{width}}  {answer.result(self.sizes)}"

    def _ask(self, question: str) -> str:
        call = self._calls()[QUESTIONS.index(question)]
        return text("overflow.ask_call", call=call)

    def _calls(self) -> tuple[str, str]:
        if self.sizes.head:
            safe = "kmalloc(struct_size(p, items, n), GFP_KERNEL)"
        else:
            safe = "kmalloc_array(n, size, GFP_KERNEL)"
        return f"kmalloc({self.sizes.expression}, GFP_KERNEL)", safe

    def _quiz_lines(self) -> list[str]:
        quiz = self.quiz
        if quiz is None:
            return []
        lines = ["", text("overflow.ask")]
        for question in QUESTIONS:
            lines.append(f"  {self._ask(question)}")
            if verdict := quiz.verdicts.get(question):
                lines += [f"    {line}" for line in str(verdict).split("\n")]
        if self.asking:
            lines.append(f"  {text('overflow.hidden')}")
        return [*lines, f"  {quiz.score()}"]

    def _describe(self) -> str:
        sizes = self.sizes
        head = f"{sizes.head} + " if sizes.head else ""
        return f"{head}{sizes.n} * {sizes.size}, {sizes.bits} bits"

    # -- what the page tells ----------------------------------------------------------------------

    def act(self, do: str, **values: Any) -> None:
        """Do what a control of the view does.

        `n`, `size`, `head` (value: a number, also as 0x10 or 2^62+1), `bits` (value) and `preset`
        (name) change the sizes; `commit` (answers), `unknown`, `next` and `free_play` (on) belong
        to predictions.

        Raises:
            ValueError: there is no such control or preset; says what there is.
        """
        controls: dict[str, Callable[[], None]] = {
            **{name: lambda name=name: self._type(name, values["value"]) for name in _NAMES},  # type: ignore[misc]
            "bits": lambda: self._change(bits=int(values["value"])),
            "preset": lambda: self._set(_known_preset(values["name"])),
            "commit": lambda: self._commit(dict(values["answers"])),
            "unknown": lambda: self._commit({}),
            "next": self._next,
            "free_play": lambda: self._set_free_play(bool(values["on"])),
        }
        if do not in controls:
            names = ", ".join(controls)
            raise ValueError(text("overflow.bad_control", control=do, controls=names))
        self._message = ""
        controls[do]()
        self._outbox.request()

    def _type(self, name: str, value: object) -> None:
        number = _number(value)
        if number is None:
            self._message = text("overflow.bad_number", given=repr(value))
        else:
            self._change(**{name: number})

    def _change(self, **changed: int) -> None:
        try:
            self._set(replace(self.sizes, **changed))
        except ValueError as error:
            self._message = str(error)

    def _set(self, sizes: Sizes) -> None:
        """Take other sizes; what was said of the ones before is forgotten."""
        changed = sizes != self.sizes
        self.sizes, self._answers = sizes, None
        if self.quiz and changed:
            self.quiz.verdicts = {}

    def _commit(self, said: dict[str, str]) -> None:
        if self.asking and self.quiz:
            self.quiz.judge(self.answers, said)

    def _next(self) -> None:
        if self.quiz:
            self.sizes, self._answers = self.quiz.deal(), None

    def _set_free_play(self, on: bool) -> None:
        if self.quiz:
            self.quiz.free_play = on and self.quiz.unlocked
            if on and not self.quiz.unlocked:
                self._message = text("overflow.locked")

    def show(self, snapshot: Snapshot) -> None:
        """Show what the machine of `snapshot` gives."""
        self._answers = None
        super().show(snapshot)

    def _kernel_changed(self) -> None:
        self._answers = None
        super()._kernel_changed()

    def _on_msg(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        values = dict(content)
        self.act(values.pop("do"), **values)

    # -- keeping the page up to date --------------------------------------------------------------

    def _fill(self) -> None:
        sizes = self.sizes
        self.state = {
            "fields": [[name, str(getattr(sizes, name))] for name in _NAMES],
            "bits": sizes.bits,
            "presets": [[name, text(f"overflow.example.{name}")] for name in PRESETS],
            "preset": next((name for name, one in PRESETS.items() if one == sizes), ""),
            "task": self._task(),
            "message": self._message,
            "asking": self.asking,
            "shown": None if self.asking else self._shown_state(),
            "quiz": self.quiz and self._quiz_state(self.quiz),
        }

    def _shown_state(self) -> dict[str, Any]:
        sizes = self.sizes
        unit, thought, given = rows(sizes, self.block)
        return {
            "kind": self.block.kind,
            "verdict": self.verdict(),
            "need": f"{sizes.need:,}",
            "asked": f"{sizes.asked:,}",
            "asked_label": text("overflow.asked", bits=sizes.bits),
            "hex": groups(sizes.need, "x", sizes.bits // 4),
            "binary": groups(sizes.need, "b", sizes.bits),
            "lost": self._lost(),
            "unit": text("overflow.cell" if unit == 1 else "overflow.cells", unit=f"{unit:,}"),
            "thought": [[sign, mark] for sign, mark in zip(thought, marks(thought), strict=True)],
            "given": [[sign, mark] for sign, mark in zip(given, marks(given), strict=True)],
            "rest": self._more(thought).strip(),
            "legend": [list(pair) for pair in self._legend(thought + given)],
            "answers": [
                {
                    "call": answer.call,
                    "result": answer.result(sizes),
                    "short": answer.block is not None and answer.block.kind == "short",
                }
                for answer in self.answers
            ],
        }

    def _quiz_state(self, quiz: OverflowQuiz) -> dict[str, Any]:
        options = [[kind, text(f"overflow.option.{kind}")] for kind in (*KINDS, UNKNOWN)]
        asked = []
        for question in QUESTIONS:
            verdict = quiz.verdicts.get(question)
            told = verdict and {
                "right": verdict.right,
                "sentence": verdict.sentence,
                "idea": verdict.idea_name,
                "why": verdict.idea_text,
            }
            asked.append(
                {"key": question, "ask": self._ask(question), "options": options, "verdict": told}
            )
        return {
            "questions": asked,
            "answered": bool(quiz.verdicts),
            "score": quiz.score(),
            "free_play": quiz.free_play,
            "unlocked": quiz.unlocked,
        }


def _number(value: object) -> int | None:
    """Return a typed number: decimal, 0x10, 1,000 or 2^62+1; None if it is none."""
    typed = re.sub(r"[\s,_]", "", str(value)).lower()
    if re.fullmatch(r"\d+|0x[0-9a-f]+", typed):
        return int(typed, 16 if typed.startswith("0x") else 10)
    if power := _POWER.fullmatch(typed):
        base, exponent, plus = power.groups()
        return int(base) ** int(exponent) + int(plus or 0) if len(base) < 20 else None
    return None


def _known_preset(name: str) -> Sizes:
    if name not in PRESETS:
        names = ", ".join(PRESETS)
        raise ValueError(text("overflow.bad_preset", name=name, presets=names))
    return PRESETS[name]
