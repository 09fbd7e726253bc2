"""Lesson 02: situations, and the mask for each.

An answer is not compared with a mask: what it does is compared with what the situation needs, one
need after the other, by the rules of `kmemkit.gfp`. So every mask that fits is right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from kmemkit.gfp import (
    MIGRATETYPE_NAMES,
    ZONE_NAMES,
    Effort,
    decode,
    effects,
    encode,
    gfp_migratetype,
    gfp_zone,
    legality,
    profile,
)
from kmemkit.lessons._check import (
    Misfit,
    Outcome,
    Problem,
    Sheet,
    Verdict,
    fill_in,
    is_blank,
    is_unknown,
    judge_each,
    kindly,
)
from kmemkit.lessons.gfp_check import miss, typed_mask
from kmemkit.strings import text

__all__ = ("check", "problem")

_COUNT = 5
_HARDWALL = encode("__GFP_HARDWALL")
_DMA, _HIGH, _IO, _FS, _MOVABLE = (
    encode(f"__GFP_{name}") for name in ("DMA", "HIGH", "IO", "FS", "MOVABLE")
)


@dataclass(frozen=True, slots=True)
class _Situation:
    """What a caller needs: name of a need -> what it must come out as."""

    name: str
    needs: tuple[tuple[str, object], ...]
    order: int = 0
    arch: str = "x86_64"
    atomic: bool = False
    #: a mask that does it, shown to "I do not know"; a test holds that it does
    example: str = ""

    def ask(self) -> str:
        """Return the situation in words."""
        return text(f"lesson.gfp.compose.{self.name}")


@dataclass(frozen=True, slots=True)
class _Mask:
    """An answer in a situation."""

    mask: int
    situation: _Situation

    def value(self, need: str) -> object:
        """Return how one need comes out with this mask."""
        return _NEEDS[need](self.mask, self.situation)


def _effects_of(name: str) -> Callable[[int, _Situation], object]:
    return lambda mask, s: getattr(effects(mask, s.order, s.arch), name)


_NEEDS: dict[str, Callable[[int, _Situation], object]] = {
    "sleep": _effects_of("may_sleep"),
    "io": _effects_of("may_io"),
    "fs": _effects_of("may_fs"),
    "kswapd": _effects_of("wakes_kswapd"),
    "percent": _effects_of("min_percent"),
    "zone": lambda mask, s: ZONE_NAMES[s.arch][gfp_zone(mask, s.arch)],
    "type": lambda mask, s: MIGRATETYPE_NAMES[gfp_migratetype(mask)],
    "hardwall": lambda mask, s: bool(mask & _HARDWALL),
    "account": _effects_of("accounted"),
    "zero": _effects_of("zeroed"),
    "loud": _effects_of("reports_failure"),
    "effort": _effects_of("effort"),
    "oom": _effects_of("may_oom"),
}
_FREE = (("sleep", True), ("io", True), ("fs", True), ("kswapd", True), ("percent", 100.0))
_STAYS = ("type", "MIGRATE_UNMOVABLE")
_ATOMIC = (("sleep", False), ("kswapd", True))

_SITUATIONS = (
    _Situation(
        "probe",
        (*_FREE, ("zone", "Normal"), _STAYS, ("hardwall", False), ("account", False)),
        example="GFP_KERNEL",
    ),
    _Situation(
        "refill",
        (*_ATOMIC, ("percent", 100.0), ("loud", False)),
        atomic=True,
        example="GFP_NOWAIT",
    ),
    _Situation("event", (*_ATOMIC, ("percent", 37.5)), atomic=True, example="GFP_ATOMIC"),
    _Situation("untrusted", (*_FREE, ("account", True), _STAYS), example="GFP_KERNEL_ACCOUNT"),
    _Situation(
        "fault",
        (*_FREE, ("type", "MIGRATE_MOVABLE"), ("zone", "Movable"), ("hardwall", True)),
        example="GFP_HIGHUSER_MOVABLE",
    ),
    _Situation(
        "frame",
        (*_FREE, _STAYS, ("zone", "HighMem"), ("hardwall", True)),
        arch="i386",
        example="GFP_HIGHUSER",
    ),
    _Situation(
        "shared",
        (*_FREE, _STAYS, ("zone", "Normal"), ("hardwall", True)),
        arch="i386",
        example="GFP_USER",
    ),
    _Situation("device", (*_FREE, ("zone", "DMA32")), example="GFP_KERNEL|GFP_DMA32"),
    _Situation(
        "optional",
        (*_FREE, ("effort", Effort.ONE_ROUND), ("loud", False)),
        order=3,
        example="GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN",
    ),
    _Situation(
        "spare_others",
        (*_FREE, ("oom", False), ("effort", Effort.WHILE_USEFUL), ("zone", "Normal")),
        order=2,
        example="GFP_KERNEL|__GFP_RETRY_MAYFAIL",
    ),
    _Situation(
        "zeroed",
        (*_FREE, ("zero", True), ("zone", "Normal"), _STAYS),
        example="GFP_KERNEL|__GFP_ZERO",
    ),
)


def _situations(seed: int) -> list[_Situation]:
    """Return five situations; one of them is atomic at least."""
    random = Random(seed)
    while True:
        drawn = random.sample(_SITUATIONS, _COUNT)
        if any(situation.atomic for situation in drawn):
            return drawn


def problem(seed: int) -> Problem:
    """Return the five situations of a seed."""
    return Problem(tuple(f"{n}. {s.ask()}" for n, s in enumerate(_situations(seed), 1)))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of five masks, each as names: "GFP_KERNEL|__GFP_ZERO".

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _situations(seed), _check_one)


def _check_one(situation: _Situation, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    if is_unknown(answer):
        told = text("lesson.gfp.compose.one_way", mask=situation.example)
        return Verdict(Outcome.UNKNOWN, told)
    try:
        mask = typed_mask(answer, profile("6.12"))
    except (Misfit, ValueError) as error:
        return Verdict(Outcome.OPEN, str(error))
    shown = f"{mask:#x} = {decode(mask) or text('gfp.no_names')}"
    found = legality(mask, situation.order, atomic=situation.atomic)
    said = _Mask(mask, situation)
    for need, wanted in situation.needs:
        got = said.value(need)
        if got != wanted:
            sentence = text(
                f"lesson.gfp.need.{need}",
                mask=shown,
                got=_word(got),
                wanted=_word(wanted),
            )
            return miss(sentence, _idea(need, mask, wanted, got))
    if found:
        return miss(text("lesson.gfp.compose.illegal", mask=shown, finding=found[0]))
    return Verdict(Outcome.RIGHT, text("lesson.gfp.compose.fits", mask=shown))


def _word(value: object) -> str:
    """Return how a need comes out, as a word of the language."""
    if isinstance(value, bool):
        return text("gfp.yes" if value else "gfp.no")
    if isinstance(value, Effort):
        return text(f"lesson.gfp.effort.{value.name.lower()}")
    return f"{value:g} %" if isinstance(value, float) else str(value)


def _idea(need: str, mask: int, wanted: object, got: object) -> str:
    """Return the idea that leads to a mask that fails this need, "" if none is known."""
    if need == "sleep" and got:
        if mask & _HIGH:
            return "kernel_high"
        return "kernel_anywhere" if mask & _FS else "noio_awake"
    if need == "sleep":
        return "atomic_everywhere"
    if need == "percent":
        return "reserve_for_all" if wanted == 100.0 else "waiting_is_reserve"
    if need == "zone":
        if wanted == "Movable" and mask & _MOVABLE:
            return "movable_alone"
        return "dma_for_any" if mask & _DMA else "user_needs_address"
    if need == "effort" or need == "oom":
        return "kernel_gives_up" if got in (Effort.REPEAT, True) else "retries_alike"
    if need == "type":
        return "user_needs_address" if wanted == "MIGRATE_MOVABLE" else "user_is_movable"
    return "kernel_is_free" if need == "account" and wanted else ""
