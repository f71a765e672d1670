"""A scorecard from per-problem counts only, without the estimates that need responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.manifest import Manifest
from rlvr_bench.records import STATUSES, Outcomes
from rlvr_bench.scorecard import SCORECARD_SCHEMA, Grading, ProblemScore, Scorecard, ScoredRun
from rlvr_bench.scorers.clustering import with_cluster_notes
from rlvr_bench.scorers.counts import n_chosen
from rlvr_bench.scorers.quality import quality_rates
from rlvr_bench.scorers.table import Given, estimates_of

__all__ = ["make_counted_scorecard"]


def make_counted_scorecard(
    manifest: Manifest,
    grading: Grading,
    counts: Sequence[tuple[str, int, int]],
    *,
    ks: Sequence[int] | None = None,
    clusters: Mapping[str, str] | None = None,
) -> Scorecard:
    """Score (problem id, n, c) triples: pass@k, the boundary, Cover@tau, G-Pass@k and the accuracy histogram.

    ``clusters``: cluster by problem id, for the problems that have one.

    Rates of quality, tokens, entropy, votes and answers have no value. Raises the errors of ``pass_at_k``.
    """
    n = np.array([triple[1] for triple in counts], dtype=np.int64)
    c = np.array([triple[2] for triple in counts], dtype=np.int64)
    names = tuple(name for name, _, _ in counts)
    groups = tuple((clusters or {}).get(name, "") for name in names)
    outcomes = msgspec.structs.replace(_outcomes(names, n, c), clusters=groups)
    estimates, left_out = estimates_of(Given(outcomes=outcomes, ks=ks, counts_only=True))
    run = ScoredRun.of(manifest, grading, n[n > 0].tolist())
    return Scorecard(
        schema=SCORECARD_SCHEMA,
        run=msgspec.structs.replace(run, n_chosen=n_chosen(outcomes)),
        problems=[
            ProblemScore(id=name, n=size, c=right, cluster=group, solve_rate_high=_bound(size, right))
            for (name, size, right), group in zip(counts, groups, strict=True)
        ],
        estimates=with_cluster_notes(estimates, outcomes),
        quality=dict.fromkeys(quality_rates(outcomes)),
        left_out=left_out,
    )


def _bound(n: int, c: int) -> float | None:
    """Upper 95 % limit of an unsolved problem's solve rate, from 0 of n; None for a solved one."""
    return None if c or not n else float(stats.unsolved_upper_bound(np.array([n]))[0])


def _outcomes(names: tuple[str, ...], n: npt.NDArray[np.int64], c: npt.NDArray[np.int64]) -> Outcomes:
    """Outcomes of which only the counts are meaningful: for each problem c correct rollouts, then the others."""
    problem = np.repeat(np.arange(len(n), dtype=np.int32), n)
    size = len(problem)
    index = np.arange(size) - np.repeat(np.cumsum(n) - n, n)
    nothing, missing = np.zeros(size, dtype=np.int32), np.broadcast_to(np.nan, size)
    return Outcomes(
        problem_ids=names,
        tiers=("",) * len(names),
        clusters=("",) * len(names),
        problem=problem,
        index=index.astype(np.int32),
        status=np.where(index < np.repeat(c, n), STATUSES.index("correct"), STATUSES.index("wrong")).astype(np.int8),
        answer=nothing,
        text=nothing,
        candidates=nothing,
        n_tokens=nothing,
        truncated=np.zeros(size, dtype=bool),
        logprob_sum=missing,
        entropy_mean=missing,
        branching_mean=missing,
        high_entropy_share=missing,
        asked=int(n.max(initial=0)),
        unknown=("answer", "candidates", "n_tokens", "truncated"),
    )
