"""Quality rates, reported with every pass@k: responses that were truncated, had no answer, or were not decided."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import (
    clusters_of,
    fewest,
    mean_estimate,
    optional,
    problem_blocks,
    problem_means,
    rate_estimates,
    stated,
)

__all__ = ["duplicates", "quality", "quality_rates"]


def quality(outcomes: Outcomes, flags: Mapping[str, npt.NDArray[np.bool_]] | None = None) -> list[Estimate]:
    """The rates of ``quality_rates`` with intervals, and response length in tokens of all, correct and wrong rollouts.

    A rate is a mean over problems of the share of rollouts, with a bootstrap interval over problems. ``flags``:
    additional booleans per rollout (R,) by name, such as those of ``text_rules``. A flag NAME gives the estimate
    ``NAME_rate``.
    """
    drawn = outcomes.n_samples > 0
    if not drawn.any():
        return []
    clusters, used = clusters_of(outcomes, drawn), fewest(outcomes)
    columns = {**_rate_columns(outcomes), **{f"{name}_rate": flag for name, flag in (flags or {}).items()}}
    labels = [
        Estimate(name=name, value=None, method="share of rollouts, mean over problems", n_samples=used)
        for name in columns
    ]
    shares = np.stack([problem_means(outcomes, column)[drawn] for column in columns.values()], axis=1)
    estimates = rate_estimates(labels, shares, clusters)
    groups = {None: outcomes.status >= 0, "correct": outcomes.is_correct, "wrong": outcomes.has_status("wrong")}
    lengths = stated(outcomes, "n_tokens", outcomes.n_tokens)
    for group, mask in groups.items():
        label = Estimate(name="tokens_per_response", group=group, value=None, n_samples=fewest(outcomes, mask))
        means = problem_means(outcomes, np.where(mask, lengths, np.nan))[drawn]
        if mask.any():
            estimates.append(mean_estimate(label, means, floor=0.0, clusters=clusters))
    return estimates


def quality_rates(outcomes: Outcomes) -> dict[str, float | None]:
    """Rates in [0, 1], means over problems of the share of rollouts; ``tokens_per_response`` in tokens.

    - ``duplicate_rate``: rollouts whose text equals an earlier rollout of their problem.
    - ``distinct_texts``: mean number of distinct responses per problem.
    - ``several_answers_rate``: rollouts with more than one final answer, of which the answer policy used one.
    - ``unclosed_thought_rate``: rollouts that were cut before they closed their thought, a part of ``truncation_rate``.
    - With tools: tool calls, and failed tool calls, per response.
    """
    lengths = stated(outcomes, "n_tokens", outcomes.n_tokens)
    unclosed = outcomes.flags.get("unclosed_thought")
    thoughts = {} if unclosed is None else {"unclosed_thought_rate": unclosed}
    values = {**_rate_columns(outcomes), **thoughts, "tokens_per_response": lengths}
    if outcomes.tool_calls is not None and outcomes.tool_errors is not None:
        calls = {"tool_calls_per_response": outcomes.tool_calls, "tool_errors_per_response": outcomes.tool_errors}
        values = {**values, **calls}
    sizes = np.bincount(outcomes.problem[~duplicates(outcomes)], minlength=len(outcomes.problem_ids))
    distinct = sizes[outcomes.n_samples > 0]
    means = {name: problem_means(outcomes, value) for name, value in values.items()}
    rates = {name: None if np.isnan(mean).all() else optional(float(np.nanmean(mean))) for name, mean in means.items()}
    return {**rates, "distinct_texts": float(distinct.mean()) if len(distinct) else None}


def duplicates(outcomes: Outcomes) -> npt.NDArray[np.bool_]:
    """True where a rollout has the same text as an earlier one of its problem, (R,)."""
    base = int(outcomes.text.max(initial=0)) + 1
    repeated = np.ones(len(outcomes.text), dtype=bool)
    for _, rows in problem_blocks(outcomes.n_samples):
        pairs = outcomes.problem[rows].astype(np.int64) * base + outcomes.text[rows]
        repeated[rows][np.unique(pairs, return_index=True)[1]] = False
    return repeated


def _rate_columns(outcomes: Outcomes) -> dict[str, npt.NDArray[np.generic]]:
    return {
        "truncation_rate": stated(outcomes, "truncated", outcomes.truncated),
        "no_answer_rate": stated(outcomes, "no_answer", outcomes.has_status("no_answer")),
        "error_rate": outcomes.has_status("error"),
        "duplicate_rate": duplicates(outcomes),
        "several_answers_rate": stated(outcomes, "candidates", outcomes.candidates > 1),
    }
