"""PageMap against a plain ipywidgets button and bqplot's GridHeatMap, in a real JupyterLab.

Run with `make bench` or `python -m benchmarks bench_page_map`; needs Chromium (or CHROMIUM=path).
Each round trip is a click -> Python -> the changed picture on the page; rounds take turns, medians
are compared, and only the ratios mean something.
"""

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
from statistics import median
from typing import Any

import nbformat
from playwright.sync_api import Page, sync_playwright

ROUNDS = 15
ROOT = Path(__file__).parents[1]

#: name -> (memory, cells in a row); every page of the last zone has a cell of its own.
MAPS = {
    "PageMap, 4,096 cells": ("16M", 128),
    "PageMap, 65,536 cells": ("256M", 256),
    "PageMap, 1,048,576 cells": ("7G", 1024),
}

SETUP = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import random
import bqplot, ipywidgets, numpy
from kmemkit import Kernel
from kmemkit.views import PageMap

def row(name, picture, act):
    button = ipywidgets.Button(description=name)
    button.on_click(lambda _: act())
    box = ipywidgets.VBox([button, picture])
    box.add_class("bench-row")
    return box

label = ipywidgets.Label("0")
def count():
    label.value = str(int(label.value) + 1)

def scatter(kernel):
    # About 60 % in use, in pieces.
    rng, live = random.Random(1), []
    pages = kernel.snapshot().zones[-1].managed
    while kernel.snapshot().zones[-1].free > 0.2 * pages:
        for order in rng.choices((0, 1, 2, 3), (70, 15, 10, 5), k=pages // 50):
            live.append((kernel.alloc_pages("GFP_KERNEL", order), order))
    rng.shuffle(live)
    for pfn, order in live[: len(live) // 3]:
        kernel.free_pages(pfn, order)

def page_map(name, ram, width):
    kernel, held = Kernel(ram=ram), []
    scatter(kernel)
    view = PageMap(kernel, zone=kernel.snapshot().zones[-1].name, width=width)
    def act():
        if held:
            kernel.free_pages(held.pop(), 3)
        else:
            held.append(kernel.alloc_pages("GFP_KERNEL", 3, owner="bench"))
    return row(name, view, act)

def grid():
    scales = {{"row": bqplot.OrdinalScale(), "column": bqplot.OrdinalScale(),
              "color": bqplot.ColorScale(min=0, max=1)}}
    mark = bqplot.GridHeatMap(color=numpy.zeros((64, 64)), scales=scales,
                              row=numpy.arange(64), column=numpy.arange(64))
    def act():
        color = mark.color.copy()
        color[0, :8] = 1 - color[0, :8]
        mark.color = color
    return row("GridHeatMap, 4,096 cells", bqplot.Figure(marks=[mark]), act)

maps = [page_map(name, *size) for name, size in {MAPS!r}.items()]
display(row("Button", label, count), *maps, grid())
"""

#: Click a row's button, and wait for the frame that shows its picture changed. A label and a
#: heat map change the page when the message arrives, for the next frame; a PageMap draws within
#: the frame itself.
ROUND_TRIP = """async ([number, what]) => {
    const row = document.querySelectorAll(".bench-row")[number];
    const target = row.querySelector(what);
    const frame = () => new Promise(requestAnimationFrame);
    await frame();
    const before = performance.now();
    await new Promise((resolve) => {
        const watcher = new MutationObserver(() => { watcher.disconnect(); resolve(); });
        const all = { attributes: true, childList: true, characterData: true };
        watcher.observe(target, { ...all, subtree: what !== ".kmemkit" });
        row.querySelector("button").click();
    });
    if (what !== ".kmemkit") await frame();
    return performance.now() - before;
}"""


@contextmanager
def lab(root: Path) -> Iterator[str]:
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


def open_notebook(page: Page, url: str, root: Path) -> None:
    """Open a notebook with the rows to measure, and wait until all of them are drawn."""
    cells = [nbformat.v4.new_code_cell(SETUP)]
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
    page.wait_for_function(
        "count => document.querySelectorAll('.kmemkit[data-drawn]').length === count",
        arg=len(MAPS),
    )
    page.locator(".heatmapcell").first.wait_for(state="attached")


def measure(page: Page) -> tuple[dict[str, float], float]:
    """Return the median round trip of each row, and of a full redraw of 2^20 cells, in ms."""
    rows = {"button": ".widget-label"} | dict.fromkeys(MAPS, ".kmemkit") | {"grid": ".bqplot"}
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for number, (name, what) in enumerate(rows.items()):
            times[name].append(page.evaluate(ROUND_TRIP, [number, what]))
    redraw: list[Any] = [
        page.evaluate(
            "() => [...document.querySelectorAll('.kmemkit')].at(-1).kmemkit.timeRedraw()"
        )
        for _ in range(ROUNDS)
    ]
    return {name: median(taken) for name, taken in times.items()}, median(redraw)


def main() -> None:
    """Measure, and print a table of ratios."""
    chromium = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    if chromium is None:
        print(
            "PageMap: not measured, no Chromium here (apt-get install chromium, or CHROMIUM=path)"
        )
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        lab(Path(folder)) as url,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(120_000)
        open_notebook(page, url, Path(folder))
        times, redraw = measure(page)
        browser.close()
    button, small = times["button"], times["PageMap, 4,096 cells"]
    print(f"{'PageMap: click -> Python -> picture':<44} {'ms':>7} {'ratio':>7}  reach")
    print(f"{'plain ipywidgets Button':<44} {button:7.1f} {1:7.2f}")
    for name in MAPS:
        print(f"{name + ' / Button':<44} {times[name]:7.1f} {times[name] / button:7.2f}  <= 1.5")
    grid, name = times["grid"], "GridHeatMap / PageMap, 4,096 cells"
    print(f"{name:<44} {grid:7.1f} {grid / small:7.2f}  >= 2.4")
    print(f"{'full redraw of 1,048,576 cells':<44} {redraw:7.1f} {'':7}  <= 100 ms")


if __name__ == "__main__":
    main()
