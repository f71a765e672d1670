"""The near side of isolation: worker processes, the server that forks them, and who may use them when.

A crew has at most ``size`` workers at work. Whoever has items to decide hires one, gives it items, and releases it; several
threads may do so at the same time, and whoever waits gets the next worker that is free, first come, first served.
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
from rlvr_bench.verifiers import worker as far
from rlvr_bench.verifiers.protocol import Verifier

__all__ = ["Crew", "Ticket", "Worker"]

_log = logging.getLogger(__name__)
_QUEUE_ITEMS = 16  # items handed to a worker ahead of its answers: hides the round trip
_QUEUE_BYTES = 1 << 20
_START_S = 120.0  # imports and warm-up on a loaded machine
_STARVED_FACTOR = 5  # a worker that is runnable but gets no CPU is given this many times its wall limit
_LOOK_S = 1.0  # how often a waiting thread looks again by itself: an interrupted one may not have said that it is done


class Ticket:
    """One item on its way: its key, its answer and what the worker needs."""

    __slots__ = ("answer", "key", "payload")

    def __init__(self, key: Any, answer: str, problem: Problem) -> None:
        self.key, self.answer = key, answer
        body = pickle.dumps((answer, problem), protocol=pickle.HIGHEST_PROTOCOL)
        self.payload = far.FRAME.pack(len(body)) + body


class _Server:
    """The fork server process: starts workers, and reaps them when they are to end."""

    def __init__(self, verifier: Verifier, limits: far.Limits) -> None:
        self._control, theirs = socket.socketpair()
        environment = {**os.environ, "SYMPY_GROUND_TYPES": "python"}  # gmpy2's C loops ignore every signal
        with theirs:
            command = far.bootstrap(theirs.fileno(), [entry or str(Path.cwd()) for entry in sys.path])
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=2,  # a verifier that prints must not mix with the caller's output
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the caller only, which then ends the workers in order
            )
        try:
            self._control.settimeout(_START_S)
            far.send_frame(self._control, pickle.dumps((verifier, limits)))
            problem = far.receive_frame(self._control).decode(errors="replace")
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
        """Fork a worker; its pid and our end of its socket. Raises OSError or EOFError where the server is gone."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"s\0\0\0\0"], [theirs.fileno()])
            pid = int.from_bytes(far.receive_exactly(self._control, 4), "big")
        except BaseException:
            ours.close()
            self.close()  # an answer that was not waited for would be taken for that to the next question
            raise
        ours.setblocking(False)
        return pid, ours

    def reap(self, pid: int) -> int:
        """End a worker and what it started; its wait status. Raises OSError or EOFError where the server is gone."""
        try:
            self._control.sendall(b"r" + pid.to_bytes(4, "big"))
            return int.from_bytes(far.receive_exactly(self._control, 4), "big")
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
        """In a forked child: the server is the parent's, and ends when the parent's copy of this socket closes."""
        self._control.close()
        self._process.returncode = 0  # not our child: there is nothing to wait for, and nothing to warn of


class Worker:
    """Our view of one worker: what it was given, in order, and by when its first item must be answered."""

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
        """Send what fits; a dead worker is noticed by the read that follows."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._outbox:
                sent = self.connection.send(memoryview(self._outbox)[: 1 << 18].tobytes())
                del self._outbox[:sent]

    def frames(self) -> tuple[list[bytes], bool]:
        """The whole frames that have arrived, and whether the worker is still there."""
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
        while len(self._inbox) >= far.FRAME.size:
            end = far.FRAME.size + far.FRAME.unpack_from(self._inbox)[0]
            if len(self._inbox) < end:
                break
            whole.append(bytes(self._inbox[far.FRAME.size : end]))
            del self._inbox[:end]
        if whole:
            self.ready = True
            self._restart_clock()
        return whole, alive

    def overdue(self, now: float) -> bool:
        """Whether the wall limit has passed; one that is runnable but starved of CPU by the machine is given longer."""
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
    """The workers of one verifier. A process forked from this one has none of them, and starts its own when it needs them."""

    def __init__(self, verifier: Verifier, size: int, limits: far.Limits, wall_s: float) -> None:
        self._verifier, self._size, self._limits, self._wall_s = verifier, size, limits, wall_s
        self._closed = False
        self._begin()
        _crews.add(self)

    def _begin(self) -> None:
        self._change = threading.Condition()
        self._server: _Server | None = None
        self._idle: list[Worker] = []
        # Weak: a worker that an interrupt takes from whoever hired it is no longer counted.
        self._hired: weakref.WeakSet[Worker] = weakref.WeakSet()
        self._waiting: deque[object] = deque()

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a worker."""
        return bool(self._waiting)

    def start(self) -> None:
        """Start the server, if it does not run. Raises VerifierError where the verifier cannot be loaded, or this is closed."""
        with self._change:
            self._check_open()
            self._running_server()

    def hire(self, *, wait: bool, fresh: bool = False) -> Worker | None:
        """A worker, with ``wait`` once it is our turn, else None where all are at work; ``fresh``: one that did nothing yet.

        Raises VerifierError where the crew is closed, or workers do not start.
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
        """Give back a worker that has answered all it was given."""
        with self._change:
            self._hired.discard(worker)
            if self._closed:
                worker.connection.close()
            else:
                self._idle.append(worker)
            self._change.notify_all()

    def end(self, worker: Worker) -> int:
        """End a worker; its wait status, 0 where that is not known."""
        with self._change:
            worker.connection.close()
            self._hired.discard(worker)
            self._change.notify_all()
            with contextlib.suppress(OSError, EOFError):
                return worker.server.reap(worker.pid)
            return 0

    def close(self) -> None:
        """End every process. Whoever is at work or waits gets a VerifierError."""
        with self._change:
            self._closed = True
            self._end_all()
            self._change.notify_all()

    def forked(self) -> None:
        """In a forked child: leave the parent's processes alone, and keep none of its sockets open."""
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
