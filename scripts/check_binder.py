"""Checks the Binder configuration without Docker; `make check` calls it.

Looks at what can be known from the files: pins are exact and complete, they satisfy
pyproject.toml, the Python is new enough, postBuild can run. Where repo2docker is installed it has
to accept the folder too. `--renew` writes new pins, with uv.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
BINDER = ROOT / "binder"
PINS = BINDER / "requirements.txt"


def python_version():
    """Return the Python that Binder is asked for, as "3.12"."""
    return (BINDER / "runtime.txt").read_text("utf-8").strip().removeprefix("python-")


def pins():
    """Yield (name, version or None, line) for each line of requirements.txt."""
    for line in PINS.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([\w.-]+)==([\w.+!]+)", line)
            name, version = (match[1], Version(match[2])) if match else (line, None)
            yield canonicalize_name(name), version, line


def problems():
    """Yield a sentence for each thing that is wrong with the files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = list(pins())
    for _, version, line in found:
        if version is None:
            yield f"binder/requirements.txt: {line!r} is not a pin like name==1.2.3"
    known = {name: version for name, version, _ in found if version is not None}
    for wanted in map(Requirement, project["dependencies"]):
        version = known.get(canonicalize_name(wanted.name))
        if version is None:
            yield f"binder/requirements.txt has no {wanted.name}, which pyproject.toml needs"
        elif version not in wanted.specifier:
            yield f"binder/requirements.txt pins {wanted.name}=={version}; pyproject: {wanted}"
    if python_version() not in SpecifierSet(project["requires-python"]):
        yield f"binder/runtime.txt: Python {python_version()} is not {project['requires-python']}"
    script = BINDER / "postBuild"
    if not script.stat().st_mode & 0o100:
        yield "binder/postBuild is not executable: chmod +x binder/postBuild"
    if "--no-deps --editable ." not in script.read_text("utf-8"):
        yield "binder/postBuild does not install kmemkit with --no-deps --editable ."


def accepted_by_repo2docker():
    """Return what repo2docker has against the folder, empty if nothing or it is not installed."""
    command = shutil.which("repo2docker") or shutil.which("jupyter-repo2docker")
    if command is None:
        print("binder: repo2docker is not installed, so only the files were checked")
        return ""
    done = subprocess.run(
        [command, "--no-build", "--debug", str(ROOT)], capture_output=True, text=True
    )
    return done.stderr if done.returncode else ""


def renew():
    """Write new pins for the Python of runtime.txt on Binder's platform."""
    comments = [line for line in PINS.read_text("utf-8").splitlines() if line.startswith("#")]
    command = [
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--no-emit-index-url",
    ]
    command += ["--python-version", python_version()]
    command += ["--python-platform", "x86_64-unknown-linux-gnu", "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    PINS.write_text("\n".join(comments) + "\n" + done.stdout, "utf-8")


def main():
    """Check, or renew and check; exit 1 where something is wrong."""
    if sys.argv[1:] == ["--renew"]:
        renew()
    wrong = [*problems()] or [*filter(None, [accepted_by_repo2docker()])]
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    if not wrong:
        print("binder: ready")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
