"""Arguments as C functions receive them: what is no address, no size or no count is turned away.

The methods of Kernel that take objects and bytes ask here before anything happens. A negative
number wraps, as it does in an unsigned parameter; what C would not compile raises TypeError.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = (
    "SIZE_MAX",
    "as_bytes",
    "length",
    "numbers",
    "pointer",
    "size_t",
    "unsigned_int",
    "whole",
)

SIZE_MAX = (1 << 64) - 1
UINT_MAX = (1 << 32) - 1


def whole(name: str, value: int, what: str) -> int:
    """Return a whole number; `name` is the parameter, `what` what to give instead.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: give {what}")
    return value


def pointer(address: int | None) -> int:
    """Return an address as a number; NULL is 0, and -12 is where ERR_PTR(-ENOMEM) points to."""
    if address is None:
        return 0
    if not isinstance(address, int) or isinstance(address, bool):
        raise TypeError(f"{address!r} is not an address; give what an allocation returned, or None")
    return address & SIZE_MAX


def size_t(size: int) -> int:
    """Return a size in bytes as a size_t: 64 bits, and no sign."""
    return whole("size", size, "a number of bytes") & SIZE_MAX


def unsigned_int(name: str, value: int, what: str) -> int:
    """Return a number as an unsigned int: 32 bits, and no sign."""
    return whole(name, value, what) & UINT_MAX


def numbers(name: str, values: Iterable[int], what: str) -> list[int]:
    """Return what is given in a list; any row of numbers will do.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)):
        raise TypeError(f"{name}={values!r}: give a list of {what}")
    return list(values)


def length(size: int) -> int:
    """Return how many bytes are to be touched.

    Raises:
        TypeError, ValueError: no number, or a negative one; in C that is nearly all of memory.
    """
    if whole("size", size, "a number of bytes") < 0:
        raise ValueError(
            f"size={size}: give 0 or more bytes; in C it would be {size & SIZE_MAX:#x}"
        )
    return size


def as_bytes(name: str, data: bytes) -> bytes:
    """Return bytes that are to be stored.

    Raises:
        TypeError: they are text, or something else.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"{name}={data!r}: give bytes, such as b'abc'")
    return bytes(data)
