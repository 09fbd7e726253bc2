"""Sizes and orders against the published tables of kernel 6.12 (and, in test_golden, recordings)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemkit.mm.slab import (
    SLAB_CONSISTENCY_CHECKS,
    SLAB_HWCACHE_ALIGN,
    SLAB_KMALLOC,
    SLAB_POISON,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TYPESAFE_BY_RCU,
    KmemCache,
)
from kmemkit.mm.slub_layout import (
    SlabParams,
    calculate_alignment,
    calculate_order,
    debug_metadata_grows,
    get_order,
    open_layout,
)

FZPU = SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER


def test_kasan_makes_room_behind_objects():
    """Sizes of slots that a kernel with CONFIG_KASAN_EXTRA_INFO printed."""
    for size, align, slot in ((4, 0, 56), (64, 3, 96), (120, 0, 184)):
        assert cache(size, align=align, kasan=True).size == slot
    assert cache(120, kasan=True).oo == (0, 22)
    assert cache(23, kasan=True).size - cache(24, kasan=True).size == 24
    assert cache(200, kasan=True, ctor=print).size == cache(200, kasan=True).size == 264
    assert cache(64, kasan=True, ctor=print).size == 64 + 8 + 24 + 24
    assert cache(4 << 20, kasan=True).size == 4 << 20


def cache(size, flags=0, align=0, ctor=None, **params):
    s = KmemCache("test", size, calculate_alignment(flags, align, size), flags, ctor=ctor)
    assert open_layout(s, SlabParams(**params))
    return s


@pytest.mark.parametrize(
    ("size", "flags", "align", "ctor", "inuse", "offset", "slot"),
    [
        (24, 0, 0, None, 24, 8, 24),
        (100, 0, 0, None, 104, 48, 104),
        (64, SLAB_HWCACHE_ALIGN, 0, None, 64, 32, 64),
        (24, SLAB_HWCACHE_ALIGN, 0, None, 24, 8, 32),
        (40, SLAB_TYPESAFE_BY_RCU, 0, None, 40, 40, 48),
        (40, 0, 0, True, 40, 40, 48),  # a constructor's work must survive in a free object
        (64, FZPU | SLAB_KMALLOC, 64, None, 72, 72, 256),
        (4, SLAB_RED_ZONE, 0, None, 8, 8, 32),
    ],
)
def test_where_things_lie(size, flags, align, ctor, inuse, offset, slot):
    s = cache(size, flags, align, ctor)
    assert (s.inuse, s.offset, s.size) == (inuse, offset, slot)


ORDERS = {  # CPUs -> orders of slabs of these sizes
    1: (0, 0, 0, 0, 1, 2, 3, 3),
    2: (0, 0, 0, 1, 2, 3, 3, 3),
    4: (0, 0, 0, 1, 2, 3, 3, 3),
    8: (0, 0, 1, 2, 3, 3, 3, 3),
    16: (0, 1, 1, 2, 3, 3, 3, 3),
    64: (0, 1, 1, 2, 3, 3, 3, 3),
    128: (1, 1, 2, 3, 3, 3, 3, 3),
}


@pytest.mark.parametrize("cpus", ORDERS)
def test_more_cpus_mean_bigger_slabs(cpus):
    sizes = (128, 192, 256, 512, 1024, 2048, 4096, 8192)
    params = SlabParams(nr_cpus=cpus)
    assert tuple(calculate_order(size, params) for size in sizes) == ORDERS[cpus]
    assert all(calculate_order(size, SlabParams(nr_cpus=64)) == 0 for size in (8, 16, 32, 64, 96))


def test_what_the_command_line_says_of_orders():
    assert calculate_order(64, SlabParams(min_order=1)) == 1
    assert calculate_order(1024, SlabParams(max_order=0)) == 0
    assert calculate_order(8192, SlabParams(max_order=0)) == 1  # it has to fit
    assert calculate_order(256, SlabParams(min_objects=64)) == 2
    assert calculate_order(8, SlabParams(min_order=8)) == 5  # a slab counts 32767 objects at most
    assert calculate_order(4 << 20, SlabParams()) == 10
    assert calculate_order((4 << 20) + 8, SlabParams()) == -1
    assert not open_layout(KmemCache("big", 5 << 20, 8, 0), SlabParams())


@pytest.mark.parametrize(
    ("size", "min_partial", "cpu_partial", "slabs"),
    [
        (8, 5, 120, 1), (32, 5, 120, 2), (64, 5, 120, 4), (96, 5, 120, 6), (128, 5, 120, 8),
        (192, 5, 120, 12), (256, 5, 52, 7), (512, 5, 52, 7), (1024, 5, 24, 3), (2048, 5, 24, 3),
        (4096, 6, 6, 2), (8192, 6, 6, 3), (16384, 7, 6, 3),
    ],
)  # fmt: skip
def test_how_many_slabs_are_kept(size, min_partial, cpu_partial, slabs):
    s = cache(size, nr_cpus=4)
    got = (s.min_partial, s.cpu_partial)
    assert got == (min_partial, cpu_partial)
    if size < 16384:
        assert s.cpu_partial_slabs == slabs
    assert cache(size, SLAB_CONSISTENCY_CHECKS).cpu_partial == 0


def test_get_order():
    assert [get_order(size) for size in (1, 4096, 4097, 8192, 8193, 4 << 20)] == [0, 0, 1, 1, 2, 10]
    assert get_order(0) == 52


def test_debugging_may_need_bigger_slabs():
    assert debug_metadata_grows(cache(4096, FZPU))
    assert not debug_metadata_grows(cache(64, FZPU))


@given(
    size=st.integers(1, 1 << 16), align=st.sampled_from((0, 8, 64, 4096)),
    flags=st.sampled_from((0, SLAB_HWCACHE_ALIGN, SLAB_RED_ZONE, SLAB_POISON, FZPU)),
    cpus=st.integers(1, 64),
)  # fmt: skip
def test_every_layout_holds_what_it_has_to(size, align, flags, cpus):
    s = cache(size, flags, align, nr_cpus=cpus)
    order, objects = s.oo
    assert s.size % s.align == 0 and s.align % 8 == 0 and s.align >= align
    assert s.inuse >= s.object_size and s.size >= s.inuse + s.red_left_pad
    assert s.offset + 8 <= s.size - s.red_left_pad or size < 8
    assert objects * s.size <= 4096 << order < (objects + 1) * s.size + (4096 << order)
    assert s.min[0] <= order and s.min[1] >= 1
