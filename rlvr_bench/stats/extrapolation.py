"""Extrapolation of pass@k beyond the rollouts drawn, by a model of how solve rates are distributed over problems.

Every result depends on a fitted model, so its interval has ``source`` "model". P problems, K budgets, U distinct (n, c)
pairs, G grid nodes, D parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import betaln, expit, log_expit

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.fitting import minimise, slopes
from rlvr_bench.stats.intervals import Interval, normal_quantile
from rlvr_bench.stats.posterior import LOG_BOUNDS, check_fittable, log_failure_moment
from rlvr_bench.stats.solve_rate import DistinctCounts, mean_pass_at_k
from rlvr_bench.stats.validation import check_budgets, check_probability

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

__all__ = [
    "Extrapolation",
    "PowerLaw",
    "SolveRateModel",
    "extrapolate_pass_at_k",
    "fit_power_law",
    "log_odds_with_error",
    "zero_inflated",
]

SolveRateModel = Literal["beta", "scaled-beta", "zero-inflated-beta"]
STEP, REACH = 0.02, 40.0  # of the logit grid for scaled Beta; finer than the likelihood of 10,000 rollouts
EDGE = 1e-3
WIDEST = 8.0  # largest log parameter on the grid: a Beta distribution with a larger one is narrower than a step


@dataclasses.dataclass(frozen=True)
class Extrapolation:
    """Mean pass@k of the population under a fitted ``model``, as an ``interval`` with source "model".

    ``parameters``: alpha and beta of the Beta distribution, and ``scale`` (largest solve rate) or ``unsolvable`` (share
    of problems with solve rate 0). ``tail_exponent`` is alpha: 1 - pass@k falls like k^-alpha (towards ``unsolvable``).
    ``mean_loss`` is the mean negative log likelihood per problem in nats, to compare models.
    """

    interval: Interval
    model: SolveRateModel
    parameters: dict[str, float]
    mean_loss: float

    @property
    def tail_exponent(self) -> float:
        """Index of the lower tail of solve rates, alpha."""
        return self.parameters["alpha"]


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """-log pass@k = ``amplitude`` * k^(-``exponent``), a descriptive fit over the given budgets."""

    amplitude: float
    exponent: float

    def predict(self, ks: npt.ArrayLike) -> Float64[np.ndarray, " K"]:
        """Predicted mean pass@k, (K,)."""
        return np.asarray(np.exp(-self.amplitude * check_budgets(ks).astype(np.float64) ** -self.exponent))


@dataclasses.dataclass(frozen=True)
class _Family:
    """A model: log likelihood (U,) of each distinct pair, and failure E[(1-p)^k] (K,), at real parameters (D,)."""

    start: npt.NDArray[np.float64]
    bounds: list[tuple[float, float]]
    log_likelihood: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
    log_failure: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
    names: Callable[[npt.NDArray[np.float64]], dict[str, float]]


def extrapolate_pass_at_k(
    n_correct: npt.ArrayLike,
    n_samples: npt.ArrayLike,
    ks: npt.ArrayLike,
    model: SolveRateModel = "beta",
    level: float = 0.95,
) -> Extrapolation:
    """Mean pass@k at any budget, also k > n, from a maximum-likelihood fit to the counts of all problems.

    - ``beta``: p ~ Beta(a, b), pass@k = 1 - B(a, b+k) / B(a, b) (Kazdan et al. 2025, arXiv 2510.05197);
    - ``scaled-beta``: p / s ~ Beta(a, b), s = min(1, (P+1)/P max c/n) fixed (Schaeffer et al. 2025, arXiv 2502.17578);
    - ``zero-inflated-beta``: a share of problems has p = 0.

    The interval is a sandwich (robust) delta-method interval on the logit scale: it has the error from sampling
    problems and rollouts, *if the model holds*. Then a 95 % interval covers 95-97 % for 100 problems, n = 64 and k up
    to 65,536 (88-95 % for ``scaled-beta``, whose scale is taken as known). It does not have the error of a wrong model,
    which grows with k / n: compare the fit with the unbiased curve at k <= n before you use it.

    Raises ``BadArgument``: as ``pass_at_k``, the model is unknown, or all rollouts are correct or all wrong.
    """
    pairs, budgets = check_fittable(n_correct, n_samples), check_budgets(ks)
    check_probability("level", level)
    if model not in _FAMILIES:
        raise BadArgument("model", model, f"must be one of {', '.join(_FAMILIES)}")
    family = _FAMILIES[model](pairs, budgets)
    share = pairs.multiplicity / pairs.multiplicity.sum()
    at = _fit(family, share)
    log_odds, error = log_odds_with_error(family, at, pairs.multiplicity)
    reach = normal_quantile(level) * error
    value, low, high = expit(log_odds), expit(log_odds - reach), expit(log_odds + reach)
    n_problems = np.full(budgets.shape, int(pairs.multiplicity.sum()))
    interval = Interval(value, low, high, level, f"extrapolated ({model})", "model", n_problems)
    loss = -float(share @ (family.log_likelihood(at) + _log_choose(pairs)))
    return Extrapolation(interval, model, family.names(at), loss)


def fit_power_law(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> PowerLaw:
    """Least-squares line of log(-log mean pass@k) on log k, over the budgets with 0 < pass@k < 1.

    Brown et al. 2024 (Large Language Monkeys, arXiv 2407.21787). All points come from the same rollouts, so the
    residuals do not estimate the error; the tail exponent of ``extrapolate_pass_at_k`` is the better estimate (arXiv
    2510.05197). Problems with n < k are left out at that k. Raises ``BadArgument``: as ``pass_at_k``, or fewer than two
    usable k.
    """
    budgets = check_budgets(ks)
    mean = mean_pass_at_k(n_correct, n_samples, budgets)
    usable = (mean > 0) & (mean < 1)
    if np.unique(budgets[usable]).size < 2:
        raise BadArgument("ks", budgets.tolist(), "must hold at least two budgets with a mean pass@k between 0 and 1")
    x, y = np.log(budgets[usable]), np.log(-np.log(mean[usable]))
    slope = np.sum((x - x.mean()) * (y - y.mean())) / np.sum((x - x.mean()) ** 2)
    return PowerLaw(float(np.exp(y.mean() - slope * x.mean())), float(-slope))


def _beta(pairs: DistinctCounts, ks: npt.NDArray[np.int64]) -> _Family:
    c, wrong = pairs.n_correct, pairs.n_samples - pairs.n_correct
    return _Family(
        start=np.log([0.5, 2.0]),
        bounds=[LOG_BOUNDS] * 2,
        log_likelihood=lambda t: _log_beta_ratio(t, c, wrong),
        log_failure=lambda t: log_failure_moment(np.exp(t[0]), np.exp(t[1]), ks),
        names=lambda t: dict(zip(("alpha", "beta"), np.exp(t).tolist(), strict=True)),
    )


def zero_inflated(pairs: DistinctCounts, ks: npt.NDArray[np.int64]) -> _Family:
    c, wrong = pairs.n_correct, pairs.n_samples - pairs.n_correct
    never = np.where(c == 0, 0.0, -np.inf)
    return _Family(
        start=np.array([*np.log([0.5, 2.0]), -1.0]),
        bounds=[LOG_BOUNDS, LOG_BOUNDS, (-12.0, 12.0)],
        log_likelihood=lambda t: np.logaddexp(
            log_expit(t[2]) + never, log_expit(-t[2]) + _log_beta_ratio(t[:2], c, wrong)
        ),
        log_failure=lambda t: np.logaddexp(
            log_expit(t[2]), log_expit(-t[2]) + log_failure_moment(np.exp(t[0]), np.exp(t[1]), ks)
        ),
        names=lambda t: {"alpha": float(np.exp(t[0])), "beta": float(np.exp(t[1])), "unsolvable": float(expit(t[2]))},
    )


def _scaled(pairs: DistinctCounts, ks: npt.NDArray[np.int64]) -> _Family:
    problems = pairs.multiplicity.sum()
    best = np.max(pairs.n_correct / np.maximum(pairs.n_samples, 1))
    scale = float(min(1.0, (problems + 1) / problems * best))
    log_density = _logit_grid_density()
    of_counts = _log_binomial_grid(pairs.n_correct, pairs.n_samples - pairs.n_correct, scale)
    of_failure = _log_binomial_grid(np.zeros_like(ks), ks, scale)
    return _Family(
        start=np.log([0.5, 3.5]),
        bounds=[(LOG_BOUNDS[0], WIDEST)] * 2,
        log_likelihood=lambda t: _log_mean(of_counts, log_density(t)),
        log_failure=lambda t: _log_mean(of_failure, log_density(t)),
        names=lambda t: {"alpha": float(np.exp(t[0])), "beta": float(np.exp(t[1])), "scale": scale},
    )


_FAMILIES: dict[str, Callable[[DistinctCounts, npt.NDArray[np.int64]], _Family]] = {
    "beta": _beta,
    "scaled-beta": _scaled,
    "zero-inflated-beta": zero_inflated,
}


def _log_beta_ratio(
    log_parameters: npt.NDArray[np.float64], c: npt.NDArray[np.int64], wrong: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    a, b = np.exp(log_parameters)
    return np.asarray(betaln(a + c, b + wrong) - betaln(a, b))


def _log_choose(pairs: DistinctCounts) -> npt.NDArray[np.float64]:
    c, n = pairs.n_correct, pairs.n_samples
    return np.asarray(-betaln(c + 1, n - c + 1) - np.log(n + 1))


def _logit_grid_density() -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """Log weights of a Beta distribution on a logit grid: the trapezoid rule, exponentially accurate for smooth tails.

    The weight of each end node includes all nodes beyond it: x^a and (1-x)^b are exponentials there, so their sum is a
    geometric series.
    """
    u = np.arange(-REACH, REACH + STEP / 2, STEP)
    log_x, log_rest = log_expit(u), log_expit(-u)

    def log_density(log_parameters: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        a, b = np.exp(log_parameters)
        result = a * log_x + b * log_rest - betaln(a, b) + np.log(STEP)
        result[0] -= np.log(-np.expm1(-a * STEP))
        result[-1] -= np.log(-np.expm1(-b * STEP))
        return np.asarray(result)

    return log_density


def _log_binomial_grid(c: npt.NDArray[np.int64], wrong: npt.NDArray[np.int64], scale: float) -> npt.NDArray[np.float64]:
    """Log of p^c (1-p)^wrong at p = scale * x for every grid node, (rows, G)."""
    u = np.arange(-REACH, REACH + STEP / 2, STEP)
    log_p = np.log(scale) + log_expit(u)
    log_q = log_expit(-u) if scale == 1 else np.log1p(-scale * expit(u))
    return np.asarray(c[:, None] * log_p + wrong[:, None] * log_q)


def _log_mean(log_values: npt.NDArray[np.float64], log_weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    together = log_values + log_weights
    top = together.max(axis=1, keepdims=True)
    return np.asarray(top[:, 0] + np.log(np.exp(together - top).sum(axis=1)))


def _fit(family: _Family, share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return minimise(lambda t: -float(share @ family.log_likelihood(t)), family.start, family.bounds)


def log_odds_with_error(
    family: _Family, at: npt.NDArray[np.float64], multiplicity: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """log(pass / fail) at each budget (K,) and its standard error: the sandwich H^-1 J H^-1, or -H^-1 if larger."""

    def log_odds(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        log_fail = np.minimum(family.log_failure(t), -np.finfo(np.float64).tiny)  # rounding can reach 0
        return np.asarray(np.log(-np.expm1(log_fail)) - log_fail)

    def scores(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return slopes(family.log_likelihood, t)

    per_pair = scores(at)
    meat = (per_pair * multiplicity[:, None]).T @ per_pair
    curvature = slopes(lambda t: multiplicity @ scores(t), at)
    low, high = np.array(family.bounds).T
    free = (at > low + EDGE) & (at < high - EDGE)  # a parameter on its bound counts as known
    bread = np.zeros_like(curvature)
    bread[np.ix_(free, free)] = np.linalg.pinv((curvature + curvature.T)[np.ix_(free, free)] / 2, rcond=1e-8)
    gradient = slopes(log_odds, at)
    robust, by_model = (np.einsum("kd,de,ke->k", gradient, cov, gradient) for cov in (bread @ meat @ bread, -bread))
    variance = np.maximum(robust, by_model)  # few or equal counts give scores of 0; the curvature still depends on n
    return log_odds(at), np.sqrt(np.maximum(variance, 0.0))
