"""The ledger's page is the ledger, and every entry points at code that exists."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from kmemkit.mm.fidelity import LEDGER, Difference, as_markdown

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == as_markdown(), "run: python -m scripts.fidelity"


@pytest.mark.parametrize("entry", LEDGER, ids=lambda entry: entry.topic)
def test_every_entry_points_at_code(entry: Difference) -> None:
    parts = entry.where.split(".")
    target: object = import_module(".".join(parts[:3]))
    for name in parts[3:]:
        target = getattr(target, name)


def test_topics_are_named_once() -> None:
    topics = [entry.topic for entry in LEDGER]
    assert len(topics) == len(set(topics))
