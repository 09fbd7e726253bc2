"""What the page of a ContextStack is told of its buttons and its questions. For `context_stack`."""

from __future__ import annotations

from typing import Any

from kmemkit.strings import text
from kmemkit.views import _context_quiz as quizzes
from kmemkit.views._context_quiz import UNKNOWN, ContextQuiz
from kmemkit.views._context_runs import FRAMES, Stage

__all__ = ("group_state", "quiz_state")


def group_state(group: str) -> dict[str, Any]:
    """Return the title and the buttons of one group of frames."""
    keys = [key for key, frame in FRAMES.items() if frame.group == group]
    buttons = [
        [key, text(f"context_stack.frame.{key}"), text(f"context_stack.about.{key}")]
        for key in keys
    ]
    return {"title": text(f"context_stack.group.{group}"), "kind": group, "buttons": buttons}


def quiz_state(quiz: ContextQuiz, stage: Stage) -> dict[str, Any]:
    """Return the questions on a situation, what was answered, and how it came out."""
    asked = []
    for question in quizzes.questions(stage):
        verdict = quiz.verdicts.get(question)
        choices = (*quizzes.options(question), UNKNOWN)
        asked.append(
            {
                "key": question,
                "ask": text(f"context_stack.ask.{question}"),
                "options": [[one, quizzes.option_text(question, one)] for one in choices],
                "verdict": verdict
                and {
                    "right": verdict.right,
                    "sentence": verdict.sentence,
                    "idea": verdict.idea_name,
                    "why": verdict.idea_text,
                },
            }
        )
    return {
        "questions": asked,
        "answered": bool(quiz.verdicts),
        "score": quiz.score(),
        "free_play": quiz.free_play,
        "unlocked": quiz.unlocked,
    }
