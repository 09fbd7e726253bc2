"""Lesson 04: compute watermarks and a lowmem_reserve, as the kernel does when a sysctl is written.

The check writes the sysctls in a simulated machine, and reads what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

from kmemkit.lessons._check import (
    Outcome,
    Problem,
    Sheet,
    Verdict,
    judge,
    kindly,
    number,
    spread,
)
from kmemkit.lessons.zone_check import miss
from kmemkit.mm.kernel import Kernel
from kmemkit.snapshot import ZoneSnapshot
from kmemkit.strings import text

__all__ = ("check", "machine", "problem")

_PARTS = ("min", "low", "high", "reserve", "least")


@dataclass(frozen=True, slots=True)
class _Sysctls:
    """What is written."""

    min_free_kbytes: int
    ratio: int  #: of zone DMA, in vm.lowmem_reserve_ratio


def _sysctls(seed: int) -> _Sysctls:
    random = Random(seed)
    return _Sysctls(random.choice((4096, 6000, 10000, 12288, 16384)), random.choice((128, 64, 32)))


@cache
def _written(seed: int) -> tuple[ZoneSnapshot, ZoneSnapshot]:
    """Return zones DMA and DMA32 after the sysctls were written."""
    dma, dma32 = machine(seed).snapshot().zones
    return dma, dma32


def machine(seed: int) -> Kernel:
    """Boot 256 MiB and write the sysctls of a seed."""
    kernel, values = Kernel(ram="256M"), _sysctls(seed)
    kernel.sysctl("vm.min_free_kbytes", values.min_free_kbytes)
    kernel.sysctl("vm.lowmem_reserve_ratio", (values.ratio, 256, 32, 0, 0))
    return kernel


def problem(seed: int) -> Problem:
    """Return the machine, what is written, and the five numbers asked for."""
    (dma, dma32), values = _written(seed), _sysctls(seed)
    head = text(
        "lesson.zones.marks.head",
        dma=f"{dma.managed:,}",
        dma32=f"{dma32.managed:,}",
        kbytes=values.min_free_kbytes,
        ratio=values.ratio,
    )
    asked = (text(f"lesson.zones.marks.ask.{part}", low=dma.low) for part in _PARTS)
    return Problem((head, *(f"{n}. {line}" for n, line in enumerate(asked, 1))))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of five numbers of pages.

    An answer of another form is not answered yet, and told so.
    """
    (dma, dma32), values = _written(seed), _sysctls(seed)
    reserve = dma.lowmem_reserve[1]
    truth = (dma32.min, dma32.low, dma32.high, reserve, dma.low + reserve + 1)
    rows = []
    for part, right, answer in zip(_PARTS, truth, spread(answers, len(_PARTS)), strict=True):
        ideas = _ideas(part, dma, dma32, values)
        rows.append(_check_one(part, answer, right, ideas))
    return Sheet(tuple((f"{n}.", verdict) for n, verdict in enumerate(rows, 1)))


def _check_one(part: str, answer: object, truth: int, ideas: dict[int, str]) -> Verdict:
    """Judge one number; ideas of this lesson have sentences of their own."""
    told = text(f"lesson.zones.marks.told.{part}", value=f"{truth:,}")
    rule = text(f"lesson.zones.marks.rule.{part}")

    def refute(said: int) -> str:
        return text("lesson.zones.marks.refute", said=f"{said:,}", rule=rule)

    verdict = judge(answer, truth, told=told, refute=refute, ideas={})
    if verdict.outcome is not Outcome.WRONG:
        return verdict
    return miss(verdict.sentence, ideas.get(number(answer) or 0, ""))


def _ideas(part: str, dma: ZoneSnapshot, dma32: ZoneSnapshot, values: _Sysctls) -> dict[int, str]:
    """Return wrong number -> the idea that leads to it."""
    pages, all_pages = values.min_free_kbytes // 4, dma.managed + dma32.managed
    reserve = dma.lowmem_reserve[1]
    of: dict[str, dict[int, str]] = {
        "min": {
            values.min_free_kbytes * dma32.managed // all_pages: "kb_as_pages",
            pages: "whole_for_each",
            pages // 2: "equal_shares",
        },
        "low": {2 * dma32.min: "doubles", dma32.min + dma32.managed // 1000: "scale_only"},
        "high": {
            dma32.low + dma32.low // 4: "compounds",
            3 * dma32.min: "doubles",
            dma32.low: "one_gap",
        },
        "reserve": {
            dma.managed // values.ratio: "own_size",
            all_pages // values.ratio: "own_counts_too",
            dma32.managed * values.ratio // 256: "ratio_is_share",
        },
        "least": {
            dma.low + reserve: "or_equal",
            dma.low + 1: "no_reserve",
            reserve + 1: "reserve_alone",
            dma.low: "no_reserve",
        },
    }
    return of[part]
