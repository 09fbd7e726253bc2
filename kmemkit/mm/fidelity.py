"""The fidelity ledger: all that the simulator does otherwise than Linux 6.12, on purpose.

docs/fidelity.md is printed from this table (`python -m scripts.fidelity`); a test compares the two,
and looks up every `where`. A difference that is not listed here is a bug. The entries are in
fidelity_pages.py and fidelity_slab.py.
"""

from __future__ import annotations

from kmemkit.mm.difference import Difference
from kmemkit.mm.fidelity_pages import PAGES
from kmemkit.mm.fidelity_slab import SLABS

__all__ = ("LEDGER", "Difference", "as_markdown")

LEDGER = (*PAGES, *SLABS)


def as_markdown() -> str:
    """Return the ledger as the text of docs/fidelity.md."""
    lines = [
        "# Fidelity ledger",
        "",
        "What the simulated kernel does otherwise than Linux 6.12 (Debian's x86-64 config),",
        "on purpose. A difference that is not in this list is a bug: please report it. This page",
        "is printed from `kmemkit/mm/fidelity.py`.",
        "",
    ]
    for one in LEDGER:
        lines += [
            f"## {one.topic[0].upper()}{one.topic[1:]}",
            "",
            f"- Linux: {one.linux}",
            f"- Here: {one.model}",
            f"- Why: {one.why}",
            f"- Lessons affected: {one.lessons}",
            f"- Code: `{one.where}`",
            "",
        ]
    return "\n".join(lines)
