# ruff: noqa: E501  the tables are easier to read in long rows
from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlvr_bench.errors import BadArgument, VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers import FunctionVerifier, VerifierPool, open_verifier
from tests.verifiers import misbehaving

HERE = Path(__file__).parent
PROBLEM = Problem(id="p", question="", answer="7")
ROOT = Path(__file__).parents[2]


def misbehave(name: str = "judge") -> FunctionVerifier:
    return FunctionVerifier(f"{HERE / 'misbehaving.py'}:{name}")


def processes_in_session_of(pid: int) -> list[int]:
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == pid and fields[0] != "Z":
                pids.append(int(entry.name))
    return pids


EXPECTED = {
    "loop": "timeout", "swallow": "timeout", "sleep": "timeout", "stop": "timeout", "segv": "crash", "abort": "crash", "kill": "crash",
    "kill server": "crash", "_exit": "crash", "exit": "exception", "interrupt": "exception", "memory": "memory",
    "one big block": "memory", "recursion": "limit", "raise": "exception", "close files": "crash",
}  # fmt: skip


@pytest.mark.parametrize("workers", [1, 3])
def test_misbehaviour_costs_only_its_own_item(workers: int) -> None:
    items = [(f"ok {i}", str(i), PROBLEM) for i in range(40)]
    for position, action in enumerate(EXPECTED):
        items.insert(3 * position, (action, action, PROBLEM))
    with VerifierPool[str](misbehave(), workers=workers, timeout_s=0.3, memory_bytes=512 << 20, wall_s=1.0) as pool:
        verdicts = dict(pool.verify(items))
    assert len(verdicts) == len(items)
    assert {key: verdict.kind for key, verdict in verdicts.items() if key in EXPECTED} == EXPECTED
    assert {verdicts[action].status for action in EXPECTED} == {"error"}
    assert [verdicts[f"ok {i}"].status == "correct" for i in range(40)] == [i == 7 for i in range(40)]


def test_a_failed_item_is_tried_again_once_alone(tmp_path: Path) -> None:
    module = tmp_path / "flaky.py"
    module.write_text(
        textwrap.dedent(f"""
        import os, pathlib
        from rlvr_bench.records import Verdict
        log = pathlib.Path({str(tmp_path / "log")!r})
        def judge(response, problem):
            with log.open("a") as file:
                file.write(response + "\\n")
            if response.startswith("once") and log.read_text().count(response) == 1:
                os._exit(1)
            if response.startswith("always"):
                os._exit(1)
            return Verdict(status="correct")
        """)
    )
    items = [(name, name, PROBLEM) for name in ("a", "once", "b", "always", "c")]
    with VerifierPool[str](FunctionVerifier(f"{module}:judge")) as pool:
        verdicts = dict(pool.verify(items))
    calls = (tmp_path / "log").read_text().split()
    assert {name: verdict.status for name, verdict in verdicts.items()} == dict.fromkeys(
        ("a", "b", "c", "once"), "correct"
    ) | {"always": "error"}
    assert sorted(calls[-2:]) == ["always", "once"], "retries come last, alone"
    assert calls.count("once") == calls.count("always") == 2


def test_a_worker_killed_from_outside_loses_nothing() -> None:
    def items() -> Iterator[tuple[int, str, Problem]]:
        for index in range(3000):
            if index in (500, 1500):
                workers = [pid for pid in processes_in_session_of(server) if pid != server]
                os.kill(workers[0], signal.SIGKILL)
            yield index, str(index), PROBLEM

    with VerifierPool[int](open_verifier("integer"), workers=2) as pool:
        assert pool._crew._server is not None
        server = pool._crew._server._process.pid
        verdicts = dict(pool.verify(items()))
    assert [index for index, verdict in verdicts.items() if verdict.status == "correct"] == [7]
    assert len(verdicts) == 3000
    assert {verdict.status for verdict in verdicts.values()} == {"correct", "wrong"}


def test_processes_are_gone_after_the_pool_and_after_an_abandoned_iteration() -> None:
    pool = VerifierPool[int](misbehave(), workers=2, timeout_s=5)
    with pool:
        assert pool._crew._server is not None
        server = pool._crew._server._process.pid
        for _ in pool.verify((i, str(i) if i < 5 else "sleep", PROBLEM) for i in range(10)):
            break
        assert dict(pool.verify([(1, "7", PROBLEM)]))[1].status == "correct", "usable after an abandoned iteration"
    deadline = time.monotonic() + 5  # a killed process stays visible until its parent has waited for it
    while processes_in_session_of(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_in_session_of(server) == []


def test_a_pool_takes_only_what_it_can_work_on() -> None:
    drawn = 0

    def items() -> Iterator[tuple[int, str, Problem]]:
        nonlocal drawn
        for drawn in range(100_000):
            yield drawn, "1", PROBLEM

    with VerifierPool[int](open_verifier("integer")) as pool:
        for count, _ in enumerate(pool.verify(items())):
            assert drawn < count + 100
            if count == 2000:
                break


def test_workers_are_recycled() -> None:
    with VerifierPool[int](misbehave("process_id"), recycle_items=10) as pool:
        verdicts = dict(pool.verify((i, "x", PROBLEM) for i in range(100)))
    assert len({verdict.answer for verdict in verdicts.values()}) == 10


def test_a_verdict_that_is_none_is_an_error() -> None:
    with VerifierPool[int](misbehave("not_a_verdict")) as pool:
        assert dict(pool.verify([(1, "7", PROBLEM)]))[1].kind == "exception"


def test_truth_values_and_surrogates_come_back() -> None:
    with VerifierPool[int](misbehave("truth")) as pool:
        assert dict(pool.verify([(1, "7", PROBLEM), (2, "8", PROBLEM)]))[1].status == "correct"
    with VerifierPool[int](misbehave("surrogate")) as pool:
        assert dict(pool.verify([(1, "\ud800", PROBLEM)]))[1].status == "wrong"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("raise RuntimeError('no')", "no"),
        ("import os; os._exit(3)", "does not start"),
        ("x = 1", "has no attribute 'judge'"),
        (None, "no Python file"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_one_clear_error(tmp_path: Path, source: str | None, says: str) -> None:
    module = tmp_path / "broken.py"
    if source is not None:
        module.write_text(source)
    with pytest.raises(VerifierError, match=says), VerifierPool[int](FunctionVerifier(f"{module}:judge")) as pool:
        list(pool.verify([(1, "7", PROBLEM)]))


def test_bad_limits_are_refused() -> None:
    for options in (
        {"workers": 0},
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
        {"memory_bytes": 1},
        {"recycle_items": 0},
    ):
        with pytest.raises(BadArgument):
            VerifierPool[int](open_verifier("exact"), **options)


SCRIPT = """
import sys, threading
sys.path.insert(0, {root!r})
from rlvr_bench.records import Problem
from rlvr_bench.verifiers import VerifierPool, open_verifier
print("started", flush=True)
threading.Thread(target=threading.Event().wait, daemon=True).start()
ballast = bytearray(300 << 20)
pool = VerifierPool(open_verifier("math"), workers=2)
pool.__enter__()
print(pool._crew._server._process.pid, flush=True)
problem = Problem(id="p", question="", answer="\\\\frac{{1}}{{2}}")
print(dict(pool.verify([(1, "0.5", problem)]))[1].status, flush=True)
{then}
"""


def run_script(tmp_path: Path, then: str) -> subprocess.Popen[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(root=str(ROOT), then=then))
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` ignores Ctrl-C
    )


def wait_until_gone(server: int) -> None:
    deadline = time.monotonic() + 10
    while processes_in_session_of(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_in_session_of(server) == []


@pytest.mark.parametrize("end", ["return", "interrupt", "kill"])
def test_an_unguarded_script_with_threads_leaves_no_process(tmp_path: Path, end: str) -> None:
    process = run_script(tmp_path, "" if end == "return" else "import time; time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    server = int(process.stdout.readline())
    assert process.stdout.readline() == "correct\n"
    if end == "interrupt":
        process.send_signal(signal.SIGINT)
    if end == "kill":
        process.kill()
    rest, errors = process.communicate(timeout=20)
    assert rest == "", "the script ran once only"
    assert "Traceback" not in errors or end == "interrupt"
    wait_until_gone(server)


def test_a_pool_works_in_a_thread() -> None:
    out: list[Verdict] = []

    def work() -> None:
        with VerifierPool[int](open_verifier("exact")) as pool:
            out.extend(verdict for _, verdict in pool.verify([(1, "7", PROBLEM)]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [verdict.status for verdict in out] == ["correct"]


def test_a_function_is_wrapped_by_where_it_is_defined() -> None:
    verifier = FunctionVerifier.of(misbehaving.truth)
    assert str(verifier.options["function"]).endswith("misbehaving:truth")
    with VerifierPool[int](verifier) as pool:
        assert dict(pool.verify([(1, "7", PROBLEM)]))[1].status == "correct"
    with pytest.raises(VerifierError, match="top level"):
        FunctionVerifier.of(lambda response, problem: True)
    for bad in ("nothing", ":f", "module:", "file.py:a b"):
        with pytest.raises(VerifierError, match="must be"):
            FunctionVerifier(bad)
