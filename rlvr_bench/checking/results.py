"""What a check says, as plain records that go to JSON as they are."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Acceptance", "Check", "Finding", "NextLook", "Outcome"]

Outcome = Literal["ok", "regression", "cannot_tell"]


class NextLook(msgspec.Struct, frozen=True, kw_only=True):
    """What to draw before the next check: up to ``n`` rollouts per problem in both runs, and what that costs.

    ``rollouts``: new ones, over both runs and all problems; ``tokens``: as many as they have at the mean length so far, None
    where that is not known. The next look is at twice the rollouts, or at what would settle the finding where that is less.
    """

    n: int
    rollouts: int
    tokens: int | None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One rule on one run and its baseline.

    ``first`` and ``second`` are the metric's means in the baseline and in the run. ``worse_by`` is the change in the
    direction that the rule limits (a drop, or a rise), with one-sided limits ``low`` and ``high``, each at the check's
    level. ``p_value`` is that of a true change of at most the tolerance, ``p_holm`` the same corrected over all findings of
    the check. ``source`` says which error the limits hold: new "rollouts" of these very problems, or new "problems" too;
    "none" where run and baseline are one and the same draw. ``needed`` is the number of rollouts per problem in both runs
    (or of problems, where ``source`` is that) that would settle a finding of cannot_tell with a chance of 80 % were the
    change as estimated; None where it lies so close to the tolerance that no number will do. ``looks``: "any" where limits
    and p-value hold at every look while rollouts are added, "one" where they hold at a single one. ``next_look``: what to
    draw before the next look at a finding of cannot_tell; None where rollouts would not settle it, or at "one" look.
    Where rollouts or verdicts are missing, the change is at least ``worse_by`` and at most ``at_most``, whatever they would
    have been; ``low`` and ``high`` hold the error of both, and the p-value is that of the least change.
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
    """All findings: ``outcome`` is regression where there is one, else cannot_tell where there is one, else ok."""

    schema: int
    outcome: Outcome
    level: float
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """A scorecard accepted as a baseline: the file it came from, the file it went to, and the model it replaced there."""

    task: str
    model: str
    source: str
    baseline: str
    replaced: str | None
