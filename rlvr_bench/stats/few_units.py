"""Limits of a mean that allow for kinds of problems not in the sample and for very few problems, and monotone limits.

U resampled units (problems, distinct (n, c) pairs or clusters), K budgets, B draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

__all__ = ["DIRICHLET", "allow_for_unseen", "dirichlet_limits", "rising", "unseen_share"]

DIRICHLET = "Dirichlet bound for few units"
DRAWS = 10_000


def unseen_share(count: Float64[np.ndarray, " K"], level: float) -> Float64[np.ndarray, " K"]:
    """Upper limit of the share of units of kinds not in the sample: two-sided Clopper-Pearson, 0 of ``count``."""
    return np.asarray(0.0 - np.expm1(np.log(0.5 - level / 2) / np.maximum(count, 1)))


def allow_for_unseen(
    limits: tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]],
    mean: Float64[np.ndarray, " K"],
    count: Float64[np.ndarray, " K"],
    level: float,
) -> tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]]:
    """Limits of a mean in [0, 1], widened where needed for a share ``unseen_share`` of units at 0, or at 1.

    Where all values of a sample are near 1 its variance is almost 0, so it does not show how many problems at 0 the
    sample missed: if 3 % of the problems of an easy set are at 0, a sample of 30 has none of them with probability 0.4.
    The mean of the population is then at least (1 - share) times the mean of the sampled kinds. The same holds near 0.
    """
    unseen = unseen_share(count, level)
    return np.minimum(limits[0], mean * (1 - unseen)), np.maximum(limits[1], mean + (1 - mean) * unseen)


def dirichlet_limits(
    sums: Float64[np.ndarray, "U K"],
    sizes: Float64[np.ndarray, "U K"],
    multiplicity: Int64[np.ndarray, " U"],
    rng: np.random.Generator,
    level: float,
) -> tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]]:
    """Limits of a mean in [0, 1] from few units, for any distribution of their values, two-sided at ``level``.

    Gaffke's bound: quantiles of the mean under Dirichlet(1, ..., 1) weights on the sampled units and one additional
    unit, which is at 0 for the lower limit and at 1 for the upper. For 0/1 values it is the Clopper-Pearson interval;
    for equal values it is the Clopper-Pearson bound of ``unseen_share``. Gaffke 2005; Learned-Miller and Thomas 2019
    (arXiv 1905.06208) find no distribution for which its coverage is below its level, and neither do our simulations.
    With clusters of unequal size the mean is a ratio, the guarantee is approximate, and the additional unit has the
    mean size.
    """
    weights = rng.standard_gamma(multiplicity.astype(np.float64), size=(DRAWS, multiplicity.size))
    seen = (sizes > 0).T @ multiplicity
    more = rng.standard_exponential((DRAWS, 1)) * (multiplicity @ sizes) / np.maximum(seen, 1)
    total, size = weights @ sums, weights @ sizes + more
    with np.errstate(invalid="ignore"):
        low = np.quantile(total / size, 0.5 - level / 2, axis=0)
        high = np.quantile((total + more) / size, 0.5 + level / 2, axis=0)
    return np.asarray(low), np.asarray(high)


def rising(values: Float64[np.ndarray, " K"], ks: Int64[np.ndarray, " K"]) -> Float64[np.ndarray, " K"]:
    """Isotonic regression of ``values`` (K,) on ``ks`` by least squares (pool adjacent violators); NaN stays NaN.

    For the limits of a curve that is known to be monotone. An estimate between the limits stays between them; coverage
    is not lower, and the band is not wider on average (Chernozhukov, Fernandez-Val and Galichon 2009).
    """
    result = values.copy()
    order = np.argsort(ks, kind="stable")
    order = order[~np.isnan(values[order])]
    pools: list[tuple[float, int]] = []
    for value in values[order].tolist():
        mean, size = value, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    result[order] = np.repeat([mean for mean, _ in pools], [size for _, size in pools])
    return result
