"""The string table: every sentence a learner reads, by key, one TOML file per language.

Views, checks and explanations ask for `text("view.step.back")`; nothing else in kmemkit
holds learner-visible prose. Kernel terms (function names, flags, /proc fields) stay verbatim
in every language, so they are arguments of a string, never part of its translation.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ("keys", "languages", "set_language", "text")

_current = "en"


@cache
def _table(language: str) -> dict[str, str]:
    """Return one language's table, flattened to dotted keys."""
    raw = tomllib.loads(files(__package__).joinpath(f"{language}.toml").read_text("utf-8"))
    flat: dict[str, str] = {}

    def walk(prefix: str, node: dict[str, Any]) -> None:
        for name, value in node.items():
            if isinstance(value, dict):
                walk(f"{prefix}{name}.", value)
            else:
                flat[prefix + name] = value

    walk("", raw)
    return flat


def languages() -> tuple[str, ...]:
    """Return the languages that have a table, as two-letter codes, sorted."""
    names = (entry.name for entry in files(__package__).iterdir())
    return tuple(sorted(name[:-5] for name in names if name.endswith(".toml")))


def set_language(language: str) -> None:
    """Choose the language of every string asked for from now on.

    Raises:
        ValueError: there is no table for `language`; the message lists those there are.
    """
    global _current
    if language not in languages():
        raise ValueError(
            f"no strings for language {language!r}; there are: {', '.join(languages())}"
        )
    _current = language


def keys(language: str = "en") -> frozenset[str]:
    """Return every key of one language's table."""
    return frozenset(_table(language))


def text(key: str, /, **values: object) -> str:
    """Return the sentence for `key`, with `values` put into its {fields}.

    Raises:
        KeyError: the current language has no such key (a test keeps this from shipping).
    """
    template = _table(_current)[key]
    return template.format(**values) if values else template
