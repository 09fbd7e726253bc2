"""Recorded runs of one request until it is refused, played against the simulated kernel.

tests/golden/ladder.json.gz has what each run began with and what came of it.
"""

import statistics
from collections import defaultdict
from functools import cache

import pytest

from kmemkit import Kernel
from kmemkit.mm.fidelity import LEDGER
from kmemkit.mm.ladder import EVENTS, climb, is_ladder, play_ladder, start_machine
from kmemkit.mm.recording import load_recording
from tests.mm.moments import at, boot
from tests.test_golden import GOLDEN

RUNS = load_recording(GOLDEN / "ladder.json.gz")
#: Ends otherwise for a reason in the ledger: all of the victim's memory is in swap, and whether the
#: few pages that its end gives are enough hangs on a boost.
EXCLUDED = {"swap-o0-himov"}


def group_of(run):
    """Return what makes two runs repeats of each other: request, swap or not, machine, tasks."""
    return tuple(run.get(key) for key in ("gfp", "order", "option", "guest_ram", "hog_mb"))


GROUPS = defaultdict(list)
for _name in sorted(RUNS, key=lambda name: (len(name), name)):
    if _name not in EXCLUDED:
        GROUPS[group_of(RUNS[_name])].append(_name)
#: One run of every group: the others are the same once more, with two CPUs, or with a caller that
#: offers its CPU. Left out for their length: masks and ends that shorter ones have as well.
LONG = {"1g-o0-atomic", "swap-o0-mayfail"}
PLAYED = [names[0] for names in GROUPS.values() if names[0] not in LONG]


@cache
def played(name):
    return play_ladder(RUNS[name])


def test_every_kind_of_run_is_here():
    assert len(RUNS) == 87
    assert all(is_ladder(run) for run in RUNS.values())
    assert {run["outcome"] for run in RUNS.values()} == {
        "failed", "oom_kill", "stuck", "kernel panic: System is deadlocked on memory",
    }  # fmt: skip
    assert len(PLAYED) == 39


@pytest.mark.parametrize("name", PLAYED)
def test_a_run_ends_and_goes_as_recorded(name):
    """Outcome, report, which events came into it, and the order in which they first came."""
    result = played(name)
    assert result.mismatches == ()
    matched, compared = result.results
    assert compared >= 5
    assert compared - matched <= 1  # that compaction was tried or not is no mismatch


# -- counts ------------------------------------------------------------------------------------------

#: The recorded runs of a group differ by so much among themselves; a simulated one may lie outside
#: of their spread by this factor, and by the pages of one boost of the marks: it comes with the
#: first pageblock that is claimed, so it hangs on which page is where.
FACTOR, BOOST = 3, 512
#: Groups whose number of requests does not come out so, and why (docs/fidelity.md). The list may
#: only shrink: a group in it that does come out is an error.
CACHE = "where the page cache lies"
OUTSIDE = {"o5-himov": CACHE, "o5-kernel": CACHE}


def spread(name):
    """Return the least and the most that a group's recorded runs got, widened."""
    got = [RUNS[one]["allocs_got"] for one in GROUPS[group_of(RUNS[name])]]
    few = max(BOOST >> RUNS[name]["order"], 1)
    return min(got) / FACTOR - few, max(got) * FACTOR + few


@pytest.mark.parametrize("name", PLAYED)
def test_a_run_gets_about_as_much_as_the_recorded_ones(name):
    low, high = spread(name)
    inside = low <= played(name).climb.got <= high
    assert inside is (name not in OUTSIDE)


def test_every_exception_stands_in_the_ledger():
    assert set(OUTSIDE.values()) <= {one.topic for one in LEDGER}
    assert set(OUTSIDE) <= set(PLAYED)


def test_long_runs_come_within_a_few_per_cent():
    """Where nearly all of memory is taken, chance has little to say."""
    off = [
        abs(played(name).climb.got / RUNS[name]["allocs_got"] - 1)
        for name in PLAYED
        if RUNS[name]["outcome"] in ("oom_kill", "stuck")
    ]
    assert len(off) >= 11
    assert max(off) < 0.02
    assert statistics.median(off) < 0.01


def test_kswapd_and_direct_reclaim_share_the_work_as_recorded():
    """Long runs: kswapd frees three quarters and more, and it is woken again and again."""
    for name in PLAYED:
        run, deltas = RUNS[name], played(name).climb.deltas
        if run["outcome"] not in ("oom_kill", "stuck") or run["option"] == "nocache":
            continue
        freed = {}
        for which, counts in (("recorded", run["event_deltas"]), ("simulated", deltas)):
            both = counts["pgsteal_kswapd"] + counts.get("pgsteal_direct", 0)
            freed[which] = counts["pgsteal_kswapd"] / both
        assert freed["simulated"] > 0.75, name
        assert abs(freed["simulated"] - freed["recorded"]) < 0.4, name
        assert deltas["kswapd_high_wmark_hit_quickly"] <= 16 or name == "o3-memalloc"


# -- climb -------------------------------------------------------------------------------------------


def test_a_climb_says_what_happened_first_and_where():
    run = climb(at("low", recording=False), "GFP_KERNEL")
    assert run.outcome == "oom_kill"
    assert list(run.first) == ["kswapd", "direct reclaim", "OOM"]
    assert run.first["kswapd"] == 0 < run.first["OOM"] <= run.got
    assert run.deltas["oom_kill"] == 1
    assert not run.report


@pytest.mark.parametrize(
    ("moment", "gfp", "outcome", "report"),
    [
        ("low", "GFP_ATOMIC", "failed", True),
        ("low", "GFP_NOWAIT", "failed", False),
        ("full", "GFP_NOFS", "stuck", False),
        ("full", "GFP_KERNEL|__GFP_NORETRY", "failed", True),
    ],
)
def test_ends_of_a_climb(moment, gfp, outcome, report):
    run = climb(at(moment, recording=False), gfp)
    assert (run.outcome, run.report) == (outcome, report)


def test_a_climb_ends_in_a_panic_or_after_so_many():
    assert climb(boot(anon=""), "GFP_KERNEL", most=10).outcome == "max"
    run = climb(boot(anon=""), "GFP_KERNEL")
    assert run.outcome == "kernel panic: System is deadlocked on memory"
    assert run.got > 1000
    with pytest.raises(TypeError):
        climb(boot(), None)


def test_events_have_the_kernel_s_names():
    counters = {counter for names in EVENTS.values() for counter in names}
    recorded = set(RUNS["o0-kernel"]["event_deltas"])
    assert counters - recorded == {"allocstall_highmem"}


# -- the machine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["o0-kernel", "swap-o0-kernel", "o3-kernel-c2"])
def test_the_machine_begins_with_the_recorded_numbers(name):
    run = RUNS[name]
    kernel = start_machine(run)
    for zone, recorded in zip(kernel.zones, run["zones_at_start"], strict=True):
        assert (zone.name, zone.managed) == (recorded["zone"], recorded["managed"])
        assert zone.watermark == [recorded[mark] for mark in ("min", "low", "high", "promo")]
        assert zone.lowmem_reserve == tuple(recorded["reserve"])
        assert (zone.watermark_boost, zone.flags) == (recorded["boost"], recorded["flags"])
        assert zone.free_pages == recorded["free"]
        assert sum(pcp.count for pcp in zone.pcps) == recorded["pcp"]
    assert bool(kernel.total_swap_pages) is (run["option"] == "swap")
    assert kernel.nr_cpus == run["cpus"]
    assert kernel.comm == "sh"
    assert [task.comm for task in kernel.tasks] == ["init", "hog", "sh"]


def test_what_is_no_run_of_allocations_is_refused():
    assert not is_ladder({"ops": []})
    with pytest.raises(ValueError, match="recording: not a run of allocations"):
        play_ladder({"gfp": 0xCC0, "order": 0, "outcome": "failed", "guest_ram": "64M"})
    bad = {**RUNS["o0-nowait"], "zones_at_start": [{"node": 0}]}
    with pytest.raises(ValueError, match="recording: not a run of allocations"):
        start_machine(bad)


def test_a_mismatch_says_what_differs():
    wrong = {**RUNS["o9-noretry"], "outcome": "oom_kill"}
    result = play_ladder(wrong)
    assert "outcome" in {one.where for one in result.mismatches}
    assert result.results[0] < result.results[1]
    assert Kernel("64M").vm_events == {}
