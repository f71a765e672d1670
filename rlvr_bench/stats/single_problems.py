"""Which single problems changed between two runs: exact tests with a controlled false discovery rate. P problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.validation import check_counts, check_values

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

__all__ = ["benjamini_hochberg", "fisher_exact"]

ROUNDING = 1e-7  # relative; tables whose probabilities differ by less count as equally likely


def fisher_exact(
    first: tuple[npt.ArrayLike, npt.ArrayLike], second: tuple[npt.ArrayLike, npt.ArrayLike]
) -> tuple[Float64[np.ndarray, " P"], Float64[np.ndarray, " P"]]:
    """Two-sided p-value of equal solve rates for each problem, and the smallest attainable p-value, both (P,).

    Fisher's exact test: given the pooled number correct, that of the first run is hypergeometric for any solve rate.
    The p-value is the sum of the probabilities of all numbers that are no more likely than the observed one. ``first``
    and ``second`` are (n_correct, n_samples) in the same order. The smallest attainable p-value depends on the pooled
    counts only. Rollouts must be independent and their number fixed beforehand. Raises ``BadArgument``: as
    ``pass_at_k``, or the runs differ in their problems.
    """
    (c1, n1), (c2, n2) = check_counts(*first), check_counts(*second)
    if c1.shape != c2.shape:
        raise BadArgument("second", c2.shape[0], f"must have as many problems as first, {c1.shape[0]}")
    tables, row = np.unique(np.stack([c1, n1, c2, n2], axis=1), axis=0, return_inverse=True)
    p_values = np.array([_fisher(*table) for table in tables.tolist()])
    return p_values[row.ravel(), 0], p_values[row.ravel(), 1]


def benjamini_hochberg(p_values: npt.ArrayLike) -> Float64[np.ndarray, " P"]:
    """Adjusted p-values (P,) of Benjamini and Hochberg (1995); NaN stays NaN and is not counted.

    Rejecting all below q controls the false discovery rate at q, for independent tests whose p-values are uniform or
    larger under the null hypothesis. Raises ``BadArgument``: a p-value is outside [0, 1].
    """
    p = check_values("p_values", p_values)
    if ((p < 0) | (p > 1)).any():
        raise BadArgument("p_values", p.tolist(), "must be in [0, 1]")
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    scaled = p[order] * order.size / np.arange(1, order.size + 1)
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _fisher(c1: int, n1: int, c2: int, n2: int) -> tuple[float, float]:
    """The p-value of one table, and the smallest p-value of a table with the same margins."""
    pooled = c1 + c2
    possible = np.arange(max(0, pooled - n2), min(pooled, n1) + 1)
    log_chance = _log_choose(n1, possible) + _log_choose(n2, pooled - possible)
    chance = np.exp(log_chance - log_chance.max())
    chance /= chance.sum()

    def at_most(limit: float) -> float:
        return float(min(chance[chance <= limit * (1 + ROUNDING)].sum(), 1.0))

    return at_most(float(chance[c1 - possible[0]])), at_most(float(chance.min()))


def _log_choose(top: int, bottom: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.asarray(gammaln(top + 1) - gammaln(bottom + 1) - gammaln(top - bottom + 1))
