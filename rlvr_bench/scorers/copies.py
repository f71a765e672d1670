"""Rollouts that copy an earlier one: whether the draws of a run are independent, from stored log-probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.records import Estimate, Outcomes, SamplingParameters, Tools
from rlvr_bench.scorers.common import fewest

__all__ = ["NAME", "copied", "unknown_law"]

NAME = "copied_rate"
METHOD = "likelihood of copies among independent draws, from stored log-probabilities; these problems"
# An engine in half precision gives one response slightly different log-probabilities in different batches.
ROUNDING, ROUNDING_PER_TOKEN = 0.05, 0.01


def unknown_law(sampling: SamplingParameters | None, tools: Tools | None) -> str | None:
    """Why the stored log-probabilities are not those of the law that the rollouts were drawn from; None if they are.

    They are those of the model's own distribution, at temperature 1 and over the whole vocabulary.
    """
    if sampling is None:
        return "the run does not say how its rollouts were sampled"
    if not sampling.is_own_law:
        return "stored log-probabilities are those of the model's own law (temperature 1), and it was sampled otherwise"
    return "the text of a tool is part of the responses" if tools is not None else None


def copied(outcomes: Outcomes) -> list[Estimate]:
    """``copied_rate``: share of rollouts that are copies of an earlier rollout of their problem (``stats.copies``).

    The repeats that independent draws from a peaked policy give are no copies. The interval holds 0 exactly where the
    test of independence has a p-value above 5 %. Rollouts without a log-probability are left out.
    """
    known = ~np.isnan(outcomes.logprob_sum) & ~np.isinf(outcomes.logprob_sum)
    outcomes = outcomes.only(known)
    if not known.any():
        return []
    test = stats.copies(outcomes.problem, _sequences(outcomes), np.minimum(outcomes.logprob_sum, 0.0))
    return [
        Estimate(
            name=NAME,
            value=test.share,
            low=test.low,
            high=test.high,
            level=test.level,
            method=METHOD,
            n_problems=int((outcomes.n_samples > 0).sum()),
            n_samples=fewest(outcomes),
            note=f"{test.seen:,} repeats, {test.expected:,.1f} expected of independent draws; p = {test.p_value:.2g}",
        )
    ]


def _sequences(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    """Equal numbers for equal token sequences, (R,): equal texts with equally many tokens and equal log-probabilities.

    One text can be different sequences of tokens, which have probabilities of their own.
    """
    columns = (outcomes.logprob_sum, outcomes.n_tokens, outcomes.text, outcomes.problem)
    order = np.lexsort(columns)
    logprob, tokens, text, problem = (column[order] for column in columns)
    differs = np.diff(logprob) > ROUNDING + ROUNDING_PER_TOKEN * tokens[1:]
    for column in (tokens, text, problem):
        differs |= np.diff(column) != 0
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.concatenate([[0], np.cumsum(differs)])
    return numbers
