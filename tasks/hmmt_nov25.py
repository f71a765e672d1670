"""HMMT November 2025: 30 problems, answers as LaTeX expressions.

The number of problems is the published one. The content is not pinned: the set was not at hand when this task was written.
"""

from rlvr_bench.families.competitions import MATHARENA_LICENCE, competition

TASK = competition(
    "hmmt_nov25",
    "MathArena/hmmt_nov_2025",
    "HMMT November 2025: 30 problems, answers as expressions.",
    rows=30,
    licence=MATHARENA_LICENCE,
)
