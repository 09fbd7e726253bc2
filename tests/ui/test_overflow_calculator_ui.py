"""OverflowCalculator in JupyterLab: typing and choosing, the rows, the questions, mouse and keys."""

from tests.ui.asking import python

SETUP = """
from kmemkit import Kernel
from kmemkit.views import OverflowCalculator
kernel = Kernel(ram="16M")
"""
VIEW = SETUP + "view = OverflowCalculator(kernel)\nview"
PREDICT = SETUP + "view = OverflowCalculator(kernel, predict=True, seed=1)\nview"
SIZES = "view.act('preset', name='array32')"


def opened(notebook):
    view = notebook.page.locator(".km-ovf")
    view.locator(".km-ovf-task", has_text="elements").wait_for()
    return view


def row(view, number):
    """The cells of a row, as they stand on the page."""
    return "".join(
        view.locator(".km-ovf-cells").nth(number).locator(".km-ovf-cell").all_inner_texts()
    )


def test_the_page_says_what_the_text_twin_says(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    twin = python(notebook, "view.text()")
    for part in (".km-ovf-task", ".km-ovf-answers td", ".km-ovf-answers tbody th", ".km-verdict"):
        for said in view.locator(part).all_inner_texts():
            assert said.lstrip("✗⚠ ") in twin, said
    assert row(view, 0) in twin
    assert row(view, 1) in twin
    assert view.locator("del").all_inner_texts() == ["1", "1"]
    assert view.locator("tr.km-ovf-bad").count() == 1
    assert notebook.errors == []


def test_by_mouse(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    view.get_by_label("Example").select_option("struct")
    view.get_by_text("a struct of 24 bytes with").wait_for()
    assert row(view, 0).startswith("hhhhhhhhhhhh0000")
    view.get_by_role("radio", name="32 bits").click()
    view.get_by_text("n = 2305843009213693952 is no size_t of 32 bits").wait_for()
    assert view.get_by_role("radio", name="64 bits").is_checked()
    view.get_by_label("Example").select_option("fits")
    view.get_by_text("100 elements of 40 bytes").wait_for()
    assert view.locator("del").count() == 0
    assert notebook.errors == []


def test_two_views_on_one_page_keep_their_choices_apart(open_notebook):
    notebook = open_notebook([VIEW, "OverflowCalculator(kernel, bits=64)"])
    views = notebook.page.locator(".km-ovf")
    views.nth(1).locator(".km-ovf-answers").wait_for()
    assert views.nth(0).get_by_role("radio", name="32 bits").is_checked()
    assert views.nth(1).get_by_role("radio", name="64 bits").is_checked()


def test_by_keyboard_alone(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    keyboard = notebook.page.keyboard
    view.get_by_label("n", exact=True).focus()
    keyboard.press("Control+a")
    keyboard.type("2^20")
    keyboard.press("Tab")
    keyboard.press("Control+a")
    keyboard.type("4096")
    keyboard.press("Enter")
    view.get_by_text("1,048,576 elements of 4,096 bytes").wait_for()
    assert python(notebook, "view.sizes.asked") == "0"
    view.get_by_text("ZERO_SIZE_PTR, the address 16").first.wait_for()
    view.get_by_role("radio", name="32 bits").focus()
    keyboard.press("ArrowRight")
    view.get_by_text("size_t of 64 bits").wait_for()
    view.get_by_label("n", exact=True).fill("a lot")
    keyboard.press("Enter")
    view.get_by_text("'a lot' is not a number").wait_for()
    # JupyterLab's cell stayed where it is.
    assert (
        notebook.page.evaluate("() => jupyterapp.shell.currentWidget.content.activeCellIndex") == 0
    )
    assert notebook.errors == []


def test_predict_then_look(open_notebook):
    notebook = open_notebook([PREDICT])
    view = opened(notebook)
    python(notebook, SIZES)
    view.get_by_text("268,435,457 elements of 16 bytes").wait_for()
    assert view.locator(".km-ovf-answers").count() == 0
    plain, safe = view.locator(".km-ask fieldset").all()
    plain.get_by_label("a block with room for all elements").check()
    safe.get_by_label("NULL, and the log stays empty").check()
    view.get_by_role("button", name="Commit").click()
    verdicts = view.locator(".km-ask .km-verdict")
    verdicts.nth(1).wait_for()
    assert "“A product is as large as it has to be.”" in verdicts.first.inner_text()
    assert verdicts.nth(1).inner_text() == "✓ Right: NULL, and the log stays empty."
    assert view.locator(".km-ovf-answers tbody tr").count() == 6
    view.get_by_role("button", name="Next case").press("Enter")
    view.locator(".km-ovf-answers").wait_for(state="detached")
    view.get_by_label("free play").check()
    view.locator(".km-ovf-answers").wait_for()
    assert python(notebook, "view.quiz.counts") == "{'right': 1, 'wrong': 1, 'unknown': 0}"
    assert notebook.errors == []


def test_axe_has_nothing_to_say_and_it_looks_right(open_notebook):
    notebook = open_notebook([PREDICT])
    view = opened(notebook)
    for theme in ("light", "dark"):
        notebook.theme(dark=theme == "dark")
        python(notebook, SIZES)
        view.get_by_role("button", name="Commit").wait_for()
        assert notebook.axe() == ""
        notebook.screenshot(f"overflow-ask-{theme}", view)
        python(notebook, "view.act('commit', answers={'plain': 'all', 'safe': 'silent'})")
        view.locator(".km-ovf-answers").wait_for()
        assert notebook.axe() == ""
        notebook.screenshot(f"overflow-{theme}", view, docs=True)
        python(notebook, "view.act('preset', name='struct'), view.act('unknown')")
        view.locator(".km-ovf-cell.km-ovf-head").first.wait_for()
        notebook.screenshot(f"overflow-struct-{theme}", view)
    focusable = view.locator(":is(button, input, select, summary, textarea, a, [tabindex])")
    bare = focusable.filter(visible=True).and_(view.locator(":not([data-lm-suppress-shortcuts])"))
    assert focusable.count() > 7
    assert bare.count() == 0
    notebook.page.set_viewport_size({"width": 620, "height": 900})
    notebook.screenshot("overflow-narrow", view)
    assert notebook.errors == []
