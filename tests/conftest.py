"""Which tests need a browser, and how hypothesis draws.

No test is timed, and every run draws the same examples.
"""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("kmemkit", deadline=None, derandomize=True)
settings.load_profile("kmemkit")

UI = Path(__file__).parent / "ui"
LONGEST = UI / "test_lesson_runs_ui.py"


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(UI):
            item.add_marker(pytest.mark.ui)
    # Workers get whole files, in this order. Those that drive a browser take longest: if one of
    # them came last, a worker would be at it alone while the others are done.
    items.sort(key=lambda item: (item.path != LONGEST, not item.path.is_relative_to(UI)))
