"""The wheel has everything that a plain `pip install` needs, and works away from the checkout."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import kmemkit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
KINDS = {".css", ".js", ".json", ".py", ".toml", ".typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return a function that runs Python where kmemkit is the wheel, not the checkout."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)

    def run(*arguments):
        # -P keeps the current folder off the path; what kmemkit needs comes from the tests' own.
        return subprocess.run(
            [sys.executable, "-P", *arguments],
            cwd=site.parent,
            env=os.environ | {"PYTHONPATH": str(site)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    run.site = site
    return run


def test_the_wheel_has_every_file_of_the_package_and_the_lessons(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {
        path.relative_to(ROOT)
        for path in (ROOT / "kmemkit").rglob("*")
        if path.suffix in KINDS and not path.is_dir()
    }
    lessons = {
        "kmemkit" / path.relative_to(ROOT)
        for path in (ROOT / "notebooks").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    }
    assert {path.suffix for path in package} == KINDS
    assert lessons
    assert {str(path) for path in package | lessons} <= names


def test_the_wheel_has_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"kmemkit", f"kmemkit-{kmemkit.__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or "checkpoints" in name]


def test_the_installed_lessons_are_the_checkouts(installed):
    code = "from kmemkit import lab; import kmemkit; print(kmemkit.__file__, *lab.lessons())"
    file, *lessons = installed("-c", code).stdout.split()
    assert Path(file).is_relative_to(installed.site)
    assert lessons == sorted(path.name for path in (ROOT / "notebooks" / "en").glob("*.ipynb"))


def test_the_installed_views_find_their_scripts(installed):
    code = "from kmemkit import Kernel, PageMap; print(PageMap(Kernel(ram='1M')).text())"
    done = installed("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_installed_command_runs(installed):
    (entry,) = PROJECT["scripts"].values()
    module, function = entry.split(":")
    code = (
        f"import sys; sys.argv[1:] = ['--version']; from {module} import {function}; {function}()"
    )
    assert installed("-c", code).stdout == f"kmemkit {kmemkit.__version__}\n"


def test_dependencies_have_floors():
    for line in PROJECT["dependencies"]:
        (specifier,) = Requirement(line).specifier
        assert specifier.operator == ">=", line


def test_the_readme_says_what_its_example_prints(installed):
    readme = (ROOT / "README.md").read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", readme, re.S)
    assert len(examples) == 3
    for code, printed in examples:
        done = installed("-c", code)
        assert (done.stdout.rstrip(), done.stderr) == (printed.rstrip(), "")
