"""What stands beside every pass@k: how many responses were cut, had no answer, or could not be decided."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlvr_bench.records import STATUSES, Outcomes
from rlvr_bench.scorers.common import optional, problem_means

__all__ = ["duplicates", "quality_rates"]


def quality_rates(outcomes: Outcomes) -> dict[str, float | None]:
    """Rates in [0, 1], each a mean over problems of the share of rollouts; ``tokens_per_response`` in tokens.

    ``duplicate_rate`` is the share of rollouts that repeat an earlier rollout of their problem to the letter;
    ``effective_n`` the mean number of distinct responses to a problem; ``several_answers_rate`` the share that stated
    more than one answer, of which the policy took one.
    """
    values: dict[str, npt.NDArray[np.generic]] = {
        "truncation_rate": outcomes.truncated,
        "no_answer_rate": outcomes.status == STATUSES.index("no_answer"),
        "error_rate": outcomes.status == STATUSES.index("error"),
        "duplicate_rate": duplicates(outcomes),
        "several_answers_rate": outcomes.candidates > 1,
        "tokens_per_response": outcomes.n_tokens,
    }
    sizes = np.bincount(outcomes.problem[~duplicates(outcomes)], minlength=len(outcomes.problem_ids))
    distinct = sizes[outcomes.n_samples > 0]
    means = {name: problem_means(outcomes, value) for name, value in values.items()}
    rates = {name: None if np.isnan(mean).all() else optional(float(np.nanmean(mean))) for name, mean in means.items()}
    return {**rates, "effective_n": float(distinct.mean()) if len(distinct) else None}


def duplicates(outcomes: Outcomes) -> npt.NDArray[np.bool_]:
    """True where a rollout repeats an earlier one of its problem word for word, (R,)."""
    pairs = outcomes.problem.astype(np.int64) * (int(outcomes.text.max(initial=0)) + 1) + outcomes.text
    repeated = np.ones(len(pairs), dtype=bool)
    repeated[np.unique(pairs, return_index=True)[1]] = False
    return repeated
