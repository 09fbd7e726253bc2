"""LeakGym in JupyterLab: changing the error path, the runs, the steps, the questions, the keys."""

from tests.ui.asking import python

SETUP = """
from kmemkit import Kernel, LeakGym
kernel = Kernel(ram="16M")
"""
VIEW = SETUP + "view = LeakGym(kernel, seed=2, n=5)\nview"
PREDICT = SETUP + "view = LeakGym(kernel, seed=2, n=5, predict=True)\nview"
DEAD = SETUP + "view = LeakGym(kernel, seed=5, n=6)\nview"


def opened(notebook, number=0):
    view = notebook.page.locator(".km-leak").nth(number)
    view.locator(".km-leak-code-line").first.wait_for()
    return view


def results(view):
    return view.locator(".km-leak-table tbody td:last-child").all_inner_texts()


def test_repair_by_mouse_until_every_n_is_leak_free(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    assert results(view)[4:] == ["✗ no: 2,048 bytes leak", "✗ no: 12,288 bytes leak", "✓ yes"]
    assert view.locator(".km-leak-is-leaked").count() == 1
    view.get_by_label("When dev->dma is NULL").select_option("goto err_ring;")
    view.get_by_label("The release behind err_dma").select_option("free_pages(dev->dma, 2);")
    view.get_by_text("leak-free: 7 of 7").wait_for()
    assert view.locator(".km-leak-is-leaked").count() == 0
    view.get_by_role("button", name="Move err_dev up").click()
    view.get_by_text("leak-free: 2 of 7").wait_for()
    assert "Line 31 reads dev->fw out of memory that was freed" in view.inner_text()
    view.get_by_role("button", name="Mistakes back").click()
    view.get_by_text("leak-free: 5 of 7").wait_for()
    assert python(notebook, "view.plan == view.driver.broken(2)") == "True"
    assert notebook.errors == []


def test_steps_and_table_by_keyboard_alone(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    keyboard = notebook.page.keyboard
    view.get_by_label("Steps of this run").focus()
    keyboard.press("Home")
    view.get_by_text("step 0 of 11, line 5").wait_for()
    assert view.locator(".km-leak-now .km-leak-number").inner_text() == "5"
    assert python(notebook, "view.step") == "0"
    view.get_by_role("group", name="Who holds what").focus()
    for _ in range(8):
        keyboard.press("ArrowRight")
    view.get_by_text("step 8 of 11, line 16: jump to err_fw").wait_for()
    assert view.locator(".km-leak-is-held").count() == 3
    view.get_by_role("button", name="N = 5").focus()
    keyboard.press("ArrowDown")
    view.get_by_text("step 15 of 15").wait_for()
    assert python(notebook, "view.n") == "6"
    twin = python(notebook, "view.text()")
    for part in (".km-line", ".km-verdict .km-outcome", ".km-leak-table tbody td:last-child"):
        for said in view.locator(part).all_inner_texts():
            assert said.strip().lstrip("✓✗ ") in twin, said
    for line in view.get_by_role("img").get_attribute("aria-label").splitlines():
        assert line in twin
    assert view.locator(".km-leak-table button[tabindex='0']").count() == 1
    assert (
        notebook.page.evaluate("() => jupyterapp.shell.currentWidget.content.activeCellIndex") == 0
    )
    assert notebook.errors == []


def test_predict_then_look(open_notebook):
    notebook = open_notebook([PREDICT])
    view = opened(notebook)
    assert set(results(view)) == {"?"}
    assert view.locator(".km-leak-picture").count() == 0
    view.get_by_role("button", name="Commit").click()
    view.get_by_text("What a failed probe() acquired, the kernel takes back.").wait_for()
    assert view.locator(".km-leak-is-leaked").count() == 1
    assert results(view)[4:6] == ["✗ no: 2,048 bytes leak", "?"]
    view.get_by_role("button", name="Next N").click()
    view.get_by_label("dev->dma", exact=True).check()
    view.get_by_label("something is freed that must not be").check()
    view.get_by_role("button", name="Commit").click()
    view.get_by_text("Right: dev->dma (12,288 bytes) leaks").wait_for()
    assert python(notebook, "view.quiz.counts") == "{'right': 1, 'wrong': 1, 'unknown': 0}"
    assert notebook.errors == []


def test_axe_has_nothing_to_say_and_it_looks_right(open_notebook):
    notebook = open_notebook([PREDICT, DEAD], height=2200)
    asking, dead = opened(notebook), opened(notebook, 1)
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        notebook.screenshot(f"leak-gym-ask-{theme}", asking)
        notebook.screenshot(f"leak-gym-dead-{theme}", dead)
    python(notebook, "view.act('n', value=5)")
    python(notebook, "view.act('step', value=view.step - 2)")
    for theme in notebook.themes():
        notebook.screenshot(f"leak-gym-step-{theme}", dead)
    asking.get_by_role("button", name="Commit").click()
    asking.locator(".km-leak-picture").wait_for()
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        notebook.screenshot(f"leak-gym-{theme}", asking, docs=True)
    notebook.page.set_viewport_size({"width": 700, "height": 2200})
    for theme in notebook.themes():
        notebook.screenshot(f"leak-gym-narrow-{theme}", dead)
    notebook.page.set_viewport_size({"width": 1280, "height": 2200})
    focusable = asking.locator(":is(button, input, select, summary, textarea, a, [tabindex])")
    bare = focusable.filter(visible=True).and_(asking.locator(":not([data-lm-suppress-shortcuts])"))
    assert focusable.count() > 25
    assert bare.count() == 0
    assert notebook.errors == []
