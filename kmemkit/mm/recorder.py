"""Recorder: what a machine remembers of its calls, and who hears of them.

One way in: `_call()` runs every API call, records it if recording is on, and tells whoever listens.
`Machine` is a Recorder; short ways of hot calls pass it by while nobody looks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from kmemkit import strings
from kmemkit.mm.errors import Livelock, Panic
from kmemkit.mm.history import History
from kmemkit.mm.trace import Trace
from kmemkit.snapshot import Event, Snapshot, Step, Why

__all__ = ("Recorder",)

T = TypeVar("T")


class Recorder(ABC):
    """The part of a machine that keeps its calls with their reasons, and tells listeners."""

    def _begin_unheard(self) -> None:
        """Start without a recording and without listeners."""
        self.trace: Trace | None = None
        #: called, without arguments, after every call that may have changed the machine
        self.listeners: tuple[Callable[[], None], ...] = ()
        self._history: History | None = None
        self._why: Why | None = None

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Return the whole state as a value."""

    @abstractmethod
    def _attention_changed(self) -> None:
        """Note that somebody begins or ceases to look: short ways tell nobody."""

    @abstractmethod
    def _connect(self) -> None:
        """Let the machine's parts record to the current trace, or to none."""

    def record(self, limit: int = 512) -> None:
        """Keep events, reasons and a snapshot after each call from here on, `limit` calls at most.

        Raises:
            TypeError: limit is no whole number. ValueError: limit below 1.
        """
        if type(limit) is not int:
            raise TypeError(f"limit={limit!r}: give a whole number of steps")
        if limit < 1:
            raise ValueError(f"limit={limit}: keep at least one step")
        self.trace = Trace()
        self._history = History(limit + 1)
        self._history.append(Step("start", "", True, (), None, self.snapshot()))
        self._connect()
        self._attention_changed()

    def stop_recording(self) -> None:
        """Record nothing from here on, and forget what was recorded."""
        self.trace = self._history = self._why = None
        self._connect()
        self._attention_changed()

    @property
    def history(self) -> tuple[Step, ...]:
        """The recorded calls, oldest first; empty unless `record()` was called."""
        return () if self._history is None else self._history.steps()

    @property
    def events(self) -> tuple[Event, ...]:
        """The recorded tracepoint events, oldest first; empty unless `record()` was called."""
        return () if self.trace is None else tuple(self.trace.events)

    def why(self) -> Why:
        """Return every decision of the last recorded request, in order.

        Raises:
            RuntimeError: nothing was recorded; the message says how to.
        """
        if self._why is None:
            raise RuntimeError(
                "nothing recorded yet: call record(), then make a request, then why()"
            )
        return self._why

    def _call(self, call: str, run: Callable[[], T], show: Callable[[T], str] = lambda _: "") -> T:
        """Run one API call, recorded if recording is on, and tell the listeners."""
        trace = self.trace
        if trace is None:
            try:
                return run()
            finally:
                self._notify()
        trace.begin()
        seq = trace.seq
        text, ok = "BUG", False
        try:
            result = run()
            text = show(result)
            ok = result is not None or text != "NULL"
            return result
        except (Livelock, Panic) as end:
            text = strings.text("road.livelock" if isinstance(end, Livelock) else "road.panic")
            raise
        finally:
            self._why = Why(call, text, tuple(trace.reasons), tuple(trace.marks))
            if self._history is not None:
                self._history.append(
                    Step(call, text, ok, trace.since(seq), self._why, self.snapshot())
                )
            self._notify()

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call `listener`, without arguments, after every call that may change the machine."""
        self.listeners += (listener,)
        self._attention_changed()

    def remove_listener(self, listener: Callable[[], None]) -> None:
        """Call it no longer.

        Raises:
            ValueError: it is none of the listeners.
        """
        if listener not in self.listeners:
            raise ValueError(f"{listener!r} does not listen")
        self.listeners = tuple(one for one in self.listeners if one != listener)
        self._attention_changed()

    def _notify(self) -> None:
        for listener in self.listeners:
            listener()
