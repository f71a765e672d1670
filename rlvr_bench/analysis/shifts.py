"""Where probability moved between two checkpoints: divergence, perplexities, and strata of tokens of a rescored run.

The log ratio of a token is log other(y) - log own(y); a token *moved* where |other(y) - own(y)| exceeds a threshold. The
first of two passes finds the deciles of token entropy and the fifths of perplexity, the second sums every stratum per
problem. Memory holds one shard and the sums.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

from rlvr_bench import stats
from rlvr_bench.analysis.rescored import ScoredTokens
from rlvr_bench.analysis.shift_results import Stratum
from rlvr_bench.analysis.token_categories import CATEGORIES
from rlvr_bench.records import STATUSES, Estimate
from rlvr_bench.scorers.common import mean_estimate

__all__ = ["GROUPS", "Setting", "Shifts", "ratio_estimate", "token_shifts"]

GROUPS = ("all", "correct", "wrong")
ENTROPY_BINS = 10
POSITION_BINS = 10
PERPLEXITY_BINS = 5
_CORRECT, _WRONG = STATUSES.index("correct"), STATUSES.index("wrong")
_STATUS_GROUPS = 3  # correct, wrong, anything else
_METRICS = ("tokens", "moved", "log_ratio", "own_entropy", "other_entropy", "own_nucleus", "other_nucleus")
_WHOLE = ("k1", "k3", "kl", "kl_reverse")
_ROLLOUT = ("rollouts", "own_perplexity", "other_perplexity", "own_log", "other_log", "divergence")

Categorise = Callable[[ScoredTokens], npt.NDArray[np.int8]]
Read = Callable[[], Iterable[ScoredTokens]]


@dataclasses.dataclass(frozen=True)
class Shifts:
    """Estimates over the whole run, strata, and the numbers of problems, rollouts and tokens."""

    estimates: tuple[Estimate, ...]
    strata: tuple[Stratum, ...]
    n_problems: int
    n_rollouts: int
    n_tokens: int


@dataclasses.dataclass(frozen=True)
class Setting:
    """The run: P problems, their cluster labels (P,), the status of rollout ``index`` of problem ``p`` at
    ``status[p, index]`` (0 correct, 1 wrong, other values: another one), and the threshold of a move.
    """

    n_problems: int
    status: npt.NDArray[np.int8]
    threshold: float
    clusters: npt.NDArray[np.str_] | None = None


@dataclasses.dataclass
class _Bins:
    """One stratification: labels and sums of the bins, and the smallest and largest value of each."""

    by: str
    labels: tuple[str, ...]
    sums: npt.NDArray[np.float64]  # (groups, problems, bins, metrics)
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, by: str, labels: Sequence[str], problems: int, metrics: int) -> _Bins:
        sums = np.zeros((_STATUS_GROUPS, problems, len(labels), metrics))
        return cls(by, tuple(labels), sums, np.full(len(labels), np.inf), np.full(len(labels), -np.inf))

    def add(
        self, cell: npt.NDArray[np.int64], bin_number: npt.NDArray[Any], columns: Sequence[npt.NDArray[Any]]
    ) -> None:
        """Add T values to the sums of their (group, problem) ``cell`` and bin ``bin_number``."""
        flat = cell * len(self.labels) + bin_number
        size = self.sums[..., 0].size
        for number, column in enumerate(columns):
            self.sums[..., number] += np.bincount(flat, column, minlength=size).reshape(self.sums.shape[:3])

    def span(self, bin_number: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
        """Widen the bins to include their values (T,)."""
        np.minimum.at(self.low, bin_number, values)
        np.maximum.at(self.high, bin_number, values)

    def group(self, name: str) -> npt.NDArray[np.float64]:
        """Sums (problems, bins, metrics) of one group."""
        return np.asarray(self.sums.sum(axis=0) if name == "all" else self.sums[GROUPS.index(name) - 1])


def token_shifts(read: Read, categorise: Categorise, setting: Setting) -> Shifts:
    """Sum up a rescored run. ``read`` returns its shards, and is called twice.

    ``categorise``: category of every token of a shard, (T,). Means are token means within a problem, then means over
    problems with Student's t intervals (clusters of problems where the task has them); shares of tokens and of moves
    are ratios of totals with the standard error of a ratio, clustered by problem.
    """
    deciles, fifths = _quantiles(read())
    P = setting.n_problems
    whole = _Bins.empty("", ["all"], P, len(_METRICS) + len(_WHOLE))
    rollouts = _Bins.empty("", ["all"], P, len(_ROLLOUT))
    strata = [
        _Bins.empty("entropy", [f"{i + 1} of {ENTROPY_BINS}" for i in range(ENTROPY_BINS)], P, len(_METRICS)),
        _Bins.empty("position", [f"{i + 1} of {POSITION_BINS}" for i in range(POSITION_BINS)], P, len(_METRICS)),
        _Bins.empty("perplexity", [f"{i + 1} of {PERPLEXITY_BINS}" for i in range(PERPLEXITY_BINS)], P, len(_METRICS)),
        _Bins.empty("category", CATEGORIES, P, len(_METRICS)),
    ]
    exact = True
    for shard in read():
        exact &= shard.kl is not None
        of_rollout = _cells(shard, setting)
        cell, columns = np.repeat(of_rollout, shard.n_tokens), _columns(shard, setting.threshold)
        k1, k3 = _estimators(shard)
        kl, kl_reverse = (np.full(len(k1), np.nan) if c is None else c for c in (shard.kl, shard.kl_reverse))
        whole.add(cell, np.zeros(len(cell), dtype=np.int64), [*columns, k1, k3, kl, kl_reverse])
        rollouts.add(
            of_rollout, np.zeros(len(of_rollout), np.int64), _rollout_columns(shard, k1 if shard.kl is None else kl)
        )
        for bins, (bin_number, values) in zip(
            strata, _bin_numbers(shard, deciles, fifths, categorise(shard)), strict=True
        ):
            bins.add(cell, bin_number, columns)
            if values is not None:
                bins.span(bin_number, values)
    return Shifts(
        estimates=tuple(_whole_estimates(whole, rollouts, setting, exact=exact)),
        strata=tuple(row for bins in strata for group in GROUPS for row in _rows(bins, group, setting)),
        n_problems=int((rollouts.group("all")[:, 0, 0] > 0).sum()),
        n_rollouts=int(rollouts.sums[..., 0].sum()),
        n_tokens=int(whole.sums[..., 0].sum()),
    )


def ratio_estimate(
    label: Estimate,
    part: npt.NDArray[np.float64],
    whole: npt.NDArray[np.float64],
    clusters: npt.NDArray[np.str_] | None = None,
) -> Estimate:
    """Share of totals, sum(part) / sum(whole) over problems (P,), with a t interval clustered by problem (or cluster).

    The linearised standard error of a ratio: sqrt(G/(G-1) sum_g (part_g - share whole_g)^2) / sum(whole).
    """
    total = float(whole.sum())
    if not total:
        return msgspec.structs.replace(label, value=None, note="no token")
    share = float(part.sum()) / total
    present = whole > 0
    labels = np.arange(len(whole)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    units = np.unique(labels[present], return_inverse=True)[1]
    residuals = np.bincount(units, weights=(part - share * whole)[present])
    low, high, count = None, None, len(residuals)
    if count > 1:
        error = math.sqrt(count / (count - 1) * float(residuals @ residuals)) / total
        half = float(special.stdtrit(count - 1, 0.5 + stats.LEVEL / 2)) * error
        low, high = max(0.0, share - half), min(1.0, share + half)
    method = "ratio of totals; t interval clustered by problem"
    n = int(present.sum())
    return msgspec.structs.replace(
        label, value=share, low=low, high=high, level=stats.LEVEL, method=method, n_problems=n
    )


# ------------------------------------------------------------------------------------------------ first pass
def _quantiles(shards: Iterable[ScoredTokens]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Entropy decile of every float16 bit pattern, (32768,), and the inner edges of the fifths of perplexity, (4,).

    Entropies are stored as float16, whose bit patterns have the order of the values, so counting patterns is exact. Equal
    entropies are in the same decile, that of their middle rank.
    """
    counts = np.zeros(2**15, dtype=np.int64)
    perplexities = []
    for shard in shards:
        counts += np.bincount(_patterns(shard.own_entropy), minlength=2**15)
        perplexities.append(_means(shard, -shard.own_logprob.astype(np.float64)))
    rank = np.cumsum(counts) - counts / 2
    deciles = np.minimum(ENTROPY_BINS - 1, (ENTROPY_BINS * rank / max(1, counts.sum())).astype(np.int64))
    known = np.concatenate([*perplexities, np.zeros(0)])
    known = np.exp(known[~np.isnan(known)])
    inner = np.arange(1, PERPLEXITY_BINS) / PERPLEXITY_BINS
    return deciles, np.quantile(known, inner) if len(known) else np.ones(PERPLEXITY_BINS - 1)


def _patterns(entropy: npt.NDArray[np.float16]) -> npt.NDArray[np.int64]:
    return np.abs(entropy).view(np.uint16).astype(np.int64)  # -0.0 is 0.0


# ------------------------------------------------------------------------------------------------ second pass
def _cells(shard: ScoredTokens, setting: Setting) -> npt.NDArray[np.int64]:
    """Number of the (group, problem) cell of each rollout, (R,)."""
    known = shard.index < setting.status.shape[1]
    status = np.where(known, setting.status[shard.problem, np.where(known, shard.index, 0)], -1)
    group = np.where(status == _CORRECT, 0, np.where(status == _WRONG, 1, 2)).astype(np.int64)
    return group * setting.n_problems + shard.problem


def _columns(shard: ScoredTokens, threshold: float) -> list[npt.NDArray[Any]]:
    """The values of ``_METRICS``, each (T,)."""
    drawn, other = shard.own_logprob.astype(np.float64), shard.other_logprob.astype(np.float64)
    moved = np.abs(np.exp(other) - np.exp(drawn)) > threshold
    entropies = shard.own_entropy.astype(np.float64), shard.other_entropy.astype(np.float64)
    return [np.ones(len(drawn)), moved, other - drawn, *entropies, shard.own_nucleus, shard.other_nucleus]


def _estimators(shard: ScoredTokens) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """k1 = -log r and k3 = r - 1 - log r of each token, r = other / own (Schulman 2020), (T,)."""
    log_ratio = shard.other_logprob.astype(np.float64) - shard.own_logprob.astype(np.float64)
    return -log_ratio, np.expm1(log_ratio) - log_ratio


def _rollout_columns(shard: ScoredTokens, divergence: npt.NDArray[np.generic]) -> list[npt.NDArray[np.float64]]:
    """The values of ``_ROLLOUT``, each (R,); 0 for rollouts without tokens."""
    drawn, other = (_means(shard, -column.astype(np.float64)) for column in (shard.own_logprob, shard.other_logprob))
    present = (shard.n_tokens > 0).astype(np.float64)
    total = np.bincount(_rollout_numbers(shard), divergence, minlength=len(present))
    logs = np.nan_to_num(drawn), np.nan_to_num(other)
    return [present, present * np.exp(logs[0]), present * np.exp(logs[1]), *logs, total]


def _bin_numbers(
    shard: ScoredTokens,
    deciles: npt.NDArray[np.int64],
    fifths: npt.NDArray[np.float64],
    categories: npt.NDArray[np.int8],
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]]:
    """For each stratification: the bin of every token, and the value that decides it, both (T,)."""
    yield deciles[_patterns(shard.own_entropy)], shard.own_entropy.astype(np.float64)
    lengths = np.repeat(shard.n_tokens, shard.n_tokens)
    offset = np.arange(len(lengths)) - np.repeat(np.cumsum(shard.n_tokens) - shard.n_tokens, shard.n_tokens)
    yield offset * POSITION_BINS // np.maximum(lengths, 1), offset / np.maximum(lengths, 1)
    perplexity = np.exp(_means(shard, -shard.own_logprob.astype(np.float64)))
    fifth = np.searchsorted(fifths, perplexity, side="right")
    yield np.repeat(fifth, shard.n_tokens), np.repeat(perplexity, shard.n_tokens)
    yield categories.astype(np.int64), None


def _rollout_numbers(shard: ScoredTokens) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(shard.n_tokens)), shard.n_tokens)


def _means(shard: ScoredTokens, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean of a token value (T,) over each rollout, (R,); NaN for one without tokens."""
    sums = np.bincount(_rollout_numbers(shard), values, minlength=len(shard.n_tokens))
    return np.asarray(np.divide(sums, shard.n_tokens, out=np.full(len(sums), np.nan), where=shard.n_tokens > 0))


# ------------------------------------------------------------------------------------------------ estimates
def _per_problem(sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0))


def _mean(name: str, group: str, values: npt.NDArray[np.float64], setting: Setting, floor: float) -> Estimate:
    method = "token mean within a problem, then mean over problems"
    label = Estimate(name=name, group=None if group == "all" else group, value=None, method=method)
    return mean_estimate(label, values, floor=floor, clusters=setting.clusters)


def _whole_estimates(whole: _Bins, rollouts: _Bins, setting: Setting, *, exact: bool) -> Iterator[Estimate]:
    names = [("kl_k1", "k1", -math.inf), ("kl_k3", "k3", 0.0)]
    names += [("kl", "kl", 0.0), ("kl_reverse", "kl_reverse", 0.0)] if exact else []
    names += [("moved_share", "moved", 0.0), ("log_ratio", "log_ratio", -math.inf)]
    columns = (*_METRICS, *_WHOLE)
    per_rollout = (
        ("kl_per_response", "divergence", -math.inf),
        ("own_perplexity", "own_perplexity", 1.0),
        ("other_perplexity", "other_perplexity", 1.0),
        ("own_log_perplexity", "own_log", 0.0),
        ("other_log_perplexity", "other_log", 0.0),
    )
    for group in GROUPS:
        tokens, responses = whole.group(group)[:, 0], rollouts.group(group)[:, 0]
        if not tokens[:, 0].any():
            continue
        for name, column, floor in names:
            yield _mean(name, group, _per_problem(tokens[:, columns.index(column)], tokens[:, 0]), setting, floor)
        for name, column, floor in per_rollout:
            values = _per_problem(responses[:, _ROLLOUT.index(column)], responses[:, 0])
            estimate = _mean(name, group, values, setting, floor)
            method = estimate.method.replace("token mean within", "rollout mean within")
            yield msgspec.structs.replace(estimate, method=method)


def _rows(bins: _Bins, group: str, setting: Setting) -> Iterator[Stratum]:
    """One row for each bin that has a token of the group."""
    sums = bins.group(group)
    tokens, moved = sums[..., 0], sums[..., 1]
    for number, label in enumerate(bins.labels):
        if not tokens[:, number].any():
            continue
        means = [_per_problem(sums[:, number, m], tokens[:, number]) for m in range(len(_METRICS))]
        floors = (0.0, 0.0, -math.inf, 0.0, 0.0, 1.0, 1.0)
        estimates = {
            name: _mean(name, group, means[m], setting, floors[m])
            for m, name in enumerate(_METRICS)
            if name != "tokens"
        }
        of_group = Estimate(name="share", group=None if group == "all" else group, value=None)
        known = math.isfinite(bins.low[number])
        yield Stratum(
            by=bins.by,
            bin=label,
            group=group,
            low=float(bins.low[number]) if known else None,
            high=float(bins.high[number]) if known else None,
            n_tokens=int(tokens[:, number].sum()),
            n_moved=int(moved[:, number].sum()),
            share=ratio_estimate(of_group, tokens[:, number], tokens.sum(axis=1), setting.clusters),
            share_of_moves=ratio_estimate(
                msgspec.structs.replace(of_group, name="share_of_moves"),
                moved[:, number],
                moved.sum(axis=1),
                setting.clusters,
            ),
            moved=estimates["moved"],
            log_ratio=estimates["log_ratio"],
            own_entropy=estimates["own_entropy"],
            other_entropy=estimates["other_entropy"],
            own_branching=estimates["own_nucleus"],
            other_branching=estimates["other_nucleus"],
        )
