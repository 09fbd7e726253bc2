"""Kernel: a machine to boot. Its methods come from the parts it is made of.

`page_calls` has the page allocator's C API, `slab_calls`, `kmalloc_calls` and `vmalloc_calls` those
of smaller and larger memory, `rcu_calls` freeing later, `string_calls` what moves bytes,
`debugfs_calls` failures on purpose and leaks. `context_calls` and `task_calls` what surrounds a
request, `filemap` what programs bring into memory, `sysctl` the settings, `machine` snapshots,
history and time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kmemkit import gfp as flags
from kmemkit.dmesg import explain
from kmemkit.mm.cmdline import parse_cmdline, parse_slab_debug
from kmemkit.mm.context_calls import ContextCalls
from kmemkit.mm.debugfs_calls import DebugfsCalls
from kmemkit.mm.e820 import KFENCE_OBJECTS
from kmemkit.mm.filemap import UserMemory
from kmemkit.mm.kasan import Kasan
from kmemkit.mm.kfence import Kfence
from kmemkit.mm.mm_init import boot
from kmemkit.mm.mmzone import HPAGE_PMD_ORDER, MAX_PAGE_ORDER, RESERVED
from kmemkit.mm.numa import Hardware
from kmemkit.mm.page_calls import PAGE_OFFSET, PAGE_SHIFT
from kmemkit.mm.rcu_calls import RcuCalls
from kmemkit.mm.slabinfo import SlabFiles
from kmemkit.mm.slub_layout import SlabParams
from kmemkit.mm.string_calls import StringCalls
from kmemkit.mm.sysctl import Sysctl
from kmemkit.mm.task_calls import TaskCalls
from kmemkit.mm.vm import Vm

__all__ = ("PAGE_OFFSET", "PAGE_SHIFT", "Kernel")

#: Masks of huge pages taken at boot.
HUGETLB = flags.GFP_HIGHUSER_MOVABLE | flags.__GFP_COMP | flags.__GFP_NOWARN | flags.__GFP_NORETRY


class Kernel(
    StringCalls, RcuCalls, DebugfsCalls, SlabFiles, Sysctl, ContextCalls, TaskCalls, UserMemory
):  # fmt: skip
    """A simulated Linux machine.

    Args:
        ram: memory, in bytes or as text ("64M"), or a list with one size for each node, 0 for a
            node without memory. Below 16M it is a small world: one zone, geometry and marks scaled
            as `scaled` says.
        nodes: NUMA nodes, distance 20 from each other; ram is dealt out to them evenly.
        cpus: CPUs, dealt out to the nodes evenly, or a list with one number for each node. `cpu`
            says which one runs.
        cmdline: kernel command line; see mm/cmdline.py for what is obeyed.
        arch: "x86_64", or "i386" for a 32-bit kernel with PAE and HighMem.
        hotplug: nodes whose memory can be pulled out; movable_node on the command line minds them.
        debug_kernel: whether it was built with CONFIG_KASAN, CONFIG_DEBUG_VM,
            CONFIG_DEBUG_ATOMIC_SLEEP and CONFIG_PROVE_LOCKING.
        release: kernel release whose rules hold. Only 6.12 is simulated.
        max_order, pageblock_order: geometry of a small world, where the default does not fit.
        seed: of the kernel's random numbers, which decide in what order a slab hands out objects.
        freelist_random: whether it was built with CONFIG_SLAB_FREELIST_RANDOM, as Debian's is;
            without, a new slab hands out its objects from low addresses to high ones.
        random_kmalloc_caches: whether it was built with CONFIG_RANDOM_KMALLOC_CACHES, as Debian's
            is not: 16 copies of kmalloc's caches, and each line of code that calls has its own.
        pcp: whether per-CPU page lists are used; by default in real layouts only.

    Raises:
        TypeError, ValueError: a size, number or option that makes no machine; says which and why.
    """

    def __init__(
        self,
        ram: str | int | Sequence[str | int] = "64M",
        *,
        nodes: int = 1,
        cpus: int | Sequence[int] = 1,
        cmdline: str = "",
        arch: str = "x86_64",
        hotplug: Sequence[int] = (),
        debug_kernel: bool = False,
        release: str = "6.12",
        max_order: int | None = None,
        pageblock_order: int | None = None,
        pcp: bool | None = None,
        seed: int = 0,
        freelist_random: bool = True,
        random_kmalloc_caches: bool = False,
    ) -> None:
        if not isinstance(release, str) or not re.match(r"6\.12(?!\d)", release):
            raise ValueError(f"release={release!r}: only the rules of 6.12 are simulated")
        if pcp not in (None, True, False):
            raise TypeError(f"pcp={pcp!r}: give True or False, or leave it out")
        hardware = Hardware.make(ram, nodes, cpus, arch, hotplug)
        options, unknown = parse_cmdline(cmdline, arch)
        self._prepare(release, 1, 1)
        self.cmdline, self.arch, self.vm = cmdline, arch, Vm(arch)
        self.debug_kernel = bool(debug_kernel)
        self.init_on_alloc = options.get("init_on_alloc", "1") == "1"
        self.init_on_free = options.get("init_on_free") == "1"
        self.vm.check_pages = self.init_on_alloc or self.init_on_free
        self.vm.thp = options.get("transparent_hugepage", "always") != "never"
        layout = boot(
            hardware, self.vm, options,
            max_order=max_order, pageblock_order=pageblock_order, pcp=pcp,
        )  # fmt: skip
        self.scaled = layout.scaled
        self._connect_nodes(layout.topology)
        self._adopt(layout.mem_map, layout.zones)
        self._slab_options(options, seed, freelist_random)
        self.random_kmalloc_seed = self.get_random_u64() if random_kmalloc_caches else None
        if unknown:
            self.printk(
                f'Unknown kernel command line parameters "{" ".join(unknown)}", '
                "will be passed to user space."
            )
        self._late_options(options)

    def explain(self) -> str:
        """Say in plain words what the log reports, and what to conclude of it (dmesg())."""
        return explain(self.dmesg())

    def _slab_options(self, options: Mapping[str, str], seed: int, freelist_random: bool) -> None:
        """Take over what decides how slabs look."""
        if type(seed) is not int:
            raise TypeError(f"seed={seed!r}: give a whole number")
        self.random_state, self.freelist_random = seed % (1 << 64), bool(freelist_random)
        most = min(int(options.get("slab_max_order", "3")), MAX_PAGE_ORDER)
        self.slab_params = SlabParams(
            min_order=min(int(options.get("slab_min_order", "0")), most),
            max_order=most,
            min_objects=int(options.get("slab_min_objects", "0")),
            nr_cpus=self.nr_cpus,
            kasan=self.debug_kernel,
        )
        self.debug_pagealloc = self.debug_kernel and options.get("debug_pagealloc") in ("1", "on")
        self._kfence_init(options)
        self.kasan = Kasan() if self.debug_kernel else None
        if "slab_debug" in options:
            self.slab_debug = parse_slab_debug(options["slab_debug"])
            letters = options["slab_debug"].partition(",")[0]
            self.slab_debug_low = "O" in letters.upper()
        self.slab_nomerge = "slab_nomerge" in options or self.debug_kernel

    def _kfence_init(self, options: Mapping[str, str]) -> None:
        """Make KFENCE's pool: boot set pages aside for it, at the top of memory."""
        interval = int(options.get("kfence.sample_interval", "0"))
        if interval and not self.debug_kernel:
            objects = int(options.get("kfence.num_objects", KFENCE_OBJECTS))
            page = self.mem_map.page
            top = max(pfn for pfn in range(self.mem_map.pages) if page[pfn] & 0xF0 == RESERVED)
            while page[top - 1] & 0xF0 == RESERVED:
                top -= 1  # the first of the pages that are reserved there
            start = self.page_address(top + 2)
            self.kfence = Kfence(start, objects, interval * 1_000_000)

    def _late_options(self, options: Mapping[str, str]) -> None:
        """Do what the command line asks of a machine that runs already."""
        self._hugetlb_init(int(options.get("hugepages", "0")))
        for name, value in options.items():
            if name.startswith("sysctl."):
                self.sysctl(name.removeprefix("sysctl."), value)

    def _hugetlb_init(self, wanted: int) -> None:
        """Take the huge pages of hugepages=N from the nodes in turn (mm/hugetlb.c)."""
        memory = sorted({zone.nid for zone in self.zones if zone.managed})
        for number in range(wanted):
            nid = memory[number % len(memory)]
            if self.alloc_pages(HUGETLB, HPAGE_PMD_ORDER, nid=nid, owner="hugetlb") is None:
                self.printk(
                    f"HugeTLB: allocating {wanted} of page size 2.00 MiB failed.  "
                    f"Only allocated {number} hugepages."
                )
                break
