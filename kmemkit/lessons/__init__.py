"""Exercises of the lessons: seeded problems, and checks that run the simulator again.

One exercise per module, all of one shape: `problem(seed)` says what is asked, and
`check(answer, seed)` judges an answer. Both are pure functions: a seed gives one problem
and the same verdict. The right answer stands nowhere; a check works it out anew. `questions` holds
the multiple choice, `worlds` the machines that the problems play on.
"""

__all__ = (
    "buddy_trace",
    "conversions",
    "map_reading",
    "non_buddies",
    "order_for_pages",
    "questions",
    "worlds",
)
