"""Random numbers that are the same every time: splitmix64."""

from __future__ import annotations

__all__ = ("splitmix64",)

MASK64 = (1 << 64) - 1


def splitmix64(state: int) -> tuple[int, int]:
    """Return (next state, 64 random bits)."""
    state = state + 0x9E3779B97F4A7C15 & MASK64
    mixed = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK64
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & MASK64
    return state, mixed ^ mixed >> 31
