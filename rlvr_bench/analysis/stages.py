"""Rising stage and plateau: one straight line through a training series, or two that meet at a knot.

No paper has an algorithm (arXiv 2508.07534 and 2508.02260 split by eye). Ours compares the least-squares fits of a line
and of two segments that meet, by BIC and by a Monte Carlo test that has the right size for short series too. Points are
weighted by their errors, and deviations may have first-order autocorrelation. The interval of the knot is from a
parametric bootstrap. "No second stage" is a possible result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.significance import holm
from rlvr_bench.stats.validation import check_values

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

__all__ = ["FEWEST_POINTS", "StageFit", "corrected", "fit_stages"]

FEWEST_POINTS = 6
_SEGMENT = 3  # fewest points on each side of a knot
_KNOTS = 200  # candidates for the knot
_KNOTS_OF_TEST = 40
_LEVEL = 0.05  # of the test: a straight series has two stages with at most this probability
_REPLICATES = 2000
_REPLICATES_OF_TEST = 1000
_CORRELATIONS = (0.0, 0.2, 0.4, 0.6, 0.8)  # of neighbouring points


class StageFit(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a metric has a second stage over training, and where it begins.

    ``second_stage``: True if two segments are better by BIC and by the test of a straight line (``p_value``), False if
    not, None with too few points. ``knot`` (in training steps) has the interval [``low``, ``high``] at ``level``;
    slopes are per step, on the fitted ``scale`` (``log``: of the metric's logarithm). ``bic_one`` and ``bic_two`` are
    those of the two fits, ``correlation`` is that of neighbouring points in the fit of two segments. ``p_holm`` is
    corrected over the metrics of a series; if it is given, it decides instead of ``p_value``.
    """

    metric: str
    scale: str
    n_points: int
    second_stage: bool | None
    knot: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    slope: float | None = None
    slope_before: float | None = None
    slope_after: float | None = None
    bic_one: float | None = None
    bic_two: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    correlation: float | None = None
    note: str | None = None


def fit_stages(
    metric: str,
    steps: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    scale: str = "linear",
    errors: npt.ArrayLike | None = None,
) -> StageFit:
    """One line or two segments through ``values`` (S,) at ``steps`` (S,); NaN values are left out.

    ``errors`` (S,): standard errors of the values; only their ratios are used. They are taken as equal if they are not
    given or if one is unknown. ``scale`` ``log`` fits the logarithm: an entropy that decays at a constant rate is one
    stage, not two. The knot has at least three points on each side and is two parameters in BIC (its position and the
    change of slope).

    Deviations are errors times a first-order autoregression. In both fits its correlation, from 0 to 0.8, is by maximum
    likelihood; slopes and knot are by weighted least squares. The p-value is from simulated straight series with these
    errors and steps: the share with a likelihood ratio at least as large, maximised over the correlations. If the
    correlation of neighbours is stronger than 0.8, the test rejects too often.

    Raises BadArgument: shapes disagree, steps repeat, or scale is unknown.
    """
    x, y = check_values("steps", steps), check_values("values", values)
    if x.shape != y.shape:
        raise BadArgument("values", y.shape, f"must have the shape of steps, {x.shape}")
    if len(np.unique(x)) < len(x):
        raise BadArgument("steps", x.tolist(), "must differ from one another")
    if scale not in ("linear", "log"):
        raise BadArgument("scale", scale, "must be linear or log")
    spread = np.ones_like(y) if errors is None else check_values("errors", errors)
    if spread.shape != y.shape:
        raise BadArgument("errors", spread.shape, f"must have the shape of steps, {x.shape}")
    known = ~np.isnan(y) & ((y > 0) | (scale == "linear"))
    order = np.argsort(x[known])
    x, y, spread = (column[known][order] for column in (x, y, spread))
    if len(x) < FEWEST_POINTS:
        note = f"{len(x)} checkpoints: a second stage is looked for from {FEWEST_POINTS} on"
        return StageFit(metric=metric, scale=scale, n_points=len(x), second_stage=None, note=note)
    spread = spread / y if scale == "log" and errors is not None else spread
    usable = bool((np.isfinite(spread) & (spread > 0)).all())
    spread = spread / np.exp(np.mean(np.log(spread))) if usable else np.ones_like(y)
    return _compare(metric, scale, _Points(x, spread), np.log(y) if scale == "log" else y, rng)


def corrected(fits: Sequence[StageFit]) -> list[StageFit]:
    """The fits of the metrics of one series with ``p_holm`` (Holm 1979), which now decides on the second stage."""
    adjusted = holm([np.nan if fit.p_value is None else fit.p_value for fit in fits]).tolist() if fits else []
    corrected_fits = []
    for fit, p_holm in zip(fits, adjusted, strict=True):
        if fit.p_value is None:
            corrected_fits.append(fit)
        elif fit.second_stage and p_holm > _LEVEL:
            nothing = dict.fromkeys(("knot", "low", "high", "slope_before", "slope_after"))
            corrected_fits.append(
                msgspec.structs.replace(fit, p_holm=p_holm, second_stage=False, note="no second stage", **nothing)
            )
        else:
            corrected_fits.append(msgspec.structs.replace(fit, p_holm=p_holm))
    return corrected_fits


@dataclasses.dataclass(frozen=True)
class _Points:
    """Steps ``x`` (S,), and the relative standard errors ``spread`` (S,) of the values there."""

    x: Float64[np.ndarray, " S"]
    spread: Float64[np.ndarray, " S"]

    def white(self, values: Float64[np.ndarray, "S B"], correlation: float) -> Float64[np.ndarray, "S B"]:
        """``values`` transformed so that deviations with this correlation are independent, with equal variance."""
        scaled = values / self.spread.reshape(-1, *[1] * (values.ndim - 1))
        first = scaled[:1] * np.sqrt(1 - correlation**2)
        return np.concatenate([first, scaled[1:] - correlation * scaled[:-1]])

    def noise(self, correlation: float, rng: np.random.Generator, size: int) -> Float64[np.ndarray, "S B"]:
        """Random deviations with innovations of variance 1, scaled by ``spread``, (S, B)."""
        draws = rng.standard_normal((len(self.x), size))
        draws[0] /= np.sqrt(1 - correlation**2)
        for i in range(1, len(draws)):
            draws[i] += correlation * draws[i - 1]
        return np.asarray(draws * self.spread[:, None])


def _compare(
    metric: str, scale: str, points: _Points, y: Float64[np.ndarray, " S"], rng: np.random.Generator
) -> StageFit:
    x, n = points.x, len(points.x)
    flat = max(float(np.sum((y / points.spread) ** 2)), 1e-300) * 1e-24  # the rounding noise of a perfect fit
    knots = np.linspace(x[_SEGMENT - 1], x[n - _SEGMENT], _KNOTS)
    one, two, which = _likelihoods(points, y[:, None], knots, flat)
    best = float(_CORRELATIONS[which[0]])
    white = points.white(y[:, None], 0.0)  # weighted least squares is unbiased for any correlation
    knot = float(knots[np.argmin(_residual_squares(points, white, knots, 0.0)[:, 0])])
    line = np.linalg.lstsq(points.white(_design(x), 0.0), white[:, 0], rcond=None)[0]
    bic_one, bic_two = (float(parameters * np.log(n)) - 2 * float(fit[0]) for fit, parameters in ((one, 2), (two, 4)))
    p_value = _straight(points, float(two[0] - one[0]), rng)
    fit = StageFit(
        metric=metric,
        scale=scale,
        n_points=n,
        second_stage=bool(bic_two < bic_one and p_value <= _LEVEL),
        slope=float(line[1]),
        bic_one=bic_one,
        bic_two=bic_two,
        p_value=p_value,
        correlation=best,
    )
    if not fit.second_stage:
        return msgspec.structs.replace(fit, note="no second stage")
    design = _design(x, knot)
    bend = np.linalg.lstsq(points.white(design, 0.0), white[:, 0], rcond=None)[0]
    residuals = points.white(y - design @ bend, best)
    size = np.sqrt(float(residuals @ residuals) / (n - 2 - 2))  # n minus four parameters
    draws = (design @ bend)[:, None] + size * points.noise(best, rng, _REPLICATES)
    drawn_knots = knots[np.argmin(_residual_squares(points, points.white(draws, 0.0), knots, 0.0), axis=0)]
    half = (knots[1] - knots[0]) / 2  # half the distance between candidates
    low, high = np.quantile(drawn_knots, [0.025, 0.975])
    return msgspec.structs.replace(
        fit,
        knot=knot,
        low=float(low - half),
        high=float(high + half),
        slope_before=float(bend[1]),
        slope_after=float(bend[1] + bend[2]),
    )


def _straight(points: _Points, gain: float, rng: np.random.Generator) -> float:
    """p-value of a straight series: the probability of a log likelihood ratio of at least ``gain``.

    The largest over the correlations.
    """
    knots = np.linspace(points.x[_SEGMENT - 1], points.x[-_SEGMENT], _KNOTS_OF_TEST)
    shares = []
    for correlation in _CORRELATIONS:
        noise = points.noise(correlation, rng, _REPLICATES_OF_TEST)
        one, two, _ = _likelihoods(points, noise, knots, 0.0)
        shares.append(float((1 + np.sum(two - one >= gain)) / (1 + _REPLICATES_OF_TEST)))
    return max(shares)


def _likelihoods(
    points: _Points, y: Float64[np.ndarray, "S B"], knots: Float64[np.ndarray, " K"], flat: float
) -> tuple[Float64[np.ndarray, " B"], Float64[np.ndarray, " B"], npt.NDArray[np.int64]]:
    """Largest log likelihoods of a line and of two segments, and the index of the latter's correlation, each (B,)."""
    n = len(points.x)
    fits = []
    for correlation in _CORRELATIONS:
        white = points.white(y, correlation)
        basis = np.linalg.qr(points.white(_design(points.x), correlation))[0]
        one = np.sum(white**2, axis=0) - np.sum((basis.T @ white) ** 2, axis=0)
        two = _residual_squares(points, white, knots, correlation).min(axis=0)
        size = np.log1p(-(correlation**2)) / 2
        fits.append([size - n / 2 * np.log(np.maximum(squares, max(flat, 1e-300))) for squares in (one, two)])
    table = np.array(fits)  # (correlations, 2, B)
    best = table.max(axis=0)
    return best[0], best[1], table[:, 1].argmax(axis=0)


def _design(x: Float64[np.ndarray, " S"], knot: float | None = None) -> Float64[np.ndarray, "S D"]:
    columns = [np.ones_like(x), x - x[0]] + ([] if knot is None else [np.maximum(x - knot, 0.0)])
    return np.stack(columns, axis=1)


def _residual_squares(
    points: _Points, white: Float64[np.ndarray, "S B"], knots: Float64[np.ndarray, " K"], correlation: float
) -> Float64[np.ndarray, "K B"]:
    """Residual sum of squares of two segments that meet at each knot, for each of B transformed series, (K, B)."""
    designs = np.stack([points.white(_design(points.x, knot), correlation) for knot in knots])
    basis = np.linalg.qr(designs)[0]  # (K, S, 3)
    explained = np.sum((basis.transpose(0, 2, 1) @ white) ** 2, axis=1)
    return np.asarray(np.maximum(np.sum(white**2, axis=0) - explained, 0.0))
