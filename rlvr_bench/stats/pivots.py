"""Pivots of a bootstrap: their quantiles, p-values, and the floors and caps of both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

if TYPE_CHECKING:
    from jaxtyping import Float64

__all__ = [
    "FEW_UNITS",
    "bernstein_radius",
    "deviate_beyond",
    "largest_kept",
    "quantiles",
    "small_sample_floor",
    "two_sided",
]

FEW_UNITS = 30


def two_sided(pivot: Float64[np.ndarray, " K"], count: Float64[np.ndarray, " K"]) -> Float64[np.ndarray, " K"]:
    """Two-sided p-value of a normal pivot, or of Student's for few units; ``small_sample_floor`` inverts it."""
    return np.asarray(2 * np.where(count < FEW_UNITS, stdtr(np.maximum(count - 1, 1), -pivot), ndtr(-pivot)))


def deviate_beyond(
    pivot: Float64[np.ndarray, " K"], pivots: Float64[np.ndarray, "B K"], count: Float64[np.ndarray, " K"]
) -> Float64[np.ndarray, " K"]:
    """The deviate of a pivot beyond all replicates, else 0; at most that of ``two_sided``."""
    largest, last = pivots.max(axis=0), -float(ndtri(0.5 / (1 + len(pivots))))
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = last * pivot / np.maximum(largest, last)
        student = -ndtri(np.maximum(two_sided(pivot, count) / 2, np.finfo(np.float64).tiny))
    return np.where(pivot > largest, np.minimum(scaled, student), 0.0)


def largest_kept(pivots: Float64[np.ndarray, "B K"], level: float) -> Float64[np.ndarray, " K"]:
    """The pivot (K,) above which (1 + #{replicates at least as large}) / (1 + B) is below 1 - level."""
    larger = math.ceil((1 - level) * (1 + len(pivots)) - 1e-9) - 2
    if larger < 0:
        return np.full(pivots.shape[1], np.inf)
    row = len(pivots) - 1 - larger
    return np.asarray(np.partition(pivots, row, axis=0)[row])


def bernstein_radius(
    variance: Float64[np.ndarray, " K"], count: Float64[np.ndarray, " K"], level: float
) -> Float64[np.ndarray, " K"]:
    """Half-width that is enough for a mean of values in [0, 1] of any distribution; ``variance`` is that of the mean.

    Maurer and Pontil 2009 (arXiv 0907.3740), theorem 4, each side at half the error. It limits the score bootstrap
    where the mean depends on a single value, for example where all but one of 300 values are 1e-40: resamples without
    that value have almost no information.
    """
    log = math.log(4 / (1 - level))
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt(2 * variance * log) + 7 * log / (3 * (count - 1)))


def small_sample_floor(count: Float64[np.ndarray, " K"], level: float) -> Float64[np.ndarray, " K"]:
    """Student's quantile for few units, where too many replicates have nearly equal values; else 0."""
    quantile = stdtrit(np.maximum(count - 1, 1), 0.5 + level / 2)
    return np.where(count < FEW_UNITS, quantile, 0.0)


def quantiles(draws: Float64[np.ndarray, "B K"], shares: list[float]) -> Float64[np.ndarray, "Q K"]:
    """Quantiles down each column; replicates that drew only undefined values are left out."""
    draws[:, np.isnan(draws).all(axis=0)] = 0.0
    pick = np.nanquantile if np.isnan(draws).any() else np.quantile
    return np.asarray(pick(draws, shares, axis=0))
