"""SlabMap with 100,000 objects: its first paint, and updates against a plain ipywidgets button.

Run with `make bench` or `python -m benchmarks bench_slab_map`; needs Chromium (or CHROMIUM=path).
The first paint counts from the click of a button that makes the view to the frame in which its
picture is on the page. Updates are a click -> Python -> the changed picture; rounds take turns,
medians are compared, and of them only the ratios mean something.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from playwright.sync_api import Page

from benchmarks.browser import ROOT, running

ROUNDS = 15
OBJECTS = 100_000

#: name -> objects in the cache
MAPS = {"SlabMap, 1,000 objects": 1000, f"SlabMap, {OBJECTS:,} objects": OBJECTS}

SETUP = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import random
import ipywidgets
from kmemkit import Kernel
from kmemkit.views import SlabMap

def row(name, picture, act):
    button = ipywidgets.Button(description=name)
    button.on_click(lambda _: act())
    box = ipywidgets.VBox([button, picture])
    box.add_class("bench-row")
    return box

label = ipywidgets.Label("0")
def count():
    label.value = str(int(label.value) + 1)

def filled(objects):
    # A third is free again, in all slabs.
    kernel = Kernel(ram="256M", seed=1)
    cache = kernel.kmem_cache_create("bench", 200)
    live = [kernel.kmem_cache_alloc(cache, "GFP_KERNEL") for _ in range(objects)]
    random.Random(1).shuffle(live)
    for obj in live[: objects // 3]:
        kernel.kmem_cache_free(cache, obj)
    return kernel, cache

def slab_map(name, objects):
    kernel, cache = filled(objects)
    held = []
    def act():
        if held:
            kernel.kmem_cache_free(cache, held.pop())
        else:
            held.append(kernel.kmem_cache_alloc(cache, "GFP_KERNEL"))
    return row(name, SlabMap(kernel, cache), act)

maps = [slab_map(name, objects) for name, objects in {MAPS!r}.items()]
kernel, cache = filled({OBJECTS})
room = ipywidgets.VBox([])
def show():
    room.children = [SlabMap(kernel, cache)]
shower = row("show", room, show)
shower.add_class("bench-first")
display(row("Button", label, count), *maps, shower)
"""

#: Click a row's button, and wait for the frame that shows its picture changed. A label changes the
#: page when the message arrives, for the next frame; a SlabMap draws within the frame itself.
ROUND_TRIP = """async ([number, what]) => {
    const row = document.querySelectorAll(".bench-row")[number];
    const target = row.querySelector(what);
    const frame = () => new Promise(requestAnimationFrame);
    await frame();
    const before = performance.now();
    await new Promise((resolve) => {
        const watcher = new MutationObserver((found) => {
            const drawn = found.some((one) => one.attributeName === "data-drawn");
            if (what === ".kmemkit" && !drawn) return;
            watcher.disconnect();
            resolve();
        });
        const all = { attributes: true, childList: true, characterData: true };
        watcher.observe(target, { ...all, subtree: what !== ".kmemkit" });
        row.querySelector("button").click();
    });
    if (what !== ".kmemkit") await frame();
    return performance.now() - before;
}"""
#: Click the button that makes a view, and wait for the frame after its first picture.
FIRST_PAINT = """async () => {
    const room = document.querySelector(".bench-first");
    const old = room.querySelector(".kmemkit");
    const before = performance.now();
    room.querySelector("button").click();
    for (;;) {
        await new Promise(requestAnimationFrame);
        const view = room.querySelector(".kmemkit[data-drawn]");
        if (view && view !== old) return performance.now() - before;
    }
}"""


def measure(page: Page) -> tuple[dict[str, float], float, float]:
    """Return medians in ms: each row's round trip, the first paint, a full redraw."""
    page.wait_for_function(
        "count => document.querySelectorAll('.kmemkit[data-drawn]').length === count",
        arg=len(MAPS),
    )
    page.wait_for_timeout(1000)
    first = [page.evaluate(FIRST_PAINT) for _ in range(5)]
    rows = {"button": ".widget-label"} | dict.fromkeys(MAPS, ".kmemkit")
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
    return {name: median(taken) for name, taken in times.items()}, median(first), median(redraw)


def main() -> None:
    """Measure, and print a table of ratios."""
    with running("SlabMap", SETUP) as page:
        if page is None:
            return
        times, first, redraw = measure(page)
    button = times["button"]
    print(f"{'SlabMap: click -> Python -> picture':<44} {'ms':>7} {'ratio':>7}  reach")
    print(f"{'plain ipywidgets Button':<44} {button:7.1f} {1:7.2f}")
    for name in MAPS:
        print(f"{name + ' / Button':<44} {times[name]:7.1f} {times[name] / button:7.2f}  <= 1.5")
    print(f"{f'first paint of {OBJECTS:,} objects':<44} {first:7.1f} {'':7}  <= 300 ms")
    print(f"{'full redraw of what is seen of them':<44} {redraw:7.1f} {'':7}  <= 100 ms")


if __name__ == "__main__":
    main()
