"""GfpPanel's sections, bits and questions, once as lines of text and once as the page takes them.

Both are made from the same rows, so what is drawn is what `text()` says. Used by `gfp_panel` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from kmemkit.strings import text
from kmemkit.views._gfp_quiz import QUESTIONS, UNKNOWN, Quiz, option_text, options
from kmemkit.views._gfp_rows import Bit, Request, row_keys

__all__ = ("bit_state", "quiz_lines", "quiz_state", "section_lines", "section_state")

_LABEL = 17  # columns; the longest label has 15
_WIDTH = 96


def section_lines(section: str, bits: Sequence[Bit], requests: Sequence[Request]) -> list[str]:
    """Return one section as text: the flags that are set, then its rows; two masks where unlike."""
    own = [bit for bit in bits if bit.section == section]
    lines = ["", text(f"gfp_panel.section.{section}")]
    lines += _row_lines(text("gfp_panel.flags_set"), [(_flags_set(r, own),) for r in requests])
    for row in row_keys(section):
        told = [r.cell(row).said() for r in requests]
        lines += _row_lines(text(f"gfp_panel.row.{row}"), told)
    return lines


def _row_lines(label: str, told: Sequence[tuple[str, ...]]) -> list[str]:
    """Return one row: its label before the first line, and where two masks differ, both."""
    if len(set(told)) == 1:
        return _block(f"    {label:<{_LABEL}}", told[0])
    lines = []
    head = f"  {text('gfp_panel.unlike')} {label:<{_LABEL}}"
    for letter, said in zip("AB", told, strict=True):
        lines += _block(f"{head}{letter}: ", said)
        head = " " * len(head)
    return lines


def _block(head: str, said: tuple[str, ...]) -> list[str]:
    """Return lines folded to what a notebook shows without breaking words, behind a head."""
    lines: list[str] = []
    for line in said:
        rest = " " * len(head)
        lines += wrap(line, _WIDTH, initial_indent=rest if lines else head, subsequent_indent=rest)
    return lines


def _flags_set(r: Request, bits: Sequence[Bit]) -> str:
    names = [bit.name or bit.hex for bit in bits if r.mask >> bit.place & 1]
    return ", ".join(names) or text("gfp.no_flags")


def section_state(section: str, requests: Sequence[Request], asking: bool) -> dict[str, Any]:
    """Return one section as the page takes it; without its rows while a question is open."""
    rows = []
    for row in () if asking else row_keys(section):
        cells = [r.cell(row) for r in requests]
        rows.append(
            {
                "label": text(f"gfp_panel.row.{row}"),
                "differs": len(set(cells)) > 1,
                "cells": [
                    {"lines": list(cell.lines), "kind": cell.kind, "number": cell.number}
                    for cell in cells
                ],
            }
        )
    return {"key": section, "title": text(f"gfp_panel.section.{section}"), "rows": rows}


def bit_state(bit: Bit, requests: Sequence[Request]) -> dict[str, Any]:
    """Return one bit as the page takes it, with whether each mask has it."""
    return {
        "place": bit.place,
        "name": bit.name,
        "hex": bit.hex,
        "section": bit.section,
        "says": bit.says(requests[0].release),
        "on": [bool(r.mask >> bit.place & 1) for r in requests],
    }


def quiz_lines(quiz: Quiz) -> list[str]:
    """Return the questions, the verdicts on them, and the score, as text."""
    lines = ["", text("gfp_panel.ask.title")]
    for question in QUESTIONS:
        lines.append(f"  {text(f'gfp_panel.ask.{question}')}")
        if verdict := quiz.verdicts.get(question):
            lines += [f"    {line}" for line in str(verdict).split("\n")]
    if quiz.open:
        lines.append(f"  {text('gfp_panel.hidden')}")
    return [*lines, f"  {quiz.score()}"]


def quiz_state(quiz: Quiz, request: Request) -> dict[str, Any]:
    """Return the questions, what may be answered, and what came of it, as the page takes them."""
    questions = []
    for question in QUESTIONS:
        verdict = quiz.verdicts.get(question)
        choices = (*options(request, question), UNKNOWN)
        questions.append(
            {
                "key": question,
                "ask": text(f"gfp_panel.ask.{question}"),
                "options": [[option, option_text(question, option)] for option in choices],
                "verdict": verdict
                and {
                    "right": verdict.right,
                    "sentence": verdict.sentence,
                    "idea": verdict.idea_name,
                    "why": verdict.idea_text,
                },
            }
        )
    return {
        "questions": questions,
        "answered": bool(quiz.verdicts),
        "score": quiz.score(),
        "free_play": quiz.free_play,
        "unlocked": quiz.unlocked,
    }
