"""The lessons as a learner meets them: opened in JupyterLab, run, played by mouse and by keys."""

from kmemkit import Kernel
from kmemkit.lessons import map_reading
from kmemkit.views.lab_model import workload
from tests.ui.conftest import ROOT

LESSONS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
ERRORS = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']"
STDERR = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']"
KIT = "notebooks/en/00-how-to-read-this-kit.ipynb"
BUDDY = "notebooks/en/05-buddy.ipynb"
SLAB = "notebooks/en/08-slab.ipynb"


def cell(notebook, code):
    """Return the locator of the code cell that holds `code`."""
    return notebook.page.locator(".jp-CodeCell", has_text=code).first


def answer(notebook, code, source):
    """Type a cell's source anew and run it, as a learner does; return the locator of its output."""
    found = cell(notebook, code)
    editor = found.locator(".cm-content")
    editor.click()
    notebook.page.keyboard.press("Control+a")
    notebook.page.keyboard.insert_text(source)
    notebook.page.keyboard.press("Control+Enter")
    return cell(notebook, code).locator(".jp-OutputArea-output")


def test_a_map_is_read_then_pointed_at(open_notebook):
    """Lesson 00: a typed answer is judged, and the line under the map says the same."""
    notebook = open_notebook(KIT)
    kernel, asked = map_reading._choose(1)
    free = kernel.snapshot().page(asked.free)
    source = (
        f'answers = [None, "{free.head:#x}", "I do not know"]\nmap_reading.check(answers, seed)'
    )
    output = answer(notebook, "map_reading.check", source)
    output.filter(has_text="1 of 3 right, 0 wrong, 1 not known, 1 not answered yet").wait_for()
    view = notebook.view(1)
    where = view.evaluate("(view, pfn) => view.kmemkit.place(pfn)", asked.free)
    box = view.locator("canvas").first.bounding_box()
    x, y = box["x"] + where[0] + where[2] / 2, box["y"] + where[1] + where[3] / 2
    notebook.page.mouse.click(x, y)
    view.get_by_text(f"block at {free.head:#x}").first.wait_for()


def test_a_wrong_choice_names_its_misconception(open_notebook):
    """Lesson 05: M1 is named, and the experiment that shows it."""
    notebook = open_notebook(BUDDY)
    problem = cell(notebook, "questions.half_free.problem").locator(".jp-OutputArea-output")
    options = problem.inner_text().splitlines()
    letter = next(line.strip()[0] for line in options if "half of the memory is free" in line)
    source = f'answer = "{letter}"\nquestions.half_free.check(answer, seed)'
    output = answer(notebook, "questions.half_free.check", source)
    output.filter(has_text="M1, “Free memory exists").wait_for()
    output.filter(has_text="worlds.every_second_page()").wait_for()


def played(seed, calls):
    """Return what `calls` requests of order 0 give in the lab's world."""
    kernel = Kernel(ram="1M")
    workload(kernel, seed)
    return [kernel.alloc_pages("GFP_KERNEL", 0) for _ in range(calls)]


def test_a_prediction_by_mouse_and_one_by_keyboard(open_notebook):
    """Lesson 05: BuddyLab asks before it shows, takes a click or the Enter key, and counts."""
    notebook = open_notebook(BUDDY)
    page, lab = notebook.page, notebook.page.locator(".km-lab")
    first, second = played(7, 2)
    lab.scroll_into_view_if_needed()
    lab.get_by_role("button", name="Allocate").click()
    lab.get_by_text("Which page frame comes back?").wait_for()
    lab.get_by_role("textbox", name="pfn in hex").fill(f"{first:#x}")
    lab.get_by_role("button", name="Commit").click()
    lab.get_by_text(f"Right: pfn {first:#x}.").wait_for()
    notebook.screenshot("lesson-05-prediction-right", lab)

    lab.get_by_role("button", name="Allocate").focus()
    page.keyboard.press("Enter")
    lab.get_by_text("Which page frame comes back?").wait_for()
    page.keyboard.type("0x1")
    page.keyboard.press("Enter")
    lab.get_by_text(f"You said pfn 0x1. The kernel gives pfn {second:#x}.").wait_for()
    lab.get_by_text("predictions: 1 right, 1 wrong, 0 not known").wait_for()
    notebook.screenshot("lesson-05-prediction-wrong", lab)
    assert notebook.errors == []


def test_the_stepper_drives_the_map(open_notebook):
    """Lesson 05: with the slider at the fourth step, four pages are in use on the map above it."""
    notebook = open_notebook(BUDDY)
    output = cell(notebook, "display(past, stepper)").locator(".jp-OutputArea")
    page_map = output.locator(".kmemkit").first.element_handle()
    stepper = output.locator(".km-stepper")
    stepper.get_by_text("start of 8").wait_for()
    shows = "([view, start]) => view.kmemkit.cells().startsWith(start)"
    notebook.page.wait_for_function(shows, arg=[page_map, "4..."])
    stepper.get_by_label("whole steps").check()
    for step in range(1, 5):
        stepper.get_by_role("button", name="step").press("Enter")
        stepper.get_by_text(f"step {step} of 8").wait_for()
    notebook.page.wait_for_function(shows, arg=[page_map, "MMMM2..."])
    assert notebook.errors == []


def test_the_run_is_shown_after_the_predictions(open_notebook):
    """Lesson 08: no map of the run before every prediction is made; then one with its steps."""
    notebook = open_notebook(SLAB)
    reveal = "slab_next.reveal(answers, seed)"
    shown = cell(notebook, reveal).locator(".jp-OutputArea")
    shown.get_by_text("The map is shown when every answer is there").wait_for()
    source = 'answers = ["0x403 4", "?", "?", "?", "new"]\n\nslab_next.check(answers, seed)'
    output = answer(notebook, "slab_next.check", source)
    output.filter(has_text="When its slab is used up, the CPU makes a new one.").wait_for()
    answer(notebook, reveal, reveal)
    shown.get_by_text("step 0 of 10: start").wait_for()
    shown.get_by_text("23 of 32 objects in use").first.wait_for()
    notebook.screenshot("lesson-08-revealed", shown)
    assert notebook.errors == []
