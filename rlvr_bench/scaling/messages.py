"""The messages between the driver and its replicas, and the protocol of a pool of replicas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from rlvr_bench import errors
from rlvr_bench.records import DrawRequest, EngineInfo, Prompt, Rollout, SamplingParameters

__all__ = [
    "BatchName",
    "Event",
    "Failure",
    "Lost",
    "Opened",
    "Pool",
    "Report",
    "TakenBack",
    "Tally",
    "Target",
    "batch_name",
]

BatchName = tuple[str, int]  # problem id and first index of a draw batch


def batch_name(request: DrawRequest) -> BatchName:
    """The name of a draw batch. Its seed is hashed from the name."""
    return request.prompt.problem_id, request.start


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A replica whose engine is ready; loading took ``seconds``."""

    info: EngineInfo
    node: str
    pid: int
    seconds: float


class Failure(msgspec.Struct, frozen=True):
    """An exception as it is sent: the name of its class, and its message."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure of an exception."""
        return cls(type(error).__name__, str(error) or type(error).__name__)

    @property
    def is_users(self) -> bool:
        """Whether it is a user's error, which every replica would have; an EngineError may have other causes."""
        cls = getattr(errors, self.kind, None)
        return isinstance(cls, type) and issubclass(cls, errors.RlvrBenchError) and cls is not errors.EngineError

    def error(self) -> errors.RlvrBenchError:
        """The exception with its message; an EngineError where it is not one of ours."""
        cls: type[errors.RlvrBenchError] = getattr(errors, self.kind) if self.is_users else errors.EngineError
        made = cls.__new__(cls)
        Exception.__init__(made, self.message)
        return made


class Target(msgspec.Struct, frozen=True):
    """The run that a replica writes to, the token of its driver's lock, and the replica's name in that run."""

    path: Path
    token: str
    writer: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report of a replica: finished draw batches, and the failure that ended its engine.

    ``shard``: the file with the finished rollouts where the replica writes to the run; the rollouts here then have no
    texts and tokens. ``received``: requests received in this session; ``queued``: those that have not begun; ``room``:
    how many more it takes.
    """

    finished: list[tuple[BatchName, tuple[Rollout, ...]]]
    received: int
    queued: int
    room: int
    shard: str | None = None
    failure: Failure | None = None


class TakenBack(msgspec.Struct, frozen=True):
    """Requests that a replica returns without having begun them."""

    keys: list[BatchName]


class Lost(msgspec.Struct, frozen=True):
    """A lost replica. ``blameless``: its node was lost too, so no draw batch is suspected."""

    reason: str
    blameless: bool


Event = tuple[int, Opened | Failure | Report | TakenBack | Lost]


class Tally(msgspec.Struct, kw_only=True):
    """Counts of a job over all replicas. ``engine_s``: seconds of all engines, with loading; ``gpus``: per engine."""

    rollouts: int = 0
    tokens: int = 0
    engine_s: float = 0.0
    gpus: int = 0
    failures: int = 0
    retries: int = 0

    def add(self, other: Tally) -> None:
        """Add the counts of another part of the job."""
        for name in ("rollouts", "tokens", "engine_s", "failures", "retries"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.gpus = max(self.gpus, other.gpus)

    def __str__(self) -> str:
        held = f"{self.engine_s * self.gpus:,.0f} GPU-seconds" if self.gpus else f"{self.engine_s:,.0f} engine-seconds"
        drawn = f"{self.rollouts:,} rollouts, {self.tokens:,} tokens, {held}"
        return f"{drawn}, {self.failures:,} failures, {self.retries:,} draw batches drawn again"


class Pool(Protocol):
    """Replicas by number. Only ``event`` and ``prompt_tokens`` wait; results of the other methods come as events."""

    @property
    def gpus(self) -> int:
        """GPUs per engine."""
        ...

    def start(self) -> int:
        """Start one more replica and return its number; ``Opened``, ``Failure`` or ``Lost`` follows."""
        ...

    def begin(self, replica: int, session: int, sampling: SamplingParameters, target: Target | None) -> None:
        """Begin a session: the replica draws the requests that are added, writes them to ``target`` and reports."""
        ...

    def add(self, replica: int, session: int, requests: Sequence[DrawRequest]) -> None:
        """Send requests; an empty sequence means that there are no more for now."""
        ...

    def take_back(self, replica: int, session: int, count: int) -> None:
        """Ask for up to ``count`` requests that have not begun; ``TakenBack`` follows."""
        ...

    def end(self, replica: int, session: int) -> None:
        """End a session; the engine stays open."""
        ...

    def prompt_tokens(self, replica: int, prompt: Prompt) -> int: ...

    def stop(self, replica: int) -> None:
        """End a replica; it sends no further events."""
        ...

    def event(self, timeout_s: float) -> Event | None:
        """The next event; None where there is none within the time."""
        ...

    def close(self) -> None:
        """Stop every replica."""
        ...
