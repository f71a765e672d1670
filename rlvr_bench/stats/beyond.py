"""pass@k beyond the rollouts drawn: a fitted curve; an error where the counts cannot support one. P problems."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betaln

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.extrapolation import extrapolate_pass_at_k, fit_power_law
from rlvr_bench.stats.intervals import Interval, normal_quantile
from rlvr_bench.stats.posterior import fit_beta_prior
from rlvr_bench.stats.solve_rate import mean_pass_at_k
from rlvr_bench.stats.validation import check_budgets, check_count, check_counts, check_probability
from rlvr_bench.stats.zero_inflation import never_solved

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Int64

__all__ = ["pass_beyond"]

FARTHEST = 64  # budgets above so many times n are refused
FEWEST_ROLLOUTS, FEWEST_PROBLEMS, FEWEST_SOLVED = 16, 30, 10
ABOVE, BELOW = 0.01, 0.05  # how far the curve may be above and below the unbiased pass@n; if above, pass@k levels off
WIDEST = 0.25  # an interval wider than this says too little to print
REPLICATES = 200
BETA = "zero-inflated Beta model of solve rates"
BOTH = "mean of a power law and a Beta model of solve rates; the interval holds both and the rollouts' noise"


def pass_beyond(
    n_correct: npt.ArrayLike, n_samples: int, k: int, *, rng: np.random.Generator, level: float = 0.95
) -> Interval:
    """Mean pass@k at a ``k`` above n, with an interval, (1,); ``method`` names the curve.

    Two curves are fitted: the power law -log pass@k = A k^-b (Brown et al. 2024, arXiv 2407.21787), at powers of two up
    to n, and a Beta model of solve rates (``extrapolate_pass_at_k``).

    - The value is their mean. The interval contains both curves. It is wider on each side by the noise of the rollouts
      (counts are redrawn from their posterior, and the power law is fitted to them again), and by chance: which of
      these very unsolved problems k rollouts solve.
    - The zero-inflated Beta model, with its sandwich interval and the same chance, is used instead where the counts
      show a share of never solved problems (``never_solved`` above 0 at ``level``), or where the power law is more than
      1 point above the unbiased pass@n or more than 5 points below it.

    Value and interval are never below the unbiased pass@n, since pass@k rises with k. Errors and coverage in
    simulation: docs/statistics.md.

    Raises ``BadArgument`` where the counts do not support an extrapolation: k is not above n, or above 64 n; fewer than
    16 rollouts or 30 problems; fewer than 10 problems solved, or none unsolved; no curve is within 1 point of the
    unbiased pass@n; the interval is wider than 25 points.
    """
    n = check_count("n_samples", n_samples)
    c, _ = check_counts(n_correct, n)
    check_probability("level", level)
    _check_reach(c, n, check_count("k", k))
    reached = float(mean_pass_at_k(c, n, n)[0])
    at_n, value = _power_law(c, n, [n, k])
    if never_solved(c, n, level).low[0] > 0 or not -BELOW <= at_n - reached <= ABOVE:
        model = extrapolate_pass_at_k(c, n, [n, k], "zero-inflated-beta", level).interval
        if abs(model.value[0] - reached) > ABOVE:
            raise BadArgument("k", k, f"cannot be extrapolated to: no curve meets the {reached:.1%} of k = {n}")
        method, value = BETA, float(model.value[1])
        chance = normal_quantile(level) * _chance_of_unsolved(c, n, k, value)
        low = value - math.hypot(value - float(model.low[1]), chance)
        high = value + math.hypot(float(model.high[1]) - value, chance)
    else:
        other = float(extrapolate_pass_at_k(c, n, k, "beta").interval.value[0])
        method, value, apart = BOTH, (value + other) / 2, abs(value - other) / 2
        noise = normal_quantile(level) * math.hypot(_redrawn(c, n, k, rng).std(), _chance_of_unsolved(c, n, k, value))
        low, high = value - math.hypot(apart, noise), value + math.hypot(apart, noise)
    value, low, high = max(value, reached), max(low, reached), min(high, 1.0)
    if high - low > WIDEST:
        raise BadArgument("k", k, f"cannot be extrapolated to: anything from {low:.0%} to {high:.0%} fits these counts")
    return Interval(
        value=np.array([value]),
        low=np.array([low]),
        high=np.array([max(high, value)]),
        level=level,
        method=method,
        source="model",
        n_problems=np.array([c.size]),
    )


def _check_reach(c: Int64[np.ndarray, " P"], n: int, k: int) -> None:
    solved = int((c > 0).sum())
    reasons = (
        (k <= n, f"must be above n, which is {n}: up to n pass@k is estimated without a model"),
        (k > FARTHEST * n, f"must be at most {FARTHEST * n:,}: {FARTHEST} times the {n} rollouts per problem"),
        (n < FEWEST_ROLLOUTS, f"cannot be extrapolated to from {n} rollouts per problem: at least {FEWEST_ROLLOUTS}"),
        (c.size < FEWEST_PROBLEMS, f"cannot be extrapolated to from {c.size} problems: at least {FEWEST_PROBLEMS}"),
        (solved < FEWEST_SOLVED, f"cannot be extrapolated to: {solved} problems are solved, at least {FEWEST_SOLVED}"),
        (solved == c.size, "cannot be extrapolated to: every problem is solved already"),
    )
    for wrong, reason in reasons:
        if wrong:
            raise BadArgument("k", k, reason)


def _power_law(c: Int64[np.ndarray, " P"], n: int, ks: list[int]) -> list[float]:
    grid = 2 ** np.arange(n.bit_length())
    return [float(value) for value in fit_power_law(c, n, grid[grid <= n]).predict(check_budgets(ks))]


def _chance_of_unsolved(c: Int64[np.ndarray, " P"], n: int, k: int, value: float) -> float:
    """Standard error of mean pass@k from the unknown solve rates of the unsolved problems, at the fitted ``value``.

    Under the Beta model the rate p of an unsolved problem is Beta(a, b + n), and its pass@k is q = 1 - (1 - p)^k. The
    variance of q, as a share of its largest one at that mean, is taken from there, and the mean from ``value``.
    """
    unsolved = int((c == 0).sum())
    alpha, beta = fit_beta_prior(c, np.full(c.size, n))
    missed, twice = (math.exp(betaln(alpha, beta + n + times * k) - betaln(alpha, beta + n)) for times in (1, 2))
    relative = (twice - missed**2) / (missed * (1 - missed))
    share = min(max((value - 1) * c.size / unsolved + 1, 0.0), 1.0)
    return math.sqrt(unsolved * relative * share * (1 - share)) / c.size


def _redrawn(c: Int64[np.ndarray, " P"], n: int, k: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """The power law at k for counts redrawn from the posterior of each problem, with a prior fitted to the run."""
    alpha, beta = fit_beta_prior(c, np.full(c.size, n))
    rates = rng.beta(alpha + c, beta + n - c, size=(REPLICATES, c.size))
    drawn = rng.binomial(n, rates)
    return np.array([_power_law(row, n, [k])[0] for row in drawn if (row > 0).sum() > 1])
