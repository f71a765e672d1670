"""Whether rollouts are independent draws: repeats seen against those that the stored log-probabilities lead to expect.

R rollouts, in the order in which they were drawn, problem by problem. Let p(x) be the probability of a whole response.
Under independence the j-th rollout of a problem repeats a response x that was drawn c(x) times before with probability
p(x), whatever was drawn before. Two consequences:

- Expected repeats: the sum over j of the probability that rollout j repeats any earlier response, which is the sum of
  p over the different responses before it. Seen minus expected repeats is a martingale, so its mean is 0.
- A test: suppose a share e of the rollouts are copies of an earlier rollout of their problem, any with equal
  probability. Rollout j then has the probability (1 - e) p(x) + e c(x) / (j - 1), and the likelihood ratio to
  independence is 1 - e + e c(x) / ((j - 1) p(x)). Its mean under independence, given the past, is 1 - e + e sum_x c(x) /
  (j - 1) = 1. So the product over rollouts, and the mean of that over several e, have mean 1, and by Markov's inequality
  reach 1 / a with probability at most a: an exact test, also where a stopping rule chose the number of rollouts. By the
  same inequality the shares e whose likelihood is above a times that mean are a confidence set (universal inference:
  Wasserman, Ramdas and Balakrishnan 2020, arXiv 1912.11436).

A repeat of an improbable response is strong evidence and one of a probable response is weak: the ratio weighs them so.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.validation import check_probability, check_values

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

__all__ = ["Copies", "copies"]

SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)  # of copies, whose mean likelihood is the test
MOST = 1 - 1e-9
STEPS = 50
LARGEST = 600.0  # logarithm of a likelihood ratio that a float holds


@dataclasses.dataclass(frozen=True)
class Copies:
    """Repeats ``seen`` and ``expected`` of independent draws, and the ``share`` of rollouts that are copies.

    [``low``, ``high``] is the interval of ``share`` at ``level``, and ``p_value`` is that of independence: it is above
    1 - level exactly where the interval holds 0.
    """

    seen: int
    expected: float
    share: float
    low: float
    high: float
    level: float
    p_value: float


def copies(
    problem: npt.ArrayLike, response: npt.ArrayLike, log_probability: npt.ArrayLike, level: float = 0.95
) -> Copies:
    """The test of independence of the rollouts of each problem, and the share of rollouts that are copies.

    ``problem`` (R,) numbers in ascending order, the rollouts of one in the order in which they were drawn; ``response``
    (R,): equal numbers are equal responses; ``log_probability`` (R,) in nats, of the whole response under the law it
    was drawn from. Raises ``BadArgument``: shapes disagree, problems are not in order, a log-probability is above 0 or
    NaN, or level is outside (0, 1).
    """
    of, text = np.asarray(problem, np.int64), np.asarray(response, np.int64)
    log_p = check_values("log_probability", log_probability, of.shape)
    if text.shape != of.shape or (np.diff(of) < 0).any():
        raise BadArgument("problem", of.shape, "must be in ascending order, with a response for each rollout")
    if not (log_p <= 0).all():
        raise BadArgument("log_probability", float(log_p[~(log_p <= 0)][0]), "must be at most 0 and known")
    position, earlier = _positions(of, text)
    repeats = earlier > 0
    probability = np.where(repeats, 0.0, np.exp(log_p))  # of each different response, where it is first drawn
    before = np.cumsum(probability) - probability
    expected = np.minimum(before - before[np.arange(of.size) - position], 1.0)
    ratios = np.log(earlier[repeats]) - np.log(position[repeats]) - log_p[repeats]
    others = int(np.sum(~repeats & (position > 0)))
    error = 1 - check_probability("level", level)
    evidence = float(np.logaddexp.reduce([_log_likelihood(share, ratios, others) for share in SHARES]))
    evidence -= float(np.log(len(SHARES)))
    share, low, high = _limits(ratios, others, evidence + float(np.log(error)))
    return Copies(
        seen=int(repeats.sum()),
        expected=float(expected.sum()),
        share=share,
        low=low,
        high=high,
        level=level,
        p_value=min(1.0, float(np.exp(-max(evidence, 0.0)))),
    )


def _positions(
    problem: Int64[np.ndarray, " R"], response: Int64[np.ndarray, " R"]
) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " R"]]:
    """How many rollouts of its problem are before each one, and how many of these have the same response."""
    rows = np.arange(problem.size)
    order = np.lexsort((rows, response, problem))
    first = np.ones(problem.size, dtype=bool)
    first[1:] = (np.diff(problem[order]) != 0) | (np.diff(response[order]) != 0)
    earlier = np.empty(problem.size, np.int64)
    earlier[order] = rows - np.maximum.accumulate(np.where(first, rows, 0))
    return rows - np.searchsorted(problem, problem), earlier


def _log_likelihood(share: float, ratios: Float64[np.ndarray, " D"], others: int) -> float:
    """Log likelihood ratio of a share of copies; ``ratios`` (D,) of the repeats, ``others`` are no repeats."""
    if share == 0:
        return 0.0
    return float(np.logaddexp(np.log1p(-share), np.log(share) + ratios).sum() + others * np.log1p(-share))


def _limits(ratios: Float64[np.ndarray, " D"], others: int, least: float) -> tuple[float, float, float]:
    """The share of the largest likelihood, and the ends of the shares with a log likelihood of at least ``least``.

    The log likelihood is concave in the share.
    """
    excess = np.exp(np.minimum(ratios, LARGEST)) - 1
    left, right = 0.0, MOST
    for _ in range(STEPS):
        share = (left + right) / 2
        slope = np.sum(excess / (1 + share * excess)) - others / (1 - share)
        left, right = (share, right) if slope > 0 else (left, share)
    share = 0.0 if left == 0 else left
    ends = []
    for inner, outer in ((share, 0.0), (share, MOST)):
        if _log_likelihood(outer, ratios, others) >= least:
            ends.append(float(round(outer)))
            continue
        for _ in range(STEPS):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if _log_likelihood(middle, ratios, others) >= least else (inner, middle)
        ends.append(inner)
    return share, ends[0], ends[1]
