"""Posterior of pass@k beyond n, from the problems that are solved rarely or never: they decide how the curve goes on.

A zero-inflated Beta model of solve rates near 0: a share of problems is never solved, and the rates of the others are
Beta(a, b). Only problems with at most a quarter of their rollouts correct are in the likelihood, which is conditional on
that, so that the shape of the distribution at high rates has no influence on its tail at 0. Prior: log a is normal
around log 0.3 (published tail exponents of language models are 0.1 to 0.5: arXiv 2502.17578, arXiv 2510.05197), log b is
uniform, and the share is 0 with probability 0.35, else uniform. The posterior is summed over a grid that is refined
around its mass.

U distinct counts, A, B and S values of log a, log b and the share.
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

RARE, FEWEST = 4, 8  # a problem is solved rarely with at most n / 4 correct rollouts, or 8
TAIL, SPREAD = 0.3, 0.8  # of the prior of log a
NO_SHARE = 0.35  # prior probability that every problem can be solved
_Limits = tuple[tuple[float, float], ...]
LIMITS: _Limits = ((math.log(0.01), math.log(20.0)), (math.log(0.02), math.log(1e6)), (0.0, 0.995))
SIZES = (24, 28, 16)
ROUNDS = 4
NEGLIGIBLE = 1e-6
DRAWS = 4000
FEWEST_IN_BIN, PARAMETERS = 3.0, 2  # the prior of log a takes about one parameter away


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
    """Values of log a (A,) and log b (B,); of the share (S,), of which the first is 0; log prior of the share (S,)."""

    log_a: Float64[np.ndarray, " A"]
    log_b: Float64[np.ndarray, " B"]
    share: Float64[np.ndarray, " S"]
    log_prior: Float64[np.ndarray, " S"]

    @classmethod
    def over(cls, limits: _Limits) -> _Grid:
        """Equal steps between the limits of each parameter; the shares are middles of their steps."""
        log_a, log_b = (np.linspace(*ends, size) for ends, size in zip(limits[:2], SIZES[:2], strict=True))
        least, most = limits[2]
        step = (most - least) / SIZES[2]
        share = np.append(0.0, least + step * (np.arange(SIZES[2]) + 0.5))
        log_prior = np.log(np.append(NO_SHARE, np.full(SIZES[2], (1 - NO_SHARE) * step)))
        return cls(log_a, log_b, share, log_prior)


def rare_solves(n_correct: Int64[np.ndarray, " P"], n: int, k: int, rng: np.random.Generator) -> RareSolves:
    """Posterior draws of the mean pass@k of these problems at k > n: each unsolved one is solved by then, or it is not.

    Some problems must be unsolved, and some solved.
    """
    count, problems = np.unique(n_correct, return_counts=True)
    counts = _Counts(n, count, problems, max(FEWEST, n // RARE))
    limits: _Limits = LIMITS
    for _ in range(ROUNDS):
        grid = _Grid.over(limits)
        weights = _posterior(counts, grid)
        limits = _around(weights, grid)
    at = np.unravel_index(rng.choice(weights.size, DRAWS, p=weights.ravel()), weights.shape)
    later = rng.binomial(int(counts.problems[counts.count == 0].sum()), _later(counts, grid, k)[at])
    draws = (later + _again(counts, grid, k)[at[:2]]) / n_correct.size
    return RareSolves(draws, float(weights[:, :, 0].sum()), _misfit(counts, grid, weights))


def _posterior(counts: _Counts, grid: _Grid) -> Float64[np.ndarray, "A B S"]:
    """Weights of the grid, with sum 1."""
    problems = counts.rarely()
    log_law = _log_law(np.arange(problems.size), counts.n, grid)
    unsolved, solved = log_law[:, :, 0, None], log_law[:, :, 1:]
    any_rare = np.logaddexp.reduce(log_law, axis=2)[:, :, None]
    never, else_ = _log(grid.share), np.log1p(-grid.share)
    log_weights = (
        (solved @ problems[1:])[:, :, None]
        + problems[1:].sum() * else_
        + problems[0] * np.logaddexp(never, else_ + unsolved)
        - problems.sum() * np.logaddexp(never, else_ + any_rare)
        + grid.log_prior
        - ((grid.log_a - np.log(TAIL)) ** 2 / (2 * SPREAD**2))[:, None, None]
    )
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum())


def _log_law(count: Int64[np.ndarray, " U"], n: int, grid: _Grid) -> Float64[np.ndarray, "A B U"]:
    """Logarithm of the beta-binomial probability of each count."""
    a, b = np.exp(grid.log_a)[:, None, None], np.exp(grid.log_b)[None, :, None]
    log_ways = -betaln(count + 1, n - count + 1) - np.log(n + 1)
    return np.asarray(log_ways + betaln(a + count, b + n - count) - betaln(a, b))


def _around(weights: Float64[np.ndarray, "A B S"], grid: _Grid) -> _Limits:
    """The limits of each parameter between which the weights are not negligible, and a step more on each side."""
    of_a, of_b, of_share = weights.sum(axis=(1, 2)), weights.sum(axis=(0, 2)), weights.sum(axis=(0, 1))[1:]
    ends = []
    for values, weight, (least, most) in zip(
        (grid.log_a, grid.log_b, grid.share[1:]), (of_a, of_b, of_share), LIMITS, strict=True
    ):
        step = values[1] - values[0]
        kept = values[weight > NEGLIGIBLE * weight.max()]
        ends.append((max(least, float(kept[0] - step)), min(most, float(kept[-1] + step))))
    return tuple(ends)


def _later(counts: _Counts, grid: _Grid, k: int) -> Float64[np.ndarray, "A B S"]:
    """Chance that k fresh rollouts solve a problem that n rollouts did not."""
    a, b = np.exp(grid.log_a)[:, None, None], np.exp(grid.log_b)[None, :, None] + counts.n
    unsolved = _log_law(np.array([0]), counts.n, grid)
    never = np.exp(_log(grid.share) - np.logaddexp(_log(grid.share), np.log1p(-grid.share) + unsolved))
    return np.asarray((1 - never) * -np.expm1(betaln(a, b + k) - betaln(a, b)))


def _again(counts: _Counts, grid: _Grid, k: int) -> Float64[np.ndarray, "A B"]:
    """Sum of pass@k over the problems with a correct rollout."""
    solved = counts.count > 0
    count, problems = counts.count[solved], counts.problems[solved]
    a, b = np.exp(grid.log_a)[:, None, None] + count, np.exp(grid.log_b)[None, :, None] + counts.n - count
    return np.asarray(-np.expm1(betaln(a, b + k) - betaln(a, b)) @ problems)


def _misfit(counts: _Counts, grid: _Grid, weights: Float64[np.ndarray, "A B S"]) -> float:
    """Pearson's test of the rare counts in octaves 0, 1, 2 to 3, 4 to 7 ..., merged up to ``FEWEST_IN_BIN`` problems."""
    problems = counts.rarely()
    law = np.exp(_log_law(np.arange(problems.size), counts.n, grid))
    any_rare = grid.share + (1 - grid.share) * law.sum(axis=2)[:, :, None]
    expected = np.einsum("abs,abr->r", weights * (1 - grid.share) / any_rare, law)
    expected[0] += np.sum(weights * grid.share / any_rare)
    starts = np.append(0, 2 ** np.arange((problems.size - 1).bit_length()))
    bins = [np.add.reduceat(column, starts) for column in (problems, expected * problems.sum())]
    while bins[1].size > 1 and bins[1][-1] < FEWEST_IN_BIN:
        bins = [np.append(column[:-2], column[-2:].sum()) for column in bins]
    statistic = float(np.sum((bins[0] - bins[1]) ** 2 / bins[1]))
    return float(chdtrc(max(1, bins[1].size - PARAMETERS - 1), statistic))


def _log(values: Float64[np.ndarray, " S"]) -> Float64[np.ndarray, " S"]:
    """Logarithm, -inf at 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values))
