"""MATH-Beyond: 181 problems that open models of up to 8B parameters did not solve in 1,024 rollouts (arXiv 2510.11653).

The number of problems and the field names (`problem`, `answer`, `topic`) are the published ones. The content is not pinned: the
set was not at hand when this task was written.
"""

from rlvr_bench.families.competitions import competition

TASK = competition(
    "math_beyond",
    "brendel-group/MATH-Beyond",
    "MATH-Beyond: 181 problems that many base models do not solve in 1,024 rollouts.",
    rows=181,
    split="test",
    licence="",
)
