"""GSM8K: grade-school word problems, integer answers."""

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.errors import DataError
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task


def to_problem(row: Row) -> Problem:
    _, mark, answer = row.text("answer").rpartition("####")
    if not mark:
        raise DataError(f"{row.where}: field 'answer' has no '####' before the final answer")
    return Problem(
        id=f"gsm8k-{row.number - 1}",
        question=row.text("question"),
        answer=answer.strip().replace(",", ""),  # two golds are written 1,080 and the like
    )


TASK = Task(
    name="gsm8k",
    version="1",
    summary="GSM8K test: 1,319 grade-school word problems, integer answers.",
    kind="maths",
    licence="MIT",
    source=HubDataset(
        path="openai/gsm8k",
        config="main",
        split="test",
        to_problem=to_problem,
        rows=1319,
        sha256="9a7e6336f9b2c2a9a009a0bde3604de70bd428bea72739a44db5177e2d365e2a",
    ),
    # Small instruct models often ignore the instruction to use a box. So: a box first, else a stated final answer, else the
    # last number.
    options={"policy": "auto"},
    sampling=SamplingParameters(max_tokens=2048),
    cases=(
        Case("She makes \\boxed{18} dollars.", "correct", "gsm8k-0"),
        Case("\\boxed{\\$18.00}", "correct", "gsm8k-0"),
        Case("\\boxed{26}", "wrong", "gsm8k-0"),
        Case("She sells 16 - 3 - 4 = 9 eggs and makes 9 * 2 = $18 every day.", "correct", "gsm8k-0"),
        Case("The answer is 18. She started with 16 eggs.", "correct", "gsm8k-0"),
        Case("She has 9 left. \\boxed{18}. That is more than 16.", "correct", "gsm8k-0"),
    ),
)
