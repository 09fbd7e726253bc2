"""What the CPU says to an address that is not there: page faults and general protection faults.

`memory` asks here when a load or store has nowhere to go, and so does everything that looks for
the struct page of an address. Linux: arch/x86/mm/fault.c, arch/x86/kernel/traps.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemkit.mm.errors import KernelBug, Oops

if TYPE_CHECKING:
    from kmemkit.mm.machine import Machine

__all__ = ("bug_on", "fault", "is_canonical")

#: KASAN keeps one byte for each eight, from here on.
KASAN_SHADOW_OFFSET = 0xDFFFFC0000000000
ADDRESSES = 1 << 64


def is_canonical(address: int) -> bool:
    """Whether the CPU takes an address at all: its upper 17 bits are all the same."""
    return address < 1 << 47 or address >= ADDRESSES - (1 << 47)


def fault(kernel: Machine, address: int, *, write: bool = False, checked: bool = False) -> Oops:
    """Print the first lines of the oops that touching an address gives, and return it.

    `write` says whether it was a store. Code that was compiled with KASAN (`checked`) looks at the
    address's shadow first: for an address near 0 there is none, and that is what is reported.
    """
    address %= ADDRESSES
    kind = "PREEMPT SMP NOPTI"
    if kernel.debug_kernel:
        kind = "PREEMPT SMP KASAN"
        if checked and address < 1 << 47:
            address = KASAN_SHADOW_OFFSET + (address >> 3)
    if not is_canonical(address):
        line = (
            "Oops: general protection fault, probably for non-canonical address "
            f"{address:#x}: 0000 [#1] {kind}"
        )
        kernel.printk(line)
        return Oops(line)
    what = "unable to handle page fault for"
    if address < 4096:
        what = "kernel NULL pointer dereference,"
    line = f"BUG: {what} address: {address:016x}"
    kernel.printk(line)
    kernel.printk(f"#PF: supervisor {'write' if write else 'read'} access in kernel mode")
    kernel.printk(f"Oops: Oops: {2 if write else 0:04} [#1] {kind}")
    return Oops(line)


def bug_on(kernel: Machine, where: str, why: str = "") -> KernelBug:
    """Print what BUG() prints, and return it.

    `where` is file and line, "mm/slub.c:550"; `why` goes into the exception's message.
    """
    line = f"kernel BUG at {where}!"
    kernel.printk(line)
    kernel.printk(
        "Oops: invalid opcode: 0000 [#1] PREEMPT SMP "
        + ("KASAN" if kernel.debug_kernel else "NOPTI")
    )
    return KernelBug(f"{line}\n{why}" if why else line)
