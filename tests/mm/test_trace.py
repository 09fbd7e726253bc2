"""What a recorded run says about itself: reasons, events, and that saying it changes nothing."""

import ast
import itertools
import random
from pathlib import Path

import pytest

import kmemkit.mm
from kmemkit import Kernel
from kmemkit.mm.fallback import move_freepages_block
from kmemkit.mm.mmzone import HIGH, LOW, MIGRATE_HIGHATOMIC, MIN
from kmemkit.mm.sched import PF_MEMALLOC
from kmemkit.mm.swap import ACTIVE_ANON, INACTIVE_FILE
from kmemkit.mm.trace import Trace
from kmemkit.snapshot import Event, Reason, Why, order_text
from kmemkit.strings import keys as known_keys
from tests.mm.moments import at, boot, ends, squeeze, take_down_to

U, M, R = range(3)


def recorded(*args, **options):
    kernel = Kernel(*args, **options)
    kernel.record()
    return kernel


def reasons(kernel, key=None):
    """Return the last request's reasons as (key, values), or the values of one key."""
    found = [(reason.key, dict(reason.values)) for reason in kernel.why().reasons]
    return found if key is None else [values for name, values in found if name == key]


def keys_in_code():
    """Return every key that code in mm/ passes to note(), by itself or through a helper."""
    keys = set()
    for path in Path(kmemkit.mm.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            keys.update(
                part.value
                for key in keys_of(node)
                for part in ast.walk(key)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )
    return keys


def keys_of(node):
    """Return the expressions in one node of code that stand for keys."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp):
        return [node.value] if getattr(node.targets[0], "id", "") == "key" else []
    if not isinstance(node, ast.Call):
        return []
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    place = {"note": 0, "_note": 1, "said": 1}.get(name)
    return [] if place is None else node.args[place : place + 1]


# -- a string for every reason --------------------------------------------------------------------


def test_every_reason_has_a_string_and_every_string_a_reason():
    table = {k.removeprefix("why.") for k in known_keys() if k.startswith("why.")}
    assert keys_in_code() == table


def all_kinds_of_requests():
    """Yield kernels right after requests which between them give every kind of reason."""
    small = recorded("1M")
    for gfp, order in (("__GFP_MOVABLE", 2), ("GFP_KERNEL", 0), ("GFP_KERNEL", 9)):
        small.alloc_pages(gfp, order)
        yield small
    for pfn, order in ((0, 2), (64, 0)):
        small.free_pages(pfn, order)
        yield small
    full = recorded("1M")
    pages = [full.alloc_pages("__GFP_MOVABLE") for _ in range(256)]
    full.alloc_pages("__GFP_MOVABLE")
    yield full
    for pfn in (0, 1, 2, *pages[16::2]):
        full.free_pages(pfn)
        yield full
    full.zones[0].movable.update(dict.fromkeys(range(8), 32))
    full.alloc_pages("GFP_KERNEL|__GFP_NORETRY")  # refused, then stolen
    yield full
    full.alloc_pages("GFP_NOWAIT", 4)  # enough pages, no block
    yield full

    half = recorded("1M")
    half.alloc_pages("__GFP_MOVABLE", 6)
    half.alloc_pages("__GFP_MOVABLE", 6)
    half.alloc_pages("__GFP_MOVABLE", 6)
    half.alloc_pages("__GFP_MOVABLE", 5)
    half.alloc_pages("__GFP_MOVABLE", 4)
    half.alloc_pages("GFP_KERNEL")  # claimed
    yield half
    half.zones[0].pageblock[0] = 3
    half.free_pages(0, 6)  # highatomic never merges with movable
    yield half

    ragged = recorded(100 * 4096)
    ragged.alloc_pages("__GFP_MOVABLE", 4)
    while ragged.alloc_pages("__GFP_MOVABLE", 3) is not None:
        pass
    ragged.alloc_pages("GFP_KERNEL")  # the last pageblock straddles the end
    yield ragged
    stingy = recorded("1M")
    stingy.alloc_pages("GFP_KERNEL", 6)
    stingy.zones[0].pageblock[0:8] = bytes([U] * 8)
    while stingy.alloc_pages("GFP_NOWAIT", 3) is not None:
        pass
    stingy.free_pages(0, 2)
    stingy.alloc_pages("__GFP_MOVABLE")  # too small to claim
    yield stingy

    real = recorded("256M")
    for _ in range(3):
        real.alloc_pages("GFP_ATOMIC")
        yield real
    pages = [real.alloc_pages("GFP_ATOMIC") for _ in range(2000)]
    for pfn in pages:
        real.free_pages(pfn)
    yield real
    real.drain_all_pages()
    yield real
    zone = real.zones[1]
    zone.managed = 51_200
    for each in real.zones:
        each.watermark[LOW] = each.watermark[HIGH] = 60_000
    real.alloc_pages("GFP_ATOMIC", 4)  # slow path, then a reserve
    yield real
    real.alloc_pages("GFP_KERNEL", 11)
    yield real
    zone.watermark[LOW] = zone.watermark[HIGH] = zone.watermark[MIN]
    while zone.free_head[10 * 5 + M] or zone.free_tail[10 * 5 + M]:
        real.alloc_pages("__GFP_MOVABLE", 10)
    while zone.free_head[9 * 5 + M] or zone.free_tail[9 * 5 + M]:
        real.alloc_pages("__GFP_MOVABLE|__GFP_DMA32", 9)
    real.alloc_pages("GFP_KERNEL", 8)  # claims less than a pageblock: boost
    yield real


def all_kinds_of_roads():
    """Yield kernels right after requests that between them come to every rung of the slow path."""
    for moment, gfp, order in (
        ("files", "GFP_KERNEL", 0), ("files", "GFP_KERNEL|__GFP_RETRY_MAYFAIL", 9),
        ("full", "GFP_KERNEL", 0), ("full", "GFP_KERNEL", 2),
        ("full", "GFP_NOFS", 0), ("full", "GFP_NOIO", 2), ("full", "GFP_KERNEL", 4),
        ("full", "GFP_KERNEL|__GFP_NORETRY", 0), ("full", "GFP_KERNEL|__GFP_NORETRY", 4),
        ("full", "GFP_KERNEL|__GFP_RETRY_MAYFAIL", 4), ("drained", "GFP_KERNEL|GFP_DMA", 0),
        ("scattered", "GFP_KERNEL", 2), ("scattered", "GFP_KERNEL", 4),
    ):  # fmt: skip
        kernel = at(moment)
        ends(kernel, gfp, order)
        yield kernel
    short = at("scattered")
    short.vm.extfrag_threshold = 1000
    ends(short, "GFP_KERNEL", 4)
    yield short

    stuck = at("holes")
    node = stuck.nodes[0]
    for pfn in [*node.pages(ACTIVE_ANON), *(p for p in node.pages(INACTIVE_FILE) if p % 4 == 0)]:
        node.folio_del_lru(pfn)  # a driver has it now: it neither moves nor goes
    ends(stuck, "GFP_KERNEL|__GFP_RETRY_MAYFAIL", 3)
    yield stuck

    dying = at("full")
    dying.mark_oom_victim()
    ends(dying, "GFP_KERNEL")
    yield dying
    alone = boot(anon="")
    squeeze(alone, part=0.3)
    alone.record()
    ends(alone, "GFP_KERNEL")
    yield alone
    rescuer = at("full")
    for zone in rescuer.zones:
        take_down_to(rescuer, zone, 0)
    rescuer.set_task_flags(PF_MEMALLOC)
    ends(rescuer, "GFP_KERNEL")
    yield rescuer

    reserve = at("scattered")
    zone = reserve.zones[1]
    pfn = zone.end_pfn - 5000
    move_freepages_block(zone, pfn, zone.pageblock[pfn >> 9], MIGRATE_HIGHATOMIC)
    zone.nr_reserved_highatomic = 512
    ends(reserve, "GFP_KERNEL|__GFP_RETRY_MAYFAIL", 2)
    yield reserve


def all_kinds_of_contexts():
    """Yield kernels right after calls which between them say all there is to say of a context."""
    kernel = recorded("64M")
    for scope in ("nofs", "noio", "noreclaim", "pin"):
        with getattr(kernel, f"memalloc_{scope}_save")():
            yield kernel
            kernel.alloc_pages("GFP_HIGHUSER_MOVABLE")
            yield kernel
            with getattr(kernel, f"memalloc_{scope}_save")():
                yield kernel
        yield kernel
    with kernel.hardirq():
        yield kernel
        with kernel.memalloc_noreclaim_save():
            yield kernel
    yield kernel
    for debug_kernel in (False, True):
        kernel = recorded("64M", debug_kernel=debug_kernel)
        with kernel.hardirq():
            kernel.alloc_pages("GFP_KERNEL")
            yield kernel
    kernel = at("files")
    with kernel.local_irq_save():
        kernel.alloc_pages("GFP_KERNEL")
        yield kernel


def test_every_reason_can_be_had_and_reads():
    seen = {}
    kinds = (all_kinds_of_requests(), all_kinds_of_roads(), all_kinds_of_contexts())
    for kernel in itertools.chain(*kinds):
        for reason in kernel.why().reasons:
            if reason.key not in seen:
                seen[reason.key] = str(reason)
    assert keys_in_code() <= set(seen)
    assert all("{" not in line and line for line in seen.values())


def test_zone_that_has_nothing_to_give_is_named():
    kernel = recorded("64M", pcp=False)
    zone = kernel.zones[1]
    zone.watermark[:3] = [0, 0, 0]
    zone.vm_stat += 5000  # what the check reads is wrong by that much
    for _ in range(zone.managed):
        kernel.alloc_pages("GFP_KERNEL")
    assert kernel.page_zone(kernel.alloc_pages("GFP_KERNEL")) is kernel.zones[0]
    assert reasons(kernel, "zone_has_none") == [{"zone": "DMA32", "order": 0}]
    assert "zone DMA32 has no block to give" in str(kernel.why())


# -- why ------------------------------------------------------------------------------------------


def test_why_lists_every_list_looked_at_and_every_split():
    kernel = recorded("1M")
    assert kernel.alloc_pages("__GFP_MOVABLE", 2) == 0
    assert [key for key, _ in reasons(kernel)] == [
        "watermark_ok", *["list_empty"] * 4, "list_taken", *["split"] * 4,
    ]  # fmt: skip
    assert [r["order"] for r in reasons(kernel, "list_empty")] == [2, 3, 4, 5]
    assert {r["type"] for r in reasons(kernel, "list_empty")} == {M}
    assert reasons(kernel, "list_taken") == [{"order": 6, "type": M, "pfn": 0}]
    assert reasons(kernel, "split") == [
        {"pfn": 0, "order": half + 1, "half": half, "upper": 1 << half} for half in (5, 4, 3, 2)
    ]
    assert str(kernel.why()).splitlines()[0] == "alloc_pages(__GFP_MOVABLE, 2) -> pfn 0x0"
    line = kernel.why().lines()[-1]
    assert line == "split 0x0: the upper half, 0x4, goes to the head of the order 2 list; keep 0x0"
    assert repr(kernel.why()) == str(kernel.why())


def test_why_lists_every_merge():
    kernel = recorded("1M")
    kernel.alloc_pages("__GFP_MOVABLE", 2)
    kernel.free_pages(0, 2)
    assert reasons(kernel, "merge") == [
        {"pfn": 0, "buddy": 1 << order, "order": order, "merged": 0} for order in (2, 3, 4, 5)
    ]
    assert reasons(kernel)[-1] == ("to_head", {"pfn": 0, "order": 6, "type": M})


def test_why_says_where_merging_stops_and_which_end_of_the_list():
    kernel = recorded("1M")
    pages = [kernel.alloc_pages("__GFP_MOVABLE") for _ in range(4)]
    kernel.free_pages(pages[0])
    assert reasons(kernel) == [
        ("buddy_busy", {"pfn": 0, "order": 0, "buddy": 1}),
        ("to_head", {"pfn": 0, "order": 0, "type": M}),
    ]
    kernel.free_pages(pages[1])
    kernel.free_pages(pages[2])
    assert reasons(kernel) == [
        ("buddy_busy", {"pfn": 2, "order": 0, "buddy": 3}),
        ("to_tail", {"pfn": 2, "order": 0, "type": M}),
    ]


def claimable(free, movable):
    """Return a small kernel whose only free memory is `free` pages of one pageblock."""
    kernel = recorded("1M")
    for _ in range(3):
        kernel.alloc_pages("__GFP_MOVABLE", 6)
    kernel.alloc_pages("__GFP_MOVABLE", 5)
    held = [kernel.alloc_pages("__GFP_MOVABLE", 0) for _ in range(32)]
    for pfn in held[:free]:
        kernel.free_pages(pfn)
    kernel.zones[0].movable[224 >> 5] = movable
    return kernel


@pytest.mark.parametrize(
    ("free", "movable", "key", "line"),
    [
        (
            8, 0, "claim_yes",
            "claim the pageblock at 0xe0 from Movable: 8 free + 24 alike = 32 >= 16 (half of it), "
            "so all its free blocks move to Unmovable",
        ),
        (
            8, 17, "claim_no",
            "don't claim the pageblock at 0xe0 from Movable: 8 free + 7 alike = 15 < 16 (half of it)",
        ),
    ],
)  # fmt: skip
def test_why_gives_the_inequality_of_a_claim(free, movable, key, line):
    kernel = claimable(free, movable)
    assert kernel.alloc_pages("GFP_KERNEL") is not None
    (values,) = reasons(kernel, key)[:1]
    assert values == {
        "pfn": 224, "first": 224, "type": M, "new": U, "free": free, "alike": 32 - free - movable,
        "sum": 32 - movable, "half": 16,
    }  # fmt: skip
    assert line in kernel.why().lines()
    if key == "claim_no":
        assert reasons(kernel, "steal") == [{"order": 3, "type": M, "new": U}]


def test_why_says_which_marks_were_looked_at():
    kernel = recorded("64M")
    zone = kernel.zones[1]
    zone.watermark[:3] = [zone.vm_stat - 5, zone.vm_stat - 3, zone.vm_stat]
    zone.lowmem_reserve = (0, 0, 1, 0, 0)
    kernel.alloc_pages("GFP_KERNEL")
    first, second = reasons(kernel)[:2]
    free = zone.freeze().managed
    assert first[0] == "watermark_low"
    assert {key: first[1][key] for key in ("zone", "free", "mark", "reserve", "sum")} == {
        "zone": "DMA32", "free": free, "mark": free, "reserve": 1, "sum": free + 1,
    }  # fmt: skip
    assert second[0] == "watermark_ok"
    assert {key: second[1][key] for key in ("free", "mark", "reserve", "sum")} == {
        "free": free, "mark": free - 3, "reserve": 1, "sum": free - 2,
    }  # fmt: skip


def test_why_speaks_of_per_cpu_lists_only_where_there_are_any():
    real, small = recorded("256M"), recorded("1M")
    for kernel in (real, small):
        kernel.free_pages(kernel.alloc_pages("GFP_KERNEL"))
        kernel.alloc_pages("GFP_KERNEL")
    said = {reason.key for step in real.history[1:] for reason in step.why.reasons}
    assert {"pcp_refill", "pcp_hit", "pcp_free"} <= said
    said = {reason.key for step in small.history[1:] for reason in step.why.reasons}
    assert not any(key.startswith("pcp") for key in said)


def test_why_before_anything_was_recorded_says_what_to_do():
    kernel = Kernel("1M")
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"call record\(\), then make a request"):
            kernel.why()
        kernel.record()


def test_why_is_of_the_last_request():
    kernel = recorded("1M")
    kernel.alloc_pages("GFP_KERNEL", 3)
    kernel.alloc_pages("GFP_KERNEL", 99 % 12)
    assert kernel.why().call == "alloc_pages(GFP_KERNEL, 3)"
    kernel.free_pages(0, 3)
    assert kernel.why().call == "free_pages(0x0, 3)"
    assert kernel.why() is kernel.history[-1].why


def test_reason_reads_with_names_for_numbers():
    reason = Reason("list_empty", (("order", 3), ("type", R)))
    assert str(reason) == f"{order_text(3)}: the Reclaimable list is empty"
    assert str(Why("call", "result", (reason,))) == f"call -> result\n  1. {reason}"


# -- events ---------------------------------------------------------------------------------------


def test_events_of_a_request_and_its_free():
    kernel = recorded("64M", pcp=False)
    pfn = kernel.alloc_pages("GFP_KERNEL|__GFP_ZERO", 4)
    kernel.free_pages(pfn, 4)
    assert [str(event) for event in kernel.events] == [
        f"mm_page_alloc_extfrag: pfn={pfn:#x} alloc_order=4 fallback_order=10 pageblock_order=9 "
        "alloc_migratetype=0 fallback_migratetype=1 fragmenting=0 change_ownership=1",
        f"mm_page_alloc: pfn={pfn:#x} order=4 migratetype=0 gfp_flags=GFP_KERNEL|__GFP_ZERO",
        f"mm_page_free: pfn={pfn:#x} order=4",
    ]
    assert [step.events for step in kernel.history] == [(), kernel.events[:2], kernel.events[2:]]


def test_events_of_refill_and_drain():
    kernel = recorded("256M")
    kernel.alloc_pages("__GFP_MOVABLE")
    names = [event.name for event in kernel.events]
    assert names == ["mm_page_alloc_zone_locked"] * 15 + ["mm_page_alloc"]
    assert {dict(event.fields).get("percpu_refill") for event in kernel.events} == {1, None}
    kernel.drain_all_pages()
    drained = [event for event in kernel.events if event.name == "mm_page_pcpu_drain"]
    assert len(drained) == 14
    assert kernel.history[-1].call == "drain_all_pages()"


def test_events_are_numbered_and_bounded():
    trace = Trace(limit=3)
    for number in range(5):
        trace.event("mm_page_free", pfn=number)
    assert [event.seq for event in trace.events] == [3, 4, 5]
    assert trace.since(4) == (Event(5, "mm_page_free", (("pfn", 4),)),)
    assert trace.since(0) == tuple(trace.events)
    trace.note("steal", order=1)
    trace.begin()
    assert trace.reasons == []
    assert trace.seq == 5


def test_wakeup_of_kswapd_is_an_event_per_node():
    kernel = recorded("4G", nodes=2, cpus=2)
    for zone in kernel.zones:
        zone.watermark[:3] = [zone.managed] * 3
    kernel.alloc_pages("GFP_ATOMIC|__GFP_NOMEMALLOC")
    woken = [dict(e.fields)["nid"] for e in kernel.events if e.name == "mm_vmscan_wakeup_kswapd"]
    assert woken == [0, 1]


# -- recording changes nothing --------------------------------------------------------------------


def a_run(kernel, seed):
    """Make the same 300 calls on any kernel of the same kind; return what they gave."""
    rnd = random.Random(seed)
    held, results = [], []
    gfps = (
        "GFP_KERNEL|__GFP_NORETRY",
        "GFP_ATOMIC",
        "__GFP_MOVABLE",
        "GFP_NOWAIT|__GFP_RECLAIMABLE",
        "GFP_DMA",
    )
    for _ in range(300):
        action = rnd.random()
        if action < 0.55 or not held:
            order = rnd.choice((0, 0, 0, 1, 2, 3, 4, 5))
            owner = rnd.choice(("", "", "driver", "page cache"))
            pfn = kernel.alloc_pages(rnd.choice(gfps), order, owner=owner)
            results.append(pfn)
            if pfn is not None:
                held.append((pfn, order))
        elif action < 0.9:
            kernel.free_pages(*held.pop(rnd.randrange(len(held))))
        elif action < 0.94:
            results.append(kernel.alloc_pages_exact(rnd.randrange(1, 40000), gfps[0]))
        elif action < 0.97:
            results.append(kernel.alloc_pages_bulk(gfps[0], rnd.randrange(20)))
        else:
            pfn, order = rnd.choice(held)
            kernel.free_pages(pfn + (1 << order) - 1, 0)  # wrong, on purpose
    return results


@pytest.mark.parametrize("machine", [{"ram": "1M"}, {"ram": "8M", "pcp": True}, {"ram": "128M"}])
@pytest.mark.parametrize("seed", range(3))
def test_recording_changes_no_result_and_no_state(machine, seed):
    silent, watched, heard = (Kernel(**machine) for _ in range(3))
    watched.record(limit=3)
    heard.add_listener(lambda: None)
    results = [a_run(kernel, seed) for kernel in (silent, watched, heard)]
    assert results[0] == results[1] == results[2]
    assert plain(silent) == plain(watched) == plain(heard)
    assert silent.dmesg() == watched.dmesg()


def plain(kernel):
    """Return a snapshot with list order instead of how a list is stored."""
    snapshot = kernel.snapshot()
    zones = [
        {name: value for name, value in vars(zone).items() if name != "_lists"}
        | {"lists": zone.free_lists()}
        for zone in snapshot.zones
    ]
    return vars(snapshot) | {"zones": zones}


@pytest.mark.parametrize("seed", range(3))
def test_what_is_said_of_a_mark_is_what_was_decided(seed):
    kernel = recorded("20M", pcp=False)
    for zone in kernel.zones:
        zone.watermark[:3] = [200, 300, 500]
        zone.watermark_boost = 100
    a_run(kernel, seed)
    verdicts = {
        "watermark_ok": lambda left, least: left > least,
        "watermark_low": lambda left, least: left <= least,
        "no_block": lambda left, least: left > least,
    }
    seen = set()
    for step in kernel.history[1:]:
        for reason in step.why.reasons:
            if reason.key in verdicts:
                values = dict(reason.values)
                assert values["left"] == values["free"] - values["less"]
                assert values["sum"] == values["mark"] + values["reserve"]
                assert verdicts[reason.key](values["left"], values["sum"])
                seen.add(reason.key)
        keys = [reason.key for reason in step.why.reasons]
        if step.call.startswith("alloc_pages(") and step.ok:
            assert "watermark_ok" in keys
    assert {"watermark_ok", "watermark_low"} <= seen


def events_of(kernel, call):
    call()
    return [str(event) for event in kernel.history[-1].events]


def frees(events):
    return [event for event in events if event.startswith("mm_page_free:")]


def test_a_failed_request_is_an_event_too():
    kernel = recorded("256K")
    while kernel.alloc_pages("GFP_KERNEL", 4) is not None:
        pass
    assert str(kernel.history[-1].events[-1]) == (
        "mm_page_alloc: pfn=0x0 order=4 migratetype=0 gfp_flags=GFP_KERNEL"
    )
    assert events_of(kernel, lambda: kernel.alloc_pages("GFP_KERNEL", 11)) == []


def test_only_pages_that_are_freed_are_free_events():
    kernel = recorded("1M")
    pfn = kernel.alloc_pages("GFP_KERNEL", 2)
    kernel.get_page(pfn)
    # somebody holds the first page, so the others are freed: two, then one
    assert frees(events_of(kernel, lambda: kernel.free_pages(pfn, 2))) == [
        f"mm_page_free: pfn={pfn + 2:#x} order=1",
        f"mm_page_free: pfn={pfn + 1:#x} order=0",
    ]
    last = events_of(kernel, lambda: kernel.put_page(pfn))
    assert frees(last) == [f"mm_page_free: pfn={pfn:#x} order=0"]
    pfn = kernel.alloc_pages("GFP_KERNEL")
    kernel.get_page(pfn)
    assert events_of(kernel, lambda: kernel.put_page(pfn)) == []


def test_the_tail_of_an_exact_block_is_freed_page_by_page():
    kernel = recorded("1M")
    events = events_of(kernel, lambda: kernel.alloc_pages_exact("20K", "GFP_KERNEL"))
    assert frees(events) == [f"mm_page_free: pfn={pfn:#x} order=0" for pfn in (5, 6, 7)]


def test_bulk_pages_are_no_events():
    kernel = recorded("256M")
    events = events_of(kernel, lambda: kernel.alloc_pages_bulk("GFP_KERNEL", 5))
    assert not [event for event in events if event.startswith("mm_page_alloc:")]
