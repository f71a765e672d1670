"""All scorers' estimates, per-problem counts and the run's own description in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import __version__, scorers, stats
from rlvr_bench.records import STATUSES, Estimate, Outcomes, Scorecard
from rlvr_bench.scorers.common import optional, problem_means, stated
from rlvr_bench.scorers.diversity import distinct_answers
from rlvr_bench.scorers.quality import duplicates
from rlvr_bench.scorers.votes import vote_ks
from rlvr_bench.store.manifest import Manifest
from rlvr_bench.store.verdicts import Grading

__all__ = ["SCORECARD_SCHEMA", "how_scored", "make_scorecard"]

SCORECARD_SCHEMA = 1


def make_scorecard(
    manifest: Manifest,
    grading: Grading,
    outcomes: Outcomes,
    *,
    ks: Sequence[int] | None = None,
    answer_space: int | None = None,
    flags: Mapping[str, npt.NDArray[np.bool_]] | None = None,
) -> Scorecard:
    """Score one graded run. Per-problem n and c are kept, so that k stays free for whoever reads the scorecard.

    ``ks``: budgets of pass@k, the unsolved counts and the guesses (default: powers of two up to n, and n).
    ``answer_space``: how many answers the task has, where that is declared. ``flags``: marks of each rollout (R,) by name
    (``quality``). Raises the errors of ``pass_at_k``.
    """
    fair = outcomes.fair()
    fair_flags = {name: flag[outcomes.is_fair] for name, flag in (flags or {}).items()}
    drawn = outcomes.n_samples[outcomes.n_samples > 0]
    run: dict[str, Any] = {
        **msgspec.to_builtins(manifest),
        "grading": msgspec.to_builtins(grading),
        "scored": how_scored(ks),
        "n_problems_drawn": len(drawn),
        "n_min": int(drawn.min()) if len(drawn) else 0,
        "n_max": int(drawn.max(initial=0)),
    }
    return Scorecard(
        schema=SCORECARD_SCHEMA,
        run=run,
        problems=_per_problem(outcomes, fair),
        estimates=[
            *scorers.pass_at_k(outcomes, ks),
            *(scorers.guessing(outcomes, ks, answer_space) if _has_answers(outcomes) else []),
            *scorers.boundary(outcomes),
            *scorers.unsolved_sizes(outcomes, ks),
            *scorers.cover(outcomes),
            *_of_responses(fair),
            *scorers.quality(fair, fair_flags),
        ],
        quality=scorers.quality_rates(fair),
    )


def how_scored(ks: Sequence[int] | None) -> dict[str, Any]:
    """What decides a scorecard besides the run: our version, and the budgets asked for."""
    return {"version": __version__, "ks": None if ks is None else list(ks)}


def _of_responses(fair: Outcomes) -> list[Estimate]:
    """What needs a fair sample of responses."""
    return [
        *scorers.accuracy_histogram(fair),
        *scorers.g_pass(fair),
        *(scorers.maj(fair) if _has_answers(fair) else []),
        *scorers.entropy(fair),
        *(scorers.diversity(fair) if _has_answers(fair) else []),
    ]


def _has_answers(outcomes: Outcomes) -> bool:
    """Whether it is known which wrong answers agree: votes, diversity and guesses count those."""
    return "answer" not in outcomes.unknown


def _per_problem(outcomes: Outcomes, fair: Outcomes) -> list[dict[str, Any]]:
    size = len(outcomes.problem_ids)
    n, c = outcomes.n_samples, outcomes.n_correct
    counts = {
        name: np.bincount(outcomes.problem[outcomes.status == code], minlength=size)
        for code, name in enumerate(STATUSES)
    }
    truncated = np.bincount(outcomes.problem[outcomes.truncated], minlength=size)
    repeated = np.bincount(outcomes.problem[duplicates(outcomes)], minlength=size)
    means = {
        "tokens_mean": problem_means(outcomes, stated(outcomes, "n_tokens", outcomes.n_tokens)),
        "entropy_mean": problem_means(fair, fair.entropy_mean),
        "branching_mean": problem_means(fair, fair.branching_mean),
    }
    bounds = stats.unsolved_upper_bound(n) if size else n
    entries = []
    for i, name in enumerate(outcomes.problem_ids):
        entry = {
            "id": name,
            "tier": outcomes.tiers[i],
            "cluster": outcomes.clusters[i],
            "n": int(n[i]),
            "c": int(c[i]),
            "no_answer": int(counts["no_answer"][i]),
            "error": int(counts["error"][i]),
            "truncated": None if "truncated" in outcomes.unknown else int(truncated[i]),
            "duplicates": int(repeated[i]),
            **{key: optional(mean[i]) for key, mean in means.items()},
        }
        if n[i] and not c[i]:
            entry["solve_rate_high"] = float(bounds[i])  # 95 % bound from 0 of n
        entries.append(entry)
    return _with_distinct(entries, fair)


def _with_distinct(entries: list[dict[str, Any]], fair: Outcomes) -> list[dict[str, Any]]:
    """Adds the expected number of distinct answers among k of a problem's answers, by k, where it gave that many."""
    if not _has_answers(fair):
        return entries
    grid = vote_ks(int(fair.n_samples.max(initial=0)))
    for entry, row in zip(entries, distinct_answers(fair, grid).tolist(), strict=True):
        entry["distinct_answers"] = {str(k): value for k, value in zip(grid, row, strict=True) if not np.isnan(value)}
    return entries
