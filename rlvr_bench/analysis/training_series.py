"""The checkpoints of one training run: metrics by step, stages, and the entropy-performance law.

It reads scorecards only. The steps are in the models' names, or are given by the user.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from rlvr_bench import stats
from rlvr_bench.analysis.performance_law import EntropyLaw, fit_law
from rlvr_bench.analysis.stages import StageFit, corrected, fit_stages
from rlvr_bench.analysis.turnover import BestCheckpoint, Turnover, best_checkpoints, turnovers
from rlvr_bench.comparison.cards import RunCounts, align, clusters
from rlvr_bench.comparison.estimates import sound_estimates
from rlvr_bench.comparison.folders import read_cards
from rlvr_bench.comparison.steps import step_of
from rlvr_bench.errors import BadArgument, RunError
from rlvr_bench.metrics import METRICS
from rlvr_bench.records import Estimate
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.stats.intervals import normal_quantile
from rlvr_bench.storage import as_path

__all__ = ["SERIES_SCHEMA", "Checkpoint", "Metric", "Milestone", "TrainingSeries", "series", "series_of"]

SERIES_SCHEMA = 1
# The metrics of a training series.
_FOLLOWED = {metric.name: metric for metric in METRICS if metric.followed}
_ORDER = {name: number for number, name in enumerate(_FOLLOWED)}
_THREE_QUARTERS = 0.75
_NORMAL = 1.959964
_ROUNDING = 1e-9


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the series."""

    step: int
    model: str
    scorecard: str


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One estimate at S steps, None where a scorecard does not have it or has only bounds.

    ``group`` as in the scorecards: None for all rollouts, "correct", "wrong", "wrong less correct, length-matched" and
    so on. ``at_least`` and ``at_most``: bounds where rollouts or verdicts are missing, empty if no scorecard has any.
    """

    name: str
    k: int | None
    group: str | None
    level: float
    values: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    at_least: tuple[float | None, ...] = ()
    at_most: tuple[float | None, ...] = ()


class Milestone(msgspec.Struct, frozen=True, kw_only=True):
    """The first step with three quarters of a metric's change from the first to the last checkpoint.

    [``low``, ``high``] is its interval at ``level``, in steps of checkpoints: all checkpoints before ``low`` are shown
    to have less than three quarters of the change, and all from ``high`` on are shown to have more (or ``high`` is the
    last). There is no milestone if the change from first to last is not shown. arXiv 2505.22617 reports such shares (73
    % of the entropy used in the first twelfth of training).
    """

    metric: str
    first: float
    last: float
    step: int
    low: int
    high: int
    level: float


class TrainingSeries(msgspec.Struct, frozen=True, kw_only=True):
    """Checkpoints of one training run on the same problems, in order of their step.

    ``stages`` are those of pass@1, pass@k at the largest common k, token entropy (all, correct, wrong; logarithms) and
    branching factor (logarithm); ``law`` is R = -a exp(H) + b, None where entropy was not measured. ``turnover`` and
    ``best`` have one entry per budget.
    """

    schema: int
    task: str
    n_problems: int
    checkpoints: tuple[Checkpoint, ...]
    metrics: tuple[Metric, ...]
    stages: tuple[StageFit, ...]
    milestones: tuple[Milestone, ...]
    law: EntropyLaw | None
    turnover: tuple[Turnover, ...]
    best: tuple[BestCheckpoint, ...]
    notes: tuple[str, ...]


def series(
    runs: Sequence[Path | str], steps: Sequence[int] | None = None, allow: Collection[str] = ()
) -> TrainingSeries:
    """Order the scorecards of one training run by step. ``runs``: run folders, scorecards, folders of them, or globs.

    ``steps``: one for each scorecard, in the order given; by default they are from the models' names (``zoo:grpo@20``,
    ``global_step_200``, ``checkpoint-200``). ``allow``: as in ``compare``.

    Raises BadArgument for fewer than two checkpoints, a name without a step, or two checkpoints of one step;
    Incomparable where the runs answer different questions; RunError where a scorecard is missing.
    """
    return series_of(read_cards([path for run in runs for path in _expanded(str(run))]), steps, allow)


def series_of(
    cards: Sequence[tuple[Path, Scorecard]], steps: Sequence[int] | None = None, allow: Collection[str] = ()
) -> TrainingSeries:
    """``series`` for scorecards already read, each with its file. Raises the same errors."""
    if len(cards) < 2:
        raise BadArgument("runs", len(cards), "a series needs the scorecards of at least two checkpoints")
    numbers = _steps(cards, steps)
    order = sorted(range(len(cards)), key=lambda i: numbers[i])
    cards, numbers = [cards[i] for i in order], [numbers[i] for i in order]
    ids, counted, notes = align(cards, allow)
    unequal = len({size for run in counted for size in run.n.tolist()}) > 1
    metrics = _metrics([_sound(file, card) for file, card in cards], unequal=unequal)
    if unequal:
        notes.append("rollouts per problem differ: what depends on their number is followed at common numbers only")
    if any(run.stopping is not None for run in counted):
        notes.append("no turnover and no best checkpoint: they need a number of rollouts that was fixed beforehand")
    return TrainingSeries(
        schema=SERIES_SCHEMA,
        task=cards[0][1].run.task,
        n_problems=len(ids),
        checkpoints=tuple(
            Checkpoint(step=step, model=card.run.model, scorecard=str(file))
            for step, (file, card) in zip(numbers, cards, strict=True)
        ),
        metrics=tuple(metrics),
        stages=tuple(corrected(_stages(numbers, metrics))),
        milestones=tuple(
            mark for metric in _followed(metrics) if (mark := _milestone(numbers, metric, _table(metric, counted)))
        ),
        law=_law(counted),
        turnover=tuple(turnovers(numbers, counted)),
        best=tuple(best_checkpoints(numbers, counted)),
        notes=tuple(notes),
    )


def _expanded(pattern: str) -> list[Path]:
    sign = re.search(r"[*?\[]", pattern)
    if sign is None or as_path(pattern).exists():
        return [as_path(pattern)]
    if "://" in pattern:
        cut = pattern.rindex("/", 0, sign.start()) + 1
        matches = sorted(as_path(pattern[:cut]).glob(pattern[cut:]))
    else:
        matches = [Path(match) for match in sorted(glob.glob(pattern))]
    if not matches:
        raise RunError(f"no run matches {pattern!r}")
    return matches


def _steps(cards: Sequence[tuple[Path, Scorecard]], given: Sequence[int] | None) -> list[int]:
    if given is not None and len(given) != len(cards):
        raise BadArgument("--steps", list(given), f"must name one step for each of the {len(cards)} scorecards")
    numbers: list[int] = []
    for number, (file, card) in enumerate(cards):
        named = step_of(card.run.model)
        step = (named and named.step) if given is None else given[number]
        if step is None:
            raise BadArgument(
                "model",
                card.run.model,
                f"has no training step in its name ({file}); give every step: --steps 0,20,40",
            )
        if step in numbers:
            raise BadArgument("step", step, f"two checkpoints have it ({cards[numbers.index(step)][0]}, {file})")
        numbers.append(step)
    return numbers


def _sound(file: Path, card: Scorecard) -> Scorecard:
    """The scorecard, with bounds in place of means over only some problems, which earlier versions wrote."""
    _, (counts,), _ = align([(file, card)])
    return msgspec.structs.replace(card, estimates=sound_estimates(card, counts))


def _metrics(cards: Sequence[Scorecard], *, unequal: bool) -> list[Metric]:
    """The followed estimates that at least two scorecards have; if n is ``unequal``, without those that depend on n."""
    names = {name for name, metric in _FOLLOWED.items() if not (unequal and metric.equal_n)}
    tables = [{(e.name, e.k, e.group): e for e in card.estimates if e.name in names} for card in cards]
    keys = sorted({key for table in tables for key in table}, key=lambda key: (_ORDER[key[0]], *map(_first, key[1:])))
    metrics = []
    for name, k, group in keys:
        row: list[Estimate | None] = [table.get((name, k, group)) for table in tables]
        if sum(e is not None and (e.value is not None or e.at_least is not None) for e in row) < 2:
            continue
        metrics.append(
            Metric(
                name=name,
                k=k,
                group=group,
                level=next(e.level for e in row if e is not None),
                values=tuple(None if e is None else e.value for e in row),
                low=tuple(None if e is None else e.low for e in row),
                high=tuple(None if e is None else e.high for e in row),
                at_least=_bounds([None if e is None else e.at_least for e in row]),
                at_most=_bounds([None if e is None else e.at_most for e in row]),
            )
        )
    return metrics


def _bounds(row: Sequence[float | None]) -> tuple[float | None, ...]:
    """The bounds of a series; empty if no scorecard has bounds."""
    return tuple(row) if any(value is not None for value in row) else ()


def _first(value: int | str | None) -> tuple[bool, int | str]:
    """A sort key that puts None first."""
    return value is not None, value if value is not None else 0


def _followed(metrics: Sequence[Metric]) -> list[Metric]:
    """The metrics that are split into stages."""
    largest = max((m.k or 0 for m in metrics if m.name == "pass@k" and None not in m.values), default=0)
    wanted: set[tuple[str, int | None, str | None]]
    wanted = {("pass@k", 1, None), ("pass@k", largest, None)}
    wanted |= {(metric.name, None, group) for metric in _FOLLOWED.values() for group in metric.stages}
    known = [m for m in metrics if sum(value is not None for value in m.values) > 1]
    return [m for m in known if (m.name, m.k, m.group) in wanted]


def _label(metric: Metric) -> str:
    name = metric.name if metric.k is None else metric.name.replace("@k", f"@{metric.k}")
    return name if metric.group is None else f"{name}, {metric.group}"


def _stages(steps: Sequence[int], metrics: Sequence[Metric]) -> list[StageFit]:
    return [
        fit_stages(
            _label(metric),
            steps,
            _array(metric),
            rng=stats.fresh_rng(),
            scale="linear" if _FOLLOWED[metric.name].is_fraction else "log",
            errors=_errors(metric),
        )
        for metric in _followed(metrics)
    ]


def _milestone(steps: Sequence[int], metric: Metric, table: npt.NDArray[np.float64] | None) -> Milestone | None:
    """The milestone, None if no change from first to last is shown. ``table`` (S, P): the metric of each problem."""
    values, errors = _array(metric), _errors(metric)
    known = np.flatnonzero(~np.isnan(values))
    values, errors, at = values[known], errors[known], np.array(steps)[known]
    table = None if table is None else table[known]
    last = len(values) - 1
    change = values[-1] - values[0]
    if last < 1 or not change:
        return None
    sign, unit = float(np.sign(change)), np.eye(len(values))
    if _side(sign * (unit[-1] - unit[0]), values, errors, table) <= 0:
        return None
    goal = (1 - _THREE_QUARTERS) * unit[0] + _THREE_QUARTERS * unit[-1]
    there = np.array([_side(sign * (checkpoint - goal), values, errors, table) for checkpoint in unit])
    there[-1] = 1  # the last checkpoint has the whole change
    reached = np.flatnonzero((values - values[0]) / change >= _THREE_QUARTERS)
    short = np.flatnonzero(there >= 0)[0]
    sure = last - int(np.argmin(np.append(there[::-1] > 0, False))) + 1
    return Milestone(
        metric=_label(metric),
        first=float(values[0]),
        last=float(values[-1]),
        step=int(at[reached[0]]),
        low=int(at[min(short, reached[0])]),
        high=int(at[max(sure, reached[0])]),
        level=stats.LEVEL,
    )


def _side(
    weights: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    errors: npt.NDArray[np.float64],
    table: npt.NDArray[np.float64] | None,
) -> int:
    """1 or -1 if the weighted sum of the values (S,) is shown to be above or below 0, else 0.

    With ``table`` by a paired t interval over problems, because all checkpoints have the same problems; else by the
    errors of the values.
    """
    total = float(weights @ values)
    if table is not None:
        sums = weights @ table
        sums = sums[~np.isnan(sums)]
        if len(sums) < 2:
            return 0
        total = float(sums.mean())
        error = float(sums.std(ddof=1) / np.sqrt(len(sums)))
        reach = float(stdtrit(len(sums) - 1, 0.5 + stats.LEVEL / 2)) * error
    else:
        reach = _NORMAL * float(np.sqrt(weights**2 @ errors**2))
    tiny = _ROUNDING * float(np.abs(weights) @ np.abs(values))
    return int(np.sign(total)) if abs(total) > max(reach, tiny) else 0  # 0 if an error is unknown (NaN)


def _table(metric: Metric, runs: Sequence[RunCounts]) -> npt.NDArray[np.float64] | None:
    """The metric of each problem at each step, (S, P); None if scorecards lack it or problems are in clusters."""
    row = _FOLLOWED[metric.name]
    if metric.group is not None or row.column is None or clusters(runs[0]) is not None:
        return None
    if metric.k is not None:
        return np.stack([run.budget_values(row, metric.k) for run in runs])
    return np.stack([run.values(row) for run in runs])


def _errors(metric: Metric) -> npt.NDArray[np.float64]:
    """Standard errors of the values (S,) from their intervals; NaN where there is none."""
    low, high = (
        np.array([np.nan if value is None else value for value in limits]) for limits in (metric.low, metric.high)
    )
    return np.asarray((high - low) / (2 * normal_quantile(metric.level)))


def _array(metric: Metric) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in metric.values])


def _law(runs: Sequence[RunCounts]) -> EntropyLaw | None:
    entropy = np.stack([run.column("entropy_mean") for run in runs])
    solved = np.stack([run.pass_table([1])[:, 0] for run in runs])
    known = ~(np.isnan(entropy) | np.isnan(solved)).any(axis=0)
    if not known.any():
        return None
    labels = clusters(runs[0])
    return fit_law(
        entropy[:, known], solved[:, known], None if labels is None else labels[known], rng=stats.fresh_rng()
    )
