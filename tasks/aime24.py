"""AIME 2024: 30 competition problems, integer answers from 000 to 999."""

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task


def to_problem(row: Row) -> Problem:
    return Problem(
        id=f"aime24-{row.text('id')}",
        question=row.text("problem"),
        answer=str(int(row.text("answer"))),  # "025" and 25 are one answer
        cluster=str(row.get("url") or "").rpartition("_Problems/")[0].rpartition("/")[2],  # the paper: 2024_AIME_I
    )


TASK = Task(
    name="aime24",
    version="2",
    summary="AIME 2024, both papers: 30 problems, integer answers from 0 to 999.",
    kind="maths",
    source=HubDataset(
        path="HuggingFaceH4/aime_2024",
        split="train",
        to_problem=to_problem,
        rows=30,
        sha256="e61ed6e36bd3b49bac9b68d33dd2613769b7b59e47d0287b9a7c5c7922cfced8",
    ),
    verifier="integer",
    answer_space=1000,
    sampling=SamplingParameters(max_tokens=16384),
    cases=(
        Case("So the walk takes $\\boxed{204}$ minutes.", "correct", "aime24-60"),
        Case("\\boxed{0204}", "correct", "aime24-60"),
        Case("\\boxed{m+n = 204}", "correct", "aime24-60"),
        Case("\\boxed{204 \\text{ or } 205}", "wrong", "aime24-60"),
        Case("\\boxed{205}", "wrong", "aime24-60"),
        Case("The answer is 204.", "no_answer", "aime24-60"),
    ),
)
