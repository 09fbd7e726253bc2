"""PairingTable in JupyterLab: it fills by itself, mouse and keys choose cells, the questions."""

import os
import re

from tests.ui.asking import python

SETUP = "from kmemkit import PairingTable, play_pair\n"
SMALL = (
    "rows=['kmalloc64', 'vmalloc3p', 'pages3'], "
    "columns=['kfree', 'vfree', 'free_pages_same', 'free_pages_smaller']"
)
VIEW = f"{SETUP}view = PairingTable(play_pair, {SMALL}, kernels=['plain', 'noinit'])\nview"
PREDICT = (
    f"{SETUP}view = PairingTable(play_pair, {SMALL}, kernels=['plain'], predict=True, "
    "selected=('pages3', 'free_pages_smaller'))\nview"
)
# Just too many cells to be run before the table comes up; a picture for docs/img has more of them.
ROWS = ["kmalloc64", "kmalloc3p", "cache", "vmalloc3p", "pages3"]
if os.environ.get("KMEMKIT_DOCS_IMG"):
    ROWS += ["kmalloc1m", "NULL"]
WIDE = f"{SETUP}view = PairingTable(play_pair, rows={ROWS}, selected=('pages3', 'kfree'))\nview"
FULL = re.compile(r"all \d\d cells have been run")


def opened(notebook):
    view = notebook.page.locator(".km-pair").first
    view.locator("td").first.wait_for()
    return view


def codes(view):
    return [row.locator("td").all_inner_texts() for row in view.locator("tbody tr").all()]


def at(view, name):
    return view.get_by_role("gridcell", name=name)


def test_the_table_fills_while_it_is_looked_at(open_notebook):
    notebook = open_notebook([WIDE])
    view = opened(notebook)
    view.get_by_text(FULL).wait_for()
    assert view.locator("progress").is_hidden()
    shown = codes(view)
    assert shown[0][:3] == ["ok", "ok", "W-"]
    assert shown[0][7] == "·"
    assert python(notebook, "view.grid['codes']") == str(shown)
    kernels = view.get_by_role("group", name="Kernel").get_by_role("button")
    assert [name.split()[-1] for name in kernels.all_inner_texts()] == ["W~"] * 5
    assert notebook.errors == []


def test_choose_cells_and_kernels_by_mouse(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    at(view, "kmalloc(64), vfree").click()
    view.get_by_text("The kernel writes a report and goes on.").wait_for()
    log = view.get_by_role("group", name="The kernel's log")
    assert "Trying to vfree() bad address" in log.inner_text()
    assert log.inner_text().strip() == python(notebook, "'\\n'.join(view.cell.report)").strip()
    assert "vfree() was given an address" in view.locator(".km-pair-why").inner_text()
    at(view, "kmalloc(64), free_pages order:").click()
    view.get_by_role("button", name="init_on_alloc=0").click()
    view.get_by_text("page 0x3801: free, and still cut into objects").wait_for()
    assert view.locator(".km-pair-outcome .km-pair-code").inner_text() == "S!?"
    assert python(notebook, "view.kernel, view.selected") == (
        "noinit ('kmalloc64', 'free_pages_same')"
    )
    at(view, "free_pages order-1: no such pair").click()
    assert python(notebook, "view.selected") == "('kmalloc64', 'free_pages_same')"
    assert notebook.errors == []


def test_keys_alone(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    keyboard = notebook.page.keyboard
    assert view.locator("td[tabindex='0']").count() == 1
    view.locator("td[tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowDown", "End", "Enter"):
        keyboard.press(key)
    view.get_by_text("Back: 4 pages = 16 kB, of 8 pages.").wait_for()
    focused = view.locator("td:focus")
    assert focused.get_attribute("aria-selected") == "true"
    assert focused.get_attribute("aria-label").startswith(
        "__get_free_pages(3), free_pages order-1:"
    )
    keyboard.press("Control+Home")
    keyboard.press("ArrowRight")
    keyboard.press("ArrowUp")
    assert focused.get_attribute("aria-label") == (
        "kmalloc(64), vfree: a report, and the system goes on, nothing is back"
    )
    assert focused.get_attribute("aria-selected") == "false"
    keyboard.press(" ")
    view.get_by_text("The kernel writes a report and goes on.").wait_for()
    assert view.locator("td:focus").evaluate("td => getComputedStyle(td).outlineStyle") == "solid"
    assert (
        notebook.page.evaluate("() => jupyterapp.shell.currentWidget.content.activeCellIndex") == 0
    )
    assert notebook.errors == []


def test_the_page_says_what_the_text_says(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    at(view, "__get_free_pages(3), free_pages order-1:").click()
    view.locator(".km-pair-page").first.wait_for()
    twin = python(notebook, "view.text()")
    view.get_by_text("all 11 cells have been run").wait_for()
    for row in view.locator("tbody tr").all():
        cells = row.locator("th, td").all_inner_texts()
        assert any(line.split() == cells for line in twin.splitlines()), cells
    for part in (".km-pair-outcome p", ".km-pair-outcome li", ".km-pair-frame > span"):
        for said in view.locator(part).all_inner_texts():
            assert said.split("\n")[-1] in twin, said
    for strip in view.locator(".km-pair-strip").all():
        cells = "".join(strip.locator(".km-pair-page").all_inner_texts())
        own = "".join(strip.locator(".km-pair-own").all_inner_texts())
        assert cells.replace(own, f"[{own}]", 1) in twin
        assert strip.get_attribute("aria-label").split(" its pages")[0] in twin.replace(
            "\n", " "
        ) or (cells.replace(own, f"[{own}]", 1) in strip.get_attribute("aria-label"))
    assert notebook.errors == []


def test_predict_then_look(open_notebook):
    notebook = open_notebook([PREDICT])
    view = opened(notebook)
    assert {code for row in codes(view) for code in row} == {"?", "·"}
    assert view.locator(".km-pair-page").count() == 0
    commit = view.get_by_role("button", name="Commit")
    assert commit.is_disabled()
    view.get_by_label("it says nothing, and something is wrong").check()
    assert commit.is_disabled()
    view.get_by_label("all is back").check()
    commit.click()
    view.get_by_text("“free_pages() knows how large the block is.”").wait_for()
    assert codes(view)[2] == ["?", "?", "?", "S~"]
    assert view.locator(".km-pair-page").count() == 72
    at(view, "kmalloc(64), kfree").click()
    view.get_by_role("radio", name="a part is back").wait_for()
    view.get_by_role("button", name="I do not know").click()
    view.get_by_text("0 right, 1 wrong, 1 not known").wait_for()
    view.get_by_label("free play (no questions)").check()
    view.get_by_text("all 11 cells have been run").wait_for()
    assert "?" not in {code for row in codes(view) for code in row}
    assert notebook.errors == []


def test_axe_has_nothing_to_say_and_it_looks_right(open_notebook):
    notebook = open_notebook([PREDICT, WIDE], height=2200)
    asking, wide = notebook.page.locator(".km-pair").all()
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        notebook.screenshot(f"pairing-table-ask-{theme}", asking)
    wide.get_by_text(FULL).wait_for()
    asking.get_by_label("it writes a report and goes on").check()
    asking.get_by_label("a part is back").check()
    asking.get_by_role("button", name="Commit").click()
    asking.locator(".km-verdict").wait_for()
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        notebook.screenshot(f"pairing-table-{theme}", wide, docs=True)
        notebook.screenshot(f"pairing-table-told-{theme}", asking)
    at(wide, "kmalloc(64), free_pages order:").click()
    wide.get_by_role("button", name="init_on_alloc=0").click()
    wide.get_by_text("still cut into objects").first.wait_for()
    notebook.page.set_viewport_size({"width": 900, "height": 2200})
    for theme in notebook.themes():
        notebook.screenshot(f"pairing-table-narrow-{theme}", wide)
    notebook.page.set_viewport_size({"width": 1280, "height": 2200})
    focusable = wide.locator(":is(button, input, select, summary, textarea, a, [tabindex])")
    bare = focusable.filter(visible=True).and_(wide.locator(":not([data-lm-suppress-shortcuts])"))
    assert focusable.count() > 55
    assert bare.count() == 0
    assert notebook.errors == []


def test_a_table_that_is_taken_away_is_filled_no_more(open_notebook):
    notebook = open_notebook([VIEW.replace(f"{SMALL}, ", "")])
    view = opened(notebook)
    assert python(notebook, "view._watchers") == "1"
    notebook.page.evaluate("() => jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    view.wait_for(state="detached")
    assert python(notebook, "view._watchers") == "0"
    done = python(notebook, "len(view._cells)")
    assert python(notebook, "__import__('time').sleep(0.1), len(view._cells)") == f"None {done}"
    assert int(done) < 150
    assert notebook.errors == []


def test_a_kernel_that_is_gone_takes_nothing_with_it(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    notebook.page.evaluate(
        """async () => {
            await jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart();
            await jupyterapp.commands.execute('notebook:clear-all-cell-outputs');
        }"""
    )
    view.wait_for(state="detached")
    assert notebook.errors == []
