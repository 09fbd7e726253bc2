"""SLUB's debugging: red zones, poison, who allocated, checks at every allocation and free.

A cache with debug flags (slab_debug= or SLAB_RED_ZONE and so on) comes here from `slub`: one object
at a time, under its node's lock, with no per-CPU lists. What is found is reported in the kernel's
words (`slub_report`), put right, and the object is kept out of circulation.

Linux: mm/slub.c, same names. Simplified: a track holds a place, not a back trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kmemkit.mm import slab as slab_flags
from kmemkit.mm import slub_report
from kmemkit.mm.freepointer import get_freepointer, set_freepointer
from kmemkit.mm.slab import (
    DEBUG_FLAGS,
    SLAB_CONSISTENCY_CHECKS,
    SLAB_POISON,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    KmemCache,
    Slab,
)
from kmemkit.mm.slub_layout import PAGE_SIZE, get_info_end, object_end, slub_debug_orig_size

if TYPE_CHECKING:
    from kmemkit.mm.slab_machine import SlabMachine

__all__ = (
    "Track",
    "alloc_debug_processing",
    "check_slab_before_freeing",
    "free_debug_processing",
    "setup_object",
    "setup_slab_debug",
    "skip_orig_size_check",
)

RED_INACTIVE, RED_ACTIVE = 0xBB, 0xCC
POISON_INUSE, POISON_FREE, POISON_END = 0x5A, 0x6B, 0xA5


@dataclass(frozen=True, slots=True)
class Track:
    """Who allocated or freed an object last (struct track)."""

    where: str
    cpu: int
    pid: int
    when: int  #: simulated ns


def skip_orig_size_check(kernel: SlabMachine, s: KmemCache, at: int) -> None:
    """After ksize() the whole object may be used: forget what was asked for."""
    if slub_debug_orig_size(s) and s.flags & SLAB_RED_ZONE:
        kernel.orig_sizes[at] = s.object_size


# -- bytes of an object ---------------------------------------------------------------------------


def setup_slab_debug(kernel: SlabMachine, s: KmemCache, slab: Slab) -> None:
    """Fill a new slab with the pattern of memory in use (setup_slab_debug())."""
    if s.flags & SLAB_POISON:
        kernel.memory.write(slab.address, bytes([POISON_INUSE]) * (PAGE_SIZE << slab.order))


def setup_object(kernel: SlabMachine, s: KmemCache, at: int) -> None:
    """Make a free object of a new slab, and let the constructor see it."""
    if s.flags & (SLAB_RED_ZONE | slab_flags.__OBJECT_POISON):
        init_object(kernel, s, at, RED_INACTIVE)
    kernel.tracks.pop(at, None)
    if callable(s.ctor):
        s.ctor(at)


def init_object(kernel: SlabMachine, s: KmemCache, at: int, value: int) -> None:
    """Write red zones and poison, of a free or of an allocated object."""
    memory = kernel.memory
    poison_size = s.object_size
    if s.flags & SLAB_RED_ZONE:
        memory.write(at - s.red_left_pad, bytes([value]) * s.red_left_pad)
        if slub_debug_orig_size(s) and value == RED_ACTIVE:
            poison_size = kernel.orig_sizes.get(at, s.object_size)
    if s.flags & slab_flags.__OBJECT_POISON and poison_size:
        memory.write(at, bytes([POISON_FREE]) * (poison_size - 1) + bytes([POISON_END]))
    if s.flags & SLAB_RED_ZONE:
        memory.write(at + poison_size, bytes([value]) * (s.inuse - poison_size))


def _bytes_are(
    kernel: SlabMachine, s: KmemCache, slab: Slab, at: int, what: str, start: int, value: int,
    length: int,
) -> bool:  # fmt: skip
    """Check bytes; report the damaged part and restore it (check_bytes_and_report())."""
    if length <= 0:
        return True
    found = kernel.memory.read(start, length)
    if found.count(value) == length:
        return True
    wrong = [offset for offset, byte in enumerate(found) if byte != value]
    first, last = start + wrong[0], start + wrong[-1]
    # Before 6.13 the place is printed before the report's head
    kernel.printk(
        f"[{what} overwritten] {first:#018x}-{last:#018x} @offset={first - slab.address}. "
        f"First byte {found[wrong[0]]:#x} instead of {value:#x}"
    )
    slub_report.object_err(kernel, s, slab, at, "Object corrupt")
    slub_report.slab_fix(kernel, s, f"Restoring {what} {first:#018x}-{last:#018x}={value:#x}")
    kernel.memory.write(first, bytes([value]) * (last - first + 1))
    return False


def slab_pad_check(kernel: SlabMachine, s: KmemCache, slab: Slab) -> None:
    """Look at what is left of a slab behind its last object (same name in Linux)."""
    pages = PAGE_SIZE << slab.order
    length = pages % s.size
    if not (s.flags & SLAB_POISON and length):
        return
    pad = slab.address + pages - length
    found = kernel.memory.read(pad, length)
    if found.count(POISON_INUSE) == length:
        return
    wrong = [offset for offset, byte in enumerate(found) if byte != POISON_INUSE]
    first, last = pad + wrong[0], pad + wrong[-1]
    slub_report.slab_err(
        kernel, s, slab, f"Padding overwritten. {first:#018x}-{last:#018x} @offset={wrong[0]}"
    )
    slub_report.print_section(kernel, "Padding", pad, length)
    slub_report.slab_fix(
        kernel, s, f"Restoring slab padding {first:#018x}-{last:#018x}={POISON_INUSE:#x}"
    )
    kernel.memory.write(first, bytes([POISON_INUSE]) * (last - first + 1))


def check_object(kernel: SlabMachine, s: KmemCache, slab: Slab, at: int, value: int) -> bool:
    """Look at an object's red zones, poison and padding (same name in Linux).

    `value` is RED_ACTIVE for an allocated object, RED_INACTIVE for a free one.
    """
    good = True

    def check(what: str, start: int, expected: int, length: int) -> None:
        nonlocal good
        good &= _bytes_are(kernel, s, slab, at, what, start, expected, length)

    end = at + s.object_size
    if s.flags & SLAB_RED_ZONE:
        check("Left Redzone", at - s.red_left_pad, value, s.red_left_pad)
        check("Right Redzone", end, value, s.inuse - s.object_size)
        if slub_debug_orig_size(s) and value == RED_ACTIVE:
            asked = kernel.orig_sizes.get(at, s.object_size)
            if s.object_size > asked:
                check("kmalloc Redzone", at + asked, value, s.object_size - asked)
    elif s.flags & SLAB_POISON:
        check("Alignment padding", end, POISON_INUSE, s.inuse - s.object_size)
    if s.flags & SLAB_POISON:
        if value != RED_ACTIVE and s.flags & slab_flags.__OBJECT_POISON:
            check("Poison", at, POISON_FREE, s.object_size - 1)
            check("End Poison", end - 1, POISON_END, min(s.object_size, 1))
        info_end = get_info_end(s)
        check("Object padding", at + info_end, POISON_INUSE, object_end(s) - info_end)
    if s.offset < s.inuse and value == RED_ACTIVE:
        return good  # the free pointer lies in the object: it is the user's now
    if not _is_object(s, slab, get_freepointer(kernel, s, at)):
        slub_report.object_err(kernel, s, slab, at, "Freepointer corrupt")
        # Without the rest of the list nothing else can be damaged; the rest is lost
        set_freepointer(kernel, s, at, 0)
        good = False
    return good


def _is_object(s: KmemCache, slab: Slab, at: int) -> bool:
    """Whether an address is where an object of a slab begins, or 0 (check_valid_pointer())."""
    if not at:
        return True
    offset = at - slab.address - s.red_left_pad
    return 0 <= offset < slab.objects * s.size and offset % s.size == 0


def _on_freelist(kernel: SlabMachine, s: KmemCache, slab: Slab, wanted: int) -> bool:
    """Whether an object is on its slab's list already; a broken list is cut off there."""
    at, before, count = slab.freelist, 0, 0
    while at and count <= slab.objects:
        if at == wanted:
            return True
        if not _is_object(s, slab, at):
            if before:
                slub_report.object_err(kernel, s, slab, before, "Freechain corrupt")
                set_freepointer(kernel, s, before, 0)
            else:
                slub_report.slab_err(kernel, s, slab, "Freepointer corrupt")
                slab.freelist, slab.inuse = 0, slab.objects
                slub_report.slab_fix(kernel, s, "Freelist cleared")
                return False
            break
        before, at = at, get_freepointer(kernel, s, at)
        count += 1
    found = slab.objects - count
    if slab.inuse != found:
        slub_report.slab_err(
            kernel, s, slab, f"Wrong object count. Counter is {slab.inuse} but counted were {found}"
        )
        slab.inuse = found
        slub_report.slab_fix(kernel, s, "Object count adjusted")
    return False


# -- allocate -------------------------------------------------------------------------------------


def alloc_debug_processing(
    kernel: SlabMachine, s: KmemCache, slab: Slab, at: int, orig_size: int
) -> bool:
    """Check a free object before it is given out, and dress it as an allocated one."""
    if s.flags & SLAB_CONSISTENCY_CHECKS:
        sound = _is_object(s, slab, at)
        if not sound:
            slub_report.object_err(kernel, s, slab, at, "Freelist Pointer check fails")
        if not (sound and check_object(kernel, s, slab, at, RED_INACTIVE)):
            slub_report.slab_fix(kernel, s, "Marking all objects used")
            slab.inuse, slab.freelist = slab.objects, 0
            return False
    set_track(kernel, s, at, "Allocated")
    if slub_debug_orig_size(s):
        kernel.orig_sizes[at] = orig_size
    init_object(kernel, s, at, RED_ACTIVE)
    return True


def set_track(kernel: SlabMachine, s: KmemCache, at: int, what: str) -> None:
    """Remember who allocated or freed an object."""
    if s.flags & SLAB_STORE_USER:
        tracks = dict(kernel.tracks.get(at, {}))
        tracks[what] = Track(kernel.caller, kernel.cpu, kernel.current.pid, kernel.now)
        kernel.tracks[at] = tracks


# -- free -----------------------------------------------------------------------------------------


def free_debug_processing(kernel: SlabMachine, s: KmemCache, slab: Slab, at: int) -> bool:
    """Check an object that somebody frees, and dress it as a free one."""
    if slab.inuse < 1:
        slub_report.slab_err(
            kernel, s, slab, "Slab has 0 allocated objects but 1 are to be freed\n"
        )
        return False
    if s.flags & SLAB_CONSISTENCY_CHECKS and not free_consistency_checks(kernel, s, slab, at):
        return False
    set_track(kernel, s, at, "Freed")
    init_object(kernel, s, at, RED_INACTIVE)
    return True


def free_consistency_checks(kernel: SlabMachine, s: KmemCache, slab: Slab, at: int) -> bool:
    """Whether an address is an allocated, undamaged object of its slab (same name in Linux)."""
    if not _is_object(s, slab, at):
        slub_report.slab_err(kernel, s, slab, f"Invalid object pointer {at:#018x}")
        return False
    if _on_freelist(kernel, s, slab, at):
        slub_report.object_err(kernel, s, slab, at, "Object already free")
        return False
    return check_object(kernel, s, slab, at, RED_ACTIVE)


def check_slab_before_freeing(kernel: SlabMachine, s: KmemCache, slab: Slab) -> None:
    """Look at every object of a slab whose pages go back (free_slab())."""
    if s.flags & SLAB_CONSISTENCY_CHECKS:
        slab_pad_check(kernel, s, slab)
        base = slab.address + s.red_left_pad
        for number in range(slab.objects):
            check_object(kernel, s, slab, base + number * s.size, RED_INACTIVE)
    if s.flags & DEBUG_FLAGS:
        for number in range(slab.objects):
            at = slab.address + s.red_left_pad + number * s.size
            kernel.tracks.pop(at, None)
            kernel.orig_sizes.pop(at, None)
