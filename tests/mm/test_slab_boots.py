"""The caches of recorded boots, and the simulator held against them."""

import copy
import json
from pathlib import Path

import pytest

from kmemkit.mm.boot_record import boot_folder
from kmemkit.mm.recording import load_recording
from kmemkit.mm.slab_boots import (
    is_cache_table,
    play_boot_caches,
    play_cache_table,
    play_caches,
    play_layouts,
    read_table,
)
from kmemkit.mm.slub_layout import SlabParams

GOLDEN = Path(__file__).parent.parent / "golden"
BOOTS = load_recording(GOLDEN / "caches.json.gz")
FILES = load_recording(GOLDEN / "boot_folders.json.gz")
COLUMNS = ["object_size", "slab_size", "objs_per_slab", "order", "align", "min_partial", "aliases"]


def rows_of(name):
    return read_table(BOOTS[name]["slab_sysfs"])


def play(name, rows=None, slabinfo=None):
    boot = BOOTS[name]
    return play_caches(
        name,
        rows_of(name) if rows is None else rows,
        boot.get("slabinfo", "") if slabinfo is None else slabinfo,
        nodes=boot["nodes"], cpus=boot["cpus"], cmdline=boot["cmdline"],
    )  # fmt: skip


def test_all_boots_are_here():
    assert len(BOOTS) == 54
    assert sum("slabinfo" in boot for boot in BOOTS.values()) == 4


@pytest.mark.parametrize("name", [name for name in BOOTS if not name.startswith("i386")])
def test_every_cache_of_every_boot(name):
    result = play(name)
    assert [str(one) for one in result.mismatches] == []
    assert result.matched == result.compared > len(rows_of(name)) * 20


@pytest.mark.parametrize("name", [name for name in BOOTS if name.startswith("i386")])
def test_layout_of_every_cache_of_a_32_bit_boot(name):
    result = play_layouts(name, rows_of(name), SlabParams(nr_cpus=BOOTS[name]["cpus"], word=4))
    assert [str(one) for one in result.mismatches] == []
    assert result.compared == len(rows_of(name)) * 5


# -- tampering ------------------------------------------------------------------------------------

ATTRIBUTES = [name for name in rows_of("m256-c1")["task_struct"] if name != "alias_names"]


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_attribute_is_compared(attribute):
    rows = rows_of("m256-c1")
    cache = next(
        cache for cache, row in rows.items() if attribute != "slabs" or row["slabs"] == "0"
    )
    if attribute in ("cpu_slabs", "objects", "partial", "slabs"):
        return check_state_is_not(attribute, rows)
    rows[cache][attribute] += "1"
    (mismatch,) = play("m256-c1", rows).mismatches
    assert mismatch.where == f"{cache}/{attribute}"


def check_state_is_not(attribute, rows):
    """What a boot left allocated is no matter; without objects, the form is."""
    used = next(cache for cache, row in rows.items() if row[attribute] != "0")
    rows[used][attribute] = "12345 N0=12345"
    assert not play("m256-c1", rows).mismatches


@pytest.mark.parametrize("change", [lambda rows: rows.pop("task_struct"),
                                    lambda rows: rows.update(extra=rows["task_struct"])])  # fmt: skip
def test_every_cache_is_compared(change):
    rows = rows_of("m256-c1")
    change(rows)
    (mismatch,) = play("m256-c1", rows).mismatches
    assert mismatch.where == "directories"


def test_merged_names_are_compared():
    rows = rows_of("m256-c1")
    rows[":0000064"]["alias_names"] += " another"
    (mismatch,) = play("m256-c1", rows).mismatches
    assert mismatch.where == ":0000064/alias_names"


def test_slabinfo_is_compared():
    text = BOOTS["m256-c1"]["slabinfo"]
    lines = text.splitlines(keepends=True)
    empty = next(n for n, line in enumerate(lines) if n > 1 and line.split()[1:3] == ["0", "0"])
    used = next(n for n, line in enumerate(lines) if n > 1 and line.split()[1] != "0")
    spaced = [*lines[:empty], " " + lines[empty], *lines[empty + 1 :]]
    assert len(play("m256-c1", slabinfo="".join(spaced)).mismatches) == 2  # and its name
    other = lines[used].split()
    lines[used] = lines[used].replace(f" {other[3]} ", f" {int(other[3]) + 8} ", 1)
    assert len(play("m256-c1", slabinfo="".join(lines)).mismatches) == 1
    swapped = text.splitlines(keepends=True)
    swapped[empty], swapped[empty + 1] = swapped[empty + 1], swapped[empty]
    found = play("m256-c1", slabinfo="".join(swapped)).mismatches
    assert found[0].where == "slabinfo: names in order"


@pytest.mark.parametrize("key", ["cpus", "cmdline"])
def test_the_machine_matters(key, monkeypatch):
    name = "slab-max-order-2-c4"
    boot = {**BOOTS[name], key: {"cpus": 1, "cmdline": "slab_nomerge"}[key]}
    monkeypatch.setitem(BOOTS, name, boot)
    found = play(name).mismatches
    assert {one.where.split("/")[-1] for one in found} == {"order", "objs_per_slab"}


# -- files ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Return a folder with two recorded boots, a 64-bit and a 32-bit one."""
    for path, content in FILES.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    for name in {Path(path).parts[0] for path in FILES}:
        table = tmp_path / name / "slab_sysfs.tsv"
        table.write_text(BOOTS[name]["slab_sysfs"], encoding="utf-8")
    return tmp_path


def test_a_folder(folder):
    for name, least in (("numa-2g+2g-c2", 3000), ("i386-61pae-m1024", 600)):
        result = play_boot_caches(boot_folder(folder / name))
        assert result.name == name
        assert result.matched == result.compared > least


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "no table of caches"),
        (lambda text: text.partition("\n")[0], "no table of caches"),
        (lambda text: text[:-20], "has not a value a column"),
        (lambda text: text.replace("cache\t", "name\t", 1), "no table of caches"),
    ],
)
def test_a_damaged_table(folder, change, said):
    path = folder / "numa-2g+2g-c2" / "slab_sysfs.tsv"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        play_boot_caches(boot_folder(path.parent))


def test_a_number_that_is_none():
    rows = rows_of("i386-61pae-m1024")
    rows["TCP"]["align"] = "many"
    with pytest.raises(ValueError, match="align='many' is no number"):
        play_layouts("boot", rows, SlabParams(word=4))


def table(*names):
    """Return a SLAB.json."""
    columns = [*COLUMNS, "destroy_by_rcu", "cpu_partial", "alias_names (only in some)"]
    boots = {}
    for name in names:
        boots[name] = {
            cache: [
                *(int(row[column]) for column in columns[:-1]),
                *([row["alias_names"]] if row["alias_names"] else []),
            ]
            for cache, row in rows_of(name).items()
        }
    return {"columns": columns, "boots": boots}


def test_a_table_of_boots(folder):
    recording = json.loads(json.dumps(table("numa-2g+2g-c2", "i386-61pae-m1024")))
    assert is_cache_table(recording)
    results = dict(play_cache_table(recording, folder))
    assert [len(one.mismatches) for one in results.values()] == [0, 0]
    assert results["numa-2g+2g-c2"].compared > 178 * 9
    assert results["i386-61pae-m1024"].compared == 132 * 5


def test_a_table_with_mistakes(folder):
    recording = table("numa-2g+2g-c2", "i386-61pae-m1024", "m256-c1")
    recording["boots"]["numa-2g+2g-c2"]["task_struct"][0] += 8
    recording["boots"]["i386-61pae-m1024"]["TCP"].append(1)
    recording["boots"]["i386-61pae-m1024"]["TCP"].append(1)
    recording["boots"]["../up"] = {}
    good, short, missing, outside = (
        result for _, result in play_cache_table(copy.deepcopy(recording), folder)
    )
    assert [one.where for one in good.mismatches] == ["task_struct/object_size"]
    assert "TCP: not a value a column" in str(short)
    assert "m256-c1: no folder" in str(missing)
    assert "../up: no folder" in str(outside)


@pytest.mark.parametrize(
    "recording", [{}, {"columns": "x", "boots": {}}, {"columns": [], "boots": 1}]
)
def test_other_files_are_no_tables(recording):
    assert not is_cache_table(recording)
