"""Brown University Math Olympiad 2025: 30 problems, answers as LaTeX expressions.

The number of problems is the published one. The content is not pinned: the set was not at hand when this task was written.
"""

from rlvr_bench.families.competitions import MATHARENA_LICENCE, competition

TASK = competition(
    "brumo25",
    "MathArena/brumo_2025",
    "Brown University Math Olympiad 2025: 30 problems, answers as expressions.",
    rows=30,
    licence=MATHARENA_LICENCE,
)
