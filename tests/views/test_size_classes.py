"""SizeClasses without a browser: the arithmetic against the simulator, the text, bad input."""

import pytest

from kmemkit import Kernel, SizeClasses
from kmemkit.mm.errors import Oops
from kmemkit.mm.slub_layout import get_order
from kmemkit.size_classes import KMALLOC_MAX_SIZE, served
from kmemkit.views import size_classes
from kmemkit.views._size_chart import RANGES, size_name, sizes, teeth, without_odd

pytestmark = pytest.mark.usefixtures("sends_at_once")

EDGES = sorted({edge + by for edge in sizes() for by in (-1, 0, 1)} - {KMALLOC_MAX_SIZE + 1})


@pytest.fixture(scope="module")
def kernel():
    return Kernel("64M", seed=1)


@pytest.mark.parametrize("size", [1, 3, 65, 100, 5000, *EDGES])
def test_it_is_what_the_simulated_kmalloc_gives(kernel, size):
    found = served(size)
    address = kernel.kmalloc(size, "GFP_KERNEL")
    assert kernel.ksize(address) == found.given
    kernel.kfree(address)
    if found.cache:
        assert kernel.kmem_cache_size(kernel.kmem_cache(found.cache)) == found.given
    else:
        assert found.order == get_order(size)


@pytest.mark.parametrize("size", [0, -1, KMALLOC_MAX_SIZE + 1])
def test_nothing_is_given_for_sizes_that_kmalloc_has_no_memory_for(size):
    with pytest.raises(ValueError, match="kmalloc\\(\\) gives memory for 1 to 4194304 bytes"):
        served(size)


@pytest.mark.parametrize(
    ("size", "line"),
    [
        (0, "kmalloc(0): ZERO_SIZE_PTR, the address 16. No memory; kfree() takes it."),
        (1, "kmalloc(1): cache kmalloc-8, 8 bytes, 7 of them not asked for (87.5 %)"),
        (96, "kmalloc(96): cache kmalloc-96, 96 bytes, 0 of them not asked for (0.0 %)"),
        (97, "kmalloc(97): cache kmalloc-128, 128 bytes, 31 of them not asked for (24.2 %)"),
        (193, "kmalloc(193): cache kmalloc-256, 256 bytes, 63 of them not asked for (24.6 %)"),
        (
            8193,
            "kmalloc(8,193): no cache, a block of order 2 = 4 pages = 16 kB, 16,384 bytes, "
            "8,191 of them not asked for (50.0 %)",
        ),
        (
            KMALLOC_MAX_SIZE + 1,
            "kmalloc(4,194,305): NULL and a warning. 4 MiB is the most, order 10 = 1024 pages; "
            "kvmalloc() goes on.",
        ),
    ],
)
def test_the_line_of_a_size(size, line):
    assert SizeClasses(size=size).line() == line


def test_what_the_line_says_of_the_ends_is_so(kernel):
    assert kernel.kmalloc(0, "GFP_KERNEL") == 16
    kernel.kfree(16)
    assert kernel.kmalloc(KMALLOC_MAX_SIZE + 1, "GFP_KERNEL") is None
    with pytest.raises(Oops):
        kernel.read(16)


def test_the_text_marks_the_row_that_serves():
    view = SizeClasses(size=100)
    lines = view.text().splitlines()
    assert lines[:2] == ["Size classes of kmalloc()", view.line()]
    (row,) = [line for line in lines if line.startswith(">")]
    assert row.split() == [">", "97", "128", "kmalloc-128", "31", "(24", "%)"]
    view.size = 0
    assert not [line for line in view.text().splitlines() if line.startswith(">")]
    assert repr(view).startswith("SizeClasses(kmalloc(0): ZERO_SIZE_PTR")
    data, _ = view._repr_mimebundle_()
    assert data["text/plain"] == view.text()


def test_the_table_covers_every_size_once():
    rows = SizeClasses()._table()[1:]
    bounds = [[int(cell.replace(",", "")) for cell in row[:2]] for row in rows]
    assert bounds[0][0] == 1
    assert bounds[-1][1] == KMALLOC_MAX_SIZE
    assert [high + 1 for _, high in bounds[:-1]] == [low for low, _ in bounds[1:]]


def test_over_a_kernel_the_table_has_its_own_caches():
    plain, debug = Kernel("64M", seed=1), Kernel("64M", cmdline="slab_debug=FZPU", seed=1)
    rows = {}
    for kernel in (plain, debug):
        kernel.kmalloc(8, "GFP_KERNEL")
        rows[kernel] = next(row for row in SizeClasses(kernel)._table() if row[2] == "kmalloc-64")
    assert rows[plain][-2:] == ["64", "64 in order 0 = 1 page = 4 kB"]
    assert int(rows[debug][-2]) > 64, "red zones and tracks need room"
    view = SizeClasses(plain.snapshot())
    assert view._table()[-1][-2:] == ["-", "-"], "blocks of pages are in no cache"


def test_the_saw_tooth():
    points = teeth(RANGES["caches"])
    assert points == sorted(points, key=lambda point: point[0])
    for size, percent in points:
        if size == int(size):
            assert percent == pytest.approx(served(int(size)).percent)
    assert max(y for x, y in points if 64 < x <= 96) == pytest.approx(100 * 31 / 96)
    assert max(y for x, y in without_odd(256) if x <= 96) == pytest.approx(100 * 63 / 128)
    assert without_odd(64) == []
    assert [size_name(size) for size in (512, 8192, 2 << 20)] == ["512", "8k", "2M"]


def test_messages_of_the_page():
    view = SizeClasses()
    view._on_msg(None, {"do": "size", "to": 300}, [])
    assert (view.size, view._panel.state["row"]) == (300, 8)
    view._on_msg(None, {"do": "range", "to": "all"}, [])
    assert view._panel.state["last"] == KMALLOC_MAX_SIZE
    assert view._chart._edge.visible
    assert list(view._chart._dot.x) == [300.0]
    view._on_msg(None, {"do": "range", "to": "small"}, [])
    assert not view._chart._dot.visible, "300 bytes are beyond the chart"


def test_without_bqplot_the_table_stands_alone(monkeypatch):
    monkeypatch.setattr(size_classes, "find_spec", lambda _: None)
    view = SizeClasses(size=20)
    assert len(view.children) == 1
    assert not view._panel.state["chart"]
    assert "kmalloc-32" in view.text()


def test_bad_input_says_what_is_accepted():
    with pytest.raises(ValueError, match="size=-1: a size is 0 bytes or more"):
        SizeClasses(size=-1)
    with pytest.raises(ValueError, match="range='far': there are 'small', 'caches', 'all'"):
        SizeClasses(range="far")
    with pytest.raises(TypeError, match="SizeClasses does not know 'zise'"):
        SizeClasses(zise=3)
    with pytest.raises(TypeError, match="shows a Snapshot or follows a Kernel"):
        SizeClasses(3)
