"""The bounded record of a run: one Step per call, for views that go back and forth in time."""

from __future__ import annotations

import sys
from collections import deque

from kmemkit.snapshot import Snapshot, Step

__all__ = ("History",)

#: What the snapshots of one history may hold together, in bytes; small machines never reach it.
MOST_BYTES = 256 << 20


class History:
    """The last steps of a run, oldest first. The first one kept is where stepping back ends."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._steps: deque[Step] = deque()
        self._sizes: deque[int] = deque()

    def append(self, step: Step) -> None:
        """Add a step; drop the oldest ones beyond the limit of steps or of memory."""
        self._steps.append(step)
        self._sizes.append(_bytes_of(step.snapshot))
        total = sum(self._sizes)
        while len(self._steps) > 2 and (len(self._steps) > self.limit or total > MOST_BYTES):
            self._steps.popleft()
            total -= self._sizes.popleft()

    def cut_after(self, snapshot: Snapshot) -> bool:
        """Forget everything after the step that has this very snapshot; False if none has."""
        for index, step in enumerate(self._steps):
            if step.snapshot is snapshot:
                while len(self._steps) > index + 1:
                    self._steps.pop()
                    self._sizes.pop()
                return True
        return False

    def steps(self) -> tuple[Step, ...]:
        """Return the steps, oldest first."""
        return tuple(self._steps)


def _bytes_of(snapshot: Snapshot) -> int:
    """Return about how much memory a snapshot holds: its page columns, free lists, LRU lists."""
    pairs = [pair for zone in snapshot.zones for pair in zone._lists.values()]
    pairs += [pair for node in snapshot.nodes for pair in node._lru.values()]
    columns = len(snapshot.pages) + len(snapshot.owners) + len(snapshot.lru)
    return columns + sum(sys.getsizeof(half) for pair in pairs for half in pair)
