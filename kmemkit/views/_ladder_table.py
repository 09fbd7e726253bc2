"""The table of masks against rungs: what becomes of each mask at each rung, from one moment.

ReclaimLadder shows it with `table=True`. Each row is a road that was really walked, on a copy of
the machine; a row whose end the learner has yet to predict is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kmemkit.snapshot import order_text
from kmemkit.strings import text
from kmemkit.views._ladder_model import Cell, Road
from kmemkit.why import RUNGS

__all__ = ("COLUMNS", "MASKS", "Entry", "entries", "table_lines")

#: The rows: no reclaim at all, kswapd only, its everyday form, with rights, the plain request, and
#: the three that say how hard to try.
MASKS = (
    "GFP_KERNEL & ~__GFP_RECLAIM",
    "GFP_KERNEL & ~__GFP_DIRECT_RECLAIM",
    "GFP_NOWAIT",
    "GFP_ATOMIC",
    "GFP_KERNEL",
    "GFP_KERNEL|__GFP_NORETRY",
    "GFP_KERNEL|__GFP_RETRY_MAYFAIL",
    "GFP_KERNEL|__GFP_NOFAIL",
)
#: The columns: every request stands on the first rung, and the last one is an end.
COLUMNS = RUNGS[1:-1]


class Entry(NamedTuple):
    """One cell of the table: what a road says at a rung, and how often it stood there."""

    cell: Cell
    times: int

    @property
    def word(self) -> str:
        """The outcome's word, with the number of rounds if it was more than one."""
        return text("ladder.times", word=self.cell.word, times=self.times) if self.times > 1 else (
            self.cell.word
        )  # fmt: skip


def entries(road: Road) -> list[Entry]:
    """Return a road's row, a cell for each rung of COLUMNS."""
    return [Entry(road.cell(name), road.times(name)) for name in COLUMNS]


def table_lines(roads: Mapping[str, Road | None], order: int) -> list[str]:
    """Return the table as aligned text; a road that is None is hidden."""
    heads = [text(f"ladder.short.{name}") for name in COLUMNS]
    rows = [[text("ladder.mask"), *heads, text("ladder.end_head")]]
    for mask, road in roads.items():
        if road is None:
            rows.append([mask, *"?" * len(COLUMNS), "?"])
            continue
        row = [f"{entry.cell.sign} {entry.word}" for entry in entries(road)]
        rows.append([mask, *row, road.end_word])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
             for row in rows)  # fmt: skip
    return [text("ladder.table", size=order_text(order)), *(line.rstrip() for line in lines)]
