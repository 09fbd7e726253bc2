"""Lesson 02: masks out of kernel logs, to be read by the names of the kernel that printed them.

A verdict encodes the learner's names again and compares the bits, so every way to write the same
mask is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from kmemkit.gfp import RELEASES, GfpWarning, Profile, decode, encode, profile
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

#: One line of the problem is drawn from each row: (release, mask) as its kernel would print it.
_LINES = (
    (("5.10", 0xA20), ("5.15", 0xA20), ("6.1", 0xA20)),
    (("6.6", 0x820), ("6.12", 0x820), ("6.18", 0x820)),
    (("5.10", 0x820), ("6.1", 0x820), ("6.1", 0x2820)),
    (("6.1", 0x800), ("6.6", 0x800), ("6.12", 0x2800), ("6.12", 0x800)),
    (("5.15", 0x1100CCA), ("6.12", 0x140DCA), ("6.1", 0x100CCA)),
    (("6.12", 0x40CC0), ("6.12", 0x400DC0), ("6.12", 0xD2CC0), ("5.10", 0xDC0), ("6.12", 0xCC1)),
    (("6.12", 0x8C0), ("6.12", 0xC0), ("6.12", 0xCE0), ("6.12", 0x52820)),
)


@dataclass(frozen=True, slots=True)
class _Line:
    release: str
    mask: int

    @property
    def names(self) -> Profile:
        return profile(self.release)

    def fields(self) -> dict[str, object]:
        return {
            "release": self.release,
            "mask": f"{self.mask:#x}",
            "names": decode(self.mask, self.names),
        }


def _lines(seed: int) -> list[_Line]:
    random = Random(seed)
    lines = [_Line(*random.choice(row)) for row in _LINES]
    random.shuffle(lines)
    return lines


def problem(seed: int) -> Problem:
    """Return seven masks, each with the kernel whose log it stands in."""
    lines = enumerate(_lines(seed), 1)
    return Problem(tuple(f"{n}. {text('lesson.gfp.decode.ask', **x.fields())}" for n, x in lines))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of seven answers, each the names of one mask: "GFP_KERNEL|__GFP_ZERO".

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _lines(seed), _check_one)


def _check_one(line: _Line, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    told = text("lesson.gfp.decode.told", **line.fields())
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    try:
        said = typed_mask(answer, line.names)
    except Misfit as misfit:
        return Verdict(Outcome.OPEN, str(misfit))
    except ValueError as error:
        if _fits_elsewhere(line, str(answer)):
            return miss(text("lesson.gfp.decode.elsewhere", error=error), "one_meaning")
        return Verdict(Outcome.OPEN, str(error))
    if said == line.mask:
        return Verdict(Outcome.RIGHT, told)
    fields = line.fields() | {
        "said": f"{said:#x}",
        "missing": decode(line.mask & ~said, line.names) or text("lesson.gfp.nothing"),
        "extra": decode(said & ~line.mask, line.names) or text("lesson.gfp.nothing"),
    }
    return miss(text("lesson.gfp.decode.wrong", **fields), _idea(line, str(answer), said))


def _idea(line: _Line, answer: str, said: int) -> str:
    if _fits_elsewhere(line, answer):
        return "one_meaning"
    sleeps = line.names.values["__GFP_DIRECT_RECLAIM"]
    high = line.names.values["__GFP_HIGH"]
    if line.mask & high and (line.mask ^ said) & sleeps:
        return "kernel_high"
    return "first_name" if said and said & line.mask == said else ""


def _fits_elsewhere(line: _Line, answer: str) -> bool:
    """Whether the names would be right in another release."""
    for release in RELEASES:
        try:
            if encode(answer, release) == line.mask:
                return True
        except (ValueError, GfpWarning):
            continue
    return False
