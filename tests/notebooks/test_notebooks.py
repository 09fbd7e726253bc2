"""What every lesson has to be: saved as run, without chance in it, in the order of a lesson.

That the saved outputs are still what the cells give is nbval's to say: it collects notebooks/.
"""

import json
import re
from pathlib import Path

import nbformat
import pytest

from scripts.run_notebooks import WIDGET_VIEW, tidy

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
#: Sections every lesson has, in this order; worked examples stand in between.
SECTIONS = (
    "Before you start: a question",
    "Predict, then look",
    "Exercises",
    "Exit ticket",
    "What you can do now",
)
#: Pythons' own addresses (a simulated kernel's begin with ffff), a machine's paths, the time of day.
CHANCE = re.compile(r" at 0x(?!ffff)[0-9a-f]{6,}|/(?:home|root|tmp)/|\d\d:\d\d:\d\d")


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request):
    return request.param


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell):
    """Yield every output of a cell as text."""
    for output in cell.outputs:
        yield output.text if output.output_type == "stream" else output.data["text/plain"]


def test_there_are_lessons():
    assert [path.stem for path in LESSONS] == [
        "00-how-to-read-this-kit", "02-gfp-flags", "03-context-and-scopes",
        "04-nodes-zones-watermarks", "05-buddy", "06-fragmentation-compaction", "07-reclaim-ladder",
        "08-slab", "09-kmalloc-family", "11-pairing-leaks",
    ]  # fmt: skip


def test_it_is_saved_as_run_and_tidied(lesson):
    text = lesson.read_text("utf-8")
    assert nbformat.writes(tidy(read(lesson))) + "\n" == text, "run scripts/run_notebooks.py"
    notebook = read(lesson)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert WIDGET_VIEW not in text
    assert "widgets" not in notebook.metadata


def test_no_output_depends_on_the_machine(lesson):
    for cell in code_cells(read(lesson)):
        for output in cell.outputs:
            assert output.output_type in ("stream", "execute_result", "display_data")
            assert output.get("name") != "stderr"
        for text in shown(cell):
            assert not CHANCE.search(text), text


def test_a_view_is_saved_as_its_text_twin(lesson):
    views = re.compile(r"^(PageMap|FreeAreas|display|lab|page_map)\b[^=]*$")
    found = [c for c in code_cells(read(lesson)) if views.match(c.source.splitlines()[-1])]
    assert found, "the lesson shows no view"
    for cell in found:
        assert all(len(text.splitlines()) > 1 for text in shown(cell)), cell.source


def test_its_sections_are_those_of_a_lesson(lesson):
    sources = [cell.source for cell in read(lesson).cells if cell.cell_type == "markdown"]
    heads = re.findall(r"^## (.+)$", "\n".join(sources), re.M)
    others = [head for head in heads if head not in SECTIONS]
    assert [head for head in heads if head in SECTIONS] == list(SECTIONS)
    assert others
    assert all(re.match(rf"Worked example {n}: ", head) for n, head in enumerate(others, 1))


def test_it_starts_with_the_kit_and_a_seed(lesson):
    first = code_cells(read(lesson))[0].source
    assert first.startswith("from kmemkit import *\n")
    assert re.search(r"^seed = \d+$", first, re.M)


def test_every_answer_is_still_open(lesson):
    """Exercises ship unanswered: each check says so, and no answer stands in the notebook."""
    checks = [cell for cell in code_cells(read(lesson)) if ".check(" in cell.source]
    assert len(checks) >= 3
    for cell in checks:
        head, _, _ = cell.source.partition("\n\n")
        assert re.fullmatch(r"answers? = (None|\[None(, None)*\])(  # .+)?", head)
        assert all(text.startswith("not answered yet: ") for text in shown(cell))


def test_what_differs_from_run_to_run_is_taken_away():
    view = {WIDGET_VIEW: {"model_id": "4f1c"}, "text/plain": "PageMap"}
    cell = nbformat.v4.new_code_cell("v", metadata={"execution": {"iopub.busy": "12:00"}})
    cell.outputs = [nbformat.v4.new_output("display_data", data=view)]
    notebook = tidy(nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}}))
    saved = json.loads(nbformat.writes(notebook))
    assert saved["cells"][0]["outputs"][0]["data"] == {"text/plain": ["PageMap"]}
    assert saved["cells"][0]["metadata"] == {}
    assert saved["metadata"].keys() == {"kernelspec", "language_info"}
