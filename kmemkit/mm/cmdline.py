"""The kernel command line and sizes with suffixes, as far as the memory manager reads them.

`Kernel(ram="64M", cmdline="init_on_alloc=0")` uses both.
"""

from __future__ import annotations

import re

__all__ = ("NOT_MODELLED", "SUPPORTED", "parse_cmdline", "parse_size")

#: Parameters the simulator obeys, with the values it accepts.
SUPPORTED = {
    "init_on_alloc": ("0", "1"),
    "transparent_hugepage": ("always", "madvise", "never"),
}
#: Parameters that change what the simulator computes, but are not simulated.
NOT_MODELLED = (
    "cma", "crashkernel", "highmem", "hugepages", "kernelcore", "mem", "memmap", "movable_node",
    "movablecore", "numa", "page_alloc.shuffle", "vmalloc",
)  # fmt: skip

_SUFFIX = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MOST = 1 << 46  # 64 TiB, what x86-64 with four page-table levels can hold


def parse_size(size: str | int) -> int:
    """Return a size in bytes from an int or a text such as "64M", "4 GiB", "0x1000".

    Raises:
        TypeError, ValueError: not a size; the message shows what is.
    """
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        raise TypeError(
            f"{size!r} is not a size; give bytes as an int, or text such as '64M' or '4G'"
        )
    number = size
    if isinstance(size, str):
        match = re.fullmatch(
            r"\s*(0x[0-9a-f]{1,16}|\d{1,20})\s*([KMGT]?)(i?B)?\s*", size, re.IGNORECASE | re.ASCII
        )
        if match is None:
            raise ValueError(
                f"{size!r} is not a size; give bytes as an int, or text such as '64M' or '4G'"
            )
        number = (
            int(match[1], 0 if match[1][:2].lower() == "0x" else 10) * _SUFFIX[match[2].upper()]
        )
    assert isinstance(number, int)
    if not 0 < number <= _MOST:
        raise ValueError(f"{size!r}: a size must be above 0 and at most 64 TiB")
    return number


def parse_cmdline(cmdline: str) -> tuple[dict[str, str], list[str]]:
    """Return (parameters the simulator obeys, parameters it does not know) of a command line.

    Raises:
        TypeError: not text. ValueError: a parameter that matters but is not simulated, or a value
            that is not possible.
    """
    if not isinstance(cmdline, str):
        raise TypeError(f"cmdline={cmdline!r}: give the kernel command line as text")
    known: dict[str, str] = {}
    unknown: list[str] = []
    for word in cmdline.split():
        name, _, value = word.partition("=")
        if name in NOT_MODELLED:
            raise ValueError(
                f"cmdline: {word!r} changes the memory layout in a way that is not simulated; "
                f"leave it out (simulated: {', '.join(sorted(SUPPORTED))})"
            )
        if name not in SUPPORTED:
            unknown.append(word)
        elif value not in SUPPORTED[name]:
            raise ValueError(f"cmdline: {word!r}: {name} takes one of {', '.join(SUPPORTED[name])}")
        else:
            known[name] = value
    return known, unknown
