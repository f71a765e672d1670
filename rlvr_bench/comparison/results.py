"""What a comparison says, as plain records that go to JSON as they are."""

from __future__ import annotations

import msgspec

__all__ = [
    "BoundaryChange",
    "ComparedRun",
    "Comparison",
    "Crossover",
    "Difference",
    "NullSize",
    "Overlap",
    "PairComparison",
]


class ComparedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a comparison: how it is called here, its scorecard file, and its rollouts per problem."""

    label: str
    scorecard: str
    n_min: int
    n_max: int


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A paired mean difference over problems, ``value`` = ``second`` - ``first``, in [``low``, ``high``] at ``level``.

    ``p_value`` is that of no difference, ``p_holm`` the same corrected for all differences of its family in the whole
    comparison: pass@k at every budget and pair of runs is one family, the policy statistics are the other.
    Where rollouts or verdicts are missing, the difference is at least ``at_least`` and at most ``at_most`` whatever they
    would have been, [``low``, ``high``] holds the error of both, and the p-value is the largest that they leave possible.
    Where rollouts are missing ``first``, ``second`` and ``value`` are None; where verdicts are, they take their rollouts as
    not correct.
    """

    name: str
    k: int | None = None
    first: float | None
    second: float | None
    value: float | None
    low: float | None
    high: float | None
    at_least: float | None = None
    at_most: float | None = None
    level: float
    p_value: float | None
    p_holm: float | None = None
    n_problems: int
    method: str


class Crossover(msgspec.Struct, frozen=True, kw_only=True):
    """Where the run that leads at the smallest budget is overtaken.

    ``k`` is the smallest budget at which the other run's mean pass@k is higher, None where there is none up to
    ``largest_k``. ``low`` and ``high`` hold the interval; ``high`` None: beyond ``largest_k``; both None: no crossing in
    sight. ``low`` 1: the other run may lead from the start. ``changes`` counts all changes of lead and ``last`` is the
    budget of the last one. ``leader`` is the label of the leading run, None where the curves are equal.
    """

    text: str
    leader: str | None
    k: int | None
    low: int | None
    high: int | None
    last: int | None
    changes: int
    largest_k: int
    level: float
    method: str


class NullSize(msgspec.Struct, frozen=True, kw_only=True):
    """How large a set is, against two runs of one and the same policy: ``expected`` size, interval, upper p-value."""

    observed: float
    expected: float
    low: float
    high: float
    p_value: float
    p_holm: float | None = None


class BoundaryChange(msgspec.Struct, frozen=True, kw_only=True):
    """The sets of problems that k rollouts solve: only the second run (gained), only the first (lost), both, neither.

    The ids take a problem as solved where more than half of the k-subsets of its rollouts hold a correct one, which is
    c > 0 where n = k. ``gains`` and ``losses`` set the (expected) sizes against chance, None under a stopping rule.
    ``p_net`` is McNemar's exact test that gained and lost are equally likely. ``retention`` and ``discovery`` are SRR and
    NDR of arXiv 2507.14843.
    """

    k: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    both: tuple[str, ...]
    neither: tuple[str, ...]
    gains: NullSize | None
    losses: NullSize | None
    p_net: float
    retention: float | None
    discovery: float | None


class PairComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The ``second`` run against the ``first``, by label.

    ``gained_bounds`` and ``lost_bounds``: least and most expected size of each set of ``boundary`` over what the rollouts
    without a verdict could be; None where they are too few to matter.
    """

    first: str
    second: str
    pass_at_k: tuple[Difference, ...]
    crossover: Crossover
    boundary: BoundaryChange
    policy: tuple[Difference, ...]
    gained_bounds: tuple[float, float] | None = None
    lost_bounds: tuple[float, float] | None = None


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """The problems that exactly these runs solve at the common budget: a column of an UpSet chart."""

    solved_by: tuple[str, ...]
    ids: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two or more runs on the same problems; every pair is a run against the first one given."""

    schema: int
    task: str
    n_problems: int
    runs: tuple[ComparedRun, ...]
    pairs: tuple[PairComparison, ...]
    overlap_k: int
    overlaps: tuple[Overlap, ...]
    notes: tuple[str, ...]
