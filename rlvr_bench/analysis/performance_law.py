"""R = -a exp(H) + b over a training series: the fit, its ceiling, and a forecast from its first third."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from rlvr_bench import stats
from rlvr_bench.errors import BadArgument
from rlvr_bench.records import Estimate

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

__all__ = ["EntropyLaw", "Forecast", "fit_law"]

_EARLY = 3  # the fewest checkpoints that a forecast is made from
_LATER = 2  # the fewest checkpoints that it is compared with


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """The fit to the first ``n_fitted`` checkpoints, applied to the entropies of the later ones.

    ``predicted`` and ``actual``: pass@1 of the later checkpoints. ``rmse`` is between them; ``rmse_unchanged`` is that of
    the assumption that pass@1 stays where the first third ended, which a useful forecast must beat. ``final_error`` is
    predicted - actual at the last checkpoint.
    """

    n_fitted: int
    predicted: tuple[float, ...]
    actual: tuple[float, ...]
    rmse: float
    rmse_unchanged: float
    final_error: Estimate


class EntropyLaw(msgspec.Struct, frozen=True, kw_only=True):
    """Least squares of R = -a exp(H) + b, H the mean token entropy (nats) and R pass@1 at every checkpoint.

    ``ceiling`` is R at H = 0, b - a. The intervals are for other
    problems of this kind (problems resampled, all checkpoints together), not for another training run. ``rmse`` in units
    of R; ``r_squared`` the share of the variance of R that the law explains. ``entropy`` and ``performance`` are the points.
    ``forecast`` is None where there are too few checkpoints (``note``).
    """

    entropy: tuple[float, ...]
    performance: tuple[float, ...]
    a: Estimate
    b: Estimate
    ceiling: Estimate
    rmse: float
    r_squared: float | None
    forecast: Forecast | None
    note: str | None = None


def fit_law(
    entropy: Float64[np.ndarray, "S P"],
    solved: Float64[np.ndarray, "S P"],
    clusters: npt.NDArray[np.str_] | None = None,
    *,
    rng: np.random.Generator,
) -> EntropyLaw | None:
    """The law of arXiv 2505.22617, eq. 1, from each problem's mean entropy and solve rate at S checkpoints.

    None where all checkpoints have the same entropy. The paper fits its first 36 evaluations to predict 200 more; here the
    fit to the first third (at least three) predicts pass@1 of the later checkpoints from their entropies. Raises
    BadArgument: shapes disagree.
    """
    if entropy.shape != solved.shape:
        raise BadArgument("solved", solved.shape, f"must have the shape of entropy, {entropy.shape}")
    weights = stats.resampled_weights(entropy.shape[1], rng=rng, clusters=clusters)
    points = entropy.mean(axis=1), solved.mean(axis=1)
    draws = entropy @ weights, solved @ weights  # (S, B)
    if len(np.unique(points[0])) < 2:
        return None
    fit = stats.entropy_performance_fit(*points)
    a, b = _fits(*draws)
    problems = entropy.shape[1]
    spread = float(np.sum((points[1] - points[1].mean()) ** 2))
    early = max(_EARLY, -(-len(points[0]) // 3))
    enough = len(points[0]) >= early + _LATER and len(np.unique(points[0][:early])) > 1
    return EntropyLaw(
        entropy=tuple(points[0].tolist()),
        performance=tuple(points[1].tolist()),
        a=_estimate("a", fit.a, a, problems),
        b=_estimate("b", fit.b, b, problems),
        ceiling=_estimate("ceiling", fit.ceiling, b - a, problems),
        rmse=fit.rmse,
        r_squared=1 - len(points[0]) * fit.rmse**2 / spread if spread else None,
        forecast=_forecast(points, draws, early, problems) if enough else None,
        note=None if enough else f"no forecast: it needs {_EARLY} checkpoints and {_LATER} later ones",
    )


def _forecast(
    points: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    draws: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    early: int,
    problems: int,
) -> Forecast:
    entropy, solved = points
    fit = stats.entropy_performance_fit(entropy[:early], solved[:early])
    predicted, actual = fit.b - fit.a * np.exp(entropy[early:]), solved[early:]
    a, b = _fits(draws[0][:early], draws[1][:early])
    errors = b - a * np.exp(draws[0][-1]) - draws[1][-1]
    return Forecast(
        n_fitted=early,
        predicted=tuple(predicted.tolist()),
        actual=tuple(actual.tolist()),
        rmse=float(np.sqrt(np.mean((predicted - actual) ** 2))),
        rmse_unchanged=float(np.sqrt(np.mean((solved[early - 1] - actual) ** 2))),
        final_error=_estimate("final_error", float(predicted[-1] - actual[-1]), errors, problems),
    )


def _fits(
    entropy: Float64[np.ndarray, "S B"], solved: Float64[np.ndarray, "S B"]
) -> tuple[Float64[np.ndarray, " B"], Float64[np.ndarray, " B"]]:
    """The law's a and b in every replicate; NaN where its entropies are all equal."""
    x = np.exp(entropy)
    centred = x - x.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.sum(centred * (solved - solved.mean(axis=0)), axis=0) / np.sum(centred**2, axis=0)
    return -slope, solved.mean(axis=0) - slope * x.mean(axis=0)


def _estimate(name: str, value: float, draws: npt.NDArray[np.float64], problems: int) -> Estimate:
    low, high = np.nanquantile(draws, [0.025, 0.975]) if problems > 1 else (np.nan, np.nan)
    limits = [None if np.isnan(limit) else float(limit) for limit in (low, high)]
    method = "least squares over checkpoints; percentile bootstrap over problems"
    return Estimate(name=name, value=value, low=limits[0], high=limits[1], method=method, n_problems=problems)
