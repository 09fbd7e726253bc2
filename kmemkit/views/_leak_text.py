"""LeakGym's sentences about a run: its row in the table, its steps, its verdict."""

from __future__ import annotations

from kmemkit.strings import text
from kmemkit.views._leak_driver import Driver
from kmemkit.views._leak_program import Program
from kmemkit.views._leak_quiz import leak_text
from kmemkit.views._leak_run import Run, Thing

__all__ = (
    "failing_text", "finding_lines", "result_text", "row_text", "step_text", "thing_text",
    "verdict_text",
)  # fmt: skip


def failing_text(driver: Driver, run: Run) -> str:
    """Return which acquisition fails in a run."""
    if not run.injected:
        return text("leak_gym.nothing_fails")
    allocator = driver.resource(run.failed).allocator
    return text("leak_gym.inside", path=run.failed, allocator=allocator)


def result_text(run: Run) -> str:
    """Return whether a run is leak-free, in a few words."""
    if run.clean:
        return text("leak_gym.yes")
    if run.ended:
        return text("leak_gym.no_ended")
    if run.leaks:
        return text("leak_gym.no_leak", bytes=f"{run.leaked_bytes:,}")
    return text("leak_gym.no_wrong" if run.findings else "leak_gym.no_freed")


def row_text(driver: Driver, run: Run, hidden: bool) -> str:
    """Return a run's row of the table."""
    what = failing_text(driver, run)
    result = text("leak_gym.hidden_cell") if hidden else result_text(run)
    return f"{text('leak_gym.row_name', n=run.n, what=what):<44}{result}"


def step_text(run: Run, step: int) -> str:
    """Return one step of a run as a line."""
    last, shot = len(run.shots) - 1, run.shots[step]
    return text("leak_gym.step_line", step=step, last=last, line=shot.line + 1, told=shot.told)


def thing_text(thing: Thing) -> str:
    """Return what a resource is at one moment, as a line."""
    state = text(f"leak_gym.state.{thing.state}")
    if thing.state in ("none", "failed"):
        return text("leak_gym.line_short", path=thing.path, state=state)
    if thing.size:
        state = f"{state}, {text('leak_gym.size', bytes=f'{thing.size:,}')}"
    slot = text(f"leak_gym.slot.{thing.slot}")
    return text("leak_gym.line", path=thing.path, state=state, slot=slot)


def verdict_text(run: Run) -> str:
    """Return what came of a run, as sentences."""
    returned = text("leak_gym.returned", value=run.returned)
    freed = [one.path for one in run.shots[-1].things if one.state == "freed"]
    if run.ended:
        said = text("leak_gym.ended", line=run.ended)
    elif run.returned == "0" and freed:
        said = text("leak_gym.verdict_freed", names=", ".join(freed))
    elif run.clean and run.returned == "0":
        said = text("leak_gym.verdict_success")
    elif run.clean:
        said = text("leak_gym.verdict_clean", returned=returned)
    else:
        said = f"{returned}."
    leaks = [text("leak_gym.verdict_leaks", names=leak_text(run))] if run.leaks else []
    return " ".join([said, *leaks])


def finding_lines(program: Program, run: Run) -> list[str]:
    """Return a sentence for everything wrong in a run besides its leaks."""
    lines: list[str] = []
    for found in run.findings:
        number = program.statements[found.index].line + 1
        said = text(f"leak_gym.finding.{found.kind}", line=number, path=found.path)
        if said not in lines:
            lines.append(said)
    return lines
