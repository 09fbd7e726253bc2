"""What all views share: the text twin, following a kernel, and messages that never pile up.

A view is made from a `Snapshot`, or follows anything that has `snapshot()` and can be listened to
(a Kernel; this file never imports one). Subclasses in this folder define `text()`, `_describe()`
and `_fill()`, and call `_open(source)` at the end of `__init__`.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import anywidget
import ipywidgets
import traitlets

from kmemkit.snapshot import Snapshot, Step
from kmemkit.strings import keys, text

__all__ = (
    "FRAME",
    "Composite",
    "Follows",
    "Outbox",
    "Panel",
    "Shown",
    "View",
    "esm",
    "history_of",
    "refuse_unknown",
    "templates",
)

#: Seconds between two messages of one view. Above about a thousand messages a second a Jupyter
#: server drops some without a word, and no screen shows more than 60 a second.
FRAME = 1 / 60

_STATIC = Path(__file__).parent / "static"


@runtime_checkable
class Follows(Protocol):
    """What a view can follow: it calls every listener after each change of its state."""

    def snapshot(self) -> Snapshot:
        """Return the state now."""
        ...

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change."""
        ...

    def remove_listener(self, listener: Callable[[], None]) -> None:
        """Call it no longer."""
        ...


class Outbox:
    """Sends at once, then at most once a `FRAME`; the last state always goes out.

    What is asked for within a frame of the last message waits for one timer of the running asyncio
    loop. A busy cell blocks that loop, so a request that comes a frame later sends by itself.
    Without a running loop nobody could send later, and nobody floods: each request sends at once.
    """

    def __init__(
        self, send: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = send
        self._clock = clock
        self._last = -FRAME
        self._timer: asyncio.TimerHandle | None = None

    def request(self) -> None:
        """Ask for the current state to be sent, now or within one frame."""
        wait = self._last + FRAME - self._clock()
        if wait <= 0:
            self.flush()
        elif self._timer is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self.flush()
            else:
                self._timer = loop.call_later(wait, self.flush)

    def flush(self) -> None:
        """Send now, and forget any waiting request."""
        self.cancel()
        self._last = self._clock()
        self._send()

    def cancel(self) -> None:
        """Forget any waiting request."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def esm(*names: str) -> str:
    """Return files of static/ joined into the one ES module a widget may have, in this order.

    Each file is a module by itself; where it imports from or exports to a neighbour, joining makes
    that plain sharing. Only the last file may have a default export.
    """
    lines: list[str] = []
    for name in names:
        for line in (_STATIC / name).read_text("utf-8").splitlines():
            if not line.startswith("import "):
                lines.append(
                    line if line.startswith("export default") else line.removeprefix("export ")
                )
    return "\n".join(lines) + "\n"


def templates(*sections: str) -> dict[str, str]:
    """Return every string of the given sections by its full key, for JavaScript to fill in."""
    wanted = tuple(f"{section}." for section in sections)
    return {key: text(key) for key in sorted(keys()) if key.startswith(wanted)}


def refuse_unknown(function: Callable[..., object], unknown: dict[str, Any]) -> None:
    """Refuse keywords that `function`'s class does not know (traitlets would only warn).

    Raises:
        TypeError: `unknown` is not empty; the message names it and lists what is accepted.
    """
    if unknown:
        parameters = inspect.signature(function).parameters.values()
        accepted = [p.name for p in parameters if p.name != "self" and p.kind != p.VAR_KEYWORD]
        name = function.__qualname__.removesuffix(".__init__")
        wrong = ", ".join(repr(word) for word in unknown)
        raise TypeError(f"{name} does not know {wrong}; it accepts: {', '.join(accepted)}")


def history_of(kernel: object) -> Sequence[Step]:
    """Return the recorded steps of what a view follows, or () where it records none."""
    return getattr(kernel, "history", None) or ()


class Shown:
    """What every view can do, whichever kind of widget it is: show a snapshot, and say it as text.

    `text()` is the truth and pixels are a rendering of it: it is also what a page without
    JavaScript shows, and what notebook tests compare.
    """

    def __init__(self, **traits: Any) -> None:
        self._kernel: Follows | None = None
        self._snapshot: Snapshot | None = None
        self._outbox = Outbox(self._publish)
        super().__init__(**traits)

    # -- what a subclass defines ------------------------------------------------------------------

    def text(self) -> str:
        """Return everything the view shows, as text: deterministic, no addresses."""
        raise NotImplementedError

    def _describe(self) -> str:
        """Return what stands between the parentheses of the repr."""
        raise NotImplementedError

    def _fill(self) -> None:
        """Put the state that `self.snapshot` has now into the synced traits."""
        raise NotImplementedError

    # -- state ------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that the view shows: that of the followed kernel now, or the one given."""
        if self._snapshot is None:
            if self._kernel is None:
                raise ValueError(
                    f"{type(self).__name__} has nothing to show: call show() or follow()"
                )
            self._snapshot = self._kernel.snapshot()
        return self._snapshot

    def show(self, snapshot: Snapshot) -> None:
        """Show `snapshot`, until the next one or the next change of a followed kernel."""
        self._snapshot = snapshot
        self._outbox.request()

    def follow(self, kernel: Follows) -> None:
        """Show `kernel` now and after each of its calls, until unfollow() or close()."""
        self.unfollow()
        self._kernel = kernel
        kernel.add_listener(self._kernel_changed)
        self._kernel_changed()

    def unfollow(self) -> None:
        """Stay at the state shown now."""
        if self._kernel is not None:
            self._snapshot = self.snapshot
            self._kernel.remove_listener(self._kernel_changed)
            self._kernel = None

    def close(self) -> None:
        """Stop following, and take the widget off the page."""
        # ipywidgets closes every widget at exit, also one whose __init__ raised half way.
        if getattr(self, "_outbox", None) is not None:
            self.unfollow()
            self._outbox.cancel()
        super().close()  # type: ignore[misc]

    def _kernel_changed(self) -> None:
        """Note that the followed kernel moved; the snapshot is taken when somebody looks."""
        self._snapshot = None
        self._outbox.request()

    def _open(self, source: Snapshot | Follows) -> None:
        """Show a snapshot, or follow a kernel.

        Raises:
            TypeError: `source` is neither.
        """
        if isinstance(source, Snapshot):
            self.show(source)
        elif isinstance(source, Follows):
            self.follow(source)
        else:
            name, given = type(self).__name__, type(source).__name__
            raise TypeError(
                f"{name} shows a Snapshot or follows a Kernel, not a value of type {given}"
            )

    def _publish(self) -> None:
        """Send the state; what the outbox calls."""
        self._fill()

    # -- how Jupyter prints it --------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._describe()})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        if bundle is None:
            return None
        # anywidget gives data and metadata, ipywidgets only data.
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "text/plain": self.text()}, metadata


class Panel(anywidget.AnyWidget):
    """A widget with a JavaScript module of its own, the stylesheet and the texts it fills in."""

    _css = _STATIC / "kmemkit.css"
    #: sections of the string table that the JavaScript fills in, besides "unit" and "view"
    _sections: ClassVar[tuple[str, ...]] = ()

    _texts = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(_texts=templates("unit", "view", *self._sections), **traits)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class View(Shown, Panel):
    """A view that is one widget, drawn by its own JavaScript."""

    #: one sentence for each thing a small world scales; shown as the view's simplification badge
    _scaled = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def _publish(self) -> None:
        """Send the badge and whatever the subclass sends."""
        self._scaled = list(self.snapshot.scaled)
        self._fill()


class Composite(Shown, ipywidgets.Box):
    """A view made of other widgets: it lays them out, and each of them draws itself."""

    def close(self) -> None:
        """Stop following, and take the widget and all it is made of off the page."""
        parts = list(self.children)
        for part in parts:
            parts += getattr(part, "children", ())
        super().close()
        for part in parts:
            part.close()
