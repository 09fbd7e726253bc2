"""The kernels on which misuse was recorded, as arguments of Kernel.

`misuse` makes them for calls in a context, `misuse_guest` for pairs, misuses and procedures.
"""

from __future__ import annotations

from typing import Any

__all__ = ("KERNELS", "RAM")

KERNELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "noinit": {"cmdline": "init_on_alloc=0"},
    "slabdbg": {"cmdline": "slab_debug=FZPU"},
    "kfence": {"cmdline": "kfence.sample_interval=1"},
    "kasan": {"debug_kernel": True},
    "kmemleak": {"debug_kernel": True},
    "pgalloc": {"debug_kernel": True, "cmdline": "debug_pagealloc=on"},
}
#: Size of the machine: recorded ones have 224M and more, but no verdict depends on that.
RAM = "64M"
