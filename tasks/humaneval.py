"""HumanEval: 164 Python functions to complete from signature and docstring, judged by unit tests (arXiv 2107.03374)."""

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task


def to_problem(row: Row) -> Problem:
    prompt = str(row.get("prompt"))  # not stripped: a base model continues it, and white space is Python's syntax
    return Problem(
        id=row.text("task_id"),
        question=prompt,
        answer=str(row.get("canonical_solution")),  # the body alone: what a completion of the prompt looks like
        data={"prompt": prompt, "test": str(row.get("test")), "entry_point": row.text("entry_point")},
    )


_RIGHT = """\
def has_close_elements(numbers, threshold):
    ordered = sorted(numbers)
    return any(b - a < threshold for a, b in zip(ordered, ordered[1:]))
"""
_NEIGHBOURS_ONLY = """\
def has_close_elements(numbers, threshold):
    return any(abs(b - a) < threshold for a, b in zip(numbers, numbers[1:]))
"""
_LEAVES = """\
import sys
def has_close_elements(numbers, threshold):
    sys.exit(0)
"""
_FORGES = """\
def has_close_elements(numbers, threshold):
    print("passed")
    print('{"value": true}')
def check(candidate):
    pass
"""

TASK = Task(
    name="humaneval",
    version="2",
    summary="HumanEval: 164 Python functions from signature and docstring, judged by hidden unit tests.",
    kind="code",
    licence="MIT",
    source=HubDataset(
        path="openai/openai_humaneval",
        split="test",
        to_problem=to_problem,
        rows=164,
        sha256="9037b32d0051eb5db8cb2aece41943d63de21fe743ecab4be8d7a3e560628a54",
    ),
    prompt="python-function",
    verifier="code",
    gold="```python\n{answer}\n```",
    sampling=SamplingParameters(max_tokens=4096),
    cases=(
        Case(f"Sorting brings close ones together.\n```python\n{_RIGHT}```", "correct", "HumanEval/0"),
        Case(_RIGHT, "correct", "HumanEval/0"),
        Case(
            f"```python\n{_RIGHT}```\nFor example:\n```python\nprint(has_close_elements([1.0, 2.0], 0.5))\n```",
            "correct",
            "HumanEval/0",
        ),
        Case(
            "    return any(\n        abs(a - b) < threshold\n"
            "        for i, a in enumerate(numbers) for b in numbers[:i]\n    )",
            "correct",
            "HumanEval/0",
        ),
        Case(f"```python\n{_NEIGHBOURS_ONLY}```", "wrong", "HumanEval/0"),
        Case(f"```python\n{_LEAVES}```", "wrong", "HumanEval/0"),
        Case(f"```python\n{_FORGES}```", "wrong", "HumanEval/0"),
        Case("```python\nimport sys\nprint('ok')\nsys.exit(0)\n```", "wrong", "HumanEval/0"),
        Case("", "no_answer", "HumanEval/0"),
    ),
)
