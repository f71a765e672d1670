"""GPQA Diamond: 198 questions of experts in biology, physics and chemistry, four options (arXiv 2311.12022).

The hub asks for a login (`huggingface-cli login`) and for consent to its terms, which forbid showing the questions in plain
text. The number of problems and the field names are the published ones. The content is not pinned: the set was not at hand
when this task was written.
"""

from rlvr_bench.datasets import Row
from rlvr_bench.families.choices import Choice, choice_task

OPTIONS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def read(row: Row) -> Choice:
    name = str(row.values.get("Record ID") or row.number)
    return Choice(
        id=f"gpqa-{name}",
        question=row.text("Question"),
        options=[row.text(option) for option in OPTIONS],
        right=0,
        tier=str(row.values.get("High-level domain") or ""),
        cluster=str(row.values.get("Subdomain") or ""),
    )


TASK = choice_task(
    "gpqa_diamond",
    "Idavidrein/gpqa",
    "GPQA Diamond: 198 questions of experts in the sciences, four shuffled options.",
    read,
    rows=198,
    config="gpqa_diamond",
    split="train",
    licence="CC-BY-4.0",
)
