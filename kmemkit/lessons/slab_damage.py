"""Lesson 08: find the overwritten byte.

Machines that were booted with slab_debug=FZPU, and on each a bug that wrote where it should not.
The learner gets the kernel's report without the line that says it all: which object, which byte,
in what kind of area, by what kind of access? The check goes by that line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from kmemkit.gfp import GFP_KERNEL
from kmemkit.lessons._check import (
    Outcome,
    Problem,
    Sheet,
    Verdict,
    fill_in,
    is_blank,
    is_unknown,
    judge_each,
    kindly,
)
from kmemkit.lessons.slab_check import miss
from kmemkit.mm.kernel import PAGE_OFFSET, PAGE_SHIFT, Kernel
from kmemkit.mm.slab import KmemCache
from kmemkit.mm.slub_layout import get_info_end
from kmemkit.strings import text

__all__ = ("check", "log", "problem")

#: The kernel's name of an area -> ours, and the access that damages it.
_AREAS = {
    "Left Redzone": ("left", "under"),
    "Right Redzone": ("right", "over"),
    "kmalloc Redzone": ("kmalloc", "over"),
    "Poison": ("poison", "after_free"),
    "Object padding": ("padding", "over"),
}
#: How an answer may name an area, and an access; the first word that is there counts.
_AREA_WORDS = {
    "kmalloc": ("kmalloc",),
    "left": ("left",),
    "right": ("right",),
    "poison": ("poison",),
    "padding": ("padding",),
}
_ACCESS_WORDS = {
    "after_free": ("after free", "after-free", "uaf"),
    "under": ("underflow", "before"),
    "over": ("overflow", "overrun", "past"),
}
#: The line that the learner does not get.
_OVERWRITTEN = re.compile(r"\[(.+) overwritten\] (0x\w+)-0x\w+ @offset=(\d+)")
_CACHE = re.compile(r"kmalloc-\d+")
_NUMBER = re.compile(r"(?<![\w.])([+-]?)(0x[0-9a-f]+|\d+)(?!\w)")


@dataclass(frozen=True, slots=True)
class _Case:
    """A bug and its report: which object, and the first wrong byte, counted from its start."""

    lines: tuple[str, ...]
    area: str
    access: str
    number: int
    byte: int
    size: int  #: of an object, and from one object to the next
    pitch: int
    left: int  #: bytes of red zone in front of an object
    in_slab: int  #: the first wrong byte, counted from the start of the slab

    @property
    def what(self) -> str:
        """The whole answer, as a sentence has it."""
        return text(
            "lesson.slab.damage.what", number=self.number, byte=_byte(self.byte),
            area=text(f"lesson.slab.damage.area_{self.area}"),
            access=text(f"lesson.slab.damage.access_{self.access}"),
        )  # fmt: skip


def _cases(seed: int) -> list[_Case]:
    random = Random(f"slab damage {seed}")
    areas = ["poison", random.choice(("kmalloc", "right")), random.choice(("left", "padding"))]
    random.shuffle(areas)
    return [_play(random, area) for area in areas]


def _play(random: Random, area: str) -> _Case:
    """Let a bug write into an area of an object, and let the kernel find it."""
    kernel = Kernel(ram="16M", cmdline="slab_debug=FZPU", seed=random.randrange(1 << 20))
    cache = kernel.kmem_cache_create("session", random.choice((44, 52, 60, 76, 84)))
    asked = random.randrange(41, 60)

    def get() -> int:
        if area == "kmalloc":
            return kernel.kmalloc(asked, GFP_KERNEL) or 0
        return kernel.kmem_cache_alloc(cache or 0, GFP_KERNEL) or 0

    kernel.caller = "session_open"
    held = [get() for _ in range(random.randrange(5, 12))]
    for n, at in enumerate(held):
        kernel.write(at, b"session %d" % n)
    slab = kernel.slabs[held[0] - PAGE_OFFSET >> PAGE_SHIFT]
    s = slab.cache
    victim = random.choice([at for at in held if at - slab.address > 2 * s.size])
    kernel.caller = "session_close"
    if area == "poison":
        kernel.kfree(victim)
    place, data = _bug(random, s, area, asked)
    kernel.write(victim + place, data)
    if area == "poison":
        get()  # the object that was freed last comes first, and is looked at
    else:
        kernel.kfree(victim)
    return _case(kernel, s, victim)


def _bug(random: Random, s: KmemCache, area: str, asked: int) -> tuple[int, bytes]:
    """Return where a bug writes, counted from the object, and what."""
    if area == "left":
        length = random.randrange(1, 5)
        return -length, b"\1\2\3\4"[:length]
    if area == "right":
        return s.object_size, random.choice((b"\0", b"!\0", b"\7"))
    if area == "kmalloc":
        return asked + random.randrange(3), random.choice((b"\0", b"s\0", b"\x11"))
    if area == "poison":
        return random.randrange(12, 40), random.choice((b"late", b"\0\0", b"\3"))
    return get_info_end(s) + random.randrange(6), b"\2\0"


def _case(kernel: Kernel, s: KmemCache, victim: int) -> _Case:
    """Return the report of a kernel that found damage, and what its first line says."""
    first, *rest = kernel.dmesg().splitlines()
    found = _OVERWRITTEN.match(first)
    assert found is not None, f"the kernel found no damage: {first}"
    end = next(n for n, line in enumerate(rest) if line.startswith("-----") and "cut" in line)
    area, access = _AREAS[found.group(1)]
    in_slab = int(found.group(3))
    byte = int(found.group(2), 16) - victim
    return _Case(
        tuple(rest[:end]), area, access, (in_slab - byte - s.red_left_pad) // s.size, byte,
        s.object_size, s.size, s.red_left_pad, in_slab,
    )  # fmt: skip


def _byte(byte: int) -> str:
    return f"{byte:+#x}"


def log(seed: int) -> str:
    """Return the three reports of a seed, as far as they could be saved."""
    parts = []
    for n, case in enumerate(_cases(seed), 1):
        head = text("lesson.slab.damage.head", number=n, pitch=case.pitch, left=case.left)
        parts.append("\n".join((head, *case.lines)))
    return "\n\n".join(parts)


def problem(seed: int) -> Problem:
    """Return what is asked about the reports of a seed."""
    lines = [text("lesson.slab.damage.ask", cases=len(_cases(seed)))]
    lines += [f"  {n}. {text(f'lesson.slab.damage.{part}')}" for n, part in enumerate(
        ("ask_object", "ask_byte", "ask_area", "ask_access"), 1
    )]  # fmt: skip
    return Problem((*lines, text("lesson.slab.damage.example")))


@kindly
def check(answers: object, seed: int) -> Sheet:
    """Judge a list of three answers, as "object 3, byte 0x34, right red zone, overflow".

    An answer of another form is not answered yet, and told so.
    """
    return judge_each(answers, _cases(seed), _check_one)


def _check_one(case: _Case, answer: object) -> Verdict:
    if is_blank(answer):
        return fill_in()
    told = text("lesson.slab.damage.told", what=case.what)
    if is_unknown(answer):
        return Verdict(Outcome.UNKNOWN, told)
    joined = answer if isinstance(answer, tuple | list) else [answer]
    typed = _CACHE.sub("kmalloc", ", ".join(map(str, joined)).lower())
    area, access = _word(typed, _AREA_WORDS), _word(typed, _ACCESS_WORDS)
    found = _NUMBER.findall(typed)
    numbers = [int(sign + digits, 16 if "x" in digits else 10) for sign, digits in found]
    if len(numbers) != 2 or not area or not access:
        return Verdict(Outcome.OPEN, text("lesson.slab.damage.form", given=repr(answer)))
    number, byte = numbers
    if (number, byte, area, access) == (case.number, case.byte, case.area, case.access):
        return Verdict(Outcome.RIGHT, told)
    if number != case.number:
        sentence = text("lesson.slab.damage.wrong_object", number=number)
        return miss(sentence, next(_object_ideas(case, number), ""))
    if byte != case.byte:
        sentence = text("lesson.slab.damage.wrong_byte", byte=_byte(byte))
        return miss(sentence, next(_byte_ideas(case, byte), ""))
    if area != case.area:
        sentence = text(
            "lesson.slab.damage.wrong_area", area=text(f"lesson.slab.damage.area_{area}")
        )
        return miss(sentence, _AREA_IDEAS.get(case.area, ""))
    sentence = text(
        "lesson.slab.damage.wrong_access", access=text(f"lesson.slab.damage.access_{access}")
    )
    return miss(sentence, _access_idea(case, access))


def _word(typed: str, words: Mapping[str, tuple[str, ...]]) -> str:
    """Return the key of the first word that is there, "" if none is."""
    return next((key for key, names in words.items() if any(name in typed for name in names)), "")


#: The area that was damaged -> why it was taken for another one.
_AREA_IDEAS = {
    "kmalloc": "slot_is_object",
    "right": "one_red_zone",
    "left": "one_red_zone",
    "poison": "poison_is_data",
    "padding": "one_red_zone",
}


def _access_idea(case: _Case, said: str) -> str:
    """Return why one access was taken for another."""
    if case.access == "after_free":
        return "neighbour_did_it"
    if said == "after_free":
        return "freed_is_cc"
    return "left_is_neighbour" if case.access == "under" else "ends_are_alike"


def _object_ideas(case: _Case, said: int) -> Iterator[str]:
    """Yield the ideas that would have given the wrong object."""
    at = case.in_slab - case.byte
    if said == case.number + 1:
        yield "counts_from_one"
    if said in (at // case.size, (at - case.left) // case.size):
        yield "objects_touch"
    if said == case.number - 1:
        yield "neighbour_did_it"


def _byte_ideas(case: _Case, said: int) -> Iterator[str]:
    """Yield the ideas that would have given the wrong byte."""
    if case.byte < 0 and said in (-case.byte, case.left + case.byte):
        yield "no_byte_before"
    if said == case.byte + case.left:
        yield "counts_from_red_zone"
    if said in (case.in_slab, case.in_slab - case.byte):
        yield "offset_is_byte"
    if said >= 0 and case.byte >= 0 and f"{case.byte:x}" == f"{said}":
        yield "hex_is_decimal"
