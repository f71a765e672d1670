"""A verifier function that does to its process what the response says."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

from rlvr_bench.records import Problem, Verdict


def _recurse(depth: int) -> int:
    return _recurse(depth + 1) + 1


def _allocate_forever() -> None:
    kept = []
    while True:
        kept.append(bytes(1 << 26))  # not touched, so it costs no CPU time


def _loop_and_swallow() -> None:
    while True:
        try:
            while True:
                pass
        except:  # noqa: E722  what is tested
            continue


def _kill_server() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1)


ACTIONS: dict[str, Callable[[], object]] = {
    "loop": lambda: [None for _ in iter(int, 1)],
    "swallow": _loop_and_swallow,
    "sleep": lambda: time.sleep(10_000),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill server": _kill_server,
    "_exit": lambda: os._exit(0),
    "exit": lambda: sys.exit(0),
    "interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt),
    "memory": _allocate_forever,
    "one big block": lambda: bytearray(1 << 45),
    "recursion": lambda: _recurse(0),
    "raise": lambda: 1 // 0,
    "close files": lambda: os.closerange(3, 256),
}


def judge(response: str, problem: Problem) -> Verdict:
    if response in ACTIONS:
        ACTIONS[response]()
    return Verdict(status="correct" if response == problem.answer else "wrong")


def not_a_verdict(response: str, problem: Problem) -> object:
    return response


def truth(response: str, problem: Problem) -> bool:
    return response == problem.answer


def surrogate(response: str, problem: Problem) -> Verdict:
    return Verdict(status="wrong", answer="\ud800", kind="\udfff")


def process_id(response: str, problem: Problem) -> Verdict:
    return Verdict(status="correct", answer=str(os.getpid()))
