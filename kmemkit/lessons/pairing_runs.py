"""Running the drivers of lesson 11: C line by line on a simulated kernel, watched by kmemleak.

A small C goes in: assignments, calls, if, return, pointers in structures. Every line becomes the
line of Python with the same number, so kmemleak's back traces name lines of the C file. After each
line a scan tells what no pointer leads to any more: that line lost it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kmemkit.lessons.pairing_drivers import CallLine, Driver
from kmemkit.mm.kernel import Kernel

__all__ = ("FILE", "Leak", "Run", "run")

FILE = "nic.c"
_ERRORS = {"ENOMEM": 12, "EINVAL": 22, "ENETDOWN": 100}
#: Pointers in structures, 8 bytes each.
_FIELDS = {"ring": 16, "fw": 24, "cmd": 32, "log": 40, "rule": 48, "down": 56, "mask": 16}
_FUNCTIONS = (
    "kfree", "kmalloc", "kmalloc_array", "kmem_cache_alloc", "kmem_cache_free", "krealloc",
    "kvfree", "kvmalloc", "kzalloc", "vfree", "vmalloc",
)  # fmt: skip
_HEAD = re.compile(r"static int (\w+)\((.*)\)")
_TYPE = re.compile(r"(?:struct \w+ \*|char \*|void \*|int )(?=\w+ =)")
_DECLARED = re.compile(r"(?:struct \w+ \*|char \*|void \*|int )\w+;")
_FIELD = re.compile(r"(\w+)->(\w+)")
_OBJECT = re.compile(r"^unreferenced object (0x[0-9a-f]{16})", re.M)
_PLACE = re.compile(rf"in {re.escape(FILE)}:(\d+)$")


@dataclass(frozen=True, slots=True)
class Leak:
    """An object that nobody can free: the line that allocated it, and the line that lost it."""

    address: int
    allocated: int
    lost: int


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind: kmemleak's report, and its objects in the report's order."""

    report: str
    leaks: tuple[Leak, ...]


class _Struct:
    """A structure in the simulated memory; its fields are pointers."""

    kernel: Kernel
    address: int

    def __init__(self, kernel: Kernel, address: int) -> None:
        self.__dict__.update(kernel=kernel, address=address)

    def __getattr__(self, name: str) -> int | None:
        data = self.kernel.read(self.address + _FIELDS[name], 8)
        return int.from_bytes(data, "little") or None

    def __setattr__(self, name: str, value: int | None) -> None:
        self.kernel.write(self.address + _FIELDS[name], (value or 0).to_bytes(8, "little"))


def run(driver: Driver) -> Run:
    """Make the calls of a driver on a small machine, and look for what is lost."""
    watch = _Watch(driver)
    for call in driver.calls:
        watch.call(call)
    places = {one.address: one.place for one in watch.kernel.kmemleak_objects}
    report = watch.scan({})
    leaks = tuple(
        Leak(at, _line(places[at]), watch.lost[at])
        for at in (int(found, 16) for found in _OBJECT.findall(report))
    )
    return Run(report, leaks)


def _line(place: str) -> int:
    found = _PLACE.search(place)
    assert found is not None, f"allocated in {FILE}, not at {place!r}"
    return int(found[1])


class _Watch:
    """A kernel, a driver that runs on it, and what its lines lost."""

    def __init__(self, driver: Driver) -> None:
        self.kernel = kernel = Kernel(ram="16M")
        cache = kernel.kmem_cache_create("nic_cmd", 296)
        kernel.kmemleak = True
        self.nic = kernel.kzalloc(256, "GFP_KERNEL")  # the network core's, which keeps it
        self.lost: dict[int, int] = {}
        self._line = 0
        self._happens = ""
        names: dict[str, object] = {one: getattr(kernel, one) for one in _FUNCTIONS}
        names |= _ERRORS | {
            "__name__": "nic",
            "GFP_KERNEL": "GFP_KERNEL",
            "NULL": None,
            "cmd_cache": cache,
            "nic": self.nic,
            "parse": self._parse,
            "_at": lambda address: _Struct(kernel, address),
            "_see": self._see,
        }
        exec(compile(_python(driver.lines), FILE, "exec"), names)
        self._names = names

    def call(self, call: CallLine) -> None:
        """Call one function, with what happens to it."""
        assert self.nic is not None, "there is memory for one structure"
        self._happens = call.happens
        if call.happens == "no_memory":
            self.kernel.fail_nth(1)
        if call.happens == "down":
            _Struct(self.kernel, self.nic).down = 1
        exec(call.code, self._names)
        self.kernel.fail_nth(0)
        self._see(0, {})

    def scan(self, variables: Mapping[str, object]) -> str:
        """Return kmemleak's report: what do these variables and the structure not lead to?"""
        return self.kernel.kmemleak_scan(self.nic, *variables.values())

    def _parse(self, line: int, length: int) -> int:
        """Read a line of settings, which comes from somewhere else."""
        self.kernel.write(line, b"mtu = fast"[:length])
        return -_ERRORS["EINVAL"] if self._happens == "no_sense" else 0

    def _see(self, line: int, variables: Mapping[str, object]) -> None:
        """Look for what the line before this one lost."""
        for found in _OBJECT.findall(self.scan(variables)):
            self.lost.setdefault(int(found, 16), self._line)
        self._line = line


# -- C to Python ----------------------------------------------------------------------------------


def _python(lines: tuple[str, ...]) -> str:
    """Return a C file as Python, line by line."""
    return "\n".join(_translated(number, line) for number, line in enumerate(lines, 1)) + "\n"


def _translated(number: int, line: str) -> str:
    code = line.strip()
    indent = line[: len(line) - len(line.lstrip())]
    if code in ("", "{", "}"):
        return ""
    if head := _HEAD.fullmatch(code):
        arguments = (one.rpartition(" ")[2].lstrip("*") for one in head[2].split(","))
        return f"def {head[1]}({', '.join(arguments)}):"
    see = f"_see({number}, locals())"
    if _DECLARED.fullmatch(code):
        return indent + see
    code = _FIELD.sub(r"_at(\1).\2", _TYPE.sub("", code)).replace("!", "not ")
    if found := re.fullmatch(r"if \((.*)\)(?: \{)?", code):
        return f"{indent}if {see} or {found[1]}:"
    return f"{indent}{see}; {code.rstrip(';')}"
