"""Pages, orders and migratetypes as text: the few words that everything which speaks uses."""

from __future__ import annotations

from kmemkit.strings import text

__all__ = ("MIGRATE_LETTERS", "MIGRATE_NAMES", "PAGE_KB", "order_text", "size_text")

PAGE_KB = 4
#: Names as /proc/pagetypeinfo prints them, by migratetype of a Debian 6.12 kernel (no CMA).
MIGRATE_NAMES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate")
#: Letters as the Mem-Info report prints them.
MIGRATE_LETTERS = "UMEHI"


def size_text(pages: int) -> str:
    """Return a number of pages as memory, in the largest unit that keeps it whole.

    >>> size_text(8), size_text(1024), size_text(1 << 20)
    ('32 kB', '4 MiB', '4 GiB')
    """
    kb = pages * PAGE_KB
    for unit, scale in (("GiB", 1 << 20), ("MiB", 1 << 10)):
        if kb >= scale and kb % scale == 0:
            return f"{kb // scale:,} {unit}"
    return f"{kb:,} kB"


def order_text(order: int) -> str:
    """Return an order with its size, as in "order 3 = 8 pages = 32 kB"."""
    pages = 1 << order
    return (
        text("unit.order", order=order, pages=f"{pages:,}", size=size_text(pages))
        if order
        else text("unit.order0", size=size_text(1))
    )
