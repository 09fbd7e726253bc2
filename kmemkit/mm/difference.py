"""One entry of the fidelity ledger; `fidelity` has the ledger itself."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ("Difference",)


class Difference(NamedTuple):
    """One deliberate difference."""

    topic: str
    linux: str
    model: str
    why: str
    lessons: str
    where: str  #: dotted name of the code that stands for it
