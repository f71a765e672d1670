"""What the stages take: how to draw, how to grade, and whom to tell about progress."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from rlvr_bench.errors import BadArgument
from rlvr_bench.records import Tools
from rlvr_bench.store.shard_checks import LARGEST_INDEX

__all__ = ["GradeOptions", "Progress", "SampleOptions", "Silent", "check"]

DEFAULT_N = 64
DEFAULT_DRAW_BATCH = 16


class Progress(Protocol):
    """Hears how far a stage is; ``Bars`` shows it to people, ``Lines`` writes it to a log."""

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None: ...

    def advance(self, rollouts: int, tokens: int = 0) -> None: ...

    def verified(self, rollouts: int, solved: int) -> None:
        """While sampling: rollouts verified and problems solved so far."""
        ...

    def note(self, text: str) -> None:
        """While sampling on replicas: how many there are, and how fast."""
        ...

    def lane(self, name: str) -> Progress:
        """A progress of its own for one of several checkpoints that are drawn at once."""
        ...

    def end(self) -> None:
        """The stage is over, complete or not; also called where none is under way."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None: ...

    def advance(self, rollouts: int, tokens: int = 0) -> None: ...

    def verified(self, rollouts: int, solved: int) -> None: ...

    def note(self, text: str) -> None: ...

    def lane(self, name: str) -> Progress:
        return self

    def end(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """How to draw. None means: what the task recommends, else the field's convention (T = 0.6, top-p = 0.95).

    ``stop_after`` R ends a problem after the draw batch that brings its R-th correct rollout; pass@k is then estimated
    with the unbiased estimator for that rule. ``replicas`` engines draw, on the Ray cluster at ``ray`` (auto or HOST:PORT)
    or, where none is named, on this machine; where a batch is drawn changes nothing in it. ``tools`` lets the model run
    code in at most ``tool_calls`` blocks of ``tool_seconds`` CPU time each; such a run gets a folder of its own.
    ``seed_scheme`` 2 (a new run's default) covers the model in every seed, 1 does not; a run keeps the one it began with.
    """

    n: int = DEFAULT_N
    engine: str = "auto"
    out: str | Path = Path("runs")
    limit: int | None = None
    seed: int = 0
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    prompt: str | None = None
    chat_template: Literal["auto", "none"] = "auto"
    token_stats: Literal["off", "summary", "full"] = "summary"
    draw_batch: int = DEFAULT_DRAW_BATCH
    stop_after: int | None = None
    data_dir: Path | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    tools: Literal["python"] | None = None
    tool_calls: int = Tools().calls
    tool_seconds: float = Tools().seconds
    replicas: int | None = None
    ray: str | None = None
    seed_scheme: Literal[1, 2] | None = None

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        check(1 <= self.n <= LARGEST_INDEX, "-n", self.n, f"must be at least 1 and at most {LARGEST_INDEX:,}")
        check(self.limit is None or self.limit >= 1, "--limit", self.limit, "must be at least 1")
        check(self.temperature is None or self.temperature >= 0, "--temperature", self.temperature, "must be 0 or more")
        check(self.top_p is None or 0 < self.top_p <= 1, "--top-p", self.top_p, "must lie in (0, 1]")
        check(self.top_k is None or self.top_k >= 0, "--top-k", self.top_k, "must be 0 (no limit) or more")
        check(self.max_tokens is None or self.max_tokens >= 1, "--max-tokens", self.max_tokens, "must be at least 1")
        check(self.draw_batch >= 1, "--draw-batch", self.draw_batch, "must be at least 1")
        check(self.stop_after is None or self.stop_after >= 1, "--stop-after", self.stop_after, "must be at least 1")
        check(
            self.stop_after is None or self.n % self.draw_batch == 0,
            "-n",
            self.n,
            f"with --stop-after it must be a multiple of the draw batch ({self.draw_batch})",
        )
        check(self.tools in (None, "python"), "--tools", self.tools, "must be python")
        check(self.tool_calls >= 1, "--tool-calls", self.tool_calls, "must be at least 1")
        check(self.tool_seconds > 0, "--tool-seconds", self.tool_seconds, "must be above 0")
        check(self.seed_scheme in (None, 1, 2), "--seed-scheme", self.seed_scheme, "must be 1 or 2")
        check(self.replicas is None or self.replicas >= 1, "--replicas", self.replicas, "must be at least 1")

    @property
    def is_scaled(self) -> bool:
        """Whether more than one engine may draw, which takes Ray."""
        return self.ray is not None or (self.replicas or 1) > 1

    @property
    def tool_limits(self) -> Tools | None:
        """The tool as the manifest records it, None without."""
        if self.tools is None:
            return None
        return Tools(language=self.tools, calls=self.tool_calls, seconds=self.tool_seconds)

    def run_name(self, task: str) -> str:
        """The task's name, and the tool's where there is one: the two runs lie side by side."""
        return task if self.tools is None else f"{task}@{self.tools}"

    def asked(self) -> dict[str, Any]:
        """The sampling parameters the user passed."""
        names = ("temperature", "top_p", "top_k", "max_tokens")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class GradeOptions:
    """How to grade: verifier processes, CPU seconds one decision may take, and whether model-written programs may run
    without a sandbox where there is none (recorded in ``grading.json``).
    """

    workers: int = max(1, (os.cpu_count() or 2) // 2)
    timeout_s: float = 5.0
    allow_unsafe_code: bool = False

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        check(self.workers >= 1, "--workers", self.workers, "must be at least 1")
        check(self.timeout_s > 0, "--timeout", self.timeout_s, "must be above 0 seconds")


def check(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raise BadArgument unless ``ok``."""
    if not ok:
        raise BadArgument(name, value, allowed)
