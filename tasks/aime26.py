"""AIME 2026: 30 competition problems, integer answers from 000 to 999."""

from rlvr_bench.families.competitions import MATHARENA_LICENCE, competition
from rlvr_bench.task import Case

PAPER = 15  # problems: the first paper comes first

TASK = competition(
    "aime26",
    "MathArena/aime_2026",
    "AIME 2026, both papers: 30 problems, integer answers from 0 to 999.",
    rows=30,
    sha256="6c49c81b26a0d18d30d95530bd07a2a04d13eb7ad0feb4a6952e9637a0b9673a",
    licence=MATHARENA_LICENCE,
    integers=True,
    answer_space=1000,
    cluster=lambda number: "2026_AIME_I" if number <= PAPER else "2026_AIME_II",
    cases=(
        Case("So $m + n = \\boxed{277}$.", "correct", "aime26-1"),
        Case("\\boxed{0277}", "correct", "aime26-1"),
        Case("\\boxed{m+n = 277}", "correct", "aime26-1"),
        Case("\\boxed{277 \\text{ or } 278}", "wrong", "aime26-1"),
        Case("\\boxed{252/25}", "wrong", "aime26-1"),
        Case("The answer is 277.", "no_answer", "aime26-1"),
    ),
)
