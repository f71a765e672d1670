"""AIME 2025: 30 competition problems, integer answers from 000 to 999."""

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task

PAPER = 15  # problems: the first paper comes first


def to_problem(row: Row) -> Problem:
    from rlvr_bench.verifiers.extraction import last_boxed  # here, because the list of tasks does without verifiers

    answer = row.text("answer", "solution")
    return Problem(
        id=f"aime25-{row.number - 1}",  # the hub set numbers its rows from 0, some mirrors have no ids
        question=row.text("problem", "question"),
        answer=str(int(last_boxed(answer) or answer)),
        cluster="2025_AIME_I" if row.number <= PAPER else "2025_AIME_II",
    )


TASK = Task(
    name="aime25",
    version="2",
    summary="AIME 2025, both papers: 30 problems, integer answers from 0 to 999.",
    kind="maths",
    source=HubDataset(
        path="math-ai/aime25",
        split="test",
        to_problem=to_problem,
        rows=30,
        sha256="800cc5fa4eb11226b55f0711a91c5f36feb81d073356bcb22ea2e4d49cb3f4ba",
    ),
    verifier="integer",
    answer_space=1000,
    sampling=SamplingParameters(max_tokens=16384),
    cases=(
        Case("The bases are 21 and 49, so the sum is $\\boxed{70}$.", "correct", "aime25-0"),
        Case("\\boxed{70.5}", "wrong", "aime25-0"),
        Case("\\boxed{07}", "wrong", "aime25-0"),
    ),
)
