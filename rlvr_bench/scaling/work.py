"""The state of the driver: the requests still to be drawn, and the requests of each replica."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from rlvr_bench.records import DrawRequest
from rlvr_bench.scaling.messages import BatchName

__all__ = ["Work", "Worker"]


@dataclass
class Worker:
    """The driver's record of a replica.

    ``out``: the batches that it has; ``sent``: the number of requests sent to it in this session; ``room``: how many
    more it accepts; ``queued``: those that have not begun; ``tokens``: tokens of its finished rollouts in this session.
    """

    out: dict[BatchName, DrawRequest] = field(default_factory=dict)
    sent: int = 0
    room: int = 0
    queued: int = 0
    dry: bool = False  # it was notified that there are no more requests for now
    alone: bool = False  # it draws only a batch that may have ended engines
    giving_back: bool = False
    tokens: int = 0
    since: float = 0.0  # when the session began
    held_since: float = 0.0  # when its loading began

    def rest(self) -> None:
        """Forget the previous session."""
        self.out = {}
        self.sent = self.room = self.queued = self.tokens = 0
        self.dry = self.alone = self.giving_back = False
        self.since = time.monotonic()


class Work:
    """The requests to be drawn: first those of lost replicas, then those of the iterator.

    ``again``: requests to be drawn again; ``suspects``: those that are drawn alone, because they may have ended
    engines; ``losses``: the deaths counted for a batch.
    """

    def __init__(self, requests: Iterable[DrawRequest | None]) -> None:
        self._requests = iter(requests)
        self.again: deque[DrawRequest] = deque()
        self.suspects: deque[DrawRequest] = deque()
        self.losses: dict[BatchName, int] = {}
        self.exhausted = False

    def next(self) -> DrawRequest | None:
        """The next request; None where there is none now."""
        if self.again:
            return self.again.popleft()
        if self.exhausted:
            return None
        request = next(self._requests, self)
        if isinstance(request, Work):
            self.exhausted = True
            return None
        return request

    @property
    def is_empty(self) -> bool:
        return self.exhausted and not self.again and not self.suspects
