"""`kmemkit verify`: what it counts, what it says of files it can't use, and how it exits."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from kmemkit.mm.recording import load_recording
from kmemkit.mm.replay import play_trace
from kmemkit.verify import Row, main_verify, recordings, verify_path

TRACES = Path(__file__).parent / "golden" / "traces"
SPLIT = TRACES / "fix01_split.json.gz"
BOOTS = load_recording(TRACES.parent / "recorded_boots.json.gz")
FILES = load_recording(TRACES.parent / "boot_folders.json.gz")
CACHES = load_recording(TRACES.parent / "caches.json.gz")


@pytest.fixture
def split() -> dict[str, Any]:
    return load_recording(SPLIT)


def verify_file(path: Path) -> Row:
    """Return the one row of a recording that makes one."""
    (row,) = verify_path(path)
    return row


def write(path: Path, recording: object) -> Path:
    path.write_text(json.dumps(recording), encoding="utf-8")
    return path


def test_a_matching_trace_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_verify([SPLIT]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == [
        "ok", "fix01_split", "trace", "results", "2/2", "snapshots", "3/3",
    ]  # fmt: skip
    assert out[1] == "1 of 1 recordings match in full; results 2/2, snapshots 3/3"


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_verify([SPLIT], as_json=True) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["matched"] == 1
    row = data["recordings"][0]
    assert (row["results_matched"], row["snapshots_compared"], row["needs"]) == (2, 3, "")


def tampered(split: dict[str, Any], what: str) -> dict[str, Any]:
    bad = copy.deepcopy(split)
    if what == "pfn":
        bad["results"][1][0] += 1
    elif what == "pageblock type":
        bad["results"][1][3] = 1
    elif what == "list order":
        bad["end"]["0/DMA"]["free_lists"]["10,1"].reverse()
    elif what == "counter":
        bad["end"]["0/DMA"]["free_est"] -= 1
    elif what == "pcp field":
        bad["end"]["0/DMA"]["pcps"]["0"]["free_count"] = 0
    elif what == "blocks":
        bad["end"]["0/DMA"]["blocks"] = "UMMMMMMU"
    return bad


@pytest.mark.parametrize(
    "what", ["pfn", "pageblock type", "list order", "counter", "pcp field", "blocks"]
)
def test_a_changed_recording_is_noticed(
    what: str, split: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "bad.json", tampered(split, what))
    assert main_verify([path]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL")
    assert "recorded" in out and "simulated" in out


def test_what_is_not_simulated_is_named_and_counts_as_not_matched(
    split: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_cma = copy.deepcopy(split)
    with_cma["start"]["0/DMA"]["blocks"] = "UCMMMMMM"
    unknown_op = copy.deepcopy(split)
    unknown_op["ops"][3] = ["vmalloc", 1, 8192]
    rows = {
        name: verify_file(write(tmp_path / f"{name}.json", recording))
        for name, recording in {
            "cma": with_cma, "op": unknown_op,
        }.items()
    }  # fmt: skip
    assert {name: row.needs for name, row in rows.items()} == {
        "cma": "CMA",
        "op": "operation 'vmalloc'",
    }
    assert not any(row.ok for row in rows.values())
    assert rows["op"].results_matched == 1 and rows["op"].results_compared == 2
    assert main_verify([tmp_path]) == 1
    assert "needs: CMA" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is the file complete?"),
        (b'{"start": {', "is the file complete?"),
        (b"[1, 2]", "not a recording kmemkit knows"),
        (b"{}", "not a page allocator trace: no ops, results, snaps"),
        (b"[" * 100_000, "is the file complete?"),
        (b"\x1f\x8b\x08\x00cut", "is the file complete?"),
        (gzip.compress(b"hello", mtime=0)[:-4], "is the file complete?"),
        (b"\xff\xfe", "is the file complete?"),
    ],
)
def test_files_that_are_no_recordings_get_a_sentence(
    content: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    row = verify_file(path)
    assert said in row.error
    assert not row.ok
    assert main_verify([path]) == 1


def broken(split: dict[str, Any], how: str) -> dict[str, Any]:
    bad = copy.deepcopy(split)
    zone = bad["start"]["0/DMA"]
    if how == "too few results":
        bad["results"].pop()
    elif how == "zone without lists":
        del zone["free_lists"]
    elif how == "a huge span":
        zone["spanned"] = 1 << 40
    elif how == "no such list":
        zone["free_lists"]["11,0"] = [0]
    elif how == "an unaligned block":
        zone["free_lists"]["5,0"] = [289]
    elif how == "a block outside":
        zone["free_lists"]["5,0"] = [1 << 20]
    elif how == "text for a page":
        zone["free_lists"]["5,0"] = ["0x120"]
    elif how == "no such per-CPU list":
        zone["pcps"]["0"]["lists"] = {"99": [288]}
    elif how == "operation without arguments":
        bad["ops"][1] = ["alloc"]
    elif how == "an empty operation":
        bad["ops"][1] = []
    elif how == "a negative order":
        bad["ops"][1] = ["alloc", 1, 8193, -1]
    elif how == "a snapshot that is not there":
        bad["results"][2] = ["snap", 7]
    elif how == "a block on two lists":
        zone["free_lists"]["5,1"] = zone["free_lists"]["5,0"]
        bad["ops"][3] = ["alloc", 1, 8201, 5]
    return bad


HOWS = [
    "too few results", "zone without lists", "a huge span", "no such list", "an unaligned block",
    "a block outside", "text for a page", "no such per-CPU list", "operation without arguments",
    "an empty operation", "a negative order", "a snapshot that is not there",
]  # fmt: skip


@pytest.mark.parametrize("how", HOWS)
def test_malformed_traces_are_refused_with_a_sentence(how: str, split: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="recording: "):
        play_trace(broken(split, how))


def test_a_trace_with_a_page_twice_ends_in_a_sentence_or_a_mismatch(split: dict[str, Any]) -> None:
    try:
        result = play_trace(broken(split, "a block on two lists"))
    except ValueError as error:
        assert "recording: " in str(error)
    else:
        assert not result.ok


def test_paths_that_hold_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recording"):
        list(recordings([tmp_path]))
    with pytest.raises(ValueError, match="no such file"):
        list(recordings([tmp_path / "gone.json"]))


# -- boots ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, content in FILES.items():
        file = tmp_path / "boots" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return tmp_path / "boots"


def test_a_row_for_each_boot_and_each_change_of_settings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "SUMMARY.json", {"m1024-c1": BOOTS["m1024-c1"], "m048-c1": {"failed": True}})
    assert main_verify([folder]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in out[:-1]] == [
        ["ok", "m1024-c1", "boot"],
        ["ok", "i386-61pae-m1024", "boot"],
        *(["ok", f"i386-61pae-m1024/step{n}", "boot"] for n in (1, 2, 3)),
        ["ok", "numa-2g+2g-c2", "boot"],
    ]
    assert out[-1].startswith("6 of 6 recordings match in full; results ")


def test_a_folder_of_proc_files_is_a_recording(folder: Path) -> None:
    boot = folder / "i386-61pae-m1024"
    assert list(recordings([boot])) == [boot]
    assert list(recordings([folder])) == [boot, folder / "numa-2g+2g-c2"]
    rows = verify_path(boot)
    assert [row.name for row in rows][1:] == [f"{boot.name}/step{n}" for n in (1, 2, 3)]
    assert all(row.ok and row.kind == "boot" and row.path == str(boot) for row in rows)


def test_a_changed_boot_is_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoneinfo = folder / "numa-2g+2g-c2" / "zoneinfo"
    content = zoneinfo.read_text(encoding="utf-8")
    zoneinfo.write_text(content.replace("min      11237", "min      11238"), encoding="utf-8")
    assert main_verify([zoneinfo.parent]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL numa-2g+2g-c2")
    assert "0/DMA32 min: recorded 11238, simulated 11237" in out


def test_what_is_wrong_with_a_boot_is_said_in_its_row(folder: Path, tmp_path: Path) -> None:
    (folder / "numa-2g+2g-c2" / "dmesg").unlink()
    row = verify_file(folder / "numa-2g+2g-c2")
    assert (row.kind, row.ok) == ("boot", False)
    assert 'numa-2g+2g-c2: its log is missing: dmesg has the "Memory:" line' in row.error
    bad = copy.deepcopy(BOOTS["m256-c1"])
    bad["zones"][0]["managed"] = "many"
    good, broken = verify_path(
        write(tmp_path / "two.json", {"good": BOOTS["m256-c1"], "broken": bad})
    )
    assert good.ok
    assert "broken: zone 0/DMA: managed='many' is no count of pages" in broken.error


def test_caches_of_boots(folder: Path) -> None:
    name = "numa-2g+2g-c2"
    caches = CACHES[name]
    (folder / name / "slab_sysfs.tsv").write_text(caches["slab_sysfs"], encoding="utf-8")
    rows = verify_path(folder / name)
    assert [(row.kind, row.ok) for row in rows] == [("boot", True), ("caches", True)]
    (folder / name / "slab_sysfs.tsv").write_text("cache\n", encoding="utf-8")
    boot, bad = verify_path(folder / name)
    assert boot.ok and "no table of caches" in bad.error
    table = {"columns": ["object_size"], "boots": {name: {"TCP": [2368]}, "other": {}}}
    first, second = verify_path(write(folder / "SLAB.json", table))
    assert (first.kind, first.name, first.results_matched, first.results_compared) == (
        "caches", name, 1, 2,  # the others are missing
    )  # fmt: skip
    assert "other: no folder" in second.error


def test_slabs() -> None:
    row = verify_file(SPLIT.parent.parent / "slab" / "slab03_partial_lists.json.gz")
    assert row.ok and row.kind == "slab"
    assert (row.results_compared, row.snapshots_compared) == (1005, 652)


def test_a_slab_recording_that_is_none(tmp_path: Path) -> None:
    slab = {"guest": "64M, 1 CPU", "constants": {}, "ops": [["ca", 1]], "results": [None]}
    assert "is not a line of text" in verify_file(write(tmp_path / "slab.json", slab)).error
