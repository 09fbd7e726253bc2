"""A small C: what a driver's probe() may consist of, read line by line. For LeakGym and lesson 11.

`parse` takes the lines of a function and gives its statements, each with its line. The
acquisitions are the driver's and stay as they are; tests, jumps, labels and releases are free.
`_leak_run` runs the statements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kmemkit.strings import text

__all__ = ("BadCode", "Program", "Statement", "parse")

_PATH = r"[a-z_]\w*(?:->[a-z_]\w*)*"
_SKIPPED = re.compile(r"(?:static\b.*|(?:struct|int|void|unsigned)\b[^=()]*(?:=\s*-?\w+)?;)")
_IF = re.compile(rf"if\s*\(\s*(!?)\s*({_PATH})\s*\)\s*(\{{?)\s*")
_GOTO = re.compile(r"goto\s+(\w+)\s*;\s*")
_RETURN = re.compile(r"return\s+(-?\w+)\s*;\s*")
_LABEL = re.compile(r"(\w+)\s*:\s*")
_ASSIGN = re.compile(rf"({_PATH})\s*=\s*([^;]+);\s*")
_CALL = re.compile(r"(\w+)\s*\(([^;]*)\)\s*;\s*")
_CAST = re.compile(r"\(\s*(?:unsigned long|void \*)\s*\)\s*")
_COMMENT = re.compile(r"/\*.*?\*/|//.*")

#: freeing function -> which of its arguments is the pointer
_RELEASES = {"kfree": 0, "vfree": 0, "kvfree": 0, "kmem_cache_free": 1, "free_pages": 0}


class BadCode(ValueError):
    """A line that this small C does not know; the message says which, and what it knows."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One step of a function.

    Attributes:
        line: index of its line.
        op: acquire, clear (`p = NULL`), test, goto, return, release, keep (pci_set_drvdata()).
        path: the pointer it is about, as `dev->ring`; the label of a goto, what a return returns.
        to: index of the statement that a goto goes to; for a test, that comes if it is not so.
        call: the freeing function.
        order: the order that free_pages() is given.
        negated: the test is `!path`.
    """

    line: int
    op: str
    path: str = ""
    to: int = 0
    call: str = ""
    order: int = 0
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """A function: its lines, its statements, and where its labels stand among them."""

    lines: tuple[str, ...]
    statements: tuple[Statement, ...]
    labels: dict[str, int]

    def releases(self, path: str) -> list[int]:
        """Return the indices of the statements that free a pointer."""
        return [n for n, s in enumerate(self.statements) if s.op == "release" and s.path == path]


def parse(lines: Sequence[str], acquisitions: Sequence[tuple[str, str]]) -> Program:
    """Read a function.

    Args:
        lines: its lines.
        acquisitions: (pointer, call) of each allocation that it must have, in this order.

    Raises:
        BadCode: there is a line that is not understood, or an acquisition is missing or changed.
    """
    reader = _Reader(dict(acquisitions))
    for number, line in enumerate(lines):
        reader.read(number, _COMMENT.sub("", line).strip())
    statements = reader.done()
    made = [s.path for s in statements if s.op == "acquire"]
    if made != [path for path, _ in acquisitions]:
        raise BadCode(text("leak_gym.bad_acquisitions"))
    return Program(tuple(lines), statements, reader.labels)


class _Reader:
    """What was read so far: statements, labels, and the blocks that are open."""

    def __init__(self, calls: dict[str, str]) -> None:
        self.labels: dict[str, int] = {}
        self._calls = calls
        self._statements: list[Statement] = []
        self._open: list[int | None] = []  # the test of each open block; None for the function's
        self._pending: list[int] = []  # tests without braces: they guard the next statement
        self._line = (0, "")

    def read(self, number: int, line: str) -> None:
        """Take in one line, which may hold several statements."""
        self._line = (number + 1, line)
        if _SKIPPED.fullmatch(line):
            return
        rest = line
        while rest:
            rest = self._one(number, rest)

    def done(self) -> tuple[Statement, ...]:
        """Return the statements, jumps resolved."""
        if any(test is not None for test in self._open):
            raise BadCode(text("leak_gym.bad_block"))
        return tuple(self._resolved(index, s) for index, s in enumerate(self._statements))

    def _resolved(self, index: int, s: Statement) -> Statement:
        if s.op != "goto":
            return s
        if s.path not in self.labels:
            raise BadCode(text("leak_gym.bad_label", label=s.path, line=s.line + 1))
        if self.labels[s.path] <= index:
            raise BadCode(text("leak_gym.bad_back", label=s.path, line=s.line + 1))
        return replace(s, to=self.labels[s.path])

    def _one(self, number: int, rest: str) -> str:
        """Read what `rest` begins with; return what is left."""
        if rest[0] == "{":
            self._open.append(None)
            return rest[1:].strip()
        if rest[0] == "}":
            if not self._open:
                raise BadCode(text("leak_gym.bad_block"))
            self._close(self._open.pop())
            return rest[1:].strip()
        if found := _IF.match(rest):
            self._test(number, found)
        elif found := _GOTO.match(rest):
            self._add(Statement(number, "goto", found[1]))
        elif found := _RETURN.match(rest):
            self._add(Statement(number, "return", found[1]))
        elif found := _LABEL.match(rest):
            self.labels[found[1]] = len(self._statements)
        elif found := _ASSIGN.match(rest):
            self._assign(number, found[1], found[2].strip())
        elif found := _CALL.match(rest):
            self._call(number, found[1], [part.strip() for part in found[2].split(",")])
        else:
            raise self._bad()
        return rest[found.end() :]

    def _bad(self) -> BadCode:
        line, said = self._line
        return BadCode(text("leak_gym.bad_line", line=line, said=said))

    def _add(self, statement: Statement) -> None:
        self._statements.append(statement)
        for test in self._pending:
            self._close(test)
        self._pending.clear()

    def _close(self, test: int | None) -> None:
        if test is not None:
            self._statements[test] = replace(self._statements[test], to=len(self._statements))

    def _test(self, number: int, found: re.Match[str]) -> None:
        index = len(self._statements)
        self._statements.append(Statement(number, "test", found[2], negated=bool(found[1])))
        (self._open if found[3] else self._pending).append(index)

    def _assign(self, number: int, path: str, value: str) -> None:
        if path == "err":
            return
        if value == "NULL" and path in self._calls:
            self._add(Statement(number, "clear", path))
        elif _squeezed(self._calls.get(path, "")) == _squeezed(value):
            self._add(Statement(number, "acquire", path))
        else:
            raise BadCode(text("leak_gym.bad_acquisitions"))

    def _call(self, number: int, function: str, arguments: list[str]) -> None:
        if function == "pci_set_drvdata":
            self._add(Statement(number, "keep", arguments[-1]))
            return
        place = _RELEASES.get(function)
        if place is None or len(arguments) <= place:
            raise self._bad()
        path = _CAST.sub("", arguments[place])
        order = arguments[-1] if function == "free_pages" else "0"
        if path not in self._calls or not order.isdigit():
            raise self._bad()
        self._add(Statement(number, "release", path, call=function, order=int(order)))


def _squeezed(call: str) -> str:
    return re.sub(r"\s+", "", call)
