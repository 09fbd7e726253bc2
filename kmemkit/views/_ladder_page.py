"""What the page is told of a ladder: plain lists and dicts for the JavaScript to lay out.

`reclaim_ladder` sends these; what is not to be seen yet is left out here, not hidden there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kmemkit.snapshot import order_text
from kmemkit.strings import text
from kmemkit.views._ladder_model import LOOP, Cell, Ladder, Road, say
from kmemkit.views._ladder_table import COLUMNS, entries
from kmemkit.views.prediction import Verdict
from kmemkit.why import RUNGS, Rung

__all__ = ("ladder_state", "table_state", "verdict_state")


def ladder_state(ladder: Ladder, shown: bool) -> dict[str, Any]:
    """Return the heads, the rungs and, if they may be seen, the stops and ends of the roads."""
    state: dict[str, Any] = {
        "heads": [say(road) for road in ladder.roads],
        "rungs": [[name, text(f"road.rung.{name}"), name in LOOP] for name in RUNGS],
        "stops": [],
        "out": [{} for _ in ladder.roads],
        "ends": [],
        "parting": None,
        "parts": "",
        "rounds": 0,
    }
    if shown:
        state |= {
            "stops": [
                {
                    "rung": stop.name,
                    "round": stop.round,
                    "title": stop.title,
                    "cells": [_cell(rung) for rung in stop.rungs],
                }
                for stop in ladder.stops
            ],
            "out": [road.out for road in ladder.roads],
            "ends": [[road.end, road.ending] for road in ladder.roads],
            "parting": ladder.parting,
            "parts": ladder.parts,
            "rounds": ladder.rounds,
        }
    return state


def _cell(rung: Rung | None) -> list[Any] | None:
    """Return outcome, sign, word, the line that decided, and all lines that had a say."""
    if rung is None:
        return None
    cell = Cell.of(rung)
    return [cell.outcome, cell.sign, cell.word, cell.line, list(map(str, rung.weighed))]


def table_state(rows: Mapping[str, Road | None], order: int) -> dict[str, Any]:
    """Return the table: each cell is outcome, sign, word and line; a hidden row has none."""
    shown = []
    for mask, road in rows.items():
        cells = [] if road is None else [
            [entry.cell.outcome, entry.cell.sign, entry.word, entry.cell.line]
            for entry in entries(road)
        ]  # fmt: skip
        end = None if road is None else [road.end, road.end_word, road.ending]
        shown.append({"mask": mask, "cells": cells, "end": end})
    return {
        "title": text("ladder.table", size=order_text(order)),
        "columns": [
            [name, text(f"ladder.short.{name}"), text(f"road.rung.{name}")] for name in COLUMNS
        ],
        "rows": shown,
        "hidden": any(road is None for road in rows.values()),
    }


def verdict_state(verdict: Verdict | None) -> dict[str, Any] | None:
    """Return what came of a prediction."""
    if verdict is None:
        return None
    return {
        "right": verdict.right,
        "sentence": verdict.sentence,
        "idea": verdict.idea_name,
        "why": verdict.idea_text,
    }
