"""How the tests share out over two workers, and how hypothesis draws.

With `-n 2`, a browser and the cells of one notebook must each stay in one worker: they share a
server or a kernel. Everything else goes wherever there is room. No test is timed, and every run
draws the same examples.
"""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("kmemkit", deadline=None, derandomize=True)
settings.load_profile("kmemkit")

UI = Path(__file__).parent / "ui"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(UI):
            item.add_marker(pytest.mark.ui)
            item.add_marker(pytest.mark.xdist_group("ui"))
        elif item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
