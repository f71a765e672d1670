"""The best way to spend a number of tokens on a problem: long responses, or more of them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.comparison.cap_scores import BestSplit
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.common import clusters_of, fewest, mean_estimate
from rlvr_bench.scorers.counts import n_chosen
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.run import Run

__all__ = ["best_splits_of"]


def best_splits_of(runs: Sequence[Run]) -> tuple[tuple[BestSplit, ...], tuple[str, ...]]:
    """The best splits of a run at several caps, the run itself last, and notes; no splits where a note says why.

    The budgets are what 1, 2, 4, ... uncut rollouts cost, up to half of the fewest rollouts of a problem.
    """
    outcomes = read_outcomes(runs[-1])
    drawn = outcomes.n_samples[outcomes.n_samples > 0]
    most = int(drawn.min()) // 2
    if outcomes.stopping is not None or n_chosen(outcomes) is not None:
        return (), ("best splits need a number of rollouts that was fixed beforehand, and this run stopped early",)
    if most < 1:
        return (), ("best splits need at least two rollouts of every problem",)
    correct, cost = _columns(runs[:-1], outcomes)
    problem = np.unique(outcomes.problem, return_inverse=True)[1]
    uncut_ks = 2 ** np.arange(most.bit_length())
    tokens = uncut_ks * float((np.bincount(problem, weights=cost[:, -1]) / drawn).mean())
    splits = stats.best_splits(correct, cost, problem, tokens, rng=stats.fresh_rng())
    caps = [run.manifest.sampling.max_tokens for run in runs if run.manifest.sampling is not None]
    return tuple(_split(splits, x, caps, float(tokens[x]), int(uncut_ks[x]), outcomes) for x in range(len(tokens))), ()


def _columns(capped: Sequence[Run], outcomes: Outcomes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Correct, and tokens used, of each rollout at each cap, both (R, C); the uncut run is the last column."""
    correct, cost = [], []
    for run in capped:
        cut = read_outcomes(run)
        correct.append(cut.is_correct)
        cost.append(cut.n_tokens)
    return np.stack([*correct, outcomes.is_correct], axis=1), np.stack([*cost, outcomes.n_tokens], axis=1)


def _split(
    splits: stats.Splits, x: int, caps: Sequence[int], tokens: float, uncut_k: int, outcomes: Outcomes
) -> BestSplit:
    value, uncut = splits.fresh[:, x], splits.largest[:, x]
    clusters, n = clusters_of(outcomes, outcomes.n_samples > 0), fewest(outcomes)
    method = "mean over random halves of the rollouts: one chooses the cap, the other is counted"
    label = Estimate(name="pass at tokens", value=None, n_samples=n, method=method)

    def estimate(values: npt.NDArray[np.float64], group: str) -> Estimate:
        return mean_estimate(msgspec.structs.replace(label, group=group), values, clusters=clusters)

    return BestSplit(
        tokens=tokens,
        uncut_k=uncut_k,
        token_cap=caps[splits.cap[x]],
        k=float(splits.k[x]),
        naive=float(splits.naive[x]),
        value=estimate(value, "best cap"),
        uncut=estimate(uncut, "uncut"),
        gain=estimate(value - uncut, "gain"),
        chosen={cap: float(share) for cap, share in zip(caps, splits.chosen[x], strict=True) if share},
    )
