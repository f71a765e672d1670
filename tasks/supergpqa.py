"""SuperGPQA: 26,529 graduate questions of 285 fields, four to ten options (arXiv 2502.14739).

The number of problems and the field names are the published ones. The content is not pinned: the set was not at hand when this
task was written.
"""

from rlvr_bench.datasets import Row
from rlvr_bench.errors import DataError
from rlvr_bench.families.choices import LETTERS, Choice, choice_task


def read(row: Row) -> Choice:
    letter = row.text("answer_letter").upper()
    if len(letter) != 1 or letter not in LETTERS:
        raise DataError(f"{row.where}: field 'answer_letter' is {letter[:20]!r}, expected a letter")
    return Choice(
        id=f"supergpqa-{row.text('uuid')}",
        question=row.text("question"),
        options=list(row.get("options")),
        right=LETTERS.index(letter),
        tier=str(row.values.get("difficulty") or ""),
        cluster=str(row.values.get("field") or ""),
    )


TASK = choice_task(
    "supergpqa",
    "m-a-p/SuperGPQA",
    "SuperGPQA: 26,529 graduate questions of 285 fields, up to ten shuffled options.",
    read,
    rows=26529,
    split="train",
    licence="ODC-BY-1.0",
)
