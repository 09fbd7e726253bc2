"""Lesson 03: code paths that take locks and allocate, and which of them can deadlock together.

Each path is played on a simulated kernel, and what it waits for while it holds something becomes
an edge, as lockdep does it: a request that may enter file systems by reclaim takes "fs_reclaim".
A cycle of edges is a deadlock that waits for its moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from kmemkit.gfp import effects, encode
from kmemkit.lessons._check import Problem, Sheet, kindly
from kmemkit.lessons._letters import Line, judge_letters, lettered
from kmemkit.lessons.context_check import miss
from kmemkit.lessons.context_worlds import small
from kmemkit.mm.sched import PF_MEMALLOC
from kmemkit.strings import text

__all__ = ("EXAMPLE", "Path", "check", "cycle", "edges", "listing", "problem", "report", "scoped")

RECLAIM = "fs_reclaim"
_CODE = {
    "lock": "mutex_lock(&{}->lock);",
    "alloc": "kmalloc(size, {});",
    "save": "flags = memalloc_nofs_save();",
    "restore": "memalloc_nofs_restore(flags);",
}
_LOCKS = ("journal", "inode", "quota", "dir", "bitmap")

Edge = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Path:
    """One function: what it does, in order; `idea` is the one that gets it wrong.

    A step is "lock NAME", "alloc MASK", "save" or "restore" (of memalloc_nofs); a path that begins
    with "reclaim" is called by reclaim. All locks are released at the end.
    """

    name: str
    steps: tuple[str, ...]
    idea: str = ""

    @property
    def head(self) -> str:
        """Its name, and whether reclaim calls it."""
        by = text("lesson.context.deadlock.by_reclaim") if self.steps[0] == "reclaim" else ""
        return f"{self.name}() {by}".rstrip()

    @property
    def code(self) -> tuple[str, ...]:
        """What it does, in C."""
        steps = (step.partition(" ") for step in self.steps)
        return tuple(_CODE[kind].format(rest) for kind, _, rest in steps if kind in _CODE)

    def __str__(self) -> str:
        return f"{self.head}: {' '.join(self.code)}"


def listing(paths: Sequence[Path]) -> str:
    """Return the code of some paths, a line for each step."""
    return "\n".join("\n    ".join((f"{path.head}:", *path.code)) for path in paths)


def edges(path: Path) -> tuple[Edge, ...]:
    """Play a path, and return (held, waited for) for everything it may wait for while it holds."""
    kernel, held, found = small(), [], []
    scope = None
    for kind, _, rest in (step.partition(" ") for step in path.steps):
        wanted = ""
        if kind == "reclaim":
            kernel.set_task_flags(PF_MEMALLOC)
            held.append(RECLAIM)
        elif kind == "save":
            scope = kernel.memalloc_nofs_save()
        elif kind == "restore" and scope is not None:
            kernel.memalloc_nofs_restore(scope)
        elif kind == "lock":
            wanted = rest
        elif kind == "alloc":
            can = effects(kernel.current_gfp_context(encode(rest)))
            kernel.alloc_pages(rest, 0)
            reclaims = can.may_sleep and can.may_fs and not kernel.current.flags & PF_MEMALLOC
            wanted = RECLAIM if reclaims else ""
        if wanted:
            found += [(one, wanted) for one in held if one != wanted]
            held += [rest] if kind == "lock" else []
    return tuple(dict.fromkeys(found))


def cycle(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return what waits for what in a circle, its first element again at the end; () if nothing."""
    found = [edge for path in paths for edge in edges(path)]
    for start, _ in found:
        way = _way(found, start, start)
        if way:
            return way
    return ()


def _way(found: Sequence[Edge], start: str, end: str) -> tuple[str, ...]:
    """Return the shortest way along the edges from `start` to `end`, at least one edge long."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for held, wanted in found:
            if held == way[-1] and wanted == end:
                return (*way, end)
            if held == way[-1] and wanted not in seen:
                seen.add(wanted)
                ways.append((*way, wanted))
    return ()


def _circles(path: Path, paths: Sequence[Path]) -> bool:
    """Whether one of a path's edges lies on a circle of all paths' edges."""
    found = [edge for one in paths for edge in edges(one)]
    return any(_way(found, wanted, held) for held, wanted in edges(path))


def report(paths: Sequence[Path]) -> str:
    """Return what each path waits for, and the circle that they make."""
    lines = [f"{path.name}(): {_edges_text(path)}" for path in paths]
    circle = cycle(paths)
    if not circle:
        return "\n".join([*lines, text("lesson.context.deadlock.no_circle")])
    return "\n".join([*lines, text("lesson.context.deadlock.circle", circle=" → ".join(circle))])


def _edges_text(path: Path) -> str:
    pairs = [f"{held} → {wanted}" for held, wanted in edges(path)]
    return ", ".join(pairs) or text("lesson.context.deadlock.no_edges")


#: The lesson's own example: a write under the lock that the shrinker takes.
EXAMPLE = (
    Path("write_inode", ("lock inode", "alloc GFP_KERNEL")),
    Path("shrink_inodes", ("reclaim", "lock inode")),
)


def scoped(path: Path) -> Path:
    """Return a path with a memalloc_nofs scope around all that it does."""
    return Path(path.name, ("save", *path.steps, "restore"), path.idea)


def _paths(seed: int) -> list[Path]:
    """Return six paths: two or three make a circle, the others do not."""
    random = Random(f"context deadlock {seed}")
    a, b, c = random.sample(_LOCKS, 3)
    long = random.random() < 0.6
    ended = random.random() < 0.4
    taken = b if long else a
    writer = ("save", f"lock {a}", "restore", "alloc GFP_KERNEL") if ended else (
        f"lock {a}", "alloc GFP_KERNEL")  # fmt: skip
    paths = [
        Path(f"write_{a}", writer, "scope_lasts" if ended else "reclaim_is_rare"),
        Path(f"shrink_{taken}", ("reclaim", f"lock {taken}"), "reclaim_takes_no_locks"),
        # From the circle only if reclaim takes b: b -> a then closes it.
        Path("rename", (f"lock {b}", f"lock {a}"), "only_allocations" if long else "order_is_all"),
        Path(f"read_{a}", (f"lock {a}", "alloc GFP_NOFS"), "nofs_waits_too"),
        Path(f"sync_{c}", (f"lock {c}", "alloc GFP_KERNEL"), "any_lock"),
    ]
    paths.append(
        random.choice(
            (
                Path(f"probe_{a}", (f"lock {a}", "alloc GFP_NOWAIT"), "any_allocation"),
                Path("commit", ("save", f"lock {b}", "alloc GFP_KERNEL"), "flag_is_fixed"),
                Path("truncate", (f"lock {c}", f"lock {b}"), "order_is_all"),
            )
        )
    )
    random.shuffle(paths)
    return paths


def problem(seed: int) -> Problem:
    """Return the paths of a seed."""
    return Problem((text("lesson.context.deadlock.ask"), *lettered(_paths(seed))))


@kindly
def check(answer: object, seed: int) -> Sheet:
    """Judge the letters of the paths that make the circle, as "B D".

    An answer of another form is not answered yet, and told so.
    """
    paths = _paths(seed)
    return judge_letters(answer, [_line(path, paths) for path in paths], "lesson.context.letters")


def _line(path: Path, paths: Sequence[Path]) -> Line:
    inside, found = _circles(path, paths), _edges_text(path)
    if inside:
        circle = " → ".join(cycle(paths))
        told = text("lesson.context.deadlock.inside", circle=circle, edges=found)
    else:
        told = text("lesson.context.deadlock.outside", edges=found)
    return Line(inside, told, miss(told, path.idea))
