"""Fixtures of the view tests."""

import pytest

from kmemkit.views import _base


@pytest.fixture
def sends_at_once(monkeypatch):
    """Let every view send without waiting for a frame, also where some event loop runs."""
    monkeypatch.setattr(_base, "FRAME", 0)
