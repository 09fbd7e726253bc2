"""Predictions about one page request: the question, the verdict, and the wrong idea behind a miss.

BuddyLab asks a `Question` before it lets the kernel act, and hands the answer, with the machine
before and after, to `judge()`. What counts as right is only what the simulation did; the ideas
below merely say which well-known mistake would have given the learner's answer. Each of them is a
small wrong allocator: it names the block that somebody who believes it would have chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from kmemkit.snapshot import MIGRATE_NAMES, Kind, Snapshot, ZoneSnapshot, order_text
from kmemkit.strings import text

__all__ = ("Answer", "Prediction", "Question", "Verdict", "judge", "parse_answer")


class Answer(Enum):
    """An answer that is not a number."""

    UNKNOWN = "unknown"  #: "I do not know": allowed, and counted
    FAILS = "fails"  #: the request will get NULL


#: A page frame number (allocation), an order (free), or an `Answer`.
Prediction = int | Answer


@dataclass(frozen=True, slots=True)
class Question:
    """One request that waits for a prediction. `pfn` is set where the request frees a block."""

    call: str
    order: int
    migratetype: int = 0
    pfn: int | None = None

    @property
    def frees(self) -> bool:
        """Whether the request gives a block back."""
        return self.pfn is not None

    def __str__(self) -> str:
        key = "buddy_lab.ask_free" if self.frees else "buddy_lab.ask_alloc"
        return text(key, call=self.call, size=order_text(self.order))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a prediction. `right` is None for "I do not know"."""

    right: bool | None
    sentence: str
    idea: str = ""  #: key of the recognised wrong idea under `buddy_lab.idea`, or ""
    idea_name: str = ""
    idea_text: str = ""

    def __str__(self) -> str:
        named = f"{self.idea_name} {self.idea_text}" if self.idea else ""
        return f"{self.sentence}\n{named}".strip()


def parse_answer(question: Question, answer: str) -> int:
    """Return the number a learner typed: a pfn in hex (0x may be left out), an order in decimal.

    Raises:
        ValueError: it is not such a number; the message says what is accepted.
    """
    try:
        value = int(answer.strip(), 10 if question.frees else 16)
        if value >= 0:
            return value
    except ValueError:
        pass
    key = "buddy_lab.not_an_order" if question.frees else "buddy_lab.not_a_pfn"
    raise ValueError(text(key, answer=answer.strip()))


def judge(
    question: Question, said: Prediction, before: Snapshot, after: Snapshot, got: int | None
) -> Verdict:
    """Compare a prediction with what the simulation did.

    `got` is the pfn an allocation returned (None for NULL); for a free it is not looked at.
    """
    if question.frees:
        order = after.page(question.pfn or 0).order
        actual: int | None = order
        told, said_text = order_text(order), text("buddy_lab.said_order", order=said)
        ideas = _free_ideas(question, said, before, after)
        right, wrong = "buddy_lab.right_free", "buddy_lab.wrong_free"
    else:
        actual = got
        told, said_text = _pfn_text(got), _pfn_text(said if isinstance(said, int) else None)
        ideas = _alloc_ideas(question, said, before, got)
        right, wrong = "buddy_lab.right_alloc", "buddy_lab.wrong_alloc"
    if said is Answer.UNKNOWN:
        return Verdict(None, text("buddy_lab.unknown", told=told))
    if (None if said is Answer.FAILS else said) == actual:
        return Verdict(True, text(right, told=told))
    sentence = text(wrong, said=said_text, told=told)
    for idea, values in ideas:
        name = text(f"buddy_lab.idea_name.{idea}")
        return Verdict(False, sentence, idea, name, text(f"buddy_lab.idea.{idea}", **values))
    return Verdict(False, sentence)


def _pfn_text(pfn: int | None) -> str:
    return text("buddy_lab.null") if pfn is None else text("buddy_lab.pfn", pfn=f"{pfn:#x}")


_Ideas = Iterator[tuple[str, dict[str, object]]]


def _alloc_ideas(question: Question, said: Prediction, before: Snapshot, got: int | None) -> _Ideas:
    """Yield the ideas that would have given `said`, the most telling first."""
    order, need = question.order, order_text(question.order)
    if got is None:
        pages = sum(zone.free for zone in before.zones)
        largest = max((o for zone in before.zones for o, _ in zone.free_lists()), default=0)
        if pages >= 1 << order:
            idea = "free_is_enough" if largest < order else "kept_back"
            yield idea, {"pages": f"{pages:,}", "largest": order_text(largest), "need": need}
        return
    if not isinstance(said, int):
        info = before.page(got)
        yield "gives_up", {"need": need, "block": order_text(info.order), "head": f"{info.head:#x}"}
        return
    yield from _wrong_allocators(question, said, before, got)
    if not before.first_pfn <= said < before.end_pfn:
        yield "outside", {"first": f"{before.first_pfn:#x}", "last": f"{before.end_pfn - 1:#x}"}
        return
    info = before.page(said)
    shown: dict[str, object] = {"said": f"{said:#x}", "need": need}
    if info.kind.allocated:
        yield "in_use", shown | {"owner": info.owner or "-"}
    elif info.kind not in (Kind.FREE, Kind.PCP):
        yield "not_free", shown
    elif said & ((1 << order) - 1):
        yield "unaligned", shown | {"pages": f"{1 << order:,}"}
    elif info.order < order:
        yield "too_small", shown | {"block": order_text(info.order)}


def _wrong_allocators(question: Question, said: int, before: Snapshot, got: int) -> _Ideas:
    """Yield the well-known wrong search rules whose choice is `said`."""
    order, kind, block = question.order, question.migratetype, before.page(got)
    zone = block.zone
    assert zone is not None
    if block.kind is Kind.PCP:
        if said == _smallest(zone, order, kind):
            yield "pcp_first", {"got": f"{got:#x}", "said": f"{said:#x}"}
        return
    own = [o for o in range(order, zone.max_order + 1) if zone.nr_free(o, kind)]
    chosen = zone.free_list(own[0], kind) if own else ()
    shown: dict[str, object] = {
        "said": f"{said:#x}",
        "got": f"{got:#x}",
        "order": order,
        "need": order_text(order),
        "block": order_text(block.order),
        "head": f"{block.head:#x}",
        "type": MIGRATE_NAMES[kind],
    }
    misread = (order - 1).bit_length() if order else 0
    if misread != order and said == _smallest(zone, misread, kind):
        yield "page_count", shown | {"misread": order_text(misread)}
    if own and said == zone.free_list(own[-1], kind)[0] != block.head:
        yield "largest", shown | {"largest": order_text(own[-1])}
    if block.head <= said < block.head + (1 << block.order):
        yield "part", shown
    if len(chosen) > 1 and said == chosen[-1]:
        yield "tail", shown | {"count": len(chosen)}
    elsewhere = said in [_smallest(zone, order, other) for other in range(3) if other != kind]
    if elsewhere:
        shown |= {"other": MIGRATE_NAMES[zone.pageblock_type(said)]}
    if elsewhere and not own:
        yield "smallest_fallback", shown
    fitting = [pfn for (o, _), pfns in zone.free_lists().items() if o >= order for pfn in pfns]
    if said == min(fitting):
        yield "lowest", shown
    top = max(fitting)
    if said in (top, top + (1 << before.page(top).order) - (1 << order)):
        yield "highest", shown
    if elsewhere:
        yield "other_type", shown


def _smallest(zone: ZoneSnapshot, order: int, kind: int) -> int | None:
    """Return the head of the first non-empty list of one type from `order` upward."""
    for o in range(order, zone.max_order + 1):
        if zone.nr_free(o, kind):
            return zone.free_list(o, kind)[0]
    return None


def _free_ideas(question: Question, said: Prediction, before: Snapshot, after: Snapshot) -> _Ideas:
    """Yield the ideas that would have given the order `said`, the most telling first."""
    if question.pfn is None or not isinstance(said, int):
        return
    order, info = question.order, after.page(question.pfn)
    actual, buddy = info.order, info.head ^ (1 << info.order)
    shown: dict[str, object] = {
        "pfn": f"{question.pfn:#x}",
        "said": said,
        "size": order_text(order),
        "top": order_text(actual),
        "pages": f"{1 << actual:,}",
        "head": f"{info.head:#x}",
        "buddy": f"{buddy:#x}",
    }
    if info.kind is Kind.PCP:
        yield "pcp_keeps", shown
    elif said < order:
        yield "shrinks", shown
    elif said < actual:
        yield "stays" if said == order else "once", shown
    else:
        if said == _naive_order(before, question.pfn, order):
            side = text("buddy_lab.below") if buddy < info.head else text("buddy_lab.above")
            yield "adjacent", shown | {"side": side}
        # An order read as a count adds up: two blocks of "order 2" would be one of "order 4".
        if (said == 1 << actual and actual > 1) or (said == 2 * order and order > 1):
            yield "page_count_free", shown
        if info.buddy is None:
            yield "no_buddy", shown
            return
        other = after.page(buddy)
        if other.kind is Kind.FREE:
            yield "partly_free", shown | {"part": order_text(other.order)}
        elif other.kind is Kind.PCP:
            yield "buddy_waits", shown
        else:
            yield "buddy_busy", shown | {"owner": other.owner or "-"}


def _naive_order(before: Snapshot, pfn: int, order: int) -> int:
    """Return the order somebody expects who lets any two free neighbours of one order merge."""
    free = {p: o for z in before.zones for (o, _), pfns in z.free_lists().items() for p in pfns}
    limit = max(zone.max_order for zone in before.zones)
    while order < limit:
        size = 1 << order
        if free.get(pfn + size) == order:
            pass
        elif free.get(pfn - size) == order:
            pfn -= size
        else:
            break
        order += 1
    return order
