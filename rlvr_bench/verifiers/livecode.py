"""LiveCodeBench's tests, judged by the rules of LiveCodeBench's grader, so that scores compare.

Taken from ``lcb_runner/evaluation/testing_util.py`` of LiveCodeBench at commit 28fef95 (July 2025): the modules imported for
a sample, and their order; a recursion limit of 50,000; integers of up to 50,000 digits in text; the comparison of outputs
and results; an exception fails a program and an exit status does not; all tests of a sample share one instance of
``Solution``. Its 6 s for a test are elapsed time, ours CPU time. Two things differ: there a program runs inside a function,
which breaks ``global`` statements, and reads from a replaced ``sys.stdin``; here it runs as a program.
"""

from __future__ import annotations

import json
import signal
from decimal import Decimal, InvalidOperation
from typing import Any, TypedDict

from rlvr_bench.verifiers.programs import defined_names
from rlvr_bench.verifiers.session import Session

__all__ = ["HEADER", "check_cases", "wanted_names"]

_MODULES = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
)
HEADER = (
    "".join(f"from {module} import *\n" for module in [*_MODULES.split(), "builtins", "typing"])
    + "".join(f"import {module}\n" for module in _MODULES.split())
    + "sys.setrecursionlimit(50000)\n"
)


class Limits(TypedDict):
    """The limits of one test: seconds of CPU time and of elapsed time, and bytes of output."""

    cpu_s: float
    wall_s: float
    output_bytes: int


class _Case(TypedDict):
    """One test; ``input`` and ``output`` of a function's test are JSON."""

    input: str
    output: str


def wanted_names(data: dict[str, object]) -> tuple[frozenset[str], ...]:
    """The names that a sample must define: a class ``Solution``, else the function itself; a program needs none."""
    name = str(data.get("fn_name") or "")
    return (frozenset(["Solution"]), frozenset([name])) if name else ()


def check_cases(code: str, data: dict[str, Any], session: Session) -> str | None:
    """None if the sample passes every test, else its failure. ``data["limits"]`` holds cpu_s, wall_s and output_bytes."""
    limits, path = data["limits"], None
    for case in data["tests"]:
        if case.get("testtype", "stdin") == "stdin":
            kind = _run_program(code, case, limits, session)
        else:
            path = path or _load_function(code, str(data.get("fn_name") or ""), limits, session)
            kind = _call_function(path, case, limits, session) if path else "no_function"
        if kind is not None:
            return kind
    return None


def _run_program(code: str, case: _Case, limits: Limits, session: Session) -> str | None:
    expected = str(case["output"])
    most = max(limits["output_bytes"], 2 * len(expected))
    request = {"op": "run", "code": code, "header": HEADER, "input": str(case["input"]), "output_bytes": most}
    reply = session.ask({**request, "run_s": limits["wall_s"]})
    if not reply.get("ended") or reply.get("status") == -signal.SIGXCPU:
        return "timeout"
    if reply.get("status") != 0:
        return "runtime_error"
    return None if same_output(str(reply.get("stdout", "")), expected) else "failed"


def _load_function(code: str, name: str, limits: Limits, session: Session) -> list[str] | None:
    loaded = session.load(f"{HEADER}\n{code}", cpu_s=limits["cpu_s"], wall_s=limits["wall_s"])
    defined, parses = defined_names(code)
    if parses:
        loaded &= defined  # the imports define an ``add`` too
    path = ["Solution", name] if "Solution" in loaded else [name]
    return path if path[0] in loaded else None


def _call_function(path: list[str], case: _Case, limits: Limits, session: Session) -> str | None:
    arguments = [json.loads(line) for line in str(case["input"]).splitlines() if line.strip()]
    value = session.call(path, arguments, {}, instantiate=True, cpu_s=limits["cpu_s"], wall_s=limits["wall_s"])
    # A tuple counts as a list, as LiveCodeBench's grader has it ("don't penalize"); an inner tuple does not, there and here.
    result = list(value) if isinstance(value, tuple) else value
    return None if result == json.loads(case["output"]) else "failed"


def same_output(output: str, expected: str) -> bool:
    """Whether two outputs are equal line by line, or number by number where both lines hold nothing but numbers."""
    ours, theirs = expected.strip().split("\n"), output.strip().split("\n")
    return len(ours) == len(theirs) and all(_same_line(a.strip(), b.strip()) for a, b in zip(ours, theirs, strict=True))


def _same_line(expected: str, line: str) -> bool:
    if expected == line:
        return True
    try:
        return [Decimal(token) for token in expected.split()] == [Decimal(token) for token in line.split()]
    except (InvalidOperation, ValueError):
        return False
