"""BIG-Bench Extra Hard, mini: 460 problems of 23 reasoning tasks, twenty each (arXiv 2502.19187).

The rows of the hub's mirror of the set that its field ``mini`` marks. The number of problems and the field names are the
published ones. The content is not pinned: the set was not at hand when this task was written.

Answers are letters, numbers, words or lists. Two are equal if they agree without case, spaces, quotation marks and outer
brackets, or are the same number. The authors' scorer is lenient in the same way; these rules are our own.
"""

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.records import Problem, SamplingParameters, Verdict
from rlvr_bench.task import Case, Task

BRACKETS = {"(": ")", "[": "]", "{": "}"}


def to_problem(row: Row) -> Problem | None:
    if str(row.values.get("mini")) not in ("1", "1.0", "True"):
        return None
    task = row.text("task")
    return Problem(
        id=f"bbeh-{row.number}",
        question=row.text("input"),
        answer=row.text("target"),
        tier=task,
        cluster=task,
    )


def plain(answer: str) -> str:
    """The form in which answers are compared."""
    text = (
        "".join(character for character in answer.casefold() if character not in "'\"`*$").strip().rstrip(".").strip()
    )
    while len(text) > 2 and BRACKETS.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    text = ", ".join(part.strip() for part in " ".join(text.split()).split(","))
    try:
        return repr(float(text)) if len(text) < 30 else text
    except ValueError:
        return text


def verify(response: str, problem: Problem) -> Verdict:
    from rlvr_bench.verifiers.extraction import open_policy  # here, because the list of tasks does without verifiers

    answer = open_policy("boxed")(response).answer
    if answer is None:
        return Verdict(status="no_answer")
    if answer.startswith("\\text{") and answer.endswith("}"):
        answer = answer[len("\\text{") : -1]
    return Verdict(status="correct" if plain(answer) == plain(problem.answer) else "wrong", answer=answer)


TASK = Task(
    name="bbeh_mini",
    version="1",
    summary="BBEH mini: 460 problems of 23 reasoning tasks, short answers.",
    kind="other",
    licence="Apache-2.0",
    source=HubDataset(path="BBEH/bbeh", split="train", to_problem=to_problem, rows=460, sha256=None),
    verifier=verify,
    sampling=SamplingParameters(max_tokens=16384),
    cases=(
        Case("I do not know.", "no_answer"),
        Case("It is (B).", "no_answer"),
        Case("\\boxed{certainly not an answer to anything}", "wrong"),
    ),
)
