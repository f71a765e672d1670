"""Verification in killable processes: a hang, a crash or exhausted memory costs its own item and no other.

An item gets ``timeout_s`` of CPU time (never wall time, so no verdict depends on how busy the machine is), enforced twice
inside its worker; a wall-clock limit enforced from outside catches what neither sees, such as a verifier that sleeps. An
item that fails so is tried once more, alone, in a fresh worker, and then ends as ``error`` of kind timeout, crash or memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec

from rlvr_bench.errors import BadArgument, VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers import worker as far
from rlvr_bench.verifiers.protocol import Verifier

__all__ = ["VerifierPool"]

Key = TypeVar("Key", bound=Hashable)

_log = logging.getLogger(__name__)
_QUEUE_ITEMS = 16  # items handed to a worker ahead of its answers: hides the round trip
_QUEUE_BYTES = 1 << 20
_START_S = 120.0  # imports and warm-up on a loaded machine
_STILLBORN_LIMIT = 3
_STARVED_FACTOR = 5  # a worker that is runnable but gets no CPU is given this many times its wall limit


class _Ticket(Generic[Key]):
    """One item on its way: its key, its answer and what the worker needs."""

    __slots__ = ("answer", "key", "payload")

    def __init__(self, key: Key, answer: str, problem: Problem) -> None:
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
        """Fork a worker; its pid and our end of its socket."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"s\0\0\0\0"], [theirs.fileno()])
            pid = int.from_bytes(far.receive_exactly(self._control, 4), "big")
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        return pid, ours

    def reap(self, pid: int) -> int:
        """End a worker and what it started; its wait status."""
        self._control.sendall(b"r" + pid.to_bytes(4, "big"))
        return int.from_bytes(far.receive_exactly(self._control, 4), "big")

    def close(self) -> None:
        """End the server and every worker; never raises."""
        self._control.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Worker(Generic[Key]):
    """Our view of one worker: what it was given, in order, and by when its first item must be answered."""

    def __init__(self, pid: int, connection: socket.socket, wall_s: float) -> None:
        self.pid, self.connection, self.wall_s = pid, connection, wall_s
        self.queue: deque[_Ticket[Key]] = deque()
        self.ready = False
        self._inbox, self._outbox = bytearray(), bytearray()
        self.deadline = self._started = time.monotonic() + _START_S

    def has_room(self) -> bool:
        return len(self.queue) < _QUEUE_ITEMS and len(self._outbox) < _QUEUE_BYTES

    def give(self, ticket: _Ticket[Key]) -> None:
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


class VerifierPool(Generic[Key]):
    """A context manager that decides items in ``workers`` killable processes.

    ``timeout_s`` is CPU time per item; ``wall_s`` (default ``4 * timeout_s + 1``, plus what the verifier itself declares
    as ``wall_s``) the elapsed time after which a worker is killed from outside; ``memory_bytes`` the address space of a
    worker. Workers are replaced after ``recycle_items`` items or past half a memory limit, whichever is first.
    The caller's script needs no ``if __name__ == "__main__"`` guard. Use a pool from one thread at a time.

    Raises BadArgument for a limit that is not positive, VerifierError when the verifier cannot be loaded in a worker.
    """

    def __init__(
        self,
        verifier: Verifier,
        workers: int = 1,
        timeout_s: float = 5.0,
        memory_bytes: int = 2 << 30,
        wall_s: float | None = None,
        recycle_items: int = 2000,
    ) -> None:
        for name, value in (("workers", workers), ("timeout_s", timeout_s), ("recycle_items", recycle_items)):
            if not value > 0:
                raise BadArgument(name, value, "it must be positive")
        if memory_bytes < 256 << 20:
            raise BadArgument("memory_bytes", memory_bytes, "a worker needs at least 256 MiB of address space")
        self._verifier, self._n_workers = verifier, workers
        self._wall_s = wall_s if wall_s is not None else 4 * timeout_s + 1 + float(getattr(verifier, "wall_s", 0.0))
        self._limits = far.Limits(
            timeout_s=timeout_s, memory_bytes=memory_bytes, max_items=recycle_items, recycle_bytes=memory_bytes // 2
        )
        self._server: _Server | None = None
        self._workers: list[_Worker[Key]] = []
        self._todo: deque[_Ticket[Key]] = deque()
        self._retry: list[_Ticket[Key]] = []
        self._stillborn = 0  # workers in a row that ended before they said anything

    def __enter__(self) -> Self:
        self._open_server()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process of the pool."""
        for worker in self._workers:
            worker.connection.close()
        self._workers.clear()
        if self._server is not None:
            self._server.close()
            self._server = None

    def verify(self, items: Iterable[tuple[Key, str, Problem]]) -> Iterator[tuple[Key, Verdict]]:
        """Decide ``(key, answer, problem)`` items; yields ``(key, verdict)`` in the order they are decided.

        Reads ``items`` only as fast as they are decided. An iteration that is abandoned ends the workers it used.
        """
        self._todo.clear()
        self._retry.clear()
        source = iter(items)
        try:
            yield from self._run(source, self._n_workers, last_try=False)
            while self._retry:
                # Alone: no other item is in flight, and no earlier one has left anything behind in the worker.
                ticket = self._retry.pop()
                self._drop_all()
                self._todo.append(ticket)
                yield from self._run(iter(()), 1, last_try=True)
        finally:
            if any(worker.queue for worker in self._workers):
                self._drop_all()

    def _run(
        self, source: Iterator[tuple[Key, str, Problem]], n_workers: int, *, last_try: bool
    ) -> Iterator[tuple[Key, Verdict]]:
        exhausted = False
        while True:
            exhausted = self._fill(source, n_workers, exhausted)
            busy = [worker for worker in self._workers if worker.queue]
            if not busy:
                return
            for worker in self._wait(busy):
                yield from self._collect(worker, last_try=last_try)

    def _fill(self, source: Iterator[tuple[Key, str, Problem]], n_workers: int, exhausted: bool) -> bool:
        """Give every worker something to do, starting workers as needed; whether the source has ended."""
        while True:
            if not self._todo and not exhausted:
                item = next(source, None)
                exhausted = item is None
                if item is not None:
                    self._todo.append(_Ticket(*item))
            if not self._todo:
                return exhausted
            worker = min(self._workers, key=lambda w: len(w.queue), default=None)
            if (worker is None or worker.queue) and len(self._workers) < n_workers:
                worker = self._start_worker()
            if worker is None or not worker.has_room():
                return exhausted
            worker.give(self._todo.popleft())

    def _wait(self, busy: list[_Worker[Key]]) -> list[_Worker[Key]]:
        """The workers that have something to say, or whose time is up."""
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.connection, worker.events, worker)
            patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
            readable = []
            for key, events in selector.select(patience):
                if events & selectors.EVENT_WRITE:
                    key.data.flush()
                if events & selectors.EVENT_READ:
                    readable.append(key.data)
        now = time.monotonic()
        return readable + [worker for worker in busy if worker not in readable and worker.overdue(now)]

    def _collect(self, worker: _Worker[Key], *, last_try: bool) -> Iterator[tuple[Key, Verdict]]:
        """Turn what a worker sent into verdicts, and its death into a failure of the item it was on."""
        was_ready = worker.ready
        frames, alive = worker.frames()
        if frames and not was_ready:
            problem = frames.pop(0).decode(errors="replace")
            if problem:
                raise VerifierError(f"verifier {self._verifier.name!r} does not start: {problem}")
            self._stillborn = 0
        retired = False
        for frame in frames:
            reply = msgspec.msgpack.decode(frame, type=far.Reply)
            retired = retired or reply.retire
            yield from self._settle(worker.queue.popleft(), reply, last_try=last_try)
        overdue = alive and not frames and worker.overdue(time.monotonic())
        if retired:
            self._drop(worker)
        elif not worker.ready and (overdue or not alive):
            self._bury_stillborn(worker, killed=overdue)
        elif overdue or not alive:
            culprit = worker.queue.popleft() if worker.queue else None
            kind = self._drop(worker, killed=overdue)
            if culprit is not None:
                reply = far.Reply("error", kind, None, self._wall_s if overdue else 0.0)
                yield from self._settle(culprit, reply, last_try=last_try)

    def _bury_stillborn(self, worker: _Worker[Key], *, killed: bool) -> None:
        """A worker that ended before its first word: its server may have been killed under it, so another is tried."""
        kind = self._drop(worker, killed=killed)
        self._stillborn += 1
        if self._stillborn >= _STILLBORN_LIMIT:
            raise VerifierError(f"verifier {self._verifier.name!r} does not start: its worker ended ({kind})")

    def _settle(self, ticket: _Ticket[Key], reply: far.Reply, *, last_try: bool) -> Iterator[tuple[Key, Verdict]]:
        if reply.status == "error" and reply.kind in ("timeout", "crash", "memory") and not last_try:
            _log.info("an item ended as %s; it will be tried once more, alone", reply.kind)
            self._retry.append(ticket)
            return
        answer = ticket.answer if reply.answer is None else reply.answer
        yield ticket.key, Verdict(status=reply.status, answer=answer, kind=reply.kind, seconds=reply.seconds)

    def _open_server(self) -> _Server:
        if self._server is None:
            self._server = _Server(self._verifier, self._limits)
        return self._server

    def _start_worker(self) -> _Worker[Key]:
        try:
            pid, connection = self._open_server().spawn()
        except (OSError, EOFError):
            _log.warning("the fork server is gone; starting it again")
            for lost in self._workers:
                self._todo.extend(lost.queue)
            self.close()
            pid, connection = self._open_server().spawn()
        worker: _Worker[Key] = _Worker(pid, connection, self._wall_s)
        self._workers.append(worker)
        return worker

    def _drop(self, worker: _Worker[Key], *, killed: bool = False) -> str:
        """End a worker and put back what it had not answered; what its end was: timeout, memory or crash."""
        self._todo.extendleft(reversed(worker.queue))
        worker.queue.clear()
        worker.connection.close()
        self._workers.remove(worker)
        status = 0
        with contextlib.suppress(OSError, EOFError):
            status = self._open_server().reap(worker.pid)
        if killed or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
            return "timeout"
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == far.MEMORY_EXIT:
            return "memory"
        return "crash"

    def _drop_all(self) -> None:
        for worker in list(self._workers):
            self._drop(worker)
