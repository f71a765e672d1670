"""Alarms of ``follow``: a checkpoint is shown to be worse than the base, at an error rate that holds for all looks together."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from rlvr_bench import stats
from rlvr_bench.checking.evidence import mean_of
from rlvr_bench.comparison.cards import RunCounts, align
from rlvr_bench.errors import BadArgument, RunError
from rlvr_bench.metrics import find_metric
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.stats.drift import drift

__all__ = ["ALARM_LEVEL", "Alarm", "Fired", "Look", "read_alarms", "sound_alarm"]

ALARM_LEVEL = 0.05
"""Probability of any false alarm, over all looks and all alarms of one ``follow``."""

_FEWEST = 10  # problems, for a mean whose error is estimated from their spread
_CONFIDENCE = 0.975  # of the score interval that a checkpoint's standard error is taken from
_EDGE = 1e-6
_EFFECT = 0.05  # change of a rate that an alarm detects soonest


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """What is watched: ``metric`` as the user named it, and how much worse than the base it may become.

    ``pass@K``: a drop of more than ``tolerance``; ``entropy``: below that share of the base's; ``truncation`` and ``errors``: a
    rise of their rate by more; ``lost``: a problem that the base solved and that is now solved less often.
    """

    metric: str
    tolerance: float
    k: int | None = None


class Fired(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm: at ``step`` the evidence was enough, and the change most likely is there ``since`` another step.

    ``value`` and ``base`` are the metric at ``step`` and of the base. ``log_evidence`` is at least ``threshold``; both are
    None for ``lost``, where ``problems`` are the lost ones.
    """

    alarm: str
    task: str
    step: int
    since: int
    value: float | None
    base: float | None
    message: str
    tolerance: float = 0.0
    log_evidence: float | None = None
    threshold: float | None = None
    problems: tuple[str, ...] = ()


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint's scorecard, in the order of the steps."""

    step: int
    file: Path
    card: Scorecard


_TOLERANCES = {"entropy": 0.5, "truncation": 0.05, "errors": 0.01, "lost": 0.0}
_RATES = {"truncation": "truncation_rate", "errors": "error_rate"}
_PASS = re.compile(r"pass@([1-9][0-9]{0,8})")


def read_alarms(texts: Sequence[str]) -> tuple[Alarm, ...]:
    """Alarms from ``pass@64``, ``pass@64=0.02``, ``entropy=0.3`` and so on. Raises BadArgument."""
    alarms = [_read(text) for text in texts]
    names = [alarm.metric for alarm in alarms]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise BadArgument("--alarm", repeated, "is named twice")
    return tuple(alarms)


def _read(text: str) -> Alarm:
    name, sign, number = text.partition("=")
    budget = _PASS.fullmatch(name)
    if budget is None and name not in _TOLERANCES:
        raise BadArgument("--alarm", text, f"must be pass@K, {', '.join(_TOLERANCES)}, each with =TOLERANCE or without")
    try:
        tolerance = float(number) if sign else _TOLERANCES.get(name, 0.0)
    except ValueError:
        tolerance = math.nan
    if not 0 <= tolerance < 1 or (name == "lost" and sign):
        raise BadArgument("--alarm", text, "a tolerance is a number from 0 to 1, as a share; lost has none")
    return Alarm(metric=name, tolerance=tolerance, k=None if budget is None else int(budget[1]))


def sound_alarm(
    alarm: Alarm, task: str, base: tuple[Path, Scorecard], looks: Sequence[Look], level: float = ALARM_LEVEL
) -> Fired | None:
    """The alarm at the first look at which the evidence is enough; None where it never was.

    ``looks``: the checkpoints in the order of their steps, each of other rollouts. ``level``: the probability of a false
    alarm over any number of looks. Half of it is spent on the error of the base, which all looks share (``lost`` needs no such
    split). Raises Incomparable where a checkpoint answers another question than the base, and RunError where a
    scorecard lacks what is watched.
    """
    pairs = [align([base, (look.file, look.card)])[:2] for look in looks]
    if not pairs:
        return None
    if alarm.metric == "lost":
        return _lost(task, looks, pairs, level)
    measure = _pass_excess if alarm.k is not None else _mean_excess
    measured = [measure(alarm, first, now, level / 2) for _, (first, now) in pairs]
    excess, variance, values, bases = (np.array(column) for column in zip(*measured, strict=True))
    effect = _EFFECT if alarm.metric != "entropy" else 4 * _EFFECT
    threshold = math.log(2 / level)
    evidence = drift(excess, variance, effect)
    fired = np.flatnonzero(evidence.log_evidence >= threshold)
    if not fired.size:
        return None
    at = int(fired[0])
    since = drift(excess[: at + 1], variance[: at + 1], effect).since
    return Fired(
        alarm=alarm.metric,
        task=task,
        step=looks[at].step,
        since=looks[since].step,
        value=float(values[at]),
        base=float(bases[at]),
        message=f"{alarm.metric} on {task} is {values[at]:.3g} at step {looks[at].step}, {bases[at]:.3g} in the base: "
        f"{_claim(alarm)} is shown, most likely since step {looks[since].step}",
        tolerance=alarm.tolerance,
        log_evidence=float(evidence.log_evidence[at]),
        threshold=threshold,
    )


def _claim(alarm: Alarm) -> str:
    if alarm.k is not None:
        return f"a drop of more than {100 * alarm.tolerance:g} points"
    if alarm.metric == "entropy":
        return f"a fall below {100 * alarm.tolerance:g} % of the base"
    return f"a rise of more than {100 * alarm.tolerance:g} points"


def _pass_excess(alarm: Alarm, base: RunCounts, now: RunCounts, level: float) -> tuple[float, float, float, float]:
    """How far pass@k is below the base's lower limit less the tolerance, its variance, its value, and the base's."""
    k = alarm.k or 1
    if base.stopping is not None or now.stopping is not None:
        raise RunError(f"the alarm {alarm.metric} needs a fixed number of rollouts: draw without --stop-after")
    if k > min(base.n.min(), now.n.min()):
        raise RunError(
            f"the alarm {alarm.metric} needs {k} rollouts of every problem, in the base too: draw with -n {k} or more"
        )
    interval = stats.rollout_interval(base.c, base.n, [k], 1 - 2 * level)
    limit = min(max(float(interval.low[0]) - alarm.tolerance, _EDGE), 1 - _EDGE)
    # A response without a verdict may be correct: it is no evidence of a drop.
    mean = mean_of((np.minimum(now.c + now.counts.errors, now.n), now.n), k, _CONFIDENCE)
    variance = max(mean.shrinkage * limit * (1 - limit), _EDGE**2)
    return limit - mean.value, variance, mean.value, float(interval.value[0])


def _mean_excess(alarm: Alarm, base: RunCounts, now: RunCounts, level: float) -> tuple[float, float, float, float]:
    """The same for a mean over problems, in shares of the base's for entropy. Its error is from the spread of the problems."""
    metric = find_metric(_RATES.get(alarm.metric, "token_entropy"))
    assert metric is not None
    first, second = base.values(metric), now.values(metric)
    known = ~np.isnan(first) & ~np.isnan(second)
    if known.sum() < _FEWEST:
        raise RunError(f"the alarm {alarm.metric} needs {metric.name} of at least {_FEWEST} problems, in the base too")
    first, second = first[known], second[known]
    if alarm.metric == "entropy":
        scale = float(first.mean())
        if scale <= 0:
            raise RunError("the alarm entropy needs a base whose token entropy is above 0")
        worse = (alarm.tolerance * first - second) / scale
    else:
        worse = second - first - alarm.tolerance
    variance = max(float(worse.var(ddof=1)) / len(worse), _least_variance(second, now.n[known]))
    margin = -float(ndtri(level)) * math.sqrt(variance)
    return float(worse.mean()) - margin, variance, float(second.mean()), float(first.mean())


def _least_variance(values: npt.NDArray[np.float64], n: npt.NDArray[np.int64]) -> float:
    """The variance that a rate of 0 or 1 may still have, as if one more rollout of all were of either kind."""
    total = float(n.sum())
    rate = (min(float(values.mean()), 1.0) * total + 1) / (total + 2)
    return rate * (1 - rate) / total


def _lost(
    task: str, looks: Sequence[Look], pairs: Sequence[tuple[tuple[str, ...], list[RunCounts]]], level: float
) -> Fired | None:
    """Problems whose solve rate is shown to be lower, by Fisher's exact test, Bonferroni over problems and looks."""
    for number, (look, (ids, (base, now))) in enumerate(zip(looks, pairs, strict=True), 1):
        right = np.minimum(now.c + now.counts.errors, now.n)
        p_values, _ = stats.fisher_exact((base.c, base.n), (right, now.n))
        lower = right * base.n < base.c * now.n
        lost = np.flatnonzero(lower & (p_values <= level / (number * (number + 1)) / len(ids)))
        if lost.size:
            names = tuple(ids[i] for i in lost)
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            message = f"{len(names)} problems of {task} are shown to be solved less often at step {look.step}: {shown}"
            return Fired(
                alarm="lost",
                task=task,
                step=look.step,
                since=look.step,
                value=float(len(names)),
                base=0.0,
                message=message,
                problems=names,
            )
    return None
