"""What the exercises of lesson 06 share: a miss with its idea, and moves as learners write them."""

from __future__ import annotations

import re
from functools import partial

from kmemkit.lessons._check import Misfit, wrong
from kmemkit.strings import text

__all__ = ("miss", "typed_moves")

_PFN = re.compile(r"0x[0-9a-f]+|\d+")
#: What may stand between and around the pfns of moves, in text or as a list of pairs.
_BETWEEN = re.compile(r"(?:to|pfn|and|moves|->|→|[\s,;:>()\[\]'\"-])*")


#: The verdict on a wrong answer; its idea is a key under `lesson.fragmentation.idea`.
miss = partial(wrong, section="fragmentation")


def typed_moves(answer: object) -> list[tuple[int, int]]:
    """Return the moves of "0x12 -> 0x7e, 0x13 -> 0x7c", or of [(0x12, 0x7e), ...], as pfns.

    Raises:
        Misfit: something else stands there, or a pfn without its partner.
    """
    typed = str(answer).lower()
    pfns = [int(pfn, 0 if pfn.startswith("0x") else 10) for pfn in _PFN.findall(typed)]
    rest = _PFN.sub(" ", typed)
    if not pfns or len(pfns) % 2 or not _BETWEEN.fullmatch(rest):
        raise Misfit(text("lesson.fragmentation.not_moves", given=repr(answer)))
    return list(zip(pfns[::2], pfns[1::2], strict=True))
