"""The fidelity ledger's part on pages: zones, reclaim, reports, time (fidelity.py)."""

from __future__ import annotations

from kmemkit.mm.difference import Difference

__all__ = ("PAGES",)

PAGES = (
    Difference(
        "who gets the CPU when",
        "The scheduler decides when a woken kswapd runs: at once, at the next tick, or when the "
        "caller offers its CPU. Repeated runs of one ladder recording differ by up to a factor of "
        "twenty for masks that do not wait.",
        "kswapd gets a CPU when the caller sleeps or enters direct reclaim, for at most 512 pages, "
        "and otherwise at the next tick (4 ms); a request takes 5 us, a page dropped 2.5 us.",
        "One rule that can be told, instead of a race; outcomes and the order of events come out "
        "as recorded, counts within the spread of most runs.",
        "04, 07",
        "kmemkit.mm.kswapd.schedule",
    ),
    Difference(
        "LRU lists",
        "Debian runs MGLRU: generations, access bits, memory cgroups, readahead, large folios.",
        "Active and inactive lists of single pages, per node and zone, oldest first, scanned in "
        "MGLRU's batches of 64; nothing is ever used again, so nothing is protected.",
        "The triggers and targets are what a request feels.",
        "04, 06, 07",
        "kmemkit.mm.vmscan.shrink_node",
    ),
    Difference(
        "where the page cache lies",
        "Pages of a file are scattered as memory was when they were read.",
        "A file read into a fresh machine lies in order, so reclaiming it gives big blocks back "
        "sooner: costly requests get more, and need compaction less often.",
        "A recording does not say which page is where; that compaction was tried or not is not "
        "counted as a difference.",
        "06, 07",
        "kmemkit.mm.filemap.UserMemory",
    ),
    Difference(
        "compaction",
        "Skip hints, fast searches for sources and targets, capture of the block by its compactor, "
        "contention, pages of drivers that can move.",
        "Both scanners walk every pageblock; pages on LRU lists move, and nothing else.",
        "The walk is the lesson; what is left out makes it faster, not different.",
        "06",
        "kmemkit.mm.compaction.compact_zone",
    ),
    Difference(
        "a request that never returns",
        "It goes round until somebody frees memory; a watchdog may complain after minutes.",
        "A round of the retry loop that changes nothing raises Livelock, the first time.",
        "Nobody else runs, so nobody would; a notebook must come back.",
        "07",
        "kmemkit.mm.rungs.Road",
    ),
    Difference(
        "OOM kills",
        "The victim dies when it next runs; a reaper starts after two seconds. Notifiers, cpusets "
        "of other tasks, memory cgroups and shared memory count.",
        "The victim's pages, page tables and kernel structures (64 kB) are free after one jiffy. "
        "Where all of its memory is in swap, whether that is enough, or the machine panics, hangs "
        "on a few pages and is not counted as a difference.",
        "Who is chosen, and what that gives, is the lesson.",
        "07",
        "kmemkit.mm.oom_kill.out_of_memory",
    ),
    Difference(
        "stack dump in reports",
        "Functions with offsets and what called the allocator, registers, taint flags, build "
        "string, hardware name.",
        'The allocator\'s own functions by name, "Not tainted", "kmemkit simulated PC"; in an '
        "interrupt only the interrupt's stack.",
        "The rest is of one machine and one build.",
        "07",
        "kmemkit.mm.dump_stack.dump_stack",
    ),
    Difference(
        "counters in reports",
        "Every counter of /proc/vmstat.",
        "LRU lists, dirty pages, slab, swap, huge pages, kernel stacks and page tables are "
        "counted; writeback, isolated, shmem, mapped, bounce and the like are 0 unless "
        "Machine.node_page_state says otherwise.",
        "Reclaim is decided without them.",
        "07",
        "kmemkit.mm.show_mem.node_page_state",
    ),
    Difference(
        "unreclaimable slab in OOM reports",
        "Caches are listed when they hold more than the LRU lists; a booted system's hold some.",
        "The same rule and lines, but a simulated boot has no slabs: only what the learner and the "
        "machine's maker put there is listed.",
        "Nothing of a boot is simulated but its caches.",
        "none",
        "kmemkit.mm.slabinfo.SlabFiles.unreclaimable_slab_info",
    ),
    Difference(
        "what a debug kernel notices",
        "lockdep knows every lock; DEBUG_ATOMIC_SLEEP looks at every function that may sleep.",
        "lockdep knows fs_reclaim in interrupts, and mutexes of which one is held when the other "
        "or fs_reclaim is taken; of functions that may sleep, requests for memory and "
        "might_sleep() are looked at. A hard interrupt is one of irq_work, and sections nest "
        "in one stack.",
        "What is said of a request for memory is said as recorded.",
        "03",
        "kmemkit.mm.debug.might_alloc",
    ),
    Difference(
        "time",
        "Once a second a worker lowers each per-CPU list's `high` by an eighth, and drains idle "
        "lists of remote nodes.",
        "Simulated time (Kernel.now) moves kswapd, rate limits and sleeps. It passes with requests "
        "for pages and with sleeping, not with objects from a slab; per-CPU lists do not age.",
        "Lists that age by themselves would make every lesson depend on its pace.",
        "05",
        "kmemkit.mm.pcp.nr_pcp_high",
    ),
    Difference(
        "several CPUs",
        "CPUs run at once; one that finds a per-CPU list locked goes to the buddy lists.",
        "One CPU makes calls at a time (Kernel.cpu), and never finds a lock taken.",
        "Races would make runs differ.",
        "05",
        "kmemkit.mm.machine.Machine.cpu",
    ),
    Difference(
        "boot reservations",
        "Firmware, kernel image, initrd and early allocations take what this boot happens to need.",
        "A PC with a fixed model: the first MiB, 9780 pages of kernel image at 16 MiB (its own on "
        "i386), an initrd and start-up memory that come back late, the mem_map at the top of each "
        "node, 128 KiB of firmware tables below the PCI hole, the crash kernel and KFENCE pool "
        "that are asked for and, with memory above 4 GiB, 64 MiB of bounce buffers below it. As "
        "in Linux, marks are set before start-up memory is given back.",
        "Zones and their present pages come out as recorded; managed is close, not equal.",
        "none",
        "kmemkit.mm.e820.plan_memory",
    ),
    Difference(
        "page_alloc.shuffle",
        "Free blocks are shuffled at boot, and freed ones put at a random end of their list.",
        "Shuffled once, with a fixed seed; freed blocks go where they always go.",
        "The same boot gives the same machine.",
        "none",
        "kmemkit.mm.mm_init.boot",
    ),
    Difference(
        "NUMA",
        "Firmware says how far nodes are from each other; vm.zone_reclaim_mode may reclaim locally "
        "first.",
        "All other nodes are at distance 20, and zone_reclaim_mode stays 0, its default.",
        "No recorded machine had another distance.",
        "04",
        "kmemkit.mm.numa.Topology",
    ),
    Difference(
        "pages in use after boot",
        "By the time user space runs, the kernel has taken pages and mixed the free lists.",
        "Right after boot nothing is allocated. Kernel.from_recording() starts from real lists.",
        "What a boot allocates differs from boot to boot.",
        "05",
        "kmemkit.mm.mm_init.memblock_free_range",
    ),
    Difference(
        "movable pages",
        "A pageblock's movable pages are those on an LRU list or with a driver that can move them.",
        "Pages on LRU lists (read_file(), fork()) and those a recording counts; a page from "
        "alloc_pages() is a driver's and does not move, whatever its mask.",
        "The simulated caller is a driver.",
        "05, 06",
        "kmemkit.mm.fallback.try_to_claim_block",
    ),
    Difference(
        "init_on_free",
        "init_on_free=1 fills pages and objects with zeroes when they are freed.",
        "It switches the page checks on, as in Linux, but wipes nothing.",
        "What the last owner left is a lesson of its own; init_on_alloc=1, the default, wipes.",
        "none",
        "kmemkit.mm.kernel.Kernel",
    ),
    Difference(
        "bad page reports",
        "A report has the page's raw words, the modules and a back trace; at most 60 in a minute.",
        "The report's lines that depend on the page: state, counts, flags, reason. All of them.",
        "The rest are addresses of one machine.",
        "none",
        "kmemkit.mm.page_check.check_new_pages",
    ),
    Difference(
        "a block put on a free list twice",
        "Without page checks (init_on_alloc=0) the list's links break, and a later list operation "
        "stops with a BUG.",
        "The block stands on its list once; it can be handed out twice, but the BUG comes only "
        "where a block is missing from its list.",
        "Noticing it would cost every free.",
        "none",
        "kmemkit.mm.buddy.__free_one_page",
    ),
    Difference(
        "after a BUG",
        "The calling task dies, with whatever locks it held; oopses are counted, and later reports "
        "have the taint letter D.",
        "The call raises KernelBug or Oops; the machine stays as the call left it. Every oops is "
        "number 1, only that of a kernel thread leaves the letter, and of an oops only the lines "
        "that say what happened are printed.",
        "A notebook has one task.",
        "none",
        "kmemkit.mm.errors.KernelBug",
    ),
    Difference(
        "cpusets, memory policies, memory cgroups, CMA",
        "They restrict where a request may look, and what it may have.",
        "A task's mems_allowed is obeyed; changes of a cpuset during a request, memory cgroups and "
        "CMA are not simulated. __GFP_ACCOUNT charges nothing, but keeps alloc_pages_bulk() to a "
        "page a call, as where cgroups are.",
        "They come with the lessons that need them.",
        "none",
        "kmemkit.mm.cmdline.NOT_MODELLED",
    ),
    Difference(
        "small worlds",
        "A machine of less than 80 MiB does not boot; below 10 MiB of free memory migratetypes are "
        "switched off.",
        "16 MiB boot. Below that, 64 pages and more make a world of one zone with migratetypes on, "
        "no marks, no per-CPU lists and, below 1024 pages, smaller blocks; Kernel.scaled says so.",
        "A learner sees every page of it at once.",
        "00, 05",
        "kmemkit.mm.mm_init.SMALL_WORLD_PAGES",
    ),
)
