"""MATH-500: the 500 test problems of MATH that were kept out of PRM800K's training set, LaTeX answers."""

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task


def to_problem(row: Row) -> Problem:
    return Problem(
        id=row.text("unique_id"),
        question=row.text("problem"),
        answer=row.text("answer"),
        tier=f"level {row.text('level')}",
        cluster=str(row.get("subject") or ""),
    )


TASK = Task(
    name="math500",
    version="1",
    summary="MATH-500: 500 competition problems in five difficulty levels, LaTeX answers.",
    kind="maths",
    source=HubDataset(
        path="HuggingFaceH4/MATH-500",
        split="test",
        to_problem=to_problem,
        rows=500,
        sha256="1e60e47f1978a03a4c6927b8a77cc7e86d021c8da8f1cd4814deb4bb0bb5603a",
    ),
    sampling=SamplingParameters(max_tokens=16384),
    cases=(
        Case("\\boxed{\\left(3, \\frac{\\pi}{2}\\right)}", "correct", "test/precalculus/807.json"),
        Case("\\boxed{(3,\\pi/2)}", "correct", "test/precalculus/807.json"),
        Case("\\boxed{(3,\\pi)}", "wrong", "test/precalculus/807.json"),
        Case("\\boxed{-q+p}", "correct", "test/intermediate_algebra/1994.json"),
        Case("\\boxed{q-p}", "wrong", "test/intermediate_algebra/1994.json"),
    ),
)
