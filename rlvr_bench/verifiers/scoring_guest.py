"""What runs inside the sandbox to score answers: it loads a third party's scorers once, and forks a process for each answer.

The process that forks never reads an answer, a question or a gold: the request's second frame is read by the child, which has
no other, can start nothing, signal nobody and write nowhere but into its own pipe, and is gone before the next request. What
it sends is a number of fixed size. So nothing is left of one answer when the next one comes, and no answer sees another's gold.

Only the standard library and what is scored with: this file's text is handed to a bare interpreter, it is not imported there.
Frames: 4-byte length, JSON.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import signal
import struct
import sys
import time
import types
from collections.abc import Callable
from typing import Any

FRAME = struct.Struct("!I")
_REPLY = struct.Struct("!cd?")  # how it ended, the score, whether the text asked for more than arithmetic
_READ = b"r"  # the child has the whole request: the pipe is at the next one
_ENDS = {b"e": "exception", b"m": "memory", b"l": "limit"}
_STARVED_FACTOR = 5
_SET_DUMPABLE, _SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _SECCOMP_FILTER = 4, 38, 22, 2
_TIMEOUTS = (signal.SIGPROF, signal.SIGXCPU)

Score = Callable[[str, dict[str, Any]], float]


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(descriptor, min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return data


def _read_frame(descriptor: int) -> Any:
    return json.loads(_read(descriptor, FRAME.unpack(_read(descriptor, FRAME.size))[0]))


class _Kernel:
    """What Python has no function for; the system call filter is prepared once."""

    def __init__(self, program: bytes) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        # Not os.fork: what Python and its libraries do after one touches twice as many pages as scoring an answer does, and is
        # needed where there are threads, and there are none. PyDLL keeps the interpreter's lock meanwhile.
        self.fork = ctypes.PyDLL(None, use_errno=True).fork
        self._text = ctypes.create_string_buffer(program, len(program)) if program else None
        if self._text is not None:
            fields = struct.pack("@HP", len(program) // 8, ctypes.addressof(self._text))
            self._header = ctypes.create_string_buffer(fields, len(fields))

    def hide(self) -> None:
        """Nobody of the same user can trace this process or read its memory and descriptors."""
        self._libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)

    def apply(self) -> None:
        """From now on; raises OSError where the kernel does not take it."""
        if self._text is None:
            return
        self._libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if self._libc.prctl(_SET_SECCOMP, _SECCOMP_FILTER, self._header, 0, 0):
            raise OSError(ctypes.get_errno(), "seccomp")


def _confine(spoken: dict[str, Any]) -> None:
    if os.getuid() == 0 and spoken["uid"]:
        os.setgroups([])
        os.setgid(spoken["uid"])
        os.setuid(spoken["uid"])
    for which, limit in (
        (resource.RLIMIT_AS, spoken["memory_bytes"]),
        (resource.RLIMIT_FSIZE, spoken["file_bytes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, spoken["processes"]),
    ):
        resource.setrlimit(which, (limit, limit))
    sys.set_int_max_str_digits(50_000)


def _confine_child(cpu_s: float, kernel: _Kernel) -> None:
    """CPU time by two clocks, no other process, no file; none of it can be undone."""
    whole = int(cpu_s) + 1
    for which, soft, hard in (
        (resource.RLIMIT_CPU, whole, whole + 1),
        (resource.RLIMIT_NPROC, 0, 0),
        (resource.RLIMIT_FSIZE, 0, 0),
    ):
        resource.setrlimit(which, (soft, hard))
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # nobody handles its signal: it ends the process
    kernel.apply()


def _answer(score: Score, requests: int, reply: int, cpu_s: float, kernel: _Kernel, refusals: list[str]) -> None:
    """In the child: read the request, decide it, say so, end."""
    try:
        os.closerange(3, requests)
        os.closerange(requests + 1, reply)
        request = _read_frame(requests)
        os.close(requests)
        os.write(reply, _READ)
        _confine_child(cpu_s, kernel)
        end, value = b"s", 0.0
        try:
            value = float(score(request["answer"], request["entry"]))
        except MemoryError:
            end = b"m"
        except RecursionError:
            end = b"l"
        except BaseException:  # noqa: BLE001  whatever it raises becomes a result
            end = b"e"
        os.write(reply, _REPLY.pack(end, value, bool(refusals)))
    finally:
        os._exit(0)


def _collect(pid: int, reply: int, cpu_s: float) -> tuple[bytes, bool]:
    """What a child said, how it ended, and whether that was because its time was up."""
    said, late = b"", False
    started = time.monotonic()
    patience = 4 * cpu_s + 1
    while len(said) <= len(_READ) + _REPLY.size:
        left = started + patience - time.monotonic()
        if left <= 0 and _runs(pid) and patience < _STARVED_FACTOR * (4 * cpu_s + 1):
            patience += cpu_s  # runnable, but the machine gives it no CPU
            continue
        if left <= 0 or not select.select([reply], [], [], left)[0]:
            late = left <= 0 or not _runs(pid)
            if late:
                break
            continue
        part = os.read(reply, 64)
        if not part:
            break
        said += part
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    # The hard limit of CPU time kills as we do, and comes after the soft one.
    return said, late or killed in _TIMEOUTS or (killed == signal.SIGKILL and used.ru_utime + used.ru_stime >= cpu_s)


def _runs(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", errors="replace") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] == "R"
    return False


def _decide(score: Score, requests: int, cpu_s: float, kernel: _Kernel, refusals: list[str]) -> dict[str, Any]:
    read_end, write_end = os.pipe()
    pid = kernel.fork()
    if pid < 0:
        raise OSError(ctypes.get_errno(), "fork")
    if pid == 0:
        _answer(score, requests, write_end, cpu_s, kernel, refusals)
    os.close(write_end)
    try:
        said, timed_out = _collect(pid, read_end, cpu_s)
    finally:
        os.close(read_end)
    if said[:1] == _READ and len(said) == len(_READ) + _REPLY.size:
        end, value, refused = _REPLY.unpack(said[1:])
        if end == b"s":
            return {"score": value, "refused": refused}
        return {"failed": _ENDS.get(end, "crash"), "lost": False}
    return {"failed": "timeout" if timed_out else "crash", "lost": said[:1] != _READ}


class _ReasoningGym:
    """The scorers of reasoning-gym's data sets, each made once."""

    def __init__(self) -> None:
        from reasoning_gym.factory import DATASETS, get_score_answer_fn

        self.names, self._make, self._made = DATASETS, get_score_answer_fn, {}  # type: ignore[var-annotated]

    def scorer(self, name: str) -> Score:
        if name not in self._made:
            self._made[name] = self._make(name)
        found: Score = self._made[name]
        return found


def _serve(requests: int, replies: int, gym: _ReasoningGym, kernel: _Kernel, refusals: list[str]) -> None:
    while True:
        request = _read_frame(requests)
        try:
            if request["dataset"] not in gym.names:
                reply: dict[str, Any] = {"unknown": sorted(gym.names), "lost": True}
            else:
                score = gym.scorer(request["dataset"])
                gc.freeze()  # what all answers share is not written to by their collections
                reply = _decide(score, requests, request["cpu_s"], kernel, refusals)
        except (OSError, ValueError, LookupError, TypeError, MemoryError, AttributeError, ImportError) as error:
            reply = {"failed": "exception", "text": f"{type(error).__name__}: {error}"[:500], "lost": True}
        _send(replies, {**reply, "number": request["number"]})
        if reply.get("lost"):
            return


def _send(descriptor: int, reply: dict[str, Any]) -> None:
    body = json.dumps(reply).encode()
    with os.fdopen(os.dup(descriptor), "wb") as stream:
        stream.write(FRAME.pack(len(body)) + body)


def main(spoken: dict[str, Any]) -> None:
    """Load the scorers, then serve requests until the grader hangs up."""
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    _confine(spoken)
    kernel = _Kernel(base64.b64decode(spoken["filter"]))
    safe_eval = types.ModuleType("safe_eval")
    exec(compile(spoken["safe_eval"], "safe_eval.py", "exec"), vars(safe_eval))  # noqa: S102  our own file's text
    sys.path.extend(spoken["path"])
    greeting = _read_frame(requests)
    try:
        gym = _ReasoningGym()
        reply = {"ready": True}
    except ImportError as error:
        reply = {"missing": str(error)[:500]}  # type: ignore[dict-item]
    kernel.hide()
    safe_eval.guard()
    gc.collect()
    gc.disable()
    _send(replies, {**reply, "number": greeting["number"]})
    if "ready" in reply:
        with contextlib.suppress(EOFError):
            _serve(requests, replies, gym, kernel, safe_eval.refusals)


if __name__ == "__main__" and len(sys.argv) > 1:
    main(json.loads(sys.argv[1]))
