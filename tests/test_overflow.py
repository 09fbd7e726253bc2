"""Sizes that wrap, and sizes that do not: against the arithmetic of whole numbers (facts 11.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemkit import overflow

BITS = st.sampled_from([32, 64])
#: Sizes near the places where products overflow, and any others.
EDGES = st.sampled_from([0, 1, 2, 3, 1 << 16, (1 << 32) - 1, 1 << 32, 1 << 63, (1 << 64) - 1])
SIZE = st.one_of(EDGES, st.integers(0, (1 << 64) - 1), st.integers(0, 1 << 16))


def fits(value, bits):
    return 0 <= value < 1 << bits


@given(SIZE, SIZE, BITS)
def test_a_sum_or_product_is_right_or_size_max(a, b, bits):
    a, b = a % (1 << bits), b % (1 << bits)
    most = (1 << bits) - 1
    assert overflow.size_mul(a, b, bits=bits) == (a * b if fits(a * b, bits) else most)
    assert overflow.size_add(a, b, bits=bits) == (a + b if fits(a + b, bits) else most)


@given(SIZE, SIZE, BITS)
def test_the_product_in_c_has_the_lower_bits_and_the_check_says_what_is_lost(a, b, bits):
    a, b = a % (1 << bits), b % (1 << bits)
    wrapped, overflowed = overflow.check_mul_overflow(a, b, bits=bits)
    assert wrapped == overflow.mul_wrap(a, b, bits=bits) == a * b % (1 << bits)
    assert overflowed == (a * b != wrapped)


@given(SIZE, SIZE, BITS)
def test_sums_and_differences_are_checked_too(a, b, bits):
    a, b = a % (1 << bits), b % (1 << bits)
    total, too_much = overflow.check_add_overflow(a, b, bits=bits)
    rest, too_little = overflow.check_sub_overflow(a, b, bits=bits)
    assert (total - (a + b)) % (1 << bits) == (rest - (a - b)) % (1 << bits) == 0
    assert (too_much, too_little) == (total != a + b, rest != a - b)


@given(SIZE, SIZE)
def test_what_is_saturated_stays_saturated(a, b):
    most = overflow.size_max()
    assert overflow.size_sub(most, a) == overflow.size_sub(a, most) == most
    assert overflow.size_add(most, a) == most
    assert overflow.size_mul(most, a) == (most if a else 0)
    assert overflow.size_sub(a, b) == (most if a < b or most in (a, b) else a - b)


@given(SIZE, SIZE, SIZE, BITS)
def test_arrays_and_structs_are_made_of_them(a, b, c, bits):
    a, b, c = (one % (1 << bits) for one in (a, b, c))
    most = (1 << bits) - 1
    assert overflow.array_size(a, b, bits=bits) == min(a * b, most)
    assert overflow.array3_size(a, b, c, bits=bits) == min(min(a * b, most) * c, most)
    assert overflow.flex_array_size(a, b, bits=bits) == min(a * b, most)
    assert overflow.struct_size(a, b, c, bits=bits) == min(a + b * c, most)


def test_the_recorded_product_of_two_unsigned_int():
    # misuse cell m.kmalloc_mul_overflow32: 268435457 elements of 16 bytes get 16 bytes
    assert overflow.mul_wrap(268435457, 16, bits=32) == 16
    assert overflow.mul_wrap(268435457, 16) == 268435457 * 16


def test_a_negative_count_is_a_huge_one():
    assert overflow.size_mul(-1, 16) == overflow.size_max()
    assert overflow.mul_wrap(-1, 16) == (1 << 64) - 16
    assert overflow.size_max(32) == 0xFFFFFFFF


@pytest.mark.parametrize("bits", [16, 63, 0])
def test_a_size_t_has_32_or_64_bits(bits):
    with pytest.raises(ValueError, match="64 bits, or 32"):
        overflow.size_mul(1, 1, bits=bits)


@pytest.mark.parametrize("value", [1.5, "8", None, True])
def test_only_whole_numbers_are_sizes(value):
    with pytest.raises(TypeError, match="is not a size"):
        overflow.size_add(value, 1)
