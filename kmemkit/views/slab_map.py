"""SlabMap: a cache's slabs, every object as a cell, free lists as arrows, an object's bytes.

The widget sends one word an object once, and afterwards only the ranges that changed; drawing is in
static/slab_columns.js, slab_paint.js, slab_bytes.js and slab_map.js. Notebooks make one from a
Snapshot, from recorded steps, or let it follow a Kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, ClassVar

import traitlets

from kmemkit.slab_snapshot import CacheSnapshot
from kmemkit.snapshot import Snapshot, Step
from kmemkit.strings import text
from kmemkit.views._base import Follows, esm, refuse_unknown
from kmemkit.views._history import Scrubbed
from kmemkit.views._page_columns import changed_ranges
from kmemkit.views._slab_bytes import byte_rows, row_state
from kmemkit.views._slab_model import CacheModel
from kmemkit.views._slab_text import bytes_text, cache_text, headings

__all__ = ("SlabMap",)


def _current(value: bytes, view: SlabMap) -> bytes:
    """Return the column as it is now: a page that is opened later needs no patches."""
    return value if view._column is None else view._column


def _to_page(value: int | None, _: object) -> str | None:
    """Return an address as JavaScript can hold it: its numbers end at 53 bits."""
    return None if value is None else f"{value:#x}"


def _from_page(value: str | None, _: object) -> int | None:
    return None if value is None else int(value, 16)


class SlabMap(Scrubbed):
    """A slab cache that can be pointed at, walked along its free lists, and read byte by byte.

    A slab is a rectangle of its objects, solid ones in use, hollow ones free with their place on
    the free list. Slabs stand together by the list they are on, in the list's order.
    """

    _esm = esm(
        "common.js",
        "colors.js",
        "history_bar.js",
        "slab_columns.js",
        "slab_paint.js",
        "slab_bytes.js",
        "slab_map.js",
    )
    _sections: ClassVar[tuple[str, ...]] = ("slab_map",)
    _step_key: ClassVar[str] = "slab_map.step"

    cache = traitlets.Unicode(help="name of the cache, or an alias of it").tag(sync=True)
    selected = traitlets.Int(None, allow_none=True, help="address of the selected object").tag(
        sync=True, to_json=_to_page, from_json=_from_page
    )

    _caches = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _headings = traitlets.List(traitlets.Unicode()).tag(sync=True)
    #: base of the direct map, and where objects begin in a slab
    _geometry = traitlets.Dict().tag(sync=True)
    #: two little-endian words a slab, oldest first: its pfn, its number of objects
    _slabs = traitlets.Bytes().tag(sync=True)
    #: a little-endian word an object, slab after slab; see _slab_model.RANK
    _words = traitlets.Bytes().tag(sync=True, to_json=_current)
    _patch = traitlets.Bytes().tag(sync=True)
    _groups = traitlets.List(traitlets.Dict()).tag(sync=True)
    _whos = traitlets.List(traitlets.Unicode()).tag(sync=True)
    #: what is wrong with a slab's free list, by place of the slab
    _broken = traitlets.Dict().tag(sync=True)
    _bytes = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(
        self,
        source: Snapshot | Follows | None = None,
        cache: str | int | None = None,
        *,
        selected: int | None = None,
        history: Sequence[Step] = (),
        step: int | None = None,
        **unknown: Any,
    ) -> None:
        """Make a map of a cache of `source`, or of recorded steps.

        Args:
            source: a Snapshot, or a Kernel to follow; may be left out where `history` is given.
            cache: name of the cache, or what kmem_cache_create() returned; by default the newest
                one that has slabs.
            selected: address of the object whose bytes are shown, or of a byte in it.
            history: steps to go through, as `Kernel.history` has them.
            step: index of the step to show first; None is the last.
            **unknown: refused.

        Raises:
            TypeError: an unknown keyword, or a source of another type.
            ValueError: a cache, step or address that is not there.
        """
        refuse_unknown(SlabMap.__init__, unknown)
        if (source is None) == (not history):
            raise TypeError("SlabMap shows a Snapshot, a Kernel, or history=[Step, ...]: give one")
        self._column: bytes | None = None
        self._patches = 0
        self._model: CacheModel | None = None
        #: the cache that __init__ was given, until there is a machine to look for it in
        self._wanted: tuple[str | int | None, ...] = (cache,)
        super().__init__(history)
        try:
            self._open(history[-1].snapshot if source is None else source)
        except ValueError:
            self.unfollow()
            raise
        self.selected = selected
        if step is not None:
            self.step = step
        self.on_msg(self._asked)

    # -- the text twin ----------------------------------------------------------------------------

    def text(self) -> str:
        """Return every slab with its objects and free lists, and the selected object's bytes."""
        model = self.model()
        if model is None:
            key = "slab_map.gone" if self.snapshot.caches else "slab_map.none"
            lines = [text("slab_map.title", name=self.cache or "-"), text(key)]
        else:
            lines = [cache_text(model)]
            place = None if self.selected is None else model.place(self.selected)
            if place:
                lines += ["", bytes_text(model, *place)]
        if told := self._told():
            lines += ["", told]
        if self.snapshot.scaled:
            lines += ["", text("view.scaled"), *(f"  {one}" for one in self.snapshot.scaled)]
        return "\n".join(lines)

    def line(self, address: int) -> str:
        """Return the line under the map for the object that a byte belongs to.

        Raises:
            ValueError: no object of the cache.
        """
        model = self.model()
        place = None if model is None else model.place(address)
        if model is None or place is None:
            raise ValueError(f"{address:#x} is in no object of the cache {self.cache}")
        return model.line(*place)

    def _describe(self) -> str:
        model = self.model()
        if model is None:
            return f"{self.cache or '-'}, no slabs"
        counts = model.counts
        return f"{self.cache}, {counts['inuse']:,} of {counts['objects']:,} objects in use"

    # -- what is shown ----------------------------------------------------------------------------

    def model(self) -> CacheModel | None:
        """Return the shown cache as it is in the shown snapshot, None if it is not there."""
        snapshot, known = self.snapshot, self._model
        if known is not None and known.snapshot is snapshot and _has(known.cache, self.cache):
            return known
        found = next((c for c in reversed(snapshot.caches) if _has(c, self.cache)), None)
        self._model = None if found is None else CacheModel(snapshot, found, known)
        return self._model

    @traitlets.validate("cache")
    def _check_cache(self, proposal: dict[str, Any]) -> str:
        name: str = proposal["value"]
        # Where steps are shown, a cache may be there in some of them only.
        if not name or self._wanted:
            return name
        there = [self.snapshot, *(step.snapshot for step in self._history())]
        found = next((c.name for one in there for c in one.caches if _has(c, name)), None)
        if found is None:
            raise ValueError(_no_cache(self.snapshot, name))
        return found

    @traitlets.validate("selected")
    def _check_selected(self, proposal: dict[str, Any]) -> int | None:
        address: int | None = proposal["value"]
        if address is None:
            return None
        model = self.model()
        place = None if model is None else model.place(address)
        if model is None or place is None:
            raise ValueError(f"selected={address:#x} is in no object of the cache {self.cache}")
        return model.address(*place)

    @traitlets.observe("cache")
    def _cache_chosen(self, _: object) -> None:
        if not self._wanted:
            self.selected = None
            self._outbox.request()

    @traitlets.observe("selected")
    def _object_chosen(self, _: object) -> None:
        self._fill_bytes(self.model())

    # -- to the browser ---------------------------------------------------------------------------

    def _fill(self) -> None:
        for cache in self._wanted:
            self.cache = _named(self.snapshot, cache)
            self._wanted = ()
        model = self.model()
        snapshot = self.snapshot
        with self.hold_sync():
            self._caches = [c.name for c in snapshot.caches if c.slabs or _has(c, self.cache)]
            if model is None:
                self._headings = [
                    text("slab_map.title", name=self.cache or "-"),
                    text("slab_map.gone" if snapshot.caches else "slab_map.none"),
                ]
                self._groups, self._broken, self._whos = [], {}, [""]
            else:
                self._headings = headings(model)
                self._groups = _group_dicts(model)
                self._broken = {str(n): said for n, said in model.broken().items()}
                self._whos = list(model.whos)
            self._fill_columns(model)
            self._fill_bytes(model)
            self._send_step()

    def _fill_columns(self, model: CacheModel | None) -> None:
        """Send the columns of another set of slabs whole, of the same one what changed."""
        chunks = [] if model is None else model.chunks
        slabs = b"".join(chunk.layout for chunk in chunks)
        words = b"".join(chunk.words for chunk in chunks)
        before, self._column = self._column, words
        if model is not None:
            first = model.cache.red_left_pad
            one = model.cache.slabs[0] if chunks else None
            base = 0 if one is None else one.address - (one.pfn << 12)
            self._geometry = {"base": f"{base:#x}", "first": first, "size": model.cache.size}
        if before is None or slabs != self._slabs or len(before) != len(words):
            self._slabs, self._words = slabs, words
            return
        ranges = changed_ranges(before, words, 64)
        if ranges:
            head = [self._patches & 0xFFFFFFFF, len(ranges)]
            self._patches += 1
            for start, end in ranges:
                head += (start, end - start)
            parts = [words[start:end] for start, end in ranges]
            self._patch = b"".join([struct.pack(f"<{len(head)}I", *head), *parts])

    def _fill_bytes(self, model: CacheModel | None) -> None:
        """Send the selected object's bytes; an object that is gone is selected no longer."""
        place = None if model is None or self.selected is None else model.place(self.selected)
        if model is None or place is None:
            self.selected, self._bytes = None, []
        else:
            self._bytes = [row_state(row) for row in byte_rows(model, *place)]

    def _asked(self, _: object, content: dict[str, Any], __: object) -> None:
        """Answer the page that asks for the text twin."""
        if content.get("want") == "text":
            self.send({"text": self.text()})


def _has(cache: CacheSnapshot, name: str) -> bool:
    return name == cache.name or name in cache.aliases


def _named(snapshot: Snapshot, cache: str | int | None) -> str:
    """Return the name of the cache asked for, "" where there is none yet."""
    caches = snapshot.caches
    if isinstance(cache, str):
        named = next((one for one in reversed(caches) if _has(one, cache)), None)
        if named is None:
            raise ValueError(_no_cache(snapshot, cache))
        return named.name
    if cache is not None:
        found = next((one for one in caches if one.pointer == cache), None)
        if found is None:
            raise ValueError(_no_cache(snapshot, f"{cache:#x}"))
        return found.name
    return next((one.name for one in reversed(caches) if one.slabs), "")


def _no_cache(snapshot: Snapshot, name: str) -> str:
    there = ", ".join(one.name for one in snapshot.caches if one.slabs)
    return text("slab_map.no_cache", name=name, there=there or "-")


def _group_dicts(model: CacheModel) -> list[dict[str, Any]]:
    """Return the groups as the page gets them: `where` has a field for the place in the list."""
    return [
        {
            "title": group.title,
            "kind": group.kind,
            "number": group.number,
            "slabs": list(group.slabs),
        }
        for group in model.groups
    ]
