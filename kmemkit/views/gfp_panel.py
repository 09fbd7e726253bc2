"""GfpPanel: one GFP mask, or two side by side, as bits, names, hex and what they ask for.

Lessons write `GfpPanel("GFP_KERNEL")`. A bit is switched, names or hex are typed, a composite is
picked; the rest follows. With `predict=True` the panel asks the three questions of a mask before
it shows the answers. It needs no kernel: `_gfp_rows` works everything out from the mask,
`_gfp_quiz` judges the predictions, and this file keeps the state and passes it on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, SupportsIndex

import traitlets

from kmemkit.gfp import RELEASES, ZONE_NAMES, as_mask, decode, encode, profile, release_notes
from kmemkit.snapshot import order_text
from kmemkit.strings import text
from kmemkit.views._base import Panel, Shown, esm, refuse_unknown
from kmemkit.views._gfp_page import (
    bit_state,
    quiz_lines,
    quiz_state,
    section_lines,
    section_state,
)
from kmemkit.views._gfp_quiz import Quiz
from kmemkit.views._gfp_rows import SECTIONS, Bit, Request, bits_of, read, summary

__all__ = ("GfpPanel",)

_TOP_ORDER = 11  # one above the highest, to see what the kernel says of it
_COMPOSITES = (
    *("GFP_KERNEL", "GFP_KERNEL_ACCOUNT", "GFP_NOWAIT", "GFP_ATOMIC", "GFP_NOIO", "GFP_NOFS"),
    *("GFP_USER", "GFP_HIGHUSER", "GFP_HIGHUSER_MOVABLE", "GFP_DMA", "GFP_DMA32"),
    *("GFP_TRANSHUGE_LIGHT", "GFP_TRANSHUGE"),
)


class GfpPanel(Shown, Panel):
    """Bits, names and hex of a GFP mask, and what the page allocator makes of it.

    Args:
        mask: an int, or names and numbers in an expression, as `encode` reads it.
        other: a second mask to compare with, or None.
        order: log2 of the number of pages that are asked for, 0 to 11.
        release: kernel whose names and bits are meant; what a mask does is told by the rules of
            6.12, and the panel says so.
        arch: whose zones, "x86_64" or "i386".
        atomic: whether the caller must not sleep.
        predict: ask before showing; the first mask is then dealt by `seed`, unless `mask` is given.
        seed: of the masks that are dealt.

    Raises:
        TypeError: a keyword is unknown.
        ValueError: a mask, order, release or arch that there is not.
    """

    _esm = esm("common.js", "gfp_panel.js")
    _sections: ClassVar[tuple[str, ...]] = ("gfp_panel",)

    #: the masks, by the bits of `release`; a change of release keeps the bits
    mask = traitlets.Int(0)
    other = traitlets.Int(None, allow_none=True)
    order = traitlets.Int(0)
    release = traitlets.Unicode("6.12")
    arch = traitlets.Unicode("x86_64")
    atomic = traitlets.Bool(False)

    state = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        mask: SupportsIndex | str | None = None,
        other: SupportsIndex | str | None = None,
        *,
        order: int = 0,
        release: str = "6.12",
        arch: str = "x86_64",
        atomic: bool = False,
        predict: bool = False,
        seed: int = 0,
        **unknown: Any,
    ) -> None:
        refuse_unknown(GfpPanel.__init__, unknown)
        self.quiz = Quiz(seed) if predict else None
        release = profile(release).release
        dealt, dealt_arch = self.quiz.deal() if self.quiz and mask is None else (None, arch)
        given = dealt if dealt is not None else "GFP_KERNEL" if mask is None else mask
        super().__init__(
            mask=as_mask(given, release),
            other=None if other is None else as_mask(other, release),
            order=order,
            release=release,
            arch=dealt_arch,
            atomic=atomic,
        )
        #: what stands in each field: as typed, while it means the mask
        self._typed = [m if isinstance(m, str) else "" for m in (given, other)]
        self._errors = ["", ""]
        self._message = ""
        watched = ("mask", "other", "order", "release", "arch", "atomic")
        self.observe(self._changed, watched)
        self.on_msg(self._on_msg)
        self._outbox.request()

    @traitlets.validate("order")
    def _known_order(self, proposal: Any) -> int:
        if not 0 <= (value := int(proposal["value"])) <= _TOP_ORDER:
            raise ValueError(text("gfp_panel.bad_order", order=value, top=_TOP_ORDER))
        return value

    @traitlets.validate("arch")
    def _known_arch(self, proposal: Any) -> str:
        if proposal["value"] not in ZONE_NAMES:
            raise ValueError(text("gfp_panel.bad_arch", arch=proposal["value"]))
        return str(proposal["value"])

    @traitlets.validate("release")
    def _known_release(self, proposal: Any) -> str:
        return profile(proposal["value"]).release

    @traitlets.validate("mask", "other")
    def _known_mask(self, proposal: Any) -> int | None:
        return None if proposal["value"] is None else as_mask(proposal["value"], self.release)

    # -- what is shown ----------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[Request, ...]:
        """The one or two masks, as requests of the order and machine that are chosen."""
        masks = (self.mask,) if self.other is None else (self.mask, self.other)
        return tuple(Request(m, self.order, self.release, self.arch, self.atomic) for m in masks)

    @property
    def bits(self) -> tuple[Bit, ...]:
        """The bits that are shown, lowest first."""
        return bits_of(self.release, tuple(r.mask for r in self.requests))

    @property
    def asking(self) -> bool:
        """Whether the panel waits for a prediction, and hides what the mask does."""
        return self.quiz is not None and self.quiz.open

    def differences(self) -> str:
        """Return in which bits two masks differ, "" for a single one."""
        if self.other is None:
            return ""
        if not (apart := self.mask ^ self.other):
            return text("gfp_panel.same")
        names = [bit.name or bit.hex for bit in self.bits if apart >> bit.place & 1]
        return text("gfp_panel.differ", bits=", ".join(names))

    def text(self) -> str:
        """Return the masks, then section by section the bits that are set and what they do."""
        where = {
            "release": self.release,
            "arch": self.arch,
            "order": order_text(self.order),
            "atomic": text("gfp_panel.text_atomic") if self.atomic else "",
        }
        lines = []
        for label, r in zip(self._labels(), self.requests, strict=True):
            mask = f"{label}: {r.hex} = {r.names}"
            lines.append(text("gfp_panel.text_head", mask=mask, **where))
        lines += self._notes()
        lines += filter(None, [self.differences()])
        for section in () if self.asking else SECTIONS:
            lines += section_lines(section, self.bits, self.requests)
        if self.quiz:
            lines += [*quiz_lines(self.quiz), *filter(None, [self._message])]
        return "\n".join(lines)

    def _labels(self) -> list[str]:
        two = self.other is not None
        return (
            [text("gfp_panel.mask_a"), text("gfp_panel.mask_b")]
            if two
            else [text("gfp_panel.mask")]
        )

    def _notes(self) -> list[str]:
        """Return what a reader must know of the release and of bits without a name in it."""
        notes = [note for r in self.requests for note in release_notes(r.mask, self.release)]
        return list(dict.fromkeys(notes))

    def _describe(self) -> str:
        masks = ", ".join(f"{r.hex} {r.names}" for r in self.requests)
        return f"{masks}, Linux {self.release}"

    # -- what the page tells ----------------------------------------------------------------------

    def act(self, do: str, **values: Any) -> None:
        """Do what a control of the panel does.

        `toggle` (which, place), `type` (which, typed) and `pick` (which, name) change mask A
        (which=0) or B (1); `order`, `release`, `arch` (value), `atomic` and `compare` (on) are what
        they say; `commit` (answers), `unknown`, `next` and `free_play` (on) belong to predictions.

        Raises:
            ValueError: there is no such control; the message lists those there are.
        """
        controls: dict[str, Callable[[], None]] = {
            "toggle": lambda: self._toggle(int(values["which"]), int(values["place"])),
            "type": lambda: self._type(int(values["which"]), str(values["typed"])),
            "pick": lambda: self._type(int(values["which"]), str(values["name"])),
            "order": lambda: self.set_trait("order", int(values["value"])),
            "release": lambda: self.set_trait("release", values["value"]),
            "arch": lambda: self.set_trait("arch", values["value"]),
            "atomic": lambda: self.set_trait("atomic", bool(values["on"])),
            "compare": lambda: self.set_trait("other", self.mask if values["on"] else None),
            "commit": lambda: self._commit(dict(values["answers"])),
            "unknown": lambda: self._commit({}),
            "next": self._next,
            "free_play": lambda: self._set_free_play(bool(values["on"])),
        }
        if do not in controls:
            names = ", ".join(controls)
            raise ValueError(text("gfp_panel.bad_control", control=do, controls=names))
        self._message = ""
        controls[do]()
        self._outbox.request()

    def _put(self, which: int, mask: int, typed: str = "") -> None:
        """Set mask A or B; `typed` stands in its field, by default the names."""
        self._typed[which], self._errors[which] = typed, ""
        self.set_trait("other" if which else "mask", mask)

    def _toggle(self, which: int, place: int) -> None:
        self._put(which, self.requests[which].mask ^ (1 << place))

    def _type(self, which: int, typed: str) -> None:
        try:
            mask, notes = read(typed, self.release)
        except ValueError as error:
            self._typed[which], self._errors[which] = typed, str(error)
        else:
            self._put(which, mask, typed.strip())
            self._errors[which] = " ".join(notes)

    def _commit(self, answers: dict[str, str]) -> None:
        if self.asking and self.quiz:
            self.quiz.judge(self.requests[0], answers)

    def _next(self) -> None:
        if self.quiz:
            mask, self.arch = self.quiz.deal()
            self._put(0, mask)

    def _set_free_play(self, on: bool) -> None:
        if self.quiz:
            self.quiz.free_play = on and self.quiz.unlocked
            if on and not self.quiz.unlocked:
                self._message = text("gfp_panel.locked")

    def _changed(self, change: Any) -> None:
        if self.quiz and change["name"] != "other":
            # The answers were about another request.
            self.quiz.verdicts = {}
        if change["name"] == "release":
            self._errors = ["", ""]
        self._outbox.request()

    def _on_msg(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        values = dict(content)
        self.act(values.pop("do"), **values)

    # -- keeping the page up to date --------------------------------------------------------------

    def _fill(self) -> None:
        requests, quiz = self.requests, self.quiz
        self.state = {
            "releases": list(RELEASES),
            "release": self.release,
            "archs": list(ZONE_NAMES),
            "arch": self.arch,
            "orders": [order_text(order) for order in range(_TOP_ORDER + 1)],
            "order": self.order,
            "atomic": self.atomic,
            "compare": self.other is not None,
            "composites": list(_COMPOSITES),
            "masks": [self._mask_state(n, r) for n, r in enumerate(requests)],
            "bits": [bit_state(bit, requests) for bit in self.bits],
            "differences": self.differences(),
            "notes": self._notes(),
            "sections": [section_state(key, requests, self.asking) for key in SECTIONS],
            "quiz": quiz_state(quiz, requests[0]) | {"message": self._message} if quiz else None,
            "asking": self.asking,
        }

    def _mask_state(self, which: int, r: Request) -> dict[str, Any]:
        typed = self._typed[which]
        composites = [name for name in _COMPOSITES if encode(name, self.release) == r.mask]
        # What was typed stays while it means this mask in this release, or cannot be read.
        if not self._errors[which] and not _means(typed, r):
            typed = decode(r.mask, self.release) or "0"
        return {
            "label": self._labels()[which],
            "hex": r.hex,
            "prints": text("gfp_panel.prints", hex=r.hex, names=r.names),
            "typed": typed,
            "error": self._errors[which],
            "composite": composites[0] if composites else "",
            "summary": "" if self.asking else summary(r),
        }


def _means(typed: str, r: Request) -> bool:
    """Whether what was typed is one way to write the request's mask."""
    try:
        return bool(typed) and read(typed, r.release)[0] == r.mask
    except ValueError:
        return False
