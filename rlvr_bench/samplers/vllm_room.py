"""How many responses may be in a vLLM engine at once, so that its KV cache holds them until they end.

vLLM admits responses by their present length. Where they grow beyond the cache, it drops the newest ones and computes
their tokens again: with long responses and the usual limit of 256 to 1,024 sequences, most tokens are computed several
times (6 to 8 preemptions a response in a simulation of 10,000-token responses). So the driver sends fewer.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rlvr_bench.records import CacheUse

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.metrics.stats import SchedulerStats

__all__ = ["EngineWatch", "Room", "fitting", "kv_tokens"]

_REMEMBERED = 1000  # finished responses that the estimate uses
_STEPS = 128  # of the time axis, which ends at the limit
_MARGIN = 1.5  # standard deviations; in simulations of several laws less than 1 % of the tokens are then computed again


class Room:
    """The number of responses that may be in the engine, estimated again as responses end."""

    def __init__(self, capacity: int | None, sequences: int, *, chosen: bool, block: int = 0) -> None:
        """``capacity``: tokens that the cache holds, None where unknown; it is given out in blocks of ``block`` tokens.
        ``sequences``: how many the engine runs at once, which the user has ``chosen`` or not; a chosen number is kept.
        """
        self._capacity = None if chosen else capacity
        self._sequences = sequences
        self._lengths: deque[int] = deque(maxlen=_REMEMBERED)
        self._block = self._prompt = block  # the last block of a response is not full
        self._ended = 0  # responses since the estimate
        self._fit = math.inf

    @property
    def responses(self) -> int:
        """How many may be in the engine, at least one. Where the engine's limit is lower, twice as many, so that some wait."""
        return max(1, int(self._fit)) if self.is_tight else 2 * self._sequences

    @property
    def is_tight(self) -> bool:
        """Whether the cache holds fewer responses than the engine would run at once."""
        return self._fit < self._sequences

    @property
    def is_outdated(self) -> bool:
        """Whether so many responses have ended that ``renew`` should be called."""
        return self._ended >= max(1.0, min(self._fit, self._sequences) // 4)

    def ended(self, lengths: Sequence[int]) -> None:
        """Note the tokens of finished responses."""
        self._lengths += lengths
        self._ended += len(lengths)

    def renew(self, prompt: int, open_lengths: Sequence[int], limit: int) -> None:
        """Estimate again. ``prompt``: tokens of a prompt; ``open_lengths``: tokens so far of the responses in the engine;
        ``limit``: the most of one.
        """
        self._ended = 0
        self._prompt = max(self._prompt, prompt + self._block)
        if self._capacity is None or self._capacity >= self._sequences * (self._prompt + limit):
            self._fit = math.inf
            return
        self._fit = fitting(self._capacity, self._prompt, limit, list(self._lengths), open_lengths)


def fitting(capacity: int, prompt: int, limit: int, ended: Sequence[int], open_lengths: Sequence[int]) -> float:
    """How many responses a cache of ``capacity`` tokens holds until they end, if each that ends is replaced at once.

    The expected tokens of all responses, now open and new, must stay below the capacity at every later time, with a margin
    of ``_MARGIN`` standard deviations.
    """
    alive = survival(ended, open_lengths, limit)
    times = np.arange(_STEPS + 1) * limit / _STEPS
    dies = -np.diff(alive)
    new = np.zeros(_STEPS + 1)  # expected tokens of a response that begins now, or of the one that has replaced it
    for step in range(_STEPS + 1):
        new[step] = (prompt + times[step]) * alive[step] + dies[:step] @ new[:step][::-1]
    total = np.zeros(_STEPS + 1)
    ages = np.minimum(np.asarray(open_lengths, np.int64) * _STEPS // limit, _STEPS - 1)
    for age, number in zip(*np.unique(ages, return_counts=True), strict=True):
        left = _STEPS + 1 - age
        itself = np.zeros(_STEPS + 1)
        itself[:left] = (prompt + times[age:]) * alive[age:]
        total += number * (itself + _replaced(dies[age:], new)) / alive[age]
    mean = float(alive[:-1].mean() * limit)
    square = float((alive[:-1] * np.diff(times**2)).sum())
    least = capacity / (prompt + limit)
    margin = _MARGIN * math.sqrt(max(0.0, square - mean**2) * max(least, len(open_lengths)))
    return max(least, len(open_lengths) + float(((capacity - margin - total) / new).min()))


def _replaced(dies: npt.NDArray[np.float64], new: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Expected tokens at each step of the responses that replace one which ends by these probabilities."""
    replaced: npt.NDArray[np.float64] = np.r_[0.0, np.convolve(dies, new)[:_STEPS]]
    return replaced


def survival(ended: Sequence[int], open_lengths: Sequence[int], limit: int) -> npt.NDArray[np.float64]:
    """The probability that a response has more tokens than each of 129 lengths from 0 to ``limit``, (129,).

    The responses that end first are the short ones, so those that grow count as longer than they are now (Kaplan and Meier
    1958). One response of ``limit`` tokens is added: before any has ended, all have that length.
    """
    times = np.minimum([*ended, *open_lengths, limit], limit).astype(np.float64)
    ends = np.r_[np.ones(len(ended)), np.zeros(len(open_lengths)), 1.0]
    order = np.lexsort((-ends, times))
    times, ends = times[order], ends[order]
    alive: npt.NDArray[np.float64] = np.r_[1.0, np.cumprod(1 - ends / np.arange(len(times), 0, -1))]
    at: npt.NDArray[np.float64] = alive[np.searchsorted(times, np.arange(_STEPS + 1) * limit / _STEPS, side="right")]
    return at


def kv_tokens(engine: LLMEngine) -> int | None:
    """The tokens that the engine's KV cache holds; None where it does not say."""
    config = engine.vllm_config
    concurrency = getattr(config.cache_config, "kv_cache_max_concurrency", None)
    if concurrency:
        return int(concurrency * config.model_config.max_model_len)
    blocks = config.cache_config.num_gpu_blocks
    return blocks * config.cache_config.block_size if blocks else None


class EngineWatch:
    """Adds up the scheduler's statistics. It replaces vLLM's logger, which costs time for every token."""

    def __init__(self) -> None:
        self._use = CacheUse()

    @classmethod
    def of(cls, engine: LLMEngine) -> EngineWatch | None:
        """The watch of an engine that was started with statistics; None for another one."""
        if getattr(engine, "logger_manager", None) is None:
            return None
        watch = cls()
        engine.logger_manager = watch
        engine.log_stats = engine.output_processor.log_stats = False
        return watch

    def record(self, *, scheduler_stats: SchedulerStats | None = None, **_: object) -> None:
        """Called by vLLM after every step."""
        if scheduler_stats is not None:
            use, prefix = self._use, scheduler_stats.prefix_cache_stats
            self._use = CacheUse(
                peak=max(use.peak, scheduler_stats.kv_cache_usage),
                preempted=use.preempted + prefix.preempted_requests,
                again=use.again + prefix.preempted_queries - prefix.preempted_hits,
            )

    def log(self) -> None:
        """Called by vLLM every few seconds."""

    def take(self) -> CacheUse:
        """What was recorded since the last call."""
        use, self._use = self._use, CacheUse()
        return use
