"""Every lesson in JupyterLab, from top to bottom, in both themes.

A file of its own, because tests are dealt out to workers by file, and these take long. A picture of
a whole lesson takes seconds too: `KMEMKIT_LESSON_IMG=1` saves them, with the other pictures.
"""

import os

import pytest

from tests.ui.conftest import ROOT
from tests.ui.test_lessons_ui import ERRORS, LESSONS, STDERR


def whole(notebook):
    """Bring the whole lesson into sight, however long, with all that it draws."""
    page = notebook.page
    height = page.evaluate(
        """() => {
            const scroller = document.querySelector(".jp-WindowedPanel-outer");
            return Math.ceil(scroller.scrollHeight + window.innerHeight - scroller.clientHeight);
        }"""
    )
    page.set_viewport_size({**page.viewport_size, "height": height})
    page.evaluate(
        """async () => {
            document.querySelector(".jp-WindowedPanel-outer").scrollTop = 0;
            // Canvases are drawn in the frame after they come into sight.
            for (let n = 0; n < 10; n++) await new Promise(requestAnimationFrame);
        }"""
    )


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_without_an_error(open_notebook, lesson):
    notebook = open_notebook(lesson.relative_to(ROOT), dark=True)
    notebook.view()
    assert notebook.page.locator(ERRORS).count() == 0
    assert notebook.page.locator(STDERR).count() == 0
    whole(notebook)
    for theme in notebook.themes():
        if os.environ.get("KMEMKIT_LESSON_IMG"):
            notebook.screenshot(f"lesson-{lesson.stem}-{theme}")
        assert notebook.axe() == "", theme
    assert notebook.errors == []
