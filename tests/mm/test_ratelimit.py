"""How often a report may be printed, and what is said about those left out."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.ratelimit import HZ, ratelimit

SECOND = 1_000_000_000
TICK = SECOND // HZ


@pytest.fixture
def kernel():
    return Kernel("1M")


def ask(kernel, times=1, interval=5, burst=10):
    return [ratelimit(kernel, "oom_kill_process", interval, burst) for _ in range(times)]


@pytest.mark.parametrize("burst", [1, 10])
def test_a_burst_passes_and_no_more(kernel, burst):
    assert ask(kernel, burst + 3, burst=burst) == [True] * burst + [False] * 3
    assert kernel.dmesg() == ""


@pytest.mark.parametrize(
    ("waited", "allowed"), [(10 * SECOND, False), (10 * SECOND + TICK - 1, False),
                            (10 * SECOND + TICK, True)]
)  # fmt: skip
def test_the_next_interval_begins_one_tick_after_the_last_one_ends(kernel, waited, allowed):
    kernel.now = 3 * SECOND
    assert ask(kernel, interval=10, burst=1) == [True]
    kernel.now += waited
    assert ask(kernel, interval=10, burst=1) == [allowed]


def test_reports_left_out_are_counted_when_the_next_one_passes(kernel):
    ask(kernel, 14)
    kernel.now += 6 * SECOND
    assert ask(kernel) == [True]
    assert kernel.dmesg() == "oom_kill_process: 4 callbacks suppressed"
    kernel.now += 6 * SECOND
    ask(kernel)
    assert kernel.dmesg().count("suppressed") == 1


def test_the_interval_begins_with_its_first_report_not_with_the_last_one(kernel):
    ask(kernel)
    kernel.now += 4 * SECOND
    assert ask(kernel, 10) == [True] * 9 + [False]
    kernel.now += SECOND + TICK
    assert ask(kernel) == [True]


def test_each_function_has_its_own_limit(kernel):
    assert ask(kernel, 2, burst=1) == [True, False]
    assert ratelimit(kernel, "warn_alloc", 10, 1)
    kernel.now += 11 * SECOND
    ask(kernel, burst=1)
    assert kernel.dmesg() == "oom_kill_process: 1 callbacks suppressed"


def test_limits_belong_to_the_moment(kernel):
    ask(kernel, 12)
    before = kernel.snapshot()
    clone = kernel.clone()
    assert ask(clone) == [False]
    clone.now += 6 * SECOND
    ask(clone)
    assert clone.dmesg() == "oom_kill_process: 3 callbacks suppressed"
    assert kernel.snapshot() == before
    kernel.now += 6 * SECOND
    ask(kernel)
    assert kernel.dmesg() == "oom_kill_process: 2 callbacks suppressed"
    kernel.restore(before)
    assert ask(kernel) == [False]
