"""Which ranges of a map's columns are sent again after a change."""

import pytest

from kmemkit.views._page_columns import changed_ranges


def test_nothing_changed():
    assert changed_ranges(b"abc", b"abc") == []
    assert changed_ranges(b"", b"") == []


@pytest.mark.parametrize(
    ("touched", "ranges"),
    [
        ([0], [(0, 4)]), ([3], [(0, 4)]), ([4], [(4, 8)]), ([3, 4], [(0, 8)]), ([0, 9], [(0, 4), (8, 12)]),
        ([400], [(400, 402)]), ([255, 256], [(252, 260)]), ([259, 300, 401], [(256, 260), (300, 304), (400, 402)]),
        (range(402), [(0, 402)]),
    ],
)  # fmt: skip
def test_changed_chunks_are_joined(touched, ranges):
    before, after = bytes(402), bytearray(402)
    for position in touched:
        after[position] = 1
    assert changed_ranges(before, bytes(after), chunk=4) == ranges
    assert changed_ranges(bytes(after), before, chunk=4) == ranges


def test_another_length_is_another_column():
    assert changed_ranges(b"abc", b"abcd") == [(0, 4)]
    assert changed_ranges(b"abcd", b"") == [(0, 0)]


def test_chunks_are_of_1024_pages_unless_told_otherwise():
    before, after = bytes(5000), bytearray(5000)
    after[1500] = 1
    assert changed_ranges(before, bytes(after)) == [(1024, 2048)]
