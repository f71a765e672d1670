"""The worker side of isolation: a fork server that loads and warms the verifier, and the workers it forks to decide items.

Why not `multiprocessing`: its fork server imports the user's ``__main__`` into every worker, so an unguarded script would
start itself again; and it does not say which item a dead worker was deciding. Here the server is a fresh interpreter
without threads and without the caller's memory. It imports this module, unpickles the verifier, warms it up once and forks.

The protocol: frames of a 4-byte length and a payload. Requests are pickles (the caller is trusted). Replies are `Reply` in
MessagePack, so that a worker that ran hostile code cannot make its parent run code.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING

import msgspec

from rlvr_bench.errors import in_one_line
from rlvr_bench.records import STATUSES, Problem, Status, Verdict

if TYPE_CHECKING:
    from rlvr_bench.verifiers.protocol import Verifier

__all__ = ["Limits", "Reply", "receive_frame", "serve"]

FRAME = struct.Struct("!I")
MEMORY_EXIT = 77  # the exit status of a worker without the memory to send a reply
_PR_SET_PDEATHSIG = 1
_REARM_S = 0.25  # the CPU deadline fires again after this, in case a bare `except:` caught it


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a worker: CPU seconds per item, address space, and the items and memory after which it is replaced."""

    timeout_s: float
    memory_bytes: int
    max_items: int
    recycle_bytes: int


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """A worker's result for one item; ``retire`` means that the worker ends now and must be replaced."""

    status: Status
    kind: str | None
    answer: str | None
    seconds: float
    message: str | None = None
    retire: bool = False


class CpuTimeout(BaseException):
    """The CPU deadline; not an Exception, so that `except Exception` in a verifier does not catch it."""


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Read ``size`` bytes; raises EOFError when the other side has ended."""
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def receive_frame(connection: socket.socket) -> bytes:
    """Read one frame; raises EOFError when the other side has ended."""
    (size,) = FRAME.unpack(receive_exactly(connection, FRAME.size))
    return receive_exactly(connection, size)


def send_frame(connection: socket.socket, payload: bytes) -> None:
    """Write one frame."""
    connection.sendall(FRAME.pack(len(payload)) + payload)


# ---------------------------------------------------------------------------------------------------- the fork server


def serve(control_fd: int) -> None:
    """Run the fork server on an inherited socket until its parent has ended, then end every worker."""
    control = socket.socket(fileno=control_fd)
    children: set[int] = set()
    try:
        verifier, limits, problem = _prepare(control)
        send_frame(control, problem.encode())
        if verifier is not None:
            _serve_requests(control, verifier, limits, children)
    except (EOFError, ConnectionError):
        pass
    finally:
        for pid in children:
            kill_group(pid)
        for pid in children:  # else they stay zombies where nobody collects orphans, and their CPU time is not counted
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
    os._exit(0)


def _prepare(control: socket.socket) -> tuple[Verifier | None, Limits, str]:
    """Unpickle the verifier and warm it up; the third item is the error message, or empty."""
    try:
        verifier, limits = pickle.loads(receive_frame(control))  # from the parent process
        if getattr(verifier, "warm_before_fork", False):
            verifier.warm_up()
    except (EOFError, ConnectionError):
        raise
    except BaseException as error:  # any error becomes a result
        return None, Limits(timeout_s=1, memory_bytes=0, max_items=1, recycle_bytes=0), _describe(error)
    gc.collect()
    gc.freeze()
    return verifier, limits, ""


def _serve_requests(control: socket.socket, verifier: Verifier, limits: Limits, children: set[int]) -> None:
    while True:
        command, descriptors, _, _ = socket.recv_fds(control, 5, 1)
        if not command:
            return
        operation, argument = command[:1], int.from_bytes(command[1:5], "big")
        if operation == b"s":
            connection = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if pid == 0:
                control.close()
                _work_and_exit(connection, verifier, limits)
            connection.close()
            children.add(pid)
            control.sendall(pid.to_bytes(4, "big"))
        else:
            # Until here the process is at worst a zombie, so its pid cannot belong to another process.
            kill_group(argument)
            _, status = os.waitpid(argument, 0)
            children.discard(argument)
            control.sendall(status.to_bytes(4, "big"))


def kill_group(pid: int) -> None:
    """SIGKILL a worker and its process group."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------------------------------------------- one worker


def _work_and_exit(connection: socket.socket, verifier: Verifier, limits: Limits) -> None:
    code = 1
    try:
        _confine(limits)
        _work(connection, verifier, limits)
        code = 0
    except MemoryError:
        code = MEMORY_EXIT
    except (EOFError, ConnectionError):
        code = 0
    finally:
        os._exit(code)


def _confine(limits: Limits) -> None:
    """New process group, death with the server, no core files, limited address space, handler of the CPU deadline."""
    os.setpgid(0, 0)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    signal.signal(signal.SIGPROF, _raise_timeout)


def _raise_timeout(_signal: int, _frame: FrameType | None) -> None:
    raise CpuTimeout


def _work(connection: socket.socket, verifier: Verifier, limits: Limits) -> None:
    try:
        verifier.warm_up()
        send_frame(connection, b"")
    except BaseException as error:  # any error becomes a result
        send_frame(connection, _describe(error).encode())
        return
    for served in range(1, limits.max_items + 1):
        answer, problem = pickle.loads(receive_frame(connection))  # from the parent process
        reply = decide(verifier, answer, problem, limits.timeout_s)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        worn = served == limits.max_items or resident > limits.recycle_bytes or reply.kind == "memory"
        send_frame(connection, _encode(msgspec.structs.replace(reply, retire=worn)))
        if worn:
            return


def decide(verifier: Verifier, answer: str, problem: Problem, timeout_s: float) -> Reply:
    """One verdict under the CPU deadlines; every failure of the verifier but the death of its process becomes a reply."""
    started = time.perf_counter()
    try:
        _set_deadlines(timeout_s)
        try:
            verdict = verifier.verify(answer, problem)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if unfit := _unfit(verdict):
            verdict = Verdict(status="error", kind="exception", message=unfit)
    except CpuTimeout:
        verdict = Verdict(status="error", kind="timeout")
    except MemoryError:
        verdict = Verdict(status="error", kind="memory")
    except RecursionError:
        verdict = Verdict(status="error", kind="limit", message="RecursionError")
    except BaseException as error:  # any error becomes a result
        verdict = Verdict(status="error", kind="exception", message=_error_text(error))
    signal.setitimer(signal.ITIMER_PROF, 0)  # again: the deadline may have fired inside the `finally` above
    kind, given, message = (_as_text(value) for value in (verdict.kind, verdict.answer, verdict.message))
    message = None if message is None else in_one_line(message)
    return Reply(verdict.status, kind, given, time.perf_counter() - started, message)


def _unfit(verdict: object) -> str:
    """What is wrong with a verifier's return value; empty where it is fine."""
    if not isinstance(verdict, Verdict):
        kind = f"{type(verdict).__module__}.{type(verdict).__name__}".removeprefix("builtins.")
        return f"the verifier returned {kind}, not a Verdict or a bool"
    if verdict.status not in STATUSES:
        return f"the verifier returned a Verdict with the status {str(verdict.status)[:40]!r}"
    return ""


def _error_text(error: BaseException) -> str:
    try:
        text = str(error).strip()
    except Exception:  # the text of an exception is made by the user's code too
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _set_deadlines(timeout_s: float) -> None:
    """CPU time, not wall time: a busy machine must not change a verdict.

    ITIMER_PROF interrupts Python code; RLIMIT_CPU kills a loop inside C that never returns to the interpreter
    (``int(Decimal('1E1000000'))``, which signal handlers cannot stop).
    """
    used = time.process_time()
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used + 1.5 * timeout_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    signal.setitimer(signal.ITIMER_PROF, timeout_s, _REARM_S)


def _encode(reply: Reply) -> bytes:
    try:
        return msgspec.msgpack.encode(reply)
    except UnicodeEncodeError:  # lone surrogates
        texts = {name: getattr(reply, name) for name in ("kind", "answer", "message")}
        plain = {name: text and text.encode(errors="replace").decode() for name, text in texts.items()}
        return msgspec.msgpack.encode(msgspec.structs.replace(reply, **plain))


def _as_text(value: object) -> str | None:
    """A field of a user's Verdict, which may have any type, as text."""
    return None if value is None else str(value)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:2000]


def bootstrap(control_fd: int, search_path: list[str]) -> list[str]:
    """The arguments that start `serve` in a fresh interpreter with the caller's module search path."""
    code = f"import sys; sys.path[:] = {search_path!r}; from {__name__} import serve; serve({control_fd})"
    return [sys.executable, "-c", code]
