"""Single problems that changed: which are listed, and how many of them by chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlvr_bench.comparison.cards import RunCounts
from rlvr_bench.comparison.singles import changed_problems
from rlvr_bench.records import StoppingRule
from rlvr_bench.scorers.counts import Counts


def run(c: npt.ArrayLike, n: int, stopping: StoppingRule | None = None, *, chosen: bool = False) -> RunCounts:
    counts = np.asarray(c, dtype=np.int64)
    return RunCounts(
        label="run",
        file=Path("scorecard.json"),
        n=np.full(len(counts), n),
        c=counts,
        counts=Counts(
            n=np.full(len(counts), n), c=counts, errors=np.zeros_like(counts), stopping=stopping, asked=n, chosen=chosen
        ),
        entries=(),
    )


def test_clear_changes_are_listed_clearest_first() -> None:
    first, second = run([0, 32, 60, 1, 0, 64], 64), run([40, 31, 10, 0, 0, 64], 64)
    changed = changed_problems("abcdef", first, second)
    assert changed is not None
    assert [change.id for change in changed.gained] == ["a"]
    assert [change.id for change in changed.lost] == ["c"]
    assert (changed.gained[0].first, changed.gained[0].second) == (0.0, 0.625)
    assert changed.tested == 3  # d has one correct rollout in all, e none, f no wrong one: they cannot show a change
    assert all(change.p_adjusted < 0.05 for change in (*changed.gained, *changed.lost))


def test_a_run_that_stopped_early_has_no_such_list() -> None:
    rule = StoppingRule(stop_after=4, batch=8)
    assert changed_problems("ab", run([1, 2], 8), run([1, 2], 8, rule)) is None
    assert changed_problems("ab", run([1, 2], 8), run([1, 2], 8, chosen=True)) is None


def test_at_most_five_percent_of_the_listed_changed_by_chance() -> None:
    """Mean share of false entries over 150 comparisons of 200 problems, a quarter of which changed; and with no change."""
    rng = np.random.default_rng(2)
    shares: dict[float, list[float]] = {0.25: [], 0.0: []}
    found_true = 0
    for changed, false in shares.items():
        for _ in range(150):
            p = rng.beta(0.5, 1, 200)
            moved = rng.random(200) < changed
            q = np.where(moved, rng.beta(0.5, 1, 200), p)
            result = changed_problems(
                [str(i) for i in range(200)], run(rng.binomial(64, p), 64), run(rng.binomial(64, q), 64)
            )
            assert result is not None
            listed = [int(change.id) for change in (*result.gained, *result.lost)]
            wrong = sum(not moved[i] for i in listed)
            found_true += len(listed) - wrong
            false.append(wrong / max(len(listed), 1))
    assert np.mean(shares[0.25]) < 0.055
    assert np.mean(shares[0.0]) < 0.055 + 2 * np.sqrt(0.05 * 0.95 / 150)
    assert found_true > 150 * 20
