"""OlympiadBench, the open-ended English maths problems without images (OE_TO_maths_en_COMP): 675 problems."""

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.errors import DataError
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task


def to_problem(row: Row) -> Problem:
    answers = row.get("final_answer")
    if not isinstance(answers, list) or len(answers) != 1:
        raise DataError(f"{row.where}: field 'final_answer' should be a list of one text, got {answers!r:.80}")
    return Problem(
        id=f"olympiad-{row.text('id')}",
        question=row.text("question"),
        answer=answers[0].replace("$", "").strip(),  # several values are in one text: "$-1$,$2$,$-2$"
        tier=row.text("subfield"),
        cluster=row.text("subfield"),
    )


TASK = Task(
    name="olympiadbench",
    version="1",
    summary="OlympiadBench, text-only English maths with final answers: 675 problems.",
    kind="maths",
    licence="Apache-2.0",
    source=HubDataset(
        path="Hothan/OlympiadBench",
        config="OE_TO_maths_en_COMP",
        split="train",
        to_problem=to_problem,
        rows=675,
        sha256="16fd222badca15a67bce752da99b2d66bd3ef78ac0e6edd5ca0d0397d0e47470",
    ),
    sampling=SamplingParameters(max_tokens=16384),
    cases=(
        Case("\\boxed{\\frac{1}{2(n+1)}}", "correct", "olympiad-1610"),
        Case("\\boxed{\\frac{1}{2n+1}}", "wrong", "olympiad-1610"),
        Case("\\boxed{2, -1, -2}", "correct", "olympiad-2338"),
        Case("\\boxed{2, -1}", "wrong", "olympiad-2338"),
        Case("\\boxed{4^{1009/2}}", "correct", "olympiad-1612"),
    ),
)
