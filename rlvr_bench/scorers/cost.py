"""The cost of a correct rollout: the tokens generated until the first one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlvr_bench.records import STATUSES, Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, fewest, mean_estimate, stated

__all__ = ["expected_cost", "tokens_to_first_success"]

_METHOD = "expectation over orders of the rollouts, mean over problems"


def tokens_to_first_success(outcomes: Outcomes) -> list[Estimate]:
    """Mean over problems of ``expected_cost``, in tokens, with Student's t interval over problems.

    The cost of an unsolved problem has no finite estimate. The estimate over all problems uses the tokens of all
    rollouts of such a problem, a lower bound, and the note gives the number of such problems. The group "solved" leaves
    them out: it is not a bound, but two policies that solve different problems have it for different problems.
    """
    drawn = outcomes.n_samples > 0
    unsolved = drawn & (outcomes.n_correct == 0)
    if not drawn.any():
        return []
    cost, clusters = expected_cost(outcomes), clusters_of(outcomes)
    few, size = int(unsolved.sum()), int(drawn.sum())
    notes = {
        None: f"a lower bound: {few} of {size} problems are unsolved and count the tokens of all their rollouts",
        "solved": f"{few} of {size} problems are unsolved and are left out",
    }
    values = {None: cost, "solved": np.where(unsolved, np.nan, cost)}
    return [
        mean_estimate(
            Estimate(
                name="tokens_to_first_success",
                group=group,
                value=None,
                method=_METHOD,
                n_samples=fewest(outcomes),
                note=note if few and not np.isnan(cost).all() else None,
            ),
            values[group],
            floor=0.0,
            clusters=clusters,
        )
        for group, note in notes.items()
    ]


def expected_cost(outcomes: Outcomes) -> npt.NDArray[np.float64]:
    """Expected tokens of each problem until its first correct rollout, or until all n are drawn, (P,).

    The n rollouts are in random order. A rollout that is not correct comes before all c correct ones with probability 1
    / (c + 1), and each correct one is the first of them with probability 1 / c:

        E = (tokens of the rollouts that are not correct) / (c + 1) + (mean tokens of the correct ones).

    At c = 0 this is the tokens of all n rollouts. Over fresh rollouts E is unbiased for the expected tokens of a policy
    that stops at its first success or after n rollouts. NaN for a problem without rollouts, and where lengths are
    unknown.
    """
    size = len(outcomes.problem_ids)
    correct = outcomes.status == STATUSES.index("correct")
    tokens = np.asarray(stated(outcomes, "n_tokens", outcomes.n_tokens), dtype=np.float64)
    of_correct, of_others = (
        np.bincount(outcomes.problem[mask], weights=tokens[mask], minlength=size) for mask in (correct, ~correct)
    )
    c = outcomes.n_correct
    cost = of_others / (c + 1) + of_correct / np.maximum(c, 1)
    return np.asarray(np.where(outcomes.n_samples > 0, cost, np.nan))
