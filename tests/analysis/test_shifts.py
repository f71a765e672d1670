"""Planted shifts are found where they were planted: by category, position, entropy, perplexity and correctness."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rlvr_bench.analysis.rescored import ScoredTokens
from rlvr_bench.analysis.shift_results import Stratum
from rlvr_bench.analysis.shifts import Setting, Shifts, ratio_estimate, token_shifts
from rlvr_bench.records import Estimate

P, N, T, V = 40, 12, 20, 6
RAISED = 2  # the token whose logit is raised; its category is 2 as well


class World:
    """Rollouts drawn from made-up laws p; the other checkpoint's law is p with one token's logit raised at some positions."""

    def __init__(self, where: str, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        flat = rng.random((P * N, T)) < 0.5  # flat laws have high entropy, steep ones low
        p = np.where(flat[..., None], 1.0, 0.01) * rng.uniform(0.8, 1.2, (P * N, T, V))
        p[..., 0] += np.where(flat, 0, 1.0)
        p /= p.sum(-1, keepdims=True)
        self.ids = (rng.random((P * N, T, 1)) < p.cumsum(-1)).argmax(-1)
        self.correct = rng.random(P * N) < 0.3
        position = np.arange(T)
        at = {
            "everywhere": np.ones((P * N, T), bool),
            "late": np.broadcast_to(position >= 18, (P * N, T)),
            "uncertain": flat,
            "wrong": np.broadcast_to(~self.correct[:, None], (P * N, T)),
            "nowhere": np.zeros((P * N, T), bool),
        }[where]
        q = p.copy()
        q[..., RAISED] *= np.where(at, np.exp(2.0), 1.0)
        q /= q.sum(-1, keepdims=True)
        self.p, self.q = p, q

    def shards(self) -> Iterator[ScoredTokens]:
        rows = np.array_split(np.arange(P * N), 7)
        for part in rows:
            yield ScoredTokens(
                problem=(part // N).astype(np.int32),
                index=(part % N).astype(np.int32),
                text_hash=part.astype(np.int64),
                n_tokens=np.full(len(part), T, dtype=np.int32),
                ids=self.ids[part].ravel().astype(np.int32),
                own_logprob=self._drawn(self.p, part),
                own_entropy=self._entropy(self.p, part),
                own_nucleus=np.ones(len(part) * T, dtype=np.int32),
                other_logprob=self._drawn(self.q, part),
                other_entropy=self._entropy(self.q, part),
                other_nucleus=np.full(len(part) * T, 3, dtype=np.int32),
                kl=np.sum(self.p * np.log(self.p / self.q), -1)[part].ravel().astype(np.float32),
                kl_reverse=np.sum(self.q * np.log(self.q / self.p), -1)[part].ravel().astype(np.float32),
            )

    def shifts(self, threshold: float = 0.2) -> Shifts:
        status = np.where(self.correct, 0, 1).astype(np.int8).reshape(P, N)
        setting = Setting(P, status, threshold)
        return token_shifts(self.shards, lambda shard: np.minimum(shard.ids, 3).astype(np.int8), setting)

    def moved(self, threshold: float = 0.2) -> npt.NDArray[np.bool_]:
        rows, positions = np.indices(self.ids.shape)
        return np.asarray(np.abs(self.q - self.p)[rows, positions, self.ids] > threshold)

    def _drawn(self, law: npt.NDArray[np.float64], part: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return np.log(np.take_along_axis(law[part], self.ids[part][..., None], -1)).ravel().astype(np.float32)

    def _entropy(self, law: npt.NDArray[np.float64], part: npt.NDArray[np.int64]) -> npt.NDArray[np.float16]:
        return np.asarray(-np.sum(law * np.log(law), -1)[part].ravel(), dtype=np.float16)


def strata(shifts: Shifts, by: str, group: str = "all") -> list[Stratum]:
    return [row for row in shifts.strata if row.by == by and row.group == group]


def value(shifts: Shifts, name: str, group: str | None = None) -> Estimate:
    return next(e for e in shifts.estimates if (e.name, e.group) == (name, group))


def holds(estimate: Estimate, truth: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high


def test_a_raised_token_is_found_in_its_category_with_the_right_numbers() -> None:
    world = World("everywhere")
    shifts = world.shifts()
    rows = strata(shifts, "category")
    assert [row.n_tokens for row in rows] == np.bincount(np.minimum(world.ids.ravel(), 3)).tolist()
    raised = rows[RAISED]
    assert raised.n_moved == world.moved()[world.ids == RAISED].sum() > 0
    assert (raised.share_of_moves.value or 0) > 0.9
    assert (raised.log_ratio.value or 0) > 0
    assert all((row.log_ratio.value or 0) < 0 for row in rows if row is not raised)
    assert raised.other_branching.value == 3.0
    assert sum(row.share.value or 0 for row in rows) == pytest.approx(1)
    assert sum(row.share_of_moves.value or 0 for row in rows) == pytest.approx(1)


def test_late_moves_are_found_late() -> None:
    rows = strata(World("late").shifts(), "position")
    assert [row.n_moved > 0 for row in rows] == [False] * 9 + [True]
    assert rows[9].share_of_moves.value == 1.0
    assert rows[9].low == pytest.approx(0.9)
    assert rows[0].high == pytest.approx(0.05)
    assert {row.n_tokens for row in rows} == {P * N * 2}


def test_moves_of_uncertain_tokens_are_found_in_the_upper_deciles() -> None:
    world = World("uncertain")
    rows = strata(world.shifts(), "entropy")
    tokens = np.array([row.n_tokens for row in rows])
    assert abs(tokens / tokens.sum() - 0.1).max() < 0.04  # deciles, up to ties: half precision merges close values
    assert sum(row.n_moved for row in rows[:4]) == 0
    assert all(row.n_moved > 0 for row in rows[6:])
    edges = [(row.low or 0, row.high or 0) for row in rows]
    assert all(above[0] > below[1] for below, above in itertools.pairwise(edges))


def test_moves_in_wrong_rollouts_are_found_in_wrong_rollouts() -> None:
    shifts = World("wrong").shifts()
    assert value(shifts, "moved_share", "correct").value == 0.0
    assert (value(shifts, "moved_share", "wrong").value or 0) > 0.05
    assert value(shifts, "kl", "correct").value == pytest.approx(0, abs=1e-7)
    assert not any(row.n_moved for row in shifts.strata if row.group == "correct")


def test_nothing_moved_between_a_model_and_itself() -> None:
    shifts = World("nowhere").shifts()
    for name in ("kl_k1", "kl_k3", "kl", "kl_reverse", "moved_share", "log_ratio", "kl_per_response"):
        assert value(shifts, name).value == pytest.approx(0, abs=1e-12)
    assert value(shifts, "own_perplexity").value == value(shifts, "other_perplexity").value
    assert all(row.share_of_moves.value is None for row in shifts.strata)


def test_estimators_of_the_divergence_agree_with_the_exact_sum_and_the_truth() -> None:
    covered: dict[str, list[bool]] = {"kl_k1": [], "kl_k3": [], "kl": []}
    for seed in range(40):
        world = World("everywhere", seed)
        shifts = world.shifts()
        truth = float(np.sum(world.p * np.log(world.p / world.q), -1).mean())
        assert value(shifts, "kl").value == pytest.approx(truth, rel=1e-5)
        assert value(shifts, "kl_per_response").value == pytest.approx(truth * T, rel=1e-5)
        for name, hits in covered.items():
            hits.append(holds(value(shifts, name), truth))
    # 95 % intervals: 34 hits or fewer of 40 would happen once in 2,000 times.
    assert {name: sum(hits) > 34 for name, hits in covered.items()} == dict.fromkeys(covered, True)


def test_means_count_problems_equally_and_perplexities_are_those_of_the_rollouts() -> None:
    world = World("everywhere")
    shifts = world.shifts()
    rows, positions = np.indices(world.ids.shape)
    perplexity = np.exp(-np.log(world.p[rows, positions, world.ids]).mean(axis=1))
    assert value(shifts, "own_perplexity").value == pytest.approx(perplexity.mean(), rel=1e-5)
    per_problem = world.moved().reshape(P, -1).mean(axis=1)
    result = value(shifts, "moved_share")
    assert result.value == pytest.approx(per_problem.mean())
    assert result.n_problems == P
    fifths = strata(shifts, "perplexity")
    assert [row.n_tokens for row in fifths] == [P * N * T // 5] * 5


def test_ungraded_and_empty_rollouts_count_among_all_only() -> None:
    world = World("everywhere")
    one = next(world.shards())
    empty: dict[str, Any] = {name: getattr(one, name)[:0] for name in one.__struct_fields__}
    first = {name: getattr(one, name)[:1] for name in ("problem", "index", "text_hash")}
    blank = ScoredTokens(**{**empty, **first, "n_tokens": np.zeros(1, np.int32)})
    setting = Setting(P, np.full((P, 1), -1, dtype=np.int8), 0.2)
    shifts = token_shifts(lambda: [one, blank], lambda shard: np.zeros(len(shard.ids), np.int8), setting)
    assert {row.group for row in shifts.strata} == {"all"}
    assert shifts.n_rollouts == len(one.n_tokens)
    assert shifts.n_tokens == len(one.ids)


def test_the_interval_of_a_ratio_covers_it() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        whole = rng.integers(5, 200, 40).astype(np.float64)
        part = rng.binomial(whole.astype(int), rng.beta(2, 6, 40)).astype(np.float64)
        hits += holds(ratio_estimate(Estimate(name="x", value=None), part, whole), 0.25)
    assert 0.90 < hits / 400 <= 0.985
