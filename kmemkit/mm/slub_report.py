"""What SLUB prints when something is wrong with an object or a slab.

`slub_debug`, `slab_common` and the misuse checks call these. Linux: mm/slub.c, same names.
Simplified: places instead of back traces; the module list, registers and code bytes are of no
simulated machine (docs/fidelity.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmemkit.mm.freepointer import freelist_objects, get_freepointer
from kmemkit.mm.physaddr import struct_page_address
from kmemkit.mm.ratelimit import NS_PER_TICK
from kmemkit.mm.slab import SLAB_RED_ZONE, KmemCache, Slab
from kmemkit.mm.slub_layout import PAGE_SIZE, get_info_end, object_end

if TYPE_CHECKING:
    from kmemkit.mm.slab_machine import SlabMachine

__all__ = (
    "list_slab_objects",
    "object_err",
    "print_section",
    "print_tracking",
    "slab_err",
    "slab_fix",
)

PG_WORKINGSET = 1 << 9
LASTCPUPID = 0x1FFFFF << 30
WIDTH = 16  #: bytes in a line of a dump


def slab_bug(kernel: SlabMachine, s: KmemCache, reason: str) -> None:
    """Print the head of a report, and mark the kernel as tainted by bad memory."""
    kernel.printk("=" * 77)
    kernel.printk(f"BUG {s.name} ({kernel.print_tainted()}): {reason.removesuffix(chr(10))}")
    if reason.endswith("\n"):
        kernel.printk("")
    kernel.printk("-" * 77)
    kernel.printk("")


def slab_fix(kernel: SlabMachine, s: KmemCache, what: str) -> None:
    """Say how the damage was put right."""
    kernel.printk(f"FIX {s.name}: {what}")


def object_err(kernel: SlabMachine, s: KmemCache, slab: Slab, at: int, reason: str) -> None:
    """Report an object: who had it, its slab, its bytes."""
    slab_bug(kernel, s, reason)
    _print_trailer(kernel, s, slab, at)
    kernel.taint("B")
    kernel.warn("mm/slub.c:1127", "object_err")


def slab_err(kernel: SlabMachine, s: KmemCache, slab: Slab, reason: str) -> None:
    """Report a slab."""
    slab_bug(kernel, s, reason)
    _print_slab_info(kernel, slab)
    kernel.taint("B")
    kernel.warn("mm/slub.c:1152", "slab_err")


def list_slab_objects(kernel: SlabMachine, s: KmemCache, slab: Slab) -> None:
    """Report the objects that are still in use when a cache is destroyed (same name in Linux)."""
    slab_bug(kernel, s, "Objects remaining on __kmem_cache_shutdown()")
    free = set(freelist_objects(kernel, s, slab.freelist, slab.objects))
    for number in range(slab.objects):
        at = slab.address + s.red_left_pad + number * s.size
        if at not in free:
            kernel.printk(f"Object {at:#018x} @offset={at - slab.address}")
            print_tracking(kernel, at)
    _print_slab_info(kernel, slab)
    kernel.taint("B")
    kernel.warn("mm/slub.c:1152", "__kmem_cache_shutdown")


def print_tracking(kernel: SlabMachine, at: int) -> None:
    """Print who allocated and freed an object last, if that is known (same name in Linux)."""
    for what, track in sorted(kernel.tracks.get(at, {}).items()):
        age = (kernel.now - track.when) // NS_PER_TICK
        kernel.printk(f"{what} in {track.where} age={age} cpu={track.cpu} pid={track.pid}")


def _print_slab_info(kernel: SlabMachine, slab: Slab) -> None:
    zone = kernel.page_zone(slab.pfn)
    names = "workingset|" * slab.workingset + "head|" * bool(slab.order)
    bits = (
        LASTCPUPID | zone.idx << 51 | zone.nid << 54 | PG_WORKINGSET * slab.workingset
        | (1 << 6) * bool(slab.order)
    )  # fmt: skip
    kernel.printk(
        f"Slab {struct_page_address(slab.pfn):#018x} objects={slab.objects} "
        f"used={slab.inuse} fp={slab.freelist:#018x} flags={bits:#x}"
        f"({names}node={zone.nid}|zone={zone.idx}|lastcpupid=0x1fffff)"
    )


def _print_trailer(kernel: SlabMachine, s: KmemCache, slab: Slab, at: int) -> None:
    """Print everything about an object, its bytes last (print_trailer())."""
    print_tracking(kernel, at)
    _print_slab_info(kernel, slab)
    kernel.printk(
        f"Object {at:#018x} @offset={at - slab.address} fp={get_freepointer(kernel, s, at):#018x}"
    )
    kernel.printk("")
    if s.flags & SLAB_RED_ZONE:
        print_section(kernel, "Redzone", at - s.red_left_pad, s.red_left_pad)
    elif at > slab.address + WIDTH:
        print_section(kernel, "Bytes b4", at - WIDTH, WIDTH)
    print_section(kernel, "Object", at, min(s.object_size, PAGE_SIZE))
    if s.flags & SLAB_RED_ZONE:
        print_section(kernel, "Redzone", at + s.object_size, s.inuse - s.object_size)
    info_end = get_info_end(s)
    print_section(kernel, "Padding", at + info_end, object_end(s) - info_end)


def print_section(kernel: SlabMachine, name: str, start: int, length: int) -> None:
    """Print bytes, 16 a line, with the characters they are (print_hex_dump())."""
    if length <= 0:
        return
    data = kernel.memory.read(start, length)
    for offset in range(0, length, WIDTH):
        row = data[offset : offset + WIDTH]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        kernel.printk(f"{name:8} {start + offset:016x}: {row.hex(' '):47}  {letters}")
