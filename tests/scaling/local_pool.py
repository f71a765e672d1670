"""A pool of replicas in threads of this process: everything but the wire, with deaths on demand."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.scaling.messages import Event, Failure, Lost, Opened, Report, Target
from rlvr_bench.scaling.replica import Replica


class LocalPool:
    """Implements ``Pool``. ``openers`` are taken in order, the last one again and again."""

    gpus = 0

    def __init__(self, *openers: Callable[[], Sampler]) -> None:
        self._openers = openers
        self.replicas: list[Replica | None] = []
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.handed: list[list[tuple[str, int]]] = []

    def start(self) -> int:
        number = len(self.replicas)
        replica = Replica(self._openers[min(number, len(self._openers) - 1)])
        self.replicas.append(replica)
        self.handed.append([])
        self._later(lambda: self.events.put((number, replica.open())))
        return number

    def begin(self, replica: int, session: int, sampling: SamplingParameters, target: Target | None) -> None:
        if live := self.replicas[replica]:
            live.begin(session, sampling, target)
            self._later(lambda: self._collect(replica, session))

    def add(self, replica: int, session: int, requests: Sequence[DrawRequest]) -> None:
        self.handed[replica] += [(request.prompt.problem_id, request.start) for request in requests]
        if live := self.replicas[replica]:
            live.add(session, requests)

    def take_back(self, replica: int, session: int, count: int) -> None:
        if live := self.replicas[replica]:
            self.events.put((replica, live.take_back(session, count)))

    def end(self, replica: int, session: int) -> None:
        if live := self.replicas[replica]:
            live.end(session)

    def prompt_tokens(self, replica: int, prompt: Prompt) -> int:
        live = self.replicas[replica]
        assert live is not None
        return live.prompt_tokens(prompt)

    def stop(self, replica: int) -> None:
        self.replicas[replica] = None

    def event(self, timeout_s: float) -> Event | None:
        try:
            number, what = self.events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        dead = self.replicas[number] is None and isinstance(what, Opened | Failure | Report)
        return None if dead else (number, what)

    def close(self) -> None:
        for replica in self.replicas:
            if replica is not None:
                replica.close()

    def kill(self, replica: int, *, with_node: bool = False) -> None:
        """Draws that it had finished and not reported are lost with it."""
        if self.replicas[replica] is not None:
            self.replicas[replica] = None
            self.events.put((replica, Lost("killed", blameless=with_node)))

    def _collect(self, number: int, session: int) -> None:
        while True:
            replica = self.replicas[number]
            if replica is None:
                return
            report = replica.collect(session)
            if not report.received and not report.room:  # the session is over
                return
            if self.replicas[number] is not None:
                self.events.put((number, report))
            if report.failure is not None:
                return

    @staticmethod
    def _later(work: Callable[[], None]) -> None:
        threading.Thread(target=work, daemon=True).start()
