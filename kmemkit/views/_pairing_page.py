"""What the page of a PairingTable is told: its frame, the chosen cell, the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kmemkit.strings import text
from kmemkit.views._pairing_calls import ALLOCATORS, FREERS, call_lines
from kmemkit.views._pairing_cells import Cell, Key
from kmemkit.views._pairing_quiz import MEMORY, VERDICTS, PairingQuiz
from kmemkit.views._pairing_text import HIDDEN, explanation, facts, legend, variant_text

__all__ = ("cell_state", "frame_state", "quiz_lines", "quiz_state")


def frame_state(rows: Sequence[str], columns: Sequence[str]) -> dict[str, Any]:
    """Return what does not change: rows, columns, legend."""
    return {
        "rows": [{"name": one, "label": ALLOCATORS[one].label} for one in rows],
        "columns": [
            {"name": one, "function": FREERS[one].function, "variant": variant_text(one)}
            for one in columns
        ],
        "legend": [list(one) for one in legend()],
    }


def cell_state(pair: tuple[str, str], cell: Cell | None) -> dict[str, Any]:
    """Return the chosen cell; None is one that is hidden."""
    calls = list(call_lines(*pair))
    if cell is None:
        return {"calls": calls, "code": HIDDEN}
    shown = cell.picture
    moments = [*calls, text("pairing_table.while_later")]
    return {
        "calls": calls,
        "code": cell.code,
        "facts": facts(cell),
        "report": list(cell.report),
        "why": explanation(cell),
        "kind": shown.kind if shown else "",
        "key": shown.key if shown else "",
        "moments": [
            {"name": name, "cells": frame.cells, "own": list(frame.own), "note": frame.note}
            for name, frame in zip(moments, shown.frames if shown else (), strict=False)
        ],
    }


def _answers() -> list[list[str]]:
    return [[one, text(f"pairing_table.answer.{one}")] for one in VERDICTS]


def _memory_answers(allocator: str) -> list[list[str]]:
    """Return what can be said of memory, if the pointer owns any; the question tells no more."""
    if not ALLOCATORS[allocator].owns:
        return []
    return [[one, text(f"pairing_table.answer_memory.{one}")] for one in MEMORY]


def quiz_lines(allocator: str) -> list[str]:
    """Return the question about a cell as text."""
    lines = [text("pairing_table.ask"), *(f"  [ ] {label}" for _, label in _answers())]
    if memory := _memory_answers(allocator):
        lines += [text("pairing_table.ask_memory"), *(f"  [ ] {label}" for _, label in memory)]
    return lines


def quiz_state(allocator: str, quiz: PairingQuiz, key: Key) -> dict[str, Any]:
    """Return the question about a cell, or what came of its answer."""
    verdict = quiz.verdicts.get(key)
    told = verdict and {
        "right": verdict.right,
        "sentence": verdict.sentence,
        "idea": verdict.idea_name,
        "why": verdict.idea_text,
    }
    return {
        "answers": _answers(),
        "memory": _memory_answers(allocator),
        "verdict": told,
        "score": quiz.score(),
        "free_play": quiz.free_play,
        "unlocked": quiz.unlocked,
    }
