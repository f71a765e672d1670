"""From correct rollouts and their probabilities under each law to solve rates, pass@k, and what only others solved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.analysis.reach_results import ProblemRate, SolvedByOthers
from rlvr_bench.analysis.reach_runs import CorrectRollouts
from rlvr_bench.records import Estimate
from rlvr_bench.stats.borrowed_rate import (
    BorrowedRate,
    KnownPart,
    balance_weights,
    borrowed_rate,
    certain_bound,
    pass_at_rate,
)

__all__ = ["Laws", "mean_pass_at_k", "problem_rates", "solved_by_others"]

ANY = "any"
HALF = 0.5  # pass@k from which a problem is within reach


class Laws(NamedTuple):
    """``logprob`` (D, S): of each distinct response under the law of each run, in nats, -inf where it cannot draw it.

    The target's law is that of the first run. ``is_own`` (S,): runs that were drawn from the target's law.
    """

    logprob: npt.NDArray[np.float64]
    is_own: npt.NDArray[np.bool_]


def problem_rates(rollouts: CorrectRollouts, laws: Laws, ids: Sequence[str], level: float) -> list[ProblemRate]:
    """The target's solve rate of each problem, in order of ``ids`` (P,)."""
    of_response = np.array([response.problem for response in rollouts.responses], dtype=np.int64)
    of_rollout = of_response[rollouts.response]
    order = np.argsort(of_rollout, kind="stable")
    bounds = np.searchsorted(of_rollout[order], np.arange(len(ids) + 1))
    return [
        _problem_rate(rollouts, laws, x, name, order[bounds[x] : bounds[x + 1]], level) for x, name in enumerate(ids)
    ]


def mean_pass_at_k(
    problems: Sequence[ProblemRate], ks: Sequence[int], clusters: npt.NDArray[np.str_] | None, level: float
) -> list[Estimate]:
    """Mean pass@k over all problems, with the interval for new problems, one estimate for each budget.

    A problem whose rate is not sound counts with its low end in the low limit and with its high end in the high one.
    """
    budgets = np.asarray(ks)
    low, high = (pass_at_rate(np.array([getattr(x, name) for x in problems]), budgets) for name in ("low", "high"))
    value = np.clip(_corrected(problems, budgets), low, high)
    is_sound = np.array([[x.is_sound] for x in problems])
    options = stats.Resampling(level=level)
    intervals = [
        stats.bootstrap_mean(np.where(is_sound, value, end), rng=stats.fresh_rng(), clusters=clusters, options=options)
        for end in (low, high)
    ]
    bounded = int((~is_sound).sum())
    note = f"{bounded} of {len(problems)} problems have too few effective rollouts: bounds" if bounded else None
    return [
        Estimate(
            name="pass@k",
            k=k,
            value=None if np.isnan(value[:, i]).any() else float(value[:, i].mean()),
            low=float(intervals[0].low[i]),
            high=float(intervals[1].high[i]),
            level=level,
            method=f"from solve rates by the balance heuristic; {intervals[0].method} over problems",
            n_problems=len(problems),
            note=note,
        )
        for i, k in enumerate(ks)
    ]


def solved_by_others(
    rollouts: CorrectRollouts, problems: Sequence[ProblemRate], laws: Laws, names: Sequence[str], ks: Sequence[int]
) -> list[SolvedByOthers]:
    """The problems that no rollout of the target solved and one of another run did, by run (S,) and budget."""
    others = np.flatnonzero(~laws.is_own)
    unsolved = rollouts.c[:, laws.is_own].sum(axis=1) == 0
    groups = [(names[s], rollouts.c[:, s] > 0) for s in others]
    if len(others) > 1:
        groups.append((ANY, rollouts.c[:, others].sum(axis=1) > 0))
    return [
        _split(name, k, [problems[x] for x in np.flatnonzero(unsolved & solved)]) for name, solved in groups for k in ks
    ]


def _problem_rate(
    rollouts: CorrectRollouts, laws: Laws, x: int, name: str, rows: npt.NDArray[np.int64], level: float
) -> ProblemRate:
    """``rows``: the correct rollouts of problem ``x``; those whose number was not fixed beforehand count for the bound only."""
    distinct, n = np.unique(rollouts.response[rows]), rollouts.n[x]
    known = _known_part(rollouts, laws, x, rows)
    rate = BorrowedRate(np.nan, known.certain, 1.0, np.nan, 0.0, np.nan, is_sound=False)
    if n.any():
        counted = rows[rollouts.is_counted[rows]]
        logprob = laws.logprob[rollouts.response[counted]]
        weights = balance_weights(logprob[:, 0], logprob, n) if len(counted) else np.zeros(0)
        rate = borrowed_rate(weights, rollouts.run[counted], n, known, level=level)
    return ProblemRate(
        id=name,
        n=tuple(n.tolist()),
        c=tuple(rollouts.c[x].tolist()),
        distinct=len(distinct),
        impossible=int(np.isneginf(laws.logprob[distinct, 0]).sum()),
        bound=known.certain,
        rate=None if np.isnan(rate.rate) else rate.rate,
        low=rate.low,
        high=rate.high,
        error=None if np.isnan(rate.error) else rate.error,
        effective=rate.effective,
        largest=None if np.isnan(rate.largest) else rate.largest,
        is_sound=rate.is_sound,
    )


def _known_part(rollouts: CorrectRollouts, laws: Laws, x: int, rows: npt.NDArray[np.int64]) -> KnownPart:
    is_own = laws.is_own[rollouts.run[rows]]
    response, of_others = rollouts.response[rows], np.unique(rollouts.response[rows[~is_own]])
    is_rest = is_own & rollouts.is_counted[rows] & ~np.isin(response, of_others)
    return KnownPart(
        certain=certain_bound(laws.logprob[np.unique(response), 0]),
        others=certain_bound(laws.logprob[of_others, 0]),
        drawn=int(rollouts.n[x][laws.is_own].sum()),
        rest=int(is_rest.sum()),
        undecided=int(rollouts.errors[x][laws.is_own].sum()),
    )


def _corrected(problems: Sequence[ProblemRate], ks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """pass@k at the estimated rates, (P, K), without the bias of a concave function of an estimate (second order)."""
    rate = np.array([np.nan if x.rate is None else x.rate for x in problems])[:, None]
    error = np.array([x.error if x.is_sound and x.error is not None else 0.0 for x in problems])[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        bend = ks * (ks - 1.0) * np.exp((ks - 2.0) * np.log1p(-np.minimum(rate, 1 - 1e-12)))
    return np.asarray(pass_at_rate(rate[:, 0], ks) + bend * (rate * error) ** 2 / 2)


def _split(by: str, k: int, problems: Sequence[ProblemRate]) -> SolvedByOthers:
    low, high = (
        pass_at_rate(np.array([getattr(x, name) for x in problems]), np.array([k])) for name in ("low", "high")
    )
    value = np.clip(_corrected(problems, np.array([k])), low, high)
    within, beyond = low >= HALF, high < HALF
    return SolvedByOthers(
        by=by,
        k=k,
        problems=len(problems),
        within=int(within.sum()),
        probably=int((~within & ~beyond & (value >= HALF)).sum()),
        unlikely=int((~within & ~beyond & (value < HALF)).sum()),
        beyond=int(beyond.sum()),
        expected=float(value.sum()),
    )
