"""Minerva's OCW courses: 272 undergraduate science problems, numeric and symbolic answers."""

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task


def to_problem(row: Row) -> Problem:
    from rlvr_bench.verifiers.extraction import last_boxed  # here, because the list of tasks does without verifiers

    answer = row.text("answer", "solution")
    return Problem(
        id=f"minerva-{row.number - 1}",
        question=row.text("problem", "question"),
        answer=last_boxed(answer) or answer,
        cluster=str(row.get("type") or ""),  # the course
    )


TASK = Task(
    name="minerva_math",
    version="1",
    summary="Minerva OCW: 272 undergraduate problems from MIT courses, numeric and symbolic answers.",
    kind="maths",
    source=HubDataset(
        path="math-ai/minervamath",
        split="test",
        to_problem=to_problem,
        rows=272,
        sha256="9ff473f10b6563a55af2b98ea00aaf8c8be8481e29c15c9e40b652fb17b3e523",
    ),
    sampling=SamplingParameters(max_tokens=16384),
    cases=(
        Case("\\boxed{4.5 \\times 10^{33}}", "correct", "minerva-1"),
        Case("\\boxed{4.5e33}", "correct", "minerva-1"),
        Case("\\boxed{4.5 \\times 10^{32}}", "wrong", "minerva-1"),
        Case("\\boxed{41.8^\\circ}", "correct", "minerva-2"),
        Case("\\boxed{2 r_0 \\sqrt{\\pi G \\rho_0}}", "correct", "minerva-30"),
    ),
)
