"""What truncated top-k log-probabilities prove about a distribution: rigorous bounds, in NumPy alone.

With the k largest probabilities q_1 >= ... >= q_k of a law over V tokens, the rest r = 1 - sum q lies on m = V - k
tokens of at most q_k each. Entropy is largest where r is spread evenly and smallest where it is packed into tokens of
weight q_k; both are attained. The usual truncated sum -sum q ln q is biased low and is not used.
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
    """Bounds from the k >= 1 largest log-probabilities (k,), in any order, of a law over ``vocabulary`` tokens.

    Exact arithmetic is assumed: compare with a tolerance for the rounding of the engine that sent them.
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
