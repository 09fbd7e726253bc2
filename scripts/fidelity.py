"""Print the fidelity ledger into docs/fidelity.md: `python -m scripts.fidelity`."""

from __future__ import annotations

from pathlib import Path

from kmemkit.mm.fidelity import as_markdown

TARGET = Path(__file__).parent.parent / "docs" / "fidelity.md"

if __name__ == "__main__":
    TARGET.write_text(as_markdown(), encoding="utf-8")
    print(f"wrote {TARGET.name}")
