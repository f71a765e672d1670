"""The boundary test's false alarms and power, the crossover and its coverage: by exact reasoning and by simulation."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr_bench import stats
from rlvr_bench.comparison import compare_cards, curves
from rlvr_bench.comparison.cards import RunCounts, align
from rlvr_bench.comparison.curves import crossover_of, search_grid
from rlvr_bench.comparison.sets import boundary_change, null_sizes
from rlvr_bench.stats import fresh_rng
from tests.comparison.made import card

Floats = npt.NDArray[np.float64]


def aligned(one: tuple[list[int], int], two: tuple[list[int], int]) -> tuple[RunCounts, RunCounts]:
    first, second = align([card("a", *one), card("b", *two)])[1]
    return first, second


def test_the_null_of_one_problem_by_enumeration() -> None:
    """Pooled 2 correct of 4 + 4: the first run has none of them with chance C(6,4)/C(8,4) = 15/70."""
    gains, losses = null_sizes((np.array([0]), np.array([4])), (np.array([2]), np.array([4])), 4, fresh_rng(), 20000)
    assert gains.expected == pytest.approx(15 / 70)
    assert (gains.observed, losses.observed) == (1.0, 0.0)
    assert gains.p_value == pytest.approx(15 / 70, abs=0.01)
    assert losses.p_value == 1.0


def test_the_null_at_a_smaller_budget_by_enumeration() -> None:
    """k = 1 of n = 2, pooled 2 of 4: mean of (1 - c1/2)(c2/2) over all ways to split the four rollouts."""
    ways = [split for split in product((0, 1), repeat=4) if sum(split) == 2]
    want = np.mean([(1 - sum(w[:2]) / 2) * sum(w[2:]) / 2 for w in ways])
    gains, _ = null_sizes((np.array([1]), np.array([2])), (np.array([1]), np.array([2])), 1, fresh_rng(), 500)
    assert gains.expected == pytest.approx(want)
    assert gains.observed == pytest.approx(0.25)


@pytest.mark.parametrize(("n1", "n2", "k"), [(32, 32, 32), (64, 32, 16)])
def test_a_policy_compared_with_itself_raises_no_more_false_alarms_than_the_level(n1: int, n2: int, k: int) -> None:
    """Both at 5 % and 20 %, with the binomial error of 400 comparisons (three standard errors)."""
    rng = np.random.default_rng(11)
    p = rng.beta(0.2, 1.2, 60)
    alarms = np.zeros((400, 2))
    for i in range(len(alarms)):
        first, second = ((rng.binomial(n, p), np.full(60, n)) for n in (n1, n2))
        alarms[i] = [size.p_value for size in null_sizes(first, second, k, rng, 199)]
    for level in (0.05, 0.2):
        rates = (alarms <= level).mean(axis=0)
        assert (rates <= level + 3 * np.sqrt(level * (1 - level) / len(alarms))).all()
        assert (rates > level / 4).all()  # a test that never rejects would pass the line above


def test_new_reach_is_found_and_a_sure_gain_is_not_taken_for_chance() -> None:
    rng = np.random.default_rng(5)
    first = np.array([0] * 20 + [20] * 40)
    second = np.array([30] * 20 + [20] * 40)
    n = np.full(60, 64)
    gains, losses = null_sizes((first, n), (second, n), 64, rng)
    assert gains.observed == 20.0
    assert gains.p_value == pytest.approx(1 / 2001)
    assert gains.high <= 1
    assert losses.p_value == 1.0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=8))
def test_gained_and_lost_swap_with_the_runs(counts: list[tuple[int, int]]) -> None:
    first, second = np.array(counts).T
    n = np.full(len(counts), 6)
    there = null_sizes((first, n), (second, n), 6, fresh_rng(), 50)
    back = null_sizes((second, n), (first, n), 6, fresh_rng(), 50)
    assert there[0].observed == back[1].observed == np.sum((first == 0) & (second > 0))
    assert there[0].expected == pytest.approx(back[1].expected)


def curve(values: list[float], problems: int = 1) -> Floats:
    return np.tile(values, (problems, 1))


def test_the_crossover_is_the_first_change_of_lead() -> None:
    crossover = crossover_of(curve([0.2, 0.1, 0.0, -0.1, -0.2], 5), [1, 2, 4, 8, 16], ("base", "rl"))
    assert (crossover.leader, crossover.k, crossover.low, crossover.high, crossover.changes) == ("rl", 8, 8, 8, 1)
    assert crossover.text == "crosses at 8 [8, 8]"


def test_several_changes_of_lead_are_counted_and_the_last_is_named() -> None:
    crossover = crossover_of(curve([-0.2, 0.1, 0.0, 0.1, -0.1, -0.1], 5), [1, 2, 3, 4, 5, 6], ("base", "rl"))
    assert (crossover.leader, crossover.k, crossover.last, crossover.changes) == ("base", 2, 5, 2)
    assert crossover.text == "crosses at 2 [2, 2], 2 changes of lead, the last at 5"


def test_a_tie_is_no_change_and_the_leader_is_the_first_to_differ() -> None:
    crossover = crossover_of(curve([0.0, 0.0, 0.3, 0.0, 0.2], 5), [1, 2, 3, 4, 5], ("base", "rl"))
    assert (crossover.leader, crossover.k, crossover.low, crossover.high) == ("rl", None, None, None)
    assert crossover.text == "no crossing up to 5"
    assert crossover_of(curve([0.0, 0.0], 5), [1, 2], ("a", "b")).text == "no difference up to 2"


def test_a_crossing_beyond_the_largest_budget_is_censored() -> None:
    """Half of the problems lose at k = 3, more or less: resampled, some cross and some do not."""
    rows = [[0.5, 0.3, 0.5]] * 11 + [[0.5, 0.3, -0.45]] * 11
    crossover = crossover_of(np.array(rows), [1, 2, 3], ("base", "rl"))
    assert (crossover.k, crossover.low, crossover.high) == (None, 3, None)
    assert crossover.text == "no crossing shown up to 3"


def test_clusters_are_resampled_whole() -> None:
    rng = np.random.default_rng(0)
    tilt = np.repeat(rng.normal(0, 0.3, 8), 25)
    rows = 0.3 - np.outer(np.ones(200), np.arange(10) / 15) + tilt[:, None]
    grid = list(range(1, 11))
    alone = crossover_of(rows, grid, ("a", "b"))
    together = crossover_of(rows, grid, ("a", "b"), np.repeat([f"c{i}" for i in range(8)], 25))
    assert alone.k == together.k
    assert alone.low is not None
    assert together.low is not None
    assert (together.high or 99) - together.low > (alone.high or 99) - alone.low


@pytest.mark.parametrize("largest", [1, 100, 128, 129, 1024, 16384])
def test_the_search_grid_is_dense_and_ends_at_the_largest(largest: int) -> None:
    grid = np.array(search_grid(largest))
    assert grid[0] == 1
    assert grid[-1] == largest
    assert (np.diff(grid) > 0).all()
    assert (grid[1:] <= np.ceil(grid[:-1] * 1.01) + (grid[1:] <= 128)).all()


def test_the_crossover_interval_covers_the_true_crossing(monkeypatch: pytest.MonkeyPatch) -> None:
    """RL triples the effort on four problems in five and gives up on the fifth; 95 % of 300 intervals, within 3.5 errors."""
    monkeypatch.setattr(curves, "REPLICATES", 400)
    rng = np.random.default_rng(5)
    grid = search_grid(256)

    def draw(problems: int) -> tuple[Floats, Floats]:
        base = rng.beta(0.6, 1.5, problems)
        return base, np.where(rng.random(problems) < 0.2, base * 0.02, 1 - (1 - base) ** 3)

    base, rl = draw(200_000)
    true = next(k for k in grid if np.mean((1 - base) ** k - (1 - rl) ** k) < 0)
    covered, exact = 0, 0
    for _ in range(300):
        first, second = (rng.binomial(256, p) for p in draw(100))
        rows = stats.pass_at_k(second, 256, grid) - stats.pass_at_k(first, 256, grid)
        crossover = crossover_of(rows, grid, ("base", "rl"))
        covered += (crossover.low or 999) <= true <= (crossover.high or 999)
        exact += (crossover.low, crossover.high) == (1, None)
    assert covered >= 300 * 0.95 - 3.5 * np.sqrt(300 * 0.95 * 0.05)
    assert exact < 15  # an interval that says nothing would cover too


def test_two_equal_runs_show_no_crossing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two draws of one policy: their curves cross by chance in many of 200 pairs, which is announced in none or few."""
    monkeypatch.setattr(curves, "REPLICATES", 400)
    rng = np.random.default_rng(9)
    grid = search_grid(64)
    announced = crossed = 0
    for _ in range(200):
        rates = rng.beta(0.5, 1.0, 60)
        runs = [stats.pass_at_k(rng.binomial(64, rates), 64, grid) for _ in range(2)]
        crossover = crossover_of(runs[1] - runs[0], grid, ("a", "b"))
        announced += crossover.k is not None
        crossed += crossover.changes > 0
        assert crossover.text.startswith("no crossing") == (crossover.k is None)
    assert crossed > 60
    assert announced <= 4


def test_a_lead_at_every_budget_shows_no_crossing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is better at small budgets, and level at large ones where almost all is solved."""
    monkeypatch.setattr(curves, "REPLICATES", 400)
    rng = np.random.default_rng(10)
    grid = search_grid(64)
    announced = 0
    for _ in range(150):
        rates = rng.beta(1.5, 1.5, 60)
        first, second = (rng.binomial(64, p) for p in (rates, 1 - (1 - rates) ** 1.5))
        rows = stats.pass_at_k(second, 64, grid) - stats.pass_at_k(first, 64, grid)
        announced += crossover_of(rows, grid, ("a", "b")).k is not None
    assert announced <= 9  # 2.5 % is the level of one side; 6 % of 150 is 3 standard errors above


def test_sets_are_sized_as_the_mean_over_all_subsets_of_the_rollouts() -> None:
    """Three problems, n = 5 and 4, k = 2: every choice of two rollouts of each run, counted by hand of the loop."""
    first, second = ([2, 0, 1], 5), ([1, 3, 0], 4)
    (pair,) = compare_cards([card("a", *first), card("b", [*second[0]], second[1])], ks=[1]).pairs
    change = boundary_change(["p0", "p1", "p2"], *aligned(first, second), 2)
    sizes = np.zeros((2, 2))
    for a, b in zip(first[0], second[0], strict=True):
        ways = [[any(j < c for j in chosen) for chosen in combinations(range(n), 2)] for c, n in ((a, 5), (b, 4))]
        for one, other in product(*ways):
            sizes[int(one), int(other)] += 1 / (len(ways[0]) * len(ways[1]))
    got = [[change.n_neither, change.n_gained], [change.n_lost, change.n_both]]
    np.testing.assert_allclose(got, sizes)
    assert change.gains is not None
    assert change.gains.observed == pytest.approx(change.n_gained)
    assert change.retention == pytest.approx(sizes[1, 1] / sizes[1].sum())
    assert pair.boundary.n_gained + pair.boundary.n_lost + pair.boundary.n_both + pair.boundary.n_neither == 3


def test_a_policy_against_itself_gains_and_loses_what_chance_gives_at_any_budget() -> None:
    """n = 256, k = 64: the mean of the sizes shown is that of the chance level beside them, not a quarter below it."""
    rng = np.random.default_rng(3)
    shown, level = [], []
    for _ in range(40):
        rates = rng.beta(0.3, 2.0, 80)
        runs = [(rng.binomial(256, rates).tolist(), 256) for _ in range(2)]
        change = boundary_change([f"p{i}" for i in range(80)], *aligned(runs[0], runs[1]), 64, replicates=100)
        assert change.gains is not None
        shown += [change.n_gained, change.n_lost]
        level += [change.gains.expected, change.gains.expected]
    assert np.mean(shown) == pytest.approx(np.mean(level), rel=0.1)


def test_signs_are_changed_as_by_enumeration() -> None:
    values = np.array([0.5, -0.2, 0.7, 0.1, 0.4])
    sums = [abs(np.dot(signs, values)) for signs in product((-1, 1), repeat=5)]
    want = np.mean([size >= abs(values.sum()) - 1e-12 for size in sums])
    assert stats.sign_flip(values, fresh_rng(), replicates=40000) == pytest.approx(want, abs=0.01)
    flags = np.array([1.0] * 7 + [-1.0] * 2 + [0.0] * 5)
    assert stats.sign_flip(flags, fresh_rng()) == pytest.approx(stats.mcnemar(flags < 0, flags > 0))
    together = stats.sign_flip(np.ones(8), fresh_rng(), ["a"] * 4 + ["b"] * 4)
    assert together == 0.5  # two clusters, one sign each: both alike in half of the cases
    assert stats.sign_flip(np.zeros(3), fresh_rng()) == 1.0
