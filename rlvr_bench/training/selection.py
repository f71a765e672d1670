"""Rejection-sampling fine-tuning sets: the choice among a checkpoint's R rollouts.

Deng et al. 2025 (arXiv 2508.07534), sec. 4.2: the usual set is the correct rollouts; mixing in 5 % of wrong ones, and
keeping those of highest mean token entropy or mean rollout branching factor (RBF), is meant to keep pass@k high. The
paper gives neither the quota per problem nor how the wrong ones are drawn: those rules are this module's.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from rlvr_bench.errors import BadArgument, UnknownName
from rlvr_bench.stats.validation import check_count, check_mask, check_values

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["NOISE_SHARE", "STRATEGIES", "Pool", "Selection", "Strategy", "choose"]

Strategy = Literal["correct", "noise", "entropy", "rbf"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
NOISE_SHARE = 0.05
"""Share of wrong rollouts in a set made with the strategy ``noise``, as in the paper."""


@dataclasses.dataclass(frozen=True)
class Pool:
    """The rollouts to choose from, one entry each, all (R,).

    ``problem`` numbers the problem, ``text`` the response: equal numbers of one problem are duplicates. ``correct`` and
    ``wrong`` mark what may be chosen as such; a rollout that is neither (cut at the token limit, without an answer,
    verifier failed) is never chosen. ``entropy`` (nats) and ``branching`` (tokens) are means over a rollout's tokens,
    NaN where not measured; only the strategy that ranks by one needs it.
    """

    problem: npt.ArrayLike
    text: npt.ArrayLike
    correct: npt.ArrayLike
    wrong: npt.ArrayLike
    entropy: npt.ArrayLike | None = None
    branching: npt.ArrayLike | None = None


@dataclasses.dataclass(frozen=True)
class Selection:
    """The chosen entries of a pool, ``rows`` (S,) ascending, and which of them are ``wrong`` (S,).

    ``duplicates``: correct entries left out because an earlier one of their problem has the same text.
    """

    rows: npt.NDArray[np.int64]
    wrong: npt.NDArray[np.bool_]
    duplicates: int


def choose(
    pool: Pool, strategy: Strategy, per_problem: int = 4, wrong_share: float | None = None, seed: int = 0
) -> Selection:
    """Choose at most ``per_problem`` distinct correct rollouts of each problem, then wrong ones to a share of the set.

    ``correct`` and ``noise`` draw the correct ones at random, ``entropy`` and ``rbf`` take the highest mean entropy or
    branching factor within the problem, so that hard problems stay in the set; ties are broken at random, unmeasured
    ones come last. ``wrong_share`` of the finished set (default: 0.05 for ``noise``, else 0) are distinct wrong rollouts,
    drawn at random, one of every problem before a second of any; fewer where there are fewer. The same seed gives the
    same choice.

    Raises UnknownName for another strategy, ``BadArgument``: arrays of different length, no correct rollout, a ranking
    statistic absent or unmeasured for all of them, per_problem below 1, wrong_share outside [0, 1).
    """
    if strategy not in STRATEGIES:
        raise UnknownName("strategy", strategy, STRATEGIES)
    check_count("per_problem", per_problem)
    share = (NOISE_SHARE if strategy == "noise" else 0.0) if wrong_share is None else wrong_share
    if not 0 <= share < 1:
        raise BadArgument("wrong_share", share, "must be at least 0 and below 1")
    problem, text = np.asarray(pool.problem), np.asarray(pool.text)
    shape = problem.shape
    if len(shape) != 1 or text.shape != shape:
        raise BadArgument("text", text.shape, f"must have one axis and the shape of problem, {shape}")
    correct, wrong = check_mask("correct", pool.correct, shape), check_mask("wrong", pool.wrong, shape)
    if not correct.any():
        raise BadArgument("correct", "all False", "needs at least one correct rollout")
    if (correct & wrong).any():
        raise BadArgument("wrong", int(np.flatnonzero(correct & wrong)[0]), "marks a rollout that is correct too")
    score = _ranking(pool, strategy, correct)
    rng = np.random.default_rng(seed)
    first = _first_of_each(problem, text, correct)
    right = _best(first, problem[first], score[first], per_problem, rng)
    others = _spread(_first_of_each(problem, text, wrong), problem, rng)
    others = others[: round(share / (1 - share) * len(right))]
    rows = np.concatenate([right, others])
    order = np.argsort(rows)
    return Selection(rows[order], (np.arange(len(rows)) >= len(right))[order], int(correct.sum()) - len(first))


def _ranking(pool: Pool, strategy: Strategy, correct: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The value to rank by, (R,): higher is better, unmeasured is lowest; all equal where the choice is random."""
    if strategy in ("correct", "noise"):
        return np.zeros(correct.shape)
    name = "entropy" if strategy == "entropy" else "branching"
    values = pool.entropy if strategy == "entropy" else pool.branching
    known = np.full(correct.shape, np.nan) if values is None else check_values(name, values, correct.shape)
    if np.isnan(known[correct]).all():
        raise BadArgument(name, "not measured", f"strategy {strategy!r} ranks the correct rollouts by it")
    return np.where(np.isnan(known), -math.inf, known)


def _first_of_each(
    problem: npt.NDArray[np.generic], text: npt.NDArray[np.generic], wanted: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Rows of the wanted entries without duplicates: the first entry of each text of each problem."""
    rows = np.flatnonzero(wanted)
    order = np.lexsort((rows, text[rows], problem[rows]))
    p, t = problem[rows][order], text[rows][order]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (p[1:] != p[:-1]) | (t[1:] != t[:-1])
    return np.asarray(rows[order][new])


def _best(
    rows: npt.NDArray[np.int64],
    problem: npt.NDArray[np.generic],
    score: npt.NDArray[np.float64],
    per_problem: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """The ``per_problem`` rows of highest score of each problem; equal scores in random order."""
    order = np.lexsort((rng.random(len(rows)), -score, problem))
    return np.asarray(rows[order][_rank_in_problem(problem[order]) < per_problem])


def _spread(
    rows: npt.NDArray[np.int64], problem: npt.NDArray[np.generic], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The rows in random order, the first of every problem before the second of any."""
    shuffled = rng.permutation(rows)
    shuffled = shuffled[np.argsort(problem[shuffled], kind="stable")]
    return np.asarray(shuffled[np.lexsort((rng.random(len(rows)), _rank_in_problem(problem[shuffled])))])


def _rank_in_problem(problem: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Number of entries of the same problem before each entry, (R,). Entries must be sorted by problem."""
    start = np.ones(len(problem), dtype=bool)
    start[1:] = problem[1:] != problem[:-1]
    index = np.arange(len(problem))
    return np.asarray(index - np.maximum.accumulate(np.where(start, index, 0)))
