"""The fidelity ledger's part on slabs, vmalloc, and what finds mistakes (fidelity.py)."""

from __future__ import annotations

from kmemkit.mm.difference import Difference

__all__ = ("SLABS",)

SLABS = (
    Difference(
        "slabs of a booted system",
        "By the time a driver runs, some 180 caches hold thousands of objects, and the free lists "
        "of the common ones are well mixed.",
        "The caches of a booted Debian are there, with their layouts and merged names, but empty: "
        "the first request makes the first slab. Their structs take no memory.",
        "A map shows the learner's objects and nobody else's.",
        "08, 09, 11",
        "kmemkit.mm.slab_common.kmem_cache_init",
    ),
    Difference(
        "random numbers of slabs",
        "Each boot draws the order of a cache's objects and the number its free pointers are mixed "
        "with.",
        "They come from the machine's seed, and so does where a new slab begins in that order.",
        "The same run gives the same text everywhere.",
        "08",
        "kmemkit.mm.slab_machine.SlabMachine.get_random_u32_below",
    ),
    Difference(
        "copies of kmalloc's caches",
        "CONFIG_RANDOM_KMALLOC_CACHES chooses among them by the address of the calling "
        "instruction and a number drawn at boot.",
        "By the learner's line of code that calls (its file, number and text), and a number from "
        "the machine's seed.",
        "There are no instructions; a line is what a learner can point at.",
        "08",
        "kmemkit.mm.slab_common.random_kmalloc_copy",
    ),
    Difference(
        "RCU grace periods of slabs",
        "A slab of a SLAB_TYPESAFE_BY_RCU cache goes back after a grace period.",
        "It goes back at once.",
        "Nobody reads without a lock here; what the flag promises is shown by its layout.",
        "08",
        "kmemkit.mm.slub_pages.discard_slab",
    ),
    Difference(
        "what memory holds",
        "Memory is never empty: a page nobody cleared holds what its last owner left.",
        "A page that nobody wrote to through the kernel's own calls reads as zeroes, and the bytes "
        "of a slab that went back are forgotten.",
        "Megabytes nobody looks at would have to be kept.",
        "08, 11",
        "kmemkit.mm.memory.Memory",
    ),
    Difference(
        "reports of slabs",
        "Tracks and warnings have back traces; a report names modules, registers and code bytes.",
        "A track names the caller, warnings the functions of the allocator. Everything else of a "
        "report has the kernel's wording, spaces included.",
        "There is no machine code to come from.",
        "08, 11",
        "kmemkit.mm.slub_report.object_err",
    ),
    Difference(
        "vmalloc's own memory",
        "Page tables and the descriptors of ranges take memory, and freed ranges wait in pools of "
        "each CPU's.",
        "Page tables take none, so mapping never fails; one list of freed ranges serves all CPUs.",
        "The rules a request feels are kept: first fit, guard page, page by page, lazy purge.",
        "11",
        "kmemkit.mm.vmap_area.VmallocSpace",
    ),
    Difference(
        "addresses of the kernel itself",
        "Code, constants, modules and the structs of caches lie elsewhere in each build, and with "
        "KASLR in each boot; so do the direct map and the vmalloc area.",
        "All lie where a recorded Debian 6.12.117 with nokaslr had them, in the debug kernel too.",
        "A wrong free is judged by where an address lies; the same run must give the same text.",
        "11",
        "kmemkit.mm.physaddr.virt_to_pfn",
    ),
    Difference(
        "names of callers",
        "Tracks, vmallocinfo and sysfs name functions, with offsets, and modules.",
        "Kernel.caller, the owner of a call, and a constructor's Python name (\"+0x0/0x10 "
        '[module]").',
        "The learner's code has no symbols.",
        "08, 11",
        "kmemkit.mm.slabinfo.SlabFiles.slab_sysfs",
    ),
    Difference(
        "knobs of slab debugging",
        "slab_debug=T traces each object, A marks caches for failslab, files in sysfs can be "
        "written to, and debugfs lists who allocated.",
        "T and A are accepted and change no more than what sysfs shows; sysfs is for reading.",
        "Nobody needs them to see an object's bytes.",
        "none",
        "kmemkit.mm.cmdline.parse_slab_debug",
    ),
    Difference(
        "two caches of one name",
        "sysfs may refuse the second one's directory and say so; a kernel with CONFIG_DEBUG_VM "
        "warns.",
        "Nobody says anything; slab_sysfs() and kmem_cache() find the older one.",
        "Each cache works, and that is what a driver sees.",
        "none",
        "kmemkit.mm.slab_common.create_cache",
    ),
    Difference(
        "a free list that is a circle",
        "After a double free that was not noticed, a CPU that gives its slab back may follow the "
        "list for ever.",
        "It stops when it has seen more objects than the slab has.",
        "A notebook must come back.",
        "11",
        "kmemkit.mm.slub.deactivate_slab",
    ),
    Difference(
        "sizes that the compiler knows",
        "FORTIFY_SOURCE checks where the compiler knows how large the destination is; "
        "HARDENED_USERCOPY skips sizes that are constants, and looks at the stack.",
        "The caller says so with known_size= and constant=; there is no stack to look at.",
        "There is no compiler.",
        "11",
        "kmemkit.mm.string_calls.StringCalls.memset",
    ),
    Difference(
        "translations that a CPU remembers",
        "Which address of freed vmalloc memory still works until the purge is luck.",
        "Every address that was used since it was mapped does.",
        "It is the worse case, and the same each time.",
        "11",
        "kmemkit.mm.memory.Memory.pfn_of",
    ),
    Difference(
        "what a debug kernel costs",
        "KASAN's shadow takes an eighth of memory, and every object has stacks stored.",
        "The debug kernel has as much memory as the plain one. Its caches have KASAN's red zones "
        "and are not merged, as recorded.",
        "The reports are what it is there for.",
        "none",
        "kmemkit.mm.slub_layout.SlabParams",
    ),
    Difference(
        "KASAN",
        "Only the first error after boot is reported, unless kasan_multi_shot is given (as it "
        "was for the recordings). Quarantine has batches for each CPU; local and global variables "
        "are guarded too, and a report has both stacks and the shadow bytes.",
        "Every error is reported, in its first two lines. Quarantine is one queue of 1/32 of "
        "memory; objects, large blocks, free pages and vmalloc memory are guarded.",
        "A learner makes more than one mistake; what is named, and when, is as recorded.",
        "11",
        "kmemkit.mm.kasan.Kasan",
    ),
    Difference(
        "KFENCE",
        "A timer lets one allocation through to the pool; when three quarters are used, "
        "allocations from places that have some already are left out. Caches with a constructor or "
        "SLAB_TYPESAFE_BY_RCU are guarded too.",
        "The first small allocation after the interval of simulated time is guarded, while the "
        "pool has room; those caches are not. kmemleak does not know guarded objects.",
        "Which object is guarded is chance in Linux as well.",
        "11",
        "kmemkit.mm.kfence.Kfence.alloc",
    ),
    Difference(
        "page_poison",
        "page_poison=1 fills free pages, and looks at them again when they are handed out.",
        "It is refused.",
        "debug_pagealloc=on, in the debug kernel, catches what a poisoned page would show.",
        "none",
        "kmemkit.mm.cmdline.NOT_MODELLED",
    ),
    Difference(
        "who has fault injection and kmemleak",
        "Kernels built with CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC and CONFIG_DEBUG_KMEMLEAK; "
        "Debian's are not.",
        "Every simulated kernel; off, and without cost, until it is asked for. Failures cannot be "
        "limited to a task or to a place in the code, but by fail_nth().",
        "An error path is tried on the kernel that it will run on.",
        "11",
        "kmemkit.mm.debugfs_calls.DebugfsCalls",
    ),
    Difference(
        "what fail-nth counts",
        "Every allocation of the task, the pages of a new slab among them.",
        "Pages for slabs are not counted.",
        "The same n fails the same call, whatever the caches hold.",
        "11",
        "kmemkit.mm.debugfs_calls.DebugfsCalls.fail_nth",
    ),
    Difference(
        "kmemleak",
        "A thread scans every 10 minutes; an object is reported when it is 5 s old and did not "
        "change between two scans. It searches data, stacks and per-CPU memory, and shows who "
        "called.",
        "A scan is made when it is asked for and believed at once. It searches the learner's "
        "variables and the objects they lead to, and shows the learner's line.",
        "The learner's variables are what a driver's would be.",
        "11",
        "kmemkit.mm.kmemleak.scan",
    ),
    Difference(
        "kfree_rcu",
        "Each CPU collects pointers, up to 5 s, or until a page of them is full; then a grace "
        "period passes. Several batches may be on their way, and readers may hold them up.",
        "One list for all CPUs, freed 5 s of simulated time after its first pointer or when "
        "somebody waits for it; there are no readers.",
        "What counts is that it is later, and that somebody else does it.",
        "11",
        "kmemkit.mm.rcu_calls.RcuCalls.kvfree_rcu",
    ),
    Difference(
        "blocks of a 32-bit kernel",
        "A 32-bit kernel has caches of its own.",
        "OverflowCalculator computes sizes in 32 bits and takes the block from the caches of the "
        "x86-64 machine it was given.",
        "The classes are the same; only the arithmetic differs.",
        "09",
        "kmemkit.views.overflow_calculator.OverflowCalculator",
    ),
)
