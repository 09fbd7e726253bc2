"""A step of ReclaimLadder against a plain ipywidgets button, in a real JupyterLab.

Run with `make bench` or `python -m benchmarks bench_ladder_view`; needs Chromium (or
CHROMIUM=path). A round is a click -> the changed page; for the button, and for the second figure
of the ladder, Python has been told and has answered. Rounds take turns, medians are compared, and
only the ratios mean something.
"""

from __future__ import annotations

from statistics import median

from playwright.sync_api import Page

from benchmarks.browser import ROOT, running

ROUNDS = 25

SETUP = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import ipywidgets
from kmemkit import Kernel
from kmemkit.views import ReclaimLadder

# Page cache everywhere, less free than the marks ask for: two roads that go down many rungs.
kernel = Kernel(ram="256M")
kernel.fork("hog", anon="24M", oom_score_adj=500)
kernel.read_file("200M")
while kernel.alloc_pages("GFP_ATOMIC & ~__GFP_KSWAPD_RECLAIM", owner="driver") is not None:
    pass
ladder = ReclaimLadder(kernel, "GFP_ATOMIC", against="GFP_KERNEL", predict=False)

label, place = ipywidgets.Label("0"), ipywidgets.Label("0")
button = ipywidgets.Button(description="plain")
def count(_):
    label.value = str(int(label.value) + 1)
button.on_click(count)
def told(change):
    place.value = f"at {{change['new']}}"
ladder.observe(told, "at")
plain, walked = ipywidgets.VBox([button, label]), ipywidgets.VBox([ladder, place])
plain.add_class("bench-plain")
walked.add_class("bench-ladder")
display(plain, walked)
"""

#: Click a button, wait until what is named has changed, and then for the frame that shows it.
ROUND_TRIP = """async ([button, what]) => {
    const target = document.querySelector(what);
    const frame = () => new Promise(requestAnimationFrame);
    await frame();
    const before = performance.now();
    await new Promise((resolve) => {
        const watcher = new MutationObserver(() => { watcher.disconnect(); resolve(); });
        watcher.observe(target, { childList: true, characterData: true, subtree: true });
        document.querySelector(button).click();
    });
    await frame();
    return performance.now() - before;
}"""
STEPS = ".bench-ladder .km-bar:has(.km-where) button"
PLACES = {
    "button": (".bench-plain button", ".bench-plain .widget-label"),
    "painted": (STEPS, ".bench-ladder .km-line"),
    "answered": (STEPS, ".bench-ladder .widget-label"),
}


def measure(page: Page) -> dict[str, float]:
    """Return the medians in ms: the button, a step until it is painted, and until it is answered.

    Steps go to and fro between the last two rungs.
    """
    page.locator(".bench-ladder tr[aria-current]").wait_for()
    times: dict[str, list[float]] = {name: [] for name in PLACES}
    for turn in range(ROUNDS):
        for name, (button, what) in PLACES.items():
            if name != "button":
                # start, back, step, to the end: one back, then one on
                button = f"{button}:nth-of-type({2 if name == 'painted' else 3})"
            times[name].append(page.evaluate(ROUND_TRIP, [button, what]))
        page.wait_for_timeout(50 if turn else 500)
    return {name: median(taken) for name, taken in times.items()}


def main() -> None:
    """Measure, and print a table of ratios."""
    with running("ReclaimLadder", SETUP) as page:
        if page is None:
            return
        times = measure(page)
    button = times["button"]
    print(f"{'ReclaimLadder: one step':<44} {'ms':>7} {'ratio':>7}  reach")
    print(f"{'plain ipywidgets Button, click to painted':<44} {button:7.1f} {1:7.2f}")
    for name, told in (("painted", "step, click to painted"), ("answered", "step, Python told")):
        reach = "<= 1.5" if name == "painted" else ""
        print(f"{told:<44} {times[name]:7.1f} {times[name] / button:7.2f}  {reach}".rstrip())


if __name__ == "__main__":
    main()
