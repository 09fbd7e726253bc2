"""What the exercises of lesson 02 share: a miss with its idea, and a look at a typed mask."""

from __future__ import annotations

import re
import warnings
from functools import partial

from kmemkit.gfp import GfpWarning, Profile, encode
from kmemkit.lessons._check import Misfit, wrong
from kmemkit.strings import text

__all__ = ("miss", "typed_mask")

_NUMBER = re.compile(r"(?<!\w)(?:0[xX][0-9a-fA-F]+|[0-9]+)(?!\w)")


#: The verdict on a wrong answer; its idea is a key under `lesson.gfp.idea`.
miss = partial(wrong, section="gfp")


def typed_mask(answer: object, release: Profile) -> int:
    """Return the mask that a learner wrote as names.

    Raises:
        Misfit: it is no text, or holds a number for a bit that has a name in this release.
        ValueError: a name is not one of this release, or the text is broken.
    """
    if not isinstance(answer, str):
        raise Misfit(text("lesson.gfp.not_names", answer=repr(answer)))
    named = sum(bit for _, bit in release.flags)
    if any(int(number, 0) & named for number in _NUMBER.findall(answer)):
        raise Misfit(text("lesson.gfp.not_names", answer=repr(answer)))
    with warnings.catch_warnings():
        # A name without a bit adds nothing; the verdict shows that soon enough.
        warnings.simplefilter("ignore", GfpWarning)
        return encode(answer, release)
