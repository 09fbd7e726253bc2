"""SizeClasses in JupyterLab: typing, sliding, pointing, the table, themes, axe."""

import pytest

from tests.ui.asking import python, says

SETUP = """
from kmemkit import Kernel, SizeClasses
kernel = Kernel("64M")
kernel.kmalloc(8, "GFP_KERNEL")
view = SizeClasses(kernel, size=100)
view
"""


def drawn(notebook, number=0):
    """Wait for the chart, and return the view and the chart's locators."""
    view = notebook.page.locator(".km-sizes").nth(number)
    view.locator(".bqplot path.line").first.wait_for(state="attached")
    return view, view.locator(".bqplot")


def test_type_a_size(open_notebook):
    notebook = open_notebook([SETUP])
    view, _ = drawn(notebook)
    field, line = view.get_by_label("Requested bytes").first, view.locator(".km-line")
    for size, what in (("193", "kmalloc-256"), ("9000", "order 2"), ("0", "ZERO_SIZE_PTR")):
        field.fill(size)
        line.filter(has_text=what).wait_for()
        says(notebook, line, "view.line()")
        assert python(notebook, "view.size") == size
    assert notebook.errors == []


def test_slide_by_keyboard(open_notebook):
    notebook = open_notebook([SETUP])
    view, _ = drawn(notebook)
    slider, line = view.get_by_role("slider"), view.locator(".km-line")
    slider.focus()
    for key, size in (
        ("ArrowRight", "101"), ("PageUp", "128"), ("ArrowUp", "129"), ("PageDown", "128"),
        ("PageDown", "96"), ("ArrowLeft", "95"), ("Home", "1"), ("End", "4,194,304"),
    ):  # fmt: skip
        slider.press(key)
        line.filter(has_text=f"kmalloc({size})").wait_for()
    assert slider.get_attribute("aria-valuetext") == python(notebook, "view.line()")
    here = view.locator("tr[aria-current]")
    assert here.count() == 1
    assert "order 10" in here.text_content()
    active = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"
    assert notebook.page.evaluate(active) == 0


def test_point_at_the_chart(open_notebook):
    notebook = open_notebook([SETUP])
    view, chart = drawn(notebook)
    view.get_by_role("button", name="to 256 bytes").click()
    chart.get_by_text("192", exact=True).first.wait_for(state="attached")
    view.get_by_role("button", name="to 256 bytes", pressed=True).wait_for()
    box = chart.locator("svg").first.bounding_box()
    margin = eval(python(notebook, "view._panel.state['margin']"))
    width = box["width"] - margin["left"] - margin["right"]
    notebook.page.mouse.click(box["x"] + margin["left"] + width * 150 / 256, box["y"] + 100)
    view.locator(".km-line").filter(has_text="kmalloc-192").wait_for()
    assert int(python(notebook, "view.size")) == pytest.approx(150, abs=1)
    view.get_by_role("button", name="to 4 MiB").click()
    view.get_by_text("beyond, pages instead of a cache").wait_for()
    assert python(notebook, "view.range") == "all"


def test_the_table_is_the_text(open_notebook):
    notebook = open_notebook([SETUP])
    view, _ = drawn(notebook)
    view.locator("summary").click()
    rows = [row.inner_text().split("\t") for row in view.locator("table tr").all()]
    assert str([[cell.strip() for cell in row] for row in rows]) == python(
        notebook, "view._table()"
    )


def test_themes_and_accessibility(open_notebook):
    more = "SizeClasses(size=70, range='small')", "SizeClasses(size=100_000, range='all')"
    notebook = open_notebook([SETUP, *more], height=2200)
    drawn(notebook)[0].locator("summary").click()
    for dark in (False, True):
        notebook.theme(dark=dark)
        theme = "dark" if dark else "light"
        for number, name in enumerate(("table", "small", "all")):
            view, chart = drawn(notebook, number)
            chart.get_by_text("256", exact=True).first.wait_for(state="attached")
            notebook.screenshot(f"size-classes-{name}-{theme}", view)
        assert notebook.axe() == ""
        focusable = notebook.page.locator(
            ".km-sizes :is(button, input, select, summary, a, [tabindex])"
            ":not([data-lm-suppress-shortcuts]):not(.bqplot *, .bqplot)"
        )
        assert focusable.filter(visible=True).count() == 0
    assert notebook.errors == []
