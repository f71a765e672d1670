"""Rigorous bounds on a distribution of which only the top-k log-probabilities are known. Needs NumPy only.

The k largest probabilities of a distribution over V tokens are q_1 >= ... >= q_k. The other m = V - k tokens share the
rest r = 1 - sum q, and none of them has more than q_k. The entropy is largest where r is spread evenly over them, and
smallest where r is packed into tokens of probability q_k. Both bounds are attained. The usual truncated sum
-sum q ln q is biased low and is not used.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["LawBounds", "law_bounds"]


class LawBounds(NamedTuple):
    """Entropy in nats and nucleus size in tokens, each as (lowest, highest)."""

    entropy: tuple[float, float]
    nucleus: tuple[int, int]


def law_bounds(logprobs: npt.NDArray[np.floating], vocabulary: int, top_p: float = 0.95) -> LawBounds:
    """Bounds from the k >= 1 largest log-probabilities of a distribution over ``vocabulary`` tokens.

    ``logprobs`` has the shape (k,), in any order. The bounds assume exact arithmetic: compare with a tolerance for the
    rounding of the engine that computed the log-probabilities.
    """
    q = np.sort(np.exp(np.asarray(logprobs, dtype=np.float64)))[::-1]
    rest, unseen, least = max(0.0, 1.0 - float(q.sum())), vocabulary - len(q), float(q[-1])
    known = float(-(q[q > 0] * np.log(q[q > 0])).sum())
    if rest == 0.0 or unseen <= 0 or least == 0.0:
        low = high = known
    else:
        full = math.floor(rest / least)
        low = known + full * _surprise(least) + _surprise(max(0.0, rest - full * least))
        high = known + rest * math.log(unseen / rest)
    return LawBounds((low, high), _nucleus_bounds(q, unseen, top_p))


def _surprise(p: float) -> float:
    return -p * math.log(p) if p > 0 else 0.0


def _nucleus_bounds(q: npt.NDArray[np.float64], unseen: int, top_p: float) -> tuple[int, int]:
    mass = np.cumsum(q)
    reached = int((mass < top_p).sum())
    if reached < len(q):
        return reached + 1, reached + 1
    need, rest = top_p - float(mass[-1]), 1.0 - float(mass[-1])
    if unseen <= 0 or rest <= 0 or q[-1] <= 0:
        return len(q), len(q)
    return len(q) + math.ceil(need / float(q[-1])), len(q) + math.ceil(need * unseen / rest)
