"""Measure a zoo model, or random guessing, on puzzles: exact unbiased pass@k with its interval, by tier."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, mean, stdev

import torch

from rlvr_bench import countdown
from rlvr_bench.countdown import HeldOut
from rlvr_bench.zoo.checkpoints import Interval, Measured
from rlvr_bench.zoo.model import TinyLlama
from rlvr_bench.zoo.sample import Samples, Sampling, sample
from rlvr_bench.zoo.tokenizer import BOS, encode

__all__ = ["BUDGETS", "Tally", "evaluate", "evaluate_guess", "measure", "pass_at_k"]

BUDGETS = (1, 4, 16, 64, 256)
_ROWS = 1024
_Z95 = NormalDist().inv_cdf(0.975)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased probability that k of n rollouts, c of them correct, hold a correct one: 1 - C(n-c, k) / C(n, k).

    NaN where k > n. Source: Chen et al. 2021 (arXiv 2107.03374), equation 1.
    """
    return math.nan if k > n else 1.0 - math.comb(n - c, k) / math.comb(n, k)


@dataclass
class Tally:
    """Counts over problems: ``correct`` and ``distinct`` responses of each, reasons and token sums over all."""

    n: int
    tiers: list[str] = field(default_factory=list)
    correct: list[int] = field(default_factory=list)
    distinct: list[int] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    entropy: float = 0.0
    nucleus: float = 0.0
    cpu_s: float = 0.0

    def add(self, problem: HeldOut, texts: Sequence[str], finished: Iterable[bool]) -> None:
        """Check all rollouts of one problem; a response that did not end is ``truncated``, whatever it says."""
        puzzle = problem.puzzle
        reasons = Counter(
            countdown.check(puzzle.numbers, puzzle.targets, text) if ended else "truncated"
            for text, ended in zip(texts, finished, strict=True)
        )
        self.tiers.append(problem.tier)
        self.correct.append(reasons["ok"])
        self.distinct.append(len(set(texts)))
        self.reasons.update(reasons)

    def add_tokens(self, samples: Samples) -> None:
        """Add up the token statistics of a batch."""
        self.tokens += int(samples.lengths.sum())
        self.entropy += float(samples.entropy.sum())
        self.nucleus += float(samples.nucleus.sum())


def evaluate(
    model: TinyLlama,
    problems: Sequence[HeldOut],
    n: int = 256,
    seed: int = 0,
    temperature: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Tally:
    """Draw and check n rollouts of each problem (top_p = 1); ``progress`` is called with problems done and in all."""
    started = time.process_time()
    generator = torch.Generator().manual_seed(seed)
    tally = Tally(n)
    # Problems of one size end at about the same token, and a batch stops when its last rollout ends.
    ordered = sorted(problems, key=lambda problem: len(problem.puzzle.numbers))
    width = max(1, _ROWS // n)
    for start in range(0, len(ordered), width):
        _evaluate_batch(model, ordered[start : start + width], Sampling(n, temperature=temperature), generator, tally)
        if progress is not None:
            progress(len(tally.correct), len(ordered))
    tally.cpu_s = time.process_time() - started
    return tally


def _evaluate_batch(
    model: TinyLlama, problems: Sequence[HeldOut], sampling: Sampling, generator: torch.Generator, tally: Tally
) -> None:
    prompts = [[BOS, *encode(countdown.prompt_text(problem.puzzle))] for problem in problems]
    samples = sample(model, prompts, sampling, generator)
    texts, finished = samples.texts(), samples.finished().tolist()
    tally.add_tokens(samples)
    for index, problem in enumerate(problems):
        rows = slice(index * sampling.n, (index + 1) * sampling.n)
        tally.add(problem, texts[rows], finished[rows])


def evaluate_guess(problems: Sequence[HeldOut], n: int = 256, seed: int = 0) -> Tally:
    """The same measurement of random legal steps, the control without skill."""
    started = time.process_time()
    rng = random.Random(seed)
    tally = Tally(n)
    for problem in problems:
        texts = [countdown.response_text(countdown.guess(rng, problem.puzzle)) for _ in range(n)]
        tally.add(problem, texts, [True] * n)
    tally.cpu_s = time.process_time() - started
    return tally


def measure(tally: Tally) -> Measured:
    """A tally as the numbers of a card."""
    rollouts = tally.n * len(tally.correct)
    tokens = tally.tokens
    return Measured(
        n_problems=len(tally.correct),
        n_samples=tally.n,
        pass_at_k={f"{k}": _interval(tally, k) for k in BUDGETS if k <= tally.n},
        tiers={
            tier: {f"{k}": _interval(tally, k, tier) for k in (1, tally.n)}
            for tier in countdown.TIERS
            if tier in tally.tiers
        },
        unsolved=tally.correct.count(0),
        reasons={reason: round(count / rollouts, 4) for reason, count in tally.reasons.most_common()},
        distinct=round(sum(tally.distinct) / rollouts, 4),
        tokens_mean=round(tokens / rollouts, 2) if tokens else None,
        entropy_mean=round(tally.entropy / tokens, 4) if tokens else None,
        branching_mean=round(tally.nucleus / tokens, 4) if tokens else None,
        cpu_s=round(tally.cpu_s, 1),
    )


def _interval(tally: Tally, k: int, tier: str | None = None) -> Interval:
    """Mean pass@k over problems with a 95 % interval: normal, or Wilson's where every problem has the same value.

    The spread over problems holds both the sampling of problems and that of rollouts.
    """
    pairs = zip(tally.correct, tally.tiers, strict=True)
    values = [pass_at_k(tally.n, c, k) for c, t in pairs if tier is None or t == tier]
    centre = mean(values)
    low, high = _bounds(values) if len(set(values)) > 1 else _wilson(centre, len(values))
    return Interval(value=round(centre, 4), low=round(max(0.0, low), 4), high=round(min(1.0, high), 4))


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    half = _Z95 * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def _wilson(rate: float, n: int) -> tuple[float, float]:
    """Wilson's score interval (1927), which keeps its width at rates of 0 and 1."""
    squared = _Z95**2
    centre = (rate + squared / (2 * n)) / (1 + squared / n)
    half = _Z95 / (1 + squared / n) * math.sqrt(rate * (1 - rate) / n + squared / (4 * n * n))
    return centre - half, centre + half
