"""`kmemkit lab`: lays the lessons out for a learner and opens JupyterLab on the first one.

What a learner has touched is never written to. A hidden manifest in the folder keeps the hash of
each file as it was laid out; a file that still has that hash is ours and follows the shipped
lesson, any other is the learner's and stays, and a newer lesson is put beside it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from kmemkit.strings import text

__all__ = ("MANIFEST", "LabError", "Laid", "check_port", "languages", "lay_out", "lessons", "serve")

MANIFEST = ".kmemkit-lessons.json"
HOST = "127.0.0.1"


class LabError(ValueError):
    """The lessons cannot be laid out or opened; the message says why and what to do."""


class Laid(NamedTuple):
    """What became of one lesson: its name, one of "new", "same", "updated", "kept", "beside".

    `beside` is the name under which a newer lesson was put next to a kept one, else "".
    """

    name: str
    fate: str
    beside: str = ""

    def __str__(self) -> str:
        return text(f"lab.fate.{self.fate}", name=self.name, beside=self.beside)


def _home() -> Traversable:
    """Return the folder of lessons: in the wheel inside the package, in a checkout next to it."""
    package = files("kmemkit")
    inside = package.joinpath("notebooks")
    return inside if inside.is_dir() else package.joinpath("..", "notebooks")


def languages() -> tuple[str, ...]:
    """Return the languages that have lessons, as two-letter codes, sorted."""
    home = _home()
    return tuple(sorted(e.name for e in home.iterdir() if e.is_dir())) if home.is_dir() else ()


def lessons(language: str = "en") -> dict[str, bytes]:
    """Return the shipped lessons of one language by file name, in order.

    Raises:
        LabError: there are none; the message lists the languages that have some.
    """
    folder = _home().joinpath(language)
    if language not in languages():
        raise LabError(text("lab.no_language", language=language, known=", ".join(languages())))
    found = {e.name: e.read_bytes() for e in folder.iterdir() if e.is_file() and e.name[0] != "."}
    if not found:
        raise LabError(text("lab.no_lessons"))
    return dict(sorted(found.items()))


def lay_out(folder: Path, shipped: Mapping[str, bytes]) -> list[Laid]:
    """Put `shipped` files into `folder`, made if need be, and say what became of each.

    Raises:
        LabError: the folder cannot be used or the disk is full. Whatever was there still is, and
            the next call goes on from where this one stopped.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = _read_manifest(folder)
        manifest = dict(known)
        laid = [_lay(folder, name, data, manifest) for name, data in shipped.items()]
        if manifest != known:
            _replace(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
    except OSError as error:
        raise LabError(_explain(folder, error)) from error
    return laid


def _lay(folder: Path, name: str, data: bytes, manifest: dict[str, str]) -> Laid:
    """Lay out one lesson and note in `manifest` which version the learner has been given."""
    path, digest = folder / name, _hash(data)
    laid_before, manifest[name] = manifest.get(name), digest
    if not os.path.lexists(path):
        _create(path, data)
        return Laid(name, "new")
    current = _content(path)
    if current == data:
        return Laid(name, "same")
    if current is not None and not path.is_symlink() and _hash(current) == laid_before:
        _replace(path, data)
        return Laid(name, "updated")
    if laid_before == digest:
        return Laid(name, "kept")
    return Laid(name, "beside", _put_beside(path, data))


def _put_beside(path: Path, data: bytes) -> str:
    """Put a newer lesson next to a learner's file under a name nobody uses; return that name."""
    number = 1
    while True:
        label = "new" if number == 1 else f"new-{number}"
        beside = path.with_name(f"{path.stem}.{label}{path.suffix}")
        if not os.path.lexists(beside):
            _create(beside, data)
            return beside.name
        if _content(beside) == data:
            return beside.name
        number += 1


def _read_manifest(folder: Path) -> dict[str, str]:
    """Return name -> hash as laid out; empty if there is none or it is damaged.

    Knowing nothing is safe: files that differ from the shipped ones then count as the learner's.
    """
    try:
        known = json.loads((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return {k: v for k, v in known.items() if isinstance(v, str)} if isinstance(known, dict) else {}


def _content(path: Path) -> bytes | None:
    """Return a file's bytes, None if it is not a file that can be read."""
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError:
        return None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _create(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet; leave nothing behind where that fails."""
    with open(path, "xb") as file:
        try:
            file.write(data)
            file.flush()
        except BaseException:
            path.unlink()
            raise


def _replace(path: Path, data: bytes) -> None:
    """Give a file of ours new content in one step, so that a full disk cannot cut it short."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    _create(part, data)
    os.replace(part, path)


def _explain(folder: Path, error: OSError) -> str:
    """Return one sentence for what the operating system refused, and what to do about it."""
    reasons = {
        errno.EEXIST: "lab.not_a_folder",
        errno.ENOTDIR: "lab.not_a_folder",
        errno.EACCES: "lab.not_writable",
        errno.EPERM: "lab.not_writable",
        errno.EROFS: "lab.not_writable",
        errno.ENOSPC: "lab.no_space",
        errno.EDQUOT: "lab.no_space",
    }
    key = reasons.get(error.errno or 0)
    if key is None:
        return text("lab.refused", folder=folder, reason=error.strerror or error)
    return text(key, folder=folder)


def check_port(port: int) -> None:
    """Make sure that a server can listen on `port` of this machine.

    Raises:
        LabError: the port is in use or reserved for the system.
    """
    with socket.socket() as probe:
        # As the server will do: a port in TIME_WAIT is free, one that is listened on is not.
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError as error:
            raise LabError(text("lab.port_reserved", port=port)) from error
        except OSError as error:
            raise LabError(text("lab.port_in_use", port=port, next=port + 1)) from error


def serve(folder: Path, lesson: str, *, port: int | None = None, browser: bool = True) -> None:
    """Run JupyterLab on `lesson` in `folder`, on this machine only, until it is stopped.

    With a `port`, it is that one or a LabError; without, Jupyter takes the first free one from
    8888 on and says which. Jupyter's token stays on.
    """
    # A kernel that the learner once installed for another Python would not find kmemkit.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    # Its labconfig/ answers JupyterLab's question about news, which would lie over the lesson. What
    # a learner has set in JupyterLab counts for more.
    ours = str(Path(__file__).parent / "jupyter")
    known = os.environ.get("JUPYTER_CONFIG_PATH")
    os.environ["JUPYTER_CONFIG_PATH"] = f"{known}{os.pathsep}{ours}" if known else ours
    try:
        from jupyterlab.labapp import LabApp
    except ImportError as error:
        raise LabError(text("lab.no_jupyterlab", python=sys.executable)) from error
    options = [
        "--log-level=WARN",  # leaves the address to open, not the log of every start-up step
        f"--ServerApp.ip={HOST}",
        f"--ServerApp.root_dir={folder.resolve()}",
        f"--LabApp.default_url=/lab/tree/{quote(lesson)}",
        "--LabApp.news_url=None",
        "--ServerApp.kernel_websocket_connection_class=kmemkit.websocket.PromptConnection",
    ]
    if port is not None:
        check_port(port)
        options += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if not browser:
        options.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # In a container everybody is root; the server listens on this machine only.
        options.append("--allow-root")
    LabApp.launch_instance(options)
