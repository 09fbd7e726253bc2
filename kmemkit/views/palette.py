"""The colours of every view, and the arithmetic that keeps them legible.

The Okabe-Ito colours stay apart for all common kinds of colour blindness, but most are too light
for white letters. Each is darkened, hue kept, until white reaches a contrast of 4.5:1 on it (WCAG
2.1, 1.4.3). `static/kmemkit.css` repeats the results as `--km-*` variables for the canvas and the
page; a test holds the two together. Colour never carries a meaning alone: see `LETTERS`.
"""

from __future__ import annotations

from kmemkit.snapshot import Kind

__all__ = (
    "COLORS",
    "KIND_NAMES",
    "LETTERS",
    "MIGRATE_COLORS",
    "TYPE_LETTERS",
    "contrast",
    "darken",
)

#: WCAG 2.1's least contrast for text of normal size.
_LEGIBLE = 4.5

_OKABE_ITO = {
    "unmovable": "#0072b2",
    "movable": "#009e73",
    "reclaimable": "#e69f00",
    "highatomic": "#d55e00",
    "isolate": "#f0e442",
    "pcp": "#cc79a7",
    "slab": "#56b4e9",
}


def _luminance(color: str) -> float:
    """Return the relative luminance of "#rrggbb", 0 for black to 1 for white (WCAG 2.1)."""
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    red, green, blue = linear
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two "#rrggbb" colours, 1 to 21 (WCAG 2.1)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def darken(color: str, ratio: float = _LEGIBLE) -> str:
    """Return the lightest scaling of "#rrggbb" towards black on which white reaches `ratio`."""
    channels = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    for share in range(1000, 0, -1):
        scaled = "#" + "".join(f"{round(c * share / 1000):02x}" for c in channels)
        if contrast(scaled, "#ffffff") >= ratio:
            return scaled
    return "#000000"


#: Fill of each thing a view can show, by the name of its CSS variable without "--km-".
COLORS = {name: darken(color) for name, color in _OKABE_ITO.items()} | {
    "reserved": darken("#808080"),
    "leaked": "#b00020",
}

#: Colour of each migratetype, in the order of snapshot.MIGRATE_NAMES.
MIGRATE_COLORS = tuple(
    COLORS[name] for name in ("unmovable", "movable", "reclaimable", "highatomic", "isolate")
)

#: The letter of each migratetype on a map, in the same order: that of the pages asked for with it.
TYPE_LETTERS = "UMRHI"

#: The letter that stands on each kind of page wherever it is drawn; a free block shows its order.
LETTERS = {
    Kind.PCP: "P",
    Kind.RESERVED: "X",
    Kind.HOLE: "-",
    Kind.LEAKED: "!",
    Kind.UNMOVABLE: "U",
    Kind.MOVABLE: "M",
    Kind.RECLAIMABLE: "R",
    Kind.SLAB: "S",
}

#: The colour of each kind that has one of its own, as a key of COLORS.
KIND_NAMES = {
    Kind.PCP: "pcp",
    Kind.RESERVED: "reserved",
    Kind.LEAKED: "leaked",
    Kind.UNMOVABLE: "unmovable",
    Kind.MOVABLE: "movable",
    Kind.RECLAIMABLE: "reclaimable",
    Kind.SLAB: "slab",
}
