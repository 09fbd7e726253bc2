"""Lesson 04: zonelists, marks and six requests, against the rules written down here once more."""

import pytest

from kmemkit import Kernel, strings
from kmemkit.lessons import zone_marks, zone_order, zone_serves, zone_worlds
from kmemkit.lessons._check import Outcome
from kmemkit.lessons.zone_check import places

SEEDS = pytest.mark.parametrize("seed", range(12))

#: What zone_worlds.three_zones() says on every kernel: min, low, and the reserve by highest zone.
MARKS = {
    "DMA": (39, 48, (0, 131, 131, 189)),
    "DMA32": (346, 432, (0, 0, 0, 58)),
    "Movable": (32, 70, (0, 0, 0, 0)),
}


# -- machines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pages", [1, 33, 47, 150, 1001, 3800])
def test_pressed_machines_have_exactly_so_many_pages_free(pages):
    kernel = zone_worlds.three_zones(DMA=pages, DMA32=pages + 1, Movable=pages + 2)
    zones = kernel.snapshot().zones
    assert [zone.free for zone in zones] == [pages, pages + 1, pages + 2]
    if pages > 32:
        assert [zone.free_est for zone in zones] == [pages, pages + 1, pages + 2]
    assert not any(zone.boost for zone in zones)
    assert kernel.history == ()


def test_the_marks_of_the_lessons_machine():
    zones = {zone.name: zone for zone in zone_worlds.three_zones().snapshot().zones}
    assert {n: (z.min, z.low, z.lowmem_reserve[:4]) for n, z in zones.items()} == MARKS
    assert all(zone.free == zone.managed for zone in zones.values())


def test_the_table_of_marks_is_the_snapshots():
    kernel = zone_worlds.three_zones(DMA=150, DMA32=300)
    head, *rows = zone_worlds.marks(kernel).splitlines()
    assert head.split() == ["zone", "managed", "free", "min", "low", "high", "lowmem_reserve[]"]
    zones = kernel.snapshot().zones
    for row, zone in zip(rows, zones, strict=True):
        name, *numbers = row.replace(",", "").split()
        assert name == zone.name
        expected = (zone.managed, zone.free, zone.min, zone.low, zone.high, *zone.lowmem_reserve)
        assert numbers == [str(number) for number in expected]
    assert "0/DMA32" in zone_worlds.marks(Kernel(ram="256M", nodes=2))


def test_usable_pages_are_what_a_machine_gives():
    kernel = zone_worlds.three_zones(DMA=150, DMA32=300, Movable=60)
    head, *rows = zone_worlds.usable(kernel, "GFP_NOWAIT", "GFP_ATOMIC").splitlines()
    assert head == "free in all zones: 510 pages = 2,040 kB"
    assert rows[0] == "GFP_NOWAIT  gets 0 pages = 0 kB"
    # Down to 130 in DMA32, and to 15 + 131 in DMA; each zone's counter may lag by a few pages.
    atomic = int(rows[1].split()[2])
    assert 0 <= atomic - (300 - 130 + 150 - 146) <= 6
    assert kernel.snapshot().zones[0].free == 150


def test_least_free_is_one_more_than_the_lowered_mark():
    lines = zone_worlds.least_free("GFP_NOWAIT", "GFP_ATOMIC", "GFP_NOWAIT|__GFP_MEMALLOC")
    assert lines.splitlines() == [
        "GFP_NOWAIT                 needs 347 free",
        "GFP_ATOMIC                 needs 131 free",
        "GFP_NOWAIT|__GFP_MEMALLOC  needs 1 free",
    ]


def test_tried_zones_go_from_the_highest_down():
    kernel = zone_worlds.three_zones()
    assert zone_worlds.tried(kernel, "GFP_KERNEL", "GFP_HIGHUSER_MOVABLE").splitlines() == [
        "GFP_KERNEL            tries DMA32, DMA; served by DMA32",
        "GFP_HIGHUSER_MOVABLE  tries Movable, DMA32, DMA; served by Movable",
    ]
    short = zone_worlds.three_zones(DMA=40, DMA32=300, Movable=60)
    assert zone_worlds.tried(short, "GFP_NOWAIT").endswith("served by none of them")


def test_the_busy_machine_lets_kswapd_work_and_a_request_stall():
    kernel = zone_worlds.busy()
    kernel.record()
    for _ in range(40):
        kernel.alloc_pages("GFP_ATOMIC", 2)
    kernel.sleep(20)
    quiet = kernel.snapshot()
    assert quiet.zones[1].free_est > quiet.zones[1].high
    assert quiet.vmstat["pgsteal_kswapd"]
    assert not quiet.vmstat.get("pgsteal_direct")
    for _ in range(60):
        kernel.alloc_pages("GFP_ATOMIC", 2)
    kernel.alloc_pages("GFP_KERNEL", 2)
    assert kernel.snapshot().vmstat["pgsteal_direct"]


# -- which zones ----------------------------------------------------------------------------------


def listed(request):
    """The zones a request tries, by the rules of the lesson."""
    order = ["DMA", "DMA32", "Normal", "Movable"]
    has = {"A": {0: order}, "B": {0: order[:3], 1: ["Normal"]}}[request.machine]
    top = "Normal"
    if "GFP_DMA32" in request.gfp:
        top = "DMA32"
    elif request.gfp == "GFP_HIGHUSER_MOVABLE":
        top = "Movable"
    nodes = [request.nid, *(nid for nid in has if nid != request.nid)]
    if "THISNODE" in request.gfp:
        nodes = nodes[:1]
    return [
        f"{nid}/{name}"
        for nid in nodes
        for name in reversed(order[: order.index(top) + 1])
        if name in has[nid]
    ]


@SEEDS
def test_zones_solved_by_the_rules_of_the_lesson(seed):
    answers = [" ".join(listed(request)) for request in zone_order._requests(seed)]
    assert zone_order.check(answers, seed).right, zone_order.check(answers, seed)
    assert zone_order.check([" > ".join(a.split()) for a in answers], seed).right
    assert "→" not in str(zone_order.problem(seed))
    assert str(zone_order.problem(seed)) == str(zone_order.problem(seed))


@SEEDS
def test_wrong_orders_name_their_ideas(seed):
    requests = zone_order._requests(seed)
    backwards = [" ".join(reversed(listed(request))) for request in requests]
    for request, (_, verdict) in zip(requests, zone_order.check(backwards, seed).rows, strict=True):
        if len(listed(request)) > 1:
            assert verdict.outcome is Outcome.WRONG
            assert verdict.idea
    first = [listed(request)[0] for request in requests]
    for request, (_, verdict) in zip(requests, zone_order.check(first, seed).rows, strict=True):
        if len(listed(request)) > 1:
            name = strings.text("lesson.zones.idea_name.one_zone")
            assert verdict.idea in (name, strings.text("lesson.zones.idea_name.own_zone_only"))


def test_zones_are_read_however_they_are_written():
    known = [(0, "Normal"), (0, "DMA32"), (0, "DMA"), (1, "Normal")]
    expected = [(1, "Normal"), (0, "Normal"), (0, "DMA32"), (0, "DMA")]
    for answer in (
        "1/Normal 0/Normal DMA32 DMA",
        "node 1 Normal, node 0 Normal, dma32, dma",
        "1/normal -> 0/normal -> 0/DMA32 -> 0/DMA",
        ["1/Normal", "0/Normal", "DMA32", "DMA"],
    ):
        assert places(answer, known) == expected


def test_unreadable_orders_are_open_and_say_what_is_missing():
    sheet = zone_order.check(["Norml", "", "Normal", "?"], 7)
    outcomes = [verdict.outcome for _, verdict in sheet.rows]
    assert outcomes == [Outcome.OPEN, Outcome.OPEN, Outcome.OPEN, Outcome.UNKNOWN]
    assert "names no zones. Write them in order" in str(sheet)
    assert 'write the node too, as in "1/Normal"' in str(sheet)
    assert "give a list of 4 answers" in str(zone_order.check("Normal", 7))


# -- marks ----------------------------------------------------------------------------------------


def marks(seed):
    """The five numbers, by the formulas of the lesson."""
    values = zone_marks._sysctls(seed)
    dma, dma32 = 3840, 50607
    pages, both = values.min_free_kbytes // 4, dma + dma32
    least = [pages * managed // both for managed in (dma, dma32)]
    gaps = [max(m // 4, managed // 1000) for m, managed in zip(least, (dma, dma32), strict=True)]
    reserve = dma32 // values.ratio
    low, gap = least[1] + gaps[1], gaps[1]
    return [least[1], low, low + gap, reserve, least[0] + gaps[0] + reserve + 1]


@SEEDS
def test_marks_solved_by_the_formulas_of_the_lesson(seed):
    sheet = zone_marks.check(marks(seed), seed)
    assert sheet.right, sheet
    assert zone_marks.check([f"{n:,} pages" for n in marks(seed)], seed).right


@SEEDS
def test_wrong_marks_name_their_ideas_and_tell_no_answer(seed):
    right = marks(seed)
    wrong = [
        right[0] * 4,
        2 * right[0],
        right[1],
        3840 // zone_marks._sysctls(seed).ratio,
        right[4] - 1,
    ]
    sheet = zone_marks.check(wrong, seed)
    ideas = [verdict.idea for _, verdict in sheet.rows]
    names = ["doubles", "one_gap", "own_size", "or_equal"]
    assert ideas[1:] == [strings.text(f"lesson.zones.idea_name.{name}") for name in names]
    for (_, verdict), number in zip(sheet.rows, right, strict=True):
        assert f" {number:,}" not in verdict.sentence
    kb = zone_marks._sysctls(seed).min_free_kbytes * 50607 // (50607 + 3840)
    name = strings.text("lesson.zones.idea_name.kb_as_pages")
    assert zone_marks.check([kb], seed).rows[0][1].idea == name


# -- which zone serves ----------------------------------------------------------------------------


def serves(case):
    """Zone and mark, by the inequality of the lesson."""
    top = {"GFP_HIGHUSER_MOVABLE": 3, "GFP_NOWAIT|GFP_DMA": 0}.get(case.gfp, 2)
    free = {"Movable": case.movable, "DMA32": case.dma32, "DMA": case.dma}
    index = {"Movable": 3, "DMA32": 1, "DMA": 0}
    for mark in ("low", "min"):
        for name, pages in free.items():
            least, low, reserve = MARKS[name]
            level = low if mark == "low" else least
            if mark == "min" and case.gfp == "GFP_ATOMIC":
                level -= level // 2
                level -= level // 4
            left = pages - (1 << case.order) + 1
            if index[name] <= top and left > level + reserve[top]:
                return f"{name} {mark}"
    return "none"


@SEEDS
def test_requests_solved_by_the_inequality_of_the_lesson(seed):
    answers = [serves(case) for case in zone_serves._cases(seed)]
    sheet = zone_serves.check(answers, seed)
    assert sheet.right, sheet
    assert {"none"} < set(answers)
    assert len({answer.partition(" ")[2] for answer in answers}) == 3


@SEEDS
def test_the_machine_of_a_case_can_be_walked(seed):
    for number, case in enumerate(zone_serves._cases(seed), 1):
        dma, dma32, movable = zone_serves.machine(seed, number).snapshot().zones
        assert (dma.free_est, dma32.free_est, movable.free_est) == (
            case.dma,
            case.dma32,
            case.movable,
        )


def test_wrong_zones_get_the_judges_idea_and_a_walk():
    seed = 7
    cases = zone_serves._cases(seed)
    number = next(n for n, case in enumerate(cases) if serves(case) == "none")
    answers = [None] * zone_serves.CASES
    for said, idea in (("DMA32 low", "free_is_enough"), ("DMA min", "no_reserve")):
        answers[number] = said
        verdict = zone_serves.check(answers, seed).rows[number][1]
        assert verdict.outcome is Outcome.WRONG
        assert verdict.idea == strings.text(f"zonelist.idea_name.{idea}")
        assert f"zone_serves.machine({seed}, {number + 1})" in verdict.experiment


@SEEDS
def test_the_other_mark_is_a_wrong_answer_with_an_idea(seed):
    other = {"low": "min", "min": "low"}
    answers = [serves(case) for case in zone_serves._cases(seed)]
    wrong = [a if a == "none" else f"{a.split()[0]} {other[a.split()[1]]}" for a in answers]
    for answer, (_, verdict) in zip(wrong, zone_serves.check(wrong, seed).rows, strict=True):
        if answer != "none":
            assert verdict.outcome is Outcome.WRONG
            idea = f"only_{answer.split()[1]}"
            assert verdict.idea == strings.text(f"lesson.zones.idea_name.{idea}")


def test_answers_are_read_however_they_are_written():
    case = zone_serves._cases(7)[0]
    plan = zone_serves._plan(case)
    for answer in ("DMA32 low", "dma32, low", "DMA32 at the low mark", "zone DMA32 low watermark."):
        assert zone_serves._read(answer, plan) == ("1", "low")
    for answer in ("none", "NULL", "nobody", "no zone", "None of them."):
        assert zone_serves._read(answer, plan) == ("nobody", "")
    sheet = zone_serves.check(["DMA32", "Normal low", "DMA DMA32 low", "DMA32 high", "so?", "?"], 7)
    assert [verdict.outcome for _, verdict in sheet.rows] == [Outcome.OPEN] * 5 + [Outcome.UNKNOWN]
    assert "does not say at which mark" in str(sheet)
    assert "names no zone of this machine, or several" in str(sheet)


# -- all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", [zone_order, zone_marks, zone_serves])
def test_nothing_answered_and_not_known(exercise):
    assert str(exercise.check(None, 7)).startswith("not answered yet: ")
    count = len(exercise.check(None, 7).rows)
    sheet = exercise.check(["?"] * count, 7)
    assert sheet.count(Outcome.UNKNOWN) == count
    assert "{" not in str(sheet)
    assert str(exercise.problem(7)) != str(exercise.problem(9))
    assert "give a list of" in str(exercise.check(5, 7))


def test_ideas_and_their_names_go_together():
    keys = strings.keys()
    for section in ("lesson.zones", "zonelist"):
        names, texts = (
            {key.rpartition(".")[2] for key in keys if key.startswith(f"{section}.{kind}.")}
            for kind in ("idea_name", "idea")
        )
        assert names == texts
