"""The verb ``plan``: what it prints, its JSON, a run as the source, and one line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import rlvr_bench
from rlvr_bench.cli.main import main
from rlvr_bench.planning import PlanOptions, plan
from rlvr_bench.scorecard import encode_scorecard
from tests.comparison.made import card


@pytest.fixture
def scorecard(tmp_path: Path) -> Path:
    c = np.random.default_rng(0).binomial(64, np.random.default_rng(1).beta(0.4, 1, 120))
    file = tmp_path / "scorecard.json"
    file.write_bytes(encode_scorecard(card("m", c.tolist(), 64, columns={"tokens_mean": [100.0] * 120})[1]))
    return file


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *words])
    assert stopped.value.code in (0, None)
    return capsys.readouterr().out


def test_the_table_has_power_needs_and_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(
        capsys, "--rates", "spread", "--k", "16", "--tokens", "1000", "--problems", "100,1000", "--rollouts", "16,64"
    )
    assert "n = 16" in text
    assert "needed for 80%" in text
    assert "(3.2M)" in text  # 2 runs of 100 problems with 16 rollouts of 1,000 tokens
    assert "same problems, paired" in text


def test_json_is_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--rates", "0.3,1", "--difference", "5", "--problems", "50,500", "--rollouts", "16,256")
    decoded = json.loads(shown(capsys, *words, "--json"))
    power = {(cell["problems"], cell["rollouts"]): cell["power"] for cell in decoded["cells"]}
    assert power[50, 16] < power[500, 16]
    assert power[50, 16] < power[50, 256]
    assert decoded["second"] - decoded["first"] == pytest.approx(0.05)
    assert decoded["tokens_per_response"] is None
    assert decoded["needs"][0]["problems"] > decoded["needs"][1]["problems"]


def test_a_run_gives_its_solve_rates_and_its_tokens(scorecard: Path) -> None:
    result = rlvr_bench.plan(scorecard, PlanOptions(k=4, difference=4))
    assert result.tokens_per_response == pytest.approx(100)
    assert result.first == pytest.approx(np.mean(1 - (1 - np.random.default_rng(1).beta(0.4, 1, 120)) ** 4), abs=0.06)
    assert "fitted to m" in result.assumed
    assert result.cells[0].tokens == 2 * result.cells[0].problems * result.cells[0].rollouts * 100


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "exactly one must be given"),
        (("--rates", "medium"), "easy, hard, spread"),
        (("--rates", "0,1"), "two numbers above 0"),
        (("--rates", "nan,1"), "two numbers above 0"),
        (("--rates", "easy", "--difference", "30"), "difference is 30"),
        (("--rates", "spread", "--difference", "0"), "--difference is 0"),
        (("--rates", "spread", "--power", "1"), "--power is 1"),
        (("--rates", "spread", "--k", "64", "--rollouts", "16"), "at least k"),
        (("--rates", "spread", "--problems", "ten"), "whole numbers"),
        (("--rates", "spread", "--tokens", "-5"), "--tokens"),
        (("--rates", "spread", "--correlation", "2"), "--correlation"),
        (("nowhere", "--k", "1"), "no scorecard"),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *words])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert line in said
    assert said.count("\n") == 1


def test_a_run_and_rates_contradict_each_other(scorecard: Path) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        plan(scorecard, PlanOptions(rates="easy"))
