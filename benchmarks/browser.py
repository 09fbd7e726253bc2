"""A cell in a real JupyterLab and a real Chromium, for the benchmarks that measure in the page."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]


@contextmanager
def running(name: str, code: str) -> Iterator[Page | None]:
    """Run a cell in a notebook; yield its page, or None where there is no Chromium, and say so."""
    chromium = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    if chromium is None:
        print(
            f"{name}: not measured, no Chromium here (apt-get install chromium, or CHROMIUM=path)"
        )
        yield None
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        _lab(Path(folder)) as url,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(120_000)
        _run(page, url, Path(folder), code)
        yield page
        browser.close()


def _run(page: Page, url: str, root: Path, code: str) -> None:
    cells = [nbformat.v4.new_code_cell(code)]
    # Without a kernelspec JupyterLab would ask for one.
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=spec)
    nbformat.write(notebook, root / "bench.ipynb")
    page.goto(f"{url}/doc/tree/bench.ipynb?reset")
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext")
    page.evaluate("""async () => {
        const { sessionContext } = jupyterapp.shell.currentWidget;
        await jupyterapp.restored;
        await sessionContext.ready;
        await sessionContext.session.kernel.info;
        await jupyterapp.commands.execute("notebook:run-all-cells");
    }""")


@contextmanager
def _lab(root: Path) -> Iterator[str]:
    """Run JupyterLab as `kmemkit lab` does, with a home of its own; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    homes = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
    home = {name: str(root / name.lower()) for name in (*homes, "JUPYTERLAB_SETTINGS_DIR")}
    options = [
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={root}",
        "--IdentityProvider.token=",
        "--ServerApp.kernel_websocket_connection_class=kmemkit.websocket.PromptConnection",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.expose_app_in_browser=True",
    ]
    with (root / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env={**os.environ, **home, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)
