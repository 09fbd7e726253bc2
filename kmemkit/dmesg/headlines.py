"""Which lines of a kernel log begin a report, and of what kind it is.

`reports()` asks headline() for each line. Wording is that of 6.12, and where they differ in a word
or two, of its neighbours. A kind is a key under [explain.kind] of the string table.

A log may come from anywhere: patterns look at a short line, once, from its beginning on.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ("COMPANIONS", "Headline", "headline")


class Headline(NamedTuple):
    """What the first line of a report says: its kind, and the parts of its wording."""

    kind: str
    parts: dict[str, str]


#: A line can only begin a report if it begins with one of these ...
STARTS = (
    "BUG", "WARNING: ", "Oops: ", "[", "kernel BUG at ", "cache_from_obj: ", "virt_to_cache: ",
    "general protection fault", "page: refcount:", "Trying to v", "Unexpected gfp: ", "list_",
    "usercopy: ", "SLUB: Unable", "vmalloc_node_range for", "vmap allocation for", "kmem_cache",
    "__kmem_cache_create", "sysfs: cannot", "kobject: kobject_add", "kobject_add_internal",
    "FAULT_INJECTION: ", "kmemleak: ", "unreferenced object ", "Kernel panic - ", "Out of memory",
    "Memory cgroup out of memory", "refcount_t: ", "Voluntary context switch", "softirq: huh, ",
)  # fmt: skip
#: ... or has one of these behind the name of a task or function.
MARKS = (
    " invoked oom-killer: ", ": page allocation failure", ": vmalloc error: ",
    " callbacks suppressed", ": detected buffer overflow", ": detected field-spanning write",
    "detected buffer overflow in ",
)  # fmt: skip

#: Function that warned -> kind.
WARNINGS = {
    "free_large_kmalloc": "free_large_kmalloc",
    "__ksize": "ksize_of_pages",
    "__alloc_pages": "order_out_of_range",
    "__alloc_pages_noprof": "order_out_of_range",
    "__alloc_pages_slowpath": "nofail_misused",
    "alloc_pages_exact_noprof": "exact_compound",
    "__vmalloc_node_range": "vmalloc_zero",
    "__vmalloc_node_range_noprof": "vmalloc_zero",
    "__kvmalloc_node_noprof": "kvmalloc_too_big",
    "remove_vm_area": "vfree_bad_address",
    "vfree": "vfree_no_area",
    "vunmap": "vunmap_no_area",
    "vrealloc_noprof": "vrealloc_no_area",
    "kmem_cache_free": "free_warning",
    "kmem_cache_destroy": "destroy_live",
    "kmem_cache_sanity_check": "create_checked",
    "__kmem_cache_create_args": "create_usercopy",
    "__kmem_cache_shutdown": "slub_warning",
    "object_err": "slub_warning",
    "slab_err": "slub_warning",
    "new_slab": "ctor_and_zero",
    "__fortify_report": "fortify",
    "refcount_warn_saturate": "refcount",
}
#: File of a BUG() -> kind.
BUGS = {
    "mm/slub.c": "double_free",
    "mm/vmalloc.c": "vmalloc_in_interrupt",
    "mm/page_alloc.c": "page_alloc_bug",
    "include/linux/gfp.h": "zones_exclude",
    "include/linux/mm.h": "page_bug",
    "lib/list_debug.c": "list_bug",
    "lib/string_helpers.c": "fortify",
    "mm/usercopy.c": "usercopy",
    "kernel/irq_work.c": "irq_work_bug",
}
#: What "BUG <cache> (<taint>): " goes on with -> kind.
SLUB = (
    ("Object already free", "already_free"),
    ("Invalid object pointer", "invalid_pointer"),
    ("Attempt to free object", "invalid_pointer"),
    ("Slab has ", "more_than_allocated"),
    ("Freepointer corrupt", "freepointer_corrupt"),
    ("Freechain corrupt", "freechain_corrupt"),
    ("Freelist Pointer check fails", "freelist_pointer"),
    ("Wrong object count", "wrong_count"),
    ("Wrong number of objects", "wrong_count"),
    ("Object corrupt", "object_corrupt"),
    ("Objects remaining", "objects_remaining"),
)
#: "[<these> overwritten]" -> kind.
ZONES = {
    "Left Redzone": "left_redzone",
    "Right Redzone": "right_redzone",
    "Redzone": "right_redzone",
    "kmalloc Redzone": "kmalloc_redzone",
    "Poison": "poison",
    "End Poison": "poison",
    "Alignment padding": "padding",
    "Object padding": "padding",
    "Slab padding": "padding",
    "Padding": "padding",
}
#: Title of a KASAN report -> kind; so with KFENCE, whose titles end with what the access was.
KASAN = {
    "double-free": "kasan_double_free",
    "invalid-free": "kasan_invalid_free",
    "slab-out-of-bounds": "kasan_slab_bounds",
    "slab-use-after-free": "kasan_slab_freed",
    "use-after-free": "kasan_page_freed",
    "vmalloc-out-of-bounds": "kasan_vmalloc_bounds",
    "out-of-bounds": "kasan_bounds",
    "stack-out-of-bounds": "kasan_stack_bounds",
    "alloca-out-of-bounds": "kasan_stack_bounds",
    "global-out-of-bounds": "kasan_global_bounds",
    "use-after-scope": "kasan_scope",
    "null-ptr-deref": "kasan_null",
    "user-memory-access": "kasan_user",
    "wild-memory-access": "kasan_wild",
}
KFENCE = {
    "out-of-bounds": "kfence_bounds",
    "use-after-free": "kfence_freed",
    "memory corruption": "kfence_corruption",
    "invalid free": "kfence_invalid_free",
    "invalid": "kfence_invalid",
}
#: What a failed vmalloc() says -> kind.
VMALLOC = (
    ("exceeds total pages", "vmalloc_too_big"),
    ("vm_struct allocation failed", "vmalloc_no_space"),
    ("failed to allocated page array", "vmalloc_no_array"),
    ("failed to allocate pages", "vmalloc_no_pages"),
    ("failed to map pages", "vmalloc_no_tables"),
)

_WARNING = re.compile(
    r"WARNING: (?:CPU: \d+ PID: \d+ at )?(?P<where>[\w/.-]+\.[chS](?::\d+)?)"
    r"(?: at)? (?P<function>\w+)"
)
_SLUB = re.compile(r"BUG (?P<cache>\S+) \((?P<taint>[^)]*)\): (?P<reason>.*)")
_OVERWRITTEN = re.compile(r"\[(?P<zone>[\w ]+) overwritten\] ")
_DETECTED = re.compile(r"BUG: (KASAN|KFENCE): (?P<title>.+?) in (?P<function>\S+)")
_BUG_AT = re.compile(r"kernel BUG at (?P<file>[\w/.-]+):(?P<line>\d+)!")
_VMALLOC = re.compile(r".*: vmalloc error: size \d+, (?P<why>.*)")

#: Wordings that are one kind each, looked through in this order.
WORDINGS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("bad_page", r"BUG: Bad page state in process .*  pfn:(?P<pfn>[0-9a-f]+)"),
        ("null", r"BUG: kernel NULL pointer dereference, address: (?P<address>[0-9a-f]{1,16})\b"),
        ("page_fault",
         r"BUG: unable to handle page fault for address: (?P<address>[0-9a-f]{1,16})\b"),
        ("protection_fault",
         r"(?:Oops: )?general protection fault(?:, (?:probably|maybe) for (?:non-canonical )?"
         r"address (?P<address>0x[0-9a-f]{1,16})\b)?"),
        ("divide_error", r"(?:Oops: )?divide error: "),
        ("sleeping", r"BUG: sleeping function called from invalid context at (?P<where>\S+)"),
        ("scheduling", r"BUG: scheduling while atomic: "),
        ("rcu_switch", r"Voluntary context switch within RCU read-side critical section!"),
        ("softirq_count", r"softirq: huh, entered softirq "),
        ("lock_state", r"WARNING: inconsistent lock state"),
        ("circular_locks", r"WARNING: possible circular locking dependency"),
        ("wait_context", r"\[ BUG: Invalid wait context \]"),
        ("rcu_usage", r"WARNING: suspicious RCU usage"),
        ("wrong_cache",
         r"cache_from_obj: Wrong slab cache\. (?P<given>\S+) but object is from (?P<cache>\S+)"),
        ("not_a_slab", r"virt_to_cache: Object is not a Slab page!"),
        ("dump_page", r"page: ?refcount:"),
        ("vfree_bad_address", r"Trying to vfree\(\) bad address"),
        ("vfree_no_area", r"Trying to vfree\(\) nonexistent vm area"),
        ("vunmap_no_area", r"Trying to vunmap\(\) nonexistent vm area"),
        ("vrealloc_no_area", r"Trying to vrealloc\(\) nonexistent vm area"),
        ("unexpected_gfp", r"Unexpected gfp: \S+ \((?P<names>[^)]*)\)"),
        ("list_del", r"list_del corruption"),
        ("list_add", r"list_add (?:corruption|double add)"),
        ("usercopy_read",
         r"usercopy: Kernel memory exposure attempt detected from (?P<what>.+) \("),
        ("usercopy_write",
         r"usercopy: Kernel memory overwrite attempt detected to (?P<what>.+) \("),
        ("slab_failed", r"SLUB: Unable to allocate memory"),
        ("vmalloc_range", r"vmalloc_node_range for size|vmap allocation for size"),
        ("create_checked", r"kmem_cache_create\((?P<cache>[^)]*\)?)\) integrity check failed"),
        ("create_failed",
         r"(?:__)?kmem_cache_create(?:_args)?\((?P<cache>[^)]*\)?)\) failed with error -"),
        ("create_panic",
         r"Kernel panic - not syncing: \w+: Failed to create slab '(?P<cache>[^']*)'"),
        ("same_name", r"kmem_cache of name '(?P<cache>[^']*)' already exists"),
        ("destroy_live", r"kmem_cache_destroy (?P<cache>\S+): Slab cache still has objects"),
        ("same_sysfs_name", r"sysfs: cannot create duplicate filename '(?P<path>[^']*)'"),
        ("same_kobject_name",
         r"(?:kobject: )?kobject_add_internal failed for (?P<cache>\S+) with -EEXIST"),
        ("fault_injected", r"FAULT_INJECTION: forcing a failure"),
        ("kmemleak_found", r"kmemleak: (?P<count>\d+) new suspected memory leaks"),
        ("kmemleak_off", r"kmemleak: (?:Cannot|Memory pool|Kernel memory leak detector disabled)"),
        ("kmemleak_object", r"unreferenced object (?P<address>0x[0-9a-f]+) \(size (?P<size>\d+)\)"),
        ("oom", r".* invoked oom-killer: gfp_mask="),
        ("oom_deadlock", r"Kernel panic - not syncing: System is deadlocked on memory"),
        ("oom_panic", r"Kernel panic - not syncing: Out of memory"),
        ("oom_nobody", r"Out of memory and no killable processes"),
        ("oom_kill", r"(?:Out of memory|Memory cgroup out of memory)\b.*: Killed process \d+"),
        ("panic_in_interrupt", r"Kernel panic - not syncing: Fatal exception in interrupt"),
        ("panic", r"Kernel panic - not syncing: "),
        ("no_pages", r".*: page allocation failure[.:]"),
        ("suppressed", r"(?P<function>\w+): (?P<count>\d+) callbacks suppressed"),
        ("field_spanning", r"(?P<function>\w+): detected field-spanning write"),
        ("fortify", r"(?P<function>\w+): detected buffer overflow"),
        ("fortify", r"detected buffer overflow in (?P<function>\w+)"),
        ("refcount", r"refcount_t: "),
    )
)  # fmt: skip

#: Kind of a report -> kinds whose first lines belong to it when they follow: what it prints itself
#: further down, or what happens because of it.
COMPANIONS: dict[str, frozenset[str]] = {
    **dict.fromkeys(set(ZONES.values()), frozenset({"object_corrupt", "slub_warning"})),
    **dict.fromkeys({kind for _, kind in SLUB}, frozenset({"slub_warning"})),
    "slub_other": frozenset({"slub_warning"}),
    "objects_remaining": frozenset({"slub_warning", "destroy_live"}),
    "destroy_live": frozenset({"destroy_live"}),
    "wrong_cache": frozenset({"free_warning"}),
    "not_a_slab": frozenset({"free_warning"}),
    "vfree_bad_address": frozenset({"vfree_bad_address", "vfree_no_area"}),
    "vfree_no_area": frozenset({"vfree_no_area"}),
    "vunmap_no_area": frozenset({"vunmap_no_area"}),
    "vrealloc_no_area": frozenset({"vrealloc_no_area"}),
    "fortify": frozenset({"fortify"}),
    "usercopy_read": frozenset({"usercopy"}),
    "usercopy_write": frozenset({"usercopy"}),
    "list_del": frozenset({"list_bug", "list_del"}),
    "list_add": frozenset({"list_bug"}),
    "dump_page": frozenset({"page_bug", "page_alloc_bug", "bug"}),
    **dict.fromkeys({"bad_page", "kasan_other", *KASAN.values()}, frozenset({"dump_page"})),
    "refcount": frozenset({"refcount"}),
    "create_checked": frozenset({"create_checked", "create_failed"}),
    "same_sysfs_name": frozenset({"same_kobject_name", "create_failed"}),
    "same_name": frozenset({"create_checked", "same_sysfs_name", "create_failed"}),
    "oom": frozenset({"oom_kill"}),
    "oom_nobody": frozenset({"oom_deadlock"}),
    "vmalloc_range": frozenset({"vmalloc_no_space"}),
}


def headline(line: str) -> Headline | None:
    """Return what a report a line begins, None if it begins none; without its time stamp."""
    if not (line.startswith(STARTS) or any(mark in line for mark in MARKS)):
        return None
    for recognise in (_of_slub, _of_detector, _of_bug, _of_warning, _wording, _of_vmalloc):
        found = recognise(line)
        if found is not None:
            return found
    return None


def _wording(line: str) -> Headline | None:
    for kind, pattern in WORDINGS:
        found = pattern.match(line)
        if found:
            return Headline(kind, {k: v for k, v in found.groupdict().items() if v is not None})
    return None


def _of_slub(line: str) -> Headline | None:
    found = _OVERWRITTEN.match(line)
    if found:
        kind = ZONES.get(found["zone"])
        return None if kind is None else Headline(kind, {})
    found = _SLUB.match(line)
    if not found:
        return None
    parts, reason = {"cache": found["cache"], "taint": found["taint"]}, found["reason"]
    zone = _OVERWRITTEN.match(reason)
    area = zone["zone"] if zone else reason.partition(" overwritten")[0]
    if "overwritten" in reason and area in ZONES:
        return Headline(ZONES[area], parts)
    kinds = (kind for begin, kind in SLUB if reason.startswith(begin))
    return Headline(next(kinds, "slub_other"), parts)


def _of_detector(line: str) -> Headline | None:
    found = _DETECTED.match(line)
    if not found:
        return None
    title, parts = found["title"], {"function": found["function"]}
    if found[1] == "KASAN":
        return Headline(KASAN.get(title, "kasan_other"), parts)
    parts["access"] = title.rpartition(" ")[2]
    kinds = (kind for begin, kind in KFENCE.items() if title.startswith(begin))
    return Headline(next(kinds, "kfence_other"), parts)


def _of_bug(line: str) -> Headline | None:
    found = _BUG_AT.match(line)
    if not found:
        return None
    return Headline(BUGS.get(found["file"], "bug"), found.groupdict())


def _of_warning(line: str) -> Headline | None:
    found = _WARNING.match(line)
    if not found:
        return None
    return Headline(WARNINGS.get(found["function"], "warning"), found.groupdict())


def _of_vmalloc(line: str) -> Headline | None:
    found = _VMALLOC.match(line)
    if not found:
        return None
    kinds = (kind for why, kind in VMALLOC if why in found["why"])
    return Headline(next(kinds, "vmalloc_failed"), {})
