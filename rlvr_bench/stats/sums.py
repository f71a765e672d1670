"""Upper tail of a sum of independent discrete variables, far beyond what a simulation reaches. M values of P variables.

Saddlepoint approximation: with K the cumulant generating function of the sum and K'(s) = t, P(sum >= t) is the normal
tail at w + log(u / w) / w, where w = sqrt(2 (s t - K(s))) and u = s sqrt(K''(s)) (Lugannani and Rice 1980;
Barndorff-Nielsen 1986; Daniels 1987, Int. Stat. Rev. 55, sec. 3 to 5).
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

__all__ = ["DiscreteSum", "upper_deviate"]

STEEPEST = 200.0  # largest s, in units of 1 / the largest range: there the sum is at its maximum
STEPS = 60
SAFETY = 1.1  # the approximation is up to 5 % too small on a lattice of few variables


@dataclasses.dataclass(frozen=True)
class DiscreteSum:
    """The values (M,) that independent variables can have, their log-probabilities (M,), and the variable of each (M,).

    ``row`` counts the variables from 0 without gaps, in ascending order.
    """

    row: Int64[np.ndarray, " M"]
    values: Float64[np.ndarray, " M"]
    log_weights: Float64[np.ndarray, " M"]

    def span(self) -> float:
        """The largest range of a variable."""
        starts = np.flatnonzero(np.diff(self.row, prepend=-1))
        return float(np.max(np.maximum.reduceat(self.values, starts) - np.minimum.reduceat(self.values, starts)))

    def cumulants(self, s: float) -> tuple[float, float, float]:
        """K, K' and K'' of the sum at ``s``."""
        exponents = self.log_weights + s * self.values
        top = np.maximum.reduceat(exponents, np.flatnonzero(np.diff(self.row, prepend=-1)))
        weights = np.exp(exponents - top[self.row])
        total = np.bincount(self.row, weights)
        mean = np.bincount(self.row, weights * self.values) / total
        variance = np.bincount(self.row, weights * (self.values - mean[self.row]) ** 2) / total
        return float(np.sum(np.log(total) + top)), float(mean.sum()), float(variance.sum())


def upper_deviate(terms: DiscreteSum, observed: float) -> float:
    """A normal deviate z such that the sum is ``observed`` or more with a probability of about, and not above, Phi(-z).

    0 where ``observed`` is not above the mean. u has (1 - e^(-s d)) / d in place of s, with d the largest range of a
    variable: the form for values on a lattice of that width, which is on the safe side for a finer one (Daniels 1987,
    sec. 6). Chernoff's bound, which holds always, is used where it gives more, such as at the maximum of the sum.
    """
    span = terms.span() if terms.row.size else 0.0
    if span <= 0 or observed <= terms.cumulants(0.0)[1]:
        return 0.0
    low, high = 0.0, STEEPEST / span
    for _ in range(STEPS):
        s = (low + high) / 2
        low, high = (s, high) if terms.cumulants(s)[1] < observed else (low, s)
    log_moment, _, variance = terms.cumulants(low)
    exponent = low * observed - log_moment
    if exponent <= 0:
        return 0.0
    chernoff = -float(ndtri_exp(-exponent))
    w, u = math.sqrt(2 * exponent), -math.expm1(-low * span) / span * math.sqrt(variance)
    saddlepoint = w + math.log(u / w) / w if u > 0 else 0.0
    return max(0.0, chernoff, -float(ndtri_exp(min(0.0, log_ndtr(-saddlepoint) + math.log(SAFETY)))))
