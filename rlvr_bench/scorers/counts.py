"""The data for pass@k: counts per problem, and how the numbers of rollouts were decided."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.errors import RunError
from rlvr_bench.records import STATUSES, Outcomes, StoppingRule
from rlvr_bench.scorecard import ProblemScore, ScoredRun, StopCounts
from rlvr_bench.scorers.stopping import settled

__all__ = ["ALARM", "MOST_UNBOUNDED", "Counts", "depends_on_results", "n_chosen", "stop_counts"]

ALARM = 1e-3  # p-value at or below which n is considered to depend on the verdicts
MOST_UNBOUNDED = 1e-3  # share of rollouts without a verdict above which estimates have bounds


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of P problems, (P,) each, and how the numbers of rollouts were decided.

    ``errors``: rollouts without a verdict, 0 where they are too few to matter (``MOST_UNBOUNDED``). ``stopped_on``
    (P, 3) counts rollouts that were correct by the verdicts that a stopping rule used: all of them, those that are
    correct now, and those without a verdict now. None where the rule used the present verdicts. ``chosen``: n seems to
    depend on the verdicts (``depends_on_results``).
    """

    n: npt.NDArray[np.int64]
    c: npt.NDArray[np.int64]
    errors: npt.NDArray[np.int64]
    stopping: StoppingRule | None
    asked: int
    stopped_on: npt.NDArray[np.int64] | None = None
    chosen: bool = False

    @classmethod
    def fixed(cls, n: npt.NDArray[np.int64], c: npt.NDArray[np.int64], errors: npt.NDArray[np.int64]) -> Counts:
        """Counts of rollouts whose number was decided before they were drawn."""
        return cls(n=n, c=c, errors=_unless_few(errors, n), stopping=None, asked=int(n.max(initial=0)))

    @classmethod
    def of_outcomes(cls, outcomes: Outcomes) -> Counts:
        """The counts of the problems that have rollouts. Raises RunError as ``settled``."""
        outcomes = settled(outcomes)
        drawn = outcomes.n_samples > 0
        errors = _count(outcomes, outcomes.status == STATUSES.index("error"))
        stopped = None if outcomes.stopped_on is None else np.stack(_stop_columns(outcomes), axis=1)[drawn]
        n, c = outcomes.n_samples[drawn], outcomes.n_correct[drawn]
        return cls(
            n=n,
            c=c,
            errors=_unless_few(errors[drawn], n),
            stopping=outcomes.stopping,
            asked=outcomes.asked,
            stopped_on=stopped,
            chosen=n_chosen(outcomes) is not None,
        )

    @classmethod
    def of_problems(
        cls, run: ScoredRun, problems: Sequence[ProblemScore], stopped_on: Mapping[str, StopCounts]
    ) -> Counts:
        """The counts of a scorecard, from its run, its problems with rollouts, and its ``stopped_on``."""
        n, c, errors = (
            np.array([getattr(entry, name) or 0 for entry in problems], dtype=np.int64) for name in ("n", "c", "error")
        )
        stops = [stopped_on[entry.id] for entry in problems if entry.id in stopped_on]
        known = [(stop.correct, stop.both, stop.undecided) for stop in stops]
        restopped = run.restopped
        rule = None if restopped is not None and restopped.used == "first rollouts" else run.stopping
        return cls(
            n=n,
            c=c,
            errors=_unless_few(np.clip(errors, 0, np.maximum(n - c, 0)), n),  # a scorecard from elsewhere may be wrong
            stopping=rule,
            asked=run.n,
            stopped_on=np.array(known, dtype=np.int64) if known and len(known) == len(problems) else None,
            chosen=rule is None and depends_on_results(c, n, [entry.id for entry in problems]) is not None,
        )

    def at(self, rows: npt.NDArray[np.int64]) -> Counts:
        """The counts of these problems, in this order."""
        stopped = None if self.stopped_on is None else self.stopped_on[rows]
        return dataclasses.replace(self, n=self.n[rows], c=self.c[rows], errors=self.errors[rows], stopped_on=stopped)

    @property
    def largest_k(self) -> int:
        """The largest budget for which no problem lacks rollouts; 0 where there are no problems."""
        if not len(self.n):
            return 0
        if self.stopping is None:
            return int(self.n.min())
        left = (self.c == 0) & (self.n < self.asked)
        return int(self.n[left].min()) if left.any() else self.asked

    @property
    def most(self) -> int:
        """The largest number of rollouts of a problem; under a stopping rule its maximum."""
        return self.asked if self.stopping else int(self.n.max(initial=0))

    @property
    def method(self) -> str:
        """The estimator, in words."""
        rule = self.stopping
        if rule is None:
            return "bounds under any stopping rule" if self.chosen else "unbiased"
        method = f"unbiased under stop-after {rule.stop_after}, batches of {rule.batch}"
        return method if self.stopped_on is None else f"{method}, on other verdicts"

    def has_all(self, k: int) -> bool:
        """Whether every problem has at least k rollouts, all with a verdict, and nothing chose how many: no bounds needed."""
        return self.stopping is None and not self.chosen and not self.errors.any() and bool((self.n >= k).all())

    def bounds(self, ks: Sequence[int]) -> stats.PassBounds:
        """Bounds of pass@k of each problem, (P, K); equal where there is an unbiased estimate.

        Rollouts without a verdict are wrong in the lower bound and correct in the upper. Raises RunError where a run
        under a stopping rule is not finished.
        """
        if self.stopping is None:
            bounds = stats.pass_bounds_any_rule if self.chosen else stats.pass_bounds
            low = bounds(self.c, self.n, ks)
            high = bounds(self.c + self.errors, self.n, ks) if self.errors.any() else low
            return stats.PassBounds(low.low, high.high)
        if self.stopped_on is None and not self.errors.any() and max(ks) <= self.asked:
            self._check_finished(self.c)
            rule = (self.stopping.stop_after, self.asked, self.stopping.batch)
            value = stats.pass_at_k_stopped(self.c, self.n, ks, *rule)
            return stats.PassBounds(value, value)
        return self._relabelled(self.stopping, ks)

    def _relabelled(self, rule: StoppingRule, ks: Sequence[int]) -> stats.PassBounds:
        then, both, undecided = (
            (self.c, self.c, np.zeros_like(self.c)) if self.stopped_on is None else np.moveaxis(self.stopped_on, 1, 0)
        )
        self._check_finished(then)
        pairs = [(self.c, both)]
        if self.errors.any():
            pairs.append((self.c + self.errors, both + undecided))
        bounds = [
            stats.pass_at_k_relabelled(
                c, self.n, ks, rule.stop_after, self.asked, rule.batch, stopped_on=then, both=shared
            )
            for c, shared in pairs
        ]
        return stats.PassBounds(bounds[0].low, bounds[-1].high)

    def _check_finished(self, then: npt.NDArray[np.int64]) -> None:
        assert self.stopping is not None
        unfinished = int(((self.n < self.asked) & (then < self.stopping.stop_after)).sum())
        if unfinished:
            raise RunError(
                f"{unfinished} problems are not drawn to the end of the stopping rule, and they are the hard ones. "
                "Run the same evaluate again to finish."
            )


def depends_on_results(c: npt.NDArray[np.int64], n: npt.NDArray[np.int64], names: Sequence[str] = ()) -> float | None:
    """The p-value of ``stats.n_rises_as_rate_falls`` if n seems to depend on the verdicts, else None.

    ``names``: ids of the problems. An interrupted top-up may have drawn the problems in numeric order (p2 before p10),
    while here they are in alphabetic order; both orders are tried.
    """
    if not n.any() or n.min() == n.max():  # the test is 1 for equal n
        return None
    orders = [np.arange(len(n))]
    if names:
        orders.append(np.array(sorted(range(len(n)), key=lambda i: _by_number(names[i]))))
    p_value = max(_p_value(*(counts[rows].astype(np.int64).tobytes() for counts in (c, n))) for rows in orders)
    return p_value if p_value <= ALARM else None


def _by_number(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part[:18]), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name)]


@functools.lru_cache(maxsize=8)
def _p_value(c: bytes, n: bytes) -> float:
    """The p-value for counts given as int64 bytes; cached, because every scorer of a run needs it."""
    return stats.n_rises_as_rate_falls(np.frombuffer(c, dtype=np.int64), np.frombuffer(n, dtype=np.int64))


def n_chosen(outcomes: Outcomes) -> float | None:
    """``depends_on_results`` of a run; None under a recorded stopping rule, which is corrected for."""
    known_rule = outcomes.stopping is not None or outcomes.restopped is not None
    return None if known_rule else depends_on_results(outcomes.n_correct, outcomes.n_samples, outcomes.problem_ids)


def _stop_columns(outcomes: Outcomes) -> list[npt.NDArray[np.int64]]:
    """The columns of ``Counts.stopped_on``, each (P,)."""
    then = outcomes.stopped_on
    assert then is not None
    error = outcomes.status == STATUSES.index("error")
    return [_count(outcomes, mask) for mask in (then, then & (outcomes.status == 0), then & error)]


def stop_counts(outcomes: Outcomes) -> dict[str, StopCounts]:
    """``Counts.stopped_on`` by problem, for a scorecard; empty where the rule used the present verdicts."""
    if outcomes.stopped_on is None:
        return {}
    rows = zip(outcomes.problem_ids, *(column.tolist() for column in _stop_columns(outcomes)), strict=True)
    return {name: StopCounts(correct=then, both=both, undecided=undecided) for name, then, both, undecided in rows}


def _count(outcomes: Outcomes, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    return np.bincount(outcomes.problem[mask], minlength=len(outcomes.problem_ids))


def _unless_few(errors: npt.NDArray[np.int64], n: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The errors, or 0 where they are too few to matter."""
    rate = float(np.mean(errors / np.maximum(n, 1))) if len(n) else 0.0
    return errors if rate > MOST_UNBOUNDED else np.zeros_like(errors)
