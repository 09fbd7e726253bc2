"""The string table has every key that is asked for, and no other, in every language.

A key is asked for by a literal, `text("lab.opening", folder=...)`, or by an f-string (in JavaScript
a template literal) that names at least its section, `text(f"lab.fate.{fate}")`; what is put in must
then be a word of the code. Keys under `why.` belong to the simulator's reasons, which name them
without that prefix: `trace.note("split", ...)`.
"""

import ast
import json
import re
import string
from functools import cache, partial
from pathlib import Path

import pytest

from kmemkit import strings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kmemkit"
REASONS = ("note", "why")


@cache
def sources():
    """Return (name, syntax tree) of every Python file of the package and cell of the lessons."""
    found = [
        (str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        plain = [re.sub(r"(?m)^\s*[%!].*$", "", cell) for cell in code]
        found += [(f"{path.name}, a cell", ast.parse(cell)) for cell in plain]
    return found


def name_of(function):
    return getattr(function, "attr", getattr(function, "id", ""))


def calls(*names):
    """Yield (file, call, first argument) of each call of one of these functions."""
    for file, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and name_of(node.func) in names:
                yield file, node, node.args[0]


def joined(parts):
    """Return a function that tells the keys that (fixed text or None for a word, ...) can be.

    None if it does not name its section: it would stand for every key.
    """
    if parts[0] is None or "." not in parts[0]:
        return None
    return partial(can_be, tuple(parts))


def can_be(parts, key):
    """Return whether a key is made of the parts, with words of the code put in."""
    if not parts:
        return not key
    first, *rest = parts
    if first is not None:
        return key.startswith(first) and can_be(rest, key[len(first) :])
    return any(key[:n] in words() and can_be(rest, key[n:]) for n in range(1, len(key) + 1))


def pattern_of(node):
    """Return the pattern of a Python f-string."""
    return joined([part.value if isinstance(part, ast.Constant) else None for part in node.values])


def patterns():
    """Return the patterns of all f-strings and template literals."""
    nodes = (node for _, tree in sources() for node in ast.walk(tree))
    found = [pattern_of(node) for node in nodes if isinstance(node, ast.JoinedStr)]
    templates = re.findall(r"`([^`]*\$\{[^`]*)`", scripts())
    return [pattern for pattern in [*found, *map(template_pattern, templates)] if pattern]


def template_pattern(template):
    """Return the pattern of a JavaScript template literal."""
    parts = re.split(r"(\$\{[^}]*\})", template)
    return joined([None if part.startswith("${") else part for part in parts])


def literals(folder=""):
    """Return the plain string literals of all files, or of those in one folder."""
    return {
        node.value
        for file, tree in sources()
        if file.startswith(folder)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@cache
def scripts():
    return "\n".join(path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.js")))


@cache
def words():
    """Return the words of the code that can be a part of a key."""
    names = {
        str(getattr(node, field))
        for _, tree in sources()
        for node in ast.walk(tree)
        for field in ("id", "attr", "arg")
        if hasattr(node, field)
    }
    found = literals() | names | set(re.findall(r"\w+", scripts()))
    found |= {word.lower() for word in found}
    # A word may itself be put together: `${key}_hint`.
    ends = re.findall(r"`\$\{\w+\}(_\w+)`", scripts())
    found |= {word + end for word in found for end in ends}
    keys = " ".join(strings.keys())
    return {word for word in found if re.fullmatch(r"\w+", word) and word in keys}


def fields(template):
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def test_no_key_is_unused():
    plain, reasons, made = literals(), literals("kmemkit/mm/"), patterns()
    unused = [
        key
        for key in sorted(strings.keys())
        if key not in plain
        and not any(pattern(key) for pattern in made)
        and not (key.startswith("why.") and key.removeprefix("why.") in reasons)
        and f'"{key}"' not in scripts()
    ]
    assert not unused, f"nothing asks for {unused}"


def test_no_key_is_missing():
    known, missing = strings.keys(), []
    for file, call, key in calls("text"):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            found = key.value in known
        elif isinstance(key, ast.JoinedStr):
            pattern = pattern_of(key)
            found = pattern and any(map(pattern, known))
        else:
            continue
        if not found:
            missing.append(f"{file}:{call.lineno}: {ast.unparse(key)}")
    assert not missing, f"not in the table: {missing}"


def test_no_key_of_a_script_is_missing():
    plain = re.findall(r"\bsay\([^,]+,\s*\"([^\"]+)\"", scripts())
    made = re.findall(r"\bsay\([^,]+,\s*`([^`]+)`", scripts())
    known = strings.keys()
    missing = [key for key in plain if key not in known]
    missing += [key for key in made if not any(map(template_pattern(key), known))]
    assert plain and made
    assert not missing, f"not in the table: {missing}"


def test_no_reason_is_missing():
    known = strings.keys()
    missing = [
        f"{file}:{call.lineno}: why.{key.value}"
        for file, call, key in calls(*REASONS)
        if file.startswith("kmemkit/mm/")
        and isinstance(key, ast.Constant)
        and isinstance(key.value, str)
        and f"why.{key.value}" not in known
    ]
    assert missing == []


def test_each_call_fills_its_sentence():
    """A call with values gives every field of its sentence, and no value that is not in it."""
    wrong = []
    for file, call, key in calls("text"):
        given = {keyword.arg for keyword in call.keywords}
        if isinstance(key, ast.Constant) and given and None not in given:
            wanted = fields(strings._table("en").get(key.value, ""))
            if given != wanted:
                wrong.append(f"{file}:{call.lineno}: {key.value} has the fields {sorted(wanted)}")
    assert not wrong, wrong


@pytest.mark.parametrize("language", strings.languages())
def test_languages_agree_with_english(language):
    english, table = strings._table("en"), strings._table(language)
    assert table.keys() == english.keys()
    differ = [key for key in english if fields(table[key]) != fields(english[key])]
    assert differ == []


def test_text_in_an_unknown_language_says_which_there_are():
    with pytest.raises(ValueError, match="en"):
        strings.set_language("xx")


def test_the_scan_sees_what_it_should():
    made = ast.parse('f"lab.fate.{x}"', mode="eval").body
    assert pattern_of(made)("lab.fate.new")
    assert not pattern_of(made)("lab.opening")
    assert not pattern_of(made)("lab.fate.qwertz")
    assert pattern_of(ast.parse('f"{x}.y"', mode="eval").body) is None
    assert template_pattern("lab.${a}.${b}")("lab.fate.kept")
    assert fields("{a} {b:>3} {c!r} {{d}}") == {"a", "b", "c"}
