"""GFP masks both ways: the names that %pGg prints, and the mask that an expression stands for.

An expression is read by a grammar of three operators, never evaluated as code. What a name is worth
in a release comes from `gfp_tables`. Everybody reaches this through `kmemkit.gfp`.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import NamedTuple, SupportsIndex, TypeVar

from kmemkit.gfp_tables import RELEASES, Profile, profile
from kmemkit.strings import text

__all__ = (
    "GfpWarning",
    "as_mask",
    "bit_elsewhere",
    "decode",
    "encode",
    "flag_names",
    "read_mask",
)

_U32 = 0xFFFF_FFFF
_T = TypeVar("_T")


class GfpWarning(UserWarning):
    """A flag name was used that has no bit in this release and configuration."""


def decode(mask: SupportsIndex | str, release: str | Profile = "6.12") -> str:
    """Return the names of a mask exactly as the kernel's %pGg prints them.

    Args:
        mask: an integer of 32 bits, or text that `encode` reads ("0xcc0").
        release: a release string, or a `profile()` with other build options.

    Raises:
        TypeError, ValueError: `mask` is not a mask, or names a flag that the release lacks.
        UnknownReleaseError: the bits of this release are not known.
    """
    chosen = _chosen(release)
    left = as_mask(mask, chosen)
    names = []
    for name, bits in chosen.table:
        if left & bits == bits:
            names.append(name)
            left &= ~bits
    if left:
        names.append(f"{left:#x}")
    return "|".join(names)


def encode(names: str, release: str | Profile = "6.12") -> int:
    """Return the mask that an expression of flag names stands for.

    The expression may hold names, hexadecimal or decimal numbers, `|`, `&`, `^`, `~` and
    parentheses with the precedence they have in C, and nothing else; empty text is 0.

    >>> hex(encode("GFP_KERNEL & ~__GFP_RECLAIM"))
    '0xc0'

    Raises:
        ValueError: a name the release does not have (the message suggests others), or broken text.
        UnknownReleaseError: the bits of this release are not known.

    Warns:
        GfpWarning: a name is valid but has no bit in this configuration, and adds nothing.
    """
    value, notes = _read(names, _chosen(release))
    for note in notes:
        warnings.warn(note, GfpWarning, stacklevel=2)
    return value


def flag_names(mask: SupportsIndex | str, release: str | Profile = "6.12") -> tuple[str, ...]:
    """Return the single flags of a mask in ascending bit order; unknown bits as hexadecimal."""
    chosen = _chosen(release)
    left = as_mask(mask, chosen)
    names = []
    for name, bit in chosen.flags:
        if left & bit:
            names.append(name)
            left &= ~bit
    return (*names, f"{left:#x}") if left else tuple(names)


def as_mask(value: SupportsIndex | str, release: str | Profile = "6.12") -> int:
    """Return any accepted spelling of a mask (int, numpy integer, text) as an int of 32 bits.

    Raises:
        TypeError, ValueError: `value` is not a mask.
    """
    return read_mask(value, release)[0]


def read_mask(
    value: SupportsIndex | str, release: str | Profile = "6.12"
) -> tuple[int, tuple[str, ...]]:
    """Return any accepted spelling of a mask as an int, and the sentences `encode` warns with."""
    if isinstance(value, str):
        return _read(value, _chosen(release))
    try:
        mask = operator.index(value)
    except TypeError:
        raise TypeError(
            f"a GFP mask is an integer or text such as 'GFP_KERNEL|__GFP_ZERO', not {value!r}"
        ) from None
    if mask < 0:
        raise ValueError(
            f"{mask:#x} is negative, a GFP mask is not; "
            "a complement needs a mask to act on, as in GFP_KERNEL & ~__GFP_FS"
        )
    if mask > _U32:
        raise ValueError(f"{mask:#x} is too large for a GFP mask, which has 32 bits")
    return mask, ()


def _read(names: str, chosen: Profile) -> tuple[int, tuple[str, ...]]:
    reader = _Reader(names, chosen)
    value = reader.read()
    notes = (
        text("gfp.unset", name=name, release=chosen.release, option=chosen.unset[name])
        for name in dict.fromkeys(reader.used)
        if name in chosen.unset
    )
    return value, tuple(notes)


def _chosen(release: str | Profile) -> Profile:
    return release if isinstance(release, Profile) else profile(release)


_TOKEN = re.compile(
    r"(?P<name>[A-Za-z_]\w*)"
    r"|(?P<number>(?:0[xX][0-9a-fA-F]+|0|[1-9][0-9]*)[uU]?[lL]{0,2})(?!\w)"
    r"|(?P<sign>[|&^~()])|(?P<space>\s+)",
    re.ASCII,
)
_SIGNS = (("|", operator.or_), ("^", operator.xor), ("&", operator.and_))
_DEEPEST = 32


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


class _Reader:
    """Reads one expression; `used` are the names met in it, in order."""

    def __init__(self, source: str, chosen: Profile) -> None:
        if not isinstance(source, str):
            raise TypeError(f"flag names are text such as 'GFP_KERNEL|__GFP_ZERO', not {source!r}")
        self.source = source
        self.chosen = chosen
        self.used: list[str] = []
        # Reversed, so that the next token is popped off the end.
        self.left = [*self._tokens(), _Token("end", "", len(source))][::-1]

    def _tokens(self) -> Iterator[_Token]:
        place = 0
        while place < len(self.source):
            match = _TOKEN.match(self.source, place)
            if match is None:
                raise self._broken(place, "only flag names, numbers, | & ^ ~ and () are read")
            if match.lastgroup != "space":
                yield _Token(str(match.lastgroup), match[0], place)
            place = match.end()

    def _broken(self, column: int, reason: str) -> ValueError:
        shown = self.source if len(self.source) <= 80 else f"{self.source[:77]}..."
        return ValueError(f"cannot read the GFP mask {shown!r} at column {column + 1}: {reason}")

    def read(self) -> int:
        """Return the value of the whole expression; empty text is 0."""
        if self.left[-1].kind == "end":
            return 0
        value = self._level(0, 0)
        if self.left[-1].kind != "end":
            raise self._broken(self.left[-1].column, "write | between flags")
        return value

    def _level(self, rank: int, depth: int) -> int:
        if rank == len(_SIGNS):
            return self._term(depth)
        sign, apply = _SIGNS[rank]
        value = self._level(rank + 1, depth)
        while self.left[-1].text == sign:
            self.left.pop()
            value = apply(value, self._level(rank + 1, depth))
        return value

    def _term(self, depth: int) -> int:
        flips = 0
        while self.left[-1].text == "~":
            self.left.pop()
            flips ^= _U32
        token = self.left.pop()
        if token.kind == "name":
            self.used.append(token.text)
            return _value(token.text, self.chosen) ^ flips
        if token.kind == "number":
            return self._number(token) ^ flips
        if token.text != "(":
            raise self._broken(token.column, "a flag name or a number is missing")
        if depth == _DEEPEST:
            raise self._broken(token.column, f"more than {_DEEPEST} parentheses are open")
        value = self._level(0, depth + 1)
        if self.left.pop().text != ")":
            raise self._broken(token.column, "this parenthesis is not closed")
        return value ^ flips

    def _number(self, token: _Token) -> int:
        # int() refuses very long literals in words of its own.
        digits = token.text.rstrip("uUlL")
        if len(digits) > 34 or (value := int(digits, 0)) > _U32:
            raise self._broken(token.column, "a mask has 32 bits, at most 0xffffffff")
        return value


def _value(name: str, chosen: Profile) -> int:
    if name in chosen.values:
        return chosen.values[name]
    # Needed on this failing path only, and slow to import.
    from difflib import get_close_matches

    where = _elsewhere(name)
    close = get_close_matches(name.upper(), chosen.values, n=3)
    if where:
        hint = f"it is one in {where}"
    elif close:
        hint = f"did you mean {' or '.join(close)}?"
    else:
        hint = "flags look like GFP_KERNEL or __GFP_ZERO"
    raise ValueError(f"{name} is not a GFP flag of Linux {chosen.release}; {hint}")


def _elsewhere(name: str) -> str:
    """Return the releases that know a name, as in "5.10 to 6.1 (0x200)"."""
    runs = _runs(lambda known: known.values.get(name))
    return ", ".join(f"{span} ({value:#x})" if value else span for value, span in runs)


def bit_elsewhere(bit: int) -> str:
    """Return what Debian's kernels call one bit, as in "__GFP_ATOMIC in 5.10 to 6.1"."""
    runs = _runs(lambda known: next((name for name, value in known.flags if value == bit), None))
    return ", ".join(f"{name} in {span}" for name, span in runs)


def _runs(look: Callable[[Profile], _T | None]) -> list[tuple[_T, str]]:
    """Return (value, span of releases) for each run of known releases that agree on a value."""
    found = []
    for value, run in groupby(RELEASES, key=lambda release: look(profile(release))):
        releases = list(run)
        if value is not None:
            one = len(releases) == 1
            found.append((value, releases[0] if one else f"{releases[0]} to {releases[-1]}"))
    return found
