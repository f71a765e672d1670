"""Code: the sample runs in a sandbox, the tests run outside it, and only plain values cross.

Three kinds of problem, told apart by what their data holds:

* ``test`` and ``entry_point`` (and ``prompt``): HumanEval, whose test calls ``check(candidate)``;
* ``test_list`` (and ``test_setup_code``): MBPP, whose tests are assert statements;
* ``tests``, a list of ``{"input", "output", "testtype": "stdin" | "functional"}`` (and ``fn_name``): LiveCodeBench.

The test code is the data set's and is run here, in the verifier's own worker; each function of the sample is stood for by
a proxy that sends the arguments into the sandbox. A sample that exits, patches assert, inspects the stack or prints what
a harness would print forges nothing: to pass, its functions must return the right values.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import dataclasses
import hashlib
import json
import re
import signal
import time
import warnings
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers import guest
from rlvr_bench.verifiers.base import PolicyVerifier
from rlvr_bench.verifiers.sandbox import SampleFailure, Sandbox, SandboxLimits

__all__ = ["CodeVerifier"]

_HELPFUL_IMPORTS = (
    "import math, re, sys, collections, itertools, heapq, functools, cmath, string, copy, datetime, random\n"
)
_SAMPLE_IMPORTS = _HELPFUL_IMPORTS + (
    "from typing import *\nfrom collections import *\nfrom itertools import *\nfrom functools import *\nfrom heapq import *\n"
    "from bisect import *\nfrom math import *\nimport bisect, operator, time, json\n"
)


class _SampleRaisedError(Exception):
    """The sample raised something that is not a built-in exception."""


class _Remote:
    """An object that lives in the sandbox: attributes and calls are forwarded, and it equals nothing but itself."""

    def __init__(self, session: _Session, number: int) -> None:
        object.__setattr__(self, "_session", session)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        return self._session.attribute(self._number, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._session.set_attribute(self._number, name, value)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._session.call([], arguments, named, on=self._number)


class _Session:
    """Requests to one sample, each within the time that is left for the whole sample."""

    def __init__(self, sandbox: Sandbox, wall_s: float) -> None:
        self._sandbox, self._deadline = sandbox, time.monotonic() + wall_s

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        reply = self._sandbox.request(message, self._deadline - time.monotonic())
        if "raised" in reply:
            kind = getattr(builtins, str(reply["raised"]), None)
            known = (
                isinstance(kind, type)
                and issubclass(kind, Exception)
                and not issubclass(kind, (AssertionError, MemoryError))
            )
            if known and kind is not None:
                try:
                    raised = kind(str(reply.get("text", "")))
                except TypeError:  # UnicodeDecodeError and its like want more arguments
                    raised = _SampleRaisedError(reply["raised"])
                raise raised
            raise _SampleRaisedError(str(reply["raised"]))
        return reply

    def load(self, code: str) -> set[str]:
        names = self.ask({"op": "load", "code": code}).get("names")
        return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()

    def call(self, path: list[str], arguments: Iterable[Any], named: dict[str, Any], **where: Any) -> Any:
        given = list(arguments)
        message = {
            "op": "call",
            "path": path,
            "args": [self._encode(argument) for argument in given],
            "named": {name: self._encode(argument) for name, argument in named.items()},
            **where,
        }
        reply = self.ask(message)
        for ours, theirs in zip(given, reply.get("args", ()), strict=False):
            _write_back(ours, self._decode(theirs))
        return self._decode(reply.get("value"))

    def attribute(self, number: int, name: str) -> Any:
        return self._decode(self.ask({"op": "attribute", "on": number, "name": name}).get("value"))

    def set_attribute(self, number: int, name: str, value: Any) -> None:
        self.ask({"op": "attribute", "on": number, "name": name, "set": self._encode(value)})

    def _encode(self, value: Any) -> Any:
        return guest.encode(value, _number_of)

    def _decode(self, data: Any) -> Any:
        try:
            return guest.decode(data, lambda number: _Remote(self, int(number)))
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise SampleFailure("protocol") from error


def _number_of(value: Any) -> int:
    if isinstance(value, _Remote):
        return int(object.__getattribute__(value, "_number"))
    raise VerifierError(f"a test passes a {type(value).__name__}, which cannot be sent to the sandbox")


def _write_back(ours: Any, theirs: Any) -> None:
    """Show the caller what the sample did to a mutable argument (sorting in place and the like)."""
    if type(ours) is not type(theirs) or ours == theirs:
        return
    if isinstance(ours, list):
        ours[:] = theirs
    elif isinstance(ours, (dict, set)):
        ours.clear()
        ours.update(theirs)


# ---------------------------------------------------------------------------------------------------- kinds of tests


def _proxy(session: _Session, name: str) -> Callable[..., Any]:
    def candidate(*arguments: Any, **named: Any) -> Any:
        return session.call([name], arguments, named)

    candidate.__name__ = name
    return candidate


def _defines(code: str, name: str) -> bool:
    return (
        re.search(rf"^(?:async\s+)?(?:def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", code, re.MULTILINE)
        is not None
    )


_KEY_CHARS = 20_000
_DEEP = re.compile(r"[-+~(\[{!]{100}|(?:not ){100}")


def _program_key(code: str) -> str:
    """Digest of the syntax tree; of the text where it does not parse, or looks made to exhaust a parser."""
    kept = code
    if len(code) <= _KEY_CHARS and not _DEEP.search(code):
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "invalid escape sequence" is the sample's affair
            kept = ast.dump(ast.parse(code))
    return hashlib.sha256(kept.encode("utf-8", "surrogatepass")).hexdigest()


# Where HumanEval ends a continuation (Chen et al. 2021, arXiv 2107.03374, section 3.2): a base model goes on to write other
# functions and scripts, whose cut-off end would make the whole program invalid.
_STOP = re.compile(r"\n(?=class\b|def\b|#|if\b|print\b|@|```)")


def _check_human_eval(code: str, data: dict[str, Any], session: _Session) -> str | None:
    entry, prompt = str(data["entry_point"]), str(data.get("prompt", ""))
    if not _defines(code, entry):
        code = prompt + _STOP.split(code, maxsplit=1)[0]  # a base model continues the prompt
    elif prompt:
        # What stands before the function in the prompt (imports, helpers that the tests use too) is given to every sample.
        code = prompt[: max(0, prompt.find(f"def {entry}"))] + "\n" + code
    if entry not in session.load(_SAMPLE_IMPORTS + code):
        return "no_function"
    scope: dict[str, Any] = {"__name__": "tests"}
    exec(compile(_HELPFUL_IMPORTS + prompt + "\n    pass\n" + str(data["test"]), "tests.py", "exec"), scope)  # noqa: S102  the data set's own tests, or the sample inside the sandbox
    scope[entry] = _proxy(session, entry)
    scope["check"](scope[entry])
    return None


def _check_asserts(code: str, data: dict[str, Any], session: _Session) -> str | None:
    names = session.load(_HELPFUL_IMPORTS + code)
    setup, tests = str(data.get("test_setup_code") or ""), [str(test) for test in data["test_list"]]
    scope: dict[str, Any] = {"__name__": "tests"}
    exec(compile(_HELPFUL_IMPORTS, "imports.py", "exec"), scope)  # noqa: S102  the data set's own tests, or the sample inside the sandbox
    wanted = {node.id for text in (setup, *tests) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    known = set(dir(builtins))
    stood_for = (wanted & names) - scope.keys() - known
    # A sample that redefines `set` would make set(f(x)) == set(y) true; only a function under test may have such a name.
    for name in stood_for or wanted & names & known:
        scope[name] = _proxy(session, name)
    for text in (setup, *tests):
        try:
            exec(compile(text, "tests.py", "exec"), scope)  # noqa: S102  the data set's own tests, or the sample inside the sandbox
        except NameError:
            return "no_function"
    return None


def _check_cases(code: str, data: dict[str, Any], session: _Session) -> str | None:
    loaded: set[str] | None = None
    for case in data["tests"]:
        if case.get("testtype", "stdin") == "stdin":
            reply = session.ask({"op": "run", "code": code, "input": str(case["input"]), **data["run"]})
            if not reply.get("ended") or reply.get("status") == -signal.SIGXCPU:
                return "timeout"
            if not _same_output(str(reply.get("stdout", "")), str(case["output"])):
                return "failed" if reply.get("status") == 0 else "runtime_error"
            continue
        loaded = session.load(_SAMPLE_IMPORTS + code) if loaded is None else loaded
        name = str(data.get("fn_name") or "")
        path = ["Solution", name] if "Solution" in loaded else [name]
        if path[0] not in loaded:
            return "no_function"
        arguments = [json.loads(line) for line in str(case["input"]).splitlines() if line.strip()]
        value = session.call(path, arguments, {}, instantiate=True)
        if _as_json(value) != json.loads(case["output"]):
            return "failed"
    return None


def _as_json(value: Any) -> Any:
    """Tuples as lists, as LiveCodeBench compares them."""
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    return value


def _same_output(output: str, expected: str) -> bool:
    """Equal line by line without outer white space; else token by token where both tokens are numbers."""
    ours, theirs = expected.strip().splitlines(), output.strip().splitlines()
    return len(ours) == len(theirs) and all(_same_line(a.strip(), b.strip()) for a, b in zip(ours, theirs, strict=True))


def _same_line(expected: str, line: str) -> bool:
    if expected == line:
        return True
    ours, theirs = expected.split(), line.split()
    return len(ours) == len(theirs) and all(a == b or _same_number(a, b) for a, b in zip(ours, theirs, strict=True))


def _same_number(expected: str, token: str) -> bool:
    try:
        a, b = Decimal(expected), Decimal(token)
        return len(token) < 400 and bool(a == b)
    except (InvalidOperation, ValueError):
        return False


_KINDS = (("test", _check_human_eval), ("test_list", _check_asserts), ("tests", _check_cases))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeVerifier(PolicyVerifier):
    """Right if the sample passes all of the problem's tests; a wrong one's kind says how it failed.

    Kinds: ``failed``, ``runtime_error``, ``syntax``, ``no_function``, ``timeout``, ``memory``, ``crashed``, ``protocol``.
    ``test_s`` is CPU time per process of the sample, ``sample_s`` elapsed time for all of a sample's tests. Raises
    VerifierError where there is no sandbox and ``allow_unsafe`` is False, and for a problem without tests.
    """

    name: ClassVar[str] = "code"
    policy: str = "code"
    test_s: float = 4.0
    sample_s: float = 60.0
    memory_bytes: int = 1 << 30
    allow_unsafe: bool = False

    @property
    def wall_s(self) -> float:
        """What a pool adds to its own wall limit: the sample's time, and the sandbox's start."""
        return self.sample_s + 10.0

    def warm_up(self) -> None:
        with Sandbox(self._limits, allow_unsafe=self.allow_unsafe):
            pass

    @property
    def _limits(self) -> SandboxLimits:
        return SandboxLimits(cpu_s=self.test_s, memory_bytes=self.memory_bytes)

    def key(self, answer: str) -> str:
        """The program without its layout and comments: programs of one syntax tree behave alike, and are run once."""
        return _program_key(answer)

    def verify(self, answer: str, problem: Problem) -> Verdict:
        check = next((check for field, check in _KINDS if field in problem.data), None)
        if check is None:
            raise VerifierError(f"problem {problem.id!r} has no tests in its data (test, test_list or tests)")
        run = {"wall_s": 3 * self.test_s, "output_bytes": self._limits.output_bytes}
        kind = self._outcome(check, answer, {**problem.data, "run": run})
        return Verdict(status="wrong" if kind else "correct", answer=answer, kind=kind)

    def _outcome(
        self, check: Callable[[str, dict[str, Any], _Session], str | None], code: str, data: dict[str, Any]
    ) -> str | None:
        with Sandbox(self._limits, allow_unsafe=self.allow_unsafe) as sandbox:
            try:
                return check(code, data, _Session(sandbox, self.sample_s))
            except SampleFailure as failure:
                return failure.kind
            except AssertionError:
                return "failed"
            except (VerifierError, MemoryError):
                raise
            except SyntaxError:
                return "syntax"
            except Exception:  # noqa: BLE001  whatever it raises becomes a result
                return "runtime_error"
