"""What the exercises of lesson 09 share: a miss with its idea."""

from __future__ import annotations

from functools import partial

from kmemkit.lessons._check import wrong

__all__ = ("miss",)

#: The verdict on a wrong answer; its idea is a key under `lesson.kmalloc.idea`.
miss = partial(wrong, section="kmalloc")
