"""Memory that nobody can free any more (misuse cell sh.kmemleak: its reports' shape, its checksum)."""

import re
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from kmemkit import Kernel
from kmemkit.mm.slab import SLAB_NO_MERGE, SLAB_NOLEAKTRACE

GFP = "GFP_KERNEL"


@pytest.fixture
def kernel():
    kernel = Kernel("64M")
    kernel.kmemleak = True
    return kernel


def leaked(text):
    return [int(at, 16) for at in re.findall(r"^unreferenced object (0x[0-9a-f]{16}) ", text, re.M)]


def pointer(address):
    return address.to_bytes(8, "little")


def test_a_krealloc_that_overwrites_its_own_pointer_leaks(kernel):
    p = old = kernel.kmalloc(64, GFP)
    p = kernel.krealloc(p, 64 << 20, GFP)
    assert p is None
    assert leaked(kernel.kmemleak_scan({"p": p})) == [old]
    p = kernel.kmalloc(64, GFP)
    moved = kernel.krealloc(p, 640, GFP)
    assert leaked(kernel.kmemleak_scan({"old": old, "moved": moved})) == []


def test_the_report_is_linux_s(kernel):
    def probe():
        at = kernel.kmalloc(1000, GFP)
        kernel.write(at, b"leaked by the error path")
        return at

    at = probe()
    text = kernel.kmemleak_scan({})
    assert text.splitlines() == [
        f"unreferenced object {at:#018x} (size 1024):",
        '  comm "init", pid 1, jiffies 4294892296',
        "  hex dump (first 32 bytes):",
        "    6c 65 61 6b 65 64 20 62 79 20 74 68 65 20 65 72  leaked by the er",
        "    72 6f 72 20 70 61 74 68 00 00 00 00 00 00 00 00  ror path........",
        "  backtrace (crc 88a3bce9):",  # as recorded, of the same bytes
        "    kmemleak_alloc",
        "    __kmalloc_noprof",
        "    probe() in test_kmemleak.py:42: at = kernel.kmalloc(1000, GFP)",
    ]
    assert kernel.dmesg() == (
        "kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"
    )


def test_only_new_leaks_are_news(kernel):
    kernel.kmalloc(64, GFP)
    assert kernel.kmemleak_scan({}) == kernel.kmemleak_scan({})
    kernel.kmalloc(64, GFP)
    kernel.kmalloc(64, GFP)
    assert len(leaked(kernel.kmemleak_scan({}))) == 3
    assert re.findall(r"kmemleak: (\d)", kernel.dmesg()) == ["1", "2"]


def test_what_is_freed_is_forgotten(kernel):
    cache = kernel.kmem_cache_create("leaky", 200, flags=SLAB_NO_MERGE)
    kernel.kfree(kernel.kmalloc(64, GFP))
    kernel.kfree(kernel.kmalloc(64 << 10, GFP))
    kernel.kfree_sensitive(kernel.kzalloc(64, GFP))
    kernel.kmem_cache_free(cache, kernel.kmem_cache_alloc(cache, GFP))
    kernel.vfree(kernel.vmalloc(10_000))
    kernel.kvfree(kernel.kvmalloc(8 << 20, GFP))
    assert kernel.kmemleak_objects == ()
    assert kernel.kmemleak_scan({}) == ""


def test_every_allocator_but_pages(kernel):
    cache = kernel.kmem_cache_create("leaky", 200, flags=SLAB_NO_MERGE)
    untraced = kernel.kmem_cache_create("untraced", 200, flags=SLAB_NOLEAKTRACE)
    got = [
        kernel.kmalloc(64, GFP),
        kernel.kmalloc(64 << 10, GFP),
        kernel.kmem_cache_alloc(cache, GFP),
        kernel.vmalloc(17_000),
    ]
    kernel.get_free_pages(GFP, 4)
    kernel.kmem_cache_alloc(untraced, GFP)
    text = kernel.kmemleak_scan({})
    assert sorted(leaked(text)) == sorted(got)
    assert re.findall(r"\(size (\d+)\)", text) == ["64", "65536", "200", "20480"]
    assert "kmemleak_vmalloc" in text


def test_pointers_in_memory_hold(kernel):
    head = kernel.kmalloc(64, GFP)
    big = kernel.kmalloc(20_000, GFP)
    area = kernel.vmalloc(10_000)
    last = kernel.kmalloc(64, GFP)
    kernel.write(head + 8, pointer(big))
    kernel.write(big + 16_000, pointer(area + 9_999))  # into it is enough
    kernel.write(area + 8184, pointer(last))
    assert leaked(kernel.kmemleak_scan({"head": head})) == []
    kernel.write(big + 16_000, bytes(8))
    assert leaked(kernel.kmemleak_scan({"head": head})) == [area, last]
    kernel.write(last, pointer(area))  # a ring that nobody holds
    assert leaked(kernel.kmemleak_scan({"head": head})) == [area, last]


def test_pointers_in_pages_and_off_the_word_do_not_count(kernel):
    page, p, q = kernel.get_free_pages(GFP), kernel.kmalloc(64, GFP), kernel.kmalloc(64, GFP)
    kernel.write(page, pointer(p))
    kernel.write(q + 1, pointer(p))
    assert leaked(kernel.kmemleak_scan([page, q])) == [p]


def test_one_past_the_end_is_somebody_else_s(kernel):
    p = kernel.kmalloc(64, GFP)
    assert leaked(kernel.kmemleak_scan([p + 64])) == [p]
    assert leaked(kernel.kmemleak_scan([p + 63])) == []


@dataclass(slots=True)
class Driver:
    buffer: int


class Old:
    def __init__(self, buffer):
        self.buffer = buffer


def test_variables_of_running_functions_hold(kernel):
    def probe(keep):
        p = kernel.kmalloc(64, GFP)
        if keep:
            return p, kernel.kmemleak_scan()
        return None, kernel.kmemleak_scan()

    p, while_running = probe(True)
    assert while_running == ""
    assert kernel.kmemleak_scan() == ""
    del p
    text = kernel.kmemleak_scan()
    assert len(leaked(text)) == 1
    assert "    probe() in test_kmemleak.py:" in text


def test_what_the_learner_s_objects_hold(kernel):
    p, q, r, s, t = (kernel.kmalloc(64, GFP) for _ in range(5))
    namespace = {
        "__name__": __name__,
        "driver": Driver(p),
        "old": Old([q]),
        "simple": SimpleNamespace(buffers={"r": (r,)}),
        "_": s,
        "Out": {1: s},
        "kernel": kernel,
        "ring": (ring := [t]),
    }
    ring.append(ring)
    assert leaked(kernel.kmemleak_scan(namespace)) == [s]


def test_held_in_a_way_that_cannot_be_seen(kernel):
    p, q = kernel.kmalloc(64, GFP), kernel.kmalloc(64, GFP)
    kernel.write(p, pointer(q))
    kernel.kmemleak_not_leak(p)
    kernel.kmemleak_not_leak(12345)
    assert kernel.kmemleak_scan({}) == ""


def test_it_costs_nothing_while_it_is_off():
    kernel = Kernel("64M")
    kernel.kmalloc(64, GFP)
    with pytest.raises(RuntimeError, match=r"kernel.kmemleak = True"):
        kernel.kmemleak_scan()
    kernel.kmemleak_not_leak(1)
    kernel.kmemleak = True
    assert kernel.kmemleak
    assert not kernel.slab_hot
    assert kernel.kmemleak_objects == ()  # what came before is not known
    p = kernel.kmalloc(64, GFP)
    kernel.kmemleak = True  # once more changes nothing
    assert [one.address for one in kernel.kmemleak_objects] == [p]
    kernel.kmemleak = False
    assert (kernel.kmemleak, kernel.slab_hot, kernel.kmemleak_objects) == (False, True, ())


def test_clones_and_snapshots_know_what_is_live(kernel):
    p = kernel.kmalloc(64, GFP)
    copy = kernel.clone()
    snapshot = kernel.snapshot()
    kernel.kfree(p)
    assert kernel.kmemleak_scan({}) == ""
    assert leaked(copy.kmemleak_scan({})) == [p]
    kernel.restore(snapshot)
    assert leaked(kernel.kmemleak_scan({})) == [p]


def test_a_cell_of_a_notebook_has_no_file(kernel):
    source = "def probe():\n    return kernel.kmalloc(64, GFP)\nprobe()\n"
    for name in ("<ipython-input-3>", "/tmp/ipykernel_123/456.py"):
        exec(compile(source, name, "exec"), {"kernel": kernel, "GFP": GFP, "__name__": "__main__"})
    places = [one.place for one in kernel.kmemleak_objects]
    assert places == ["probe() in cell, line 2"] * 2
