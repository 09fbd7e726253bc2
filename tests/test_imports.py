"""Imports point one way, and nothing heavy is loaded before it is used.

    cli, lessons -> views, guide, reports -> snapshot <- mm        gfp and strings under all

A new module or package of kmemkit needs a line in MAY_IMPORT: that is a decision about the design.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kmemkit
from kmemkit import gfp

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kmemkit"

GROUND = {"strings", "gfp"}
READERS = GROUND | {
    "dmesg",
    "overflow",
    "size_classes",
    "slab_memory",
    "slab_snapshot",
    "snapshot",
    "units",
    "why",
}
EVERYTHING = READERS | {"mm", "reports", "guide", "views", "lessons", "verify", "lab"}

#: part of kmemkit -> the other parts that it may import
MAY_IMPORT = {
    "strings": set(),
    "dmesg": {"strings"},
    "gfp": {"strings"},
    "overflow": set(),
    "size_classes": set(),
    "units": {"strings"},
    "why": {"strings", "units"},
    "slab_memory": GROUND | {"slab_snapshot", "snapshot"},
    "slab_snapshot": set(),
    "snapshot": GROUND | {"slab_snapshot", "units", "why"},
    "mm": READERS,
    "reports": READERS,
    "guide": READERS,
    "views": READERS | {"reports", "guide"},
    "lessons": READERS | {"mm", "reports", "guide", "views"},
    "verify": READERS | {"mm", "reports"},
    "lab": {"strings"},
    "websocket": set(),
    "cli": EVERYTHING | {"__init__"},
    "__init__": {"dmesg", "gfp", "mm", "views", "why"},
    "__main__": {"cli"},
}
HEAVY = {"anywidget", "bqplot", "ipywidgets", "numpy", "pandas"}
#: Parts that must run where numpy, pandas and bqplot have no build.
LIGHT = GROUND | {"snapshot", "mm", "views"}


def part_of(module):
    """Return the part of kmemkit that a dotted module name belongs to; gfp_x belongs to gfp."""
    names = module.split(".")
    if len(names) == 1:
        return "__init__"
    return names[1].split("_")[0] if names[1].startswith("gfp_") else names[1]


def module_name(path):
    names = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" and len(names) > 2 else names)


def imports(tree, package):
    """Yield (dotted name, whether it is at module level) for each import in a file."""
    lazy = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in lazy
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            for alias in node.names:
                # "from kmemkit import gfp" means the module, "from kmemkit import Kernel" the face.
                named = ROOT.joinpath(*module.split("."), alias.name)
                submodule = named.is_dir() or named.with_suffix(".py").exists()
                yield f"{module}.{alias.name}" if submodule else module, id(node) not in lazy


def files():
    return sorted(PACKAGE.rglob("*.py"))


def parsed(path):
    module = module_name(path)
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    return module, list(imports(ast.parse(path.read_text("utf-8")), package))


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    module, found = parsed(path)
    part = part_of(module)
    assert part in MAY_IMPORT, f"say in MAY_IMPORT what kmemkit.{part} may import"
    targets = {part_of(name) for name, _ in found if name.split(".")[0] == "kmemkit"}
    wrong = targets - MAY_IMPORT[part] - {part}
    assert not wrong, f"{module} imports {sorted(wrong)}, against the direction of imports"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_light_parts_load_nothing_heavy(path):
    module, found = parsed(path)
    part = part_of(module)
    if part not in LIGHT:
        return
    allowed = {"anywidget", "ipywidgets"} if part == "views" else set()
    loaded = {name.split(".")[0] for name, at_once in found if at_once}
    wrong = loaded & (HEAVY - allowed)
    assert not wrong, f"{module} loads {sorted(wrong)} at module level"


def loaded_by(statement):
    code = f"{statement}; import sys; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import kmemkit",
        "from kmemkit import GFP_KERNEL, Kernel; Kernel(ram='1M').snapshot()",
        "import kmemkit.cli",
    ],
)
def test_loads_none_of_the_heavy_packages(statement):
    assert not loaded_by(statement) & HEAVY


VIEWS = (
    "BuddyLab", "Compaction", "ContextStack", "FreeAreas", "GfpPanel", "LeakGym", "OverflowCalculator",
    "PageMap", "PairingTable", "ReclaimLadder",
    "SizeClasses", "SlabMap", "Stepper", "Watermarks", "ZonelistWalker",
)  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_views_load_without_numpy_pandas_and_bqplot(view):
    blocked = "import sys; sys.modules.update(dict.fromkeys(['numpy', 'pandas', 'bqplot']))"
    loaded_by(f"{blocked}; from kmemkit import {view}")


def test_the_direction_test_sees_each_form_of_import(tmp_path):
    code = """
import kmemkit.mm
from kmemkit import mm
from kmemkit import Kernel
from .mm.kernel import Kernel
from . import views
def late():
    import numpy as np
"""
    found = list(imports(ast.parse(code), ["kmemkit"]))
    assert found == [
        ("kmemkit.mm", True),
        ("kmemkit.mm", True),
        ("kmemkit", True),
        ("kmemkit.mm.kernel", True),
        ("kmemkit.views", True),
        ("numpy", False),
    ]
    parts = [part_of(name) for name, _ in found[:5]]
    assert parts == ["mm", "mm", "__init__", "mm", "views"]


def test_public_face_is_sorted_and_complete():
    names = kmemkit.__all__
    groups = [
        [n for n in names if n.strip("_").isupper()],
        [n for n in names if not n.strip("_").isupper() and n.strip("_")[0].isupper()],
        [n for n in names if n.strip("_")[0].islower()],
    ]
    assert list(names) == [name for group in groups for name in sorted(group)]
    flags = {name for name in gfp.__all__ if name.startswith(("GFP_", "__GFP_"))}
    assert flags == set(groups[0])
    assert set(names) <= set(dir(kmemkit))


def test_star_import_gives_every_name():
    scope = {}
    exec("from kmemkit import *", scope)
    assert scope.keys() >= set(kmemkit.__all__)
    assert scope["__GFP_ZERO"] == gfp.encode("__GFP_ZERO")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = kmemkit.nonsense
