"""Posterior of pass@k beyond n, from the problems that are solved rarely or never: they decide how the curve goes on.

Only problems with at most a quarter of their rollouts correct are used, so that the distribution of high solve rates has
no influence on its tail at 0. They are of three kinds: a share that is never solved; a share with rates that are uniform,
the edge of the problems solved more often; and others, whose rates are Beta(a, b). Prior: log a is normal around log 0.3
(published tail exponents of language models are 0.1 to 0.5: arXiv 2502.17578, arXiv 2510.05197), log b is uniform, and
each share is 0 with a fixed probability, else uniform. The posterior is summed over a grid that is refined around its
mass.

R rare counts, U distinct counts; A, B, E and S values of log a, log b, the uniform share (edge) and the share never solved.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaln, chdtrc

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

__all__ = ["RareSolves", "rare_solves"]

RARE, FEWEST, MOST = (
    4,
    8,
    1000,
)  # a problem is solved rarely with at most n / 4 correct rollouts, at least 8, at most 1,000
TAIL, SPREAD = 0.3, 0.8  # of the prior of log a
NO_EDGE, NO_SHARE = 0.65, 0.35  # prior probabilities that there are no problems of these kinds
_Limits = tuple[tuple[float, float], ...]
LIMITS: _Limits = (
    (math.log(0.01), math.log(20.0)),
    (math.log(0.02), math.log(1e6)),
    (0.0, 0.98),
    (0.0, 0.98),
)
SIZES = (20, 22, 8, 14)
ROUNDS = 4
NEGLIGIBLE = 1e-6
DRAWS = 4000
TINY = 1e-300
FEWEST_IN_BIN, PARAMETERS = 3.0, 2  # the priors take about two parameters away


@dataclasses.dataclass(frozen=True)
class RareSolves:
    """Draws (D,) of the mean pass@k over these problems, and the posterior probability that all can be solved.

    ``misfit``: p-value of the model, by a chi-squared test of the rare counts.
    """

    draws: Float64[np.ndarray, " D"]
    all_solvable: float
    misfit: float


@dataclasses.dataclass(frozen=True)
class _Counts:
    """The distinct counts (U,) of n rollouts each, and how many problems have each."""

    n: int
    count: Int64[np.ndarray, " U"]
    problems: Int64[np.ndarray, " U"]
    most: int

    def rarely(self) -> Float64[np.ndarray, " R"]:
        """How many problems have 0, 1, ... correct rollouts, up to the ``most`` of a rarely solved one."""
        rare = self.count <= self.most
        table = np.zeros(self.most + 1)
        table[self.count[rare]] = self.problems[rare]
        return table


@dataclasses.dataclass(frozen=True)
class _Grid:
    """Values of log a (A,) and log b (B,); of the edge (E,) and the share (S,), the first of which is 0."""

    log_a: Float64[np.ndarray, " A"]
    log_b: Float64[np.ndarray, " B"]
    edge: Float64[np.ndarray, " E"]
    share: Float64[np.ndarray, " S"]
    log_prior: Float64[np.ndarray, "A 1 E S"]

    @classmethod
    def over(cls, limits: _Limits) -> _Grid:
        """Equal steps between the limits of each parameter; shares are in the middle of their steps."""
        log_a, log_b = (np.linspace(*ends, size) for ends, size in zip(limits[:2], SIZES[:2], strict=True))
        (edge, of_edge), (share, of_share) = (
            _spike_and_slab(none, ends, size)
            for none, ends, size in zip((NO_EDGE, NO_SHARE), limits[2:], SIZES[2:], strict=True)
        )
        of_tail = -((log_a - math.log(TAIL)) ** 2) / (2 * SPREAD**2)
        log_prior = of_tail[:, None, None, None] + of_edge[:, None] + of_share
        return cls(log_a, log_b, edge, share, log_prior)


def _spike_and_slab(
    none: float, ends: tuple[float, float], size: int
) -> tuple[Float64[np.ndarray, " S"], Float64[np.ndarray, " S"]]:
    """0 and middles of equal steps between the ends, and the log prior of each."""
    step = (ends[1] - ends[0]) / size
    values = np.append(0.0, ends[0] + step * (np.arange(size) + 0.5))
    return values, np.log(np.append(none, np.full(size, (1 - none) * step)))


def rare_solves(n_correct: Int64[np.ndarray, " P"], n: int, k: int, rng: np.random.Generator) -> RareSolves:
    """Posterior draws of the mean pass@k of these problems at k > n: each unsolved one is solved by then, or it is not.

    Some problems must be unsolved, and some solved.
    """
    count, problems = np.unique(n_correct, return_counts=True)
    counts = _Counts(n, count, problems, min(max(FEWEST, n // RARE), MOST))
    limits: _Limits = LIMITS
    for _ in range(ROUNDS):
        grid = _Grid.over(limits)
        weights = _posterior(counts, grid)
        limits = _around(weights, grid)
    at = np.unravel_index(rng.choice(weights.size, DRAWS, p=weights.ravel()), weights.shape)
    later = rng.binomial(int(counts.problems[counts.count == 0].sum()), _later(counts, grid, k)[at])
    draws = (later + _again(counts, grid, k)[at[:2]]) / n_correct.size
    return RareSolves(draws, float(weights[..., 0].sum()), _misfit(counts, grid, weights))


def _posterior(counts: _Counts, grid: _Grid) -> Float64[np.ndarray, "A B E S"]:
    """Weights of the grid, with sum 1."""
    problems = counts.rarely()
    seen = np.append(0, 1 + np.flatnonzero(problems[1:]))
    law = _rare_law(counts, grid)[:, :, None, seen]
    edge = grid.edge[:, None]
    mixed = (1 - edge) * law + edge / problems.size  # (A, B, E, counts seen)
    solved = np.log(np.maximum(mixed[..., 1:], TINY)) @ problems[seen[1:]]
    log_weights = (
        solved[..., None]
        + problems[1:].sum() * np.log1p(-grid.share)
        + problems[0] * np.log(np.maximum(grid.share + (1 - grid.share) * mixed[..., 0, None], TINY))
        + grid.log_prior
    )
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())


def _rare_law(counts: _Counts, grid: _Grid) -> Float64[np.ndarray, "A B R"]:
    """Probability of each rare count under Beta(a, b), given that it is rare."""
    log_law = _log_law(np.arange(counts.most + 1), counts.n, grid)
    return np.asarray(np.exp(log_law - np.logaddexp.reduce(log_law, axis=2, keepdims=True)))


def _log_law(count: Int64[np.ndarray, " U"], n: int, grid: _Grid) -> Float64[np.ndarray, "A B U"]:
    """Logarithm of the beta-binomial probability of each count."""
    a, b = np.exp(grid.log_a)[:, None, None], np.exp(grid.log_b)[None, :, None]
    log_ways = -betaln(count + 1, n - count + 1) - np.log(n + 1)
    return np.asarray(log_ways + betaln(a + count, b + n - count) - betaln(a, b))


def _around(weights: Float64[np.ndarray, "A B E S"], grid: _Grid) -> _Limits:
    """The limits of each parameter between which the weights are not negligible, and a step more on each side."""
    ends = []
    for axis, (values, (least, most)) in enumerate(
        zip((grid.log_a, grid.log_b, grid.edge[1:], grid.share[1:]), LIMITS, strict=True)
    ):
        weight = weights.sum(axis=tuple(other for other in range(4) if other != axis))[-values.size :]
        step = values[1] - values[0]
        kept = values[weight > NEGLIGIBLE * weight.max()]
        ends.append((max(least, float(kept[0] - step)), min(most, float(kept[-1] + step))))
    return tuple(ends)


def _later(counts: _Counts, grid: _Grid, k: int) -> Float64[np.ndarray, "A B E S"]:
    """Chance that k fresh rollouts solve a problem that n rollouts did not."""
    n = counts.n
    a, b = np.exp(grid.log_a)[:, None], np.exp(grid.log_b) + n
    tail = -np.expm1(betaln(a, b + k) - betaln(a, b))[:, :, None]
    unsolved = _rare_law(counts, grid)[:, :, 0, None]
    of_tail, of_edge = (1 - grid.edge) * unsolved, grid.edge / (counts.most + 1)
    solved = (of_tail * tail + of_edge * k / (n + 1 + k))[..., None] * (1 - grid.share)
    return np.asarray(solved / (grid.share + (1 - grid.share) * (of_tail + of_edge)[..., None]))


def _again(counts: _Counts, grid: _Grid, k: int) -> Float64[np.ndarray, "A B"]:
    """Sum of pass@k over the problems with a correct rollout."""
    solved = counts.count > 0
    count, problems = counts.count[solved], counts.problems[solved]
    a, b = np.exp(grid.log_a)[:, None, None] + count, np.exp(grid.log_b)[None, :, None] + counts.n - count
    return np.asarray(-np.expm1(betaln(a, b + k) - betaln(a, b)) @ problems)


def _misfit(counts: _Counts, grid: _Grid, weights: Float64[np.ndarray, "A B E S"]) -> float:
    """Pearson's test of the rare counts in octaves 0, 1, 2 to 3, 4 to 7 ..., merged up to ``FEWEST_IN_BIN`` problems."""
    problems = counts.rarely()
    solvable = weights @ (1 - grid.share)
    expected = np.einsum("ab,abr->r", solvable @ (1 - grid.edge), _rare_law(counts, grid))
    expected += np.sum(solvable @ grid.edge) / problems.size
    expected[0] += np.sum(weights @ grid.share)
    starts = np.append(0, 2 ** np.arange((problems.size - 1).bit_length()))
    bins = [np.add.reduceat(column, starts) for column in (problems, expected * problems.sum())]
    while bins[1].size > 1 and bins[1][-1] < FEWEST_IN_BIN:
        bins = [np.append(column[:-2], column[-2:].sum()) for column in bins]
    statistic = float(np.sum((bins[0] - bins[1]) ** 2 / np.maximum(bins[1], TINY)))
    return float(chdtrc(max(1, bins[1].size - PARAMETERS - 1), statistic))
