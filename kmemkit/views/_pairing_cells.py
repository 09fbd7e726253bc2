"""A cell of a PairingTable: what came of a pair, as a code, and all that is kept of the run.

Runs are made by the function that the table was given, and every run is made once in a process.
The code is a letter for what the kernel did, ! for damage that shows later, and how much of the
memory is back; where nothing is wrong it is "ok".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from kmemkit.views._pairing_picture import Picture, picture

__all__ = ("LETTERS", "MARKS", "Cell", "Key", "Play", "played")

#: What runs a pair: (kernel, allocator, freer, steps=True) -> mm.misuse_guest.Outcome.
Play = Callable[..., Any]
#: kernel, allocator, freer
Key = tuple[str, str, str]

LETTERS = {"ok": "ok", "silent": "S", "report": "W", "oops": "O", "hung": "H", "panic": "P"}
MARKS = {"all": "+", "part": "~", "none": "-", "unknown": "?", "": ""}


@dataclass(frozen=True, slots=True)
class Cell:
    """What came of a pair; see `Outcome` in mm/misuse_guest.py for the words.

    `pages` counts the memory's own pages, 0 for an object and for a pointer that owns nothing.
    """

    verdict: str
    returned: str
    damaged: bool
    memory: str
    guarded: bool
    report: tuple[str, ...]
    notes: tuple[str, ...]
    later: tuple[str, ...]
    drift: int
    foreign: int
    size: int
    pages: int
    picture: Picture | None

    @property
    def code(self) -> str:
        """The cell as the table shows it, for example "W-" or "S!+"."""
        if self.verdict == "ok":
            return LETTERS["ok"]
        alive = self.verdict not in ("hung", "panic")
        return f"{LETTERS[self.verdict]}{'!' * (self.damaged and alive)}{MARKS[self.returned]}"


@cache
def played(play: Play, kernel: str, allocator: str, freer: str) -> Cell:
    """Run a pair, and keep what the table shows of it."""
    outcome = play(kernel, allocator, freer, steps=True)
    return Cell(
        outcome.verdict,
        outcome.returned,
        outcome.damaged,
        str(outcome.memory_returned),
        outcome.guarded,
        tuple(outcome.report),
        tuple(outcome.notes),
        tuple(dict.fromkeys(outcome.later)),
        outcome.drift,
        outcome.foreign,
        outcome.size,
        len(outcome.pages),
        picture(outcome),
    )
