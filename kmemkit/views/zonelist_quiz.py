"""The prediction before a walk: which zone serves, the verdict, and the idea behind a miss.

ZonelistWalker asks when it is made with `predict=True`. What is right is what the run did; the
ideas only say which well-known mistake would have named the learner's zone.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemkit.strings import text
from kmemkit.views.prediction import Verdict
from kmemkit.views.zonelist_plan import Entry, Plan

__all__ = ("NOBODY", "UNKNOWN", "answers", "judge")

#: Answers that are no place in the list.
NOBODY, UNKNOWN = "nobody", "unknown"

_Ideas = Iterator[tuple[str, dict[str, object]]]


def answers(plan: Plan) -> dict[str, str]:
    """Return answer -> how it reads: each place of the list, none of them, and not known."""
    places = {str(place): entry.name for place, entry in enumerate(plan.entries)}
    return places | {
        NOBODY: text("zonelist.nobody_option"),
        UNKNOWN: text("zonelist.unknown_option"),
    }


def judge(plan: Plan, answer: str) -> Verdict:
    """Compare an answer, a key of `answers(plan)`, with the run."""
    said = int(answer) if answer.isdecimal() else None
    told = text("zonelist.nobody_option") if plan.served is None else plan.entries[plan.served].name
    told = f"{told}, {plan.result}"
    if answer == UNKNOWN:
        return Verdict(None, text("zonelist.unknown", told=told))
    if said == plan.served:
        return Verdict(True, text("zonelist.right", told=told))
    sentence = text("zonelist.wrong", said=answers(plan)[answer], told=told)
    for idea, values in _nobody_ideas(plan) if said is None else _zone_ideas(plan, said):
        name = text(f"zonelist.idea_name.{idea}")
        return Verdict(False, sentence, idea, name, text(f"zonelist.idea.{idea}", **values))
    return Verdict(False, sentence)


def _nobody_ideas(plan: Plan) -> _Ideas:
    """Yield the ideas that expect NULL where a zone served."""
    assert plan.served is not None
    shown: dict[str, object] = {"served": plan.entries[plan.served].name}
    last = plan.checks(len(plan.moves))[plan.served]
    if last.mark == "min" and last.level < plan.entries[plan.served].marks.min:
        yield "min_is_the_end", shown
    if last.mark == "min":
        yield "low_is_the_end", shown
    refused = plan.states(len(plan.moves))[: plan.served]
    if any(state in ("failed", "no_block", "empty") for state in refused):
        yield "gives_up", shown
    if last.mark == "low":
        yield "high_decides", shown


def _zone_ideas(plan: Plan, said: int) -> _Ideas:
    """Yield the ideas that expect entry `said` to serve."""
    entry = plan.entries[said]
    zone, shown = entry.zone, _shown(plan, entry)
    if entry.skip == "above":
        yield "above", shown
    if entry.skip == "node":
        yield "other_node", shown
    looks = [m.check for m in plan.moves if m.entry == said and m.check and m.check.mark != "high"]
    if looks and not looks[0].ok:
        look = looks[0]
        left = look.free - look.less
        values = shown | {
            "free": f"{look.free:,}",
            "mark": f"{look.level:,}",
            "reserve": f"{look.reserve:,}",
            "sum": f"{look.level + look.reserve:,}",
        }
        if look.level < left <= look.level + look.reserve:
            yield "no_reserve", values
        yield ("free_is_enough" if plan.served is None else "all_mine"), values
    if plan.served is None:
        yield "free_is_enough", shown
        return
    served = plan.entries[plan.served].zone
    if zone.nid != served.nid and zone.idx >= served.idx:
        yield "node_last", shown
    if zone.free == max(other.zone.free for other in plan.entries):
        yield "fullest", shown
    if zone.idx < served.idx:
        yield "lowest", shown


def _shown(plan: Plan, entry: Entry) -> dict[str, object]:
    """Return what the sentences about an idea put in."""
    shown: dict[str, object] = {
        "zone": entry.name,
        "free": f"{entry.zone.free:,}",
        "highest": plan.request.highest_name,
    }
    if plan.served is not None:
        shown["served"] = plan.entries[plan.served].name
    return shown
