"""ReclaimLadder in JupyterLab: the walk against the text twin, mouse, keyboard, table, axe."""

import re

import pytest

from tests.ui.asking import becomes, python

#: A machine with the page cache full, and with less free than the min mark asks for.
TIGHT = """
from kmemkit import Kernel
from kmemkit.views import ReclaimLadder
kernel = Kernel(ram="256M")
kernel.fork("hog", anon="24M", oom_score_adj=500)
kernel.read_file("200M")
while kernel.snapshot().zones[1].free > 300:
    for _ in range(50):
        kernel.alloc_pages("GFP_ATOMIC & ~__GFP_KSWAPD_RECLAIM", owner="driver")
"""
#: A machine in which only the death of a task gives pages back.
SPENT = """
from kmemkit import Kernel
from kmemkit.views import ReclaimLadder
kernel = Kernel(ram="64M")
kernel.fork("hog", anon="4M", oom_score_adj=500)
failed = 0
while failed < 20:
    pfn = kernel.alloc_pages("GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN", owner="driver")
    failed = failed + 1 if pfn is None else 0
"""
ONE = "view = ReclaimLadder(kernel, 'GFP_KERNEL')\nview"
TWO = "view = ReclaimLadder(kernel, 'GFP_ATOMIC', against='GFP_KERNEL', predict=False)\nview"
TABLE = "view = ReclaimLadder(kernel, 'GFP_KERNEL', table=True)\nview"
ROUNDS = "view = ReclaimLadder(kernel, 'GFP_KERNEL', predict=False)\nview"


@pytest.fixture
def opened(open_notebook):
    """Give a function: (cells) -> (notebook, its ladder); JavaScript must not have failed."""
    notebooks = []

    def open_(*cells, **options):
        notebook = open_notebook(list(cells), **options)
        notebooks.append(notebook)
        view = notebook.page.locator(".km-rl").first
        view.wait_for()
        return notebook, view

    yield open_
    for notebook in notebooks:
        assert notebook.errors == []


def told(view):
    """Wait until the walk is told to the end."""
    view.locator(".km-rl-result td").filter(has_text=re.compile("page|NULL|kill")).first.wait_for()


def here(view):
    """Return the name of the rung where the request is."""
    return view.locator("tr[aria-current] .km-rl-rung").inner_text()


def stands(notebook, view):
    """Compare the line and the row where the request is with what Python has there."""
    stop = f"view.state['stops'][{python(notebook, 'view.at')}]"
    title, *lines = view.locator(".km-line").inner_text().split("\n")
    assert title == python(notebook, f"{stop}['title']")
    twin = python(notebook, "view.text()")
    assert lines and all(f"     {line}\n" in twin for line in lines)
    # In the row a gap stands for the colon.
    row = view.locator("tr[aria-current] td").last.inner_text()
    assert "".join(row.split()) == "".join(lines[0].replace(":", "", 1).split())


def test_predict_by_mouse_and_walk_down(opened):
    notebook, view = opened(TIGHT, ONE)
    assert view.locator(".km-rl-what").count() == 0
    assert python(notebook, "view.question") == view.locator(".km-question").inner_text()
    assert view.get_by_role("button", name="step ▶").is_hidden()

    # A click on a rung is an answer as well.
    view.locator(".km-rl-rung", has_text="free lists at the min mark").click()
    answer = view.get_by_role("combobox", name="Where the request ends")
    assert answer.input_value() == "min"
    assert view.locator(".km-rl-mark").all_inner_texts() == ["? your guess"]
    view.get_by_role("button", name="Commit").click()
    view.locator("tr[aria-current]").wait_for()
    names = [here(view)]
    assert names == ["free lists at the low mark"]
    while view.get_by_role("button", name="step ▶").get_attribute("aria-disabled") == "false":
        assert view.locator(".km-verdict").is_hidden()
        view.get_by_role("button", name="step ▶").click()
        names.append(here(view))
        stands(notebook, view)
    assert names == eval(
        python(notebook, "[dict(map(lambda r: r[:2], view.state['rungs']))[s['rung']]"
                         " for s in view.state['stops']]")
    )  # fmt: skip
    verdict = view.locator(".km-verdict")
    verdict.wait_for()
    outcome = verdict.locator(".km-outcome").inner_text()
    assert outcome == "✗ " + python(notebook, "view.verdict.sentence")
    assert view.locator(".km-rl-result td").last.inner_text() == python(
        notebook, "view.ladder.roads[0].ending"
    )
    assert python(notebook, "(view.told, view.counts['wrong'])") == f"({len(names)}, 1)"


def test_predict_and_walk_by_keyboard_alone(opened):
    notebook, view = opened(TIGHT, ONE)
    keyboard = notebook.page.keyboard
    view.get_by_role("combobox", name="Where the request ends").focus()
    keyboard.type("NULL")
    keyboard.press("Tab")
    keyboard.press("Enter")
    view.locator("tr[aria-current]").wait_for()
    focused = "() => document.activeElement.textContent"
    assert notebook.page.evaluate(focused) == "step ▶"
    keyboard.press("ArrowDown")
    assert here(view) == "wake kswapd"
    keyboard.press("ArrowRight")
    keyboard.press("ArrowUp")
    assert here(view) == "wake kswapd"
    keyboard.press("End")
    told(view)
    last = len(eval(python(notebook, "[s['rung'] for s in view.state['stops']]"))) - 1
    becomes(notebook, "view.at", str(last))
    keyboard.press("Home")
    assert here(view) == "free lists at the low mark"
    becomes(notebook, "(view.at, view.told)", f"(0, {last + 1})")
    # The focus goes down with the request, and JupyterLab's own keys stay out of it.
    view.locator("tr[aria-current] .km-rl-rung").focus()
    keyboard.press("ArrowDown")
    assert notebook.page.evaluate(focused) == "wake kswapd"
    active = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"
    assert notebook.page.evaluate(active) == 1


def test_two_roads_part_by_word_and_line(opened):
    notebook, view = opened(TIGHT, TWO)
    told(view)
    parting = view.locator(".km-rl-parting")
    assert parting.count() == 1
    assert "≠ the roads part here" in parting.inner_text()
    index = int(python(notebook, "view.ladder.parting"))
    name = python(notebook, f"view.state['stops'][{index}]['rung']")
    titles = dict(eval(python(notebook, "[r[:2] for r in view.state['rungs']]")))
    assert parting.locator(".km-rl-rung").inner_text() == titles[name]
    assert view.locator(".km-rl-parts").inner_text() == python(notebook, "view.ladder.parts")
    ends = view.locator(".km-rl-result td").all_inner_texts()[1:]
    assert ends == eval(python(notebook, "[road.ending for road in view.ladder.roads]"))
    # What both say is one cell over both columns, what they say apart stands apart.
    both = view.locator("tr", has_text="free lists at the low mark").locator("td[colspan='2']")
    assert both.count() == 1
    assert parting.locator("td:not(.km-rl-number)").count() == 2
    # A change of the request is a new walk.
    view.get_by_role("combobox", name="Compare with").select_option("nothing")
    view.locator("thead th").nth(2).wait_for(state="detached")
    assert python(notebook, "len(view.ladder.roads)") == "1"


def test_rounds_are_chosen_by_their_buttons(opened):
    notebook, view = opened(SPENT, ROUNDS)
    told(view)
    rounds = int(python(notebook, "view.ladder.rounds"))
    chips = view.locator(".km-rl-round")
    assert chips.count() == rounds > 10
    chips.nth(2).click()
    assert chips.nth(2).get_attribute("aria-pressed") == "true"
    assert view.locator(".km-line b").inner_text().endswith("round 3")
    assert python(notebook, "view.ladder.stops[view.at].round") == "3"
    assert "not in this round" in view.locator(".km-rl-loop", has_text="OOM killer").inner_text()
    chips.last.click()
    assert here(view) == "wake kswapd"
    notebook.screenshot("ladder-rounds", view)


def test_table_is_predicted_row_by_row_and_opens_roads(opened):
    notebook, view = opened(TIGHT, TABLE)
    keyboard = notebook.page.keyboard
    grid = view.get_by_role("grid")
    hidden = grid.get_by_role("button", name=re.compile("predict its end first"))
    assert hidden.count() == 8
    hidden.nth(3).click()
    view.locator(".km-question", has_text="GFP_ATOMIC").wait_for()
    view.get_by_role("button", name="I do not know").click()
    view.get_by_role("button", name="to the end").click()
    hidden.nth(7).wait_for(state="detached")
    assert hidden.count() == 7
    view.get_by_role("button", name="show every row").click()
    hidden.first.wait_for(state="detached")
    rows = grid.locator("tbody tr")
    shown = [
        [" ".join(cell.split()) for cell in row.locator("td").all_inner_texts()]
        for row in rows.all()
    ]
    state = "[[f'{c[1]} {c[2]}' for c in r['cells']] + [r['end'][1]] for r in view.state['table']['rows']]"
    assert shown == eval(python(notebook, state))

    # One tab stop, arrow keys from cell to cell, Enter opens the road at the rung.
    assert grid.locator("[tabindex='0']").count() == 1
    rows.nth(4).locator("button").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp"):
        keyboard.press(key)
    keyboard.press("Enter")
    view.locator("tr[aria-current] .km-rl-rung", has_text="free lists at the min mark").wait_for()
    assert python(notebook, "(view.request.gfp, view.ladder.stops[view.at].name)") == (
        "('GFP_KERNEL', 'min')"
    )
    assert notebook.page.evaluate("() => document.activeElement.closest('table')?.role") == "grid"
    view.get_by_role("combobox", name="Order").select_option(label="order 4 = 16 pages = 64 kB")
    hidden.nth(7).wait_for()


@pytest.mark.parametrize("width", [900, 1280])
def test_axe_has_nothing_to_say_and_the_ladder_looks_right(opened, width):
    notebook, _ = opened(TIGHT, TWO, TABLE.replace("view", "table"), width=width)
    two, table = notebook.view(0), notebook.view(1)
    told(two)
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        notebook.screenshot(f"ladder-two-{theme}-{width}", two, docs=width == 1280)
    table.get_by_role("button", name="show every row").click()
    told(table)
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        notebook.screenshot(f"ladder-table-{theme}-{width}", table, docs=width == 1280)
    for view in (two, table):
        focusable = view.locator(":is(button, input, select, summary, textarea, a, [tabindex])")
        bare = focusable.and_(view.locator(":not([data-lm-suppress-shortcuts])"))
        assert focusable.count() > 10
        assert bare.count() == 0
        box = view.locator(".km-rl-ladder").bounding_box()
        assert box["x"] + box["width"] <= width
