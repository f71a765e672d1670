"""Two runs at equal numbers of tokens: how many problems each solves where both may use the same."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.comparison.cap_scores import BestSplit, read_cap_scores
from rlvr_bench.comparison.cards import RunCounts, clusters
from rlvr_bench.comparison.curves import crossover_of, looks_of, paired_differences, search_grid
from rlvr_bench.comparison.results import Crossover, EqualTokens
from rlvr_bench.errors import RunError

__all__ = ["equal_tokens"]

METHOD = "first change of lead; percentile bootstrap over problems, paired, of pass@k and mean tokens together"
_POINTS = 400  # of the axis of tokens, for the crossover


def equal_tokens(first: RunCounts, second: RunCounts, replicates: int, *, every_look: bool = False) -> EqualTokens:
    """The ``second`` run against the ``first`` on the axis of total tokens per problem.

    At B tokens a run is worth pass@k at k = B / its mean tokens per response (``stats.pass_at_cost``). The axis goes from
    one rollout of each run to the most that every problem of both has. Raises RunError where the tokens of some problem
    are unknown, the numbers of rollouts were not fixed beforehand, or no number of tokens is in reach of both runs.
    """
    runs = (first, second)
    means = [_tokens(run) for run in runs]
    least = [float(cost.mean()) for cost in means]
    most = [cost * run.largest_k for cost, run in zip(least, runs, strict=True)]
    low, high = np.ceil(max(least)), np.floor(min(most))
    if low > high:
        spans = (f"{run.label} {low:,.0f} to {high:,.0f}" for run, low, high in zip(runs, least, most, strict=True))
        raise RunError(
            f"no equal number of tokens per problem: {', '.join(spans)}. Draw more rollouts, or cut some (score --token-cap)"
        )
    axis = np.unique(np.rint(np.geomspace(low, high, _POINTS)).astype(np.int64))
    tables = [_values(run, cost, axis) for run, cost in zip(runs, means, strict=True)]
    listed = _listed(axis)
    columns = np.searchsorted(axis, listed)
    looks = looks_of(first, second, every=every_look)
    names = [("pass at tokens", int(tokens)) for tokens in listed]
    differences = paired_differences(
        names, [table[:, columns] for table in tables], clusters(first), replicates, [looks] * len(names)
    )
    labels, level = (first.label, second.label), looks.single_level(stats.LEVEL)
    crossing = crossover_of(tables[1] - tables[0], axis.tolist(), labels, clusters(first), level)
    return EqualTokens(
        first_tokens=least[0],
        second_tokens=least[1],
        differences=tuple(differences),
        crossover=_in_tokens(crossing),
        splits={run.label: stored for run in runs if (stored := _splits(run))},
    )


def _tokens(run: RunCounts) -> npt.NDArray[np.float64]:
    """Mean tokens of a rollout of each problem, (P,). Raises RunError."""
    if run.stopping is not None or run.counts.chosen:
        raise RunError(
            f"{run.label}: the numbers of its rollouts depend on what was found, and so does their mean length: equal tokens "
            "need a number that was fixed beforehand"
        )
    tokens = run.column("tokens_mean")
    if not (tokens > 0).all():
        raise RunError(
            f"{run.label}: tokens_mean is unknown for {int((~(tokens > 0)).sum())} problems of its scorecard"
        )
    return tokens


def _values(run: RunCounts, cost: npt.NDArray[np.float64], axis: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    grid = search_grid(run.largest_k)
    return stats.pass_at_cost(run.pass_table(grid), grid, cost, np.clip(axis, cost.mean(), cost.mean() * grid[-1]))


def _listed(axis: npt.NDArray[np.int64]) -> list[int]:
    """Both ends of the axis, and points of it between them whose ratio is about two."""
    count = max(2, round(float(np.log2(axis[-1] / axis[0]))) + 1)
    points = np.searchsorted(axis, np.geomspace(axis[0], axis[-1], count))
    return sorted({int(axis[min(point, len(axis) - 1)]) for point in points})


def _in_tokens(crossing: Crossover) -> Crossover:
    edge = f">{crossing.largest_k:,}" if crossing.high is None else f"{crossing.high:,}"
    text = f"{crossing.text} tokens per problem"
    if crossing.k is not None:
        text = f"crosses at {crossing.k:,} [{crossing.low:,}, {edge}] tokens per problem"
    return msgspec.structs.replace(crossing, text=text, method=METHOD)


def _splits(run: RunCounts) -> tuple[BestSplit, ...]:
    """The best splits stored in the run folder; none for a run at a cap."""
    scores = read_cap_scores(run.file.parent)
    return () if scores is None else scores.splits
