"""The result type of every interval, and the score interval that the bootstrap and the closed forms share."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import ndtri

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

__all__ = ["Interval", "Source", "normal_quantile", "score_interval"]

Source = Literal["problems", "rollouts", "model"]


@dataclasses.dataclass(frozen=True)
class Interval:
    """Estimates ``value`` and the intervals [``low``, ``high``] at ``level`` that contain them, one per budget (K,).

    ``source`` says which error the interval includes. ``problems``: sampling of problems and of rollouts, for claims
    about the population that the problems came from. ``rollouts``: sampling of rollouts of these same problems.
    ``model``: the parameters of a fitted model, i.e. an extrapolation. ``n_problems`` (K,) is the number of problems in
    each estimate; the other problems are undefined there.
    """

    value: Float64[np.ndarray, " K"]
    low: Float64[np.ndarray, " K"]
    high: Float64[np.ndarray, " K"]
    level: float
    method: str
    source: Source
    n_problems: Int64[np.ndarray, " K"]


def normal_quantile(level: float) -> float:
    """Half-width of a two-sided interval in standard errors: 1.96 for level 0.95."""
    return float(ndtri(0.5 + level / 2))


def score_interval(
    value: Float64[np.ndarray, " K"],
    shrinkage: Float64[np.ndarray, " K"],
    pivots: tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]],
) -> tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]]:
    """Limits for a mean in [0, 1]: all mu with pivot_low <= (value - mu) / sqrt(shrinkage mu (1 - mu)) <= pivot_high.

    Wilson's (1927) interval with ``shrinkage`` = 1 / effective sample size, Var(mean) / (mean (1 - mean)), so that the
    variance depends on mu, as for a survey with a design effect (Korn and Graubard 1998). The limits are in [0, 1].
    """
    lower, upper = np.minimum(pivots[0], 0.0), np.maximum(pivots[1], 0.0)
    return _wilson_limit(value, shrinkage, -upper), _wilson_limit(value, shrinkage, -lower)


def _wilson_limit(
    value: Float64[np.ndarray, " K"], shrinkage: Float64[np.ndarray, " K"], z: Float64[np.ndarray, " K"]
) -> Float64[np.ndarray, " K"]:
    weight = z**2 * shrinkage
    root = np.sqrt(np.maximum(shrinkage * (value * (1 - value) + weight / 4), 0.0))
    return np.asarray(np.clip((value + weight / 2 + z * root) / (1 + weight), 0.0, 1.0))
