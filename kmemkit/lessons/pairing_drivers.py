"""The drivers of lesson 11 whose leaks are to be found: functions in C, right ones and wrong ones.

A seed puts a file together (`Driver`). For `pairing_leaks`, which shows it, and `pairing_runs`,
which runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

__all__ = ("CallLine", "Driver", "Part")

_OPEN = """\
static int nic_open(struct nic *nic, size_t n)
{
    nic->ring = kmalloc_array(n, 16, GFP_KERNEL);
    if (!nic->ring)
        return -ENOMEM;
    return 0;
}"""


@dataclass(frozen=True, slots=True)
class Part:
    """Functions of a driver that look after one piece of memory.

    Attributes:
        code: them as C, as they should be.
        fault: (right lines, wrong lines): what is put in the place of what to make them leak.
        calls: what is called; {size} is drawn by the seed.
        sizes: what it is drawn from.
        happens: what goes wrong in the second or only call, a key under `lesson.pairing.happens`.
        sources: allocators of misuse_pair that the memory may come from.
    """

    code: str
    fault: tuple[str, str]
    calls: tuple[str, ...]
    sizes: tuple[int, ...]
    happens: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CallLine:
    """One call of a run; `happens` as in Part, "" for nothing."""

    code: str
    happens: str = ""


_PARTS = (
    Part(
        """\
static int nic_resize(struct nic *nic, size_t n)
{
    void *ring = krealloc(nic->ring, n * 16, GFP_KERNEL);
    if (!ring)
        return -ENOMEM;
    nic->ring = ring;
    return 0;
}""",
        (
            """\
    void *ring = krealloc(nic->ring, n * 16, GFP_KERNEL);
    if (!ring)
        return -ENOMEM;
    nic->ring = ring;
""",
            """\
    nic->ring = krealloc(nic->ring, n * 16, GFP_KERNEL);
    if (!nic->ring)
        return -ENOMEM;
""",
        ),
        ("nic_resize(nic, {size})",),
        (128, 256),
        "no_memory",
        ("kmalloc64",),
    ),
    Part(
        """\
static int nic_config(struct nic *nic, size_t len)
{
    int err;
    char *line = kmalloc(len, GFP_KERNEL);
    if (!line)
        return -ENOMEM;
    err = parse(line, len);
    if (err < 0) {
        kfree(line);
        return err;
    }
    kfree(line);
    return 0;
}""",
        (
            "    if (err < 0) {\n        kfree(line);\n        return err;\n    }\n",
            "    if (err < 0)\n        return err;\n",
        ),
        ("nic_config(nic, {size})",),
        (100, 300, 700),
        "no_sense",
        ("kmalloc64",),
    ),
    Part(
        """\
static int nic_load(struct nic *nic, size_t size)
{
    vfree(nic->fw);
    nic->fw = vmalloc(size);
    if (!nic->fw)
        return -ENOMEM;
    return 0;
}""",
        ("    vfree(nic->fw);\n", ""),
        ("nic_load(nic, {size})", "nic_load(nic, {size})"),
        (12288, 20480),
        "",
        ("vmalloc3p",),
    ),
    Part(
        """\
static int nic_send(struct nic *nic)
{
    struct cmd *cmd = kmem_cache_alloc(cmd_cache, GFP_KERNEL);
    if (!cmd)
        return -ENOMEM;
    if (nic->down) {
        kmem_cache_free(cmd_cache, cmd);
        return -ENETDOWN;
    }
    nic->cmd = cmd;
    return 0;
}""",
        (
            "    if (nic->down) {\n        kmem_cache_free(cmd_cache, cmd);\n"
            "        return -ENETDOWN;\n    }\n",
            "    if (nic->down)\n        return -ENETDOWN;\n",
        ),
        ("nic_send(nic)",),
        (0,),
        "down",
        ("cache",),
    ),
    Part(
        """\
static int nic_trace(struct nic *nic, size_t size)
{
    if (!size) {
        kvfree(nic->log);
        nic->log = NULL;
        return 0;
    }
    nic->log = kvmalloc(size, GFP_KERNEL);
    if (!nic->log)
        return -ENOMEM;
    return 0;
}""",
        ("        kvfree(nic->log);\n", ""),
        ("nic_trace(nic, {size})", "nic_trace(nic, 0)"),
        (16384, 65536),
        "",
        ("kvmalloc64", "kvmalloc8m"),
    ),
    Part(
        """\
static int nic_filter(struct nic *nic, size_t size)
{
    struct rule *rule = nic->rule;
    if (!size) {
        kfree(rule->mask);
        kfree(rule);
        nic->rule = NULL;
        return 0;
    }
    rule = kzalloc(48, GFP_KERNEL);
    if (!rule)
        return -ENOMEM;
    nic->rule = rule;
    rule->mask = kzalloc(size, GFP_KERNEL);
    if (!rule->mask)
        return -ENOMEM;
    return 0;
}""",
        ("        kfree(rule->mask);\n", ""),
        ("nic_filter(nic, {size})", "nic_filter(nic, 0)"),
        (200, 500),
        "",
        ("kmalloc64",),
    ),
)


@dataclass(frozen=True, slots=True)
class Driver:
    """A file of a driver, of which two parts leak, and a run of it.

    Attributes:
        lines: the file.
        calls: what is called, in this order.
        leaking: the parts that are wrong.
    """

    lines: tuple[str, ...]
    calls: tuple[CallLine, ...]
    leaking: tuple[Part, ...]

    @classmethod
    def of(cls, seed: int) -> Driver:
        """Return the driver of a seed: three parts, two of them wrong."""
        random = Random(f"pairing leaks {seed}")
        parts = random.sample(_PARTS, 3)
        leaking = random.sample(parts, 2)
        functions = [_OPEN]
        calls = [CallLine(f"nic_open(nic, {random.choice((16, 24, 32))})")]
        for part in parts:
            right, wrong = part.fault
            functions.append(part.code.replace(right, wrong) if part in leaking else part.code)
            size = random.choice(part.sizes)
            *before, last = (call.format(size=size) for call in part.calls)
            calls += [*map(CallLine, before), CallLine(last, part.happens)]
        return cls(tuple("\n\n".join(functions).split("\n")), tuple(calls), tuple(leaking))

    def part_of(self, line: int) -> Part | None:
        """Return the leaking part that a line of the file belongs to, by its function."""
        head = next(one for one in self.lines[line - 1 :: -1] if one.startswith("static"))
        return next((one for one in self.leaking if one.code.startswith(head)), None)
