"""Sizes of arrays as they should be and as C computes them, and what a kernel gives for each.

For OverflowCalculator. The arithmetic is `kmemkit.overflow`'s. Blocks are really asked for, on
clones of the kernel that is given, so what is said about them is what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kmemkit.overflow import (
    array_size,
    check_mul_overflow,
    flex_array_size,
    size_max,
    size_mul,
    struct_size,
)
from kmemkit.strings import text

__all__ = ("CELLS", "Answer", "Block", "Sizes", "answers", "groups", "rows")

#: Cells of a row of bytes.
CELLS = 32
_GFP = "GFP_KERNEL"
_ZERO_SIZE_PTR = 16


@dataclass(frozen=True, slots=True)
class Sizes:
    """`n` elements of `size` bytes behind a head of `head` bytes; a size_t has `bits` bits.

    A head of 0 is a plain array, and the size `n * size`.
    """

    n: int
    size: int
    head: int = 0
    bits: int = 64

    def __post_init__(self) -> None:
        most = size_max(self.bits)
        for name in ("n", "size", "head"):
            if not 0 <= getattr(self, name) <= most:
                value = getattr(self, name)
                raise ValueError(text("overflow.too_large", name=name, value=value, bits=self.bits))

    @property
    def expression(self) -> str:
        """The size as a driver writes it."""
        return "sizeof(*p) + n * size" if self.head else "n * size"

    @property
    def need(self) -> int:
        """How many bytes it takes."""
        return self.head + self.n * self.size

    @property
    def asked(self) -> int:
        """How many bytes the expression comes to in C."""
        return self.need & size_max(self.bits)

    @property
    def lost(self) -> int:
        """The upper part of the product, which does not fit; 0 if nothing is lost."""
        return self.need >> self.bits

    @property
    def fit(self) -> int:
        """How many whole elements there is room for in what C asks for."""
        behind = max(0, self.asked - self.head)
        return min(self.n, behind // self.size) if self.size else self.n


@dataclass(frozen=True, slots=True)
class Block:
    """What an allocation gave. `kind` is all (room for everything), short, silent or loud (NULL).

    Attributes:
        room: its size in bytes, as ksize() has it.
        zero: it is ZERO_SIZE_PTR.
        line: what the log said, "" if nothing.
    """

    kind: str
    room: int = 0
    zero: bool = False
    line: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A call of the family, and what it answered: a number of bytes, or a block."""

    call: str
    value: int = 0
    block: Block | None = None

    def result(self, sizes: Sizes) -> str:
        """Return the answer as a sentence."""
        if self.block is None:
            key = "size_max" if self.value == size_max(sizes.bits) else "bytes"
            return text(f"overflow.{key}", value=f"{self.value:,}", bits=sizes.bits)
        key = "zero" if self.block.zero else self.block.kind
        return text(
            f"overflow.block.{key}",
            room=f"{self.block.room:,}", line=self.block.line,
            fit=f"{sizes.fit:,}", n=f"{sizes.n:,}",
        )  # fmt: skip


def _get(kernel: Any, sizes: Sizes, call: Callable[[Any], int | None]) -> Block:
    """Make an allocation on a clone, and look at what came of it."""
    clone = kernel.clone()
    before = len(clone.dmesg().splitlines())
    at = call(clone)
    said = clone.dmesg().splitlines()[before:]
    line = said[0] if said else ""
    if at is None:
        return Block("loud" if line else "silent", line=line)
    room = clone.ksize(at)
    kind = "all" if room >= sizes.need else "short"
    return Block(kind, room, at == _ZERO_SIZE_PTR, line)


def _array(kernel: Any, sizes: Sizes, name: str) -> Answer:
    """Ask for the array as an array: the product is checked in a size_t before anything else."""
    total, overflow = check_mul_overflow(sizes.n, sizes.size, bits=sizes.bits)
    if overflow and sizes.bits == 32:  # the kernel's own size_t would hold it
        block = Block("silent")
    elif sizes.bits == 32:
        block = _get(kernel, sizes, lambda clone: clone.kmalloc(total, _GFP))
    else:
        block = _get(kernel, sizes, lambda clone: getattr(clone, name)(sizes.n, sizes.size, _GFP))
    return Answer(f"{name}(n, size, {_GFP})", block=block)


def answers(kernel: Any, sizes: Sizes) -> tuple[Answer, ...]:
    """Return what each way to write it gives: the plain one first, the one to use second."""
    bits = sizes.bits

    def kmalloc(written: str, size: int) -> Answer:
        block = _get(kernel, sizes, lambda clone: clone.kmalloc(size, _GFP))
        return Answer(f"kmalloc({written}, {_GFP})", block=block)

    plain = kmalloc(sizes.expression, sizes.asked)
    if sizes.head:
        flex = flex_array_size(sizes.size, sizes.n, bits=bits)
        whole = struct_size(sizes.head, sizes.size, sizes.n, bits=bits)
        return (
            plain,
            kmalloc("struct_size(p, items, n)", whole),
            Answer("struct_size(p, items, n)", whole),
            Answer("flex_array_size(p, items, n)", flex),
        )
    most = array_size(sizes.n, sizes.size, bits=bits)
    return (
        plain,
        _array(kernel, sizes, "kmalloc_array"),
        _array(kernel, sizes, "kcalloc"),
        kmalloc("array_size(n, size)", most),
        Answer("array_size(n, size)", most),
        Answer("size_mul(n, size)", size_mul(sizes.n, sizes.size, bits=bits)),
    )


# -- pictures -------------------------------------------------------------------------------------


def groups(value: int, base: str, digits: int) -> tuple[str, str]:
    """Return a number's digits in fours: (those that do not fit `digits`, those that do)."""
    shown = f"{value:0{digits}{base}}"
    return _fours(shown[:-digits]), _fours(shown[-digits:])


def _fours(digits: str) -> str:
    first = len(digits) % 4
    parts = [digits[:first], *(digits[i : i + 4] for i in range(first, len(digits), 4))]
    return " ".join(filter(None, parts))


def rows(sizes: Sizes, block: Block) -> tuple[int, str, str]:
    """Return the beginning of the array as two rows of cells: (bytes of a cell, thought, given).

    In the first row a digit is the last one of the element's number, h the head. In the second, #
    was asked for, + is slack, x is not yours, and . belongs to neither row.
    """
    unit, half = 1, sizes.need > block.room
    while block.room > unit * (CELLS // 2 if half else CELLS) or (
        not block.room and sizes.head + 2 * sizes.size > unit * CELLS
    ):
        unit *= 2
    places = [cell * unit for cell in range(CELLS)]
    return (
        unit,
        "".join(_thought(sizes, at) for at in places),
        "".join(_given(sizes, block, at) for at in places),
    )


def _thought(sizes: Sizes, at: int) -> str:
    if at >= sizes.need:
        return "."
    return "h" if at < sizes.head else str((at - sizes.head) // sizes.size % 10)


def _given(sizes: Sizes, block: Block, at: int) -> str:
    asked = sizes.asked if block.room else 0
    if at < asked:
        return "#"
    if at < block.room:
        return "+"
    return "x" if at < sizes.need else "."


def marks(row: str) -> Iterator[str]:
    """Yield what each cell of a row is, as the page calls it."""
    names = {"#": "asked", "+": "slack", "x": "foreign", ".": "none", "h": "head"}
    for cell in row:
        yield names.get(cell) or ("even" if int(cell) % 2 == 0 else "odd")
