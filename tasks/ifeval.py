"""IFEval: 541 prompts with instructions that a program can check (arXiv 2311.07911).

The number of prompts and the field names are the published ones. The content is not pinned: the set was not at hand when this
task was written. Checks that count sentences or words in capitals need nltk's data punkt_tab: without them their responses are
errors that name the data.
"""

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.families.instructions import instruction_task, read_prompt
from rlvr_bench.records import Problem
from rlvr_bench.task import Case


def to_problem(row: Row) -> Problem:
    return read_prompt(row, "ifeval")


TASK = instruction_task(
    "ifeval",
    "IFEval: 541 prompts with one to three instructions that a program checks.",
    HubDataset(path="google/IFEval", split="train", to_problem=to_problem, rows=541, sha256=None),
    licence="Apache-2.0",
    # Prompt 1000 asks for 300 words without commas.
    cases=(Case("Sorry, no.", "wrong", "ifeval-1000"),),
)
