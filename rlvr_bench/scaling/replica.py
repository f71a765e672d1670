"""One engine in a separate process: it accepts requests while it draws, and reports how many more it can accept."""

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
from rlvr_bench.records import Draw, DrawRequest, Prompt, SamplingParameters, SavedRollout
from rlvr_bench.samplers.protocol import Growth, Sampler, growing_draws
from rlvr_bench.scaling.messages import Failure, Opened, Report, TakenBack, Target, batch_name
from rlvr_bench.scaling.recording import Recorder, Unwritten
from rlvr_bench.store.manifest import installed_packages

__all__ = ["Probe", "Replica", "probe"]

_FEWEST_AHEAD, _MOST_AHEAD = 2, 512  # requests that wait here for the engine
_SOON_S = 0.2  # while the driver has no more requests, finished draws are written after this time at the latest
_PATIENCE_S = 0.25  # an engine that draws waits at most this long for a new request


class Replica:
    """The replica that the driver calls. One thread waits in ``collect``, others add requests, another one draws.

    The number of requests that wait here adapts: it doubles when the engine has taken all of them and asks for more
    while the driver has some. So an engine that draws few batches at once does not hold many requests that other
    replicas could draw, and one that draws a hundred at once does not run out of requests.
    """

    def __init__(self, opener: Callable[[], Sampler]) -> None:
        self._opener = opener
        self._sampler: Sampler | None = None
        self._change = threading.Condition()
        self._session = 0
        self._over = True
        self._thread: threading.Thread | None = None
        self._recorder: Recorder | None = None
        self._queue: deque[DrawRequest] = deque()
        self._unwritten = Unwritten()
        self._writing = False  # whether the thread in ``collect`` writes
        self._failure: Failure | None = None
        self._received = self._received_then = 0
        self._begun = 0  # requests that the engine has taken and not finished
        self._ahead = _FEWEST_AHEAD
        self._asking, self._dry = True, False

    def open(self) -> Opened | Failure:
        """Load the engine."""
        began = time.monotonic()
        try:
            self._sampler = self._opener()
        except Exception as error:  # it is sent to the driver, which raises it
            return Failure.of(error)
        return Opened(
            info=self._sampler.info, node=socket.gethostname(), pid=os.getpid(), seconds=time.monotonic() - began
        )

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Number of tokens of a prompt, as the model sees it."""
        return self._engine().prompt_tokens(prompt)

    def begin(self, session: int, sampling: SamplingParameters, target: Target | None = None) -> None:
        """Begin a session.

        Draws of the previous session that were not reported are written where that session had a target, else lost.
        """
        self._stop()
        recorder, failure = None, None
        try:
            recorder = Recorder(target) if target is not None else None
        except Exception as error:  # it is sent to the driver with the first report
            failure = Failure.of(error)
        with self._change:
            self._clear()
            self._recorder, self._failure = recorder, failure
            self._session, self._over = session, False
            self._change.notify_all()
        if failure is None:
            self._thread = threading.Thread(target=self._work, args=(session, sampling), name="draw", daemon=True)
            self._thread.start()

    def add(self, session: int, requests: Sequence[DrawRequest]) -> None:
        """Add requests; an empty sequence means that there are no more for now."""
        with self._change:
            if self._joined(session):
                self._queue.extend(requests)
                self._received += len(requests)
                self._dry = not requests
                self._change.notify_all()

    def take_back(self, session: int, count: int) -> TakenBack:
        """Return up to ``count`` requests that the engine has not taken, the newest first."""
        with self._change:
            if not self._joined(session):
                return TakenBack([])
            return TakenBack([batch_name(self._queue.pop()) for _ in range(min(count, len(self._queue)))])

    def collect(self, session: int) -> Report:
        """Wait until there is something to report: finished draws, room for more requests, or the engine's failure."""
        with self._change:
            if self._joined(session):
                while not self._has_news and self._session == session:
                    self._change.wait(self._due_in)
            if self._session != session or self._over:
                return Report(finished=[], received=0, queued=0, room=0)
            draws, state = self._take() if self._due_in == 0 or self._failure is not None else ([], None)
            self._asking = False
            received, queued, failure = self._received, len(self._queue), self._failure
            room = max(0, self._ahead - queued)
            recorder = self._recorder
            self._writing = recorder is not None and (bool(draws) or state is not None)
        shard = None
        if recorder is not None and self._writing:
            try:
                shard, draws = recorder.write(draws, state)
            except Exception as error:  # it is sent to the driver, which raises it
                failure, draws = Failure.of(error), []
            with self._change:
                self._writing = False
                self._change.notify_all()
        finished = [(batch_name(draw.request), draw.rollouts) for draw in draws]
        return Report(finished=finished, received=received, queued=queued, room=room, shard=shard, failure=failure)

    def end(self, session: int) -> None:
        """End a session; the engine stays open."""
        with self._change:
            joined = self._joined(session)
        if joined:
            self._stop()

    def close(self) -> None:
        """Free the engine."""
        self._stop()
        if self._sampler is not None:
            self._sampler.close()

    def _stop(self) -> None:
        """Stop drawing; returns when the engine has stopped."""
        with self._change:
            self._over = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._change:
            self._change.wait_for(lambda: not self._writing)  # what comes is later, and replaces it
            draws, state = self._take()
        if self._recorder is not None and (draws or state is not None):
            with contextlib.suppress(StorageError):  # no caller waits for the result
                self._recorder.write(draws, state)

    @property
    def _has_news(self) -> bool:
        return self._due_in == 0 or self._asking or self._failure is not None or self._over

    @property
    def _due_in(self) -> float | None:
        """Seconds until finished draws are reported; None where there are no finished draws.

        Without a target they are reported at once, else when they are due to be written. They are due soon where the
        driver has no more requests, because its next requests may depend on them. While draws grow, the engine's thread
        sets the moments (``_save``).
        """
        if self._recorder is None:
            return 0.0 if self._unwritten.rollouts else None
        if self._unwritten.is_marked:
            return 0.0
        if self._unwritten.is_growing and self._begun:
            return None
        return self._recorder.schedule.due_in(self._patience_s)

    @property
    def _patience_s(self) -> float:
        return _SOON_S if self._dry else math.inf

    def _take(self) -> tuple[list[Draw], Sequence[SavedRollout] | None]:
        draws, state = self._unwritten.take(is_idle=not self._begun)
        if self._recorder is not None:
            self._recorder.schedule.written()
            if self._unwritten.rollouts:
                self._recorder.schedule.add(self._unwritten.rollouts)
        return draws, state

    def _clear(self) -> None:
        self._queue.clear()
        self._unwritten, self._failure = Unwritten(), None
        self._received = self._received_then = self._begun = 0
        self._ahead = _FEWEST_AHEAD
        self._asking, self._dry = True, False

    def _joined(self, session: int) -> bool:
        """Whether this is the current session. Waits for it to begin: calls may arrive before ``begin``."""
        self._change.wait_for(lambda: self._session >= session)
        return self._session == session and not self._over

    def _engine(self) -> Sampler:
        if self._sampler is None:
            raise RuntimeError("no engine is open here")
        return self._sampler

    def _work(self, session: int, sampling: SamplingParameters) -> None:
        try:
            self._draw(sampling)
        except Exception as error:  # it is sent to the driver, which handles it
            with self._change:
                self._failure = Failure.of(error)
                self._change.notify_all()

    def _draw(self, sampling: SamplingParameters) -> None:
        growth: Growth | None = None
        try:
            for item in growing_draws(self._engine(), self._requests(), sampling):
                if isinstance(item, Draw):
                    self._finish(item)
                elif self._recorder is not None:
                    growth = item
                    self._save(growth, self._recorder)
                if self._over:
                    break
            else:
                growth = None  # no draw is open
        finally:
            if growth is not None:
                self._mark(growth)

    def _finish(self, draw: Draw) -> None:
        with self._change:
            self._begun -= 1
            self._unwritten.add(draw)
            if self._recorder is not None:
                self._recorder.schedule.add(len(draw.rollouts))
            self._change.notify_all()

    def _save(self, growth: Growth, recorder: Recorder) -> None:
        """Note what the open draws have if it is due to be written; the thread in ``collect`` writes it."""
        self._unwritten.is_growing = True
        waits = recorder.schedule.due_in(self._patience_s) == 0
        is_due = recorder.pace.is_due_after(self._patience_s if waits else math.inf) or recorder.schedule.is_full
        if is_due and not self._unwritten.is_marked:
            self._mark(growth)

    def _mark(self, growth: Growth) -> None:
        state = growth()
        with self._change:
            self._unwritten.mark(state)
            self._change.notify_all()

    def _requests(self) -> Iterator[DrawRequest | None]:
        """The requests for the engine; None where there is none now and the driver had ``_PATIENCE_S`` to send one."""
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
    """What must be equal on all nodes: versions of Python and packages, and the clock (seconds since 1970)."""

    packages: dict[str, str]
    clock: float


def probe() -> Probe:
    """The versions and the clock of this process."""
    return Probe({"python": platform.python_version(), **installed_packages()}, time.time())
