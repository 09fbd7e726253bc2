"""ZonelistWalker in JupyterLab: predict, walk by mouse and by keys, both themes, axe."""

import pytest

from tests.ui.asking import python, says

SETUP = """
from kmemkit import *
from kmemkit.views import ZonelistWalker
kernel = Kernel(ram="256M", nodes=2)
FILL = "GFP_HIGHUSER_MOVABLE & ~__GFP_RECLAIM | __GFP_NOWARN | __GFP_THISNODE"
while kernel.alloc_pages(FILL, 0, nid=1) is not None:
    pass
walker = ZonelistWalker(kernel, gfp="GFP_ATOMIC", nid=1{more})
walker
"""
LINES = "\"\\n\".join(walker.state['lines'])"


@pytest.fixture
def walked(open_notebook):
    notebook = open_notebook([SETUP.format(more="")])
    view = notebook.view()
    yield notebook, view
    assert notebook.errors == []


def test_the_rows_are_the_zonelist_and_tell_what_became_of_each(walked):
    notebook, view = walked
    rows = view.get_by_role("listitem").filter(has=view.page.locator(".km-zl-gauge"))
    listed = python(notebook, "[f'{e.zone.name}' for e in walker.plan.entries]")
    assert str(rows.locator(".km-zl-name b").all_inner_texts()) == listed
    badges = [text.strip()[2:] for text in rows.locator(".km-zl-badge").all_inner_texts()]
    assert str(badges) == python(notebook, "[row['badge'] for row in walker.state['rows']]")
    assert rows.nth(0).get_by_role("img").count() == 2
    for number in range(3):
        gauge = rows.nth(number).locator(".km-zl-gauge")
        expected = python(notebook, f"walker.state['rows'][{number}]['gauge']")
        assert gauge.get_attribute("aria-label") == expected


def test_gauges_are_drawn_where_python_puts_them(walked):
    notebook, view = walked
    # Both widths at once: the rows are made anew when the window's size or theme changes
    share = view.evaluate("""view => {
        const gauge = view.querySelector(".km-zl-gauge");
        const [frame, level] = [gauge, gauge.querySelector(".km-zl-level")].map(
            (one) => one.getBoundingClientRect().width,
        );
        return (100 * level) / frame;
    }""")
    assert share == pytest.approx(float(python(notebook, "walker.state['rows'][0]['at']")), abs=1)


def test_step_by_mouse_and_read_a_zone(walked):
    notebook, view = walked
    view.get_by_role("button", name="◀ back").click()
    last = int(python(notebook, "len(walker.plan.moves)"))
    view.locator(".km-where").get_by_text(f"decision {last - 1} of {last}").wait_for()
    view.locator(".km-why li").nth(last - 2).wait_for()
    told = "\n".join(view.locator(".km-why li").all_inner_texts())
    assert told == python(notebook, LINES)
    view.locator(".km-zl-row").nth(2).hover()
    line = view.locator(".km-line")
    says(notebook, line, "walker.state['rows'][2]['detail']")
    view.get_by_role("combobox", name="Request").select_option("GFP_DMA|GFP_KERNEL")
    view.get_by_text("from node 1: zones up to DMA", exact=False).first.wait_for()
    assert python(notebook, "walker.request.highest_name") == "DMA"


def test_predict_and_walk_by_keyboard_alone(open_notebook):
    notebook = open_notebook([SETUP.format(more=", predict=True")])
    view, keyboard = notebook.view(), notebook.page.keyboard
    assert view.get_by_role("slider", name="Decision").is_hidden()
    assert view.locator(".km-zl-badge").all_inner_texts() == ["· not tried"] * 3
    view.get_by_role("button", name="node 1 DMA32").focus()
    keyboard.press("ArrowRight")
    assert python(notebook, "walker.step") == "0"
    view.get_by_role("group", name="Zonelist walk").get_by_role(
        "button", name="none of them"
    ).focus()
    keyboard.press("Enter")
    view.get_by_role("status").get_by_text("You said: none of them.").wait_for()
    assert notebook.page.evaluate("() => document.activeElement.textContent") == "step ▶"
    keyboard.press("ArrowRight")
    view.locator(".km-where").get_by_text("decision 1 of").wait_for()
    keyboard.press("End")
    verdict = view.locator(".km-verdict")
    verdict.wait_for()
    says(notebook, verdict.locator(".km-outcome"), "'✗ ' + walker.verdict.sentence")
    says(notebook, view.locator(".km-score"), "walker.state['score']")
    # Up and down move over the zones, and JupyterLab's cell stays selected.
    view.locator(".km-zl-name").first.focus()
    keyboard.press("ArrowDown")
    says(notebook, view.locator(".km-line"), "walker.state['rows'][1]['detail']")
    active = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"
    assert notebook.page.evaluate(active) == 0
    view.get_by_role("button", name="Ask again").click()
    view.locator(".km-question").get_by_text("Before it walks:").wait_for()
    assert notebook.errors == []


def test_axe_has_nothing_to_say_and_the_walk_looks_right(open_notebook):
    cells = [SETUP.format(more=""), SETUP.format(more=", predict=True")]
    notebook = open_notebook(cells, height=1900)
    view, asking = notebook.view(0), notebook.view(1)
    asking.get_by_role("button", name="none of them").wait_for()
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
    asking.get_by_role("button", name="I do not know").click()
    asking.get_by_role("button", name="to the end").click()
    asking.locator(".km-verdict").wait_for()
    view.locator("summary").first.click()
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        notebook.screenshot(f"zonelist-walker-{theme}")
    focusable = view.locator(":is(button, input, select, summary, a, [tabindex])")
    bare = focusable.filter(visible=True).and_(view.locator(":not([data-lm-suppress-shortcuts])"))
    assert focusable.count() > 8
    assert bare.count() == 0
    assert notebook.errors == []


def test_a_narrow_cell_keeps_every_label_in_its_row(open_notebook):
    notebook = open_notebook([SETUP.format(more="")], width=720)
    view = notebook.view()
    (left, right), *labels = view.evaluate("""view => {
        const row = view.querySelector(".km-zl-row");
        const labels = row.querySelectorAll(".km-zl-tick span, .km-zl-amount, .km-zl-state");
        return [row, ...labels].map((one) => {
            const { left, right } = one.getBoundingClientRect();
            return [left, right];
        });
    }""")
    assert len(labels) > 3
    assert all(left - 1 <= start and end <= right + 1 for start, end in labels)
    notebook.screenshot("zonelist-walker-narrow", view)
    assert notebook.errors == []
