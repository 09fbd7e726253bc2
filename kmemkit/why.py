"""Why a request ended as it did: its reasons, grouped by the rungs of the ladder it stood on.

`Kernel.why()` returns a `Why`, and every recorded `Step` has one. Views and lessons read it;
`diff()` lays two of them side by side, for "the same moment, one thing changed".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kmemkit.strings import text
from kmemkit.units import MIGRATE_NAMES, order_text

__all__ = ("RUNGS", "Event", "Pair", "Reason", "RoadDiff", "Rung", "Why", "diff")

#: The rungs of the road from alloc_pages() to a page or to NULL, in the order they are tried.
#: The first two belong to every request, the others to __alloc_pages_slowpath().
RUNGS = (
    "entry",  # order, scopes, zones: prepare_alloc_pages()
    "low",  # the free lists at the low mark
    "kswapd",  # wake_all_kswapds()
    "min",  # the free lists at the min mark, lowered for those with rights
    "compact_first",  # costly orders compact before they reclaim
    "reserves",  # the free lists with PF_MEMALLOC's or an OOM victim's rights
    "reclaim",  # __alloc_pages_direct_reclaim()
    "compact",  # __alloc_pages_direct_compact()
    "retry",  # should_reclaim_retry(), should_compact_retry()
    "oom",  # __alloc_pages_may_oom()
    "nofail",  # __GFP_NOFAIL's last attempt
    "null",  # warn_alloc() and NULL
)


class Event(NamedTuple):
    """One tracepoint hit: the tracepoint's own fields in their order, but for addresses."""

    seq: int
    name: str
    fields: tuple[tuple[str, object], ...]

    def __str__(self) -> str:
        return f"{self.name}: " + " ".join(f"{k}={v}" for k, v in self.fields)


class Reason(NamedTuple):
    """One line of an explanation: a string-table key under `why.` and the numbers put in."""

    key: str
    values: tuple[tuple[str, object], ...]

    @property
    def zone(self) -> str:
        """The zone that was looked at, "" for a rule that is not about one."""
        return str(dict(self.values).get("zone", ""))

    def __str__(self) -> str:
        values = dict(self.values)
        order = values.get("order")
        if isinstance(order, int):
            values |= {"size": order_text(order), "pages": 1 << order, "next": order + 1}
        for name in ("type", "new"):
            kind = values.get(name)
            if isinstance(kind, int):
                values[name] = MIGRATE_NAMES[kind]
        return text(f"why.{self.key}", **values)


#: Reasons that only tell how a block was taken from the lists, once a zone was chosen.
_TAKING = {
    *("list_empty", "list_taken", "split", "no_fallback", "steal", "boost", "pcp_hit"),
    *("pcp_refill", "pcp_free", "pcp_drain", "claim_too_small", "claim_whole"),
    *("claim_straddles", "claim_yes", "claim_no", "merge", "buddy_busy", "buddy_other_type"),
    *("to_head", "to_tail", "highatomic_reserve"),
}


class Rung(NamedTuple):
    """One rung a request stood on.

    `outcome` is "on" (nothing was to be decided), "page" (it got one here), "no" (tried, without
    success), "skip" (its flags leave the rung out), "woken", "progress", "kill", "again" (one more
    round) or "stop" (no more rounds).
    """

    name: str  #: one of RUNGS
    round: int  #: 0 on the way down, then 1, 2, ... for every turn of the retry loop
    outcome: str
    reasons: tuple[Reason, ...]

    @property
    def weighed(self) -> tuple[Reason, ...]:
        """The reasons that had a say, each once: all but how a block was taken from the lists."""
        return tuple(dict.fromkeys(r for r in self.reasons if r.key not in _TAKING))

    @property
    def decision(self) -> Reason | None:
        """The reason that decided: an inequality, or a rule of this rung; None if none is known.

        Where zones were looked at in vain it is the last look at the preferred one, and where one
        of them gave a page, the inequality that let the request in.
        """
        said = self.weighed or self.reasons
        passed = [reason for reason in said if reason.key == "watermark_ok"]
        rules = [reason for reason in said if not reason.zone]
        if self.outcome == "page" and passed:
            return passed[-1]
        if rules and self.outcome not in ("no", "page"):
            return rules[-1]
        if not said or not said[-1].zone or self.outcome != "no":
            return said[-1] if said else None
        looks = said[said.index(rules[-1]) + 1 :] if rules else said
        return [look for look in looks if look.zone == looks[0].zone][-1]

    @property
    def decided(self) -> str:
        """The line that decided, "" if none is known."""
        return "" if self.decision is None else str(self.decision)

    @property
    def word(self) -> str:
        """The outcome in a word or two; not every rung that gives no page was there to give one."""
        if self.outcome == "no" and self.name in ("kswapd", "retry", "oom"):
            return text(f"ladder.no.{self.name}")
        return text(f"road.outcome.{self.outcome}")

    def __str__(self) -> str:
        return f"{self.word}: {self.decided}" if self.reasons else self.word


@dataclass(frozen=True, slots=True)
class Why:
    """The last request, and every decision that led to its result, in order."""

    call: str
    result: str
    reasons: tuple[Reason, ...]
    #: where each rung begins: (index of its first reason, name, round, outcome)
    marks: tuple[tuple[int, str, int, str], ...] = ()

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The rungs the request stood on, in order, each with its reasons."""
        ends = (*(mark[0] for mark in self.marks[1:]), len(self.reasons))
        return tuple(
            Rung(name, turn, outcome, self.reasons[first:end])
            for (first, name, turn, outcome), end in zip(self.marks, ends, strict=False)
        )

    def lines(self) -> list[str]:
        """Return the explanation as lines of text, in the current language."""
        return [str(reason) for reason in self.reasons]

    def __str__(self) -> str:
        head = f"{self.call} -> {self.result}" if self.result else self.call
        return "\n".join([head, *(f"  {n}. {line}" for n, line in enumerate(self.lines(), 1))])

    def __repr__(self) -> str:
        return str(self)


class Pair(NamedTuple):
    """The same rung of two roads; None where one of them never came there."""

    name: str
    round: int  #: as in Rung, but 0 for NULL, which may come after other rounds in each road
    a: Rung | None
    b: Rung | None

    @property
    def same(self) -> bool:
        """Whether both roads came here, for the same reasons, with the same outcome."""
        return self.a == self.b

    @property
    def title(self) -> str:
        """The rung's name as text, with its round of the retry loop."""
        title = text(f"road.rung.{self.name}")
        return f"{title} ({self.round})" if self.round else title


@dataclass(frozen=True, slots=True)
class RoadDiff:
    """Two roads, aligned rung by rung."""

    a: Why
    b: Why
    pairs: tuple[Pair, ...]

    @property
    def parting(self) -> int | None:
        """Index of the pair where the roads part, None if they do not.

        Differing numbers are no parting while both go on to the next rung. It is where their
        outcomes differ; or, where one road ends, the rung before if other rules decided there.
        The request itself is a rung only where there is something to say of it.
        """
        for index, pair in enumerate(self.pairs):
            unsaid = "on" if pair.name == "entry" else None
            outcomes = {rung.outcome if rung else unsaid for rung in (pair.a, pair.b)}
            if len(outcomes) == 1:
                continue
            before = self.pairs[index - 1] if index else pair
            if not (pair.a and pair.b) and before.a and before.b:
                rules = [rung.decision and rung.decision.key for rung in (before.a, before.b)]
                return index - (rules[0] != rules[1])
            return index
        return None

    def __str__(self) -> str:
        lines = [f"a: {self.a.call} -> {self.a.result}", f"b: {self.b.call} -> {self.b.result}"]
        parting = self.parting
        for index, pair in enumerate(self.pairs):
            mark = ">" if index == parting else " "
            lines.append(f"{mark} {pair.title}")
            if pair.same and pair.a:
                lines.append(f"    a, b: {pair.a}")
            else:
                lines += [f"    a: {pair.a or text('road.absent')}"]
                lines += [f"    b: {pair.b or text('road.absent')}"]
        lines.append(text("road.same" if parting is None else "road.parts"))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def diff(a: Why, b: Why) -> RoadDiff:
    """Align two explained requests, rung by rung and round by round.

    Make them from one moment: `a = kernel.clone()`, `b = kernel.clone()`, change one thing in `b`
    (a flag, the order, the context, a sysctl), make the request in both, and compare their why().

    Raises:
        TypeError: not what Kernel.why() returns.
    """
    for run in (a, b):
        if not isinstance(run, Why):
            raise TypeError(f"{run!r} is no explained request; give what Kernel.why() returned")
    roads = [_places(run) for run in (a, b)]
    pairs = (
        Pair(RUNGS[place[2]], place[1] % _AFTER_ALL, roads[0].get(place), roads[1].get(place))
        for place in sorted({*roads[0], *roads[1]})
    )
    return RoadDiff(a, b, tuple(pairs))


#: The round of NULL for the order of rungs: it comes after all rounds, however many there were.
_AFTER_ALL = 1 << 30


def _places(road: Why) -> dict[tuple[int, int, int], Rung]:
    """Return a road's rungs by (start, round, rung), in the order in which they were tried.

    A road that goes back to a rung without a new round has started again, as it does where its
    cpuset or the zonelists changed meanwhile.
    """
    places: dict[tuple[int, int, int], Rung] = {}
    start, last = 0, (-1, -1)
    for rung in road.rungs:
        turn = _AFTER_ALL if rung.name == "null" else rung.round
        place = (turn, RUNGS.index(rung.name))
        start += place <= last
        last = place
        places[start, *place] = rung
    return places
