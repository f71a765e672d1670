"""Trackers: what they get, read back from their stores where they are installed, and what happens where they fail."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import rlvr_bench
from rlvr_bench import GradeOptions, SampleOptions
from rlvr_bench.errors import BadArgument
from rlvr_bench.following.trackers import TRACKERS, Trackers, metrics_of
from rlvr_bench.scorecard import Scorecard

TASK = "double_countdown"


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Scorecard:
    options = SampleOptions(n=4, limit=10, out=tmp_path_factory.mktemp("runs"))
    return rlvr_bench.evaluate("fake:0.4", TASK, options, GradeOptions(workers=1))[1]


def test_metrics_have_intervals_and_plain_names(card: Scorecard) -> None:
    metrics = metrics_of(TASK, card)
    reach = card.pass_at(4)
    assert [metrics[f"{TASK}/pass@4{part}"] for part in ("", "/low", "/high")] == [reach.value, reach.low, reach.high]
    assert f"{TASK}/truncation_rate" in metrics
    assert f"{TASK}/token_entropy" not in metrics  # not measured by the fake model
    assert all(type(value) is float for value in metrics.values())


class Recording:
    def __init__(self, project: str | None, run: str, folder: Path) -> None:
        self.project, self.run = project, run
        self.sent: list[tuple[int, float]] = []
        self.is_closed = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step == 13:
            raise RuntimeError("the server\nsaid no")
        self.sent.append((step, metrics[f"{TASK}/pass@4"]))

    def close(self) -> None:
        self.is_closed = True
        raise OSError("gone")


def test_each_checkpoint_is_sent_once_and_a_failure_is_a_line(
    card: Scorecard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Recording] = []

    def make(project: str | None, run: str, folder: Path) -> Recording:
        made.append(Recording(project, run, folder))
        return made[-1]

    monkeypatch.setitem(TRACKERS, "wandb", make)
    for steps in ((10, 13, 20), (10, 20, 30)):  # the second follower goes on after the first
        opened = Trackers(["wandb:mine"], "grpo", tmp_path)
        for step in steps:
            opened.log(TASK, step, card)
        opened.close()
    value = card.pass_at(4).value
    assert [tracker.sent for tracker in made] == [[(10, value), (20, value)], [(30, value)]]
    assert (made[0].project, made[0].run, made[0].is_closed) == ("mine", "grpo", True)
    assert [record.getMessage() for record in caplog.records] == [
        f"wandb did not take step 13 of {TASK}: RuntimeError: the server",
        *["wandb did not close: OSError: gone"] * 2,
    ]


def test_a_tracker_that_cannot_be_used_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadArgument, match="'comet': must be one of mlflow, tensorboard"):
        Trackers(["comet"], "grpo", tmp_path)
    for name in TRACKERS:
        monkeypatch.setitem(sys.modules, "tensorboard.summary" if name == "tensorboard" else name, None)
        with pytest.raises(BadArgument, match=f"'{name}': is not installed: pip install {name}"):
            Trackers([name], "grpo", tmp_path)


def test_tensorboard_has_the_values(card: Scorecard, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (160 MB)")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    opened = Trackers([f"tensorboard:{tmp_path / 'logs'}"], "grpo", tmp_path)
    opened.log(TASK, 20, card)
    opened.close()
    (file,) = (tmp_path / "logs" / "grpo").iterdir()
    events = [(event.step, value) for event in EventFileLoader(str(file)).Load() for value in event.summary.value]
    got = {value.tag: value.tensor.float_val[0] for step, value in events if step == 20}
    assert got[f"{TASK}/pass@4"] == pytest.approx(card.pass_at(4).value)
    assert got[f"{TASK}/pass@4/low"] == pytest.approx(card.pass_at(4).low)


def test_mlflow_has_the_values_and_goes_on(card: Scorecard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (120 MB as mlflow-skinny)")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs the whole of mlflow
    for step in (10, 20):
        opened = Trackers(["mlflow:mine"], "grpo", tmp_path)
        opened.log(TASK, step, card)
        opened.close()
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    history = client.get_metric_history(run.info.run_id, f"{TASK}/pass_at_4")
    assert [(entry.step, entry.value) for entry in history] == [
        (10, card.pass_at(4).value),
        (20, card.pass_at(4).value),
    ]


def test_wandb_has_the_values_offline(card: Scorecard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed (100 MB)")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    opened = Trackers(["wandb:mine"], "grpo", tmp_path)
    opened.log(TASK, 20, card)
    run = opened._open["wandb"]._run  # type: ignore[attr-defined]
    assert run.summary[f"{TASK}/pass@4"] == pytest.approx(card.pass_at(4).value)
    assert run.summary["checkpoint_step"] == 20
    opened.close()
    assert [*tmp_path.glob("wandb/wandb/offline-run-*/*.wandb")]
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    with pytest.raises(BadArgument, match="no login"):
        Trackers(["wandb"], "grpo", tmp_path)


def test_trackio_has_the_values_and_goes_on(card: Scorecard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio", reason="trackio is not installed (with gradio)")
    from trackio.sqlite_storage import SQLiteStorage

    for step in (10, 20):
        opened = Trackers(["trackio:mine"], "grpo", tmp_path)
        opened.log(TASK, step, card)
        opened.close()
    logs = SQLiteStorage.get_logs("mine", "grpo")
    assert [(entry["step"], entry[f"{TASK}/pass@4"]) for entry in logs] == [
        (s, card.pass_at(4).value) for s in (10, 20)
    ]
