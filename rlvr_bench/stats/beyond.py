"""pass@k beyond the rollouts drawn: a fitted curve; an error where the counts cannot support one. P problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.extrapolation import fit_power_law
from rlvr_bench.stats.intervals import Interval
from rlvr_bench.stats.rare_solves import rare_solves
from rlvr_bench.stats.solve_rate import mean_pass_at_k
from rlvr_bench.stats.validation import check_budgets, check_count, check_counts, check_probability

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Int64

__all__ = ["pass_beyond"]

FARTHEST = 64  # budgets above so many times n are refused
FEWEST_ROLLOUTS, FEWEST_PROBLEMS, FEWEST_SOLVED = 16, 30, 10
ABOVE, BELOW = 0.01, 0.05  # how far the power law may be above and below the unbiased pass@n
SOLVABLE = 0.05  # posterior probability that all problems can be solved, below which no power law is used
MISFIT = 0.01  # p-value of the model below which it is refused
WIDEST = 0.3  # an interval wider than this says too little to print
OF_LAW = 0.75  # weight of the power law in the value: published models follow it more closely than the other
MODEL = "zero-inflated Beta model of rare solves; these problems"
BOTH = "power law, and a zero-inflated Beta model of rare solves; the interval holds both; these problems"


def pass_beyond(
    n_correct: npt.ArrayLike, n_samples: int, k: int, *, rng: np.random.Generator, level: float = 0.95
) -> Interval:
    """Mean pass@k at a ``k`` above n, with an interval, (1,); ``method`` names the curve.

    The interval is for fresh rollouts of these problems. It is the posterior of a zero-inflated Beta model of the
    problems that are solved rarely or never (``rare_solves``): it has the error of the fit, the share of problems that
    may never be solved, and the unknown rates of these very problems. The power law -log pass@k = A k^-b (Brown et al.
    2024, arXiv 2407.21787), at powers of two up to n, is a second opinion: it has three quarters of the weight in the
    value, and the interval is widened to hold it. It is left out where the counts show a share of never solved
    problems, or where it is more than 1 point above the unbiased pass@n or more than 5 points below it.

    Value and interval are never below the unbiased pass@n, since pass@k rises with k. Errors and coverage in
    simulation: docs/statistics.md.

    Raises ``BadArgument`` where the counts do not support an extrapolation: k is not above n, or above 64 n; fewer than
    16 rollouts or 30 problems; fewer than 10 problems solved, or none unsolved; the counts do not follow the model
    (chi-squared test at 1 %); the interval is wider than 30 points.
    """
    n = check_count("n_samples", n_samples)
    c, _ = check_counts(n_correct, n)
    check_probability("level", level)
    _check_reach(c, n, check_count("k", k))
    reached = float(mean_pass_at_k(c, n, n)[0])
    posterior = rare_solves(c, n, k, rng)
    if posterior.misfit < MISFIT:
        raise BadArgument("k", k, "cannot be extrapolated to: the rarely solved problems do not follow the model")
    low, value, high = (float(each) for each in np.quantile(posterior.draws, [0.5 - level / 2, 0.5, 0.5 + level / 2]))
    at_n, beyond = _power_law(c, n, [n, k])
    method = MODEL
    if posterior.all_solvable >= SOLVABLE and -BELOW <= at_n - reached <= ABOVE:
        value = OF_LAW * beyond + (1 - OF_LAW) * value
        method, low, high = BOTH, min(low, beyond), max(high, beyond)
    value, low, high = (min(max(each, reached), 1.0) for each in (value, low, high))
    if high - low > WIDEST:
        raise BadArgument("k", k, f"cannot be extrapolated to: anything from {low:.0%} to {high:.0%} fits these counts")
    return Interval(
        value=np.array([value]),
        low=np.array([low]),
        high=np.array([high]),
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
    return [float(each) for each in fit_power_law(c, n, grid[grid <= n]).predict(check_budgets(ks))]
