"""Recorded calls of a real kernel's slab allocator, played against the simulated one."""

import copy
from pathlib import Path

import pytest

from kmemkit.mm.recording import load_recording
from kmemkit.mm.slab_replay import is_slab_recording, play_slab

RECORDINGS = sorted((Path(__file__).parent.parent / "golden" / "slab").glob("*.json.gz"))


def load(name):
    return load_recording(RECORDINGS[0].parent / f"{name}.json.gz")


def name_of(path):
    return path.name.removesuffix(".json.gz")


def test_all_recordings_are_here():
    assert len(RECORDINGS) == 13


@pytest.mark.parametrize("path", RECORDINGS, ids=name_of)
def test_recording(path):
    recording = load_recording(path)
    assert is_slab_recording(recording)
    result = play_slab(recording)
    states = sum(op.split()[0] == "cs" for op in recording["ops"])
    assert [str(one) for one in result.mismatches] == []
    assert result.results == (len(recording["ops"]) - states,) * 2
    assert result.snapshots == (states, states)
    assert result.ok


# -- what is compared -----------------------------------------------------------------------------


def result_of(recording, op):
    """Return the first result of an operation."""
    return next(
        result
        for line, result in zip(recording["ops"], recording["results"], strict=True)
        if line.split()[0] == op and result is not None
    )


def changed(name, change):
    recording = copy.deepcopy(load(name))
    change(recording)
    return play_slab(recording)


def first_mismatch(name, change):
    result = changed(name, change)
    assert not result.ok
    return result.mismatches[0].where.split(": ")[1]


INFO = load("slab01_sizes")["results"][0]["info"]


@pytest.mark.parametrize("field", [key for key in INFO if key != "oo_objects"])
def test_every_field_of_a_cache_is_compared(field):
    def change(recording):
        info = recording["results"][0]["info"]
        info[field] = info[field] + 1 if isinstance(info[field], int) else "another"

    assert first_mismatch("slab01_sizes", change) == field


@pytest.mark.parametrize("field", ["pfn", "off"])
def test_slab_and_place_of_an_object_are_compared(field):
    def change(recording):
        second = next(
            n for n, op in enumerate(recording["ops"]) if op.startswith("ca 2 ")
        )  # fmt: skip
        recording["results"][second][field] += 8

    assert first_mismatch("slab03_partial_lists", change) == {"pfn": "slab"}.get(field, field)


def test_which_object_comes_next_is_compared():
    def change(recording):
        seq = recording["results"][0]["random_seq"]
        second = next(n for n, op in enumerate(recording["ops"]) if op.startswith("ca 2 "))
        result = recording["results"][second]
        other = seq[(seq.index(result["idx"]) + 1) % len(seq)]
        result["off"] += (other - result["idx"]) * recording["results"][0]["info"]["size"]
        result["idx"] = other

    result = changed("slab03_partial_lists", change)
    assert {one.where.split(": ")[1] for one in result.mismatches} == {"off", "idx"}


def state_with(recording, where, count):
    """Return a recorded state in which a list is long enough."""
    return next(
        result
        for op, result in zip(recording["ops"], recording["results"], strict=True)
        if op.startswith("cs") and len(result[where]["partial"]) >= count
    )


@pytest.mark.parametrize("where", ["cpu0", "node0"])
@pytest.mark.parametrize(
    "change",
    [
        lambda lists: lists["partial"].reverse(),
        lambda lists: lists["partial"].pop(),
        lambda lists: lists["partial"][0].update(inuse=99),
        lambda lists: lists["partial"][0].update(objects=99),
        lambda lists: lists["partial"][0].update(slabs=99),
    ],
)
def test_lists_are_compared(where, change):
    result = changed("slab03_partial_lists", lambda r: change(state_with(r, where, 2)[where]))
    assert len(result.mismatches) == 1
    assert result.mismatches[0].where.endswith(where)
    assert result.snapshots == (651, 652)


@pytest.mark.parametrize(
    ("key", "value"),
    [("slab", None), ("freelist", False), ("slab", {"pfn": 1, "inuse": 16, "objects": 16})],
)
def test_the_cpu_slab_is_compared(key, value):
    def change(recording):
        state = next(
            result
            for op, result in zip(recording["ops"], recording["results"], strict=True)
            if op.startswith("cs") and result["cpu0"]["freelist"]
        )
        state["cpu0"][key] = value

    assert first_mismatch("slab03_partial_lists", change) == "cpu0"


@pytest.mark.parametrize(
    ("name", "op", "field", "value", "where"),
    [
        ("kmalloc01_sizes", "k", "cache", "kmalloc-16", "cache"),
        ("kmalloc01_sizes", "k", "ksize", 16, "ksize"),
        ("kmalloc01_sizes", "k", "objs", 511, "objs"),
        ("kmalloc01_sizes", "k", "order", 1, "order"),
        ("kmalloc01_sizes", "k", "off", 2673, "begins an object"),
        ("kmalloc01_sizes", "kb", "args", [0, 8], "bytes"),
        ("kmalloc03_krealloc", "kr", "args", [1, "same", "slab"], "how"),
        ("kmalloc02_overflow", "ka", "args", ["null"], "null"),
        ("kvmalloc01_sweep", "kv", "zero_size_ptr", 0, "zero_size_ptr"),
        ("vmalloc01_sequence", "v", "args", [1, "null"], "null"),
        ("slab03_partial_lists", "cx", "args", [1, 1], "slabs left"),
    ],
)
def test_other_results_are_compared(name, op, field, value, where):
    def change(recording):
        result_of(recording, op)[field] = value

    assert first_mismatch(name, change) == where


def test_an_area_that_was_vmalloced_is_not_kmalloced():
    def change(recording):
        result = next(r for r in recording["results"] if r.get("args", [])[:1] == ["vmalloc"])
        result["args"] = ["large"]

    assert first_mismatch("kvmalloc01_sweep", change) == "vmalloc"


def test_where_areas_lie_to_each_other_is_compared():
    def change(recording):
        n = recording["ops"].index("v 9 2101248")
        seventh = recording["results"][recording["ops"].index("v 7 1048576")]["args"][2]
        recording["results"][n]["args"][2] = hex(int(seventh, 16) + (1 << 20) + 4096)

    result = changed("vmalloc01_sequence", change)
    assert "behind 7" in result.mismatches[0].where


# -- what is not ----------------------------------------------------------------------------------


def test_random_choices_are_taken_from_the_recording():
    """Another order of the objects, and another beginning, in all that is recorded: it matches."""
    recording = copy.deepcopy(load("slab01_sizes"))
    for number, result in enumerate(recording["results"][:10]):
        if recording["ops"][number].startswith("cc"):
            result["random_seq"].reverse()
            seq = result["random_seq"]
        elif recording["ops"][number].startswith("ca"):
            index = seq[-1 + int(recording["ops"][number].split()[1])]
            result.update(idx=index, off=index * 8)
    assert play_slab(recording).ok


def test_the_cpu_is_taken_from_the_recording():
    recording = copy.deepcopy(load("slab01_sizes_c4"))
    for result in recording["results"]:
        if result["op"] == "cs":
            result["cpu0"], result["cpu2"] = result["cpu2"], result["cpu0"]
    assert play_slab(recording).ok


# -- malformed recordings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["results"].pop(), "not two lists of one length"),
        (lambda r: r.update(results={}), "not two lists of one length"),
        (lambda r: r["ops"].__setitem__(0, ["cc", 1]), "op 0 .* is not a line of text"),
        (lambda r: r["ops"].__setitem__(0, "zz 1"), "operation 'zz' is none"),
        (lambda r: r["ops"].__setitem__(0, "cc 1 t8"), "op 0 cc 1 t8"),
        (lambda r: r["ops"].__setitem__(0, "cc 1 t8 8 0 Q"), "KeyError"),
        (lambda r: r["results"].__setitem__(0, 5), "result 0 is not an object"),
        (lambda r: r["results"][0].update(random_seq=[0] * 512), "not an order of all objects"),
        (lambda r: r["ops"].__setitem__(1, "ca 1 77 0xcc0"), "op 1 ca 1 77"),
        (lambda r: r.update(guest="a big one"), "says no memory and CPUs"),
        (lambda r: r.update(guest="256M, 1 CPU", cmdline="slab_max_order=x"), "slab_max_order"),
    ],
)
def test_malformed(change, said):
    recording = copy.deepcopy(load("slab01_sizes"))
    change(recording)
    with pytest.raises(ValueError, match=said):
        play_slab(recording)
