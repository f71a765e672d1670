"""MBPP: 500 short Python programs from a sentence and three assert statements (arXiv 2108.07732).

The prompt shows the three tests, as the paper's does: the sentence alone names neither the function nor its arguments. So a
model could answer from the tests alone. This is the task as it is usually given, without the paper's three worked examples.
"""

from rlvr_bench.datasets import HubDataset, Row
from rlvr_bench.errors import DataError
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task

FIRST, LAST = (
    11,
    510,
)  # the test split; 1 to 10 are the paper's worked examples, the rest is for training and validation


def to_problem(row: Row) -> Problem | None:
    number = int(row.text("task_id"))
    if not FIRST <= number <= LAST:
        return None  # a mirror may hold all four splits
    listed = row.get("test_list")
    if not isinstance(listed, list):
        raise DataError(f"{row.where}: field 'test_list' should be a list of assert statements, got {listed!r:.80}")
    tests = [_lines(test) for test in listed]
    return Problem(
        id=f"mbpp-{number}",
        question="\n".join([row.text("text", "prompt"), "Your code should pass these tests:", "", *tests]),
        answer=_lines(row.get("code")),
        data={"test_list": tests, "test_setup_code": _lines(row.values.get("test_setup_code") or "")},
    )


def _lines(code: str) -> str:
    """Code with plain line ends: the set was written with carriage returns."""
    return code.replace("\r\n", "\n")


_RIGHT = """\
def remove_Occ(s, ch):
    first, last = s.find(ch), s.rfind(ch)
    return s if first < 0 else s[:first] + (s[first + 1 : last] if last > first else "") + s[last + 1 :]
"""
_FIRST_ONLY = """\
def remove_Occ(s, ch):
    return s.replace(ch, "", 1)
"""
_LEAVES = """\
import os, sys
def remove_Occ(s, ch):
    sys.exit(0)
"""
_FORGES = """\
class Always(str):
    def __eq__(self, other):
        return True
    __hash__ = str.__hash__
def remove_Occ(s, ch):
    print("All tests passed")
    return Always("heo")
"""

TASK = Task(
    name="mbpp",
    version="2",
    summary="MBPP test: 500 short Python programs, the three tests shown in the prompt.",
    kind="code",
    licence="CC-BY-4.0",
    source=HubDataset(
        path="google-research-datasets/mbpp",
        config="full",
        split="test",
        to_problem=to_problem,
        rows=500,
        sha256="3f2472a33fe8af35dd424686ee39cfd234f29a3bd14b4755f2363449d5768bfa",
    ),
    prompt="python-program",
    verifier="code",
    gold="```python\n{answer}\n```",
    sampling=SamplingParameters(max_tokens=4096),
    cases=(
        Case(f"```python\n{_RIGHT}```", "correct", "mbpp-11"),
        Case(_RIGHT, "correct", "mbpp-11"),
        Case(f"```python\n{_FIRST_ONLY}```", "wrong", "mbpp-11"),
        Case(f"```python\n{_LEAVES}```", "wrong", "mbpp-11"),
        Case("```python\nimport sys\nprint('All tests passed')\nsys.exit(0)\n```", "wrong", "mbpp-11"),
        Case(f"```python\n{_FORGES}```", "wrong", "mbpp-11"),
        Case("```python\ndef remove(s, ch):\n    return s\n```", "wrong", "mbpp-11"),
        Case("```java\nclass A {}\n```", "no_answer", "mbpp-11"),
    ),
)
