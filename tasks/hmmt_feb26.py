"""HMMT February 2026: 33 problems, answers as LaTeX expressions.

The number of problems is the published one. The content is not pinned: the set was not at hand when this task was written.
"""

from rlvr_bench.families.competitions import MATHARENA_LICENCE, competition

TASK = competition(
    "hmmt_feb26",
    "MathArena/hmmt_feb_2026",
    "HMMT February 2026: 33 problems, answers as expressions.",
    rows=33,
    licence=MATHARENA_LICENCE,
)
