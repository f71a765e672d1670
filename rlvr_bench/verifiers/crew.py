"""The caller's side of isolation: worker processes, the server that forks them, and the queue for using them.

A crew has at most ``size`` workers in use. A caller hires a worker, gives it items and releases it. Several threads may do so
at the same time; they get the next free worker in the order in which they asked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import selectors
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from pathlib import Path
from typing import Any

from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem
from rlvr_bench.verifiers import worker as worker_process
from rlvr_bench.verifiers.protocol import Verifier

__all__ = ["Crew", "Ticket", "Worker"]

_log = logging.getLogger(__name__)
_QUEUE_ITEMS = 16  # items sent to a worker before it has answered: hides the round trip
_QUEUE_BYTES = 1 << 20
_START_S = 120.0  # imports and warm-up on a loaded machine
_STARVED_FACTOR = 5  # a worker that is runnable but gets no CPU has this many times its wall limit
_LOOK_S = 1.0  # a waiting thread looks again this often: an interrupted thread may not have notified it


class Ticket:
    """One item for a worker: its id, its answer and the frame to send."""

    __slots__ = ("answer", "key", "payload")

    def __init__(self, key: Any, answer: str, problem: Problem) -> None:
        self.key, self.answer = key, answer
        body = pickle.dumps((answer, problem), protocol=pickle.HIGHEST_PROTOCOL)
        self.payload = worker_process.FRAME.pack(len(body)) + body


class _Server:
    """The fork server process: starts workers and ends them."""

    def __init__(self, verifier: Verifier, limits: worker_process.Limits) -> None:
        self._control, theirs = socket.socketpair()
        environment = {**os.environ, "SYMPY_GROUND_TYPES": "python"}  # gmpy2's C loops ignore every signal
        with theirs:
            command = worker_process.bootstrap(theirs.fileno(), [entry or str(Path.cwd()) for entry in sys.path])
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=2,  # a verifier that prints must not mix with the caller's output
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,  # Ctrl-C reaches only the caller, which then ends the workers in order
            )
        try:
            self._control.settimeout(_START_S)
            worker_process.send_frame(self._control, pickle.dumps((verifier, limits)))
            problem = worker_process.receive_frame(self._control).decode(errors="replace")
        except (OSError, EOFError) as error:
            problem = f"its process did not start ({type(error).__name__})"
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            problem = f"it cannot be sent to another process ({error})"
        except BaseException:
            self.close()
            raise
        if problem:
            self.close()
            raise VerifierError(f"verifier {verifier.name!r} cannot run in a worker: {problem}")

    def spawn(self) -> tuple[int, socket.socket]:
        """Fork a worker; returns its pid and our end of its socket. Raises OSError or EOFError where the server has ended."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"s\0\0\0\0"], [theirs.fileno()])
            pid = int.from_bytes(worker_process.receive_exactly(self._control, 4), "big")
        except BaseException:
            ours.close()
            self.close()  # an answer that nobody read would be taken for the answer to the next request
            raise
        ours.setblocking(False)
        return pid, ours

    def reap(self, pid: int) -> int:
        """End a worker and its process group; returns its wait status. Raises OSError or EOFError as `spawn`."""
        try:
            self._control.sendall(b"r" + pid.to_bytes(4, "big"))
            return int.from_bytes(worker_process.receive_exactly(self._control, 4), "big")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the server and every worker; never raises."""
        self._control.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def disown(self) -> None:
        """In a forked child: the server belongs to the parent; it ends when the parent's end of the socket closes."""
        self._control.close()
        self._process.returncode = 0  # not a child of this process: nothing to wait for, no warning


class Worker:
    """Our record of one worker: its items, in order, and the deadline of its first item."""

    def __init__(self, server: _Server, wall_s: float) -> None:
        self.server, self.wall_s = server, wall_s
        self.pid, self.connection = server.spawn()
        self.queue: deque[Ticket] = deque()
        self.ready = False
        self._inbox, self._outbox = bytearray(), bytearray()
        self.deadline = self._started = time.monotonic() + _START_S

    def has_room(self) -> bool:
        return len(self.queue) < _QUEUE_ITEMS and len(self._outbox) < _QUEUE_BYTES

    def give(self, ticket: Ticket) -> None:
        if not self.queue and self.ready:
            self._restart_clock()
        self.queue.append(ticket)
        self._outbox += ticket.payload
        self.flush()

    def _restart_clock(self) -> None:
        self._started = time.monotonic()
        self.deadline = self._started + self.wall_s

    @property
    def events(self) -> int:
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outbox else 0)

    def flush(self) -> None:
        """Send what fits; the next read notices a dead worker."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._outbox:
                sent = self.connection.send(memoryview(self._outbox)[: 1 << 18].tobytes())
                del self._outbox[:sent]

    def frames(self) -> tuple[list[bytes], bool]:
        """The complete frames that have arrived, and whether the worker is alive."""
        alive = True
        try:
            part = self.connection.recv(1 << 16)
            alive = bool(part)
            self._inbox += part
        except BlockingIOError:
            pass
        except ConnectionError:
            alive = False
        whole = []
        while len(self._inbox) >= worker_process.FRAME.size:
            end = worker_process.FRAME.size + worker_process.FRAME.unpack_from(self._inbox)[0]
            if len(self._inbox) < end:
                break
            whole.append(bytes(self._inbox[worker_process.FRAME.size : end]))
            del self._inbox[:end]
        if whole:
            self.ready = True
            self._restart_clock()
        return whole, alive

    def overdue(self, now: float) -> bool:
        """Whether the wall limit has passed; a worker that is runnable but gets no CPU has more time."""
        if now < self.deadline or (self.ready and not self.queue):
            return False
        if now < self._started + _STARVED_FACTOR * self.wall_s and _is_runnable(self.pid):
            self.deadline = now + self.wall_s / 4
            return False
        return True


def _is_runnable(pid: int) -> bool:
    """Whether the process is running or waiting for a CPU (Linux's /proc; False where that cannot be read)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "R"


class Crew:
    """The workers of one verifier. A forked process inherits none of them, and starts its workers when it needs them."""

    def __init__(self, verifier: Verifier, size: int, limits: worker_process.Limits, wall_s: float) -> None:
        self._verifier, self._size, self._limits, self._wall_s = verifier, size, limits, wall_s
        self._closed = False
        self._begin()
        _crews.add(self)

    def _begin(self) -> None:
        self._change = threading.Condition()
        self._server: _Server | None = None
        self._idle: list[Worker] = []
        # Weak: a worker that its caller lost to an interrupt is no longer counted.
        self._hired: weakref.WeakSet[Worker] = weakref.WeakSet()
        self._waiting: deque[object] = deque()

    @property
    def is_awaited(self) -> bool:
        """Whether a caller waits for a worker."""
        return bool(self._waiting)

    def start(self) -> None:
        """Start the server if it does not run. Raises VerifierError where the verifier cannot be loaded, or after close."""
        with self._change:
            self._check_open()
            self._running_server()

    def hire(self, *, wait: bool, fresh: bool = False) -> Worker | None:
        """A worker. With ``wait`` it waits for its turn, else it returns None where all workers are in use.

        ``fresh``: a worker that has decided nothing yet. Raises VerifierError where the crew is closed, or workers do not
        start.
        """
        with self._change:
            if not wait and (self._waiting or len(self._hired) >= self._size):
                return None
            self._take_turn()
            worker = self._idle.pop() if self._idle else None
            if worker is not None and fresh:
                self.end(worker)
                worker = None
            worker = worker or self._spawn()
            self._hired.add(worker)
            return worker

    def release(self, worker: Worker) -> None:
        """Give back a worker that has answered all its items."""
        with self._change:
            self._hired.discard(worker)
            if self._closed:
                worker.connection.close()
            else:
                self._idle.append(worker)
            self._change.notify_all()

    def end(self, worker: Worker) -> int:
        """End a worker; returns its wait status, or 0 where that is unknown."""
        with self._change:
            worker.connection.close()
            self._hired.discard(worker)
            self._change.notify_all()
            with contextlib.suppress(OSError, EOFError):
                return worker.server.reap(worker.pid)
            return 0

    def close(self) -> None:
        """End every process. Callers that use or wait for a worker get a VerifierError."""
        with self._change:
            self._closed = True
            self._end_all()
            self._change.notify_all()

    def forked(self) -> None:
        """In a forked child: close the parent's sockets and leave its processes alone."""
        for worker in (*self._idle, *self._hired):
            worker.connection.close()
        if self._server is not None:
            self._server.disown()
        self._begin()

    def _take_turn(self) -> None:
        turn = object()
        self._waiting.append(turn)
        try:
            while not self._closed and (self._waiting[0] is not turn or len(self._hired) >= self._size):
                self._change.wait(_LOOK_S)
        finally:
            self._waiting.remove(turn)
            self._change.notify_all()
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise VerifierError(f"verifier {self._verifier.name!r}: its workers have been closed")

    def _spawn(self) -> Worker:
        try:
            return Worker(self._running_server(), self._wall_s)
        except (OSError, EOFError):
            _log.warning("the fork server is gone; starting it again")
            self._end_all()
            return Worker(self._running_server(), self._wall_s)

    def _running_server(self) -> _Server:
        if self._server is None:
            self._server = _Server(self._verifier, self._limits)
        return self._server

    def _end_all(self) -> None:
        for worker in self._idle:
            worker.connection.close()
        self._idle.clear()
        if self._server is not None:
            self._server.close()
            self._server = None


_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


def _after_fork() -> None:
    for crew in list(_crews):
        crew.forked()


os.register_at_fork(after_in_child=_after_fork)
