"""One engine in a process of its own: it takes requests while it draws, and says how many more it could use."""

from __future__ import annotations

import os
import platform
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from rlvr_bench.records import DrawRequest, Prompt, Rollout, SamplingParameters
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.scaling.messages import Failure, Key, Opened, Report, TakenBack, key_of
from rlvr_bench.store.manifest import installed_packages

__all__ = ["Replica", "installed"]

_FEWEST_AHEAD, _MOST_AHEAD = 2, 512  # requests that wait here for the engine
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
        self._queue: deque[DrawRequest] = deque()
        self._finished: list[tuple[Key, tuple[Rollout, ...]]] = []
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
        except Exception as error:  # noqa: BLE001  it travels to the driver, which raises it
            return Failure.of(error)
        return Opened(
            info=self._sampler.info, node=socket.gethostname(), pid=os.getpid(), seconds=time.monotonic() - began
        )

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Length of a prompt, as the model will see it."""
        return self._engine().prompt_tokens(prompt)

    def begin(self, sitting: int, sampling: SamplingParameters) -> None:
        """Begin to draw; what is left of the sitting before is thrown away."""
        self._stop()
        with self._change:
            self._clear()
            self._sitting, self._over = sitting, False
            self._change.notify_all()
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
                self._change.wait_for(lambda: self._has_news or self._sitting != sitting)
            if self._sitting != sitting or self._over:
                return Report(finished=[], received=0, queued=0, room=0)
            finished, self._finished = self._finished, []
            self._asking = False
            queued = len(self._queue)
            room = max(0, self._ahead - queued)
            return Report(finished=finished, received=self._received, queued=queued, room=room, failure=self._failure)

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

    @property
    def _has_news(self) -> bool:
        return bool(self._finished) or self._asking or self._failure is not None or self._over

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
                    if self._over:
                        return
                    self._begun -= 1
                    self._finished.append((key_of(draw.request), draw.rollouts))
                    self._change.notify_all()
        except Exception as error:  # noqa: BLE001  it travels to the driver, which decides what becomes of it
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


def installed() -> dict[str, str]:
    """Versions that must agree wherever an engine runs."""
    return {"python": platform.python_version(), **installed_packages()}
