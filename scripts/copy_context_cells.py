"""Copy the recorded cells of requests in a context into tests/golden.

`python -m scripts.copy_context_cells RECORDINGS`; the folder has misuse/matrix.json and
misuse/cells/, as docs/recordings.md describes.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from kmemkit.mm.misuse import report_details
from scripts.copy_golden import GOLDEN, write_json

#: Functions whose verdict follows from the page allocator alone.
FUNCTIONS = re.compile(r"(get_free_page|exhaust|oom|kmalloc|kmalloc_large)_[A-Z].*|might_sleep")
KEYS = ("kernel", "cell", "function", "context", "survived", "report_first_line")


def console(text: str) -> list[str]:
    """Return what a cell's call printed, a line each, without time stamps."""
    call = text.partition("MU BEGIN")[2].partition("MU END")[0]
    return [re.sub(r"^\[ *\d+\.\d+\] ", "", line) for line in call.splitlines()]


def state(lines: list[str]) -> dict[str, int]:
    """Return what the kernel itself said of the context before the call."""
    line = next(line for line in lines if line.startswith("MU in context: "))
    words = line.removeprefix("MU in context: ").split()
    return {name: int(value, 16) for name, value in zip(words[::2], words[1::2], strict=True)}


def main() -> None:
    """Copy the cells."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", type=Path, help="folder of recordings")
    misuse = parser.parse_args().recordings / "misuse"
    rows = []
    for row in json.loads((misuse / "matrix.json").read_text(encoding="utf-8")):
        if row["kind"] == "context" and FUNCTIONS.fullmatch(row["function"]):
            lines = console((misuse / row["file"]).read_text(encoding="utf-8"))
            kept = {key: row[key] for key in KEYS}
            rows.append({**kept, "state": state(lines), "details": report_details(lines)})
    write_json(GOLDEN / "misuse_context.json.gz", rows)


if __name__ == "__main__":
    main()
