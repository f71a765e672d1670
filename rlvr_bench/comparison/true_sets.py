"""Two runs compared with the verifier's error in every number: differences, crossover, problems gained and lost."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.comparison.cards import RunCounts, clusters
from rlvr_bench.comparison.curves import crossover_of, described, search_grid
from rlvr_bench.comparison.results import BoundaryChange, Crossover, ErrorComparison, TrueDifference
from rlvr_bench.errors import RunError
from rlvr_bench.labelling.cells import CELLS
from rlvr_bench.measured_error import MeasuredError
from rlvr_bench.scorers.audited_rates import TAIL
from rlvr_bench.scorers.true_solves import true_counts
from rlvr_bench.stats.true_counts import Side, mixture_quantile

__all__ = ["compared_with_error", "without_explained"]

_PER_IMPUTATION = 20  # resamplings of the problems, for the crossover
_Tables = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def compared_with_error(
    ids: Sequence[str], first: RunCounts, second: RunCounts, ks: Sequence[int], k: int
) -> ErrorComparison | None:
    """The comparison at budgets ``ks`` and the sets at ``k``; None unless both scorecards have the verifier's error.

    A lower limit of what the second run has more of uses the most false positives that the labels allow in the second and
    the fewest in the first, an upper limit the reverse: nothing is assumed about how the errors of the two are related.
    The intervals are mixtures over imputed true counts (``scorers.true_solves``). Raises RunError where a scorecard's
    verifier error does not fit its counts.
    """
    if first.error is None or second.error is None:
        return None
    errors = [_checked(run, ids) for run in (first, second)]
    largest = min(int(_rollouts(error, ids).min()) for error in errors)
    grid = [budget for budget in ks if budget <= largest]
    if not grid:
        return None
    groups, k = clusters(first), min(k, largest)

    def pair(sides: tuple[Side | None, Side | None]) -> tuple[_Tables, _Tables]:
        one, other = (
            true_counts(error, ids, side, f"{number} {run.label}")
            for number, (error, side, run) in enumerate(zip(errors, sides, (first, second), strict=True))
        )
        return one, other

    pairs = [pair(("least", "most")), pair((None, None)), pair(("most", "least"))]
    gained, lost = (_sizes(pairs, k, flipped, groups) for flipped in (False, True))
    return ErrorComparison(
        pass_at_k=tuple(_differences(pairs, grid, groups)),
        crossover=_crossover(pairs, largest, (first.label, second.label), groups),
        k=k,
        gained=gained,
        lost=lost,
        explained_gained=(),
        explained_lost=(),
    )


def without_explained(
    first: RunCounts, second: RunCounts, change: BoundaryChange, compared: ErrorComparison | None
) -> tuple[BoundaryChange, ErrorComparison | None]:
    """The problems gained and lost without those whose correct rollouts false positives alone explain, listed apart."""
    if compared is None or first.error is None or second.error is None:
        return change, compared
    by_chance = set(second.error.explained), set(first.error.explained)
    kept = [
        tuple(name for name in ids if name not in names)
        for ids, names in zip((change.gained, change.lost), by_chance, strict=True)
    ]
    out = [
        tuple(name for name in ids if name in names)
        for ids, names in zip((change.gained, change.lost), by_chance, strict=True)
    ]
    return (
        msgspec.structs.replace(change, gained=kept[0], lost=kept[1]),
        msgspec.structs.replace(compared, explained_gained=out[0], explained_lost=out[1]),
    )


def _rollouts(error: MeasuredError, ids: Sequence[str]) -> npt.NDArray[np.int64]:
    seen = np.array([np.sum(error.seen[name]) for name in ids], dtype=np.int64)
    return seen + np.array([error.undecided.get(name, 0) for name in ids], dtype=np.int64)


def _checked(run: RunCounts, ids: Sequence[str]) -> MeasuredError:
    """The run's error, which may come from anybody's scorecard."""
    error = run.error
    assert error is not None
    rows = [error.seen.get(name, ()) for name in ids]
    classes = len(rows[0])
    names = {kind.name for kind in CELLS}
    fits = (
        classes > 0
        and all(len(row) == classes and all(len(counts) == 6 and min(counts) >= 0 for counts in row) for row in rows)
        and (classes == 1 or (classes == 2 and error.source == "labels"))
        and all(count >= 0 for count in error.undecided.values())
        and all(cell.name in names and 0 <= cell.share <= 1 and cell.effective >= 0 for cell in error.cells)
        and all(0 <= cell.misjudged <= cell.labelled <= cell.rollouts for cell in error.cells)
        and len(error.false_positives) > 0
        and len(error.false_negatives) > 0
        and bool((_rollouts(error, ids) <= run.n).all() and (_rollouts(error, ids) > 0).all())
    )
    if not fits:
        raise RunError(f"{run.file}: damaged at verifier_error. Run `rlvr-bench score` with --verifier-error again.")
    return error


def _passes(counts: _Tables, grid: Sequence[int]) -> npt.NDArray[np.float64]:
    """pass@k of each imputation and problem, (D, P, K)."""
    true, n = counts
    flat = stats.pass_at_k(true.ravel(), np.tile(n, len(true)), grid)
    return flat.reshape(*true.shape, len(grid))


def _differences(
    pairs: Sequence[tuple[_Tables, _Tables]], grid: Sequence[int], groups: npt.NDArray[np.str_] | None
) -> list[TrueDifference]:
    low, value, high = (_passes(other, grid) - _passes(one, grid) for one, other in pairs)
    lower, upper = (_limit(table, groups, tail, signed=True) for table, tail in ((low, TAIL), (high, 1 - TAIL)))
    means = value.mean(axis=(0, 1))
    return [
        TrueDifference(
            k=k,
            value=float(means[i]),
            low=float(min(lower[i], means[i])),
            high=float(max(upper[i], means[i])),
            level=stats.LEVEL,
        )
        for i, k in enumerate(grid)
    ]


def _sizes(
    pairs: Sequence[tuple[_Tables, _Tables]], k: int, flipped: bool, groups: npt.NDArray[np.str_] | None
) -> TrueDifference:
    """Expected number of problems that only the second run solves; only the first where ``flipped``."""
    shares = []
    for one, other in pairs[::-1] if flipped else pairs:
        solved = [_passes(counts, [k]) for counts in ((other, one) if flipped else (one, other))]
        shares.append((1 - solved[0]) * solved[1])
    size = shares[0].shape[1]
    low, high = (
        _limit(table, groups, tail, signed=False)[0] for table, tail in ((shares[0], TAIL), (shares[2], 1 - TAIL))
    )
    value = float(shares[1].mean())
    return TrueDifference(
        k=k,
        value=size * value,
        low=size * min(float(low), value),
        high=size * max(float(high), value),
        level=stats.LEVEL,
    )


def _limit(
    tables: npt.NDArray[np.float64], groups: npt.NDArray[np.str_] | None, tail: float, *, signed: bool
) -> npt.NDArray[np.float64]:
    """A limit (K,) of the mean over problems, from imputed tables (D, P, K): all with the same resampled problems."""
    draws, size, budgets = tables.shape
    stacked = tables.transpose(1, 0, 2).reshape(size, draws * budgets)
    if signed:
        zero = np.zeros_like(stacked)
        interval = stats.paired_bootstrap_mean(stacked, zero, rng=stats.fresh_rng(), clusters=groups).difference
    else:
        interval = stats.bootstrap_mean(np.clip(stacked, 0.0, 1.0), rng=stats.fresh_rng(), clusters=groups)
    value, low, high = (getattr(interval, name).reshape(draws, budgets) for name in ("value", "low", "high"))
    return mixture_quantile(value, low, high, tail, stats.LEVEL)


def _crossover(
    pairs: Sequence[tuple[_Tables, _Tables]],
    largest: int,
    labels: tuple[str, str],
    groups: npt.NDArray[np.str_] | None,
) -> Crossover:
    """The crossover at the estimated rates, shown only if both sides of the error show one; the interval holds all three."""
    grid = search_grid(largest)
    crossings = []
    for one, other in pairs:
        tables = _passes(other, grid) - _passes(one, grid)
        rng = stats.fresh_rng()
        draws = [stats.resampled_means(t, rng=rng, clusters=groups, replicates=_PER_IMPUTATION) for t in tables]
        crossings.append(crossover_of(tables.mean(axis=0), grid, labels, groups, draws=np.concatenate(draws)))
    point = crossings[1]
    shown = all(item.k is not None and item.leader == point.leader for item in crossings)
    lows = [item.low for item in crossings if item.low is not None]
    highs = [item.high for item in crossings]
    return described(
        msgspec.structs.replace(
            point,
            k=point.k if shown else None,
            low=min(lows, default=None),
            high=None if None in highs else max(item for item in highs if item is not None),
            method="first change of lead; true counts imputed, percentile bootstrap over problems, paired",
        )
    )
