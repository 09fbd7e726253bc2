"""Predictions about a GFP mask: the three questions, the verdicts, and the ideas behind a miss.

GfpPanel asks before it shows what a mask does, when it is made with `predict=True`. What is right
is worked out from the mask by `kmemkit.gfp`; the ideas only say which well-known mistake would have
given the learner's answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

from kmemkit.gfp import ZONE_NAMES, effects, encode, profile
from kmemkit.strings import text
from kmemkit.views._gfp_rows import Request
from kmemkit.views.prediction import Verdict

__all__ = ("DEALT", "QUESTIONS", "UNKNOWN", "Quiz", "option_text", "options", "truth")

QUESTIONS = ("sleep", "where", "hard")
UNKNOWN = "unknown"
#: Masks to ask about. Each has at least one answer that a popular sentence gets wrong.
DEALT = (
    *("GFP_KERNEL", "GFP_ATOMIC", "GFP_NOWAIT", "GFP_NOIO", "GFP_NOFS", "GFP_USER", "GFP_HIGHUSER"),
    *("GFP_HIGHUSER_MOVABLE", "GFP_KERNEL|__GFP_HIGH", "GFP_KERNEL|__GFP_MOVABLE"),
    *("GFP_KERNEL|GFP_DMA", "GFP_ATOMIC|GFP_DMA32", "GFP_KERNEL & ~__GFP_DIRECT_RECLAIM"),
    *("GFP_NOFS|__GFP_HIGH", "GFP_KERNEL|__GFP_MEMALLOC", "GFP_HIGHUSER & ~__GFP_RECLAIM"),
)
_FLAG = profile("6.12").values
_MOVABLE, _HIGHMEM, _DMA32 = (_FLAG[f"__GFP_{name}"] for name in ("MOVABLE", "HIGHMEM", "DMA32"))
_HIGH, _SLEEP, _IO, _FS = (
    _FLAG[f"__GFP_{name}"] for name in ("HIGH", "DIRECT_RECLAIM", "IO", "FS")
)


class Quiz:
    """Deals masks in the order of a seed, judges answers, and counts them.

    Attributes:
        verdicts: what came of the last answers, by question; empty while they are open.
        counts: right, wrong and "I do not know" so far.
        free_play: whether everything is shown without a question; possible after the first answer.
    """

    def __init__(self, seed: int) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self.counts = {"right": 0, "wrong": 0, "unknown": 0}
        self.free_play = False
        self._random = Random(seed)
        self._left: list[tuple[str, str]] = []

    @property
    def unlocked(self) -> bool:
        """Whether free play may be switched on."""
        return sum(self.counts.values()) > 0

    @property
    def open(self) -> bool:
        """Whether answers are waited for, so that nothing may be shown."""
        return not self.verdicts and not self.free_play

    def deal(self) -> tuple[int, str]:
        """Return the next (mask, arch) to ask about; every fourth on i386."""
        if not self._left:
            masks = self._random.sample(DEALT, len(DEALT))
            self._left = [(m, "i386" if n % 4 == 3 else "x86_64") for n, m in enumerate(masks)]
        self.verdicts = {}
        names, arch = self._left.pop(0)
        return encode(names), arch

    def judge(self, request: Request, answers: Mapping[str, str]) -> None:
        """Record one answer to each question; one that is missing is "I do not know"."""
        for question in QUESTIONS:
            said = answers.get(question) or UNKNOWN
            verdict = _verdict(request, question, said)
            name = {True: "right", False: "wrong", None: "unknown"}[verdict.right]
            self.counts[name] += 1
            self.verdicts[question] = verdict

    def score(self) -> str:
        """Return the count of predictions as one line."""
        return text("gfp_panel.score", **self.counts)


def options(request: Request, question: str) -> tuple[str, ...]:
    """Return what may be answered to one question, without "I do not know"."""
    if question == "sleep":
        return ("yes", "no")
    if question == "where":
        return tuple(name for name in ZONE_NAMES[request.arch] if name != "Device")
    return ("100", "50", "37.5", "0")


def option_text(question: str, option: str) -> str:
    """Return an answer as the learner reads it."""
    if question == "where" or option == UNKNOWN:
        return option if option != UNKNOWN else text("gfp_panel.unknown")
    if question == "hard":
        return text("gfp_panel.share", percent=option)
    return text(f"gfp_panel.sleeps_short.{option}")


def truth(request: Request, question: str) -> str:
    """Return the option that is right by the rules of 6.12."""
    can = effects(request.mask, request.order, request.arch)
    if question == "sleep":
        return "yes" if can.may_sleep else "no"
    return request.zones[0] if question == "where" else f"{can.min_percent:g}"


def _verdict(request: Request, question: str, said: str) -> Verdict:
    right = truth(request, question)
    told = option_text(question, right)
    if said == UNKNOWN:
        return Verdict(None, text("gfp_panel.not_known", told=told))
    if said == right:
        return Verdict(True, text("gfp_panel.right", told=told))
    sentence = text("gfp_panel.wrong", said=option_text(question, said), told=told)
    for idea in _ideas(request, question, said):
        name = text(f"gfp_panel.idea_name.{idea}")
        return Verdict(False, sentence, idea, name, text(f"gfp_panel.idea.{idea}"))
    return Verdict(False, sentence)


def _ideas(request: Request, question: str, said: str) -> Iterator[str]:
    """Yield the ideas that would have given the wrong answer `said`, the most telling first."""
    m, right = request.mask, truth(request, question)
    if question == "sleep":
        if said == "no" and m & _HIGH:
            yield "high_is_atomic"
        if said == "no" and not m & _IO:
            yield "noio_stays_awake"
        if said == "no" and not m & _FS:
            yield "nofs_stays_awake"
        yield "kswapd_is_waiting" if said == "yes" else "kernel_is_safe"
    elif question == "where":
        if said == "Movable" and m & _MOVABLE:
            yield "movable_alone"
        if right == "Movable":
            yield "movable_is_a_hint"
        if request.arch == "i386" and said == "DMA" and m & _DMA32:
            yield "dma32_means_dma"
        if right == "HighMem":
            yield "highmem_is_user"
        if right in ("DMA", "DMA32"):
            yield "zone_bit_is_a_floor"
        if said in ("DMA", "DMA32"):
            yield "lowest_first"
    elif said == "37.5" and right == "50":
        yield "sleeper_gets_all"
    elif said == "0":
        yield "reserves_are_all"
    elif right == "100":
        yield "atomic_means_reserve"
