"""Experiment trackers: every checkpoint's metrics with their intervals, by its training step, through each tracker's client.

A tracker is named ``tensorboard``, ``wandb``, ``trackio`` or ``mlflow``, with a project after a colon. What fails in a
tracker is a line in the log; following goes on.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

from rlvr_bench.errors import BadArgument, RlvrBenchError, in_one_line
from rlvr_bench.metrics import find_metric
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.store.paths import make_folder

__all__ = ["TRACKERS", "Tracker", "Trackers", "metrics_of"]

_PROJECT = "rlvr-bench"

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """One run of an experiment tracker."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    """Event files in the folder ``project``, or in ``folder``."""

    def __init__(self, project: str | None, run: str, folder: Path) -> None:
        summary = _client("tensorboard.summary", "tensorboard")
        self._writer = summary.Writer(str(Path(project or folder) / run))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A run of Weights & Biases, resumed by its name. The step is a metric, so checkpoints may come in any order."""

    def __init__(self, project: str | None, run: str, folder: Path) -> None:
        wandb = _client("wandb", "wandb")
        offline = os.environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun")
        if not offline and not wandb.login(prompt=False):
            raise BadArgument("--track", "wandb", "no login: run `wandb login`, or set WANDB_MODE=offline")
        make_folder(folder)
        self._run = wandb.init(
            project=project or _PROJECT, name=run, id=run.replace("/", "-"), resume="allow", dir=str(folder)
        )
        self._run.define_metric("checkpoint_step")
        self._run.define_metric("*", step_metric="checkpoint_step")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({"checkpoint_step": step, **metrics})

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """A local run of trackio, resumed by its name."""

    def __init__(self, project: str | None, run: str, folder: Path) -> None:
        trackio = _client("trackio", "trackio")
        self._run = trackio.init(project=project or _PROJECT, name=run, resume="allow", embed=False)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    """A run of MLflow at ``MLFLOW_TRACKING_URI``, resumed by its name.

    MLflow allows no @ in names, and its file store makes folders of them: ``TASK/pass_at_16`` and ``TASK/pass_at_16_low``.
    """

    def __init__(self, project: str | None, run: str, folder: Path) -> None:
        self._client = _client("mlflow", "mlflow").MlflowClient()
        name = project or _PROJECT
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        earlier = self._client.search_runs([experiment], f"attributes.run_name = '{run}'", max_results=1)
        self._run = earlier[0] if earlier else self._client.create_run(experiment, run_name=run)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            task, _, metric = name.replace("@", "_at_").partition("/")
            self._client.log_metric(self._run.info.run_id, f"{task}/{metric.replace('/', '_')}", value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run.info.run_id)


TRACKERS: dict[str, Callable[[str | None, str, Path], Tracker]] = {
    "mlflow": _Mlflow,
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
    "wandb": _Wandb,
}


class Trackers:
    """The trackers of one ``follow``. A checkpoint is sent once to each, also after a restart (marks in ``folder``).

    ``names``: as ``tensorboard`` or ``wandb:PROJECT``. ``run``: the name of the run in each. Raises BadArgument for an unknown
    tracker, one that is not installed, or one without login.
    """

    def __init__(self, names: Sequence[str], run: str, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, Tracker] = {}
        for text in names:
            name, _, project = text.partition(":")
            if name not in TRACKERS:
                raise BadArgument("--track", text, f"must be one of {', '.join(TRACKERS)}, with :PROJECT or without")
            try:
                self._open[name] = TRACKERS[name](project or None, run, folder / name)
            except RlvrBenchError:
                raise
            except Exception as error:
                raise BadArgument("--track", text, f"does not open: {_said(error)}") from error

    def log(self, task: str, step: int, card: Scorecard) -> None:
        """Send a checkpoint's metrics; never raises."""
        for name, tracker in self._open.items():
            mark = self._folder / "sent" / f"{name}-{task.replace('/', '-')}-{step}"
            if mark.exists():
                continue
            try:
                tracker.log(step, metrics_of(task, card))
                make_folder(mark.parent)
                mark.touch()
            except Exception as error:  # noqa: BLE001  a tracker's failure must not stop the evaluation
                logger.warning("%s did not take step %d of %s: %s", name, step, task, _said(error))

    def close(self) -> None:
        """End the runs; never raises."""
        for name, tracker in self._open.items():
            try:
                tracker.close()
            except Exception as error:  # noqa: BLE001
                logger.warning("%s did not close: %s", name, _said(error))
        self._open = {}


def metrics_of(task: str, card: Scorecard) -> dict[str, float]:
    """The metrics that ``series`` follows and the rates of quality: ``TASK/pass@16``, ``TASK/pass@16/low`` and so on."""
    metrics: dict[str, float] = {}
    for estimate in card.estimates:
        row = find_metric(estimate.name)
        if estimate.group is not None or row is None or not (row.followed or row.rate):
            continue
        name = f"{task}/{row.base}" + (f"@{estimate.k}" if estimate.k is not None else "")
        for part in ("value", "low", "high", "at_least", "at_most"):
            value = getattr(estimate, part)
            if value is not None:
                metrics[name if part == "value" else f"{name}/{part}"] = float(value)
    return metrics


def _client(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadArgument("--track", package, f"is not installed: pip install {package}") from error


def _said(error: BaseException) -> str:
    text = ""
    with contextlib.suppress(Exception):
        text = str(error)
    return in_one_line(f"{type(error).__name__}: {text}")
