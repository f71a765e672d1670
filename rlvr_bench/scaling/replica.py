"""One engine in a process of its own: it takes requests while it draws, and says how many more it could use."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import msgspec

from rlvr_bench.errors import StorageError
from rlvr_bench.records import Draw, DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.scaling.messages import Failure, Opened, Report, TakenBack, Target, key_of
from rlvr_bench.scaling.recording import Recorder
from rlvr_bench.store.manifest import installed_packages

__all__ = ["Probe", "Replica", "probe"]

_FEWEST_AHEAD, _MOST_AHEAD = 2, 512  # requests that wait here for the engine
_SOON_S = 0.2  # how long finished draws wait to be written while the driver has nothing more to ask for
_PATIENCE_S = 0.25  # how long an engine that could take more waits for the driver before it goes on without


class Replica:
    """Called from several threads: one waits in ``collect``, others bring requests, a third draws.

    How many requests wait here is found out: it doubles when the engine has taken all of them and asks for more, though
    the driver has some. So an engine that draws a few batches at once holds back few from the others, and one that
    takes a hundred is fed.
    """

    def __init__(self, opener: Callable[[], Sampler]) -> None:
        self._opener = opener
        self._sampler: Sampler | None = None
        self._change = threading.Condition()
        self._sitting = 0
        self._over = True
        self._thread: threading.Thread | None = None
        self._recorder: Recorder | None = None
        self._queue: deque[DrawRequest] = deque()
        self._finished: list[Draw] = []
        self._failure: Failure | None = None
        self._received = self._received_then = 0
        self._begun = 0  # with the engine
        self._ahead = _FEWEST_AHEAD
        self._asking, self._dry = True, False

    def open(self) -> Opened | Failure:
        """Load the engine."""
        began = time.monotonic()
        try:
            self._sampler = self._opener()
        except Exception as error:  # it travels to the driver, which raises it
            return Failure.of(error)
        return Opened(
            info=self._sampler.info, node=socket.gethostname(), pid=os.getpid(), seconds=time.monotonic() - began
        )

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Length of a prompt, as the model will see it."""
        return self._engine().prompt_tokens(prompt)

    def begin(self, sitting: int, sampling: SamplingParameters, target: Target | None = None) -> None:
        """Begin to draw; what was drawn before and not told is written where there is a run to write to, else lost."""
        self._stop()
        recorder, failure = None, None
        try:
            recorder = Recorder(target) if target is not None else None
        except Exception as error:  # the first report brings it to the driver
            failure = Failure.of(error)
        with self._change:
            self._clear()
            self._recorder, self._failure = recorder, failure
            self._sitting, self._over = sitting, False
            self._change.notify_all()
        if failure is None:
            self._thread = threading.Thread(target=self._work, args=(sitting, sampling), name="draw", daemon=True)
            self._thread.start()

    def add(self, sitting: int, requests: Sequence[DrawRequest]) -> None:
        """Take requests; none at all means that there are no more for now."""
        with self._change:
            if self._joined(sitting):
                self._queue.extend(requests)
                self._received += len(requests)
                self._dry = not requests
                self._change.notify_all()

    def take_back(self, sitting: int, count: int) -> TakenBack:
        """Give back up to ``count`` requests that the engine has not asked for, the last that came first."""
        with self._change:
            if not self._joined(sitting):
                return TakenBack([])
            return TakenBack([key_of(self._queue.pop()) for _ in range(min(count, len(self._queue)))])

    def collect(self, sitting: int) -> Report:
        """Wait until there is something to say: finished draws, room for more requests, or the engine's failure."""
        with self._change:
            if self._joined(sitting):
                while not self._has_news and self._sitting == sitting:
                    self._change.wait(self._due_in)
            if self._sitting != sitting or self._over:
                return Report(finished=[], received=0, queued=0, room=0)
            draws = self._take() if self._due_in == 0 or self._failure is not None else []
            self._asking = False
            received, queued, failure = self._received, len(self._queue), self._failure
            room = max(0, self._ahead - queued)
            recorder = self._recorder
        shard = None
        if recorder is not None and draws:
            try:
                shard, draws = recorder.write(draws)
            except Exception as error:  # it travels to the driver, which raises it
                failure, draws = Failure.of(error), []
        finished = [(key_of(draw.request), draw.rollouts) for draw in draws]
        return Report(finished=finished, received=received, queued=queued, room=room, shard=shard, failure=failure)

    def end(self, sitting: int) -> None:
        """End a sitting; the engine stays open."""
        with self._change:
            joined = self._joined(sitting)
        if joined:
            self._stop()

    def close(self) -> None:
        """Free the engine."""
        self._stop()
        if self._sampler is not None:
            self._sampler.close()

    def _stop(self) -> None:
        """Returns when the engine draws no more."""
        with self._change:
            self._over = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._change:
            left = self._take()
        if left and self._recorder is not None:
            with contextlib.suppress(StorageError):  # nobody waits to hear of it
                self._recorder.write(left)

    @property
    def _has_news(self) -> bool:
        return self._due_in == 0 or self._asking or self._failure is not None or self._over

    @property
    def _due_in(self) -> float | None:
        """Seconds until finished draws should be told, None where there are none.

        They are told at once, or when they are due to be written; soon where the driver has nothing more to ask for, since
        it may wait for them to ask for more.
        """
        if self._recorder is None:
            return 0.0 if self._finished else None
        return self._recorder.schedule.due_in(_SOON_S if self._dry else math.inf)

    def _take(self) -> list[Draw]:
        draws, self._finished = self._finished, []
        if self._recorder is not None:
            self._recorder.schedule.written()
        return draws

    def _clear(self) -> None:
        self._queue.clear()
        self._finished, self._failure = [], None
        self._received = self._received_then = self._begun = 0
        self._ahead = _FEWEST_AHEAD
        self._asking, self._dry = True, False

    def _joined(self, sitting: int) -> bool:
        """Whether this is the sitting under way; calls may overtake the one that begins it."""
        self._change.wait_for(lambda: self._sitting >= sitting)
        return self._sitting == sitting and not self._over

    def _engine(self) -> Sampler:
        if self._sampler is None:
            raise RuntimeError("no engine is open here")
        return self._sampler

    def _work(self, sitting: int, sampling: SamplingParameters) -> None:
        try:
            for draw in self._engine().draw(self._requests(), sampling):
                with self._change:
                    self._begun -= 1
                    self._finished.append(draw)
                    if self._recorder is not None:
                        self._recorder.schedule.add(len(draw.rollouts))
                    self._change.notify_all()
                    if self._over:
                        return
        except Exception as error:  # it travels to the driver, which decides what becomes of it
            with self._change:
                self._failure = Failure.of(error)
                self._change.notify_all()

    def _requests(self) -> Iterator[DrawRequest | None]:
        """What the engine asks for; None where nothing waits here and the driver has been given time to bring more."""
        while True:
            with self._change:
                if not self._queue and not self._dry and not self._over:
                    if self._received - self._received_then >= self._ahead:
                        self._ahead, self._received_then = min(2 * self._ahead, _MOST_AHEAD), self._received
                    self._asking = True
                    self._change.notify_all()
                idle = self._begun == 0
                self._change.wait_for(
                    lambda idle=idle: self._queue or self._over or (self._dry and not idle),  # type: ignore[misc]
                    timeout=None if idle else _PATIENCE_S,
                )
                if self._over:
                    return
                request = self._queue.popleft() if self._queue else None
                self._begun += request is not None
                if len(self._queue) <= self._ahead // 2 and not self._dry:
                    self._asking = True
                    self._change.notify_all()
            yield request


class Probe(msgspec.Struct, frozen=True):
    """What must agree wherever an engine runs: versions of Python and packages, and the clock, seconds since 1970."""

    packages: dict[str, str]
    clock: float


def probe() -> Probe:
    """What this process is."""
    return Probe({"python": platform.python_version(), **installed_packages()}, time.time())
