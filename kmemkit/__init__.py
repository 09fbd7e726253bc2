"""kmemkit: a small simulated Linux 6.12 memory allocator, to play with and to watch.

`from kmemkit import *` gives a notebook the simulated machine (`Kernel`), the GFP flags by the
kernel's names, and the views. Each is loaded when it is first used: importing kmemkit itself
costs next to nothing, and the simulator runs where numpy and bqplot cannot.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmemkit.dmesg import explain
    from kmemkit.gfp import (
        __GFP_ACCOUNT,
        __GFP_BITS_MASK,
        __GFP_BITS_SHIFT,
        __GFP_COMP,
        __GFP_DIRECT_RECLAIM,
        __GFP_DMA,
        __GFP_DMA32,
        __GFP_FS,
        __GFP_HARDWALL,
        __GFP_HIGH,
        __GFP_HIGHMEM,
        __GFP_IO,
        __GFP_KSWAPD_RECLAIM,
        __GFP_MEMALLOC,
        __GFP_MOVABLE,
        __GFP_NO_OBJ_EXT,
        __GFP_NOFAIL,
        __GFP_NOLOCKDEP,
        __GFP_NOMEMALLOC,
        __GFP_NORETRY,
        __GFP_NOWARN,
        __GFP_RECLAIM,
        __GFP_RECLAIMABLE,
        __GFP_RETRY_MAYFAIL,
        __GFP_SKIP_KASAN,
        __GFP_SKIP_ZERO,
        __GFP_THISNODE,
        __GFP_WRITE,
        __GFP_ZERO,
        __GFP_ZEROTAGS,
        GFP_ATOMIC,
        GFP_BOOT_MASK,
        GFP_CONSTRAINT_MASK,
        GFP_DMA,
        GFP_DMA32,
        GFP_HIGHUSER,
        GFP_HIGHUSER_MOVABLE,
        GFP_KERNEL,
        GFP_KERNEL_ACCOUNT,
        GFP_NOFS,
        GFP_NOIO,
        GFP_NOWAIT,
        GFP_RECLAIM_MASK,
        GFP_SLAB_BUG_MASK,
        GFP_TRANSHUGE,
        GFP_TRANSHUGE_LIGHT,
        GFP_USER,
        GFP_ZONEMASK,
        decode,
        describe,
        encode,
        gfp_migratetype,
        gfp_zone,
    )
    from kmemkit.mm.errors import KernelBug, Livelock, Oops, Panic
    from kmemkit.mm.kernel import Kernel
    from kmemkit.mm.ladder import climb
    from kmemkit.mm.misuse_pair import play_pair
    from kmemkit.views import (
        BuddyLab,
        Compaction,
        ContextStack,
        FreeAreas,
        GfpPanel,
        LeakGym,
        OverflowCalculator,
        PageMap,
        PairingTable,
        ReclaimLadder,
        SizeClasses,
        SlabMap,
        Stepper,
        Watermarks,
        ZonelistWalker,
    )
    from kmemkit.why import diff

__all__ = (
    "GFP_ATOMIC",
    "GFP_BOOT_MASK",
    "GFP_CONSTRAINT_MASK",
    "GFP_DMA",
    "GFP_DMA32",
    "GFP_HIGHUSER",
    "GFP_HIGHUSER_MOVABLE",
    "GFP_KERNEL",
    "GFP_KERNEL_ACCOUNT",
    "GFP_NOFS",
    "GFP_NOIO",
    "GFP_NOWAIT",
    "GFP_RECLAIM_MASK",
    "GFP_SLAB_BUG_MASK",
    "GFP_TRANSHUGE",
    "GFP_TRANSHUGE_LIGHT",
    "GFP_USER",
    "GFP_ZONEMASK",
    "__GFP_ACCOUNT",
    "__GFP_BITS_MASK",
    "__GFP_BITS_SHIFT",
    "__GFP_COMP",
    "__GFP_DIRECT_RECLAIM",
    "__GFP_DMA",
    "__GFP_DMA32",
    "__GFP_FS",
    "__GFP_HARDWALL",
    "__GFP_HIGH",
    "__GFP_HIGHMEM",
    "__GFP_IO",
    "__GFP_KSWAPD_RECLAIM",
    "__GFP_MEMALLOC",
    "__GFP_MOVABLE",
    "__GFP_NOFAIL",
    "__GFP_NOLOCKDEP",
    "__GFP_NOMEMALLOC",
    "__GFP_NORETRY",
    "__GFP_NOWARN",
    "__GFP_NO_OBJ_EXT",
    "__GFP_RECLAIM",
    "__GFP_RECLAIMABLE",
    "__GFP_RETRY_MAYFAIL",
    "__GFP_SKIP_KASAN",
    "__GFP_SKIP_ZERO",
    "__GFP_THISNODE",
    "__GFP_WRITE",
    "__GFP_ZERO",
    "__GFP_ZEROTAGS",
    "BuddyLab",
    "Compaction",
    "ContextStack",
    "FreeAreas",
    "GfpPanel",
    "Kernel",
    "KernelBug",
    "LeakGym",
    "Livelock",
    "Oops",
    "OverflowCalculator",
    "PageMap",
    "PairingTable",
    "Panic",
    "ReclaimLadder",
    "SizeClasses",
    "SlabMap",
    "Stepper",
    "Watermarks",
    "ZonelistWalker",
    "__version__",
    "climb",
    "decode",
    "describe",
    "diff",
    "encode",
    "explain",
    "gfp_migratetype",
    "gfp_zone",
    "play_pair",
)

__version__ = "0.1.0"

#: Where what is not about GFP flags lives.
_HOMES = {
    "BuddyLab": "kmemkit.views",
    "Compaction": "kmemkit.views",
    "ContextStack": "kmemkit.views",
    "FreeAreas": "kmemkit.views",
    "GfpPanel": "kmemkit.views",
    "Kernel": "kmemkit.mm.kernel",
    "KernelBug": "kmemkit.mm.errors",
    "LeakGym": "kmemkit.views",
    "Livelock": "kmemkit.mm.errors",
    "Oops": "kmemkit.mm.errors",
    "OverflowCalculator": "kmemkit.views",
    "PageMap": "kmemkit.views",
    "PairingTable": "kmemkit.views",
    "Panic": "kmemkit.mm.errors",
    "ReclaimLadder": "kmemkit.views",
    "SizeClasses": "kmemkit.views",
    "SlabMap": "kmemkit.views",
    "Stepper": "kmemkit.views",
    "Watermarks": "kmemkit.views",
    "ZonelistWalker": "kmemkit.views",
    "climb": "kmemkit.mm.ladder",
    "diff": "kmemkit.why",
    "play_pair": "kmemkit.mm.misuse_pair",
    "explain": "kmemkit.dmesg",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "kmemkit.gfp")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
