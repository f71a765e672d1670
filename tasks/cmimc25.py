"""Carnegie Mellon Informatics and Mathematics Competition 2025: 40 problems, answers as LaTeX expressions.

The number of problems is the published one. The content is not pinned: the set was not at hand when this task was written.
"""

from rlvr_bench.families.competitions import MATHARENA_LICENCE, competition

TASK = competition(
    "cmimc25",
    "MathArena/cmimc_2025",
    "Carnegie Mellon Informatics and Mathematics Competition 2025: 40 problems, answers as expressions.",
    rows=40,
    licence=MATHARENA_LICENCE,
)
