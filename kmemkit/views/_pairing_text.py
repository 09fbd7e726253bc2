"""A PairingTable in words: headings, sentences about a cell, the table and a picture as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from textwrap import wrap

from kmemkit.dmesg import reports
from kmemkit.snapshot import size_text
from kmemkit.strings import text
from kmemkit.views._pairing_calls import ALLOCATORS, FREERS
from kmemkit.views._pairing_cells import LETTERS, MARKS, Cell
from kmemkit.views._pairing_picture import Picture

__all__ = (
    "HIDDEN", "NO_CASE", "PENDING", "cell_lines", "explanation", "facts", "legend", "spoken",
    "table_lines", "variant_text",
)  # fmt: skip

#: What stands in a cell that has no code: not a pair, not run yet, not predicted yet.
NO_CASE, PENDING, HIDDEN = "·", "…", "?"
#: Most lines of a report that the text twin writes out, and how wide an explanation is.
REPORT, WIDTH = 30, 92
#: A longer name of a function is written in two lines.
LONG = 10
#: The beginning of a note of damage -> its sentence.
_NOTES = {
    "LATER: two live allocations overlap": "overlap",
    "LATER: contents overwritten by another owner": "overwritten",
    "LATER: pages handed out twice": "twice",
}


def variant_text(freer: str) -> str:
    """Return which call of a function a column means, "" where there is only one."""
    variant = FREERS[freer].variant
    return text(f"pairing_table.variant.{variant}") if variant else ""


# -- what a cell means ----------------------------------------------------------------------------


def legend() -> list[tuple[str, str, str]]:
    """Return what each sign of a code means: (sign, what it is about, meaning)."""
    verdicts = [(LETTERS[v], v, text(f"pairing_table.verdict.{v}")) for v in LETTERS]
    marks = [(m, "mark", text(f"pairing_table.mark.{name}")) for name, m in MARKS.items() if m]
    later = [("!", "mark", text("pairing_table.mark.later"))]
    return [*verdicts, *marks, *later, (NO_CASE, "none", text("pairing_table.mark.no_case"))]


def spoken(code: str) -> str:
    """Return a code in words, as a screen reader says it."""
    if code in (NO_CASE, PENDING, HIDDEN):
        names = {NO_CASE: "no_case", PENDING: "pending", HIDDEN: "hidden"}
        return text(f"pairing_table.mark.{names[code]}")
    if code == LETTERS["ok"]:
        return text("pairing_table.verdict.ok")
    verdict = next(name for name, letter in LETTERS.items() if letter == code[0])
    signs = [name for name, mark in MARKS.items() if mark and mark in code]
    parts = [text(f"pairing_table.verdict.{verdict}")]
    parts += [text(f"pairing_table.mark.{name}") for name in signs]
    if "!" in code:
        parts.append(text("pairing_table.mark.later"))
    return ", ".join(parts)


def facts(cell: Cell) -> list[str]:
    """Return what happened, a sentence each: the verdict first, later damage last."""
    found = [text(f"pairing_table.fact.{cell.verdict}"), _memory(cell)]
    if cell.foreign:
        found.append(text("pairing_table.foreign", what=_pages(cell.foreign)))
    if cell.drift:
        key = "drift_more" if cell.drift > 0 else "drift_less"
        found.append(text(f"pairing_table.{key}", what=_pages(abs(cell.drift))))
    for note in cell.notes:
        start, _, count = note.rpartition(": ") if note not in _NOTES else (note, "", "")
        found.append(text(f"pairing_table.note.{_NOTES[start]}", count=count))
    found += [text("pairing_table.later", line=line) for line in cell.later if " " in line]
    return found


def _pages(pages: int) -> str:
    key = "page" if pages == 1 else "pages"
    return text(f"pairing_table.{key}", pages=f"{pages:,}", size=size_text(pages))


def _memory(cell: Cell) -> str:
    """Return what became of the memory."""
    if cell.guarded:
        return text("pairing_table.memory.guarded")
    if "KASAN" in cell.memory:
        return text("pairing_table.memory.quarantine")
    if cell.returned == "part":
        back = int(cell.memory.split()[1])
        return text(
            "pairing_table.memory.part",
            back=_pages(back), pages=f"{cell.pages:,}", left=_pages(cell.pages - back),
        )  # fmt: skip
    key = cell.returned or "nothing"
    if key == "none" and "vm area" in cell.memory:
        key = "none_area"
    elif key == "none" and cell.verdict in ("hung", "panic"):
        key = "none_dead"
    return text(f"pairing_table.memory.{key}", what=_amount(cell))


def _amount(cell: Cell) -> str:
    if cell.pages:
        return _pages(cell.pages)
    return text("pairing_table.bytes", bytes=f"{cell.size:,}")


def explanation(cell: Cell) -> list[tuple[str, str]]:
    """Return what is behind the log, each kind of report once: (how it begins, plain words)."""
    found: dict[str, tuple[str, str]] = {}
    for one in reports(cell.report):
        found.setdefault(one.kind, (one.first_line, " ".join([one.meaning, *one.facts])))
    return list(found.values())


# -- the text twin --------------------------------------------------------------------------------


def table_lines(
    rows: Sequence[str], columns: Sequence[str], codes: Mapping[tuple[str, str], str]
) -> Iterator[str]:
    """Yield the table: two lines of headings, a line a row."""
    names = max(len(ALLOCATORS[row].label) for row in rows)
    wide = {column: max(4, len(_below(column))) for column in columns}
    above = ""
    for function, group in groupby(columns, key=lambda column: FREERS[column].function):
        members = list(group)
        title = function if FREERS[members[0]].variant else _above(function)
        room = sum(wide[one] + 2 for one in members)
        wide[members[-1]] += max(len(title) + 2 - room, 0)
        above += title.ljust(sum(wide[one] + 2 for one in members))
    if above.strip():
        yield f"{'':{names}}  {above}".rstrip()
    below = "  ".join(_below(column).ljust(wide[column]) for column in columns)
    yield f"{'':{names}}  {below}".rstrip()
    for row in rows:
        cells = "  ".join(codes[row, column].ljust(wide[column]) for column in columns)
        yield f"{ALLOCATORS[row].label:{names}}  {cells}".rstrip()


def _above(function: str) -> str:
    """Return the upper half of a long name."""
    return function[: function.rfind("_") + 1] if len(function) > LONG else ""


def _below(column: str) -> str:
    """Return the lower heading of a column in the text twin."""
    function = FREERS[column].function
    return variant_text(column) or function.removeprefix(_above(function))


def cell_lines(cell: Cell, calls: Sequence[str]) -> list[str]:
    """Return all that is said of a cell: what happened, the report, what is behind it, memory."""
    verdict, *rest = facts(cell)
    lines = [f"{cell.code}  {verdict}", *(f"  {one}" for one in rest)]
    lines += ["", text("pairing_table.report"), *(f"  {one}" for one in _report_lines(cell))]
    if why := explanation(cell):
        lines += ["", text("pairing_table.why"), *_why_lines(why)]
    if cell.picture is not None:
        shown = _picture_lines(cell.picture, calls)
        lines += ["", text("pairing_table.picture"), *(f"  {one}" for one in shown)]
    return lines


def _why_lines(why: Sequence[tuple[str, str]]) -> Iterator[str]:
    for first_line, words in why:
        if len(why) > 1:
            yield f"  {first_line}"
        yield from wrap(words, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _report_lines(cell: Cell) -> list[str]:
    """Return the report; of a long one its beginning, and how much is left out."""
    if not cell.report:
        return [text("pairing_table.silent")]
    more = len(cell.report) - REPORT
    rest = [text("pairing_table.more", count=f"{more:,}")] if more > 0 else []
    return [*cell.report[:REPORT], *rest]


def _picture_lines(shown: Picture, calls: Sequence[str]) -> list[str]:
    """Return a picture as text: a row a moment, what was done before it, what is said of it."""
    moments = [*calls, text("pairing_table.while_later")][: len(shown.frames)]
    width = max(len(frame.marked) for frame in shown.frames)
    names = max(map(len, moments))
    rows = [
        f"{moment:{names}}  {frame.marked:{width}}  {frame.note}".rstrip()
        for moment, frame in zip(moments, shown.frames, strict=True)
    ]
    return [shown.key, *rows]
