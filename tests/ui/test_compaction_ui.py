"""Compaction in JupyterLab: the arrow and the scanners on the map, the question, mouse and keys."""

import re

from tests.ui.asking import click_page, python

WORLD = """
from kmemkit import Kernel
from kmemkit.views import Compaction
kernel = Kernel(ram="256K")
held = []
for turn in range(28):
    held.append(kernel.alloc_pages("GFP_HIGHUSER_MOVABLE", 0, owner="driver"))
    kernel.read_file("4K")
for page in held:
    kernel.free_pages(page, 0)
view = Compaction(kernel)
view
"""
PREDICT = WORLD.replace("Compaction(kernel)", "Compaction(kernel, predict=True)")


def opened(notebook):
    view = notebook.page.locator(".km-compaction")
    view.locator("canvas").first.wait_for()
    notebook.page.wait_for_function(
        "view => Number(view.dataset.drawn) > 0", arg=view.element_handle()
    )
    return view


def arrives(notebook, view, step):
    """Wait until the page shows a step, and return what it says of it."""
    for _ in range(100):  # the click may still be on its way to Python
        told = python(notebook, "view._told()")
        if told.startswith(f"step {step} of "):
            break
        notebook.page.wait_for_timeout(50)
    assert told.startswith(f"step {step} of ")
    view.locator(".km-told").filter(has_text=told).wait_for()
    return told


def drawn_like_the_text(view, notebook):
    """Whether every cell on the canvas is the letter that the text twin has there."""
    rows = re.findall(r"^0x[0-9a-f]+ \S+ +(\S+)$", python(notebook, "view.text()"), re.M)
    return view.evaluate("view => view.kmemkit.cells()") == "".join(rows)


def test_it_walks_through_the_moves_and_draws_each(open_notebook):
    notebook = open_notebook([WORLD])
    view = opened(notebook)
    forward = view.get_by_role("button", name="Step forward")
    for step in range(1, 6):
        forward.click()
        told = arrives(notebook, view, step)
        drawn = notebook.page.wait_for_function
        cells = "".join(
            re.findall(r"^0x[0-9a-f]+ \S+ +(\S+)$", python(notebook, "view.text()"), re.M)
        )
        drawn(
            "([view, cells]) => view.kmemkit.cells() === cells", arg=[view.element_handle(), cells]
        )
        scanners = view.locator(".km-scanners")
        assert scanners.inner_text() == python(notebook, "view._scanners()")
    assert "moves to pfn" in told
    # Something stands on the overlay now: the scanners' flags and the arrow.
    inked = """overlay => {
        const { data } = overlay.getContext("2d").getImageData(0, 0, overlay.width, overlay.height);
        return data.some((byte, at) => at % 4 === 3 && byte > 0);
    }"""
    assert view.locator("canvas.km-overlay").evaluate(inked)
    view.get_by_role("button", name="Step back").click()
    arrives(notebook, view, 4)
    slider = view.get_by_role("slider", name="Step of the history")
    slider.focus()
    notebook.page.keyboard.press("End")
    last = int(python(notebook, "len(view.moves) - 1"))
    view.get_by_text(f"step {last} of {last}").first.wait_for()
    assert drawn_like_the_text(view, notebook)
    assert notebook.errors == []


def test_it_plays_by_itself(open_notebook):
    notebook = open_notebook([WORLD])
    view = opened(notebook)
    view.get_by_label("Speed of a run").select_option("8")
    view.get_by_role("button", name="run", exact=True).click()
    view.get_by_role("button", name="pause").wait_for()
    last = int(python(notebook, "len(view.moves) - 1"))
    view.get_by_text(f"step {last} of {last}").first.wait_for()
    view.get_by_role("button", name="run", exact=True).wait_for()
    assert notebook.errors == []


def test_with_reduced_motion_nothing_plays(open_notebook):
    notebook = open_notebook([WORLD], reduced_motion="reduce")
    view = opened(notebook)
    assert view.get_by_role("button", name="run", exact=True).count() == 0
    assert view.get_by_label("Speed of a run").is_hidden()
    view.get_by_role("button", name="to the end").click()
    last = int(python(notebook, "len(view.moves) - 1"))
    view.get_by_text(f"step {last} of {last}").first.wait_for()


def test_predict_by_clicks_on_the_map(open_notebook):
    notebook = open_notebook([PREDICT])
    view = opened(notebook)
    forward = view.get_by_role("button", name="Step forward")
    question = view.get_by_text("Before you step: which page moves next, and where to?")
    assert question.is_hidden()
    for _ in range(3):
        forward.click()
    question.wait_for()
    arrives(notebook, view, 3)
    assert forward.get_attribute("aria-disabled") == "true"
    forward.press("Enter")
    view.get_by_text("Predict the next move first").wait_for()
    src, dst = eval(python(notebook, "(view.moves.scans[4].src, view.moves.scans[4].dst)"))
    click_page(view, src)
    click_page(view, dst)
    source = view.get_by_label("the page that moves")
    assert source.input_value() == f"{src:#x}"
    assert view.get_by_label("where it goes").input_value() == f"{dst:#x}"
    view.get_by_role("button", name="Commit").click()
    verdict = view.locator(".km-outcome")
    verdict.wait_for()
    assert verdict.inner_text() == f"✓ Right: {src:#x} → {dst:#x}."
    arrives(notebook, view, 4)
    assert python(notebook, "view.counts['right']") == "1"
    assert notebook.errors == []


def test_predict_by_keyboard_alone(open_notebook):
    notebook = open_notebook([PREDICT])
    view = opened(notebook)
    keyboard = notebook.page.keyboard
    view.get_by_role("button", name="Step forward").focus()
    for _ in range(3):
        keyboard.press("Enter")
    source = view.get_by_label("the page that moves")
    source.wait_for()
    source.focus()
    keyboard.type("0x1")
    keyboard.press("Tab")
    keyboard.type("0x0")
    keyboard.press("Enter")
    verdict = view.locator(".km-verdict")
    verdict.wait_for()
    assert "“It fills the holes from the bottom.”" in verdict.inner_text()
    assert python(notebook, "view.counts['wrong']") == "1"
    view.get_by_label("free play").check()
    last = int(python(notebook, "len(view.moves) - 1"))
    view.locator(f"input[type=range][max='{last}']").wait_for()
    view.get_by_role("slider", name="Step of the history").focus()
    keyboard.press("End")
    view.get_by_text(f"step {last} of {last}").first.wait_for()
    assert (
        notebook.page.evaluate("() => jupyterapp.shell.currentWidget.content.activeCellIndex") == 0
    )
    assert notebook.errors == []


def test_axe_has_nothing_to_say_and_it_looks_right(open_notebook):
    notebook = open_notebook([PREDICT])
    view = opened(notebook)
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
    python(notebook, "view.act('seek', to=3)")
    view.locator(".km-question").wait_for()
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        notebook.screenshot(f"compaction-ask-{theme}", view)
    python(notebook, "view.act('commit', src='0x3', dst='0x0')")
    view.locator(".km-verdict").wait_for()
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        notebook.screenshot(f"compaction-{theme}", view, docs=True)
    focusable = view.locator(":is(button, input, select, summary, textarea, a, [tabindex])")
    bare = focusable.filter(visible=True).and_(view.locator(":not([data-lm-suppress-shortcuts])"))
    assert focusable.count() > 10
    assert bare.count() == 0
    assert notebook.errors == []
