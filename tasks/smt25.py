"""Stanford Math Tournament 2025: 53 problems, answers as LaTeX expressions.

The number of problems is the published one. The content is not pinned: the set was not at hand when this task was written.
"""

from rlvr_bench.families.competitions import MATHARENA_LICENCE, competition

TASK = competition(
    "smt25",
    "MathArena/smt_2025",
    "Stanford Math Tournament 2025: 53 problems, answers as expressions.",
    rows=53,
    licence=MATHARENA_LICENCE,
)
