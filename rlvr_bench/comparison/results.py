"""The records of a comparison's result, which are written to JSON without changes."""

from __future__ import annotations

from typing import Literal

import msgspec

from rlvr_bench.comparison.cap_scores import BestSplit

__all__ = [
    "BoundaryChange",
    "ChangedProblems",
    "ComparedRun",
    "Comparison",
    "Crossover",
    "Difference",
    "EqualTokens",
    "ErrorComparison",
    "NullSize",
    "Overlap",
    "PairComparison",
    "ProblemChange",
    "TrueDifference",
]


class ComparedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a comparison: its label, its scorecard file, and its rollouts per problem."""

    label: str
    scorecard: str
    n_min: int
    n_max: int


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A paired mean difference over problems, ``value`` = ``second`` - ``first``, in [``low``, ``high``] at ``level``.

    ``p_value`` is that of no difference. ``p_holm`` is corrected for all differences of its family in the whole
    comparison; pass@k at all budgets and pairs of runs is one family, the policy statistics are the other.

    Where rollouts or verdicts are missing, the difference is between ``at_least`` and ``at_most`` for any values of
    them, [``low``, ``high``] includes the error of both bounds, and the p-value is the largest possible one. Where
    rollouts are missing, ``first``, ``second`` and ``value`` are None; where only verdicts are missing, they count
    these rollouts as not correct.
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

    ``k`` is the smallest budget at which the other run's mean pass@k is higher. It is None where no crossing is shown,
    that is, where a test at one level for all budgets together does not show that one run leads at a budget and the
    other at a later one. ``low`` and ``high`` are the interval. ``high`` None means above ``largest_k``; both None
    means no crossing up to ``largest_k``. ``low`` 1 means that the other run may lead from the start. ``changes`` is
    the number of changes of lead of the two mean curves, shown or not, and ``last`` is the budget of the last one.
    ``leader`` is the label of the run that leads at small budgets, None where the curves are equal.
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
    """Size of a set, and for two runs of one policy its ``expected`` size, interval and upper-tail p-value."""

    observed: float
    expected: float
    low: float
    high: float
    p_value: float
    p_holm: float | None = None


class BoundaryChange(msgspec.Struct, frozen=True, kw_only=True):
    """The sets of problems that k rollouts solve: only the second run (gained), only the first (lost), both, neither.

    ``n_gained`` to ``n_neither`` are expected sizes over all k-subsets of each run's rollouts; they sum to the number
    of problems and are plain counts where n = k. ``gains`` and ``losses`` test the first two against chance; None under
    a stopping rule. The ids are the most likely members of each set: a problem counts as solved where more than half of
    the k-subsets contain a correct rollout. Where n > k, their number may differ from the expected size. ``p_net``
    tests that gained and lost are equally large, by the sign-flip permutation test over problems (or clusters); it is
    McNemar's exact test where n = k. ``retention`` and ``discovery`` are SRR and NDR of arXiv 2507.14843, of the
    expected sizes.
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
    """One problem: its solve rate c/n in both runs, and the p-value of no change, also corrected for all problems."""

    id: str
    first: float
    second: float
    p_value: float
    p_adjusted: float


class ChangedProblems(msgspec.Struct, frozen=True, kw_only=True):
    """Single problems that the second run solves more often (``gained``) or less often (``lost``), clearest first.

    The false discovery rate of both lists together is at most ``rate``. ``tested``: the number of problems for which a
    small enough p-value is attainable; the others have too few or too many correct rollouts in both runs.
    """

    gained: tuple[ProblemChange, ...]
    lost: tuple[ProblemChange, ...]
    tested: int
    rate: float
    method: str


class EqualTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs at equal numbers of tokens per problem: pass@k of each where its k rollouts use them.

    ``k`` of the differences, and ``k``, ``low``, ``high``, ``last`` and ``largest_k`` of the crossover, are tokens per
    problem. ``first_tokens`` and ``second_tokens``: mean tokens per response, over problems. ``splits``: the best splits
    of tokens of each run that has them, by label.
    """

    first_tokens: float
    second_tokens: float
    differences: tuple[Difference, ...]
    crossover: Crossover
    splits: dict[str, tuple[BestSplit, ...]] = {}


class TrueDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A difference, or a number of problems, at budget ``k`` with the verifier's error in value and interval."""

    k: int
    value: float
    low: float
    high: float
    level: float


class ErrorComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs with the verifier's error of both: differences in pass@k, second minus first; crossover; and the expected
    numbers of problems that only the second (``gained``) or only the first solves with ``k`` rollouts.

    ``explained_gained`` and ``explained_lost``: problems not called gained or lost, because their correct rollouts are no
    more than false positives explain.
    """

    pass_at_k: tuple[TrueDifference, ...]
    crossover: Crossover
    k: int
    gained: TrueDifference
    lost: TrueDifference
    explained_gained: tuple[str, ...]
    explained_lost: tuple[str, ...]


class PairComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The ``second`` run against the ``first``, by label. ``problems`` is None where a run stopped early.

    ``gained_bounds`` and ``lost_bounds``: smallest and largest expected size of each set of ``boundary``, over all
    possible verdicts of the rollouts without one; None where these are too few to matter. ``equal_tokens``: None unless
    asked for. ``verifier_error`` is None unless both runs were scored with the verifier's error.
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
    equal_tokens: EqualTokens | None = None
    verifier_error: ErrorComparison | None = None


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """The problems that exactly these runs solve at the common budget: a column of an UpSet chart.

    ``size`` is their expected number over k-subsets of each run's rollouts; ``ids`` are the most likely members.
    """

    solved_by: tuple[str, ...]
    size: float
    ids: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two or more runs on the same problems; every pair is a run against the first one given.

    ``looks``: "any" if intervals and p-values are valid at every look while rollouts are added, "one" if they are valid
    at a single look at numbers of rollouts fixed before.
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
