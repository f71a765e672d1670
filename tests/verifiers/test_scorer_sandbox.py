# ruff: noqa: E501  the tables are easier to read in long rows
"""Third-party scorers: no text of a model runs, and if one did, it could change nothing but its own verdict."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers import VerifierPool, open_verifier, scoring
from rlvr_bench.verifiers.safe_eval import Refused, evaluate
from rlvr_bench.verifiers.sandbox import _warn_unsafe, sandbox_problem

pytest.importorskip("reasoning_gym")
# Every data set of reasoning-gym 0.1.25 whose scorer reads the answer by eval or by sympy's parse_expr, and others by their own.
EVALUATING = ("string_insertion", "spiral_matrix", "binary_matrix", "n_queens", "countdown", "puzzle24", "simple_integration", "intermediate_integration", "polynomial_multiplication")  # fmt: skip
OTHERS = ("chain_sum", "number_sorting", "propositional_logic", "bitwise_arithmetic", "polynomial_equations", "game_of_life", "rubiks_cube", "complex_arithmetic")  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _sandbox() -> None:
    problem = sandbox_problem()
    if problem and os.environ.get("CI"):
        pytest.fail(f"CI needs a working bubblewrap: {problem}")
    if problem:
        pytest.skip(problem)


def entries(dataset: str, size: int = 3) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import reasoning_gym

        made = reasoning_gym.create_dataset(dataset, size=size, seed=11)
        return [json.loads(json.dumps(made[number])) for number in range(size)]


def problem_of(entry: dict[str, Any]) -> Problem:
    return Problem(
        id="p", question=entry["question"], answer=str(entry["answer"]), data={"metadata": entry["metadata"]}
    )


def verify(answer: str, entry: dict[str, Any], **options: Any) -> Verdict:
    return open_verifier("reasoning_gym", **options).verify(answer, problem_of(entry))


def upstream(dataset: str, answer: str, entry: dict[str, Any]) -> float:
    """The package's score, computed in this process; only for harmless answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from reasoning_gym.factory import get_score_answer_fn

        return float(get_score_answer_fn(dataset)(answer, entry))


@pytest.mark.parametrize("dataset", EVALUATING + OTHERS)
def test_harmless_answers_get_the_score_that_the_package_gives(dataset: str) -> None:
    scorers = scoring.open_scorers(allow_unsafe=False)
    for entry in entries(dataset):
        gold = entry["answer"]
        answers = [
            "",
            "zzz",
            "42",
            "[1, 2]",
            "[['_', 'Q'], ['Q', '_']]",
            "-1 + 2*x - 3/4",
            "(8 - 4) * 6",
            "{'a': 1}",
            "I think (x+1)*(x-1)",
        ]
        for answer in [*answers, *([gold, str(list(gold)), str(gold.split()), f"({gold})"] if gold else [])]:
            scored = scorers.score(dataset, answer, entry, 10.0)
            assert (scored.failed, scored.score) == (None, upstream(dataset, answer, entry)), answer
            assert not scored.refused or gold not in answer


@pytest.mark.parametrize(
    ("dataset", "answer", "score"),
    [
        ("simple_integration", "x**2/2 + sin(x)*exp(-x) + log(x)/sqrt(x) + Abs(x) + C", 0.0),
        ("puzzle24", "sqrt(16) * 3! + 0 - 0", 0.01),
        ("countdown", "abs(-3) + gcd(4, 6)", 0.05),
        ("string_insertion", "['A', 'B'] + ['C']", 0.0),
    ],
)  # fmt: skip
def test_mathematics_is_not_called_unsafe(dataset: str, answer: str, score: float) -> None:
    scored = scoring.open_scorers(allow_unsafe=False).score(dataset, answer, entries(dataset, 1)[0], 10.0)
    assert (scored.failed, scored.score, scored.refused) == (None, score, False)


ATTACKS = {
    "runs a command": "__import__('os').system('true')",
    "runs a command in a list": "[__import__('os').system('true') for _ in [1]]",
    "imports by a function": "[importlib.import_module('os')]",
    "walks to object": "().__class__.__bases__[0].__subclasses__()",
    "walks from a symbol": "Symbol('x').__class__.__init__.__globals__",
    "walks from a string": "'{0.__class__}'.format(1)",
    "calls a lambda": "(lambda: 1)()",
    "is named in sympy": "lambdify(x, x)(__import__('os'))",
    "opens a file": "open('/etc/passwd').read()",
    "text in a function": "sin('__import__(\"os\").system(\"true\")')",
    "text in sympify": "sympify('__import__(\"os\").system(\"true\")')",
    "text in a symbol's place": "Integer('__import__(\"os\").getpid()')",
    "evaluates again": "eval('1')",
    "executes": "exec('x = 1')",
    "an f-string": "f'{__import__(\"os\")}'",
    "assigns": "(x := __import__('os'))",
    "a frame": "[f for f in [__import__('sys')._getframe(1)]]",
    "replaces the scorer": "[setattr(__import__('reasoning_gym.factory').factory, 'get_score_answer_fn', lambda n: lambda a, e: 1.0)]",
    "replaces by dictionary": "globals().update(parse_expr=lambda *a: 24)",
    "a decorator's way": "getattr(__builtins__, 'open')",
    "a key": "{}['__class__']",
    "yields": "[(yield 1)]",
}  # fmt: skip


@pytest.mark.parametrize("dataset", EVALUATING)
def test_no_text_runs(dataset: str) -> None:
    first, second = entries(dataset, 2)
    for name, answer in ATTACKS.items():
        verdict = verify(answer, first, dataset=dataset)
        assert (verdict.status, verdict.kind in ("unsafe", "partial", None)) == ("wrong", True), name
    assert verify("__import__('os').system('true')", first, dataset=dataset).kind == "unsafe"
    assert verify("certainly wrong", first, dataset=dataset).status == "wrong"
    assert verify(second["answer"], second, dataset=dataset).status == "correct"


@pytest.mark.parametrize("name", ATTACKS)
def test_evaluation_refuses_what_runs(name: str) -> None:
    with pytest.raises((Refused, SyntaxError, NameError, ValueError)):
        evaluate(
            ATTACKS[name],
            dict.fromkeys(("open", "eval", "exec", "globals", "sympify", "Integer", "sin", "Symbol"), print),
        )


def test_evaluation_has_python_s_values() -> None:
    for text in (
        "1 + 2*3 - 4/5",
        "-7 // 2",
        "[1, 'a', (2.5, None), {1: [True]}, {1, 2}]",
        "2**-1",
        "1 << 4 | 3 ^ 1 & ~0",
        "1e3j",
    ):
        assert evaluate(text) == eval(text)
    assert evaluate("x + 1", {}, {"x": 2}) == 3


# ------------------------------------------------------------------------- what if a text did run: the second wall

# The value is the right answer, to which string_insertion gives 0.1, if and only if `ok` is true after the code has run.
REACHES = {
    "another process": "ok = os.fork() >= 0",
    "a thread": "import _thread\nok = bool(_thread.start_new_thread(time.sleep, (0,)))",
    "a program": "os.execv('/bin/true', ['true'])",
    "a signal to the one that forks": "os.kill(os.getppid(), 9); ok = True",
    "stopping the one that forks": "os.kill(os.getppid(), 19); ok = True",
    "a trace of it": "import ctypes\nok = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0",
    "its memory": "open(f'/proc/{os.getppid()}/mem', 'rb'); ok = True",
    "its descriptors": "ok = bool(os.listdir(f'/proc/{os.getppid()}/fd'))",
    "its environment": "ok = bool(open(f'/proc/{os.getppid()}/environ', 'rb').read())",
    "a file to leave": "open('/tmp/left', 'w'); ok = True",
    "a folder to leave": "os.mkdir('/tmp/left'); ok = True",
    "a link to leave": "os.symlink('a', '/tmp/left'); ok = True",
    "the network": "import socket\nsocket.socket(); ok = True",
    "shared memory": "os.memfd_create('a'); ok = True",
    "the next request": "ok = any(os.read(fd, 1) for fd in range(3, 64) if not stat.S_ISCHR(os.fstat(fd).st_mode) and os.set_blocking(fd, False) is None)",
    "other descriptors": "ok = sum(os.path.exists(f'/proc/self/fd/{fd}') for fd in range(3, 64)) > 1",
    "more CPU time": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (-1, -1)); ok = True",
    "more processes": "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (9, 9)); ok = True",
    "what an earlier one left": "import builtins, reasoning_gym\nok = hasattr(builtins, 'left') or hasattr(reasoning_gym, 'left') or '/tmp/left' in sys.path\nbuiltins.left = reasoning_gym.left = 1; sys.path.append('/tmp/left')",
    "an earlier gold": "import gc\nok = any(isinstance(o, str) and 'EARLIER-GOLD' in o for o in gc.get_objects()) or b'EARLIER-' + b'GOLD' in b''.join(open('/proc/self/mem', 'rb', 0).read(0) for _ in [1])",
}  # fmt: skip
LATER = {
    "replaces the scorer": "import reasoning_gym.dataset as d, reasoning_gym.algorithmic.string_insertion as s\ns.StringInsertionDataset.score_answer = d.ProceduralDataset.score_answer = lambda *a: 1.0",
    "replaces json and float": "import json, builtins\njson.loads = lambda *a: {}; builtins.float = lambda x: 1.0",
    "answers for the next": "import struct\nfor fd in range(64):\n    try: os.write(fd, b'r' + struct.pack('!cd?', b's', 1.0, False) * 3)\n    except OSError: pass",
    "writes frames": "import struct\nbody = b'{\"score\": 1.0, \"refused\": false, \"number\": 3}'\nfor fd in range(64):\n    try: os.write(fd, struct.pack('!I', len(body)) + body)\n    except OSError: pass",
    "exits": "os._exit(0)",
    "crashes": "import ctypes\nctypes.string_at(0)",
    "sleeps": "time.sleep(1000)",
    "burns": "signal.signal(signal.SIGPROF, signal.SIG_IGN)\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
    "takes memory": "kept = []\nwhile True: kept.append(b'x' * (1 << 24))",
    "recurses": "def f(): return f()\nf()",
    "handlers": "[signal.signal(s, signal.SIG_IGN) for s in range(1, 32) if s not in (9, 19)]; import atexit; atexit.register(os._exit, 3)",
    "closes its pipe": "os.closerange(3, 64)",
}  # fmt: skip


@pytest.fixture(scope="module")
def without_guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scoring.Scorers]:
    """Scorers for which `safe_eval` does nothing: a text runs as Python."""
    empty = tmp_path_factory.mktemp("guard") / "safe_eval.py"
    empty.write_text("refusals = []\ndef guard(): pass\n")
    scorers = scoring.Scorers(allow_unsafe=False, guard=empty)
    yield scorers
    scorers.close()


def running(code: str, gold: str) -> str:
    begin = "import os, sys, time, signal, stat\nok = False\n"
    guarded = (
        "try:\n"
        + "".join(f"    {line}\n" for line in code.splitlines())
        + "except (OSError, RuntimeError, ValueError): pass\n"
    )
    return f"(lambda scope: (exec({begin + guarded!r}, scope), {gold!r} if scope['ok'] else '')[1])({{}})"


def entry_with(gold: str) -> dict[str, Any]:
    return {"question": "?", "answer": gold, "metadata": {}}


def test_the_second_wall_is_tested_with_code_that_runs(without_guard: scoring.Scorers) -> None:
    assert without_guard.score("string_insertion", running("ok = True", "AB"), entry_with("AB"), 5.0).score == 0.1


@pytest.mark.parametrize("name", REACHES)
def test_code_that_ran_would_reach_nothing(name: str, without_guard: scoring.Scorers) -> None:
    without_guard.score("string_insertion", running(REACHES[name], "no"), entry_with("EARLIER-GOLD"), 5.0)
    scored = without_guard.score("string_insertion", running(REACHES[name], "AB"), entry_with("AB"), 5.0)
    assert scored.score == 0.0


@pytest.mark.parametrize("name", LATER)
def test_code_that_ran_would_change_no_other_verdict(name: str, without_guard: scoring.Scorers) -> None:
    without_guard.score("string_insertion", running(LATER[name], ""), entry_with("AB"), 0.5)
    assert without_guard.score("string_insertion", "wrong", entry_with("AB"), 5.0) == scoring.Scored(score=0.0)
    assert without_guard.score("string_insertion", "AB", entry_with("AB"), 5.0) == scoring.Scored(score=1.0)


@pytest.mark.parametrize(
    ("name", "failed"),
    [("sleeps", "timeout"), ("burns", "timeout"), ("exits", "crash"), ("crashes", "crash"), ("answers for the next", "crash"), ("writes frames", "crash")],
)  # fmt: skip
def test_an_answer_that_ends_its_process_is_an_error(name: str, failed: str, without_guard: scoring.Scorers) -> None:
    assert without_guard.score("string_insertion", running(LATER[name], ""), entry_with("AB"), 0.5).failed == failed


def test_a_lost_sandbox_is_started_again() -> None:
    entry = entries("chain_sum", 1)[0]
    assert verify(entry["answer"], entry).status == "correct"
    sandbox = scoring.open_scorers(allow_unsafe=False)._sandbox
    assert sandbox is not None
    assert sandbox._process is not None
    os.kill(sandbox._process.pid, signal.SIGKILL)
    sandbox._process.wait()
    assert verify(entry["answer"], entry).status == "correct"


def descendants(root: int) -> set[int]:
    children = {
        int(child) for task in Path(f"/proc/{root}/task").iterdir() for child in (task / "children").read_text().split()
    }
    return children.union(*map(descendants, children)) if children else children


def test_in_a_pool_a_hang_costs_its_own_item_and_nothing_is_left() -> None:
    good = entries("puzzle24", 6)
    items = [(number, entry["answer"], problem_of(entry)) for number, entry in enumerate(good)]
    items.insert(3, (99, "factorial(10**8) * 0 + 24", problem_of(good[0])))
    with VerifierPool[int](open_verifier("reasoning_gym", dataset="puzzle24"), timeout_s=1.0) as pool:
        verdicts = dict(pool.verify(items))
        left = descendants(os.getpid())
    assert (verdicts.pop(99).status, {verdict.status for verdict in verdicts.values()}) == ("error", {"correct"})
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in left) and time.monotonic() < until:
        time.sleep(0.05)
    others = descendants(os.getpid())
    assert not {pid for pid in left if Path(f"/proc/{pid}").exists()} - others


def test_without_a_sandbox_no_scorer_runs_unless_the_user_insists(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = entries("chain_sum", 1)[0]
    sandbox_problem.cache_clear()
    _warn_unsafe.cache_clear()  # it warns once a process, and another test may have come first
    scoring.open_scorers(allow_unsafe=False).close()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    try:
        with pytest.raises(VerifierError, match=r"cannot run third-party scorers .*apt-get install bubblewrap"):
            verify(entry["answer"], entry)
        assert verify(entry["answer"], entry, allow_unsafe=True).status == "correct"
        assert verify("__import__('os').getpid()", entry, allow_unsafe=True).status == "wrong"
        assert "UNSAFE" in caplog.text
    finally:
        scoring.open_scorers(allow_unsafe=True).close()
        sandbox_problem.cache_clear()
