"""The verb ``check`` and the GitHub Action: exit statuses, files, settings in pyproject.toml, new baselines."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from rlvr_bench.cli.check import register
from rlvr_bench.errors import BadArgument, DataError, RlvrBenchError, RunError
from tests.comparison.made import card

ROOT = Path(__file__).parent.parent.parent
RATES = np.random.default_rng(7).beta(0.4, 0.8, 60)
RULE = ("--max-drop", "pass@1=0.05")


def write(file: Path, model: str, factor: float, n: int = 64, seed: int = 0, **changed: Any) -> Path:
    counts = np.random.default_rng(seed).binomial(n, RATES * factor).tolist()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.encode(card(model, counts, n, seed=seed, **changed)[1]))
    return file


@pytest.fixture
def cards(tmp_path: Path) -> dict[str, str]:
    """A baseline, and runs that are as good, much worse, and too short to decide."""
    made = {"base": (1.0, 64), "same": (1.0, 1024), "worse": (0.5, 64), "short": (0.9, 2)}
    return {
        name: str(write(tmp_path / "runs" / name / "scorecard.json", name, factor, n, seed).parent)
        for seed, (name, (factor, n)) in enumerate(made.items())
    }


def run(*args: str) -> tuple[int, str]:
    """Exit status and output; errors of ours are raised, as ``main`` prints them."""
    app = typer.Typer()
    register(app)
    shown = CliRunner().invoke(app, list(args))
    if isinstance(shown.exception, RlvrBenchError):
        raise shown.exception
    return shown.exit_code, shown.output


@pytest.mark.parametrize(
    ("name", "strict", "status", "says"),
    [
        ("same", False, 0, "check: ok"),
        ("worse", False, 1, "a regression was shown"),
        ("short", False, 0, "no regression was shown, nor ruled out: passes with this warning"),
        ("short", True, 1, "counts as failed (strict)"),
    ],
)
def test_exit_statuses(cards: dict[str, str], name: str, strict: bool, status: int, says: str) -> None:
    flags = ("--strict",) if strict else ()
    result = run(cards[name], "--against", cards["base"], *RULE, *flags)
    assert result[0] == status
    assert says in result[1]


def test_in_its_own_process_it_exits_with_1_and_2_and_loads_nothing_heavy(cards: dict[str, str]) -> None:
    code = (
        "import sys; from rlvr_bench.cli import main\n"
        "try: main()\n"
        "finally: print([name for name in ('torch', 'pyarrow', 'plotly', 'pandas') if name in sys.modules])"
    )

    def started(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, "check", cards["worse"], *args]
        return subprocess.run(command, capture_output=True, text=True, cwd=cards["base"])

    worse = started("--against", cards["base"], *RULE)
    assert (worse.returncode, worse.stdout.splitlines()[-1]) == (1, "[]")
    bad = started(*RULE)
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1
    assert "--against" in bad.stderr


def test_files_and_standard_output(cards: dict[str, str], tmp_path: Path) -> None:
    xml, json_file = tmp_path / "out" / "junit.xml", tmp_path / "found.json"
    args = (cards["worse"], "--against", cards["base"], *RULE)
    assert run(*args, "--junit", str(xml), "--json", str(json_file))[0] == 1
    assert ElementTree.parse(xml).getroot().find(".//failure") is not None
    assert json.loads(json_file.read_text())["outcome"] == "regression"
    assert json.loads(run(*args, "--json", "-")[1]) == json.loads(json_file.read_text())


def test_github_gets_a_summary_and_annotations(
    cards: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = (cards["worse"], "--against", cards["base"], *RULE, "--github")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    with pytest.raises(BadArgument, match="GITHUB_STEP_SUMMARY"):
        run(*args)
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    assert "::error title=REGRESSION%3A worse on t::pass@1 went from" in run(*args)[1]
    assert file.read_text().startswith("before\n### rlvr-bench check: REGRESSION")


def test_rules_can_live_in_pyproject(cards: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = '[tool.rlvr-bench.check]\nagainst = ["runs/base"]\nstrict = true\nmax-drop = { "pass@1" = 0.05 }\n'
    (tmp_path / "pyproject.toml").write_text(table)
    assert run(cards["worse"])[0] == 1
    assert run(cards["short"])[0] == 1
    assert run(cards["worse"], "--max-drop", "pass@1=0.9")[0] == 0
    (tmp_path / "pyproject.toml").write_text(table + 'max-dorp = { "pass@4" = 0.1 }\n')
    with pytest.raises(DataError, match=r"pyproject.toml: \[tool.rlvr-bench.check\] .*max-dorp"):
        run(cards["worse"])
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    with pytest.raises(BadArgument, match="--against"):
        run(cards["worse"])


def test_update_copies_the_scorecard_over_its_baseline(cards: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    shown = run(cards["base"], "--against", str(folder), "--update")
    assert (shown[0], "new" in shown[1]) == (0, True)
    (file,) = folder.iterdir()
    assert file.name == "base--t.json"
    assert run(cards["worse"], "--against", str(folder), *RULE)[0] == 1
    assert "in place of base" in run(cards["worse"], "--against", str(folder), "--update")[1]
    assert [path.name for path in folder.iterdir()] == ["base--t.json"]
    assert file.read_bytes() == (Path(cards["worse"]) / "scorecard.json").read_bytes()
    assert run(cards["worse"], "--against", str(folder), *RULE)[0] == 0


def test_update_refuses_two_runs_for_one_baseline_and_a_failing_verifier(cards: dict[str, str], tmp_path: Path) -> None:
    before = Path(cards["base"], "scorecard.json").read_bytes()
    with pytest.raises(RunError, match="two of these runs would become this baseline"):
        run(cards["worse"], cards["same"], "--against", cards["base"], "--update")
    failing = tmp_path / "failing.json"
    content = json.loads(before)
    failing.write_text(json.dumps({**content, "quality": {"error_rate": 0.5}}))
    with pytest.raises(RunError, match="verifier failed on 50.00%"):
        run(str(failing), "--against", cards["base"], "--update")
    assert Path(cards["base"], "scorecard.json").read_bytes() == before


def action() -> dict[str, Any]:
    parsed: dict[str, Any] = importlib.import_module("yaml").safe_load((ROOT / "action.yml").read_text())
    return parsed


def test_the_action_is_composite_and_puts_no_input_into_a_script() -> None:
    content = action()
    assert content["runs"]["using"] == "composite"
    for step in content["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]
    used = {value for step in content["runs"]["steps"] for value in step.get("env", {}).values()}
    assert used == {f"${{{{ inputs.{name} }}}}" for name in content["inputs"]}


def test_the_script_of_the_action_checks(cards: dict[str, str], tmp_path: Path) -> None:
    script = action()["runs"]["steps"][-1]["run"]
    inputs = {"RUNS": f"{cards['same']}\n{cards['worse']}\n", "AGAINST": cards["base"], "STRICT": "false"}
    inputs |= {"MAX_DROP": "pass@1=0.05\npass@4=0.05", "MAX_RISE": "", "JUNIT": str(tmp_path / "j u.xml"), "JSON": ""}
    paths = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "s.md"),
    }
    shown = subprocess.run(
        ["bash", "-e", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **inputs, **paths},
    )
    assert shown.returncode == 1, shown.stderr
    assert shown.stdout.count("::error") == 2
    assert len(list(ElementTree.parse(tmp_path / "j u.xml").getroot().iter("testcase"))) == 4
