"""A kernel log in plain words: every report gets an explanation of its own, and nothing breaks it."""

from __future__ import annotations

import ast
import gzip
import itertools
import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemkit import strings
from kmemkit.dmesg import MAX_LINES, MAX_REPORTS, explain, reports
from kmemkit.dmesg.addresses import meaning
from kmemkit.dmesg.headlines import COMPANIONS, headline
from kmemkit.mm.errors import KernelBug, Oops
from kmemkit.mm.kernel import Kernel

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"

#: Kinds that say only of what family a report is.
FALLBACKS = {"warning", "bug", "panic", "slub_other", "kasan_other", "kfence_other",
             "vmalloc_failed"}  # fmt: skip

#: A first line of each kind, as a kernel prints it.
SAMPLES = {
    "double_free": "kernel BUG at mm/slub.c:550!",
    "already_free": "BUG kmalloc-64 (Tainted: G           OE     ): Object already free",
    "invalid_pointer": "BUG kmalloc-128 (Not tainted): Invalid object pointer 0xffff888005ae73a8",
    "more_than_allocated":
        "BUG kmalloc-4k (Not tainted): Slab has 0 allocated objects but 1 are to be freed",
    "freepointer_corrupt": "BUG kmalloc-64 (Not tainted): Freepointer corrupt",
    "freechain_corrupt": "BUG kmalloc-64 (Not tainted): Freechain corrupt",
    "freelist_pointer": "BUG kmalloc-64 (Not tainted): Freelist Pointer check fails",
    "wrong_count":
        "BUG kmalloc-64 (Not tainted): Wrong object count. Counter is 3 but counted were 2",
    "object_corrupt": "BUG kmalloc-64 (Not tainted): Object corrupt",
    "objects_remaining":
        "BUG mu_live (Not tainted): Objects remaining on __kmem_cache_shutdown()",
    "slub_other": "BUG kmalloc-64 (Not tainted): Not a valid slab page",
    "slub_warning": "WARNING: CPU: 0 PID: 140 at mm/slub.c:1127 object_err+0x1dc/0x2c0",
    "left_redzone": "[Left Redzone overwritten] 0xffff888005b17878-0xffff888005b1787f @offset=2168. "
        "First byte 0x58 instead of 0xcc",
    "right_redzone": "BUG kmalloc-64 (Not tainted): Right Redzone overwritten",
    "kmalloc_redzone": "BUG kmalloc-64 (Not tainted): [kmalloc Redzone overwritten] 0xffff888005b17-",
    "poison": "[End Poison overwritten] 0xffff888005691440-0xffff888005691440 @offset=1088. First",
    "padding": "[Object padding overwritten] 0xffff888005691440-0xffff888005691440 @offset=1088. ",
    "wrong_cache": "cache_from_obj: Wrong slab cache. mu_other but object is from mu_own",
    "not_a_slab": "virt_to_cache: Object is not a Slab page!",
    "free_warning": "WARNING: CPU: 0 PID: 138 at mm/slub.c:4756 kmem_cache_free+0x2b1/0x3a0",
    "free_large_kmalloc": "WARNING: CPU: 0 PID: 138 at mm/slub.c:4799 free_large_kmalloc+0x3f/0x70",
    "ksize_of_pages": "WARNING: CPU: 0 PID: 138 at mm/slab_common.c:1046 __ksize+0x10a/0x130",
    "vfree_bad_address": "Trying to vfree() bad address (fffffffffffffff4)",
    "vfree_no_area": "Trying to vfree() nonexistent vm area (ffff888005500000)",
    "vunmap_no_area": "Trying to vunmap() nonexistent vm area (ffff888005500000)",
    "vrealloc_no_area": "Trying to vrealloc() nonexistent vm area (ffff888005500000)",
    "vmalloc_in_interrupt": "kernel BUG at mm/vmalloc.c:3177!",
    "vmalloc_zero":
        "WARNING: CPU: 0 PID: 138 at mm/vmalloc.c:3838 __vmalloc_node_range_noprof+0x7d3/0x850",
    "kvmalloc_too_big":
        "WARNING: CPU: 0 PID: 138 at mm/util.c:670 __kvmalloc_node_noprof+0x103/0x120",
    "vmalloc_too_big": "init: vmalloc error: size 68719476736, exceeds total pages, mode:0xcc0",
    "vmalloc_no_space": "init: vmalloc error: size 12288, vm_struct allocation failed, mode:0xcc0",
    "vmalloc_no_array":
        "a: b: vmalloc error: size 4194304, failed to allocated page array size 8192, mode:0xcc0",
    "vmalloc_no_pages": "a: vmalloc error: size 4096, page order 9, failed to allocate pages, mode:",
    "vmalloc_no_tables": "insmod: vmalloc error: size 4096, failed to map pages, mode:0xcc0",
    "vmalloc_failed": "insmod: vmalloc error: size 4096, something new, mode:0xcc0",
    "vmalloc_range": "vmalloc_node_range for size 12288 failed: Address range restricted to 0x0 - 0x1",
    "order_out_of_range":
        "WARNING: CPU: 0 PID: 138 at mm/page_alloc.c:4832 __alloc_pages_noprof+0x303/0x310",
    "nofail_misused":
        "WARNING: CPU: 1 PID: 7 at mm/page_alloc.c:4400 __alloc_pages_slowpath.constprop.0+0x1/0x2",
    "exact_compound": "WARNING: CPU: 0 PID: 1 at mm/page_alloc.c:4990 alloc_pages_exact_noprof+0x1/0x2",
    "page_alloc_bug": "kernel BUG at mm/page_alloc.c:4955!",
    "zones_exclude": "kernel BUG at include/linux/gfp.h:143!",
    "page_bug": "kernel BUG at include/linux/mm.h:1140!",
    "dump_page": "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x5000",
    "bad_page": "BUG: Bad page state in process Web Content  pfn:0539f",
    "list_del": "list_del corruption. next->prev should be ffffea0000, but was ffffea00. (next=ff)",
    "list_add": "list_add corruption. prev->next should be next (ff), but was ee. (prev=dd).",
    "list_bug": "kernel BUG at lib/list_debug.c:65!",
    "fortify": "memset: detected buffer overflow: 128 byte write of buffer size 64",
    "field_spanning": 'memcpy: detected field-spanning write (size 8) of single field "a" at b.c:1',
    "usercopy_read": "usercopy: Kernel memory exposure attempt detected from SLUB object "
        "'kmalloc-64' (offset 0, size 128)!",
    "usercopy_write": "usercopy: Kernel memory overwrite attempt detected to SLUB object "
        "'kmalloc-64' (offset 0, size 128)!",
    "usercopy": "kernel BUG at mm/usercopy.c:102!",
    "protection_fault": "Oops: general protection fault, probably for non-canonical address "
        "0x46644920583d3f9d: 0000 [#1] PREEMPT SMP NOPTI",
    "page_fault": "BUG: unable to handle page fault for address: ffffeb0200017348",
    "null": "BUG: kernel NULL pointer dereference, address: 000000000000001c",
    "divide_error": "Oops: divide error: 0000 [#1] PREEMPT SMP NOPTI",
    "kasan_double_free": "BUG: KASAN: double-free in misc+0x6bc/0x6860 [misuse]",
    "kasan_invalid_free": "BUG: KASAN: invalid-free in kfree+0x274/0x3c0",
    "kasan_slab_bounds": "BUG: KASAN: slab-out-of-bounds in _copy_to_user+0x5a/0x80",
    "kasan_slab_freed": "BUG: KASAN: slab-use-after-free in misc+0x5b7d/0x6860 [misuse]",
    "kasan_page_freed": "BUG: KASAN: use-after-free in misc+0x4e85/0x6860 [misuse]",
    "kasan_vmalloc_bounds": "BUG: KASAN: vmalloc-out-of-bounds in misc+0x57ac/0x6860 [misuse]",
    "kasan_bounds": "BUG: KASAN: out-of-bounds in a+0x1/0x2",
    "kasan_stack_bounds": "BUG: KASAN: stack-out-of-bounds in a+0x1/0x2",
    "kasan_global_bounds": "BUG: KASAN: global-out-of-bounds in a+0x1/0x2",
    "kasan_scope": "BUG: KASAN: use-after-scope in a+0x1/0x2",
    "kasan_null": "BUG: KASAN: null-ptr-deref in a+0x1/0x2",
    "kasan_user": "BUG: KASAN: user-memory-access in a+0x1/0x2",
    "kasan_wild": "BUG: KASAN: wild-memory-access in a+0x1/0x2",
    "kasan_other": "BUG: KASAN: unknown-crash in a+0x1/0x2",
    "kfence_bounds": "BUG: KFENCE: out-of-bounds write in misc+0x449c/0x4d90 [misuse]",
    "kfence_freed": "BUG: KFENCE: use-after-free read in misc+0x3ed2/0x4d90 [misuse]",
    "kfence_corruption": "BUG: KFENCE: memory corruption in misc+0x3d4d/0x4d90 [misuse]",
    "kfence_invalid_free": "BUG: KFENCE: invalid free in kvfree_rcu_bulk+0x16c/0x1a0",
    "kfence_invalid": "BUG: KFENCE: invalid read in a+0x1/0x2",
    "kfence_other": "BUG: KFENCE: something new in a+0x1/0x2",
    "sleeping": "BUG: sleeping function called from invalid context at mm/vmalloc.c:3419",
    "rcu_switch": "Voluntary context switch within RCU read-side critical section!",
    "softirq_count": (
        "softirq: huh, entered softirq 6 TASKLET 0xffffffff81098c00 with preempt_count 00000100, "
        "exited with 00000000?"
    ),
    "scheduling": "BUG: scheduling while atomic: init/45/0x00010002",
    "lock_state": "WARNING: inconsistent lock state",
    "circular_locks": "WARNING: possible circular locking dependency detected",
    "wait_context": "[ BUG: Invalid wait context ]",
    "rcu_usage": "WARNING: suspicious RCU usage",
    "irq_work_bug": "kernel BUG at kernel/irq_work.c:245!",
    "no_pages": "swapper/3: page allocation failure: order:4, mode:0xcc0(GFP_KERNEL), nodemask=0",
    "slab_failed": "SLUB: Unable to allocate memory on CPU 0 (of node 0) on node -1, gfp=0x820",
    "oom": "Web Content invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
    "oom_kill": "Memory cgroup out of memory: Killed process 31 (init) total-vm:1kB, anon-rss:1kB",
    "oom_nobody": "Out of memory and no killable processes...",
    "oom_deadlock": "Kernel panic - not syncing: System is deadlocked on memory",
    "oom_panic": "Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled",
    "unexpected_gfp": "Unexpected gfp: 0x2 (__GFP_HIGHMEM). Fixing up to gfp: 0xcc0 (GFP_KERNEL).",
    "ctor_and_zero": "WARNING: CPU: 0 PID: 1 at mm/slub.c:2600 new_slab+0x1/0x2",
    "create_checked": "kmem_cache_create((null)) integrity check failed",
    "create_usercopy":
        "WARNING: CPU: 0 PID: 1 at mm/slab_common.c:290 __kmem_cache_create_args+0x1/0x2",
    "create_failed": "__kmem_cache_create_args(mu_big) failed with error -22",
    "create_panic":
        "Kernel panic - not syncing: __kmem_cache_create_args: Failed to create slab 'a'. Error -22",
    "same_name": "kmem_cache of name 'mine' already exists",
    "destroy_live": "kmem_cache_destroy mu_live: Slab cache still has objects when called from a",
    "same_sysfs_name": "sysfs: cannot create duplicate filename '/kernel/slab/mine'",
    "same_kobject_name": "kobject: kobject_add_internal failed for mine with -EEXIST, don't try to",
    "fault_injected": "FAULT_INJECTION: forcing a failure.",
    "kmemleak_found": "kmemleak: 12 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "kmemleak_object": "unreferenced object 0xffff8880062f9000 (size 1024):",
    "kmemleak_off": "kmemleak: Kernel memory leak detector disabled",
    "refcount": "refcount_t: underflow; use-after-free.",
    "suppressed": "warn_alloc: 3 callbacks suppressed",
    "bug": "kernel BUG at fs/ext4/inode.c:2721!",
    "warning": "WARNING: CPU: 0 PID: 46 at kernel/fork.c:614 free_task+0xb5/0xd0",
    "panic": "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009",
    "panic_in_interrupt": "Kernel panic - not syncing: Fatal exception in interrupt",
}  # fmt: skip

#: Lines that the simulator prints within a report, or that report nothing, as they begin.
NOT_REPORTS = re.compile(
    r"in_atomic|preempt_count|RCU nest|INFO: lockdep|no locks held|0 lock|[ =<-]|CPU: |Hardware|Call "
    r"|#PF|Oops: (?:Oops|invalid opcode)|name |0 0|0 at|oom-kill:|oom_reaper|Unreclaimable|Name "
    r"|Tasks |\[|flags|page_type|page dumped|Mem-Info|object pointer|Slab 0x|Slab 0|Object 0|FIX "
    r"|0 in 0|Unknown kernel command|HugeTLB|min_free_kbytes|khugepaged|$"
)


def recorded():
    """Return the first lines of recorded misuse that differ in more than numbers."""
    lines = {}
    for name in ("misuse_pair", "misuse_single"):
        for cell in json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes())):
            line = cell["report_first_line"]
            if line:
                lines.setdefault(re.sub(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+", "N", line), line)
    return sorted(lines.values())


# -- every report has its explanation ------------------------------------------------------------


@pytest.mark.parametrize("line", recorded())
def test_every_recorded_misuse_is_explained(line):
    (report,) = reports(line)
    assert report.kind not in FALLBACKS
    assert report.first_line == line[:160]
    assert len(report.meaning) > 100


@pytest.mark.parametrize(("kind", "line"), SAMPLES.items())
def test_a_first_line_is_known(kind, line):
    assert [report.kind for report in reports(f"a line\n{line}\nanother one")] == [kind]


def test_there_is_a_sample_of_every_kind():
    found = (re.fullmatch(r"explain\.kind\.(\w+)", key) for key in sorted(strings.keys()))
    known = {key[1] for key in found if key}
    assert known == set(SAMPLES)
    assert set(COMPANIONS) | set().union(*COMPANIONS.values()) <= known


def printed_by_the_simulator():
    """Yield (place, line) for what kmemkit.mm prints with a wording of its own, fields left 0."""
    for path in sorted((ROOT / "kmemkit" / "mm").glob("*.py")):
        module = import_module(f"kmemkit.mm.{path.stem}")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                for line in as_printed(name, [wording(one, module) for one in node.args]):
                    yield f"{path.name}:{node.lineno}", line


def wording(node, module):
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(p.value) if isinstance(p, ast.Constant) else "0" for p in node.values)
    if isinstance(node, ast.Name):
        return getattr(module, node.id, None)
    return None


def as_printed(function, args):
    """Return the lines that a call of one of the printing functions gives."""
    if function == "printk" and isinstance(args[0], str):
        return [args[0]]
    if function in ("warn", "warn_once") and all(isinstance(one, str) for one in args[:2]):
        own = [args[2]] if len(args) > 2 and args[2] else []
        return [*own, f"WARNING: CPU: 0 PID: 1 at {args[0]} {args[1]}"]
    if function == "warn_on_once" and isinstance(args[0], str):
        return [f"WARNING: CPU: 0 PID: 1 at mm/page_alloc.c {args[0]}"]
    if function == "bug_on" and isinstance(args[1], str):
        return [f"kernel BUG at {args[1]}!"]
    if function in ("object_err", "slab_err") and isinstance(args[-1], str):
        return [f"BUG kmalloc-64 (Not tainted): {args[-1]}"]
    if function == "_vmalloc_error" and isinstance(args[-1], str):
        return [f"init: vmalloc error: {args[-1]}"]
    return []


#: Wordings whose beginning is a field: headline() needs what is filled in.
FILLED = {
    "WARNING: 0 0": SAMPLES["order_out_of_range"],
    "WARNING: CPU: 0 PID: 0 at 0 0": SAMPLES["free_warning"],
    "BUG: KASAN: 0 in 0": SAMPLES["kasan_double_free"],
    "BUG: KFENCE: 0 in 0": SAMPLES["kfence_freed"],
    "BUG 0 (0): 0": SAMPLES["already_free"],
    "[0 overwritten] 0-0 @offset=0. First byte 0 instead of 0": SAMPLES["poison"],
    "0: 0, mode:0(0), nodemask=00": SAMPLES["no_pages"],
    "0: Killed process 0 (0) total-vm:0kB, 0, UID:0 pgtables:0kB oom_score_adj:0":
        SAMPLES["oom_kill"],
}  # fmt: skip


def test_what_the_simulator_prints_is_known():
    printed = [(place, FILLED.get(line, line)) for place, line in printed_by_the_simulator()]
    unknown = [
        f"{place}: {line}"
        for place, line in printed
        if (found := headline(line)) is None or found.kind in FALLBACKS
        if found is not None or not NOT_REPORTS.match(line)
    ]
    assert len(printed) > 80
    assert not unknown, "say in headlines.py, or in NOT_REPORTS, what these are"


def test_the_simulators_own_report_is_explained_from_its_log():
    kernel = Kernel("256M", cmdline="slab_debug=FZPU")
    at = kernel.kmalloc(60, "GFP_KERNEL")
    kernel.write(at, b"x" * 62)
    kernel.kfree(at)
    said = kernel.explain()
    assert said == explain(kernel.dmesg())
    (report,) = reports(kernel.dmesg())
    assert report.kind == "kmalloc_redzone"
    told = " ".join(report.facts)
    assert "first wrong byte is 0x78 ('x') where 0xcc (the red zone of an object in use)" in told
    assert "Object 62 x 0x78 ('x'), 2 x 0xcc" in told
    assert "allocated in learner" in told
    assert "wrote the expected bytes back" in told
    assert "did not free the object" in told
    assert " ".join(told.split()) in " ".join(said.split())


@pytest.mark.parametrize(
    ("cmdline", "debug", "misuse", "kinds"),
    [
        ("", False, lambda k, p: [k.kfree(p), k.kfree(p)], ["double_free"]),
        ("slab_debug=FZPU", False, lambda k, p: [k.kfree(p), k.kfree(p)], ["more_than_allocated"]),
        ("", True, lambda k, p: [k.kfree(p), k.kfree(p)], ["kasan_double_free"]),
        ("", False, lambda k, p: k.kfree(k.vmalloc(4096)), ["page_fault"]),
        ("", False, lambda k, p: k.vfree(p + 8), ["vfree_bad_address"]),
        ("", False, lambda k, p: k.vmalloc(0), ["vmalloc_zero"]),
        ("", False, lambda k, p: k.kfree(k.get_free_pages("GFP_KERNEL", 0)), ["free_large_kmalloc"]),
        ("", False, lambda k, p: k.memset(p, 0, 65, known_size=64), ["fortify"]),
        ("", False, lambda k, p: k.copy_to_user(p, 128), ["usercopy_read"]),
        ("", False, lambda k, p: k.kmem_cache_free(k.kmem_cache("kmalloc-96"), p), ["wrong_cache"]),
        ("", False, lambda k, p: k.kfree(0xAAAAAAAAAAAAAAAA), ["protection_fault"]),
        ("", False, lambda k, p: k.kmem_cache_create("a", 0), ["divide_error"]),
    ],
)  # fmt: skip
def test_a_mistake_is_one_report(cmdline, debug, misuse, kinds):
    kernel = Kernel("64M", cmdline=cmdline, debug_kernel=debug)
    at = kernel.kmalloc(64, "GFP_KERNEL")
    try:
        misuse(kernel, at)
    except (KernelBug, Oops) as end:
        assert str(end).splitlines()[0] in kernel.dmesg()
    assert [report.kind for report in reports(kernel.dmesg())] == kinds


# -- what a report shows --------------------------------------------------------------------------


def facts_of(*lines):
    (report,) = reports("\n".join(lines))
    return " ".join(report.facts)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (0x1C, "null"),
        (0x10, "zero_size"),
        (0xFFFFFFFFFFFFFFF4, "error"),
        (0xDFFFFC0000000002, "shadow_null"),
        (0xDFFFFC1000000000, "shadow"),
        (0xDEAD000000000122, "list_poison"),
        (0x6B6B6B6B6B6B6B6B, "freed"),
        (0x6B6B6B6B6B6B6BA3, "freed"),
        (0xAAAAAAAAAAAAAAAA, "uninitialised"),
        (0x5A5A5A5A5A5A5A5A, "padding"),
        (0xCCCCCCCCCCCCCCCC, "redzone"),
        (0x46644920583D3F9D, "random"),
        (0x02AA9688AAAAAA88, "page_of_uninitialised"),
        (0xFFFFEBDE00000008, "page_of_null"),
        (0xFFFFEA0001FFFFC8, "page_of_error"),
        (0xFFFFEB0200017348, "page_of_vmalloc"),
        (0xFFFFEB8600005388, "page_of_page"),
        (0xFFFFEA0001008788, "page_of_module"),
        (0xFFFFEBDE00001008, "page_of_other"),
        (0xFFFFC900005D0000, "vmalloc"),
        (0xFFFF888010000000, "direct_map"),
        (0xFFFFFFFF82300000, "image"),
        (0x00007F0000001000, "user"),
        (0xFFFF880000000000, "elsewhere"),
    ],
)
def test_an_address_tells_what_the_pointer_was(address, key):
    assert meaning(address)[0] == key


def test_the_page_of_a_vmalloc_address_names_it():
    kernel = Kernel("64M")
    at = kernel.vmalloc(4096)
    with pytest.raises(Oops):
        kernel.kfree(at)
    assert f"the struct page of {at:#x} would be" in kernel.explain().replace("\n  ", "")


def test_an_error_pointer_has_its_name():
    said = facts_of("BUG: unable to handle page fault for address: fffffffffffffff4")
    assert "error number -12 (ENOMEM)" in said


def test_a_fault_says_whether_it_was_a_write_and_the_how_many_it_is():
    said = facts_of(
        SAMPLES["page_fault"],
        "#PF: supervisor write access in kernel mode",
        "Oops: Oops: 0002 [#3] PREEMPT SMP NOPTI",
    )
    assert "It was a write." in said
    assert "oops number 3" in said


def test_a_fault_in_the_allocator_is_not_blamed_on_the_caller():
    said = facts_of(SAMPLES["protection_fault"], "RIP: 0010:__kmalloc_cache_noprof+0xaf/0x310")
    assert "this task is innocent. It was in __kmalloc_cache_noprof()." in said
    assert "It was in" not in facts_of(
        SAMPLES["protection_fault"], "RIP: 0010:my_driver+0xaf/0x310"
    )


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("nonzero _refcount", "reference count is not 0"),
        ("nonzero mapcount", "counts as mapped"),
        ("corrupted mapping in tail page", "too large an order"),
        ("PAGE_FLAGS_CHECK_AT_FREE flag(s) set", "reserved page"),
        ("VM_BUG_ON_PAGE(page_ref_count(page) == 0)", "freed before"),
        ("VM_BUG_ON_PAGE(compound && compound_order(page) != order)", "another order"),
    ],
)
def test_a_dumped_page_says_why(reason, said):
    lines = (SAMPLES["dump_page"], "flags: 0x1(node=0)", f"page dumped because: {reason}")
    assert said in facts_of(*lines)
    assert said in facts_of(SAMPLES["bad_page"], *lines)


def test_a_dumped_page_says_what_it_is():
    said = facts_of(
        SAMPLES["bad_page"],
        "page: refcount:-1 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x5384",
        "page_type: f5(slab)",
        "page dumped because: nonzero _refcount",
    )
    assert "page of a slab" in said
    assert "The count is -1" in said


def test_kasan_says_where_the_access_was():
    log = [
        SAMPLES["kasan_slab_bounds"],
        "Write of size 8 at addr ffff888003a49cc0 by task init/46",
        "The buggy address is located 0 bytes to the right of",
        " allocated 64-byte region [ffff888003a49c80, ffff888003a49cc0)",
        SAMPLES["dump_page"],
        "page_type: f5(slab)",
        "page dumped because: kasan: bad access detected",
        "Memory state around the buggy address:",
        " ffff888003a49c00: fa fb fb fb fb fb fb fb fc fc fc fc fc fc fc fc",
        ">ffff888003a49c80: 00 00 00 00 00 00 00 00 fc fc fc fc fc fc fc fc",
        "                                           ^",
    ]
    said = facts_of(*(f"[    7.1{number:05}] {line}" for number, line in enumerate(log)))
    assert "a write of 8 bytes" in said
    assert "0 bytes behind allocated memory of 64 bytes" in said
    assert "0xfc: behind or between objects" in said
    assert "page of a slab" not in said


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((SAMPLES["fault_injected"], "name failslab, interval 1, probability 100"), "is failslab"),
        ((SAMPLES["kmemleak_object"], '  comm "insmod", pid 41, jiffies 4294'), "insmod, pid 41"),
        ((SAMPLES["slab_failed"], "  cache: kmalloc-64, object size: 64, buffer size: 64, default"),
         "kmalloc-64: objects of 64 bytes"),
        (("BUG kmalloc-64 (Tainted: G    B   W  OE     ): Freepointer corrupt",), "reported before"),
        ((SAMPLES["already_free"], "Allocated in a+0x1/0x2 age=1 cpu=0 pid=1",
          "Freed in b+0x1/0x2 age=1 cpu=0 pid=1"), "allocated in a+0x1/0x2 and freed in b+0x1/0x2"),
        ((SAMPLES["kasan_slab_freed"], "Allocated by task 46 on cpu 0:"), '"Allocated by" and'),
        ((SAMPLES["double_free"], "Kernel panic - not syncing: Fatal exception"), "(panic)"),
    ],
)  # fmt: skip
def test_the_lines_of_a_report_add_what_they_know(lines, said):
    assert said in facts_of(*lines)


# -- the log as a whole ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        "", "[    7.108459] ", "<4>[    7.108459] ", "[  123.4][  T431] ",
        "Nov 22 20:27:10 box kernel: ", "Nov 22 20:27:10 box kernel: [    7.108459] ",
        "2026-11-22T20:27:10+00:00 box kernel: ",
    ],
)  # fmt: skip
def test_time_stamps_do_not_matter(prefix):
    (report,) = reports(f"{prefix}{SAMPLES['poison']}\n")
    assert (report.kind, report.first_line) == ("poison", SAMPLES["poison"])


def test_what_follows_from_a_report_belongs_to_it():
    log = "\n".join((
        SAMPLES["poison"], "=====", SAMPLES["object_corrupt"], "-----", SAMPLES["slub_warning"],
        SAMPLES["not_a_slab"], SAMPLES["free_warning"],
        SAMPLES["bad_page"], SAMPLES["dump_page"],
        SAMPLES["usercopy_read"], SAMPLES["usercopy"], SAMPLES["panic"],
    ))  # fmt: skip
    found = [(report.kind, report.line) for report in reports(log)]
    assert found == [("poison", 1), ("not_a_slab", 6), ("bad_page", 8), ("usercopy_read", 10)]


def test_something_far_behind_does_not_belong_to_a_report():
    log = [SAMPLES["not_a_slab"], *["a line"] * 700, SAMPLES["panic"]]
    assert [report.kind for report in reports(log)] == ["not_a_slab", "panic"]


def test_a_second_report_of_a_kind_points_to_the_first():
    said = explain([SAMPLES["double_free"], SAMPLES["oom_kill"], SAMPLES["double_free"]])
    assert said.count("Find the second owner") == 1
    assert "3. kernel BUG at mm/slub.c:550!\n   The same kind of report as number 1;" in said
    assert said.endswith("Begin with number 1: what comes after it may be its consequence.")


def test_a_single_report_is_not_numbered():
    assert explain(SAMPLES["double_free"]).startswith("kernel BUG at mm/slub.c:550!\n   The object")


@pytest.mark.parametrize(
    "log",
    ["", "\n\n", "just a line", "usb 1-1: new device\nEXT4-fs (sda1): mounted\n", [], ["a", "b"],
     "<html><body><p>BUG?</p></body></html>", "[ ]", "BUG", "WARNING: nothing at all"],
)  # fmt: skip
def test_other_text_has_no_report(log):
    assert reports(log) == ()
    assert explain(log).startswith("No report of the kernel's memory management")


@pytest.mark.parametrize("log", [b"BUG", None, 7, [b"BUG"], ["a", None]])
def test_a_log_is_text(log):
    with pytest.raises(TypeError, match="text"):
        explain(log)


def test_a_log_without_end_comes_to_an_end():
    assert f"first {MAX_LINES} lines" in explain(itertools.repeat("a line"))
    assert f"first {MAX_REPORTS} reports" in explain(itertools.repeat(SAMPLES["double_free"]))
    assert len(explain(itertools.cycle([*SAMPLES.values(), "x" * 10_000]))) < 100_000


def test_long_lines_are_cut():
    line = SAMPLES["already_free"] + "!" * 1_000_000
    (report,) = reports(line + "\n" + "0" * 1_000_000)
    assert report.kind == "already_free"
    assert len(explain(line)) < 2000
    assert reports("x" * 1_000_000) == ()


def test_a_terminal_is_not_commanded():
    said = explain("BUG \x1b[31mred\x07 (Not tainted): Object already free \x1b]0;title\x07")
    assert all(one.isprintable() or one == "\n" for one in said)


PIECES = st.sampled_from(
    [*SAMPLES.values(), "First byte 0x5 instead of 0x6b", "Object   ffff888005b17840: 42 42 4",
     "page dumped because: ", "page_type: (slab)", "Oops: Oops: [#99999999999999999]", ">", "^",
     "The buggy address is located 9 bytes inside of", " 64-byte region", "FIX a: ", "{0}", "{",
     "Allocated in ", "Freed by task", "kernel: ", "[    1.0]", "Kernel panic", " (", ": ", "\0"]
)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.text(max_size=40)), max_size=30), st.sampled_from(["\n", ""]))
def test_any_text_is_explained(pieces, between):
    log = between.join(pieces)
    said = explain(log)
    assert said
    assert all(one.isprintable() or one == "\n" for one in said)
    assert len(said) < 4000 * (len(reports(log)) + 1)
    assert said == explain(log.split("\n"))
