"""The bounded record of a run."""

import pytest

from kmemkit import Kernel
from kmemkit.mm import history
from kmemkit.mm.history import History
from kmemkit.snapshot import Step


def a_step(number, pages=64):
    kernel = Kernel(pages * 4096)
    return Step(f"call {number}", "", True, (), None, kernel.snapshot())


def calls(record):
    return [step.call for step in record.steps()]


def test_the_oldest_steps_are_dropped():
    record = History(3)
    for number in range(5):
        record.append(a_step(number))
    assert calls(record) == ["call 2", "call 3", "call 4"]


def test_memory_bounds_it_too(monkeypatch):
    monkeypatch.setattr(history, "MOST_BYTES", 10_000)
    record = History(100)
    for number in range(9):
        record.append(a_step(number, pages=1024))
    assert calls(record) == [f"call {number}" for number in (5, 6, 7, 8)]
    # two steps are always kept: the last call, and the state it started from
    record.append(a_step(9, pages=60_000))
    assert calls(record) == ["call 8", "call 9"]


def test_cut_forgets_what_came_after_the_very_snapshot():
    record = History(9)
    for number in range(5):
        record.append(a_step(number))
    steps = record.steps()
    assert not record.cut_after(a_step(2).snapshot)
    assert record.steps() == steps
    assert record.cut_after(steps[2].snapshot)
    assert calls(record) == ["call 0", "call 1", "call 2"]
    assert record.cut_after(steps[2].snapshot)
    assert not record.cut_after(steps[4].snapshot)


# -- of a kernel ----------------------------------------------------------------------------------


def test_history_starts_with_the_state_at_that_time():
    kernel = Kernel("256K")
    kernel.alloc_pages("GFP_KERNEL")
    assert kernel.history == ()
    kernel.record()
    start = kernel.history[0]
    assert (start.call, start.result, start.ok, start.events, start.why) == (
        "start",
        "",
        True,
        (),
        None,
    )
    assert start.snapshot == kernel.snapshot()


def test_a_step_per_call():
    kernel = Kernel("256K")
    kernel.record()
    pfn = kernel.alloc_pages("GFP_KERNEL", 2, owner="driver")
    kernel.free_pages(pfn, 2)
    address = kernel.alloc_pages_exact(5000, "GFP_KERNEL")
    kernel.free_pages_exact(address, 5000)
    kernel.alloc_pages_bulk("GFP_KERNEL", 3)
    kernel.get_page(0)
    kernel.put_page(0)
    kernel.get_zeroed_page("GFP_KERNEL")
    kernel.split_page(kernel.alloc_pages("GFP_KERNEL", 1), 1)
    kernel.drain_all_pages()
    kernel.alloc_pages("GFP_KERNEL", 5)
    kernel.free_pages(None, 2)  # does nothing, and is no call
    assert [(step.call, step.result, step.ok) for step in kernel.history] == [
        ("start", "", True),
        ("alloc_pages(GFP_KERNEL, 2)", "pfn 0x0", True),
        ("free_pages(0x0, 2)", "", True),
        ("alloc_pages_exact(5000, GFP_KERNEL)", "0xffff888000000000", True),
        ("free_pages_exact(0xffff888000000000, 5000)", "", True),
        ("alloc_pages_bulk(GFP_KERNEL, 3)", "3 pages", True),
        ("get_page(0x0)", "", True),
        ("put_page(0x0)", "", True),
        ("alloc_pages(GFP_KERNEL|__GFP_ZERO, 0)", "pfn 0x3", True),
        ("alloc_pages(GFP_KERNEL, 1)", "pfn 0x4", True),
        ("split_page(0x4, 1)", "", True),
        ("drain_all_pages()", "", True),
        ("alloc_pages(GFP_KERNEL, 5)", "NULL", False),
    ]
    assert kernel.history[-1].snapshot == kernel.snapshot()
    assert len(kernel.history) == 13


def test_limit_counts_calls():
    kernel = Kernel("256K")
    kernel.record(limit=2)
    for _ in range(5):
        kernel.alloc_pages("GFP_KERNEL")
    assert [step.result for step in kernel.history] == ["pfn 0x2", "pfn 0x3", "pfn 0x4"]
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"limit={limit}: keep at least one step"):
            kernel.record(limit=limit)


def test_restore_of_a_step_forgets_what_came_after():
    kernel = Kernel("256K")
    kernel.record()
    for _ in range(4):
        kernel.alloc_pages("GFP_KERNEL")
    before = kernel.history
    kernel.restore(before[2].snapshot)
    assert kernel.history == before[:3]
    assert kernel.snapshot() == before[2].snapshot
    assert kernel.alloc_pages("GFP_KERNEL") == 2
    assert [step.call for step in kernel.history][-1] == "alloc_pages(GFP_KERNEL, 0)"


def test_restore_of_another_snapshot_is_a_step():
    kernel = Kernel("256K")
    kernel.record()
    kernel.alloc_pages("GFP_KERNEL")
    elsewhere = kernel.snapshot()
    kernel.alloc_pages("GFP_KERNEL")
    kernel.restore(elsewhere)
    assert [step.call for step in kernel.history][-2:] == ["alloc_pages(GFP_KERNEL, 0)", "restore"]
    assert kernel.history[-1].snapshot is elsewhere


def test_recording_anew_and_stopping():
    kernel = Kernel("256K")
    kernel.record()
    kernel.alloc_pages("GFP_KERNEL")
    kernel.record()
    assert [step.call for step in kernel.history] == ["start"]
    assert kernel.events == ()
    kernel.stop_recording()
    kernel.alloc_pages("GFP_KERNEL")
    assert (kernel.history, kernel.events) == ((), ())


def test_free_lists_count_as_memory(monkeypatch):
    monkeypatch.setattr(history, "MOST_BYTES", 1 << 20)
    kernel = Kernel("8M")
    for pfn in [kernel.alloc_pages("GFP_KERNEL") for _ in range(2048)][::2]:
        kernel.free_pages(pfn)
    kernel.record()
    for _ in range(40):
        kernel.alloc_pages("GFP_KERNEL")
    # 4 kB of columns each, but a list of 1024 pages as well
    assert 2 < len(kernel.history) < 30


def test_a_mistaken_owner_is_no_step():
    kernel = Kernel("256K")
    kernel.record()
    for call in (
        lambda: kernel.alloc_pages("GFP_KERNEL", 0, owner=5),
        lambda: kernel.alloc_pages_exact(4096, "GFP_KERNEL", owner=5),
        lambda: kernel.alloc_pages_bulk("GFP_KERNEL", 2, owner=5),
    ):
        with pytest.raises(TypeError, match="owner=5: give a name as text"):
            call()
    assert [step.call for step in kernel.history] == ["start"]
