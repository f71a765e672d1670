"""AMC 12 2023: 40 competition problems with numeric answers."""

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task


def to_problem(row: Row) -> Problem:
    return Problem(
        id=f"amc23-{row.text('id')}",
        question=row.text("problem", "question"),
        answer=row.text("answer"),  # stored as floats: 27.0 reads as 27
        cluster=str(row.get("url") or "").rpartition("_Problems/")[0].rpartition("/")[2],  # the paper: 2023_AMC_12A
    )


TASK = Task(
    name="amc23",
    version="1",
    summary="AMC 12 2023, both papers without multiple choice: 40 problems, numeric answers.",
    kind="maths",
    source=HubDataset(
        path="math-ai/amc23",
        split="test",
        to_problem=to_problem,
        rows=40,
        sha256="4bd03b57f52619c213a1b95aa32b7ceca14508c12b48c4b4193e3cfdf679bc6d",
    ),
    sampling=SamplingParameters(max_tokens=16384),
    cases=(
        Case("They meet \\boxed{27} miles from A.", "correct", "amc23-0"),
        Case("\\boxed{27.0}", "correct", "amc23-0"),
        Case("\\boxed{\\frac{54}{2}}", "correct", "amc23-0"),
        Case("\\boxed{28}", "wrong", "amc23-0"),
    ),
)
