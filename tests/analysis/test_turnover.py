"""Turnover of a series: numbers beside chance, budgets, stopped runs, and what the verb prints."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from rlvr_bench.analysis.training_series import TrainingSeries, series_of
from rlvr_bench.cli.main import app
from rlvr_bench.comparison.sets import null_sizes
from rlvr_bench.errors import BadArgument
from rlvr_bench.stats import fresh_rng
from tests.comparison.made import card

N, PROBLEMS = 64, 120


def trained(rates: np.ndarray, n: int = N, seed: int = 0, **changed: object) -> TrainingSeries:
    rng = np.random.default_rng(seed)
    cards = [card(f"m@{step}", rng.binomial(n, row).tolist(), n, **changed) for step, row in enumerate(rates)]
    return series_of(cards)


def spread(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.5, 3.0, PROBLEMS)


def test_what_is_forgotten_for_good_is_shown_and_luck_is_not() -> None:
    rates = np.tile(spread(), (4, 1))
    alike = next(result for result in trained(rates).turnover if result.k == 8)
    assert all(
        part.p_holm is not None and part.p_holm > 0.05
        for point in alike.checkpoints[1:]
        for part in (point.first, point.forgotten)
        if part is not None
    )
    rates[2:, :40] = 0
    lost = next(result for result in trained(rates).turnover if result.k == 8)
    last = lost.checkpoints[-1].forgotten
    assert last is not None
    assert (last.p_holm or 1) < 0.01
    truth = (1 - rates[-1]) ** 8 * (1 - ((1 - rates[:-1]) ** 8).prod(axis=0))
    chance = (1 - rates[-1]) ** 8 - (1 - rates[-1]) ** 32
    assert (last.low or 0) < float((truth - chance).sum()) < (last.high or 0)


def test_two_checkpoints_forget_and_gain_what_compare_says() -> None:
    rng = np.random.default_rng(5)
    counts = rng.binomial(N, spread(), (2, PROBLEMS))
    series = series_of([card(f"m@{step}", row.tolist(), N) for step, row in enumerate(counts)])
    for turnover in series.turnover:
        gained, lost = null_sizes(
            (counts[0], np.full(PROBLEMS, N)), (counts[1], np.full(PROBLEMS, N)), turnover.k, fresh_rng()
        )
        last = turnover.checkpoints[1]
        assert last.first is not None
        assert last.forgotten is not None
        assert last.first.number == pytest.approx(gained.observed)
        assert last.forgotten.number == last.lost == pytest.approx(lost.observed)


def test_states_and_changes_add_up() -> None:
    series = trained(np.stack([spread(seed) for seed in range(3)]))
    for turnover in series.turnover:
        for before, point in zip(turnover.checkpoints, turnover.checkpoints[1:], strict=False):
            assert point.first is not None
            assert point.forgotten is not None
            solved, forgotten = point.solved.value or 0, point.forgotten.number
            assert solved + forgotten + point.never == pytest.approx(PROBLEMS)
            assert before.never == pytest.approx(point.never + point.first.number)
            assert solved == pytest.approx(
                (before.solved.value or 0) - point.lost + point.regained + point.first.number
            )
        assert turnover.union == pytest.approx(PROBLEMS - turnover.checkpoints[-1].never)


def test_budgets_are_those_of_every_problem_and_chance_beyond_n_is_modelled() -> None:
    series = trained(np.tile(spread(), (3, 1)), n=24)
    assert [turnover.k for turnover in series.turnover] == [1, 2, 4, 8, 16, 24]
    assert [best.k for best in series.best] == [1, 2, 4, 8, 12]
    modelled = {
        turnover.k: [point.forgotten.modelled for point in turnover.checkpoints if point.forgotten]
        for turnover in series.turnover
    }
    assert modelled[8] == [False, False]
    assert modelled[16] == [True, True]
    last = series.turnover[-1].checkpoints[-1].forgotten
    assert last is not None
    assert last.p_value is last.low is None
    assert last.by_chance is not None


def test_unequal_n_is_taken_as_it_is() -> None:
    rng = np.random.default_rng(2)
    sizes = [[64] * 60 + [16] * 60, [32] * 120, [16] * 60 + [64] * 60]
    rates = spread()
    cards = [card(f"m@{step}", rng.binomial(n, rates).tolist(), n) for step, n in enumerate(sizes)]
    series = series_of(cards)
    assert [turnover.k for turnover in series.turnover] == [1, 2, 4, 8, 16]
    statements = [
        part
        for turnover in series.turnover
        for point in turnover.checkpoints
        for part in (point.first, point.forgotten)
        if part
    ]
    assert all(part.p_holm is None or part.p_holm > 0.05 for part in statements)


def test_a_stopped_run_has_no_turnover_and_a_note_says_why() -> None:
    rule = {"stop_after": 1, "batch": 16, "maximum": 64}
    stopped = card("m@1", [1] * 40, 64, stopping=rule)
    series = series_of([card("m@0", [1] * 40, 64), stopped])
    assert not series.turnover
    assert not series.best
    assert any("no turnover" in note for note in series.notes)


@pytest.mark.parametrize("counts", [[0] * 40, [64] * 40])
def test_all_wrong_and_all_correct_end_in_numbers(counts: list[int]) -> None:
    series = series_of([card(f"m@{step}", counts, 64) for step in range(3)])
    text = msgspec.json.encode(series).decode()
    assert "NaN" not in text
    share = series.turnover[-1].checkpoints[-1].share
    assert share == (1.0 if counts[0] else None)


def test_the_verb_prints_one_budget_and_refuses_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = []
    for step in range(3):
        _, made = card(f"m@{step}", rng.binomial(N, spread()).tolist(), N)
        files.append(tmp_path / f"{step}.json")
        files[-1].write_bytes(msgspec.json.encode(made))
    names = [str(file) for file in files]
    shown = CliRunner().invoke(app, ["series", *names])
    assert shown.exit_code == 0, shown.output
    assert "Turnover at k = 16" in shown.output  # 3 x 16 of 64: the largest budget whose chance is tested
    assert "best checkpoint by pass@16" in shown.output
    modelled = CliRunner().invoke(app, ["series", *names, "--k", "64"])
    assert "fitted Beta model" in modelled.output
    wrong = CliRunner().invoke(app, ["series", *names, "--k", "65"])
    assert isinstance(wrong.exception, BadArgument)
    result = json.loads(CliRunner().invoke(app, ["series", *names, "--json"]).output)
    assert [entry["k"] for entry in result["turnover"]] == [1, 2, 4, 8, 16, 32, 64]
