"""One file with the estimates of all scorers, the counts per problem, and the description of the run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import __version__, stats
from rlvr_bench.manifest import Manifest
from rlvr_bench.records import Outcomes
from rlvr_bench.scorecard import SCORECARD_SCHEMA, Grading, ProblemScore, Scorecard, ScoredRun, ScoredWith
from rlvr_bench.scorers.answers import answer_counts, wrong_answers
from rlvr_bench.scorers.clustering import with_cluster_notes
from rlvr_bench.scorers.common import optional, problem_means, stated
from rlvr_bench.scorers.copies import unknown_law
from rlvr_bench.scorers.counts import n_chosen, stop_counts
from rlvr_bench.scorers.diversity import distinct_answers, distinct_texts, entropy_ks, rarefied_entropies
from rlvr_bench.scorers.quality import duplicates, quality_rates
from rlvr_bench.scorers.table import Given, Judged, estimates_of, has_answers
from rlvr_bench.scorers.votes import vote_ks

__all__ = ["how_scored", "make_scorecard"]


def make_scorecard(
    manifest: Manifest,
    grading: Grading,
    outcomes: Outcomes,
    *,
    ks: Sequence[int] | None = None,
    answer_space: int | None = None,
    flags: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    judged: Judged | None = None,
) -> Scorecard:
    """Score one graded run. The scorecard has n and c of each problem, so that its reader can choose any k.

    ``ks``: budgets of pass@k, the unsolved counts and the guesses (default: powers of two up to n, and n).
    ``answer_space``: the number of possible answers, if the task declares it. ``flags``: booleans per rollout (R,) by
    name (``quality``). ``judged``: a judge's verdicts. For a run whose rule stopped on other verdicts, pass the
    outcomes from ``stopping.settled``. Raises the errors of ``pass_at_k``.
    """
    given = Given(
        outcomes=outcomes,
        ks=ks,
        answer_space=answer_space,
        flags=flags or {},
        judged=judged,
        unknown_law=unknown_law(manifest.sampling, manifest.tools),
    ).settled()
    outcomes = given.outcomes
    estimates, left_out = estimates_of(given)
    fair = given.fair().outcomes
    drawn = outcomes.n_samples[outcomes.n_samples > 0]
    run = ScoredRun.of(manifest, grading, drawn.tolist(), how_scored(ks))
    return Scorecard(
        schema=SCORECARD_SCHEMA,
        run=msgspec.structs.replace(run, restopped=outcomes.restopped, n_chosen=n_chosen(outcomes)),
        problems=_per_problem(outcomes, fair),
        estimates=with_cluster_notes(estimates, outcomes),
        quality=quality_rates(fair),
        left_out=left_out,
        stopped_on=stop_counts(outcomes),
    )


def how_scored(ks: Sequence[int] | None) -> ScoredWith:
    """What a scorecard depends on in addition to the run: our version, and the budgets asked for."""
    return ScoredWith(version=__version__, ks=None if ks is None else list(ks))


def _per_problem(outcomes: Outcomes, fair: Outcomes) -> list[ProblemScore]:
    size = len(outcomes.problem_ids)
    n, c = outcomes.n_samples, outcomes.n_correct
    no_answer, error = (
        np.bincount(outcomes.problem[outcomes.has_status(name)], minlength=size) for name in ("no_answer", "error")
    )
    truncated = np.bincount(outcomes.problem[outcomes.truncated], minlength=size)
    repeated = np.bincount(outcomes.problem[duplicates(outcomes)], minlength=size)
    tokens = problem_means(outcomes, stated(outcomes, "n_tokens", outcomes.n_tokens))
    entropy, branching = (problem_means(fair, values) for values in (fair.entropy_mean, fair.branching_mean))
    bounds = stats.unsolved_upper_bound(n) if size else n
    distinct, spread, wrong = _answers_by_k(fair)
    texts = _by_k(vote_ks(int(fair.n_samples.max(initial=0))), lambda grid: distinct_texts(fair, grid))
    return [
        ProblemScore(
            id=name,
            tier=outcomes.tiers[i],
            cluster=outcomes.clusters[i],
            n=int(n[i]),
            c=int(c[i]),
            no_answer=None if "no_answer" in outcomes.unknown else int(no_answer[i]),
            error=int(error[i]),
            truncated=None if "truncated" in outcomes.unknown else int(truncated[i]),
            duplicates=int(repeated[i]),
            tokens_mean=optional(tokens[i]),
            entropy_mean=optional(entropy[i]),
            branching_mean=optional(branching[i]),
            solve_rate_high=float(bounds[i]) if n[i] and not c[i] else None,  # 95 % bound from 0 of n
            distinct_answers=distinct[i],
            answer_entropy=spread[i],
            wrong_entropy=wrong[i],
            distinct_texts=texts[i],
        )
        for i, name in enumerate(outcomes.problem_ids)
    ]


def _answers_by_k(fair: Outcomes) -> tuple[Sequence[dict[int, float] | None], ...]:
    """Distinct answers, answer entropy and wrong-answer entropy of each problem, each by k."""
    size = len(fair.problem_ids)
    if not has_answers(fair):
        return [None] * size, [None] * size, [None] * size
    counts = answer_counts(fair)
    by_kind = [
        _by_k(
            entropy_ks(np.bincount(part.problem, weights=part.count, minlength=size).astype(np.int64)),
            functools.partial(rarefied_entropies, part, size),
        )
        for part in (counts, wrong_answers(counts))
    ]
    distinct = _by_k(vote_ks(int(fair.n_samples.max(initial=0))), lambda grid: distinct_answers(fair, grid))
    return distinct, *by_kind


def _by_k(grid: Sequence[int], values: Callable[[Sequence[int]], npt.NDArray[np.float64]]) -> list[dict[int, float]]:
    """``values`` (P, K) at the budgets ``grid`` as a dictionary by k for each problem, without undefined ones."""
    return [
        {k: value for k, value in zip(grid, row, strict=True) if not np.isnan(value)} for row in values(grid).tolist()
    ]
