"""Contexts and scopes: what surrounds a caller, and what Linux said of it, cell by cell.

tests/golden/misuse_context.json.gz has the cells: `plain`, `noinit` and `slabdbg` are kernels as
Debian builds them, `kasan` one with debug options.
"""

import gzip
import json
from pathlib import Path

import pytest

from kmemkit import Kernel
from kmemkit.gfp import as_mask
from kmemkit.mm import debug
from kmemkit.mm.context import (
    Context,
    current_gfp_context,
    others_may_run,
    reclaim_enables_interrupts,
)
from kmemkit.mm.errors import KernelBug, Livelock, Panic
from kmemkit.mm.misuse import CONTEXTS, play_context_cell
from kmemkit.mm.sched import (
    PF_MEMALLOC,
    PF_MEMALLOC_NOFS,
    PF_MEMALLOC_NOIO,
    PF_MEMALLOC_PIN,
    Task,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "misuse_context.json.gz"
CELLS = json.loads(gzip.decompress(GOLDEN.read_bytes()))
SCOPES = {
    "nofs": PF_MEMALLOC_NOFS, "noio": PF_MEMALLOC_NOIO, "noreclaim": PF_MEMALLOC,
    "pin": PF_MEMALLOC_PIN,
}  # fmt: skip
SLEEPING = "BUG: sleeping function called from invalid context at include/linux/sched/mm.h:321"
LOCKDEP = "WARNING: inconsistent lock state"


def cells(kmalloc):
    """Return the cells of functions that take pages, or of those that take them through kmalloc."""
    return [
        pytest.param(cell, id=f"{cell['kernel']}-{cell['cell'].removeprefix('ctx.')}")
        for cell in CELLS
        if cell["function"].startswith("kmalloc") is kmalloc
    ]


# -- recorded -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", cells(kmalloc=False))
def test_cell(cell):
    result = play_context_cell(cell)
    assert (result.mismatches, result.needs) == ((), "")
    assert result.ok
    assert result.compared == 3


@pytest.mark.parametrize("cell", cells(kmalloc=True))
def test_cell_of_kmalloc_is_told_by_its_mask(cell):
    """With memory at hand kmalloc() complains as the page allocator does, for the same mask."""
    mask = cell["function"].removeprefix("kmalloc_").removeprefix("large_")
    result = play_context_cell({**cell, "function": f"get_free_page_{mask}"})
    assert (result.mismatches, result.compared) == ((), 3)


def test_every_context_of_every_kernel_is_there():
    kernels = {(cell["kernel"], cell["context"]) for cell in CELLS}
    assert len(kernels) == 4 * 6
    assert len(cells(kmalloc=False)) > 60


@pytest.mark.parametrize("name", CONTEXTS)
def test_state_is_what_the_kernel_said(name):
    states = [cell["state"] for cell in CELLS if cell["context"] == name]
    kernel = Kernel("1M")
    CONTEXTS[name](kernel)
    context = kernel.context
    assert states.count(states[0]) == len(states)
    assert states[0] == {
        "in_task": context.in_task,
        "in_softirq": context.in_serving_softirq,
        "in_hardirq": context.in_hardirq,
        "irqs_disabled": context.irqs_disabled,
        "preempt_count": context.preempt_count,
    }


def test_cell_of_another_function_says_what_it_needs():
    cell = {
        "kernel": "plain", "function": "synchronize_rcu", "context": "spin", "survived": "yes",
        "report_first_line": None,
    }  # fmt: skip
    result = play_context_cell(cell)
    assert (result.ok, result.matched, result.compared) == (False, 0, 2)
    assert result.needs == "synchronize_rcu"


def test_cell_that_does_not_match_says_where():
    cell = next(c for c in CELLS if c["cell"] == "ctx.might_sleep.spin" and c["kernel"] == "kasan")
    result = play_context_cell({**cell, "kernel": "plain"})
    assert (result.matched, result.compared, result.ok) == (1, 3, False)
    assert str(result.mismatches[0]).startswith("first line: recorded BUG: sleeping function")


@pytest.mark.parametrize(
    "change", [{"kernel": "minix"}, {"context": "nmi"}, {"function": 3}, {"function": "oom_GFP_X"}]
)
def test_cell_that_is_none(change):
    with pytest.raises(ValueError):
        play_context_cell({**CELLS[0], **change})
    with pytest.raises(ValueError, match="not a cell"):
        play_context_cell({})


# -- sections -------------------------------------------------------------------------------------

SECTIONS = {
    "spinlock": ("spin_lock", "spin_unlock"),
    "irqs_off": ("local_irq_save", "local_irq_restore"),
    "preempt_off": ("preempt_disable", "preempt_enable"),
    "rcu": ("rcu_read_lock", "rcu_read_unlock"),
    "hardirq": ("hardirq", "irq_exit"),
    "softirq": ("softirq", "softirq_exit"),
}


@pytest.mark.parametrize("frame", SECTIONS)
def test_section_as_a_block_and_as_two_calls(frame):
    kernel = Kernel("1M")
    enter, leave = (getattr(kernel, name) for name in SECTIONS[frame])
    with enter():
        assert kernel.context.frames == [frame]
        assert not kernel.context.may_sleep
    assert kernel.context.frames == []
    enter()
    assert kernel.context.frames == [frame]
    leave()
    assert kernel.context.may_sleep
    with pytest.raises(RuntimeError, match=f"there is no {frame} to leave: .* inside of nothing"):
        leave()


@pytest.mark.parametrize("frame", SECTIONS)
def test_section_is_a_recorded_call(frame):
    kernel, heard = Kernel("1M"), []
    kernel.record()
    kernel.add_listener(lambda: heard.append(tuple(kernel.context.frames)))
    with getattr(kernel, SECTIONS[frame][0])():
        said = str(kernel.why())
    assert heard == [(frame,), ()]
    steps = kernel.history[1:]
    assert [step.snapshot.context for step in steps] == heard
    assert [step.ok for step in steps] == [True, True]
    assert [step.call.partition("(")[0] for step in steps] == list(SECTIONS[frame])
    assert f"here nothing may sleep: inside of {frame}; preempt_count" in said
    assert "here the caller may sleep: preempt_count 0x0" in str(kernel.why())


def test_a_wrong_call_is_not_recorded():
    kernel = Kernel("1M")
    kernel.local_irq_save()
    kernel.record()
    for wrong in (kernel.hardirq, kernel.softirq, kernel.irq_exit, kernel.spin_unlock):
        with pytest.raises(RuntimeError):
            wrong()
    assert len(kernel.history) == 1
    assert kernel.context.frames == ["irqs_off"]


def test_locks_may_be_released_in_any_order():
    kernel = Kernel("1M")
    kernel.spin_lock("a")
    kernel.rcu_read_lock()
    kernel.spin_lock("b")
    assert kernel.context.locks == ("a", "rcu_read_lock", "b")
    kernel.spin_unlock("a")
    assert kernel.context.frames == ["rcu", "spinlock"]
    with pytest.raises(RuntimeError, match="there is no spinlock a to leave: .* rcu, spinlock"):
        kernel.spin_unlock("a")
    kernel.rcu_read_unlock()
    kernel.spin_unlock()
    assert kernel.context.locks == ()


def test_a_lock_taken_twice_waits_for_ever():
    kernel = Kernel("1M")
    kernel.record()
    kernel.spin_lock("lru_lock")
    with pytest.raises(Livelock, match="holds lru_lock already"):
        kernel.spin_lock("lru_lock")
    assert (kernel.history[-1].result, kernel.history[-1].ok) == ("loops for ever", False)
    with kernel.hardirq(), pytest.raises(Livelock):
        kernel.spin_lock("lru_lock")
    kernel.spin_lock()
    kernel.spin_lock()  # locks without a name are different ones
    assert kernel.context.preempt_count == 3


@pytest.mark.parametrize("name", [None, 3, b"lru_lock"])
def test_a_lock_is_named_by_text(name):
    with pytest.raises(TypeError, match="name"):
        Kernel("1M").spin_lock(name)


def test_an_interrupt_needs_interrupts_on():
    kernel = Kernel("1M")
    kernel.spin_lock()  # stops nobody
    with kernel.softirq(), kernel.hardirq():
        for arrives in (kernel.hardirq, kernel.softirq):
            with pytest.raises(RuntimeError, match="interrupts are off"):
                arrives()
    with kernel.softirq(), pytest.raises(RuntimeError, match="waits until the interrupt is over"):
        kernel.softirq()


def test_a_handler_ends_what_it_began_and_nothing_else():
    kernel = Kernel("1M")
    kernel.spin_lock("outside")
    kernel.hardirq()
    with pytest.raises(RuntimeError, match="there is no spinlock outside"):
        kernel.spin_unlock("outside")
    kernel.spin_lock("inside")
    with pytest.raises(RuntimeError, match="cannot end: it is still inside of spinlock"):
        kernel.irq_exit()
    kernel.spin_unlock("inside")
    kernel.irq_exit()
    kernel.spin_unlock("outside")


def test_interrupts_are_put_back_to_what_they_were():
    kernel = Kernel("1M")
    outer = kernel.local_irq_save()
    inner = kernel.local_irq_save()
    assert (outer.irqs_disabled, inner.irqs_disabled) == (False, True)
    kernel.local_irq_restore(inner)
    assert kernel.context.irqs_disabled
    kernel.local_irq_restore(outer)
    assert not kernel.context.irqs_disabled
    outer, inner = kernel.local_irq_save(), kernel.local_irq_save()
    kernel.local_irq_restore(outer)  # the wrong one: on too early, as in C
    assert not kernel.context.irqs_disabled
    kernel.local_irq_restore(inner)
    assert kernel.context.irqs_disabled
    for wrong in (True, 1, "flags"):
        with pytest.raises(TypeError, match="local_irq_save"):
            kernel.local_irq_restore(wrong)


def test_an_error_leaves_what_the_block_entered():
    kernel = Kernel("1M")
    kernel.set_task_flags(PF_MEMALLOC)
    with pytest.raises(KernelBug), kernel.rcu_read_lock(), kernel.softirq():
        kernel.spin_lock("never unlocked")
        raise KernelBug
    assert kernel.context.frames == []
    assert kernel.current.flags == PF_MEMALLOC


def test_a_softirq_does_not_borrow_the_rights_of_the_task():
    kernel = Kernel("1M")
    kernel.set_task_flags(PF_MEMALLOC | PF_MEMALLOC_NOFS)
    with kernel.softirq():
        assert kernel.current.flags == PF_MEMALLOC_NOFS
        with kernel.memalloc_noreclaim_save() as flags:  # unless it takes them itself
            assert kernel.current.flags & PF_MEMALLOC
        assert flags == PF_MEMALLOC
    assert kernel.current.flags == PF_MEMALLOC | PF_MEMALLOC_NOFS
    with kernel.hardirq():
        assert kernel.current.flags & PF_MEMALLOC
    kernel.clear_task_flags(PF_MEMALLOC)
    with kernel.softirq():
        kernel.memalloc_noreclaim_save()  # never restored
    assert kernel.current.flags == PF_MEMALLOC_NOFS


def test_context_survives_snapshots():
    kernel = Kernel("1M", debug_kernel=True)
    kernel.set_task_flags(PF_MEMALLOC)
    kernel.spin_lock("a")
    kernel.softirq()
    kernel.local_irq_save()
    kernel.might_sleep("here")
    reclaim_enables_interrupts(kernel)
    snapshot = kernel.snapshot()
    assert snapshot.context == ("spinlock", "softirq", "irqs_off")
    for twin in (kernel.clone(), Kernel("256K")):
        twin.restore(snapshot)
        assert twin.snapshot() == snapshot
        assert twin.context.irqs_disabled is False
        twin.might_sleep("too soon after the first report")
        twin.local_irq_restore()
        twin.softirq_exit()
        assert twin.current.flags == PF_MEMALLOC
        twin.spin_unlock("a")
        assert twin.context.may_sleep
        assert twin.dmesg() == kernel.dmesg()
        assert twin.debug_kernel
    assert kernel.context.frames == ["spinlock", "softirq", "irqs_off"]


def test_context_of_frames_alone():
    context = Context(("irqs_off", "spinlock", "irqs_off"))
    assert (context.irqs_disabled, context.preempt_count) == (True, 1)
    context.leave("irqs_off")
    assert context.irqs_disabled
    context.leave("irqs_off")
    assert not context.irqs_disabled
    assert Context().may_sleep


# -- scopes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
def test_scopes_nest_and_restore(scope):
    kernel, bit = Kernel("1M"), SCOPES[scope]
    save, restore = (getattr(kernel, f"memalloc_{scope}_{end}") for end in ("save", "restore"))
    kernel.record()
    outer = save()
    inner = save()
    assert (outer, inner, repr(outer)) == (bit, 0, f"{bit:#x}")
    assert "0 is returned" in str(kernel.why())
    restore(inner)
    assert kernel.current.flags == bit
    restore(outer)
    assert kernel.current.flags == 0
    assert [step.call for step in kernel.history[1:]] == [
        f"memalloc_{scope}_save()", f"memalloc_{scope}_save()",
        f"memalloc_{scope}_restore(0x0)", f"memalloc_{scope}_restore({bit:#x})",
    ]  # fmt: skip
    assert [step.result for step in kernel.history[1:3]] == [f"{bit:#x}", "0x0"]
    with save(), save():
        assert kernel.current.flags == bit
        assert kernel.clone().current.flags == bit
    assert kernel.current.flags == 0


def test_scopes_of_different_kinds_do_not_touch_each_other():
    kernel = Kernel("1M")
    noio = kernel.memalloc_noio_save()
    with kernel.memalloc_nofs_save(), kernel.memalloc_pin_save():
        assert kernel.current.flags == PF_MEMALLOC_NOFS | PF_MEMALLOC_NOIO | PF_MEMALLOC_PIN
        kernel.memalloc_noio_restore(noio)
        assert kernel.current.flags == PF_MEMALLOC_NOFS | PF_MEMALLOC_PIN
    assert kernel.current.flags == 0


def test_restoring_the_outer_scope_first_ends_both():
    kernel = Kernel("1M")
    outer, inner = kernel.memalloc_nofs_save(), kernel.memalloc_nofs_save()
    kernel.memalloc_nofs_restore(outer)
    assert kernel.current.flags == 0
    kernel.memalloc_nofs_restore(inner)


@pytest.mark.parametrize(
    ("scope", "asked", "left"),
    [
        ("nofs", "GFP_KERNEL", "GFP_NOFS"),
        ("noio", "GFP_KERNEL", "GFP_NOIO"),
        ("noio", "GFP_NOFS", "GFP_NOIO"),
        ("nofs", "GFP_ATOMIC", "GFP_ATOMIC"),
        ("pin", "GFP_HIGHUSER_MOVABLE", "GFP_HIGHUSER|__GFP_SKIP_KASAN"),
        ("noreclaim", "GFP_KERNEL", "GFP_KERNEL"),
    ],
)
def test_a_scope_changes_every_mask(scope, asked, left):
    kernel = Kernel("1M")
    kernel.alloc_pages(asked)  # what the mask means is remembered, until a scope changes it
    kernel.record()
    with getattr(kernel, f"memalloc_{scope}_save")():
        kernel.alloc_pages(asked)
        event = dict(kernel.history[-1].events[-1].fields)
        assert as_mask(event["gfp_flags"]) == as_mask(left) == kernel.current_gfp_context(asked)
    kernel.alloc_pages(asked)
    event = dict(kernel.history[-1].events[-1].fields)
    assert as_mask(event["gfp_flags"]) == as_mask(asked)


def test_noio_goes_before_nofs():
    both = PF_MEMALLOC_NOFS | PF_MEMALLOC_NOIO
    assert current_gfp_context(both, as_mask("GFP_KERNEL")) == as_mask("GFP_NOIO")
    assert current_gfp_context(PF_MEMALLOC, as_mask("GFP_KERNEL")) == as_mask("GFP_KERNEL")


@pytest.mark.parametrize("flags", [None, "0x40000", True, 1.0])
def test_restore_takes_what_save_returned(flags):
    with pytest.raises(TypeError, match=r"memalloc_\*_save"):
        Kernel("1M").memalloc_nofs_restore(flags)


def test_restore_refuses_other_bits():
    with pytest.raises(ValueError, match="0x200000"):
        Kernel("1M").memalloc_nofs_restore(0x200000)


def exhausted(mask="GFP_ATOMIC"):
    """Return a kernel whose memory is used up as far as this mask may go."""
    kernel = Kernel("16M")
    while kernel.alloc_pages(f"{mask} | __GFP_NOWARN") is not None:
        pass
    return kernel


def test_noreclaim_gives_the_reserves_to_the_task_alone():
    kernel = exhausted()
    mask = "GFP_NOWAIT"
    assert kernel.alloc_pages(mask) is None
    with kernel.memalloc_noreclaim_save():
        assert kernel.alloc_pages(mask) is not None
        with kernel.hardirq():
            assert kernel.alloc_pages(mask) is None
        with kernel.softirq():
            assert kernel.alloc_pages(mask) is None
        assert kernel.alloc_pages(f"{mask} | __GFP_NOMEMALLOC") is None


def test_noreclaim_in_a_hard_interrupt_says_what_happens():
    kernel = exhausted()
    kernel.record()
    with kernel.hardirq(), kernel.memalloc_noreclaim_save():
        assert "the task the interrupt came to" in str(kernel.why())
        assert kernel.current.flags == PF_MEMALLOC
        assert kernel.alloc_pages("GFP_NOWAIT") is None


# -- tasks ----------------------------------------------------------------------------------------


def test_run_as_another_task():
    kernel = Kernel("1M")
    kernel.tasks.append(Task(7, "kswapd0", flags=PF_MEMALLOC_NOIO))
    kernel.record()
    with kernel.run_as(7):
        assert (kernel.comm, kernel.snapshot().settings["current"]) == ("kswapd0", 7)
        assert kernel.current_gfp_context("GFP_KERNEL") == as_mask("GFP_NOIO")
        assert kernel.clone().comm == "kswapd0"
    assert kernel.comm == "init"
    assert kernel.history[1].call == "run_as(kswapd0 [7])"
    kernel.run_as(kernel.tasks[1])
    assert kernel.comm == "kswapd0"
    twin = kernel.clone()
    twin.run_as(kernel.tasks[0])  # a task of another machine stands for its pid
    assert twin.current is twin.tasks[0]


def test_run_as_needs_a_task_and_no_section():
    kernel = Kernel("1M")
    kernel.tasks.append(Task(7, "gone", exited=True))
    with pytest.raises(ValueError, match=r"no task 8; there are \[1, 7\]"):
        kernel.run_as(8)
    with pytest.raises(ValueError, match="has exited"):
        kernel.run_as(7)
    for wrong in ("init", None, True):
        with pytest.raises(TypeError, match="pid"):
            kernel.run_as(wrong)
    with kernel.rcu_read_lock(), pytest.raises(RuntimeError, match="init is inside of rcu"):
        kernel.run_as(1)


def test_flags_of_a_task():
    kernel = Kernel("1M")
    kernel.tasks.append(Task(7, "writer"))
    kernel.record()
    kernel.set_task_flags(PF_MEMALLOC | PF_MEMALLOC_PIN, 7)
    assert (kernel.tasks[1].flags, kernel.current.flags) == (PF_MEMALLOC | PF_MEMALLOC_PIN, 0)
    kernel.clear_task_flags(PF_MEMALLOC, 7)
    assert kernel.tasks[1].flags == PF_MEMALLOC_PIN
    assert [step.call for step in kernel.history[1:]] == [
        "writer [7]: flags |= 0x10000800", "writer [7]: flags &= ~0x800",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="memalloc"):
        kernel.set_task_flags(4)


def test_oom_victim_may_go_deeper_but_not_in_an_interrupt():
    kernel = exhausted("GFP_NOWAIT")
    kernel.record()
    kernel.mark_oom_victim()
    assert kernel.clone().current.oom_victim
    assert str(kernel.history[-1].events[-1]) == "mark_victim: pid=1 comm=init"
    for interrupt in (kernel.hardirq, kernel.softirq):
        with interrupt():
            assert kernel.alloc_pages("GFP_NOWAIT") is None
    assert kernel.alloc_pages("GFP_NOWAIT") is not None


def test_an_error_in_another_task_goes_back_to_the_first():
    kernel = Kernel("1M")
    kernel.tasks.append(Task(7, "writer"))
    with pytest.raises(KernelBug), kernel.run_as(7):
        kernel.spin_lock("never unlocked")
        raise KernelBug
    assert kernel.comm == "init"


# -- debug kernel ---------------------------------------------------------------------------------


def test_plain_kernel_says_nothing():
    kernel = Kernel("1M")
    kernel.record()
    with kernel.hardirq(), kernel.spin_lock():
        kernel.might_sleep()
        assert kernel.alloc_pages("GFP_KERNEL") is not None
        assert "This kernel does not check" in str(kernel.why())
    assert kernel.dmesg() == ""


def test_report_is_complete():
    kernel = Kernel("1M", debug_kernel=True)
    with kernel.rcu_read_lock(), kernel.spin_lock("lru_lock"):
        kernel.alloc_pages("GFP_KERNEL")
    assert kernel.dmesg().splitlines()[:7] == [
        SLEEPING,
        "in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 1, name: init",
        "preempt_count: 1, expected: 0",
        "RCU nest depth: 1, expected: 0",
        "2 locks held by init/1:",
        " #0: (rcu_read_lock)",
        " #1: (lru_lock)",
    ]


def test_report_comes_once_a_second():
    kernel = Kernel("1M", debug_kernel=True)
    with kernel.local_irq_save():
        for tick, reports in ((0, 1), (249, 1), (250, 2), (251, 2), (500, 3)):
            kernel.now = tick * 4_000_000
            kernel.alloc_pages("GFP_KERNEL")
            assert kernel.dmesg().count(SLEEPING) == reports
    assert "no locks held by init/1." in kernel.dmesg()


@pytest.mark.parametrize("interrupt", ["hardirq", "softirq"])
def test_lockdep_reports_once_and_is_off(interrupt):
    kernel = Kernel("1M", debug_kernel=True)
    with getattr(kernel, interrupt)():
        kernel.alloc_pages("GFP_KERNEL")
        kernel.now += 1_000_000_000
        kernel.clone().alloc_pages("GFP_KERNEL")
        kernel.alloc_pages("GFP_KERNEL")
    log = kernel.dmesg()
    assert log.index(LOCKDEP) < log.index(SLEEPING)
    assert (log.count(LOCKDEP), log.count("INFO: lockdep is turned off.")) == (1, 2)
    assert f"inconsistent {{{interrupt.upper()}-ON-W}}" in log
    assert "  lock(fs_reclaim);\n  <Interrupt>\n    lock(fs_reclaim);\n" in log


def test_a_hard_interrupt_above_a_softirq_counts_as_both():
    kernel = Kernel("1M", debug_kernel=True)
    with kernel.softirq(), kernel.hardirq():
        kernel.alloc_pages("GFP_KERNEL")
    assert "init/1 [HC1[1]:SC1[1]:HE0:SE0] takes:" in kernel.dmesg()
    assert "preempt_count: 10100, expected: 0" in kernel.dmesg()


@pytest.mark.parametrize(
    ("flags", "mask"),
    [(PF_MEMALLOC_NOFS, "GFP_KERNEL"), (PF_MEMALLOC, "GFP_KERNEL"), (0, "GFP_NOFS")],
)
def test_lockdep_looks_at_requests_that_may_enter_a_filesystem(flags, mask):
    kernel = Kernel("1M", debug_kernel=True)
    with kernel.hardirq():
        kernel.set_task_flags(flags)
        kernel.alloc_pages(mask)
    assert LOCKDEP not in kernel.dmesg()
    assert kernel.dmesg().startswith(SLEEPING)


@pytest.mark.parametrize("mask", ["GFP_ATOMIC", "GFP_NOWAIT", "GFP_KERNEL & ~__GFP_DIRECT_RECLAIM"])
def test_a_mask_that_does_not_sleep_is_fine_everywhere(mask):
    kernel = Kernel("1M", debug_kernel=True)
    kernel.record()
    with kernel.spin_lock(), kernel.softirq(), kernel.hardirq():
        assert kernel.alloc_pages(mask) is not None
        assert "may sleep" not in str(kernel.why())
    assert kernel.dmesg() == ""


def test_reasons_on_a_debug_kernel():
    kernel = Kernel("1M", debug_kernel=True)
    kernel.record()
    with kernel.softirq():
        kernel.alloc_pages("GFP_KERNEL")
        lines = kernel.why().lines()
    assert any(line.startswith("other requests may enter a filesystem with softirqs on")
               for line in lines)  # fmt: skip
    assert any("inside of softirq nothing may: preempt_count 0x100" in line for line in lines)


def test_might_sleep_is_a_call():
    kernel = Kernel("1M", debug_kernel=True)
    kernel.might_sleep("driver.c:7")
    assert kernel.dmesg() == ""
    kernel.record()
    with kernel.spin_lock():
        kernel.might_sleep("driver.c:7")
    assert kernel.dmesg().startswith(SLEEPING.rpartition(" ")[0] + " driver.c:7\n")
    assert kernel.history[2].call == "might_sleep()"


# -- reclaim inside a context ---------------------------------------------------------------------


def test_reclaim_in_a_hard_interrupt_kills_the_machine_when_it_returns():
    kernel = exhausted()
    with (
        pytest.raises(Panic, match=r"^kernel BUG at kernel/irq_work\.c:245!"),
        kernel.hardirq(),
    ):
        assert kernel.alloc_pages("GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN") is None
        assert not kernel.context.irqs_disabled
    assert kernel.dmesg().endswith("Kernel panic - not syncing: Fatal exception in interrupt")
    assert kernel.context.frames == []


def test_reclaim_ends_a_section_without_interrupts():
    kernel = Kernel("1M")
    kernel.record()
    with kernel.local_irq_save():
        reclaim_enables_interrupts(kernel)
        assert kernel.context.may_sleep
        with kernel.hardirq():  # what the section was there to prevent
            assert kernel.context.irqs_disabled
        reclaim_enables_interrupts(kernel)
    assert not kernel.context.irqs_disabled
    with kernel.spin_lock():
        reclaim_enables_interrupts(kernel)
        assert not kernel.context.may_sleep


@pytest.mark.parametrize(
    ("name", "one_cpu"),
    [("process", True), ("rcu", True), ("irqoff", False), ("spin", False), ("softirq", False),
     ("hardirq", False)],
)  # fmt: skip
def test_who_else_gets_a_cpu(name, one_cpu):
    for cpus, others in ((1, one_cpu), (2, True)):
        kernel = Kernel("16M", cpus=cpus)
        CONTEXTS[name](kernel)
        assert others_may_run(kernel) is others


def test_might_alloc_without_a_kernel_around_it_is_cheap():
    """Outside of sections nothing is looked at: the hot path asks only whether there are any."""
    kernel = Kernel("1M", debug_kernel=True)
    debug.might_alloc(kernel, as_mask("GFP_KERNEL"))
    assert kernel.dmesg() == ""


# -- sleeping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug_kernel", [False, True])
@pytest.mark.parametrize("name", ["process", "irqoff"])
def test_sleep_that_nobody_notices(name, debug_kernel):
    kernel = Kernel("1M", debug_kernel=debug_kernel)
    CONTEXTS[name](kernel)
    before = len(kernel.dmesg())
    kernel.sleep(1)
    assert len(kernel.dmesg()) == before
    assert not kernel.context.irqs_disabled, "the scheduler switches interrupts on"


def test_sleep_under_a_lock_kills_the_task_when_it_lets_go():
    kernel = Kernel("1M")
    kernel.spin_lock("slock")
    kernel.sleep(1)
    assert "BUG: scheduling while atomic: init/1/0x00000002" in kernel.dmesg()
    assert kernel.context.preempt_count == 0, "the scheduler has set it"
    copy = Kernel.from_snapshot(kernel.snapshot())
    for one in (kernel, copy):
        with pytest.raises(KernelBug, match=r"scheduling while atomic: init/1/0x00000000"):
            one.spin_unlock("slock")
        assert not one.context.frames


def test_sleep_in_a_softirq_is_put_right_at_its_end():
    kernel = Kernel("1M")
    with kernel.softirq():
        kernel.sleep(1)
    assert "/0x00000101" in kernel.dmesg()
    assert "huh, entered softirq" in kernel.dmesg()
    assert kernel.context.preempt_count == 0


def test_sleep_in_an_rcu_reader_is_told_once():
    kernel = Kernel("1M")
    for _ in range(2):
        with kernel.rcu_read_lock():
            kernel.sleep(1)
    assert kernel.dmesg().count("Voluntary context switch within RCU read-side") == 1


def test_an_error_after_sleeping_leaves_all_sections():
    kernel = Kernel("1M")
    with pytest.raises(ZeroDivisionError), kernel.spin_lock("slock"), kernel.softirq():
        kernel.sleep(1)
        _ = 1 // 0
    assert not kernel.context.frames
    assert not kernel.context.count_lost
