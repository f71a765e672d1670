"""Ranks with confidence intervals, from a bootstrap over problems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.comparison.cards import RunCounts, clusters
from rlvr_bench.leaderboards.columns import Cell, Row

__all__ = ["rank", "rank_columns", "resampled_means"]

NORMAL = 1.959964
TIE = 1e-9
HALF_PAIR = 0.5  # as in the paired bootstrap: avoids too narrow intervals where few problems differ


def rank(
    means: npt.NDArray[np.float64], draws: npt.NDArray[np.float64], n_problems: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ranks of M rows by their ``means`` (M,), highest first, and limits of their 95 % intervals, all (M,).

    Equal means have the same, better rank. ``draws`` (B, M) are means over resampled problems, the same for all rows.
    The interval of row i is from 1 + the number of rows shown to be better, to M - the number of rows shown to be
    worse. Its M - 1 differences are tested simultaneously by the bootstrap of their largest studentized deviation
    (Mogstad, Romano, Shaikh and Wilhelm 2024, Review of Economic Studies 91). The interval covers the rank for the
    population of problems with probability 95 %.
    """
    rows = len(means)
    ranks, low, high = (np.ones(rows, dtype=np.int64) for _ in range(3))
    for i in range(rows):
        gap = means - means[i]
        deviation = draws - draws[:, [i]] - gap
        error = np.sqrt(deviation.var(axis=0) + HALF_PAIR / n_problems**2)
        largest = np.abs(deviation / error).max(axis=1, initial=0.0)
        reach = max(float(np.quantile(largest, stats.LEVEL)), NORMAL) * error
        ranks[i] = 1 + np.sum(gap > TIE)
        low[i] = 1 + np.sum(gap > reach)
        high[i] = rows - np.sum(gap < -reach)
    return ranks, low, high


def resampled_means(runs: Sequence[RunCounts], ks: Sequence[int]) -> npt.NDArray[np.float64]:
    """Mean pass@k of runs on the same problems over resampled problems (or clusters), (B, M, K); NaN where k > n."""
    ids = sorted(entry.id for entry in runs[0].entries)
    tables = []
    for run in runs:
        row_index = {entry.id: i for i, entry in enumerate(run.entries)}
        tables.append(run.pass_table(ks)[[row_index[name] for name in ids]])
    values = np.stack(tables, axis=1)
    groups = clusters(runs[0])
    order = {entry.id: i for i, entry in enumerate(runs[0].entries)}
    labels = None if groups is None else groups[[order[name] for name in ids]]
    return stats.resampled_means(values, rng=stats.fresh_rng(), clusters=labels)


def rank_columns(rows: Sequence[Row], runs: Sequence[RunCounts | None], ks: Sequence[int]) -> list[dict[str, Cell]]:
    """The rank cells of rows of one task and setting. ``runs``: their counts, None for a row that is only in the file.

    The draws of such a row are from its interval and unpaired, so rank intervals are wider than with its scorecard.
    """
    known = [run for run in runs if run is not None]
    paired = iter(np.moveaxis(resampled_means(known, ks), 1, 0)) if known else iter(())
    rng = stats.fresh_rng(1)
    draws = [
        next(paired) if run is not None else _from_interval(row, ks, rng) for row, run in zip(rows, runs, strict=True)
    ]
    cells: list[dict[str, Cell]] = [{} for _ in rows]
    for column, k in enumerate(ks):
        ranked = [i for i, row in enumerate(rows) if row[f"pass@{k}"] is not None]
        for row_cells in cells:
            row_cells |= {f"rank@{k}{end}": None for end in ("", "_low", "_high")}
        if not ranked:
            continue
        means = np.array([float(rows[i][f"pass@{k}"] or 0) for i in ranked])
        ranks = rank(means, np.stack([draws[i][:, column] for i in ranked], axis=1), int(rows[0]["problems"] or 1))
        for i, row_rank, low, high in zip(ranked, *(limit.tolist() for limit in ranks), strict=True):
            cells[i] |= {f"rank@{k}": row_rank, f"rank@{k}_low": low, f"rank@{k}_high": high}
    return cells


def _from_interval(row: Row, ks: Sequence[int], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    mean, low, high = (
        np.array([np.nan if row[f"pass@{k}{end}"] is None else float(row[f"pass@{k}{end}"] or 0) for k in ks])
        for end in ("", "_low", "_high")
    )
    return np.asarray(mean + rng.standard_normal((stats.REPLICATES, len(ks))) * (high - low) / (2 * NORMAL))
