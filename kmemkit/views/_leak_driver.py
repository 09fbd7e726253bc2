"""The drivers whose probe() is to be unwound: what they acquire, and what the learner decided.

A seed gives a `Driver`, and a `Plan` with mistakes in its error path. A plan is what can be
changed: where each failure jumps to, in which order the releases stand, which function frees.
`Plan.lines` writes it as C, with the choices that LeakGym offers in a line. For `leak_gym` and the
exercise of lesson 11.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

from kmemkit.strings import text
from kmemkit.views._leak_program import Program, parse

__all__ = ("Choice", "CodeLine", "Driver", "Plan", "Resource")

RETURN = "return -ENOMEM;"
#: offset of the first pointer in a structure, in bytes; each pointer has 8
_FIRST = 16
_NAMES = ("nic", "cam", "snd", "ssd", "gpu", "can")


@dataclass(frozen=True, slots=True)
class Resource:
    """One acquisition: `path = call;`, and how it is released.

    Attributes:
        key: its name in labels, `ring` for err_ring.
        path: the pointer that holds it.
        allocator: kzalloc, kcalloc, kmem_cache_alloc, vmalloc, kvzalloc, __get_free_pages.
        call: the call as C.
        size: in bytes, as asked for.
        release: the statement that frees it.
        order: of a block of pages.
        offset: of the pointer in the structure that holds it, in bytes.
    """

    key: str
    path: str
    allocator: str
    call: str
    size: int
    release: str
    order: int = 0
    offset: int = 0

    @property
    def parent(self) -> str:
        """The pointer to the structure that this one's pointer stands in, "" for a variable."""
        return self.path.rpartition("->")[0]

    @property
    def label(self) -> str:
        """The label in front of its release."""
        return f"err_{self.key}"

    @property
    def frees(self) -> tuple[str, ...]:
        """The functions that may free it."""
        return {
            "vmalloc": ("vfree", "kvfree"),
            "kvzalloc": ("kvfree",),
            "kmem_cache_alloc": ("kmem_cache_free", "kfree", "kvfree"),
            "__get_free_pages": ("free_pages",),
        }.get(self.allocator, ("kfree", "kvfree"))

    def statements(self) -> list[str]:
        """Return the statements that somebody may think of to free it."""
        path = self.path
        found = [f"kfree({path});", f"vfree({path});", f"kvfree({path});"]
        found.append(f"kmem_cache_free(cmd_cache, {path});")
        found += [f"free_pages({path}, {order});" for order in sorted({0, self.order or 1})]
        return found


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be chosen in a line: `step` says where, `options` are whole statements."""

    do: str
    step: int
    value: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CodeLine:
    """A line of the function, and what of it can be changed."""

    text: str
    choice: Choice | None = None
    movable: int = -1  #: index of the release whose label this is


@dataclass(frozen=True)
class Driver:
    """A driver: its name, what its probe() acquires in order, the size of its cache's objects."""

    name: str
    resources: tuple[Resource, ...]
    object_size: int

    @classmethod
    def of(cls, seed: int) -> Driver:
        """Return the driver of a seed: a structure, and four things that it points to."""
        random = Random(f"leak driver {seed}")
        name, size = random.choice(_NAMES), random.choice((296, 424, 552))
        dev = f"struct {name}_dev"
        first = Resource(
            "dev", "dev", "kzalloc", f"kzalloc(sizeof({dev}), GFP_KERNEL)",
            random.choice((128, 192, 256)), "kfree(dev);",
        )  # fmt: skip
        pool = [_ring(random), _command(size), *random.sample([_firmware, _log], 1)[0](random)]
        pool.append(_pages(random))
        random.shuffle(pool)
        if random.randrange(2):
            at = next(n for n, one in enumerate(pool) if one.key == "ring")
            inner = replace(
                pool[at], key="desc", path="dev->ring->desc", size=2048,
                call="kcalloc(128, 16, GFP_KERNEL)", release="kfree(dev->ring->desc);",
            )  # fmt: skip
            outer = replace(
                pool[at], size=96, allocator="kzalloc",
                call="kzalloc(sizeof(struct ring), GFP_KERNEL)",
            )  # fmt: skip
            pool[at : at + 1] = [outer, inner]
            pool.pop(next(n for n, one in enumerate(pool) if one.key == "cmd"))
        slots: dict[str, int] = {}
        placed = []
        for one in pool:
            slot = slots[one.parent] = slots.get(one.parent, -1) + 1
            placed.append(replace(one, offset=_FIRST + 8 * slot))
        return cls(name, (first, *placed), size)

    @property
    def acquisitions(self) -> list[tuple[str, str]]:
        """(pointer, call) of each acquisition, in their order."""
        return [(one.path, one.call) for one in self.resources]

    def resource(self, path: str) -> Resource:
        """Return what a pointer holds."""
        return next(one for one in self.resources if one.path == path)

    def parse(self, lines: tuple[str, ...]) -> Program:
        """Read a probe() of this driver.

        Raises:
            BadCode: a line is not understood, or an acquisition is missing or changed.
        """
        return parse(lines, self.acquisitions)

    @cached_property
    def right(self) -> Plan:
        """The plan without a mistake: each failure jumps to the release of what came before."""
        count = len(self.resources)
        targets = ("", *(self.resources[n - 1].label for n in range(1, count)))
        order = tuple(range(count - 2, -1, -1))
        return Plan(
            self, targets, ("",) * count, order, tuple(self.resources[n].release for n in order)
        )

    def broken(self, seed: int) -> Plan:
        """Return a plan with two mistakes, chosen by the seed."""
        random = Random(f"leak mistakes {seed}")
        plan = self.right
        for make in random.sample([_far, _early, _wrong_function, _twice], 2):
            plan = make(plan, random)
        return plan


def _ring(random: Random) -> Resource:
    count = random.choice((32, 64, 128))
    return Resource(
        "ring", "dev->ring", "kcalloc", f"kcalloc({count}, 16, GFP_KERNEL)", count * 16,
        "kfree(dev->ring);",
    )  # fmt: skip


def _command(size: int) -> Resource:
    return Resource(
        "cmd", "dev->cmd", "kmem_cache_alloc", "kmem_cache_alloc(cmd_cache, GFP_KERNEL)", size,
        "kmem_cache_free(cmd_cache, dev->cmd);",
    )  # fmt: skip


def _firmware(random: Random) -> list[Resource]:
    size = random.choice((16384, 32768))
    return [Resource("fw", "dev->fw", "vmalloc", f"vmalloc({size})", size, "vfree(dev->fw);")]


def _log(random: Random) -> list[Resource]:
    size = random.choice((16384, 65536))
    call = f"kvzalloc({size}, GFP_KERNEL)"
    return [Resource("log", "dev->log", "kvzalloc", call, size, "kvfree(dev->log);")]


def _pages(random: Random) -> Resource:
    order = random.choice((1, 2))
    return Resource(
        "dma", "dev->dma", "__get_free_pages", f"__get_free_pages(GFP_KERNEL, {order})",
        4096 << order, f"free_pages(dev->dma, {order});", order,
    )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The error path of a probe().

    Attributes:
        driver: whose.
        targets: the label that each failing acquisition jumps to, "" to return at once.
        extras: a statement before each jump, "" for none.
        order: which resources' releases stand there, by index, first to last.
        frees: the statement that each of them is, in the same order.
        offered: extras that can be put back.
    """

    driver: Driver
    targets: tuple[str, ...]
    extras: tuple[str, ...]
    order: tuple[int, ...]
    frees: tuple[str, ...]
    offered: tuple[str, ...] = ()

    def jump(self, step: int, statement: str) -> Plan:
        """Return the plan with another jump for one acquisition: `goto err_ring;` or a return."""
        target = statement.removeprefix("goto ").rstrip(";") if statement != RETURN else ""
        return replace(self, targets=_with(self.targets, step, target))

    def extra(self, step: int, statement: str) -> Plan:
        """Return the plan with another statement before one jump; a comment is none."""
        kept = "" if statement.startswith("/*") else statement
        return replace(self, extras=_with(self.extras, step, kept))

    def free(self, place: int, statement: str) -> Plan:
        """Return the plan with another statement as the release at one place."""
        return replace(self, frees=_with(self.frees, place, statement))

    def move(self, place: int, by: int) -> Plan:
        """Return the plan with the release at one place moved; at an end it stays."""
        to = place + by
        if not 0 <= to < len(self.order):
            return self
        rows = list(zip(self.order, self.frees, strict=True))
        rows.insert(to, rows.pop(place))
        order, frees = zip(*rows, strict=True)
        return replace(self, order=order, frees=frees)

    @property
    def lines(self) -> list[CodeLine]:
        """The function as C, with what can be changed."""
        name = self.driver.name
        lines = [
            CodeLine(f"static int {name}_probe(struct pci_dev *pdev)"),
            CodeLine("{"),
            CodeLine(f"    struct {name}_dev *dev;"),
            CodeLine(""),
        ]
        for step in range(len(self.driver.resources)):
            lines += self._acquisition(step)
        lines += [
            CodeLine(""), CodeLine("    pci_set_drvdata(pdev, dev);"), CodeLine("    return 0;"),
            CodeLine(""),
        ]  # fmt: skip
        for place, index in enumerate(self.order):
            one = self.driver.resources[index]
            choice = Choice("free", place, self.frees[place], tuple(one.statements()))
            lines.append(CodeLine(f"{one.label}:", movable=place))
            lines.append(CodeLine(f"    {self.frees[place]}", choice))
        return [*lines, CodeLine(f"    {RETURN}"), CodeLine("}")]

    def _acquisition(self, step: int) -> list[CodeLine]:
        one = self.driver.resources[step]
        value = f"goto {self.targets[step]};" if self.targets[step] else RETURN
        labels = [self.driver.resources[n].label for n in self.order]
        options = (*(f"goto {label};" for label in labels), RETURN)
        jump = CodeLine(f"        {value}", Choice("jump", step, value, options))
        head = CodeLine(f"    {one.path} = {one.call};")
        extra, offered = self.extras[step], self._offer(step)
        if not offered:
            return [head, CodeLine(f"    if (!{one.path})"), jump]
        nothing = text("leak_gym.no_extra")
        said = extra or nothing
        choice = Choice("extra", step, said, (offered, nothing))
        block = [CodeLine(f"    if (!{one.path}) {{"), CodeLine(f"        {said}", choice), jump]
        return [head, *block, CodeLine("    }")]

    def _offer(self, step: int) -> str:
        return self.offered[step] if self.offered else ""

    @property
    def code(self) -> tuple[str, ...]:
        """The function as C, line by line."""
        return tuple(line.text for line in self.lines)


def _with(column: tuple[str, ...], at: int, value: str) -> tuple[str, ...]:
    return (*column[:at], value, *column[at + 1 :])


# -- mistakes -------------------------------------------------------------------------------------


def _untouched(plan: Plan) -> list[int]:
    """Return the acquisitions whose failure is still handled rightly: two mistakes may cancel."""
    right = plan.driver.right.targets
    steps = range(2, len(right))
    return [n for n in steps if plan.targets[n] == right[n] and not plan.extras[n]]


def _far(plan: Plan, random: Random) -> Plan:
    """Let one failure jump too far: past the release of what was acquired last."""
    step = random.choice(_untouched(plan))
    return replace(plan, targets=_with(plan.targets, step, plan.targets[step - 1]))


def _early(plan: Plan, random: Random) -> Plan:
    """Put the release of the structure before those of what it points to."""
    return plan.move(len(plan.order) - 1, -random.choice((1, 2)))


def _wrong_function(plan: Plan, random: Random) -> Plan:
    """Free one thing by a function that is not its own."""
    resources = plan.driver.resources
    places = [n for n, index in enumerate(plan.order) if "kfree" not in resources[index].frees]
    if not places:
        return _far(plan, random)
    place = random.choice(places)
    one = resources[plan.order[place]]
    wrong = f"free_pages({one.path}, 0);" if one.order else f"kfree({one.path});"
    return plan.free(place, wrong)


def _twice(plan: Plan, random: Random) -> Plan:
    """Free what was acquired last before the jump, and again behind its label."""
    step = random.choice(_untouched(plan))
    statement = plan.driver.resources[step - 1].release
    extras = _with(plan.extras, step, statement)
    return replace(plan, extras=extras, offered=extras)
