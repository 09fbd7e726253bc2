"""BuddyLab, FreeAreas and Stepper in JupyterLab: mouse, keyboard, what they say against Python's text."""

import re

import pytest

from tests.ui.asking import click_page, python, says

LAB = """
from kmemkit import Kernel
from kmemkit.views import BuddyLab, FreeAreas, Stepper
kernel = Kernel(ram="1M")
lab = BuddyLab(kernel, seed=7)
lab
"""
RUN = """
from kmemkit import Kernel
from kmemkit.views import FreeAreas, Stepper
kernel = Kernel(ram="256K")
kernel.record()
held = [kernel.alloc_pages("GFP_KERNEL", order) for order in (0, 1, 3, 5)]
kernel.free_pages(held[1], 1)
areas = FreeAreas(kernel)
areas
"""
STEPPER = "stepper = Stepper(kernel, views=[areas], whole=True)\nstepper"


@pytest.fixture
def played(open_notebook):
    """A notebook with the lab, drawn; `lab` in the kernel's names is the widget."""
    notebook = open_notebook([LAB])
    view = notebook.page.locator(".km-lab")
    view.locator(".km-map canvas").first.wait_for()
    view.locator(".bqplot .bar").first.wait_for(state="attached")
    yield notebook, view
    assert notebook.errors == []


def test_predict_and_allocate_by_mouse(played):
    notebook, view = played
    truth = int(python(notebook, "kernel.clone().alloc_pages('GFP_KERNEL', 1)"))
    view.get_by_role("combobox", name="Order").select_option("1")
    view.get_by_role("button", name="Allocate").click()
    question = view.locator(".km-question")
    question.filter(has_text="alloc_pages(GFP_KERNEL, 1)").wait_for()
    says(notebook, question, "lab.model.question")
    assert view.locator(".km-verdict").is_hidden()

    click_page(view, truth)
    answer = view.get_by_label("pfn in hex, or click the page on the map")
    notebook.page.wait_for_function(
        "([input, pfn]) => input.value === pfn", arg=[answer.element_handle(), f"{truth:#x}"]
    )
    view.get_by_role("button", name="Commit").click()
    verdict = view.locator(".km-verdict")
    verdict.wait_for()
    assert verdict.inner_text() == f"✓ Right: pfn {truth:#x}."
    says(notebook, view.locator(".km-score"), "lab.model.score()")
    assert python(notebook, "lab.selected") == str(truth)
    assert python(notebook, "kernel.history[-1].call") == "alloc_pages(GFP_KERNEL, 1)"


def test_predict_allocate_and_step_by_keyboard_alone(played):
    notebook, view = played
    keyboard = notebook.page.keyboard
    view.get_by_role("combobox", name="Request").focus()
    keyboard.press("Tab")
    keyboard.press("ArrowDown")
    keyboard.press("ArrowDown")
    keyboard.press("Tab")
    keyboard.press("Tab")
    keyboard.press("Enter")
    view.get_by_label("pfn in hex, or click the page on the map").wait_for()
    keyboard.type("0xe0")
    keyboard.press("Enter")
    verdict = view.locator(".km-verdict")
    verdict.wait_for()
    assert python(notebook, "kernel.history[-1].call") == "alloc_pages(GFP_KERNEL, 2)"
    assert "“The largest free block is split.”" in verdict.inner_text()
    says(notebook, verdict.locator(".km-outcome"), "'✗ ' + lab.model.verdict.sentence")
    focused = "() => document.activeElement.textContent"
    assert notebook.page.evaluate(focused) == "Allocate"

    # The slider is the stepper's seat: the arrows step, and JupyterLab's cell stays selected.
    view.get_by_role("slider", name="Step").focus()
    keyboard.press("ArrowLeft")
    view.get_by_text(re.compile("decisions told; the result comes with the last")).wait_for()
    assert python(notebook, "lab.stepper.walk.complete") == "False"
    keyboard.press("Home")
    view.get_by_text("start of 1").wait_for()
    keyboard.press("End")
    view.get_by_text("step 1 of 1").wait_for()
    assert python(notebook, "lab.stepper.walk.at_end") == "True"
    assert (
        notebook.page.evaluate("() => jupyterapp.shell.currentWidget.content.activeCellIndex") == 0
    )


def test_free_by_click(played):
    notebook, view = played
    code = "next(p for p in range(256) if lab.map.snapshot.page(p).kind.allocated)"
    pfn = int(python(notebook, code))
    click_page(view, pfn)
    free = view.get_by_role("button", name=re.compile(rf"Free {pfn:#x}, order"))
    free.click()
    view.get_by_label("order of the merged block").fill("9")
    view.get_by_role("button", name="Commit").click()
    verdict = view.locator(".km-verdict")
    verdict.wait_for()
    says(notebook, verdict.locator(".km-outcome"), "'✗ ' + lab.model.verdict.sentence")
    assert python(notebook, f"lab.map.snapshot.page({pfn}).kind.name") == "FREE"
    # What the free areas say about the block is what their text twin says.
    line = view.locator(".km-free-areas .km-line")
    says(notebook, line, "lab.areas.selected_text()")
    assert view.locator(".km-order.km-selected").count() == 1


def test_page_shows_each_step_as_the_text_twin_has_it(played):
    notebook, view = played
    code = """exec('''
for order in (0, 2, 6):
    lab.act("allocate", gfp="GFP_KERNEL", order=order, owner="driver")
    lab.act("unknown")
''')"""
    python(notebook, code)
    view.get_by_text("step 3 of 3").wait_for()
    moves = ["◀ back", "◀ back", "step ▶", "next failure (1)", "◀ back", "step ▶"]
    for move in moves:
        view.get_by_role("button", name=move).click()
        where = python(notebook, "lab.stepper.walk.where()")
        told = python(notebook, "lab.stepper.walk.told")
        view.locator(".km-why li").nth(int(told)).wait_for(state="detached")
        view.get_by_text(where, exact=True).wait_for()
        reasons = view.locator(".km-why li").all_inner_texts()
        lines = [f"  {number}. {line}" for number, line in enumerate(reasons, 1)]
        head = view.locator(".km-call code").inner_text().replace(" → ", " -> ")
        more = [line for line in view.locator(".km-stepper > p.km-quiet").all_inner_texts() if line]
        twin = python(notebook, "lab.stepper.text()")
        assert twin == "\n".join([where, head, *lines, *more])
        assert python(notebook, "lab.map.snapshot is lab.stepper.walk.snapshot") == "True"
    view.locator(".km-failed").wait_for()


def test_the_pointer_brings_no_toolbar(open_notebook):
    notebook = open_notebook([RUN])
    view = notebook.page.locator(".km-free-areas")
    view.locator(".bqplot .bar").first.wait_for(state="attached")
    view.locator(".bqplot").hover()
    toolbar = view.locator(".toolbar_div")
    notebook.page.wait_for_function(
        "toolbar => toolbar.style.visibility === 'visible'", arg=toolbar.element_handle()
    )
    assert not toolbar.locator("button").first.is_visible()


def test_bars_and_table_are_the_counts(open_notebook):
    notebook = open_notebook([RUN])
    view = notebook.page.locator(".km-free-areas")
    view.locator(".bqplot .bar").first.wait_for(state="attached")
    counts = eval(python(notebook, "[row.counts for row in areas.counts()]"))
    table = view.locator("tbody tr")
    view.get_by_text("The same as a table").click()
    shown = [[int(cell) for cell in row.locator("td").all_inner_texts()] for row in table.all()]
    assert shown == [[*row, sum(row)] for row in counts]

    # The marks of the figure are the bars and, after them, the outline of the selected segment.
    heights = view.locator(".bqplot .bargroup").evaluate_all(
        """groups => groups.map(group =>
            [...group.querySelectorAll(".bar")].map(bar => Number(bar.getAttribute("height"))))"""
    )[: len(counts)]
    unit = max(map(max, heights)) / max(map(max, counts))
    assert unit > 0
    for row, drawn in zip(counts, heights, strict=True):
        assert [round(height / unit) for height in drawn] == list(row)

    # One tab stop, then arrow keys from order to order; the line says what Python says.
    view.locator(".km-order").first.focus()
    notebook.page.keyboard.press("ArrowRight")
    notebook.page.keyboard.press("ArrowRight")
    says(notebook, view.locator(".km-line"), "areas.counts()[2]")
    view.get_by_role("button", name="log axis").focus()
    notebook.page.keyboard.press("Enter")
    view.locator("button[aria-pressed=true]").wait_for()
    assert python(notebook, "areas.log") == "True"
    assert notebook.errors == []


def test_run_plays_to_the_end_and_the_history_can_be_saved(open_notebook):
    notebook = open_notebook([RUN, STEPPER])
    view = notebook.page.locator(".km-stepper")
    view.wait_for()
    view.get_by_role("button", name="◀ back").click()
    view.get_by_text("step 4 of 5").wait_for()
    view.get_by_label("Speed of a run").select_option("4")
    view.get_by_role("button", name="run", exact=True).click()
    view.get_by_text("step 5 of 5").wait_for()
    view.get_by_role("button", name="run", exact=True).wait_for()
    with notebook.page.expect_download() as download:
        view.get_by_role("button", name="save as text").click()
    saved = download.value.path().read_text("utf-8")
    assert saved.rstrip("\n") == python(notebook, "stepper.export()").rstrip("\n")
    assert notebook.errors == []


def test_with_reduced_motion_nothing_plays(open_notebook):
    notebook = open_notebook([RUN, STEPPER], reduced_motion="reduce")
    view = notebook.page.locator(".km-stepper")
    view.wait_for()
    assert view.get_by_role("button", name="run", exact=True).count() == 0
    assert view.get_by_label("Speed of a run").is_hidden()
    view.get_by_role("slider", name="Step").focus()
    notebook.page.keyboard.press("Home")
    view.get_by_text("start of 5").wait_for()
    view.get_by_role("button", name="to the end").click()
    view.get_by_text("step 5 of 5").wait_for()


def test_axe_has_nothing_to_say_and_the_lab_looks_right(played):
    notebook, view = played
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
    python(notebook, "lab.act('allocate', gfp='GFP_KERNEL', order=2, owner='driver')")
    view.locator(".km-question").wait_for()
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
    python(notebook, "lab.act('commit', answer='0xe0')")
    view.locator(".km-verdict").wait_for()
    blocks = python(notebook, "lab.areas.counts()[0].total")
    total = view.locator(".bqplot").get_by_text(blocks, exact=True)
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        # The numbers above the bars are drawn in the theme's text colour.
        ink = view.evaluate("view => getComputedStyle(view).color")
        assert total.evaluate("label => getComputedStyle(label).fill") == ink
        notebook.screenshot(f"buddy-lab-{theme}", view, docs=True)
    focusable = view.locator(":is(button, input, select, summary, textarea, a, [tabindex])")
    bare = focusable.filter(visible=True).and_(view.locator(":not([data-lm-suppress-shortcuts])"))
    assert focusable.count() > 20
    assert bare.count() == 0
