"""A verifier that stays open: under threads, event loops, forks, daemonic processes, interrupts, and at the end of a script."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import Verification
from rlvr_bench.errors import BadArgument, UnknownName, VerifierError
from rlvr_bench.records import Verdict
from rlvr_bench.verifiers import FunctionVerifier, open_verifier
from tests.verifiers.test_isolation import misbehave, processes_in_session_of, wait_until_gone

ROOT = Path(__file__).parents[2]


@pytest.fixture
def judged(tmp_path: Path) -> Callable[[str], FunctionVerifier]:
    """A verifier function from source, which may count its calls in the file ``log``."""

    def make(body: str) -> FunctionVerifier:
        head = f"import os, pathlib, sys, time\nlog = pathlib.Path({str(tmp_path / 'log')!r})\n"
        note = "def note(text):\n    with log.open('a') as file:\n        file.write(text + '\\n')\n"
        (tmp_path / "judged.py").write_text(head + note + textwrap.dedent(body))
        return FunctionVerifier(f"{tmp_path / 'judged.py'}:judge")

    return make


def calls(tmp_path: Path) -> list[str]:
    log = tmp_path / "log"
    return log.read_text().split() if log.exists() else []


def server_of(verification: Verification) -> int:
    server = verification._decider._pool._crew._server
    assert server is not None
    return server._process.pid


def test_pairs_are_verified_in_order_and_decided_once(
    tmp_path: Path, judged: Callable[[str], FunctionVerifier]
) -> None:
    judge = judged("def judge(answer, problem):\n    note(answer)\n    return answer == problem.answer\n")
    with Verification(judge, workers=2) as v:
        first = v.verify([("a", "a"), ("b", "a"), ("a", "a"), ("a", "b")])
        again = v.verify([("b", "a"), ("a", "a")])
        assert v.verify_one("a", "b").status == "wrong"
    assert [verdict.status for verdict in first] == ["correct", "wrong", "correct", "wrong"]
    assert [verdict.status for verdict in again] == ["wrong", "correct"]
    assert [verdict.seconds > 0 for verdict in (*first, *again)] == [True, True, False, True, False, False]
    assert sorted(calls(tmp_path)) == ["a", "a", "b"]


def test_errors_carry_their_message_and_are_not_remembered(
    tmp_path: Path, judged: Callable[[str], FunctionVerifier]
) -> None:
    judge = judged("""
        def judge(answer, problem):
            note(answer)
            if answer == "once" and log.read_text().count("once") == 1:
                raise ValueError("no\\x1b[31m such\\ntable")
            return "right" if answer == "text" else True
        """)
    with Verification(judge) as v:
        twice = v.verify([("once", "x"), ("once", "x"), ("text", "x")])
        assert v.verify_one("once", "x").status == "correct"
        assert v.verify_one("once", "x").status == "correct"
    assert [(verdict.status, verdict.kind) for verdict in twice] == [("error", "exception")] * 3
    assert [verdict.message for verdict in twice] == [
        *["ValueError: no\\x1b[31m such"] * 2,
        "the verifier returned str, not a Verdict or a bool",
    ]
    assert calls(tmp_path).count("once") == 2


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("None", "the verifier returned NoneType, not a Verdict or a bool"),
        ("Verdict(status='right')", "the verifier returned a Verdict with the status 'right'"),
        ("Verdict(status=[1])", "the verifier returned a Verdict with the status '[1]'"),
        ("Verdict(status='error', kind='mine', message='a' * 300)", "a" * 197 + "..."),
        ("Verdict(status='error', kind=7, message=b'x')", "b'x'"),
        ("(_ for _ in ()).throw(type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})())", "Odd"),
        ("(_ for _ in ()).throw(AssertionError())", "AssertionError"),
        ("(_ for _ in ()).throw(KeyError('\\ud800'))", "KeyError: '\\ud800'"),
    ],
)
def test_what_a_verifier_says_is_one_line(
    judged: Callable[[str], FunctionVerifier], returned: str, message: str
) -> None:
    source = f"from rlvr_bench.records import Verdict\ndef judge(answer, problem):\n    return {returned}\n"
    with Verification(judged(source)) as v:
        verdict = v.verify_one("x", "x")
    assert (verdict.status, verdict.message) == ("error", message)


def test_the_last_decisions_are_remembered_and_no_more(
    tmp_path: Path, judged: Callable[[str], FunctionVerifier]
) -> None:
    judge = judged("def judge(answer, problem):\n    note(answer)\n    return True\n")
    with Verification(judge, remembered=10) as v:
        for number in range(30):
            v.verify([(str(number), "x"), ("0", "x")])  # 0 is asked for all the time, so it stays
        assert calls(tmp_path) == [str(number) for number in range(30)]
        v.verify_one("1", "x")
        v.verify_one("29", "x")
    assert calls(tmp_path)[30:] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "options", "response", "gold", "status"),
    [
        (("choice",), {}, "The answer is (B).", "B", "correct"),
        (("math",), {}, "The final answer is 42.", "42", "no_answer"),
        (("math",), {"extract": "auto"}, "The final answer is 42.", "42", "correct"),
        (("exact",), {"extract": "whole", "ignore_case": True}, "New york", "new York", "correct"),
        ((open_verifier("integer", policy="gsm8k"),), {}, "#### 1,234", "1234", "correct"),
        (("regex",), {"extract": "regex:= (\\d+)"}, "x = 5", "[5-7]", "correct"),
    ],
)
def test_the_policy_is_the_verifiers_own_unless_one_is_named(
    arguments: tuple[Any], options: dict[str, Any], response: str, gold: str, status: str
) -> None:
    with contextlib.closing(Verification(*arguments, **options)) as v:
        assert v.verify_one(response, gold).status == status


def test_bad_arguments_are_one_line() -> None:
    with pytest.raises(UnknownName, match=r"maths.*Did you mean 'math'.*countdown"):
        Verification("maths")
    with pytest.raises(VerifierError, match=r"policy 'box'.*auto, boxed"):
        Verification("math", extract="box")
    with pytest.raises(VerifierError, match=r"no option colour.*policy"):
        Verification("math", colour="red")
    with pytest.raises(BadArgument, match="open already"):
        Verification(open_verifier("math"), ignore_case=True)
    with pytest.raises(BadArgument, match="workers"):
        Verification("math", workers=0)
    with contextlib.closing(Verification("exact")) as v:
        for pairs, kinds in (
            (["ab"], "str"),
            ([("a", 1)], "str, int"),
            ([("a", "b"), ("a",)], "str"),
            ([None], "NoneType"),
        ):
            with pytest.raises(BadArgument, match=rf"pair \d is '{kinds}': must be two texts"):
                v.verify(pairs)  # type: ignore[arg-type]
        assert v.verify([]) == []


def test_a_gold_that_no_answer_can_equal_is_an_error_of_its_pair() -> None:
    with contextlib.closing(Verification("choice")) as v:
        verdicts = v.verify([("(B)", "B"), ("\\boxed{B}", "Paris"), ("nothing", ""), ("\\boxed{B}", "#### B")])
    assert [verdict.status for verdict in verdicts][1:] == ["error", "error", "correct"]
    assert [verdict.kind for verdict in verdicts][1:3] == ["gold", "gold"]
    assert "Paris" in str(verdicts[1].message)
    assert str(verdicts[2].message)


def test_one_callers_slow_item_does_not_hold_up_another() -> None:
    slow: list[Verdict] = []
    with Verification(misbehave(), workers=2, timeout_s=0.5) as v:
        thread = threading.Thread(target=lambda: slow.extend(v.verify([("sleep", "7"), *[("7", "7")] * 3])))
        thread.start()
        time.sleep(0.3)
        began = time.monotonic()
        statuses = [v.verify_one(str(number), "7").status for number in range(100)]
        took = time.monotonic() - began
        assert thread.is_alive(), "the slow item is still being waited for"
        thread.join()
    assert statuses.count("correct") == 1
    assert took < 2
    assert [(verdict.status, verdict.kind) for verdict in slow] == [("error", "timeout"), *[("correct", None)] * 3]


def test_a_long_call_lets_short_ones_in_between(judged: Callable[[str], FunctionVerifier]) -> None:
    judge = judged("def judge(answer, problem):\n    time.sleep(0.005)\n    return True\n")
    ends: dict[str, float] = {}

    def work(name: str, pairs: list[tuple[str, str]]) -> None:
        assert {verdict.status for verdict in v.verify(pairs)} == {"correct"}
        ends[name] = time.monotonic()

    with Verification(judge, workers=1) as v:
        long = threading.Thread(target=work, args=("long", [(str(number), "x") for number in range(600)]))
        long.start()
        time.sleep(0.5)
        short = [threading.Thread(target=work, args=(f"short {i}", [(f"s{i}", "x")])) for i in range(4)]
        for thread in short:
            thread.start()
        for thread in (*short, long):
            thread.join()
    assert max(ends, key=ends.__getitem__) == "long"
    assert ends["long"] - max(end for name, end in ends.items() if name != "long") > 0.5


@pytest.mark.parametrize("workers", [1, 3])
def test_many_threads_get_their_own_verdicts(workers: int) -> None:
    """Also those whose items kill their worker, next to one that is alone with good ones."""
    outcomes: dict[int, list[tuple[str, str | None]]] = {}

    def work(number: int) -> None:
        bad = ("segv", "7") if number % 3 == 0 else (str(number), "7")
        pairs = [pair for i in range(20) for pair in ((f"{number}-{i}", f"{number}-{i}"), bad)]
        outcomes[number] = [(verdict.status, verdict.kind) for verdict in v.verify(pairs)]

    with Verification(misbehave(), workers=workers, timeout_s=1) as v:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert v.verify_one("7", "7").status == "correct"
    for number in range(8):
        bad = ("error", "crash") if number % 3 == 0 else ("correct" if number == 7 else "wrong", None)
        assert outcomes[number] == [("correct", None), bad] * 20, number


def test_an_event_loop_goes_on_meanwhile() -> None:
    async def main() -> tuple[list[list[Verdict]], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        answered = await asyncio.gather(*(v.averify([(str(i), "7"), ("sleep", "7")]) for i in range(3)))
        ticking.cancel()
        return answered, ticks

    with Verification(misbehave(), workers=2, timeout_s=0.2) as v:
        answered, ticks = asyncio.run(main())
    assert [[verdict.kind or verdict.status for verdict in verdicts] for verdicts in answered] == [
        ["wrong", "timeout"]
    ] * 3
    assert ticks > 20


def _verify_in_child(v: Verification, connection: Any) -> None:
    statuses = [v.verify_one("\\boxed{7}", "7").status, v.verify_one("\\boxed{8}", "7").status]
    connection.send((statuses, multiprocessing.current_process().daemon, server_of(v)))
    connection.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_daemonic_process_has_workers_of_its_own(method: str) -> None:
    context = multiprocessing.get_context(method)
    with Verification("integer") as v:
        ours, theirs = context.Pipe()
        child = context.Process(target=_verify_in_child, args=(v, theirs), daemon=True)  # type: ignore[attr-defined]
        child.start()
        assert ours.poll(60)
        statuses, is_daemon, server = ours.recv()
        child.join(10)
        assert (statuses, is_daemon) == (["correct", "wrong"], True)
        assert server != server_of(v)
        wait_until_gone(server)
        assert v.verify_one("\\boxed{7}", "7").status == "correct"
    assert (
        pickle.loads(pickle.dumps(Verification("exact", extract="whole", ignore_case=True))).verify_one("A", "a").status
        == "correct"
    )


SCRIPT = """
import os, signal, sys, threading, time
sys.path[:0] = [{root!r}]
from rlvr_bench import Verification
from rlvr_bench.verifiers import FunctionVerifier

def server(v):
    return v._decider._pool._crew._server._process.pid

v = Verification(FunctionVerifier({file!r} + ":judge"), workers=2, timeout_s=5)
assert v.verify_one("7", "7").status == "correct"
print(server(v), flush=True)
{then}
"""


def run_script(tmp_path: Path, then: str) -> subprocess.Popen[str]:
    script = tmp_path / "script.py"
    file = str(Path(__file__).parent / "misbehaving.py")
    script.write_text(SCRIPT.format(root=str(ROOT), file=file, then=textwrap.dedent(then)))
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def ended(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines that a script printed; it must end well, and leave no process."""
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    lines = out.splitlines()
    wait_until_gone(int(lines[0]))
    yield from lines[1:]


@pytest.mark.parametrize("thread", [False, True])
def test_a_fork_of_an_open_verification_does_no_harm(tmp_path: Path, thread: bool) -> None:
    busy = "threading.Thread(target=lambda: [v.verify_one(str(i), '7') for i in range(3000)]).start(); time.sleep(0.1)"
    then = f"""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        {busy if thread else ""}
        pid = os.fork()
        if pid == 0:
            assert v.verify_one("-7", "-7").status == "correct"
            assert v.verify_one("-8", "-7").status == "wrong"
            print(server(v), flush=True)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        assert v.verify_one("9", "7").status == "wrong"
        print(server(v))
        """
    process = run_script(tmp_path, then)
    assert process.stdout is not None
    first = process.stdout.readline()
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    childs, ours = out.split()
    assert ours == first.strip() != childs
    wait_until_gone(int(childs))
    wait_until_gone(int(ours))


def test_an_interrupted_call_leaves_the_rest_usable(tmp_path: Path) -> None:
    then = """
        for seconds in (0.02, 0.5):
            threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                v.verify([("sleep", "7"), ("1", "7")])
            except KeyboardInterrupt:
                print("interrupted")
        began = time.monotonic()
        print([verdict.status for verdict in v.verify([("7", "7"), ("2", "7")])], time.monotonic() - began < 3)
        """
    assert list(ended(run_script(tmp_path, then))) == ["interrupted", "interrupted", "['correct', 'wrong'] True"]


AT_WORK = """
threading.Thread(target=v.verify, args=([("sleep", "7")],), daemon=True).start()
time.sleep(0.5)
"""


@pytest.mark.parametrize(
    "then",
    ["", "v.close(); v.close()", "del v", AT_WORK],
    ids=["open", "closed twice", "dropped", "at work in a daemon thread"],
)
def test_a_script_ends_at_once_and_leaves_no_process(tmp_path: Path, then: str) -> None:
    process = run_script(tmp_path, then)
    assert process.stdout is not None
    server = int(process.stdout.readline())
    began = time.monotonic()
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert time.monotonic() - began < 5
    wait_until_gone(server)


def test_closing_ends_a_call_in_another_thread_and_refuses_the_next() -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            v.verify([("sleep", "7")])
        except VerifierError as error:
            raised.append(error)

    with Verification(misbehave(), timeout_s=5) as v:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        server = server_of(v)
        v.close()
        for thread in threads:
            thread.join(5)
    assert [str(error) for error in raised] == ["verifier 'function': its workers have been closed"] * 2
    with pytest.raises(VerifierError, match="have been closed"):
        v.verify_one("7", "7")
    with pytest.raises(VerifierError, match="have been closed"), v:
        pass
    wait_until_gone(server)


def test_a_server_that_is_killed_is_started_again() -> None:
    with Verification("integer", workers=2) as v:
        assert v.verify_one("\\boxed{7}", "7").status == "correct"
        server = server_of(v)
        for pid in processes_in_session_of(server):
            os.kill(pid, signal.SIGKILL)
        assert [verdict.status for verdict in v.verify([("\\boxed{8}", "7"), ("\\boxed{7}", "07")])] == [
            "wrong",
            "correct",
        ]
        assert server_of(v) != server


def test_a_call_costs_little_beyond_its_decision() -> None:
    """Under 2 ms of CPU time, here and in the workers, for a pair that nobody asked before; next to nothing after."""

    def spent() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    def cost(numbers: range) -> float:
        began = spent()
        with Verification("exact", extract="whole") as v:
            for number in numbers:
                v.verify_one(str(number), "x")
        return spent() - began

    starting = cost(range(1))
    assert (cost(range(1000)) - starting) / 1000 < 2e-3
