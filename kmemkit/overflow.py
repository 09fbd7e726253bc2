"""Sizes that must not wrap: the arithmetic of an allocation's size, as C does it and as it should.

Drivers compute `n * size` before they allocate; if the product does not fit a size_t, C drops the
upper bits, and a small block is given out for a large array. The helpers stick to SIZE_MAX instead,
which no allocator can serve. The simulator's `kmalloc_calls`, the views and the lessons ask here.

Linux: include/linux/overflow.h, same names. `bits` is the width of a size_t: 64, or 32 as on i386
and in every product of two `unsigned int`.
"""

from __future__ import annotations

__all__ = (
    "array3_size",
    "array_size",
    "check_add_overflow",
    "check_mul_overflow",
    "check_sub_overflow",
    "flex_array_size",
    "mul_wrap",
    "size_add",
    "size_max",
    "size_mul",
    "size_sub",
    "struct_size",
)


def size_max(bits: int = 64) -> int:
    """Return SIZE_MAX, the largest size_t.

    Raises:
        ValueError: bits is neither 32 nor 64.
    """
    if bits not in (32, 64):
        raise ValueError(f"bits={bits!r}: a size_t has 64 bits, or 32 on a 32-bit machine")
    return (1 << bits) - 1


def _size_t(value: int, bits: int) -> int:
    """Return a number as a size_t parameter receives it: -1 becomes SIZE_MAX."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a size; give a whole number of bytes or elements")
    return value & size_max(bits)


def mul_wrap(a: int, b: int, *, bits: int = 64) -> int:
    """Return `a * b` as C computes it: what does not fit is dropped, and nothing says so."""
    return _size_t(a, bits) * _size_t(b, bits) & size_max(bits)


def check_mul_overflow(a: int, b: int, *, bits: int = 64) -> tuple[int, bool]:
    """Return (the wrapped product, whether it does not fit).

    In C the product goes through a pointer, and the return value says that it overflowed.
    """
    return mul_wrap(a, b, bits=bits), _size_t(a, bits) * _size_t(b, bits) > size_max(bits)


def check_add_overflow(a: int, b: int, *, bits: int = 64) -> tuple[int, bool]:
    """Return (the wrapped sum, whether it does not fit)."""
    total = _size_t(a, bits) + _size_t(b, bits)
    return total & size_max(bits), total > size_max(bits)


def check_sub_overflow(a: int, b: int, *, bits: int = 64) -> tuple[int, bool]:
    """Return (the wrapped difference, whether it is below 0)."""
    rest = _size_t(a, bits) - _size_t(b, bits)
    return rest & size_max(bits), rest < 0


def size_mul(a: int, b: int, *, bits: int = 64) -> int:
    """Return `a * b`, or SIZE_MAX if that does not fit."""
    return min(_size_t(a, bits) * _size_t(b, bits), size_max(bits))


def size_add(a: int, b: int, *, bits: int = 64) -> int:
    """Return `a + b`, or SIZE_MAX if that does not fit."""
    return min(_size_t(a, bits) + _size_t(b, bits), size_max(bits))


def size_sub(a: int, b: int, *, bits: int = 64) -> int:
    """Return `a - b`, or SIZE_MAX if that is below 0 or one of them is SIZE_MAX already.

    So a sum that overflowed does not become a size again by what is taken off it.
    """
    most, a, b = size_max(bits), _size_t(a, bits), _size_t(b, bits)
    return most if most in (a, b) or a < b else a - b


def array_size(a: int, b: int, *, bits: int = 64) -> int:
    """Return the size of an array of `a` elements of `b` bytes, SIZE_MAX if it does not fit."""
    return size_mul(a, b, bits=bits)


def array3_size(a: int, b: int, c: int, *, bits: int = 64) -> int:
    """Return the size of `a` rows of `b` elements of `c` bytes, SIZE_MAX if it does not fit."""
    return size_mul(size_mul(a, b, bits=bits), c, bits=bits)


def flex_array_size(item: int, count: int, *, bits: int = 64) -> int:
    """Return the size of `count` elements of `item` bytes at the end of a struct.

    C has flex_array_size(p, member, count) and takes the size from the member's type. With a count
    that the compiler knows it is plain arithmetic, and the compiler reports an overflow itself.
    """
    return size_mul(count, item, bits=bits)


def struct_size(head: int, item: int, count: int, *, bits: int = 64) -> int:
    """Return the size of a struct of `head` bytes that ends with `count` elements of `item` bytes.

    C has struct_size(p, member, count); `head` is sizeof(*p), the elements not counted.
    """
    return size_add(head, flex_array_size(item, count, bits=bits), bits=bits)
