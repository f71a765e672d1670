"""Code: the sample runs in a sandbox, the tests run outside it, and only plain values cross.

The fields of a problem's data give its kind:

* ``test`` and ``entry_point`` (and ``prompt``): HumanEval, whose test calls ``check(candidate)``;
* ``test_list`` (and ``test_setup_code``): MBPP, whose tests are assert statements;
* ``tests``, a list of ``{"input", "output", "testtype": "stdin" | "functional"}`` (and ``fn_name``): LiveCodeBench.

The test code comes from the data set and runs here, in the verifier's worker. A proxy replaces each function of the sample
and sends the arguments into the sandbox. A sample that exits, patches assert, inspects the stack or prints a harness's output
gains nothing: to pass, its functions must return the right values.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers import livecode
from rlvr_bench.verifiers.base import PolicyVerifier
from rlvr_bench.verifiers.programs import choose_program, defined_names, program_key
from rlvr_bench.verifiers.sandbox import SampleFailure, Sandbox, SandboxLimits
from rlvr_bench.verifiers.session import Session, proxy

__all__ = ["CodeVerifier"]

_HELPFUL_IMPORTS = (
    "import math, re, sys, collections, itertools, heapq, functools, cmath, string, copy, datetime, random\n"
)
_SAMPLE_IMPORTS = _HELPFUL_IMPORTS + (
    "from typing import *\nfrom collections import *\nfrom itertools import *\nfrom functools import *\nfrom heapq import *\n"
    "from bisect import *\nfrom math import *\nimport bisect, operator, time, json\n"
)


# Where HumanEval ends a continuation (Chen et al. 2021, arXiv 2107.03374, section 3.2): a base model goes on to write other
# functions and scripts, and their cut-off end would make the whole program invalid.
_STOP = re.compile(r"\n(?=class\b|def\b|#|if\b|print\b|@|```)")


def _entry_point(data: dict[str, object]) -> tuple[frozenset[str], ...]:
    return (frozenset([str(data["entry_point"])]),)


def _check_human_eval(code: str, data: dict[str, object], session: Session) -> str | None:
    entry, prompt = str(data["entry_point"]), str(data.get("prompt", ""))
    names, is_program = defined_names(code)
    if entry in names:
        # The prompt's text before the function (imports, helpers that the tests use too) is given to every sample.
        code = prompt[: max(0, prompt.find(f"def {entry}"))] + "\n" + code
    elif is_program:
        return "no_function"
    else:
        code = prompt + _STOP.split(code, maxsplit=1)[0]  # a base model continues the prompt
    if entry not in session.load(_SAMPLE_IMPORTS + code):
        return "no_function"
    scope: dict[str, Any] = {"__name__": "tests"}
    tests = _HELPFUL_IMPORTS + prompt + "\n    pass\n" + str(data["test"])
    exec(compile(tests, "tests.py", "exec"), scope)  # the data set's own tests
    scope[entry] = proxy(session, entry)
    scope["check"](scope[entry])
    return None


def _assertions(data: Mapping[str, Any]) -> list[str]:
    return [str(data.get("test_setup_code") or ""), *(str(test) for test in data["test_list"])]


def _tested_names(data: dict[str, object]) -> tuple[frozenset[str], ...]:
    """The names that the tests use and that neither Python, our imports nor the tests define."""
    names = [node for text in _assertions(data) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)} | set(dir(builtins))
    return (frozenset(node.id for node in names) - bound - defined_names(_HELPFUL_IMPORTS)[0],)


def _check_asserts(code: str, data: dict[str, object], session: Session) -> str | None:
    names = session.load(_HELPFUL_IMPORTS + code)
    scope: dict[str, object] = {"__name__": "tests"}
    exec(compile(_HELPFUL_IMPORTS, "imports.py", "exec"), scope)  # the data set's own
    trees = [ast.parse(text) for text in _assertions(data)]
    wanted = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    known = set(dir(builtins))
    tested = (wanted & names) - scope.keys() - known
    # A sample that redefines `set` would make set(f(x)) == set(y) true: only a function under test may have such a name.
    for name in tested or wanted & names & known:
        scope[name] = proxy(session, name)
    for tree in trees:
        try:
            exec(compile(tree, "tests.py", "exec"), scope)  # the data set's own
        except NameError:
            return "no_function"
    return None


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A kind of problem: the field of its tests, the names that a sample must define, and the function that runs them."""

    field: str
    wanted: Callable[[dict[str, object]], tuple[frozenset[str], ...]]
    check: Callable[[str, dict[str, object], Session], str | None]


_KINDS = (
    _Kind("test", _entry_point, _check_human_eval),
    _Kind("test_list", _tested_names, _check_asserts),
    _Kind("tests", livecode.wanted_names, livecode.check_cases),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeVerifier(PolicyVerifier):
    """Right if the sample passes all of the problem's tests; the kind of a wrong one says how it failed.

    Kinds: ``failed``, ``runtime_error``, ``syntax``, ``no_function``, ``timeout``, ``memory``, ``crashed``, ``protocol``. A
    verdict's answer is the program that ran: the block of the response that defines what the tests need. ``test_s`` is the
    CPU time for all assertions of a problem or for one test case; ``sample_s`` is the elapsed time for all tests of a sample.
    Raises VerifierError where there is no sandbox and ``allow_unsafe`` is False, and for a problem without tests.
    """

    name: ClassVar[str] = "code"
    version: ClassVar[str] = "2"
    policy: str = "code"
    test_s: float = 4.0
    sample_s: float = 60.0
    memory_bytes: int = 1 << 30
    allow_unsafe: bool = False

    @property
    def wall_s(self) -> float:
        """Seconds that a pool adds to its wall limit: the sample's time, and the start of the sandbox."""
        return self.sample_s + 10.0

    def warm_up(self) -> None:
        with Sandbox(self._limits({}), allow_unsafe=self.allow_unsafe):
            pass

    def _limits(self, data: Mapping[str, Any]) -> SandboxLimits:
        """The CPU time of all calls of a sample's functions, which share a process; each call has a smaller limit."""
        cases = [case for case in data.get("tests", ()) if case.get("testtype") == "functional"]
        return SandboxLimits(cpu_s=self.test_s * (len(cases) + 1), memory_bytes=self.memory_bytes)

    def read_gold(self, answer: str) -> str:
        """The answer unchanged: the tests decide, not a reference solution."""
        return answer

    def key(self, answer: str) -> str:
        """The program without layout and comments: programs with equal syntax trees behave alike and run once."""
        return program_key(answer)

    def verify(self, answer: str, problem: Problem) -> Verdict:
        kind = next((kind for kind in _KINDS if kind.field in problem.data), None)
        if kind is None:
            raise VerifierError(f"problem {problem.id!r} has no tests in its data (test, test_list or tests)")
        program = choose_program(answer, *kind.wanted(problem.data))
        limits = self._limits(problem.data)
        case_limits = {"cpu_s": self.test_s, "wall_s": 3 * self.test_s, "output_bytes": limits.output_bytes}
        failure = self._failure(kind, program, {**problem.data, "limits": case_limits}, limits)
        return Verdict(status="wrong" if failure else "correct", answer=program, kind=failure)

    def _failure(self, kind: _Kind, program: str, data: dict[str, object], limits: SandboxLimits) -> str | None:
        with Sandbox(limits, allow_unsafe=self.allow_unsafe) as sandbox:
            try:
                return kind.check(program, data, Session(sandbox, self.sample_s))
            except SampleFailure as failure:
                return failure.kind
            except AssertionError:
                return "failed"
            except (VerifierError, MemoryError):
                raise
            except SyntaxError:
                return "syntax"
            except Exception:  # noqa: BLE001  any error becomes a result
                return "runtime_error"
