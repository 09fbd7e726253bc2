"""kmemleak: which allocations nobody can free any more, because no pointer to them is left.

`debugfs_calls` switches it on; from there on every object that is allocated is known here, with the
line of the learner's own code that asked for it. A scan starts from the learner's variables, as
Linux starts from the kernel's data and stacks, follows every pointer it finds in known objects, and
reports what it never came to. Pages are not tracked, nor searched for pointers.

Linux: mm/kmemleak.c. Simplified: a scan believes what it sees at once. Linux reports an object only
when it is 5 s old and did not change between two scans.
"""

from __future__ import annotations

import linecache
import sys
import zlib
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import PurePath
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING

from kmemkit.mm.memory import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE, VMALLOC_END, VMALLOC_START
from kmemkit.mm.ratelimit import HZ, NS_PER_TICK

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine
    from kmemkit.mm.memory import Memory

__all__ = ("Kmemleak", "LeakObject", "callers_variables", "numbers_in", "scan")

WORD = 8
#: jiffies begin 5 minutes before they wrap around.
INITIAL_JIFFIES = (1 << 32) - 300 * HZ
#: How much of an object a report shows, in bytes, and how many in a line.
HEX_MAX, HEX_ROW = 32, 16


@dataclass(frozen=True, slots=True)
class LeakObject:
    """A live allocation: where, how large, who made it (struct kmemleak_object).

    `road` are the allocator's functions, innermost first; `place` the caller's line.
    """

    address: int
    size: int
    comm: str
    pid: int
    jiffies: int
    road: tuple[str, ...]
    place: str
    reported: bool = False
    ignored: bool = False  #: kmemleak_not_leak(): never reported, but searched


@dataclass(slots=True)
class Kmemleak:
    """Every live allocation, by its address, oldest first."""

    objects: dict[int, LeakObject] = field(default_factory=dict)

    def alloc(self, kernel: Machine, address: int, size: int, *road: str) -> None:
        """Remember an allocation (kmemleak_alloc(), kmemleak_vmalloc())."""
        task = kernel.current
        self.objects.pop(address, None)
        self.objects[address] = LeakObject(
            address, size, task.comm, task.pid, INITIAL_JIFFIES + kernel.now // NS_PER_TICK, road,
            _place(sys._getframe(1)),
        )  # fmt: skip

    def free(self, address: int) -> None:
        """Forget an allocation; one that is not known is none of ours (kmemleak_free())."""
        self.objects.pop(address, None)

    def copy(self) -> Kmemleak:
        """Return an independent copy."""
        return Kmemleak(dict(self.objects))


# -- scan -----------------------------------------------------------------------------------------


def scan(kernel: Machine, leaks: Kmemleak, memory: Memory, roots: Iterable[int]) -> str:
    """Find the objects that no pointer leads to; return the text of /sys/kernel/debug/kmemleak."""
    reached = _reached(leaks, memory, roots)
    white = [one for at, one in leaks.objects.items() if at not in reached]
    new = sum(not one.reported for one in white)
    for one in white:
        leaks.objects[one.address] = replace(one, reported=True)
    if new:
        kernel.printk(
            f"kmemleak: {new} new suspected memory leaks (see /sys/kernel/debug/kmemleak)"
        )
    return "".join(line + "\n" for one in white for line in _report(memory, one))


def _reached(leaks: Kmemleak, memory: Memory, roots: Iterable[int]) -> set[int]:
    """Return the addresses of objects that a pointer leads to, to their beginning or into them."""
    starts = sorted(leaks.objects)
    gray = [at for at, one in leaks.objects.items() if one.ignored]
    reached = set(gray)

    def follow(pointers: Iterable[int]) -> None:
        for pointer in pointers:
            number = bisect_right(starts, pointer) - 1
            if number >= 0:
                at = starts[number]
                if at not in reached and pointer < at + leaks.objects[at].size:
                    reached.add(at)
                    gray.append(at)

    follow(roots)
    while gray:
        one = leaks.objects[gray.pop()]
        follow(_words(memory, one))
    return reached


def _words(memory: Memory, one: LeakObject) -> Iterator[int]:
    """Yield every aligned word of an object that could be a pointer."""
    first = -one.address % WORD
    data = _peek(memory, one.address + first, one.size - first)
    for offset in range(0, len(data) - WORD + 1, WORD):
        word = int.from_bytes(data[offset : offset + WORD], "little")
        if word >= PAGE_OFFSET:
            yield word


def _peek(memory: Memory, address: int, size: int) -> bytes:
    """Return the bytes of an object as they are; nothing is counted as an access."""
    out = bytearray()
    while len(out) < size:
        at = address + len(out)
        vmalloced = VMALLOC_START <= at <= VMALLOC_END
        pfn = memory.mapped.get(at >> PAGE_SHIFT) if vmalloced else at - PAGE_OFFSET >> PAGE_SHIFT
        offset = at % PAGE_SIZE
        length = min(size - len(out), PAGE_SIZE - offset)
        page = None if pfn is None else memory.pages.get(pfn)
        out += bytes(length) if page is None else page[offset : offset + length]
    return bytes(out)


def _report(memory: Memory, one: LeakObject) -> Iterator[str]:
    """Yield the lines about an object that seems to be leaked (print_unreferenced())."""
    data = _peek(memory, one.address, one.size)
    shown = data[:HEX_MAX]
    yield f"unreferenced object {one.address:#018x} (size {one.size}):"
    yield f'  comm "{one.comm}", pid {one.pid}, jiffies {one.jiffies}'
    yield f"  hex dump (first {len(shown)} bytes):"
    for offset in range(0, len(shown), HEX_ROW):
        row = shown[offset : offset + HEX_ROW]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"    {row.hex(' '):47}  {letters}"
    # crc32_le() of Linux neither begins nor ends with an inversion
    yield f"  backtrace (crc {zlib.crc32(data, 0xFFFFFFFF) ^ 0xFFFFFFFF:x}):"
    for function in (*one.road, one.place):
        yield f"    {function}"


# -- the learner's code ---------------------------------------------------------------------------


def _is_ours(frame: FrameType) -> bool:
    """Whether a frame runs code of this package."""
    name = str(frame.f_globals.get("__name__", ""))
    return name == "kmemkit" or name.startswith("kmemkit.")


def _outside(frame: FrameType | None) -> FrameType | None:
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    return frame


def _place(frame: FrameType | None) -> str:
    """Return the line of the learner's code that a call came from: function, place, text.

    A notebook's cell has no file: it is called "cell".
    """
    frame = _outside(frame)
    if frame is None:
        return "kmemkit"
    code, line = frame.f_code, frame.f_lineno
    path = PurePath(code.co_filename)
    in_cell = path.name.startswith("<") or path.parent.name.startswith("ipykernel_")
    where = f"cell, line {line}" if in_cell or not path.suffix else f"{path.name}:{line}"
    function = "" if code.co_name.startswith("<") else f"{code.co_name}() in "
    text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
    return f"{function}{where}: {text}" if text else f"{function}{where}"


def calling_line() -> str:
    """Return the line of the learner's code that makes the call: function, place, text."""
    return _place(sys._getframe(1))


def callers_variables() -> Iterator[Mapping[str, object]]:
    """Yield the variables of the code that called: of its functions that still run, and global.

    A function that has returned holds nothing any more.
    """
    frame = _outside(sys._getframe(1))
    if frame is None:
        return
    yield (variables := frame.f_globals)
    while frame is not None:
        if frame.f_globals is variables and frame.f_locals is not variables:
            yield frame.f_locals
        frame = frame.f_back


def numbers_in(*namespaces: object) -> Iterator[int]:
    """Yield the numbers that variables hold, in lists, dicts and objects of the learner's as well.

    Names that begin with an underscore do not count, nor IPython's `Out`: it keeps every result
    that was ever shown there.
    """
    seen: set[int] = set()
    todo: list[object] = []
    modules = {"__main__"}
    for namespace in namespaces:
        if isinstance(namespace, Mapping):
            modules.add(str(namespace.get("__name__", "__main__")))
            todo += [
                value for name, value in namespace.items()
                if not (isinstance(name, str) and (name.startswith("_") or name in ("In", "Out")))
            ]  # fmt: skip
        else:
            todo.append(namespace)
    while todo:
        value = todo.pop()
        if isinstance(value, int):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            todo += _parts(value, modules)


def _parts(value: object, modules: Container[str]) -> Iterable[object]:
    """Return what a container, or an object of a class of the learner's own, holds."""
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    kind = type(value)
    if kind is not SimpleNamespace and kind.__module__ not in modules:
        return ()
    if is_dataclass(value):  # it may have slots
        return [getattr(value, one.name, None) for one in fields(value)]
    return getattr(value, "__dict__", {}).values()
