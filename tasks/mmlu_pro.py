"""MMLU-Pro: 12,032 questions of fourteen subjects, three to ten options (arXiv 2406.01574).

The number of problems and the field names are the published ones. The content is not pinned: the set was not at hand when this
task was written.
"""

from rlvr_bench.datasets import Row
from rlvr_bench.families.choices import Choice, choice_task


def read(row: Row) -> Choice:
    subject = row.text("category")
    return Choice(
        id=f"mmlu_pro-{row.text('question_id')}",
        question=row.text("question"),
        options=list(row.get("options")),
        right=int(row.text("answer_index")),
        tier=subject,
        cluster=str(row.values.get("src") or subject),
    )


TASK = choice_task(
    "mmlu_pro",
    "TIGER-Lab/MMLU-Pro",
    "MMLU-Pro: 12,032 questions of fourteen subjects, up to ten shuffled options.",
    read,
    rows=12032,
    split="test",
    licence="MIT",
)
