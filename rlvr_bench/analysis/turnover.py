"""Turnover of a training series: problems first solved, forgotten and never solved, each beside chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from rlvr_bench import stats
from rlvr_bench.comparison.cards import RunCounts, clusters
from rlvr_bench.records import Estimate
from rlvr_bench.scorers.common import optional, rate_estimates
from rlvr_bench.scorers.solve_rate import default_ks

_Item = TypeVar("_Item")

__all__ = ["BesideChance", "BestCheckpoint", "CheckpointTurnover", "Turnover", "best_checkpoints", "turnovers"]


class BesideChance(msgspec.Struct, frozen=True, kw_only=True):
    """An expected number of problems, and the same if every earlier checkpoint had the solve rate of this one.

    ``excess``: the difference, with a paired bootstrap interval and its p-value, corrected over the statements of a
    budget by Holm. ``modelled``: chance comes from a fitted Beta model, because it needs more rollouts than there are.
    Then nothing is tested.
    """

    number: float
    by_chance: float | None = None
    excess: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    modelled: bool = False


class CheckpointTurnover(msgspec.Struct, frozen=True, kw_only=True):
    """Expected numbers of problems within k rollouts of each checkpoint; ``solved``, ``forgotten`` and ``never`` add up.

    ``share``: of all problems that any checkpoint solves, the share that this one solves. ``lost``: solved by the
    checkpoint before and not by this one. ``regained``: forgotten by the checkpoint before and solved by this one.
    ``first`` and ``forgotten`` are None at the first checkpoint.
    """

    step: int
    solved: Estimate
    never: float
    lost: float
    regained: float
    share: float | None
    first: BesideChance | None
    forgotten: BesideChance | None


class Turnover(msgspec.Struct, frozen=True, kw_only=True):
    """How the set of problems that ``k`` rollouts solve changes over a series.

    ``union``: expected number of problems that any checkpoint solves. ``share_if_alike``: the share of it that each
    checkpoint would solve if all had one solve rate per problem, that of their pooled rollouts. ``level``: of all
    intervals.
    """

    k: int
    level: float
    union: float
    share_if_alike: float | None
    checkpoints: tuple[CheckpointTurnover, ...]


class BestCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The checkpoint with the highest pass@k. ``value`` is lucky; ``fresh`` is on rollouts that did not choose it.

    ``chosen``: how often half of the rollouts chooses each checkpoint of the series.
    """

    k: int
    step: int
    value: float
    fresh: Estimate
    chosen: tuple[float, ...]


def turnovers(steps: Sequence[int], runs: Sequence[RunCounts], ks: Sequence[int] | None = None) -> list[Turnover]:
    """The turnover at every budget that all runs have; none where a run has a stopping rule. ``ks``: at these only."""
    ks = [k for k in _budgets(runs, share=1) if ks is None or k in ks]
    if not ks:
        return []
    c, n = _tables(runs)
    results = [stats.turnover(c, n, k) for k in ks]
    solved, first, forgotten = _with_intervals(ks, results, clusters(runs[0]))
    return [
        Turnover(
            k=k,
            level=stats.LEVEL,
            union=float((1 - result.never[-1]).sum()),
            share_if_alike=_share_if_alike(c, n, k),
            checkpoints=_checkpoints(steps, result, solved[i], first[i], forgotten[i]),
        )
        for i, (k, result) in enumerate(zip(ks, results, strict=True))
    ]


def best_checkpoints(steps: Sequence[int], runs: Sequence[RunCounts]) -> list[BestCheckpoint]:
    """The best checkpoint at every budget of at most half of the rollouts; none where a run has a stopping rule."""
    ks = _budgets(runs, share=2)
    if not ks:
        return []
    c, n = _tables(runs)
    best = stats.fresh_best(c, n, ks, rng=stats.fresh_rng())
    fresh = rate_estimates([Estimate(name="pass@k", k=k, value=None) for k in ks], best.fresh, clusters(runs[0]))
    return [
        BestCheckpoint(
            k=k,
            step=steps[number],
            value=float(stats.mean_pass_at_k(c[number], n[number], [k])[0]),
            fresh=estimate,
            chosen=tuple(shares.tolist()),
        )
        for k, number, estimate, shares in zip(ks, best.best.tolist(), fresh, best.chosen.T, strict=True)
    ]


def _tables(runs: Sequence[RunCounts]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return np.stack([run.c for run in runs]), np.stack([run.n for run in runs])


def _budgets(runs: Sequence[RunCounts], share: int) -> list[int]:
    if any(run.stopping is not None for run in runs):
        return []
    most = min(run.largest_k for run in runs) // share
    return default_ks(most) if most else []


def _share_if_alike(c: npt.NDArray[np.int64], n: npt.NDArray[np.int64], k: int) -> float | None:
    pooled = 1 - stats.failure_at_k(c.sum(axis=0), n.sum(axis=0), [k, len(c) * k]).sum(axis=0) / c.shape[1]
    return float(pooled[0] / pooled[1]) if pooled[1] else None


def _with_intervals(
    ks: Sequence[int], results: Sequence[stats.Turnover], labels: npt.NDArray[np.str_] | None
) -> tuple[list[list[Estimate]], list[list[BesideChance]], list[list[BesideChance]]]:
    """Of each budget, S estimates of solved problems and S - 1 statements of either kind; one resampling for all."""
    size = len(results[0].solved)
    names = [Estimate(name="solved", k=k, value=None) for k in ks for _ in range(size)]
    solved = rate_estimates(names, np.concatenate([result.solved for result in results]).T, labels, as_count=True)
    seen = np.concatenate([part[1:] for result in results for part in (result.first, result.forgotten)])
    chance = np.concatenate(
        [part[1:] for result in results for part in (result.first_by_chance, result.forgotten_by_chance)]
    )
    modelled = np.concatenate([np.tile(result.modelled[1:], 2) for result in results])
    statements = _beside_chance(seen, chance, modelled, labels)
    of_budget = [_corrected(part) for part in _batches(statements, 2 * (size - 1))]
    return (
        _batches(solved, size),
        [part[: size - 1] for part in of_budget],
        [part[size - 1 :] for part in of_budget],
    )


def _batches(values: list[_Item], size: int) -> list[list[_Item]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def _beside_chance(
    seen: npt.NDArray[np.float64],
    chance: npt.NDArray[np.float64],
    modelled: npt.NDArray[np.bool_],
    labels: npt.NDArray[np.str_] | None,
) -> list[BesideChance]:
    """One statement for each row of probabilities (M, P)."""
    statements = [
        BesideChance(number=number, by_chance=by_chance, excess=excess, modelled=flag)
        for number, by_chance, excess, flag in zip(
            seen.sum(axis=1).tolist(),
            map(optional, chance.sum(axis=1)),
            map(optional, (seen - chance).sum(axis=1)),
            modelled.tolist(),
            strict=True,
        )
    ]
    tested = np.flatnonzero(~modelled)
    if not tested.size:
        return statements
    paired = stats.paired_bootstrap_mean(seen[tested].T, chance[tested].T, rng=stats.fresh_rng(), clusters=labels)
    low, high = (seen.shape[1] * limit for limit in (paired.difference.low, paired.difference.high))
    p_values = 2 * ndtr(-paired.z)  # not limited by the number of replicates, which many statements would need
    for number, i in enumerate(tested):
        statements[i] = msgspec.structs.replace(
            statements[i], low=float(low[number]), high=float(high[number]), p_value=float(p_values[number])
        )
    return statements


def _corrected(statements: Sequence[BesideChance]) -> list[BesideChance]:
    """With Holm's correction over the statements that are tested."""
    p_values = [np.nan if statement.p_value is None else statement.p_value for statement in statements]
    return [
        msgspec.structs.replace(statement, p_holm=optional(p_holm))
        for statement, p_holm in zip(statements, stats.holm(p_values).tolist(), strict=True)
    ]


def _checkpoints(
    steps: Sequence[int],
    result: stats.Turnover,
    solved: Sequence[Estimate],
    first: Sequence[BesideChance],
    forgotten: Sequence[BesideChance],
) -> tuple[CheckpointTurnover, ...]:
    union = float((1 - result.never[-1]).sum())
    return tuple(
        CheckpointTurnover(
            step=step,
            solved=solved[t],
            never=float(result.never[t].sum()),
            lost=float(result.lost[t].sum()),
            regained=float(result.regained[t].sum()),
            share=float(result.solved[t].sum()) / union if union else None,
            first=first[t - 1] if t else None,
            forgotten=forgotten[t - 1] if t else None,
        )
        for t, step in enumerate(steps)
    )
