"""Lesson 07: its machines, and what the masks of its table get from them."""

import pytest

from kmemkit.gfp import GFP_ATOMIC, decode, encode
from kmemkit.lessons import ladder_worlds
from kmemkit.strings import text

BARE, LAZY = "GFP_KERNEL & ~__GFP_RECLAIM", "GFP_KERNEL & ~__GFP_DIRECT_RECLAIM"
HIGH = "(GFP_KERNEL|__GFP_HIGH) & ~__GFP_DIRECT_RECLAIM"
NORETRY, MAYFAIL, NOFAIL = (
    f"GFP_KERNEL|__GFP_{name}" for name in ("NORETRY", "RETRY_MAYFAIL", "NOFAIL")
)
#: mask -> (end, last rung) up to order 3, and of order 4, where nothing is left: kernel-facts 5.10.
WHERE_NOTHING_IS_LEFT = {
    BARE: (("null", "reserves"), ("null", "reserves")),
    LAZY: (("null", "reserves"), ("null", "reserves")),
    "GFP_NOWAIT": (("null", "reserves"), ("null", "reserves")),
    "GFP_ATOMIC": (("null", "reserves"), ("null", "reserves")),
    "GFP_KERNEL": (("kill", "reserves"), ("null", "retry")),
    NORETRY: (("null", "retry"), ("null", "compact_first")),
    MAYFAIL: (("null", "oom"), ("null", "oom")),
    NOFAIL: (("kill", "oom"), ("forever", "nofail")),
    "GFP_NOFS": (("forever", "oom"), ("null", "retry")),
    "GFP_NOIO": (("forever", "oom"), ("null", "retry")),
}


def free(name):
    return sum(zone.free for zone in ladder_worlds.moment(name).snapshot().zones)


# -- machines ----------------------------------------------------------------------------------------


def test_the_pressures_are_what_they_are_called():
    low, files, full = (
        ladder_worlds.moment(name).snapshot().zones[-1] for name in ("low", "files", "full")
    )
    assert low.min < low.free < low.low
    for zone in (files, full):
        part = zone.min - zone.min // 2
        assert zone.free <= part - part // 4
    assert not ladder_worlds.moment("full").snapshot().nodes[0].nr("inactive_file")


def test_m3_has_its_numbers():
    snapshot = ladder_worlds.moment("files").snapshot()
    managed = sum(zone.managed for zone in snapshot.zones)
    assert snapshot.nodes[0].nr("inactive_file") >= 0.9 * managed
    assert 0 < free("files") <= 0.01 * managed
    assert ladder_worlds.at("files", "GFP_ATOMIC").end == "null"
    run = ladder_worlds.at("files", "GFP_KERNEL")
    assert (run.end, run.last.name) == ("page", "reclaim")


def test_m1_has_its_numbers():
    zones = ladder_worlds.moment("scattered").snapshot().zones
    assert sum(zone.free for zone in zones) > 0.4 * sum(zone.managed for zone in zones)
    assert all(order == 0 for zone in zones for order, _ in zone.free_lists())
    ends = [ladder_worlds.at("scattered", "GFP_KERNEL", order).end for order in (0, 1, 3, 4)]
    assert ends == ["page", "kill", "kill", "null"]


def test_a_moment_is_a_copy_of_ones_own():
    kernel = ladder_worlds.moment("roomy")
    before = free("roomy")
    assert kernel.alloc_pages("GFP_KERNEL", 5) is not None
    assert free("roomy") == before
    with pytest.raises(ValueError, match="There is no machine 'empty'; there are: roomy, low"):
        ladder_worlds.moment("empty")


def test_a_request_leaves_the_machine_as_it_is():
    kernel = ladder_worlds.moment("files")
    before = kernel.snapshot().buddyinfo()
    assert ladder_worlds.ask(kernel, "GFP_KERNEL").end == "page"
    assert kernel.snapshot().buddyinfo() == before
    assert not kernel.history


# -- the table of the lesson -------------------------------------------------------------------------


@pytest.mark.parametrize("mask", WHERE_NOTHING_IS_LEFT)
def test_where_nothing_is_left(mask):
    small, costly = WHERE_NOTHING_IS_LEFT[mask]
    for order in range(4):
        run = ladder_worlds.at("full", mask, order)
        assert (run.end, run.last.name) == small
    run = ladder_worlds.at("full", mask, 4)
    assert (run.end, run.last.name) == costly
    assert run.because


@pytest.mark.parametrize("mask", WHERE_NOTHING_IS_LEFT)
def test_where_files_can_be_taken_back(mask):
    patient = encode(mask) & encode("__GFP_DIRECT_RECLAIM")
    for order in range(4):
        run = ladder_worlds.at("files", mask, order)
        assert (run.end, run.last.name) == (
            ("page", "reclaim") if patient else ("null", "reserves")
        )


@pytest.mark.parametrize("mask", WHERE_NOTHING_IS_LEFT)
def test_between_min_and_low_everybody_gets_a_page(mask):
    run = ladder_worlds.at("low", mask)
    assert (run.end, run.last.name) == ("page", "min")
    assert ("kswapd" in run.names) == bool(encode(mask) & encode("__GFP_KSWAPD_RECLAIM"))


def test_a_costly_order_with_noretry_gives_up_before_reclaim():
    run = ladder_worlds.at("files", NORETRY, 4)
    assert run.end == "null" and "reclaim" not in run.names
    assert "compaction was skipped" in run.because


def test_mayfail_tries_harder_where_the_order_is_costly():
    assert ladder_worlds.at("files", "GFP_KERNEL", 9).end == "null"
    run = ladder_worlds.at("files", MAYFAIL, 9)
    assert run.end == "page" and run.rounds > 1


def test_sixteen_rounds_without_progress_and_a_last_one():
    for order in (0, 4):
        assert ladder_worlds.at("full", MAYFAIL, order).rounds == 17


def test_kswapd_sleeps_while_memory_goes():
    for mask, awake in ((BARE, False), ("GFP_NOWAIT", True)):
        kernel = ladder_worlds.full_of_files()
        zone = kernel.snapshot().zones[-1]
        assert zone.free > zone.high
        ladder_worlds.take(kernel, mask)
        assert kernel.snapshot().zones[-1].free <= zone.min
        assert kernel.nodes[0].kswapd_running is awake


def test_atomic_is_not_kernel_and_high():
    """(GFP_KERNEL|__GFP_HIGH) & ~__GFP_DIRECT_RECLAIM is another value and the same road."""
    assert encode(HIGH) == 0x8E0 != GFP_ATOMIC
    assert decode(0x8E0) == "GFP_ATOMIC|__GFP_IO|__GFP_FS"
    for moment in ("low", "files", "full", "scattered"):
        for order in (0, 3, 4):
            one, other = (ladder_worlds.at(moment, mask, order) for mask in ("GFP_ATOMIC", HIGH))
            assert one.end == other.end
            assert one.why.reasons == other.why.reasons
    sleeps = ladder_worlds.at("files", "GFP_KERNEL|__GFP_HIGH")
    assert (sleeps.end, sleeps.last.name) == ("page", "reclaim")


def test_nofail_has_its_conditions():
    assert ladder_worlds.at("full", "GFP_NOWAIT|__GFP_NOFAIL").end == "null"
    kernel = ladder_worlds.moment("files")
    assert kernel.alloc_pages(NOFAIL, 1) is not None
    assert "WARNING" not in kernel.dmesg()
    assert kernel.alloc_pages(NOFAIL, 11) is None
    kernel = ladder_worlds.moment("files")
    assert kernel.alloc_pages(NOFAIL, 2) is not None
    assert "__alloc_pages_slowpath" in kernel.dmesg()


def test_the_victim_of_the_oom_killer_gets_null_with_pages_free():
    run = ladder_worlds.at("victim", "GFP_KERNEL")
    assert (run.end, run.last.name) == ("null", "oom")
    assert free("victim") > 300
    assert "victim" in run.because


def test_why_it_goes_round_is_not_that_it_goes_round():
    assert "without __GFP_FS nobody is killed" in ladder_worlds.at("full", "GFP_NOFS").because
    assert "__GFP_NOFAIL" in ladder_worlds.at("full", NOFAIL, 4).because


# -- how it is told ----------------------------------------------------------------------------------


def test_a_row_groups_the_orders_that_end_alike():
    lines = ladder_worlds.row("GFP_KERNEL").splitlines()
    assert lines[0] == "GFP_KERNEL = 0xcc0"
    assert "orders 0-4: page at reclaim; order 9: NULL after retry" in lines[2]
    assert "orders 0-3: OOM kill, then a page; orders 4, 9: NULL after retry" in lines[3]
    assert "order 4 > 3 is costly" in "\n".join(lines[4:])
    assert "all orders: NULL" in ladder_worlds.row("GFP_NOWAIT")
    assert all(len(line) <= 96 for line in lines)


def test_a_row_of_other_moments():
    lines = ladder_worlds.row("GFP_KERNEL", ["roomy"]).splitlines()
    assert len(lines) == 2
    assert "page at low mark" in lines[1]


def test_a_road_tells_rounds_that_are_alike_once():
    road = str(ladder_worlds.at("full", "GFP_KERNEL"))
    assert road.startswith("alloc_pages(GFP_KERNEL, 0) -> OOM kill, then a page\n")
    reclaim = text("road.rung.reclaim")
    assert [n for n in range(1, 18) if f"{reclaim} ({n}):" in road] == [1, 16, 17]


def test_a_rung_is_looked_up_by_its_name():
    run = ladder_worlds.at("low", "GFP_KERNEL")
    assert run.rung("min").outcome == "page"
    with pytest.raises(ValueError, match="never came to 'oom'; it came to: low, kswapd, min"):
        run.rung("oom")


def test_free_pages_stand_beside_the_end():
    table = ladder_worlds.compare([("full", "GFP_KERNEL", 0), ("scattered", "GFP_KERNEL", 4)])
    head, full, scattered = table.splitlines()
    assert head.split() == ["machine", "free", "request", "end"]
    assert f"{free('full'):,}" in full and full.endswith("OOM kill, then a page")
    assert f"{free('scattered'):,}" in scattered and scattered.endswith("NULL after retry")


@pytest.mark.parametrize("name", ladder_worlds.MOMENTS)
def test_a_state_fits_and_has_its_numbers(name):
    lines = ladder_worlds.state(name).splitlines()
    assert len(lines) == 4
    assert f"free: {free(name):,} pages" in lines[1]
    assert all(len(line) <= 96 for line in lines)
