"""BeyondAIME: 100 problems harder than AIME's, integer answers (ByteDance Seed).

The number of problems and the field names (`problem`, `answer`) are the published ones. The content is not pinned: the set was
not at hand when this task was written.
"""

from rlvr_bench.families.competitions import competition

TASK = competition(
    "beyond_aime",
    "ByteDance-Seed/BeyondAIME",
    "BeyondAIME: 100 new problems above the level of AIME, integer answers.",
    rows=100,
    split="test",
    licence="",
    integers=True,
)
