"""Bayesian pass@k: a Beta prior on each problem's solve rate, chosen or fitted to the run. P problems, K budgets."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaincinv, betaln

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.fitting import minimise
from rlvr_bench.stats.intervals import Interval, normal_quantile, score_interval
from rlvr_bench.stats.solve_rate import DistinctCounts, distinct_counts
from rlvr_bench.stats.validation import check_budgets, check_counts, check_prior, check_probability

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

__all__ = ["JEFFREYS", "UNIFORM", "PosteriorPass", "fit_beta_prior", "pass_at_k_posterior"]

JEFFREYS = (0.5, 0.5)
UNIFORM = (1.0, 1.0)
LOG_BOUNDS = (-7.0, 14.0)  # of both parameters: 0.001 to 1.2 million


@dataclasses.dataclass(frozen=True)
class PosteriorPass:
    """Posterior of each problem's true pass@k: mean, standard deviation and equal-tailed limits, each (P, K).

    ``prior`` (alpha, beta) raises the values of unsolved problems; report it with every number computed from these.
    """

    mean: Float64[np.ndarray, "P K"]
    sd: Float64[np.ndarray, "P K"]
    low: Float64[np.ndarray, "P K"]
    high: Float64[np.ndarray, "P K"]
    level: float
    prior: tuple[float, float]

    def average(self) -> Interval:
        """Posterior of the mean over these same problems, (K,): independent problems, sd = sqrt(sum sd^2) / P."""
        mean = self.mean.mean(axis=0)
        variance = np.sum(self.sd**2, axis=0) / len(self.sd) ** 2
        scale = mean * (1 - mean)
        shrinkage = np.divide(variance, scale, out=np.zeros_like(scale), where=scale > 0)
        z = np.full_like(mean, normal_quantile(self.level))
        low, high = score_interval(mean, shrinkage, (-z, z))
        count = np.full(mean.shape, len(self.mean), dtype=np.int64)
        return Interval(mean, low, high, self.level, f"Beta{self.prior} posterior", "rollouts", count)


def pass_at_k_posterior(
    n_correct: npt.ArrayLike,
    n_samples: npt.ArrayLike,
    ks: npt.ArrayLike,
    prior: tuple[float, float] = JEFFREYS,
    level: float = 0.95,
) -> PosteriorPass:
    """Posterior of 1 - (1-p)^k per problem, p ~ Beta(alpha + c, beta + n - c); also for k > n.

    E[(1-p)^k] = B(a, b + k) / B(a, b): Hariri et al. 2025 (arXiv 2510.04265), pass@k posterior. With a flat prior an
    unsolved problem at n = 48 adds 0.25 to pass@16: use Jeffreys' prior or the empirical-Bayes prior of
    ``fit_beta_prior``, and report which. Other arguments as in ``pass_at_k``. Raises ``BadArgument``: as ``pass_at_k``,
    the prior is not positive, or level is outside (0, 1).
    """
    c, n = check_counts(n_correct, n_samples)
    budgets, (alpha, beta) = check_budgets(ks), check_prior(prior)
    tail = (1 - check_probability("level", level)) / 2
    pairs = distinct_counts(c, n)
    a, b = (alpha + pairs.n_correct)[:, None], (beta + pairs.n_samples - pairs.n_correct)[:, None]
    once, twice = log_failure_moment(a, b, budgets), log_failure_moment(a, b, 2 * budgets)
    sd = np.sqrt(np.maximum(np.exp(2 * once) * np.expm1(np.maximum(twice - 2 * once, 0.0)), 0.0))
    low, high = (-np.expm1(budgets * np.log1p(-betaincinv(a, b, q))) for q in (tail, 1 - tail))
    mean, sd, low, high = (np.take(table, pairs.row, axis=0) for table in (0.0 - np.expm1(once), sd, low, high))
    return PosteriorPass(mean, sd, low, high, level, (alpha, beta))


def fit_beta_prior(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike) -> tuple[float, float]:
    """Empirical-Bayes prior (alpha, beta): the beta-binomial fit of the run's counts by maximum likelihood.

    Arguments and errors as in ``pass_at_k``; also raises ``BadArgument`` where all rollouts are correct or all wrong,
    because the likelihood then has no maximum at finite parameters.
    """
    pairs = check_fittable(n_correct, n_samples)
    a_priori = np.log([0.5, 1.0])
    alpha, beta = np.exp(minimise(lambda t: _mean_loss(t, pairs), a_priori, [LOG_BOUNDS, LOG_BOUNDS]))
    return float(alpha), float(beta)


def check_fittable(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike) -> DistinctCounts:
    """Distinct counts of a run that has both correct and wrong rollouts."""
    c, n = check_counts(n_correct, n_samples)
    if c.sum() == 0 or c.sum() == n.sum():
        raise BadArgument("n_correct", int(c.sum()), f"must be between 1 and {int(n.sum()) - 1} in all to fit a model")
    return distinct_counts(c, n)


def log_failure_moment(a: npt.ArrayLike, b: npt.ArrayLike, ks: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Logarithm of E[(1-p)^k] for p ~ Beta(a, b), B(a, b + k) / B(a, b); arguments broadcast."""
    return np.asarray(np.minimum(betaln(a, np.add(b, ks)) - betaln(a, b), 0.0))  # rounding can exceed 0


def _mean_loss(log_parameters: npt.NDArray[np.float64], pairs: DistinctCounts) -> float:
    """Mean negative log likelihood of the beta-binomial at (log a, log b), without its constant."""
    a, b = np.exp(log_parameters)
    c, n = pairs.n_correct, pairs.n_samples
    terms = betaln(a + c, b + n - c) - betaln(a, b)
    return -float(pairs.multiplicity @ terms) / int(pairs.multiplicity.sum())
