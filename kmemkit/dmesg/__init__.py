"""A kernel log in plain words: which reports it has, and what a developer should conclude of each.

explain() reads what `dmesg` printed, of the simulated kernel (`Kernel.explain()`) or of a real one.
headlines.py knows how reports begin, facts.py what their lines add; the sentences are in the string
table under [explain].

A log is a stranger's text: lines are cut, reports counted, control characters left out, so that
neither time nor memory nor a terminal suffers from it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from kmemkit.dmesg.facts import facts
from kmemkit.dmesg.headlines import COMPANIONS, headline
from kmemkit.strings import text

__all__ = ("MAX_LINES", "MAX_REPORTS", "Report", "explain", "reports")

#: How much is looked at: characters of a line, lines of a log and of a report, reports.
MAX_CHARS, MAX_LINES, MAX_BODY, MAX_REPORTS = 400, 100_000, 600, 50
#: How much of a report's first line is shown again, and how wide an explanation is.
SHOWN_CHARS, WIDTH = 160, 92
#: A panic ends what came before it, and is no report of its own then.
PANICS = ("panic", "panic_in_interrupt")

#: What stands before a line: syslog's words, a level, time stamp, caller.
_PREFIX = re.compile(r"(?:<\d{1,3}>)?(?:\[ *\d+\.\d+\] ?)?(?:\[ *[TC]\d+\] ?)?")


@dataclass(frozen=True, slots=True)
class Report:
    """A report of the kernel's, and what it means.

    `kind` names it, `first_line` is how it begins, `line` where in the log, from 1 on; `meaning`
    is said of every report of its kind, `facts` of this one.
    """

    kind: str
    first_line: str
    line: int
    meaning: str
    facts: tuple[str, ...]


def explain(log: str | Iterable[str]) -> str:
    """Say in plain words what a kernel log reports, and what to conclude.

    Args:
        log: what dmesg printed, or its lines.

    Raises:
        TypeError: it is neither text nor lines of text.
    """
    found = _Reader(log)
    blocks = []
    first: dict[str, int] = {}
    for number, report in enumerate(found.reports, 1):
        again = first.setdefault(report.kind, number)
        said = report.meaning if again == number else text("explain.same", number=again)
        head = f"{number}. {report.first_line}" if len(found.reports) > 1 else report.first_line
        blocks.append("\n".join([head, *_wrapped(said), *_wrapped(" ".join(report.facts))]))
    if not blocks:
        blocks.append("\n".join(_wrapped(text("explain.nothing"), "")))
    elif len(blocks) > 1:
        blocks.append("\n".join(_wrapped(text("explain.order"), "")))
    if found.full:
        blocks.append(text("explain.full", count=MAX_REPORTS))
    elif found.cut:
        blocks.append(text("explain.cut", lines=MAX_LINES))
    return "\n\n".join(blocks)


def reports(log: str | Iterable[str]) -> tuple[Report, ...]:
    """Return the reports of a kernel log, oldest first, the first MAX_REPORTS of them.

    Raises:
        TypeError: the log is neither text nor lines of text.
    """
    return tuple(_Reader(log).reports)


class _Reader:
    """Finds reports: each line begins one, belongs to the last one, or to none."""

    def __init__(self, log: str | Iterable[str]) -> None:
        self.reports: list[Report] = []
        self.full = False  #: whether there are more reports than MAX_REPORTS
        self.cut = False  #: whether the log has more lines than are read
        self._begin: tuple[str, dict[str, str], int] | None = None
        self._body: list[str] = []
        lines = _lines(log)
        for number, line in enumerate(islice(lines, MAX_LINES), 1):
            if self.full:
                return
            self._take(number, line)
        self._finish()
        self.cut = next(lines, None) is not None

    def _take(self, number: int, line: str) -> None:
        found = headline(line)
        if found is not None and not self._belongs(found.kind, number):
            self._finish()
            if len(self.reports) < MAX_REPORTS:
                self._begin, self._body = (*found, number), [line]
            else:
                self.full = True
        elif self._begin is not None and len(self._body) < MAX_BODY:
            if found is not None:
                for name, value in found.parts.items():
                    self._begin[1].setdefault(name, value)
            self._body.append(line)

    def _belongs(self, kind: str, number: int) -> bool:
        """Whether a first line of this kind only goes on with the report before."""
        if self._begin is None or number - self._begin[2] > MAX_BODY:
            return False
        return kind in PANICS or kind in COMPANIONS.get(self._begin[0], ())

    def _finish(self) -> None:
        if self._begin is None:
            return
        kind, parts, number = self._begin
        shown = {name: _clean(value)[:64] for name, value in parts.items()}
        meaning = text(f"explain.kind.{kind}", **shown)
        first_line = _clean(self._body[0])[:SHOWN_CHARS]
        said = facts(kind, shown, self._body)
        self.reports.append(Report(kind, first_line, number, meaning, said))
        self._begin = None


def _lines(log: str | Iterable[str]) -> Iterator[str]:
    """Yield the lines of a log, cut and without what a logger puts before them."""
    if isinstance(log, (bytes, bytearray)) or not isinstance(log, Iterable):
        raise TypeError(f"a log is text or lines of text, not {type(log).__name__}")
    for line in _split(log) if isinstance(log, str) else log:
        if not isinstance(line, str):
            raise TypeError(f"a line of a log is text, not {type(line).__name__}")
        yield _without_prefix(line[:MAX_CHARS])


def _split(log: str) -> Iterator[str]:
    """Yield the lines of a text, never more than MAX_CHARS of each."""
    at = 0
    while at < len(log):
        end = log.find("\n", at)
        end = len(log) if end < 0 else end
        yield log[at : min(end, at + MAX_CHARS)]
        at = end + 1


def _without_prefix(line: str) -> str:
    """Return a line as printk() got it."""
    line = line.rstrip()
    at = line.find("kernel: ", 0, 100)
    if at >= 0 and "[" not in line[:at].partition(" ")[0]:
        line = line[at + len("kernel: ") :]
    found = _PREFIX.match(line)
    return line[found.end() :] if found else line


def _clean(line: str) -> str:
    """Return a line without characters that a terminal would obey."""
    return "".join(one if one.isprintable() else "?" for one in line)


def _wrapped(said: str, indent: str = "   ") -> list[str]:
    return textwrap.wrap(
        said, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
