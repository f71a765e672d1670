"""All scorers' estimates, per-problem counts and the run's own description in one file."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from rlvr_bench.records import STATUSES, Estimate, Outcomes, Scorecard
from rlvr_bench.scorers import boundary, entropy, pass_at_k
from rlvr_bench.scorers.common import optional, problem_means
from rlvr_bench.scorers.quality import duplicates, quality_rates
from rlvr_bench.store.manifest import Manifest
from rlvr_bench.store.verdicts import Grading

__all__ = ["SCORECARD_SCHEMA", "make_scorecard"]

SCORECARD_SCHEMA = 1


def make_scorecard(manifest: Manifest, grading: Grading, outcomes: Outcomes) -> Scorecard:
    """Score one graded run. Per-problem n and c are kept, so that k stays free for whoever reads the scorecard."""
    # A stopping rule looks at verdicts: what it kept is no fair sample of responses, its first batch is.
    fair = outcomes if outcomes.stopping is None else outcomes.first(outcomes.stopping.batch)
    estimates: list[Estimate] = [*pass_at_k(outcomes), *boundary(outcomes), *entropy(fair)]
    drawn = outcomes.n_samples[outcomes.n_samples > 0]
    run: dict[str, Any] = {
        **msgspec.to_builtins(manifest),
        "grading": msgspec.to_builtins(grading),
        "n_problems_drawn": len(drawn),
        "n_min": int(drawn.min()) if len(drawn) else 0,
        "n_max": int(drawn.max(initial=0)),
    }
    return Scorecard(
        schema=SCORECARD_SCHEMA,
        run=run,
        problems=_per_problem(outcomes),
        estimates=estimates,
        quality=quality_rates(fair),
    )


def _per_problem(outcomes: Outcomes) -> list[dict[str, Any]]:
    size = len(outcomes.problem_ids)
    counts = {
        name: np.bincount(outcomes.problem[outcomes.status == code], minlength=size)
        for code, name in enumerate(STATUSES)
    }
    truncated = np.bincount(outcomes.problem[outcomes.truncated], minlength=size)
    repeated = np.bincount(outcomes.problem[duplicates(outcomes)], minlength=size)
    entropy = problem_means(outcomes, outcomes.entropy_mean)
    branching = problem_means(outcomes, outcomes.branching_mean)
    tokens = problem_means(outcomes, outcomes.n_tokens)
    return [
        {
            "id": name,
            "tier": outcomes.tiers[i],
            "n": int(outcomes.n_samples[i]),
            "c": int(outcomes.n_correct[i]),
            "no_answer": int(counts["no_answer"][i]),
            "error": int(counts["error"][i]),
            "truncated": int(truncated[i]),
            "duplicates": int(repeated[i]),
            "tokens_mean": optional(tokens[i]),
            "entropy_mean": optional(entropy[i]),
            "branching_mean": optional(branching[i]),
        }
        for i, name in enumerate(outcomes.problem_ids)
    ]
