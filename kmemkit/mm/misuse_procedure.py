"""Playing procedures: failures made on purpose, and leaks looked for, on a recorded debug kernel.

A shell wrote to debugfs, let a driver allocate, and what the calls returned was printed. `kmemkit
verify` plays that here; whether a pointer is NULL, in the direct map or in the vmalloc area counts,
the address itself does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from kmemkit.mm.memory import PAGE_SIZE, VMALLOC_START
from kmemkit.mm.misuse import CellResult
from kmemkit.mm.misuse_guest import GFP, Guest, normalised
from kmemkit.mm.misuse_pair import own_cache
from kmemkit.mm.replay import Mismatch

__all__ = ("PROCEDURES", "play_procedure_cell")

#: What a procedure does: makes its settings, calls, and adds what the driver printed to a log.
Procedure = Callable[[Guest, list[str]], object]


def play_procedure_cell(record: Mapping[str, Any]) -> CellResult:
    """Play a recorded procedure; compare who survived, the first line, and what calls returned.

    Raises:
        ValueError: not a record of a procedure.
    """
    try:
        expected = {
            "survived": record["survived"],
            "first line": normalised(record["report_first_line"]),
            "log": _places(record["log"]),
        }
        procedure, kernel = PROCEDURES.get(record["misuse"]), record["kernel"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"recording: not a procedure: {error!r}") from None
    if procedure is None:
        return CellResult(len(expected), needs=str(record["misuse"]))
    guest, log = Guest(kernel), list[str]()
    guest.misuse(lambda: procedure(guest, log))
    found = {
        "survived": guest.outcome.survived,
        "first line": normalised(guest.outcome.report_first_line),
        "log": _places(log),
    }
    wrong = (Mismatch(what, value, found[what]) for what, value in expected.items())
    return CellResult(len(expected), tuple(one for one in wrong if one.recorded != one.simulated))


def _places(log: list[str]) -> list[str]:
    """Return lines with pointers reduced to where they lead: NULL, direct map, vmalloc area."""

    def place(match: re.Match[str]) -> str:
        at = int(match[0], 16)
        return "NULL" if not at else "vmalloc" if at >= VMALLOC_START else "direct map"

    return [re.sub(r"\b[0-9a-f]{16}\b", place, line) for line in log]


# -- what the driver does -------------------------------------------------------------------------


def _say(log: list[str], call: str, address: int | None) -> None:
    log.append(f"{call} -> {address or 0:016x}")


def inject_kmalloc(guest: Guest, log: list[str]) -> None:
    masks = (GFP, "GFP_ATOMIC", "GFP_KERNEL | __GFP_NOFAIL", "GFP_KERNEL | __GFP_NOWARN")
    for mask in masks:
        _say(log, f"kmalloc(64, {mask})", guest.kernel.kmalloc(64, mask))


def inject_big(guest: Guest, log: list[str]) -> None:
    kernel = guest.kernel
    _say(log, "kmalloc(64 << 10, GFP_KERNEL)", kernel.kmalloc(64 << 10, GFP))
    for order in (0, 3):
        call = f"(void *)__get_free_pages(GFP_KERNEL, {order})"
        _say(log, call, kernel.get_free_pages(GFP, order))
    _say(log, "vmalloc(3 * PAGE_SIZE)", kernel.vmalloc(3 * PAGE_SIZE))
    _say(log, "kvmalloc(64 << 10, GFP_KERNEL)", kernel.kvmalloc(64 << 10, GFP))


def inject_no_check(guest: Guest, log: list[str]) -> None:
    p = guest.kernel.kmalloc(64, GFP)
    log.append(f"p = {p or 0:016x}, the code does not test it")
    guest.kernel.write(p, b"X")


def _failslab(driver: Procedure) -> Procedure:
    def run(guest: Guest, log: list[str]) -> None:
        guest.kernel.failslab(probability=100, times=-1, ignore_gfp_wait=False)
        driver(guest, log)

    return run


def _fail_page_alloc(**settings: int) -> Procedure:
    def run(guest: Guest, log: list[str]) -> None:
        guest.kernel.fail_page_alloc(probability=100, times=-1, ignore_gfp_wait=False, **settings)
        inject_big(guest, log)

    return run


def kmemleak(guest: Guest, log: list[str]) -> None:
    kernel = guest.kernel
    kernel.kmemleak = True
    cache = own_cache(guest)
    first, *_ = [kernel.kmalloc(1000, GFP) for _ in range(10)]
    log += [f"first leaked {first or 0:016x}", "ten blocks leaked"]
    lost = (
        kernel.vmalloc(3 * PAGE_SIZE),
        kernel.kmem_cache_alloc(cache, GFP),
        kernel.get_free_pages(GFP, 4),
    )
    log += [f"leaked {at or 0:016x}" for at in lost]
    kernel.kmemleak_scan([])  # nobody holds a pointer any more


PROCEDURES: dict[str, Procedure] = {
    "failslab": _failslab(inject_kmalloc),
    "failslab2": _failslab(inject_big),
    "failslabnc": _failslab(inject_no_check),
    "fail_page_alloc": _fail_page_alloc(),
    "fail_page_alloc_o0": _fail_page_alloc(min_order=0),
    "kmemleak": kmemleak,
}
