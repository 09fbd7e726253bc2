"""Copy what is compared of recorded pairs, misuses and procedures into tests/golden.

`python -m scripts.copy_misuse_cells RECORDINGS`; the folder has misuse/matrix.json, as
docs/recordings.md describes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scripts.copy_golden import GOLDEN, write_json

KINDS = {
    "pair": ("allocator", "freer"),
    "misuse": ("misuse",),
    "procedure": ("misuse", "log"),
}
FILES = {
    "pair": "misuse_pair.json.gz",
    "misuse": "misuse_single.json.gz",
    "procedure": "misuse_procedure.json.gz",
}
KEYS = ("kernel", "cell", "kind", "survived", "report_first_line", "memory_returned", "note")


def main() -> None:
    """Copy the cells."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", type=Path, help="folder of recordings")
    misuse = parser.parse_args().recordings / "misuse"
    rows = json.loads((misuse / "matrix.json").read_text(encoding="utf-8"))
    for kind, names in KINDS.items():
        kept = [
            {key: row[key] for key in (*KEYS, *names)} for row in rows if row["kind"] == kind
        ]  # fmt: skip
        write_json(GOLDEN / FILES[kind], kept)


if __name__ == "__main__":
    main()
