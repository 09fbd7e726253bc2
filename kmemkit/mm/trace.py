"""What a run leaves behind: tracepoint events, and the reasons for the last decision.

A zone's `trace` is None while nothing records, so the hot path pays one look; otherwise every
decision point calls `event()` (named after the kernel's tracepoints, include/trace/events/kmem.h)
and `note()` (a line of Kernel.why(), by its key in the string table).
"""

from __future__ import annotations

from collections import deque

from kmemkit.snapshot import Event, Reason

__all__ = ("Trace",)


class Trace:
    """Bounded record of events, and the reasons gathered since the last `begin()`."""

    __slots__ = ("events", "marks", "reasons", "seq")

    def __init__(self, limit: int = 4096) -> None:
        self.events: deque[Event] = deque(maxlen=limit)
        self.reasons: list[Reason] = []
        self.marks: list[tuple[int, str, int, str]] = []
        self.seq = 0

    def begin(self) -> None:
        """Forget the reasons of the request before; a new one starts."""
        self.reasons = []
        self.marks = []

    def event(self, name: str, **fields: object) -> None:
        """Record one tracepoint hit; `fields` in the tracepoint's own order."""
        self.seq += 1
        self.events.append(Event(self.seq, name, tuple(fields.items())))

    def note(self, key: str, **values: object) -> None:
        """Add one line to the explanation: a key under `why.` in the string table."""
        self.reasons.append(Reason(key, tuple(values.items())))

    def rung(self, name: str, turn: int = 0) -> None:
        """Begin a rung of the ladder (kmemkit.why.RUNGS); the notes that follow belong to it."""
        self.marks.append((len(self.reasons), name, turn, "no"))

    def outcome(self, outcome: str) -> None:
        """Say how the current rung ended."""
        if self.marks:
            self.marks[-1] = (*self.marks[-1][:3], outcome)

    def since(self, seq: int) -> tuple[Event, ...]:
        """Return the recorded events after number `seq`, oldest first."""
        return tuple(event for event in self.events if event.seq > seq)
