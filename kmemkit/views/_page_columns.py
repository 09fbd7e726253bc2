"""The byte columns that the browser holds of a map, and the patches that keep them up to date.

`page_map` sends them whole once, and afterwards only what changed; static/page_columns.js has the
other side.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ("Columns", "changed_ranges")


class Columns(NamedTuple):
    """What the browser holds: the pages and owners of [first, first + len(pages))."""

    first: int
    pages: bytes
    owners: bytes

    def patch(self, after: Columns, number: int) -> bytes:
        """Return what turns these columns into `after`, or b"" where they are equal.

        Little-endian 32-bit words: the patch's number, how many page and how many owner ranges,
        (start, length) of each, then the bytes of all ranges. The number keeps two equal patches
        in a row apart, which traitlets would take for no change.
        """
        pages = changed_ranges(self.pages, after.pages)
        owners = changed_ranges(self.owners, after.owners)
        if not pages and not owners:
            return b""
        words = [number & 0xFFFFFFFF, len(pages), len(owners)]
        for start, end in (*pages, *owners):
            words += (start, end - start)
        return b"".join(
            [
                struct.pack(f"<{len(words)}I", *words),
                *(after.pages[start:end] for start, end in pages),
                *(after.owners[start:end] for start, end in owners),
            ]
        )


def changed_ranges(before: bytes, after: bytes, chunk: int = 1024) -> list[tuple[int, int]]:
    """Return the [start, end) ranges, in multiples of `chunk` bytes, where two columns differ.

    Neighbouring ranges are joined. Columns of different length differ as a whole.
    """
    if len(before) != len(after):
        return [(0, len(after))]
    if before == after:
        return []
    ranges: list[tuple[int, int]] = []
    for start in _differing(before, after, chunk):
        end = min(start + chunk, len(after))
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges


def _differing(before: bytes, after: bytes, chunk: int) -> Iterator[int]:
    """Yield the starts of differing chunks; whole 64-chunk stretches are compared first."""
    stretch = chunk * 64
    for base in range(0, len(after), stretch):
        if before[base : base + stretch] != after[base : base + stretch]:
            for start in range(base, min(base + stretch, len(after)), chunk):
                if before[start : start + chunk] != after[start : start + chunk]:
                    yield start
