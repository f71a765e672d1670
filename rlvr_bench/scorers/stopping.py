"""Which rollouts count in a run whose stopping rule used verdicts other than the present ones."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import RunError
from rlvr_bench.records import Outcomes, Restopped, StoppingRule

__all__ = ["always_drawn", "settled"]

Verdicts = tuple[str, npt.NDArray[np.bool_]]
_Reading = tuple[str, npt.NDArray[np.bool_] | None, npt.NDArray[np.int64]]


def always_drawn(rule: StoppingRule, asked: int) -> int:
    """Rollouts per problem that the rule draws in any case: the batches for ``stop_after``, at most ``asked``."""
    return min(rule.batch * -(-rule.stop_after // rule.batch), asked)


def settled(outcomes: Outcomes, others: Iterable[Verdicts] = (), *, on_record: bool = False) -> Outcomes:
    """The outcomes; with ``restopped`` set if the present verdicts do not explain where the rule stopped.

    ``others``: the other verdicts of the run, as the name of their folder and correct (R,). The present verdicts are
    tried first, then the others. The rule used the first verdicts by which every problem ends exactly where the rule
    stops. If there are none, it used the first by which the rule has stopped every problem: the run was topped up after
    a regrade, and rollouts after that stop are left out. If no verdicts explain the run, the rollouts that the rule
    always draws are used (``always_drawn``).

    ``on_record``: it is recorded that the rule used the first of ``others``, so the present verdicts are not tried. To
    use them because they happen to explain the run would be a selection by results, and biased.

    Raises RunError: a rollout is missing between others of its problem; or some problem has fewer rollouts than the
    rule always draws, so that the run is not finished.
    """
    rule = outcomes.stopping
    if rule is None or outcomes.restopped is not None or not len(outcomes.problem):
        return outcomes
    _check_whole(outcomes)
    now = _stops(outcomes, outcomes.status == 0)
    if (now == outcomes.n_samples).all() and not on_record:
        return outcomes
    if others := list(others):
        readings: list[_Reading] = [] if on_record else [("", None, now)]
        readings += [(name, right, _stops(outcomes, right)) for name, right in others]
        return _explained(outcomes, rule, now, readings)
    if (now > 0).all():
        return _cut(outcomes, now, "", None, now)
    return outcomes  # not finished: functions that need a finished run raise


def _explained(
    outcomes: Outcomes,
    rule: StoppingRule,
    now: npt.NDArray[np.int64],
    readings: list[_Reading],
) -> Outcomes:
    n = outcomes.n_samples
    for name, right, ends in readings:
        if (ends == n).all():
            restopped = _restopped(outcomes, now, name, "all rollouts")
            return msgspec.structs.replace(outcomes, stopped_on=right, restopped=restopped)
    for name, right, ends in readings:
        if (ends[n > 0] > 0).all():
            return _cut(outcomes, ends, name, right, now)
    first = always_drawn(rule, outcomes.asked)
    if (short := int((n < first).sum())) > 0:
        raise RunError(
            f"{short} problems have fewer than the {first} rollouts that the stopping rule always draws. "
            "Run the same evaluate again to finish."
        )
    restopped = _restopped(outcomes, now, "", "first rollouts")
    kept = outcomes.only(outcomes.index < first)
    return msgspec.structs.replace(kept, stopping=None, asked=first, restopped=restopped)


def _cut(
    outcomes: Outcomes,
    ends: npt.NDArray[np.int64],
    name: str,
    right: npt.NDArray[np.bool_] | None,
    now: npt.NDArray[np.int64],
) -> Outcomes:
    restopped = _restopped(outcomes, now, name, "up to the stop")
    marked = msgspec.structs.replace(outcomes, stopped_on=right, restopped=restopped)
    return marked.only(outcomes.index < ends[outcomes.problem])


def _restopped(outcomes: Outcomes, now: npt.NDArray[np.int64], name: str, used: str) -> Restopped:
    """The record of the change. ``now`` (P,): where the rule stops by the present verdicts, 0 where it does not."""
    n = outcomes.n_samples
    longer, sooner = int(((now == 0) & (n > 0)).sum()), int(((now > 0) & (now < n)).sum())
    return Restopped(stopped_on=name, longer=longer, sooner=sooner, used=used)  # type: ignore[arg-type]


def _stops(outcomes: Outcomes, right: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Rollouts of each problem until the rule stops by the verdicts ``right`` (R,), (P,); 0 where it does not stop."""
    rule = outcomes.stopping
    assert rule is not None
    n = outcomes.n_samples
    end = np.cumsum(n)
    total = np.concatenate([[0], np.cumsum(right)])
    so_far = total[1:] - total[(end - n)[outcomes.problem]]
    size = outcomes.index + 1
    at_end = (size == outcomes.asked) | ((size % rule.batch == 0) & (so_far >= rule.stop_after))
    stops = np.zeros(len(n), dtype=np.int64)
    rows = np.flatnonzero(at_end)[::-1]  # the first of a problem is written last
    stops[outcomes.problem[rows]] = size[rows]
    return stops


def _check_whole(outcomes: Outcomes) -> None:
    n = outcomes.n_samples
    expected = np.arange(len(outcomes.index)) - np.repeat(np.cumsum(n) - n, n)
    if (outcomes.index != expected).any():
        name = outcomes.problem_ids[int(outcomes.problem[np.flatnonzero(outcomes.index != expected)[0]])]
        raise RunError(
            f"rollouts of problem {name} are missing between others, and a stopping rule looks at all of them. "
            "Run the same evaluate again to draw them."
        )
