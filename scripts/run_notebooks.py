"""Runs the lessons and saves them with their outputs: `python -m scripts.run_notebooks [FILE...]`.

For whoever changed a lesson, or a text that a lesson prints. A saved lesson is the same bytes on
every machine: no times, no widget state, no ids by chance. Widgets are saved as their text twins,
which is what nbval compares, and what is shown where nothing runs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
LESSONS = ROOT / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def run(notebook: NotebookNode) -> NotebookNode:
    """Run every cell, in an empty folder, and return the notebook as it is to be saved.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=120,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            store_widget_state=False,
            coalesce_streams=True,
            record_timing=False,
        ).execute()
    return tidy(notebook)


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Take away whatever differs from run to run."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02}"
        cell.metadata = nbformat.from_dict({})
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(WIDGET_VIEW, None)
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
    return notebook


def main(names: list[str]) -> None:
    """Run the named notebooks, or all lessons, and save those that changed."""
    for path in map(Path, names) if names else sorted(LESSONS.rglob("*.ipynb")):
        before = path.read_text("utf-8")
        after = nbformat.writes(run(nbformat.reads(before, as_version=4))) + "\n"
        if after != before:
            path.write_text(after, "utf-8")
        print(f"{path}: {'saved' if after != before else 'as it was'}")


if __name__ == "__main__":
    main(sys.argv[1:])
