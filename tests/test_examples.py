"""The examples run as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def run(*command: str) -> str:
    shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "COLUMNS": "120"})
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    cli = (sys.executable, "-m", "rlvr_bench")
    assert "6 problems, 2 cases, all right" in run(*cli, "tasks", "validate", "examples/my_task.py")
    task = ("--task", "examples/my_task.py", "--out", str(tmp_path))
    assert "pass@64" in run(*cli, "evaluate", "--model", "fake:0.3", *task, "-n", "64")


def test_evaluating_from_python(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the torch extra")
    shown = run(sys.executable, str(EXAMPLES / "evaluate_in_python.py"), "fake:0.5", str(tmp_path))
    assert "pass@16: " in shown
    assert "scorecard.json" in shown


def test_a_fine_tuning_set(tmp_path: Path) -> None:
    assert "noise.jsonl: " in run(sys.executable, str(EXAMPLES / "fine_tuning_set.py"), "fake:0.3", str(tmp_path))


def test_a_sampler_of_ones_own(tmp_path: Path) -> None:
    shown = run(sys.executable, str(EXAMPLES / "own_sampler.py"), "examples/my_task.py", str(tmp_path))
    assert shown.startswith(f"6 problems, {tmp_path}/my-model/")


@pytest.mark.timeout(600)
def test_training_with_trl(tmp_path: Path) -> None:
    require("trl", "test")
    shown = run(sys.executable, str(EXAMPLES / "train_with_trl.py"), str(tmp_path), "2", "2", "8", "5")
    assert re.search(r"zoo:base: pass@1 \S+%, pass@8 \S+%\nstep 2: pass@1 \S+%, pass@8 \S+%\n", shown)
    assert "no alarm: no drop of pass@8 was shown" in shown  # after two steps
    assert {run.name for run in (tmp_path / "runs").glob("grpo@*")} == {"grpo@0", "grpo@2"}


def test_every_example_is_run_here() -> None:
    assert {file.name for file in EXAMPLES.glob("*.py")} == {
        "my_task.py",
        "evaluate_in_python.py",
        "fine_tuning_set.py",
        "own_sampler.py",
        "train_with_trl.py",
    }
