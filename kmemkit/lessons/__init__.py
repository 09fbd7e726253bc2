"""Exercises of the lessons: seeded problems, and checks that run the simulator again.

One exercise per module, all of one shape: `problem(seed)` says what is asked, and
`check(answer, seed)` judges an answer. Both are pure functions: a seed gives one problem
and the same verdict. The right answer stands nowhere; a check works it out anew. The word before
the first underscore is the lesson; `questions` and `*_questions` hold the multiple choice,
`worlds` and `*_worlds` the machines that the problems play on.
"""

__all__ = (
    "buddy_trace",
    "context_calls",
    "context_check",
    "context_deadlock",
    "context_questions",
    "context_repair",
    "context_worlds",
    "conversions",
    "fragmentation_check",
    "fragmentation_index",
    "fragmentation_moves",
    "fragmentation_questions",
    "fragmentation_scan",
    "fragmentation_worlds",
    "gfp_check",
    "gfp_compose",
    "gfp_decode",
    "gfp_illegal",
    "gfp_questions",
    "gfp_worlds",
    "ladder_cases",
    "ladder_check",
    "ladder_order",
    "ladder_questions",
    "ladder_roads",
    "ladder_worlds",
    "map_reading",
    "non_buddies",
    "order_for_pages",
    "questions",
    "worlds",
    "zone_check",
    "zone_marks",
    "zone_order",
    "zone_questions",
    "zone_serves",
    "zone_worlds",
)
