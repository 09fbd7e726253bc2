"""Watermarks in JupyterLab: the chart against the points, reading by pointer and keys, themes, axe."""

from itertools import pairwise

import pytest

from tests.ui.asking import python, says

SETUP = """
from kmemkit import *
from kmemkit.views import Watermarks
kernel = Kernel(ram="128M")
while kernel.alloc_pages("GFP_DMA|__GFP_NOWARN", 0) is not None:
    pass
kernel.read_file("60M")
FILL = "GFP_HIGHUSER_MOVABLE & ~__GFP_RECLAIM | __GFP_NOWARN"
while kernel.snapshot().zones[1].free_est > 420:
    kernel.alloc_pages(FILL, 0)
kernel.record()
for _ in range(70):
    kernel.alloc_pages("GFP_ATOMIC|__GFP_MOVABLE|__GFP_NOWARN", 2)
for _ in range(5):
    kernel.alloc_pages("GFP_KERNEL|__GFP_MOVABLE", 2)
kernel.sleep(20)
for _ in range(20):
    kernel.alloc_pages("GFP_KERNEL|__GFP_MOVABLE", 2)
view = Watermarks(kernel, gfp="GFP_ATOMIC")
view
"""
LINE = "view._panel.state['line']"


def drawn(notebook):
    """Wait for the chart, and return the view and the chart's locators."""
    view = notebook.page.locator(".km-watermarks")
    view.locator(".bqplot .curve path.line").first.wait_for(state="attached")
    return view, view.locator(".bqplot")


@pytest.fixture
def read(open_notebook):
    notebook = open_notebook([SETUP])
    view, chart = drawn(notebook)
    yield notebook, view, chart
    assert notebook.errors == []


def test_every_line_has_its_name_beside_it(read):
    notebook, view, chart = read
    said = python(notebook, "'|'.join(view._chart._labels.text)").split("|")
    assert {label.split()[0] for label in said} >= {"free", "high", "low", "min", "its"}
    boxes = {}
    for label in said:
        mark = chart.get_by_text(label, exact=True)
        mark.wait_for(state="attached")
        boxes[label] = mark.bounding_box()
    frame = view.bounding_box()
    edges = sorted((box["y"], box["y"] + box["height"]) for box in boxes.values())
    for (_, bottom), (top, _) in pairwise(edges):
        assert top > bottom - 4
    assert all(b["x"] + b["width"] <= frame["x"] + frame["width"] for b in boxes.values())


def test_read_by_pointer(read):
    notebook, view, chart = read
    box = chart.bounding_box()
    margin = [int(n) for n in python(notebook, "*view._panel.state['margin'].values()").split()]
    width = box["width"] - margin[2] - margin[3]
    last = int(python(notebook, "len(view.points()) - 1"))
    end = float(python(notebook, "view._panel.state['span'][1]"))
    for step in (0, last // 3, last):
        notebook.page.mouse.move(box["x"] + margin[2] + width * step / end, box["y"] + 90)
        view.get_by_text(f"step {step} of {last}", exact=True).wait_for()
        says(notebook, view.locator(".km-line"), LINE)
        assert python(notebook, "view.at") == str(step)
        cursor = view.locator(".km-wm-cursor").bounding_box()
        assert cursor["x"] == pytest.approx(box["x"] + margin[2] + width * step / end, abs=3)


def test_read_by_keyboard(read):
    notebook, view, _ = read
    slider, keyboard = view.get_by_role("slider", name="Step"), notebook.page.keyboard
    last = int(python(notebook, "len(view.points()) - 1"))
    slider.focus()
    for key, at in (
        ("Home", 0),
        ("ArrowRight", 1),
        ("PageUp", 11),
        ("ArrowLeft", 10),
        ("End", last),
    ):
        keyboard.press(key)
        view.get_by_text(f"step {at} of {last}", exact=True).wait_for()
    says(notebook, view.locator(".km-line"), LINE)
    active = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"
    assert notebook.page.evaluate(active) == 0


def test_request_zone_and_axes(read):
    notebook, view, chart = read
    view.get_by_role("combobox", name="Request").select_option("GFP_KERNEL")
    view.get_by_text("alloc_pages(GFP_KERNEL, 0)", exact=False).first.wait_for()
    chart.get_by_text("its min", exact=False).wait_for(state="hidden")
    view.get_by_role("button", name="by time").click()
    chart.get_by_text("simulated time, ms").wait_for(state="attached")
    view.get_by_role("combobox", name="Zone").select_option("0")
    view.get_by_text("zone DMA,", exact=False).first.wait_for()
    chart.get_by_text("reserve", exact=False).wait_for(state="attached")
    assert python(notebook, "view.zone, view.by_time") == "0 True"


def test_the_table_is_the_text(read):
    notebook, view, _ = read
    view.locator("summary").click()
    rows = [row.inner_text().split("\t") for row in view.locator("table tr").all()]
    assert str([[cell.strip() for cell in row] for row in rows]) == python(
        notebook, "view._table(view.points())"
    )


def test_axe_has_nothing_to_say_and_the_chart_looks_right(open_notebook):
    notebook = open_notebook([SETUP])
    view, chart = drawn(notebook)
    view.locator("summary").click()
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        # The line of free pages is drawn in the theme's text colour.
        ink = view.evaluate("view => getComputedStyle(view).color")
        strokes = chart.locator("path.line").evaluate_all(
            "lines => lines.map(line => getComputedStyle(line).stroke)"
        )
        assert ink in strokes, theme
    focusable = view.locator(":is(button, input, select, summary, a, [tabindex])")
    bare = focusable.filter(visible=True).and_(view.locator(":not([data-lm-suppress-shortcuts])"))
    shielded = bare.and_(view.locator(":not(.bqplot *, .bqplot)"))
    assert focusable.count() > 5
    assert shielded.count() == 0
    python(notebook, "setattr(view, 'near', False)")
    assert python(notebook, "any(p.kswapd for p in view.points())") == "True"
    for theme in notebook.themes():
        notebook.screenshot(f"watermarks-{theme}", view)
    assert notebook.errors == []
