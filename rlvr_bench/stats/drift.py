"""An alarm that is valid at every look: evidence that a training run has become worse than its base.

Look t compares checkpoint t with a fixed limit of the base, from rollouts that no other look has seen. Under the hypothesis
that no checkpoint is worse than the limit, the looks' deviations are independent with means of at most 0. For looks s to t
let z be their weighted sum in standard errors and r their information: M(z, r) (``sequential``) is a martingale in t of mean
at most 1. The change may begin at any look, so the evidence is the mean of M over s with the weights 1 / (s (s + 1)), which
is such a martingale too. By Ville's inequality it ever exceeds 1 / a with probability at most a, for any number of looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import logsumexp

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.sequential import log_mixture

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

__all__ = ["Drift", "drift"]


class Drift(NamedTuple):
    """The evidence at each look as a logarithm, (T,), and the look, from 0, since which the change most likely is there."""

    log_evidence: Float64[np.ndarray, " T"]
    since: int


def drift(excess: npt.ArrayLike, variance: npt.ArrayLike, effect: float) -> Drift:
    """Evidence that some ``excess`` has a mean above 0. All (T,), in the order in which the looks were taken.

    ``excess``: how much worse than the limit each checkpoint is (negative: better); ``variance``: its sampling variance.
    ``effect``: the size of change that should be detected soonest, in the same unit; any other is detected too. With the
    evidence at log(1 / a) or above, an alarm is false with probability at most a.
    Raises ``BadArgument``: shapes differ or are empty, a value is not finite, a variance or effect not above 0.
    """
    x, v = np.asarray(excess, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    if x.ndim != 1 or x.shape != v.shape or not x.size:
        raise BadArgument("variance", v.shape, f"must have one axis and the shape of excess, {x.shape}, not empty")
    if not (np.isfinite(x).all() and np.isfinite(v).all() and (v > 0).all() and effect > 0):
        raise BadArgument(
            "excess, variance, effect", (x.tolist(), v.tolist(), effect), "must be finite, the last two above 0"
        )
    weighted, information = np.cumsum(np.append(0.0, x / v)), np.cumsum(np.append(0.0, 1 / v))
    starts = np.arange(len(x))
    log_weights = -np.log((starts + 1.0) * (starts + 2.0))
    evidence = np.empty(len(x))
    terms = log_weights[:1]
    for now in range(1, len(x) + 1):
        known = information[now] - information[:now]
        z = (weighted[now] - weighted[:now]) / np.sqrt(known)
        terms = log_weights[:now] + log_mixture(z, known * effect**2, two_sided=False)
        evidence[now - 1] = np.logaddexp(logsumexp(terms), -np.log(now + 1.0))  # changes that have not begun weigh 1
    return Drift(evidence, int(np.argmax(terms)))
