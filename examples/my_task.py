"""A task of your own is one file. Try it: rlvr-bench evaluate --model fake:0.3 --task examples/my_task.py -n 64"""

from pathlib import Path

from rlvr_bench import Case, LocalFile, Problem, Row, Task


def to_problem(row: Row) -> Problem:
    return Problem(id=row.text("id"), question=row.text("question"), answer=row.text("answer"))


TASK = Task(
    name="my_task",
    version="1",
    summary="Six small sums.",
    source=LocalFile(file=Path(__file__).parent / "my_task.jsonl", to_problem=to_problem),
    prompt="simple-boxed",
    verifier="math",
    cases=(
        Case("It is \\boxed{4}.", "correct", "sum-1"),
        Case("It is \\boxed{5}.", "wrong", "sum-1"),
    ),
)
