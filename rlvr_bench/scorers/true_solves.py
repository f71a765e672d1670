"""pass@k with the verifier's error in it: rates from labels, true counts imputed, what false positives alone would give."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

from rlvr_bench import stats
from rlvr_bench.errors import RunError
from rlvr_bench.labelling.cells import CELLS, CLASSES, cell_of_rollouts
from rlvr_bench.measured_error import MeasuredError
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.audited_rates import TAIL, audit_cells, drawn_rates, given_rate, rate_estimates
from rlvr_bench.stats.true_counts import ErrorRates, Side, draw_true_counts, mixture_quantile

__all__ = ["DRAWS", "error_of_labels", "error_of_rates", "explained_by_chance", "true_counts"]

DRAWS = 100  # imputations of each side
FALSE_DISCOVERIES = 0.05
_ALONE = 0.5  # share of the observed pass@k that false positives alone may reach
_BUDGETS = 400  # at which the floor is compared with the observed pass@k
# Columns of the counts that ``draw_true_counts`` reads.
_CORRECT, _NOT, _RIGHT_CORRECT, _WRONG_CORRECT, _RIGHT_NOT, _WRONG_NOT = range(6)


def error_of_labels(
    outcomes: Outcomes,
    labels: Mapping[int, bool | None],
    chances: Mapping[int, float],
    ks: Sequence[int],
    by: Mapping[str, int],
    clusters: npt.NDArray[np.str_] | None = None,
) -> MeasuredError:
    """The verifier's error on a run from labels by row of ``outcomes``, and pass@k at ``ks`` with it.

    ``chances``: of the sampled rollouts, by row. The rates come from labels of sampled rollouts alone; every other label
    is only used for its own rollout. No stopping rule may have chosen the rollouts. Raises RunError where a kind of
    verdict has no label.
    """
    known = {row: right for row, right in labels.items() if right is not None}
    cells = audit_cells(outcomes, known, chances)
    if missing := [cell.name for cell in cells if not cell.labelled]:
        raise RunError(
            f"no label of a sampled rollout for: {'; '.join(missing)}. How often the verifier errs there is not known: "
            "label some of the rollouts that `rlvr-bench audit RUN` samples."
        )
    rates, cell = rate_estimates(cells), cell_of_rollouts(outcomes)
    seen = _seen(outcomes, cell, known)
    undecided = np.bincount(outcomes.problem[cell < 0], minlength=len(outcomes.problem_ids))
    rows = np.flatnonzero(outcomes.n_samples > 0)
    return _completed(
        MeasuredError(
            source="labels",
            by=dict(by),
            unsure=sum(right is None and row in chances for row, right in labels.items()),
            outside=sum(row not in chances for row in known),
            cells=cells,
            false_positives=rates[: len(rates) // 2],
            false_negatives=rates[len(rates) // 2 :],
            pass_at_k=(),
            floor={},
            floor_k=None,
            explained=(),
            seen={outcomes.problem_ids[i]: tuple(map(tuple, seen[i].tolist())) for i in rows.tolist()},
            undecided={outcomes.problem_ids[i]: int(undecided[i]) for i in np.flatnonzero(undecided).tolist()},
        ),
        ks,
        None if clusters is None else clusters[rows],
    )


def error_of_rates(
    counts: Mapping[str, tuple[int, int, int]],
    rates: tuple[float, float],
    ks: Sequence[int],
    clusters: npt.NDArray[np.str_] | None = None,
) -> MeasuredError:
    """The same from rates that are given, as if they were known exactly, for ``counts``: by problem n, c and the rollouts
    without a verdict. Raises BadArgument for impossible rates.
    """
    ErrorRates.fixed(*rates, classes=1, draws=1)
    return _completed(
        MeasuredError(
            source="rates",
            false_positives=(given_rate("false_positive_rate", rates[0]),),
            false_negatives=(given_rate("false_negative_rate", rates[1]),),
            pass_at_k=(),
            floor={},
            floor_k=None,
            explained=(),
            seen={name: ((c, n - c - errors, 0, 0, 0, 0),) for name, (n, c, errors) in counts.items()},
            undecided={name: errors for name, (_, _, errors) in counts.items() if errors},
        ),
        ks,
        clusters,
    )


def _seen(outcomes: Outcomes, cell: npt.NDArray[np.int8], known: Mapping[int, bool]) -> npt.NDArray[np.int64]:
    """The counts that ``draw_true_counts`` reads, (P, A, 6)."""
    column = np.where(outcomes.is_correct, _CORRECT, _NOT)
    for row, right in known.items():
        correct = (_WRONG_CORRECT, _RIGHT_CORRECT), (_WRONG_NOT, _RIGHT_NOT)
        column[row] = correct[0 if outcomes.is_correct[row] else 1][right]
    seen = np.zeros((len(outcomes.problem_ids), len(CLASSES), 6), dtype=np.int64)
    decided = cell >= 0
    classes = np.array([kind.rollout_class for kind in CELLS])[cell[decided]]
    np.add.at(seen, (outcomes.problem[decided], classes, column[decided]), 1)
    return seen


def _rates_of(error: MeasuredError, side: Side | None, draws: int, rng: np.random.Generator) -> ErrorRates:
    if error.source == "rates":
        return ErrorRates.fixed(*error.rates, classes=1, draws=draws)
    return drawn_rates(error.cells, side, draws, rng)


def true_counts(
    error: MeasuredError, ids: Sequence[str], side: Side | None, name: str = "", draws: int | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """True numbers of correct rollouts (D, P) of these problems, imputed, and the numbers of rollouts (P,).

    ``side``: with the ``most`` false positives that the labels allow, the ``least``, or None for the estimated rates.
    Rollouts without a verdict are right on the ``least`` side, else wrong. ``name``: runs with different names have
    independent draws. ``draws``: D, by default 100.
    """
    draws = DRAWS if draws is None else draws
    rng = stats.fresh_rng(zlib.crc32(f"{name}\0{side}".encode()))
    seen = np.array([error.seen[problem] for problem in ids], dtype=np.int64)
    undecided = np.array([error.undecided.get(problem, 0) for problem in ids], dtype=np.int64)
    counts = draw_true_counts(seen, _rates_of(error, side, draws, rng), rng)
    counts = counts + (undecided if side == "least" else np.zeros_like(undecided))
    return counts, np.asarray(seen.sum(axis=(1, 2)) + undecided)


def _completed(error: MeasuredError, ks: Sequence[int], clusters: npt.NDArray[np.str_] | None) -> MeasuredError:
    """With pass@k, floor and explained problems computed from rates and counts."""
    ids = list(error.seen)
    seen = np.array(list(error.seen.values()), dtype=np.int64)
    n = seen.sum(axis=(1, 2)) + np.array([error.undecided.get(name, 0) for name in ids], dtype=np.int64)
    c = _verdicts_correct(seen)
    least = int(n.min())
    grid = [k for k in ks if k <= least]
    high = _upper_rates(error)
    floor = {k: float(-np.expm1(k * np.log1p(-high[0]))) for k in grid}
    return msgspec.structs.replace(
        error,
        pass_at_k=tuple(_curve(error, ids, grid, clusters)),
        floor=floor,
        floor_k=_floor_k(high[0], c, n),
        explained=explained_by_chance(error, ids),
        left_out=None if len(grid) == len(ks) else f"no budget above {least}, the fewest rollouts of a problem",
    )


def _verdicts_correct(seen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.asarray(seen[:, :, [_CORRECT, _RIGHT_CORRECT, _WRONG_CORRECT]].sum(axis=(1, 2)))


def _upper_rates(error: MeasuredError) -> tuple[float, npt.NDArray[np.float64]]:
    """The upper end of the rate of false positives over all rollouts, and of each class, (A,)."""
    whole, *classes = [estimate.high or 0.0 for estimate in error.false_positives]
    return whole, np.array(classes or [whole])


def _floor_k(rate: float, c: npt.NDArray[np.int64], n: npt.NDArray[np.int64]) -> int | None:
    grid = np.unique(np.geomspace(1, n.min(), _BUDGETS).round().astype(np.int64))
    observed = stats.pass_at_k(c, n, grid).mean(axis=0)
    reached = np.flatnonzero(-np.expm1(grid * np.log1p(-rate)) >= _ALONE * observed)
    return int(grid[reached[0]]) if rate > 0 and len(reached) else None


def explained_by_chance(error: MeasuredError, ids: Sequence[str]) -> tuple[str, ...]:
    """The solved problems whose correct rollouts are no more than false positives explain.

    Of each solved problem without a rollout labelled right, the number of rollouts called correct is tested against the
    binomial law of false positives alone, at the upper end of their rates. Listed are the problems that the test does not
    reject at a false discovery rate of 5 % (Benjamini and Hochberg).
    """
    seen = np.array([error.seen[name] for name in ids], dtype=np.int64)
    n = seen.sum(axis=2)
    chance = (n @ _upper_rates(error)[1]) / np.maximum(n.sum(axis=1), 1)
    correct = _verdicts_correct(seen) - seen[:, :, _WRONG_CORRECT].sum(axis=1)
    solved = _verdicts_correct(seen) > 0
    proven = (seen[:, :, [_RIGHT_CORRECT, _RIGHT_NOT]] > 0).any(axis=(1, 2))
    p_values = np.where(correct > 0, special.bdtrc(correct - 1, n.sum(axis=1), chance), 1.0)
    tested = solved & ~proven
    adjusted = np.ones(len(ids))
    if tested.any():
        adjusted[tested] = stats.benjamini_hochberg(np.clip(p_values[tested], 0.0, 1.0))
    return tuple(ids[i] for i in np.flatnonzero(tested & ~(adjusted <= FALSE_DISCOVERIES)).tolist())


def _curve(
    error: MeasuredError, ids: Sequence[str], grid: Sequence[int], clusters: npt.NDArray[np.str_] | None
) -> list[Estimate]:
    if not grid:
        return []
    point, n = true_counts(error, ids, None, draws=None if any(error.rates) else 1)
    value = np.mean([stats.pass_at_k(t, n, grid).mean(axis=0) for t in point], axis=0)
    low = _limit(true_counts(error, ids, "most")[0], n, grid, clusters, TAIL)
    high = _limit(true_counts(error, ids, "least")[0], n, grid, clusters, 1 - TAIL)
    return [
        Estimate(
            name="pass@k",
            k=k,
            value=float(value[i]),
            low=float(min(low[i], value[i])),
            high=float(max(high[i], value[i])),
            level=stats.LEVEL,
            method="true counts imputed from the verifier's error; score bootstrap over problems",
            n_problems=len(ids),
            n_samples=int(n.min()),
        )
        for i, k in enumerate(grid)
    ]


def _limit(
    counts: npt.NDArray[np.int64],
    n: npt.NDArray[np.int64],
    grid: Sequence[int],
    clusters: npt.NDArray[np.str_] | None,
    tail: float,
) -> npt.NDArray[np.float64]:
    """A limit (K,) of pass@k over imputations (D, P)."""
    distinct, weight = np.unique(counts, axis=0, return_counts=True)
    intervals = [stats.bootstrap(t, n, grid, rng=stats.fresh_rng(), clusters=clusters) for t in distinct]
    if len(intervals) == 1:
        return intervals[0].low if tail < 0.5 else intervals[0].high
    parts = [
        np.repeat(np.stack([getattr(interval, name) for interval in intervals]), weight, axis=0)
        for name in ("value", "low", "high")
    ]
    return mixture_quantile(parts[0], parts[1], parts[2], tail, stats.LEVEL)
