"""Comparison of runs on the same problems: paired differences, crossover, boundary sets. Reads scorecards only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from rlvr_bench import stats
from rlvr_bench.comparison.cards import Incomparable, RunCounts, align, clusters, read_card
from rlvr_bench.comparison.curves import crossover, looks_of, pass_differences, policy_differences
from rlvr_bench.comparison.equal_tokens import equal_tokens
from rlvr_bench.comparison.results import (
    BoundaryChange,
    ChangedProblems,
    ComparedRun,
    Comparison,
    Crossover,
    Difference,
    EqualTokens,
    ErrorComparison,
    NullSize,
    Overlap,
    PairComparison,
    ProblemChange,
)
from rlvr_bench.comparison.sets import boundary_change, overlaps
from rlvr_bench.comparison.singles import changed_problems
from rlvr_bench.comparison.true_sets import compared_with_error, without_explained
from rlvr_bench.comparison.undecided import MOST_ERRORS, refuse_errors, set_bounds, without_chosen
from rlvr_bench.errors import BadArgument
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.scorers.clustering import MUCH_WIDER
from rlvr_bench.scorers.solve_rate import default_ks

__all__ = [
    "BoundaryChange",
    "ChangedProblems",
    "ComparedRun",
    "Comparison",
    "Crossover",
    "Difference",
    "EqualTokens",
    "ErrorComparison",
    "Incomparable",
    "NullSize",
    "Overlap",
    "PairComparison",
    "ProblemChange",
    "compare",
    "compare_cards",
]

SCHEMA = 1
REPLICATES_PER_TEST = 100  # so that Holm's correction can still reach 0.01


def compare(
    paths: Sequence[str | Path],
    ks: Sequence[int] | None = None,
    allow: Collection[str] = (),
    *,
    looks: Literal["one", "any"] = "one",
    allow_errors: bool = False,
    at_equal_tokens: bool = False,
) -> Comparison:
    """Compare runs, given as run folders or scorecard files, each against the first.

    ``ks``: budgets (default: powers of two up to the largest that every problem has in all runs, and that one).
    ``allow``: names of fields in which the runs may differ (``chat_template``, ``verifier_version``, ``problems``,
    ...). ``looks``: "any" makes intervals and p-values valid at every look while rollouts are added
    (``stats.sequential``), and intervals about one and a half times as wide; by default they are valid for one look at
    numbers of rollouts fixed before. ``allow_errors``: also compare runs whose verifier failed on more than 1 % of the
    rollouts; the bounds include all verdicts that these could have had. ``at_equal_tokens``: also compare them where both
    use the same number of tokens (``equal_tokens``). Raises RunError where a scorecard is missing,
    or its verifier failed too often; Incomparable (a RunError) where the runs answer different questions; BadArgument
    for fewer than two runs or a budget that no problem has.
    """
    cards = [read_card(path) for path in paths]
    return compare_cards(cards, ks, allow, looks=looks, allow_errors=allow_errors, at_equal_tokens=at_equal_tokens)


def compare_cards(
    cards: Sequence[tuple[Path, Scorecard]],
    ks: Sequence[int] | None = None,
    allow: Collection[str] = (),
    *,
    looks: Literal["one", "any"] = "one",
    allow_errors: bool = False,
    at_equal_tokens: bool = False,
) -> Comparison:
    """``compare`` for scorecards already read, each with its file."""
    if len(cards) < 2:
        raise BadArgument("runs", len(cards), "must be at least two")
    ids, runs, notes = align(cards, allow)
    if not allow_errors:
        refuse_errors(cards, MOST_ERRORS, "compare them all the same with --allow-errors")
    largest = min(run.largest_k for run in runs)
    if largest < 1:
        raise BadArgument("runs", 0, "must have at least one rollout of every problem")
    grid = default_ks(largest) if ks is None else _checked(ks, runs)
    tests = (len(runs) - 1) * max(len(grid), 3)
    replicates = max(2000, REPLICATES_PER_TEST * tests)
    pairs = [_pair(ids, runs[0], run, grid, replicates, every_look=looks == "any") for run in runs[1:]]
    if at_equal_tokens:
        pairs = [
            msgspec.structs.replace(
                pair, equal_tokens=equal_tokens(runs[0], run, replicates, every_look=looks == "any")
            )
            for pair, run in zip(pairs, runs[1:], strict=True)
        ]
    return Comparison(
        schema=SCHEMA,
        task=cards[0][1].run.task,
        n_problems=len(ids),
        runs=tuple(
            ComparedRun(label=run.label, scorecard=str(run.file), n_min=int(run.n.min()), n_max=int(run.n.max()))
            for run in runs
        ),
        pairs=tuple(_corrected(pairs)),
        overlap_k=largest,
        overlaps=tuple(overlaps(ids, runs, largest)),
        looks=looks,
        notes=(*notes, *_size_notes(runs, largest, grid), *_cluster_notes(runs, pairs, every_look=looks == "any")),
    )


def _pair(
    ids: Sequence[str],
    first: RunCounts,
    second: RunCounts,
    grid: Sequence[int],
    replicates: int,
    *,
    every_look: bool,
) -> PairComparison:
    largest = min(first.largest_k, second.largest_k)
    looks = looks_of(first, second, every=every_look)
    gained, lost = set_bounds(first, second, largest)
    change = boundary_change(ids, first, second, largest, replicates, looks)
    change, crossing = without_chosen(first, second, change, crossover(first, second, every_look=every_look))
    compared = None if every_look else compared_with_error(ids, first, second, grid, largest)
    change, compared = without_explained(first, second, change, compared)
    return PairComparison(
        first=first.label,
        second=second.label,
        pass_at_k=tuple(pass_differences(first, second, grid, replicates, every_look=every_look)),
        crossover=crossing,
        boundary=change,
        policy=tuple(policy_differences(first, second, replicates, every_look=every_look)),
        problems=changed_problems(ids, first, second),
        gained_bounds=gained,
        lost_bounds=lost,
        verifier_error=compared,
    )


def _checked(ks: Sequence[int], runs: Sequence[RunCounts]) -> list[int]:
    grid = sorted(set(ks))
    most = min(run.counts.most for run in runs)
    for k in grid:
        if not 1 <= k <= most:
            raise BadArgument("--k", k, f"must lie between 1 and {most}, the most rollouts of a problem in every run")
    return grid


def _corrected(pairs: Sequence[PairComparison]) -> list[PairComparison]:
    """Holm's correction (1979) over all pairs; the families are pass@k, policy statistics, boundary sets, equal tokens."""
    curves = _holm_differences([pair.pass_at_k for pair in pairs])
    policies = _holm_differences([pair.policy for pair in pairs])
    tokens = _holm_differences([pair.equal_tokens.differences if pair.equal_tokens else () for pair in pairs])
    sizes = [size for pair in pairs for size in (pair.boundary.gains, pair.boundary.losses) if size is not None]
    adjusted = iter(stats.holm([size.p_value for size in sizes]).tolist() if sizes else [])
    result = []
    for pair, curve, policy, at_tokens in zip(pairs, curves, policies, tokens, strict=True):
        gains, losses = (
            size and msgspec.structs.replace(size, p_holm=next(adjusted))
            for size in (pair.boundary.gains, pair.boundary.losses)
        )
        boundary = msgspec.structs.replace(pair.boundary, gains=gains, losses=losses)
        equal = pair.equal_tokens and msgspec.structs.replace(pair.equal_tokens, differences=at_tokens)
        result.append(
            msgspec.structs.replace(pair, pass_at_k=curve, policy=policy, boundary=boundary, equal_tokens=equal)
        )
    return result


def _holm_differences(families: Sequence[Sequence[Difference]]) -> list[tuple[Difference, ...]]:
    flat = [item for family in families for item in family]
    if not flat:
        return [() for _ in families]
    p_values = np.array([np.nan if item.p_value is None else item.p_value for item in flat])
    adjusted = iter(stats.holm(p_values).tolist())
    return [tuple(msgspec.structs.replace(item, p_holm=next(adjusted)) for item in family) for family in families]


def _cluster_notes(runs: Sequence[RunCounts], pairs: Sequence[PairComparison], *, every_look: bool) -> list[str]:
    """Notes on intervals at the smallest budget that clusters widen by more than a fifth."""
    if clusters(runs[0]) is None:
        return []
    widest, k = 0.0, 1
    for run, pair in zip(runs[1:], pairs, strict=True):
        with_clusters = pair.pass_at_k[0]
        if with_clusters.at_least is not None:  # bounds: their interval is wider than that of a mean
            continue
        k = with_clusters.k or 1
        values = [side.pass_table([k]) for side in (run, runs[0])]
        level = looks_of(runs[0], run, k, every=every_look).single_level(with_clusters.level)
        options = stats.Resampling(level=level)
        rng = stats.fresh_rng()
        alone = stats.paired_bootstrap_mean(values[0], values[1], rng=rng, options=options).difference
        width = float(alone.high[0] - alone.low[0])
        widest = max(widest, ((with_clusters.high or 0.0) - (with_clusters.low or 0.0)) / width if width > 0 else 0.0)
    if not widest > MUCH_WIDER:
        return []
    return [f"clusters of problems that resemble one another widen the interval of pass@{k} by {widest - 1:.0%}"]


def _size_notes(runs: Sequence[RunCounts], largest: int, grid: Sequence[int]) -> list[str]:
    notes = []
    if len({(run.n.min(), run.n.max()) for run in runs}) > 1 or any(run.n.min() != run.n.max() for run in runs):
        notes.append(f"rollouts per problem differ: sets and crossover are taken at k = {largest}, which all have")
    if grid[-1] > largest:
        notes.append(f"above k = {largest} problems have fewer rollouts than k: differences are bounds")
    measured = [run.label for run in runs if run.error is not None]
    if measured and len(measured) < len(runs):
        notes.append(f"the verifier's error is known of {', '.join(measured)} alone: no difference has it")
    if any(run.stopping for run in runs):
        notes.append("a run stopped early on solved problems: boundary sets have no expectation under chance")
    notes += [
        f"{run.label}: {run.counts.errors.sum():,} of {run.n.sum():,} rollouts have no verdict: bounds take them as all wrong "
        "and all right; crossover and listed problems take them as wrong"
        for run in runs
        if run.counts.errors.any()
    ]
    notes += [
        f"{run.label}: n seems to depend on what was found: differences are bounds that hold under any stopping rule; "
        "the listed problems are those of a fixed n"
        for run in runs
        if run.counts.chosen
    ]
    return notes
