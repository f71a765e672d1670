"""What the driver and its replicas tell each other, and what a pool of replicas is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from rlvr_bench import errors
from rlvr_bench.records import DrawRequest, EngineInfo, Prompt, Rollout, SamplingParameters

__all__ = ["Event", "Failure", "Key", "Lost", "Opened", "Pool", "Report", "TakenBack", "Tally", "Target", "key_of"]

Key = tuple[str, int]  # a draw batch by its name: problem id and first index


def key_of(request: DrawRequest) -> Key:
    """The name of a draw batch; its seed is hashed from it."""
    return request.prompt.problem_id, request.start


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A replica whose engine is ready: what it is, where it runs, and how long loading took."""

    info: EngineInfo
    node: str
    pid: int
    seconds: float


class Failure(msgspec.Struct, frozen=True):
    """An exception as it travels: the name of its class and its message."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an exception is."""
        return cls(type(error).__name__, str(error) or type(error).__name__)

    @property
    def is_users(self) -> bool:
        """Whether the user can mend it, so that another replica would fail alike; an engine may fail by chance."""
        found = getattr(errors, self.kind, None)
        return isinstance(found, type) and issubclass(found, errors.RlvrBenchError) and found is not errors.EngineError

    def error(self) -> errors.RlvrBenchError:
        """The exception again, with its message; anything that is not ours is an EngineError."""
        cls: type[errors.RlvrBenchError] = getattr(errors, self.kind) if self.is_users else errors.EngineError
        made = cls.__new__(cls)
        Exception.__init__(made, self.message)
        return made


class Target(msgspec.Struct, frozen=True):
    """The run that replicas write to, and the token of the lock that its driver holds."""

    path: Path
    token: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica has to say: finished draw batches, how many more it wants, and the failure that ended its engine.

    ``shard`` holds the finished ones where the replica writes to the run: their rollouts come without texts and tokens.
    ``room`` more requests are wanted and ``queued`` have not begun, of the ``received`` so far in this sitting.
    """

    finished: list[tuple[Key, tuple[Rollout, ...]]]
    received: int
    queued: int
    room: int
    shard: str | None = None
    failure: Failure | None = None


class TakenBack(msgspec.Struct, frozen=True):
    """Requests that a replica had not begun and gives back."""

    keys: list[Key]


class Lost(msgspec.Struct, frozen=True):
    """A replica is gone. ``blameless`` where its node went with it: no draw batch is suspected then."""

    reason: str
    blameless: bool


Event = tuple[int, Opened | Failure | Report | TakenBack | Lost]


class Tally(msgspec.Struct, kw_only=True):
    """What a job took, over all replicas. ``engine_s``: seconds engines were held, loading included; ``gpus`` each."""

    rollouts: int = 0
    tokens: int = 0
    engine_s: float = 0.0
    gpus: int = 0
    failures: int = 0
    retries: int = 0

    def add(self, other: Tally) -> None:
        """Add what another part of the job took."""
        for name in ("rollouts", "tokens", "engine_s", "failures", "retries"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.gpus = max(self.gpus, other.gpus)

    def __str__(self) -> str:
        held = f"{self.engine_s * self.gpus:,.0f} GPU-seconds" if self.gpus else f"{self.engine_s:,.0f} engine-seconds"
        drawn = f"{self.rollouts:,} rollouts, {self.tokens:,} tokens, {held}"
        return f"{drawn}, {self.failures:,} failures, {self.retries:,} draw batches drawn again"


class Pool(Protocol):
    """Replicas by number. Nothing here waits but ``event`` and ``prompt_tokens``; what happens comes as events."""

    @property
    def gpus(self) -> int:
        """GPUs that one engine takes."""
        ...

    def start(self) -> int:
        """Begin to open one more engine; ``Opened``, ``Failure`` or ``Lost`` follows."""
        ...

    def begin(self, replica: int, sitting: int, sampling: SamplingParameters, target: Target | None) -> None:
        """Begin a sitting: from now on the replica draws what is added, writes it to ``target`` and reports."""
        ...

    def add(self, replica: int, sitting: int, requests: Sequence[DrawRequest]) -> None:
        """Hand over requests; none at all means that there are no more for now."""
        ...

    def take_back(self, replica: int, sitting: int, count: int) -> None:
        """Ask for up to so many requests that have not begun; ``TakenBack`` follows."""
        ...

    def end(self, replica: int, sitting: int) -> None:
        """End a sitting; the engine stays open."""
        ...

    def prompt_tokens(self, replica: int, prompt: Prompt) -> int: ...

    def stop(self, replica: int) -> None:
        """Free a replica's engine; nothing more is heard of it."""
        ...

    def event(self, timeout_s: float) -> Event | None:
        """The next thing that happened, None if nothing does within the time."""
        ...

    def close(self) -> None:
        """Stop every replica."""
        ...
