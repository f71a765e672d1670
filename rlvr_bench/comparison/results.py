"""What a comparison says, as plain records that go to JSON as they are."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "BoundaryChange",
    "ChangedProblems",
    "ComparedRun",
    "Comparison",
    "Crossover",
    "Difference",
    "NullSize",
    "Overlap",
    "PairComparison",
    "ProblemChange",
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

    ``k`` is the smallest budget at which the other run's mean pass@k is higher, None where no crossing is shown: where
    the data do not show at one level, for all budgets together, that one run leads at a budget and the other at a later
    one. ``low`` and ``high`` hold the interval; ``high`` None: beyond ``largest_k``; both None: no crossing in sight.
    ``low`` 1: the other run may lead from the start. ``changes`` counts all changes of lead of the two mean curves, shown
    or not, and ``last`` is the budget of the last one. ``leader`` is the label of the run that leads at small budgets,
    None where the curves are equal.
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

    ``n_gained`` to ``n_neither`` are expected sizes over all k-subsets of each run's rollouts; they sum to the number of
    problems and are plain counts where n = k. ``gains`` and ``losses`` set the first two against chance, None under a
    stopping rule. The ids are the problems that most likely make up each set: a problem is taken as solved where more than
    half of the k-subsets hold a correct rollout. Where n > k, there may be more or fewer of them than the expected size.
    ``p_net`` is that of gained and lost being equally large, by changing the signs of the problems' differences (of
    clusters, where there are some), which is McNemar's exact test where n = k. ``retention`` and ``discovery`` are SRR and
    NDR of arXiv 2507.14843, of the expected sizes.
    """

    k: int
    n_gained: float
    n_lost: float
    n_both: float
    n_neither: float
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    both: tuple[str, ...]
    neither: tuple[str, ...]
    gains: NullSize | None
    losses: NullSize | None
    p_net: float
    retention: float | None
    discovery: float | None


class ProblemChange(msgspec.Struct, frozen=True, kw_only=True):
    """One problem: its solve rate c/n in both runs, and the p-value of no change, also corrected over all problems."""

    id: str
    first: float
    second: float
    p_value: float
    p_adjusted: float


class ChangedProblems(msgspec.Struct, frozen=True, kw_only=True):
    """Single problems that the second run solves more often (``gained``) or less often (``lost``), clearest first.

    Of both lists together a share of at most ``rate`` is expected to be there by chance. ``tested``: how many problems
    could have been listed at all; the others have too few, or too many, correct rollouts in both runs.
    """

    gained: tuple[ProblemChange, ...]
    lost: tuple[ProblemChange, ...]
    tested: int
    rate: float
    method: str


class PairComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The ``second`` run against the ``first``, by label. ``problems`` is None where a run stopped early.

    ``gained_bounds`` and ``lost_bounds``: least and most expected size of each set of ``boundary`` over what the rollouts
    without a verdict could be; None where they are too few to matter.
    """

    first: str
    second: str
    pass_at_k: tuple[Difference, ...]
    crossover: Crossover
    boundary: BoundaryChange
    policy: tuple[Difference, ...]
    problems: ChangedProblems | None = None
    gained_bounds: tuple[float, float] | None = None
    lost_bounds: tuple[float, float] | None = None


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """The problems that exactly these runs solve at the common budget: a column of an UpSet chart.

    ``size`` is the expected number of them over k-subsets of each run's rollouts; ``ids`` most likely make them up.
    """

    solved_by: tuple[str, ...]
    size: float
    ids: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two or more runs on the same problems; every pair is a run against the first one given.

    ``looks``: "any" where intervals and p-values hold at every look while rollouts are added, "one" where they hold at a
    single look at numbers of rollouts fixed before.
    """

    schema: int
    task: str
    n_problems: int
    runs: tuple[ComparedRun, ...]
    pairs: tuple[PairComparison, ...]
    overlap_k: int
    overlaps: tuple[Overlap, ...]
    looks: Literal["one", "any"] = "one"
    notes: tuple[str, ...]
