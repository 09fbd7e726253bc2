"""SlabMap without a browser: text twin, states against the kernel, damage, patches, bad input."""

import random
import struct
from array import array

import pytest

from kmemkit import Kernel, SlabMap, slab_memory
from kmemkit.mm import slab, slub_debug
from kmemkit.slab_memory import SlabMemory, is_object, objects
from kmemkit.views import _slab_bytes, _slab_model
from kmemkit.views._slab_model import DAMAGED, OWN, RANK, WHO, CacheModel

pytestmark = pytest.mark.usefixtures("sends_at_once")

TWIN = """\
Cache foo
objects of 700 bytes, one every 704 bytes · 11 in a slab of order 1 = 2 pages = 8 kB
3 of 11 objects in use · slabs: 1 · Linux 6.12 rules
# is an object in use. A number is a free one's place on its free list, with ' on the list of the \
slab beside that of the CPU. ! is damage.

CPU 0's slab
"""


def some(count, *, size=100, free=3, cmdline="", **options):
    """A kernel with a cache "foo" of which `count` objects were allocated, every `free`th freed."""
    kernel = Kernel("64M", cmdline=cmdline, seed=3, **options)
    cache = kernel.kmem_cache_create("foo", size)
    live = [kernel.kmem_cache_alloc(cache, "GFP_KERNEL") for _ in range(count)]
    for obj in live[::free]:
        kernel.kmem_cache_free(cache, obj)
    return kernel, cache, live


def cells(view):
    """What the map says of each object: {address: its word without who had it}."""
    model = view.model()
    return {
        model.address(n, index): word & (1 << WHO) - 1
        for n, state in enumerate(model.states)
        for index, word in enumerate(state.words)
    }


# -- the text twin --------------------------------------------------------------------------------


def test_text_twin():
    kernel, cache, _ = some(4, size=700, free=4)
    view = SlabMap(kernel, cache)
    text = view.text()
    assert text.startswith(TWIN)
    pfn, lists = view.model().states[0].slab.pfn, text.splitlines()[6:]
    assert lists[0] == f"  {pfn:#x}  3 of 11 in use"
    assert sum(line.count("#") for line in lists[1:-1]) == 3
    order = [(at - view.model().address(0, 0)) // 704 for at in free_order(view.model(), 0)]
    assert lists[-1] == f"    the CPU's free list: {' → '.join(map(str, order))} → end"
    assert repr(view) == "SlabMap(foo, 3 of 11 objects in use)"
    data, _ = view._repr_mimebundle_()
    assert data["text/plain"] == text
    assert SlabMap(kernel.clone(), cache).text() == text


def free_order(model, n):
    """The objects on a slab's first free list."""
    return model.states[n].lists[0].objects


def test_many_objects_are_told_in_short():
    kernel, cache, _ = some(6000, size=200)
    text = SlabMap(kernel, cache).text()
    assert "# is an object in use, . a free one, ! a damaged one." in text
    assert "more slabs:" in text
    assert len(text) < 40_000


def test_no_caches_then_no_slabs_then_the_newest():
    kernel = Kernel("64M")
    assert "No caches yet" in SlabMap(kernel).text()
    cache = kernel.kmem_cache_create("foo", 5000)
    assert "No slabs: the first allocation makes one." in SlabMap(kernel, cache).text()
    kernel.kmem_cache_alloc(cache, "GFP_KERNEL")
    assert SlabMap(kernel).cache == "foo"


# -- objects, lists, groups -----------------------------------------------------------------------


@pytest.mark.parametrize("cmdline", ["", "slab_debug=FZPU"])
def test_every_object_is_in_use_or_free_as_the_calls_left_it(cmdline):
    kernel, cache, live = some(0, cmdline=cmdline, cpus=2)
    view, dice, live = SlabMap(kernel, cache), random.Random(1), []
    for _ in range(12):
        kernel.cpu = dice.randrange(2)
        for _ in range(40):
            if live and dice.random() < 0.4:
                kernel.kmem_cache_free(cache, live.pop(dice.randrange(len(live))))
            else:
                live.append(kernel.kmem_cache_alloc(cache, "GFP_KERNEL"))
        found = cells(view)
        assert {at for at, word in found.items() if not word & RANK} == set(live)
        assert not any(word & DAMAGED for word in found.values())
        fresh = SlabMap(kernel.snapshot(), cache)
        assert view.text() == fresh.text()
        grouped = [n for group in view.model().groups for n in group.slabs]
        assert sorted(grouped) == list(range(len(view.model().states)))
    kinds = {group.kind for group in view.model().groups}
    assert kinds <= ({"partial", "node_full"} if cmdline else {"cpu", "cpu_partial", "full"})


def test_the_next_allocation_is_number_1_of_the_cpus_list():
    kernel, cache, _ = some(30)
    view = SlabMap(kernel, cache)
    for _ in range(5):
        (first,) = [
            at
            for at, word in cells(view).items()
            if word == 1 and view.line(at).endswith("number 1 on the CPU's free list")
        ]
        assert kernel.kmem_cache_alloc(cache, "GFP_KERNEL") == first
        assert view.line(first).endswith("· in use")


def test_what_another_cpu_frees_is_on_the_slabs_own_list():
    kernel, cache, live = some(5, free=99, cpus=2)
    view = SlabMap(kernel, cache)
    kernel.cpu = 1
    kernel.kmem_cache_free(cache, live[2])
    assert cells(view)[live[2]] == 1 | OWN
    assert view.line(live[2]).endswith("free, number 1 on the slab's free list")
    assert "1'" in view.text()
    assert f"the slab's free list: {view.model().place(live[2])[1]} → end" in view.text()


def test_who_had_an_object():
    kernel, cache, live = some(4, cmdline="slab_debug=FZPU")
    kernel.caller = "probe:12"
    kernel.kmem_cache_free(cache, live[1])
    view = SlabMap(kernel, cache)
    assert view.line(live[1]).endswith("freed by probe:12, CPU 0, pid 1")
    assert view.line(live[2]).endswith("in use · allocated by learner, CPU 0, pid 1")


# -- free lists that went wrong -------------------------------------------------------------------


def test_an_overwritten_free_pointer_ends_the_list():
    kernel, cache, live = some(30, free=99)
    victim = live[7]
    for obj in (live[5], victim):
        kernel.kmem_cache_free(cache, obj)
    view = SlabMap(kernel, cache, selected=victim)
    offset = view.model().cache.offset
    kernel.write(victim + offset, b"\x41" * 8)
    assert "overwritten: leads to 0x" in view.text()
    assert "which is no object of this slab" in view.text()
    assert cells(view)[victim] == 1 | DAMAGED
    assert cells(view)[live[5]] == 0, "nobody can find it any more"
    assert len(view._broken) == 1


def test_a_circle_is_told_and_does_not_hang():
    kernel, cache, live = some(30, free=99)
    for obj in (live[3], live[4], live[3]):
        kernel.kmem_cache_free(cache, obj)
    text = SlabMap(kernel, cache).text()
    index = SlabMap(kernel, cache).model().place(live[3])[1]
    assert f"broken: object {index} again: a circle" in text


def test_a_free_in_the_middle_of_an_object_is_told():
    kernel, cache, live = some(30, free=99)
    kernel.kfree(live[3] + 8)
    view = SlabMap(kernel, cache)
    index = view.model().place(live[3])[1]
    assert f"byte 8 of object {index} is on the free list" in view.text()
    assert cells(view)[live[3]] == 1 | DAMAGED


# -- bytes ----------------------------------------------------------------------------------------


def regions(view, at):
    """The rows of the selected object that begin a region: {kind: (hex, damaged, note)}."""
    view.selected = at
    return {
        row["kind"]: (" ".join(row["hex"]), row["bad"], row["note"])
        for row in view._bytes
        if row["label"]
    }


def test_regions_of_a_debug_cache_in_use_and_free():
    kernel, cache, live = some(10, cmdline="slab_debug=FZPU")
    view = SlabMap(kernel, cache)
    used, free = regions(view, live[1]), regions(view, live[0])
    assert list(used) == ["left", "object", "right", "pointer", "tracks", "padding"]
    assert list(free) == ["left", "poison", "right", "pointer", "tracks", "padding"]
    assert (used["left"][0], free["left"][0]) == (" ".join(["cc"] * 8), " ".join(["bb"] * 8))
    assert view._bytes[-1]["hex"] == ["5a"] * 8
    assert used["tracks"][2].startswith("allocated by learner, CPU 0, pid 1, at ")


@pytest.mark.parametrize(
    ("offset", "kind", "place"),
    [(-3, "left", [5]), (100, "right", [0]), (177, "padding", [1]), (50, "poison", [])],
)
def test_damage_is_marked_where_it_is(offset, kind, place):
    kernel, cache, live = some(10, cmdline="slab_debug=FZPU")
    victim = live[0] if kind == "poison" else live[1]
    kernel.write(victim + offset, b"\x11")
    view = SlabMap(kernel, cache)
    _, bad, note = regions(view, victim)[kind]
    assert bad == place
    assert f"at {offset:+#x} is 0x11, not 0x" in note
    assert [at for at, word in cells(view).items() if word & DAMAGED] == [victim]
    assert view.line(victim).split(" · ")[-2] == "damaged"
    assert "!11" in view.text()


def test_what_the_checks_report_is_what_the_map_marks():
    kernel, cache, live = some(10, cmdline="slab_debug=FZPU")
    kernel.write(live[1] + 100, b"abcd")
    assert "4 of 4 bytes; at +0x64 is 0x61, not 0xcc" in SlabMap(kernel, selected=live[1]).text()
    kernel.kmem_cache_free(cache, live[1])
    assert "First byte 0x61 instead of 0xcc" in kernel.dmesg()


def test_kmalloc_remembers_what_was_asked_for():
    kernel = Kernel("64M", cmdline="slab_debug=FZPU", seed=1)
    at = kernel.kmalloc(50, "GFP_KERNEL")
    view = SlabMap(kernel, "kmalloc-64", selected=at)
    kernel.write(at + 50, b"x")
    found = regions(view, at)
    assert found["asked"][2] == "kmalloc() was asked for 50 bytes"
    assert found["right"][1] == [0]


def test_a_plain_cache_expects_nothing():
    kernel, cache, live = some(10)
    kernel.write(live[1], bytes(range(100)))
    view = SlabMap(kernel, cache)
    assert list(regions(view, live[1])) == ["object", "padding"]
    assert regions(view, live[0])["pointer"][2].startswith("leads to object ")
    assert not any(word & DAMAGED for word in cells(view).values())


def test_bytes_are_those_that_a_load_gets():
    kernel, _, live = some(10)
    snapshot = kernel.snapshot()
    (found,) = [one for one in snapshot.caches if one.name == "foo"]
    one = found.slabs[0]
    data = SlabMemory(snapshot).read(found, one, live[0], 104)
    assert data == kernel.read(live[0], 104)


def test_equal_rows_are_counted():
    kernel, cache, live = some(10, size=1000)
    view = SlabMap(kernel, cache, selected=live[1])
    assert [row["note"] for row in view._bytes if row["note"]] == ["61 more rows like it"]
    assert "O                  +0x0010  61 more rows like it" in view.text()


def test_constants_are_the_simulators():
    assert slab_memory.RED_ZONE == slab.SLAB_RED_ZONE
    assert slab_memory.POISON == slab.SLAB_POISON
    assert slab_memory.KMALLOC == slab.SLAB_KMALLOC
    assert slab_memory.STORE_USER == slab.SLAB_STORE_USER
    assert getattr(slab, "__OBJECT_POISON") == slab_memory.OBJECT_POISON
    names = ("RED_INACTIVE", "RED_ACTIVE", "POISON_INUSE", "POISON_FREE", "POISON_END")
    for name in names:
        assert getattr(slab_memory, name) == getattr(slub_debug, name)
    flags = slab.SLAB_RED_ZONE | slab.SLAB_POISON | slab.SLAB_STORE_USER
    assert flags == _slab_model.DEBUG
    assert set(_slab_bytes.REGION_LETTERS.values()) == set("LOKRFTSP")


# -- what is sent ---------------------------------------------------------------------------------


def test_only_what_changed_is_sent():
    kernel, cache, _ = some(2000)
    view = SlabMap(kernel, cache)
    words = array("I", view._words)
    before = view._words
    obj = kernel.kmem_cache_alloc(cache, "GFP_KERNEL")
    assert view._words is before, "the whole column goes out once"
    number, ranges = struct.unpack_from("<II", view._patch)
    assert (number, ranges) == (0, 1)
    start, length = struct.unpack_from("<II", view._patch, 8)
    assert length <= 256
    words[start // 4 : (start + length) // 4] = array("I", view._patch[16:])
    assert words.tobytes() == view._column
    assert view.get_state("_words")["_words"] == view._column, "a page opened later needs no patch"
    kernel.kmem_cache_free(cache, obj)
    assert struct.unpack_from("<I", view._patch) == (1,)


def test_a_model_takes_over_only_what_did_not_change():
    kernel, cache, _ = some(3000)
    (old,) = [one for one in kernel.snapshot().caches if one.name == "foo"]
    model = CacheModel(kernel.snapshot(), old)
    # The list's first object and the counter are the same again, the order is not.
    got = [kernel.kmem_cache_alloc(cache, "GFP_KERNEL") for _ in range(3)]
    for obj in (got[1], got[2], got[0]):
        kernel.kmem_cache_free(cache, obj)
    snapshot = kernel.snapshot()
    (new,) = [one for one in snapshot.caches if one.name == "foo"]
    counted = [[slab._replace(links={}) for slab in one.slabs] for one in (old, new)]
    assert counted[0] == counted[1]
    assert new.cpus == old.cpus
    again = CacheModel(snapshot, new, model)
    fresh = CacheModel(snapshot, new)
    assert [one.words for one in again.states] == [one.words for one in fresh.states]
    assert [one.words for one in again.states] != [one.words for one in model.states]
    kept = [one is other for one, other in zip(again.chunks, model.chunks, strict=True)]
    assert kept.count(False) == 1


def test_a_store_that_breaks_a_list_is_seen_in_a_chunk_that_looks_the_same():
    kernel, cache, _ = some(300)
    view = SlabMap(kernel, cache)
    n, victim = next(
        (n, state.lists[0].objects[1])
        for n, state in enumerate(view.model().states)
        if len(state.lists) == 1 and len(state.lists[0].objects) > 2
    )
    kernel.write(victim + view.model().cache.offset, b"\xff" * 8)
    assert n in view.model().broken()
    assert view.text() == SlabMap(kernel.snapshot(), cache).text()


# -- selecting, steps, bad input ------------------------------------------------------------------


def test_selecting_a_byte_selects_its_object():
    kernel, cache, live = some(10)
    view = SlabMap(kernel, cache)
    view.selected = live[4] + 33
    assert view.selected == live[4]
    assert view.get_state("selected") == {"selected": f"{live[4]:#x}"}
    view.set_state({"selected": f"{live[5]:#x}"})
    assert view.selected == live[5]
    assert view.text().splitlines()[-2:] != []
    with pytest.raises(ValueError, match="is in no object of the cache foo"):
        view.selected = 0x1000
    with pytest.raises(ValueError, match="0x1000 is in no object of the cache foo"):
        view.line(0x1000)


def test_another_cache_can_be_chosen_and_one_can_go():
    kernel, cache, live = some(10, size=5000)
    view = SlabMap(kernel, cache, selected=live[1])
    kernel.kmalloc(2000, "GFP_KERNEL")
    assert {"foo", "kmalloc-2k"} <= set(view._caches)
    view.cache = "kmalloc-2k"
    assert view.selected is None
    assert view.text().startswith("Cache kmalloc-2k")
    view.cache = "foo"
    for index, obj in enumerate(live):
        if index % 3:
            kernel.kmem_cache_free(cache, obj)
    kernel.kmem_cache_destroy(cache)
    assert "There is no such cache at this moment." in view.text()
    assert repr(view) == "SlabMap(foo, no slabs)"


def test_an_alias_shows_the_cache_it_was_merged_into():
    kernel = Kernel("64M")
    one, other = (kernel.kmem_cache_create(name, 5000) for name in ("one", "other"))
    assert one == other
    kernel.kmem_cache_alloc(one, "GFP_KERNEL")
    view = SlabMap(kernel, "other")
    assert view.cache == "one"
    assert "also serves other" in view.text()


def test_history_scrubs():
    kernel = Kernel("64M")
    cache = kernel.kmem_cache_create("foo", 5000)
    kernel.record()
    for _ in range(3):
        kernel.kmem_cache_alloc(cache, "GFP_KERNEL")
    view = SlabMap(history=kernel.history, cache="foo")
    last = len(kernel.history) - 1
    assert view.step == last
    assert view.model().counts["inuse"] == 3
    view.step = last - 1
    assert view.model().counts["inuse"] == 2
    assert view.text().splitlines()[-1].startswith(f"step {last - 1} of {last}: kmem_cache_alloc")
    following = SlabMap(kernel, cache, step=last - 2)
    assert following.model().counts["inuse"] == 1
    kernel.kmem_cache_alloc(cache, "GFP_KERNEL")
    assert following.model().counts["inuse"] == 4


def test_bad_input_says_what_is_accepted():
    kernel, cache, _ = some(3)
    with pytest.raises(ValueError, match=r"there is no cache bar; caches with slabs: .*foo"):
        SlabMap(kernel, "bar")
    with pytest.raises(ValueError, match="there is no cache 0x10"):
        SlabMap(kernel, 16)
    with pytest.raises(ValueError, match="there is no cache bar"):
        SlabMap(kernel, cache).cache = "bar"
    with pytest.raises(TypeError, match="SlabMap does not know 'chache'; it accepts: source"):
        SlabMap(kernel, chache="foo")
    with pytest.raises(TypeError, match="give one"):
        SlabMap()
    with pytest.raises(TypeError, match="shows a Snapshot or follows a Kernel"):
        SlabMap(3)
    with pytest.raises(ValueError, match="is in no object"):
        SlabMap(kernel, cache, selected=5)


def test_objects_of_a_slab():
    kernel, _, live = some(3, cmdline="slab_debug=FZPU")
    (found,) = [one for one in kernel.snapshot().caches if one.name == "foo"]
    one = found.slabs[0]
    assert len(objects(found, one)) == one.objects
    assert all(is_object(found, one, at) for at in live)
    assert not is_object(found, one, live[0] + 8)
