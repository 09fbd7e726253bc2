"""A real JupyterLab and a real Chromium: `open_notebook` is what a browser test asks for.

    def test_map(open_notebook):
        notebook = open_notebook("notebooks/en/05-buddy.ipynb")
        notebook.view().get_by_role("button", name="Allocate").click()
        notebook.screenshot("page-map")
        assert notebook.axe() == ""

Without Chromium these tests are skipped with a sentence, and fail where CI=true. Pictures go to
tests/ui/screenshots; `KMEMKIT_DOCS_IMG=1` also renews those of docs/img, `KMEMKIT_LESSON_IMG=1` adds
those of whole lessons.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
SCREENSHOTS = Path(__file__).parent / "screenshots"
DOCS_IMG = ROOT / "docs" / "img"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SETTINGS = {
    # The offer to read Jupyter's news would lie over what is tested.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Cells out of sight would lose their views.
    "notebook-extension/tracker": {"windowingMode": "none"},
}
# Without a kernel by name, JupyterLab would open a dialog and wait.
METADATA = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
OPEN = """async path => {
    await jupyterapp.commands.execute("docmanager:open", { path, factory: "Notebook" });
    const { sessionContext } = jupyterapp.shell.currentWidget;
    await sessionContext.ready;
    await sessionContext.session.kernel.info;
}"""
# Unsaved changes would make JupyterLab ask; a kernel left alive would keep its views alive.
CLOSE = """async () => {
    const notebooks = [...jupyterapp.shell.widgets("main")].filter(one => one.sessionContext);
    for (const notebook of notebooks) {
        notebook.context.model.dirty = false;
        notebook.close();
    }
    await jupyterapp.serviceManager.sessions.shutdownAll();
}"""
TIMEOUT = 60_000  # ms
THEMES = {True: "JupyterLab Dark", False: "JupyterLab Light"}


@dataclass
class Lab:
    """A running JupyterLab: its address, its token, the folder it serves."""

    url: str
    token: str
    folder: Path


@dataclass
class Notebook:
    """A notebook open in the browser, alone in its window. `page` is Playwright's page."""

    page: object
    errors: list = field(default_factory=list)  # uncaught JavaScript errors

    def run_all(self):
        """Run every cell and wait until the last one is done."""
        _await(self.page, "() => jupyterapp.commands.execute('notebook:run-all-cells')")

    def view(self, number=0):
        """Return the locator of the nth kmemkit view, waited for."""
        view = self.page.locator(".kmemkit").nth(number)
        view.wait_for()
        return view

    def theme(self, *, dark):
        """Switch JupyterLab to its dark or light theme, as the Settings menu does."""
        self.page.evaluate(
            "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", THEMES[dark]
        )
        self.page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light", arg=str(not dark).lower()
        )
        # A change of theme shows JupyterLab's splash screen over everything.
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")
        self.drawn()

    def themes(self):
        """Yield "light" and "dark", first the one that is on; each is drawn by then."""
        dark = self.page.evaluate("() => document.body.dataset.jpThemeLight") == "false"
        for now in (dark, not dark):
            if now != dark:
                self.theme(dark=now)
            yield "dark" if now else "light"

    def drawn(self):
        """Wait for two frames: a canvas is drawn in the frame after it changes or comes into sight."""
        self.page.evaluate("""async () => {
            for (let n = 0; n < 2; n++) await new Promise(requestAnimationFrame);
        }""")

    def screenshot(self, name, of=None, *, docs=False):
        """Save a picture of a locator, or of the window; `docs=True` marks one for docs/img."""
        SCREENSHOTS.mkdir(exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        (of or self.page).screenshot(path=path)
        if docs and os.environ.get("KMEMKIT_DOCS_IMG"):
            DOCS_IMG.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, DOCS_IMG)
        return path

    def axe(self, include=".kmemkit"):
        """Return axe-core's report on the views, empty if it has nothing to say.

        Only on the views: JupyterLab on its own breaks five rules.
        """
        assert self.page.locator(include).count(), f"there is no {include} on the page to look at"
        results = Axe().run(self.page, context={"include": [[include]]})
        return results.generate_report() if results.violations_count else ""


def _await(page, script, argument=None):
    """Await a JavaScript function's promise, not longer than the page's own waits."""
    page.evaluate(
        f"""argument => Promise.race([({script})(argument), new Promise((_, reject) =>
            setTimeout(() => reject(new Error("not ready after {TIMEOUT} ms")), {TIMEOUT}))])""",
        argument,
    )


def _find_chromium():
    if os.environ.get("CHROMIUM"):
        return os.environ["CHROMIUM"]
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def chromium():
    path = _find_chromium()
    if path is None:
        message = "no Chromium here: apt-get install chromium, or set CHROMIUM to a browser's path"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _own_home(root, token):
    """Return an environment in which Jupyter finds no settings but those of these tests."""
    for name, values in SETTINGS.items():
        path = root / f"settings/@jupyterlab/{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    home = os.environ | {
        "IPYTHONDIR": str(root / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(root / "config"),
        "JUPYTER_DATA_DIR": str(root / "data"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
        "JUPYTER_TOKEN": token,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    if sys.dont_write_bytecode:
        # Every notebook has a kernel of its own: what they import is compiled once, not by each.
        home |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(root / "bytecode")}
    return home


@pytest.fixture(scope="session")
def lab(tmp_path_factory, chromium):
    root = tmp_path_factory.mktemp("lab")
    folder = root / "work"
    folder.mkdir()
    port, token, log = _free_port(), secrets.token_hex(16), root / "lab.log"
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}",
        "--ServerApp.kernel_websocket_connection_class=kmemkit.websocket.PromptConnection",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        # Gives window.jupyterapp: tests wait for the session itself, not for a mark on the page.
        "--LabApp.expose_app_in_browser=True",
    ]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=_own_home(root, token),
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/api", server, log)
        yield Lab(f"http://127.0.0.1:{port}", token, folder)
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_for(url, server, log):
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            assert server.poll() is None, f"JupyterLab stopped:\n{log.read_text()}"
            time.sleep(0.1)
    raise AssertionError(f"JupyterLab does not answer:\n{log.read_text()}")


def _put(folder, source):
    """Put a notebook into the served folder: a file, or a list of code cells."""
    if isinstance(source, list):
        cells = [nbformat.v4.new_code_cell(code) for code in source]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
        nbformat.write(notebook, folder / "cells.ipynb")
        return "cells.ipynb"
    return Path(shutil.copy(ROOT / source, folder)).name


@pytest.fixture(scope="session")
def windows(lab, chromium):
    """Give a function: options of a browser context -> a window in which JupyterLab runs.

    Windows are used again: loading JupyterLab takes longer than most tests.
    """
    free = {}

    @contextmanager
    def window(options):
        idle = free.setdefault(json.dumps(options, sort_keys=True), [])
        page = idle.pop() if idle else _load_lab(chromium.new_context(**options), lab)
        try:
            yield page
        finally:
            page.evaluate(CLOSE)
            page.mouse.move(0, 0)
            idle.append(page)

    return window


def _load_lab(context, lab):
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    page.goto(f"{lab.url}/doc?reset&token={lab.token}")
    page.wait_for_function("() => window.jupyterapp")
    _await(page, "() => jupyterapp.restored")
    # JupyterLab's body has no height: axe would take all that is in it for hidden, and its contrast
    # for good.
    page.add_style_tag(content="body { height: 100vh }")
    return page


@pytest.fixture
def open_notebook(lab, windows):
    """Give a function: (path from the root of the project, or a list of cells) -> Notebook.

    Its cells have run, unless `run=False`. Every notebook has a window and a kernel of its own
    until the test ends.
    """
    with ExitStack() as opened:

        def open_(
            source,
            *,
            run=True,
            dark=False,
            width=1280,
            height=1400,
            reduced_motion="no-preference",
            **context_options,
        ):
            page = opened.enter_context(windows(context_options))
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(reduced_motion=reduced_motion)
            notebook = Notebook(page)

            def note(error):
                notebook.errors.append(str(error))

            page.on("pageerror", note)
            opened.callback(page.remove_listener, "pageerror", note)
            _await(page, OPEN, _put(lab.folder, source))
            notebook.theme(dark=dark)
            if run:
                notebook.run_all()
            return notebook

        yield open_
