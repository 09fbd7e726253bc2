"""What the exercises of lesson 08 share: a miss with its idea; whether all answers are there."""

from __future__ import annotations

from functools import partial

from kmemkit.lessons._check import Misfit, is_blank, spread, wrong

__all__ = ("committed", "miss")

#: The verdict on a wrong answer; its idea is a key under `lesson.slab.idea`.
miss = partial(wrong, section="slab")


def committed(answers: object, count: int) -> bool:
    """Return whether each of `count` answers is there, "I do not know" too: time to show."""
    try:
        return not any(map(is_blank, spread(answers, count)))
    except Misfit:
        return False
