"""What the page of a LeakGym is told: lines and their choices, table, steps."""

from __future__ import annotations

from typing import Any

from kmemkit.strings import text
from kmemkit.views._leak_driver import Choice, Driver, Plan
from kmemkit.views._leak_run import Run, Thing
from kmemkit.views._leak_text import failing_text, result_text, step_text, thing_text

__all__ = ("code_state", "shot_state", "table_state")


def code_state(plan: Plan) -> list[dict[str, Any]]:
    """Return the lines of the function, with what can be chosen in them."""
    rows = []
    for line in plan.lines:
        indent = len(line.text) - len(line.text.lstrip())
        row: dict[str, Any] = {"indent": indent, "text": line.text.strip()}
        if line.choice:
            row["choice"] = _choice_state(plan, line.choice)
        if line.movable >= 0:
            label = line.text.rstrip(":")
            row["move"] = {
                "step": line.movable,
                "up": text("leak_gym.move_up", label=label),
                "down": text("leak_gym.move_down", label=label),
                "first": line.movable == 0,
                "last": line.movable == len(plan.order) - 1,
            }
        rows.append(row)
    return rows


def _choice_state(plan: Plan, choice: Choice) -> dict[str, Any]:
    resources = plan.driver.resources
    if choice.do == "free":
        name = text("leak_gym.choose_free", label=resources[plan.order[choice.step]].label)
    else:
        name = text(f"leak_gym.choose_{choice.do}", path=resources[choice.step].path)
    return {
        "do": choice.do,
        "step": choice.step,
        "name": name,
        "value": choice.value,
        "options": list(choice.options),
    }


def table_state(driver: Driver, run: Run, hidden: bool) -> dict[str, Any]:
    """Return a run's row of the table."""
    what = failing_text(driver, run)
    return {
        "n": run.n,
        "what": what,
        "name": text("leak_gym.row_name", n=run.n, what=what),
        "result": text("leak_gym.hidden_cell") if hidden else result_text(run),
        "clean": None if hidden else run.clean,
    }


def shot_state(driver: Driver, run: Run) -> list[dict[str, Any]]:
    """Return the steps of a run."""
    return [
        {
            "line": shot.line,
            "told": step_text(run, number),
            "sign": shot.sign,
            "holder": shot.holder,
            "held_by": text(f"leak_gym.holder_{shot.holder or 'nobody'}"),
            "log": list(shot.log),
            "things": [_thing_state(driver, thing) for thing in shot.things],
        }
        for number, shot in enumerate(run.shots)
    ]


def _thing_state(driver: Driver, thing: Thing) -> dict[str, Any]:
    one = driver.resource(thing.path)
    return {
        "path": thing.path,
        "name": one.path.rpartition("->")[2],
        "parent": one.parent,
        "label": f"{one.key}: {one.allocator}()" if one.parent else f"struct {driver.name}_dev",
        "state": thing.state,
        "told": text(f"leak_gym.state.{thing.state}"),
        "size": text("leak_gym.size", bytes=f"{thing.size or one.size:,}"),
        "slot": thing.slot,
        "line": thing_text(thing),
    }
