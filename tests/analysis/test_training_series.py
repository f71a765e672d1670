"""Stages, the entropy-performance law, and scorecards put in a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from rlvr_bench.analysis import training_series
from rlvr_bench.analysis.performance_law import fit_law
from rlvr_bench.analysis.stages import corrected, fit_stages
from rlvr_bench.analysis.training_series import TrainingSeries, series, series_of
from rlvr_bench.cli import main
from rlvr_bench.cli.main import app
from rlvr_bench.comparison import Incomparable
from rlvr_bench.errors import BadArgument, RunError
from rlvr_bench.records import Estimate
from tests.comparison.made import card

STEPS = np.linspace(0, 100, 21)
SEEDS = 100


def bent(noise: float, rng: np.random.Generator, knot: float = 40.0) -> Any:
    line = -1 - 0.03 * np.minimum(STEPS, knot) - 0.002 * np.maximum(STEPS - knot, 0)
    return line + noise * rng.standard_normal(len(STEPS))


# ---------------------------------------------------------------------------------------------------- stages
def test_a_knot_at_step_40_is_found_with_an_interval_that_covers_it() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(SEEDS // 2):
        result = fit_stages("entropy", STEPS, np.exp(bent(0.05, rng)), rng=rng, scale="log")
        assert result.second_stage
        assert result.knot == pytest.approx(40, abs=8)
        assert (result.low or 0) < (result.high or 0) < 60
        assert result.slope_before == pytest.approx(-0.03, abs=0.01)
        assert result.slope_after == pytest.approx(-0.002, abs=0.005)
        covered += (result.low or 0) <= 40 <= (result.high or 0)
    assert covered >= 42  # of 50: a 95 % interval covers fewer once in a hundred times


@pytest.mark.parametrize("points", [6, 10, 40])
def test_straight_series_have_a_second_stage_at_most_as_often_as_stated(points: int) -> None:
    rng = np.random.default_rng(points)
    steps = np.arange(points) * 10.0
    result = [
        fit_stages("m", steps, 0.3 - 0.002 * steps + 0.05 * rng.standard_normal(points), rng=rng) for _ in range(SEEDS)
    ]
    # At most 5 %: 12 of 100 or more would come four times in a thousand.
    assert sum(bool(fit.second_stage) for fit in result) <= 11
    straight = next(fit for fit in result if not fit.second_stage)
    assert straight.note == "no second stage"
    assert straight.knot is None


def test_no_bootstrap_hides_a_perfect_fit() -> None:
    rng = np.random.default_rng(0)
    exact = fit_stages("m", STEPS, bent(0, rng), rng=rng)
    assert exact.second_stage
    assert exact.knot == pytest.approx(40, abs=0.3)
    assert (exact.low or 0) <= 40 <= (exact.high or 0)
    for line in (np.full(21, 0.5), 0.1 + 0.3 * STEPS):
        assert fit_stages("m", STEPS, line, rng=rng).second_stage is False


def test_gaps_order_and_scale_do_not_matter_and_few_points_are_no_answer() -> None:
    rng = np.random.default_rng(3)
    values = bent(0.02, rng)
    values[5] = np.nan
    shuffled = rng.permutation(21)
    plain = fit_stages("m", STEPS, values, rng=np.random.default_rng(0))
    other = fit_stages("m", 7 * STEPS[shuffled], 3 * values[shuffled], rng=np.random.default_rng(0))
    assert plain.n_points == other.n_points == 20
    assert (other.knot or 0) / 7 == pytest.approx(plain.knot)
    few = fit_stages("m", STEPS[:5], values[:5], rng=rng)
    assert few.second_stage is None
    assert "from 6 on" in (few.note or "")


@pytest.mark.parametrize("arguments", [([1, 2], [1.0]), ([1, 1], [1.0, 2.0]), ([], []), ([1, 2], [float("inf"), 1.0])])
def test_bad_input_is_refused(arguments: tuple[list[float], list[float]]) -> None:
    with pytest.raises(BadArgument):
        fit_stages("m", *arguments, rng=np.random.default_rng(0))


def test_checkpoints_that_deviate_together_or_ever_more_pass_for_no_second_stage() -> None:
    """Autocorrelation 0.6, and noise that grows fourfold with errors that say so: 40 straight series of 12 points each."""
    rng = np.random.default_rng(5)
    steps, false_alarms = np.arange(12.0), {"together": 0, "growing": 0}
    for _ in range(40):
        drift = rng.standard_normal(12)
        for i in range(1, 12):
            drift[i] = 0.6 * drift[i - 1] + 0.8 * drift[i]
        errors = np.linspace(1, 4, 12)
        growing = errors * rng.standard_normal(12)
        false_alarms["together"] += bool(fit_stages("m", steps, 0.1 * steps + drift, rng=rng).second_stage)
        false_alarms["growing"] += bool(
            fit_stages("m", steps, 0.1 * steps + growing, rng=rng, errors=errors).second_stage
        )
    assert (
        max(false_alarms.values()) <= 6
    )  # a true rate of 5 % shows as more in 1 % of cases; without regard to either 10 to 30 %


def test_only_the_ratios_of_errors_count_and_a_metric_is_corrected_for_the_others() -> None:
    values = bent(0.3, np.random.default_rng(1))
    errors = np.linspace(1, 2, 21)
    one, two = (
        fit_stages("m", STEPS, values, rng=np.random.default_rng(0), errors=scale * errors) for scale in (0.01, 100)
    )
    assert one.bic_two == pytest.approx(two.bic_two)
    assert one.p_value == two.p_value
    assert one.p_value != fit_stages("m", STEPS, values, rng=np.random.default_rng(0)).p_value
    weak = msgspec.structs.replace(one, p_value=0.03, second_stage=True, knot=40.0)
    none = msgspec.structs.replace(one, p_value=0.6, second_stage=False, knot=None)
    first, second = corrected([weak, none])
    assert (first.p_holm, first.second_stage, first.knot) == (0.06, False, None)
    assert second.p_holm == 0.6
    assert corrected([weak])[0].second_stage


# ---------------------------------------------------------------------------------------------------- the law
def law_of(rng: np.random.Generator, steps: int = 12, problems: int = 300) -> tuple[Any, Any, float, float]:
    """Problems drawn from a population in which mean R = -a exp(H) + b holds at every step."""
    a, b = 0.2, 0.7
    level = np.linspace(1.0, 0.1, steps)[:, None]
    entropy = level + rng.normal(0, 0.05, problems)
    rate = np.clip(b - a * np.exp(level) + rng.normal(0, 0.2, problems), 0.02, 0.98)
    return entropy, rng.binomial(64, rate) / 64, a, b


def test_a_law_is_recovered_its_intervals_cover_and_its_forecast_holds() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(30):
        entropy, solved, a, b = law_of(rng)
        law = fit_law(entropy, solved, rng=rng)
        assert law is not None
        assert law.a.value == pytest.approx(a, abs=0.05)
        assert law.ceiling.value == pytest.approx((law.b.value or 0) - (law.a.value or 0))
        hits += (law.ceiling.low or 0) <= b - a <= (law.ceiling.high or 0)
        forecast = law.forecast
        assert forecast is not None
        assert forecast.n_fitted == 4
        assert len(forecast.actual) == 8
        assert forecast.rmse < forecast.rmse_unchanged
        assert forecast.final_error.value == pytest.approx(forecast.predicted[-1] - forecast.actual[-1])
    assert hits >= 24  # of 30: fewer would come twice in a thousand times


def test_whole_clusters_are_resampled() -> None:
    rng = np.random.default_rng(1)
    entropy, solved, _, _ = law_of(rng, problems=40)
    repeated = np.repeat(entropy, 10, axis=1), np.repeat(solved, 10, axis=1)
    labels = np.repeat(np.arange(40).astype(str), 10)
    apart, together = (fit_law(*repeated, clusters, rng=np.random.default_rng(0)) for clusters in (None, labels))
    assert apart is not None
    assert together is not None
    widths = [(law.ceiling.high or 0) - (law.ceiling.low or 0) for law in (apart, together)]
    assert widths[1] == pytest.approx(widths[0] * np.sqrt(10), rel=0.2)


def test_no_law_without_change_and_no_forecast_from_three_points() -> None:
    rng = np.random.default_rng(2)
    entropy, solved, _, _ = law_of(rng)
    assert fit_law(np.ones((4, 5)), np.ones((4, 5)), rng=rng) is None
    short = fit_law(entropy[:3], solved[:3], rng=rng)
    assert short is not None
    assert short.forecast is None
    assert "later ones" in (short.note or "")


# ---------------------------------------------------------------------------------------------------- scorecards
def write_card(folder: Path, model: str, entropy: float, rate: float, **run: Any) -> Path:
    rng = np.random.default_rng(int(1000 * rate))
    problems: list[dict[str, Any]] = [
        {"id": f"p{i}", "n": 16, "c": int(rng.binomial(16, rate)), "entropy_mean": entropy + i / 100} for i in range(30)
    ]
    solved = sum(p["c"] for p in problems) / (16 * 30)
    estimates = [Estimate(name="pass@k", k=k, value=1 - (1 - solved) ** k, low=0.0, high=1.0) for k in (1, 16)]
    estimates += [
        Estimate(name="token_entropy", value=entropy, group=group, low=0.0, high=2.0)
        for group in (None, "correct", "wrong", "wrong less correct, length-matched")
    ]
    identity = {"task": "t", "task_version": "1", "problems_sha256": "0", "prompt": "raw", "prompt_sha256": "0"}
    named = {"model": model, "weights": model, "n": 16, **run}
    card = {
        "schema": 1,
        "run": {**identity, "chat_template": None, "stopping": None, **named},
        "problems": problems,
        "estimates": estimates,
        "quality": {},
    }
    folder.mkdir(parents=True)
    (folder / "scorecard.json").write_bytes(msgspec.json.encode(card))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [
        write_card(tmp_path / "runs" / f"s{step}", f"ckpts/global_step_{step}/hf", 1.2 * 0.97**step, 0.2 + 0.004 * step)
        for step in (100, 20, 0, 40, 60, 80, 10)
    ]


def test_a_series_is_in_order_of_its_steps(runs: list[Path]) -> None:
    result = series(runs)
    assert [point.step for point in result.checkpoints] == [0, 10, 20, 40, 60, 80, 100]
    curve = next(m for m in result.metrics if (m.name, m.group) == ("token_entropy", None))
    assert curve.values == pytest.approx([1.2 * 0.97**step for step in (0, 10, 20, 40, 60, 80, 100)])
    assert {m.group for m in result.metrics if m.name == "token_entropy"} > {"wrong less correct, length-matched"}
    decay = next(fit for fit in result.stages if fit.metric == "token_entropy")
    assert decay.second_stage is False  # a constant rate of decay is one stage
    assert decay.slope == pytest.approx(np.log(0.97))
    mark = next(m for m in result.milestones if m.metric == "token_entropy")
    assert mark.step == 60  # 1 - 0.97**60 = 0.84 of 1 - 0.97**100 = 0.95; at 40 it is 0.70 of it
    assert result.law is not None
    assert result.law.forecast is not None
    assert msgspec.json.decode(msgspec.json.encode(result), type=TrainingSeries) == result


def test_globs_folders_and_given_steps(runs: list[Path], tmp_path: Path) -> None:
    by_glob = series([str(tmp_path / "runs" / "s*")])
    assert by_glob.checkpoints == series([tmp_path / "runs"]).checkpoints == series(runs).checkpoints
    given = series(runs[:2], steps=[7, 3])
    assert [(point.step, Path(point.scorecard).parent) for point in given.checkpoints] == [(3, runs[1]), (7, runs[0])]


def test_what_is_no_series_is_refused_in_one_line(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="at least two checkpoints"):
        series(runs[:1])
    with pytest.raises(BadArgument, match="one step for each"):
        series(runs, steps=[1, 2])
    with pytest.raises(BadArgument, match="two checkpoints have it"):
        series(runs[:2], steps=[5, 5])
    base = write_card(tmp_path / "base", "some-base", 1.0, 0.2)
    with pytest.raises(BadArgument, match="--steps"):
        series([base, *runs])
    with pytest.raises(RunError, match="no run matches"):
        series([str(tmp_path / "none*")])
    other = write_card(tmp_path / "other", "m@5", 1.0, 0.2, task_version="2")
    with pytest.raises(Incomparable, match="task_version"):
        series([other, *runs])
    assert series([other, *runs], allow=["task_version"]).checkpoints[1].step == 5


def test_without_entropies_there_is_no_law(tmp_path: Path) -> None:
    folders = [write_card(tmp_path / f"s{step}", f"m@{step}", 1.0, 0.2 + step / 100) for step in (0, 10)]
    for folder in folders:
        card = json.loads((folder / "scorecard.json").read_text())
        for problem in card["problems"]:
            del problem["entropy_mean"]
        (folder / "scorecard.json").write_text(json.dumps(card))
    result = series(folders)
    assert result.law is None
    assert all(fit.second_stage is None for fit in result.stages)


def test_the_command_prints_tables_or_json_and_one_line_for_a_single_run(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(run) for run in runs]
    shown = CliRunner().invoke(app, ["series", *names], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "7 checkpoints" in shown.stdout
    assert "second stage" in shown.stdout
    assert "ceiling" in shown.stdout
    printed = CliRunner().invoke(app, ["series", "--json", *names], catch_exceptions=False)
    assert msgspec.json.decode(printed.stdout, type=TrainingSeries) == series(runs)
    with pytest.raises(SystemExit) as stopped:
        main(["series", names[0]])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_milestone_lies_in_its_interval_and_is_left_out_where_no_change_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Token entropy of 40 problems at five checkpoints, three quarters of the change by the third; 100 noisy series."""
    for unused in ("turnovers", "best_checkpoints"):  # not looked at here, and most of the time
        monkeypatch.setattr(training_series, unused, lambda *_: [])
    rng = np.random.default_rng(7)
    true, covered, narrow, flat = np.array([1.0, 0.7, 0.38, 0.25, 0.2]), 0, 0, 0
    for _ in range(100):
        for curve in (true, np.full(5, 0.5)):
            cards = []
            for step, mean in enumerate(curve):
                problem_means = mean + 0.3 * rng.standard_normal(40)
                name, made = card(f"m@{step}", [1] * 40, 4, columns={"entropy_mean": problem_means.tolist()})
                estimate = Estimate(name="token_entropy", value=float(problem_means.mean()), low=0.0, high=2.0)
                cards.append((name, msgspec.structs.replace(made, estimates=[estimate])))
            marks = series_of(cards).milestones
            if curve is not true:
                flat += bool(marks)
                continue
            (mark,) = marks
            covered += mark.low <= 2 <= mark.high
            narrow += mark.high - mark.low <= 2
            assert mark.low <= mark.step <= mark.high
    assert covered >= 92
    assert narrow >= 50
    assert flat <= 10
