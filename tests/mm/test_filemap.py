"""What programs bring into memory: files, anonymous pages, slabs, swap, and simulated time."""

import pytest

from kmemkit import Kernel
from kmemkit.mm.errors import Panic
from kmemkit.mm.filemap import GFP_READAHEAD, PAGE_CACHE
from kmemkit.mm.swap import ACTIVE_ANON, INACTIVE_FILE, LRU_DIRTY
from kmemkit.snapshot import Kind
from tests.mm.moments import boot
from tests.mm.test_properties import check_snapshot


def free(kernel):
    return sum(zone.free_pages + sum(pcp.count for pcp in zone.pcps) for zone in kernel.zones)


# -- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dirty", [False, True])
def test_a_file_is_single_movable_pages_on_the_inactive_list(dirty):
    kernel = Kernel("64M")
    before = free(kernel)
    assert kernel.read_file("1M", dirty=dirty) == 256
    pages = list(kernel.nodes[0].pages(INACTIVE_FILE))
    assert len(pages) == len(set(pages)) == before - free(kernel) == 256
    snapshot = kernel.snapshot()
    for pfn in pages:
        info = snapshot.page(pfn)
        assert (info.kind, info.order, info.owner) == (Kind.MOVABLE, 0, PAGE_CACHE)
        assert kernel.mem_map.lru[pfn] == INACTIVE_FILE | LRU_DIRTY * dirty
    assert snapshot.nodes[0].nr("inactive_file") == 256
    assert snapshot.nodes[0].lru("inactive_file") == tuple(pages)


def test_reading_goes_on_when_memory_is_short():
    kernel = boot("64M", anon="")
    before = free(kernel)
    assert kernel.read_file("256M") == 65536  # each page found room, others had to go for it
    there = kernel.nodes[0].nr(INACTIVE_FILE)
    assert 0.9 * before < there < before
    assert kernel.vm_events["pgsteal_kswapd"] + kernel.vm_events["pgsteal_direct"] == 65536 - there
    assert not kernel.vm_events["oom_kill"]


def test_reading_stops_quietly_where_there_is_no_room():
    kernel = Kernel("1M")
    kernel.fork("task", anon="512K")
    held = [kernel.alloc_pages("GFP_NOWAIT") for _ in range(60)]
    assert all(pfn is not None for pfn in held)
    for pfn in kernel.nodes[0].pages(ACTIVE_ANON):
        assert kernel.mem_map.lru[pfn]
    left = free(kernel)
    got = kernel.read_file("4M")
    assert got >= left
    assert kernel.dmesg() == ""
    assert GFP_READAHEAD == 0x112CCA


def test_calls_are_recorded_once_however_many_pages_they_take():
    kernel = Kernel("64M")
    kernel.record()
    kernel.read_file("1M")
    kernel.read_file("1M", dirty=True)
    task = kernel.fork("browser", anon="1M")
    kernel.exit(task)
    kernel.swapon("1M")
    kernel.grow_slab("1M")
    kernel.sleep(2.5)
    assert [(step.call, step.result) for step in kernel.history[1:]] == [
        ("read_file(256 pages)", "256 pages"),
        ("write_file(256 pages)", "256 pages"),
        ("fork(browser, 256 pages)", "pid 2"),
        ("exit(browser)", ""),
        ("swapon(256 pages)", ""),
        ("grow_slab(256 pages)", "256 pages"),
        ("msleep(2.5)", ""),
    ]
    assert all(step.ok and len(step.why.reasons) < 100 for step in kernel.history[1:])
    assert all(zone.trace is kernel.trace for zone in kernel.zones)


def test_a_panic_in_the_middle_leaves_the_recording_in_place():
    kernel = boot("64M", anon="")
    kernel.record()
    with pytest.raises(Panic):
        kernel.fork("spared", anon="128M", oom_score_adj=-1000)
    assert kernel.trace is not None
    assert all(zone.trace is kernel.trace for zone in kernel.zones)
    check_snapshot(kernel.snapshot())


# -- tasks -------------------------------------------------------------------------------------------


def test_a_task_has_its_pages_its_tables_and_its_structures():
    kernel = Kernel("64M")
    before = free(kernel)
    task = kernel.fork("browser", anon="4M", oom_score_adj=300, uid=1000)
    assert (task.pid, task.comm, task.oom_score_adj, task.uid) == (2, "browser", 300, 1000)
    assert (task.rss, task.total_vm, task.swapents) == (1024, 1024, 0)
    assert len(task.pgtables) * 4096 == task.pgtables_bytes
    assert len(task.pgtables) == 6  # 1024 / 512, and four levels above them
    assert before - free(kernel) == 1024 + 6 + 16
    snapshot = kernel.snapshot()
    owners = {snapshot.page(pfn).owner for pfn in (*task.anon, *task.pgtables, *task.kernel_pages)}
    assert owners == {"browser [2]"}
    assert [kernel.task_of(pfn) for pfn in list(task.anon)[:3]] == [task] * 3
    kernel.exit(task)
    assert free(kernel) == before
    assert kernel.tasks == [kernel.current]


def test_pids_go_up_and_names_are_cut():
    kernel = Kernel("64M")
    tasks = [kernel.fork("a-very-long-task-name") for _ in range(3)]
    assert [task.pid for task in tasks] == [2, 3, 4]
    assert tasks[0].comm == "a-very-long-tas"


def test_any_number_of_tasks_may_come_and_go():
    kernel = Kernel("64M")
    for number in range(600):
        kernel.exit(kernel.fork(f"task{number}", anon="4K"))
    assert len(kernel.owner_names) < 10
    kernel.fork("last", anon="64K")
    snapshot = kernel.snapshot()
    assert {snapshot.page(pfn).owner for pfn in kernel.tasks[-1].anon} == {"last [2]"}


def test_there_are_255_owners_at_a_time():
    kernel = Kernel("64M")
    for number in range(255):
        kernel.fork(f"task{number}")
    with pytest.raises(ValueError, match="there are 255 owners already; reuse a name"):
        kernel.fork("one too many")
    kernel.exit(kernel.tasks[10])
    assert kernel.alloc_pages("GFP_KERNEL", owner="driver") is not None


def test_a_renamed_task_keeps_its_pages_also_in_a_clone():
    kernel = Kernel("64M")
    task = kernel.fork("before", anon="64K")
    kernel.run_as(task)
    kernel.comm = "after"
    pfn = next(iter(task.anon))
    assert kernel.snapshot().page(pfn).owner == "after [2]"
    assert list(kernel.clone().task(2).anon) == list(task.anon)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda k: k.fork(""), TypeError),
        (lambda k: k.fork(7), TypeError),
        (lambda k: k.fork("x", oom_score_adj=1001), ValueError),
        (lambda k: k.fork("x", oom_score_adj=-1001), ValueError),
        (lambda k: k.fork("x", oom_score_adj=0.5), ValueError),
        (lambda k: k.fork("x", anon="much"), ValueError),
        (lambda k: k.fork("x", anon=-4096), ValueError),
        (lambda k: k.read_file("-1M"), ValueError),
        (lambda k: k.swapon(None), TypeError),
        (lambda k: k.exit(k.current), ValueError),
        (lambda k: k.exit("browser"), ValueError),
        (lambda k: k.exit(Kernel("64M").fork("other")), ValueError),
        (lambda k: k.sleep(-1), ValueError),
        (lambda k: k.sleep(float("nan")), ValueError),
        (lambda k: k.sleep(1e12), ValueError),
    ],
)
def test_nonsense_is_refused_before_anything_happens(call, error):
    kernel = Kernel("64M")
    before = kernel.snapshot()
    with pytest.raises(error):
        call(kernel)
    assert kernel.snapshot() == before


# -- a page that is on a list, and freed -----------------------------------------------------------------


def test_a_page_that_is_freed_leaves_its_list_and_its_task():
    kernel = Kernel("64M")
    kernel.read_file("64K")
    task = kernel.fork("task", anon="64K")
    file, anon = next(iter(kernel.nodes[0].pages(INACTIVE_FILE))), next(iter(task.anon))
    for pfn in (file, anon):
        kernel.free_pages(pfn)
        assert kernel.mem_map.lru[pfn] == 0
    assert (kernel.nodes[0].nr(INACTIVE_FILE), kernel.nodes[0].nr(ACTIVE_ANON)) == (15, 15)
    assert (task.rss, kernel.task_of(anon)) == (15, None)


def test_a_page_with_another_reference_stays_on_its_list():
    kernel = Kernel("64M")
    kernel.read_file("64K")
    pfn = next(iter(kernel.nodes[0].pages(INACTIVE_FILE)))
    kernel.get_page(pfn)
    kernel.put_page(pfn)
    assert pfn in set(kernel.nodes[0].pages(INACTIVE_FILE))
    assert kernel.snapshot().refcounts == {}


# -- slabs and swap --------------------------------------------------------------------------------------


def test_reclaimable_slabs_stand_in_reclaimable_pageblocks():
    kernel = Kernel("64M")
    assert kernel.grow_slab("1M") == 256
    pages = kernel.snapshot().nodes[0].slab_reclaimable
    assert len(pages) == 256
    assert {kernel.snapshot().page(pfn).migratetype for pfn in pages} == {2}


def test_a_page_that_had_another_owner_has_none_when_it_comes_to_a_slab():
    kernel = Kernel("1M")
    for pfn in [kernel.alloc_pages("GFP_NOWAIT", owner="driver") for _ in range(200)]:
        kernel.free_pages(pfn)
    kernel.grow_slab("400K")
    snapshot = kernel.snapshot()
    assert {snapshot.page(pfn).owner for pfn in snapshot.nodes[0].slab_reclaimable} == {""}


def test_swap_adds_up():
    kernel = Kernel("64M")
    kernel.swapon("1M")
    kernel.swapon(8192)
    assert kernel.total_swap_pages == kernel.nr_swap_pages == 258
