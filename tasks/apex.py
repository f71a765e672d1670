"""MathArena Apex 2025, problems of many competitions that strong models fail on: 12 problems, answers as LaTeX expressions.

The number of problems is the published one. The content is not pinned: the set was not at hand when this task was written.
"""

from rlvr_bench.families.competitions import MATHARENA_LICENCE, competition

TASK = competition(
    "apex",
    "MathArena/apex_2025",
    "MathArena Apex 2025, problems of many competitions that strong models fail on: 12 problems, answers as expressions.",
    rows=12,
    licence=MATHARENA_LICENCE,
)
