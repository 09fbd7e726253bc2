"""Every lesson in JupyterLab, from top to bottom, in both themes.

A file of its own, because tests are dealt out to workers by file, and these take long.
"""

import pytest

from tests.ui.conftest import ROOT
from tests.ui.test_lessons_ui import ERRORS, LESSONS, STDERR, whole


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_without_an_error(open_notebook, lesson):
    notebook = open_notebook(lesson.relative_to(ROOT), dark=True)
    notebook.view()
    assert notebook.page.locator(ERRORS).count() == 0
    assert notebook.page.locator(STDERR).count() == 0
    for theme in ("dark", "light"):
        notebook.theme(dark=theme == "dark")
        whole(notebook, f"lesson-{lesson.stem}-{theme}")
        assert notebook.axe() == "", theme
    assert notebook.errors == []
