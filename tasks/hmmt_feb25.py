"""HMMT February 2025: 30 problems of three rounds, answers as LaTeX expressions."""

from rlvr_bench.families.competitions import MATHARENA_LICENCE, competition
from rlvr_bench.task import Case

ROUNDS = ("algebra_and_number_theory", "combinatorics", "geometry")  # ten problems each, in this order

TASK = competition(
    "hmmt_feb25",
    "MathArena/hmmt_feb_2025",
    "HMMT February 2025: 30 problems in three rounds, answers as expressions.",
    rows=30,
    sha256="33f148a5263fe73948fe61bf3a1e8e863fb528f573182c8723acc82e120e6c64",
    licence=MATHARENA_LICENCE,
    cluster=lambda number: ROUNDS[(number - 1) // 10] if 1 <= number <= 30 else "",
    cases=(
        Case("So it is $\\boxed{\\frac{1}{576}}$.", "correct", "hmmt_feb25-3"),
        Case("\\boxed{1/576}", "correct", "hmmt_feb25-3"),
        Case("\\boxed{\\frac{1}{575}}", "wrong", "hmmt_feb25-3"),
        Case("\\boxed{\\frac{9}{\\sqrt{23}}}", "correct", "hmmt_feb25-7"),
        Case("\\boxed{\\frac{\\pi - 2}{\\pi}}", "correct", "hmmt_feb25-8"),
        Case("\\boxed{\\frac{-1 \\pm \\sqrt{17}}{2}}", "correct", "hmmt_feb25-10"),
        Case("\\boxed{\\frac{-1 + \\sqrt{17}}{2}}", "wrong", "hmmt_feb25-10"),
        Case("\\boxed{2^{25} \\cdot 26!}", "correct", "hmmt_feb25-17"),
        Case("\\boxed{2^{26} \\cdot 26!}", "wrong", "hmmt_feb25-17"),
    ),
)
