"""Tests of two runs on the same problems, and correction for several budgets. P problems, K budgets."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import bdtr, ndtri

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.sums import DiscreteSum, upper_deviate
from rlvr_bench.stats.validation import check_mask, check_values

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

__all__ = ["SignFlip", "holm", "mcnemar", "sign_flip", "sign_flip_test"]

ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class SignFlip:
    """A two-sided ``p_value``, and the normal deviate ``z`` (absolute) that it belongs to.

    Where the sum is beyond all replicates, so that its p-value is 1 / (1 + replicates) for every such sum, the deviate is
    that of the exact tail (``upper_deviate``) if that is larger.
    """

    p_value: float
    z: float


def mcnemar(solved_first: npt.ArrayLike, solved_second: npt.ArrayLike) -> float:
    """Exact two-sided p-value that two runs solve the same problems equally often, from one flag per problem, (P,).

    McNemar (1947) in its exact binomial form: of the problems that only one run solved, half should be the first's. 1
    where no problem was solved by exactly one run. The flags of both runs must be for equal budgets. The test uses only
    these flags; ``paired_bootstrap`` uses all rollouts. Raises ``BadArgument``: the flags are not both (P,) truth
    values.
    """
    shape = (np.size(solved_first),)
    first = check_mask("solved_first", np.atleast_1d(solved_first), shape)
    second = check_mask("solved_second", np.atleast_1d(solved_second), shape)
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def sign_flip(
    differences: npt.ArrayLike, rng: np.random.Generator, clusters: npt.ArrayLike | None = None, replicates: int = 2000
) -> float:
    """Sign-flip permutation test (Fisher 1935): two-sided p-value that ``differences`` (P,) are symmetric around 0.

    With ``clusters`` (P,), a label for each problem, the signs of a cluster change together. Where all nonzero
    (cluster) sums have one absolute value, it is the exact binomial form of McNemar's test; else (1 + #{sum at least as
    large}) / (1 + replicates), which is also a valid p-value. 1 where all are 0. Raises ``BadArgument``: shapes
    disagree.
    """
    return sign_flip_test(differences, rng, clusters, replicates).p_value


def sign_flip_test(
    differences: npt.ArrayLike, rng: np.random.Generator, clusters: npt.ArrayLike | None = None, replicates: int = 2000
) -> SignFlip:
    """``sign_flip`` with the normal deviate of its p-value."""
    values = check_values("differences", differences)
    if clusters is not None:
        labels = np.asarray(clusters)
        if labels.shape != values.shape:
            raise BadArgument("clusters", labels.shape, f"must have one label per problem, shape {values.shape}")
        values = np.bincount(np.unique(labels, return_inverse=True)[1], weights=values)
    values = values[np.abs(values) > ROUNDING]
    sizes, total = np.abs(values), abs(float(values.sum()))
    if not values.size:
        return SignFlip(1.0, 0.0)
    if np.ptp(sizes) <= ROUNDING:
        fewer = int(min(np.sum(values > 0), np.sum(values < 0)))
        p_value = min(1.0, 2 * float(bdtr(fewer, values.size, 0.5)))
        return SignFlip(p_value, -float(ndtri(p_value / 2)))
    signs = rng.integers(0, 2, (replicates, values.size), dtype=np.int8) * 2.0 - 1.0
    larger = int(np.sum(np.abs(signs @ sizes) >= total - ROUNDING))
    p_value = (1 + larger) / (1 + replicates)
    z = -float(ndtri(p_value / 2))
    return SignFlip(p_value, z if larger else max(z, upper_deviate(_signed(sizes), total - ROUNDING)))


def _signed(sizes: Float64[np.ndarray, " P"]) -> DiscreteSum:
    """The sum of ``sizes`` with random signs."""
    return DiscreteSum(
        row=np.repeat(np.arange(sizes.size), 2),
        values=np.stack([sizes, -sizes], axis=1).ravel(),
        log_weights=np.full(2 * sizes.size, -np.log(2)),
    )


def holm(p_values: npt.ArrayLike) -> Float64[np.ndarray, " K"]:
    """Holm's (1979) step-down adjusted p-values, (K,), for tests at several budgets; NaN stays NaN and is not counted.

    Reject where the result is below the level: the family-wise error rate is then at most the level, for any dependence
    between the tests. Raises ``BadArgument``: a p-value is outside [0, 1].
    """
    p = check_values("p_values", p_values)
    if ((p < 0) | (p > 1)).any():
        raise BadArgument("p_values", p.tolist(), "must be in [0, 1]")
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    factor = np.arange(order.size, 0, -1)
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factor), 1.0)
    return adjusted
