"""Tests that hold their level however often one looks while rollouts are added.

A mean over problems of an unbiased estimate (pass@k) moves, as rollouts are added, like a Brownian motion in the information
1 / Var: for m more rollouts than n, Cov(U_n, U_m) = Var(U_m) (Hoeffding 1948; U-statistics are reverse martingales). The
normal mixture of Robbins (1970) bounds such a motion for all times together: with z the estimate in standard errors and r
the information in units of that of the mixture, M(z, r) is a martingale of mean at most 1 where the hypothesis holds, so that
by Ville's inequality it ever reaches 1 / a with a chance of at most a (Howard, Ramdas, McAuliffe and Sekhon 2021, arXiv
1810.08240, prop. 5 and 6; for estimated variances and growing data Waudby-Smith et al. 2024, arXiv 2103.06476). No look has
to be planned, counted or recorded.
"""

from __future__ import annotations

import dataclasses
import math

from scipy.special import log_ndtr, ndtr, ndtri

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.validation import check_probability

__all__ = ["ONE_LOOK", "Looks", "anytime_p_value", "anytime_quantile", "information"]

FIRST = 4  # rollouts per problem in the unit of information: the bound is tightest from twice to thirty times it
PER_K = 4
FARTHEST = 60.0
STEPS = 60


def information(n_first: float, n_second: float, k: int = 1) -> float:
    """The clock of the tests here: rollouts of two runs that are compared at budget k, in units of about a first look.

    The harmonic mean of the two runs' rollouts per problem, since variances add, over 4 or, where that is more, k / 4. Only
    how tight the bound is depends on the unit. Raises ``BadArgument``: a number of rollouts is not above 0, or k below 1.
    """
    if not (n_first > 0 and n_second > 0 and k >= 1):
        raise BadArgument("rollouts", (n_first, n_second, k), "must be above 0, and k at least 1")
    return 2 / (1 / n_first + 1 / n_second) / max(FIRST, k / PER_K)


def anytime_p_value(z: float, r: float, *, two_sided: bool = False) -> float:
    """p-value of no effect (one-sided: of none above 0) that holds at every look at once, at information ``r`` > 0.

    ``z``: the estimate in standard errors. It is 1 / M(z, r), at most 1. One-sided M = 2 (1 + r)^(-1/2) exp(z^2 r / (2 (1 +
    r))) Phi(z (r / (1 + r))^(1/2)); two-sided without 2 and Phi.
    """
    return min(1.0, math.exp(-_log_mixture(z, r, two_sided=two_sided)))


def anytime_quantile(level: float, r: float, *, two_sided: bool = False) -> float:
    """Standard errors to go from an estimate for a limit that holds at every look at once; 1.64 or 1.96 for one look.

    The z at which ``anytime_p_value`` is 1 - ``level``. Raises ``BadArgument``: level is outside (0, 1).
    """
    goal = -math.log1p(-check_probability("level", level))
    low, high = 0.0, FARTHEST
    for _ in range(STEPS):
        z = (low + high) / 2
        low, high = (low, z) if _log_mixture(z, r, two_sided=two_sided) > goal else (z, high)
    return high


@dataclasses.dataclass(frozen=True)
class Looks:
    """At how many looks limits and p-values hold: at every one, at this ``information``, or at one, where that is None.

    One look is one at data whose number was fixed before anything was seen.
    """

    information: float | None = None

    def quantile(self, level: float, *, two_sided: bool = False) -> float:
        """Standard errors from an estimate to its limit at ``level``."""
        if self.information is None:
            return float(ndtri(0.5 + level / 2 if two_sided else level))
        return anytime_quantile(level, self.information, two_sided=two_sided)

    def p_value(self, z: float, *, two_sided: bool = False) -> float:
        """p-value of an estimate ``z`` standard errors above (two-sided: from) what the hypothesis says."""
        if self.information is None:
            return min(1.0, float(ndtr(-z)) * (2 if two_sided else 1))
        return anytime_p_value(z, self.information, two_sided=two_sided)

    def renewed(self, p_value: float, *, two_sided: bool = False) -> float:
        """The p-value of one look, as a bootstrap or a redrawing gives it, as it holds at these looks."""
        if self.information is None or math.isnan(p_value):
            return p_value
        return self.p_value(-float(ndtri(p_value / 2 if two_sided else p_value)), two_sided=two_sided)

    def single_level(self, level: float) -> float:
        """The two-sided level at which an interval for one look is as wide as one at ``level`` for these looks.

        ``level`` is that of the interval whose two limits hold each at (1 + ``level``) / 2.
        """
        if self.information is None:
            return level
        z = self.quantile(0.5 + level / 2)
        return float(ndtr(z) - ndtr(-z))

    def after(self, factor: float) -> Looks:
        """The same once there are ``factor`` times as many rollouts."""
        return self if self.information is None else Looks(self.information * factor)


ONE_LOOK = Looks()


def _log_mixture(z: float, r: float, *, two_sided: bool) -> float:
    exponent = z * z * r / (1 + r) / 2 - 0.5 * math.log1p(r)
    return exponent if two_sided else exponent + math.log(2) + float(log_ndtr(z * math.sqrt(r / (1 + r))))
