"""Limits for what a sample cannot show: problems unlike all seen ones, very few problems, curves that only rise.

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
    """Largest share of units unlike all seen ones: the Clopper-Pearson bound for 0 of ``count``, two-sided."""
    return np.asarray(0.0 - np.expm1(np.log(0.5 - level / 2) / np.maximum(count, 1)))


def allow_for_unseen(
    limits: tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]],
    mean: Float64[np.ndarray, " K"],
    count: Float64[np.ndarray, " K"],
    level: float,
) -> tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]]:
    """Limits of a mean in [0, 1], moved out where needed so that ``unseen_share`` of the units may be 0, or may be 1.

    A sample whose values are all near 1 has almost no spread, so its own spread cannot say how many problems at 0 it
    missed: of an easy set with 3 % of problems at 0, 30 problems hold none with chance 0.4. The mean of the population is
    then at least (1 - share) times the mean of the problems like those seen. The same holds near 0.
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

    Gaffke's bound: quantiles of the mean under Dirichlet(1, ..., 1) weights on the units seen and one more unit, at 0 for
    the lower and at 1 for the upper limit. For 0/1 values it is Clopper and Pearson's interval, for equal values their bound
    on an unseen kind. Gaffke 2005; Learned-Miller and Thomas 2019 (arXiv 1905.06208), who find no distribution for which
    it covers less than its level; nor do the simulations here. With clusters of unequal size the mean is a ratio, and the
    guarantee is approximate; the unit more has the mean size.
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
    """``values`` (K,) made to rise with ``ks`` by isotonic least squares (pool adjacent violators); NaN stays.

    For the limits of a curve that is known to rise. It keeps order, so a value between its limits stays there, and a
    band is no worse for it in coverage and never wider on average (Chernozhukov, Fernandez-Val and Galichon 2009).
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
