"""Which rollouts of a run under a stopping rule count, where it stopped on other verdicts than those in force."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import RunError
from rlvr_bench.records import Outcomes, Restopped, StoppingRule

__all__ = ["always_drawn", "settled"]

Verdicts = tuple[str, npt.NDArray[np.bool_]]
_Found = tuple[str, npt.NDArray[np.bool_] | None, npt.NDArray[np.int64]]


def always_drawn(rule: StoppingRule, asked: int) -> int:
    """Rollouts of each problem that the rule draws whatever they bring: as many batches as ``stop_after`` needs."""
    return min(rule.batch * -(-rule.stop_after // rule.batch), asked)


def settled(outcomes: Outcomes, others: Iterable[Verdicts] = (), *, on_record: bool = False) -> Outcomes:
    """The outcomes with ``restopped`` where the verdicts in force do not explain where the rule stopped; else as given.

    ``others``: the run's other verdicts, by the name of their folder, as correct (R,) each. The rule looked at the first
    verdicts, those in force before the others, by which every problem ends just where the rule stops. Where there are none,
    at the first by which the rule has stopped every problem by now: a run that was topped up after a regrade. What it drew
    after that stop is left out. If no verdicts explain the run, each problem keeps what the rule always draws. ``on_record``:
    it is known that the rule looked at the first of ``others``. To take the verdicts in force where they happen to explain
    the run would be a choice by what was found, and so biased.

    Raises RunError: a rollout is missing between others of its problem; or the run is not drawn to the end of its rule,
    and no other verdicts could be the reason.
    """
    rule = outcomes.stopping
    if rule is None or outcomes.restopped is not None or not len(outcomes.problem):
        return outcomes
    _check_whole(outcomes)
    now = _stops(outcomes, outcomes.status == 0)
    if (now == outcomes.n_samples).all() and not on_record:
        return outcomes
    if others := list(others):
        found: list[_Found] = [] if on_record else [("", None, now)]
        found += [(name, right, _stops(outcomes, right)) for name, right in others]
        return _explained(outcomes, rule, now, found)
    if (now > 0).all():
        return _cut(outcomes, now, "", None, now)
    return outcomes  # not drawn to its end: whoever needs that says so


def _explained(
    outcomes: Outcomes,
    rule: StoppingRule,
    now: npt.NDArray[np.int64],
    found: list[_Found],
) -> Outcomes:
    n = outcomes.n_samples
    for name, right, ends in found:
        if (ends == n).all():
            told = _restopped(outcomes, now, name, "all rollouts")
            return msgspec.structs.replace(outcomes, stopped_on=right, restopped=told)
    for name, right, ends in found:
        if (ends[n > 0] > 0).all():
            return _cut(outcomes, ends, name, right, now)
    first = always_drawn(rule, outcomes.asked)
    if (short := int((n < first).sum())) > 0:
        raise RunError(
            f"{short} problems have fewer than the {first} rollouts that the stopping rule always draws. "
            "Run the same evaluate again to finish."
        )
    told = _restopped(outcomes, now, "", "first rollouts")
    kept = outcomes.only(outcomes.index < first)
    return msgspec.structs.replace(kept, stopping=None, asked=first, restopped=told)


def _cut(
    outcomes: Outcomes,
    ends: npt.NDArray[np.int64],
    name: str,
    right: npt.NDArray[np.bool_] | None,
    now: npt.NDArray[np.int64],
) -> Outcomes:
    told = _restopped(outcomes, now, name, "up to the stop")
    marked = msgspec.structs.replace(outcomes, stopped_on=right, restopped=told)
    return marked.only(outcomes.index < ends[outcomes.problem])


def _restopped(outcomes: Outcomes, now: npt.NDArray[np.int64], name: str, used: str) -> Restopped:
    """``now`` (P,): where the rule stops by the verdicts in force, 0 where it has not."""
    n = outcomes.n_samples
    longer, sooner = int(((now == 0) & (n > 0)).sum()), int(((now > 0) & (now < n)).sum())
    return Restopped(stopped_on=name, longer=longer, sooner=sooner, used=used)  # type: ignore[arg-type]


def _stops(outcomes: Outcomes, right: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Rollouts of each problem up to the rule's stop by the verdicts ``right`` (R,), (P,); 0 where it has not stopped."""
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
