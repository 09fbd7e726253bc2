"""PageMap against a plain ipywidgets button and bqplot's GridHeatMap, in a real JupyterLab.

Run with `make bench` or `python -m benchmarks bench_page_map`; needs Chromium (or CHROMIUM=path).
Each round trip is a click -> Python -> the changed picture on the page; rounds take turns, medians
are compared, and only the ratios mean something.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from playwright.sync_api import Page

from benchmarks.browser import ROOT, running

ROUNDS = 15

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


def measure(page: Page) -> tuple[dict[str, float], float]:
    """Return the median round trip of each row, and of a full redraw of 2^20 cells, in ms.

    Waits first until all rows are drawn.
    """
    page.wait_for_function(
        "count => document.querySelectorAll('.kmemkit[data-drawn]').length === count",
        arg=len(MAPS),
    )
    page.locator(".heatmapcell").first.wait_for(state="attached")
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
    with running("PageMap", SETUP) as page:
        if page is None:
            return
        times, redraw = measure(page)
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
