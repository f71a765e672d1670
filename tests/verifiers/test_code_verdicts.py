# ruff: noqa: E501  the tables are easier to read in long rows
"""Verdicts on samples of the three kinds of problem, as one process that runs the benchmark's own tests would give them."""

from __future__ import annotations

import os

import pytest

from rlvr_bench.records import Problem
from rlvr_bench.verifiers import VerifierPool, open_verifier
from rlvr_bench.verifiers.livecode import HEADER, same_output
from rlvr_bench.verifiers.sandbox import sandbox_problem


@pytest.fixture(autouse=True)
def _sandbox() -> None:
    problem = sandbox_problem()
    if problem and os.environ.get("CI"):
        pytest.fail(f"CI needs a working bubblewrap: {problem}")
    if problem:
        pytest.skip(problem)


Row = tuple[str, dict[str, object], bool]


def wrongly_judged(rows: list[Row]) -> list[tuple[str, object]]:
    """The rows with another verdict than expected, by the end of the response."""
    verifier = open_verifier("code", test_s=2.0, sample_s=20.0)
    items = []
    for number, (response, data, _) in enumerate(rows):
        answer = verifier.extract(response).answer
        assert answer is not None
        items.append((number, answer, Problem(id=str(number), question="", answer="", data=data)))
    with VerifierPool[int](verifier, workers=2, timeout_s=10) as pool:
        verdicts = dict(pool.verify(items))
    return [
        (rows[number][0][-100:], verdict.kind)
        for number, verdict in verdicts.items()
        if (verdict.status == "correct") != rows[number][2]
    ]


def returns(body: str, tests: str, right: bool, before: str = "") -> Row:
    return f"```python\n{before}\ndef f(*a):\n    {body}\n```", {"test_list": tests.split("; ")}, right


NP, LIAR = "import numpy as np", "    def __eq__(self, other): return True\n    __hash__ = None\n"
RETURNED = [
    returns("return np.sum([1, 2])", "assert f() == 3", True, NP),
    returns("return [np.int64(1), np.float32(0.5)]", "assert f() == [1, 0.5]", True, NP),
    returns("return {np.int64(1): np.bool_(True)}", "assert f() == {1: True}", True, NP),
    returns("return np.array([1, 2])", "assert list(f()) == [1, 2]; assert f().tolist() == [1, 2]; assert sum(f()) == 3", True, NP),
    returns("return np.array([1, 2])", "assert f() == [1, 2]", False, NP),  # ambiguous, says NumPy, there too
    returns("return np.array(['a'])", "assert list(f()) == ['a']", True, NP),
    returns("return {'a': 1}.keys()", "assert f() == {'a'}; assert list(f()) == ['a']; assert 'a' in f()", True),
    returns("return {'a': 1}.values()", "assert list(f()) == [1]", True),
    returns("return {'a': 1}.values()", "assert f() == [1]", False),
    returns("return {'a': 1}.items()", "assert sorted(f()) == [('a', 1)]", True),
    returns("return deque([1, 2])", "assert list(f()) == [1, 2]; assert f()[0] == 1", True, "from collections import deque"),
    returns("return deque([1, 2])", "assert f() == [1, 2]", False, "from collections import deque"),
    returns("return range(3)", "assert f() == range(3); assert list(f()) == [0, 1, 2]", True),
    returns("return range(3)", "assert f() == [0, 1, 2]", False),
    returns("return map(str, [1])", "assert list(f()) == ['1']; assert next(f()) == '1'", True),
    returns("return map(str, [1])", "assert f() == ['1']", False),
    returns("return Counter('aab')", "assert f() == {'a': 2, 'b': 1}; assert f()['z'] == 0", True, "from collections import Counter"),
    returns("return OrderedDict(b=1, a=2)", "assert f() == {'a': 2, 'b': 1}; assert list(f()) == ['b', 'a']", True, "from collections import OrderedDict"),
    returns("return P(1, 2)", "assert f() == (1, 2); assert f().x == 1", True, "from collections import namedtuple\nP = namedtuple('P', 'x y')"),
    returns("return E.A", "assert f() == 'a'", True, "import enum\nclass E(str, enum.Enum):\n    A = 'a'"),
    returns("return E.A", "assert f() == 3", False, "import enum\nclass E(enum.Enum):\n    A = 3"),
    returns("return Fraction(1, 2)", "assert f() == 0.5", True, "from fractions import Fraction"),
    returns("return datetime.date(2020, 1, 2)", "assert f() == datetime.date(2020, 1, 2); assert f().year == 2020", True, "import datetime"),
    returns("return 10**6000", "assert f() == 10**6000", True),
    returns("return re.match('(a)', 'ab')", "assert f(); assert f().group(1) == 'a'", True, "import re"),
    returns("a[0].rotate(1)", "x = collections.deque([3, 1])\nf(x)\nassert list(x) == [1, 3]", True),
    returns("return sum(a[0])", "assert f(range(4)) == 6; assert f(x for x in [1, 2]) == 3; assert f({1: 2}.values()) == 2", True),
    returns("return Y([1])", "assert f() == 3", False, f"from collections import deque\nclass Y(deque):\n{LIAR}"),
    returns("return Y(5)", "assert f() == 3", False, f"from fractions import Fraction\nclass Y(Fraction):\n{LIAR}"),
    returns("return Y()", "import numpy; assert numpy.asarray(f()).dtype == object", True, "class Y:\n    __array_interface__ = {'version': 3, 'shape': (1,), 'typestr': '<i8', 'data': (4096, False)}"),
    returns("return np.array([1]).view(Y)", "assert f() == 3", False, f"{NP}\nclass Y(np.ndarray):\n{LIAR}"),
]  # fmt: skip


def test_what_a_function_returns_compares_as_in_one_process() -> None:
    assert wrongly_judged(RETURNED) == []


ADD_ONE: dict[str, object] = {
    "prompt": 'def add_one(x: int) -> int:\n    """ Add one.\n    """\n',
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
    "entry_point": "add_one",
}
SOLUTION = "```python\ndef add_one(x):\n    return x + 1\n```\n"
BLOCKS: list[Row] = [
    (SOLUTION + "Example:\n```python\nprint(add_one(int(input())))\n```", ADD_ONE, True),
    ("```python\nclass A:\n    def add_one(self, x): return x + 1\n```", ADD_ONE, False),
    ("```python\n    return x + 1\n```", ADD_ONE, True),
    (SOLUTION + "```python\ndef add_one(x):\n    return x\n```", ADD_ONE, False),
    ("```python\ndef f(x): return x\n```\n```python\ndef g(x): return -x\n```", {"test_list": ["assert f(1) == 1", "assert g(1) == -1"]}, True),
    ("```python\ndef f(x): return x\n```\n```python\nx = 1\nassert f(x) == 2\n```", {"test_list": ["x = 3\nassert f(x) == 3"]}, True),
]  # fmt: skip


def test_the_block_that_the_tests_need_is_judged() -> None:
    assert wrongly_judged(BLOCKS) == []


def test_a_verdict_holds_the_program_that_ran() -> None:
    verifier = open_verifier("code")
    answer = verifier.extract(SOLUTION + "```python\ny = 2\nprint(add_one(y))\n```").answer
    assert answer is not None
    verdict = verifier.verify(answer, Problem(id="p", question="", answer="", data=ADD_ONE))
    assert (verdict.status, verdict.answer) == ("correct", "def add_one(x):\n    return x + 1")


def program(code: str, given: str, expected: str, right: bool) -> Row:
    return f"```python\n{code}\n```", {"tests": [{"input": given, "output": expected, "testtype": "stdin"}]}, right


def solution(body: str, *cases: tuple[str, str], right: bool) -> Row:
    tests = [{"input": given, "output": expected, "testtype": "functional"} for given, expected in cases]
    return f"```python\nclass Solution:\n{body}\n```", {"fn_name": "f", "tests": tests}, right


CONTESTS = [
    program("q = deque(map(int, input().split()))\nprint(sum(q) + gcd(0, 0))", "1 2", "3", True),  # imports are given
    program("def g(k): return 0 if k == 0 else 1 + g(k - 1)\nprint(g(20000))", "", "20000", True),
    program("print(10**20000 % 7, len(str(10**20000)))", "", f"{10**20000 % 7} 20001", True),
    program("print(3)\n1 / 0", "", "3", False),
    program("print(3)\nsys.exit(1)", "", "3", True),
    program("import threading, time\ndef main():\n    time.sleep(0.2)\n    print(3)\nthreading.Thread(target=main).start()", "", "3", True),
    program("import atexit\natexit.register(lambda: print(3))", "", "3", True),
    program("print('x', 1.0)", "", "x 1", False),
    program("print(1.0, 2)", "", "1 2.00", True),
    program("n = 0\ndef add():\n    global n\n    n += 1\nadd()\nprint(n)", "", "1", True),
    solution("    def f(self, n): return 0 if n == 0 else 1 + self.f(n - 1)", ("1500", "1500"), right=True),
    solution("    def f(self, n): return (n, 2)", ("1", "[1, 2]"), right=True),
    solution("    def f(self, n): return [(n, 2)]", ("1", "[[1, 2]]"), right=False),
    solution("    n = 0\n    def f(self, _):\n        self.n += 1\n        return self.n", ("0", "1"), ("0", "2"), right=True),
    solution("    def f(self, n):\n        import time\n        t = time.process_time()\n        while time.process_time() - t < 0.7: pass\n        return n", *[("1", "1")] * 6, right=True),
    solution("    def f(self, n):\n        while n: pass\n        return n", ("0", "0"), ("1", "1"), right=False),
]  # fmt: skip


def test_contest_problems_are_judged_as_livecodebench_judges_them() -> None:
    assert wrongly_judged(CONTESTS) == []


def test_the_imports_of_contest_problems_restore_what_they_hide() -> None:
    scope: dict[str, object] = {}
    exec(HEADER, scope)
    assert scope["pow"] is pow
    assert scope["open"] is open
    assert scope["datetime"].__class__.__name__ == "module"
    assert {"List", "deque", "inf", "lru_cache", "heappush", "bisect_left"} <= scope.keys()


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [("1\n2\n", "1\n2", True), (" 1 \n2", "1\n2", True), ("1 2", "1\n2", False), ("0.50", "0.5", True), ("1e3", "1000", True), ("a 1.0", "a 1", False), ("1\x0b2", "1 2", True), ("Yes", "YES", False), ("nan", "nan", True), ("nan", "NaN", False), ("", "", True), ("1\n\n2", "1\n2", False)],
)  # fmt: skip
def test_outputs_are_compared_by_line_and_number(output: str, expected: str, same: bool) -> None:
    assert same_output(output, expected) is same
