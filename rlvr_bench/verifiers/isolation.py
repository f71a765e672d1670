"""Verification in worker processes that can be killed: a hang, a crash or exhausted memory fails only its item.

An item gets ``timeout_s`` of CPU time, enforced twice inside its worker. It is never wall time, so no verdict depends on how
busy the machine is. A wall-clock limit enforced from outside catches what CPU time cannot see, such as a verifier that
sleeps. An item that fails so is tried once more, alone, in a fresh worker; then it ends as ``error`` of kind timeout, crash
or memory.
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
from rlvr_bench.verifiers import worker as worker_process
from rlvr_bench.verifiers.crew import Crew, Ticket, Worker
from rlvr_bench.verifiers.protocol import Verifier

__all__ = ["VerifierPool"]

ItemId = TypeVar("ItemId", bound=Hashable)

_log = logging.getLogger(__name__)
_STILLBORN_LIMIT = 3


class VerifierPool(Generic[ItemId]):
    """A context manager that decides items in ``workers`` processes that can be killed.

    ``timeout_s`` is CPU time per item. ``wall_s`` is the elapsed time after which a worker is killed (default
    ``4 * timeout_s + 1``, plus the verifier's ``wall_s`` if it has one). ``memory_bytes`` is the address space of a worker.
    Workers are replaced after ``recycle_items`` items or past half the memory limit, whichever is first.
    The caller's script needs no ``if __name__ == "__main__"`` guard. Threads may share a pool; its workers serve them in
    turn. A process forked from this one starts its workers anew.

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
        limits = worker_process.Limits(
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
        """End every process of the pool. A call that is waiting in another thread raises VerifierError."""
        self._crew.close()

    def verify(self, items: Iterable[tuple[ItemId, str, Problem]]) -> Iterator[tuple[ItemId, Verdict]]:
        """Decide ``(id, answer, problem)`` items; yields ``(id, verdict)`` in the order in which they are decided.

        Reads ``items`` only as fast as they are decided. An iteration that is abandoned ends the workers it used.
        """
        return _Round[ItemId](self._crew, self._verifier.name, self._n_workers, self._wall_s).run(items)


class _Round(Generic[ItemId]):
    """The items of one call, and the workers hired for them."""

    def __init__(self, crew: Crew, name: str, n_workers: int, wall_s: float) -> None:
        self._crew, self._name, self._n_workers, self._wall_s = crew, name, n_workers, wall_s
        self._workers: list[Worker] = []
        self._source: Iterator[tuple[ItemId, str, Problem]] = iter(())
        self._exhausted = False
        self._todo: deque[Ticket] = deque()
        self._retry: list[Ticket] = []
        self._last_try = False
        self._stillborn = 0  # workers in a row that ended before their first message

    def run(self, items: Iterable[tuple[ItemId, str, Problem]]) -> Iterator[tuple[ItemId, Verdict]]:
        self._source = iter(items)
        try:
            yield from self._decide_all()
            self._last_try = True
            while self._retry:
                # Alone: no other item of this call is in progress, and the worker has not decided any item before.
                self._todo.append(self._retry.pop())
                yield from self._decide_all()
        finally:
            for worker in list(self._workers):
                if worker.queue or not worker.ready:
                    self._drop(worker)
                else:
                    self._release(worker)

    def _decide_all(self) -> Iterator[tuple[ItemId, Verdict]]:
        while True:
            self._fill()
            self._release_spare()
            busy = [worker for worker in self._workers if worker.queue]
            if not busy and not self._has_more():
                return
            for worker in _wait(busy):
                yield from self._collect(worker)

    def _fill(self) -> None:
        """Give every worker an item, hiring workers as needed; no more items once another call waits for a worker."""
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
        """Whether an item is left; reads the next one from the source if necessary."""
        if not self._todo and not self._exhausted:
            item = next(self._source, None)
            if item is None:
                self._exhausted = True
            else:
                self._todo.append(Ticket(*item))
        return bool(self._todo)

    def _release_spare(self) -> None:
        """Release idle workers where no items are left, or another call waits for a worker."""
        if self._crew.is_awaited or (self._exhausted and not self._todo):
            for worker in [worker for worker in self._workers if not worker.queue]:
                self._release(worker)

    def _collect(self, worker: Worker) -> Iterator[tuple[ItemId, Verdict]]:
        """Turn a worker's replies into verdicts, and its death into a failure of the item that it was deciding."""
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
                yield from self._settle(
                    culprit, worker_process.Reply("error", kind, None, self._wall_s if overdue else 0.0)
                )

    def _bury_stillborn(self, worker: Worker, *, killed: bool) -> None:
        """End a worker that died before its first message; the server may have been killed, so another one is tried."""
        kind = self._drop(worker, killed=killed)
        self._stillborn += 1
        if self._stillborn >= _STILLBORN_LIMIT:
            raise VerifierError(f"verifier {self._name!r} does not start: its worker ended ({kind})")

    def _settle(self, ticket: Ticket, reply: worker_process.Reply) -> Iterator[tuple[ItemId, Verdict]]:
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
        """End a worker and put its unanswered items back; returns how it ended: timeout, memory or crash."""
        self._todo.extendleft(reversed(worker.queue))
        worker.queue.clear()
        self._workers.remove(worker)
        status = self._crew.end(worker)
        if killed or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
            return "timeout"
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == worker_process.MEMORY_EXIT:
            return "memory"
        return "crash"


def _read_reply(frame: bytes) -> worker_process.Reply:
    """The reply in a frame from a worker, which may hold anything."""
    try:
        return msgspec.msgpack.decode(frame, type=worker_process.Reply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return worker_process.Reply("error", "exception", None, 0.0, "the worker's reply cannot be read")


def _wait(busy: list[Worker]) -> list[Worker]:
    """The workers that have sent something, or whose time is over."""
    if not busy:
        return []
    with selectors.PollSelector() as selector:  # needs no file descriptor, unlike epoll
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
