"""Anytime-valid tests and confidence limits: the error rate holds for any number of looks while rollouts are added.

As rollouts are added, the mean over problems of an unbiased estimate (pass@k) is approximately a Brownian motion, with
the information 1 / Var as time: for m more rollouts than n, Cov(U_n, U_m) = Var(U_m) (Hoeffding 1948; U-statistics are
reverse martingales). The normal mixture of Robbins (1970) bounds this motion at all times together. Let z be the
estimate in standard errors, and r the information in units of that of the mixture. Under the hypothesis M(z, r) is a
martingale of mean at most 1, so by Ville's inequality the probability that it ever reaches 1 / a is at most a (Howard,
Ramdas, McAuliffe and Sekhon 2021, arXiv 1810.08240, prop. 5 and 6; for estimated variances and growing data
Waudby-Smith et al. 2024, arXiv 2103.06476). The looks need not be planned, counted or recorded.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr, ndtri

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.validation import check_probability

__all__ = [
    "ONE_LOOK",
    "REPLICATES_OF_LOOKS",
    "Looks",
    "anytime_p_value",
    "anytime_quantile",
    "information",
    "log_mixture",
]

REPLICATES_OF_LOOKS = 5000  # an anytime-valid limit is further in the tail than one of a single look

if TYPE_CHECKING:
    import numpy.typing as npt

FIRST = 4  # rollouts per problem in the unit of information: the bound is tightest from twice to thirty times it
PER_K = 4
FARTHEST = 60.0
STEPS = 60


def information(n_first: float, n_second: float, k: int = 1) -> float:
    """The information r of two runs that are compared at budget k, in units of about a first look.

    The harmonic mean of the two runs' rollouts per problem (because variances add), divided by 4, or by k / 4 if that
    is larger. The unit affects only how tight the bound is. Raises ``BadArgument``: a number of rollouts is not above
    0, or k below 1.
    """
    if not (n_first > 0 and n_second > 0 and k >= 1):
        raise BadArgument("rollouts", (n_first, n_second, k), "must be above 0, and k at least 1")
    return 2 / (1 / n_first + 1 / n_second) / max(FIRST, k / PER_K)


def anytime_p_value(z: float, r: float, *, two_sided: bool = False) -> float:
    """Anytime-valid p-value of no effect (one-sided: of no effect above 0), at information ``r`` > 0.

    ``z``: the estimate in standard errors. The p-value is 1 / M(z, r), at most 1. One-sided: M = 2 (1 + r)^(-1/2)
    exp(z^2 r / (2 (1 + r))) Phi(z (r / (1 + r))^(1/2)); two-sided: without the factors 2 and Phi.
    """
    return min(1.0, math.exp(-float(log_mixture(z, r, two_sided=two_sided))))


def anytime_quantile(level: float, r: float, *, two_sided: bool = False) -> float:
    """Distance of an anytime-valid limit from the estimate, in standard errors; it would be 1.64 or 1.96 for one look.

    The z at which ``anytime_p_value`` is 1 - ``level``. Raises ``BadArgument``: level is outside (0, 1).
    """
    goal = -math.log1p(-check_probability("level", level))
    low, high = 0.0, FARTHEST
    for _ in range(STEPS):
        z = (low + high) / 2
        low, high = (low, z) if log_mixture(z, r, two_sided=two_sided) > goal else (z, high)
    return high


@dataclasses.dataclass(frozen=True)
class Looks:
    """Whether limits and p-values hold at every look (at this ``information``) or at one look (where it is None).

    One look means that the number of rollouts was fixed before any result was known.
    """

    information: float | None = None

    def quantile(self, level: float, *, two_sided: bool = False) -> float:
        """Standard errors from an estimate to its limit at ``level``."""
        if self.information is None:
            return float(ndtri(0.5 + level / 2 if two_sided else level))
        return anytime_quantile(level, self.information, two_sided=two_sided)

    def p_value(self, z: float, *, two_sided: bool = False) -> float:
        """p-value of an estimate ``z`` standard errors above (two-sided: from) the hypothesis."""
        if self.information is None:
            return min(1.0, float(ndtr(-z)) * (2 if two_sided else 1))
        return anytime_p_value(z, self.information, two_sided=two_sided)

    def renewed(self, p_value: float, z: float | None = None, *, two_sided: bool = False) -> float:
        """The p-value at these looks that corresponds to a p-value of one look, such as that of a bootstrap.

        ``z``: its normal deviate, where a bootstrap's smallest p-value says less than that.
        """
        if self.information is None or math.isnan(p_value):
            return p_value
        deviate = -float(ndtri(p_value / 2 if two_sided else p_value)) if z is None else z
        return self.p_value(deviate, two_sided=two_sided)

    def single_level(self, level: float) -> float:
        """The two-sided level at which an interval for one look is as wide as one at ``level`` for these looks.

        Each of the two limits of the interval at ``level`` is a one-sided limit at (1 + ``level``) / 2.
        """
        if self.information is None:
            return level
        z = self.quantile(0.5 + level / 2)
        return float(ndtr(z) - ndtr(-z))

    def after(self, factor: float) -> Looks:
        """The same with ``factor`` times as many rollouts."""
        return self if self.information is None else Looks(self.information * factor)


ONE_LOOK = Looks()


def log_mixture(z: npt.ArrayLike, r: npt.ArrayLike, *, two_sided: bool) -> npt.NDArray[np.float64]:
    """Log M(z, r), the evidence against the hypothesis (``anytime_p_value``); numbers, or arrays of one shape."""
    z, r = np.asarray(z, dtype=np.float64), np.asarray(r, dtype=np.float64)
    y = z * np.sqrt(r / (1 + r))
    if two_sided:
        return np.asarray(y * y / 2 - 0.5 * np.log1p(r))
    below, above = np.minimum(y, 0), np.maximum(y, 0)
    with np.errstate(divide="ignore"):  # no evidence at all at z = -inf
        log_half = np.log(erfcx(-below / math.sqrt(2)))  # log (2 exp(y^2 / 2) Phi(y)) for y <= 0
    mixed = np.where(y < 0, log_half, above * above / 2 + math.log(2) + log_ndtr(above))
    return np.asarray(mixed - 0.5 * np.log1p(r))
