"""The scorers, in the order of a scorecard's estimates, with the data that each needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from rlvr_bench import scorers
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.copies import NAME as COPIED_RATE
from rlvr_bench.scorers.copies import copied
from rlvr_bench.scorers.cost import tokens_to_first_success
from rlvr_bench.scorers.cot import cot_pass_at_k
from rlvr_bench.scorers.counts import n_chosen
from rlvr_bench.scorers.guessing import corrected
from rlvr_bench.scorers.instructions import instructions
from rlvr_bench.scorers.stopping import settled

__all__ = ["SCORERS", "Given", "Judged", "Need", "Scorer", "estimates_of", "has_answers"]

# "fair sample": only rollouts that no stopping rule chose. Pure counts of n and c meet no need.
Need = Literal["responses", "fair sample", "answers", "token statistics", "law of the draws", "judge"]


_NOT_MEASURED = "no token statistics were measured"


@dataclasses.dataclass(frozen=True)
class Judged:
    """A judge's verdicts on the rollouts, both (R,): correct and ``valid``; correct and ``undecided``."""

    valid: npt.NDArray[np.bool_]
    undecided: npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """The input of scorers. ``counts_only``: of ``outcomes`` only n and c are meaningful.

    ``ks``: budgets asked for; None for the default of each scorer. ``flags``: booleans per rollout (R,) by name.
    ``unknown_law``: why stored log-probabilities are not those of the law of the draws; None if they are.
    """

    outcomes: Outcomes
    ks: Sequence[int] | None = None
    answer_space: int | None = None
    flags: Mapping[str, npt.NDArray[np.bool_]] = dataclasses.field(default_factory=dict)
    judged: Judged | None = None
    counts_only: bool = False
    unknown_law: str | None = "the run does not say how its rollouts were sampled"

    def fair(self) -> Given:
        """Only the rollouts that no stopping rule selected.

        If n seems to depend on the verdicts, the first rollouts of each problem, as many as the smallest n.
        """
        if n_chosen(self.outcomes) is not None:
            n = self.outcomes.n_samples
            keep = self.outcomes.index < n[n > 0].min()
            return self._only(self.outcomes.only(keep), keep)
        return self._only(self.outcomes.fair(), self.outcomes.is_fair)

    def settled(self) -> Given:
        """Only the rollouts that count where a rule stopped on other verdicts (``stopping.settled``)."""
        outcomes = settled(self.outcomes)
        if outcomes is self.outcomes:
            return self
        return self._only(outcomes, self.outcomes.index < outcomes.n_samples[self.outcomes.problem])

    def _only(self, outcomes: Outcomes, keep: npt.NDArray[np.bool_]) -> Given:
        flags = {name: flag[keep] for name, flag in self.flags.items()}
        judged = self.judged and Judged(self.judged.valid[keep], self.judged.undecided[keep])
        return dataclasses.replace(self, outcomes=outcomes, flags=flags, judged=judged)


@dataclasses.dataclass(frozen=True)
class Scorer:
    """``score`` returns the estimates ``names``, from all rollouts or, if in ``needs``, from the fair sample."""

    names: tuple[str, ...]
    score: Callable[[Given], list[Estimate]]
    needs: frozenset[Need]

    def unmet(self, given: Given) -> str | None:
        """The reason why it cannot be computed; None where it can."""
        return next((reason for need, reason in _lacking(given).items() if need in self.needs), None)


def _scorer(names: str, score: Callable[[Given], list[Estimate]], *needs: Need) -> Scorer:
    return Scorer(tuple(names.split()), score, frozenset(needs))


SCORERS = (
    _scorer("pass@k", lambda given: scorers.pass_at_k(given.outcomes, given.ks)),
    _scorer(
        "guess@k",
        lambda given: scorers.guessing(given.outcomes, given.ks, given.answer_space),
        *("responses", "answers"),
    ),
    _scorer("corrected_pass@k", lambda given: corrected(given.outcomes, given.ks)),
    _scorer("unsolved", lambda given: scorers.boundary(given.outcomes)),
    _scorer("unsolved@k", lambda given: scorers.unsolved_sizes(given.outcomes, given.ks)),
    _scorer("cover cover_posterior", lambda given: scorers.cover(given.outcomes)),
    _scorer("never_solved", lambda given: scorers.never_solved(given.outcomes)),
    _scorer("accuracy_histogram", lambda given: scorers.accuracy_histogram(given.outcomes), "fair sample"),
    _scorer("g_pass@k mg_pass@k", lambda given: scorers.g_pass(given.outcomes), "fair sample"),
    _scorer("maj@k", lambda given: scorers.maj(given.outcomes), "responses", "fair sample", "answers"),
    _scorer(
        "token_entropy branching_factor perplexity high_entropy_share entropy_profile",
        lambda given: scorers.entropy(given.outcomes),
        *("responses", "fair sample", "token statistics"),
    ),
    _scorer(
        "distinct_answers@k answer_entropy answer_entropy@k wrong_answer_entropy@k",
        lambda given: scorers.diversity(given.outcomes),
        *("responses", "fair sample", "answers"),
    ),
    _scorer(COPIED_RATE, lambda given: copied(given.outcomes), "responses", "law of the draws"),
    _scorer("distinct_texts@k", lambda given: scorers.text_diversity(given.outcomes), "responses", "fair sample"),
    _scorer(
        "truncation_rate no_answer_rate error_rate duplicate_rate several_answers_rate tokens_per_response",
        lambda given: scorers.quality(given.outcomes, given.flags),
        *("responses", "fair sample"),
    ),
    _scorer(
        "tokens_to_first_success", lambda given: tokens_to_first_success(given.outcomes), "responses", "fair sample"
    ),
    _scorer(
        "instructions_followed prompts_followed",
        lambda given: instructions(given.outcomes),
        *("responses", "fair sample"),
    ),
    _scorer("cot_pass@k valid_reasoning", lambda given: _cot(given), "responses", "judge"),
)


def estimates_of(given: Given) -> tuple[list[Estimate], dict[str, str]]:
    """The estimates of all scorers whose needs are met, and by name of the other estimates the reason.

    Raises the errors of ``pass_at_k``.
    """
    fair = given.fair()
    estimates: list[Estimate] = []
    left_out: dict[str, str] = {}
    for scorer in SCORERS:
        reason = scorer.unmet(given)
        if reason is not None:
            left_out |= dict.fromkeys(scorer.names, reason)
        if reason is None or reason == _NOT_MEASURED:  # a scorecard has these estimates without a value
            estimates += scorer.score(fair if "fair sample" in scorer.needs else given)
    return estimates, left_out


def has_answers(outcomes: Outcomes) -> bool:
    """Whether it is known which wrong answers are equal; votes, diversity and guesses need this."""
    return "answer" not in outcomes.unknown


def _lacking(given: Given) -> dict[Need, str]:
    """The needs that are not met, with the reasons; the most general reason is first."""
    lacking: dict[Need, str] = {}
    if given.counts_only:
        lacking["responses"] = "the run has counts alone, no responses"
    if not has_answers(given.outcomes):
        lacking["answers"] = "the source of the run does not say which answers agree"
    if not _has_token_statistics(given.outcomes):
        lacking["token statistics"] = _NOT_MEASURED
    if given.unknown_law is not None:
        lacking["law of the draws"] = given.unknown_law
    elif np.isnan(given.outcomes.logprob_sum).all():
        lacking["law of the draws"] = "no log-probabilities were measured"
    if given.counts_only and n_chosen(given.outcomes) is not None:
        lacking["fair sample"] = "n seems to depend on what was found, and no rollouts are known that it did not choose"
    if given.judged is None:
        lacking["judge"] = "no judge has seen every correct rollout (rlvr-bench judge)"
    return lacking


def _has_token_statistics(outcomes: Outcomes) -> bool:
    columns = ("logprob_sum", "entropy_mean", "branching_mean", "high_entropy_share")
    bounds = ("entropy_low", "entropy_high", "branching_low", "branching_high")
    statistics = [getattr(outcomes, name) for name in (*columns, *bounds)]
    return any(values is not None and not np.isnan(values).all() for values in statistics)


def _cot(given: Given) -> list[Estimate]:
    judged = given.judged
    return [] if judged is None else cot_pass_at_k(given.outcomes, judged.valid, judged.undecided, given.ks)
