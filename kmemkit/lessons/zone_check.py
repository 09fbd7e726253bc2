"""What the exercises of lesson 04 share: a miss with its idea, and zones as learners write them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

from kmemkit.lessons._check import Misfit, wrong
from kmemkit.strings import text

__all__ = ("Place", "idea_of", "miss", "place_text", "places")

#: A node and the name of one of its zones.
Place = tuple[int, str]

_NAMES = {name.lower(): name for name in ("DMA", "DMA32", "Normal", "HighMem", "Movable")}
_PLACE = re.compile(r"(?:node\s*)?(?:(\d+)\s*[/:,]?\s*)?(dma32|dma|normal|highmem|movable)\b")
#: What may stand between two zones.
_BETWEEN = re.compile(r"(?:[\s,;>\-\u2192()\[\]'\"]|\bthen\b|\band\b|zone)*")


#: The verdict on a wrong answer; its idea is a key under `lesson.zones.idea`.
miss = partial(wrong, section="zones")


def idea_of(said: object, ideas: Mapping[str, object]) -> str:
    """Return the first idea that leads to `said`, "" if none does."""
    return next((idea for idea, answer in ideas.items() if answer == said), "")


def place_text(place: Place, many: bool) -> str:
    """Return a zone as text: with its node where there are several."""
    return f"{place[0]}/{place[1]}" if many else place[1]


def places(answer: object, known: Sequence[Place]) -> list[Place]:
    """Return the zones that a learner wrote, as "Normal DMA32 DMA" or "1/Normal 0/Normal".

    Args:
        answer: text, or a list of texts.
        known: the machine's zones; a node may be left out where only one node has such a zone.

    Raises:
        Misfit: it names no zones, or leaves a node out where it matters.
    """
    parts = answer if isinstance(answer, list | tuple) else [answer]
    said = " ".join(map(str, parts)).strip().lower()
    found = list(_PLACE.finditer(said))
    if not found or _BETWEEN.fullmatch(_PLACE.sub(" ", said)) is None:
        example = " ".join(place_text(place, _many(known)) for place in known[:2])
        raise Misfit(text("lesson.zones.not_zones", answer=repr(answer), example=example))
    return [_place(match, known) for match in found]


def _many(known: Sequence[Place]) -> bool:
    return len({nid for nid, _ in known}) > 1


def _place(match: re.Match[str], known: Sequence[Place]) -> Place:
    name = _NAMES[match[2]]
    nids = [nid for nid, zone in known if zone == name]
    if match[1] is not None:
        return int(match[1]), name
    if len(nids) > 1:
        raise Misfit(text("lesson.zones.which_node", name=name))
    return (nids[0] if nids else 0), name
