"""The bounded record of a run: one Step per call, for views that go back and forth in time."""

from __future__ import annotations

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

    def append(self, step: Step) -> None:
        """Add a step; drop the oldest ones beyond the limit of steps or of memory."""
        self._steps.append(step)
        pages = max(len(step.snapshot.pages), 1)
        most = max(2, min(self.limit, MOST_BYTES // (2 * pages)))
        while len(self._steps) > most:
            self._steps.popleft()

    def cut_after(self, snapshot: Snapshot) -> bool:
        """Forget everything after the step that has this very snapshot; False if none has."""
        for index, step in enumerate(self._steps):
            if step.snapshot is snapshot:
                while len(self._steps) > index + 1:
                    self._steps.pop()
                return True
        return False

    def steps(self) -> tuple[Step, ...]:
        """Return the steps, oldest first."""
        return tuple(self._steps)
