"""Verification in killable processes: a hang, a crash or exhausted memory costs its own item and no other.

An item gets ``timeout_s`` of CPU time (never wall time, so no verdict depends on how busy the machine is), enforced twice
inside its worker; a wall-clock limit enforced from outside catches what neither sees, such as a verifier that sleeps. An
item that fails so is tried once more, alone, in a fresh worker, and then ends as ``error`` of kind timeout, crash or memory.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec

from rlvr_bench.errors import BadArgument, VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers import worker as far
from rlvr_bench.verifiers.crew import Crew, Ticket, Worker
from rlvr_bench.verifiers.protocol import Verifier

__all__ = ["VerifierPool"]

Key = TypeVar("Key", bound=Hashable)

_log = logging.getLogger(__name__)
_STILLBORN_LIMIT = 3


class VerifierPool(Generic[Key]):
    """A context manager that decides items in ``workers`` killable processes.

    ``timeout_s`` is CPU time per item; ``wall_s`` (default ``4 * timeout_s + 1``, plus what the verifier itself declares
    as ``wall_s``) the elapsed time after which a worker is killed from outside; ``memory_bytes`` the address space of a
    worker. Workers are replaced after ``recycle_items`` items or past half a memory limit, whichever is first.
    The caller's script needs no ``if __name__ == "__main__"`` guard. Threads may share a pool, and take turns at its
    workers; a process forked from this one starts its own.

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
        limits = far.Limits(
            timeout_s=timeout_s, memory_bytes=memory_bytes, max_items=recycle_items, recycle_bytes=memory_bytes // 2
        )
        self._verifier, self._n_workers = verifier, workers
        self._wall_s = wall_s if wall_s is not None else 4 * timeout_s + 1 + float(getattr(verifier, "wall_s", 0.0))
        self._crew = Crew(verifier, workers, limits, self._wall_s)

    def __enter__(self) -> Self:
        self._crew.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process of the pool. A call that another thread is waiting in raises VerifierError there."""
        self._crew.close()

    def verify(self, items: Iterable[tuple[Key, str, Problem]]) -> Iterator[tuple[Key, Verdict]]:
        """Decide ``(key, answer, problem)`` items; yields ``(key, verdict)`` in the order they are decided.

        Reads ``items`` only as fast as they are decided. An iteration that is abandoned ends the workers it used.
        """
        return _Round[Key](self._crew, self._verifier.name, self._n_workers, self._wall_s).run(items)


class _Round(Generic[Key]):
    """One call's items, and the workers it has hired for them."""

    def __init__(self, crew: Crew, name: str, n_workers: int, wall_s: float) -> None:
        self._crew, self._name, self._n_workers, self._wall_s = crew, name, n_workers, wall_s
        self._workers: list[Worker] = []
        self._source: Iterator[tuple[Key, str, Problem]] = iter(())
        self._exhausted = False
        self._todo: deque[Ticket] = deque()
        self._retry: list[Ticket] = []
        self._last_try = False
        self._stillborn = 0  # workers in a row that ended before they said anything

    def run(self, items: Iterable[tuple[Key, str, Problem]]) -> Iterator[tuple[Key, Verdict]]:
        self._source = iter(items)
        try:
            yield from self._decide_all()
            self._last_try = True
            while self._retry:
                # Alone: no other item of ours is in flight, and no earlier one has left anything in the worker.
                self._todo.append(self._retry.pop())
                yield from self._decide_all()
        finally:
            for worker in list(self._workers):
                if worker.queue or not worker.ready:
                    self._drop(worker)
                else:
                    self._release(worker)

    def _decide_all(self) -> Iterator[tuple[Key, Verdict]]:
        while True:
            self._fill()
            self._release_spare()
            busy = [worker for worker in self._workers if worker.queue]
            if not busy and not self._has_more():
                return
            for worker in _wait(busy):
                yield from self._collect(worker)

    def _fill(self) -> None:
        """Give every worker something to do, hiring workers as needed; nothing more once another call waits for one."""
        while self._has_more() and not (self._workers and self._crew.is_awaited):
            worker = min(self._workers, key=lambda w: len(w.queue), default=None)
            if (worker is None or worker.queue) and len(self._workers) < self._n_workers:
                hired = self._crew.hire(wait=worker is None, fresh=self._last_try)
                if hired is not None:
                    self._workers.append(hired)
                    worker = hired
            if worker is None or not worker.has_room():
                return
            worker.give(self._todo.popleft())

    def _has_more(self) -> bool:
        """Whether an item waits, the next of the source if need be."""
        if not self._todo and not self._exhausted:
            item = next(self._source, None)
            if item is None:
                self._exhausted = True
            else:
                self._todo.append(Ticket(*item))
        return bool(self._todo)

    def _release_spare(self) -> None:
        """Give back the workers that have nothing to do, where there is nothing more or another call waits for them."""
        if self._crew.is_awaited or (self._exhausted and not self._todo):
            for worker in [worker for worker in self._workers if not worker.queue]:
                self._release(worker)

    def _collect(self, worker: Worker) -> Iterator[tuple[Key, Verdict]]:
        """Turn what a worker sent into verdicts, and its death into a failure of the item it was on."""
        was_ready = worker.ready
        frames, alive = worker.frames()
        if frames and not was_ready:
            problem = frames.pop(0).decode(errors="replace")
            if problem:
                raise VerifierError(f"verifier {self._name!r} does not start: {problem}")
            self._stillborn = 0
        retired = False
        for frame in frames:
            reply = _read_reply(frame)
            retired = retired or reply.retire
            yield from self._settle(worker.queue.popleft(), reply)
        overdue = alive and not frames and worker.overdue(time.monotonic())
        if retired:
            self._drop(worker)
        elif not worker.ready and (overdue or not alive):
            self._bury_stillborn(worker, killed=overdue)
        elif overdue or not alive:
            culprit = worker.queue.popleft() if worker.queue else None
            kind = self._drop(worker, killed=overdue)
            if culprit is not None:
                yield from self._settle(culprit, far.Reply("error", kind, None, self._wall_s if overdue else 0.0))

    def _bury_stillborn(self, worker: Worker, *, killed: bool) -> None:
        """A worker that ended before its first word: its server may have been killed under it, so another is tried."""
        kind = self._drop(worker, killed=killed)
        self._stillborn += 1
        if self._stillborn >= _STILLBORN_LIMIT:
            raise VerifierError(f"verifier {self._name!r} does not start: its worker ended ({kind})")

    def _settle(self, ticket: Ticket, reply: far.Reply) -> Iterator[tuple[Key, Verdict]]:
        if reply.status == "error" and reply.kind in ("timeout", "crash", "memory") and not self._last_try:
            _log.info("an item ended as %s; it will be tried once more, alone", reply.kind)
            self._retry.append(ticket)
            return
        answer = ticket.answer if reply.answer is None else reply.answer
        verdict = Verdict(
            status=reply.status, answer=answer, kind=reply.kind, seconds=reply.seconds, message=reply.message
        )
        yield ticket.key, verdict

    def _release(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._crew.release(worker)

    def _drop(self, worker: Worker, *, killed: bool = False) -> str:
        """End a worker and put back what it had not answered; what its end was: timeout, memory or crash."""
        self._todo.extendleft(reversed(worker.queue))
        worker.queue.clear()
        self._workers.remove(worker)
        status = self._crew.end(worker)
        if killed or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
            return "timeout"
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == far.MEMORY_EXIT:
            return "memory"
        return "crash"


def _read_reply(frame: bytes) -> far.Reply:
    """What a worker, in which anything may have happened, sent as its verdict."""
    try:
        return msgspec.msgpack.decode(frame, type=far.Reply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return far.Reply("error", "exception", None, 0.0, "the worker's reply cannot be read")


def _wait(busy: list[Worker]) -> list[Worker]:
    """The workers that have something to say, or whose time is up."""
    if not busy:
        return []
    with selectors.PollSelector() as selector:  # needs no file of its own, unlike epoll
        for worker in busy:
            selector.register(worker.connection, worker.events, worker)
        patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
        readable: list[Worker] = []
        for key, events in selector.select(patience):
            if events & selectors.EVENT_WRITE:
                key.data.flush()
            if events & selectors.EVENT_READ:
                readable.append(key.data)
    now = time.monotonic()
    return readable + [worker for worker in busy if worker not in readable and worker.overdue(now)]
