"""The solve rate of one checkpoint on one problem, from rollouts that any checkpoints drew.

C correct rollouts in hand, of S samples (runs); sample s has n_s rollouts, N in all, drawn from the law q_s. The target
is the law b, whose solve rate is p = the sum of b(y) over all correct responses y. Wrong rollouts enter as numbers only.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, logsumexp

from rlvr_bench.errors import BadArgument

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

__all__ = [
    "BorrowedRate",
    "KnownPart",
    "balance_weights",
    "binomial_limits",
    "borrowed_rate",
    "certain_bound",
    "least_mean",
    "pass_at_rate",
]

FEWEST_EFFECTIVE = 5.0  # effective correct rollouts below which an estimate is not to be believed
LARGEST_SHARE = 0.5  # of the estimate in one rollout, above which it is not
_BETS = np.geomspace(1e-4, 0.99, 40)


@dataclasses.dataclass(frozen=True)
class BorrowedRate:
    """An estimate of a solve rate, and an interval that holds at its level for any laws.

    ``error`` is the relative standard error of ``rate`` (NaN without correct rollouts); ``effective`` the effective number of
    correct rollouts, (sum w)^2 / sum w^2; ``largest`` the largest share of the estimate in one rollout. ``is_sound``: these
    two are good enough for the estimate to be believed. The interval does not depend on that.
    """

    rate: float
    low: float
    high: float
    error: float
    effective: float
    largest: float
    is_sound: bool


@dataclasses.dataclass(frozen=True)
class KnownPart:
    """What is known of p beside weights.

    ``certain``: sum of the target's probabilities of all distinct correct responses in hand, ``others``: of those that samples
    of other laws hold (``certain_bound``). ``drawn``: rollouts of the target; ``rest``: those of them that are correct by a
    response that no sample of another law holds; ``undecided``: those that could be correct, without a verdict.
    """

    certain: float = 0.0
    others: float = 0.0
    drawn: int = 0
    rest: int = 0
    undecided: int = 0


def balance_weights(
    log_target: Float64[np.ndarray, " C"], log_drawn: Float64[np.ndarray, "C S"], n_drawn: Int64[np.ndarray, " S"]
) -> Float64[np.ndarray, " C"]:
    """Weights b(y) / sum_s (n_s / N) q_s(y) of the balance heuristic (Veach and Guibas 1995, SIGGRAPH, eq. 14), (C,).

    ``log_target`` (C,) and ``log_drawn`` (C, S): log-probabilities in nats of each response under the target's law and
    under each sample's; -inf where a law cannot draw it. Where the target drew n_b of the N rollouts, no weight is above
    N / n_b. Raises BadArgument where a response has probability 0 under every law that drew.
    """
    with np.errstate(divide="ignore"):
        shares = np.log(n_drawn / n_drawn.sum())
    mixture = logsumexp(log_drawn + shares, axis=1)
    if np.isneginf(mixture).any():
        raise BadArgument("log_drawn", "-inf in a whole row", "a response that was drawn has a probability above 0")
    return np.asarray(np.exp(log_target - mixture))


def borrowed_rate(
    weights: Float64[np.ndarray, " C"],
    sample: Int64[np.ndarray, " C"],
    n_drawn: Int64[np.ndarray, " S"],
    known: KnownPart,
    *,
    level: float = 0.95,
) -> BorrowedRate:
    """The estimate (1 / N) sum of weights, unbiased with rollouts of the target among them (Owen and Zhou 2000, sec. 3).

    ``weights``: of ``balance_weights``; ``sample`` (C,): which sample each correct rollout is of; ``n_drawn`` (S,) its size.
    The low end is raised to the certain bound, and an estimate outside the interval moves to its end. Without rollouts of
    the target the estimate is that of the part of p that the others can draw, the low end is that of ``least_mean`` at
    ``level``, and the high end is 1. Raises BadArgument where nothing was drawn.

    With rollouts of the target: of p, the responses that the other samples hold have the sum ``known.others``, exactly. The
    target's rollouts are independent of these samples, so those that solve the problem by other responses are binomial.
    Known sum plus Clopper-Pearson limits of the rest is an interval for any laws and any number of rollouts.
    Its low end is raised to ``least_mean``; the two share the error probability of that side.
    """
    total, weight = int(n_drawn.sum()), float(weights.sum())
    if total < 1:
        raise BadArgument("n_drawn", n_drawn.tolist(), "at least one rollout")
    rate = min(1.0, weight / total)
    effective = weight**2 / float(np.square(weights).sum()) if weight > 0 else 0.0
    largest = float(weights.max()) / weight if weight > 0 else math.nan
    error = _standard_error(weights, sample, n_drawn) / rate if rate > 0 else math.nan
    if known.drawn:
        side = (1 - level) / 2
        rest = binomial_limits(known.rest, known.rest + known.undecided, known.drawn, side / 2, side)
        low, high = max(known.others + rest[0], least_mean(weights, total, side / 2)), known.others + rest[1]
    else:
        low, high = least_mean(weights, total, 1 - level), 1.0
    low = min(1.0, max(known.certain, low))
    high = min(1.0, max(high, low))
    is_sound = effective >= FEWEST_EFFECTIVE and largest <= LARGEST_SHARE
    return BorrowedRate(min(max(rate, low), high), low, high, error, effective, largest, is_sound)


def certain_bound(log_target: Float64[np.ndarray, " D"]) -> float:
    """Sum of the target's probabilities of D distinct correct responses: p is at least that. No chance is involved.

    ``log_target`` (D,) in nats. Distinct means as sequences of tokens: two of one text are two responses.
    """
    return float(min(1.0, np.exp(log_target).sum()))


def least_mean(values: Float64[np.ndarray, " C"], total: int, alpha: float) -> float:
    """A lower confidence bound at level 1 - ``alpha`` for a mean of ``total`` values without an upper limit.

    ``values`` (C,) are those that are not 0; none is negative. A bet l in (0, 1) against a mean of at most m has the capital
    prod (1 + l (x / m - 1)), whose expectation is at most 1 (Waudby-Smith and Ramdas 2024, sec. 4); by the concavity of
    the logarithm also where the values are of several samples whose means have the mean m. The mean capital of 40 bets,
    all chosen beforehand, excludes every m at which it is 1 / alpha or more.
    """
    values = values[values > 0]
    if not values.size:
        return 0.0
    mean = float(values.sum()) / total

    def excess(log_mean: float) -> float:
        gains = np.log1p(_BETS[:, None] * np.expm1(np.log(values) - log_mean)).sum(axis=1)
        capital = gains + (total - values.size) * np.log1p(-_BETS)
        return float(logsumexp(capital) - np.log(_BETS.size) + np.log(alpha))

    lowest = math.log(mean) - 60.0
    if excess(lowest) < 0:
        return 0.0
    return math.exp(brentq(excess, lowest, math.log(mean), xtol=1e-9))


def pass_at_rate(rate: Float64[np.ndarray, " P"], ks: Int64[np.ndarray, " K"]) -> Float64[np.ndarray, "P K"]:
    """pass@k of problems with these solve rates, 1 - (1 - p)^k, (P, K)."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(np.log1p(-rate)[:, None] * ks))


def _standard_error(
    weights: Float64[np.ndarray, " C"], sample: Int64[np.ndarray, " C"], n_drawn: Int64[np.ndarray, " S"]
) -> float:
    """Of the estimate: the variance within each sample, which has a fixed size. A sample of one counts with its square."""
    sums = np.bincount(sample, weights=weights, minlength=n_drawn.size)
    squares = np.bincount(sample, weights=np.square(weights), minlength=n_drawn.size)
    spread = squares - sums**2 / np.maximum(n_drawn, 1)
    several = n_drawn / np.maximum(n_drawn - 1, 1)
    variance = np.where(n_drawn > 1, spread * several, squares)
    return float(np.sqrt(max(0.0, variance.sum())) / n_drawn.sum())


def binomial_limits(least: int, most: int, drawn: int, below: float, above: float) -> tuple[float, float]:
    """Clopper-Pearson limits of a rate of ``least`` to ``most`` successes in ``drawn``.

    The rate is below the low limit with a probability of at most ``below``, above the high one of at most ``above``.
    """
    low = float(betaincinv(least, drawn - least + 1, below)) if least else 0.0
    return low, 1.0 if most >= drawn else float(betaincinv(most + 1, drawn - most, 1 - above))
