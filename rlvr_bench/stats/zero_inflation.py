"""Problems that no number of rollouts would solve: a zero-inflated Beta model of solve rates. P problems, T thresholds.

A share of the problems has solve rate 0, the rates of the others have a Beta distribution; all three parameters are
fitted by maximum likelihood. The likelihood is the same for a fixed n and for a stopping rule.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betainc, betaincc, expit, logit

from rlvr_bench.stats.extrapolation import log_odds_with_error, zero_inflated
from rlvr_bench.stats.few_units import unseen_share
from rlvr_bench.stats.fitting import minimise
from rlvr_bench.stats.intervals import Interval, normal_quantile
from rlvr_bench.stats.posterior import check_fittable, log_failure_moment
from rlvr_bench.stats.solve_rate import DistinctCounts
from rlvr_bench.stats.validation import check_fractions, check_probability

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

__all__ = ["ZeroInflated", "cover_under", "fit_zero_inflated", "never_solved"]

FLOOR = -12.0  # logit of a share of 6e-6, which counts as 0
EDGE = 0.1  # a fit this close to the floor counts as at the floor
FINE = 1e-3  # precision of a limit, on the logit scale
STARTS = (-1.0, -6.0)


@dataclasses.dataclass(frozen=True)
class ZeroInflated:
    """``share`` of problems with solve rate 0; the rates of the others are Beta(``alpha``, ``beta``)."""

    alpha: float
    beta: float
    share: float


def fit_zero_inflated(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike) -> ZeroInflated:
    """The maximum-likelihood fit. Raises ``BadArgument``: as ``pass_at_k``, or all rollouts are correct or wrong."""
    at = _best(check_fittable(n_correct, n_samples))
    return ZeroInflated(
        float(np.exp(at[0])), float(np.exp(at[1])), 0.0 if at[2] <= FLOOR + 0.1 else float(expit(at[2]))
    )


def never_solved(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Share of problems that no number of rollouts would solve, with a profile-likelihood interval, (1,).

    The interval is for other problems of the same kind, if the model holds. Solve rates arbitrarily near 0, as under
    Beta(0.2, 2), are hard to distinguish from a share at 0: then the interval is wide and contains 0. In simulation
    under the model (100 and 300 problems, n = 64 and 256, shares 0 to 0.5) a 95 % interval covers 93-99 %, and most
    where the share is 0. Raises ``BadArgument``: as ``fit_zero_inflated``, or level is outside (0, 1).
    """
    pairs = check_fittable(n_correct, n_samples)
    at = _best(pairs)
    least = _log_likelihood(pairs, at) - normal_quantile(check_probability("level", level)) ** 2 / 2
    low, high = (_profile_limit(pairs, at, edge, least) for edge in (FLOOR, -FLOOR))
    value = _share(at)
    return Interval(
        value=np.array([value]),
        low=np.array([min(low, value)]),
        high=np.array([max(high, value)]),
        level=level,
        method="zero-inflated Beta, profile likelihood",
        source="model",
        n_problems=np.array([pairs.multiplicity.sum()]),
    )


def _profile_limit(pairs: DistinctCounts, at: npt.NDArray[np.float64], edge: float, least: float) -> float:
    """The share closest to the logit ``edge`` with profile log likelihood of at least ``least``; 0 or 1 at ``edge``."""
    inner, outer, start = float(at[2]), edge, at[:2]
    if _log_likelihood(pairs, np.append(_fit_others(pairs, edge, start), edge)) >= least:
        return float(edge > 0)
    while abs(outer - inner) > FINE:
        middle = (inner + outer) / 2
        fitted = _fit_others(pairs, middle, start)
        if _log_likelihood(pairs, np.append(fitted, middle)) >= least:
            inner, start = middle, fitted
        else:
            outer = middle
    return float(expit(outer))


def _share(at: npt.NDArray[np.float64]) -> float:
    return 0.0 if at[2] <= FLOOR + EDGE else float(expit(at[2]))


def cover_under(
    n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, taus: npt.ArrayLike, level: float = 0.95
) -> tuple[Float64[np.ndarray, "P T"], Interval]:
    """Posterior probability of a solve rate of at least tau: per problem (P, T), and the mean with an interval (T,).

    By the fitted model, a problem with a correct rollout has a Beta posterior; the posterior of an unsolved one is a
    mixture of a mass at 0 and a Beta distribution. The interval of the mean has the width of the sandwich interval of
    the share under the model, on the logit scale: it includes the error of the fitted prior. Raises ``BadArgument``: as
    ``fit_zero_inflated``.
    """
    pairs, thresholds = check_fittable(n_correct, n_samples), check_fractions("taus", taus)
    at = _best(pairs)
    a, b, c = np.exp(at[0]), np.exp(at[1]), pairs.n_correct
    wrong = pairs.n_samples - c
    reach_tau = betaincc((a + c)[:, None], (b + wrong)[:, None], thresholds)
    if _share(at):
        seen_none = log_failure_moment(a, b, wrong) - at[2]  # log odds of the Beta part, for an unsolved problem
        reach_tau = np.where(c[:, None] > 0, reach_tau, reach_tau * expit(seen_none)[:, None])
    family = dataclasses.replace(zero_inflated(pairs, np.array([1])), log_failure=lambda t: _log_below(t, thresholds))
    inside = thresholds < 1
    mean = pairs.multiplicity @ reach_tau / pairs.multiplicity.sum()
    error = np.zeros(thresholds.shape)
    error[inside] = log_odds_with_error(family, at, pairs.multiplicity)[1][inside]
    reach = normal_quantile(check_probability("level", level)) * error
    count = np.full(thresholds.shape, int(pairs.multiplicity.sum()))
    unseen = unseen_share(count.astype(np.float64), level)
    middle = logit(np.clip(mean, 1e-12, 1 - 1e-12))
    low, high = expit(middle - reach), expit(middle + reach)
    low, high = np.where(mean < 1e-9, 0.0, low), np.where(mean < 1e-9, unseen, high)
    interval = Interval(mean, low, high, level, "zero-inflated Beta posterior", "model", count)
    return np.take(reach_tau, pairs.row, axis=0), interval


def _log_below(t: npt.NDArray[np.float64], taus: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Logarithm of the probability of a solve rate below tau, (T,)."""
    share = expit(t[2])
    return np.asarray(np.log(np.maximum(share + (1 - share) * betainc(np.exp(t[0]), np.exp(t[1]), taus), 1e-300)))


def _best(pairs: DistinctCounts) -> npt.NDArray[np.float64]:
    """Log alpha, log beta and the logit of the share, from two starts, because the likelihood can have two maxima."""
    family = zero_inflated(pairs, np.array([1]))
    weight = pairs.multiplicity / pairs.multiplicity.sum()
    fits = [
        minimise(
            lambda t: -float(weight @ family.log_likelihood(t)), np.array([*family.start[:2], start]), family.bounds
        )
        for start in STARTS
    ]
    return max(fits, key=lambda t: _log_likelihood(pairs, t))


def _fit_others(pairs: DistinctCounts, share: float, start: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Maximum-likelihood log alpha and log beta for a given logit of the share."""
    family = zero_inflated(pairs, np.array([1]))
    weight = pairs.multiplicity / pairs.multiplicity.sum()
    return minimise(lambda t: -float(weight @ family.log_likelihood(np.append(t, share))), start, family.bounds[:2])


def _log_likelihood(pairs: DistinctCounts, t: npt.NDArray[np.float64]) -> float:
    return float(pairs.multiplicity @ zero_inflated(pairs, np.array([1])).log_likelihood(t))
