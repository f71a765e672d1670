"""Regrading a run under a stopping rule, through the pipeline: the finding's example, judge, top-up and lost verdicts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rlvr_bench import pipeline
from rlvr_bench.cli.main import app
from rlvr_bench.pipeline import SampleOptions
from rlvr_bench.records import Verdict
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.store import open_run
from rlvr_bench.store.outcomes import stopped_on
from rlvr_bench.store.verdicts import VerdictRow, Verdicts, current_grading

TASK = "double_countdown"


def options(out: Path, **changed: object) -> SampleOptions:
    values = {"n": 64, "limit": 200, "out": out, "draw_batch": 4, "stop_after": 4, **changed}
    return SampleOptions(**values)  # type: ignore[arg-type]


def turned(path: Path, name: str, change: dict[str, tuple[str, float]], seed: int = 0) -> None:
    """Put verdicts in force in which a share of one status is another: {"wrong": ("correct", 0.1)}."""
    run, rng = open_run(path), np.random.default_rng(seed)
    grading = current_grading(run)
    assert grading is not None
    old = Verdicts(run, grading.verifier, grading.version, grading.options)
    new = Verdicts(run, name, "1", {})
    rows = []
    for row in old.rows():
        status, share = change.get(row.verdict.status, ("", 0.0))
        verdict = row.verdict if rng.random() >= share else Verdict(status=status, answer=row.verdict.answer)  # type: ignore[arg-type]
        rows.append(VerdictRow(row.problem_id, row.index, row.text_hash, verdict, 1))
    new.append(rows)
    new.publish(len(rows), 0.0)


def pass_at(card: Scorecard, k: int) -> tuple[float | None, float | None, float | None]:
    estimate = next(item for item in card.estimates if (item.name, item.k) == ("pass@k", k))
    return estimate.value, estimate.at_least, estimate.at_most


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline.evaluate("fake", TASK, options(tmp_path_factory.mktemp("runs")))[0]


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def test_a_verifier_that_accepts_more_gives_the_rate_of_the_whole_run(tmp_path: Path, run: Path) -> None:
    before, _, _ = pass_at(pipeline.score(run), 1)
    assert before is not None
    assert stopped_on(open_run(run)) == current_grading(open_run(run)).folder  # type: ignore[union-attr]
    turned(run, "lenient", {"wrong": ("correct", 0.1), "no_answer": ("correct", 0.1)})
    card = pipeline.score(run)
    value, _, _ = pass_at(card, 1)
    assert value == pytest.approx(before + 0.1 * (1 - before), abs=0.02)
    assert card.run.restopped is not None
    assert card.run.restopped.sooner > 20
    assert card.run.restopped.longer == 0
    assert pass_at(card, 64)[0] is not None  # whoever gets more right verdicts has stopped late enough


def test_a_stricter_verifier_gives_bounds_above_what_was_always_drawn(
    run: Path,
) -> None:
    before, _, _ = pass_at(pipeline.score(run), 1)
    turned(run, "strict", {"correct": ("wrong", 0.5)})
    shown = CliRunner().invoke(app, ["score", str(run)])
    assert shown.exit_code == 0
    assert "warning: the stopping rule looked at other verdicts" in shown.output
    card = pipeline.score(run)
    assert before is not None
    assert pass_at(card, 1)[0] == pytest.approx(before / 2, abs=0.03)
    value, least, most = pass_at(card, 64)
    assert value is None
    assert least is not None
    assert most is not None
    assert least < most


def test_errors_of_the_new_verdicts_are_bounds_on_top(run: Path) -> None:
    before = pass_at(pipeline.score(run), 1)[0]
    turned(run, "failing", {"correct": ("error", 0.3), "wrong": ("error", 0.02)})
    value, least, most = pass_at(pipeline.score(run), 1)
    assert value == least
    assert least is not None
    assert most is not None
    assert before is not None
    assert least < before < most


def test_lost_verdicts_leave_the_rollouts_that_the_rule_always_draws(run: Path) -> None:
    before = pass_at(pipeline.score(run), 1)[0]
    turned(run, "strict", {"correct": ("wrong", 0.5)})
    folder = stopped_on(open_run(run))
    shutil.rmtree(run / "verdicts" / str(folder))
    card = pipeline.score(run)
    assert card.run.restopped is not None
    assert card.run.restopped.used == "first rollouts"
    assert {entry.n for entry in card.problems} == {4}
    assert before is not None
    assert pass_at(card, 1)[0] == pytest.approx(before / 2, abs=0.05)
    assert pass_at(card, 4)[0] is not None
    (run / "stopping.json").write_text("[")
    assert stopped_on(open_run(run)) is None


def test_topping_up_after_going_back_to_the_task_s_verifier_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    path, _ = pipeline.evaluate("fake", TASK, options(tmp_path, limit=30))
    turned(path, "strict", {"correct": ("wrong", 0.5)})
    pipeline.score(path)
    _, card = pipeline.evaluate("fake", TASK, options(tmp_path, limit=30, n=128))
    straight = pipeline.evaluate("fake", TASK, options(tmp_path / "other", limit=30, n=128))[1]
    assert card.problems == straight.problems
    assert card.run.restopped is None
