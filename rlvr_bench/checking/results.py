"""The records of a check's result, which are written to JSON without changes."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Acceptance", "Check", "Finding", "NextLook", "Outcome"]

Outcome = Literal["ok", "regression", "cannot_tell"]


class NextLook(msgspec.Struct, frozen=True, kw_only=True):
    """The rollouts to draw before the next check: up to ``n`` per problem in both runs, and their cost.

    ``rollouts``: number of new ones, over both runs and all problems. ``tokens``: their tokens at the present mean
    length, None where that is not known. The next look is at twice the rollouts, or at ``Finding.needed`` if that is
    less.
    """

    n: int
    rollouts: int
    tokens: int | None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One rule on one run and its baseline.

    ``first`` and ``second`` are the metric's means in the baseline and in the run. ``worse_by`` is the change in the
    direction that the rule limits (a drop, or a rise), with one-sided limits ``low`` and ``high``, each at the check's
    level. ``p_value`` is that of a true change of at most the tolerance, ``p_holm`` is corrected over all findings of
    the check. ``source`` is the error that the limits include: "rollouts", new rollouts of these same problems;
    "problems", also new problems; "none" where run and baseline are the same draw.

    ``needed`` is the number of rollouts per problem in both runs (or of problems, by ``source``) that would settle a
    finding of cannot_tell with 80 % power if the change is as estimated; None where the change is so close to the
    tolerance that no number is enough. ``looks``: "any" if limits and p-value are valid at every look while rollouts
    are added, "one" if they are valid at a single look. ``next_look``: what to draw before the next look at a finding
    of cannot_tell; None where rollouts would not settle it, or if ``looks`` is "one".

    Where rollouts or verdicts are missing, the change is between ``worse_by`` and ``at_most`` for any values of them;
    ``low`` and ``high`` include the error of both bounds, and the p-value is that of the least change.
    """

    task: str
    run: str
    baseline: str
    rule: str
    metric: str
    tolerance: float
    first: float
    second: float
    worse_by: float
    at_most: float | None = None
    low: float
    high: float
    p_value: float
    p_holm: float
    outcome: Outcome
    n_problems: int
    n_samples: int
    source: Literal["rollouts", "problems", "none"]
    method: str
    looks: Literal["any", "one"] = "one"
    needed: int | None = None
    next_look: NextLook | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """All findings: ``outcome`` is regression if any finding is, else cannot_tell if any finding is, else ok."""

    schema: int
    outcome: Outcome
    level: float
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """A scorecard accepted as a baseline: its file, the file of the baseline, and the model that it replaced."""

    task: str
    model: str
    source: str
    baseline: str
    replaced: str | None
