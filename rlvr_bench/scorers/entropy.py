"""Token entropy, branching factor and perplexity of the policy, and the profile of entropy along responses."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.metrics import BRANCHING_FACTOR, TOKEN_ENTROPY
from rlvr_bench.records import STATUSES, Estimate, Outcomes, Status
from rlvr_bench.scorers.common import clusters_of, fewest, mean_estimate

__all__ = ["entropy", "length_matched", "perplexities"]

BINS_PER_OCTAVE = 4  # lengths in one bin are within 19 % of each other


@dataclasses.dataclass(frozen=True)
class _Statistic:
    """An estimate's name, its per-rollout values (R,), and the smallest value it can have."""

    name: str
    values: npt.NDArray[np.floating]
    floor: float


def entropy(outcomes: Outcomes) -> list[Estimate]:
    """Token entropy (nats), branching factor (tokens in the 0.95 nucleus), perplexity, high-entropy share, profile.

    Means over a rollout's tokens, then over rollouts, then over problems (arXiv 2507.14843 sec. 5.1 for entropy; arXiv
    2508.07534 sec. 2 for branching; perplexity is exp of minus the mean log-probability of the sampled tokens). There
    are estimates for all rollouts, for correct ones, for wrong ones, and for correct and wrong ones of equal length
    (``length_matched``). ``entropy_profile`` is the mean entropy by relative position for all, correct and wrong
    rollouts; ``group`` names the bin. All are exact statistics of the model's distribution at temperature 1. Without
    them the value is None. If the engine reports truncated log-probabilities, the estimates are the means of bounds,
    ``token_entropy_low`` to ``branching_factor_high``.
    """
    exact = [
        _Statistic(TOKEN_ENTROPY.name, outcomes.entropy_mean, TOKEN_ENTROPY.low),
        _Statistic(BRANCHING_FACTOR.name, outcomes.branching_mean, BRANCHING_FACTOR.low),
        _Statistic("perplexity", perplexities(outcomes), 1.0),
        _Statistic("high_entropy_share", outcomes.high_entropy_share, 0.0),
    ]
    estimates = []
    for statistic in (*exact, *_bounds(outcomes)):
        estimates += _by_group(outcomes, statistic)
    for statistic in exact:
        estimates += _matched(outcomes, statistic)
    return estimates + _profile(outcomes)


def perplexities(outcomes: Outcomes) -> npt.NDArray[np.float64]:
    """Perplexity of each rollout under the policy that drew it, (R,); NaN where it was not measured."""
    n_tokens = np.where(outcomes.n_tokens > 0, outcomes.n_tokens, np.nan)
    return np.asarray(np.exp(-outcomes.logprob_sum / n_tokens))


def length_matched(
    outcomes: Outcomes, values: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean value (R,) of each problem's correct and of its wrong rollouts at equal lengths, both (P,).

    Wrong responses are longer, and entropy changes along a response, so plain means compare different positions. Here a
    problem's rollouts are sorted into bins of length, a quarter of an octave wide. Correct and wrong rollouts are
    averaged within each bin that has both, and both have the same weights of bins, the smaller of the two counts. NaN
    for a problem without such a bin.
    """
    known = ~np.isnan(values) & (outcomes.n_tokens > 0)
    bins = np.floor(np.log2(np.maximum(outcomes.n_tokens, 1)) * BINS_PER_OCTAVE).astype(np.int64)
    width = int(bins.max(initial=0)) + 1
    cell = outcomes.problem.astype(np.int64) * width + bins
    size = len(outcomes.problem_ids) * width
    sums, counts = [], []
    for status in ("correct", "wrong"):
        mask = known & outcomes.has_status(status)
        counts.append(np.bincount(cell[mask], minlength=size).reshape(-1, width))
        sums.append(np.bincount(cell[mask], weights=values[mask], minlength=size).reshape(-1, width))
    weight = np.minimum(counts[0], counts[1])
    correct, wrong = (
        _ratio((weight * total / np.maximum(count, 1)).sum(axis=1), weight.sum(axis=1))
        for total, count in zip(sums, counts, strict=True)
    )
    return correct, wrong


def _bounds(outcomes: Outcomes) -> list[_Statistic]:
    """The means of bounds, where a server reported those instead of the exact statistics."""
    bounds = (
        (TOKEN_ENTROPY, "low", outcomes.entropy_low),
        (TOKEN_ENTROPY, "high", outcomes.entropy_high),
        (BRANCHING_FACTOR, "low", outcomes.branching_low),
        (BRANCHING_FACTOR, "high", outcomes.branching_high),
    )
    return [
        _Statistic(f"{metric.name}_{side}", values, metric.low)
        for metric, side, values in bounds
        if values is not None and not np.isnan(values).all()
    ]


def _by_group(outcomes: Outcomes, statistic: _Statistic) -> list[Estimate]:
    """Estimates for all rollouts, then for the correct and for the wrong ones, if any was measured."""
    label = Estimate(name=statistic.name, value=None)
    return _groups(outcomes, label, *_cell_sums(outcomes, statistic.values), floor=statistic.floor)


def _cell_sums(
    outcomes: Outcomes, values: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Sum and number of the values (R,) that are not NaN, by problem and status, both (P, 4)."""
    known = ~np.isnan(values)
    cell = outcomes.problem[known].astype(np.int64) * len(STATUSES) + outcomes.status[known]
    size = len(outcomes.problem_ids) * len(STATUSES)
    counts = np.bincount(cell, minlength=size)
    sums = np.asarray(np.bincount(cell, weights=values[known], minlength=size), dtype=np.float64)
    return sums.reshape(-1, len(STATUSES)), counts.reshape(-1, len(STATUSES))


def _groups(
    outcomes: Outcomes,
    label: Estimate,
    sums: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    *,
    floor: float,
) -> list[Estimate]:
    """``label`` with the means over all, over correct and over wrong rollouts, from (P, 4) sums and counts."""
    groups: dict[str | None, tuple[Status, ...]] = {None: STATUSES, "correct": ("correct",), "wrong": ("wrong",)}
    estimates = []
    for group, statuses in groups.items():
        columns = [STATUSES.index(status) for status in statuses]
        count = counts[:, columns].sum(axis=1)
        if group is None or count.any():
            one = msgspec.structs.replace(
                label,
                group=", ".join(filter(None, (group, label.group))) or None,
                n_samples=int(count[count > 0].min()) if count.any() else 0,
            )
            means = _ratio(sums[:, columns].sum(axis=1), count)
            estimates.append(mean_estimate(one, means, floor=floor, clusters=clusters_of(outcomes)))
    return estimates


def _matched(outcomes: Outcomes, statistic: _Statistic) -> list[Estimate]:
    correct, wrong = length_matched(outcomes, statistic.values)
    if np.isnan(correct).all():
        return []
    method = "mean over length bins with both, then problems"
    used = fewest(outcomes, ~np.isnan(statistic.values))
    groups = (
        ("correct, length-matched", correct, statistic.floor),
        ("wrong, length-matched", wrong, statistic.floor),
        ("wrong less correct, length-matched", wrong - correct, -np.inf),
    )
    return [
        mean_estimate(
            Estimate(name=statistic.name, group=group, value=None, method=method, n_samples=used),
            means,
            floor=floor,
            clusters=clusters_of(outcomes),
        )
        for group, means, floor in groups
    ]


def _profile(outcomes: Outcomes) -> list[Estimate]:
    """Mean entropy in each bin of relative position; nothing where no rollout has a profile."""
    profile = outcomes.entropy_profile
    if profile is None:
        return []
    bins = profile.total.shape[2]
    estimates = []
    for i in range(bins):
        label = Estimate(name="entropy_profile", group=f"{i / bins:.2f}-{(i + 1) / bins:.2f}", value=None)
        estimates += _groups(outcomes, label, profile.total[:, :, i], profile.count[:, :, i], floor=0.0)
    return estimates


def _ratio(total: npt.NDArray[np.float64], count: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """``total / count``, NaN where the count is 0."""
    return np.asarray(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))
