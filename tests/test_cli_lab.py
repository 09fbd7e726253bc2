"""`kmemkit lab`: nothing of a learner's is ever lost, and JupyterLab really opens."""

import errno
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from kmemkit import __version__, lab
from kmemkit.cli import app

ROOT = Path(__file__).parents[1]
V1 = {"00-start.ipynb": b"start 1", "05-buddy.ipynb": b"buddy 1"}
V2 = {"00-start.ipynb": b"start 2", "05-buddy.ipynb": b"buddy 2", "06-new.ipynb": b"new 2"}


def fates(laid):
    return {one.name: one.fate for one in laid}


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != lab.MANIFEST}


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "kmemkit", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def get(address):
    """Fetch from a server that has said its address and may not listen yet."""
    for _ in range(300):
        try:
            return urllib.request.urlopen(address).read()
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError(f"nothing listens at {address}")


def test_lays_out_into_a_new_folder(tmp_path):
    folder = tmp_path / "a" / "b"
    assert fates(lab.lay_out(folder, V1)) == {"00-start.ipynb": "new", "05-buddy.ipynb": "new"}
    assert contents(folder) == V1


def test_second_time_changes_nothing(tmp_path):
    lab.lay_out(tmp_path, V1)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert set(fates(lab.lay_out(tmp_path, V1)).values()) == {"same"}
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


def test_untouched_lessons_follow_the_shipped_ones(tmp_path):
    lab.lay_out(tmp_path, V1)
    laid = fates(lab.lay_out(tmp_path, V2))
    assert laid == {
        "00-start.ipynb": "updated",
        "05-buddy.ipynb": "updated",
        "06-new.ipynb": "new",
    }
    assert contents(tmp_path) == V2


def test_keeps_what_the_learner_changed(tmp_path):
    lab.lay_out(tmp_path, V1)
    (tmp_path / "05-buddy.ipynb").write_bytes(b"mine")
    (tmp_path / "notes.md").write_bytes(b"my notes")
    laid = lab.lay_out(tmp_path, V1)
    assert fates(laid)["05-buddy.ipynb"] == "kept"
    assert str(laid[1]) == "05-buddy.ipynb: kept as you have it"
    assert contents(tmp_path) == V1 | {"05-buddy.ipynb": b"mine", "notes.md": b"my notes"}


def test_puts_a_newer_lesson_beside_a_changed_one_once(tmp_path):
    lab.lay_out(tmp_path, V1)
    (tmp_path / "05-buddy.ipynb").write_bytes(b"mine")
    laid = lab.lay_out(tmp_path, V2)
    assert laid[1] == ("05-buddy.ipynb", "beside", "05-buddy.new.ipynb")
    assert "05-buddy.new.ipynb" in str(laid[1])
    assert contents(tmp_path) == V2 | {"05-buddy.ipynb": b"mine", "05-buddy.new.ipynb": b"buddy 2"}
    (tmp_path / "05-buddy.new.ipynb").unlink()
    assert fates(lab.lay_out(tmp_path, V2))["05-buddy.ipynb"] == "kept"


def test_does_not_clobber_what_is_beside(tmp_path):
    (tmp_path / "05-buddy.ipynb").write_bytes(b"mine")
    (tmp_path / "05-buddy.new.ipynb").write_bytes(b"mine too")
    assert lab.lay_out(tmp_path, V1)[1].beside == "05-buddy.new-2.ipynb"
    assert contents(tmp_path) == V1 | {
        "05-buddy.ipynb": b"mine",
        "05-buddy.new.ipynb": b"mine too",
        "05-buddy.new-2.ipynb": b"buddy 1",
    }


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"05-buddy.ipynb": 5}', b"\xff\xfe"])
def test_a_damaged_manifest_loses_nothing(tmp_path, damage):
    lab.lay_out(tmp_path, V1)
    (tmp_path / "05-buddy.ipynb").write_bytes(b"mine")
    (tmp_path / lab.MANIFEST).write_bytes(damage)
    lab.lay_out(tmp_path, V2)
    assert contents(tmp_path)["05-buddy.ipynb"] == b"mine"
    assert json.loads((tmp_path / lab.MANIFEST).read_bytes()).keys() == V2.keys()


def test_never_writes_through_a_link(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"buddy 1")
    folder = tmp_path / "lessons"
    lab.lay_out(folder, V1)
    (folder / "05-buddy.ipynb").unlink()
    (folder / "05-buddy.ipynb").symlink_to(elsewhere)
    (folder / "00-start.ipynb").unlink()
    (folder / "00-start.ipynb").symlink_to(tmp_path / "nothing")
    lab.lay_out(folder, V2)
    assert elsewhere.read_bytes() == b"buddy 1"
    assert not (tmp_path / "nothing").exists()
    assert (folder / "05-buddy.new.ipynb").read_bytes() == b"buddy 2"
    assert (folder / "00-start.new.ipynb").read_bytes() == b"start 2"


def test_a_folder_in_place_of_a_lesson_is_kept(tmp_path):
    (tmp_path / "05-buddy.ipynb").mkdir()
    assert lab.lay_out(tmp_path, V1)[1].fate == "beside"


VERSIONS = st.dictionaries(st.sampled_from("abc"), st.binary(max_size=2), min_size=1)
ACTIONS = st.lists(
    st.tuples(st.just("ship"), VERSIONS)
    | st.tuples(st.just("edit"), st.sampled_from("abc"), st.integers(0, 99)),
    max_size=12,
)


@given(ACTIONS)
def test_whatever_happens_the_learners_bytes_stay(tmp_path_factory, actions):
    folder = tmp_path_factory.mktemp("lessons")
    mine = {}
    for action, *what in actions:
        if action == "ship":
            laid = lab.lay_out(folder, what[0])
            for one in laid:
                shipped = what[0][one.name]
                assert one.fate != "beside" or (folder / one.beside).read_bytes() == shipped
        else:
            name, number = what
            # Longer than any shipped lesson, so that it is never one by chance.
            mine[name] = b"mine %d" % number
            (folder / name).write_bytes(mine[name])
        assert {name: (folder / name).read_bytes() for name in mine} == mine


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EACCES, "may not write"),
        (errno.EROFS, "may not write"),
        (errno.ENOSPC, "No space is left"),
        (errno.EDQUOT, "No space is left"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_refused_write_is_a_sentence_and_loses_nothing(tmp_path, monkeypatch, number, sentence):
    lab.lay_out(tmp_path, V1)
    (tmp_path / "05-buddy.ipynb").write_bytes(b"mine")
    before = contents(tmp_path)

    class Full(io.FileIO):
        """A file on a disk that takes the first byte and no other."""

        def write(self, data):
            super().write(data[:1])
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lab, "open", Full, raising=False)
    with pytest.raises(lab.LabError, match=sentence) as caught:
        lab.lay_out(tmp_path, V2)
    assert str(tmp_path) in str(caught.value)
    assert contents(tmp_path) == before
    monkeypatch.undo()
    lab.lay_out(tmp_path, V2)
    assert contents(tmp_path) == V2 | {"05-buddy.ipynb": b"mine", "05-buddy.new.ipynb": b"buddy 2"}


def test_a_file_in_the_way_is_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        done = run("lab", folder, "--no-browser", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(r"kmemkit: .*a file is in the way.*\n", done.stderr)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_folder_that_is_not_writable_is_a_sentence(tmp_path):
    # Root may write anywhere; /proc refuses even root.
    folder = Path("/proc/kmemkit") if os.geteuid() == 0 else tmp_path / "locked" / "lessons"
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
    done = run("lab", folder, "--no-browser", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"kmemkit: .*kmemkit lab DIR\n", done.stderr)


def test_a_port_in_use_is_a_sentence_and_nothing_is_laid_out(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("lab", "lessons", "--no-browser", "--port", port, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"kmemkit: Port {port} is in use. Choose another")
    assert not (tmp_path / "lessons").exists()


def test_an_unknown_language_lists_those_there_are():
    with pytest.raises(lab.LabError, match=r"in 'xx'.* in: .*en"):
        lab.lessons("xx")


def test_the_first_lesson_is_number_0():
    assert next(iter(lab.lessons())).startswith("00-")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gfp", "GFP_NONSENSE"], "GFP_NONSENSE"),
        (["gfp", "0xcc0", "--kernel", "nonsense"], "nonsense"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, arguments, said):
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"kmemkit: .*{said}.*\n", done.stderr)


def test_gfp_reads_masks_and_names():
    by_mask, by_name = (
        CliRunner().invoke(app, ["gfp", said]).output for said in ("0xdc0", "GFP_KERNEL|__GFP_ZERO")
    )
    assert by_mask == by_name
    assert "0xdc0" in by_mask and "GFP_KERNEL|__GFP_ZERO" in by_mask


def test_version():
    assert CliRunner().invoke(app, ["--version"]).output == f"kmemkit {__version__}\n"


def test_opens_jupyterlab_with_a_token_on_this_machine(tmp_path):
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "PYTHONUNBUFFERED": "1",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "kmemkit", "lab", "my lessons", "--no-browser"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, address = [], None
        for line in server.stdout:
            said.append(line)
            if address := re.search(r"http://127\.0\.0\.1:\d+/lab/tree/00-\S+\?token=\w+", line):
                break
        assert address, "".join(said)
        first = f"{next(iter(lab.lessons()))}: laid out\n"
        assert said[0] == first
        assert b"jupyter-config-data" in get(address[0])
        base, token = address[0].split("/lab/")[0], address[0].split("?")[1]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(base + "/api/contents")
        asked = f"{base}/lab/api/settings/@jupyterlab/apputils-extension:notification?{token}"
        news = json.loads(get(asked))["schema"]["properties"]["fetchNews"]
        assert news["default"] == "false", "JupyterLab would ask about news over the lesson"
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert (tmp_path / "my lessons").is_dir()
