"""ContextStack in JupyterLab: pushing and popping, the verdict, the questions, mouse and keys."""

from tests.ui.asking import python

SETUP = """
from kmemkit import Kernel
from kmemkit.views import ContextStack
kernel = Kernel(ram="256K")
"""
VIEW = SETUP + "view = ContextStack(kernel)\nview"
PREDICT = SETUP + 'view = ContextStack(kernel, ["spinlock"], "GFP_NOFS", predict=True)\nview'
SLEEPING = "BUG: sleeping function called from invalid context at include/linux/sched/mm.h:321"


def opened(notebook):
    view = notebook.page.locator(".km-ctx")
    view.locator(".km-ctx-frame").first.wait_for()
    return view


def frames(view):
    """The frames on the page, innermost first."""
    return view.locator(".km-ctx-frame code").all_inner_texts()


def test_push_and_pop_by_mouse(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    assert frames(view) == ["process context: init [1] in a system call"]
    view.get_by_text("Legal: it may sleep, and here the caller may sleep.").wait_for()
    view.get_by_role("button", name="spin_lock()").click()
    view.get_by_text("Illegal: it may sleep").wait_for()
    assert frames(view)[0] == "spin_lock(&lock)"
    assert python(notebook, "view.stage.frames") == "('spinlock',)"
    logs = view.locator(".km-ctx-kernel pre").all_inner_texts()
    assert logs[0] == "(nothing in the kernel log)"
    assert logs[1].splitlines()[0] == SLEEPING
    fixes = view.locator(".km-ctx-fixes li")
    assert fixes.count() == 7
    assert view.locator(".km-ctx-works").count() == 4
    view.get_by_label("Request").select_option("GFP_ATOMIC")
    view.get_by_text("Legal: without __GFP_DIRECT_RECLAIM").wait_for()
    assert fixes.count() == 0
    view.get_by_role("button", name="Pop spin_lock(&lock)").click()
    view.locator(".km-ctx-section.km-ctx-frame").wait_for(state="detached")
    assert python(notebook, "view.stage.frames") == "()"
    assert notebook.errors == []


def test_the_page_says_what_the_text_twin_says(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    for frame in ("nofs", "spinlock"):
        python(notebook, f"view.push({frame!r})")
    view.get_by_text("Illegal: it may sleep").wait_for()
    twin = python(notebook, "view.text()")
    for part in (".km-verdict", ".km-ctx-kernel p code", ".km-ctx-mask dd:last-child .km-quiet"):
        for said in view.locator(part).all_inner_texts():
            assert said.strip().removeprefix("✗ ") in twin, said
    assert view.locator(".km-ctx-mask del").all_inner_texts() == ["__GFP_FS"]
    view.get_by_text("Why, decision by decision").click()
    reasons = view.locator(".km-why li").all_inner_texts()
    assert reasons == eval(python(notebook, "view.runs.plain.why.lines()"))
    assert reasons


def test_by_keyboard_alone(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    keyboard = notebook.page.keyboard
    spin = view.get_by_role("button", name="spin_lock()")
    spin.focus()
    keyboard.press("ArrowRight")
    keyboard.press("ArrowRight")
    assert "Other CPUs wait" in view.locator(".km-line").inner_text()
    keyboard.press("Enter")
    view.locator(".km-ctx-frame.km-ctx-section").wait_for()
    assert frames(view)[0] == "rcu_read_lock()"
    keyboard.press("Home")
    keyboard.press("Space")
    view.locator(".km-ctx-frame.km-ctx-section").nth(1).wait_for()
    keyboard.press("Backspace")
    keyboard.press("Backspace")
    view.locator(".km-ctx-frame.km-ctx-section").first.wait_for(state="detached")
    assert python(notebook, "view.stage.frames") == "()"
    keyboard.press("Backspace")
    view.get_by_text("Only the task is left").wait_for()
    # The buttons are one tab stop, and JupyterLab's cell stayed where it is.
    assert view.locator(".km-ctx-pushes button[tabindex='0']").count() == 1
    assert (
        notebook.page.evaluate("() => jupyterapp.shell.currentWidget.content.activeCellIndex") == 0
    )
    assert notebook.page.evaluate("() => jupyterapp.shell.currentWidget.content.widgets.length") > 0
    assert notebook.errors == []


def test_a_frame_that_cannot_come_is_refused_in_words(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    view.get_by_role("button", name="local_irq_save()").click()
    view.get_by_text("Illegal: it may sleep").wait_for()
    view.get_by_role("button", name="hard interrupt").click()
    view.get_by_text("hard interrupt cannot be entered here").wait_for()
    assert frames(view)[0] == "local_irq_save(flags)"


def test_predict_then_look(open_notebook):
    notebook = open_notebook([PREDICT])
    view = opened(notebook)
    assert view.locator(".km-ctx-kernel").count() == 0
    view.get_by_role("group", name="What does a kernel with debug options").get_by_label(
        "nothing, the log stays empty"
    ).check()
    view.get_by_role("group", name="And the plain Debian kernel").get_by_label(
        "nothing, the log stays empty"
    ).check()
    view.get_by_role("button", name="Commit").click()
    verdicts = view.locator(".km-ask .km-verdict")
    verdicts.nth(1).wait_for()
    assert "M4, “GFP_NOIO and GFP_NOFS mean that it cannot sleep.”" in verdicts.first.inner_text()
    assert verdicts.nth(1).inner_text() == "✓ Right: nothing, the log stays empty."
    assert view.locator(".km-ctx-kernel").count() == 2
    view.get_by_role("button", name="Next case").click()
    view.locator(".km-ctx-kernel").first.wait_for(state="detached")
    view.get_by_label("free play").check()
    view.locator(".km-ctx-kernel").first.wait_for()
    assert python(notebook, "view.quiz.counts") == "{'right': 1, 'wrong': 1, 'unknown': 0}"
    assert notebook.errors == []


def test_axe_has_nothing_to_say_and_it_looks_right(open_notebook):
    notebook = open_notebook([PREDICT])
    view = opened(notebook)
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        notebook.screenshot(f"context-stack-ask-{theme}", view)
    python(notebook, "view.act('commit', answers={'debug': 'silent', 'plain': 'silent'})")
    view.locator(".km-ctx-kernel").first.wait_for()
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
    python(notebook, "(view.act('free_play', on=True), view.act('pop'), view.act('push', "
           "frame='nofs'), view.push('spinlock'), view.act('gfp', value='GFP_KERNEL'))")  # fmt: skip
    view.get_by_text("Illegal: it may sleep").wait_for()
    for theme in notebook.themes():
        assert notebook.axe() == "", theme
        notebook.screenshot(f"context-stack-{theme}", view, docs=True)
    focusable = view.locator(":is(button, input, select, summary, textarea, a, [tabindex])")
    bare = focusable.filter(visible=True).and_(view.locator(":not([data-lm-suppress-shortcuts])"))
    assert focusable.count() > 15
    assert bare.count() == 0
    assert notebook.errors == []
