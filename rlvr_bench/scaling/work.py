"""What the driver keeps in mind: what is still to be drawn, and what each replica holds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from rlvr_bench.records import DrawRequest
from rlvr_bench.scaling.messages import Key

__all__ = ["Work", "Worker"]


@dataclass
class Worker:
    """A replica as the driver sees it: what it holds, and how much more it wants."""

    out: dict[Key, DrawRequest] = field(default_factory=dict)
    sent: int = 0
    room: int = 0
    queued: int = 0
    dry: bool = False  # it knows that there are no more requests for now
    alone: bool = False  # it draws a suspect
    giving_back: bool = False
    tokens: int = 0
    since: float = 0.0  # the sitting began
    held_since: float = 0.0  # its loading began

    def rest(self) -> None:
        """Forget the sitting before."""
        self.out = {}
        self.sent = self.room = self.queued = self.tokens = 0
        self.dry = self.alone = self.giving_back = False
        self.since = time.monotonic()


class Work:
    """What is to be drawn: requests that came back from a lost replica first, then those of the iterator."""

    def __init__(self, requests: Iterable[DrawRequest | None]) -> None:
        self._requests = iter(requests)
        self.again: deque[DrawRequest] = deque()
        self.suspects: deque[DrawRequest] = deque()
        self.losses: dict[Key, int] = {}
        self.exhausted = False

    def next(self) -> DrawRequest | None:
        """None where there is none now."""
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
